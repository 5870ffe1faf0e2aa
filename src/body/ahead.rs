//! A body of which some has come already.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{Body, Error};

/// The frames that have come, and the rest behind them.
#[derive(Debug)]
pub struct Ahead {
    frames: std::vec::IntoIter<Result<Frame<Bytes>, Error>>,
    rest: Body,
}

impl Ahead {
    /// `frames` were taken from `rest`.
    pub fn new(frames: Vec<Result<Frame<Bytes>, Error>>, rest: Body) -> Self {
        Self { frames: frames.into_iter(), rest }
    }
}

impl http_body::Body for Ahead {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        match this.frames.next() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.len() == 0 && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let come: usize =
            self.frames.as_slice().iter().flatten().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(come as u64));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(come as u64));
        }
        hint
    }
}

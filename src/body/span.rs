//! A range of a body that is still being filled.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{Error, Reader};
use crate::field::status::ProxyError;

/// The bytes of `range`, as they come. Breaks off where the body does.
#[derive(Debug)]
pub struct Span {
    reader: Reader,
    skip: u64,
    left: u64,
}

impl Span {
    /// A part of what `reader` reads from its beginning.
    pub fn new(reader: Reader, range: Range<u64>) -> Self {
        Self { reader, skip: range.start, left: range.end.saturating_sub(range.start) }
    }
}

impl http_body::Body for Span {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        while this.left > 0 {
            let Some(frame) = ready!(Pin::new(&mut this.reader).poll_frame(cx)) else {
                let what = "the body ended before the range did";
                return Poll::Ready(Some(Err(Error::new(ProxyError::HttpResponseIncomplete, what))));
            };
            let Ok(mut data) = frame?.into_data() else { continue };
            let skipped = this.skip.min(data.len() as u64);
            this.skip -= skipped;
            drop(data.split_to(skipped as usize));
            if data.is_empty() {
                continue;
            }
            data.truncate(usize::try_from(this.left).unwrap_or(usize::MAX));
            this.left -= data.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

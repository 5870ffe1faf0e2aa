//! A body that tells, once, how much of it was sent.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame, SizeHint};

use super::{Body, Error, Stored};

/// Of what is stored, as much is handed on at once. Bytes. What is written in parts of 128 KiB costs 1.4 times the time
/// of this: each part ends in a segment that is not full.
const AT_ONCE: u64 = 1 << 20;
/// But the end by itself: an exchange ends when the last part is handed on, and that must not lie far behind. hyper asks
/// for it only when little of what was before is still to be written.
pub(crate) const LAST: u64 = 64 << 10;

/// How a body ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// Bytes of content that were handed to the connection.
    pub bytes: u64,
    /// Whether that was all of it. False when the body failed, or whoever sent it gave up.
    pub complete: bool,
    /// Why the body broke off, if it failed.
    pub error: Option<Error>,
}

/// Counts a body's bytes and tells `done` once: at the body's end, or when it is dropped before.
///
/// That a body broke off is told one look later than it is known. Until then whoever sends it has nothing more to send,
/// and flushes: hyper ends the connection as soon as it hears of an error, and throws away what it has not written,
/// which may be the head.
pub struct Metered<D: Done> {
    body: Body,
    ended: Ended,
    /// Why it broke off, where that is still to be told.
    broken: Option<Error>,
    done: Option<D>,
}

/// What is told of a body's end.
pub trait Done {
    /// Called once.
    fn done(self, ended: Ended);
}

impl<F: FnOnce(Ended)> Done for F {
    fn done(self, ended: Ended) {
        self(ended);
    }
}

// `D` is never pinned.
impl<D: Done> Unpin for Metered<D> {}

impl<D: Done> Metered<D> {
    /// `body`, counted. A body without bytes ends when it is dropped, which is when its head was handed on.
    pub fn new(body: impl Into<Body>, done: D) -> Self {
        let ended = Ended::default();
        Self { body: body.into(), ended, broken: None, done: Some(done) }
    }

    /// The body that is counted.
    pub fn get_ref(&self) -> &Body {
        &self.body
    }

    fn end(&mut self, complete: bool) {
        if let Some(done) = self.done.take() {
            self.ended.complete = complete;
            done.done(std::mem::take(&mut self.ended));
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, Error>>> {
        if let Body::Stored(stored) = &mut self.body {
            let before_last = stored.left().saturating_sub(LAST);
            let piece = stored.cut(if before_last > 0 { before_last.min(AT_ONCE) } else { LAST });
            let some = piece.left() > 0;
            return Poll::Ready(some.then(|| Ok(Frame::data(Piece::Stored(Box::new(piece))))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(Piece::Bytes))))
    }
}

impl<D: Done> http_body::Body for Metered<D> {
    type Data = Piece;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, Error>>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            this.ended.error = Some(error.clone());
            this.end(false);
            return Poll::Ready(Some(Err(error)));
        }
        let polled = this.poll_piece(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => this.end(true),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(piece) = frame.data_ref() {
                    this.ended.bytes += piece.remaining() as u64;
                }
                // hyper does not ask again after the last frame.
                if this.body.is_end_stream() {
                    this.end(true);
                }
            }
            Poll::Ready(Some(Err(error))) => {
                this.broken = Some(error.clone());
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<D: Done> Drop for Metered<D> {
    fn drop(&mut self) {
        // With a Content-Length, hyper stops at the last byte, whether or not the body knows that it is.
        let whole = self.body.is_end_stream() || self.body.exact_length() == Some(0);
        self.ended.error = self.broken.take();
        self.end(whole && self.ended.error.is_none());
    }
}

impl<D: Done> std::fmt::Debug for Metered<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metered")
            .field("body", &self.body)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// What is handed to the connection at once.
#[derive(Clone, Debug)]
pub enum Piece {
    /// What came from somewhere.
    Bytes(Bytes),
    /// Pieces of what is stored.
    Stored(Box<Stored>),
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.remaining(),
            Self::Stored(stored) => stored.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.chunk(),
            Self::Stored(stored) => stored.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::Stored(stored) => stored.advance(count),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.chunks_vectored(slices),
            Self::Stored(stored) => stored.chunks_vectored(slices),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::status::ProxyError;
    use std::sync::mpsc;

    // Reads `frames` frames of `body`, then drops it.
    #[track_caller]
    fn check(body: Body, frames: usize, bytes: u64, complete: bool, failed: bool) {
        let (sender, ended) = mpsc::channel();
        let mut metered = Metered::new(body, move |end| sender.send(end).unwrap());
        let waker = std::task::Waker::noop();
        for _ in 0..frames {
            let _frame = Pin::new(&mut metered).poll_frame(&mut Context::from_waker(waker));
        }
        drop(metered);
        let end: Ended = ended.try_recv().expect("called once");
        assert_eq!((end.bytes, end.complete, end.error.is_some()), (bytes, complete, failed));
        assert!(ended.try_recv().is_err(), "called more than once");
    }

    #[test]
    fn a_body_is_complete_when_its_last_byte_was_handed_on() {
        let stored =
            || super::super::StoredBody::new(vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de")]);
        check(Body::Empty, 0, 0, true, false);
        check(Body::full("abc"), 0, 0, false, false);
        check(Body::full("abc"), 1, 3, true, false);
        check(stored().into(), 0, 0, false, false);
        check(stored().into(), 1, 5, true, false);
        check(stored().into(), 2, 5, true, false);
    }

    #[test]
    fn what_is_stored_is_handed_on_in_few_large_parts_and_a_small_last_one() {
        let pieces = vec![Bytes::from(vec![7; 64 << 10]); 40];
        let mut metered = Metered::new(super::super::StoredBody::new(pieces), |_| {});
        let mut parts = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) =
            Pin::new(&mut metered).poll_frame(&mut Context::from_waker(std::task::Waker::noop()))
        {
            let part = frame.into_data().unwrap();
            let mut slices = [IoSlice::new(&[]); 64];
            assert_eq!(part.chunks_vectored(&mut slices), part.remaining() / (64 << 10));
            parts.push(part.remaining());
        }
        assert_eq!(parts, [1 << 20, 1 << 20, 448 << 10, 64 << 10]);
    }

    #[test]
    fn a_body_that_fails_is_not_complete() {
        let frames = || Body::boxed(Broken(Some(Bytes::from_static(b"abc"))));
        check(frames(), 3, 3, false, true);
        check(frames(), 2, 3, false, true);
        check(frames(), 1, 3, false, false);
    }

    #[test]
    fn what_came_before_a_break_can_be_sent_before_it_is_told() {
        let mut metered = Metered::new(Body::boxed(Broken(Some(Bytes::from_static(b"abc")))), |_| {});
        let mut look =
            || Pin::new(&mut metered).poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
        assert!(matches!(look(), Poll::Ready(Some(Ok(_)))));
        assert!(look().is_pending());
        assert!(matches!(look(), Poll::Ready(Some(Err(_)))));
    }

    // One frame, then an error.
    struct Broken(Option<Bytes>);

    impl http_body::Body for Broken {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            let error = || Error::new(ProxyError::HttpResponseIncomplete, "cut");
            Poll::Ready(Some(self.0.take().map(Frame::data).ok_or_else(error)))
        }
    }
}

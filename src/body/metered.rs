//! A body that tells, once, how much of it was sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::{Body, Error};

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
}

impl<D: Done> http_body::Body for Metered<D> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            this.ended.error = Some(error.clone());
            this.end(false);
            return Poll::Ready(Some(Err(error)));
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => this.end(true),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    this.ended.bytes += bytes.len() as u64;
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
        check(stored().into(), 1, 3, false, false);
        check(stored().into(), 2, 5, true, false);
        check(stored().into(), 3, 5, true, false);
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

//! The body of a response on its way in: bounded in how long it may stall, and with its last byte the
//! connection goes back to the pool.
//!
//! A body that is dropped before its end closes its connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::error::reading_body;
use super::pool::Lease;
use super::stats::Bound;
use super::upload::Progress;
use crate::body;
use crate::body::Buffered;
use crate::body::stall::Stall;
use crate::field::status::ProxyError;
use crate::field::treatment;

/// What becomes of a connection when its response has ended.
pub(super) struct After {
    pub(super) lease: Lease,
    /// It must not be used again.
    pub(super) close: bool,
    /// The origin's limit for idle connections.
    pub(super) keep_alive: Option<Duration>,
    /// The request's body, where there is one.
    pub(super) upload: Option<Arc<Progress>>,
    /// The request's body was kept in for good.
    pub(super) withheld: bool,
    /// How long a request that outlasts its response may still take.
    pub(super) grace: Duration,
}

impl After {
    /// The response has ended.
    pub(super) fn end(self) {
        let sent = self.lease.has_sent(self.upload.as_deref());
        match (sent, self.withheld) {
            (true, _) if !self.close => self.lease.give_back(self.keep_alive),
            (true, _) => drop(self.lease),
            (false, true) => self.lease.let_go(Duration::ZERO),
            (false, false) => self.lease.let_go(self.grace),
        }
    }
}

/// What is done with trailers.
pub(super) struct Trailers {
    /// The most bytes that they may take.
    pub(super) max: usize,
    /// Those that the head's Connection named.
    pub(super) named: Vec<HeaderName>,
}

/// A response's body.
pub(super) struct Inbound {
    inner: Incoming,
    /// What came along with the head.
    first: Option<Result<Frame<Bytes>, body::Error>>,
    after: Option<After>,
    stall: Stall,
    trailers: Trailers,
    room: Room,
}

/// What pays for the body's bytes.
enum Room {
    /// Hardly anything has come.
    Floor(Buffered),
    /// More comes, and waits for its turn.
    Growing(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// All that may come is paid for.
    Whole,
}

/// A piece from which on more is likely to come than [`Room::Floor`] is for: hyper reads 8 KiB first, and twice as much
/// after each read that was full.
const MUCH: usize = 4 * 1024;

impl Inbound {
    pub(super) fn new(
        inner: Incoming,
        after: After,
        between_bytes: Duration,
        trailers: Trailers,
        buffered: Option<Buffered>,
    ) -> Self {
        let room = buffered.map_or(Room::Whole, Room::Floor);
        Self { inner, first: None, after: Some(after), stall: Stall::new(between_bytes), trailers, room }
    }

    /// Reads what has come along with the head, without waiting for more. Chunks that are none from the first byte on are
    /// found before the head is believed, and then there is no answer.
    pub(super) fn begin(mut self: Pin<&mut Self>) -> Result<(), body::Error> {
        match self.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Err(error))) if error.kind == ProxyError::HttpResponseTransferCoding => {
                Err(error)
            }
            Poll::Ready(first) => {
                self.first = first;
                Ok(())
            }
            Poll::Pending => Ok(()),
        }
    }

    /// A piece of so many bytes has come.
    fn comes(&mut self, bytes: usize) {
        if let Room::Floor(buffered) = &self.room
            && bytes >= MUCH
        {
            self.room = Room::Growing(Box::pin(buffered.clone().grow()));
        }
    }

    fn ended(&mut self) {
        if let Some(after) = self.after.take() {
            after.end();
        }
    }

    fn reached(&self, bound: Bound) {
        if let Some(after) = &self.after {
            after.lease.reached(bound);
        }
    }

    fn failed(&mut self, error: body::Error) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        self.after = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for Inbound {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if let Room::Growing(turn) = &mut self.room {
            std::task::ready!(turn.as_mut().poll(cx));
            self.room = Room::Whole;
        }
        let mut frame = Pin::new(&mut self.inner).poll_frame(cx);
        if frame.is_pending()
            && let Some(after) = &mut self.after
        {
            after.lease.link.driver.poll(cx);
            frame = Pin::new(&mut self.inner).poll_frame(cx);
        }
        match frame {
            Poll::Pending if self.stall.poll_passed(cx).is_pending() => Poll::Pending,
            Poll::Pending => {
                let what = format!("the response's body stalled for {:?}", self.stall.limit());
                let kind = ProxyError::ConnectionReadTimeout;
                self.reached(Bound::BetweenBytesTimeout);
                self.failed(body::Error { kind, what: what.into(), source: None })
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                self.stall.moved();
                self.comes(frame.data_ref().map_or(0, Bytes::len));
                if let Some(trailers) = frame.trailers_mut() {
                    // As with a request's: hyper takes a bare LF in them, and drops what stands behind it.
                    let clean = |after: &After| after.lease.link.traffic.trailers_are_clean();
                    if trailers.is_empty() || !self.after.as_ref().is_some_and(clean) {
                        let what = "the response's chunks are malformed";
                        let kind = ProxyError::HttpResponseTransferCoding;
                        return self.failed(body::Error { kind, what: what.into(), source: None });
                    }
                    let size: usize =
                        trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
                    if size > self.trailers.max {
                        let what = format!(
                            "the response's trailers take {size} bytes, more than {}",
                            self.trailers.max
                        );
                        let kind = ProxyError::HttpResponseHeaderSectionSize;
                        self.reached(Bound::ResponseTrailers);
                        return self.failed(body::Error { kind, what: what.into(), source: None });
                    }
                    treatment::strip_trailers(trailers, &self.trailers.named);
                    self.ended();
                } else if self.inner.is_end_stream() {
                    self.ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.failed(reading_body(error)),
            Poll::Ready(None) => {
                self.ended();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = match &self.first {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            Some(Err(_)) | None => 0,
        };
        let rest = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(first));
        }
        hint
    }
}

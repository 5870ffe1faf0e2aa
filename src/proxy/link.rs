//! What a client's socket, its connection and its exchanges tell each other.
//!
//! ```text
//!  Idle --first byte--> Head --request--> Exchange --response sent--> Idle
//! ```

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::repeat::Offer;
use super::tunnel::Tunnel;
use crate::body::Buffered;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The next request; nothing of it has come.
    Idle = 0,
    /// The rest of a request's head.
    Head = 1,
    /// A response.
    Exchange = 2,
}

/// Shared by the socket, the connection that drives it, and the exchange that runs on it.
#[derive(Debug, Default)]
pub(crate) struct Link {
    phase: AtomicU8,
    /// Counts responses begun, so that the watch sees that something happened between two looks.
    exchanges: AtomicU64,
    /// The last exchange whose response is out as a whole.
    through: AtomicU64,
    /// A write waits for the client to read.
    blocked: AtomicBool,
    /// Counts writes that went through, for the same reason as `exchanges`.
    written: AtomicU64,
    has_interim: AtomicBool,
    /// Whether `interim` is open, told without its lock.
    takes_interim: AtomicBool,
    interim: Mutex<Interim>,
    /// Content of a request that is still on its way, though its response may be through.
    uploading: AtomicBool,
    /// The client waits for a 100 before it sends the content, and nothing has asked for that yet.
    withheld: AtomicBool,
    /// What was read last ends as a head does, or the last chunk: so nothing has come of another request.
    at_end: AtomicBool,
    /// The running request's content ends where its length says, in whatever bytes.
    counted: AtomicBool,
    /// Set by an exchange that leaves bytes of its request unread.
    linger: AtomicBool,
    /// Set by a body that broke off where framing can't tell: the client must see a reset.
    reset: AtomicBool,
    tunnel: Mutex<Option<Box<Tunnel>>>,
    /// Whether trailers have come, and as they must.
    trailers_clean: AtomicBool,
    /// How long the running exchange may last, in milliseconds; 0: as long as it takes.
    time_limit: AtomicU64,
    /// Content has come since the connection was last quiet for a while: where the next request begins is for hyper to tell.
    has_content: AtomicBool,
    /// Whether it is to be told how long the answer to the request lasts that hyper is about to get.
    wants_offer: AtomicBool,
    offer: Mutex<Option<Offer>>,
    /// Whether something is in `unflushed`, told without its lock.
    holds: AtomicBool,
    /// What pays for bytes of a response that wait for the socket.
    unflushed: Mutex<Vec<Buffered>>,
}

#[derive(Debug, Default)]
struct Interim {
    /// The exchange that awaits its final response. What a fetch that was given up still brings is of none, and
    /// must not get into a response or before the next one.
    open: Option<u64>,
    queue: BytesMut,
    waker: Option<Waker>,
}

impl Link {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            // An upload that outlasts its response is neither idle nor the next request's head.
            _ if self.uploading.load(Ordering::Relaxed) => Phase::Exchange,
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Exchange,
        }
    }

    /// A request's head has arrived. `counted`: its content is delimited by a length.
    pub(crate) fn exchange_begins(&self, counted: bool) {
        self.counted.store(counted, Ordering::Relaxed);
        self.withheld.store(false, Ordering::Relaxed);
        self.time_limit.store(0, Ordering::Relaxed);
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        self.phase.store(Phase::Exchange as u8, Ordering::Relaxed);
    }

    /// A response has been handed over whole, or was dropped. Part of the next head may have come with the request,
    /// and waits where only hyper sees it. (Behind content with a length it can't be told: then it is noticed with
    /// its next byte.)
    pub(crate) fn exchange_ends(&self) {
        let begun = !self.at_end.load(Ordering::Relaxed) && !self.counted.load(Ordering::Relaxed);
        let phase = if begun { Phase::Head } else { Phase::Idle };
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// A request is answered that hyper does not see.
    pub(super) fn repeat_begins(&self) {
        self.exchange_begins(false);
        self.at_end.store(true, Ordering::Relaxed);
    }

    /// And its answer is out.
    pub(super) fn repeat_ends(&self) {
        self.exchange_ends();
        self.through.store(self.exchanges(), Ordering::Relaxed);
    }

    /// A request has content.
    pub(crate) fn content_comes(&self) {
        self.has_content.store(true, Ordering::Relaxed);
    }

    /// hyper has left the socket, and nothing unread behind.
    pub(crate) fn parked(&self) {
        self.has_content.store(false, Ordering::Relaxed);
    }

    /// Whether what comes next begins a request, and is the first that hyper has of it. Only where there was no content: of
    /// that it is hyper that knows where it ends.
    pub(super) fn is_at_begin(&self) -> bool {
        self.is_quiet() && !self.has_content.load(Ordering::Relaxed) && !self.lingers()
    }

    /// Sets whether it is to be told how long the answer to the request lasts that hyper is about to get.
    pub(super) fn want_offer(&self, so: bool) {
        if so || self.wants_offer() {
            self.wants_offer.store(so, Ordering::Relaxed);
            drop(self.take_offer());
        }
    }

    pub(crate) fn wants_offer(&self) -> bool {
        self.wants_offer.load(Ordering::Relaxed)
    }

    /// Tells how long the running request's answer lasts, before any of it is written.
    pub(crate) fn offer(&self, offer: Offer) {
        if self.wants_offer() {
            *self.offer.lock() = Some(offer);
        }
    }

    pub(super) fn take_offer(&self) -> Option<Offer> {
        self.offer.lock().take()
    }

    /// The running exchange may last so long.
    pub(crate) fn limit_time(&self, limit: Option<Duration>) {
        let limit = limit.map_or(0, |limit| limit.as_millis() as u64);
        self.time_limit.store(limit, Ordering::Relaxed);
    }

    /// How long the running exchange may last, where that has a limit.
    pub(crate) fn time_limit(&self) -> Option<Duration> {
        let limit = self.time_limit.load(Ordering::Relaxed);
        (limit > 0 && !self.is_between_exchanges()).then_some(Duration::from_millis(limit))
    }

    /// Requests taken so far.
    pub(crate) fn exchanges(&self) -> u64 {
        self.exchanges.load(Ordering::Relaxed)
    }

    /// Whether a write waits, and how many have gone through.
    pub(crate) fn writing(&self) -> (bool, u64) {
        (self.blocked.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }

    /// Whether no exchange is running, though content of the last one may still be on its way.
    pub(super) fn is_between_exchanges(&self) -> bool {
        self.phase.load(Ordering::Relaxed) != Phase::Exchange as u8
    }

    /// Takes interim responses from now on, until the final one is there. Gives the exchange that they are for.
    pub(crate) fn open_interim(&self) -> u64 {
        let exchange = self.exchanges();
        self.interim.lock().open = Some(exchange);
        self.takes_interim.store(true, Ordering::Relaxed);
        exchange
    }

    /// The final response is there.
    pub(crate) fn close_interim(&self) {
        if self.takes_interim.swap(false, Ordering::Relaxed) {
            self.interim.lock().open = None;
        }
    }

    /// Queues the head of an interim response; it goes out as soon as the message before it is through. One that
    /// comes after the final response is dropped.
    pub(crate) fn send_interim(&self, exchange: u64, head: &[u8]) {
        let mut interim = self.interim.lock();
        if interim.open != Some(exchange) {
            return;
        }
        interim.queue.extend_from_slice(head);
        self.has_interim.store(true, Ordering::Release);
        if let Some(waker) = interim.waker.take() {
            waker.wake();
        }
    }

    /// Has `waker` woken when an interim head is queued. Whether one is queued already.
    pub(crate) fn wait_for_interim(&self, waker: &Waker) -> bool {
        let mut interim = self.interim.lock();
        if !interim.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
            interim.waker = Some(waker.clone());
        }
        !interim.queue.is_empty()
    }

    /// Content of a request is on its way, or no longer. It has time limits of its own.
    pub(crate) fn uploads(&self, so: bool) {
        self.uploading.store(so, Ordering::Relaxed);
        // It may have outlasted its response, and then the connection is idle from now on. Who waits looks: here it could be
        // seen too early.
        if !so && let Some(waker) = self.interim.lock().waker.take() {
            waker.wake();
        }
    }

    /// Content is held back by a client that expects a 100, or no longer.
    pub(crate) fn withholds(&self, so: bool) {
        self.withheld.store(so, Ordering::Relaxed);
    }

    /// Whether the running request's content is held back still.
    pub(crate) fn is_withheld(&self) -> bool {
        self.withheld.load(Ordering::Relaxed)
    }

    /// Whether the trailers of the running request came as they must.
    pub(crate) fn trailers_are_clean(&self) -> bool {
        self.trailers_clean.load(Ordering::Relaxed)
    }

    /// Bytes have come.
    pub(super) fn note_read(&self, clean: bool) {
        self.trailers_clean.store(clean, Ordering::Relaxed);
        if self.phase() == Phase::Idle {
            self.phase.store(Phase::Head as u8, Ordering::Relaxed);
        } else if self.is_between_exchanges() {
            // Content that outlasts its response: the next head may have begun behind it.
            self.counted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the next byte begins a message, for certain: behind content with a length part of it may have come.
    pub(super) fn is_fresh(&self) -> bool {
        self.phase() == Phase::Idle && !self.counted.load(Ordering::Relaxed)
    }

    /// Whether every response is out as a whole.
    pub(crate) fn is_through(&self) -> bool {
        self.through.load(Ordering::Relaxed) == self.exchanges()
    }

    /// Whether nothing is under way, in or out: there is only the next request to wait for.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_fresh() && self.is_through()
    }

    pub(crate) fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    pub(crate) fn lingers(&self) -> bool {
        self.linger.load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    /// Something was to be written, with this result.
    pub(super) fn note_write(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => self.blocked.store(true, Ordering::Relaxed),
            Poll::Ready(_) => {
                if self.blocked.load(Ordering::Relaxed) {
                    self.blocked.store(false, Ordering::Relaxed);
                    self.written.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// The client is not waited for.
    pub(super) fn waits_for_turn(&self) {
        self.blocked.store(false, Ordering::Relaxed);
    }

    /// What is queued of interim responses, if anything is.
    pub(super) fn take_interim(&self) -> Option<Bytes> {
        if !self.has_interim.load(Ordering::Acquire) {
            return None;
        }
        let mut interim = self.interim.lock();
        self.has_interim.store(false, Ordering::Release);
        Some(interim.queue.split().freeze())
    }

    /// What was read last ends so.
    pub(super) fn note_end(&self, at_end: bool) {
        self.at_end.store(at_end, Ordering::Relaxed);
    }

    /// All that was to be written is out.
    pub(super) fn note_flushed(&self) {
        if self.is_between_exchanges() {
            self.through.store(self.exchanges(), Ordering::Relaxed);
        }
        self.flushed();
    }

    /// Keeps what pays for the bytes of a response that was handed over whole, until they are out.
    pub(crate) fn keep_until_flushed(&self, buffered: Buffered) {
        self.unflushed.lock().push(buffered);
        self.holds.store(true, Ordering::Relaxed);
    }

    /// Everything that was handed over is out, or never will be.
    pub(crate) fn flushed(&self) {
        if self.holds.load(Ordering::Relaxed) {
            self.holds.store(false, Ordering::Relaxed);
            let gone = std::mem::take(&mut *self.unflushed.lock());
            drop(gone);
        }
    }

    /// Leaves a tunnel for the connection to run once the head of the answer is through.
    pub(crate) fn put_tunnel(&self, tunnel: Tunnel) {
        *self.tunnel.lock() = Some(Box::new(tunnel));
    }

    pub(crate) fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.tunnel.lock().take()
    }
}

/// The bytes of an interim response's head. `None` for what may not be sent: 101, and anything that is not 1xx.
pub(crate) fn interim_head(status: http::StatusCode, headers: &http::HeaderMap) -> Option<Vec<u8>> {
    if !status.is_informational() || status == http::StatusCode::SWITCHING_PROTOCOLS {
        return None;
    }
    Some(head(status, headers))
}

/// The bytes of a response's head.
pub(crate) fn head(status: http::StatusCode, headers: &http::HeaderMap) -> Vec<u8> {
    let mut head = Vec::with_capacity(64 + headers.len() * 48);
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    head.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        // A `HeaderValue` holds no CR, LF or NUL, so what is written here can't end the head early.
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue, StatusCode};

    #[test]
    fn an_interim_head_that_comes_too_late_is_dropped() {
        let link = Link::default();
        let queued = || link.interim.lock().queue.len();
        link.exchange_begins(false);
        let first = link.open_interim();
        link.send_interim(first, b"abc");
        assert_eq!(queued(), 3);
        link.close_interim();
        link.send_interim(first, b"late");
        assert_eq!(queued(), 3);
        link.exchange_ends();
        link.exchange_begins(false);
        let second = link.open_interim();
        link.send_interim(first, b"later");
        assert_eq!(queued(), 3);
        link.send_interim(second, b"d");
        assert_eq!(queued(), 4);
    }

    #[test]
    fn after_content_it_is_hyper_that_tells_where_a_request_begins() {
        let link = Link::default();
        let exchange = |counted| {
            link.note_read(true);
            link.note_end(true);
            link.exchange_begins(counted);
            link.exchange_ends();
            link.note_flushed();
        };
        assert!(link.is_at_begin());
        exchange(false);
        assert!(link.is_at_begin());
        link.content_comes();
        exchange(false);
        assert!(!link.is_at_begin(), "where it ended is not known");
        link.parked();
        assert!(link.is_at_begin());
        // Content that outlasts its response, and bytes behind it.
        link.uploads(true);
        exchange(false);
        assert!(!link.is_quiet());
        link.note_read(true);
        link.uploads(false);
        assert!(!link.is_quiet() && !link.is_at_begin(), "a head may have begun");
        exchange(false);
        assert!(link.is_at_begin());
        link.linger();
        assert!(!link.is_at_begin(), "what comes is thrown away");
    }

    #[test]
    fn an_interim_head_carries_all_its_fields_and_101_is_none() {
        let mut headers = HeaderMap::new();
        headers.append("link", HeaderValue::from_static("</a.css>; rel=preload"));
        headers.append("link", HeaderValue::from_static("</b.css>; rel=preload"));
        let head = interim_head(StatusCode::EARLY_HINTS, &headers).unwrap();
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.css>; rel=preload\r\n\r\n"
        );
        assert_eq!(interim_head(StatusCode::SWITCHING_PROTOCOLS, &headers), None);
        assert_eq!(interim_head(StatusCode::OK, &headers), None);
    }
}

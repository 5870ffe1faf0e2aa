//! The socket of a client, and what its connection and its exchanges tell each other.
//!
//! hyper's HTTP/1 server has no way to send an interim response, no time limit but one, and shuts the socket
//! down as it likes. So the socket is wrapped: interim heads wait in a queue and go out between two messages
//! (RFC 9110 section 15.2), the phase of the connection is noted for the time limits, hyper's own answer to what it
//! can't parse is kept back, since the connection has a better one, and shutting down is left to the connection,
//! which may linger first.
//!
//! ```text
//!  Idle --first byte--> Head --request--> Exchange --response sent--> Idle
//! ```

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::tunnel::Tunnel;
use crate::access::rate::Allowance;
use crate::body::Buffered;
use crate::body::trailers::Scan;

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
    fn is_between_exchanges(&self) -> bool {
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
    fn note_read(&self, clean: bool) {
        self.trailers_clean.store(clean, Ordering::Relaxed);
        if self.phase() == Phase::Idle {
            self.phase.store(Phase::Head as u8, Ordering::Relaxed);
        }
    }

    /// Whether the next byte begins a message, for certain: behind content with a length part of it may have come.
    fn is_fresh(&self) -> bool {
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

/// The client's socket as hyper sees it.
#[derive(Debug)]
pub(crate) struct ClientIo {
    stream: TcpStream,
    link: std::sync::Arc<Link>,
    /// Bytes of a message went out, or were tried, since the last complete flush: no interim head may come now.
    mid_message: bool,
    /// hyper has answered by itself, and nothing of that went out.
    kept_back: bool,
    /// An interim head on its way out.
    sending: Bytes,
    /// The exchange in which bytes or the client's end were found waiting: there is nothing more to look for.
    looked_at: u64,
    /// The last bytes read.
    tail: [u8; 3],
    /// What the bytes read tell of trailers.
    trailers: Scan,
    /// What the client may be sent, where that has a limit.
    paced: Option<Paced>,
}

/// An allowance, and the wait for it.
#[derive(Debug)]
struct Paced {
    allowance: Allowance,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
                self.timer = None;
            }
            let wait = self.allowance.wait();
            if wait.is_zero() {
                return Poll::Ready(());
            }
            self.timer = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }
}

impl ClientIo {
    pub(crate) fn new(stream: TcpStream, link: std::sync::Arc<Link>, allowance: Option<Allowance>) -> Self {
        Self {
            stream,
            link,
            mid_message: false,
            kept_back: false,
            sending: Bytes::new(),
            looked_at: 0,
            tail: [0; 3],
            trailers: Scan::default(),
            paced: allowance.map(|allowance| Paced { allowance, timer: None }),
        }
    }

    /// Whether a request that hyper could not parse has been answered by nobody, so that its answer may still be
    /// written. To the beginning of HTTP/2 hyper says nothing.
    pub(crate) fn is_unanswered(&self, unparsed: &[u8]) -> bool {
        self.kept_back || (!self.mid_message && unparsed.starts_with(b"PRI * HTTP/2.0"))
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.sending.has_remaining() {
                let result = Pin::new(&mut self.stream).poll_write(cx, &self.sending);
                self.note_write(&result);
                let sent = ready!(result)?;
                if sent == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.sending.advance(sent);
            }
            if !self.link.has_interim.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            let mut interim = self.link.interim.lock();
            self.link.has_interim.store(false, Ordering::Release);
            self.sending = interim.queue.split().freeze();
        }
    }

    /// Writes no more than the client may be sent now. The wait for that is not the client's.
    fn poll_paced(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(paced) = &mut self.paced else { return Pin::new(&mut self.stream).poll_write(cx, buf) };
        if paced.poll_ready(cx).is_pending() {
            self.link.blocked.store(false, Ordering::Relaxed);
            return Poll::Pending;
        }
        let piece = &buf[..buf.len().min(paced.allowance.piece())];
        let result = Pin::new(&mut self.stream).poll_write(cx, piece);
        if let Poll::Ready(Ok(written)) = result {
            paced.allowance.pay(written);
        }
        self.note_write(&result);
        result
    }

    fn note_write(&mut self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => self.link.blocked.store(true, Ordering::Relaxed),
            Poll::Ready(_) => {
                if self.link.blocked.load(Ordering::Relaxed) {
                    self.link.blocked.store(false, Ordering::Relaxed);
                    self.link.written.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// While a response is awaited, hyper does not read, and would not notice that the client has reset the
    /// connection. A client that has closed its half alone may still read; so may one that sends on.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let exchange = self.link.exchanges();
        if self.link.phase() != Phase::Exchange || self.looked_at == exchange {
            return Ok(());
        }
        let mut byte = [0; 1];
        let mut byte = ReadBuf::new(&mut byte);
        match self.stream.poll_peek(cx, &mut byte) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(_)) => {
                self.looked_at = exchange;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    /// Whether hyper is about to refuse by itself what it could not parse: of all that it writes, this alone begins a
    /// message when no exchange is running and every response is out. (What is told last of a response, the end of its
    /// chunks, may come that late too.)
    fn is_hypers_own(&self, bytes: &[u8]) -> bool {
        !self.mid_message
            && self.link.is_between_exchanges()
            && self.link.is_through()
            && (bytes.starts_with(b"HTTP/1.1 4") || bytes.starts_with(b"HTTP/1.0 4"))
    }

    fn poll_before_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.mid_message {
            ready!(self.poll_interim(cx))?;
            self.mid_message = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.link.is_fresh() {
            self.trailers = Scan::default();
        }
        self.trailers.read(read);
        self.link.note_read(self.trailers.is_clean());
        for byte in &read[read.len().saturating_sub(3)..] {
            self.tail = [self.tail[1], self.tail[2], *byte];
        }
        let at_end = self.tail == *b"\n\r\n" || self.tail.ends_with(b"\n\n");
        self.link.at_end.store(at_end, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_hypers_own(buf) {
            self.kept_back = true;
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.poll_before_write(cx))?;
        if self.paced.is_some() {
            return self.poll_paced(cx, buf);
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.first().is_some_and(|first| self.is_hypers_own(first)) {
            self.kept_back = true;
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        ready!(self.poll_before_write(cx))?;
        if self.paced.is_some() {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_paced(cx, first.map_or(&[], |first| first));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        self.mid_message = false;
        if self.link.is_between_exchanges() {
            self.link.through.store(self.link.exchanges(), Ordering::Relaxed);
        }
        self.link.flushed();
        self.poll_gone(cx)?;
        Poll::Ready(Ok(()))
    }

    /// Does nothing: the connection shuts the socket down itself, after it has lingered where it must.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
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

//! The socket of a client.
//!
//! hyper's HTTP/1 server has no way to send an interim response, no time limit but one, and shuts the socket
//! down as it likes. So the socket is wrapped: interim heads wait in a queue and go out between two messages
//! (RFC 9110 section 15.2), the phase of the connection is noted for the time limits, hyper's own answer to what it
//! can't parse is kept back, since the connection has a better one, and shutting down is left to the connection,
//! which may linger first.
//!
//! What has been asked for before, to the byte, is answered here, and hyper does not see it (`repeat`).

use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::Call;
use super::link::{Link, Phase};
use super::repeat::{self, Repeating};
use crate::access::rate::Allowance;
use crate::body::trailers::Scan;
use crate::clock::Stopwatch;

/// The client's socket as hyper sees it.
#[derive(Debug)]
pub(crate) struct ClientIo {
    stream: TcpStream,
    link: Arc<Link>,
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
    repeating: Repeating,
    /// What has been read before there was hyper.
    early: Bytes,
}

/// How a connection goes on that is without hyper.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Brief {
    /// It needs hyper: for what has come, or for the rest of an answer.
    Unanswered,
    /// Nothing has come for a while, since then.
    Idle(Stopwatch),
    /// It has ended.
    Ended,
}

thread_local! {
    /// Where connections read without hyper.
    static READ: RefCell<[u8; repeat::LONGEST + 1]> = const { RefCell::new([0; repeat::LONGEST + 1]) };
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
    pub(crate) fn new(stream: TcpStream, call: &Call, allowance: Option<Allowance>) -> Self {
        Self {
            stream,
            link: Arc::clone(&call.link),
            mid_message: false,
            kept_back: false,
            sending: Bytes::new(),
            looked_at: 0,
            tail: [0; 3],
            trailers: Scan::default(),
            paced: allowance.map(|allowance| Paced { allowance, timer: None }),
            repeating: Repeating::new(Arc::clone(&call.proxy), call.peer),
            early: Bytes::new(),
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
                self.link.note_write(&result);
                let sent = ready!(result)?;
                if sent == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.sending.advance(sent);
            }
            let Some(interim) = self.link.take_interim() else { return Poll::Ready(Ok(())) };
            self.sending = interim;
        }
    }

    /// Writes no more than the client may be sent now. The wait for that is not the client's.
    fn poll_paced(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(paced) = &mut self.paced else { return Pin::new(&mut self.stream).poll_write(cx, buf) };
        if paced.poll_ready(cx).is_pending() {
            self.link.waits_for_turn();
            return Poll::Pending;
        }
        let piece = &buf[..buf.len().min(paced.allowance.piece())];
        let result = Pin::new(&mut self.stream).poll_write(cx, piece);
        if let Poll::Ready(Ok(written)) = result {
            paced.allowance.pay(written);
        }
        self.link.note_write(&result);
        result
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

    /// Writes what is left of an answer that hyper does not see.
    fn poll_repeat(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.repeating.poll_write(&mut self.stream, &self.link, cx)
    }

    /// Whether what was read needs no hyper: its answer is on its way. Who is paid for by the byte has hyper always.
    fn repeats(&mut self, read: &[u8]) -> bool {
        if self.paced.is_none() && self.link.is_at_begin() {
            return self.repeating.answers(read, &self.link);
        }
        // More of what hyper has already: that is not what was kept of it.
        self.repeating.forget(&self.link);
        false
    }

    /// Answers what has come, as far as that needs no hyper. What it is needed for is kept for it.
    pub(crate) fn poll_alone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Brief>> {
        READ.with_borrow_mut(|piece| {
            loop {
                ready!(self.poll_repeat(cx))?;
                if self.repeating.has_ended() {
                    return Poll::Ready(Ok(Brief::Ended));
                }
                let mut read = ReadBuf::new(&mut piece[..]);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
                let read = read.filled();
                if read.is_empty() {
                    return Poll::Ready(Ok(Brief::Ended));
                }
                if !self.repeats(read) {
                    self.early = Bytes::copy_from_slice(read);
                    return Poll::Ready(Ok(Brief::Unanswered));
                }
                if self.poll_repeat(cx)?.is_pending() {
                    // The client has to read first: there are limits for that.
                    return Poll::Ready(Ok(Brief::Unanswered));
                }
            }
        })
    }

    fn poll_before_write(&mut self, cx: &mut Context<'_>, first: &[u8]) -> Poll<io::Result<()>> {
        ready!(self.poll_repeat(cx))?;
        if !self.mid_message {
            ready!(self.poll_interim(cx))?;
            self.mid_message = true;
            self.repeating.answered(first, &self.link);
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
        loop {
            ready!(self.poll_repeat(cx))?;
            if self.repeating.has_ended() {
                return Poll::Ready(Ok(()));
            }
            if !self.early.is_empty() {
                let length = self.early.len().min(buf.remaining());
                buf.put_slice(&self.early.split_to(length));
                break;
            }
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            if !self.repeats(&buf.filled()[before..]) {
                break;
            }
            buf.set_filled(before);
        }
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
        self.link.note_end(at_end);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_hypers_own(buf) {
            self.kept_back = true;
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.poll_before_write(cx, buf))?;
        if self.paced.is_some() {
            return self.poll_paced(cx, buf);
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.link.note_write(&result);
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
        ready!(self.poll_before_write(cx, bufs.first().map_or(&[], |first| first)))?;
        if self.paced.is_some() {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_paced(cx, first.map_or(&[], |first| first));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.link.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper knows nothing of it, and flushes before it closes: at a drain, nothing else waits for it.
        ready!(self.poll_repeat(cx))?;
        ready!(self.poll_interim(cx))?;
        self.mid_message = false;
        self.link.note_flushed();
        self.poll_gone(cx)?;
        Poll::Ready(Ok(()))
    }

    /// Does nothing: the connection shuts the socket down itself, after it has lingered where it must.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

//! The bytes of one connection: what carries them, and how many and when they moved.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::stats::Counters;
use crate::body::trailers::Scan;
use crate::clock::Stopwatch;

/// A connection to an origin or a parent.
#[derive(Debug)]
pub enum Stream {
    /// In the clear.
    Tcp(TcpStream),
    /// Over TLS; to an origin behind a TLS parent, TLS within TLS.
    Tls(Box<TlsStream<Stream>>),
}

impl Stream {
    /// Has this thread's runtime know the socket, and no other one.
    fn register_here(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => {
                // A runtime lets go of a socket only by value: so it is another descriptor of the same one.
                let socket = tcp.as_fd().try_clone_to_owned()?;
                *tcp = TcpStream::from_std(socket.into())?;
                Ok(())
            }
            Self::Tls(tls) => tls.get_mut().0.register_here(),
        }
    }

    /// Whether the runtime knows that the socket takes bytes.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_write_ready(cx),
            Self::Tls(tls) => tls.get_ref().0.poll_write_ready(cx),
        }
    }

    /// Whether the other end has closed, or has sent what nobody asked for, on a connection that should be
    /// silent. Asks the kernel itself: what the runtime knows may be a moment old.
    fn is_dead(&self) -> bool {
        match self {
            Self::Tcp(tcp) => {
                let peeked = SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]);
                !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            // What comes over TLS unasked is a goodbye.
            Self::Tls(tls) => tls.get_ref().0.is_dead(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// What has moved on one connection.
#[derive(Debug)]
pub(super) struct Traffic {
    begun: Stopwatch,
    read: AtomicU64,
    /// Milliseconds from `begun` to the last progress.
    last: AtomicU64,
    /// Before anything is written, it is to be looked whether the other end is still there, and silent.
    doubted: AtomicBool,
    /// And before anything is read.
    doubted_early: AtomicBool,
    /// Nothing of the request was written, since the other end had gone or spoken before.
    withheld: AtomicBool,
    /// What can't be written is no error by itself.
    reads_on: AtomicBool,
    /// What is read next belongs to another response than what was read before.
    anew: AtomicBool,
    /// Whether trailers have come, and as they must.
    trailers_clean: AtomicBool,
    /// All that was written is out, and so is what hyper holds.
    flushed: AtomicBool,
    /// Another thread's runtime knows the socket than that of the thread which waits for it.
    elsewhere: AtomicBool,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            begun: Stopwatch::start(),
            read: AtomicU64::new(0),
            last: AtomicU64::new(0),
            doubted: AtomicBool::new(false),
            doubted_early: AtomicBool::new(false),
            withheld: AtomicBool::new(false),
            reads_on: AtomicBool::new(false),
            anew: AtomicBool::new(false),
            trailers_clean: AtomicBool::new(false),
            flushed: AtomicBool::new(true),
            elsewhere: AtomicBool::new(false),
        }
    }

    /// Bytes read so far.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Has the connection looked at before the first byte is written to it: an answer that was there before its request
    /// answers nothing. hyper has taken the request by then. Where it can't be made `again`, there is another look
    /// before: hyper reads from an idle connection before it takes a request, and gives the request back if the
    /// connection has ended.
    pub(super) fn doubt(&self, again: bool) {
        self.doubted.store(true, Relaxed);
        self.doubted_early.store(!again, Relaxed);
    }

    /// Whether the last request that was doubted never left, though hyper has taken it.
    pub(super) fn withheld(&self) -> bool {
        self.withheld.load(Relaxed)
    }

    /// Lets nothing but reading tell that the other end has closed. An origin may answer before it has read a
    /// request's body, and close: then writing fails while the answer lies in the socket, unread. RFC 9112
    /// section 9.6.
    pub(super) fn read_on(&self, so: bool) {
        self.reads_on.store(so, Relaxed);
    }

    /// What is read from now on is of another response.
    pub(super) fn anew(&self) {
        self.anew.store(true, Relaxed);
    }

    /// Whether the trailers of the response came as they must.
    pub(super) fn trailers_are_clean(&self) -> bool {
        self.trailers_clean.load(Relaxed)
    }

    /// Whether what hyper has taken of requests is out: it flushes when nothing is left to be written.
    pub(super) fn is_flushed(&self) -> bool {
        self.flushed.load(Relaxed)
    }

    /// From now on another thread waits for it: whoever reads or writes next does so on that one.
    pub(super) fn taken_over(&self) {
        self.elsewhere.store(true, Relaxed);
    }

    /// Notes progress towards a response head: bytes of the request went out, or an interim response came. Gives when
    /// that was.
    pub(super) fn moved(&self) -> Instant {
        let elapsed = self.begun.elapsed();
        self.last.store(elapsed.as_millis() as u64, Relaxed);
        self.begun.started() + elapsed
    }

    /// What has passed since the last progress.
    pub(super) fn quiet(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last.load(Relaxed)))
    }
}

/// A [`Stream`] that counts. It is what an `OnUpgrade` of ours downcasts to, inside of
/// `hyper_util::rt::TokioIo`.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    traffic: Arc<Traffic>,
    counters: Arc<Counters>,
    /// What the bytes read tell of trailers.
    trailers: Scan,
}

impl Wire {
    pub(super) fn new(stream: Stream, traffic: Arc<Traffic>, counters: Arc<Counters>) -> Self {
        Self { stream, traffic, counters, trailers: Scan::default() }
    }

    /// The connection without the counting.
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Keeps an error back that reading tells as well: it wakes at the answer, at the end, or at the error.
    fn told_by_reading<T>(&self, result: io::Result<T>) -> Poll<io::Result<T>> {
        match result {
            Err(error) if is_gone(&error) && self.traffic.reads_on.load(Relaxed) => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    /// Follows who has taken it over.
    fn follow(&mut self) {
        if self.traffic.elsewhere.load(Relaxed) {
            match self.stream.register_here() {
                Ok(()) => self.traffic.elsewhere.store(false, Relaxed),
                // Then the other thread wakes this one: as right, and not as fast.
                Err(error) => tracing::debug!(%error, "a connection stays with another thread's runtime"),
            }
        }
    }

    /// The last look before the first byte of a request.
    fn poll_may_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.follow();
        self.traffic.flushed.store(false, Relaxed);
        if !self.traffic.doubted.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        // A runtime that has only just got to know the socket can't write at once, and the look would not be the last.
        ready!(self.stream.poll_write_ready(cx))?;
        self.traffic.doubted.store(false, Relaxed);
        self.traffic.doubted_early.store(false, Relaxed);
        if self.stream.is_dead() {
            self.traffic.withheld.store(true, Relaxed);
            // Not one of those that reading tells.
            return Poll::Ready(Err(io::Error::other("the other end has closed, or spoken unasked")));
        }
        Poll::Ready(Ok(()))
    }

    fn sent(&self, n: usize) {
        self.counters.sent.fetch_add(n as u64, Relaxed);
        self.traffic.moved();
    }
}

/// Whether an error of a write says that the other end takes no more.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.follow();
        if self.traffic.doubted_early.load(Relaxed) && self.stream.is_dead() {
            self.traffic.doubted_early.store(false, Relaxed);
            self.traffic.doubted.store(false, Relaxed);
            // An end of the stream.
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if self.traffic.anew.swap(false, Relaxed) {
            self.trailers = Scan::default();
        }
        self.trailers.read(read);
        self.traffic.trailers_clean.store(self.trailers.is_clean(), Relaxed);
        let n = read.len() as u64;
        self.traffic.read.fetch_add(n, Relaxed);
        self.counters.received.fetch_add(n, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_may_write(cx))?;
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        let n = ready!(self.told_by_reading(result))?;
        self.sent(n);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_may_write(cx))?;
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        let n = ready!(self.told_by_reading(result))?;
        self.sent(n);
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        ready!(self.told_by_reading(result))?;
        self.traffic.flushed.store(true, Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A connection that has served, its traffic, and the other end.
    async fn pair() -> (Wire, Arc<Traffic>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let traffic = Arc::new(Traffic::new());
        (Wire::new(Stream::Tcp(near), Arc::clone(&traffic), Arc::default()), traffic, far)
    }

    async fn arrived(wire: &Wire) {
        while !wire.stream.is_dead() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_comes_after_the_first_look_keeps_a_request_from_being_written() {
        for unasked in [&b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..], b""] {
            let (mut wire, traffic, mut far) = pair().await;
            // A body would be sent on where the other end takes no more: an answer may lie there.
            traffic.read_on(true);
            traffic.doubt(false);
            let mut byte = [0; 1];
            let look = std::future::poll_fn(|cx| {
                let mut buf = ReadBuf::new(&mut byte);
                Poll::Ready(Pin::new(&mut wire).poll_read(cx, &mut buf).is_ready())
            });
            assert!(!look.await, "it is there, and silent");
            far.write_all(unasked).await.unwrap();
            far.shutdown().await.unwrap();
            arrived(&wire).await;
            wire.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap_err();
            assert!(traffic.withheld());
            drop(wire);
            let mut got = Vec::new();
            // With bytes unread it may end by a reset.
            drop(far.read_to_end(&mut got).await);
            assert_eq!(got, b"");
        }
    }

    #[tokio::test]
    async fn the_look_before_the_first_byte_is_the_last_also_where_another_thread_has_taken_over() {
        let (mut wire, traffic, mut far) = pair().await;
        traffic.doubt(false);
        traffic.taken_over();
        let begin = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut wire).poll_write(cx, b"POST ")));
        assert!(begin.await.is_pending(), "this runtime does not know yet that it takes bytes");
        far.shutdown().await.unwrap();
        arrived(&wire).await;
        wire.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap_err();
        assert!(traffic.withheld());
    }

    #[tokio::test]
    async fn what_comes_after_the_first_byte_is_the_answers() {
        let (mut wire, traffic, mut far) = pair().await;
        traffic.doubt(true);
        wire.write_all(b"GET ").await.unwrap();
        far.write_all(b"HTTP/1.1 200 OK").await.unwrap();
        arrived(&wire).await;
        wire.write_all(b"/ HTTP/1.1").await.unwrap();
        assert!(!traffic.withheld());
        let mut answer = [0; 15];
        wire.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
}

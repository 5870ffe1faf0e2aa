//! One client connection, from accept to close: hyper, our time limits, the tunnel behind it, the lingering.

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::link::{Link, Phase};
use super::socket::{Brief, ClientIo};
use super::tunnel::Active;
use super::{Call, Late, Proxy, relay, unparsed};
use crate::access::rate::Allowance;
use crate::body::Buffers;
use crate::clock::Stopwatch;
use crate::field::date;
use crate::shutdown::Shutdown;

/// After a refusal, what a client may still send before the socket is closed on it. Without it the client's
/// kernel throws the answer away when it sees the reset.
const LINGER_BYTES: usize = 4 * 1024 * 1024;
/// And for how long.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// How long a client may take nothing while others wait for the buffers that it holds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection may wait for its next request with all that serves one. Then it waits with little more than
/// its socket: 2 KiB, where hyper's buffers alone are 16. Short, so that of many that come one after the other few have
/// all of it at once; one that is busy does not get there.
const PARKED_AFTER: Duration = Duration::from_millis(25);

/// Serves `stream` until it ends. Never fails: what goes wrong is counted and ends the connection.
pub(crate) async fn serve(proxy: Arc<Proxy>, stream: TcpStream, peer: SocketAddr, local: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "TCP_NODELAY could not be set");
    }
    let link = Arc::new(Link::default());
    let _claims = Claims(Arc::clone(&link));
    let allowance = proxy.allowance(peer, &proxy.settings().options);
    let call = Call { proxy: Arc::clone(&proxy), link: Arc::clone(&link), peer, local };
    let mut io = ClientIo::new(stream, &call, allowance.clone());
    loop {
        let since = match poll_fn(briefly(&mut io, &link)).await {
            Ok(Brief::Ended) => return,
            Err(error) => return tracing::debug!(%error, %peer, "a client's connection broke"),
            Ok(Brief::Idle(since)) => since,
            Ok(Brief::Unanswered) => {
                // What it takes is given back when it ends.
                match Box::pin(engaged(call.clone(), io, allowance.as_ref())).await {
                    None => return,
                    Some((idle, since)) => {
                        link.parked();
                        io = idle;
                        since
                    }
                }
            }
        };
        let limit = proxy.settings().options.idle_timeout;
        match parked(io.stream(), &proxy, since, limit).await {
            Woken::Readable => {}
            Woken::Draining | Woken::Crowded => return,
            Woken::Late => return proxy.counts().late(Late::Idle),
        }
    }
}

/// Answers what comes as far as that needs no hyper, while something comes. The timer is moved only when it fires too early.
fn briefly(io: &mut ClientIo, link: &Link) -> impl FnMut(&mut Context<'_>) -> Poll<io::Result<Brief>> {
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let mut since = None;
    move |cx| {
        let before = link.exchanges();
        if let Poll::Ready(brief) = io.poll_alone(cx)? {
            return Poll::Ready(Ok(brief));
        }
        if link.exchanges() > before {
            since = None;
        }
        let since = *since.get_or_insert_with(Stopwatch::start);
        let due = Instant::from_std(since.started() + PARKED_AFTER);
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        while timer.as_mut().poll(cx).is_ready() {
            if since.elapsed() >= PARKED_AFTER {
                return Poll::Ready(Ok(Brief::Idle(since)));
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// What ends the wait for the next request.
enum Woken {
    /// Bytes, the client's end, or a failure: who reads is told which.
    Readable,
    Draining,
    /// Others find no room.
    Crowded,
    Late,
}

/// Waits for the next request with nothing but the socket, which has been idle `since` then.
async fn parked(stream: &TcpStream, proxy: &Proxy, since: Stopwatch, limit: Duration) -> Woken {
    tokio::select! {
        biased;
        () = proxy.shutdown().draining() => Woken::Draining,
        _ = stream.readable() => Woken::Readable,
        () = proxy.crowd.gives_way(stream, since) => Woken::Crowded,
        () = tokio::time::sleep_until(Instant::from_std(since.started() + limit)) => Woken::Late,
    }
}

/// Serves requests while they come. Gives the socket back when none has come for a while, and since when; `None` when
/// the connection has ended.
async fn engaged(call: Call, io: ClientIo, allowance: Option<&Allowance>) -> Option<(ClientIo, Stopwatch)> {
    let (proxy, link, peer) = (Arc::clone(&call.proxy), Arc::clone(&call.link), call.peer);
    let settings = proxy.settings();
    let options = &settings.options;
    let drained = proxy.shutdown().is_draining();
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        // At a drain, what has come is answered, and nothing after it.
        .keep_alive(!drained)
        .header_read_timeout(None)
        .max_buf_size(options.max_head.max(8 * 1024) + options.max_request_line.max(1024))
        .max_header_size(options.max_head + options.max_request_line);
    if options.max_fields > 100 {
        // Up to 100, hyper keeps its table of fields on the stack; our own limit is applied by `admit`.
        builder.max_headers(options.max_fields);
    }
    let limits = Limits {
        head: options.head_timeout,
        idle: options.idle_timeout,
        write: options.between_bytes_timeout,
    };
    let mut watched = Watched {
        connection: builder.serve_connection(TokioIo::new(io), call),
        link: Arc::clone(&link),
        limits,
        watch: Watch::default(),
        timer: None,
        whole: None,
        draining: Box::pin({
            let shutdown = proxy.shutdown().clone();
            async move { shutdown.draining().await }
        }),
        waits: false,
        drained,
        shutdown: proxy.shutdown().clone(),
        buffers: proxy.buffers().clone(),
        is_starving: false,
    };
    let end = poll_fn(|cx| watched.poll(cx)).await;
    let parts = watched.connection.into_parts();
    let io = parts.io.into_inner();
    let is_unanswered = io.is_unanswered(&parts.read_buf);
    let stream = match end {
        // Empty lines at most: `Link::is_quiet`.
        End::Parked(since) if parts.read_buf.trim_ascii().is_empty() => return Some((io, since)),
        _ => io.into_stream(),
    };
    match end {
        End::Done | End::Parked(_) => {
            if let Some(tunnel) = link.take_tunnel() {
                let active = Active::new(&proxy.counts().tunnels);
                let (buffers, shutdown) = (proxy.buffers(), proxy.shutdown());
                let run = tunnel.run(stream, parts.read_buf, active, buffers, shutdown, allowance);
                if run.await == relay::End::Idle {
                    proxy.counts().late(Late::Tunnel);
                }
            } else if link.lingers() {
                linger(stream).await;
            }
        }
        End::Broken(error) => {
            tracing::debug!(%error, %peer, "a client's connection broke");
            if link.is_reset() {
                if let Err(error) = stream.set_zero_linger() {
                    tracing::debug!(%error, "the reset could not be arranged");
                }
            } else if error.is_parse() {
                let too_large = error.is_parse_too_large();
                let refusal = unparsed::judge(too_large, &error.to_string(), &parts.read_buf, options);
                let answer = proxy.refuse(refusal, &link, peer);
                let date = date::format(proxy.clock.now().unix());
                let bytes = unparsed::written(answer, date).await;
                let mut stream = stream;
                // Where bytes of a response before it still waited, hyper's own answer is out among them.
                if is_unanswered {
                    write(&mut stream, &bytes, limits.write).await;
                }
                linger(stream).await;
            }
        }
        End::Over => {
            tracing::debug!(%peer, "an exchange lasted longer than the rule that allowed it lets it");
            // What has come must not look whole.
            if let Err(error) = stream.set_zero_linger() {
                tracing::debug!(%error, "the reset could not be arranged");
            }
        }
        End::Late(phase) => {
            tracing::debug!(?phase, %peer, "a client was too slow");
            proxy.counts().late(match phase {
                Phase::Idle => Late::Idle,
                Phase::Head => Late::Head,
                Phase::Exchange if watched.is_starving => Late::Buffers,
                Phase::Exchange => Late::BetweenBytes,
            });
        }
    }
    None
}

/// A tunnel that was granted holds its exchange, and that the link on which the tunnel waits. Where the connection
/// ends before it runs (the client is gone, the process ends), this takes it off, which closes its far end and
/// sends its record. What pays for bytes that never went out is given back.
struct Claims(Arc<Link>);

impl Drop for Claims {
    fn drop(&mut self) {
        drop(self.0.take_tunnel());
        self.0.flushed();
    }
}

/// Writes what the client should be told last.
async fn write(stream: &mut TcpStream, bytes: &[u8], limit: Duration) {
    if let Ok(Err(error)) = tokio::time::timeout(limit, stream.write_all(bytes)).await {
        tracing::trace!(%error, "the client closed before its answer");
    }
}

/// Closes our half, then reads and drops for a bounded while, so that the answer is not lost to a reset.
async fn linger(mut stream: TcpStream) {
    let drained = async {
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut piece = vec![0; 16 * 1024];
        while left > 0 {
            match stream.read(&mut piece).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<(), std::io::Error>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER_TIME, drained).await {
        tracing::trace!(%error, "the client closed while lingering");
    }
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    head: Duration,
    idle: Duration,
    write: Duration,
}

enum End {
    Done,
    /// It has been idle since then, and may wait with less.
    Parked(Stopwatch),
    Broken(hyper::Error),
    Late(Phase),
    /// The exchange lasted longer than a rule of access lets it.
    Over,
}

/// What the connection was waiting for when it was last looked at, and since when.
#[derive(Debug, Default)]
struct Watch {
    since: Option<Stopwatch>,
    seen: Option<(Phase, u64, bool, u64)>,
}

/// hyper's connection with our time limits round it. Nothing is armed while nothing is late: the timer is set
/// once to the nearest limit, and moved only when it fires too early or a nearer limit appears.
struct Watched {
    connection: http1::Connection<TokioIo<ClientIo>, Call>,
    link: Arc<Link>,
    limits: Limits,
    watch: Watch,
    timer: Option<Pin<Box<Sleep>>>,
    /// The end of the exchange of this number, where it has a limit.
    whole: Option<(u64, Pin<Box<Sleep>>)>,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    waits: bool,
    drained: bool,
    shutdown: Shutdown,
    buffers: Buffers,
    /// It ended since its client held what others waited for.
    is_starving: bool,
}

impl Watched {
    /// Whether the running exchange has lasted as long as it may.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(limit) = self.link.time_limit() else {
            self.whole = None;
            return false;
        };
        let exchange = self.link.exchanges();
        if self.whole.as_ref().is_none_or(|(of, _)| *of != exchange) {
            self.whole = Some((exchange, Box::pin(tokio::time::sleep(limit))));
        }
        self.whole.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_ready())
    }

    /// Takes hyper off the socket. It says itself that it is between two messages: asked to end it does so at once,
    /// and what it would shut down is ours. Before the first message there is nothing that it could lose.
    fn park(&mut self, since: Stopwatch, cx: &mut Context<'_>) -> Poll<End> {
        if self.link.exchanges() > 0 {
            Pin::new(&mut self.connection).graceful_shutdown();
            if let Err(error) = std::task::ready!(Pin::new(&mut self.connection).poll(cx)) {
                return Poll::Ready(End::Broken(error));
            }
        }
        Poll::Ready(End::Parked(since))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // A task keeps its waker, so to be woken it is enough to have asked once.
        if !self.drained && (!self.waits || self.shutdown.is_draining()) {
            self.waits = true;
            if self.draining.as_mut().poll(cx).is_ready() {
                self.drained = true;
                Pin::new(&mut self.connection).graceful_shutdown();
            }
        }
        if let Poll::Ready(result) = Pin::new(&mut self.connection).poll(cx) {
            return Poll::Ready(result.map_or_else(End::Broken, |()| End::Done));
        }
        let mut phase = self.link.phase();
        if phase == Phase::Exchange {
            if self.link.wait_for_interim(cx.waker()) && !self.link.writing().0 {
                cx.waker().wake_by_ref();
            }
            // An upload may have ended before there was somebody to wake.
            phase = self.link.phase();
        }
        if self.is_over(cx) {
            return Poll::Ready(End::Over);
        }
        // What was handed on last may still wait for its client to read, or for its turn: that is no idleness yet.
        let phase = if phase == Phase::Idle && !self.link.is_through() { Phase::Exchange } else { phase };
        let (blocked, written) = self.link.writing();
        let seen = Some((phase, self.link.exchanges(), blocked, written));
        if self.watch.seen != seen {
            self.watch = Watch { since: None, seen };
        }
        let limit = match phase {
            Phase::Idle => self.limits.idle,
            Phase::Head => self.limits.head,
            Phase::Exchange if blocked => self.limits.write,
            // The exchange has limits of its own.
            Phase::Exchange => return Poll::Pending,
        };
        let since = *self.watch.since.get_or_insert_with(Stopwatch::start);
        let step = match phase {
            // Nobody tells when others begin to wait for what is held here: that is looked at now and then.
            Phase::Exchange => limit.min(PATIENCE),
            Phase::Idle if self.link.is_quiet() => limit.min(PARKED_AFTER),
            Phase::Idle | Phase::Head => limit,
        };
        let due = Instant::from_std(since.started() + step);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        while pin!(timer.as_mut()).poll(cx).is_ready() {
            let passed = since.elapsed();
            self.is_starving = phase == Phase::Exchange && passed >= PATIENCE && self.buffers.are_short();
            if passed >= limit || self.is_starving {
                return Poll::Ready(End::Late(phase));
            }
            if passed >= PARKED_AFTER && self.link.is_quiet() {
                return self.park(since, cx);
            }
            let next = if passed < step { step } else { limit.min(passed + PATIENCE) };
            timer.as_mut().reset(Instant::from_std(since.started() + next));
        }
        Poll::Pending
    }
}

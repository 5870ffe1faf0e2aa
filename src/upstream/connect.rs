//! From a host and a port to a connection: resolve, guard, TCP by Happy Eyeballs (RFC 8305), parent, TLS.
//!
//! The guard judges the address that is dialled, not the name: a name that resolves to an address inside,
//! now or at its next answer, reaches nothing there.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::error::{UpstreamError, connecting, is_want};
use super::parent::{Route, authority};
use super::pool::Pool;
use super::resolve::{Failure, Family};
use super::stats::Bound;
use super::wire::Stream;
use super::{Way, tunnel};
use crate::access::rules::Rule;
use crate::access::{Denied, Grant};
use crate::clock::Stopwatch;
use crate::field::status::ProxyError;
use crate::field::target::{Host, Scheme, Target};

/// RFC 8305 section 5: "Connection Attempt Delay", recommended 250 ms.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// RFC 8305 section 3: "Resolution Delay", recommended 50 ms.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// How often, and with what pause, an attempt begins anew where descriptors are wanting: for nine seconds, so that by
/// default that is what is told, and not that the time for connecting is over.
const WANT_PAUSES: u32 = 180;
const WANT_PAUSE: Duration = Duration::from_millis(50);

/// Where a connection leads, and how.
pub(super) struct Destination<'a> {
    pub(super) scheme: Scheme,
    pub(super) host: &'a Host,
    pub(super) port: u16,
    pub(super) parent: Option<&'a Route>,
    /// The lines of `Via` that a CONNECT to the parent carries.
    pub(super) via: &'a [HeaderValue],
    pub(super) grant: &'a Grant,
}

/// Opens a connection on which requests for the destination can be sent: to the origin, through a tunnel to
/// it, or, for `http` through a parent, to the parent.
pub(super) async fn open(way: &Way, to: &Destination<'_>) -> Result<(Stream, SocketAddr), UpstreamError> {
    let limit = way.options.connect_timeout;
    let Some(parent) = to.parent else {
        let (tcp, address, begun) = tcp(way, to.host, to.port, Some(to.grant)).await?;
        let stream = match to.scheme {
            Scheme::Http => Stream::Tcp(tcp),
            Scheme::Https => {
                let secure = way.tls.handshake(Stream::Tcp(tcp), to.host);
                within(limit, begun, "the TLS handshake", address, secure).await?
            }
        };
        return Ok((stream, address));
    };
    judge_literal(to)?;
    let (stream, address, begun) = reach(way, parent).await?;
    let stream = match to.scheme {
        Scheme::Http => stream,
        Scheme::Https => {
            let through = async {
                let (stream, early) = tunnel::through(way, stream, parent, to).await?;
                if !early.is_empty() {
                    let what = "the origin spoke before the TLS handshake";
                    return Err(UpstreamError::new(ProxyError::TlsProtocolError, what));
                }
                way.tls.handshake(stream, to.host).await
            };
            within(limit, begun, "the tunnel through the parent", address, through).await?
        }
    };
    Ok((stream, address))
}

/// Opens a connection to a parent itself. Where that fails, the parent is passed over for a while.
pub(super) async fn reach(
    way: &Way,
    parent: &Route,
) -> Result<(Stream, SocketAddr, Stopwatch), UpstreamError> {
    let reached = try_reach(way, parent).await;
    if reached.is_err() {
        parent.failed(way.clock.now().mono);
    }
    reached
}

async fn try_reach(way: &Way, parent: &Route) -> Result<(Stream, SocketAddr, Stopwatch), UpstreamError> {
    // The operator named the parent: its address is not judged.
    let (tcp, address, begun) = tcp(way, &parent.host, parent.port, None).await?;
    let mut stream = Stream::Tcp(tcp);
    if parent.tls {
        let secure = way.tls.handshake(stream, &parent.host);
        stream = within(way.options.connect_timeout, begun, "the TLS handshake", address, secure).await?;
    }
    Ok((stream, address, begun))
}

/// A parent resolves names for us, so only what needs no resolving can be judged here.
pub(super) fn judge_literal(to: &Destination<'_>) -> Result<(), UpstreamError> {
    let ip = match to.host {
        Host::Ip(ip) => *ip,
        Host::Name(name) if super::resolve::is_localhost(name) => IpAddr::from([127, 0, 0, 1]),
        Host::Name(_) => return to.grant.by_name().map_err(UpstreamError::refused),
    };
    let address = SocketAddr::new(ip, to.port);
    let judged = to.grant.destination(to.host, address);
    judged.map(|_| ()).map_err(|denied| UpstreamError::denied(denied, address))
}

/// Whether one of the addresses that the target has now may be dialled, and which rule says so.
pub(super) async fn judge(
    way: &Way,
    target: &Target,
    grant: &Grant,
) -> Result<Option<Arc<Rule>>, UpstreamError> {
    let name = match &target.host {
        Host::Name(name) => name,
        Host::Ip(ip) => {
            let address = SocketAddr::new(*ip, target.port);
            let judged = grant.destination(&target.host, address);
            return judged.map(Option::<&_>::cloned).map_err(|denied| UpstreamError::denied(denied, address));
        }
    };
    let routes = way.parents.routes(target.scheme, &target.host, target.port, || way.clock.now().mono);
    if !routes.is_empty() {
        return grant.by_name().map(|()| grant.by().cloned()).map_err(UpstreamError::refused);
    }
    let mut lost = Lost::default();
    for family in way.resolver.families() {
        match Arc::clone(&way.resolver).lookup(name.clone(), *family).await {
            Err(failure) => lost.names(failure),
            Ok(addresses) => {
                for ip in addresses.iter() {
                    let address = SocketAddr::new(*ip, target.port);
                    match grant.destination(&target.host, address) {
                        Ok(rule) => return Ok(rule.cloned()),
                        Err(denied) => {
                            lost.denied.get_or_insert((denied, address));
                        }
                    }
                }
            }
        }
    }
    Err(lost.into_error(&target.host, target.port))
}

/// Bounds a later step of connecting by what is left of the limit.
pub(super) async fn within<T>(
    limit: Duration,
    begun: Stopwatch,
    step: &str,
    address: SocketAddr,
    work: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    let done = timeout(limit.saturating_sub(begun.elapsed()), work).await.unwrap_or_else(|_| {
        let what = format!("{step} with {address} was not done within {limit:?}");
        Err(UpstreamError::new(ProxyError::ConnectionTimeout, what).over(Bound::ConnectTimeout))
    });
    done.map_err(|error| error.at(address))
}

/// Connects to the first address that answers. The stopwatch runs since the first attempt.
pub(super) async fn tcp(
    way: &Way,
    host: &Host,
    port: u16,
    grant: Option<&Grant>,
) -> Result<(TcpStream, SocketAddr, Stopwatch), UpstreamError> {
    Race::new(way, host, port, grant).run().await
}

type Asking = Pin<Box<dyn Future<Output = (Family, Result<Arc<[IpAddr]>, Failure>)> + Send>>;

/// One run of Happy Eyeballs: addresses come in, attempts go out, the first connection wins.
struct Race<'a> {
    way: &'a Way,
    host: &'a Host,
    port: u16,
    grant: Option<&'a Grant>,
    asking: Vec<Asking>,
    waiting: Waiting,
    attempts: JoinSet<(SocketAddr, io::Result<TcpStream>)>,
    lost: Lost,
}

/// What went wrong so far.
#[derive(Default)]
struct Lost {
    dial: Option<UpstreamError>,
    denied: Option<(Denied, SocketAddr)>,
    names: Option<Failure>,
}

/// Addresses not yet tried, taken from both families by turns, IPv6 first. RFC 8305 section 4.
#[derive(Default)]
struct Waiting {
    v6: VecDeque<IpAddr>,
    v4: VecDeque<IpAddr>,
    v4_next: bool,
}

impl Waiting {
    fn add(&mut self, ip: IpAddr) {
        if ip.is_ipv6() { self.v6.push_back(ip) } else { self.v4.push_back(ip) }
    }

    fn take(&mut self) -> Option<IpAddr> {
        let (first, second) =
            if self.v4_next { (&mut self.v4, &mut self.v6) } else { (&mut self.v6, &mut self.v4) };
        let ip = first.pop_front().or_else(|| second.pop_front())?;
        self.v4_next = ip.is_ipv6();
        Some(ip)
    }

    fn is_empty(&self) -> bool {
        self.v6.is_empty() && self.v4.is_empty()
    }
}

impl<'a> Race<'a> {
    fn new(way: &'a Way, host: &'a Host, port: u16, grant: Option<&'a Grant>) -> Self {
        let mut waiting = Waiting::default();
        let asking = match host {
            Host::Ip(ip) => {
                waiting.add(*ip);
                Vec::new()
            }
            Host::Name(name) => {
                let ask = |family: &Family| {
                    let (resolver, name, family) = (Arc::clone(&way.resolver), name.clone(), *family);
                    Box::pin(async move { (family, resolver.lookup(name, family).await) }) as Asking
                };
                way.resolver.families().iter().map(ask).collect()
            }
        };
        Self { way, host, port, grant, asking, waiting, attempts: JoinSet::new(), lost: Lost::default() }
    }

    async fn run(mut self) -> Result<(TcpStream, SocketAddr, Stopwatch), UpstreamError> {
        let limit = self.way.options.connect_timeout;
        let mut begun = None;
        // When the next attempt may start; at first, when one family's answer need no longer be waited for.
        let mut next = Box::pin(sleep(Duration::ZERO));
        let mut paused = false;
        // Until the first attempt it cannot pass: the resolver has a limit of its own.
        let mut deadline = Box::pin(sleep(limit + self.way.options.dns_timeout));
        loop {
            while !paused && !self.waiting.is_empty() {
                if self.attempt() {
                    paused = true;
                    let now = *begun.get_or_insert_with(|| {
                        let begun = Stopwatch::start();
                        deadline.as_mut().reset(Instant::from_std(begun.started() + limit));
                        begun
                    });
                    next.as_mut().reset(Instant::from_std(now.started() + now.elapsed() + ATTEMPT_DELAY));
                }
            }
            if self.attempts.is_empty() && self.asking.is_empty() && self.waiting.is_empty() {
                return Err(self.lost.into_error(self.host, self.port));
            }
            let Self { asking, attempts, .. } = &mut self;
            tokio::select! {
                biased;
                Some(ended) = attempts.join_next(), if !attempts.is_empty() => match ended {
                    Ok((address, Ok(stream))) => {
                        self.way.counters.opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        // Without it small requests wait for acknowledgements; a socket that refuses it still works.
                        if let Err(error) = stream.set_nodelay(true) {
                            tracing::debug!(%error, "TCP_NODELAY");
                        }
                        return Ok((stream, address, begun.unwrap_or_else(Stopwatch::start)));
                    }
                    Ok((address, Err(error))) => {
                        self.lost.dial(address, error);
                        paused = false;
                    }
                    // A task that was cancelled or panicked tried nothing.
                    Err(_) => paused = false,
                },
                (family, answer) = answered(asking), if !asking.is_empty() => {
                    match answer {
                        Ok(addresses) => addresses.iter().for_each(|ip| self.waiting.add(*ip)),
                        Err(failure) => self.lost.names(failure),
                    }
                    if self.attempts.is_empty() {
                        paused = family == Family::V4 && !self.asking.is_empty();
                        if paused {
                            let now = Stopwatch::start().started();
                            next.as_mut().reset(Instant::from_std(now + RESOLUTION_DELAY));
                        }
                    }
                }
                () = &mut next, if paused => paused = false,
                () = &mut deadline => {
                    self.lost.dial.get_or_insert_with(|| {
                        let what = format!("no connection to {} within {limit:?}", authority(self.host, self.port));
                        UpstreamError::new(ProxyError::ConnectionTimeout, what).over(Bound::ConnectTimeout)
                    });
                    return Err(self.lost.into_error(self.host, self.port));
                }
            }
        }
    }

    /// Starts an attempt with the next address; false where that address is forbidden.
    fn attempt(&mut self) -> bool {
        let Some(ip) = self.waiting.take() else { return false };
        let address = SocketAddr::new(ip, self.port);
        if let Some(Err(denied)) = self.grant.map(|grant| grant.destination(self.host, address)) {
            self.lost.denied.get_or_insert((denied, address));
            return false;
        }
        let from =
            self.way.options.source_address.iter().find(|from| from.is_ipv6() == ip.is_ipv6()).copied();
        let pool = Arc::clone(&self.way.pool);
        self.attempts.spawn(async move { (address, connect(address, from, &pool).await) });
        true
    }
}

/// Connects. Where descriptors have run out on this side, a connection that is idle gives up its own.
async fn connect(address: SocketAddr, from: Option<IpAddr>, pool: &Pool) -> io::Result<TcpStream> {
    let mut pauses = 0;
    loop {
        match try_connect(address, from).await {
            Err(error) if pauses < WANT_PAUSES && is_want(&error) => {
                pauses += 1;
                pool.give_one_up();
                sleep(WANT_PAUSE).await;
            }
            result => return result,
        }
    }
}

async fn try_connect(address: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(address).await
}

/// The next answer of those asked, which is then asked no more.
async fn answered(asking: &mut Vec<Asking>) -> (Family, Result<Arc<[IpAddr]>, Failure>) {
    poll_fn(|cx: &mut Context<'_>| {
        for at in 0..asking.len() {
            if let Poll::Ready(answer) = asking[at].as_mut().poll(cx) {
                drop(asking.swap_remove(at));
                return Poll::Ready(answer);
            }
        }
        Poll::Pending
    })
    .await
}

impl Lost {
    /// The first failure is told, but one that only says that a family has no route here gives way.
    fn dial(&mut self, address: SocketAddr, error: io::Error) {
        let kind = connecting(&error);
        let keep = |lost: &UpstreamError| lost.kind != ProxyError::DestinationIpUnroutable;
        if !self.dial.as_ref().is_some_and(keep) {
            let what = match kind {
                ProxyError::ConnectionRefused => format!("{address} refused the connection"),
                ProxyError::DestinationIpUnroutable => format!("there is no route to {address}"),
                _ => format!("no connection to {address}: {error}"),
            };
            self.dial = Some(UpstreamError::new(kind, what).at(address).caused(error));
        }
    }

    fn names(&mut self, failure: Failure) {
        if !self.names.as_ref().is_some_and(|lost| lost.kind == ProxyError::DnsTimeout) {
            self.names = Some(failure);
        }
    }

    fn into_error(self, host: &Host, port: u16) -> UpstreamError {
        // A rule that forbids one of its addresses says more about a name than that another could not be reached.
        if let Some((denied, address)) = self.denied {
            return UpstreamError::denied(denied, address);
        }
        if let Some(error) = self.dial {
            return error;
        }
        let at = authority(host, port);
        match self.names {
            Some(Failure { kind, what }) => {
                let bound = (kind == ProxyError::DnsTimeout).then_some(Bound::DnsTimeout);
                UpstreamError::new(kind, format!("{at}: {what}")).over(bound)
            }
            None => UpstreamError::new(ProxyError::DestinationNotFound, format!("{at} has no address")),
        }
    }
}

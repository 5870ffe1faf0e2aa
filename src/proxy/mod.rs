//! Connections of clients, and what is done with each request.
//!
//! ```text
//!  accept -> connection -> authenticate -> admit -> cache::look ------------> forward -> hyper
//!                                            |         `-> cache::respond -^     ^
//!                                            |-> tunnel (CONNECT), upgrade       |
//!                                            `-> refusal ------------------------'
//! ```

mod admit;
mod authenticate;
mod connection;
mod crowd;
mod exchange;
pub mod explain;
mod forward;
mod link;
mod local;
mod refusal;
mod relay;
mod repeat;
mod socket;
mod tunnel;
mod unparsed;
mod upgrade;

use arc_swap::ArcSwap;
use http::{HeaderMap, Method, Request, Version, header};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;

use crate::access::Access;
use crate::access::authentication::{Authenticator, Principal};
use crate::access::rate::{Allowance, Rates};
use crate::body::{Body, Buffers};
use crate::cache::{self, Cache};
use crate::clock::{Clock, Moment, Stopwatch};
use crate::field::via::Pseudonym;
use crate::pages;
use crate::shutdown::Shutdown;
use crate::store::Generation;
use crate::telemetry::Telemetry;
use crate::upstream::Upstream;
use crate::worker::Each;
use admit::{Admitted, admit};
use authenticate::{Known, Verifying};
use exchange::{Answer, Exchange};
use link::Link;
use repeat::Repeats;

pub use crowd::{Crowd, Waiting};
use refusal::Refusal;
pub use upgrade::is_h2c;

/// `proxy`'s settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `proxy.via`: the pseudonym in Via; default random at each start (kept over reloads).
    pub via: Option<String>,
    /// `proxy.forwarded_for`.
    pub forwarded_for: ForwardedFor,
    /// `proxy.upgrades`: protocols passed through. Default `["websocket"]`; never h2c.
    pub upgrades: Vec<String>,
    /// `proxy.tunnel_idle`. Default 15 min.
    pub tunnel_idle: Duration,
    /// `proxy.head_timeout` (10 s): for the rest of a request's head once it has begun.
    pub head_timeout: Duration,
    /// `proxy.idle_timeout` (60 s): between two requests.
    pub idle_timeout: Duration,
    /// `proxy.between_bytes_timeout` (60 s): for a client that sends no more of a body, or reads no
    /// more of a response.
    pub between_bytes_timeout: Duration,
    /// `limits.requests_per_client`: in a second; `None`: as many as come.
    pub requests_per_client: Option<usize>,
    /// `limits.bytes_per_client`: in a second; `None`: as many as come.
    pub bytes_per_client: Option<u64>,
    /// `limits.request_line` (8 KiB).
    pub max_request_line: usize,
    /// `limits.request_head` (64 KiB).
    pub max_head: usize,
    /// `limits.request_fields` (100).
    pub max_fields: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            via: None,
            forwarded_for: ForwardedFor::Delete,
            upgrades: vec!["websocket".into()],
            tunnel_idle: Duration::from_secs(15 * 60),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            between_bytes_timeout: Duration::from_secs(60),
            requests_per_client: None,
            bytes_per_client: None,
            max_request_line: 8 * 1024,
            max_head: 64 * 1024,
            max_fields: 100,
        }
    }
}

/// The policy for X-Forwarded-For.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedFor {
    /// It is dropped.
    Delete,
    /// It goes on as received.
    Keep,
    /// The client's address is added.
    Add,
}

/// One snapshot of what configuration says, for a whole exchange.
#[derive(Debug)]
pub struct Settings {
    /// This room's.
    pub options: Options,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Who clients have to say they are; `None`: nobody has to.
    pub authentication: Option<Arc<Authenticator>>,
    /// The cache's.
    pub cache: Arc<cache::Settings>,
    /// Our name in Via.
    pub pseudonym: Arc<Pseudonym>,
    /// What the pages tell.
    pub pages: pages::Options,
    /// Whether a listener is reachable from beyond this machine.
    pub beyond_loopback: bool,
}

/// The proxy: shared by all connections.
#[derive(Debug)]
pub struct Proxy {
    settings: ArcSwap<Settings>,
    cache: Arc<Cache>,
    upstream: Upstream,
    buffers: Buffers,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    shutdown: Shutdown,
    ids: Each<AtomicU64>,
    counts: Arc<Counts>,
    rates: Rates,
    /// Of what is sent.
    allowances: Rates,
    verifying: Verifying,
    crowd: Crowd,
    repeats: Repeats,
}

/// What exchanges do not tell.
#[derive(Debug, Default)]
pub struct Counts {
    /// Tunnels open now.
    pub tunnels: Arc<AtomicU64>,
    /// How often clients were later than a limit lets them.
    late: [AtomicU64; Late::ALL.len()],
}

/// A limit on how long a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// `proxy.head_timeout`
    Head,
    /// `proxy.idle_timeout`: nothing came after the last exchange, which is no fault.
    Idle,
    /// `proxy.between_bytes_timeout`
    BetweenBytes,
    /// `proxy.tunnel_idle`
    Tunnel,
    /// `limits.buffers`: it took nothing while others waited for what it held.
    Buffers,
}

impl Late {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Head, Self::Idle, Self::BetweenBytes, Self::Tunnel, Self::Buffers];

    /// Its key.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Head => "proxy.head_timeout",
            Self::Idle => "proxy.idle_timeout",
            Self::BetweenBytes => "proxy.between_bytes_timeout",
            Self::Tunnel => "proxy.tunnel_idle",
            Self::Buffers => "buffers",
        }
    }
}

impl Counts {
    fn late(&self, limit: Late) {
        self.late[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each limit was reached.
    pub fn reached(&self) -> impl Iterator<Item = (Late, u64)> + '_ {
        Late::ALL.into_iter().zip(&self.late).map(|(late, count)| (late, count.load(Ordering::Relaxed)))
    }
}

impl Proxy {
    /// A proxy that answers from `cache` and tunnels by `upstream`.
    pub fn new(
        settings: Settings,
        cache: Arc<Cache>,
        upstream: Upstream,
        buffers: Buffers,
        telemetry: Arc<Telemetry>,
        clock: Clock,
        shutdown: Shutdown,
    ) -> Self {
        // Ids of two runs should not meet in one log. The threads' lie between each other.
        let first = rand::random::<u64>() << 24;
        Self {
            settings: ArcSwap::from_pointee(settings),
            cache,
            upstream,
            buffers,
            telemetry,
            clock,
            shutdown,
            ids: Each::new(|worker| AtomicU64::new(first + worker as u64)),
            counts: Arc::default(),
            rates: Rates::default(),
            allowances: Rates::default(),
            verifying: Verifying::default(),
            crowd: Crowd::default(),
            repeats: Repeats::default(),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Puts other settings in force: exchanges that run keep theirs.
    pub fn reconfigure(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Serves one client's connection to its end.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, local: SocketAddr) {
        connection::serve(self, stream, peer, local).await;
    }

    fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// What is open, and what was cut off.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Closes an idle connection to an origin where `error` says that descriptors have run out. False where that is no
    /// help.
    pub fn make_room(&self, error: &io::Error) -> bool {
        self.upstream.make_room(error)
    }

    /// Where clients wait that find no room.
    pub fn crowd(&self) -> &Crowd {
        &self.crowd
    }

    /// The answer to a request that could not be parsed.
    fn refuse(&self, refusal: Refusal, link: &Arc<Link>, peer: SocketAddr) -> Answer {
        // What the method was is not known; "-" is none, and a token.
        let method = Method::from_bytes(b"-").unwrap_or_default();
        let mut exchange = self.exchange(link, peer, method, Version::HTTP_11);
        exchange.asks("-", &HeaderMap::new());
        refusal.answer(exchange, None, false)
    }

    fn exchange(&self, link: &Arc<Link>, peer: SocketAddr, method: Method, version: Version) -> Exchange {
        Exchange::begin(
            self.next_id(),
            (self.clock.now(), Stopwatch::start()),
            Arc::clone(&self.telemetry),
            Arc::clone(link),
            peer,
            method,
            version,
        )
    }

    /// A number that no other exchange has.
    fn next_id(&self) -> u64 {
        self.ids.own().fetch_add(self.ids.len() as u64, Ordering::Relaxed)
    }

    /// What a connection of this client may be sent, where that has a limit.
    fn allowance(&self, peer: SocketAddr, options: &Options) -> Option<Allowance> {
        let limit = options.bytes_per_client?;
        Some(self.allowances.allowance(peer.ip(), &self.clock, limit))
    }

    /// Whether the client asks no more often than it may.
    fn paced(&self, peer: SocketAddr, now: Moment, settings: &Settings) -> Result<(), Refusal> {
        let Some(limit) = settings.options.requests_per_client else { return Ok(()) };
        let taken = self.rates.one_more(peer.ip(), now.mono, limit);
        taken.map_err(|after| Refusal::TooManyRequests { limit, after })
    }

    fn handle(self: &Arc<Self>, call: &Call, request: Request<Incoming>) -> Handling {
        // In this order: a reload puts its settings in force, then moves the generation.
        let generation = self.cache.store().generation();
        let settings = self.settings.load_full();
        let (parts, incoming) = request.into_parts();
        let body = Body::from(incoming);
        let has_content = !matches!(body, Body::Empty);
        call.link.exchange_begins(has_content && parts.headers.contains_key(header::CONTENT_LENGTH));
        if has_content {
            call.link.content_comes();
        }
        let exchange = self.exchange(&call.link, call.peer, parts.method.clone(), parts.version);
        let paced = self.paced(call.peer, exchange.began(), &settings);
        let received = Received { settings, generation, exchange, parts, body };
        if let Err(refusal) = paced {
            return received.refused(refusal);
        }
        match authenticate::judge(self, call, &received) {
            Known::Now(principal) => self.admitted(call, received, &principal),
            Known::Later(principal) => {
                let (proxy, call) = (Arc::clone(self), call.clone());
                Handling::slow(async move {
                    let principal = principal.await;
                    let Ok(answer) = proxy.admitted(&call, received, &principal).await;
                    answer
                })
            }
        }
    }

    fn admitted(self: &Arc<Self>, call: &Call, mut received: Received, principal: &Principal) -> Handling {
        received.exchange.is_for(principal);
        let now = received.exchange.began();
        match admit(&received.parts, received.has_content(), call.peer, principal, now, &received.settings) {
            Err(refusal) => received.refused(refusal),
            Ok(admitted) => self.go(call, received, admitted),
        }
    }

    fn go(self: &Arc<Self>, call: &Call, received: Received, admitted: Admitted) -> Handling {
        let has_content = received.has_content();
        let Received { settings, generation, mut exchange, parts, body } = received;
        match admitted {
            Admitted::Forward(target, grant) => {
                exchange.granted(&grant);
                let target = Arc::new(target);
                exchange.asks(Arc::clone(&target), &parts.headers);
                forward::forward(self, call, (settings, generation), exchange, parts, body, (target, grant))
            }
            Admitted::Tunnel(target, grant) => {
                exchange.granted(&grant);
                exchange.asks(target.clone(), &parts.headers);
                let proxy = Arc::clone(self);
                Handling::slow(async move {
                    forward::connect(proxy, settings, exchange, parts, (target, grant)).await
                })
            }
            Admitted::Local(what) => {
                exchange.asks(local::shown(&parts.uri), &parts.headers);
                Handling::ready(local::answer(
                    &what,
                    exchange,
                    &parts,
                    has_content,
                    call.local,
                    &settings.pages,
                ))
            }
        }
    }
}

/// A request, and what holds for its exchange.
struct Received {
    settings: Arc<Settings>,
    generation: Generation,
    exchange: Exchange,
    parts: http::request::Parts,
    body: Body,
}

impl Received {
    fn has_content(&self) -> bool {
        !matches!(self.body, Body::Empty)
    }

    fn refused(self, refusal: Refusal) -> Handling {
        let has_content = self.has_content();
        let Self { mut exchange, parts, .. } = self;
        exchange.asks(local::shown(&parts.uri), &parts.headers);
        let accept = refusal::accept(&parts.headers);
        Handling::ready(refusal.answer(exchange, accept.as_ref(), has_content))
    }
}

/// hyper's service: one for each connection.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    proxy: Arc<Proxy>,
    link: Arc<Link>,
    peer: SocketAddr,
    local: SocketAddr,
}

impl hyper::service::Service<Request<Incoming>> for Call {
    type Response = Answer;
    type Error = Infallible;
    type Future = Handling;

    fn call(&self, request: Request<Incoming>) -> Handling {
        self.proxy.handle(self, request)
    }
}

/// A response that is there at once, or one that is awaited.
///
/// The first is not boxed although it is large: it moves once, into the box that hyper keeps for each
/// connection, and an allocation costs more than that.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Handling {
    /// What needs no await: hits, refusals, our own pages.
    Ready(Option<Answer>),
    /// Everything else.
    Slow(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Handling {
    fn ready(answer: Answer) -> Self {
        Self::Ready(Some(answer))
    }

    fn slow(answer: impl Future<Output = Answer> + Send + 'static) -> Self {
        Self::Slow(Box::pin(answer))
    }
}

impl Future for Handling {
    type Output = Result<Answer, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Ready(answer) => answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer))),
            Self::Slow(answer) => answer.as_mut().poll(cx).map(Ok),
        }
    }
}

/// Where fuzz targets come in.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::*;
    use crate::field::target::Target;
    use http::StatusCode;

    /// What the gate for requests says of one from `peer`: its target, if it goes on to one.
    pub fn admits(
        parts: &http::request::Parts,
        has_content: bool,
        peer: SocketAddr,
        now: Moment,
        settings: &Settings,
    ) -> Result<Option<Target>, StatusCode> {
        match admit(parts, has_content, peer, &Principal::NotAsked, now, settings) {
            Ok(Admitted::Forward(target, _) | Admitted::Tunnel(target, _)) => Ok(Some(target)),
            Ok(Admitted::Local(_)) => Ok(None),
            Err(refusal) => Err(refusal.story().status),
        }
    }

    /// What is told to who sends what hyper can't parse.
    pub fn unparsed(too_large: bool, says: &str, bytes: &[u8], options: &Options) -> StatusCode {
        unparsed::judge(too_large, says, bytes, options).story().status
    }

    /// Max-Forwards as it goes on.
    pub fn max_forwards(method: &Method, headers: &mut HeaderMap) -> Option<u64> {
        admit::decrement(method, headers);
        admit::max_forwards(headers)
    }
}

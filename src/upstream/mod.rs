//! The way to origins: names, connections, TLS, parents, and one exchange on them.
//!
//! ```text
//! send -> exchange -> pool (idle?) -> connect (resolve, guard, TCP, parent, TLS)
//!            |                              ^
//!            v                              dial (CONNECT)
//!         inspect (the one gate for responses) -> Received
//! ```
//! A connection's work (`driver`) is done by whoever waits for its answer, and then for the answer's body.
//! It knows nothing of caching, and says what failed in the terms of RFC 9209; what a client is told is not
//! decided here. Fields come in stripped for the origin and go out stripped for the client.

mod connect;
mod direct;
mod driver;
mod error;
mod exchange;
mod idle;
mod inbound;
mod inspect;
mod parent;
mod pool;
mod resolve;
mod stats;
#[cfg(test)]
mod tests;
mod tls;
mod tunnel;
mod upload;
mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use hyper::client::conn::http1;

pub use self::direct::Direct;
pub use self::error::UpstreamError;
pub use self::parent::{Parent, ParentError, no_proxy_from_env, parents_from_env};
pub use self::stats::{Bound, Stats};
pub use self::tls::{SetupError, check_ca_file};
pub use self::tunnel::Dialed;
pub use self::wire::{Stream, Wire};

use self::parent::Parents;
use self::pool::{Limits, Pool};
use self::resolve::Resolve;
use self::stats::Counters;
use self::tls::Tls;
use crate::access::Grant;
use crate::access::rules::Rule;
use crate::body::{Body, Buffered, Buffers};
use crate::clock::Clock;
use crate::field::target::{Host, Target};

/// hyper refuses a smaller read buffer.
const LEAST_HEAD: usize = 8 * 1024;

/// `upstream`'s figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `upstream.connect_timeout`: for TCP, a parent's tunnel and TLS together, and for waiting until a
    /// connection is free. Default 10 s.
    pub connect_timeout: Duration,
    /// `upstream.first_byte_timeout`: for the response head, since the request went out. Default 60 s.
    pub first_byte_timeout: Duration,
    /// `upstream.between_bytes_timeout`: for an origin that takes no more of a request or sends no more of a body.
    /// Default 60 s.
    pub between_bytes_timeout: Duration,
    /// `upstream.expect_timeout`: how long a body waits for the origin's 100. Default 1 s.
    pub expect_timeout: Duration,
    /// `upstream.idle_connections`: over all origins. Default 1024.
    pub idle_connections: usize,
    /// `upstream.idle_per_origin`. Default 64.
    pub idle_per_origin: usize,
    /// `upstream.idle_timeout`. Default 60 s.
    pub idle_timeout: Duration,
    /// `upstream.connections_per_origin`, idle ones included. Default 256.
    pub connections_per_origin: usize,
    /// `upstream.source_address`: addresses to dial from (at most one of each family).
    pub source_address: Vec<IpAddr>,
    /// `upstream.resolver`.
    pub resolver: Resolver,
    /// `upstream.nameservers`: instead of the system's; only with `hickory`.
    pub nameservers: Vec<SocketAddr>,
    /// `upstream.dns_min_ttl`: an answer is kept at least so long. Default 5 s.
    pub dns_min_ttl: Duration,
    /// `upstream.dns_max_ttl`: an answer is kept at most so long. Default 1 h.
    pub dns_max_ttl: Duration,
    /// `upstream.dns_negative_ttl`: how long a failure is kept. Default 10 s.
    pub dns_negative_ttl: Duration,
    /// `upstream.dns_timeout`: for a name, all tries together. Default 5 s.
    pub dns_timeout: Duration,
    /// `upstream.parents`: the first that can be reached; empty: direct.
    pub parents: Vec<Parent>,
    /// `upstream.no_proxy`: hosts that are reached directly (the grammar of `NO_PROXY`).
    pub no_proxy: Vec<String>,
    /// `upstream.ca_file`: PEM file of further roots.
    pub ca_file: Option<PathBuf>,
    /// `limits.response_head`: bytes. Default 64 KiB, at least 8 KiB.
    pub max_head: usize,
    /// `limits.response_fields`. Default 200.
    pub max_fields: usize,
    /// `limits.response_trailers`: bytes. Default 16 KiB.
    pub max_trailers: usize,
    /// `limits.interim`: interim responses before the final one. Default 10.
    pub max_interim: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(60),
            between_bytes_timeout: Duration::from_secs(60),
            expect_timeout: Duration::from_secs(1),
            idle_connections: 1024,
            idle_per_origin: 64,
            idle_timeout: Duration::from_secs(60),
            connections_per_origin: 256,
            source_address: Vec::new(),
            resolver: Resolver::Hickory,
            nameservers: Vec::new(),
            dns_min_ttl: Duration::from_secs(5),
            dns_max_ttl: Duration::from_secs(3600),
            dns_negative_ttl: Duration::from_secs(10),
            dns_timeout: Duration::from_secs(5),
            parents: Vec::new(),
            no_proxy: Vec::new(),
            ca_file: None,
            max_head: 64 * 1024,
            max_fields: 200,
            max_trailers: 16 * 1024,
            max_interim: 10,
        }
    }
}

/// How names are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// By hickory: resolv.conf and the hosts file, or the nameservers given; true TTLs, true time limits.
    Hickory,
    /// By the system's `getaddrinfo`, which tells no TTLs.
    System,
}

/// Told of each interim response that is to be relayed: its status, the version in which it came, and its fields,
/// stripped for the client.
pub type OnInterim = Arc<dyn Fn(StatusCode, Version, HeaderMap) + Send + Sync>;

/// Makes the fields of a request: once for each time that it is sent.
pub type Headers<'a> = dyn Fn() -> HeaderMap + Send + Sync + 'a;

/// One request to an origin.
pub struct Call<'a> {
    /// What is asked for. `Host` is set from its authority.
    pub target: &'a Target,
    /// The method.
    pub method: Method,
    /// End-to-end fields, stripped of what concerns the client's connection. `Expect` stays; our member of `Via` is
    /// among them.
    pub headers: &'a Headers<'a>,
    /// The body, its trailers stripped as the fields are.
    pub body: Body,
    /// Judges each address before it is dialled.
    pub grant: Grant,
    /// Takes interim responses; `None`: they are dropped. They count either way.
    pub on_interim: Option<OnInterim>,
    /// Fetches an `http` target over TLS (port 80 becomes 443).
    pub fetch_over_https: bool,
    /// Asks to switch to these protocols: the value of `Upgrade`.
    pub upgrade: Option<HeaderValue>,
}

/// The final response to a [`Call`].
pub struct Received {
    /// The status, 101 only if a switch was asked for.
    pub status: StatusCode,
    /// The version of the origin's message, for `Via`.
    pub version: Version,
    /// Its end-to-end fields. `Content-Length`, where there is one, is one plain number.
    pub headers: HeaderMap,
    /// Its body. Breaks off with an error if the origin's did.
    pub body: Body,
    /// The other end: the origin, or the parent.
    pub address: SocketAddr,
    /// The framing is exactly as RFC 9112 allows; otherwise nothing of it may be stored.
    pub framing_ok: bool,
    /// The body ends when the connection does: whether all of it came cannot be told.
    pub close_delimited: bool,
    /// `Content-Length`, where it counts. For HEAD and 304 it is what a GET would bring.
    pub content_length: Option<u64>,
    /// The connection after a 101. Downcasts to `TokioIo<Wire>`.
    pub upgraded: Option<hyper::upgrade::OnUpgrade>,
    /// The protocol that a 101 switches to: its `Upgrade` field, which `headers` no longer has.
    pub protocol: Option<HeaderValue>,
    /// Whether the connection had served before.
    pub reused: bool,
    /// What is buffered on its way, paid for: to be held until all of it has gone on.
    pub buffered: Option<Buffered>,
}

/// The way to origins. Clones share everything.
#[derive(Clone)]
pub struct Upstream(Arc<Shared>);

struct Shared {
    way: ArcSwap<Way>,
    clock: Clock,
    counters: Arc<Counters>,
    buffers: Buffers,
}

/// All that one set of options makes.
struct Way {
    options: Options,
    clock: Clock,
    counters: Arc<Counters>,
    resolver: Arc<Resolve>,
    tls: Tls,
    parents: Parents,
    pool: Arc<Pool>,
    engine: http1::Builder,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Upstream {
    /// Reads what the options name (roots, resolv.conf). Opens nothing. What is on its way through takes its place
    /// in `buffers`.
    pub fn new(options: Options, buffers: Buffers, clock: Clock) -> Result<Self, SetupError> {
        let counters = Arc::new(Counters::default());
        let way = Way::new(options, clock.clone(), Arc::clone(&counters), None)?;
        Ok(Self(Arc::new(Shared { way: ArcSwap::from_pointee(way), clock, counters, buffers })))
    }

    /// Puts other options in force for what begins from now on; on an error the old ones stay. Idle connections
    /// and remembered names are kept where the change does not concern them.
    pub fn reconfigure(&self, options: Options) -> Result<(), SetupError> {
        let old = self.0.way.load_full();
        if old.options != options || options.ca_file.is_some() {
            let way = Way::new(options, self.0.clock.clone(), Arc::clone(&self.0.counters), Some(&old))?;
            self.0.way.store(Arc::new(way));
        }
        Ok(())
    }

    /// Sends a request, of which it takes the body, and waits for the head of its final response: boxed, since whoever
    /// judges it hands it on.
    pub async fn send(&self, call: &mut Call<'_>) -> Result<Box<Received>, UpstreamError> {
        let way = self.0.way.load_full();
        exchange::send(&way, &self.0.buffers, call).await.inspect_err(|error| self.0.counters.failed(error))
    }

    /// Opens a connection for a client's CONNECT; through a parent, by a CONNECT to it, which carries `via`.
    pub async fn dial(
        &self,
        host: &Host,
        port: u16,
        via: &[HeaderValue],
        grant: &Grant,
    ) -> Result<Dialed, UpstreamError> {
        let way = self.0.way.load_full();
        let dialed = tunnel::dial(&way, host, port, via, grant).await;
        dialed.inspect_err(|error| self.0.counters.failed(error))
    }

    /// Judges where `host` leads now, without a connection: which rule allows one of its addresses, if one does. Where
    /// parents resolve names, what can be told by the name alone.
    pub async fn judge(&self, target: &Target, grant: &Grant) -> Result<Option<Arc<Rule>>, UpstreamError> {
        let way = self.0.way.load_full();
        connect::judge(&way, target, grant).await
    }

    /// Closes an idle connection where `error` says that descriptors have run out. False where that is no help.
    pub fn make_room(&self, error: &io::Error) -> bool {
        error::is_want(error) && self.0.way.load().pool.give_one_up()
    }

    /// Reads the counters.
    pub fn stats(&self) -> Stats {
        self.0.counters.read()
    }
}

impl Way {
    fn new(
        options: Options,
        clock: Clock,
        counters: Arc<Counters>,
        old: Option<&Self>,
    ) -> Result<Self, SetupError> {
        let parents = Parents::new(&options.parents, &options.no_proxy)?;
        let tls = Tls::new(options.ca_file.as_deref())?;
        let resolver = match old.filter(|old| same_names(&old.options, &options)) {
            Some(old) => Arc::clone(&old.resolver),
            None => Arc::new(Resolve::new(&options, clock.clone(), Arc::clone(&counters))?),
        };
        let pool = match old.filter(|old| same_connections(&old.options, &options)) {
            Some(old) => Arc::clone(&old.pool),
            None => Arc::new(Pool::new(limits(&options), clock.clone(), Arc::clone(&counters))),
        };
        let head = options.max_head.max(LEAST_HEAD);
        let mut engine = http1::Builder::new();
        // One more than allowed gets through, so that it is told as what it is.
        engine.max_headers(options.max_fields.saturating_add(1)).max_header_size(head).max_buf_size(head);
        Ok(Self { options, clock, counters, resolver, tls, parents, pool, engine })
    }
}

/// Whether remembered names hold under other options.
fn same_names(old: &Options, new: &Options) -> bool {
    let relevant = |o: &Options| {
        (o.resolver, o.nameservers.clone(), o.dns_min_ttl, o.dns_max_ttl, o.dns_negative_ttl, o.dns_timeout)
    };
    relevant(old) == relevant(new)
}

/// Whether open connections are what other options would open.
fn same_connections(old: &Options, new: &Options) -> bool {
    let relevant = |o: &Options| {
        let parents = (o.parents.clone(), o.source_address.clone(), o.ca_file.clone());
        (limits(o), parents, o.max_head, o.max_fields)
    };
    relevant(old) == relevant(new)
}

fn limits(options: &Options) -> Limits {
    Limits {
        idle_connections: options.idle_connections,
        idle_per_origin: options.idle_per_origin,
        idle_timeout: options.idle_timeout,
        connections_per_origin: options.connections_per_origin,
    }
}

/// Where fuzz targets come in.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::*;

    /// What a head that passed the gate for responses says of its framing.
    #[derive(Debug)]
    pub struct Framing {
        /// It is exactly what RFC 9112 allows.
        pub ok: bool,
        /// The connection must not be used again.
        pub close: bool,
        /// The body ends when the connection does.
        pub close_delimited: bool,
        /// `Content-Length`, where it counts.
        pub content_length: Option<u64>,
    }

    /// What the gate for responses says of a head, of which it leaves what may go on; `None` if it does not pass.
    pub fn passes(
        method: &Method,
        upgrade: bool,
        (status, version): (StatusCode, Version),
        headers: &mut HeaderMap,
    ) -> Option<Framing> {
        let asked = inspect::Asked { method, upgrade, max_fields: 200 };
        let seen = inspect::inspect(asked, status, version, headers).ok()?;
        Some(Framing {
            ok: seen.framing_ok,
            close: seen.close,
            close_delimited: seen.close_delimited,
            content_length: seen.content_length,
        })
    }

    /// Whether a member of `NO_PROXY` covers a host at a port.
    pub fn covers(member: &Direct, host: &Host, port: u16) -> bool {
        member.covers(host, port)
    }
}

//! Names to addresses, with a memory of our own that honours TTLs within bounds.
//!
//! A name is asked for once at a time, however many wait for it, and the question outlives those who asked.
//! What is remembered is bounded in number; failures are remembered too, for a shorter time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::{DnsError, NetError, runtime::TokioRuntimeProvider};
use hickory_resolver::proto::rr::RecordType;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::watch;

use super::stats::Counters;
use super::tls::SetupError;
use super::{Options, Resolver};
use crate::clock::{Clock, Stopwatch};
use crate::field::status::ProxyError;
use crate::field::text::Text;

/// Names remembered at most: some 200 bytes each, and no crowd of random names may grow it.
const REMEMBERED: u64 = 10_000;

/// Addresses of one name that are used: a name with more is no more reachable by them.
const ADDRESSES: usize = 32;

/// Names asked for over one connection to a name server at once.
const ASKED_AT_ONCE: usize = 1_024;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    V4,
    V6,
    /// Both in one question: the system's resolver cannot be asked otherwise.
    Both,
}

/// Why a name has no addresses.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: ProxyError,
    pub(super) what: Arc<str>,
}

type Answer = Result<Arc<[IpAddr]>, Failure>;

/// The resolver.
pub(super) struct Resolve {
    backend: Backend,
    known: Cache<Question, Arc<Slot>>,
    min_ttl: Duration,
    max_ttl: Duration,
    negative_ttl: Duration,
    timeout: Duration,
    clock: Clock,
    counters: Arc<Counters>,
}

enum Backend {
    Hickory(Box<TokioResolver>),
    System,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    name: Text,
    family: Family,
}

/// A question that is being asked, or its answer.
struct Slot {
    answer: watch::Sender<Option<(Answer, i64)>>,
    /// Monotonic milliseconds after which a question still open counts as lost.
    lost_at: i64,
}

impl Slot {
    fn is_stale(&self, now: i64) -> bool {
        self.answer.borrow().as_ref().map_or(self.lost_at, |(_, until)| *until) <= now
    }
}

impl Resolve {
    pub(super) fn new(options: &Options, clock: Clock, counters: Arc<Counters>) -> Result<Self, SetupError> {
        let backend = match options.resolver {
            Resolver::System => Backend::System,
            Resolver::Hickory => hickory(options)?,
        };
        Ok(Self {
            backend,
            known: Cache::builder().max_capacity(REMEMBERED).eviction_policy(EvictionPolicy::lru()).build(),
            min_ttl: options.dns_min_ttl,
            max_ttl: options.dns_max_ttl.max(options.dns_min_ttl),
            negative_ttl: options.dns_negative_ttl,
            timeout: options.dns_timeout,
            clock,
            counters,
        })
    }

    /// The questions that together tell all addresses of a name.
    pub(super) fn families(&self) -> &'static [Family] {
        match self.backend {
            Backend::Hickory(_) => &[Family::V6, Family::V4],
            Backend::System => &[Family::Both],
        }
    }

    /// The addresses of `name`, in the resolver's order. Never empty.
    pub(super) async fn lookup(self: Arc<Self>, name: Text, family: Family) -> Answer {
        if is_localhost(&name) {
            return Ok(loopback(family));
        }
        let now = self.clock.now().mono;
        let question = Question { name, family };
        let lost_at = now + self.timeout.as_millis() as i64 + 1_000;
        let remembered = self.known.get(&question).filter(|slot| !slot.is_stale(now));
        let slot = remembered.unwrap_or_else(|| {
            let fresh = || Arc::new(Slot { answer: watch::Sender::new(None), lost_at });
            let entry = self.known.entry_by_ref(&question).or_insert_with_if(fresh, |old| old.is_stale(now));
            if entry.is_fresh() {
                tokio::spawn(Arc::clone(&self).ask(question, Arc::clone(entry.value())));
            }
            entry.into_value()
        });
        if let Some((answer, _)) = &*slot.answer.borrow() {
            self.counters.dns_hits.fetch_add(1, Relaxed);
            return answer.clone();
        }
        let mut waiting = slot.answer.subscribe();
        let answered = tokio::time::timeout(self.timeout, waiting.wait_for(Option::is_some)).await;
        match answered {
            Ok(Ok(answer)) => match &*answer {
                Some((answer, _)) => answer.clone(),
                None => Err(self.timed_out()),
            },
            Ok(Err(_)) | Err(_) => Err(self.timed_out()),
        }
    }

    async fn ask(self: Arc<Self>, question: Question, slot: Arc<Slot>) {
        self.counters.dns_lookups.fetch_add(1, Relaxed);
        let asked = tokio::time::timeout(self.timeout, self.backend.ask(&question)).await;
        let answer = asked.unwrap_or_else(|_| Err(self.timed_out()));
        let (answer, ttl) = match answer {
            Ok((addresses, ttl)) => (Ok(addresses), ttl.clamp(self.min_ttl, self.max_ttl)),
            Err(failure) => {
                self.counters.dns_failures.fetch_add(1, Relaxed);
                (Err(failure), self.negative_ttl)
            }
        };
        let until = self.clock.now().mono.saturating_add(ttl.as_millis() as i64);
        slot.answer.send_replace(Some((answer, until)));
    }

    fn timed_out(&self) -> Failure {
        let what = format!("no answer from the name servers within {:?}", self.timeout);
        Failure { kind: ProxyError::DnsTimeout, what: what.into() }
    }
}

impl Backend {
    /// The addresses and how long they hold.
    async fn ask(&self, question: &Question) -> Result<(Arc<[IpAddr]>, Duration), Failure> {
        let (found, ttl): (Vec<IpAddr>, Duration) = match self {
            Self::Hickory(resolver) => {
                let kind = if question.family == Family::V6 { RecordType::AAAA } else { RecordType::A };
                let lookup = resolver.lookup(&*question.name, kind).await.map_err(|e| failure(&e))?;
                // `valid_until` is what the smallest TTL of the chain makes it.
                let ttl = lookup.valid_until().saturating_duration_since(Stopwatch::start().started());
                (lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect(), ttl)
            }
            Self::System => {
                let found = tokio::net::lookup_host((&*question.name, 0)).await.map_err(|e| Failure {
                    kind: ProxyError::DnsError,
                    what: format!("the system's resolver says: {e}").into(),
                })?;
                // getaddrinfo tells no TTL: the least one is assumed.
                (found.map(|address| address.ip()).collect(), Duration::ZERO)
            }
        };
        let mut addresses: Vec<IpAddr> = Vec::with_capacity(found.len().min(ADDRESSES));
        for ip in found {
            if addresses.len() < ADDRESSES && !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        if addresses.is_empty() {
            let what = "the name has no addresses".into();
            return Err(Failure { kind: ProxyError::DnsError, what });
        }
        Ok((addresses.into(), ttl))
    }
}

fn failure(error: &NetError) -> Failure {
    let (kind, what) = match error {
        NetError::Timeout => (ProxyError::DnsTimeout, "the name servers did not answer".to_owned()),
        NetError::Dns(DnsError::NoRecordsFound(_)) if error.is_nx_domain() => {
            (ProxyError::DnsError, "the name does not exist (NXDOMAIN)".to_owned())
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            (ProxyError::DnsError, format!("the name has no addresses ({})", none.response_code))
        }
        NetError::Dns(DnsError::ResponseCode(code)) => {
            (ProxyError::DnsError, format!("the name servers answered: {code}"))
        }
        other => (ProxyError::DnsError, format!("the name cannot be resolved: {other}")),
    };
    Failure { kind, what: what.into() }
}

fn hickory(options: &Options) -> Result<Backend, SetupError> {
    let mut builder = if options.nameservers.is_empty() {
        match TokioResolver::builder_tokio() {
            Ok(builder) => builder,
            Err(error) => {
                tracing::warn!(%error, "resolv.conf cannot be used: names are resolved by the system's resolver");
                return Ok(Backend::System);
            }
        }
    } else {
        let servers = options.nameservers.iter().map(|address| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            NameServerConfig::new(address.ip(), true, connections.to_vec())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let opts = builder.options_mut();
    // Ours is the memory, with bounds that the operator sets.
    opts.cache_size = 0;
    opts.max_active_requests = ASKED_AT_ONCE;
    // One lost packet must leave time for a second try.
    opts.timeout = opts.timeout.min(options.dns_timeout / 2).max(Duration::from_millis(100));
    builder
        .build()
        .map(|resolver| Backend::Hickory(Box::new(resolver)))
        .map_err(|error| SetupError::Resolver(error.to_string()))
}

/// RFC 6761 section 6.3: such names are loopback, and no name server is asked.
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

fn loopback(family: Family) -> Arc<[IpAddr]> {
    let (v6, v4) = (IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST));
    match family {
        Family::V4 => [v4].into(),
        Family::V6 => [v6].into(),
        Family::Both => [v6, v4].into(),
    }
}

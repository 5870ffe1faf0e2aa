//! What the way to origins counts by itself, read at a scrape. Counts per exchange come from its record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::UpstreamError;
use crate::field::status::ProxyError;

/// A limit on the way to origins that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `upstream.connect_timeout`
    ConnectTimeout,
    /// `upstream.first_byte_timeout`
    FirstByteTimeout,
    /// `upstream.between_bytes_timeout`
    BetweenBytesTimeout,
    /// `upstream.dns_timeout`
    DnsTimeout,
    /// `upstream.connections_per_origin`
    ConnectionsPerOrigin,
    /// `upstream.idle_connections`
    IdleConnections,
    /// `upstream.idle_per_origin`
    IdlePerOrigin,
    /// `limits.buffers`
    Buffers,
    /// `limits.response_head`
    ResponseHead,
    /// `limits.response_fields`
    ResponseFields,
    /// `limits.response_trailers`
    ResponseTrailers,
    /// `limits.interim`
    Interim,
}

impl Bound {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::ConnectTimeout,
        Self::FirstByteTimeout,
        Self::BetweenBytesTimeout,
        Self::DnsTimeout,
        Self::ConnectionsPerOrigin,
        Self::IdleConnections,
        Self::IdlePerOrigin,
        Self::Buffers,
        Self::ResponseHead,
        Self::ResponseFields,
        Self::ResponseTrailers,
        Self::Interim,
    ];

    /// Its key; what stands below `limits` without that.
    pub const fn token(self) -> &'static str {
        match self {
            Self::ConnectTimeout => "upstream.connect_timeout",
            Self::FirstByteTimeout => "upstream.first_byte_timeout",
            Self::BetweenBytesTimeout => "upstream.between_bytes_timeout",
            Self::DnsTimeout => "upstream.dns_timeout",
            Self::ConnectionsPerOrigin => "upstream.connections_per_origin",
            Self::IdleConnections => "upstream.idle_connections",
            Self::IdlePerOrigin => "upstream.idle_per_origin",
            Self::Buffers => "buffers",
            Self::ResponseHead => "response_head",
            Self::ResponseFields => "response_fields",
            Self::ResponseTrailers => "response_trailers",
            Self::Interim => "interim",
        }
    }
}

/// A reading of the counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections opened since the start, tunnels included.
    pub opened: u64,
    /// Requests that went out on a connection used before.
    pub reused: u64,
    /// Requests sent again on a new connection, since a reused one turned out dead.
    pub retried: u64,
    /// Connections of the pool that are open now, idle ones included.
    pub open: u64,
    /// Connections of the pool that wait for a request now.
    pub idle: u64,
    /// Questions asked to the resolver.
    pub dns_lookups: u64,
    /// Names answered from our own memory.
    pub dns_hits: u64,
    /// Questions that failed or timed out.
    pub dns_failures: u64,
    /// Failures by type, in the order of `ProxyError::ALL`; those that never happened included.
    pub errors: Vec<(ProxyError, u64)>,
    /// How often each limit was reached, in the order of `Bound::ALL`.
    pub reached: Vec<(Bound, u64)>,
    /// Bytes received from origins and parents on connections of the pool, after TLS.
    pub received: u64,
    /// Bytes sent on connections of the pool, before TLS.
    pub sent: u64,
}

impl Stats {
    /// Connections of the pool that carry an exchange now.
    pub fn active(&self) -> u64 {
        self.open.saturating_sub(self.idle)
    }
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) opened: AtomicU64,
    pub(super) reused: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) idle: AtomicU64,
    pub(super) dns_lookups: AtomicU64,
    pub(super) dns_hits: AtomicU64,
    pub(super) dns_failures: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    errors: [AtomicU64; ProxyError::ALL.len()],
    reached: [AtomicU64; Bound::ALL.len()],
}

impl Counters {
    /// Counts one failure, and the limit that it came from.
    pub(super) fn failed(&self, error: &UpstreamError) {
        if let Some(at) = ProxyError::ALL.iter().position(|known| *known == error.kind) {
            self.errors[at].fetch_add(1, Relaxed);
        }
        if let Some(bound) = error.bound {
            self.reached(bound);
        }
    }

    /// Counts that a limit was reached.
    pub(super) fn reached(&self, bound: Bound) {
        self.reached[bound as usize].fetch_add(1, Relaxed);
    }

    /// Reads them all.
    pub(super) fn read(&self) -> Stats {
        let errors = ProxyError::ALL.iter().zip(&self.errors).map(|(kind, n)| (*kind, n.load(Relaxed)));
        let reached = Bound::ALL.iter().zip(&self.reached).map(|(bound, n)| (*bound, n.load(Relaxed)));
        Stats {
            opened: self.opened.load(Relaxed),
            reused: self.reused.load(Relaxed),
            retried: self.retried.load(Relaxed),
            open: self.open.load(Relaxed),
            idle: self.idle.load(Relaxed),
            dns_lookups: self.dns_lookups.load(Relaxed),
            dns_hits: self.dns_hits.load(Relaxed),
            dns_failures: self.dns_failures.load(Relaxed),
            errors: errors.collect(),
            reached: reached.collect(),
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
        }
    }
}

/// Adds one to what is open for as long as it lives.
#[derive(Debug)]
pub(super) struct Open(Arc<Counters>);

impl Open {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// Adds one to what is idle for as long as it lives, so that the end of a whole pool is counted too.
#[derive(Debug)]
pub(super) struct Idling(Arc<Counters>);

impl Idling {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        counters.idle.fetch_add(1, Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Idling {
    fn drop(&mut self) {
        self.0.idle.fetch_sub(1, Relaxed);
    }
}

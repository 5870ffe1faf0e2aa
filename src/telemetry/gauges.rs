//! The figures of the parts outside exchanges: what the one who runs them gives at a scrape.

use crate::{store, upstream};
use serde::Serialize;
use std::collections::BTreeMap;

/// What the parts outside exchanges tell at a scrape. Whoever runs them fills it; what is left at its default
/// is shown as 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gauges {
    /// Whether requests are taken: false while starting and while draining.
    pub ready: bool,
    /// The store.
    pub store: StoreGauges,
    /// Connections to origins and names.
    pub upstream: UpstreamGauges,
    /// Listeners, connections of clients, limits.
    pub server: ServerGauges,
}

/// The store's figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StoreGauges {
    /// Stored responses.
    pub entries: u64,
    /// Bytes of everything that counts against the capacity.
    pub bytes: u64,
    /// Of these, bytes of stored responses.
    pub stored_bytes: u64,
    /// The bound on these bytes.
    pub capacity: u64,
    /// Fills under way.
    pub fills: u64,
    /// Since the start: responses stored, updates by a 304 among them.
    pub stored: u64,
    /// Since the start: stored responses that went to make room.
    pub evictions: u64,
    /// Since the start: responses not stored, being too large.
    pub too_large: u64,
    /// Since the start: responses not stored for want of room.
    pub no_room: u64,
    /// Since the start: responses not stored, overtaken by an invalidation or a purge.
    pub superseded: u64,
    /// Since the start: fills given up for a reason that is not the store's, by its token.
    pub given_up: BTreeMap<&'static str, u64>,
}

impl From<store::Stats> for StoreGauges {
    fn from(stats: store::Stats) -> Self {
        Self {
            entries: stats.entries,
            bytes: stats.bytes,
            stored_bytes: stats.stored_bytes,
            capacity: stats.capacity,
            fills: stats.filling,
            stored: stats.stored,
            evictions: stats.evicted,
            too_large: stats.too_large,
            no_room: stats.no_room,
            superseded: stats.superseded,
            given_up: BTreeMap::new(),
        }
    }
}

/// The figures of the way to origins.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UpstreamGauges {
    /// Connections that carry an exchange.
    pub active: u64,
    /// Connections in the pool.
    pub idle: u64,
    /// Since the start: connections opened, tunnels' included.
    pub opened: u64,
    /// Since the start: requests on a connection that had carried another before.
    pub reused: u64,
    /// Since the start: requests sent again on a new connection, a reused one being dead.
    pub retried: u64,
    /// Since the start: bytes sent to origins and parents, tunnels' not included.
    pub bytes_sent: u64,
    /// Since the start: bytes received from origins and parents, tunnels' not included.
    pub bytes_received: u64,
    /// Since the start: names asked of the resolver.
    pub dns_lookups: u64,
    /// Since the start: names answered from our own memory.
    pub dns_hits: u64,
    /// Since the start: lookups that failed or timed out.
    pub dns_failures: u64,
    /// Since the start: failures by the token of their type, fetches in the background among them.
    pub errors: BTreeMap<&'static str, u64>,
}

impl From<upstream::Stats> for UpstreamGauges {
    fn from(stats: upstream::Stats) -> Self {
        Self {
            active: stats.active(),
            idle: stats.idle,
            opened: stats.opened,
            reused: stats.reused,
            retried: stats.retried,
            bytes_sent: stats.sent,
            bytes_received: stats.received,
            dns_lookups: stats.dns_lookups,
            dns_hits: stats.dns_hits,
            dns_failures: stats.dns_failures,
            errors: stats.errors.iter().map(|(error, count)| (error.token(), *count)).collect(),
        }
    }
}

/// The figures of the side of the clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServerGauges {
    /// Connections open now.
    pub connections: u64,
    /// How many may be open: `limits.connections`.
    pub max_connections: u64,
    /// Tunnels open now.
    pub tunnels: u64,
    /// Exchanges collapsed or fetched right now.
    pub flights: u64,
    /// Refreshes, and fills that nobody reads, under way now.
    pub background: u64,
    /// Since the start: those that were not begun, or ended, since `limits.background` was reached.
    pub refused_background: u64,
    /// Since the start: connections accepted.
    pub accepted: u64,
    /// Since the start: connections refused since `limits.connections` was reached.
    pub refused_connections: u64,
    /// Since the start: connections refused since `limits.connections_per_client` was reached.
    pub refused_per_client: u64,
    /// Since the start: how often the other limits were reached, by key; without those that records tell of.
    pub limits: BTreeMap<&'static str, u64>,
    /// Since the start: how often accepting paused for want of descriptors.
    pub accept_pauses: u64,
    /// Bytes reserved for what is on its way between clients and origins.
    pub buffered: u64,
    /// The bound on these bytes.
    pub buffers: u64,
    /// Since the start: how often somebody waited for some of them.
    pub buffer_waits: u64,
}

//! The figures of the parts outside exchanges, read at a scrape.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::App;
use crate::telemetry::Gauges;
use crate::telemetry::metrics::{ServerGauges, StoreGauges};

pub(super) fn read(app: &App) -> Gauges {
    let counts = &app.counts;
    let buffers = app.buffers.stats();
    let given_up = app.cache.given_up().map(|(reason, count)| (reason.token(), count));
    Gauges {
        ready: false,
        store: StoreGauges { given_up: given_up.collect(), ..app.cache.store().stats().into() },
        upstream: app.upstream.stats().into(),
        server: ServerGauges {
            connections: counts.open.load(Ordering::Relaxed),
            max_connections: app.server.load().max_connections as u64,
            accepted: counts.accepted.load(Ordering::Relaxed),
            refused_connections: counts.refused.load(Ordering::Relaxed),
            refused_per_client: counts.refused_per_client.load(Ordering::Relaxed),
            limits: limits(app),
            accept_pauses: counts.pauses.load(Ordering::Relaxed),
            tunnels: app.proxy.counts().tunnels.load(Ordering::Relaxed),
            flights: app.cache.flights() as u64,
            background: app.cache.background() as u64,
            refused_background: app.cache.background_refused(),
            buffered: buffers.used,
            buffers: buffers.total,
            buffer_waits: buffers.waited,
        },
    }
}

/// How often the limits were reached that no record tells of, by key.
fn limits(app: &App) -> BTreeMap<&'static str, u64> {
    let upstream = app.upstream.stats().reached.into_iter().map(|(bound, count)| (bound.token(), count));
    let clients = app.proxy.counts().reached().map(|(late, count)| (late.token(), count)).collect::<Vec<_>>();
    let cache = [
        ("background", app.cache.background_refused()),
        ("cache.collapse_wait", app.cache.collapse_timeouts()),
    ];
    let mut limits = BTreeMap::new();
    for (limit, count) in upstream.chain(clients).chain(cache) {
        *limits.entry(limit).or_default() += count;
    }
    limits
}

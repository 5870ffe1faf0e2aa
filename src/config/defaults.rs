//! The built-in settings: what holds when nothing is said.
//!
//! Each part's own `Default`, and what only the whole process has. A test checks that the table of keys says the
//! same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::Settings;
use crate::{access, admin, body, cache, pages, policy, proxy, server, store, telemetry, upstream};

/// The port of the proxy: Squid's, by which such proxies are known.
const PORT: u16 = 3128;

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: server::Options {
                listen: listen(),
                listen_is_default: true,
                workers: workers(),
                max_connections: 10_000,
                max_connections_per_client: 256,
                drain: Duration::from_secs(30),
            },
            proxy: proxy::Options::default(),
            access: access::Options::default(),
            upstream: upstream::Options::default(),
            policy: policy::Options::default(),
            rules: Vec::new(),
            store: store::Options::default(),
            body: body::Options::default(),
            buffers: body::buffers::Options::default(),
            cache: cache::Options::default(),
            pages: pages::Options::default(),
            telemetry: telemetry::Options::default(),
            admin: admin::Options::default(),
        }
    }
}

/// Both loopback addresses.
pub(super) fn listen() -> Vec<SocketAddr> {
    vec![
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), PORT),
    ]
}

/// Open files for each thread that serves: it takes some of them itself.
const FILES: u64 = 64;

/// As many threads as the cores that the process may use, where it may open enough files.
pub(super) fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    cores.min(usize::try_from(files / FILES).unwrap_or(usize::MAX).max(1))
}

//! Listeners: bind, accept, count, and stop when the drain begins.

mod listener;

use std::net::SocketAddr;
use std::time::Duration;

pub use listener::{Bound, Counts, Listener, Listening, adopt, bind, cannot_listen, handed_over};

/// `server`'s settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `server.listen`. Restart. Default `127.0.0.1:3128` and `[::1]:3128`.
    pub listen: Vec<SocketAddr>,
    /// Whether `listen` is the default: then a missing `::1` is only a warning.
    pub listen_is_default: bool,
    /// `server.workers`: threads that serve ([`crate::worker`]). Restart. Default: the cores that the
    /// process may use, where it may open 64 files for each.
    pub workers: usize,
    /// `limits.connections`: open at once. Default 10,000.
    pub max_connections: usize,
    /// `limits.connections_per_client`: open at once from one address; loopback is exempt. Default 256.
    pub max_connections_per_client: usize,
    /// `server.drain`. Default 30 s.
    pub drain: Duration,
}

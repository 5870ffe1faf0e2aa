//! The keys about limits, the access log, the metrics and the admin listener.

use super::{Key, Setting, When, shown};
use crate::config::kinds::figures::{Count, Memory, Size, Switch};
use crate::config::kinds::names::{Address, HostName, HostSuffix, Secret};
use crate::config::kinds::{Kind, Many, Off, OneOf};
use crate::telemetry::Format;

/// `[limits]`.
pub(super) const LIMITS: &[Setting] = settings! {
    /// Connections of clients at one time.
    limits.connections: Count<1> = "10000", Live => server.max_connections;

    /// Connections of one client address at one time; loopback is exempt.
    limits.connections_per_client: Count<1> = "256", Live => server.max_connections_per_client;

    /// Requests of one client (an IPv4 address, or a /64 of IPv6) in a second, of which a second's worth may
    /// come at once; above it 429. "off": as many as come.
    limits.requests_per_client: Off<Count<1>> = r#""off""#, Live => proxy.requests_per_client;

    /// Bytes that one client gets in a second, over all its connections, tunnels too; more than a second's worth
    /// waits. "off": as many as come.
    limits.bytes_per_client: Off<Size<1024>> = r#""off""#, Live => proxy.bytes_per_client;

    /// What may run at one time for no client: refreshes of what was served stale, and fills that their last
    /// reader has left. Above it a refresh is put off to the next request, and such a fill ends. An origin gets
    /// a place as long as it holds fewer than are free, so that one alone has at most half of them.
    limits.background: Count<0> = "256", Live => cache.background;

    /// Bytes that those who read one body that is not stored may be apart, and that it is ahead of them.
    limits.buffer: Size<4096> = r#""64KiB""#, Live => body.window;

    /// Bytes of all that is on its way between clients and origins, a size or a share of what the process may
    /// use. Each direction of an exchange may take what follows from buffer, request_head and response_head
    /// (some 300KiB with the defaults), and much less while little comes. A request that finds nothing left
    /// waits for upstream.connect_timeout; then it is answered 503. While somebody waits, a client that takes
    /// nothing of its response for 5 s is cut off.
    limits.buffers: Memory = r#""25%""#, Restart => buffers.total;

    /// The longest request line; above it 414.
    limits.request_line: Size<64> = r#""8KiB""#, Live => proxy.max_request_line;

    /// The longest head of a request; above it 431.
    limits.request_head: Size<1024> = r#""64KiB""#, Live => proxy.max_head;

    /// Fields in a request; above it 431.
    limits.request_fields: Count<1> = "100", Live => proxy.max_fields;

    /// The longest head of a response; above it 502.
    limits.response_head: Size<8192> = r#""64KiB""#, Live => upstream.max_head;

    /// Fields in a response; above it 502.
    limits.response_fields: Count<1> = "200", Live => upstream.max_fields;

    /// Bytes of trailers in a response; above it the response breaks off.
    limits.response_trailers: Size<0> = r#""16KiB""#, Live => upstream.max_trailers;

    /// Interim (1xx) responses before a final one; above it 502.
    limits.interim: Count<0> = "10", Live => upstream.max_interim;
};

/// `[log]`.
pub(super) const LOG: &[Setting] = settings! {
    /// The format: "text", "json", "squid", "combined", or "off". "auto": text on a terminal, else
    /// JSON.
    log.access: OneOf<Format> = r#""auto""#, Live => telemetry.access;

    /// Whether queries are shown; otherwise a query shows as `?...`.
    log.query: Switch = "false", Live => telemetry.query;

    /// Lines that wait for a slow reader of the log before lines are dropped (and counted).
    log.queue: Count<1> = "8192", Live => telemetry.queue;
};

/// `[metrics]`.
pub(super) const METRICS: &[Setting] = settings! {
    /// Sites whose requests and bytes are counted by themselves: "name" exactly, ".name" with all below it
    /// in one. The first that fits counts; what fits none is counted as "other". A site that is counted
    /// stays so until the next start: a reload adds to the list. At most 1000 with first_sites. Whoever
    /// may scrape the metrics sees them.
    metrics.sites: Many<HostSuffix> = "[]", Live => telemetry.sites;

    /// How many other hosts are counted by themselves: the first that are answered by an origin or from
    /// the store, until the next start.
    metrics.first_sites: Count<0> = "0", Live => telemetry.first_sites;
};

/// `[admin]`.
pub(super) const ADMIN: &[Setting] = settings! {
    /// The address to listen on, or "off".
    admin.listen: Off<Address> = r#""127.0.0.1:9128""#, Restart => admin.listen;

    /// Names that a request's Host may have besides IP literals and localhost.
    admin.hosts: Many<HostName> = "[]", Live => admin.hosts;

    /// The token that changes, explanations and all that shows what clients ask for need when the listener is
    /// not on loopback, as `Authorization: Bearer`. "": none of these then.
    admin.token: Secret = r#""""#, Live => admin.token;
};

//! The keys about the way to origins.

use super::{Key, Setting, When, shown};
use crate::config::kinds::figures::{Count, Switch, Time};
use crate::config::kinds::names::{File, Ip, Nameserver, NoProxy, ParentUrl};
use crate::config::kinds::{Kind, Many, OneOf};
use crate::upstream::Resolver;

/// `[upstream]`.
pub(super) const UPSTREAM: &[Setting] = settings! {
    /// How long connecting to an origin may take.
    upstream.connect_timeout: Time<1> = r#""10s""#, Live => upstream.connect_timeout;

    /// How long an origin may take for the head of its response.
    upstream.first_byte_timeout: Time<1> = r#""60s""#, Live => upstream.first_byte_timeout;

    /// How long an origin may take nothing of a request, or send nothing of a body.
    upstream.between_bytes_timeout: Time<1> = r#""60s""#, Live => upstream.between_bytes_timeout;

    /// How long the body of a request with `Expect: 100-continue` waits for the origin's 100.
    upstream.expect_timeout: Time<0> = r#""1s""#, Live => upstream.expect_timeout;

    /// Idle connections kept for all origins together. Beyond, those used longest ago are closed.
    upstream.idle_connections: Count<0> = "1024", Live => upstream.idle_connections;

    /// Idle connections kept for an origin.
    upstream.idle_per_origin: Count<0> = "64", Live => upstream.idle_per_origin;

    /// How long an idle connection to an origin is kept. Shorter where the origin's Keep-Alive says so.
    upstream.idle_timeout: Time<1> = r#""60s""#, Live => upstream.idle_timeout;

    /// Connections to an origin at one time, idle ones counted.
    upstream.connections_per_origin: Count<1> = "256", Live => upstream.connections_per_origin;

    /// Addresses to dial from, at most one of each family. Empty: the system chooses.
    upstream.source_address: Many<Ip> = "[]", Live => upstream.source_address;

    /// How names are resolved: "hickory" (the system's name servers and hosts file, with their true
    /// TTLs) or "system" (getaddrinfo).
    upstream.resolver: OneOf<Resolver> = r#""hickory""#, Live => upstream.resolver;

    /// Name servers instead of the system's, for the resolver "hickory".
    upstream.nameservers: Many<Nameserver> = "[]", Live => upstream.nameservers;

    /// An answer of the name server is kept at least this long.
    upstream.dns_min_ttl: Time<0> = r#""5s""#, Live => upstream.dns_min_ttl;

    /// An answer of the name server is kept at most this long.
    upstream.dns_max_ttl: Time<0> = r#""1h""#, Live => upstream.dns_max_ttl;

    /// A failed resolution is kept this long.
    upstream.dns_negative_ttl: Time<0> = r#""10s""#, Live => upstream.dns_negative_ttl;

    /// How long a resolution may take.
    upstream.dns_timeout: Time<1> = r#""5s""#, Live => upstream.dns_timeout;

    /// Parent proxies, the first that answers is used: "http://user:password@proxy.example:3128", or
    /// https:// to speak TLS to it. Empty: origins are dialled directly.
    upstream.parents: Many<ParentUrl> = "[]", Live => upstream.parents;

    /// Hosts that are reached directly although there are parents, in the grammar of NO_PROXY.
    upstream.no_proxy: Many<NoProxy> = "[]", Live => upstream.no_proxy;

    /// Takes the parents from HTTPS_PROXY and HTTP_PROXY, and adds NO_PROXY to no_proxy; what cannot be
    /// read of the latter is left out with a warning. `larder run` does so unless the file says
    /// something of parents.
    upstream.from_environment: Switch = "false", Live => [from_environment] upstream.parents;

    /// A PEM file with certificate authorities to trust besides the system's. "": none.
    upstream.ca_file: File = r#""""#, Live => upstream.ca_file;
};

//! The keys about clients: where they connect, what they may do, and how they are treated.

use super::{Key, Setting, When, shown};
use crate::config::kinds::figures::{Count, Switch, Time};
use crate::config::kinds::names::{
    Address, File, HostSuffix, Net, NoProxy, PlainPorts, PortSet, Protocol, Realm, Token,
};
use crate::config::kinds::{Auto, Extending, Kind, Many, OneOf};
use crate::config::rule_keys::OneAccessRule;
use crate::proxy::ForwardedFor;

/// `[server]`.
pub(super) const SERVER: &[Setting] = settings! {
    /// Addresses to listen on; port 0 takes a free one. Where IPv6 is missing, the default's second
    /// address is only warned about. Sockets that systemd hands over stand for all of them.
    server.listen: Many<Address> = r#"["127.0.0.1:3128", "[::1]:3128"]"#, Restart => server.listen;

    /// Threads that serve, each with sockets and connections of its own. "auto": as many as the cores that the process may
    /// use, where it may open 64 files for each.
    server.workers: Auto<Count<1>> = r#""auto""#, Restart => [workers] server.workers;

    /// How long running exchanges and tunnels may take to finish after SIGTERM.
    server.drain: Time<0> = r#""30s""#, Live => server.drain;
};

/// `[access]`.
pub(super) const ACCESS: &[Setting] = settings! {
    /// Networks whose clients are served, besides loopback. "auto": none, and when listening elsewhere
    /// than on loopback the private and link-local networks; ["auto", "192.0.2.7"] adds to these.
    access.clients: Extending<Net> = r#""auto""#, Live => access.clients;

    /// Ports that CONNECT may reach: "any", or a list such as [443, "8000-8999"].
    access.connect_ports: PortSet = "[443]", Live => access.connect_ports;

    /// Ports that other requests may reach: "any" or a list. "auto": 80, 443 for https targets, and
    /// 1024 and above, less the ports that browsers refuse; ["auto", 22] adds to these.
    access.ports: PlainPorts = r#""auto""#, Live => access.ports;

    /// Whether destinations on loopback, link-local, private and other special networks may be reached.
    /// Judged on the address that is dialled.
    access.allow_private: Switch = "false", Live => access.allow_private;

    /// Networks that may be reached besides public ones, such as ["10.0.0.0/8"].
    access.allow_destinations: Many<Net> = "[]", Live => access.allow_destinations;

    /// Hosts that may be reached whatever their address: "name" exactly, ".name" with all below it.
    access.allow_hosts: Many<HostSuffix> = "[]", Live => access.allow_hosts;

    /// Users who alone are served, with hashes of their passwords: a file as htpasswd -B writes it, read
    /// again by a reload. "": nobody has to say who it is, unless for access.digest_file.
    access.basic_file: File = r#""""#, Live => access.authentication.basic_file;

    /// The same for Digest, which sends no password: lines user:realm:HA1, as larder htdigest writes them.
    access.digest_file: File = r#""""#, Live => access.authentication.digest_file;

    /// What users are asked for a password of. The lines of access.digest_file hold for one realm.
    access.realm: Realm = r#""larder""#, Live => access.authentication.realm;

    /// Whether TRACE goes on to origins; otherwise it is answered 405.
    access.trace: Switch = "false", Live => access.trace;

    /// Rules, none by default: the first that matches decides, and all that it says must match. What no
    /// rule matches is decided by the keys above alone.
    access.rules: Many<OneAccessRule> = "[]", Live => access.rules;
};

/// `[proxy]`.
pub(super) const PROXY: &[Setting] = settings! {
    /// The pseudonym in Via, by which loops are detected. "auto": a random one at each start.
    proxy.via: Auto<Token> = r#""auto""#, Live => proxy.via;

    /// X-Forwarded-For towards origins: "delete" it, "keep" what the client sent, or "add" the client's
    /// address.
    proxy.forwarded_for: OneOf<ForwardedFor> = r#""delete""#, Live => proxy.forwarded_for;

    /// Protocols for which an Upgrade request passes: one without a version in any, "foo/1" in that one.
    /// Never "h2c".
    proxy.upgrades: Many<Protocol> = r#"["websocket"]"#, Live => proxy.upgrades;

    /// A tunnel through which nothing has passed for this long is closed.
    proxy.tunnel_idle: Time<1> = r#""15min""#, Live => proxy.tunnel_idle;

    /// How long a client may take for the head of a request.
    proxy.head_timeout: Time<1> = r#""10s""#, Live => proxy.head_timeout;

    /// How long a client's connection may wait for its next request.
    proxy.idle_timeout: Time<1> = r#""60s""#, Live => proxy.idle_timeout;

    /// How long a client may send nothing of a body, or take nothing of a response.
    proxy.between_bytes_timeout: Time<1> = r#""60s""#, Live => proxy.between_bytes_timeout;
};

/// `[pac]`.
pub(super) const PAC: &[Setting] = settings! {
    /// Hosts that clients are to reach directly, besides those on their own machine and in private
    /// networks, in the grammar of NO_PROXY.
    pac.direct: Many<NoProxy> = "[]", Live => pages.direct;
};

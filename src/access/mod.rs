//! Who may do what: clients, users, ports, destinations.
//!
//! Every refusal is a [`Denied`] that names its rule and the line that would change it. Destinations are judged by the
//! address that is really dialled, never by name, so that no spelling, no answer of a name server and no change of it
//! gets around. Nothing here waits; the only looks outside are whether an address is one of this machine's, and at files
//! of users when they are loaded.
pub mod authentication;
pub mod destination;
pub mod hours;
pub mod ports;
pub mod rate;
pub mod rules;

use crate::access::destination::{Class, Faces};
use crate::field::target::{Host, Scheme};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

pub use crate::access::ports::Ports;
pub use crate::access::rules::{Asked, Decision, Grant};

/// What is allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// `access.clients`: networks of clients besides loopback. By default none, and when a listener is not on loopback private and link-local networks.
    pub clients: Allowed<Vec<IpNet>>,
    /// `access.connect_ports`: ports for CONNECT. Default `[443]`.
    pub connect_ports: Ports,
    /// `access.ports`: ports for plain requests. By default 80 and 1024 up, and 443 for https, less the browsers' bad-port list.
    pub ports: Allowed<Ports>,
    /// `access.allow_private`: any destination address.
    pub allow_private: bool,
    /// `access.allow_destinations`: networks allowed besides public ones.
    pub allow_destinations: Vec<IpNet>,
    /// `access.allow_hosts`: hosts whose addresses are not judged (exact, or `.suffix`).
    pub allow_hosts: Vec<String>,
    /// Who clients have to say they are.
    pub authentication: authentication::Options,
    /// `access.trace`: whether TRACE goes on to origins. Default false.
    pub trace: bool,
    /// `access.rules`, in the order of the file: the first that matches decides.
    pub rules: Vec<rules::Rule>,
}

/// What is listed, and whether what is allowed by default is so beside it: `"auto"`, by itself or in the list. So
/// a list can add without taking away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed<T> {
    /// Whether the default holds too.
    pub auto: bool,
    /// What is listed.
    pub listed: T,
}

impl<T> Allowed<T> {
    /// What is listed, and nothing else.
    pub fn only(listed: T) -> Self {
        Self { auto: false, listed }
    }

    /// The list as it would be written with `more` in it.
    fn with(&self, listed: Vec<String>, more: String) -> String {
        let auto = self.auto.then(|| "\"auto\"".to_owned());
        auto.into_iter().chain(listed).chain([more]).collect::<Vec<_>>().join(", ")
    }
}

impl Default for Allowed<Vec<IpNet>> {
    fn default() -> Self {
        Self { auto: true, listed: Vec::new() }
    }
}

impl Default for Allowed<Ports> {
    fn default() -> Self {
        Self { auto: true, listed: Ports::NONE }
    }
}

/// The names of all rules that refuse: a closed set, for the metrics.
pub const RULES: &[&str] = &[
    CLIENT,
    authentication::RULE,
    authentication::LIMIT_RULE,
    CONNECT_PORT,
    PORT,
    DESTINATION_SELF,
    Class::Loopback.rule(),
    Class::Own.rule(),
    Class::LinkLocal.rule(),
    Class::Private.rule(),
    Class::Reserved.rule(),
];

const CLIENT: &str = "client";
pub(crate) const CONNECT_PORT: &str = "connect-port";
const PORT: &str = "port";
const DESTINATION_SELF: &str = "destination-self";

/// The name of a rule: one of [`RULES`], or one of the configuration's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleName {
    /// One of [`RULES`].
    Own(&'static str),
    /// What `access.rules` calls it.
    Given(Arc<str>),
}

impl Deref for RuleName {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Own(name) => name,
            Self::Given(name) => name,
        }
    }
}

impl std::fmt::Display for RuleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

/// A refusal: by which rule, of what, and what would allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (rule {rule}; allowed by: {allow})")]
pub struct Denied {
    /// The rule.
    pub rule: RuleName,
    /// A sentence without its full stop: what was refused, and why.
    pub what: String,
    /// The flag or the line of the configuration that would allow it.
    pub allow: String,
}

/// What is allowed, with what is known of this proxy itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    options: Options,
    /// Of the options', as they are looked up.
    rules: rules::Rules,
    /// The listeners' addresses, the admin listener's too. IPv4 as such, never mapped.
    own: Vec<SocketAddr>,
}

impl Access {
    /// `own`: the bound addresses of all our listeners.
    pub fn new(options: Options, own: Vec<SocketAddr>) -> Self {
        let own = own.into_iter().map(|at| SocketAddr::new(at.ip().to_canonical(), at.port())).collect();
        let rules = rules::Rules::new(options.rules.clone());
        Self { options, rules, own }
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether `peer` may use the proxy for something, so that it is worth to look at what it asks for.
    pub fn door(&self, peer: IpAddr, listens_beyond_loopback: bool) -> Result<(), Denied> {
        self.client(peer, listens_beyond_loopback)
            .or_else(|denied| if self.rules.lets_in(peer.to_canonical()) { Ok(()) } else { Err(denied) })
    }

    /// May `peer` use the proxy? `listens_beyond_loopback`: whether a listener is on another address than loopback.
    pub fn client(&self, peer: IpAddr, listens_beyond_loopback: bool) -> Result<(), Denied> {
        let peer = peer.to_canonical();
        let clients = &self.options.clients;
        if peer.is_loopback()
            || clients.listed.iter().any(|network| network.contains(&peer))
            || (clients.auto && listens_beyond_loopback && destination::is_local_network(peer))
        {
            return Ok(());
        }
        let line = clients.with(quoted(&clients.listed), format!("\"{}\"", IpNet::from(peer)));
        Err(Denied {
            rule: RuleName::Own(CLIENT),
            what: format!("clients from {peer} may not use this proxy"),
            allow: format!("access.clients = [{line}], or a wider network"),
        })
    }

    /// May CONNECT go to this port?
    pub fn connect_port(&self, port: u16) -> Result<(), Denied> {
        let ports = &self.options.connect_ports;
        if ports.contains(port) {
            return Ok(());
        }
        Err(Denied {
            rule: RuleName::Own(CONNECT_PORT),
            what: format!("CONNECT to port {port} is not allowed"),
            allow: format!(
                "--connect-ports {}, or access.connect_ports = [{}]",
                ports.with(port).join(",").replace('"', ""),
                ports.with(port).join(", ")
            ),
        })
    }

    /// May a plain request (not CONNECT) go to this port?
    pub fn port(&self, scheme: Scheme, port: u16) -> Result<(), Denied> {
        let ports = &self.options.ports;
        if ports.listed.contains(port) || (ports.auto && ports::is_default(scheme, port)) {
            return Ok(());
        }
        let list = ports.with(ports.listed.written(), port.to_string());
        let scheme = scheme.as_str();
        Err(Denied {
            rule: RuleName::Own(PORT),
            what: format!("{scheme} requests to port {port} are not allowed"),
            allow: format!("access.ports = [{list}]"),
        })
    }

    /// May `address` be dialled for `host`, when no rule says anything? Judged by the address.
    pub fn destination(&self, host: &Host, address: SocketAddr) -> Result<(), Denied> {
        let faces = Faces::of(address.ip());
        self.not_ourselves(host, faces, address)?;
        self.judged(host, faces, address)
    }

    /// Our own listeners are refused whatever the settings: behind them is a loop, or the admin listener.
    fn not_ourselves(&self, host: &Host, faces: Faces, address: SocketAddr) -> Result<(), Denied> {
        let reached =
            |own: &&SocketAddr| faces.iter().any(|ip| destination::reaches(**own, ip, address.port()));
        match self.own.iter().find(reached) {
            None => Ok(()),
            Some(own) => Err(Denied {
                rule: RuleName::Own(DESTINATION_SELF),
                what: format!("{} is this proxy's own listener {own}", shown(host, address)),
                allow: "nothing: it would be a loop".to_owned(),
            }),
        }
    }

    /// Is `address` a public one, or one that is allowed?
    fn judged(&self, host: &Host, faces: Faces, address: SocketAddr) -> Result<(), Denied> {
        if self.options.allow_private || self.options.allow_hosts.iter().any(|pattern| host.matches(pattern))
        {
            return Ok(());
        }
        let allowed =
            |ip: IpAddr| self.options.allow_destinations.iter().any(|network| network.contains(&ip));
        if allowed(faces.whole()) {
            return Ok(());
        }
        match faces.iter().filter(|ip| !allowed(*ip)).find_map(|ip| Class::of(ip).map(|class| (ip, class))) {
            None => Ok(()),
            Some((ip, class)) => {
                let mut networks = quoted(&self.options.allow_destinations);
                networks.push(format!("\"{}\"", IpNet::from(faces.whole())));
                let mut hosts = quoted(&self.options.allow_hosts);
                hosts.push(format!("\"{host}\""));
                Err(Denied {
                    rule: RuleName::Own(class.rule()),
                    what: format!("{} {}", shown(host, address), class.says(ip)),
                    allow: format!(
                        "--allow-private, access.allow_destinations = [{}], or access.allow_hosts = [{}]",
                        networks.join(", "),
                        hosts.join(", ")
                    ),
                })
            }
        }
    }
}

/// As members of a list in TOML. Neither networks nor hosts hold what would have to be escaped.
fn quoted(members: &[impl ToString]) -> Vec<String> {
    members.iter().map(|member| format!("\"{}\"", member.to_string())).collect()
}

/// The host as asked for, and its address where that is not the same.
fn shown(host: &Host, address: SocketAddr) -> String {
    match host {
        Host::Name(name) => format!("{name} (address {address})"),
        Host::Ip(_) => address.to_string(),
    }
}

#[cfg(test)]
mod tests;

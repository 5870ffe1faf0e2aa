//! Hosts that are reached directly, without a proxy: the members of `NO_PROXY`. One grammar for what this proxy does
//! with its parents, and for what it tells its own clients to do.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::parent::host_and_port;
use crate::field::target::Host;

/// One member of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Direct {
    /// `*`
    All,
    /// `10.0.0.0/8`, `::1`
    Network(IpNet, Option<u16>),
    /// `example.com[:port]`: the host and what is below it. `.example.com`: only what is below.
    Name {
        /// In lower case, without the dot in front.
        name: Box<str>,
        /// Whether the name itself is left out.
        only_below: bool,
        /// `None`: any.
        port: Option<u16>,
    },
}

impl Direct {
    /// Reads a member; `None`: it is none.
    pub fn parse(member: &str) -> Option<Self> {
        let member = member.trim().to_ascii_lowercase();
        if member == "*" {
            return Some(Self::All);
        }
        if let Ok(network) = member.parse::<IpNet>() {
            return Some(Self::Network(network, None));
        }
        if let Ok(ip) = member.parse::<IpAddr>() {
            return Some(Self::Network(ip.into(), None));
        }
        let below = member.strip_prefix("*.").or_else(|| member.strip_prefix('.'));
        let (host, port) = host_and_port(below.unwrap_or(&member)).ok()?;
        match host.parse::<IpAddr>() {
            Ok(ip) => Some(Self::Network(ip.into(), port)),
            Err(_) => Some(Self::Name { name: host.into(), only_below: below.is_some(), port }),
        }
    }

    /// Whether a host is reached directly at this port.
    pub(super) fn covers(&self, host: &Host, to: u16) -> bool {
        match (self, host) {
            (Self::All, _) => true,
            (Self::Network(network, port), Host::Ip(ip)) => {
                port.is_none_or(|port| port == to) && network.contains(ip)
            }
            (Self::Name { name, only_below, port }, Host::Name(host)) => {
                let host = host.trim_end_matches('.');
                let below = host.strip_suffix(&**name).is_some_and(|rest| rest.ends_with('.'));
                port.is_none_or(|port| port == to) && (below || (!only_below && host == &**name))
            }
            (Self::Network(..), Host::Name(_)) | (Self::Name { .. }, Host::Ip(_)) => false,
        }
    }
}

impl fmt::Display for Direct {
    /// As it stands in `NO_PROXY`: `.example.com`, and an address without its whole length as a prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = match self {
            Self::All => return f.write_str("*"),
            Self::Name { name, only_below, port } => {
                write!(f, "{}{name}", if *only_below { "." } else { "" })?;
                port
            }
            Self::Network(network, port) if network.prefix_len() < network.max_prefix_len() => {
                write!(f, "{network}")?;
                port
            }
            Self::Network(network, port) => {
                match (network.addr(), port) {
                    (IpAddr::V6(ip), Some(_)) => write!(f, "[{ip}]")?,
                    (ip, _) => write!(f, "{ip}")?,
                }
                port
            }
        };
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_shown_as_it_is_read() {
        for (given, shown) in [
            ("*", "*"),
            ("Example.com", "example.com"),
            ("*.example.com:8080", ".example.com:8080"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3:80", "10.1.2.3:80"),
            ("::1", "::1"),
            ("[::1]:80", "[::1]:80"),
        ] {
            let member = Direct::parse(given).unwrap();
            assert_eq!(member.to_string(), shown);
            assert_eq!(Direct::parse(shown), Some(member));
        }
    }
}

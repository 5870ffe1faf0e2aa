//! The PAC file, and the hosts that clients are told to reach directly.
use crate::pages::{Here, response};
use crate::upstream::Direct;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};

/// `pages`' settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// `pac.direct`: hosts that clients reach without this proxy, besides those on their own machine and network.
    pub direct: Vec<Direct>,
}

/// What is on the client's machine or in a private network, and so refused by default ([`crate::access`]), in the grammar
/// of `NO_PROXY`. The two addresses are for programs that know no networks there.
const LOCAL: [&str; 14] = [
    "localhost",
    ".local",
    "127.0.0.1",
    "::1",
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "0.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
];

impl Options {
    /// All hosts that clients reach directly.
    fn all(&self) -> impl Iterator<Item = Direct> + '_ {
        LOCAL.iter().filter_map(|local| Direct::parse(local)).chain(self.direct.iter().cloned())
    }

    /// The same as the value of `NO_PROXY`.
    pub fn no_proxy(&self) -> String {
        self.all().map(|host| host.to_string()).collect::<Vec<_>>().join(",")
    }
}

/// Whether a path asks for the PAC file.
pub fn is_pac(path: &str) -> bool {
    matches!(path, "/proxy.pac" | "/wpad.dat")
}

/// The PAC file. What is on this machine, in a private network or configured goes direct, as far as it can be told
/// without asking a name server; so does everything when the proxy does not answer.
pub fn pac(here: &Here<'_>, options: &Options) -> Response<Bytes> {
    let (mut names, mut networks) = (Vec::new(), Vec::new());
    for host in options.all() {
        match host {
            Direct::All => names.push(("*".to_owned(), 0)),
            Direct::Name { port, .. } => {
                let whole = host.to_string();
                // A host name has no colon.
                let name = whole.split(':').next().unwrap_or_default();
                names.push((name.to_owned(), port.unwrap_or(0)));
            }
            Direct::Network(network, port) => networks.push((network.to_string(), port.unwrap_or(0))),
        }
    }
    // Texts and numbers always can be written.
    let list = |members: &[(String, u16)]| serde_json::to_string(members).unwrap_or_else(|_| "[]".to_owned());
    let body = include_str!("proxy.pac")
        // An authority is letters, digits and `.:[]-_`: nothing that could leave the quotes.
        .replace("@AT@", &here.authority())
        .replace("@NAMES@", &list(&names))
        .replace("@NETWORKS@", &list(&networks));
    response(StatusCode::OK, HeaderValue::from_static("application/x-ns-proxy-autoconfig"), body)
}

//! Parent proxies: which one a target goes through, if any, and how they are written down.

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::direct::Direct;
use super::tls::SetupError;
use crate::field::target::{Host, Scheme};

/// How long a parent that could not be reached is passed over, in milliseconds: long enough that not every
/// request waits for a dead one, short enough that it is soon found again.
const PASSED_OVER: i64 = 10_000;

/// A parent proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Parent {
    /// Whether the proxy itself is spoken to over TLS.
    pub tls: bool,
    /// Its name or address (IPv6 without brackets).
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password for Basic `Proxy-Authorization`.
    pub credentials: Option<(String, String)>,
    /// Only for targets of this scheme; `None`: for all.
    pub serves: Option<Scheme>,
}

impl std::fmt::Debug for Parent {
    /// As a URL without the credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let user = if self.credentials.is_some() { "***@" } else { "" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{user}{open}{}{close}:{}", self.host, self.port)
    }
}

/// What is wrong with a parent's URL. Never shows credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParentError {
    /// Neither `http` nor `https`.
    #[error("a parent is spoken to over http or https, not {0:?}")]
    Scheme(String),
    /// No host, or one with bytes that a host cannot have.
    #[error("expected http://[user:password@]host[:port], found the host {0:?}")]
    Host(String),
    /// A path, query or fragment, which a proxy has none of.
    #[error("expected nothing behind a parent's host and port, found {0:?}")]
    Path(String),
    /// Not a port.
    #[error("expected a port from 1 to 65535, found {0:?}")]
    Port(String),
    /// A percent sign without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("the user or password is not well percent-encoded")]
    Credentials,
}

impl Parent {
    /// Reads `[http[s]://][user[:password]@]host[:port][/]`. Without a port it is the scheme's.
    pub fn parse(url: &str) -> Result<Self, ParentError> {
        let (scheme, rest) = url.trim().split_once("://").unwrap_or(("http", url.trim()));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(ParentError::Scheme(scheme.to_owned())),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(path, "" | "/") {
            return Err(ParentError::Path(path.to_owned()));
        }
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let credentials = match user {
            Some(user) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                Some((percent_decoded(name)?, percent_decoded(password)?))
            }
            None => None,
        };
        let (host, port) = host_and_port(place)?;
        Ok(Self { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }), credentials, serves: None })
    }

    /// The value of `Proxy-Authorization`. RFC 7617 section 2.
    fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = self.credentials.as_ref()?;
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut value = HeaderValue::try_from(basic).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

pub(super) fn host_and_port(place: &str) -> Result<(String, Option<u16>), ParentError> {
    let wrong = || ParentError::Host(place.to_owned());
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
        (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) })
    } else {
        place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)))
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    if host.is_empty() || !host.bytes().all(legal) {
        return Err(wrong());
    }
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => Some(self::port(port).ok_or_else(|| ParentError::Port(port.to_owned()))?),
        None => None,
    };
    Ok((host.to_ascii_lowercase(), port))
}

fn port(digits: &str) -> Option<u16> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|port| *port != 0)
}

fn percent_decoded(text: &str) -> Result<String, ParentError> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).ok_or(ParentError::Credentials);
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' { (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8 } else { byte });
    }
    String::from_utf8(out).map_err(|_| ParentError::Credentials)
}

/// The parents and the `NO_PROXY` list that the environment names, by the customs of curl: `http_proxy` in
/// lower case comes first, and upper-case `HTTP_PROXY` counts since this is no CGI program.
pub fn parents_from_env(
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<(Vec<Parent>, Vec<String>), ParentError> {
    let mut parents = Vec::new();
    for (name, serves) in [("http_proxy", Scheme::Http), ("https_proxy", Scheme::Https)] {
        if let Some(url) = variable(&lookup, name) {
            parents.push(Parent { serves: Some(serves), ..Parent::parse(&url)? });
        }
    }
    if let [first, second] = parents.as_mut_slice()
        && (Parent { serves: None, ..first.clone() }) == (Parent { serves: None, ..second.clone() })
    {
        first.serves = None;
        parents.truncate(1);
    }
    Ok((parents, no_proxy_from_env(lookup)))
}

/// The members of `NO_PROXY` alone, as they are.
pub fn no_proxy_from_env(lookup: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let list = variable(lookup, "no_proxy").unwrap_or_default();
    let members = list.split(|c: char| c == ',' || c.is_whitespace());
    members.filter(|member| !member.is_empty()).map(str::to_owned).collect()
}

/// A variable in lower case, else in upper case; an empty one says nothing.
fn variable(lookup: impl Fn(&str) -> Option<String>, lower: &str) -> Option<String> {
    lookup(lower).or_else(|| lookup(&lower.to_ascii_uppercase())).filter(|value| !value.trim().is_empty())
}

/// One parent in use.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) authorization: Option<HeaderValue>,
    serves: Option<Scheme>,
    /// Monotonic milliseconds until which it is passed over.
    down_until: AtomicI64,
}

impl Route {
    /// Passes it over for a while.
    pub(super) fn failed(&self, now: i64) {
        self.down_until.store(now.saturating_add(PASSED_OVER), Relaxed);
    }

    /// Whether it is passed over.
    pub(super) fn is_down(&self, now: i64) -> bool {
        self.down_until.load(Relaxed) > now
    }

    /// `host:port`, for messages.
    pub(super) fn name(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// `host:port`, IPv6 in brackets.
pub(super) fn authority(host: &Host, port: u16) -> String {
    match host {
        Host::Name(name) => format!("{name}:{port}"),
        Host::Ip(IpAddr::V4(ip)) => format!("{ip}:{port}"),
        Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
    }
}

/// All parents, and who goes without.
#[derive(Debug)]
pub(super) struct Parents {
    routes: Vec<Route>,
    direct: Vec<Direct>,
}

impl Parents {
    pub(super) fn new(parents: &[Parent], no_proxy: &[String]) -> Result<Self, SetupError> {
        let route = |parent: &Parent| {
            let host = match parent.host.parse::<IpAddr>() {
                Ok(ip) => Host::Ip(ip),
                Err(_) if parent.host.is_empty() => return Err(SetupError::ParentHost(parent.host.clone())),
                Err(_) => Host::Name(parent.host.to_ascii_lowercase().into()),
            };
            Ok(Route {
                host,
                port: parent.port,
                tls: parent.tls,
                authorization: parent.authorization(),
                serves: parent.serves,
                down_until: AtomicI64::new(i64::MIN),
            })
        };
        let direct =
            |member: &String| Direct::parse(member).ok_or_else(|| SetupError::NoProxy(member.clone()));
        Ok(Self {
            routes: parents.iter().map(route).collect::<Result<_, _>>()?,
            direct: no_proxy.iter().map(direct).collect::<Result<_, _>>()?,
        })
    }

    /// The parents to try, in order: those that were reachable of late first. Empty: direct.
    pub(super) fn routes(
        &self,
        scheme: Scheme,
        host: &Host,
        port: u16,
        now: impl FnOnce() -> i64,
    ) -> Vec<usize> {
        if self.routes.is_empty() || self.direct.iter().any(|member| member.covers(host, port)) {
            return Vec::new();
        }
        let serves = |at: &usize| self.routes[*at].serves.is_none_or(|serves| serves == scheme);
        let mut routes: Vec<usize> = (0..self.routes.len()).filter(serves).collect();
        let now = now();
        routes.sort_by_key(|at| self.routes[*at].is_down(now));
        routes
    }

    pub(super) fn get(&self, at: usize) -> Option<&Route> {
        self.routes.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read<'a> = (bool, &'a str, u16, Option<(&'a str, &'a str)>);

    #[track_caller]
    fn check_parse(url: &str, expected: Result<Read<'_>, &str>) {
        let found = Parent::parse(url);
        match (&found, expected) {
            (Ok(parent), Ok((tls, host, port, credentials))) => {
                let credentials = credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
                assert_eq!(
                    (parent.tls, parent.host.as_str(), parent.port, &parent.credentials),
                    (tls, host, port, &credentials)
                );
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            _ => panic!("{url}: {found:?}"),
        }
    }

    #[test]
    fn a_parent_is_read_from_its_url() {
        check_parse("http://proxy.example:3128", Ok((false, "proxy.example", 3128, None)));
        check_parse("proxy.example:3128/", Ok((false, "proxy.example", 3128, None)));
        check_parse("https://Proxy.Example", Ok((true, "proxy.example", 443, None)));
        check_parse("http://[2001:db8::1]:8080", Ok((false, "2001:db8::1", 8080, None)));
        check_parse("http://a:b%40c@h:1", Ok((false, "h", 1, Some(("a", "b@c")))));
        check_parse("http://a@h:1", Ok((false, "h", 1, Some(("a", "")))));
        check_parse("socks5://h:1080", Err("socks5"));
        check_parse("http://h:1/x", Err("/x"));
        check_parse("http://h:1//", Err("//"));
        check_parse("http://h:1?x", Err("?x"));
        check_parse("http://h:1/#x", Err("#x"));
        check_parse("http://h:0", Err("port"));
        check_parse("http://h:+80", Err("port"));
        check_parse("http://", Err("host"));
        check_parse("http://a%zz@h", Err("percent"));
        check_parse("http://ho st:1", Err("host"));
    }

    #[test]
    fn credentials_are_never_shown() {
        let parent = Parent::parse("http://user:secret@h:1").unwrap();
        assert_eq!(format!("{parent:?}"), "http://***@h:1");
        assert_eq!(parent.authorization().unwrap(), "Basic dXNlcjpzZWNyZXQ=");
    }

    #[track_caller]
    fn check_direct(list: &str, host: &str, port: u16, direct: bool) {
        let parent = Parent::parse("http://parent:3128").unwrap();
        let list: Vec<String> = list.split(',').map(str::to_owned).collect();
        let parents = Parents::new(&[parent], &list).unwrap();
        let host = host.parse().map_or_else(|_| Host::Name(host.into()), Host::Ip);
        assert_eq!(parents.routes(Scheme::Http, &host, port, || 0).is_empty(), direct);
    }

    #[test]
    fn no_proxy_follows_the_common_grammar() {
        check_direct("*", "anything", 80, true);
        check_direct("example.com", "example.com", 80, true);
        check_direct("example.com", "www.example.com", 80, true);
        check_direct("example.com", "notexample.com", 80, false);
        check_direct(".example.com", "www.example.com", 80, true);
        check_direct(".example.com", "example.com", 80, false);
        check_direct("*.example.com", "a.example.com", 80, true);
        check_direct("example.com:8080", "example.com", 8080, true);
        check_direct("example.com:8080", "example.com", 80, false);
        check_direct("10.0.0.0/8", "10.1.2.3", 80, true);
        check_direct("10.0.0.0/8", "11.1.2.3", 80, false);
        check_direct("10.0.0.1:81", "10.0.0.1", 80, false);
        check_direct("::1", "::1", 80, true);
        check_direct("[::1]:81", "::1", 81, true);
        check_direct("other,Example.com", "example.com.", 80, true);
    }

    #[test]
    fn a_parent_that_failed_is_passed_over_for_a_while() {
        let parents = ["http://a:1", "http://b:1"].map(|url| Parent::parse(url).unwrap());
        let parents = Parents::new(&parents, &[]).unwrap();
        let host = Host::Name("example.com".into());
        assert_eq!(parents.routes(Scheme::Http, &host, 80, || 0), [0, 1]);
        parents.get(0).unwrap().failed(0);
        assert_eq!(parents.routes(Scheme::Http, &host, 80, || 1), [1, 0]);
        assert_eq!(parents.routes(Scheme::Http, &host, 80, || PASSED_OVER), [0, 1]);
    }

    #[track_caller]
    fn check_env(variables: &[(&str, &str)], expected: &[(&str, Option<Scheme>)], no_proxy: &[&str]) {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let (parents, direct) = parents_from_env(lookup).unwrap();
        let found: Vec<_> = parents.iter().map(|parent| (parent.host.as_str(), parent.serves)).collect();
        assert_eq!(
            (found.as_slice(), direct),
            (expected, no_proxy.iter().map(|s| (*s).to_owned()).collect())
        );
    }

    #[test]
    fn parents_come_from_the_environment() {
        check_env(&[], &[], &[]);
        check_env(&[("HTTP_PROXY", "http://a:1")], &[("a", Some(Scheme::Http))], &[]);
        check_env(&[("http_proxy", "a:1"), ("HTTPS_PROXY", "http://a:1")], &[("a", None)], &[]);
        let two = [("a", Some(Scheme::Http)), ("b", Some(Scheme::Https))];
        check_env(&[("http_proxy", "a:1"), ("https_proxy", "b:1")], &two, &[]);
        check_env(&[("http_proxy", " "), ("NO_PROXY", "a, .b,")], &[], &["a", ".b"]);
    }
}

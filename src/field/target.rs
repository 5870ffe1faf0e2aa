//! The target of a request: RFC 9112 section 3.2, RFC 3986.
//!
//! A [`Target`] is exactly what is sent to the origin, and the cache key is made of the same bytes: scheme and host in
//! lower case, the default port left out, an empty path as `/`, path and query as received. What an origin may tell
//! apart is a different target. What a name resolves to, and whether it may be dialled, is no question of this file.
use crate::field::reference::{self, Reference};
use crate::field::text::{Path, Text};
use http::Uri;
use http::uri::PathAndQuery;
use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name that DNS can hold, a trailing dot included. RFC 1035 section 2.3.4.
const LONGEST_NAME: usize = 254;

/// How much of a faulty input an error repeats.
const SHOWN: usize = 80;

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// 80 or 443.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The host of an authority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A registered name, in lower case, otherwise as received (a trailing dot stays). Spellings of addresses other
    /// than four decimal numbers (`127.1`, `0x7f.1`) are names here, and judged by the address that is dialled.
    Name(Text),
    /// An IP literal.
    Ip(IpAddr),
}

impl Host {
    /// Whether a pattern of the configuration names this host: `example.com` exactly, `.example.com` for it and all
    /// below it, `*` for all; an address in any spelling, IPv6 with or without brackets. Case and a trailing dot don't
    /// count.
    pub fn matches(&self, pattern: &str) -> bool {
        if pattern == "*" {
            return true;
        }
        match self {
            Self::Ip(ip) => {
                let bare = pattern.strip_prefix('[').and_then(|p| p.strip_suffix(']')).unwrap_or(pattern);
                bare.parse::<IpAddr>().is_ok_and(|p| p == *ip)
            }
            Self::Name(name) => {
                let name = without_dot(name).as_bytes();
                let pattern = without_dot(pattern).as_bytes();
                match pattern.strip_prefix(b".") {
                    Some(suffix) if !suffix.is_empty() => {
                        name.eq_ignore_ascii_case(suffix)
                            || (name.len() > pattern.len()
                                && name[name.len() - pattern.len()..].eq_ignore_ascii_case(pattern))
                    }
                    Some(_) => false,
                    None => name.eq_ignore_ascii_case(pattern),
                }
            }
        }
    }
}

impl fmt::Display for Host {
    /// As in an authority: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// `example.com.` and `example.com` are one host to DNS, and so to rules and access.
pub(crate) fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// What is asked for, exactly as it is sent to the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How the origin is spoken to.
    pub scheme: Scheme,
    /// Whom to dial.
    pub host: Host,
    /// Where to dial, the default one filled in. Never 0.
    pub port: u16,
    /// `host[:port]`, lower case, default port left out (but for CONNECT), IPv6 in brackets: the value of Host.
    pub authority: Text,
    /// Origin-form: path and query, never empty but for CONNECT; bytes from 0x80 up are percent-encoded.
    pub path: Path,
}

/// Why a target or a Host field is refused: what was found, and what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Origin-form, asterisk-form, authority-form or nothing known, where absolute-form is needed.
    #[error("the request target is no absolute URL; expected one such as http://example.com/")]
    NotAbsolute,
    /// Anything but authority-form in CONNECT.
    #[error("the target of CONNECT is not host:port; expected one such as example.com:443")]
    NotAuthority,
    /// Neither http nor https.
    #[error("the scheme {0:?} is not supported; expected http or https")]
    Scheme(Box<str>),
    /// No host.
    #[error("the host is missing in {0:?}; expected host or host:port")]
    NoHost(Box<str>),
    /// A byte that no host has.
    #[error(
        "the host {host:?} has the byte {byte:#04x}; expected letters, digits, '-', '.', '_', or an address; \
         names in other letters as xn--"
    )]
    HostByte {
        /// The host.
        host: Box<str>,
        /// The byte.
        byte: u8,
    },
    /// Percent-encoding in a host.
    #[error("the host {0:?} is percent-encoded; expected it in plain letters")]
    HostPercent(Box<str>),
    /// `a..b`, or more bytes than a name can have.
    #[error(
        "the host {0:?} has an empty or too long part; expected a name of at most 253 bytes, or an address"
    )]
    HostLabels(Box<str>),
    /// `[fe80::1%25eth0]`.
    #[error("the address {0:?} has a zone, which means nothing to a proxy; expected an address without one")]
    Zone(Box<str>),
    /// What is in the brackets is no IPv6 address.
    #[error("{0:?} is no IPv6 address; expected one such as [2001:db8::1]")]
    Address(Box<str>),
    /// More than one colon outside brackets.
    #[error("{0:?} has more than one colon; expected host:port, an IPv6 address in brackets")]
    Unbracketed(Box<str>),
    /// A port out of range, or not digits.
    #[error("the port {0:?} is none; expected a number from 1 to 65535")]
    Port(Box<str>),
    /// No port where one is needed.
    #[error("the port is missing in {0:?}; expected host:port")]
    NoPort(Box<str>),
    /// `user@host` where it can't stand, or twice.
    #[error("a user name stands before the host; expected host or host:port")]
    UserInfo,
    /// Longer than can be handled after encoding, or with bytes that no URL has.
    #[error("the path can't be encoded; expected at most 65534 bytes of a URL")]
    Path,
}

/// Authorities that a thread remembers: requests come in runs for few of them.
const PLACES: usize = 16;

thread_local! {
    static KNOWN: RefCell<[Option<Known>; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// What became of an authority as it was received. An authority is no longer than a request line.
struct Known {
    received: Box<[u8]>,
    scheme: Scheme,
    host: Host,
    port: u16,
    authority: Text,
}

impl Target {
    /// The same with a copy of the path, to be kept for longer than an exchange.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { path: self.path.apart(), ..self.clone() }
    }

    /// The target of an absolute-form request, `http` or `https`. User information is dropped, an empty port is the
    /// default one.
    pub fn absolute(uri: &Uri) -> Result<Self, TargetError> {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(other) => return Err(TargetError::Scheme(shown(other.as_bytes()))),
            None => return Err(TargetError::NotAbsolute),
        };
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        let path = uri.path_and_query().map_or_else(|| Path::of(&PathAndQuery::from_static("/")), Path::of);
        Self::new(scheme, without_user(authority.as_bytes())?, path.ok_or(TargetError::Path)?)
    }

    /// The target of an authority-form request (CONNECT): host and port, both required. The scheme is `Https`, the path
    /// empty, and the authority always names the port.
    pub fn connect(uri: &Uri) -> Result<Self, TargetError> {
        let (None, None, Some(authority)) = (uri.scheme(), uri.path_and_query(), uri.authority()) else {
            return Err(TargetError::NotAuthority);
        };
        let parts = Authority::parse(authority.as_str().as_bytes())?;
        let port = parts.port.ok_or_else(|| TargetError::NoPort(shown(authority.as_str().as_bytes())))?;
        let (authority, host) = parts.normalized(Some(port));
        Ok(Self { scheme: Scheme::Https, host, port, authority, path: Path::EMPTY })
    }

    /// `authority` without user information.
    fn new(scheme: Scheme, received: &[u8], path: Path) -> Result<Self, TargetError> {
        KNOWN.with_borrow_mut(|known| {
            let hash = received.iter().fold(0_usize, |hash, byte| hash * 31 % 1021 + usize::from(*byte));
            let place = &mut known[hash % PLACES];
            if let Some(known) = place
                && known.scheme == scheme
                && *known.received == *received
            {
                let (host, authority) = (known.host.clone(), known.authority.clone());
                return Ok(Self { scheme, host, port: known.port, authority, path });
            }
            let parts = Authority::parse(received)?;
            let port = parts.port.unwrap_or(scheme.default_port());
            let (authority, host) = parts.normalized((port != scheme.default_port()).then_some(port));
            let (received, known) = (received.into(), (host.clone(), authority.clone()));
            *place = Some(Known { received, scheme, host: known.0, port, authority: known.1 });
            Ok(Self { scheme, host, port, authority, path })
        })
    }

    /// `scheme://authority/path?query`, exactly the key's text; for CONNECT the authority alone.
    pub fn url(&self) -> String {
        let mut url = String::with_capacity(8 + self.authority.len() + self.path.len());
        self.write_start(&mut url);
        url.push_str(self.path.as_str());
        url
    }

    /// The URL for logs: a query is shown as `?...`.
    pub fn without_query(&self) -> String {
        let path = self.path.path();
        let mut url = String::with_capacity(12 + self.authority.len() + path.len());
        self.write_start(&mut url);
        url.push_str(path);
        if self.path.query().is_some() {
            url.push_str("?...");
        }
        url
    }

    fn write_start(&self, url: &mut String) {
        if !self.path.is_empty() {
            url.push_str(self.scheme.as_str());
            url.push_str("://");
        }
        url.push_str(&self.authority);
    }

    /// The request target in origin-form, for the request line to the origin; for CONNECT authority-form.
    pub fn origin_form(&self) -> Uri {
        match self.path.path_and_query() {
            Some(path) => Uri::from(path.clone()),
            // An authority that was parsed is one: the asterisk stands for what can't happen.
            None => Uri::try_from(self.authority.as_str()).unwrap_or_else(|_| Uri::from_static("*")),
        }
    }

    /// What `reference` (of Location or Content-Location) names, seen from this target. RFC 3986 section 5.2. `None` if
    /// it is malformed or of another scheme than http and https.
    pub fn resolve(&self, reference: &[u8]) -> Option<Self> {
        let base = self.path.path_and_query()?;
        let reference = Reference::parse(reference);
        let scheme = match reference.scheme {
            None => self.scheme,
            Some(scheme) if scheme.eq_ignore_ascii_case(b"http") => Scheme::Http,
            Some(scheme) if scheme.eq_ignore_ascii_case(b"https") => Scheme::Https,
            Some(_) => return None,
        };
        let path = Path::encoded(&reference::resolve(base.as_str().as_bytes(), &reference))?;
        match reference.authority {
            Some(authority) => Self::new(scheme, without_user(authority).ok()?, path).ok(),
            // `http:path` without `//`: RFC 3986 section 5.2.2 lets it be refused.
            None if reference.scheme.is_some() => None,
            None => Some(Self { path, ..self.clone() }),
        }
    }

    /// Same scheme, host and port. RFC 9110 section 4.3.1.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.port == other.port && self.host == other.host
    }
}

impl fmt::Display for Target {
    /// The URL, the query as `?...`: safe for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_query())
    }
}

/// Host and port of an authority without user information, such as the Host field. The port is `None` where it is
/// missing or empty. RFC 9110 section 7.2.
pub fn authority(value: &[u8]) -> Result<(Host, Option<u16>), TargetError> {
    let parts = Authority::parse(value)?;
    let port = parts.port;
    Ok((parts.normalized(None).1, port))
}

/// What is behind the user information, which RFC 9110 section 4.2.4 lets nobody send on.
fn without_user(authority: &[u8]) -> Result<&[u8], TargetError> {
    match authority.iter().position(|&byte| byte == b'@') {
        None => Ok(authority),
        // A second `@` belongs to nobody: readers differ on which one counts.
        Some(at) if authority[at + 1..].contains(&b'@') => Err(TargetError::UserInfo),
        Some(at) => Ok(&authority[at + 1..]),
    }
}

/// A checked authority, still as it was received.
struct Authority<'a> {
    /// With brackets where it has some.
    host: &'a str,
    ip: Option<IpAddr>,
    /// `None` where it is missing or empty.
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    fn parse(authority: &'a [u8]) -> Result<Self, TargetError> {
        // Before anything is shown of it: a password may stand there.
        if authority.contains(&b'@') {
            return Err(TargetError::UserInfo);
        }
        let (host, port) = if authority.first() == Some(&b'[') {
            let end = authority.iter().position(|&byte| byte == b']');
            let end = end.ok_or_else(|| TargetError::Address(shown(authority)))?;
            match &authority[end + 1..] {
                [] => (&authority[..=end], &b""[..]),
                [b':', port @ ..] => (&authority[..=end], port),
                _ => return Err(TargetError::Address(shown(authority))),
            }
        } else {
            match authority.iter().position(|&byte| byte == b':') {
                None => (authority, &b""[..]),
                Some(colon) => (&authority[..colon], &authority[colon + 1..]),
            }
        };
        if port.contains(&b':') {
            return Err(TargetError::Unbracketed(shown(authority)));
        }
        if host.is_empty() {
            return Err(TargetError::NoHost(shown(authority)));
        }
        let (host, ip) = host_of(host)?;
        Ok(Self { host, ip, port: port_of(port)? })
    }

    /// The authority in lower case with the port that is to be seen, and the host, which shares its text.
    fn normalized(&self, port: Option<u16>) -> (Text, Host) {
        let changes = port.is_some() || self.host.bytes().any(|byte| byte.is_ascii_uppercase());
        let text = if changes {
            let mut text = self.host.to_ascii_lowercase();
            if let Some(port) = port {
                text.push(':');
                text.push_str(itoa::Buffer::new().format(port));
            }
            Text::from(text)
        } else {
            Text::from(self.host)
        };
        let host = self.ip.map_or_else(|| Host::Name(text.prefix(self.host.len())), Host::Ip);
        (text, host)
    }
}

/// Digits only, 1 to 65535; nothing for none at all. RFC 3986 section 3.2.3.
fn port_of(port: &[u8]) -> Result<Option<u16>, TargetError> {
    if port.is_empty() {
        return Ok(None);
    }
    let number = port.iter().try_fold(0u16, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    match number {
        Some(1..) => Ok(number),
        Some(0) | None => Err(TargetError::Port(shown(port))),
    }
}

/// A name or an address. RFC 3986 section 3.2.2, less what no name that can be resolved has.
fn host_of(host: &[u8]) -> Result<(&str, Option<IpAddr>), TargetError> {
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if let [b'[', inner @ .., b']'] = host {
        if inner.contains(&b'%') {
            return Err(TargetError::Zone(shown(host)));
        }
        let ip = str::from_utf8(inner).ok().and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        let text = str::from_utf8(host).ok();
        return text.zip(ip.map(|ip| Some(IpAddr::V6(ip)))).ok_or_else(|| TargetError::Address(shown(host)));
    }
    if host.contains(&b'%') {
        return Err(TargetError::HostPercent(shown(host)));
    }
    if let Some(&byte) = host.iter().find(|byte| !valid(byte)) {
        return Err(TargetError::HostByte { host: shown(host), byte });
    }
    let Ok(text) = str::from_utf8(host) else { return Err(TargetError::HostLabels(shown(host))) };
    if text.len() > LONGEST_NAME || text.starts_with('.') || host.windows(2).any(|pair| pair == b"..") {
        return Err(TargetError::HostLabels(shown(host)));
    }
    let may_be_address = host.first().is_some_and(u8::is_ascii_digit);
    let ip = if may_be_address { text.parse::<Ipv4Addr>().ok().map(IpAddr::V4) } else { None };
    Ok((text, ip))
}

/// As much of the input as an error needs to repeat.
fn shown(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into()
}

#[cfg(test)]
mod tests;

//! Kinds that name something: addresses, networks, ports, hosts, fields, files, secrets.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;
use toml::de::DeValue;

use super::figures::{integer, text};
use super::{Expected, Extending, Given, Kind, Many, Wrongs, wrong};
use crate::access::hours::Hours;
use crate::access::{Allowed, Ports};
use crate::config::shown::Unit;
use crate::config::units;
use crate::upstream::{Direct, Parent};

/// Kinds with what is expected of them.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident: $expected:expr;)*) => {
        $(
            $(#[doc = $doc])+
            pub(in crate::config) struct $kind;

            impl Expected for $kind {
                fn expected() -> String {
                    $expected.to_owned()
                }
            }
        )*
    };
}

kinds! {
    /// `IP:port`.
    Address: units::ADDRESS;
    /// `IP` or `IP:port`; the port of DNS is 53.
    Nameserver: "an IP address, with or without a port, such as \"9.9.9.9\" or \"[2620:fe::fe]:53\"";
    /// An IP address.
    Ip: "an IP address such as \"192.0.2.1\" or \"2001:db8::1\"";
    /// A network in CIDR notation, or a single address.
    Net: "a network such as \"10.0.0.0/8\", or an IP address";
    /// A set of ports.
    PortSet: "\"any\", or a list of ports and ranges such as [443, \"8000-8999\"]";
    /// The same, or `"auto"`, or a list with that in it.
    PlainPorts: "\"auto\", \"any\", or a list of ports and ranges such as [\"auto\", 22, \"8000-8999\"]";
    /// A port as a number, or a range as a string.
    PortRange: "a port from 1 to 65535, or a range such as \"8000-8999\"";
    /// The name of a field.
    FieldName: "the name of a field, such as \"CDN-Cache-Control\"";
    /// A host name or an IP literal.
    HostName: "a host such as \"example.com\", without scheme and port";
    /// The same, or `.suffix`.
    HostSuffix: "a host such as \"example.com\", or \".example.com\" for it and all below it";
    /// The same, or `*`.
    HostPattern: "a host such as \"example.com\", \".example.com\" for it and all below it, or \"*\"";
    /// A member of `NO_PROXY`.
    NoProxy: "a host such as \"example.com\" or \".example.com\", an address or network, or \"*\"";
    /// A pattern with `*` and `?`.
    Glob: "a pattern with * and ?, such as \"http://*.example.com/*.js\"";
    /// A token of RFC 9110 section 5.6.2.
    Token: "a token: letters, digits and any of !#$%&'*+-.^_`|~";
    /// What Upgrade names: a protocol, with or without a version. RFC 9110 section 7.8.
    Protocol: "a protocol, with or without a version, such as \"websocket\" or \"foo/1\"";
    /// Hours of the week.
    HoursOfWeek: "hours in UTC such as \"08:00-18:00\" or \"Mon-Fri 08:00-18:00\"";
    /// Text that is not empty.
    Text: "a string that is not empty";
    /// A path; the empty string is none.
    File: "the path of a file, or \"\" for none";
    /// What users authenticate for. RFC 9110 section 11.5.
    Realm: units::REALM;
    /// A status code that may be stored.
    StatusCode: "a status code from 200 to 599";
}

/// `"https"`.
pub(in crate::config) struct FetchOver;

impl Expected for FetchOver {
    const UNIT: Unit = Unit::Https;
    fn expected() -> String {
        "\"https\"".to_owned()
    }
}

/// A secret; the empty string is none.
pub(in crate::config) struct Secret;

impl Expected for Secret {
    const SECRET: bool = true;
    fn expected() -> String {
        "a string of visible ASCII characters, or \"\" for none".to_owned()
    }
}

/// The URL of a parent proxy, which may hold a password.
pub(in crate::config) struct ParentUrl;

impl Expected for ParentUrl {
    const SECRET: bool = true;
    fn expected() -> String {
        "a proxy's URL such as \"http://user:password@proxy.example:3128\", without a path".to_owned()
    }
}

/// A string that must parse.
fn parsed<K: Expected, T>(given: Given, read: impl Fn(&str) -> Option<T>) -> Result<T, Wrongs> {
    given.get_ref().as_str().and_then(|text| read(text.trim())).ok_or_else(|| wrong::<K>(given))
}

impl Kind<SocketAddr> for Address {
    fn read(given: Given) -> Result<SocketAddr, Wrongs> {
        text::<Self, _>(given, units::address)
    }
}

impl Kind<SocketAddr> for Nameserver {
    fn read(given: Given) -> Result<SocketAddr, Wrongs> {
        parsed::<Self, _>(given, |text| {
            text.parse().ok().or_else(|| text.parse().ok().map(|ip| SocketAddr::new(ip, 53)))
        })
    }
}

impl Kind<IpAddr> for Ip {
    fn read(given: Given) -> Result<IpAddr, Wrongs> {
        parsed::<Self, _>(given, |text| text.parse().ok())
    }
}

impl Kind<IpNet> for Net {
    fn read(given: Given) -> Result<IpNet, Wrongs> {
        parsed::<Self, _>(given, net)
    }
}

fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Kind<Ports> for PortSet {
    fn read(given: Given) -> Result<Ports, Wrongs> {
        match given.get_ref() {
            DeValue::String(text) if text == "any" => Ok(Ports::Any),
            DeValue::Array(_) => Many::<PortRange>::read(given).map(Ports::List),
            _ => Err(wrong::<Self>(given)),
        }
    }
}

impl Kind<Allowed<Ports>> for PlainPorts {
    fn read(given: Given) -> Result<Allowed<Ports>, Wrongs> {
        match given.get_ref() {
            DeValue::String(text) if text == "any" => Ok(Allowed::only(Ports::Any)),
            DeValue::String(text) if text == "auto" => Ok(Allowed::default()),
            DeValue::Array(_) => Extending::<PortRange>::read(given)
                .map(|Allowed { auto, listed }| Allowed { auto, listed: Ports::List(listed) }),
            _ => Err(wrong::<Self>(given)),
        }
    }
}

impl Kind<RangeInclusive<u16>> for PortRange {
    fn read(given: Given) -> Result<RangeInclusive<u16>, Wrongs> {
        if given.get_ref().is_str() {
            return text::<Self, _>(given, units::port_range);
        }
        let port = integer(given).and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0);
        port.map(|port| port..=port).ok_or_else(|| wrong::<Self>(given))
    }
}

impl Kind<HeaderName> for FieldName {
    fn read(given: Given) -> Result<HeaderName, Wrongs> {
        parsed::<Self, _>(given, |text| HeaderName::from_bytes(text.as_bytes()).ok())
    }
}

/// A registered name, or an IP literal with or without brackets.
fn is_host(text: &str) -> bool {
    let literal = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    literal.parse::<IpAddr>().is_ok() || text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

fn is_host_or_suffix(text: &str) -> bool {
    is_host(text.strip_prefix('.').unwrap_or(text))
}

impl Kind<String> for HostName {
    fn read(given: Given) -> Result<String, Wrongs> {
        parsed::<Self, _>(given, |text| is_host(text).then(|| text.to_ascii_lowercase()))
    }
}

impl Kind<String> for HostSuffix {
    fn read(given: Given) -> Result<String, Wrongs> {
        parsed::<Self, _>(given, |text| is_host_or_suffix(text).then(|| text.to_ascii_lowercase()))
    }
}

impl Kind<String> for HostPattern {
    fn read(given: Given) -> Result<String, Wrongs> {
        parsed::<Self, _>(given, |text| {
            (text == "*" || is_host_or_suffix(text)).then(|| text.to_ascii_lowercase())
        })
    }
}

/// A member of `NO_PROXY`, as it is kept; `None`: it is none.
pub(in crate::config) fn no_proxy(text: &str) -> Option<String> {
    let name = text.strip_prefix('*').unwrap_or(text);
    let host = name.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let host = host.map_or(name, |(host, _)| host);
    let known = text == "*" || net(text).is_some() || is_host_or_suffix(host);
    // What can't be kept would stop the start.
    (known && Direct::parse(text).is_some()).then(|| text.to_ascii_lowercase())
}

impl Kind<Direct> for NoProxy {
    fn read(given: Given) -> Result<Direct, Wrongs> {
        parsed::<Self, _>(given, |text| no_proxy(text).and_then(|member| Direct::parse(&member)))
    }
}

impl Kind<String> for NoProxy {
    fn read(given: Given) -> Result<String, Wrongs> {
        parsed::<Self, _>(given, no_proxy)
    }
}

impl Kind<String> for Glob {
    fn read(given: Given) -> Result<String, Wrongs> {
        parsed::<Self, _>(given, |text| (!text.is_empty()).then(|| text.to_owned()))
    }
}

impl Kind<String> for Token {
    fn read(given: Given) -> Result<String, Wrongs> {
        parsed::<Self, _>(given, |text| is_token(text).then(|| text.to_owned()))
    }
}

impl Kind<Hours> for HoursOfWeek {
    fn read(given: Given) -> Result<Hours, Wrongs> {
        parsed::<Self, _>(given, Hours::parse)
    }
}

impl Kind<Arc<str>> for Token {
    fn read(given: Given) -> Result<Arc<str>, Wrongs> {
        <Self as Kind<String>>::read(given).map(Into::into)
    }
}

fn is_token(text: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_token)
}

impl Kind<String> for Protocol {
    fn read(given: Given) -> Result<String, Wrongs> {
        parsed::<Self, _>(given, |text| {
            let (name, version) =
                text.split_once('/').map_or((text, None), |(name, version)| (name, Some(version)));
            (is_token(name) && version.is_none_or(is_token)).then(|| text.to_owned())
        })
    }
}

impl Kind<String> for Text {
    fn read(given: Given) -> Result<String, Wrongs> {
        parsed::<Self, _>(given, |text| (!text.is_empty()).then(|| text.to_owned()))
    }
}

impl Kind<String> for Realm {
    fn read(given: Given) -> Result<String, Wrongs> {
        parsed::<Self, _>(given, |text| units::realm(text).ok())
    }
}

impl Kind<Option<String>> for Secret {
    fn read(given: Given) -> Result<Option<String>, Wrongs> {
        // It travels in a field's value, behind `Bearer`.
        parsed::<Self, _>(given, |text| {
            let fits = text.bytes().all(|byte| byte.is_ascii_graphic());
            fits.then(|| (!text.is_empty()).then(|| text.to_owned()))
        })
    }
}

impl Kind<Option<PathBuf>> for File {
    fn read(given: Given) -> Result<Option<PathBuf>, Wrongs> {
        parsed::<Self, _>(given, |text| Some((!text.is_empty()).then(|| PathBuf::from(text))))
    }
}

impl Kind<Parent> for ParentUrl {
    fn read(given: Given) -> Result<Parent, Wrongs> {
        parsed::<Self, _>(given, |text| Parent::parse(text).ok())
    }
}

impl Kind<u16> for StatusCode {
    fn read(given: Given) -> Result<u16, Wrongs> {
        let code = integer(given).and_then(|code| u16::try_from(code).ok());
        code.filter(|code| (200..=599).contains(code)).ok_or_else(|| wrong::<Self>(given))
    }
}

impl Kind<bool> for FetchOver {
    fn read(given: Given) -> Result<bool, Wrongs> {
        parsed::<Self, _>(given, |text| (text == "https").then_some(true))
    }
}

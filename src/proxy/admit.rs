//! The one gate for requests: what hyper lets through and this proxy does not, decided over what was received,
//! before anything else looks at it.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use std::net::SocketAddr;

use super::Settings;
use super::refusal::Refusal;
use crate::access::authentication::Principal;
use crate::access::{Asked, Grant};
use crate::clock::Moment;
use crate::field::target::{self, Scheme, Target};

/// The longest method that is forwarded: RFC 9110 names none above 16 bytes, registered ones reach 17.
pub(crate) const MAX_METHOD: usize = 64;

/// What an admitted request asks for.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// A response for this target.
    Forward(Target, Grant),
    /// A tunnel to this authority.
    Tunnel(Target, Grant),
    /// An answer of our own.
    Local(Local),
}

/// What is answered here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// `OPTIONS *`, or OPTIONS with `Max-Forwards: 0`.
    Options,
    /// TRACE with `Max-Forwards: 0`.
    Trace,
    /// A page for somebody who takes the proxy for a site.
    Page,
}

/// Lets a request in, or says why not. Who asks this proxy itself for something does not have to say who it is: a
/// browser fetches its configuration (PAC) before it can.
pub(crate) fn admit(
    parts: &Parts,
    has_content: bool,
    peer: SocketAddr,
    principal: &Principal,
    now: Moment,
    settings: &Settings,
) -> Result<Admitted, Refusal> {
    settings.access.door(peer.ip(), settings.beyond_loopback).map_err(Refusal::Denied)?;
    limits(parts, settings)?;
    framing(&parts.headers)?;
    host(parts)?;
    let Parts { method, uri, headers, .. } = parts;
    if method == Method::CONNECT {
        known(principal)?;
        // A length of nothing is no content, and some clients send it.
        let says = |length: &HeaderValue| length.as_bytes() != b"0";
        if has_content || headers.get_all(header::CONTENT_LENGTH).iter().any(says) {
            return Err(Refusal::Malformed("CONNECT with content: found a body, expected none".into()));
        }
        let target = Target::connect(uri)?;
        looped(headers, settings)?;
        let grant = granted(parts, &target, peer, principal, now, settings)?;
        return Ok(Admitted::Tunnel(target, grant));
    }
    if uri.scheme().is_none() {
        return own(method, uri);
    }
    known(principal)?;
    let target = Target::absolute(uri)?;
    looped(headers, settings)?;
    let grant = granted(parts, &target, peer, principal, now, settings)?;
    if *method == Method::OPTIONS && last_hop(headers) {
        return Ok(Admitted::Local(Local::Options));
    }
    if *method == Method::TRACE {
        if last_hop(headers) {
            return Ok(Admitted::Local(Local::Trace));
        }
        if !settings.access.options().trace {
            return Err(Refusal::TraceIsOff);
        }
    }
    Ok(Admitted::Forward(target, grant))
}

/// What `access` says, as far as it can be said before a connection.
fn granted(
    parts: &Parts,
    target: &Target,
    peer: SocketAddr,
    principal: &Principal,
    now: Moment,
    settings: &Settings,
) -> Result<Grant, Refusal> {
    let Target { scheme, host, port, .. } = target;
    // Whoever wants a tunnel wants https, by far most often; nobody can tell.
    let scheme = if parts.method == Method::CONNECT { Scheme::Https } else { *scheme };
    let (port, unix) = (*port, now.unix());
    let user = principal.name().map(|name| &**name);
    let asked = Asked { client: peer.ip(), user, method: &parts.method, scheme, host, port, unix };
    settings.access.ask(asked, settings.beyond_loopback).map_err(Refusal::Denied)
}

/// Who has to say who it is has done so.
fn known(principal: &Principal) -> Result<(), Refusal> {
    match principal {
        Principal::NotAsked | Principal::Known(_) => Ok(()),
        Principal::Unknown(unknown) => Err(Refusal::Unauthenticated(unknown.clone())),
    }
}

/// Asterisk-form and origin-form: addressed to this proxy itself.
fn own(method: &Method, uri: &http::Uri) -> Result<Admitted, Refusal> {
    if uri.path() == "*" {
        return if *method == Method::OPTIONS {
            Ok(Admitted::Local(Local::Options))
        } else {
            Err(Refusal::Malformed(format!("asterisk-form: found {method} *, expected OPTIONS *")))
        };
    }
    if uri.authority().is_some() {
        return Err(Refusal::Malformed(format!(
            "request target: found authority-form with {method}, expected absolute-form (http://host/path)"
        )));
    }
    if !uri.path().starts_with('/') {
        return Err(Refusal::Malformed(
            "request target: found neither a scheme nor a path, expected absolute-form (http://host/path)"
                .into(),
        ));
    }
    Ok(Admitted::Local(Local::Page))
}

fn limits(parts: &Parts, settings: &Settings) -> Result<(), Refusal> {
    let options = &settings.options;
    if parts.method.as_str().len() > MAX_METHOD {
        return Err(Refusal::Malformed(format!(
            "method: found {} bytes, expected at most {MAX_METHOD}",
            parts.method.as_str().len()
        )));
    }
    // As it came, but for what hyper makes alike: two spaces, and the version.
    let uri = &parts.uri;
    let line = parts.method.as_str().len()
        + uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len())
        + uri.authority().map_or(0, |authority| authority.as_str().len())
        + uri.path_and_query().map_or(0, |path| path.as_str().len())
        + "  HTTP/1.1".len();
    if line > options.max_request_line {
        return Err(Refusal::TargetTooLong { found: line, limit: options.max_request_line });
    }
    let fields = parts.headers.len();
    if fields > options.max_fields {
        return Err(Refusal::TooManyFields { limit: options.max_fields });
    }
    // hyper's own limit has a read's worth of slack; heads are seldom long enough to be worth adding up.
    if fields > 0 {
        let size: usize = parts.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
        if size > options.max_head {
            return Err(Refusal::HeadTooLarge { limit: options.max_head });
        }
    }
    Ok(())
}

/// RFC 9112 section 6.1: one transfer coding, and that is `chunked`. hyper refuses the worse ones itself.
fn framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(first) = codings.next() else { return Ok(()) };
    if codings.next().is_some() {
        return Err(Refusal::Malformed("Transfer-Encoding: found several lines, expected one".into()));
    }
    if !first.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Refusal::Malformed(format!(
            "Transfer-Encoding: found {}, expected chunked alone",
            show(first)
        )));
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Refusal::Malformed(
            "framing: found both Content-Length and Transfer-Encoding, expected one of them".into(),
        ));
    }
    Ok(())
}

/// RFC 9112 section 3.2: one Host that is an authority. The target's authority wins over it all the same.
fn host(parts: &Parts) -> Result<(), Refusal> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let Some(first) = hosts.next() else {
        return if parts.version < Version::HTTP_11 {
            Ok(())
        } else {
            Err(Refusal::Malformed("Host: found none, expected one".into()))
        };
    };
    if hosts.next().is_some() {
        return Err(Refusal::Malformed("Host: found several lines, expected one".into()));
    }
    if first.is_empty() && parts.uri.authority().is_none() {
        return Ok(());
    }
    // The usual case: what the target says, which is read anyway.
    if parts.uri.authority().is_some_and(|authority| authority.as_str().as_bytes() == first.as_bytes()) {
        return Ok(());
    }
    target::authority(first.as_bytes()).map_err(|error| Refusal::Malformed(format!("Host: {error}")))?;
    Ok(())
}

/// Own name in Via: the request has been here. RFC 9110 section 7.6.3.
fn looped(headers: &HeaderMap, settings: &Settings) -> Result<(), Refusal> {
    if settings.pseudonym.looped(headers) { Err(Refusal::Loop) } else { Ok(()) }
}

/// `Max-Forwards: 0`, RFC 9110 section 7.6.2.
fn last_hop(headers: &HeaderMap) -> bool {
    max_forwards(headers) == Some(0)
}

/// Max-Forwards, if it is one number.
pub(crate) fn max_forwards(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(header::MAX_FORWARDS)?.to_str().ok()?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().or(Some(u64::MAX))
}

/// One less, on OPTIONS and TRACE that go on. RFC 9110 section 7.6.2.
pub(crate) fn decrement(method: &Method, headers: &mut HeaderMap) {
    if (*method == Method::OPTIONS || *method == Method::TRACE)
        && let Some(left) = max_forwards(headers)
    {
        headers.insert(header::MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
}

fn show(value: &HeaderValue) -> String {
    value.as_bytes().iter().take(64).map(|b| b.escape_ascii().to_string()).collect()
}

//! Protocol upgrades: the request goes on with its Upgrade, and if the origin switches, bytes flow both ways.
//! RFC 9110 section 7.8.

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version, header};
use std::net::SocketAddr;
use std::sync::Arc;

use super::exchange::{Answer, Exchange, silent};
use super::forward::{end_to_end, finish, interim, judge};
use super::refusal::{self, Refusal};
use super::tunnel::{FarEnd, Tunnel};
use super::{Options, Proxy, Settings};
use crate::access::Grant;
use crate::body::Body;
use crate::cache::{CacheResult, Outcome, Served};
use crate::field::status::Forward;
use crate::field::target::Target;
use crate::field::treatment;
use crate::policy::Reason;
use crate::upstream::Call;

/// The protocol that the request asks for, if it is one that passes. Never `h2c`: what followed it could not
/// be inspected. To an HTTP/1.0 client no 101 can be sent, so its Upgrade is ignored. So is that of any request
/// but a GET without content: no protocol that passes through proxies begins otherwise, and what else such a
/// request means (an invalidation, a hop to count) must not be lost.
pub(crate) fn asked_for(parts: &Parts, has_content: bool, options: &Options) -> Option<HeaderValue> {
    let may = parts.version >= Version::HTTP_11 && parts.method == Method::GET && !has_content;
    if !may || !parts.headers.contains_key(header::UPGRADE) {
        return None;
    }
    treatment::upgrade_protocols(&parts.headers)
        .into_iter()
        .find(|asked| options.upgrades.iter().any(|allowed| covers(allowed, asked)))
        .and_then(|asked| HeaderValue::from_str(asked).ok())
}

/// Whether an entry of the list allows a protocol: by its name, and by its version where the entry has one. Names are
/// compared without case. RFC 9110 section 7.8.
fn covers(allowed: &str, asked: &str) -> bool {
    if is_h2c(asked) {
        return false;
    }
    if allowed.contains('/') {
        allowed.eq_ignore_ascii_case(asked)
    } else {
        allowed.eq_ignore_ascii_case(name(asked))
    }
}

/// Whether a protocol is `h2c`, in whatever version: what follows it could not be inspected.
pub fn is_h2c(protocol: &str) -> bool {
    name(protocol).eq_ignore_ascii_case("h2c")
}

fn name(protocol: &str) -> &str {
    protocol.split('/').next().unwrap_or_default()
}

/// Sends the request on and joins both connections if the origin switches.
#[allow(clippy::too_many_arguments)]
pub(crate) async fn upgrade(
    proxy: Arc<Proxy>,
    settings: Arc<Settings>,
    mut exchange: Exchange,
    parts: Parts,
    (target, grant): (Arc<Target>, Grant),
    peer: SocketAddr,
    protocol: HeaderValue,
) -> Answer {
    let accept = refusal::accept(&parts.headers);
    let mut headers = parts.headers;
    end_to_end(&mut headers, &settings, peer.ip());
    settings.pseudonym.append(&mut headers, parts.version);
    if let Err(error) = judge(&proxy, &target, &grant, &mut exchange).await {
        return Refusal::Upstream(error).answer(exchange, accept.as_ref(), true);
    }
    let sent = proxy
        .upstream
        .send(&mut Call {
            fetch_over_https: settings.cache.rules.find(&target).is_some_and(|r| r.fetch_over_https),
            target: &target,
            method: parts.method,
            headers: &|| headers.clone(),
            body: Body::Empty,
            grant,
            on_interim: Some(interim(Arc::clone(exchange.link()), &settings)),
            upgrade: Some(protocol.clone()),
        })
        .await;
    let mut received = match sent {
        Ok(received) => received,
        Err(error) => return Refusal::Upstream(error).answer(exchange, accept.as_ref(), true),
    };
    let address = received.address;
    let outcome = Outcome {
        result: CacheResult::Bypass,
        forward: Some(Forward::Bypass),
        detail: Some(Reason::Upgrade),
        forward_status: Some(received.status),
        upstream: Some(address),
        ..Outcome::default()
    };
    if received.status != StatusCode::SWITCHING_PROTOCOLS {
        // What the client may have sent behind its Upgrade is not the next request.
        exchange.link().linger();
        received.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let served = Served {
            status: received.status,
            headers: received.headers,
            body: received.body,
            received: received.version,
            outcome,
            buffered: received.buffered,
        };
        return finish(served, exchange, &settings);
    }
    let Some(upgraded) = received.upgraded else {
        let what = "The origin switched protocols, but its connection can't be had.".to_owned();
        return Refusal::UpgradeFailed { what, address }.answer(exchange, accept.as_ref(), true);
    };
    // A 101 names the protocol that it switches to; one that names none is taken at its word.
    let switched = received.protocol.as_ref().unwrap_or(&protocol);
    if !switched.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()) {
        let what = "The origin switched to a protocol that was not asked for.".to_owned();
        return Refusal::UpgradeFailed { what, address }.answer(exchange, accept.as_ref(), true);
    }
    let mut headers = received.headers;
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
    settings.pseudonym.append(&mut headers, received.version);
    exchange.answered(StatusCode::SWITCHING_PROTOCOLS, Outcome { result: CacheResult::Tunnel, ..outcome });
    let link = Arc::clone(exchange.link());
    link.put_tunnel(Tunnel {
        far: FarEnd::Upgrading(upgraded),
        early: bytes::Bytes::new(),
        idle: settings.options.tunnel_idle,
        exchange,
    });
    let mut response = Response::new(silent());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_a_version_allows_that_one_and_one_without_allows_all() {
        for (allowed, asked, expected) in [
            ("websocket", "WebSocket", true),
            ("websocket", "websocket/13", true),
            ("websocket", "websockets", false),
            ("foo/1", "foo/1", true),
            ("Foo/1", "foo/1", true),
            ("foo/1", "foo", false),
            ("foo/1", "foo/1.1", false),
            ("foo/1", "foo/2", false),
            ("SPDY/3.1", "spdy/3.1", true),
            ("foo", "foo/2", true),
            ("h2c", "h2c", false),
            ("h2c/1", "H2C/1", false),
        ] {
            assert_eq!(covers(allowed, asked), expected, "{allowed} {asked}");
        }
    }
}

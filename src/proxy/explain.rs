//! `larder explain` at the gate: what a request meets before the cache sees it, and how a refusal is told. It calls
//! what decides; it decides nothing.

use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};

use super::Settings;
use super::admit::{Admitted, admit};
use super::forward;
use super::refusal::Refusal;
use crate::access::Grant;
use crate::access::authentication::Principal;
use crate::cache::Failure;
use crate::clock::Moment;
use crate::field::status::ProxyError;
use crate::policy::explain::Why;

/// Lets a request for `uri` by a client on this machine through the gate, and leaves in `headers` what the cache would
/// see. Who the client is, is not asked. The error is the refusal, as [`failed`] tells one.
pub fn rehearse(
    method: &Method,
    uri: &Uri,
    headers: &mut HeaderMap,
    now: Moment,
    settings: &Settings,
) -> Result<Grant, Value> {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method.clone();
    parts.uri = uri.clone();
    parts.headers = std::mem::take(headers);
    // Every client sends one, without user information.
    let host = uri.authority().and_then(|authority| authority.as_str().rsplit('@').next());
    if let Some(host) = host.and_then(|host| HeaderValue::from_str(host).ok()) {
        parts.headers.entry(header::HOST).or_insert(host);
    }
    let grant = match admit(&parts, false, peer, &Principal::NotAsked, now, settings) {
        Ok(Admitted::Forward(_, grant)) => grant,
        Ok(Admitted::Tunnel(..) | Admitted::Local(_)) => {
            return Err(told(Refusal::Malformed(format!("request target: found {uri}, expected a URL"))));
        }
        Err(refusal) => return Err(told(refusal)),
    };
    forward::end_to_end(&mut parts.headers, settings, peer.ip());
    *headers = parts.headers;
    Ok(grant)
}

/// Tells what a client would be answered in place of a response: `status`, `error` (RFC 9209), `says`, `todo`, and
/// `reason` where caching has one.
pub fn failed(failure: Failure) -> Value {
    told(Refusal::Failed(failure))
}

fn told(refusal: Refusal) -> Value {
    let story = refusal.story();
    json!({
        "status": story.status.as_u16(),
        "error": story.error.map(ProxyError::token),
        "says": story.says,
        "todo": story.todo,
        "reason": story.detail.map(Why::from),
    })
}

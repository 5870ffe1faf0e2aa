//! What this proxy answers itself: `OPTIONS *`, the last hop of OPTIONS and TRACE, and the pages for somebody
//! who takes it for a site.

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use std::net::SocketAddr;

use super::admit::Local;
use super::exchange::{Answer, Exchange};
use super::refusal::{self, Refusal};
use crate::body::Body;
use crate::cache::{CacheResult, Outcome};
use crate::pages::{self, Here};

/// The methods that are answered for `OPTIONS *`.
const ALLOW: &str = "GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH";
/// Fields that TRACE does not send back. RFC 9110 section 9.3.8.
const SECRET: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "cookie2"];

/// The answer to what was addressed to the proxy itself.
pub(crate) fn answer(
    what: &Local,
    exchange: Exchange,
    parts: &Parts,
    has_content: bool,
    local: SocketAddr,
    options: &pages::Options,
) -> Answer {
    let outcome = Outcome { result: CacheResult::Local, ..Outcome::default() };
    let (mut head, body) = match what {
        Local::Options => {
            let mut response = Response::new(());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOW));
            (response.into_parts().0, Body::Empty)
        }
        Local::Trace => {
            let mut response = Response::new(());
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("message/http"));
            (response.into_parts().0, Body::full(traced(parts)))
        }
        Local::Page => match page(parts, local, options) {
            Ok(response) => {
                let (head, bytes) = response.into_parts();
                (head, Body::full(bytes))
            }
            Err(refusal) => {
                return refusal.answer(exchange, refusal::accept(&parts.headers).as_ref(), has_content);
            }
        },
    };
    if has_content {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        exchange.link().linger();
    }
    exchange.send(head, body, outcome)
}

fn page(
    parts: &Parts,
    local: SocketAddr,
    options: &pages::Options,
) -> Result<Response<bytes::Bytes>, Refusal> {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(Refusal::Malformed(format!(
            "request target: found origin-form with {}, expected absolute-form (http://host/path): this is a proxy",
            parts.method
        )));
    }
    let here = Here { host: parts.headers.get(header::HOST), local };
    let path = parts.uri.path();
    if pages::is_pac(path) {
        return Ok(pages::pac(&here, options));
    }
    let mut response = pages::landing(&here, refusal::accept(&parts.headers).as_ref());
    if path != "/" {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

/// The request as received, less what must not be shown.
fn traced(parts: &Parts) -> Vec<u8> {
    let mut text = format!("{} {} {:?}\r\n", parts.method, shown(&parts.uri), parts.version).into_bytes();
    for (name, value) in &parts.headers {
        if !SECRET.contains(&name.as_str()) {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// A target as it may be shown: without userinfo.
pub(crate) fn shown(uri: &Uri) -> String {
    let Some(authority) = uri.authority() else { return uri.to_string() };
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    let path = uri.path_and_query().map_or("", |p| p.as_str());
    match uri.scheme_str() {
        Some(scheme) => format!("{scheme}://{host}{path}"),
        None => format!("{host}{path}"),
    }
}

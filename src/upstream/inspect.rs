//! The one gate for responses: pure judgement of a head, before anything of it is believed.
//!
//! RFC 9112 section 6 for framing, RFC 9110 section 15 for statuses. hyper has parsed the head already and
//! refused what is not HTTP at all; what it lets through too easily is caught here.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::stats::Bound;
use crate::field::status::ProxyError;
use crate::field::treatment;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// What was asked, as far as the answer's framing depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) upgrade: bool,
    pub(super) max_fields: usize,
}

/// What a head that passed says about its message and its connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The framing is exactly what RFC 9112 allows: such a body may be stored.
    pub(super) framing_ok: bool,
    /// The connection must not be used again.
    pub(super) close: bool,
    /// The body ends when the connection does.
    pub(super) close_delimited: bool,
    /// `Content-Length`, where it counts. For HEAD and 304 it is what a GET would bring.
    pub(super) content_length: Option<u64>,
    /// The origin's limit for an idle connection: `Keep-Alive: timeout=N`.
    pub(super) keep_alive: Option<Duration>,
    /// The protocol that a 101 switches to.
    pub(super) protocol: Option<HeaderValue>,
    /// Trailers that may not go on.
    pub(super) named_trailers: Vec<HeaderName>,
}

/// Why a head does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: ProxyError,
    pub(super) what: &'static str,
    /// The limit that it is over.
    pub(super) bound: Option<Bound>,
}

/// Judges a head and leaves in it only what may go on.
pub(super) fn inspect(
    asked: Asked<'_>,
    status: StatusCode,
    version: Version,
    headers: &mut HeaderMap,
) -> Result<Seen, Fault> {
    let fault = |kind, what| Err(Fault { kind, what, bound: None });
    match status {
        StatusCode::SWITCHING_PROTOCOLS if !asked.upgrade => {
            return fault(
                ProxyError::HttpProtocolError,
                "the origin switches protocols (101), which was not asked",
            );
        }
        // RFC 9110 section 15.5.8: it is a proxy's answer. Passed on, it would ask for our clients' credentials.
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            return fault(ProxyError::HttpProtocolError, "the origin answered as a proxy does (407)");
        }
        // RFC 9110 section 15: "Values outside the range 100..599 are invalid." What one means nobody can know.
        _ if status.as_u16() > 599 => {
            return fault(ProxyError::HttpProtocolError, "the origin answered with a status above 599");
        }
        _ if headers.len() > asked.max_fields => {
            return Err(Fault {
                kind: ProxyError::HttpResponseHeaderSectionSize,
                what: "the response has more fields than allowed",
                bound: Some(Bound::ResponseFields),
            });
        }
        _ => {}
    }

    let mut seen = Seen { framing_ok: true, ..Seen::default() };
    // Each look at a map costs as much as to go through a short one, and most have none of these.
    let [length, coding, connection, kept] =
        present(headers, [&CONTENT_LENGTH, &TRANSFER_ENCODING, &CONNECTION, &KEEP_ALIVE]);
    frame(asked.method, status, headers, (length, coding), &mut seen);
    // Only HTTP/1.1 says by itself that a connection stays open; with 1.0's Keep-Alive we do not play.
    seen.close |= version != Version::HTTP_11 || seen.close_delimited || !seen.framing_ok;
    seen.close |=
        connection && names(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case("close"));
    seen.keep_alive = if kept { keep_alive(headers) } else { None };
    if status == StatusCode::SWITCHING_PROTOCOLS {
        seen.close = true;
        seen.protocol = headers.get(UPGRADE).cloned();
        if seen.protocol.is_none() {
            return fault(ProxyError::HttpUpgradeFailed, "the origin's 101 names no protocol");
        }
    }
    if connection {
        seen.named_trailers = treatment::named_trailers(headers);
    }
    treatment::strip_response(headers);
    Ok(seen)
}

/// Which of these fields there are.
fn present<const N: usize>(headers: &HeaderMap, names: [&HeaderName; N]) -> [bool; N] {
    let mut present = [false; N];
    for field in headers.keys() {
        for (name, is_there) in names.iter().zip(&mut present) {
            *is_there |= field == *name;
        }
    }
    present
}

/// RFC 9112 section 6.3, for a message that hyper has framed by the same rules. `has_length`, `coded`: whether there is
/// a Content-Length, and a Transfer-Encoding.
fn frame(
    method: &Method,
    status: StatusCode,
    headers: &mut HeaderMap,
    (has_length, coded): (bool, bool),
    seen: &mut Seen,
) {
    let lengths = if has_length { headers.get_all(CONTENT_LENGTH).iter().count() } else { 0 };
    let length = if has_length { content_length(headers) } else { None };
    let bodiless = method == Method::HEAD || status == StatusCode::NOT_MODIFIED;

    if status == StatusCode::NO_CONTENT || status.is_informational() {
        // RFC 9112 section 6.1, 6.2: neither field is allowed here; a length of nothing does no harm.
        let harmless = !coded && (lengths == 0 || length == Some(0));
        seen.framing_ok = harmless;
        headers.remove(CONTENT_LENGTH);
    } else if coded && lengths > 0 {
        // RFC 9112 section 6.3: Transfer-Encoding overrides; such a message "ought to be handled as an error",
        // so nothing of it is kept and the connection goes.
        seen.framing_ok = false;
        seen.close_delimited = !bodiless && !is_chunked(headers);
        headers.remove(CONTENT_LENGTH);
    } else if coded {
        seen.framing_ok = is_only_chunked(headers) || is_unheard_of(headers);
        seen.close_delimited = !bodiless && !is_chunked(headers);
    } else if let Some(length) = length {
        seen.content_length = Some(length);
        // `3, 3` and two equal lines are one length. RFC 9110 section 8.6.
        let plain =
            lengths == 1 && headers.get(CONTENT_LENGTH).is_some_and(|v| !v.as_bytes().contains(&b','));
        if !plain {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    } else if lengths > 0 {
        // Only where there is no body, else hyper has refused it.
        seen.framing_ok = false;
        headers.remove(CONTENT_LENGTH);
    } else {
        seen.close_delimited = !bodiless;
    }
}

/// The one value that all members of all lines have.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut length = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        for member in line.to_str().ok()?.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() || !member.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let found = member.parse::<u64>().ok()?;
            if *length.get_or_insert(found) != found {
                return None;
            }
        }
    }
    length
}

/// The last coding is chunked: hyper has taken one layer off.
fn is_chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(TRANSFER_ENCODING).iter().next_back().and_then(|line| line.to_str().ok());
    last.and_then(|line| line.rsplit(',').next())
        .is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}

/// One coding that nobody has defined: nothing can have been coded by it, so the body is what it is, up to the
/// end of the connection. What looks like chunked may be meant to deceive a laxer reader.
fn is_unheard_of(headers: &HeaderMap) -> bool {
    // All that was ever registered; RFC 9112 section 7.
    const DEFINED: [&str; 7] =
        ["compress", "deflate", "gzip", "identity", "trailers", "x-compress", "x-gzip"];
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let first = lines.next().and_then(|line| line.to_str().ok());
    lines.next().is_none()
        && first.is_some_and(|line| {
            let coding = line.trim().to_ascii_lowercase();
            let is_token =
                !coding.is_empty() && coding.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            is_token && !DEFINED.contains(&coding.as_str()) && !coding.contains("chunk")
        })
}

/// Chunked is the only coding, once.
fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let first = lines.next().and_then(|line| line.to_str().ok());
    lines.next().is_none() && first.is_some_and(|line| line.trim().eq_ignore_ascii_case("chunked"))
}

fn names<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// `Keep-Alive: timeout=5, max=100`
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    names(headers, &KEEP_ALIVE).find_map(|member| {
        let (name, value) = member.split_once('=')?;
        let seconds = value.trim().trim_matches('"');
        let digits = !seconds.is_empty() && seconds.bytes().all(|b| b.is_ascii_digit());
        (name.trim().eq_ignore_ascii_case("timeout") && digits)
            .then(|| Duration::from_secs(seconds.parse().unwrap_or(u64::from(u32::MAX))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn judge(
        method: &Method,
        status: u16,
        version: Version,
        fields: &[(&'static str, &'static str)],
    ) -> (Result<Seen, Fault>, HeaderMap) {
        let mut headers = head(fields);
        let asked = Asked { method, upgrade: false, max_fields: 5 };
        let status = StatusCode::from_u16(status).unwrap();
        (inspect(asked, status, version, &mut headers), headers)
    }

    /// A row: method, status, fields; framing ok, closes, close-delimited, length, the Content-Length that goes on.
    #[track_caller]
    fn check(
        method: &Method,
        status: u16,
        fields: &[(&'static str, &'static str)],
        expected: (bool, bool, bool, Option<u64>, Option<&str>),
    ) {
        let (seen, headers) = judge(method, status, Version::HTTP_11, fields);
        let seen = seen.unwrap();
        let length = headers.get(CONTENT_LENGTH).map(|v| v.to_str().unwrap());
        let found = (seen.framing_ok, seen.close, seen.close_delimited, seen.content_length, length);
        assert_eq!(found, expected);
        assert!(!headers.contains_key(TRANSFER_ENCODING));
    }

    const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");

    #[test]
    fn framing_is_judged_as_rfc_9112_says() {
        let get = &Method::GET;
        check(get, 200, &[("content-length", "3")], (true, false, false, Some(3), Some("3")));
        check(get, 200, &[("content-length", "3, 3")], (true, false, false, Some(3), Some("3")));
        let twice = [("content-length", "3"), ("content-length", "3")];
        check(get, 200, &twice, (true, false, false, Some(3), Some("3")));
        check(get, 200, &[CHUNKED], (true, false, false, None, None));
        check(get, 200, &[("transfer-encoding", "Chunked")], (true, false, false, None, None));
        check(get, 200, &[], (true, true, true, None, None));
        check(get, 200, &[CHUNKED, ("content-length", "3")], (false, true, false, None, None));
        check(get, 200, &[("transfer-encoding", "xchunked")], (false, true, true, None, None));
        check(get, 200, &[("transfer-encoding", "gzip")], (false, true, true, None, None));
        check(get, 200, &[("transfer-encoding", "what")], (true, true, true, None, None));
        check(get, 200, &[("transfer-encoding", "what, ever")], (false, true, true, None, None));
        check(get, 200, &[("transfer-encoding", "gzip, chunked")], (false, true, false, None, None));
        check(get, 200, &[CHUNKED, CHUNKED], (false, true, false, None, None));
        check(get, 200, &[("transfer-encoding", "chunked, identity")], (false, true, true, None, None));
    }

    #[test]
    fn a_response_without_a_body_keeps_its_connection() {
        check(&Method::HEAD, 200, &[("content-length", "3")], (true, false, false, Some(3), Some("3")));
        check(&Method::HEAD, 200, &[CHUNKED], (true, false, false, None, None));
        check(&Method::HEAD, 200, &[], (true, false, false, None, None));
        check(&Method::HEAD, 200, &[("content-length", "+3")], (false, true, false, None, None));
        check(&Method::GET, 304, &[], (true, false, false, None, None));
        check(&Method::GET, 304, &[("content-length", "9")], (true, false, false, Some(9), Some("9")));
        check(&Method::GET, 204, &[("content-length", "0")], (true, false, false, None, None));
        check(&Method::GET, 204, &[("content-length", "3")], (false, true, false, None, None));
        check(&Method::GET, 204, &[CHUNKED], (false, true, false, None, None));
    }

    #[test]
    fn the_connection_option_and_the_version_close() {
        let close = [("content-length", "0"), ("connection", "x, Close")];
        check(&Method::GET, 200, &close, (true, true, false, Some(0), Some("0")));
        let (seen, _) = judge(&Method::GET, 200, Version::HTTP_10, &[("content-length", "0")]);
        assert!(seen.unwrap().close);
    }

    #[track_caller]
    fn check_fault(status: u16, fields: &[(&'static str, &'static str)], kind: ProxyError) {
        let (seen, _) = judge(&Method::GET, status, Version::HTTP_11, fields);
        assert_eq!(seen.unwrap_err().kind, kind);
    }

    #[test]
    fn what_no_origin_may_answer_is_refused() {
        check_fault(407, &[], ProxyError::HttpProtocolError);
        for status in [600, 666, 999] {
            check_fault(status, &[("content-length", "0")], ProxyError::HttpProtocolError);
        }
        check_fault(101, &[("upgrade", "websocket")], ProxyError::HttpProtocolError);
        check_fault(200, &[("a", ""); 6], ProxyError::HttpResponseHeaderSectionSize);
    }

    #[track_caller]
    fn check_keep_alive(value: &'static str, expected: Option<u64>) {
        assert_eq!(keep_alive(&head(&[("keep-alive", value)])), expected.map(Duration::from_secs));
    }

    #[test]
    fn the_origins_idle_limit_is_read() {
        check_keep_alive("timeout=5", Some(5));
        check_keep_alive("max=100, Timeout=\"7\"", Some(7));
        check_keep_alive("timeout=-5", None);
        check_keep_alive("max=100", None);
        check_keep_alive("timeout=99999999999999999999", Some(u64::from(u32::MAX)));
    }
}

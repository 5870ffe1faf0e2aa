//! Requests that hyper can't parse: what they are refused for, and our answer to them as bytes.
//!
//! They never reach the service. hyper answers them by itself, with a status and nothing else, and gives the
//! connection up; `link` keeps that answer back, and the connection sends this one in its place.

use http::header::{DATE, HeaderValue};
use http_body_util::BodyExt;

use super::Options;
use super::admit::MAX_METHOD;
use super::exchange::Answer;
use super::link;
use super::refusal::Refusal;

/// The longest target that hyper takes, whatever our own limit is.
const LONGEST_TARGET: usize = 65_534;

/// Why hyper did not take a request. `too_large` and `says` are what its error tells; `unparsed` is what has come of
/// the request, from its first byte on.
pub(crate) fn judge(too_large: bool, says: &str, unparsed: &[u8], options: &Options) -> Refusal {
    if !too_large {
        return Refusal::Malformed(format!("expected a request of HTTP/1.1, found otherwise: {says}"));
    }
    let mut lines = unparsed.split(|&byte| byte == b'\n');
    let line = lines.next().unwrap_or_default();
    if line.split(|&byte| byte == b' ').next().is_some_and(|method| method.len() > MAX_METHOD) {
        return Refusal::Malformed(format!(
            "method: found a longer one, expected at most {MAX_METHOD} bytes"
        ));
    }
    let limit = options.max_request_line.min(LONGEST_TARGET);
    let found = line.len();
    if found > limit {
        return Refusal::TargetTooLong { found, limit };
    }
    let fields = lines.take_while(|line| !line.trim_ascii().is_empty());
    let (fields, head) = fields.fold((0, found), |(fields, head), line| (fields + 1, head + line.len()));
    if fields > options.max_fields {
        Refusal::TooManyFields { limit: options.max_fields }
    } else if head > options.max_head {
        Refusal::HeadTooLarge { limit: options.max_head }
    } else {
        // What else hyper calls too large is a length that it keeps for purposes of its own.
        let what = "Content-Length: found a number that no content reaches, expected a smaller one";
        Refusal::Malformed(what.into())
    }
}

/// An answer as hyper would write it. Its exchange ends here, as it does when hyper has the last byte.
pub(crate) async fn written(answer: Answer, date: HeaderValue) -> Vec<u8> {
    let (mut head, body) = answer.into_parts();
    head.headers.insert(DATE, date);
    let mut bytes = link::head(head.status, &head.headers);
    // A page is there as a whole, and nothing in it can fail.
    if let Ok(body) = body.collect().await {
        bytes.extend_from_slice(&body.to_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(too_large: bool, unparsed: &str, expected: &str) {
        let options = Options { max_request_line: 100, max_head: 1000, max_fields: 3, ..Options::default() };
        let refusal = judge(too_large, "why", unparsed.as_bytes(), &options);
        assert!(format!("{refusal:?}").starts_with(expected), "{unparsed:?}: {refusal:?}");
    }

    #[test]
    fn what_is_too_large_is_told_apart() {
        let (long, head, method) = ("a".repeat(101), "a".repeat(1001), "M".repeat(65));
        check(true, &format!("GET {long}"), "TargetTooLong { found: 105, limit: 100 }");
        check(true, &format!("GET {long} HTTP/1.1\r\nA: b\r\n"), "TargetTooLong");
        check(true, &format!("{method} /"), "Malformed(\"method");
        check(true, &method, "Malformed(\"method");
        check(true, &format!("GET / HTTP/1.1\r\nA: {head}"), "HeadTooLarge { limit: 1000 }");
        check(true, &format!("GET / HTTP/1.1\r\na:\r\nb:{head}\r\nc:\r\n\r\nGET"), "HeadTooLarge");
        check(true, "GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\nd", "TooManyFields { limit: 3 }");
        check(true, "GET / HTTP/1.1\na:\nb:\nc:\nd:\n\n", "TooManyFields");
        check(
            true,
            "POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "Malformed(\"Content-Length",
        );
        check(false, &format!("GET {long}"), "Malformed");
        check(false, "", "Malformed");
    }

    #[test]
    fn a_target_is_never_longer_than_hyper_takes() {
        let options = Options { max_request_line: 1 << 20, ..Options::default() };
        let unparsed = format!("GET {} HTTP/1.1\r\n", "a".repeat(LONGEST_TARGET + 1));
        let refusal = judge(true, "why", unparsed.as_bytes(), &options);
        assert!(matches!(refusal, Refusal::TargetTooLong { limit: LONGEST_TARGET, .. }), "{refusal:?}");
    }
}

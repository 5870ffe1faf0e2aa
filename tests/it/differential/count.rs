//! Whether a server counts the requests of a connection as they are: each by its method, its target and the length of its
//! content, and none beside them.

use super::recorder::Connection;
use super::servers::{Answer, Server};
use super::strict::{self, Begin, Request};
use std::collections::HashMap;
use std::sync::Mutex;

/// Closes a connection of whole requests: who has read the bytes before it otherwise does not see it as it is.
const LAST: &[u8] = b"GET /the/last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

fn parsed(bytes: &[u8]) -> Option<Request> {
    match strict::read(bytes) {
        Ok(Begin::Whole(request) | Begin::Head(request)) => Some(request),
        _ => None,
    }
}

/// How a server counts the requests of a connection otherwise than they are.
pub(super) fn wrong_by(server: &Server, connection: &Connection, refusals: &Refusals) -> Option<String> {
    let mut expected = Vec::new();
    let mut rest = &connection.bytes[..];
    for request in &connection.requests {
        let (bytes, behind) = rest.split_at(request.length);
        expected.push((request.clone(), bytes));
        rest = behind;
    }
    let tail = rest;
    expected.push((parsed(LAST).unwrap(), LAST));
    let mut from = 0;
    while from < expected.len() {
        let asked: Vec<_> = expected[from..].iter().map(|(request, bytes)| (request, *bytes)).collect();
        let answers = server.ask(&asked, false);
        if answers.is_empty() {
            return Some(format!("no answer to {:?}", asked[0].0));
        }
        if let Some(wrong) = misread(server, &asked, &answers, refusals) {
            return Some(wrong);
        }
        // Who has refused a request need not read on: what is behind it comes on a new connection.
        let is_cut = answers.len() < asked.len();
        if is_cut && answers.last().is_some_and(|last| last.status < 400) {
            return Some(format!("{} answers to {} requests: {answers:?}", answers.len(), asked.len()));
        }
        from += answers.len();
    }
    if tail.is_empty() {
        return None;
    }
    // What broke off may be counted or refused, or neither.
    let begun = parsed(tail).unwrap_or_else(|| parsed(LAST).unwrap());
    let answers = server.ask(&[(&begun, tail)], true);
    let counted = |answer: &Answer| answer.seen.as_ref() == Some(&as_told(server.kind.name, &begun));
    match &answers[..] {
        [] => None,
        // Who has answered before the end may say then that it came too early.
        [first, rest @ ..]
            if (counted(first) || first.status >= 400) && rest.iter().all(|answer| answer.status == 400) =>
        {
            None
        }
        _ => Some(format!("{answers:?} to what broke off: {}", tail.escape_ascii())),
    }
}

/// How answers show that the requests were read otherwise.
fn misread(
    server: &Server,
    asked: &[(&Request, &[u8])],
    answers: &[Answer],
    refusals: &Refusals,
) -> Option<String> {
    let name = server.kind.name;
    if answers.len() > asked.len() {
        return Some(format!("{} answers to {} requests: {answers:?}", answers.len(), asked.len()));
    }
    asked.iter().zip(answers).find_map(|((request, _), answer)| {
        if !REFUSED.contains(&answer.status) && answer.seen.as_ref() == Some(&as_told(name, request)) {
            let whole = answer.content.is_none_or(|content| content == request.content);
            return (!whole)
                .then(|| format!("content of {request:?} was taken for {answer:?}, in {answers:?}"));
        }
        match REFUSALS.iter().find(|refusal| refusal.covers(name, request, answer)) {
            Some(refusal) => {
                *refusals.lock().unwrap().entry((name, refusal.why)).or_default() += 1;
                None
            }
            None => Some(format!("{request:?} was taken for {answer:?}, in {answers:?}")),
        }
    })
}

/// Method and target as the server tells them.
fn as_told(server: &str, request: &Request) -> String {
    let Request { method, target, .. } = request;
    match server {
        "Apache httpd" => format!("{method} {target} HTTP/1.1"),
        "gunicorn" => format!("{} {target}", method.to_ascii_uppercase()),
        // A query without a byte can't be told from none.
        "uvicorn" if target.ends_with('?') && target.matches('?').count() == 1 => {
            format!("{method} {}", target.trim_end_matches('?'))
        }
        // It takes the first of two slashes away.
        "Python's http.server" if target.starts_with("//") => {
            format!("{method} /{}", target.trim_start_matches('/'))
        }
        _ => format!("{method} {target}"),
    }
}

/// What is no answer to a request, but to what is none.
const REFUSED: [u16; 7] = [400, 408, 411, 413, 414, 417, 431];

/// How often a server refused, for what reason.
pub(super) type Refusals = Mutex<HashMap<(&'static str, &'static str), usize>>;

/// A class of right requests that a server does not take.
struct Refusal {
    server: &'static str,
    why: &'static str,
    statuses: &'static [u16],
    of: fn(&Request) -> bool,
}

impl Refusal {
    fn covers(&self, server: &str, request: &Request, answer: &Answer) -> bool {
        self.server == server && self.statuses.contains(&answer.status) && (self.of)(request)
    }
}

/// What servers refuse though RFC 9110 and 9112 allow it. Such a request counts as one, refused; what is behind it is
/// sent again on a new connection where the server has closed this one.
#[rustfmt::skip]
const REFUSALS: &[Refusal] = &[
    Refusal { server: "nginx", why: "a method of other bytes than A to Z, - and _", statuses: &[400],
        of: |request| request.method.bytes().any(|byte| !(byte.is_ascii_uppercase() || b"-_".contains(&byte))) },
    Refusal { server: "nginx", why: "a target that can't be decoded, or leads above its root", statuses: &[400],
        of: |request| is_odd_path(&request.target) },
    Refusal { server: "Apache httpd", why: "a target that can't be decoded, or leads above its root", statuses: &[400],
        of: |request| is_odd_path(&request.target) },
    Refusal { server: "nginx", why: "a line twice that it knows once", statuses: &[400],
        of: |request| request.fields.iter().any(|(name, _)| request.all(name).count() > 1) },
    Refusal { server: "waitress", why: "a method of small letters", statuses: &[400],
        of: |request| request.method.bytes().any(|byte| byte.is_ascii_lowercase()) },
    Refusal { server: "Apache httpd", why: "an expectation it does not know, or two", statuses: &[417],
        of: expects_more },
    Refusal { server: "Node", why: "an expectation it does not know", statuses: &[417],
        of: expects_more },
    Refusal { server: "Node", why: "a method it does not know", statuses: &[400],
        of: |request| !METHODS.contains(&&*request.method) },
    Refusal { server: "uvicorn", why: "an upgrade", statuses: &[400], of: |request| request.has("upgrade") },
    Refusal { server: "HAProxy", why: "a name of more than 255 bytes", statuses: &[400],
        of: |request| request.fields.iter().any(|(name, _)| name.len() > 255) },
    Refusal { server: "HAProxy", why: "a WebSocket without a key of 24 bytes", statuses: &[400],
        of: |request| {
            let whole = |key: &str| key.len() == 24 && key.ends_with("==");
            request.all("upgrade").any(|value| value.eq_ignore_ascii_case("websocket"))
                && !request.all("sec-websocket-key").any(whole)
        } },
];

/// Those of RFC 9110 and its kin.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "M-SEARCH"];

/// Anything but one line of the expectation that there is.
fn expects_more(request: &Request) -> bool {
    let lines: Vec<_> = request.all("expect").collect();
    lines.len() > 1 || lines.iter().any(|line| !line.eq_ignore_ascii_case("100-continue"))
}

/// A path with a percent sign that stands for no byte, or for one of no text, or with more steps up than down.
fn is_odd_path(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let encoded =
        path.split('%').skip(1).map(|rest| rest.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()));
    let depth =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").try_fold(0_i32, |depth, part| {
            let depth = if part == ".." { depth - 1 } else { depth + 1 };
            (depth >= 0).then_some(depth)
        });
    encoded.into_iter().any(|byte| byte.is_none_or(|byte| byte == 0)) || depth.is_none()
}

/// A connection that is claimed to hold requests of these lengths.
fn claimed(bytes: &str, lengths: &[usize]) -> Connection {
    let mut connection = Connection { bytes: bytes.as_bytes().to_vec(), ..Connection::default() };
    let mut at = 0;
    for length in lengths {
        let (method, rest) = bytes[at..].split_once(' ').unwrap();
        let (target, rest) = rest.split_once(' ').unwrap();
        connection.requests.push(Request {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: Vec::new(),
            content: length - (bytes[at..].len() - rest.len()) - (rest.find("\r\n\r\n").unwrap() + 4),
            length: *length,
        });
        at += length;
    }
    assert_eq!(at, bytes.len());
    connection
}

#[test]
fn servers_count_differently_what_is_never_sent_on() {
    // The others would wait for what is missing.
    let servers: Vec<_> = Server::all().into_iter().filter(|server| !server.kind.one_by_one).collect();
    let hidden = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(hidden.len(), 0x21);
    for (what, fields, content) in [
        ("a length that hides it", "Content-Length: 33\r\n", ""),
        ("no length", "", ""),
        ("both", "Content-Length: 37\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("a bare LF", "X-A: b\nContent-Length: 33\r\n", ""),
        ("a space before the colon", "Content-Length : 33\r\n", ""),
        ("a folded line", "X-A: b\r\n Content-Length: 33\r\n", ""),
        ("another coding", "Content-Length: 33\r\nTransfer-Encoding: xchunked\r\n", ""),
        ("a signed length", "Content-Length: +33\r\n", ""),
    ] {
        let first = format!("POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n{content}");
        let bytes = first.clone() + hidden;
        // Whatever is said of it, somebody counts otherwise. (Of what is clear, only what is wrong.)
        let one = claimed(&bytes, &[bytes.len()]);
        let two = claimed(&bytes, &[first.len(), hidden.len()]);
        let is_one = parsed(bytes.as_bytes()).map(|request| request.length == bytes.len());
        for (claim, is_true) in [(one, is_one == Some(true)), (two, is_one == Some(false))] {
            let otherwise: Vec<_> = servers
                .iter()
                .filter(|server| wrong_by(server, &claim, &Refusals::default()).is_some())
                .map(|server| server.kind.name)
                .collect();
            let expected = match (is_true, is_one) {
                (true, _) => otherwise.is_empty(),
                (false, Some(_)) => otherwise.len() == servers.len(),
                (false, None) => !otherwise.is_empty() || servers.is_empty(),
            };
            assert!(expected, "{what}, as {} requests: {otherwise:?}", claim.requests.len());
        }
    }
}

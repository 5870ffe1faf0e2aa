//! One line of the access log in each of its formats: bytes in, one line out, whatever the bytes are.
//!
//! Hand-written into a reused buffer, since this is on every request's path. What comes from outside passes one
//! of the escapes [`json_text`], [`percent`] and [`quoted`]; of URLs, [`Shown`] takes userinfo and queries away
//! before.

use super::record::{Record, Url};
use super::shown::Shown;
use super::write::{
    Civil, Escape, address, common_date, cut, decimal_digits, hex, json_text, json_token, milliseconds,
    number, padded, percent, quoted, signed, socket, three_digits, version,
};
use crate::access::Decision;
use crate::cache::outcome::CacheResult;
use crate::field::target::Scheme;
use crate::policy::Reason;
use std::io::Write as _;

/// Longer methods, URLs and other fields are cut, with `...`: a line stays a line that a person can read.
const MAX_METHOD: usize = 32;
const MAX_URL: usize = 8 << 10;
const MAX_FIELD: usize = 1 << 10;

/// A thread's buffer for the line, and the second whose date it wrote last.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The line, without its end.
    pub(super) line: Vec<u8>,
    second: Option<i64>,
    /// `2026-11-23T18:37:00` of that second.
    stamp: [u8; 19],
}

/// A JSON object. Members that every line has come first, `null` where unknown; then those that say something.
pub(super) fn json(scratch: &mut Scratch, record: &Record, query: bool) {
    json_within(scratch, record, query, MAX_URL);
}

/// The same with a URL of at most `max_url` bytes.
pub(super) fn json_within(scratch: &mut Scratch, record: &Record, query: bool, max_url: usize) {
    let outcome = &record.outcome;
    scratch.line.extend_from_slice(b"{\"time\":\"");
    scratch.rfc3339(record.at.wall);
    let out = &mut scratch.line;
    out.extend_from_slice(b"\",\"id\":\"");
    hex(out, record.id);
    out.extend_from_slice(b"\",\"client\":\"");
    socket(out, record.client);
    out.extend_from_slice(b"\",\"method\":\"");
    cut(out, record.method.as_str().as_bytes(), MAX_METHOD, json_text);
    out.extend_from_slice(b"\",\"url\":\"");
    url_within(out, record, query, max_url, json_text);
    out.extend_from_slice(b"\",\"version\":\"");
    out.extend_from_slice(version(record.version));
    out.extend_from_slice(b"\",\"status\":");
    match record.status {
        Some(status) => number(out, u64::from(status.as_u16())),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"bytes_in\":");
    number(out, record.bytes_in);
    out.extend_from_slice(b",\"bytes_out\":");
    number(out, record.bytes_out);
    out.extend_from_slice(b",\"duration_ms\":");
    milliseconds(out, record.duration);
    out.extend_from_slice(b",\"first_byte_ms\":");
    match record.first_byte {
        Some(first_byte) => milliseconds(out, first_byte),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"result\":\"");
    out.extend_from_slice(outcome.result.token().as_bytes());
    out.extend_from_slice(b"\",\"reason\":");
    match outcome.detail {
        Some(reason) => json_token(out, reason.token()),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"upstream\":");
    match outcome.upstream {
        Some(address) => {
            out.push(b'"');
            socket(out, address);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    if outcome.collapsed {
        out.extend_from_slice(b",\"collapsed\":true");
    }
    if outcome.stored {
        out.extend_from_slice(b",\"stored\":true");
    }
    if let Some(ttl) = outcome.ttl {
        out.extend_from_slice(b",\"ttl\":");
        signed(out, ttl);
    }
    if let Some(forward) = outcome.forward {
        out.extend_from_slice(b",\"forward\":");
        json_token(out, forward.token());
    }
    if let Some(status) = outcome.forward_status {
        out.extend_from_slice(b",\"forward_status\":");
        number(out, u64::from(status.as_u16()));
    }
    if let Some(error) = outcome.error {
        out.extend_from_slice(b",\"error\":");
        json_token(out, error.token());
    }
    if let Some(user) = &record.user {
        out.extend_from_slice(b",\"user\":\"");
        cut(out, user.as_bytes(), MAX_FIELD, json_text);
        out.push(b'"');
    }
    if let Some(rule) = record.rule.as_ref().map(Decision::rule) {
        out.extend_from_slice(b",\"rule\":");
        json_token(out, rule);
    }
    if !record.complete {
        out.extend_from_slice(b",\"complete\":false");
    }
    out.push(b'}');
}

/// Words with spaces between them; what has no value is left out, and has its name where it is there.
pub(super) fn text(scratch: &mut Scratch, record: &Record, query: bool) {
    let outcome = &record.outcome;
    scratch.rfc3339(record.at.wall);
    let out = &mut scratch.line;
    out.push(b' ');
    socket(out, record.client);
    out.push(b' ');
    cut(out, record.method.as_str().as_bytes(), MAX_METHOD, percent);
    out.push(b' ');
    url(out, record, query, percent);
    out.push(b' ');
    status(out, record);
    out.push(b' ');
    number(out, record.bytes_out);
    out.extend_from_slice(b"B ");
    milliseconds(out, record.duration);
    out.extend_from_slice(b"ms ");
    out.extend_from_slice(outcome.result.token().as_bytes());
    if let Some(reason) = outcome.detail {
        pair(out, b"reason", reason.token().as_bytes());
    }
    if let Some(error) = outcome.error {
        pair(out, b"error", error.token().as_bytes());
    }
    if let Some(user) = &record.user {
        pair(out, b"user", user.as_bytes());
    }
    if let Some(rule) = record.rule.as_ref().map(Decision::rule) {
        pair(out, b"rule", rule.as_bytes());
    }
    if let Some(first_byte) = record.first_byte {
        out.extend_from_slice(b" first-byte=");
        milliseconds(out, first_byte);
        out.extend_from_slice(b"ms");
    }
    if record.bytes_in > 0 {
        out.extend_from_slice(b" received=");
        number(out, record.bytes_in);
        out.push(b'B');
    }
    if let Some(address) = outcome.upstream {
        out.extend_from_slice(b" upstream=");
        socket(out, address);
    }
    if !record.complete {
        out.extend_from_slice(b" incomplete");
    }
    out.extend_from_slice(b" id=");
    hex(out, record.id);
}

/// Squid's native format: `time elapsed client result/status bytes method URL user hierarchy/peer type`.
/// The time is when the exchange ended, as Squid has it; bytes are the body's.
pub(super) fn squid(scratch: &mut Scratch, record: &Record, query: bool) {
    let out = &mut scratch.line;
    let elapsed = record.duration.as_millis() as u64;
    let end = record.at.wall.max(0) as u64 + elapsed;
    number(out, end / 1000);
    out.push(b'.');
    padded(out, end % 1000, 3);
    out.push(b' ');
    for _ in decimal_digits(elapsed)..6 {
        out.push(b' ');
    }
    number(out, elapsed);
    out.push(b' ');
    address(out, record.client.ip());
    out.push(b' ');
    out.extend_from_slice(squid_result(record).as_bytes());
    if !record.complete {
        out.extend_from_slice(b"_ABORTED");
    }
    out.push(b'/');
    status(out, record);
    out.push(b' ');
    number(out, record.bytes_out);
    out.push(b' ');
    cut(out, record.method.as_str().as_bytes(), MAX_METHOD, percent);
    out.push(b' ');
    url(out, record, query, percent);
    out.push(b' ');
    user(out, record);
    match record.outcome.upstream {
        Some(peer) => {
            out.extend_from_slice(b" HIER_DIRECT/");
            address(out, peer.ip());
        }
        None => out.extend_from_slice(b" HIER_NONE/-"),
    }
    out.push(b' ');
    // Squid shows the type without its parameters.
    let media_type =
        record.content_type.as_ref().and_then(|value| value.as_bytes().split(|b| *b == b';').next());
    match media_type.map(<[u8]>::trim_ascii) {
        Some(media_type) if !media_type.is_empty() => cut(out, media_type, MAX_FIELD, percent),
        Some(_) | None => out.push(b'-'),
    }
}

/// Squid's word for what happened.
fn squid_result(record: &Record) -> &'static str {
    match record.outcome.result {
        CacheResult::Local => "NONE_NONE",
        CacheResult::Invalid => "NONE_NONE",
        CacheResult::Denied => "TCP_DENIED",
        CacheResult::Tunnel => "TCP_TUNNEL",
        CacheResult::Error => "TCP_MISS",
        CacheResult::Bypass => "TCP_MISS",
        CacheResult::Collapsed => "TCP_CF_HIT",
        CacheResult::Hit => "TCP_MEM_HIT",
        CacheResult::Stale if record.outcome.detail == Some(Reason::StaleIfError) => "TCP_REFRESH_FAIL_OLD",
        CacheResult::Stale => "TCP_STALE_HIT",
        CacheResult::Revalidated => "TCP_REFRESH_UNMODIFIED",
        CacheResult::Miss => "TCP_MISS",
    }
}

/// Apache's combined format.
pub(super) fn combined(scratch: &mut Scratch, record: &Record, query: bool) {
    let out = &mut scratch.line;
    address(out, record.client.ip());
    out.extend_from_slice(b" - ");
    user(out, record);
    out.extend_from_slice(b" [");
    common_date(out, record.at.unix());
    out.extend_from_slice(b"] \"");
    cut(out, record.method.as_str().as_bytes(), MAX_METHOD, quoted);
    out.push(b' ');
    url(out, record, query, quoted);
    out.push(b' ');
    out.extend_from_slice(version(record.version));
    out.extend_from_slice(b"\" ");
    status(out, record);
    out.push(b' ');
    number(out, record.bytes_out);
    out.extend_from_slice(b" \"");
    match &record.referer {
        Some(referer) => Shown::of_text(referer.as_bytes(), query).write(out, MAX_FIELD, quoted),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" \"");
    match &record.user_agent {
        Some(agent) => cut(out, agent.as_bytes(), MAX_FIELD, quoted),
        None => out.push(b'-'),
    }
    out.push(b'"');
}

// What is shown of a URL.

fn url(out: &mut Vec<u8>, record: &Record, query: bool, escape: Escape) {
    url_within(out, record, query, MAX_URL, escape);
}

fn url_within(out: &mut Vec<u8>, record: &Record, query: bool, max: usize, escape: Escape) {
    let target = match &record.url {
        Url::Target(target) => target,
        Url::Shared(target) => target,
        Url::Text(text) if text.is_empty() => return out.push(b'-'),
        Url::Text(text) => return Shown::of_text(text.as_bytes(), query).write(out, max, escape),
    };
    // Of CONNECT: the authority is all there is.
    if target.path.is_empty() {
        return cut(out, target.authority.as_bytes(), MAX_FIELD, escape);
    }
    out.extend_from_slice(match target.scheme {
        Scheme::Http => b"http://",
        Scheme::Https => b"https://",
    });
    cut(out, target.authority.as_bytes(), MAX_FIELD, escape);
    Shown::of_path(&target.path, query).write(out, max, escape);
}

fn pair(out: &mut Vec<u8>, name: &[u8], token: &[u8]) {
    out.push(b' ');
    out.extend_from_slice(name);
    out.push(b'=');
    percent(out, token);
}

/// The user as one word; `-` where there is none.
fn user(out: &mut Vec<u8>, record: &Record) {
    match &record.user {
        Some(user) => cut(out, user.as_bytes(), MAX_FIELD, percent),
        None => out.push(b'-'),
    }
}

fn status(out: &mut Vec<u8>, record: &Record) {
    match record.status {
        Some(status) => padded(out, u64::from(status.as_u16()), 3),
        None => out.extend_from_slice(b"000"),
    }
}

impl Scratch {
    /// RFC 3339, UTC, with milliseconds. The date is worked out once a second.
    fn rfc3339(&mut self, wall: i64) {
        let second = wall.div_euclid(1000);
        if self.second != Some(second) {
            let time = Civil::of(second);
            let mut stamp = &mut self.stamp[..];
            // The stamp's length is exactly what is written.
            drop(write!(
                stamp,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
                time.year, time.month, time.day, time.hour, time.minute, time.second
            ));
            self.second = Some(second);
        }
        self.line.extend_from_slice(&self.stamp);
        let [a, b, c] = three_digits(wall.rem_euclid(1000) as u16);
        self.line.extend_from_slice(&[b'.', a, b, c, b'Z']);
    }
}

//! The access log and the metrics, told of exchanges as hostile as they come.

mod access_log;
mod metrics;
mod recent;
mod sites;

use super::{AccessLog, Format, Options, Record};
use crate::access::{Decision, RuleName};
use crate::cache::outcome::{CacheResult, Outcome};
use crate::clock::Moment;
use crate::field::status::{Forward, ProxyError};
use crate::field::target::Target;
use crate::policy::Reason;
use http::{HeaderValue, Method, StatusCode, Version};
use parking_lot::Mutex;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

const FORMATS: [Format; 4] = [Format::Text, Format::Json, Format::Squid, Format::Combined];

/// 2026-11-23T18:37:00.123Z.
const WALL: i64 = 1_795_459_020_123;

fn target(path: &str) -> Target {
    Target::absolute(&format!("http://example.com{path}").parse().unwrap()).unwrap()
}

/// A hit.
fn record() -> Record {
    Record {
        at: Moment { wall: WALL, mono: 0 },
        id: 0xbeef,
        client: "192.0.2.7:4711".parse().unwrap(),
        method: Method::GET,
        version: Version::HTTP_11,
        url: target("/a/b.js?v=1").into(),
        status: Some(StatusCode::OK),
        bytes_in: 0,
        bytes_out: 1024,
        duration: Duration::from_micros(1_234),
        first_byte: Some(Duration::from_micros(56)),
        outcome: Outcome {
            result: CacheResult::Hit,
            hit: true,
            forward: None,
            forward_status: None,
            stored: false,
            collapsed: false,
            ttl: Some(59),
            detail: None,
            error: None,
            upstream: None,
        },
        complete: true,
        user: None,
        rule: None,
        limit: None,
        content_type: Some(HeaderValue::from_static("text/javascript; charset=utf-8")),
        user_agent: Some(HeaderValue::from_static("curl/8")),
        referer: None,
        repeated: false,
    }
}

/// A failure, with all that may be told of one.
fn failure() -> Record {
    Record {
        client: "[2001:db8::1]:80".parse().unwrap(),
        method: Method::POST,
        status: Some(StatusCode::BAD_GATEWAY),
        bytes_in: 7,
        first_byte: None,
        outcome: Outcome {
            result: CacheResult::Error,
            hit: false,
            forward: Some(Forward::Method),
            forward_status: Some(StatusCode::OK),
            stored: false,
            collapsed: false,
            ttl: Some(-3),
            detail: Some(Reason::Method),
            error: Some(ProxyError::HttpResponseIncomplete),
            upstream: Some("198.51.100.1:8080".parse().unwrap()),
        },
        complete: false,
        user: Some("a \u{202e}\"b\\%".into()),
        rule: Some(Decision::Denied(RuleName::Own("destination-private"))),
        ..record()
    }
}

fn options(access: Format) -> Options {
    Options { access, ..Options::default() }
}

/// What the log wrote.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

fn log_all(options: &Options, records: &[Record]) -> String {
    let written = Written::default();
    let log = AccessLog::new(options, Box::new(written.clone())).unwrap();
    for record in records {
        log.write(record);
    }
    assert!(log.flush());
    assert_eq!(log.dropped(), 0);
    written.text()
}

fn one_line(options: &Options, record: &Record) -> String {
    let text = log_all(options, std::slice::from_ref(record));
    let line = text.strip_suffix('\n').unwrap_or_else(|| panic!("no line end: {text:?}"));
    assert!(
        !line.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}')),
        "{line:?}"
    );
    line.to_owned()
}

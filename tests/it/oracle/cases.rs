//! What is asked of both: an exchange that may be stored, a request some time after it, and what the origin answers to
//! that. Most of it is as it should be; the odd ones are few, so that a difference has one cause.

use larder::field::date;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// When each first response is received, in Unix seconds: 2026-11-23 00:00:00 UTC.
pub(super) const START: i64 = 1_795_392_000;

/// Fields in their order.
pub(super) type Lines = Vec<(&'static str, String)>;

/// One case.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// The method and fields of the request that the response is stored for.
    pub(super) method: &'static str,
    pub(super) request: Lines,
    pub(super) status: u16,
    pub(super) response: Lines,
    /// Milliseconds from the response to the second request.
    pub(super) passed: i64,
    pub(super) asking_method: &'static str,
    pub(super) asking: Lines,
    /// What the origin says to the validation.
    pub(super) answer_status: u16,
    pub(super) answer: Lines,
    /// Whether cookies are shared as RFC 9111 lets them.
    pub(super) shares_cookies: bool,
}

const SECONDS: [&str; 8] = ["0", "1", "5", "10", "60", "3600", "100000", "100000"];

/// Directives of responses that take no seconds.
const FLAGS: [&str; 8] = [
    "no-store",
    "no-cache",
    "private",
    "public",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "immutable",
];

/// Directives of responses that take seconds.
const DELTAS: [&str; 6] =
    ["max-age", "max-age", "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];

/// Directives of either side that are not as one would write them.
const ODD: [&str; 26] = [
    "Max-Age=60",
    "NO-STORE",
    "Private",
    "No-Cache",
    "Must-Revalidate",
    "max-age=\"60\"",
    "max-age = 60",
    "max-age=-1",
    "max-age=1.5",
    "max-age=60x",
    "max-age=+60",
    "max-age",
    "max-age=",
    "max-age=99999999999",
    "s-maxage=x",
    "stale-while-revalidate=x",
    "stale-if-error=",
    "no-cache=\"x-a\"",
    "private=\"x-a\"",
    "no-store=1",
    "no-store=",
    "ext=\"a, no-store, b\"",
    "ext=\"max-age=0",
    "must-understand",
    "foo=bar",
    "",
];

const REQUEST_FLAGS: [&str; 4] = ["no-cache", "no-store", "only-if-cached", "max-stale"];
const REQUEST_DELTAS: [&str; 3] = ["max-age", "min-fresh", "max-stale"];

const STATUSES: [u16; 26] = [
    201, 203, 204, 206, 299, 300, 301, 302, 303, 307, 308, 400, 404, 404, 405, 410, 412, 414, 416, 451, 500,
    501, 502, 503, 504, 599,
];

const TAGS: [&str; 5] = ["\"a\"", "\"a\"", "W/\"a\"", "\"b\"", "a"];
const VARIES: [&str; 8] = ["x-a", "x-a", "X-A, x-b", "accept-encoding", "accept-language", "*", "x-a, *", ""];
const VALUES: [&str; 7] = ["1", "1", "2", "1, 2", "1,2", "A", "a"];
const CODINGS: [&str; 4] = ["gzip, br", "br,gzip", "gzip;q=0.5", "foo"];
const LANGUAGES: [&str; 4] = ["en, de", "de, en", "EN, de", "de"];

impl Case {
    pub(super) fn draw(random: &mut StdRng) -> Self {
        let method = pick(random, &[("GET", 94), ("HEAD", 3), ("POST", 3)]);
        let status = if random.random_ratio(4, 5) { 200 } else { of(random, &STATUSES) };
        let asking_method = pick(random, &[("GET", 94), ("HEAD", 3), ("POST", 3)]);
        let answer_status = pick(random, &[(304, 60), (200, 20), (500, 5), (503, 10), (404, 5)]);
        let passed = passed(random);
        let request = selecting(random);
        // Most ask again what was asked before.
        let again = random.random_ratio(2, 3);
        let mut case = Self {
            method,
            status,
            response: response(random, 0, false),
            passed,
            asking_method,
            asking: if again { request.clone() } else { selecting(random) },
            request,
            answer_status,
            answer: response(random, passed / 1000, answer_status == 304),
            shares_cookies: random.random_ratio(1, 2),
        };
        seldom(random, 40, &mut case.request, "authorization", "Basic eDp5");
        let directives = request_directives(random);
        if !directives.is_empty() && random.random_ratio(1, 3) {
            case.request.extend(directives);
        }
        case.asking.extend(request_directives(random));
        case.asking.extend(conditions(random));
        case
    }

    /// As a line for the other side.
    pub(super) fn line(&self) -> Value {
        json!({
            "request": { "method": self.method, "headers": self.request },
            "response": { "status": self.status, "headers": self.response },
            "asking": { "method": self.asking_method, "headers": self.asking },
            "answer": { "status": self.answer_status, "headers": self.answer },
            "received": START * 1000,
            "now": START * 1000 + self.passed,
        })
    }
}

/// How much passes: whole seconds for the most part, so that bounds are met exactly.
fn passed(random: &mut StdRng) -> i64 {
    let seconds = of(random, &[0, 0, 1, 4, 5, 6, 10, 30, 59, 60, 61, 1000, 3600, 50_000, 200_000]);
    seconds * 1000 + if random.random_ratio(1, 4) { random.random_range(0..1000) } else { 0 }
}

/// Fields of a response that comes that many seconds after the start. One that only updates says less.
fn response(random: &mut StdRng, seconds: i64, updates: bool) -> Lines {
    let mut lines: Lines = Vec::new();
    if !updates || random.random_ratio(1, 3) {
        let mut directives: Vec<String> = Vec::new();
        for _ in 0..of(random, &[0, 1, 1, 1, 2, 2, 3]) {
            directives.push(match random.random_range(0..10) {
                0..6 => format!("{}={}", of(random, &DELTAS), of(random, &SECONDS)),
                6..9 => of(random, &FLAGS).to_owned(),
                _ => of(random, &ODD).to_owned(),
            });
        }
        put_directives(random, &mut lines, &directives);
    }
    let date = pick(random, &[(Some(0), 75), (None, 10), (Some(-5), 5), (Some(-5000), 5), (Some(5000), 5)]);
    if let Some(date) = date {
        lines.push(("date", at(seconds + date)));
    }
    if one_in(random, 4) {
        let from = of(random, &[-100_000, -60, 0, 5, 60, 3600, 100_000]);
        lines.push(("expires", odd_date(random, seconds + from)));
        if one_in(random, 20) {
            lines.push(("expires", at(seconds + 60)));
        }
    }
    if one_in(random, 3) {
        let from = of(random, &[-1_000_000, -36_000, -600, -600, 0, 600]);
        lines.push(("last-modified", odd_date(random, from)));
    }
    if one_in(random, 3) {
        lines.push(("etag", of(random, &TAGS).to_owned()));
    }
    if one_in(random, 5) {
        let age =
            of(random, &["0", "4", "60", "60", "3600", "-4", "x", "60x", "1.5", "5, 60", "99999999999"]);
        lines.push(("age", age.to_owned()));
    }
    if one_in(random, 6) {
        lines.push(("vary", of(random, &VARIES).to_owned()));
    }
    seldom(random, 12, &mut lines, "set-cookie", "c=1");
    seldom(random, 20, &mut lines, "pragma", "no-cache");
    seldom(random, 20, &mut lines, "content-location", "/x");
    seldom(random, 8, &mut lines, "x-a", "1");
    seldom(random, 12, &mut lines, "content-length", "7");
    seldom(random, 12, &mut lines, "content-encoding", "gzip");
    seldom(random, 12, &mut lines, "content-language", "de");
    lines
}

/// One line or several, with or without a space between members.
fn put_directives(random: &mut StdRng, lines: &mut Lines, directives: &[String]) {
    if directives.is_empty() {
        return;
    }
    if random.random_ratio(1, 6) {
        lines.extend(directives.iter().map(|one| ("cache-control", one.clone())));
    } else {
        let between = of(random, &[", ", ", ", ",", " , "]);
        lines.push(("cache-control", directives.join(between)));
    }
}

fn request_directives(random: &mut StdRng) -> Lines {
    let mut lines: Lines = Vec::new();
    let mut directives: Vec<String> = Vec::new();
    for _ in 0..of(random, &[0, 0, 0, 0, 1, 1, 2]) {
        directives.push(match random.random_range(0..10) {
            0..6 => format!("{}={}", of(random, &REQUEST_DELTAS), of(random, &SECONDS)),
            6..9 => of(random, &REQUEST_FLAGS).to_owned(),
            _ => of(random, &ODD).to_owned(),
        });
    }
    put_directives(random, &mut lines, &directives);
    seldom(random, 25, &mut lines, "pragma", "no-cache");
    lines
}

/// Fields that a response may be selected by.
fn selecting(random: &mut StdRng) -> Lines {
    let mut lines: Lines = Vec::new();
    for (name, values) in [
        ("x-a", &VALUES[..]),
        ("x-b", &VALUES),
        ("accept-encoding", &CODINGS),
        ("accept-language", &LANGUAGES),
    ] {
        if random.random_ratio(1, 4) {
            lines.push((name, of(random, values).to_owned()));
        }
    }
    lines
}

fn conditions(random: &mut StdRng) -> Lines {
    let mut lines: Lines = Vec::new();
    match random.random_range(0..60) {
        0 => lines.push(("if-none-match", of(random, &TAGS).to_owned())),
        1 => lines.push(("if-modified-since", at(-600))),
        2 => lines.push(("if-match", of(random, &TAGS).to_owned())),
        3 => lines.push(("range", "bytes=0-1".to_owned())),
        _ => {}
    }
    lines
}

/// A date, seldom spelled as one must not or another way.
fn odd_date(random: &mut StdRng, seconds: i64) -> String {
    let good = at(seconds);
    match random.random_range(0..40) {
        0 => "0".to_owned(),
        1 => good.replace(" GMT", ""),
        2 => good.to_uppercase(),
        3 => good.replace(',', ""),
        4 => good.get(5..).unwrap_or_default().to_owned(),
        5 => String::new(),
        _ => good,
    }
}

/// A date that many seconds after the start.
pub(super) fn at(seconds: i64) -> String {
    date::format(START + seconds).to_str().unwrap().to_owned()
}

/// One of them.
fn of<T: Copy>(random: &mut StdRng, all: &[T]) -> T {
    all[random.random_range(0..all.len())]
}

/// One of them, each as often as its weight says.
fn pick<T: Copy>(random: &mut StdRng, all: &[(T, u32)]) -> T {
    let mut left = random.random_range(0..all.iter().map(|(_, weight)| weight).sum());
    for (one, weight) in all {
        if left < *weight {
            return *one;
        }
        left -= weight;
    }
    unreachable!("less than their sum was drawn")
}

/// Whether it is that once in so many times.
fn one_in(random: &mut StdRng, times: u32) -> bool {
    random.random_ratio(1, times)
}

/// Adds a field once in so many times.
fn seldom(random: &mut StdRng, times: u32, lines: &mut Lines, name: &'static str, value: &str) {
    if one_in(random, times) {
        lines.push((name, value.to_owned()));
    }
}

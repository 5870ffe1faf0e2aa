//! Policy as a whole: requests, responses and leaps of both clocks, one after the other, driven as the cache drives it,
//! over a store that keeps all variants of one key.
//!
//! What must hold is asked of the fields themselves by a reader of its own, the plainest there is: it believes only
//! lines without quotes. Where that reader finds a word, no cleverer one may overlook it.

use crate::dice::Dice;
use crate::fields::plain_members;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use larder::clock::Moment;
use larder::field::cache_control::Delta;
use larder::field::{list, treatment};
use larder::policy::rules::{Override, Rule};
use larder::policy::{
    self, Answer, Asked, Candidate, FieldLines, Head, HeadEffect, Options, Plan, Reason, Reply, RequestFacts,
    SetCookie, Source, StoredHead, Terms, Verdict, explain,
};

static NAMES: [HeaderName; 30] = [
    header::CACHE_CONTROL,
    header::CACHE_CONTROL,
    header::CACHE_CONTROL,
    header::VARY,
    header::ETAG,
    header::DATE,
    header::AGE,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::SET_COOKIE,
    header::CONTENT_RANGE,
    header::CONTENT_LENGTH,
    header::PRAGMA,
    header::CONTENT_LANGUAGE,
    header::CDN_CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::AUTHORIZATION,
    header::COOKIE,
    header::ACCEPT_LANGUAGE,
    header::ACCEPT_ENCODING,
    header::EXPECT,
    header::LOCATION,
    HeaderName::from_static("x-any"),
];

const DIRECTIVES: &[&str] = &[
    "max-age=60",
    "no-store",
    "private",
    "no-cache",
    "must-revalidate",
    "proxy-revalidate",
    "public",
    "s-maxage=30",
    "max-age=0",
    "max-age=100000",
    "stale-while-revalidate=600",
    "stale-if-error=600",
    "immutable",
    "must-understand",
    "no-cache=\"x-any, etag\"",
    "private=\"x-any\"",
    "max-stale",
    "max-stale=100",
    "min-fresh=3",
    "only-if-cached",
    "max-age=99999999999999999999",
    "max-age=+5",
    "max-age",
    "s-maxage=0",
    "No-Store",
    "PRIVATE",
    "x=\"y",
];

/// For each of [`NAMES`] what may stand there, besides anything.
fn words(name: &HeaderName) -> &'static [&'static str] {
    match name.as_str() {
        "cache-control" | "cdn-cache-control" => DIRECTIVES,
        "vary" => &[
            "x-any",
            "accept-language",
            "accept-encoding, x-any",
            "*",
            "x-any, *",
            "cookie",
            "Accept-Language,X-Any",
        ],
        "etag" | "if-match" | "if-none-match" | "if-range" => {
            &["\"a\"", "W/\"a\"", "\"b\"", "*", "a", "\"a\", \"b\"", ""]
        }
        "date" | "expires" | "last-modified" | "if-modified-since" | "if-unmodified-since" => &[
            "Mon, 23 Nov 2026 00:00:00 GMT",
            "Mon, 23 Nov 2026 00:01:00 GMT",
            "Sun, 22 Nov 2026 00:00:00 GMT",
            "Tue, 24 Nov 2026 00:00:00 GMT",
            "0",
            "-1",
            "Monday, 23-Nov-26 00:00:00 GMT",
            "Mon Nov 23 00:00:00 2026",
        ],
        "age" => &["0", "10", "59", "99999999999", "-1", "+3", "5, 6", "x"],
        "content-range" => &[
            "bytes 0-4/10",
            "bytes 5-9/10",
            "bytes 0-9/10",
            "bytes 0-4/*",
            "bytes 3-7/10",
            "bytes */10",
            "x",
        ],
        "range" => &["bytes=0-4", "bytes=5-", "bytes=-3", "bytes=0-1, 3-4", "bytes=9-20", "bytes=20-", "x=1"],
        "content-length" => &["10", "5", "0", "3"],
        "pragma" => &["no-cache", "x"],
        "content-language" | "accept-language" => &["de", "en", "de, en", "en;q=0.5, de", "*"],
        "accept-encoding" | "content-encoding" => &["gzip", "br, gzip", "identity;q=0", "gzip;q=0", "", "x"],
        "connection" => &["close", "x-any", "cache-control, vary, etag", "keep-alive"],
        "expect" => &["100-continue"],
        "location" => &["/other"],
        _ => &["a", "b", "a, b", "a ,b", ""],
    }
}

fn value(dice: &mut Dice, name: &HeaderName) -> HeaderValue {
    let words = words(name);
    let several = *name == header::CACHE_CONTROL || *name == header::CDN_CACHE_CONTROL;
    let made = match dice.byte() {
        0..=7 => HeaderValue::from_bytes(dice.bytes(24)).ok(),
        8..=150 if several => {
            HeaderValue::try_from(format!("{}, {}", dice.pick(words), dice.pick(words))).ok()
        }
        _ => Some(HeaderValue::from_static(dice.pick(words))),
    };
    made.unwrap_or(HeaderValue::from_static("x"))
}

fn lines(dice: &mut Dice) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for _ in 0..dice.below(7) {
        let name = &NAMES[dice.below(NAMES.len())];
        headers.append(name, value(dice, name));
    }
    headers
}

fn options(dice: &mut Dice) -> Options {
    if !dice.once_in(3) {
        return Options::default();
    }
    Options {
        heuristic_fraction: dice.pick(&[0.1, 0.0, 1.0, 1e9]),
        heuristic_max: dice.pick(&[86_400_000, 0, i64::MAX]),
        stale_if_error: dice.pick(&[3_600_000, 0, i64::MAX]),
        targeted_fields: if dice.once_in(3) { vec![header::CDN_CACHE_CONTROL] } else { Vec::new() },
        set_cookie: dice.pick(&[SetCookie::Strict, SetCookie::Rfc9111]),
        s_maxage_allows_stale_while_revalidate: dice.once_in(2),
        max_ranges: dice.below(4),
        store_close_delimited: dice.once_in(2),
        normalize_accept_language: dice.once_in(2),
    }
}

fn rule(dice: &mut Dice) -> Option<Rule> {
    let milliseconds =
        |dice: &mut Dice| dice.once_in(2).then(|| dice.pick(&[0, 5_000, 86_400_000, i64::MAX]));
    let freshness = Override {
        min: milliseconds(dice),
        max: milliseconds(dice),
        force: milliseconds(dice),
        ..Override::default()
    };
    Some(Rule {
        cache: dice.once_in(4).then_some(false),
        freshness: vec![freshness],
        stale_if_error: milliseconds(dice),
        stale_while_revalidate: milliseconds(dice),
        ..Rule::default()
    })
}

/// What is stored, and what is known of it besides.
struct Stored {
    head: StoredHead,
    marked: bool,
    length: u64,
    /// The request that it answered, or for which it was last found to be current.
    request: HeaderMap,
    /// How much time has passed since, whatever clocks say. Milliseconds.
    passed: i64,
}

impl Candidate for Stored {
    fn head(&self) -> Head<'_> {
        self.head.view()
    }

    fn marked_stale(&self) -> bool {
        self.marked
    }

    fn length(&self) -> u64 {
        self.length
    }
}

/// What the plainest reader finds in Cache-Control.
struct Words(Vec<(String, Option<String>)>);

impl Words {
    fn of(lines: &[HeaderValue]) -> Self {
        Self(plain_members(lines))
    }

    fn of_fields(fields: FieldLines<'_>) -> Self {
        Self::of(&fields.get_all(&header::CACHE_CONTROL).collect::<Vec<_>>())
    }

    fn of_map(headers: &HeaderMap) -> Self {
        Self::of(&headers.get_all(header::CACHE_CONTROL).iter().cloned().collect::<Vec<_>>())
    }

    fn says(&self, name: &str) -> bool {
        self.0.iter().any(|(known, argument)| known == name && argument.is_none())
    }

    fn names(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// The one number that all mentions give. Seconds.
    fn seconds(&self, name: &str) -> Option<i64> {
        let mut all = self.0.iter().filter(|(known, _)| known == name);
        let value = all.next()?.1.as_ref()?;
        let digits = !value.is_empty() && value.len() < 10 && value.bytes().all(|byte| byte.is_ascii_digit());
        (digits && all.all(|(_, other)| other.as_ref() == Some(value))).then(|| value.parse().ok())?
    }

    fn forbids_stale(&self) -> bool {
        self.says("must-revalidate") || self.says("proxy-revalidate") || self.says("no-cache")
    }
}

/// Whether some line has a quote, so that the plain reader does not see all of it.
fn is_odd(headers: &HeaderMap) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|line| line.as_bytes().contains(&b'"'))
}

struct World {
    options: Options,
    rule: Option<Rule>,
    now: Moment,
    stored: Vec<Stored>,
}

/// A request, as the cache sees it.
struct Ask {
    method: Method,
    headers: HeaderMap,
    has_content: bool,
}

/// What the origin does.
struct Given {
    status: StatusCode,
    headers: HeaderMap,
    sent: Moment,
    framing_ok: bool,
    close_delimited: bool,
    content_length: Option<u64>,
}

/// What the sequence is made of: at most so many steps, since later ones are seldom new.
const STEPS: usize = 24;

pub fn policy(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let rule = if dice.once_in(8) { rule(&mut dice) } else { None };
    let start = match dice.byte() {
        255 => dice.number() as i64,
        _ => 1_795_392_000_000,
    };
    let options = options(&mut dice);
    let mut world = World { options, rule, now: Moment { wall: start, mono: 0 }, stored: Vec::new() };
    for _ in 0..STEPS {
        if dice.is_empty() {
            break;
        }
        match dice.below(4) {
            0 => world.leap(&mut dice),
            _ => world.ask(&mut dice),
        }
    }
}

impl World {
    fn terms(&self) -> Terms<'_> {
        Terms { options: &self.options, rule: self.rule.as_ref(), now: self.now }
    }

    /// Time goes on, and a clock may be set, or stop while the machine sleeps.
    fn leap(&mut self, dice: &mut Dice) {
        let by = dice.pick(&[1_000, 0, 29_999, 60_000, 61_000, 600_000, 86_400_000, 999]);
        let set = match dice.below(8) {
            0 => -3_600_000,
            1 => 3_600_000,
            2 => -40 * 86_400_000,
            3 => 40 * 86_400_000,
            4 if dice.once_in(16) => dice.number() as i64,
            _ => 0,
        };
        self.now = self.now.plus(by);
        self.now.wall = self.now.wall.saturating_add(set);
        for stored in &mut self.stored {
            stored.passed += by;
        }
    }

    /// Whether the plain reader sees what counts: no rule of ours, and no targeted field that takes the place of
    /// Cache-Control.
    fn is_plain(&self, has: impl Fn(&HeaderName) -> bool) -> bool {
        self.rule.is_none() && !self.options.targeted_fields.iter().any(has)
    }

    fn ask(&mut self, dice: &mut Dice) {
        let method = match dice.below(16) {
            0 => Method::HEAD,
            1 => Method::POST,
            2 => Method::from_bytes(b"get").unwrap_or_default(),
            3 => Method::OPTIONS,
            _ => Method::GET,
        };
        let has_content = dice.once_in(16);
        let mut headers = lines(dice);
        treatment::strip_request(&mut headers);
        let ask = Ask { method, headers, has_content };
        let facts = RequestFacts::of(&ask.method, &ask.headers, ask.has_content);
        let plan = policy::plan(&facts, &self.stored, &self.terms());
        let _: explain::Decision = explain::decision(&facts, &self.stored, &self.terms());
        self.planned(&ask, &plan);
        match plan {
            Plan::Bypass { .. } => {
                let given = self.origin(dice);
                let target = "http://a.example/x"
                    .parse()
                    .ok()
                    .and_then(|uri| larder::field::target::Target::absolute(&uri).ok());
                let gone = target
                    .map(|target| policy::invalidates(&ask.method, given.status, &target, &given.headers));
                if gone.is_some_and(|gone| !gone.is_empty()) {
                    assert!(!policy::is_safe(&ask.method));
                    self.stored.clear();
                }
            }
            Plan::Unsatisfiable { .. } => {}
            Plan::Serve { index, .. } => self.serve(&ask, index, false),
            Plan::ServeAndRefresh { index, .. } => {
                self.serve(&ask, index, false);
                let refresh =
                    Ask { method: Method::GET, headers: refreshing(&ask.headers), has_content: false };
                self.fetch(dice, &refresh, Some(index), true, true);
            }
            Plan::Fetch { store, etags, .. } => {
                if etags.is_some() {
                    assert!(!facts.has_conditions() && facts.range.is_none());
                }
                assert!(!store || ask.method == Method::GET);
                self.variants(dice, &ask, store, etags.is_some());
            }
            Plan::Revalidate { index, .. } if ask.method == Method::HEAD => self.head(dice, &ask, index),
            Plan::Revalidate { index, .. } => self.fetch(dice, &ask, Some(index), true, false),
            Plan::Complete { index, range, .. } => {
                assert!(range.to_str().is_ok_and(|range| range.starts_with("bytes=")));
                self.complete(dice, &ask, index);
            }
        }
    }

    /// What no plan may be, whatever is stored.
    fn planned(&self, ask: &Ask, plan: &Plan) {
        let words = Words::of_map(&ask.headers);
        let (index, refreshed) = match plan {
            // Nobody refreshes it where only-if-cached was asked.
            Plan::Serve { index, reason, .. } => (*index, *reason == Some(Reason::StaleWhileRevalidate)),
            Plan::ServeAndRefresh { index, .. } => (*index, true),
            Plan::Bypass { .. } => {
                assert!(
                    !words.says("only-if-cached")
                        || (ask.method != Method::GET && ask.method != Method::HEAD)
                );
                return;
            }
            _ => {
                assert!(!words.says("no-store") || matches!(plan, Plan::Unsatisfiable { .. }));
                assert!(ask.method == Method::GET || ask.method == Method::HEAD);
                return;
            }
        };
        let stored = &self.stored[index];
        assert!(ask.method == Method::GET || ask.method == Method::HEAD, "{}", ask.method);
        assert!(!ask.has_content && !words.says("no-store"));
        self.selects(ask, stored);
        if !self.is_plain(|name| stored.head.fields().contains(name)) {
            return;
        }
        assert!(!words.says("no-cache"), "served against the request's no-cache");
        assert!(!stored.marked, "served although a HEAD showed that it is outdated");
        let said = Words::of_fields(stored.head.fields());
        assert!(!said.says("no-cache"), "served without validation");
        let Some(stale_for) = staleness(stored, &said) else { return };
        if stale_for >= 0 {
            assert!(!said.forbids_stale(), "served stale against must-revalidate");
            let allowed = refreshed || words.names("max-stale") || is_odd(&ask.headers);
            assert!(allowed, "served stale without leave");
            let shared =
                said.names("s-maxage") && !(refreshed && self.options.s_maxage_allows_stale_while_revalidate);
            assert!(!shared, "served stale against s-maxage");
            if let (true, Some(window)) = (refreshed, said.seconds("stale-while-revalidate")) {
                assert!(stale_for < window * 1000, "served after its window");
            }
        }
        if let Some(most) = words.seconds("max-age")
            && !words.names("max-stale")
            && !is_odd(&ask.headers)
            // A reload of what never changes: RFC 8246.
            && !(most == 0 && said.names("immutable"))
        {
            assert!(stored.passed / 1000 <= most, "older than the request wants");
        }
    }

    /// The request says what the one said that the response was stored for, in all that Vary names.
    fn selects(&self, ask: &Ask, stored: &Stored) {
        let vary: Vec<HeaderValue> = stored.head.fields().get_all(&header::VARY).collect();
        for (name, _) in plain_members(&vary) {
            assert!(name != "*", "Vary: * was served");
            let Ok(name) = HeaderName::try_from(name) else { continue };
            let alike = |headers: &HeaderMap| {
                let lines = headers.get_all(&name).iter();
                lines
                    .flat_map(|line| line.as_bytes())
                    .filter(|byte| !matches!(byte, b' ' | b'\t'))
                    .copied()
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                ask.headers.contains_key(&name),
                stored.request.contains_key(&name)
                    || name == header::ACCEPT_LANGUAGE && ask.headers.contains_key(&name),
                "{name}"
            );
            let one_line = ask.headers.get_all(&name).iter().count() <= 1
                && stored.request.get_all(&name).iter().count() <= 1;
            if one_line && name != header::ACCEPT_LANGUAGE && name != header::ACCEPT_ENCODING {
                assert_eq!(alike(&ask.headers), alike(&stored.request), "{name}");
            }
        }
    }

    /// Answers from what is stored, as `cache::serve` does.
    fn serve(&self, ask: &Ask, index: usize, validated: bool) {
        let stored = &self.stored[index];
        let facts = RequestFacts::of(&ask.method, &ask.headers, ask.has_content);
        let freshness = policy::freshness(stored.head.view(), &self.terms());
        assert!(freshness.lifetime >= 0 && freshness.current_age >= 0);
        for headers in [
            policy::served_fields(stored.head.view(), &freshness, validated),
            policy::not_modified_fields(stored.head.view(), &freshness),
        ] {
            let ages: Vec<_> = headers.get_all(header::AGE).iter().collect();
            assert!(ages.len() == 1 && ages[0].as_bytes().iter().all(u8::is_ascii_digit), "{ages:?}");
            let age = list::digits(ages[0].as_bytes()).unwrap_or_default();
            assert!(
                age >= (stored.passed / 1000).unsigned_abs(),
                "{age} s, and {} ms have passed",
                stored.passed
            );
            let no_trace = |name: &HeaderName| treatment::of(name).hop_by_hop;
            assert!(!headers.keys().any(no_trace));
        }
        let whole = stored.head.completeness.complete_length(Some(stored.length));
        match policy::answer(&facts, stored.head.view(), whole, self.options.max_ranges) {
            Answer::Whole => assert!(stored.head.is_complete()),
            Answer::Missing => assert!(!stored.head.is_complete()),
            Answer::NotModified => assert!(facts.has_conditions()),
            Answer::PreconditionFailed => {
                assert!(
                    ask.headers.contains_key(header::IF_MATCH)
                        || ask.headers.contains_key(header::IF_UNMODIFIED_SINCE)
                );
            }
            Answer::RangeNotSatisfiable => assert!(facts.range.is_some()),
            Answer::Ranges(ranges) => {
                assert!(
                    facts.range.is_some() && !ranges.is_empty() && ranges.len() <= self.options.max_ranges
                );
                let mut sorted = ranges.clone();
                sorted.sort_by_key(|range| range.start);
                assert!(sorted.windows(2).all(|two| two[0].end <= two[1].start), "{ranges:?}");
                for range in &ranges {
                    let at = policy::locate(&stored.head.completeness, range);
                    assert!(
                        range.start < range.end && at.is_some_and(|at| at.end <= stored.length),
                        "{range:?}"
                    );
                }
            }
        }
    }

    /// What the origin answers, hop-by-hop fields dropped.
    fn origin(&mut self, dice: &mut Dice) -> Given {
        let status = match dice.below(12) {
            0 => 304,
            1 => 206,
            2 => 404,
            3 => 503,
            4 => 200 + dice.number() as u16 % 400,
            5 => 410,
            6 => 301,
            _ => 200,
        };
        let mut headers = lines(dice);
        treatment::strip_response(&mut headers);
        let sent = self.now;
        if dice.once_in(4) {
            self.leap(dice);
        }
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| list::digits(length.as_bytes()));
        Given {
            status: StatusCode::from_u16(status).unwrap_or_default(),
            headers,
            sent,
            framing_ok: !dice.once_in(16),
            close_delimited: length.is_none() && dice.once_in(4),
            content_length: length,
        }
    }

    fn reply<'a>(&self, given: &'a Given) -> Reply<'a> {
        Reply {
            status: given.status,
            headers: &given.headers,
            request_time: given.sent,
            response_time: self.now,
            framing_ok: given.framing_ok,
            close_delimited: given.close_delimited,
            content_length: given.content_length,
        }
    }

    /// A fetch with the entity tags of other variants, or with none.
    fn variants(&mut self, dice: &mut Dice, ask: &Ask, store: bool, asks: bool) {
        let given = self.origin(dice);
        let facts = RequestFacts::of(&ask.method, &ask.headers, ask.has_content);
        let named =
            policy::variant_by_etag(&self.stored, &given.headers).filter(|_| asks && given.status == 304);
        let asked = match named {
            Some(index) => Asked::Validation(self.stored[index].head.view()),
            None if asks => Asked::Variants,
            None => Asked::Plain,
        };
        let verdict = policy::verdict(&facts, asked, &self.reply(&given), &self.terms());
        self.judged(ask, &given, verdict, named, store);
    }

    /// A validation, in the foreground or the background; the origin may be out of reach.
    fn fetch(&mut self, dice: &mut Dice, ask: &Ask, index: Option<usize>, store: bool, background: bool) {
        let facts = if background {
            RequestFacts::refreshing(&ask.method, &ask.headers)
        } else {
            RequestFacts::of(&ask.method, &ask.headers, ask.has_content)
        };
        let Some(at) = index else { return };
        let mut outgoing = ask.headers.clone();
        policy::conditional(&mut outgoing, self.stored[at].head.view());
        if dice.once_in(5) {
            if let Some(reason) = policy::stale_on_failure(&facts, self.stored[at].head.view(), &self.terms())
            {
                self.serves_stale(at, reason);
                self.serve(ask, at, false);
            }
            return;
        }
        let given = self.origin(dice);
        let verdict = policy::verdict(
            &facts,
            Asked::Validation(self.stored[at].head.view()),
            &self.reply(&given),
            &self.terms(),
        );
        self.judged(ask, &given, verdict, index, store);
    }

    /// The rest of a partial response.
    fn complete(&mut self, dice: &mut Dice, ask: &Ask, index: usize) {
        let facts = RequestFacts::of(&ask.method, &ask.headers, ask.has_content);
        let given = self.origin(dice);
        let verdict = policy::verdict(
            &facts,
            Asked::Rest(self.stored[index].head.view()),
            &self.reply(&given),
            &self.terms(),
        );
        if let Verdict::Combine(combined) = &verdict {
            assert!(given.status == 206 && combined.head.is_complete());
            self.pieces(index, combined, given.content_length);
        }
        self.judged(ask, &given, verdict, Some(index), true);
    }

    /// What is combined has bytes that are there, each once, and as many as the whole.
    fn pieces(&self, index: usize, combined: &policy::Combined, length: Option<u64>) {
        for piece in &combined.pieces {
            let within = match piece.source {
                Source::Existing => Some(self.stored[index].length),
                Source::New => length,
            };
            assert!(
                piece.at.start <= piece.at.end && within.is_none_or(|within| piece.at.end <= within),
                "{piece:?}"
            );
        }
    }

    /// A HEAD goes on as it is; what is stored for GET may learn from the answer.
    fn head(&mut self, dice: &mut Dice, ask: &Ask, index: usize) {
        let given = self.origin(dice);
        let facts = RequestFacts::of(&ask.method, &ask.headers, ask.has_content);
        let stored = &self.stored[index];
        match policy::head_effect(
            &facts,
            stored.head.view(),
            stored.length,
            &self.reply(&given),
            &self.terms(),
        ) {
            HeadEffect::None => {}
            HeadEffect::Freshen(head) => {
                self.may_keep(ask, &given.headers, &head, true);
                let stored = &mut self.stored[index];
                stored.head = *head;
                stored.marked = false;
                stored.passed = 0;
                // What it varies by may be new, and is known of this request.
                stored.request = ask.headers.clone();
            }
            HeadEffect::MarkStale => self.stored[index].marked = true,
        }
    }

    fn judged(&mut self, ask: &Ask, given: &Given, verdict: Verdict, index: Option<usize>, store: bool) {
        let _: explain::Judgement = explain::judgement(verdict.clone(), given.content_length, &self.terms());
        match verdict {
            Verdict::Store(head) => {
                self.may_keep(ask, &given.headers, &head, false);
                assert!(given.framing_ok && given.status != 304 && ask.method == Method::GET);
                let same = |name: &HeaderName| {
                    let stored: Vec<HeaderValue> = head.fields().get_all(name).collect();
                    stored.iter().eq(given.headers.get_all(name).iter())
                };
                for name in given.headers.keys().filter(|name| **name != header::AGE) {
                    let dropped = !head.is_complete()
                        && (*name == header::CONTENT_RANGE || *name == header::CONTENT_LENGTH);
                    assert!(dropped || same(name), "{name}");
                }
                if store {
                    self.keep(*head, ask, given.content_length);
                }
            }
            Verdict::Combine(combined) => {
                // It is the whole that is kept, under what both parts said.
                let pieces = || combined.pieces.iter().map(|piece| piece.at.end - piece.at.start).sum();
                let complete = combined.head.is_complete();
                let length = combined.head.view().expected_length().or_else(|| complete.then(pieces));
                if let Some(index) = index {
                    self.stored.remove(index);
                }
                self.keep(*combined.head, ask, length);
            }
            Verdict::Freshen { head, only_here } => {
                let Some(index) = index else { panic!("a 304 that was not asked for") };
                self.may_keep(ask, &given.headers, &head, true);
                assert!(
                    given.status == 304
                        && !only_here
                            .keys()
                            .any(|name| head.fields().get(name) == only_here.get(name).cloned()
                                && *name != header::SET_COOKIE)
                );
                let (length, old) = (self.stored[index].length, self.stored[index].head.view());
                // Nothing that was stored is lost.
                for (name, value) in old.fields().iter() {
                    let replaced = given.headers.contains_key(&name) || name == header::DATE;
                    assert!(replaced || head.fields().get_all(&name).any(|known| known == value), "{name}");
                }
                if head.selecting == old.selecting {
                    self.stored.remove(index);
                }
                self.stored.push(Stored {
                    head: *head,
                    marked: false,
                    length,
                    request: ask.headers.clone(),
                    passed: 0,
                });
                self.serve(ask, self.stored.len() - 1, true);
            }
            Verdict::FreshenOnce { remove, .. } => {
                let Some(index) = index else { panic!("a 304 that was not asked for") };
                assert!(given.status == 304);
                if remove {
                    self.stored.remove(index);
                }
            }
            Verdict::ServeStale(reason) => {
                let Some(index) = index else { panic!("there is nothing to serve") };
                assert!(given.status.is_server_error());
                self.serves_stale(index, reason);
                self.serve(ask, index, false);
            }
            Verdict::Refetch => assert!(index.is_some() || given.status == 304 || given.status == 206),
            Verdict::PassThrough(reason) => {
                let facts = RequestFacts::of(&ask.method, &ask.headers, ask.has_content);
                if let Some(index) = index
                    && policy::outdates(&facts, given.status, reason)
                {
                    self.stored.remove(index);
                }
            }
            Verdict::Refuse(_) => assert!(given.status == 304 || given.status == 206, "{}", given.status),
        }
    }

    /// What no response that is kept for others may say.
    fn may_keep(&self, ask: &Ask, received: &HeaderMap, head: &StoredHead, freshened: bool) {
        let hop = head.fields().iter().find(|(name, _)| treatment::of(name).hop_by_hop);
        assert!(hop.is_none(), "{hop:?}");
        let vary: Vec<HeaderValue> = head.fields().get_all(&header::VARY).collect();
        assert!(!plain_members(&vary).iter().any(|(name, _)| name == "*"), "Vary: * was stored");
        let words = Words::of_map(&ask.headers);
        assert!(freshened || !words.says("no-store"), "stored against the request's no-store");
        assert!(!ask.has_content && head.status != 304 && !head.status.is_informational());
        if !self.is_plain(|name| head.fields().contains(name) || received.contains_key(name)) {
            return;
        }
        let said = Words::of_fields(head.fields());
        let odd = head.fields().get_all(&header::CACHE_CONTROL).any(|line| line.as_bytes().contains(&b'"'));
        assert!(!said.says("no-store") || said.says("must-understand") || odd, "no-store was stored");
        assert!(!said.names("private"), "private was stored");
        let shared = said.says("public") || said.seconds("s-maxage").is_some() || odd;
        if ask.headers.contains_key(header::AUTHORIZATION) {
            assert!(
                shared || said.says("must-revalidate") || said.names("s-maxage"),
                "stored with Authorization"
            );
        }
        if received.contains_key(header::SET_COOKIE)
            && self.options.set_cookie == SetCookie::Strict
            && head.fields().contains(&header::SET_COOKIE)
        {
            let same = head
                .fields()
                .get_all(&header::SET_COOKIE)
                .any(|line| received.get_all(header::SET_COOKIE).iter().any(|other| *other == line));
            assert!(shared || !same || said.names("s-maxage"), "a cookie was stored");
        }
    }

    fn keep(&mut self, head: StoredHead, ask: &Ask, length: Option<u64>) {
        // A part that has come whole joins what is stored of the same representation.
        if !head.is_complete() {
            let joined = self.stored.iter().enumerate().find_map(|(index, stored)| {
                policy::combine(stored.head.view(), head.view(), &self.terms())
                    .map(|combined| (index, combined))
            });
            if let Some((index, combined)) = joined {
                self.pieces(index, &combined, head.view().expected_length());
                let length = combined.pieces.iter().map(|piece| piece.at.end - piece.at.start).sum();
                assert_eq!(combined.head.view().expected_length().unwrap_or(length), length);
                self.stored.remove(index);
                return self.push(*combined.head, ask, length);
            }
        }
        let length = head.view().expected_length().or(length).unwrap_or(10);
        self.push(head, ask, length);
    }

    fn push(&mut self, head: StoredHead, ask: &Ask, length: u64) {
        let stored = Stored { head, marked: false, length, request: ask.headers.clone(), passed: 0 };
        self.stored.retain(|known| known.head.selecting != stored.head.selecting);
        if self.stored.len() == 4 {
            self.stored.remove(0);
        }
        self.stored.push(stored);
    }

    /// Stale on an error: not what its origin said must be validated.
    fn serves_stale(&self, index: usize, _: Reason) {
        let stored = &self.stored[index];
        if self.is_plain(|name| stored.head.fields().contains(name)) {
            let said = Words::of_fields(stored.head.fields());
            assert!(
                !said.forbids_stale() && !said.names("s-maxage"),
                "served stale on an error against its origin's word"
            );
        }
    }
}

/// For how long it has been stale, at least, by what it says plainly; negative: it may be fresh. Milliseconds.
fn staleness(stored: &Stored, said: &Words) -> Option<i64> {
    let lifetime = if said.names("s-maxage") { said.seconds("s-maxage")? } else { said.seconds("max-age")? };
    let odd =
        stored.head.fields().get_all(&header::CACHE_CONTROL).any(|line| line.as_bytes().contains(&b'"'));
    let age = stored.head.facts.age_value.map_or(0, Delta::millis);
    (!odd).then(|| stored.passed + age - lifetime * 1000)
}

/// The fields of a request that validates in the background.
fn refreshing(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    policy::ask_for_the_whole(&mut headers);
    headers
}

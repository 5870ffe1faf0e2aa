//! What holds for every input, found by trying many: proptest over fields of any bytes and any times.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::clock::Moment;
use crate::policy::rules::{Override, Rule};

/// Field lines that caching looks at: mostly plausible pieces, now and then any bytes.
fn line() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let name = proptest::sample::select(vec![
        "cache-control",
        "cache-control",
        "cache-control",
        "pragma",
        "expires",
        "date",
        "age",
        "last-modified",
        "etag",
        "vary",
        "set-cookie",
        "content-range",
        "content-length",
        "content-location",
        "location",
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "authorization",
        "cookie",
        "accept-language",
        "accept-encoding",
        "content-language",
        "cdn-cache-control",
        "x-any",
        "connection",
        "expect",
    ]);
    let piece = proptest::sample::select(vec![
        "max-age=5",
        "max-age=99999999999999999999",
        "s-maxage=7",
        "no-cache",
        "no-cache=\"x-any\"",
        "no-store",
        "private",
        "public",
        "must-revalidate",
        "stale-while-revalidate=9",
        "stale-if-error=9",
        "immutable",
        "max-stale",
        "min-fresh=3",
        "only-if-cached",
        "must-understand",
        "bytes=0-4",
        "bytes=-3,1-2",
        "bytes 0-4/10",
        "bytes 5-9/10",
        "bytes 0-0/*",
        "\"a\"",
        "W/\"a\"",
        "*",
        "x-any",
        "accept-language",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Mon, 23 Nov 2026 00:00:00 GMT",
        "Mon Nov 23 00:00:00 2026",
        "Monday, 23-Nov-76 00:00:01 GMT",
        "0",
        "18446744073709551615",
        "de;q=0.5",
        "gzip",
        "\"",
        "\\",
        "=",
        "",
    ]);
    let value = prop_oneof![
        4 => vec(piece, 1..4).prop_map(|pieces| pieces.join(", ").into_bytes()),
        1 => vec(any::<u8>().prop_filter("a legal byte", |byte| matches!(byte, 9 | 32..=126 | 128..)), 0..24),
    ];
    (name, value)
        .prop_map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(&value).unwrap()))
}

fn fields() -> impl Strategy<Value = HeaderMap> {
    vec(line(), 0..8).prop_map(|lines| {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(name, value);
        }
        map
    })
}

/// Any time, the extremes among them.
fn moment() -> impl Strategy<Value = Moment> {
    let millis =
        || prop_oneof![Just(0), Just(i64::MAX), Just(i64::MIN), any::<i64>(), 0..4_000_000_000_000_i64];
    (millis(), millis()).prop_map(|(wall, mono)| Moment { wall, mono })
}

fn options() -> impl Strategy<Value = Options> {
    (any::<f64>(), any::<i64>(), any::<i64>(), any::<bool>(), 0..5_usize).prop_map(
        |(fraction, max, stale, flag, ranges)| Options {
            heuristic_fraction: fraction,
            heuristic_max: max,
            stale_if_error: stale,
            targeted_fields: if flag { vec![header::CDN_CACHE_CONTROL] } else { Vec::new() },
            set_cookie: if flag { SetCookie::Rfc9111 } else { SetCookie::Strict },
            s_maxage_allows_stale_while_revalidate: flag,
            max_ranges: ranges,
            store_close_delimited: flag,
            normalize_accept_language: flag,
        },
    )
}

fn rule() -> impl Strategy<Value = Option<Rule>> {
    let bound = || proptest::option::of(any::<i64>());
    proptest::option::of((bound(), bound(), bound(), bound(), bound()).prop_map(
        |(min, max, force, error, revalidate)| Rule {
            freshness: vec![Override { min, max, force, ..Override::default() }],
            stale_if_error: error,
            stale_while_revalidate: revalidate,
            ..Rule::default()
        },
    ))
}

fn method() -> impl Strategy<Value = Method> {
    proptest::sample::select(vec![Method::GET, Method::GET, Method::GET, Method::HEAD, Method::POST])
}

fn status() -> impl Strategy<Value = StatusCode> {
    prop_oneof![Just(200), Just(206), Just(304), Just(503), 200..600_u16]
        .prop_map(|code| StatusCode::from_u16(code).unwrap())
}

/// A stored head out of any response that may be stored, and what it was received with.
fn stored(options: &Options, request: &HeaderMap, response: &HeaderMap, at: Moment) -> Option<StoredHead> {
    [StatusCode::OK, StatusCode::PARTIAL_CONTENT]
        .into_iter()
        .find_map(|status| stored_with(status, options, request, response, at))
}

fn stored_with(
    status: StatusCode,
    options: &Options,
    request: &HeaderMap,
    response: &HeaderMap,
    at: Moment,
) -> Option<StoredHead> {
    let facts =
        RequestFacts { range: request.get(header::RANGE), ..RequestFacts::refreshing(&Method::GET, request) };
    let terms = Terms { options, rule: None, now: at };
    match verdict(&facts, Asked::Plain, &received(status, response, at), &terms) {
        Verdict::Store(head) => Some(*head),
        _ => None,
    }
}

fn received(status: StatusCode, headers: &HeaderMap, at: Moment) -> Reply<'_> {
    Reply {
        status,
        headers,
        request_time: at,
        response_time: at,
        framing_ok: true,
        close_delimited: false,
        content_length: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn nothing_panics_or_overflows_on_any_fields_and_times(
        (method, code, options, rule) in (method(), status(), options(), rule()),
        (request, response, more) in (fields(), fields(), fields()),
        (sent, got, now) in (moment(), moment(), moment()),
        length in proptest::option::of(any::<u64>()),
    ) {
        let terms = Terms { options: &options, rule: rule.as_ref(), now };
        let facts = RequestFacts::of(&method, &request, false);
        let reply = Reply {
            status: code,
            headers: &more,
            request_time: sent,
            response_time: got,
            framing_ok: true,
            close_delimited: false,
            content_length: length,
        };
        let heads: Vec<StoredHead> = [
            stored(&options, &request, &response, got),
            stored(&options, &request, &more, sent),
        ].into_iter().flatten().collect();
        let _: explain::Decision = explain::decision(&facts, &heads, &terms);
        let _: explain::Judgement = explain::judgement(verdict(&facts, Asked::Plain, &reply, &terms), None, &terms);
        for head in &heads {
            for asked in [Asked::Validation(head.view()), Asked::Rest(head.view())] {
                let _: Verdict = verdict(&facts, asked, &reply, &terms);
            }
            let _: Answer = answer(&facts, head.view(), length, options.max_ranges);
            let freshness = freshness(head.view(), &terms);
            prop_assert!(freshness.lifetime >= 0 && freshness.current_age >= 0);
            let _: (HeaderMap, HeaderMap) = (served_fields(head.view(), &freshness, true), not_modified_fields(head.view(), &freshness));
            let _: HeadEffect = head_effect(&facts, head.view(), length.unwrap_or(0), &reply, &terms);
            let _: Option<Reason> = stale_on_failure(&facts, head.view(), &terms);
            for other in &heads {
                let _: Option<Combined> = combine(head.view(), other.view(), &terms);
            }
            conditional(&mut more.clone(), head.view());
        }
        let _: Option<usize> = variant_by_etag(&heads, &more);
    }

    #[test]
    fn age_never_falls_while_time_passes(
        (options, request, response) in (options(), fields(), fields()),
        (start, steps) in (0..4_000_000_000_000_i64, vec(0..1_000_000_000_i64, 1..5)),
    ) {
        let at = Moment { wall: start, mono: 0 };
        if let Some(head) = stored(&options, &request, &response, at) {
            let (mut now, mut before) = (at, 0);
            for step in steps {
                now = now.plus(step);
                let terms = Terms { options: &options, rule: None, now };
                let freshness = freshness(head.view(), &terms);
                prop_assert!(freshness.current_age >= before);
                prop_assert!(freshness.age_seconds() >= before / 1000);
                before = freshness.current_age;
            }
        }
    }

    #[test]
    fn an_answer_is_the_same_until_it_is_said_to_change(
        (method, options, rule) in (method(), options(), rule()),
        (request, response) in (fields(), fields()),
        (start, passed) in (0..4_000_000_000_000_i64, prop_oneof![0..20_000_i64, 0..10_000_000_000_i64]),
        (wall, mono) in (0..1000_i64, 0..1000_i64),
    ) {
        let at = Moment { wall: start, mono: 0 };
        if let Some(head) = stored(&options, &HeaderMap::new(), &response, at) {
            let facts = RequestFacts::of(&method, &request, false);
            let told = |now| {
                let terms = Terms { options: &options, rule: rule.as_ref(), now };
                let Plan::Serve { freshness, reason, .. } = plan(&facts, std::slice::from_ref(&head), &terms) else {
                    return None;
                };
                let head = head.view();
                let fields = (served_fields(head, &freshness, false), not_modified_fields(head, &freshness));
                Some((freshness.ttl(), freshness.fresh(), reason, answer(&facts, head, Some(9), 3), fields))
            };
            let now = at.plus(passed);
            let terms = Terms { options: &options, rule: rule.as_ref(), now };
            if let Plan::Serve { freshness, .. } = plan(&facts, std::slice::from_ref(&head), &terms) {
                let span = unchanged_for(&facts, &freshness);
                if span > 0 {
                    let later = Moment {
                        wall: now.wall + (span - 1) * wall / 999,
                        mono: now.mono + (span - 1) * mono / 999,
                    };
                    prop_assert_eq!(told(later), told(now), "{:?} {:?} {}", now, later, span);
                }
            }
        }
    }

    #[test]
    fn must_revalidate_is_never_served_stale(
        (options, request, mut response, code) in (options(), fields(), fields(), status()),
        (start, passed) in (0..4_000_000_000_000_i64, 0..10_000_000_000_i64),
        directive in proptest::sample::select(vec!["must-revalidate", "proxy-revalidate", "s-maxage=2"]),
    ) {
        let options = Options { targeted_fields: Vec::new(), s_maxage_allows_stale_while_revalidate: false, ..options };
        response.append(header::CACHE_CONTROL, HeaderValue::from_static(directive));
        let at = Moment { wall: start, mono: 0 };
        if let Some(head) = stored(&options, &request, &response, at) {
            let terms = Terms { options: &options, rule: None, now: at.plus(passed) };
            let facts = RequestFacts::of(&Method::GET, &request, false);
            let fresh = freshness(head.view(), &terms).fresh();
            let served = match plan(&facts, std::slice::from_ref(&head), &terms) {
                Plan::Serve { .. } => fresh,
                Plan::ServeAndRefresh { .. } => false,
                _ => true,
            };
            prop_assert!(served, "served stale");
            prop_assert_eq!(stale_on_failure(&facts, head.view(), &terms), None);
            let none = HeaderMap::new();
            let found = verdict(&facts, Asked::Validation(head.view()), &received(code, &none, terms.now), &terms);
            let stale = matches!(found, Verdict::ServeStale(_));
            prop_assert!(!stale, "served stale on an error");
        }
    }

    #[test]
    fn what_needs_validation_is_never_served_without(
        (options, request, mut response) in (options(), fields(), fields()),
        passed in 0..10_000_000_000_i64,
    ) {
        let options = Options { targeted_fields: Vec::new(), ..options };
        response.append(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let at = Moment { wall: 0, mono: 0 };
        if let Some(head) = stored(&options, &request, &response, at) {
            let terms = Terms { options: &options, rule: None, now: at.plus(passed) };
            let facts = RequestFacts::of(&Method::GET, &request, false);
            let found = plan(&facts, &[head], &terms);
            let served = matches!(found, Plan::Serve { .. } | Plan::ServeAndRefresh { .. });
            prop_assert!(!served, "served without validation");
        }
    }

    #[test]
    fn nothing_that_forbids_it_is_ever_stored(
        (options, request, mut response, code) in (options(), fields(), fields(), status()),
        directive in proptest::sample::select(vec!["no-store", "private", "PRIVATE=\"x\""]),
    ) {
        let options = Options { targeted_fields: Vec::new(), ..options };
        response.append(header::CACHE_CONTROL, HeaderValue::from_static(directive));
        let facts = RequestFacts::of(&Method::GET, &request, false);
        let at = Moment::default();
        let terms = Terms { options: &options, rule: None, now: at };
        let found = verdict(&facts, Asked::Plain, &received(code, &response, at), &terms);
        if let Verdict::Store(head) = found {
            // must-understand alone overrides, and no-store alone.
            prop_assert!(directive == "no-store" && head.facts.directives.must_understand);
        }
    }

    #[test]
    fn freshening_loses_no_field(
        (options, request, response, update) in (options(), fields(), fields(), fields()),
    ) {
        let at = Moment::at(crate::policy::testing::START);
        if let Some(head) = stored(&options, &request, &response, at) {
            let terms = Terms { options: &options, rule: None, now: at };
            let facts = RequestFacts::of(&Method::GET, &request, false);
            let reply = received(StatusCode::NOT_MODIFIED, &update, at);
            if let Verdict::Freshen { head: new, .. } = verdict(&facts, Asked::Validation(head.view()), &reply, &terms) {
                for (name, value) in head.fields().iter() {
                    let replaced = update.contains_key(&name) || name == header::DATE;
                    let kept = new.fields().get_all(&name).any(|found| found == value);
                    prop_assert!(new.fields().contains(&name) && (kept || replaced), "{}", name);
                }
            }
        }
    }

    #[test]
    fn a_response_answers_the_request_that_it_was_stored_for(
        (options, request, response) in (options(), fields(), fields()),
    ) {
        if let Some(head) = stored(&options, &request, &response, Moment::default()) {
            prop_assert!(head.selecting.matches(head.fields(), &mut Selected::by(&request, &options)));
        }
    }

    #[test]
    fn ranges_lie_within_and_send_no_byte_twice(value in "bytes=[0-9]{0,2}-[0-9]{0,2}(, ?[0-9]{0,2}-[0-9]{0,2}){0,6}", length in 1..99_u64) {
        if let Some(specs) = crate::field::range::parse(value.as_bytes(), 32)
            && let partial::Resolved::Ranges(ranges) = partial::resolve(&specs, Some(length)) {
            let mut seen = std::collections::HashSet::new();
            for range in ranges {
                prop_assert!(range.start < range.end && range.end <= length);
                for byte in range {
                    prop_assert!(seen.insert(byte));
                }
            }
            for spec in specs {
                let (first, last) = match spec {
                    crate::field::range::RangeSpec::FromTo(first, last) => (first, last.min(length - 1)),
                    crate::field::range::RangeSpec::From(first) => (first, length - 1),
                    crate::field::range::RangeSpec::Suffix(0) => continue,
                    crate::field::range::RangeSpec::Suffix(suffix) => (length.saturating_sub(suffix), length - 1),
                };
                for byte in first..=last {
                    prop_assert!(seen.contains(&byte));
                }
            }
        }
    }

    #[test]
    fn combined_parts_have_the_bytes_of_the_whole(
        parts in vec((0..30_u64, 1..10_u64), 2..6),
    ) {
        let whole: Vec<u64> = (0..40).collect();
        let options = Options::default();
        let terms = Terms { options: &options, rule: None, now: Moment::default() };
        let mut known: Option<(StoredHead, Vec<u64>)> = None;
        for (first, length) in parts {
            let (first, last) = (first, (first + length).min(39));
            let response = super::testing::headers(&[
                ("cache-control", "max-age=9"),
                ("etag", "\"a\""),
                ("content-range", &format!("bytes {first}-{last}/40")),
            ]);
            let request = super::testing::headers(&[("range", "bytes=0-1")]);
            let status = StatusCode::PARTIAL_CONTENT;
            let head = stored_with(status, &options, &request, &response, Moment::default()).unwrap();
            let body = whole[first as usize..=last as usize].to_vec();
            known = Some(match known {
                None => (head, body),
                Some((existing, _)) if existing.is_complete() => break,
                Some((existing, bytes)) => {
                    let combined = combine(existing.view(), head.view(), &terms).unwrap();
                    let merged = combined.pieces.iter().flat_map(|piece| {
                        let from = if piece.source == Source::New { &body } else { &bytes };
                        from[piece.at.start as usize..piece.at.end as usize].to_vec()
                    }).collect();
                    (*combined.head, merged)
                }
            });
            let (head, bytes) = known.as_ref().unwrap();
            let parts = head.completeness.parts();
            let ranges = parts.map_or_else(|| std::iter::once(0..40).collect(), |parts| parts.ranges.clone());
            let expected: Vec<u64> = ranges.iter().flat_map(Clone::clone).collect();
            prop_assert_eq!(bytes, &expected);
            for range in ranges {
                let at = locate(&head.completeness, &range).unwrap();
                prop_assert_eq!(&bytes[at.start as usize..at.end as usize], &whole[range.start as usize..range.end as usize]);
            }
        }
    }
}

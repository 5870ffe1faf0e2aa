//! The decisions as data, for `larder explain`: what was asked, what is stored, what the freshness was computed
//! from, and which section says so. It calls the functions that decide; it decides nothing.

use serde::Serialize;

use super::{
    Candidate, Freshness, Head, HeadEffect, Plan, Reason, RequestFacts, Selected, Terms, Verdict, freshness,
    plan,
};
use crate::field::cache_control::{Delta, MaxStale, ResponseDirectives};
use crate::field::status::Forward;

/// What would be done with a request now, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// The request as caching sees it.
    pub request: Request,
    /// `serve`, `serve-and-refresh`, `revalidate`, `complete`, `fetch`, `bypass` or `unsatisfiable`.
    pub plan: &'static str,
    /// `fwd` of Cache-Status, where it goes to the origin.
    pub forward: Option<&'static str>,
    /// Why.
    pub reason: Option<Why>,
    /// Which of `stored` the plan is about.
    pub chosen: Option<usize>,
    /// The stored responses of the key.
    pub stored: Vec<Stored>,
    /// The sections that the plan rests on.
    pub sections: Vec<&'static str>,
}

/// The request as caching sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its cache directives, Pragma among them where it counts.
    pub directives: Vec<String>,
    /// Names of what else in it matters: `authorization`, `cookie`, `range`, `conditions`, `content`, `upgrade`.
    pub notable: Vec<&'static str>,
}

/// A reason, for a person and for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The token of Cache-Status `detail`.
    pub token: &'static str,
    /// One sentence.
    pub says: &'static str,
    /// The section that says so.
    pub section: &'static str,
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        Self { token: reason.token(), says: reason.says(), section: reason.section() }
    }
}

/// A stored response.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stored {
    /// Its status code.
    pub status: u16,
    /// Whether the request's fields select it.
    pub selected: bool,
    /// The selecting fields, with their normal form (`null` where the request had none).
    pub selecting: Vec<(String, Option<String>)>,
    /// Whether it is whole; else the ranges that are stored.
    pub ranges: Option<Vec<(u64, u64)>>,
    /// Bytes of body; `None` before they have come, where the response does not say.
    pub length: Option<u64>,
    /// Its directives.
    pub directives: Vec<String>,
    /// Whether it can be validated, and by what.
    pub validators: Vec<String>,
    /// Whether a HEAD response marked it stale.
    pub marked_stale: bool,
    /// Its freshness now.
    pub freshness: Computed,
}

/// A freshness with what it was computed from. Milliseconds where not said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Computed {
    /// Whether the lifetime exceeds the age.
    pub fresh: bool,
    /// Freshness lifetime.
    pub lifetime_ms: i64,
    /// Where that comes from.
    pub source: &'static str,
    /// Current age.
    pub current_age_ms: i64,
    /// Whole seconds left, negative when stale.
    pub ttl_s: i64,
    /// Date, or the time of receipt: Unix seconds.
    pub date_unix: i64,
    /// Last-Modified: Unix seconds.
    pub last_modified_unix: Option<i64>,
    /// Age as received: seconds.
    pub age_value_s: Option<i64>,
    /// From the request to the response.
    pub response_delay_ms: i64,
    /// Its age when it was received.
    pub initial_age_ms: i64,
    /// Since then.
    pub resident_ms: i64,
}

/// What would be done with a response from the origin, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// `store`, `combine`, `freshen`, `freshen-once`, `serve-stale`, `refetch`, `pass-through`, `refuse` or, of what
    /// is stored for GET and a HEAD contradicts, `mark-stale`.
    pub verdict: &'static str,
    /// Why not stored, or why stale.
    pub reason: Option<Why>,
    /// The stored response that comes of it.
    pub stored: Option<Stored>,
}

/// Explains [`plan`].
pub fn decision<C: Candidate>(facts: &RequestFacts<'_>, candidates: &[C], terms: &Terms<'_>) -> Decision {
    let made = plan(facts, candidates, terms);
    let mut by = Selected::by(facts.headers, terms.options);
    let stored = candidates
        .iter()
        .map(|candidate| {
            let head = candidate.head();
            let selected = head.selecting.matches(head.fields(), &mut by);
            stored(head, Some(candidate.length()), candidate.marked_stale(), selected, terms)
        })
        .collect();
    let (plan, forward, reason, chosen) = match &made {
        Plan::Bypass { forward, reason } => ("bypass", Some(*forward), Some(*reason), None),
        Plan::Fetch { forward, reason, .. } => ("fetch", Some(*forward), *reason, None),
        Plan::Serve { index, reason, .. } => ("serve", None, *reason, Some(*index)),
        Plan::ServeAndRefresh { index, .. } => {
            ("serve-and-refresh", None, Some(Reason::StaleWhileRevalidate), Some(*index))
        }
        Plan::Revalidate { index, forward, reason } => {
            ("revalidate", Some(*forward), Some(*reason), Some(*index))
        }
        Plan::Complete { index, .. } => {
            ("complete", Some(Forward::Partial), Some(Reason::RangeMissing), Some(*index))
        }
        Plan::Unsatisfiable { reason } => ("unsatisfiable", None, Some(*reason), None),
    };
    Decision {
        request: request(facts),
        plan,
        forward: forward.map(forward_token),
        reason: reason.map(Why::from),
        chosen,
        stored,
        sections: sections(&made),
    }
}

/// Explains a [`Verdict`]. `length`: bytes of the body that would be stored, where that is known.
pub fn judgement(verdict: Verdict, length: Option<u64>, terms: &Terms<'_>) -> Judgement {
    let (verdict, reason, head) = match verdict {
        Verdict::Store(head) => ("store", None, Some(head)),
        Verdict::Combine(combined) => ("combine", None, Some(combined.head)),
        Verdict::Freshen { head, .. } => ("freshen", None, Some(head)),
        Verdict::FreshenOnce { head, reason, .. } => ("freshen-once", Some(reason), Some(head)),
        Verdict::ServeStale(reason) => ("serve-stale", Some(reason), None),
        Verdict::Refetch => ("refetch", None, None),
        Verdict::PassThrough(reason) => ("pass-through", Some(reason), None),
        Verdict::Refuse(reason) => ("refuse", Some(reason), None),
    };
    let stored = head.map(|head| stored(head.view(), length, false, true, terms));
    Judgement { verdict, reason: reason.map(Why::from), stored }
}

/// Explains what a response to HEAD does to the stored response to GET, whose body has `length` bytes.
pub fn head_judgement(effect: HeadEffect, length: Option<u64>, terms: &Terms<'_>) -> Judgement {
    let (verdict, reason, head) = match effect {
        HeadEffect::None => ("pass-through", Some(Reason::Method), None),
        HeadEffect::MarkStale => ("mark-stale", Some(Reason::MarkedStale), None),
        HeadEffect::Freshen(head) => ("freshen", None, Some(head)),
    };
    let stored = head.map(|head| stored(head.view(), length, false, true, terms));
    Judgement { verdict, reason: reason.map(Why::from), stored }
}

fn sections(plan: &Plan) -> Vec<&'static str> {
    match plan {
        Plan::Bypass { reason, .. } | Plan::Unsatisfiable { reason } => vec![reason.section()],
        Plan::Fetch { reason, .. } => {
            let mut all = vec!["RFC 9111 section 4"];
            all.extend(reason.map(Reason::section));
            all
        }
        Plan::Serve { reason, .. } => {
            let mut all = vec!["RFC 9111 section 4", "RFC 9111 section 4.2"];
            all.extend(reason.map(Reason::section));
            all
        }
        Plan::ServeAndRefresh { .. } => vec!["RFC 9111 section 4.2.4", "RFC 5861 section 3"],
        Plan::Revalidate { reason, .. } => vec!["RFC 9111 section 4.3", reason.section()],
        Plan::Complete { .. } => vec!["RFC 9111 section 3.3", "RFC 9111 section 3.4"],
    }
}

fn request(facts: &RequestFacts<'_>) -> Request {
    let directives = &facts.cache_control;
    let mut said = Vec::new();
    let mut say = |condition: bool, text: &str| {
        if condition {
            said.push(text.to_owned());
        }
    };
    say(directives.no_cache, "no-cache");
    say(directives.pragma_no_cache, "pragma: no-cache");
    say(directives.no_store, "no-store");
    say(directives.only_if_cached, "only-if-cached");
    for (name, seconds) in [
        ("max-age", directives.max_age),
        ("min-fresh", directives.min_fresh),
        ("stale-if-error", directives.stale_if_error),
    ] {
        said.extend(seconds.map(|seconds| format!("{name}={seconds}")));
    }
    said.extend(directives.max_stale.map(|max_stale| match max_stale {
        MaxStale::Any => "max-stale".to_owned(),
        MaxStale::Seconds(seconds) => format!("max-stale={seconds}"),
    }));
    let notable = [
        (facts.authorization, "authorization"),
        (facts.cookie, "cookie"),
        (facts.range.is_some(), "range"),
        (facts.has_conditions(), "conditions"),
        (facts.has_content, "content"),
        (facts.upgrade, "upgrade"),
    ];
    Request {
        method: facts.method.to_string(),
        directives: said,
        notable: notable.into_iter().filter(|(present, _)| *present).map(|(_, name)| name).collect(),
    }
}

fn stored(
    head: Head<'_>,
    length: Option<u64>,
    marked_stale: bool,
    selected: bool,
    terms: &Terms<'_>,
) -> Stored {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let validators = [http::header::ETAG, http::header::LAST_MODIFIED];
    Stored {
        status: head.status.as_u16(),
        selected,
        selecting: head.selecting.iter().map(|(name, value)| (name.to_string(), value.map(text))).collect(),
        ranges: head.completeness.parts().map(|parts| {
            parts.ranges.iter().map(|range| (range.start, range.end.saturating_sub(1))).collect()
        }),
        length,
        directives: directives(&head.facts.directives),
        validators: validators
            .iter()
            .filter_map(|name| head.fields().bytes(name).map(|value| format!("{name}: {}", text(value))))
            .collect(),
        marked_stale,
        freshness: computed(head, &freshness(head, terms), terms),
    }
}

fn computed(head: Head<'_>, freshness: &Freshness, terms: &Terms<'_>) -> Computed {
    Computed {
        fresh: freshness.fresh(),
        lifetime_ms: freshness.lifetime,
        source: freshness.source.token(),
        current_age_ms: freshness.current_age,
        ttl_s: freshness.ttl(),
        date_unix: head.facts.date,
        last_modified_unix: head.facts.last_modified(),
        age_value_s: head.facts.age_value.and_then(Delta::seconds),
        response_delay_ms: i64::from(head.response_delay),
        initial_age_ms: head.facts.initial_age,
        resident_ms: terms.now.since(head.response_time),
    }
}

fn directives(directives: &ResponseDirectives) -> Vec<String> {
    let mut said = Vec::new();
    for (name, delta) in [
        ("max-age", directives.max_age),
        ("s-maxage", directives.s_maxage),
        ("stale-while-revalidate", directives.stale_while_revalidate),
        ("stale-if-error", directives.stale_if_error),
    ] {
        said.extend(delta.map(|delta| match delta.seconds() {
            Some(seconds) => format!("{name}={seconds}"),
            None => format!("{name} (invalid)"),
        }));
    }
    if directives.no_cache.is_whole() {
        said.push("no-cache".to_owned());
    }
    if let Some(names) = directives.no_cache.fields() {
        let names: Vec<_> = names.iter().map(http::HeaderName::as_str).collect();
        said.push(format!("no-cache=\"{}\"", names.join(", ")));
    }
    for (present, name) in [
        (directives.no_store, "no-store"),
        (directives.private, "private"),
        (directives.public, "public"),
        (directives.must_revalidate, "must-revalidate"),
        (directives.proxy_revalidate, "proxy-revalidate"),
        (directives.must_understand, "must-understand"),
        (directives.immutable, "immutable"),
    ] {
        if present {
            said.push(name.to_owned());
        }
    }
    said
}

fn forward_token(forward: Forward) -> &'static str {
    forward.token()
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::policy::testing::{World, headers, reply as received};
    use crate::policy::{Asked, verdict};

    #[test]
    fn a_decision_names_its_inputs_its_reason_and_its_sections() {
        let world = World::default();
        let stored = world.stored(
            &[("foo", "1, 2")],
            200,
            &[
                ("date", "@-5"),
                ("age", "7"),
                ("cache-control", "max-age=10"),
                ("etag", "\"a\""),
                ("vary", "foo"),
            ],
        );
        let request = headers(&[("foo", "1,2"), ("cache-control", "max-age=8")]);
        let facts = RequestFacts::of(&Method::GET, &request, false);
        let found = serde_json::to_value(decision(&facts, &[stored], &world.terms(2))).unwrap();
        assert_eq!(found["plan"], "revalidate");
        assert_eq!(found["forward"], "request");
        assert_eq!(found["reason"]["token"], "request-max-age");
        assert_eq!(found["reason"]["section"], "RFC 9111 section 5.2.1.1");
        assert_eq!(found["sections"][0], "RFC 9111 section 4.3");
        assert_eq!(found["chosen"], 0);
        assert_eq!(found["request"]["directives"][0], "max-age=8");
        let stored = &found["stored"][0];
        assert_eq!(stored["selecting"][0][1], "1,2");
        assert_eq!(stored["validators"][0], "etag: \"a\"");
        let freshness = &stored["freshness"];
        for (key, expected) in [
            ("lifetime_ms", 10_000),
            ("current_age_ms", 9_000),
            ("age_value_s", 7),
            ("resident_ms", 2_000),
            ("ttl_s", 1),
        ] {
            assert_eq!(freshness[key], expected, "{key}");
        }
        assert_eq!(freshness["source"], "max-age");
    }

    #[test]
    fn a_judgement_says_why_a_response_is_not_stored() {
        let world = World::default();
        let (request, response) = (headers(&[]), headers(&[("cache-control", "private")]));
        let facts = RequestFacts::of(&Method::GET, &request, false);
        let judge = |response| {
            let verdict = verdict(&facts, Asked::Plain, &received(0, 200, response), &world.terms(0));
            judgement(verdict, None, &world.terms(0))
        };
        let found = judge(&response);
        assert_eq!((found.verdict, found.reason), ("pass-through", Some(Why::from(Reason::Private))));
        let found = judge(&headers(&[("cache-control", "max-age=60")]));
        let stored = found.stored.unwrap();
        assert_eq!((found.verdict, stored.length), ("store", None), "the response does not tell its length");
        assert_eq!(stored.freshness.lifetime_ms, 60_000);
    }
}

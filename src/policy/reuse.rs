//! Whether a stored response answers a request: RFC 9111 sections 4 and 5.2.1.

use http::HeaderValue;

use super::freshness::needs_validation;
use super::request::MethodKind;
use super::{Candidate, Freshness, Head, LifetimeSource, Plan, Reason, RequestFacts, Selected, Terms};
use super::{freshness, partial, precondition, stale};
use crate::field::status::Forward;

/// Decides what to do with a request, given the stored responses of its key.
pub fn plan<C: Candidate>(facts: &RequestFacts<'_>, candidates: &[C], terms: &Terms<'_>) -> Plan {
    if let Some((forward, reason)) = bypass(facts, terms) {
        return if facts.cache_control.only_if_cached && facts.kind != MethodKind::Other {
            Plan::Unsatisfiable { reason: Reason::OnlyIfCached }
        } else {
            Plan::Bypass { forward, reason }
        };
    }
    let selected = selected(facts, candidates, terms);
    if facts.cache_control.no_store {
        // Whatever is stored is left alone; only what is told depends on it.
        let chosen = selected.and_then(|index| candidates.get(index));
        return if facts.cache_control.only_if_cached {
            Plan::Unsatisfiable { reason: Reason::OnlyIfCached }
        } else {
            Plan::Bypass {
                forward: untouched(facts, chosen, candidates, terms),
                reason: Reason::RequestNoStore,
            }
        };
    }
    match selected {
        Some(index) => candidates.get(index).map_or(miss(facts, Forward::UriMiss, None, None), |candidate| {
            reuse(facts, candidate, index, terms)
        }),
        None if candidates.is_empty() => miss(facts, Forward::UriMiss, None, None),
        None => {
            let etags = entity_tags(facts, candidates);
            miss(facts, Forward::VaryMiss, Some(Reason::VaryMismatch), etags)
        }
    }
}

/// What goes straight through. Nothing that looks at the store.
fn bypass(facts: &RequestFacts<'_>, terms: &Terms<'_>) -> Option<(Forward, Reason)> {
    if facts.kind == MethodKind::Other {
        Some((Forward::Method, Reason::Method))
    } else if facts.upgrade {
        Some((Forward::Bypass, Reason::Upgrade))
    } else if facts.has_content {
        Some((Forward::Bypass, Reason::RequestContent))
    } else if terms.rule.and_then(|rule| rule.cache) == Some(false) {
        Some((Forward::Bypass, Reason::Rule))
    } else {
        None
    }
}

/// What would have become of a request that says no-store, had it not. RFC 9211 section 2.2.
fn untouched<C: Candidate>(
    facts: &RequestFacts<'_>,
    chosen: Option<&C>,
    candidates: &[C],
    terms: &Terms<'_>,
) -> Forward {
    let Some(candidate) = chosen else {
        return if candidates.is_empty() { Forward::UriMiss } else { Forward::VaryMiss };
    };
    let head = candidate.head();
    if !partial::holds(facts, head, terms.options.max_ranges) {
        return Forward::Partial;
    }
    let usable =
        freshness(head, terms).fresh() && !candidate.marked_stale() && !needs_validation(head, terms);
    if usable { Forward::Request } else { Forward::Stale }
}

/// Whether every request has to ask the origin, whatever is stored: then nobody who asks for the same needs to wait
/// for what comes.
pub fn asks_each_time(head: Head<'_>, terms: &Terms<'_>) -> bool {
    needs_validation(head, terms) || freshness(head, terms).lifetime <= 0
}

fn miss(
    facts: &RequestFacts<'_>,
    forward: Forward,
    reason: Option<Reason>,
    etags: Option<HeaderValue>,
) -> Plan {
    if facts.cache_control.only_if_cached {
        return Plan::Unsatisfiable { reason: Reason::OnlyIfCached };
    }
    Plan::Fetch { forward, reason, store: facts.kind == MethodKind::Get, etags }
}

/// Milliseconds for which this request, answered by this freshness, has the same answer of the same stored response, though
/// nothing but time changes. 0 where it has limits of its own. RFC 9111 sections 4.2, 5.1 and 5.2.1.
pub fn unchanged_for(facts: &RequestFacts<'_>, freshness: &Freshness) -> i64 {
    let directives = &facts.cache_control;
    let limited = directives.max_age.is_some() || directives.min_fresh.is_some();
    if limited { 0 } else { freshness.unchanged_for() }
}

/// The candidate that the request selects: of those whose selecting fields match, "the most recent response
/// (as determined by the Date header field)", one that can answer the request before a partial one that can
/// not. It is also the one that a HEAD response may freshen.
pub fn selected<C: Candidate>(
    facts: &RequestFacts<'_>,
    candidates: &[C],
    terms: &Terms<'_>,
) -> Option<usize> {
    let mut by = Selected::by(facts.headers, terms.options);
    // From the oldest stored to the newest: of equals the last one is taken.
    candidates
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, candidate)| {
            let head = candidate.head();
            head.selecting.matches(head.fields(), &mut by)
        })
        .max_by_key(|(_, candidate)| {
            let head = candidate.head();
            (partial::holds(facts, head, terms.options.max_ranges), head.facts.date, head.response_time.wall)
        })
        .map(|(index, _)| index)
}

/// The entity tags of all candidates, as If-None-Match, unless the client has conditions or a range of its
/// own. "the origin server ... would be able to use that to select". RFC 9111 section 4.3.1.
fn entity_tags<C: Candidate>(facts: &RequestFacts<'_>, candidates: &[C]) -> Option<HeaderValue> {
    if facts.kind != MethodKind::Get || facts.has_conditions() || facts.range.is_some() {
        return None;
    }
    let mut list: Vec<u8> = Vec::new();
    for candidate in candidates {
        let head = candidate.head();
        let Some(tag) = super::validation::entity_tag(head).filter(|_| head.is_complete()) else { continue };
        if candidate.marked_stale() || list.len() + tag.len() > ETAGS_MAX {
            continue;
        }
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(tag);
    }
    if list.is_empty() { None } else { HeaderValue::from_bytes(&list).ok() }
}

/// Bytes of If-None-Match that are offered on a mismatch of Vary: well within the 8 KiB that the strictest
/// origins take for a field.
const ETAGS_MAX: usize = 2048;

/// Whether the selected response answers, and how.
fn reuse<C: Candidate>(facts: &RequestFacts<'_>, candidate: &C, index: usize, terms: &Terms<'_>) -> Plan {
    let head = candidate.head();
    let freshness = freshness(head, terms);
    let marked = candidate.marked_stale();
    if !partial::holds(facts, head, terms.options.max_ranges) {
        return missing(facts, head, index, freshness.fresh() && !marked && !needs_validation(head, terms));
    }
    let verdict = match unusable(facts, head, marked, &freshness, terms) {
        Some((_, Reason::Expired)) if stale::max_stale_allows(facts, head, &freshness) => {
            return Plan::Serve { index, freshness, reason: Some(Reason::MaxStale) };
        }
        None => {
            let reason = (freshness.source == LifetimeSource::Override).then_some(Reason::Override);
            return Plan::Serve { index, freshness, reason };
        }
        Some(verdict) => verdict,
    };
    let (forward, reason) = verdict;
    let while_revalidate =
        reason == Reason::Expired && stale::while_revalidate_allows(facts, head, &freshness, terms);
    if facts.cache_control.only_if_cached {
        return if while_revalidate {
            Plan::Serve { index, freshness, reason: Some(Reason::StaleWhileRevalidate) }
        } else {
            Plan::Unsatisfiable { reason }
        };
    }
    if while_revalidate {
        return Plan::ServeAndRefresh { index, freshness };
    }
    Plan::Revalidate { index, forward, reason }
}

/// Why the response may not be used as it is, if so.
fn unusable(
    facts: &RequestFacts<'_>,
    head: Head<'_>,
    marked_stale: bool,
    freshness: &Freshness,
    terms: &Terms<'_>,
) -> Option<(Forward, Reason)> {
    let (request, directives) = (&facts.cache_control, &head.facts.directives);
    if needs_validation(head, terms) {
        return Some((Forward::Stale, Reason::NoCache));
    }
    if marked_stale {
        return Some((Forward::Stale, Reason::MarkedStale));
    }
    let fresh = freshness.fresh();
    let asked = |reason| Some((if fresh { Forward::Request } else { Forward::Stale }, reason));
    if request.no_cache {
        return asked(Reason::RequestNoCache);
    }
    if request.pragma_no_cache {
        return asked(Reason::RequestPragma);
    }
    if let Some(max_age) = request.max_age {
        let exceeded = max_age == 0 || freshness.current_age > max_age.saturating_mul(1000);
        // RFC 8246: a fresh immutable response will not have changed, so a reload need not ask.
        let immutable = directives.immutable && fresh && max_age == 0;
        if exceeded && !immutable {
            return asked(Reason::RequestMaxAge);
        }
    }
    if request.min_fresh.is_some_and(|seconds| freshness.left() < seconds.saturating_mul(1000)) && fresh {
        return asked(Reason::RequestMinFresh);
    }
    (!fresh).then_some((Forward::Stale, Reason::Expired))
}

/// A partial response is stored that does not hold what is asked for.
fn missing(facts: &RequestFacts<'_>, head: Head<'_>, index: usize, usable: bool) -> Plan {
    let plain = miss(facts, Forward::Partial, Some(Reason::RangeMissing), None);
    let wants_all = facts.kind == MethodKind::Get && facts.range.is_none() && !facts.has_conditions();
    let validates = facts.cache_control.no_cache
        || facts.cache_control.pragma_no_cache
        || facts.cache_control.max_age.is_some()
        || facts.cache_control.min_fresh.is_some();
    if !usable || !wants_all || validates || facts.cache_control.only_if_cached {
        return plain;
    }
    let Some(parts) = head.completeness.parts() else { return plain };
    match partial::rest(&parts.ranges, parts.complete_length) {
        Some(range) => match precondition::if_range_for(head) {
            // A tag that is weak says beforehand that the parts "MUST NOT" be combined. Where there is none they
            // can't be either, and the whole is asked for then; but the public test suite counts it as better to
            // have asked for the rest.
            None if super::validation::entity_tag(head).is_some() => plain,
            if_range => Plan::Complete { index, range, if_range },
        },
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::policy::rules::{Override, Rule};
    use crate::policy::testing::{World, word};
    use crate::policy::{HeadEffect, StoredHead};

    /// The plan for a GET with this Cache-Control, over a response stored with those fields so long before.
    #[track_caller]
    fn check(request: &str, response: &[(&str, &str)], seconds: i64, expected: &str) {
        let world = World::default();
        let request = [("cache-control", request)];
        let lines = if request[0].1.is_empty() { &[][..] } else { &request };
        let found = world.plan(lines, &[world.stored(&[], 200, response)], seconds);
        assert_eq!(word(&found), expected, "{request:?} {response:?} {seconds}");
    }

    const LONG: &[(&str, &str)] = &[("cache-control", "max-age=100000"), ("date", "@0")];
    const SHORT: &[(&str, &str)] = &[("cache-control", "max-age=2"), ("date", "@0")];

    #[test]
    fn fresh_is_served_and_stale_is_validated() {
        check("", LONG, 0, "serve");
        check("", LONG, 99_999, "serve");
        check("", LONG, 100_000, "revalidate expired");
        check("", SHORT, 3, "revalidate expired");
        check(
            "",
            &[("cache-control", "max-age=10000, no-cache"), ("etag", "\"a\"")],
            0,
            "revalidate no-cache",
        );
        check(
            "",
            &[("cache-control", "max-age=10000, No-CaChE"), ("etag", "\"a\"")],
            0,
            "revalidate no-cache",
        );
        check("", &[("cache-control", "no-cache=\"a\", max-age=9")], 0, "serve");
        check("", &[("cache-control", "max-age=2, must-revalidate"), ("etag", "\"a\"")], 1, "serve");
        check(
            "",
            &[("cache-control", "max-age=2, must-revalidate"), ("etag", "\"a\"")],
            2,
            "revalidate expired",
        );
    }

    #[test]
    fn request_max_age_bounds_the_age() {
        check("max-age=0", LONG, 3, "revalidate request-max-age");
        check("max-age=0", LONG, 0, "revalidate request-max-age");
        check("max-age=1", LONG, 3, "revalidate request-max-age");
        check("max-age=3", LONG, 3, "serve");
        check("max-age=600", &[LONG[0], LONG[1], ("age", "1800")], 0, "revalidate request-max-age");
        check("max-age=9", SHORT, 3, "revalidate expired");
    }

    #[test]
    fn request_max_stale_takes_what_is_not_too_stale() {
        check("max-stale=1000", SHORT, 3, "serve max-stale");
        check("max-stale", SHORT, 100_000, "serve max-stale");
        check("max-stale=1", SHORT, 3, "serve max-stale");
        check("max-stale=1", SHORT, 4, "revalidate expired");
        check("max-stale=x", SHORT, 3, "revalidate expired");
        check("max-stale=1000", &[("cache-control", "max-age=1500"), ("age", "2000")], 0, "serve max-stale");
        check("max-stale, max-age=1", SHORT, 3, "revalidate request-max-age");
    }

    #[test]
    fn request_min_fresh_wants_time_left() {
        let fresh = ("cache-control", "max-age=1500");
        check("min-fresh=2000", &[fresh], 0, "revalidate request-min-fresh");
        check("min-fresh=1000", &[fresh, ("age", "1000")], 0, "revalidate request-min-fresh");
        check("min-fresh=1500", &[fresh], 0, "serve");
        check("min-fresh=500", &[fresh, ("age", "1000")], 0, "serve");
        // Stale is not fresher than not fresh enough.
        check("min-fresh=2000, max-stale=9000", &[fresh], 0, "revalidate request-min-fresh");
        check("min-fresh=2000, max-stale=9000", &[fresh], 1600, "revalidate expired");
        check("min-fresh=0, max-stale=9000", &[fresh], 1500, "serve max-stale");
    }

    #[test]
    fn request_no_cache_validates_and_pragma_does_without_cache_control() {
        check("no-cache", LONG, 0, "revalidate request-no-cache");
        let world = World::default();
        let head = [world.stored(&[], 200, LONG)];
        let pragma = ("pragma", "no-cache");
        assert_eq!(word(&world.plan(&[pragma], &head, 0)), "revalidate request-pragma");
        assert_eq!(word(&world.plan(&[pragma, ("cache-control", "max-age=9")], &head, 0)), "serve");
        assert_eq!(word(&world.plan(&[("pragma", "x")], &head, 0)), "serve");
    }

    #[test]
    fn request_no_store_goes_straight_through() {
        check("no-store", LONG, 0, "bypass request-no-store");
    }

    #[test]
    fn only_if_cached_never_goes_to_the_origin() {
        check("only-if-cached", LONG, 0, "serve");
        check("only-if-cached", SHORT, 3, "unsatisfiable expired");
        check("only-if-cached, max-stale", SHORT, 3, "serve max-stale");
        check("only-if-cached, no-cache", LONG, 0, "unsatisfiable request-no-cache");
        check("only-if-cached, no-store", LONG, 0, "unsatisfiable only-if-cached");
        let world = World::default();
        let only = [("cache-control", "only-if-cached")];
        assert_eq!(word(&world.plan(&only, &[], 0)), "unsatisfiable only-if-cached");
        assert_eq!(word(&world.plan_method(&Method::HEAD, &only, &[], 0)), "unsatisfiable only-if-cached");
        let swr = [world.stored(&[], 200, &[("cache-control", "max-age=1, stale-while-revalidate=9")])];
        assert_eq!(word(&world.plan(&only, &swr, 2)), "serve stale-while-revalidate");
        assert_eq!(word(&world.plan(&only, &swr, 10)), "unsatisfiable expired");
    }

    #[test]
    fn a_fresh_immutable_response_outlives_a_reload_but_not_no_cache() {
        let immutable = [("cache-control", "max-age=10, immutable"), ("etag", "\"a\"")];
        check("max-age=0", &immutable, 5, "serve");
        check("max-age=0", &immutable, 10, "revalidate request-max-age");
        check("max-age=1", &immutable, 5, "revalidate request-max-age");
        check("no-cache", &immutable, 5, "revalidate request-no-cache");
        check("max-age=0, no-cache", &immutable, 5, "revalidate request-no-cache");
    }

    #[test]
    fn forward_tells_a_request_from_staleness() {
        let world = World::default();
        let (long, short) = ([world.stored(&[], 200, LONG)], [world.stored(&[], 200, SHORT)]);
        let forward = |plan: &Plan| match plan {
            Plan::Revalidate { forward, .. } | Plan::Fetch { forward, .. } | Plan::Bypass { forward, .. } => {
                *forward
            }
            other => panic!("{other:?}"),
        };
        let no_cache = [("cache-control", "no-cache")];
        assert_eq!(forward(&world.plan(&no_cache, &long, 1)), Forward::Request);
        assert_eq!(forward(&world.plan(&no_cache, &short, 9)), Forward::Stale);
        assert_eq!(forward(&world.plan(&[], &short, 9)), Forward::Stale);
        assert_eq!(forward(&world.plan(&[], &[], 9)), Forward::UriMiss);
        assert_eq!(forward(&world.plan_method(&Method::POST, &[], &long, 1)), Forward::Method);
        assert_eq!(forward(&world.plan(&[("upgrade", "x")], &long, 1)), Forward::Bypass);
        let no_store = [("cache-control", "no-store")];
        assert_eq!(forward(&world.plan(&no_store, &[], 1)), Forward::UriMiss);
        assert_eq!(forward(&world.plan(&no_store, &long, 1)), Forward::Request);
        assert_eq!(forward(&world.plan(&no_store, &short, 9)), Forward::Stale);
        let other = [world.stored(&[("a", "1")], 200, &[("vary", "a"), LONG[0]])];
        assert_eq!(forward(&world.plan(&no_store, &other, 1)), Forward::VaryMiss);
    }

    #[test]
    fn other_methods_content_upgrades_and_ruled_out_targets_go_straight_through() {
        let world = World::default();
        let stored = [world.stored(&[], 200, LONG)];
        for method in ["POST", "PUT", "DELETE", "get", "Head", "OPTIONS", "M-SEARCH", "QUERY"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let only = [("cache-control", "only-if-cached")];
            assert_eq!(word(&world.plan_method(&method, &[], &stored, 0)), "bypass method", "{method}");
            assert_eq!(word(&world.plan_method(&method, &only, &stored, 0)), "bypass method", "{method}");
        }
        assert_eq!(word(&world.plan(&[("upgrade", "websocket")], &stored, 0)), "bypass upgrade");
        let headers = http::HeaderMap::new();
        let facts = RequestFacts::of(&Method::GET, &headers, true);
        assert_eq!(word(&plan(&facts, &stored, &world.terms(0))), "bypass request-content");
        let ruled = World::ruled(Rule { cache: Some(false), ..Rule::default() });
        assert_eq!(word(&ruled.plan(&[], &stored, 0)), "bypass rule");
    }

    #[test]
    fn head_is_answered_from_a_stored_get_and_else_goes_on_as_head() {
        let world = World::default();
        let (long, short) = ([world.stored(&[], 200, LONG)], [world.stored(&[], 200, SHORT)]);
        assert_eq!(word(&world.plan_method(&Method::HEAD, &[], &long, 1)), "serve");
        // What is stored is still there to answer where the origin fails.
        assert_eq!(word(&world.plan_method(&Method::HEAD, &[], &short, 3)), "revalidate expired");
        let found = world.plan_method(&Method::HEAD, &[], &[], 3);
        assert!(matches!(found, Plan::Fetch { store: false, .. }), "{found:?}");
    }

    #[test]
    fn a_marked_response_is_validated_however_fresh() {
        struct Marked(StoredHead);
        impl Candidate for Marked {
            fn head(&self) -> Head<'_> {
                self.0.view()
            }
            fn marked_stale(&self) -> bool {
                true
            }
            fn length(&self) -> u64 {
                0
            }
        }
        let world = World::default();
        let fields = [LONG[0], LONG[1], ("etag", "\"a\"")];
        let marked = [Marked(world.stored(&[], 200, &fields))];
        let headers = crate::policy::testing::headers(&[("cache-control", "max-stale")]);
        let facts = RequestFacts::of(&Method::GET, &headers, false);
        assert_eq!(word(&plan(&facts, &marked, &world.terms(0))), "revalidate marked-stale");
        assert_ne!(HeadEffect::None, HeadEffect::MarkStale);
    }

    #[test]
    fn the_tags_of_other_variants_are_offered_on_a_mismatch() {
        let world = World::default();
        let variant = |foo, etag| {
            world.stored(
                &[("foo", foo)],
                200,
                &[("vary", "foo"), ("etag", etag), ("cache-control", "max-age=9")],
            )
        };
        let stored = [variant("1", "\"a\""), variant("2", "W/\"b\"")];
        let offered = |request: &[(&str, &str)]| match world.plan(request, &stored, 1) {
            Plan::Fetch {
                etags,
                forward: Forward::VaryMiss,
                reason: Some(Reason::VaryMismatch),
                store: true,
            } => etags.map(|value| value.to_str().unwrap().to_owned()),
            other => panic!("{other:?}"),
        };
        assert_eq!(offered(&[("foo", "3")]).as_deref(), Some("\"a\", W/\"b\""));
        assert_eq!(offered(&[("foo", "3"), ("if-none-match", "\"c\"")]), None);
        assert_eq!(offered(&[("foo", "3"), ("range", "bytes=0-1")]), None);
    }

    #[test]
    fn what_only_a_rule_made_fresh_says_so() {
        let wanted = Override { min: Some(60_000), ..Override::default() };
        let world = World::ruled(Rule { freshness: vec![wanted], ..Rule::default() });
        let stored = [world.stored(&[], 200, SHORT)];
        assert_eq!(word(&world.plan(&[], &stored, 9)), "serve freshness-override");
        let wanted = Override { force: Some(60_000), ..Override::default() };
        let world = World::ruled(Rule { freshness: vec![wanted], ..Rule::default() });
        let stored = [world.stored(&[], 200, &[("cache-control", "no-cache")])];
        assert_eq!(word(&world.plan(&[], &stored, 9)), "serve freshness-override");
        // Once the rule is gone, the origin's word counts again.
        assert_eq!(word(&World::default().plan(&[], &stored, 9)), "revalidate no-cache");
    }

    #[test]
    fn authorization_and_cookie_in_the_request_do_not_hinder_reuse() {
        let world = World::default();
        let stored = [world.stored(&[], 200, LONG)];
        assert_eq!(word(&world.plan(&[("authorization", "FOO"), ("cookie", "a=b")], &stored, 1)), "serve");
    }
}

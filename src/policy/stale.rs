//! Serving stale responses: RFC 9111 section 4.2.4, RFC 5861.

use http::StatusCode;

use super::{Freshness, Head, Reason, RequestFacts, Selected, Terms, freshness};
use crate::field::cache_control::MaxStale;

/// Whether the response may never be served stale: "A cache MUST NOT generate a stale response if it is
/// prohibited by an explicit in-protocol directive (e.g., by a no-cache response directive, a must-revalidate
/// response directive, or an applicable s-maxage or proxy-revalidate response directive)". A failure to
/// validate such a one is a 504.
pub fn forbids_stale(stored: Head<'_>) -> bool {
    forbids_stale_but_for_s_maxage(stored) || stored.facts.directives.s_maxage.is_some()
}

fn forbids_stale_but_for_s_maxage(stored: Head<'_>) -> bool {
    let directives = &stored.facts.directives;
    directives.must_revalidate || directives.proxy_revalidate || directives.no_cache.is_whole()
}

/// Whether the request's max-stale takes it: not where its min-fresh wants more than that.
pub(crate) fn max_stale_allows(facts: &RequestFacts<'_>, stored: Head<'_>, freshness: &Freshness) -> bool {
    let staleness = freshness.staleness();
    let takes = match facts.cache_control.max_stale {
        Some(MaxStale::Any) => true,
        Some(MaxStale::Seconds(seconds)) => staleness <= seconds.saturating_mul(1000),
        None => false,
    };
    let fresher =
        facts.cache_control.min_fresh.is_some_and(|seconds| freshness.left() < seconds.saturating_mul(1000));
    takes && !fresher && !forbids_stale(stored)
}

/// Whether it may be served while it is validated in the background. RFC 5861 section 3. Not to a client that
/// asked for an age or for time left: such a one "does not wish to receive a stale response".
pub(crate) fn while_revalidate_allows(
    facts: &RequestFacts<'_>,
    stored: Head<'_>,
    freshness: &Freshness,
    terms: &Terms<'_>,
) -> bool {
    let forbidden = if terms.options.s_maxage_allows_stale_while_revalidate {
        forbids_stale_but_for_s_maxage(stored)
    } else {
        forbids_stale(stored)
    };
    let window = match stored.facts.directives.stale_while_revalidate {
        Some(delta) => delta.millis(),
        None => terms.rule.and_then(|rule| rule.stale_while_revalidate).unwrap_or(0),
    };
    let restricted = facts.cache_control.max_age.is_some() || facts.cache_control.min_fresh.is_some();
    !forbidden && !restricted && freshness.staleness() < window
}

/// May `stored` answer, though stale, because the origin could not be reached? `None`: then 504 if
/// [`forbids_stale`] (or the origin's time ran out), else 502.
pub fn stale_on_failure(facts: &RequestFacts<'_>, stored: Head<'_>, terms: &Terms<'_>) -> Option<Reason> {
    let bound = terms.rule.and_then(|rule| rule.stale_if_error).unwrap_or(terms.options.stale_if_error);
    allowed_on_error(facts, stored, terms, Some(bound))
}

/// May `stored` answer in place of this response to its validation? Only for 500, 502, 503 and 504, and only
/// by a directive or the rule's word: "the origin's own 5xx where it answered".
pub fn stale_on_status(
    facts: &RequestFacts<'_>,
    stored: Head<'_>,
    status: StatusCode,
    terms: &Terms<'_>,
) -> Option<Reason> {
    if !matches!(status.as_u16(), 500 | 502 | 503 | 504) {
        return None;
    }
    allowed_on_error(facts, stored, terms, terms.rule.and_then(|rule| rule.stale_if_error))
}

fn allowed_on_error(
    facts: &RequestFacts<'_>,
    stored: Head<'_>,
    terms: &Terms<'_>,
    bound: Option<i64>,
) -> Option<Reason> {
    let request = &facts.cache_control;
    if forbids_stale(stored) || request.no_cache || request.pragma_no_cache || request.no_store {
        return None;
    }
    // What was validated may be another variant's (a mismatch of Vary offers the tags of all): that one is
    // no answer to this request, fresh or stale.
    if !stored.selecting.matches(stored.fields(), &mut Selected::by(facts.headers, terms.options)) {
        return None;
    }
    let freshness = freshness(stored, terms);
    let directive = match (stored.facts.directives.stale_if_error, request.stale_if_error) {
        (Some(delta), _) => Some(delta.millis()),
        (None, Some(seconds)) => Some(seconds.saturating_mul(1000)),
        (None, None) => None,
    };
    let window = match directive {
        // "regardless of other freshness information".
        Some(window) => window,
        // Without a directive, what the client said of age still counts.
        None if too_old_for(facts, &freshness) => return None,
        None => bound?,
    };
    (freshness.staleness() <= window).then_some(Reason::StaleIfError)
}

/// Whether the request's max-age or min-fresh rules it out.
fn too_old_for(facts: &RequestFacts<'_>, freshness: &Freshness) -> bool {
    let directives = &facts.cache_control;
    let may_be_stale = directives.max_stale.is_some();
    let too_old =
        directives.max_age.is_some_and(|seconds| freshness.current_age > seconds.saturating_mul(1000));
    let unwilling = directives.max_age.is_some() && !freshness.fresh() && !may_be_stale;
    too_old || unwilling || directives.min_fresh.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rules::Rule;
    use crate::policy::testing::{World, headers, word};
    use crate::policy::{Asked, Verdict};

    const REASON: Option<Reason> = Some(Reason::StaleIfError);

    /// Whether a response with this Cache-Control answers when the connection fails, so many seconds after it
    /// was stored.
    #[track_caller]
    fn on_failure(world: &World, request: &[(&str, &str)], cache_control: &str, seconds: i64) -> bool {
        let head =
            world.stored(&[], 200, &[("cache-control", cache_control), ("etag", "\"a\""), ("date", "@0")]);
        let headers = headers(request);
        let facts = RequestFacts::of(&http::Method::GET, &headers, false);
        let found = stale_on_failure(&facts, head.view(), &world.terms(seconds));
        assert!(found.is_none() || found == REASON);
        found.is_some()
    }

    #[test]
    fn a_failed_connection_is_bridged_for_the_configured_bound() {
        let world = World::default();
        assert!(on_failure(&world, &[], "max-age=2", 3));
        assert!(on_failure(&world, &[], "max-age=2", 3602));
        assert!(!on_failure(&world, &[], "max-age=2", 3603));
        assert!(on_failure(&world, &[], "max-age=2, stale-if-error=60", 62));
        assert!(!on_failure(&world, &[], "max-age=2, stale-if-error=60", 63));
        assert!(!on_failure(&world, &[], "max-age=2, stale-if-error=0", 3));
        assert!(!on_failure(&world, &[], "max-age=2, stale-if-error=x", 3));
        assert!(!on_failure(&world, &[("cache-control", "stale-if-error=1")], "max-age=2", 4));
        assert!(on_failure(&world, &[("cache-control", "stale-if-error=9000")], "max-age=2", 9000));
        let ruled = World::ruled(Rule { stale_if_error: Some(5_000), ..Rule::default() });
        assert!(on_failure(&ruled, &[], "max-age=2", 7));
        assert!(!on_failure(&ruled, &[], "max-age=2", 8));
    }

    #[test]
    fn never_with_must_revalidate_proxy_revalidate_s_maxage_or_no_cache() {
        let world = World::ruled(Rule { stale_if_error: Some(i64::MAX), ..Rule::default() });
        for forbids in ["must-revalidate", "proxy-revalidate", "s-maxage=2", "no-cache"] {
            for also in ["", ", stale-if-error=600, stale-while-revalidate=600"] {
                let cache_control = format!("max-age=2, {forbids}{also}");
                assert!(!on_failure(&world, &[], &cache_control, 3), "{cache_control}");
                let fields = [("cache-control", cache_control.as_str()), ("etag", "\"a\"")];
                let head = world.stored(&[], 200, &fields);
                assert!(forbids_stale(head.view()));
                let request = [("cache-control", "max-stale")];
                let expected =
                    if forbids == "no-cache" { "revalidate no-cache" } else { "revalidate expired" };
                assert_eq!(
                    word(&world.plan(&request, std::slice::from_ref(&head), 3)),
                    expected,
                    "{cache_control}"
                );
                assert_eq!(
                    word(&world.plan(&[], std::slice::from_ref(&head), 3)),
                    expected,
                    "{cache_control}"
                );
                let found = world.judge_asked(&[], Asked::Validation(head.view()), 3, 503, &[]);
                assert!(matches!(found, Verdict::PassThrough(_)), "{cache_control}: {found:?}");
            }
        }
    }

    #[test]
    fn a_client_that_wants_it_validated_or_young_gets_nothing_stale() {
        let world = World::default();
        for request in ["no-cache", "max-age=0", "max-age=2", "min-fresh=1"] {
            assert!(!on_failure(&world, &[("cache-control", request)], "max-age=2", 3), "{request}");
        }
        assert!(!on_failure(&world, &[("pragma", "no-cache")], "max-age=2", 3));
        // "regardless of other freshness information"
        assert!(on_failure(&world, &[("cache-control", "max-age=0")], "max-age=2, stale-if-error=60", 3));
        assert!(!on_failure(&world, &[("cache-control", "no-cache")], "max-age=2, stale-if-error=60", 3));
        assert!(on_failure(&world, &[("cache-control", "max-age=9, max-stale=9")], "max-age=2", 3));
    }

    #[test]
    fn a_server_error_is_bridged_by_a_directive_or_a_rule_alone() {
        let (world, ruled) =
            (World::default(), World::ruled(Rule { stale_if_error: Some(60_000), ..Rule::default() }));
        let head =
            |cache_control| world.stored(&[], 200, &[("cache-control", cache_control), ("date", "@0")]);
        let (plain, willing) = (head("max-age=2"), head("max-age=2, stale-if-error=60"));
        for status in [500, 502, 503, 504] {
            let ask = |world: &World, stored, seconds| {
                world.judge_asked(&[], Asked::Validation(stored), seconds, status, &[])
            };
            assert_eq!(ask(&world, willing.view(), 3), Verdict::ServeStale(Reason::StaleIfError), "{status}");
            assert_eq!(ask(&ruled, plain.view(), 3), Verdict::ServeStale(Reason::StaleIfError), "{status}");
            assert!(matches!(ask(&world, plain.view(), 3), Verdict::PassThrough(_)), "{status}");
            assert!(matches!(ask(&world, willing.view(), 63), Verdict::PassThrough(_)), "{status}");
        }
        for status in [200, 401, 403, 404, 501, 505] {
            let found = world.judge_asked(&[], Asked::Validation(willing.view()), 3, status, &[]);
            assert!(!matches!(found, Verdict::ServeStale(_)), "{status}");
        }
    }

    #[test]
    fn another_variant_is_no_answer_to_a_failure() {
        let world = World::default();
        let fields = [("cache-control", "max-age=2, stale-if-error=60"), ("vary", "foo"), ("etag", "\"a\"")];
        let stored = world.stored(&[("foo", "1")], 200, &fields);
        let ask = |foo| world.judge_asked(&[("foo", foo)], Asked::Validation(stored.view()), 3, 503, &[]);
        assert_eq!(ask("1"), Verdict::ServeStale(Reason::StaleIfError));
        assert!(matches!(ask("2"), Verdict::PassThrough(_)));
        let headers = headers(&[("foo", "2")]);
        let facts = RequestFacts::of(&http::Method::GET, &headers, false);
        assert_eq!(stale_on_failure(&facts, stored.view(), &world.terms(3)), None);
    }

    #[test]
    fn stale_while_revalidate_serves_within_its_window_only() {
        let world = World::default();
        let head = |cache_control| {
            vec![world.stored(&[], 200, &[("cache-control", cache_control), ("etag", "\"a\"")])]
        };
        let swr = head("max-age=1, stale-while-revalidate=4");
        for (seconds, expected) in [(0, "serve"), (1, "refresh"), (4, "refresh"), (5, "revalidate expired")] {
            assert_eq!(word(&world.plan(&[], &swr, seconds)), expected, "{seconds}");
        }
        assert_eq!(word(&world.plan(&[("cache-control", "max-age=9")], &swr, 2)), "revalidate expired");
        assert_eq!(
            word(&world.plan(&[("cache-control", "no-cache")], &swr, 2)),
            "revalidate request-no-cache"
        );
        let ruled = World::ruled(Rule { stale_while_revalidate: Some(5_000), ..Rule::default() });
        assert_eq!(word(&ruled.plan(&[], &head("max-age=1"), 3)), "refresh");
        assert_eq!(
            word(&ruled.plan(&[], &head("max-age=1, stale-while-revalidate=1"), 3)),
            "revalidate expired"
        );
    }

    #[test]
    fn a_key_may_let_s_maxage_go_with_stale_while_revalidate() {
        let mut world = World::default();
        let head = [world.stored(&[], 200, &[("cache-control", "s-maxage=1, stale-while-revalidate=9")])];
        assert_eq!(word(&world.plan(&[], &head, 2)), "revalidate expired");
        world.options.s_maxage_allows_stale_while_revalidate = true;
        assert_eq!(word(&world.plan(&[], &head, 2)), "refresh");
        let must = [world.stored(
            &[],
            200,
            &[("cache-control", "s-maxage=1, stale-while-revalidate=9, must-revalidate")],
        )];
        assert_eq!(word(&world.plan(&[], &must, 2)), "revalidate expired");
    }
}

//! Serving stale responses: RFC 9111 section 4.2.4, RFC 5861.

use http::StatusCode;

use super::{Freshness, Reason, RequestFacts, StoredHead, Terms, freshness};
use crate::field::cache_control::{MaxStale, NoCache};

/// Whether the response may never be served stale: "A cache MUST NOT generate a stale response if it is
/// prohibited by an explicit in-protocol directive (e.g., by a no-cache response directive, a must-revalidate
/// response directive, or an applicable s-maxage or proxy-revalidate response directive)". A failure to
/// validate such a one is a 504.
pub fn forbids_stale(stored: &StoredHead) -> bool {
    forbids_stale_but_for_s_maxage(stored) || stored.facts.directives.s_maxage.is_some()
}

fn forbids_stale_but_for_s_maxage(stored: &StoredHead) -> bool {
    let directives = &stored.facts.directives;
    directives.must_revalidate || directives.proxy_revalidate || directives.no_cache == NoCache::Whole
}

/// Whether the request's max-stale takes it.
pub(crate) fn max_stale_allows(facts: &RequestFacts<'_>, stored: &StoredHead, freshness: &Freshness) -> bool {
    let staleness = freshness.staleness();
    let takes = match facts.cache_control.max_stale {
        Some(MaxStale::Any) => true,
        Some(MaxStale::Seconds(seconds)) => staleness <= seconds.saturating_mul(1000),
        None => false,
    };
    takes && !forbids_stale(stored)
}

/// Whether it may be served while it is validated in the background. RFC 5861 section 3. Not to a client that
/// asked for an age or for time left: such a one "does not wish to receive a stale response".
pub(crate) fn while_revalidate_allows(
    facts: &RequestFacts<'_>,
    stored: &StoredHead,
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
pub fn stale_on_failure(facts: &RequestFacts<'_>, stored: &StoredHead, terms: &Terms<'_>) -> Option<Reason> {
    let bound = terms.rule.and_then(|rule| rule.stale_if_error).unwrap_or(terms.options.stale_if_error);
    allowed_on_error(facts, stored, terms, Some(bound))
}

/// May `stored` answer in place of this response to its validation? Only for 500, 502, 503 and 504, and only
/// by a directive or the rule's word: "the origin's own 5xx where it answered".
pub(crate) fn stale_on_status(
    facts: &RequestFacts<'_>,
    stored: &StoredHead,
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
    stored: &StoredHead,
    terms: &Terms<'_>,
    bound: Option<i64>,
) -> Option<Reason> {
    let request = &facts.cache_control;
    if forbids_stale(stored) || request.no_cache || request.pragma_no_cache || request.no_store {
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
    let too_old = directives.max_age.is_some_and(|seconds| freshness.current_age > seconds.saturating_mul(1000));
    let unwilling = directives.max_age.is_some() && !freshness.fresh() && !may_be_stale;
    too_old || unwilling || directives.min_fresh.is_some()
}

//! Whether a stored response answers a request: RFC 9111 sections 4 and 5.2.1.

use http::HeaderValue;

use super::freshness::needs_validation;
use super::request::MethodKind;
use super::{Candidate, Completeness, Freshness, LifetimeSource, Plan, Reason, RequestFacts, Terms};
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
    match selected(facts, candidates, terms) {
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
    } else if facts.cache_control.no_store {
        Some((Forward::Request, Reason::RequestNoStore))
    } else {
        None
    }
}

fn miss(facts: &RequestFacts<'_>, forward: Forward, reason: Option<Reason>, etags: Option<HeaderValue>) -> Plan {
    if facts.cache_control.only_if_cached {
        return Plan::Unsatisfiable { reason: Reason::OnlyIfCached };
    }
    Plan::Fetch { forward, reason, store: facts.kind == MethodKind::Get, etags }
}

/// The candidate that the request selects: of those whose selecting fields match, "the most recent response
/// (as determined by the Date header field)", one that can answer the request before a partial one that can
/// not. It is also the one that a HEAD response may freshen.
pub fn selected<C: Candidate>(facts: &RequestFacts<'_>, candidates: &[C], terms: &Terms<'_>) -> Option<usize> {
    candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| {
            let head = candidate.head();
            head.selecting.matches(&head.fields, facts.headers, terms.options)
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
    if facts.cache_control.only_if_cached {
        return Plan::Unsatisfiable { reason };
    }
    if reason == Reason::Expired && stale::while_revalidate_allows(facts, head, &freshness, terms) {
        return Plan::ServeAndRefresh { index, freshness };
    }
    if facts.kind == MethodKind::Head {
        // "A response to the HEAD method ... can be used to update or invalidate a stored response": the
        // request goes on as it is, and `head_effect` does the rest.
        return Plan::Fetch { forward, reason: Some(reason), store: false, etags: None };
    }
    Plan::Revalidate { index, forward, reason }
}

/// Why the response may not be used as it is, if so.
fn unusable(
    facts: &RequestFacts<'_>,
    head: &super::StoredHead,
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
fn missing(facts: &RequestFacts<'_>, head: &super::StoredHead, index: usize, usable: bool) -> Plan {
    let plain = miss(facts, Forward::Partial, Some(Reason::RangeMissing), None);
    let wants_all = facts.kind == MethodKind::Get && facts.range.is_none() && !facts.has_conditions();
    let validates = facts.cache_control.no_cache
        || facts.cache_control.pragma_no_cache
        || facts.cache_control.max_age.is_some()
        || facts.cache_control.min_fresh.is_some();
    if !usable || !wants_all || validates || facts.cache_control.only_if_cached {
        return plain;
    }
    let Completeness::Partial { ranges, complete_length } = &head.completeness else { return plain };
    match partial::rest(ranges, *complete_length) {
        Some(range) => Plan::Complete { index, range, if_range: precondition::if_range_for(head) },
        None => plain,
    }
}

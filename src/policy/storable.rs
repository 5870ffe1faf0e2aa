//! Whether a response may be stored: RFC 9111 sections 3, 3.5 and 5.2.2, RFC 9110 section 9.3.3.

use http::{Method, StatusCode, header};

use super::freshness::{has_basis, has_explicit, is_forced, lifetime, override_of};
use super::request::MethodKind;
use super::{Completeness, Reason, Reply, RequestFacts, SetCookie, StoredHead, Terms};
use super::{freshness, stored, validation};
use crate::field::cache_control::{Delta, NoCache, ResponseDirectives};
use crate::field::target::Target;

/// The head to store a response to GET under, or why not.
pub(crate) fn head_to_store(
    facts: &RequestFacts<'_>,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
) -> Result<Box<StoredHead>, Reason> {
    request_allows(facts, terms)?;
    let head = checked(facts, reply, terms)?;
    is_useful(&head, terms)?;
    Ok(Box::new(head))
}

/// What the request forbids.
fn request_allows(facts: &RequestFacts<'_>, terms: &Terms<'_>) -> Result<(), Reason> {
    if facts.kind != MethodKind::Get {
        Err(Reason::Method)
    } else if facts.upgrade {
        Err(Reason::Upgrade)
    } else if facts.has_content {
        Err(Reason::RequestContent)
    } else if facts.cache_control.no_store {
        Err(Reason::RequestNoStore)
    } else if terms.rule.and_then(|rule| rule.cache) == Some(false) {
        Err(Reason::Rule)
    } else {
        Ok(())
    }
}

/// What the response forbids, whichever method it answers.
fn checked(facts: &RequestFacts<'_>, reply: &Reply<'_>, terms: &Terms<'_>) -> Result<StoredHead, Reason> {
    if !reply.framing_ok || (reply.close_delimited && !terms.options.store_close_delimited) {
        return Err(Reason::Framing);
    }
    if !is_final(facts, reply.status) {
        return Err(Reason::Status);
    }
    let head = StoredHead::new(facts.headers, reply, terms).ok_or(Reason::VaryStar)?;
    forbidden(&head, terms)?;
    if facts.authorization && !allows_authorization(&head.facts.directives) {
        return Err(Reason::Authorization);
    }
    if reply.headers.contains_key(header::SET_COOKIE) && !allows_set_cookie(&head.facts.directives, terms) {
        return Err(Reason::SetCookie);
    }
    if reply.status == StatusCode::PARTIAL_CONTENT && !is_whole_part(&head, reply) {
        return Err(Reason::Partial);
    }
    if !has_basis(&head.facts) && override_of(&head, terms).is_none() {
        return Err(Reason::Status);
    }
    Ok(head)
}

/// Whether it is a final response that stands for the resource: not one that this request's own condition or
/// range brought about.
fn is_final(facts: &RequestFacts<'_>, status: StatusCode) -> bool {
    match status {
        StatusCode::NOT_MODIFIED => false,
        StatusCode::PRECONDITION_FAILED => !facts.has_conditions(),
        StatusCode::RANGE_NOT_SATISFIABLE => facts.range.is_none(),
        StatusCode::EXPECTATION_FAILED => !facts.headers.contains_key(header::EXPECT),
        other => !other.is_informational(),
    }
}

/// no-store, private and must-understand; a rule's `force` overrides the first two.
pub(crate) fn forbidden(head: &StoredHead, terms: &Terms<'_>) -> Result<(), Reason> {
    let directives = &head.facts.directives;
    let status = head.facts.received_status.as_u16();
    let forced = is_forced(head, terms);
    if directives.must_understand && !is_understood(status) {
        return Err(Reason::MustUnderstand);
    }
    // "A cache that implements must-understand ... SHOULD ignore no-store" where it understands the status.
    if directives.no_store && !directives.must_understand && !forced {
        return Err(Reason::NoStore);
    }
    if directives.private && !forced {
        return Err(Reason::Private);
    }
    Ok(())
}

/// "the response ... contains ... must-revalidate, public, s-maxage". RFC 9111 section 3.5.
pub(crate) fn allows_authorization(directives: &ResponseDirectives) -> bool {
    directives.public || directives.must_revalidate || matches!(directives.s_maxage, Some(Delta::Seconds(_)))
}

/// Whether a response with Set-Cookie may be shared.
pub(crate) fn allows_set_cookie(directives: &ResponseDirectives, terms: &Terms<'_>) -> bool {
    match terms.set_cookie() {
        SetCookie::Rfc9111 => true,
        SetCookie::Strict => directives.public || matches!(directives.s_maxage, Some(Delta::Seconds(_))),
    }
}

/// Status codes whose caching requirements are known here: those of RFC 9110, and 308, 425, 428, 429, 431,
/// 451, 511 of their own RFCs. The 1xx are never final; 304 is never stored.
const fn is_understood(status: u16) -> bool {
    matches!(status, 200..=206 | 300..=303 | 305..=308 | 400..=417 | 421 | 422 | 425 | 426 | 428 | 429 | 431 | 451 | 500..=505 | 511)
}

/// Whether a 206 is one part, as long as it says.
fn is_whole_part(head: &StoredHead, reply: &Reply<'_>) -> bool {
    head.completeness != Completeness::Complete
        && (reply.content_length.is_none() || reply.content_length == head.expected_length())
        && stored::content_range(reply).is_some()
}

/// Whether the stored response could ever answer anything: by being fresh, by being validated, or by being
/// served stale.
fn is_useful(head: &StoredHead, terms: &Terms<'_>) -> Result<(), Reason> {
    if validation::has_validator(head) {
        return Ok(());
    }
    let directives = &head.facts.directives;
    if directives.no_cache == NoCache::Whole && !is_forced(head, terms) {
        return Err(Reason::NoCache);
    }
    let window = |delta: Option<Delta>| delta.is_some_and(|delta| delta.millis() > 0);
    let stale = window(directives.stale_while_revalidate) || window(directives.stale_if_error);
    if freshness(head, terms).lifetime > 0 || stale { Ok(()) } else { Err(Reason::NoFreshness) }
}

/// The head to store a response to POST under, as the response to GET of the same target: "if it includes
/// explicit freshness information ... and a Content-Location header field that has the same value as the
/// POST's target URI". RFC 9110 section 9.3.3. To be stored after the POST has invalidated the target.
pub fn post_stores(
    facts: &RequestFacts<'_>,
    target: &Target,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
) -> Option<Box<StoredHead>> {
    let successful = reply.status.is_success() && reply.status != StatusCode::PARTIAL_CONTENT;
    if *facts.method != Method::POST || !successful || facts.cache_control.no_store || facts.upgrade {
        return None;
    }
    if terms.rule.and_then(|rule| rule.cache) == Some(false) {
        return None;
    }
    let mut locations = reply.headers.get_all(header::CONTENT_LOCATION).iter();
    let (Some(location), None) = (locations.next(), locations.next()) else { return None };
    if target.resolve(location.as_bytes()).as_ref() != Some(target) {
        return None;
    }
    let head = checked(facts, reply, terms).ok()?;
    let explicit = has_explicit(&head.facts) && lifetime(&head.facts, terms).0 > 0;
    explicit.then(|| Box::new(head))
}

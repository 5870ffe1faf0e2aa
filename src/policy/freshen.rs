//! Updating a stored response by a 304 or by a HEAD response: RFC 9111 sections 3.2, 4.3.4 and 4.3.5.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::stored::{Received, received_date};
use super::{Completeness, Fields, HeadEffect, Reason, Reply, RequestFacts, StoredHead, Terms, Verdict};
use super::{storable, validation};
use crate::field::etag::weak_match;
use crate::field::{list::digits, treatment};

/// A 304 that names `stored`: the head it makes of it, and whether that may be kept.
pub(crate) fn not_modified(
    facts: &RequestFacts<'_>,
    stored: &StoredHead,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
) -> Verdict {
    let with_cookies = update(facts, stored, reply, terms, true);
    let directives = &with_cookies.head.facts.directives;
    let once = |head: StoredHead, reason, remove| Verdict::FreshenOnce { head: Box::new(head), reason, remove };
    let forbidden = with_cookies.selectable.and_then(|()| storable::forbidden(&with_cookies.head, terms));
    if let Err(reason) = forbidden {
        return once(with_cookies.head, reason, true);
    }
    if facts.authorization && !storable::allows_authorization(directives) {
        return once(with_cookies.head, Reason::Authorization, false);
    }
    if !reply.headers.contains_key(header::SET_COOKIE) || storable::allows_set_cookie(directives, terms) {
        return Verdict::Freshen { head: Box::new(with_cookies.head), only_here: HeaderMap::new() };
    }
    let mut only_here = HeaderMap::new();
    for cookie in reply.headers.get_all(header::SET_COOKIE) {
        only_here.append(header::SET_COOKIE, cookie.clone());
    }
    Verdict::Freshen { head: Box::new(update(facts, stored, reply, terms, false).head), only_here }
}

/// What a response to HEAD does to the stored response that the request selects
/// ([`selected`](super::selected)). `stored_length` is the length of its body in bytes.
pub fn head_effect(
    facts: &RequestFacts<'_>,
    stored: &StoredHead,
    stored_length: u64,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
) -> HeadEffect {
    if !facts.is_head() || !reply.framing_ok {
        return HeadEffect::None;
    }
    match reply.status {
        StatusCode::GONE => return HeadEffect::MarkStale,
        StatusCode::OK => {}
        _ => return HeadEffect::None,
    }
    if stored.status != StatusCode::OK || !agrees(stored, stored_length, reply.headers) {
        return HeadEffect::MarkStale;
    }
    let updated = update(facts, stored, reply, terms, storable::allows_set_cookie(&stored.facts.directives, terms));
    if updated.selectable.is_err() || storable::forbidden(&updated.head, terms).is_err() {
        return HeadEffect::MarkStale;
    }
    if facts.authorization && !storable::allows_authorization(&updated.head.facts.directives) {
        return HeadEffect::None;
    }
    HeadEffect::Freshen(Box::new(updated.head))
}

/// "matching values for any received validator fields (ETag and Last-Modified) and, if the HEAD response has a
/// Content-Length header field, the value of Content-Length matches that of the stored response".
fn agrees(stored: &StoredHead, stored_length: u64, reply: &HeaderMap) -> bool {
    let tag = reply.get(header::ETAG).is_none_or(|tag| {
        validation::entity_tag(stored).is_some_and(|known| weak_match(known, tag.as_bytes()))
    });
    let modified = reply
        .get(header::LAST_MODIFIED)
        .is_none_or(|value| stored.fields.bytes(&header::LAST_MODIFIED) == Some(value.as_bytes()));
    let known = match &stored.completeness {
        Completeness::Complete => Some(stored_length),
        Completeness::Partial { complete_length, .. } => *complete_length,
    };
    let length = match (reply.get(header::CONTENT_LENGTH), known) {
        (Some(value), Some(known)) => digits(value.as_bytes()) == Some(known),
        _ => true,
    };
    tag && modified && length
}

struct Updated {
    head: StoredHead,
    /// Whether its Vary still lets requests select it.
    selectable: Result<(), Reason>,
}

fn update(
    facts: &RequestFacts<'_>,
    stored: &StoredHead,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
    cookies: bool,
) -> Updated {
    let mut new = reply.headers.clone();
    if let Some(date) = received_date(reply.headers, reply.response_time) {
        new.insert(header::DATE, date);
    }
    // A tag that is ours but for the mark of weakness says nothing new about the stored bytes.
    let keeps_tag = validation::entity_tag(stored).is_some();
    let fields = replaced(&stored.fields, &new, |name| {
        treatment::is_stored(name)
            && treatment::replaced_by_304(name)
            && *name != header::AGE
            && (cookies || *name != header::SET_COOKIE)
            && !(keeps_tag && *name == header::ETAG)
    });
    let received = Received::of(reply, stored.facts.received_status);
    match stored.updated(fields.clone(), &received, facts.headers, terms) {
        Some(head) => Updated { head, selectable: Ok(()) },
        None => {
            Updated { head: stored.with_fields(fields, &received, terms), selectable: Err(Reason::VaryStar) }
        }
    }
}

/// Stored fields with all lines of each name that `new` has (and `takes` takes) replaced by the new ones. What
/// `new` does not have stays.
pub(crate) fn replaced(stored: &Fields, new: &HeaderMap, takes: impl Fn(&HeaderName) -> bool) -> Fields {
    let old: Vec<(HeaderName, HeaderValue)> = stored.iter().collect();
    let replaces = |name: &HeaderName| takes(name) && new.contains_key(name);
    Fields::collect(|| {
        let kept = old.iter().filter(|(name, _)| !replaces(name)).map(|(name, value)| (name, value.as_bytes()));
        let added = new.iter().filter(|(name, _)| takes(name)).map(|(name, value)| (name, value.as_bytes()));
        kept.chain(added)
    })
}

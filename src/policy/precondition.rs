//! The client's conditions and ranges, answered from a stored response. RFC 9110 sections 13 and 14, RFC 9111
//! section 4.3.2.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::request::MethodKind;
use super::{Answer, Completeness, RequestFacts, StoredHead, partial, validation};
use crate::field::etag::{is_strong, strong_match, weak_match};
use crate::field::{date, list, range};

/// Answers the client's conditions, range and method from a stored response. `complete_length` is the length
/// of the representation in bytes, `None` while it is not known (a body still under way).
pub fn answer(
    facts: &RequestFacts<'_>,
    head: &StoredHead,
    complete_length: Option<u64>,
    max_ranges: usize,
) -> Answer {
    if let Some(answer) = conditions(facts, head) {
        return answer;
    }
    let known = match &head.completeness {
        Completeness::Complete => complete_length,
        Completeness::Partial { complete_length, .. } => *complete_length,
    };
    let whole = if head.is_complete() { Answer::Whole } else { Answer::Missing };
    let Some(specs) = ranges(facts, head, max_ranges) else { return whole };
    match partial::resolve(&specs, known) {
        partial::Resolved::Ranges(ranges) if partial::contains_all(&head.completeness, &ranges) => {
            Answer::Ranges(ranges)
        }
        partial::Resolved::Ranges(_) => Answer::Missing,
        partial::Resolved::Unsatisfiable => Answer::RangeNotSatisfiable,
        partial::Resolved::Unknown => whole,
    }
}

/// The ranges that count: of a GET, in bytes, not too many, where If-Range holds, for a 200.
pub(crate) fn ranges(
    facts: &RequestFacts<'_>,
    head: &StoredHead,
    max_ranges: usize,
) -> Option<Vec<range::RangeSpec>> {
    let range = only_line(facts.headers, &header::RANGE).filter(|_| facts.range.is_some())?;
    let specs = range::parse(range, max_ranges)?;
    (head.status == http::StatusCode::OK && if_range_holds(facts.headers, head)).then_some(specs)
}

/// The conditions in their order of precedence. RFC 9110 section 13.2.2. "a server MUST ignore all received
/// preconditions if its response to the same request without those conditions ... would have been a status
/// code other than a 2xx".
pub(crate) fn conditions(facts: &RequestFacts<'_>, head: &StoredHead) -> Option<Answer> {
    if !facts.has_conditions() || facts.kind == MethodKind::Other || !head.status.is_success() {
        return None;
    }
    let headers = facts.headers;
    let holds = match headers.contains_key(header::IF_MATCH) {
        true => any_tag(headers, &header::IF_MATCH, head, strong_match),
        false => !modified_after(headers, head),
    };
    if !holds {
        return Some(Answer::PreconditionFailed);
    }
    let not_modified = if headers.contains_key(header::IF_NONE_MATCH) {
        any_tag(headers, &header::IF_NONE_MATCH, head, weak_match)
    } else {
        not_modified_since(headers, head)
    };
    not_modified.then_some(Answer::NotModified)
}

/// Whether `*` or a tag of the list matches.
fn any_tag(
    headers: &HeaderMap,
    name: &HeaderName,
    head: &StoredHead,
    matches: impl Fn(&[u8], &[u8]) -> bool,
) -> bool {
    let stored = validation::entity_tag(head);
    let mut tags = list::entity_tags(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    tags.any(|tag| tag == b"*" || stored.is_some_and(|stored| matches(stored, tag)))
}

/// If-Unmodified-Since: whether the response was modified after it. "A recipient MUST ignore
/// If-Unmodified-Since if the resource does not have a modification date available."
fn modified_after(headers: &HeaderMap, head: &StoredHead) -> bool {
    match (since(headers, &header::IF_UNMODIFIED_SINCE, head), head.facts.last_modified) {
        (Some(since), Some(modified)) => modified > since,
        _ => false,
    }
}

/// If-Modified-Since: "If the selected representation's last modification date is earlier or equal to the date
/// provided in the field value, the condition is false." A cache that has no Last-Modified uses Date (RFC 9111
/// section 4.3.2).
fn not_modified_since(headers: &HeaderMap, head: &StoredHead) -> bool {
    let Some(since) = since(headers, &header::IF_MODIFIED_SINCE, head) else { return false };
    let modified = match head.facts.last_modified {
        Some(modified) => modified,
        None if head.fields.contains(&header::LAST_MODIFIED) => return false,
        None => head.facts.date,
    };
    modified <= since
}

/// The date of a condition. "A recipient MUST ignore the ... field if the received field value is not a valid
/// HTTP-date, the field value has more than one member".
fn since(headers: &HeaderMap, name: &HeaderName, head: &StoredHead) -> Option<i64> {
    date::parse(only_line(headers, name)?, head.response_time.unix())
}

/// If-Range: a strong entity tag that matches, or the exact Last-Modified where that is a strong validator.
fn if_range_holds(headers: &HeaderMap, head: &StoredHead) -> bool {
    if !headers.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(value) = only_line(headers, &header::IF_RANGE) else { return false };
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        return validation::entity_tag(head).is_some_and(|stored| strong_match(stored, value));
    }
    let asked = date::parse(value, head.response_time.unix());
    asked.is_some() && asked == head.facts.last_modified && is_last_modified_strong(head)
}

/// "The associated origin server sends a Date value for the stored response that is at least one second later
/// than the Last-Modified value". RFC 9110 section 8.8.2.2.
fn is_last_modified_strong(head: &StoredHead) -> bool {
    head.facts.last_modified.is_some_and(|modified| modified < head.facts.date)
}

/// If-Range to ask for the rest of a partial response: its strong entity tag.
pub(crate) fn if_range_for(head: &StoredHead) -> Option<HeaderValue> {
    head.fields.get(&header::ETAG).filter(|tag| is_strong(tag.as_bytes()))
}

fn only_line<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(only), None) => Some(list::trim(only.as_bytes())),
        _ => None,
    }
}

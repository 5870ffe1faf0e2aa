//! Answers made of a stored response, or of one that is being stored: status, fields and the part of the body
//! that the client's conditions, range and method ask for.

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use std::ops::Range;

use super::fetch::Filling;
use super::{Outcome, Served, Settings};
use crate::body::multipart::Part;
use crate::body::{Body, Multipart, Span, StoredBody};
use crate::policy::{
    self, Answer, Candidate as _, Completeness, Freshness, Head, Reason, RequestFacts, Terms,
};
use crate::store::StoredResponse;

/// Answers from a stored response.
pub(crate) fn stored(
    facts: &RequestFacts<'_>,
    stored: &StoredResponse,
    freshness: &Freshness,
    validated: bool,
    settings: &Settings,
    outcome: Outcome,
) -> Served {
    let received = Version::HTTP_11;
    let head = stored.head();
    let length = complete_length(head, stored.length());
    match policy::answer(facts, head, length, settings.policy.max_ranges) {
        Answer::Whole => {
            let mut headers = policy::served_fields(head, freshness, validated);
            // RFC 9110 section 8.6: "A server MUST NOT send a Content-Length header field in any response with a
            // status code of ... 204 (No Content)."
            let body = if head.status == StatusCode::NO_CONTENT {
                Body::Empty
            } else if *facts.method == Method::HEAD {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(stored.length()));
                Body::Empty
            } else {
                Body::from(stored.body())
            };
            Served { status: head.status, headers, body, received, outcome, buffered: None }
        }
        Answer::Ranges(ranges) => {
            let mut headers = policy::served_fields(head, freshness, validated);
            // That of the whole; hyper writes that of the part.
            headers.remove(header::CONTENT_LENGTH);
            let body = if let [range] = ranges.as_slice() {
                headers.insert(header::CONTENT_RANGE, content_range(range, length));
                Body::from(part(stored, range))
            } else {
                let kind = headers.remove(header::CONTENT_TYPE);
                let parts = ranges.iter().map(|r| Part { range: r.clone(), body: part(stored, r) }).collect();
                let multipart = Multipart::new(parts, kind.as_ref(), length);
                headers.insert(header::CONTENT_TYPE, multipart.content_type());
                Body::from(multipart)
            };
            Served { status: StatusCode::PARTIAL_CONTENT, headers, body, received, outcome, buffered: None }
        }
        other => without_content(&other, head, freshness, length, received, outcome),
    }
}

/// Answers from a stale stored response, since the origin failed.
pub(crate) fn stale(
    facts: &RequestFacts<'_>,
    response: &StoredResponse,
    reason: Reason,
    terms: &Terms<'_>,
    settings: &Settings,
    mut outcome: Outcome,
) -> Served {
    let freshness = policy::freshness(response.head(), terms);
    outcome.ttl = Some(freshness.ttl());
    outcome.detail = Some(reason);
    stored(facts, response, &freshness, false, settings, outcome)
}

/// Answers from a response that is being stored; `None` where it can't be told yet how.
pub(crate) fn filling(
    facts: &RequestFacts<'_>,
    filling: &Filling,
    freshness: &Freshness,
    outcome: Outcome,
) -> Option<Served> {
    let head = filling.head.view();
    if head.completeness != Completeness::Complete {
        return None;
    }
    let (length, received) = (filling.length, filling.version);
    match policy::answer(facts, head, length, 1) {
        Answer::Whole => {
            let body = if facts.is_head() { Body::Empty } else { Body::from(filling.body.reader()?) };
            Some(whole(filling, freshness, body, outcome))
        }
        // Of a length that nobody knows yet, a range that ends beyond it can't be told from one that does not.
        Answer::Ranges(_) if length.is_none() => None,
        Answer::Ranges(ranges) => {
            let [range] = ranges.as_slice() else { return None };
            let body = Body::boxed(Span::new(filling.body.reader()?, range.clone()));
            let mut headers = policy::served_fields(head, freshness, false);
            headers.remove(header::CONTENT_LENGTH);
            headers.insert(header::CONTENT_RANGE, content_range(range, length));
            Some(Served {
                status: StatusCode::PARTIAL_CONTENT,
                headers,
                body,
                received,
                outcome,
                buffered: None,
            })
        }
        Answer::Missing => None,
        other => Some(without_content(&other, head, freshness, length, received, outcome)),
    }
}

/// Answers with the whole of a response that is being stored, from a reader of it.
pub(crate) fn whole(filling: &Filling, freshness: &Freshness, reader: Body, outcome: Outcome) -> Served {
    let headers = policy::served_fields(filling.head.view(), freshness, false);
    let (status, received) = (filling.head.status, filling.version);
    Served { status, headers, body: reader, received, outcome, buffered: None }
}

/// Answers the client whose validation brought a new response: its own conditions were not sent, so they are
/// answered here; a range is not, the whole response may always be sent instead.
pub(crate) fn replacing(
    facts: &RequestFacts<'_>,
    head: Head<'_>,
    length: Option<u64>,
    freshness: &Freshness,
    served: Served,
) -> Served {
    match policy::answer(facts, head, length, 1) {
        Answer::Whole | Answer::Ranges(_) | Answer::RangeNotSatisfiable | Answer::Missing => served,
        other => without_content(&other, head, freshness, length, served.received, served.outcome),
    }
}

fn without_content(
    answer: &Answer,
    head: Head<'_>,
    freshness: &Freshness,
    length: Option<u64>,
    received: Version,
    outcome: Outcome,
) -> Served {
    let (status, headers) = match answer {
        Answer::NotModified => (StatusCode::NOT_MODIFIED, policy::not_modified_fields(head, freshness)),
        Answer::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, HeaderMap::new()),
        Answer::RangeNotSatisfiable => {
            let mut headers = HeaderMap::new();
            let value = length.and_then(|length| HeaderValue::try_from(format!("bytes */{length}")).ok());
            if let Some(value) = value {
                headers.insert(header::CONTENT_RANGE, value);
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, headers)
        }
        // These have content; they are answered elsewhere.
        Answer::Whole | Answer::Ranges(_) | Answer::Missing => {
            (head.status, policy::served_fields(head, freshness, false))
        }
    };
    Served { status, headers, body: Body::Empty, received, outcome, buffered: None }
}

/// Length of the representation, of which a part may be stored. `None` where nobody has told.
fn complete_length(head: Head<'_>, stored: u64) -> Option<u64> {
    head.completeness.complete_length(Some(stored))
}

/// The part of the stored body that is `range` of the representation.
fn part(stored: &StoredResponse, range: &Range<u64>) -> StoredBody {
    // Policy has made sure that it is stored.
    policy::locate(&stored.head().completeness, range).map_or(StoredBody::EMPTY, |at| stored.body().slice(at))
}

fn content_range(range: &Range<u64>, length: Option<u64>) -> HeaderValue {
    let length = length.map_or_else(|| "*".to_owned(), |length| length.to_string());
    let last = range.end.saturating_sub(1);
    HeaderValue::try_from(format!("bytes {}-{last}/{length}", range.start))
        .unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

//! A stored response's head, and what of it was parsed once, when it was stored. RFC 9111 section 3.

use std::ops::Range;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::targeted::{self, Effective};
use super::{Fields, Reply, Selecting, Terms, age};
use crate::clock::Moment;
use crate::field::cache_control::{Delta, ResponseDirectives, says_no_cache};
use crate::field::{date, range::ContentRange, treatment};

/// The head of a stored response.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredHead {
    /// The status code. A 206 is stored as the 200 that it is a part of; `completeness` says which part.
    pub status: StatusCode,
    /// The fields to send, Date among them (that of receipt where the origin sent none); without Age, which
    /// is in `facts`, and for a partial response without Content-Range and Content-Length.
    pub fields: Fields,
    /// When the request was sent.
    pub request_time: Moment,
    /// When the response was received.
    pub response_time: Moment,
    /// What caching needs of the fields.
    pub facts: ResponseFacts,
    /// Which requests it may answer. RFC 9111 section 4.1.
    pub selecting: Selecting,
    /// Which part of the representation the body is.
    pub completeness: Completeness,
}

/// Which part of a representation is stored. RFC 9111 section 3.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// All of it.
    Complete,
    /// A part of it. Boxed: few are, and all would be as large.
    Partial(Box<Parts>),
}

/// What is there of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Positions in the representation, whose bytes the body is in order; they are sorted, not empty, and do not touch.
    pub ranges: Vec<Range<u64>>,
    /// Length of the representation, where it is known.
    pub complete_length: Option<u64>,
}

impl Completeness {
    /// Only these ranges of a representation of this length, where it is known.
    pub fn partial(ranges: Vec<Range<u64>>, complete_length: Option<u64>) -> Self {
        Self::Partial(Box::new(Parts { ranges, complete_length }))
    }

    /// Which part there is; `None` if it is all.
    pub fn parts(&self) -> Option<&Parts> {
        match self {
            Self::Complete => None,
            Self::Partial(parts) => Some(parts),
        }
    }

    /// Length of the representation, where it is known; `stored` is that of what is stored.
    pub fn complete_length(&self, stored: Option<u64>) -> Option<u64> {
        self.parts().map_or(stored, |parts| parts.complete_length)
    }
}

/// What caching needs of a response's fields, parsed once.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseFacts {
    /// Cache-Control, or the targeted field that takes its place (RFC 9213).
    pub directives: ResponseDirectives,
    /// Which field gave them.
    pub source: Effective,
    /// Date, or the time of receipt. Unix seconds.
    pub date: i64,
    last_modified: Seconds,
    expires: Seconds,
    expires_is_invalid: bool,
    /// Age as received.
    pub age_value: Option<Delta>,
    /// `corrected_initial_age`. Milliseconds.
    pub initial_age: i64,
    /// Whether `Pragma: no-cache` without Cache-Control forbids heuristic freshness.
    pub pragma_no_cache: bool,
    /// The status code as received, which a heuristic and an override go by: 206 for a partial response.
    pub received_status: StatusCode,
}

/// Unix seconds or none, in no more room than the seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seconds(i64);

impl Seconds {
    const NONE: Self = Self(i64::MIN);

    fn get(self) -> Option<i64> {
        (self != Self::NONE).then_some(self.0)
    }
}

impl From<Option<i64>> for Seconds {
    fn from(seconds: Option<i64>) -> Self {
        seconds.map_or(Self::NONE, Self)
    }
}

/// What Expires says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expires {
    /// Nothing.
    Absent,
    /// Unix seconds.
    At(i64),
    /// "A cache recipient MUST interpret invalid date formats, especially the value "0", as representing a
    /// time in the past".
    Invalid,
}

/// What [`plan`](super::plan) needs of a stored response: implemented by the store's, and by a bare head.
pub trait Candidate {
    /// Its head.
    fn head(&self) -> &StoredHead;
    /// Whether a HEAD response showed that it has changed ([`HeadEffect`](super::HeadEffect)).
    fn marked_stale(&self) -> bool;
    /// Bytes of body stored.
    fn length(&self) -> u64;
}

impl Candidate for StoredHead {
    fn head(&self) -> &StoredHead {
        self
    }

    fn marked_stale(&self) -> bool {
        false
    }

    fn length(&self) -> u64 {
        self.expected_length().unwrap_or(0)
    }
}

impl<C: Candidate> Candidate for &C {
    fn head(&self) -> &StoredHead {
        (*self).head()
    }

    fn marked_stale(&self) -> bool {
        (*self).marked_stale()
    }

    fn length(&self) -> u64 {
        (*self).length()
    }
}

impl<C: Candidate> Candidate for Arc<C> {
    fn head(&self) -> &StoredHead {
        (**self).head()
    }

    fn marked_stale(&self) -> bool {
        (**self).marked_stale()
    }

    fn length(&self) -> u64 {
        (**self).length()
    }
}

impl StoredHead {
    /// The head under which a response would be stored, by the directives that count; whether it may be is `storable`'s
    /// question. `None` if Vary lets no request be known to select it.
    pub(crate) fn new(
        request: &HeaderMap,
        reply: &Reply<'_>,
        effective: (ResponseDirectives, Effective),
        terms: &Terms<'_>,
    ) -> Option<Self> {
        let completeness = match (reply.status, content_range(reply)) {
            (StatusCode::PARTIAL_CONTENT, Some(part)) => Completeness::partial(
                std::iter::once(part.first..part.last.saturating_add(1)).collect(),
                part.complete,
            ),
            _ => Completeness::Complete,
        };
        let partial = completeness != Completeness::Complete;
        let fields = with_date(reply, |name| {
            treatment::is_stored(name)
                && *name != header::AGE
                && !(partial && (*name == header::CONTENT_RANGE || *name == header::CONTENT_LENGTH))
        });
        let selecting = Selecting::of(&fields, request, terms.options)?;
        let received = Received::of(reply, reply.status);
        Some(Self {
            status: if partial { StatusCode::OK } else { reply.status },
            facts: ResponseFacts::of(&fields, effective, &received),
            fields,
            request_time: reply.request_time,
            response_time: reply.response_time,
            selecting,
            completeness,
        })
    }

    /// This head with other fields, which came with a 304, a HEAD response or another part. `None` if Vary now
    /// lets no request be known to select it.
    pub(crate) fn updated(
        &self,
        fields: Fields,
        received: &Received,
        request: &HeaderMap,
        terms: &Terms<'_>,
    ) -> Option<Self> {
        let selecting = Selecting::of(&fields, request, terms.options)?;
        Some(Self { selecting, ..self.with_fields(fields, received, terms) })
    }

    /// This head with other fields, selected by the same requests.
    pub(crate) fn with_fields(&self, fields: Fields, received: &Received, terms: &Terms<'_>) -> Self {
        let effective = targeted::effective(&fields, &terms.options.targeted_fields);
        Self {
            status: self.status,
            facts: ResponseFacts::of(&fields, effective, received),
            fields,
            request_time: received.request_time,
            response_time: received.response_time,
            selecting: self.selecting.clone(),
            completeness: self.completeness.clone(),
        }
    }

    /// Bytes that its body has: of a partial response from its ranges, of a complete one from Content-Length.
    pub fn expected_length(&self) -> Option<u64> {
        match self.completeness.parts() {
            None => {
                let value = self.fields.bytes(&header::CONTENT_LENGTH)?;
                crate::field::list::digits(value)
            }
            Some(parts) => Some(parts.ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum()),
        }
    }

    /// Whether the body is the whole representation.
    pub fn is_complete(&self) -> bool {
        self.completeness == Completeness::Complete
    }

    /// Bytes that the head takes, on the heap and in itself: for the store's accounts.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.fields.weight() + self.selecting.weight()
    }
}

/// The one valid Content-Range of a 206.
pub(crate) fn content_range(reply: &Reply<'_>) -> Option<ContentRange> {
    let mut lines = reply.headers.get_all(header::CONTENT_RANGE).iter();
    match (lines.next(), lines.next()) {
        (Some(only), None) => ContentRange::parse(only.as_bytes()),
        _ => None,
    }
}

/// What a head takes from the message that it came with, beside its fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) status: StatusCode,
    pub(crate) age_value: Option<Delta>,
    pub(crate) request_time: Moment,
    pub(crate) response_time: Moment,
}

impl Received {
    /// Of a reply; `status` is that of the response it is or updates.
    pub(crate) fn of(reply: &Reply<'_>, status: StatusCode) -> Self {
        Self {
            status,
            age_value: age::age_value(reply.headers.get_all(header::AGE).iter().map(HeaderValue::as_bytes)),
            request_time: reply.request_time,
            response_time: reply.response_time,
        }
    }
}

/// The fields that `keep` takes, with Date where there is none: "A recipient with a clock that receives a
/// response message without a Date header field MUST record the time it was received and append a
/// corresponding Date header field to the message's header section if it is cached". RFC 9110 section 6.6.1.
fn with_date(reply: &Reply<'_>, keep: impl Fn(&HeaderName) -> bool) -> Fields {
    let received = received_date(reply.headers, reply.response_time);
    let kept = reply.headers.iter().filter(|(name, _)| keep(name));
    let all = kept.chain(received.iter().map(|value| (&header::DATE, value)));
    Fields::collect(all.map(|(name, value)| (name, value.as_bytes())))
}

/// Date to append, if there is none.
pub(crate) fn received_date(headers: &HeaderMap, response_time: Moment) -> Option<HeaderValue> {
    (!headers.contains_key(header::DATE)).then(|| date::format(response_time.unix()))
}

impl ResponseFacts {
    /// Last-Modified. Unix seconds.
    pub fn last_modified(&self) -> Option<i64> {
        self.last_modified.get()
    }

    /// Expires, unless a targeted field takes its place.
    pub fn expires(&self) -> Expires {
        match self.expires.get() {
            _ if self.expires_is_invalid => Expires::Invalid,
            Some(seconds) => Expires::At(seconds),
            None => Expires::Absent,
        }
    }

    fn of(
        fields: &Fields,
        (directives, source): (ResponseDirectives, Effective),
        received: &Received,
    ) -> Self {
        let now = received.response_time.unix();
        let read = |name: &HeaderName| fields.bytes(name).and_then(|value| date::parse(value, now));
        let sent = read(&header::DATE).unwrap_or(now);
        let expires = match source {
            Effective::CacheControl => expires(fields, now),
            Effective::Targeted => Expires::Absent,
        };
        Self {
            pragma_no_cache: !directives.present && says_no_cache(fields.bytes_all(&header::PRAGMA)),
            directives,
            source,
            date: sent,
            last_modified: read(&header::LAST_MODIFIED).into(),
            expires: if let Expires::At(seconds) = expires { Seconds(seconds) } else { Seconds::NONE },
            expires_is_invalid: expires == Expires::Invalid,
            age_value: received.age_value,
            initial_age: age::corrected_initial_age(
                sent,
                received.age_value,
                received.request_time,
                received.response_time,
            ),
            received_status: received.status,
        }
    }
}

/// Expires over all its lines: differing ones are invalid.
fn expires(fields: &Fields, now_unix: i64) -> Expires {
    let mut lines = fields.bytes_all(&header::EXPIRES);
    let Some(first) = lines.next() else { return Expires::Absent };
    if lines.any(|line| line != first) {
        return Expires::Invalid;
    }
    date::parse(first, now_unix).map_or(Expires::Invalid, Expires::At)
}

//! A stored response's head, and what of it was parsed once, when it was stored. RFC 9111 section 3.

use std::ops::{Deref, Range};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::targeted::{self, Effective};
use super::{FieldLines, Fields, Reply, Selecting, Terms, age};
use crate::clock::Moment;
use crate::field::cache_control::{ALLOCATOR, Delta, ResponseDirectives, says_no_cache};
use crate::field::{date, range::ContentRange, treatment};

/// The head of a response that is to be stored: its fields, and the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredHead {
    /// The fields to send, Date among them (that of receipt where the origin sent none); without Age, which
    /// is in `facts`, and for a partial response without Content-Range and Content-Length.
    pub fields: Fields,
    /// All but the fields.
    pub metadata: Metadata,
}

/// The head of a stored response, wherever the store keeps it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head<'a> {
    fields: FieldLines<'a>,
    metadata: &'a Metadata,
}

/// What a head has beside its fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// The status code. A 206 is stored as the 200 that it is a part of; `completeness` says which part.
    pub status: StatusCode,
    /// When the response was received.
    pub response_time: Moment,
    /// `response_delay`: how long after the request that was, by the monotonic clock. Milliseconds, of seven weeks at
    /// most.
    pub response_delay: u32,
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
    /// Age as received.
    pub age_value: Option<Delta>,
    /// `corrected_initial_age`. Milliseconds.
    pub initial_age: i64,
    /// Whether `Pragma: no-cache` without Cache-Control forbids heuristic freshness.
    pub pragma_no_cache: bool,
    /// The status code as received, which a heuristic and an override go by: 206 for a partial response.
    pub received_status: StatusCode,
}

/// Unix seconds or none, in no more room than the seconds: no date lies so far back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seconds(i64);

impl Seconds {
    const NONE: Self = Self(i64::MIN);
    const INVALID: Self = Self(i64::MIN + 1);

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
    fn head(&self) -> Head<'_>;
    /// Whether a HEAD response showed that it has changed ([`HeadEffect`](super::HeadEffect)).
    fn marked_stale(&self) -> bool;
    /// Bytes of body stored.
    fn length(&self) -> u64;
}

impl Candidate for StoredHead {
    fn head(&self) -> Head<'_> {
        self.view()
    }

    fn marked_stale(&self) -> bool {
        false
    }

    fn length(&self) -> u64 {
        self.view().expected_length().unwrap_or(0)
    }
}

impl<C: Candidate> Candidate for &C {
    fn head(&self) -> Head<'_> {
        (*self).head()
    }

    fn marked_stale(&self) -> bool {
        (*self).marked_stale()
    }

    fn length(&self) -> u64 {
        (*self).length()
    }
}

impl Deref for StoredHead {
    type Target = Metadata;

    fn deref(&self) -> &Metadata {
        &self.metadata
    }
}

impl Deref for Head<'_> {
    type Target = Metadata;

    fn deref(&self) -> &Metadata {
        self.metadata
    }
}

impl<'a> Head<'a> {
    /// Of the parts that the store keeps.
    pub fn new(fields: FieldLines<'a>, metadata: &'a Metadata) -> Self {
        Self { fields, metadata }
    }

    /// Its fields.
    pub fn fields(self) -> FieldLines<'a> {
        self.fields
    }

    /// A copy that owns them.
    pub fn to_owned(self) -> StoredHead {
        StoredHead { fields: self.fields.to_fields(), metadata: self.metadata.clone() }
    }

    /// This head with other fields, which came with a 304, a HEAD response or another part. `None` if Vary now
    /// lets no request be known to select it.
    pub(crate) fn updated(
        self,
        fields: Fields,
        received: &Received,
        request: &HeaderMap,
        terms: &Terms<'_>,
    ) -> Option<StoredHead> {
        let selecting = Selecting::of(fields.lines(), request, terms.options)?;
        let mut updated = self.with_fields(fields, received, terms);
        updated.metadata.selecting = selecting;
        Some(updated)
    }

    /// This head with other fields, selected by the same requests.
    pub(crate) fn with_fields(self, fields: Fields, received: &Received, terms: &Terms<'_>) -> StoredHead {
        let effective = targeted::effective(&fields.lines(), &terms.options.targeted_fields);
        let metadata = Metadata {
            status: self.status,
            facts: ResponseFacts::of(fields.lines(), effective, received),
            response_time: received.response_time,
            response_delay: received.response_delay,
            selecting: self.selecting.clone(),
            completeness: self.completeness.clone(),
        };
        StoredHead { fields, metadata }
    }

    /// Bytes that its body has: of a partial response from its ranges, of a complete one from Content-Length.
    pub fn expected_length(self) -> Option<u64> {
        match self.completeness.parts() {
            None => {
                let value = self.fields.bytes(&header::CONTENT_LENGTH)?;
                crate::field::list::digits(value)
            }
            Some(parts) => Some(parts.ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum()),
        }
    }
}

impl Metadata {
    /// Whether the body is the whole representation.
    pub fn is_complete(&self) -> bool {
        self.completeness == Completeness::Complete
    }

    /// Bytes that it takes on the heap, for the store's accounts.
    pub fn weight(&self) -> usize {
        let parts = self.completeness.parts().map_or(0, |parts| {
            ALLOCATOR + size_of::<Parts>() + ALLOCATOR + size_of_val(parts.ranges.as_slice())
        });
        self.selecting.weight() + self.facts.directives.no_cache.weight() + parts
    }
}

impl StoredHead {
    /// To be read.
    pub fn view(&self) -> Head<'_> {
        Head { fields: self.fields.lines(), metadata: &self.metadata }
    }

    /// Its fields.
    pub fn fields(&self) -> FieldLines<'_> {
        self.fields.lines()
    }

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
        let selecting = Selecting::of(fields.lines(), request, terms.options)?;
        let received = Received::of(reply, reply.status);
        let metadata = Metadata {
            status: if partial { StatusCode::OK } else { reply.status },
            facts: ResponseFacts::of(fields.lines(), effective, &received),
            response_time: reply.response_time,
            response_delay: received.response_delay,
            selecting,
            completeness,
        };
        Some(Self { fields, metadata })
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
    pub(crate) initial_age: InitialAge,
    pub(crate) response_delay: u32,
    pub(crate) response_time: Moment,
}

/// `corrected_initial_age`, or what it is to be computed of: `response_delay` by either clock. Milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum InitialAge {
    Known(i64),
    Of { delay: i64 },
}

impl Received {
    /// Of a reply; `status` is that of the response it is or updates.
    pub(crate) fn of(reply: &Reply<'_>, status: StatusCode) -> Self {
        let waited = reply.response_time.mono.saturating_sub(reply.request_time.mono);
        Self {
            status,
            age_value: age::age_value(reply.headers.get_all(header::AGE).iter().map(HeaderValue::as_bytes)),
            initial_age: InitialAge::Of { delay: reply.response_time.since(reply.request_time) },
            response_delay: u32::try_from(waited.max(0)).unwrap_or(u32::MAX),
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
        match self.expires {
            Seconds::NONE => Expires::Absent,
            Seconds::INVALID => Expires::Invalid,
            Seconds(seconds) => Expires::At(seconds),
        }
    }

    fn of(
        fields: FieldLines<'_>,
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
            expires: match expires {
                Expires::At(seconds) => Seconds(seconds),
                Expires::Invalid => Seconds::INVALID,
                Expires::Absent => Seconds::NONE,
            },
            age_value: received.age_value,
            initial_age: match received.initial_age {
                InitialAge::Known(age) => age,
                InitialAge::Of { delay } => {
                    age::corrected_initial_age(sent, received.age_value, delay, received.response_time)
                }
            },
            received_status: received.status,
        }
    }
}

/// Expires over all its lines: differing ones are invalid.
fn expires(fields: FieldLines<'_>, now_unix: i64) -> Expires {
    let mut lines = fields.bytes_all(&header::EXPIRES);
    let Some(first) = lines.next() else { return Expires::Absent };
    if lines.any(|line| line != first) {
        return Expires::Invalid;
    }
    date::parse(first, now_unix).map_or(Expires::Invalid, Expires::At)
}

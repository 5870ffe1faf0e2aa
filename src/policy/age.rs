//! The age of a stored response, and the fields of what is sent from the store. RFC 9111 sections 4.2.3, 5.1
//! and 4.3.2.
//!
//! Times are milliseconds, so that what is floored is floored once, at output.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Freshness, StoredHead};
use crate::clock::Moment;
use crate::field::cache_control::{DELTA_MAX, NoCache};
use crate::field::list::{digits, members};

/// Seconds that Age says: the first member of its joined lines, if that is digits only; else nothing.
pub(crate) fn age_value<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<i64> {
    let seconds = digits(members(lines).next()?)?;
    Some(i64::try_from(seconds).unwrap_or(DELTA_MAX).min(DELTA_MAX))
}

/// `corrected_initial_age`, in milliseconds.
///
/// "apparent_age = max(0, response_time - date_value)", here in whole seconds, since Date has no finer ones;
/// "corrected_age_value = age_value + response_delay";
/// "corrected_initial_age = max(apparent_age, corrected_age_value)".
pub(crate) fn corrected_initial_age(
    date: i64,
    age_value: Option<i64>,
    request_time: Moment,
    response_time: Moment,
) -> i64 {
    let apparent_age = response_time.unix().saturating_sub(date).max(0).saturating_mul(1000);
    let response_delay = response_time.since(request_time);
    let corrected_age_value = age_value.unwrap_or(0).saturating_mul(1000).saturating_add(response_delay);
    apparent_age.max(corrected_age_value)
}

/// `current_age`, in milliseconds: "corrected_initial_age + resident_time".
pub(crate) fn current_age(head: &StoredHead, now: Moment) -> i64 {
    head.facts.initial_age.saturating_add(now.since(head.response_time))
}

/// The field value of Age.
pub(crate) fn age_field(freshness: &Freshness) -> HeaderValue {
    HeaderValue::from(freshness.age_seconds().unsigned_abs())
}

/// The fields of a response served from the store: those stored, exactly one Age, and, unless it was just
/// validated, without those that `no-cache="..."` names.
pub fn served_fields(head: &StoredHead, freshness: &Freshness, validated: bool) -> HeaderMap {
    // Room for Age, Via, Cache-Status, Content-Range, Connection, Date.
    let mut map = match &head.facts.directives.no_cache {
        NoCache::Fields(names) if !validated => head.fields.to_map_where(6, |name| !names.contains(name)),
        NoCache::Fields(_) | NoCache::Absent | NoCache::Whole => head.fields.to_map(6),
    };
    put_age(&mut map, freshness);
    map
}

/// The fields of a 304 made from a stored response: "Content-Location, Date, ETag, and Vary", "Cache-Control
/// and Expires", and Age. RFC 9110 section 15.4.5.
pub fn not_modified_fields(head: &StoredHead, freshness: &Freshness) -> HeaderMap {
    let mut map = head.fields.to_map_where(6, |name| in_not_modified(name, head));
    put_age(&mut map, freshness);
    map
}

fn in_not_modified(name: &HeaderName, head: &StoredHead) -> bool {
    // "a sender SHOULD NOT generate representation metadata other than the above listed fields unless said
    // metadata exists for the purpose of guiding cache updates (e.g., Last-Modified might be useful if the
    // response does not have an ETag field)"
    *name == header::ETAG
        || *name == header::DATE
        || *name == header::VARY
        || *name == header::EXPIRES
        || *name == header::CACHE_CONTROL
        || *name == header::CONTENT_LOCATION
        || *name == header::CDN_CACHE_CONTROL
        || (*name == header::LAST_MODIFIED && !head.fields.contains(&header::ETAG))
}

fn put_age(map: &mut HeaderMap, freshness: &Freshness) {
    // A map that is full keeps its fields: 32,768 of them don't come from an origin.
    drop(map.try_insert(header::AGE, age_field(freshness)));
}

//! The client's conditions and ranges, answered from a stored response. RFC 9110 sections 13 and 14, RFC 9111
//! section 4.3.2.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::request::MethodKind;
use super::{Answer, Head, RequestFacts, partial, validation};
use crate::field::etag::{is_strong, strong_match, weak_match};
use crate::field::{date, list, range};

/// Answers the client's conditions, range and method from a stored response. `complete_length` is the length
/// of the representation in bytes, `None` while it is not known (a body still under way).
pub fn answer(
    facts: &RequestFacts<'_>,
    head: Head<'_>,
    complete_length: Option<u64>,
    max_ranges: usize,
) -> Answer {
    if let Some(answer) = conditions(facts, head) {
        return answer;
    }
    let known = head.completeness.complete_length(complete_length);
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
    head: Head<'_>,
    max_ranges: usize,
) -> Option<Vec<range::RangeSpec>> {
    let range = only_line(facts.headers, &header::RANGE).filter(|_| facts.range.is_some())?;
    let specs = range::parse(range, max_ranges)?;
    (head.status == http::StatusCode::OK && if_range_holds(facts.headers, head)).then_some(specs)
}

/// The conditions in their order of precedence. RFC 9110 section 13.2.2. "a server MUST ignore all received
/// preconditions if its response to the same request without those conditions ... would have been a status
/// code other than a 2xx".
pub(crate) fn conditions(facts: &RequestFacts<'_>, head: Head<'_>) -> Option<Answer> {
    if !facts.has_conditions() || facts.kind == MethodKind::Other || !head.status.is_success() {
        return None;
    }
    let headers = facts.headers;
    let holds = if headers.contains_key(header::IF_MATCH) {
        any_tag(headers, &header::IF_MATCH, head, strong_match)
    } else {
        !modified_after(headers, head)
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
    head: Head<'_>,
    matches: impl Fn(&[u8], &[u8]) -> bool,
) -> bool {
    let stored = validation::entity_tag(head);
    let mut tags = list::entity_tags(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    tags.any(|tag| tag == b"*" || stored.is_some_and(|stored| matches(stored, tag)))
}

/// If-Unmodified-Since: whether the response was modified after it. "A recipient MUST ignore
/// If-Unmodified-Since if the resource does not have a modification date available."
fn modified_after(headers: &HeaderMap, head: Head<'_>) -> bool {
    match (since(headers, &header::IF_UNMODIFIED_SINCE, head), head.facts.last_modified()) {
        (Some(since), Some(modified)) => modified > since,
        _ => false,
    }
}

/// If-Modified-Since: "If the selected representation's last modification date is earlier or equal to the date
/// provided in the field value, the condition is false." A cache that has no Last-Modified uses Date (RFC 9111
/// section 4.3.2).
fn not_modified_since(headers: &HeaderMap, head: Head<'_>) -> bool {
    let Some(since) = since(headers, &header::IF_MODIFIED_SINCE, head) else { return false };
    let modified = match head.facts.last_modified() {
        Some(modified) => modified,
        None if head.fields().contains(&header::LAST_MODIFIED) => return false,
        None => head.facts.date,
    };
    modified <= since
}

/// The date of a condition. "A recipient MUST ignore the ... field if the received field value is not a valid
/// HTTP-date, the field value has more than one member".
fn since(headers: &HeaderMap, name: &HeaderName, head: Head<'_>) -> Option<i64> {
    date::parse(only_line(headers, name)?, head.response_time.unix())
}

/// If-Range: a strong entity tag that matches, or the exact Last-Modified where that is a strong validator.
fn if_range_holds(headers: &HeaderMap, head: Head<'_>) -> bool {
    if !headers.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(value) = only_line(headers, &header::IF_RANGE) else { return false };
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        return validation::entity_tag(head).is_some_and(|stored| strong_match(stored, value));
    }
    let asked = date::parse(value, head.response_time.unix());
    asked.is_some() && asked == head.facts.last_modified() && is_last_modified_strong(head)
}

/// "The associated origin server sends a Date value for the stored response that is at least one second later
/// than the Last-Modified value". RFC 9110 section 8.8.2.2.
pub(super) fn is_last_modified_strong(head: Head<'_>) -> bool {
    head.facts.last_modified().is_some_and(|modified| modified < head.facts.date)
}

/// If-Range to ask for the rest of a partial response: its strong entity tag.
pub(crate) fn if_range_for(head: Head<'_>) -> Option<HeaderValue> {
    head.fields().get(&header::ETAG).filter(|tag| is_strong(tag.as_bytes()))
}

fn only_line<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(only), None) => Some(list::trim(only.as_bytes())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::policy::testing::World;

    /// The answer to a request from a stored 200 of 10 bytes with these fields.
    #[track_caller]
    fn check(stored: &[(&str, &str)], request: &[(&str, &str)], expected: &Answer) {
        check_as(&Method::GET, 200, stored, request, expected);
    }

    #[track_caller]
    fn check_as(
        method: &Method,
        status: u16,
        stored: &[(&str, &str)],
        request: &[(&str, &str)],
        expected: &Answer,
    ) {
        let mut fields = stored.to_vec();
        fields.extend([("cache-control", "max-age=100000"), ("date", "@0")]);
        let head = World::default().stored(&[], status, &fields);
        let headers = crate::policy::testing::headers(request);
        let facts = RequestFacts::of(method, &headers, false);
        assert_eq!(
            &answer(&facts, head.view(), Some(10), 32),
            expected,
            "{method} {status} {stored:?} {request:?}"
        );
    }

    use Answer::{NotModified, PreconditionFailed, RangeNotSatisfiable, Whole};

    #[test]
    fn if_none_match_is_compared_weakly_over_lists_and_star() {
        let etag = [("etag", "\"abcdef\"")];
        for value in [
            "\"abcdef\"",
            "W/\"abcdef\"",
            "*",
            "\"abcdef\", \"1234\", \"5678\"",
            "\"1234\", \"abcdef\", \"5678\"",
            "\"1234\", \"5678\", \"abcdef\"",
            "\"with, comma\", \"abcdef\"",
        ] {
            check(&etag, &[("if-none-match", value)], &NotModified);
        }
        check(&etag, &[("if-none-match", "\"1\""), ("if-none-match", "\"abcdef\"")], &NotModified);
        for value in ["\"1234\"", "abcdef", "w/\"abcdef\"", "", "\"abcdef", "\"ABCDEF\""] {
            check(&etag, &[("if-none-match", value)], &Whole);
        }
        check(&[("etag", "W/\"abcdef\"")], &[("if-none-match", "\"abcdef\"")], &NotModified);
        check(&[], &[("if-none-match", "*")], &NotModified);
        check(&[], &[("if-none-match", "\"a\"")], &Whole);
    }

    #[test]
    fn odd_tags_match_by_their_bytes() {
        for odd in ["abcdef", "w/\"abcdef\"", "W\\\"abcdef\"", "W\"abcdef\""] {
            check(&[("etag", odd)], &[("if-none-match", odd)], &NotModified);
            check(&[("etag", odd)], &[("if-none-match", "\"abcdef\"")], &Whole);
        }
        check(&[("etag", "\"abcdef\u{fc}\"")], &[("if-none-match", "\"abcdef\u{fc}\"")], &NotModified);
    }

    #[test]
    fn if_none_match_goes_before_if_modified_since() {
        let stored = [("etag", "\"a\""), ("last-modified", "@-5000")];
        check(&stored, &[("if-none-match", "\"a\""), ("if-modified-since", "@-10000")], &NotModified);
        check(&stored, &[("if-none-match", "\"b\""), ("if-modified-since", "@-1000")], &Whole);
    }

    #[test]
    fn if_modified_since_is_compared_by_date_in_all_forms() {
        let stored = [("last-modified", "@-3000")];
        check(&stored, &[("if-modified-since", "@-3000")], &NotModified);
        check(&stored, &[("if-modified-since", "@-2000")], &NotModified);
        check(&stored, &[("if-modified-since", "@-3001")], &Whole);
        check(&stored, &[("if-modified-since", "foo")], &Whole);
        check(&stored, &[("if-modified-since", "@-3000"), ("if-modified-since", "@-3000")], &Whole);
        // START less 3000 s in the other forms.
        check(&stored, &[("if-modified-since", "Sunday, 22-Nov-26 23:10:00 GMT")], &NotModified);
        check(&stored, &[("if-modified-since", "Sun Nov 22 23:10:00 2026")], &NotModified);
    }

    #[test]
    fn without_last_modified_date_stands_in() {
        check(&[], &[("if-modified-since", "@0")], &NotModified);
        check(&[], &[("if-modified-since", "@-3000")], &Whole);
        check(&[("last-modified", "foo")], &[("if-modified-since", "@0")], &Whole);
    }

    #[test]
    fn if_match_is_compared_strongly_and_goes_before_if_unmodified_since() {
        let stored = [("etag", "\"a\""), ("last-modified", "@-9")];
        for (value, expected) in
            [("\"a\"", &Whole), ("*", &Whole), ("\"b\", \"a\"", &Whole), ("\"b\"", &PreconditionFailed)]
        {
            check(&stored, &[("if-match", value), ("if-unmodified-since", "@-10")], expected);
        }
        check(&stored, &[("if-match", "W/\"a\"")], &PreconditionFailed);
        check(&[("etag", "W/\"a\"")], &[("if-match", "W/\"a\"")], &PreconditionFailed);
        check(&[], &[("if-match", "\"a\"")], &PreconditionFailed);
        check(&stored, &[("if-match", "\"a\""), ("if-none-match", "\"a\"")], &NotModified);
    }

    #[test]
    fn if_unmodified_since_needs_a_date_on_both_sides() {
        let stored = [("last-modified", "@-9")];
        check(&stored, &[("if-unmodified-since", "@-9")], &Whole);
        check(&stored, &[("if-unmodified-since", "@-10")], &PreconditionFailed);
        check(&stored, &[("if-unmodified-since", "foo")], &Whole);
        check(&[], &[("if-unmodified-since", "@-9999")], &Whole);
    }

    #[test]
    fn conditions_mean_nothing_for_what_is_no_success() {
        let stored = [("etag", "\"a\"")];
        for status in [301, 404, 500] {
            check_as(&Method::GET, status, &stored, &[("if-none-match", "\"a\"")], &Whole);
            check_as(&Method::GET, status, &stored, &[("if-match", "\"b\"")], &Whole);
        }
        check_as(&Method::GET, 203, &stored, &[("if-none-match", "\"a\"")], &NotModified);
        check_as(&Method::HEAD, 200, &stored, &[("if-none-match", "\"a\"")], &NotModified);
    }

    #[test]
    fn ranges_are_cut_from_a_stored_200() {
        let range = |value: &'static str| [("range", value)];
        let ranges = |all: &[(u64, u64)]| Answer::Ranges(all.iter().map(|(a, b)| *a..*b).collect());
        check(&[], &range("bytes=0-1"), &ranges(&[(0, 2)]));
        check(&[], &range("bytes=1-"), &ranges(&[(1, 10)]));
        check(&[], &range("bytes=-1"), &ranges(&[(9, 10)]));
        check(&[], &range("bytes=-99"), &ranges(&[(0, 10)]));
        check(&[], &range("bytes=8-99"), &ranges(&[(8, 10)]));
        check(&[], &range("bytes=0-0, -1"), &ranges(&[(0, 1), (9, 10)]));
        check(&[], &range("bytes=8-9, 0-1, 50-60"), &ranges(&[(8, 10), (0, 2)]));
        check(&[], &range("bytes=10-"), &RangeNotSatisfiable);
        check(&[], &range("bytes=-0"), &RangeNotSatisfiable);
        check(&[], &range("bytes=10-11, 12-"), &RangeNotSatisfiable);
        for ignored in ["bytes=5-4", "items=0-1", "bytes=a-b", "0-1"] {
            check(&[], &range(ignored), &Whole);
        }
        check(&[], &[("range", "bytes=0-1"), ("range", "bytes=2-3")], &Whole);
    }

    #[test]
    fn overlapping_ranges_are_joined_so_that_no_byte_goes_out_twice() {
        let ranges = |all: &[(u64, u64)]| Answer::Ranges(all.iter().map(|(a, b)| *a..*b).collect());
        check(&[], &[("range", "bytes=0-, 0-, 0-")], &ranges(&[(0, 10)]));
        check(&[], &[("range", "bytes=0-3, 2-5")], &ranges(&[(0, 6)]));
        check(&[], &[("range", "bytes=8-9, 0-1, 4-5, 2-3")], &ranges(&[(8, 10), (0, 6)]));
        check(&[], &[("range", "bytes=0-0, 2-2, 1-1")], &ranges(&[(0, 3)]));
    }

    #[test]
    fn too_many_ranges_other_methods_and_other_status_codes_get_the_whole() {
        let many = format!("bytes={}", (0..33).map(|n| format!("{n}-{n}")).collect::<Vec<_>>().join(","));
        check(&[], &[("range", &many)], &Whole);
        check_as(&Method::HEAD, 200, &[], &[("range", "bytes=0-1")], &Whole);
        for status in [203, 404, 301] {
            check_as(&Method::GET, status, &[], &[("range", "bytes=0-1")], &Whole);
        }
    }

    #[test]
    fn an_unknown_length_or_an_empty_body_makes_a_range_meaningless() {
        let head = World::default().stored(&[], 200, &[("cache-control", "max-age=9")]);
        let headers = crate::policy::testing::headers(&[("range", "bytes=-1")]);
        let facts = RequestFacts::of(&Method::GET, &headers, false);
        assert_eq!(answer(&facts, head.view(), None, 32), Whole);
        assert_eq!(answer(&facts, head.view(), Some(0), 32), Whole);
    }

    #[test]
    fn if_range_needs_a_strong_match() {
        let stored = [("etag", "\"a\""), ("last-modified", "@-9")];
        let asked = |value| [("range", "bytes=0-1"), ("if-range", value)];
        let part = Answer::Ranges(std::iter::once(0..2).collect());
        check(&stored, &asked("\"a\""), &part);
        check(&stored, &asked("@-9"), &part);
        for value in ["\"b\"", "W/\"a\"", "@-8", "@-10", "foo", "a"] {
            check(&stored, &asked(value), &Whole);
        }
        check(&[("etag", "W/\"a\"")], &asked("W/\"a\""), &Whole);
        check(&[("last-modified", "@0")], &asked("@0"), &Whole);
        check(&[], &asked("\"a\""), &Whole);
        check(&stored, &[("if-range", "\"a\"")], &Whole);
    }

    #[test]
    fn conditions_go_before_ranges() {
        let stored = [("etag", "\"a\"")];
        check(&stored, &[("range", "bytes=0-1"), ("if-none-match", "\"a\"")], &NotModified);
        check(&stored, &[("range", "bytes=0-1"), ("if-match", "\"b\"")], &PreconditionFailed);
        check(&stored, &[("range", "bytes=99-"), ("if-none-match", "\"a\"")], &NotModified);
    }
}

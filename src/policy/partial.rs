//! Ranges of a representation, and incomplete stored responses: RFC 9111 sections 3.3 and 3.4, RFC 9110
//! section 14.

use std::ops::Range;

use http::{HeaderValue, header};

use super::request::MethodKind;
use super::stored::{InitialAge, Received};
use super::{Answer, Completeness, Head, RequestFacts, StoredHead, Terms, freshen, precondition, storable};
use crate::field::etag::strong_match;
use crate::field::range::RangeSpec;

/// What the ranges of a request come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// At least one, in the order asked; overlapping and touching ones are joined, so that no byte goes out
    /// twice.
    Ranges(Vec<Range<u64>>),
    /// None lies within the representation.
    Unsatisfiable,
    /// Its length would have to be known, or it is empty: the field is ignored.
    Unknown,
}

/// Resolves ranges against the length of the representation.
pub(crate) fn resolve(specs: &[RangeSpec], complete_length: Option<u64>) -> Resolved {
    let mut ranges: Vec<Range<u64>> = Vec::with_capacity(specs.len());
    for spec in specs {
        let range = match (*spec, complete_length) {
            (RangeSpec::FromTo(first, last), None) => first..last.saturating_add(1),
            (RangeSpec::From(_) | RangeSpec::Suffix(_), None) => return Resolved::Unknown,
            (RangeSpec::FromTo(first, last), Some(length)) => first..last.saturating_add(1).min(length),
            (RangeSpec::From(first), Some(length)) => first..length,
            // "If the selected representation is shorter than the specified suffix-length, the entire
            // representation is used." Of an empty one there is no part to send.
            (RangeSpec::Suffix(1..), Some(0)) => return Resolved::Unknown,
            (RangeSpec::Suffix(suffix), Some(length)) => length.saturating_sub(suffix)..length,
        };
        if range.start < range.end {
            join(&mut ranges, range);
        }
    }
    if ranges.is_empty() { Resolved::Unsatisfiable } else { Resolved::Ranges(ranges) }
}

/// Adds a range at the end, or into those it touches, at the place of the first of them.
fn join(ranges: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    let mut place = None;
    let mut index = 0;
    while let Some(known) = ranges.get(index) {
        if known.start <= range.end && range.start <= known.end {
            range = known.start.min(range.start)..known.end.max(range.end);
            ranges.remove(index);
            // What grew may touch others now.
            place = Some(place.map_or(index, |place: usize| place.min(index)));
            index = 0;
        } else {
            index += 1;
        }
    }
    match place {
        Some(place) if place <= ranges.len() => ranges.insert(place, range),
        _ => ranges.push(range),
    }
}

/// Whether the stored part has all these bytes.
pub(crate) fn contains_all(completeness: &Completeness, wanted: &[Range<u64>]) -> bool {
    wanted.iter().all(|range| locate(completeness, range).is_some())
}

/// Where in the stored body the bytes of a range of the representation are. `None` if they are not (all)
/// stored.
pub fn locate(completeness: &Completeness, range: &Range<u64>) -> Option<Range<u64>> {
    let Some(parts) = completeness.parts() else { return Some(range.clone()) };
    let mut before = 0_u64;
    for stored in &parts.ranges {
        if stored.start <= range.start && range.end <= stored.end && range.start <= range.end {
            let start = before.checked_add(range.start - stored.start)?;
            return Some(start..start.checked_add(range.end - range.start)?);
        }
        before = before.checked_add(stored.end.saturating_sub(stored.start))?;
    }
    None
}

/// Whether the stored response has the bytes that the request asks for, or needs none of them to answer.
pub(crate) fn holds(facts: &RequestFacts<'_>, head: Head<'_>, max_ranges: usize) -> bool {
    head.is_complete()
        || (facts.kind == MethodKind::Get
            && precondition::answer(facts, head, None, max_ranges) != Answer::Missing)
}

/// Range to ask for what is missing of a representation, if that is one range.
pub(crate) fn rest(ranges: &[Range<u64>], complete_length: Option<u64>) -> Option<HeaderValue> {
    let text = match (ranges, complete_length) {
        ([only], length) if only.start == 0 && length != Some(only.end) => format!("bytes={}-", only.end),
        ([only], Some(length)) if only.end == length => format!("bytes=0-{}", only.start.checked_sub(1)?),
        ([first, second], Some(length)) if first.start == 0 && second.end == length => {
            format!("bytes={}-{}", first.end, second.start.checked_sub(1)?)
        }
        _ => return None,
    };
    HeaderValue::from_str(&text).ok()
}

/// Which body a piece comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The stored one.
    Existing,
    /// The new one.
    New,
}

/// A run of bytes of one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose body.
    pub source: Source,
    /// Positions in that body.
    pub at: Range<u64>,
}

/// Two partial responses made one.
#[derive(Clone, Debug, PartialEq)]
pub struct Combined {
    /// The head: complete, if nothing is missing any more.
    pub head: Box<StoredHead>,
    /// The bodies' pieces in order; together they are the new body.
    pub pieces: Vec<Piece>,
}

/// Combines a stored partial response with a new one of the same target, "if they share the same strong
/// validator". RFC 9111 section 3.4. `None` if they can't be; variants and codings that share a tag by their
/// origin's mistake are kept apart too. Both bodies must be as long as their heads say
/// ([`Head::expected_length`]): the caller has counted the new one.
pub fn combine(existing: Head<'_>, new: Head<'_>, terms: &Terms<'_>) -> Option<Combined> {
    let same = match (existing.fields().bytes(&header::ETAG), new.fields().bytes(&header::ETAG)) {
        (Some(old), Some(new)) => strong_match(old, new),
        _ => false,
    };
    let coding = |head: Head<'_>| head.fields().get_all(&header::CONTENT_ENCODING).collect::<Vec<_>>();
    if existing.selecting != new.selecting || coding(existing) != coding(new) {
        return None;
    }
    let (old_parts, new_parts) = (existing.completeness.parts()?, new.completeness.parts()?);
    let length = match (old_parts.complete_length, new_parts.complete_length) {
        (Some(old), Some(new)) if old != new => return None,
        (old, new) => new.or(old),
    };
    let beyond = |range: &Range<u64>| length.is_some_and(|length| range.end > length);
    if !same || old_parts.ranges.iter().chain(&new_parts.ranges).any(beyond) {
        return None;
    }
    let (ranges, pieces) = merge(&old_parts.ranges, &new_parts.ranges)?;
    let completeness = Completeness::partial(ranges, length);
    // "all stored header fields are updated ... with the new response's, except Content-Range".
    let fields = freshen::replaced(existing.fields(), &new.fields().to_map(0), None, |_| true);
    let received = Received {
        status: new.facts.received_status,
        age_value: new.facts.age_value,
        initial_age: InitialAge::Known(new.facts.initial_age),
        response_delay: new.response_delay,
        response_time: new.response_time,
    };
    let mut head = new.with_fields(fields, &received, terms);
    head.metadata.completeness = completeness;
    if head.fields().contains(&header::SET_COOKIE)
        && !storable::allows_set_cookie(&head.facts.directives, terms)
    {
        // What one part brought and the other no longer lets all have.
        return None;
    }
    Some(Combined { head: Box::new(completed(head.view()).unwrap_or(head)), pieces })
}

/// A partial response that has all of the representation, as the complete one that it is. `None` for any other.
pub fn completed(head: Head<'_>) -> Option<StoredHead> {
    let parts = head.completeness.parts()?;
    let (length, [only]) = (parts.complete_length?, parts.ranges.as_slice()) else { return None };
    (*only == (0..length)).then(|| {
        let mut whole = head.to_owned();
        whole.metadata.completeness = Completeness::Complete;
        whole
    })
}

/// The union of two sorted sets of ranges, and where its bytes are: the new body's wherever it has them.
fn merge(old: &[Range<u64>], new: &[Range<u64>]) -> Option<(Vec<Range<u64>>, Vec<Piece>)> {
    let (mut runs, mut offset) = (Vec::new(), 0_u64);
    for range in new {
        let length = range.end.checked_sub(range.start)?;
        runs.push((range.clone(), Piece { source: Source::New, at: offset..offset.checked_add(length)? }));
        offset = offset.checked_add(length)?;
    }
    offset = 0;
    for range in old {
        let length = range.end.checked_sub(range.start)?;
        for part in without(range, new) {
            let at =
                offset.checked_add(part.start - range.start)?..offset.checked_add(part.end - range.start)?;
            runs.push((part, Piece { source: Source::Existing, at }));
        }
        offset = offset.checked_add(length)?;
    }
    runs.sort_by_key(|(range, _)| range.start);
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (range, _) in &runs {
        match ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            Some(last) if last.end > range.start => return None,
            _ => ranges.push(range.clone()),
        }
    }
    Some((ranges, runs.into_iter().map(|(_, piece)| piece).collect()))
}

/// What of a range lies in none of `taken`.
fn without(range: &Range<u64>, taken: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = vec![range.clone()];
    for gone in taken {
        left = left
            .into_iter()
            .flat_map(|part| [part.start..part.end.min(gone.start), part.start.max(gone.end)..part.end])
            .filter(|part| part.start < part.end)
            .collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::policy::testing::{World, word};
    use crate::policy::{Asked, Reason, Verdict, answer};

    const FRESH: (&str, &str) = ("cache-control", "max-age=3600");
    const RANGE: &[(&str, &str)] = &[("range", "bytes=0-4")];

    fn part(range: &str, etag: &str) -> StoredHead {
        World::default().stored(
            RANGE,
            206,
            &[FRESH, ("content-range", range), ("etag", etag), ("date", "@0")],
        )
    }

    #[test]
    fn a_206_is_stored_as_a_part_of_a_200() {
        let head = part("bytes 4-9/10", "\"a\"");
        assert_eq!(head.status, 200);
        let ranges = vec![Range { start: 4, end: 10 }];
        assert_eq!(head.completeness, Completeness::partial(ranges, Some(10)));
        assert_eq!(head.view().expected_length(), Some(6));
        assert!(!head.fields().contains(&header::CONTENT_RANGE));
        let unvalidated = [FRESH, ("content-range", "bytes 0-4/10"), ("content-length", "5")];
        let head = World::default().stored(RANGE, 206, &unvalidated);
        assert!(!head.fields().contains(&header::CONTENT_LENGTH));
    }

    #[test]
    fn a_206_whose_length_and_content_range_disagree_is_not_stored() {
        let world = World::default();
        for lines in [
            &[("content-range", "bytes 4-9/10"), ("content-length", "5")][..],
            &[("content-range", "bytes 4-9/9"), ("content-length", "6")],
            &[("content-range", "bytes 9-4/10")],
            &[("content-range", "bytes 0-4/10"), ("content-range", "bytes 0-4/10")],
            &[("content-type", "multipart/byteranges; boundary=x")],
            &[],
        ] {
            let mut fields = lines.to_vec();
            fields.extend([FRESH, ("etag", "\"a\"")]);
            assert_eq!(world.judge(RANGE, 206, &fields), Verdict::PassThrough(Reason::Partial), "{lines:?}");
        }
    }

    #[track_caller]
    fn check(stored: &StoredHead, request: &[(&str, &str)], expected: &str) {
        let found = World::default().plan(request, std::slice::from_ref(stored), 1);
        assert_eq!(word(&found), expected, "{request:?}");
    }

    #[test]
    fn a_part_answers_the_ranges_that_it_holds() {
        let stored = part("bytes 4-9/10", "\"a\"");
        for held in [
            "bytes=-5",
            "bytes=6-8",
            "bytes=6-",
            "bytes=-1",
            "bytes=4-9",
            "bytes=4-4,9-",
            "bytes=8-99",
            "bytes=10-",
        ] {
            check(&stored, &[("range", held)], "serve");
        }
        for missing in ["bytes=3-5", "bytes=-7", "bytes=0-", "bytes=4-4,0-0"] {
            check(&stored, &[("range", missing)], "fetch range-missing");
        }
        check(&stored, &[("range", "bytes=5-6"), ("if-range", "\"a\"")], "serve");
        check(&stored, &[("range", "bytes=5-6"), ("if-range", "\"b\"")], "fetch range-missing");
        check(&stored, &[("if-none-match", "\"a\"")], "serve");
        check(&stored, &[("range", "bytes=5-6"), ("cache-control", "only-if-cached")], "serve");
        check(&stored, &[("cache-control", "only-if-cached")], "unsatisfiable only-if-cached");
        let unknown = part("bytes 4-9/*", "\"a\"");
        check(&unknown, &[("range", "bytes=6-8")], "serve");
        check(&unknown, &[("range", "bytes=6-")], "fetch range-missing");
        check(&unknown, &[("range", "bytes=-1")], "fetch range-missing");
    }

    #[test]
    fn a_held_range_is_found_in_the_stored_body() {
        let stored = part("bytes 4-9/10", "\"a\"");
        let headers = crate::policy::testing::headers(&[("range", "bytes=6-8, 4-4")]);
        let facts = RequestFacts::of(&Method::GET, &headers, false);
        let found = answer(&facts, stored.view(), Some(6), 32);
        assert_eq!(found, Answer::Ranges(vec![6..9, 4..5]));
        assert_eq!(locate(&stored.completeness, &(6..9)), Some(2..5));
        assert_eq!(locate(&stored.completeness, &(3..9)), None);
        let two = Completeness::partial(vec![0..2, 6..10], Some(10));
        assert_eq!(locate(&two, &(7..9)), Some(3..5));
        assert_eq!(locate(&two, &(1..7)), None);
        assert_eq!(locate(&Completeness::Complete, &(7..9)), Some(7..9));
        assert_eq!(locate(&two, &Range { start: 9, end: 7 }), None);
    }

    #[test]
    fn parts_are_not_joined_over_cookies_that_may_be_shared_no_longer() {
        let world = World::default();
        let part = |range, control, more: &[(&'static str, &'static str)]| {
            let mut fields = vec![("cache-control", control), ("content-range", range), ("etag", "\"a\"")];
            fields.extend(more);
            world.stored(RANGE, 206, &fields)
        };
        let stored = part("bytes 0-4/10", "max-age=60, public", &[("set-cookie", "user=alice")]);
        assert!(
            combine(stored.view(), part("bytes 5-9/10", "max-age=60, public", &[]).view(), &world.terms(0))
                .is_some()
        );
        assert!(
            combine(stored.view(), part("bytes 5-9/10", "max-age=60", &[]).view(), &world.terms(0)).is_none()
        );
    }

    #[test]
    fn a_part_that_is_all_of_it_is_a_complete_response() {
        let whole = completed(part("bytes 0-9/10", "\"a\"").view()).unwrap();
        assert!(whole.is_complete() && whole.status == 200);
        for range in ["bytes 0-8/10", "bytes 1-9/10", "bytes 0-9/*"] {
            assert_eq!(completed(part(range, "\"a\"").view()), None, "{range}");
        }
        assert_eq!(completed(whole.view()), None);
    }

    #[test]
    fn the_rest_is_asked_for_where_that_is_one_range() {
        check(&part("bytes 0-4/10", "\"a\""), &[], "complete bytes=5-");
        check(&part("bytes 0-4/*", "\"a\""), &[], "complete bytes=5-");
        check(&part("bytes 4-9/10", "\"a\""), &[], "complete bytes=0-3");
        check(&part("bytes 4-5/10", "\"a\""), &[], "fetch range-missing");
        check(&part("bytes 0-4/10", "\"a\""), &[("cache-control", "no-cache")], "fetch range-missing");
        check(&part("bytes 0-4/10", "\"a\""), &[("if-none-match", "\"b\"")], "fetch range-missing");
        let no_validator = World::default().stored(RANGE, 206, &[FRESH, ("content-range", "bytes 0-4/10")]);
        check(&no_validator, &[], "complete bytes=5-");
        check(&part("bytes 0-4/10", "W/\"a\""), &[], "fetch range-missing");
        let world = World::default();
        let late = world.plan(&[], &[part("bytes 0-4/10", "\"a\"")], 9999);
        assert_eq!(word(&late), "fetch range-missing");
        let crate::policy::Plan::Complete { if_range, .. } =
            world.plan(&[], &[part("bytes 0-4/10", "\"a\"")], 1)
        else {
            panic!()
        };
        assert_eq!(if_range.unwrap(), "\"a\"");
        assert_eq!(rest(&[0..2, 6..10], Some(10)).unwrap(), "bytes=2-5");
        assert_eq!(rest(&[0..2, 6..9], Some(10)), None);
        assert_eq!(rest(std::slice::from_ref(&(0..10)), Some(10)), None);
    }

    #[test]
    fn the_rest_completes_what_is_stored_or_is_fetched_whole() {
        let world = World::default();
        let stored = part("bytes 0-4/10", "\"a\"");
        let ask = |status, fields: &[(&str, &str)]| {
            world.judge_asked(&[], Asked::Rest(stored.view()), 3, status, fields)
        };
        let rest = [("content-range", "bytes 5-9/10"), FRESH];
        assert!(matches!(ask(206, &[rest[0], FRESH, ("etag", "\"a\"")]), Verdict::Combine(_)));
        assert_eq!(ask(206, &[rest[0], FRESH, ("etag", "\"b\"")]), Verdict::Refetch);
        assert_eq!(ask(206, &[rest[0], FRESH, ("etag", "W/\"a\"")]), Verdict::Refetch);
        assert_eq!(ask(206, &rest), Verdict::Refetch);
        assert_eq!(
            ask(206, &[("content-range", "bytes 6-9/10"), FRESH, ("etag", "\"a\"")]),
            Verdict::Refetch
        );
        assert_eq!(ask(416, &[]), Verdict::Refetch);
        assert!(matches!(ask(200, &[FRESH]), Verdict::Store(_)));
    }

    #[track_caller]
    fn combined(old: (&str, &str), new: (&str, &str)) -> Option<Combined> {
        let world = World::default();
        combine(part(old.0, old.1).view(), part(new.0, new.1).view(), &world.terms(1))
    }

    #[test]
    fn parts_are_combined_only_on_the_same_strong_validator() {
        assert!(combined(("bytes 0-4/10", "\"a\""), ("bytes 5-9/10", "\"a\"")).is_some());
        assert!(combined(("bytes 0-4/10", "\"a\""), ("bytes 5-9/10", "\"b\"")).is_none());
        assert!(combined(("bytes 0-4/10", "W/\"a\""), ("bytes 5-9/10", "W/\"a\"")).is_none());
        assert!(combined(("bytes 0-4/10", "a"), ("bytes 5-9/10", "a")).is_none());
        assert!(combined(("bytes 0-4/10", "\"a\""), ("bytes 5-9/11", "\"a\"")).is_none());
        assert!(combined(("bytes 0-4/5", "\"a\""), ("bytes 5-9/*", "\"a\"")).is_none());
        let world = World::default();
        let whole = world.stored(&[], 200, &[FRESH, ("etag", "\"a\"")]);
        assert!(combine(whole.view(), part("bytes 0-4/10", "\"a\"").view(), &world.terms(1)).is_none());
    }

    #[test]
    fn parts_of_different_variants_or_codings_are_never_combined() {
        let world = World::default();
        let stored = |foo, range, more: &[(&'static str, &'static str)]| {
            let mut fields = vec![("content-range", range), ("etag", "\"a\""), FRESH];
            fields.extend(more);
            world.stored(&[RANGE[0], ("foo", foo)], 206, &fields)
        };
        let (vary, gzip) = (("vary", "foo"), ("content-encoding", "gzip"));
        let old = stored("1", "bytes 0-4/10", &[vary]);
        let terms = world.terms(0);
        assert!(combine(old.view(), stored("1", "bytes 5-9/10", &[vary]).view(), &terms).is_some());
        assert!(combine(old.view(), stored("2", "bytes 5-9/10", &[vary]).view(), &terms).is_none());
        assert!(combine(old.view(), stored("1", "bytes 5-9/10", &[vary, gzip]).view(), &terms).is_none());
    }

    #[test]
    fn combined_parts_know_where_their_bytes_are() {
        use Source::{Existing, New};
        let piece = |source, start, end| Piece { source, at: start..end };
        for (old, new, ranges, pieces) in [
            ("bytes 0-4/10", "bytes 5-9/10", None, vec![piece(Existing, 0, 5), piece(New, 0, 5)]),
            ("bytes 5-9/10", "bytes 0-4/*", None, vec![piece(New, 0, 5), piece(Existing, 0, 5)]),
            ("bytes 0-6/10", "bytes 4-9/10", None, vec![piece(Existing, 0, 4), piece(New, 0, 6)]),
            (
                "bytes 0-9/10",
                "bytes 4-5/10",
                None,
                vec![piece(Existing, 0, 4), piece(New, 0, 2), piece(Existing, 6, 10)],
            ),
            (
                "bytes 0-1/10",
                "bytes 6-7/10",
                Some(vec![0..2, 6..8]),
                vec![piece(Existing, 0, 2), piece(New, 0, 2)],
            ),
            ("bytes 2-3/10", "bytes 2-3/10", Some(std::iter::once(2..4).collect()), vec![piece(New, 0, 2)]),
        ] {
            let found = combined((old, "\"a\""), (new, "\"a\"")).unwrap();
            let completeness = match ranges {
                None => Completeness::Complete,
                Some(ranges) => Completeness::partial(ranges, Some(10)),
            };
            let found = (found.head.completeness.clone(), found.pieces);
            assert_eq!(found, (completeness, pieces), "{old} {new}");
        }
    }

    #[test]
    fn combined_fields_are_the_new_ones_over_the_old() {
        let world = World::default();
        let stored = |range, more: &[(&'static str, &'static str)]| {
            let mut fields = vec![("content-range", range), ("etag", "\"a\""), ("date", "@0")];
            fields.extend(more);
            world.stored(RANGE, 206, &fields)
        };
        let old = stored("bytes 0-4/10", &[("cache-control", "max-age=9"), ("x-old", "1"), ("x-both", "1")]);
        let new = stored("bytes 5-9/10", &[("x-both", "2"), ("age", "5"), ("cache-control", "max-age=60")]);
        let found = combine(old.view(), new.view(), &world.terms(0)).unwrap().head;
        let expected = [
            ("x-old", "1"),
            ("etag", "\"a\""),
            ("date", "@0"),
            ("x-both", "2"),
            ("cache-control", "max-age=60"),
        ];
        assert_eq!(found.fields().to_map(0), crate::policy::testing::headers(&expected));
        let freshness = crate::policy::freshness(found.view(), &world.terms(0));
        assert_eq!((freshness.lifetime, freshness.current_age), (60_000, 5_000));
    }
}

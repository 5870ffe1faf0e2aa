//! Ranges of a representation, and incomplete stored responses: RFC 9111 sections 3.3 and 3.4, RFC 9110
//! section 14.

use std::ops::Range;

use http::{HeaderValue, header};

use super::request::MethodKind;
use super::stored::Received;
use super::{Answer, Completeness, RequestFacts, StoredHead, Terms, freshen, precondition};
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
    let Completeness::Partial { ranges, .. } = completeness else { return Some(range.clone()) };
    let mut before = 0_u64;
    for stored in ranges {
        if stored.start <= range.start && range.end <= stored.end && range.start <= range.end {
            let start = before.checked_add(range.start - stored.start)?;
            return Some(start..start.checked_add(range.end - range.start)?);
        }
        before = before.checked_add(stored.end.saturating_sub(stored.start))?;
    }
    None
}

/// Whether the stored response has the bytes that the request asks for, or needs none of them to answer.
pub(crate) fn holds(facts: &RequestFacts<'_>, head: &StoredHead, max_ranges: usize) -> bool {
    head.is_complete()
        || (facts.kind == MethodKind::Get && precondition::answer(facts, head, None, max_ranges) != Answer::Missing)
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
/// validator". RFC 9111 section 3.4. `None` if they can't be.
pub fn combine(existing: &StoredHead, new: &StoredHead, terms: &Terms<'_>) -> Option<Combined> {
    let same = match (existing.fields.bytes(&header::ETAG), new.fields.bytes(&header::ETAG)) {
        (Some(old), Some(new)) => strong_match(old, new),
        _ => false,
    };
    let (
        Completeness::Partial { ranges: old_ranges, complete_length: old_length },
        Completeness::Partial { ranges: new_ranges, complete_length: new_length },
    ) = (&existing.completeness, &new.completeness)
    else {
        return None;
    };
    let length = match (old_length, new_length) {
        (Some(old), Some(new)) if old != new => return None,
        (old, new) => new.or(*old),
    };
    let beyond = |range: &Range<u64>| length.is_some_and(|length| range.end > length);
    if !same || old_ranges.iter().chain(new_ranges).any(beyond) {
        return None;
    }
    let (ranges, pieces) = merge(old_ranges, new_ranges)?;
    let is_complete = matches!((ranges.as_slice(), length), ([only], Some(length)) if *only == (0..length));
    let completeness =
        if is_complete { Completeness::Complete } else { Completeness::Partial { ranges, complete_length: length } };
    // "all stored header fields are updated ... with the new response's, except Content-Range".
    let fields = freshen::replaced(&existing.fields, &new.fields.to_map(0), |_| true);
    let received = Received {
        status: new.facts.received_status,
        age_value: new.facts.age_value,
        request_time: new.request_time,
        response_time: new.response_time,
    };
    let head = StoredHead { completeness, ..new.with_fields(fields, &received, terms) };
    Some(Combined { head: Box::new(head), pieces })
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
            let at = offset.checked_add(part.start - range.start)?..offset.checked_add(part.end - range.start)?;
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

//! Range and Content-Range: RFC 9110 section 14. Syntax only; what is satisfiable is policy's.

use std::fmt;

use http::HeaderValue;

use super::list::{digits, trim};

/// One member of a Range field in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `a-b`: from byte a to byte b, both included.
    FromTo(u64, u64),
    /// `a-`: from byte a on.
    From(u64),
    /// `-n`: the last n bytes.
    Suffix(u64),
}

/// The ranges of a Range field in the unit `bytes`. `None` where the field is to be ignored: another unit,
/// bad syntax, or more than `max` ranges.
pub fn parse(value: &[u8], max: usize) -> Option<Vec<RangeSpec>> {
    let equals = value.iter().position(|&byte| byte == b'=')?;
    let (unit, set) = (value.get(..equals)?, value.get(equals + 1..)?);
    if !trim(unit).eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut ranges = Vec::new();
    for member in set.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty()) {
        if ranges.len() == max {
            return None;
        }
        ranges.push(spec(member)?);
    }
    (!ranges.is_empty()).then_some(ranges)
}

fn spec(member: &[u8]) -> Option<RangeSpec> {
    let dash = member.iter().position(|&byte| byte == b'-')?;
    match (member.get(..dash)?, member.get(dash + 1..)?) {
        ([], suffix) => Some(RangeSpec::Suffix(digits(suffix)?)),
        (first, []) => Some(RangeSpec::From(digits(first)?)),
        (first, last) => {
            let (first, last) = (digits(first)?, digits(last)?);
            (first <= last).then_some(RangeSpec::FromTo(first, last))
        }
    }
}

/// Content-Range of a 206 in bytes: `bytes 0-4/10`, `bytes 0-4/*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// First byte, counted from 0.
    pub first: u64,
    /// Last byte, included.
    pub last: u64,
    /// Length of the whole representation, where it is known.
    pub complete: Option<u64>,
}

impl ContentRange {
    /// Reads one; `None` for other units, `*/n`, bad syntax, or a range that lies outside its own length.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = trim(value);
        let (unit, rest) = (value.get(..5)?, value.get(5..)?.strip_prefix(b" ")?);
        let slash = rest.iter().position(|&byte| byte == b'/')?;
        let (range, complete) = (rest.get(..slash)?, rest.get(slash + 1..)?);
        let complete = if complete == b"*" { None } else { Some(digits(complete)?) };
        let RangeSpec::FromTo(first, last) = spec(range)? else { return None };
        // A figure that is as large as can be stands for one that is larger.
        let within =
            complete.is_none_or(|complete| last < complete && complete < u64::MAX) && last < u64::MAX;
        (unit.eq_ignore_ascii_case(b"bytes") && within).then_some(Self { first, last, complete })
    }

    /// Bytes that it covers.
    pub const fn length(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// As a field value.
    pub fn value(&self) -> HeaderValue {
        field_value(&self.to_string())
    }

    /// `bytes */n`, of a 416.
    pub fn unsatisfied(complete: u64) -> HeaderValue {
        field_value(&format!("bytes */{complete}"))
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}-{}/", self.first, self.last)?;
        match self.complete {
            Some(complete) => write!(f, "{complete}"),
            None => f.write_str("*"),
        }
    }
}

/// Digits and a few signs are always a legal field value; the empty one is never used.
fn field_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&[RangeSpec]>) {
        assert_eq!(parse(text.as_bytes(), 3).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn the_three_forms_are_read_singly_and_in_lists() {
        check("bytes=0-1", Some(&[RangeSpec::FromTo(0, 1)]));
        check("bytes=5-", Some(&[RangeSpec::From(5)]));
        check("bytes=-5", Some(&[RangeSpec::Suffix(5)]));
        check("Bytes=0-0, ,-1", Some(&[RangeSpec::FromTo(0, 0), RangeSpec::Suffix(1)]));
        check("bytes=1-99999999999999999999999", Some(&[RangeSpec::FromTo(1, u64::MAX)]));
    }

    #[test]
    fn anything_else_is_ignored_as_a_whole() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "items=0-1",
            "bytes=a-b",
            "bytes=1",
            "bytes=-",
            "bytes=2-1",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=0-1,x",
            "bytes=1--2",
            "bytes=0-0,1-1,2-2,3-3",
            "bytes 0-1",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn content_range_is_read_and_written() {
        for (text, expected) in [
            ("bytes 0-4/10", Some((0, 4, Some(10)))),
            ("bytes 0-4/*", Some((0, 4, None))),
            ("bytes 4-9/10", Some((4, 9, Some(10)))),
            ("bytes 4-10/10", None),
            ("bytes 5-4/10", None),
            ("bytes */10", None),
            ("bytes 0-4", None),
            ("bytes=0-4/10", None),
            ("bytes 0-4/+10", None),
            ("items 0-4/10", None),
            ("ananananananana", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes 0-4/18446744073709551615", None),
            ("bytes 0-4/99999999999999999999999", None),
        ] {
            let found = ContentRange::parse(text.as_bytes());
            assert_eq!(found.map(|r| (r.first, r.last, r.complete)), expected, "{text:?}");
            if let Some(range) = found {
                assert_eq!(range.to_string(), text);
                assert_eq!(range.value(), text);
            }
        }
        assert_eq!(ContentRange::unsatisfied(10), "bytes */10");
        assert_eq!(ContentRange { first: 4, last: 9, complete: None }.length(), 6);
    }
}

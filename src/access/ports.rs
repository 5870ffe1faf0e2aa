//! Sets of ports, and the ones that plain requests may go to by default.
use crate::field::target::Scheme;
use std::ops::RangeInclusive;

/// A set of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// All of them.
    Any,
    /// Those in one of the ranges.
    List(Vec<RangeInclusive<u16>>),
}

impl Default for Ports {
    fn default() -> Self {
        Self::List(vec![443..=443])
    }
}

impl Ports {
    /// None of them.
    pub const NONE: Self = Self::List(Vec::new());

    /// Whether the port is one of them.
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::List(ranges) => ranges.iter().any(|range| range.contains(&port)),
        }
    }

    /// The members as they are written in TOML.
    pub(super) fn written(&self) -> Vec<String> {
        let Self::List(ranges) = self else { return Vec::new() };
        let written = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("\"{first}-{last}\""),
        };
        ranges.iter().map(written).collect()
    }

    /// The same with `port` among them.
    pub(super) fn with(&self, port: u16) -> Vec<String> {
        let mut written = self.written();
        written.push(port.to_string());
        written
    }
}

/// Ports that browsers never speak HTTP to, since another protocol lives there: the "bad ports" of the WHATWG Fetch
/// standard, section 2.9. Sorted.
const BAD: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Whether a plain request may go there where nothing is configured: 80 and 1024 up, 443 for https, less the bad ones.
pub(super) fn is_default(scheme: Scheme, port: u16) -> bool {
    let usual = match (scheme, port) {
        (_, 80 | 1024..) | (Scheme::Https, 443) => true,
        (Scheme::Http | Scheme::Https, _) => false,
    };
    usual && BAD.binary_search(&port).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bad_ports_are_sorted() {
        assert!(BAD.is_sorted_by(|a, b| a < b));
    }

    #[track_caller]
    fn check(scheme: Scheme, port: u16, expected: bool) {
        assert_eq!(is_default(scheme, port), expected, "{scheme:?} {port}");
    }

    #[test]
    fn plain_requests_go_to_web_ports_and_high_ones_less_the_bad_ones() {
        for (port, expected) in [
            (0, false),
            (22, false),
            (25, false),
            (79, false),
            (80, true),
            (81, false),
            (1023, false),
            (1024, true),
            (3128, true),
            (6000, false),
            (6667, false),
            (8080, true),
            (10080, false),
            (65535, true),
        ] {
            check(Scheme::Http, port, expected);
            check(Scheme::Https, port, expected);
        }
        check(Scheme::Https, 443, true);
        check(Scheme::Http, 443, false);
    }
}

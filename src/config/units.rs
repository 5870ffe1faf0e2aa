//! Text to figures: sizes, durations, shares of memory, addresses, sets of ports.
//!
//! Each function returns what was expected as its error, so that a flag and a key say the same.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::access::Ports;

/// What a size looks like.
pub const SIZE: &str = "a size such as \"64KiB\" or \"512MiB\"";
/// What a size of memory looks like.
pub const MEMORY: &str = "a size such as \"512MiB\", or a share of the memory such as \"25%\"";
/// What a duration looks like.
pub const DURATION: &str = "a duration such as \"30s\", \"15min\" or \"1h\"";
/// What a set of ports looks like.
pub const PORTS: &str = "\"any\", or ports and ranges of ports from 1 to 65535, such as 443 or \"8000-8999\"";
/// What an address looks like.
pub const ADDRESS: &str = "an IP address and a port, such as \"127.0.0.1:3128\" or \"[::1]:3128\"";

/// As it stands behind "expected".
pub const REALM: &str = "1 to 64 visible ASCII characters and spaces, without quotes, backslashes and colons";

/// Bytes from `512MiB`, `64KiB`, `1.5GB` or plain bytes.
pub fn size(text: &str) -> Result<u64, &'static str> {
    let text = text.trim();
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(SIZE);
    }
    bytesize::ByteSize::from_str(text).map_err(|_| SIZE).and_then(|size| bytes(size.as_u64()))
}

/// Bytes, if they are few enough to be added up.
pub fn bytes(bytes: u64) -> Result<u64, &'static str> {
    if bytes <= 1 << 60 { Ok(bytes) } else { Err("a size of at most 1EiB") }
}

/// Bytes from a size, or from a share of what the process may use: `25%`.
pub fn memory(text: &str) -> Result<u64, &'static str> {
    let Some(share) = text.trim().strip_suffix('%') else {
        return size(text).map_err(|expected| if expected == SIZE { MEMORY } else { expected });
    };
    match share.trim().parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 100.0 => Ok(share_of(crate::body::usable_memory(), share)),
        _ => Err("a share above 0% and at most 100%"),
    }
}

/// `percent` of `bytes`.
fn share_of(bytes: u64, percent: f64) -> u64 {
    (bytes as f64 * (percent / 100.0)) as u64
}

/// A duration with units: `30s`, `15min`, `1h 30min`, `0`.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text.trim()).map_err(|_| DURATION)
}

/// `any`, or ports and ranges separated by commas: `443,8000-8999`.
pub fn ports(text: &str) -> Result<Ports, &'static str> {
    if text.trim().eq_ignore_ascii_case("any") {
        return Ok(Ports::Any);
    }
    text.split(',').map(port_range).collect::<Result<Vec<_>, _>>().map(Ports::List)
}

/// One port or a range of them: `443`, `8000-8999`.
pub fn port_range(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first).ok_or(PORTS)?, port(last).ok_or(PORTS)?);
    if first <= last { Ok(first..=last) } else { Err("a range whose first port is not above its last") }
}

/// Digits only, 1 to 65535.
fn port(text: &str) -> Option<u16> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|&port| port != 0)
}

/// An IP address and a port.
pub fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.trim().parse().map_err(|_| ADDRESS)
}

/// What users authenticate for: it stands in a quoted string, and between colons in a file. RFC 9110 section 11.5.
pub fn realm(text: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| (b' '..=b'~').contains(&byte) && !b"\"\\:".contains(&byte);
    let text = text.trim();
    let is_one = (1..=64).contains(&text.len()) && text.bytes().all(fits);
    if is_one { Ok(text.to_owned()) } else { Err(REALM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: PartialEq + std::fmt::Debug>(
        read: fn(&str) -> Result<T, &'static str>,
        rows: &[(&str, Option<T>)],
    ) {
        for (text, expected) in rows {
            assert_eq!(read(text).ok().as_ref(), expected.as_ref(), "{text:?}");
        }
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        check(
            size,
            &[
                ("512MiB", Some(512 << 20)),
                ("64KiB", Some(64 << 10)),
                ("64 kib", Some(64 << 10)),
                ("1.5 GiB", Some(3 << 29)),
                ("1MB", Some(1_000_000)),
                ("0", Some(0)),
                ("4096", Some(4096)),
                ("", None),
                ("-1", None),
                ("+1KiB", None),
                ("many", None),
                ("1EiB", Some(1 << 60)),
                ("2EiB", None),
                ("18446744073709551615", None),
                ("5 bananas", None),
                ("1e3", None),
            ],
        );
    }

    #[test]
    fn shares_lie_above_0_and_at_most_at_100_percent() {
        assert_eq!(share_of(1000, 25.0), 250);
        assert_eq!(memory("64MiB"), Ok(64 << 20));
        assert!(memory("50%").unwrap() > memory("25 %").unwrap());
        for wrong in ["0%", "101%", "-5%", "%", "NaN%", "inf%", "half"] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        check(
            duration,
            &[
                ("30s", Some(Duration::from_secs(30))),
                ("15min", Some(Duration::from_secs(900))),
                ("1h 30min", Some(Duration::from_secs(5400))),
                ("250ms", Some(Duration::from_millis(250))),
                ("0", Some(Duration::ZERO)),
                ("30", None),
                ("-1s", None),
                ("", None),
                ("soon", None),
            ],
        );
    }

    #[test]
    fn ports_are_digits_from_1_to_65535() {
        check(
            ports,
            &[
                ("any", Some(Ports::Any)),
                ("443", Some(Ports::List(vec![443..=443]))),
                ("443, 8000-8999", Some(Ports::List(vec![443..=443, 8000..=8999]))),
                ("0", None),
                ("65536", None),
                ("+443", None),
                ("9-8", None),
                ("443,", None),
                ("", None),
            ],
        );
    }
}

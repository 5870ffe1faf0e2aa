//! Bytes, numbers, addresses and dates, written by hand into a line of the access log.

use http::Version;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
// Escapes: each writes bytes so that the line stays one line of its format.

pub(super) type Escape = fn(&mut Vec<u8>, &[u8]);

pub(super) fn cut(out: &mut Vec<u8>, bytes: &[u8], max: usize, escape: Escape) {
    if bytes.len() <= max {
        escape(out, bytes);
    } else {
        escape(out, &bytes[..max]);
        out.extend_from_slice(b"...");
    }
}

/// The inside of a JSON string. RFC 8259 section 7; bytes that are not UTF-8 become U+FFFD, and what a
/// terminal or a viewer may act upon (controls, line separators, changes of direction) is escaped too.
pub(super) fn json_text(out: &mut Vec<u8>, bytes: &[u8]) {
    let plain = |byte: &u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(plain) {
        return out.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                    json_escape(out, character);
                }
                control if control.is_control() => json_escape(out, control),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn json_escape(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(b"\\u");
    for unit in character.encode_utf16(&mut [0; 2]) {
        for shift in [12, 8, 4, 0] {
            out.push(HEX[usize::from(*unit >> shift) & 15]);
        }
    }
}

pub(super) fn json_token(out: &mut Vec<u8>, token: &str) {
    out.push(b'"');
    json_text(out, token.as_bytes());
    out.push(b'"');
}

/// A word without spaces: all but visible ASCII becomes `%XX`.
pub(super) fn percent(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' => percent_byte(out, *byte),
            0x21..=0x7e => out.push(*byte),
            _ => percent_byte(out, *byte),
        }
    }
}

fn percent_byte(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(&[b'%', HEX_UPPER[usize::from(byte >> 4)], HEX_UPPER[usize::from(byte & 15)]]);
}

/// The inside of a quoted string as Apache writes it.
pub(super) fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..=0x7e => out.push(*byte),
            _ => out.extend_from_slice(&[
                b'\\',
                b'x',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
}

// Values that are ours.

const HEX: &[u8; 16] = b"0123456789abcdef";
const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

pub(super) fn version(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_09 => b"HTTP/0.9",
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_11 => b"HTTP/1.1",
        Version::HTTP_2 => b"HTTP/2",
        Version::HTTP_3 => b"HTTP/3",
        _ => b"HTTP",
    }
}

pub(super) fn socket(out: &mut Vec<u8>, socket: SocketAddr) {
    let host = socket.ip().to_canonical();
    let v6 = host.is_ipv6();
    if v6 {
        out.push(b'[');
    }
    address(out, host);
    out.extend_from_slice(if v6 { b"]:" } else { b":" });
    number(out, u64::from(socket.port()));
}

pub(super) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            // Put together first: to append byte by byte costs more than the digits do.
            let (mut text, mut length) = ([b'.'; 16], 0);
            for octet in v4.octets() {
                let [hundreds, tens, ones] = three_digits(u16::from(octet));
                for (digit, stands) in [(hundreds, octet > 99), (tens, octet > 9), (ones, true)] {
                    if stands {
                        text[length] = digit;
                        length += 1;
                    }
                }
                length += 1;
            }
            out.extend_from_slice(&text[..length - 1]);
        }
        // Writing to a Vec does not fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

pub(super) fn decimal_digits(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub(super) fn signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    number(out, value.unsigned_abs());
}

pub(super) fn padded(out: &mut Vec<u8>, value: u64, width: usize) {
    for _ in decimal_digits(value)..width {
        out.push(b'0');
    }
    number(out, value);
}

/// Milliseconds with three decimals: microseconds matter for a hit.
pub(super) fn milliseconds(out: &mut Vec<u8>, duration: Duration) {
    let micros = duration.as_micros() as u64;
    number(out, micros / 1000);
    let [a, b, c] = three_digits((micros % 1000) as u16);
    out.extend_from_slice(&[b'.', a, b, c]);
}

/// Of a number below 1000, with leading zeros.
pub(super) fn three_digits(number: u16) -> [u8; 3] {
    [number / 100, number / 10 % 10, number % 10].map(|digit| b'0' + digit as u8)
}

pub(super) fn hex(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0; 16];
    for (place, digit) in digits.iter_mut().enumerate() {
        *digit = HEX[(value >> (60 - 4 * place)) as usize & 15];
    }
    out.extend_from_slice(&digits);
}

/// `23/Nov/2026:18:37:00 +0000`.
pub(super) fn common_date(out: &mut Vec<u8>, unix: i64) {
    let time = Civil::of(unix);
    padded(out, time.day, 2);
    out.push(b'/');
    out.extend_from_slice(MONTHS[(time.month as usize - 1) % 12]);
    out.push(b'/');
    padded(out, time.year, 4);
    for part in [time.hour, time.minute, time.second] {
        out.push(b':');
        padded(out, part, 2);
    }
    out.extend_from_slice(b" +0000");
}

/// A date and time of day, UTC.
#[derive(Debug, PartialEq)]
pub(super) struct Civil {
    pub(super) year: u64,
    pub(super) month: u64,
    pub(super) day: u64,
    pub(super) hour: u64,
    pub(super) minute: u64,
    pub(super) second: u64,
}

impl Civil {
    /// Of Unix seconds, within the years 1970 to 9999, which are what the formats can write.
    pub(super) fn of(unix: i64) -> Self {
        let unix = unix.clamp(0, 253_402_300_799) as u64;
        let (days, second) = (unix / 86_400, unix % 86_400);
        // Days since 0000-03-01, so that a leap day is the last of its year; eras of 400 years.
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        Self { year, month, day, hour: second / 3_600, minute: second / 60 % 60, second: second % 60 }
    }
}

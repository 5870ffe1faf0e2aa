//! `Via`: who passed a message on, and whether it was us. RFC 9110 section 7.6.3.
use http::Version;
use http::header::{HeaderMap, HeaderValue, VIA};

/// Adds our member: the version of the message as it was received, and our pseudonym. A pseudonym that no field can
/// hold adds nothing; `config` refuses such ones.
pub fn append(headers: &mut HeaderMap, received: Version, pseudonym: &str) {
    let version = version(received).as_bytes();
    let mut line = Vec::with_capacity(version.len() + 1 + pseudonym.len());
    line.extend_from_slice(version);
    line.push(b' ');
    line.extend_from_slice(pseudonym.as_bytes());
    if let Ok(value) = HeaderValue::try_from(line) {
        headers.append(VIA, value);
    }
}

/// Whether a member names `pseudonym` as its recipient: the message was here before.
///
/// Comments are not set apart: at worst, one that imitates our member is taken for it, and no odd parenthesis hides a
/// member from us.
pub fn looped(headers: &HeaderMap, pseudonym: &str) -> bool {
    headers.get_all(VIA).iter().any(|line| {
        line.as_bytes().split(|&byte| byte == b',').any(|member| {
            let mut words = member.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
            let received_by = words.nth(1);
            received_by.is_some_and(|name| name.eq_ignore_ascii_case(pseudonym.as_bytes()))
        })
    })
}

/// The protocol version without its name, which is left out for HTTP.
const fn version(received: Version) -> &'static str {
    match received {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_member_comes_last_with_the_version_received() {
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.0 fred, 1.1 p.example.net"));
        append(&mut headers, Version::HTTP_10, "larder-1a2b");
        append(&mut headers, Version::HTTP_11, "other");
        let lines: Vec<_> = headers.get_all(VIA).iter().collect();
        assert_eq!(lines, ["1.0 fred, 1.1 p.example.net", "1.0 larder-1a2b", "1.1 other"]);
    }

    #[track_caller]
    fn check(line: &'static str, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.1 first"));
        headers.append(VIA, HeaderValue::from_static(line));
        assert_eq!(looped(&headers, "larder-1a2b"), expected, "{line}");
    }

    #[test]
    fn a_loop_is_our_name_as_recipient() {
        check("1.1 larder-1a2b", true);
        check("1.0 fred, HTTP/1.1 larder-1a2b", true);
        check("1.1 Larder-1A2B (a comment)", true);
        check("1.1\tlarder-1a2b , 1.1 x", true);
        check("1.1 x (odd, 1.1 larder-1a2b", true);
        check("1.1 larder-1a2bc", false);
        check("larder-1a2b 1.1", false);
        check("1.1 x (larder-1a2b)", false);
        check("", false);
    }
}

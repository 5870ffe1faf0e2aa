//! `Via`: who passed a message on, and whether it was us. RFC 9110 section 7.6.3.
use http::Version;
use http::header::{HeaderMap, HeaderValue, VIA};

/// Our name in `Via`, with the members ready that are written with every message.
#[derive(Clone, Debug)]
pub struct Pseudonym {
    name: Box<str>,
    /// For messages received as HTTP/1.0 and as HTTP/1.1.
    members: [HeaderValue; 2],
}

impl Pseudonym {
    /// `None` where no field can hold `name`.
    pub fn new(name: &str) -> Option<Self> {
        let member = |version| HeaderValue::try_from(format!("{version} {name}")).ok();
        Some(Self { name: name.into(), members: [member("1.0")?, member("1.1")?] })
    }

    /// Adds our member behind those of others: the version of the message as it was received, and our name.
    pub fn append(&self, headers: &mut HeaderMap, received: Version) {
        headers.append(VIA, self.member(received));
    }

    /// Our member alone.
    pub fn member(&self, received: Version) -> HeaderValue {
        self.members[usize::from(received >= Version::HTTP_11)].clone()
    }

    /// The lines of a message as it goes on by another one of ours: those of others, then our member.
    pub fn carried(&self, headers: &HeaderMap, received: Version) -> Vec<HeaderValue> {
        let ours = &self.members[usize::from(received >= Version::HTTP_11)];
        headers.get_all(VIA).iter().chain([ours]).cloned().collect()
    }

    /// Whether a member names us as its recipient: the message was here before.
    ///
    /// Comments are not set apart: at worst, one that imitates our member is taken for it, and no odd parenthesis
    /// hides a member from us.
    pub fn looped(&self, headers: &HeaderMap) -> bool {
        headers.get_all(VIA).iter().any(|line| {
            line.as_bytes().split(|&byte| byte == b',').any(|member| {
                let mut words =
                    member.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
                let received_by = words.nth(1);
                received_by.is_some_and(|name| name.eq_ignore_ascii_case(self.name.as_bytes()))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_member_comes_last_with_the_version_received() {
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.0 fred, 1.1 p.example.net"));
        Pseudonym::new("larder-1a2b").unwrap().append(&mut headers, Version::HTTP_10);
        Pseudonym::new("other").unwrap().append(&mut headers, Version::HTTP_11);
        assert!(Pseudonym::new("no\nname").is_none());
        let lines: Vec<_> = headers.get_all(VIA).iter().collect();
        assert_eq!(lines, ["1.0 fred, 1.1 p.example.net", "1.0 larder-1a2b", "1.1 other"]);
    }

    #[test]
    fn what_goes_on_by_another_message_carries_all_members() {
        let mut headers = HeaderMap::new();
        let ours = Pseudonym::new("larder-1a2b").unwrap();
        assert_eq!(ours.carried(&headers, Version::HTTP_10), ["1.0 larder-1a2b"]);
        headers.append(VIA, HeaderValue::from_static("1.0 fred, 1.1 p.example.net"));
        headers.append(VIA, HeaderValue::from_static("1.1 second"));
        let lines = ours.carried(&headers, Version::HTTP_11);
        assert_eq!(lines, ["1.0 fred, 1.1 p.example.net", "1.1 second", "1.1 larder-1a2b"]);
    }

    #[track_caller]
    fn check(line: &'static str, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.1 first"));
        headers.append(VIA, HeaderValue::from_static(line));
        assert_eq!(Pseudonym::new("larder-1a2b").unwrap().looped(&headers), expected, "{line}");
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

//! Comma-separated lists over several field lines: RFC 9110 section 5.6.1. Syntax only.

/// Members of a comma-separated list over several lines, quoted strings respected, trimmed; empty ones
/// skipped.
pub fn members<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values.flat_map(|line| Split::new(line, true, b',')).filter(|member| !member.is_empty())
}

/// Members of a list of entity tags: as [`members`], but a backslash inside quotes escapes nothing.
/// RFC 9110 section 8.8.3.
pub fn entity_tags<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values.flat_map(|line| Split::new(line, false, b',')).filter(|member| !member.is_empty())
}

/// Parameters of one member: its parts between semicolons, quoted strings respected, trimmed.
pub fn parameters(member: &[u8]) -> impl Iterator<Item = &[u8]> {
    Split::new(member, true, b';')
}

/// `OWS` taken from both ends. RFC 9110 section 5.6.3.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Digits only, at least one; saturating. No sign, no space.
pub fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        byte.is_ascii_digit().then(|| sum.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

/// Whether these bytes are a token. RFC 9110 section 5.6.2.
pub fn is_token(value: &[u8]) -> bool {
    !value.is_empty()
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// The content of a quoted string without its escapes, or a token as it is. `None` for anything else.
pub fn token_or_quoted(value: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    use std::borrow::Cow;
    let [b'"', inner @ .., b'"'] = value else {
        return is_token(value).then_some(Cow::Borrowed(value));
    };
    if !inner.iter().any(|byte| matches!(byte, b'\\' | b'"')) {
        return Some(Cow::Borrowed(inner));
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => plain.push(*bytes.next()?),
            b'"' => return None,
            other => plain.push(other),
        }
    }
    Some(Cow::Owned(plain))
}

/// The parts of one line between delimiters that stand outside quoted strings. A quote that is never closed begins
/// none, nor does one whose end is not the end of a value: what follows it must not hide behind it. (Among entity tags,
/// whose grammar is looser, it runs to the next quote, or the end of the line.)
struct Split<'a> {
    rest: &'a [u8],
    escapes: bool,
    delimiter: u8,
    /// A quote was found that begins no quoted string: from there on, quotes are bytes like any other.
    literal: bool,
}

impl<'a> Split<'a> {
    fn new(rest: &'a [u8], escapes: bool, delimiter: u8) -> Self {
        Self { rest, escapes, delimiter, literal: false }
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (mut quoted, mut at, mut opened) = (false, 0, 0);
        while let Some(&byte) = self.rest.get(at) {
            match byte {
                b'"' if !self.literal && quoted => {
                    if self.escapes && !ends_value(self.rest.get(at + 1..).unwrap_or_default()) {
                        break;
                    }
                    quoted = false;
                }
                b'"' if !self.literal => {
                    quoted = true;
                    opened = at;
                }
                b'\\' if quoted && self.escapes => at += 1,
                delimiter if delimiter == self.delimiter && !quoted => break,
                _ => {}
            }
            at += 1;
        }
        if quoted && self.escapes {
            self.literal = true;
            let behind = self.rest.get(opened..).unwrap_or_default();
            let next = behind.iter().position(|byte| *byte == self.delimiter);
            at = next.map_or(self.rest.len(), |found| opened + found);
        }
        let part = self.rest.get(..at).unwrap_or(self.rest);
        self.rest = self.rest.get(at + 1..).unwrap_or_default();
        Some(trim(part))
    }
}

/// Whether a value may end before these bytes.
fn ends_value(behind: &[u8]) -> bool {
    matches!(trim(behind).first(), None | Some(b',' | b';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: &[&str]) {
        let found: Vec<_> = members(lines.iter().map(|line| line.as_bytes())).collect();
        let expected: Vec<_> = expected.iter().map(|member| member.as_bytes()).collect();
        assert_eq!(found, expected, "{lines:?}");
    }

    #[test]
    fn members_come_from_all_lines_trimmed_and_without_empty_ones() {
        check(&[], &[]);
        check(&["", " , ,\t"], &[]);
        check(&["a, b", "c"], &["a", "b", "c"]);
        check(&[" a ,,b\t", ",c,"], &["a", "b", "c"]);
    }

    #[test]
    fn quoted_strings_keep_their_commas() {
        check(&[r#"a="x, y", b"#], &[r#"a="x, y""#, "b"]);
        check(&[r#"a="x\", y", b"#], &[r#"a="x\", y""#, "b"]);
    }

    #[test]
    fn nothing_hides_behind_a_quote_that_is_never_closed() {
        check(&[r#"a="open, b"#, "c"], &[r#"a="open"#, "b", "c"]);
        check(&[r#"a="x, y", b="open, c, d"#], &[r#"a="x, y""#, r#"b="open"#, "c", "d"]);
        check(&[r#"a="\", b="c, d"#], &[r#"a="\""#, r#"b="c"#, "d"]);
        // Found out once for a line, not for each of its parts.
        let line = "\"".to_owned() + &"\\\",".repeat(200_000);
        assert_eq!(members([line.as_bytes()].into_iter()).count(), 200_000);
        check(&[r#""ends in backslash\"#], &[r#""ends in backslash\"#]);
    }

    #[test]
    fn nothing_hides_behind_a_quote_that_closes_within_a_value() {
        check(&[r#"a="x, b="y", c"#], &[r#"a="x"#, r#"b="y""#, "c"]);
        check(&[r#"a="x, b, c="y, d"#], &[r#"a="x"#, "b", r#"c="y"#, "d"]);
        check(&[r#"a="x" , b="y, z";q=1, c"#], &[r#"a="x""#, r#"b="y, z";q=1"#, "c"]);
    }

    #[test]
    fn a_backslash_in_an_entity_tag_escapes_nothing() {
        let found: Vec<_> = entity_tags([br#""a\", "b""#.as_slice()].into_iter()).collect();
        assert_eq!(found, [br#""a\""#.as_slice(), br#""b""#]);
    }

    #[test]
    fn numbers_are_digits_only_and_saturate() {
        for (text, expected) in [
            ("0", Some(0)),
            ("003600", Some(3600)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1.0", None),
            (" 1", None),
            ("1 ", None),
            ("1_0", None),
        ] {
            assert_eq!(digits(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn quoted_forms_lose_their_quotes_and_escapes() {
        for (text, expected) in [
            ("3600", Some("3600")),
            (r#""36\00""#, Some("3600")),
            (r#""""#, Some("")),
            ("'3600'", Some("'3600'")),
            ("", None),
            (" 3600", None),
            ("\"", None),
            (r#""a\""#, None),
            (r#""a"b""#, None),
        ] {
            let found = token_or_quoted(text.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{text:?}");
        }
    }
}

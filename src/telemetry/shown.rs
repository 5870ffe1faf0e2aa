//! What is shown of a URL: never userinfo, and no query unless it is wanted.

use super::write::{Escape, cut};

/// The parts of a URL that are shown: what stands before userinfo, what comes after it up to the query, and
/// the mark of what was left out.
pub(super) struct Shown<'a> {
    start: &'a [u8],
    rest: &'a [u8],
    mark: &'static [u8],
}

impl<'a> Shown<'a> {
    pub(super) fn of_path(path: &'a [u8], query: bool) -> Self {
        let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).filter(|_| !query);
        match end {
            Some(end) if path[end] == b'?' => Self { start: b"", rest: &path[..end], mark: b"?..." },
            Some(end) => Self { start: b"", rest: &path[..end], mark: b"#..." },
            None => Self { start: b"", rest: path, mark: b"" },
        }
    }

    /// Of text that may be no URL at all: all that could be userinfo goes, in malformed ones too.
    pub(super) fn of_text(text: &'a [u8], query: bool) -> Self {
        let slash = |byte: &u8| matches!(byte, b'/' | b'\\');
        // An origin-form path may have an `@` in its first segment.
        if text.first().is_some_and(slash) && !text.get(1).is_some_and(slash) {
            return Self::of_path(text, query);
        }
        let scheme =
            text.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')).count();
        let colon = if text.get(scheme) == Some(&b':') { scheme + 1 } else { 0 };
        let slashes = text[colon..].iter().take_while(|byte| slash(byte)).count();
        // `user:password@host`: without a slash the colon was no scheme's.
        let start = if slashes > 0 { colon + slashes } else { 0 };
        let end = text[start..]
            .iter()
            .position(|b| slash(b) || matches!(b, b'?' | b'#'))
            .map_or(text.len(), |at| start + at);
        let host = text[start..end].iter().rposition(|byte| *byte == b'@').map_or(start, |at| start + at + 1);
        Self { start: &text[..start], ..Self::of_path(&text[host..], query) }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, max: usize, escape: Escape) {
        cut(out, self.start, max, escape);
        cut(out, self.rest, max, escape);
        out.extend_from_slice(self.mark);
    }
}

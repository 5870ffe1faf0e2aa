//! Whether the trailer section of a request is what RFC 9112 section 7.1.2 allows, told by its bytes as they came.
//!
//! hyper takes a section for ended by an empty line after CRLF, but reads the lines in it as a head's: a bare LF ends one
//! there, and what stands behind an empty line of that kind is dropped. Where a section begins and ends is left to
//! hyper; here is only looked for what none may hold. So all that may be one is looked at: what else looks like a
//! section (bytes of a body, of the next request) can get a request refused, and never let through.

/// Bytes that are kept, the last ones: a longer section is refused.
pub(super) const KEPT: usize = 24 * 1024;

/// What the last chunk's size begins with, at the begin of a line.
const LAST: &[u8] = b"\n0";

/// Whether what may hold the last chunk begins here. `before`: the byte before it.
pub(super) fn may_begin(before: u8, bytes: &[u8]) -> bool {
    (before == b'\n' && bytes.first() == Some(&b'0')) || memchr::memmem::find(bytes, LAST).is_some()
}

/// Whether a section that has come is clean. `bytes`: the last ones that came, the section's among them.
pub(super) fn are_clean(bytes: &[u8]) -> bool {
    let sections = memchr::memmem::find_iter(bytes, LAST).filter_map(|at| section(&bytes[at + 1..]));
    let mut found = false;
    for section in sections {
        found = true;
        if !is_clean(section) {
            return false;
        }
    }
    found
}

/// The lines behind the last chunk's, up to the empty one, where these bytes begin with the last chunk.
fn section(bytes: &[u8]) -> Option<&[u8]> {
    let line = memchr::memchr(b'\n', bytes)?;
    let size = bytes[..line].strip_suffix(b"\r")?;
    let extension = size.iter().position(|byte| *byte != b'0').map_or(&[][..], |at| &size[at..]);
    let is_last =
        extension.iter().find(|byte| !matches!(byte, b' ' | b'\t')).is_none_or(|byte| *byte == b';');
    let end = memchr::memmem::find(&bytes[line - 1..], b"\r\n\r\n")?;
    is_last.then(|| &bytes[line + 1..line - 1 + end + 2])
}

/// Lines that end with CRLF, and no other CR or LF.
fn is_clean(section: &[u8]) -> bool {
    memchr::memchr2_iter(b'\r', b'\n', section).all(|at| match section[at] {
        b'\r' => section.get(at + 1) == Some(&b'\n'),
        _ => at > 0 && section[at - 1] == b'\r',
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_with_a_bare_cr_or_lf_are_not_clean() {
        for (bytes, expected) in [
            ("5\r\nhello\r\n0\r\nX-A: 1\r\n\r\n", true),
            ("5\r\nhello\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", true),
            ("5\r\nhello\r\n000 ; a=b\r\nX-A: 1\r\n\r\n", true),
            ("5\r\nhe\nlo\r\n0\r\nX-A: 1\r\n\r\n", true),
            ("5\r\nhello\r\n0\r\nX-A: 1\r\n\r\nGET / HTTP/1.1\nHost: h\n\n", true),
            ("5\r\nhello\r\n0\r\nX-A: 1\n\r\n", false),
            ("5\r\nhello\r\n0\r\nX-A: 1\n\r\nX-B: 2\r\n\r\n", false),
            ("5\r\nhello\r\n0\r\nX-A: 1\n\nX-B: 2\r\n\r\n", false),
            ("5\r\nhello\r\n0\r\nX-A: 1\r\n\nX-B: 2\r\n\r\n", false),
            ("5\r\nhello\r\n0\r\nX-A: 1\nX-B: 2\r\n\r\n", false),
            ("5\r\nhello\r\n0\r\nX-A: 1\rX-B: 2\r\n\r\n", false),
            ("5\r\nhello\r\n0;a\r\nX-A: 1\n\r\n0\r\nX-A: 1\r\n\r\n", false),
            ("5\r\nhello\r\n0\r\nX-A: 1\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", false),
            // It can't be told: it did not come, or was too long to be kept.
            ("", false),
            ("X-A: 1\r\n\r\n", false),
        ] {
            assert_eq!(are_clean(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_last_chunk_is_seen_wherever_the_reads_are_cut() {
        for (before, bytes, expected) in [
            (b'\n', "0\r\n", true),
            (b'x', "0\r\n", false),
            (b'x', "5\r\nhello\r\n0", true),
            (b'\n', "GET / HTTP/1.1\r\nHost: h\r\n\r\n", false),
        ] {
            assert_eq!(may_begin(before, bytes.as_bytes()), expected, "{bytes:?}");
        }
    }
}

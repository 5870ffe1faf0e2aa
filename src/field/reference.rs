//! References and their resolution, on bytes: RFC 3986 sections 4 and 5.2. What is an allowed host, port or byte is
//! checked by `target`, not here.

/// The parts of a reference, as received; the fragment is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    pub(crate) scheme: Option<&'a [u8]>,
    pub(crate) authority: Option<&'a [u8]>,
    pub(crate) path: &'a [u8],
    pub(crate) query: Option<&'a [u8]>,
}

impl<'a> Reference<'a> {
    /// Never fails: every string of bytes has these parts. RFC 3986 appendix B.
    pub(crate) fn parse(reference: &'a [u8]) -> Self {
        let rest = until(reference, |byte| byte == b'#').0;
        let (scheme, rest) = scheme_of(rest);
        let (authority, rest) = match rest.strip_prefix(b"//") {
            Some(rest) => {
                let (authority, rest) = until(rest, |byte| matches!(byte, b'/' | b'?'));
                (Some(authority), rest)
            }
            None => (None, rest),
        };
        let (path, query) = split_query(rest);
        Self { scheme, authority, path, query }
    }
}

/// The path and query that `reference` names, seen from the path and query `base`. RFC 3986 section 5.2.2.
pub(crate) fn resolve(base: &[u8], reference: &Reference<'_>) -> Vec<u8> {
    let (base_path, base_query) = split_query(base);
    let mut out = Vec::with_capacity(base.len() + reference.path.len());
    let mut query = reference.query;
    if reference.scheme.is_some() || reference.authority.is_some() || reference.path.starts_with(b"/") {
        remove_dot_segments(reference.path, &mut out);
    } else if reference.path.is_empty() {
        out.extend_from_slice(base_path);
        query = query.or(base_query);
    } else {
        // Section 5.2.3: all of the base's path up to its last slash.
        let end = base_path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let merged = [&base_path[..end], reference.path].concat();
        remove_dot_segments(&merged, &mut out);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out
}

/// RFC 3986 section 5.2.4, its steps A to E in order.
fn remove_dot_segments(mut input: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    while !input.is_empty() {
        if let Some(rest) = input.strip_prefix(b"../").or_else(|| input.strip_prefix(b"./")) {
            input = rest;
        } else if input.starts_with(b"/./") {
            input = &input[2..];
        } else if input == b"/." {
            input = b"/";
        } else if input.starts_with(b"/../") || input == b"/.." {
            let last = out[start..].iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            out.truncate(start + last);
            input = if input.len() > 3 { &input[3..] } else { b"/" };
        } else if input == b"." || input == b".." {
            input = b"";
        } else {
            let end = input[1..].iter().position(|&byte| byte == b'/').map_or(input.len(), |at| at + 1);
            out.extend_from_slice(&input[..end]);
            input = &input[end..];
        }
    }
}

/// `ALPHA *( ALPHA / DIGIT / "+" / "-" / "." ) ":"` at the start. RFC 3986 section 3.1.
fn scheme_of(reference: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let (scheme, rest) = until(reference, |byte| !(byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)));
    match rest {
        [b':', rest @ ..] if scheme.first().is_some_and(u8::is_ascii_alphabetic) => (Some(scheme), rest),
        _ => (None, reference),
    }
}

fn split_query(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match until(path, |byte| byte == b'?') {
        (path, [_, query @ ..]) => (path, Some(query)),
        (path, []) => (path, None),
    }
}

/// What is before the first byte that `stops`, and the rest with it.
fn until(bytes: &[u8], stops: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|&byte| stops(byte)).unwrap_or(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(base: &str, reference: &str, expected: &str) {
        let resolved = resolve(base.as_bytes(), &Reference::parse(reference.as_bytes()));
        assert_eq!(String::from_utf8_lossy(&resolved), expected, "{reference} seen from {base}");
    }

    /// The examples of RFC 3986 section 5.4 with base `http://a/b/c/d;p?q`, less those with another scheme or host.
    #[test]
    fn references_resolve_as_in_rfc_3986_section_5_4() {
        for (reference, expected) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            ("g?y#s", "/b/c/g?y"),
            (";x", "/b/c/;x"),
            ("g;x", "/b/c/g;x"),
            ("g;x?y#s", "/b/c/g;x?y"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("../../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            (".g", "/b/c/.g"),
            ("g..", "/b/c/g.."),
            ("..g", "/b/c/..g"),
            ("./../g", "/b/g"),
            ("./g/.", "/b/c/g/"),
            ("g/./h", "/b/c/g/h"),
            ("g/../h", "/b/c/h"),
            ("g;x=1/./y", "/b/c/g;x=1/y"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/./x", "/b/c/g?y/./x"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("g#s/../x", "/b/c/g"),
        ] {
            check("/b/c/d;p?q", reference, expected);
        }
    }

    #[test]
    fn a_reference_with_an_authority_takes_its_own_path() {
        check("/b/c?q", "//h", "/");
        check("/b/c?q", "//h?y", "/?y");
        check("/b/c?q", "http://h/x/../y", "/y");
    }

    #[test]
    fn a_colon_behind_a_slash_is_no_scheme() {
        assert_eq!(Reference::parse(b"a/b:c").scheme, None);
        assert_eq!(Reference::parse(b":80").scheme, None);
        assert_eq!(Reference::parse(b"a:b").scheme, Some(&b"a"[..]));
    }
}

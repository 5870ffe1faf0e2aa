//! Entity tags and their comparison: RFC 9110 section 8.8.3.
//!
//! What is no entity tag (`abc`, `w/"abc"`) is still something that an origin sent and may recognise, so it is
//! kept and compared, but only by its bytes.

/// A well-formed entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    /// Whether it is marked `W/`.
    pub weak: bool,
    /// Its opaque tag, with the quotes.
    pub opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Reads one. `W/` counts in upper case only.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (weak, opaque) = match value.strip_prefix(b"W/") {
            Some(opaque) => (true, opaque),
            None => (false, value),
        };
        let [b'"', inner @ .., b'"'] = opaque else { return None };
        let legal = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..=0xff);
        inner.iter().all(legal).then_some(Self { weak, opaque })
    }
}

/// "Two entity tags are equivalent if their opaque-tags match character-by-character, regardless of either or
/// both being tagged as weak." Malformed ones match by their bytes.
pub fn weak_match(a: &[u8], b: &[u8]) -> bool {
    match (EntityTag::parse(a), EntityTag::parse(b)) {
        (Some(a), Some(b)) => a.opaque == b.opaque,
        _ => a == b && !a.is_empty(),
    }
}

/// "Two entity tags are equivalent if both are not weak and their opaque-tags match character-by-character."
/// Malformed ones never match: nothing says that they are strong.
pub fn strong_match(a: &[u8], b: &[u8]) -> bool {
    match (EntityTag::parse(a), EntityTag::parse(b)) {
        (Some(a), Some(b)) => !a.weak && !b.weak && a.opaque == b.opaque,
        _ => false,
    }
}

/// Whether this is a well-formed strong entity tag.
pub fn is_strong(value: &[u8]) -> bool {
    EntityTag::parse(value).is_some_and(|tag| !tag.weak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comparison_table_of_rfc_9110_holds() {
        for (a, b, strong, weak) in [
            (r#"W/"1""#, r#"W/"1""#, false, true),
            (r#"W/"1""#, r#"W/"2""#, false, false),
            (r#"W/"1""#, r#""1""#, false, true),
            (r#""1""#, r#""1""#, true, true),
        ] {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            assert_eq!((strong_match(a, b), weak_match(a, b)), (strong, weak), "{a:?} {b:?}");
            assert_eq!((strong_match(b, a), weak_match(b, a)), (strong, weak), "{b:?} {a:?}");
        }
    }

    #[test]
    fn malformed_tags_match_by_their_bytes_and_never_strongly() {
        for (a, b, weak) in [
            ("abcdef", "abcdef", true),
            ("abcdef", r#""abcdef""#, false),
            (r#"w/"abcdef""#, r#"w/"abcdef""#, true),
            (r#"w/"abcdef""#, r#"W/"abcdef""#, false),
            (r#"W\"abcdef""#, r#"W\"abcdef""#, true),
            (r#"W"abcdef""#, r#"W"abcdef""#, true),
            ("", "", false),
        ] {
            assert_eq!(weak_match(a.as_bytes(), b.as_bytes()), weak, "{a} {b}");
            assert!(!strong_match(a.as_bytes(), b.as_bytes()), "{a} {b}");
        }
    }

    #[test]
    fn bytes_above_ascii_and_backslashes_are_legal_within() {
        assert!(is_strong("\"abcdef\u{fc}\"".as_bytes()));
        assert!(is_strong(br#""a\b""#));
        assert!(is_strong(br#""""#));
        assert!(!is_strong(br#""a b""#));
        assert!(!is_strong(br#"""#));
        assert!(!is_strong(br#"W/"a""#));
    }
}

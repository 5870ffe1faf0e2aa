//! The names under which an origin groups its responses, so that they can be purged together: `Surrogate-Key`,
//! `Cache-Tag` and `Cache-Groups` (RFC 9875). Syntax only.

use http::HeaderName;
use sfv::{BareItem, ListEntry, Parser};
use std::borrow::Cow;

use super::list;

/// Tags with spaces between them, as Varnish and Fastly read it.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// Tags with commas between them, as Cloudflare, Akamai and others read it.
pub const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// A List of Strings. RFC 9875 section 2.
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// The tags in one field line of one of these names; of any other name, none. What is not as its grammar says has no
/// tags: RFC 9875 lets a field that can't be parsed be ignored, and so are the others.
pub fn tags<'a>(name: &HeaderName, value: &'a [u8]) -> Vec<Cow<'a, str>> {
    let text =
        |bytes: &'a [u8]| std::str::from_utf8(bytes).ok().filter(|tag| !tag.is_empty()).map(Cow::Borrowed);
    if *name == SURROGATE_KEY {
        value.split(|byte| matches!(byte, b' ' | b'\t')).filter_map(text).collect()
    } else if *name == CACHE_TAG {
        value.split(|byte| *byte == b',').filter_map(|part| text(list::trim(part))).collect()
    } else if *name == CACHE_GROUPS {
        groups(value)
    } else {
        Vec::new()
    }
}

/// "The Cache-Groups response header field is a List of Strings"; "members that are not Strings" make it invalid.
fn groups(value: &[u8]) -> Vec<Cow<'static, str>> {
    let Ok(members) = Parser::new(value).parse::<sfv::List>() else { return Vec::new() };
    let names: Option<Vec<_>> = members
        .into_iter()
        .map(|member| match member {
            ListEntry::Item(item) => match item.bare_item {
                BareItem::String(name) => Some(Cow::Owned(name.as_str().to_owned())),
                _ => None,
            },
            ListEntry::InnerList(_) => None,
        })
        .collect();
    names.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &HeaderName, value: &[u8], expected: &[&str]) {
        assert_eq!(tags(name, value), expected, "{name}: {}", String::from_utf8_lossy(value));
    }

    #[test]
    fn each_field_has_its_own_grammar() {
        check(&SURROGATE_KEY, b"a b,c  \td", &["a", "b,c", "d"]);
        check(&CACHE_TAG, b"a b, c,,\td ", &["a b", "c", "d"]);
        check(&CACHE_GROUPS, br#""a b", "c,\"d";x=1"#, &["a b", "c,\"d"]);
        check(&http::header::ETAG, b"a", &[]);
    }

    #[test]
    fn what_breaks_its_grammar_has_no_tags() {
        check(&CACHE_GROUPS, b"\"a\", b", &[]);
        check(&CACHE_GROUPS, b"(\"a\")", &[]);
        check(&CACHE_GROUPS, b"\"a\", \"", &[]);
        check(&SURROGATE_KEY, b"\xff a", &["a"]);
        check(&CACHE_TAG, b" , ", &[]);
    }
}

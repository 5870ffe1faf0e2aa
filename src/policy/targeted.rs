//! Targeted Cache-Control fields: RFC 9213. Which field's directives count.

use http::{HeaderName, HeaderValue, header};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::Fields;
use crate::field::cache_control::{Delta, NoCache, ResponseDirectives, field_names};

/// Which field the directives of a response come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effective {
    /// Cache-Control, with Expires beside it.
    CacheControl,
    /// A configured targeted field, which replaces both.
    Targeted,
}

/// The directives that count: those of the first configured field that is present, valid and not empty, else
/// Cache-Control's.
pub(crate) fn effective(fields: &Fields, targets: &[HeaderName]) -> (ResponseDirectives, Effective) {
    for target in targets {
        let lines: Vec<_> = fields.bytes_all(target).collect();
        if lines.is_empty() {
            continue;
        }
        if let Some(directives) = parse(&lines.join(&b", "[..])) {
            return (directives, Effective::Targeted);
        }
    }
    let lines: Vec<HeaderValue> = fields.get_all(&header::CACHE_CONTROL).collect();
    (ResponseDirectives::parse(lines.iter()), Effective::CacheControl)
}

/// A structured dictionary whose members are the directives. `None` if it is malformed or empty: "the field
/// MUST be ignored". "If a targeted field in a given response is empty, or a parsing error is encountered,
/// that field MUST be ignored by the cache".
fn parse(value: &[u8]) -> Option<ResponseDirectives> {
    let dictionary: Dictionary = Parser::new(value).parse().ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let mut found = ResponseDirectives { present: true, ..ResponseDirectives::default() };
    for (name, member) in &dictionary {
        // "Parameters received on directives are to be ignored, unless other handling is explicitly
        // specified"; members of a wrong type too.
        let ListEntry::Item(item) = member else { continue };
        let (delta, is_true) = (delta(&item.bare_item), matches!(item.bare_item, BareItem::Boolean(true)));
        match name.as_str() {
            "max-age" => found.max_age = delta,
            "s-maxage" => found.s_maxage = delta,
            "stale-while-revalidate" => found.stale_while_revalidate = delta,
            "stale-if-error" => found.stale_if_error = delta,
            "no-cache" => found.no_cache = no_cache(&item.bare_item),
            "no-store" => found.no_store = is_true,
            "private" => found.private = is_true || names(&item.bare_item).is_some(),
            "public" => found.public = is_true,
            "must-revalidate" => found.must_revalidate = is_true,
            "proxy-revalidate" => found.proxy_revalidate = is_true,
            "must-understand" => found.must_understand = is_true,
            "immutable" => found.immutable = is_true,
            _ => {}
        }
    }
    Some(found)
}

/// An integer, of up to 15 digits; a negative one is invalid, and so stale.
fn delta(item: &BareItem) -> Option<Delta> {
    let BareItem::Integer(seconds) = item else { return None };
    Some(Delta::parse(i64::from(*seconds).to_string().as_bytes()))
}

fn no_cache(item: &BareItem) -> NoCache {
    match item {
        BareItem::Boolean(true) => NoCache::Whole,
        other => names(other).map_or(NoCache::Absent, field_names),
    }
}

/// The argument of a qualified no-cache or private.
fn names(item: &BareItem) -> Option<&[u8]> {
    match item {
        BareItem::String(list) => Some(list.as_str().as_bytes()),
        BareItem::Token(name) => Some(name.as_str().as_bytes()),
        BareItem::Integer(_)
        | BareItem::Decimal(_)
        | BareItem::Boolean(_)
        | BareItem::ByteSequence(_)
        | BareItem::Date(_)
        | BareItem::DisplayString(_) => None,
    }
}

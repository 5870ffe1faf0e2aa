//! Targeted Cache-Control fields: RFC 9213. Which field's directives count.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::FieldLines;
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
pub(crate) fn effective(fields: &impl Lines, targets: &[HeaderName]) -> (ResponseDirectives, Effective) {
    for target in targets {
        let lines: Vec<_> = fields.lines(target).collect();
        if lines.is_empty() {
            continue;
        }
        if let Some(directives) = parse(&lines.join(&b", "[..])) {
            return (directives, Effective::Targeted);
        }
    }
    (ResponseDirectives::parse(fields.lines(&header::CACHE_CONTROL)), Effective::CacheControl)
}

/// Fields as they are received, or as they are stored.
pub(crate) trait Lines {
    /// Bytes of all lines of this name.
    fn lines<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]>;
}

impl Lines for HeaderMap {
    fn lines<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

impl Lines for FieldLines<'_> {
    fn lines<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.bytes_all(name)
    }
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
        BareItem::Boolean(true) => NoCache::whole(),
        other => names(other).map_or(NoCache::ABSENT, field_names),
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

#[cfg(test)]
mod tests {
    use crate::policy::testing::{World, word};
    use crate::policy::{LifetimeSource, Verdict, freshness};

    fn world() -> World {
        let mut world = World::default();
        world.options.targeted_fields = vec![http::header::CDN_CACHE_CONTROL];
        world
    }

    /// Whether such a response is stored and answers three seconds later.
    #[track_caller]
    fn check(fields: &[(&str, &str)], reused: bool) {
        check_in(&world(), fields, reused);
    }

    #[track_caller]
    fn check_in(world: &World, fields: &[(&str, &str)], reused: bool) {
        let found = match world.judge(&[], 200, fields) {
            Verdict::Store(head) => word(&world.plan(&[], &[*head], 3)) == "serve",
            _ => false,
        };
        assert_eq!(found, reused, "{fields:?}");
    }

    #[test]
    fn a_targeted_field_replaces_cache_control_and_expires() {
        let cdn = |value| ("cdn-cache-control", value);
        let (fresh, soon) = (("cache-control", "max-age=10000"), ("cache-control", "max-age=1"));
        let expires = ("expires", "@10000");
        check(&[cdn("max-age=3600")], true);
        check(&[cdn("max-age=3600"), soon], true);
        check(&[cdn("max-age=3600"), ("expires", "@-10000"), ("date", "@0")], true);
        check(&[cdn("max-age=3600"), ("expires", "0"), ("date", "@0")], true);
        check(&[cdn("max-age=1"), fresh], false);
        check(&[cdn("max-age=0"), expires, ("date", "@0")], false);
        check(&[cdn("private"), fresh, expires], false);
        check(&[cdn("no-cache"), fresh, expires], false);
        check(&[cdn("no-store"), fresh, expires], false);
        check(&[cdn("max-age=10000"), ("cache-control", "no-store")], true);
        check(&[cdn("max-age=3600"), ("age", "7200"), ("date", "@0")], false);
        check(&[cdn("foobar, max-age=3600")], true);
        check(&[cdn("max-age=3600;x=y")], true);
        check(&[cdn("max-age=9"), cdn("max-age=3600")], true);
        check(&[cdn("foo"), fresh], false);
    }

    #[test]
    fn integers_have_up_to_fifteen_digits_and_saturate() {
        for (value, reused) in [
            ("max-age=2147483648", true),
            ("max-age=99999999999", true),
            ("max-age=999999999999999", true),
            ("max-age=9999999999999999", false),
            ("max-age=-5", false),
        ] {
            check(&[("cdn-cache-control", value)], reused);
        }
    }

    #[test]
    fn a_malformed_or_empty_field_is_ignored() {
        let soon = ("cache-control", "max-age=1");
        let fresh = ("cache-control", "max-age=3600");
        for malformed in
            ["max-age =100", "max-age= 100", "max-age=100, &&&&&", "MaX-aGe=3600", "", "max-age=100,"]
        {
            check(&[("cdn-cache-control", malformed), soon], false);
            check(&[("cdn-cache-control", malformed), fresh], true);
        }
        check(&[("cdn-cache-control", "max-age=10000, &&&&&"), ("cache-control", "no-store")], false);
    }

    #[test]
    fn members_of_a_wrong_type_are_ignored_in_a_field_that_still_counts() {
        for wrong in ["max-age=\"10000\"", "max-age=10.5", "max-age=(1 2)", "max-age"] {
            check(&[("cdn-cache-control", wrong), ("cache-control", "max-age=3600")], false);
        }
        check(&[("cdn-cache-control", "max-age=3600, no-store=?0, private=5")], true);
        check(&[("cdn-cache-control", "max-age=3600, private=\"x\"")], false);
    }

    #[test]
    fn a_qualified_no_cache_names_fields() {
        let fields = [("cdn-cache-control", "max-age=3600, no-cache=\"a, b\""), ("a", "1")];
        let head = world().stored(&[], 200, &fields);
        let freshness = freshness(head.view(), &world().terms(0));
        assert_eq!(freshness.source, LifetimeSource::Targeted);
        let served = crate::policy::served_fields(head.view(), &freshness, false);
        assert!(!served.contains_key("a"));
        assert!(served.contains_key("cdn-cache-control"), "the field is forwarded");
    }

    #[test]
    fn it_means_nothing_when_it_is_not_configured() {
        let none = World::default();
        check_in(&none, &[("cdn-cache-control", "max-age=3600")], false);
        check_in(&none, &[("cdn-cache-control", "no-store"), ("cache-control", "max-age=3600")], true);
    }

    #[test]
    fn the_first_configured_field_that_is_present_and_valid_counts() {
        let mut world = world();
        world.options.targeted_fields.insert(0, http::HeaderName::from_static("larder-cache-control"));
        let cdn = ("cdn-cache-control", "max-age=1");
        check_in(&world, &[("larder-cache-control", "max-age=3600"), cdn], true);
        check_in(&world, &[("larder-cache-control", "&"), cdn], false);
        check_in(&world, &[cdn], false);
    }
}

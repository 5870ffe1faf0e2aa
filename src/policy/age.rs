//! The age of a stored response, and the fields of what is sent from the store. RFC 9111 sections 4.2.3, 5.1
//! and 4.3.2.
//!
//! Times are milliseconds, so that what is floored is floored once, at output.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::fields::{ADDED, Of};
use super::{Freshness, Head};
use crate::clock::Moment;
use crate::field::cache_control::Delta;
use crate::field::list::{digits, members};

/// Seconds that Age says: the first member of its joined lines, if that is digits only; else nothing.
pub(crate) fn age_value<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Delta> {
    digits(members(lines).next()?).map(Delta::of)
}

/// `corrected_initial_age`, in milliseconds.
///
/// `apparent_age = max(0, response_time - date_value)`, here in whole seconds, since Date has no finer ones;
/// `corrected_age_value = age_value + response_delay`;
/// `corrected_initial_age = max(apparent_age, corrected_age_value)`.
pub(crate) fn corrected_initial_age(
    date: i64,
    age_value: Option<Delta>,
    response_delay: i64,
    response_time: Moment,
) -> i64 {
    let apparent_age = response_time.unix().saturating_sub(date).max(0).saturating_mul(1000);
    let corrected_age_value = age_value.map_or(0, Delta::millis).saturating_add(response_delay);
    apparent_age.max(corrected_age_value)
}

/// `current_age`, in milliseconds: `corrected_initial_age + resident_time`.
pub(crate) fn current_age(head: Head<'_>, now: Moment) -> i64 {
    head.facts.initial_age.saturating_add(now.since(head.response_time))
}

/// The field value of Age.
pub(crate) fn age_field(freshness: &Freshness) -> HeaderValue {
    HeaderValue::from(freshness.age_seconds().unsigned_abs())
}

/// The fields of a response served from the store: those stored, exactly one Age, and, unless it was just
/// validated, without those that `no-cache="..."` names. Via and Cache-Status may be empty: [`crate::field::places`].
pub fn served_fields(head: Head<'_>, freshness: &Freshness, validated: bool) -> HeaderMap {
    let mut map = match head.facts.directives.no_cache.fields() {
        Some(names) if !validated => head.fields().to_map_where(ADDED, |name| !names.contains(name)),
        Some(_) | None => head.fields().to_served(Of::Stored, |_| true),
    };
    put_age(&mut map, freshness);
    map
}

/// The fields of a 304 made from a stored response: "Content-Location, Date, `ETag`, and Vary", "Cache-Control
/// and Expires", and Age. RFC 9110 section 15.4.5. Via and Cache-Status may be empty, as in [`served_fields`].
pub fn not_modified_fields(head: Head<'_>, freshness: &Freshness) -> HeaderMap {
    let mut map = head.fields().to_served(Of::NotModified, |name| in_not_modified(name, head));
    put_age(&mut map, freshness);
    map
}

fn in_not_modified(name: &HeaderName, head: Head<'_>) -> bool {
    // "a sender SHOULD NOT generate representation metadata other than the above listed fields unless said
    // metadata exists for the purpose of guiding cache updates (e.g., Last-Modified might be useful if the
    // response does not have an ETag field)"
    *name == header::ETAG
        || *name == header::DATE
        || *name == header::VARY
        || *name == header::EXPIRES
        || *name == header::CACHE_CONTROL
        || *name == header::CONTENT_LOCATION
        || *name == header::CDN_CACHE_CONTROL
        || (*name == header::LAST_MODIFIED && !head.fields().contains(&header::ETAG))
}

fn put_age(map: &mut HeaderMap, freshness: &Freshness) {
    // A map that is full keeps its fields: 32,768 of them don't come from an origin.
    drop(map.try_insert(header::AGE, age_field(freshness)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::cache_control::DELTA_MAX;
    use crate::policy::freshness;
    use crate::policy::testing::{World, headers, reply};
    use crate::policy::{Asked, RequestFacts, Verdict, verdict};

    /// Seconds that these lines of Age say.
    #[track_caller]
    fn check(lines: &[&str], expected: Option<i64>) {
        assert_eq!(
            age_value(lines.iter().map(|line| line.as_bytes())).and_then(Delta::seconds),
            expected,
            "{lines:?}"
        );
    }

    #[test]
    fn age_is_the_first_member_if_it_is_digits_only() {
        check(&["7200"], Some(7200));
        check(&["0, 7200"], Some(0));
        check(&["7200, 0"], Some(7200));
        check(&["7200", "0"], Some(7200));
        check(&["0", "7200"], Some(0));
        check(&["0, 0"], Some(0));
        check(&["2147483647"], Some(2_147_483_647));
        check(&["2147483648"], Some(DELTA_MAX));
        check(&["2147483649"], Some(DELTA_MAX));
        check(&["99999999999999999999999999"], Some(DELTA_MAX));
        for ignored in ["abc", "-7200", "+7200", "7200.0", "7200;foo=bar", "\"7200\"", "", "abc, 5"] {
            check(&[ignored], None);
        }
    }

    #[test]
    fn maps_that_are_kept_are_those_of_their_response() {
        let world = World::default();
        let lines = [("date", "@0"), ("etag", "\"a\""), ("x-a", "1"), ("cache-control", "max-age=9")];
        let head = world.stored(&[], 200, &lines);
        let freshness = freshness(head.view(), &world.terms(1));
        // From the third time on they are clones.
        for _ in 0..4 {
            let (whole, part) =
                (served_fields(head.view(), &freshness, false), not_modified_fields(head.view(), &freshness));
            assert_eq!((whole.len(), part.len()), (4 + 3, 3 + 3));
            assert!(whole.contains_key("x-a") && !part.contains_key("x-a"));
        }
    }

    #[test]
    fn current_age_comes_from_apparent_age_age_delay_and_residence() {
        // (Date, Age) in a response asked for at 0 s and received at 2 s; its age in ms at 5 s.
        for (date, age, expected) in [
            ("@2", "", 5_000),
            ("@0", "", 5_000),
            ("@-10", "", 15_000),
            ("@-10", "25", 30_000),
            ("@-100", "25", 105_000),
            ("@100", "15", 20_000),
            ("@2", "7200.0", 5_000),
        ] {
            let fields = headers(&[("date", date), ("age", age), ("cache-control", "max-age=9")]);
            let request = headers(&[]);
            let facts = RequestFacts::of(&http::Method::GET, &request, false);
            let mut reply = reply(2, 200, &fields);
            reply.request_time = crate::policy::testing::moment(0);
            let world = World::default();
            let Verdict::Store(head) = verdict(&facts, Asked::Plain, &reply, &world.terms(2)) else {
                panic!()
            };
            assert_eq!(freshness(head.view(), &world.terms(5)).current_age, expected, "{date} {age}");
        }
    }

    #[test]
    fn age_is_kept_finer_than_a_second_and_floored_when_sent() {
        let world = World::default();
        let head = world.stored(&[], 200, &[("date", "@0"), ("cache-control", "max-age=2")]);
        let mut terms = world.terms(1);
        terms.now = terms.now.plus(999);
        let found = freshness(head.view(), &terms);
        assert_eq!((found.current_age, found.fresh(), found.ttl()), (1_999, true, 0));
        assert_eq!(served_fields(head.view(), &found, false).get("age").unwrap(), "1");
        terms.now = terms.now.plus(1);
        assert!(!freshness(head.view(), &terms).fresh());
    }

    #[test]
    fn a_clock_set_back_or_a_suspended_machine_does_not_make_it_younger() {
        let world = World::default();
        let head = world.stored(&[], 200, &[("date", "@0"), ("cache-control", "max-age=60")]);
        let mut terms = world.terms(0);
        let (wall, mono) = (terms.now.wall, terms.now.mono);
        terms.now = Moment { wall: wall - 3_600_000, mono: mono + 61_000 };
        assert_eq!(freshness(head.view(), &terms).current_age, 61_000, "the wall clock was set back");
        terms.now = Moment { wall: wall + 3_600_000, mono: mono + 1_000 };
        assert_eq!(freshness(head.view(), &terms).current_age, 3_600_000, "the machine was suspended");
        terms.now = Moment { wall: wall - 1, mono: mono - 1 };
        assert_eq!(freshness(head.view(), &terms).current_age, 0);
    }

    #[test]
    fn a_hit_has_exactly_one_age_and_date_and_expires_as_stored() {
        let world = World::default();
        let expires = ("expires", "@30000");
        let head = world.stored(&[], 200, &[("date", "@0"), expires, ("age", "30"), ("age", "5")]);
        let found = served_fields(head.view(), &freshness(head.view(), &world.terms(3)), false);
        let places = [("via", ""), ("cache-status", "")];
        let sought = [("date", "@0"), expires, ("age", "33")];
        assert_eq!(found, headers(&[&sought[..], &places].concat()));
    }

    #[test]
    fn fields_named_by_no_cache_are_left_out_unless_just_validated() {
        let world = World::default();
        let cache_control = ("cache-control", "no-cache=\"A, b\"");
        let max_age = ("cache-control", "max-age=3600");
        let all = [cache_control, ("a", "1"), ("b", "2"), ("b", "2"), ("c", "3"), max_age, ("date", "@0")];
        let head = world.stored(&[], 200, &all);
        let freshness = freshness(head.view(), &world.terms(0));
        let expected = headers(&[cache_control, ("c", "3"), max_age, ("date", "@0"), ("age", "0")]);
        assert_eq!(served_fields(head.view(), &freshness, false), expected);
        assert_eq!(served_fields(head.view(), &freshness, true).len(), all.len() + 3);
    }

    #[test]
    fn a_304_carries_what_guides_caches_and_nothing_else() {
        let world = World::default();
        let kept = [
            ("etag", "\"a\""),
            ("date", "@0"),
            ("vary", "foo"),
            ("expires", "@30"),
            ("cache-control", "max-age=30"),
            ("content-location", "/b"),
        ];
        let mut all = kept.to_vec();
        all.extend([
            ("content-type", "text/html"),
            ("last-modified", "@-9"),
            ("x-a", "1"),
            ("content-length", "5"),
        ]);
        let head = world.stored(&[], 200, &all);
        let mut expected = kept.to_vec();
        // Places that the proxy fills.
        expected.extend([("age", "3"), ("via", ""), ("cache-status", "")]);
        let found = not_modified_fields(head.view(), &freshness(head.view(), &world.terms(3)));
        assert_eq!(found, headers(&expected));
    }

    #[test]
    fn a_304_without_an_entity_tag_carries_last_modified() {
        let world = World::default();
        let head = world.stored(
            &[],
            200,
            &[("date", "@0"), ("last-modified", "@-9"), ("cache-control", "max-age=9")],
        );
        assert!(
            not_modified_fields(head.view(), &freshness(head.view(), &world.terms(0)))
                .contains_key("last-modified")
        );
    }
}

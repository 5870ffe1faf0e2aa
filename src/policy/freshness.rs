//! Freshness lifetime, and freshness: RFC 9111 sections 4.2, 4.2.1 and 4.2.2.

use super::rules::Override;
use super::stored::Expires;
use super::targeted::Effective;
use super::{Head, ResponseFacts, Terms, age};
use crate::field::cache_control::Delta;

/// Where a freshness lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LifetimeSource {
    /// `s-maxage`.
    SMaxage,
    /// `max-age`.
    MaxAge,
    /// Expires less Date.
    Expires,
    /// `s-maxage` or `max-age` of a targeted field. RFC 9213.
    Targeted,
    /// A share of Date less Last-Modified. RFC 9111 section 4.2.2.
    Heuristic,
    /// A rule of the configuration, against what the origin said.
    Override,
    /// Explicit but invalid: stale.
    Invalid,
    /// Nothing says anything: 0.
    None,
}

impl LifetimeSource {
    /// One word for logs and `explain`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::SMaxage => "s-maxage",
            Self::MaxAge => "max-age",
            Self::Expires => "expires",
            Self::Targeted => "targeted",
            Self::Heuristic => "heuristic",
            Self::Override => "override",
            Self::Invalid => "invalid",
            Self::None => "none",
        }
    }

    /// Whether the origin gave it, validly or not.
    pub const fn is_explicit(self) -> bool {
        match self {
            Self::SMaxage | Self::MaxAge | Self::Expires | Self::Targeted | Self::Invalid => true,
            Self::Heuristic | Self::Override | Self::None => false,
        }
    }
}

/// How fresh a stored response is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Freshness lifetime. Milliseconds, not negative.
    pub lifetime: i64,
    /// Where that comes from.
    pub source: LifetimeSource,
    /// Current age. Milliseconds, not negative.
    pub current_age: i64,
}

impl Freshness {
    /// `response_is_fresh = (freshness_lifetime > current_age)`. RFC 9111 section 4.2.
    pub const fn fresh(&self) -> bool {
        self.lifetime > self.current_age
    }

    /// `ttl` of Cache-Status: seconds of freshness left, rounded down, negative when stale.
    pub const fn ttl(&self) -> i64 {
        self.left().div_euclid(1000)
    }

    /// Milliseconds of freshness left, negative when stale.
    pub const fn left(&self) -> i64 {
        self.lifetime.saturating_sub(self.current_age)
    }

    /// Milliseconds past its lifetime; 0 while fresh.
    pub const fn staleness(&self) -> i64 {
        if self.fresh() { 0 } else { self.current_age.saturating_sub(self.lifetime) }
    }

    /// Milliseconds until Age or `ttl` is another one, or it is no longer fresh. 0 when stale. RFC 9111 sections 4.2 and 5.1,
    /// RFC 9211 section 2.3.
    pub fn unchanged_for(&self) -> i64 {
        let age = 1000 - self.current_age.rem_euclid(1000);
        let ttl = self.left().rem_euclid(1000) + 1;
        age.min(ttl).min(self.left()).max(0)
    }

    /// Age as it is sent: whole seconds, rounded down.
    pub const fn age_seconds(&self) -> i64 {
        self.current_age.div_euclid(1000)
    }
}

/// The freshness of a stored response now, overrides of the matching rule included.
pub fn freshness(head: Head<'_>, terms: &Terms<'_>) -> Freshness {
    let (lifetime, source) = overridden(head, lifetime(&head.facts, terms), terms);
    Freshness { lifetime, source, current_age: age::current_age(head, terms.now) }
}

/// The lifetime that the origin's words give: s-maxage, else max-age, else Expires less Date, else a
/// heuristic.
pub(crate) fn lifetime(facts: &ResponseFacts, terms: &Terms<'_>) -> (i64, LifetimeSource) {
    let directives = &facts.directives;
    let explicit = match (directives.s_maxage, directives.max_age) {
        (Some(delta), _) => Some((delta, LifetimeSource::SMaxage)),
        (None, Some(delta)) => Some((delta, LifetimeSource::MaxAge)),
        (None, None) => None,
    };
    match (explicit, facts.expires()) {
        (Some((Delta::INVALID, _)), _) | (None, Expires::Invalid) => (0, LifetimeSource::Invalid),
        (Some((delta, source)), _) => (
            delta.millis(),
            if facts.source == Effective::Targeted { LifetimeSource::Targeted } else { source },
        ),
        (None, Expires::At(expires)) => {
            (expires.saturating_sub(facts.date).max(0).saturating_mul(1000), LifetimeSource::Expires)
        }
        (None, Expires::Absent) => heuristic(facts, terms),
    }
}

/// "a typical setting of this fraction might be 10%" of the time since Last-Modified.
fn heuristic(facts: &ResponseFacts, terms: &Terms<'_>) -> (i64, LifetimeSource) {
    let may = is_heuristically_cacheable(facts.received_status.as_u16()) || facts.directives.public;
    let Some(modified) = facts.last_modified().filter(|_| may && !facts.pragma_no_cache) else {
        return (0, LifetimeSource::None);
    };
    let since = facts.date.saturating_sub(modified).max(0).saturating_mul(1000);
    // A float turned to an integer saturates, and NaN becomes 0.
    let share = (since as f64 * terms.options.heuristic_fraction) as i64;
    (share.clamp(0, terms.options.heuristic_max.max(0)), LifetimeSource::Heuristic)
}

/// "Status codes that are defined as heuristically cacheable". RFC 9110 section 15.1, and 451 (RFC 7725).
pub(crate) const fn is_heuristically_cacheable(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 451 | 501)
}

/// The matching rule's override applied to a lifetime: an explicit breach that the operator asked for.
fn overridden(
    head: Head<'_>,
    (lifetime, source): (i64, LifetimeSource),
    terms: &Terms<'_>,
) -> (i64, LifetimeSource) {
    let Some(wanted) = override_of(head, terms) else { return (lifetime, source) };
    let bounded = if let Some(force) = wanted.force {
        force.max(0)
    } else {
        let least = wanted.min.map_or(lifetime, |min| lifetime.max(min));
        wanted.max.map_or(least, |max| least.min(max)).max(0)
    };
    if bounded == lifetime && wanted.force.is_none() {
        (lifetime, source)
    } else {
        (bounded, LifetimeSource::Override)
    }
}

/// The first override of the matching rule that is for this response.
pub(crate) fn override_of<'a>(head: Head<'_>, terms: &Terms<'a>) -> Option<&'a Override> {
    let rule = terms.rule?;
    rule.freshness.iter().find(|wanted| applies(wanted, head))
}

fn applies(wanted: &Override, head: Head<'_>) -> bool {
    let (status, facts) = (head.facts.received_status, &head.facts);
    // "empty: every code that would be stored".
    let would_be_stored = has_basis(facts) || wanted.status.contains(&status.as_u16());
    would_be_stored && wanted.applies(status, head.fields().bytes(&http::header::CONTENT_TYPE))
}

/// Whether section 3 gives a ground for storing: explicit freshness, `public`, or the status code.
pub(crate) fn has_basis(facts: &ResponseFacts) -> bool {
    is_heuristically_cacheable(facts.received_status.as_u16())
        || facts.directives.public
        || has_explicit(facts)
}

/// Whether the origin gave freshness information, valid or not.
pub(crate) fn has_explicit(facts: &ResponseFacts) -> bool {
    facts.directives.s_maxage.is_some()
        || facts.directives.max_age.is_some()
        || facts.expires() != Expires::Absent
}

/// Whether a rule forces a lifetime "even against no-store, private and no-cache".
pub(crate) fn is_forced(head: Head<'_>, terms: &Terms<'_>) -> bool {
    override_of(head, terms).is_some_and(|wanted| wanted.force.is_some())
}

/// Whether the response as a whole may be used only after validation.
pub(crate) fn needs_validation(head: Head<'_>, terms: &Terms<'_>) -> bool {
    head.facts.directives.no_cache.is_whole() && !is_forced(head, terms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rules::Rule;
    use crate::policy::testing::World;

    /// The lifetime in seconds and its source of a 200 with these fields, received at the start.
    #[track_caller]
    fn check(response: &[(&str, &str)], seconds: i64, source: LifetimeSource) {
        check_status(200, response, seconds, source);
    }

    #[track_caller]
    fn check_status(status: u16, response: &[(&str, &str)], seconds: i64, source: LifetimeSource) {
        check_in(&World::default(), status, response, seconds, source);
    }

    #[track_caller]
    fn check_in(world: &World, status: u16, response: &[(&str, &str)], seconds: i64, source: LifetimeSource) {
        // An entity tag makes it storable without freshness too.
        let mut fields = response.to_vec();
        fields.extend([("etag", "\"a\""), ("content-type", "text/html; charset=utf-8")]);
        let range: &[_] = if status == 206 { &[("range", "bytes=0-4")] } else { &[] };
        let head = world.stored(range, status, &fields);
        let found = freshness(head.view(), &world.terms(0));
        assert_eq!((found.lifetime, found.source), (seconds * 1000, source), "{status} {response:?}");
    }

    #[test]
    fn an_answer_changes_with_its_age_its_ttl_and_its_end() {
        let changes =
            |lifetime, current_age| Freshness { lifetime, source: MaxAge, current_age }.unchanged_for();
        for (lifetime, age, expected) in [
            (60_000, 1_500, 500),
            // A whole second is left once more, for this millisecond.
            (60_000, 2_000, 1),
            (60_000, 2_001, 999),
            (60_250, 2_001, 250),
            (60_000, 59_999, 1),
            (60_000, 60_000, 0),
            (60_000, 99_000, 0),
            (0, 0, 0),
            (i64::MAX, 0, 808),
        ] {
            assert_eq!(changes(lifetime, age), expected, "{lifetime} {age}");
            let told = |age| {
                let freshness = Freshness { lifetime, source: MaxAge, current_age: age };
                (freshness.age_seconds(), freshness.ttl(), freshness.fresh())
            };
            assert!((0..expected).all(|later| told(age + later) == told(age)), "{lifetime} {age}");
            assert!(expected == 0 || told(age + expected) != told(age), "{lifetime} {age}");
        }
    }

    use LifetimeSource::{Expires, Heuristic, Invalid, MaxAge, None, Override as Overridden, SMaxage};

    #[test]
    fn s_maxage_goes_over_max_age_over_expires_over_heuristic() {
        let (date, modified) = (("date", "@0"), ("last-modified", "@-1000"));
        check(&[date, modified], 100, Heuristic);
        check(&[date, modified, ("expires", "@50")], 50, Expires);
        check(&[date, modified, ("expires", "@50"), ("cache-control", "max-age=40")], 40, MaxAge);
        check(&[("cache-control", "max-age=3600, s-maxage=1")], 1, SMaxage);
        check(&[("cache-control", "s-maxage=1, max-age=3600")], 1, SMaxage);
        check(&[("cache-control", "max-age=3600"), ("cache-control", "s-maxage=1")], 1, SMaxage);
        check(&[("cache-control", "max-age=1, s-maxage=3600")], 3600, SMaxage);
        check(&[("cache-control", "max-age=0, s-maxage=3600"), ("expires", "@-10")], 3600, SMaxage);
        check(&[], 0, None);
    }

    #[test]
    fn max_age_beats_expires_whichever_way() {
        check(&[("cache-control", "max-age=0"), ("expires", "@3600"), ("date", "@0")], 0, MaxAge);
        check(&[("cache-control", "max-age=3600"), ("expires", "@-7200"), ("date", "@0")], 3600, MaxAge);
        check(&[("cache-control", "max-age=3600"), ("expires", "0"), ("date", "@0")], 3600, MaxAge);
    }

    #[test]
    fn an_invalid_or_conflicting_delta_is_stale_even_beside_expires() {
        for invalid in
            ["max-age=-3600", "max-age=3600.0", "max-age=a3600", "max-age =3600", "max-age=1800, max-age=1"]
        {
            check(&[("cache-control", invalid), ("expires", "@3600"), ("date", "@0")], 0, Invalid);
        }
        check(&[("cache-control", "s-maxage=x, max-age=3600")], 0, Invalid);
        check(&[("cache-control", "s-maxage=60, max-age=x")], 60, SMaxage);
        check(&[("cache-control", "max-age=99999999999")], 1 << 31, MaxAge);
    }

    #[test]
    fn expires_counts_from_date_and_is_stale_when_invalid_or_not_later() {
        check(&[("expires", "@3600"), ("date", "@0")], 3600, Expires);
        check(&[("expires", "@-3600"), ("date", "@0")], 0, Expires);
        check(&[("expires", "@0"), ("date", "@0")], 0, Expires);
        check(&[("expires", "@300"), ("date", "@400")], 0, Expires);
        check(&[("expires", "0"), ("date", "@0")], 0, Invalid);
        check(&[("expires", "-1"), ("date", "@0")], 0, Invalid);
        check(&[("expires", ""), ("date", "@0")], 0, Invalid);
        check(&[("expires", "@20"), ("date", "@10")], 10, Expires);
    }

    #[test]
    fn a_missing_or_invalid_date_is_the_time_of_receipt() {
        check(&[("expires", "@10")], 10, Expires);
        check(&[("expires", "@10"), ("date", "foo")], 10, Expires);
        check(&[("last-modified", "@-1000"), ("date", "foo")], 100, Heuristic);
    }

    #[test]
    fn differing_expires_lines_are_invalid_and_equal_ones_are_one() {
        check(&[("expires", "@10"), ("expires", "@11"), ("date", "@0")], 0, Invalid);
        check(&[("expires", "@10"), ("expires", "@10"), ("date", "@0")], 10, Expires);
    }

    #[test]
    fn the_heuristic_is_a_tenth_since_last_modified_and_capped() {
        let date = ("date", "@0");
        check(&[date, ("last-modified", "@-86400")], 8640, Heuristic);
        check(&[date, ("last-modified", "@-10")], 1, Heuristic);
        check(&[date, ("last-modified", "@-400000000")], 86_400, Heuristic);
        check(&[date, ("last-modified", "@5")], 0, Heuristic);
        check(&[date, ("last-modified", "foo")], 0, None);
        check(
            &[date, ("last-modified", "@-1000"), ("cache-control", "public, must-revalidate")],
            100,
            Heuristic,
        );
        let mut world = World::default();
        world.options.heuristic_fraction = f64::NAN;
        check_in(&world, 200, &[date, ("last-modified", "@-1000")], 0, Heuristic);
        world.options.heuristic_fraction = f64::INFINITY;
        check_in(&world, 200, &[date, ("last-modified", "@-1000")], 86_400, Heuristic);
        world.options.heuristic_fraction = -1.0;
        check_in(&world, 200, &[date, ("last-modified", "@-1000")], 0, Heuristic);
    }

    #[test]
    fn the_heuristic_is_for_the_listed_status_codes_or_public() {
        let fields = [("date", "@0"), ("last-modified", "@-1000")];
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501] {
            check_status(status, &fields, 100, Heuristic);
        }
        check_status(206, &[fields[0], fields[1], ("content-range", "bytes 0-4/10")], 100, Heuristic);
        check_status(599, &[fields[0], fields[1], ("cache-control", "public")], 100, Heuristic);
        for status in 200..600 {
            let listed = [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 451, 501].contains(&status);
            assert_eq!(is_heuristically_cacheable(status), listed, "{status}");
        }
    }

    #[test]
    fn pragma_in_a_response_forbids_the_heuristic_alone() {
        let fields = [("date", "@0"), ("last-modified", "@-1000"), ("pragma", "no-cache")];
        check(&fields, 0, None);
        check(&[fields[0], fields[1], ("pragma", "unrecognised-extension")], 100, Heuristic);
        check(&[fields[0], fields[1], fields[2], ("cache-control", "public")], 100, Heuristic);
        check(&[fields[2], ("cache-control", "max-age=3600")], 3600, MaxAge);
        check(&[fields[0], fields[2], ("expires", "@3600")], 3600, Expires);
    }

    #[test]
    fn fresh_means_that_the_lifetime_exceeds_the_age() {
        let freshness = |lifetime, current_age| Freshness { lifetime, source: MaxAge, current_age };
        assert!(freshness(1001, 1000).fresh());
        assert!(!freshness(1000, 1000).fresh());
        assert!(!freshness(0, 0).fresh());
        assert_eq!(freshness(5000, 1500).ttl(), 3);
        assert_eq!(freshness(1500, 5000).ttl(), -4);
        assert_eq!(freshness(5000, 1500).age_seconds(), 1);
        assert_eq!(freshness(1500, 5000).staleness(), 3500);
        assert_eq!(freshness(i64::MAX, 0).ttl(), i64::MAX / 1000);
        assert_eq!(freshness(0, i64::MAX).staleness(), i64::MAX);
    }

    fn with(wanted: Override) -> World {
        World::ruled(Rule { freshness: vec![wanted], ..Rule::default() })
    }

    #[test]
    fn a_rule_may_set_bounds_or_force_a_lifetime_and_says_so() {
        let max_age = |value| [("cache-control", value)];
        let min = with(Override { min: Some(60_000), ..Override::default() });
        check_in(&min, 200, &max_age("max-age=5"), 60, Overridden);
        check_in(&min, 200, &max_age("max-age=500"), 500, MaxAge);
        check_in(&min, 200, &[], 60, Overridden);
        let max = with(Override { max: Some(60_000), ..Override::default() });
        check_in(&max, 200, &max_age("max-age=500"), 60, Overridden);
        check_in(&max, 200, &max_age("max-age=5"), 5, MaxAge);
        let force = with(Override { force: Some(60_000), ..Override::default() });
        for value in ["max-age=5", "no-store", "private", "no-cache"] {
            check_in(&force, 200, &max_age(value), 60, Overridden);
        }
    }

    #[test]
    fn an_override_is_for_its_status_codes_and_media_types() {
        let wanted = Override { min: Some(60_000), status: vec![302], ..Override::default() };
        check_in(&with(wanted.clone()), 302, &[], 60, Overridden);
        check_in(&with(wanted), 200, &[], 0, None);
        let wanted =
            Override { min: Some(60_000), content_type: vec!["text/*".into()], ..Override::default() };
        check_in(&with(wanted), 200, &[], 60, Overridden);
        let wanted =
            Override { min: Some(60_000), content_type: vec!["image/*".into()], ..Override::default() };
        check_in(&with(wanted), 200, &[], 0, None);
    }
}

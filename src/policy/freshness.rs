//! Freshness lifetime, and freshness: RFC 9111 sections 4.2, 4.2.1 and 4.2.2.

use super::rules::Override;
use super::stored::Expires;
use super::targeted::Effective;
use super::{ResponseFacts, StoredHead, Terms, age};
use crate::field::cache_control::{Delta, NoCache};

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
    /// "response_is_fresh = (freshness_lifetime > current_age)". RFC 9111 section 4.2.
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

    /// Age as it is sent: whole seconds, rounded down.
    pub const fn age_seconds(&self) -> i64 {
        self.current_age.div_euclid(1000)
    }
}

/// The freshness of a stored response now, overrides of the matching rule included.
pub fn freshness(head: &StoredHead, terms: &Terms<'_>) -> Freshness {
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
    match (explicit, facts.expires) {
        (Some((Delta::Invalid, _)), _) | (None, Expires::Invalid) => (0, LifetimeSource::Invalid),
        (Some((delta, source)), _) => {
            (delta.millis(), if facts.source == Effective::Targeted { LifetimeSource::Targeted } else { source })
        }
        (None, Expires::At(expires)) => {
            (expires.saturating_sub(facts.date).max(0).saturating_mul(1000), LifetimeSource::Expires)
        }
        (None, Expires::Absent) => heuristic(facts, terms),
    }
}

/// "a typical setting of this fraction might be 10%" of the time since Last-Modified.
fn heuristic(facts: &ResponseFacts, terms: &Terms<'_>) -> (i64, LifetimeSource) {
    let may = is_heuristically_cacheable(facts.received_status.as_u16()) || facts.directives.public;
    let Some(modified) = facts.last_modified.filter(|_| may && !facts.pragma_no_cache) else {
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
    head: &StoredHead,
    (lifetime, source): (i64, LifetimeSource),
    terms: &Terms<'_>,
) -> (i64, LifetimeSource) {
    let Some(wanted) = override_of(head, terms) else { return (lifetime, source) };
    let bounded = match (wanted.force, source) {
        (Some(force), _) => force.max(0),
        (None, _) => {
            let least = wanted.min.map_or(lifetime, |min| lifetime.max(min));
            wanted.max.map_or(least, |max| least.min(max)).max(0)
        }
    };
    if bounded == lifetime && wanted.force.is_none() {
        (lifetime, source)
    } else {
        (bounded, LifetimeSource::Override)
    }
}

/// The first override of the matching rule that is for this response.
pub(crate) fn override_of<'a>(head: &StoredHead, terms: &Terms<'a>) -> Option<&'a Override> {
    let rule = terms.rule?;
    rule.freshness.iter().find(|wanted| applies(wanted, head))
}

fn applies(wanted: &Override, head: &StoredHead) -> bool {
    let (status, facts) = (head.facts.received_status, &head.facts);
    // "empty: every code that would be stored".
    let would_be_stored = has_basis(facts) || wanted.status.contains(&status.as_u16());
    would_be_stored && wanted.applies(status, head.fields.bytes(&http::header::CONTENT_TYPE))
}

/// Whether section 3 gives a ground for storing: explicit freshness, `public`, or the status code.
pub(crate) fn has_basis(facts: &ResponseFacts) -> bool {
    is_heuristically_cacheable(facts.received_status.as_u16()) || facts.directives.public || has_explicit(facts)
}

/// Whether the origin gave freshness information, valid or not.
pub(crate) fn has_explicit(facts: &ResponseFacts) -> bool {
    facts.directives.s_maxage.is_some() || facts.directives.max_age.is_some() || facts.expires != Expires::Absent
}

/// Whether a rule forces a lifetime "even against no-store, private and no-cache".
pub(crate) fn is_forced(head: &StoredHead, terms: &Terms<'_>) -> bool {
    override_of(head, terms).is_some_and(|wanted| wanted.force.is_some())
}

/// Whether the response as a whole may be used only after validation.
pub(crate) fn needs_validation(head: &StoredHead, terms: &Terms<'_>) -> bool {
    head.facts.directives.no_cache == NoCache::Whole && !is_forced(head, terms)
}

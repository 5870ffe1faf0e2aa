//! RFC 9111 as total, pure functions: facts and `now` go in, a decision comes out.
//!
//! No clock, I/O, lock, async or `Result` in here, and no freshness, selection, storability or invalidation
//! rule outside. What a request and a stored response are for caching is parsed once ([`RequestFacts`] when a
//! request arrives, [`ResponseFacts`] when a response is stored), so that a hit parses nothing.
//!
//! | RFC 9111 section | file | function | tests |
//! |---|---|---|---|
//! | 3 storing, 3.5 Authorization, 9110 9.3.3 POST | `storable` | [`verdict`], [`post_stores`] | `storable::tests` |
//! | 3.1 stored fields | `fields`, `stored` | [`Fields`], [`StoredHead`] | `fields::tests`, `storable::tests` |
//! | 3.3, 3.4 incomplete responses, 9110 14 ranges | `partial` | [`combine`], [`completed`], [`locate`] | `partial::tests` |
//! | 4 reuse, 5.2.1 request directives | `reuse` | [`plan`], [`selected`], [`asks_each_time`] | `reuse::tests` |
//! | 4.1 Vary | `selection` | [`Selecting`] | `selection::tests` |
//! | 4.2 freshness, 4.2.2 heuristic | `freshness` | [`freshness()`] | `freshness::tests` |
//! | 4.2.3 age | `age` | [`served_fields`] | `age::tests` |
//! | 4.2.4 stale, RFC 5861 | `stale` | [`stale_on_failure`], [`stale_on_status`], [`forbids_stale`] | `stale::tests` |
//! | 4.3.1, 4.3.3 validation | `validation` | [`conditional`], [`ask_for_the_whole`], [`verdict`], [`outdates`], [`variant_by_etag`] | `validation::tests` |
//! | 4.3.2 client conditions, 9110 13 | `precondition` | [`answer`] | `precondition::tests` |
//! | 4.3.4 freshening, 4.3.5 HEAD | `freshen` | [`verdict`], [`head_effect`] | `freshen::tests` |
//! | 4.4 invalidation | `invalidation` | [`invalidates`] | `invalidation::tests` |
//! | 5.2 Cache-Control | `crate::field::cache_control` | | `field::cache_control::tests` |
//! | RFC 9213 targeted fields | `targeted` | [`StoredHead`] | `targeted::tests` |
//! | all of it, for a person | `explain` | [`explain::decision`], [`explain::judgement`] | `explain::tests` |
//!
//! The requirements, each with the tests that show it, are the table in `requirements` (a test of the table
//! fails when one has none); what holds for every input is in `properties`.

pub mod explain;
pub mod reason;
pub mod rules;

mod age;
mod fields;
mod freshen;
mod freshness;
mod invalidation;
mod partial;
mod precondition;
mod request;
mod reuse;
mod selection;
mod stale;
mod storable;
mod stored;
mod targeted;
mod validation;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod requirements;
#[cfg(test)]
pub(crate) mod testing;

use std::ops::Range;

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::clock::Moment;
use crate::field::status::Forward;

pub use age::{not_modified_fields, served_fields};
pub use fields::{FieldLines, Fields};
pub use freshen::head_effect;
pub use freshness::{Freshness, LifetimeSource, freshness};
pub use invalidation::{invalidates, is_safe};
pub use partial::{Combined, Piece, Source, combine, completed, locate};
pub use precondition::answer;
pub use reason::Reason;
pub use request::RequestFacts;
pub use reuse::{asks_each_time, plan, selected, unchanged_for};
pub use selection::{Selected, Selecting};
pub use stale::{forbids_stale, stale_on_failure, stale_on_status};
pub use storable::post_stores;
pub use stored::{Candidate, Completeness, Expires, Head, Metadata, Parts, ResponseFacts, StoredHead};
pub use targeted::Effective;
pub use validation::{ask_for_the_whole, conditional, has_validator, outdates, variant_by_etag, verdict};

/// The figures that policy needs: set by configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `cache.heuristic_fraction`: fraction of Date - Last-Modified. Default 0.1.
    pub heuristic_fraction: f64,
    /// `cache.heuristic_max`. Milliseconds. Default 24 h.
    pub heuristic_max: i64,
    /// `cache.stale_if_error`: how long past its lifetime a response may answer when the connection failed
    /// and no directive speaks. Milliseconds. Default 1 h.
    pub stale_if_error: i64,
    /// `cache.targeted_fields`, lower case names, most specific first. RFC 9213. Default empty.
    pub targeted_fields: Vec<http::HeaderName>,
    /// `cache.set_cookie`.
    pub set_cookie: SetCookie,
    /// `cache.s_maxage_allows_stale_while_revalidate`. Default false (RFC 9111 5.2.2.10).
    pub s_maxage_allows_stale_while_revalidate: bool,
    /// `cache.max_ranges`: ranges in one request that are honoured. Default 32.
    pub max_ranges: usize,
    /// `cache.close_delimited`: whether a response that ends with the connection may be stored, although a
    /// broken connection can't be told from its end. Default true: RFC 9112 section 8 calls it complete.
    pub store_close_delimited: bool,
    /// `cache.normalize_accept_language`: whether the order of Accept-Language is ignored when variants are
    /// selected, and Content-Language consulted. Default true.
    pub normalize_accept_language: bool,
}

/// What a response with Set-Cookie needs to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetCookie {
    /// Stored only with `public` or `s-maxage`.
    Strict,
    /// Stored as RFC 9111 says.
    Rfc9111,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heuristic_fraction: 0.1,
            heuristic_max: 24 * 3_600_000,
            stale_if_error: 3_600_000,
            targeted_fields: Vec::new(),
            set_cookie: SetCookie::Strict,
            s_maxage_allows_stale_while_revalidate: false,
            max_ranges: 32,
            store_close_delimited: true,
            normalize_accept_language: true,
        }
    }
}

/// What every decision is made under.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The figures of the configuration.
    pub options: &'a Options,
    /// The rule whose pattern matches the target, if one does.
    pub rule: Option<&'a rules::Rule>,
    /// Now, on both clocks.
    pub now: Moment,
}

impl Terms<'_> {
    /// What a response with Set-Cookie needs: the rule's word over the general one.
    pub(crate) fn set_cookie(&self) -> SetCookie {
        self.rule.and_then(|rule| rule.set_cookie).unwrap_or(self.options.set_cookie)
    }
}

/// What to do with a request. The candidate that `index` names is one of those given to [`plan`].
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Straight through as it came; nothing is looked up, shared or stored.
    Bypass {
        /// `fwd` of Cache-Status.
        forward: Forward,
        /// Why.
        reason: Reason,
    },
    /// To the origin as it came (and with `etags`, where there are any).
    Fetch {
        /// `fwd` of Cache-Status.
        forward: Forward,
        /// Why a stored response was not used, where there is one.
        reason: Option<Reason>,
        /// Whether the response may be stored at all: not for HEAD. [`verdict`] has the last word.
        store: bool,
        /// If-None-Match to add: the entity tags of the URI's other variants. Only when the client sent no
        /// condition of its own; a 304 then names one of them ([`variant_by_etag`]).
        etags: Option<HeaderValue>,
    },
    /// Answer from the stored response: [`answer`], then [`served_fields`].
    Serve {
        /// Which candidate.
        index: usize,
        /// Its freshness, for Age and `ttl`.
        freshness: Freshness,
        /// `MaxStale`, `StaleWhileRevalidate` or `Override`, where that is what allowed it.
        reason: Option<Reason>,
    },
    /// Answer from the stale stored response, and validate it in the background. RFC 5861 section 3.
    ServeAndRefresh {
        /// Which candidate.
        index: usize,
        /// Its freshness, for Age and `ttl`.
        freshness: Freshness,
    },
    /// Validate the stored response at the origin: [`conditional`] on the outgoing fields, then [`verdict`]
    /// with [`Asked::Validation`]. A HEAD goes on as it is, and [`head_effect`] does the rest. Without a validator this is an unconditional GET, and the stored response
    /// is still the fallback of [`stale_on_failure`].
    Revalidate {
        /// Which candidate.
        index: usize,
        /// `fwd` of Cache-Status.
        forward: Forward,
        /// Why it can't be used as it is.
        reason: Reason,
    },
    /// A partial response is stored and the whole is asked for: ask the origin for the rest, with these
    /// fields in place of the client's Range and If-Range, then [`verdict`] with [`Asked::Rest`].
    /// RFC 9111 section 3.3.
    Complete {
        /// Which candidate.
        index: usize,
        /// Range to send.
        range: HeaderValue,
        /// If-Range to send: the strong entity tag of the stored response, where it has one.
        if_range: Option<HeaderValue>,
    },
    /// 504: the request says only-if-cached.
    Unsatisfiable {
        /// Why nothing stored answers it.
        reason: Reason,
    },
}

/// What the request that went to the origin asked beyond the client's own words.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// Nothing: the client's request as it came.
    Plain,
    /// Which of the URI's other variants it is ([`Plan::Fetch`]'s `etags`), and a 304 named none of them
    /// ([`variant_by_etag`] finds the one it names: then [`Asked::Validation`]).
    Variants,
    /// Whether this stored response is still the one ([`conditional`], or `etags` and [`variant_by_etag`]).
    Validation(Head<'a>),
    /// The rest of this partial stored response ([`Plan::Complete`]).
    Rest(Head<'a>),
}

/// A response head from the origin, hop-by-hop fields already dropped.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Its status code.
    pub status: StatusCode,
    /// Its end-to-end fields as received.
    pub headers: &'a HeaderMap,
    /// When the request that it answers was sent.
    pub request_time: Moment,
    /// When it was received.
    pub response_time: Moment,
    /// Whether the message's framing was unambiguous. RFC 9112 section 6.3.
    pub framing_ok: bool,
    /// Whether its body ends with the connection.
    pub close_delimited: bool,
    /// Bytes of its body, where the framing says so beforehand.
    pub content_length: Option<u64>,
}

/// What to do with a response head from the origin.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Send it, and store it under this head. With [`Completeness::Partial`] it is a 206: when its body has
    /// come whole (exactly [`Head::expected_length`] bytes, else drop it), [`combine`] it with a stored
    /// partial response if that gives something, else store it by itself.
    Store(Box<StoredHead>),
    /// A 206 for [`Plan::Complete`]: with the stored response that was asked for it is the whole. To be filled as
    /// such, each piece in its order, and answered from meanwhile.
    Combine(Combined),
    /// 304 for our validator: this head replaces the stored one, over the same body; then answer the
    /// client's own conditions and range from it ([`answer`]).
    /// Where its `selecting` differs from the stored one's, both stay, as two variants.
    Freshen {
        /// The updated head.
        head: Box<StoredHead>,
        /// Fields of the 304 for this requester alone (Set-Cookie under the strict default); mostly empty.
        only_here: HeaderMap,
    },
    /// 304 for our validator, but what it says may not be stored: answer this client alone from this head
    /// and the stored body.
    FreshenOnce {
        /// The updated head, with all fields of the 304.
        head: Box<StoredHead>,
        /// What forbids storing it.
        reason: Reason,
        /// Whether the stored response goes: a 304 with no-store or private takes it along; one that only
        /// this requester's Authorization keeps out leaves it as it was.
        remove: bool,
    },
    /// Answer with the stale stored response that was to be validated.
    ServeStale(Reason),
    /// Send the request again without our conditions or range, at most once: the 304 was for something else,
    /// or the 206 can't be combined. Then [`Asked::Plain`].
    Refetch,
    /// Send it to the requester; nothing is stored, nobody else gets it.
    PassThrough(Reason),
    /// It answers nothing that was asked, and reaches nobody: 502 with `http_protocol_error`.
    Refuse(Reason),
}

/// How a stored response answers a request that [`plan`] let it answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With its status and whole body (no body for HEAD).
    Whole,
    /// 304 with [`not_modified_fields`].
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 206 with these ranges of the representation, in the order asked, none empty, none overlapping:
    /// one by itself, more as multipart/byteranges. [`locate`] finds them in the stored body.
    Ranges(Vec<Range<u64>>),
    /// 416 with `Content-Range: bytes */length`.
    RangeNotSatisfiable,
    /// The partial stored response does not hold what is asked for: to the origin. [`plan`] never serves
    /// such a one; a response collapsed on may be it.
    Missing,
}

/// What a response to HEAD does to the stored response to GET. RFC 9111 section 4.3.5.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadEffect {
    /// Nothing.
    None,
    /// This head replaces the stored one, over the same body.
    Freshen(Box<StoredHead>),
    /// The stored response is stale from now on.
    MarkStale,
}

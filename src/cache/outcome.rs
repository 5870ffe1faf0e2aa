//! What happened in one exchange, in the terms of RFC 9211 and RFC 9209.
use crate::field::status::{Forward, ProxyError};
use crate::policy::{Freshness, Reason};
use http::StatusCode;
use std::net::SocketAddr;

macro_rules! results {
    ($($name:ident = $token:literal, $says:literal;)*) => {
        /// The class in which an exchange counts: exactly one, the first that applies.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CacheResult { $(#[doc = $says] $name,)* }

        impl CacheResult {
            /// Every result, in the order in which the first that applies is taken.
            pub const ALL: [Self; 11] = [$(Self::$name,)*];

            /// The metrics' label and the log's word.
            pub const fn token(self) -> &'static str { match self { $(Self::$name => $token,)* } }
        }
    };
}

results! {
    Local = "local", "Answered by the proxy itself: its own pages, OPTIONS and TRACE that end here.";
    Invalid = "invalid", "Malformed, or too large.";
    Denied = "denied", "A rule of access forbids it.";
    Tunnel = "tunnel", "CONNECT, or an upgrade that was granted.";
    Error = "error", "The way to the origin, or the origin itself, failed.";
    Bypass = "bypass", "The cache took no part.";
    Collapsed = "collapsed", "Answered by another request's fetch.";
    Hit = "hit", "Answered from the store, fresh.";
    Stale = "stale", "Answered from the store, stale by some leave.";
    Revalidated = "revalidated", "Answered from the store, after the origin validated it.";
    Miss = "miss", "Answered by the origin.";
}

impl CacheResult {
    /// Those that cost no whole answer of an origin: a revalidated one was asked for, but its body did not travel;
    /// a collapsed one travelled once for several. A hit ratio is their share in them and [`Self::FROM_ORIGIN`].
    pub const FROM_CACHE: [Self; 4] = [Self::Hit, Self::Stale, Self::Revalidated, Self::Collapsed];
    /// Those that an origin answered.
    pub const FROM_ORIGIN: [Self; 2] = [Self::Miss, Self::Bypass];
}

/// What the cache did for one request: what Cache-Status, the log, the metrics and `explain` tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The class in which it counts.
    pub result: CacheResult,
    /// RFC 9211 `hit`.
    pub hit: bool,
    /// RFC 9211 `fwd`.
    pub forward: Option<Forward>,
    /// RFC 9211 `fwd-status`, where it differs from the status sent.
    pub forward_status: Option<StatusCode>,
    /// RFC 9211 `stored`.
    pub stored: bool,
    /// RFC 9211 `collapsed`.
    pub collapsed: bool,
    /// RFC 9211 `ttl`: seconds of freshness left, negative when stale.
    pub ttl: Option<i64>,
    /// RFC 9211 `detail`.
    pub detail: Option<Reason>,
    /// RFC 9209 `error`.
    pub error: Option<ProxyError>,
    /// Who answered upstream.
    pub upstream: Option<SocketAddr>,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            result: CacheResult::Local,
            hit: false,
            forward: None,
            forward_status: None,
            stored: false,
            collapsed: false,
            ttl: None,
            detail: None,
            error: None,
            upstream: None,
        }
    }
}

/// Answered from the store: fresh, or stale by some leave.
pub(crate) fn hit(freshness: &Freshness, reason: Option<Reason>) -> Outcome {
    let result = if freshness.fresh() { CacheResult::Hit } else { CacheResult::Stale };
    Outcome { result, hit: true, ttl: Some(freshness.ttl()), detail: reason, ..Outcome::default() }
}

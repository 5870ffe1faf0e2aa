//! What happened in one exchange, in the terms of RFC 9211 and RFC 9209.
use crate::field::status::{Forward, ProxyError};
use crate::policy::{Freshness, Reason};
use http::StatusCode;
use std::net::SocketAddr;

/// The class in which an exchange counts: exactly one, the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheResult {
    Local,
    Invalid,
    Denied,
    Tunnel,
    Error,
    Bypass,
    Collapsed,
    Hit,
    Stale,
    Revalidated,
    Miss,
}

impl CacheResult {
    /// Every result.
    pub const ALL: [Self; 11] = [
        Self::Local,
        Self::Invalid,
        Self::Denied,
        Self::Tunnel,
        Self::Error,
        Self::Bypass,
        Self::Collapsed,
        Self::Hit,
        Self::Stale,
        Self::Revalidated,
        Self::Miss,
    ];
    /// The metrics' label and the log's word.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Tunnel => "tunnel",
            Self::Error => "error",
            Self::Bypass => "bypass",
            Self::Collapsed => "collapsed",
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
        }
    }
}

/// What the cache did for one request: what Cache-Status, the log, the metrics and `explain` tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
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

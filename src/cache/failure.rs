//! Why the cache has no response to give. Rendered by `proxy::refusal` alone.

use crate::policy::{self, Head, Reason};
use crate::upstream::UpstreamError;
use std::net::SocketAddr;
use std::sync::Arc;

/// No response, and why.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The way to the origin, or the origin itself, failed.
    #[error(transparent)]
    Upstream(Arc<UpstreamError>),
    /// The stored response may not be used stale, and the origin can't be reached: 504 (RFC 9111 section 5.2.2.2).
    #[error(
        "the stored response is stale, may not be used without validation, and the origin could not be reached"
    )]
    MustRevalidate(#[source] Arc<UpstreamError>),
    /// What the origin sent answers nothing that was asked: 502.
    #[error("the origin's response does not answer the request")]
    Refused {
        /// In which respect.
        reason: Reason,
        /// Who sent it.
        address: SocketAddr,
    },
    /// `only-if-cached`, and nothing stored answers: 504 (RFC 9111 section 5.2.1.7).
    #[error("the request says only-if-cached, and nothing stored answers it")]
    OnlyIfCached(Reason),
}

impl Failure {
    /// Whether the way to the origin, or the origin itself, failed.
    pub(crate) fn is_upstreams(&self) -> bool {
        matches!(self, Self::Upstream(_) | Self::MustRevalidate(_))
    }

    /// The failure of a validation whose stored response may not answer.
    pub(crate) fn of(error: UpstreamError, stored: Head<'_>) -> Self {
        let error = Arc::new(error);
        if policy::forbids_stale(stored) { Self::MustRevalidate(error) } else { Self::Upstream(error) }
    }
}

//! Why a request gets no response from an origin or the store, and the answer it gets instead.
//!
//! The only place that builds error responses. Each says in words what failed and what to do, in a form that
//! fits the client's Accept; `Proxy-Status` says it in the terms of RFC 9209.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::net::SocketAddr;

use super::exchange::{Answer, Exchange};
use crate::access::authentication::{self, Unknown, Why};
use crate::access::{self, Denied, RuleName};
use crate::body::Body;
use crate::cache::{CacheResult, Failure, Outcome};
use crate::field::status::{ProxyError, ProxyStatus};
use crate::field::target::TargetError;
use crate::pages::{self, ErrorPage};
use crate::policy::Reason;
use crate::telemetry::Limit;
use crate::upstream::UpstreamError;

/// Why not.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The request breaks RFC 9112.
    Malformed(String),
    /// The target is too long, as far as it has come. Bytes.
    TargetTooLong { found: usize, limit: usize },
    /// The head is too large. Bytes.
    HeadTooLarge { limit: usize },
    /// The head has too many fields.
    TooManyFields { limit: usize },
    /// The client asks more often than it may. In a second; seconds until the next is taken.
    TooManyRequests { limit: usize, after: u64 },
    /// The target is none.
    Target(TargetError),
    /// A rule of access forbids it.
    Denied(Denied),
    /// The client has to say who it is, and has not.
    Unauthenticated(Unknown),
    /// It has been here before.
    Loop,
    /// TRACE goes on only when enabled.
    TraceIsOff,
    /// An upgrade that the origin answered otherwise than with what was asked for.
    UpgradeFailed { what: String, address: SocketAddr },
    /// The cache has no response.
    Failed(Failure),
    /// The way to the origin failed, for a tunnel or an upgrade.
    Upstream(UpstreamError),
}

impl From<TargetError> for Refusal {
    fn from(error: TargetError) -> Self {
        Self::Target(error)
    }
}

/// What an answer is made of.
pub(crate) struct Story {
    pub(crate) status: StatusCode,
    result: CacheResult,
    pub(crate) error: Option<ProxyError>,
    pub(crate) says: String,
    pub(crate) todo: String,
    /// The connection ends with this answer: what follows on it can't be told from the request.
    close: bool,
    pub(crate) detail: Option<Reason>,
}

impl Refusal {
    /// The answer, sent in the name of `exchange`.
    pub(crate) fn answer(self, mut exchange: Exchange, accept: Option<&HeaderValue>, unread: bool) -> Answer {
        let denied = match &self {
            Self::Denied(denied) => Some(denied.rule.clone()),
            Self::Unauthenticated(Unknown { why: Why::TooMany, .. }) => {
                Some(RuleName::Own(authentication::LIMIT_RULE))
            }
            Self::Unauthenticated(_) => Some(RuleName::Own(authentication::RULE)),
            Self::Upstream(error) => error.denied.as_ref().map(|d| d.rule.clone()),
            Self::Failed(Failure::Upstream(error) | Failure::MustRevalidate(error)) => {
                error.denied.as_ref().map(|d| d.rule.clone())
            }
            _ => None,
        };
        if let Some(rule) = &denied {
            exchange.refused_by(rule.clone());
        }
        match &self {
            Self::TargetTooLong { .. } => exchange.is_over(Limit::RequestLine),
            Self::HeadTooLarge { .. } => exchange.is_over(Limit::RequestHead),
            Self::TooManyFields { .. } => exchange.is_over(Limit::RequestFields),
            Self::TooManyRequests { .. } => exchange.is_over(Limit::RequestsPerClient),
            _ => {}
        }
        let allow = match &self {
            Self::TraceIsOff => {
                Some(HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, PATCH"))
            }
            _ => None,
        };
        let after = match &self {
            Self::TooManyRequests { after, .. } => Some(HeaderValue::from(*after)),
            Self::Unauthenticated(Unknown { why: Why::TooMany, .. }) => Some(HeaderValue::from_static("1")),
            _ => None,
        };
        let challenges = match &self {
            Self::Unauthenticated(unknown) => unknown.challenges.clone(),
            _ => Vec::new(),
        };
        let upstream = self.upstream();
        let story = self.story();
        let page = ErrorPage {
            error: story.error,
            rule: denied.as_deref(),
            ..ErrorPage::new(story.status, story.says.as_str(), story.todo.as_str(), exchange.id())
        };
        let (mut head, bytes) = pages::error(&page, accept).into_parts();
        ProxyStatus {
            error: story.error,
            details: Some(&story.says),
            rule: denied.as_deref(),
            ..ProxyStatus::default()
        }
        .append(&mut head.headers);
        if let Some(after) = after {
            head.headers.insert(header::RETRY_AFTER, after);
        }
        if let Some(allow) = allow {
            head.headers.insert(header::ALLOW, allow);
        }
        for challenge in challenges {
            head.headers.append(header::PROXY_AUTHENTICATE, challenge);
        }
        if story.close || unread {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            exchange.link().linger();
        }
        let outcome = Outcome {
            result: story.result,
            error: story.error,
            detail: story.detail,
            upstream,
            ..Outcome::default()
        };
        exchange.send(head, Body::full(bytes), outcome)
    }

    /// Who was dialled, where it came to that.
    fn upstream(&self) -> Option<SocketAddr> {
        match self {
            Self::Upstream(error) => dialled(error),
            Self::Failed(Failure::Upstream(error) | Failure::MustRevalidate(error)) => dialled(error),
            Self::Failed(Failure::Refused { address, .. }) | Self::UpgradeFailed { address, .. } => {
                Some(*address)
            }
            Self::Failed(Failure::OnlyIfCached(_))
            | Self::Malformed(_)
            | Self::TargetTooLong { .. }
            | Self::HeadTooLarge { .. }
            | Self::TooManyFields { .. }
            | Self::TooManyRequests { .. }
            | Self::Target(_)
            | Self::Denied(_)
            | Self::Unauthenticated(_)
            | Self::Loop
            | Self::TraceIsOff => None,
        }
    }

    pub(crate) fn story(self) -> Story {
        match self {
            Self::Malformed(what) => invalid(StatusCode::BAD_REQUEST, what),
            Self::TargetTooLong { found, limit } => invalid(
                StatusCode::URI_TOO_LONG,
                format!(
                    "The request line has {found} bytes or more, and at most {limit} are taken (limits.request_line)."
                ),
            ),
            Self::HeadTooLarge { limit } => invalid(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!("The request's head has more than {limit} bytes of fields (limits.request_head)."),
            ),
            Self::TooManyFields { limit } => invalid(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!("The request's head has more than {limit} fields (limits.request_fields)."),
            ),
            Self::TooManyRequests { limit, after } => Story {
                status: StatusCode::TOO_MANY_REQUESTS,
                result: CacheResult::Denied,
                error: Some(ProxyError::HttpRequestDenied),
                says: format!(
                    "This client asks more than {limit} times in a second (limits.requests_per_client)."
                ),
                todo: format!("Ask again in {after} s."),
                close: false,
                detail: None,
            },
            Self::Target(error) => invalid(StatusCode::BAD_REQUEST, error.to_string()),
            // A client may ask again for a tunnel to elsewhere.
            Self::Denied(denied) => {
                Story { close: denied.rule != RuleName::Own(access::CONNECT_PORT), ..refused(&denied) }
            }
            Self::Unauthenticated(unknown) => unauthenticated(unknown.why),
            Self::Loop => Story {
                status: StatusCode::LOOP_DETECTED,
                result: CacheResult::Denied,
                error: Some(ProxyError::ProxyLoopDetected),
                says: "The request has passed this proxy before.".into(),
                todo: "Look for a proxy setting, a parent or a destination that points back at this proxy."
                    .into(),
                close: true,
                detail: None,
            },
            Self::TraceIsOff => Story {
                status: StatusCode::METHOD_NOT_ALLOWED,
                result: CacheResult::Denied,
                error: Some(ProxyError::HttpRequestDenied),
                says: "TRACE is not forwarded.".into(),
                todo: "Set access.trace = true to forward it.".into(),
                close: true,
                detail: None,
            },
            Self::UpgradeFailed { what, .. } => Story {
                status: StatusCode::BAD_GATEWAY,
                result: CacheResult::Error,
                error: Some(ProxyError::HttpUpgradeFailed),
                says: what,
                todo: "The origin does not speak the protocol that it agreed to.".into(),
                close: true,
                detail: None,
            },
            Self::Failed(Failure::OnlyIfCached(reason)) => Story {
                status: StatusCode::GATEWAY_TIMEOUT,
                result: CacheResult::Miss,
                error: None,
                says: "The request says only-if-cached, and nothing stored answers it.".into(),
                todo: "Leave only-if-cached out to have it fetched.".into(),
                close: false,
                detail: Some(reason),
            },
            Self::Failed(Failure::Refused { reason, .. }) => Story {
                status: StatusCode::BAD_GATEWAY,
                result: CacheResult::Error,
                error: Some(ProxyError::HttpProtocolError),
                says: format!("The origin's answer does not answer what was asked: {}", reason.says()),
                todo: "The fault is the origin's.".into(),
                close: false,
                detail: Some(reason),
            },
            Self::Failed(Failure::MustRevalidate(error)) => Story {
                status: StatusCode::GATEWAY_TIMEOUT,
                detail: Some(Reason::Expired),
                says: format!(
                    "The stored response must be validated before it is used, and the origin could not be reached: {error}"
                ),
                ..failed(&error)
            },
            Self::Failed(Failure::Upstream(error)) => failed(&error),
            Self::Upstream(error) => failed(&error),
        }
    }
}

fn invalid(status: StatusCode, says: String) -> Story {
    Story {
        status,
        result: CacheResult::Invalid,
        error: Some(ProxyError::HttpRequestError),
        says,
        todo: "The request was not forwarded. Correct it, or the client that sent it.".into(),
        close: true,
        detail: None,
    }
}

fn refused(denied: &Denied) -> Story {
    Story {
        status: StatusCode::FORBIDDEN,
        result: CacheResult::Denied,
        error: Some(ProxyError::HttpRequestDenied),
        says: format!("Rule {}: {}", denied.rule, denied.what),
        todo: format!("To allow it: {}", denied.allow),
        close: false,
        detail: None,
    }
}

fn unauthenticated(why: Why) -> Story {
    let says = match why {
        Why::Silent => "This proxy serves only who says who it is, and the request does not.".into(),
        Why::Malformed(what) => format!("Proxy-Authorization is not what was asked for: {what}."),
        Why::Wrong => "The user or the password for this proxy is wrong.".into(),
        Why::Stale => "The nonce has aged or was used before; the credentials are right.".into(),
        Why::TooMany => "Too many wrong passwords came from this address.".into(),
    };
    Story {
        status: if why == Why::TooMany {
            StatusCode::TOO_MANY_REQUESTS
        } else {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED
        },
        result: CacheResult::Denied,
        error: Some(ProxyError::HttpRequestDenied),
        says,
        todo: match why {
            Why::TooMany => "Wait a second, and ask with the right one.".into(),
            Why::Silent | Why::Malformed(_) | Why::Wrong | Why::Stale => {
                "Give the client a user and a password for this proxy.".into()
            }
        },
        close: false,
        detail: None,
    }
}

fn failed(error: &UpstreamError) -> Story {
    if let Some(denied) = &error.denied {
        return Story { error: Some(error.kind), ..refused(denied) };
    }
    // The one failure on the way to the origin that is the client's: content that is malformed, or does not come.
    let result =
        if error.kind == ProxyError::HttpRequestError { CacheResult::Invalid } else { CacheResult::Error };
    Story {
        status: error.kind.status(),
        result,
        error: Some(error.kind),
        says: error.to_string(),
        todo: error.kind.todo().into(),
        close: false,
        detail: None,
    }
}

/// An address that is forbidden is not dialled.
fn dialled(error: &UpstreamError) -> Option<SocketAddr> {
    error.address.filter(|_| error.denied.is_none())
}

/// The `Accept` of a request; several lines are one list. RFC 9110 section 5.3.
pub(crate) fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(header::ACCEPT).iter();
    let first = lines.next()?;
    let mut joined = Vec::new();
    for line in lines {
        if joined.is_empty() {
            joined.extend_from_slice(first.as_bytes());
        }
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes());
    }
    if joined.is_empty() {
        Some(first.clone())
    } else {
        HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)).ok()
    }
}

//! One record an exchange: all that the access log and the metrics are told.

use crate::access::Decision;
use crate::cache::outcome::Outcome;
use crate::clock::Moment;
use crate::field::target::Target;
use http::header::HeaderValue;
use http::{Method, StatusCode, Version};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Everything that the access log and the metrics tell of one exchange. Sent when the response's body ended.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the request's head had arrived.
    pub at: Moment,
    /// Unique in the process; written as 16 hex digits, also on error pages.
    pub id: u64,
    /// The other end of the client's connection.
    pub client: SocketAddr,
    /// As received.
    pub method: Method,
    /// The protocol that the client spoke.
    pub version: Version,
    /// What was asked for.
    pub url: Url,
    /// What was sent; `None` when the client left before a head was sent.
    pub status: Option<StatusCode>,
    /// Bytes of the request's body (tunnel: from the client).
    pub bytes_in: u64,
    /// Bytes of the response's body (tunnel: to the client).
    pub bytes_out: u64,
    /// From the request's head to the end of the response's body.
    pub duration: Duration,
    /// Until the response's head was handed over to be sent.
    pub first_byte: Option<Duration>,
    /// What the cache and the way to the origin did.
    pub outcome: Outcome,
    /// Whether the whole response was sent.
    pub complete: bool,
    /// Whether it was answered as the same request had been within the second, to the byte.
    pub repeated: bool,
    /// The user that the client has proved to be, where it had to.
    pub user: Option<Arc<str>>,
    /// The rule of access that decided, where one did; what is allowed by default has none.
    pub rule: Option<Decision>,
    /// The limit that the request was over, where it was.
    pub limit: Option<Limit>,
    /// The response's Content-Type: Squid's format shows it, `None` with others.
    pub content_type: Option<HeaderValue>,
    /// The request's User-Agent: the combined format shows it, `None` with others.
    pub user_agent: Option<HeaderValue>,
    /// The request's Referer: the combined format shows it, cut as a URL is, `None` with others.
    pub referer: Option<HeaderValue>,
}

impl Record {
    /// The same with copies of what shares the buffers of its messages: to be kept for longer than an exchange.
    #[must_use]
    pub fn apart(mut self) -> Self {
        if let Url::Shared(target) = &self.url {
            self.url = Url::Target(target.apart());
        }
        for value in [&mut self.content_type, &mut self.user_agent, &mut self.referer] {
            *value = value.as_ref().and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        }
        self
    }
}

/// A limit on requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `limits.request_line`
    RequestLine,
    /// `limits.request_head`
    RequestHead,
    /// `limits.request_fields`
    RequestFields,
    /// `limits.requests_per_client`
    RequestsPerClient,
}

impl Limit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] =
        [Self::RequestLine, Self::RequestHead, Self::RequestFields, Self::RequestsPerClient];

    /// Its key below `limits`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::RequestHead => "request_head",
            Self::RequestFields => "request_fields",
            Self::RequestsPerClient => "requests_per_client",
        }
    }
}

/// What was asked for, as it was known when the record was made. Formatted only when a line is written, which
/// leaves userinfo out and shows a query as `?...` unless `log.query`.
#[derive(Clone, Debug)]
pub enum Url {
    /// Understood. With an empty path (CONNECT) it is shown as `host:port`.
    Target(Target),
    /// The same, shared with others.
    Shared(Arc<Target>),
    /// As received: what could not be understood, origin-form and asterisk-form. May be anything.
    Text(Box<str>),
}

impl From<Target> for Url {
    fn from(target: Target) -> Self {
        Self::Target(target)
    }
}

impl From<Arc<Target>> for Url {
    fn from(target: Arc<Target>) -> Self {
        Self::Shared(target)
    }
}

impl From<Box<str>> for Url {
    fn from(text: Box<str>) -> Self {
        Self::Text(text)
    }
}

impl From<String> for Url {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&str> for Url {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

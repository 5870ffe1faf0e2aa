//! Paths and methods of the admin listener, and how its answers look.

use super::guard::{self, Denied};
use super::{Admin, ControlError, Stored, dashboard, query, told};
use crate::cache;
use crate::pages::{self, Here};
use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A purge says what to purge in one URL or pattern.
const MAX_CONTENT: usize = 64 << 10;
/// For the content to arrive.
const CONTENT_TIMEOUT: Duration = Duration::from_secs(10);
/// For an explanation that asks the origin.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(45);

/// On every answer: nothing is to be stored, framed, sniffed, or read by another site's page.
const SECURITY: [(&str, &str); 6] = [
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

pub(super) type Answer = Response<Full<Bytes>>;

/// What there is. Every path has one method; HEAD goes with GET.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Route {
    Page,
    Style,
    Script,
    Setup,
    Metrics,
    Health,
    Ready,
    OpenApi,
    Stats,
    Exchanges,
    Stored,
    Sites,
    Config,
    Explain,
    Purge,
    Reload,
}

impl Route {
    pub(super) const ALL: [(&str, Self); 16] = [
        ("/", Self::Page),
        ("/dashboard.css", Self::Style),
        ("/dashboard.js", Self::Script),
        ("/setup", Self::Setup),
        ("/metrics", Self::Metrics),
        ("/healthz", Self::Health),
        ("/readyz", Self::Ready),
        ("/api/v1/openapi.json", Self::OpenApi),
        ("/api/v1/stats", Self::Stats),
        ("/api/v1/exchanges", Self::Exchanges),
        ("/api/v1/stored", Self::Stored),
        ("/api/v1/sites", Self::Sites),
        ("/api/v1/config", Self::Config),
        ("/api/v1/explain", Self::Explain),
        ("/api/v1/purge", Self::Purge),
        ("/api/v1/reload", Self::Reload),
    ];

    fn of(path: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == path).map(|(_, route)| *route)
    }

    /// Whether it changes something: then it takes POST alone, and others GET.
    pub(super) const fn changes(self) -> bool {
        match self {
            Self::Purge | Self::Reload => true,
            Self::Page
            | Self::Style
            | Self::Script
            | Self::Setup
            | Self::Metrics
            | Self::Health
            | Self::Ready => false,
            Self::OpenApi | Self::Stats | Self::Exchanges | Self::Stored | Self::Sites => false,
            Self::Config | Self::Explain => false,
        }
    }

    /// Whether it is the operator's alone: a change, a request to an origin in his name, and what shows where clients
    /// go. Not at the wish of another site's page, nor for whoever else can reach the listener.
    pub(super) const fn guarded(self) -> bool {
        match self {
            Self::Exchanges | Self::Stored | Self::Sites | Self::Config | Self::Explain => true,
            Self::Purge | Self::Reload => true,
            Self::Page | Self::Style | Self::Script | Self::Setup => false,
            Self::Metrics | Self::Health | Self::Ready | Self::OpenApi | Self::Stats => false,
        }
    }
}

impl Admin {
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: IpAddr,
        local: IpAddr,
    ) -> Answer {
        let mut answer = self.route(request, client, local).await.unwrap_or_else(Problem::into_answer);
        for (name, value) in SECURITY {
            // A page of its own has its own policy, which allows its style.
            answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
        answer
    }

    async fn route(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: IpAddr,
        local: IpAddr,
    ) -> Result<Answer, Problem> {
        let options = self.options.load_full();
        guard::host(&options, request.version(), request.uri(), request.headers())?;
        let route = Route::of(request.uri().path()).ok_or(Problem::NotFound)?;
        let method_fits = match *request.method() {
            Method::GET | Method::HEAD => !route.changes(),
            Method::POST => route.changes(),
            _ => false,
        };
        if !method_fits {
            return Err(Problem::Method(if route.changes() { "POST" } else { "GET, HEAD" }));
        }
        if route.guarded() {
            guard::same_site(request.headers())?;
            self.guard.act(&options, request.headers(), client)?;
        }
        match route {
            Route::Page => {
                let mut answer = page("text/html; charset=utf-8", dashboard::PAGE);
                answer.headers_mut().insert(CONTENT_SECURITY_POLICY, dashboard::POLICY);
                Ok(answer)
            }
            Route::Style => Ok(page("text/css; charset=utf-8", dashboard::STYLE)),
            Route::Script => Ok(page("text/javascript; charset=utf-8", dashboard::SCRIPT)),
            Route::OpenApi => Ok(page("application/json", dashboard::OPENAPI)),
            Route::Setup => {
                let here = Here::beside(local, &self.control.proxies).ok_or(Problem::NotFound)?;
                Ok(pages::landing(&here, request.headers().get(ACCEPT)).map(Full::new))
            }
            Route::Metrics => {
                let text = self.figures(|admin, gauges| admin.telemetry.render(&gauges)).await?;
                Ok(page("text/plain; version=0.0.4; charset=utf-8", text))
            }
            Route::Health => Ok(page("text/plain; charset=utf-8", "ok\n")),
            Route::Ready if self.shutdown.is_draining() => Err(Problem::NotReady("draining")),
            Route::Ready if !(self.control.ready)() => Err(Problem::NotReady("starting")),
            Route::Ready => Ok(page("text/plain; charset=utf-8", "ready\n")),
            Route::Stats => Ok(json(&self.figures(|admin, gauges| admin.telemetry.stats(&gauges)).await?)),
            Route::Exchanges => {
                Ok(json(&self.telemetry.recent.after(query::exchanges(asked_query(&request))?)))
            }
            Route::Stored => self.stored(query::stored(asked_query(&request))?).await,
            Route::Sites => self.stored(query::sites(asked_query(&request))?).await,
            Route::Config => Ok(json(&(self.control.config)().await?)),
            Route::Explain => {
                let as_text = request.headers().get(ACCEPT).is_some_and(|accept| accept == "text/plain");
                let told = self.explain(asked_query(&request)).await?;
                if as_text {
                    return Ok(page("text/plain; charset=utf-8", told::explanation(&told)));
                }
                Ok(json(&told))
            }
            Route::Purge => {
                let asked = query::purge(&content(request).await?)?;
                Ok(json(&(self.control.purge)(asked).await?))
            }
            Route::Reload => Ok(json(&(self.control.reload)().await?)),
        }
    }

    /// Walks what is stored: one such walk at a time.
    async fn stored(&self, asked: Stored) -> Result<Answer, Problem> {
        // Never closed.
        let _walks = self.walks.acquire().await;
        Ok(json(&(self.control.stored)(asked).await?))
    }

    /// An explanation; of an exchange, without the query that its client did not mean for everybody's eyes.
    async fn explain(&self, query: &str) -> Result<serde_json::Value, Problem> {
        let of_exchange = std::cell::Cell::new(false);
        let asked = query::explain(query, |seq| {
            of_exchange.set(true);
            self.telemetry.recent.request(seq)
        })?;
        let hides = of_exchange.into_inner() && !self.telemetry.log.shows_queries();
        let explained = tokio::time::timeout(EXPLAIN_TIMEOUT, (self.control.explain)(asked)).await;
        let mut told = explained.map_err(|_| Problem::TimedOut)??;
        for name in ["url", "key"] {
            if let Some(url) = told[name].as_str().filter(|_| hides) {
                told[name] = cache::shown_url(url, false).into();
            }
        }
        if hides && let Some(answer) = told["answer"].as_object_mut() {
            // An origin repeats what it was asked: in Location, in links, in whatever it likes.
            answer.remove("fields");
        }
        Ok(told)
    }

    /// Reads and writes all figures where that may block: files of /proc, and locks of other parts.
    async fn figures<T: Send + 'static>(
        self: &Arc<Self>,
        write: impl FnOnce(&Self, crate::telemetry::Gauges) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let admin = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || {
            let mut gauges = (admin.control.gauges)();
            gauges.ready = (admin.control.ready)() && !admin.shutdown.is_draining();
            write(&admin, gauges)
        });
        written.await.map_err(|error| {
            Problem::Control(ControlError::Failed(format!("the figures could not be read: {error}")))
        })
    }
}

fn asked_query(request: &Request<Incoming>) -> &str {
    request.uri().query().unwrap_or_default()
}

async fn content(request: Request<Incoming>) -> Result<Bytes, Problem> {
    let content = Limited::new(request.into_body(), MAX_CONTENT).collect();
    match tokio::time::timeout(CONTENT_TIMEOUT, content).await {
        Ok(Ok(content)) => Ok(content.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Problem::TooLarge),
        Ok(Err(error)) => {
            Err(Problem::Control(ControlError::Invalid(format!("the content broke off: {error}"))))
        }
        Err(_) => Err(Problem::TimedOut),
    }
}

fn page(media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec_pretty(value) {
        Ok(mut text) => {
            text.push(b'\n');
            page("application/json", text)
        }
        Err(error) => {
            Problem::Control(ControlError::Failed(format!("the answer could not be written: {error}")))
                .into_answer()
        }
    }
}

/// Every answer that is not what was asked for. RFC 9457.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(
        "this is not a name of this listener; `admin.hosts` lists names besides IP addresses and localhost"
    )]
    Misdirected,
    #[error("a page of another site may not do this")]
    CrossSite,
    #[error(
        "this needs a token where the listener is not on loopback, and none is configured: set `admin.token`, or listen on loopback"
    )]
    NoToken,
    #[error("this needs `Authorization: Bearer` with the token of `admin.token`")]
    Token,
    #[error("too many wrong tokens; wait a little")]
    TooManyTries,
    #[error("there is nothing here; /api/v1/openapi.json lists what there is")]
    NotFound,
    #[error("this takes {0} only")]
    Method(&'static str),
    #[error("the content is larger than 64 KiB")]
    TooLarge,
    #[error("it took too long")]
    TimedOut,
    #[error("{0}")]
    NotReady(&'static str),
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Host => Self::Misdirected,
            Denied::CrossSite => Self::CrossSite,
            Denied::NoToken => Self::NoToken,
            Denied::Token => Self::Token,
            Denied::TooManyTries => Self::TooManyTries,
        }
    }
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::CrossSite | Self::NoToken => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::TooManyTries => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Control(ControlError::Invalid(_)) => StatusCode::BAD_REQUEST,
            Self::Control(ControlError::Refused(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Control(ControlError::Failed(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn into_answer(self) -> Answer {
        let status = self.status();
        let mut problem = serde_json::json!({
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        if let Self::Control(ControlError::Refused(errors)) = &self {
            problem["errors"] = serde_json::json!(errors);
        }
        let mut answer = page("application/problem+json", format!("{problem:#}\n"));
        *answer.status_mut() = status;
        let field = match self {
            Self::Method(allowed) => Some((ALLOW, allowed)),
            Self::Token => Some((WWW_AUTHENTICATE, "Bearer realm=\"larder\"")),
            Self::TooManyTries => Some((RETRY_AFTER, "10")),
            Self::Misdirected
            | Self::CrossSite
            | Self::NoToken
            | Self::NotFound
            | Self::TooLarge
            | Self::TimedOut
            | Self::NotReady(_)
            | Self::Control(_) => None,
        };
        if let Some((name, value)) = field {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

//! The admin listener: metrics, health, the API that `larder` itself uses, and the page on top of it.
//!
//! ```text
//! accept (at most 64 at once, 16 from one address elsewhere) -> guard: Host -> route -> guard: cross-site, token -> Control, Telemetry
//! ```
//!
//! It shares nothing with the data path but the figures that it reads: own listener, own limits. It answers
//! while the process drains (`/readyz` says 503 then) and ends when [`Admin::serve`]'s future is dropped.
//! What it may change it changes through [`Control`], which the one who builds the parts fills in.

mod dashboard;
mod guard;
mod query;
mod route;
#[cfg(test)]
mod tests;
pub mod told;

use crate::cache::Listing;
use crate::shutdown::Shutdown;
use crate::telemetry::{Gauges, Telemetry};
use ahash::RandomState;
use arc_swap::ArcSwap;
use http::{HeaderMap, Method};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How much of the process the listener may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections served at once; the next ones wait in the listener's backlog. A scraper, a health check and a
    /// few people need no more, and each may cost a buffer of 64 KiB and a rendered page.
    connections: usize,
    /// Of these, those from one address that is not loopback: whoever takes them all would keep others' health checks
    /// out. More are closed at once.
    each: usize,
    /// For a request's head, and the idle limit between requests.
    head: Duration,
    /// A connection's life: after it the answer under way is the last.
    lifetime: Duration,
    /// For that last answer. A reader so slow that it takes longer is cut off.
    last_answer: Duration,
}

const LIMITS: Limits = Limits {
    connections: 64,
    each: 16,
    head: Duration::from_secs(10),
    lifetime: Duration::from_secs(60),
    last_answer: Duration::from_secs(60),
};

/// A pause after accepting failed, as it does at once and again while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// `admin`'s settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `admin.listen`. Restart. Default 127.0.0.1:9128. `None`: off.
    pub listen: Option<SocketAddr>,
    /// `admin.hosts`: names allowed in Host besides IP literals and localhost.
    pub hosts: Vec<String>,
    /// `admin.token`: needed for changes, explanations and all that shows what clients asked for when bound elsewhere
    /// than loopback.
    pub token: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9128))), hosts: Vec::new(), token: None }
    }
}

/// An answer that takes its time.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the listener can ask of the running proxy.
pub struct Control {
    /// Where the proxy listens.
    pub proxies: Vec<SocketAddr>,
    /// Whether requests are served: everything listens. (Draining is known from [`Shutdown`].)
    pub ready: Box<dyn Fn() -> bool + Send + Sync>,
    /// The figures of the parts outside exchanges; [`Gauges::ready`] is filled in here.
    pub gauges: Box<dyn Fn() -> Gauges + Send + Sync>,
    /// Removes stored responses, or counts those that would go.
    pub purge: Box<dyn Fn(Purge) -> Pending<Result<Purged, ControlError>> + Send + Sync>,
    /// Tells what would be done with a request.
    pub explain: Box<dyn Fn(Explain) -> Pending<Result<serde_json::Value, ControlError>> + Send + Sync>,
    /// Lists what is stored.
    pub stored: Box<dyn Fn(Stored) -> Pending<Result<serde_json::Value, ControlError>> + Send + Sync>,
    /// Tells the configuration that runs, without its secrets, and the last reload.
    pub config: Box<dyn Fn() -> Pending<Result<serde_json::Value, ControlError>> + Send + Sync>,
    /// Reads the configuration again.
    pub reload: Box<dyn Fn() -> Pending<Result<Reloaded, ControlError>> + Send + Sync>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

/// What to purge.
#[derive(Clone, Debug, PartialEq)]
pub struct Purge {
    /// Which stored responses.
    pub what: PurgeWhat,
    /// Count them, remove nothing.
    pub dry_run: bool,
}

/// Which stored responses to purge.
#[derive(Clone, Debug, PartialEq)]
pub enum PurgeWhat {
    /// All variants of one full URL, query included.
    Url(String),
    /// The same for a URL with whatever query, and without one.
    Path(String),
    /// All of one host, whatever the scheme and port.
    Host(String),
    /// All whose URL matches: `*` stands for any bytes, `?` for one.
    Glob(String),
    /// All that their origins put under a tag: Surrogate-Key, Cache-Tag, Cache-Groups.
    Tag(String),
    /// All.
    All,
}

/// What a purge did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Purged {
    /// Stored responses removed, or with `dry_run` those that would be.
    pub purged: u64,
    /// Nothing was removed.
    pub dry_run: bool,
}

/// What is asked about what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A page of stored responses.
    Responses(Listing),
    /// Sites with their sums, the largest first.
    Sites {
        /// Only those whose host contains this.
        search: String,
        /// At most so many.
        limit: usize,
    },
}

/// A request to explain.
#[derive(Clone, Debug)]
pub struct Explain {
    /// GET or HEAD.
    pub method: Method,
    /// Full URL, query included.
    pub url: String,
    /// The request's fields.
    pub headers: HeaderMap,
    /// Whether what is stored must do: no origin is asked.
    pub offline: bool,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reloaded {
    /// Keys that changed and are in force.
    pub live: Vec<String>,
    /// Keys that changed in the file and need a restart.
    pub restart: Vec<String>,
}

/// Why the proxy did not do what was asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ControlError {
    /// What was asked for makes no sense: 400.
    #[error("{0}")]
    Invalid(String),
    /// The configuration is refused as a whole, with every error in it: 422.
    #[error("the configuration is refused: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// It was tried and failed: 500.
    #[error("{0}")]
    Failed(String),
}

/// The admin service.
#[derive(Debug)]
pub struct Admin {
    options: Arc<ArcSwap<Options>>,
    telemetry: Arc<Telemetry>,
    control: Control,
    shutdown: Shutdown,
    limits: Limits,
    guard: guard::Guard,
    /// Listings walk the whole store: one at a time.
    walks: Semaphore,
}

impl Admin {
    /// Serves `listener` until the future is dropped; connections end with it. It is not one of the tasks that
    /// a drain waits for.
    pub async fn serve(
        listener: TcpListener,
        options: Arc<ArcSwap<Options>>,
        telemetry: Arc<Telemetry>,
        control: Control,
        shutdown: Shutdown,
    ) {
        Arc::new(Self::new(&listener, options, telemetry, control, shutdown)).accept(listener).await;
    }

    fn new(
        listener: &TcpListener,
        options: Arc<ArcSwap<Options>>,
        telemetry: Arc<Telemetry>,
        control: Control,
        shutdown: Shutdown,
    ) -> Self {
        let loopback = listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
        let guard = guard::Guard::new(loopback);
        Self { options, telemetry, control, shutdown, limits: LIMITS, guard, walks: Semaphore::new(1) }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(self.limits.connections));
        let clients = Clients::default();
        let mut connections = JoinSet::new();
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the admin listener could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = Place::take(&clients, peer.ip(), self.limits.each) else { continue };
            let admin = Arc::clone(&self);
            connections.spawn(async move {
                let _held = (permit, place);
                admin.connection(stream, peer).await;
            });
            // A panic ended its connection alone, and was counted where it happened.
            while connections.try_join_next().is_some() {}
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        // Without it a small answer may wait 40 ms for an acknowledgement; if it can't be set, it waits.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set on an admin connection");
        }
        // Where a client has left already, nobody is told of it.
        let local = stream.local_addr().map_or(peer.ip(), |local| local.ip());
        let service = hyper::service::service_fn(|request| {
            let admin = Arc::clone(&self);
            async move { Ok::<_, std::convert::Infallible>(admin.answer(request, peer.ip(), local).await) }
        });
        let mut connection = pin!(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.limits.head)
                .max_buf_size(64 << 10)
                .serve_connection(TokioIo::new(stream), service)
        );
        let mut ended = tokio::time::timeout(self.limits.lifetime, connection.as_mut()).await;
        if ended.is_err() {
            connection.as_mut().graceful_shutdown();
            ended = tokio::time::timeout(self.limits.last_answer, connection.as_mut()).await;
        }
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%peer, %error, "an admin connection broke off"),
            Err(_) => tracing::debug!(%peer, "an admin connection took too long and was cut off"),
        }
    }
}

/// Connections of each address, as far as they count: no more addresses than connections.
type Clients = Arc<Mutex<HashMap<IpAddr, usize, RandomState>>>;

/// A place among the connections of one address, given back when dropped.
struct Place(Option<(Clients, IpAddr)>);

impl Place {
    /// `None` where the address has as many as it may. This machine's own wait their turn instead.
    fn take(clients: &Clients, client: IpAddr, most: usize) -> Option<Self> {
        let client = client.to_canonical();
        if client.is_loopback() {
            return Some(Self(None));
        }
        let mut counts = clients.lock();
        let count = counts.entry(client).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self(Some((Arc::clone(clients), client))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((clients, client)) = self.0.take() else { return };
        let mut counts = clients.lock();
        if let Some(count) = counts.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&client);
            }
        }
    }
}

/// Where fuzz targets come in.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{ControlError, Explain, Options, Purge, Stored, guard, query};
    use http::{HeaderMap, Method, Uri, Version};

    /// What a query to `exchanges` asks.
    pub fn exchanges(text: &str) -> Result<u64, ControlError> {
        query::exchanges(text)
    }

    /// What one to `stored` asks.
    pub fn stored(text: &str) -> Result<Stored, ControlError> {
        query::stored(text)
    }

    /// What one to `sites` asks.
    pub fn sites(text: &str) -> Result<Stored, ControlError> {
        query::sites(text)
    }

    /// What one to `explain` asks, where one exchange is known: 7.
    pub fn explain(text: &str) -> Result<Explain, ControlError> {
        query::explain(text, |seq| (seq == 7).then(|| (Method::GET, "http://h/".to_owned())))
    }

    /// What the content of a purge asks.
    pub fn purge(content: &[u8]) -> Result<Purge, ControlError> {
        query::purge(content)
    }

    /// Whether the guard lets a change through: it was sent to a name of ours, by no other site.
    pub fn lets_change(options: &Options, version: Version, uri: &Uri, headers: &HeaderMap) -> bool {
        guard::host(options, version, uri, headers).is_ok() && guard::same_site(headers).is_ok()
    }
}

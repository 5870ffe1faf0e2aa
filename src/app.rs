//! Settings become parts, parts become listeners; signals, reload, and the order of the drain.

mod command;
mod diagnostics;
mod gauges;
mod pressure;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sd_notify::NotifyState;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

use crate::access::Access;
use crate::access::authentication::{Authenticator, Memory};
use crate::admin::{self, Admin, Control, ControlError, Explain, Purge, PurgeWhat, Purged, Reloaded, Stored};
use crate::body::Buffers;
use crate::cache::{self, Cache};
use crate::clock::Clock;
use crate::config::{self, Overrides, Settings, diff};
use crate::field::via::Pseudonym;
use crate::pages;
use crate::policy::rules::{Rules, glob_matches};
use crate::proxy::{self, Proxy};
use crate::server::{self, Counts, Listening};
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::telemetry::{AccessLog, Gauges, Metrics, Recent, Telemetry};
use crate::upstream::Upstream;
use crate::worker::Workers;

pub(crate) use command::ignored_signals;
pub use command::run_command;
pub use diagnostics::Diagnostics;

/// How long what was cut off may take to end, and the log to be written: neither waits for anybody else.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves until a signal ends it. Every error here comes before anything listens.
pub fn serve(
    settings: Settings,
    overrides: Overrides,
    diagnostics: &Diagnostics,
) -> anyhow::Result<ExitCode> {
    raise_file_limit();
    let handed = server::handed_over()?;
    on_workers(settings.server.workers, |workers| run(settings, overrides, handed, workers, diagnostics))
}

/// Runs `work` on this thread, which is the first of the workers.
fn on_workers<T, F>(count: usize, work: impl FnOnce(Workers) -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let runtime = Workers::runtime(count).context("the runtime can't start")?;
    let started = Workers::start(runtime.handle().clone(), count);
    let (workers, threads) = started.with_context(|| format!("server.workers: {count} can't start"))?;
    let result = runtime.block_on(work(workers));
    // What still runs has had its time.
    drop(threads);
    runtime.shutdown_background();
    result
}

/// `larder explain` where no proxy runs: the same parts, and nothing that listens.
pub async fn explain_alone(settings: Settings, ask: Explain) -> anyhow::Result<serde_json::Value> {
    let app = App::build(settings, Overrides::default(), Vec::new())?;
    app.explain(ask).await.map_err(anyhow::Error::from)
}

/// All parts of a running proxy.
struct App {
    shutdown: Shutdown,
    telemetry: Arc<Telemetry>,
    upstream: Upstream,
    buffers: Buffers,
    cache: Arc<Cache>,
    proxy: Arc<Proxy>,
    counts: Arc<Counts>,
    server: Arc<ArcSwap<server::Options>>,
    admin: Arc<ArcSwap<admin::Options>>,
    /// What runs, and what the flags said: a reload starts from these.
    settings: Mutex<Settings>,
    overrides: Overrides,
    clock: Clock,
    /// What the last reload did, and when: for people who ask.
    last_reload: Mutex<serde_json::Value>,
    /// Addresses of our own, refused as destinations.
    own: Vec<SocketAddr>,
    /// What is remembered of those who say who they are.
    authentication: Arc<Memory>,
    /// Our name in Via where none is configured: the same for the life of the process.
    pseudonym: String,
    ready: AtomicBool,
}

impl App {
    fn build(settings: Settings, overrides: Overrides, own: Vec<SocketAddr>) -> anyhow::Result<Arc<Self>> {
        let clock = Clock::system();
        let shutdown = Shutdown::new();
        let telemetry = Arc::new(Telemetry {
            log: AccessLog::stdout(&settings.telemetry).context("the access log can't start")?,
            metrics: Metrics::new(),
            recent: Recent::new(),
        });
        telemetry.metrics.reconfigure(&settings.telemetry);
        let buffers = Buffers::new(&settings.buffers);
        let upstream = Upstream::new(settings.upstream.clone(), buffers.clone(), clock.clone())
            .context("the way to origins can't be set up")?;
        let store = Store::new(&settings.store, &settings.body);
        let cache = Arc::new(Cache::new(store, upstream.clone(), clock.clone(), shutdown.clone()));
        let pseudonym = random_pseudonym();
        let authentication = Arc::new(Memory::new());
        let proxy = Arc::new(Proxy::new(
            snapshot(&settings, &own, &pseudonym, &authentication)?,
            Arc::clone(&cache),
            upstream.clone(),
            buffers.clone(),
            Arc::clone(&telemetry),
            clock.clone(),
            shutdown.clone(),
        ));
        Ok(Arc::new(Self {
            shutdown,
            telemetry,
            upstream,
            buffers,
            cache,
            proxy,
            counts: Arc::default(),
            server: Arc::new(ArcSwap::from_pointee(settings.server.clone())),
            admin: Arc::new(ArcSwap::from_pointee(settings.admin.clone())),
            settings: Mutex::new(settings),
            overrides,
            clock,
            last_reload: Mutex::default(),
            own,
            authentication,
            pseudonym,
            ready: AtomicBool::new(false),
        }))
    }

    /// Reads the configuration again, and remembers what came of it.
    fn reload(&self) -> Result<Reloaded, ControlError> {
        let result = self.replace();
        let errors = match &result {
            Ok(_) => Vec::new(),
            Err(ControlError::Refused(errors)) => errors.clone(),
            Err(error) => vec![error.to_string()],
        };
        let done = result.as_ref().ok().cloned().unwrap_or_default();
        *self.last_reload.lock() = serde_json::json!({
            "at": self.clock.now().unix(),
            "done": result.is_ok(),
            "live": done.live,
            "restart": done.restart,
            "errors": errors,
        });
        result
    }

    /// The new settings are put in force as a whole, or not at all.
    fn replace(&self) -> Result<Reloaded, ControlError> {
        let refused = |error: &dyn std::fmt::Display| ControlError::Refused(vec![error.to_string()]);
        // Before the file is read: of two reloads at once, the one that read it last must also be the last.
        let mut settings = self.settings.lock();
        let new = Settings::load(&self.overrides)
            .map_err(|errors| ControlError::Refused(errors.0.iter().map(ToString::to_string).collect()))?;
        let changes = diff::diff(&settings, &new);
        let running = diff::running(&settings, &new);
        let snapshot =
            snapshot(&running, &self.own, &self.pseudonym, &self.authentication).map_err(|e| refused(&e))?;
        self.upstream.reconfigure(running.upstream.clone()).map_err(|e| refused(&e))?;
        // From here on nothing can fail.
        self.cache.store().reconfigure(&running.store, &running.body);
        self.buffers.reconfigure(&running.buffers);
        // Before the next: an exchange by the new settings is told of by the new ones too, and what is told again of it.
        self.telemetry.reconfigure(&running.telemetry);
        self.proxy.reconfigure(snapshot);
        // After it: what was begun under the old settings must not be stored under the new ones.
        self.cache.store().supersede();
        self.server.store(Arc::new(running.server.clone()));
        self.admin.store(Arc::new(running.admin.clone()));
        *settings = running;
        Ok(Reloaded {
            live: changes.live.iter().map(ToString::to_string).collect(),
            restart: changes.restart.iter().map(ToString::to_string).collect(),
        })
    }

    fn purge(&self, purge: &Purge) -> Result<Purged, ControlError> {
        let invalid = |what: String| ControlError::Invalid(what);
        let purged = match &purge.what {
            PurgeWhat::Url(url) => {
                let (_, target) = cache::parse_url(url).map_err(invalid)?;
                self.cache.purge(&target, &self.proxy.settings().cache, purge.dry_run)
            }
            PurgeWhat::Path(url) => {
                let (_, target) = cache::parse_url(url).map_err(invalid)?;
                if target.path.contains(&b'?') {
                    return Err(invalid(format!("{url:?}: found a query, expected a URL without one")));
                }
                let path = target.url();
                let fits = |url: &str| {
                    url.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('?'))
                };
                self.cache.store().purge(fits, purge.dry_run)
            }
            PurgeWhat::Host(host) => {
                let wanted = cache::parse_host(host).map_err(invalid)?;
                self.cache.store().purge(|url| cache::is_of_host(url, &wanted), purge.dry_run)
            }
            PurgeWhat::Glob(glob) => self.cache.store().purge(|url| glob_matches(glob, url), purge.dry_run),
            PurgeWhat::Tag(tag) => self.cache.purge_tag(tag, purge.dry_run),
            PurgeWhat::All => self.cache.store().purge(|_| true, purge.dry_run),
        };
        Ok(Purged { purged: purged as u64, dry_run: purge.dry_run })
    }

    fn stored(&self, asked: &Stored) -> serde_json::Value {
        match asked {
            Stored::Responses(listing) => {
                let settings = self.proxy.settings();
                self.cache.list(listing, &settings.cache, self.telemetry.log.shows_queries())
            }
            Stored::Sites { search, limit } => self.cache.sites(search, *limit),
        }
    }

    /// The configuration that runs.
    fn config(&self) -> serde_json::Value {
        let mut told = config::effective(&self.settings.lock());
        told["file"] = self.overrides.config.as_ref().map(|file| file.display().to_string()).into();
        told["last_reload"] = self.last_reload.lock().clone();
        told
    }

    async fn explain(self: &Arc<Self>, mut ask: Explain) -> Result<serde_json::Value, ControlError> {
        let (uri, target) = cache::parse_url(&ask.url).map_err(ControlError::Invalid)?;
        let settings = self.proxy.settings();
        let now = self.clock.now();
        let grant = match proxy::explain::rehearse(&ask.method, &uri, &mut ask.headers, now, &settings) {
            Ok(grant) => grant,
            Err(refused) => {
                let method = ask.method.as_str();
                return Ok(serde_json::json!({ "method": method, "url": target.url(), "refused": refused }));
            }
        };
        let asked = cache::Rehearsal {
            method: ask.method,
            target,
            headers: ask.headers,
            hop: cache::Hop { version: http::Version::HTTP_11, pseudonym: Arc::clone(&settings.pseudonym) },
            offline: ask.offline,
        };
        let explained = self.cache.explain(asked, &grant, &settings.cache).await;
        let mut told = explained.told;
        if let Some(failure) = explained.failure {
            told["refused"] = proxy::explain::failed(failure);
        }
        Ok(told)
    }

    fn gauges(&self) -> Gauges {
        gauges::read(self)
    }

    /// What the admin listener may ask of this.
    fn control(self: &Arc<Self>, proxies: &[SocketAddr]) -> Control {
        let (ready, gauges, purge, explain) =
            (Arc::clone(self), Arc::clone(self), Arc::clone(self), Arc::clone(self));
        let (stored, config, reload) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        Control {
            proxies: proxies.to_vec(),
            ready: Box::new(move || ready.ready.load(Ordering::Relaxed)),
            gauges: Box::new(move || gauges.gauges()),
            purge: Box::new(move |what| blocking(&purge, move |app| app.purge(&what))),
            explain: Box::new(move |ask| {
                let app = Arc::clone(&explain);
                Box::pin(async move { app.explain(ask).await })
            }),
            stored: Box::new(move |asked| blocking(&stored, move |app| Ok(app.stored(&asked)))),
            config: Box::new(move || blocking(&config, |app| Ok(app.config()))),
            reload: Box::new(move || blocking(&reload, App::reload)),
        }
    }
}

/// What may read files, wait for a reload, or walk all that is stored.
fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    task: impl FnOnce(&App) -> Result<T, ControlError> + Send + 'static,
) -> admin::Pending<Result<T, ControlError>> {
    let app = Arc::clone(app);
    Box::pin(async move {
        let done = tokio::task::spawn_blocking(move || task(&app)).await;
        done.unwrap_or_else(|error| Err(ControlError::Failed(error.to_string())))
    })
}

/// What one exchange sees of the settings.
fn snapshot(
    settings: &Settings,
    own: &[SocketAddr],
    pseudonym: &str,
    authentication: &Arc<Memory>,
) -> anyhow::Result<proxy::Settings> {
    Ok(proxy::Settings {
        options: settings.proxy.clone(),
        access: Arc::new(Access::new(settings.access.clone(), own.to_vec())),
        authentication: Authenticator::new(&settings.access.authentication, authentication).map(Arc::new),
        cache: Arc::new(cache::Settings {
            options: settings.cache.clone(),
            policy: settings.policy.clone(),
            rules: Rules::new(settings.rules.clone())?,
        }),
        pseudonym: Pseudonym::new(settings.proxy.via.as_deref().unwrap_or(pseudonym))
            .map(Arc::new)
            .context("proxy.via: no field can hold it")?,
        pages: settings.pages.clone(),
        beyond_loopback: settings.server.listen.iter().any(|a| !a.ip().to_canonical().is_loopback()),
    })
}

/// Via needs a name that no other proxy has, and that says nothing.
fn random_pseudonym() -> String {
    format!("larder-{:012x}", rand::random::<u64>() >> 16)
}

/// A proxy whose listeners accept.
struct Started {
    app: Arc<App>,
    /// Where it listens, and its admin listener.
    proxies: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    /// What could not be had and was not asked for by name.
    warnings: Vec<String>,
}

/// Sockets that were `handed` over stand for `server.listen`.
async fn start(
    mut settings: Settings,
    mut overrides: Overrides,
    handed: Vec<std::net::TcpListener>,
    workers: Workers,
    diagnostics: &Diagnostics,
) -> anyhow::Result<Started> {
    let bound = if handed.is_empty() {
        server::bind(&settings.server)?
    } else {
        let bound = server::adopt(handed)?;
        // From now on as if a flag had named them: whom the proxy serves follows from where it listens, also after a
        // reload.
        overrides.listen = bound.listeners.iter().map(|listener| listener.address).collect();
        settings.server.listen.clone_from(&overrides.listen);
        bound
    };
    let admin = match settings.admin.listen {
        Some(address) => Some(
            tokio::net::TcpListener::bind(address)
                .await
                .map_err(|error| server::cannot_listen(address, "--admin-listen", &error))?,
        ),
        None => None,
    };
    let proxies: Vec<SocketAddr> = bound.listeners.iter().map(|listener| listener.address).collect();
    let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());
    let own = proxies.iter().copied().chain(admin_address).collect();
    let app = App::build(settings, overrides, own)?;
    let told = diagnostics.clone();
    count_panics(&app.telemetry, move |info| tell_panic(&told, info));

    Listening::start(
        bound.listeners,
        Arc::clone(&app.proxy),
        Arc::clone(&app.server),
        Arc::clone(&app.counts),
        workers,
        app.shutdown.clone(),
    )?;
    if let Some(listener) = admin {
        let (options, telemetry) = (Arc::clone(&app.admin), Arc::clone(&app.telemetry));
        let control = app.control(&proxies);
        tokio::spawn(Admin::serve(listener, options, telemetry, control, app.shutdown.clone()));
    }
    tokio::spawn(pressure::watch(Arc::clone(&app)));
    app.ready.store(true, Ordering::Relaxed);
    Ok(Started { app, proxies, admin: admin_address, warnings: bound.warnings })
}

async fn run(
    settings: Settings,
    overrides: Overrides,
    handed: Vec<std::net::TcpListener>,
    workers: Workers,
    diagnostics: &Diagnostics,
) -> anyhow::Result<ExitCode> {
    let started = start(settings, overrides, handed, workers, diagnostics).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // Otherwise it would end the process that a file, of the log say, may grow no more. So the write fails.
    drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
    banner(&started, diagnostics);
    notify(NotifyState::Ready);
    let app = started.app;

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let (again, diagnostics) = (Arc::clone(&app), diagnostics.clone());
                // A task of its own: where no thread can be had to read files on, that is a panic.
                tokio::spawn(async move {
                    let result = tokio::task::spawn_blocking(move || again.reload()).await;
                    let result = result.unwrap_or_else(|e| Err(ControlError::Failed(e.to_string())));
                    say_reload(result, &diagnostics);
                });
            }
        }
    }
    notify(NotifyState::Stopping);
    let limit = app.server.load().drain;
    diagnostics.say(&format!(
        "draining: {} running, at most {limit:?}; a second signal ends at once",
        app.shutdown.running()
    ));
    app.ready.store(false, Ordering::Relaxed);
    app.shutdown.drain();
    let code = tokio::select! {
        () = app.shutdown.finished() => ExitCode::SUCCESS,
        () = tokio::time::sleep(limit) => {
            let running = app.shutdown.running();
            diagnostics.say(&format!("server.drain: {limit:?} have passed, {running} are cut off"));
            ExitCode::SUCCESS
        }
        // Cut off by hand: not what a drain promises.
        _ = terminate.recv() => ExitCode::FAILURE,
        _ = interrupt.recv() => ExitCode::FAILURE,
    };
    last_words(&app).await;
    Ok(code)
}

/// Cuts off what still runs, and ends the log.
async fn last_words(app: &App) {
    app.shutdown.abort();
    // What was cut off leaves its records, then the last lines of the log go out; a task that does not end and a
    // reader that has left are not waited for.
    let ended = tokio::time::timeout(LAST_WORDS, app.shutdown.finished()).await.is_ok();
    // Here, where nothing else is left to be done: a thread for what blocks may not be had, and this has a limit.
    let flushed = app.telemetry.log.flush();
    tracing::debug!(ended, flushed, "last words");
}

fn say_reload(result: Result<Reloaded, ControlError>, diagnostics: &Diagnostics) {
    match result {
        Ok(done) if done.live.is_empty() && done.restart.is_empty() => {
            diagnostics.say("reloaded: nothing changed");
        }
        Ok(done) => {
            if !done.live.is_empty() {
                diagnostics.say(&format!("reloaded: {} changed", done.live.join(", ")));
            }
            if !done.restart.is_empty() {
                diagnostics.say(&format!("reloaded: {} need a restart", done.restart.join(", ")));
            }
        }
        Err(ControlError::Refused(errors)) => {
            diagnostics.say("the configuration is refused, the running one stays:");
            for error in errors {
                diagnostics.say(&format!("  {error}"));
            }
        }
        Err(error) => {
            diagnostics.say(&format!("the reload failed, the running configuration stays: {error}"));
        }
    }
}

/// Tells the service manager, where there is one (`NOTIFY_SOCKET`). That it can't be told ends nothing.
fn notify(state: NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Where it listens, who may connect, how large the cache is, and a line to try.
fn banner(Started { app, proxies, admin, warnings }: &Started, diagnostics: &Diagnostics) {
    let say = |line: &str| diagnostics.say(line);
    let settings = app.settings.lock();
    for warning in warnings {
        say(&format!("warning: {warning}"));
    }
    let elsewhere = admin.is_some_and(|address| !address.ip().to_canonical().is_loopback());
    if elsewhere && settings.admin.token.is_none() {
        say(
            "warning: the admin listener is not on loopback and has no admin.token: it takes no changes, and shows \
             nothing but figures",
        );
    }
    for address in proxies {
        say(&format!("proxy listening on {address}"));
    }
    match admin {
        Some(address) => say(&format!("admin listening on {address}")),
        None => say("admin listener off"),
    }
    let beyond = app.proxy.settings().beyond_loopback;
    let clients = &settings.access.clients;
    let mut who = vec!["loopback".to_owned()];
    who.extend((clients.auto && beyond).then(|| "private and link-local networks".to_owned()));
    who.extend(clients.listed.iter().map(ToString::to_string));
    let private =
        if settings.access.allow_private { "" } else { " (not private destinations: --allow-private)" };
    say(&format!("clients: {}{private}", who.join(", ")));
    say(&format!("cache: {} in memory", bytesize::ByteSize(settings.store.capacity).display().iec()));
    if let Some(address) = proxies.first() {
        // Asked for twice, it is a hit the second time; HEAD would store nothing.
        say(&format!("try twice: {}", pages::trial(reachable(*address))));
    }
}

/// Where this machine reaches a listener.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

/// A panic ends its own connection, and is counted and told.
fn count_panics(
    telemetry: &Arc<Telemetry>,
    tell: impl Fn(&std::panic::PanicHookInfo<'_>) + Send + Sync + 'static,
) {
    let telemetry = Arc::clone(telemetry);
    std::panic::set_hook(Box::new(move |info| {
        telemetry.metrics.panicked();
        tell(info);
    }));
}

/// As the standard library does, but that nobody waits for who reads it.
fn tell_panic(diagnostics: &Diagnostics, info: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let mut told = format!("thread {:?} {info}", thread.name().unwrap_or("without a name"));
    let trace = std::backtrace::Backtrace::capture();
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        told = format!("{told}\n{trace}");
    }
    diagnostics.say(&told);
}

/// The soft limit of open files goes up to the hard one: each tunnel takes two and its pipes four more.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Format, Options};

    #[tokio::test]
    async fn a_panic_ends_its_task_alone_and_is_counted() {
        let options = Options { access: Format::Off, queue: 1, ..Options::default() };
        let log = AccessLog::new(&options, Box::new(std::io::sink())).unwrap();
        let telemetry = Arc::new(Telemetry { log, metrics: Metrics::new(), recent: Recent::new() });
        count_panics(&telemetry, std::panic::take_hook());
        let shutdown = Shutdown::new();
        let (go, mut told) = tokio::sync::mpsc::channel(1);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        shutdown.spawn(async move {
            ended.await.unwrap();
            go.send("alive").await.unwrap();
        });
        shutdown.spawn(async { panic!("this one alone") });
        while shutdown.running() > 1 {
            tokio::task::yield_now().await;
        }
        end.send(()).unwrap();
        assert_eq!(told.recv().await, Some("alive"));
        shutdown.drain();
        shutdown.finished().await;
        let text = telemetry.render(&Gauges::default());
        let count = text.lines().find_map(|line| line.strip_prefix("larder_panics_total ")).unwrap();
        // The hook is the process's: a test that fails beside this one counts too.
        assert!(count.parse::<u64>().unwrap() >= 1, "{count}");
    }
}

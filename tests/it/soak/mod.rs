//! The soak: many clients for a long time, hits, misses, tunnels and faults at once. No exchange is lost, no body is
//! wrong, nothing is sent twice; memory and times stay what they are, and in the end nothing is left open.
//!
//! `tests/soak --help` tells how to run it; it is ignored otherwise, since it takes as long as it is told.

mod bodies;
mod figures;
mod link;
mod load;
mod origins;

use crate::support::proxy::Signal;
use crate::support::{Origin, Proxy, eventually};
use bodies::{Bodies, draw_size};
use figures::Figures;
use larder::clock::Stopwatch;
use load::{Load, Seen};
use origins::Asked;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What is asked for again and again takes a quarter of the store.
const STORE: usize = 64 << 20;
const HOT: usize = 16 << 20;

/// How long idle threads and what was under way may last after the load.
const PATIENCE: Duration = Duration::from_secs(30);

/// Gauges that come back to what they were.
const GAUGES: [&str; 7] = [
    "larder_connections",
    "larder_tunnels_active",
    "larder_flights",
    "larder_background",
    "larder_store_fills",
    "larder_buffer_bytes",
    "larder_upstream_connections",
];

/// From the environment, as `LARDER_SOAK_SECONDS` and so on.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    seconds: u64,
    clients: u64,
    /// Requests a second, all clients together.
    rate: u64,
    seed: u64,
    larder: Option<PathBuf>,
}

impl Settings {
    fn read() -> Self {
        let number = |name: &str, default: u64| match std::env::var(format!("LARDER_SOAK_{name}")) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("LARDER_SOAK_{name} is no number: {text}")),
            Err(_) => default,
        };
        Self {
            seconds: number("SECONDS", 600).max(10),
            clients: number("CLIENTS", 200).max(1),
            rate: number("RATE", 400).max(1),
            seed: number("SEED", u64::from(rand::rng().random::<u32>())),
            larder: std::env::var_os("LARDER_SOAK_BINARY").map(PathBuf::from),
        }
    }
}

/// What a running proxy takes.
struct Holds {
    descriptors: usize,
    threads: usize,
    gauges: Vec<(&'static str, f64)>,
}

impl Holds {
    fn of(proxy: &Proxy) -> Self {
        // First, since the scrape takes a connection and a thread for a while.
        let (descriptors, threads) = (proxy.descriptors(), proxy.threads());
        let gauges = GAUGES.iter().map(|name| (*name, proxy.metric(name, &[]))).collect();
        Self { descriptors, threads, gauges }
    }

    /// What is above the start's.
    fn above(&self, start: &Self) -> Vec<String> {
        let counts =
            [("descriptors", self.descriptors, start.descriptors), ("threads", self.threads, start.threads)];
        let counts = counts.map(|(name, now, then)| (name, now as f64, then as f64));
        let gauges =
            self.gauges.iter().zip(&start.gauges).map(|((name, now), (_, then))| (*name, *now, *then));
        let above = counts.into_iter().chain(gauges).filter(|(_, now, then)| now > then);
        above.map(|(name, now, then)| format!("{name}: {now}, at the start {then}")).collect()
    }

    /// What the proxy holds when it has had time to let go: until it is no more than at the start, or patience ends.
    fn after(proxy: &Proxy, start: &Self) -> Self {
        let waited = Stopwatch::start();
        let patience = || waited.elapsed() > PATIENCE;
        eventually("the end of what is under way", || {
            let gauges = Self::of(proxy).gauges;
            let above = Self { gauges, ..*start }.above(start);
            (above.is_empty() || patience()).then_some(())
        });
        eventually("the end of connections and idle threads", || {
            let less = proxy.threads() <= start.threads && proxy.descriptors() <= start.descriptors;
            (less || patience()).then_some(())
        });
        Self::of(proxy)
    }
}

impl std::fmt::Display for Holds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} descriptors, {} threads", self.descriptors, self.threads)?;
        self.gauges.iter().try_for_each(|(name, value)| write!(f, ", {name} {value}"))
    }
}

#[test]
#[ignore = "takes as long as it is told: tests/soak"]
fn soak() {
    let settings = Settings::read();
    println!(
        "soak: {} s, {} clients, {} requests/s, seed {}",
        settings.seconds, settings.clients, settings.rate, settings.seed
    );
    let bodies = Arc::new(Bodies::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (right, asked) = runtime.block_on(origins::right(Arc::clone(&bodies)));
    let (wrong, reluctant) = (origins::wrong(&bodies), origins::reluctant(&bodies));
    let mut proxy = Proxy::builder()
        .binary(settings.larder.clone())
        .unheard()
        .config(&format!("cache.memory = '{STORE}B'\nupstream.idle_timeout = '5s'"))
        .start();
    let start = Holds::of(&proxy);

    let mut random = StdRng::seed_from_u64(settings.seed);
    let load = |hot: Vec<String>| {
        Arc::new(Load {
            settings: settings.clone(),
            bodies: Arc::clone(&bodies),
            proxy: proxy.address,
            right,
            wrong: wrong.address,
            reluctant: reluctant.address,
            hot,
            since: Stopwatch::start(),
        })
    };
    let hot = hot(&mut random);
    // When the load begins, the store is full, and what is hot has been asked for more than once.
    let first = load(hot.clone());
    let fill: Vec<_> = (0..STORE >> 19).map(|n| format!("/kept/fill-{n}/{}", 1 << 20)).collect();
    for paths in [&hot, &fill, &hot] {
        runtime.block_on(first.once(paths));
    }
    let before = asked.lock().unwrap().clone();

    let load = load(hot);
    let clients = (0..settings.clients).map(|number| runtime.spawn(load::client(number, Arc::clone(&load))));
    let clients: Vec<_> = clients.collect();
    let mut figures = Figures::new(settings.seconds);
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        let (memory, cpu) = (proxy.memory("VmRSS"), proxy.cpu());
        figures.sample(load.since.elapsed(), memory, cpu, proxy.descriptors());
        std::thread::sleep(Duration::from_millis(settings.seconds * 10).min(Duration::from_secs(1)));
    }
    let mut seen = Seen::default();
    for client in clients {
        let one = runtime.block_on(client).expect("a client's task");
        seen.took.extend(one.took);
        seen.lost.extend(one.lost);
        seen.wrong.extend(one.wrong);
        seen.headless += one.headless;
    }
    figures.take(&seen.took);
    figures.print();

    let duplicated = duplicated(&seen, &before, &asked, [&wrong, &reluctant]);
    let new = asked.lock().unwrap().len() - before.len();
    let sent = seen.took.iter().filter(|t| matches!(t.kind, load::Kind::Miss | load::Kind::Tunnel)).count();
    let mut faults = figures.judge();
    println!("faults that ended before a head: {}", seen.headless);
    for (what, list) in [("lost", &seen.lost), ("wrong", &seen.wrong), ("sent twice", &duplicated)] {
        println!("{what}: {}", list.len());
        if !list.is_empty() {
            faults.push(format!("{} {what}: {:#?}", list.len(), &list[..list.len().min(5)]));
        }
    }
    if new != sent && seen.lost.is_empty() {
        faults.push(format!("{sent} misses and tunnels ended whole, but the origin was asked for {new}"));
    }
    for name in [
        "larder_panics_total",
        "larder_upstream_retries_total",
        "larder_store_evictions_total",
        "larder_store_bytes",
    ] {
        println!("{name}: {}", proxy.metric(name, &[]));
    }
    if proxy.metric("larder_panics_total", &[]) > 0.5 {
        faults.push(format!("it panicked: {:#?}", proxy.diagnostics.all()));
    }

    // Clients and origins have gone: with them goes what was held for them.
    drop((runtime, wrong, reluctant));
    let end = Holds::after(&proxy, &start);
    println!("at the start: {start}\nin the end: {end}");
    let left = end.above(&start);
    if !left.is_empty() {
        faults.push(format!("left over: {left:#?}"));
    }
    proxy.signal(Signal::TERM);
    let ended = proxy.ended();
    if !ended.success() {
        faults.push(format!("it ended with {ended}"));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Paths of what is asked for again and again.
fn hot(random: &mut StdRng) -> Vec<String> {
    let (mut hot, mut sum) = (Vec::new(), 0);
    while sum < HOT {
        let size = draw_size(random);
        sum += size;
        hot.push(format!("/hot/{}/{size}", hot.len()));
    }
    hot
}

/// What reached an origin more often than it may.
fn duplicated(
    seen: &Seen,
    before: &HashMap<String, usize>,
    asked: &Asked,
    wrong: [&Origin; 2],
) -> Vec<String> {
    let mut found = Vec::new();
    let asked = asked.lock().unwrap();
    let hot = |path: &str| path.starts_with("/hot/");
    let twice = asked.iter().filter(|(path, count)| !hot(path) && **count > 1);
    found.extend(twice.map(|(path, count)| format!("{path}: {count} times")));
    // What is hot is asked for only when the store did not have it.
    let sum = |counts: &HashMap<String, usize>| -> usize {
        counts.iter().filter(|(path, _)| hot(path)).map(|(_, count)| count).sum()
    };
    let fetched = sum(&asked) - sum(before);
    let missed = seen.took.iter().filter(|took| took.kind == load::Kind::Hit && !took.hit).count();
    if fetched > missed {
        found.push(format!("{fetched} fetches of what is hot, and {missed} were no hits"));
    }
    // An idempotent request without a body may be sent again, once.
    let mut counts: HashMap<(String, String), usize> = HashMap::new();
    for request in wrong.iter().flat_map(|origin| origin.all()) {
        *counts.entry((request.method, request.target)).or_default() += 1;
    }
    let too_often = counts.iter().filter(|((method, _), count)| **count > 1 + usize::from(method == "GET"));
    found.extend(too_often.map(|((method, target), count)| format!("{method} {target}: {count} times")));
    found
}

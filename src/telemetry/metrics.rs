//! Counts and distributions of exchanges.
//!
//! Counting is on every request's path: a dozen relaxed additions to counters found by enums' numbers. Each
//! thread adds to one of a few shards, so that cores do not take each other's cache lines; the scrape sums
//! them up. There are no labels here, and what a client or an origin sends makes no series: methods and codes
//! are folded into closed sets. (Hosts that were asked to be told apart are in `sites`, a bounded set.)

pub use super::gauges::{Gauges, ServerGauges, StoreGauges, UpstreamGauges};

use super::rules::RuleCounts;
use super::sites::{SiteSums, Sites};
use super::{Limit, Options, Record};
use crate::access::{Decision, RULES, RuleName};
use crate::cache::outcome::CacheResult;
use crate::field::status::{Forward, ProxyError};
use crate::policy::Reason;
use http::{Method, StatusCode};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The methods that have a name of their own in the metrics; any other is `other`.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"];

/// The codes 100 to 599, then any other, then none sent.
const CODES: usize = 502;
const OTHER_CODE: usize = 500;
const NO_CODE: usize = 501;

pub(super) const RESULTS: usize = CacheResult::ALL.len();

/// The upper ends of the histograms' buckets, in microseconds: a hit takes some ten of them, a download minutes.
pub(super) const BUCKETS: [u64; 18] = [
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    10_000_000,
    60_000_000,
    600_000_000,
];

/// More shards than this would only make the scrape slower.
const MAX_SHARDS: usize = 16;

/// Counts and distributions of all exchanges since the start.
#[derive(Debug)]
pub struct Metrics {
    shards: Box<[Shard]>,
    sites: Sites,
    rules: RuleCounts,
    panics: AtomicU64,
}

/// What one thread, or a few, counted. Aligned to the pair of cache lines that processors fetch at once.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    /// By method and result, made when first needed; then by code.
    requests: [OnceLock<Box<[AtomicU64; CODES]>>; METHODS.len() * RESULTS],
    by_result: [ByResult; RESULTS],
    forwards: [AtomicU64; Forward::ALL.len()],
    rejections: Box<[AtomicU64]>,
    errors: Box<[AtomicU64]>,
    denials: Box<[AtomicU64]>,
    limits: [AtomicU64; Limit::ALL.len()],
    stored: AtomicU64,
    incomplete: AtomicU64,
    repeated: AtomicU64,
}

#[derive(Debug, Default)]
struct ByResult {
    duration: Histogram,
    first_byte: Histogram,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

#[derive(Debug, Default)]
struct Histogram {
    /// One more than bounds: the last has none.
    counts: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

/// All shards together, at one scrape.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// By method, code and result, in the order of their labels; only what was seen.
    pub(super) requests: BTreeMap<(&'static str, Code, &'static str), u64>,
    /// In the order of [`CacheResult::ALL`].
    pub(super) by_result: [ResultSums; RESULTS],
    /// In the order of [`Forward::ALL`].
    pub(super) forwards: [u64; Forward::ALL.len()],
    /// In the order of [`Reason::ALL`].
    pub(super) rejections: Vec<u64>,
    /// In the order of [`ProxyError::ALL`].
    pub(super) errors: Vec<u64>,
    /// In the order of [`RULES`].
    pub(super) denials: Vec<u64>,
    /// Of the configuration's rules: name, allowed, denied.
    pub(super) rules: Vec<(Arc<str>, [u64; 2])>,
    /// In the order of [`Limit::ALL`].
    pub(super) limits: [u64; Limit::ALL.len()],
    pub(super) stored: u64,
    pub(super) incomplete: u64,
    pub(super) repeated: u64,
    pub(super) panics: u64,
    /// Those that have a series of their own, then the rest; empty while nothing is counted by site.
    pub(super) sites: Vec<SiteSums>,
}

/// One result's sums.
#[derive(Debug, Default)]
pub(super) struct ResultSums {
    pub(super) requests: u64,
    pub(super) duration: Distribution,
    pub(super) first_byte: Distribution,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// A histogram's sums; counts are of each bucket alone.
#[derive(Debug, Default)]
pub(super) struct Distribution {
    pub(super) counts: [u64; BUCKETS.len() + 1],
    pub(super) seconds: f64,
}

/// The label of a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Code {
    /// A registered one.
    Known(u16),
    /// Any other, so that an origin can't make series at will.
    Other,
    /// The client left before a head was sent.
    None,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at 0; nothing is counted by site.
    pub fn new() -> Self {
        let shards = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_SHARDS);
        Self {
            shards: (0..shards).map(|_| Shard::new()).collect(),
            sites: Sites::new(shards),
            rules: RuleCounts::default(),
            panics: AtomicU64::new(0),
        }
    }

    /// Takes over which sites are to be told apart. What is counted so far stays.
    pub fn reconfigure(&self, options: &Options) {
        self.sites.reconfigure(options);
    }

    /// Counts one exchange.
    pub fn observe(&self, record: &Record) {
        let number = thread_number() % self.shards.len();
        let shard = &self.shards[number];
        let outcome = &record.outcome;
        let result = outcome.result as usize;

        let codes = shard.requests[method_index(&record.method) * RESULTS + result].get_or_init(zeros);
        add(&codes[code_index(record.status)], 1);
        let by_result = &shard.by_result[result];
        by_result.duration.observe(record.duration);
        if let Some(first_byte) = record.first_byte {
            by_result.first_byte.observe(first_byte);
        }
        add(&by_result.bytes_in, record.bytes_in);
        add(&by_result.bytes_out, record.bytes_out);
        self.sites.observe(record, number);
        if let Some(forward) = outcome.forward {
            add(&shard.forwards[forward as usize], 1);
        }
        if outcome.stored {
            add(&shard.stored, 1);
        } else if let Some(reason) = rejection(record) {
            add(&shard.rejections[reason as usize], 1);
        }
        if let Some(error) = outcome.error {
            add(&shard.errors[error as usize], 1);
        }
        match &record.rule {
            None => {}
            Some(Decision::Denied(RuleName::Own(rule))) => {
                if let Some(rule) = RULES.iter().position(|known| *known == *rule) {
                    add(&shard.denials[rule], 1);
                }
            }
            Some(decision) => self.rules.observe(decision),
        }
        if let Some(limit) = record.limit {
            add(&shard.limits[limit as usize], 1);
        }
        if record.repeated {
            add(&shard.repeated, 1);
        }
        if !record.complete {
            add(&shard.incomplete, 1);
        }
    }

    /// Counts a panic that was caught: it ended one exchange or one connection.
    pub fn panicked(&self) {
        add(&self.panics, 1);
    }

    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums {
            panics: load(&self.panics),
            sites: self.sites.sums(),
            rules: self.rules.sums(),
            rejections: vec![0; Reason::ALL.len()],
            errors: vec![0; ProxyError::ALL.len()],
            denials: vec![0; RULES.len()],
            ..Sums::default()
        };
        for shard in &self.shards {
            shard.add_to(&mut sums);
        }
        sums
    }
}

impl Shard {
    fn new() -> Self {
        Self {
            requests: std::array::from_fn(|_| OnceLock::new()),
            by_result: Default::default(),
            forwards: Default::default(),
            rejections: Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            errors: ProxyError::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            denials: RULES.iter().map(|_| AtomicU64::new(0)).collect(),
            limits: Default::default(),
            stored: AtomicU64::new(0),
            incomplete: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
        }
    }

    fn add_to(&self, sums: &mut Sums) {
        for (index, codes) in self.requests.iter().enumerate() {
            let (method, result) = (METHODS[index / RESULTS], CacheResult::ALL[index % RESULTS]);
            for (code, count) in codes.get().into_iter().flat_map(|codes| codes.iter().enumerate()) {
                let count = load(count);
                if count > 0 {
                    *sums.requests.entry((method, Code::of(code), result.token())).or_default() += count;
                    sums.by_result[index % RESULTS].requests += count;
                }
            }
        }
        for (sum, part) in sums.by_result.iter_mut().zip(&self.by_result) {
            part.duration.add_to(&mut sum.duration);
            part.first_byte.add_to(&mut sum.first_byte);
            sum.bytes_in += load(&part.bytes_in);
            sum.bytes_out += load(&part.bytes_out);
        }
        for (sum, part) in sums.forwards.iter_mut().zip(&self.forwards) {
            *sum += load(part);
        }
        for (sum, part) in sums.rejections.iter_mut().zip(&self.rejections) {
            *sum += load(part);
        }
        for (sum, part) in sums.errors.iter_mut().zip(&self.errors) {
            *sum += load(part);
        }
        for (sum, part) in sums.denials.iter_mut().zip(&self.denials) {
            *sum += load(part);
        }
        for (sum, part) in sums.limits.iter_mut().zip(&self.limits) {
            *sum += load(part);
        }
        sums.stored += load(&self.stored);
        sums.incomplete += load(&self.incomplete);
        sums.repeated += load(&self.repeated);
    }
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        let micros = duration.as_micros() as u64;
        let bucket = BUCKETS.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS.len());
        add(&self.counts[bucket], 1);
        add(&self.nanoseconds, duration.as_nanos() as u64);
    }

    fn add_to(&self, sum: &mut Distribution) {
        for (sum, part) in sum.counts.iter_mut().zip(&self.counts) {
            *sum += load(part);
        }
        sum.seconds += load(&self.nanoseconds) as f64 / 1e9;
    }
}

impl Code {
    fn of(index: usize) -> Self {
        let code = index as u16 + 100;
        match index {
            NO_CODE => Self::None,
            OTHER_CODE => Self::Other,
            _ if StatusCode::from_u16(code).is_ok_and(|code| code.canonical_reason().is_some()) => {
                Self::Known(code)
            }
            _ => Self::Other,
        }
    }
}

/// Why a response from the origin was not stored, where that is what the outcome tells: with a stored response
/// in the answer, the reason is about its reuse.
fn rejection(record: &Record) -> Option<Reason> {
    let outcome = &record.outcome;
    match outcome.result {
        CacheResult::Bypass | CacheResult::Miss => outcome.forward.and(outcome.detail),
        CacheResult::Local
        | CacheResult::Invalid
        | CacheResult::Denied
        | CacheResult::Tunnel
        | CacheResult::Error
        | CacheResult::Collapsed
        | CacheResult::Hit
        | CacheResult::Stale
        | CacheResult::Revalidated => None,
    }
}

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::CONNECT => 5,
        Method::OPTIONS => 6,
        Method::TRACE => 7,
        Method::PATCH => 8,
        _ => 9,
    }
}

fn code_index(status: Option<StatusCode>) -> usize {
    match status.map(|status| usize::from(status.as_u16())) {
        Some(code @ 100..=599) => code - 100,
        Some(_) => OTHER_CODE,
        None => NO_CODE,
    }
}

/// Threads are numbered in the order in which they count for the first time.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

fn zeros() -> Box<[AtomicU64; CODES]> {
    Box::new(std::array::from_fn(|_| AtomicU64::new(0)))
}

pub(super) fn add(counter: &AtomicU64, by: u64) {
    if by > 0 {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

pub(super) fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

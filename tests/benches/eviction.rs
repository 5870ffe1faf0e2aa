//! Which eviction policy keeps what is asked for again? Prints the table that `store::Eviction` quotes.
//!
//! `cargo bench --bench eviction`. Requests are drawn from three loads with a fixed seed, and answered by
//! moka alone: what matters is what stays, not how fast it is.
//!
//! - *scan and hot set*: four of five requests are for a URL that never comes again (a crawler), the others
//!   for a hot set that takes two fifths of the capacity; counted on the hot set.
//! - *large among small*: many small popular objects fill the cache, and every hundredth request is for one
//!   of a few large ones; counted on both.
//! - *CI downloads*: jobs, each fetching most of the same packages in the same order, a few of which are
//!   replaced from job to job; all packages take 0.6, 0.9, and 1.5 times the capacity; counted in bytes.

use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// KiB. What is in a cache is weighed in KiB.
const CAPACITY: u64 = 256 << 10;

/// Who goes first. With a newcomers' share, what is new lies there first, least recently used out; what goes
/// from there is offered to the rest of the cache. With a share of the large, what is larger than
/// [`LARGE`] lies apart.
struct Policy {
    name: &'static str,
    rest: fn() -> EvictionPolicy,
    newcomers: u64,
    large: Option<(fn() -> EvictionPolicy, u64)>,
}

/// KiB.
const LARGE: u64 = 256;

const fn one(name: &'static str, rest: fn() -> EvictionPolicy) -> Policy {
    Policy { name, rest, newcomers: 0, large: None }
}

const fn two(name: &'static str, rest: fn() -> EvictionPolicy, large: fn() -> EvictionPolicy) -> Policy {
    Policy { name, rest, newcomers: 0, large: Some((large, CAPACITY / 2)) }
}

const fn newcomers(name: &'static str, newcomers: u64) -> Policy {
    Policy { name, rest: EvictionPolicy::tiny_lfu, newcomers, large: None }
}

const POLICIES: [Policy; 9] = [
    one("LRU", EvictionPolicy::lru),
    one("TinyLFU", EvictionPolicy::tiny_lfu),
    two("by size: LRU | LRU", EvictionPolicy::lru, EvictionPolicy::lru),
    two("by size: TinyLFU | TinyLFU", EvictionPolicy::tiny_lfu, EvictionPolicy::tiny_lfu),
    two("by size: TinyLFU | LRU", EvictionPolicy::tiny_lfu, EvictionPolicy::lru),
    newcomers("newcomers 1/16, then TinyLFU", CAPACITY / 16),
    newcomers("newcomers 1/8, then TinyLFU", CAPACITY / 8),
    newcomers("newcomers 1/4, then TinyLFU", CAPACITY / 4),
    newcomers("newcomers 1/2, then TinyLFU", CAPACITY / 2),
];

struct Caches {
    newcomers: Option<Cache<u64, u64>>,
    rest: Cache<u64, u64>,
    large: Option<Cache<u64, u64>>,
}

impl Caches {
    fn new(policy: &Policy) -> Self {
        let cache = |policy: EvictionPolicy, capacity| {
            let weigh = |_: &u64, size: &u64| u32::try_from(*size).unwrap_or(u32::MAX);
            Cache::builder().max_capacity(capacity).eviction_policy(policy).weigher(weigh)
        };
        let share = policy.large.map_or(0, |(_, share)| share);
        let rest = cache((policy.rest)(), CAPACITY - share - policy.newcomers).build();
        let offered = rest.clone();
        let newcomers = cache(EvictionPolicy::lru(), policy.newcomers)
            .eviction_listener(move |key, size, cause| {
                if cause == RemovalCause::Size {
                    offered.insert(*key, size);
                }
            })
            .build();
        Self {
            newcomers: (policy.newcomers > 0).then_some(newcomers),
            rest,
            large: policy.large.map(|(policy, share)| cache(policy(), share).build()),
        }
    }

    /// One request for what is `size` KiB large: whether it was there. If not, it is stored.
    fn request(&self, key: u64, size: u64) -> bool {
        let rest = self.large.as_ref().filter(|_| size > LARGE).unwrap_or(&self.rest);
        // The rest first: it counts how often what is not there (yet) was asked for.
        if rest.get(&key).is_some() || self.newcomers.as_ref().is_some_and(|cache| cache.get(&key).is_some())
        {
            return true;
        }
        // As the store does when it is full: what is too much goes now.
        if let Some(newcomers) = &self.newcomers {
            newcomers.insert(key, size);
            newcomers.run_pending_tasks();
        } else {
            rest.insert(key, size);
        }
        rest.run_pending_tasks();
        false
    }
}

/// Draws ranks that follow Zipf's law.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(ranks: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=ranks).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        Self(sums.collect())
    }

    fn draw(&self, random: &mut StdRng) -> u64 {
        let point = random.random::<f64>() * self.0.last().copied().unwrap_or(1.0);
        self.0.partition_point(|sum| *sum < point) as u64
    }
}

#[derive(Default)]
struct Ratio {
    hits: u64,
    all: u64,
}

impl Ratio {
    fn count(&mut self, hit: bool, weight: u64) {
        self.hits += if hit { weight } else { 0 };
        self.all += weight;
    }

    fn percent(&self) -> f64 {
        100.0 * self.hits as f64 / self.all.max(1) as f64
    }
}

/// The hot set's hits, and the second requests' of what else came.
fn scan_and_hot_set(caches: &Caches) -> (Ratio, Ratio) {
    let mut random = StdRng::seed_from_u64(1);
    let size = 16;
    let hot = CAPACITY / 5 / size;
    let scanned = |n: u64| (1_000_000 + n, 1 + n * 7919 % 64);
    let (mut set, mut again) = (Ratio::default(), Ratio::default());
    for n in 0..400_000 {
        let count = u64::from(n > 100_000);
        if n % 5 == 0 {
            set.count(caches.request(random.random_range(0..hot), size), count);
        } else if n % 100 == 1 && n > 100 {
            let (key, size) = scanned(n - 98);
            again.count(caches.request(key, size), count);
        } else {
            let (key, size) = scanned(n);
            caches.request(key, size);
        }
    }
    (set, again)
}

fn large_among_small(caches: &Caches) -> (Ratio, Ratio) {
    let mut random = StdRng::seed_from_u64(2);
    let popular = Zipf::new(60_000, 0.8);
    let (mut small, mut large) = (Ratio::default(), Ratio::default());
    for n in 0..300_000 {
        if n > 100_000 && n % 100 == 0 {
            // Five objects of 16 MiB, once the cache is full.
            large.count(caches.request(1_000_000 + random.random_range(0..5), 16 << 10), 1);
        } else {
            let rank = popular.draw(&mut random);
            let hit = caches.request(rank, 1 + rank % 16);
            small.count(hit, u64::from(n > 100_000));
        }
    }
    (small, large)
}

fn ci_downloads(caches: &Caches, load: f64) -> Ratio {
    let mut random = StdRng::seed_from_u64(3);
    // Packages from 4 KiB to 32 MiB, evenly over the orders of magnitude.
    let mut packages: Vec<(u64, u64)> = Vec::new();
    let mut next = 0;
    let mut package = |random: &mut StdRng| {
        next += 1;
        (next, 2f64.powf(random.random_range(2.0..15.0)) as u64)
    };
    let mut sum = 0;
    while (sum as f64) < CAPACITY as f64 * load {
        let (key, size) = package(&mut random);
        sum += size;
        packages.push((key, size));
    }
    let mut ratio = Ratio::default();
    for job in 0..60 {
        for (key, size) in &mut packages {
            // A release: one of a hundred packages is new in each job.
            if random.random_ratio(1, 100) {
                *key = package(&mut random).0;
            }
            let (key, size) = (*key, *size);
            let hit = caches.request(key, size);
            if job >= 10 {
                ratio.count(hit, size);
            }
        }
    }
    ratio
}

fn main() {
    let columns = ["hot set", "again", "small", "large", "CI 0.6", "CI 0.9", "CI 1.5"];
    print!("{:32}", "hits, %");
    println!("{}", columns.map(|column| format!(" {column:>8}")).concat());
    for policy in &POLICIES {
        let new = || Caches::new(policy);
        let (set, again) = scan_and_hot_set(&new());
        let (small, large) = large_among_small(&new());
        let jobs = [0.6, 0.9, 1.5].map(|load| ci_downloads(&new(), load));
        print!("{:32}", policy.name);
        [set, again, small, large].iter().chain(&jobs).for_each(|ratio| print!(" {:8.1}", ratio.percent()));
        println!();
    }
}

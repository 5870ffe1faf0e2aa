//! Counts by site, where they are wanted: a bounded set of hosts, the rest as one.
//!
//! A site is listed in the configuration, or among the first hosts that were answered. It is numbered as it comes
//! and stays what it is until the process ends: where several fit a host, the one that came first counts, so that
//! no host ever changes its series. A reload can only add.
//!
//! Until the first site is asked for, an exchange pays one load. After that it pays a lookup in a table that is
//! replaced as a whole when a site is added (at most [`MAX_SITES`] times), and two relaxed additions.

use super::metrics::{RESULTS, add, load};
use super::{Options, Record, Url};
use crate::cache::outcome::CacheResult;
use crate::field::target::{Host, without_dot};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

/// The most sites that have a series of their own, listed ones and met ones together: each has up to one a result
/// and figure, and a scraper pays for all of them.
pub const MAX_SITES: usize = 1_000;

/// What is counted under none of them. A host of this very name is counted so too.
const OTHER: &str = "other";

/// All sites.
#[derive(Debug)]
pub(super) struct Sites {
    /// Empty until somebody asks for sites.
    table: OnceLock<ArcSwap<Table>>,
    /// Held while a new table is made of the old one.
    change: Mutex<()>,
    /// How many parts each site's counters have.
    shards: usize,
}

/// Which host is which site.
#[derive(Clone, Debug)]
struct Table {
    /// In the order in which they came.
    sites: Vec<Arc<Site>>,
    names: Numbers<Box<str>>,
    /// The names of which all below them is one site with them.
    suffixes: Numbers<Box<str>>,
    addresses: Numbers<IpAddr>,
    /// How many more may come by being met.
    room: usize,
    /// How many came so.
    met: usize,
    other: Arc<Site>,
}

type Numbers<K> = HashMap<K, usize, ahash::RandomState>;

/// One site's counters, in as many parts as the other metrics have.
#[derive(Debug)]
struct Site {
    name: Box<str>,
    shards: Box<[Counts]>,
}

/// By result, in the order of [`CacheResult::ALL`].
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counts {
    requests: [AtomicU64; RESULTS],
    bytes_out: [AtomicU64; RESULTS],
}

/// One site at a scrape.
#[derive(Debug)]
pub(super) struct SiteSums {
    /// The host, the suffix as it was listed, or `other`.
    pub(super) name: String,
    /// By result.
    pub(super) requests: [u64; RESULTS],
    /// By result.
    pub(super) bytes_out: [u64; RESULTS],
}

impl Sites {
    pub(super) fn new(shards: usize) -> Self {
        Self { table: OnceLock::new(), change: Mutex::new(()), shards }
    }

    /// Adds what is newly listed, and takes over how many may be met.
    pub(super) fn reconfigure(&self, options: &Options) {
        if self.table.get().is_none() && options.sites.is_empty() && options.first_sites == 0 {
            return;
        }
        let table = self.table.get_or_init(|| ArcSwap::from_pointee(Table::new(self.shards)));
        let _alone = self.change.lock();
        let mut new = Table::clone(&table.load());
        for pattern in &options.sites {
            new.list(pattern, self.shards);
        }
        new.room = options.first_sites.saturating_sub(new.met).min(MAX_SITES.saturating_sub(new.sites.len()));
        table.store(Arc::new(new));
    }

    /// Counts one exchange, in the shard of this number.
    pub(super) fn observe(&self, record: &Record, shard: usize) {
        let Some(swap) = self.table.get() else { return };
        let table = swap.load();
        let host = match &record.url {
            Url::Target(target) => Some(&target.host),
            Url::Shared(target) => Some(&target.host),
            Url::Text(_) => None,
        };
        match host.and_then(|host| table.find(host)) {
            Some(site) => site.count(record, shard),
            None => match host.filter(|host| table.room > 0 && answered(record) && !is_other(host)) {
                Some(host) => self.meet(swap, host).count(record, shard),
                None => table.other.count(record, shard),
            },
        }
    }

    /// The site of a host that had none a moment ago.
    fn meet(&self, swap: &ArcSwap<Table>, host: &Host) -> Arc<Site> {
        let _alone = self.change.lock();
        let table = swap.load();
        if let Some(site) = table.find(host) {
            return Arc::clone(site);
        }
        let mut new = Table::clone(&table);
        if new.room == 0 || !new.add(host, self.shards) {
            return Arc::clone(&table.other);
        }
        new.room -= 1;
        new.met += 1;
        let site = new.sites.last().map_or_else(|| Arc::clone(&new.other), Arc::clone);
        swap.store(Arc::new(new));
        site
    }

    /// All of them, and the rest at last.
    pub(super) fn sums(&self) -> Vec<SiteSums> {
        let table = self.table.get().map(ArcSwap::load);
        table
            .iter()
            .flat_map(|table| table.sites.iter().chain([&table.other]))
            .map(|site| site.sums())
            .collect()
    }
}

impl Table {
    fn new(shards: usize) -> Self {
        Self {
            sites: Vec::new(),
            names: Numbers::default(),
            suffixes: Numbers::default(),
            addresses: Numbers::default(),
            room: 0,
            met: 0,
            other: Arc::new(Site::new(OTHER, shards)),
        }
    }

    /// The first site that fits.
    fn find(&self, host: &Host) -> Option<&Arc<Site>> {
        let number = match host {
            Host::Ip(address) => self.addresses.get(address).copied(),
            Host::Name(name) => {
                let name = without_dot(name);
                let exact = self.names.get(name).copied();
                if self.suffixes.is_empty() {
                    exact
                } else {
                    let above = std::iter::successors(Some(name), |name| Some(name.split_once('.')?.1));
                    above.filter_map(|name| self.suffixes.get(name).copied()).chain(exact).min()
                }
            }
        };
        self.sites.get(number?)
    }

    /// Adds what the configuration lists: a host, or `.suffix`.
    fn list(&mut self, pattern: &str, shards: usize) {
        let name = without_dot(pattern);
        if let Some(suffix) = name.strip_prefix('.') {
            let number = self.sites.len();
            if number < MAX_SITES && !self.suffixes.contains_key(suffix) {
                self.suffixes.insert(suffix.into(), number);
                self.sites.push(Arc::new(Site::new(name, shards)));
            }
            return;
        }
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let host = literal.parse().map_or_else(|_| Host::Name(name.into()), Host::Ip);
        let known = match &host {
            Host::Ip(address) => self.addresses.contains_key(address),
            Host::Name(name) => self.names.contains_key(name.as_str()),
        };
        if !known && !self.add(&host, shards) && name != OTHER {
            tracing::warn!(site = name, "counted as {OTHER}: there are {MAX_SITES} sites already");
        }
    }

    /// Adds a host that is none yet; false where it can't be.
    fn add(&mut self, host: &Host, shards: usize) -> bool {
        let number = self.sites.len();
        if number >= MAX_SITES {
            return false;
        }
        let name = host.to_string();
        let name = without_dot(&name);
        match host {
            Host::Name(_) if name == OTHER => return false,
            Host::Name(_) => self.names.insert(name.into(), number),
            Host::Ip(address) => self.addresses.insert(*address, number),
        };
        self.sites.push(Arc::new(Site::new(name, shards)));
        true
    }
}

impl Site {
    fn new(name: &str, shards: usize) -> Self {
        Self { name: name.into(), shards: (0..shards).map(|_| Counts::default()).collect() }
    }

    fn count(&self, record: &Record, shard: usize) {
        let (counts, result) = (&self.shards[shard], record.outcome.result as usize);
        add(&counts.requests[result], 1);
        add(&counts.bytes_out[result], record.bytes_out);
    }

    fn sums(&self) -> SiteSums {
        let sum = |figure: fn(&Counts) -> &[AtomicU64; RESULTS]| {
            std::array::from_fn(|result| self.shards.iter().map(|counts| load(&figure(counts)[result])).sum())
        };
        SiteSums {
            name: self.name.to_string(),
            requests: sum(|counts| &counts.requests),
            bytes_out: sum(|counts| &counts.bytes_out),
        }
    }
}

/// Whether it can't be told from the rest.
fn is_other(host: &Host) -> bool {
    matches!(host, Host::Name(name) if without_dot(name) == OTHER)
}

/// Whether the host has shown that it exists: what is misspelt, refused or dead takes nobody's place.
fn answered(record: &Record) -> bool {
    match record.outcome.result {
        CacheResult::Local | CacheResult::Invalid | CacheResult::Denied | CacheResult::Error => false,
        CacheResult::Tunnel
        | CacheResult::Bypass
        | CacheResult::Collapsed
        | CacheResult::Hit
        | CacheResult::Stale
        | CacheResult::Revalidated
        | CacheResult::Miss => record.status.is_some(),
    }
}

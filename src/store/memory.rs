//! The memory tier: moka, by weight.
//!
//! moka drops what it has removed when its epoch collector comes to it: with busy writers that is ten times
//! the capacity later. So what it holds is a [`Slot`] that its eviction listener empties: the responses go at
//! once, and only the empty slot waits.
//!
//! moka's `TinyLFU` alone turns most newcomers away from a full cache: what is asked for the second time is
//! not there. So newcomers lie in a cache of their own first, least recently used out, and what goes from
//! there is offered to the rest, whose sketch has counted meanwhile how often it was asked for. This is
//! W-TinyLFU with a large window. `tests/benches/eviction.rs` measures it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;

use super::Eviction;
use super::index::Candidates;
use super::key::{CacheKey, Prehashed};
use crate::worker::Apart;

/// moka weighs in u32. In units of 64 bytes that is 256 GiB for one key, and rounding costs a small response
/// 3 % at most.
const UNIT: u64 = 64;
/// One part of so many is the newcomers'. A quarter holds two responses of the default largest size; less
/// loses large ones among small, more loses what is asked for now and then (see the table).
const NEWCOMERS: u64 = 4;

/// By the hash of a key. That what is found is of the key itself, its URL tells.
type Slots = Cache<u64, Arc<Slot>, Prehashed>;

/// Counts of changes, each of a part of all keys. So many that few changes are of what is asked for.
const CHANGES: usize = 64;

pub(super) struct Memory {
    rest: Slots,
    newcomers: Option<Slots>,
    capacity: u64,
    counters: Arc<Counters>,
    /// Counts the calls of [`Memory::tick`], some one a second, so as to tell how long something was not used.
    tick: AtomicU32,
}

/// What lies under a key, until it is emptied. What takes its place may do so here, where it is as heavy.
pub(super) struct Slot(Mutex<Option<Candidates>>);

#[derive(Default)]
struct Counters {
    responses: AtomicU64,
    bytes: AtomicU64,
    evicted: AtomicU64,
    changes: Changes,
}

/// How often what lies under keys has changed, by their hashes: what nothing has happened to need not be looked up again.
/// Read much more often than written: no count makes another's be fetched anew.
struct Changes(Box<[Apart<AtomicU32>]>);

/// A change that is under way, and counts when it is done.
struct Changing<'a>(&'a AtomicU32);

/// What is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) responses: u64,
    pub(super) bytes: u64,
    pub(super) evicted: u64,
}

impl Memory {
    pub(super) fn new(capacity: u64, policy: Eviction) -> Self {
        let counters = Arc::new(Counters::default());
        match policy {
            Eviction::Lru => {
                let listener = Arc::clone(&counters);
                let gone = move |hash: Arc<u64>, slot: Arc<Slot>, cause| listener.gone(*hash, &slot, cause);
                let rest = slots(capacity, EvictionPolicy::lru(), gone);
                Self { rest, newcomers: None, capacity, counters, tick: AtomicU32::new(0) }
            }
            Eviction::TinyLfu => {
                let share = capacity / NEWCOMERS;
                let listener = Arc::clone(&counters);
                let gone = move |hash: Arc<u64>, slot: Arc<Slot>, cause| listener.gone(*hash, &slot, cause);
                let rest = slots(capacity - share, EvictionPolicy::tiny_lfu(), gone);
                let (listener, offered) = (Arc::clone(&counters), rest.clone());
                let offer = move |hash: Arc<u64>, slot: Arc<Slot>, cause| {
                    if cause == RemovalCause::Size && slot.0.lock().is_some() {
                        offered.insert(*hash, slot);
                    } else {
                        listener.gone(*hash, &slot, cause);
                    }
                };
                let newcomers = Some(slots(share, EvictionPolicy::lru(), offer));
                Self { rest, newcomers, capacity, counters, tick: AtomicU32::new(0) }
            }
        }
    }

    /// Bytes that may be stored.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How often something of this key, or of others, has changed.
    pub(super) fn changes(&self, key: &CacheKey) -> u32 {
        self.counters.changes.of(key.hash64()).load(Ordering::Acquire)
    }

    /// What lies under the key has changed by itself.
    pub(super) fn changed(&self, key: &CacheKey) {
        drop(self.counters.changes.begin(key.hash64()));
    }

    pub(super) fn get(&self, key: &CacheKey) -> Candidates {
        self.find(key).map_or_else(Candidates::default, |(_, candidates)| candidates)
    }

    // What lies under the key, where it is of that and not of another one of the same hash: once in a life, and a miss.
    fn find(&self, key: &CacheKey) -> Option<(Arc<Slot>, Candidates)> {
        self.find_by(key.hash64()).filter(|(_, found)| found.first().is_some_and(|first| first.is_of(key)))
    }

    fn find_by(&self, hash: u64) -> Option<(Arc<Slot>, Candidates)> {
        // A slot that was emptied between the look-up and here has been replaced, or its key removed: look
        // again. Whoever loses that race three times in a row gets a miss.
        for _ in 0..3 {
            // The rest first: it counts how often what is not there (yet) was asked for.
            let slot = self.rest.get(&hash).or_else(|| self.newcomers.as_ref()?.get(&hash));
            match slot {
                Some(slot) => {
                    let candidates = slot.0.lock().clone();
                    if let Some(candidates) = candidates {
                        candidates.touch(self.tick.load(Ordering::Relaxed));
                        return Some((slot, candidates));
                    }
                }
                // Unless it went over while this looked.
                None if self.newcomers.is_none() || !self.rest.contains_key(&hash) => break,
                None => {}
            }
        }
        None
    }

    /// The same without counting what is not there as asked for. A request counts once, by its first look: if each for
    /// something new counted as much as several hits, it would drive out what is asked for again.
    pub(super) fn get_again(&self, key: &CacheKey) -> Candidates {
        self.find_again(key).map_or_else(Candidates::default, |(_, candidates)| candidates)
    }

    /// The same, with the place where they lie.
    pub(super) fn find_again(&self, key: &CacheKey) -> Option<(Arc<Slot>, Candidates)> {
        if self.is_there(key.hash64()) { self.find(key) } else { None }
    }

    fn is_there(&self, hash: u64) -> bool {
        // It may go over from the newcomers to the rest meanwhile.
        self.rest.contains_key(&hash)
            || self
                .newcomers
                .as_ref()
                .is_some_and(|newcomers| newcomers.contains_key(&hash) || self.rest.contains_key(&hash))
    }

    /// Puts what is as heavy as what lies in `slot` in its place. Gives it back where it is not, or where nothing lies there
    /// any more. moka, which learns nothing of it, would take three times as long.
    pub(super) fn replace(
        &self,
        key: &CacheKey,
        slot: &Slot,
        candidates: Candidates,
    ) -> Result<(), Candidates> {
        let _change = self.counters.changes.begin(key.hash64());
        let mut place = slot.0.lock();
        let Some(old) = place.as_mut().filter(|old| old.weight() == candidates.weight()) else {
            return Err(candidates);
        };
        candidates.touch(self.tick.load(Ordering::Relaxed));
        self.counters.responses.fetch_add(candidates.len() as u64, Ordering::Relaxed);
        self.counters.responses.fetch_sub(old.len() as u64, Ordering::Relaxed);
        let old = std::mem::replace(old, candidates);
        // Freed after the lock is left.
        drop(place);
        drop(old);
        Ok(())
    }

    /// Puts what lies under a key; false if it was not kept. To be called by one writer of the key at a time.
    pub(super) fn put(&self, key: &CacheKey, candidates: Candidates) -> bool {
        if candidates.is_empty() {
            self.remove(key.hash64());
            return true;
        }
        let (hash, weight) = (key.hash64(), candidates.weight());
        let _change = self.counters.changes.begin(hash);
        self.counters.responses.fetch_add(candidates.len() as u64, Ordering::Relaxed);
        self.counters.bytes.fetch_add(weight, Ordering::Relaxed);
        candidates.touch(self.tick.load(Ordering::Relaxed));
        let slot = Arc::new(Slot(Mutex::new(Some(candidates))));
        let Some(newcomers) = &self.newcomers else {
            self.rest.insert(hash, slot);
            return true;
        };
        if self.rest.contains_key(&hash) {
            self.rest.insert(hash, slot);
            return true;
        }
        newcomers.insert(hash, slot);
        // What lay among the newcomers may have gone over to the rest meanwhile.
        self.rest.invalidate(&hash);
        if weight.div_ceil(UNIT) <= newcomers.policy().max_capacity().unwrap_or(u64::MAX) {
            return true;
        }
        // Too large for the newcomers' share: it goes over at once, and may be turned away there.
        self.settle();
        self.rest.contains_key(&hash)
    }

    /// Removes what lies under the keys of this hash; gives how many responses that were.
    pub(super) fn remove(&self, hash: u64) -> usize {
        let _change = self.counters.changes.begin(hash);
        let found = if self.is_there(hash) { self.find_by(hash) } else { None };
        if let Some(newcomers) = &self.newcomers {
            // Something on its way from the newcomers to the rest lies in neither. While it is, moka holds
            // the key's lock, which an insertion waits for, but not the invalidation of what is not there.
            newcomers.insert(hash, Arc::new(Slot::empty()));
            newcomers.invalidate(&hash);
        }
        self.rest.invalidate(&hash);
        found.map_or(0, |(_, candidates)| candidates.len())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Candidates> + '_ {
        // What goes over to the rest meanwhile is met there; the other way round it might be met nowhere.
        self.newcomers.iter().flatten().chain(self.rest.iter()).filter_map(|(_, slot)| slot.0.lock().clone())
    }

    /// Another span of time begins.
    pub(super) fn tick(&self) {
        self.tick.fetch_add(1, Ordering::Relaxed);
    }

    /// The hashes of keys with at least `wanted` bytes under them, or all: those that were not used for the longest time.
    /// moka can't be given another capacity, so that whoever wants it smaller has to remove these.
    pub(super) fn longest_unused(&self, wanted: u64) -> Vec<u64> {
        let now = self.tick.load(Ordering::Relaxed);
        // By the length of the age in bits: what was used just now, a tick ago, two or three, four to seven...
        let age = |slot: &Slot| {
            let unused = slot.0.lock().as_ref().map_or(0, |found| found.unused_for(now));
            (u32::BITS - unused.leading_zeros()) as usize
        };
        let slots = || self.newcomers.iter().flatten().chain(self.rest.iter());
        let mut ages = [0; u32::BITS as usize + 1];
        for (_, slot) in slots() {
            ages[age(&slot)] += slot.weight();
        }
        // All of what is older than `youngest`, and of that age what is wanted still.
        let (mut youngest, mut rest) = (ages.len(), wanted);
        while youngest > 0 {
            youngest -= 1;
            if ages[youngest] >= rest {
                break;
            }
            rest -= ages[youngest];
        }
        let mut hashes = Vec::new();
        for (hash, slot) in slots() {
            let age = age(&slot);
            if age > youngest || (age == youngest && rest > 0) {
                if age == youngest {
                    rest = rest.saturating_sub(slot.weight());
                }
                hashes.push(*hash);
            }
        }
        hashes
    }

    /// Removes what lies under the keys of this hash to make room.
    pub(super) fn evict(&self, hash: u64) {
        let count = self.remove(hash);
        self.counters.evicted.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Removes what is too much, now.
    pub(super) fn settle(&self) {
        // moka does some hundreds at a time, or what it can in a tenth of a second: a large body may have to push out
        // thousands of small ones.
        let mut idle = 0;
        while idle < 3 {
            let before = self.held().bytes;
            if let Some(newcomers) = &self.newcomers {
                newcomers.run_pending_tasks();
            }
            self.rest.run_pending_tasks();
            let after = self.held().bytes;
            if after <= self.capacity {
                break;
            }
            idle = if after >= before { idle + 1 } else { 0 };
        }
    }

    pub(super) fn held(&self) -> Held {
        Held {
            responses: self.counters.responses.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
            evicted: self.counters.evicted.load(Ordering::Relaxed),
        }
    }
}

impl Slot {
    fn empty() -> Self {
        Self(Mutex::new(None))
    }

    fn weight(&self) -> u64 {
        self.0.lock().as_ref().map_or(0, Candidates::weight)
    }
}

fn slots(
    capacity: u64,
    policy: EvictionPolicy,
    listener: impl Fn(Arc<u64>, Arc<Slot>, RemovalCause) + Send + Sync + 'static,
) -> Slots {
    Cache::builder()
        .max_capacity(capacity / UNIT)
        .weigher(|_, slot: &Arc<Slot>| u32::try_from(slot.weight().div_ceil(UNIT)).unwrap_or(u32::MAX))
        .eviction_policy(policy)
        .eviction_listener(listener)
        .build_with_hasher(Prehashed::default())
}

impl Default for Changes {
    fn default() -> Self {
        Self(std::iter::repeat_with(Apart::default).take(CHANGES).collect())
    }
}

impl Changes {
    fn of(&self, hash: u64) -> &AtomicU32 {
        &self.0[hash as usize % CHANGES].0
    }

    /// To be held while what lies under the hash is changed.
    fn begin(&self, hash: u64) -> Changing<'_> {
        Changing(self.of(hash))
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl Counters {
    fn gone(&self, hash: u64, slot: &Slot, cause: RemovalCause) {
        let _change = self.changes.begin(hash);
        let Some(candidates) = slot.0.lock().take() else { return };
        let responses = candidates.len() as u64;
        self.responses.fetch_sub(responses, Ordering::Relaxed);
        self.bytes.fetch_sub(candidates.weight(), Ordering::Relaxed);
        if cause == RemovalCause::Size {
            self.evicted.fetch_add(responses, Ordering::Relaxed);
        }
        // After the lock is left: this may free much.
        drop(candidates);
    }
}

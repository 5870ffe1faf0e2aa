//! Tells what was fetched before an invalidation from what was fetched after it.
//!
//! Invalidations are numbered. A fetch remembers the number of the last one from before it asked; what it
//! brings is stored only if none since then was of its key. The keys of the latest invalidations are kept, by
//! their hashes; of older ones it is assumed that they were of any key, which costs a fetch at worst.

use ahash::RandomState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::key::CacheKey;

/// Independent parts, so that invalidations seldom wait for each other.
const SHARDS: usize = 16;
/// Keys kept in each: 16 bytes each, and far more invalidations than happen while a fetch runs.
const KEPT: usize = 4096;

/// A moment in the sequence of invalidations, from before a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    number: u64,
    all: u64,
}

impl Generation {
    /// As new as `later` where single keys were invalidated, and no newer where all of them were.
    #[must_use]
    pub fn past_invalidations(self, later: Self) -> Self {
        Self { number: later.number, all: self.all }
    }
}

pub(super) struct Generations {
    number: AtomicU64,
    all: AtomicU64,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Default)]
struct Shard {
    /// The number of the last invalidation of a key, by its hash.
    last: HashMap<u64, u64, RandomState>,
    /// Up to this number, nothing is known.
    forgotten: u64,
}

// Sequentially consistent throughout: whoever stores checks after it has stored, whoever purges moves the
// generation before it looks, and one of them has to see the other.
impl Generations {
    pub(super) fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
            all: AtomicU64::new(0),
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
        }
    }

    pub(super) fn now(&self) -> Generation {
        Generation { number: self.number.load(Ordering::SeqCst), all: self.all.load(Ordering::SeqCst) }
    }

    /// Whether no invalidation since `generation` was of `key`.
    pub(super) fn holds(&self, key: &CacheKey, generation: Generation) -> bool {
        if self.all.load(Ordering::SeqCst) != generation.all {
            return false;
        }
        if self.number.load(Ordering::SeqCst) == generation.number {
            return true;
        }
        let shard = self.shard(key).lock();
        shard.forgotten <= generation.number
            && shard.last.get(&key.hash64()).is_none_or(|last| *last <= generation.number)
    }

    pub(super) fn advance(&self, key: &CacheKey) {
        let mut shard = self.shard(key).lock();
        // Under the lock: whoever sees the number waits for the key.
        let number = self.number.fetch_add(1, Ordering::SeqCst) + 1;
        if shard.last.len() >= KEPT {
            shard.last.clear();
            shard.forgotten = number;
        }
        shard.last.insert(key.hash64(), number);
    }

    pub(super) fn advance_all(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
    }

    fn shard(&self, key: &CacheKey) -> &Mutex<Shard> {
        // Not the bits that choose the lock.
        &self.shards[(key.hash64() >> 32) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::target::Target;

    fn key(n: usize) -> CacheKey {
        let uri = format!("http://h/{n}").parse().unwrap();
        CacheKey::of(&Target::absolute(&uri).unwrap(), None)
    }

    #[test]
    fn an_invalidation_moves_its_own_key_and_no_other() {
        let generations = Generations::new();
        let before = generations.now();
        for n in 0..1000 {
            generations.advance(&key(n));
        }
        assert!((0..1000).all(|n| !generations.holds(&key(n), before)));
        assert!((1000..2000).all(|n| generations.holds(&key(n), before)));
        let after = generations.now();
        assert!((0..1000).all(|n| generations.holds(&key(n), after)));
        generations.advance_all();
        assert!(!generations.holds(&key(5000), after));
    }

    #[test]
    fn what_is_forgotten_counts_as_moved() {
        let generations = Generations::new();
        let first = generations.now();
        for n in 0..=2 * SHARDS * KEPT {
            generations.advance(&key(n));
        }
        assert!(!generations.holds(&key(0), first));
        assert!(!generations.holds(&key(usize::MAX), first));
        assert!(generations.holds(&key(usize::MAX), generations.now()));
    }
}

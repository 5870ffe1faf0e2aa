//! Tells what was fetched before an invalidation from what was fetched after it.
//!
//! A fixed table of counters, many keys to one of them: an invalidation may supersede the fetch of another
//! key, which then is not stored once. That costs a fetch; a counter for each key would cost memory that
//! clients control.

use std::sync::atomic::{AtomicU64, Ordering};

use super::key::CacheKey;

/// Two fetches at a time whose keys share a counter, one of them being invalidated: with so many counters
/// that is one in four thousand.
const COUNTERS: usize = 4096;

/// A state of a key, from before a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    key: u64,
    all: u64,
}

pub(super) struct Generations {
    keys: Box<[AtomicU64]>,
    all: AtomicU64,
}

// Sequentially consistent throughout: whoever stores checks after it has stored, whoever purges moves the
// generation before it looks, and one of them has to see the other.
impl Generations {
    pub(super) fn new() -> Self {
        Self {
            keys: std::iter::repeat_with(AtomicU64::default).take(COUNTERS).collect(),
            all: AtomicU64::new(0),
        }
    }

    pub(super) fn of(&self, key: &CacheKey) -> Generation {
        Generation { key: self.counter(key).load(Ordering::SeqCst), all: self.all.load(Ordering::SeqCst) }
    }

    pub(super) fn advance(&self, key: &CacheKey) {
        self.counter(key).fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn advance_all(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
    }

    fn counter(&self, key: &CacheKey) -> &AtomicU64 {
        // Not the bits that choose the lock.
        &self.keys[(key.hash64() >> 32) as usize % COUNTERS]
    }
}

//! A ledger of bytes, and shares of it that give themselves back.
//!
//! The store counts everything it keeps alive against one: stored responses, fills under way, and evicted
//! bodies that somebody still reads. The ledger is only as honest as its users.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chunk::{Chunk, Pool};

/// So many bytes and no more. Clones are handles on the same ledger.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Ledger>);

#[derive(Debug)]
struct Ledger {
    limit: AtomicU64,
    used: AtomicU64,
    // The most that was ever in use, for tests and stats.
    peak: AtomicU64,
    chunks: Arc<Pool>,
}

impl Budget {
    /// A ledger of `limit` bytes, none of them used.
    pub fn new(limit: u64) -> Self {
        let chunks = Arc::new(Pool::new(limit));
        let limit = AtomicU64::new(limit);
        Self(Arc::new(Ledger { limit, used: AtomicU64::new(0), peak: AtomicU64::new(0), chunks }))
    }

    /// Takes `bytes` from the ledger, or nothing when that would pass the limit.
    pub fn reserve(&self, bytes: u64) -> Option<Reservation> {
        self.0.take(bytes).then(|| Reservation { ledger: Arc::clone(&self.0), bytes })
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The most bytes that were ever in use.
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Bytes that may be in use.
    pub fn limit(&self) -> u64 {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Changes how many bytes may be in use. What is reserved stays so.
    pub fn set_limit(&self, limit: u64) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }
}

impl Ledger {
    // Relaxed is enough: the ledger guards a figure, no memory.
    fn take(&self, bytes: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= limit)
        });
        if let Ok(before) = taken {
            self.peak.fetch_max(before + bytes, Ordering::Relaxed);
        }
        taken.is_ok()
    }
}

/// Bytes taken from a [`Budget`]; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Reservation {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes bytes until `bytes` are held; false, and nothing changes, when the ledger has not that many.
    pub fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let taken = self.ledger.take(more);
        if taken {
            self.bytes = bytes;
        }
        taken
    }

    /// Gives bytes back until at most `bytes` are held.
    pub fn shrink_to(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.ledger.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.bytes = bytes;
        }
    }

    /// Parts with up to `bytes`, which the other reservation then holds.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { ledger: Arc::clone(&self.ledger), bytes }
    }

    /// Memory for a chunk of what is reserved; the ledger does not count it again.
    pub(super) fn chunk(&self) -> Option<Chunk> {
        self.ledger.chunks.take()
    }

    /// Memory on the heap that this pays for to the byte; `Err` where it does not.
    pub(super) fn pay_for(mut self, bytes: Box<[u8]>) -> Result<Paid, (Self, Box<[u8]>)> {
        if self.bytes != bytes.len() as u64 {
            return Err((self, bytes));
        }
        self.bytes = 0;
        Ok(Paid { ledger: Arc::clone(&self.ledger), bytes })
    }

    /// Takes over what another one of the same ledger holds.
    pub fn merge(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.ledger, &other.ledger), "reservations of different ledgers");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Memory and the reservation that pays for it, which gives itself back with it: smaller than both side by side.
pub(super) struct Paid {
    ledger: Arc<Ledger>,
    bytes: Box<[u8]>,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Paid {
    fn drop(&mut self) {
        self.ledger.used.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_gives_what_it_has_and_takes_back_what_is_dropped() {
        let budget = Budget::new(100);
        let mut first = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_none());
        let second = budget.reserve(40).unwrap();
        assert_eq!(budget.used(), 100);
        assert!(!first.grow_to(61), "the ledger is full");
        assert_eq!(first.bytes(), 60);
        drop(second);
        assert!(first.grow_to(70));
        let part = first.split(20);
        assert_eq!((first.bytes(), part.bytes(), budget.used()), (50, 20, 70));
        first.shrink_to(10);
        assert_eq!(budget.used(), 30);
        drop((first, part));
        assert_eq!((budget.used(), budget.peak()), (0, 100));
    }

    #[test]
    fn a_lower_limit_holds_for_what_comes_and_takes_nothing_away() {
        let budget = Budget::new(100);
        let held = budget.reserve(80).unwrap();
        budget.set_limit(50);
        assert_eq!((budget.limit(), budget.used()), (50, 80));
        assert!(budget.reserve(1).is_none());
        drop(held);
        let held = budget.reserve(50).unwrap();
        assert!(budget.reserve(1).is_none());
        budget.set_limit(100);
        assert!(budget.reserve(50).is_some());
        drop(held);
    }

    #[test]
    fn a_sum_past_u64_is_refused() {
        let budget = Budget::new(u64::MAX);
        let _held = budget.reserve(10).unwrap();
        assert!(budget.reserve(u64::MAX).is_none());
    }
}

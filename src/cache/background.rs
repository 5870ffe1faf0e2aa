//! What runs for no client, and how much of it may.
//!
//! A fetch ends with those who wait for it, so that clients bound what there is of them. Two things go on without any:
//! the validation of a response that was served stale, and a fill that its last reader has left. Each of these holds a
//! place here, and without one it isn't begun, or ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How much runs for no client.
#[derive(Debug, Default)]
pub(crate) struct Background {
    running: AtomicUsize,
    refused: AtomicU64,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Running(Arc<Background>);

impl Background {
    /// A place, where fewer than `limit` are taken. Otherwise the refusal is counted.
    pub(crate) fn begin(self: &Arc<Self>, limit: usize) -> Option<Running> {
        // Relaxed is enough: this guards a figure, no memory.
        let taken = self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |running| {
            (running < limit).then_some(running + 1)
        });
        if taken.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok().then(|| Running(Arc::clone(self)))
    }

    /// How many places are taken.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// How many were refused since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_places_as_the_limit_says_and_they_come_back() {
        let all = Arc::new(Background::default());
        let held = [all.begin(2).unwrap(), all.begin(2).unwrap()];
        assert!(all.begin(2).is_none());
        assert_eq!((all.running(), all.refused()), (2, 1));
        // A reload may have lowered the limit meanwhile.
        assert!(all.begin(1).is_none());
        drop(held);
        assert!(all.begin(0).is_none());
        assert!(all.begin(1).is_some());
        assert_eq!((all.running(), all.refused()), (0, 3));
    }
}

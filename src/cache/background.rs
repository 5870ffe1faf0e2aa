//! What runs for no client, and how much of it may.
//!
//! A fetch ends with those who wait for it, so that clients bound what there is of them. Two things go on without any:
//! the validation of a response that was served stale, and a fill that its last reader has left. Each of these holds a
//! place here, and without one it isn't begun, or ends.
//!
//! An origin that answers nobody keeps its places for as long as its limits of time let it. So it gets a place only while
//! it holds fewer than are free: alone it may have half of them, and however many others do the same, some are left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::field::target::Target;
use crate::field::text::Text;

/// How much runs for no client.
#[derive(Debug, Default)]
pub(crate) struct Background {
    places: Mutex<Places>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Places {
    taken: usize,
    /// By the origin's authority; none that holds no place.
    of: HashMap<Text, usize, ahash::RandomState>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    background: Arc<Background>,
    origin: Text,
}

impl Background {
    /// A place for something of this target's origin, where one of the `limit` is left for that. Otherwise the refusal is
    /// counted.
    pub(crate) fn begin(self: &Arc<Self>, target: &Target, limit: usize) -> Option<Running> {
        let origin = &target.authority;
        let mut places = self.places.lock();
        let mine = places.of.get(origin).copied().unwrap_or(0);
        if mine >= limit.saturating_sub(places.taken) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        places.taken += 1;
        places.of.insert(origin.clone(), mine + 1);
        Some(Running { background: Arc::clone(self), origin: origin.clone() })
    }

    /// How many places are taken.
    pub(crate) fn running(&self) -> usize {
        self.places.lock().taken
    }

    /// How many were refused since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut places = self.background.places.lock();
        places.taken -= 1;
        if let Some(count) = places.of.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                places.of.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str) -> Target {
        Target::absolute(&format!("http://{host}/").parse().unwrap()).unwrap()
    }

    #[test]
    fn there_are_as_many_places_as_the_limit_says_and_they_come_back() {
        let all = Arc::new(Background::default());
        let [a, b] = ["a", "b"].map(target);
        let held = [all.begin(&a, 2).unwrap(), all.begin(&b, 2).unwrap()];
        assert!(all.begin(&target("c"), 2).is_none());
        assert_eq!((all.running(), all.refused()), (2, 1));
        // A reload may have lowered the limit meanwhile.
        assert!(all.begin(&a, 1).is_none());
        drop(held);
        assert!(all.begin(&a, 0).is_none());
        assert!(all.begin(&a, 1).is_some());
        assert_eq!((all.running(), all.refused()), (0, 3));
        assert!(all.places.lock().of.is_empty());
    }

    /// How many places these get that want all, one after the other.
    #[track_caller]
    fn check(limit: usize, expected: &[usize]) {
        let all = Arc::new(Background::default());
        let mut held = Vec::new();
        for (number, expected) in expected.iter().enumerate() {
            let target = target(&format!("host-{number}"));
            let got: Vec<_> = std::iter::from_fn(|| all.begin(&target, limit)).collect();
            assert_eq!(got.len(), *expected, "the origin {number} of {limit} places");
            held.extend(got);
        }
        assert!(all.running() <= limit);
    }

    #[test]
    fn an_origin_that_keeps_its_places_leaves_some_to_others() {
        check(0, &[0]);
        check(1, &[1, 0]);
        check(2, &[1, 1, 0]);
        check(256, &[128, 64, 32, 16, 8, 4, 2, 1, 1, 0]);
    }
}

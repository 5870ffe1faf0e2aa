//! Keys whose last response could not be shared: remembered for a while, so that requests for them don't queue.
//!
//! Clients choose the keys, and how long these are. So what is kept of a key is its hash, in a table that never grows:
//! whatever is asked for, it takes 288 KiB. Two keys of one hash are taken for each other, which keeps a request from
//! waiting for another and no more.

use parking_lot::Mutex;

use super::Options;
use crate::clock::Moment;
use crate::store::CacheKey;

/// In each of the sets four keys have room. Beyond it the one that would be forgotten first is, which costs one short
/// queue.
const SETS: usize = 4096;

/// Until when each key is remembered.
#[derive(Debug)]
pub(crate) struct Uncacheable(Box<[Mutex<[Remembered; 4]>]>);

#[derive(Clone, Copy, Debug)]
struct Remembered {
    hash: u64,
    until: i64,
}

const NOTHING: Remembered = Remembered { hash: 0, until: i64::MIN };

impl Uncacheable {
    pub(crate) fn new() -> Self {
        Self((0..SETS).map(|_| Mutex::new([NOTHING; 4])).collect())
    }

    pub(crate) fn remember(&self, key: &CacheKey, now: Moment, options: &Options) {
        let memory = options.uncacheable_memory.as_millis() as i64;
        if memory > 0 {
            let hash = key.hash64();
            let mut set = self.set(key).lock();
            let place = set.iter().position(|known| known.hash == hash);
            let first =
                || set.iter().enumerate().min_by_key(|(_, known)| known.until).map_or(0, |(at, _)| at);
            let place = place.unwrap_or_else(first);
            set[place] = Remembered { hash, until: now.mono.saturating_add(memory) };
        }
    }

    pub(crate) fn remembers(&self, key: &CacheKey, now: Moment) -> bool {
        let hash = key.hash64();
        self.set(key).lock().iter().any(|known| known.hash == hash && now.mono < known.until)
    }

    pub(crate) fn forget(&self, key: &CacheKey) {
        let hash = key.hash64();
        for known in self.set(key).lock().iter_mut().filter(|known| known.hash == hash) {
            *known = NOTHING;
        }
    }

    fn set(&self, key: &CacheKey) -> &Mutex<[Remembered; 4]> {
        &self.0[key.hash64() as usize % SETS]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::field::target::Target;

    fn key(number: usize) -> CacheKey {
        let url = format!("http://h/{number}");
        CacheKey::of(&Target::absolute(&url.parse().unwrap()).unwrap(), None)
    }

    #[test]
    fn a_key_is_remembered_for_its_time_or_until_it_is_forgotten() {
        let ((clock, hand), all) = (Clock::manual(1_000_000_000), Uncacheable::new());
        let options = Options { uncacheable_memory: Duration::from_secs(30), ..Options::default() };
        let [one, two, other] = [1, 2, 3].map(key);
        let at_first = clock.now();
        all.remember(&one, at_first, &options);
        all.remember(&two, at_first, &options);
        assert!(
            all.remembers(&one, at_first)
                && all.remembers(&two, at_first)
                && !all.remembers(&other, at_first)
        );
        all.forget(&two);
        assert!(all.remembers(&one, at_first) && !all.remembers(&two, at_first));
        hand.advance(Duration::from_secs(29));
        assert!(all.remembers(&one, clock.now()));
        all.remember(&one, clock.now(), &options);
        hand.advance(Duration::from_secs(29));
        assert!(all.remembers(&one, clock.now()));
        hand.advance(Duration::from_secs(1));
        assert!(!all.remembers(&one, clock.now()));
        let off = Options { uncacheable_memory: Duration::ZERO, ..Options::default() };
        all.remember(&one, clock.now(), &off);
        assert!(!all.remembers(&one, clock.now()));
    }

    #[test]
    fn many_keys_take_no_more_room_and_the_latest_are_remembered() {
        let ((clock, hand), all) = (Clock::manual(1_000_000_000), Uncacheable::new());
        let options = Options::default();
        assert!(std::mem::size_of_val(&*all.0) <= 288 << 10);
        let keys: Vec<_> = (0..4 * SETS).map(key).collect();
        for key in &keys {
            hand.advance(Duration::from_millis(1));
            all.remember(key, clock.now(), &options);
        }
        let (now, latest) = (clock.now(), &keys[3 * SETS..]);
        let remembered = latest.iter().filter(|key| all.remembers(key, now)).count();
        assert!(remembered > latest.len() * 95 / 100, "{remembered} of {}", latest.len());
    }
}

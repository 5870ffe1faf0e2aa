//! The cache gives way before the kernel kills: where a control group has a limit of memory, and little is left of it,
//! because of others in the group, of connections, or since the limit has been lowered, the store holds less.
//!
//! Once a second what is left is compared with a reserve. What is missing of that goes from the store; where there is
//! more than twice the reserve, the store may grow again, by half of the rest at a time, so that it doesn't swing.
//!
//! Large bodies go back to the system when they go. Small ones leave holes that malloc keeps for what comes next: then
//! nothing is gained, and the store stops giving way, until the process grows all the same and wants more such holes.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::body::{Strain, resident_memory};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// What is kept free: this part of the limit, and at most so many bytes.
const RESERVE: u64 = 8;
const MOST_RESERVE: u64 = 256 << 20;
/// The store never gives way below this part of its capacity: what runs has a use for it, and is bounded elsewhere.
const LEAST: u64 = 16;
/// Once it has given this part of its capacity and not this part of that has come back to the system, it stops.
const TRIED: u64 = 8;
const GAINED: u64 = 4;
/// By this part of the reserve it may have grown until that counts.
const GROWN: u64 = 8;

/// How it was when memory became short.
#[derive(Clone, Copy, Debug)]
struct Begin {
    /// Bytes that the store held, and those that were resident.
    held: u64,
    resident: u64,
}

impl Begin {
    /// What it was compared with until now, or how it is now that holes do not suffice.
    fn or(self, now: Self, reserve: u64) -> Self {
        if now.resident > self.resident.saturating_add(reserve / GROWN) { now } else { self }
    }

    /// Whether what went since came back to nobody.
    fn is_in_vain(&self, capacity: u64, held: u64, resident: u64) -> bool {
        let gave = self.held.saturating_sub(held);
        gave >= capacity / TRIED && self.resident.saturating_sub(resident) < gave / GAINED
    }
}

/// What is to be free of a limit.
fn reserve(limit: u64) -> u64 {
    (limit / RESERVE).min(MOST_RESERVE)
}

/// What the store may hold, `allowed` until now, of which it holds `held`.
fn allowance(strain: Strain, capacity: u64, allowed: u64, held: u64) -> u64 {
    let (reserve, free) = (reserve(strain.limit), strain.free());
    if free < reserve {
        held.min(allowed).saturating_sub(reserve - free).max(capacity / LEAST)
    } else {
        (allowed + free.saturating_sub(2 * reserve) / 2).min(capacity)
    }
}

/// Looks until the process ends.
pub(super) async fn watch(app: Arc<App>) {
    let mut begin = None;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = app.shutdown.draining() => return,
        }
        let store = app.cache.store();
        let enough = |strain: Strain| strain.free() >= reserve(strain.limit);
        if store.stats().capacity == store.capacity() && Strain::at_most().is_none_or(enough) {
            begin = None;
            store.allow(store.capacity());
            continue;
        }
        begin = look_aside(&app, begin).await;
    }
}

/// On a thread of its own: the kernel has to sum up, and all that is stored may be walked. Where none can be had, which is
/// likely when memory is short, here.
async fn look_aside(app: &Arc<App>, begin: Option<Begin>) -> Option<Begin> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let seen = Arc::clone(app);
    let work = move || {
        // Nobody listens any more when the process ends.
        let _ = tell.send(look(&seen, begin));
    };
    match std::thread::Builder::new().name("memory".to_owned()).spawn(work) {
        Ok(_) => told.await.unwrap_or(begin),
        Err(error) => {
            tracing::debug!(%error, "no thread to look at the memory that is left");
            look(app, begin)
        }
    }
}

fn look(app: &App, begin: Option<Begin>) -> Option<Begin> {
    let store = app.cache.store();
    let stats = store.stats();
    let (capacity, allowed) = (store.capacity(), stats.capacity);
    let strain = Strain::read();
    let short = strain.filter(|strain| strain.free() < reserve(strain.limit));
    let resident = resident_memory().unwrap_or(0);
    let found = Begin { held: stats.bytes, resident };
    let begin = short.map(|strain| begin.map_or(found, |begin| begin.or(found, reserve(strain.limit))));
    let in_vain = begin.is_some_and(|begin| begin.is_in_vain(capacity, stats.bytes, resident));
    let now = match strain {
        Some(strain) if !in_vain => allowance(strain, capacity, allowed, stats.bytes),
        Some(_) => allowed,
        // A limit that is gone is one that leaves enough.
        None => capacity,
    };
    if allowed == capacity && now < capacity {
        tracing::warn!(
            "memory is short: the cache gives way, from {} to {now} bytes and less until that changes",
            stats.bytes
        );
    } else if allowed < capacity && now == capacity {
        tracing::info!("there is memory enough: the cache may hold {capacity} bytes again");
    }
    store.allow(now);
    begin
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// All in MiB, of a limit of 800 and a store of 400: so the reserve is 100.
    #[track_caller]
    fn check(used: u64, allowed: u64, held: u64, expected: u64) {
        let strain = Strain { limit: 800 * MIB, used: used * MIB };
        let found = allowance(strain, 400 * MIB, allowed * MIB, held * MIB);
        assert_eq!(found / MIB, expected, "{used} used, {held} of {allowed} held");
    }

    #[test]
    fn the_store_gives_what_is_missing_and_takes_half_of_what_is_spare() {
        check(0, 400, 0, 400);
        check(700, 400, 400, 400);
        check(701, 400, 400, 399);
        check(750, 400, 300, 250);
        check(800, 400, 390, 290);
        // It never grows by being short, and never goes wholly.
        check(750, 200, 300, 150);
        check(800, 400, 50, 25);
        check(800, 25, 25, 25);
        // Between one reserve and two it stays.
        check(700, 200, 200, 200);
        check(600, 200, 200, 200);
        check(500, 200, 200, 250);
        check(100, 200, 200, 400);
    }

    #[test]
    fn what_malloc_keeps_is_not_given_for_nothing() {
        let begin = Begin { held: 400 * MIB, resident: 500 * MIB };
        for (held, resident, expected) in [
            (400, 500, false),
            // Too little to tell.
            (351, 500, false),
            (350, 500, true),
            (350, 488, true),
            (350, 487, false),
            (100, 430, true),
            (100, 420, false),
            // It grew meanwhile.
            (350, 600, true),
            (450, 600, false),
        ] {
            let found = begin.is_in_vain(400 * MIB, held * MIB, resident * MIB);
            assert_eq!(found, expected, "{held} held, {resident} resident");
        }
    }

    /// Holes that what grew has filled are of use, and so are more of them.
    #[test]
    fn a_process_that_grows_all_the_same_is_given_more() {
        let begin = Begin { held: 400 * MIB, resident: 500 * MIB };
        let after = |resident| begin.or(Begin { held: 350 * MIB, resident: resident * MIB }, 80 * MIB);
        for resident in [400, 500, 510] {
            let begin = after(resident);
            assert_eq!((begin.held, begin.resident), (400 * MIB, 500 * MIB), "{resident} resident");
        }
        let begin = after(511);
        assert_eq!((begin.held, begin.resident), (350 * MIB, 511 * MIB));
        assert!(!begin.is_in_vain(400 * MIB, 301 * MIB, 511 * MIB));
        assert!(begin.is_in_vain(400 * MIB, 300 * MIB, 511 * MIB));
    }

    #[test]
    fn the_reserve_has_a_bound() {
        let strain = Strain { limit: 64 << 30, used: (64 << 30) - (300 << 20) };
        assert_eq!(allowance(strain, 1 << 30, 1 << 30, 1 << 30), 1 << 30);
    }
}

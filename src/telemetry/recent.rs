//! The last exchanges, for people who look: what `/api/v1/exchanges` tells and the page shows.
//!
//! Fed by the record that every exchange sends anyway. A second's first exchanges are kept, hits and others counted
//! apart, so that a miss among ten thousand hits is still seen; for all further ones of that second this costs a
//! relaxed load and a comparison. So where little is asked all of it is here, and where much is asked the path of a
//! hit does not feel it.

use super::line::{self, Scratch};
use super::record::{Record, Url};
use crate::cache::outcome::CacheResult;
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// Exchanges that are remembered.
const KEPT: usize = 512;
/// Of one second, hits and others each. More than a person reads, and 64 lines take 40 µs to write.
const A_SECOND: u64 = 64;
/// Longer URLs are cut where they are shown, and longer ones can't be explained from here: both bound what is kept.
const MAX_SHOWN: usize = 1 << 10;
const MAX_KEPT: usize = 8 << 10;

/// The last exchanges.
#[derive(Debug, Default)]
pub struct Recent {
    hits: Budget,
    others: Budget,
    ring: Mutex<Ring>,
}

/// A second since the start, and how many of its exchanges are kept.
#[derive(Debug, Default)]
struct Budget(AtomicU64);

#[derive(Debug, Default)]
struct Ring {
    slots: Vec<Slot>,
    /// The number of the next exchange; the first has 1.
    next: u64,
    /// Below this nothing is told any more.
    forgotten: u64,
    scratch: Scratch,
}

#[derive(Debug, Default)]
struct Slot {
    /// As the access log has it in JSON.
    line: Vec<u8>,
    /// What to explain: a GET or HEAD with its whole URL, query included. Never told.
    request: Option<(Method, String)>,
}

impl Budget {
    fn take(&self, second: u64) -> bool {
        let mut held = self.0.load(Ordering::Relaxed);
        loop {
            // Exchanges end a little out of order: an earlier second does not begin anew.
            let next = if held >> 16 >= second {
                if held & 0xffff >= A_SECOND {
                    return false;
                }
                held + 1
            } else {
                (second << 16) | 1
            };
            match self.0.compare_exchange_weak(held, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => held = other,
            }
        }
    }
}

impl Recent {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers an exchange, unless its second has had enough of them. Queries are shown only with `query`.
    pub fn keep(&self, record: &Record, query: bool) {
        let end = record.at.mono.max(0) as u64 + record.duration.as_millis() as u64;
        let budget = if record.outcome.result == CacheResult::Hit { &self.hits } else { &self.others };
        if !budget.take(end / 1000 + 1) {
            return;
        }
        let mut ring = self.ring.lock();
        let Ring { slots, next, scratch, .. } = &mut *ring;
        scratch.line.clear();
        line::json_within(scratch, record, query, MAX_SHOWN);
        let place = (*next % KEPT as u64) as usize;
        *next += 1;
        if place == slots.len() {
            slots.push(Slot::default());
        }
        let slot = &mut slots[place];
        slot.line.clear();
        slot.line.extend_from_slice(&scratch.line);
        slot.request = explainable(record);
    }

    /// Those after the one numbered `after`, the oldest first: `exchanges`, each as in the access log and with its
    /// number `seq`; `next`, to be asked for as `after` the next time; `per_second`, the most that are kept of one.
    pub fn after(&self, after: u64) -> Value {
        let (lines, next) = {
            let ring = self.ring.lock();
            let first = ring.first().max(after.min(ring.next));
            let lines: Vec<_> =
                (first..ring.next).map(|number| (number, ring.slot(number).line.clone())).collect();
            (lines, ring.next)
        };
        let exchanges: Vec<_> = lines
            .into_iter()
            .filter_map(|(number, line)| {
                // What `line` writes is JSON.
                let mut told: Value = serde_json::from_slice(&line).ok()?;
                told["seq"] = json!(number + 1);
                Some(told)
            })
            .collect();
        json!({ "exchanges": exchanges, "next": next, "per_second": A_SECOND })
    }

    /// Method and whole URL of the exchange numbered `seq`, query included: for an explanation, not to be told.
    pub fn request(&self, seq: u64) -> Option<(Method, String)> {
        let ring = self.ring.lock();
        let number = seq.checked_sub(1).filter(|number| (ring.first()..ring.next).contains(number))?;
        ring.slot(number).request.clone()
    }

    /// Forgets all of them: what was shown in them is to be hidden from now on.
    pub fn forget(&self) {
        let mut ring = self.ring.lock();
        ring.forgotten = ring.next;
    }
}

impl Ring {
    fn first(&self) -> u64 {
        self.next.saturating_sub(KEPT as u64).max(self.forgotten)
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.slots[(number % KEPT as u64) as usize]
    }
}

fn explainable(record: &Record) -> Option<(Method, String)> {
    let target = match &record.url {
        Url::Target(target) => target,
        Url::Shared(target) => target,
        Url::Text(_) => return None,
    };
    let whole = matches!(record.method, Method::GET | Method::HEAD) && !target.path.is_empty();
    (whole && target.path.len() <= MAX_KEPT).then(|| (record.method.clone(), target.url()))
}

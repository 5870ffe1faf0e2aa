//! Where stored responses are kept: in memory, bounded by bytes.
//!
//! What lies under a key are *variants*: stored responses of one target that differ in the fields Vary names.
//! The store knows nothing of freshness: a stale response is a validator and a fallback, and stays until room
//! is needed or an invalidation removes it.
//!
//! # The bound
//! `capacity` bounds everything that the store keeps alive: one [`Budget`] counts what is stored, what is
//! being filled, and what was evicted while somebody still reads it. Stored responses together get seven
//! eighths of it; the last one is for bodies on their way in and out. When it is used up, a response passes
//! through without being stored; nothing ever waits for room.
//!
//! # Generations
//! A fetch remembers the [`Generation`] of its key from before it asked the origin. An invalidation, a purge
//! and a clear move it, and what was fetched under an older one is not stored: it may be what the
//! invalidation was about. RFC 9111 section 4.4.

mod fill;
mod generation;
mod index;
mod key;
mod memory;
mod response;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use crate::body::{self, Budget, Reservation, StoredBody};
use crate::policy::{Reason, StoredHead};

pub use fill::Fill;
pub use generation::Generation;
pub use index::{Candidates, Sight};
pub use key::CacheKey;
pub use response::{StoredResponse, lies_with_head};

use generation::Generations;
use memory::Memory;
use response::cost;

/// The store's figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `cache.memory`: bytes, all counted: bodies, heads, keys, overhead, fills in flight, evicted bodies still being read. Default 25 % of what the process may use.
    pub capacity: u64,
    /// `cache.policy`.
    pub policy: Eviction,
    /// `cache.max_object`: bytes. Default an eighth of the capacity, at most 64 MiB.
    pub max_object: u64,
    /// `cache.max_object_unknown_length`: bytes; default three quarters of `max_object`.
    pub max_object_unknown_length: u64,
    /// `cache.variants`: stored responses for one key. Default 64.
    pub variants: usize,
}

impl Options {
    /// The defaults that go with a capacity, in bytes.
    pub fn of_capacity(capacity: u64) -> Self {
        let max_object = (capacity / 8).min(64 << 20);
        Self {
            capacity,
            policy: Eviction::default(),
            max_object,
            max_object_unknown_length: max_object / 4 * 3,
            variants: 64,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::of_capacity(body::usable_memory() / 4)
    }
}

/// Who goes first when the store is full.
///
/// Hits in percent, by `cargo bench --bench eviction`: a hot set under a scan; what is asked for again soon;
/// small objects, and large ones among them; CI jobs whose packages take 0.6, 0.9 and 1.5 times the capacity.
///
/// | | hot set | again | small | large | CI 0.6 | CI 0.9 | CI 1.5 |
/// |---|---|---|---|---|---|---|---|
/// | LRU (`lru`) | 43.8 | 100 | 71.4 | 99.7 | 98.9 | 98.9 | 0.0 |
/// | `TinyLFU` alone | 94.0 | 19.2 | 81.9 | 0.0 | 98.9 | 79.6 | 48.0 |
/// | two segments by size, `TinyLFU` each | 63.9 | 20.7 | 68.4 | 99.7 | 59.1 | 41.6 | 25.7 |
/// | a quarter for newcomers, then `TinyLFU` (`tiny-lfu`) | 92.3 | 100 | 75.4 | 61.0 | 98.9 | 59.1 | 40.6 |
///
/// The last one is the default: it is the only one without a load that it fails at. LRU is better where all
/// that is asked for nearly fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// What was used least recently.
    Lru,
    /// What was used least often, after a time as a newcomer.
    #[default]
    TinyLfu,
}

/// The store. Clones are handles on the same one.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

pub(crate) struct Inner {
    budget: Budget,
    capacity: u64,
    memory: Memory,
    generations: Generations,
    figures: ArcSwap<Figures>,
    // Held while the variants of a key are read and replaced, so that no two writers lose each other's.
    locks: Box<[Mutex<()>]>,
    filling: AtomicUsize,
    stored: AtomicU64,
    too_large: AtomicU64,
    no_room: AtomicU64,
    superseded: AtomicU64,
}

// What a reload may change.
struct Figures {
    max_object: u64,
    max_object_unknown_length: u64,
    variants: usize,
    body: body::Options,
}

/// What the store holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Stored responses.
    pub entries: u64,
    /// Bytes in use: stored, being filled, and evicted but still read.
    pub bytes: u64,
    /// Of these, bytes of stored responses.
    pub stored_bytes: u64,
    /// Bytes that may be in use.
    pub capacity: u64,
    /// Responses that are being stored now.
    pub filling: u64,
    /// Responses stored since the start, updates by a 304 among them.
    pub stored: u64,
    /// Stored responses that had to go for want of room, since the start.
    pub evicted: u64,
    /// Responses not stored because of their size, since the start.
    pub too_large: u64,
    /// Responses not stored because no room could be reserved, since the start.
    pub no_room: u64,
    /// Responses not stored because an invalidation overtook them, since the start.
    pub superseded: u64,
}

impl Store {
    /// An empty store. `body` are the figures of the bodies that are filled.
    pub fn new(options: &Options, body: &body::Options) -> Self {
        let locks = std::iter::repeat_with(Mutex::default).take(LOCKS).collect();
        Self(Arc::new(Inner {
            budget: Budget::new(options.capacity),
            capacity: options.capacity,
            memory: Memory::new(options.capacity - options.capacity / 8, options.policy),
            generations: Generations::new(),
            figures: ArcSwap::from_pointee(Figures::of(options, body)),
            locks,
            filling: AtomicUsize::new(0),
            stored: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
            no_room: AtomicU64::new(0),
            superseded: AtomicU64::new(0),
        }))
    }

    /// Takes over the figures that may change while running: all but `capacity` and `policy`.
    pub fn reconfigure(&self, options: &Options, body: &body::Options) {
        self.0.figures.store(Arc::new(Figures::of(options, body)));
    }

    /// The stored responses of this key, the newest first. The hit path: one look-up and counted references.
    pub fn candidates(&self, key: &CacheKey) -> Candidates {
        self.0.memory.get(key)
    }

    /// The response that was seen, where it is still the only one under its key, and not marked as changed. Counts as a
    /// look at the key, as [`Self::candidates`] does, and is noted in the sight, for [`Self::is_unchanged`].
    pub fn still(&self, sight: &mut Sight) -> Option<StoredResponse> {
        // Before it looks: what changes meanwhile is a change since.
        let changes = self.0.memory.changes(sight.key());
        let found = self.candidates(sight.key()).still(sight)?;
        sight.changes = Some(changes);
        Some(found)
    }

    /// Whether [`Self::still`] would say again what it has said, for all that has changed since. Much cheaper, and counts as no
    /// look: moka, which is to know what is used, has to be asked now and then.
    pub fn is_unchanged(&self, sight: &Sight) -> bool {
        sight.changes == Some(self.0.memory.changes(sight.key()))
    }

    /// [`Self::candidates`] without counting what is not there as asked for: for a second look, and for whoever does not
    /// mean to store it.
    pub fn candidates_again(&self, key: &CacheKey) -> Candidates {
        self.0.memory.get_again(key)
    }

    /// To be asked before the origin is.
    pub fn generation(&self) -> Generation {
        self.0.generations.now()
    }

    /// Whether nothing has moved the key's generation since.
    pub fn is_current(&self, key: &CacheKey, generation: Generation) -> bool {
        self.0.generations.holds(key, generation)
    }

    /// Room for a response that is about to be received, `length` bytes of body if that is known. The errors
    /// are [`Reason::TooLarge`], [`Reason::NoRoom`] and [`Reason::Superseded`]: it can't be stored.
    pub fn fill(
        &self,
        key: &CacheKey,
        generation: Generation,
        head: StoredHead,
        length: Option<u64>,
    ) -> Result<Fill, Reason> {
        Fill::begin(&self.0, key, generation, head, length).map_err(|reason| self.0.refused(reason))
    }

    /// Whether [`Self::fill`] would let in a response of this length now. Keeps nothing and counts nothing: for
    /// people who ask.
    pub fn takes(&self, key: &CacheKey, head: &StoredHead, length: Option<u64>) -> Result<(), Reason> {
        self.0.room(key, head, length).map(drop)
    }

    /// Replaces `old` by a response of the same body under another head: what a 304, or a HEAD response,
    /// makes of it. Gives that, and whether it is stored; where it is not, `old` remains, unless it was superseded:
    /// what has taken its place meanwhile is newer than what was validated.
    pub fn freshen(
        &self,
        key: &CacheKey,
        generation: Generation,
        old: &StoredResponse,
        head: StoredHead,
    ) -> (StoredResponse, bool) {
        let (response, kept) = self.0.keep(key, generation, head, old.body(), Some(old));
        (response, kept.map_err(|reason| self.0.refused(reason)).is_ok())
    }

    /// Stores a response that is already there, such as one that was put together from parts. Gives it, and whether it
    /// is stored.
    pub fn insert(
        &self,
        key: &CacheKey,
        generation: Generation,
        head: StoredHead,
        body: StoredBody,
    ) -> (StoredResponse, Result<(), Reason>) {
        let (response, kept) = if body.len() > self.0.figures.load().max_object {
            (self.apart(key, head, body), Err(Reason::TooLarge))
        } else {
            self.0.keep(key, generation, head, body, None)
        };
        (response, kept.map_err(|reason| self.0.refused(reason)))
    }

    /// A response that is not to be stored, in the form of those that are.
    pub fn apart(&self, key: &CacheKey, head: StoredHead, body: StoredBody) -> StoredResponse {
        StoredResponse::new(key, head, body, None)
    }

    /// Marks a stored response of this key as changed at the origin: it is validated before it is used again. RFC 9111 section
    /// 4.3.5.
    pub fn mark_stale(&self, key: &CacheKey, response: &StoredResponse) {
        response.mark_stale();
        self.0.memory.changed(key);
    }

    /// Removes one stored response; false if it is no longer there. The generation stays.
    pub fn remove(&self, key: &CacheKey, response: &StoredResponse) -> bool {
        let _held = self.0.lock(key.hash64());
        let before = self.0.memory.get_again(key);
        let after = before.without(response);
        if after.len() == before.len() {
            return false;
        }
        self.0.memory.put(key, after);
        true
    }

    /// Removes all stored responses of a key and moves its generation, so that what is being fetched is not
    /// stored either. Gives how many there were. RFC 9111 section 4.4.
    pub fn invalidate(&self, key: &CacheKey) -> usize {
        let _held = self.0.lock(key.hash64());
        self.0.generations.advance(key);
        self.0.memory.remove(key.hash64())
    }

    /// Removes everything, and stores nothing that is being fetched. Gives how many there were.
    pub fn clear(&self) -> usize {
        self.purge(|_| true, false)
    }

    /// Removes the stored responses whose key's text `matches`, and gives how many these are. What is being
    /// fetched, under whatever key, is not stored: it can't be told which of it matches. A dry run only counts.
    pub fn purge(&self, matches: impl Fn(&str) -> bool, dry_run: bool) -> usize {
        if !dry_run {
            self.0.generations.advance_all();
        }
        let mut count = 0;
        for candidates in self.0.memory.iter() {
            if let Some(url) = candidates.url().filter(|url| matches(url)) {
                count += if dry_run { candidates.len() } else { self.invalidate(&CacheKey::from_text(url)) };
            }
        }
        count
    }

    /// The same for those responses themselves that `matches`: other variants of their keys stay.
    pub fn purge_responses(&self, matches: impl Fn(&StoredResponse) -> bool, dry_run: bool) -> usize {
        if !dry_run {
            self.0.generations.advance_all();
        }
        let mut count = 0;
        for candidates in self.0.memory.iter() {
            for response in candidates.iter().filter(|response| matches(response)) {
                count += usize::from(dry_run || self.remove(&CacheKey::from_text(response.url()), response));
            }
        }
        count
    }

    /// The stored responses of each key, in no order. Meant for people who ask, not for every request.
    pub fn iter(&self) -> impl Iterator<Item = Candidates> + '_ {
        self.0.memory.iter()
    }

    /// Lets nothing be stored that is on its way now: what it was fetched under no longer holds.
    pub fn supersede(&self) {
        self.0.generations.advance_all();
    }

    /// Bounds the store by `allowed` bytes, at most its capacity, until told otherwise; above that, what was not used for
    /// the longest time goes at once. To be called about once a second: the calls are the measure of that time.
    pub fn allow(&self, allowed: u64) {
        self.0.memory.tick();
        self.0.budget.set_limit(allowed.min(self.0.capacity));
        self.0.shed(self.0.budget.used().saturating_sub(allowed));
    }

    /// Bytes that may be in use where nothing makes it give way: `cache.memory`.
    pub fn capacity(&self) -> u64 {
        self.0.capacity
    }

    /// What the store holds and has done.
    pub fn stats(&self) -> Stats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let held = self.0.memory.held();
        Stats {
            entries: held.responses,
            bytes: self.0.budget.used(),
            stored_bytes: held.bytes,
            capacity: self.0.budget.limit(),
            filling: self.0.filling.load(Ordering::Relaxed) as u64,
            stored: of(&self.0.stored),
            evicted: held.evicted,
            too_large: of(&self.0.too_large),
            no_room: of(&self.0.no_room),
            superseded: of(&self.0.superseded),
        }
    }

    /// Does now what is done in the background otherwise: for tests that count what is stored.
    pub fn settle(&self) {
        self.0.memory.settle();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stats().fmt(f)
    }
}

impl Figures {
    fn of(options: &Options, body: &body::Options) -> Self {
        Self {
            // A larger one would evict all others, and then itself.
            max_object: options.max_object.min(options.capacity / 2),
            max_object_unknown_length: options.max_object_unknown_length.min(options.capacity / 2),
            variants: options.variants.max(1),
            body: body.clone(),
        }
    }
}

/// Enough that two of the machine's cores seldom meet; a lock is held for about a microsecond.
const LOCKS: usize = 64;

impl Inner {
    fn lock(&self, hash: u64) -> MutexGuard<'_, ()> {
        self.locks[hash as usize % LOCKS].lock()
    }

    // Room in the ledger. moka removes what is too much only now and then: when there is none, it is made to.
    fn reserve(&self, bytes: u64) -> Result<Reservation, Reason> {
        self.retry(|| self.budget.reserve(bytes)).ok_or(Reason::NoRoom)
    }

    fn retry<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        attempt()
            .or_else(|| {
                self.memory.settle();
                attempt()
            })
            .or_else(|| {
                // moka keeps to the capacity alone. Some more than is needed, since all that is stored has to be looked at.
                let limit = self.budget.limit();
                if limit == self.capacity {
                    return None;
                }
                self.shed(limit / 16);
                attempt()
            })
    }

    // Removes so many bytes of what is stored, or all: what was not used for the longest time.
    fn shed(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        for hash in self.memory.longest_unused(bytes) {
            let _held = self.lock(hash);
            self.memory.evict(hash);
        }
        self.memory.settle();
    }

    // Room for a response of this length: what pays for it, and the bytes that its body may have.
    fn room(
        &self,
        key: &CacheKey,
        head: &StoredHead,
        length: Option<u64>,
    ) -> Result<(Reservation, u64), Reason> {
        let figures = self.figures.load();
        let limit = match length {
            Some(length) if length > figures.max_object => return Err(Reason::TooLarge),
            Some(length) => length,
            None => figures.max_object_unknown_length,
        };
        let known = length.unwrap_or(0);
        let account = self.reserve(cost(head, key, known, body::pieces_of(known)) + known)?;
        Ok((account, limit))
    }

    // Pays for a response, then stores it. Gives it either way.
    fn keep(
        &self,
        key: &CacheKey,
        generation: Generation,
        head: StoredHead,
        body: StoredBody,
        replaces: Option<&StoredResponse>,
    ) -> (StoredResponse, Result<(), Reason>) {
        let (account, paid) = match self.reserve(cost(&head, key, body.len(), body.pieces())) {
            Ok(account) => (Some(account), Ok(())),
            Err(reason) => (None, Err(reason)),
        };
        let response = StoredResponse::new(key, head, body, account);
        let kept = paid.and_then(|()| self.commit(key, generation, &response, replaces));
        (response, kept)
    }

    // Stores a response that is paid for, unless its generation has passed.
    fn commit(
        &self,
        key: &CacheKey,
        generation: Generation,
        response: &StoredResponse,
        replaces: Option<&StoredResponse>,
    ) -> Result<(), Reason> {
        let _held = self.lock(key.hash64());
        if !self.generations.holds(key, generation) {
            return Err(Reason::Superseded);
        }
        let (slot, before) = self.memory.find_again(key).unzip();
        let before = before.unwrap_or_default();
        if before.overtake(response, replaces) {
            return Err(Reason::Superseded);
        }
        let variants = self.figures.load().variants;
        let most = self.memory.capacity() / 2;
        let candidates = before.with(response, replaces, variants, most);
        let in_place = match &slot {
            Some(slot) => self.memory.replace(key, slot, candidates),
            None => Err(candidates),
        };
        let kept = match in_place {
            Ok(()) => true,
            Err(candidates) => self.memory.put(key, candidates),
        };
        // An invalidation holds the lock, a purge moves the generation before it looks for what to remove:
        // either it sees what was put, or this sees the generation.
        if !self.generations.holds(key, generation) {
            self.memory.remove(key.hash64());
            return Err(Reason::Superseded);
        }
        if !kept {
            return Err(Reason::NoRoom);
        }
        self.stored.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    // Counts why a response is not stored.
    fn refused(&self, reason: Reason) -> Reason {
        let counter = match reason {
            Reason::TooLarge => &self.too_large,
            Reason::Superseded => &self.superseded,
            Reason::NoRoom => &self.no_room,
            // Not the store's reasons: the origin's faults, counted by the records of the exchanges.
            _ => return reason,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        reason
    }
}

#[cfg(test)]
mod tests;

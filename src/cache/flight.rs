//! Collapsed requests: who fetches, who waits, and what the waiting ones are told.
//!
//! ```text
//!  Waiting --head--> Landed(Filling | Arrived | Stored | Stale | Unshareable | Failed)
//! ```
//!
//! A request that misses joins the flight of its key. The first one leads: it fetches. The others follow: they
//! wait for the head and then decide for themselves whether the response can answer them. A follower joins one
//! flight at most. A flight stays on the table while its body is being stored, so that late ones read it from
//! its beginning, and leaves it at once when it can't be shared or when its key's generation moves.

use ahash::RandomState;
use http::Version;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

use super::failure::Failure;
use super::fetch::Filling;
use crate::store::{CacheKey, Generation, Store, StoredResponse};

/// Independent parts of the table, so that keys seldom wait for each other.
const SHARDS: usize = 32;

/// What a follower is told when the head is there.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    /// The response is on its way into the store.
    Filling(Filling),
    /// It had come whole from this address, in this version, and is stored.
    Arrived(StoredResponse, SocketAddr, Version),
    /// A stored response was validated.
    Stored(StoredResponse),
    /// The origin failed, and the stored response may answer though stale: each follower by its own leave.
    Stale(StoredResponse),
    /// The response can't be shared: everyone fetches alone, in parallel.
    Unshareable,
    /// There was none.
    Failed(Arc<Failure>),
}

type Table = HashMap<CacheKey, Arc<Flight>, RandomState>;

/// The requests under way.
#[derive(Debug)]
pub(crate) struct Flights {
    shards: Box<[Mutex<Table>]>,
    hasher: RandomState,
}

// Most flights have no follower: waiting costs nothing until somebody waits.
#[derive(Debug)]
struct Flight {
    generation: Generation,
    landing: Mutex<Option<Landing>>,
    /// Told when `landing` is there.
    landed: Notify,
    followers: AtomicUsize,
    /// Told when the last follower has left.
    left: Notify,
}

/// What joining brought.
pub(crate) enum Joined {
    /// Nobody was fetching: this request does.
    Lead(Leader),
    /// Somebody is: wait for the head.
    Follow(Follower),
}

impl Flights {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::default())).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Joins the flight for `key`, or opens one. A flight of an older generation is not joined: what it brings
    /// was invalidated while it was under way.
    pub(crate) fn join(self: &Arc<Self>, key: &CacheKey, generation: Generation, store: &Store) -> Joined {
        let mut shard = self.shard(key).lock();
        if let Some(flight) = shard.get(key)
            && store.is_current(key, flight.generation)
        {
            return Joined::Follow(Follower::of(flight));
        }
        let flight = Arc::new(Flight::new(generation));
        shard.insert(key.clone(), Arc::clone(&flight));
        Joined::Lead(Leader { flights: Arc::clone(self), key: key.clone(), flight })
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// What the flight for `key` has brought so far, if one is under way and its head is there.
    pub(crate) fn landed(&self, key: &CacheKey, store: &Store) -> Option<Landing> {
        let shard = self.shard(key).lock();
        let flight = shard.get(key).filter(|flight| store.is_current(key, flight.generation))?;
        flight.landing.lock().clone()
    }

    fn shard(&self, key: &CacheKey) -> &Mutex<Table> {
        let hash = self.hasher.hash_one(key) as usize;
        &self.shards[hash % SHARDS]
    }
}

/// The right and the duty to tell the followers. Dropped without a word, they are told that it failed.
#[derive(Debug)]
pub(crate) struct Leader {
    flights: Arc<Flights>,
    key: CacheKey,
    flight: Arc<Flight>,
}

impl Leader {
    /// Tells the followers, now and later ones: the flight stays on the table until this is dropped.
    pub(crate) fn land(&self, landing: Landing) {
        self.flight.land(landing);
    }

    /// Tells the followers, and takes the flight off the table so that nobody else joins.
    pub(crate) fn close(self, landing: Landing) {
        self.remove();
        self.flight.land(landing);
    }

    /// Those who follow, for the one who asks whether there are any.
    pub(crate) fn followers(&self) -> Followers {
        Followers {
            flights: Arc::clone(&self.flights),
            key: self.key.clone(),
            flight: Arc::clone(&self.flight),
        }
    }

    fn remove(&self) {
        let mut shard = self.flights.shard(&self.key).lock();
        self.flight.leave(&mut shard, &self.key);
    }
}

impl Flight {
    fn new(generation: Generation) -> Self {
        Self {
            generation,
            landing: Mutex::new(None),
            landed: Notify::new(),
            followers: AtomicUsize::new(0),
            left: Notify::new(),
        }
    }

    fn land(&self, landing: Landing) {
        *self.landing.lock() = Some(landing);
        self.landed.notify_waiters();
    }

    fn followers(&self) -> usize {
        self.followers.load(Ordering::SeqCst)
    }

    /// Resolves when there is no follower (left).
    async fn unfollowed(&self) {
        loop {
            let left = self.left.notified();
            if self.followers() == 0 {
                return;
            }
            left.await;
        }
    }

    /// Nobody else joins it. Another one may have taken its place by now.
    fn leave(self: &Arc<Self>, table: &mut Table, key: &CacheKey) {
        if table.get(key).is_some_and(|found| Arc::ptr_eq(found, self)) {
            table.remove(key);
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.remove();
        let silent = self.flight.landing.lock().is_none();
        if silent {
            self.flight.land(Landing::Unshareable);
        }
    }
}

/// Those who wait for the head of a flight, without the duty to tell them.
#[derive(Debug)]
pub(crate) struct Followers {
    flights: Arc<Flights>,
    key: CacheKey,
    flight: Arc<Flight>,
}

impl Followers {
    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.flight.followers()
    }

    /// Takes the flight off the table where nobody follows, and so nobody ever will. False where somebody does.
    pub(crate) fn end_if_none(&self) -> bool {
        // Whoever joins does so under this lock.
        let mut shard = self.flights.shard(&self.key).lock();
        let none = self.flight.followers() == 0;
        if none {
            self.flight.leave(&mut shard, &self.key);
        }
        none
    }

    /// Resolves when each has made of the head what it could, once that is there.
    pub(crate) async fn told(&self) {
        self.flight.unfollowed().await;
    }

    /// Resolves when the last one has left, and the flight is off the table.
    pub(crate) async fn gone(&self) {
        loop {
            self.flight.unfollowed().await;
            if self.end_if_none() {
                return;
            }
        }
    }
}

/// A place in the queue for the head: kept until something was made of that.
#[derive(Debug)]
pub(crate) struct Follower {
    flight: Arc<Flight>,
}

impl Follower {
    fn of(flight: &Arc<Flight>) -> Self {
        flight.followers.fetch_add(1, Ordering::SeqCst);
        Self { flight: Arc::clone(flight) }
    }

    /// The head, when it is there.
    pub(crate) async fn landing(&mut self) -> Landing {
        loop {
            // Whoever is told from here on is among those that wait.
            let landed = self.flight.landed.notified();
            if let Some(landing) = self.flight.landing.lock().clone() {
                return landing;
            }
            landed.await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.flight.followers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.flight.left.notify_waiters();
        }
    }
}

//! Connections between requests: idle ones kept for the next request, all of them counted.
//!
//! ```text
//! open -> leased -> idle -> leased ... -> closed
//! ```
//! A connection has no task of its own: whoever waits for its answer polls it ([`super::driver`]), and an idle one is
//! looked at when it is wanted, and now and then. Each thread that serves has a list of its own of an origin's idle
//! connections ([`super::idle`]). No lock is held across an await: the map's shards are locked to find an origin, a list to
//! push and pop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::driver::Driver;
use super::idle::{Idle, Lists};
use super::stats::{Bound, Counters, Idling, Open};
use super::upload::{Progress, Step, Upload};
use super::wire::{Traffic, Wire};
use crate::clock::{Clock, Moment};
use crate::field::target::{Host, Scheme};
use crate::worker;

/// Enough that two workers seldom meet at one lock.
const SHARDS: usize = 16;
/// How often idle connections are looked through for those whose time has passed. A connection is never used
/// after its time, whenever it is found; this only bounds how long it stays open.
const SWEEP: Duration = Duration::from_millis(500);
/// When idle connections of all origins reach their bound, one in so many is closed beyond what must be.
const SPARE: usize = 16;

/// Whose connections are alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) scheme: Scheme,
    pub(super) host: Host,
    pub(super) port: u16,
    /// The parent's place in the list, where one is in between.
    pub(super) parent: Option<usize>,
}

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) idle_connections: usize,
    pub(super) idle_per_origin: usize,
    pub(super) idle_timeout: Duration,
    pub(super) connections_per_origin: usize,
}

/// All origins' connections.
pub(super) struct Pool {
    shards: [Mutex<HashMap<Key, Arc<Origin>, ahash::RandomState>>; SHARDS],
    hasher: ahash::RandomState,
    limits: Limits,
    clock: Clock,
    counters: Arc<Counters>,
    /// How often connections have become idle.
    returns: AtomicU64,
    sweeping: AtomicBool,
    /// Held by who closes what is idle beyond the bound for all origins.
    trimming: Mutex<()>,
}

/// One origin's connections.
struct Origin {
    /// Of a thread's, the last one used is taken first, so that the others may age and go.
    idle: Lists,
    permits: Arc<Semaphore>,
    /// Told when a connection has become idle.
    returned: Notify,
}

/// A connection that requests can be sent on.
pub(super) struct Link {
    pub(super) sender: SendRequest<Upload>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) address: SocketAddr,
    /// For the time limits of its exchanges, one after the other: kept, since to arm it costs more than to look at it. It
    /// may be that of an exchange before, and fire too early.
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    /// The thread whose runtime knows the socket.
    pub(super) worker: usize,
    /// Last, since without its sender it knows that nothing more is to come.
    pub(super) driver: Driver,
}

/// The use of a connection for one exchange. Dropped, it closes the connection.
pub(super) struct Lease {
    pub(super) link: Link,
    pub(super) reused: bool,
    origin: Arc<Origin>,
    pool: Arc<Pool>,
}

/// What one gets for an exchange.
pub(super) enum Turn {
    /// A connection that has served before.
    Reuse(Lease),
    /// Leave to open one.
    Open(Permit),
}

/// Leave to have one more connection to an origin.
pub(super) struct Permit {
    origin: Arc<Origin>,
    pool: Arc<Pool>,
    counted: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(limits: Limits, clock: Clock, counters: Arc<Counters>) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(HashMap::default())),
            hasher: ahash::RandomState::new(),
            limits,
            clock,
            counters,
            returns: AtomicU64::new(0),
            sweeping: AtomicBool::new(false),
            trimming: Mutex::new(()),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// An idle connection, of this thread's the one used last.
    pub(super) fn ready(self: &Arc<Self>, key: &Key) -> Option<Lease> {
        let origin = self.origin(key);
        let link = self.idle(&origin)?;
        Some(Lease { link, reused: true, origin, pool: Arc::clone(self) })
    }

    /// An idle connection, else leave to open one, else what becomes free first. With `fresh`, never an idle
    /// one. Waits without a limit of its own.
    pub(super) async fn turn(self: &Arc<Self>, key: &Key, fresh: bool) -> Turn {
        let origin = self.origin(key);
        loop {
            if fresh {
                // It may be that all permits are held by idle connections.
                if origin.permits.available_permits() == 0 {
                    drop(origin.idle.oldest());
                }
            } else if let Some(link) = self.idle(&origin) {
                return Turn::Reuse(Lease { link, reused: true, origin, pool: Arc::clone(self) });
            }
            let open = |counted| Permit { origin: Arc::clone(&origin), pool: Arc::clone(self), counted };
            if let Ok(permit) = Arc::clone(&origin.permits).try_acquire_owned() {
                return Turn::Open(open(permit));
            }
            tokio::select! {
                // The semaphore is never closed; if it were, the loop would find the other way.
                Ok(permit) = Arc::clone(&origin.permits).acquire_owned() => return Turn::Open(open(permit)),
                () = origin.returned.notified() => {}
            }
        }
    }

    fn origin(&self, key: &Key) -> Arc<Origin> {
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        let mut origins = shard.lock();
        if let Some(origin) = origins.get(key) {
            return Arc::clone(origin);
        }
        let origin = Arc::new(Origin {
            idle: Lists::new(),
            permits: Arc::new(Semaphore::new(
                self.limits.connections_per_origin.clamp(1, Semaphore::MAX_PERMITS),
            )),
            returned: Notify::new(),
        });
        origins.insert(key.clone(), Arc::clone(&origin));
        origin
    }

    /// An idle connection, of those that are not known to have ended.
    fn idle(&self, origin: &Origin) -> Option<Link> {
        loop {
            let idle = origin.idle.pop()?;
            if idle.link.sender.is_ready() && self.clock.now().mono < idle.until {
                return Some(idle.link);
            }
        }
    }

    /// Closes one idle connection, for its descriptor: the oldest of some origin. False where there is none.
    pub(super) fn give_one_up(&self) -> bool {
        self.shards.iter().any(|shard| {
            let origins = shard.lock();
            origins.values().any(|origin| origin.idle.oldest().is_some())
        })
    }

    /// Keeps to the bound on idle connections of all origins: those that were used longest ago are closed, some more than
    /// have to be, since to find them all have to be looked at.
    fn trim(&self) {
        let limit = self.limits.idle_connections;
        let above = || (self.counters.idle.load(Ordering::Relaxed) as usize).saturating_sub(limit);
        let _trimming = self.trimming.lock();
        let above = above();
        if above == 0 {
            return;
        }
        let origins =
            || self.shards.iter().flat_map(|shard| shard.lock().values().map(Arc::clone).collect::<Vec<_>>());
        let mut numbers: Vec<u64> = Vec::with_capacity(limit + above);
        for origin in origins() {
            numbers.extend(origin.idle.numbers());
        }
        let mut surplus = (above + limit / SPARE).min(numbers.len());
        if surplus == 0 {
            return;
        }
        let (_, youngest, _) = numbers.select_nth_unstable(surplus - 1);
        let youngest = *youngest;
        for origin in origins() {
            while surplus > 0 && origin.idle.up_to(youngest).is_some() {
                self.counters.reached(Bound::IdleConnections);
                surplus -= 1;
            }
        }
    }

    /// Starts the task that closes what has been idle for too long. It ends when nothing is left to watch.
    fn watch(self: &Arc<Self>) {
        if self.sweeping.swap(true, Ordering::SeqCst) {
            return;
        }
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(pool) = pool.upgrade() else { return };
                if pool.sweep() == 0 {
                    pool.sweeping.store(false, Ordering::SeqCst);
                    // Someone may have come between the count and the store, and found the task still there.
                    if pool.is_empty() || pool.sweeping.swap(true, Ordering::SeqCst) {
                        return;
                    }
                }
            }
        });
    }

    /// Closes what has been idle for too long or was closed by its origin, and forgets origins that nobody
    /// uses. Returns how many origins are left.
    pub(super) fn sweep(&self) -> usize {
        let now = self.clock.now().mono;
        let mut left = 0;
        for shard in &self.shards {
            let mut gone = Vec::new();
            let mut origins = shard.lock();
            origins.retain(|_, origin| {
                origin.idle.retain(|idle| idle.may_stay(now), &mut gone);
                // A lease, a permit or a driver would hold it, or a permit of it.
                let used = Arc::strong_count(origin) > 1
                    || origin.permits.available_permits() < self.limits.connections_per_origin;
                !origin.idle.is_empty() || used
            });
            left += origins.len();
            // Closed without the lock.
            drop(origins);
            drop(gone);
        }
        left
    }

    fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().is_empty())
    }
}

impl Permit {
    /// Takes a new connection under the pool's care.
    pub(super) fn redeem(
        self,
        (sender, connection): (SendRequest<Upload>, Connection<TokioIo<Wire>, Upload>),
        traffic: Arc<Traffic>,
        address: SocketAddr,
        is_secure: bool,
    ) -> Lease {
        let counted = (self.counted, Open::new(&self.pool.counters));
        let driver = Driver::new(connection, counted, Arc::clone(&traffic), is_secure);
        self.pool.watch();
        let link = Link { sender, traffic, address, timer: None, worker: worker::current(), driver };
        Lease { link, reused: false, origin: self.origin, pool: self.pool }
    }
}

impl Link {
    /// What its next exchange waits for is waited for on this thread.
    pub(super) fn move_to(&mut self, worker: usize) {
        if self.worker != worker {
            self.worker = worker;
            self.traffic.taken_over();
            self.timer = None;
        }
    }
}

impl Lease {
    /// The response has ended: the connection waits for the next request, at most until its origin would close
    /// it (a second before), at most for the idle limit.
    pub(super) fn give_back(mut self, keep_alive: Option<Duration>) {
        let limits = self.pool.limits;
        let allowed = keep_alive.map(|limit| limit.saturating_sub(Duration::from_secs(1)));
        let stay = allowed.map_or(limits.idle_timeout, |allowed| allowed.min(limits.idle_timeout));
        let none = limits.idle_per_origin == 0 || limits.idle_connections == 0;
        if stay.is_zero() || none {
            return;
        }
        // hyper has yet to see that the response is over. One that has a task by now is not worth the wait for it.
        self.link.driver.look();
        if !self.link.sender.is_ready() || self.link.driver.is_away() {
            return;
        }
        let Moment { mono, .. } = self.pool.clock.now();
        let until = mono.saturating_add(stay.as_millis() as i64);
        let counters = &self.pool.counters;
        let counted = Idling::new(counters);
        let number = self.pool.returns.fetch_add(1, Ordering::Relaxed);
        let idle = Idle { link: self.link, number, until, _counted: counted };
        let oldest = self.origin.idle.push(idle, limits.idle_per_origin);
        if oldest.is_some() {
            counters.reached(Bound::IdlePerOrigin);
        }
        drop(oldest);
        self.origin.returned.notify_one();
        if counters.idle.load(Ordering::Relaxed) as usize > limits.idle_connections {
            self.pool.trim();
        }
        self.pool.watch();
    }

    /// Whether all of the request is out, as far as `upload` and the connection tell.
    pub(super) fn has_sent(&self, upload: Option<&Progress>) -> bool {
        upload.is_none_or(|upload| upload.step() == Step::Done) && self.link.traffic.is_flushed()
    }

    /// Counts that a limit was reached.
    pub(super) fn reached(&self, bound: Bound) {
        self.pool.counters.reached(bound);
    }

    /// The response has ended but the request has not: it may go on for `grace`, then the connection closes.
    pub(super) fn let_go(self, grace: Duration) {
        let Link { sender, driver, .. } = self.link;
        drop(sender);
        driver.let_go(grace);
    }
}

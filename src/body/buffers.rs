//! What is buffered between clients and origins, all exchanges together.
//!
//! hyper and the shared bodies bound what lies between a socket that is read and one that is written; the sum of it
//! over all exchanges is bounded here, by one budget. Whoever is about to buffer takes from it what that may come to,
//! waits its turn where too little is left, and gives it back when the last socket has taken the last byte.
//!
//! What waits for something else to happen takes little. So the budget has two halves: one for exchanges of which hardly
//! anything has come ([`FLOOR`]), one for those that carry more and for tunnels with bytes in them. Who holds some of the
//! first half may wait for the second; who holds some of the second waits for nothing but sockets. So both lines always
//! move. (A tunnel takes for both directions at once, see [`Pair`]: its one direction may need the other.)
//!
//! Sockets whose peers take nothing would hold theirs for as long as the limits on time let them: while somebody waits,
//! that is short ([`Buffers::are_short`]).
//!
//! Stored responses are no part of it: they have a ledger of their own, [`super::Budget`].

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for. Bytes.
const UNIT: u64 = 1024;
/// What a direction takes of which hardly anything has come: hyper's first read buffer, and as much again.
pub const FLOOR: u64 = 16 * 1024;

/// One that can use more than it needs gets one part of so many at most.
const SHARES: u64 = 1024;

/// The figures. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Of everything together.
    pub total: u64,
    /// What may lie between an origin and a client.
    pub response: u64,
    /// What may lie between a client and an origin.
    pub request: u64,
}

impl Default for Options {
    /// A quarter of the memory that the process may use, and what the default sizes of heads come to.
    fn default() -> Self {
        Self::of(super::usable_memory() / 4, 72 << 10, 64 << 10, 64 << 10)
    }
}

impl Options {
    /// What follows from the sizes of heads: hyper reads as much at a time as a head may have (`request`, `response`),
    /// hands one such piece on, and queues as much to be written, and one piece more while the queue is not full. A
    /// body that passes by several readers has a `window` besides.
    pub fn of(total: u64, request: u64, response: u64, window: u64) -> Self {
        let add = |sizes: &[u64]| sizes.iter().fold(0, |sum: u64, size| sum.saturating_add(*size));
        Self {
            total,
            response: add(&[response, response, response, request, window]),
            request: add(&[request, request, request, response]),
        }
    }
}

/// The budget. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Buffers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    floors: Half,
    rest: Half,
    response: AtomicU64,
    request: AtomicU64,
    waited: AtomicU64,
    waiting: AtomicU64,
}

/// Counts among those who wait, while it lives.
struct Waiting<'a>(&'a AtomicU64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Half {
    free: Arc<Semaphore>,
    /// In units.
    total: usize,
}

/// What was taken; given back when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Buffered(Arc<Held>);

#[derive(Debug)]
struct Held {
    buffers: Buffers,
    _floor: Option<OwnedSemaphorePermit>,
    rest: Mutex<Option<OwnedSemaphorePermit>>,
}

/// How much is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes that are taken.
    pub used: u64,
    /// Bytes that may be taken.
    pub total: u64,
    /// How often somebody had to wait, since the start.
    pub waited: u64,
}

impl Half {
    fn new(bytes: u64) -> Self {
        let total = usize::try_from(bytes / UNIT).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(total)), total }
    }

    /// Never more than there are: who asks for more than all takes all.
    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).min(self.total as u64)).unwrap_or(u32::MAX)
    }

    fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(self.units(bytes)).ok()
    }

    fn used(&self) -> u64 {
        self.total.saturating_sub(self.free.available_permits()) as u64 * UNIT
    }
}

impl Buffers {
    /// A budget of `options.total` bytes.
    pub fn new(options: &Options) -> Self {
        Self(Arc::new(Shared {
            floors: Half::new(options.total / 2),
            rest: Half::new(options.total / 2),
            response: AtomicU64::new(options.response),
            request: AtomicU64::new(options.request),
            waited: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        }))
    }

    /// Takes over what may change while running: all but the total, for what is taken from now on.
    pub fn reconfigure(&self, options: &Options) {
        self.0.response.store(options.response, Ordering::Relaxed);
        self.0.request.store(options.request, Ordering::Relaxed);
    }

    /// What an exchange begins with whose request has so much content (`u64::MAX` where nobody knows), if that is free
    /// and nobody waits for it.
    pub fn take(&self, content: u64) -> Option<Buffered> {
        let (half, bytes) = self.beginning(content);
        let permit = half.take(bytes)?;
        Some(self.begun(content, permit))
    }

    /// The same when it is this one's turn. Waits without a limit of its own.
    pub async fn wait(&self, content: u64) -> Option<Buffered> {
        let (half, bytes) = self.beginning(content);
        let permit = self.turn(half, bytes).await?;
        Some(self.begun(content, permit))
    }

    /// A request with much content may get a response with much while it is still being sent: it takes for both, so as
    /// not to wait for the one with the other in its hands.
    fn beginning(&self, content: u64) -> (&Half, u64) {
        match content {
            0 => (&self.0.floors, FLOOR),
            1..=FLOOR => (&self.0.floors, 2 * FLOOR),
            _ => {
                let request = self.0.request.load(Ordering::Relaxed);
                let response = self.0.response.load(Ordering::Relaxed);
                (&self.0.rest, request.min(content).saturating_add(response))
            }
        }
    }

    fn begun(&self, content: u64, permit: OwnedSemaphorePermit) -> Buffered {
        let (floor, rest) = if content <= FLOOR { (Some(permit), None) } else { (None, Some(permit)) };
        Buffered(Arc::new(Held { buffers: self.clone(), _floor: floor, rest: Mutex::new(rest) }))
    }

    async fn turn(&self, half: &Half, bytes: u64) -> Option<OwnedSemaphorePermit> {
        if let Some(permit) = half.take(bytes) {
            return Some(permit);
        }
        self.0.waited.fetch_add(1, Ordering::Relaxed);
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.0.waiting);
        // The semaphore is never closed; if it were, nothing would be bounded, but all would go on.
        Arc::clone(&half.free).acquire_many_owned(half.units(bytes)).await.ok()
    }

    /// Whether somebody waits.
    pub fn are_short(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }

    /// Bytes that may be taken.
    pub fn total(&self) -> u64 {
        (self.0.floors.total + self.0.rest.total) as u64 * UNIT
    }

    /// How much is taken.
    pub fn stats(&self) -> Stats {
        Stats {
            used: self.0.floors.used() + self.0.rest.used(),
            total: self.total(),
            waited: self.0.waited.load(Ordering::Relaxed),
        }
    }
}

impl Buffered {
    /// More comes of a response than a floor is for: takes what it may come to, when that is free.
    pub async fn grow(self) {
        if self.0.rest.lock().is_some() {
            return;
        }
        let buffers = &self.0.buffers;
        let whole = buffers.0.response.load(Ordering::Relaxed);
        let more = buffers.turn(&buffers.0.rest, whole).await;
        *self.0.rest.lock() = more;
    }
}

/// What two directions take together, while either of them needs it.
#[derive(Debug)]
pub struct Pair<'a> {
    buffers: &'a Buffers,
    each: usize,
    // An asynchronous lock: whoever waits for his turn holds it, and the other one shares what he gets.
    held: tokio::sync::Mutex<Weak<Held>>,
}

impl<'a> Pair<'a> {
    /// Bytes that each is sure of.
    pub fn new(buffers: &'a Buffers, each: usize) -> Self {
        Self { buffers, each, held: tokio::sync::Mutex::default() }
    }

    /// What one of them may ask for where it can use more.
    pub fn larger(&self) -> usize {
        usize::try_from(self.buffers.total() / SHARES).unwrap_or(usize::MAX)
    }

    /// What the other direction has taken, else as much when it is this one's turn; and how many bytes of it are this
    /// one's. More than each is sure of is had by the first only, and only where it is free.
    pub async fn take(&self, wanted: usize) -> (Option<Buffered>, usize) {
        let mut held = self.held.lock().await;
        if let Some(held) = held.upgrade() {
            return (Some(Buffered(held)), wanted.min(self.each));
        }
        let rest = &self.buffers.0.rest;
        let more = if wanted > self.each { rest.take((wanted + self.each) as u64) } else { None };
        let (bytes, permit) = match more {
            Some(more) => (wanted, Some(more)),
            None => (wanted.min(self.each), self.buffers.turn(rest, 2 * self.each as u64).await),
        };
        let Some(permit) = permit else { return (None, bytes) };
        let taken = Held { buffers: self.buffers.clone(), _floor: None, rest: Mutex::new(Some(permit)) };
        let taken = Buffered(Arc::new(taken));
        *held = Arc::downgrade(&taken.0);
        (Some(taken), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const K: u64 = 1024;
    const UNKNOWN: u64 = u64::MAX;

    /// Of two halves of so many bytes each.
    fn buffers(half: u64) -> Buffers {
        Buffers::new(&Options { total: 2 * half, response: 40 * K, request: 30 * K })
    }

    fn now<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_is_taken_is_no_more_than_there_is_and_comes_back() {
        let all = buffers(2 * FLOOR);
        let (first, second) = (all.take(0).unwrap(), all.take(0).unwrap());
        assert!(all.take(0).is_none());
        assert_eq!(all.stats(), Stats { used: 2 * FLOOR, total: 4 * FLOOR, waited: 0 });
        drop(first.clone());
        assert!(all.take(0).is_none(), "a clone is no other one");
        drop(first);
        assert!(all.take(1).is_none(), "content needs as much again");
        drop(second);
        assert!(all.take(1).is_some());
        assert_eq!(all.stats().used, 0);
    }

    #[test]
    fn who_waits_is_served_in_turn() {
        let all = buffers(2 * FLOOR);
        let mut cx = Context::from_waker(Waker::noop());
        let (one, other) = (all.take(0).unwrap(), all.take(0).unwrap());
        let (mut first, mut second) = (pin!(all.wait(1)), pin!(all.wait(0)));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert!(all.are_short());
        drop(one);
        assert!(second.as_mut().poll(&mut cx).is_pending(), "the first one goes first");
        assert!(all.take(0).is_none(), "nor does anybody pass the line");
        drop(other);
        let Poll::Ready(Some(held)) = first.as_mut().poll(&mut cx) else { panic!("both are free") };
        drop(held);
        assert!(second.as_mut().poll(&mut cx).is_ready());
        assert_eq!(all.stats().waited, 2);
        assert!(!all.are_short());
        let held = all.take(1).unwrap();
        assert!(now(all.wait(0)).is_pending());
        // Whoever waited has given it up.
        assert!(!all.are_short());
        drop(held);
    }

    #[test]
    fn much_content_takes_for_both_ways_at_once() {
        for (content, expected) in [
            (0, FLOOR),
            (K, 2 * FLOOR),
            (20 * K, 60 * K),
            (30 * K, 70 * K),
            (1 << 40, 70 * K),
            (UNKNOWN, 70 * K),
        ] {
            let all = buffers(1 << 20);
            let held = all.take(content).unwrap();
            assert_eq!(all.stats().used, expected, "{content}");
            let more = if content <= FLOOR { 40 * K } else { 0 };
            assert!(now(held.clone().grow()).is_ready());
            assert!(now(held.clone().grow()).is_ready());
            assert_eq!(all.stats().used, expected + more, "{content}");
        }
    }

    #[test]
    fn those_that_wait_for_more_never_wait_for_each_other() {
        let all = buffers(4 * FLOOR);
        let mut cx = Context::from_waker(Waker::noop());
        let held: Vec<_> = (0..4).map(|_| all.take(0).unwrap()).collect();
        assert!(all.take(0).is_none());
        let mut growing: Vec<_> = held.iter().map(|one| Box::pin(one.clone().grow())).collect();
        let mut waiting = || {
            growing.retain_mut(|one| one.as_mut().poll(&mut cx).is_pending());
            growing.len()
        };
        assert_eq!(waiting(), 3, "there is room for one at a time");
        for (done, one) in held.into_iter().enumerate() {
            drop(one);
            assert_eq!(waiting(), 2_usize.saturating_sub(done));
        }
        assert_eq!(all.stats().used, 0);
    }

    #[test]
    fn who_asks_for_more_than_all_gets_all() {
        let all = buffers(8 * K);
        let held = all.take(UNKNOWN).unwrap();
        assert_eq!(all.stats().used, 8 * K);
        drop(held);
        assert!(buffers(0).take(0).is_some());
    }

    #[test]
    fn what_a_direction_may_come_to_follows_from_the_sizes_of_heads() {
        let of = Options::of(1, 10, 100, 1000);
        assert_eq!((of.total, of.response, of.request), (1, 1310, 130));
        let all = buffers(1 << 20);
        all.reconfigure(&Options { total: 0, response: 2 * K, request: K });
        let _held = all.take(UNKNOWN).unwrap();
        assert_eq!(all.stats().used, 3 * K);
    }

    #[test]
    fn two_directions_take_together() {
        let all = buffers(8 * K);
        let pair = Pair::new(&all, 4096);
        let Poll::Ready((Some(up), 4096)) = now(pair.take(4096)) else { panic!("it is free") };
        let Poll::Ready((Some(down), 1000)) = now(pair.take(1000)) else { panic!("it is there") };
        drop(up);
        assert_eq!(all.stats().used, 8 * K);
        drop(down);
        assert_eq!(all.stats().used, 0);
    }

    #[test]
    fn a_direction_that_can_use_more_gets_it_where_it_is_free_and_does_not_wait_for_it() {
        let all = buffers(20 * K);
        let (one, other) = (Pair::new(&all, 4096), Pair::new(&all, 4096));
        let Poll::Ready((Some(much), 8192)) = now(one.take(8192)) else { panic!("it is free") };
        assert_eq!(all.stats().used, 12 * K);
        let Poll::Ready((Some(second), 4096)) = now(one.take(8192)) else { panic!("its own is there") };
        let Poll::Ready((Some(_third), 4096)) = now(other.take(8192)) else { panic!("less is free") };
        assert_eq!(all.stats().used, 20 * K);
        drop((much, second));
        assert_eq!(all.stats().used, 8 * K);
        let of = |total| Buffers::new(&Options { total, response: 0, request: 0 });
        assert_eq!(Pair::new(&of(1 << 30), 1).larger(), 1 << 20);
        assert_eq!(Pair::new(&of(1 << 26), 1).larger(), 1 << 16);
    }
}

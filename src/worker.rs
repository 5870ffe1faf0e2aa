//! The threads that serve: each has a runtime of its own, and a connection stays on the one that it was placed on.
//!
//! One runtime over all threads would let any of them take over what another one has to do. But to hand a request that
//! waits for its origin from thread to thread costs more than it saves: a third of a miss, with two threads. So what a
//! connection asks for is done by its own thread, connections to origins are taken from those of the same thread first
//! (`upstream`), and a new connection goes to another one than accepted it only where notably fewer are. The price: what
//! one connection asks for is never shared out.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Threads for what blocks, of all runtimes together; each may have some.
const BLOCKING: usize = 512;
const BLOCKING_EACH: usize = 32;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

static COUNT: AtomicUsize = AtomicUsize::new(1);

/// Which of the threads that serve this one is, counted from 0. Any other thread counts as the first.
pub fn current() -> usize {
    CURRENT.get()
}

/// How many threads serve.
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// All of them, to place work on.
#[derive(Clone, Debug)]
pub struct Workers(Arc<[Worker]>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    placed: AtomicUsize,
}

/// The threads besides the first. When this is dropped, they end, and with them what still runs there; nobody waits for it.
#[derive(Debug)]
pub struct Threads {
    _ends: Vec<oneshot::Sender<()>>,
}

impl Workers {
    /// The runtime of one of `count` threads.
    pub fn runtime(count: usize) -> io::Result<Runtime> {
        let blocking = (BLOCKING / count.max(1)).max(BLOCKING_EACH);
        Builder::new_current_thread().enable_all().max_blocking_threads(blocking).build()
    }

    /// Starts threads until there are `count`: the first is the one that runs `runtime`.
    pub fn start(runtime: Handle, count: usize) -> io::Result<(Self, Threads)> {
        let (mut workers, mut ends) = (vec![Worker { runtime, placed: AtomicUsize::new(0) }], Vec::new());
        for at in 1..count {
            let runtime = Self::runtime(count)?;
            workers.push(Worker { runtime: runtime.handle().clone(), placed: AtomicUsize::new(0) });
            let (end, ended) = oneshot::channel();
            ends.push(end);
            std::thread::Builder::new().name(format!("larder-{at}")).spawn(move || {
                CURRENT.set(at);
                // The other half says nothing: it is dropped.
                drop(runtime.block_on(ended));
                runtime.shutdown_background();
            })?;
        }
        COUNT.fetch_max(count, Ordering::Relaxed);
        Ok((Self(workers.into()), Threads { _ends: ends }))
    }

    /// Their runtimes, that of the first one first.
    pub fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter().map(|worker| &worker.runtime)
    }

    /// A place on this thread; where that has more than half as much again as another one, on the one that has least. To hand
    /// something over costs more than to have a little more to do.
    pub fn place(&self) -> Place {
        let placed = |at: &usize| self.0[*at].placed.load(Ordering::Relaxed);
        let (own, least) = (current(), (0..self.0.len()).min_by_key(placed).unwrap_or_default());
        let much = placed(&least) + placed(&least) / 2;
        let at = if own < self.0.len() && placed(&own) <= much { own } else { least };
        self.0[at].placed.fetch_add(1, Ordering::Relaxed);
        Place { workers: Arc::clone(&self.0), at }
    }
}

/// One of something for each of the threads that serve, far enough apart that none takes another's cache lines when it
/// writes.
#[derive(Debug)]
pub struct Each<T>(Box<[Apart<T>]>);

/// Something in cache lines of its own: aligned to the pair of them that processors fetch at once.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Apart<T>(pub T);

impl<T> Each<T> {
    /// `make` is told which thread's.
    pub fn new(make: impl FnMut(usize) -> T) -> Self {
        Self((0..count()).map(make).map(Apart).collect())
    }

    /// This thread's.
    pub fn own(&self) -> &T {
        self.of(current())
    }

    /// That of a thread.
    pub fn of(&self, worker: usize) -> &T {
        &self.0[worker % self.0.len()].0
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|Apart(it)| it)
    }
}

impl<T: Default> Default for Each<T> {
    fn default() -> Self {
        Self::new(|_| T::default())
    }
}

/// What takes part in how busy a thread is, until it is dropped.
#[derive(Debug)]
pub struct Place {
    workers: Arc<[Worker]>,
    at: usize,
}

impl Place {
    /// Where the work is to be spawned, unless it is on this thread.
    pub fn elsewhere(&self) -> Option<&Handle> {
        (self.at != current()).then(|| &self.workers[self.at].runtime)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.workers[self.at].placed.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stays_unless_another_has_notably_less() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let (workers, threads) = Workers::start(runtime.handle().clone(), 3).unwrap();
        let places: Vec<_> = (0..9).map(|_| workers.place()).collect();
        let all = [0, 1, 2, 0, 1, 2, 0, 0, 1];
        assert_eq!(places.iter().map(|place| place.at).collect::<Vec<_>>(), all);
        let at = |place: &Place| match place.elsewhere() {
            Some(there) => runtime.block_on(there.spawn(async { current() })).unwrap(),
            None => current(),
        };
        assert_eq!(places.iter().map(at).collect::<Vec<_>>(), all);
        drop(places.into_iter().nth(4));
        assert_eq!(workers.place().at, 0, "all have left");
        assert_eq!(count(), 3);
        let each = Arc::new(Each::new(|worker| worker));
        let theirs = workers.runtimes().map(|there| {
            let each = Arc::clone(&each);
            there.spawn(async move { *each.own() })
        });
        let theirs: Vec<_> = theirs.map(|theirs| runtime.block_on(theirs).unwrap()).collect();
        assert_eq!((theirs, *each.own(), *each.of(4), each.len()), (vec![0, 1, 2], 0, 1, 3));
        let work = runtime.spawn(std::future::pending::<()>());
        let other = workers.0[1].runtime.spawn(std::future::pending::<()>());
        drop(threads);
        assert!(runtime.block_on(other).unwrap_err().is_cancelled(), "its thread has ended");
        assert!(!work.is_finished(), "the first is not theirs to end");
    }
}

//! What is buffered between clients and origins, all exchanges together.
//!
//! Whatever lies between a socket that is read and one that is written is bounded in each direction of an exchange
//! ([`Options::window`]), and in all of them together by one budget: whoever needs buffers takes them from there
//! first, and waits its turn where too few are left. Who waits holds none, and who holds some waits for nothing but
//! its sockets, so the line always moves.
//!
//! Stored responses are no part of it: they have a ledger of their own, [`super::Budget`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Options;

/// What one permit stands for. Bytes.
const UNIT: u64 = 1024;
/// Windows that one direction of an exchange may hold: one that is being read, one that is handed on, and the queue of
/// what is to be written, which is allowed one more while it holds one. (Measured: 235 KiB for each of 400 clients
/// that hardly read, with windows of 64 KiB.)
const WINDOWS: u64 = 4;

/// The budget. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Buffers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    free: Arc<Semaphore>,
    /// In units.
    total: usize,
    window: AtomicU64,
    waited: AtomicU64,
}

/// Buffers that were taken; given back on drop.
#[derive(Debug)]
pub struct Buffered {
    _permit: OwnedSemaphorePermit,
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

impl Buffers {
    /// A budget of `options.buffers` bytes, for windows of `options.window` bytes.
    pub fn new(options: &Options) -> Self {
        let total = usize::try_from(options.buffers / UNIT).unwrap_or(usize::MAX);
        let total = total.clamp(1, Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(total));
        let window = AtomicU64::new(options.window as u64);
        Self(Arc::new(Shared { free, total, window, waited: AtomicU64::new(0) }))
    }

    /// Takes over what may change while running: the size of a window, for what is taken from now on.
    pub fn reconfigure(&self, options: &Options) {
        self.0.window.store(options.window as u64, Ordering::Relaxed);
    }

    /// What so many directions of an exchange may hold. Bytes.
    pub fn of_directions(&self, count: u64) -> u64 {
        self.0.window.load(Ordering::Relaxed).saturating_mul(WINDOWS * count)
    }

    /// So many bytes, if they are free and nobody waits for them.
    pub fn take(&self, bytes: u64) -> Option<Buffered> {
        let permit = Arc::clone(&self.0.free).try_acquire_many_owned(self.units(bytes)).ok()?;
        Some(Buffered { _permit: permit })
    }

    /// So many bytes, when it is this one's turn. Waits without a limit of its own.
    pub async fn wait(&self, bytes: u64) -> Option<Buffered> {
        if let Some(buffered) = self.take(bytes) {
            return Some(buffered);
        }
        self.0.waited.fetch_add(1, Ordering::Relaxed);
        let permit = Arc::clone(&self.0.free).acquire_many_owned(self.units(bytes)).await;
        // The semaphore is never closed; if it were, nothing would be bounded, but all would go on.
        permit.ok().map(|permit| Buffered { _permit: permit })
    }

    /// Bytes that may be taken.
    pub fn total(&self) -> u64 {
        self.0.total as u64 * UNIT
    }

    /// How much is taken.
    pub fn stats(&self) -> Stats {
        let free = self.0.free.available_permits() as u64 * UNIT;
        Stats {
            used: self.total().saturating_sub(free),
            total: self.total(),
            waited: self.0.waited.load(Ordering::Relaxed),
        }
    }

    /// Never more than there are: who asks for more than the whole takes the whole.
    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).min(self.0.total as u64)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const K: u64 = 1024;

    fn buffers(buffers: u64) -> Buffers {
        Buffers::new(&Options { buffers, ..Options::default() })
    }

    #[test]
    fn what_is_taken_is_no_more_than_there_is_and_comes_back() {
        let all = buffers(10 * K);
        let (first, second) = (all.take(4 * K).unwrap(), all.take(4 * K).unwrap());
        assert!(all.take(4 * K).is_none());
        assert_eq!(all.stats(), Stats { used: 8 * K, total: 10 * K, waited: 0 });
        drop(first);
        assert!(all.take(8 * K).is_none());
        drop(second);
        assert_eq!(all.stats().used, 0);
        assert!(all.take(8 * K).is_some());
    }

    #[test]
    fn who_waits_is_served_in_turn() {
        let all = buffers(8 * K);
        let mut cx = Context::from_waker(Waker::noop());
        let (one, other) = (all.take(4 * K).unwrap(), all.take(4 * K).unwrap());
        let (mut first, mut second) = (pin!(all.wait(8 * K)), pin!(all.wait(4 * K)));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop(one);
        assert!(second.as_mut().poll(&mut cx).is_pending(), "the first one goes first");
        assert!(all.take(4 * K).is_none(), "nor does anybody pass the line");
        drop(other);
        let Poll::Ready(Some(held)) = first.as_mut().poll(&mut cx) else { panic!("both are free") };
        drop(held);
        assert!(second.as_mut().poll(&mut cx).is_ready());
        assert_eq!(all.stats().waited, 2);
    }

    #[test]
    fn a_window_may_change_and_more_than_all_is_all() {
        let all = buffers(8 * K);
        all.reconfigure(&Options { window: 1 << 20, ..Options::default() });
        assert_eq!(all.of_directions(2), 8 << 20);
        let held = all.take(all.of_directions(2)).unwrap();
        assert_eq!(all.stats().used, 8 * K);
        drop(held);
        assert!(buffers(0).take(1).is_some());
    }
}

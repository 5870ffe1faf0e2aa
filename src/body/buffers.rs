//! What is buffered between clients and origins, all exchanges together.
//!
//! Each direction of an exchange may hold a window of bytes ([`Options::window`]) between the socket that is read
//! and the one that is written. The sum of them is bounded by one budget: whoever needs a buffer takes it from
//! there first, and waits its turn where none is left. Who waits holds none, and who holds one waits for nothing
//! but its sockets, so the line always moves.
//!
//! Stored responses are no part of it: they have a ledger of their own, [`super::Budget`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Options;

/// What one permit stands for. Bytes.
const UNIT: u64 = 1024;

/// The budget. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Buffers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    free: Arc<Semaphore>,
    /// In units.
    total: usize,
    /// Bytes of one buffer.
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
    /// A budget of `options.buffers` bytes, for buffers of `options.window` bytes.
    pub fn new(options: &Options) -> Self {
        let total = usize::try_from(options.buffers / UNIT).unwrap_or(usize::MAX);
        // Whatever is said, there is one buffer.
        let total = total.clamp(1, Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(total));
        let window = AtomicU64::new(options.window as u64);
        Self(Arc::new(Shared { free, total, window, waited: AtomicU64::new(0) }))
    }

    /// Takes over what may change while running: the size of one buffer, for those taken from now on.
    pub fn reconfigure(&self, options: &Options) {
        self.0.window.store(options.window as u64, Ordering::Relaxed);
    }

    /// So many buffers, if they are free and nobody waits for them.
    pub fn take(&self, count: u32) -> Option<Buffered> {
        let permit = Arc::clone(&self.0.free).try_acquire_many_owned(self.units(count)).ok()?;
        Some(Buffered { _permit: permit })
    }

    /// So many buffers, when it is this one's turn. Waits without a limit of its own.
    pub async fn wait(&self, count: u32) -> Option<Buffered> {
        if let Some(buffered) = self.take(count) {
            return Some(buffered);
        }
        self.0.waited.fetch_add(1, Ordering::Relaxed);
        let permit = Arc::clone(&self.0.free).acquire_many_owned(self.units(count)).await;
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

    /// Never more than there are: a window that was raised above the whole takes the whole.
    fn units(&self, count: u32) -> u32 {
        let window = self.0.window.load(Ordering::Relaxed).div_ceil(UNIT);
        u32::try_from(window.saturating_mul(u64::from(count)).min(self.0.total as u64)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn buffers(buffers: u64, window: usize) -> Buffers {
        Buffers::new(&Options { window, buffers, ..Options::default() })
    }

    #[test]
    fn what_is_taken_is_no_more_than_there_is_and_comes_back() {
        let all = buffers(10 << 10, 4 << 10);
        let (first, second) = (all.take(1).unwrap(), all.take(1).unwrap());
        assert!(all.take(1).is_none());
        assert_eq!(all.stats(), Stats { used: 8 << 10, total: 10 << 10, waited: 0 });
        drop(first);
        assert!(all.take(2).is_none());
        drop(second);
        assert_eq!(all.stats().used, 0);
        assert!(all.take(2).is_some());
    }

    #[test]
    fn who_waits_is_served_in_turn() {
        let all = buffers(8 << 10, 4 << 10);
        let mut cx = Context::from_waker(Waker::noop());
        let (one, other) = (all.take(1).unwrap(), all.take(1).unwrap());
        let (mut first, mut second) = (pin!(all.wait(2)), pin!(all.wait(1)));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop(one);
        assert!(second.as_mut().poll(&mut cx).is_pending(), "the first one goes first");
        assert!(all.take(1).is_none(), "nor does anybody pass the line");
        drop(other);
        let Poll::Ready(Some(held)) = first.as_mut().poll(&mut cx) else { panic!("both are free") };
        drop(held);
        assert!(second.as_mut().poll(&mut cx).is_ready());
        assert_eq!(all.stats().waited, 2);
    }

    #[test]
    fn a_buffer_larger_than_all_of_them_is_all_of_them() {
        let all = buffers(8 << 10, 4 << 10);
        all.reconfigure(&Options { window: 1 << 20, ..Options::default() });
        let held = all.take(2).unwrap();
        assert_eq!(all.stats().used, 8 << 10);
        drop(held);
        assert!(buffers(0, 4 << 10).take(1).is_some());
    }
}

//! How running work learns that the process wants to end, and how the process learns that it has ended.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const RUNNING: u8 = 0;
const DRAINING: u8 = 1;
const ABORTING: u8 = 2;

/// Handed to everything that runs for long: connections, tunnels, fetches.
///
/// Two steps. `draining`: take nothing new, finish what runs. `aborting`: the limit has passed, end at once.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Which step, for those who ask often: the tokens ask under a lock.
    step: Arc<AtomicU8>,
    draining: CancellationToken,
    aborting: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A handle on which nothing runs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task that the drain waits for and that ends when the drain's limit has passed.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.bounded(work));
    }

    /// The same, on `runtime`.
    pub fn spawn_on(&self, runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(self.bounded(work), runtime);
    }

    /// What ends at the latest when the drain's limit has passed.
    fn bounded(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let step = Arc::clone(&self.step);
        let aborting = self.aborting.clone();
        // Held by its place: a future that is moved into another one takes its room twice.
        let mut work = Box::pin(work);
        async move {
            let mut aborted = pin!(aborting.cancelled());
            let mut waits = false;
            std::future::poll_fn(|cx| {
                if work.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                // A task keeps its waker, so to be woken it is enough to have asked once.
                if !waits || step.load(Ordering::Relaxed) == ABORTING {
                    waits = true;
                    return aborted.as_mut().poll(cx);
                }
                Poll::Pending
            })
            .await;
        }
    }

    /// Begins the drain.
    pub fn drain(&self) {
        self.step.fetch_max(DRAINING, Ordering::Relaxed);
        self.draining.cancel();
    }

    /// Ends what still runs.
    pub fn abort(&self) {
        self.step.fetch_max(ABORTING, Ordering::Relaxed);
        self.draining.cancel();
        self.aborting.cancel();
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.step.load(Ordering::Relaxed) != RUNNING
    }

    /// Resolves when the drain begins.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Resolves when every tracked task has ended. Call after [`Shutdown::drain`].
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How many tracked tasks run.
    pub fn running(&self) -> usize {
        self.tasks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_by_itself_or_by_an_abort_and_the_drain_waits_for_it() {
        let shutdown = Shutdown::new();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        shutdown.spawn(async move { drop(ended.await) });
        shutdown.spawn(std::future::pending());
        assert_eq!(shutdown.running(), 2);
        shutdown.drain();
        assert!(shutdown.is_draining());
        end.send(()).unwrap();
        while shutdown.running() > 1 {
            tokio::task::yield_now().await;
        }
        shutdown.abort();
        shutdown.finished().await;
        assert_eq!(shutdown.running(), 0);
    }
}

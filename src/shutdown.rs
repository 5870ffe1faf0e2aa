//! How running work learns that the process wants to end, and how the process learns that it has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio_util::task::TaskTracker;

const RUNNING: u8 = 0;
const DRAINING: u8 = 1;
const ABORTING: u8 = 2;

/// Handed to everything that runs for long: connections, tunnels, fetches.
///
/// Two steps. `draining`: take nothing new, finish what runs. `aborting`: the limit has passed, end at once.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    step: AtomicU8,
    /// Told of each step, once it is taken.
    stepped: Arc<Notify>,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A handle on which nothing runs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task that the drain waits for and that ends when the drain's limit has passed. When the drain begins, it
    /// is polled once more: so it need not wait for that itself, but only ask [`Shutdown::is_draining`].
    pub fn spawn<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let next = Arc::clone(&self.0.stepped).notified_owned();
        self.0.tasks.spawn(Abortable { work, next, asked: false, shutdown: self.clone() });
    }

    /// Begins the drain.
    pub fn drain(&self) {
        self.step(DRAINING);
    }

    /// Ends what still runs.
    pub fn abort(&self) {
        self.step(ABORTING);
    }

    fn step(&self, step: u8) {
        self.0.step.fetch_max(step, Ordering::SeqCst);
        self.0.stepped.notify_waiters();
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.0.step.load(Ordering::Relaxed) != RUNNING
    }

    /// Resolves when the drain begins.
    pub async fn draining(&self) {
        loop {
            // Asked for before the look: what comes between the two is told.
            let stepped = self.0.stepped.notified();
            if self.is_draining() {
                return;
            }
            stepped.await;
        }
    }

    /// Resolves when every tracked task has ended. Call after [`Shutdown::drain`].
    pub async fn finished(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// How many tracked tasks run.
    pub fn running(&self) -> usize {
        self.0.tasks.len()
    }
}

pin_project! {
    /// Work that ends when the shutdown aborts. A type of its own, since a future that is moved into an `async` block
    /// takes its room twice.
    struct Abortable<F> {
        #[pin]
        work: F,
        #[pin]
        next: OwnedNotified,
        // Whether `next` waits.
        asked: bool,
        shutdown: Shutdown,
    }
}

impl<F: Future<Output = ()>> Future for Abortable<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let shutdown = &this.shutdown.0;
        loop {
            let step = shutdown.step.load(Ordering::SeqCst);
            if this.work.as_mut().poll(cx).is_ready() || step == ABORTING {
                return Poll::Ready(());
            }
            // A task keeps its waker, so to be woken it is enough to have asked once, while nothing has been told.
            if step == RUNNING && *this.asked {
                return Poll::Pending;
            }
            *this.asked = true;
            if this.next.as_mut().poll(cx).is_ready() {
                this.next.set(Arc::clone(&shutdown.stepped).notified_owned());
            } else if shutdown.step.load(Ordering::SeqCst) == step {
                return Poll::Pending;
            }
        }
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

    #[tokio::test]
    async fn work_is_polled_once_more_when_the_drain_begins() {
        // Before its first poll, and after it.
        for polled in [false, true] {
            let shutdown = Shutdown::new();
            let (told, polls) = (shutdown.clone(), Arc::new(Notify::new()));
            let counted = Arc::clone(&polls);
            shutdown.spawn(std::future::poll_fn(move |_| {
                counted.notify_one();
                // It asks for no waking of its own.
                if told.is_draining() { Poll::Ready(()) } else { Poll::Pending }
            }));
            if polled {
                polls.notified().await;
            }
            shutdown.drain();
            shutdown.finished().await;
        }
    }

    #[tokio::test]
    async fn work_that_was_told_of_a_step_twice_is_told_of_the_next_one() {
        let shutdown = Shutdown::new();
        shutdown.spawn(std::future::pending());
        for _ in 0..3 {
            tokio::task::yield_now().await;
            shutdown.drain();
        }
        tokio::task::yield_now().await;
        assert_eq!(shutdown.running(), 1);
        shutdown.abort();
        tokio::time::timeout(std::time::Duration::from_secs(10), shutdown.finished()).await.unwrap();
    }

    #[tokio::test]
    async fn what_begins_after_the_last_step_ends_too() {
        let shutdown = Shutdown::new();
        shutdown.drain();
        shutdown.draining().await;
        shutdown.spawn(std::future::pending());
        tokio::task::yield_now().await;
        assert_eq!(shutdown.running(), 1);
        shutdown.abort();
        shutdown.finished().await;
        shutdown.spawn(std::future::pending());
        shutdown.finished().await;
    }
}

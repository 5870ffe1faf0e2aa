//! How running work learns that the process wants to end, and how the process learns that it has ended.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handed to everything that runs for long: connections, tunnels, fetches.
///
/// Two steps. `draining`: take nothing new, finish what runs. `aborting`: the limit has passed, end at once.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
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
    pub fn spawn<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let aborting = self.aborting.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = work => {}
                () = aborting.cancelled() => {}
            }
        });
    }

    /// Begins the drain.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends what still runs.
    pub fn abort(&self) {
        self.draining.cancel();
        self.aborting.cancel();
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
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

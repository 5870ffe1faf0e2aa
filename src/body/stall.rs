//! A limit on how long something may be waited for without progress.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock::Stopwatch;

/// Made when a body starts; costs nothing while the body never has to be waited for, and one timer after.
///
/// The timer is re-armed only when it fires: progress itself just forgets since when was waited.
#[derive(Debug)]
pub(crate) struct Stall {
    limit: Duration,
    since: Option<Stopwatch>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, since: None, timer: None }
    }

    /// The limit.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Something came.
    pub(crate) fn moved(&mut self) {
        self.since = None;
    }

    /// Nothing came: ready when that has been so for the whole limit.
    pub(crate) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Stopwatch::start);
        let deadline = Instant::from_std(since.started() + self.limit);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if since.elapsed() >= self.limit {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

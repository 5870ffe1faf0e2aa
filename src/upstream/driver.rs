//! The work of a connection: hyper's side of it, which does nothing unless it is polled.
//!
//! ```text
//! Here --polled by whoever waits for the answer, then for its body--> idle, looked at now and then
//!   `--go_on, let_go--> Away: a task of its own, until it is let go and its time is over
//! ```
//! A task for each connection would be woken for each request and again for each answer, on another core as often as
//! not. But what must go on although nobody waits for it (a request's content, when its answer has begun or its client has
//! left) gets one.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::client::conn::http1::Connection;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::coop::unconstrained;
use tokio::time::timeout;

use super::stats::Open;
use super::upload::Upload;
use super::wire::{Traffic, Wire};

/// How long a connection that was let go may take to close by itself (a last flush, TLS's goodbye).
const GOODBYE: Duration = Duration::from_secs(5);

/// What a connection counts for while it is open.
type Counted = (OwnedSemaphorePermit, Open);

/// Drives a connection. Dropped, it closes it, when what it was given to send is out.
pub(super) struct Driver {
    at: At,
    traffic: Arc<Traffic>,
    /// TLS is told when a connection ends, which can take a moment.
    is_secure: bool,
}

enum At {
    Here(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>, Counted),
    Away(oneshot::Sender<Duration>),
    Ended,
}

impl Driver {
    pub(super) fn new(
        connection: Connection<TokioIo<Wire>, Upload>,
        counted: Counted,
        traffic: Arc<Traffic>,
        is_secure: bool,
    ) -> Self {
        Self { at: At::Here(Box::pin(connection.with_upgrades()), counted), traffic, is_secure }
    }

    /// Does what can be done now. Whoever waits for the answer is to be polled after it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        if let At::Here(work, _) = &mut self.at
            && let Poll::Ready(ended) = work.as_mut().poll(cx)
        {
            if let Err(error) = ended {
                // Whoever waits on it is told.
                tracing::trace!(%error, "connection ended");
            }
            self.at = At::Ended;
        }
    }

    /// The same, for nobody who waits, and whatever the running task has done in its turn.
    pub(super) fn look(&mut self) {
        let looked = unconstrained(poll_fn(|cx| {
            self.poll(cx);
            Poll::Ready(())
        }));
        let Poll::Ready(()) = pin!(looked).poll(&mut Context::from_waker(Waker::noop())) else { return };
    }

    /// Whether a task does it.
    pub(super) fn is_away(&self) -> bool {
        matches!(self.at, At::Away(_))
    }

    /// Goes on by itself from now on.
    pub(super) fn go_on(&mut self) {
        if let At::Here(..) = self.at
            && let At::Here(work, counted) = std::mem::replace(&mut self.at, At::Ended)
        {
            let (leash, let_go) = oneshot::channel();
            tokio::spawn(away(work, counted, let_go));
            self.at = At::Away(leash);
        }
    }

    /// Goes on by itself, and closes within `grace`.
    pub(super) fn let_go(mut self, grace: Duration) {
        self.go_on();
        if let At::Away(leash) = std::mem::replace(&mut self.at, At::Ended) {
            // If nobody listens, the task has ended already, which is what is wanted.
            let _ = leash.send(grace);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if (self.is_secure || !self.traffic.is_flushed()) && tokio::runtime::Handle::try_current().is_ok() {
            self.go_on();
        }
    }
}

/// Does the connection's work until it is closed, or for a moment after it was let go.
async fn away(
    mut work: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    counted: Counted,
    let_go: oneshot::Receiver<Duration>,
) {
    let ended = tokio::select! {
        ended = &mut work => Ok(ended),
        grace = let_go => timeout(grace.unwrap_or(GOODBYE), work).await,
    };
    if let Ok(Err(error)) = ended {
        tracing::trace!(%error, "connection ended");
    }
    drop(counted);
}

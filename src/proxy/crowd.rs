//! What clients do for each other where there is room for no more: who asks for nothing gives way to who does.

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::clock::Stopwatch;

/// How long a client may be idle all the same.
const GRACE: Duration = Duration::from_secs(1);

/// Those who wait for room, and those who have been idle for a second, in the order in which they became so.
#[derive(Debug, Default)]
pub struct Crowd {
    waiting: AtomicUsize,
    idle: Notify,
}

/// Somebody who waits for room, until it is dropped.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Crowd);

impl Crowd {
    /// Waits for room.
    pub fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Resolves when a client that is idle since then has to give way.
    pub(super) async fn gives_way(&self, stream: &TcpStream, since: Stopwatch) {
        sleep_until(Instant::from_std(since.started() + GRACE)).await;
        loop {
            self.idle.notified().await;
            // Nobody may be waiting any more, since when nobody was idle for long enough.
            if self.waiting.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // The kernel may have what this thread is yet to be told of.
            let peeked = SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
            if matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                return;
            }
            self.idle.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

impl Waiting<'_> {
    /// Has the client go that has been idle for longest, or else the first one that will be for long enough.
    pub fn ask(&self) {
        self.0.idle.notify_one();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

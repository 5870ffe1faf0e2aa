//! Who a client is, before the gate: what has to be worked out for long is, off the threads that serve, by a few at once.
//!
//! A client that is refused by its address, or that asks this proxy itself for something, is not asked.

use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Call, Proxy, Received};
use crate::access::authentication::{Authenticator, Check, Judged, Principal};
use crate::clock::Clock;

/// Passwords that are verified at once. It takes a core for 100 ms and more each: what is served needs one too.
const AT_ONCE: usize = 2;
/// Clients that may wait for it, all together; more are told to come again.
const WAITING: usize = 256;

/// Who a client is.
pub(super) enum Known {
    /// Without waiting.
    Now(Principal),
    /// After its password was verified.
    Later(Pin<Box<dyn Future<Output = Principal> + Send>>),
}

/// How many passwords are being verified.
#[derive(Debug)]
pub(super) struct Verifying {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Default for Verifying {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::default() }
    }
}

/// Finds out who sent a request.
pub(super) fn judge(proxy: &Proxy, call: &Call, received: &Received) -> Known {
    let settings = &received.settings;
    let Some(authenticator) = &settings.authentication else { return Known::Now(Principal::NotAsked) };
    let parts = &received.parts;
    let client = call.peer.ip();
    let ours = parts.uri.scheme().is_none() && parts.method != http::Method::CONNECT;
    // The gate refuses a client by its address, whoever it is: not worth finding out.
    if ours || settings.access.door(client, settings.beyond_loopback).is_err() {
        return Known::Now(Principal::NotAsked);
    }
    match authenticator.judge(&parts.method, &parts.uri, &parts.headers, client, received.exchange.began()) {
        Judged::Done(principal) => Known::Now(principal),
        Judged::Verify(check) => {
            Known::Later(Box::pin(proxy.verifying.verify(authenticator, check, proxy.clock.clone())))
        }
    }
}

impl Verifying {
    fn verify(
        &self,
        authenticator: &Arc<Authenticator>,
        check: Check,
        clock: Clock,
    ) -> impl Future<Output = Principal> + Send + use<> {
        let (permits, authenticator) = (Arc::clone(&self.permits), Arc::clone(authenticator));
        let place = Place::take(&self.waiting);
        async move {
            let Some(_place) = place else { return authenticator.too_many(clock.now()) };
            // Never closed.
            let Ok(permit) = permits.acquire_owned().await else {
                return authenticator.too_many(clock.now());
            };
            let (judge, time) = (Arc::clone(&authenticator), clock.clone());
            let waits = Waits(Arc::new(Mutex::new(Some(permit))));
            let begins = Arc::clone(&waits.0);
            let verified = tokio::task::spawn_blocking(move || {
                // It is given back when the work is done, and not when the client leaves.
                let Some(_permit) = begins.lock().take() else { return judge.too_many(time.now()) };
                judge.verify(check, time.now())
            });
            // It does not panic; where the process ends, nobody is let in.
            verified.await.unwrap_or_else(|_| authenticator.too_many(clock.now()))
        }
    }
}

/// Work that may have to wait for a thread, even for ever: where none can be had, the runtime panics and keeps the work.
/// Nobody waits for it any more when this is dropped, and unless it has begun, others may work instead.
struct Waits(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.lock().take();
    }
}

/// A place among those who wait.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(waiting: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(waiting));
        (waiting.fetch_add(1, Ordering::Relaxed) < WAITING).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

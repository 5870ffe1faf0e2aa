//! What the tests stand on: an origin that does what a test says byte by byte, a client that sends and tells
//! exact bytes, and the real proxy binary between them. All on sockets of this machine, on free ports.
//!
//! Nothing here waits by sleeping: the origin and the proxy's output notify, and a [`Gate`] holds an origin
//! where a test wants it. Where only asking again tells, [`eventually`] asks until a deadline.

pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod dns;
pub(crate) mod driver;
pub(crate) mod faults;
pub(crate) mod group;
pub(crate) mod origin;
pub(crate) mod proxy;
pub(crate) mod wire;

pub(crate) use client::{Client, Response};
pub(crate) use origin::{Exchange, Origin};
pub(crate) use proxy::Proxy;

use larder::clock::Stopwatch;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// After this long a test has failed: far above anything a slow machine needs, also one that has sixteen times as
/// much to do as it can.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// An address at which nothing listens, and which nobody else is given while this lives.
pub(crate) struct Nobody {
    pub(crate) address: SocketAddr,
    _bound: socket2::Socket,
}

pub(crate) fn nobody() -> Nobody {
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = bound.local_addr().unwrap().as_socket().unwrap();
    Nobody { address, _bound: bound }
}

impl std::fmt::Display for Nobody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

/// Holds threads until it is opened. Clones are the same gate. It opens by itself after [`DEADLINE`], so that a
/// failing test ends.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until the gate is open.
    pub(crate) fn pass(&self) {
        let held = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(held, DEADLINE, |open| !*open).unwrap());
    }
}

/// Asks until the answer is `Some`. Only for what notifies nobody.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Stopwatch::start();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < DEADLINE, "{what} did not come about in {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Says that something was not tested, and why: to whoever reads the output, and to the list that `tests/run`
/// prints at its end.
pub(crate) fn skip(what: &str, why: &str) {
    eprintln!("skipped: {what}: {why}");
    if let Some(list) = std::env::var_os("LARDER_TEST_SKIPS") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
        std::io::Write::write_all(&mut list, format!("{what}: {why}\n").as_bytes()).unwrap();
    }
}

/// `length` bytes in which every position can be told from its neighbours.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A date as HTTP writes it, `seconds` from now.
pub(crate) fn date(seconds: i64) -> String {
    let now = larder::clock::Clock::system().now().unix();
    let at = std::time::UNIX_EPOCH + Duration::from_secs((now + seconds).try_into().unwrap());
    httpdate::fmt_http_date(at)
}

//! How often an address was wrong: after a few times it may try once a second, until it has been right or silent for a
//! minute. Bounded, whoever asks.

use crate::clock::Moment;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Wrong ones that are no reason to slow anybody down: who mistypes a password does not notice.
const FREE: u32 = 5;
/// After so long without a wrong one all is forgotten. Milliseconds.
const MEMORY_MS: i64 = 60 * 1000;
/// What lies between two tries of an address beyond [`FREE`]. Milliseconds.
const BETWEEN_MS: i64 = 1000;
/// Addresses that are remembered.
const ADDRESSES: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Failures(Cache<IpAddr, Arc<Mutex<Wrong>>>);

/// The wrong ones of an address.
#[derive(Clone, Copy, Debug)]
struct Wrong {
    count: u32,
    last: Moment,
    /// The last try that was let through beyond the free ones.
    tried: Option<Moment>,
}

impl Wrong {
    /// Whether it has to wait.
    fn is_limited(&self, now: Moment) -> bool {
        self.count >= FREE
            && now.since(self.last) < MEMORY_MS
            && self.tried.is_some_and(|tried| now.since(tried) < BETWEEN_MS)
    }
}

impl Failures {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(ADDRESSES).eviction_policy(EvictionPolicy::lru()).build())
    }

    /// Whether a try would not be let through now.
    pub(super) fn is_limited(&self, client: IpAddr, now: Moment) -> bool {
        self.0.get(&network(client)).is_some_and(|wrong| wrong.lock().is_limited(now))
    }

    /// Whether a try is let through, and that it is.
    pub(super) fn may_try(&self, client: IpAddr, now: Moment) -> bool {
        let Some(wrong) = self.0.get(&network(client)) else { return true };
        let mut wrong = wrong.lock();
        if wrong.is_limited(now) {
            return false;
        }
        if wrong.count >= FREE {
            wrong.tried = Some(now);
        }
        true
    }

    /// A try was wrong.
    pub(super) fn failed(&self, client: IpAddr, now: Moment) {
        let wrong = self
            .0
            .get_with(network(client), || Arc::new(Mutex::new(Wrong { count: 0, last: now, tried: None })));
        let mut wrong = wrong.lock();
        if now.since(wrong.last) >= MEMORY_MS {
            *wrong = Wrong { count: 0, last: now, tried: None };
        }
        wrong.count = wrong.count.saturating_add(1);
        wrong.last = now;
        if wrong.count >= FREE {
            wrong.tried = Some(now);
        }
    }
}

/// Who has one address of IPv6 has all of its /64.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn five_wrong_ones_are_free_and_then_one_a_second_until_a_minute_has_passed() {
        let failures = Failures::new();
        let (here, now) = (ip("192.0.2.1"), Moment::at(100));
        for _ in 0..FREE {
            assert!(failures.may_try(here, now));
            failures.failed(here, now);
        }
        assert!(failures.is_limited(here, now) && !failures.may_try(here, now.plus(BETWEEN_MS - 1)));
        let later = now.plus(BETWEEN_MS);
        assert!(!failures.is_limited(here, later) && failures.may_try(here, later));
        // Taken by the one before, whatever comes of it.
        assert!(!failures.may_try(here, later.plus(1)));
        assert!(failures.may_try(ip("192.0.2.2"), now));
        failures.failed(here, later);
        let forgotten = later.plus(MEMORY_MS);
        for _ in 0..FREE - 1 {
            failures.failed(here, forgotten);
            assert!(failures.may_try(here, forgotten));
        }
        failures.failed(here, forgotten);
        assert!(!failures.may_try(here, forgotten));
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let failures = Failures::new();
        let now = Moment::at(1);
        for host in 1..=FREE {
            failures.failed(ip(&format!("2001:db8::{host}")), now);
        }
        assert!(failures.is_limited(ip("2001:db8::ffff"), now));
        assert!(!failures.is_limited(ip("2001:db8:0:1::1"), now));
        for _ in 0..FREE {
            failures.failed(ip("::ffff:192.0.2.1"), now);
        }
        assert!(failures.is_limited(ip("192.0.2.1"), now));
    }
}

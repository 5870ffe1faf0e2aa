//! How often a client may ask, and how much it may get in a second: rates for each address, in tables that hold so
//! many addresses and no more.
//!
//! Each address has one figure, the time until which all is paid for (the generic cell rate algorithm). A request pays
//! for one interval, and is refused when more than a second is paid ahead. Bytes are paid for once they are sent, and
//! what comes next waits for the time that they paid for.
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Table;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::clock::Clock;

/// Addresses known at one time. The one that asked longest ago is forgotten first: it has paid for what it asked.
const ADDRESSES: u64 = 65_536;
/// What may be asked at once, as the time that it takes to pay for it. Microseconds.
const AHEAD: i64 = 1_000_000;

/// Until when each client has paid. Microseconds of the monotonic clock.
#[derive(Debug)]
pub struct Rates(Table<IpAddr, Arc<AtomicI64>, ahash::RandomState>);

impl Default for Rates {
    fn default() -> Self {
        let table = Table::builder().max_capacity(ADDRESSES).eviction_policy(EvictionPolicy::lru());
        Self(table.build_with_hasher(ahash::RandomState::new()))
    }
}

impl Rates {
    fn of(&self, client: IpAddr, now: i64) -> Arc<AtomicI64> {
        self.0.get_with(whose(client), || Arc::new(AtomicI64::new(now)))
    }

    /// What a client may be sent: one for all its connections. Bytes in a second.
    pub fn allowance(&self, client: IpAddr, clock: &Clock, per_second: u64) -> Allowance {
        let now = clock.now().mono.saturating_mul(1_000);
        let per_second = i64::try_from(per_second.max(1)).unwrap_or(i64::MAX);
        Allowance { paid: self.of(client, now - AHEAD), clock: clock.clone(), per_second }
    }

    /// One more request at `now` (milliseconds, monotonic), where `per_second` are allowed. The error: whole seconds
    /// after which the next is taken.
    pub fn one_more(&self, client: IpAddr, now: i64, per_second: usize) -> Result<(), u64> {
        let now = now.saturating_mul(1_000);
        let interval = AHEAD / i64::try_from(per_second.max(1)).unwrap_or(AHEAD).min(AHEAD);
        let paid = self.of(client, now);
        let pay = |until: i64| {
            let until = until.max(now).saturating_add(interval);
            (until - now <= AHEAD).then_some(until)
        };
        match paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay) {
            Ok(_) => Ok(()),
            Err(until) => Err((until - now + interval - AHEAD).max(1).cast_unsigned().div_ceil(1_000_000)),
        }
    }
}

/// What one client may be sent in a second, with a second's worth at once.
#[derive(Clone, Debug)]
pub struct Allowance {
    paid: Arc<AtomicI64>,
    clock: Clock,
    /// Bytes.
    per_second: i64,
}

impl Allowance {
    /// The most that should be sent at once. Bytes.
    pub fn piece(&self) -> usize {
        const LEAST: i64 = 1_024;
        const MOST: i64 = 64 * 1_024;
        self.per_second.clamp(LEAST, MOST) as usize
    }

    /// For how long nothing more should be sent; zero where something may be.
    pub fn wait(&self) -> Duration {
        let ahead = self.paid.load(Ordering::Relaxed).saturating_sub(self.now());
        Duration::from_micros(u64::try_from(ahead).unwrap_or(0))
    }

    /// Pays for what was sent.
    pub fn pay(&self, bytes: usize) {
        let least = self.now() - AHEAD;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let price = bytes.saturating_mul(AHEAD) / self.per_second;
        let pay = |until: i64| Some(until.max(least).saturating_add(price));
        // It never says no.
        let _ = self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
    }

    /// Returns when something may be sent.
    pub async fn ready(&self) {
        loop {
            let wait = self.wait();
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().mono.saturating_mul(1_000)
    }
}

/// A client is an address of IPv4, or the network of 64 bits that one of IPv6 is given.
fn whose(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn taken(rates: &Rates, client: &str, now: i64, times: usize) -> usize {
        let client = client.parse().unwrap();
        (0..times).filter(|_| rates.one_more(client, now, 10).is_ok()).count()
    }

    #[test]
    fn a_second_may_be_asked_at_once_and_then_comes_in_its_rate() {
        let rates = Rates::default();
        for (now, expected) in [(5_000, 10), (5_000, 0), (5_100, 1), (5_199, 0), (5_450, 3), (60_000, 10)] {
            assert_eq!(taken(&rates, "192.0.2.1", now, 50), expected, "at {now}");
        }
        assert_eq!(rates.one_more("192.0.2.1".parse().unwrap(), 60_000, 10), Err(1));
    }

    #[test]
    fn bytes_wait_for_what_was_paid_by_all_connections_together() {
        let (clock, hand) = Clock::manual(0);
        let rates = Rates::default();
        let client = "192.0.2.1".parse().unwrap();
        let first = rates.allowance(client, &clock, 10_000);
        let second = rates.allowance(client, &clock, 10_000);
        for (after, bytes, expected) in [
            (0, 10_000, 0),
            (0, 5_000, 500),
            (200, 0, 300),
            (300, 0, 0),
            // No more than a second's worth is saved up.
            (60_000, 11_000, 100),
            (50, 1_000, 150),
        ] {
            hand.advance(Duration::from_millis(after));
            first.pay(bytes);
            assert_eq!(second.wait(), Duration::from_millis(expected), "{after} {bytes}");
        }
        assert_eq!(rates.allowance("192.0.2.2".parse().unwrap(), &clock, 10_000).wait(), Duration::ZERO);
        for (per_second, piece) in [(1, 1_024), (10_000, 10_000), (1 << 30, 65_536)] {
            assert_eq!(rates.allowance(client, &clock, per_second).piece(), piece);
        }
    }

    #[test]
    fn clients_are_addresses_or_networks_of_64_bits() {
        let rates = Rates::default();
        for (client, expected) in [
            ("192.0.2.1", 10),
            ("::ffff:192.0.2.1", 0),
            ("192.0.2.2", 10),
            ("2001:db8:0:1::1", 10),
            ("2001:db8:0:1:ffff::2", 0),
            ("2001:db8:0:2::1", 10),
        ] {
            assert_eq!(taken(&rates, client, 0, 50), expected, "{client}");
        }
    }

    #[test]
    fn many_addresses_fill_no_more_than_the_table_and_get_in() {
        let rates = Rates::default();
        for number in 0..100_000_u32 {
            assert_eq!(rates.one_more(std::net::Ipv4Addr::from_bits(number).into(), 0, 10), Ok(()));
        }
        rates.0.run_pending_tasks();
        assert!(rates.0.entry_count() <= ADDRESSES, "{}", rates.0.entry_count());
    }
}

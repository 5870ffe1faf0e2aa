//! How often a client may ask: a rate for each address, in a table that holds so many addresses and no more.
//!
//! Each address has one figure, the time until which its requests are paid for (the generic cell rate algorithm): a
//! request pays for one interval, and is refused when more than a second is paid ahead.
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Table;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

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
    /// One more request at `now` (milliseconds, monotonic), where `per_second` are allowed. The error: whole seconds
    /// after which the next is taken.
    pub fn one_more(&self, client: IpAddr, now: i64, per_second: usize) -> Result<(), u64> {
        let now = now.saturating_mul(1_000);
        let interval = AHEAD / i64::try_from(per_second.max(1)).unwrap_or(AHEAD).min(AHEAD);
        let paid = self.0.get_with(whose(client), || Arc::new(AtomicI64::new(now)));
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

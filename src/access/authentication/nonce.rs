//! Nonces of Digest: made of the moment and a keyed hash of it, so that nothing is kept of those that nobody uses.
//! RFC 7616 section 3.3.
//!
//! Of those with which somebody was right it is kept which counts (`nc`) were used, so that what was overheard is not
//! sent again. Requests of one client overtake each other on several connections, so a count may come late, but once.

use super::mac;
use crate::clock::Moment;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// For how long a nonce is good. What was overheard is good for one request that was the same anyway; a client asks for
/// a new one without asking its user.
const LIFETIME_MS: i64 = 5 * 60 * 1000;
/// Nonces in use that are remembered, for as long as they live. Only those who know a password get one in; where more
/// are in use than this, the one that was used least lately could be replayed.
const IN_USE: u64 = 20_000;
/// How far a count may be behind the highest one.
const WINDOW: u32 = 128;

/// A moment on both clocks, and a number that tells two nonces of one millisecond apart.
const SAID: usize = 8 + 8 + 8;
const TAG: usize = 16;

#[derive(Debug)]
pub(super) struct Nonces {
    key: [u8; 32],
    used: Cache<[u8; 32], Arc<Mutex<Counts>>>,
}

/// What a count is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Not seen before.
    New,
    /// Seen before, or too far behind to tell.
    Again,
    /// The nonce has aged.
    Old,
    /// The nonce is not from this process.
    Foreign,
}

/// The counts that were used: the highest, and a bit for each of the [`WINDOW`] up to it.
#[derive(Debug, Default)]
struct Counts {
    highest: u32,
    bits: u128,
}

impl Counts {
    /// Whether it is used for the first time.
    fn take(&mut self, count: u32) -> bool {
        if count == 0 {
            return false;
        }
        if count > self.highest {
            let ahead = count - self.highest;
            self.bits = self.bits.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        if behind >= WINDOW {
            return false;
        }
        let bit = 1_u128 << behind;
        let new = self.bits & bit == 0;
        self.bits |= bit;
        new
    }
}

impl Nonces {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        let used = Cache::builder().max_capacity(IN_USE).eviction_policy(EvictionPolicy::lru()).build();
        Self { key: mac(secret, &[b"nonces"]), used }
    }

    /// One that is good from now on.
    pub(super) fn fresh(&self, now: Moment) -> String {
        let mut bytes = Vec::with_capacity(SAID + TAG);
        bytes.extend_from_slice(&now.wall.to_le_bytes());
        bytes.extend_from_slice(&now.mono.to_le_bytes());
        bytes.extend_from_slice(&rand::random::<u64>().to_le_bytes());
        let tag = mac(&self.key, &[&bytes]);
        bytes.extend_from_slice(&tag[..TAG]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// When it was made, if it was made here.
    fn made(&self, nonce: &str) -> Option<Moment> {
        let bytes = URL_SAFE_NO_PAD.decode(nonce).ok().filter(|bytes| bytes.len() == SAID + TAG)?;
        let (said, tag) = bytes.split_at(SAID);
        if !bool::from(mac(&self.key, &[said])[..TAG].ct_eq(tag)) {
            return None;
        }
        let number = |at: usize| said.get(at..at + 8)?.try_into().ok().map(i64::from_le_bytes);
        Some(Moment { wall: number(0)?, mono: number(8)? })
    }

    /// Notes that a user was right with a nonce and a count.
    pub(super) fn see(&self, nonce: &str, user: &str, count: u32, now: Moment) -> Seen {
        let Some(made) = self.made(nonce) else { return Seen::Foreign };
        if now.since(made) > LIFETIME_MS {
            return Seen::Old;
        }
        let counts = self.used.get_with(self.name(nonce, user), Arc::default);
        let new = counts.lock().take(count);
        if new { Seen::New } else { Seen::Again }
    }

    /// Whether the user was right with this nonce before.
    pub(super) fn is_known(&self, nonce: &str, user: &str) -> bool {
        self.used.contains_key(&self.name(nonce, user))
    }

    /// No user's name holds a NUL.
    fn name(&self, nonce: &str, user: &str) -> [u8; 32] {
        mac(&self.key, &[user.as_bytes(), b"\0", nonce.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_taken_once_also_when_it_comes_late() {
        let mut counts = Counts::default();
        for (count, new) in [
            (0, false),
            (1, true),
            (1, false),
            (3, true),
            (2, true),
            (2, false),
            (3, false),
            (131, true),
            (3, false),
            (4, true),
            (4, false),
            (130, true),
            (1_000_000, true),
            (131, false),
            (u32::MAX, true),
            (u32::MAX, false),
        ] {
            assert_eq!(counts.take(count), new, "{count}");
        }
    }

    #[test]
    fn a_nonce_is_good_for_five_minutes_in_the_process_that_made_it() {
        let nonces = Nonces::new(&[1; 32]);
        let now = Moment::at(1_000_000);
        let nonce = nonces.fresh(now);
        assert_ne!(nonce, nonces.fresh(now));
        assert!(!nonces.is_known(&nonce, "a"));
        assert_eq!(nonces.see(&nonce, "a", 1, now.plus(LIFETIME_MS)), Seen::New);
        assert!(nonces.is_known(&nonce, "a") && !nonces.is_known(&nonce, "b"));
        assert_eq!(nonces.see(&nonce, "a", 1, now), Seen::Again);
        assert_eq!(nonces.see(&nonce, "b", 1, now), Seen::New);
        assert_eq!(nonces.see(&nonce, "a", 2, now.plus(LIFETIME_MS + 1)), Seen::Old);
        assert_eq!(Nonces::new(&[2; 32]).see(&nonce, "a", 3, now), Seen::Foreign);
        let mut other = nonce.clone().into_bytes();
        other[0] ^= 1;
        assert_eq!(nonces.see(std::str::from_utf8(&other).unwrap(), "a", 3, now), Seen::Foreign);
        for nonce in ["", "x", "\u{e4}", &"A".repeat(54)] {
            assert_eq!(nonces.see(nonce, "a", 1, now), Seen::Foreign, "{nonce}");
        }
    }
}

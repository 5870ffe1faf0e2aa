//! The only reader of time.
//!
//! Everything else takes a [`Moment`] as an argument or asks a [`Clock`] that it was given, so that a test
//! can move time by hand. `clippy.toml` bans the standard library's clocks outside this file.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time on two clocks, both in milliseconds.
///
/// The wall clock may be set back or forward; the monotonic one stops while a machine is suspended. What has
/// passed between two moments is therefore the larger of both differences ([`Moment::since`]): a suspended
/// machine serves nothing stale as fresh, and neither does one whose clock was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Moment {
    /// Milliseconds since the Unix epoch, by the wall clock.
    pub wall: i64,
    /// Milliseconds since the clock was made, by the monotonic clock.
    pub mono: i64,
}

impl Moment {
    /// A moment at which both clocks show `seconds`: for tables of tests.
    pub const fn at(seconds: i64) -> Self {
        Self { wall: seconds * 1000, mono: seconds * 1000 }
    }

    /// Milliseconds from `earlier` until now: the larger of both clocks' differences, never negative.
    pub fn since(self, earlier: Self) -> i64 {
        let wall = self.wall.saturating_sub(earlier.wall);
        let mono = self.mono.saturating_sub(earlier.mono);
        wall.max(mono).max(0)
    }

    /// Whole seconds since the Unix epoch, as HTTP dates count.
    pub const fn unix(self) -> i64 {
        self.wall.div_euclid(1000)
    }

    /// This moment moved by `by` milliseconds on both clocks.
    #[must_use]
    pub const fn plus(self, by: i64) -> Self {
        Self { wall: self.wall.saturating_add(by), mono: self.mono.saturating_add(by) }
    }
}

thread_local! {
    /// When the thread last looked at the wall clock, and what that showed.
    static WALL: Cell<Option<(Tick, i64)>> = const { Cell::new(None) };
}

/// A point on the monotonic clock, as of the kernel's last tick.
///
/// That is up to 10 ms ago (4 as most kernels are built), and what an exchange does takes less. To look costs a sixth of
/// what the exact time costs, which on a virtual machine is 30 ns and more, and an exchange looks up to seven times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(Duration);

impl Tick {
    #[cfg(target_os = "linux")]
    fn now() -> Self {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        Self(Duration::new(at.tv_sec.unsigned_abs(), at.tv_nsec as u32))
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::disallowed_methods)]
    fn now() -> Self {
        static BEGIN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        Self(BEGIN.elapsed())
    }

    /// Milliseconds since the Unix epoch by the wall clock, looked at once in a tick.
    #[allow(clippy::disallowed_methods)]
    fn wall(self) -> i64 {
        WALL.with(|kept| match kept.get() {
            Some((at, wall)) if at == self => wall,
            _ => {
                let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
                kept.set(Some((self, wall)));
                wall
            }
        })
    }
}

/// Where moments come from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clocks; the monotonic one counts from the tick given.
    System(Tick),
    /// Moved by hand, in tests.
    Manual(Arc<Manual>),
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct Manual {
    wall: AtomicI64,
    mono: AtomicI64,
}

impl Manual {
    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let by = by.as_millis() as i64;
        self.wall.fetch_add(by, Ordering::SeqCst);
        self.mono.fetch_add(by, Ordering::SeqCst);
    }

    /// Moves the wall clock alone, as an operator who sets the date does. `by` is in milliseconds.
    pub fn shift_wall(&self, by: i64) {
        self.wall.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self::System(Tick::now())
    }

    /// A clock moved by hand, and the hand. It starts at `unix` seconds.
    pub fn manual(unix: i64) -> (Self, Arc<Manual>) {
        let hand = Arc::new(Manual { wall: AtomicI64::new(unix * 1000), mono: AtomicI64::new(0) });
        (Self::Manual(Arc::clone(&hand)), hand)
    }

    /// Now, on both clocks.
    pub fn now(&self) -> Moment {
        match self {
            Self::System(begin) => {
                let tick = Tick::now();
                Moment { wall: tick.wall(), mono: tick.0.saturating_sub(begin.0).as_millis() as i64 }
            }
            Self::Manual(hand) => {
                Moment { wall: hand.wall.load(Ordering::SeqCst), mono: hand.mono.load(Ordering::SeqCst) }
            }
        }
    }
}

/// Measures how long something takes, for logs and histograms; not for HTTP's arithmetic.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What has passed since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The instant at which it was started, for timers.
    pub fn started(&self) -> Instant {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_time_is_the_larger_of_both_clocks() {
        let before = Moment { wall: 1_000_000, mono: 5_000 };
        let set_back = Moment { wall: 900_000, mono: 8_000 };
        assert_eq!(set_back.since(before), 3_000);
        let suspended = Moment { wall: 2_000_000, mono: 6_000 };
        assert_eq!(suspended.since(before), 1_000_000);
        assert_eq!(before.since(suspended), 0);
    }
}

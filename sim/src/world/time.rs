//! Virtual time: nanoseconds since the world began, and ranges from which durations are drawn.

use std::fmt;
use std::ops::{Add, Sub};
use wire::drive::{Instant, Nanos};

/// A moment of the world, in nanoseconds since it began. Every host's monotonic clock shows this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimTime(pub u64);

/// The wall clock of an untouched host at [`SimTime::ZERO`]: 2026-01-01T00:00:00Z, in milliseconds since 1970.
pub const WALL_EPOCH_MS: i64 = 1_767_225_600_000;

impl SimTime {
    /// When the world begins.
    pub const ZERO: SimTime = SimTime(0);
    /// Later than everything.
    pub const END: SimTime = SimTime(u64::MAX);

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: SimTime) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// The same moment on a host's monotonic clock.
    pub const fn mono(self) -> Instant {
        Instant(self.0)
    }
}

impl Add<Nanos> for SimTime {
    type Output = SimTime;
    fn add(self, span: Nanos) -> SimTime {
        SimTime(self.0.saturating_add(span.0))
    }
}

impl Sub<SimTime> for SimTime {
    type Output = Nanos;
    fn sub(self, earlier: SimTime) -> Nanos {
        self.since(earlier)
    }
}

/// Seconds and milliseconds: `12.345s`. Times are kept to the nanosecond and shown to the millisecond.
impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1_000_000_000, self.0 / 1_000_000 % 1_000)
    }
}

/// A uniform range of durations, both ends included, such as `"200us..600us"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// The shortest.
    pub low: Nanos,
    /// The longest; not below `low`.
    pub high: Nanos,
}

impl Between {
    /// From `low` to `high` microseconds.
    pub const fn micros(low: u64, high: u64) -> Between {
        assert!(low <= high);
        Between { low: Nanos::from_micros(low), high: Nanos::from_micros(high) }
    }

    /// Always the same duration.
    pub const fn exactly(span: Nanos) -> Between {
        Between { low: span, high: span }
    }
}

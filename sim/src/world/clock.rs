//! A host's wall clock: offset, drift and steps. Its monotonic clock shows the world's time and never goes back.

use wire::drive::Now;

use super::time::{SimTime, WALL_EPOCH_MS};

/// The wall clock of one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// How far it is ahead of the true time at `since`, in nanoseconds.
    offset: i64,
    /// How many millionths it runs too fast from `since` on.
    drift_ppm: i64,
    since: SimTime,
}

impl Clock {
    /// Both clocks of the host.
    #[inline]
    pub fn now(&self, at: SimTime) -> Now {
        let ahead = if *self == Clock::default() { 0 } else { self.ahead(at) };
        // Rounded down, as a clock shows it, also before the epoch of the world.
        let wall_ms = WALL_EPOCH_MS + (at.0 as i64 + ahead).div_euclid(1_000_000);
        Now { mono: at.mono(), wall_ms }
    }

    /// How far the wall clock is ahead of the true time, in nanoseconds.
    pub fn ahead(&self, at: SimTime) -> i64 {
        let drifted = i128::from(at.since(self.since).0) * i128::from(self.drift_ppm) / 1_000_000;
        self.offset + drifted as i64
    }

    /// Steps the wall clock by so many nanoseconds.
    pub fn step(&mut self, at: SimTime, nanos: i64) {
        *self = Clock { offset: self.ahead(at) + nanos, since: at, ..*self };
    }

    /// Lets the wall clock run too fast (or slow) from now on; what it is ahead by now stays.
    pub fn drift(&mut self, at: SimTime, ppm: i64) {
        *self = Clock { offset: self.ahead(at), since: at, drift_ppm: ppm };
    }

    /// Puts the wall clock right.
    pub fn heal(&mut self) {
        *self = Clock::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_drift_move_the_wall_clock_only() {
        let second = |s: u64| SimTime(s * 1_000_000_000);
        let mut clock = Clock::default();
        assert_eq!(clock.now(second(2)).wall_ms, WALL_EPOCH_MS + 2_000);
        clock.drift(second(10), 200);
        assert_eq!(clock.now(second(20)).wall_ms, WALL_EPOCH_MS + 20_002);
        clock.step(second(20), -7_200_000_000_000);
        assert_eq!(clock.now(second(20)).wall_ms, WALL_EPOCH_MS + 20_002 - 7_200_000);
        assert_eq!(clock.now(second(30)).wall_ms, WALL_EPOCH_MS + 30_004 - 7_200_000);
        clock.drift(second(30), 0);
        assert_eq!(clock.now(second(40)).wall_ms, WALL_EPOCH_MS + 40_004 - 7_200_000);
        assert_eq!(clock.now(second(40)).mono.0, second(40).0);
        clock.heal();
        assert_eq!(clock.now(second(50)).wall_ms, WALL_EPOCH_MS + 50_000);
    }
}

//! A rate over the samples of the last seconds, what of it goes over a bound, and for how long to wait then.
//!
//! `Rate`, `SimpleRate`, `SampledStat`, `TokenBucket` and `QuotaUtils` of Kafka, in integers: amounts are whole, bounds are
//! counted in millionths, time in milliseconds. Where Kafka divides and compares doubles, this multiplies and compares
//! exactly.

use alloc::vec::Vec;

use wire::drive::{Instant, Nanos};

/// How many samples there are, and how long each lasts: `quota.window.num` and `quota.window.size.seconds`, or the same
/// of replication and of `alter.log.dirs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples {
    /// So many.
    pub num: u32,
    /// Each covers so many seconds.
    pub seconds: u32,
}

impl Samples {
    fn length_ms(self) -> u64 {
        u64::from(self.seconds) * 1000
    }

    /// From this age on a sample does not count.
    fn expire_ms(self) -> u64 {
        u64::from(self.num) * self.length_ms()
    }
}

/// What a rate may be at most, per second, in millionths. It is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound(u128);

const MILLION: u128 = 1_000_000;

impl Bound {
    /// So many per second. A bound below one in a million is one in a million.
    pub const fn per_second(bound: u64) -> Bound {
        if bound == 0 { Bound(1) } else { Bound(bound as u128 * MILLION) }
    }

    /// The bits of an IEEE 754 double, as quotas come in metadata.
    pub fn from_double_bits(bits: u64) -> Bound {
        // A cast saturates, and makes zero of what is no number.
        Bound(((f64::from_bits(bits) * 1e6 + 0.5) as u128).clamp(1, u128::from(u64::MAX) * MILLION))
    }

    /// The bound times so many seconds, in whole units, rounded down.
    pub fn times_seconds(self, seconds: u64) -> u64 {
        u64::try_from(self.0.saturating_mul(u128::from(seconds)) / MILLION).unwrap_or(u64::MAX)
    }
}

/// What was recorded during a part of the time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    total: i64,
    start_ms: u64,
    last_event_ms: u64,
}

impl Sample {
    fn new(now_ms: u64) -> Sample {
        Sample { total: 0, start_ms: now_ms, last_event_ms: now_ms }
    }
}

/// Over which time a rate is taken while there are fewer samples than there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Elapsed {
    /// As if all samples but the current one had been there before (`Rate`).
    AllSamples,
    /// At least one (`SimpleRate`).
    OneSample,
}

/// The rate of what is recorded, per second.
#[derive(Clone, Debug)]
pub struct Rate {
    window: Samples,
    elapsed: Elapsed,
    /// A ring with room for one more than there are samples in the window, for the one that overlaps its beginning.
    samples: Vec<Sample>,
    current: usize,
}

impl Rate {
    /// As quotas of clients are measured: time without samples counts as time in which nothing happened, so that the first
    /// seconds are not taken for a rate.
    pub fn new(window: Samples) -> Rate {
        Rate { window, elapsed: Elapsed::AllSamples, samples: Vec::new(), current: 0 }
    }

    /// As throttled replication is measured: over the time since the oldest sample began, at least the length of one.
    pub fn simple(window: Samples) -> Rate {
        Rate { elapsed: Elapsed::OneSample, ..Rate::new(window) }
    }

    /// Records an amount; a negative one takes back what was recorded.
    pub fn record(&mut self, amount: i64, now: Instant) {
        let now_ms = now_ms(now);
        if self.samples.is_empty() {
            self.samples.push(Sample::new(now_ms));
        } else if now_ms.saturating_sub(self.samples[self.current].start_ms) >= self.window.length_ms() {
            self.advance(now_ms);
        }
        let sample = &mut self.samples[self.current];
        sample.total = sample.total.saturating_add(amount);
        sample.last_event_ms = now_ms;
    }

    fn advance(&mut self, now_ms: u64) {
        self.current = (self.current + 1) % (self.window.num as usize + 1);
        match self.samples.get_mut(self.current) {
            Some(sample) => *sample = Sample::new(now_ms),
            None => self.samples.push(Sample::new(now_ms)),
        }
    }

    /// The rate per second, rounded down.
    pub fn per_second(&mut self, now: Instant) -> i64 {
        let (total, window_ms) = self.measure(now);
        total.saturating_mul(1000).div_euclid(i128::from(window_ms)) as i64
    }

    /// Whether the rate is greater than the bound.
    pub fn exceeds(&mut self, bound: Bound, now: Instant) -> bool {
        let (total, window_ms) = self.measure(now);
        over(total, window_ms, bound)
    }

    /// How long nothing may be recorded until the rate is down to the bound: with a rate of O, a bound of T and a window
    /// of W, (O - T) / T * W, rounded to milliseconds. Zero if the rate is not greater than the bound.
    pub fn throttle_time(&mut self, bound: Bound, now: Instant) -> Nanos {
        let (total, window_ms) = self.measure(now);
        if !over(total, window_ms, bound) {
            return Nanos::ZERO;
        }
        // O * W is the total, so that the formula is total / T - W. Half of the divisor is added for rounding.
        let thousandths = total.unsigned_abs() * 1000 * MILLION;
        let until_ms = (thousandths + bound.0 / 2) / bound.0;
        millis(until_ms.saturating_sub(u128::from(window_ms)))
    }

    /// The total of all samples and the time over which they were taken.
    fn measure(&mut self, now: Instant) -> (i128, u64) {
        let now_ms = now_ms(now);
        if self.samples.is_empty() {
            self.samples.push(Sample::new(now_ms));
        }
        // One that overlaps the beginning of the window counts whole.
        let expire_ms = self.window.expire_ms();
        for sample in &mut self.samples {
            if now_ms.saturating_sub(sample.last_event_ms) >= expire_ms {
                *sample = Sample::new(now_ms);
            }
        }
        let total = self.samples.iter().map(|sample| i128::from(sample.total)).sum();
        let oldest = self.samples.iter().map(|sample| sample.start_ms).min().unwrap_or(now_ms);
        (total, self.window_ms(now_ms.saturating_sub(oldest)))
    }

    fn window_ms(&self, elapsed_ms: u64) -> u64 {
        let length_ms = self.window.length_ms();
        match self.elapsed {
            Elapsed::OneSample => elapsed_ms.max(length_ms),
            Elapsed::AllSamples => {
                let full = elapsed_ms / length_ms;
                let missing = u64::from(self.window.num.saturating_sub(1)).saturating_sub(full);
                (elapsed_ms + missing * length_ms).max(1)
            }
        }
    }
}

fn over(total: i128, window_ms: u64, bound: Bound) -> bool {
    total > 0 && total.unsigned_abs() * 1000 * MILLION > bound.0.saturating_mul(u128::from(window_ms))
}

/// Answers tell it in 32 bits.
fn millis(ms: u128) -> Nanos {
    Nanos::from_millis(ms.min(i32::MAX as u128) as u64)
}

fn now_ms(now: Instant) -> u64 {
    now.0 / 1_000_000
}

/// Credit that fills up at the bound's rate, up to what a whole window is worth, and may be overdrawn.
///
/// Unlike a [`Rate`] it forgets a burst as soon as the time that it was worth is over.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    window: Samples,
    /// In millionths of thousandths: what a bound in millionths earns in a millisecond is a whole number then. Absent
    /// until first asked for, when it is full.
    tokens: Option<i128>,
    updated_ms: u64,
}

/// A token.
const TOKEN: i128 = MILLION as i128 * 1000;

impl TokenBucket {
    /// A full bucket.
    pub fn new(window: Samples) -> TokenBucket {
        TokenBucket { window, tokens: None, updated_ms: 0 }
    }

    /// Takes tokens out, whether they are there or not.
    pub fn record(&mut self, tokens: i64, bound: Bound, now: Instant) {
        let left = self.refill(bound, now) - i128::from(tokens) * TOKEN;
        self.tokens = Some(left.min(self.burst(bound)));
    }

    /// Whether it is overdrawn.
    pub fn exceeded(&mut self, bound: Bound, now: Instant) -> bool {
        self.refill(bound, now) < 0
    }

    /// How long until it is not overdrawn any more, rounded to milliseconds.
    pub fn throttle_time(&mut self, bound: Bound, now: Instant) -> Nanos {
        let owed = (-self.refill(bound, now)).max(0).unsigned_abs();
        millis((owed + bound.0 / 2) / bound.0)
    }

    fn refill(&mut self, bound: Bound, now: Instant) -> i128 {
        let now_ms = now_ms(now);
        let burst = self.burst(bound);
        let earned = bound.0.saturating_mul(u128::from(now_ms.saturating_sub(self.updated_ms)));
        let tokens = self
            .tokens
            .map_or(burst, |had| had.saturating_add(i128::try_from(earned).unwrap_or(i128::MAX)).min(burst));
        self.tokens = Some(tokens);
        self.updated_ms = now_ms;
        tokens
    }

    fn burst(&self, bound: Bound) -> i128 {
        i128::try_from(bound.0.saturating_mul(u128::from(self.window.expire_ms()))).unwrap_or(i128::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Samples = Samples { num: 11, seconds: 1 };

    fn at(ms: u64) -> Instant {
        Instant::default().plus_millis(ms)
    }

    /// A step: at so many milliseconds so much is recorded; then the time over which the rate is taken, the total, and
    /// the throttle time at a bound of 100 a second.
    type Step = (u64, i64, u64, i128, u64);

    fn check(mut rate: Rate, steps: &[Step]) {
        for &(ms, amount, window, total, throttle) in steps {
            rate.record(amount, at(ms));
            assert_eq!(rate.measure(at(ms)), (total, window), "at {ms}");
            let bound = Bound::per_second(100);
            assert_eq!(rate.throttle_time(bound, at(ms)), Nanos::from_millis(throttle), "at {ms}");
            assert_eq!(rate.exceeds(bound, at(ms)), throttle > 0, "at {ms}");
        }
    }

    #[test]
    fn the_first_seconds_count_as_if_ten_had_passed() {
        check(
            Rate::new(WINDOW),
            &[
                (5_000, 1_000, 10_000, 1_000, 0),
                // (1,100 / 10 s - 100) / 100 * 10 s.
                (5_000, 100, 10_000, 1_100, 1_000),
                (5_400, 0, 10_400, 1_100, 600),
                // A full second more is one of the ten, and no longer assumed.
                (6_000, 0, 10_000, 1_100, 1_000),
                (6_999, 0, 10_999, 1_100, 1),
                (14_999, 0, 10_999, 1_100, 1),
                (15_000, 0, 10_000, 1_100, 1_000),
                (15_999, 0, 10_999, 1_100, 1),
                (16_399, 5, 11_399, 1_105, 0),
                // Its last event, at 5,400, is eleven seconds back: forgotten.
                (16_400, 0, 10_400, 5, 0),
            ],
        );
    }

    #[test]
    fn a_sample_is_forgotten_when_its_last_event_is_as_old_as_the_window() {
        check(
            Rate::new(WINDOW),
            &[
                (0, 2_000, 10_000, 2_000, 10_000),
                (900, 100, 10_900, 2_100, 10_100),
                // It began eleven seconds ago; what came last did not.
                (11_899, 0, 11_899, 2_100, 9_101),
                (11_900, 0, 10_001, 0, 0),
            ],
        );
    }

    #[test]
    fn what_is_taken_back_does_not_count() {
        let mut rate = Rate::new(WINDOW);
        rate.record(5_000, at(100));
        rate.record(-5_000, at(100));
        assert_eq!(rate.throttle_time(Bound::per_second(1), at(100)), Nanos::ZERO);
        assert_eq!(rate.per_second(at(100)), 0);
    }

    #[test]
    fn a_simple_rate_is_taken_over_the_time_that_passed_and_at_least_a_second() {
        check(
            Rate::simple(WINDOW),
            &[
                (3_000, 100, 1_000, 100, 0),
                (3_000, 50, 1_000, 150, 500),
                (3_999, 50, 1_000, 200, 1_000),
                (4_500, 50, 1_500, 250, 1_000),
                (6_000, 0, 3_000, 250, 0),
            ],
        );
    }

    #[test]
    fn the_ring_has_one_sample_more_than_the_window() {
        let mut rate = Rate::new(WINDOW);
        for second in 0..100 {
            rate.record(100, at(second * 1_000));
            // After the twelfth, the ring turns: eleven full seconds before the current one, of which the oldest has
            // just expired.
            let expected = (second + 1).min(11);
            assert_eq!(rate.measure(at(second * 1_000)).0, i128::from(expected) * 100, "in second {second}");
        }
        assert_eq!(rate.samples.len(), 12);
        assert_eq!(rate.per_second(at(99_000)), 110);
    }

    #[test]
    fn a_bucket_holds_what_a_window_is_worth_and_may_be_overdrawn() {
        let five = Bound::per_second(5);
        let mut bucket = TokenBucket::new(WINDOW);
        bucket.record(55, five, at(0));
        assert!(!bucket.exceeded(five, at(0)));
        bucket.record(60, five, at(0));
        assert!(bucket.exceeded(five, at(0)));
        assert_eq!(bucket.throttle_time(five, at(0)), Nanos::from_secs(12));
        assert_eq!(bucket.throttle_time(five, at(11_999)), Nanos::from_millis(1));
        assert!(bucket.exceeded(five, at(11_999)));
        assert!(!bucket.exceeded(five, at(12_000)));
        bucket.record(55, five, at(1_000_000));
        assert!(!bucket.exceeded(five, at(1_000_000)), "it was full, and is empty");
        bucket.record(1, five, at(1_000_000));
        assert_eq!(bucket.throttle_time(five, at(1_000_000)), Nanos::from_millis(200));
    }

    #[test]
    fn a_bound_may_be_a_fraction_and_is_never_zero() {
        let tenth = Bound::from_double_bits(0.1_f64.to_bits());
        assert_eq!(tenth, Bound(100_000));
        assert_eq!(tenth.times_seconds(10), 1);
        assert_eq!(Bound::from_double_bits(1024.0_f64.to_bits()), Bound::per_second(1024));
        for odd in [0.0, -1.0, f64::NAN, 1e-9] {
            assert_eq!(Bound::from_double_bits(odd.to_bits()), Bound(1), "{odd}");
        }
        let large = Bound::from_double_bits(f64::INFINITY.to_bits());
        let mut rate = Rate::new(WINDOW);
        rate.record(i64::MAX, at(0));
        rate.record(i64::MAX, at(0));
        assert!(!rate.exceeds(large, at(0)));
        assert!(rate.throttle_time(Bound(1), at(0)) > Nanos::ZERO);
    }
}

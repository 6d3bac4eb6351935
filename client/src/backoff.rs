//! Exponential backoff with jitter, as Kafka's `ExponentialBackoff` has it (KIP-580).

use rand_core::{Rng as _, SeedableRng as _};
use wire::drive::Nanos;

use crate::Rng;

/// `initial × 2^attempts`, at most `max`, with ±20 % of jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first retry.
    pub initial: Nanos,
    /// The upper bound.
    pub max: Nanos,
}

impl Backoff {
    /// The jitter of a term, in per mille of it.
    const JITTER: u64 = 200;
    /// Doubling further would overflow for no use: every bound is long reached.
    const MAX_DOUBLINGS: u32 = 30;

    /// From milliseconds.
    pub const fn from_millis(initial: u64, max: u64) -> Backoff {
        Backoff { initial: Nanos::from_millis(initial), max: Nanos::from_millis(max) }
    }

    /// How long to wait after so many attempts in a row have failed, beginning with 0.
    ///
    /// As in Kafka, the jitter of the last steps is cut at `max`, and a backoff that cannot grow has none.
    pub fn after(self, attempts: u32, rng: &mut Rng) -> Nanos {
        if self.initial.0 >= self.max.0 {
            return self.initial;
        }
        let doublings = attempts.min(Backoff::MAX_DOUBLINGS);
        let term = self.initial.0.saturating_mul(1 << doublings).min(self.max.0);
        let spread = 1000 - Backoff::JITTER + below(rng, 2 * Backoff::JITTER + 1);
        Nanos((term / 1000 * spread).min(self.max.0))
    }
}

/// A number below `bound`, which is not zero. The bias of the remainder is below 2^-32 for what this crate asks.
pub fn below(rng: &mut Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}

/// A generator of its own for another purpose, so that the two do not disturb one another.
pub fn fork(rng: &mut Rng) -> Rng {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    Rng::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_bound_with_a_fifth_of_jitter() {
        let backoff = Backoff::from_millis(50, 1000);
        let mut rng = Rng::seed_from_u64(1);
        for (attempts, term) in [(0, 50), (1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (40, 1000)] {
            let (mut low, mut high) = (u64::MAX, 0);
            for _ in 0..500 {
                let waited = backoff.after(attempts, &mut rng).0;
                (low, high) = (low.min(waited), high.max(waited));
            }
            assert!(low >= term * 800_000 && low < term * 830_000, "{attempts}: {low}");
            let bound = (term * 1_200_000).min(1_000_000_000);
            assert!(high <= bound && high > bound / 100 * 97, "{attempts}: {high}");
        }
    }

    #[test]
    fn a_fixed_backoff_has_no_jitter() {
        let mut rng = Rng::seed_from_u64(1);
        assert_eq!(Backoff::from_millis(100, 100).after(3, &mut rng), Nanos::from_millis(100));
    }
}

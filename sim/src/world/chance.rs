//! Independent streams of chance.
//!
//! Each purpose (a link's latency, a disk's write-back, a node's timers) draws from a ChaCha stream of its own, derived
//! from the run's seed and the purpose's name. So taking one fault out of a scenario leaves every other draw as it was.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wire::drive::Nanos;

use super::time::Between;

/// The 32-byte seed of the stream for one purpose, such as `node/broker-1/2` or `link/broker-1/lab/latency`.
pub fn derive_seed(seed: u64, purpose: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("highwater 2026 independent streams of chance");
    hasher.update(&seed.to_le_bytes());
    hasher.update(purpose.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The stream for one purpose.
pub fn derive(seed: u64, purpose: &str) -> Chance {
    Chance(ChaCha8Rng::from_seed(derive_seed(seed, purpose)))
}

/// One stream of chance.
#[derive(Clone, Debug)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// The stream of a process, from the seed of its incarnation.
    pub fn from_seed(seed: [u8; 32]) -> Chance {
        Chance(ChaCha8Rng::from_seed(seed))
    }

    /// A number in `0..bound`. The bias is below 2⁻³² for bounds below 2³², and `bound` must not be zero.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing to choose from");
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A duration in the range, both ends included.
    #[inline]
    pub fn between(&mut self, range: Between) -> Nanos {
        let width = range.high.0 - range.low.0;
        if width == 0 {
            return range.low;
        }
        // Half a draw is enough for ranges up to four seconds.
        match u32::try_from(width) {
            Ok(width) => Nanos(range.low.0 + ((u64::from(self.0.next_u32()) * (u64::from(width) + 1)) >> 32)),
            Err(_) => Nanos(range.low.0 + self.below(width + 1)),
        }
    }

    /// True in `ppm` of a million cases.
    #[inline]
    pub fn share(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_independent_and_repeat() {
        let draws = |purpose: &str, seed| {
            let mut chance = derive(seed, purpose);
            (0..8).map(|_| chance.below(1 << 40)).collect::<Vec<_>>()
        };
        assert_eq!(draws("link/a/b", 7), draws("link/a/b", 7));
        assert_ne!(draws("link/a/b", 7), draws("link/b/a", 7));
        assert_ne!(draws("link/a/b", 7), draws("link/a/b", 8));
    }

    #[test]
    fn ranges_include_both_ends() {
        let mut chance = derive(1, "test");
        let range = Between { low: Nanos(3), high: Nanos(5) };
        let mut seen = [0; 3];
        for _ in 0..300 {
            seen[(chance.between(range).0 - 3) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| n > 50), "{seen:?}");
        assert_eq!(chance.between(Between::exactly(Nanos(9))), Nanos(9));
    }
}

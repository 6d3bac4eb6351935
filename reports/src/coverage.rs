//! How much of what can happen did: which kinds of domain events a run had, and how many states its cluster was in.
//!
//! States are counted by a HyperLogLog sketch (Flajolet et al., 2007) of 4,096 registers: so many runs as one likes are
//! folded into 4 KiB, in any order and any grouping, and the count is within 2 % or so. A few are counted exactly but
//! for the rare two that share a register.

use std::collections::BTreeSet;

/// Bits of a hash that choose a register.
const BITS: u32 = 12;
const REGISTERS: usize = 1 << BITS;
/// Six bits a digit.
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/// What a run reached.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Coverage {
    /// The names of the domain events, of nodes and clients.
    pub events: BTreeSet<&'static str>,
    /// The states that the cluster was in.
    pub states: Sketch,
    /// Those of the scenario's `sometimes` that were not reached.
    pub sometimes_missed: Vec<String>,
}

/// A set of hashes that forgets them and knows about how many there were.
#[derive(Clone, PartialEq, Eq)]
pub struct Sketch {
    ranks: Box<[u8; REGISTERS]>,
}

impl Default for Sketch {
    fn default() -> Sketch {
        Sketch { ranks: Box::new([0; REGISTERS]) }
    }
}

impl std::fmt::Debug for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sketch(about {})", self.count())
    }
}

impl Sketch {
    /// Adds a hash, all bits of which are equally good.
    pub fn add(&mut self, hash: u64) {
        let register = (hash >> (64 - BITS)) as usize;
        let rank = ((hash << BITS) | (1 << (BITS - 1))).leading_zeros() as u8 + 1;
        self.ranks[register] = self.ranks[register].max(rank);
    }

    /// Adds all that another one has seen.
    pub fn merge(&mut self, other: &Sketch) {
        for (rank, theirs) in self.ranks.iter_mut().zip(other.ranks.iter()) {
            *rank = (*rank).max(*theirs);
        }
    }

    /// About how many different hashes were added.
    pub fn count(&self) -> u64 {
        let m = REGISTERS as f64;
        let empty = self.ranks.iter().filter(|rank| **rank == 0).count() as f64;
        let harmonic: f64 = self.ranks.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / harmonic;
        // Few states leave registers empty, and the share of those says it better.
        if raw <= 2.5 * m && empty > 0.0 { (m * (m / empty).ln()).round() as u64 } else { raw.round() as u64 }
    }

    /// The registers that are not empty, three digits each: two say which, one what is in it.
    pub fn to_text(&self) -> String {
        let digit = |n: usize| char::from(DIGITS[n & 63]);
        let full = self.ranks.iter().enumerate().filter(|(_, rank)| **rank > 0);
        full.flat_map(|(at, rank)| [digit(at >> 6), digit(at), digit(usize::from(*rank))]).collect()
    }

    /// Reads what [`Sketch::to_text`] wrote.
    pub fn parse(text: &str) -> Option<Sketch> {
        let value = |digit: u8| DIGITS.iter().position(|d| *d == digit);
        let mut sketch = Sketch::default();
        let (groups, rest) = text.as_bytes().as_chunks::<3>();
        for [high, low, rank] in groups {
            let rank = value(*rank).filter(|rank| (1..=65 - BITS as usize).contains(rank))?;
            sketch.ranks[value(*high)? << 6 | value(*low)?] = rank as u8;
        }
        rest.is_empty().then_some(sketch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes that are as good as drawn (SplitMix64).
    fn hash(n: u64) -> u64 {
        let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of(range: std::ops::Range<u64>) -> Sketch {
        let mut sketch = Sketch::default();
        range.for_each(|n| sketch.add(hash(n)));
        sketch
    }

    #[test]
    fn the_count_is_near() {
        for n in [0, 1, 5, 50, 1_000, 20_000, 300_000] {
            let count = of(0..n).count() as f64;
            assert!((count - n as f64).abs() <= 1.0 + n as f64 * 0.05, "{n}: {count}");
        }
    }

    #[test]
    fn parts_merge_to_the_whole_and_texts_read_back() {
        let whole = of(0..5_000);
        let mut parts = of(3_000..5_000);
        parts.merge(&of(0..3_500));
        assert_eq!(parts, whole);
        assert_eq!(Sketch::parse(&whole.to_text()), Some(whole));
        assert_eq!(Sketch::parse(""), Some(Sketch::default()));
        for damaged in ["0", "00", "00~", "000", "00z"] {
            assert_eq!(Sketch::parse(damaged), None, "{damaged}");
        }
    }
}

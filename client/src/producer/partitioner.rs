//! Which partition a record goes to (`Utils.murmur2`, `BuiltInPartitioner.java`, KIP-480, KIP-794).
//!
//! A record with a key goes where the key's hash says, whether that partition has a leader or not. Records without a
//! key stick to one partition until about `batch.size` bytes were produced to it, and then move on: uniformly, or,
//! when queues have grown uneven, rather to where the queue is short.

use alloc::vec::Vec;

use crate::Rng;
use crate::backoff::below;

/// 32-bit murmur2 as Kafka has it, of a key's bytes.
pub fn murmur2(bytes: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut h = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (i, &byte) in tail.iter().enumerate() {
            h ^= (byte as u32) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ (h >> 15)) as i32
}

/// The partition of a key among so many, of which there is at least one.
pub fn partition_for_key(key: &[u8], partitions: usize) -> i32 {
    (murmur2(key) & 0x7fff_ffff) % partitions as i32
}

/// What the partitioner needs to know of a partition when it moves on.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The partition.
    pub partition: i32,
    /// Whether it has a leader.
    pub has_leader: bool,
    /// Batches that wait to be sent.
    pub queue: u32,
    /// Whether its leader's broker has not taken anything for `partitioner.availability.timeout.ms`.
    pub stuck: bool,
}

/// The partition that keyless records of a topic stick to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sticky {
    current: Option<i32>,
    produced: usize,
}

impl Sticky {
    /// The partition, chosen first if there is none.
    pub fn current(&mut self, adaptive: bool, loads: impl Fn() -> Vec<Load>, rng: &mut Rng) -> i32 {
        match self.current {
            Some(partition) => partition,
            None => self.move_on(adaptive, loads, rng),
        }
    }

    /// Counts bytes, and moves on when there were enough: with `batch.size` if every batch of the partition is full
    /// (else a half-filled batch would be left behind), with twice that in any case. Whether it moved.
    pub fn produced(
        &mut self,
        bytes: usize,
        batch_size: usize,
        all_full: bool,
        adaptive: bool,
        loads: impl Fn() -> Vec<Load>,
        rng: &mut Rng,
    ) -> bool {
        self.produced += bytes;
        let moves = self.produced >= batch_size && all_full || self.produced >= batch_size.saturating_mul(2);
        if moves {
            self.move_on(adaptive, loads, rng);
        }
        moves
    }

    fn move_on(&mut self, adaptive: bool, loads: impl Fn() -> Vec<Load>, rng: &mut Rng) -> i32 {
        let partition = choose(&loads(), adaptive, rng);
        *self = Sticky { current: Some(partition), produced: 0 };
        partition
    }
}

/// The next partition of keyless records: uniform over those with a leader (over all if none has one), or weighted
/// by how much shorter than the longest their queues are.
fn choose(loads: &[Load], adaptive: bool, rng: &mut Rng) -> i32 {
    assert!(!loads.is_empty(), "a topic has a partition");
    let led: Vec<Load> = loads.iter().copied().filter(|load| load.has_leader).collect();
    let open: Vec<Load> = led.iter().copied().filter(|load| !load.stuck).collect();
    let even = open.windows(2).all(|pair| pair[0].queue == pair[1].queue) && open.len() == led.len();
    if !adaptive || loads.len() < 2 || open.is_empty() || even {
        let among = if led.is_empty() { loads } else { &led };
        return among[below(rng, among.len() as u64) as usize].partition;
    }
    let longest = open.iter().map(|load| load.queue as u64).max().unwrap_or(0);
    let total: u64 = open.iter().map(|load| longest + 1 - load.queue as u64).sum();
    let mut drawn = below(rng, total);
    for load in &open {
        let weight = longest + 1 - load.queue as u64;
        if drawn < weight {
            return load.partition;
        }
        drawn -= weight;
    }
    unreachable!("the weights add up to the bound")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use rand_core::SeedableRng as _;

    #[test]
    fn murmur2_is_kafkas() {
        // From Kafka's UtilsTest, and computed with it.
        let vectors: &[(&[u8], i32)] = &[
            (b"21", -973932308),
            (b"foobar", -790332482),
            (b"a-little-bit-long-string", -985981536),
            (b"a-little-bit-longer-string", -1486304829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            (b"abc", 479470107),
            (b"", 275646681),
            (b"k1", 1684045097),
            (b"k2", 380483553),
            (b"k3", 1676809936),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key), *hash, "{key:?}");
        }
        assert_eq!([b"k1", b"k2", b"k3"].map(|key| partition_for_key(key, 3)), [2, 0, 1]);
        assert_eq!(partition_for_key(b"21", 1), 0);
    }

    fn loads(queues: &[(bool, u32)]) -> Vec<Load> {
        let load = |(i, &(has_leader, queue)): (usize, &(bool, u32))| Load {
            partition: i as i32,
            has_leader,
            queue,
            stuck: false,
        };
        queues.iter().enumerate().map(load).collect()
    }

    fn shares(loads: &[Load], adaptive: bool) -> Vec<usize> {
        let mut rng = Rng::seed_from_u64(7);
        let mut counts = vec![0; loads.len()];
        for _ in 0..8000 {
            counts[choose(loads, adaptive, &mut rng) as usize] += 1;
        }
        counts
    }

    #[test]
    fn keyless_records_avoid_partitions_without_leader_and_long_queues() {
        let close = |count: usize, share: usize| count.abs_diff(share) < 250;
        let counts = shares(&loads(&[(true, 0), (false, 0), (true, 0)]), true);
        assert!(counts[1] == 0 && close(counts[0], 4000), "{counts:?}");
        // KIP-794's own example: queues 0, 3, 1 have the weights 4, 1, 3.
        let uneven = loads(&[(true, 0), (true, 3), (true, 1)]);
        let counts = shares(&uneven, true);
        assert!(close(counts[0], 4000) && close(counts[1], 1000) && close(counts[2], 3000), "{counts:?}");
        let counts = shares(&uneven, false);
        assert!(counts.iter().all(|&count| close(count, 2667)), "{counts:?}");
        let counts = shares(&loads(&[(false, 0), (false, 0)]), true);
        assert!(close(counts[0], 4000), "{counts:?}");
    }

    #[test]
    fn sticks_for_a_batch_and_at_most_two() {
        let mut rng = Rng::seed_from_u64(3);
        let partitions = || loads(&[(true, 0), (true, 0)]);
        let mut sticky = Sticky::default();
        sticky.current(true, partitions, &mut rng);
        assert!(!sticky.produced(99, 100, true, true, partitions, &mut rng));
        assert!(!sticky.produced(50, 100, false, true, partitions, &mut rng), "a batch is open");
        assert!(sticky.produced(0, 100, true, true, partitions, &mut rng), "all batches are full");
        assert!(!sticky.produced(199, 100, false, true, partitions, &mut rng));
        assert!(sticky.produced(1, 100, false, true, partitions, &mut rng), "twice the size");
    }
}

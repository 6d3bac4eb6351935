//! What a partition knows of its producers: Kafka's `ProducerStateManager`.
//!
//! For each producer id its epoch, the sequence ranges of its last five batches, and where they lie. A batch that comes
//! again is answered with its first offset and not appended; a gap in the sequence is refused (KIP-98, KIP-360). The
//! state is a function of the log: after a restart or a truncation it is read from the nearest snapshot and the batches
//! behind it. A snapshot keeps only the last batch of each producer, so older duplicates are unknown after a restart.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use bytes::{BufMut, Bytes, BytesMut};
use wire::Codecs;
use wire::batch::{BatchHeader, increment_sequence};

/// So many batches of a producer are remembered: the most that a client may have in flight.
const REMEMBERED: usize = 5;
const NO_SEQUENCE: i32 = -1;
const NO_EPOCH: i16 = -1;
const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_HEAD: usize = 10;
const SNAPSHOT_ENTRY: usize = 46;

/// What a batch of a producer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProducerBatch {
    pub id: i64,
    pub epoch: i16,
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub timestamp: i64,
    pub transactional: bool,
    pub control: bool,
}

impl ProducerBatch {
    /// Of a batch that carries a producer id.
    pub fn of(header: &BatchHeader) -> Option<ProducerBatch> {
        header.has_producer_id().then(|| ProducerBatch {
            id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            timestamp: header.max_timestamp,
            transactional: header.is_transactional(),
            control: header.is_control(),
        })
    }
}

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Appended {
    first_sequence: i32,
    last_sequence: i32,
    first_offset: i64,
    last_offset: i64,
    timestamp: i64,
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    coordinator_epoch: i32,
    batches: VecDeque<Appended>,
    last_timestamp: i64,
    transaction_first_offset: Option<i64>,
}

/// A batch that lies in the log already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub first_offset: i64,
    pub last_offset: i64,
    pub timestamp: i64,
}

/// Why a producer's batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A producer with a later epoch has taken over.
    StaleEpoch { known: i16 },
    /// The sequence does not continue.
    OutOfOrder { last: i32 },
    /// The first batch of a new epoch does not begin at 0.
    NewEpochNotAtZero { known: i16 },
}

/// The producers of one log.
#[derive(Clone, Debug, Default)]
pub(super) struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// The state covers everything below.
    pub covered: i64,
    /// The offset of the latest snapshot.
    pub last_snapshot: Option<i64>,
}

impl Producers {
    /// Whether a client's batch is new (`None`), was appended before, or must be refused.
    pub fn check(&self, batch: &ProducerBatch) -> Result<Option<Duplicate>, Refused> {
        let Some(known) = self.by_id.get(&batch.id) else { return Ok(None) };
        if known.epoch == batch.epoch
            && let Some(same) = known
                .batches
                .iter()
                .find(|b| b.first_sequence == batch.first_sequence && b.last_sequence == batch.last_sequence)
        {
            return Ok(Some(Duplicate {
                first_offset: same.first_offset,
                last_offset: same.last_offset,
                timestamp: same.timestamp,
            }));
        }
        if batch.epoch < known.epoch {
            return Err(Refused::StaleEpoch { known: known.epoch });
        }
        if batch.epoch > known.epoch {
            let fresh = batch.first_sequence == 0 || known.epoch == NO_EPOCH;
            return if fresh { Ok(None) } else { Err(Refused::NewEpochNotAtZero { known: known.epoch }) };
        }
        let last = known.batches.back().map_or(NO_SEQUENCE, |b| b.last_sequence);
        let follows = batch.first_sequence == increment_sequence(last, 1)
            || last == NO_SEQUENCE && batch.first_sequence == 0;
        if follows { Ok(None) } else { Err(Refused::OutOfOrder { last }) }
    }

    /// Learns a batch that was appended, by whomever.
    pub fn appended(&mut self, batch: &ProducerBatch, first_offset: i64, last_offset: i64) {
        let producer = self.by_id.entry(batch.id).or_insert_with(|| Producer {
            epoch: batch.epoch,
            coordinator_epoch: -1,
            batches: VecDeque::new(),
            last_timestamp: batch.timestamp,
            transaction_first_offset: None,
        });
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = batch.timestamp;
        if batch.control {
            // A marker ends the transaction; it has no sequence of its own.
            producer.transaction_first_offset = None;
            return;
        }
        if batch.transactional && producer.transaction_first_offset.is_none() {
            producer.transaction_first_offset = Some(first_offset);
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Appended {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            first_offset,
            last_offset,
            timestamp: batch.timestamp,
        });
    }

    /// Forgets producers that were silent for so long (`producer.id.expiration.ms`), unless a transaction is open.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.by_id.retain(|_, p| {
            p.transaction_first_offset.is_some() || now_ms.saturating_sub(p.last_timestamp) < expiration_ms
        });
    }

    /// Forgets everything, as before the offset `start`.
    pub fn clear(&mut self, start: i64) {
        self.by_id.clear();
        self.covered = start;
        self.last_snapshot = None;
    }

    /// The bytes of a `.snapshot` file.
    pub fn snapshot(&self, codecs: &dyn Codecs) -> Bytes {
        let mut entries = BytesMut::with_capacity(SNAPSHOT_ENTRY * self.by_id.len() + 4);
        entries.put_i32(self.by_id.len() as i32);
        for (id, producer) in &self.by_id {
            let last = producer.batches.back();
            entries.put_i64(*id);
            entries.put_i16(producer.epoch);
            entries.put_i32(last.map_or(NO_SEQUENCE, |b| b.last_sequence));
            entries.put_i64(last.map_or(-1, |b| b.last_offset));
            entries.put_i32(last.map_or(0, |b| (b.last_offset - b.first_offset) as i32));
            entries.put_i64(producer.last_timestamp);
            entries.put_i32(producer.coordinator_epoch);
            entries.put_i64(producer.transaction_first_offset.unwrap_or(-1));
        }
        let mut all = BytesMut::with_capacity(6 + entries.len());
        all.put_i16(SNAPSHOT_VERSION);
        all.put_u32(codecs.crc32c(0, &entries));
        all.extend_from_slice(&entries);
        all.freeze()
    }

    /// Reads a `.snapshot` file that covers everything below `covered`; `None` if it is damaged.
    pub fn restore(bytes: &[u8], covered: i64, codecs: &dyn Codecs) -> Option<Producers> {
        let (head, entries) = bytes.split_at_checked(SNAPSHOT_HEAD)?;
        let number = |at: usize, len: usize, from: &[u8]| {
            from[at..at + len].iter().fold(0u64, |n, b| n << 8 | u64::from(*b))
        };
        let count = number(6, 4, head) as usize;
        if number(0, 2, head) != SNAPSHOT_VERSION as u64
            || number(2, 4, head) != u64::from(codecs.crc32c(0, &bytes[6..]))
            || entries.len() != count.checked_mul(SNAPSHOT_ENTRY)?
        {
            return None;
        }
        let mut producers = Producers { covered, last_snapshot: Some(covered), ..Producers::default() };
        for entry in entries.chunks_exact(SNAPSHOT_ENTRY) {
            let (last_sequence, last_offset) = (number(10, 4, entry) as i32, number(14, 8, entry) as i64);
            let (delta, timestamp) = (number(22, 4, entry) as i32, number(26, 8, entry) as i64);
            let transaction = number(38, 8, entry) as i64;
            let batches = (last_offset >= 0 && last_sequence >= 0).then(|| Appended {
                first_sequence: wire::batch::decrement_sequence(last_sequence, delta),
                last_sequence,
                first_offset: last_offset - i64::from(delta),
                last_offset,
                timestamp,
            });
            producers.by_id.insert(
                number(0, 8, entry) as i64,
                Producer {
                    epoch: number(8, 2, entry) as i16,
                    coordinator_epoch: number(34, 4, entry) as i32,
                    batches: batches.into_iter().collect(),
                    last_timestamp: timestamp,
                    transaction_first_offset: (transaction >= 0).then_some(transaction),
                },
            );
        }
        Some(producers)
    }

    /// The ids that are known, with the last sequence of each.
    #[cfg(test)]
    pub fn ids(&self) -> Vec<(i64, i16, i32)> {
        let last = |p: &Producer| p.batches.back().map_or(NO_SEQUENCE, |b| b.last_sequence);
        self.by_id.iter().map(|(id, p)| (*id, p.epoch, last(p))).collect()
    }
}

/// The offset in a snapshot file's name.
pub(super) fn snapshot_offset(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".snapshot")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// The offsets of the snapshots among a directory's names, latest first.
pub(super) fn snapshot_offsets(names: &[alloc::string::String]) -> Vec<i64> {
    let mut offsets: Vec<i64> = names.iter().filter_map(|name| snapshot_offset(name)).collect();
    offsets.sort_unstable_by(|a, b| b.cmp(a));
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::StdCodecs;

    fn batch(epoch: i16, first: i32, last: i32) -> ProducerBatch {
        ProducerBatch {
            id: 7,
            epoch,
            first_sequence: first,
            last_sequence: last,
            timestamp: 1000,
            transactional: false,
            control: false,
        }
    }

    /// Appends batches of one record each, sequence = offset.
    fn after(epoch: i16, sequences: core::ops::RangeInclusive<i32>) -> Producers {
        let mut producers = Producers::default();
        for s in sequences {
            producers.appended(&batch(epoch, s, s), i64::from(s), i64::from(s));
        }
        producers
    }

    #[test]
    fn kafkas_rules_for_sequences() {
        let known = after(3, 0..=9);
        let duplicate = |n: i64| Ok(Some(Duplicate { first_offset: n, last_offset: n, timestamp: 1000 }));
        for (what, epoch, first, want) in [
            ("the next", 3, 10, Ok(None)),
            ("the last again", 3, 9, duplicate(9)),
            ("the fifth last again", 3, 5, duplicate(5)),
            ("older than five", 3, 4, Err(Refused::OutOfOrder { last: 9 })),
            ("a gap", 3, 11, Err(Refused::OutOfOrder { last: 9 })),
            ("a new epoch at 0", 4, 0, Ok(None)),
            ("a new epoch elsewhere", 4, 1, Err(Refused::NewEpochNotAtZero { known: 3 })),
            ("an old epoch", 2, 10, Err(Refused::StaleEpoch { known: 3 })),
            ("an old epoch with a known sequence", 2, 9, Err(Refused::StaleEpoch { known: 3 })),
        ] {
            assert_eq!(known.check(&batch(epoch, first, first)), want, "{what}");
        }
        assert_eq!(Producers::default().check(&batch(3, 42, 42)), Ok(None), "no state accepts any (KIP-360)");
        let mut wrapped = Producers::default();
        wrapped.appended(&batch(0, i32::MAX - 1, i32::MAX), 0, 1);
        assert_eq!(wrapped.check(&batch(0, 0, 4)), Ok(None), "sequences wrap to 0");
    }

    #[test]
    fn producers_expire_but_not_inside_a_transaction() {
        let mut producers = after(0, 0..=3);
        producers.appended(&ProducerBatch { id: 8, transactional: true, ..batch(0, 0, 0) }, 4, 4);
        producers.expire(1000 + 86_400_000, 86_400_000);
        assert_eq!(producers.ids(), [(8, 0, 0)]);
        producers.appended(&ProducerBatch { id: 8, control: true, ..batch(0, -1, -1) }, 5, 5);
        producers.expire(1000 + 86_400_000, 86_400_000);
        assert_eq!(producers.ids(), []);
    }

    #[test]
    fn snapshots_are_kafkas_bytes() {
        let mut producers = Producers::default();
        let last = ProducerBatch { id: 1000, timestamp: 1_700_000_000_005, ..batch(0, 0, 1) };
        producers.appended(&last, 7, 8);
        let bytes = producers.snapshot(&StdCodecs);
        let hex: alloc::string::String = bytes.iter().map(|b| alloc::format!("{b:02x}")).collect();
        let golden = "000155d5deb10000000100000000000003e80000000000010000000000000008000000010000018bcfe56805ffffffffffffffffffffffff";
        assert_eq!(hex, golden);
        let restored = Producers::restore(&bytes, 9, &StdCodecs).unwrap();
        assert_eq!(restored.by_id, producers.by_id);
        for i in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[i] ^= 4;
            assert!(Producers::restore(&damaged, 9, &StdCodecs).is_none(), "byte {i}");
            assert!(Producers::restore(&bytes[..i], 9, &StdCodecs).is_none(), "cut at {i}");
        }
    }
}

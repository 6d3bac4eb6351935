//! The sequence numbers of one partition (`TxnPartitionEntry.java`).
//!
//! A producer numbers the records that it sends to a partition, from 0 on for each producer id and epoch; the leader
//! appends only what continues the numbers, and recognises what it has already. A batch gets its number when it is
//! drained first, and keeps it over all attempts.

use wire::batch::{decrement_sequence, increment_sequence};

use super::batch::{ProducerBatch, Stamp};

/// Whom brokers take a producer for: its id, and how often it began to number anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub id: i64,
    pub epoch: i16,
}

/// Half of the numbers: what lies further ahead lies behind.
const HALF: i32 = 1 << 30;

/// Where a partition's numbers stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequences {
    /// Under which they count; none before the first batch.
    pub identity: Option<Identity>,
    next: i32,
    /// How many batches were numbered.
    batches: u64,
    last_acked: Option<i32>,
    /// A batch was given up: whether its records are in the log, and so which number the leader wants next, shows in what
    /// becomes of the batches behind it.
    pub unresolved: bool,
}

impl Sequences {
    /// Counts from 0 under another identity.
    pub fn begin(&mut self, identity: Identity) {
        *self = Sequences { identity: Some(identity), ..Sequences::default() };
    }

    /// Gives a batch the next numbers.
    pub fn number(&mut self, batch: &mut ProducerBatch) {
        let identity = self.identity.expect("a partition's sequences begin with an identity");
        batch.stamp =
            Stamp { producer_id: identity.id, producer_epoch: identity.epoch, base_sequence: self.next };
        batch.ordinal = self.batches;
        self.next = increment_sequence(self.next, batch.count() as i32);
        self.batches += 1;
    }

    /// How many batches were numbered from this one on.
    pub fn batches_since(&self, batch: &ProducerBatch) -> u64 {
        self.batches - batch.ordinal
    }

    /// How many numbers ago a batch began: more for an earlier one. In-flight batches are ordered by it, since numbers
    /// start anew at 2^31.
    pub fn age(&self, batch: &ProducerBatch) -> i32 {
        decrement_sequence(self.next, batch.stamp.base_sequence)
    }

    /// A batch is in the log.
    pub fn acked(&mut self, batch: &ProducerBatch) {
        let last = batch.last_sequence();
        let ahead = |known: i32| (1..HALF).contains(&decrement_sequence(last, known));
        if self.last_acked.is_none_or(ahead) {
            self.last_acked = Some(last);
        }
    }

    /// Whether no record was acknowledged under this identity.
    pub fn none_acked(&self) -> bool {
        self.last_acked.is_none()
    }

    /// Whether the last record that was numbered was acknowledged.
    pub fn all_acked(&self) -> bool {
        self.next == self.last_acked.map_or(0, |last| increment_sequence(last, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::drive::Instant;

    fn batch(base_sequence: i32) -> ProducerBatch {
        let mut batch = ProducerBatch::new(0, Instant(0), 1000, 1000, 1);
        batch.stamp = Stamp { producer_id: 7, producer_epoch: 0, base_sequence };
        let record = super::super::NewRecord {
            partition: None,
            timestamp: 0,
            key: None,
            value: None,
            headers: &[],
            made: crate::event::Made { number: 0, at: Instant(0) },
        };
        let codec = super::super::batch::Codec {
            compression: wire::Compression::None,
            level: None,
            transactional: false,
        };
        for _ in 0..2 {
            batch.try_append(codec, super::super::batch::Ratio::START, &record);
        }
        batch
    }

    #[test]
    fn numbers_wrap_and_keep_their_order() {
        let mut sequences = Sequences::default();
        sequences.begin(Identity { id: 7, epoch: 3 });
        assert!(sequences.all_acked(), "nothing was sent");
        sequences.next = i32::MAX - 2;
        sequences.acked(&batch(i32::MAX - 4));
        let mut number = || {
            let mut batch = batch(0);
            sequences.number(&mut batch);
            batch.stamp.base_sequence
        };
        let stamps = [number(), number(), number()];
        assert_eq!(stamps, [i32::MAX - 2, i32::MAX, 1]);
        let ages = stamps.map(|base| sequences.age(&batch(base)));
        assert_eq!(ages, [6, 4, 2]);
        sequences.acked(&batch(i32::MAX));
        assert_eq!(sequences.last_acked, Some(0));
        sequences.acked(&batch(i32::MAX - 2));
        assert_eq!(sequences.last_acked, Some(0), "an earlier one moves nothing back");
        sequences.acked(&batch(1));
        assert!(sequences.all_acked());
    }
}

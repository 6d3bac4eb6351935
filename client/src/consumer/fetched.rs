//! What one fetch brought of one partition, until it is consumed (`CompletedFetch.java`).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use wire::batch::{Batch, Batches, ControlRecordType, Record, Records};
use wire::messages::fetch_response::AbortedTransaction;
use wire::{Codecs, Rope};

use super::Key;
use crate::error::ClientError;
use crate::event::TopicPartition;

/// The most that a batch may become when it is decompressed. Kafka has no bound; a bomb must not end the process.
const MAX_DECOMPRESSED: usize = 256 << 20;

/// Fetched batches of a partition.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub key: Key,
    /// The offset at which the next record must be, or after which it must lie.
    pub next_offset: i64,
    /// The leader epoch of the last batch that was looked at.
    pub last_epoch: Option<i32>,
    rest: Rope,
    /// The batch being read, and how many of its records are.
    current: Option<(Records, usize)>,
    /// Transactions that were aborted, by first offset; absent when reading uncommitted.
    aborted: Option<Vec<AbortedTransaction>>,
    aborted_producers: BTreeSet<i64>,
}

/// Whether records of a batch are for the application.
enum Take {
    Records,
    Skip,
}

impl Fetched {
    pub fn new(key: Key, offset: i64, records: Rope, aborted: Option<Vec<AbortedTransaction>>) -> Fetched {
        let mut aborted = aborted;
        if let Some(aborted) = &mut aborted {
            // The next one is taken from the end.
            aborted.sort_by_key(|transaction| core::cmp::Reverse(transaction.first_offset));
        }
        Fetched {
            key,
            next_offset: offset,
            last_epoch: None,
            rest: records,
            current: None,
            aborted,
            aborted_producers: BTreeSet::new(),
        }
    }

    /// Hands at most `limit` records to `sink`, and says how many. Fewer than `limit`: all is consumed.
    pub fn take(
        &mut self,
        partition: &TopicPartition,
        limit: usize,
        check_crcs: bool,
        codecs: &dyn Codecs,
        sink: &mut dyn FnMut(&TopicPartition, &Record<'_>),
    ) -> Result<usize, ClientError> {
        let mut taken = 0;
        loop {
            if self.current.is_none() && !self.next_batch(partition, check_crcs, codecs)? {
                return Ok(taken);
            }
            let (records, read) = self.current.as_mut().expect("just made");
            let end_of_batch = records.header().next_offset();
            let mut iter = records.iter().skip(*read);
            let ended = loop {
                if taken == limit {
                    break false;
                }
                let Some(record) = iter.next() else { break true };
                let record = record.map_err(|error| corrupt(partition, &format!("{error}")))?;
                *read += 1;
                // Batches come whole: what lies before the position was consumed already.
                if record.offset >= self.next_offset {
                    sink(partition, &record);
                    self.next_offset = record.offset.saturating_add(1);
                    taken += 1;
                }
            };
            if !ended {
                return Ok(taken);
            }
            // Compaction keeps the last offset of a batch even if its record is gone.
            self.next_offset = self.next_offset.max(end_of_batch);
            self.current = None;
        }
    }

    /// Whether nothing is left.
    pub fn is_consumed(&self) -> bool {
        self.current.is_none() && self.rest.is_empty()
    }

    fn next_batch(
        &mut self,
        partition: &TopicPartition,
        check_crcs: bool,
        codecs: &dyn Codecs,
    ) -> Result<bool, ClientError> {
        loop {
            let mut batches = Batches::new(&self.rest);
            let Some(batch) = batches.next() else {
                // A batch that was cut off at the end is fetched again.
                self.rest = Rope::new();
                return Ok(false);
            };
            let batch = batch.map_err(|error| corrupt(partition, &format!("{error}")))?;
            let header = batch.header;
            let size = batch.bytes.len();
            self.rest.advance(size);
            self.last_epoch = (header.partition_leader_epoch >= 0).then_some(header.partition_leader_epoch);
            if check_crcs && batch.check_crc(codecs).is_err() {
                let base = header.base_offset;
                return Err(ClientError::kafka(format!(
                    "Record batch for partition {partition} at offset {base} is invalid, cause: Record is corrupt \
                     (stored crc = {}, computed crc does not match)",
                    header.crc
                )));
            }
            let records = || {
                batch
                    .records(codecs, MAX_DECOMPRESSED)
                    .map_err(|error| corrupt(partition, &format!("{error}")))
            };
            match self.judge(&batch, records)? {
                Take::Records => {
                    self.current = Some((records()?, 0));
                    return Ok(true);
                }
                Take::Skip => self.next_offset = self.next_offset.max(header.next_offset()),
            }
        }
    }

    /// Control batches are nobody's; with read_committed, neither are those of aborted transactions (KIP-98).
    fn judge(
        &mut self,
        batch: &Batch,
        records: impl Fn() -> Result<Records, ClientError>,
    ) -> Result<Take, ClientError> {
        let header = &batch.header;
        let control = header.attributes.is_control();
        if let Some(aborted) = self.aborted.as_mut().filter(|_| header.producer_id >= 0) {
            while aborted.last().is_some_and(|next| next.first_offset <= header.last_offset()) {
                let next = aborted.pop().expect("just seen");
                self.aborted_producers.insert(next.producer_id);
            }
            if control {
                let records = records()?;
                let kind =
                    records.iter().next().and_then(Result::ok).and_then(|record| record.key.map(kind_of));
                if kind == Some(ControlRecordType::Abort) {
                    self.aborted_producers.remove(&header.producer_id);
                }
            } else if header.attributes.is_transactional()
                && self.aborted_producers.contains(&header.producer_id)
            {
                return Ok(Take::Skip);
            }
        }
        Ok(if control { Take::Skip } else { Take::Records })
    }
}

fn kind_of(key: &[u8]) -> ControlRecordType {
    ControlRecordType::parse_key(key).unwrap_or(ControlRecordType::from_id(-1))
}

fn corrupt(partition: &TopicPartition, why: &str) -> ClientError {
    ClientError::kafka(format!(
        "Received exception when fetching the next record from {partition}. If needed, please seek past the record to \
         continue consumption. ({why})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::TopicIndex;
    use alloc::vec;
    use codecs::StdCodecs;
    use wire::batch::{BatchBuilder, BatchOptions, end_txn_marker_batch};

    fn batch(base_offset: i64, producer_id: i64, transactional: bool, values: &[&str]) -> Rope {
        let mut builder = BatchBuilder::new();
        for value in values {
            builder.append(0, None, Some(value.as_bytes()), &[]);
        }
        let options = BatchOptions {
            base_offset,
            producer_id,
            producer_epoch: 0,
            transactional,
            ..BatchOptions::default()
        };
        Rope::from(builder.finish(&StdCodecs, &options).unwrap())
    }

    fn read(records: &Rope, from: i64, aborted: Option<Vec<AbortedTransaction>>) -> (Vec<i64>, i64) {
        let mut fetched = Fetched::new((TopicIndex(0), 0), from, records.clone(), aborted);
        let partition = TopicPartition::new("t", 0);
        let mut offsets = Vec::new();
        fetched
            .take(&partition, 100, true, &StdCodecs, &mut |_, record| offsets.push(record.offset))
            .unwrap();
        assert!(fetched.is_consumed());
        (offsets, fetched.next_offset)
    }

    #[test]
    fn aborted_transactions_and_markers_are_left_out_when_reading_committed() {
        // Producer 1 aborts 0 and 1 at 3, producer 2 commits 2 and 4 at 5, producer 1 commits 6 at 7.
        let mut records = batch(0, 1, true, &["a", "b"]);
        records.append(batch(2, 2, true, &["c"]));
        records.append(marker(3, 1, false));
        records.append(batch(4, 2, true, &["d"]));
        records.append(marker(5, 2, true));
        records.append(batch(6, 1, true, &["e"]));
        records.append(marker(7, 1, true));
        let aborted = vec![AbortedTransaction { producer_id: 1, first_offset: 0 }];
        assert_eq!(read(&records, 0, Some(aborted)), (vec![2, 4, 6], 8));
        assert_eq!(read(&records, 0, None), (vec![0, 1, 2, 4, 6], 8));
    }

    fn marker(offset: i64, producer_id: i64, commit: bool) -> Rope {
        let options =
            BatchOptions { base_offset: offset, producer_id, producer_epoch: 0, ..BatchOptions::default() };
        Rope::from(end_txn_marker_batch(&StdCodecs, &options, 0, commit, 0).unwrap())
    }

    #[test]
    fn a_batch_that_is_cut_off_is_left_for_the_next_fetch() {
        let mut records = batch(0, -1, false, &["a", "b", "c"]);
        let second = batch(3, -1, false, &["d"]);
        records.append(second.slice(0, second.len() - 1));
        assert_eq!(read(&records, 1, None), (vec![1, 2], 3));
    }

    #[test]
    fn what_is_left_over_comes_with_the_next_poll() {
        let records = batch(0, -1, false, &["a", "b", "c"]);
        let mut fetched = Fetched::new((TopicIndex(0), 0), 0, records, None);
        let partition = TopicPartition::new("t", 0);
        let mut offsets = Vec::new();
        for expected in [2, 1] {
            let taken = fetched
                .take(&partition, 2, true, &StdCodecs, &mut |_, record| offsets.push(record.offset))
                .unwrap();
            assert_eq!(taken, expected);
        }
        assert_eq!((offsets, fetched.is_consumed()), (vec![0, 1, 2], true));
    }
}

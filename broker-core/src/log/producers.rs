//! The log's side of its producer state: snapshots at rolls and at the end, reading it back.

use alloc::vec::Vec;
use wire::{Codecs, Rope};

use super::producer::{ActiveProducer, CompletedTxn, Guard, ProducerBatch, Producers, snapshot_offsets};
use super::segment::{at, path};
use super::{Log, LogError, ReadError};
use crate::disk::Disk;
use wire::records::AbortedTxn;

impl Log {
    /// Forgets producers that were silent for `producer.id.expiration.ms`.
    pub fn expire_producers(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.expire(now_ms, expiration_ms);
    }

    /// Begins to verify a producer's transaction with its coordinator; `None` if it is open in this log already.
    pub fn start_verification(
        &mut self,
        now_ms: i64,
        producer_id: i64,
        producer_epoch: i16,
        first_sequence: i32,
        supports_epoch_bump: bool,
    ) -> Option<Guard> {
        self.producers.start_verification(
            now_ms,
            producer_id,
            producer_epoch,
            first_sequence,
            supports_epoch_bump,
        )
    }

    /// All producers that the log knows, by id.
    pub fn active_producers(&self) -> impl Iterator<Item = ActiveProducer> + '_ {
        self.producers.active()
    }

    /// Where the open transactions begin, ascending, with their producers' ids.
    pub fn open_transactions(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.producers.open_transactions()
    }

    /// Whether a transaction was aborted by a marker in the segment of this offset or behind it.
    pub fn has_aborted_transactions(&self, from: i64) -> bool {
        self.segments[self.segment_of(from)..].iter().any(|segment| !segment.txns.entries().is_empty())
    }

    /// The aborted transactions that a reader of what lies from `from` up to `up_to` must know.
    pub fn aborted_transactions(&self, from: i64, up_to: i64) -> Vec<AbortedTxn> {
        let mut found = Vec::new();
        for segment in &self.segments[self.segment_of(from)..] {
            if segment.txns.collect(from, up_to, &mut found) {
                break;
            }
        }
        found
    }

    /// Writes what is known of producers up to the log's end, unless the latest snapshot says it already.
    pub(super) fn take_producer_snapshot(&mut self, disk: &mut dyn Disk, codecs: &dyn Codecs) {
        let covered = self.producers.covered;
        if self.producers.last_snapshot.is_some_and(|last| last >= covered) || covered == 0 {
            return;
        }
        let ticket = disk.replace(&path(&self.dir, covered, "snapshot"), self.producers.snapshot(codecs));
        self.flusher.other(ticket);
        self.producers.last_snapshot = Some(covered);
    }

    /// The producer state as of the log's end: from the nearest snapshot below it, and the batches behind that.
    ///
    /// Where segments from `unindexed` on have lost their transaction index, it is written anew on the way.
    pub(super) fn reload_producers(
        &mut self,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        unindexed: Option<i64>,
    ) -> Result<(), LogError> {
        self.remove_snapshots_above(disk, self.next_offset)?;
        // A snapshot does not say which transactions were ended by markers that are not replicated: what lies above the
        // high watermark is read again. Kafka forgets them, and shows such a transaction's records as committed.
        let limit = unindexed.unwrap_or(i64::MAX).min(self.high_watermark);
        let restored = self.read_snapshot(disk, codecs, limit)?;
        let from = restored.covered;
        self.producers.take_over(restored);
        for i in 0..self.segments.len() {
            // A snapshot stands at a segment's base, or at the end of a log that was closed.
            let base = self.segments[i].base;
            if base < from && self.segments.iter().any(|s| s.base > base && s.base <= from) {
                continue;
            }
            let mut position = 0;
            loop {
                let learned = self.learn_producers(disk, i, position, from);
                match learned {
                    Ok(None) => break,
                    Ok(Some((next, completed))) => {
                        position = next;
                        // Most of them stand in the index already.
                        let last = self.segments[i].txns.entries().last().map_or(-1, |txn| txn.last_offset);
                        if let Some(completed) = completed.filter(|c| c.last_offset > last) {
                            let index_path = path(&self.dir, base, "txnindex");
                            self.index_aborted(disk, &completed).map_err(at(&index_path))?;
                        }
                    }
                    Err(ReadError::Disk(error)) => return Err(at(&path(&self.dir, base, "log"))(error)),
                    Err(_) => break,
                }
            }
        }
        self.producers.covered = self.next_offset;
        self.producers.replicated_up_to(self.high_watermark);
        Ok(())
    }

    /// Takes in the batches of a segment from `position` on, up to and with the first marker: where it ends, and the
    /// transaction that it ended. `None` at the segment's end.
    #[allow(clippy::type_complexity, reason = "two things that are found together")]
    fn learn_producers(
        &mut self,
        disk: &mut dyn Disk,
        segment: usize,
        position: u32,
        from: i64,
    ) -> Result<Option<(u32, Option<CompletedTxn>)>, ReadError> {
        let (segment, producers) = (&self.segments[segment], &mut self.producers);
        let marker = segment.scan(disk, position, |header| {
            if header.base_offset < from {
                return false;
            }
            match ProducerBatch::of(header) {
                None => false,
                Some(batch) if batch.control => true,
                Some(batch) => {
                    producers.appended(&batch, header.base_offset, header.last_offset());
                    false
                }
            }
        })?;
        let Some((at, header)) = marker else { return Ok(None) };
        let size = header.size_in_bytes();
        let mut bytes = Rope::new();
        disk.read(segment.log, u64::from(at), size, &mut bytes).map_err(ReadError::Disk)?;
        let batch = ProducerBatch::read(&header, &bytes).expect("it carries a producer id");
        let completed = self.producers.appended(&batch, header.base_offset, header.last_offset());
        Ok(Some((at + size as u32, completed)))
    }

    /// The latest snapshot at `limit` or below that is whole; those that are not are removed, as Kafka does.
    fn read_snapshot(
        &mut self,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        limit: i64,
    ) -> Result<Producers, LogError> {
        let names = disk.list(&self.dir).map_err(at(&self.dir))?;
        for offset in snapshot_offsets(&names).into_iter().filter(|offset| *offset <= limit) {
            let file = path(&self.dir, offset, "snapshot");
            let bytes = disk.read_file(&file).map_err(at(&file))?;
            if let Some(producers) = Producers::restore(&bytes, offset, codecs) {
                return Ok(producers);
            }
            super::remove_if_exists(disk, &file)?;
        }
        let mut none = Producers::default();
        none.clear(self.first_segment_base());
        Ok(none)
    }
}

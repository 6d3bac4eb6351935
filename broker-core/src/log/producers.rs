//! The log's side of its producer state: snapshots at rolls and at the end, reading it back.

use wire::Codecs;

use super::producer::{ProducerBatch, Producers, snapshot_offsets};
use super::segment::{at, path};
use super::{Log, LogError, ReadError};
use crate::disk::Disk;

impl Log {
    /// Forgets producers that were silent for `producer.id.expiration.ms`.
    pub fn expire_producers(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.expire(now_ms, expiration_ms);
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
    pub(super) fn reload_producers(
        &mut self,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
    ) -> Result<(), LogError> {
        self.remove_snapshots_above(disk, self.next_offset)?;
        self.producers = self.read_snapshot(disk, codecs)?;
        let from = self.producers.covered;
        for segment in &self.segments {
            // A snapshot stands at a segment's base, or at the end of a log that was closed.
            if segment.base < from && self.segments.iter().any(|s| s.base > segment.base && s.base <= from) {
                continue;
            }
            let producers = &mut self.producers;
            let scanned = segment.scan(disk, 0, |header| {
                if let Some(batch) = ProducerBatch::of(header)
                    && header.base_offset >= from
                {
                    producers.appended(&batch, header.base_offset, header.last_offset());
                }
                false
            });
            if let Err(ReadError::Disk(error)) = scanned {
                return Err(at(&path(&self.dir, segment.base, "log"))(error));
            }
        }
        self.producers.covered = self.next_offset;
        Ok(())
    }

    /// The latest snapshot that is whole; those that are not are removed, as Kafka does.
    fn read_snapshot(&mut self, disk: &mut dyn Disk, codecs: &dyn Codecs) -> Result<Producers, LogError> {
        let names = disk.list(&self.dir).map_err(at(&self.dir))?;
        for offset in snapshot_offsets(&names) {
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

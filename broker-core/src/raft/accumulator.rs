//! The leader's appends on their way to the log (`BatchAccumulator`).
//!
//! Offsets are given out at once; the records of several appends share a batch until it is full or the linger time
//! since the first of them has passed. An append is never torn: its records are in one batch, which is committed as a
//! whole or not at all.

use alloc::vec::Vec;
use bytes::Bytes;
use wire::Codecs;
use wire::batch::{BatchBuilder, BatchOptions, HEADER_LEN};
use wire::drive::{Instant, Nanos, Now};
use wire::records::MetadataRecord;

use super::log::MAX_BATCH_BYTES;
use super::records::encode_record;

/// A batch that is ready for the log.
#[derive(Clone, Debug)]
pub(super) struct CompletedBatch {
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) append_time: i64,
    pub(super) bytes: Bytes,
    pub(super) records: Vec<MetadataRecord>,
}

#[derive(Clone, Debug)]
struct OpenBatch {
    base_offset: i64,
    append_time: i64,
    builder: BatchBuilder,
    records: Vec<MetadataRecord>,
}

/// The records of one append exceed what a batch can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) size: usize,
}

/// Batches being filled and batches waiting for the log.
#[derive(Clone, Debug)]
pub(super) struct Accumulator {
    epoch: i32,
    next_offset: i64,
    open: Option<OpenBatch>,
    completed: Vec<CompletedBatch>,
    drain_at: Option<Instant>,
}

impl Accumulator {
    pub(super) fn new(epoch: i32, next_offset: i64) -> Accumulator {
        Accumulator { epoch, next_offset, open: None, completed: Vec::new(), drain_at: None }
    }

    /// Where the next record will stand.
    pub(super) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// When [`Accumulator::drain`] is due.
    pub(super) fn drain_at(&self) -> Option<Instant> {
        self.drain_at
    }

    /// A control batch stands in the log, up to `next_offset`.
    pub(super) fn control_appended(&mut self, next_offset: i64) {
        assert!(self.open.is_none() && self.completed.is_empty(), "records stand before a control batch");
        self.next_offset = next_offset;
    }

    /// Takes the records of one append. Returns the offset of the first.
    pub(super) fn append(
        &mut self,
        records: &[MetadataRecord],
        metadata_version: i16,
        linger: Nanos,
        now: Now,
        codecs: &dyn Codecs,
    ) -> Result<i64, TooLarge> {
        assert!(!records.is_empty(), "an append without records");
        let values: Vec<Vec<u8>> =
            records.iter().map(|record| encode_record(record, metadata_version)).collect();
        let size: usize = values
            .iter()
            .map(|value| BatchBuilder::size_upper_bound(None, Some(value), &[]) - HEADER_LEN)
            .sum();
        if HEADER_LEN + size > MAX_BATCH_BYTES {
            return Err(TooLarge { size });
        }
        if self.open.as_ref().is_some_and(|open| open.builder.len() + size > MAX_BATCH_BYTES) {
            self.complete(codecs);
        }
        let base_offset = self.next_offset;
        let open = self.open.get_or_insert_with(|| OpenBatch {
            base_offset,
            append_time: now.wall_ms,
            builder: BatchBuilder::with_capacity(256),
            records: Vec::new(),
        });
        for value in &values {
            open.builder.append(open.append_time, None, Some(value), &[]);
        }
        open.records.extend_from_slice(records);
        self.next_offset += records.len() as i64;
        self.drain_at.get_or_insert(now.mono + linger);
        Ok(base_offset)
    }

    /// All batches, in order.
    pub(super) fn drain(&mut self, codecs: &dyn Codecs) -> Vec<CompletedBatch> {
        self.complete(codecs);
        self.drain_at = None;
        core::mem::take(&mut self.completed)
    }

    fn complete(&mut self, codecs: &dyn Codecs) {
        let Some(open) = self.open.take() else { return };
        let options = BatchOptions {
            base_offset: open.base_offset,
            leader_epoch: self.epoch,
            ..BatchOptions::default()
        };
        let last_offset = open.base_offset + i64::from(open.builder.count()) - 1;
        let bytes = open.builder.finish(codecs, &options).expect("an uncompressed batch below the limit");
        self.completed.push(CompletedBatch {
            base_offset: open.base_offset,
            last_offset,
            append_time: open.append_time,
            bytes,
            records: open.records,
        });
    }
}

//! Copying what stays of a group of segments, and putting it in their place.

use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;
use smallvec::SmallVec;
use wire::batch::{
    Attributes, Batch, BatchBuilder, BatchError, BatchHeader, BatchOptions, CRC_FROM, HEADER_LEN,
    LOG_OVERHEAD, NO_TIMESTAMP, Record, TimestampType,
};
use wire::drive::Now;
use wire::{Codecs, Compression};

use super::super::batch::BatchMeta;
use super::super::segment::{Segment, at, path};
use super::super::txn_index::TxnIndex;
use super::super::{Log, LogError, remove_if_exists};
use super::{Cleaned, Cleaning, CleaningStep, DECOMPRESSED_LIMIT, Stage, read_batches};
use crate::disk::{Disk, DiskError};
use crate::mutant::Mutant;

/// A group of segments that is becoming one.
#[derive(Clone, Debug)]
pub(super) struct Copying {
    /// Their base offsets, ascending.
    group: Vec<i64>,
    /// Which of them is read, from where on.
    at: usize,
    position: u32,
    /// The new one.
    pub segment: Segment,
}

/// The files of a segment that the cleaner writes.
const WRITTEN: [&str; 4] = ["txnindex", "timeindex", "index", "log"];

impl Log {
    /// Makes the files for the next group.
    pub(super) fn begin_group(
        &mut self,
        cleaning: &mut Cleaning,
        disk: &mut dyn Disk,
    ) -> Result<(), LogError> {
        let group = cleaning.groups.pop_front().expect("there is a group");
        let base = group[0];
        for ext in WRITTEN {
            // Of a pass that an error ended.
            remove_if_exists(disk, &path(&self.dir, base, &alloc::format!("{ext}.cleaned")))?;
        }
        let segment = Segment::open_as(disk, &self.dir, base, ".cleaned", cleaning.now_ms)?;
        cleaning.stage = Stage::Copying(Box::new(Copying { group, at: 0, position: 0, segment }));
        Ok(())
    }

    pub(super) fn copy_step(
        &mut self,
        cleaning: &mut Cleaning,
        mut copying: Box<Copying>,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
    ) -> Result<CleaningStep, LogError> {
        if copying.at == copying.group.len() {
            return self.finish_group(cleaning, copying, disk);
        }
        let read = self.copy_batches(cleaning, &mut copying, now, disk, codecs);
        cleaning.stage = Stage::Copying(copying);
        read.map(CleaningStep::Worked)
    }

    fn copy_batches(
        &mut self,
        cleaning: &mut Cleaning,
        copying: &mut Copying,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
    ) -> Result<usize, LogError> {
        let i = self.segment_of(copying.group[copying.at]);
        let old = &self.segments[i];
        if copying.position == old.size {
            (copying.at, copying.position) = (copying.at + 1, 0);
            return Ok(0);
        }
        let behind = &self.segments[i + 1..i + copying.group.len() - copying.at];
        let ends_group = behind.iter().all(|segment| segment.size == 0);
        let (mut pieces, mut metas) = (Vec::new(), Vec::new());
        let mut read = 0;
        for batch in read_batches(disk, old, &self.dir, copying.position, cleaning.step_bytes)? {
            read += batch.bytes.len();
            let last = ends_group && copying.position + read as u32 == old.size;
            let kept = cleaning.keep(&batch, last, self.config.delete_retention_ms, codecs);
            let kept = kept.map_err(|error| LogError::Malformed {
                path: path(&self.dir, old.base, "log"),
                why: alloc::format!("{error} in the batch at offset {}", batch.header.base_offset),
            })?;
            let header = match kept {
                Kept::Nothing => continue,
                Kept::Whole => {
                    pieces.extend(batch.bytes.pieces().iter().cloned());
                    batch.header
                }
                Kept::Rewritten(bytes) => {
                    let header = BatchHeader::parse(&bytes).expect("it was just written");
                    pieces.push(bytes);
                    header
                }
            };
            metas.push(BatchMeta::from(&header));
        }
        let log_path = path(&self.dir, copying.segment.base, "log.cleaned");
        if !metas.is_empty() {
            let bytes: u64 = metas.iter().map(|meta| u64::from(meta.size)).sum();
            if u64::from(copying.segment.size) + bytes > i32::MAX as u64 {
                return Err(LogError::Malformed { path: log_path, why: "a segment above 2 GiB".into() });
            }
            let written = copying.segment.append(disk, &self.config, now.wall_ms, &pieces, &metas);
            written.map_err(at(&log_path))?;
        }
        copying.position += read as u32;
        Ok(read)
    }

    /// All is copied: it becomes durable, names included.
    fn finish_group(
        &mut self,
        cleaning: &mut Cleaning,
        mut copying: Box<Copying>,
        disk: &mut dyn Disk,
    ) -> Result<CleaningStep, LogError> {
        let base = copying.segment.base;
        let time_path = path(&self.dir, base, "timeindex.cleaned");
        copying.segment.become_inactive(disk).map_err(at(&time_path))?;
        let txn_path = path(&self.dir, base, "txnindex.cleaned");
        let kept = core::mem::take(&mut cleaning.txns.kept);
        copying.segment.txns = TxnIndex::write(disk, &txn_path, kept).map_err(at(&txn_path))?;
        let last = copying.group.last().expect("a group is not empty");
        copying.segment.modified_ms = self.segments[self.segment_of(*last)].modified_ms;
        copying.segment.mark_dirty();
        copying.segment.sync(disk, |ticket| cleaning.tickets.push(ticket));
        cleaning.tickets.push(disk.sync_dir(&self.dir));
        self.register(cleaning);
        cleaning.stage = Stage::Syncing(copying);
        Ok(CleaningStep::Waiting)
    }

    fn register(&mut self, cleaning: &Cleaning) {
        for ticket in &cleaning.tickets {
            self.flusher.other(*ticket);
        }
    }

    /// The new segment is durable: from the moment that its new names are, opening the log would put it in place.
    pub(super) fn name_swap(
        &mut self,
        cleaning: &mut Cleaning,
        copying: Box<Copying>,
        disk: &mut dyn Disk,
    ) -> Result<CleaningStep, LogError> {
        self.rename_written(copying.segment.base, ".cleaned", ".swap", disk)?;
        cleaning.tickets.push(disk.sync_dir(&self.dir));
        self.register(cleaning);
        cleaning.stage = Stage::Swapping(copying);
        Ok(CleaningStep::Waiting)
    }

    fn rename_written(&self, base: i64, from: &str, to: &str, disk: &mut dyn Disk) -> Result<(), LogError> {
        for ext in WRITTEN {
            let old = path(&self.dir, base, &alloc::format!("{ext}{from}"));
            let new = path(&self.dir, base, &alloc::format!("{ext}{to}"));
            match disk.rename(&old, &new) {
                Ok(()) | Err(DiskError::NotFound) => {}
                Err(error) => return Err(at(&old)(error)),
            }
        }
        Ok(())
    }

    /// Puts the new segment in the place of the old ones.
    pub(super) fn swap(
        &mut self,
        cleaning: &mut Cleaning,
        copying: Copying,
        now: Now,
        disk: &mut dyn Disk,
    ) -> Result<CleaningStep, LogError> {
        let Copying { group, segment, .. } = copying;
        let first = self.segment_of(group[0]);
        cleaning.bytes_after += u64::from(segment.size);
        let base = segment.base;
        let mut new = segment;
        new.forget_first_timestamp();
        let gone: Vec<Segment> = self.segments.splice(first..first + group.len(), [new]).collect();
        assert!(gone.iter().map(|s| s.base).eq(group.iter().copied()), "{}: the group is there", self.dir);
        self.retire(now, disk, &gone)?;
        self.rename_written(base, ".swap", "", disk)?;
        let ticket = disk.sync_dir(&self.dir);
        self.flusher.other(ticket);
        self.tail.drop_below(self.segments[first + 1].base);
        self.check_invariants();
        if !cleaning.groups.is_empty() {
            self.begin_group(cleaning, disk)?;
            return Ok(CleaningStep::Worked(0));
        }
        Ok(CleaningStep::Done(Cleaned {
            first_dirty: cleaning.latest + 1,
            bytes_before: cleaning.bytes_before,
            bytes_after: cleaning.bytes_after,
        }))
    }
}

/// What stays of a batch.
enum Kept {
    Nothing,
    Whole,
    Rewritten(Bytes),
}

impl Cleaning {
    /// What stays of a batch; of the last one of a group something does.
    fn keep(
        &mut self,
        batch: &Batch,
        last: bool,
        delete_retention_ms: i64,
        codecs: &dyn Codecs,
    ) -> Result<Kept, BatchError> {
        let header = &batch.header;
        let horizon = header.delete_horizon();
        let (without_data, discarded) = if header.is_control() {
            let without_data = self.txns.marker(batch, codecs);
            (without_data, without_data && horizon.is_some_and(|at| at <= self.now_ms))
        } else {
            (false, self.txns.data(header))
        };
        let keep_empty = last || header.has_producer_id() && self.holds_last_record(header);
        let records = batch.records(codecs, DECOMPRESSED_LIMIT)?;
        let (mut kept, mut tombstones) = (0, false);
        if !discarded {
            for record in &records {
                let record = record?;
                if self.keeps(header, &record) {
                    kept += 1;
                    tombstones |= record.value.is_none();
                }
            }
        }
        if kept == 0 {
            return Ok(if keep_empty { Kept::Rewritten(emptied(header, codecs)) } else { Kept::Nothing });
        }
        let new_horizon = horizon.is_none() && (tombstones || without_data);
        if kept == header.record_count && !new_horizon {
            return Ok(Kept::Whole);
        }
        // What is written anew gets a new CRC: damage must not be hidden by it.
        batch.check_crc(codecs)?;
        let horizon =
            if new_horizon { Some(self.now_ms.saturating_add(delete_retention_ms)) } else { horizon };
        let mut builder = match horizon {
            Some(base) => BatchBuilder::with_base_timestamp(batch.bytes.len(), base),
            None => BatchBuilder::with_capacity(batch.bytes.len()),
        };
        for record in &records {
            let record = record?;
            if self.keeps(header, &record) {
                add(&mut builder, header, &record);
            }
        }
        builder.finish(codecs, &options(header, horizon)?).map(Kept::Rewritten)
    }

    fn keeps(&self, header: &BatchHeader, record: &Record<'_>) -> bool {
        if header.is_control() || record.offset > self.latest {
            return true;
        }
        let Some(key) = record.key else { return false };
        let gone = || header.delete_horizon().is_some_and(|at| at <= self.now_ms);
        let last = self.map.last_offset(key);
        if self.mutants.has(Mutant::CompactionDropsLastValue) && record.offset == last {
            return false;
        }
        record.offset >= last && (record.value.is_some() || !gone())
    }
}

/// The headers of a record, as a builder takes them.
type HeaderRefs<'h> = SmallVec<[(&'h str, Option<&'h [u8]>); 4]>;

fn add(builder: &mut BatchBuilder, header: &BatchHeader, record: &Record<'_>) {
    let headers: SmallVec<[_; 4]> = record.headers.collect();
    let headers: HeaderRefs<'_> = headers.iter().map(|h| (&*h.key, h.value)).collect();
    let delta = (record.offset - header.base_offset) as i32;
    builder.append_at(delta, record.timestamp, record.key, record.value, &headers);
}

/// All but the records of a batch that is written anew.
fn options(header: &BatchHeader, delete_horizon: Option<i64>) -> Result<BatchOptions, BatchError> {
    Ok(BatchOptions {
        base_offset: header.base_offset,
        leader_epoch: header.partition_leader_epoch,
        compression: header.compression()?,
        level: None,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        transactional: header.is_transactional(),
        control: header.is_control(),
        log_append_time: (header.timestamp_type() == TimestampType::LogAppendTime)
            .then_some(header.max_timestamp),
        delete_horizon,
        last_offset_delta: Some(header.last_offset_delta),
    })
}

/// A batch without its records: it still says which offsets and sequence numbers were used.
fn emptied(header: &BatchHeader, codecs: &dyn Codecs) -> Bytes {
    let attributes = Attributes::new(
        Compression::None,
        header.timestamp_type(),
        header.is_transactional(),
        header.is_control(),
        false,
    );
    let empty = BatchHeader {
        batch_length: (HEADER_LEN - LOG_OVERHEAD) as i32,
        attributes,
        base_timestamp: NO_TIMESTAMP,
        record_count: 0,
        ..*header
    };
    let crc = codecs.crc32c(0, &empty.to_bytes()[CRC_FROM..]);
    Bytes::copy_from_slice(&BatchHeader { crc, ..empty }.to_bytes())
}

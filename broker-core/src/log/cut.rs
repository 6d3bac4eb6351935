//! Cutting a log: its tail where it diverges from a leader, its head by retention.
//!
//! Files of segments that go are renamed to `.deleted` at once and removed after `file.delete.delay.ms`, since reads
//! of the real world may still be under way.

use alloc::vec::Vec;
use smallvec::SmallVec;
use wire::Codecs;
use wire::drive::Now;

use super::producer::snapshot_offset;
use super::segment::{Segment, at, path};
use super::{Deletion, Log, LogError, ReadError, Truncated};
use crate::disk::{Disk, DiskError};

/// Why segments were deleted, in Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteReason {
    /// They lie below the log start offset.
    #[error("log start offset {0} breach")]
    LogStartOffset(i64),
    /// `retention.ms`.
    #[error("retention time {0}ms breach")]
    Time(i64),
    /// `retention.bytes`.
    #[error("retention size {0} bytes breach")]
    Size(i64),
}

/// Segments that were deleted for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// How many.
    pub count: usize,
    /// Why.
    pub why: DeleteReason,
}

impl Log {
    /// Cuts everything from `offset` on, because a leader says that it is not what was agreed upon.
    ///
    /// Leader epochs that begin at the end or later go even when there is nothing to cut: they may be of a leadership
    /// that wrote nothing. The recovery point goes down with the log: its checkpoint must be written anew.
    pub fn truncate_to(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        offset: i64,
    ) -> Result<Truncated, LogError> {
        assert!(offset >= 0, "{}: truncation to {offset}", self.dir);
        let from = self.next_offset;
        let below_high_watermark = offset < self.high_watermark;
        if offset >= from {
            let changed = self.epochs.truncate_from_end(from);
            self.epochs_cut(disk, changed);
            return Ok(Truncated { from, to: from, below_high_watermark: false });
        }
        if offset < self.first_segment_base() {
            self.truncate_fully_and_start_at(now, disk, offset)?;
            return Ok(Truncated { from, to: offset, below_high_watermark });
        }
        self.end_cleaning(disk)?;
        self.cleaned_to = self.cleaned_to.map(|to| to.min(offset));
        let keep = self.segments.partition_point(|s| s.base <= offset);
        self.drop_segments(now, disk, keep..self.segments.len())?;
        let log_path = path(&self.dir, self.active().base, "log");
        self.active_mut()
            .truncate_to(disk, offset, now.wall_ms)
            .map_err(|error| in_file(&log_path, error))?;
        self.tail.truncate_to(offset);
        self.next_offset = offset;
        self.recovery_point = self.recovery_point.min(offset);
        self.flusher.truncated(offset);
        let changed = self.epochs.truncate_from_end(offset);
        self.epochs_cut(disk, changed);
        self.log_start_offset = self.log_start_offset.min(offset);
        self.high_watermark = self.high_watermark.min(offset);
        self.reload_producers(disk, codecs, None)?;
        self.check_invariants();
        Ok(Truncated { from, to: offset, below_high_watermark })
    }

    /// Drops everything and goes on at `offset`.
    pub fn truncate_fully_and_start_at(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        offset: i64,
    ) -> Result<(), LogError> {
        assert!(offset >= 0, "{}: start at {offset}", self.dir);
        self.end_cleaning(disk)?;
        self.cleaned_to = self.cleaned_to.map(|to| to.min(offset));
        self.remove_snapshots_above(disk, -1)?;
        self.producers.clear(offset);
        self.drop_segments(now, disk, 0..self.segments.len())?;
        self.segments.push(Segment::open(disk, &self.dir, offset, now.wall_ms)?);
        self.flusher.names_dirty = true;
        self.tail.clear();
        self.next_offset = offset;
        self.log_start_offset = offset;
        self.high_watermark = offset;
        self.recovery_point = self.recovery_point.min(offset);
        self.flusher.truncated(offset);
        let changed = !self.epochs.entries().is_empty();
        self.epochs.clear();
        self.epochs_cut(disk, changed);
        self.check_invariants();
        Ok(())
    }

    /// Raises the log start offset (DeleteRecords, the leader's, a snapshot) up to the high watermark; whether it
    /// changed. Segments below it go with the next [`Log::delete_old_segments`].
    pub fn increment_log_start_offset(&mut self, disk: &mut dyn Disk, offset: i64) -> bool {
        let offset = offset.min(self.high_watermark);
        if offset <= self.log_start_offset {
            return false;
        }
        self.log_start_offset = offset;
        self.producers.replicated_up_to(offset);
        let changed = self.epochs.truncate_from_start(offset);
        self.epochs_cut(disk, changed);
        self.check_invariants();
        true
    }

    /// Deletes whole segments: those below the log start offset, and with `cleanup.policy` `delete` by
    /// `retention.bytes` and `retention.ms`. Never what lies at or above the high watermark. What went, and why.
    pub fn delete_old_segments(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
    ) -> Result<SmallVec<[Deleted; 1]>, LogError> {
        let mut deleted = SmallVec::new();
        let mut note = |count, why| {
            if count > 0 {
                deleted.push(Deleted { count, why });
            }
        };
        let start = self.log_start_offset;
        let count = self.delete_while(now, disk, codecs, |log, i| {
            log.segments.get(i + 1).is_some_and(|next| next.base <= start)
        })?;
        note(count, DeleteReason::LogStartOffset(start));
        if !self.config.delete {
            return Ok(deleted);
        }
        let retention_bytes = self.config.retention_bytes;
        if let Ok(limit) = u64::try_from(retention_bytes) {
            let mut above = self.size_bytes().saturating_sub(limit);
            let count = self.delete_while(now, disk, codecs, |log, i| {
                let size = u64::from(log.segments[i].size);
                let delete = above >= size && above > 0;
                above -= if delete { size } else { 0 };
                delete
            })?;
            note(count, DeleteReason::Size(retention_bytes));
        }
        if self.config.retention_ms >= 0 {
            let retention_ms = self.config.retention_ms;
            let count = self.delete_while(now, disk, codecs, |log, i| {
                now.wall_ms.saturating_sub(log.segments[i].retention_timestamp()) > retention_ms
            })?;
            note(count, DeleteReason::Time(retention_ms));
        }
        Ok(deleted)
    }

    /// Deletes segments from the oldest on while the predicate holds, and raises the log start offset to what is left.
    fn delete_while(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        mut predicate: impl FnMut(&Log, usize) -> bool,
    ) -> Result<usize, LogError> {
        let mut count = 0;
        for i in 0..self.segments.len() {
            let end = self.segments.get(i + 1).map_or(self.next_offset, |next| next.base);
            let empty_last = i + 1 == self.segments.len() && self.segments[i].size == 0;
            if self.high_watermark < end || empty_last || !predicate(self, i) {
                break;
            }
            count = i + 1;
        }
        if count == 0 {
            return Ok(0);
        }
        self.end_cleaning(disk)?;
        if count == self.segments.len() {
            self.roll(now, disk, codecs, self.next_offset)?;
        }
        let start = self.segments[count].base;
        self.increment_log_start_offset(disk, start);
        self.tail.drop_below(start);
        self.drop_segments(now, disk, 0..count)?;
        self.check_invariants();
        Ok(count)
    }

    /// Closes segments and renames their files to `.deleted`.
    fn drop_segments(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        range: core::ops::Range<usize>,
    ) -> Result<(), LogError> {
        let gone: Vec<Segment> = self.segments.drain(range).collect();
        self.retire(now, disk, &gone)
    }

    /// Closes segments that are no longer the log's and renames their files to `.deleted`.
    pub(super) fn retire(&mut self, now: Now, disk: &mut dyn Disk, gone: &[Segment]) -> Result<(), LogError> {
        let mut paths = Vec::new();
        for segment in gone {
            segment.close(disk);
            for ext in Segment::extensions() {
                let from = path(&self.dir, segment.base, ext);
                let to = path(&self.dir, segment.base, &alloc::format!("{ext}.deleted"));
                match disk.rename(&from, &to) {
                    Ok(()) => paths.push(to),
                    Err(DiskError::NotFound) => {}
                    Err(error) => return Err(at(&from)(error)),
                }
            }
        }
        // The recovery point shall not pass this place before the old names are gone for good.
        self.flusher.names_dirty = true;
        if !paths.is_empty() {
            let delay = u64::try_from(self.config.file_delete_delay_ms).unwrap_or(0);
            self.deletions.push_back(Deletion { due: now.mono.plus_millis(delay), paths });
        }
        Ok(())
    }

    /// Producer state snapshots speak of what was before an offset that the log no longer reaches.
    pub(super) fn remove_snapshots_above(
        &mut self,
        disk: &mut dyn Disk,
        offset: i64,
    ) -> Result<(), LogError> {
        for name in disk.list(&self.dir).map_err(at(&self.dir))? {
            let of = snapshot_offset(&name);
            if of.is_some_and(|of| of > offset) {
                super::remove_if_exists(disk, &self.in_dir(&name))?;
            }
        }
        Ok(())
    }
}

fn in_file(path: &str, error: ReadError) -> LogError {
    match error {
        ReadError::Disk(error) => at(path)(error),
        error => LogError::Malformed { path: path.into(), why: alloc::format!("{error}") },
    }
}

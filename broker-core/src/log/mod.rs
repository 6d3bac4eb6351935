//! One partition's log in Kafka's file formats: segments, indexes, leader epochs, recovery, flushing.
//!
//! [`Log`] is what Kafka calls `UnifiedLog` over `LocalLog`: it appends validated batches, serves them by offset
//! without copying record bytes, cuts its tail where leader epochs diverge, deletes its head, and after a crash finds
//! the longest valid prefix. It promises that Kafka's own tools read every file that it wrote, and that after a power
//! loss everything below the recovery point is there.
//!
//! It follows Apache Kafka 4.3 (`storage/internals/log`), KIP-101/279/320 for leader epochs and KIP-107 for the log
//! start offset. Files are written through [`Disk`]: appends are synchronous, durability is
//! asynchronous. Every [`Ticket`](crate::disk::Ticket) that a log has asked for is handed out by
//! [`Log::take_tickets`]; who routes `Input::Synced` gives each back to [`Log::synced`].
//!
//! Transactions (KIP-98, KIP-890): the log knows which are open and which were aborted, and bounds what readers of
//! committed transactions may see by [`Log::last_stable_offset`].

mod append;
mod batch;
pub mod checkpoint;
mod cleaner;
mod config;
mod cut;
mod dir;
pub mod epoch_cache;
mod error;
mod flush;
mod index;
mod loader;
mod offset_map;
mod producer;
mod producers;
mod read;
mod segment;
mod tail;
#[cfg(test)]
mod tests;
mod txn_index;
mod validate;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use wire::drive::{Instant, Now};
use wire::{Codecs, Rope};

use crate::disk::{Disk, DiskError};
use crate::event::BatchMarks;
use crate::mutant::Mutant;
use epoch_cache::{EpochCache, EpochEntry};
use flush::Flusher;
use producer::Producers;
use segment::{Segment, at};
use tail::Tail;

pub use append::AppendTerms;
pub use cleaner::{Cleaned, CleaningStep, CleaningTerms, Dirtiness};
pub use config::{LogConfig, TargetCompression, TimestampType};
pub use cut::{DeleteReason, Deleted};
pub use dir::{LogDir, PartitionDir, PartitionDirKind};
pub use error::{AppendError, LogError, ReadError, RecordError};
pub use producer::{ActiveProducer, Guard, Verification};

/// Who appends: decides what is validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer. Everything is checked.
    Client,
    /// A coordinator of this node (group or transaction): control batches and several batches are its right.
    Coordinator,
    /// The leader of the metadata quorum: it built the batches, with their epoch, itself.
    RaftLeader,
}

/// What is known of a log before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadState {
    /// Whether the log directory carried the mark of a clean shutdown.
    pub clean: bool,
    /// From `recovery-point-offset-checkpoint`; 0 if it is not there.
    pub recovery_point: i64,
    /// From `log-start-offset-checkpoint`; 0 if it is not there.
    pub log_start_offset: i64,
    /// From `replication-offset-checkpoint`; 0 if it is not there.
    pub high_watermark: i64,
}

impl LoadState {
    /// A log that is not there yet.
    pub const NEW: LoadState =
        LoadState { clean: true, recovery_point: 0, log_start_offset: 0, high_watermark: 0 };
}

/// What opening a log did to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Whether the directory was made.
    pub created: bool,
    /// Segments whose batches were checked and whose indexes were rebuilt.
    pub segments_recovered: usize,
    /// Bytes that were cut from a segment's tail.
    pub bytes_cut: u64,
    /// Later segments that were removed because one before them was cut.
    pub segments_removed: usize,
}

/// What an append did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendInfo {
    /// The offset of the first record; the log end offset before, if nothing was appended.
    pub base_offset: i64,
    /// The offset of the last record; `base_offset - 1`, if nothing was appended.
    pub last_offset: i64,
    /// The largest timestamp, -1 if there is none.
    pub max_timestamp: i64,
    /// The wall-clock time that replaced the timestamps of the records; -1 with CreateTime.
    pub log_append_time: i64,
    /// The log start offset.
    pub log_start_offset: i64,
    /// Bytes written.
    pub bytes: usize,
    /// Whether a new segment was begun.
    pub rolled: bool,
    /// The batches as they lie in the log now.
    pub marks: BatchMarks,
}

/// Where an offset lies: positions of one segment can be compared and subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetMetadata {
    /// The offset.
    pub offset: i64,
    /// The base offset of its segment.
    pub segment_base: i64,
    /// The position in the segment's file of the batch that holds it.
    pub position: u32,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct FetchData {
    /// Whole batches, sharing the disk's chunks; the first may begin below the offset that was asked for.
    pub records: Rope,
    /// Where the offset that was asked for lies.
    pub start: OffsetMetadata,
}

/// The answer to an epoch's end: Kafka's `EpochEndOffset`, each -1 when undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch that is not above the requested one.
    pub epoch: i32,
    /// Where it ends, exclusively.
    pub offset: i64,
}

/// What a truncation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// The log end offset before.
    pub from: i64,
    /// The log end offset after; equal to `from` if there was nothing to cut.
    pub to: i64,
    /// Whether the high watermark lay above and was lowered, which never happens to what is committed.
    pub below_high_watermark: bool,
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Its timestamp, in milliseconds.
    pub timestamp: i64,
    /// Its offset.
    pub offset: i64,
    /// The leader epoch of its batch.
    pub leader_epoch: i32,
}

/// What a finished sync meant for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// The ticket is not one of this log.
    NotMine,
    /// More syncs of the same flush are under way, or the ticket moved nothing.
    Waiting,
    /// All below this offset is durable; the recovery point moved here.
    Flushed {
        /// The new recovery point.
        recovery_point: i64,
    },
    /// The medium failed: the log directory goes offline.
    Failed(DiskError),
}

/// One partition's log.
///
/// Its state relates as in Kafka: log start offset ≤ high watermark ≤ log end offset, recovery point ≤ log end offset;
/// [`Log::check_invariants`] says so after every change.
#[derive(Clone, Debug)]
pub struct Log {
    /// Its directory: `data/purchases-0`.
    dir: Arc<str>,
    config: LogConfig,
    /// Ascending by base offset, never empty; the last one is appended to.
    segments: Vec<Segment>,
    /// The log end offset.
    next_offset: i64,
    log_start_offset: i64,
    high_watermark: i64,
    recovery_point: i64,
    epochs: EpochCache,
    tail: Tail,
    producers: Producers,
    flusher: Flusher,
    /// Files to remove after `file.delete.delay.ms`, in the order of their time.
    deletions: VecDeque<Deletion>,
    /// All below was cleaned, as `cleaner-offset-checkpoint` says; absent before the first cleaning.
    cleaned_to: Option<i64>,
    cleaning: Option<Box<cleaner::Cleaning>>,
}

/// Renamed files that wait for their removal.
#[derive(Clone, Debug)]
struct Deletion {
    due: Instant,
    paths: Vec<String>,
}

impl Log {
    /// Its directory's path.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    /// `TOPIC-PARTITION`.
    pub fn name(&self) -> &str {
        self.dir.rsplit('/').next().expect("rsplit gives one part at least")
    }

    /// Its settings.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Takes effect with the next append.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// The offset of the first record that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> i64 {
        self.next_offset
    }

    /// What is below is replicated to the in-sync replicas.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The first offset that a reader of committed transactions must not see: that of the first transaction that is
    /// open or whose marker is not yet replicated; the high watermark without transactions.
    #[inline]
    pub fn last_stable_offset(&self) -> i64 {
        match self.producers.first_unstable_offset() {
            None => self.high_watermark,
            Some(first) if self.config.mutants.has(Mutant::LastStableOffsetOffByOne) => {
                (first + 1).max(self.log_start_offset).min(self.high_watermark)
            }
            Some(first) => first.max(self.log_start_offset).min(self.high_watermark),
        }
    }

    /// Sets the high watermark, within log start and log end; whether it changed.
    pub fn update_high_watermark(&mut self, offset: i64) -> bool {
        let offset = offset.clamp(self.log_start_offset, self.next_offset);
        let changed = offset != self.high_watermark;
        self.high_watermark = offset;
        self.producers.replicated_up_to(offset);
        changed
    }

    /// All below is durable.
    pub fn recovery_point(&self) -> i64 {
        self.recovery_point
    }

    /// The bytes of all segments, without their indexes.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.size)).sum()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The base offset of the first segment.
    pub fn first_segment_base(&self) -> i64 {
        self.segments[0].base
    }

    /// The base offset of the segment that is appended to.
    pub fn active_segment_base(&self) -> i64 {
        self.active().base
    }

    /// The largest timestamp of a record, -1 if there is none.
    pub fn max_timestamp(&self) -> i64 {
        self.segments.iter().map(|s| s.max_timestamp.timestamp).max().expect("never empty")
    }

    fn active(&self) -> &Segment {
        self.segments.last().expect("never empty")
    }

    fn active_mut(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("never empty")
    }

    // --- leader epochs

    /// The latest leader epoch that the log knows.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.epochs.latest().map(|entry| entry.epoch)
    }

    /// The end of an epoch as this log knows it: the answer of OffsetForLeaderEpoch and of diverging fetches.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> EpochEnd {
        self.epochs.end_offset_for(epoch, self.next_offset)
    }

    /// The leader epoch of the record at an offset.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        self.epochs.epoch_for_offset(offset)
    }

    /// All epochs with their start offsets, ascending.
    pub fn epochs(&self) -> &[EpochEntry] {
        self.epochs.entries()
    }

    /// Begins an epoch at an offset, also when nothing is written in it (KIP-279). It must be durable
    /// ([`Log::epochs_durable`]) before the first append in it.
    pub fn assign_epoch(&mut self, disk: &mut dyn Disk, epoch: i32, start_offset: i64) {
        if self.epochs.assign(epoch, start_offset) {
            let ticket = self.write_epochs(disk);
            self.flusher.epoch(ticket);
        }
    }

    /// Whether the checkpoint of every assigned epoch has reached the medium.
    pub fn epochs_durable(&self) -> bool {
        self.flusher.epochs_durable()
    }

    fn write_epochs(&self, disk: &mut dyn Disk) -> crate::disk::Ticket {
        let text = checkpoint::epochs_text(self.epochs.entries());
        disk.replace(&self.in_dir(checkpoint::LEADER_EPOCHS), Bytes::from(text.into_bytes()))
    }

    /// Cutting is written without anybody waiting: opening the log cuts again.
    fn epochs_cut(&mut self, disk: &mut dyn Disk, changed: bool) {
        if changed {
            let ticket = self.write_epochs(disk);
            self.flusher.other(ticket);
        }
    }

    fn in_dir(&self, name: &str) -> String {
        alloc::format!("{}/{name}", self.dir)
    }

    /// Panics when the log's state contradicts itself, which only a bug can cause.
    pub fn check_invariants(&self) {
        assert!(
            self.log_start_offset <= self.high_watermark && self.high_watermark <= self.next_offset,
            "{}: start {} hw {} end {}",
            self.dir,
            self.log_start_offset,
            self.high_watermark,
            self.next_offset
        );
        assert!(self.recovery_point <= self.next_offset, "{}: recovery point", self.dir);
        assert!(self.segments.windows(2).all(|w| w[0].base < w[1].base), "{}: segments ascend", self.dir);
        assert!(self.segments[0].base <= self.log_start_offset, "{}: first segment", self.dir);
        assert!(self.active().base <= self.next_offset, "{}: active segment", self.dir);
        assert_eq!(self.producers.covered, self.next_offset, "{}: producer state", self.dir);
        self.producers.check_invariants();
    }

    // --- time

    /// When [`Log::on_timer`] has files to remove.
    pub fn deadline(&self) -> Option<Instant> {
        self.deletions.front().map(|deletion| deletion.due)
    }

    /// Removes the files whose `file.delete.delay.ms` is over.
    pub fn on_timer(&mut self, now: Now, disk: &mut dyn Disk) -> Result<(), LogError> {
        while self.deletions.front().is_some_and(|deletion| deletion.due <= now.mono) {
            let deletion = self.deletions.pop_front().expect("there is a first");
            for path in &deletion.paths {
                remove_if_exists(disk, path)?;
            }
        }
        Ok(())
    }

    // --- the end

    /// Begins the end: the last time index entry, everything synced. Once [`Log::flushing`] says no, the log may be
    /// dropped, and with all others of its directory that may be marked clean.
    pub fn close(&mut self, now: Now, disk: &mut dyn Disk, codecs: &dyn Codecs) -> Result<(), LogError> {
        self.end_cleaning(disk)?;
        self.take_producer_snapshot(disk, codecs);
        let path = segment::path(&self.dir, self.active_segment_base(), "timeindex");
        self.active_mut().become_inactive(disk).map_err(at(&path))?;
        self.flusher.last_flush = now.mono;
        self.flusher.names_dirty = true;
        self.sync_segments(disk, self.next_offset, self.segments.len());
        Ok(())
    }

    /// Renames the directory to `TOPIC-PARTITION.UUID-delete`, out of the way of a new topic of that name.
    /// [`Log::delete`] removes it later.
    pub fn rename_for_delete(&mut self, disk: &mut dyn Disk, unique: wire::Uuid) -> Result<(), LogError> {
        self.end_cleaning(disk)?;
        let (parent, name) = match self.dir.rsplit_once('/') {
            Some((parent, name)) => (parent, name),
            None => ("", &*self.dir),
        };
        let to = dir::delete_name(name, unique);
        let to = if parent.is_empty() { to } else { alloc::format!("{parent}/{to}") };
        disk.rename(&self.dir, &to).map_err(at(&self.dir))?;
        let ticket = disk.sync_dir(parent);
        self.flusher.other(ticket);
        for deletion in &mut self.deletions {
            for path in &mut deletion.paths {
                let name = path.rsplit('/').next().expect("rsplit gives one part at least");
                *path = alloc::format!("{to}/{name}");
            }
        }
        self.dir = to.into();
        Ok(())
    }

    /// Closes the files and removes the directory with all that is in it.
    pub fn delete(self, disk: &mut dyn Disk) -> Result<(), LogError> {
        for segment in &self.segments {
            segment.close(disk);
        }
        remove_if_exists(disk, &self.dir)
    }
}

fn remove_if_exists(disk: &mut dyn Disk, path: &str) -> Result<(), LogError> {
    match disk.remove(path) {
        Ok(()) | Err(DiskError::NotFound) => Ok(()),
        Err(error) => Err(at(path)(error)),
    }
}

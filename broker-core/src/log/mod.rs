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
//! Deliberately absent: producer state, its snapshots and the transaction index. Such files of Kafka's are kept when a
//! directory is opened, and go with the segment that they belong to.

pub mod checkpoint;
mod config;
mod dir;
pub mod epoch_cache;
mod error;

use alloc::string::String;
use alloc::vec::Vec;
use wire::drive::{Instant, Now};
use wire::{Codecs, Rope};

use crate::disk::{Disk, DiskError, Ticket};
use crate::event::BatchMarks;

pub use config::{LogConfig, TargetCompression, TimestampType};
pub use dir::{LogDir, PartitionDir, PartitionDirKind};
pub use error::{AppendError, LogError, ReadError, RecordError};

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
#[derive(Clone, Debug)]
pub struct Log {
    dir: String,
    config: LogConfig,
}

#[allow(missing_docs, unused_variables)]
impl Log {
    /// Opens the log in `dir` (`data/purchases-0`), making it when it is missing; recovers it when it was not closed.
    pub fn open(
        dir: &str,
        config: LogConfig,
        state: LoadState,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
    ) -> Result<(Log, Recovered), LogError> {
        todo!()
    }

    /// Appends as the partition's leader: validates, assigns offsets, stamps the leader epoch.
    pub fn append_as_leader(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        records: &Rope,
        leader_epoch: i32,
        origin: Origin,
    ) -> Result<AppendInfo, AppendError> {
        todo!()
    }

    /// Appends what a leader sent, offsets as they are. Batches of an epoch above `leader_epoch` are left out, with all
    /// behind them (KAFKA-18723); an incomplete batch at the end is dropped.
    pub fn append_as_follower(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        records: &Rope,
        leader_epoch: i32,
    ) -> Result<AppendInfo, AppendError> {
        todo!()
    }

    /// Reads whole batches from `offset`, of one segment, that lie below `up_to`, at most `max_bytes`; with `min_one`
    /// the first batch comes whatever its size.
    pub fn read(
        &self,
        disk: &mut dyn Disk,
        offset: i64,
        up_to: i64,
        max_bytes: usize,
        min_one: bool,
    ) -> Result<FetchData, ReadError> {
        todo!()
    }

    /// Where an offset between log start and log end lies.
    pub fn offset_metadata(&self, disk: &mut dyn Disk, offset: i64) -> Result<OffsetMetadata, ReadError> {
        todo!()
    }

    pub fn dir(&self) -> &str {
        &self.dir
    }
    pub fn config(&self) -> &LogConfig {
        &self.config
    }
    /// Takes effect with the next append.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }
    pub fn log_start_offset(&self) -> i64 {
        todo!()
    }
    pub fn log_end_offset(&self) -> i64 {
        todo!()
    }
    pub fn high_watermark(&self) -> i64 {
        todo!()
    }
    /// The first offset that a reader of committed transactions must not see; the high watermark without transactions.
    pub fn last_stable_offset(&self) -> i64 {
        todo!()
    }
    /// Sets the high watermark, within log start and log end; whether it changed.
    pub fn update_high_watermark(&mut self, offset: i64) -> bool {
        todo!()
    }
    /// All below is durable.
    pub fn recovery_point(&self) -> i64 {
        todo!()
    }
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
    pub fn segment_count(&self) -> usize {
        todo!()
    }
    /// The base offset of the segment that is appended to.
    pub fn active_segment_base(&self) -> i64 {
        todo!()
    }

    // --- leader epochs
    pub fn latest_epoch(&self) -> Option<i32> {
        todo!()
    }
    /// The end of an epoch as this log knows it (facts of OffsetForLeaderEpoch and of diverging fetches).
    pub fn end_offset_for_epoch(&self, epoch: i32) -> EpochEnd {
        todo!()
    }
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        todo!()
    }
    /// All epochs with their start offsets, ascending.
    pub fn epochs(&self) -> &[epoch_cache::EpochEntry] {
        todo!()
    }
    /// Begins an epoch at an offset, also when nothing is written in it (KIP-279). It must be durable
    /// ([`Log::epochs_durable`]) before the first append in it.
    pub fn assign_epoch(&mut self, disk: &mut dyn Disk, epoch: i32, start_offset: i64) {
        todo!()
    }
    /// Whether the checkpoint of every assigned epoch has reached the medium.
    pub fn epochs_durable(&self) -> bool {
        todo!()
    }

    // --- cutting
    pub fn truncate_to(&mut self, now: Now, disk: &mut dyn Disk, offset: i64) -> Result<Truncated, LogError> {
        todo!()
    }
    /// Drops everything and goes on at `offset`.
    pub fn truncate_fully_and_start_at(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        offset: i64,
    ) -> Result<(), LogError> {
        todo!()
    }
    /// Raises the log start offset (DeleteRecords, the leader's, a snapshot); whether it changed.
    pub fn increment_log_start_offset(&mut self, disk: &mut dyn Disk, offset: i64) -> bool {
        todo!()
    }
    /// Deletes whole segments: those below the log start offset, and by `retention.bytes` and `retention.ms`.
    pub fn delete_old_segments(&mut self, now: Now, disk: &mut dyn Disk) -> Result<usize, LogError> {
        todo!()
    }

    // --- looking up
    /// The first record with a timestamp of at least `timestamp` that lies below `up_to`.
    pub fn offset_for_timestamp(
        &self,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        timestamp: i64,
        up_to: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        todo!()
    }
    /// The first record with the largest timestamp.
    pub fn offset_of_max_timestamp(
        &self,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        todo!()
    }

    // --- durability
    /// Begins to make everything below the log end durable. Tickets come out of [`Log::take_tickets`].
    pub fn flush(&mut self, now: Now, disk: &mut dyn Disk) {
        todo!()
    }
    /// Whether `flush.messages` or `flush.ms` ask for a flush now.
    pub fn flush_needed(&self, now: Now) -> bool {
        todo!()
    }
    /// The tickets that this log has asked for since the last call.
    pub fn take_tickets(&mut self) -> Vec<Ticket> {
        todo!()
    }
    /// A ticket of [`Log::take_tickets`] came back.
    pub fn synced(&mut self, ticket: Ticket, result: Result<(), DiskError>) -> Synced {
        todo!()
    }
    /// Whether a flush is under way.
    pub fn flushing(&self) -> bool {
        todo!()
    }
    /// Begins the end: final time index entries, everything synced. Once nothing is in flight the log may be dropped
    /// and the directory may be marked clean.
    pub fn close(&mut self, now: Now, disk: &mut dyn Disk) -> Result<(), LogError> {
        todo!()
    }

    // --- time
    /// When [`Log::on_timer`] has something to do: files to remove after `file.delete.delay.ms`, a flush by `flush.ms`.
    pub fn deadline(&self) -> Option<Instant> {
        todo!()
    }
    pub fn on_timer(&mut self, now: Now, disk: &mut dyn Disk) -> Result<(), LogError> {
        todo!()
    }

    // --- deleting the whole log
    /// Renames the directory to `TOPIC-PARTITION.UUID-delete`. [`Log::delete`] removes it later.
    pub fn rename_for_delete(&mut self, disk: &mut dyn Disk, unique: wire::Uuid) -> Result<(), LogError> {
        todo!()
    }
    /// Closes the files and removes the directory.
    pub fn delete(self, disk: &mut dyn Disk) -> Result<(), LogError> {
        todo!()
    }
}

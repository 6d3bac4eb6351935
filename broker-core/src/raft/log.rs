//! The metadata log as the quorum sees it: a [`Log`] and the snapshots beside it (`KafkaMetadataLog`, `RaftLog`).
//!
//! A point of the log is an offset with the epoch of the record before it. Where the log begins above 0 there is a
//! snapshot from which the state can be built up to that offset.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use wire::drive::{Instant, Now};
use wire::{Codecs, Rope, Uuid};

use super::RaftConfig;
use super::snapshot::{self, SnapshotName};
use super::state::OffsetAndEpoch;
use crate::disk::{Disk, DiskError, Ticket};
use crate::log::{
    AppendError, AppendInfo, LoadState, Log, LogConfig, LogDir, LogError, Origin, ReadError, Recovered,
    Synced,
};

/// The directory of the metadata log within the metadata log directory.
pub const PARTITION_DIR: &str = "__cluster_metadata-0";

/// Batches are at most so large.
pub(super) const MAX_BATCH_BYTES: usize = 8 << 20;

/// A snapshot that is whole and durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotFile {
    pub(super) size: u64,
    /// The wall clock of the last record in it.
    pub(super) last_timestamp: i64,
}

/// What a leader says of the point from which a replica wants to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    /// The log holds it.
    Valid,
    /// The replica's log has what this log has not: its end of that epoch, or of the largest one below.
    Diverging(OffsetAndEpoch),
    /// The log begins after it: this snapshot must be fetched.
    Snapshot(OffsetAndEpoch),
}

/// The metadata log and its snapshots.
#[derive(Clone, Debug)]
pub(super) struct MetadataLog {
    log: Log,
    snapshots: BTreeMap<OffsetAndEpoch, SnapshotFile>,
}

impl MetadataLog {
    /// Opens the log: checks all batches, since nothing says that it was closed, and drops what snapshots replace.
    pub(super) fn open(
        config: &RaftConfig,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
    ) -> Result<(MetadataLog, Recovered), LogError> {
        let dir = format!("{}/{PARTITION_DIR}", config.dir);
        let log_config = LogConfig {
            max_message_bytes: MAX_BATCH_BYTES as u32,
            segment_bytes: config.segment_bytes,
            segment_ms: config.segment_ms,
            retention_ms: -1,
            retention_bytes: -1,
            mutants: config.mutants,
            ..LogConfig::default()
        };
        let state = LoadState { clean: false, ..LoadState::NEW };
        let (log, recovered) = Log::open(&dir, log_config, state, now, disk, codecs)?;
        if !disk.exists(&format!("{dir}/partition.metadata")) {
            LogDir::write_partition_metadata(disk, &dir, Uuid::METADATA_TOPIC);
        }
        let mut log = MetadataLog { log, snapshots: BTreeMap::new() };
        log.recover_snapshots(disk, codecs)?;
        log.truncate_to_latest_snapshot(now, disk)?;
        Ok((log, recovered))
    }

    /// Where its files are.
    pub(super) fn dir(&self) -> &str {
        self.log.dir()
    }

    pub(super) fn inner(&self) -> &Log {
        &self.log
    }

    pub(super) fn start_offset(&self) -> i64 {
        self.log.log_start_offset()
    }

    pub(super) fn end_offset(&self) -> i64 {
        self.log.log_end_offset()
    }

    /// The log's end, with the epoch of its last record.
    pub(super) fn end(&self) -> OffsetAndEpoch {
        OffsetAndEpoch::new(self.end_offset(), self.last_epoch())
    }

    /// The epoch of the last record, or of the snapshot that the log begins with; 0 if there is nothing.
    pub(super) fn last_epoch(&self) -> i32 {
        self.log.latest_epoch().or(self.latest_snapshot().map(|id| id.epoch)).unwrap_or(0)
    }

    /// Whether everything in it is durable.
    pub(super) fn is_flushed(&self) -> bool {
        self.log.recovery_point() >= self.end_offset()
    }

    /// Begins an epoch at the log's end. Not to be written in before [`MetadataLog::epochs_durable`].
    pub(super) fn assign_epoch(&mut self, disk: &mut dyn Disk, epoch: i32) {
        let end = self.end_offset();
        self.log.assign_epoch(disk, epoch, end);
        self.log.take_tickets();
    }

    pub(super) fn epochs_durable(&self) -> bool {
        self.log.epochs_durable()
    }

    /// Appends batches that bear their offsets and this leader's epoch already.
    pub(super) fn append_as_leader(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        batch: &Rope,
        epoch: i32,
    ) -> Result<AppendInfo, AppendError> {
        let info = self.log.append_as_leader(now, disk, codecs, batch, epoch, Origin::RaftLeader);
        self.log.take_tickets();
        info
    }

    /// Appends what the leader of `epoch` sent.
    pub(super) fn append_as_follower(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        records: &Rope,
        epoch: i32,
    ) -> Result<AppendInfo, AppendError> {
        let info = self.log.append_as_follower(now, disk, codecs, records, epoch);
        self.log.take_tickets();
        info
    }

    pub(super) fn read(
        &self,
        disk: &mut dyn Disk,
        offset: i64,
        up_to: i64,
        max_bytes: usize,
    ) -> Result<Rope, ReadError> {
        Ok(self.log.read(disk, offset, up_to, max_bytes, true)?.records)
    }

    pub(super) fn flush(&mut self, now: Now, disk: &mut dyn Disk) {
        self.log.flush(now, disk);
        self.log.take_tickets();
    }

    pub(super) fn synced(&mut self, ticket: Ticket, result: Result<(), DiskError>) -> Synced {
        self.log.synced(ticket, result)
    }

    pub(super) fn close(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
    ) -> Result<(), LogError> {
        let closed = self.log.close(now, disk, codecs);
        self.log.take_tickets();
        closed
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.log.deadline()
    }

    pub(super) fn on_timer(&mut self, now: Now, disk: &mut dyn Disk) -> Result<(), LogError> {
        let done = self.log.on_timer(now, disk);
        self.log.take_tickets();
        done
    }

    pub(super) fn update_high_watermark(&mut self, offset: i64) {
        self.log.update_high_watermark(offset);
    }

    /// The log's own high watermark: what it once was known to be; the quorum's may not be known yet.
    pub(super) fn high_watermark(&self) -> i64 {
        self.log.high_watermark()
    }

    /// Where this log's records of `epoch` end, or else of the largest epoch below.
    pub(super) fn end_offset_for_epoch(&self, epoch: i32) -> OffsetAndEpoch {
        let end = self.log.end_offset_for_epoch(epoch);
        if end.epoch < 0 || end.offset < 0 {
            return self.end(); // an epoch that this log has not seen
        }
        match self.earliest_snapshot() {
            // The epoch is older than all in the log: what is known of it is the snapshot's.
            Some(snapshot) if snapshot.offset == end.offset && end.epoch == epoch => snapshot,
            _ => OffsetAndEpoch::new(end.offset, end.epoch),
        }
    }

    /// Whether a replica whose log ends at `point` may go on from there.
    pub(super) fn validate(&self, point: OffsetAndEpoch) -> Validity {
        if self.start_offset() == 0 && point == OffsetAndEpoch::new(0, 0) {
            return Validity::Valid;
        }
        if let (Some(earliest), Some(latest)) = (self.earliest_snapshot(), self.latest_snapshot()) {
            let start = self.start_offset();
            let before_start = point.offset < start
                || (point.offset == start && point.epoch != earliest.epoch)
                || point.epoch < earliest.epoch;
            if before_start {
                return Validity::Snapshot(latest);
            }
        }
        let end = self.end_offset_for_epoch(point.epoch);
        if end.epoch != point.epoch || end.offset < point.offset {
            return Validity::Diverging(end);
        }
        Validity::Valid
    }

    /// Where this log must be cut so that it agrees with a leader whose records of `diverging.epoch` end there.
    pub(super) fn truncation_offset(&self, diverging: OffsetAndEpoch) -> i64 {
        if diverging.epoch == 0 {
            return diverging.offset.min(self.end_offset());
        }
        let local = self.end_offset_for_epoch(diverging.epoch);
        if local.epoch == diverging.epoch { local.offset.min(diverging.offset) } else { local.offset }
    }

    /// Cuts the tail. Never what is committed: the caller has made sure of it.
    pub(super) fn truncate_to(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        offset: i64,
    ) -> Result<(), LogError> {
        assert!(
            offset >= self.high_watermark(),
            "the metadata log is cut at {offset}, below its high watermark {}",
            self.high_watermark()
        );
        self.log.truncate_to(now, disk, codecs, offset)?;
        self.log.take_tickets();
        Ok(())
    }

    // --- snapshots

    pub(super) fn latest_snapshot(&self) -> Option<OffsetAndEpoch> {
        self.snapshots.last_key_value().map(|(id, _)| *id)
    }

    pub(super) fn earliest_snapshot(&self) -> Option<OffsetAndEpoch> {
        self.snapshots.first_key_value().map(|(id, _)| *id)
    }

    pub(super) fn snapshot(&self, id: OffsetAndEpoch) -> Option<SnapshotFile> {
        self.snapshots.get(&id).copied()
    }

    pub(super) fn snapshot_count(&self) -> usize {
        self.snapshots.len()
    }

    /// A snapshot is whole, durable and in place.
    pub(super) fn add_snapshot(&mut self, id: OffsetAndEpoch, file: SnapshotFile) {
        self.snapshots.insert(id, file);
    }

    /// Starts the log anew at the latest snapshot if that is beyond the log's end. Whether it did.
    pub(super) fn truncate_to_latest_snapshot(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
    ) -> Result<bool, LogError> {
        let Some(latest) = self.latest_snapshot() else { return Ok(false) };
        let last_epoch = self.log.latest_epoch().unwrap_or(0);
        let beyond =
            latest.epoch > last_epoch || (latest.epoch == last_epoch && latest.offset > self.end_offset());
        if !beyond {
            return Ok(false);
        }
        self.log.truncate_fully_and_start_at(now, disk, latest.offset)?;
        self.log.update_high_watermark(latest.offset);
        self.log.take_tickets();
        self.forget_snapshots_before(disk, latest);
        Ok(true)
    }

    /// Deletes what is oldest, snapshot by snapshot, while the log and its snapshots are larger or older than allowed.
    /// The last snapshot stays (`metadata.max.retention.bytes`, `.ms`). Whether anything was deleted.
    pub(super) fn clean(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        max_bytes: i64,
        max_ms: i64,
    ) -> Result<bool, LogError> {
        let mut cleaned = false;
        while let Some((first, next)) = self.two_oldest_snapshots() {
            let snapshots: u64 = self.snapshots.values().map(|file| file.size).sum();
            let too_large = max_bytes >= 0 && (self.log.size_bytes() + snapshots) as i64 > max_bytes;
            let age = now.wall_ms - self.snapshots[&first].last_timestamp;
            let too_old = max_ms >= 0 && age > max_ms;
            if !(too_large || too_old) || !self.delete_before_snapshot(now, disk, codecs, next)? {
                break;
            }
            cleaned = true;
        }
        Ok(cleaned)
    }

    /// Makes a snapshot the log's beginning: deletes segments that lie below it, and older snapshots.
    pub(super) fn delete_before_snapshot(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        id: OffsetAndEpoch,
    ) -> Result<bool, LogError> {
        assert!(self.snapshots.contains_key(&id), "snapshot {id:?} is not there");
        if self.start_offset() >= id.offset || id.offset > self.high_watermark() {
            return Ok(false);
        }
        self.log.increment_log_start_offset(disk, id.offset);
        self.log.delete_old_segments(now, disk, codecs)?;
        self.log.take_tickets();
        self.forget_snapshots_before(disk, id);
        Ok(true)
    }

    fn two_oldest_snapshots(&self) -> Option<(OffsetAndEpoch, OffsetAndEpoch)> {
        let mut ids = self.snapshots.keys();
        Some((*ids.next()?, *ids.next()?))
    }

    fn forget_snapshots_before(&mut self, disk: &mut dyn Disk, id: OffsetAndEpoch) {
        let keep = self.snapshots.split_off(&id);
        for old in core::mem::replace(&mut self.snapshots, keep).into_keys() {
            // A file that stays behind is removed when the log is opened next.
            let _ = disk.remove(&SnapshotName::whole(old).path(self.dir()));
        }
    }

    /// Remembers the snapshots that are whole and removes the others. If the log begins above 0, a snapshot must
    /// cover what is below.
    fn recover_snapshots(&mut self, disk: &mut dyn Disk, codecs: &dyn Codecs) -> Result<(), LogError> {
        let dir = self.dir().to_string();
        let error = |error| LogError::Disk { path: dir.clone(), error };
        let names: Vec<String> = disk.list(&dir).map_err(error)?;
        for text in names {
            let Some(name) = SnapshotName::parse(&text) else { continue };
            let path = format!("{dir}/{text}");
            if name.partial || name.deleted || name.id.offset < self.start_offset() {
                disk.remove(&path).map_err(error)?;
                continue;
            }
            let file = snapshot::describe(disk, codecs, &path)
                .map_err(|why| LogError::Malformed { path: path.clone(), why })?;
            self.snapshots.insert(name.id, file);
        }
        let covered = self.latest_snapshot().is_some_and(|id| id.offset >= self.start_offset());
        if self.start_offset() > 0 && !covered {
            return Err(LogError::Malformed {
                path: dir,
                why: format!(
                    "there must be a snapshot at an offset larger then the current log start offset {}, but the \
                     latest snapshot is {:?}",
                    self.start_offset(),
                    self.latest_snapshot()
                ),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemDisk;
    use codecs::StdCodecs;
    use wire::batch::{ControlRecord, control_batch};
    use wire::records::SnapshotFooterRecord;

    /// A log drawn as the epochs of its records, one digit each: `1122` ends at 4.
    fn drawn(epochs: &str) -> (MetadataLog, MemDisk) {
        let mut disk = MemDisk::new();
        disk.mkdir("data").unwrap();
        let now = Now::default();
        let config = LogConfig::default();
        let (log, _) = Log::open("data/log-0", config, LoadState::NEW, now, &mut disk, &StdCodecs).unwrap();
        let mut log = MetadataLog { log, snapshots: BTreeMap::new() };
        for (offset, epoch) in epochs.bytes().enumerate() {
            let record = ControlRecord::SnapshotFooter(SnapshotFooterRecord { version: 0 });
            let epoch = i32::from(epoch - b'0');
            let batch = control_batch(&StdCodecs, offset as i64, epoch, 0, &[record]).unwrap();
            log.append_as_leader(now, &mut disk, &StdCodecs, &batch.into(), epoch).unwrap();
        }
        (log, disk)
    }

    #[test]
    fn a_follower_comes_to_agree_with_its_leader() {
        // The leader's log, the follower's log, and where the follower ends after each truncation.
        let cases: &[(&str, &str, &[i64])] = &[
            ("1122", "1122", &[]),
            ("1122", "11", &[]),
            ("1122", "", &[]),
            ("11", "1111", &[2]),
            ("1133", "1122", &[2]),
            ("1144", "112233", &[2]),
            ("1114", "11222", &[2]),
            ("112244", "1111333", &[4, 2]),
            ("4", "123", &[0]),
            ("11", "1122", &[2]),
        ];
        for (leader, follower, want) in cases {
            let (leads, _) = drawn(leader);
            let (mut follows, mut disk) = drawn(follower);
            let mut cuts = Vec::new();
            loop {
                match leads.validate(follows.end()) {
                    Validity::Valid => break,
                    Validity::Diverging(point) => {
                        let to = follows.truncation_offset(point);
                        assert!(
                            to < follows.end_offset(),
                            "{leader} {follower}: nothing is cut at {point:?}"
                        );
                        follows.truncate_to(Now::default(), &mut disk, &StdCodecs, to).unwrap();
                        cuts.push(to);
                    }
                    Validity::Snapshot(id) => panic!("there is no snapshot {id:?}"),
                }
            }
            assert_eq!(cuts, *want, "leader {leader}, follower {follower}");
            let end = follows.end_offset() as usize;
            assert_eq!(&leader[..end], &follower[..end], "they agree");
        }
    }

    #[test]
    fn who_is_before_the_log_gets_a_snapshot() {
        let (mut log, mut disk) = drawn("112233");
        let now = Now::default();
        let file = SnapshotFile { size: 1, last_timestamp: 0 };
        let (first, second) = (OffsetAndEpoch::new(3, 2), OffsetAndEpoch::new(5, 3));
        log.add_snapshot(first, file);
        log.add_snapshot(second, file);
        log.update_high_watermark(6);
        assert!(log.delete_before_snapshot(now, &mut disk, &StdCodecs, first).unwrap());
        let cases = [
            (OffsetAndEpoch::new(2, 1), Validity::Snapshot(second)),
            (OffsetAndEpoch::new(3, 1), Validity::Snapshot(second)),
            (OffsetAndEpoch::new(3, 2), Validity::Valid),
            (OffsetAndEpoch::new(4, 2), Validity::Valid),
            (OffsetAndEpoch::new(4, 1), Validity::Snapshot(second)),
            (OffsetAndEpoch::new(5, 2), Validity::Diverging(OffsetAndEpoch::new(4, 2))),
            (OffsetAndEpoch::new(6, 3), Validity::Valid),
            (OffsetAndEpoch::new(7, 3), Validity::Diverging(OffsetAndEpoch::new(6, 3))),
            (OffsetAndEpoch::new(6, 4), Validity::Diverging(OffsetAndEpoch::new(6, 3))),
        ];
        for (point, want) in cases {
            assert_eq!(log.validate(point), want, "{point:?}");
        }
    }
}

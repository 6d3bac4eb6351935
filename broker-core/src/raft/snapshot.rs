//! Snapshots of the metadata: their files, writing and loading them, and fetching one from the leader (KIP-630).
//!
//! `OFFSET20-EPOCH10.checkpoint` holds the state up to OFFSET as batches: a header (a control batch, with the voters
//! if kraft.version is 1), the records, a footer. While it is made its name ends in `.part`; it is flushed before it
//! gets its own name, and that name is durable before the snapshot is used: before a follower drops its log for it,
//! before the log below it is deleted, before anybody is told of it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use wire::batch::{BatchBuilder, BatchOptions, ControlRecord, HEADER_LEN, control_batch};
use wire::drive::{Instant, Now};
use wire::error::ErrorCode;
use wire::records::{MetadataRecord, SnapshotFooterRecord, SnapshotHeaderRecord};
use wire::{Codecs, Rope};

use super::log::{MAX_BATCH_BYTES, SnapshotFile, Validity};
use super::records::{
    Content, encode_record, kraft_version, read_batches, read_control_records, voters_record,
};
use super::rpc::{FetchSnapshot, Response, SnapshotChunk, Standing};
use super::state::{OffsetAndEpoch, Role};
use super::voters::VoterSet;
use super::{CLEAN_INTERVAL_MS, Io, METADATA_VERSION, Raft, SnapshotError};
use crate::ctx::Ctx;
use crate::disk::{Disk, DiskError, Ticket};
use crate::event::Event;

/// The name of a snapshot's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SnapshotName {
    pub(super) id: OffsetAndEpoch,
    pub(super) partial: bool,
    pub(super) deleted: bool,
}

impl SnapshotName {
    pub(super) fn whole(id: OffsetAndEpoch) -> SnapshotName {
        SnapshotName { id, partial: false, deleted: false }
    }

    fn part(id: OffsetAndEpoch) -> SnapshotName {
        SnapshotName { partial: true, ..SnapshotName::whole(id) }
    }

    /// Reads a name; names of other files are none. Kafka puts a random number before `.part`.
    pub(super) fn parse(name: &str) -> Option<SnapshotName> {
        let (stem, rest) = name.split_once(".checkpoint").or_else(|| {
            let (stem, _) = name.strip_suffix(".checkpoint.part")?.rsplit_once('-')?;
            Some((stem, ".part"))
        })?;
        let (partial, deleted) = match rest {
            "" => (false, false),
            ".deleted" => (false, true),
            part if part.ends_with(".part") => (true, false),
            _ => return None,
        };
        let (offset, epoch) = stem.split_once('-')?;
        let digits = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(offset, 20) || !digits(epoch.get(..10)?, 10) {
            return None;
        }
        let id = OffsetAndEpoch::new(offset.parse().ok()?, epoch[..10].parse().ok()?);
        let numbered = epoch[10..].strip_prefix('-').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        (epoch.len() == 10 || (partial && numbered)).then_some(SnapshotName { id, partial, deleted })
    }

    pub(super) fn path(&self, dir: &str) -> String {
        let suffix = if self.partial {
            ".part"
        } else if self.deleted {
            ".deleted"
        } else {
            ""
        };
        format!("{dir}/{:020}-{:010}.checkpoint{suffix}", self.id.offset, self.id.epoch)
    }
}

/// A snapshot's content.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) last_timestamp: i64,
    pub(super) records: Vec<MetadataRecord>,
}

/// The bytes of a snapshot's file, as the disk holds them.
pub(super) fn read_file(disk: &mut dyn Disk, path: &str) -> Result<Rope, DiskError> {
    let file = disk.open(path, false)?;
    let mut rope = Rope::new();
    let read = disk.len(file).and_then(|len| disk.read(file, 0, len as usize, &mut rope));
    disk.close(file);
    read.map(|()| rope)
}

/// Reads a whole snapshot. It must have its header and its footer.
pub(super) fn load(disk: &mut dyn Disk, codecs: &dyn Codecs, path: &str) -> Result<Loaded, String> {
    let bytes = read_file(disk, path).map_err(|error| error.to_string())?;
    let mut loaded = Loaded { last_timestamp: -1, records: Vec::new() };
    let (mut header, mut footer) = (false, false);
    read_batches(&bytes, codecs, |batch| {
        match batch.content {
            Content::Data(records) => loaded.records.extend(records),
            Content::Control(control) => {
                for record in control {
                    match record {
                        ControlRecord::SnapshotHeader(it) => {
                            header = true;
                            loaded.last_timestamp = it.last_contained_log_timestamp;
                        }
                        ControlRecord::SnapshotFooter(_) => footer = true,
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    match (header, footer) {
        (true, true) => Ok(loaded),
        (false, _) => Err("the snapshot has no header".to_string()),
        (true, false) => Err("the snapshot has no footer".to_string()),
    }
}

/// Size and time of a snapshot that is found when the log is opened.
pub(super) fn describe(disk: &mut dyn Disk, codecs: &dyn Codecs, path: &str) -> Result<SnapshotFile, String> {
    let bytes = read_file(disk, path).map_err(|error| error.to_string())?;
    let mut last_timestamp = -1;
    read_control_records(&bytes, codecs, |_, record| {
        if let ControlRecord::SnapshotHeader(header) = record {
            last_timestamp = header.last_contained_log_timestamp;
        }
    })
    .map_err(|error| error.to_string())?;
    Ok(SnapshotFile { size: bytes.len() as u64, last_timestamp })
}

/// The batches of a snapshot.
pub(super) fn build(
    codecs: &dyn Codecs,
    epoch: i32,
    created_ms: i64,
    last_timestamp: i64,
    voters: Option<(i16, &VoterSet)>,
    records: &[MetadataRecord],
) -> Vec<Bytes> {
    let header = SnapshotHeaderRecord { version: 0, last_contained_log_timestamp: last_timestamp };
    let mut control = alloc::vec![ControlRecord::SnapshotHeader(header)];
    if let Some((version, voters)) = voters {
        control.push(kraft_version(version));
        control.push(voters_record(voters));
    }
    let mut base_offset = control.len() as i64;
    let whole = "an uncompressed batch below the limit";
    let mut batches = alloc::vec![control_batch(codecs, 0, epoch, created_ms, &control).expect(whole)];
    let mut builder = BatchBuilder::with_capacity(4_096);
    let mut complete = |builder: BatchBuilder, base_offset: &mut i64| {
        if !builder.is_empty() {
            let count = i64::from(builder.count());
            let options =
                BatchOptions { base_offset: *base_offset, leader_epoch: epoch, ..BatchOptions::default() };
            batches.push(builder.finish(codecs, &options).expect(whole));
            *base_offset += count;
        }
    };
    for record in records {
        let value = encode_record(record, METADATA_VERSION);
        let size = BatchBuilder::size_upper_bound(None, Some(&value), &[]) - HEADER_LEN;
        if builder.len() + size > MAX_BATCH_BYTES {
            complete(core::mem::replace(&mut builder, BatchBuilder::with_capacity(4_096)), &mut base_offset);
        }
        builder.append(created_ms, None, Some(&value), &[]);
    }
    complete(builder, &mut base_offset);
    let footer = ControlRecord::SnapshotFooter(SnapshotFooterRecord { version: 0 });
    batches.push(control_batch(codecs, base_offset, epoch, created_ms, &[footer]).expect(whole));
    batches
}

/// How far a snapshot's file is on its way to be durable under its own name.
#[derive(Clone, Copy, Debug)]
enum Seal {
    /// Its content is being flushed.
    Content(Ticket),
    /// Its name is.
    Name(Ticket),
}

impl Seal {
    fn ticket(self) -> Ticket {
        match self {
            Seal::Content(ticket) | Seal::Name(ticket) => ticket,
        }
    }
}

/// What a finished sync made of a file that is being sealed.
#[derive(Clone, Copy, Debug)]
enum Sealed {
    /// There is this step to come.
    Not(Seal),
    /// It is durable under its own name.
    Durable,
    /// The disk failed.
    Failed,
}

/// A snapshot of the own state that is being made durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct WritingSnapshot {
    id: OffsetAndEpoch,
    file: SnapshotFile,
    seal: Seal,
}

/// A snapshot that is being fetched from the leader.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchingSnapshot {
    pub(super) id: OffsetAndEpoch,
    /// So many bytes are here.
    pub(super) size: u64,
    seal: Option<Seal>,
}

impl FetchingSnapshot {
    /// Whether all is here and is being made durable.
    pub(super) fn is_sealing(&self) -> bool {
        self.seal.is_some()
    }
}

fn append_file(disk: &mut dyn Disk, path: &str, pieces: &[Bytes], anew: bool) -> Result<(), DiskError> {
    if anew && disk.exists(path) {
        disk.remove(path)?;
    }
    let file = disk.open(path, true)?;
    let appended = disk.append(file, pieces);
    disk.close(file);
    appended
}

fn sync_file(disk: &mut dyn Disk, path: &str) -> Result<Ticket, DiskError> {
    let file = disk.open(path, false)?;
    let ticket = disk.sync(file);
    disk.close(file);
    Ok(ticket)
}

/// Writing snapshots of the own state.
impl Raft {
    /// Whether the state should be written now: enough was committed since the last snapshot, or enough time passed.
    pub fn snapshot_needed(&self, now: Now) -> bool {
        let old = self
            .config
            .max_snapshot_interval
            .is_some_and(|interval| now.mono.since(self.snapshot_clock) >= interval);
        let due = self.bytes_since_snapshot >= self.config.max_bytes_between_snapshots
            || (old && self.bytes_since_snapshot > 0);
        due && self.snapshot.is_none() && !self.failed
    }

    /// Writes a snapshot of the state at `end_offset`, up to which everything was signalled as committed; `epoch` is
    /// that of the last record before it. It is used once it is durable.
    pub fn write_snapshot(
        &mut self,
        ctx: &mut Ctx<'_>,
        end_offset: i64,
        epoch: i32,
        records: &[MetadataRecord],
    ) -> Result<(), SnapshotError> {
        let mut io = Io::of(ctx);
        let begun = self.begin_writing_snapshot(&mut io, OffsetAndEpoch::new(end_offset, epoch), records);
        self.update_deadline(ctx.now.mono);
        begun
    }

    pub(super) fn begin_writing_snapshot(
        &mut self,
        io: &mut Io<'_>,
        id: OffsetAndEpoch,
        records: &[MetadataRecord],
    ) -> Result<(), SnapshotError> {
        let stale = self.log.latest_snapshot().is_some_and(|latest| latest.offset >= id.offset);
        if self.snapshot.is_some() || stale || id.offset < self.log.start_offset() || self.failed {
            return Err(SnapshotError::NotNeeded);
        }
        assert!(
            self.next_committed.is_some_and(|next| id.offset <= next),
            "a snapshot at {} holds what was not signalled as committed",
            id.offset
        );
        assert!(self.log.validate(id) == Validity::Valid, "snapshot {id:?} does not fit the log");
        let kraft_version = self.quorum.voters.kraft_version_at(id.offset - 1);
        let voters = self.quorum.voters.set_at(id.offset - 1).filter(|_| kraft_version > 0);
        let last_timestamp = self.last_committed_timestamp;
        let batches = build(
            io.codecs,
            id.epoch,
            io.now.wall_ms,
            last_timestamp,
            voters.map(|voters| (kraft_version, voters)),
            records,
        );
        let size = batches.iter().map(|batch| batch.len() as u64).sum();
        let part = SnapshotName::part(id).path(self.log.dir());
        let written = append_file(io.disk, &part, &batches, true).and_then(|()| sync_file(io.disk, &part));
        match written {
            Ok(ticket) => {
                let file = SnapshotFile { size, last_timestamp };
                self.snapshot = Some(WritingSnapshot { id, file, seal: Seal::Content(ticket) });
                self.snapshot_counters_reset(io.now.mono);
                Ok(())
            }
            Err(error) => {
                self.fail(format!("{part}: {error}"));
                Err(SnapshotError::Disk(error))
            }
        }
    }

    pub(super) fn snapshot_counters_reset(&mut self, now: Instant) {
        self.bytes_since_snapshot = 0;
        self.snapshot_clock = now;
    }

    /// A sync ended: takes it if a snapshot waits for it.
    pub(super) fn snapshot_synced(
        &mut self,
        io: &mut Io<'_>,
        ticket: Ticket,
        result: Result<(), DiskError>,
    ) -> bool {
        if let Some(writing) = self.snapshot.filter(|writing| writing.seal.ticket() == ticket) {
            match self.seal_further(io, writing.id, writing.seal, result) {
                Sealed::Not(seal) => self.snapshot = Some(WritingSnapshot { seal, ..writing }),
                Sealed::Durable => self.snapshot_written(io, writing),
                Sealed::Failed => self.snapshot = None,
            }
            return true;
        }
        let Role::Follower { fetching_snapshot: Some(fetching), .. } = &self.quorum.role else {
            return false;
        };
        let (id, size) = (fetching.id, fetching.size);
        let Some(seal) = fetching.seal.filter(|seal| seal.ticket() == ticket) else { return false };
        let further = self.seal_further(io, id, seal, result);
        if let Role::Follower { fetching_snapshot, .. } = &mut self.quorum.role {
            *fetching_snapshot = match further {
                Sealed::Not(seal) => Some(FetchingSnapshot { id, size, seal: Some(seal) }),
                Sealed::Durable | Sealed::Failed => None,
            };
        }
        if matches!(further, Sealed::Durable) {
            self.install_snapshot(io, id, size);
        }
        true
    }

    /// Takes the next step of making a file durable. An error is fatal.
    fn seal_further(
        &mut self,
        io: &mut Io<'_>,
        id: OffsetAndEpoch,
        seal: Seal,
        result: Result<(), DiskError>,
    ) -> Sealed {
        let (part, whole) =
            (SnapshotName::part(id).path(self.log.dir()), SnapshotName::whole(id).path(self.log.dir()));
        let renamed = match (result, seal) {
            (Ok(()), Seal::Name(_)) => return Sealed::Durable,
            (Ok(()), Seal::Content(_)) => io.disk.rename(&part, &whole),
            (Err(error), _) => Err(error),
        };
        match renamed {
            Ok(()) => Sealed::Not(Seal::Name(io.disk.sync_dir(self.log.dir()))),
            Err(error) => {
                self.fail(format!("{whole}: {error}"));
                Sealed::Failed
            }
        }
    }

    fn snapshot_written(&mut self, io: &mut Io<'_>, writing: WritingSnapshot) {
        self.snapshot = None;
        self.log.add_snapshot(writing.id, writing.file);
        let OffsetAndEpoch { offset: end_offset, epoch } = writing.id;
        io.out.event(|| Event::SnapshotWritten { end_offset, epoch });
        if self.log.snapshot_count() > 1 {
            self.next_clean.get_or_insert(io.now.mono.plus_millis(CLEAN_INTERVAL_MS));
        }
    }

    /// Deletes what retention allows, every minute while there is more than one snapshot.
    pub(super) fn maybe_clean(&mut self, io: &mut Io<'_>) {
        if self.next_clean.is_none_or(|at| io.now.mono < at) {
            return;
        }
        let cleaned =
            self.log.clean(io.now, io.disk, io.codecs, self.config.retention_bytes, self.config.retention_ms);
        match cleaned {
            Ok(true) => self.quorum.voters.truncate_old(self.log.start_offset()),
            Ok(false) => {}
            Err(error) => self.fail(error.to_string()),
        }
        let more = self.log.snapshot_count() > 1;
        self.next_clean = more.then(|| io.now.mono.plus_millis(CLEAN_INTERVAL_MS));
    }
}

/// Giving a snapshot to a replica, and fetching one.
impl Raft {
    pub(super) fn answer_fetch_snapshot(&mut self, io: &mut Io<'_>, fetch: &FetchSnapshot) -> Response {
        if let Some(error) = self.refuse_leader_only(fetch.epoch) {
            return self.no_chunk(error);
        }
        // A bootstrap snapshot is not replicated: what it holds is in the log.
        let known = self.log.snapshot(fetch.snapshot).filter(|_| fetch.snapshot.offset > 0);
        let Some(file) = known else { return self.no_chunk(ErrorCode::SNAPSHOT_NOT_FOUND) };
        if fetch.position < 0 || fetch.position as u64 >= file.size {
            return self.no_chunk(ErrorCode::POSITION_OUT_OF_RANGE);
        }
        let len = (file.size - fetch.position as u64).min(fetch.max_bytes.max(1) as u64) as usize;
        let path = SnapshotName::whole(fetch.snapshot).path(self.log.dir());
        let mut bytes = Rope::new();
        let read = io.disk.open(&path, false).and_then(|opened| {
            let read = io.disk.read(opened, fetch.position as u64, len, &mut bytes);
            io.disk.close(opened);
            read
        });
        if let Err(error) = read {
            self.warn(io, || format!("{path}: {error}"));
            return self.no_chunk(ErrorCode::SNAPSHOT_NOT_FOUND);
        }
        if let Role::Leader(leader) = &mut self.quorum.role {
            leader.heard_from(fetch.replica, io.now.mono);
        }
        let chunk = SnapshotChunk {
            snapshot: Some(fetch.snapshot),
            size: file.size as i64,
            position: fetch.position,
            bytes,
        };
        Response::FetchSnapshot(self.standing(ErrorCode::NONE), chunk)
    }

    fn no_chunk(&self, error: ErrorCode) -> Response {
        let chunk = SnapshotChunk { snapshot: None, size: 0, position: 0, bytes: Rope::new() };
        Response::FetchSnapshot(self.standing(error), chunk)
    }

    /// The leader's log begins after this one ends: fetches its snapshot.
    pub(super) fn begin_fetching_snapshot(&mut self, io: &mut Io<'_>, id: OffsetAndEpoch) -> bool {
        if id.epoch < 0 || id.offset <= 0 {
            self.warn(io, || format!("the leader sent the snapshot id {id:?}"));
            return false;
        }
        if self.log.snapshot(id).is_some() {
            self.warn(io, || format!("the leader sent the snapshot id {id:?}, which is already stored"));
            return false;
        }
        let part = SnapshotName::part(id).path(self.log.dir());
        if let Err(error) = append_file(io.disk, &part, &[], true) {
            self.fail(format!("{part}: {error}"));
            return false;
        }
        if let Role::Follower { fetching_snapshot, .. } = &mut self.quorum.role {
            *fetching_snapshot = Some(FetchingSnapshot { id, size: 0, seal: None });
        }
        true
    }

    pub(super) fn fetch_snapshot_answered(
        &mut self,
        io: &mut Io<'_>,
        standing: Standing,
        chunk: SnapshotChunk,
    ) -> bool {
        if let Some(useful) = self.learn_fetched(io, standing) {
            return useful;
        }
        let Role::Follower { fetching_snapshot, .. } = &mut self.quorum.role else { return false };
        let Some(fetching) = fetching_snapshot.filter(|fetching| !fetching.is_sealing()) else {
            return false;
        };
        let Some(id) = chunk.snapshot else {
            // The leader has deleted it since: a fetch will bring the id of another.
            *fetching_snapshot = None;
            self.leader_answered(io);
            return true;
        };
        let fits = id == fetching.id
            && chunk.position == fetching.size as i64
            && !chunk.bytes.is_empty()
            && chunk.position.checked_add(chunk.bytes.len() as i64).is_some_and(|end| end <= chunk.size);
        if !fits {
            *fetching_snapshot = None;
            let size = fetching.size;
            self.warn(io, || format!("bytes {} of snapshot {id:?} came, not {size}", chunk.position));
            return false;
        }
        let part = SnapshotName::part(id).path(self.log.dir());
        let size = fetching.size + chunk.bytes.len() as u64;
        let whole = size as i64 == chunk.size;
        let written = append_file(io.disk, &part, chunk.bytes.pieces(), false)
            .and_then(|()| if whole { sync_file(io.disk, &part).map(Some) } else { Ok(None) });
        match written {
            Ok(ticket) => {
                if let Role::Follower { fetching_snapshot, .. } = &mut self.quorum.role {
                    *fetching_snapshot = Some(FetchingSnapshot { id, size, seal: ticket.map(Seal::Content) });
                }
                self.leader_answered(io);
                true
            }
            Err(error) => {
                self.fail(format!("{part}: {error}"));
                false
            }
        }
    }

    /// A fetched snapshot is durable: the log starts anew from it.
    fn install_snapshot(&mut self, io: &mut Io<'_>, id: OffsetAndEpoch, size: u64) {
        let path = SnapshotName::whole(id).path(self.log.dir());
        let read = read_file(io.disk, &path).map_err(|error| error.to_string()).and_then(|bytes| {
            let mut found = Vec::new();
            let read = read_control_records(&bytes, io.codecs, |_, record| found.push(record));
            read.map(|()| found).map_err(|error| error.to_string())
        });
        let control = match read {
            Ok(control) => control,
            Err(why) => return self.fail(format!("{path}: {why}")),
        };
        let mut last_timestamp = -1;
        for record in &control {
            if let ControlRecord::SnapshotHeader(header) = record {
                last_timestamp = header.last_contained_log_timestamp;
            }
        }
        let from = self.log.end_offset();
        self.log.add_snapshot(id, SnapshotFile { size, last_timestamp });
        match self.log.truncate_to_latest_snapshot(io.now, io.disk) {
            Ok(true) => {
                self.quorum.voters.clear();
                control.iter().for_each(|record| self.quorum.voters.learn(id.offset - 1, record));
                self.tell_of_voters(io);
                if from > id.offset {
                    io.out.event(|| Event::MetadataTruncated { from, to: id.offset });
                }
                self.log.flush(io.now, io.disk);
                if let Some(before) = self.quorum.high_watermark.filter(|before| *before > id.offset) {
                    return self.fail(format!("snapshot {id:?} ends below the high watermark {before}"));
                }
                self.advance_high_watermark(io, id.offset);
                self.leader_answered(io);
            }
            Ok(false) => {
                self.fail(format!("Full log truncation expected but didn't happen. Snapshot of {id:?}"))
            }
            Err(error) => self.fail(error.to_string()),
        }
    }
}

//! Opening a log: Kafka's `LogLoader`.
//!
//! After a clean stop the files are taken as they are. After any other stop the segment that holds the recovery point
//! and all later ones are read batch by batch, their indexes are rebuilt, and the log ends before the first batch that
//! is not valid; segments behind it are removed. What lies below the recovery point was synced and is not read again.
//!
//! Three things differ from Kafka, all towards safety: leader epochs that contradict the batches that were read give
//! way to them; a batch whose offset goes back cuts the log there and not
//! the whole segment, and a last segment that does not end with a whole batch, or whose indexes point beyond its end,
//! is recovered even when the stop claims to have been clean.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use wire::batch::{BatchError, BatchHeader, HeaderIter};
use wire::drive::Now;
use wire::{Codecs, Rope};

use super::batch::BatchMeta;
use super::epoch_cache::EpochCache;
use super::flush::Flusher;
use super::producer::Producers;
use super::segment::{Segment, at, path};
use super::tail::{Tail, TailBatch};
use super::{LoadState, Log, LogConfig, LogError, ReadError, Recovered, checkpoint, remove_if_exists};
use crate::disk::{Disk, DiskError};
use crate::mutant::Mutant;

/// What a record of before Kafka 0.11 has before its key and value (`LegacyRecord.RECORD_OVERHEAD_V0`).
const OLD_RECORD_OVERHEAD: i32 = 14;

/// The base offset in a file's name, `00000000000000000042.log.swap`: 42.
fn base_of(name: &str) -> Option<i64> {
    let (digits, rest) = name.split_at_checked(20)?;
    if !rest.starts_with('.') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

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
        let created = !disk.exists(dir);
        if created {
            disk.mkdir(dir).map_err(at(dir))?;
        }
        let mut loader = Loader {
            dir,
            config: &config,
            state,
            now,
            disk,
            codecs,
            recovered: Recovered { created, ..Recovered::default() },
            segments: Vec::new(),
            epochs: EpochCache::default(),
            epochs_changed: false,
            unindexed: None,
        };
        loader.remove_leftovers()?;
        loader.epochs = loader.read_epochs()?;
        loader.open_segments()?;
        if !state.clean {
            loader.recover()?;
        }
        let end = loader.end()?;
        let Loader { segments, epochs, epochs_changed, recovered, unindexed, .. } = loader;

        let log_start_offset = state.log_start_offset.max(segments[0].base);
        let mut log = Log {
            dir: dir.into(),
            segments,
            next_offset: end.next_offset,
            log_start_offset,
            high_watermark: log_start_offset,
            recovery_point: if state.clean {
                end.next_offset
            } else {
                state.recovery_point.min(end.next_offset)
            },
            epochs,
            tail: end.tail,
            producers: Producers::new(config.mutants),
            flusher: Flusher::new(now.mono, created, created || !state.clean),
            deletions: VecDeque::new(),
            cleaned_to: None,
            cleaning: None,
            config,
        };
        let changed =
            log.epochs.truncate_from_end(end.next_offset) | log.epochs.truncate_from_start(log_start_offset);
        log.epochs_cut(disk, changed || epochs_changed);
        log.update_high_watermark(state.high_watermark);
        log.reload_producers(disk, codecs, unindexed)?;
        if log.config.mutants.has(Mutant::ProducerStateLost) {
            log.producers.clear(end.next_offset);
        }
        log.check_invariants();
        Ok((log, recovered))
    }
}

/// Where a log ends, and its last batches.
struct End {
    next_offset: i64,
    tail: Tail,
}

/// Where the valid part of a segment ends.
struct SegmentEnd {
    next_offset: i64,
    /// The largest leader epoch up to there.
    epoch: i32,
    /// What came next was no valid batch.
    invalid: bool,
}

struct Loader<'a> {
    dir: &'a str,
    config: &'a LogConfig,
    state: LoadState,
    now: Now,
    disk: &'a mut dyn Disk,
    codecs: &'a dyn Codecs,
    recovered: Recovered,
    segments: Vec<Segment>,
    epochs: EpochCache,
    epochs_changed: bool,
    /// The base of the first segment whose transaction index was emptied with its other indexes.
    unindexed: Option<i64>,
}

impl Loader<'_> {
    fn full(&self, name: &str) -> String {
        alloc::format!("{}/{name}", self.dir)
    }

    fn remove(&mut self, name: &str) -> Result<(), LogError> {
        let path = self.full(name);
        remove_if_exists(self.disk, &path)
    }

    /// Removes what interrupted deletions and cleanings left, and completes interrupted swaps.
    fn remove_leftovers(&mut self) -> Result<(), LogError> {
        let names = self.disk.list(self.dir).map_err(at(self.dir))?;
        let mut first_cleaned = i64::MAX;
        for name in &names {
            // Snapshots of the metadata log are the quorum's to delete.
            if name.ends_with(".deleted") && !name.ends_with(".checkpoint.deleted") {
                self.remove(name)?;
            } else if name.ends_with(".cleaned") {
                first_cleaned = first_cleaned.min(base_of(name).unwrap_or(i64::MAX));
                self.remove(name)?;
            }
        }
        let mut swaps = Vec::new();
        for name in names.iter().filter(|name| name.ends_with(".swap")) {
            match base_of(name) {
                // Of a split that had not written all of its parts.
                Some(base) if base >= first_cleaned => self.remove(name)?,
                Some(_) => swaps.push(name.as_str()),
                None => {}
            }
        }
        if swaps.is_empty() { Ok(()) } else { self.adopt(&names, &swaps) }
    }

    /// Renames `.swap` files to what they replace, after removing the segments that they cover.
    fn adopt(&mut self, names: &[String], swaps: &[&str]) -> Result<(), LogError> {
        let (mut from, mut to) = (i64::MAX, i64::MIN);
        for name in swaps.iter().filter(|name| name.ends_with(".log.swap")) {
            let base = base_of(name).expect("only names with a base offset are kept");
            from = from.min(base);
            to = to.max(self.swap_end(name, base)?);
        }
        let covered = |name: &&String| {
            !name.ends_with(".swap") && base_of(name).is_some_and(|base| base >= from && base < to)
        };
        for name in names.iter().filter(covered) {
            self.remove(name)?;
        }
        for name in swaps {
            let path = self.full(name);
            let target = path.strip_suffix(".swap").expect("a .swap file");
            self.disk.rename(&path, target).map_err(at(&path))?;
        }
        Ok(())
    }

    /// The offset behind the last whole batch of a `.swap` log file.
    fn swap_end(&mut self, name: &str, base: i64) -> Result<i64, LogError> {
        let path = self.full(name);
        let bytes = Rope::from(self.disk.read_file(&path).map_err(at(&path))?);
        let headers = HeaderIter::new(&bytes).map_while(Result::ok);
        Ok(headers.last().map_or(base, |(_, header)| header.next_offset()))
    }

    fn read_epochs(&mut self) -> Result<EpochCache, LogError> {
        let path = self.full(checkpoint::LEADER_EPOCHS);
        match self.disk.read_file(&path) {
            Ok(bytes) => {
                let entries = checkpoint::parse_epochs(&bytes)
                    .map_err(|why| LogError::Malformed { path, why: why.into() })?;
                Ok(EpochCache::from_entries(entries))
            }
            Err(DiskError::NotFound) => Ok(EpochCache::default()),
            Err(error) => Err(at(&path)(error)),
        }
    }

    fn open_segments(&mut self) -> Result<(), LogError> {
        let names = self.disk.list(self.dir).map_err(at(self.dir))?;
        let has = |base: i64, ext: &str| names.binary_search(&alloc::format!("{base:020}.{ext}")).is_ok();
        for name in &names {
            let Some(base) = base_of(name) else { continue };
            let ext = &name[21..];
            if ["index", "timeindex", "txnindex"].contains(&ext) && !has(base, "log") {
                self.remove(name)?;
            } else if ext == "log" {
                let mut segment = Segment::open(self.disk, self.dir, base, self.now.wall_ms)?;
                if !has(base, "index") || !has(base, "timeindex") && segment.size > 0 {
                    self.recover_segment(&mut segment, -1, i64::MAX)?;
                }
                self.segments.push(segment);
            }
        }
        Ok(())
    }

    /// Reads every segment from the recovery point on; the first that must be cut is the last one.
    ///
    /// A truncation that had not reached the medium may leave segments that do not fit together: one that reaches into
    /// the next, or old ones behind a shorter one. All of it lies behind what was durable; a prefix without
    /// contradictions is kept.
    fn recover(&mut self) -> Result<(), LogError> {
        let mut first =
            self.segments.partition_point(|s| s.base <= self.state.recovery_point).saturating_sub(1);
        if first > 0 && self.reaches_into_next(first - 1)? {
            first -= 1;
        }
        if let Some(before) = first.checked_sub(1) {
            // It may have been cut at the recovery point, and the page cache alone knows it.
            self.segments[before].mark_dirty();
        }
        let mut epoch = -1;
        for i in first..self.segments.len() {
            let next_base = self.segments.get(i + 1).map_or(i64::MAX, |next| next.base);
            let mut segment = self.segments[i].clone();
            let end = self.recover_segment(&mut segment, epoch, next_base)?;
            self.segments[i] = segment;
            epoch = end.epoch;
            // Only compaction leaves gaps between segments.
            let gap = !self.config.compact && end.next_offset < next_base && next_base < i64::MAX;
            if end.invalid || gap {
                self.remove_segments_from(i + 1)?;
                break;
            }
        }
        Ok(())
    }

    /// Whether the last batches of a segment lie at or above the next one's base.
    fn reaches_into_next(&mut self, i: usize) -> Result<bool, LogError> {
        let (segment, limit) = (&self.segments[i], self.segments[i + 1].base);
        let start = segment.offsets.last().position;
        match segment.scan(self.disk, start, |header| header.last_offset() >= limit) {
            Ok(found) => Ok(found.is_some()),
            Err(ReadError::Disk(error)) => Err(at(&path(self.dir, segment.base, "log"))(error)),
            Err(_) => Ok(true),
        }
    }

    fn remove_segments_from(&mut self, first: usize) -> Result<(), LogError> {
        for segment in self.segments.split_off(first) {
            segment.close(self.disk);
            for ext in Segment::extensions() {
                remove_if_exists(self.disk, &path(self.dir, segment.base, ext))?;
            }
            self.recovered.segments_removed += 1;
        }
        Ok(())
    }

    /// Reads all batches of a segment that lie below `limit`, rebuilds its indexes, makes the epoch cache agree, and
    /// cuts the rest of the file.
    fn recover_segment(
        &mut self,
        segment: &mut Segment,
        epoch: i32,
        limit: i64,
    ) -> Result<SegmentEnd, LogError> {
        let log_path = path(self.dir, segment.base, "log");
        let on_disk = |error| at(&log_path)(error);
        segment.clear_indexes(self.disk).map_err(on_disk)?;
        self.unindexed = Some(self.unindexed.map_or(segment.base, |first| first.min(segment.base)));
        if self.config.mutants.has(Mutant::RecoveryDropsLastBatch) {
            self.drop_last_batch(segment)?;
        }
        let mut position = 0;
        let mut end = SegmentEnd { next_offset: segment.base, epoch, invalid: false };
        while position < segment.size {
            let Some(header) = self.valid_batch(segment, position, &end)? else {
                end.invalid = true;
                break;
            };
            let batch = BatchMeta::from(&header);
            if batch.last_offset >= limit {
                break;
            }
            segment.index(self.disk, self.config, position, &batch).map_err(on_disk)?;
            self.epochs_changed |= self.epochs.observe(batch.leader_epoch, batch.base_offset);
            position += batch.size;
            end.next_offset = batch.last_offset + 1;
            end.epoch = end.epoch.max(batch.leader_epoch);
        }
        let cut = segment.size - position;
        segment.cut_at(self.disk, position, self.now.wall_ms).map_err(on_disk)?;
        segment.become_inactive(self.disk).map_err(on_disk)?;
        segment.begin_index_interval();
        segment.mark_dirty();
        self.recovered.segments_recovered += 1;
        self.recovered.bytes_cut += u64::from(cut);
        Ok(end)
    }

    /// What a mutant does: a segment of more than one batch loses its last one.
    fn drop_last_batch(&mut self, segment: &mut Segment) -> Result<(), LogError> {
        let log_path = path(self.dir, segment.base, "log");
        let on_disk = |error| at(&log_path)(error);
        let (mut last, mut position) = (0, 0);
        while position < segment.size {
            let Ok(header) = segment.header_at(self.disk, position).map_err(on_disk)? else { break };
            last = position;
            position += BatchMeta::from(&header).size;
        }
        if last > 0 {
            segment.cut_at(self.disk, last, self.now.wall_ms).map_err(on_disk)?;
        }
        Ok(())
    }

    /// The batch at a position, if it is whole, its CRC is right, and its offset and leader epoch follow `end`.
    fn valid_batch(
        &mut self,
        segment: &Segment,
        position: u32,
        end: &SegmentEnd,
    ) -> Result<Option<BatchHeader>, LogError> {
        let dir = self.dir;
        let log_path = || path(dir, segment.base, "log");
        let failed = |error| at(&log_path())(error);
        let header = match segment.header_at(self.disk, position).map_err(failed)? {
            Ok(header) => header,
            // Not a torn batch but a log of before Kafka 0.11: nothing of it may be cut.
            Err(error @ BatchError::OldMagic(_))
                if position == 0 && self.is_old(segment).map_err(failed)? =>
            {
                return Err(LogError::Malformed { path: log_path(), why: alloc::format!("{error}") });
            }
            Err(_) => return Ok(None),
        };
        let relative = header.last_offset().saturating_sub(segment.base);
        let epoch = header.partition_leader_epoch;
        if header.base_offset < end.next_offset
            || header.last_offset_delta < 0
            || relative > i64::from(i32::MAX)
            || epoch >= 0 && epoch < end.epoch
        {
            return Ok(None);
        }
        let mut batch = Rope::new();
        let size = header.size_in_bytes();
        self.disk.read(segment.log, u64::from(position), size, &mut batch).map_err(failed)?;
        Ok(header.check_crc(&batch, self.codecs).is_ok().then_some(header))
    }

    /// Whether a segment begins with a record of before Kafka 0.11. Zeros, which a power loss leaves of sectors that were
    /// never written, look like one of format 0 but for their size, as Kafka sees it (`FileLogInputStream`).
    fn is_old(&mut self, segment: &Segment) -> Result<bool, DiskError> {
        let mut size = Rope::new();
        self.disk.read(segment.log, 8, 4, &mut size)?;
        let mut bytes = [0; 4];
        let there = size.len().min(4);
        size.copy_to(0, &mut bytes[..there]);
        Ok(i32::from_be_bytes(bytes) >= OLD_RECORD_OVERHEAD)
    }

    /// Finds the log's end, begins a segment if there is none, and drops all if the log shall start behind its end.
    fn end(&mut self) -> Result<End, LogError> {
        if let Some(last) = self.segments.last().cloned() {
            let end = match self.scan_end(&last)? {
                Some(end) => end,
                None => {
                    let mut last = last;
                    self.recover_segment(&mut last, -1, i64::MAX)?;
                    let end = self.scan_end(&last)?.expect("just recovered");
                    *self.segments.last_mut().expect("there is a last") = last;
                    end
                }
            };
            if end.next_offset >= self.state.log_start_offset {
                return Ok(end);
            }
            self.remove_segments_from(0)?;
            self.epochs_changed |= !self.epochs.entries().is_empty();
            self.epochs.clear();
        }
        let base = self.state.log_start_offset;
        self.segments.push(Segment::open(self.disk, self.dir, base, self.now.wall_ms)?);
        Ok(End { next_offset: base, tail: Tail::default() })
    }

    /// The batches behind the last index entry; `None` when the files of the last segment do not fit together.
    fn scan_end(&mut self, last: &Segment) -> Result<Option<End>, LogError> {
        let mut end = End { next_offset: last.base, tail: Tail::default() };
        let entry = last.offsets.last();
        let mut position = entry.position;
        let scanned = last.scan(self.disk, position, |header| {
            let batch = BatchMeta::from(header);
            end.tail.push(TailBatch { segment_base: last.base, position, batch });
            end.next_offset = batch.last_offset.saturating_add(1);
            position += batch.size;
            false
        });
        match scanned {
            Ok(_) => {}
            Err(ReadError::Disk(error)) => return Err(at(&path(self.dir, last.base, "log"))(error)),
            Err(_) => return Ok(None),
        }
        let indexed = entry.offset.max(last.times.last().offset);
        let fits = (last.base..end.next_offset).contains(&indexed) || last.size == 0 && indexed == last.base;
        let relative = end.next_offset - last.base;
        Ok((fits && relative <= i64::from(i32::MAX) + 1).then_some(end))
    }
}

//! A segment: a file of record batches, its offset index, its time index and its transaction index.

use alloc::string::String;
use bytes::Bytes;
use wire::batch::{BatchError, BatchHeader, HEADER_LEN};

use super::batch::BatchMeta;
use super::index::{OffsetIndex, TimeEntry, TimeIndex};
use super::txn_index::TxnIndex;
use super::{LogConfig, LogError, ReadError};
use crate::disk::{Disk, DiskError, FileId, Ticket};

/// A path in a log's directory: `DIR/00000000000000000042.log`.
pub(super) fn path(dir: &str, base: i64, ext: &str) -> String {
    alloc::format!("{dir}/{base:020}.{ext}")
}

/// Names the file in a disk's error.
pub(super) fn at(path: &str) -> impl FnOnce(DiskError) -> LogError + '_ {
    move |error| LogError::Disk { path: path.into(), error }
}

/// A segment with its files open.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub base: i64,
    pub log: FileId,
    pub size: u32,
    pub offsets: OffsetIndex,
    pub times: TimeIndex,
    pub txns: TxnIndex,
    /// The largest timestamp so far with the last offset of its batch; read from the time index at first.
    pub max_timestamp: TimeEntry,
    /// The largest timestamp of the first batch, once it is known: segments roll by age from here.
    first_timestamp: Option<i64>,
    pub created_ms: i64,
    pub modified_ms: i64,
    since_index_entry: u32,
    /// Written or cut since the last sync was begun.
    dirty: bool,
}

/// What rolls a segment when it is about to be appended to.
pub(super) struct RollParams {
    pub now_ms: i64,
    pub bytes: usize,
    pub max_timestamp: i64,
    pub last_offset: i64,
}

impl Segment {
    /// Opens the files, making those that are missing; a transaction index is made with its first entry.
    pub fn open(disk: &mut dyn Disk, dir: &str, base: i64, now_ms: i64) -> Result<Segment, LogError> {
        let mut segment = Segment::open_as(disk, dir, base, "", now_ms)?;
        segment.txns = TxnIndex::open(disk, dir, base)?;
        Ok(segment)
    }

    /// The same with a suffix behind each name, as of a segment that is being written by the cleaner; without a
    /// transaction index.
    pub fn open_as(
        disk: &mut dyn Disk,
        dir: &str,
        base: i64,
        suffix: &str,
        now_ms: i64,
    ) -> Result<Segment, LogError> {
        let path = |dir, base, ext: &str| path(dir, base, &alloc::format!("{ext}{suffix}"));
        let log_path = path(dir, base, "log");
        let log = disk.open(&log_path, true).map_err(at(&log_path))?;
        let len = disk.len(log).map_err(at(&log_path))?;
        let size = u32::try_from(len).ok().filter(|&size| size <= i32::MAX as u32).ok_or_else(|| {
            LogError::Malformed { path: log_path.clone(), why: alloc::format!("a segment of {len} bytes") }
        })?;
        let index_path = path(dir, base, "index");
        let offsets = OffsetIndex::open(disk, &index_path, base).map_err(at(&index_path))?;
        let time_path = path(dir, base, "timeindex");
        let times = TimeIndex::open(disk, &time_path, base).map_err(at(&time_path))?;
        Ok(Segment {
            base,
            log,
            size,
            max_timestamp: times.last(),
            offsets,
            times,
            txns: TxnIndex::default(),
            first_timestamp: None,
            created_ms: now_ms,
            modified_ms: now_ms,
            since_index_entry: 0,
            dirty: false,
        })
    }

    /// The files that belong to a segment.
    pub fn extensions() -> [&'static str; 5] {
        ["log", "index", "timeindex", "txnindex", "snapshot"]
    }

    pub fn close(&self, disk: &mut dyn Disk) {
        disk.close(self.log);
        disk.close(self.offsets.file());
        disk.close(self.times.file());
        self.txns.close(disk);
    }

    /// Whether it must make place for a new one before this append.
    pub fn should_roll(
        &mut self,
        disk: &mut dyn Disk,
        config: &LogConfig,
        params: &RollParams,
    ) -> Result<bool, DiskError> {
        let limit = u64::from(config.segment_bytes);
        if u64::from(self.size) + params.bytes as u64 > limit {
            return Ok(true);
        }
        if params.last_offset - self.base > i64::from(i32::MAX)
            || self.offsets.is_full(config.segment_index_bytes)
            || self.times.is_full(config.segment_index_bytes)
        {
            return Ok(true);
        }
        if self.size == 0 {
            return Ok(false);
        }
        let waited = self.time_waited(disk, params.now_ms, params.max_timestamp)?;
        Ok(waited > config.segment_ms.saturating_sub(config.segment_jitter_ms))
    }

    fn time_waited(&mut self, disk: &mut dyn Disk, now_ms: i64, timestamp: i64) -> Result<i64, DiskError> {
        Ok(match self.first_timestamp(disk)? {
            Some(first) if first >= 0 => timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(self.created_ms),
        })
    }

    /// The largest timestamp of its first batch; `None` while it is empty.
    pub fn first_timestamp(&mut self, disk: &mut dyn Disk) -> Result<Option<i64>, DiskError> {
        if self.first_timestamp.is_none() && self.size > 0 {
            self.first_timestamp = self.header_at(disk, 0)?.ok().map(|header| header.max_timestamp);
        }
        Ok(self.first_timestamp)
    }

    /// Of a segment of the cleaner, which appends many batches at once.
    pub fn forget_first_timestamp(&mut self) {
        self.first_timestamp = None;
    }

    /// Appends batches, and index entries before each batch that is more than `index.interval.bytes` behind the last.
    pub fn append(
        &mut self,
        disk: &mut dyn Disk,
        config: &LogConfig,
        now_ms: i64,
        pieces: &[Bytes],
        batches: &[BatchMeta],
    ) -> Result<(), DiskError> {
        if self.size == 0 {
            self.first_timestamp = batches.iter().map(|b| b.max_timestamp).max();
        }
        let mut position = self.size;
        self.dirty = true;
        self.modified_ms = now_ms;
        disk.append(self.log, pieces)?;
        for batch in batches {
            self.index(disk, config, position, batch)?;
            position += batch.size;
        }
        self.size = position;
        Ok(())
    }

    /// Takes a batch into the time stamps and, when one is due, adds an entry to both indexes.
    pub fn index(
        &mut self,
        disk: &mut dyn Disk,
        config: &LogConfig,
        position: u32,
        batch: &BatchMeta,
    ) -> Result<(), DiskError> {
        if batch.max_timestamp > self.max_timestamp.timestamp {
            self.max_timestamp = TimeEntry { timestamp: batch.max_timestamp, offset: batch.last_offset };
        }
        if self.since_index_entry > config.index_interval_bytes {
            self.offsets.append(disk, batch.last_offset, position)?;
            self.times.maybe_append(disk, self.max_timestamp)?;
            self.since_index_entry = 0;
        }
        self.since_index_entry += batch.size;
        Ok(())
    }

    /// Another segment takes over, or the log closes: the time index ends with the largest timestamp.
    pub fn become_inactive(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        self.times.maybe_append(disk, self.max_timestamp)
    }

    /// The header of the batch at a position, which lies whole in the file.
    pub fn header_at(
        &self,
        disk: &mut dyn Disk,
        position: u32,
    ) -> Result<Result<BatchHeader, BatchError>, DiskError> {
        let left = self.size.saturating_sub(position) as usize;
        if left < HEADER_LEN {
            return Ok(Err(BatchError::Truncated { wanted: HEADER_LEN, left }));
        }
        let mut bytes = [0; HEADER_LEN];
        disk.read_at(self.log, u64::from(position), &mut bytes)?;
        Ok(BatchHeader::parse(&bytes).and_then(|header| match header.size_in_bytes() {
            wanted if wanted > left => Err(BatchError::Truncated { wanted, left }),
            _ => Ok(header),
        }))
    }

    /// The first batch that reaches to `offset`, with its position; `None` when all lie below.
    pub fn find(&self, disk: &mut dyn Disk, offset: i64) -> Result<Option<(u32, BatchHeader)>, ReadError> {
        let start = self.offsets.lookup(disk, offset).map_err(ReadError::Disk)?.position;
        match self.scan(disk, start, |header| header.last_offset() >= offset) {
            // The index points to where no batch begins: it is damaged, the log need not be.
            Err(ReadError::Corrupt { .. }) if start > 0 => {
                self.scan(disk, 0, |header| header.last_offset() >= offset)
            }
            found => found,
        }
    }

    /// The first batch from `position` on that is `wanted`.
    pub fn scan(
        &self,
        disk: &mut dyn Disk,
        mut position: u32,
        mut wanted: impl FnMut(&BatchHeader) -> bool,
    ) -> Result<Option<(u32, BatchHeader)>, ReadError> {
        if position > self.size {
            return Err(ReadError::Corrupt { segment_base: self.base, position });
        }
        while position < self.size {
            let header = self
                .header_at(disk, position)
                .map_err(ReadError::Disk)?
                .map_err(|_| ReadError::Corrupt { segment_base: self.base, position })?;
            if wanted(&header) {
                return Ok(Some((position, header)));
            }
            position += header.size_in_bytes() as u32;
        }
        Ok(None)
    }

    /// Cuts the batch that reaches to `offset` and all behind it. The bytes that went.
    pub fn truncate_to(&mut self, disk: &mut dyn Disk, offset: i64, now_ms: i64) -> Result<u32, ReadError> {
        let position = match self.find(disk, offset)? {
            Some((position, _)) => position,
            None => self.size,
        };
        self.offsets.truncate_to(disk, offset).map_err(ReadError::Disk)?;
        self.times.truncate_to(disk, offset).map_err(ReadError::Disk)?;
        self.txns.truncate_to(disk, offset).map_err(ReadError::Disk)?;
        let cut = self.size - position;
        self.cut_at(disk, position, now_ms).map_err(ReadError::Disk)?;
        self.since_index_entry = 0;
        self.max_timestamp = self.largest_timestamp(disk)?;
        Ok(cut)
    }

    /// Cuts the file at a position.
    pub fn cut_at(&mut self, disk: &mut dyn Disk, position: u32, now_ms: i64) -> Result<(), DiskError> {
        if position < self.size {
            self.dirty = true;
            self.modified_ms = now_ms;
            disk.truncate(self.log, u64::from(position))?;
            self.size = position;
        }
        if self.size == 0 {
            self.created_ms = now_ms;
            self.first_timestamp = None;
        }
        Ok(())
    }

    /// The largest timestamp: the time index knows it up to its last entry, the batches behind are read.
    fn largest_timestamp(&self, disk: &mut dyn Disk) -> Result<TimeEntry, ReadError> {
        let mut largest = self.times.last();
        let start = self.offsets.lookup(disk, largest.offset).map_err(ReadError::Disk)?.position;
        self.scan(disk, start, |header| {
            if header.max_timestamp > largest.timestamp {
                largest = TimeEntry { timestamp: header.max_timestamp, offset: header.last_offset() };
            }
            false
        })?;
        Ok(largest)
    }

    /// Empties the indexes before they are rebuilt.
    pub fn clear_indexes(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        self.offsets.clear(disk)?;
        self.times.clear(disk)?;
        self.txns.clear(disk)?;
        self.max_timestamp = self.times.last();
        self.since_index_entry = 0;
        Ok(())
    }

    /// Opening a segment begins a new index interval, also when its indexes were just rebuilt.
    pub fn begin_index_interval(&mut self) {
        self.since_index_entry = 0;
    }

    /// A process before this one may have written without syncing: the page cache is not the medium.
    pub fn mark_dirty(&mut self) {
        self.dirty = true;
        self.offsets.mark_dirty();
        self.times.mark_dirty();
        self.txns.mark_dirty();
    }

    /// The timestamp that retention goes by: the largest of a record, else when the file was last written.
    pub fn retention_timestamp(&self) -> i64 {
        if self.max_timestamp.timestamp >= 0 { self.max_timestamp.timestamp } else { self.modified_ms }
    }

    /// Begins a sync of each file that was written since its last one.
    pub fn sync(&mut self, disk: &mut dyn Disk, mut issue: impl FnMut(Ticket)) {
        if core::mem::take(&mut self.dirty) {
            issue(disk.sync(self.log));
        }
        if self.offsets.take_dirty() {
            issue(disk.sync(self.offsets.file()));
        }
        if self.times.take_dirty() {
            issue(disk.sync(self.times.file()));
        }
        self.txns.sync(disk, &mut issue);
    }
}

//! Reading: whole batches by offset, and records by timestamp.
//!
//! A read stays in one segment and returns the disk's own chunks. At the tail the cache of the last batches gives both
//! ends; elsewhere the offset index leads to within `index.interval.bytes`, and headers are read from there.

use wire::batch::{Batch, BatchHeader};
use wire::{Codecs, Rope};

use super::segment::Segment;
use super::{FetchData, Log, OffsetMetadata, ReadError, TimestampOffset};
use crate::disk::Disk;

/// A batch is never decompressed to more than a request may have (`socket.request.max.bytes`).
const DECOMPRESSED_LIMIT: usize = 100 << 20;

impl Log {
    /// Reads whole batches from `offset`, of one segment, that lie below `up_to`, at most `max_bytes`; with `min_one`
    /// the first batch comes whatever its size. Nothing to read is no error, an offset outside of the log is one.
    pub fn read(
        &self,
        disk: &mut dyn Disk,
        offset: i64,
        up_to: i64,
        max_bytes: usize,
        min_one: bool,
    ) -> Result<FetchData, ReadError> {
        let (start, first) = self.locate(disk, offset)?;
        let mut records = Rope::new();
        let Some(first) = first.filter(|first| first.last_offset < up_to) else {
            return Ok(FetchData { records, start });
        };
        let segment = &self.segments[self.segment_of(start.segment_base)];
        let limit =
            u64::from(start.position).saturating_add(max_bytes as u64).min(u64::from(segment.size)) as u32;
        let mut end = self.end_before(disk, segment, start.position, limit, up_to)?;
        if end == start.position && min_one {
            end = start.position + first.size;
        }
        let len = (end - start.position) as usize;
        disk.read(segment.log, u64::from(start.position), len, &mut records).map_err(ReadError::Disk)?;
        Ok(FetchData { records, start })
    }

    /// Where an offset between log start and log end lies.
    pub fn offset_metadata(&self, disk: &mut dyn Disk, offset: i64) -> Result<OffsetMetadata, ReadError> {
        self.locate(disk, offset).map(|(metadata, _)| metadata)
    }

    /// Where the log ends.
    pub fn end_metadata(&self) -> OffsetMetadata {
        let active = self.active();
        OffsetMetadata { offset: self.next_offset, segment_base: active.base, position: active.size }
    }

    /// The index of the segment with the greatest base offset that is not above `offset`.
    pub(super) fn segment_of(&self, offset: i64) -> usize {
        let active = self.segments.len() - 1;
        if offset >= self.segments[active].base {
            return active;
        }
        self.segments.partition_point(|s| s.base <= offset).saturating_sub(1)
    }

    /// Where an offset lies, and the batch there; at the log's end there is none.
    fn locate(&self, disk: &mut dyn Disk, offset: i64) -> Result<(OffsetMetadata, Option<Found>), ReadError> {
        if offset < self.log_start_offset || offset > self.next_offset {
            return Err(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset: self.log_start_offset,
                log_end_offset: self.next_offset,
            });
        }
        if offset == self.next_offset {
            return Ok((self.end_metadata(), None));
        }
        if let Some(hit) = self.tail.find(offset) {
            let start = OffsetMetadata { offset, segment_base: hit.segment_base, position: hit.position };
            return Ok((start, Some(Found { last_offset: hit.batch.last_offset, size: hit.batch.size })));
        }
        // What compaction has removed leaves gaps: then the next segment's first batch is the one.
        for segment in &self.segments[self.segment_of(offset)..] {
            if let Some((position, header)) = segment.find(disk, offset)? {
                let start = OffsetMetadata { offset, segment_base: segment.base, position };
                let found = Found { last_offset: header.last_offset(), size: header.size_in_bytes() as u32 };
                return Ok((start, Some(found)));
            }
        }
        Ok((OffsetMetadata { offset, ..self.end_metadata() }, None))
    }

    /// The end of the last whole batch at or behind `start` that ends by `limit` and lies below `up_to`; `start` if
    /// there is none.
    fn end_before(
        &self,
        disk: &mut dyn Disk,
        segment: &Segment,
        start: u32,
        limit: u32,
        up_to: i64,
    ) -> Result<u32, ReadError> {
        let segment_end = match self.segments.get(self.segment_of(segment.base) + 1) {
            Some(next) => next.base,
            None => self.next_offset,
        };
        if limit == segment.size && up_to >= segment_end {
            return Ok(limit);
        }
        if let Some(end) = self.tail.end_before(segment.base, limit, up_to) {
            return Ok(end.max(start));
        }
        let by_offset = segment.offsets.lookup(disk, up_to).map_err(ReadError::Disk)?.position;
        let by_position = segment.offsets.lookup_position(disk, limit).map_err(ReadError::Disk)?.position;
        let mut end = by_offset.min(by_position).max(start);
        let step = |end: &mut u32, header: &BatchHeader| {
            let next = *end + header.size_in_bytes() as u32;
            let beyond = next > limit || header.last_offset() >= up_to;
            if !beyond {
                *end = next;
            }
            beyond
        };
        match segment.scan(disk, end, |header| step(&mut end, header)) {
            // A damaged index: go through the batches from the start of the read.
            Err(ReadError::Corrupt { .. }) if end > start => {
                end = start;
                segment.scan(disk, start, |header| step(&mut end, header))?;
            }
            found => {
                found?;
            }
        }
        Ok(end)
    }

    /// The first record with a timestamp of at least `timestamp` that lies below `up_to`.
    pub fn offset_for_timestamp(
        &self,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        timestamp: i64,
        up_to: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        for segment in self.segments.iter().filter(|s| s.max_timestamp.timestamp >= timestamp) {
            if let Some(found) = self.search(disk, codecs, segment, timestamp)? {
                return Ok(Some(found).filter(|found| found.offset < up_to));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp.
    pub fn offset_of_max_timestamp(
        &self,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let largest = self.max_timestamp();
        if largest < 0 {
            return Ok(None);
        }
        self.offset_for_timestamp(disk, codecs, largest, i64::MAX)
    }

    /// The first record of a segment, at or above the log start offset, that is not older than `timestamp`.
    fn search(
        &self,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        segment: &Segment,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let entry = segment.times.lookup(disk, timestamp).map_err(ReadError::Disk)?;
        let from = entry.offset.max(self.log_start_offset);
        let mut position = segment.offsets.lookup(disk, from).map_err(ReadError::Disk)?.position;
        loop {
            let wanted = |header: &BatchHeader| {
                header.max_timestamp >= timestamp && header.last_offset() >= self.log_start_offset
            };
            let Some((at, header)) = segment.scan(disk, position, wanted)? else { return Ok(None) };
            let corrupt = ReadError::Corrupt { segment_base: segment.base, position: at };
            let size = header.size_in_bytes();
            let mut bytes = Rope::new();
            disk.read(segment.log, u64::from(at), size, &mut bytes).map_err(ReadError::Disk)?;
            let records = Batch { header, bytes }.records(codecs, DECOMPRESSED_LIMIT).map_err(|_| corrupt)?;
            for record in &records {
                let record = record.map_err(|_| corrupt)?;
                if record.timestamp >= timestamp && record.offset >= self.log_start_offset {
                    return Ok(Some(TimestampOffset {
                        timestamp: record.timestamp,
                        offset: record.offset,
                        leader_epoch: header.partition_leader_epoch,
                    }));
                }
            }
            position = at + size as u32;
        }
    }
}

/// The batch that holds an offset.
struct Found {
    last_offset: i64,
    size: u32,
}

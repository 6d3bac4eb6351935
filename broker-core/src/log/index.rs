//! The offset index and the time index of a segment, in Kafka's file formats.
//!
//! An offset index holds, every `index.interval.bytes` of log, the last offset of a batch and the batch's position; a
//! time index holds the largest timestamp so far and the offset that goes with it. Entries are looked up in the file
//! itself, by bisection: nothing of an index is kept in memory but its end, so that opening and cloning a log cost
//! nothing. Kafka preallocates the files of the active segment; ours grow.

use alloc::vec::Vec;
use bytes::Bytes;

use crate::disk::{Disk, DiskError, FileId};

/// The last offset of a batch and where the batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffsetPosition {
    pub offset: i64,
    pub position: u32,
}

/// A timestamp and the offset that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeEntry {
    pub timestamp: i64,
    pub offset: i64,
}

/// A file of entries of one size, and which of them are valid.
#[derive(Clone, Debug)]
struct Table<const SIZE: usize> {
    file: FileId,
    entries: u32,
    /// Written or cut since the last sync was begun.
    dirty: bool,
}

impl<const SIZE: usize> Table<SIZE> {
    fn open(disk: &mut dyn Disk, path: &str) -> Result<Table<SIZE>, DiskError> {
        let file = disk.open(path, true)?;
        let entries = (disk.len(file)? / SIZE as u64) as u32;
        let mut table = Table { file, entries, dirty: false };
        if disk.len(file)? != u64::from(entries) * SIZE as u64 {
            table.truncate(disk, entries)?;
        }
        Ok(table)
    }

    fn entry(&self, disk: &mut dyn Disk, slot: u32) -> Result<[u8; SIZE], DiskError> {
        let mut bytes = [0; SIZE];
        disk.read_at(self.file, u64::from(slot) * SIZE as u64, &mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, disk: &mut dyn Disk, entry: [u8; SIZE]) -> Result<(), DiskError> {
        self.dirty = true;
        disk.append(self.file, &[Bytes::from(Vec::from(entry))])?;
        self.entries += 1;
        Ok(())
    }

    fn truncate(&mut self, disk: &mut dyn Disk, entries: u32) -> Result<(), DiskError> {
        self.dirty = true;
        self.entries = entries;
        disk.truncate(self.file, u64::from(entries) * SIZE as u64)
    }

    /// How many entries from the start are `below`, which holds for a prefix.
    fn partition_point(
        &self,
        disk: &mut dyn Disk,
        below: impl Fn(&[u8; SIZE]) -> bool,
    ) -> Result<u32, DiskError> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if below(&self.entry(disk, middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

const OFFSET_ENTRY: usize = 8;
const TIME_ENTRY: usize = 12;

/// `.index`: entries of relative offset (i32) and position (i32), both ascending.
#[derive(Clone, Debug)]
pub(super) struct OffsetIndex {
    table: Table<OFFSET_ENTRY>,
    base: i64,
    last: OffsetPosition,
}

impl OffsetIndex {
    pub fn open(disk: &mut dyn Disk, path: &str, base: i64) -> Result<OffsetIndex, DiskError> {
        let table = Table::open(disk, path)?;
        let mut index = OffsetIndex { table, base, last: OffsetPosition { offset: base, position: 0 } };
        index.load_last(disk)?;
        Ok(index)
    }

    fn load_last(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        self.last = match self.table.entries.checked_sub(1) {
            None => OffsetPosition { offset: self.base, position: 0 },
            Some(slot) => self.parse(&self.table.entry(disk, slot)?),
        };
        Ok(())
    }

    fn parse(&self, entry: &[u8; OFFSET_ENTRY]) -> OffsetPosition {
        OffsetPosition { offset: self.base + i64::from(i32_at(entry, 0)), position: i32_at(entry, 4) as u32 }
    }

    pub fn is_full(&self, max_bytes: u32) -> bool {
        self.table.entries >= max_bytes / OFFSET_ENTRY as u32
    }

    pub fn last(&self) -> OffsetPosition {
        self.last
    }

    /// Adds an entry; its offset is above the last one.
    pub fn append(&mut self, disk: &mut dyn Disk, offset: i64, position: u32) -> Result<(), DiskError> {
        assert!(
            self.table.entries == 0 || offset > self.last.offset && position > self.last.position,
            "index entry {offset} at {position} after {:?}",
            self.last
        );
        let relative = i32::try_from(offset - self.base).expect("the segment was rolled in time");
        let mut entry = [0; OFFSET_ENTRY];
        entry[..4].copy_from_slice(&relative.to_be_bytes());
        entry[4..].copy_from_slice(&position.to_be_bytes());
        self.table.append(disk, entry)?;
        self.last = OffsetPosition { offset, position };
        Ok(())
    }

    /// The greatest entry whose offset is not above `offset`; the segment's start if there is none.
    pub fn lookup(&self, disk: &mut dyn Disk, offset: i64) -> Result<OffsetPosition, DiskError> {
        if self.table.entries > 0 && self.last.offset <= offset {
            return Ok(self.last);
        }
        let slot = self.table.partition_point(disk, |entry| self.parse(entry).offset <= offset)?;
        self.before(disk, slot)
    }

    /// The greatest entry whose position is not above `position`; the segment's start if there is none.
    pub fn lookup_position(&self, disk: &mut dyn Disk, position: u32) -> Result<OffsetPosition, DiskError> {
        if self.table.entries > 0 && self.last.position <= position {
            return Ok(self.last);
        }
        let slot = self.table.partition_point(disk, |entry| self.parse(entry).position <= position)?;
        self.before(disk, slot)
    }

    fn before(&self, disk: &mut dyn Disk, slot: u32) -> Result<OffsetPosition, DiskError> {
        match slot.checked_sub(1) {
            None => Ok(OffsetPosition { offset: self.base, position: 0 }),
            Some(slot) => Ok(self.parse(&self.table.entry(disk, slot)?)),
        }
    }

    /// Drops entries at `offset` and above.
    pub fn truncate_to(&mut self, disk: &mut dyn Disk, offset: i64) -> Result<(), DiskError> {
        let keep = self.table.partition_point(disk, |entry| self.parse(entry).offset < offset)?;
        if keep < self.table.entries {
            self.table.truncate(disk, keep)?;
            self.load_last(disk)?;
        }
        Ok(())
    }

    pub fn clear(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        self.table.truncate(disk, 0)?;
        self.load_last(disk)
    }

    pub fn file(&self) -> FileId {
        self.table.file
    }

    pub fn mark_dirty(&mut self) {
        self.table.dirty = true;
    }

    /// Whether it must be synced; from now on it counts as clean.
    pub fn take_dirty(&mut self) -> bool {
        core::mem::take(&mut self.table.dirty)
    }
}

/// `.timeindex`: entries of timestamp (i64) and relative offset (i32), both ascending.
#[derive(Clone, Debug)]
pub(super) struct TimeIndex {
    table: Table<TIME_ENTRY>,
    base: i64,
    last: TimeEntry,
}

impl TimeIndex {
    pub fn open(disk: &mut dyn Disk, path: &str, base: i64) -> Result<TimeIndex, DiskError> {
        let table = Table::open(disk, path)?;
        let mut index = TimeIndex { table, base, last: TimeEntry { timestamp: -1, offset: base } };
        index.load_last(disk)?;
        Ok(index)
    }

    fn load_last(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        self.last = match self.table.entries.checked_sub(1) {
            None => TimeEntry { timestamp: -1, offset: self.base },
            Some(slot) => self.parse(&self.table.entry(disk, slot)?),
        };
        Ok(())
    }

    fn parse(&self, entry: &[u8; TIME_ENTRY]) -> TimeEntry {
        TimeEntry { timestamp: i64_at(entry, 0), offset: self.base + i64::from(i32_at(entry, 8)) }
    }

    /// One entry is kept for the roll.
    pub fn is_full(&self, max_bytes: u32) -> bool {
        self.table.entries + 1 >= max_bytes / TIME_ENTRY as u32
    }

    /// The last entry; timestamp -1 at the base offset if there is none.
    pub fn last(&self) -> TimeEntry {
        self.last
    }

    /// Adds an entry if its timestamp is above the last one.
    pub fn maybe_append(&mut self, disk: &mut dyn Disk, entry: TimeEntry) -> Result<(), DiskError> {
        if entry.timestamp <= self.last.timestamp {
            return Ok(());
        }
        assert!(
            self.table.entries == 0 || entry.offset >= self.last.offset,
            "{entry:?} after {:?}",
            self.last
        );
        let relative = i32::try_from(entry.offset - self.base).expect("the segment was rolled in time");
        let mut bytes = [0; TIME_ENTRY];
        bytes[..8].copy_from_slice(&entry.timestamp.to_be_bytes());
        bytes[8..].copy_from_slice(&relative.to_be_bytes());
        self.table.append(disk, bytes)?;
        self.last = entry;
        Ok(())
    }

    /// The greatest entry whose timestamp is not above `timestamp`; -1 at the segment's start if there is none.
    pub fn lookup(&self, disk: &mut dyn Disk, timestamp: i64) -> Result<TimeEntry, DiskError> {
        let slot = self.table.partition_point(disk, |entry| self.parse(entry).timestamp <= timestamp)?;
        match slot.checked_sub(1) {
            None => Ok(TimeEntry { timestamp: -1, offset: self.base }),
            Some(slot) => Ok(self.parse(&self.table.entry(disk, slot)?)),
        }
    }

    /// Drops entries at `offset` and above.
    pub fn truncate_to(&mut self, disk: &mut dyn Disk, offset: i64) -> Result<(), DiskError> {
        let keep = self.table.partition_point(disk, |entry| self.parse(entry).offset < offset)?;
        if keep < self.table.entries {
            self.table.truncate(disk, keep)?;
            self.load_last(disk)?;
        }
        Ok(())
    }

    pub fn clear(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        self.table.truncate(disk, 0)?;
        self.load_last(disk)
    }

    pub fn file(&self) -> FileId {
        self.table.file
    }

    pub fn mark_dirty(&mut self) {
        self.table.dirty = true;
    }

    /// Whether it must be synced; from now on it counts as clean.
    pub fn take_dirty(&mut self) -> bool {
        core::mem::take(&mut self.table.dirty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemDisk;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_kafkas() {
        let mut disk = MemDisk::new();
        let mut offsets = OffsetIndex::open(&mut disk, "i", 100).unwrap();
        offsets.append(&mut disk, 157, 4_157).unwrap();
        assert_eq!(disk.read_file("i").unwrap()[..], [0, 0, 0, 57, 0, 0, 0x10, 0x3d]);
        let mut times = TimeIndex::open(&mut disk, "t", 100).unwrap();
        times.maybe_append(&mut disk, TimeEntry { timestamp: 0x0102, offset: 157 }).unwrap();
        times.maybe_append(&mut disk, TimeEntry { timestamp: 0x0102, offset: 158 }).unwrap();
        assert_eq!(disk.read_file("t").unwrap()[..], [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 57]);
    }

    #[test]
    fn full_as_kafka_counts() {
        let mut disk = MemDisk::new();
        let mut offsets = OffsetIndex::open(&mut disk, "i", 0).unwrap();
        let mut times = TimeIndex::open(&mut disk, "t", 0).unwrap();
        let mut full = Vec::new();
        for i in 1..=4 {
            full.push((offsets.is_full(24), times.is_full(36)));
            offsets.append(&mut disk, i, i as u32).unwrap();
            times.maybe_append(&mut disk, TimeEntry { timestamp: i, offset: i }).unwrap();
        }
        assert_eq!(full, [(false, false), (false, false), (false, true), (true, true)]);
    }

    proptest! {
        #[test]
        fn lookups_agree_with_a_list(
            steps in proptest::collection::vec((1i64..20, 1u32..500, 0i64..9), 0..60),
            target in 0i64..700, cut in 0i64..700,
        ) {
            let base = 50;
            let mut disk = MemDisk::new();
            let mut offsets = OffsetIndex::open(&mut disk, "i", base).unwrap();
            let mut times = TimeIndex::open(&mut disk, "t", base).unwrap();
            let (mut list, mut time_list) = (Vec::new(), Vec::new());
            let (mut at, mut position, mut timestamp) = (base, 0, 0);
            for (offset_step, position_step, time_step) in steps {
                (at, position, timestamp) = (at + offset_step, position + position_step, timestamp + time_step);
                offsets.append(&mut disk, at, position).unwrap();
                list.push(OffsetPosition { offset: at, position });
                times.maybe_append(&mut disk, TimeEntry { timestamp, offset: at }).unwrap();
                if time_list.last().is_none_or(|last: &TimeEntry| last.timestamp < timestamp) {
                    time_list.push(TimeEntry { timestamp, offset: at });
                }
            }
            for round in 0..3 {
                let start = OffsetPosition { offset: base, position: 0 };
                let want = list.iter().rev().find(|e| e.offset <= target).copied().unwrap_or(start);
                prop_assert_eq!(offsets.lookup(&mut disk, target).unwrap(), want);
                let want = list.iter().rev().find(|e| i64::from(e.position) <= target).copied().unwrap_or(start);
                prop_assert_eq!(offsets.lookup_position(&mut disk, target as u32).unwrap(), want);
                prop_assert_eq!(offsets.last(), list.last().copied().unwrap_or(start));
                let none = TimeEntry { timestamp: -1, offset: base };
                let want = time_list.iter().rev().find(|e| e.timestamp <= target).copied().unwrap_or(none);
                prop_assert_eq!(times.lookup(&mut disk, target).unwrap(), want);
                prop_assert_eq!(times.last(), time_list.last().copied().unwrap_or(none));
                if round == 0 {
                    offsets.truncate_to(&mut disk, cut).unwrap();
                    times.truncate_to(&mut disk, cut).unwrap();
                    list.retain(|e| e.offset < cut);
                    time_list.retain(|e| e.offset < cut);
                } else {
                    offsets = OffsetIndex::open(&mut disk, "i", base).unwrap();
                    times = TimeIndex::open(&mut disk, "t", base).unwrap();
                }
            }
        }
    }
}

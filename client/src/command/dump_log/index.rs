//! Offset, time and transaction indexes, and producer snapshots.

use alloc::format;
use alloc::string::String;
use wire::Rope;
use wire::batch::{BatchHeader, Batches};

use super::log::unreadable;
use super::{Fatal, Tool, base_offset, note};

/// A batch is never decompressed to more than this.
const DECOMPRESSED_LIMIT: usize = 100 << 20;

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The path of a file of the same segment.
fn sibling(path: &str, name: &str, ext: &str) -> String {
    let digits = name.split('.').next().expect("split gives one part at least");
    format!("{}{digits}.{ext}", &path[..path.len() - name.len()])
}

impl Tool<'_> {
    pub(super) fn dump_index(&mut self, path: &str, name: &str) -> Result<(), Fatal> {
        let base = base_offset(name)?;
        let index = self.open(path)?;
        let log = self.open(&sibling(path, name, "log"))?;
        if index.len() < 8 {
            self.line(&format!("{path} is empty."));
            return Ok(());
        }
        if self.options.index_sanity_check {
            return self.sanity(path, index.len() % 8 == 0);
        }
        for (i, entry) in index.chunks_exact(8).enumerate() {
            let (relative, position) = (i32_at(entry, 0), i32_at(entry, 4));
            // What is preallocated is zero.
            if relative == 0 && i > 0 {
                break;
            }
            let offset = base + i64::from(relative);
            let header = usize::try_from(position)
                .ok()
                .and_then(|position| log.get(position..))
                .ok_or_else(|| Fatal("java.util.NoSuchElementException".into()))
                .and_then(|rest| BatchHeader::parse(rest).map_err(|error| unreadable(error, path)))?;
            if header.size_in_bytes() > self.options.max_message_size {
                return Err(Fatal("java.util.NoSuchElementException".into()));
            }
            if header.last_offset() != offset {
                note(&mut self.findings.index_mismatches, path, (offset, header.last_offset()));
            }
            if !self.options.verify_index_only {
                self.line(&format!("offset: {offset} position: {position}"));
            }
        }
        Ok(())
    }

    pub(super) fn dump_time_index(&mut self, path: &str, name: &str) -> Result<(), Fatal> {
        let base = base_offset(name)?;
        let times = self.open(path)?;
        let log = self.open(&sibling(path, name, "log"))?;
        let index = self.open(&sibling(path, name, "index"))?;
        if self.options.index_sanity_check {
            return self.sanity(path, times.len() % 12 == 0);
        }
        let mut before = -1;
        for (i, entry) in times.chunks_exact(12).enumerate() {
            let (timestamp, relative) = (i64_at(entry, 0), i32_at(entry, 8));
            if relative == 0 && i > 0 {
                break;
            }
            let offset = base + i64::from(relative);
            let position = index
                .chunks_exact(8)
                .take_while(|e| i32_at(e, 0) <= relative)
                .last()
                .map_or(0, |e| i32_at(e, 4).max(0) as usize);
            let rest = Rope::from(log.slice(position.min(log.len())..));
            self.check_time(path, &rest, timestamp, offset, before)?;
            if !self.options.verify_index_only {
                self.line(&format!("timestamp: {timestamp} offset: {offset}"));
            }
            before = timestamp;
        }
        Ok(())
    }

    /// Compares an entry of a time index with the batch that it speaks of.
    fn check_time(
        &mut self,
        path: &str,
        rest: &Rope,
        timestamp: i64,
        offset: i64,
        before: i64,
    ) -> Result<(), Fatal> {
        let mut found = None;
        for batch in Batches::new(rest) {
            let batch = batch.map_err(|error| unreadable(error, path))?;
            if batch.header.last_offset() >= offset {
                found = Some(batch);
                break;
            }
        }
        let batch = match found {
            Some(batch) if batch.header.last_offset() == offset => batch,
            other => {
                let log_offset = other.map_or(-1, |batch| batch.header.last_offset());
                note(&mut self.findings.offsets_not_found, path, (offset, log_offset));
                return Ok(());
            }
        };
        let records =
            batch.records(self.codecs, DECOMPRESSED_LIMIT).map_err(|error| unreadable(error, path))?;
        let mut largest = -1;
        for record in &records {
            largest = largest.max(record.map_err(|error| unreadable(error, path))?.timestamp);
        }
        if largest != timestamp {
            note(&mut self.findings.time_mismatches, path, (timestamp, largest));
        }
        if before >= timestamp {
            note(&mut self.findings.time_order, path, (timestamp, before));
        }
        Ok(())
    }

    fn sanity(&mut self, path: &str, whole: bool) -> Result<(), Fatal> {
        if whole {
            self.line(&format!("{path} passed sanity check."));
            return Ok(());
        }
        let class = "org.apache.kafka.storage.internals.log.CorruptIndexException";
        Err(Fatal(format!("{class}: Index file {path} is corrupt")))
    }

    pub(super) fn dump_producer_snapshot(&mut self, path: &str) -> Result<(), Fatal> {
        const ENTRY: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;
        let bytes = self.open(path)?;
        let valid = bytes.len() >= 10
            && i16_at(&bytes, 0) == 1
            && self.codecs.crc32c(0, &bytes[6..]) == i32_at(&bytes, 2) as u32
            && usize::try_from(i32_at(&bytes, 6)).is_ok_and(|count| bytes.len() == 10 + count * ENTRY);
        if !valid {
            self.complain(&format!("Snapshot at '{path}' is corrupt"));
            return Ok(());
        }
        for e in bytes[10..].chunks_exact(ENTRY) {
            let (last_sequence, last_offset) = (i32_at(e, 10), i64_at(e, 14));
            let (delta, timestamp) = (i32_at(e, 22), i64_at(e, 26));
            let first_offset = match i64_at(e, 38) {
                -1 => "OptionalLong.empty".into(),
                offset => format!("OptionalLong[{offset}]"),
            };
            let mut line = format!(
                "producerId: {} producerEpoch: {} coordinatorEpoch: {} currentTxnFirstOffset: {first_offset} \
                 lastTimestamp: {timestamp} ",
                i64_at(e, 0),
                i16_at(e, 8),
                i32_at(e, 34),
            );
            if last_offset >= 0 {
                let first_sequence = wire::batch::decrement_sequence(last_sequence, delta);
                line += &format!(
                    "firstSequence: {first_sequence} lastSequence: {last_sequence} lastOffset: {last_offset} \
                     offsetDelta: {delta} timestamp: {timestamp}"
                );
            }
            self.line(&line);
        }
        Ok(())
    }

    pub(super) fn dump_txn_index(&mut self, path: &str) -> Result<(), Fatal> {
        for e in self.open(path)?.chunks_exact(34) {
            self.line(&format!(
                "version: {} producerId: {} firstOffset: {} lastOffset: {} lastStableOffset: {}",
                i16_at(e, 0),
                i64_at(e, 2),
                i64_at(e, 10),
                i64_at(e, 18),
                i64_at(e, 26)
            ));
        }
        Ok(())
    }
}

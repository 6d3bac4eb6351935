//! The transaction index of a segment: which of the transactions whose marker lies in it were aborted.
//!
//! `.txnindex`: entries of 34 bytes in the order of the markers' offsets: version, producer id, first offset, last offset
//! (the marker's), last stable offset once the transaction had ended. The file is made with the first entry. Readers of
//! committed transactions are told those entries that concern what they read. Follows Kafka's `TransactionIndex`.

use alloc::vec::Vec;
use bytes::Bytes;
use wire::framing::{decode_versioned, encode_versioned};
use wire::records::AbortedTxn;

use super::LogError;
use super::segment::{at, path};
use crate::disk::{Disk, DiskError, FileId, Ticket};

const ENTRY: usize = 34;
const VERSION: i16 = 0;

/// The aborted transactions of one segment; in memory too, since they are few.
#[derive(Clone, Debug, Default)]
pub(super) struct TxnIndex {
    file: Option<FileId>,
    /// Ascending by last offset.
    entries: Vec<AbortedTxn>,
    dirty: bool,
}

impl TxnIndex {
    /// Reads the index of a segment, if it has one. What does not fit together ends it: recovery writes it anew.
    pub fn open(disk: &mut dyn Disk, dir: &str, base: i64) -> Result<TxnIndex, LogError> {
        let path = path(dir, base, "txnindex");
        let bytes = match disk.read_file(&path) {
            Ok(bytes) => bytes,
            Err(DiskError::NotFound) => return Ok(TxnIndex::default()),
            Err(error) => return Err(at(&path)(error)),
        };
        let file = disk.open(&path, false).map_err(at(&path))?;
        let mut index = TxnIndex { file: Some(file), entries: Vec::new(), dirty: false };
        for entry in bytes.chunks_exact(ENTRY) {
            match decode_versioned::<AbortedTxn>(entry) {
                Ok((txn, _)) if index.may_follow(&txn, base) => index.entries.push(txn),
                _ => break,
            }
        }
        if index.entries.len() * ENTRY != bytes.len() {
            index.cut(disk, index.entries.len()).map_err(at(&path))?;
        }
        Ok(index)
    }

    /// Writes the index of a segment that the cleaner has made; no file without an entry.
    pub fn write(disk: &mut dyn Disk, path: &str, entries: Vec<AbortedTxn>) -> Result<TxnIndex, DiskError> {
        if entries.is_empty() {
            return Ok(TxnIndex::default());
        }
        let encode = |txn| encode_versioned(txn, VERSION).expect("an entry has no limits");
        let bytes: Vec<u8> = entries.iter().flat_map(encode).collect();
        let file = disk.open(path, true)?;
        disk.append(file, &[Bytes::from(bytes)])?;
        Ok(TxnIndex { file: Some(file), entries, dirty: true })
    }

    fn may_follow(&self, txn: &AbortedTxn, base: i64) -> bool {
        txn.last_offset >= self.entries.last().map_or(base, |last| last.last_offset.saturating_add(1))
    }

    /// Adds a transaction whose marker lies behind all others; makes the file when there is none.
    pub fn append(
        &mut self,
        disk: &mut dyn Disk,
        dir: &str,
        base: i64,
        txn: AbortedTxn,
    ) -> Result<(), DiskError> {
        assert!(self.may_follow(&txn, base), "{dir}: aborted transactions ascend by their markers");
        let file = match self.file {
            Some(file) => file,
            None => *self.file.insert(disk.open(&path(dir, base, "txnindex"), true)?),
        };
        let entry = encode_versioned(&txn, VERSION).expect("an entry has no limits");
        self.dirty = true;
        disk.append(file, &[Bytes::from(entry)])?;
        self.entries.push(txn);
        Ok(())
    }

    /// Drops transactions whose marker lies at `offset` or above.
    pub fn truncate_to(&mut self, disk: &mut dyn Disk, offset: i64) -> Result<(), DiskError> {
        let keep = self.entries.partition_point(|txn| txn.last_offset < offset);
        if keep < self.entries.len() { self.cut(disk, keep) } else { Ok(()) }
    }

    /// Drops all.
    pub fn clear(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        if self.file.is_some() { self.cut(disk, 0) } else { Ok(()) }
    }

    fn cut(&mut self, disk: &mut dyn Disk, keep: usize) -> Result<(), DiskError> {
        self.entries.truncate(keep);
        self.dirty = true;
        let file = self.file.expect("what is cut has a file");
        disk.truncate(file, (keep * ENTRY) as u64)
    }

    /// All of them, ascending by their markers.
    pub fn entries(&self) -> &[AbortedTxn] {
        &self.entries
    }

    /// Adds to `found` what a reader of the offsets from `from` up to `up_to` must know. Whether that is all: no later
    /// entry, in this segment or behind it, concerns them.
    pub fn collect(&self, from: i64, up_to: i64, found: &mut Vec<AbortedTxn>) -> bool {
        let first = self.entries.partition_point(|txn| txn.last_offset < from);
        for txn in &self.entries[first..] {
            if txn.first_offset < up_to {
                found.push(txn.clone());
            }
            if txn.last_stable_offset >= up_to {
                return true;
            }
        }
        false
    }

    pub fn mark_dirty(&mut self) {
        self.dirty = self.file.is_some();
    }

    pub fn sync(&mut self, disk: &mut dyn Disk, issue: &mut impl FnMut(Ticket)) {
        if core::mem::take(&mut self.dirty)
            && let Some(file) = self.file
        {
            issue(disk.sync(file));
        }
    }

    pub fn close(&self, disk: &mut dyn Disk) {
        if let Some(file) = self.file {
            disk.close(file);
        }
    }
}

//! Which transactions a cleaning meets: Kafka's `CleanedTransactionMetadata`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use wire::Codecs;
use wire::batch::{Batch, BatchHeader, ControlRecord};
use wire::records::AbortedTxn;

use super::DECOMPRESSED_LIMIT;

/// The transactions of the batches so far, which come in the order of their offsets.
#[derive(Clone, Debug, Default)]
pub(super) struct CleanedTxns {
    /// Aborted ones that have not begun, the first one last.
    to_come: Vec<AbortedTxn>,
    /// Aborted ones that are open, by producer, and whether data of them was met.
    aborted: BTreeMap<i64, (AbortedTxn, bool)>,
    /// Producers of the other ones of which data was met.
    committed: BTreeSet<i64>,
    /// Aborted ones of which there was data: readers have to know them for one more pass.
    pub kept: Vec<AbortedTxn>,
}

impl CleanedTxns {
    pub fn new(mut aborted: Vec<AbortedTxn>) -> CleanedTxns {
        aborted.sort_by_key(|txn| core::cmp::Reverse(txn.first_offset));
        CleanedTxns { to_come: aborted, ..CleanedTxns::default() }
    }

    fn begin_up_to(&mut self, offset: i64) {
        while self.to_come.last().is_some_and(|txn| txn.first_offset <= offset) {
            let txn = self.to_come.pop().expect("there is a last");
            self.aborted.insert(txn.producer_id, (txn, false));
        }
    }

    /// A batch that is no marker: whether it belongs to an aborted transaction.
    pub fn data(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some((_, met)) => {
                *met = true;
                true
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// A marker: whether no data of its transaction is left.
    pub fn marker(&mut self, batch: &Batch, codecs: &dyn Codecs) -> bool {
        let header = &batch.header;
        self.begin_up_to(header.last_offset());
        let records = batch.records(codecs, DECOMPRESSED_LIMIT).ok();
        let kind = records.as_ref().and_then(|r| r.iter().next()).and_then(Result::ok);
        match kind.and_then(|record| ControlRecord::of(&record).ok()) {
            Some(ControlRecord::Abort(_)) => match self.aborted.remove(&header.producer_id) {
                Some((txn, true)) => {
                    self.kept.push(txn);
                    false
                }
                _ => true,
            },
            Some(ControlRecord::Commit(_)) => !self.committed.remove(&header.producer_id),
            // What another pass has emptied was kept for its producer's sake alone.
            None if header.record_count == 0 => true,
            _ => false,
        }
    }
}

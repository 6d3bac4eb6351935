//! What a log must hold when it is opened again: after its process died, and after the power was lost.
//!
//! - `RecoveryKeepsPromised` (in `recovery.rs`): the page cache outlives a process.
//! - `SyncedSurvivesPowerLoss` (in `synced.rs`): what was synced outlives a power loss.
//! - `CleanMarkHoldsOnce` (in `clean_mark.rs`): who finds its logs closed has closed them.

pub mod clean_mark;
pub mod recovery;
pub mod shutdowns;
pub mod synced;

/// A log as its broker found it.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// The broker.
    pub node: i32,
    /// The first offset that may be read.
    pub log_start: i64,
    /// The log end offset.
    pub log_end: i64,
    /// The leader epochs that its cache holds, with the offsets at which they start.
    pub epochs: &'a [(i32, i64)],
}

impl Opened<'_> {
    /// The leader epoch of the record at an offset, as the cache has it.
    fn epoch_at(&self, offset: i64) -> Option<i32> {
        let at = self.epochs.partition_point(|(_, start)| *start <= offset);
        Some(self.epochs[at.checked_sub(1)?].0)
    }

    /// An epoch that was appended between `from` and `to` and that the cache does not have.
    fn wrong_epoch(&self, epochs: &[(i32, i64)], from: i64, to: i64) -> Option<(i64, i32, Option<i32>)> {
        let told = epochs.iter().filter(|(_, start)| (from..to).contains(start));
        told.map(|(epoch, start)| (*start, *epoch, self.epoch_at(*start)))
            .find(|(_, epoch, found)| *found != Some(*epoch))
    }
}

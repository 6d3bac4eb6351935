//! Leader epochs and where each began (KIP-101, KIP-279): Kafka's `LeaderEpochFileCache`.
//!
//! Epochs and start offsets both ascend strictly. The cache answers where an epoch ended, which is what followers,
//! voters and consumers compare to find the point up to which two logs agree.

use alloc::vec::Vec;

use super::EpochEnd;

/// An epoch and the offset of the first record that may bear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochEntry {
    /// The leader epoch.
    pub epoch: i32,
    /// Where it began.
    pub start_offset: i64,
}

/// The epochs of one log, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochCache {
    entries: Vec<EpochEntry>,
}

impl EpochCache {
    /// From the entries of a checkpoint, assigned in their order.
    pub fn from_entries(entries: impl IntoIterator<Item = EpochEntry>) -> EpochCache {
        let mut cache = EpochCache::default();
        for entry in entries {
            cache.assign(entry.epoch, entry.start_offset);
        }
        cache
    }

    /// All entries, ascending.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The latest epoch.
    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// Begins `epoch` at `start_offset`; entries that contradict it go. Whether anything changed.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        assert!(epoch >= 0 && start_offset >= 0, "epoch {epoch} at {start_offset}");
        if self.latest().is_some_and(|last| last.epoch == epoch && start_offset >= last.start_offset) {
            return false;
        }
        while self.latest().is_some_and(|last| last.epoch >= epoch || last.start_offset >= start_offset) {
            self.entries.pop();
        }
        self.entries.push(EpochEntry { epoch, start_offset });
        self.check();
        true
    }

    /// A batch of `epoch` lies at `base_offset`, and no epoch may say otherwise: makes the cache agree with what was
    /// found on the medium. Batches are given in their order. Whether anything changed.
    ///
    /// Why entries may be wrong: a follower cuts its log, learns a new epoch at that offset and writes the checkpoint;
    /// the power fails before the shorter log file is synced. Then the records that were cut are back, under an epoch
    /// that is not theirs, and their divergence would never be found.
    pub fn observe(&mut self, epoch: i32, base_offset: i64) -> bool {
        if epoch < 0 || self.epoch_for_offset(base_offset) == Some(epoch) {
            return false;
        }
        while self.latest().is_some_and(|last| last.epoch > epoch) {
            self.entries.pop();
        }
        if self.epoch_for_offset(base_offset) != Some(epoch) {
            self.assign(epoch, base_offset);
        }
        true
    }

    /// The log was cut at `end_offset`: forgets what begins there or later. Whether anything changed.
    pub fn truncate_from_end(&mut self, end_offset: i64) -> bool {
        let keep = self.entries.partition_point(|entry| entry.start_offset < end_offset);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// The log starts at `start_offset`: the epoch at that offset begins there, older ones are forgotten. Whether
    /// anything was dropped or moved.
    pub fn truncate_from_start(&mut self, start_offset: i64) -> bool {
        let gone = self.entries.partition_point(|entry| entry.start_offset <= start_offset);
        let Some(last_gone) = gone.checked_sub(1) else { return false };
        if last_gone == 0 && self.entries[0].start_offset == start_offset {
            return false;
        }
        self.entries[last_gone].start_offset = start_offset;
        self.entries.drain(..last_gone);
        self.check();
        true
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The largest epoch that is not above `epoch`, and where it ended, given the log end offset.
    pub fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> EpochEnd {
        let undefined = EpochEnd { epoch: -1, offset: -1 };
        let Some(latest) = self.latest() else { return undefined };
        if epoch < 0 || epoch > latest.epoch {
            return undefined;
        }
        if epoch == latest.epoch {
            return EpochEnd { epoch, offset: log_end_offset };
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let offset = self.entries[higher].start_offset;
        match higher.checked_sub(1) {
            // All of that epoch was deleted: whoever asks goes on at the start of what is left.
            None => EpochEnd { epoch, offset },
            Some(floor) => EpochEnd { epoch: self.entries[floor].epoch, offset },
        }
    }

    /// The epoch of the record at `offset`, if the log reaches there.
    pub fn epoch_for_offset(&self, offset: i64) -> Option<i32> {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        Some(self.entries[after.checked_sub(1)?].epoch)
    }

    fn check(&self) {
        let ascending = |pair: &[EpochEntry]| {
            pair[0].epoch < pair[1].epoch && pair[0].start_offset < pair[1].start_offset
        };
        assert!(self.entries.windows(2).all(ascending), "epochs ascend: {:?}", self.entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn cache(entries: &[(i32, i64)]) -> EpochCache {
        EpochCache::from_entries(
            entries.iter().map(|&(epoch, start_offset)| EpochEntry { epoch, start_offset }),
        )
    }

    fn list(cache: &EpochCache) -> Vec<(i32, i64)> {
        cache.entries().iter().map(|e| (e.epoch, e.start_offset)).collect()
    }

    #[test]
    fn assign_drops_what_contradicts_it() {
        let before = [(0, 0), (2, 10), (5, 20)];
        for (epoch, start, after, changed) in [
            (6, 30, vec![(0, 0), (2, 10), (5, 20), (6, 30)], true),
            (5, 25, vec![(0, 0), (2, 10), (5, 20)], false),
            (5, 15, vec![(0, 0), (2, 10), (5, 15)], true),
            // Nothing was written in epoch 5.
            (6, 20, vec![(0, 0), (2, 10), (6, 20)], true),
            (6, 10, vec![(0, 0), (6, 10)], true),
            (3, 30, vec![(0, 0), (2, 10), (3, 30)], true),
            (1, 5, vec![(0, 0), (1, 5)], true),
            (0, 0, vec![(0, 0)], true),
        ] {
            let mut cache = cache(&before);
            assert_eq!(cache.assign(epoch, start), changed, "assign {epoch} {start}");
            assert_eq!(list(&cache), after, "assign {epoch} {start}");
        }
    }

    #[test]
    fn batches_on_the_medium_overrule_the_checkpoint() {
        let before = [(0, 0), (2, 10), (5, 20)];
        for (epoch, base, after) in [
            (2, 15, vec![(0, 0), (2, 10), (5, 20)]),
            (5, 20, vec![(0, 0), (2, 10), (5, 20)]),
            (6, 25, vec![(0, 0), (2, 10), (5, 20), (6, 25)]),
            // The records of epoch 2 were cut in vain.
            (2, 20, vec![(0, 0), (2, 10)]),
            (0, 10, vec![(0, 0)]),
            (3, 20, vec![(0, 0), (2, 10), (3, 20)]),
            (3, 15, vec![(0, 0), (2, 10), (3, 15)]),
            (-1, 20, vec![(0, 0), (2, 10), (5, 20)]),
        ] {
            let mut cache = cache(&before);
            assert_eq!(cache.observe(epoch, base), after != before, "{epoch} at {base}");
            assert_eq!(list(&cache), after, "{epoch} at {base}");
        }
    }

    #[test]
    fn truncation_from_both_ends() {
        let before = [(0, 0), (2, 10), (5, 20)];
        for (end, after) in [
            (21, vec![(0, 0), (2, 10), (5, 20)]),
            (20, vec![(0, 0), (2, 10)]),
            (10, vec![(0, 0)]),
            (1, vec![(0, 0)]),
            (0, vec![]),
        ] {
            let mut cache = cache(&before);
            assert_eq!(cache.truncate_from_end(end), after.len() < 3);
            assert_eq!(list(&cache), after, "end {end}");
        }
        for (start, after) in [
            (0, vec![(0, 0), (2, 10), (5, 20)]),
            (3, vec![(0, 3), (2, 10), (5, 20)]),
            (10, vec![(2, 10), (5, 20)]),
            (19, vec![(2, 19), (5, 20)]),
            (50, vec![(5, 50)]),
        ] {
            let mut cache = cache(&before);
            assert_eq!(cache.truncate_from_start(start), start != 0);
            assert_eq!(list(&cache), after, "start {start}");
        }
        assert!(!cache(&[(1, 10)]).truncate_from_start(5), "the first epoch begins later: nothing to move");
    }

    #[test]
    fn the_end_of_an_epoch() {
        let cache = cache(&[(2, 10), (5, 20), (7, 30)]);
        for (epoch, want) in [
            (-1, (-1, -1)),
            (0, (0, 10)),
            (2, (2, 20)),
            (4, (2, 20)),
            (5, (5, 30)),
            (6, (5, 30)),
            (7, (7, 42)),
            (8, (-1, -1)),
        ] {
            let end = cache.end_offset_for(epoch, 42);
            assert_eq!((end.epoch, end.offset), want, "epoch {epoch}");
        }
        assert_eq!(EpochCache::default().end_offset_for(0, 5).epoch, -1);
        for (offset, want) in [(9, None), (10, Some(2)), (19, Some(2)), (20, Some(5)), (99, Some(7))] {
            assert_eq!(cache.epoch_for_offset(offset), want);
        }
    }
}

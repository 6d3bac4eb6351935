//! Where the last batches of a log lie, so that reading at its tail needs neither index nor disk.

use alloc::collections::VecDeque;

use super::batch::BatchMeta;

/// Reads near the end are by far the most frequent; this many batches back they are found in memory.
const CAPACITY: usize = 128;

/// A batch and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TailBatch {
    pub segment_base: i64,
    pub position: u32,
    pub batch: BatchMeta,
}

impl TailBatch {
    pub fn end(&self) -> u32 {
        self.position + self.batch.size
    }
}

/// The last batches of a log, without gaps between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    batches: VecDeque<TailBatch>,
}

impl Tail {
    pub fn push(&mut self, batch: TailBatch) {
        if self.batches.len() == CAPACITY {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
    }

    pub fn clear(&mut self) {
        self.batches.clear();
    }

    /// Forgets batches that reach to `offset` or beyond.
    pub fn truncate_to(&mut self, offset: i64) {
        while self.batches.back().is_some_and(|last| last.batch.last_offset >= offset) {
            self.batches.pop_back();
        }
    }

    /// Forgets batches of segments below `segment_base`.
    pub fn drop_below(&mut self, segment_base: i64) {
        while self.batches.front().is_some_and(|first| first.segment_base < segment_base) {
            self.batches.pop_front();
        }
    }

    /// The first batch that reaches to `offset`, if this cache knows it for certain.
    pub fn find(&self, offset: i64) -> Option<TailBatch> {
        if offset < self.batches.front()?.batch.base_offset {
            return None;
        }
        let i = self.batches.partition_point(|b| b.batch.last_offset < offset);
        self.batches.get(i).copied()
    }

    /// The end, in its segment's file, of the last whole batch that ends at or before `limit` and lies below `up_to`;
    /// `None` if this cache does not reach back to there.
    pub fn end_before(&self, segment_base: i64, limit: u32, up_to: i64) -> Option<u32> {
        let after = self.batches.partition_point(|b| {
            (b.segment_base, b.end()) <= (segment_base, limit) && b.batch.last_offset < up_to
        });
        let last = self.batches.get(after.checked_sub(1)?)?;
        (last.segment_base == segment_base).then(|| last.end())
    }
}

//! What the checkers of replicas know: each replica's log as far as events tell of it, and what was committed.

use std::collections::{BTreeMap, VecDeque};

use broker_core::event::{BatchMark, PartitionState};

use super::contiguous_sequences::Producers;

/// What is known of one replica.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// Its log end offset.
    pub log_end: i64,
    /// Its high watermark.
    pub high_watermark: i64,
    /// (leader epoch, offset at which it starts in this log), both rising; only of epochs that have records.
    pub epochs: Vec<(i32, i64)>,
    /// The leader epoch in which it leads.
    pub leads: Option<i32>,
    /// Its broker said that everything below is durable.
    pub flushed: i64,
    /// The boot of its broker in which its log was opened.
    pub opened_in: u32,
}

impl Replica {
    /// It appended a batch.
    pub fn append(&mut self, mark: &BatchMark) {
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < mark.epoch) {
            self.epochs.push((mark.epoch, mark.base_offset));
        }
        self.log_end = mark.last_offset + 1;
    }

    /// Its log was cut.
    pub fn truncate(&mut self, to: i64) {
        self.epochs.truncate(self.epochs.partition_point(|(_, start)| *start < to));
        self.log_end = to;
        self.high_watermark = self.high_watermark.min(to);
        self.flushed = self.flushed.min(to);
    }

    /// The epochs of the records below `offset`.
    pub fn epochs_below(&self, offset: i64) -> &[(i32, i64)] {
        &self.epochs[..self.epochs.partition_point(|(_, start)| *start < offset)]
    }
}

/// A beginning of a log that was agreed on: how far it goes, and of which leader epochs it is.
#[derive(Clone, Debug, Default)]
pub struct Prefix {
    /// Its end.
    pub end: i64,
    /// The epochs of its records.
    pub epochs: Vec<(i32, i64)>,
}

impl Prefix {
    /// It is now what `replica` has below `end`.
    pub fn set(&mut self, replica: &Replica, end: i64) {
        let epochs = replica.epochs_below(end);
        // Nearly always only the end moves.
        if self.epochs.len() != epochs.len() || self.epochs.last() != epochs.last() {
            self.epochs.clear();
            self.epochs.extend_from_slice(epochs);
        }
        self.end = end;
    }

    /// It is now what `other` has below `end`.
    pub fn follow(&mut self, other: &Prefix, end: i64) {
        let epochs = &other.epochs[..other.epochs.partition_point(|(_, start)| *start < end)];
        if self.epochs != epochs {
            self.epochs.clear();
            self.epochs.extend_from_slice(epochs);
        }
        self.end = end;
    }

    /// Whether a replica has all of it that lies above `start`. With LogMatching, equal epochs up to an offset mean equal
    /// records up to it.
    pub fn is_in(&self, replica: &Replica, start: i64) -> bool {
        if self.end <= start {
            return true;
        }
        if replica.log_end < self.end {
            return false;
        }
        let (a, b) = (above(replica.epochs_below(self.end), start), above(&self.epochs, start));
        a.len() == b.len()
            && a.iter().zip(b).all(|(x, y)| x.0 == y.0 && (x.1 == y.1 || x.1.max(y.1) <= start))
    }
}

/// The epochs of the records at and above `start`.
fn above(epochs: &[(i32, i64)], start: i64) -> &[(i32, i64)] {
    let first = epochs.partition_point(|(_, s)| *s <= start).saturating_sub(1);
    &epochs[first..]
}

/// What is known of one partition.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    /// By broker.
    pub replicas: BTreeMap<i32, Replica>,
    /// The batches that lie in any log.
    pub batches: Batches,
    /// What was committed: a leader's high watermark passed it.
    pub committed: Prefix,
    /// What consumers have read.
    pub read: Prefix,
    /// The producers in the newest leader's log.
    pub producers: Producers,
    /// Everything below was deleted on purpose.
    pub log_start: i64,
    /// Below this, some replica's log was compacted.
    pub cleaned: i64,
    /// By leader epoch: who led.
    pub leaders: BTreeMap<i32, i32>,
    /// As the controller committed it last.
    pub state: Option<PartitionState>,
    /// A leader was elected uncleanly in this epoch: what it has is what there is.
    pub unclean_epoch: Option<i32>,
    /// That committed records are lost was told.
    pub lost_told: bool,
}

impl Partition {
    /// Below this neither records nor epochs are compared: deleted, or compacted away.
    pub fn start(&self) -> i64 {
        self.log_start.max(self.cleaned.min(self.committed.end))
    }

    /// The newest leader epoch, and who leads in it.
    pub fn newest(&self) -> Option<(i32, i32)> {
        self.leaders.last_key_value().map(|(epoch, node)| (*epoch, *node))
    }

    /// Whether a replica holds everything that was committed: as far, and of the same leader epochs.
    pub fn has_committed(&self, node: i32) -> bool {
        self.committed.end <= self.log_start
            || self.replicas.get(&node).is_some_and(|r| self.committed.is_in(r, self.start()))
    }
}

/// The batches that were ever appended anywhere, each with the broker that did it first, by base offset and leader epoch.
///
/// Nearly every batch comes behind all others, or is one of the last ones, and what lies below a log start is cut off.
#[derive(Clone, Debug, Default)]
pub struct Batches(VecDeque<Known>);

/// A batch, as far as two logs are compared by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    base_offset: i64,
    /// Its last offset.
    pub last_offset: i64,
    epoch: i32,
    /// Its size in bytes.
    pub size: u32,
    /// Its CRC-32C.
    pub crc: u32,
    /// Who appended it first.
    pub node: i32,
}

impl Known {
    /// Whether this is the batch of which a mark tells.
    pub fn is(&self, mark: &BatchMark) -> bool {
        (self.last_offset, self.size, self.crc) == (mark.last_offset, mark.size, mark.crc)
    }
}

impl Batches {
    /// Notes what a broker appended, or gives what was known in its place.
    pub fn note(&mut self, mark: &BatchMark, node: i32) -> Option<Known> {
        let BatchMark { base_offset, last_offset, epoch, size, crc, .. } = *mark;
        let new = Known { base_offset, last_offset, epoch, size, crc, node };
        let key = |known: &Known| (known.base_offset, known.epoch);
        if self.0.back().is_none_or(|last| key(last) < key(&new)) {
            self.0.push_back(new);
            return None;
        }
        // A follower that is in sync appends what its leader has just appended.
        for (behind, known) in self.0.iter().rev().take(8).enumerate() {
            match key(known).cmp(&key(&new)) {
                std::cmp::Ordering::Equal => return Some(*known),
                std::cmp::Ordering::Greater => {}
                std::cmp::Ordering::Less => {
                    self.0.insert(self.0.len() - behind, new);
                    return None;
                }
            }
        }
        match self.0.binary_search_by_key(&key(&new), key) {
            Ok(at) => Some(self.0[at]),
            Err(at) => {
                self.0.insert(at, new);
                None
            }
        }
    }

    /// Only the last so many are remembered.
    pub fn keep(&mut self, count: usize) {
        if self.0.len() > count {
            self.0.pop_front();
        }
    }

    /// What lies below an offset was deleted.
    pub fn forget_below(&mut self, offset: i64) {
        while self.0.front().is_some_and(|known| known.base_offset < offset) {
            self.0.pop_front();
        }
    }
}

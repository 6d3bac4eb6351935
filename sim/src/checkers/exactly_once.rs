//! `ExactlyOnce`: what a group consumes in transactions is in one transaction that was committed, and in no second one.
//!
//! What KIP-98 and KIP-447 promise to programs that consume, transform and produce: the offsets that a transaction consumed
//! are committed with it, so that nobody of the group begins below them, and a member that the group has given up cannot
//! commit. A transaction whose end nobody heard is not looked at, and one that was aborted is no trace of anything.
//!
//! Kept are ranges of offsets, one for each partition unless markers lie between what was consumed.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker_core::event::TopicPartition;

/// The invariant's name.
pub const NAME: &str = "ExactlyOnce";

/// How many ranges of a partition are kept: whoever goes back does not go back far.
const KEPT: usize = 1_000;

/// What was consumed in committed transactions.
#[derive(Clone, Debug, Default)]
pub struct ExactlyOnce {
    /// By group and partition: ranges by their beginning, apart from each other.
    done: BTreeMap<(Arc<str>, TopicPartition), BTreeMap<i64, i64>>,
}

impl ExactlyOnce {
    /// A transaction of a member of `group` was committed, which consumed the records before these offsets, each. Where
    /// one of them had been consumed in another, and a sentence about it.
    pub fn committed(
        &mut self,
        group: &Arc<str>,
        offsets: &[(TopicPartition, i64)],
    ) -> Option<(TopicPartition, String)> {
        let mut broken = None;
        for (partition, next) in offsets {
            let known = self.done.entry((group.clone(), partition.clone())).or_default();
            if add(known, next - 1) || broken.is_some() {
                continue;
            }
            let text = format!(
                "A transaction of group {group} that was committed has consumed offset {} of {partition}. An earlier one had consumed it, too.",
                next - 1
            );
            broken = Some((partition.clone(), text));
        }
        broken
    }

    /// The topic is another one from now on.
    pub fn topic_deleted(&mut self, topic: &str) {
        self.done.retain(|(_, partition), _| *partition.topic != *topic);
    }

    /// Somebody sets offsets as he likes.
    pub fn forget(&mut self) {
        self.done.clear();
    }
}

/// Adds an offset; whether it was new.
fn add(ranges: &mut BTreeMap<i64, i64>, offset: i64) -> bool {
    let before = ranges.range(..=offset).next_back().map(|(from, to)| (*from, *to));
    if before.is_some_and(|(_, to)| offset < to) {
        return false;
    }
    let to = ranges.remove(&(offset + 1)).unwrap_or(offset + 1);
    let from = before.filter(|(_, end)| *end == offset).map_or(offset, |(from, _)| from);
    ranges.insert(from, to);
    if ranges.len() > KEPT {
        ranges.pop_first();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(once: &mut ExactlyOnce, group: &str, offsets: &[i64]) -> bool {
        let of = |offset: &i64| (TopicPartition::new("t", 0), offset + 1);
        let offsets: Vec<_> = offsets.iter().map(of).collect();
        once.committed(&Arc::from(group), &offsets).is_some()
    }

    #[test]
    fn fires_on_an_offset_in_two_transactions_of_a_group() {
        let mut once = ExactlyOnce::default();
        assert!(!commit(&mut once, "g", &[0, 1, 2]));
        assert!(!commit(&mut once, "g", &[5, 6]));
        assert!(!commit(&mut once, "g", &[3, 4]));
        assert!(!commit(&mut once, "other", &[0, 1, 2]));
        for again in [0, 2, 3, 4, 6] {
            assert!(commit(&mut once, "g", &[again]), "{again}");
        }
        assert!(!commit(&mut once, "g", &[7]));
        assert!(commit(&mut once, "g", &[8, 7]));
    }

    #[test]
    fn ranges_grow_together_and_are_forgotten_with_their_topic() {
        let mut once = ExactlyOnce::default();
        for offsets in [[0, 2], [4, 6], [1, 5], [3, 7]] {
            assert!(!commit(&mut once, "g", &offsets));
        }
        assert_eq!(once.done.values().next(), Some(&BTreeMap::from([(0, 8)])));
        once.topic_deleted("u");
        assert!(commit(&mut once, "g", &[0]));
        once.topic_deleted("t");
        assert!(!commit(&mut once, "g", &[0]));
        once.forget();
        assert!(!commit(&mut once, "g", &[0]));
    }
}

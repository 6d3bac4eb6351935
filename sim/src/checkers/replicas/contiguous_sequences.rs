//! `ContiguousSequences` and `NoZombieWrites`: in a leader's log each batch of a producer continues its last one, and
//! nobody writes with an epoch that was fenced.
//!
//! KIP-98 and KIP-890: within a producer epoch the first sequence of a batch is one more than the last of the batch
//! before (so nothing is there twice and nothing is missing), a new epoch begins with 0, and epochs of a producer never
//! go back; a marker of a transaction may raise one. What a leader has to know for that it reads from its log when it
//! opens it: this is how a producer's state that was not recovered shows (`ProducerStateManager`).

use std::collections::VecDeque;

use broker_core::event::BatchMark;
use wire::batch::increment_sequence;

/// The name of the invariant of sequences.
pub const NAME: &str = "ContiguousSequences";
/// The name of the invariant of epochs.
pub const ZOMBIES: &str = "NoZombieWrites";

/// So many batches of a producer are remembered: a leader that lacks more of them is not judged by the next.
const REMEMBERED: usize = 6;

#[derive(Clone, Copy, Debug)]
struct Written {
    last_offset: i64,
    epoch: i16,
    /// -1: a marker, or offsets of a group.
    last_sequence: i32,
}

/// The producers in the log of a partition's newest leader, by id.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    known: Vec<(i64, VecDeque<Written>)>,
    /// The place of the one that wrote last: it often writes again.
    recent: usize,
    /// The end of what is known of that log.
    end: i64,
}

impl Producers {
    /// The newest leader appended a batch.
    pub fn appended(&mut self, node: i32, mark: &BatchMark) -> Option<(&'static str, String)> {
        self.end = mark.last_offset + 1;
        if mark.producer_id < 0 {
            return None;
        }
        let records = (mark.last_offset - mark.base_offset) as i32;
        let last_sequence = if mark.sequence < 0 { -1 } else { increment_sequence(mark.sequence, records) };
        let written = Written { last_offset: mark.last_offset, epoch: mark.producer_epoch, last_sequence };
        let before = self.of(mark.producer_id);
        let broken = before.back().and_then(|last| judge(before, last, node, mark));
        if before.len() == REMEMBERED {
            before.pop_front();
        }
        before.push_back(written);
        broken
    }

    fn of(&mut self, id: i64) -> &mut VecDeque<Written> {
        if self.known.get(self.recent).is_none_or(|(known, _)| *known != id) {
            self.recent = match self.known.binary_search_by_key(&id, |(known, _)| *known) {
                Ok(at) => at,
                Err(at) => {
                    self.known.insert(at, (id, VecDeque::new()));
                    at
                }
            };
        }
        &mut self.known[self.recent].1
    }

    /// The newest leader's log ends at `end`; below it is the same as the last one's (`same`), as far as that was known.
    pub fn follow(&mut self, end: i64, same: bool) {
        if !same || self.end < end {
            self.known.clear();
        }
        self.end = end;
        for (_, written) in &mut self.known {
            while written.back().is_some_and(|last| last.last_offset >= end) {
                written.pop_back();
            }
        }
        self.known.retain(|(_, written)| !written.is_empty());
    }
}

fn judge(
    before: &VecDeque<Written>,
    last: &Written,
    node: i32,
    mark: &BatchMark,
) -> Option<(&'static str, String)> {
    let (id, epoch, offset) = (mark.producer_id, mark.producer_epoch, mark.base_offset);
    if epoch < last.epoch {
        return Some((
            ZOMBIES,
            format!(
                "broker-{node} appended offset {offset} of producer {id} with epoch {epoch}. The producer had been fenced: offset {} has its epoch {}.",
                last.last_offset, last.epoch
            ),
        ));
    }
    if mark.sequence < 0 {
        return None;
    }
    let expected = match before.iter().rev().find(|w| w.epoch == epoch && w.last_sequence >= 0) {
        Some(same) => increment_sequence(same.last_sequence, 1),
        None if epoch > last.epoch && last.last_sequence >= 0 => 0,
        // Its last batches were markers: what it wrote before them is forgotten.
        None => return None,
    };
    (mark.sequence != expected).then(|| {
        (
            NAME,
            format!(
                "broker-{node} appended offset {offset} of producer {id}, epoch {epoch}, with sequence {}. What lies before it ends so that {expected} had to follow.",
                mark.sequence
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    #[test]
    fn fires_on_a_gap_and_on_a_batch_that_comes_again() {
        let first = (1, produce(10, 12, 7, 0, 0));
        for (sequence, broken) in [(3, false), (0, true), (4, true), (2, true)] {
            let found = after(vec![first.clone(), (1, produce(13, 13, 7, 0, sequence))]);
            assert_eq!(found, if broken { vec!["ContiguousSequences"] } else { vec![] }, "{sequence}");
        }
    }

    #[test]
    fn a_new_epoch_begins_with_sequence_0_and_another_producer_anywhere() {
        let first = (1, produce(10, 12, 7, 0, 0));
        for (producer, epoch, sequence, broken) in [(7, 1, 0, false), (7, 1, 3, true), (8, 0, 41, false)] {
            let found = after(vec![first.clone(), (1, produce(13, 13, producer, epoch, sequence))]);
            assert_eq!(
                found,
                if broken { vec!["ContiguousSequences"] } else { vec![] },
                "{producer} {epoch}"
            );
        }
    }

    #[test]
    fn fires_on_a_write_behind_the_marker_that_fenced_it() {
        let story = |epoch, sequence| {
            vec![
                (1, produce(10, 12, 7, 0, 0)),
                (1, produce(13, 13, 7, 1, -1)),
                (1, produce(14, 14, 7, epoch, sequence)),
            ]
        };
        assert_eq!(after(story(0, 3)), ["NoZombieWrites"]);
        assert_eq!(after(story(1, 0)), [""; 0]);
    }

    /// The first leader appends two batches; the second has only one of them when it leads from offset 13 on.
    fn second_leader(more: Vec<(i32, broker_core::event::Event)>) -> Vec<&'static str> {
        let mut story = vec![
            (1, produce(10, 12, 7, 0, 0)),
            (2, as_follower(produce(10, 12, 7, 0, 0))),
            (1, produce(13, 13, 7, 0, 3)),
            (1, state(2, 1, 1, &[2])),
            (2, lead(1, 13, 10)),
        ];
        story.extend(more);
        after(story)
    }

    #[test]
    fn what_a_leader_between_did_not_have_is_not_missed() {
        // The second leader writes nothing: who leads after it has the last batch still.
        let first_again =
            vec![(1, state(1, 2, 2, &[1])), (1, lead(2, 14, 10)), (1, produce(14, 14, 7, 0, 4))];
        assert!(!second_leader(first_again).contains(&"ContiguousSequences"));
    }

    #[test]
    fn a_new_leader_goes_on_where_its_own_log_ends() {
        let goes_on = |sequence| second_leader(vec![(2, produce(13, 13, 7, 0, sequence))]);
        assert!(!goes_on(3).contains(&"ContiguousSequences"));
        assert!(goes_on(4).contains(&"ContiguousSequences"));
    }
}

//! Where each client is in each partition: `poll-skip`, `nonmonotonic-poll`, `int-poll-skip`, `int-nonmonotonic-poll` and
//! `nonmonotonic-send`, found while clients tell what they do.
//!
//! The names are those of Jepsen's Kafka workload. It looks at a whole history and knows an order of values; here the
//! offsets themselves are compared as they come, so that a client and a partition cost one number, however long they go
//! on. A gap in the offsets of a consumer is no anomaly by itself: markers, aborted and compacted records take offsets
//! too. [`History`] says whether something that was to be read lies in it.
//!
//! A position that the client set itself (a committed offset, the start, a reset) is a new beginning. So a consumer that
//! gets its partition back from its group and begins where the last commit was does nothing wrong; nor does a program
//! that aborts its transaction and consumes the same again.

use std::collections::BTreeMap;

use client::{Made, PolledRecord};

use super::history::{History, PartitionIndex};
use super::{Breach, Subject};

/// A consumer went on behind records that it had not got.
pub const POLL_SKIP: &str = "poll-skip";
/// A consumer went back.
pub const NONMONOTONIC_POLL: &str = "nonmonotonic-poll";
/// A gap within one poll.
pub const INT_POLL_SKIP: &str = "int-poll-skip";
/// A step back within one poll.
pub const INT_NONMONOTONIC_POLL: &str = "int-nonmonotonic-poll";
/// A producer's messages are not in the order in which it sent them.
pub const NONMONOTONIC_SEND: &str = "nonmonotonic-send";

/// A client and a partition.
type Place = (usize, PartitionIndex);

/// How far a consumer is.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// The last offset that it got.
    last: i64,
    /// The last offset that it got outside of the transaction that is open.
    kept: Option<i64>,
}

/// The clients' positions.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    polled: BTreeMap<Place, Position>,
    /// By producer and partition: the message with the highest number that was acknowledged, and its offset.
    sent: BTreeMap<Place, (u64, i64)>,
    breaches: Vec<Breach>,
}

impl Positions {
    /// A consumer got records of a partition. `matters` says whether an offset that it did not get holds something that it
    /// should have got.
    pub fn polled(
        &mut self,
        client: usize,
        at: PartitionIndex,
        records: &[PolledRecord],
        history: &History,
        matters: impl Fn(i64) -> bool,
    ) {
        let (Some(first), Some(end)) = (records.first(), records.last()) else { return };
        let before = self.polled.get(&(client, at)).copied();
        if let Some(Position { last, .. }) = before {
            self.follows((POLL_SKIP, NONMONOTONIC_POLL), at, last, first.offset, history, &matters);
        }
        for pair in records.windows(2) {
            let (one, next) = (pair[0].offset, pair[1].offset);
            self.follows((INT_POLL_SKIP, INT_NONMONOTONIC_POLL), at, one, next, history, &matters);
        }
        let kept = before.and_then(|position| position.kept);
        self.polled.insert((client, at), Position { last: end.offset, kept });
    }

    /// What comes after the record at `last` is the next one that is there.
    fn follows(
        &mut self,
        (skip, backward): (&'static str, &'static str),
        at: PartitionIndex,
        last: i64,
        next: i64,
        history: &History,
        matters: &impl Fn(i64) -> bool,
    ) {
        if next == last + 1 {
            return;
        }
        let (topic, partition) = history.name(at);
        let (name, text) = if next <= last {
            (backward, format!("A consumer of {topic}-{partition} got offset {last}, and then {next} again."))
        } else {
            let Some(skipped) = history.holds_between(at, last + 1, next, matters) else { return };
            let text = format!(
                "A consumer of {topic}-{partition} got offset {last}, and then {next}. Offset {skipped} holds a message that it never got."
            );
            (skip, text)
        };
        self.breaches.push(Breach { name, subject: Subject::Partition(topic, partition), text });
    }

    /// A consumer's position was set: what it gets next need not follow what it got.
    pub fn set(&mut self, client: usize, at: PartitionIndex) {
        self.polled.remove(&(client, at));
    }

    /// A client's process is gone, and the next one begins anew.
    pub fn gone(&mut self, client: usize) {
        self.polled.retain(|(known, _), _| *known != client);
    }

    /// A program's transaction ended. What it consumed in one that was not committed it consumes again.
    pub fn transaction_ended(&mut self, client: usize, committed: bool) {
        self.polled.retain(|(known, _), position| {
            if *known != client {
                return true;
            }
            match (committed, position.kept) {
                (true, _) => position.kept = Some(position.last),
                (false, Some(kept)) => position.last = kept,
                (false, None) => return false,
            }
            true
        });
    }

    /// A batch of a producer's messages, in the order in which it made them, was acknowledged from `base` on.
    pub fn acked(
        &mut self,
        producer: usize,
        at: PartitionIndex,
        base: i64,
        batch: &[Made],
        history: &History,
    ) {
        let (Some(first), Some(end)) = (batch.first(), batch.last()) else { return };
        if base < 0 {
            return;
        }
        let (first, number, offset) = (first.number, end.number, base + batch.len() as i64 - 1);
        let Some(known) = self.sent.get_mut(&(producer, at)) else {
            self.sent.insert((producer, at), (number, offset));
            return;
        };
        let before = *known;
        if number > before.0 {
            *known = (number, offset);
        }
        if (first > before.0) == (base > before.1) {
            return;
        }
        let (topic, partition) = history.name(at);
        let text = format!(
            "A producer's message {first} lies at offset {base} of {topic}-{partition}, and its message {} at offset {}: they are not in the order in which it sent them.",
            before.0, before.1
        );
        self.breaches.push(Breach {
            name: NONMONOTONIC_SEND,
            subject: Subject::Partition(topic, partition),
            text,
        });
    }

    /// A topic was deleted: its partitions begin anew if there is another one of its name.
    pub fn topic_deleted(&mut self, topic: &str, history: &History) {
        self.polled.retain(|(_, at), _| history.name(*at).0 != topic);
        self.sent.retain(|(_, at), _| history.name(*at).0 != topic);
    }

    /// Whether something was found since the last [`Positions::take`].
    pub fn is_broken(&self) -> bool {
        !self.breaches.is_empty()
    }

    /// What was found since the last call.
    pub fn take(&mut self) -> Vec<Breach> {
        std::mem::take(&mut self.breaches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::history::Message;
    use client::MessageId;

    fn records(offsets: &[i64]) -> Vec<PolledRecord> {
        let message = MessageId { client: 0, number: 0 };
        offsets.iter().map(|&offset| PolledRecord { offset, message }).collect()
    }

    /// A partition with messages at the offsets 0 to 9, but for 5.
    fn partition() -> (History, PartitionIndex) {
        let mut history = History::default();
        let at = history.partition("t", 0);
        for number in (0..10).filter(|n| *n != 5) {
            history.acked(at, i64::from(number), Message { client: 0, number });
        }
        (history, at)
    }

    fn found(positions: &mut Positions) -> Vec<&'static str> {
        positions.take().into_iter().map(|breach| breach.name).collect()
    }

    #[test]
    fn polls_go_on_where_the_last_one_ended() {
        let (history, at) = partition();
        for (polls, expected) in [
            (vec![vec![0, 1], vec![2, 3]], vec![]),
            (vec![vec![0, 1, 2, 3, 4], vec![6]], vec![]),
            (vec![vec![4, 6, 7]], vec![]),
            (vec![vec![0], vec![2]], vec!["poll-skip"]),
            (vec![vec![0, 1], vec![1]], vec!["nonmonotonic-poll"]),
            (vec![vec![6], vec![3], vec![4]], vec!["nonmonotonic-poll"]),
            (vec![vec![0, 2]], vec!["int-poll-skip"]),
            (vec![vec![2, 1]], vec!["int-nonmonotonic-poll"]),
            (vec![vec![9], vec![12]], vec![]),
        ] {
            let mut positions = Positions::default();
            for poll in &polls {
                positions.polled(1, at, &records(poll), &history, |_| true);
            }
            assert_eq!(found(&mut positions), expected, "{polls:?}");
        }
    }

    #[test]
    fn what_was_not_to_be_read_is_not_skipped() {
        let (history, at) = partition();
        let mut positions = Positions::default();
        positions.polled(1, at, &records(&[0]), &history, |_| true);
        positions.polled(1, at, &records(&[3]), &history, |offset| offset == 4);
        assert_eq!(found(&mut positions), [""; 0]);
    }

    #[test]
    fn a_position_that_is_set_is_a_new_beginning() {
        let (history, at) = partition();
        for new in [|p: &mut Positions, at| p.set(1, at), |p: &mut Positions, _| p.gone(1)] {
            let mut positions = Positions::default();
            positions.polled(1, at, &records(&[0, 1]), &history, |_| true);
            new(&mut positions, at);
            positions.polled(1, at, &records(&[0, 1]), &history, |_| true);
            assert_eq!(found(&mut positions), [""; 0]);
        }
    }

    #[test]
    fn a_program_consumes_again_what_it_did_not_commit() {
        let (history, at) = partition();
        let mut positions = Positions::default();
        let mut transaction = |offsets: &[i64], committed| {
            positions.polled(1, at, &records(offsets), &history, |_| true);
            positions.transaction_ended(1, committed);
            found(&mut positions)
        };
        assert_eq!(transaction(&[0, 1], false), [""; 0]);
        assert_eq!(transaction(&[0, 1], true), [""; 0]);
        assert_eq!(transaction(&[2, 3], false), [""; 0]);
        assert_eq!(transaction(&[2], true), [""; 0]);
        assert_eq!(transaction(&[2], true), ["nonmonotonic-poll"]);
        assert_eq!(transaction(&[4, 6], false), ["poll-skip"], "3 was not committed");
    }

    #[test]
    fn a_producers_messages_lie_in_its_order() {
        let (history, at) = partition();
        for (acks, expected) in [
            (vec![(0, (0, 1)), (2, (2, 4))], 0),
            (vec![(0, (0, 1)), (7, (2, 4))], 0),
            (vec![(2, (2, 3)), (0, (0, 1))], 0),
            (vec![(2, (0, 1)), (0, (2, 3))], 1),
            (vec![(0, (2, 3)), (2, (0, 1))], 1),
            (vec![(-1, (2, 3)), (2, (0, 1))], 0),
        ] {
            let mut positions = Positions::default();
            for (base, (first, end)) in acks.iter().copied() {
                let at_once = wire::drive::Instant(0);
                let batch: Vec<Made> = (first..=end).map(|number| Made { number, at: at_once }).collect();
                positions.acked(1, at, base, &batch, &history);
            }
            assert_eq!(found(&mut positions).len(), expected, "{acks:?}");
        }
    }
}

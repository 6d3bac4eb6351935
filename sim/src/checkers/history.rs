//! The clients' history: what was sent, what was acknowledged at which offset, what was read where.
//!
//! One array per partition says which message lies at which offset, as acknowledgements and reads tell; it is enough
//! to find an offset that held two messages ([`Anomaly::InconsistentOffset`]). A bit per message says whether it was
//! acknowledged, and, after the final read, whether it was found, and found again. The names are those of Jepsen's
//! Kafka workload. Offsets below a partition's log start are folded away, so that memory follows the log, not time.
//! Where a log was compacted, a message is not missed if a later one of the same key is known behind it.

use std::collections::{BTreeMap, VecDeque};

/// One offset held two messages.
pub const INCONSISTENT_OFFSETS: &str = "inconsistent-offsets";
/// Acknowledged, and gone.
pub const LOST_WRITE: &str = "lost-write";
/// In the log more than once.
pub const DUPLICATE: &str = "duplicate";
/// Acknowledged, and nobody could read that far.
pub const UNSEEN: &str = "unseen";

/// A message: the index of its client's name, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// Index of the client among the scenario's producers.
    pub client: u32,
    /// `N` of `NAME-N`.
    pub number: u32,
}

/// What the history shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// One offset held two messages.
    InconsistentOffset {
        /// The partition.
        partition: (String, i32),
        /// The offset.
        offset: i64,
        /// What was known there.
        first: Message,
        /// What was told later.
        second: Message,
    },
    /// Acknowledged, and gone: the final read passed the place and did not find it.
    LostWrite {
        /// The partition.
        partition: (String, i32),
        /// Where it was acknowledged; -1 if the leader did not tell.
        offset: i64,
        /// The message.
        message: Message,
    },
    /// In the log more than once.
    Duplicate {
        /// The partition of a later copy.
        partition: (String, i32),
        /// The offset of a later copy.
        offset: i64,
        /// The message.
        message: Message,
    },
    /// Acknowledged, and nobody could read that far.
    Unseen {
        /// The partition.
        partition: (String, i32),
        /// Where it was acknowledged.
        offset: i64,
        /// The message.
        message: Message,
    },
}

/// No message, in a [`Slots`] entry.
const NOTHING: Message = Message { client: u32::MAX, number: u32::MAX };

/// Which message lies at which offset of a partition.
#[derive(Clone, Debug, Default)]
struct Slots {
    base: i64,
    slots: VecDeque<Message>,
    /// The first contradiction of each offset is told, later ones of the same offset are not.
    contradicted: BTreeMap<i64, Message>,
}

/// Far more records than one run makes lie in a partition beyond this: an offset above it is a bug, not a place.
const LARGEST_SPAN: i64 = 1 << 32;

impl Slots {
    /// Notes that `message` lies at `offset`; tells what was known there if it was another one.
    fn note(&mut self, offset: i64, message: Message) -> Option<Message> {
        if offset < self.base {
            return None;
        }
        let index = offset - self.base;
        assert!(index < LARGEST_SPAN, "offset {offset} is out of all proportion");
        let index = index as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, NOTHING);
        }
        let known = self.slots[index];
        self.slots[index] = message;
        if known == NOTHING || known == message { None } else { Some(known) }
    }

    fn forget_below(&mut self, offset: i64) {
        while self.base < offset && self.slots.pop_front().is_some() {
            self.base += 1;
        }
        self.base = self.base.max(offset);
        self.contradicted = self.contradicted.split_off(&offset);
    }
}

/// A growing set of message numbers.
#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Adds a number; whether it was new.
    fn add(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1u64 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    fn has(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|w| w & (1 << (number % 64)) != 0)
    }
}

/// How far the final read came in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalRead {
    /// The log start offset when it began.
    pub start: i64,
    /// Everything below was read.
    pub end: i64,
    /// Whether it reached the end of the partition.
    pub complete: bool,
}

/// A partition of the history, by its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionIndex(usize);

#[derive(Clone, Debug)]
struct Partition {
    topic: String,
    /// Which of the topics that have a place.
    topic_number: usize,
    partition: i32,
    slots: Slots,
    /// Messages that another one displaced from their offset.
    displaced: Vec<(i64, Message)>,
    /// Acknowledged without an offset (acks=0).
    unplaced: Vec<Message>,
    /// Below this, a replica's log was compacted.
    cleaned: i64,
}

/// The clients' history, told event by event.
#[derive(Clone, Debug, Default)]
pub struct History {
    partitions: Vec<Partition>,
    /// By topic and client: a program that copies puts the same messages into another topic.
    acked: Vec<Vec<Bits>>,
    seen: Vec<Vec<Bits>>,
    duplicated: Vec<u64>,
    lost: Vec<u64>,
    /// By client: how many keys its messages have in turn; 0: none.
    keys: Vec<u64>,
    anomalies: Vec<Anomaly>,
}

impl History {
    /// The place of a partition, if it has one.
    pub fn find(&self, topic: &str, partition: i32) -> Option<PartitionIndex> {
        let known = self.partitions.iter().position(|p| p.partition == partition && p.topic == topic);
        known.map(PartitionIndex)
    }

    /// The place of a partition; new ones are added.
    pub fn partition(&mut self, topic: &str, partition: i32) -> PartitionIndex {
        self.find(topic, partition).unwrap_or_else(|| {
            let (slots, displaced, unplaced) = (Slots::default(), Vec::new(), Vec::new());
            let known = self.partitions.iter().find(|p| p.topic == topic).map(|p| p.topic_number);
            let next = self.partitions.iter().map(|p| p.topic_number + 1).max().unwrap_or(0);
            self.partitions.push(Partition {
                topic: topic.to_owned(),
                topic_number: known.unwrap_or(next),
                partition,
                slots,
                displaced,
                unplaced,
                cleaned: 0,
            });
            PartitionIndex(self.partitions.len() - 1)
        })
    }

    /// A message was acknowledged at an offset; -1 if the leader did not tell.
    pub fn acked(&mut self, at: PartitionIndex, offset: i64, message: Message) {
        let topic = self.partitions[at.0].topic_number;
        bits(&mut self.acked, topic, message.client).add(message.number);
        if offset < 0 {
            self.partitions[at.0].unplaced.push(message);
        } else {
            self.note(at, offset, message);
        }
    }

    /// A consumer read a message at an offset.
    pub fn read(&mut self, at: PartitionIndex, offset: i64, message: Message) {
        self.note(at, offset, message);
    }

    /// The final read found a message at an offset.
    pub fn finally_read(&mut self, at: PartitionIndex, offset: i64, message: Message) {
        let topic = self.partitions[at.0].topic_number;
        if !bits(&mut self.seen, topic, message.client).add(message.number) {
            *count(&mut self.duplicated, message.client) += 1;
            let partition = self.name(at);
            self.anomalies.push(Anomaly::Duplicate { partition, offset, message });
        }
        self.note(at, offset, message);
    }

    /// Everything below `offset` was deleted on purpose (retention, DeleteRecords).
    pub fn log_start(&mut self, at: PartitionIndex, offset: i64) {
        let partition = &mut self.partitions[at.0];
        partition.slots.forget_below(offset);
        partition.displaced.retain(|(o, _)| *o >= offset);
    }

    /// A topic was deleted: what lies in it is gone on purpose, and another one of its name begins at offset 0.
    pub fn topic_deleted(&mut self, topic: &str) {
        for partition in self.partitions.iter_mut().filter(|p| p.topic == topic) {
            (partition.slots, partition.cleaned) = (Slots::default(), 0);
            partition.displaced.clear();
            partition.unplaced.clear();
        }
    }

    /// The first offset from `from` on and below `to` at which a message is known that no compaction may have removed and
    /// that matters.
    pub fn holds_between(
        &self,
        at: PartitionIndex,
        from: i64,
        to: i64,
        matters: impl Fn(i64) -> bool,
    ) -> Option<i64> {
        let partition = &self.partitions[at.0];
        let (base, end) = (partition.slots.base, partition.slots.base + partition.slots.slots.len() as i64);
        let (from, to) = (from.max(base).max(partition.cleaned), to.min(end));
        (from..to)
            .find(|offset| partition.slots.slots[(offset - base) as usize] != NOTHING && matters(*offset))
    }

    /// The messages of a client have so many keys, in turn.
    pub fn keys(&mut self, client: u32, keys: u64) {
        *count(&mut self.keys, client) = keys;
    }

    /// Below `offset` a log was compacted: of each key only the last record is kept for certain.
    pub fn cleaned(&mut self, at: PartitionIndex, offset: i64) {
        let partition = &mut self.partitions[at.0];
        partition.cleaned = partition.cleaned.max(offset);
    }

    /// Judges what was acknowledged by what the final read found. `read` says how far it came in a partition.
    pub fn judge(&mut self, read: impl Fn(&str, i32) -> FinalRead) {
        for at in 0..self.partitions.len() {
            let upto = read(&self.partitions[at].topic, self.partitions[at].partition);
            for (offset, message) in self.to_judge(at) {
                if offset < 0 || offset >= upto.start {
                    self.judge_one(PartitionIndex(at), offset, message, upto);
                }
            }
        }
    }

    /// Acknowledged messages of a partition that the final read did not find, in offset order.
    fn to_judge(&self, at: usize) -> Vec<(i64, Message)> {
        let partition = &self.partitions[at];
        let placed =
            partition.slots.slots.iter().enumerate().map(|(i, m)| (partition.slots.base + i as i64, *m));
        let unplaced = partition.unplaced.iter().map(|m| (-1, *m));
        let topic = partition.topic_number;
        let has = |all: &[Vec<Bits>], m: Message| {
            all.get(topic).and_then(|t| t.get(m.client as usize)).is_some_and(|b| b.has(m.number))
        };
        let missing = |(_, m): &(i64, Message)| *m != NOTHING && has(&self.acked, *m) && !has(&self.seen, *m);
        let last = self.last_of_keys(partition);
        let overwritten = |offset: i64, m: Message| {
            let key = self.key(m).filter(|_| offset < partition.cleaned);
            key.is_some_and(|key| last.get(&key).is_some_and(|last| *last > offset))
        };
        let mut all: Vec<(i64, Message)> = placed
            .chain(partition.displaced.iter().copied())
            .chain(unplaced)
            .filter(missing)
            .filter(|(offset, m)| !overwritten(*offset, *m))
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The key of a message.
    fn key(&self, message: Message) -> Option<u64> {
        let keys = self.keys.get(message.client as usize).copied().filter(|keys| *keys > 0)?;
        Some(u64::from(message.number) % keys)
    }

    /// By key: the highest offset at which a partition is known to have it. Of what was not compacted, nothing.
    fn last_of_keys(&self, partition: &Partition) -> BTreeMap<u64, i64> {
        let mut last = BTreeMap::new();
        let slots = if partition.cleaned > 0 { partition.slots.slots.iter() } else { Default::default() };
        for (i, message) in slots.enumerate() {
            if let Some(key) = self.key(*message) {
                last.insert(key, partition.slots.base + i as i64);
            }
        }
        last
    }

    fn judge_one(&mut self, at: PartitionIndex, offset: i64, message: Message, upto: FinalRead) {
        let partition = self.name(at);
        // What nobody could read up to is not known to be gone.
        if upto.complete || (0..upto.end).contains(&offset) {
            *count(&mut self.lost, message.client) += 1;
            self.anomalies.push(Anomaly::LostWrite { partition, offset, message });
        } else {
            self.anomalies.push(Anomaly::Unseen { partition, offset, message });
        }
    }

    /// What was found since the last call.
    pub fn take_anomalies(&mut self) -> Vec<Anomaly> {
        std::mem::take(&mut self.anomalies)
    }

    /// Messages of a client that were acknowledged and are gone.
    pub fn lost(&self, client: u32) -> u64 {
        self.lost.get(client as usize).copied().unwrap_or(0)
    }

    /// Copies beyond the first that the final read found of a client's messages.
    pub fn duplicated(&self, client: u32) -> u64 {
        self.duplicated.get(client as usize).copied().unwrap_or(0)
    }

    /// Topic and partition of a place.
    pub fn name(&self, at: PartitionIndex) -> (String, i32) {
        (self.partitions[at.0].topic.clone(), self.partitions[at.0].partition)
    }

    fn note(&mut self, at: PartitionIndex, offset: i64, message: Message) {
        let partition = &mut self.partitions[at.0];
        let Some(first) = partition.slots.note(offset, message) else { return };
        partition.displaced.push((offset, first));
        if partition.slots.contradicted.insert(offset, first).is_none() {
            let partition = self.name(at);
            self.anomalies.push(Anomaly::InconsistentOffset { partition, offset, first, second: message });
        }
    }
}

fn bits(all: &mut Vec<Vec<Bits>>, topic: usize, client: u32) -> &mut Bits {
    if topic >= all.len() {
        all.resize_with(topic + 1, Vec::new);
    }
    let (all, client) = (&mut all[topic], client as usize);
    if client >= all.len() {
        all.resize_with(client + 1, Bits::default);
    }
    &mut all[client]
}

fn count(all: &mut Vec<u64>, client: u32) -> &mut u64 {
    let client = client as usize;
    if client >= all.len() {
        all.resize(client + 1, 0);
    }
    &mut all[client]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn m(number: u32) -> Message {
        Message { client: 0, number }
    }

    fn whole(_: &str, _: i32) -> FinalRead {
        FinalRead { start: 0, end: 100, complete: true }
    }

    fn p() -> (String, i32) {
        ("t".to_owned(), 0)
    }

    #[test]
    fn another_topic_of_the_same_name_is_another_one() {
        let mut h = History::default();
        let t = h.partition("t", 0);
        h.acked(t, 0, m(0));
        h.acked(t, 1, m(1));
        h.acked(t, -1, m(2));
        assert_eq!(h.holds_between(t, 0, 9, |offset| offset > 0), Some(1));
        h.topic_deleted("t");
        assert_eq!(h.holds_between(t, 0, 9, |_| true), None);
        h.acked(t, 0, m(3));
        h.finally_read(t, 0, m(3));
        h.judge(whole);
        assert_eq!(h.take_anomalies(), []);
    }

    #[test]
    fn a_clean_history_has_no_anomaly() {
        let mut h = History::default();
        let t = h.partition("t", 0);
        for n in 0..10 {
            h.acked(t, i64::from(n), m(n));
            h.read(t, i64::from(n), m(n));
            h.finally_read(t, i64::from(n), m(n));
        }
        h.judge(whole);
        assert_eq!(h.take_anomalies(), []);
    }

    #[test]
    fn acknowledged_and_not_found_is_lost() {
        let mut h = History::default();
        let t = h.partition("t", 0);
        h.acked(t, 0, m(0));
        h.acked(t, 1, m(1));
        h.finally_read(t, 0, m(0));
        h.judge(whole);
        assert_eq!(h.take_anomalies(), [Anomaly::LostWrite { partition: p(), offset: 1, message: m(1) }]);
        assert_eq!(h.lost(0), 1);
    }

    #[test]
    fn what_could_not_be_read_is_unseen() {
        let mut h = History::default();
        let t = h.partition("t", 0);
        h.acked(t, 7, m(1));
        h.judge(|_, _| FinalRead { start: 0, end: 5, complete: false });
        assert_eq!(h.take_anomalies(), [Anomaly::Unseen { partition: p(), offset: 7, message: m(1) }]);
    }

    #[test]
    fn an_offset_with_two_messages_is_told_once() {
        let mut h = History::default();
        let t = h.partition("t", 0);
        h.acked(t, 3, m(3));
        h.acked(t, 3, m(4));
        h.read(t, 3, m(4));
        h.read(t, 3, m(3));
        let second = m(4);
        assert_eq!(
            h.take_anomalies(),
            [Anomaly::InconsistentOffset { partition: p(), offset: 3, first: m(3), second }]
        );
    }

    #[test]
    fn a_message_at_two_places_is_a_duplicate() {
        let mut h = History::default();
        let t = h.partition("t", 0);
        h.finally_read(t, 3, m(3));
        let t1 = h.partition("t", 1);
        h.finally_read(t1, 9, m(3));
        let partition = ("t".to_owned(), 1);
        assert_eq!(h.take_anomalies(), [Anomaly::Duplicate { partition, offset: 9, message: m(3) }]);
        assert_eq!(h.duplicated(0), 1);
    }

    #[test]
    fn a_copy_in_another_topic_is_another_message() {
        let mut h = History::default();
        let (t, u) = (h.partition("t", 0), h.partition("u", 0));
        h.acked(t, 0, m(3));
        h.finally_read(t, 0, m(3));
        h.finally_read(u, 0, m(3));
        h.judge(whole);
        assert_eq!(h.take_anomalies(), []);
        h.finally_read(u, 1, m(3));
        let partition = ("u".to_owned(), 0);
        assert_eq!(h.take_anomalies(), [Anomaly::Duplicate { partition, offset: 1, message: m(3) }]);
    }

    #[test]
    fn what_compaction_overwrote_is_not_lost() {
        let mut h = History::default();
        h.keys(0, 2);
        let t = h.partition("t", 0);
        for n in 0..6 {
            h.acked(t, i64::from(n), m(n));
        }
        h.cleaned(t, 3);
        // Of the keys 0 and 1, 4 and 5 are the last ones; 3 was not compacted.
        h.finally_read(t, 4, m(4));
        h.finally_read(t, 5, m(5));
        h.judge(whole);
        assert_eq!(h.take_anomalies(), [Anomaly::LostWrite { partition: p(), offset: 3, message: m(3) }]);
    }

    #[test]
    fn the_last_of_a_key_is_lost_compacted_or_not() {
        let mut h = History::default();
        h.keys(0, 2);
        let t = h.partition("t", 0);
        for n in 0..4 {
            h.acked(t, i64::from(n), m(n));
        }
        h.cleaned(t, 4);
        h.finally_read(t, 2, m(2));
        h.judge(whole);
        assert_eq!(h.take_anomalies(), [Anomaly::LostWrite { partition: p(), offset: 3, message: m(3) }]);
    }

    #[test]
    fn what_retention_deleted_is_not_lost() {
        let mut h = History::default();
        let t = h.partition("t", 0);
        for n in 0..10 {
            h.acked(t, i64::from(n), m(n));
        }
        h.log_start(t, 4);
        for n in 6..10 {
            h.finally_read(t, i64::from(n), m(n));
        }
        h.judge(|_, _| FinalRead { start: 6, end: 10, complete: true });
        assert_eq!(h.take_anomalies(), []);
        assert_eq!(h.partitions[t.0].slots.slots.len(), 6);
    }
}

//! Invariants of replicas: what must hold of every partition's logs, leaders and watermarks after every step.
//!
//! The names are those of the published models (hachikuji/kafka-specification, Vanlightly/kafka-tlaplus). The checker
//! hears the nodes' events and keeps, for each replica, its log end offset, its leader epochs and its high watermark;
//! for each partition, the marks of the batches that lie in any log, and the prefix that was committed. It survives
//! what the nodes forget: a killed process keeps its view, since its page cache survives; a power loss or a wiped disk
//! is told with [`Replicas::disk_lost`].
//!
//! - `LogMatching`: two batches with the same offset and leader epoch are the same batch, on all replicas.
//! - `MonotonicEpoch`: leader epochs never go back, in the controller's state and inside a log.
//! - `SingleLeaderPerEpoch`: at most one broker leads a partition in a leader epoch.
//! - `LeaderInIsr`: a leader is a member of the ISR.
//! - `ValidHighWatermark`: a high watermark lies within its log, and a leader's never goes back within an epoch.
//! - `StrongIsr`: every member of a leader's ISR has everything below the leader's high watermark.
//! - `LeaderCompleteness`: a new leader has every committed record.
//! - `NoCommittedRecordLost`: every committed record lies in at least one replica's log.
//!
//! What retention has deleted is missed by nobody. Where a log was compacted, a follower that begins anew gets batches
//! with fewer records, and of some leader epochs none: there neither batches nor epochs are compared.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use broker_core::event::{BatchMark, ChangeReason, Event, PartitionState, TopicPartition};

use super::{Breach, Subject};

/// What the checker knows of one replica.
#[derive(Clone, Debug, Default)]
struct Replica {
    log_end: i64,
    high_watermark: i64,
    /// (leader epoch, offset at which it starts in this log), both rising.
    epochs: Vec<(i32, i64)>,
    leads: Option<i32>,
}

impl Replica {
    fn append(&mut self, mark: &BatchMark) {
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < mark.epoch) {
            self.epochs.push((mark.epoch, mark.base_offset));
        }
        self.log_end = mark.last_offset + 1;
    }

    fn truncate(&mut self, to: i64) {
        self.epochs.retain(|(_, start)| *start < to);
        self.log_end = to;
        self.high_watermark = self.high_watermark.min(to);
    }

    /// The epochs of the records below `offset`.
    fn epochs_below(&self, offset: i64) -> &[(i32, i64)] {
        &self.epochs[..self.epochs.partition_point(|(_, start)| *start < offset)]
    }
}

#[derive(Clone, Debug, Default)]
struct Partition {
    replicas: BTreeMap<i32, Replica>,
    batches: Batches,
    /// Everything below was committed: a leader's high watermark passed it.
    committed: i64,
    /// The epochs of the committed records.
    committed_epochs: Vec<(i32, i64)>,
    /// Everything below was deleted on purpose.
    log_start: i64,
    /// Below this, some replica's log was compacted.
    cleaned: i64,
    leaders: BTreeMap<i32, i32>,
    state: Option<PartitionState>,
    /// A leader was elected uncleanly in this epoch: what it has is what there is.
    unclean_epoch: Option<i32>,
    lost_told: bool,
}

/// The batches that were ever appended anywhere, each with the broker that did it first, by base offset and leader epoch.
///
/// Nearly every batch comes behind all others, or is one of the last ones, and what lies below a log start is cut off.
#[derive(Clone, Debug, Default)]
struct Batches(VecDeque<(BatchMark, i32)>);

impl Batches {
    /// Notes what a broker appended, or gives what was known in its place.
    fn note(&mut self, mark: &BatchMark, node: i32) -> Option<(BatchMark, i32)> {
        let key = |mark: &BatchMark| (mark.base_offset, mark.epoch);
        if self.0.back().is_none_or(|(last, _)| key(last) < key(mark)) {
            self.0.push_back((*mark, node));
            return None;
        }
        match self.0.binary_search_by_key(&key(mark), |(known, _)| key(known)) {
            Ok(at) => Some(self.0[at]),
            Err(at) => {
                self.0.insert(at, (*mark, node));
                None
            }
        }
    }

    fn forget_below(&mut self, offset: i64) {
        while self.0.front().is_some_and(|(mark, _)| mark.base_offset < offset) {
            self.0.pop_front();
        }
    }
}

/// The invariants of all partitions.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    /// By topic and partition number.
    topics: BTreeMap<Arc<str>, Vec<Partition>>,
    breaches: Vec<Breach>,
}

impl Replicas {
    /// Hears what a broker said.
    pub fn hear(&mut self, node: i32, event: &Event) {
        match event {
            Event::RecordsAppended { partition, batches, .. } => self.appended(node, partition, batches),
            Event::LogTruncated { partition, to, .. } => self.truncated(node, partition, *to),
            Event::HighWatermarkAdvanced { partition, to, as_leader, .. } => {
                self.watermark(node, partition, *to, *as_leader)
            }
            Event::BecameLeader { partition, epoch, start_offset, high_watermark } => {
                self.became_leader(node, partition, *epoch, *start_offset, *high_watermark);
            }
            Event::BecameFollower { partition, log_end_offset, .. } => {
                let replica = self.replica(node, partition);
                replica.leads = None;
                if *log_end_offset < replica.log_end {
                    replica.truncate(*log_end_offset);
                }
            }
            Event::LogRecovered { partition, log_end_offset, .. } => {
                let replica = self.replica(node, partition);
                if *log_end_offset < replica.log_end {
                    replica.truncate(*log_end_offset);
                }
            }
            Event::LogStartOffsetAdvanced { partition, to, .. } => self.log_start(partition, *to),
            Event::LogCleaned { partition, first_dirty, .. } => {
                let partition = self.partition(partition);
                partition.cleaned = partition.cleaned.max(*first_dirty);
            }
            Event::PartitionChanged { partition, after, reason, .. } => {
                self.changed(partition, after, *reason)
            }
            Event::TopicDeleted { topic } => {
                self.topics.remove(topic);
            }
            _ => {}
        }
    }

    /// A broker's process is gone: whatever it led, it leads no more.
    pub fn process_gone(&mut self, node: i32) {
        for partition in self.topics.values_mut().flatten() {
            if let Some(replica) = partition.replicas.get_mut(&node) {
                replica.leads = None;
            }
        }
    }

    /// A broker's disk lost what was not durable (`wiped`: everything). What is left is told when it starts again.
    pub fn disk_lost(&mut self, node: i32, wiped: bool) {
        for partition in self.topics.values_mut().flatten().filter(|_| wiped) {
            partition.replicas.remove(&node);
        }
    }

    /// What was broken since the last call.
    pub fn take(&mut self) -> Vec<Breach> {
        std::mem::take(&mut self.breaches)
    }

    fn replica(&mut self, node: i32, at: &TopicPartition) -> &mut Replica {
        self.partition(at).replicas.entry(node).or_default()
    }

    fn partition(&mut self, at: &TopicPartition) -> &mut Partition {
        if !self.topics.contains_key(&at.topic) {
            self.topics.insert(at.topic.clone(), Vec::new());
        }
        let partitions = self.topics.get_mut(&at.topic).expect("it was just put there");
        let index = usize::try_from(at.partition).expect("partitions are numbered from 0");
        if index >= partitions.len() {
            partitions.resize_with(index + 1, Partition::default);
        }
        &mut partitions[index]
    }

    fn breach(&mut self, name: &'static str, at: &TopicPartition, text: String) {
        self.breaches.push(Breach {
            name,
            subject: Subject::Partition(at.topic.to_string(), at.partition),
            text,
        });
    }

    fn appended(&mut self, node: i32, at: &TopicPartition, batches: &[BatchMark]) {
        let mut broken: Vec<(&'static str, String)> = Vec::new();
        let partition = self.partition(at);
        for mark in batches {
            let replica = partition.replicas.entry(node).or_default();
            if let Some((last, _)) = replica.epochs.last()
                && *last > mark.epoch
            {
                broken.push(("MonotonicEpoch", format!("broker-{node} appended offset {} with leader epoch {} behind records of epoch {last}.", mark.base_offset, mark.epoch)));
            }
            replica.append(mark);
            if let Some((known, other)) = partition.batches.note(mark, node)
                && known != *mark
                && !(mark.base_offset < partition.cleaned && mark.last_offset == known.last_offset)
            {
                broken.push((
                    "LogMatching",
                    format!(
                        "Offset {} of leader epoch {} is one batch on broker-{other} (last offset {}, {} bytes, CRC {:08x}) and another on broker-{node} (last offset {}, {} bytes, CRC {:08x}).",
                        mark.base_offset, mark.epoch, known.last_offset, known.size, known.crc, mark.last_offset, mark.size, mark.crc
                    ),
                ));
            }
        }
        for (name, text) in broken {
            self.breach(name, at, text);
        }
    }

    fn truncated(&mut self, node: i32, at: &TopicPartition, to: i64) {
        self.replica(node, at).truncate(to);
        self.check_nothing_lost(at, &format!("broker-{node} cut its log to {to}"));
    }

    /// Every committed record lies somewhere.
    fn check_nothing_lost(&mut self, at: &TopicPartition, what: &str) {
        let partition = self.partition(at);
        let committed = partition.committed;
        let somewhere = committed <= partition.log_start
            || partition.lost_told
            || partition.replicas.values().any(|r| r.log_end >= committed && matches_prefix(r, partition));
        if !somewhere {
            partition.lost_told = true;
            let ends: Vec<String> =
                partition.replicas.iter().map(|(n, r)| format!("broker-{n} at {}", r.log_end)).collect();
            let text = format!(
                "Records below offset {committed} were committed. After {what}, no replica has them all: {}.",
                ends.join(", ")
            );
            self.breach("NoCommittedRecordLost", at, text);
        }
    }

    fn watermark(&mut self, node: i32, at: &TopicPartition, to: i64, as_leader: bool) {
        let partition = self.partition(at);
        let replica = partition.replicas.entry(node).or_default();
        let (before, log_end, leads) = (replica.high_watermark, replica.log_end, replica.leads);
        replica.high_watermark = to;
        let mut broken: Vec<(&'static str, String)> = Vec::new();
        if to > log_end {
            broken.push((
                "ValidHighWatermark",
                format!("The high watermark {to} of broker-{node} lies beyond its log end offset {log_end}."),
            ));
        }
        if as_leader && to < before {
            broken.push((
                "ValidHighWatermark",
                format!("The high watermark of the leader broker-{node} went back from {before} to {to}."),
            ));
        }
        if as_leader && to <= log_end {
            broken.extend(strong_isr(partition, node, to).map(|text| ("StrongIsr", text)));
            // A leader of an older epoch commits nothing any more.
            let newest = partition.leaders.last_key_value().map(|(epoch, _)| *epoch);
            if leads == newest && to > partition.committed {
                partition.committed = to;
                partition.committed_epochs.clear();
                partition.committed_epochs.extend_from_slice(partition.replicas[&node].epochs_below(to));
            }
        }
        for (name, text) in broken {
            self.breach(name, at, text);
        }
    }

    fn became_leader(&mut self, node: i32, at: &TopicPartition, epoch: i32, start: i64, high_watermark: i64) {
        let mut broken: Vec<(&'static str, String)> = Vec::new();
        let partition = self.partition(at);
        let replica = partition.replicas.entry(node).or_default();
        replica.leads = Some(epoch);
        replica.high_watermark = high_watermark;
        if start < replica.log_end {
            replica.truncate(start);
        }
        replica.log_end = start;
        match partition.leaders.insert(epoch, node) {
            Some(other) if other != node => broken.push((
                "SingleLeaderPerEpoch",
                format!("Both broker-{other} and broker-{node} became leader in epoch {epoch}."),
            )),
            _ => {}
        }
        let newest = partition.leaders.last_key_value().is_none_or(|(newest, _)| *newest <= epoch);
        if partition.unclean_epoch == Some(epoch) && start < partition.committed {
            // What an unclean leader lacks is lost by decision; the clients' history says what it cost.
            partition.committed = start;
            partition.committed_epochs = partition.replicas[&node].epochs_below(start).to_vec();
        } else if newest && !has_committed(partition, node) {
            let committed = partition.committed;
            broken.push((
                "LeaderCompleteness",
                format!("broker-{node} became leader in epoch {epoch} with the log end offset {start}. Records below {committed} were committed before, and it does not have them all."),
            ));
            // Told once: from here on this log is what the cluster agrees on.
            partition.committed = partition.committed.min(start);
            partition.committed_epochs = partition.replicas[&node].epochs_below(partition.committed).to_vec();
        }
        for (name, text) in broken {
            self.breach(name, at, text);
        }
    }

    fn log_start(&mut self, at: &TopicPartition, to: i64) {
        let partition = self.partition(at);
        if to > partition.log_start {
            partition.log_start = to;
            partition.batches.forget_below(to);
        }
    }

    fn changed(&mut self, at: &TopicPartition, after: &PartitionState, reason: ChangeReason) {
        let mut broken: Vec<(&'static str, String)> = Vec::new();
        let partition = self.partition(at);
        if let Some(before) = &partition.state {
            if after.leader_epoch < before.leader_epoch {
                broken.push((
                    "MonotonicEpoch",
                    format!(
                        "The leader epoch went back from {} to {}.",
                        before.leader_epoch, after.leader_epoch
                    ),
                ));
            }
            if after.partition_epoch <= before.partition_epoch {
                broken.push((
                    "MonotonicEpoch",
                    format!(
                        "The partition epoch went from {} to {}.",
                        before.partition_epoch, after.partition_epoch
                    ),
                ));
            }
            let eligible = before.isr.contains(&after.leader) || before.elr.contains(&after.leader);
            if after.leader >= 0 && after.leader_epoch > before.leader_epoch && !eligible {
                partition.unclean_epoch = Some(after.leader_epoch);
            }
        }
        if reason == ChangeReason::UncleanElection && after.leader >= 0 {
            partition.unclean_epoch = Some(after.leader_epoch);
        }
        if after.leader >= 0 && !after.isr.contains(&after.leader) {
            broken.push((
                "LeaderInIsr",
                format!("The leader, broker-{}, is not in the ISR {:?}.", after.leader, after.isr),
            ));
        }
        partition.state = Some(after.clone());
        for (name, text) in broken {
            self.breach(name, at, text);
        }
    }
}

/// Whether a replica holds everything that was committed: as far, and of the same leader epochs.
fn has_committed(partition: &Partition, node: i32) -> bool {
    partition.committed <= partition.log_start
        || partition
            .replicas
            .get(&node)
            .is_some_and(|r| r.log_end >= partition.committed && matches_prefix(r, partition))
}

/// With LogMatching, equal epochs up to an offset mean equal records up to it.
fn matches_prefix(replica: &Replica, partition: &Partition) -> bool {
    let own = replica.epochs_below(partition.committed);
    let start = partition.log_start.max(partition.cleaned).min(partition.committed);
    let (a, b) = (above(own, start), above(&partition.committed_epochs, start));
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.0 == y.0 && (x.1 == y.1 || x.1.max(y.1) <= start))
}

/// The epochs of the records at and above `start`.
fn above(epochs: &[(i32, i64)], start: i64) -> &[(i32, i64)] {
    let first = epochs.partition_point(|(_, s)| *s <= start).saturating_sub(1);
    &epochs[first..]
}

/// The member of the leader's ISR that lacks something below the leader's high watermark, if there is one.
fn strong_isr(partition: &Partition, leader: i32, high_watermark: i64) -> Option<String> {
    // Only the controller's own view of the leader counts: a leader that was deposed has an ISR of the past.
    let state = partition.state.as_ref()?;
    let leads = partition.replicas.get(&leader)?.leads?;
    if state.leader != leader || state.leader_epoch != leads {
        return None;
    }
    let behind = state
        .isr
        .iter()
        .find(|member| partition.replicas.get(member).is_none_or(|r| r.log_end < high_watermark))?;
    let end = partition.replicas.get(behind).map_or(0, |r| r.log_end);
    Some(format!(
        "The leader broker-{leader} moved its high watermark to {high_watermark}. broker-{behind} is in the ISR and ends at {end}."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn tp() -> TopicPartition {
        TopicPartition { topic: Arc::from("t"), partition: 0 }
    }

    fn append(base: i64, last: i64, epoch: i32, crc: u32) -> Event {
        let mark = BatchMark { base_offset: base, last_offset: last, epoch, size: 100, crc };
        Event::RecordsAppended {
            partition: tp(),
            base_offset: base,
            log_end_offset: last + 1,
            epoch,
            as_leader: true,
            batches: [mark].into_iter().collect(),
        }
    }

    fn lead(epoch: i32, start: i64, high_watermark: i64) -> Event {
        Event::BecameLeader { partition: tp(), epoch, start_offset: start, high_watermark }
    }

    fn watermark(to: i64) -> Event {
        Event::HighWatermarkAdvanced { partition: tp(), from: 0, to, as_leader: true }
    }

    fn state(leader: i32, leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> Event {
        let after = PartitionState {
            leader,
            leader_epoch,
            partition_epoch,
            replicas: vec![1, 2],
            isr: isr.to_vec(),
            elr: vec![],
            last_known_elr: vec![],
        };
        Event::PartitionChanged { partition: tp(), before: None, after, reason: ChangeReason::BrokerFenced }
    }

    fn truncate(from: i64, to: i64) -> Event {
        Event::LogTruncated { partition: tp(), from, to, high_watermark: 0 }
    }

    /// Tells the events and names what was broken.
    fn broken(events: &[(i32, Event)]) -> Vec<&'static str> {
        let mut replicas = Replicas::default();
        for (node, event) in events {
            replicas.hear(*node, event);
        }
        replicas.take().iter().map(|b| b.name).collect()
    }

    /// broker-1 leads in epoch 0; both have ten records, all committed.
    fn replicated() -> Vec<(i32, Event)> {
        vec![
            (1, state(1, 0, 0, &[1, 2])),
            (1, lead(0, 0, 0)),
            (1, append(0, 9, 0, 7)),
            (2, append(0, 9, 0, 7)),
            (1, watermark(10)),
        ]
    }

    fn after(more: Vec<(i32, Event)>) -> Vec<&'static str> {
        broken(&replicated().into_iter().chain(more).collect::<Vec<_>>())
    }

    #[test]
    fn a_clean_failover_breaks_nothing() {
        let story = vec![
            (1, append(10, 12, 0, 8)),
            (1, state(2, 1, 1, &[2])),
            (2, lead(1, 10, 5)),
            (2, append(10, 19, 1, 9)),
            (2, watermark(20)),
            (1, truncate(13, 10)),
            (1, append(10, 19, 1, 9)),
        ];
        assert_eq!(after(story), [""; 0]);
    }

    #[test]
    fn different_batches_at_one_place() {
        assert_eq!(after(vec![(1, append(10, 12, 0, 8)), (2, append(10, 12, 0, 9))]), ["LogMatching"]);
    }

    #[test]
    fn epochs_go_back() {
        assert_eq!(after(vec![(1, state(1, 3, 1, &[1])), (1, state(1, 2, 2, &[1]))]), ["MonotonicEpoch"]);
        assert_eq!(after(vec![(1, append(10, 12, 3, 8)), (1, append(13, 14, 2, 8))]), ["MonotonicEpoch"]);
    }

    #[test]
    fn two_leaders_in_one_epoch() {
        assert_eq!(after(vec![(2, lead(0, 10, 10))]), ["SingleLeaderPerEpoch"]);
    }

    #[test]
    fn a_leader_outside_its_isr() {
        assert_eq!(after(vec![(1, state(1, 0, 1, &[2]))]), ["LeaderInIsr"]);
    }

    #[test]
    fn a_watermark_beyond_the_log_or_going_back() {
        assert_eq!(after(vec![(1, watermark(11))]), ["ValidHighWatermark"]);
        assert_eq!(after(vec![(1, watermark(9))]), ["ValidHighWatermark"]);
    }

    #[test]
    fn a_watermark_that_an_isr_member_does_not_reach() {
        assert_eq!(after(vec![(1, append(10, 12, 0, 8)), (1, watermark(13))]), ["StrongIsr"]);
    }

    #[test]
    fn a_leader_that_lacks_committed_records() {
        assert_eq!(after(vec![(2, truncate(10, 4)), (2, lead(1, 4, 4))]), ["LeaderCompleteness"]);
    }

    #[test]
    fn an_unclean_leader_is_excused() {
        let story = vec![
            (1, state(1, 0, 1, &[1])),
            (2, truncate(10, 4)),
            (1, state(2, 1, 2, &[2])),
            (2, lead(1, 4, 4)),
        ];
        assert_eq!(after(story), [""; 0]);
    }

    #[test]
    fn a_committed_record_that_nobody_has() {
        assert_eq!(after(vec![(2, truncate(10, 4)), (1, truncate(10, 4))]), ["NoCommittedRecordLost"]);
    }

    #[test]
    fn a_compacted_log_is_copied_with_fewer_records_and_epochs() {
        let mark = |base_offset, last_offset, epoch, size, crc| BatchMark {
            base_offset,
            last_offset,
            epoch,
            size,
            crc,
        };
        let batch = |mark: BatchMark| Event::RecordsAppended {
            partition: tp(),
            base_offset: mark.base_offset,
            log_end_offset: mark.last_offset + 1,
            epoch: mark.epoch,
            as_leader: false,
            batches: [mark].into_iter().collect(),
        };
        let (first_dirty, bytes_before, bytes_after) = (20, 200, 50);
        let cleaned = Event::LogCleaned { partition: tp(), first_dirty, bytes_before, bytes_after };
        // broker-2 begins anew, and gets nothing of epoch 0 any more, and less of epoch 1.
        let story = |cleaned: Option<Event>, last| {
            let mut story = vec![
                (1, state(1, 1, 1, &[1])),
                (1, lead(1, 10, 10)),
                (1, append(10, 19, 1, 8)),
                (1, append(20, 29, 2, 8)),
                (1, watermark(30)),
            ];
            story.extend(cleaned.map(|event| (1, event)));
            story.push((2, truncate(10, 0)));
            story.push((2, batch(mark(10, last, 1, 60, 3))));
            story.push((2, batch(mark(20, 29, 2, 100, 8))));
            story.push((1, state(2, 3, 2, &[2])));
            story.push((2, lead(3, 30, 30)));
            story
        };
        assert_eq!(after(story(Some(cleaned.clone()), 19)), [""; 0]);
        assert_eq!(after(story(Some(cleaned), 18)), ["LogMatching"]);
        assert_eq!(after(story(None, 19)), ["LogMatching", "LeaderCompleteness"]);
    }

    #[test]
    fn what_retention_deleted_is_not_missed() {
        let gone = Event::LogStartOffsetAdvanced { partition: tp(), from: 0, to: 10 };
        assert_eq!(after(vec![(1, gone), (2, truncate(10, 4)), (2, lead(1, 10, 10))]), [""; 0]);
    }
}

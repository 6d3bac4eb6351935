//! Invariants of replicas: what must hold of every partition's logs, leaders and watermarks after every step.
//!
//! The names are those of the published models (hachikuji/kafka-specification, Vanlightly/kafka-tlaplus); each has a file
//! of its own, which says where it is defined and what of it is looked at here. [`Replicas`] hears the nodes' events,
//! keeps in [`state`] what they tell, and asks those invariants that an event could break. The work for an event does
//! not depend on how long a log is.
//!
//! It survives what the nodes forget: a killed process keeps its view, since its page cache survives; a power loss or a
//! wiped disk is told with [`Replicas::disk_lost`], and what is left then is told by the log when it is opened.
//!
//! What retention has deleted is missed by nobody. Where a log was compacted, a follower that begins anew gets batches
//! with fewer records, and of some leader epochs none: there neither batches nor epochs are compared.

pub(super) mod consistent_read;
pub(super) mod contiguous_sequences;
pub(super) mod eligible_isr;
pub(super) mod leader_candidate_completeness;
pub(super) mod leader_completeness;
pub(super) mod leader_in_isr;
pub(super) mod log_matching;
pub(super) mod monotonic_epoch;
pub(super) mod no_committed_record_lost;
pub mod replication_quorum_superset;
pub(super) mod single_leader_per_epoch;
pub mod state;
#[cfg(test)]
pub mod story;
pub(super) mod strong_isr;
pub(super) mod unclean_shutdown_leaves_isr;
pub(super) mod valid_high_watermark;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker_core::coordinator::{GROUP_TOPIC, partition_for};
use broker_core::event::{BatchMark, ChangeReason, Event, PartitionState, TopicPartition};

use super::storage::shutdowns::Shutdowns;
use super::storage::{Opened, clean_mark, recovery, synced};
use super::{Breach, Subject};
use crate::world::ProcEvent;
use eligible_isr::Ineligible;
use replication_quorum_superset::LeaderIsr;
use state::{Partition, Replica};

/// How a broker's last process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Downfall {
    /// It died; the page cache outlived it.
    Process,
    /// Its host lost power.
    Power,
    /// What it finds on its disk is not what it left there: the disk was wiped, is another's, or has failed.
    Disk,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    boots: u32,
    /// Since it died, until it listens again.
    downfall: Option<Downfall>,
    /// Its disk lost something, and the controller has not registered it again.
    unproven: bool,
    /// Its disk is another one: what it had and does not open is not there.
    replaced: bool,
    /// Bits of its files have flipped: what it finds there is not what it wrote.
    rotten: bool,
}

/// What is known of the brokers' processes.
#[derive(Clone, Debug, Default)]
pub struct Nodes(BTreeMap<i32, Node>);

impl Nodes {
    /// Whether a broker can be held to what the controller says of it: not between a loss of its disk and its next
    /// registration.
    pub fn is_proven(&self, id: i32) -> bool {
        self.0.get(&id).is_none_or(|node| !node.unproven)
    }

    fn of(&mut self, id: i32) -> &mut Node {
        self.0.entry(id).or_default()
    }
}

/// The invariants of all partitions.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    /// By topic and partition number.
    topics: BTreeMap<Arc<str>, Vec<Partition>>,
    /// Topics that were deleted once: what a consumer reads under such a name may be of an earlier one.
    deleted: BTreeSet<Arc<str>>,
    nodes: Nodes,
    ineligible: Ineligible,
    /// Partitions whose leader's ISR is to be compared with the controller's.
    touched: Vec<TopicPartition>,
    /// Brokers whose disk lost something and that were registered again since the last comparison.
    returned: Vec<i32>,
    shutdowns: Shutdowns,
    /// Brokers that were registered again after an unclean shutdown since the last comparison.
    unclean: Vec<i32>,
    /// Nobody is kept as eligible for elections (KIP-966).
    without_elr: bool,
    breaches: Vec<Breach>,
}

type Found = Vec<(&'static str, String)>;

impl Replicas {
    /// Hears what a broker said.
    pub fn hear(&mut self, node: i32, event: &Event) {
        match event {
            Event::RecordsAppended { partition, batches, as_leader, .. } => {
                self.appended(node, partition, batches, *as_leader)
            }
            Event::HighWatermarkAdvanced { partition, to, as_leader, .. } => {
                self.watermark(node, partition, *to, *as_leader)
            }
            Event::LogFlushed { partition, up_to } => {
                let replica = self.replica(node, partition);
                replica.flushed = replica.flushed.max(*up_to).min(replica.log_end);
            }
            Event::LogTruncated { partition, to, .. } => self.truncated(node, partition, *to),
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
            Event::LogOpened { partition, log_start_offset, log_end_offset, epochs, .. } => {
                let (log_start, log_end) = (*log_start_offset, *log_end_offset);
                self.opened(partition, &Opened { node, log_start, log_end, epochs })
            }
            Event::LogStartOffsetAdvanced { partition, to, .. } => self.log_start(partition, *to),
            // A pass replaces segment after segment, and who fetches meanwhile gets what is cleaned already.
            Event::LogCleaningBegan { partition, up_to: end }
            | Event::LogCleaned { partition, first_dirty: end, .. } => self.cleaned(partition, *end),
            Event::PartitionChanged { partition, after, reason, .. } => {
                self.changed(partition, after, *reason)
            }
            Event::IsrShrunk { partition, .. } | Event::IsrExpanded { partition, .. } => {
                self.touched.push(partition.clone());
            }
            Event::BrokerRegistered { broker, .. } => self.registered(*broker),
            Event::BrokerFenced { .. }
            | Event::BrokerUnfenced { .. }
            | Event::BrokerInControlledShutdown { .. }
            | Event::ControllerActivated { .. } => self.ineligible.hear(event),
            Event::ControlledShutdownStarted | Event::ControlledShutdownCompleted { .. } => {
                self.shutdowns.hear(node, event)
            }
            Event::LogDirOffline { .. } => {
                self.shutdowns.hear(node, event);
                self.nodes.of(node).downfall = Some(Downfall::Disk);
            }
            Event::Started { clean } => self.started(node, *clean),
            _ => {}
        }
    }

    /// A topic is gone, and what is heard from now on is of another one of that name.
    pub fn topic_deleted(&mut self, topic: &Arc<str>) {
        self.topics.remove(topic);
        self.touched.retain(|at| at.topic != *topic);
        self.deleted.insert(topic.clone());
    }

    /// Something happened to a broker's process or disk, besides what is told with the methods below.
    pub fn process_event(&mut self, node: i32, event: &ProcEvent) {
        self.shutdowns.process(node, event);
    }

    /// Whether the cluster keeps eligible leader replicas.
    pub fn eligible_leader_replicas(&mut self, kept: bool) {
        self.without_elr = !kept;
    }

    /// The controller has registered the very process of a broker that runs now, and not one before it whose request was
    /// late.
    pub fn own_registration(&mut self, broker: i32) {
        if self.shutdowns.registered(broker) {
            self.unclean.push(broker);
        }
    }

    /// A controller that is gone now had registered a broker's process, without a word to anybody.
    pub fn registered_unheard(&mut self, broker: i32) {
        self.shutdowns.registered(broker);
    }

    /// A broker's process is gone: whatever it led, it leads no more.
    pub fn process_gone(&mut self, node: i32) {
        let known = self.nodes.of(node);
        if known.rotten {
            (known.unproven, known.downfall) = (true, Some(Downfall::Disk));
        } else if known.downfall.is_none() {
            known.downfall = Some(Downfall::Process);
        }
        known.boots += 1;
        for partition in self.topics.values_mut().flatten() {
            if let Some(replica) = partition.replicas.get_mut(&node) {
                replica.leads = None;
            }
        }
    }

    /// A broker's disk lost what was not durable (`wiped`: everything). What is left is told when it starts again.
    pub fn disk_lost(&mut self, node: i32, wiped: bool) {
        let known = self.nodes.of(node);
        known.unproven = true;
        if wiped {
            self.disk_changed(node);
            let all = self.all();
            for at in all {
                let partition = self.partition(&at);
                partition.replicas.remove(&node);
                let what = format!("broker-{node}'s disk was wiped");
                let lost = no_committed_record_lost::shortened(partition, &what);
                self.broken(&at, lost.map(|text| (no_committed_record_lost::NAME, text)));
            }
        } else if known.downfall != Some(Downfall::Disk) {
            known.downfall = Some(Downfall::Power);
        }
    }

    /// A broker that is down has another disk: what it does not open when it starts is not there.
    pub fn disk_replaced(&mut self, node: i32) {
        self.disk_changed(node);
        self.nodes.of(node).replaced = true;
    }

    /// What a broker that is down will find on its disk is not what it left there.
    fn disk_changed(&mut self, node: i32) {
        let known = self.nodes.of(node);
        (known.unproven, known.downfall) = (true, Some(Downfall::Disk));
    }

    /// Bits of a broker's files have flipped.
    pub fn rotten(&mut self, node: i32) {
        let known = self.nodes.of(node);
        known.rotten = true;
        if known.downfall.is_some() {
            self.disk_changed(node);
        }
    }

    /// A consumer has read the records of a partition below `to`.
    pub fn read(&mut self, at: &TopicPartition, to: i64) {
        if self.deleted.contains(&at.topic) || !self.topics.contains_key(&at.topic) {
            return;
        }
        let broken = consistent_read::read(self.partition(at), to);
        self.broken(at, broken.map(|text| (consistent_read::NAME, text)));
    }

    /// Whether another broker leads a partition in a newer epoch than this one does.
    pub fn was_succeeded(&self, node: i32, at: &TopicPartition) -> bool {
        let known = self.topics.get(&at.topic).and_then(|topic| topic.get(at.partition as usize));
        known.and_then(Partition::newest).is_some_and(|(_, leader)| leader != node)
    }

    /// Whether another broker coordinates a group in a newer epoch than this one does.
    pub fn coordinates_no_more(&self, node: i32, group: &str) -> bool {
        let Some(all) = self.topics.get(GROUP_TOPIC).filter(|all| !all.is_empty()) else { return false };
        let of_group = &all[partition_for(group, all.len() as i32) as usize];
        of_group.newest().is_some_and(|(_, leader)| leader != node)
    }

    /// What the controller had committed before anybody could tell of it.
    pub fn refreshed(&mut self, at: &TopicPartition, state: &PartitionState) {
        let partition = self.partition(at);
        if partition.state.as_ref().is_none_or(|known| known.partition_epoch < state.partition_epoch) {
            self.changed(at, state, ChangeReason::AlterPartition);
        }
    }

    /// Compares what leaders take to be in sync with what the controller does, where either changed; `look` asks a broker
    /// that runs for its view of a partition that it leads.
    pub fn compare(&mut self, look: impl Fn(i32, &TopicPartition) -> Option<LeaderIsr>) {
        for at in std::mem::take(&mut self.touched) {
            let Some(state) = &self.partition(&at).state else { continue };
            let view = (state.leader >= 0).then(|| look(state.leader, &at)).flatten();
            let broken = view.and_then(|view| replication_quorum_superset::compared(state, &view));
            self.broken(&at, broken.map(|text| (replication_quorum_superset::NAME, text)));
        }
        for node in std::mem::take(&mut self.unclean) {
            let elr = !self.without_elr;
            for at in self.all() {
                let state = self.partition(&at).state.as_ref();
                let broken =
                    state.and_then(|state| unclean_shutdown_leaves_isr::registered(node, state, elr));
                self.broken(&at, broken.map(|text| (unclean_shutdown_leaves_isr::NAME, text)));
            }
        }
        for node in std::mem::take(&mut self.returned) {
            for at in self.all() {
                let broken = leader_candidate_completeness::shortened(
                    partition_of(&mut self.topics, &at),
                    &self.nodes,
                    node,
                );
                self.broken(&at, broken.map(|text| (leader_candidate_completeness::NAME, text)));
            }
        }
    }

    /// Whether [`Replicas::compare`] has anything to compare.
    pub fn has_touched(&self) -> bool {
        !self.touched.is_empty() || !self.returned.is_empty() || !self.unclean.is_empty()
    }

    /// Whether [`Replicas::take`] has anything to give.
    pub fn is_broken(&self) -> bool {
        !self.breaches.is_empty()
    }

    /// What was broken since the last call.
    pub fn take(&mut self) -> Vec<Breach> {
        std::mem::take(&mut self.breaches)
    }

    fn all(&self) -> Vec<TopicPartition> {
        let of_topic = |(topic, partitions): (&Arc<str>, &Vec<Partition>)| {
            let topic = topic.clone();
            (0..partitions.len()).map(move |i| TopicPartition { topic: topic.clone(), partition: i as i32 })
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    fn replica(&mut self, node: i32, at: &TopicPartition) -> &mut Replica {
        self.partition(at).replicas.entry(node).or_default()
    }

    fn partition(&mut self, at: &TopicPartition) -> &mut Partition {
        partition_of(&mut self.topics, at)
    }

    fn broken(&mut self, at: &TopicPartition, found: impl IntoIterator<Item = (&'static str, String)>) {
        for (name, text) in found {
            let subject = Subject::Partition(at.topic.to_string(), at.partition);
            self.breaches.push(Breach { name, subject, text });
        }
    }

    fn appended(&mut self, node: i32, at: &TopicPartition, batches: &[BatchMark], as_leader: bool) {
        let mut found = Found::new();
        let partition = self.partition(at);
        for mark in batches {
            let replica = partition.replicas.entry(node).or_default();
            found.extend(
                monotonic_epoch::appended(replica, node, mark).map(|text| (monotonic_epoch::NAME, text)),
            );
            replica.append(mark);
            let leads = replica.leads;
            found
                .extend(log_matching::appended(partition, node, mark).map(|text| (log_matching::NAME, text)));
            if as_leader && leads.is_some() && leads == partition.newest().map(|(epoch, _)| epoch) {
                // A coordinator writes for its producers, and counts nothing for them.
                let sequence = if at.topic.starts_with("__") { -1 } else { mark.sequence };
                found.extend(partition.producers.appended(node, &BatchMark { sequence, ..*mark }));
            }
        }
        self.broken(at, found);
    }

    fn truncated(&mut self, node: i32, at: &TopicPartition, to: i64) {
        self.replica(node, at).truncate(to);
        self.shortened(node, at, || format!("broker-{node} cut its log to {to}"));
    }

    fn shortened(&mut self, node: i32, at: &TopicPartition, what: impl Fn() -> String) {
        let partition = partition_of(&mut self.topics, at);
        let lost = no_committed_record_lost::shortened(partition, &what());
        let candidate = leader_candidate_completeness::shortened(partition, &self.nodes, node);
        self.broken(at, candidate.map(|text| (leader_candidate_completeness::NAME, text)));
        self.broken(at, lost.map(|text| (no_committed_record_lost::NAME, text)));
    }

    fn watermark(&mut self, node: i32, at: &TopicPartition, to: i64, as_leader: bool) {
        let mut found = Found::new();
        let partition = partition_of(&mut self.topics, at);
        let replica = partition.replicas.entry(node).or_default();
        let (log_end, leads) = (replica.log_end, replica.leads);
        let moved = valid_high_watermark::moved(node, replica.high_watermark, to, log_end, as_leader);
        found.extend(moved.map(|text| (valid_high_watermark::NAME, text)));
        replica.high_watermark = to;
        if as_leader && to <= log_end {
            found.extend(
                strong_isr::advanced(partition, &self.nodes, node, to).map(|text| (strong_isr::NAME, text)),
            );
            // A leader of an older epoch commits nothing any more.
            if leads == partition.newest().map(|(epoch, _)| epoch) && to > partition.committed.end {
                partition.committed.set(&partition.replicas[&node], to);
                found.extend(
                    leader_candidate_completeness::committed(partition, &self.nodes)
                        .map(|text| (leader_candidate_completeness::NAME, text)),
                );
            }
        }
        self.broken(at, found);
    }

    fn became_leader(&mut self, node: i32, at: &TopicPartition, epoch: i32, start: i64, high_watermark: i64) {
        let mut found = Found::new();
        let partition = self.partition(at);
        let before = partition.newest();
        let replica = partition.replicas.entry(node).or_default();
        replica.leads = Some(epoch);
        replica.high_watermark = high_watermark;
        if start < replica.log_end {
            replica.truncate(start);
        }
        replica.log_end = start;
        found.extend(
            single_leader_per_epoch::became_leader(partition, node, epoch)
                .map(|text| (single_leader_per_epoch::NAME, text)),
        );
        if before.is_none_or(|(newest, _)| newest < epoch) {
            follow_producers(partition, node, before.map(|(_, leader)| leader), start);
        }
        found.extend(
            leader_completeness::became_leader(partition, node, epoch, start)
                .map(|text| (leader_completeness::NAME, text)),
        );
        found.extend(
            consistent_read::became_leader(partition, node, epoch).map(|text| (consistent_read::NAME, text)),
        );
        self.touched.push(at.clone());
        self.broken(at, found);
    }

    fn log_start(&mut self, at: &TopicPartition, to: i64) {
        let partition = self.partition(at);
        if to > partition.log_start {
            partition.log_start = to;
            partition.batches.forget_below(to);
        }
    }

    /// A compacted log goes on for ever, and what is known of its batches must not: what was compacted by the pass before
    /// this one is forgotten.
    fn cleaned(&mut self, at: &TopicPartition, up_to: i64) {
        let partition = self.partition(at);
        if up_to > partition.cleaned {
            partition.batches.forget_below(partition.cleaned);
            partition.cleaned = up_to;
        }
    }

    /// A log was opened: what its broker found is compared with what it had, and is what it has from now on.
    fn opened(&mut self, at: &TopicPartition, found: &Opened<'_>) {
        let node = *self.nodes.of(found.node);
        let partition = self.partition(at);
        let (log_start, cleaned) = (partition.log_start, partition.cleaned);
        let before = partition.replicas.remove(&found.node);
        let broken = before.as_ref().zip(node.downfall).and_then(|(before, downfall)| match downfall {
            Downfall::Process => {
                recovery::opened(before, log_start, cleaned, found).map(|text| (recovery::NAME, text))
            }
            Downfall::Power => {
                synced::opened(before, log_start, cleaned, found).map(|text| (synced::NAME, text))
            }
            Downfall::Disk => None,
        });
        let mut replica = Replica { opened_in: node.boots, ..Replica::default() };
        replica.epochs.extend(found.epochs.iter().filter(|(_, start)| *start < found.log_end));
        replica.log_end = found.log_end;
        if let Some(before) = &before {
            replica.flushed = before.flushed.min(found.log_end);
        }
        partition.replicas.insert(found.node, replica);
        self.broken(at, broken);
        if before.is_some_and(|before| found.log_end < before.log_end) {
            let (node, end) = (found.node, found.log_end);
            self.shortened(node, at, || format!("broker-{node} found its log's end at {end}"));
        }
    }

    /// From here on a broker is held to what the controller says of it.
    fn registered(&mut self, node: i32) {
        if std::mem::take(&mut self.nodes.of(node).unproven) {
            self.returned.push(node);
        }
    }

    /// A broker listens: what it should have and did not open is not there.
    fn started(&mut self, node: i32, clean: bool) {
        let unmarked = self.shutdowns.started(node);
        if let Some(text) = clean_mark::started(node, clean, unmarked) {
            self.breaches.push(Breach { name: clean_mark::NAME, subject: Subject::Node(node), text });
        }
        let Node { boots, downfall, .. } = *self.nodes.of(node);
        let replaced = std::mem::take(&mut self.nodes.of(node).replaced);
        if replaced || matches!(downfall, Some(Downfall::Process | Downfall::Power)) {
            for at in self.all() {
                let partition = self.partition(&at);
                let hosts = partition.state.as_ref().is_some_and(|state| state.replicas.contains(&node));
                let missing = partition.replicas.get(&node).is_some_and(|r| r.opened_in != boots);
                if hosts && missing {
                    self.opened(&at, &Opened { node, log_start: 0, log_end: 0, epochs: &[] });
                }
            }
        }
        self.nodes.of(node).downfall = None;
    }

    fn changed(&mut self, at: &TopicPartition, after: &PartitionState, reason: ChangeReason) {
        let mut found = Found::new();
        let partition = partition_of(&mut self.topics, at);
        if let Some(before) = &partition.state {
            found.extend(monotonic_epoch::changed(before, after).map(|text| (monotonic_epoch::NAME, text)));
            let joined = self.ineligible.changed(before, after, reason);
            found.extend(joined.map(|text| (eligible_isr::NAME, text)));
            let eligible = before.isr.contains(&after.leader) || before.elr.contains(&after.leader);
            if after.leader >= 0 && after.leader_epoch > before.leader_epoch && !eligible {
                partition.unclean_epoch = Some(after.leader_epoch);
            }
            // Who begins to host it has nothing yet. Who hosts it no more goes on until it hears of that.
            let begins = |id: &&i32| !before.replicas.contains(id);
            let anew: Vec<i32> = after.replicas.iter().filter(begins).copied().collect();
            for id in anew {
                partition.replicas.remove(&id);
            }
        }
        if reason == ChangeReason::UncleanElection && after.leader >= 0 {
            partition.unclean_epoch = Some(after.leader_epoch);
        }
        found.extend(leader_in_isr::changed(after).map(|text| (leader_in_isr::NAME, text)));
        partition.state = Some(after.clone());
        found.extend(
            leader_candidate_completeness::changed(partition, &self.nodes)
                .map(|text| (leader_candidate_completeness::NAME, text)),
        );
        self.touched.push(at.clone());
        self.broken(at, found);
    }
}

fn partition_of<'a>(
    topics: &'a mut BTreeMap<Arc<str>, Vec<Partition>>,
    at: &TopicPartition,
) -> &'a mut Partition {
    if !topics.contains_key(&at.topic) {
        topics.insert(at.topic.clone(), Vec::new());
    }
    let partitions = topics.get_mut(&at.topic).expect("it was just put there");
    let index = usize::try_from(at.partition).expect("partitions are numbered from 0");
    if index >= partitions.len() {
        partitions.resize_with(index + 1, Partition::default);
    }
    &mut partitions[index]
}

/// A new leader's log is the one whose producers count: if it continues the last leader's, they are the same below its
/// end.
fn follow_producers(partition: &mut Partition, node: i32, before: Option<i32>, start: i64) {
    let epochs = |node: &i32| partition.replicas.get(node).map(|r| r.epochs_below(start).last().copied());
    let same = before.is_some_and(|before| before == node || epochs(&before) == epochs(&node));
    partition.producers.follow(start, same);
}

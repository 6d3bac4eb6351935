//! What the metadata says: topics that come and go, elections, registrations, coordinators, and what a controller finds
//! committed.

use std::sync::Arc;

use broker_core::event::{PartitionState, TopicPartition};
use broker_core::metadata::MetadataImage;
use reports::Tone;

use super::Observer;
use crate::checkers::quorum::flushed_before_counted::Voter;
use crate::world::{ProcId, SimTime, World};

impl Observer {
    /// An election of somebody who was neither in sync nor eligible changes what is promised.
    pub(super) fn unclean(&mut self, topic: &str, partition: i32, after: &PartitionState) {
        let Some(before) = self.partitions.get(&(topic.to_owned(), partition)) else { return };
        let elected = after.leader >= 0 && after.leader_epoch > before.leader_epoch;
        if elected && !before.isr.contains(&after.leader) && !before.elr.contains(&after.leader) {
            self.promise.unclean_election(topic);
        }
    }

    /// A topic was deleted. There may be another one of its name already.
    pub(super) fn topic_gone(&mut self, topic: &Arc<str>) {
        self.partitions.retain(|(t, _), _| **t != **topic);
        self.replicas.topic_deleted(topic);
        self.groups.topic_deleted(topic);
        self.positions.topic_deleted(topic, &self.history);
        self.transactions.topic_deleted(topic, &self.history);
        self.history.topic_deleted(topic);
        self.promise.topic_deleted(topic);
    }

    /// What a leader of the quorum commits is compared with what the other voters have flushed.
    pub(super) fn metadata_committed(&mut self, world: &World, proc: ProcId, id: i32, high_watermark: i64) {
        let Some(raft) = world.node(proc).map(|node| node.raft()).filter(|raft| raft.is_leader()) else {
            return;
        };
        let voter = |id: i32| {
            let node = self.nodes.get(&id).and_then(|proc| world.node(*proc));
            Voter {
                id,
                log: node.map(|node| (node.raft().log_end_offset(), node.raft().log().recovery_point())),
            }
        };
        let voters: Vec<Voter> = raft.voters().ids().map(voter).collect();
        self.quorum.leader_committed(id, high_watermark, &voters, raft.kraft_version() > 0);
    }

    /// The brokers whose registered process is the one that runs.
    pub(super) fn registered_and_running(&self, world: &World, image: &MetadataImage) -> Vec<i32> {
        let own = |id: &i32| self.nodes.get(id).and_then(|proc| world.node(*proc)?.incarnation_id());
        let runs = |id: &i32| {
            let registered = image.broker(*id).map(|known| known.incarnation_id);
            registered.is_some() && registered == own(id)
        };
        self.nodes.keys().copied().filter(runs).collect()
    }

    pub(super) fn refresh(&mut self, image: &MetadataImage) {
        let topics = image.topics.iter().map(|topic| (&topic.name, topic.id));
        for gone in self.incarnations.refreshed(topics) {
            self.topic_gone(&gone);
        }
        for topic in image.topics.iter() {
            for (partition, p) in &topic.partitions {
                let state = PartitionState {
                    leader: p.leader,
                    leader_epoch: p.leader_epoch,
                    partition_epoch: p.partition_epoch,
                    replicas: p.replicas.to_vec(),
                    isr: p.isr.to_vec(),
                    elr: p.elr.to_vec(),
                    last_known_elr: p.last_known_elr.to_vec(),
                };
                let at = TopicPartition { topic: topic.name.clone(), partition: *partition };
                self.replicas.refreshed(&at, &state);
                self.partitions.insert((topic.name.to_string(), *partition), state);
            }
        }
    }

    /// A broker begins to answer for groups or transactional ids of the scenario.
    pub(super) fn coordinator_moved(&mut self, at: SimTime, name: &str, partition: &TopicPartition) {
        let count = self.partitions.keys().filter(|(topic, _)| **topic == *partition.topic).count() as i32;
        for text in self.coordinated.by(partition, count) {
            self.tell(at, name, text, Tone::Plain);
        }
    }
}

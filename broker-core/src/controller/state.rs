//! The state of an active controller: the image ahead of the commits, what is indexed of it, and the sessions.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use rand_core::Rng as _;
use wire::ErrorCode;
use wire::Uuid;
use wire::drive::{Instant, Now};
use wire::records::MetadataRecord;

use super::error::ApiError;
use super::heartbeat::HeartbeatManager;
use super::index::PartitionIndex;
use super::partition_change::PartitionChange;
use super::placement::UsableBroker;
use crate::config::{Dynamic, NodeConfig};
use crate::ctx::Rng;
use crate::metadata::{
    BrokerRegistration, ImageDelta, MetadataImage, NO_LEADER, PartitionRegistration, TopicIdPartition,
    directory,
};
use crate::mutant::Mutants;
use crate::quota::clients::MutationQuota;

/// What an operation may use besides the state.
pub(super) struct Env<'a> {
    pub now: Now,
    pub config: &'a NodeConfig,
    pub rng: &'a mut Rng,
    /// The offset that the next appended record will have.
    pub next_offset: i64,
    /// What the client's quota says to partitions that are made or deleted.
    pub mutations: MutationQuota<'a>,
}

impl Env<'_> {
    /// Partitions are to be made or deleted: the client's quota for that.
    pub fn change_partitions(&mut self, count: usize) -> Result<(), ApiError> {
        // The clients show the code's own text.
        self.mutations.record(count).map_err(|_| ApiError::bare(ErrorCode::THROTTLING_QUOTA_EXCEEDED))
    }

    /// A number below `bound`, evenly.
    pub fn draw(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "nothing to draw from");
        ((u128::from(self.rng.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A random UUID that is not reserved and whose text does not begin with a dash.
    pub fn uuid(&mut self) -> Uuid {
        loop {
            let mut bytes = [0; 16];
            self.rng.fill_bytes(&mut bytes);
            let uuid = Uuid::from_random(bytes);
            // A leading dash would look like an option on a command line: base64 writes 62 as a dash.
            if uuid.0[0] >> 2 != 62 {
                return uuid;
            }
        }
    }
}

/// A partition before and after a record.
pub(super) struct PartitionTransition {
    pub id: TopicIdPartition,
    pub topic: Arc<str>,
    pub before: Option<PartitionRegistration>,
    pub after: PartitionRegistration,
}

/// The state of an active controller. Records are applied to it as they are appended, so that every decision sees all
/// decisions before it; nobody else sees it before it is committed.
#[derive(Clone)]
pub(super) struct State {
    pub node_id: i32,
    pub cluster_id: Arc<str>,
    pub image: MetadataImage,
    pub index: PartitionIndex,
    pub heartbeats: HeartbeatManager,
    /// Topic names that differ only in `.` and `_`, by the name with `_` alone: they would collide in metrics.
    pub collisions: BTreeMap<String, BTreeSet<Arc<str>>>,
    scratch: ImageDelta,
    /// Bugs that are switched on.
    pub mutants: Mutants,
}

impl State {
    /// The state of a controller that becomes active with this image. All sessions begin now.
    pub fn new(
        node_id: i32,
        cluster_id: Arc<str>,
        image: MetadataImage,
        config: &NodeConfig,
        now: Instant,
    ) -> State {
        let mut heartbeats = HeartbeatManager::new(config.controller.session_timeout);
        for broker in image.brokers.values() {
            heartbeats.register(broker.id, broker.fenced);
            if !broker.fenced {
                heartbeats.touch_session(broker.id, broker.epoch, now);
            }
        }
        let index = PartitionIndex::of(&image);
        let mut collisions: BTreeMap<String, BTreeSet<Arc<str>>> = BTreeMap::new();
        for topic in image.topics.iter().filter(|t| has_collision_chars(&t.name)) {
            collisions.entry(unify_collision_chars(&topic.name)).or_default().insert(topic.name.clone());
        }
        State {
            node_id,
            cluster_id,
            image,
            index,
            heartbeats,
            collisions,
            scratch: ImageDelta::default(),
            mutants: config.mutants,
        }
    }

    /// Applies an appended record, and hands each partition that it makes or changes to `changed`.
    ///
    /// The records are this controller's own: one that cannot be applied is a bug.
    pub fn apply(
        &mut self,
        record: &MetadataRecord,
        offset: i64,
        changed: &mut dyn FnMut(PartitionTransition),
    ) {
        use MetadataRecord as R;
        let affected: Vec<TopicIdPartition> = match record {
            R::PartitionChange(c) => {
                alloc::vec![TopicIdPartition { topic_id: c.topic_id, partition: c.partition_id }]
            }
            R::Partition(p) => {
                alloc::vec![TopicIdPartition { topic_id: p.topic_id, partition: p.partition_id }]
            }
            R::RemoveTopic(t) => self.partitions_of(t.topic_id),
            R::ClearElr(clear) => self.partitions_with_elr(&clear.topic_name),
            _ => Vec::new(),
        };
        let before: Vec<_> = affected.iter().map(|&id| self.image.partition(id).cloned()).collect();
        let removed = match record {
            R::RemoveTopic(t) => self.image.topics.topic(t.topic_id).map(|t| t.name.clone()),
            _ => None,
        };

        self.scratch.clear();
        let applied = self.image.apply(record, offset, &mut self.scratch);
        applied.unwrap_or_else(|e| panic!("the controller's own record cannot be applied: {e}"));

        for (id, before) in affected.into_iter().zip(before) {
            let after = self.image.partition(id);
            self.index.update(id, before.as_ref(), after);
            if let Some(after) = after.cloned() {
                let topic = self.image.topics.topic(id.topic_id).expect("it has the partition").name.clone();
                changed(PartitionTransition { id, topic, before, after });
            }
        }
        match record {
            R::Topic(topic) if has_collision_chars(&topic.name) => {
                let names = self.collisions.entry(unify_collision_chars(&topic.name)).or_default();
                names.insert(Arc::from(&*topic.name));
            }
            R::RemoveTopic(_) => self.forget_collision(&removed.expect("it was applied")),
            R::RegisterBroker(broker) => {
                self.heartbeats.remove(broker.broker_id);
                self.heartbeats.register(broker.broker_id, broker.fenced);
            }
            R::BrokerRegistrationChange(change) => {
                let fenced = self.image.broker(change.broker_id).is_none_or(|b| b.fenced);
                self.heartbeats.register(change.broker_id, fenced);
            }
            R::UnregisterBroker(broker) => {
                self.heartbeats.remove(broker.broker_id);
                self.heartbeats.remove_session(broker.broker_id, broker.broker_epoch);
            }
            R::AbortTransaction(_) => self.index = PartitionIndex::of(&self.image),
            _ => {}
        }
    }

    fn forget_collision(&mut self, name: &Arc<str>) {
        let unified = unify_collision_chars(name);
        if let Some(names) = self.collisions.get_mut(&unified) {
            names.remove(name);
            if names.is_empty() {
                self.collisions.remove(&unified);
            }
        }
    }

    fn partitions_of(&self, topic_id: Uuid) -> Vec<TopicIdPartition> {
        let topic = self.image.topics.topic(topic_id).into_iter();
        topic
            .flat_map(|t| t.partitions.keys().map(|&partition| TopicIdPartition { topic_id, partition }))
            .collect()
    }

    fn partitions_with_elr(&self, topic_name: &str) -> Vec<TopicIdPartition> {
        let concerned = self.image.topics.iter().filter(|t| topic_name.is_empty() || &*t.name == topic_name);
        let all = concerned.flat_map(|t| t.partitions.iter().map(|(&partition, p)| (t.id, partition, p)));
        let with_elr = all.filter(|(_, _, p)| !p.elr.is_empty() || !p.last_known_elr.is_empty());
        with_elr.map(|(topic_id, partition, _)| TopicIdPartition { topic_id, partition }).collect()
    }

    // --- what decisions rest on

    /// A broker's registration, if the epoch is its present one.
    pub fn check_broker_epoch(&self, broker: i32, epoch: i64) -> Result<&BrokerRegistration, ApiError> {
        let Some(registration) = self.image.broker(broker) else {
            let text = alloc::format!("No broker registration found for broker id {broker}");
            return Err(ApiError::new(ErrorCode::STALE_BROKER_EPOCH, text));
        };
        if registration.epoch != epoch {
            let text =
                alloc::format!("Expected broker epoch {}, but got broker epoch {epoch}", registration.epoch);
            return Err(ApiError::new(ErrorCode::STALE_BROKER_EPOCH, text));
        }
        Ok(registration)
    }

    /// Whether a replica may lead: its broker is active and its log directory is online.
    pub fn may_lead(&self, partition: &PartitionRegistration, replica: i32) -> bool {
        self.image.is_active(replica) && self.has_online_replica(partition, replica)
    }

    /// Whether the directory of a replica is online on its broker.
    pub fn has_online_replica(&self, partition: &PartitionRegistration, replica: i32) -> bool {
        let directory = partition.directory_of(replica);
        let online = |d| self.image.broker(replica).is_some_and(|b| b.has_online_directory(d));
        directory.is_some_and(online)
    }

    /// The effective `min.insync.replicas` of a topic: never above its replication factor.
    pub fn min_isr(&self, config: &NodeConfig, topic: &str) -> usize {
        let dynamic = Dynamic::of_topic(&self.image.configs, self.node_id, topic);
        let min_isr = config.topic_number(dynamic, "min.insync.replicas").max(1) as usize;
        let topic = self.image.topics.topic_named(topic);
        let replication_factor =
            topic.and_then(|t| t.partitions.first_key_value()).map(|(_, p)| p.replicas.len());
        min_isr.min(replication_factor.unwrap_or(min_isr))
    }

    /// Whether a topic prefers an unclean leader to none.
    pub fn unclean_election_enabled(&self, config: &NodeConfig, topic: &str) -> bool {
        let dynamic = Dynamic::of_topic(&self.image.configs, self.node_id, topic);
        config.topic_flag(dynamic, "unclean.leader.election.enable")
    }

    /// Where a new replica on a broker goes: into its only directory that takes new ones, else the broker chooses.
    pub fn default_directory(&self, broker: i32) -> Uuid {
        let Some(registration) = self.image.broker(broker) else { return directory::UNASSIGNED };
        if registration.directories.is_empty() {
            return directory::MIGRATING;
        }
        let cordoned = registration.cordoned_directories.as_deref().unwrap_or_default();
        let mut open = registration.directories.iter().filter(|d| !cordoned.contains(d));
        match (open.next(), open.next()) {
            (Some(&only), None) => only,
            _ => directory::UNASSIGNED,
        }
    }

    /// The brokers on which replicas can be placed.
    pub fn usable_brokers(&self) -> Vec<UsableBroker> {
        let usable = self.image.brokers.values().filter(|b| b.fenced || !b.in_controlled_shutdown);
        let usable = usable.filter(|b| {
            let cordoned = b.cordoned_directories.as_deref().unwrap_or_default();
            b.directories.is_empty() || b.directories.iter().any(|d| !cordoned.contains(d))
        });
        usable.map(|b| UsableBroker { id: b.id, rack: b.rack.clone(), fenced: b.fenced }).collect()
    }

    /// A change of a partition, with what its topic's configuration says of it.
    pub fn change_of<'a>(
        &self,
        config: &NodeConfig,
        topic: &str,
        partition: &'a PartitionRegistration,
        id: TopicIdPartition,
        may_lead: &'a dyn Fn(i32) -> bool,
        default_directory: &'a dyn Fn(i32) -> Uuid,
    ) -> PartitionChange<'a> {
        let mut change = PartitionChange::of(partition, id, may_lead, default_directory);
        change.min_isr = self.min_isr(config, topic);
        change.elr_enabled = self.image.features.elr_enabled();
        change.mutants = self.mutants;
        change
    }

    /// Checks what must hold between image, index and sessions. Looks at everything.
    pub fn check_invariants(&self) {
        assert_eq!(self.index, PartitionIndex::of(&self.image), "the index is in step with the image");
        for topic in self.image.topics.iter() {
            for (number, p) in &topic.partitions {
                let name = (&topic.name, number);
                assert_eq!(p.replicas.len(), p.directories.len(), "{name:?}: one directory for each replica");
                assert!(!p.isr.iter().any(|r| p.elr.contains(r)), "{name:?}: ISR and ELR overlap");
                assert!(
                    p.leader == NO_LEADER || p.isr.contains(&p.leader),
                    "{name:?}: the leader is in the ISR"
                );
                assert!(p.partition_epoch >= p.leader_epoch, "{name:?}: the leader epoch ran ahead");
                let fenced = |r: &i32| self.image.broker(*r).is_none_or(|b| b.fenced);
                assert!(p.leader == NO_LEADER || !fenced(&p.leader), "{name:?}: a fenced broker leads");
                let unfenced_isr = !self.image.features.elr_enabled() || !p.isr.iter().any(fenced);
                assert!(unfenced_isr, "{name:?}: a fenced broker is in the ISR");
            }
        }
    }
}

/// Whether a topic's name has a character that another one stands for in metrics.
pub(super) fn has_collision_chars(name: &str) -> bool {
    name.contains(['.', '_'])
}

/// A topic's name as it is in metrics.
pub(super) fn unify_collision_chars(name: &str) -> String {
    name.replace('.', "_")
}

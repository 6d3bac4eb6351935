//! Following the metadata: replicas that come, go, lead and follow.
//!
//! Follows Kafka's `ReplicaManager.applyDelta`: first what leaves this broker, then what it leads, then what it
//! follows.

use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::ErrorCode;

use super::ReplicaManager;
use super::isr::BrokerStanding;
use super::partition::{Partition, PartitionIx};
use super::session::TopicRef;
use crate::config::Dynamic;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::metadata::{
    ImageDelta, MetadataImage, NO_LEADER, PartitionRegistration, ResourceType, TopicIdPartition, TopicImage,
};
use crate::quota::replication::{FOLLOWER_REPLICAS, LEADER_REPLICAS, Throttled, lists as throttle_lists};

/// A registration that concerns this broker.
struct Local<'i> {
    topic: &'i Arc<TopicImage>,
    index: i32,
    registration: &'i PartitionRegistration,
}

impl ReplicaManager {
    /// The metadata moved on: `image` is the state after the changes that `delta` names.
    pub fn on_metadata(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, delta: &ImageDelta) {
        if delta.everything || !delta.brokers.is_empty() {
            self.brokers_changed(image);
        }
        let (gone, leading, following) = self.local_changes(image, delta);
        for ix in gone {
            self.delete_replica(ctx, image, ix);
        }
        for local in &leading {
            self.lead(ctx, image, local);
        }
        for local in &following {
            self.follow(ctx, image, local);
        }
        if delta.everything || delta.configs.iter().any(|c| c.resource_type != ResourceType::Group) {
            self.configs_changed(ctx, image, delta);
        }
        if delta.everything || !delta.brokers.is_empty() {
            self.brokers_settled(ctx, image);
        }
        self.finish(ctx, image);
    }

    /// The controller has agreed that this broker goes: replicas that are out of the ISR need not follow any more.
    pub fn begin_controlled_shutdown(&mut self) {
        self.in_controlled_shutdown = true;
    }

    fn brokers_changed(&mut self, image: &MetadataImage) {
        self.brokers.0.clear();
        self.brokers.0.extend(image.brokers.values().map(|b| BrokerStanding {
            id: b.id,
            epoch: b.epoch,
            fenced: b.fenced,
            in_controlled_shutdown: b.in_controlled_shutdown,
        }));
    }

    /// Who is alive decides whose log start DeleteRecords waits for.
    fn brokers_settled(&mut self, ctx: &mut Ctx<'_>, _image: &MetadataImage) {
        let waiting: Vec<PartitionIx> =
            self.table.iter().filter(|(_, p)| !p.delete_waiters.is_empty()).map(|(ix, _)| ix).collect();
        for ix in waiting {
            self.check_low_watermark(ctx, ix);
        }
    }

    fn local_changes<'i>(
        &self,
        image: &'i MetadataImage,
        delta: &ImageDelta,
    ) -> (Vec<PartitionIx>, Vec<Local<'i>>, Vec<Local<'i>>) {
        let (mut gone, mut leading, mut following) = (Vec::new(), Vec::new(), Vec::new());
        let mut changed =
            |topic: &'i Arc<TopicImage>, index: i32, registration: &'i PartitionRegistration| {
                let hosted = self.table.find(TopicRef::Id(topic.id), index);
                let local = Local { topic, index, registration };
                if !registration.replicas.contains(&self.node_id) {
                    gone.extend(hosted);
                } else if registration.leader == self.node_id {
                    leading.push(local);
                } else {
                    following.push(local);
                }
            };
        if delta.everything {
            for topic in image.topics.iter() {
                for (index, registration) in &topic.partitions {
                    changed(topic, *index, registration);
                }
            }
            let known = |p: &Partition| {
                image.partition(TopicIdPartition { topic_id: p.topic_id, partition: p.index }).is_some()
            };
            gone.extend(self.table.iter().filter(|(_, p)| !known(p)).map(|(ix, _)| ix));
        } else {
            for id in &delta.partitions {
                let Some(topic) = image.topics.topic(id.topic_id) else { continue };
                let Some(registration) = topic.partitions.get(&id.partition) else { continue };
                changed(topic, id.partition, registration);
            }
            for (id, topic) in &delta.topics_deleted {
                gone.extend(topic.partitions.keys().filter_map(|p| self.table.find(TopicRef::Id(*id), *p)));
            }
        }
        (gone, leading, following)
    }

    fn lead(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, local: &Local<'_>) {
        let Some(ix) = self.replica(ctx, image, local.topic, local.index, local.registration) else { return };
        self.check_assignment(ctx, ix, local.registration);
        self.stop_fetching(ix);
        // What followers fetched so far belongs to the epoch that ends.
        self.notify_changed(ix, false);
        let partition = self.table.get_mut(ix);
        let Some(made) = partition.make_leader(ctx.now.mono, self.node_id, local.registration, ctx.disk)
        else {
            return;
        };
        self.after_log_change(ix);
        if made.new_epoch {
            let partition = self.table.get(ix);
            let start_offset = partition.leading.as_ref().expect("it leads").epoch_start_offset;
            ctx.out.event(|| Event::BecameLeader {
                partition: partition.name(),
                epoch: partition.leader_epoch,
                start_offset,
                high_watermark: partition.log().high_watermark(),
            });
            self.notify_changed(ix, true);
            self.state_led(ix);
        }
        // The high watermark may move: the ISR may be this broker alone.
        let before = made.isr_before.unwrap_or_else(|| local.registration.isr.to_vec());
        self.isr_committed(ctx, image, ix, &before);
        self.check_low_watermark(ctx, ix);
        self.table.get(ix).check_invariants(self.node_id);
    }

    fn follow(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, local: &Local<'_>) {
        let Some(ix) = self.replica(ctx, image, local.topic, local.index, local.registration) else { return };
        self.check_assignment(ctx, ix, local.registration);
        let led = self.table.get(ix).is_leader();
        let Some(new_epoch) = self.table.get_mut(ix).make_follower(local.registration) else { return };
        if led || new_epoch {
            self.fail_produces(ctx, image, ix, ErrorCode::NOT_LEADER_OR_FOLLOWER);
            self.fail_deletes(ctx, ix, ErrorCode::NOT_LEADER_OR_FOLLOWER);
            if led {
                self.state_lost(ix);
            }
            let partition = self.table.get(ix);
            ctx.out.event(|| Event::BecameFollower {
                partition: partition.name(),
                epoch: partition.leader_epoch,
                leader: partition.leader,
                log_end_offset: partition.log().log_end_offset(),
            });
        }
        let registration = local.registration;
        if self.in_controlled_shutdown
            && (registration.leader == NO_LEADER || !registration.isr.contains(&self.node_id))
        {
            self.stop_fetching(ix);
        } else if new_epoch {
            self.stop_fetching(ix);
            if image.broker(registration.leader).is_some() {
                self.start_fetching(ctx, ix);
            }
        }
        if led || new_epoch {
            self.notify_changed(ix, true);
        }
    }

    /// Takes the log's settings, and those that replication reads, from the configurations in force.
    pub(super) fn configure(&mut self, ctx: &Ctx<'_>, image: &MetadataImage, ix: PartitionIx) {
        let partition = self.table.get_mut(ix);
        let dynamic = Dynamic::of_topic(&image.configs, self.node_id, &partition.topic);
        partition.min_insync_replicas = ctx.config.topic_number(dynamic, "min.insync.replicas") as i32;
        let listed = |setting: &str| {
            let list = ctx.config.topic_value(dynamic, setting);
            throttle_lists(&list, partition.index, self.node_id)
        };
        partition.throttled =
            Throttled { leader: listed(LEADER_REPLICAS), follower: listed(FOLLOWER_REPLICAS) };
        if partition.throttled.leader {
            self.quotas.leader.begin_use();
        }
        if let Some(log) = &mut partition.log {
            log.set_config(ctx.config.log_config(dynamic));
        }
    }

    fn configs_changed(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, delta: &ImageDelta) {
        let everywhere =
            delta.everything || delta.configs.iter().any(|c| c.resource_type == ResourceType::Broker);
        if everywhere {
            self.set_quotas(Dynamic::of_broker(&image.configs, self.node_id));
        }
        for ix in self.table.all() {
            let topic = &self.table.get(ix).topic;
            let concerned = everywhere
                || delta.configs.iter().any(|c| c.resource_type == ResourceType::Topic && *c.name == **topic);
            if concerned {
                self.configure(ctx, image, ix);
                self.after_log_change(ix);
                self.watch_throttle(ix);
                // A lower min.insync.replicas may let the high watermark move.
                self.advance_high_watermark(ctx, image, ix);
            }
        }
    }

    /// A replica leaves this broker: its log is renamed and removed after `file.delete.delay.ms`.
    fn delete_replica(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, ix: PartitionIx) {
        let partition = self.table.get(ix);
        let id = TopicIdPartition { topic_id: partition.topic_id, partition: partition.index };
        let error = match image.partition(id) {
            Some(_) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        };
        self.stop_fetching(ix);
        self.fail_produces(ctx, image, ix, error);
        self.fail_deletes(ctx, ix, error);
        self.detach_watchers(ix);
        if self.table.get(ix).is_leader() {
            self.state_lost(ix);
        }
        let partition = self.table.remove(ix);
        self.forget_log(ctx.now.mono, ix, &partition);
        self.delete_log(ctx, partition);
    }
}

/// A topic of the image.
pub(super) fn topic_of<'i>(image: &'i MetadataImage, topic: TopicRef<'_>) -> Option<&'i Arc<TopicImage>> {
    match topic {
        TopicRef::Id(id) => image.topics.topic(id),
        TopicRef::Name(name) => image.topics.topic_named(name),
    }
}

/// Why a partition that this broker does not have cannot be served here.
pub(super) fn not_hosted(image: &MetadataImage, topic: TopicRef<'_>, partition: i32) -> ErrorCode {
    match (topic_of(image, topic), topic) {
        (Some(found), _) if found.partitions.contains_key(&partition) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        (None, TopicRef::Id(_)) => ErrorCode::UNKNOWN_TOPIC_ID,
        _ => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    }
}

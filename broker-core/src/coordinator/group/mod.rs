//! The group coordinator: consumer groups and their offsets, in `__consumer_offsets`.
//!
//! [`GroupCoordinator`] takes requests and finds the shard that a group belongs to; [`GroupShard`] is what lies in one
//! partition: committed offsets ([`offsets`]), the groups of the classic protocol ([`membership`], [`classic`]) and those
//! of the consumer protocol ([`consumer`]).
//! Follows Kafka's `GroupCoordinatorService` and `GroupCoordinatorShard`.

pub mod classic;
pub mod consumer;
pub mod membership;
mod offset_requests;
pub mod offsets;
mod rebalance;
mod requests;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use wire::codec::{DecodeError, Record as _};
use wire::drive::{Instant, Nanos};
use wire::records::{GroupKey, GroupValue, OffsetCommitKey};
use wire::{Compression, ErrorCode};

use super::runtime::{BatchInfo, Parts, Runtime, Shard, ShardCx};
use crate::config::NodeConfig;
use crate::ctx::Ctx;
use crate::event::{Event, GroupAssignment, TopicPartition};
use crate::metadata::{ImageDelta, MetadataImage};
use crate::mutant::{Mutant, Mutants};
use crate::net::RequestToken;

use membership::ClassicGroups;
use offset_requests::{PendingCommit, PendingFetch};
use offsets::{OffsetKey, OffsetWriter, Offsets, push_tombstone};

/// What waits for a write of a group's partition.
#[derive(Clone, Debug)]
pub enum Later {
    /// The answer to an OffsetCommit or TxnOffsetCommit.
    Committed(alloc::boxed::Box<PendingCommit>),
    /// The answer to an OffsetFetch that wants stable offsets only.
    Fetched(alloc::boxed::Box<PendingFetch>),
    /// The leader's assignment of a classic group.
    AssignmentStored {
        /// The group.
        group: Arc<str>,
        /// Its generation.
        generation: i32,
        /// What each member gets.
        assignments: BTreeMap<Arc<str>, Bytes>,
    },
    /// A static member that came back.
    StaticStored {
        /// The group.
        group: Arc<str>,
        /// The member's new id.
        member: Arc<str>,
        /// Its JoinGroup.
        token: RequestToken,
    },
    /// A group without members.
    EmptyStored {
        /// The group.
        group: Arc<str>,
    },
    /// The answer to an OffsetDelete, encoded by partition.
    Deleted {
        /// The request.
        token: RequestToken,
        /// The group.
        group: Arc<str>,
        /// What is answered for each partition.
        results: Vec<(TopicPartition, ErrorCode)>,
    },
    /// One group of a DeleteGroups.
    GroupDeleted {
        /// Which DeleteGroups of the coordinator.
        request: u64,
        /// The group.
        group: Arc<str>,
    },
    /// Offsets that expired.
    Expired,
    /// A group of the consumer protocol.
    Consumer(alloc::boxed::Box<consumer::Pending>),
}

/// What lies in one partition of `__consumer_offsets`.
#[derive(Clone, Debug)]
pub struct GroupShard {
    /// Committed offsets.
    pub offsets: Offsets,
    /// Classic groups.
    pub classic: ClassicGroups,
    /// Groups of the consumer protocol.
    pub consumer: consumer::ConsumerGroups,
    loaded: bool,
    expire_at: Option<Instant>,
    /// Answers that are not a shard's to give.
    ended: Vec<Ended>,
    /// Bugs that are switched on.
    mutants: Mutants,
}

/// One group of a DeleteGroups has ended.
#[derive(Clone, Debug)]
struct Ended {
    request: u64,
    group: Arc<str>,
    error: ErrorCode,
}

impl Shard for GroupShard {
    type Later = Later;

    fn new(ctx: &Ctx<'_>, _partition: i32) -> GroupShard {
        GroupShard { mutants: ctx.config.mutants, ..GroupShard::empty() }
    }

    fn replay(&mut self, batch: &BatchInfo, key: &[u8], value: Option<&[u8]>) {
        if let Some(offset) = OffsetKey::read(key) {
            return self.replay_offset(batch, offset, value);
        }
        let Ok(key) = GroupKey::decode(key) else { return };
        let value = match value.map(|value| GroupValue::decode(key.key(), value)) {
            None => None,
            Some(Ok(value)) => Some(value),
            Some(Err(_)) => return,
        };
        match (&key, &value) {
            (GroupKey::GroupMetadata(key), None) => self.classic.replay(key, None),
            // A group that this coordinator changes itself is ahead of its record.
            // (A group of the consumer protocol that becomes a classic one is not here before.)
            (GroupKey::GroupMetadata(key), Some(_))
                if self.loaded && self.classic.get(&key.group).is_some() => {}
            (GroupKey::GroupMetadata(key), Some(GroupValue::GroupMetadata(value))) => {
                self.classic.replay(key, Some(value));
            }
            _ => {
                self.consumer.replay(&key, value.as_ref());
            }
        }
    }

    fn end_transaction(&mut self, producer_id: i64, _producer_epoch: i16, commit: bool, offset: i64) {
        let commit = commit && !self.mutants.has(Mutant::TransactionOffsetsDropped);
        self.offsets.end_transaction(producer_id, commit, offset);
    }

    fn committed(&mut self, high_watermark: i64) {
        self.offsets.committed(high_watermark);
    }

    fn loaded(&mut self, cx: &mut ShardCx<'_, '_, Later>) {
        self.loaded = true;
        // Offsets without a group are those of consumers that manage their partitions themselves.
        let groups: Vec<Arc<str>> = self.offsets.groups().cloned().collect();
        for group in groups.iter().filter(|group| self.consumer.get(group).is_none()) {
            self.classic.get_or_create(cx, group);
        }
        self.classic.loaded(cx);
        self.consumer.loaded(cx);
        self.expire_at = Some(cx.now() + check_interval(cx.ctx.config));
    }

    fn completed(&mut self, cx: &mut ShardCx<'_, '_, Later>, later: Later, result: Result<(), ErrorCode>) {
        match later {
            Later::Committed(pending) => pending.answer(cx, result),
            Later::Fetched(pending) => pending.answer(cx, result),
            Later::AssignmentStored { group, generation, assignments } => {
                self.classic.assignment_stored(cx, &group, generation, &assignments, result);
            }
            Later::StaticStored { group, member, token } => {
                self.classic.static_stored(cx, &group, &member, token, result);
            }
            Later::Deleted { token, group, results } => {
                offset_requests::answer_offset_delete(cx, token, &group, results, result);
            }
            Later::GroupDeleted { request, group } => {
                let error = result.map_or_else(rebalance::error_of_append, |()| ErrorCode::NONE);
                if error.is_none() {
                    cx.event(|| Event::GroupDeleted { group: group.clone() });
                }
                self.ended.push(Ended { request, group, error });
            }
            Later::Consumer(pending) => self.consumer_stored(cx, *pending, result),
            Later::EmptyStored { .. } | Later::Expired => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.classic.deadline(), self.consumer.deadline(), self.expire_at].into_iter().flatten().min()
    }

    fn on_timer(&mut self, cx: &mut ShardCx<'_, '_, Later>) {
        let now = cx.now();
        if self.classic.deadline().is_some_and(|at| at <= now) {
            self.classic.on_timer(cx);
        }
        if self.consumer.deadline().is_some_and(|at| at <= now) {
            self.consumer_on_timer(cx);
        }
        if self.expire_at.is_some_and(|at| at <= now) {
            self.expire_at = Some(now + check_interval(cx.ctx.config));
            self.expire(cx);
        }
    }

    fn on_metadata(&mut self, cx: &mut ShardCx<'_, '_, Later>, delta: &ImageDelta) {
        let topics = !delta.topics_created.is_empty() || !delta.topics_deleted.is_empty();
        if topics || delta.everything || !delta.partitions.is_empty() || !delta.brokers.is_empty() {
            self.consumer.topics_changed();
        }
        if !delta.topics_deleted.is_empty() && !self.mutants.has(Mutant::OffsetsOutliveTopic) {
            let deleted: Vec<Arc<str>> = delta.topics_deleted.values().map(|t| t.name.clone()).collect();
            self.topics_deleted(cx, &deleted);
        }
    }

    fn unload(&mut self, cx: &mut ShardCx<'_, '_, Later>) {
        self.classic.unload(cx);
    }
}

fn check_interval(config: &NodeConfig) -> Nanos {
    Nanos::from_millis(config.static_number("offsets.retention.check.interval.ms").max(1) as u64)
}

impl GroupShard {
    fn empty() -> GroupShard {
        GroupShard {
            offsets: Offsets::default(),
            classic: ClassicGroups::default(),
            consumer: consumer::ConsumerGroups::default(),
            loaded: false,
            expire_at: None,
            ended: Vec::new(),
            mutants: Mutants::NONE,
        }
    }

    fn replay_offset(
        &mut self,
        batch: &BatchInfo,
        key: Result<OffsetKey<'_>, DecodeError>,
        value: Option<&[u8]>,
    ) {
        let Ok(key) = key else { return };
        match value.map(|value| GroupValue::decode(OffsetCommitKey::KEY, value)) {
            None => self.offsets.replay(batch, &key, None),
            Some(Ok(GroupValue::OffsetCommit(value))) => self.offsets.replay(batch, &key, Some(&value)),
            Some(_) => {}
        }
    }

    /// Offsets of groups that nobody uses go after `offsets.retention.minutes` (KIP-211).
    fn expire(&mut self, cx: &mut ShardCx<'_, '_, Later>) {
        let retention_ms = cx.ctx.config.static_number("offsets.retention.minutes") * 60_000;
        let now_ms = cx.now_ms();
        let groups: Vec<Arc<str>> = self.offsets.groups().cloned().collect();
        for group in groups {
            let expired = self.expired_of(&group, now_ms, retention_ms);
            if !expired.is_empty() {
                self.remove_offsets(cx, &group, &expired, Later::Expired);
            }
        }
        let empty: Vec<Arc<str>> = (self.classic.iter())
            .filter(|g| g.state == classic::State::Empty && g.pending_joins.is_empty())
            .filter(|g| !self.offsets.has_offsets(&g.id) && !self.offsets.has_pending(&g.id))
            .map(|g| g.id.clone())
            .collect();
        let gone = |id: &str| !self.offsets.has_offsets(id) && !self.offsets.has_pending(id);
        let modern =
            self.consumer.iter().filter(|g| g.members.is_empty() && gone(&g.id)).map(|g| g.id.clone());
        let empty: Vec<Arc<str>> = empty.into_iter().chain(modern).collect();
        for group in empty {
            self.delete_group(cx, &group, Later::Expired);
        }
    }

    fn expired_of(&self, group: &str, now_ms: i64, retention_ms: i64) -> Vec<TopicPartition> {
        let known = self.classic.get(group);
        let modern = self.consumer.get(group);
        let is_expired = |topic: &str, committed: &offsets::Committed| {
            if let Some(at) = committed.expire_timestamp {
                return now_ms >= at;
            }
            if modern.is_some_and(|group| group.is_subscribed_to(topic)) {
                return false;
            }
            let since = match known {
                // Members that use the topic keep its offsets.
                Some(g) if g.state != classic::State::Empty => {
                    if g.subscribed_topics().is_none_or(|topics| topics.contains(topic)) {
                        return false;
                    }
                    committed.commit_timestamp
                }
                Some(g) if g.protocol_type.is_some() => g.since_ms.max(committed.commit_timestamp),
                _ => committed.commit_timestamp,
            };
            now_ms - since >= retention_ms
        };
        (self.offsets.latest(group))
            .filter(|(topic, p, committed)| {
                is_expired(topic, committed) && !self.offsets.is_unstable(group, topic, *p)
            })
            .map(|(topic, partition, _)| TopicPartition { topic: topic.clone(), partition })
            .collect()
    }

    fn topics_deleted(&mut self, cx: &mut ShardCx<'_, '_, Later>, deleted: &[Arc<str>]) {
        let groups: Vec<Arc<str>> = self.offsets.groups().cloned().collect();
        for group in groups {
            let gone: Vec<TopicPartition> = (self.offsets.latest(&group))
                .filter(|(topic, _, _)| deleted.contains(topic))
                .map(|(topic, partition, _)| TopicPartition { topic: topic.clone(), partition })
                .collect();
            if !gone.is_empty() {
                self.remove_offsets(cx, &group, &gone, Later::Expired);
            }
        }
    }

    fn remove_offsets(
        &mut self,
        cx: &mut ShardCx<'_, '_, Later>,
        group: &Arc<str>,
        partitions: &[TopicPartition],
        later: Later,
    ) {
        let mut records = cx.records();
        let mut writer = OffsetWriter::default();
        for p in partitions {
            push_tombstone(&mut records, &mut writer, group, &p.topic, p.partition);
        }
        let (group, partitions) = (group.clone(), partitions.to_vec());
        cx.event(|| Event::OffsetsRemoved { group, partitions });
        cx.write(records, later);
    }

    /// Tombstones for all that is known of a group.
    fn delete_group(&mut self, cx: &mut ShardCx<'_, '_, Later>, group: &Arc<str>, later: Later) {
        let mut records = cx.records();
        let mut writer = OffsetWriter::default();
        for (topic, partition, _) in self.offsets.latest(group) {
            push_tombstone(&mut records, &mut writer, group, topic, partition);
        }
        if let Some(known) = self.consumer.get(group) {
            known.push_gone(&mut records);
            return cx.write(records, later);
        }
        let key = wire::records::GroupMetadataKey { group: String::from(&**group) };
        let key = GroupKey::GroupMetadata(key).encode().expect("the name of a group fits into a record");
        records.push(&key, None);
        cx.write(records, later);
    }
}

/// A group, for people and checkers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// The generation.
    pub generation: i32,
    /// Its members, with what each was given.
    pub members: Vec<GroupAssignment>,
    /// The committed offsets, each the next to be read.
    pub committed: BTreeMap<TopicPartition, i64>,
}

/// The group coordinator of a broker.
#[derive(Clone, Debug)]
pub struct GroupCoordinator {
    runtime: Runtime<GroupShard>,
    deletions: BTreeMap<u64, requests::Deletion>,
    verifying: BTreeMap<u64, offset_requests::Verifying>,
    stopped: bool,
    next_request: u64,
}

impl GroupCoordinator {
    /// A coordinator that leads nothing yet.
    pub fn new(config: &NodeConfig) -> GroupCoordinator {
        let timeout = Nanos::from_millis(config.static_number("offsets.commit.timeout.ms").max(1) as u64);
        let compression = match config.static_number("offsets.topic.compression.codec") {
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => Compression::None,
        };
        GroupCoordinator {
            runtime: Runtime::new(super::GROUP_TOPIC, timeout, compression),
            deletions: BTreeMap::new(),
            verifying: BTreeMap::new(),
            stopped: false,
            next_request: 0,
        }
    }

    /// A group that is coordinated here, with the coordinator's epoch; one that nobody knows is `Dead`.
    pub fn group(&self, image: &MetadataImage, id: &str) -> Option<(i32, GroupView)> {
        let partition = self.runtime.partition_of(image, id).ok()?;
        let (epoch, shard) = (self.runtime.epoch(partition)?, self.runtime.shard(partition)?);
        if let Some(known) = shard.consumer.get(id) {
            let view = GroupView {
                state: known.state(),
                generation: known.epoch,
                members: consumer::assignments(image, known),
                committed: shard.offsets.all_stable(id),
            };
            return Some((epoch, view));
        }
        let known = shard.classic.get(id);
        let view = GroupView {
            state: known.map_or(classic::State::Dead, |group| group.state).name(),
            generation: known.map_or(0, |group| group.generation),
            members: known.map_or_else(Vec::new, membership::assignments),
            committed: shard.offsets.all_stable(id),
        };
        Some((epoch, view))
    }

    /// The shards, for looking.
    pub fn runtime(&self) -> &Runtime<GroupShard> {
        &self.runtime
    }

    /// Takes what the replicas have to tell: partitions of `__consumer_offsets` that this broker leads now, or does not
    /// lead any more, or whose writes are committed; transactions of offsets that are verified, or have ended. Whether
    /// there was anything.
    pub fn advance(&mut self, parts: &mut Parts<'_, '_>) -> bool {
        let signals = parts.replicas.take_state_signals();
        let markers = parts.replicas.take_offsets_markers();
        let verified = parts.replicas.take_offsets_verified();
        if self.stopped || signals.is_empty() && markers.is_empty() && verified.is_empty() {
            return false;
        }
        // A marker lies below the high watermark that follows it; and who begins to lead reads it from the log.
        for marker in &markers {
            let producer = (marker.producer_id, marker.producer_epoch);
            let now = parts.ctx.now.mono;
            self.runtime.marker_appended(now, marker.partition, producer, marker.commit, marker.offset);
        }
        for signal in signals.iter().filter(|signal| *signal.topic == *super::GROUP_TOPIC) {
            self.runtime.on_signal(parts, signal);
            self.take_ended(parts, signal.partition);
        }
        for verified in verified {
            self.offsets_verified(parts, verified);
        }
        true
    }

    /// Nothing is written any more.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The metadata changed.
    pub fn on_metadata(&mut self, parts: &mut Parts<'_, '_>, delta: &ImageDelta) {
        self.runtime.on_metadata(parts, delta);
    }

    /// When [`GroupCoordinator::on_timer`] has something to do, or a little before.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.runtime.deadline().filter(|_| !self.stopped)
    }

    /// The deadline is here.
    pub fn on_timer(&mut self, parts: &mut Parts<'_, '_>) {
        self.runtime.on_timer(parts);
        if !self.deletions.is_empty() {
            for partition in self.runtime.active().collect::<Vec<_>>() {
                self.take_ended(parts, partition);
            }
        }
    }
}

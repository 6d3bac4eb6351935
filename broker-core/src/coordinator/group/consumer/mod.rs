//! Groups of the consumer protocol (KIP-848): members tell by heartbeats what they subscribed to and what they have,
//! and the coordinator decides who gets what.
//!
//! [`state`] is what lies in the log, `heartbeat` what a heartbeat does to it, [`assignor`] and [`reconcile`] the two
//! decisions as pure functions; `compat` lets members of the classic protocol take part, and turns groups from
//! one kind into the other and back. Follows the consumer part of Kafka's `GroupMetadataManager`.
//!
//! What a call decides goes into the log as records; the state follows by replaying them. So at most one write of a
//! group is made in one call.

pub mod assignor;
mod compat;
mod heartbeat;
pub mod reconcile;
mod records;
pub mod state;
#[cfg(test)]
mod tests;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::drive::{Instant, Nanos};
use wire::messages::consumer_group_describe_response as described;
use wire::records::{GroupKey, GroupValue};
use wire::{ErrorCode, Uuid};

use super::{GroupShard, Later};
use crate::config::NodeConfig;
use crate::coordinator::runtime::{Records, ShardCx};
use crate::event::{Event, GroupAssignment, TopicPartition};
use crate::metadata::{MetadataImage, ResourceType};
use assignor::{Assignor, Partitions};
use reconcile::Owned;
use state::{ConsumerGroup, Member};

use heartbeat::Answer;

type Cx<'c, 'n> = ShardCx<'c, 'n, Later>;

/// What waits for a write of a group of the consumer protocol.
#[derive(Clone, Debug)]
pub struct Pending {
    group: Arc<str>,
    answer: Answer,
    joined: Vec<Arc<str>>,
    left: Vec<(Arc<str>, &'static str)>,
}

/// Whether the cluster has the consumer protocol, and the broker offers it.
pub(super) fn is_enabled(config: &NodeConfig, image: &MetadataImage) -> bool {
    let protocols = config.node_value(Default::default(), "group.coordinator.rebalance.protocols");
    let offered = protocols.is_none_or(|protocols| protocols.split(',').any(|p| p.trim() == "consumer"));
    offered && image.features.level("group.version") >= 1
}

/// A setting of a group, or the broker's.
fn group_setting(config: &NodeConfig, image: &MetadataImage, group: &str, name: &str) -> i64 {
    let own =
        image.configs.value(ResourceType::Group, group, name).and_then(|value| value.trim().parse().ok());
    own.unwrap_or_else(|| config.static_number(&format!("group.{name}")))
}

/// The session timeout of members.
fn session_timeout(config: &NodeConfig, image: &MetadataImage, group: &str) -> Nanos {
    Nanos::from_millis(group_setting(config, image, group, "consumer.session.timeout.ms").max(1) as u64)
}

/// The assignors of the broker, the default one first.
fn assignors(config: &NodeConfig) -> Vec<Assignor> {
    let names = config.node_value(Default::default(), "group.consumer.assignors").unwrap_or("uniform,range");
    let named = |name: &str| {
        Assignor::named(name.trim().rsplit('.').next().unwrap_or("")).or_else(|| {
            // By the names of Kafka's classes too.
            match name.trim().rsplit('.').next() {
                Some("UniformAssignor") => Some(Assignor::Uniform),
                Some("RangeAssignor") => Some(Assignor::Range),
                _ => None,
            }
        })
    };
    let known: Vec<Assignor> = names.split(',').filter_map(named).collect();
    if known.is_empty() { alloc::vec![Assignor::Uniform, Assignor::Range] } else { known }
}

/// The groups of the consumer protocol of a partition of `__consumer_offsets`.
#[derive(Clone, Debug, Default)]
pub struct ConsumerGroups {
    groups: BTreeMap<Arc<str>, ConsumerGroup>,
    /// Not later than the soonest deadline of all groups.
    due: Option<Instant>,
}

impl ConsumerGroups {
    /// A group.
    pub fn get(&self, group: &str) -> Option<&ConsumerGroup> {
        self.groups.get(group)
    }

    /// All groups, ordered.
    pub fn iter(&self) -> impl Iterator<Item = &ConsumerGroup> {
        self.groups.values()
    }

    /// Whether nothing is here.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Not later than when something is to be done.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    fn arm(&mut self, group: &str, at: Instant) {
        if let Some(group) = self.groups.get_mut(group) {
            group.soft.arm(at);
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
    }

    fn get_or_create(&mut self, group: &str) -> &mut ConsumerGroup {
        if !self.groups.contains_key(group) {
            let id: Arc<str> = Arc::from(group);
            self.groups.insert(id.clone(), ConsumerGroup::new(id));
        }
        self.groups.get_mut(group).expect("it was just made")
    }

    /// Replays a record; false if it is not one of these groups.
    pub fn replay(&mut self, key: &GroupKey, value: Option<&GroupValue>) -> bool {
        macro_rules! value_of {
            ($kind:ident) => {
                match value {
                    None => None,
                    Some(GroupValue::$kind(value)) => Some(value),
                    Some(_) => return true,
                }
            };
        }
        match key {
            GroupKey::ConsumerGroupMetadata(key) => match value_of!(ConsumerGroupMetadata) {
                None => drop(self.groups.remove(&*key.group_id)),
                Some(value) => {
                    let group = self.get_or_create(&key.group_id);
                    (group.epoch, group.metadata_hash) = (value.epoch, value.metadata_hash);
                }
            },
            // Written by Kafka before 4.1; the hash stands for it since.
            GroupKey::ConsumerGroupPartitionMetadata(_) => {}
            GroupKey::ConsumerGroupMemberMetadata(key) => {
                let value = value_of!(ConsumerGroupMemberMetadata);
                if let Some(group) = self.for_replay(&key.group_id, value.is_some()) {
                    group.replay_member(&key.member_id, value);
                }
            }
            GroupKey::ConsumerGroupTargetAssignmentMetadata(key) => {
                let value = value_of!(ConsumerGroupTargetAssignmentMetadata);
                if let Some(group) = self.for_replay(&key.group_id, value.is_some()) {
                    group.target_epoch = value.map_or(0, |value| value.assignment_epoch);
                    group.target_ms = value.map_or(0, |value| value.assignment_timestamp);
                }
            }
            GroupKey::ConsumerGroupTargetAssignmentMember(key) => {
                let value = value_of!(ConsumerGroupTargetAssignmentMember);
                if let Some(group) = self.for_replay(&key.group_id, value.is_some()) {
                    group.replay_target(&key.member_id, value);
                }
            }
            GroupKey::ConsumerGroupCurrentMemberAssignment(key) => {
                let value = value_of!(ConsumerGroupCurrentMemberAssignment);
                if let Some(group) = self.for_replay(&key.group_id, value.is_some()) {
                    group.replay_current(&key.member_id, value);
                }
            }
            GroupKey::ConsumerGroupRegularExpression(key) => {
                let value = value_of!(ConsumerGroupRegularExpression);
                if let Some(group) = self.for_replay(&key.group_id, value.is_some()) {
                    replay_regex(group, &key.regular_expression, value);
                }
            }
            _ => return false,
        }
        true
    }

    fn for_replay(&mut self, group: &str, create: bool) -> Option<&mut ConsumerGroup> {
        if create { Some(self.get_or_create(group)) } else { self.groups.get_mut(group) }
    }

    /// All is replayed: members have their session's time from now on.
    pub fn loaded(&mut self, cx: &mut Cx<'_, '_>) {
        let now = cx.now();
        for group in self.groups.values_mut() {
            let session = session_timeout(cx.ctx.config, cx.image, &group.id);
            for member in group.members.values() {
                let session = member
                    .classic
                    .as_ref()
                    .map_or(session, |classic| Nanos::from_millis(classic.session_timeout_ms.max(0) as u64));
                // A static member that left for a while has to come back in the same time.
                group.soft.sessions.insert(member.id.clone(), now + session);
                if member.state == state::MemberState::Unrevoked {
                    let until = now + Nanos::from_millis(member.rebalance_timeout_ms.max(0) as u64);
                    group.soft.revocations.insert(member.id.clone(), (member.epoch, until));
                }
            }
            group.soft.stale = true;
            group.soft.due = group.soft.next_due();
            group.soft.told_state = Some(group.state());
            group.soft.told_version = group.version;
            if !group.members.is_empty() {
                tell_assignments(cx, group);
            }
        }
        self.due = self.groups.values().filter_map(|group| group.soft.due).min();
    }

    /// Topics were made, deleted or changed: with its next heartbeat a group looks whether these are its own.
    pub fn topics_changed(&mut self) {
        for group in self.groups.values_mut() {
            group.soft.stale = true;
        }
    }
}

fn replay_regex(
    group: &mut ConsumerGroup,
    regex: &str,
    value: Option<&wire::records::ConsumerGroupRegularExpressionValue>,
) {
    match value {
        None => drop(group.regexes.remove(regex)),
        Some(value) => {
            let topics: BTreeSet<Arc<str>> =
                value.topics.iter().map(|topic| Arc::from(topic.as_str())).collect();
            let resolved = state::Resolved { topics: Arc::new(topics), version: value.version };
            group.regexes.insert(Arc::from(regex), resolved);
        }
    }
}

impl GroupShard {
    /// Writes what was decided about a group; `pending` goes on when it is committed.
    fn write_consumer(&mut self, cx: &mut Cx<'_, '_>, records: Records, pending: Pending) {
        cx.write(records, Later::Consumer(Box::new(pending)));
    }

    /// What was decided about a group is committed, or was refused.
    pub(super) fn consumer_stored(
        &mut self,
        cx: &mut Cx<'_, '_>,
        pending: Pending,
        result: Result<(), ErrorCode>,
    ) {
        let Pending { group: id, answer, joined, left } = pending;
        match result {
            Ok(()) => self.tell_consumer(cx, &id, &joined, &left),
            Err(_) => self.keep_watching(cx, &id),
        }
        answer.give(self, cx, &id, result);
    }

    fn tell_consumer(
        &mut self,
        cx: &mut Cx<'_, '_>,
        id: &Arc<str>,
        joined: &[Arc<str>],
        left: &[(Arc<str>, &'static str)],
    ) {
        for (member, why) in left {
            let (group, member) = (id.clone(), member.clone());
            cx.event(|| Event::GroupMemberLeft { group, member, why: Arc::from(*why) });
        }
        let Some(group) = self.consumer.groups.get_mut(id) else { return };
        for member in joined.iter().filter_map(|member| group.members.get(member)) {
            cx.event(|| Event::GroupMemberJoined {
                group: id.clone(),
                member: member.id.clone(),
                client_id: member.client_id.clone(),
                instance: member.instance.clone(),
            });
        }
        let state = group.state();
        if group.soft.told_state != Some(state) {
            let (from, generation) = (group.soft.told_state.replace(state), group.epoch);
            cx.event(|| Event::GroupStateChanged { group: id.clone(), from, to: state, generation });
        }
        if group.soft.told_version != group.version {
            group.soft.told_version = group.version;
            tell_assignments(cx, group);
        }
    }

    /// A write failed: who was to be removed by it is still there, and a group that was to be made by it is not.
    fn keep_watching(&mut self, cx: &mut Cx<'_, '_>, id: &Arc<str>) {
        let Some(group) = self.consumer.groups.get_mut(id) else { return };
        if group.epoch == 0 && group.members.is_empty() {
            self.consumer.groups.remove(id);
            return;
        }
        group.soft.stale = true;
        let until = cx.now() + session_timeout(cx.ctx.config, cx.image, id);
        for member in group.members.keys() {
            group.soft.sessions.entry(member.clone()).or_insert(until);
        }
        let members = &group.members;
        group.soft.sessions.retain(|member, _| members.contains_key(member));
        self.consumer.arm(id, until);
    }

    /// Ends what has lasted too long.
    pub(super) fn consumer_on_timer(&mut self, cx: &mut Cx<'_, '_>) {
        let now = cx.now();
        let due: Vec<Arc<str>> = (self.consumer.groups.values())
            .filter(|group| group.soft.due.is_some_and(|at| at <= now))
            .map(|group| group.id.clone())
            .collect();
        for id in due {
            let group = self.consumer.groups.get_mut(&id).expect("it was just seen");
            let late = take_late(group, now);
            if group.soft.assign_at.is_some_and(|at| at <= now) {
                group.soft.assign_at = None;
                if late.is_empty() {
                    self.assign_late(cx, &id);
                }
            }
            if !late.is_empty() {
                self.fence(cx, &id, late, Answer::Nobody);
            }
            if let Some(group) = self.consumer.groups.get_mut(&id) {
                group.soft.due = group.soft.next_due();
            }
        }
        self.consumer.due = self.consumer.groups.values().filter_map(|group| group.soft.due).min();
    }
}

/// The members whose time is up, and why; their timers end.
fn take_late(group: &mut ConsumerGroup, now: Instant) -> Vec<(Arc<str>, &'static str)> {
    let mut late: BTreeMap<Arc<str>, &'static str> = BTreeMap::new();
    let members = &group.members;
    let mut take = |timers: &mut BTreeMap<Arc<str>, Instant>, why: &'static str| {
        timers.retain(|member, at| {
            if *at <= now && members.contains_key(member) {
                late.insert(member.clone(), why);
            }
            *at > now
        });
    };
    take(&mut group.soft.syncs, "it did not ask for its assignment in time");
    take(&mut group.soft.joins, "it did not join again in time");
    take(&mut group.soft.sessions, "session expired");
    group.soft.revocations.retain(|member, (epoch, at)| {
        let waits = |m: &Member| m.state == state::MemberState::Unrevoked && m.epoch == *epoch;
        if *at <= now && members.get(member).is_some_and(waits) {
            late.entry(member.clone()).or_insert("it did not give partitions up in time");
        }
        *at > now
    });
    late.into_iter().collect()
}

/// Partitions by their topics' names; those of topics that are gone are left out.
fn named(image: &MetadataImage, owned: &Owned) -> Vec<TopicPartition> {
    let of_topic = |(id, partitions): (&Uuid, &BTreeMap<i32, i32>)| {
        let name = image.topics.topic(*id).map(|topic| topic.name.clone());
        let one = |(p, topic): (i32, Arc<str>)| TopicPartition { topic, partition: p };
        let all = partitions.keys().filter_map(|p| Some((*p, name.clone()?))).map(one);
        all.collect::<Vec<_>>()
    };
    owned.iter().flat_map(of_topic).collect()
}

/// What each member has and may use.
pub(super) fn assignments(image: &MetadataImage, group: &ConsumerGroup) -> Vec<GroupAssignment> {
    let of_member = |m: &Member| GroupAssignment {
        member: m.id.clone(),
        client_id: m.client_id.clone(),
        partitions: named(image, &m.assigned),
    };
    group.members.values().map(of_member).collect()
}

fn tell_assignments(cx: &mut Cx<'_, '_>, group: &ConsumerGroup) {
    let image = cx.image;
    cx.event(|| Event::GroupAssigned {
        group: group.id.clone(),
        generation: group.epoch,
        members: assignments(image, group),
    });
}

/// The assignor that most members want, else the broker's first.
fn preferred<'m>(config: &NodeConfig, members: impl Iterator<Item = &'m Member>) -> Assignor {
    let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
    for member in members {
        if let Some(name) = &member.assignor {
            *votes.entry(name).or_default() += 1;
        }
    }
    let most = votes.values().copied().max();
    let winner =
        votes.into_iter().find(|(_, n)| Some(*n) == most).and_then(|(name, _)| Assignor::named(name));
    winner.unwrap_or_else(|| assignors(config)[0])
}

/// The answer of ConsumerGroupDescribe for one group.
pub(super) fn describe<'s>(
    config: &NodeConfig,
    image: &'s MetadataImage,
    group: &'s ConsumerGroup,
) -> described::DescribedGroup<'s> {
    let topic_partitions = |id: &Uuid, partitions: Vec<i32>| {
        let name = image.topics.topic(*id)?.name.as_ref();
        Some(described::TopicPartitions { topic_id: *id, topic_name: Cow::Borrowed(name), partitions })
    };
    let owned = |owned: &Owned| described::Assignment {
        topic_partitions: (owned.iter())
            .filter_map(|(id, p)| topic_partitions(id, p.keys().copied().collect()))
            .collect(),
    };
    let target = |target: &Partitions| described::Assignment {
        topic_partitions: (target.iter())
            .filter_map(|(id, p)| topic_partitions(id, p.iter().copied().collect()))
            .collect(),
    };
    let member = |m: &'s Member| described::Member {
        member_id: Cow::Borrowed(&*m.id),
        instance_id: m.instance.as_deref().map(Cow::Borrowed),
        rack_id: m.rack.as_deref().map(Cow::Borrowed),
        member_epoch: m.epoch,
        client_id: Cow::Borrowed(&*m.client_id),
        client_host: Cow::Borrowed(&*m.client_host),
        subscribed_topic_names: m.topics.iter().map(|topic| Cow::Borrowed(&**topic)).collect(),
        subscribed_topic_regex: Some(Cow::Borrowed(&*m.regex)),
        assignment: owned(&m.assigned),
        target_assignment: target(&group.target(&m.id)),
        // 0 is the classic protocol, 1 the consumer protocol.
        member_type: i8::from(m.classic.is_none()),
    };
    described::DescribedGroup {
        group_id: Cow::Borrowed(&*group.id),
        group_state: Cow::Borrowed(group.state()),
        group_epoch: group.epoch,
        assignment_epoch: group.target_epoch,
        assignor_name: Cow::Owned(preferred(config, group.members.values()).name().to_string()),
        members: group.members.values().map(member).collect(),
        ..described::DescribedGroup::default()
    }
}

impl ConsumerGroup {
    /// Whether offsets may be committed by whoever asks so.
    ///
    /// A member whose epoch is behind may commit what it has had since then: the coordinator moved it on, and it does
    /// not know yet. `partitions` are those of the commit.
    pub(super) fn check_commit<'p>(
        &self,
        image: &MetadataImage,
        (member, epoch): (&str, i32),
        transactional: bool,
        version: i16,
        mut partitions: impl Iterator<Item = (&'p str, i32)>,
    ) -> Result<(), ErrorCode> {
        // Who does not take part in the group's management may commit while nobody does.
        if epoch < 0 && (self.members.is_empty() || transactional && member.is_empty()) {
            return Ok(());
        }
        let known = self.members.get(member).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if !transactional && known.classic.is_none() && version < 9 {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        if epoch == known.epoch {
            return Ok(());
        }
        if known.classic.is_some() {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let had_then = |(topic, partition): (&str, i32)| {
            let since = image.topics.id_of(topic).and_then(|id| {
                let of =
                    |owned: &Owned| owned.get(&id).and_then(|of_topic| of_topic.get(&partition)).copied();
                of(&known.assigned).or_else(|| of(&known.revoking))
            });
            since.is_some_and(|since| since <= epoch)
        };
        match epoch < known.epoch && partitions.all(had_then) {
            true => Ok(()),
            false => Err(ErrorCode::STALE_MEMBER_EPOCH),
        }
    }

    /// Whether offsets may be fetched by whoever asks so.
    pub(super) fn check_fetch(&self, member: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let Some(member) = member.filter(|_| epoch >= 0) else { return Ok(()) };
        let known = self.members.get(member).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        match &known.classic {
            _ if known.epoch == epoch => Ok(()),
            None => Err(ErrorCode::STALE_MEMBER_EPOCH),
            Some(_) => Err(ErrorCode::ILLEGAL_GENERATION),
        }
    }

    /// Tombstones for all of it.
    pub(super) fn push_gone(&self, records: &mut Records) {
        records::push_group_gone(records, self);
    }
}

//! Members of the classic protocol in a group of the consumer protocol, and groups that become the one or the other.
//!
//! A group of the classic protocol becomes one of the consumer protocol when the first member joins by a heartbeat, and
//! goes back when the last of these leaves (`group.consumer.migration.policy`). In between members of both protocols
//! share one group: who speaks the classic one joins and asks for its assignment as ever, but the coordinator assigns.
//! What a heartbeat tells others in its answer, `REBALANCE_IN_PROGRESS` tells these: join again.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use rand_core::Rng as _;
use wire::drive::Nanos;
use wire::framing::{decode_versioned_or_later, encode_versioned};
use wire::messages::leave_group_response::MemberResponse;
use wire::messages::*;
use wire::records::group::group_metadata_value::MemberMetadata;
use wire::records::protocol::consumer_protocol_assignment::TopicPartition;
use wire::records::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use wire::records::{GroupKey, GroupMetadataKey, GroupMetadataValue, GroupValue};
use wire::{ErrorCode, Uuid};

use super::super::classic::Classic;
use super::super::membership::{Sender, respond_join_error, respond_sync};
use super::super::rebalance::uuid_text;
use super::super::{GroupShard, Later};
use super::assignor::Partitions;
use super::heartbeat::{Answer, Change, check_size, push_replacement};
use super::reconcile::Owned;
use super::records::push_group_gone;
use super::state::*;
use super::{Cx, Pending};
use crate::coordinator::runtime::Records;
use crate::metadata::MetadataImage;
use crate::net::RequestToken;

/// The protocol type of consumers.
const CONSUMER: &str = "consumer";

/// A JoinGroup that waits for its records.
#[derive(Clone, Debug)]
pub struct Joined {
    token: RequestToken,
    member: Arc<str>,
    epoch: i32,
    protocol: Arc<str>,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
}

/// A SyncGroup that waits for what was written before.
#[derive(Clone, Debug)]
pub struct Synced {
    token: RequestToken,
    member: Arc<str>,
}

/// A LeaveGroup that waits for its records.
#[derive(Clone, Debug)]
pub struct Left {
    token: RequestToken,
    members: Vec<(String, Option<String>, ErrorCode)>,
}

fn millis(ms: i32) -> Nanos {
    Nanos::from_millis(ms.max(0) as u64)
}

impl Joined {
    pub(super) fn give(
        self,
        shard: &mut GroupShard,
        cx: &mut Cx<'_, '_>,
        group: &Arc<str>,
        result: Result<(), ErrorCode>,
    ) {
        if let Err(error) = result {
            return respond_join_error(cx, self.token, &self.member, error);
        }
        let now = cx.now();
        if let Some(known) = shard.consumer.groups.get_mut(group) {
            let (session, sync) =
                (now + millis(self.session_timeout_ms), now + millis(self.rebalance_timeout_ms));
            known.soft.joins.remove(&self.member);
            known.soft.sessions.insert(self.member.clone(), session);
            known.soft.syncs.insert(self.member.clone(), sync);
            shard.consumer.arm(group, session.min(sync));
        }
        let response = JoinGroupResponse {
            generation_id: self.epoch,
            protocol_type: Some(Cow::Borrowed(CONSUMER)),
            protocol_name: Some(Cow::Borrowed(&*self.protocol)),
            member_id: Cow::Borrowed(&*self.member),
            ..JoinGroupResponse::default()
        };
        cx.respond(self.token, &response);
    }
}

impl Synced {
    pub(super) fn give(
        self,
        shard: &mut GroupShard,
        cx: &mut Cx<'_, '_>,
        group: &Arc<str>,
        result: Result<(), ErrorCode>,
    ) {
        let found = result.and_then(|()| {
            let known = shard.consumer.groups.get_mut(group).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            let member = known.members.get(&self.member).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            let classic = member.classic.as_ref().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            let until = cx.now() + millis(classic.session_timeout_ms);
            known.soft.syncs.remove(&self.member);
            known.soft.sessions.insert(self.member.clone(), until);
            let protocol = classic.protocols.first().map(|(name, _)| name.clone()).unwrap_or_default();
            Ok((protocol, classic_assignment(cx.image, classic, &owned_partitions(&member.assigned)), until))
        });
        let (protocol, assignment, until) = match found {
            Ok(found) => found,
            Err(error) => return respond_sync(cx, self.token, None, Err(error)),
        };
        shard.consumer.arm(group, until);
        let response = SyncGroupResponse {
            protocol_type: Some(Cow::Borrowed(CONSUMER)),
            protocol_name: Some(Cow::Borrowed(&*protocol)),
            assignment: Cow::Borrowed(&assignment),
            ..SyncGroupResponse::default()
        };
        cx.respond(self.token, &response);
    }
}

impl Left {
    pub(super) fn give(self, cx: &mut Cx<'_, '_>, result: Result<(), ErrorCode>) {
        let mut response = LeaveGroupResponse::default();
        if let Err(error) = result {
            response.error_code = error.0;
        } else if self.token.version < 3 {
            response.error_code = self.members.first().map_or(ErrorCode::NONE, |(_, _, error)| *error).0;
        } else {
            response.members = (self.members.iter())
                .map(|(member, instance, error)| MemberResponse {
                    member_id: Cow::Borrowed(member),
                    group_instance_id: instance.as_deref().map(Cow::Borrowed),
                    error_code: error.0,
                })
                .collect();
        }
        cx.respond(self.token, &response);
    }
}

fn owned_partitions(owned: &Owned) -> Partitions {
    owned.iter().map(|(topic, p)| (*topic, p.keys().copied().collect())).collect()
}

/// An assignment as members of the classic protocol read it, in the version in which the member spoke.
fn classic_assignment(image: &MetadataImage, classic: &ClassicPart, partitions: &Partitions) -> Bytes {
    let metadata = classic.protocols.first().map(|(_, metadata)| metadata.clone()).unwrap_or_default();
    let spoken = metadata.get(..2).map_or(0, |v| i16::from_be_bytes([v[0], v[1]]));
    let version = spoken.clamp(0, <ConsumerProtocolAssignment as wire::codec::Record>::MAX_VERSION);
    let of_topic = |(id, partitions): (&Uuid, &BTreeSet<i32>)| {
        let topic = image.topics.topic(*id)?.name.to_string();
        Some(TopicPartition { topic, partitions: partitions.iter().copied().collect() })
    };
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: partitions.iter().filter_map(of_topic).collect(),
        user_data: None,
    };
    Bytes::from(encode_versioned(&assignment, version).expect("names of topics fit into an assignment"))
}

fn subscription(metadata: &[u8]) -> Option<ConsumerProtocolSubscription> {
    decode_versioned_or_later::<ConsumerProtocolSubscription>(metadata)
        .ok()
        .map(|(subscription, _)| subscription)
}

// --- from one kind to the other

fn policy_allows(cx: &Cx<'_, '_>, direction: &str) -> bool {
    let policy = cx.ctx.config.node_value(Default::default(), "group.consumer.migration.policy");
    let policy = policy.unwrap_or("bidirectional").trim();
    policy.eq_ignore_ascii_case("bidirectional") || policy.eq_ignore_ascii_case(direction)
}

/// A group of the classic protocol as one of the consumer protocol, if it may become one.
pub(super) fn upgraded(cx: &Cx<'_, '_>, classic: &Classic) -> Result<ConsumerGroup, Refusal> {
    let limit = cx.ctx.config.static_number("group.consumer.max.size");
    let consumers = classic.protocol_type.as_deref() == Some(CONSUMER);
    if !policy_allows(cx, "upgrade") || !consumers || classic.members.len() as i64 > limit {
        let message = format!("Group {} is not a consumer group.", classic.id);
        return Err(Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message));
    }
    let mut group = ConsumerGroup::new(classic.id.clone());
    (group.epoch, group.target_epoch) = (classic.generation, classic.generation);
    let protocol = classic.protocol.clone().or_else(|| classic.select_protocol()).unwrap_or_default();
    for member in classic.members.values() {
        let malformed = || {
            let message = format!(
                "Cannot upgrade the classic group {} to consumer group because the embedded consumer protocol is \
                 malformed.",
                classic.id
            );
            Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message)
        };
        let asked = subscription(&member.metadata(&protocol)).ok_or_else(malformed)?;
        let has = match member.assignment.is_empty() {
            true => ConsumerProtocolAssignment::default(),
            false => decode_versioned_or_later(&member.assignment).map_err(|_| malformed())?.0,
        };
        let mut target = Partitions::new();
        for topic in &has.assigned_partitions {
            if let Some(id) = cx.image.topics.id_of(&topic.topic) {
                // Whatever the leader said: nobody shares a partition.
                let free = topic.partitions.iter().filter(|p| !group.owners.contains_key(&(id, **p)));
                target.entry(id).or_default().extend(free);
            }
        }
        let mut new = Member::new(member.id.clone());
        new.instance = member.instance.clone();
        new.rack = asked.rack_id.as_deref().map(Arc::from);
        new.client_id = member.client_id.clone();
        new.client_host = member.client_host.clone();
        new.topics = Arc::new(asked.topics.iter().map(|topic| Arc::from(topic.as_str())).collect());
        new.rebalance_timeout_ms = member.rebalance_timeout_ms;
        (new.epoch, new.previous_epoch) = (classic.generation, classic.generation);
        for (topic, partitions) in &target {
            let since = partitions.iter().map(|p| (*p, classic.generation)).collect();
            new.assigned.insert(*topic, since);
            group.owners.extend(partitions.iter().map(|p| ((*topic, *p), new.id.clone())));
        }
        let protocols = member.protocols.clone();
        new.classic = Some(ClassicPart { session_timeout_ms: member.session_timeout_ms, protocols });
        if let Some(instance) = &new.instance {
            group.statics.insert(instance.clone(), new.id.clone());
        }
        group.targets.insert(new.id.clone(), Arc::new(target));
        group.members.insert(new.id.clone(), new);
    }
    Ok(group)
}

/// A group of the consumer protocol becomes one of the classic protocol, without members that leave.
pub(super) fn push_downgrade(
    cx: &Cx<'_, '_>,
    group: &ConsumerGroup,
    leaving: &[Arc<str>],
    joining: Option<(&Member, &Arc<str>)>,
    records: &mut Records,
) {
    push_group_gone(records, group);
    let stay = group.members.values().filter(|m| !leaving.contains(&m.id)).map(|m| (m, &m.id));
    // Who takes a static member's place has what that was to have.
    let all: Vec<(&Member, &Arc<str>)> = stay.chain(joining).collect();
    let parts = || all.iter().filter_map(|(m, target)| Some((*m, m.classic.as_ref()?, *target)));
    let mut known: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
    for (_, classic, _) in parts() {
        for (name, _) in &classic.protocols {
            *known.entry(name).or_default() += 1;
        }
    }
    let of_all = |name: &&Arc<str>| known.get(name) == Some(&all.len());
    let first = parts().next().map(|(_, classic, _)| classic);
    let protocol = first.and_then(|c| c.protocols.iter().map(|(name, _)| name).find(of_all));
    let protocol: Arc<str> = protocol.cloned().unwrap_or_default();
    let text = |text: &Arc<str>| String::from(&**text);
    let members = parts().map(|(m, classic, target)| MemberMetadata {
        member_id: text(&m.id),
        group_instance_id: m.instance.as_ref().map(text),
        client_id: text(&m.client_id),
        client_host: text(&m.client_host),
        rebalance_timeout: m.rebalance_timeout_ms,
        session_timeout: classic.session_timeout_ms,
        subscription: (classic.protocols.iter())
            .find(|(name, _)| *name == protocol)
            .map_or_else(Vec::new, |(_, metadata)| metadata.to_vec()),
        assignment: classic_assignment(cx.image, classic, &group.target(target)).to_vec(),
    });
    let members: Vec<MemberMetadata> = members.collect();
    let value = GroupValue::GroupMetadata(GroupMetadataValue {
        protocol_type: CONSUMER.to_string(),
        generation: group.epoch,
        protocol: Some(text(&protocol)),
        leader: members.first().map(|m| m.member_id.clone()),
        current_state_timestamp: cx.now_ms(),
        members,
    });
    let key = GroupKey::GroupMetadata(GroupMetadataKey { group: text(&group.id) });
    let (Ok(key), Ok(value)) = (key.encode(), value.encode(3)) else {
        unreachable!("what came in a request fits into a record");
    };
    records.push(&key, Some(&value));
}

impl GroupShard {
    /// Whether a group becomes one of the classic protocol when members leave.
    pub(super) fn may_downgrade(&self, cx: &Cx<'_, '_>, group: &ConsumerGroup, leaving: &[Arc<str>]) -> bool {
        let stay = group.members.len().saturating_sub(leaving.len()) as i64;
        group.only_classic_without(leaving)
            && policy_allows(cx, "downgrade")
            && stay <= cx.ctx.config.static_number("group.max.size")
    }

    /// The group is one of the classic protocol: its members share out anew, unless somebody just took the place of
    /// another.
    pub(super) fn downgraded(
        &mut self,
        cx: &mut Cx<'_, '_>,
        group: &Arc<str>,
        joined: Option<Joined>,
        result: Result<(), ErrorCode>,
    ) {
        self.classic.adopted(cx, group, joined.is_none());
        if let Some(joined) = joined {
            joined.give(self, cx, group, result);
        }
    }

    // --- requests of the classic protocol

    /// JoinGroup (11) to a group of the consumer protocol that has members. `true` if there is none.
    pub(in super::super) fn join_is_classic(
        &mut self,
        cx: &mut Cx<'_, '_>,
        sender: Sender<'_>,
        request: &JoinGroupRequest<'_>,
    ) -> bool {
        let Some(group) = self.consumer.get(&request.group_id) else { return true };
        if group.members.is_empty() {
            if request.member_id.is_empty() {
                let mut records = cx.records();
                push_group_gone(&mut records, group);
                cx.write(records, Later::Expired);
            }
            return true;
        }
        let id = group.id.clone();
        if let Err(refusal) = self.join_consumer(cx, sender, request, &id) {
            respond_join_error(cx, sender.token, &request.member_id, refusal.error);
        }
        false
    }

    fn join_consumer(
        &mut self,
        cx: &mut Cx<'_, '_>,
        sender: Sender<'_>,
        request: &JoinGroupRequest<'_>,
        id: &Arc<str>,
    ) -> Result<(), Refusal> {
        let group = &self.consumer.groups[id];
        let unknown = request.member_id.is_empty();
        let member_id: Arc<str> = match unknown {
            false => Arc::from(&*request.member_id),
            true => {
                let mut bytes = [0; 16];
                cx.ctx.rng.fill_bytes(&mut bytes);
                Arc::from(uuid_text(&Uuid::from_random(bytes)))
            }
        };
        check_join(cx, group, &member_id, request)?;
        if unknown && sender.token.version >= 4 && request.group_instance_id.is_none() {
            // Since version 4 who comes without an id gets one, and comes again with it.
            respond_join_error(cx, sender.token, &member_id, ErrorCode::MEMBER_ID_REQUIRED);
            return Ok(());
        }
        let metadata = request.protocols.first().map(|p| &*p.metadata).unwrap_or_default();
        let inconsistent = || Refusal::new(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, "malformed subscription");
        let asked = subscription(metadata).ok_or_else(inconsistent)?;
        let mut records = cx.records();
        let mut replaced: Option<Arc<str>> = None;
        let mut replacement: Option<Member> = None;
        let known = match request.group_instance_id.as_deref() {
            None => group.members.get(&member_id),
            Some(instance) if unknown => match group.static_member(instance) {
                None => None,
                Some(old) => {
                    let mut new = old.clone();
                    new.id = member_id.clone();
                    (new.epoch, new.previous_epoch) = (0, 0);
                    replaced = Some(old.id.clone());
                    replacement = Some(new);
                    Some(old)
                }
            },
            Some(instance) => Some(group.present_static(&member_id, instance)?),
        };
        let before = replacement.as_ref().or(known);
        let member = as_asked(before, &member_id, sender, request, &asked);
        let protocol = request.protocols.first().map(|p| Arc::from(&*p.name)).unwrap_or_default();
        let mut joined = Joined {
            token: sender.token,
            member: member_id.clone(),
            epoch: group.epoch,
            protocol,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
        };
        let gone: Vec<Arc<str>> = replaced.iter().cloned().collect();
        if let Some(old) = &replaced
            && self.may_downgrade(cx, group, &gone)
        {
            push_downgrade(cx, group, &gone, Some((&member, old)), &mut records);
            let answer = Answer::Downgraded(Some(joined));
            let left = alloc::vec![(old.clone(), TOOK_ITS_PLACE)];
            self.write_consumer(cx, records, Pending { group: id.clone(), answer, joined: Vec::new(), left });
            return Ok(());
        }
        if let (Some(old), Some(new)) = (known.filter(|_| replaced.is_some()), &replacement) {
            push_replacement(&mut records, group, old, new);
        }
        let fresh = !group.members.contains_key(&member_id);
        let reported = reported(cx.image, &asked);
        let change = Change { group, before, replaces: replaced.as_ref(), member, reported: Some(&reported) };
        let outcome = change.carry_out(cx, &mut records)?;
        joined.epoch = outcome.member.epoch;
        let session = millis(request.session_timeout_ms);
        self.heard_of_consumer(cx, id, &outcome, Some(session), replaced.as_ref());
        let left = replaced.map(|old| (old, TOOK_ITS_PLACE)).into_iter().collect();
        let joiners = if fresh { alloc::vec![member_id] } else { Vec::new() };
        let pending = Pending { group: id.clone(), answer: Answer::Join(joined), joined: joiners, left };
        self.write_consumer(cx, records, pending);
        Ok(())
    }

    /// SyncGroup (14) to a group of the consumer protocol. `true` if there is none.
    pub(in super::super) fn sync_is_classic(
        &mut self,
        cx: &mut Cx<'_, '_>,
        token: RequestToken,
        request: &SyncGroupRequest<'_>,
    ) -> bool {
        let Some(group) = self.consumer.get(&request.group_id) else { return true };
        let id = group.id.clone();
        let instance = request.group_instance_id.as_deref();
        let checked =
            check_classic(group, &request.member_id, instance, request.generation_id).and_then(|member| {
                let classic = member.classic.as_ref().expect("it was checked");
                let protocol = classic.protocols.first().map(|(name, _)| &**name).unwrap_or("");
                if request.protocol_type.as_deref().is_some_and(|asked| asked != CONSUMER)
                    || request.protocol_name.as_deref().is_some_and(|asked| asked != protocol)
                {
                    return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
                }
                // Who has partitions to give up first gets what is left, and joins again then.
                let behind = group.epoch > member.epoch && member.state != MemberState::Unrevoked;
                Ok((member.id.clone(), behind.then_some(member.rebalance_timeout_ms)))
            });
        match checked {
            Err(error) => respond_sync(cx, token, None, Err(error)),
            Ok((member, Some(timeout_ms))) => {
                self.await_join(cx, &id, &member, timeout_ms);
                respond_sync(cx, token, None, Err(ErrorCode::REBALANCE_IN_PROGRESS));
            }
            Ok((member, None)) => {
                let answer = Answer::Sync(Synced { token, member });
                let pending = Pending { group: id, answer, joined: Vec::new(), left: Vec::new() };
                let none = cx.records();
                self.write_consumer(cx, none, pending);
            }
        }
        false
    }

    /// Heartbeat (12) to a group of the consumer protocol: its answer, `None` if there is no such group.
    pub(in super::super) fn consumer_classic_heartbeat(
        &mut self,
        cx: &mut Cx<'_, '_>,
        request: &HeartbeatRequest<'_>,
    ) -> Option<ErrorCode> {
        let group = self.consumer.get(&request.group_id)?;
        let id = group.id.clone();
        let instance = request.group_instance_id.as_deref();
        let member = match check_classic(group, &request.member_id, instance, request.generation_id) {
            Ok(member) => member,
            Err(error) => return Some(error),
        };
        let classic = member.classic.as_ref().expect("it was checked");
        let waits = || {
            (group.target(&member.id).iter()).any(|(topic, partitions)| {
                let others =
                    |p: &i32| group.owners.get(&(*topic, *p)).is_some_and(|owner| *owner != member.id);
                partitions.iter().any(others)
            })
        };
        let behind = member.epoch < group.epoch
            || member.state == MemberState::Unrevoked
            || member.state == MemberState::Unreleased && !waits();
        let (member_id, timeout_ms) = (member.id.clone(), member.rebalance_timeout_ms);
        let until = cx.now() + millis(classic.session_timeout_ms);
        if let Some(group) = self.consumer.groups.get_mut(&id) {
            group.soft.sessions.insert(member_id.clone(), until);
        }
        self.consumer.arm(&id, until);
        if behind {
            self.await_join(cx, &id, &member_id, timeout_ms);
            return Some(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Some(ErrorCode::NONE)
    }

    fn await_join(&mut self, cx: &Cx<'_, '_>, group: &Arc<str>, member: &Arc<str>, timeout_ms: i32) {
        let until = cx.now() + millis(timeout_ms);
        if let Some(known) = self.consumer.groups.get_mut(group) {
            known.soft.joins.entry(member.clone()).or_insert(until);
        }
        self.consumer.arm(group, until);
    }

    /// LeaveGroup (13) to a group of the consumer protocol. `true` if there is none.
    pub(in super::super) fn leave_is_classic(
        &mut self,
        cx: &mut Cx<'_, '_>,
        token: RequestToken,
        request: &LeaveGroupRequest<'_>,
    ) -> bool {
        let Some(group) = self.consumer.get(&request.group_id) else { return true };
        let id = group.id.clone();
        let who: Vec<(&str, Option<&str>)> = match token.version {
            ..3 => alloc::vec![(&*request.member_id, None)],
            _ => request.members.iter().map(|m| (&*m.member_id, m.group_instance_id.as_deref())).collect(),
        };
        let mut gone: Vec<(Arc<str>, &'static str)> = Vec::new();
        let mut members = Vec::new();
        for (member, instance) in who {
            let found = match instance {
                None => group.member(member),
                Some(instance) if member.is_empty() => {
                    let unknown = || Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, "the instance id is unknown");
                    group.static_member(instance).ok_or_else(unknown)
                }
                Some(instance) => group.present_static(member, instance),
            };
            let found = found.map_err(|refusal| refusal.error);
            let found = found.and_then(|m| m.classic.as_ref().map(|_| m).ok_or(ErrorCode::UNKNOWN_MEMBER_ID));
            let error = found.as_ref().err().copied().unwrap_or(ErrorCode::NONE);
            let name = found.as_ref().map_or(member, |m| &*m.id);
            members.push((name.to_string(), instance.map(ToString::to_string), error));
            if let Ok(found) = found
                && !gone.iter().any(|(id, _)| *id == found.id)
            {
                gone.push((found.id.clone(), "the member left"));
            }
        }
        let left = Left { token, members };
        match gone.is_empty() {
            true => left.give(cx, Ok(())),
            false => self.fence(cx, &id, gone, Answer::Leave(left)),
        }
        false
    }
}

/// Why a static member is not a member any more.
const TOOK_ITS_PLACE: &str = "another one with its instance id took its place";

fn check_join(
    cx: &Cx<'_, '_>,
    group: &ConsumerGroup,
    member: &str,
    request: &JoinGroupRequest<'_>,
) -> Result<(), Refusal> {
    let limit = |name: &str| cx.ctx.config.static_number(name);
    let session = i64::from(request.session_timeout_ms);
    let allowed = limit("group.min.session.timeout.ms")..=limit("group.max.session.timeout.ms");
    if !allowed.contains(&session) {
        return Err(Refusal::new(ErrorCode::INVALID_SESSION_TIMEOUT, "the session timeout is out of bounds"));
    }
    check_size(cx, group, member)?;
    let knows = |name: &str| {
        let classic = group.members.values().filter(|m| *m.id != *member).filter_map(|m| m.classic.as_ref());
        classic.into_iter().all(|classic| classic.protocols.iter().any(|(known, _)| **known == *name))
    };
    let supported = *request.protocol_type == *CONSUMER && request.protocols.iter().any(|p| knows(&p.name));
    if !supported {
        let message = format!("Member {member}'s protocols are not supported.");
        return Err(Refusal::new(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, message));
    }
    Ok(())
}

/// The member as its JoinGroup says.
fn as_asked(
    before: Option<&Member>,
    id: &Arc<str>,
    sender: Sender<'_>,
    request: &JoinGroupRequest<'_>,
    asked: &ConsumerProtocolSubscription,
) -> Member {
    let mut member = before.cloned().unwrap_or_else(|| Member::new(id.clone()));
    if let Some(instance) = request.group_instance_id.as_deref() {
        member.instance = Some(Arc::from(instance));
    }
    if let Some(rack) = asked.rack_id.as_deref().filter(|rack| !rack.is_empty()) {
        member.rack = Some(Arc::from(rack));
    }
    let timeout =
        if sender.token.version >= 1 { request.rebalance_timeout_ms } else { request.session_timeout_ms };
    if timeout != -1 {
        member.rebalance_timeout_ms = timeout;
    }
    let names: BTreeSet<Arc<str>> = asked.topics.iter().map(|topic| Arc::from(topic.as_str())).collect();
    if *member.topics != names {
        member.topics = Arc::new(names);
    }
    member.regex = Arc::from("");
    member.assignor = None;
    member.client_id = Arc::from(sender.client_id);
    member.client_host = Arc::from(format!("/{}", sender.host));
    let protocols = (request.protocols.iter())
        .map(|p| (Arc::from(&*p.name), Bytes::copy_from_slice(&p.metadata)))
        .collect();
    member.classic = Some(ClassicPart { session_timeout_ms: request.session_timeout_ms, protocols });
    member
}

/// What a subscription says that its member has.
fn reported(image: &MetadataImage, asked: &ConsumerProtocolSubscription) -> Partitions {
    let mut all = Partitions::new();
    for topic in &asked.owned_partitions {
        if let Some(id) = image.topics.id_of(&topic.topic) {
            all.entry(id).or_default().extend(&topic.partitions);
        }
    }
    all
}

/// A member that speaks the classic protocol, in the generation that it takes for the present one.
fn check_classic<'g>(
    group: &'g ConsumerGroup,
    member: &str,
    instance: Option<&str>,
    generation: i32,
) -> Result<&'g Member, ErrorCode> {
    let known = match instance {
        None => group.member(member),
        Some(instance) => group.present_static(member, instance),
    };
    let known = known.map_err(|refusal| refusal.error)?;
    if known.classic.is_none() {
        return Err(ErrorCode::UNKNOWN_MEMBER_ID);
    }
    if known.epoch != generation {
        return Err(ErrorCode::ILLEGAL_GENERATION);
    }
    Ok(known)
}

//! The classic groups of a partition: their requests (JoinGroup, SyncGroup, Heartbeat, LeaveGroup) and the ends of
//! sessions and phases find their group here, and get their answers. What happens to the group is `rebalance`'s.
//!
//! Follows the classic part of Kafka's `GroupMetadataManager`. A rebalance has two phases: until all members have
//! joined (or their time is up), and until the leader's assignment lies in the log.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use wire::ErrorCode;
use wire::drive::{Instant, Nanos};
use wire::messages::join_group_response::JoinGroupResponseMember;
use wire::messages::leave_group_response::MemberResponse;
use wire::messages::*;
use wire::records::{GroupMetadataKey, GroupMetadataValue};

use super::Later;
use super::classic::{Classic, Member, State};
use super::rebalance::{
    Join, after_leaving, check_sync, complete_join_if_all_are_here, error_of_append, expire, heard_of,
    join_as_known, join_as_new, leave_one, may_join, prepare_rebalance, store_assignment, write_group,
};
use crate::coordinator::runtime::ShardCx;
use crate::event::{Event, GroupAssignment, TopicPartition};
use crate::net::RequestToken;

/// How long a member that came new may wait for the end of the rebalance (`CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`).
pub(super) const NEW_MEMBER_JOIN_TIMEOUT: Nanos = Nanos::from_secs(300);
const NO_GENERATION: i32 = -1;

pub(super) type Cx<'c, 'n> = ShardCx<'c, 'n, Later>;

/// Who sends a request, as the frame around it says.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// To answer it with.
    pub token: RequestToken,
    /// The `client.id`.
    pub client_id: &'a str,
    /// The address.
    pub host: &'a str,
}

/// The classic groups of a partition of `__consumer_offsets`.
#[derive(Clone, Debug, Default)]
pub struct ClassicGroups {
    groups: BTreeMap<Arc<str>, Classic>,
    /// Not later than the soonest deadline of all groups.
    due: Option<Instant>,
}

impl ClassicGroups {
    // --- looking

    /// A group.
    pub fn get(&self, group: &str) -> Option<&Classic> {
        self.groups.get(group)
    }

    /// All groups, ordered.
    pub fn iter(&self) -> impl Iterator<Item = &Classic> {
        self.groups.values()
    }

    /// A group, for changing.
    pub fn get_mut(&mut self, group: &str) -> Option<&mut Classic> {
        self.groups.get_mut(group)
    }

    /// Takes a group out: it was deleted, or is another kind of group from now on.
    pub fn remove(&mut self, group: &str) -> Option<Classic> {
        self.groups.remove(group)
    }

    /// Puts a group in: it was another kind of group before.
    pub fn insert(&mut self, group: Classic) {
        if let Some(at) = group.next_due() {
            self.arm(at);
        }
        self.groups.insert(group.id.clone(), group);
    }

    /// The group, made if it is not there.
    pub fn get_or_create(&mut self, cx: &mut Cx<'_, '_>, group: &str) -> &mut Classic {
        if !self.groups.contains_key(group) {
            let id: Arc<str> = Arc::from(group);
            self.groups.insert(id.clone(), Classic::new(id.clone(), cx.now_ms()));
            cx.event(|| Event::GroupStateChanged { group: id, from: None, to: "Empty", generation: 0 });
        }
        self.groups.get_mut(group).expect("it was just made")
    }

    fn arm(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn rearm(&mut self, group: &str) {
        if let Some(at) = self.groups.get(group).and_then(|g| g.due) {
            self.arm(at);
        }
    }

    // --- JoinGroup

    /// JoinGroup (11).
    pub fn join(&mut self, cx: &mut Cx<'_, '_>, sender: Sender<'_>, request: &JoinGroupRequest<'_>) {
        let join = Join::of(sender, request);
        let member: &str = &request.member_id;
        if let Err(error) = self.try_join(cx, &request.group_id, member, &join) {
            respond_join_error(cx, join.token, member, error);
        }
        self.rearm(&request.group_id);
    }

    fn try_join(
        &mut self,
        cx: &mut Cx<'_, '_>,
        group: &str,
        member: &str,
        join: &Join,
    ) -> Result<(), ErrorCode> {
        let (low, high) = (
            cx.ctx.config.static_number("group.min.session.timeout.ms"),
            cx.ctx.config.static_number("group.max.session.timeout.ms"),
        );
        if !(low..=high).contains(&i64::from(join.session_timeout_ms)) {
            return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        let max_size = cx.ctx.config.static_number("group.max.size");
        let group = match member.is_empty() {
            true => {
                let is_new = !self.groups.contains_key(group);
                let group = self.get_or_create(cx, group);
                if is_new {
                    // Who takes over before the first assignment knows of it.
                    let later = Later::EmptyStored { group: group.id.clone() };
                    write_group(cx, group, &BTreeMap::new(), later);
                }
                group
            }
            false => self.groups.get_mut(group).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?,
        };
        if !may_join(group, member, max_size) {
            if let Some(known) = group.remove(member) {
                drop(known);
            }
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        if group.state == State::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        if !group.supports(&join.protocol_type, &join.protocols) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if member.is_empty() { join_as_new(cx, group, join) } else { join_as_known(cx, group, member, join) }
    }

    // --- SyncGroup

    /// SyncGroup (14).
    pub fn sync(&mut self, cx: &mut Cx<'_, '_>, token: RequestToken, request: &SyncGroupRequest<'_>) {
        let Some(group) = self.groups.get_mut(&*request.group_id) else {
            return respond_sync(cx, token, None, Err(ErrorCode::UNKNOWN_MEMBER_ID));
        };
        match check_sync(group, request) {
            Err(error) => respond_sync(cx, token, None, Err(error)),
            Ok(()) if group.state == State::Stable => {
                let now = cx.now();
                heard_of(group, &request.member_id, now);
                let assignment = group.members[&*request.member_id].assignment.clone();
                respond_sync(cx, token, Some(group), Ok(&assignment));
            }
            Ok(()) => {
                let member = group.members.get_mut(&*request.member_id).expect("it was checked");
                member.syncing = Some(token);
                group.pending_syncs.remove(&*request.member_id);
                if group.leader.as_deref() == Some(&*request.member_id) {
                    store_assignment(cx, group, request);
                }
            }
        }
        self.rearm(&request.group_id);
    }

    /// The leader's assignment is in the log, or could not be written.
    pub fn assignment_stored(
        &mut self,
        cx: &mut Cx<'_, '_>,
        group: &str,
        generation: i32,
        assignments: &BTreeMap<Arc<str>, Bytes>,
        result: Result<(), ErrorCode>,
    ) {
        let Some(group) = self.groups.get_mut(group) else { return };
        if group.state != State::CompletingRebalance || group.generation != generation {
            return;
        }
        match result {
            Ok(()) => {
                for (id, assignment) in assignments {
                    if let Some(member) = group.members.get_mut(id) {
                        member.assignment = assignment.clone();
                    }
                }
                tell_assignments(cx, group);
                answer_syncs(cx, group, Ok(()));
                group.phase_until = None;
                change(cx, group, State::Stable);
                // Whoever has not asked yet finds the assignment when it does; but it must ask in time.
                if !group.pending_syncs.is_empty() {
                    let until = cx.now() + group.rebalance_timeout();
                    group.phase_until = Some(until);
                    group.arm(until);
                }
            }
            Err(error) => {
                answer_syncs(cx, group, Err(error_of_append(error)));
                prepare_rebalance(cx, group);
            }
        }
        let id = group.id.clone();
        self.rearm(&id);
    }

    // --- Heartbeat, LeaveGroup

    /// Heartbeat (12): its answer.
    pub fn heartbeat(&mut self, cx: &mut Cx<'_, '_>, request: &HeartbeatRequest<'_>) -> ErrorCode {
        let Some(group) = self.groups.get_mut(&*request.group_id) else {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        };
        if group.state == State::Dead {
            return ErrorCode::COORDINATOR_NOT_AVAILABLE;
        }
        if let Err(error) = group.check_member(&request.member_id, request.group_instance_id.as_deref()) {
            return error;
        }
        if group.generation != request.generation_id {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        heard_of(group, &request.member_id, cx.now());
        match group.state {
            State::Empty | State::Dead => ErrorCode::UNKNOWN_MEMBER_ID,
            State::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            State::CompletingRebalance | State::Stable => ErrorCode::NONE,
        }
    }

    /// A member has committed offsets: as good as a heartbeat.
    pub fn heard_of(&mut self, cx: &Cx<'_, '_>, group: &str, member: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            heard_of(group, member, cx.now());
        }
    }

    /// LeaveGroup (13).
    pub fn leave(&mut self, cx: &mut Cx<'_, '_>, token: RequestToken, request: &LeaveGroupRequest<'_>) {
        let Some(group) = self.groups.get_mut(&*request.group_id) else {
            return respond_left_unknown(cx, token, request);
        };
        if group.state == State::Dead {
            let error_code = ErrorCode::COORDINATOR_NOT_AVAILABLE.0;
            return cx.respond(token, &LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() });
        }
        let before = group.members.len();
        if token.version < 3 {
            let error = leave_one(cx, group, &request.member_id, None, "the member left");
            let error_code = error.0;
            cx.respond(token, &LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() });
        } else {
            let members = (request.members.iter())
                .map(|m| {
                    let why = m.reason.as_deref().unwrap_or("the member left");
                    let instance = m.group_instance_id.as_deref();
                    let error = leave_one(cx, group, &m.member_id, instance, why);
                    MemberResponse {
                        member_id: m.member_id.clone(),
                        group_instance_id: m.group_instance_id.clone(),
                        error_code: error.0,
                    }
                })
                .collect();
            cx.respond(token, &LeaveGroupResponse { members, ..LeaveGroupResponse::default() });
        }
        if group.members.len() < before {
            after_leaving(cx, group);
        } else {
            complete_join_if_all_are_here(cx, group);
        }
        self.rearm(&request.group_id);
    }

    // --- timers, loading

    /// Not later than when [`ClassicGroups::on_timer`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Ends what has lasted too long.
    pub fn on_timer(&mut self, cx: &mut Cx<'_, '_>) {
        let now = cx.now();
        self.due = None;
        for group in self.groups.values_mut() {
            if group.due.is_some_and(|due| due <= now) {
                expire(cx, group, now);
                group.due = group.next_due();
            }
            if let Some(due) = group.due {
                self.due = Some(self.due.map_or(due, |known| known.min(due)));
            }
        }
    }

    /// Replays the record of a group while its partition is loaded; `None` is its tombstone.
    pub fn replay(&mut self, key: &GroupMetadataKey, value: Option<&GroupMetadataValue>) {
        let Some(value) = value else {
            self.groups.remove(&*key.group);
            return;
        };
        let mut group = Classic::new(Arc::from(&*key.group), value.current_state_timestamp);
        group.generation = value.generation;
        group.protocol_type =
            Some(Arc::from(&*value.protocol_type)).filter(|_| !value.protocol_type.is_empty());
        group.protocol = value.protocol.as_deref().map(Arc::from);
        group.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        for m in &value.members {
            let member = Member {
                id: Arc::from(&*m.member_id),
                instance: m.group_instance_id.as_deref().map(Arc::from),
                client_id: Arc::from(&*m.client_id),
                client_host: Arc::from(&*m.client_host),
                rebalance_timeout_ms: if m.rebalance_timeout < 0 {
                    m.session_timeout
                } else {
                    m.rebalance_timeout
                },
                session_timeout_ms: m.session_timeout,
                protocols: alloc::vec![(
                    group.protocol.clone().unwrap_or_default(),
                    Bytes::copy_from_slice(&m.subscription)
                )],
                assignment: Bytes::copy_from_slice(&m.assignment),
                joining: None,
                syncing: None,
                is_new: false,
                session_until: Instant(u64::MAX),
            };
            group.add(member, &value.protocol_type);
        }
        group.leader = value.leader.as_deref().map(Arc::from).filter(|id| group.members.contains_key(id));
        self.groups.insert(group.id.clone(), group);
    }

    /// All is replayed: members have their session's time from now on.
    pub fn loaded(&mut self, cx: &mut Cx<'_, '_>) {
        let now = cx.now();
        for group in self.groups.values_mut() {
            for member in group.members.values_mut() {
                member.session_until = now + Nanos::from_millis(member.session_timeout_ms.max(0) as u64);
            }
            group.due = group.next_due();
            tell_assignments(cx, group);
        }
        self.due = self.groups.values().filter_map(|g| g.due).min();
    }

    /// Another broker coordinates from now on: whoever waits looks for it.
    pub fn unload(&mut self, cx: &mut Cx<'_, '_>) {
        let groups: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for group in groups {
            self.answer_all(cx, &group, ErrorCode::NOT_COORDINATOR);
        }
    }

    /// Whoever waits in a group is told this.
    pub fn answer_all(&mut self, cx: &mut Cx<'_, '_>, group: &str, error: ErrorCode) {
        let Some(group) = self.groups.get_mut(group) else { return };
        for member in group.members.values_mut() {
            if let Some(token) = member.joining.take() {
                respond_join_error(cx, token, &member.id, error);
            }
            if let Some(token) = member.syncing.take() {
                respond_sync(cx, token, None, Err(error));
            }
        }
    }

    /// A group was one of the consumer protocol before: its sessions begin, and perhaps a rebalance.
    pub fn adopted(&mut self, cx: &mut Cx<'_, '_>, group: &str, rebalance: bool) {
        let now = cx.now();
        let Some(group) = self.groups.get_mut(group) else { return };
        for member in group.members.values_mut() {
            member.session_until = now + Nanos::from_millis(member.session_timeout_ms.max(0) as u64);
        }
        group.due = group.next_due();
        if rebalance && group.can_rebalance() {
            prepare_rebalance(cx, group);
        }
        let id = group.id.clone();
        self.rearm(&id);
    }

    /// A static member that came back was written down, or not.
    pub fn static_stored(
        &mut self,
        cx: &mut Cx<'_, '_>,
        group: &str,
        member: &str,
        token: RequestToken,
        result: Result<(), ErrorCode>,
    ) {
        let Some(group) = self.groups.get_mut(group) else {
            return respond_join_error(cx, token, member, ErrorCode::UNKNOWN_MEMBER_ID);
        };
        if let Err(error) = result {
            return respond_join_error(cx, token, member, error_of_append(error));
        }
        let is_leader = group.leader.as_deref() == Some(member);
        let leader = group.leader.clone().unwrap_or_default();
        let skip_assignment = token.version >= 9 && is_leader;
        // Who knows no skip_assignment must not take itself for the leader: it would assign.
        let leader: &str = if is_leader && token.version < 9 { "" } else { &leader };
        respond_joined(cx, group, token, member, leader, skip_assignment);
    }
}

// --- answers and events

pub(super) fn change(cx: &mut Cx<'_, '_>, group: &mut Classic, to: State) {
    if group.state == to {
        return;
    }
    let (id, from, generation) = (group.id.clone(), group.state.name(), group.generation);
    group.state = to;
    group.since_ms = cx.now_ms();
    cx.event(|| Event::GroupStateChanged { group: id, from: Some(from), to: to.name(), generation });
}

pub(super) fn tell_left(cx: &mut Cx<'_, '_>, group: &Classic, member: &Member, why: &str) {
    cx.event(|| Event::GroupMemberLeft {
        group: group.id.clone(),
        member: member.id.clone(),
        why: Arc::from(why),
    });
}

/// What a classic consumer's assignment says; other protocols' assignments are their own affair.
fn assigned(group: &Classic, assignment: &Bytes) -> Vec<TopicPartition> {
    use wire::records::ConsumerProtocolAssignment;
    if group.protocol_type.as_deref() != Some("consumer") || assignment.is_empty() {
        return Vec::new();
    }
    let decoded = wire::framing::decode_versioned_or_later::<ConsumerProtocolAssignment>(assignment);
    let Ok((assignment, _)) = decoded else { return Vec::new() };
    let of_topic = |topic: &wire::records::protocol::consumer_protocol_assignment::TopicPartition| {
        let name: Arc<str> = Arc::from(&*topic.topic);
        let all = topic.partitions.iter();
        all.map(|p| TopicPartition { topic: name.clone(), partition: *p }).collect::<Vec<_>>()
    };
    assignment.assigned_partitions.iter().flat_map(of_topic).collect()
}

pub(super) fn tell_assignments(cx: &mut Cx<'_, '_>, group: &Classic) {
    if group.members.is_empty() {
        return;
    }
    let (generation, members) = (group.generation, || assignments(group));
    cx.event(|| Event::GroupAssigned { group: group.id.clone(), generation, members: members() });
}

/// What each member has.
pub(super) fn assignments(group: &Classic) -> Vec<GroupAssignment> {
    let of_member = |m: &Member| GroupAssignment {
        member: m.id.clone(),
        client_id: m.client_id.clone(),
        partitions: assigned(group, &m.assignment),
    };
    group.members.values().map(of_member).collect()
}

pub(super) fn respond_join_error(cx: &mut Cx<'_, '_>, token: RequestToken, member: &str, error: ErrorCode) {
    let response = JoinGroupResponse {
        error_code: error.0,
        generation_id: NO_GENERATION,
        protocol_name: (token.version < 7).then_some(Cow::Borrowed("")),
        member_id: Cow::Borrowed(member),
        ..JoinGroupResponse::default()
    };
    cx.respond(token, &response);
}

pub(super) fn respond_joined(
    cx: &mut Cx<'_, '_>,
    group: &Classic,
    token: RequestToken,
    member: &str,
    leader: &str,
    skip_assignment: bool,
) {
    let protocol = group.protocol.as_deref().unwrap_or("");
    let members = if member == leader {
        (group.members.values())
            .map(|m| JoinGroupResponseMember {
                member_id: Cow::Borrowed(&*m.id),
                group_instance_id: m.instance.as_deref().map(Cow::Borrowed),
                metadata: Cow::Owned(m.metadata(protocol).to_vec()),
            })
            .collect()
    } else {
        Vec::new()
    };
    let response = JoinGroupResponse {
        generation_id: group.generation,
        protocol_type: group.protocol_type.as_deref().map(Cow::Borrowed),
        protocol_name: Some(Cow::Borrowed(protocol)),
        leader: Cow::Borrowed(leader),
        skip_assignment,
        member_id: Cow::Borrowed(member),
        members,
        ..JoinGroupResponse::default()
    };
    cx.respond(token, &response);
}

pub(super) fn respond_sync(
    cx: &mut Cx<'_, '_>,
    token: RequestToken,
    group: Option<&Classic>,
    result: Result<&Bytes, ErrorCode>,
) {
    let response = match result {
        Err(error) => SyncGroupResponse { error_code: error.0, ..SyncGroupResponse::default() },
        Ok(assignment) => SyncGroupResponse {
            protocol_type: group.and_then(|g| g.protocol_type.as_deref()).map(Cow::Borrowed),
            protocol_name: group.and_then(|g| g.protocol.as_deref()).map(Cow::Borrowed),
            assignment: Cow::Borrowed(assignment),
            ..SyncGroupResponse::default()
        },
    };
    cx.respond(token, &response);
}

pub(super) fn answer_syncs(cx: &mut Cx<'_, '_>, group: &mut Classic, result: Result<(), ErrorCode>) {
    let now = cx.now();
    let waiting: Vec<(Arc<str>, RequestToken)> =
        group.members.values_mut().filter_map(|m| Some((m.id.clone(), m.syncing.take()?))).collect();
    for (id, token) in waiting {
        heard_of(group, &id, now);
        let assignment = group.members[&id].assignment.clone();
        respond_sync(cx, token, Some(group), result.map(|()| &assignment));
    }
}

/// Nobody is a member of a group that is not there.
fn respond_left_unknown(cx: &mut Cx<'_, '_>, token: RequestToken, request: &LeaveGroupRequest<'_>) {
    let unknown = ErrorCode::UNKNOWN_MEMBER_ID.0;
    if token.version < 3 {
        return cx
            .respond(token, &LeaveGroupResponse { error_code: unknown, ..LeaveGroupResponse::default() });
    }
    let members = (request.members.iter())
        .map(|m| MemberResponse {
            member_id: m.member_id.clone(),
            group_instance_id: m.group_instance_id.clone(),
            error_code: unknown,
        })
        .collect();
    cx.respond(token, &LeaveGroupResponse { members, ..LeaveGroupResponse::default() });
}

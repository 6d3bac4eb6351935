//! What requests and timers do to classic groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and the ends of
//! sessions and phases.
//!
//! Follows the classic part of Kafka's `GroupMetadataManager`. A rebalance has two phases: until all members have
//! joined (or their time is up), and until the leader's assignment lies in the log.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use rand_core::Rng as _;
use wire::drive::{Instant, Nanos};
use wire::messages::join_group_response::JoinGroupResponseMember;
use wire::messages::leave_group_response::MemberResponse;
use wire::messages::*;
use wire::records::group::group_metadata_value::MemberMetadata;
use wire::records::{GroupKey, GroupMetadataKey, GroupMetadataValue, GroupValue};
use wire::{ErrorCode, Uuid};

use super::Later;
use super::classic::{Classic, InitialDelay, Member, State};
use crate::coordinator::runtime::ShardCx;
use crate::event::{Event, GroupAssignment, TopicPartition};
use crate::net::RequestToken;

/// How long a member that came new may wait for the end of the rebalance (`CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`).
const NEW_MEMBER_JOIN_TIMEOUT: Nanos = Nanos::from_secs(300);
/// The version of GroupMetadataValue that Kafka 4.3 writes.
const GROUP_METADATA_VERSION: i16 = 3;
const NO_GENERATION: i32 = -1;

type Cx<'c, 'n> = ShardCx<'c, 'n, Later>;

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

/// A JoinGroup, taken over from the frame.
struct Join {
    instance: Option<Arc<str>>,
    protocol_type: Arc<str>,
    protocols: Vec<(Arc<str>, Bytes)>,
    client_id: Arc<str>,
    client_host: Arc<str>,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    token: RequestToken,
}

impl Join {
    fn of(sender: Sender<'_>, request: &JoinGroupRequest<'_>) -> Join {
        let protocols = (request.protocols.iter())
            .map(|p| (Arc::from(&*p.name), Bytes::copy_from_slice(&p.metadata)))
            .collect();
        Join {
            instance: request.group_instance_id.as_deref().map(Arc::from),
            protocol_type: Arc::from(&*request.protocol_type),
            protocols,
            client_id: Arc::from(sender.client_id),
            client_host: Arc::from(format!("/{}", sender.host)),
            rebalance_timeout_ms: if sender.token.version >= 1 {
                request.rebalance_timeout_ms
            } else {
                request.session_timeout_ms
            },
            session_timeout_ms: request.session_timeout_ms,
            token: sender.token,
        }
    }

    fn member(&self, id: Arc<str>, now: Instant) -> Member {
        Member {
            id,
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            protocols: self.protocols.clone(),
            assignment: Bytes::new(),
            joining: Some(self.token),
            syncing: None,
            is_new: true,
            session_until: now + NEW_MEMBER_JOIN_TIMEOUT,
        }
    }
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

// --- JoinGroup

fn may_join(group: &Classic, member: &str, max_size: i64) -> bool {
    match group.state {
        State::Empty | State::Dead => true,
        State::PreparingRebalance => {
            let awaited = group.members.values().filter(|m| m.joining.is_some()).count() as i64;
            group.members.get(member).is_some_and(|m| m.joining.is_some()) || awaited < max_size
        }
        State::CompletingRebalance | State::Stable => {
            group.members.contains_key(member) || (group.members.len() as i64) < max_size
        }
    }
}

fn new_member_id(cx: &mut Cx<'_, '_>, join: &Join) -> Arc<str> {
    let mut bytes = [0; 16];
    cx.ctx.rng.fill_bytes(&mut bytes);
    let prefix = join.instance.as_ref().unwrap_or(&join.client_id);
    Arc::from(format!("{prefix}-{}", uuid_text(&Uuid::from_random(bytes))))
}

/// As Java's `UUID.toString`.
pub(super) fn uuid_text(id: &Uuid) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in id.0.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn join_as_new(cx: &mut Cx<'_, '_>, group: &mut Classic, join: &Join) -> Result<(), ErrorCode> {
    let id = new_member_id(cx, join);
    if let Some(instance) = &join.instance {
        return match group.statics.get(instance).cloned() {
            Some(old) => replace_static(cx, group, &old, id, join),
            None => {
                add_and_rebalance(cx, group, id, join);
                Ok(())
            }
        };
    }
    // Since version 4 who comes without an id gets one, and comes again with it: who is lost in between leaves nothing.
    if join.token.version >= 4 {
        let until = cx.now() + Nanos::from_millis(join.session_timeout_ms as u64);
        group.pending_joins.insert(id.clone(), until);
        group.arm(until);
        respond_join_error(cx, join.token, &id, ErrorCode::MEMBER_ID_REQUIRED);
        return Ok(());
    }
    add_and_rebalance(cx, group, id, join);
    Ok(())
}

fn join_as_known(
    cx: &mut Cx<'_, '_>,
    group: &mut Classic,
    member: &str,
    join: &Join,
) -> Result<(), ErrorCode> {
    if group.pending_joins.contains_key(member) {
        if join.instance.is_some() {
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
        }
        add_and_rebalance(cx, group, Arc::from(member), join);
        return Ok(());
    }
    group.check_member(member, join.instance.as_deref())?;
    let known = &group.members[member];
    let same = known.matches(&join.protocols);
    let leads = group.leader.as_deref() == Some(member);
    match group.state {
        State::PreparingRebalance => update_and_rebalance(cx, group, member, join),
        State::CompletingRebalance if same => {
            let leader = group.leader.clone().unwrap_or_default();
            heard_of(group, member, cx.now());
            respond_joined(cx, group, join.token, member, &leader, false);
        }
        State::CompletingRebalance => update_and_rebalance(cx, group, member, join),
        // The leader asks for a new assignment by joining again.
        State::Stable if leads || !same => update_and_rebalance(cx, group, member, join),
        State::Stable => {
            let leader = group.leader.clone().unwrap_or_default();
            heard_of(group, member, cx.now());
            respond_joined(cx, group, join.token, member, &leader, false);
        }
        State::Empty | State::Dead => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
    }
    Ok(())
}

fn add_and_rebalance(cx: &mut Cx<'_, '_>, group: &mut Classic, id: Arc<str>, join: &Join) {
    let member = join.member(id.clone(), cx.now());
    group.arm(member.session_until);
    if let Some(initial) = &mut group.initial {
        initial.new_member = true;
    }
    group.add(member, &join.protocol_type);
    let name = group.id.clone();
    cx.event(|| Event::GroupMemberJoined {
        group: name,
        member: id,
        client_id: join.client_id.clone(),
        instance: join.instance.clone(),
    });
    rebalance_or_complete(cx, group);
}

fn update_and_rebalance(cx: &mut Cx<'_, '_>, group: &mut Classic, member: &str, join: &Join) {
    let now = cx.now();
    let known = group.members.get_mut(member).expect("it was checked");
    known.protocols = join.protocols.clone();
    known.rebalance_timeout_ms = join.rebalance_timeout_ms;
    known.session_timeout_ms = join.session_timeout_ms;
    if let Some(before) = known.joining.replace(join.token) {
        // It gave the earlier one up.
        respond_join_error(cx, before, member, ErrorCode::UNKNOWN_MEMBER_ID);
    }
    heard_of(group, member, now);
    rebalance_or_complete(cx, group);
}

/// A static member came back under a new id: the old one is fenced, and if nothing changes for the others there is no
/// rebalance (KIP-345).
fn replace_static(
    cx: &mut Cx<'_, '_>,
    group: &mut Classic,
    old: &str,
    id: Arc<str>,
    join: &Join,
) -> Result<(), ErrorCode> {
    let mut member = group.members.get(old).cloned().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
    let led = group.leader.as_deref() == Some(old);
    if let Some(token) = member.joining.take() {
        respond_join_error(cx, token, old, ErrorCode::FENCED_INSTANCE_ID);
    }
    if let Some(token) = member.syncing.take() {
        respond_sync(cx, token, None, Err(ErrorCode::FENCED_INSTANCE_ID));
    }
    let now = cx.now();
    member.id = id.clone();
    member.client_id = join.client_id.clone();
    member.client_host = join.client_host.clone();
    member.rebalance_timeout_ms = join.rebalance_timeout_ms;
    member.session_timeout_ms = join.session_timeout_ms;
    let same = member.matches(&join.protocols);
    member.protocols = join.protocols.clone();
    member.session_until = now + Nanos::from_millis(join.session_timeout_ms as u64);
    group.arm(member.session_until);
    let position = group.arrivals.iter().position(|a| **a == *old);
    group.members.remove(old);
    group.members.insert(id.clone(), member);
    if let Some(at) = position {
        group.arrivals[at] = id.clone();
    }
    if group.pending_syncs.remove(old) {
        group.pending_syncs.insert(id.clone());
    }
    group.statics.insert(join.instance.clone().expect("it is static"), id.clone());
    if led {
        group.leader = Some(id.clone());
    }
    match group.state {
        State::Stable if same || group.select_protocol() == group.protocol => {
            let assignments = group.members.iter().map(|(id, m)| (id.clone(), m.assignment.clone()));
            let assignments: BTreeMap<_, _> = assignments.collect();
            let later = Later::StaticStored { group: group.id.clone(), member: id, token: join.token };
            write_group(cx, group, &assignments, later);
        }
        State::Stable | State::CompletingRebalance => {
            group.members.get_mut(&id).expect("it was just put there").joining = Some(join.token);
            prepare_rebalance(cx, group);
        }
        State::PreparingRebalance => {
            group.members.get_mut(&id).expect("it was just put there").joining = Some(join.token);
            complete_join_if_all_are_here(cx, group);
        }
        State::Empty | State::Dead => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
    }
    Ok(())
}

// --- the phases of a rebalance

fn rebalance_or_complete(cx: &mut Cx<'_, '_>, group: &mut Classic) {
    if group.can_rebalance() {
        prepare_rebalance(cx, group);
    } else {
        complete_join_if_all_are_here(cx, group);
    }
}

/// The first phase begins: everybody is to join again.
pub(super) fn prepare_rebalance(cx: &mut Cx<'_, '_>, group: &mut Classic) {
    if group.state == State::CompletingRebalance {
        answer_syncs(cx, group, Err(ErrorCode::REBALANCE_IN_PROGRESS));
    }
    group.pending_syncs.clear();
    let now = cx.now();
    let first = group.state == State::Empty;
    change(cx, group, State::PreparingRebalance);
    if first {
        let delay = cx.ctx.config.static_number("group.initial.rebalance.delay.ms").max(0);
        let delay = Nanos::from_millis(delay as u64);
        let timeout = group.rebalance_timeout();
        let remaining = Nanos(timeout.0.saturating_sub(delay.0));
        group.initial = Some(InitialDelay { remaining, new_member: false });
        let until = now + delay;
        group.phase_until = Some(until);
        group.arm(until);
        if delay == Nanos::ZERO {
            phase_over(cx, group);
        }
        return;
    }
    group.initial = None;
    let until = now + group.rebalance_timeout();
    group.phase_until = Some(until);
    group.arm(until);
    complete_join_if_all_are_here(cx, group);
}

fn complete_join_if_all_are_here(cx: &mut Cx<'_, '_>, group: &mut Classic) {
    if group.state == State::PreparingRebalance && group.initial.is_none() && group.all_joined() {
        complete_join(cx, group);
    }
}

/// The time of a phase is up.
fn phase_over(cx: &mut Cx<'_, '_>, group: &mut Classic) {
    let now = cx.now();
    match (group.state, group.initial) {
        (State::PreparingRebalance, Some(initial))
            if initial.new_member && initial.remaining > Nanos::ZERO =>
        {
            let delay = cx.ctx.config.static_number("group.initial.rebalance.delay.ms").max(0);
            let delay = Nanos::from_millis(delay as u64).min(initial.remaining);
            let remaining = Nanos(initial.remaining.0 - delay.0);
            group.initial = Some(InitialDelay { remaining, new_member: false });
            group.phase_until = Some(now + delay);
            group.arm(now + delay);
        }
        (State::PreparingRebalance, _) => complete_join(cx, group),
        (State::CompletingRebalance | State::Stable, _) => expire_pending_syncs(cx, group),
        (State::Empty | State::Dead, _) => group.phase_until = None,
    }
}

/// Members that took part in the first phase and did not ask for their assignment.
fn expire_pending_syncs(cx: &mut Cx<'_, '_>, group: &mut Classic) {
    group.phase_until = None;
    let missing = core::mem::take(&mut group.pending_syncs);
    if missing.is_empty() {
        return;
    }
    for id in missing {
        if let Some(member) = group.remove(&id) {
            tell_left(cx, group, &member, "it did not ask for its assignment");
        }
    }
    prepare_rebalance(cx, group);
}

/// The first phase ends: a new generation begins with those who are here.
fn complete_join(cx: &mut Cx<'_, '_>, group: &mut Classic) {
    group.phase_until = None;
    group.initial = None;
    let absent: Vec<Arc<str>> = (group.members.values())
        .filter(|m| m.joining.is_none() && m.instance.is_none())
        .map(|m| m.id.clone())
        .collect();
    for id in absent {
        if let Some(member) = group.remove(&id) {
            tell_left(cx, group, &member, "it did not join again");
        }
    }
    if group.members.is_empty() {
        group.generation += 1;
        group.protocol = None;
        group.leader = None;
        change(cx, group, State::Empty);
        tell_assignments(cx, group);
        let later = Later::EmptyStored { group: group.id.clone() };
        return write_group(cx, group, &BTreeMap::new(), later);
    }
    if !group.elect_joined_leader() {
        // Static members only, and none of them is here: their sessions decide.
        let until = cx.now() + group.rebalance_timeout();
        group.phase_until = Some(until);
        return group.arm(until);
    }
    group.generation += 1;
    group.protocol = group.select_protocol();
    change(cx, group, State::CompletingRebalance);
    group.pending_syncs = group.members.keys().cloned().collect();
    let now = cx.now();
    let until = now + group.rebalance_timeout();
    group.phase_until = Some(until);
    group.arm(until);
    let leader = group.leader.clone().expect("somebody leads");
    let joined: Vec<(Arc<str>, Option<RequestToken>)> =
        group.members.values_mut().map(|m| (m.id.clone(), m.joining.take())).collect();
    for (id, token) in joined {
        group.members.get_mut(&id).expect("it is a member").is_new = false;
        heard_of(group, &id, now);
        if let Some(token) = token {
            respond_joined(cx, group, token, &id, &leader, false);
        }
    }
}

// --- SyncGroup

fn check_sync(group: &Classic, request: &SyncGroupRequest<'_>) -> Result<(), ErrorCode> {
    if group.state == State::Dead {
        return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    }
    group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
    if group.generation != request.generation_id {
        return Err(ErrorCode::ILLEGAL_GENERATION);
    }
    let differs = |asked: &Option<Cow<'_, str>>, is: &Option<Arc<str>>| {
        asked.as_ref().is_some_and(|asked| is.as_ref().is_none_or(|is| **is != **asked))
    };
    if differs(&request.protocol_type, &group.protocol_type)
        || differs(&request.protocol_name, &group.protocol)
    {
        return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    match group.state {
        State::Empty | State::Dead => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        State::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
        State::CompletingRebalance | State::Stable => Ok(()),
    }
}

/// The leader's assignment goes into the log before anybody hears of it; who is not named gets nothing.
fn store_assignment(cx: &mut Cx<'_, '_>, group: &mut Classic, request: &SyncGroupRequest<'_>) {
    let mut assignments: BTreeMap<Arc<str>, Bytes> =
        group.members.keys().map(|id| (id.clone(), Bytes::new())).collect();
    for given in &request.assignments {
        if let Some(assignment) = assignments.get_mut(&*given.member_id) {
            *assignment = Bytes::copy_from_slice(&given.assignment);
        }
    }
    let later = Later::AssignmentStored {
        group: group.id.clone(),
        generation: group.generation,
        assignments: assignments.clone(),
    };
    write_group(cx, group, &assignments, later);
}

fn write_group(cx: &mut Cx<'_, '_>, group: &Classic, assignments: &BTreeMap<Arc<str>, Bytes>, later: Later) {
    let mut records = cx.records();
    let key = GroupKey::GroupMetadata(GroupMetadataKey { group: String::from(&*group.id) });
    let text = |text: &Arc<str>| String::from(&**text);
    let protocol = group.protocol.clone().unwrap_or_default();
    let members = (group.members.values())
        .map(|m| MemberMetadata {
            member_id: text(&m.id),
            group_instance_id: m.instance.as_ref().map(text),
            client_id: text(&m.client_id),
            client_host: text(&m.client_host),
            rebalance_timeout: m.rebalance_timeout_ms,
            session_timeout: m.session_timeout_ms,
            subscription: m.metadata(&protocol).to_vec(),
            assignment: assignments.get(&m.id).map(|a| a.to_vec()).unwrap_or_default(),
        })
        .collect();
    let value = GroupValue::GroupMetadata(GroupMetadataValue {
        protocol_type: group.protocol_type.as_ref().map(text).unwrap_or_default(),
        generation: group.generation,
        protocol: group.protocol.as_ref().map(text),
        leader: group.leader.as_ref().map(text),
        current_state_timestamp: group.since_ms,
        members,
    });
    let (Ok(key), Ok(value)) = (key.encode(), value.encode(GROUP_METADATA_VERSION)) else {
        unreachable!("what came in a request fits into a record");
    };
    records.push(&key, Some(&value));
    cx.write(records, later);
}

/// What the client is told of a refused append (`appendGroupMetadataErrorToResponseError`).
pub(super) fn error_of_append(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::REQUEST_TIMED_OUT => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => ErrorCode::NOT_COORDINATOR,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => ErrorCode::UNKNOWN_SERVER_ERROR,
        other => other,
    }
}

// --- leaving

fn leave_one(
    cx: &mut Cx<'_, '_>,
    group: &mut Classic,
    member: &str,
    instance: Option<&str>,
    why: &str,
) -> ErrorCode {
    let id: Arc<str> = match instance {
        // An administrator names only the instance.
        Some(instance) => match group.statics.get(instance) {
            None => return ErrorCode::UNKNOWN_MEMBER_ID,
            Some(known) if !member.is_empty() && **known != *member => return ErrorCode::FENCED_INSTANCE_ID,
            Some(known) => known.clone(),
        },
        None => Arc::from(member),
    };
    if group.pending_joins.remove(&id).is_some() {
        return ErrorCode::NONE;
    }
    let Some(mut gone) = group.remove(&id) else { return ErrorCode::UNKNOWN_MEMBER_ID };
    if let Some(token) = gone.joining.take() {
        respond_join_error(cx, token, &id, ErrorCode::UNKNOWN_MEMBER_ID);
    }
    if let Some(token) = gone.syncing.take() {
        respond_sync(cx, token, None, Err(ErrorCode::UNKNOWN_MEMBER_ID));
    }
    tell_left(cx, group, &gone, why);
    ErrorCode::NONE
}

/// Somebody is gone: the others share out anew.
fn after_leaving(cx: &mut Cx<'_, '_>, group: &mut Classic) {
    match group.state {
        State::Stable | State::CompletingRebalance => {
            prepare_rebalance(cx, group);
        }
        State::PreparingRebalance => complete_join_if_all_are_here(cx, group),
        State::Empty | State::Dead => {}
    }
}

fn expire(cx: &mut Cx<'_, '_>, group: &mut Classic, now: Instant) {
    let mut left = false;
    let before = group.pending_joins.len();
    group.pending_joins.retain(|_, until| *until > now);
    let forgot = group.pending_joins.len() < before;
    let expired: Vec<Arc<str>> = (group.members.values())
        .filter(|m| m.session_until <= now && (!m.is_parked() || m.is_new))
        .map(|m| m.id.clone())
        .collect();
    for id in expired {
        left |= leave_one(cx, group, &id, None, "session expired").is_none();
    }
    if left {
        after_leaving(cx, group);
    } else if forgot {
        complete_join_if_all_are_here(cx, group);
    }
    if group.phase_until.is_some_and(|until| until <= now) {
        phase_over(cx, group);
    }
}

fn heard_of(group: &mut Classic, member: &str, now: Instant) {
    if let Some(member) = group.members.get_mut(member) {
        member.session_until = now + Nanos::from_millis(member.session_timeout_ms.max(0) as u64);
        let until = member.session_until;
        group.arm(until);
    }
}

// --- answers and events

fn change(cx: &mut Cx<'_, '_>, group: &mut Classic, to: State) {
    if group.state == to {
        return;
    }
    let (id, from, generation) = (group.id.clone(), group.state.name(), group.generation);
    group.state = to;
    group.since_ms = cx.now_ms();
    cx.event(|| Event::GroupStateChanged { group: id, from: Some(from), to: to.name(), generation });
}

fn tell_left(cx: &mut Cx<'_, '_>, group: &Classic, member: &Member, why: &str) {
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

fn tell_assignments(cx: &mut Cx<'_, '_>, group: &Classic) {
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

fn respond_joined(
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

fn answer_syncs(cx: &mut Cx<'_, '_>, group: &mut Classic, result: Result<(), ErrorCode>) {
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

//! What one request or timer does to one classic group: members join and are replaced, the two phases of a rebalance
//! begin and end, assignments are stored, members leave or are given up.
//!
//! Follows the classic part of Kafka's `GroupMetadataManager`; [`super::membership`] finds the group and answers.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use rand_core::Rng as _;
use wire::drive::{Instant, Nanos};
use wire::messages::*;
use wire::records::group::group_metadata_value::MemberMetadata;
use wire::records::{GroupKey, GroupMetadataKey, GroupMetadataValue, GroupValue};
use wire::{ErrorCode, Uuid};

use super::Later;
use super::classic::{Classic, InitialDelay, Member, State};
use super::membership::{
    Cx, NEW_MEMBER_JOIN_TIMEOUT, Sender, answer_syncs, change, respond_join_error, respond_joined,
    respond_sync, tell_assignments, tell_left,
};
use crate::event::Event;
use crate::net::RequestToken;

/// The version of GroupMetadataValue that Kafka 4.3 writes.
const GROUP_METADATA_VERSION: i16 = 3;

/// A JoinGroup, taken over from the frame.
pub(super) struct Join {
    pub(super) instance: Option<Arc<str>>,
    pub(super) protocol_type: Arc<str>,
    pub(super) protocols: Vec<(Arc<str>, Bytes)>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    pub(super) token: RequestToken,
}

impl Join {
    pub(super) fn of(sender: Sender<'_>, request: &JoinGroupRequest<'_>) -> Join {
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

// --- JoinGroup

pub(super) fn may_join(group: &Classic, member: &str, max_size: i64) -> bool {
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

pub(super) fn join_as_new(cx: &mut Cx<'_, '_>, group: &mut Classic, join: &Join) -> Result<(), ErrorCode> {
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

pub(super) fn join_as_known(
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

pub(super) fn complete_join_if_all_are_here(cx: &mut Cx<'_, '_>, group: &mut Classic) {
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

pub(super) fn check_sync(group: &Classic, request: &SyncGroupRequest<'_>) -> Result<(), ErrorCode> {
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
pub(super) fn store_assignment(cx: &mut Cx<'_, '_>, group: &mut Classic, request: &SyncGroupRequest<'_>) {
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

pub(super) fn write_group(
    cx: &mut Cx<'_, '_>,
    group: &Classic,
    assignments: &BTreeMap<Arc<str>, Bytes>,
    later: Later,
) {
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

pub(super) fn leave_one(
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
pub(super) fn after_leaving(cx: &mut Cx<'_, '_>, group: &mut Classic) {
    match group.state {
        State::Stable | State::CompletingRebalance => {
            prepare_rebalance(cx, group);
        }
        State::PreparingRebalance => complete_join_if_all_are_here(cx, group),
        State::Empty | State::Dead => {}
    }
}

pub(super) fn expire(cx: &mut Cx<'_, '_>, group: &mut Classic, now: Instant) {
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

pub(super) fn heard_of(group: &mut Classic, member: &str, now: Instant) {
    if let Some(member) = group.members.get_mut(member) {
        member.session_until = now + Nanos::from_millis(member.session_timeout_ms.max(0) as u64);
        let until = member.session_until;
        group.arm(until);
    }
}

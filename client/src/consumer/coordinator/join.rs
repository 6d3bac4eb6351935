//! A rebalance by the classic protocol: what is given up before it, JoinGroup, the leader's assignment, SyncGroup, and
//! what is taken over after it.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::drive::{Instant, Nanos, Now};
use wire::error::ErrorCode;
use wire::framing::{decode_versioned_or_later, encode_versioned};
use wire::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use wire::messages::join_group_response::JoinGroupResponse;
use wire::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use wire::messages::sync_group_response::SyncGroupResponse;
use wire::records::protocol::{consumer_protocol_assignment, consumer_protocol_subscription};
use wire::records::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use wire::{ApiKey, DecodeError};

use super::super::assignor::{Assignment, Assignor, Member, Topics};
use super::super::{Call, Consumer};
use super::classic::{Generation, Prepare, State};
use super::commit::Purpose;
use super::{list, racks_of, snapshot};
use crate::error::ClientError;
use crate::event::{ClientEvent, TopicPartition};
use crate::io::Outputs;
use crate::mutant::Mutant;
use crate::net::{Done, Outcome, SendOptions};

/// The version of subscriptions and assignments that is written: Kafka's latest.
const PROTOCOL_VERSION: i16 = 3;
const PROTOCOL_TYPE: &str = "consumer";
/// JoinGroup is answered when the rebalance is over; so much later it is given up.
const JOIN_LAPSE: Nanos = Nanos::from_millis(5000);

/// How far joining has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum Joining {
    No,
    /// JoinGroup or SyncGroup is under way.
    Sent,
    /// It failed; the next poll decides what follows.
    Failed(ClientError),
    /// This is the assignment; the next poll takes it over.
    Synced(Vec<u8>),
}

/// The group's leader waits for metadata of all topics of the group, and then assigns.
#[derive(Clone, Debug)]
pub(in crate::consumer) struct Leading {
    assignor: Assignor,
    members: Vec<Member>,
    /// A static leader that returned goes on with its assignment.
    skip: bool,
    /// The answers that the metadata had when it began to wait.
    updates: u64,
}

impl Consumer {
    /// Goes through the rebalance as far as it can. Whether the member is up to date.
    pub(super) fn join_if_needed(&mut self, now: Now, out: &mut Outputs) -> bool {
        while self.needs_rejoin() {
            if !self.knows_coordinator(now.mono, out) {
                return false;
            }
            if self.group_mut().classic().needs_prepare {
                if !self.prepare_to_join(now, out) {
                    return false;
                }
                self.group_mut().classic().needs_prepare = false;
            }
            let classic = self.group_mut().classic();
            match core::mem::replace(&mut classic.joining, Joining::No) {
                Joining::No => {
                    self.send_join(now.mono, out);
                    return false;
                }
                Joining::Sent => {
                    classic.joining = Joining::Sent;
                    return false;
                }
                Joining::Synced(assignment) => {
                    if classic.generation_was_reset() || classic.state != State::Stable {
                        classic.reset("rebalance failed since the generation/state was modified", true);
                    } else {
                        classic.needs_prepare = true;
                        self.joined(now.mono, &assignment, out);
                    }
                }
                Joining::Failed(error) => {
                    if !self.join_failed(now.mono, error) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Whether to go on at once.
    fn join_failed(&mut self, now: Instant, error: ClientError) -> bool {
        let backoff = self.config.common.retry_backoff.initial;
        let classic = self.group_mut().classic();
        if error.code != ErrorCode::MEMBER_ID_REQUIRED {
            classic.request_rejoin(&format!("rebalance failed due to {}", error.class_simple()));
        }
        let at_once = [
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::ILLEGAL_GENERATION,
            ErrorCode::REBALANCE_IN_PROGRESS,
            ErrorCode::MEMBER_ID_REQUIRED,
        ];
        if at_once.contains(&error.code) {
            return true;
        }
        if !error.code.retriable() {
            self.fail(error);
            return false;
        }
        classic.join_at = now + backoff;
        let at = classic.join_at;
        self.group_mut().wake_at(at);
        false
    }

    // --- before

    /// Commits, and gives up what must not be kept during the rebalance. Whether that is done.
    fn prepare_to_join(&mut self, now: Now, out: &mut Outputs) -> bool {
        if self.config.auto_commit && !self.commit_before_join(now.mono, out) {
            return false;
        }
        let owned = self.owned();
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        let topics = group.topics.clone();
        let classic = group.classic();
        classic.prepare = Prepare::No;
        classic.is_leader = false;
        classic.group_topics.clear();
        let is_lost = classic.generation.id == Generation::NO_ID || classic.generation.member.is_empty();
        let keeps = |partition: &TopicPartition| topics.contains(&partition.topic);
        let given_up = match classic.cooperative && !is_lost {
            true => owned.into_iter().filter(|partition| !keeps(partition)).collect(),
            false => owned,
        };
        self.give_up(given_up, is_lost, out);
        true
    }

    fn commit_before_join(&mut self, now: Instant, out: &mut Outputs) -> bool {
        let interval = self.config.max_poll_interval;
        let classic = self.group_mut().classic();
        if classic.prepare == Prepare::No {
            classic.prepare = Prepare::Commit { at: now, until: now + interval };
        }
        match classic.prepare {
            Prepare::Commit { at, until } if at > now && until > now => {
                self.group_mut().wake_at(at);
                false
            }
            Prepare::Committing { until } if until > now => {
                self.group_mut().wake_at(until);
                false
            }
            Prepare::Commit { until, .. } => {
                let eager = !classic.cooperative;
                classic.prepare = Prepare::Committing { until };
                if eager {
                    let keys: Vec<_> = self.partitions.keys().copied().collect();
                    self.mark_pending_revocation(keys.into_iter());
                }
                let offsets = self.all_consumed();
                self.begin_commit(now, Purpose::Prepare, offsets, out);
                self.group_mut().classic().prepare == Prepare::Committed
            }
            // It takes too long: the group does not wait for it.
            Prepare::Committing { .. } | Prepare::Committed | Prepare::No => true,
        }
    }

    // --- JoinGroup

    fn send_join(&mut self, now: Instant, out: &mut Outputs) {
        let join_at = self.group_mut().classic().join_at;
        if join_at > now {
            return self.group_mut().wake_at(join_at);
        }
        let Some(node) = self.coordinator(now, out) else { return };
        let Some(version) = self.net.version(node, ApiKey::JoinGroup, i16::MAX) else {
            return self.fail(ClientError::unsupported_version("The node does not support JOIN_GROUP"));
        };
        let owned = self.owned();
        let config = &self.config;
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        let (id, instance, topics) = (group.id.clone(), group.instance.clone(), group.topics.clone());
        let classic = group.classic();
        let mut subscription =
            subscription_of(&topics, &owned, classic.generation.id, config.rack.as_deref());
        let assigned = classic.assigned.as_ref().map(|(partitions, id)| (&partitions[..], *id));
        let protocols = config.assignors.iter().map(|assignor| {
            subscription.user_data = assignor.user_data(assigned);
            JoinGroupRequestProtocol {
                name: assignor.name().into(),
                metadata: encode_versioned(&subscription, PROTOCOL_VERSION).unwrap_or_default().into(),
            }
        });
        let protocols: Vec<JoinGroupRequestProtocol<'_>> = protocols.collect();
        classic.state = State::Preparing;
        classic.joining = Joining::Sent;
        classic.fresh_after = None;
        let generation = classic.generation.clone();
        let reason = classic.rejoin_reason.clone();
        classic.joined_topics = Some(topics);
        let request = JoinGroupRequest {
            group_id: Cow::Borrowed(&id),
            session_timeout_ms: millis(config.session_timeout),
            rebalance_timeout_ms: if version >= 1 { millis(config.max_poll_interval) } else { -1 },
            member_id: Cow::Borrowed(&generation.member),
            group_instance_id: instance.as_deref().map(Cow::Borrowed),
            protocol_type: PROTOCOL_TYPE.into(),
            protocols,
            reason: (version >= 8).then_some(reason.into()),
        };
        let timeout =
            self.net.request_timeout().max(Nanos(config.max_poll_interval.0.saturating_add(JOIN_LAPSE.0)));
        let options = SendOptions { version, timeout: Some(timeout), answered: true };
        self.net.send(now, node, &request, options, Call::Join(generation.clone()), out);
    }

    pub(in crate::consumer) fn join_done(
        &mut self,
        now: Instant,
        sent: &Generation,
        done: &Done<Call>,
        out: &mut Outputs,
    ) {
        let result = match &done.outcome {
            Outcome::Answered(frame) => match done.decode::<JoinGroupRequest<'_>>(frame) {
                Ok(response) => self.join_answered(now, sent, &response, out),
                Err(error) => Err(self.undecodable(now, done, ApiKey::JoinGroup, &error, out)),
            },
            outcome => Err(self.coordinator_disconnected(outcome)),
        };
        if let Err(error) = result {
            out.event(|| ClientEvent::RequestFailed { api: "JoinGroup", error: error.code.name() });
            self.group_mut().classic().joining = Joining::Failed(error);
        }
    }

    fn undecodable(
        &mut self,
        now: Instant,
        done: &Done<Call>,
        api: ApiKey,
        error: &DecodeError,
        out: &mut Outputs,
    ) -> ClientError {
        self.net.undecodable_answer(now, done.node, api, error, out);
        self.coordinator_lost();
        ClientError::disconnected(ErrorCode::NETWORK_EXCEPTION.message())
    }

    fn join_answered(
        &mut self,
        now: Instant,
        sent: &Generation,
        response: &JoinGroupResponse<'_>,
        out: &mut Outputs,
    ) -> Result<(), ClientError> {
        let error = ErrorCode(response.error_code);
        if error != ErrorCode::NONE {
            return Err(self.join_refused(now, sent, error, response, out));
        }
        self.coordinator_answered();
        if response.protocol_type.as_deref().is_some_and(|kind| kind != PROTOCOL_TYPE) {
            return Err(ClientError::from_code(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, None));
        }
        let (heartbeat, session) = (self.config.heartbeat_interval, self.config.session_timeout);
        let max_poll = self.config.max_poll_interval;
        let group = self.group_mut();
        if group.classic().state != State::Preparing {
            // Heartbeats have found out in between that the member must begin again.
            return Err(ClientError { code: ErrorCode::REBALANCE_IN_PROGRESS, ..ClientError::kafka("") });
        }
        if !group.in_poll {
            group.poll_until = Some(now + max_poll);
        }
        let classic = group.classic();
        classic.state = State::Completing;
        classic.beats = true;
        classic.heartbeat_at = now + heartbeat;
        classic.session_until = now + session;
        classic.generation = Generation {
            id: response.generation_id,
            member: response.member_id.as_ref().into(),
            protocol: Some(response.protocol_name.as_deref().unwrap_or("").into()),
        };
        if response.leader == response.member_id {
            self.lead(now, response, out)
        } else {
            self.send_sync(now, Vec::new(), out)
        }
    }

    fn join_refused(
        &mut self,
        now: Instant,
        sent: &Generation,
        error: ErrorCode,
        response: &JoinGroupResponse<'_>,
        out: &mut Outputs,
    ) -> ClientError {
        let id = self.group_mut().id.clone();
        let classic = self.group_mut().classic();
        match error {
            ErrorCode::UNKNOWN_MEMBER_ID => {
                if classic.generation == *sent {
                    classic.reset_on_error("JOIN_GROUP", error);
                }
            }
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => {
                self.coordinator_unknown(now, out);
            }
            ErrorCode::MEMBER_ID_REQUIRED => {
                let member: Arc<str> = response.member_id.as_ref().into();
                let reason = format!("need to re-join with the given member-id: {member}");
                classic.generation = Generation { id: Generation::NO_ID, member, protocol: None };
                classic.request_rejoin(&reason);
            }
            ErrorCode::GROUP_MAX_SIZE_REACHED => {
                let text =
                    format!("Consumer group {id} already has the configured maximum number of members.");
                return ClientError::from_code(error, Some(&text));
            }
            ErrorCode::GROUP_AUTHORIZATION_FAILED => {
                let text = format!("Not authorized to access group: {id}");
                return ClientError::from_code(error, Some(&text));
            }
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::INCONSISTENT_GROUP_PROTOCOL
            | ErrorCode::INVALID_SESSION_TIMEOUT
            | ErrorCode::INVALID_GROUP_ID
            | ErrorCode::UNSUPPORTED_VERSION
            | ErrorCode::REBALANCE_IN_PROGRESS => {}
            _ => {
                let text = format!("Unexpected error in join group response: {}", error.message());
                return ClientError::kafka(text);
            }
        }
        ClientError::from_code(error, None)
    }

    // --- the leader

    fn lead(
        &mut self,
        now: Instant,
        response: &JoinGroupResponse<'_>,
        out: &mut Outputs,
    ) -> Result<(), ClientError> {
        let name = response.protocol_name.as_deref().unwrap_or("");
        let Some(assignor) = self.config.assignors.iter().copied().find(|a| a.name() == name) else {
            let text = format!("Coordinator selected invalid assignment protocol: {name}");
            return Err(ClientError::kafka(text));
        };
        let mut members = Vec::new();
        for told in &response.members {
            members.push(member_of(&told.member_id, told.group_instance_id.as_deref(), &told.metadata)?);
        }
        let topics: BTreeSet<Arc<str>> =
            members.iter().flat_map(|member: &Member| member.topics.iter().cloned()).collect();
        for topic in &topics {
            self.net.metadata.add_topic(topic);
        }
        let updates = self.net.metadata.updates();
        let classic = self.group_mut().classic();
        classic.group_topics = topics;
        classic.is_leader = true;
        classic.leading = Some(Leading { assignor, members, skip: response.skip_assignment, updates });
        self.drive_leading(now, out);
        Ok(())
    }

    /// Assigns once there is metadata of all topics.
    pub(super) fn drive_leading(&mut self, now: Instant, out: &mut Outputs) {
        let with_racks = self.config.rack.is_some();
        let metadata = &self.net.metadata;
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        let classic = group.classic();
        let Some(leading) = &classic.leading else { return };
        let is_known = |topic: &Arc<str>| {
            metadata.topic_named(topic).is_some_and(|index| metadata.topic(index).answered)
        };
        let is_fresh = metadata.is_fresh() || metadata.updates() > leading.updates;
        if !is_fresh || !classic.group_topics.iter().all(is_known) {
            return;
        }
        let leading = classic.leading.take().expect("just seen");
        let snapshot = Arc::new(snapshot(&classic.group_topics, metadata, with_racks));
        classic.assignment_snapshot = Some(snapshot.clone());
        classic.snapshot = Some(snapshot);
        let assignments = if leading.skip { Vec::new() } else { self.assign_group(&leading) };
        if let Err(error) = self.send_sync(now, assignments, out) {
            self.group_mut().classic().joining = Joining::Failed(error);
        }
    }

    fn assign_group(&self, leading: &Leading) -> Vec<(Arc<str>, Vec<u8>)> {
        let metadata = &self.net.metadata;
        let mut topics = Topics::new();
        for name in leading.members.iter().flat_map(|member| &member.topics) {
            let Some(index) = metadata.topic_named(name).filter(|_| !topics.contains_key(name)) else {
                continue;
            };
            let topic = metadata.topic(index);
            if topic.error == ErrorCode::NONE {
                let racks = |partition| racks_of(metadata, partition).collect();
                topics.insert(name.clone(), topic.partitions.iter().map(racks).collect());
            }
        }
        let mut assignment = leading.assignor.assign(&topics, &leading.members);
        if self.config.common.mutants.has(Mutant::PartitionGivenTwice) {
            give_twice(&mut assignment);
        }
        let encode = |(member, partitions): (Arc<str>, Vec<TopicPartition>)| {
            let assignment = assignment_of(partitions);
            (member, encode_versioned(&assignment, PROTOCOL_VERSION).unwrap_or_default())
        };
        assignment.into_iter().map(encode).collect()
    }

    // --- SyncGroup

    fn send_sync(
        &mut self,
        now: Instant,
        assignments: Vec<(Arc<str>, Vec<u8>)>,
        out: &mut Outputs,
    ) -> Result<(), ClientError> {
        let unavailable = || ClientError::from_code(ErrorCode::COORDINATOR_NOT_AVAILABLE, None);
        let node = self.coordinator(now, out).ok_or_else(unavailable)?;
        let version = self.net.version(node, ApiKey::SyncGroup, i16::MAX).ok_or_else(unavailable)?;
        let group = self.group_mut();
        let (id, instance) = (group.id.clone(), group.instance.clone());
        let generation = group.classic().generation.clone();
        let assignment = |(member, assignment): &(Arc<str>, Vec<u8>)| SyncGroupRequestAssignment {
            member_id: Cow::Owned(member.to_string()),
            assignment: Cow::Owned(assignment.clone()),
        };
        let request = SyncGroupRequest {
            group_id: Cow::Borrowed(&id),
            generation_id: generation.id,
            member_id: Cow::Borrowed(&generation.member),
            group_instance_id: instance.as_deref().map(Cow::Borrowed),
            protocol_type: (version >= 5).then_some(PROTOCOL_TYPE.into()),
            protocol_name: generation.protocol.as_deref().filter(|_| version >= 5).map(Cow::Borrowed),
            assignments: assignments.iter().map(assignment).collect(),
        };
        let call = Call::Sync(generation.clone());
        self.net.send(now, node, &request, SendOptions::at(version), call, out);
        Ok(())
    }

    pub(in crate::consumer) fn sync_done(
        &mut self,
        now: Instant,
        sent: &Generation,
        done: &Done<Call>,
        out: &mut Outputs,
    ) {
        let result = match &done.outcome {
            Outcome::Answered(frame) => match done.decode::<SyncGroupRequest<'_>>(frame) {
                Ok(response) => self.sync_answered(now, sent, &response, out),
                Err(error) => Err(self.undecodable(now, done, ApiKey::SyncGroup, &error, out)),
            },
            outcome => Err(self.coordinator_disconnected(outcome)),
        };
        let result = result.inspect_err(|error| {
            out.event(|| ClientEvent::RequestFailed { api: "SyncGroup", error: error.code.name() });
        });
        self.group_mut().classic().joining = result.map_or_else(Joining::Failed, Joining::Synced);
    }

    fn sync_answered(
        &mut self,
        now: Instant,
        sent: &Generation,
        response: &SyncGroupResponse<'_>,
        out: &mut Outputs,
    ) -> Result<Vec<u8>, ClientError> {
        let error = ErrorCode(response.error_code);
        let id = self.group_mut().id.clone();
        let classic = self.group_mut().classic();
        let refused = || Err(ClientError::from_code(error, None));
        match error {
            ErrorCode::NONE => {
                let other =
                    |told: &Option<Cow<'_, str>>, own: &str| told.as_deref().is_some_and(|told| told != own);
                let protocol = classic.generation.protocol.clone();
                if other(&response.protocol_type, PROTOCOL_TYPE)
                    || protocol.is_some_and(|protocol| other(&response.protocol_name, &protocol))
                {
                    return Err(ClientError::from_code(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, None));
                }
                if classic.generation_was_reset() || classic.state != State::Completing {
                    return Err(ClientError::from_code(ErrorCode::ILLEGAL_GENERATION, None));
                }
                classic.state = State::Stable;
                classic.rejoin_reason.clear();
                classic.rejoin_needed = false;
                Ok(response.assignment.to_vec())
            }
            ErrorCode::GROUP_AUTHORIZATION_FAILED => {
                let text = format!("Not authorized to access group: {id}");
                Err(ClientError::from_code(error, Some(&text)))
            }
            ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::FENCED_INSTANCE_ID => refused(),
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                if classic.generation == *sent {
                    classic.reset_on_error("SYNC_GROUP", error);
                }
                refused()
            }
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => {
                self.coordinator_unknown(now, out);
                refused()
            }
            _ => Err(ClientError::kafka(format!("Unexpected error from SyncGroup: {}", error.message()))),
        }
    }

    // --- after

    /// Takes the assignment over (`onJoinComplete`).
    fn joined(&mut self, now: Instant, assignment: &[u8], out: &mut Outputs) {
        let assigned = match decode_assignment(assignment) {
            Ok(assigned) => assigned,
            Err(error) => return self.fail(error),
        };
        let interval = self.config.auto_commit_interval;
        let owned = self.owned();
        let is_pattern = self.pattern.is_some();
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        let generation = group.classic().generation.clone();
        group.metadata.generation = generation.id;
        group.metadata.member = generation.member.clone();
        let topics = group.topics.clone();
        let classic = group.classic();
        if !classic.is_leader {
            (classic.assignment_snapshot, classic.snapshot) = (None, None);
        }
        let matches = |partition: &TopicPartition| is_pattern || topics.contains(&partition.topic);
        if !assigned.iter().all(matches) {
            classic.request_rejoin("received assignment does not match the current subscription");
            return;
        }
        classic.assigned = Some((assigned.clone(), generation.id));
        let revoked: Vec<TopicPartition> = match classic.cooperative {
            true => owned.iter().filter(|partition| !assigned.contains(partition)).cloned().collect(),
            false => Vec::new(),
        };
        if !revoked.is_empty() {
            let reason = format!("need to revoke partitions {} and re-join", list(&revoked));
            classic.request_rejoin(&reason);
        }
        if is_pattern {
            // The leader may have seen topics that this member has not.
            let new =
                assigned.iter().map(|partition| &partition.topic).filter(|topic| !topics.contains(*topic));
            let new: BTreeSet<Arc<str>> = new.cloned().collect();
            if !new.is_empty() {
                let all: Arc<BTreeSet<Arc<str>>> = Arc::new(new.union(&topics).cloned().collect());
                classic.joined_topics = Some(all.clone());
                group.topics = all;
            }
        }
        group.auto_commit_at = now + interval;
        self.tell_joined(out);
        self.give_up(revoked, false, out);
        let added = assigned.into_iter().filter(|partition| !owned.contains(partition)).collect();
        self.take_over(added, out);
    }
}

fn millis(time: Nanos) -> i32 {
    time.as_millis().min(i32::MAX as u64) as i32
}

fn subscription_of(
    topics: &BTreeSet<Arc<str>>,
    owned: &[TopicPartition],
    generation_id: i32,
    rack: Option<&str>,
) -> ConsumerProtocolSubscription {
    let mut owned_partitions: Vec<consumer_protocol_subscription::TopicPartition> = Vec::new();
    for partition in owned {
        match owned_partitions.last_mut().filter(|last| *last.topic == *partition.topic) {
            Some(last) => last.partitions.push(partition.partition),
            None => owned_partitions.push(consumer_protocol_subscription::TopicPartition {
                topic: partition.topic.to_string(),
                partitions: alloc::vec![partition.partition],
            }),
        }
    }
    ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| topic.to_string()).collect(),
        user_data: None,
        owned_partitions,
        generation_id,
        rack_id: rack.map(String::from),
    }
}

fn assignment_of(partitions: Vec<TopicPartition>) -> ConsumerProtocolAssignment {
    let mut topics: Vec<consumer_protocol_assignment::TopicPartition> = Vec::new();
    let mut partitions = partitions;
    partitions.sort_by(|a, b| a.topic.cmp(&b.topic));
    for partition in partitions {
        match topics.last_mut().filter(|last| *last.topic == *partition.topic) {
            Some(last) => last.partitions.push(partition.partition),
            None => topics.push(consumer_protocol_assignment::TopicPartition {
                topic: partition.topic.to_string(),
                partitions: alloc::vec![partition.partition],
            }),
        }
    }
    ConsumerProtocolAssignment { assigned_partitions: topics, user_data: None }
}

fn member_of(id: &str, instance: Option<&str>, subscription: &[u8]) -> Result<Member, ClientError> {
    let undecodable = |error: DecodeError| {
        ClientError::kafka(format!("The subscription of member {id} cannot be read: {error}"))
    };
    let (told, _) =
        decode_versioned_or_later::<ConsumerProtocolSubscription>(subscription).map_err(undecodable)?;
    let mut topics: Vec<Arc<str>> = told.topics.iter().map(|topic| topic.as_str().into()).collect();
    topics.sort_unstable();
    topics.dedup();
    let mut owned = Vec::new();
    for of_topic in &told.owned_partitions {
        let topic: Arc<str> = of_topic.topic.as_str().into();
        let partition = |&partition: &i32| TopicPartition { topic: topic.clone(), partition };
        owned.extend(of_topic.partitions.iter().map(partition));
    }
    Ok(Member {
        id: id.into(),
        instance: instance.map(Arc::from),
        topics,
        owned,
        generation: (told.generation_id >= 0).then_some(told.generation_id),
        rack: told.rack_id.as_deref().map(Arc::from),
        user_data: told.user_data,
    })
}

fn decode_assignment(bytes: &[u8]) -> Result<Vec<TopicPartition>, ClientError> {
    if bytes.len() < 2 {
        return Err(ClientError::kafka(format!(
            "There are insufficient bytes available to read assignment from the sync-group response (actual byte size \
             {}) , this is not expected; it is possible that the leader's assign function is buggy and did not return \
             any assignment for this member, or because static member is configured and the protocol is buggy hence \
             did not get the assignment for this member",
            bytes.len()
        )));
    }
    let (told, _) = decode_versioned_or_later::<ConsumerProtocolAssignment>(bytes)
        .map_err(|error| ClientError::kafka(format!("The assignment cannot be read: {error}")))?;
    let mut assigned = Vec::new();
    for of_topic in &told.assigned_partitions {
        let topic: Arc<str> = of_topic.topic.as_str().into();
        let partition = |&partition: &i32| TopicPartition { topic: topic.clone(), partition };
        assigned.extend(of_topic.partitions.iter().map(partition));
    }
    assigned.sort_unstable();
    assigned.dedup();
    Ok(assigned)
}

/// The last member gets the first one's first partition as well.
fn give_twice(assignment: &mut Assignment) {
    let first = assignment.values().flatten().next().cloned();
    if let (Some(first), Some(last)) = (first, assignment.values_mut().next_back())
        && !last.contains(&first)
    {
        last.push(first);
    }
}

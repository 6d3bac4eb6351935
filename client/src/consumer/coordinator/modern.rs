//! Membership by the consumer protocol of KIP-848 (`ConsumerMembershipManager.java`,
//! `ConsumerHeartbeatRequestManager.java`).
//!
//! The member chooses its id, says what it subscribes to, and hears in the answers to its heartbeats which partitions
//! it shall have. It then gives up what it must, committing before, takes the rest, and tells so with its next
//! heartbeat, which comes at once. A member that the coordinator fences has lost everything and joins anew; one whose
//! application stays away for `max.poll.interval.ms` leaves, and joins anew when it polls again.
//!
//! With automatic commits an assignment is taken over only while the application is in `poll`, so that what is
//! committed has been processed.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rand_core::Rng as _;
use wire::drive::{Instant, Nanos, Now};
use wire::error::ErrorCode;
use wire::messages::consumer_group_heartbeat_request::{ConsumerGroupHeartbeatRequest, TopicPartitions};
use wire::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use wire::{ApiKey, Uuid};

use super::super::group::Subscription;
use super::super::{Call, Consumer};
use super::Membership;
use super::classic::Generation;
use super::commit::{Purpose, commit_failed};
use crate::Rng;
use crate::error::ClientError;
use crate::event::{ClientEvent, TopicPartition};
use crate::io::Outputs;
use crate::net::{Done, Outcome, SendOptions};

/// The epoch of who joins, of who leaves, and of a static member that may come back.
const JOIN_EPOCH: i32 = 0;
const LEAVE_EPOCH: i32 = -1;
const LEAVE_STATIC_EPOCH: i32 = -2;

/// `MemberState.java`, as far as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum State {
    /// It has not subscribed, or has left.
    Unsubscribed,
    Joining,
    /// It has been told of an assignment that it has not.
    Reconciling,
    /// It has taken an assignment over, and says so with the next heartbeat.
    Acknowledging,
    Stable,
    /// It left because the application stays away.
    Stale,
    /// An error that no retry helps with.
    Fatal,
}

/// What the next assignment waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reconciling {
    No,
    /// Offsets are being committed.
    Committing(Local),
    /// They are committed, or cannot be.
    Committed(Local),
}

/// An assignment, counted: to take the same one over again is a change, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Local {
    epoch: u64,
    partitions: BTreeMap<Uuid, BTreeSet<i32>>,
}

/// What the coordinator has heard, and need not hear again.
#[derive(Clone, Debug, Default)]
struct Sent {
    timeout: bool,
    topics: Option<Arc<BTreeSet<Arc<str>>>>,
    pattern: Option<Arc<str>>,
    assignor: bool,
    assignment: Option<Option<Local>>,
}

/// What came with a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum Beat {
    /// As a member, since it has joined so many times.
    Member(u32),
    /// To leave: whatever the answer is, the member is gone.
    Leave,
}

/// A member, or who wants to be one.
#[derive(Clone, Debug)]
pub(in crate::consumer) struct Modern {
    member: Arc<str>,
    epoch: i32,
    state: State,
    current: Option<Local>,
    target: Option<Local>,
    reconciling: Reconciling,
    sent: Sent,
    in_flight: bool,
    interval: Nanos,
    heartbeat_at: Instant,
    retry_at: Instant,
    failures: u32,
    subscription_changed: bool,
    /// How often it has joined: answers from before count for nothing.
    joins: u32,
}

impl Modern {
    pub fn new(rng: &mut Rng) -> Modern {
        let member = loop {
            let mut bytes = [0; 16];
            rng.fill_bytes(&mut bytes);
            let text = Uuid::from_random(bytes).to_text();
            // A tool would take it for an option.
            if !text.starts_with('-') {
                break text;
            }
        };
        Modern {
            member: member.into(),
            epoch: JOIN_EPOCH,
            state: State::Unsubscribed,
            current: None,
            target: None,
            reconciling: Reconciling::No,
            sent: Sent::default(),
            in_flight: false,
            interval: Nanos::ZERO,
            heartbeat_at: Instant(0),
            retry_at: Instant(0),
            failures: 0,
            subscription_changed: false,
            joins: 0,
        }
    }

    /// The next poll joins, if it has not yet; a member tells with its next heartbeat.
    pub fn subscription_changed(&mut self) {
        self.subscription_changed = true;
    }

    /// Whether the coordinator has given it an epoch.
    pub fn is_member(&self) -> bool {
        self.epoch > 0
    }

    /// Commits of a member name its epoch.
    pub fn commit_as(&self, _purpose: Purpose) -> Result<Generation, ClientError> {
        let id = if self.is_member() { self.epoch } else { Generation::NO_ID };
        Ok(Generation { id, member: self.member.clone(), protocol: None })
    }

    pub fn committed_before_revocation(&mut self) {
        if let Reconciling::Committing(resolved) = core::mem::replace(&mut self.reconciling, Reconciling::No)
        {
            self.reconciling = Reconciling::Committed(resolved);
        }
    }

    fn is_out(&self) -> bool {
        matches!(self.state, State::Unsubscribed | State::Stale | State::Fatal)
    }

    fn is_reconciled(&self) -> bool {
        self.current == self.target
    }

    fn begin_joining(&mut self) {
        self.epoch = JOIN_EPOCH;
        self.state = State::Joining;
        self.joins = self.joins.wrapping_add(1);
        self.in_flight = false;
        self.target = None;
        self.reconciling = Reconciling::No;
        self.retry_at = Instant(0);
        self.failures = 0;
    }

    fn clear_assignment(&mut self) {
        (self.current, self.target) = (None, None);
        self.reconciling = Reconciling::No;
    }
}

impl Consumer {
    fn modern(&mut self) -> &mut Modern {
        self.group_mut().modern()
    }

    /// What a poll does about membership. Whether offsets may be committed.
    pub(super) fn poll_modern(&mut self, now: Now, out: &mut Outputs) -> bool {
        // What a client's pattern means is known only once the metadata are.
        let is_known = self.pattern.is_none() || self.net.metadata.updates() > 0;
        let modern = self.modern();
        if modern.state == State::Stale {
            modern.begin_joining();
        }
        if is_known
            && core::mem::take(&mut modern.subscription_changed)
            && modern.state == State::Unsubscribed
        {
            modern.begin_joining();
        }
        self.reconcile(now.mono, true, out);
        true
    }

    /// Heartbeats, and what they brought.
    pub(super) fn drive_modern(&mut self, now: Instant, out: &mut Outputs) {
        self.reconcile(now, false, out);
        if self.modern().is_out() {
            return;
        }
        let group = self.group_mut();
        if group.poll_until.is_some_and(|until| until <= now) {
            group.poll_until = None;
            return self.leave_for_now(now, out);
        }
        if let Some(until) = group.poll_until {
            group.wake_at(until);
        }
        let modern = group.modern();
        if modern.in_flight {
            return;
        }
        let at_once = matches!(modern.state, State::Joining | State::Acknowledging);
        let due = if at_once { modern.retry_at } else { modern.heartbeat_at.max(modern.retry_at) };
        if due > now {
            return group.wake_at(due);
        }
        // Without a connection, getting one wakes it.
        if let Some(node) = self.coordinator(now, out) {
            let joins = self.modern().joins;
            self.send_consumer_heartbeat(now, node, Beat::Member(joins), out);
        }
    }

    // --- heartbeats

    fn send_consumer_heartbeat(&mut self, now: Instant, node: i32, beat: Beat, out: &mut Outputs) {
        let Some(version) = self.net.version(node, ApiKey::ConsumerGroupHeartbeat, i16::MAX) else {
            let error = ClientError::unsupported_version(
                "The cluster doesn't yet support the new consumer group protocol. Set group.protocol=classic to revert \
                 to the classic protocol until the cluster is upgraded.",
            );
            return self.become_fatal(error, out);
        };
        let (rack, assignor) = (self.config.rack.clone(), self.config.remote_assignor.clone());
        let timeout = self.config.max_poll_interval.as_millis().min(i32::MAX as u64) as i32;
        let group = self.group_mut();
        let (id, instance, topics) = (group.id.clone(), group.instance.clone(), group.topics.clone());
        let pattern: Option<Arc<str>> = match &group.subscription {
            Some(Subscription::BrokerPattern(pattern)) => Some(pattern.as_str().into()),
            _ => None,
        };
        let modern = group.modern();
        let leaves = beat == Beat::Leave;
        let joins = !leaves && modern.state == State::Joining;
        let member = modern.member.clone();
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: Cow::Borrowed(&id),
            member_id: Cow::Borrowed(&member),
            member_epoch: modern.epoch,
            instance_id: instance.as_deref().map(Cow::Borrowed),
            rebalance_timeout_ms: -1,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        if !leaves {
            let sent = &mut modern.sent;
            if joins {
                request.rack_id = rack.as_deref().map(Cow::Borrowed);
            }
            if joins || !core::mem::replace(&mut sent.timeout, true) {
                request.rebalance_timeout_ms = timeout;
            }
            if joins
                || sent.topics.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &topics) && *known != topics)
            {
                request.subscribed_topic_names =
                    Some(topics.iter().map(|topic| Cow::Borrowed(&**topic)).collect());
                sent.topics = Some(topics.clone());
            }
            if joins && pattern.is_some() || sent.pattern != pattern {
                request.subscribed_topic_regex = Some(Cow::Borrowed(pattern.as_deref().unwrap_or("")));
                sent.pattern = pattern.clone();
            }
            if let Some(assignor) = &assignor
                && (joins || !core::mem::replace(&mut sent.assignor, true))
            {
                request.server_assignor = Some(Cow::Borrowed(&**assignor));
            }
            if joins || sent.assignment.as_ref() != Some(&modern.current) {
                request.topic_partitions = Some(topic_partitions(modern.current.as_ref()));
                sent.assignment = Some(modern.current.clone());
            }
            sent.timeout = true;
            sent.assignor = true;
            if modern.state == State::Acknowledging {
                modern.state = if modern.is_reconciled() { State::Stable } else { State::Reconciling };
            }
            modern.in_flight = true;
            modern.heartbeat_at = now + modern.interval;
        }
        let call = Call::ConsumerHeartbeat(beat);
        self.net.send(now, node, &request, SendOptions::at(version), call, out);
    }

    pub(in crate::consumer) fn consumer_heartbeat_done(
        &mut self,
        now: Instant,
        beat: Beat,
        done: &Done<Call>,
        out: &mut Outputs,
    ) {
        let modern = self.modern();
        if beat != Beat::Member(modern.joins) {
            return;
        }
        modern.in_flight = false;
        let result = match &done.outcome {
            Outcome::Answered(frame) => match done.decode::<ConsumerGroupHeartbeatRequest<'_>>(frame) {
                Ok(response) => return self.consumer_heartbeat_answered(now, &response, out),
                Err(error) => {
                    self.net.undecodable_answer(now, done.node, ApiKey::ConsumerGroupHeartbeat, &error, out);
                    self.coordinator_lost();
                    ErrorCode::NETWORK_EXCEPTION
                }
            },
            outcome => self.coordinator_disconnected(outcome).code,
        };
        out.event(|| ClientEvent::RequestFailed { api: "ConsumerGroupHeartbeat", error: result.name() });
        self.heartbeat_again(now);
    }

    /// The heartbeat is repeated after a backoff, with everything that the coordinator should know.
    fn heartbeat_again(&mut self, now: Instant) {
        let backoff = self.config.common.retry_backoff;
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        let modern = group.modern();
        modern.sent = Sent::default();
        modern.heartbeat_at = now;
        modern.retry_at = now + backoff.after(modern.failures, &mut self.rng);
        modern.failures = modern.failures.saturating_add(1);
    }

    fn consumer_heartbeat_answered(
        &mut self,
        now: Instant,
        response: &ConsumerGroupHeartbeatResponse<'_>,
        out: &mut Outputs,
    ) {
        let error = ErrorCode(response.error_code);
        if error != ErrorCode::NONE {
            return self.consumer_heartbeat_refused(now, error, response.error_message.as_deref(), out);
        }
        self.coordinator_answered();
        let modern = self.modern();
        let interval = Nanos::from_millis(response.heartbeat_interval_ms.max(0) as u64);
        modern.failures = 0;
        modern.retry_at = now;
        if modern.interval != interval {
            modern.interval = interval;
            modern.heartbeat_at = now + interval;
        }
        // An answer to a heartbeat from before the member left, or joined anew.
        if modern.is_out() || response.member_epoch < 0 {
            return;
        }
        if let Some(member) = response.member_id.as_deref().filter(|member| !member.is_empty()) {
            modern.member = member.into();
        }
        let epoch_changed =
            core::mem::replace(&mut modern.epoch, response.member_epoch) != response.member_epoch;
        let (epoch, member) = (modern.epoch, modern.member.clone());
        if epoch_changed && epoch > 0 {
            let group = self.group_mut();
            (group.metadata.generation, group.metadata.member) = (epoch, member);
            self.tell_joined(out);
        }
        let Some(assignment) = &response.assignment else {
            let modern = self.modern();
            if modern.state == State::Joining {
                modern.state = State::Stable;
            }
            return;
        };
        let mut partitions = BTreeMap::new();
        for topic in &assignment.topic_partitions {
            partitions.insert(topic.topic_id, topic.partitions.iter().copied().collect());
        }
        let modern = self.modern();
        if modern.target.as_ref().is_none_or(|target| target.partitions != partitions) {
            let epoch = modern.target.as_ref().map_or(0, |target| target.epoch + 1);
            modern.target = Some(Local { epoch, partitions });
        }
        if !modern.is_reconciled() {
            modern.state = State::Reconciling;
        } else if matches!(modern.state, State::Reconciling | State::Joining) {
            modern.state = State::Stable;
        }
    }

    fn consumer_heartbeat_refused(
        &mut self,
        now: Instant,
        error: ErrorCode,
        message: Option<&str>,
        out: &mut Outputs,
    ) {
        out.event(|| ClientEvent::RequestFailed { api: "ConsumerGroupHeartbeat", error: error.name() });
        self.heartbeat_again(now);
        match error {
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                self.coordinator_unknown(now, out);
                self.modern().retry_at = now;
            }
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {}
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID => {
                if !self.modern().is_out() {
                    self.lose_everything(out);
                    self.modern().begin_joining();
                }
            }
            ErrorCode::GROUP_AUTHORIZATION_FAILED => {
                let text = format!("Not authorized to access group: {}", self.group_mut().id);
                self.become_fatal(ClientError::from_code(error, Some(&text)), out);
            }
            ErrorCode::UNSUPPORTED_VERSION => {
                let text = "The cluster doesn't yet support the new consumer group protocol. Set \
                            group.protocol=classic to revert to the classic protocol until the cluster is upgraded.";
                self.become_fatal(ClientError::from_code(error, Some(text)), out);
            }
            _ => self.become_fatal(ClientError::from_code(error, message), out),
        }
    }

    fn become_fatal(&mut self, error: ClientError, out: &mut Outputs) {
        if !self.modern().is_out() {
            self.lose_everything(out);
        }
        self.modern().state = State::Fatal;
        self.fail(error);
    }

    fn lose_everything(&mut self, out: &mut Outputs) {
        let owned = self.owned();
        self.give_up(owned, true, out);
        let modern = self.modern();
        modern.clear_assignment();
        modern.epoch = JOIN_EPOCH;
    }

    // --- taking assignments over

    /// Gives up and takes what the coordinator wants, as far as it can now.
    fn reconcile(&mut self, now: Instant, can_commit: bool, out: &mut Outputs) {
        if self.modern().state != State::Reconciling {
            return;
        }
        match core::mem::replace(&mut self.modern().reconciling, Reconciling::No) {
            Reconciling::Committing(resolved) => {
                self.modern().reconciling = Reconciling::Committing(resolved);
            }
            Reconciling::Committed(resolved) => self.take_assignment(now, resolved, out),
            // A rebalance listener runs in the application's poll, and nothing is given up before it did.
            Reconciling::No if !can_commit && (self.config.auto_commit || self.has_listener()) => {}
            Reconciling::No => self.begin_reconciling(now, out),
        }
    }

    fn begin_reconciling(&mut self, now: Instant, out: &mut Outputs) {
        let resolved = self.resolve_target();
        let modern = self.modern();
        if modern.current.as_ref().is_some_and(|current| current.partitions == resolved.partitions) {
            // As much of it as can be named is what it has: this much can be acknowledged.
            if modern.current.as_ref() != Some(&resolved) {
                modern.current = Some(resolved);
                modern.state = State::Acknowledging;
            }
            return;
        }
        let assigned = self.named(&resolved);
        let keys: Vec<_> = self
            .partitions
            .iter()
            .filter(|(_, state)| assigned.binary_search(&state.partition).is_err())
            .map(|(&key, _)| key)
            .collect();
        self.mark_pending_revocation(keys.into_iter());
        if !self.config.auto_commit {
            return self.take_assignment(now, resolved, out);
        }
        self.modern().reconciling = Reconciling::Committing(resolved);
        let offsets = self.all_consumed();
        self.begin_commit(now, Purpose::Prepare, offsets, out);
        if let Reconciling::Committed(resolved) = self.modern().reconciling.clone() {
            self.modern().reconciling = Reconciling::No;
            self.take_assignment(now, resolved, out);
        }
    }

    /// The part of the target whose topics are known by name; asks for the rest.
    fn resolve_target(&mut self) -> Local {
        let Some(target) = self.modern().target.clone() else { return Local::default() };
        let mut resolved = Local { epoch: target.epoch, ..Local::default() };
        let mut unknown = Vec::new();
        for (id, partitions) in target.partitions {
            match self.net.metadata.topic_with_id(id) {
                Some(_) => drop(resolved.partitions.insert(id, partitions)),
                None => unknown.push(id),
            }
        }
        if !unknown.is_empty() {
            self.net.metadata.want_ids(&unknown);
        }
        resolved
    }

    fn named(&self, assignment: &Local) -> Vec<TopicPartition> {
        let mut named = Vec::new();
        for (&id, partitions) in &assignment.partitions {
            let Some(index) = self.net.metadata.topic_with_id(id) else { continue };
            let topic = &self.net.metadata.topic(index).name;
            named.extend(partitions.iter().map(|&p| TopicPartition { topic: topic.clone(), partition: p }));
        }
        named.sort_unstable();
        named
    }

    fn take_assignment(&mut self, now: Instant, resolved: Local, out: &mut Outputs) {
        let (assigned, owned) = (self.named(&resolved), self.owned());
        let is_lost = |partition: &&TopicPartition| assigned.binary_search(partition).is_err();
        let revoked = owned.iter().filter(is_lost).cloned().collect();
        self.give_up(revoked, false, out);
        let added = assigned.into_iter().filter(|partition| owned.binary_search(partition).is_err());
        self.take_over(added.collect(), out);
        let interval = self.config.auto_commit_interval;
        self.group_mut().auto_commit_at = now + interval;
        let modern = self.modern();
        modern.current = Some(resolved);
        modern.state = State::Acknowledging;
    }

    // --- leaving

    /// The application stays away: the member leaves until it polls again.
    fn leave_for_now(&mut self, now: Instant, out: &mut Outputs) {
        let text = "Consumer poll timeout has expired. This means the time between subsequent calls to poll() was \
                    longer than the configured max.poll.interval.ms, which typically implies that the poll loop is \
                    spending too much time processing messages. You can address this either by increasing \
                    max.poll.interval.ms or by reducing the maximum size of batches returned in poll() with \
                    max.poll.records.";
        out.event(|| ClientEvent::Warning { text: text.into() });
        self.send_leaving(now, out);
        self.lose_everything(out);
        let modern = self.modern();
        modern.state = State::Stale;
        modern.sent = Sent::default();
    }

    fn send_leaving(&mut self, now: Instant, out: &mut Outputs) {
        let group = self.group_mut();
        let epoch = if group.instance.is_some() { LEAVE_STATIC_EPOCH } else { LEAVE_EPOCH };
        group.modern().epoch = epoch;
        if let Some(node) = self.coordinator(now, out) {
            self.send_consumer_heartbeat(now, node, Beat::Leave, out);
        }
    }

    pub(super) fn leave_modern(&mut self, now: Instant, out: &mut Outputs) {
        let modern = self.modern();
        let (is_out, is_lost) = (modern.is_out(), !modern.is_member());
        let owned = self.owned();
        self.give_up(owned, is_lost, out);
        if !is_out {
            self.send_leaving(now, out);
        }
        let modern = self.modern();
        modern.clear_assignment();
        modern.state = State::Unsubscribed;
    }

    // --- commits

    pub(super) fn modern_commit_refused(
        &mut self,
        now: Instant,
        error: ErrorCode,
        out: &mut Outputs,
    ) -> ClientError {
        match error {
            ErrorCode::GROUP_AUTHORIZATION_FAILED => {
                let text = format!("Not authorized to access group: {}", self.group_mut().id);
                ClientError::from_code(error, Some(&text))
            }
            ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::REQUEST_TIMED_OUT => {
                self.coordinator_unknown(now, out);
                ClientError::from_code(error, None)
            }
            ErrorCode::OFFSET_METADATA_TOO_LARGE
            | ErrorCode::INVALID_COMMIT_OFFSET_SIZE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID => ClientError::from_code(error, None),
            ErrorCode::FENCED_INSTANCE_ID => {
                commit_failed(error, "OffsetCommit failed due to group instance id fenced.")
            }
            ErrorCode::UNKNOWN_MEMBER_ID => {
                let text = format!("OffsetCommit failed with unknown member ID. {}", error.message());
                commit_failed(error, &text)
            }
            ErrorCode::STALE_MEMBER_EPOCH => {
                let text = format!("OffsetCommit failed with stale member epoch.{}", error.message());
                commit_failed(error, &text)
            }
            _ => ClientError::kafka(format!("Unexpected error in commit: {}", error.message())),
        }
    }

    /// A commit before a revocation that named an epoch of before is made again with the present one.
    pub(super) fn is_stale_and_has_epoch(&self, error: ErrorCode) -> bool {
        let group = self.group.as_ref().expect("only a consumer with a group.id gets here");
        match &group.membership {
            Membership::Modern(modern) => error == ErrorCode::STALE_MEMBER_EPOCH && modern.is_member(),
            _ => false,
        }
    }
}

fn topic_partitions(assignment: Option<&Local>) -> Vec<TopicPartitions> {
    let topic = |(&topic_id, partitions): (&Uuid, &BTreeSet<i32>)| TopicPartitions {
        topic_id,
        partitions: partitions.iter().copied().collect(),
    };
    assignment.map_or(Vec::new(), |assignment| assignment.partitions.iter().map(topic).collect())
}

//! Membership by the classic protocol: the states, what makes a member rejoin, heartbeats, and leaving.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::{Instant, Now};
use wire::error::ErrorCode;
use wire::messages::heartbeat_request::HeartbeatRequest;
use wire::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};

use super::super::{Call, Consumer};
use super::join::{Joining, Leading};
use super::{Membership, Snapshot};
use crate::error::ClientError;
use crate::event::{ClientEvent, TopicPartition};
use crate::io::Outputs;
use crate::net::{Done, Outcome, SendOptions};

/// The first version of LeaveGroup that names several members, with reasons from 5 on.
const FIRST_LEAVE_WITH_MEMBERS: i16 = 3;
const FIRST_LEAVE_WITH_REASON: i16 = 5;

/// Which generation of which member, by which assignor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::consumer) struct Generation {
    pub id: i32,
    pub member: Arc<str>,
    pub protocol: Option<Arc<str>>,
}

impl Generation {
    pub const NO_ID: i32 = -1;

    pub fn none() -> Generation {
        Generation { id: Generation::NO_ID, member: "".into(), protocol: None }
    }

    fn is_reset(&self) -> bool {
        self.id == Generation::NO_ID && self.protocol.is_none()
    }
}

/// `AbstractCoordinator.MemberState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum State {
    Unjoined,
    /// JoinGroup is under way.
    Preparing,
    /// SyncGroup is under way.
    Completing,
    Stable,
}

impl State {
    fn has_not_joined(self) -> bool {
        matches!(self, State::Unjoined | State::Preparing)
    }
}

/// What must be done before JoinGroup (`onJoinPrepare`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum Prepare {
    No,
    /// Offsets are to be committed at that time, or at once.
    Commit {
        at: Instant,
        until: Instant,
    },
    /// They are being committed.
    Committing {
        until: Instant,
    },
    Committed,
}

/// A member, or who wants to be one.
#[derive(Clone, Debug)]
pub(in crate::consumer) struct Classic {
    pub state: State,
    pub generation: Generation,
    pub cooperative: bool,
    pub rejoin_needed: bool,
    pub rejoin_reason: String,
    pub needs_prepare: bool,
    pub prepare: Prepare,
    pub joining: Joining,
    pub join_at: Instant,
    pub leading: Option<Leading>,
    pub is_leader: bool,
    /// The subscription with which it joined.
    pub joined_topics: Option<Arc<BTreeSet<Arc<str>>>>,
    /// All topics of the group, if it leads.
    pub group_topics: BTreeSet<Arc<str>>,
    /// What the leader's assignment rests on, and what is known now.
    pub assignment_snapshot: Option<Arc<Snapshot>>,
    pub snapshot: Option<Arc<Snapshot>>,
    /// The answers that the metadata must have before a pattern's member rejoins.
    pub fresh_after: Option<u64>,
    /// What the last assignment gave, for sticky assignors.
    pub assigned: Option<(Vec<TopicPartition>, i32)>,
    /// Heartbeats are sent (Kafka's heartbeat thread is enabled).
    pub beats: bool,
    pub heartbeat_at: Instant,
    pub session_until: Instant,
    pub heartbeat_failures: u32,
    /// What ended the heartbeats; the next poll throws it.
    pub failed: Option<ClientError>,
}

impl Classic {
    pub fn new(cooperative: bool) -> Classic {
        Classic {
            state: State::Unjoined,
            generation: Generation::none(),
            cooperative,
            rejoin_needed: true,
            rejoin_reason: String::new(),
            needs_prepare: true,
            prepare: Prepare::No,
            joining: Joining::No,
            join_at: Instant(0),
            leading: None,
            is_leader: false,
            joined_topics: None,
            group_topics: BTreeSet::new(),
            assignment_snapshot: None,
            snapshot: None,
            fresh_after: None,
            assigned: None,
            beats: false,
            heartbeat_at: Instant(0),
            session_until: Instant(0),
            heartbeat_failures: 0,
            failed: None,
        }
    }

    /// The generation, if the member is in a group that is not being rebalanced as far as it knows.
    pub fn stable_generation(&self) -> Option<&Generation> {
        (self.state == State::Stable).then_some(&self.generation)
    }

    pub fn is_rebalancing(&self) -> bool {
        matches!(self.state, State::Preparing | State::Completing)
    }

    pub fn request_rejoin(&mut self, reason: &str) {
        self.rejoin_reason.clear();
        self.rejoin_reason.push_str(reason);
        self.rejoin_needed = true;
    }

    /// The member begins again, as another member if its id is reset too.
    pub fn reset(&mut self, reason: &str, reset_member: bool) {
        self.state = State::Unjoined;
        let member = if reset_member { "".into() } else { self.generation.member.clone() };
        self.generation = Generation { id: Generation::NO_ID, member, protocol: None };
        self.leading = None;
        self.request_rejoin(reason);
        self.needs_prepare = true;
    }

    pub fn reset_on_error(&mut self, api: &str, error: ErrorCode) {
        let reason = format!("encountered {} from {api} response", error.name());
        self.reset(&reason, error != ErrorCode::ILLEGAL_GENERATION);
    }

    pub fn generation_was_reset(&self) -> bool {
        self.generation.is_reset()
    }
}

impl Consumer {
    /// What a poll does about membership. Whether the member is up to date.
    pub(super) fn poll_classic(&mut self, now: Now, out: &mut Outputs) -> bool {
        if let Some(error) = self.group_mut().classic().failed.take() {
            self.fail(error);
            return false;
        }
        if !self.knows_coordinator(now.mono, out) {
            return false;
        }
        if !self.needs_rejoin() {
            return true;
        }
        if self.pattern.is_some() && !self.pattern_is_fresh() {
            return false;
        }
        self.join_if_needed(now, out)
    }

    /// Rejoining with a pattern begins with fresh metadata.
    fn pattern_is_fresh(&mut self) -> bool {
        let updates = self.net.metadata.updates();
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        let classic = group.classic();
        if classic.joining != Joining::No || classic.fresh_after.is_some_and(|after| updates > after) {
            return true;
        }
        if classic.fresh_after.is_none() {
            classic.fresh_after = Some(updates);
            self.net.metadata.request_update();
        }
        false
    }

    /// Whether the member must rejoin, or is about to.
    pub(super) fn needs_rejoin(&mut self) -> bool {
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        let Membership::Classic(classic) = &mut group.membership else { return false };
        let is_stale = |classic: &Classic| {
            let (Some(assigned), Some(known)) = (&classic.assignment_snapshot, &classic.snapshot) else {
                return false;
            };
            !Arc::ptr_eq(assigned, known) && assigned != known
        };
        let reason = if is_stale(classic) {
            Some("cached metadata has changed")
        } else if classic.joined_topics.as_ref().is_some_and(|joined| differ(joined, &group.topics)) {
            Some("subscription has changed")
        } else {
            None
        };
        if let Some(reason) = reason {
            if !classic.rejoin_needed {
                classic.request_rejoin(reason);
            }
            return true;
        }
        classic.rejoin_needed || classic.joining != Joining::No
    }

    // --- heartbeats

    pub(super) fn heartbeat(&mut self, now: Instant, out: &mut Outputs) {
        let group = self.group_mut();
        let poll_until = group.poll_until;
        let classic = group.classic();
        if !classic.beats {
            return;
        }
        if classic.state.has_not_joined() || classic.failed.is_some() {
            classic.beats = false;
            return;
        }
        let (session_until, heartbeat_at) = (classic.session_until, classic.heartbeat_at);
        if !self.knows_coordinator(now, out) {
            return;
        }
        if session_until <= now {
            // It has been silent for too long: perhaps another broker answers.
            self.coordinator_unknown(now, out);
            self.group_mut().classic().session_until = now + self.config.session_timeout;
            self.knows_coordinator(now, out);
            return;
        }
        if poll_until.is_some_and(|until| until <= now) {
            let text = "consumer poll timeout has expired. This means the time between subsequent calls to poll() \
                        was longer than the configured max.poll.interval.ms, which typically implies that the poll \
                        loop is spending too much time processing messages. You can address this either by \
                        increasing max.poll.interval.ms or by reducing the maximum size of batches returned in \
                        poll() with max.poll.records.";
            out.event(|| ClientEvent::Warning { text: text.into() });
            self.group_mut().poll_until = None;
            return self.leave_group(now, "consumer poll timeout has expired.", out);
        }
        if heartbeat_at <= now
            && let Some(node) = self.coordinator(now, out)
        {
            self.send_heartbeat(now, node, out);
        }
        let group = self.group_mut();
        let wakes = match &group.membership {
            Membership::Classic(classic) => {
                // A heartbeat that is due waits for its connection, which wakes it.
                let beat = Some(classic.heartbeat_at).filter(|&at| at > now);
                [beat, Some(classic.session_until), poll_until]
            }
            _ => [None; 3],
        };
        wakes.into_iter().flatten().for_each(|at| group.wake_at(at));
    }

    fn send_heartbeat(&mut self, now: Instant, node: i32, out: &mut Outputs) {
        let Some(version) = self.net.version(node, ApiKey::Heartbeat, i16::MAX) else { return };
        let interval = self.config.heartbeat_interval;
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        let (id, instance) = (group.id.clone(), group.instance.clone());
        let classic = group.classic();
        classic.heartbeat_at = now + interval;
        let generation = classic.generation.clone();
        let request = HeartbeatRequest {
            group_id: Cow::Borrowed(&id),
            generation_id: generation.id,
            member_id: Cow::Borrowed(&generation.member),
            group_instance_id: instance.as_deref().map(Cow::Borrowed),
        };
        let call = Call::Heartbeat(generation.clone());
        self.net.send(now, node, &request, SendOptions::at(version), call, out);
    }

    pub(in crate::consumer) fn heartbeat_done(
        &mut self,
        now: Instant,
        sent: &Generation,
        done: &Done<Call>,
        out: &mut Outputs,
    ) {
        let result = match &done.outcome {
            Outcome::Answered(frame) => match done.decode::<HeartbeatRequest<'_>>(frame) {
                Ok(response) => self.heartbeat_answered(now, sent, ErrorCode(response.error_code), out),
                Err(error) => {
                    self.net.undecodable_answer(now, done.node, ApiKey::Heartbeat, &error, out);
                    Err(ClientError::disconnected(""))
                }
            },
            outcome => {
                let error = self.coordinator_disconnected(outcome);
                out.event(|| ClientEvent::RequestFailed { api: "Heartbeat", error: error.code.name() });
                Err(error)
            }
        };
        let backoff = self.config.common.retry_backoff;
        let session = self.config.session_timeout;
        let Some(group) = &mut self.group else { return };
        let Membership::Classic(classic) = &mut group.membership else { return };
        match result {
            Ok(()) => {
                classic.session_until = now + session;
                classic.heartbeat_failures = 0;
            }
            Err(error) if error.code == ErrorCode::FENCED_INSTANCE_ID => classic.failed = Some(error),
            Err(error) if error.code == ErrorCode::GROUP_AUTHORIZATION_FAILED => classic.failed = Some(error),
            Err(_) => {
                classic.heartbeat_at = now + backoff.after(classic.heartbeat_failures, &mut self.rng);
                classic.heartbeat_failures = classic.heartbeat_failures.saturating_add(1);
            }
        }
    }

    fn heartbeat_answered(
        &mut self,
        now: Instant,
        sent: &Generation,
        error: ErrorCode,
        out: &mut Outputs,
    ) -> Result<(), ClientError> {
        if error == ErrorCode::NONE {
            self.coordinator_answered();
            return Ok(());
        }
        out.event(|| ClientEvent::RequestFailed { api: "Heartbeat", error: error.name() });
        let id = self.group_mut().id.clone();
        let classic = self.group_mut().classic();
        let refused = || Err(ClientError::from_code(error, None));
        match error {
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => {
                self.coordinator_unknown(now, out);
                refused()
            }
            // The coordinator heard it: the session goes on.
            ErrorCode::REBALANCE_IN_PROGRESS => {
                if classic.state == State::Stable {
                    classic.request_rejoin("group is already rebalancing");
                }
                Ok(())
            }
            ErrorCode::ILLEGAL_GENERATION | ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID => {
                if classic.generation != *sent {
                    return Ok(());
                }
                classic.reset_on_error("HEARTBEAT", error);
                refused()
            }
            ErrorCode::GROUP_AUTHORIZATION_FAILED => {
                let text = format!("Not authorized to access group: {id}");
                Err(ClientError::from_code(error, Some(&text)))
            }
            _ => refused(),
        }
    }

    // --- leaving

    /// Leaves the group if this member may, and begins again.
    pub(super) fn leave_group(&mut self, now: Instant, reason: &str, out: &mut Outputs) {
        let group = self.group_mut();
        let is_dynamic = group.instance.is_none();
        let classic = group.classic();
        let is_member = classic.state != State::Unjoined && !classic.generation.member.is_empty();
        if is_dynamic
            && is_member
            && let Some(node) = self.coordinator(now, out)
        {
            self.send_leave(now, node, reason, out);
        }
        self.group_mut().classic().reset("consumer pro-actively leaving the group", true);
    }

    fn send_leave(&mut self, now: Instant, node: i32, reason: &str, out: &mut Outputs) {
        let Some(version) = self.net.version(node, ApiKey::LeaveGroup, i16::MAX) else { return };
        let group = self.group_mut();
        let id = group.id.clone();
        let member = group.classic().generation.member.clone();
        let identity = MemberIdentity {
            member_id: Cow::Borrowed(&member),
            group_instance_id: None,
            reason: (version >= FIRST_LEAVE_WITH_REASON).then(|| reason.to_string().into()),
        };
        let mut request = LeaveGroupRequest { group_id: Cow::Borrowed(&id), ..LeaveGroupRequest::default() };
        if version >= FIRST_LEAVE_WITH_MEMBERS {
            request.members = vec![identity];
        } else {
            request.member_id = Cow::Borrowed(&member);
        }
        self.net.send(now, node, &request, SendOptions::at(version), Call::Leave, out);
    }

    pub(in crate::consumer) fn left(&mut self, now: Instant, done: &Done<Call>, out: &mut Outputs) {
        let error = match &done.outcome {
            Outcome::Answered(frame) => match done.decode::<LeaveGroupRequest<'_>>(frame) {
                Ok(response) => {
                    let of_member = response.members.first().map_or(0, |member| member.error_code);
                    let all = ErrorCode(response.error_code);
                    if all == ErrorCode::NONE { ErrorCode(of_member) } else { all }
                }
                Err(error) => {
                    return self.net.undecodable_answer(now, done.node, ApiKey::LeaveGroup, &error, out);
                }
            },
            outcome => self.coordinator_disconnected(outcome).code,
        };
        if error != ErrorCode::NONE {
            out.event(|| ClientEvent::RequestFailed { api: "LeaveGroup", error: error.name() });
        }
    }
}

fn differ(a: &Arc<BTreeSet<Arc<str>>>, b: &Arc<BTreeSet<Arc<str>>>) -> bool {
    !Arc::ptr_eq(a, b) && a != b
}

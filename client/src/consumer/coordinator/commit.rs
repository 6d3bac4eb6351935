//! Committing offsets (`ConsumerCoordinator.sendOffsetCommitRequest` and what calls it).
//!
//! Each commit says who wants it, which decides what a failure means: an application's synchronous commit and the one
//! at the end are tried again while time is left, an automatic one again soon with newer offsets, an asynchronous one
//! not at all. A member commits as its generation or epoch; a consumer without a subscription as nobody.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::drive::{Instant, Nanos};
use wire::error::ErrorCode;
use wire::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::messages::offset_commit_response::OffsetCommitResponse;
use wire::{ApiKey, Uuid};

use super::super::group::OffsetAndMetadata;
use super::super::{Call, Consumer};
use super::Membership;
use super::classic::{Generation, Prepare, State};
use crate::error::ClientError;
use crate::event::{ClientEvent, TopicPartition};
use crate::io::Outputs;
use crate::net::{Done, Outcome, SendOptions};

/// The latest version that names topics.
const LAST_WITH_NAMES: i16 = 9;

/// Who wants a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum Purpose {
    /// `commitSync`.
    Sync,
    /// `commitAsync`.
    Async,
    /// `auto.commit.interval.ms` is over.
    Auto,
    /// A rebalance is about to take partitions away.
    Prepare,
    /// The consumer closes.
    Close,
}

impl Purpose {
    /// The application did not ask for it.
    fn is_automatic(self) -> bool {
        matches!(self, Purpose::Auto | Purpose::Prepare)
    }
}

/// A commit that is to be made or under way.
#[derive(Clone, Debug)]
pub(in crate::consumer) struct Commit {
    pub purpose: Purpose,
    pub offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
    /// Until when it is tried again.
    pub until: Instant,
    /// How long that is.
    pub patience: Nanos,
    pub retry_at: Instant,
    pub failures: u32,
    /// As whom it was sent.
    pub sent_as: Generation,
}

/// The commits of a consumer.
#[derive(Clone, Debug, Default)]
pub(in crate::consumer) struct Commits {
    pub waiting: Vec<Commit>,
    /// Asynchronous commits in flight, automatic ones included.
    pub in_flight: usize,
    sync_pending: bool,
    /// A commit that nobody asked for is under way: one at its time, or before a rebalance.
    automatic: bool,
    pub result: Option<Result<(), ClientError>>,
    /// An asynchronous commit found the member fenced: polls fail from now on.
    pub fenced: bool,
}

impl Commits {
    /// The application is in `commitSync`.
    pub fn is_sync_pending(&self) -> bool {
        self.sync_pending
    }
}

impl Consumer {
    pub(in crate::consumer) fn begin_commit(
        &mut self,
        now: Instant,
        purpose: Purpose,
        offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
        out: &mut Outputs,
    ) {
        let patience = match purpose {
            Purpose::Prepare => self.config.max_poll_interval,
            Purpose::Close => super::close::TIMEOUT.min(self.config.common.request_timeout),
            _ => self.config.api_timeout,
        };
        let commit = Commit {
            purpose,
            offsets,
            until: now + patience,
            patience,
            retry_at: now,
            failures: 0,
            sent_as: Generation::none(),
        };
        let group = self.group_mut();
        group.commits.sync_pending |= purpose == Purpose::Sync;
        let invalid = commit.offsets.iter().find(|(_, offset)| offset.offset < 0);
        if let Some((_, offset)) = invalid {
            let error = ClientError::illegal_argument(format!("Invalid offset: {}", offset.offset));
            return self.committed(now, commit, Err(error), out);
        }
        if commit.offsets.is_empty() {
            return self.committed(now, commit, Ok(()), out);
        }
        group.commits.automatic |= purpose.is_automatic();
        group.commits.waiting.push(commit);
        self.send_commits(now, out);
    }

    pub(super) fn maybe_auto_commit(&mut self, now: Instant, out: &mut Outputs) {
        if !self.config.auto_commit {
            return;
        }
        let interval = self.config.auto_commit_interval;
        let group = self.group_mut();
        if group.auto_commit_at > now {
            let at = group.auto_commit_at;
            return group.wake_at(at);
        }
        // The consumer protocol's client has one under way at most, so that none overtakes another that is tried again, and
        // begins none while it does not know its coordinator.
        let modern = matches!(group.membership, Membership::Modern(_));
        if modern && (group.commits.automatic || group.finder.node.is_none()) {
            return;
        }
        group.auto_commit_at = now + interval;
        let at = group.auto_commit_at;
        group.wake_at(at);
        // One that still waits for its coordinator has failed in Kafka with the connection, and this one takes its place:
        // otherwise a consumer that was cut off for long comes back with one for each interval.
        group.commits.waiting.retain(|waiting| waiting.purpose != Purpose::Auto);
        let offsets = self.all_consumed();
        self.begin_commit(now, Purpose::Auto, offsets, out);
    }

    /// Sends what waits, as far as it can be.
    pub(super) fn send_commits(&mut self, now: Instant, out: &mut Outputs) {
        if self.group_mut().commits.waiting.is_empty() {
            return;
        }
        for commit in core::mem::take(&mut self.group_mut().commits.waiting) {
            if commit.until <= now {
                self.commit_timed_out(now, commit, out);
            } else if commit.retry_at > now {
                let group = self.group_mut();
                group.wake_at(commit.retry_at.min(commit.until));
                group.commits.waiting.push(commit);
            } else {
                self.send_commit(now, commit, out);
            }
        }
    }

    fn send_commit(&mut self, now: Instant, mut commit: Commit, out: &mut Outputs) {
        if !self.knows_coordinator(now, out) {
            return self.keep_waiting(commit);
        }
        match self.commit_as(commit.purpose) {
            Ok(generation) => commit.sent_as = generation,
            Err(error) => return self.committed(now, commit, Err(error), out),
        }
        let Some(node) = self.coordinator(now, out) else { return self.keep_waiting(commit) };
        let by_id = matches!(self.group_mut().membership, Membership::Modern(_));
        let (mut topics, has_ids) = self.commit_topics(&commit.offsets);
        let latest = if by_id && has_ids { i16::MAX } else { LAST_WITH_NAMES };
        let Some(version) = self.net.version(node, ApiKey::OffsetCommit, latest) else {
            let error = ClientError::unsupported_version("The node does not support OFFSET_COMMIT");
            return self.committed(now, commit, Err(error), out);
        };
        for topic in &mut topics {
            match version > LAST_WITH_NAMES {
                true => topic.name = Cow::Borrowed(""),
                false => topic.topic_id = Uuid::ZERO,
            }
        }
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        group.commits.in_flight += 1;
        let id = group.id.clone();
        let is_member = group.subscription.is_some();
        let instance = group.instance.clone().filter(|_| is_member);
        let generation = commit.sent_as.clone();
        let request = OffsetCommitRequest {
            group_id: Cow::Borrowed(&id),
            generation_id_or_member_epoch: generation.id,
            member_id: Cow::Borrowed(&generation.member),
            group_instance_id: instance.as_deref().map(Cow::Borrowed),
            topics,
            ..OffsetCommitRequest::default()
        };
        let call = Call::Commit(alloc::boxed::Box::new(commit));
        self.net.send(now, node, &request, SendOptions::at(version), call, out);
    }

    fn keep_waiting(&mut self, commit: Commit) {
        let group = self.group_mut();
        group.wake_at(commit.until);
        group.commits.waiting.push(commit);
    }

    /// As whom the consumer may commit now.
    fn commit_as(&mut self, purpose: Purpose) -> Result<Generation, ClientError> {
        let group = self.group_mut();
        match &group.membership {
            Membership::None => Ok(Generation::none()),
            Membership::Classic(classic) => match classic.stable_generation() {
                Some(generation) => Ok(generation.clone()),
                None if classic.is_rebalancing() => Err(rebalancing(
                    "Offset commit cannot be completed since the consumer is undergoing a rebalance for auto \
                     partition assignment. You can try completing the rebalance by calling poll() and then retry \
                     the operation.",
                )),
                None => Err(commit_failed(
                    ErrorCode::UNKNOWN_MEMBER_ID,
                    "Offset commit cannot be completed since the consumer is not part of an active group for auto \
                     partition assignment; it is likely that the consumer was kicked out of the group.",
                )),
            },
            Membership::Modern(modern) => modern.commit_as(purpose),
        }
    }

    fn commit_topics(
        &self,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
    ) -> (Vec<OffsetCommitRequestTopic<'static>>, bool) {
        let mut topics: Vec<OffsetCommitRequestTopic<'static>> = Vec::new();
        let mut has_ids = true;
        for (partition, offset) in offsets {
            let committed = OffsetCommitRequestPartition {
                partition_index: partition.partition,
                committed_offset: offset.offset,
                committed_leader_epoch: offset.leader_epoch.unwrap_or(-1),
                committed_metadata: Some(Cow::Owned(offset.metadata.clone())),
            };
            if let Some(topic) = topics.iter_mut().find(|topic| *topic.name == *partition.topic) {
                topic.partitions.push(committed);
                continue;
            }
            let index = self.net.metadata.topic_named(&partition.topic);
            let topic_id = index.map_or(Uuid::ZERO, |index| self.net.metadata.topic(index).id);
            has_ids &= !topic_id.is_zero();
            topics.push(OffsetCommitRequestTopic {
                name: Cow::Owned(partition.topic.to_string()),
                topic_id,
                partitions: alloc::vec![committed],
            });
        }
        (topics, has_ids)
    }

    // --- answers

    pub(in crate::consumer) fn commit_done(
        &mut self,
        now: Instant,
        commit: &Commit,
        done: &Done<Call>,
        out: &mut Outputs,
    ) {
        self.group_mut().commits.in_flight -= 1;
        let result = match &done.outcome {
            Outcome::Answered(frame) => match done.decode::<OffsetCommitRequest<'_>>(frame) {
                Ok(response) => self.commit_answered(now, commit, &response, out),
                Err(error) => {
                    self.net.undecodable_answer(now, done.node, ApiKey::OffsetCommit, &error, out);
                    self.coordinator_lost();
                    Err(ClientError::disconnected(ErrorCode::NETWORK_EXCEPTION.message()))
                }
            },
            outcome => Err(self.coordinator_disconnected(outcome)),
        };
        if let Err(error) = &result {
            out.event(|| ClientEvent::RequestFailed { api: "OffsetCommit", error: error.code.name() });
        }
        self.committed(now, commit.clone(), result, out);
    }

    fn commit_answered(
        &mut self,
        now: Instant,
        commit: &Commit,
        response: &OffsetCommitResponse<'_>,
        out: &mut Outputs,
    ) -> Result<(), ClientError> {
        let mut unauthorized: Vec<String> = Vec::new();
        for topic in &response.topics {
            for partition in &topic.partitions {
                match ErrorCode(partition.error_code) {
                    ErrorCode::NONE => {}
                    ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
                        let name = topic.name.to_string();
                        if !unauthorized.contains(&name) {
                            unauthorized.push(name);
                        }
                    }
                    error => return Err(self.commit_refused(now, commit, error, out)),
                }
            }
        }
        self.coordinator_answered();
        if unauthorized.is_empty() {
            return Ok(());
        }
        let text = format!("Not authorized to access topics: [{}]", unauthorized.join(", "));
        Err(ClientError::from_code(ErrorCode::TOPIC_AUTHORIZATION_FAILED, Some(&text)))
    }

    fn commit_refused(
        &mut self,
        now: Instant,
        commit: &Commit,
        error: ErrorCode,
        out: &mut Outputs,
    ) -> ClientError {
        if let Membership::Modern(_) = self.group_mut().membership {
            return self.modern_commit_refused(now, error, out);
        }
        let id = self.group_mut().id.clone();
        match error {
            ErrorCode::GROUP_AUTHORIZATION_FAILED => {
                ClientError::from_code(error, Some(&format!("Not authorized to access group: {id}")))
            }
            ErrorCode::OFFSET_METADATA_TOO_LARGE
            | ErrorCode::INVALID_COMMIT_OFFSET_SIZE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => ClientError::from_code(error, None),
            ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::REQUEST_TIMED_OUT => {
                self.coordinator_unknown(now, out);
                ClientError::from_code(error, None)
            }
            ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::ILLEGAL_GENERATION => self.commit_of_no_member(commit, error),
            _ => ClientError::kafka(format!("Unexpected error in commit: {}", error.message())),
        }
    }

    /// The coordinator does not know the member, or not in this generation.
    fn commit_of_no_member(&mut self, commit: &Commit, error: ErrorCode) -> ClientError {
        let Membership::Classic(classic) = &mut self.group_mut().membership else {
            return commit_failed(error, COMMIT_FAILED);
        };
        let unchanged = classic.generation == commit.sent_as;
        let preparing = classic.state == State::Preparing;
        match error {
            ErrorCode::REBALANCE_IN_PROGRESS => {
                classic.request_rejoin("offset commit failed since group is already rebalancing");
                rebalancing(
                    "Offset commit cannot be completed since the consumer group is executing a rebalance at the \
                     moment. You can try completing the rebalance by calling poll() and then retry commit again",
                )
            }
            ErrorCode::FENCED_INSTANCE_ID if unchanged => ClientError::from_code(error, None),
            ErrorCode::FENCED_INSTANCE_ID if preparing => rebalancing(
                "Offset commit cannot be completed since the consumer member's old generation is fenced by its group \
                 instance id, it is possible that this consumer has already participated another rebalance and got a \
                 new generation",
            ),
            ErrorCode::FENCED_INSTANCE_ID => commit_failed(error, COMMIT_FAILED),
            _ if !unchanged && preparing => rebalancing(
                "Offset commit cannot be completed since the consumer member's generation is already stale, meaning \
                 it has already participated another rebalance and got a new generation. You can try completing the \
                 rebalance by calling poll() and then retry commit again",
            ),
            _ => {
                classic.reset_on_error("OFFSET_COMMIT", error);
                commit_failed(error, COMMIT_FAILED)
            }
        }
    }

    fn commit_timed_out(&mut self, now: Instant, commit: Commit, out: &mut Outputs) {
        let offsets: Vec<String> = commit
            .offsets
            .iter()
            .map(|(partition, offset)| format!("{partition}={}", offset.to_text()))
            .collect();
        let error = ClientError::timeout(format!(
            "Timeout of {}ms expired before successfully committing offsets {{{}}}",
            commit.patience.as_millis(),
            offsets.join(", ")
        ));
        let commit = Commit { until: now, ..commit };
        self.committed(now, commit, Err(error), out);
    }

    /// Commits that have not left fail, since it cannot be found out where to send them; those that are tried again
    /// wait.
    pub(super) fn fail_unsent_commits(&mut self, now: Instant, error: &ClientError, out: &mut Outputs) {
        for commit in core::mem::take(&mut self.group_mut().commits.waiting) {
            self.committed(now, commit, Err(error.clone()), out);
        }
    }

    /// A commit ended, or is to be tried again.
    fn committed(
        &mut self,
        now: Instant,
        mut commit: Commit,
        result: Result<(), ClientError>,
        out: &mut Outputs,
    ) {
        let backoff = self.config.common.retry_backoff;
        let stale = result.as_ref().is_err_and(|error| self.is_stale_and_has_epoch(error.code));
        let group = self.group.as_ref().expect("only a consumer with a group.id gets here");
        let retriable = result.as_ref().is_err_and(|error| error.code.retriable())
            || stale && commit.purpose == Purpose::Prepare;
        let tries_again = match commit.purpose {
            Purpose::Sync | Purpose::Close => true,
            // In the classic protocol the rebalance that wants it begins again.
            Purpose::Prepare => {
                let gone = (result.as_ref()).is_err_and(|e| e.code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                !gone && matches!(group.membership, Membership::Modern(_))
            }
            Purpose::Async | Purpose::Auto => false,
        };
        if retriable && tries_again && commit.until > now {
            if commit.purpose == Purpose::Prepare {
                // Commits at regular times go on meanwhile: what it named first may be behind them by now.
                commit.offsets = self.all_consumed();
            }
            commit.retry_at = now + backoff.after(commit.failures, &mut self.rng);
            let group = self.group_mut();
            commit.failures = commit.failures.saturating_add(1);
            group.commits.automatic |= commit.purpose.is_automatic();
            group.wake_at(commit.retry_at);
            group.commits.waiting.push(commit);
            return;
        }
        let offsets = commit.offsets.into_iter().map(|(partition, offset)| (partition, offset.offset));
        let offsets: Vec<(TopicPartition, i64)> = offsets.collect();
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        group.commits.automatic &= offsets.is_empty() || !commit.purpose.is_automatic();
        let id = group.id.clone();
        match &result {
            Ok(()) if offsets.is_empty() => {}
            Ok(()) => out.event(|| ClientEvent::OffsetsCommitted { group: id, offsets }),
            // It is made again with what is consumed by then.
            Err(_) if retriable && matches!(commit.purpose, Purpose::Auto | Purpose::Prepare) => {}
            Err(error) => {
                out.event(|| ClientEvent::CommitFailed { group: id, error: error.code.name(), offsets });
            }
        }
        let is_fenced = result.as_ref().is_err_and(|error| error.code == ErrorCode::FENCED_INSTANCE_ID);
        match commit.purpose {
            Purpose::Sync => {
                group.commits.sync_pending = false;
                group.commits.result = Some(result);
            }
            Purpose::Async => group.commits.fenced |= is_fenced,
            Purpose::Auto => {
                group.commits.fenced |= is_fenced;
                if retriable {
                    group.auto_commit_at = now + backoff.initial;
                }
            }
            Purpose::Prepare => self.committed_before_rebalance(now, retriable),
            Purpose::Close => self.committed_before_close(),
        }
    }

    fn committed_before_rebalance(&mut self, now: Instant, retriable: bool) {
        let wait = self.config.common.retry_backoff.initial;
        match &mut self.group_mut().membership {
            Membership::Classic(classic) => {
                if let Prepare::Committing { until } = classic.prepare {
                    let again = Prepare::Commit { at: now + wait, until };
                    classic.prepare = if retriable { again } else { Prepare::Committed };
                }
            }
            Membership::Modern(modern) => modern.committed_before_revocation(),
            Membership::None => {}
        }
    }
}

/// `CommitFailedException` with its own text.
const COMMIT_FAILED: &str = "Commit cannot be completed since the group has already rebalanced and assigned the \
    partitions to another member. This means that the time between subsequent calls to poll() was longer than the \
    configured max.poll.interval.ms, which typically implies that the poll loop is spending too much time message \
    processing. You can address this either by increasing max.poll.interval.ms or by reducing the maximum size of \
    batches returned in poll() with max.poll.records.";

pub(super) fn commit_failed(code: ErrorCode, text: &str) -> ClientError {
    let class = "org.apache.kafka.clients.consumer.CommitFailedException";
    ClientError { code, class, message: text.into(), cause: None }
}

fn rebalancing(text: &str) -> ClientError {
    ClientError::from_code(ErrorCode::REBALANCE_IN_PROGRESS, Some(text))
}

//! Committed offsets: where partitions of a group begin, and what the application asks for (OffsetFetch).
//!
//! Only stable offsets count, as since Kafka 2.5: while a transaction with offsets is open, or a commit is not
//! replicated yet, the answer is UNSTABLE_OFFSET_COMMIT, and the question is asked again.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::drive::Instant;
use wire::error::ErrorCode;
use wire::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use wire::messages::offset_fetch_response::OffsetFetchResponse;
use wire::{ApiKey, Uuid};

use super::super::group::OffsetAndMetadata;
use super::super::position::{FetchState, LeaderAndEpoch, Position, ResetTo};
use super::super::{Call, Consumer, Key};
use super::Membership;
use super::classic::State;
use crate::error::ClientError;
use crate::event::{ClientEvent, ResetReason, TopicPartition};
use crate::io::Outputs;
use crate::net::{Done, Outcome, SendOptions};

/// The first version that asks for several groups, and the latest that names topics.
const FIRST_WITH_GROUPS: i16 = 8;
const LAST_WITH_NAMES: i16 = 9;
const FIRST_WITH_STABLE: i16 = 7;

type Found = BTreeMap<TopicPartition, Option<OffsetAndMetadata>>;

/// Who asks for committed offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum Asked {
    /// Partitions that have no position yet.
    Positions(Vec<Key>),
    /// The application.
    Application(Vec<TopicPartition>),
}

/// Questions about committed offsets.
#[derive(Clone, Debug, Default)]
pub(in crate::consumer) struct Questions {
    /// A question for positions is under way.
    positions_asked: bool,
    wanted: Vec<TopicPartition>,
    wanted_asked: bool,
    pub found: Option<Vec<(TopicPartition, Option<OffsetAndMetadata>)>>,
    retry_at: Instant,
    failures: u32,
}

impl Consumer {
    pub(in crate::consumer) fn want_committed(&mut self, partitions: &[TopicPartition]) {
        let questions = &mut self.group_mut().questions;
        questions.wanted = partitions.to_vec();
        questions.wanted_asked = false;
        questions.found = if partitions.is_empty() { Some(Vec::new()) } else { None };
    }

    /// Asks where partitions begin that have no position, and what the application wants to know.
    pub(super) fn send_questions(&mut self, now: Instant, out: &mut Outputs) {
        let may_ask = self.may_ask_positions();
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        let asks_positions = may_ask && !group.questions.positions_asked;
        let asks_wanted = !group.questions.wanted.is_empty() && !group.questions.wanted_asked;
        if !asks_positions && !asks_wanted {
            return;
        }
        if group.questions.retry_at > now {
            return group.wake_at(group.questions.retry_at);
        }
        if asks_positions {
            let initializing = |key: &&Key| {
                self.partitions.get(key).is_some_and(|state| state.state == FetchState::Initializing)
            };
            let keys: Vec<Key> = self.unsettled.iter().filter(initializing).copied().collect();
            if !keys.is_empty() {
                let partitions: Vec<TopicPartition> =
                    keys.iter().map(|key| self.partitions[key].partition.clone()).collect();
                if self.send_question(now, &partitions, Asked::Positions(keys), out) {
                    self.group_mut().questions.positions_asked = true;
                }
            }
        }
        if asks_wanted {
            let wanted = self.group_mut().questions.wanted.clone();
            if self.send_question(now, &wanted, Asked::Application(wanted.clone()), out) {
                self.group_mut().questions.wanted_asked = true;
            }
        }
    }

    /// A member that is about to give its partitions up does not look for positions.
    fn may_ask_positions(&mut self) -> bool {
        if self.unsettled.is_empty() {
            return false;
        }
        match &self.group_mut().membership {
            Membership::None => true,
            Membership::Classic(classic) => classic.state == State::Stable,
            Membership::Modern(modern) => modern.is_member(),
        }
    }

    fn send_question(
        &mut self,
        now: Instant,
        partitions: &[TopicPartition],
        asked: Asked,
        out: &mut Outputs,
    ) -> bool {
        let Some(node) = self.coordinator(now, out) else { return false };
        let ids = |name: &str| {
            let index = self.net.metadata.topic_named(name);
            index.map_or(Uuid::ZERO, |index| self.net.metadata.topic(index).id)
        };
        let mut topics: Vec<OffsetFetchRequestTopics<'_>> = Vec::new();
        for partition in partitions {
            match topics.iter_mut().find(|topic| *topic.name == *partition.topic) {
                Some(topic) => topic.partition_indexes.push(partition.partition),
                None => topics.push(OffsetFetchRequestTopics {
                    name: Cow::Borrowed(&partition.topic),
                    topic_id: ids(&partition.topic),
                    partition_indexes: alloc::vec![partition.partition],
                }),
            }
        }
        let group = self.group.as_ref().expect("only a consumer with a group.id gets here");
        let is_modern = matches!(group.membership, Membership::Modern(_));
        let by_id = is_modern && topics.iter().all(|topic| !topic.topic_id.is_zero());
        let latest = if by_id { i16::MAX } else { LAST_WITH_NAMES };
        let Some(version) = self.net.version(node, ApiKey::OffsetFetch, latest) else {
            self.fail(ClientError::unsupported_version("The node does not support OFFSET_FETCH"));
            return false;
        };
        for topic in &mut topics {
            match version > LAST_WITH_NAMES {
                true => topic.name = Cow::Borrowed(""),
                false => topic.topic_id = Uuid::ZERO,
            }
        }
        let id = group.id.clone();
        let member = group.metadata.member.clone();
        let epoch = group.metadata.generation;
        let mut request = OffsetFetchRequest {
            require_stable: version >= FIRST_WITH_STABLE,
            ..OffsetFetchRequest::default()
        };
        if version >= FIRST_WITH_GROUPS {
            let names_member = is_modern && version >= 9 && epoch >= 0;
            request.groups = alloc::vec![OffsetFetchRequestGroup {
                group_id: Cow::Borrowed(&id),
                member_id: names_member.then_some(Cow::Borrowed(&*member)),
                member_epoch: if names_member { epoch } else { -1 },
                topics: Some(topics),
            }];
        } else {
            let old = |topic: OffsetFetchRequestTopics<'static>| OffsetFetchRequestTopic {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
            };
            let owned = |topic: OffsetFetchRequestTopics<'_>| OffsetFetchRequestTopics {
                name: Cow::Owned(topic.name.to_string()),
                topic_id: topic.topic_id,
                partition_indexes: topic.partition_indexes,
            };
            request.group_id = Cow::Borrowed(&id);
            request.topics = Some(topics.into_iter().map(owned).map(old).collect());
        }
        self.net.send(now, node, &request, SendOptions::at(version), Call::Committed(asked), out);
        true
    }

    pub(in crate::consumer) fn committed_done(
        &mut self,
        now: Instant,
        asked: &Asked,
        done: &Done<Call>,
        out: &mut Outputs,
    ) {
        let questions = &mut self.group_mut().questions;
        match asked {
            Asked::Positions(_) => questions.positions_asked = false,
            Asked::Application(_) => questions.wanted_asked = false,
        }
        let result = match &done.outcome {
            Outcome::Answered(frame) => match done.decode::<OffsetFetchRequest<'_>>(frame) {
                Ok(response) => self.committed_answered(now, response, out),
                Err(error) => {
                    self.net.undecodable_answer(now, done.node, ApiKey::OffsetFetch, &error, out);
                    self.coordinator_lost();
                    Err(ClientError::disconnected(""))
                }
            },
            outcome => Err(self.coordinator_disconnected(outcome)),
        };
        match result {
            Ok(found) => {
                self.group_mut().questions.failures = 0;
                match asked {
                    Asked::Positions(keys) => self.begin_at_committed(keys, &found, out),
                    Asked::Application(wanted) => self.tell_committed(wanted, &found),
                }
            }
            Err(error) => {
                out.event(|| ClientEvent::RequestFailed { api: "OffsetFetch", error: error.code.name() });
                self.question_failed(now, error);
            }
        }
    }

    fn question_failed(&mut self, now: Instant, error: ClientError) {
        if !error.code.retriable() && !self.is_stale_epoch(error.code) {
            self.group_mut().questions.wanted.clear();
            return self.fail(error);
        }
        let backoff = self.config.common.retry_backoff;
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        let questions = &mut group.questions;
        questions.retry_at = now + backoff.after(questions.failures, &mut self.rng);
        questions.failures = questions.failures.saturating_add(1);
    }

    /// A member of KIP-848 that was fenced, or has a new epoch, asks again.
    fn is_stale_epoch(&mut self, error: ErrorCode) -> bool {
        matches!(self.group_mut().membership, Membership::Modern(_))
            && matches!(error, ErrorCode::STALE_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID)
    }

    fn committed_answered(
        &mut self,
        now: Instant,
        response: OffsetFetchResponse<'_>,
        out: &mut Outputs,
    ) -> Result<Found, ClientError> {
        let (error, found) = self.committed_offsets(&response);
        let id = self.group_mut().id.clone();
        match error {
            ErrorCode::NONE => {
                self.coordinator_answered();
                found
            }
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => {
                self.coordinator_unknown(now, out);
                Err(ClientError::from_code(error, None))
            }
            ErrorCode::GROUP_AUTHORIZATION_FAILED => {
                Err(ClientError::from_code(error, Some(&format!("Not authorized to access group: {id}"))))
            }
            error if error.retriable() || self.is_stale_epoch(error) => {
                Err(ClientError::from_code(error, None))
            }
            error => {
                let text = format!("Unexpected error in fetch offset response: {}", error.message());
                Err(ClientError::kafka(text))
            }
        }
    }

    /// The error of the whole answer, and the offsets in it.
    fn committed_offsets(
        &self,
        response: &OffsetFetchResponse<'_>,
    ) -> (ErrorCode, Result<Found, ClientError>) {
        let mut found = Found::new();
        let mut refused = None;
        let mut take =
            |name: &Arc<str>, partition: i32, (offset, epoch, metadata, code): (i64, i32, &str, i16)| {
                let partition = TopicPartition { topic: name.clone(), partition };
                let error = ErrorCode(code);
                if error != ErrorCode::NONE {
                    refused.get_or_insert_with(|| committed_refused(&partition, error));
                    return;
                }
                let leader_epoch = (epoch >= 0).then_some(epoch);
                let committed = OffsetAndMetadata { offset, leader_epoch, metadata: metadata.to_string() };
                found.insert(partition, (offset >= 0).then_some(committed));
            };
        let error = match response.groups.first() {
            Some(group) => {
                for topic in &group.topics {
                    let name = match topic.topic_id.is_zero() {
                        true => Some(Arc::from(topic.name.as_ref())),
                        false => {
                            let index = self.net.metadata.topic_with_id(topic.topic_id);
                            index.map(|index| self.net.metadata.topic(index).name.clone())
                        }
                    };
                    let Some(name) = name else { continue };
                    for p in &topic.partitions {
                        let metadata = p.metadata.as_deref().unwrap_or("");
                        let told = (p.committed_offset, p.committed_leader_epoch, metadata, p.error_code);
                        take(&name, p.partition_index, told);
                    }
                }
                ErrorCode(group.error_code)
            }
            None => {
                for topic in &response.topics {
                    let name = Arc::from(topic.name.as_ref());
                    for p in &topic.partitions {
                        let metadata = p.metadata.as_deref().unwrap_or("");
                        let told = (p.committed_offset, p.committed_leader_epoch, metadata, p.error_code);
                        take(&name, p.partition_index, told);
                    }
                }
                ErrorCode(response.error_code)
            }
        };
        (error, refused.map_or(Ok(found), Err))
    }

    /// Partitions go on where the group has committed, or else where `auto.offset.reset` says.
    fn begin_at_committed(&mut self, keys: &[Key], found: &Found, out: &mut Outputs) {
        let mut undefined = Vec::new();
        let mutants = self.config.common.mutants;
        for &key in keys {
            let current = LeaderAndEpoch::of(self.net.metadata.partition(key.0, key.1));
            let Some(state) = self.partitions.get_mut(&key) else { continue };
            if state.state != FetchState::Initializing {
                continue;
            }
            // An answer that does not speak of it is none.
            let Some(committed) = found.get(&state.partition) else { continue };
            match (committed, ResetTo::of(self.config.reset)) {
                (Some(committed), _) => {
                    let (offset, epoch) = (committed.offset, committed.leader_epoch);
                    state.seek(Position {
                        offset,
                        epoch,
                        current: LeaderAndEpoch { leader: None, epoch: -1 },
                    });
                    // The leader may have lost what was committed: it is asked, if an epoch was committed.
                    state.leader_is(current, mutants);
                    let (partition, reason) = (state.partition.clone(), ResetReason::Committed);
                    out.event(|| ClientEvent::PositionReset { partition, from: None, to: offset, reason });
                }
                (None, Some(to)) => state.reset(to, ResetReason::Start),
                (None, None) => undefined.push(format!("{}", state.partition)),
            }
            self.changed(key);
        }
        if !undefined.is_empty() {
            self.no_offset(&undefined);
        }
    }

    fn tell_committed(&mut self, wanted: &[TopicPartition], found: &Found) {
        let questions = &mut self.group_mut().questions;
        if questions.wanted == wanted {
            questions.wanted.clear();
            let answer =
                |partition: &TopicPartition| (partition.clone(), found.get(partition).cloned().flatten());
            questions.found = Some(wanted.iter().map(answer).collect());
        }
    }
}

fn committed_refused(partition: &TopicPartition, error: ErrorCode) -> ClientError {
    match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            ClientError::kafka(format!("Topic or Partition {partition} does not exist"))
        }
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            let text = format!("Not authorized to access topics: [{}]", partition.topic);
            ClientError::from_code(error, Some(&text))
        }
        ErrorCode::UNSTABLE_OFFSET_COMMIT => ClientError::from_code(
            error,
            Some("There are unstable offsets for the requested topic partitions"),
        ),
        _ => ClientError::kafka(format!(
            "Unexpected error in fetch offset response for partition {partition}: {}",
            error.message()
        )),
    }
}

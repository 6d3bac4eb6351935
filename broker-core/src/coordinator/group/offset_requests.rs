//! Requests that concern a group's offsets: OffsetCommit, TxnOffsetCommit, OffsetFetch, OffsetDelete.
//!
//! Follows the offset part of Kafka's `KafkaApis` and `GroupCoordinatorService`. [`super::offsets`] holds what is
//! committed.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::messages::offset_commit_request::OffsetCommitRequestTopic;
use wire::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use wire::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use wire::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use wire::messages::*;
use wire::{ErrorCode, Uuid};

use super::classic::State;

use super::offsets::{Committed, OffsetWriter, push_offset, push_tombstone, shared};
use super::{GroupCoordinator, GroupShard, Later};
use crate::coordinator::runtime::{Parts, ShardCx, Transaction};
use crate::event::{Event, TopicPartition};
use crate::log::Verification;
use crate::metadata::MetadataImage;
use crate::mutant::Mutant;
use crate::net::RequestToken;
use crate::replica::OffsetsVerified;

/// The answer to a commit that waits for its records.
#[derive(Clone, Debug)]
pub struct PendingCommit {
    token: RequestToken,
    group: Arc<str>,
    transactional: bool,
    topics: Vec<CommitTopic>,
}

#[derive(Clone, Debug)]
struct CommitTopic {
    name: Arc<str>,
    id: Uuid,
    /// The partition, its offset, and why it is refused.
    partitions: Vec<(i32, i64, ErrorCode)>,
}

impl PendingCommit {
    /// Answers: what was not refused before has the write's result.
    pub(super) fn answer(self, cx: &mut ShardCx<'_, '_, Later>, result: Result<(), ErrorCode>) {
        let written = result.map_or_else(error_of_write, |()| ErrorCode::NONE);
        if written.is_none() && !self.transactional {
            cx.event(|| Event::OffsetsCommitted { group: self.group.clone(), offsets: self.offsets() });
        }
        self.respond(cx, written);
    }

    fn offsets(&self) -> Vec<(TopicPartition, i64)> {
        let of_topic = |topic: &CommitTopic| {
            let name = topic.name.clone();
            let accepted = topic.partitions.iter().filter(|(_, _, error)| error.is_none());
            let named = accepted
                .map(move |(p, offset, _)| (TopicPartition { topic: name.clone(), partition: *p }, *offset));
            named.collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    fn respond(&self, cx: &mut ShardCx<'_, '_, Later>, written: ErrorCode) {
        let error = |refused: ErrorCode| if refused.is_none() { written.0 } else { refused.0 };
        if self.transactional {
            let topics = (self.topics.iter())
                .map(|topic| TxnOffsetCommitResponseTopic {
                    name: Cow::Borrowed(&*topic.name),
                    topic_id: topic.id,
                    partitions: (topic.partitions.iter())
                        .map(|(partition_index, _, refused)| TxnOffsetCommitResponsePartition {
                            partition_index: *partition_index,
                            error_code: error(*refused),
                        })
                        .collect(),
                })
                .collect();
            let response = TxnOffsetCommitResponse { topics, ..TxnOffsetCommitResponse::default() };
            return cx.respond(self.token, &response);
        }
        let topics = (self.topics.iter())
            .map(|topic| OffsetCommitResponseTopic {
                name: Cow::Borrowed(&*topic.name),
                topic_id: topic.id,
                partitions: (topic.partitions.iter())
                    .map(|(partition_index, _, refused)| OffsetCommitResponsePartition {
                        partition_index: *partition_index,
                        error_code: error(*refused),
                    })
                    .collect(),
            })
            .collect();
        cx.respond(self.token, &OffsetCommitResponse { topics, ..OffsetCommitResponse::default() });
    }
}

/// What a client is told of offsets that could not be written.
fn error_of_write(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::NETWORK_EXCEPTION => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::REQUEST_TIMED_OUT => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => ErrorCode::NOT_COORDINATOR,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
            ErrorCode::INVALID_COMMIT_OFFSET_SIZE
        }
        other => other,
    }
}

/// What is committed, of an OffsetCommit or a TxnOffsetCommit.
#[derive(Clone, Copy)]
struct Commit<'a> {
    group: &'a str,
    member: &'a str,
    instance: Option<&'a str>,
    generation: i32,
    transaction: Option<Transaction>,
}

/// The topics of a commit, with what is to be written of them.
type Commits = Vec<(CommitTopic, Vec<Committed>)>;

/// A TxnOffsetCommit whose transaction is being verified.
#[derive(Clone, Debug)]
pub(super) struct Verifying {
    token: RequestToken,
    group: String,
    member: String,
    instance: Option<String>,
    generation: i32,
    transaction: Transaction,
    topics: Commits,
}

impl Verifying {
    fn commit(&self) -> Commit<'_> {
        Commit {
            group: &self.group,
            member: &self.member,
            instance: self.instance.as_deref(),
            generation: self.generation,
            transaction: Some(self.transaction),
        }
    }
}

impl GroupShard {
    fn commit(
        &mut self,
        cx: &mut ShardCx<'_, '_, Later>,
        token: RequestToken,
        commit: &Commit<'_>,
        topics: Commits,
    ) {
        let checked = self.check_commit(cx, token.version, commit, &topics);
        let mut pending = PendingCommit {
            token,
            group: Arc::from(commit.group),
            transactional: commit.transaction.is_some(),
            topics: Vec::new(),
        };
        if let Err(error) = checked {
            pending.topics = topics.into_iter().map(|(topic, _)| topic).collect();
            return pending.respond(cx, error);
        }
        let mut records = cx.records();
        let mut writer = OffsetWriter::default();
        for (topic, values) in topics {
            let accepted = topic.partitions.iter().zip(&values);
            for ((partition, _, error), value) in accepted {
                if error.is_none() {
                    push_offset(&mut records, &mut writer, commit.group, &topic.name, *partition, value);
                }
            }
            pending.topics.push(topic);
        }
        if records.is_empty() {
            return pending.respond(cx, ErrorCode::NONE);
        }
        let later = Later::Committed(Box::new(pending));
        match commit.transaction {
            Some(transaction) => cx.write_in_transaction(transaction, records, later),
            None => cx.write(records, later),
        }
    }

    fn check_commit(
        &mut self,
        cx: &mut ShardCx<'_, '_, Later>,
        version: i16,
        commit: &Commit<'_>,
        topics: &Commits,
    ) -> Result<(), ErrorCode> {
        let transactional = commit.transaction.is_some();
        if let Some(group) = self.consumer.get(commit.group) {
            let partitions = topics.iter().flat_map(|(topic, _)| {
                let accepted = topic.partitions.iter().filter(|(_, _, error)| error.is_none());
                accepted.map(|(partition, _, _)| (&*topic.name, *partition))
            });
            let who = (commit.member, commit.generation);
            return group.check_commit(cx.image, who, transactional, version, partitions);
        }
        let Some(group) = self.classic.get(commit.group) else {
            if commit.generation >= 0 {
                return Err(match (transactional, version) {
                    (false, 9..) => ErrorCode::GROUP_ID_NOT_FOUND,
                    _ => ErrorCode::ILLEGAL_GENERATION,
                });
            }
            // Somebody who manages partitions alone: a group that has offsets and nothing else.
            self.classic.get_or_create(cx, commit.group);
            return Ok(());
        };
        if cx.ctx.config.mutants.has(Mutant::ZombieCommitAccepted) {
            return Ok(());
        }
        group.check_commit(commit.member, commit.instance, commit.generation, transactional)?;
        if !transactional && !commit.member.is_empty() {
            self.classic.heard_of(cx, commit.group, commit.member);
        }
        Ok(())
    }

    fn check_fetch(&self, asked: &OffsetFetchRequestGroup<'_>) -> Result<(), ErrorCode> {
        match self.consumer.get(&asked.group_id) {
            Some(known) => known.check_fetch(asked.member_id.as_deref(), asked.member_epoch),
            None => Ok(()),
        }
    }

    fn fetch(
        &self,
        image: &MetadataImage,
        group: &str,
        topics: Option<&[OffsetFetchRequestTopics<'_>]>,
        by_id: bool,
        stability: Stability,
    ) -> FetchedTopics {
        let known = self.classic.get(group).is_some() || self.consumer.get(group).is_some();
        let one = |topic: &str, partition: i32| {
            let unstable = match stability {
                Stability::Any => false,
                Stability::Awaited => self.offsets.is_unstable(group, topic, partition),
                Stability::Now => {
                    self.offsets.is_unstable(group, topic, partition)
                        || self.offsets.is_on_its_way(group, topic, partition)
                }
            };
            if unstable {
                return FetchedOffset::none(partition, ErrorCode::UNSTABLE_OFFSET_COMMIT);
            }
            let found = match stability {
                Stability::Awaited => self.offsets.newest(group, topic, partition),
                Stability::Any | Stability::Now => self.offsets.stable(group, topic, partition),
            };
            match found.filter(|_| known) {
                None => FetchedOffset::none(partition, ErrorCode::NONE),
                Some(found) => FetchedOffset {
                    partition,
                    offset: found.offset,
                    leader_epoch: found.leader_epoch,
                    metadata: found.metadata.clone(),
                    error: ErrorCode::NONE,
                },
            }
        };
        let Some(asked) = topics else {
            let mut all = FetchedTopics::new();
            for (topic, partition) in self.offsets.partitions(group) {
                let id = image.topics.topic_named(&topic).map_or(Uuid::ZERO, |t| t.id);
                if by_id && id.is_zero() {
                    continue;
                }
                let offset = one(&topic, partition);
                match all.last_mut().filter(|(name, _, _)| **name == *topic) {
                    Some((_, _, offsets)) => offsets.push(offset),
                    None => all.push((topic.to_string(), id, alloc::vec![offset])),
                }
            }
            return all;
        };
        let of_topic = |topic: &OffsetFetchRequestTopics<'_>| {
            let name = match by_id {
                true => image.topics.topic(topic.topic_id).map(|t| t.name.to_string()),
                false => Some(topic.name.to_string()),
            };
            let Some(name) = name else { return refused(topic, ErrorCode::UNKNOWN_TOPIC_ID) };
            let offsets = topic.partition_indexes.iter().map(|p| one(&name, *p)).collect();
            (name, topic.topic_id, offsets)
        };
        asked.iter().map(of_topic).collect()
    }

    fn delete_offsets(
        &mut self,
        cx: &mut ShardCx<'_, '_, Later>,
        token: RequestToken,
        request: &OffsetDeleteRequest<'_>,
    ) -> Result<(), ErrorCode> {
        let group: Arc<str> = Arc::from(&*request.group_id);
        let modern = self.consumer.get(&group);
        let known = self.classic.get(&group);
        if let Some(known) = known.filter(|_| modern.is_none()) {
            let consumers = known.protocol_type.as_deref() == Some("consumer");
            match known.state {
                State::Dead => return Err(ErrorCode::GROUP_ID_NOT_FOUND),
                State::Empty => {}
                _ if consumers => {}
                _ => return Err(ErrorCode::NON_EMPTY_GROUP),
            }
        }
        if modern.is_none() && known.is_none() {
            return Err(ErrorCode::GROUP_ID_NOT_FOUND);
        }
        let subscribed = |topic: &str| match modern {
            Some(group) => group.is_subscribed_to(topic),
            None => known.is_some_and(|g| g.state != State::Empty && g.is_subscribed_to(topic)),
        };
        let mut records = cx.records();
        let mut writer = OffsetWriter::default();
        let mut results = Vec::new();
        for topic in &request.topics {
            let name: Arc<str> = Arc::from(&*topic.name);
            let in_use = subscribed(&name);
            let exists = cx.image.topics.topic_named(&name);
            for p in &topic.partitions {
                let partition = p.partition_index;
                let error = if exists.is_none_or(|t| !t.partitions.contains_key(&partition)) {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                } else if in_use {
                    ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC
                } else {
                    if self.offsets.latest(&group).any(|(t, p, _)| *t == name && p == partition) {
                        push_tombstone(&mut records, &mut writer, &group, &name, partition);
                    }
                    ErrorCode::NONE
                };
                results.push((TopicPartition { topic: name.clone(), partition }, error));
            }
        }
        cx.write(records, Later::Deleted { token, group, results });
        Ok(())
    }

    /// Whether a group may be deleted.
    pub(super) fn check_delete(&self, group: &str) -> Result<(), ErrorCode> {
        if let Some(group) = self.consumer.get(group) {
            return if group.members.is_empty() { Ok(()) } else { Err(ErrorCode::NON_EMPTY_GROUP) };
        }
        match self.classic.get(group).map(|g| g.state) {
            None | Some(State::Dead) => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            Some(State::Empty) => Ok(()),
            Some(_) => Err(ErrorCode::NON_EMPTY_GROUP),
        }
    }
}

/// Which offsets an OffsetFetch is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stability {
    /// What is committed, whatever a transaction that is open may change.
    Any,
    /// The newest, once they are committed: the answer waits for that.
    Awaited,
    /// What is committed, unless something else is on its way.
    Now,
}

#[derive(Clone, Debug)]
struct FetchedOffset {
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Arc<str>,
    error: ErrorCode,
}

impl FetchedOffset {
    fn none(partition: i32, error: ErrorCode) -> FetchedOffset {
        FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: shared(""), error }
    }
}

/// Topics by name or id, with the offsets of their partitions.
type FetchedTopics = Vec<(String, Uuid, Vec<FetchedOffset>)>;

/// All partitions of a topic are refused.
fn refused(topic: &OffsetFetchRequestTopics<'_>, error: ErrorCode) -> (String, Uuid, Vec<FetchedOffset>) {
    let offsets = topic.partition_indexes.iter().map(|p| FetchedOffset::none(*p, error)).collect();
    (topic.name.to_string(), topic.topic_id, offsets)
}

/// The answer to an OffsetFetch of one group that waits until what it tells is committed.
///
/// Kafka's coordinator takes a fetch of stable offsets for a write without records: it sees what was written last, the
/// end of a transaction whose marker no follower has yet among it, and is answered behind it.
#[derive(Clone, Debug)]
pub struct PendingFetch {
    token: RequestToken,
    group: String,
    topics: FetchedTopics,
}

impl PendingFetch {
    /// Answers.
    pub(super) fn answer(self, cx: &mut ShardCx<'_, '_, Later>, result: Result<(), ErrorCode>) {
        let PendingFetch { token, group, mut topics } = self;
        let result = result.map_err(error_of_write);
        let response = match result {
            Err(error) if token.version < 8 => {
                for offset in topics.iter_mut().flat_map(|(_, _, offsets)| offsets) {
                    *offset = FetchedOffset::none(offset.partition, error);
                }
                one_group(&topics, error)
            }
            Ok(()) if token.version < 8 => one_group(&topics, ErrorCode::NONE),
            result => OffsetFetchResponse {
                groups: alloc::vec![of_group(&group, result.map(|()| &topics))],
                ..OffsetFetchResponse::default()
            },
        };
        cx.respond(token, &response);
    }
}

/// The answer to versions below 8, which ask for one group. Version 1 has no error of its own: each partition says it.
fn one_group(topics: &FetchedTopics, error: ErrorCode) -> OffsetFetchResponse<'_> {
    let topics = (topics.iter())
        .map(|(name, _, offsets)| OffsetFetchResponseTopic {
            name: Cow::Borrowed(&**name),
            partitions: (offsets.iter())
                .map(|o| OffsetFetchResponsePartition {
                    partition_index: o.partition,
                    committed_offset: o.offset,
                    committed_leader_epoch: o.leader_epoch,
                    metadata: Some(Cow::Borrowed(&*o.metadata)),
                    error_code: o.error.0,
                })
                .collect(),
        })
        .collect();
    OffsetFetchResponse { topics, error_code: error.0, ..OffsetFetchResponse::default() }
}

/// The part of one group in the answer to version 8 and later.
fn of_group<'a>(group: &'a str, found: Result<&'a FetchedTopics, ErrorCode>) -> OffsetFetchResponseGroup<'a> {
    let group_id = Cow::Borrowed(group);
    let topics = match found {
        Err(error) => {
            let error_code = error.0;
            return OffsetFetchResponseGroup { group_id, error_code, ..Default::default() };
        }
        Ok(topics) => topics,
    };
    let topics = (topics.iter())
        .map(|(name, topic_id, offsets)| OffsetFetchResponseTopics {
            name: Cow::Borrowed(&**name),
            topic_id: *topic_id,
            partitions: (offsets.iter())
                .map(|o| OffsetFetchResponsePartitions {
                    partition_index: o.partition,
                    committed_offset: o.offset,
                    committed_leader_epoch: o.leader_epoch,
                    metadata: Some(Cow::Borrowed(&*o.metadata)),
                    error_code: o.error.0,
                })
                .collect(),
        })
        .collect();
    OffsetFetchResponseGroup { group_id, topics, ..Default::default() }
}

pub(super) fn answer_offset_delete(
    cx: &mut ShardCx<'_, '_, Later>,
    token: RequestToken,
    group: &Arc<str>,
    results: Vec<(TopicPartition, ErrorCode)>,
    result: Result<(), ErrorCode>,
) {
    if let Err(error) = result {
        let error_code = error_of_write(error).0;
        return cx.respond(token, &OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() });
    }
    let mut topics: Vec<OffsetDeleteResponseTopic<'_>> = Vec::new();
    for (at, error) in &results {
        let part = OffsetDeleteResponsePartition { partition_index: at.partition, error_code: error.0 };
        match topics.last_mut().filter(|t| *t.name == *at.topic) {
            Some(topic) => topic.partitions.push(part),
            None => topics.push(OffsetDeleteResponseTopic {
                name: Cow::Borrowed(&*at.topic),
                partitions: alloc::vec![part],
            }),
        }
    }
    cx.respond(token, &OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() });
    let partitions = || results.iter().filter(|(_, e)| e.is_none()).map(|(p, _)| p.clone()).collect();
    cx.event(|| Event::OffsetsRemoved { group: group.clone(), partitions: partitions() });
}

/// A topic of a commit, by name or by id.
fn commit_topic<'t>(
    parts: &Parts<'_, '_>,
    by_id: bool,
    (name, id): (&str, Uuid),
    partitions: impl Iterator<Item = (i32, i64, i32, Option<&'t str>)>,
    expire_timestamp: Option<i64>,
) -> (CommitTopic, Vec<Committed>) {
    let topic = match by_id {
        true => parts.image.topics.topic(id),
        false => parts.image.topics.topic_named(name),
    };
    let unknown = if by_id { ErrorCode::UNKNOWN_TOPIC_ID } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
    let limit = parts.ctx.config.static_number("offset.metadata.max.bytes");
    let mut values = Vec::new();
    let mut results = Vec::new();
    for (partition, offset, leader_epoch, metadata) in partitions {
        let metadata = metadata.unwrap_or("");
        let error = match topic {
            None => unknown,
            Some(t) if !t.partitions.contains_key(&partition) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Some(_) if metadata.len() as i64 > limit => ErrorCode::OFFSET_METADATA_TOO_LARGE,
            Some(_) => ErrorCode::NONE,
        };
        results.push((partition, offset, error));
        values.push(Committed {
            offset,
            leader_epoch,
            metadata: shared(metadata),
            commit_timestamp: parts.ctx.now.wall_ms,
            expire_timestamp,
            topic_id: topic.map_or(id, |t| t.id),
        });
    }
    let name = topic.map_or_else(|| Arc::from(name), |t| t.name.clone());
    (CommitTopic { name, id, partitions: results }, values)
}

impl GroupCoordinator {
    /// OffsetCommit (8).
    pub fn handle_offset_commit(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &OffsetCommitRequest<'_>,
    ) {
        let now_ms = parts.ctx.now.wall_ms;
        let expire = (request.retention_time_ms >= 0).then(|| now_ms + request.retention_time_ms);
        let by_id = token.version >= 10;
        let topics: Commits = (request.topics.iter())
            .map(|topic: &OffsetCommitRequestTopic<'_>| {
                let partitions = topic.partitions.iter().map(|p| {
                    let metadata = p.committed_metadata.as_deref();
                    (p.partition_index, p.committed_offset, p.committed_leader_epoch, metadata)
                });
                commit_topic(parts, by_id, (&topic.name, topic.topic_id), partitions, expire)
            })
            .collect();
        let commit = Commit {
            group: &request.group_id,
            member: &request.member_id,
            instance: request.group_instance_id.as_deref(),
            generation: request.generation_id_or_member_epoch,
            transaction: None,
        };
        self.commit(parts, token, &commit, topics);
    }

    /// TxnOffsetCommit (28): once the transaction is verified, or begun in the group's partition.
    pub fn handle_txn_offset_commit(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &TxnOffsetCommitRequest<'_>,
    ) {
        let by_id = token.version >= 6;
        let topics: Commits = (request.topics.iter())
            .map(|topic: &TxnOffsetCommitRequestTopic<'_>| {
                let partitions = topic.partitions.iter().map(|p| {
                    let metadata = p.committed_metadata.as_deref();
                    (p.partition_index, p.committed_offset, p.committed_leader_epoch, metadata)
                });
                commit_topic(parts, by_id, (&topic.name, topic.topic_id), partitions, None)
            })
            .collect();
        let mut held = Verifying {
            token,
            group: request.group_id.to_string(),
            member: request.member_id.to_string(),
            instance: request.group_instance_id.as_deref().map(ToString::to_string),
            generation: request.generation_id_or_member_epoch,
            transaction: Transaction {
                producer_id: request.producer_id,
                producer_epoch: request.producer_epoch,
                verification: Verification::Off,
            },
            topics,
        };
        let number = self.next_request;
        self.next_request += 1;
        let Parts { ctx, image, replicas } = &mut *parts;
        let verified = self.partition_led(image, &held.group).and_then(|partition| {
            let producer = (request.producer_id, request.producer_epoch);
            let id = &request.transactional_id;
            replicas.verify_offsets(ctx, image, partition, id, producer, token.version, number).transpose()
        });
        match verified {
            Err(error) => self.refuse_commit(parts, &held.commit(), held.token, held.topics.clone(), error),
            Ok(Some(verification)) => {
                held.transaction.verification = verification;
                self.commit(parts, token, &held.commit(), held.topics.clone());
            }
            Ok(None) => {
                self.verifying.insert(number, held);
            }
        }
    }

    /// The transaction of a TxnOffsetCommit is verified, or refused.
    pub fn offsets_verified(&mut self, parts: &mut Parts<'_, '_>, verified: OffsetsVerified) {
        let Some(mut held) = self.verifying.remove(&verified.number) else { return };
        let topics = core::mem::take(&mut held.topics);
        match verified.result {
            Err(error) => {
                self.refuse_commit(parts, &held.commit(), held.token, topics, error_of_write(error));
            }
            Ok(verification) => {
                held.transaction.verification = verification;
                self.commit(parts, held.token, &held.commit(), topics);
            }
        }
    }

    fn commit(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        commit: &Commit<'_>,
        topics: Commits,
    ) {
        match self.partition_led(parts.image, commit.group) {
            Ok(partition) => {
                let _ =
                    self.runtime.with(parts, partition, |shard, cx| shard.commit(cx, token, commit, topics));
            }
            Err(error) => self.refuse_commit(parts, commit, token, topics, error),
        }
    }

    fn refuse_commit(
        &mut self,
        parts: &mut Parts<'_, '_>,
        commit: &Commit<'_>,
        token: RequestToken,
        topics: Commits,
        error: ErrorCode,
    ) {
        let pending = PendingCommit {
            token,
            group: Arc::from(commit.group),
            transactional: commit.transaction.is_some(),
            topics: topics.into_iter().map(|(topic, _)| topic).collect(),
        };
        let mut writes = Vec::new();
        let mut cx = ShardCx::outside(parts, &mut writes);
        pending.respond(&mut cx, error);
    }

    /// OffsetFetch (9).
    pub fn handle_offset_fetch(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &OffsetFetchRequest<'_>,
    ) {
        if token.version < 8 {
            return self.fetch_of_one_group(parts, token, request);
        }
        if let ([group], true) = (&request.groups[..], request.require_stable) {
            let found = self.fetch_stable(parts, token, group);
            let Err(error) = found else { return };
            let groups = alloc::vec![of_group(&group.group_id, Err(error))];
            let response = OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
            return parts.ctx.net.respond(parts.ctx.out, token, &response);
        }
        // Of several groups nobody waits for each other's writes: what is on its way is unstable, and asked for again.
        let stability = if request.require_stable { Stability::Now } else { Stability::Any };
        let found: Vec<Result<FetchedTopics, ErrorCode>> = (request.groups.iter())
            .map(|group| {
                let shard = self.shard_of(parts.image, &group.group_id)?;
                shard.check_fetch(group)?;
                let (topics, by_id) = (group.topics.as_deref(), token.version >= 10);
                Ok(shard.fetch(parts.image, &group.group_id, topics, by_id, stability))
            })
            .collect();
        let answers = request.groups.iter().zip(&found);
        let groups = answers.map(|(group, found)| of_group(&group.group_id, found.as_ref().map_err(|e| *e)));
        let response = OffsetFetchResponse { groups: groups.collect(), ..OffsetFetchResponse::default() };
        parts.ctx.net.respond(parts.ctx.out, token, &response);
    }

    /// Answers once what it tells is committed.
    fn fetch_stable(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        group: &OffsetFetchRequestGroup<'_>,
    ) -> Result<(), ErrorCode> {
        let partition = self.partition_led(parts.image, &group.group_id)?;
        self.runtime.with(parts, partition, |shard, cx| {
            shard.check_fetch(group)?;
            let (id, by_id) = (&*group.group_id, token.version >= 10);
            let topics = shard.fetch(cx.image, id, group.topics.as_deref(), by_id, Stability::Awaited);
            let group = id.to_string();
            cx.after_commit(Later::Fetched(Box::new(PendingFetch { token, group, topics })));
            Ok(())
        })?
    }

    fn fetch_of_one_group(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &OffsetFetchRequest<'_>,
    ) {
        let topics: Option<Vec<OffsetFetchRequestTopics<'_>>> = request.topics.as_ref().map(|topics| {
            let of_topic = |t: &wire::messages::offset_fetch_request::OffsetFetchRequestTopic<'_>| {
                OffsetFetchRequestTopics {
                    name: Cow::Owned(t.name.to_string()),
                    topic_id: Uuid::ZERO,
                    partition_indexes: t.partition_indexes.clone(),
                }
            };
            topics.iter().map(of_topic).collect()
        });
        let group = OffsetFetchRequestGroup {
            group_id: Cow::Borrowed(&*request.group_id),
            topics,
            ..OffsetFetchRequestGroup::default()
        };
        let found = match request.require_stable {
            true => match self.fetch_stable(parts, token, &group) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            false => self.shard_of(parts.image, &group.group_id).map(|shard| {
                shard.fetch(parts.image, &group.group_id, group.topics.as_deref(), false, Stability::Any)
            }),
        };
        let (found, error) = match found {
            Ok(found) => (found, ErrorCode::NONE),
            Err(error) => {
                let asked = group.topics.iter().flatten();
                (asked.map(|topic| refused(topic, error)).collect(), error)
            }
        };
        parts.ctx.net.respond(parts.ctx.out, token, &one_group(&found, error));
    }

    /// OffsetDelete (47).
    pub fn handle_offset_delete(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &OffsetDeleteRequest<'_>,
    ) {
        let result = match &*request.group_id {
            "" => Err(ErrorCode::INVALID_GROUP_ID),
            group => (self.runtime)
                .with_id(parts, group, |shard, cx| shard.delete_offsets(cx, token, request))
                .and_then(|result| result),
        };
        if let Err(error) = result {
            let response = OffsetDeleteResponse { error_code: error.0, ..OffsetDeleteResponse::default() };
            parts.ctx.net.respond(parts.ctx.out, token, &response);
        }
    }
}

//! What replicas of the metadata log say to each other, apart from its wire form.
//!
//! Requests and answers are small values of their own, so that an input can wait while the election state is being
//! made durable, and so that what the protocol does can be read without the nesting of topics and partitions. This
//! module turns them into Kafka's messages and back, and refuses what speaks of another cluster or partition.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use wire::drive::Endpoint;
use wire::error::ErrorCode;
use wire::messages as m;
use wire::{Rope, Uuid};

use super::change_rpc::{AddVoter, RemoveVoter, UpdateVoter, Versions};
use super::state::OffsetAndEpoch;
use super::voters::{ReplicaKey, VoterSet};

/// The topic of the metadata log.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

/// What one replica asks of another.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    Vote(Vote),
    BeginQuorumEpoch(BeginQuorumEpoch),
    EndQuorumEpoch(EndQuorumEpoch),
    Fetch(Fetch),
    FetchSnapshot(FetchSnapshot),
    /// Asked by clients and by brokers on their behalf.
    DescribeQuorum,
    /// Asked by the same, and by a controller that joins.
    AddVoter(AddVoter),
    RemoveVoter(RemoveVoter),
    UpdateVoter(UpdateVoter),
    /// Asked of a node that is to vote.
    ApiVersions,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Vote {
    /// Whom it is meant for.
    pub(super) voter: Option<ReplicaKey>,
    pub(super) replica: ReplicaKey,
    /// The epoch in which it stands; in a pre-vote the epoch in which it is.
    pub(super) epoch: i32,
    /// The end of its log.
    pub(super) last: OffsetAndEpoch,
    pub(super) pre_vote: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BeginQuorumEpoch {
    /// Whom it is meant for.
    pub(super) voter: Option<ReplicaKey>,
    pub(super) leader: i32,
    pub(super) epoch: i32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct EndQuorumEpoch {
    pub(super) leader: i32,
    pub(super) epoch: i32,
    pub(super) preferred_candidates: Vec<ReplicaKey>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fetch {
    pub(super) replica: ReplicaKey,
    pub(super) epoch: i32,
    /// The end of its log.
    pub(super) from: OffsetAndEpoch,
    /// The high watermark that it knows, -1 for none; replicas of before KIP-1166 seem to know all.
    pub(super) high_watermark: i64,
    pub(super) max_bytes: i32,
    pub(super) max_wait_ms: i32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FetchSnapshot {
    pub(super) replica: ReplicaKey,
    pub(super) epoch: i32,
    pub(super) snapshot: OffsetAndEpoch,
    pub(super) position: i64,
    pub(super) max_bytes: i32,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Response {
    /// The request was not understood as a whole.
    Refused(ErrorCode),
    Vote(Standing, bool),
    BeginQuorumEpoch(Standing),
    EndQuorumEpoch(Standing),
    Fetch(Standing, Fetched),
    FetchSnapshot(Standing, SnapshotChunk),
    DescribeQuorum(ErrorCode, Option<QuorumDescription>),
    /// With a text that is not the error's own.
    AddVoter(ErrorCode, Option<String>),
    RemoveVoter(ErrorCode, Option<String>),
    UpdateVoter(Standing),
    Versions(Versions),
}

/// Where the answering replica stands: every answer says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) error: ErrorCode,
    pub(super) leader: Option<i32>,
    pub(super) epoch: i32,
}

/// What a Fetch brought.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fetched {
    pub(super) high_watermark: Option<i64>,
    pub(super) log_start_offset: i64,
    pub(super) diverging: Option<OffsetAndEpoch>,
    pub(super) snapshot: Option<OffsetAndEpoch>,
    pub(super) records: Rope,
}

/// What a FetchSnapshot brought.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SnapshotChunk {
    /// Absent when the leader does not have it.
    pub(super) snapshot: Option<OffsetAndEpoch>,
    pub(super) size: i64,
    pub(super) position: i64,
    pub(super) bytes: Rope,
}

/// What the leader says of the quorum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QuorumDescription {
    pub(super) leader: i32,
    pub(super) epoch: i32,
    pub(super) high_watermark: Option<i64>,
    pub(super) voters: Vec<ReplicaDescription>,
    pub(super) observers: Vec<ReplicaDescription>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ReplicaDescription {
    pub(super) key: ReplicaKey,
    pub(super) log_end_offset: i64,
    pub(super) last_fetch_ms: i64,
    pub(super) last_caught_up_ms: i64,
}

// --- requests, read

/// The only partition of the only topic of a request, if these are the metadata log's.
fn only<'t, T, P>(
    topics: &'t [T],
    is_metadata: impl Fn(&T) -> bool,
    partitions: impl Fn(&'t T) -> &'t [P],
    index: impl Fn(&P) -> i32,
) -> Result<&'t P, ErrorCode> {
    match topics {
        [topic] if is_metadata(topic) => match partitions(topic) {
            [partition] if index(partition) == 0 => Ok(partition),
            _ => Err(ErrorCode::INVALID_REQUEST),
        },
        _ => Err(ErrorCode::INVALID_REQUEST),
    }
}

fn check_cluster(cluster_id: &str, given: Option<&str>) -> Result<(), ErrorCode> {
    match given {
        Some(given) if given != cluster_id => Err(ErrorCode::INCONSISTENT_CLUSTER_ID),
        _ => Ok(()),
    }
}

fn voter_key(id: i32, directory_id: Uuid) -> Option<ReplicaKey> {
    (id >= 0).then(|| ReplicaKey::new(id, directory_id))
}

pub(super) fn read_vote(request: &m::VoteRequest<'_>, cluster_id: &str) -> Result<Request, ErrorCode> {
    check_cluster(cluster_id, request.cluster_id.as_deref())?;
    let p =
        only(&request.topics, |t| t.topic_name == METADATA_TOPIC, |t| &t.partitions, |p| p.partition_index)?;
    Ok(Request::Vote(Vote {
        voter: voter_key(request.voter_id, p.voter_directory_id),
        replica: ReplicaKey::new(p.replica_id, p.replica_directory_id),
        epoch: p.replica_epoch,
        last: OffsetAndEpoch::new(p.last_offset, p.last_offset_epoch),
        pre_vote: p.pre_vote,
    }))
}

pub(super) fn read_begin_quorum_epoch(
    request: &m::BeginQuorumEpochRequest<'_>,
    cluster_id: &str,
) -> Result<Request, ErrorCode> {
    check_cluster(cluster_id, request.cluster_id.as_deref())?;
    let p =
        only(&request.topics, |t| t.topic_name == METADATA_TOPIC, |t| &t.partitions, |p| p.partition_index)?;
    let voter = voter_key(request.voter_id, p.voter_directory_id);
    Ok(Request::BeginQuorumEpoch(BeginQuorumEpoch { voter, leader: p.leader_id, epoch: p.leader_epoch }))
}

pub(super) fn read_end_quorum_epoch(
    request: &m::EndQuorumEpochRequest<'_>,
    cluster_id: &str,
) -> Result<Request, ErrorCode> {
    check_cluster(cluster_id, request.cluster_id.as_deref())?;
    let p =
        only(&request.topics, |t| t.topic_name == METADATA_TOPIC, |t| &t.partitions, |p| p.partition_index)?;
    let candidates = p.preferred_candidates.iter().map(|c| (c.candidate_id, c.candidate_directory_id));
    let successors = p.preferred_successors.iter().map(|id| (*id, Uuid::ZERO));
    let preferred_candidates =
        candidates.chain(successors).map(|(id, dir)| ReplicaKey::new(id, dir)).collect();
    Ok(Request::EndQuorumEpoch(EndQuorumEpoch {
        leader: p.leader_id,
        epoch: p.leader_epoch,
        preferred_candidates,
    }))
}

pub(super) fn read_fetch(request: &m::FetchRequest<'_>, cluster_id: &str) -> Result<Request, ErrorCode> {
    check_cluster(cluster_id, request.cluster_id.as_deref())?;
    let is_metadata = |t: &m::fetch_request::FetchTopic<'_>| {
        t.topic_id == Uuid::METADATA_TOPIC || (t.topic_id.is_zero() && t.topic == METADATA_TOPIC)
    };
    let p = only(&request.topics, is_metadata, |t| &t.partitions, |p| p.partition)?;
    let id = if request.replica_state.replica_id >= 0 {
        request.replica_state.replica_id
    } else {
        request.replica_id
    };
    Ok(Request::Fetch(Fetch {
        replica: ReplicaKey::new(id, p.replica_directory_id),
        epoch: p.current_leader_epoch,
        from: OffsetAndEpoch::new(p.fetch_offset, p.last_fetched_epoch),
        high_watermark: p.high_watermark,
        max_bytes: request.max_bytes,
        max_wait_ms: request.max_wait_ms,
    }))
}

pub(super) fn read_fetch_snapshot(
    request: &m::FetchSnapshotRequest<'_>,
    cluster_id: &str,
) -> Result<Request, ErrorCode> {
    check_cluster(cluster_id, request.cluster_id.as_deref())?;
    let p = only(&request.topics, |_| true, |t| &t.partitions, |p| p.partition);
    let known = request.topics.first().is_some_and(|t| t.name == METADATA_TOPIC);
    let p = p.map_err(|error| if known { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION } else { error })?;
    if !known {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    Ok(Request::FetchSnapshot(FetchSnapshot {
        replica: ReplicaKey::new(request.replica_id, p.replica_directory_id),
        epoch: p.current_leader_epoch,
        snapshot: OffsetAndEpoch::new(p.snapshot_id.end_offset, p.snapshot_id.epoch),
        position: p.position,
        max_bytes: request.max_bytes,
    }))
}

pub(super) fn read_describe_quorum(request: &m::DescribeQuorumRequest<'_>) -> Result<Request, ErrorCode> {
    only(&request.topics, |t| t.topic_name == METADATA_TOPIC, |t| &t.partitions, |p| p.partition_index)
        .map(|_| Request::DescribeQuorum)
        .map_err(|_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

// --- requests, written

/// What every request says of its sender and goes to: shared by the writers.
pub(super) struct Writing<'a> {
    pub(super) cluster_id: &'a str,
    pub(super) voters: &'a VoterSet,
    /// This node's own listeners.
    pub(super) local: &'a [(Arc<str>, Endpoint)],
    /// Where the leader is, whether it votes or not.
    pub(super) leader_at: Option<(i32, &'a Endpoint)>,
}

impl<'a> Writing<'a> {
    pub(super) fn vote(&self, vote: &Vote) -> m::VoteRequest<'a> {
        use m::vote_request::{PartitionData, TopicData};
        m::VoteRequest {
            cluster_id: Some(Cow::Borrowed(self.cluster_id)),
            voter_id: vote.voter.map_or(-1, |key| key.id),
            topics: vec![TopicData {
                topic_name: Cow::Borrowed(METADATA_TOPIC),
                partitions: vec![PartitionData {
                    partition_index: 0,
                    replica_epoch: vote.epoch,
                    replica_id: vote.replica.id,
                    replica_directory_id: vote.replica.directory_id,
                    voter_directory_id: vote.voter.map_or(Uuid::ZERO, |key| key.directory_id),
                    last_offset_epoch: vote.last.epoch,
                    last_offset: vote.last.offset,
                    pre_vote: vote.pre_vote,
                }],
            }],
        }
    }

    pub(super) fn begin_quorum_epoch(&self, begin: &BeginQuorumEpoch) -> m::BeginQuorumEpochRequest<'a> {
        use m::begin_quorum_epoch_request::{LeaderEndpoint, PartitionData, TopicData};
        let listeners = self.local;
        m::BeginQuorumEpochRequest {
            cluster_id: Some(Cow::Borrowed(self.cluster_id)),
            voter_id: begin.voter.map_or(-1, |key| key.id),
            topics: vec![TopicData {
                topic_name: Cow::Borrowed(METADATA_TOPIC),
                partitions: vec![PartitionData {
                    partition_index: 0,
                    voter_directory_id: begin.voter.map_or(Uuid::ZERO, |key| key.directory_id),
                    leader_id: begin.leader,
                    leader_epoch: begin.epoch,
                }],
            }],
            leader_endpoints: listeners
                .iter()
                .map(|(name, at)| LeaderEndpoint {
                    name: Cow::Borrowed(name),
                    host: Cow::Borrowed(&at.host),
                    port: at.port,
                })
                .collect(),
        }
    }

    pub(super) fn end_quorum_epoch(&self, end: &EndQuorumEpoch) -> m::EndQuorumEpochRequest<'a> {
        use m::end_quorum_epoch_request::{LeaderEndpoint, PartitionData, ReplicaInfo, TopicData};
        let listeners = self.local;
        let candidate =
            |key: &ReplicaKey| ReplicaInfo { candidate_id: key.id, candidate_directory_id: key.directory_id };
        m::EndQuorumEpochRequest {
            cluster_id: Some(Cow::Borrowed(self.cluster_id)),
            topics: vec![TopicData {
                topic_name: Cow::Borrowed(METADATA_TOPIC),
                partitions: vec![PartitionData {
                    partition_index: 0,
                    leader_id: end.leader,
                    leader_epoch: end.epoch,
                    preferred_successors: Vec::new(),
                    preferred_candidates: end.preferred_candidates.iter().map(candidate).collect(),
                }],
            }],
            leader_endpoints: listeners
                .iter()
                .map(|(name, at)| LeaderEndpoint {
                    name: Cow::Borrowed(name),
                    host: Cow::Borrowed(&at.host),
                    port: at.port,
                })
                .collect(),
        }
    }

    pub(super) fn fetch(&self, fetch: &Fetch) -> m::FetchRequest<'a> {
        use m::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
        m::FetchRequest {
            cluster_id: Some(Cow::Borrowed(self.cluster_id)),
            replica_state: ReplicaState { replica_id: fetch.replica.id, replica_epoch: -1 },
            max_wait_ms: fetch.max_wait_ms,
            max_bytes: fetch.max_bytes,
            topics: vec![FetchTopic {
                topic: Cow::Borrowed(""),
                topic_id: Uuid::METADATA_TOPIC,
                partitions: vec![FetchPartition {
                    partition: 0,
                    current_leader_epoch: fetch.epoch,
                    fetch_offset: fetch.from.offset,
                    last_fetched_epoch: fetch.from.epoch,
                    partition_max_bytes: 0,
                    replica_directory_id: fetch.replica.directory_id,
                    high_watermark: fetch.high_watermark,
                    ..FetchPartition::default()
                }],
            }],
            ..m::FetchRequest::default()
        }
    }

    pub(super) fn fetch_snapshot(&self, fetch: &FetchSnapshot) -> m::FetchSnapshotRequest<'a> {
        use m::fetch_snapshot_request::{PartitionSnapshot, SnapshotId, TopicSnapshot};
        m::FetchSnapshotRequest {
            cluster_id: Some(Cow::Borrowed(self.cluster_id)),
            replica_id: fetch.replica.id,
            max_bytes: fetch.max_bytes,
            topics: vec![TopicSnapshot {
                name: Cow::Borrowed(METADATA_TOPIC),
                partitions: vec![PartitionSnapshot {
                    partition: 0,
                    current_leader_epoch: fetch.epoch,
                    snapshot_id: SnapshotId {
                        end_offset: fetch.snapshot.offset,
                        epoch: fetch.snapshot.epoch,
                    },
                    position: fetch.position,
                    replica_directory_id: fetch.replica.directory_id,
                }],
            }],
        }
    }

    // --- answers, written

    pub(super) fn vote_response(
        &self,
        version: i16,
        standing: Standing,
        granted: bool,
    ) -> m::VoteResponse<'a> {
        use m::vote_response::{NodeEndpoint, PartitionData, TopicData};
        m::VoteResponse {
            error_code: 0,
            topics: vec![TopicData {
                topic_name: Cow::Borrowed(METADATA_TOPIC),
                partitions: vec![PartitionData {
                    partition_index: 0,
                    error_code: standing.error.0,
                    leader_id: standing.leader.unwrap_or(-1),
                    leader_epoch: standing.epoch,
                    vote_granted: granted,
                }],
            }],
            node_endpoints: self
                .leader_at(version >= 1, standing)
                .map(|(node_id, host, port)| NodeEndpoint { node_id, host, port })
                .collect(),
        }
    }

    pub(super) fn begin_quorum_epoch_response(
        &self,
        version: i16,
        standing: Standing,
    ) -> m::BeginQuorumEpochResponse<'a> {
        use m::begin_quorum_epoch_response::{NodeEndpoint, PartitionData, TopicData};
        m::BeginQuorumEpochResponse {
            error_code: 0,
            topics: vec![TopicData {
                topic_name: Cow::Borrowed(METADATA_TOPIC),
                partitions: vec![PartitionData {
                    partition_index: 0,
                    error_code: standing.error.0,
                    leader_id: standing.leader.unwrap_or(-1),
                    leader_epoch: standing.epoch,
                }],
            }],
            node_endpoints: self
                .leader_at(version >= 1, standing)
                .map(|(node_id, host, port)| NodeEndpoint { node_id, host, port })
                .collect(),
        }
    }

    pub(super) fn end_quorum_epoch_response(
        &self,
        version: i16,
        standing: Standing,
    ) -> m::EndQuorumEpochResponse<'a> {
        use m::end_quorum_epoch_response::{NodeEndpoint, PartitionData, TopicData};
        m::EndQuorumEpochResponse {
            error_code: 0,
            topics: vec![TopicData {
                topic_name: Cow::Borrowed(METADATA_TOPIC),
                partitions: vec![PartitionData {
                    partition_index: 0,
                    error_code: standing.error.0,
                    leader_id: standing.leader.unwrap_or(-1),
                    leader_epoch: standing.epoch,
                }],
            }],
            node_endpoints: self
                .leader_at(version >= 1, standing)
                .map(|(node_id, host, port)| NodeEndpoint { node_id, host, port })
                .collect(),
        }
    }

    pub(super) fn fetch_response(
        &self,
        version: i16,
        standing: Standing,
        fetched: &Fetched,
    ) -> m::FetchResponse<'a> {
        use m::fetch_response as r;
        let diverging = fetched.diverging.map_or((-1, -1), |p| (p.epoch, p.offset));
        let snapshot = fetched.snapshot.map_or((-1, -1), |p| (p.epoch, p.offset));
        m::FetchResponse {
            responses: vec![r::FetchableTopicResponse {
                topic: Cow::Borrowed(METADATA_TOPIC),
                topic_id: Uuid::METADATA_TOPIC,
                partitions: vec![r::PartitionData {
                    partition_index: 0,
                    error_code: standing.error.0,
                    high_watermark: fetched.high_watermark.unwrap_or(-1),
                    log_start_offset: fetched.log_start_offset,
                    diverging_epoch: r::EpochEndOffset { epoch: diverging.0, end_offset: diverging.1 },
                    current_leader: r::LeaderIdAndEpoch {
                        leader_id: standing.leader.unwrap_or(-1),
                        leader_epoch: standing.epoch,
                    },
                    snapshot_id: r::SnapshotId { end_offset: snapshot.1, epoch: snapshot.0 },
                    records: Some(fetched.records.clone()),
                    ..r::PartitionData::default()
                }],
            }],
            node_endpoints: self
                .leader_at(version >= 17, standing)
                .map(|(node_id, host, port)| r::NodeEndpoint { node_id, host, port: port.into(), rack: None })
                .collect(),
            ..m::FetchResponse::default()
        }
    }

    pub(super) fn fetch_snapshot_response(
        &self,
        version: i16,
        standing: Standing,
        chunk: &SnapshotChunk,
    ) -> m::FetchSnapshotResponse<'a> {
        use m::fetch_snapshot_response as r;
        let snapshot = chunk.snapshot.map_or((0, 0), |p| (p.offset, p.epoch));
        m::FetchSnapshotResponse {
            topics: vec![r::TopicSnapshot {
                name: Cow::Borrowed(METADATA_TOPIC),
                partitions: vec![r::PartitionSnapshot {
                    index: 0,
                    error_code: standing.error.0,
                    snapshot_id: r::SnapshotId { end_offset: snapshot.0, epoch: snapshot.1 },
                    current_leader: r::LeaderIdAndEpoch {
                        leader_id: standing.leader.unwrap_or(-1),
                        leader_epoch: standing.epoch,
                    },
                    size: chunk.size,
                    position: chunk.position,
                    unaligned_records: Some(chunk.bytes.clone()),
                }],
            }],
            node_endpoints: self
                .leader_at(version >= 1, standing)
                .map(|(node_id, host, port)| r::NodeEndpoint { node_id, host, port })
                .collect(),
            ..m::FetchSnapshotResponse::default()
        }
    }

    pub(super) fn describe_quorum_response(
        &self,
        version: i16,
        error: ErrorCode,
        description: Option<&QuorumDescription>,
    ) -> m::DescribeQuorumResponse<'a> {
        use m::describe_quorum_response as r;
        let replica = |it: &ReplicaDescription| r::ReplicaState {
            replica_id: it.key.id,
            replica_directory_id: if version >= 2 { it.key.directory_id } else { Uuid::ZERO },
            log_end_offset: it.log_end_offset,
            last_fetch_timestamp: it.last_fetch_ms,
            last_caught_up_timestamp: it.last_caught_up_ms,
        };
        let partition = match description {
            Some(it) => r::PartitionData {
                leader_id: it.leader,
                leader_epoch: it.epoch,
                high_watermark: it.high_watermark.unwrap_or(-1),
                current_voters: it.voters.iter().map(replica).collect(),
                observers: it.observers.iter().map(replica).collect(),
                ..r::PartitionData::default()
            },
            None => r::PartitionData {
                error_code: error.0,
                error_message: (version >= 2).then(|| Cow::Borrowed(error.message())),
                ..r::PartitionData::default()
            },
        };
        let listed = version >= 2 && description.is_some();
        m::DescribeQuorumResponse {
            topics: vec![r::TopicData {
                topic_name: Cow::Borrowed(METADATA_TOPIC),
                partitions: vec![partition],
            }],
            nodes: self.voters.nodes().iter().filter(|_| listed).map(describe_node).collect(),
            ..m::DescribeQuorumResponse::default()
        }
    }

    /// The leader's endpoint, where the version has room for it.
    fn leader_at(
        &self,
        has_endpoints: bool,
        standing: Standing,
    ) -> impl Iterator<Item = (i32, Cow<'a, str>, u16)> + use<'a> {
        let leader = standing.leader.filter(|_| has_endpoints);
        let at = self.endpoint_of_leader(leader);
        leader.zip(at).map(|(id, at)| (id, Cow::Borrowed(&*at.host), at.port)).into_iter()
    }

    /// Where a leader is: perhaps it votes no more, or the log does not say yet that it does.
    pub(super) fn endpoint_of_leader(&self, leader: Option<i32>) -> Option<&'a Endpoint> {
        let known = self.leader_at.filter(|(id, _)| Some(*id) == leader).map(|(_, at)| at);
        known.or_else(|| self.voters.endpoint(leader?))
    }
}

fn describe_node(node: &super::voters::VoterNode) -> m::describe_quorum_response::Node<'_> {
    use m::describe_quorum_response::{Listener, Node};
    Node {
        node_id: node.key.id,
        listeners: node
            .listeners
            .iter()
            .map(|(name, at)| Listener {
                name: Cow::Borrowed(name),
                host: Cow::Borrowed(&at.host),
                port: at.port,
            })
            .collect(),
    }
}

// --- answers, read

fn standing(error: i16, leader: i32, epoch: i32) -> Standing {
    Standing { error: ErrorCode(error), leader: (leader >= 0).then_some(leader), epoch }
}

/// Whether an answer as a whole is an error.
fn whole(error_code: i16) -> Result<(), ErrorCode> {
    if error_code == 0 { Ok(()) } else { Err(ErrorCode(error_code)) }
}

/// The answer, or the refusal that it is.
fn or_refused(response: Result<Response, ErrorCode>) -> Response {
    response.unwrap_or_else(Response::Refused)
}

pub(super) fn read_vote_response(response: &m::VoteResponse<'_>) -> Response {
    or_refused(whole(response.error_code).and_then(|()| {
        let p = only(
            &response.topics,
            |t| t.topic_name == METADATA_TOPIC,
            |t| &t.partitions,
            |p| p.partition_index,
        )?;
        Ok(Response::Vote(standing(p.error_code, p.leader_id, p.leader_epoch), p.vote_granted))
    }))
}

pub(super) fn read_begin_quorum_epoch_response(response: &m::BeginQuorumEpochResponse<'_>) -> Response {
    or_refused(whole(response.error_code).and_then(|()| {
        let p = only(
            &response.topics,
            |t| t.topic_name == METADATA_TOPIC,
            |t| &t.partitions,
            |p| p.partition_index,
        )?;
        Ok(Response::BeginQuorumEpoch(standing(p.error_code, p.leader_id, p.leader_epoch)))
    }))
}

pub(super) fn read_end_quorum_epoch_response(response: &m::EndQuorumEpochResponse<'_>) -> Response {
    or_refused(whole(response.error_code).and_then(|()| {
        let p = only(
            &response.topics,
            |t| t.topic_name == METADATA_TOPIC,
            |t| &t.partitions,
            |p| p.partition_index,
        )?;
        Ok(Response::EndQuorumEpoch(standing(p.error_code, p.leader_id, p.leader_epoch)))
    }))
}

pub(super) fn read_fetch_response(response: m::FetchResponse<'_>) -> Response {
    let is_metadata = |t: &m::fetch_response::FetchableTopicResponse<'_>| {
        t.topic_id == Uuid::METADATA_TOPIC || (t.topic_id.is_zero() && t.topic == METADATA_TOPIC)
    };
    or_refused(whole(response.error_code).and_then(|()| {
        let p = only(&response.responses, is_metadata, |t| &t.partitions, |p| p.partition_index)?;
        let at = standing(p.error_code, p.current_leader.leader_id, p.current_leader.leader_epoch);
        // A point with one part missing is kept as it is: the follower refuses it.
        let point = |epoch: i32, offset: i64| {
            (epoch != -1 || offset != -1).then(|| OffsetAndEpoch::new(offset, epoch))
        };
        let fetched = Fetched {
            high_watermark: (p.high_watermark >= 0).then_some(p.high_watermark),
            log_start_offset: p.log_start_offset,
            diverging: point(p.diverging_epoch.epoch, p.diverging_epoch.end_offset),
            snapshot: point(p.snapshot_id.epoch, p.snapshot_id.end_offset),
            records: p.records.clone().unwrap_or_default(),
        };
        Ok(Response::Fetch(at, fetched))
    }))
}

pub(super) fn read_fetch_snapshot_response(response: m::FetchSnapshotResponse<'_>) -> Response {
    or_refused(whole(response.error_code).and_then(|()| {
        let p = only(&response.topics, |t| t.name == METADATA_TOPIC, |t| &t.partitions, |p| p.index)?;
        let at = standing(p.error_code, p.current_leader.leader_id, p.current_leader.leader_epoch);
        let known = p.error_code == 0 && p.snapshot_id.end_offset >= 0 && p.snapshot_id.epoch >= 0;
        let chunk = SnapshotChunk {
            snapshot: known.then(|| OffsetAndEpoch::new(p.snapshot_id.end_offset, p.snapshot_id.epoch)),
            size: p.size,
            position: p.position,
            bytes: p.unaligned_records.clone().unwrap_or_default(),
        };
        Ok(Response::FetchSnapshot(at, chunk))
    }))
}

//! Requests and answers survive their wire form, in every version that the quorum uses or is asked in.

use alloc::vec;
use bytes::Bytes;
use wire::error::ErrorCode;
use wire::{Message, Reader, Rope, Uuid, Writer};

use super::super::change_rpc::*;
use super::super::rpc::*;
use super::super::*;
use super::cluster::Cluster;

const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

fn bytes_of<'a>(message: &impl Message<'a>, version: i16) -> Rope {
    let mut w = Writer::new();
    message.encode(&mut w, version).unwrap();
    w.finish().unwrap()
}

fn read<'a, M: Message<'a>>(bytes: &'a Rope, version: i16) -> M {
    let mut reader = Reader::new(bytes);
    let message = M::decode(&mut reader, version).unwrap();
    reader.finish().unwrap();
    message
}

fn writing(voters: &VoterSet) -> Writing<'_> {
    Writing { cluster_id: CLUSTER_ID, voters, local: &[], leader_at: None }
}

/// What arrives of a request, in the version in which it is sent.
pub(super) fn request(request: &Request, voters: &VoterSet) -> Request {
    let w = writing(voters);
    let read = match request {
        Request::Vote(it) => read_vote(&read(&bytes_of(&w.vote(it), 2), 2), CLUSTER_ID),
        Request::BeginQuorumEpoch(it) => {
            read_begin_quorum_epoch(&read(&bytes_of(&w.begin_quorum_epoch(it), 1), 1), CLUSTER_ID)
        }
        Request::EndQuorumEpoch(it) => {
            read_end_quorum_epoch(&read(&bytes_of(&w.end_quorum_epoch(it), 1), 1), CLUSTER_ID)
        }
        Request::Fetch(it) => read_fetch(&read(&bytes_of(&w.fetch(it), 18), 18), CLUSTER_ID),
        Request::FetchSnapshot(it) => {
            read_fetch_snapshot(&read(&bytes_of(&w.fetch_snapshot(it), 1), 1), CLUSTER_ID)
        }
        Request::DescribeQuorum => Ok(Request::DescribeQuorum),
        Request::ApiVersions => Ok(Request::ApiVersions),
        Request::AddVoter(it) => Ok(read_add_voter(&read(&bytes_of(&w.add_voter(it, 2_000), 1), 1))),
        Request::RemoveVoter(it) => Ok(read_remove_voter(&read(&bytes_of(&w.remove_voter(it), 0), 0))),
        Request::UpdateVoter(it) => Ok(read_update_voter(&read(&bytes_of(&w.update_voter(it), 0), 0))),
    };
    read.expect("a request of this cluster")
}

/// What arrives of an answer.
pub(super) fn response(response: &Response, voters: &VoterSet) -> Response {
    let w = writing(voters);
    match response {
        Response::Vote(at, granted) => {
            read_vote_response(&read(&bytes_of(&w.vote_response(2, *at, *granted), 2), 2))
        }
        Response::BeginQuorumEpoch(at) => {
            read_begin_quorum_epoch_response(&read(&bytes_of(&w.begin_quorum_epoch_response(1, *at), 1), 1))
        }
        Response::EndQuorumEpoch(at) => {
            read_end_quorum_epoch_response(&read(&bytes_of(&w.end_quorum_epoch_response(1, *at), 1), 1))
        }
        Response::Fetch(at, it) => {
            read_fetch_response(read(&bytes_of(&w.fetch_response(18, *at, it), 18), 18))
        }
        Response::FetchSnapshot(at, it) => {
            read_fetch_snapshot_response(read(&bytes_of(&w.fetch_snapshot_response(1, *at, it), 1), 1))
        }
        Response::Refused(error) => Response::Refused(*error),
        Response::DescribeQuorum(error, it) => Response::DescribeQuorum(*error, it.clone()),
        Response::UpdateVoter(at) => {
            read_update_voter_response(&read(&bytes_of(&w.update_voter_response(*at), 0), 0))
        }
        // A text is for people: a replica reads the code.
        Response::AddVoter(error, _) => Response::AddVoter(*error, None),
        Response::RemoveVoter(error, _) => Response::RemoveVoter(*error, None),
        Response::Versions(versions) => {
            let feature =
                |(min_version, max_version)| wire::messages::api_versions_response::SupportedFeatureKey {
                    name: "kraft.version".into(),
                    min_version,
                    max_version,
                };
            let sent = wire::messages::ApiVersionsResponse {
                error_code: versions.error.0,
                supported_features: versions.kraft.map(feature).into_iter().collect(),
                ..Default::default()
            };
            read_api_versions_response(&read(&bytes_of(&sent, 4), 4))
        }
    }
}

#[test]
fn what_is_said_is_what_is_heard() {
    let voters = super::stories::voters(3);
    let key = ReplicaKey::new(2, Uuid([2; 16]));
    let point = OffsetAndEpoch::new(17, 3);
    let vote = |pre_vote| Vote {
        voter: Some(key),
        replica: ReplicaKey::new(1, Uuid([1; 16])),
        epoch: 4,
        last: point,
        pre_vote,
    };
    let requests = [
        Request::Vote(vote(true)),
        Request::Vote(vote(false)),
        Request::BeginQuorumEpoch(BeginQuorumEpoch { voter: Some(key), leader: 1, epoch: 4 }),
        Request::EndQuorumEpoch(EndQuorumEpoch { leader: 1, epoch: 4, preferred_candidates: vec![key] }),
        Request::Fetch(Fetch {
            replica: key,
            epoch: 4,
            from: point,
            high_watermark: 9,
            max_bytes: 100,
            max_wait_ms: 500,
        }),
        Request::FetchSnapshot(FetchSnapshot {
            replica: key,
            epoch: 4,
            snapshot: point,
            position: 77,
            max_bytes: 100,
        }),
    ];
    for it in requests {
        assert_eq!(request(&it, &voters), it);
    }
    let cluster_id = Some(CLUSTER_ID.to_string());
    let node = VoterNode { key, supported_kraft_versions: (0, 1), ..voters.nodes()[1].clone() };
    let changes = [
        Request::AddVoter(AddVoter {
            cluster_id: None,
            voter: Some(key),
            listeners: node.listeners.clone(),
            ack_when_committed: false,
        }),
        Request::RemoveVoter(RemoveVoter { cluster_id: cluster_id.clone(), voter: None }),
        Request::UpdateVoter(UpdateVoter { cluster_id, epoch: 4, node }),
    ];
    for it in changes {
        assert_eq!(request(&it, &voters), it);
    }
    let at = Standing { error: ErrorCode::NONE, leader: Some(1), epoch: 4 };
    let nobody = Standing { error: ErrorCode::FENCED_LEADER_EPOCH, leader: None, epoch: 4 };
    let fetched = |diverging, snapshot, records: &'static str| Fetched {
        high_watermark: Some(9),
        log_start_offset: 3,
        diverging,
        snapshot,
        records: Rope::from(Bytes::from_static(records.as_bytes())),
    };
    let chunk = SnapshotChunk {
        snapshot: Some(point),
        size: 9,
        position: 5,
        bytes: Rope::from(Bytes::from_static(b"abcd")),
    };
    let responses = [
        Response::Vote(at, true),
        Response::Vote(nobody, false),
        Response::BeginQuorumEpoch(at),
        Response::EndQuorumEpoch(nobody),
        Response::Fetch(at, fetched(None, None, "records")),
        Response::Fetch(at, fetched(Some(point), None, "")),
        Response::Fetch(nobody, Fetched { high_watermark: None, ..fetched(None, Some(point), "") }),
        Response::FetchSnapshot(at, chunk),
        Response::FetchSnapshot(
            Standing { error: ErrorCode::SNAPSHOT_NOT_FOUND, ..at },
            SnapshotChunk { snapshot: None, size: 0, position: 0, bytes: Rope::new() },
        ),
    ];
    for it in responses {
        assert_eq!(response(&it, &voters), it);
    }
}

#[test]
fn answers_can_be_written_in_every_version() {
    let voters = super::stories::voters(3);
    let w = writing(&voters);
    let at = Standing { error: ErrorCode::NONE, leader: Some(1), epoch: 4 };
    (0..=2).for_each(|v| drop(bytes_of(&w.vote_response(v, at, true), v)));
    (0..=1).for_each(|v| drop(bytes_of(&w.begin_quorum_epoch_response(v, at), v)));
    (0..=1).for_each(|v| drop(bytes_of(&w.end_quorum_epoch_response(v, at), v)));
    let fetched = Fetched {
        high_watermark: Some(1),
        log_start_offset: 0,
        diverging: None,
        snapshot: None,
        records: Rope::new(),
    };
    (12..=18).for_each(|v| drop(bytes_of(&w.fetch_response(v, at, &fetched), v)));
    let chunk = SnapshotChunk { snapshot: None, size: 0, position: 0, bytes: Rope::new() };
    (0..=1).for_each(|v| drop(bytes_of(&w.fetch_snapshot_response(v, at, &chunk), v)));
    let replica = ReplicaDescription {
        key: ReplicaKey::new(11, Uuid([11; 16])),
        log_end_offset: 5,
        last_fetch_ms: 6,
        last_caught_up_ms: 7,
    };
    let description = QuorumDescription {
        leader: 1,
        epoch: 4,
        high_watermark: None,
        voters: vec![replica],
        observers: vec![replica],
    };
    for v in 0..=2 {
        let bytes = bytes_of(&w.describe_quorum_response(v, ErrorCode::NONE, Some(&description)), v);
        let read: wire::messages::DescribeQuorumResponse<'_> = read(&bytes, v);
        assert_eq!(read.topics[0].partitions[0].observers[0].log_end_offset, 5);
        assert_eq!(read.nodes.len(), if v >= 2 { 3 } else { 0 });
        bytes_of(&w.describe_quorum_response(v, ErrorCode::NOT_LEADER_OR_FOLLOWER, None), v);
    }
}

#[test]
fn other_clusters_and_partitions_are_refused() {
    use wire::messages as m;
    let voters = super::stories::voters(3);
    let w = writing(&voters);
    let fetch = Fetch {
        replica: ReplicaKey::new(2, Uuid::ZERO),
        epoch: 1,
        from: OffsetAndEpoch::new(0, 0),
        high_watermark: -1,
        max_bytes: 1,
        max_wait_ms: 0,
    };
    let mut request = w.fetch(&fetch);
    assert!(read_fetch(&request, CLUSTER_ID).is_ok());
    assert_eq!(read_fetch(&request, "other"), Err(ErrorCode::INCONSISTENT_CLUSTER_ID));
    request.cluster_id = None;
    assert!(read_fetch(&request, "other").is_ok(), "who does not say is not asked");
    request.topics[0].topic_id = Uuid([7; 16]);
    assert_eq!(read_fetch(&request, CLUSTER_ID), Err(ErrorCode::INVALID_REQUEST));
    request.topics.clear();
    assert_eq!(read_fetch(&request, CLUSTER_ID), Err(ErrorCode::INVALID_REQUEST));
    let empty = m::VoteRequest::default();
    assert_eq!(read_vote(&empty, CLUSTER_ID), Err(ErrorCode::INVALID_REQUEST));
    assert_eq!(
        read_describe_quorum(&m::DescribeQuorumRequest::default()),
        Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    );
}

#[test]
fn a_whole_failover_passes_through_the_wire() {
    let mut cluster = Cluster::new(5, 3, 1);
    cluster.chaos.through_wire = true;
    cluster.start_all();
    cluster.run_until("a leader", super::stories::secs(10), Cluster::has_converged);
    let leader = cluster.leader().unwrap();
    cluster.append(leader).unwrap();
    cluster.run_until("the commit", super::stories::secs(2), Cluster::has_converged);
    cluster.kill(leader);
    cluster.run_until("another leader", super::stories::secs(10), |c| c.has_converged());
    assert_ne!(cluster.leader(), Some(leader));
}

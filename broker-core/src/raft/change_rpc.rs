//! What is said about changes of the voters, apart from its wire form, and into it and back (KIP-853).

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::Uuid;
use wire::drive::Endpoint;
use wire::error::ErrorCode;
use wire::messages as m;

use super::rpc::{Request, Response, Standing, Writing};
use super::voters::{ReplicaKey, VoterNode};

/// What the feature of the quorum's own records is called.
const KRAFT_VERSION: &str = "kraft.version";

/// Listeners, by name.
pub(super) type Listeners = Vec<(Arc<str>, Endpoint)>;

/// AddRaftVoter: an observer is to vote.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AddVoter {
    pub(super) cluster_id: Option<String>,
    /// Absent if the id is none.
    pub(super) voter: Option<ReplicaKey>,
    pub(super) listeners: Listeners,
    /// Whether the answer waits for the commit, or only for the append.
    pub(super) ack_when_committed: bool,
}

/// RemoveRaftVoter: a voter is to vote no more.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RemoveVoter {
    pub(super) cluster_id: Option<String>,
    /// Absent if the id is none.
    pub(super) voter: Option<ReplicaKey>,
}

/// UpdateRaftVoter: a voter says where it listens now, and what it supports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct UpdateVoter {
    pub(super) cluster_id: Option<String>,
    pub(super) epoch: i32,
    pub(super) node: VoterNode,
}

/// What a new voter says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Versions {
    pub(super) error: ErrorCode,
    /// The levels of kraft.version that it supports, from and to.
    pub(super) kraft: Option<(i16, i16)>,
}

fn owned(text: &Option<Cow<'_, str>>) -> Option<String> {
    text.as_deref().map(str::to_string)
}

fn key(id: i32, directory_id: Uuid) -> Option<ReplicaKey> {
    (id >= 0).then(|| ReplicaKey::new(id, directory_id))
}

/// A listener's name is the same in small letters.
fn listener(name: &str, host: &str, port: u16) -> (Arc<str>, Endpoint) {
    (Arc::from(name.to_uppercase()), Endpoint::new(host, port))
}

// --- requests, read

pub(super) fn read_add_voter(request: &m::AddRaftVoterRequest<'_>) -> Request {
    Request::AddVoter(AddVoter {
        cluster_id: owned(&request.cluster_id),
        voter: key(request.voter_id, request.voter_directory_id),
        listeners: request.listeners.iter().map(|l| listener(&l.name, &l.host, l.port)).collect(),
        ack_when_committed: request.ack_when_committed,
    })
}

pub(super) fn read_remove_voter(request: &m::RemoveRaftVoterRequest<'_>) -> Request {
    Request::RemoveVoter(RemoveVoter {
        cluster_id: owned(&request.cluster_id),
        voter: key(request.voter_id, request.voter_directory_id),
    })
}

pub(super) fn read_update_voter(request: &m::UpdateRaftVoterRequest<'_>) -> Request {
    let feature = &request.kraft_version_feature;
    Request::UpdateVoter(UpdateVoter {
        cluster_id: owned(&request.cluster_id),
        epoch: request.current_leader_epoch,
        node: VoterNode {
            key: ReplicaKey::new(request.voter_id, request.voter_directory_id),
            listeners: request.listeners.iter().map(|l| listener(&l.name, &l.host, l.port)).collect(),
            supported_kraft_versions: (feature.min_supported_version, feature.max_supported_version),
        },
    })
}

// --- requests and answers, written

/// What a node asks another before it lets it vote.
pub(super) fn api_versions() -> m::ApiVersionsRequest<'static> {
    m::ApiVersionsRequest {
        client_software_name: Cow::Borrowed("apache-kafka-java"),
        client_software_version: Cow::Borrowed("4.3.1"),
        ..Default::default()
    }
}

impl<'a> Writing<'a> {
    pub(super) fn add_voter<'r>(&self, add: &'r AddVoter, timeout_ms: i32) -> m::AddRaftVoterRequest<'r> {
        use m::add_raft_voter_request::Listener;
        let (id, directory) = parts(add.voter);
        let listener = |(name, at): &'r (Arc<str>, Endpoint)| Listener {
            name: Cow::Borrowed(name),
            host: Cow::Borrowed(&at.host),
            port: at.port,
        };
        m::AddRaftVoterRequest {
            cluster_id: add.cluster_id.as_deref().map(Cow::Borrowed),
            timeout_ms,
            voter_id: id,
            voter_directory_id: directory,
            listeners: add.listeners.iter().map(listener).collect(),
            ack_when_committed: add.ack_when_committed,
        }
    }

    pub(super) fn remove_voter<'r>(&self, remove: &'r RemoveVoter) -> m::RemoveRaftVoterRequest<'r> {
        let (voter_id, voter_directory_id) = parts(remove.voter);
        let cluster_id = remove.cluster_id.as_deref().map(Cow::Borrowed);
        m::RemoveRaftVoterRequest { cluster_id, voter_id, voter_directory_id }
    }

    pub(super) fn update_voter<'r>(&self, update: &'r UpdateVoter) -> m::UpdateRaftVoterRequest<'r> {
        use m::update_raft_voter_request::{KRaftVersionFeature, Listener};
        let listener = |(name, at): &'r (Arc<str>, Endpoint)| Listener {
            name: Cow::Borrowed(name),
            host: Cow::Borrowed(&at.host),
            port: at.port,
        };
        let (min_supported_version, max_supported_version) = update.node.supported_kraft_versions;
        m::UpdateRaftVoterRequest {
            cluster_id: update.cluster_id.as_deref().map(Cow::Borrowed),
            current_leader_epoch: update.epoch,
            voter_id: update.node.key.id,
            voter_directory_id: update.node.key.directory_id,
            listeners: update.node.listeners.iter().map(listener).collect(),
            kraft_version_feature: KRaftVersionFeature { min_supported_version, max_supported_version },
        }
    }

    pub(super) fn update_voter_response(&self, standing: Standing) -> m::UpdateRaftVoterResponse<'a> {
        use m::update_raft_voter_response::CurrentLeader;
        let at = self.endpoint_of_leader(standing.leader);
        m::UpdateRaftVoterResponse {
            throttle_time_ms: 0,
            error_code: standing.error.0,
            current_leader: CurrentLeader {
                leader_id: standing.leader.unwrap_or(-1),
                leader_epoch: standing.epoch,
                host: at.map_or(Cow::Borrowed(""), |at| Cow::Borrowed(&*at.host)),
                port: at.map_or(0, |at| i32::from(at.port)),
            },
        }
    }
}

fn parts(key: Option<ReplicaKey>) -> (i32, Uuid) {
    key.map_or((-1, Uuid::ZERO), |key| (key.id, key.directory_id))
}

// --- answers, read

pub(super) fn read_api_versions_response(response: &m::ApiVersionsResponse<'_>) -> Response {
    let kraft = response.supported_features.iter().find(|feature| feature.name == KRAFT_VERSION);
    Response::Versions(Versions {
        error: ErrorCode(response.error_code),
        kraft: kraft.map(|feature| (feature.min_version, feature.max_version)),
    })
}

pub(super) fn read_update_voter_response(response: &m::UpdateRaftVoterResponse<'_>) -> Response {
    let leader = response.current_leader.leader_id;
    Response::UpdateVoter(Standing {
        error: ErrorCode(response.error_code),
        leader: (leader >= 0).then_some(leader),
        epoch: response.current_leader.leader_epoch,
    })
}

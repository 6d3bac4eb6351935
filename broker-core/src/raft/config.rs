//! What the quorum needs to know of its node.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::Uuid;
use wire::drive::{Endpoint, Nanos};

use super::voters::VoterSet;
use crate::config::NodeConfig;
use crate::mutant::Mutants;

/// The settings of a replica of the metadata log, with the identity of its node.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// `node.id`.
    pub node_id: i32,
    /// The id of the metadata log directory, from its `meta.properties`.
    pub directory_id: Uuid,
    /// The cluster's id, from `meta.properties`.
    pub cluster_id: String,
    /// Whether this node may vote one day (it has the controller role): then it flushes before it fetches.
    pub can_become_voter: bool,
    /// The name of the listener on which the quorum talks.
    pub listener_name: Arc<str>,
    /// Where this node listens for the quorum, if it has the controller role.
    pub listeners: Vec<(Arc<str>, Endpoint)>,
    /// `controller.quorum.auto.join.enable`.
    pub auto_join: bool,
    /// `controller.quorum.voters`; empty if the voters are in the log.
    pub voters: VoterSet,
    /// `controller.quorum.bootstrap.servers`: whom to ask for the leader while no voter is known.
    pub bootstrap_servers: Vec<Endpoint>,
    /// The metadata log directory.
    pub dir: String,
    /// `metadata.log.segment.bytes`.
    pub segment_bytes: u32,
    /// `metadata.log.segment.ms`.
    pub segment_ms: i64,
    /// `metadata.max.retention.bytes`, of log and snapshots together; negative for no limit.
    pub retention_bytes: i64,
    /// `metadata.max.retention.ms`; negative for no limit.
    pub retention_ms: i64,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub max_bytes_between_snapshots: u64,
    /// `metadata.log.max.snapshot.interval.ms`; absent for none by time.
    pub max_snapshot_interval: Option<Nanos>,
    /// `controller.quorum.election.timeout.ms`.
    pub election_timeout: Nanos,
    /// `controller.quorum.election.backoff.max.ms`.
    pub election_backoff_max: Nanos,
    /// `controller.quorum.fetch.timeout.ms`.
    pub fetch_timeout: Nanos,
    /// `controller.quorum.request.timeout.ms`.
    pub request_timeout: Nanos,
    /// `controller.quorum.retry.backoff.ms`.
    pub retry_backoff: Nanos,
    /// `controller.quorum.append.linger.ms`.
    pub append_linger: Nanos,
    /// `controller.quorum.fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// `controller.quorum.fetch.snapshot.max.bytes`.
    pub fetch_snapshot_max_bytes: i32,
    /// Bugs that are switched on in this node.
    pub mutants: Mutants,
}

impl RaftConfig {
    /// The settings of a node, whose identity stands in its `meta.properties`.
    pub fn new(config: &NodeConfig, cluster_id: &str, directory_id: Uuid) -> RaftConfig {
        let names =
            config.given.get("controller.listener.names").map_or("CONTROLLER", |names| names.as_str());
        let listener: Arc<str> =
            Arc::from(names.split(',').next().unwrap_or("CONTROLLER").trim().to_uppercase());
        let voters: Vec<_> = config.quorum.voters.iter().map(|v| (v.id, v.endpoint.clone())).collect();
        RaftConfig {
            node_id: config.node_id,
            directory_id,
            cluster_id: cluster_id.to_string(),
            can_become_voter: config.roles.controller,
            voters: VoterSet::from_static(&listener, &voters),
            listeners: config
                .advertised
                .iter()
                .filter(|it| it.controller)
                .map(|it| (Arc::from(it.name.as_str()), it.endpoint.clone()))
                .collect(),
            listener_name: listener,
            auto_join: config.quorum.auto_join,
            bootstrap_servers: config.quorum.bootstrap_servers.clone(),
            dir: config.metadata.dir.clone(),
            segment_bytes: config.metadata.segment_bytes.clamp(1, i64::from(i32::MAX)) as u32,
            segment_ms: config.metadata.segment_ms,
            retention_bytes: config.metadata.retention_bytes,
            retention_ms: config.metadata.retention_ms,
            max_bytes_between_snapshots: config.metadata.max_bytes_between_snapshots.max(1) as u64,
            max_snapshot_interval: config.metadata.max_snapshot_interval,
            election_timeout: config.quorum.election_timeout,
            election_backoff_max: config.quorum.election_backoff_max,
            fetch_timeout: config.quorum.fetch_timeout,
            request_timeout: config.quorum.request_timeout,
            retry_backoff: config.quorum.retry_backoff,
            append_linger: config.quorum.append_linger,
            fetch_max_bytes: config.quorum.fetch_max_bytes,
            fetch_snapshot_max_bytes: config.quorum.fetch_snapshot_max_bytes,
            mutants: config.mutants,
        }
    }
}

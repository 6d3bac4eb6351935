//! The cluster as a whole: describeCluster, describeFeatures, describeMetadataQuorum, describeLogDirs,
//! unregisterBroker.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::{Endpoint, Now};
use wire::error::ErrorCode;
use wire::messages::api_versions_request::ApiVersionsRequest;
use wire::messages::describe_cluster_request::DescribeClusterRequest;
use wire::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use wire::messages::describe_quorum_request::{DescribeQuorumRequest, PartitionData, TopicData};
use wire::messages::describe_quorum_response::ReplicaState;
use wire::messages::unregister_broker_request::UnregisterBrokerRequest;
use wire::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};

use super::{
    Admin, AdminResult, Answer, CallId, ClusterDescription, Each, FeatureMetadata, Link, LogDirDescription,
    NextRequest, NodeInfo, Op, QuorumInfo, QuorumReplica, ReplicaInfo, Route, Step, UpgradeType, Versions,
    all_failed, outcome,
};
use crate::error::ClientError;
use crate::event::TopicPartition;
use crate::net::CONTROLLERS;

/// The topic of the quorum.
const METADATA_TOPIC: &str = "__cluster_metadata";

impl Admin {
    /// The cluster's id and brokers; with `fenced`, also those that are fenced.
    pub fn describe_cluster(&mut self, now: Now, fenced: bool) -> CallId {
        let endpoint_type = if self.net.metadata.is_of_controllers() { CONTROLLERS } else { 1 };
        self.begin(now, "describeCluster", Route::Any, Box::new(DescribeCluster { fenced, endpoint_type }))
    }

    /// What versions of features, and of APIs, some broker supports, and what is finalized.
    pub fn describe_features(&mut self, now: Now) -> CallId {
        self.begin(now, "describeFeatures", Route::Any, Box::new(DescribeFeatures))
    }

    /// The same of a certain broker.
    pub fn api_versions(&mut self, now: Now, node: i32) -> CallId {
        self.begin(now, "apiVersions", Route::Node(node), Box::new(DescribeFeatures))
    }

    /// Changes the finalized levels of features, all or none.
    pub fn update_features(
        &mut self,
        now: Now,
        updates: BTreeMap<String, (i16, UpgradeType)>,
        validate_only: bool,
    ) -> CallId {
        let op = Box::new(UpdateFeatures { updates, validate_only });
        self.begin(now, "updateFeatures", Route::Controller, op)
    }

    /// The metadata quorum.
    pub fn describe_quorum(&mut self, now: Now) -> CallId {
        self.begin(now, "describeMetadataQuorum", Route::Any, Box::new(DescribeQuorum))
    }

    /// The log directories of brokers.
    pub fn describe_log_dirs(&mut self, now: Now, brokers: &[i32]) -> CallId {
        if brokers.is_empty() {
            return self.begin_done(AdminResult::LogDirs(BTreeMap::new()));
        }
        let request = |&broker: &i32| NextRequest {
            name: "describeLogDirs".into(),
            route: Route::Node(broker),
            op: Box::new(DescribeLogDirs { broker }),
        };
        self.begin_all(now, brokers.iter().map(request).collect())
    }

    /// Takes a broker that will not come back out of the cluster's metadata.
    pub fn unregister_broker(&mut self, now: Now, broker: i32) -> CallId {
        self.begin(now, "unregisterBroker", Route::Any, Box::new(UnregisterBroker { broker }))
    }
}

#[derive(Clone)]
struct DescribeCluster {
    fenced: bool,
    endpoint_type: i8,
}

impl Op for DescribeCluster {
    fn key(&self) -> ApiKey {
        ApiKey::DescribeCluster
    }

    fn send(&self, link: Link<'_>) {
        let request = DescribeClusterRequest {
            endpoint_type: self.endpoint_type,
            include_fenced_brokers: self.fenced && link.version >= 2,
            ..DescribeClusterRequest::default()
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DescribeClusterRequest>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.error_code != 0 {
            let code = ErrorCode(response.error_code);
            return Step::Failed(ClientError::from_code(code, response.error_message.as_deref()));
        }
        let mut nodes: Vec<NodeInfo> = response
            .brokers
            .iter()
            .map(|broker| NodeInfo {
                id: broker.broker_id,
                endpoint: Endpoint::new(broker.host.as_ref(), broker.port as u16),
                rack: broker.rack.as_deref().map(str::to_string),
                fenced: broker.is_fenced,
            })
            .collect();
        nodes.sort_by_key(|node| node.id);
        Step::Done(AdminResult::Cluster(Ok(ClusterDescription {
            cluster_id: response.cluster_id.to_string(),
            controller: (response.controller_id >= 0).then_some(response.controller_id),
            nodes,
        })))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Cluster(Err(error))
    }
}

#[derive(Clone)]
struct DescribeFeatures;

impl Op for DescribeFeatures {
    fn key(&self) -> ApiKey {
        ApiKey::ApiVersions
    }

    fn send(&self, link: Link<'_>) {
        link.send(&ApiVersionsRequest {
            client_software_name: Cow::Borrowed("apache-kafka-java"),
            client_software_version: Cow::Borrowed("4.3.1"),
            ..ApiVersionsRequest::default()
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<ApiVersionsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.error_code != 0 {
            return Step::Failed(ClientError::from_code(ErrorCode(response.error_code), None));
        }
        let versions = |min, max| Versions { min, max };
        let supported = response.supported_features.iter();
        let finalized = response.finalized_features.iter();
        Step::Done(AdminResult::Features(Ok(FeatureMetadata {
            supported: supported
                .map(|f| (f.name.to_string(), versions(f.min_version, f.max_version)))
                .collect(),
            finalized: finalized
                .map(|f| (f.name.to_string(), versions(f.min_version_level, f.max_version_level)))
                .collect(),
            epoch: (response.finalized_features_epoch >= 0).then_some(response.finalized_features_epoch),
            apis: response
                .api_keys
                .iter()
                .map(|api| (api.api_key, versions(api.min_version, api.max_version)))
                .collect(),
        })))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Features(Err(error))
    }
}

#[derive(Clone)]
struct UpdateFeatures {
    updates: BTreeMap<String, (i16, UpgradeType)>,
    validate_only: bool,
}

impl Op for UpdateFeatures {
    fn key(&self) -> ApiKey {
        ApiKey::UpdateFeatures
    }

    fn send(&self, link: Link<'_>) {
        let old = link.version == 0;
        let update = |(feature, &(level, kind)): (&String, &(i16, UpgradeType))| FeatureUpdateKey {
            feature: Cow::Owned(feature.clone()),
            max_version_level: level,
            allow_downgrade: old && kind != UpgradeType::Upgrade,
            upgrade_type: if old { 1 } else { kind as i8 },
        };
        let request = UpdateFeaturesRequest {
            timeout_ms: link.timeout_ms(),
            feature_updates: self.updates.iter().map(update).collect(),
            validate_only: self.validate_only && !old,
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<UpdateFeaturesRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.error_code != 0 {
            let code = ErrorCode(response.error_code);
            return Step::Failed(ClientError::from_code(code, response.error_message.as_deref()));
        }
        let mut results: Each<String, ()> = self.updates.keys().map(|name| (name.clone(), Ok(()))).collect();
        for told in &response.results {
            let result = outcome(told.error_code, told.error_message.as_deref(), || ());
            results.insert(told.feature.to_string(), result);
        }
        Step::Done(AdminResult::Done(results))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Done(all_failed(self.updates.keys().cloned(), &error))
    }
}

#[derive(Clone)]
struct DescribeQuorum;

impl Op for DescribeQuorum {
    fn key(&self) -> ApiKey {
        ApiKey::DescribeQuorum
    }

    fn send(&self, link: Link<'_>) {
        link.send(&DescribeQuorumRequest {
            topics: vec![TopicData {
                topic_name: Cow::Borrowed(METADATA_TOPIC),
                partitions: vec![PartitionData { partition_index: 0 }],
            }],
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DescribeQuorumRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let failed =
            |code: i16, message: Option<&str>| Step::Failed(ClientError::from_code(ErrorCode(code), message));
        if response.error_code != 0 {
            return failed(response.error_code, response.error_message.as_deref());
        }
        let partition = match response.topics.as_slice() {
            [topic] if topic.topic_name == METADATA_TOPIC && topic.partitions.len() == 1 => {
                &topic.partitions[0]
            }
            _ => {
                return failed(
                    ErrorCode::UNKNOWN_SERVER_ERROR.0,
                    Some("DescribeMetadataQuorum answered another topic"),
                );
            }
        };
        if partition.error_code != 0 {
            return failed(partition.error_code, partition.error_message.as_deref());
        }
        let replicas = |all: &[ReplicaState]| all.iter().map(quorum_replica).collect();
        let listeners = |node: &wire::messages::describe_quorum_response::Node<'_>| {
            let named = node.listeners.iter();
            let listener = named.map(|l| (l.name.to_string(), Endpoint::new(l.host.as_ref(), l.port)));
            (node.node_id, listener.collect())
        };
        Step::Done(AdminResult::Quorum(Ok(QuorumInfo {
            leader: partition.leader_id,
            leader_epoch: partition.leader_epoch,
            high_watermark: partition.high_watermark,
            voters: replicas(&partition.current_voters),
            observers: replicas(&partition.observers),
            nodes: response.nodes.iter().map(listeners).collect(),
        })))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Quorum(Err(error))
    }
}

fn quorum_replica(state: &ReplicaState) -> QuorumReplica {
    QuorumReplica {
        id: state.replica_id,
        directory_id: state.replica_directory_id,
        log_end_offset: state.log_end_offset,
        last_fetch_ms: state.last_fetch_timestamp,
        last_caught_up_ms: state.last_caught_up_timestamp,
    }
}

#[derive(Clone)]
struct DescribeLogDirs {
    broker: i32,
}

impl Op for DescribeLogDirs {
    fn key(&self) -> ApiKey {
        ApiKey::DescribeLogDirs
    }

    fn send(&self, link: Link<'_>) {
        link.send(&DescribeLogDirsRequest { topics: None });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DescribeLogDirsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.error_code != 0 {
            return Step::Failed(ClientError::from_code(ErrorCode(response.error_code), None));
        }
        let mut dirs = Vec::new();
        for dir in &response.results {
            let mut replicas = BTreeMap::new();
            for topic in &dir.topics {
                for p in &topic.partitions {
                    let info = ReplicaInfo {
                        size: p.partition_size,
                        offset_lag: p.offset_lag,
                        future: p.is_future_key,
                    };
                    replicas.insert(TopicPartition::new(topic.name.as_ref(), p.partition_index), info);
                }
            }
            dirs.push(LogDirDescription {
                path: dir.log_dir.to_string(),
                error: outcome(dir.error_code, None, || ()).err(),
                total_bytes: dir.total_bytes,
                usable_bytes: dir.usable_bytes,
                replicas,
            });
        }
        Step::Done(AdminResult::LogDirs(BTreeMap::from([(self.broker, Ok(dirs))])))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::LogDirs(all_failed([self.broker], &error))
    }
}

#[derive(Clone)]
struct UnregisterBroker {
    broker: i32,
}

impl Op for UnregisterBroker {
    fn key(&self) -> ApiKey {
        ApiKey::UnregisterBroker
    }

    fn send(&self, link: Link<'_>) {
        link.send(&UnregisterBrokerRequest { broker_id: self.broker });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<UnregisterBrokerRequest>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        match outcome(response.error_code, response.error_message.as_deref(), || ()) {
            Ok(()) => Step::Done(AdminResult::Unregistered(Ok(()))),
            Err(error) => Step::Failed(error),
        }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Unregistered(Err(error))
    }
}

//! From a frame to a request: what is refused before any handler sees it.

use alloc::format;
use alloc::string::{String, ToString};

use wire::drive::ConnId;
use wire::frame::RequestHeader;
use wire::{ApiKey, Reader, Rope, VersionRange};

use crate::io::Listener;
use crate::net::{EnvelopeToken, RequestToken};

/// The APIs that clients and brokers may use on a broker's listener: exactly those that are implemented.
pub const BROKER_APIS: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::EndTxn,
    ApiKey::WriteTxnMarkers,
    ApiKey::TxnOffsetCommit,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::OffsetDelete,
    ApiKey::DescribeClientQuotas,
    ApiKey::AlterClientQuotas,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::UnregisterBroker,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::ListConfigResources,
    ApiKey::DescribeTopicPartitions,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
];

/// The APIs of a controller's listener.
pub const CONTROLLER_APIS: &[ApiKey] = &[
    ApiKey::Fetch,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::CreatePartitions,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::AlterClientQuotas,
    ApiKey::Vote,
    ApiKey::BeginQuorumEpoch,
    ApiKey::EndQuorumEpoch,
    ApiKey::DescribeQuorum,
    ApiKey::AlterPartition,
    ApiKey::UpdateFeatures,
    ApiKey::Envelope,
    ApiKey::FetchSnapshot,
    ApiKey::DescribeCluster,
    ApiKey::BrokerRegistration,
    ApiKey::BrokerHeartbeat,
    ApiKey::UnregisterBroker,
    ApiKey::AllocateProducerIds,
    ApiKey::ControllerRegistration,
    ApiKey::AssignReplicasToDirs,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
    ApiKey::UpdateRaftVoter,
];

/// The APIs of a listener.
pub fn apis(listener: Listener) -> &'static [ApiKey] {
    match listener {
        Listener::Broker => BROKER_APIS,
        Listener::Controller => CONTROLLER_APIS,
    }
}

/// The versions of an API that a listener tells; absent if it does not serve the API.
pub fn advertised(key: ApiKey, listener: Listener) -> Option<VersionRange> {
    if !apis(listener).contains(&key) {
        return None;
    }
    match listener {
        Listener::Broker => key.info().broker_versions(),
        Listener::Controller => key.info().controller_versions(),
    }
}

/// Whether a listener takes a request at a version. Not all that is told is taken: see
/// [`broker_versions`](wire::ApiInfo::broker_versions) on Produce.
#[inline]
fn served(key: ApiKey, version: i16, listener: Listener) -> bool {
    const BROKER: u128 = mask(BROKER_APIS);
    const CONTROLLER: u128 = mask(CONTROLLER_APIS);
    let of_listener = match listener {
        Listener::Broker => BROKER,
        Listener::Controller => CONTROLLER,
    };
    of_listener & (1 << key as i16) != 0 && key.info().stable().is_some_and(|range| range.contains(version))
}

/// A bit for each API.
const fn mask(apis: &[ApiKey]) -> u128 {
    let (mut mask, mut i) = (0, 0);
    while i < apis.len() {
        assert!((apis[i] as i16) < 128, "keys are bits of a u128");
        mask |= 1 << apis[i] as i16;
        i += 1;
    }
    mask
}

/// A request that may be handled.
#[derive(Debug)]
pub struct Incoming {
    /// To answer it with.
    pub token: RequestToken,
    /// Where its body begins in the frame.
    pub body_at: usize,
    /// An ApiVersions request of a version that nobody serves: answered in version 0, its body not looked at.
    pub unsupported_version: bool,
}

/// Reads the header of a request. An error is why the connection must be closed.
#[inline]
pub fn read(conn: ConnId, listener: Listener, frame: &Rope) -> Result<Incoming, String> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader).map_err(|e| e.to_string())?;
    let Some(key) = header.key() else {
        return Err(format!("Unexpected api key: {}", header.api_key));
    };
    let version = header.api_version;
    let supported = served(key, version, listener);
    if !supported && key != ApiKey::ApiVersions {
        return Err(format!("Received request api key {key} with version {version} which is not enabled"));
    }
    let correlation_id = header.correlation_id;
    let token = RequestToken { conn, listener, key, version, correlation_id, envelope: None };
    Ok(Incoming { token, body_at: reader.position(), unsupported_version: !supported })
}

/// Reads the header of the request inside an Envelope. An error is why the Envelope is refused with INVALID_REQUEST.
pub fn read_enveloped(outer: RequestToken, data: &[u8]) -> Result<Incoming, String> {
    let mut reader = Reader::from_slice(data);
    let header = RequestHeader::decode(&mut reader).map_err(|e| e.to_string())?;
    let forwardable = header.key().filter(|key| key.info().forwardable);
    let Some(key) = forwardable.filter(|key| served(*key, header.api_version, outer.listener)) else {
        return Err(format!("API {} v{} is not forwardable", header.api_key, header.api_version));
    };
    let envelope = EnvelopeToken { version: outer.version, correlation_id: outer.correlation_id };
    let token = RequestToken {
        key,
        version: header.api_version,
        correlation_id: header.correlation_id,
        envelope: Some(envelope),
        ..outer
    };
    Ok(Incoming { token, body_at: reader.position(), unsupported_version: false })
}

//! Which APIs a listener serves, how a frame becomes a request, and the handlers that belong to no mechanism of their
//! own: ApiVersions, Metadata, DescribeTopicPartitions, DescribeCluster, DescribeConfigs, ListConfigResources, DescribeClientQuotas.
//!
//! Those answer from the metadata image alone. What changes the cluster is passed on to the active controller by
//! [`forward`]; everything else is routed by the node to the mechanism that owns it. They follow `KafkaApis`,
//! `ControllerApis` and `KRaftMetadataCache`.

pub mod cluster;
pub mod configs;
pub mod forward;
pub mod incoming;
pub mod metadata;
pub mod quotas;
pub mod refusal;
pub mod topic_partitions;
pub mod versions;

use crate::config::NodeConfig;
use crate::metadata::MetadataImage;

/// `AuthorizedOperations` of a topic where nothing is refused: read, write, create, delete, alter, describe, and both
/// kinds of configs.
const TOPIC_OPERATIONS: i32 = 3576;
/// Those of the cluster: create, alter, describe, cluster action, both kinds of configs, idempotent write.
const CLUSTER_OPERATIONS: i32 = 8096;
/// Not asked for, or not known.
const NO_OPERATIONS: i32 = i32::MIN;

/// What the handlers here look at.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Committed metadata.
    pub image: &'a MetadataImage,
    /// The node's configuration.
    pub config: &'a NodeConfig,
    /// The cluster's id.
    pub cluster_id: &'a str,
    /// The level of `kraft.version`, which stands in the quorum's own records.
    pub kraft_version: i16,
}

impl<'a> View<'a> {
    /// The name of the listener on which brokers tell their endpoints to this one's clients.
    fn broker_listener(&self) -> &'a str {
        self.config.broker_listener().map_or("PLAINTEXT", |l| l.name.as_str())
    }

    /// A broker that is unfenced, chosen by `chance`: Kafka tells clients some broker where ZooKeeper's clusters told the
    /// controller, since brokers pass on what is for the controller.
    fn some_alive_broker(&self, chance: u32) -> i32 {
        let alive = || self.image.brokers.values().filter(|b| !b.fenced);
        match alive().count() {
            0 => -1,
            count => alive().nth(chance as usize % count).map_or(-1, |b| b.id),
        }
    }
}

/// Whether a topic is one of Kafka's own (`Topic.isInternal`).
pub(crate) fn is_internal(topic: &str) -> bool {
    matches!(topic, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

/// Whether a topic may have this name (`Topic.validate`).
pub(crate) fn is_valid_topic(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= 249 && name.bytes().all(legal)
}

#[cfg(test)]
mod tests;

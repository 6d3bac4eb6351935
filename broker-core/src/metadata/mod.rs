//! Cluster metadata: the state that the records of `__cluster_metadata-0` add up to.
//!
//! [`MetadataImage`] is that state. Every node keeps one, made by applying committed records in the order of their
//! offsets; the active controller keeps another one that is ahead of it by what it has appended and that is not yet
//! committed. [`ImageDelta`] collects what records changed, so that nobody has to compare images, and
//! [`MetadataImage::to_records`] turns an image back into the records of a snapshot (KIP-630).
//!
//! An image is a value. Cloning one shares its topics; the first change of a topic after that copies this topic.
//!
//! Follows Apache Kafka's `metadata` module (`image`, `metadata.PartitionRegistration`,
//! `metadata.BrokerRegistration`) and KIP-500, KIP-858 (log directories), KIP-868 (transactions of metadata) and
//! KIP-966 (eligible leader replicas).

mod cluster;
mod configs;
mod delta;
mod features;
mod image;
mod partition;
mod records;
mod security;
mod topics;

pub use cluster::{BrokerRegistration, ControllerRegistration, FeatureRange, ListenerEndpoint};
pub use configs::{ConfigKey, ConfigurationsImage, ResourceType};
pub use delta::ImageDelta;
pub use features::{FeaturesImage, feature};
pub use image::{ImageError, MetadataImage, ProducerIdsImage};
pub use partition::{
    Directories, LeaderRecoveryState, NO_LEADER, NO_LEADER_CHANGE, PartitionRegistration, Replicas,
    TopicIdPartition, directory,
};
pub use records::record_version;
pub use security::{ClientQuotasImage, QuotaEntity, SecurityImage};
pub use topics::{TopicImage, TopicsImage};

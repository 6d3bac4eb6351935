//! What admin calls take and give.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use wire::Uuid;
use wire::drive::Endpoint;

use super::transactions::{ProducerInfo, TransactionDescription, TransactionListing};
use crate::error::ClientError;
use crate::event::TopicPartition;

/// A result for each of the things that were asked for.
pub type Each<K, V> = BTreeMap<K, Result<V, ClientError>>;

/// A broker of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id.
    pub id: i32,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it is fenced; only told when fenced brokers were asked for.
    pub fenced: bool,
}

/// `describeCluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The cluster's id.
    pub cluster_id: String,
    /// The broker that passes for the controller.
    pub controller: Option<i32>,
    /// By id.
    pub nodes: Vec<NodeInfo>,
}

/// A topic of `listTopics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicListing {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// Whether Kafka uses it itself.
    pub internal: bool,
}

/// A topic of `describeTopics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// Whether Kafka uses it itself.
    pub internal: bool,
    /// By number.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition of `describeTopics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// The leader, if there is one.
    pub leader: Option<i32>,
    /// The leader epoch.
    pub leader_epoch: i32,
    /// In assignment order.
    pub replicas: Vec<i32>,
    /// In sync.
    pub isr: Vec<i32>,
    /// Eligible leader replicas; absent if the broker does not tell.
    pub elr: Option<Vec<i32>>,
    /// Last known eligible leader replicas; absent if the broker does not tell.
    pub last_known_elr: Option<Vec<i32>>,
    /// The replicas whose brokers are away.
    pub offline: Vec<i32>,
}

/// A topic to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// The number of partitions; the broker's default if absent.
    pub partitions: Option<i32>,
    /// The replication factor; the broker's default if absent.
    pub replication_factor: Option<i16>,
    /// The replicas of each partition, instead of the two numbers; empty if the controller places them.
    pub assignment: Vec<Vec<i32>>,
    /// Its settings.
    pub configs: BTreeMap<String, String>,
}

/// How partitions are made and deleted (`CreateTopicsOptions`, `DeleteTopicsOptions`, `CreatePartitionsOptions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicOptions {
    /// What THROTTLING_QUOTA_EXCEEDED refuses is asked for again until the call's time is over.
    pub retry_on_quota_violation: bool,
}

impl Default for TopicOptions {
    fn default() -> TopicOptions {
        TopicOptions { retry_on_quota_violation: true }
    }
}

/// A topic that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id.
    pub id: Uuid,
    /// The number of partitions.
    pub partitions: i32,
    /// The replication factor.
    pub replication_factor: i16,
}

/// What `createPartitions` wants of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    /// The number of partitions after it.
    pub count: i32,
    /// The replicas of each new partition; absent if the controller places them.
    pub assignment: Option<Vec<Vec<i32>>>,
}

/// A thing that has settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigResource {
    /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub kind: i8,
    /// Its name; empty for the cluster-wide defaults of brokers.
    pub name: String,
}

impl ConfigResource {
    /// A topic.
    pub fn topic(name: impl Into<String>) -> ConfigResource {
        ConfigResource { kind: 2, name: name.into() }
    }

    /// A broker.
    pub fn broker(id: i32) -> ConfigResource {
        ConfigResource { kind: 4, name: alloc::format!("{id}") }
    }

    /// The cluster-wide defaults of brokers.
    pub fn broker_default() -> ConfigResource {
        ConfigResource { kind: 4, name: String::new() }
    }
}

/// A setting of `describeConfigs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; absent if it is sensitive.
    pub value: Option<String>,
    /// Whether it cannot be changed.
    pub read_only: bool,
    /// Whether its value is secret.
    pub sensitive: bool,
    /// 1 topic, 2 broker, 3 cluster default, 4 static, 5 default, 6 logger, 7 client metrics, 8 group.
    pub source: i8,
    /// The type: 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password.
    pub kind: i8,
    /// Where else it has a value, highest precedence first: name, value, source.
    pub synonyms: Vec<(String, Option<String>, i8)>,
    /// What it is for, if that was asked for.
    pub documentation: Option<String>,
}

/// What `incrementalAlterConfigs` does with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfig {
    /// The setting.
    pub name: String,
    /// What to do.
    pub op: AlterOp,
    /// The value; nothing for a deletion.
    pub value: Option<String>,
}

/// The operations of `incrementalAlterConfigs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterOp {
    /// Sets it.
    Set = 0,
    /// Takes it away.
    Delete = 1,
    /// Adds to a list.
    Append = 2,
    /// Takes from a list.
    Subtract = 3,
}

/// The types of `electLeaders`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionType {
    /// The first replica of the assignment.
    Preferred = 0,
    /// Any live replica, if no one in sync lives.
    Unclean = 1,
}

/// An offset of `listOffsets`; -1 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetInfo {
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, -1 if not told.
    pub timestamp: i64,
    /// The leader epoch of the record, if told.
    pub leader_epoch: Option<i32>,
}

/// A voter or observer of `describeMetadataQuorum`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumReplica {
    /// Its id.
    pub id: i32,
    /// Its directory's id.
    pub directory_id: Uuid,
    /// Its log end offset.
    pub log_end_offset: i64,
    /// When it last fetched, in milliseconds; -1 if unknown.
    pub last_fetch_ms: i64,
    /// When it had last caught up, in milliseconds; -1 if unknown.
    pub last_caught_up_ms: i64,
}

/// `describeMetadataQuorum`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumInfo {
    /// The leader.
    pub leader: i32,
    /// The leader epoch.
    pub leader_epoch: i32,
    /// The high watermark.
    pub high_watermark: i64,
    /// The voters.
    pub voters: Vec<QuorumReplica>,
    /// The observers.
    pub observers: Vec<QuorumReplica>,
    /// The controllers' listeners, by id: name and endpoint.
    pub nodes: BTreeMap<i32, Vec<(String, Endpoint)>>,
}

/// The versions of one API, or of one feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub min: i16,
    /// The highest.
    pub max: i16,
}

/// `describeFeatures`, and the APIs of the broker that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureMetadata {
    /// What the broker supports, by feature.
    pub supported: BTreeMap<String, Versions>,
    /// What the cluster has finalized, by feature.
    pub finalized: BTreeMap<String, Versions>,
    /// The epoch of what is finalized.
    pub epoch: Option<i64>,
    /// The versions of each API, by key.
    pub apis: BTreeMap<i16, Versions>,
}

/// How `updateFeatures` may change the level of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeType {
    /// Upwards only.
    Upgrade = 1,
    /// Downwards, if no metadata is lost by it.
    SafeDowngrade = 2,
    /// Downwards, whatever is lost.
    UnsafeDowngrade = 3,
}

/// The parts of an entity that has quotas: each a type (`user`, `client-id`, `ip`) and a name, none for the default.
pub type QuotaEntity = BTreeMap<String, Option<String>>;

/// Which entities `describeClientQuotas` asks for, by a part of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaMatch {
    /// Those of this name.
    Name(String),
    /// The default.
    Default,
    /// Any name.
    Any,
}

/// A reassignment that is going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// All replicas, old and new.
    pub replicas: Vec<i32>,
    /// Those that are added.
    pub adding: Vec<i32>,
    /// Those that go.
    pub removing: Vec<i32>,
}

/// A log directory of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDirDescription {
    /// Its path.
    pub path: String,
    /// Why it cannot be used.
    pub error: Option<ClientError>,
    /// The size of its file system, -1 if not told.
    pub total_bytes: i64,
    /// What of it is free, -1 if not told.
    pub usable_bytes: i64,
    /// The replicas in it.
    pub replicas: BTreeMap<TopicPartition, ReplicaInfo>,
}

/// A replica in a log directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaInfo {
    /// Its segments' bytes.
    pub size: i64,
    /// By how much it lags.
    pub offset_lag: i64,
    /// Whether it is going to take another's place.
    pub future: bool,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub id: String,
    /// The protocol of its members, `consumer` for consumers; empty if it never had any.
    pub protocol: String,
    /// Kafka's name of its state.
    pub state: String,
    /// `classic`, `consumer`, …
    pub kind: String,
}

/// A group with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Whether its protocol is KIP-848's.
    pub consumer: bool,
    /// Kafka's name of its state.
    pub state: String,
    /// The assignor; empty if there is none now.
    pub assignor: String,
    /// Its coordinator.
    pub coordinator: NodeInfo,
    /// The group's epoch, of a consumer group.
    pub epoch: Option<i32>,
    /// The epoch of the target assignment, of a consumer group.
    pub target_epoch: Option<i32>,
    /// Its members.
    pub members: Vec<MemberDescription>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub id: String,
    /// Its `group.instance.id`.
    pub instance: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Its address.
    pub host: String,
    /// Its epoch, in a consumer group.
    pub epoch: Option<i32>,
    /// What it has.
    pub assignment: Vec<TopicPartition>,
    /// What it is to have, in a consumer group.
    pub target: Option<Vec<TopicPartition>>,
}

/// A committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next to be read.
    pub offset: i64,
    /// The leader epoch of the last one read.
    pub leader_epoch: Option<i32>,
}

/// An entity and the quotas that are set for it, as the bits of their values.
pub type EntityQuotas = (QuotaEntity, BTreeMap<String, u64>);

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminResult {
    /// `describeCluster`.
    Cluster(Result<ClusterDescription, ClientError>),
    /// `listTopics`, by name.
    Topics(Result<Vec<TopicListing>, ClientError>),
    /// `describeTopics`, by topic.
    TopicDescriptions(Each<String, TopicDescription>),
    /// `createTopics`, by topic.
    Created(Each<String, CreatedTopic>),
    /// `deleteTopics`, `createPartitions`, `deleteConsumerGroups`: by topic or group.
    Done(Each<String, ()>),
    /// `describeConfigs`, by resource.
    Configs(Each<ConfigResource, Vec<ConfigEntry>>),
    /// `incrementalAlterConfigs`, by resource.
    ConfigsAltered(Each<ConfigResource, ()>),
    /// `electLeaders`, `alterPartitionReassignments`, changes of a group's offsets: by partition, or the failure of the whole.
    Partitions(Result<Each<TopicPartition, ()>, ClientError>),
    /// `listOffsets`, by partition.
    Offsets(Each<TopicPartition, OffsetInfo>),
    /// `deleteRecords`, by partition: the new low watermark.
    LowWatermarks(Each<TopicPartition, i64>),
    /// `describeMetadataQuorum`.
    Quorum(Result<QuorumInfo, ClientError>),
    /// `describeFeatures`, or the API versions of one broker.
    Features(Result<FeatureMetadata, ClientError>),
    /// `listPartitionReassignments`, by partition.
    Reassignments(Result<BTreeMap<TopicPartition, Reassignment>, ClientError>),
    /// `describeLogDirs`, by broker.
    LogDirs(Each<i32, Vec<LogDirDescription>>),
    /// `describeClientQuotas`: values by entity, each the bits of a double.
    Quotas(Result<Vec<EntityQuotas>, ClientError>),
    /// `listConfigResources`: names.
    ConfigResources(Result<Vec<ConfigResource>, ClientError>),
    /// `unregisterBroker`, `alterClientQuotas`.
    Unregistered(Result<(), ClientError>),
    /// `listGroups`, of all brokers.
    Groups(Result<Vec<GroupListing>, ClientError>),
    /// `describeConsumerGroups`, by group.
    GroupDescriptions(Each<String, GroupDescription>),
    /// `listTransactions`, by coordinator.
    Transactions(Result<BTreeMap<i32, Vec<TransactionListing>>, ClientError>),
    /// `describeTransactions`, by transactional id.
    TransactionDescriptions(Each<String, TransactionDescription>),
    /// `describeProducers`, by partition.
    Producers(Each<TopicPartition, Vec<ProducerInfo>>),
    /// `listConsumerGroupOffsets`, by group.
    GroupOffsets(Each<String, BTreeMap<TopicPartition, CommittedOffset>>),
    /// What a replica gave of partitions.
    Replicas(Result<BTreeMap<TopicPartition, super::ReplicaSeen>, ClientError>),
}

impl AdminResult {
    /// Joins the results of the requests that one call was split into.
    pub(super) fn join(self, other: AdminResult) -> AdminResult {
        use AdminResult::*;
        match (self, other) {
            (TopicDescriptions(a), TopicDescriptions(b)) => TopicDescriptions(joined(a, b)),
            (Configs(a), Configs(b)) => Configs(joined(a, b)),
            (ConfigsAltered(a), ConfigsAltered(b)) => ConfigsAltered(joined(a, b)),
            (Offsets(a), Offsets(b)) => Offsets(joined(a, b)),
            (LowWatermarks(a), LowWatermarks(b)) => LowWatermarks(joined(a, b)),
            (LogDirs(a), LogDirs(b)) => LogDirs(joined(a, b)),
            (Created(a), Created(b)) => Created(joined(a, b)),
            (Done(a), Done(b)) => Done(joined(a, b)),
            (GroupDescriptions(a), GroupDescriptions(b)) => GroupDescriptions(joined(a, b)),
            (GroupOffsets(a), GroupOffsets(b)) => GroupOffsets(joined(a, b)),
            (TransactionDescriptions(a), TransactionDescriptions(b)) => TransactionDescriptions(joined(a, b)),
            (Producers(a), Producers(b)) => Producers(joined(a, b)),
            (Transactions(Ok(mut a)), Transactions(Ok(b))) => {
                a.extend(b);
                Transactions(Ok(a))
            }
            (Transactions(Err(error)), Transactions(_)) | (Transactions(_), Transactions(Err(error))) => {
                Transactions(Err(error))
            }
            // One broker that cannot be asked spoils the list.
            (Groups(Ok(mut a)), Groups(Ok(b))) => {
                a.extend(b);
                Groups(Ok(a))
            }
            (Groups(Err(error)), Groups(_)) | (Groups(_), Groups(Err(error))) => Groups(Err(error)),
            (a, b) => panic!("{a:?} and {b:?} are not parts of one result"),
        }
    }
}

fn joined<K: Ord, V>(mut a: Each<K, V>, b: Each<K, V>) -> Each<K, V> {
    a.extend(b);
    a
}

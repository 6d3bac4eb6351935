//! The image: records in, state out, and back.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::Uuid;
use wire::records::{
    BrokerRegistrationChangeRecord, FeatureLevelRecord, MetadataRecord, PartitionChangeRecord,
    PartitionRecord, ProducerIdsRecord, TopicRecord, UnregisterBrokerRecord,
};

use super::cluster::{BrokerRegistration, ControllerRegistration};
use super::configs::{ConfigKey, ConfigurationsImage, ResourceType};
use super::delta::ImageDelta;
use super::features::{FeaturesImage, feature};
use super::partition::{PartitionRegistration, TopicIdPartition};
use super::security::{ClientQuotasImage, SecurityImage};
use super::topics::{TopicImage, TopicsImage};

/// Why a record cannot be applied. Records of a healthy log always can: this is a damaged log, or a bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// It names a topic id that does not exist.
    #[error("offset {offset}: no topic has the id {id}")]
    UnknownTopic {
        /// The record's offset.
        offset: i64,
        /// The id.
        id: Uuid,
    },
    /// It names a topic that does not exist.
    #[error("offset {offset}: no topic has the name {name}")]
    UnknownTopicName {
        /// The record's offset.
        offset: i64,
        /// The name.
        name: String,
    },
    /// It makes a topic that exists.
    #[error("offset {offset}: the topic {name} exists already")]
    DuplicateTopic {
        /// The record's offset.
        offset: i64,
        /// The topic's name.
        name: String,
    },
    /// It names a partition that does not exist.
    #[error("offset {offset}: topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// The record's offset.
        offset: i64,
        /// The topic's name.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// It names a broker, or an epoch of it, that is not registered.
    #[error("offset {offset}: broker {broker} is not registered with epoch {epoch}")]
    UnknownBroker {
        /// The record's offset.
        offset: i64,
        /// The broker.
        broker: i32,
        /// The epoch in the record.
        epoch: i64,
    },
    /// It contradicts itself or the state that it changes.
    #[error("offset {offset}: the {kind} makes no sense here")]
    Contradiction {
        /// The record's offset.
        offset: i64,
        /// Kafka's name of its kind.
        kind: &'static str,
    },
    /// It is a record of ZooKeeper times that no 4.x log has.
    #[error("offset {offset}: a {kind} cannot be in a log of Kafka 4")]
    Obsolete {
        /// The record's offset.
        offset: i64,
        /// Kafka's name of its kind.
        kind: &'static str,
    },
}

/// The next block of producer ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ProducerIdsImage {
    /// The first id that was not yet given out; 0 before the first block.
    pub next_producer_id: i64,
    /// The broker that got the last block, and its epoch.
    pub last_block: Option<(i32, i64)>,
}

/// The cluster's metadata at one offset of the metadata log.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataImage {
    /// Finalized features.
    pub features: FeaturesImage,
    /// Registered brokers by id.
    pub brokers: BTreeMap<i32, BrokerRegistration>,
    /// Registered controllers by id.
    pub controllers: BTreeMap<i32, ControllerRegistration>,
    /// Topics and partitions.
    pub topics: TopicsImage,
    /// Dynamic configurations.
    pub configs: ConfigurationsImage,
    /// Producer ids.
    pub producer_ids: ProducerIdsImage,
    /// Quotas of clients.
    pub client_quotas: ClientQuotasImage,
    /// ACLs, SCRAM credentials, delegation tokens.
    pub security: SecurityImage,
    /// The offset of the last record applied, -1 before the first.
    pub offset: i64,
    /// The image before a transaction of metadata that has not ended (KIP-868).
    before_transaction: Option<Box<MetadataImage>>,
}

impl Default for MetadataImage {
    /// Before the first record.
    fn default() -> MetadataImage {
        MetadataImage {
            features: FeaturesImage::default(),
            brokers: BTreeMap::new(),
            controllers: BTreeMap::new(),
            topics: TopicsImage::default(),
            configs: ConfigurationsImage::default(),
            producer_ids: ProducerIdsImage::default(),
            client_quotas: ClientQuotasImage::default(),
            security: SecurityImage::default(),
            offset: -1,
            before_transaction: None,
        }
    }
}

impl MetadataImage {
    /// The image that a snapshot's records state. They all lie below `end_offset`.
    pub fn from_snapshot(records: &[MetadataRecord], end_offset: i64) -> Result<MetadataImage, ImageError> {
        let mut image = MetadataImage::default();
        let mut delta = ImageDelta::default();
        for record in records {
            image.apply(record, end_offset - 1, &mut delta)?;
        }
        image.offset = end_offset - 1;
        Ok(image)
    }

    /// Applies the record at `offset` and adds to `delta` what it changed. After an error the image is worthless.
    pub fn apply(
        &mut self,
        record: &MetadataRecord,
        offset: i64,
        delta: &mut ImageDelta,
    ) -> Result<(), ImageError> {
        use MetadataRecord as R;
        let obsolete = || Err(ImageError::Obsolete { offset, kind: record.name() });
        match record {
            R::NoOp(_) => {}
            R::PartitionChange(change) => self.change_partition(change, offset, delta)?,
            R::Partition(partition) => self.set_partition(partition, offset, delta)?,
            R::Topic(topic) => self.create_topic(topic, offset, delta)?,
            R::RemoveTopic(topic) => self.remove_topic(topic.topic_id, offset, delta)?,
            R::ClearElr(clear) => self.clear_elr(&clear.topic_name, offset, delta)?,
            R::Config(config) => {
                let Some(resource_type) = ResourceType::from_id(config.resource_type) else {
                    return Err(ImageError::Contradiction { offset, kind: record.name() });
                };
                let key = ConfigKey { resource_type, name: Arc::from(&*config.resource_name) };
                self.configs.apply(&key, &config.name, config.value.as_deref());
                delta.configs.insert(key);
            }
            R::RegisterBroker(broker) => {
                delta.brokers.insert(broker.broker_id);
                self.brokers.insert(broker.broker_id, BrokerRegistration::from_record(broker, offset));
            }
            R::BrokerRegistrationChange(change) => self.change_broker(change, offset, delta)?,
            R::FenceBroker(fence) => self.broker_mut(fence.id, fence.epoch, offset, delta)?.fenced = true,
            R::UnfenceBroker(unfence) => {
                self.broker_mut(unfence.id, unfence.epoch, offset, delta)?.fenced = false
            }
            R::UnregisterBroker(UnregisterBrokerRecord { broker_id, broker_epoch }) => {
                self.broker_mut(*broker_id, *broker_epoch, offset, delta)?;
                self.brokers.remove(broker_id);
            }
            R::RegisterController(controller) => {
                delta.controllers.insert(controller.controller_id);
                let registration = ControllerRegistration::from_record(controller);
                self.controllers.insert(controller.controller_id, registration);
            }
            R::UnregisterController(controller) => {
                delta.controllers.insert(controller.controller_id);
                self.controllers.remove(&controller.controller_id);
            }
            R::FeatureLevel(FeatureLevelRecord { name, feature_level }) => {
                delta.features = true;
                self.features.set(name, *feature_level);
            }
            R::ProducerIds(ids) => {
                delta.producer_ids = true;
                self.producer_ids = ProducerIdsImage {
                    next_producer_id: ids.next_producer_id,
                    last_block: Some((ids.broker_id, ids.broker_epoch)),
                };
            }
            R::ClientQuota(quota) => {
                delta.client_quotas = true;
                self.client_quotas.apply(quota);
            }
            R::BeginTransaction(_) => {
                if self.before_transaction.is_some() {
                    return Err(ImageError::Contradiction { offset, kind: record.name() });
                }
                self.before_transaction = Some(Box::new(self.clone()));
            }
            R::EndTransaction(_) => {
                if self.before_transaction.take().is_none() {
                    return Err(ImageError::Contradiction { offset, kind: record.name() });
                }
            }
            R::AbortTransaction(_) => {
                let Some(before) = self.before_transaction.take() else {
                    return Err(ImageError::Contradiction { offset, kind: record.name() });
                };
                *self = *before;
                delta.everything = true;
            }
            R::AccessControlEntry(_)
            | R::RemoveAccessControlEntry(_)
            | R::UserScramCredential(_)
            | R::RemoveUserScramCredential(_)
            | R::DelegationToken(_)
            | R::RemoveDelegationToken(_) => self.change_security(record, delta),
            // Migration state "none": written by 3.x when it made a cluster without ZooKeeper.
            R::ZkMigrationState(state) if state.zk_migration_state == 0 => {}
            R::ZkMigrationState(_) => return obsolete(),
        }
        self.offset = offset;
        Ok(())
    }

    /// The records of a snapshot, in Kafka's order: features (`metadata.version` first), brokers, controllers,
    /// topics with their partitions, configurations, quotas, producer ids, then what secures the cluster.
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let mut out: Vec<MetadataRecord> = Vec::new();
        let level = |name: &str, feature_level| FeatureLevelRecord { name: name.to_string(), feature_level };
        out.push(level(feature::METADATA_VERSION, self.features.metadata_version()).into());
        out.extend(self.features.others().map(|(name, l)| level(name, l).into()));
        out.extend(self.brokers.values().map(|b| b.to_record().into()));
        out.extend(self.controllers.values().map(|c| c.to_record().into()));
        for topic in self.topics.iter() {
            out.push(TopicRecord { name: topic.name.to_string(), topic_id: topic.id }.into());
            out.extend(topic.partitions.iter().map(|(&partition, registration)| {
                registration.to_record(TopicIdPartition { topic_id: topic.id, partition }).into()
            }));
        }
        out.extend(self.configs.to_records().map(MetadataRecord::from));
        out.extend(self.client_quotas.to_records().map(MetadataRecord::from));
        if let Some((broker_id, broker_epoch)) = self.producer_ids.last_block {
            let next_producer_id = self.producer_ids.next_producer_id;
            out.push(ProducerIdsRecord { broker_id, broker_epoch, next_producer_id }.into());
        }
        out.extend(self.security.acls.values().cloned().map(MetadataRecord::from));
        out.extend(self.security.scram.values().cloned().map(MetadataRecord::from));
        out.extend(self.security.delegation_tokens.values().cloned().map(MetadataRecord::from));
        out
    }

    /// Whether no record was ever applied that says anything: the log of a new cluster.
    pub fn is_empty(&self) -> bool {
        let offset = self.offset;
        *self == MetadataImage { offset, ..MetadataImage::default() }
    }

    /// Whether a transaction of metadata has begun and not ended.
    pub fn in_transaction(&self) -> bool {
        self.before_transaction.is_some()
    }

    /// A broker's registration.
    pub fn broker(&self, id: i32) -> Option<&BrokerRegistration> {
        self.brokers.get(&id)
    }

    /// Whether a broker is registered, unfenced and not shutting down.
    pub fn is_active(&self, broker: i32) -> bool {
        self.brokers.get(&broker).is_some_and(BrokerRegistration::is_active)
    }

    /// A partition's registration.
    pub fn partition(&self, id: TopicIdPartition) -> Option<&PartitionRegistration> {
        self.topics.partition(id)
    }

    fn create_topic(
        &mut self,
        topic: &TopicRecord,
        offset: i64,
        delta: &mut ImageDelta,
    ) -> Result<(), ImageError> {
        if self.topics.id_of(&topic.name).is_some() || self.topics.topic(topic.topic_id).is_some() {
            return Err(ImageError::DuplicateTopic { offset, name: topic.name.clone() });
        }
        let name = Arc::from(&*topic.name);
        self.topics.insert(TopicImage { name, id: topic.topic_id, partitions: BTreeMap::new() });
        delta.topics_created.insert(topic.topic_id);
        Ok(())
    }

    fn remove_topic(&mut self, id: Uuid, offset: i64, delta: &mut ImageDelta) -> Result<(), ImageError> {
        let topic = self.topics.remove(id).ok_or(ImageError::UnknownTopic { offset, id })?;
        self.configs.remove_topic(&topic.name);
        delta.configs.insert(ConfigKey { resource_type: ResourceType::Topic, name: topic.name.clone() });
        for &partition in topic.partitions.keys() {
            delta.partitions.remove(&TopicIdPartition { topic_id: id, partition });
        }
        // Nobody ever saw a topic that comes and goes within one delta.
        if !delta.topics_created.remove(&id) {
            delta.topics_deleted.insert(id, topic);
        }
        Ok(())
    }

    fn set_partition(
        &mut self,
        record: &PartitionRecord,
        offset: i64,
        delta: &mut ImageDelta,
    ) -> Result<(), ImageError> {
        let id = TopicIdPartition { topic_id: record.topic_id, partition: record.partition_id };
        let topic = self.topics.topic_mut(id.topic_id);
        let topic = topic.ok_or(ImageError::UnknownTopic { offset, id: id.topic_id })?;
        let registration = PartitionRegistration::from_record(record)
            .ok_or(ImageError::Contradiction { offset, kind: "PartitionRecord" })?;
        topic.partitions.insert(id.partition, registration);
        delta.partitions.insert(id);
        Ok(())
    }

    fn change_partition(
        &mut self,
        change: &PartitionChangeRecord,
        offset: i64,
        delta: &mut ImageDelta,
    ) -> Result<(), ImageError> {
        let id = TopicIdPartition { topic_id: change.topic_id, partition: change.partition_id };
        let topic = self.topics.topic_mut(id.topic_id);
        let topic = topic.ok_or(ImageError::UnknownTopic { offset, id: id.topic_id })?;
        let Some(registration) = topic.partitions.get_mut(&id.partition) else {
            let (topic, partition) = (topic.name.clone(), id.partition);
            return Err(ImageError::UnknownPartition { offset, topic, partition });
        };
        *registration = registration
            .merge(change)
            .ok_or(ImageError::Contradiction { offset, kind: "PartitionChangeRecord" })?;
        delta.partitions.insert(id);
        Ok(())
    }

    /// Forgets the ELR of one topic's partitions, or of all when the name is empty.
    fn clear_elr(&mut self, name: &str, offset: i64, delta: &mut ImageDelta) -> Result<(), ImageError> {
        let ids: Vec<Uuid> = if name.is_empty() {
            self.topics.ids().collect()
        } else {
            let unknown = || ImageError::UnknownTopicName { offset, name: name.to_string() };
            alloc::vec![self.topics.id_of(name).ok_or_else(unknown)?]
        };
        let has_elr = |p: &PartitionRegistration| !p.elr.is_empty() || !p.last_known_elr.is_empty();
        for topic_id in ids {
            // Looked at first, since looking copies nothing of a shared topic.
            if !self.topics.topic(topic_id).is_some_and(|t| t.partitions.values().any(has_elr)) {
                continue;
            }
            let topic = self.topics.topic_mut(topic_id).expect("it was just there");
            for (&partition, registration) in &mut topic.partitions {
                if registration.clear_elr() {
                    delta.partitions.insert(TopicIdPartition { topic_id, partition });
                }
            }
        }
        Ok(())
    }

    fn change_broker(
        &mut self,
        change: &BrokerRegistrationChangeRecord,
        offset: i64,
        delta: &mut ImageDelta,
    ) -> Result<(), ImageError> {
        let contradiction = ImageError::Contradiction { offset, kind: "BrokerRegistrationChangeRecord" };
        let broker = self.broker_mut(change.broker_id, change.broker_epoch, offset, delta)?;
        match change.fenced {
            0 => {}
            1 => broker.fenced = true,
            -1 => broker.fenced = false,
            _ => return Err(contradiction),
        }
        match change.in_controlled_shutdown {
            0 => {}
            1 => broker.in_controlled_shutdown = true,
            _ => return Err(contradiction),
        }
        if !change.log_dirs.is_empty() {
            broker.directories.clone_from(&change.log_dirs);
            broker.directories.sort_unstable();
        }
        if let Some(cordoned) = &change.cordoned_log_dirs {
            broker.cordoned_directories = Some(cordoned.clone());
        }
        Ok(())
    }

    fn change_security(&mut self, record: &MetadataRecord, delta: &mut ImageDelta) {
        use MetadataRecord as R;
        delta.security = true;
        let security = &mut self.security;
        match record {
            R::AccessControlEntry(acl) => drop(security.acls.insert(acl.id, acl.clone())),
            R::RemoveAccessControlEntry(acl) => drop(security.acls.remove(&acl.id)),
            R::UserScramCredential(scram) => security.set_scram(scram),
            R::RemoveUserScramCredential(scram) => security.remove_scram(scram),
            R::DelegationToken(token) => {
                security.delegation_tokens.insert(Arc::from(&*token.token_id), token.clone());
            }
            R::RemoveDelegationToken(token) => drop(security.delegation_tokens.remove(&*token.token_id)),
            _ => unreachable!("only records that secure the cluster come here"),
        }
    }

    fn broker_mut(
        &mut self,
        broker: i32,
        epoch: i64,
        offset: i64,
        delta: &mut ImageDelta,
    ) -> Result<&mut BrokerRegistration, ImageError> {
        delta.brokers.insert(broker);
        let registration = self.brokers.get_mut(&broker).filter(|b| b.epoch == epoch);
        registration.ok_or(ImageError::UnknownBroker { offset, broker, epoch })
    }
}

#[cfg(test)]
mod tests;

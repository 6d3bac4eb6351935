//! Dynamic configurations: what was set for topics, brokers, the whole cluster, client metrics and groups.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use wire::records::ConfigRecord;

/// What a configuration belongs to. The order is that of Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum ResourceType {
    /// A topic.
    Topic = 2,
    /// A broker, or all of them under the empty name.
    Broker = 4,
    /// The log levels of a broker. Never stored.
    BrokerLogger = 8,
    /// A subscription of client metrics (KIP-714).
    ClientMetrics = 16,
    /// A group.
    Group = 32,
}

impl ResourceType {
    /// The type with this number, if there is one.
    pub fn from_id(id: i8) -> Option<ResourceType> {
        Some(match id {
            2 => ResourceType::Topic,
            4 => ResourceType::Broker,
            8 => ResourceType::BrokerLogger,
            16 => ResourceType::ClientMetrics,
            32 => ResourceType::Group,
            _ => return None,
        })
    }

    /// The type's number on the wire.
    pub fn id(self) -> i8 {
        self as i8
    }

    /// Kafka's word for it.
    pub fn name(self) -> &'static str {
        match self {
            ResourceType::Topic => "TOPIC",
            ResourceType::Broker => "BROKER",
            ResourceType::BrokerLogger => "BROKER_LOGGER",
            ResourceType::ClientMetrics => "CLIENT_METRICS",
            ResourceType::Group => "GROUP",
        }
    }
}

/// Something that has configurations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigKey {
    /// Its type.
    pub resource_type: ResourceType,
    /// Its name; for brokers the id in digits, or empty for the default of all brokers.
    pub name: Arc<str>,
}

impl ConfigKey {
    /// The key of a topic.
    pub fn topic(name: &str) -> ConfigKey {
        ConfigKey { resource_type: ResourceType::Topic, name: Arc::from(name) }
    }

    /// The key of a broker.
    pub fn broker(id: i32) -> ConfigKey {
        ConfigKey { resource_type: ResourceType::Broker, name: Arc::from(alloc::format!("{id}")) }
    }

    /// The key of the default of all brokers.
    pub fn cluster_default() -> ConfigKey {
        ConfigKey { resource_type: ResourceType::Broker, name: Arc::from("") }
    }
}

type Settings = BTreeMap<Arc<str>, Arc<str>>;

/// All dynamic configurations.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConfigurationsImage {
    resources: BTreeMap<ResourceType, BTreeMap<Arc<str>, Settings>>,
}

impl ConfigurationsImage {
    /// One setting of a resource, if it was set.
    pub fn value(&self, resource_type: ResourceType, resource: &str, name: &str) -> Option<&Arc<str>> {
        self.resources.get(&resource_type)?.get(resource)?.get(name)
    }

    /// One setting of a topic, if it was set for the topic itself.
    pub fn topic_value(&self, topic: &str, name: &str) -> Option<&Arc<str>> {
        self.value(ResourceType::Topic, topic, name)
    }

    /// All settings of a resource, by name.
    pub fn settings(
        &self,
        resource_type: ResourceType,
        resource: &str,
    ) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.resources.get(&resource_type).and_then(|r| r.get(resource)).into_iter().flatten()
    }

    /// All settings of a resource as a map, if it has any.
    pub fn overrides(
        &self,
        resource_type: ResourceType,
        resource: &str,
    ) -> Option<&BTreeMap<Arc<str>, Arc<str>>> {
        self.resources.get(&resource_type)?.get(resource)
    }

    /// All resources that have settings.
    pub fn resources(&self) -> impl Iterator<Item = (ResourceType, &Arc<str>)> {
        self.resources
            .iter()
            .flat_map(|(&resource_type, names)| names.keys().map(move |name| (resource_type, name)))
    }

    /// Sets or removes one setting.
    pub(super) fn apply(&mut self, key: &ConfigKey, name: &str, value: Option<&str>) {
        let resources = self.resources.entry(key.resource_type).or_default();
        match value {
            Some(value) => {
                let settings = resources.entry(key.name.clone()).or_default();
                settings.insert(Arc::from(name), Arc::from(value));
            }
            None => {
                if let Some(settings) = resources.get_mut(&key.name) {
                    settings.remove(name);
                    if settings.is_empty() {
                        resources.remove(&key.name);
                    }
                }
            }
        }
        if resources.is_empty() {
            self.resources.remove(&key.resource_type);
        }
    }

    /// Forgets all settings of a topic that was deleted.
    pub(super) fn remove_topic(&mut self, topic: &str) {
        if let Some(topics) = self.resources.get_mut(&ResourceType::Topic) {
            topics.remove(topic);
            if topics.is_empty() {
                self.resources.remove(&ResourceType::Topic);
            }
        }
    }

    /// The records that state all settings.
    pub(super) fn to_records(&self) -> impl Iterator<Item = ConfigRecord> {
        self.resources.iter().flat_map(|(resource_type, names)| {
            names.iter().flat_map(|(resource, settings)| {
                settings.iter().map(|(name, value)| ConfigRecord {
                    resource_type: resource_type.id(),
                    resource_name: (**resource).into(),
                    name: (**name).into(),
                    value: Some((**value).into()),
                })
            })
        })
    }
}

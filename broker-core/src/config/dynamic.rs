//! What overrides the static configuration while a node runs (KIP-226), and how it is described (KIP-133, KIP-569).
//!
//! A topic's setting comes from the first of: the topic's own override; the broker's and then the cluster's override of
//! the server's synonym; its static value; its default.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Compression;

use super::{
    BROKER_QUOTA_KEYS, ConfigKey, Kind, NODE_KEYS, NodeConfig, TOPIC_KEYS, Update, Value, broker_key,
    node_key, topic_key,
};
use crate::log::{LogConfig, TargetCompression, TimestampType};
use crate::metadata::{ConfigurationsImage, ResourceType};

/// Overrides of one resource, as committed in ConfigRecords.
pub type Overrides = BTreeMap<Arc<str>, Arc<str>>;

/// The overrides that are in force for a topic (or for no topic) on one broker.
#[derive(Clone, Copy, Default)]
pub struct Dynamic<'a> {
    /// Of the topic.
    pub topic: Option<&'a Overrides>,
    /// Of this broker.
    pub broker: Option<&'a Overrides>,
    /// Of all brokers: the resource with the empty name.
    pub cluster: Option<&'a Overrides>,
}

impl<'a> Dynamic<'a> {
    /// What is in force for a broker.
    pub fn of_broker(configs: &'a ConfigurationsImage, id: i32) -> Dynamic<'a> {
        Dynamic {
            topic: None,
            broker: configs.overrides(ResourceType::Broker, &id.to_string()),
            cluster: configs.overrides(ResourceType::Broker, ""),
        }
    }

    /// What is in force for a topic on a broker.
    pub fn of_topic(configs: &'a ConfigurationsImage, id: i32, topic: &str) -> Dynamic<'a> {
        Dynamic { topic: configs.overrides(ResourceType::Topic, topic), ..Dynamic::of_broker(configs, id) }
    }

    /// A quota of the broker that is set, for it or for all.
    pub fn broker_quota(&self, name: &str) -> Option<u64> {
        let set = [self.broker, self.cluster].into_iter().flatten().find_map(|layer| layer.get(name))?;
        set.trim().parse().ok()
    }
}

/// Where a value comes from, with the numbers of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum ConfigSource {
    /// The topic's override.
    Topic = 1,
    /// The broker's override.
    DynamicBroker = 2,
    /// The cluster-wide override.
    DynamicDefaultBroker = 3,
    /// `server.properties`.
    StaticBroker = 4,
    /// Kafka's default.
    Default = 5,
    /// A group's override.
    Group = 8,
}

/// One of the values that a setting has or would have, the one in force first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The setting, which for a topic may be the server's.
    pub name: &'static str,
    /// Absent for secrets.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
}

/// A setting as DescribeConfigs tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// Absent for null and for secrets.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it can change only with a restart.
    pub read_only: bool,
    /// Whether its value is a secret.
    pub sensitive: bool,
    /// Its type.
    pub kind: Kind,
    /// Every value that it has or would have, the one in force first.
    pub synonyms: Vec<Synonym>,
}

/// Server settings of other units that stand in for the first when that is not set.
fn stand_ins(name: &str) -> &'static [(&'static str, i64)] {
    match name {
        "log.retention.ms" => &[("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)],
        "log.roll.ms" => &[("log.roll.hours", 3_600_000)],
        "log.roll.jitter.ms" => &[("log.roll.jitter.hours", 3_600_000)],
        "log.flush.interval.ms" => &[("log.flush.scheduler.interval.ms", 1)],
        _ => &[],
    }
}

impl NodeConfig {
    /// The value of a node's setting that is in force, as text.
    pub fn node_value<'a>(&'a self, dynamic: Dynamic<'a>, name: &str) -> Option<&'a str> {
        let overrides = [dynamic.broker, dynamic.cluster];
        let set = overrides.into_iter().flatten().find_map(|layer| layer.get(name)).map(|v| &**v);
        let set = set.or_else(|| self.given.get(name).map(String::as_str));
        set.or_else(|| node_key(name).and_then(|k| k.default))
    }

    /// The value of a topic's setting that is in force, as text. Panics if there is no such setting.
    pub fn topic_value<'a>(&'a self, dynamic: Dynamic<'a>, name: &str) -> Cow<'a, str> {
        let key = topic_key(name).unwrap_or_else(|| panic!("{name} is not a topic's setting"));
        if let Some(value) = dynamic.topic.and_then(|t| t.get(name)) {
            return Cow::Borrowed(value);
        }
        let Some(server) = key.server_synonym else { return Cow::Borrowed(key.default.unwrap_or("")) };
        if let Some(value) = self.node_value(dynamic, server) {
            return Cow::Borrowed(value);
        }
        for (other, factor) in stand_ins(server) {
            let value = self.node_value(dynamic, other).and_then(|v| v.trim().parse::<i64>().ok());
            if let Some(value) = value {
                return Cow::Owned(if value < 0 { value } else { value.saturating_mul(*factor) }.to_string());
            }
        }
        Cow::Borrowed(key.default.unwrap_or(""))
    }

    /// A topic's number in force. What a stored override says was checked when it was set; should it not parse, as after
    /// an upgrade, the default holds.
    pub fn topic_number(&self, dynamic: Dynamic<'_>, name: &str) -> i64 {
        let parse = |text: &str| match topic_key(name).map(|k| k.parse(text)) {
            Some(Ok(Value::Number(n))) => Some(n),
            _ => None,
        };
        let default = topic_key(name).and_then(|k| k.default).unwrap_or("0");
        parse(&self.topic_value(dynamic, name)).or_else(|| parse(default)).unwrap_or(0)
    }

    /// A topic's fraction in force, in millionths.
    pub fn topic_millionths(&self, dynamic: Dynamic<'_>, name: &str) -> i64 {
        let parse = |text: &str| match topic_key(name).map(|k| k.parse(text)) {
            Some(Ok(Value::Millionths(n))) => Some(n),
            _ => None,
        };
        let default = topic_key(name).and_then(|k| k.default).unwrap_or("0");
        parse(&self.topic_value(dynamic, name)).or_else(|| parse(default)).unwrap_or(0)
    }

    /// A node's fraction in force, in millionths. Panics if there is no such setting.
    pub fn node_millionths(&self, dynamic: Dynamic<'_>, name: &str) -> i64 {
        let key = node_key(name).unwrap_or_else(|| panic!("{name} is not a node's setting"));
        let parse = |text: &str| match key.parse(text) {
            Ok(Value::Millionths(n)) => Some(n),
            _ => None,
        };
        let parsed = self.node_value(dynamic, name).and_then(parse);
        parsed.or_else(|| key.default.and_then(parse)).unwrap_or(0)
    }

    /// A node's number in force. Panics if there is no such setting.
    pub fn node_number(&self, dynamic: Dynamic<'_>, name: &str) -> i64 {
        let key = node_key(name).unwrap_or_else(|| panic!("{name} is not a node's setting"));
        let parse = |text: &str| match key.parse(text) {
            Ok(Value::Number(n)) => Some(n),
            _ => None,
        };
        let parsed = self.node_value(dynamic, name).and_then(parse);
        parsed.or_else(|| key.default.and_then(parse)).unwrap_or(0)
    }

    /// A node's flag in force.
    pub fn node_flag(&self, dynamic: Dynamic<'_>, name: &str) -> bool {
        let key = node_key(name).unwrap_or_else(|| panic!("{name} is not a node's setting"));
        let text = self.node_value(dynamic, name).or(key.default);
        text.is_some_and(|text| text.trim().eq_ignore_ascii_case("true"))
    }

    /// A node's number as its own configuration gives it. Panics if there is no such setting.
    pub fn static_number(&self, name: &str) -> i64 {
        self.node_number(Dynamic::default(), name)
    }

    /// A topic's flag in force.
    pub fn topic_flag(&self, dynamic: Dynamic<'_>, name: &str) -> bool {
        self.topic_value(dynamic, name).trim().eq_ignore_ascii_case("true")
    }

    /// The settings of a topic's logs on this broker.
    pub fn log_config(&self, dynamic: Dynamic<'_>) -> LogConfig {
        let number = |name: &str| self.topic_number(dynamic, name);
        let policy = self.topic_value(dynamic, "cleanup.policy");
        let has = |word: &str| policy.split(',').any(|p| p.trim() == word);
        let internal_segment = dynamic.topic.and_then(|t| t.get("internal.segment.bytes"));
        let internal_segment = internal_segment.map(|v| &**v);
        let internal_segment =
            internal_segment.or_else(|| self.given.get("internal.segment.bytes").map(String::as_str));
        let segment_bytes = internal_segment
            .and_then(|v| v.trim().parse::<i64>().ok())
            .unwrap_or_else(|| number("segment.bytes"));
        let compact = has("compact");
        let max_compaction_lag_ms = number("max.compaction.lag.ms");
        let segment_ms = number("segment.ms");
        LogConfig {
            segment_bytes: segment_bytes as u32,
            segment_ms: if compact { segment_ms.min(max_compaction_lag_ms.max(0)) } else { segment_ms },
            segment_jitter_ms: 0,
            segment_index_bytes: number("segment.index.bytes") as u32,
            index_interval_bytes: number("index.interval.bytes") as u32,
            max_message_bytes: number("max.message.bytes") as u32,
            timestamp_type: match self.topic_value(dynamic, "message.timestamp.type").trim() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            compression: self.target_compression(dynamic),
            compact,
            delete: has("delete"),
            retention_ms: number("retention.ms"),
            retention_bytes: number("retention.bytes"),
            min_cleanable_ratio: self.topic_millionths(dynamic, "min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: number("min.compaction.lag.ms"),
            max_compaction_lag_ms,
            delete_retention_ms: number("delete.retention.ms"),
            flush_messages: number("flush.messages"),
            flush_ms: number("flush.ms"),
            file_delete_delay_ms: number("file.delete.delay.ms"),
            mutants: self.mutants,
        }
    }

    fn target_compression(&self, dynamic: Dynamic<'_>) -> TargetCompression {
        let level = |name: &str| Some(self.topic_number(dynamic, name) as i32);
        let (codec, level) = match self.topic_value(dynamic, "compression.type").trim() {
            "uncompressed" => (Compression::None, None),
            "gzip" => (Compression::Gzip, level("compression.gzip.level").filter(|l| *l != -1)),
            "snappy" => (Compression::Snappy, None),
            "lz4" => (Compression::Lz4, level("compression.lz4.level")),
            "zstd" => (Compression::Zstd, level("compression.zstd.level")),
            _ => return TargetCompression::Producer,
        };
        TargetCompression::Fixed { codec, level }
    }

    /// Every setting of a topic, sorted by name.
    pub fn describe_topic(&self, dynamic: Dynamic<'_>) -> Vec<Described> {
        let all = TOPIC_KEYS.iter().filter(|k| !k.hidden);
        all.map(|key| self.describe_topic_key(key, dynamic)).collect()
    }

    fn describe_topic_key(&self, key: &'static ConfigKey, dynamic: Dynamic<'_>) -> Described {
        let mut synonyms = match key.server_synonym.and_then(node_key) {
            Some(server) => self.node_synonyms(server, dynamic),
            None => Vec::new(),
        };
        let value = key.canonical(&self.topic_value(dynamic, key.name));
        if dynamic.topic.is_some_and(|t| t.contains_key(key.name)) {
            let own = Synonym { name: key.name, value: Some(value.clone()), source: ConfigSource::Topic };
            synonyms.insert(0, own);
        }
        Described {
            name: key.name,
            value: Some(value),
            source: synonyms.first().map_or(ConfigSource::Default, |s| s.source),
            read_only: false,
            sensitive: false,
            kind: key.kind,
            synonyms,
        }
    }

    /// Every setting of this broker, sorted by name.
    pub fn describe_node(&self, dynamic: Dynamic<'_>) -> Vec<Described> {
        let all = NODE_KEYS.iter().filter(|k| !k.hidden || self.given.contains_key(k.name));
        let set = |k: &&ConfigKey| {
            [dynamic.broker, dynamic.cluster].into_iter().flatten().any(|layer| layer.contains_key(k.name))
        };
        let quotas = BROKER_QUOTA_KEYS.iter().filter(set);
        let mut described: Vec<_> =
            all.chain(quotas).map(|key| self.describe_node_key(key, dynamic)).collect();
        described.sort_by_key(|d| d.name);
        described
    }

    fn describe_node_key(&self, key: &'static ConfigKey, dynamic: Dynamic<'_>) -> Described {
        let synonyms = self.node_synonyms(key, dynamic);
        let value = self.node_value(dynamic, key.name).map(|v| key.canonical(v));
        Described {
            name: key.name,
            value: value.filter(|_| !key.sensitive()),
            source: synonyms.first().map_or(ConfigSource::Default, |s| s.source),
            read_only: key.update == Update::ReadOnly,
            sensitive: key.sensitive(),
            kind: key.kind,
            synonyms,
        }
    }

    /// The cluster-wide overrides, as `kafka-configs --entity-default` shows them.
    pub fn describe_cluster_default(&self, cluster: &Overrides) -> Vec<Described> {
        let known = cluster.keys().filter_map(|name| broker_key(name));
        let dynamic = Dynamic { cluster: Some(cluster), ..Dynamic::default() };
        known
            .map(|key| {
                let mut described = self.describe_node_key(key, dynamic);
                described.value =
                    cluster.get(key.name).map(|v| key.canonical(v)).filter(|_| !key.sensitive());
                described.synonyms.retain(|s| s.source == ConfigSource::DynamicDefaultBroker);
                described.source = ConfigSource::DynamicDefaultBroker;
                described
            })
            .collect()
    }

    /// The values of a node's setting in every layer that has one. Stand-ins of another unit are not among them, as in
    /// Kafka, where they are dropped because their name differs.
    fn node_synonyms(&self, key: &'static ConfigKey, dynamic: Dynamic<'_>) -> Vec<Synonym> {
        let own = dynamic.broker.and_then(|b| b.get(key.name)).map(|v| (&**v, ConfigSource::DynamicBroker));
        let shared = dynamic.cluster.and_then(|c| c.get(key.name));
        let shared = shared.map(|v| (&**v, ConfigSource::DynamicDefaultBroker));
        let given = self.given.get(key.name).map(|v| (v.as_str(), ConfigSource::StaticBroker));
        let default = key.default.map(|d| (d, ConfigSource::Default));
        own.into_iter()
            .chain(shared)
            .chain(given)
            .chain(default)
            .map(|(text, source)| {
                let value = Some(key.canonical(text)).filter(|_| !key.sensitive());
                Synonym { name: key.name, value, source }
            })
            .collect()
    }
}

/// Checks an override of a topic's setting: in Kafka's words why it is refused (INVALID_CONFIG).
pub fn validate_topic(name: &str, value: &str) -> Result<(), String> {
    let Some(key) = topic_key(name) else { return Err(format!("Unknown topic config name: {name}")) };
    key.parse(value).map(|_| ()).map_err(|e| e.to_string())
}

/// Checks an override of a broker's setting: in Kafka's words why it is refused (INVALID_REQUEST).
pub fn validate_broker_override(name: &str, value: Option<&str>, per_broker: bool) -> Result<(), String> {
    // A setting of one listener: `listener.name.client.ssl.keystore.location`.
    let base = match name.strip_prefix("listener.name.") {
        Some(rest) => rest.split_once('.').map_or(rest, |(_, base)| base),
        None => name,
    };
    let Some(key) = broker_key(base) else { return Ok(()) };
    match key.update {
        Update::ReadOnly => return Err(format!("Cannot update these configs dynamically: [{name}]")),
        Update::PerBroker if !per_broker => {
            return Err(format!(
                "Cannot update these configs at default cluster level, broker id must be specified: [{name}]"
            ));
        }
        Update::PerBroker | Update::ClusterWide => {}
    }
    match value {
        Some(value) => key.parse(value).map(|_| ()).map_err(|e| e.to_string()),
        None => Ok(()),
    }
}

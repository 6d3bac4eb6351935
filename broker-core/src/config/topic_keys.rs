//! Every setting of a topic in Kafka 4.3, and the node's setting that gives its default (`ServerTopicConfigSynonyms`).

use super::def::{Check, ConfigKey, Kind, Update};
use crate::quota::replication::{FOLLOWER_REPLICAS, LEADER_REPLICAS};

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    check: Check,
    server_synonym: Option<&'static str>,
) -> ConfigKey {
    ConfigKey {
        name,
        kind,
        default: Some(default),
        check,
        update: Update::ClusterWide,
        hidden: false,
        server_synonym,
    }
}

const NEVER: &str = "9223372036854775807";

/// The settings of a topic, sorted by name.
#[rustfmt::skip]
pub static TOPIC_KEYS: &[ConfigKey] = &[
    key("cleanup.policy", Kind::List, "delete", Check::OneOf(&["compact", "delete"]), Some("log.cleanup.policy")),
    key("compression.gzip.level", Kind::Int, "-1", Check::GzipLevel, Some("compression.gzip.level")),
    key("compression.lz4.level", Kind::Int, "9", Check::Between(1, 17), Some("compression.lz4.level")),
    key("compression.type", Kind::Str, "producer", Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), Some("compression.type")),
    key("compression.zstd.level", Kind::Int, "3", Check::Between(-131072, 22), Some("compression.zstd.level")),
    key("delete.retention.ms", Kind::Long, "86400000", Check::AtLeast(0), Some("log.cleaner.delete.retention.ms")),
    key("file.delete.delay.ms", Kind::Long, "60000", Check::AtLeast(0), Some("log.segment.delete.delay.ms")),
    key("flush.messages", Kind::Long, NEVER, Check::AtLeast(1), Some("log.flush.interval.messages")),
    key("flush.ms", Kind::Long, NEVER, Check::AtLeast(0), Some("log.flush.interval.ms")),
    key(FOLLOWER_REPLICAS, Kind::List, "", Check::ThrottledReplicas, None),
    key("index.interval.bytes", Kind::Int, "4096", Check::AtLeast(0), Some("log.index.interval.bytes")),
    ConfigKey { hidden: true, ..key("internal.segment.bytes", Kind::Int, "", Check::AtLeast(14), None) },
    key(LEADER_REPLICAS, Kind::List, "", Check::ThrottledReplicas, None),
    key("local.retention.bytes", Kind::Long, "-2", Check::AtLeast(-2), Some("log.local.retention.bytes")),
    key("local.retention.ms", Kind::Long, "-2", Check::AtLeast(-2), Some("log.local.retention.ms")),
    key("max.compaction.lag.ms", Kind::Long, NEVER, Check::AtLeast(1), Some("log.cleaner.max.compaction.lag.ms")),
    key("max.message.bytes", Kind::Int, "1048588", Check::AtLeast(0), Some("message.max.bytes")),
    key("message.timestamp.after.max.ms", Kind::Long, "3600000", Check::AtLeast(0), Some("log.message.timestamp.after.max.ms")),
    key("message.timestamp.before.max.ms", Kind::Long, NEVER, Check::AtLeast(0), Some("log.message.timestamp.before.max.ms")),
    key("message.timestamp.type", Kind::Str, "CreateTime", Check::OneOf(&["CreateTime", "LogAppendTime"]), Some("log.message.timestamp.type")),
    key("min.cleanable.dirty.ratio", Kind::Double, "0.5", Check::Between(0, 1), Some("log.cleaner.min.cleanable.ratio")),
    key("min.compaction.lag.ms", Kind::Long, "0", Check::AtLeast(0), Some("log.cleaner.min.compaction.lag.ms")),
    key("min.insync.replicas", Kind::Int, "1", Check::AtLeast(1), Some("min.insync.replicas")),
    key("preallocate", Kind::Bool, "false", Check::Any, Some("log.preallocate")),
    key("remote.log.copy.disable", Kind::Bool, "false", Check::Any, None),
    key("remote.log.delete.on.disable", Kind::Bool, "false", Check::Any, None),
    key("remote.storage.enable", Kind::Bool, "false", Check::Any, None),
    key("retention.bytes", Kind::Long, "-1", Check::Any, Some("log.retention.bytes")),
    key("retention.ms", Kind::Long, "604800000", Check::AtLeast(-1), Some("log.retention.ms")),
    key("segment.bytes", Kind::Int, "1073741824", Check::AtLeast(1_048_576), Some("log.segment.bytes")),
    key("segment.index.bytes", Kind::Int, "10485760", Check::AtLeast(4), Some("log.index.size.max.bytes")),
    key("segment.jitter.ms", Kind::Long, "0", Check::AtLeast(0), Some("log.roll.jitter.ms")),
    key("segment.ms", Kind::Long, "604800000", Check::AtLeast(1), Some("log.roll.ms")),
    key("unclean.leader.election.enable", Kind::Bool, "false", Check::Any, Some("unclean.leader.election.enable")),
];

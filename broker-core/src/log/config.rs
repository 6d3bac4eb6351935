//! The settings of one log: the topic configurations that the log itself reads, with Kafka's defaults.

use wire::Compression;

use crate::mutant::Mutants;

/// `message.timestamp.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// Timestamps are the producer's.
    #[default]
    CreateTime,
    /// The broker stamps batches with its wall clock.
    LogAppendTime,
}

/// `compression.type`, with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TargetCompression {
    /// `producer`: batches stay as they came.
    #[default]
    Producer,
    /// Batches that are compressed otherwise are rewritten.
    Fixed {
        /// The codec; `uncompressed` is [`Compression::None`].
        codec: Compression,
        /// `compression.LEVEL.level`, the codec's own default if absent.
        level: Option<i32>,
    },
}

/// The settings of one log. Sizes in bytes, times in milliseconds, names as in Kafka's topic configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`; of a compacted topic at most `max.compaction.lag.ms`, since only closed segments are cleaned.
    pub segment_ms: i64,
    /// What the driver drew below `segment.jitter.ms`; subtracted from `segment_ms`.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `max.message.bytes`.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `compression.type`.
    pub compression: TargetCompression,
    /// Whether `cleanup.policy` contains `compact`.
    pub compact: bool,
    /// Whether `cleanup.policy` contains `delete`.
    pub delete: bool,
    /// `retention.ms`; negative for no limit.
    pub retention_ms: i64,
    /// `retention.bytes`; negative for no limit.
    pub retention_bytes: i64,
    /// `min.cleanable.dirty.ratio`, in millionths.
    pub min_cleanable_ratio: i64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `flush.messages`.
    pub flush_messages: i64,
    /// `flush.ms`.
    pub flush_ms: i64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// Bugs that are switched on in this node.
    pub mutants: Mutants,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4_096,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compression: TargetCompression::Producer,
            compact: false,
            delete: true,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            min_cleanable_ratio: 500_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 86_400_000,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            file_delete_delay_ms: 60_000,
            mutants: Mutants::NONE,
        }
    }
}

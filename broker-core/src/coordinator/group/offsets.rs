//! Committed offsets of groups, and those that wait for the end of a transaction.
//!
//! Follows Kafka's `OffsetMetadataManager`. What a fetch tells is what is committed in the log: of each offset its
//! newest value below the high watermark is kept beside those that are still on their way.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use smallvec::SmallVec;
use wire::Uuid;
use wire::codec::{Record as _, Writer};
use wire::records::{OffsetCommitKey, OffsetCommitValue};

use super::super::runtime::{BatchInfo, Records};
use crate::event::TopicPartition;

/// The kind of an offset's key, in the version that Kafka 4.3 writes.
const OFFSET_KEY: i16 = 1;

/// An offset as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the record before it, -1 if it is not known.
    pub leader_epoch: i32,
    /// What the client put beside it.
    pub metadata: Arc<str>,
    /// When, in milliseconds of wall clock.
    pub commit_timestamp: i64,
    /// When it expires, if the client said so (versions before 5).
    pub expire_timestamp: Option<i64>,
    /// The id of the topic, zero if it is not known.
    pub topic_id: Uuid,
}

/// A value and the offset of the record that said so.
type Version = (i64, Option<Committed>);

/// The values of one offset: the newest committed one, and those behind it.
#[derive(Clone, Debug, Default)]
struct Versions(SmallVec<[Version; 1]>);

impl Versions {
    fn put(&mut self, at: i64, value: Option<Committed>, committed_to: i64) {
        self.0.push((at, value));
        if let Some(newest) = self.0.iter().rposition(|(at, _)| *at < committed_to) {
            self.0.drain(..newest);
        }
    }

    fn latest(&self) -> Option<&Committed> {
        self.0.last().and_then(|(_, value)| value.as_ref())
    }

    fn stable(&self, committed_to: i64) -> Option<&Committed> {
        self.0.iter().rev().find(|(at, _)| *at < committed_to).and_then(|(_, value)| value.as_ref())
    }

    fn is_gone(&self, committed_to: i64) -> bool {
        self.latest().is_none() && self.stable(committed_to).is_none()
    }
}

/// The offsets of one group: by topic and partition.
type GroupOffsets = BTreeMap<Arc<str>, BTreeMap<i32, Versions>>;

/// What a transaction has committed in one group.
type PendingOffsets = BTreeMap<(Arc<str>, i32), Committed>;

/// The committed offsets of the groups of a partition of `__consumer_offsets`.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    by_group: BTreeMap<Arc<str>, GroupOffsets>,
    /// By producer id, then by group.
    pending: BTreeMap<i64, BTreeMap<Arc<str>, PendingOffsets>>,
    committed_to: i64,
}

impl Offsets {
    /// All below `high_watermark` is committed.
    pub fn committed(&mut self, high_watermark: i64) {
        self.committed_to = self.committed_to.max(high_watermark);
    }

    // --- looking

    /// The groups that have offsets, or that a transaction gives some.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_group.keys()
    }

    /// Whether a group has any offset.
    pub fn has_offsets(&self, group: &str) -> bool {
        self.by_group.get(group).is_some_and(|topics| {
            topics.values().flat_map(BTreeMap::values).any(|versions| versions.latest().is_some())
        })
    }

    /// Whether a transaction that is open has offsets of a group.
    pub fn has_pending(&self, group: &str) -> bool {
        self.pending.values().any(|groups| groups.contains_key(group))
    }

    /// The committed offset of a partition, as others may be told of it.
    pub fn stable(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.by_group.get(group)?.get(topic)?.get(&partition)?.stable(self.committed_to)
    }

    /// Whether an open transaction has an offset of this partition.
    pub fn is_unstable(&self, group: &str, topic: &str, partition: i32) -> bool {
        let of = |offsets: &PendingOffsets| offsets.keys().any(|(t, p)| **t == *topic && *p == partition);
        self.pending.values().any(|groups| groups.get(group).is_some_and(of))
    }

    /// All partitions of which a group has offsets, or is given some by an open transaction; ordered.
    pub fn partitions(&self, group: &str) -> Vec<(Arc<str>, i32)> {
        let mut all: BTreeSet<(Arc<str>, i32)> = BTreeSet::new();
        for (topic, partitions) in self.by_group.get(group).into_iter().flatten() {
            all.extend(
                (partitions.iter())
                    .filter(|(_, v)| v.stable(self.committed_to).is_some())
                    .map(|(p, _)| (topic.clone(), *p)),
            );
        }
        for offsets in self.pending.values().filter_map(|groups| groups.get(group)) {
            all.extend(offsets.keys().cloned());
        }
        all.into_iter().collect()
    }

    /// All committed offsets of a group, as others may be told of them.
    pub fn all_stable(&self, group: &str) -> BTreeMap<TopicPartition, i64> {
        let of_topic = |(topic, partitions): (&Arc<str>, &BTreeMap<i32, Versions>)| {
            let one = |(partition, versions): (&i32, &Versions)| {
                let offset = versions.stable(self.committed_to)?.offset;
                Some((TopicPartition { topic: topic.clone(), partition: *partition }, offset))
            };
            partitions.iter().filter_map(one).collect::<Vec<_>>()
        };
        self.by_group.get(group).into_iter().flatten().flat_map(of_topic).collect()
    }

    /// The latest value of every offset of a group, committed or not; ordered.
    pub fn latest(&self, group: &str) -> impl Iterator<Item = (&Arc<str>, i32, &Committed)> {
        self.by_group.get(group).into_iter().flatten().flat_map(|(topic, partitions)| {
            partitions.iter().filter_map(move |(p, versions)| Some((topic, *p, versions.latest()?)))
        })
    }

    // --- records

    /// Replays a record of an offset.
    pub fn replay(&mut self, batch: &BatchInfo, key: &OffsetCommitKey, value: Option<&OffsetCommitValue>) {
        let value = value.map(|value| Committed {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: Arc::from(&*value.metadata),
            commit_timestamp: value.commit_timestamp,
            expire_timestamp: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
            topic_id: value.topic_id,
        });
        let (group, topic) = (self.group_name(&key.group), Arc::<str>::from(&*key.topic));
        if batch.transactional {
            let offsets = self.pending.entry(batch.producer_id).or_default().entry(group).or_default();
            match value {
                Some(value) => offsets.insert((topic, key.partition), value),
                None => offsets.remove(&(topic, key.partition)),
            };
            return;
        }
        self.put(&group, topic, key.partition, batch.offset, value);
    }

    fn group_name(&self, group: &str) -> Arc<str> {
        self.by_group.get_key_value(group).map_or_else(|| Arc::from(group), |(name, _)| name.clone())
    }

    fn put(&mut self, group: &Arc<str>, topic: Arc<str>, partition: i32, at: i64, value: Option<Committed>) {
        let committed_to = self.committed_to;
        let gone = value.is_none();
        let topics = self.by_group.entry(group.clone()).or_default();
        let partitions = topics.entry(topic.clone()).or_default();
        partitions.entry(partition).or_default().put(at, value, committed_to);
        if gone {
            partitions.retain(|_, versions| !versions.is_gone(committed_to));
            if partitions.is_empty() {
                topics.remove(&topic);
            }
            if topics.is_empty() {
                self.by_group.remove(group);
            }
        }
    }

    /// A transaction has ended: its offsets take their place, or never were.
    pub fn end_transaction(&mut self, producer_id: i64, commit: bool, at: i64) {
        let Some(groups) = self.pending.remove(&producer_id) else { return };
        if !commit {
            return;
        }
        for (group, offsets) in groups {
            for ((topic, partition), value) in offsets {
                self.put(&group, topic, partition, at, Some(value));
            }
        }
    }
}

/// Adds the record of an offset.
pub fn push_offset(
    records: &mut Records,
    w: &mut OffsetWriter,
    group: &str,
    topic: &str,
    partition: i32,
    value: &OffsetCommitValue,
) {
    // Kafka writes version 1 for offsets that were committed with an expiry of their own, else the latest.
    let version = if value.expire_timestamp >= 0 { 1 } else { OffsetCommitValue::MAX_VERSION };
    w.key(group, topic, partition);
    let mut writer = Writer::with_capacity(64);
    writer.i16(version);
    value.encode(&mut writer, version).expect("a string of a request fits into a record");
    let bytes = writer.into_bytes().expect("it was just written");
    records.push(&w.key, Some(&bytes));
}

/// Adds the tombstone of an offset.
pub fn push_tombstone(records: &mut Records, w: &mut OffsetWriter, group: &str, topic: &str, partition: i32) {
    w.key(group, topic, partition);
    records.push(&w.key, None);
}

/// Room in which keys are written.
#[derive(Debug, Default)]
pub struct OffsetWriter {
    key: Vec<u8>,
}

impl OffsetWriter {
    /// The key of an offset: its kind, then group, topic and partition, as `OffsetCommitKey` has them.
    fn key(&mut self, group: &str, topic: &str, partition: i32) {
        self.key.clear();
        self.key.extend_from_slice(&OFFSET_KEY.to_be_bytes());
        for text in [group, topic] {
            let len = i16::try_from(text.len()).expect("a string of a request fits into a record");
            self.key.extend_from_slice(&len.to_be_bytes());
            self.key.extend_from_slice(text.as_bytes());
        }
        self.key.extend_from_slice(&partition.to_be_bytes());
    }
}

/// The value of an offset's record.
pub fn offset_value(value: &Committed) -> OffsetCommitValue {
    OffsetCommitValue {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: String::from(&*value.metadata).to_string(),
        commit_timestamp: value.commit_timestamp,
        expire_timestamp: value.expire_timestamp.unwrap_or(-1),
        topic_id: value.topic_id,
    }
}

//! Committed offsets of groups, and those that wait for the end of a transaction.
//!
//! Follows Kafka's `OffsetMetadataManager`. What a fetch tells is what is committed in the log: of each offset its
//! newest value below the high watermark is kept beside those that are still on their way.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use smallvec::SmallVec;
use wire::codec::{DecodeError, Record as _, Writer};
use wire::records::OffsetCommitValue;
use wire::{Reader, Uuid};

use super::super::runtime::{BatchInfo, Records};
use crate::event::TopicPartition;

/// The kind of an offset's key, in the version that Kafka 4.3 writes.
const OFFSET_KEY: i16 = 1;
const LEGACY_OFFSET_KEY: i16 = 0;

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

/// The values of one offset: the newest committed one, and those behind it. Two are usual, while a commit is on its way.
#[derive(Clone, Debug, Default)]
struct Versions(SmallVec<[Version; 2]>);

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

/// What a transaction has committed in one group: by topic and partition.
type PendingOffsets = BTreeMap<Arc<str>, BTreeMap<i32, Committed>>;

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

    /// The newest offset of a partition, committed or not: for who is told of it once it is.
    pub fn newest(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.by_group.get(group)?.get(topic)?.get(&partition)?.latest()
    }

    /// Whether there is an offset of this partition that is not committed yet.
    pub fn is_on_its_way(&self, group: &str, topic: &str, partition: i32) -> bool {
        let known = self.by_group.get(group).and_then(|topics| topics.get(topic)?.get(&partition));
        known.is_some_and(|versions| versions.0.last().is_some_and(|(at, _)| *at >= self.committed_to))
    }

    /// Whether an open transaction has an offset of this partition.
    pub fn is_unstable(&self, group: &str, topic: &str, partition: i32) -> bool {
        let of = |offsets: &PendingOffsets| offsets.get(topic).is_some_and(|of| of.contains_key(&partition));
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
            all.extend(offsets.iter().flat_map(|(topic, of)| of.keys().map(|p| (topic.clone(), *p))));
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
    pub fn replay(&mut self, batch: &BatchInfo, key: &OffsetKey<'_>, value: Option<&OffsetCommitValue>) {
        let value = value.map(|value| Committed {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: shared(&value.metadata),
            commit_timestamp: value.commit_timestamp,
            expire_timestamp: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
            topic_id: value.topic_id,
        });
        let (group, topic) = self.names(batch.producer_id, &key.group, &key.topic);
        if !batch.transactional {
            return self.put(&group, topic, key.partition, batch.offset, value);
        }
        let topics = self.pending.entry(batch.producer_id).or_default().entry(group).or_default();
        match value {
            Some(value) => drop(topics.entry(topic).or_default().insert(key.partition, value)),
            None => {
                if let Some(partitions) = topics.get_mut(&topic) {
                    partitions.remove(&key.partition);
                    if partitions.is_empty() {
                        topics.remove(&topic);
                    }
                }
            }
        }
    }

    /// The names of a group and a topic: those that are here already, if they are.
    fn names(&self, producer_id: i64, group: &str, topic: &str) -> (Arc<str>, Arc<str>) {
        let committed = self.by_group.get_key_value(group);
        let pending = self.pending.get(&producer_id).and_then(|groups| groups.get_key_value(group));
        let known_group = committed.map(|(name, _)| name).or(pending.map(|(name, _)| name));
        let of_committed =
            committed.and_then(|(_, topics)| topics.get_key_value(topic)).map(|(name, _)| name);
        let of_pending = || pending.and_then(|(_, topics)| topics.get_key_value(topic)).map(|(name, _)| name);
        let known_topic = of_committed.or_else(of_pending);
        let name = |known: Option<&Arc<str>>, text: &str| known.cloned().unwrap_or_else(|| Arc::from(text));
        (name(known_group, group), name(known_topic, topic))
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
            for (topic, partitions) in offsets {
                for (partition, value) in partitions {
                    self.put(&group, topic.clone(), partition, at, Some(value));
                }
            }
        }
    }
}

/// What a client put beside an offset: usually nothing, which takes no memory.
pub fn shared(metadata: &str) -> Arc<str> {
    if metadata.is_empty() { Arc::default() } else { Arc::from(metadata) }
}

/// Adds the record of an offset.
pub fn push_offset(
    records: &mut Records,
    w: &mut OffsetWriter,
    group: &str,
    topic: &str,
    partition: i32,
    committed: &Committed,
) {
    w.key(group, topic, partition);
    w.value(committed);
    records.push(&w.key, Some(&w.bytes));
}

/// Adds the tombstone of an offset.
pub fn push_tombstone(records: &mut Records, w: &mut OffsetWriter, group: &str, topic: &str, partition: i32) {
    w.key(group, topic, partition);
    records.push(&w.key, None);
}

/// The key of an offset's record, as `OffsetCommitKey` has it: read and written without an allocation, since a commit has
/// one for each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetKey<'k> {
    /// The group.
    pub group: Cow<'k, str>,
    /// The topic.
    pub topic: Cow<'k, str>,
    /// The partition.
    pub partition: i32,
}

impl OffsetKey<'_> {
    /// The key in a record; absent if it is one of another kind.
    pub fn read(key: &[u8]) -> Option<Result<OffsetKey<'_>, DecodeError>> {
        let read = || {
            let mut reader = Reader::from_slice(&key[2..]);
            let (group, topic) = (reader.string(false)?, reader.string(false)?);
            let partition = reader.i32()?;
            reader.finish()?;
            Ok(OffsetKey { group, topic, partition })
        };
        // Before 0.9 keys had another number and the same fields (`LegacyOffsetCommitKey`).
        let number = key.first_chunk().map(|number| i16::from_be_bytes(*number));
        number.is_some_and(|number| [LEGACY_OFFSET_KEY, OFFSET_KEY].contains(&number)).then(read)
    }
}

/// Room in which keys and values are written.
#[derive(Debug, Default)]
pub struct OffsetWriter {
    key: Vec<u8>,
    bytes: Vec<u8>,
    value: OffsetCommitValue,
}

impl OffsetWriter {
    /// The key of an offset: its kind, then group, topic and partition.
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

    /// The value of an offset, behind its version.
    fn value(&mut self, committed: &Committed) {
        let value = &mut self.value;
        value.offset = committed.offset;
        value.leader_epoch = committed.leader_epoch;
        value.metadata.clear();
        value.metadata.push_str(&committed.metadata);
        value.commit_timestamp = committed.commit_timestamp;
        value.expire_timestamp = committed.expire_timestamp.unwrap_or(-1);
        value.topic_id = committed.topic_id;
        // Kafka writes version 1 for offsets that were committed with an expiry of their own, else the latest.
        let version = if value.expire_timestamp >= 0 { 1 } else { OffsetCommitValue::MAX_VERSION };
        let mut writer = Writer::reusing(core::mem::take(&mut self.bytes));
        writer.i16(version);
        value.encode(&mut writer, version).expect("a string of a request fits into a record");
        self.bytes = writer.into_bytes().expect("it was just written");
    }
}

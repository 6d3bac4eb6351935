//! Which partitions a broker is concerned with, so that fencing one looks at its partitions and at no others.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use wire::Uuid;

use crate::metadata::{MetadataImage, NO_LEADER, PartitionRegistration, TopicIdPartition, directory};

type Set = BTreeSet<TopicIdPartition>;

/// Partitions by what brokers are to them. Kept in step with an image, change by change.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PartitionIndex {
    in_isr: BTreeMap<i32, Set>,
    in_elr: BTreeMap<i32, Set>,
    led_by: BTreeMap<i32, Set>,
    in_directory: BTreeMap<Uuid, Set>,
    imbalanced: Set,
    reassigning: Set,
}

impl PartitionIndex {
    /// The index of a whole image.
    pub fn of(image: &MetadataImage) -> PartitionIndex {
        let mut index = PartitionIndex::default();
        for topic in image.topics.iter() {
            for (&partition, registration) in &topic.partitions {
                index.update(TopicIdPartition { topic_id: topic.id, partition }, None, Some(registration));
            }
        }
        index
    }

    /// A partition was made (`before` is absent), changed, or deleted (`after` is absent).
    pub fn update(
        &mut self,
        id: TopicIdPartition,
        before: Option<&PartitionRegistration>,
        after: Option<&PartitionRegistration>,
    ) {
        fn all(
            registration: Option<&PartitionRegistration>,
            field: fn(&PartitionRegistration) -> &[i32],
        ) -> &[i32] {
            registration.map_or(&[], field)
        }
        move_between(&mut self.in_isr, id, all(before, |p| &p.isr), all(after, |p| &p.isr));
        move_between(&mut self.in_elr, id, all(before, |p| &p.elr), all(after, |p| &p.elr));
        let leader = |p: &PartitionRegistration| [p.leader];
        let (old, new) = (before.map(leader), after.map(leader));
        let leaders = (old.as_ref().map_or(&[][..], |l| l), new.as_ref().map_or(&[][..], |l| l));
        move_between(&mut self.led_by, id, leaders.0, leaders.1);
        let directories = |p: Option<&'_ PartitionRegistration>| -> Vec<Uuid> {
            let all = p.into_iter().flat_map(|p| p.directories.iter().copied());
            all.filter(|&d| !directory::is_reserved(d)).collect()
        };
        if before.map(|p| &p.directories) != after.map(|p| &p.directories) {
            move_between(&mut self.in_directory, id, &directories(before), &directories(after));
        }
        set(&mut self.imbalanced, id, after.is_some_and(|p| !p.has_preferred_leader()));
        set(&mut self.reassigning, id, after.is_some_and(PartitionRegistration::is_reassigning));
    }

    /// Partitions in whose ISR a broker is.
    pub fn with_in_isr(&self, broker: i32) -> Vec<TopicIdPartition> {
        listed(self.in_isr.get(&broker))
    }

    /// Partitions in whose ELR a broker is.
    pub fn with_in_elr(&self, broker: i32) -> Vec<TopicIdPartition> {
        listed(self.in_elr.get(&broker))
    }

    /// Partitions that have no leader.
    pub fn leaderless(&self) -> Vec<TopicIdPartition> {
        listed(self.led_by.get(&NO_LEADER))
    }

    /// Whether a broker leads anything.
    pub fn has_leaderships(&self, broker: i32) -> bool {
        self.led_by.contains_key(&broker)
    }

    /// Partitions that have a replica in a log directory.
    pub fn in_directory(&self, directory: Uuid) -> Vec<TopicIdPartition> {
        listed(self.in_directory.get(&directory))
    }

    /// Partitions that are not led by their preferred replica.
    pub fn imbalanced(&self) -> impl Iterator<Item = TopicIdPartition> {
        self.imbalanced.iter().copied()
    }

    /// Partitions that are being reassigned.
    pub fn reassigning(&self) -> impl Iterator<Item = TopicIdPartition> {
        self.reassigning.iter().copied()
    }
}

fn listed(set: Option<&Set>) -> Vec<TopicIdPartition> {
    set.map(|s| s.iter().copied().collect()).unwrap_or_default()
}

fn set(of: &mut Set, id: TopicIdPartition, belongs: bool) {
    if belongs {
        of.insert(id);
    } else {
        of.remove(&id);
    }
}

fn move_between<K: Ord + Copy>(sets: &mut BTreeMap<K, Set>, id: TopicIdPartition, from: &[K], to: &[K]) {
    for key in from.iter().filter(|k| !to.contains(k)) {
        if let Some(set) = sets.get_mut(key) {
            set.remove(&id);
            if set.is_empty() {
                sets.remove(key);
            }
        }
    }
    for key in to.iter().filter(|k| !from.contains(k)) {
        sets.entry(*key).or_default().insert(id);
    }
}

//! The replicas of this broker, found by topic and partition number.

use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::Uuid;

use super::hash::LookupMap;
use super::partition::{Partition, PartitionIx};
use super::session::TopicRef;

const NONE: u32 = u32::MAX;

/// One topic of which this broker has replicas.
#[derive(Clone, Debug)]
struct Topic {
    name: Arc<str>,
    id: Uuid,
    /// By partition number.
    partitions: Vec<u32>,
    replicas: usize,
}

/// The replicas of this broker.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    partitions: Vec<Option<Partition>>,
    free: Vec<u32>,
    topics: Vec<Option<Topic>>,
    free_topics: Vec<u32>,
    by_id: LookupMap<[u8; 16], u32>,
    by_name: LookupMap<Arc<str>, u32>,
}

impl Table {
    /// Where a replica is.
    pub(super) fn find(&self, topic: TopicRef<'_>, partition: i32) -> Option<PartitionIx> {
        let at = match topic {
            TopicRef::Id(id) => self.by_id.get(&id.0),
            TopicRef::Name(name) => self.by_name.get(name),
        }?;
        let topic = self.topics[*at as usize].as_ref().expect("indexed topics are there");
        let ix = *topic.partitions.get(usize::try_from(partition).ok()?)?;
        (ix != NONE).then_some(PartitionIx(ix))
    }

    pub(super) fn get(&self, ix: PartitionIx) -> &Partition {
        self.try_get(ix).expect("a replica of this broker")
    }

    pub(super) fn get_mut(&mut self, ix: PartitionIx) -> &mut Partition {
        self.try_get_mut(ix).expect("a replica of this broker")
    }

    pub(super) fn try_get(&self, ix: PartitionIx) -> Option<&Partition> {
        self.partitions.get(ix.0 as usize)?.as_ref()
    }

    pub(super) fn try_get_mut(&mut self, ix: PartitionIx) -> Option<&mut Partition> {
        self.partitions.get_mut(ix.0 as usize)?.as_mut()
    }

    /// All replicas, by position.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PartitionIx, &Partition)> {
        self.partitions.iter().enumerate().filter_map(|(at, p)| Some((PartitionIx(at as u32), p.as_ref()?)))
    }

    /// The positions of all replicas.
    pub(super) fn all(&self) -> Vec<PartitionIx> {
        self.iter().map(|(ix, _)| ix).collect()
    }

    /// Adds a replica that is not there yet.
    pub(super) fn insert(&mut self, partition: Partition) -> PartitionIx {
        let (name, id, index) = (partition.topic.clone(), partition.topic_id, partition.index);
        let number = usize::try_from(index).expect("the controller numbers partitions from 0");
        let ix = match self.free.pop() {
            Some(at) => {
                self.partitions[at as usize] = Some(partition);
                at
            }
            None => {
                self.partitions.push(Some(partition));
                (self.partitions.len() - 1) as u32
            }
        };
        let topic_at = match self.by_id.get(&id.0) {
            Some(at) => *at,
            None => self.insert_topic(Topic { name: name.clone(), id, partitions: Vec::new(), replicas: 0 }),
        };
        let topic = self.topics[topic_at as usize].as_mut().expect("it was just found");
        if topic.partitions.len() <= number {
            topic.partitions.resize(number + 1, NONE);
        }
        assert_eq!(topic.partitions[number], NONE, "{name}-{index} is here already");
        topic.partitions[number] = ix;
        topic.replicas += 1;
        PartitionIx(ix)
    }

    fn insert_topic(&mut self, topic: Topic) -> u32 {
        let (name, id) = (topic.name.clone(), topic.id);
        let at = match self.free_topics.pop() {
            Some(at) => {
                self.topics[at as usize] = Some(topic);
                at
            }
            None => {
                self.topics.push(Some(topic));
                (self.topics.len() - 1) as u32
            }
        };
        self.by_id.insert(id.0, at);
        self.by_name.insert(name, at);
        at
    }

    /// Takes a replica out.
    pub(super) fn remove(&mut self, ix: PartitionIx) -> Partition {
        let partition = self.partitions[ix.0 as usize].take().expect("a replica of this broker");
        self.free.push(ix.0);
        let at = self.by_id[&partition.topic_id.0];
        let topic = self.topics[at as usize].as_mut().expect("indexed topics are there");
        topic.partitions[partition.index as usize] = NONE;
        topic.replicas -= 1;
        if topic.replicas == 0 {
            let gone = self.topics[at as usize].take().expect("it was just there");
            self.free_topics.push(at);
            self.by_id.remove(&gone.id.0);
            // A topic made anew under the same name has taken the name over.
            if self.by_name.get(&gone.name) == Some(&at) {
                self.by_name.remove(&gone.name);
            }
        }
        partition
    }
}

//! Topics and their partitions.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use wire::Uuid;

use super::partition::{PartitionRegistration, TopicIdPartition};

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its id: another one when the topic is deleted and made again.
    pub id: Uuid,
    /// Its partitions by number.
    pub partitions: BTreeMap<i32, PartitionRegistration>,
}

/// All topics, by id and by name. A clone shares them; a topic is copied when it changes after that.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicsImage {
    by_id: BTreeMap<Uuid, Arc<TopicImage>>,
    by_name: BTreeMap<Arc<str>, Uuid>,
}

impl TopicsImage {
    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is no topic.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// A topic by its id.
    pub fn topic(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.by_id.get(&id)
    }

    /// A topic by its name.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_id.get(self.by_name.get(name)?)
    }

    /// A topic's id by its name.
    pub fn id_of(&self, name: &str) -> Option<Uuid> {
        self.by_name.get(name).copied()
    }

    /// A partition by its topic's id.
    pub fn partition(&self, id: TopicIdPartition) -> Option<&PartitionRegistration> {
        self.by_id.get(&id.topic_id)?.partitions.get(&id.partition)
    }

    /// All topics in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_id.values()
    }

    /// All topics in the order of their names.
    pub fn iter_by_name(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.values().map(|id| self.by_id.get(id).expect("every name has its topic"))
    }

    /// Topics from a name on, in the order of their names: for answers that are given in pages.
    pub fn iter_by_name_from<'a>(
        &'a self,
        name: &str,
    ) -> impl Iterator<Item = &'a Arc<TopicImage>> + use<'a> {
        use core::ops::Bound::{Included, Unbounded};
        let names = self.by_name.range::<str, _>((Included(name), Unbounded));
        names.map(|(_, id)| self.by_id.get(id).expect("every name has its topic"))
    }

    pub(super) fn insert(&mut self, topic: TopicImage) {
        self.by_name.insert(topic.name.clone(), topic.id);
        self.by_id.insert(topic.id, Arc::new(topic));
    }

    pub(super) fn remove(&mut self, id: Uuid) -> Option<Arc<TopicImage>> {
        let topic = self.by_id.remove(&id)?;
        self.by_name.remove(&topic.name);
        Some(topic)
    }

    pub(super) fn topic_mut(&mut self, id: Uuid) -> Option<&mut TopicImage> {
        self.by_id.get_mut(&id).map(Arc::make_mut)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Uuid> {
        self.by_id.keys().copied()
    }
}

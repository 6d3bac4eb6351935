//! Which topic of a name a broker speaks of: a topic may be deleted, and another of its name be made (KIP-516).
//!
//! A deletion is committed by the controller, and brokers hear of it later, one after the other: until then they append
//! to a log of which nobody expects anything any more. What they say of it is no news of the next topic of that name.
//! A topic's id tells them apart, and a broker tells it when it opens a log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker_core::event::{Event, TopicPartition, Uuid};

/// The topics that there are, and those that there were.
#[derive(Clone, Debug, Default)]
pub struct Incarnations {
    current: BTreeMap<Arc<str>, Uuid>,
    gone: BTreeSet<Uuid>,
    /// By broker and partition: of which topic the log is that was opened last.
    held: BTreeMap<(i32, TopicPartition), Uuid>,
}

impl Incarnations {
    /// Hears what a node said. The topic of a name is gone if that is what it tells.
    pub fn hear(&mut self, node: i32, event: &Event) -> Option<Arc<str>> {
        match event {
            Event::TopicCreated { topic, topic_id, .. } => self.is_now(topic, *topic_id),
            Event::TopicDeleted { topic, topic_id } => {
                self.gone.insert(*topic_id);
                self.current.remove(topic);
                Some(topic.clone())
            }
            Event::LogOpened { partition, topic_id: Some(id), .. } => {
                self.held.insert((node, partition.clone()), *id);
                self.is_now(&partition.topic, *id)
            }
            _ => None,
        }
    }

    /// What a controller finds committed: the topics that there are. Gives the names of those that are gone.
    pub fn refreshed<'a>(&mut self, topics: impl Iterator<Item = (&'a Arc<str>, Uuid)>) -> Vec<Arc<str>> {
        let topics: BTreeMap<Arc<str>, Uuid> = topics.map(|(name, id)| (name.clone(), id)).collect();
        let lost =
            |(name, id): (&Arc<str>, &Uuid)| (topics.get(name) != Some(id)).then(|| (name.clone(), *id));
        let gone: Vec<(Arc<str>, Uuid)> = self.current.iter().filter_map(lost).collect();
        self.gone.extend(gone.iter().map(|(_, id)| *id));
        self.current = topics;
        gone.into_iter().map(|(name, _)| name).collect()
    }

    /// Whether a broker speaks of a replica of a topic that is gone.
    pub fn is_past(&self, node: i32, event: &Event) -> bool {
        if self.gone.is_empty() {
            return false;
        }
        let Some(replica) = event.replica() else { return false };
        self.held.get(&(node, replica.clone())).is_some_and(|id| self.gone.contains(id))
    }

    /// The topic of a name has this id; the one before is gone, if there was another.
    fn is_now(&mut self, topic: &Arc<str>, id: Uuid) -> Option<Arc<str>> {
        if self.gone.contains(&id) || self.current.get(topic) == Some(&id) {
            return None;
        }
        let before = self.current.insert(topic.clone(), id)?;
        self.gone.insert(before);
        Some(topic.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Uuid = Uuid([1; 16]);
    const SECOND: Uuid = Uuid([2; 16]);

    fn tp() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    fn created(topic_id: Uuid) -> Event {
        Event::TopicCreated { topic: "orders".into(), topic_id, partitions: 1 }
    }

    fn opened(topic_id: Uuid) -> Event {
        let (log_start_offset, log_end_offset, epochs) = (0, 0, Vec::new());
        let topic_id = Some(topic_id);
        Event::LogOpened { partition: tp(), topic_id, log_start_offset, log_end_offset, epochs }
    }

    fn flushed() -> Event {
        Event::LogFlushed { partition: tp(), up_to: 7 }
    }

    /// One topic on two brokers.
    fn begun() -> Incarnations {
        let mut all = Incarnations::default();
        assert_eq!(all.hear(101, &created(FIRST)), None);
        for node in [1, 2] {
            assert_eq!(all.hear(node, &opened(FIRST)), None);
            assert!(!all.is_past(node, &flushed()));
        }
        all
    }

    #[test]
    fn a_broker_speaks_of_the_topic_whose_log_it_opened_last() {
        let mut all = begun();
        let deleted = Event::TopicDeleted { topic: "orders".into(), topic_id: FIRST };
        assert_eq!(all.hear(101, &deleted).as_deref(), Some("orders"));
        assert!(all.is_past(1, &flushed()) && all.is_past(2, &flushed()));
        assert_eq!(all.hear(101, &created(SECOND)), None);
        assert_eq!(all.hear(1, &opened(SECOND)), None);
        assert!(!all.is_past(1, &flushed()) && all.is_past(2, &flushed()));
        // Broker 2 starts again before it has heard of anything, and finds the old log.
        assert_eq!(all.hear(2, &opened(FIRST)), None);
        assert!(all.is_past(2, &flushed()) && all.is_past(2, &opened(FIRST)));
    }

    #[test]
    fn a_deletion_of_which_nobody_lived_to_tell() {
        let mut all = begun();
        assert_eq!(all.hear(1, &opened(SECOND)).as_deref(), Some("orders"));
        assert!(!all.is_past(1, &flushed()) && all.is_past(2, &flushed()));

        let mut all = begun();
        let name: Arc<str> = "orders".into();
        assert_eq!(all.refreshed([(&name, FIRST)].into_iter()), [] as [Arc<str>; 0]);
        assert_eq!(all.refreshed([(&name, SECOND)].into_iter()), [name]);
        assert_eq!(all.refreshed(std::iter::empty()).len(), 1);
        assert!(all.is_past(2, &flushed()));
    }
}

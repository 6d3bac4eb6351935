//! Who reads which partition: the assignors that a classic group's leader runs.
//!
//! Pure functions from topics and members to an assignment, with the results of Kafka's `RangeAssignor`,
//! `RoundRobinAssignor`, `StickyAssignor` and `CooperativeStickyAssignor`. Where Kafka's result depends on the order of
//! a hash map, members are taken in the order of their ids here, and topics in the order of their names.

mod constrained;
mod general;
mod range;
mod round_robin;
mod sticky;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::event::TopicPartition;

/// The racks of each partition's replicas, by topic. Topics without metadata are not in it.
pub type Topics = BTreeMap<Arc<str>, Vec<Vec<Arc<str>>>>;

/// The partitions of each member, by member id. Every member is in it.
pub type Assignment = BTreeMap<Arc<str>, Vec<TopicPartition>>;

/// A member as its subscription describes it (`ConsumerPartitionAssignor.Subscription`).
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// The member id.
    pub id: Arc<str>,
    /// `group.instance.id`.
    pub instance: Option<Arc<str>>,
    /// What it subscribes to.
    pub topics: Vec<Arc<str>>,
    /// What it owns.
    pub owned: Vec<TopicPartition>,
    /// The generation in which it owns that.
    pub generation: Option<i32>,
    /// `client.rack`.
    pub rack: Option<Arc<str>>,
    /// What its assignor wrote to this one.
    pub user_data: Option<Vec<u8>>,
}

impl Member {
    /// Static members first, by instance; then dynamic ones, by member id (`MemberInfo.compareTo`).
    fn order(&self, other: &Member) -> Ordering {
        match (&self.instance, &other.instance) {
            (Some(own), Some(other)) => own.cmp(other),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.id.cmp(&other.id),
        }
    }

    fn rack(&self) -> Option<&Arc<str>> {
        self.rack.as_ref().filter(|rack| !rack.is_empty())
    }
}

/// `partition.assignment.strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Of each topic a range of partitions; topics with as many partitions go together.
    Range,
    /// All partitions in turn.
    RoundRobin,
    /// Balanced, and what a member has it keeps.
    Sticky,
    /// The same without stopping the world: what moves is given up in one rebalance and taken in the next (KIP-429).
    CooperativeSticky,
}

impl Assignor {
    const PACKAGE: &str = "org.apache.kafka.clients.consumer.";

    /// From the name of its class.
    pub fn of_class(class: &str) -> Option<Assignor> {
        match class.strip_prefix(Assignor::PACKAGE)? {
            "RangeAssignor" => Some(Assignor::Range),
            "RoundRobinAssignor" => Some(Assignor::RoundRobin),
            "StickyAssignor" => Some(Assignor::Sticky),
            "CooperativeStickyAssignor" => Some(Assignor::CooperativeSticky),
            _ => None,
        }
    }

    /// The protocol's name in JoinGroup.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::Sticky => "sticky",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// Whether it can leave partitions with their owners during a rebalance.
    pub fn is_cooperative(self) -> bool {
        self == Assignor::CooperativeSticky
    }

    /// What it writes into this member's subscription, after the assignment of a generation, if there was one.
    pub fn user_data(self, assigned: Option<(&[TopicPartition], i32)>) -> Option<Vec<u8>> {
        match self {
            Assignor::Range | Assignor::RoundRobin => None,
            Assignor::Sticky => {
                assigned.map(|(partitions, generation)| sticky::encode(partitions, generation))
            }
            Assignor::CooperativeSticky => {
                let generation = assigned.map_or(sticky::DEFAULT_GENERATION, |(_, generation)| generation);
                Some(generation.to_be_bytes().to_vec())
            }
        }
    }

    /// Assigns all partitions of all topics that anybody subscribes to.
    pub fn assign(self, topics: &Topics, members: &[Member]) -> Assignment {
        let is_wanted = |topic: &Arc<str>| members.iter().any(|member| member.topics.contains(topic));
        let wanted = topics.iter().filter(|(topic, partitions)| !partitions.is_empty() && is_wanted(topic));
        let topics: Topics = wanted.map(|(topic, partitions)| (topic.clone(), partitions.clone())).collect();
        match self {
            Assignor::Range => range::assign(&topics, members),
            Assignor::RoundRobin => round_robin::assign(&topics, members),
            Assignor::Sticky => sticky::assign(&topics, members, sticky::Flavour::Eager).0,
            Assignor::CooperativeSticky => {
                let (mut assignment, moving) = sticky::assign(&topics, members, sticky::Flavour::Cooperative);
                // What moves must be given up by its owner before somebody else may have it.
                for (partition, taker) in moving {
                    let taken = assignment.get_mut(&taker).expect("every member is in the assignment");
                    taken.retain(|assigned| *assigned != partition);
                }
                assignment
            }
        }
    }
}

/// Whether racks matter: some member is in the rack of a replica, and not every partition has a replica in every rack.
fn racks_matter<'a>(
    member_racks: &[&Arc<str>],
    partitions: impl Iterator<Item = &'a Vec<Arc<str>>> + Clone,
) -> bool {
    let mut all: Vec<&Arc<str>> = partitions.clone().flatten().collect();
    all.sort_unstable();
    all.dedup();
    if !member_racks.iter().any(|rack| all.binary_search(rack).is_ok()) {
        return false;
    }
    let mut own: Vec<&Arc<str>> = Vec::new();
    for racks in partitions {
        own.clear();
        own.extend(racks);
        own.sort_unstable();
        own.dedup();
        if own != all {
            return true;
        }
    }
    false
}

//! The assignors of the broker: `uniform` and `range`, as pure functions.
//!
//! Follows Kafka's `UniformAssignor` and `RangeAssignor` (KIP-848). Both give every partition of every topic to exactly
//! one of the members who subscribed to it, and prefer those who have it already. `uniform` evens out how many
//! partitions members have over all topics, `range` topic by topic, in ranges. Racks play no part: Kafka 4.3's
//! assignors don't look at them either.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Uuid;

/// Partitions by topic.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// An assignor by its name in `group.consumer.assignors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// `uniform`: as many partitions for everybody.
    Uniform,
    /// `range`: ranges of each topic's partitions.
    Range,
}

impl Assignor {
    /// The assignor of this name.
    pub fn named(name: &str) -> Option<Assignor> {
        match name.trim() {
            "uniform" => Some(Assignor::Uniform),
            "range" => Some(Assignor::Range),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// What each member is to have.
    pub fn assign(self, group: &GroupSpec<'_>) -> BTreeMap<Arc<str>, Partitions> {
        match self {
            Assignor::Range => range(group),
            Assignor::Uniform if group.is_homogeneous() => uniform(group),
            Assignor::Uniform => uniform_of_different(group),
        }
    }
}

/// What an assignor is told of a member.
#[derive(Clone, Debug)]
pub struct MemberSpec {
    /// The topics that it subscribed to and that exist.
    pub topics: Arc<BTreeSet<Uuid>>,
    /// What it was to have so far.
    pub target: Arc<Partitions>,
}

/// What an assignor is told of a group.
#[derive(Clone, Debug)]
pub struct GroupSpec<'a> {
    /// The members by id.
    pub members: BTreeMap<Arc<str>, MemberSpec>,
    /// How many partitions each topic has that somebody subscribed to.
    pub partitions: &'a BTreeMap<Uuid, i32>,
}

impl GroupSpec<'_> {
    fn is_homogeneous(&self) -> bool {
        let mut subscriptions = self.members.values().map(|member| &member.topics);
        let first = subscriptions.next();
        subscriptions.all(|topics| first.is_none_or(|first| Arc::ptr_eq(first, topics) || first == topics))
    }

    /// The partitions that nobody has.
    fn unassigned(&self) -> Vec<(Uuid, i32)> {
        let mut taken: BTreeSet<(Uuid, i32)> = BTreeSet::new();
        for member in self.members.values() {
            for (topic, partitions) in
                member.target.iter().filter(|(topic, _)| member.topics.contains(*topic))
            {
                taken.extend(partitions.iter().map(|p| (*topic, *p)));
            }
        }
        (self.partitions.iter())
            .flat_map(|(topic, count)| (0..*count).map(|p| (*topic, p)))
            .filter(|at| !taken.contains(at))
            .collect()
    }

    /// Whether a partition is there at all.
    fn exists(&self, topic: Uuid, partition: i32) -> bool {
        self.partitions.get(&topic).is_some_and(|count| partition < *count)
    }
}

/// Members who all subscribed to the same topics: each keeps of what it has as much as its share, and the rest goes
/// to those who have less.
fn uniform(group: &GroupSpec<'_>) -> BTreeMap<Arc<str>, Partitions> {
    let Some(first) = group.members.values().next() else { return BTreeMap::new() };
    let topics = &first.topics;
    let of_topics = topics.iter().map(|topic| group.partitions.get(topic).copied().unwrap_or(0) as usize);
    let total: usize = of_topics.sum();
    let quota = total / group.members.len();
    let mut extra = total % group.members.len();
    let mut free: Vec<(Uuid, i32)> =
        group.unassigned().into_iter().filter(|(topic, _)| topics.contains(topic)).collect();
    let mut unfilled: Vec<(Arc<str>, usize)> = Vec::new();
    let mut targets: BTreeMap<Arc<str>, Partitions> = BTreeMap::new();
    for (id, member) in &group.members {
        let mut room = quota;
        if extra > 0 {
            room += 1;
            extra -= 1;
        }
        let mut kept = Partitions::new();
        for (topic, partitions) in member.target.iter().filter(|(topic, _)| topics.contains(*topic)) {
            for partition in partitions.iter().filter(|p| group.exists(*topic, **p)) {
                if room > 0 {
                    room -= 1;
                    kept.entry(*topic).or_default().insert(*partition);
                } else {
                    free.push((*topic, *partition));
                }
            }
        }
        if room > 0 {
            unfilled.push((id.clone(), room));
        }
        targets.insert(id.clone(), kept);
    }
    let mut free = free.into_iter();
    for (id, room) in unfilled {
        let target = targets.get_mut(&id).expect("every member has a target");
        for (topic, partition) in free.by_ref().take(room) {
            target.entry(topic).or_default().insert(partition);
        }
    }
    assert!(free.next().is_none(), "the shares of all members are all partitions");
    targets
}

/// Members who subscribed to different topics: everybody keeps what it has, the rest goes to whoever has least and may
/// have it, and then partitions move as long as that makes the group more even.
fn uniform_of_different(group: &GroupSpec<'_>) -> BTreeMap<Arc<str>, Partitions> {
    let ids: Vec<&Arc<str>> = group.members.keys().collect();
    let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
    for (n, member) in group.members.values().enumerate() {
        for topic in member.topics.iter() {
            subscribers.entry(*topic).or_default().push(n);
        }
    }
    let mut load = alloc::vec![0usize; ids.len()];
    let mut owner: BTreeMap<(Uuid, i32), usize> = BTreeMap::new();
    for (n, member) in group.members.values().enumerate() {
        for (topic, partitions) in member.target.iter().filter(|(topic, _)| member.topics.contains(*topic)) {
            for partition in partitions.iter().filter(|p| group.exists(*topic, **p)) {
                if owner.insert((*topic, *partition), n).is_none() {
                    load[n] += 1;
                }
            }
        }
    }
    // Those whom few can have, or of which there are many for each, come first.
    let mut order: Vec<(Uuid, i32)> = (group.partitions.iter())
        .filter(|(topic, _)| subscribers.contains_key(*topic))
        .flat_map(|(topic, count)| (0..*count).map(|p| (*topic, p)))
        .collect();
    let share = |topic: &Uuid| (group.partitions[topic] as u64 * 1_000_000) / subscribers[topic].len() as u64;
    order.sort_by_key(|(topic, p)| (core::cmp::Reverse(share(topic)), subscribers[topic].len(), *p, *topic));
    for at in &order {
        if !owner.contains_key(at) {
            let least = subscribers[&at.0].iter().copied().min_by_key(|n| (load[*n], *n));
            let least = least.expect("somebody subscribed to it");
            owner.insert(*at, least);
            load[least] += 1;
        }
    }
    // Each move makes the sum of the squares of the loads smaller, so this ends.
    loop {
        let mut moved = false;
        for at in &order {
            let from = owner[at];
            let to = subscribers[&at.0].iter().copied().min_by_key(|n| (load[*n], *n)).expect("as above");
            if load[to] + 1 < load[from] {
                owner.insert(*at, to);
                load[to] += 1;
                load[from] -= 1;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let mut targets: BTreeMap<Arc<str>, Partitions> =
        ids.iter().map(|id| ((*id).clone(), Partitions::new())).collect();
    for ((topic, partition), n) in owner {
        let target = targets.get_mut(ids[n]).expect("every member has a target");
        target.entry(topic).or_default().insert(partition);
    }
    targets
}

/// Topic by topic: each of its subscribers has as many of its partitions as the others, or one more.
fn range(group: &GroupSpec<'_>) -> BTreeMap<Arc<str>, Partitions> {
    let mut targets: BTreeMap<Arc<str>, Partitions> =
        group.members.keys().map(|id| (id.clone(), Partitions::new())).collect();
    for (topic, count) in group.partitions {
        let subscribers: Vec<(&Arc<str>, &MemberSpec)> =
            group.members.iter().filter(|(_, member)| member.topics.contains(topic)).collect();
        if subscribers.is_empty() {
            continue;
        }
        let quota = *count as usize / subscribers.len();
        let mut extra = *count as usize % subscribers.len();
        let mut kept: BTreeSet<i32> = BTreeSet::new();
        let mut unfilled: Vec<(&Arc<str>, usize)> = Vec::new();
        for (id, member) in subscribers {
            let had = member.target.get(topic);
            let had: Vec<i32> = had.into_iter().flatten().copied().filter(|p| p < count).collect();
            let mut keep = had.len().min(quota);
            if had.len() > quota && extra > 0 {
                extra -= 1;
                keep += 1;
            } else {
                unfilled.push((id, quota - keep));
            }
            if keep > 0 {
                kept.extend(&had[..keep]);
                let target = targets.get_mut(id).expect("every member has a target");
                target.entry(*topic).or_default().extend(&had[..keep]);
            }
        }
        let mut free = (0..*count).filter(|p| !kept.contains(p));
        for (id, mut room) in unfilled {
            if extra > 0 {
                extra -= 1;
                room += 1;
            }
            if room > 0 {
                let target = targets.get_mut(id).expect("every member has a target");
                target.entry(*topic).or_default().extend(free.by_ref().take(room));
            }
        }
        assert!(free.next().is_none(), "the shares of all subscribers are all partitions");
    }
    targets
}

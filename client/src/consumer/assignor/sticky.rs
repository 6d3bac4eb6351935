//! `AbstractStickyAssignor.java`: as balanced as can be, and with as few moves as that allows.
//!
//! When all members subscribe to the same topics, everybody keeps what it has up to its share, and the rest goes round
//! ([`super::constrained`]); otherwise partitions are moved one by one as long as that improves the balance
//! ([`super::general`]). What members say they own counts by generation: the latest wins, and what two claim in the
//! same generation belongs to neither.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use wire::codec::{DecodeError, Reader, Writer};

use super::{Assignment, Member, Topics, constrained, general, racks_matter};
use crate::event::TopicPartition;

pub(super) const DEFAULT_GENERATION: i32 = -1;

/// Where members say what they own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// In the assignor's own data, since they have revoked everything.
    Eager,
    /// In their subscription.
    Cooperative,
}

/// A partition in the order of topics and numbers: what is computed with.
pub(super) type Place = usize;

/// The problem in numbers. Members are in the order of their ids.
pub(super) struct Problem<'a> {
    pub members: Vec<&'a Member>,
    /// The first place of each topic, and the end.
    pub first: Vec<Place>,
    /// The topic of each place.
    pub topic_of: Vec<usize>,
    /// The topics that each member subscribes to and that exist.
    pub subscribed: Vec<Vec<usize>>,
    /// What each member owns, as far as nobody has a better claim.
    pub owned: Vec<Vec<Place>>,
    /// What two members of one generation claim.
    pub disputed: BTreeSet<Place>,
    /// What each member says it owns, and in which generation.
    pub claims: Vec<(Vec<Place>, Option<i32>)>,
    pub max_generation: i32,
    pub racks: Racks<'a>,
}

/// The racks of members and partitions, if they matter.
#[derive(Default)]
pub(super) struct Racks<'a> {
    /// By member; empty when racks do not matter.
    pub of_member: Vec<Option<&'a Arc<str>>>,
    /// By place; empty when racks do not matter.
    pub of_place: Vec<&'a [Arc<str>]>,
    /// How many members are in racks of a place, by place; empty when no member has a rack.
    pub consumers: Vec<usize>,
}

impl Racks<'_> {
    /// Whether the assignment looks at racks.
    pub fn matter(&self) -> bool {
        !self.of_member.is_empty()
    }

    pub fn mismatch(&self, member: usize, place: Place) -> bool {
        self.matter() && self.of_member[member].is_some_and(|rack| !self.of_place[place].contains(rack))
    }

    /// Whether the member is in a rack, and a replica of the place too.
    pub fn same(&self, member: usize, place: Place) -> bool {
        self.matter() && self.of_member[member].is_some_and(|rack| self.of_place[place].contains(rack))
    }
}

/// The assignment, and of the partitions that change hands who takes them.
pub(super) fn assign(
    topics: &Topics,
    members: &[Member],
    flavour: Flavour,
) -> (Assignment, Vec<(TopicPartition, Arc<str>)>) {
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    let names: Vec<&Arc<str>> = topics.keys().collect();
    let (problem, equal) = Problem::new(topics, &names, sorted, flavour);
    let (assigned, moving) = if problem.members.is_empty() {
        (Vec::new(), Vec::new())
    } else if equal {
        constrained::assign(&problem)
    } else {
        let assigned = general::assign(&problem);
        let moving = transferred(&problem, &assigned);
        (assigned, moving)
    };
    let partition = |place: Place| {
        let topic = problem.topic_of[place];
        let partition = (place - problem.first[topic]) as i32;
        TopicPartition { topic: names[topic].clone(), partition }
    };
    let ids = problem.members.iter().map(|member| member.id.clone());
    let lists = assigned.into_iter().map(|places| places.into_iter().map(partition).collect());
    let moving = moving.into_iter().map(|(place, to)| (partition(place), problem.members[to].id.clone()));
    let moving = moving.collect();
    (ids.zip(lists).collect(), moving)
}

impl<'a> Problem<'a> {
    /// The problem, and whether all members subscribe to the same topics.
    fn new(
        topics: &'a Topics,
        names: &[&Arc<str>],
        members: Vec<&'a Member>,
        flavour: Flavour,
    ) -> (Problem<'a>, bool) {
        let (mut first, mut topic_of) = (vec![0], Vec::new());
        for (topic, partitions) in topics.values().enumerate() {
            topic_of.extend(core::iter::repeat_n(topic, partitions.len()));
            first.push(topic_of.len());
        }
        let topic = |name: &Arc<str>| names.binary_search(&name).ok();
        let place = |partition: &TopicPartition| {
            let topic = topic(&partition.topic)?;
            let at = first[topic] + usize::try_from(partition.partition).ok()?;
            (at < first[topic + 1]).then_some(at)
        };
        let claim = |member: &&Member| {
            let (owned, generation) = claimed(member, flavour);
            (owned.iter().filter_map(place).collect(), generation)
        };
        let mut problem = Problem {
            subscribed: members.iter().map(|m| m.topics.iter().filter_map(topic).collect()).collect(),
            owned: Vec::new(),
            disputed: BTreeSet::new(),
            claims: members.iter().map(claim).collect(),
            max_generation: DEFAULT_GENERATION,
            racks: Racks::new(topics, &members),
            members,
            first,
            topic_of,
        };
        problem.settle_claims();
        let equal = problem.subscriptions_equal();
        (problem, equal)
    }

    /// The partitions of a topic.
    pub fn places(&self, topic: usize) -> core::ops::Range<Place> {
        self.first[topic]..self.first[topic + 1]
    }

    fn subscriptions_equal(&self) -> bool {
        let sorted = |member: &&Member| {
            let mut topics = member.topics.clone();
            topics.sort_unstable();
            topics.dedup();
            topics
        };
        // As in Kafka, members before the first that subscribes to anything do not count.
        let mut subscriptions = self.members.iter().map(sorted).skip_while(Vec::is_empty);
        let first = subscriptions.next().unwrap_or_default();
        subscriptions.all(|other| other == first)
    }

    fn settle_claims(&mut self) {
        self.owned = vec![Vec::new(); self.members.len()];
        let mut owner: Vec<Option<usize>> = vec![None; self.topic_of.len()];
        for member in 0..self.members.len() {
            let generation = self.claims[member].1.unwrap_or(DEFAULT_GENERATION);
            self.max_generation = self.max_generation.max(generation);
            for i in 0..self.claims[member].0.len() {
                let place = self.claims[member].0[i];
                let Some(other) = owner[place] else {
                    self.owned[member].push(place);
                    owner[place] = Some(member);
                    continue;
                };
                let of_other = self.members[other].generation.unwrap_or(DEFAULT_GENERATION);
                if generation < of_other {
                    continue;
                }
                if generation == of_other {
                    self.disputed.insert(place);
                } else {
                    self.owned[member].push(place);
                }
                self.owned[other].retain(|&owned| owned != place);
                owner[place] = Some(member);
            }
        }
    }
}

impl<'a> Racks<'a> {
    fn new(topics: &'a Topics, members: &[&'a Member]) -> Racks<'a> {
        let own: Vec<&Arc<str>> = members.iter().filter_map(|member| member.rack()).collect();
        if own.is_empty() {
            return Racks::default();
        }
        let mut counts: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        own.iter().for_each(|rack| *counts.entry(rack).or_default() += 1);
        let distinct = |racks: &'a Vec<Arc<str>>| racks.iter().collect::<BTreeSet<_>>();
        let near =
            |racks| distinct(racks).into_iter().map(|rack| counts.get(rack).copied().unwrap_or(0)).sum();
        let consumers = topics.values().flatten().map(near).collect();
        if !racks_matter(&own, topics.values().flatten()) {
            return Racks { consumers, ..Racks::default() };
        }
        Racks {
            of_member: members.iter().map(|member| member.rack()).collect(),
            of_place: topics.values().flatten().map(Vec::as_slice).collect(),
            consumers,
        }
    }
}

/// What changes hands, found by comparing.
fn transferred(problem: &Problem<'_>, assigned: &[Vec<Place>]) -> Vec<(Place, usize)> {
    let mut claimed_by: Vec<Vec<usize>> = vec![Vec::new(); problem.topic_of.len()];
    for (member, (claims, _)) in problem.claims.iter().enumerate() {
        claims.iter().for_each(|&place| claimed_by[place].push(member));
    }
    let mut moving = Vec::new();
    for (member, places) in assigned.iter().enumerate() {
        for &place in places {
            if !claimed_by[place].is_empty() && !claimed_by[place].contains(&member) {
                moving.push((place, member));
            }
        }
    }
    moving
}

/// What a member says it owns.
fn claimed(member: &Member, flavour: Flavour) -> (Vec<TopicPartition>, Option<i32>) {
    let data = member.user_data.as_deref();
    match flavour {
        Flavour::Eager => match data.filter(|data| !data.is_empty()) {
            None => (Vec::new(), None),
            Some(data) => decode(data).unwrap_or((Vec::new(), Some(DEFAULT_GENERATION))),
        },
        Flavour::Cooperative => {
            let from_data = || {
                let bytes = data?.get(..4).and_then(|bytes| bytes.try_into().ok());
                Some(bytes.map_or(DEFAULT_GENERATION, i32::from_be_bytes))
            };
            (member.owned.clone(), member.generation.or_else(from_data))
        }
    }
}

/// `StickyAssignorUserData`, version 1.
pub(super) fn encode(partitions: &[TopicPartition], generation: i32) -> Vec<u8> {
    let mut by_topic: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        by_topic.entry(&partition.topic).or_default().push(partition.partition);
    }
    let mut w = Writer::with_capacity(64);
    w.i32(by_topic.len() as i32);
    for (topic, partitions) in by_topic {
        w.string(false, topic);
        w.i32(partitions.len() as i32);
        partitions.iter().for_each(|&partition| w.i32(partition));
    }
    w.i32(generation);
    w.into_bytes().expect("names of topics are short")
}

fn decode(data: &[u8]) -> Result<(Vec<TopicPartition>, Option<i32>), DecodeError> {
    let mut r = Reader::from_slice(data);
    r.begin("StickyAssignorUserData");
    let topics = r.array(false, 6, |r| {
        let topic: Arc<str> = r.string(false)?.as_ref().into();
        Ok((topic, r.array(false, 4, |r| r.i32())?))
    })?;
    // Version 0 has no generation.
    let generation = if r.remaining() >= 4 { Some(r.i32()?) } else { None };
    let mut partitions = Vec::new();
    for (topic, numbers) in topics {
        for partition in numbers {
            partitions.push(TopicPartition { topic: topic.clone(), partition });
        }
    }
    Ok((partitions, generation))
}

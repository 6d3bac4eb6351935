//! Groups: who owns what, and how far a group has come.
//!
//! - `SingleOwnerPerGeneration`: in a generation (classic) or an epoch (KIP-848) of a group nobody owns a partition that
//!   another member owns, neither as the coordinator assigns it, nor as the members themselves were told. Who has not
//!   heard of the newest generation yet still owns what it had in its own.
//! - `CommittedOffsetMonotonic`: a committed offset does not go back unless somebody asked for it: a command that resets
//!   offsets or deletes them, or a consumer whose position was out of its partition's range or in a part of the log
//!   that was cut off.
//!
//! What is kept is what the members own now and the last offset of each partition: memory and work do not grow with time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker_core::event::{Event, GroupAssignment, TopicPartition};

use super::exactly_once::{self, ExactlyOnce};
use super::{Breach, Subject};

/// The name of the invariant of owners.
pub const SINGLE_OWNER: &str = "SingleOwnerPerGeneration";
/// The name of the invariant of commits.
pub const OFFSET_MONOTONIC: &str = "CommittedOffsetMonotonic";

#[derive(Clone, Debug, Default)]
struct Group {
    /// By the member's process: its generation, and what it owns.
    members: BTreeMap<usize, (i32, BTreeSet<TopicPartition>)>,
    committed: BTreeMap<TopicPartition, i64>,
    /// Partitions whose next commit may be a lower one.
    set_back: BTreeSet<TopicPartition>,
}

/// The invariants of all groups.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    groups: BTreeMap<Arc<str>, Group>,
    /// Whose committed offsets are judged; absent: everybody's.
    judged: Option<BTreeSet<Arc<str>>>,
    /// Commands that reset or delete offsets and run now.
    resetting: u32,
    /// Groups in which two processes have one group.instance.id: each of them takes the other's place.
    shared: BTreeSet<Arc<str>>,
    /// By process: the group that it joined last.
    group_of: BTreeMap<usize, Arc<str>>,
    once: ExactlyOnce,
    breaches: Vec<Breach>,
    /// What was broken in those.
    shared_breaches: Vec<Breach>,
}

impl Groups {
    /// Judges the committed offsets of these groups only: others belong to a client that commits whatever it likes.
    pub fn judge_only(&mut self, groups: impl IntoIterator<Item = Arc<str>>) {
        self.judged = Some(groups.into_iter().collect());
    }

    /// In this group two processes have one group.instance.id.
    pub fn shared_instance(&mut self, group: &str) {
        self.shared.insert(Arc::from(group));
    }

    /// Hears what a broker said.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::GroupAssigned { group, generation, members } => self.assigned(group, *generation, members),
            Event::OffsetsCommitted { group, offsets } => self.committed(group, offsets),
            Event::OffsetsRemoved { group, partitions } => {
                let group = self.group(group);
                group.committed.retain(|partition, _| !partitions.contains(partition));
            }
            Event::GroupDeleted { group } => {
                self.groups.remove(group);
            }
            _ => {}
        }
    }

    /// A topic is gone: its offsets count from 0 again if there is another one of its name.
    pub fn topic_deleted(&mut self, topic: &str) {
        for group in self.groups.values_mut() {
            group.committed.retain(|partition, _| *partition.topic != *topic);
        }
        self.once.topic_deleted(topic);
    }

    /// A process is a member of a generation.
    pub fn joined(&mut self, process: usize, group: &Arc<str>, generation: i32) {
        self.group(group).members.entry(process).or_default().0 = generation;
        if self.group_of.get(&process) != Some(group) {
            self.group_of.insert(process, group.clone());
        }
    }

    /// A process's transaction was committed, in which it consumed the records before these offsets.
    pub fn transaction_committed(&mut self, process: usize, offsets: &[(TopicPartition, i64)]) {
        let Some(group) = self.group_of.get(&process) else { return };
        if self.resetting > 0 || self.judged.as_ref().is_some_and(|judged| !judged.contains(group)) {
            return;
        }
        if let Some((partition, text)) = self.once.committed(group, offsets) {
            self.breach(exactly_once::NAME, &partition, text);
        }
    }

    /// All that a process owns now.
    pub fn owns(&mut self, process: usize, group: &Arc<str>, owned: &[TopicPartition]) {
        let state = self.group(group);
        let member = state.members.entry(process).or_default();
        member.1 = owned.iter().cloned().collect();
        let generation = member.0;
        let others = state.members.iter().filter(|(other, (of, _))| **other != process && *of == generation);
        let twice: Vec<TopicPartition> = others
            .flat_map(|(_, (_, theirs))| owned.iter().filter(|p| theirs.contains(p)))
            .cloned()
            .collect();
        for partition in twice {
            let text = format!("Two members of group {group} own {partition} in generation {generation}.");
            self.owned_twice(group, &partition, text);
        }
    }

    /// A process gives partitions up, or has lost them.
    pub fn gives_up(&mut self, process: usize, group: &Arc<str>, partitions: &[TopicPartition]) {
        if let Some((_, owned)) = self.group(group).members.get_mut(&process) {
            owned.retain(|partition| !partitions.contains(partition));
        }
    }

    /// A process is gone.
    pub fn gone(&mut self, process: usize) {
        for group in self.groups.values_mut() {
            group.members.remove(&process);
        }
    }

    /// A consumer's position was set because the log does not have what it wanted to read: what it commits next may
    /// lie before what was committed.
    pub fn set_back(&mut self, partition: &TopicPartition) {
        for group in self.groups.values_mut() {
            group.set_back.insert(partition.clone());
        }
    }

    /// A command that resets or deletes offsets runs from now on.
    pub fn reset_begins(&mut self) {
        self.resetting += 1;
        self.once.forget();
    }

    /// Such a command has ended.
    pub fn reset_ends(&mut self) {
        self.resetting = self.resetting.checked_sub(1).expect("it has begun");
        self.once.forget();
    }

    /// Whether `take` has anything to give.
    pub fn is_broken(&self) -> bool {
        !(self.breaches.is_empty() && self.shared_breaches.is_empty())
    }

    /// What was broken since the last call.
    pub fn take(&mut self) -> Vec<Breach> {
        std::mem::take(&mut self.breaches)
    }

    /// What was broken where two processes have one group.instance.id.
    pub fn take_shared(&mut self) -> Vec<Breach> {
        std::mem::take(&mut self.shared_breaches)
    }

    fn group(&mut self, name: &Arc<str>) -> &mut Group {
        if !self.groups.contains_key(name) {
            self.groups.insert(name.clone(), Group::default());
        }
        self.groups.get_mut(name).expect("it was just put there")
    }

    fn assigned(&mut self, group: &Arc<str>, generation: i32, members: &[GroupAssignment]) {
        let mut owners: BTreeMap<&TopicPartition, &GroupAssignment> = BTreeMap::new();
        for member in members {
            for partition in &member.partitions {
                let Some(other) = owners.insert(partition, member) else { continue };
                let text = format!(
                    "In generation {generation} of group {group}, {partition} was assigned to both {} and {}.",
                    other.member, member.member
                );
                self.owned_twice(group, partition, text);
            }
        }
    }

    fn committed(&mut self, name: &Arc<str>, offsets: &[(TopicPartition, i64)]) {
        if self.judged.as_ref().is_some_and(|judged| !judged.contains(name)) {
            return;
        }
        let resetting = self.resetting > 0;
        let mut broken = Vec::new();
        let group = self.group(name);
        for (partition, offset) in offsets {
            let may_go_back = group.set_back.remove(partition) || resetting;
            match group.committed.get_mut(partition) {
                Some(known) => {
                    if *offset < *known && !may_go_back {
                        broken.push((partition, *known, *offset));
                    }
                    *known = *offset;
                }
                None => {
                    group.committed.insert(partition.clone(), *offset);
                }
            }
        }
        for (partition, from, to) in broken {
            let text = format!(
                "The committed offset of group {name} went back from {from} to {to}, and nobody had asked for it."
            );
            self.breach(OFFSET_MONOTONIC, partition, text);
        }
    }

    /// A coordinator that was succeeded says so late of what was written before, or of what will be lost: the offset does not
    /// go back by that, and who commits after it may not go back behind it.
    pub fn committed_late(&mut self, name: &Arc<str>, offsets: &[(TopicPartition, i64)]) {
        let group = self.group(name);
        for (partition, offset) in offsets {
            if let Some(known) = group.committed.get_mut(partition) {
                *known = (*known).max(*offset);
            }
        }
    }

    fn owned_twice(&mut self, group: &Arc<str>, at: &TopicPartition, text: String) {
        if !self.shared.contains(group) {
            return self.breach(SINGLE_OWNER, at, text);
        }
        let subject = Subject::Partition(at.topic.to_string(), at.partition);
        self.shared_breaches.push(Breach { name: SINGLE_OWNER, subject, text });
    }

    fn breach(&mut self, name: &'static str, at: &TopicPartition, text: String) {
        let subject = Subject::Partition(at.topic.to_string(), at.partition);
        self.breaches.push(Breach { name, subject, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn billing() -> Arc<str> {
        Arc::from("billing")
    }

    fn names(groups: &mut Groups) -> Vec<&'static str> {
        groups.take().iter().map(|breach| breach.name).collect()
    }

    fn assign(members: &[&[i32]]) -> Vec<&'static str> {
        let member = |(i, partitions): (usize, &&[i32])| GroupAssignment {
            member: Arc::from(format!("m{i}")),
            client_id: Arc::from("c"),
            partitions: partitions.iter().map(|p| tp(*p)).collect(),
        };
        let members = members.iter().enumerate().map(member).collect();
        let mut groups = Groups::default();
        groups.hear(&Event::GroupAssigned { group: billing(), generation: 1, members });
        names(&mut groups)
    }

    fn commit(groups: &mut Groups, offset: i64) -> Vec<&'static str> {
        groups.hear(&Event::OffsetsCommitted { group: billing(), offsets: vec![(tp(0), offset)] });
        names(groups)
    }

    #[test]
    fn an_assignment_gives_a_partition_once() {
        assert_eq!(assign(&[&[0, 1], &[2], &[]]), [""; 0]);
        assert_eq!(assign(&[&[0, 1], &[1]]), ["SingleOwnerPerGeneration"]);
    }

    #[test]
    fn two_members_own_a_partition_in_one_generation() {
        let mut groups = Groups::default();
        groups.joined(0, &billing(), 3);
        groups.owns(0, &billing(), &[tp(0), tp(1)]);
        groups.joined(1, &billing(), 3);
        groups.owns(1, &billing(), &[tp(1)]);
        assert_eq!(names(&mut groups), ["SingleOwnerPerGeneration"]);
    }

    #[test]
    fn who_lags_a_generation_behind_or_gave_it_up_or_is_gone_or_of_another_group_is_no_second_owner() {
        for case in 0..4 {
            let mut groups = Groups::default();
            groups.joined(0, &billing(), 3);
            groups.owns(0, &billing(), &[tp(0), tp(1)]);
            let (mut name, mut generation) = (billing(), 3);
            match case {
                0 => generation = 4,
                1 => groups.gives_up(0, &billing(), &[tp(1)]),
                2 => groups.gone(0),
                _ => name = Arc::from("shipping"),
            }
            groups.joined(1, &name, generation);
            groups.owns(1, &name, &[tp(1)]);
            assert_eq!(names(&mut groups), [""; 0], "case {case}");
        }
    }

    #[test]
    fn committed_offsets_go_on() {
        let mut groups = Groups::default();
        for (offset, broken) in [(5, false), (5, false), (9, false), (8, true), (8, false), (9, false)] {
            assert_eq!(!commit(&mut groups, offset).is_empty(), broken, "{offset}");
        }
    }

    #[test]
    fn who_speaks_late_sets_nothing_back() {
        let mut groups = Groups::default();
        commit(&mut groups, 9);
        for (late, next) in [(5, 9), (12, 12)] {
            groups.committed_late(&billing(), &[(tp(0), late)]);
            assert_eq!(commit(&mut groups, next), [""; 0], "{late}");
        }
        groups.committed_late(&billing(), &[(tp(0), 20)]);
        assert_eq!(commit(&mut groups, 13), ["CommittedOffsetMonotonic"]);
    }

    #[test]
    fn a_hostile_client_may_commit_what_it_likes_in_groups_of_its_own() {
        for (own, broken) in [("billing", true), ("shipping", false)] {
            let mut groups = Groups::default();
            groups.judge_only([Arc::from(own)]);
            commit(&mut groups, 9);
            assert_eq!(!commit(&mut groups, 3).is_empty(), broken, "{own}");
        }
    }

    #[test]
    fn committed_offsets_go_back_when_asked() {
        let mut groups = Groups::default();
        commit(&mut groups, 9);
        groups.reset_begins();
        assert_eq!(commit(&mut groups, 0), [""; 0]);
        groups.reset_ends();
        assert_eq!(commit(&mut groups, 7), [""; 0]);
        groups.set_back(&tp(0));
        assert_eq!(commit(&mut groups, 3), [""; 0]);
        assert_eq!(commit(&mut groups, 2), ["CommittedOffsetMonotonic"], "once only");
        groups.hear(&Event::OffsetsRemoved { group: billing(), partitions: vec![tp(0)] });
        assert_eq!(commit(&mut groups, 0), [""; 0]);
        commit(&mut groups, 9);
        groups.hear(&Event::GroupDeleted { group: billing() });
        assert_eq!(commit(&mut groups, 0), [""; 0]);
    }
}

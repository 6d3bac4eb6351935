//! Assignors: balance, stickiness, everything owned once; and a member's steps as a table.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use proptest::prelude::*;
use wire::Uuid;

use super::assignor::{Assignor, GroupSpec, MemberSpec, Partitions};
use super::reconcile::{Goal, Owned};
use super::state::{Member, MemberState};

fn topic(n: u8) -> Uuid {
    Uuid([n + 1; 16])
}

/// A group in which every member has a mask of topics.
#[derive(Clone, Debug)]
struct Group {
    topics: BTreeMap<Uuid, i32>,
    members: BTreeMap<Arc<str>, BTreeSet<Uuid>>,
    targets: BTreeMap<Arc<str>, Partitions>,
}

impl Group {
    fn assign(&mut self, assignor: Assignor) {
        let partitions: BTreeMap<Uuid, i32> = (self.topics.iter())
            .filter(|(topic, _)| self.members.values().any(|topics| topics.contains(*topic)))
            .map(|(topic, count)| (*topic, *count))
            .collect();
        let member = |(id, topics): (&Arc<str>, &BTreeSet<Uuid>)| {
            let topics = topics.iter().filter(|topic| self.topics.contains_key(*topic)).copied().collect();
            let target = self.targets.get(id).cloned().unwrap_or_default();
            (id.clone(), MemberSpec { topics: Arc::new(topics), target: Arc::new(target) })
        };
        let members = self.members.iter().map(member).collect();
        self.targets = assignor.assign(&GroupSpec { members, partitions: &partitions });
    }

    fn owners(&self) -> BTreeMap<(Uuid, i32), Arc<str>> {
        let mut owners = BTreeMap::new();
        for (id, target) in &self.targets {
            for (topic, partitions) in target {
                assert!(self.members[id].contains(topic), "{id} did not subscribe to {topic}");
                for partition in partitions {
                    assert!(*partition < self.topics[topic], "there is no partition {partition}");
                    let other = owners.insert((*topic, *partition), id.clone());
                    assert_eq!(other, None, "partition {partition} of {topic} is assigned twice");
                }
            }
        }
        for (topic, count) in &self.topics {
            let wanted = self.members.values().any(|topics| topics.contains(topic));
            for partition in 0..*count {
                assert_eq!(owners.contains_key(&(*topic, partition)), wanted, "partition {partition}");
            }
        }
        owners
    }

    fn sizes(&self) -> BTreeMap<&Arc<str>, usize> {
        self.targets.iter().map(|(id, target)| (id, target.values().map(BTreeSet::len).sum())).collect()
    }

    fn check(&self, assignor: Assignor) {
        let owners = self.owners();
        let sizes = self.sizes();
        match assignor {
            Assignor::Uniform => {
                // Nobody could give a partition to somebody who has two less.
                for ((topic, _), owner) in &owners {
                    for (id, _) in self.members.iter().filter(|(_, topics)| topics.contains(topic)) {
                        assert!(
                            sizes[owner] <= sizes[id] + 1,
                            "{owner} has {}, {id} {}",
                            sizes[owner],
                            sizes[id]
                        );
                    }
                }
            }
            Assignor::Range => {
                for topic in self.topics.keys() {
                    let of = |id: &Arc<str>| self.targets[id].get(topic).map_or(0, BTreeSet::len);
                    let all = self
                        .members
                        .iter()
                        .filter(|(_, topics)| topics.contains(topic))
                        .map(|(id, _)| of(id));
                    let all: Vec<usize> = all.collect();
                    let (least, most) = (all.iter().min().copied(), all.iter().max().copied());
                    assert!(most.unwrap_or(0) <= least.unwrap_or(0) + 1, "{all:?}");
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(u8, u8),
    Leave(u8),
    Grow(u8, u8),
    Make(u8, u8),
    Delete(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12u8, 1..16u8).prop_map(|(m, mask)| Step::Join(m, mask)),
        2 => (0..12u8).prop_map(Step::Leave),
        1 => (0..4u8, 1..6u8).prop_map(|(t, n)| Step::Grow(t, n)),
        1 => (0..4u8, 0..20u8).prop_map(|(t, n)| Step::Make(t, n)),
        1 => (0..4u8).prop_map(Step::Delete),
    ]
}

fn explore(assignor: Assignor, alike: bool, steps: Vec<Step>) {
    let topics = (0..3).map(|n| (topic(n), i32::from(n) * 4 + 3)).collect();
    let mut group = Group { topics, members: BTreeMap::new(), targets: BTreeMap::new() };
    for step in steps {
        match step {
            Step::Join(m, mask) => {
                let mask = if alike { 15 } else { mask };
                let topics = (0..4).filter(|n| mask & 1 << n != 0).map(topic).collect();
                group.members.insert(Arc::from(format!("m{m:02}")), topics);
            }
            Step::Leave(m) => {
                group.members.remove(&*format!("m{m:02}"));
                let members = &group.members;
                group.targets.retain(|id, _| members.contains_key(id));
            }
            Step::Grow(t, n) => {
                if let Some(count) = group.topics.get_mut(&topic(t)) {
                    *count += i32::from(n);
                }
            }
            Step::Make(t, n) => drop(group.topics.entry(topic(t)).or_insert(i32::from(n))),
            Step::Delete(t) => drop(group.topics.remove(&topic(t))),
        }
        group.assign(assignor);
        group.check(assignor);
        let before = group.targets.clone();
        group.assign(assignor);
        assert_eq!(group.targets, before, "nothing changed, and yet something moved");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn uniform_is_balanced_and_stays(alike: bool, steps in prop::collection::vec(step(), 1..24)) {
        explore(Assignor::Uniform, alike, steps);
    }

    #[test]
    fn range_is_balanced_in_every_topic(alike: bool, steps in prop::collection::vec(step(), 1..24)) {
        explore(Assignor::Range, alike, steps);
    }
}

/// Members who go leave what the others have alone, and who comes gets a share.
#[test]
fn uniform_moves_no_more_than_it_must() {
    let topics: BTreeMap<Uuid, i32> = [(topic(0), 60)].into();
    let all: BTreeSet<Uuid> = [topic(0)].into();
    let members = (0..4).map(|n| (Arc::from(format!("m{n}")), all.clone())).collect();
    let mut group = Group { topics, members, targets: BTreeMap::new() };
    group.assign(Assignor::Uniform);
    let before = group.owners();
    group.members.remove("m1");
    group.targets.remove("m1");
    group.assign(Assignor::Uniform);
    let after = group.owners();
    let moved = before.iter().filter(|(at, owner)| after[*at] != **owner).count();
    assert_eq!(moved, 15, "only those of the one who left");
    group.members.insert(Arc::from("m9"), all);
    group.assign(Assignor::Uniform);
    let last = group.owners();
    assert_eq!(after.iter().filter(|(at, owner)| last[*at] != **owner).count(), 15);
}

fn owned(partitions: &[(i32, i32)]) -> Owned {
    let all: BTreeMap<i32, i32> = partitions.iter().copied().collect();
    if all.is_empty() { Owned::new() } else { [(topic(0), all)].into() }
}

fn wanted(partitions: &[i32]) -> Partitions {
    [(topic(0), partitions.iter().copied().collect())].into()
}

#[test]
fn a_member_goes_towards_its_target_step_by_step() {
    use MemberState::{Stable, Unreleased, Unrevoked};
    /// Epoch, state, what it has, what it is to give up.
    type At = (i32, MemberState, &'static [(i32, i32)], &'static [(i32, i32)]);
    struct Case {
        what: &'static str,
        from: At,
        target: (i32, &'static [i32]),
        reported: Option<&'static [i32]>,
        /// Those that another member has.
        taken: &'static [i32],
        to: At,
    }
    let has: &[(i32, i32)] = &[(0, 1), (1, 1)];
    for case in [
        Case {
            what: "nothing new",
            from: (1, Stable, has, &[]),
            target: (1, &[0, 1]),
            reported: None,
            taken: &[],
            to: (1, Stable, has, &[]),
        },
        Case {
            what: "a new member gets what is free",
            from: (0, Stable, &[], &[]),
            target: (3, &[0, 1]),
            reported: Some(&[]),
            taken: &[1],
            to: (3, Unreleased, &[(0, 3)], &[]),
        },
        Case {
            what: "and later the rest, in the same epoch",
            from: (3, Unreleased, &[(0, 3)], &[]),
            target: (3, &[0, 1]),
            reported: None,
            taken: &[],
            to: (3, Stable, &[(0, 3), (1, 3)], &[]),
        },
        Case {
            what: "first it gives up, in its old epoch",
            from: (1, Stable, has, &[]),
            target: (2, &[0, 2]),
            reported: Some(&[0, 1]),
            taken: &[],
            to: (1, Unrevoked, &[(0, 1)], &[(1, 1)]),
        },
        Case {
            what: "who says nothing may still have it",
            from: (1, Unrevoked, &[(0, 1)], &[(1, 1)]),
            target: (2, &[0, 2]),
            reported: None,
            taken: &[1],
            to: (1, Unrevoked, &[(0, 1)], &[(1, 1)]),
        },
        Case {
            what: "given up: on to the new epoch, with what is new",
            from: (1, Unrevoked, &[(0, 1)], &[(1, 1)]),
            target: (2, &[0, 2]),
            reported: Some(&[0]),
            taken: &[],
            to: (2, Stable, &[(0, 1), (2, 2)], &[]),
        },
        Case {
            what: "the target moved on meanwhile",
            from: (1, Unrevoked, &[(0, 1)], &[(1, 1)]),
            target: (4, &[1]),
            reported: Some(&[0]),
            taken: &[],
            to: (1, Unrevoked, &[], &[(0, 1)]),
        },
        Case {
            what: "nothing left, and nothing to wait for",
            from: (1, Stable, has, &[]),
            target: (2, &[]),
            reported: Some(&[]),
            taken: &[],
            to: (2, Stable, &[], &[]),
        },
    ] {
        let mut member = Member::new(Arc::from("m"));
        (member.epoch, member.state) = (case.from.0, case.from.1);
        (member.assigned, member.revoking) = (owned(case.from.2), owned(case.from.3));
        let (target, reported) = (wanted(case.target.1), case.reported.map(wanted));
        let is_free = |_: Uuid, partition: i32| !case.taken.contains(&partition);
        let goal = Goal {
            epoch: case.target.0,
            target: &target,
            subscribed: &[topic(0)].into(),
            reported: reported.as_ref(),
            is_free: &is_free,
        };
        let next = member.reconciled(&goal);
        let got = (next.epoch, next.state, next.assigned, next.revoking);
        assert_eq!(got, (case.to.0, case.to.1, owned(case.to.2), owned(case.to.3)), "{}", case.what);
    }
}

//! One step of a member towards its target assignment, as a pure function.
//!
//! Follows Kafka's `CurrentAssignmentBuilder`. A member first gives up what is no longer meant for it, in its old
//! epoch; then it moves to the epoch of the target and gets what is free; what another member has not given up yet it
//! gets later, in the same epoch. So no partition is ever with two members:
//!
//! 1. the target moves partition 0 from A to B, in epoch 2;
//! 2. B asks: it goes to epoch 2 without partition 0, *unreleased partitions*;
//! 3. A asks: it is told to give partition 0 up, *unrevoked partitions*, and stays in epoch 1;
//! 4. A asks again, and does not name partition 0: it goes to epoch 2;
//! 5. B asks: partition 0 is free, and B gets it.

use alloc::collections::{BTreeMap, BTreeSet};

use wire::Uuid;

use super::assignor::Partitions;
use super::state::{Member, MemberState};

/// Partitions by topic, each with the epoch in which the member got it.
pub type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// What a member is to become.
pub struct Goal<'a> {
    /// The epoch of the target assignment.
    pub epoch: i32,
    /// What the member is to have.
    pub target: &'a Partitions,
    /// The topics that it subscribed to now.
    pub subscribed: &'a BTreeSet<Uuid>,
    /// What the member says that it has; `None` if it says nothing.
    pub reported: Option<&'a Partitions>,
    /// Whether nobody else has a partition.
    pub is_free: &'a dyn Fn(Uuid, i32) -> bool,
}

impl Member {
    /// The next step, or the member as it is if it must wait. Whether its target changed or its subscription did, its
    /// assignment is brought in line.
    pub fn reconciled(&self, goal: &Goal<'_>) -> Member {
        match self.state {
            MemberState::Stable if self.epoch == goal.epoch => self.only_subscribed(goal),
            MemberState::Unrevoked if still_has(goal.reported, &self.revoking) => self.only_subscribed(goal),
            MemberState::Stable | MemberState::Unrevoked | MemberState::Unreleased => self.next(goal),
        }
    }

    /// Takes away what belongs to topics that the member is not subscribed to any more, before there is a new target.
    fn only_subscribed(&self, goal: &Goal<'_>) -> Member {
        if self.assigned.keys().all(|topic| goal.subscribed.contains(topic)) {
            return self.clone();
        }
        let mut member = self.clone();
        let (assigned, gone): (Owned, Owned) =
            core::mem::take(&mut member.assigned).into_iter().partition(|(t, _)| goal.subscribed.contains(t));
        member.assigned = assigned;
        let mut revoking = self.revoking.clone();
        for (topic, partitions) in gone {
            revoking.entry(topic).or_default().extend(partitions);
        }
        if still_has(goal.reported, &revoking) {
            member.state = MemberState::Unrevoked;
            member.revoking = revoking;
        }
        member.moved_to(self.epoch)
    }

    fn next(&self, goal: &Goal<'_>) -> Member {
        let nothing = BTreeSet::new();
        let target_of = |topic: &Uuid| match goal.subscribed.contains(topic) {
            true => goal.target.get(topic).unwrap_or(&nothing),
            false => &nothing,
        };
        let (mut assigned, mut revoking) = (Owned::new(), Owned::new());
        for (topic, partitions) in &self.assigned {
            let target = target_of(topic);
            for (partition, epoch) in partitions {
                let into = if target.contains(partition) { &mut assigned } else { &mut revoking };
                into.entry(*topic).or_default().insert(*partition, *epoch);
            }
        }
        let mut member = self.clone();
        if !revoking.is_empty() && still_has(goal.reported, &revoking) {
            (member.state, member.assigned, member.revoking) = (MemberState::Unrevoked, assigned, revoking);
            return member.moved_to(self.epoch);
        }
        let mut unreleased = false;
        for topic in goal.target.keys() {
            for partition in target_of(topic) {
                if assigned.get(topic).is_some_and(|of_topic| of_topic.contains_key(partition)) {
                    continue;
                }
                if (goal.is_free)(*topic, *partition) {
                    assigned.entry(*topic).or_default().insert(*partition, goal.epoch);
                } else {
                    unreleased = true;
                }
            }
        }
        member.state = if unreleased { MemberState::Unreleased } else { MemberState::Stable };
        member.assigned = assigned;
        member.revoking = Owned::new();
        member.moved_to(goal.epoch)
    }

    fn moved_to(mut self, epoch: i32) -> Member {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
        self
    }
}

/// Whether a member has, as far as it says, something of what it is to give up. Who says nothing may have it.
fn still_has(reported: Option<&Partitions>, revoking: &Owned) -> bool {
    let Some(reported) = reported else { return true };
    (revoking.iter()).any(|(topic, partitions)| {
        reported.get(topic).is_some_and(|has| partitions.keys().any(|p| has.contains(p)))
    })
}

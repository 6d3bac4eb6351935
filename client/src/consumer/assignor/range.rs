//! `RangeAssignor.java`: of each topic the members in their order get consecutive partitions, the first ones one more
//! where they do not divide evenly. With racks (KIP-881) a member first gets partitions that have a replica in its
//! rack, as far as that does not cost balance; topics of equal members and partition counts stay together.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::{Assignment, Member, Topics, racks_matter};
use crate::event::TopicPartition;

/// What is left to assign of a topic.
struct TopicState<'a> {
    topic: &'a Arc<str>,
    racks: &'a [Vec<Arc<str>>],
    /// Its subscribers, as indices into the members in their order.
    consumers: Vec<usize>,
    needs_racks: bool,
    /// By partition.
    taken: Vec<bool>,
    left: usize,
    /// By position in `consumers`.
    counts: Vec<usize>,
    quota: usize,
    /// So many members may still have one more than the quota.
    extras: usize,
}

impl<'a> TopicState<'a> {
    fn new(topic: &'a Arc<str>, racks: &'a [Vec<Arc<str>>], members: &[&Member]) -> TopicState<'a> {
        let subscribed = |&at: &usize| members[at].topics.contains(topic);
        let consumers: Vec<usize> = (0..members.len()).filter(subscribed).collect();
        let own: Vec<&Arc<str>> = consumers.iter().filter_map(|&at| members[at].rack()).collect();
        TopicState {
            topic,
            racks,
            needs_racks: racks_matter(&own, racks.iter()),
            taken: vec![false; racks.len()],
            left: racks.len(),
            counts: vec![0; consumers.len()],
            quota: racks.len().checked_div(consumers.len()).unwrap_or(0),
            extras: racks.len().checked_rem(consumers.len()).unwrap_or(0),
            consumers,
        }
    }

    fn racks_match(&self, member: &Member, partition: usize) -> bool {
        member.rack().is_none_or(|rack| self.racks[partition].contains(rack))
    }

    fn may_take(&self, at: usize) -> usize {
        (self.quota + usize::from(self.extras > 0)).saturating_sub(self.counts[at])
    }

    fn give(&mut self, at: usize, partitions: &[usize], member: &Member, assignment: &mut Assignment) {
        self.counts[at] += partitions.len();
        if self.counts[at] > self.quota && !partitions.is_empty() {
            self.extras -= 1;
        }
        let assigned = assignment.get_mut(&member.id).expect("every member is in the assignment");
        for &partition in partitions {
            self.taken[partition] = true;
            let topic = self.topic.clone();
            assigned.push(TopicPartition { topic, partition: partition as i32 });
        }
        self.left -= partitions.len();
    }

    fn assign_ranges(&mut self, members: &[&Member], match_racks: bool, assignment: &mut Assignment) {
        for at in 0..self.consumers.len() {
            if self.left == 0 {
                break;
            }
            let member = members[self.consumers[at]];
            let free = |&p: &usize| !self.taken[p] && (!match_racks || self.racks_match(member, p));
            let partitions: Vec<usize> = (0..self.racks.len()).filter(free).take(self.may_take(at)).collect();
            self.give(at, &partitions, member, assignment);
        }
    }
}

pub(super) fn assign(topics: &Topics, members: &[Member]) -> Assignment {
    let mut assignment: Assignment = members.iter().map(|member| (member.id.clone(), Vec::new())).collect();
    let mut order: Vec<&Member> = members.iter().collect();
    order.sort_by(|a, b| a.order(b));
    let mut states: Vec<TopicState<'_>> =
        topics.iter().map(|(topic, racks)| TopicState::new(topic, racks, &order)).collect();
    let by_racks = states.iter().any(|state| state.needs_racks);
    if by_racks {
        match_racks(&mut states, &order, &mut assignment);
    }
    for state in &mut states {
        state.assign_ranges(&order, false, &mut assignment);
    }
    if by_racks {
        assignment.values_mut().for_each(|assigned| assigned.sort_unstable());
    }
    assignment
}

fn match_racks(states: &mut [TopicState<'_>], members: &[&Member], assignment: &mut Assignment) {
    let mut done = vec![false; states.len()];
    for first in 0..states.len() {
        if done[first] {
            continue;
        }
        let alike = |at: &usize| {
            !done[*at]
                && states[*at].consumers == states[first].consumers
                && states[*at].racks.len() == states[first].racks.len()
        };
        let together: Vec<usize> = (first..states.len()).filter(alike).collect();
        together.iter().for_each(|&at| done[at] = true);
        if together.len() > 1 {
            assign_together(states, &together, members, assignment);
        } else if states[first].needs_racks {
            states[first].assign_ranges(members, true, assignment);
        }
    }
}

/// The partitions of one number of all these topics go to one member, if there is one whose rack has a replica of each.
fn assign_together(
    states: &mut [TopicState<'_>],
    together: &[usize],
    members: &[&Member],
    assignment: &mut Assignment,
) {
    let consumers = states[together[0]].consumers.clone();
    let mut remaining: Vec<usize> = (0..consumers.len()).collect();
    for partition in 0..states[together[0]].racks.len() {
        let matches = |at: usize| {
            let fits = |&state: &usize| {
                let state: &TopicState<'_> = &states[state];
                state.racks_match(members[consumers[at]], partition) && state.may_take(at) > 0
            };
            together.iter().all(fits)
        };
        let Some(at) = remaining.iter().copied().find(|&at| matches(at)) else { continue };
        for &state in together {
            states[state].give(at, &[partition], members[consumers[at]], assignment);
        }
        if together.iter().all(|&state| states[state].may_take(at) == 0) {
            remaining.retain(|&other| other != at);
            if remaining.is_empty() {
                break;
            }
        }
    }
}

//! `RoundRobinAssignor.java`: all partitions of all topics in turn to the members that subscribe to their topic.

use alloc::vec::Vec;

use super::{Assignment, Member, Topics};
use crate::event::TopicPartition;

pub(super) fn assign(topics: &Topics, members: &[Member]) -> Assignment {
    let mut assignment: Assignment = members.iter().map(|member| (member.id.clone(), Vec::new())).collect();
    let mut order: Vec<&Member> = members.iter().collect();
    order.sort_by(|a, b| a.order(b));
    let mut turn = 0;
    for (topic, partitions) in topics {
        for partition in 0..partitions.len() as i32 {
            // Topics that nobody subscribes to are not here, so that this ends.
            while !order[turn].topics.contains(topic) {
                turn = (turn + 1) % order.len();
            }
            let assigned = assignment.get_mut(&order[turn].id).expect("every member is in the assignment");
            assigned.push(TopicPartition { topic: topic.clone(), partition });
            turn = (turn + 1) % order.len();
        }
    }
    assignment
}

//! `LeaderCandidateCompleteness`: whoever may be elected has every committed record: all members of the ISR and the ELR.
//!
//! `LeaderCandidateCompletenessProperty` of Vanlightly/kafka-tlaplus (kraft/kip-966/kip_966_properties.tla), for KIP-966.
//! As there, a member whose disk lost something does not count until the controller has registered it again, and has
//! taken it out of both.

use super::Nodes;
use super::state::Partition;

/// The invariant's name.
pub const NAME: &str = "LeaderCandidateCompleteness";

/// The ISR or the ELR has changed.
pub fn changed(partition: &Partition, nodes: &Nodes) -> Option<String> {
    let state = partition.state.as_ref()?;
    if partition.unclean_epoch == Some(state.leader_epoch) {
        return None;
    }
    state.isr.iter().chain(&state.elr).find_map(|member| lacks(partition, nodes, *member))
}

/// A candidate's log got shorter, or its broker is registered again after its disk lost something.
pub fn shortened(partition: &Partition, nodes: &Nodes, node: i32) -> Option<String> {
    let state = partition.state.as_ref()?;
    let is_candidate = state.isr.contains(&node) || state.elr.contains(&node);
    if !is_candidate || partition.unclean_epoch.is_some_and(|epoch| epoch >= state.leader_epoch) {
        return None;
    }
    lacks(partition, nodes, node)
}

/// More was committed: members of the ISR are the business of `StrongIsr`.
pub fn committed(partition: &Partition, nodes: &Nodes) -> Option<String> {
    let state = partition.state.as_ref()?;
    state.elr.iter().find_map(|member| lacks(partition, nodes, *member))
}

fn lacks(partition: &Partition, nodes: &Nodes, node: i32) -> Option<String> {
    if partition.has_committed(node) || !nodes.is_proven(node) {
        return None;
    }
    let state = partition.state.as_ref()?;
    let of = if state.isr.contains(&node) { "the ISR" } else { "the ELR" };
    let (committed, end) = (partition.committed.end, partition.replicas.get(&node).map_or(0, |r| r.log_end));
    Some(format!(
        "broker-{node} is in {of} and may be elected. Its log ends at {end}; records below {committed} were committed, and it does not have them all."
    ))
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    #[test]
    fn fires_on_a_member_that_is_taken_in_too_early() {
        let story = |log_end: i64| {
            vec![
                (1, state(1, 0, 1, &[1])),
                (1, append(10, 14, 0, 8)),
                (1, append(15, 19, 0, 9)),
                (1, watermark(20)),
                (2, append(10, 14, 0, 8)),
                (2, append(log_end - 5, log_end - 1, 0, if log_end == 20 { 9 } else { 8 })),
                (1, state(1, 0, 2, &[1, 2])),
            ]
        };
        assert_eq!(after(story(15)), ["LeaderCandidateCompleteness"]);
        assert_eq!(after(story(20)), [""; 0]);
    }

    #[test]
    fn fires_on_a_member_of_the_elr_that_lacks_something() {
        let elr = |more: Vec<_>| {
            let mut story = vec![(1, with_elr(1, 0, 1, &[1], &[2]))];
            story.extend(more);
            after(story)
        };
        assert_eq!(elr(vec![(1, append(10, 12, 0, 8)), (1, watermark(13))]), ["LeaderCandidateCompleteness"]);
        assert_eq!(elr(vec![(1, append(10, 12, 0, 8))]), [""; 0]);
    }

    #[test]
    fn who_lost_something_with_the_power_does_not_count_before_it_is_registered() {
        let story = |registered: bool| {
            let mut replicas = told(&replicated());
            replicas.process_gone(2);
            replicas.disk_lost(2, false);
            replicas.hear(2, &opened(4, &[(0, 0)]));
            if registered {
                replicas.hear(1, &broker_registered(2));
            }
            replicas.hear(1, &state(1, 0, 1, &[1, 2]));
            names(&mut replicas)
        };
        assert_eq!(story(false), [""; 0]);
        assert_eq!(story(true), ["LeaderCandidateCompleteness"]);
    }

    #[test]
    fn fires_when_it_is_registered_and_stays_a_member() {
        let story = |kept: bool| {
            let mut replicas = told(&replicated());
            replicas.process_gone(2);
            replicas.disk_lost(2, false);
            replicas.hear(2, &opened(4, &[(0, 0)]));
            // The registration and what it changes are committed together.
            replicas.hear(1, &broker_registered(2));
            if !kept {
                replicas.hear(1, &state(1, 0, 9, &[1]));
            }
            replicas.compare(|_, _| None);
            names(&mut replicas)
        };
        assert_eq!(story(false), [""; 0]);
        assert_eq!(story(true), ["LeaderCandidateCompleteness"]);
    }
}

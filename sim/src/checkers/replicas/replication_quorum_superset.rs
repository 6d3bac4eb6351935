//! `ReplicationQuorumSuperset`: without whom a leader commits nothing, its maximal ISR, holds all that may be elected: the
//! controller's ISR and ELR.
//!
//! `ReplicationQuorumSupersetProperty` of Vanlightly/kafka-tlaplus (kraft/kip-966/kip_966_properties.tla), for KIP-497 and
//! KIP-966: it concerns a leader whose leader epoch is the controller's, and the second half only one whose ISR has
//! `min.insync.replicas` members. It is looked at when the controller or the leader changed its mind.

use broker_core::event::PartitionState;

/// The invariant's name.
pub const NAME: &str = "ReplicationQuorumSuperset";

/// What a leader itself takes to be in sync.
#[derive(Clone, Debug, Default)]
pub struct LeaderIsr {
    /// The leader epoch that it knows.
    pub leader_epoch: i32,
    /// The ISR as committed, as far as it knows.
    pub committed: Vec<i32>,
    /// The ISR with who is about to join.
    pub maximal: Vec<i32>,
    /// A change of the ISR is under way.
    pub pending: bool,
    /// `min.insync.replicas`, as far as there are replicas.
    pub min_isr: usize,
}

/// Compares the controller's word with the leader's own.
pub fn compared(state: &PartitionState, leader: &LeaderIsr) -> Option<String> {
    if state.leader_epoch != leader.leader_epoch {
        return None;
    }
    if !leader.pending && leader.maximal.len() != leader.committed.len() {
        return Some(format!(
            "broker-{} waits for no change of the ISR {:?}, and yet takes {:?} to be in sync.",
            state.leader, leader.committed, leader.maximal
        ));
    }
    if leader.committed.len() < leader.min_isr {
        return None;
    }
    let missing = state.isr.iter().chain(&state.elr).find(|id| !leader.maximal.contains(id))?;
    Some(format!(
        "The leader broker-{} would commit without broker-{missing}: it takes {:?} to be in sync in leader epoch {}. The controller might elect broker-{missing}: its ISR is {:?}, its ELR {:?}.",
        state.leader, leader.maximal, leader.leader_epoch, state.isr, state.elr
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(isr: &[i32], elr: &[i32]) -> PartitionState {
        PartitionState {
            leader: 1,
            leader_epoch: 3,
            partition_epoch: 4,
            replicas: vec![1, 2, 3],
            isr: isr.to_vec(),
            elr: elr.to_vec(),
            last_known_elr: vec![],
        }
    }

    fn leader(committed: &[i32], maximal: &[i32], min_isr: usize) -> LeaderIsr {
        let pending = committed.len() != maximal.len();
        LeaderIsr {
            leader_epoch: 3,
            committed: committed.to_vec(),
            maximal: maximal.to_vec(),
            pending,
            min_isr,
        }
    }

    #[test]
    fn fires_on_a_leader_that_leaves_a_candidate_out() {
        assert!(compared(&state(&[1, 2, 3], &[]), &leader(&[1, 2], &[1, 2], 2)).is_some());
        assert!(compared(&state(&[1, 2], &[3]), &leader(&[1, 2], &[1, 2], 2)).is_some());
        let idle = LeaderIsr { pending: false, ..leader(&[1, 2], &[1, 2, 3], 2) };
        assert!(compared(&state(&[1, 2], &[]), &idle).is_some());
    }

    #[test]
    fn is_silent_on_one_that_takes_more_in_or_is_deposed_or_may_not_commit() {
        assert_eq!(compared(&state(&[1, 2, 3], &[]), &leader(&[1, 2], &[1, 2, 3], 2)), None);
        assert_eq!(compared(&state(&[1], &[2]), &leader(&[1], &[1], 2)), None);
        let old = LeaderIsr { leader_epoch: 2, ..leader(&[1, 2], &[1, 2], 2) };
        assert_eq!(compared(&state(&[3], &[]), &old), None);
    }
}

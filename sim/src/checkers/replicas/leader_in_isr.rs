//! `LeaderInIsr`: a leader is a member of the ISR.
//!
//! `LeaderInIsr` of hachikuji/kafka-specification (KafkaReplication.tla).

use broker_core::event::PartitionState;

/// The invariant's name.
pub const NAME: &str = "LeaderInIsr";

/// The controller committed a state.
pub fn changed(after: &PartitionState) -> Option<String> {
    (after.leader >= 0 && !after.isr.contains(&after.leader))
        .then(|| format!("The leader, broker-{}, is not in the ISR {:?}.", after.leader, after.isr))
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    #[test]
    fn fires_on_a_leader_outside_its_isr() {
        assert_eq!(after(vec![(1, state(1, 0, 1, &[2]))]), ["LeaderInIsr"]);
    }

    #[test]
    fn is_silent_on_one_inside_and_on_none() {
        assert_eq!(after(vec![(1, state(1, 0, 1, &[1])), (1, state(-1, 1, 2, &[1]))]), [""; 0]);
    }
}

//! `StrongIsr`: every member of a leader's ISR has everything below the leader's high watermark.
//!
//! `StrongIsr` of hachikuji/kafka-specification (KafkaReplication.tla). The ISR is that which the controller committed;
//! a leader that was deposed has one of the past, and does not count. Nor does a member whose disk lost something and
//! that the controller has not registered again: when it does, it takes it out of the ISR (KIP-966).

use super::Nodes;
use super::state::Partition;

/// The invariant's name.
pub const NAME: &str = "StrongIsr";

/// A leader moved its high watermark.
pub fn advanced(partition: &Partition, nodes: &Nodes, leader: i32, high_watermark: i64) -> Option<String> {
    let state = partition.state.as_ref()?;
    let leads = partition.replicas.get(&leader)?.leads?;
    if state.leader != leader || state.leader_epoch != leads {
        return None;
    }
    let lacks = |member: &&i32| {
        partition.replicas.get(member).is_none_or(|r| r.log_end < high_watermark) && nodes.is_proven(**member)
    };
    let behind = state.isr.iter().find(lacks)?;
    let end = partition.replicas.get(behind).map_or(0, |r| r.log_end);
    Some(format!(
        "The leader broker-{leader} moved its high watermark to {high_watermark}. broker-{behind} is in the ISR and ends at {end}."
    ))
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    #[test]
    fn fires_on_a_watermark_that_a_member_does_not_reach() {
        assert_eq!(after(vec![(1, append(10, 12, 0, 8)), (1, watermark(13))]), ["StrongIsr"]);
    }

    #[test]
    fn is_silent_once_the_member_has_left_or_followed() {
        let followed = vec![(1, append(10, 12, 0, 8)), (2, append(10, 12, 0, 8)), (1, watermark(13))];
        assert_eq!(after(followed), [""; 0]);
        let left = vec![(1, append(10, 12, 0, 8)), (1, state(1, 0, 1, &[1])), (1, watermark(13))];
        assert_eq!(after(left), [""; 0]);
    }
}

//! `SingleLeaderPerEpoch`: at most one broker leads a partition in a leader epoch.
//!
//! Raft's Election Safety for partitions; in Vanlightly/kafka-tlaplus (kraft/kip-966) it holds by construction, since
//! each broker acts on the controller's record.

use super::state::Partition;

/// The invariant's name.
pub const NAME: &str = "SingleLeaderPerEpoch";

/// A broker became leader. Its epoch is noted.
pub fn became_leader(partition: &mut Partition, node: i32, epoch: i32) -> Option<String> {
    let other = partition.leaders.insert(epoch, node).filter(|other| *other != node)?;
    Some(format!("Both broker-{other} and broker-{node} became leader in epoch {epoch}."))
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    #[test]
    fn fires_on_two_leaders_in_one_epoch() {
        assert_eq!(after(vec![(2, lead(0, 10, 10))]), ["SingleLeaderPerEpoch"]);
    }

    #[test]
    fn is_silent_on_two_in_two_epochs() {
        assert_eq!(after(vec![(2, lead(1, 10, 10)), (2, lead(1, 10, 10))]), [""; 0]);
    }
}

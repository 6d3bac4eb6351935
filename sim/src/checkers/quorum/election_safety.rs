//! `ElectionSafety`: at most one leader in an epoch, and nobody sees another one.
//!
//! Raft, figure 3; `NeverTwoLeadersInSameEpoch` of Vanlightly/kafka-tlaplus (kraft/kip_996/kraft_kip_996_properties.tla).

use std::collections::BTreeMap;

/// The invariant's name.
pub const NAME: &str = "ElectionSafety";

/// By epoch: who leads.
#[derive(Clone, Debug, Default)]
pub struct Leaders(BTreeMap<i32, i32>);

impl Leaders {
    /// A node leads an epoch, as it says itself or as another heard.
    pub fn leads(&mut self, leader: i32, epoch: i32) -> Option<String> {
        match self.0.insert(epoch, leader) {
            Some(other) if other != leader => {
                Some(format!("Both node {other} and node {leader} are the leader of epoch {epoch}."))
            }
            _ => None,
        }
    }

    /// The newest epoch that has a leader, and who it is.
    pub fn newest(&self) -> Option<(i32, i32)> {
        self.0.last_key_value().map(|(epoch, leader)| (*epoch, *leader))
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::*;
    use broker_core::event::{Event, RaftRole};

    fn follows(epoch: i32, leader: i32) -> Event {
        Event::RaftRoleChanged { role: RaftRole::Follower, epoch, leader: Some(leader) }
    }

    #[test]
    fn fires_on_two_winners_and_on_two_views() {
        assert_eq!(broken(&[(1, won(1, 0)), (2, won(1, 0))]), ["ElectionSafety"]);
        assert_eq!(broken(&[(1, won(1, 0)), (3, follows(1, 2))]), ["ElectionSafety"]);
    }

    #[test]
    fn is_silent_on_one_after_the_other() {
        assert_eq!(
            broken(&[(1, won(1, 0)), (3, follows(1, 1)), (2, won(2, 0)), (3, follows(2, 2))]),
            [""; 0]
        );
    }
}

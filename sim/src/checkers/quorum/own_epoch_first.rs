//! `OwnEpochFirst`: a leader of the quorum commits nothing by counting replicas before a record of its own epoch is among it.
//!
//! Raft, section 5.4.2 and figure 8: what an earlier leader left may lie on a majority and still be overwritten by a leader
//! to come. KRaft writes a record at the beginning of each epoch for it (`LeaderState.java`).

use std::collections::BTreeMap;

/// The invariant's name.
pub const NAME: &str = "OwnEpochFirst";

/// By node that leads: its epoch, and where that begins in the log.
#[derive(Clone, Debug, Default)]
pub struct Reigns(BTreeMap<i32, (i32, i64)>);

impl Reigns {
    /// A node won an election.
    pub fn won(&mut self, node: i32, epoch: i32, start_offset: i64) {
        self.0.insert(node, (epoch, start_offset));
    }

    /// A node does not lead any more.
    pub fn ended(&mut self, node: i32) {
        self.0.remove(&node);
    }

    /// A node's high watermark moved on.
    pub fn committed(&self, node: i32, high_watermark: i64) -> Option<String> {
        let (epoch, start) = self.0.get(&node).filter(|(_, start)| high_watermark <= *start)?;
        Some(format!(
            "Node {node} committed metadata below {high_watermark} as the leader of epoch {epoch}, whose first record lies at {start}."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::*;
    use broker_core::event::{Event, RaftRole};

    fn follows(epoch: i32) -> Event {
        Event::RaftRoleChanged { role: RaftRole::Follower, epoch, leader: None }
    }

    #[test]
    fn fires_on_a_leader_that_commits_only_what_others_left() {
        assert_eq!(broken(&[(1, won(4, 10)), (1, committed(10))]), ["OwnEpochFirst"]);
        assert_eq!(broken(&[(1, won(4, 10)), (1, committed(8))]), ["OwnEpochFirst"]);
    }

    #[test]
    fn is_silent_once_its_own_record_is_there_and_about_followers() {
        assert_eq!(broken(&[(1, won(4, 10)), (1, committed(11)), (1, committed(14))]), [""; 0]);
        assert_eq!(broken(&[(1, won(4, 10)), (2, committed(9))]), [""; 0]);
        assert_eq!(broken(&[(1, won(4, 10)), (1, follows(5)), (1, committed(9))]), [""; 0]);
    }
}

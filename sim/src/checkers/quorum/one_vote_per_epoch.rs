//! `OneVotePerEpoch`: a voter gives its vote to one candidate of an epoch, whatever happens to it between.
//!
//! What Raft's Election Safety rests on (Raft, section 5.2), and why KRaft persists a vote before it answers
//! (`FileQuorumStateStore`). Pre-votes bind nobody (KIP-996).

use std::collections::BTreeMap;

/// The invariant's name.
pub const NAME: &str = "OneVotePerEpoch";

/// By voter: its last vote.
#[derive(Clone, Debug, Default)]
pub struct Votes(BTreeMap<i32, (i32, i32)>);

impl Votes {
    /// A voter granted its vote.
    pub fn granted(&mut self, voter: i32, epoch: i32, candidate: i32) -> Option<String> {
        match self.0.insert(voter, (epoch, candidate)) {
            Some((known, other)) if known == epoch && other != candidate => Some(format!(
                "Node {voter} gave its vote in epoch {epoch} to node {other} and to node {candidate}."
            )),
            Some((known, _)) if known > epoch => Some(format!(
                "Node {voter} gave its vote in epoch {epoch} to node {candidate}, after one in epoch {known}."
            )),
            _ => None,
        }
    }

    /// A voter's disk is an empty one.
    pub fn forget(&mut self, voter: i32) {
        self.0.remove(&voter);
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::*;
    use broker_core::event::Event;

    /// Node 3 votes, and said so before.
    fn announced(votes: &[(i32, i32)]) -> Vec<(i32, Event)> {
        let both = |&(epoch, candidate): &(i32, i32)| {
            let vote = |epoch, pre_vote| (3, Event::VoteGranted { epoch, candidate, pre_vote });
            [vote(epoch - 1, true), vote(epoch, false)]
        };
        votes.iter().flat_map(both).collect()
    }

    #[test]
    fn fires_on_a_second_vote_and_on_one_of_the_past() {
        assert_eq!(broken(&announced(&[(4, 1), (4, 2)])), ["OneVotePerEpoch"]);
        assert_eq!(broken(&announced(&[(4, 1), (3, 2)])), ["OneVotePerEpoch"]);
    }

    #[test]
    fn is_silent_on_the_same_again_on_pre_votes_and_on_later_epochs() {
        assert_eq!(broken(&announced(&[(4, 1), (4, 1), (5, 2)])), [""; 0]);
    }
}

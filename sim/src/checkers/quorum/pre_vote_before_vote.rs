//! `PreVoteBeforeVote`: who asks for votes in an epoch was told in the epoch before, by a voter at least, that it could win.
//!
//! KIP-996: a voter that hears nothing of its leader asks first, in the epoch that it is in, whether it would be voted for,
//! and begins no epoch of its own before that; a voter that is cut off and comes back does not depose a leader whom the
//! others follow. Looked at when somebody votes for it, which nobody does for the only voter. How many a majority is, is
//! the matter of `ElectionSafety`.

use std::collections::BTreeMap;

/// The invariant's name.
pub const NAME: &str = "PreVoteBeforeVote";

/// How many epochs of a candidate are kept: a vote is for one that began a moment ago.
const KEPT: usize = 8;

/// By candidate: the last epochs in which somebody said that it would vote for it.
#[derive(Clone, Debug, Default)]
pub struct PreVotes(BTreeMap<i32, Vec<i32>>);

impl PreVotes {
    /// A voter said that it would vote for a candidate.
    pub fn pre_vote(&mut self, epoch: i32, candidate: i32) {
        let known = self.0.entry(candidate).or_default();
        if !known.contains(&epoch) {
            known.push(epoch);
            if known.len() > KEPT {
                known.remove(0);
            }
        }
    }

    /// A voter granted its vote.
    pub fn vote(&self, voter: i32, epoch: i32, candidate: i32) -> Option<String> {
        let asked = self.0.get(&candidate).is_some_and(|known| known.contains(&(epoch - 1)));
        (!asked).then(|| {
            format!(
                "Node {voter} voted for node {candidate} in epoch {epoch}, and nobody had told node {candidate} in epoch {} \
                 that it could win.",
                epoch - 1
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::*;
    use broker_core::event::Event;

    fn told(epoch: i32, candidate: i32, pre_vote: bool) -> Event {
        Event::VoteGranted { epoch, candidate, pre_vote }
    }

    #[test]
    fn fires_on_a_vote_that_nobody_announced_or_only_for_another_epoch() {
        assert_eq!(broken(&[(3, told(4, 1, false))]), ["PreVoteBeforeVote"]);
        assert_eq!(broken(&[(3, told(2, 1, true)), (3, told(4, 1, false))]), ["PreVoteBeforeVote"]);
        assert_eq!(broken(&[(3, told(3, 2, true)), (3, told(4, 1, false))]), ["PreVoteBeforeVote"]);
    }

    #[test]
    fn is_silent_when_somebody_announced_it_be_it_another() {
        assert_eq!(broken(&[(2, told(3, 1, true)), (3, told(4, 1, false))]), [""; 0]);
        let again =
            [(2, told(3, 1, true)), (3, told(4, 1, false)), (2, told(4, 1, true)), (3, told(5, 1, false))];
        assert_eq!(broken(&again), [""; 0]);
    }
}

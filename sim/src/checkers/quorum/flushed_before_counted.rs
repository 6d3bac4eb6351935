//! `FlushedBeforeCounted`: what the quorum's leader commits is durable on as many of the other voters as it takes.
//!
//! KIP-595: the offset from which a voter fetches says what it has, and it flushes what it has appended before it fetches
//! again. The leader alone counts what it has not flushed. Looked at when the leader commits, for the voters that run;
//! whoever is down, or lost its power or its disk before, is taken for one that has flushed. While voters come and go
//! (KIP-853) a majority of one voter fewer is enough.

use std::collections::BTreeMap;

/// The invariant's name.
pub const NAME: &str = "FlushedBeforeCounted";

/// A voter's log as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Voter {
    /// Its id.
    pub id: i32,
    /// Where its log ends and how far it is durable, if it runs.
    pub log: Option<(i64, i64)>,
}

/// What a node has appended since its process began.
#[derive(Clone, Debug, Default)]
struct Life {
    appended: Option<(i64, i64)>,
    /// What it has flushed once may be gone.
    unknown: bool,
}

/// What the nodes have appended.
#[derive(Clone, Debug, Default)]
pub struct Appended(BTreeMap<i32, Life>);

impl Appended {
    /// A node has a new process.
    pub fn started(&mut self, node: i32) {
        self.0.entry(node).or_default().appended = None;
    }

    /// A node lost its power or its disk.
    pub fn disk_lost(&mut self, node: i32) {
        self.0.entry(node).or_default().unknown = true;
    }

    /// A node appended a batch.
    pub fn appended(&mut self, node: i32, from: i64, to: i64) {
        let known = &mut self.0.entry(node).or_default().appended;
        *known = Some((known.map_or(from, |(first, _)| first.min(from)), to));
    }

    /// The leader committed; `changing`: its voters may be others than a moment ago.
    pub fn committed(
        &self,
        leader: i32,
        high_watermark: i64,
        voters: &[Voter],
        changing: bool,
    ) -> Option<String> {
        let count = voters.len() - usize::from(changing && voters.len() > 1);
        let leader_votes = voters.iter().any(|voter| voter.id == leader);
        let needed = (count / 2 + 1) - usize::from(leader_votes);
        let others = voters.iter().filter(|voter| voter.id != leader);
        let (behind, with): (Vec<&Voter>, Vec<&Voter>) =
            others.partition(|voter| self.lacks(voter, high_watermark));
        if with.len() >= needed {
            return None;
        }
        let ids: Vec<i32> = behind.iter().map(|voter| voter.id).collect();
        Some(format!(
            "Node {leader} committed everything below offset {high_watermark}. Of the other voters {ids:?} had not flushed it, so that it was durable on {} of the {needed} that are needed.",
            with.len()
        ))
    }

    /// Whether a voter surely has not flushed what lies below an offset: it appended the end of it since it runs.
    fn lacks(&self, voter: &Voter, high_watermark: i64) -> bool {
        let Some((end, durable)) = voter.log else { return false };
        let Some(Life { appended, unknown: false }) = self.0.get(&voter.id) else { return false };
        let own = appended.is_some_and(|(from, to)| (from..to).contains(&(high_watermark - 1)));
        end < high_watermark || own && durable < high_watermark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(id: i32, end: i64, durable: i64) -> Voter {
        Voter { id, log: Some((end, durable)) }
    }

    /// Nodes 2 and 3 have appended up to offset 10 since they run.
    fn appended() -> Appended {
        let mut appended = Appended::default();
        for node in [2, 3] {
            appended.started(node);
            appended.appended(node, 4, 10);
        }
        appended
    }

    #[test]
    fn fires_where_only_the_leader_counts() {
        let voters = [voter(1, 10, 4), voter(2, 10, 4), voter(3, 10, 9)];
        assert!(appended().committed(1, 10, &voters, false).is_some());
        let lags = [voter(1, 10, 10), voter(2, 10, 4), voter(3, 8, 8)];
        assert!(appended().committed(1, 10, &lags, false).is_some());
        assert!(appended().committed(9, 10, &[voter(2, 10, 10), voter(3, 10, 4)], false).is_some());
    }

    #[test]
    fn is_silent_where_a_majority_has_flushed() {
        let voters = [voter(1, 10, 4), voter(2, 10, 4), voter(3, 10, 10)];
        assert_eq!(appended().committed(1, 10, &voters, false), None);
        assert_eq!(appended().committed(1, 10, &[voter(1, 10, 0)], false), None);
    }

    #[test]
    fn is_silent_about_who_is_down_was_started_or_lost_its_disk() {
        let down = [voter(1, 10, 4), voter(2, 10, 4), Voter { id: 3, log: None }];
        assert_eq!(appended().committed(1, 10, &down, false), None);
        let voters = [voter(1, 10, 4), voter(2, 10, 4), voter(3, 10, 4)];
        let mut again = appended();
        again.started(2);
        assert_eq!(again.committed(1, 10, &voters, false), None, "it recovers what it had flushed");
        let mut lost = appended();
        lost.disk_lost(3);
        assert_eq!(lost.committed(1, 10, &voters, false), None);
    }

    #[test]
    fn is_silent_while_the_second_of_two_voters_comes() {
        let voters = [voter(1, 10, 4), voter(2, 10, 4)];
        assert_eq!(appended().committed(1, 10, &voters, true), None);
        assert!(appended().committed(1, 10, &voters, false).is_some());
    }
}

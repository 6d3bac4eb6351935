//! What the leader of an epoch knows of the replicas: how far they are, the high watermark, whether a majority still
//! fetches (`LeaderState`, KIP-595, KIP-853).
//!
//! The high watermark is the largest offset that a majority of the voters has, the leader included, and only beyond
//! the start of the leader's own epoch. The leader counts its own log end before its flush; a voter's fetch offset
//! counts because a voter flushes before it fetches again.

use crate::mutant::{Mutant, Mutants};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use smallvec::SmallVec;
use wire::drive::{Instant, Nanos, Now};

use super::accumulator::Accumulator;
use super::voters::{ReplicaKey, VoterSet};

/// An observer that has not fetched for so long is no longer described.
const OBSERVER_SESSION_TIMEOUT: Nanos = Nanos::from_secs(300);

/// How far a replica is, as the leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaProgress {
    /// Who; as a voter with kraft.version 0 without directory id.
    pub key: ReplicaKey,
    /// Its log end offset, by its last fetch.
    pub end_offset: Option<i64>,
    /// The wall clock at its last fetch, -1 before it.
    pub last_fetch_ms: i64,
    /// The wall clock when it last had all that the leader had, -1 before.
    pub last_caught_up_ms: i64,
    last_fetch: Option<Instant>,
    /// The leader's log end offset at its last fetch.
    last_fetch_leader_end_offset: i64,
}

impl ReplicaProgress {
    fn new(key: ReplicaKey) -> ReplicaProgress {
        ReplicaProgress {
            key,
            end_offset: None,
            last_fetch_ms: -1,
            last_caught_up_ms: -1,
            last_fetch: None,
            last_fetch_leader_end_offset: -1,
        }
    }

    /// A fetch at `offset` while the leader's log ends at `leader_end_offset`.
    fn fetched(&mut self, offset: i64, leader_end_offset: i64, now: Now) {
        if offset >= leader_end_offset {
            self.last_caught_up_ms = self.last_caught_up_ms.max(now.wall_ms);
        } else if self.last_fetch_leader_end_offset > 0 && offset >= self.last_fetch_leader_end_offset {
            self.last_caught_up_ms = self.last_caught_up_ms.max(self.last_fetch_ms);
        }
        self.last_fetch_leader_end_offset = leader_end_offset;
        self.last_fetch_ms = self.last_fetch_ms.max(now.wall_ms);
        self.last_fetch = Some(now.mono);
        self.end_offset = Some(offset);
    }
}

/// The leader's side of an epoch.
#[derive(Clone, Debug)]
pub(super) struct LeaderState {
    local: ReplicaKey,
    /// The log end offset at which the epoch begins.
    pub(super) epoch_start_offset: i64,
    /// Who voted for it, ascending.
    pub(super) granting: Vec<i32>,
    /// Whether it is committed that this replica does not vote: it resigns.
    pub(super) is_removed: bool,
    /// Whether the first batch of the epoch is appended: only after the epoch is durable.
    pub(super) epoch_started: bool,
    pub(super) accumulator: Accumulator,
    /// Ordered by id.
    voters: Vec<ReplicaProgress>,
    observers: BTreeMap<ReplicaKey, ReplicaProgress>,
    /// The other voters that fetched since the check-quorum timer was last set.
    fetched_voters: Vec<i32>,
    check_quorum_timeout: Nanos,
    /// When a majority must have fetched; absent if the leader is the only voter.
    pub(super) check_quorum_deadline: Option<Instant>,
    begin_quorum_interval: Nanos,
    /// When BeginQuorumEpoch goes out next; absent if there is nobody to send it to.
    pub(super) begin_quorum_deadline: Option<Instant>,
    /// Bugs that are switched on.
    pub(super) mutants: Mutants,
}

impl LeaderState {
    pub(super) fn new(
        local: ReplicaKey,
        epoch: i32,
        epoch_start_offset: i64,
        granting: Vec<i32>,
        voters: &VoterSet,
        fetch_timeout: Nanos,
        now: Instant,
    ) -> LeaderState {
        // Half as long again as a follower waits for the leader, for what the network and the disk take.
        let check_quorum_timeout = Nanos(fetch_timeout.0 / 2 * 3);
        let alone = voters.is_only_voter(local);
        LeaderState {
            local,
            epoch_start_offset,
            granting,
            is_removed: false,
            epoch_started: false,
            accumulator: Accumulator::new(epoch, epoch_start_offset),
            voters: voters.nodes().iter().map(|node| ReplicaProgress::new(node.key)).collect(),
            observers: BTreeMap::new(),
            fetched_voters: Vec::new(),
            check_quorum_timeout,
            check_quorum_deadline: (!alone).then_some(now + check_quorum_timeout),
            begin_quorum_interval: Nanos(fetch_timeout.0 / 2),
            begin_quorum_deadline: (!alone).then_some(now),
            mutants: Mutants::NONE,
        }
    }

    /// The leader's own log grew. Returns the high watermark if it moves on.
    pub(super) fn local_end_offset(&mut self, end_offset: i64, high_watermark: Option<i64>) -> Option<i64> {
        let local = self.local;
        let progress = self.progress_mut(local);
        assert!(
            progress.end_offset.is_none_or(|before| before <= end_offset),
            "the leader's log end goes back from {:?} to {end_offset}",
            progress.end_offset
        );
        progress.end_offset = Some(end_offset);
        self.next_high_watermark(high_watermark)
    }

    /// A replica fetched at `offset`. Returns the high watermark if it moves on.
    pub(super) fn fetched(
        &mut self,
        replica: ReplicaKey,
        offset: i64,
        high_watermark: Option<i64>,
        now: Now,
    ) -> Option<i64> {
        assert!(replica.id != self.local.id, "the leader fetches from itself");
        let leader_end_offset = self.local_progress().end_offset.unwrap_or(self.epoch_start_offset);
        self.progress_mut(replica).fetched(offset, leader_end_offset, now);
        self.heard_from(replica, now.mono);
        match self.voter(replica) {
            Some(_) => self.next_high_watermark(high_watermark),
            None => None,
        }
    }

    /// A replica sent Fetch or FetchSnapshot: if a majority did, the quorum holds for another while.
    pub(super) fn heard_from(&mut self, replica: ReplicaKey, now: Instant) {
        if self.voter(replica).is_none() || self.check_quorum_deadline.is_none() {
            return;
        }
        if !self.fetched_voters.contains(&replica.id) {
            self.fetched_voters.push(replica.id);
        }
        let leader_votes = usize::from(self.voter(self.local).is_some());
        let majority = self.voters.len() / 2 + 1 - leader_votes;
        if self.fetched_voters.len() >= majority {
            self.fetched_voters.clear();
            self.check_quorum_deadline = Some(now + self.check_quorum_timeout);
        }
    }

    /// The voters that are to hear of this epoch now: those that did not fetch lately. Sets the timer anew.
    pub(super) fn begin_quorum_epoch_targets(&mut self, now: Instant) -> Vec<i32> {
        let interval = self.begin_quorum_interval;
        self.begin_quorum_deadline = Some(now + interval);
        self.voters
            .iter()
            .filter(|voter| voter.key.id != self.local.id)
            .filter(|voter| voter.last_fetch.is_none_or(|at| now.since(at) >= interval))
            .map(|voter| voter.key.id)
            .collect()
    }

    /// The other voters, the furthest first: who shall stand for election when this leader resigns.
    pub(super) fn preferred_successors(&self) -> Vec<ReplicaKey> {
        let mut others: Vec<_> = self.voters.iter().filter(|voter| voter.key.id != self.local.id).collect();
        others.sort_by_key(|voter| (core::cmp::Reverse(voter.end_offset), voter.key));
        others.into_iter().map(|voter| voter.key).collect()
    }

    /// Whether an observer has had all that the leader had, and has fetched since a time of the wall clock.
    pub(super) fn is_caught_up(&self, observer: ReplicaKey, since_ms: i64) -> bool {
        self.observers.get(&observer).is_some_and(|progress| {
            progress.last_caught_up_ms > 0 && progress.last_fetch_ms > 0 && progress.last_fetch_ms > since_ms
        })
    }

    /// The voter set changed: progress is kept by replica; who is no voter any more is an observer.
    pub(super) fn set_voters(&mut self, voters: &VoterSet, now: Instant) {
        let mut old: Vec<_> = core::mem::take(&mut self.voters);
        for node in voters.nodes() {
            let known =
                old.iter().position(|voter| voter.key.matches(node.key) || node.key.matches(voter.key));
            let mut progress = match known {
                Some(index) => old.remove(index),
                None => self.observers.remove(&node.key).unwrap_or_else(|| ReplicaProgress::new(node.key)),
            };
            progress.key = node.key;
            self.voters.push(progress);
        }
        for progress in old {
            self.observers.entry(progress.key).or_insert(progress);
        }
        self.fetched_voters.retain(|id| self.voters.iter().any(|voter| voter.key.id == *id));
        let alone = self.voters.len() == 1 && self.voter(self.local).is_some();
        let (quorum_timeout, begin_interval) = (self.check_quorum_timeout, self.begin_quorum_interval);
        if alone {
            (self.check_quorum_deadline, self.begin_quorum_deadline) = (None, None);
        } else {
            self.check_quorum_deadline.get_or_insert(now + quorum_timeout);
            self.begin_quorum_deadline.get_or_insert(now + begin_interval);
        }
    }

    /// The voters, ordered by id.
    pub(super) fn voters(&self) -> &[ReplicaProgress] {
        &self.voters
    }

    /// The observers that fetched within the last minutes, ordered by key.
    pub(super) fn observers(&mut self, now: Instant) -> impl Iterator<Item = &ReplicaProgress> {
        let local = self.local;
        self.observers.retain(|key, progress| {
            *key == local || progress.last_fetch.is_some_and(|at| now.since(at) < OBSERVER_SESSION_TIMEOUT)
        });
        self.observers.values()
    }

    /// The high watermark that the replicas' offsets allow, if it is beyond `current`.
    fn next_high_watermark(&self, current: Option<i64>) -> Option<i64> {
        let ends = self.voters.iter().map(|voter| voter.end_offset);
        let offset = match self.mutants.has(Mutant::MetadataCommittedByMinority) {
            true => ends.flatten().max()?,
            false => majority_offset(ends)?,
        };
        // A record of this epoch must be among it (Raft, figure 8): only then no later leader can lack it.
        let own_epoch =
            offset > self.epoch_start_offset || self.mutants.has(Mutant::MetadataCommittedOfEarlierEpoch);
        let moves = own_epoch && current.is_none_or(|current| offset > current);
        moves.then_some(offset)
    }

    fn voter(&self, replica: ReplicaKey) -> Option<&ReplicaProgress> {
        self.voters.iter().find(|voter| voter.key.matches(replica))
    }

    fn local_progress(&mut self) -> &ReplicaProgress {
        let local = self.local;
        self.progress_mut(local)
    }

    fn progress_mut(&mut self, replica: ReplicaKey) -> &mut ReplicaProgress {
        match self.voters.iter().position(|voter| voter.key.matches(replica)) {
            Some(index) => &mut self.voters[index],
            None => self.observers.entry(replica).or_insert_with(|| ReplicaProgress::new(replica)),
        }
    }
}

/// The largest offset that more than half of these have; absent while too many are unknown.
fn majority_offset(end_offsets: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    let mut offsets: SmallVec<[Option<i64>; 8]> = end_offsets.collect();
    offsets.sort_unstable_by(|a, b| b.cmp(a));
    offsets.get(offsets.len() / 2).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::vec;
    use wire::Uuid;
    use wire::drive::Endpoint;

    fn key(id: i32) -> ReplicaKey {
        ReplicaKey::new(id, Uuid([id as u8; 16]))
    }

    fn at(ms: u64) -> Now {
        Now { mono: Instant::default().plus_millis(ms), wall_ms: 1_000_000 + ms as i64 }
    }

    fn leader(voters: usize, epoch_start: i64) -> LeaderState {
        let nodes: Vec<_> = (1..=voters as i32).map(|id| (id, Endpoint::new("c", 9093))).collect();
        let voters = VoterSet::from_static(&Arc::from("CONTROLLER"), &nodes);
        LeaderState::new(key(1), 5, epoch_start, vec![1, 2], &voters, Nanos::from_secs(2), at(0).mono)
    }

    #[test]
    fn the_majority_has_the_middle_offset() {
        let cases: &[(&[Option<i64>], Option<i64>)] = &[
            (&[Some(7)], Some(7)),
            (&[Some(7), None], None),
            (&[Some(7), Some(5)], Some(5)),
            (&[Some(7), Some(5), None], Some(5)),
            (&[Some(7), None, None], None),
            (&[Some(7), Some(5), Some(9)], Some(7)),
            (&[Some(1), Some(2), Some(3), Some(4)], Some(2)),
            (&[Some(1), Some(2), Some(3), Some(4), Some(5)], Some(3)),
            (&[Some(9), Some(9), None, None, Some(4)], Some(4)),
            (&[], None),
        ];
        for (offsets, want) in cases {
            assert_eq!(majority_offset(offsets.iter().copied()), *want, "{offsets:?}");
        }
    }

    #[test]
    fn the_high_watermark_needs_a_record_of_its_own_epoch() {
        // Epoch 5 begins at 10: that followers have all records before it commits nothing.
        let mut leader = leader(3, 10);
        assert_eq!(leader.local_end_offset(11, None), None);
        assert_eq!(leader.fetched(key(2), 10, None, at(1)), None);
        assert_eq!(leader.fetched(key(3), 8, None, at(2)), None);
        assert_eq!(leader.fetched(key(2), 11, None, at(3)), Some(11));
        assert_eq!(leader.fetched(key(3), 11, Some(11), at(4)), None, "nothing new");
        assert_eq!(leader.local_end_offset(15, Some(11)), None);
        assert_eq!(leader.fetched(key(3), 13, Some(11), at(5)), Some(13));
        // A voter that came back with an empty disk does not take the high watermark back.
        assert_eq!(leader.fetched(key(3), 0, Some(13), at(6)), None);
        assert_eq!(leader.fetched(key(2), 15, Some(13), at(7)), Some(15));
    }

    #[test]
    fn observers_commit_nothing() {
        let mut leader = leader(3, 0);
        assert_eq!(leader.local_end_offset(5, None), None);
        assert_eq!(leader.fetched(key(7), 5, None, at(1)), None);
        assert_eq!(leader.observers(at(1).mono).map(|o| o.key.id).collect::<Vec<_>>(), [7]);
        assert_eq!(leader.observers(at(300_001).mono).count(), 0, "it is gone");
    }

    #[test]
    fn check_quorum_counts_the_leader() {
        let cases: &[(usize, &[i32], bool)] = &[
            (3, &[2], true),
            (3, &[9], false),
            (5, &[2], false),
            (5, &[2, 2], false),
            (5, &[2, 4], true),
            (4, &[2, 3], true),
        ];
        for (voters, heard, holds) in cases {
            let mut leader = leader(*voters, 0);
            assert_eq!(leader.check_quorum_deadline, Some(at(3_000).mono));
            heard.iter().for_each(|id| leader.heard_from(key(*id), at(500).mono));
            let want = if *holds { 3_500 } else { 3_000 };
            assert_eq!(leader.check_quorum_deadline, Some(at(want).mono), "{voters} voters, heard {heard:?}");
        }
        let mut alone = leader(1, 0);
        assert_eq!((alone.check_quorum_deadline, alone.begin_quorum_deadline), (None, None));
        assert_eq!(alone.local_end_offset(1, None), Some(1), "a quorum of one commits what it appends");
    }

    #[test]
    fn begin_quorum_epoch_goes_to_those_that_do_not_fetch() {
        let mut leader = leader(3, 0);
        assert_eq!(leader.begin_quorum_epoch_targets(at(0).mono), [2, 3]);
        assert_eq!(leader.begin_quorum_deadline, Some(at(1_000).mono));
        leader.fetched(key(2), 0, None, at(900));
        assert_eq!(leader.begin_quorum_epoch_targets(at(1_000).mono), [3]);
        assert_eq!(leader.begin_quorum_epoch_targets(at(2_000).mono), [2, 3]);
    }

    #[test]
    fn the_furthest_voter_shall_succeed() {
        let mut leader = leader(4, 0);
        leader.local_end_offset(9, None);
        leader.fetched(key(4), 9, None, at(1));
        leader.fetched(key(3), 7, None, at(1));
        let ids: Vec<_> = leader.preferred_successors().iter().map(|key| key.id).collect();
        assert_eq!(ids, [4, 3, 2]);
    }

    #[test]
    fn caught_up_means_having_what_the_leader_had_at_the_last_fetch() {
        let mut leader = leader(3, 0);
        leader.local_end_offset(10, None);
        leader.fetched(key(2), 4, None, at(100));
        assert_eq!(leader.voters()[1].last_caught_up_ms, -1);
        leader.local_end_offset(20, None);
        leader.fetched(key(2), 10, None, at(200));
        assert_eq!(leader.voters()[1].last_caught_up_ms, 1_000_100, "at the fetch before it was not behind");
        leader.fetched(key(2), 20, None, at(300));
        assert_eq!(
            (leader.voters()[1].last_caught_up_ms, leader.voters()[1].last_fetch_ms),
            (1_000_300, 1_000_300)
        );
    }
}

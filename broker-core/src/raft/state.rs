//! The state of one replica in the quorum, and its transitions (`QuorumState`, KIP-595, KIP-996).
//!
//! ```text
//! Unattached  → Prospective (election timeout) | Follower (learnt of the leader) | Unattached (higher epoch)
//! Prospective → Candidate (majority of pre-votes) | Follower, Unattached (lost, timeout)
//! Candidate   → Leader (majority of votes) | Prospective (timeout) | Unattached (higher epoch)
//! Leader      → Resigned (shutdown, lost quorum) | Unattached, Follower (higher epoch)
//! Follower    → Prospective (fetch timeout) | Unattached, Follower (higher epoch)
//! Resigned    → Unattached (next epoch after the election timeout) | Follower (higher epoch)
//! ```
//!
//! The only voter of a quorum stands for election at once when it starts, whatever it was.
//! Observers are only ever Unattached or Follower. The epoch never goes back; in one epoch a replica votes for one
//! replica only; a leader votes for nobody. What changes epoch, leader or vote marks the state dirty: it must be
//! durable before anything of it is told.

use alloc::boxed::Box;
use alloc::vec::Vec;
use rand_core::Rng as _;
use wire::drive::{Instant, Nanos};

use super::leader::LeaderState;
use super::quorum_state_file::ElectionState;
use super::snapshot::FetchingSnapshot;
use super::voters::{ReplicaKey, VoterHistory, VoterSet};
use crate::ctx::Rng;
use crate::event::RaftRole;
use crate::mutant::{Mutant, Mutants};

/// A point of the log: so many records, the last of them of this epoch. Later logs compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetAndEpoch {
    /// The epoch of the last record before `offset`.
    pub epoch: i32,
    /// The end offset.
    pub offset: i64,
}

impl OffsetAndEpoch {
    /// A point from its parts.
    pub fn new(offset: i64, epoch: i32) -> OffsetAndEpoch {
        OffsetAndEpoch { epoch, offset }
    }
}

/// The votes of one election or pre-vote.
#[derive(Clone, Debug)]
pub(super) struct EpochElection {
    votes: Vec<(i32, Option<bool>)>,
}

impl EpochElection {
    /// An election among `voters`, in which `local` votes for itself.
    pub(super) fn new(voters: &VoterSet, local: i32) -> EpochElection {
        let mut election = EpochElection { votes: voters.ids().map(|id| (id, None)).collect() };
        election.record(local, true);
        election
    }

    /// A voter's answer. Answers of others are passed over.
    pub(super) fn record(&mut self, id: i32, granted: bool) {
        if let Some((_, vote)) = self.votes.iter_mut().find(|(voter, _)| *voter == id) {
            *vote = Some(granted);
        }
    }

    /// Whether a majority granted.
    pub(super) fn is_granted(&self) -> bool {
        self.count(Some(true)) >= self.majority()
    }

    /// Whether a majority is out of reach.
    pub(super) fn is_rejected(&self) -> bool {
        self.count(Some(true)) + self.count(None) < self.majority()
    }

    /// Who has not answered.
    pub(super) fn unrecorded(&self) -> Vec<i32> {
        self.votes.iter().filter(|(_, vote)| vote.is_none()).map(|(id, _)| *id).collect()
    }

    /// Who granted, ascending.
    pub(super) fn granting(&self) -> Vec<i32> {
        self.votes.iter().filter(|(_, vote)| *vote == Some(true)).map(|(id, _)| *id).collect()
    }

    fn count(&self, wanted: Option<bool>) -> usize {
        self.votes.iter().filter(|(_, vote)| *vote == wanted).count()
    }

    fn majority(&self) -> usize {
        self.votes.len() / 2 + 1
    }
}

/// What a replica is in its epoch, with what belongs to that role alone.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Unattached {
        leader: Option<i32>,
        /// Observers never stand for election.
        election_deadline: Option<Instant>,
    },
    Prospective {
        leader: Option<i32>,
        election: EpochElection,
        deadline: Instant,
    },
    Candidate {
        election: EpochElection,
        deadline: Instant,
    },
    Leader(Box<LeaderState>),
    Follower {
        leader: i32,
        fetch_deadline: Instant,
        /// Whether the leader answered a fetch since this replica follows it: then its pre-votes go to nobody.
        has_fetched: bool,
        fetching_snapshot: Option<FetchingSnapshot>,
        /// When it next asks for a change of the voters, if it wants one.
        ask_at: Instant,
    },
    Resigned {
        /// Voters that have not acknowledged the resignation.
        unacknowledged: Vec<i32>,
        preferred_successors: Vec<ReplicaKey>,
        deadline: Instant,
    },
}

impl Role {
    pub(super) fn kind(&self) -> RaftRole {
        match self {
            Role::Unattached { .. } => RaftRole::Unattached,
            Role::Prospective { .. } => RaftRole::Prospective,
            Role::Candidate { .. } => RaftRole::Candidate,
            Role::Leader(_) => RaftRole::Leader,
            Role::Follower { .. } => RaftRole::Follower,
            Role::Resigned { .. } => RaftRole::Resigned,
        }
    }
}

/// The replica's state in the quorum.
#[derive(Clone, Debug)]
pub(super) struct QuorumState {
    pub(super) local: ReplicaKey,
    pub(super) voters: VoterHistory,
    epoch: i32,
    voted: Option<ReplicaKey>,
    pub(super) role: Role,
    /// Known in this epoch's role: a new leader has none until a record of its own epoch is on a majority.
    pub(super) high_watermark: Option<i64>,
    /// Whether epoch, leader or vote changed since they were last handed to the disk.
    pub(super) dirty: bool,
    /// Bugs that are switched on.
    pub(super) mutants: Mutants,
    election_timeout: Nanos,
    fetch_timeout: Nanos,
}

impl QuorumState {
    /// The state to begin with, from what the file says and what the log's last epoch is.
    ///
    /// A replica that led begins Resigned: it cannot vote or lead in that epoch again, so that no record of the
    /// epoch that it lost with unflushed data is written a second time with other content.
    pub(super) fn start(
        local: ReplicaKey,
        voters: VoterHistory,
        timeouts: (Nanos, Nanos),
        stored: Option<ElectionState>,
        log_epoch: i32,
        now: Instant,
        rng: &mut Rng,
    ) -> QuorumState {
        let (election_timeout, fetch_timeout) = timeouts;
        let stored =
            stored.unwrap_or(ElectionState { epoch: 0, leader: None, voted: None, voters: Vec::new() });
        let mut state = QuorumState {
            local,
            voters,
            epoch: stored.epoch.max(log_epoch),
            voted: None,
            role: Role::Unattached { leader: None, election_deadline: None },
            high_watermark: None,
            dirty: true,
            mutants: Mutants::NONE,
            election_timeout,
            fetch_timeout,
        };
        let election_deadline = now + state.random_election_timeout(rng);
        state.role = if stored.epoch < log_epoch {
            Role::Unattached { leader: None, election_deadline: state.unless_observer(election_deadline) }
        } else if stored.leader == Some(local.id) {
            Role::Resigned {
                unacknowledged: state.other_voters(),
                preferred_successors: Vec::new(),
                deadline: election_deadline,
            }
        } else if stored.voted.is_some_and(|voted| voted.matches(local)) && state.is_voter() {
            state.voted = stored.voted;
            let election = EpochElection::new(state.voters.last(), local.id);
            Role::Candidate { election, deadline: election_deadline }
        } else if let Some(leader) = stored.leader.filter(|id| state.voters.last().node(*id).is_some()) {
            state.voted = stored.voted;
            state.new_follower(leader, now)
        } else {
            state.voted = stored.voted;
            let leader = stored.leader;
            Role::Unattached { leader, election_deadline: state.unless_observer(election_deadline) }
        };
        state
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The leader of the epoch, if known. A leader that resigned still is it.
    pub(super) fn leader(&self) -> Option<i32> {
        match &self.role {
            Role::Unattached { leader, .. } | Role::Prospective { leader, .. } => *leader,
            Role::Candidate { .. } => None,
            Role::Leader(_) | Role::Resigned { .. } => Some(self.local.id),
            Role::Follower { leader, .. } => Some(*leader),
        }
    }

    pub(super) fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    pub(super) fn is_voter(&self) -> bool {
        self.voters.last().is_voter(self.local)
    }

    pub(super) fn is_only_voter(&self) -> bool {
        self.voters.last().is_only_voter(self.local)
    }

    pub(super) fn has_remote_leader(&self) -> bool {
        self.leader().is_some_and(|leader| leader != self.local.id)
    }

    /// The other voters' ids.
    pub(super) fn other_voters(&self) -> Vec<i32> {
        self.voters.last().ids().filter(|id| *id != self.local.id).collect()
    }

    /// What the file is to hold.
    pub(super) fn election_state(&self) -> ElectionState {
        ElectionState {
            epoch: self.epoch,
            leader: self.leader(),
            voted: self.voted,
            voters: self.voters.last().ids().collect(),
        }
    }

    /// Whether this replica would vote for `candidate`, whose log is as long as ours or longer if `up_to_date`.
    pub(super) fn can_grant_vote(&self, candidate: ReplicaKey, up_to_date: bool, pre_vote: bool) -> bool {
        match &self.role {
            Role::Leader(_) => false,
            Role::Candidate { .. } | Role::Resigned { .. } => pre_vote && up_to_date,
            Role::Follower { has_fetched, .. } => pre_vote && !has_fetched && up_to_date,
            Role::Unattached { leader, .. } | Role::Prospective { leader, .. } => match self.voted {
                _ if pre_vote => up_to_date,
                Some(_) if self.mutants.has(Mutant::TwoVotes) => up_to_date,
                Some(voted) => voted.matches(candidate),
                None => leader.is_none() && up_to_date,
            },
        }
    }

    /// Votes for `candidate` in this epoch. Waits a whole election timeout, since the candidate may well win.
    pub(super) fn grant_vote(&mut self, candidate: ReplicaKey, now: Instant, rng: &mut Rng) {
        assert!(candidate.id != self.local.id, "a replica votes for itself only as a candidate");
        if self.voted.is_some() {
            return; // the same vote, asked for again
        }
        let timeout = self.random_election_timeout(rng);
        let observer = !self.is_voter();
        match &mut self.role {
            Role::Unattached { election_deadline, .. } => {
                *election_deadline = (!observer).then_some(now + timeout);
            }
            Role::Prospective { deadline, election, .. } => {
                *deadline = now + timeout;
                *election = EpochElection::new(self.voters.last(), self.local.id);
            }
            role => panic!("{:?} grants a vote in epoch {}", role.kind(), self.epoch),
        }
        self.voted = Some(candidate);
        self.dirty = true;
    }

    /// A higher epoch whose leader is not known; or the same epoch, after a pre-vote that was lost.
    pub(super) fn transition_to_unattached(
        &mut self,
        epoch: i32,
        leader: Option<i32>,
        now: Instant,
        rng: &mut Rng,
    ) {
        let same = epoch == self.epoch;
        let prospective = matches!(self.role, Role::Prospective { .. });
        assert!(
            epoch > self.epoch || (same && (prospective || !self.is_voter())),
            "{:?} of epoch {} becomes Unattached in epoch {epoch}",
            self.role.kind(),
            self.epoch
        );
        assert!(
            same || leader.is_none_or(|leader| leader == self.local.id),
            "the leader of a new epoch is followed, unless it is this replica, which has forgotten that it led"
        );
        let fresh = now + self.random_election_timeout(rng);
        let election_deadline = match &self.role {
            _ if !self.is_voter() => None,
            Role::Candidate { deadline, .. } | Role::Resigned { deadline, .. } => Some(*deadline),
            Role::Unattached { election_deadline, .. } => Some(election_deadline.unwrap_or(fresh)),
            Role::Prospective { deadline, election, .. } if !election.is_rejected() => Some(*deadline),
            _ => Some(fresh),
        };
        self.enter_epoch(epoch);
        self.role = Role::Unattached { leader, election_deadline };
    }

    /// The leader of this or a higher epoch is known.
    pub(super) fn transition_to_follower(&mut self, epoch: i32, leader: i32, now: Instant) {
        assert!(leader != self.local.id, "a replica follows itself");
        assert!(epoch >= self.epoch, "epoch {epoch} is older than {}", self.epoch);
        if epoch == self.epoch {
            let other = self.leader().filter(|known| *known != leader);
            assert!(other.is_none(), "epoch {epoch} has two leaders, {leader} and {other:?}");
            assert!(
                !matches!(self.role, Role::Leader(_) | Role::Resigned { .. } | Role::Follower { .. }),
                "{:?} of epoch {epoch} becomes a follower in it",
                self.role.kind()
            );
        }
        self.enter_epoch(epoch);
        self.role = self.new_follower(leader, now);
    }

    /// A timeout: asks whether it would win. Nothing durable changes.
    pub(super) fn transition_to_prospective(&mut self, now: Instant, rng: &mut Rng) {
        assert!(self.is_voter(), "an observer stands for election");
        let alone = self.is_only_voter();
        assert!(
            !matches!(self.role, Role::Leader(_) | Role::Prospective { .. })
                && (alone || !matches!(self.role, Role::Resigned { .. })),
            "{:?} becomes Prospective",
            self.role.kind()
        );
        let leader = self.leader();
        let deadline = now + self.random_election_timeout(rng);
        let election = EpochElection::new(self.voters.last(), self.local.id);
        self.role = Role::Prospective { leader, election, deadline };
    }

    /// A majority would vote for this replica: asks for votes in the next epoch.
    pub(super) fn transition_to_candidate(&mut self, now: Instant, rng: &mut Rng) {
        assert!(self.is_voter(), "an observer stands for election");
        assert!(
            matches!(self.role, Role::Prospective { .. }),
            "only a Prospective becomes a candidate, not {:?}",
            self.role.kind()
        );
        let deadline = now + self.random_election_timeout(rng);
        self.enter_epoch(self.epoch + 1);
        self.voted = Some(self.local);
        let election = EpochElection::new(self.voters.last(), self.local.id);
        self.role = Role::Candidate { election, deadline };
    }

    /// The election is won. The high watermark is unknown until a record of this epoch is on a majority: only
    /// then is this log known to hold all that former leaders committed.
    pub(super) fn transition_to_leader(&mut self, epoch_start_offset: i64, now: Instant) {
        let Role::Candidate { election, .. } = &self.role else {
            panic!("{:?} becomes leader of epoch {}", self.role.kind(), self.epoch);
        };
        assert!(election.is_granted(), "leads epoch {} without a majority", self.epoch);
        let mut state = LeaderState::new(
            self.local,
            self.epoch,
            epoch_start_offset,
            election.granting(),
            self.voters.last(),
            self.fetch_timeout,
            now,
        );
        state.mutants = self.mutants;
        self.voted = None;
        self.high_watermark = None;
        self.dirty = true;
        self.role = Role::Leader(Box::new(state));
    }

    /// The leader gives up. The file says already that it led.
    pub(super) fn transition_to_resigned(
        &mut self,
        preferred_successors: Vec<ReplicaKey>,
        now: Instant,
        rng: &mut Rng,
    ) {
        assert!(self.is_leader(), "{:?} resigns", self.role.kind());
        self.role = Role::Resigned {
            unacknowledged: self.other_voters(),
            preferred_successors,
            deadline: now + self.random_election_timeout(rng),
        };
        self.high_watermark = None;
    }

    fn enter_epoch(&mut self, epoch: i32) {
        assert!(epoch >= self.epoch, "the epoch goes back from {} to {epoch}", self.epoch);
        if epoch > self.epoch {
            self.epoch = epoch;
            self.voted = None;
        }
        self.dirty = true;
    }

    fn new_follower(&self, leader: i32, now: Instant) -> Role {
        Role::Follower {
            leader,
            fetch_deadline: now + self.fetch_timeout,
            has_fetched: false,
            fetching_snapshot: None,
            ask_at: now + self.fetch_timeout,
        }
    }

    fn unless_observer(&self, deadline: Instant) -> Option<Instant> {
        self.is_voter().then_some(deadline)
    }

    /// From one to two election timeouts, in whole milliseconds.
    fn random_election_timeout(&self, rng: &mut Rng) -> Nanos {
        let base = self.election_timeout.as_millis();
        if base == 0 {
            return Nanos::ZERO;
        }
        Nanos::from_millis(base + rng.next_u64() % base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use rand_core::SeedableRng;
    use wire::Uuid;
    use wire::drive::Endpoint;

    const T: (Nanos, Nanos) = (Nanos::from_millis(1_000), Nanos::from_millis(2_000));

    fn key(id: i32) -> ReplicaKey {
        ReplicaKey::new(id, Uuid([id as u8; 16]))
    }

    fn history(count: i32) -> VoterHistory {
        let nodes: Vec<_> = (1..=count).map(|id| (id, Endpoint::new("c", 9093))).collect();
        VoterHistory::new(VoterSet::from_static(&Arc::from("CONTROLLER"), &nodes))
    }

    fn start(id: i32, stored: Option<ElectionState>, log_epoch: i32) -> QuorumState {
        let mut rng = Rng::seed_from_u64(1);
        QuorumState::start(key(id), history(3), T, stored, log_epoch, Instant::default(), &mut rng)
    }

    fn stored(epoch: i32, leader: Option<i32>, voted: Option<i32>) -> Option<ElectionState> {
        Some(ElectionState { epoch, leader, voted: voted.map(key), voters: Vec::new() })
    }

    #[test]
    fn what_the_file_says_decides_how_it_starts() {
        let cases = [
            // node, stored, epoch of the log, role, epoch, leader, voted
            (1, None, 0, RaftRole::Unattached, 0, None, None),
            (1, stored(4, None, None), 3, RaftRole::Unattached, 4, None, None),
            (1, stored(4, None, Some(2)), 3, RaftRole::Unattached, 4, None, Some(2)),
            (1, stored(4, None, Some(1)), 3, RaftRole::Candidate, 4, None, Some(1)),
            (1, stored(4, Some(1), None), 4, RaftRole::Resigned, 4, Some(1), None),
            (1, stored(4, Some(2), Some(2)), 4, RaftRole::Follower, 4, Some(2), Some(2)),
            // The file is older than the log: it says nothing of the log's epoch.
            (1, stored(4, Some(1), None), 5, RaftRole::Unattached, 5, None, None),
            // A leader that nobody knows any more.
            (1, stored(4, Some(9), None), 4, RaftRole::Unattached, 4, Some(9), None),
            (11, stored(4, Some(2), None), 4, RaftRole::Follower, 4, Some(2), None),
        ];
        for (id, stored, log_epoch, role, epoch, leader, voted) in cases {
            let state = start(id, stored.clone(), log_epoch);
            let voted_id = state.election_state().voted.map(|key| key.id);
            let got = (state.role.kind(), state.epoch(), state.leader(), voted_id);
            assert_eq!(got, (role, epoch, leader, voted), "{id} {stored:?} {log_epoch}");
            assert!(state.dirty, "what was found is made durable");
        }
    }

    #[test]
    fn votes_are_granted_by_kafkas_rules() {
        // For each state: pre-vote up to date, pre-vote behind, vote up to date, vote behind; asked by replica 2.
        let leader = || {
            let mut state = start(1, stored(4, None, Some(1)), 0);
            if let Role::Candidate { election, .. } = &mut state.role {
                election.record(3, true);
            }
            state.transition_to_leader(0, Instant::default());
            state
        };
        let followed = || {
            let mut state = start(1, stored(4, Some(3), None), 4);
            if let Role::Follower { has_fetched, .. } = &mut state.role {
                *has_fetched = true;
            }
            state
        };
        let prospective = |stored| {
            let mut state = start(1, stored, 0);
            state.transition_to_prospective(Instant::default(), &mut Rng::seed_from_u64(2));
            state
        };
        let (t, f) = (true, false);
        let cases = [
            ("leader", leader(), [f, f, f, f]),
            ("candidate", start(1, stored(4, None, Some(1)), 0), [t, f, f, f]),
            ("resigned", start(1, stored(4, Some(1), None), 0), [t, f, f, f]),
            ("follower that has not fetched", start(1, stored(4, Some(3), None), 4), [t, f, f, f]),
            ("follower that has fetched", followed(), [f, f, f, f]),
            ("unattached", start(1, stored(4, None, None), 0), [t, f, t, f]),
            ("unattached, voted for 2", start(1, stored(4, None, Some(2)), 0), [t, f, t, t]),
            ("unattached, voted for 3", start(1, stored(4, None, Some(3)), 0), [t, f, f, f]),
            ("unattached, knows a leader", start(1, stored(4, Some(9), None), 4), [t, f, f, f]),
            ("prospective", prospective(stored(4, None, None)), [t, f, t, f]),
            ("prospective, voted for 3", prospective(stored(4, None, Some(3))), [t, f, f, f]),
            ("prospective, knows a leader", prospective(stored(4, Some(3), None)), [t, f, f, f]),
        ];
        for (name, state, want) in cases {
            let ask = |up_to_date, pre_vote| state.can_grant_vote(key(2), up_to_date, pre_vote);
            let got = [ask(true, true), ask(false, true), ask(true, false), ask(false, false)];
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn a_vote_stays_with_its_epoch() {
        let (now, mut rng) = (Instant::default(), Rng::seed_from_u64(3));
        let mut state = start(1, stored(4, None, None), 0);
        state.grant_vote(key(2), now, &mut rng);
        state.transition_to_prospective(now, &mut rng);
        assert_eq!(state.election_state().voted, Some(key(2)), "a timeout does not free it");
        assert!(!state.can_grant_vote(key(3), true, false) && state.can_grant_vote(key(2), false, false));
        state.transition_to_follower(4, 3, now);
        assert_eq!(state.election_state().voted, Some(key(2)), "nor does the leader whom others elected");
        state.transition_to_unattached(5, None, now, &mut rng);
        assert_eq!(state.election_state().voted, None);
        assert!(state.can_grant_vote(key(3), true, false));
    }

    #[test]
    fn an_election_is_won_or_lost_by_majority() {
        for (count, grants, rejects, won, lost) in [
            (1, 0, 0, true, false),
            (3, 0, 1, false, false),
            (3, 1, 0, true, false),
            (3, 0, 2, false, true),
            (4, 1, 1, false, false),
            (4, 2, 1, true, false),
            (4, 1, 2, false, true),
            (5, 2, 2, true, false),
        ] {
            let mut election = EpochElection::new(history(count).last(), 1);
            (2..2 + grants).for_each(|id| election.record(id, true));
            (2 + grants..2 + grants + rejects).for_each(|id| election.record(id, false));
            election.record(99, true);
            assert_eq!(
                (election.is_granted(), election.is_rejected()),
                (won, lost),
                "{count} {grants} {rejects}"
            );
            assert_eq!(election.unrecorded().len() as i32, count - 1 - grants - rejects);
        }
    }
}

//! Elections: votes and pre-votes, how leaders begin and end their epochs, and what answers teach of the epoch
//! (KIP-595, KIP-996).

use alloc::format;
use alloc::string::ToString;
use wire::batch::control_batch;
use wire::error::ErrorCode;
use wire::records::MetadataRecord;

use super::log::MAX_BATCH_BYTES;
use super::records::{kraft_version, leader_change, voters_record};
use super::rpc::{BeginQuorumEpoch, EndQuorumEpoch, Request, Response, Standing, Vote};
use super::state::Role;
use super::{Api, AppendError, AppendedAt, Io, METADATA_VERSION, Raft, RaftCall};
use crate::event::Event;
use crate::mutant::Mutant;

/// What the part that all answers share made of one.
enum Common {
    /// Nothing: it is for the API's own handler.
    Pass,
    /// All that there is to it; whether the peer was of use.
    Done(bool),
}

/// What peers ask.
impl Raft {
    pub(super) fn answer_vote(&mut self, io: &mut Io<'_>, vote: &Vote) -> Response {
        // A candidate has never seen a leader in its new epoch, so it can have no record of it; a pre-vote is asked
        // for in the epoch in which the replica is.
        let last_epoch_possible =
            if vote.pre_vote { vote.last.epoch <= vote.epoch } else { vote.last.epoch < vote.epoch };
        if vote.last.offset < 0 || vote.last.epoch < 0 || !last_epoch_possible {
            return Response::Vote(self.standing(ErrorCode::INVALID_REQUEST), false);
        }
        if let Some(error) = self.refuse_voter(vote.replica.id, vote.epoch) {
            return Response::Vote(self.standing(error), false);
        }
        if vote.epoch > self.quorum.epoch() {
            self.become_unattached(io, vote.epoch, None);
        }
        if vote.voter.is_some_and(|voter| !voter.matches(self.quorum.local)) {
            return Response::Vote(self.standing(ErrorCode::INVALID_VOTER_KEY), false);
        }
        let up_to_date = vote.last >= self.log.end() || self.config.mutants.has(Mutant::VoteForShorterLog);
        let granted = self.quorum.can_grant_vote(vote.replica, up_to_date, vote.pre_vote);
        if granted && !vote.pre_vote {
            self.quorum.grant_vote(vote.replica, io.now.mono, io.rng);
        }
        if granted {
            let (epoch, candidate, pre_vote) = (vote.epoch, vote.replica.id, vote.pre_vote);
            io.out.event(|| Event::VoteGranted { epoch, candidate, pre_vote });
        }
        Response::Vote(self.standing(ErrorCode::NONE), granted)
    }

    pub(super) fn answer_begin_quorum_epoch(
        &mut self,
        io: &mut Io<'_>,
        begin: &BeginQuorumEpoch,
    ) -> Response {
        if let Some(error) = self.refuse_voter(begin.leader, begin.epoch) {
            return Response::BeginQuorumEpoch(self.standing(error));
        }
        self.learn_leader(io, Some(begin.leader), begin.epoch);
        let mine = begin.voter.is_none_or(|voter| voter.matches(self.quorum.local));
        let error = if mine { ErrorCode::NONE } else { ErrorCode::INVALID_VOTER_KEY };
        Response::BeginQuorumEpoch(self.standing(error))
    }

    pub(super) fn answer_end_quorum_epoch(&mut self, io: &mut Io<'_>, end: &EndQuorumEpoch) -> Response {
        if let Some(error) = self.refuse_voter(end.leader, end.epoch) {
            return Response::EndQuorumEpoch(self.standing(error));
        }
        self.learn_leader(io, Some(end.leader), end.epoch);
        let local = self.quorum.local;
        let backoff_max = self.config.election_backoff_max.as_millis();
        if let Role::Follower { leader, fetch_deadline, .. } = &mut self.quorum.role
            && *leader == end.leader
        {
            let candidates = &end.preferred_candidates;
            let position = candidates.iter().position(|key| key.matches(local)).unwrap_or(candidates.len());
            let backoff = end_epoch_backoff_ms(position, candidates.len(), backoff_max);
            *fetch_deadline = io.now.mono.plus_millis(backoff);
        }
        Response::EndQuorumEpoch(self.standing(ErrorCode::NONE))
    }

    /// Why a request that only voters send is refused.
    fn refuse_voter(&self, id: i32, epoch: i32) -> Option<ErrorCode> {
        if epoch < self.quorum.epoch() {
            Some(ErrorCode::FENCED_LEADER_EPOCH)
        } else if id < 0 || id == self.config.node_id {
            Some(ErrorCode::INVALID_REQUEST)
        } else {
            None
        }
    }

    /// What every answer says of this replica.
    pub(super) fn standing(&self, error: ErrorCode) -> Standing {
        Standing { error, leader: self.quorum.leader(), epoch: self.quorum.epoch() }
    }
}

/// What peers answered.
impl Raft {
    pub(super) fn vote_answered(
        &mut self,
        io: &mut Io<'_>,
        peer: i32,
        standing: Standing,
        granted: bool,
    ) -> bool {
        if let Common::Done(useful) = self.learn(io, standing) {
            return useful;
        }
        let (Role::Prospective { election, .. } | Role::Candidate { election, .. }) = &mut self.quorum.role
        else {
            return true; // elected already, or overtaken
        };
        election.record(peer, granted);
        let (won, lost) = (election.is_granted(), election.is_rejected());
        match &self.quorum.role {
            Role::Prospective { .. } if won => self.become_candidate(io),
            Role::Prospective { .. } if lost => self.lose_pre_vote(io),
            Role::Candidate { .. } if won => self.become_leader(io),
            _ => {} // a candidate that lost waits out its election timeout
        }
        true
    }

    pub(super) fn begin_quorum_epoch_answered(&mut self, io: &mut Io<'_>, standing: Standing) -> bool {
        match self.learn(io, standing) {
            Common::Done(useful) => useful,
            Common::Pass => true,
        }
    }

    pub(super) fn end_quorum_epoch_answered(
        &mut self,
        io: &mut Io<'_>,
        peer: i32,
        standing: Standing,
    ) -> bool {
        if let Common::Done(useful) = self.learn(io, standing) {
            return useful;
        }
        if let Role::Resigned { unacknowledged, .. } = &mut self.quorum.role {
            unacknowledged.retain(|id| *id != peer);
        }
        true
    }

    /// The request as a whole was refused.
    pub(super) fn refused(&mut self, io: &mut Io<'_>, call: RaftCall, error: ErrorCode) -> bool {
        let voting = call.api == Api::Vote;
        if voting
            && error == ErrorCode::UNSUPPORTED_VERSION
            && matches!(self.quorum.role, Role::Prospective { .. })
        {
            // At least one voter does not know pre-votes: it can only be asked for its vote.
            self.become_candidate(io);
            return true;
        }
        let peer = call.peer;
        self.warn(io, || format!("{} in the answer of replica {peer} to {:?}", error.name(), call.api));
        false
    }

    /// What every answer teaches: a higher epoch, a leader, or that this replica asked in vain.
    ///
    /// Where nothing was learnt Kafka asks the same peer again at once; here it pauses as after an error, so that a
    /// quorum without leader does not ask as fast as the network carries it.
    fn learn(&mut self, io: &mut Io<'_>, standing: Standing) -> Common {
        let Standing { error, leader, epoch } = standing;
        let mine = self.quorum.epoch();
        if epoch < mine || error == ErrorCode::UNKNOWN_LEADER_EPOCH {
            return Common::Done(false);
        }
        let stale = matches!(error, ErrorCode::FENCED_LEADER_EPOCH | ErrorCode::NOT_LEADER_OR_FOLLOWER);
        if epoch > mine || stale {
            return Common::Done(self.learn_leader(io, leader, epoch));
        }
        if leader.is_some() && self.quorum.leader().is_none() {
            // The answer is for the handler still: an observer may find the leader and append in one go.
            let learnt = self.learn_leader(io, leader, epoch);
            return if learnt && error == ErrorCode::NONE { Common::Pass } else { Common::Done(learnt) };
        }
        match error {
            ErrorCode::NONE | ErrorCode::SNAPSHOT_NOT_FOUND | ErrorCode::POSITION_OUT_OF_RANGE => {
                Common::Pass
            }
            _ => {
                self.warn(io, || format!("{} in an answer of epoch {epoch}", error.name()));
                Common::Done(false)
            }
        }
    }

    /// Somebody says that `leader` leads `epoch`, which is not below this replica's. Whether that was news.
    fn learn_leader(&mut self, io: &mut Io<'_>, leader: Option<i32>, epoch: i32) -> bool {
        let mine = self.quorum.epoch();
        assert!(epoch >= mine, "an older epoch {epoch} teaches nothing in {mine}");
        let known = self.quorum.leader();
        if epoch == mine && leader.is_some() && known.is_some() && leader != known {
            self.fail(format!(
                "Received request or response with leader {leader:?} and epoch {epoch} which is inconsistent with \
                 current leader {known:?} and epoch {mine}"
            ));
            return false;
        }
        if leader == Some(self.config.node_id) {
            // This replica led that epoch and lost its disk since. It must not vote in it a second time.
            if epoch > mine {
                self.become_unattached(io, epoch, leader);
            }
            return epoch > mine;
        }
        // A leader that this replica knew, and has no longer followed since it was silent, it follows again.
        let given_up = matches!(self.quorum.role, Role::Unattached { .. });
        let leader = leader.filter(|id| self.endpoint_of(*id).is_some());
        match leader {
            Some(leader) if epoch > mine || known.is_none() || given_up => {
                self.become_follower(io, epoch, leader);
            }
            None if epoch > mine => self.become_unattached(io, epoch, None),
            _ => return false,
        }
        true
    }

    /// A Fetch was answered by the leader that an observer knew and had given up.
    pub(super) fn learn_fetched(&mut self, io: &mut Io<'_>, standing: Standing) -> Option<bool> {
        let same = standing.epoch == self.quorum.epoch() && standing.error == ErrorCode::NONE;
        if let (Role::Unattached { leader: Some(known), .. }, Some(leader)) =
            (&self.quorum.role, standing.leader)
            && same
            && *known == leader
            && leader != self.config.node_id
            && self.endpoint_of(leader).is_some()
        {
            self.become_follower(io, standing.epoch, leader);
        }
        match self.learn(io, standing) {
            Common::Done(useful) => Some(useful),
            Common::Pass => None,
        }
    }
}

/// What the state asks for as time passes.
impl Raft {
    pub(super) fn poll_unattached(&mut self, io: &mut Io<'_>) -> bool {
        let Role::Unattached { election_deadline, .. } = &self.quorum.role else { return false };
        if self.shutdown.is_some() {
            return false;
        }
        if election_deadline.is_some_and(|at| io.now.mono >= at) {
            self.become_prospective(io);
            return true;
        }
        self.fetch_from_anybody(io);
        false
    }

    pub(super) fn poll_prospective(&mut self, io: &mut Io<'_>) -> bool {
        let Role::Prospective { deadline, election, .. } = &self.quorum.role else { return false };
        if election.is_granted() {
            self.become_candidate(io); // the only voter
            return true;
        }
        if self.shutdown.is_none() && io.now.mono >= *deadline {
            self.lose_pre_vote(io);
            return true;
        }
        self.ask_for_votes(io, true);
        false
    }

    pub(super) fn poll_candidate(&mut self, io: &mut Io<'_>) -> bool {
        let Role::Candidate { deadline, election } = &self.quorum.role else { return false };
        if election.is_granted() {
            self.become_leader(io); // the only voter, or one that starts with its own vote
            return true;
        }
        if self.shutdown.is_none() && io.now.mono >= *deadline {
            self.become_prospective(io);
            return true;
        }
        self.ask_for_votes(io, false);
        false
    }

    pub(super) fn poll_leader(&mut self, io: &mut Io<'_>) -> bool {
        let Role::Leader(leader) = &mut self.quorum.role else { return false };
        if self.shutdown.is_some() {
            self.become_resigned(io, "shutdown");
            return true;
        }
        if leader.is_removed {
            self.become_resigned(io, "the leader is not in the committed voter set");
            return true;
        }
        if leader.check_quorum_deadline.is_some_and(|at| io.now.mono >= at) {
            self.become_resigned(io, "did not receive fetch request from the majority of the voters");
            return true;
        }
        if !leader.epoch_started && !self.start_epoch(io) {
            return false;
        }
        self.expire_change(io.now.mono);
        let Role::Leader(leader) = &mut self.quorum.role else { return false };
        if leader.accumulator.drain_at().is_some_and(|at| io.now.mono >= at) {
            self.drain_accumulator(io);
        }
        self.begin_quorum_epoch(io);
        false
    }

    pub(super) fn poll_resigned(&mut self, io: &mut Io<'_>) -> bool {
        let Role::Resigned { unacknowledged, preferred_successors, deadline } = &self.quorum.role else {
            return false;
        };
        if self.shutdown.is_none() && io.now.mono >= *deadline {
            let epoch = self.quorum.epoch() + 1;
            self.become_unattached(io, epoch, None);
            return true;
        }
        let end = EndQuorumEpoch {
            leader: self.config.node_id,
            epoch: self.quorum.epoch(),
            preferred_candidates: preferred_successors.clone(),
        };
        for peer in unacknowledged.clone() {
            self.send(io, peer, Request::EndQuorumEpoch(end.clone()));
        }
        false
    }

    fn ask_for_votes(&mut self, io: &mut Io<'_>, pre_vote: bool) {
        let (Role::Prospective { election, .. } | Role::Candidate { election, .. }) = &self.quorum.role
        else {
            return;
        };
        if election.is_rejected() {
            return;
        }
        let last = self.log.end();
        for peer in election.unrecorded() {
            let vote = Vote {
                voter: self.quorum.voters.last().node(peer).map(|node| node.key),
                replica: self.quorum.local,
                epoch: self.quorum.epoch(),
                last,
                pre_vote,
            };
            self.send(io, peer, Request::Vote(vote));
        }
    }

    fn begin_quorum_epoch(&mut self, io: &mut Io<'_>) {
        let Role::Leader(leader) = &mut self.quorum.role else { return };
        if leader.begin_quorum_deadline.is_none_or(|at| io.now.mono < at) {
            return;
        }
        for peer in leader.begin_quorum_epoch_targets(io.now.mono) {
            let begin = BeginQuorumEpoch {
                voter: self.quorum.voters.last().node(peer).map(|node| node.key),
                leader: self.config.node_id,
                epoch: self.quorum.epoch(),
            };
            self.send(io, peer, Request::BeginQuorumEpoch(begin));
        }
    }
}

/// Transitions, with what goes with them.
impl Raft {
    fn become_prospective(&mut self, io: &mut Io<'_>) {
        self.quorum.transition_to_prospective(io.now.mono, io.rng);
        self.transitioned(io);
        if self.config.mutants.has(Mutant::PreVoteLeftOut) {
            self.become_candidate(io);
        }
    }

    fn become_candidate(&mut self, io: &mut Io<'_>) {
        self.quorum.transition_to_candidate(io.now.mono, io.rng);
        self.transitioned(io);
    }

    fn become_leader(&mut self, io: &mut Io<'_>) {
        let start_offset = self.log.end_offset();
        self.quorum.transition_to_leader(start_offset, io.now.mono);
        if let Role::Leader(leader) = &self.quorum.role {
            let (epoch, granting) = (self.quorum.epoch(), leader.granting.clone());
            io.out.event(|| Event::ElectionWon { epoch, granting, start_offset });
        }
        self.transitioned(io);
    }

    fn become_unattached(&mut self, io: &mut Io<'_>, epoch: i32, leader: Option<i32>) {
        self.quorum.transition_to_unattached(epoch, leader, io.now.mono, io.rng);
        self.transitioned(io);
    }

    fn become_follower(&mut self, io: &mut Io<'_>, epoch: i32, leader: i32) {
        self.quorum.transition_to_follower(epoch, leader, io.now.mono);
        self.transitioned(io);
    }

    pub(super) fn become_resigned(&mut self, io: &mut Io<'_>, why: &str) {
        let Role::Leader(leader) = &self.quorum.role else { panic!("{:?} resigns", self.quorum.role.kind()) };
        let successors = leader.preferred_successors();
        self.quorum.transition_to_resigned(successors, io.now.mono, io.rng);
        let epoch = self.quorum.epoch();
        io.out.event(|| Event::LeaderResigned { epoch, why: why.to_string() });
        self.transitioned(io);
    }

    /// An observer's leader is silent: it looks for another, and follows this one again if it is still the leader.
    pub(super) fn give_leader_up(&mut self, io: &mut Io<'_>) {
        if self.quorum.is_voter() {
            self.become_prospective(io);
        } else {
            let (epoch, leader) = (self.quorum.epoch(), self.quorum.leader());
            self.become_unattached(io, epoch, leader);
        }
    }

    /// A pre-vote was lost: back to the leader, if there is one, or waits for another.
    fn lose_pre_vote(&mut self, io: &mut Io<'_>) {
        let (epoch, leader) = (self.quorum.epoch(), self.quorum.leader());
        match leader.filter(|id| *id != self.config.node_id && self.endpoint_of(*id).is_some()) {
            Some(leader) => self.become_follower(io, epoch, leader),
            None => self.become_unattached(io, epoch, leader),
        }
    }

    /// Whoever waits at a leader that is one no more is sent on; answers to what was asked before are not wanted.
    fn transitioned(&mut self, io: &mut Io<'_>) {
        if !self.quorum.is_leader() {
            self.end_change(ErrorCode::NOT_LEADER_OR_FOLLOWER, None);
            self.send_parked_away();
            self.uncommitted.clear();
        }
        self.requests.reset_all();
        self.fire_leader_change();
        let (role, epoch, leader) = (self.quorum.role.kind(), self.quorum.epoch(), self.quorum.leader());
        io.out.event(|| Event::RaftRoleChanged { role, epoch, leader });
    }
}

/// The leader's appends.
impl Raft {
    /// Gives the records their offsets; they go to the log when the linger time is over.
    pub(super) fn accumulate(
        &mut self,
        io: &Io<'_>,
        records: &[MetadataRecord],
    ) -> Result<AppendedAt, AppendError> {
        let linger = self.config.append_linger;
        let Role::Leader(leader) = &mut self.quorum.role else { return Err(AppendError::NotLeader) };
        if !leader.epoch_started || self.failed || self.shutdown.is_some() {
            return Err(AppendError::NotLeader);
        }
        let version = METADATA_VERSION;
        match leader.accumulator.append(records, version, linger, io.now, io.codecs) {
            Ok(base_offset) => {
                Ok(AppendedAt { base_offset, last_offset: base_offset + records.len() as i64 - 1 })
            }
            Err(too_large) => Err(AppendError::TooLarge { size: too_large.size, limit: MAX_BATCH_BYTES }),
        }
    }

    /// Appends the first batch of the epoch, once the epoch is durable in the log's own checkpoint too. Nothing is
    /// committed before it is: so it is written at once. Whether it was.
    fn start_epoch(&mut self, io: &mut Io<'_>) -> bool {
        let epoch = self.quorum.epoch();
        if self.log.inner().latest_epoch() != Some(epoch) {
            self.log.assign_epoch(io.disk, epoch);
        }
        if !self.log.epochs_durable() {
            return false;
        }
        let Role::Leader(leader) = &self.quorum.role else { panic!("only a leader starts an epoch") };
        let base_offset = leader.epoch_start_offset;
        let voters = self.quorum.voters.last();
        let mut control = alloc::vec![leader_change(self.config.node_id, voters, &leader.granting)];
        // Voters that stand in a bootstrap snapshot only have to be in the log: snapshots of it are not replicated.
        // So does what the leader says of itself.
        let outdated = self.quorum.voters.last_offset() == Some(-1) || self.is_known_otherwise();
        if self.quorum.voters.kraft_version() >= 1 && outdated {
            control.push(kraft_version(self.quorum.voters.kraft_version()));
            control.push(voters_record(&voters.with(self.local_node())));
        }
        let batch = control_batch(io.codecs, base_offset, epoch, io.now.wall_ms, &control);
        let batch = batch.expect("an uncompressed batch below the limit");
        for (i, record) in control.iter().enumerate() {
            self.quorum.voters.learn(base_offset + i as i64, record);
        }
        if let Role::Leader(leader) = &mut self.quorum.role {
            leader.epoch_started = true;
            leader.set_voters(self.quorum.voters.last(), io.now.mono);
            leader.accumulator.control_appended(base_offset + control.len() as i64);
        }
        self.append_to_log(io, base_offset, &batch.into());
        self.tell_of_voters(io);
        self.leader_log_grew(io);
        true
    }

    pub(super) fn drain_accumulator(&mut self, io: &mut Io<'_>) {
        let Role::Leader(leader) = &mut self.quorum.role else { panic!("only a leader appends") };
        for batch in leader.accumulator.drain(io.codecs) {
            let (base_offset, bytes) = (batch.base_offset, batch.bytes.clone());
            self.uncommitted.push_back(batch);
            self.append_to_log(io, base_offset, &bytes.into());
        }
        self.leader_log_grew(io);
    }

    pub(super) fn append_to_log(&mut self, io: &mut Io<'_>, base_offset: i64, batch: &wire::Rope) {
        let epoch = self.quorum.epoch();
        match self.log.append_as_leader(io.now, io.disk, io.codecs, batch, epoch) {
            Ok(info) => {
                assert!(
                    info.base_offset == base_offset,
                    "appended at {}, not {base_offset}",
                    info.base_offset
                );
                super::fetch::tell_of_append(io, batch, base_offset);
            }
            Err(error) => self.fail(format!("the metadata log: {error}")),
        }
    }

    /// Counts the leader's own log end, then flushes: parked fetches need not wait for its disk.
    pub(super) fn leader_log_grew(&mut self, io: &mut Io<'_>) {
        let (end, high_watermark) = (self.log.end_offset(), self.quorum.high_watermark);
        let Role::Leader(leader) = &mut self.quorum.role else { panic!("only a leader appends") };
        if let Some(high_watermark) = leader.local_end_offset(end, high_watermark) {
            self.advance_high_watermark(io, high_watermark);
        }
        self.log.flush(io.now, io.disk);
    }
}

/// How long a follower waits before it stands for election when its leader ends its epoch: the preferred one not at
/// all, each one after it twice as long as the one before.
fn end_epoch_backoff_ms(position: usize, candidates: usize, backoff_max_ms: u64) -> u64 {
    if position == 0 {
        return 0;
    }
    if position >= candidates {
        return backoff_max_ms;
    }
    let base = backoff_max_ms >> (candidates - 1).min(63);
    base.checked_shl(position as u32 - 1).unwrap_or(backoff_max_ms).min(backoff_max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_wait_their_turn() {
        let cases =
            [(0, 0, 0), (0, 3, 0), (1, 3, 250), (2, 3, 500), (3, 3, 1_000), (1, 2, 500), (70, 70, 1_000)];
        for (position, candidates, want) in cases {
            assert_eq!(end_epoch_backoff_ms(position, candidates, 1_000), want, "{position} of {candidates}");
        }
    }
}

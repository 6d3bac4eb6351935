//! Changes of a running quorum's voters, one at a time (KIP-853; `AddVoterHandler`, `RemoveVoterHandler`,
//! `UpdateVoterHandler`).
//!
//! A change is a `VotersRecord`, which takes effect at each replica when it is appended: so the majority that commits
//! it is one of the new voters. That is safe only if two sets that follow each other differ by one voter, since then
//! any majority of the one meets any majority of the other; and if the leader has committed a record of its own epoch
//! before, since then no change of a former leader can come back. The leader checks both before it appends.
//!
//! Whoever is to vote is asked for the levels of kraft.version that it supports, and must have caught up as an
//! observer, so that it does not hold the high watermark up. A leader that was removed leads until its removal is
//! committed, without counting itself, and then resigns; Kafka forgets to if the request had timed out before.
//!
//! A voter whose listeners are others than the log says tells the leader, and an observer of the controller role with
//! `controller.quorum.auto.join.enable` asks to vote, first for the removal of a voter of its id on a disk that is gone.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use wire::batch::control_batch;
use wire::drive::Instant;
use wire::error::ErrorCode;
use wire::messages as m;

use super::change_rpc::{self, AddVoter, Listeners, RemoveVoter, UpdateVoter, Versions};
use super::records::voters_record;
use super::rpc::{Request, Response, Standing};
use super::state::Role;
use super::voters::{ReplicaKey, VoterNode, VoterSet};
use super::{Effect, Io, Raft, RaftCall};
use crate::ctx::Ctx;
use crate::event::Event;
use crate::net::RequestToken;

/// The levels of kraft.version that this release supports.
pub(super) const SUPPORTED_KRAFT_VERSIONS: (i16, i16) = (0, 1);

/// An observer that fetched within this time may become a voter.
const CAUGHT_UP_WITHIN_MS: i64 = 3_600_000;

/// A change that the leader has taken on.
#[derive(Clone, Debug)]
pub(super) struct VoterChange {
    kind: Kind,
    /// Who asked; absent once it was answered.
    token: Option<RequestToken>,
    pub(super) deadline: Instant,
    /// Where its record stands; absent while the new voter is being asked.
    offset: Option<i64>,
}

#[derive(Clone, Debug)]
enum Kind {
    Add { voter: ReplicaKey, listeners: Listeners, ack_when_committed: bool },
    Remove,
}

impl VoterChange {
    /// Where a node listens that is about to become a voter.
    pub(super) fn listeners_of(&self, id: i32) -> Option<&Listeners> {
        match &self.kind {
            Kind::Add { voter, listeners, .. } if voter.id == id => Some(listeners),
            _ => None,
        }
    }
}

/// An error with its text; without one it is the error's own.
type Refusal = (ErrorCode, Option<String>);

fn refused(error: ErrorCode, text: impl Into<String>) -> Refusal {
    (error, Some(text.into()))
}

/// What is asked of the quorum.
impl Raft {
    /// AddRaftVoter (80).
    pub fn handle_add_voter(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        request: &m::AddRaftVoterRequest<'_>,
    ) {
        self.handle_request(ctx, token, Ok(change_rpc::read_add_voter(request)));
    }

    /// RemoveRaftVoter (81).
    pub fn handle_remove_voter(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        request: &m::RemoveRaftVoterRequest<'_>,
    ) {
        self.handle_request(ctx, token, Ok(change_rpc::read_remove_voter(request)));
    }

    /// UpdateRaftVoter (82).
    pub fn handle_update_voter(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        request: &m::UpdateRaftVoterRequest<'_>,
    ) {
        self.handle_request(ctx, token, Ok(change_rpc::read_update_voter(request)));
    }
}

/// The leader's side.
impl Raft {
    /// Asks the new voter what it supports; the answer comes later, unless something is in the way.
    pub(super) fn answer_add_voter(
        &mut self,
        io: &mut Io<'_>,
        token: RequestToken,
        add: AddVoter,
    ) -> Option<Response> {
        match self.begin_adding(io, token, add) {
            Ok(()) => None,
            Err((error, text)) => Some(Response::AddVoter(error, text)),
        }
    }

    fn begin_adding(&mut self, io: &mut Io<'_>, token: RequestToken, add: AddVoter) -> Result<(), Refusal> {
        self.check_cluster_and_leader(&add.cluster_id)?;
        self.expire_change(io.now.mono);
        let voter = add.voter.filter(|voter| !voter.directory_id.is_zero()).ok_or_else(|| {
            refused(ErrorCode::INVALID_REQUEST, "Add voter request didn't include a valid voter")
        })?;
        let wanted = &self.config.listener_name;
        if !add.listeners.iter().any(|(name, _)| name == wanted) {
            let text = format!(
                "Add voter request didn't include the endpoint ({}) for the default listener ListenerName({wanted})",
                endpoints_text(&add.listeners)
            );
            return Err(refused(ErrorCode::INVALID_REQUEST, text));
        }
        let voters = self.check_change("adding")?;
        if voters.node(voter.id).is_some() {
            let text = format!(
                "The voter id for {} is already part of the set of voters {}.",
                key_text(voter),
                keys_text(voters)
            );
            return Err(refused(ErrorCode::DUPLICATE_VOTER, text));
        }
        let kind = Kind::Add { voter, listeners: add.listeners, ack_when_committed: add.ack_when_committed };
        let deadline = io.now.mono + self.config.request_timeout;
        self.change = Some(VoterChange { kind, token: Some(token), deadline, offset: None });
        if !self.send(io, voter.id, Request::ApiVersions) {
            self.change = None;
            let text = format!("New voter {} is not ready to receive requests", key_text(voter));
            return Err(refused(ErrorCode::REQUEST_TIMED_OUT, text));
        }
        Ok(())
    }

    /// The new voter said what it supports.
    pub(super) fn versions_answered(&mut self, io: &mut Io<'_>, peer: i32, versions: Versions) -> bool {
        let expected = self.change.as_ref().filter(|change| change.offset.is_none());
        let Some(VoterChange { kind: Kind::Add { voter, listeners, ack_when_committed }, .. }) = expected
        else {
            return true;
        };
        let (voter, ack_when_committed) = (*voter, *ack_when_committed);
        if voter.id != peer {
            return true;
        }
        if versions.error.is_error() {
            self.abort_adding(versions.error);
            return false;
        }
        let level = self.quorum.voters.kraft_version();
        let kraft = versions.kraft.filter(|(min, max)| (*min..=*max).contains(&level));
        let Some(supported_kraft_versions) = kraft else {
            let range = versions.kraft.unwrap_or((0, 0));
            // Kafka leaves the bracket of a range that it was told open.
            let close = if versions.kraft.is_some() { "" } else { ")" };
            let text = format!(
                "Aborted add voter operation for {} since the kraft.version range (min: {}, max: {}{close} doesn't \
                 support the finalized version {level}",
                key_text(voter),
                range.0,
                range.1
            );
            self.end_change(ErrorCode::INVALID_REQUEST, Some(text));
            return true;
        };
        let Role::Leader(leader) = &self.quorum.role else { return true };
        if !leader.is_caught_up(voter, io.now.wall_ms - CAUGHT_UP_WITHIN_MS) {
            let text =
                format!("Aborted add voter operation for {} since it is lagging behind", key_text(voter));
            self.end_change(ErrorCode::REQUEST_TIMED_OUT, Some(text));
            return true;
        }
        let node = VoterNode { key: voter, listeners: listeners.clone(), supported_kraft_versions };
        let voters = self.quorum.voters.last().with(node);
        let offset = self.append_voters(io, &voters);
        if let Some(change) = &mut self.change {
            change.offset = Some(offset);
            if !ack_when_committed && let Some(token) = change.token.take() {
                self.outbox.push(Effect::Reply(token, Response::AddVoter(ErrorCode::NONE, None)));
            }
        }
        // In a quorum of one that grows nothing is committed by the append; in none it is committed twice.
        self.voters_committed();
        true
    }

    /// The new voter did not say what it supports: it cannot be reached.
    pub(super) fn versions_unanswered(&mut self, io: &Io<'_>, peer: i32) {
        let asked = |change: &VoterChange| change.offset.is_none() && change.listeners_of(peer).is_some();
        if self.change.as_ref().is_some_and(asked) && !self.expire_change(io.now.mono) {
            self.abort_adding(ErrorCode::BROKER_NOT_AVAILABLE);
        }
    }

    fn abort_adding(&mut self, error: ErrorCode) {
        let name = error.name();
        let text = format!("Aborted add voter operation for since API_VERSIONS returned an error {name}");
        self.end_change(ErrorCode::REQUEST_TIMED_OUT, Some(text));
    }

    pub(super) fn answer_remove_voter(
        &mut self,
        io: &mut Io<'_>,
        token: RequestToken,
        remove: &RemoveVoter,
    ) -> Option<Response> {
        match self.begin_removing(io, token, remove) {
            Ok(()) => None,
            Err((error, text)) => Some(Response::RemoveVoter(error, text)),
        }
    }

    fn begin_removing(
        &mut self,
        io: &mut Io<'_>,
        token: RequestToken,
        remove: &RemoveVoter,
    ) -> Result<(), Refusal> {
        self.check_cluster_and_leader(&remove.cluster_id)?;
        self.expire_change(io.now.mono);
        let voter = remove.voter.filter(|voter| !voter.directory_id.is_zero()).ok_or_else(|| {
            refused(ErrorCode::INVALID_REQUEST, "Remove voter request didn't include a valid voter")
        })?;
        let voters = self.check_change("removing")?;
        let without = voters.without(voter).ok_or_else(|| {
            let text = format!(
                "Cannot remove voter {} from the set of voters {}",
                key_text(voter),
                keys_text(voters)
            );
            refused(ErrorCode::VOTER_NOT_FOUND, text)
        })?;
        let deadline = io.now.mono + self.config.request_timeout;
        self.change = Some(VoterChange { kind: Kind::Remove, token: Some(token), deadline, offset: None });
        let offset = self.append_voters(io, &without);
        if let Some(change) = &mut self.change {
            change.offset = Some(offset);
        }
        self.voters_committed(); // where one voter stays, and it leads, the append was all
        Ok(())
    }

    pub(super) fn answer_update_voter(&mut self, io: &mut Io<'_>, update: UpdateVoter) -> Response {
        let error = match self.update_voter(io, update) {
            Ok(()) => ErrorCode::NONE,
            Err(error) => error,
        };
        Response::UpdateVoter(self.standing(error))
    }

    fn update_voter(&mut self, io: &mut Io<'_>, update: UpdateVoter) -> Result<(), ErrorCode> {
        if update.cluster_id.as_ref().is_some_and(|id| *id != self.config.cluster_id) {
            return Err(ErrorCode::INCONSISTENT_CLUSTER_ID);
        }
        if let Some(error) = self.refuse_leader_only(update.epoch) {
            return Err(error);
        }
        let node = update.node;
        let (min, max) = node.supported_kraft_versions;
        let listens = node.listeners.iter().any(|(name, _)| *name == self.config.listener_name);
        if node.key.id < 0 || node.key.directory_id.is_zero() || !listens || min < 0 || max < min {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        self.expire_change(io.now.mono);
        let voters = self.check_change("updating").map_err(|(error, _)| error)?;
        if !(min..=max).contains(&self.quorum.voters.kraft_version()) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if !voters.is_voter(node.key) {
            return Err(ErrorCode::VOTER_NOT_FOUND);
        }
        let (key, voters) = (node.key, voters.with(node));
        self.append_voters(io, &voters);
        if let Role::Leader(leader) = &mut self.quorum.role
            && key.id != self.config.node_id
        {
            leader.heard_from(key, io.now.mono);
        }
        Ok(())
    }

    fn check_cluster_and_leader(&self, cluster_id: &Option<String>) -> Result<(), Refusal> {
        let own = &self.config.cluster_id;
        if let Some(given) = cluster_id.as_ref().filter(|given| *given != own) {
            let text = format!("The given id \"{given}\" doesn't match the cluster id \"{own}\"");
            return Err(refused(ErrorCode::INCONSISTENT_CLUSTER_ID, text));
        }
        match self.refuse_leader_only(self.quorum.epoch()) {
            Some(error) => Err((error, None)),
            None => Ok(()),
        }
    }

    /// Whether the voters may be changed now: the voters in effect, if so.
    fn check_change(&self, doing: &str) -> Result<&VoterSet, Refusal> {
        let waiting = |text: String| Err(refused(ErrorCode::REQUEST_TIMED_OUT, text));
        if self.change.is_some() {
            let text = "Request timed out waiting for leader to handle previous voter change request";
            return waiting(text.to_string());
        }
        let Some(high_watermark) = self.quorum.high_watermark else {
            let text =
                "Request timed out waiting for leader to establish HWM and fence previous voter changes";
            return waiting(text.to_string());
        };
        let voters = &self.quorum.voters;
        if voters.kraft_version() < 1 {
            let level = voters.kraft_version();
            let text =
                format!("Cluster doesn't support {doing} voter because the kraft.version feature is {level}");
            return Err(refused(ErrorCode::UNSUPPORTED_VERSION, text));
        }
        match voters.last_offset() {
            Some(offset) if offset < high_watermark => Ok(voters.last()),
            at => {
                let at = at.map_or("Optional.empty".to_string(), |at| format!("Optional[{at}]"));
                waiting(format!(
                    "Request timed out waiting for voters to commit the latest voter change at {at} with HWM \
                     {high_watermark}"
                ))
            }
        }
    }

    /// Appends the voters behind all that was appended before. They are in effect at once. Returns the offset.
    fn append_voters(&mut self, io: &mut Io<'_>, voters: &VoterSet) -> i64 {
        self.drain_accumulator(io);
        let offset = self.log.end_offset();
        let record = voters_record(voters);
        let batch = control_batch(
            io.codecs,
            offset,
            self.quorum.epoch(),
            io.now.wall_ms,
            core::slice::from_ref(&record),
        );
        let batch = batch.expect("an uncompressed batch below the limit");
        self.quorum.voters.learn(offset, &record);
        if let Role::Leader(leader) = &mut self.quorum.role {
            leader.accumulator.control_appended(offset + 1);
            leader.set_voters(self.quorum.voters.last(), io.now.mono);
        }
        self.append_to_log(io, offset, &batch.into());
        self.tell_of_voters(io);
        self.leader_log_grew(io);
        offset
    }

    /// The high watermark moved on: a change may be committed with it, and be the end of this leader.
    pub(super) fn voters_committed(&mut self) {
        let Some(high_watermark) = self.quorum.high_watermark else { return };
        let committed = |offset: i64| offset < high_watermark;
        if self.change.as_ref().is_some_and(|change| change.offset.is_some_and(committed)) {
            self.end_change(ErrorCode::NONE, None);
        }
        let removed = !self.quorum.is_voter() && self.quorum.voters.last_offset().is_some_and(committed);
        if let Role::Leader(leader) = &mut self.quorum.role {
            leader.is_removed = removed;
        }
    }

    /// Whether this replica leads and has committed that it does not vote.
    pub(super) fn is_removed_leader(&self) -> bool {
        matches!(&self.quorum.role, Role::Leader(leader) if leader.is_removed)
    }

    /// Gives up what takes too long: it may still be committed. Whether it did.
    pub(super) fn expire_change(&mut self, now: Instant) -> bool {
        let due = self.change.as_ref().is_some_and(|change| now >= change.deadline);
        if due {
            self.end_change(ErrorCode::REQUEST_TIMED_OUT, None);
        }
        due
    }

    /// The change under way is over: answers whoever asked for it.
    pub(super) fn end_change(&mut self, error: ErrorCode, text: Option<String>) {
        let Some(change) = self.change.take() else { return };
        let Some(token) = change.token else { return };
        let response = match change.kind {
            Kind::Add { .. } => Response::AddVoter(error, text),
            Kind::Remove => Response::RemoveVoter(error, text),
        };
        self.outbox.push(Effect::Reply(token, response));
    }

    /// Reports the voters if they are others than before.
    pub(super) fn tell_of_voters(&mut self, io: &mut Io<'_>) {
        let offset = self.quorum.voters.last_offset();
        if self.told_voters == offset {
            return;
        }
        self.told_voters = offset;
        let (voters, leads) = (self.quorum.voters.last(), self.quorum.is_leader());
        io.out.event(|| Event::VotersChanged {
            offset: offset.unwrap_or(-1),
            voters: voters.ids().collect(),
            leads,
        });
    }
}

/// The follower's side: what it wants changed itself.
impl Raft {
    /// Whether this replica wants something of the leader: to be known as it is, or to vote.
    pub(super) fn wants_change(&self) -> bool {
        self.quorum.voters.kraft_version() >= 1
            && match self.quorum.is_voter() {
                true => self.is_known_otherwise(),
                false => self.config.auto_join && self.config.can_become_voter,
            }
    }

    /// Whether this voter listens elsewhere, or supports more or less, than the log says.
    pub(super) fn is_known_otherwise(&self) -> bool {
        let listeners = &self.config.listeners;
        self.quorum.voters.last().knows_otherwise(self.quorum.local, listeners, SUPPORTED_KRAFT_VERSIONS)
    }

    fn wanted_change(&self) -> Request {
        let (local, voters) = (self.quorum.local, self.quorum.voters.last());
        let cluster_id = Some(self.config.cluster_id.clone());
        if voters.is_voter(local) {
            let (epoch, node) = (self.quorum.epoch(), self.local_node());
            return Request::UpdateVoter(UpdateVoter { cluster_id, epoch, node });
        }
        match voters.node(local.id) {
            Some(old) => Request::RemoveVoter(RemoveVoter { cluster_id, voter: Some(old.key) }),
            None => Request::AddVoter(AddVoter {
                cluster_id,
                voter: Some(local),
                listeners: self.config.listeners.clone(),
                ack_when_committed: false,
            }),
        }
    }

    /// This replica as a voter.
    pub(super) fn local_node(&self) -> VoterNode {
        VoterNode {
            key: self.quorum.local,
            listeners: self.config.listeners.clone(),
            supported_kraft_versions: SUPPORTED_KRAFT_VERSIONS,
        }
    }

    /// Asks the leader for a change of the voters if it is time. Whether it wants one now, and does not fetch.
    pub(super) fn maybe_ask_for_change(&mut self, io: &mut Io<'_>) -> bool {
        let Role::Follower { leader, ask_at, .. } = &self.quorum.role else { return false };
        let (leader, due) = (*leader, io.now.mono >= *ask_at);
        if !due || !self.wants_change() {
            return false;
        }
        if self.requests.is_ready(leader, io.now.mono) && self.send(io, leader, self.wanted_change()) {
            self.reset_ask_timer(io);
        }
        true
    }

    fn reset_ask_timer(&mut self, io: &Io<'_>) {
        let next = io.now.mono + self.config.fetch_timeout;
        if let Role::Follower { ask_at, .. } = &mut self.quorum.role {
            *ask_at = next;
        }
    }

    /// The leader answered to AddRaftVoter or RemoveRaftVoter.
    pub(super) fn change_answered(&mut self, io: &mut Io<'_>, call: RaftCall, error: ErrorCode) -> bool {
        let expected = [
            ErrorCode::NONE,
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::DUPLICATE_VOTER,
            ErrorCode::VOTER_NOT_FOUND,
        ];
        if expected.contains(&error) {
            self.reset_ask_timer(io);
            return true;
        }
        self.warn(io, || {
            format!("{} in the answer of replica {} to {:?}", error.name(), call.peer, call.api)
        });
        false
    }

    /// The leader answered to UpdateRaftVoter.
    pub(super) fn update_answered(&mut self, io: &mut Io<'_>, standing: Standing) -> bool {
        if let Some(useful) = self.learn_fetched(io, standing) {
            return useful;
        }
        self.leader_answered(io);
        true
    }
}

/// A key as Kafka shows it.
fn key_text(key: ReplicaKey) -> String {
    let directory =
        if key.directory_id.is_zero() { "<undefined>".to_string() } else { key.directory_id.to_text() };
    format!("ReplicaKey(id={}, directoryId={directory})", key.id)
}

/// The keys of a set as Kafka shows them: in the order of a Java `HashSet`.
fn keys_text(voters: &VoterSet) -> String {
    let capacity = (voters.len() * 4 / 3 + 1).next_power_of_two().max(16) as u32;
    let bucket = |key: &ReplicaKey| {
        let hash = java_hash(*key);
        (hash ^ (hash >> 16)) & (capacity - 1)
    };
    let mut keys: Vec<_> = voters.nodes().iter().map(|node| node.key).collect();
    keys.sort_by_key(bucket);
    format!("[{}]", keys.into_iter().map(key_text).collect::<Vec<_>>().join(", "))
}

/// `Objects.hash(id, Optional.of(directoryId))`.
fn java_hash(key: ReplicaKey) -> u32 {
    let number = u128::from_be_bytes(key.directory_id.0);
    let folded = (number >> 64) as u64 ^ number as u64;
    let directory = (folded >> 32) as u32 ^ folded as u32;
    let first = 31u32.wrapping_add(key.id as u32);
    first.wrapping_mul(31).wrapping_add(directory)
}

fn endpoints_text(listeners: &Listeners) -> String {
    let one = |(name, at): &(alloc::sync::Arc<str>, wire::drive::Endpoint)| {
        format!("ListenerName({name})={}/<unresolved>:{}", at.host, at.port)
    };
    format!("Endpoints(endpoints={{{}}})", listeners.iter().map(one).collect::<Vec<_>>().join(", "))
}

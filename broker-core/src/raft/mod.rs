//! The KRaft quorum: one replica of the metadata log (KIP-500, 595, 630, 853, 996, 1166; `KafkaRaftClient`).
//!
//! Voters elect a leader for each epoch, first asking whether they would win (pre-vote); replicas fetch from the
//! leader, which sends them records, the point from which their logs diverge, or a snapshot to begin with; what a
//! majority has is committed. Brokers are observers: they run the same code and never vote.
//!
//! # Contract
//!
//! 1. [`Raft::open`] reads what the disk holds.
//! 2. Requests of peers go into the `handle_*` methods, outcomes of its own requests into [`Raft::handle_outcome`],
//!    finished syncs into [`Raft::synced`], and [`Raft::on_timer`] is called when [`Raft::deadline`] is due. Each of
//!    them answers and asks through the `Ctx`.
//! 3. After each of these, [`Raft::take_signals`] says what happened: what was committed, in order and without gaps;
//!    who leads; which snapshot replaces the state; or that this node must stop.
//! 4. The active controller appends through [`Raft::append`] and learns of the commit by a signal.
//! 5. When [`Raft::snapshot_needed`], the owner of the state writes it with [`Raft::write_snapshot`].
//! 6. [`Raft::shutdown`] gives leadership up; once [`Raft::is_shut_down`], [`Raft::close`] flushes the log.
//!
//! # What waits for the disk
//!
//! An epoch, a leader or a vote is durable before anybody hears of it, and a leader's epoch before its first append:
//! while the file `quorum-state` is being written, inputs wait in a queue and answers are held back, as Kafka's
//! one thread blocks. A voter's append is flushed before its next Fetch tells of it, a snapshot before it is used.
//! The leader counts its own log end before its flush, as Kafka does: with power lost on the right machines at the
//! right moment committed records can be lost.

mod accumulator;
mod change_rpc;
mod changes;
mod config;
mod election;
mod fetch;
pub mod format;
mod leader;
mod log;
mod open;
pub mod quorum_state_file;
mod records;
mod requests;
mod rpc;
mod snapshot;
mod state;
mod transport;
mod voters;

#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use wire::Codecs;
use wire::drive::{Endpoint, Instant, Now};
use wire::error::ErrorCode;
use wire::messages as m;
use wire::records::MetadataRecord;

use crate::ctx::{Ctx, Rng};
use crate::disk::{Disk, DiskError, Ticket};
use crate::event::{Event, RaftRole};
use crate::io::Outputs;
use crate::log::{Log, LogError, Synced};
use crate::mutant::Mutant;
use crate::net::{CallOutcome, Peer, RequestToken};

pub use self::config::RaftConfig;
pub use self::leader::ReplicaProgress;
pub use self::log::PARTITION_DIR;
pub use self::rpc::METADATA_TOPIC;
pub use self::state::OffsetAndEpoch;
pub use self::voters::{ReplicaKey, VoterNode, VoterSet};

use self::accumulator::CompletedBatch;
use self::changes::VoterChange;
use self::fetch::ParkedFetch;
use self::log::MetadataLog;
use self::open::{FIRST_BOOTSTRAP_PEER, bootstrap_peers, read_election_state, read_voters};
use self::quorum_state_file::{FILE_NAME, QuorumStateError};
use self::requests::RequestManager;
use self::rpc::{Request, Response, Writing};
use self::snapshot::WritingSnapshot;
use self::state::{QuorumState, Role};
use self::voters::VoterHistory;

/// How long a shutdown waits for another leader (`KafkaRaftManager.shutdown`).
const SHUTDOWN_TIMEOUT_MS: u64 = 5_000;
/// How often old snapshots and segments are looked at.
const CLEAN_INTERVAL_MS: u64 = 60_000;
/// The level of `metadata.version` of this release, 4.3-IV0: records are written in its versions.
const METADATA_VERSION: i16 = 30;

/// What happened, for the owner of the metadata state.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// A batch is committed. They come in order, without gaps, from where the last one or the snapshot ended.
    Committed {
        /// The offset of its first record.
        base_offset: i64,
        /// The offset of its last record.
        last_offset: i64,
        /// The epoch in which it was appended.
        epoch: i32,
        /// The leader's wall clock at its append.
        append_time: i64,
        /// Its records; none in the quorum's own (control) batches.
        records: Vec<MetadataRecord>,
    },
    /// The state begins anew from a snapshot.
    LoadSnapshot {
        /// It holds all below this offset.
        end_offset: i64,
        /// The epoch of the last record in it.
        epoch: i32,
        /// The wall clock of the last record in it.
        last_timestamp: i64,
        /// The whole state.
        records: Vec<MetadataRecord>,
    },
    /// The leader changed. A node hears of its own leadership only after all committed before it has been signalled,
    /// the first batch of its epoch included.
    LeaderChanged {
        /// The leader, if known.
        leader: Option<i32>,
        /// Its epoch.
        epoch: i32,
    },
    /// The node must stop: its metadata disk failed, or the quorum lost what was committed.
    Fatal {
        /// In words.
        why: String,
    },
}

/// Where an append stands. It is committed when a [`Signal::Committed`] reaches `last_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedAt {
    /// The offset of the first record.
    pub base_offset: i64,
    /// The offset of the last record.
    pub last_offset: i64,
}

/// Why records were not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// This replica does not lead.
    #[error("Append failed because the replica is not the current leader")]
    NotLeader,
    /// They exceed what one batch can hold.
    #[error("The total record(s) size of {size} exceeds the maximum allowed batch size of {limit}")]
    TooLarge {
        /// Their size in bytes.
        size: usize,
        /// What a batch can hold.
        limit: usize,
    },
}

/// Why a snapshot was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It is there already, being written, or older than the log.
    #[error("there is such a snapshot or a later one")]
    NotNeeded,
    /// The disk failed; the node must stop.
    #[error("{0}")]
    Disk(DiskError),
}

/// Why the metadata log could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The log or its snapshots.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The election state.
    #[error("{0}")]
    QuorumState(#[from] QuorumStateError),
    /// A file could not be read.
    #[error("{path}: {error}")]
    Disk {
        /// Which.
        path: String,
        /// The reason.
        error: DiskError,
    },
    /// The quorum's own records in the log or a snapshot.
    #[error("{0}")]
    Records(String),
    /// The file names other voters than the configuration does.
    #[error(
        "Configured voter set: {configured:?} is different from the voter set read from the state file: {stored:?}. \
         Check if the quorum configuration is up to date, or wipe out the local state file if necessary"
    )]
    OtherVoters {
        /// As configured.
        configured: Vec<i32>,
        /// As stored.
        stored: Vec<i32>,
    },
}

/// A request of the quorum under way: what is kept until its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftCall {
    peer: i32,
    call: u64,
    api: Api,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "ApiVersions is what Kafka calls it")]
enum Api {
    Vote,
    BeginQuorumEpoch,
    EndQuorumEpoch,
    Fetch,
    FetchSnapshot,
    ApiVersions,
    AddVoter,
    RemoveVoter,
    UpdateVoter,
}

/// What a replica may use while it handles an input: the part of the node's `Ctx` below the connections.
struct Io<'a> {
    now: Now,
    disk: &'a mut dyn Disk,
    codecs: &'a dyn Codecs,
    out: &'a mut Outputs,
    rng: &'a mut Rng,
}

/// What happens to a replica.
#[derive(Clone, Debug)]
enum Input {
    Request(RequestToken, Request),
    /// Absent if the peer did not answer.
    Answer(RaftCall, Option<Response>),
}

/// What a replica wants sent.
#[derive(Clone, Debug)]
enum Effect {
    Reply(RequestToken, Response),
    Send(i32, RaftCall, Request),
}

#[derive(Clone, Copy, Debug)]
struct Shutdown {
    deadline: Instant,
    complete: bool,
}

/// One replica of the metadata log. See the module for its contract.
#[derive(Clone, Debug)]
pub struct Raft {
    config: RaftConfig,
    /// Whom to ask for the leader: the other voters of the configuration, or its bootstrap servers, whose node ids
    /// nobody knows, under negative numbers.
    bootstrap: Vec<i32>,
    /// Where leaders are that the log does not name yet, as peers told.
    learned: BTreeMap<i32, Endpoint>,
    quorum: QuorumState,
    log: MetadataLog,
    requests: RequestManager,
    parked: Vec<ParkedFetch>,
    /// The change of the voters that this leader has taken on.
    change: Option<VoterChange>,
    /// The offset of the voters that were last reported.
    told_voters: Option<i64>,
    /// Own batches that are not committed: their records need not be read again.
    uncommitted: VecDeque<CompletedBatch>,
    /// Where the next signal of a commit begins; absent before the first.
    next_committed: Option<i64>,
    last_committed_timestamp: i64,
    fired_leader: (Option<i32>, i32),
    /// The write of `quorum-state` under way.
    election_write: Option<Ticket>,
    /// Inputs that came meanwhile.
    waiting: VecDeque<Input>,
    outbox: Vec<Effect>,
    signals: Vec<Signal>,
    snapshot: Option<WritingSnapshot>,
    bytes_since_snapshot: u64,
    snapshot_clock: Instant,
    next_clean: Option<Instant>,
    shutdown: Option<Shutdown>,
    failed: bool,
    deadline: Option<Instant>,
}

impl Raft {
    /// Reads the metadata log, its snapshots and the election state. What it found must be durable before this
    /// replica acts on it, so a sync is under way when it returns.
    pub fn open(
        config: RaftConfig,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        rng: &mut Rng,
    ) -> Result<Raft, OpenError> {
        let (mut log, _) = MetadataLog::open(&config, now, disk, codecs)?;
        let local = ReplicaKey::new(config.node_id, config.directory_id);
        let mut voters = VoterHistory::new(config.voters.clone());
        read_voters(&log, &mut voters, disk, codecs)?;
        let stored = read_election_state(log.dir(), disk)?;
        if let Some(stored) = stored.as_ref().filter(|stored| !stored.voters.is_empty()) {
            let configured: Vec<i32> = voters.last().ids().collect();
            if configured != stored.voters {
                return Err(OpenError::OtherVoters { configured, stored: stored.voters.clone() });
            }
        }
        let timeouts = (config.election_timeout, config.fetch_timeout);
        let mut quorum = QuorumState::start(local, voters, timeouts, stored, log.last_epoch(), now.mono, rng);
        quorum.mutants = config.mutants;
        if quorum.is_only_voter() && quorum.role.kind() != RaftRole::Candidate {
            quorum.transition_to_prospective(now.mono, rng); // there is nobody to wait for
        }
        if (quorum.is_voter() || config.can_become_voter) && !log.is_flushed() {
            log.flush(now, disk);
        }
        let mut raft = Raft {
            bootstrap: bootstrap_peers(&config),
            learned: BTreeMap::new(),
            requests: RequestManager::new(config.retry_backoff),
            told_voters: quorum.voters.last_offset(),
            config,
            quorum,
            log,
            parked: Vec::new(),
            change: None,
            uncommitted: VecDeque::new(),
            next_committed: None,
            last_committed_timestamp: 0,
            fired_leader: (None, 0),
            election_write: None,
            waiting: VecDeque::new(),
            outbox: Vec::new(),
            signals: Vec::new(),
            snapshot: None,
            bytes_since_snapshot: 0,
            snapshot_clock: now.mono,
            next_clean: None,
            shutdown: None,
            failed: false,
            deadline: None,
        };
        raft.fire_leader_change();
        raft.persist(disk);
        raft.update_deadline(now.mono);
        Ok(raft)
    }

    // --- requests of peers

    /// Vote (52): a candidate asks for this replica's vote, or whether it would get it.
    pub fn handle_vote(&mut self, ctx: &mut Ctx<'_>, token: RequestToken, request: &m::VoteRequest<'_>) {
        let request = rpc::read_vote(request, &self.config.cluster_id);
        self.handle_request(ctx, token, request);
    }

    /// BeginQuorumEpoch (53): a leader says that it won.
    pub fn handle_begin_quorum_epoch(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        request: &m::BeginQuorumEpochRequest<'_>,
    ) {
        // A leader that became a voter lately is where nobody says but itself.
        let leader = request.topics.first().and_then(|t| t.partitions.first()).map_or(-1, |p| p.leader_id);
        let listener = self.config.listener_name.clone();
        for at in request.leader_endpoints.iter().filter(|at| at.name == *listener) {
            self.learn_endpoint(leader, &at.host, at.port);
        }
        let request = rpc::read_begin_quorum_epoch(request, &self.config.cluster_id);
        self.handle_request(ctx, token, request);
    }

    /// EndQuorumEpoch (54): a leader gives up.
    pub fn handle_end_quorum_epoch(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        request: &m::EndQuorumEpochRequest<'_>,
    ) {
        let request = rpc::read_end_quorum_epoch(request, &self.config.cluster_id);
        self.handle_request(ctx, token, request);
    }

    /// Fetch (1) of the metadata partition.
    pub fn handle_fetch(&mut self, ctx: &mut Ctx<'_>, token: RequestToken, request: &m::FetchRequest<'_>) {
        let request = rpc::read_fetch(request, &self.config.cluster_id);
        self.handle_request(ctx, token, request);
    }

    /// FetchSnapshot (59).
    pub fn handle_fetch_snapshot(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        request: &m::FetchSnapshotRequest<'_>,
    ) {
        let request = rpc::read_fetch_snapshot(request, &self.config.cluster_id);
        self.handle_request(ctx, token, request);
    }

    /// DescribeQuorum (55).
    pub fn handle_describe_quorum(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        request: &m::DescribeQuorumRequest<'_>,
    ) {
        let request = rpc::read_describe_quorum(request);
        if let Err(error) = request {
            let response = self.writing().describe_quorum_response(token.version, error, None);
            return ctx.net.respond(ctx.out, token, &response);
        }
        self.handle_request(ctx, token, request);
    }

    /// What became of a request of this replica.
    pub fn handle_outcome(&mut self, ctx: &mut Ctx<'_>, call: RaftCall, outcome: CallOutcome) {
        let answer = match outcome {
            CallOutcome::Answered { body, version } => {
                transport::decode_answer(call.api, &body, version, &mut |id, host, port| {
                    self.learn_endpoint(id, host, port)
                })
            }
            CallOutcome::TimedOut | CallOutcome::Disconnected(_) => None,
        };
        self.take(&mut Io::of(ctx), Input::Answer(call, answer));
        self.send_effects(ctx);
    }

    fn handle_request(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        request: Result<Request, ErrorCode>,
    ) {
        match request {
            Ok(request) => self.take(&mut Io::of(ctx), Input::Request(token, request)),
            Err(error) => self.outbox.push(Effect::Reply(token, Response::Refused(error))),
        }
        self.send_effects(ctx);
    }

    // --- the disk and the clock

    /// A sync ended. Whether it was one of this replica's.
    pub fn synced(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, result: Result<(), DiskError>) -> bool {
        let mine = self.take_synced(&mut Io::of(ctx), ticket, result);
        self.send_effects(ctx);
        mine
    }

    /// When [`Raft::on_timer`] is to be called.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Does what is due.
    pub fn on_timer(&mut self, ctx: &mut Ctx<'_>) {
        self.take_timer(&mut Io::of(ctx));
        self.send_effects(ctx);
    }

    // --- the controller

    /// Appends records of the active controller, atomically: all of them are committed or none. They go to the log
    /// when `append.linger` has passed, in one batch with what else was appended meanwhile.
    pub fn append(
        &mut self,
        ctx: &mut Ctx<'_>,
        records: &[MetadataRecord],
    ) -> Result<AppendedAt, AppendError> {
        let at = self.accumulate(&Io::of(ctx), records);
        self.update_deadline(ctx.now.mono);
        at
    }

    /// What happened since the last call, in order.
    pub fn take_signals(&mut self) -> Vec<Signal> {
        core::mem::take(&mut self.signals)
    }

    /// Gives leadership of `epoch` up (the controller cannot go on); nothing if it is gone already.
    pub fn resign(&mut self, ctx: &mut Ctx<'_>, epoch: i32) {
        assert!(epoch <= self.quorum.epoch(), "resigns from epoch {epoch}, which is to come");
        if self.quorum.is_leader() && self.quorum.epoch() == epoch && !self.is_blocked() {
            let mut io = Io::of(ctx);
            self.become_resigned(&mut io, "the controller asked for it");
            self.proceed(&mut io);
        }
        self.send_effects(ctx);
    }

    // --- shutdown

    /// Begins to leave: a leader resigns and waits until another is known. See [`Raft::is_shut_down`].
    pub fn shutdown(&mut self, ctx: &mut Ctx<'_>) {
        if self.shutdown.is_none() {
            let deadline = ctx.now.mono.plus_millis(SHUTDOWN_TIMEOUT_MS);
            self.shutdown = Some(Shutdown { deadline, complete: false });
        }
        self.on_timer(ctx);
    }

    /// Whether a shutdown has ended, by handing over or by its time-out.
    pub fn is_shut_down(&self) -> bool {
        self.shutdown.is_some_and(|shutdown| shutdown.complete)
    }

    /// Flushes and closes the log. Once [`Raft::is_closed`] the process may end.
    pub fn close(&mut self, ctx: &mut Ctx<'_>) -> Result<(), LogError> {
        self.log.close(ctx.now, ctx.disk, ctx.codecs)
    }

    /// Whether nothing of it waits for the disk.
    pub fn is_closed(&self) -> bool {
        self.election_write.is_none() && self.snapshot.is_none() && !self.log.inner().flushing()
    }

    // --- looking

    /// The leader, if known, and the epoch. A leader that has resigned is still named.
    pub fn leader_and_epoch(&self) -> (Option<i32>, i32) {
        (self.quorum.leader(), self.quorum.epoch())
    }

    /// Whether this replica leads.
    pub fn is_leader(&self) -> bool {
        self.quorum.is_leader()
    }

    /// The epoch.
    pub fn epoch(&self) -> i32 {
        self.quorum.epoch()
    }

    /// What it is.
    pub fn role(&self) -> RaftRole {
        self.quorum.role.kind()
    }

    /// All below is committed; absent while this replica does not know.
    pub fn high_watermark(&self) -> Option<i64> {
        self.quorum.high_watermark
    }

    /// Where the log ends.
    pub fn log_end_offset(&self) -> i64 {
        self.log.end_offset()
    }

    /// The offset that the next appended record will have; the log end offset where nothing can be appended.
    pub fn next_append_offset(&self) -> i64 {
        match &self.quorum.role {
            Role::Leader(leader) => leader.accumulator.next_offset(),
            _ => self.log.end_offset(),
        }
    }

    /// The log, for checkers.
    pub fn log(&self) -> &Log {
        self.log.inner()
    }

    /// The voters.
    pub fn voters(&self) -> &VoterSet {
        self.quorum.voters.last()
    }

    /// The id of the metadata log directory.
    pub fn directory_id(&self) -> wire::Uuid {
        self.config.directory_id
    }

    /// The level of `kraft.version`.
    pub fn kraft_version(&self) -> i16 {
        self.quorum.voters.kraft_version()
    }

    /// The snapshot with which the log begins or could begin.
    pub fn latest_snapshot(&self) -> Option<OffsetAndEpoch> {
        self.log.latest_snapshot()
    }

    /// For whom this replica voted in its epoch.
    pub fn voted(&self) -> Option<ReplicaKey> {
        self.quorum.election_state().voted
    }

    /// Whether an input would wait because the election state is not durable yet.
    pub fn is_blocked(&self) -> bool {
        self.quorum.dirty || self.election_write.is_some()
    }
}

/// The turn of the crank: one input at a time, then what follows from it.
impl Raft {
    fn take(&mut self, io: &mut Io<'_>, input: Input) {
        if self.failed {
            return; // the node stops; nobody is answered any more
        }
        if self.is_blocked() {
            self.waiting.push_back(input);
        } else {
            self.process(io, input);
            self.proceed(io);
        }
        self.finish(io);
    }

    fn take_timer(&mut self, io: &mut Io<'_>) {
        if self.failed {
            return;
        }
        if let Err(error) = self.log.on_timer(io.now, io.disk) {
            self.fail(error.to_string());
        }
        self.expire_parked(io);
        self.maybe_clean(io);
        if !self.is_blocked() {
            self.proceed(io);
        }
        self.finish(io);
    }

    fn take_synced(&mut self, io: &mut Io<'_>, ticket: Ticket, result: Result<(), DiskError>) -> bool {
        let mine = if self.election_write == Some(ticket) {
            self.election_write = None;
            if let Err(error) = result {
                self.fail(format!("{FILE_NAME}: {error}"));
            }
            true
        } else if self.snapshot_synced(io, ticket, result) {
            true
        } else {
            match self.log.synced(ticket, result) {
                Synced::NotMine => false,
                Synced::Failed(error) => {
                    self.fail(format!("{}: {error}", self.log.dir()));
                    true
                }
                Synced::Waiting | Synced::Flushed { .. } => true,
            }
        };
        if mine && !self.failed && !self.is_blocked() {
            self.proceed(io);
        }
        if mine {
            self.finish(io);
        }
        mine
    }

    /// Goes on as far as it can without waiting for the disk, taking what waited.
    fn proceed(&mut self, io: &mut Io<'_>) {
        loop {
            while !self.failed && !self.is_blocked() && self.poll(io) {}
            self.complete_parked(io);
            if !self.failed && !self.is_blocked() && self.is_removed_leader() {
                continue; // a fetch that had waited committed it
            }
            self.persist(io.disk);
            if self.failed || self.is_blocked() {
                return;
            }
            match self.waiting.pop_front() {
                Some(input) => self.process(io, input),
                None => return,
            }
        }
    }

    fn process(&mut self, io: &mut Io<'_>, input: Input) {
        match input {
            Input::Request(token, request) => self.answer(io, token, request),
            Input::Answer(call, response) => {
                if !self.requests.is_expected(call.peer, call.call) {
                    return; // of an earlier state
                }
                let useful = match response {
                    Some(response) => self.answered(io, call, response),
                    None => {
                        if call.api == Api::ApiVersions {
                            self.versions_unanswered(io, call.peer);
                        }
                        false
                    }
                };
                self.requests.answered(call.peer, call.call, useful, io.now.mono);
            }
        }
    }

    fn answer(&mut self, io: &mut Io<'_>, token: RequestToken, request: Request) {
        let response = match request {
            Request::Vote(vote) => self.answer_vote(io, &vote),
            Request::BeginQuorumEpoch(begin) => self.answer_begin_quorum_epoch(io, &begin),
            Request::EndQuorumEpoch(end) => self.answer_end_quorum_epoch(io, &end),
            Request::Fetch(fetch) => match self.answer_fetch(io, token, fetch) {
                Some(response) => response,
                None => return,
            },
            Request::FetchSnapshot(fetch) => self.answer_fetch_snapshot(io, &fetch),
            Request::DescribeQuorum => self.answer_describe_quorum(io),
            Request::AddVoter(add) => match self.answer_add_voter(io, token, add) {
                Some(response) => response,
                None => return,
            },
            Request::RemoveVoter(remove) => match self.answer_remove_voter(io, token, &remove) {
                Some(response) => response,
                None => return,
            },
            Request::UpdateVoter(update) => self.answer_update_voter(io, update),
            Request::ApiVersions => panic!("a node answers to ApiVersions, not its quorum"),
        };
        self.outbox.push(Effect::Reply(token, response));
    }

    /// Takes an answer. Whether the peer was of use: if not, it is asked again only after a pause.
    fn answered(&mut self, io: &mut Io<'_>, call: RaftCall, response: Response) -> bool {
        match response {
            Response::Refused(error) => self.refused(io, call, error),
            Response::Vote(standing, granted) => self.vote_answered(io, call.peer, standing, granted),
            Response::BeginQuorumEpoch(standing) => self.begin_quorum_epoch_answered(io, standing),
            Response::EndQuorumEpoch(standing) => self.end_quorum_epoch_answered(io, call.peer, standing),
            Response::Fetch(standing, fetched) => self.fetch_answered(io, standing, fetched),
            Response::FetchSnapshot(standing, chunk) => self.fetch_snapshot_answered(io, standing, chunk),
            Response::DescribeQuorum(..) => false,
            Response::AddVoter(error, _) | Response::RemoveVoter(error, _) => {
                self.change_answered(io, call, error)
            }
            Response::UpdateVoter(standing) => self.update_answered(io, standing),
            Response::Versions(versions) => self.versions_answered(io, call.peer, versions),
        }
    }

    /// Does one thing that the state asks for now; whether it did and there may be more.
    fn poll(&mut self, io: &mut Io<'_>) -> bool {
        if self.poll_shutdown(io) {
            return false;
        }
        match &self.quorum.role {
            Role::Unattached { .. } => self.poll_unattached(io),
            Role::Prospective { .. } => self.poll_prospective(io),
            Role::Candidate { .. } => self.poll_candidate(io),
            Role::Leader(_) => self.poll_leader(io),
            Role::Follower { .. } => self.poll_follower(io),
            Role::Resigned { .. } => self.poll_resigned(io),
        }
    }

    /// Whether the shutdown has ended, now or before.
    fn poll_shutdown(&mut self, io: &mut Io<'_>) -> bool {
        let gone = !self.quorum.is_voter() || self.quorum.is_only_voter() || self.quorum.has_remote_leader();
        let Some(shutdown) = &mut self.shutdown else { return false };
        shutdown.complete |= gone || io.now.mono >= shutdown.deadline;
        shutdown.complete
    }

    /// Hands the election state to the disk if it changed.
    fn persist(&mut self, disk: &mut dyn Disk) {
        if !self.quorum.dirty || self.failed {
            return;
        }
        assert!(self.election_write.is_none(), "the election state changes while it is being written");
        let mut state = self.quorum.election_state();
        if self.config.mutants.has(Mutant::VoteNotPersisted) {
            state.voted = None;
        }
        let text = state.to_text(self.quorum.voters.kraft_version());
        let path = format!("{}/{FILE_NAME}", self.log.dir());
        self.election_write = Some(disk.replace(&path, text.into_bytes().into()));
        self.quorum.dirty = false;
    }

    fn fail(&mut self, why: String) {
        if !self.failed {
            self.failed = true;
            self.outbox.clear();
            self.waiting.clear();
            self.signals.push(Signal::Fatal { why });
        }
    }

    fn warn(&mut self, io: &mut Io<'_>, text: impl FnOnce() -> String) {
        io.out.event(|| Event::Warning { text: text() });
    }

    /// Sends a request if the peer is ready for one. Whether it left.
    fn send(&mut self, io: &Io<'_>, peer: i32, request: Request) -> bool {
        if !self.requests.is_ready(peer, io.now.mono) {
            return false;
        }
        let api = match &request {
            Request::Vote(_) => Api::Vote,
            Request::BeginQuorumEpoch(_) => Api::BeginQuorumEpoch,
            Request::EndQuorumEpoch(_) => Api::EndQuorumEpoch,
            Request::Fetch(_) => Api::Fetch,
            Request::FetchSnapshot(_) => Api::FetchSnapshot,
            Request::ApiVersions => Api::ApiVersions,
            Request::AddVoter(_) => Api::AddVoter,
            Request::RemoveVoter(_) => Api::RemoveVoter,
            Request::UpdateVoter(_) => Api::UpdateVoter,
            Request::DescribeQuorum => panic!("a replica describes the quorum only when asked"),
        };
        let call = self.requests.sent(peer);
        self.outbox.push(Effect::Send(peer, RaftCall { peer, call, api }, request));
        true
    }

    /// Where a peer is: the metadata log names the voters, peers the leader, the configuration the bootstrap servers.
    fn endpoint_of(&self, peer: i32) -> Option<&Endpoint> {
        if peer > FIRST_BOOTSTRAP_PEER {
            let joining = self.change.as_ref().and_then(|change| change.listeners_of(peer)?.first());
            let known = self.quorum.voters.last().endpoint(peer).or(joining.map(|(_, at)| at));
            return known.or_else(|| self.learned.get(&peer));
        }
        self.config.bootstrap_servers.get((FIRST_BOOTSTRAP_PEER - peer) as usize)
    }

    /// A peer says where a node is. What the log says of voters goes before it.
    fn learn_endpoint(&mut self, id: i32, host: &str, port: u16) {
        let known = self.endpoint_of(id).is_some_and(|at| &*at.host == host && at.port == port);
        if id >= 0 && !known && self.quorum.voters.last().endpoint(id).is_none() {
            self.learned.insert(id, Endpoint::new(host, port));
        }
    }

    /// Says who leads, if that is news. Of its own leadership a node hears when it has heard of the first batch of
    /// its epoch, and so of all that was committed before.
    fn fire_leader_change(&mut self) {
        let now = match &self.quorum.role {
            Role::Resigned { .. } => return,
            Role::Leader(leader)
                if self.next_committed.is_none_or(|next| next <= leader.epoch_start_offset) =>
            {
                return;
            }
            _ => (self.quorum.leader(), self.quorum.epoch()),
        };
        // Unattached may name this very replica, if it forgot that it led: it does not lead now.
        let now = (now.0.filter(|leader| *leader != self.config.node_id || self.quorum.is_leader()), now.1);
        let fired = self.fired_leader;
        if now.1 > fired.1 || (now.0.is_some() && fired.0.is_none()) {
            self.fired_leader = now;
            self.signals.push(Signal::LeaderChanged { leader: now.0, epoch: now.1 });
        }
    }

    fn finish(&mut self, io: &mut Io<'_>) {
        self.update_deadline(io.now.mono);
        self.check_invariants();
    }

    fn update_deadline(&mut self, now: Instant) {
        if self.failed {
            self.deadline = None;
            return;
        }
        let parked = self.parked.iter().map(|parked| parked.deadline).min();
        let mut due = [self.log.deadline(), self.next_clean, parked].into_iter().flatten().min();
        if !self.is_blocked() {
            due = [due, self.role_deadline(now)].into_iter().flatten().min();
        }
        self.deadline = due;
    }

    fn role_deadline(&self, now: Instant) -> Option<Instant> {
        let retry = self.requests.next_ready(now);
        if let Some(shutdown) = &self.shutdown {
            return if shutdown.complete {
                None
            } else {
                [Some(shutdown.deadline), retry].into_iter().flatten().min()
            };
        }
        let own = match &self.quorum.role {
            Role::Unattached { election_deadline, .. } => *election_deadline,
            Role::Prospective { deadline, .. }
            | Role::Candidate { deadline, .. }
            | Role::Resigned { deadline, .. } => Some(*deadline),
            Role::Follower { fetch_deadline, ask_at, .. } if *ask_at > now => {
                Some(if self.wants_change() { *ask_at.min(fetch_deadline) } else { *fetch_deadline })
            }
            Role::Follower { fetch_deadline, .. } => Some(*fetch_deadline),
            // The disk lets the epoch start, not the clock: nothing else is done before.
            Role::Leader(leader) if !leader.epoch_started => return leader.check_quorum_deadline,
            Role::Leader(leader) => {
                // What a dead voter does not hear is sent again by the timer, not by the retry.
                return [
                    leader.check_quorum_deadline,
                    leader.begin_quorum_deadline,
                    leader.accumulator.drain_at(),
                    self.change.as_ref().map(|change| change.deadline),
                ]
                .into_iter()
                .flatten()
                .min();
            }
        };
        [own, retry].into_iter().flatten().min()
    }

    fn send_effects(&mut self, ctx: &mut Ctx<'_>) {
        if self.is_blocked() || self.outbox.is_empty() {
            return;
        }
        let effects = core::mem::take(&mut self.outbox);
        let writing = self.writing();
        for effect in &effects {
            match effect {
                Effect::Reply(token, response) => transport::reply(ctx, *token, response, &writing),
                Effect::Send(peer, call, request) => {
                    let (to, at) = (Peer::Controller(*peer), self.endpoint_of(*peer));
                    if let Some(at) = at.filter(|at| ctx.net.endpoint(to) != Some(*at)) {
                        ctx.net.set_endpoint(to, at.clone());
                    }
                    transport::send(ctx, *peer, *call, request, &writing, self.config.request_timeout);
                }
            }
        }
    }

    fn writing(&self) -> Writing<'_> {
        let leader = self.quorum.leader();
        let own = self.config.listeners.first().map(|(_, at)| at).filter(|_| self.quorum.is_leader());
        let at = own.or_else(|| leader.and_then(|id| self.endpoint_of(id)));
        Writing {
            cluster_id: &self.config.cluster_id,
            voters: self.quorum.voters.last(),
            local: &self.config.listeners,
            leader_at: leader.zip(at),
        }
    }

    /// What must hold after every input.
    pub fn check_invariants(&self) {
        let end = self.log.end_offset();
        assert!(self.log.start_offset() <= end, "the log ends at {end}, before it starts");
        assert!(
            self.quorum.high_watermark.is_none_or(|hw| hw <= end),
            "high watermark {:?} is beyond the log end {end}",
            self.quorum.high_watermark
        );
        assert!(
            self.next_committed.is_none_or(|next| next <= self.log.high_watermark()),
            "signalled up to {:?}, beyond the high watermark {}",
            self.next_committed,
            self.log.high_watermark()
        );
        assert!(self.log.last_epoch() <= self.quorum.epoch(), "the log has an epoch that is to come");
        match &self.quorum.role {
            Role::Leader(leader) => {
                assert!(leader.epoch_start_offset <= end, "the epoch starts beyond the log end {end}");
                assert!(
                    self.quorum.high_watermark.is_none_or(|hw| hw > leader.epoch_start_offset)
                        || self.config.mutants.has(Mutant::MetadataCommittedOfEarlierEpoch),
                    "a leader commits without a record of its epoch"
                );
                if leader.epoch_started {
                    assert!(leader.accumulator.next_offset() >= end, "offsets are given out twice");
                }
            }
            _ => assert!(self.parked.is_empty(), "fetches wait at a replica that does not lead"),
        }
        assert!(self.waiting.is_empty() || self.is_blocked() || self.failed, "inputs wait for nothing");
    }
}

impl<'a> Io<'a> {
    fn of<'c>(ctx: &'a mut Ctx<'c>) -> Io<'a> {
        Io { now: ctx.now, disk: &mut *ctx.disk, codecs: ctx.codecs, out: &mut *ctx.out, rng: &mut *ctx.rng }
    }
}

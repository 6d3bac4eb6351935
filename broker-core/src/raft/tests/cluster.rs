//! A few replicas with their disks, a network that delays and loses, and what must hold whatever happens.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use codecs::StdCodecs;
use rand_core::{Rng as _, SeedableRng};
use wire::drive::{ConnId, Endpoint, Instant, Nanos, Now};
use wire::records::{MetadataRecord, TopicRecord};
use wire::{ApiKey, Uuid};

use super::super::change_rpc::{AddVoter, RemoveVoter, Versions};
use super::super::*;
use super::wire_form;
use crate::event::BatchMark;
use crate::io::{Listener, Output};
use crate::mutant::Mutants;
use crate::testing::{MemDisk, Unsynced};

/// Who asks for changes of the voters.
const OPERATOR: i32 = -1_000;

/// The wall clock when a cluster's monotonic clock is 0.
const WALL_MS: i64 = 1_795_000_000_000;

/// What will happen, in the order of time and then of making.
#[derive(Clone, Debug)]
enum Happening {
    Request { from: i32, incarnation: u32, to: i32, call: RaftCall, request: Request },
    Answer { to: i32, incarnation: u32, call: RaftCall, response: Option<Response> },
    Synced { host: i32, incarnation: u32, ticket: Ticket },
    Timer { host: i32, incarnation: u32 },
    Start { host: i32 },
    Append { host: i32 },
}

/// What chance does to a cluster.
#[derive(Clone, Debug)]
pub(super) struct Chaos {
    /// From request to delivery, in microseconds: at least, and so much more at most.
    pub(super) latency_us: (u64, u64),
    /// Of a thousand messages.
    pub(super) lost: u32,
    /// From sync to durable, in microseconds.
    pub(super) sync_us: (u64, u64),
    /// A host whose syncs take ten seconds.
    pub(super) slow_disk: Option<i32>,
    /// Messages pass through their wire form.
    pub(super) through_wire: bool,
}

impl Default for Chaos {
    fn default() -> Chaos {
        Chaos { latency_us: (300, 700), lost: 0, sync_us: (100, 2_000), slow_disk: None, through_wire: false }
    }
}

/// A running process.
pub(super) struct Process {
    pub(super) raft: Raft,
    rng: Rng,
    timer: Option<Instant>,
    /// All records that were signalled, with their offsets.
    pub(super) state: Vec<(i64, MetadataRecord)>,
    pub(super) applied: i64,
    applied_epoch: i32,
    high_watermark: i64,
    /// What the node was told of the leader.
    pub(super) leader: (Option<i32>, i32),
    /// The batches of its log.
    log: Vec<BatchMark>,
}

/// A host: its disk stays when its process goes.
pub(super) struct Host {
    pub(super) disk: MemDisk,
    pub(super) process: Option<Process>,
    incarnation: u32,
    /// Records count as committed that only lie in its page cache, since it led with them.
    counted_unflushed: bool,
    /// Who would start it again.
    starting: bool,
    /// The id of its directory: a new disk has another.
    pub(super) directory_id: Uuid,
}

/// What is known of the run from outside.
#[derive(Default)]
pub(super) struct History {
    /// Who won each epoch.
    pub(super) winners: BTreeMap<i32, i32>,
    /// Every batch that was ever appended, by offset and epoch.
    batches: BTreeMap<(i64, i32), BatchMark>,
    /// Every committed batch, by its first offset: its last offset, epoch and records.
    pub(super) committed: BTreeMap<i64, (i64, i32, Vec<MetadataRecord>)>,
    /// Whom each voter told that it votes for it, by epoch and voter.
    votes: BTreeMap<(i32, i32), i32>,
    pub(super) snapshots_written: u32,
    pub(super) snapshots_loaded: u32,
    pub(super) truncations: u32,
    pub(super) messages: u64,
    pub(super) events: Vec<(u64, i32, Event)>,
    pub(super) keep_events: bool,
}

pub(super) struct Cluster {
    pub(super) now: Instant,
    sequence: u64,
    queue: BTreeMap<(Instant, u64), Happening>,
    pub(super) hosts: BTreeMap<i32, Host>,
    voters: VoterSet,
    pub(super) chance: Rng,
    pub(super) chaos: Chaos,
    /// Pairs of hosts between which nothing passes, in this direction.
    pub(super) cut: BTreeSet<(i32, i32)>,
    /// Who waits for each answer, and whether that is a vote that binds.
    calls: BTreeMap<u64, (i32, u32, RaftCall, bool)>,
    next_conn: u64,
    next_name: u64,
    /// The leader appends so often, in milliseconds: at least, and so much more at most.
    pub(super) append_every: Option<(u64, u64)>,
    pub(super) history: History,
    pub(super) adjust: fn(&mut RaftConfig),
    /// The voters stand in the log, not in the configuration (kraft.version 1).
    dynamic: bool,
    /// What the operator was answered.
    pub(super) answers: Vec<Response>,
}

impl Cluster {
    /// Voters 1 to `voters`, observers 11 and up. Nobody runs yet.
    pub(super) fn new(seed: u64, voters: i32, observers: i32) -> Cluster {
        let nodes: Vec<_> =
            (1..=voters).map(|id| (id, Endpoint::new(format!("c{id}").as_str(), 9093))).collect();
        let ids = (1..=voters).chain(11..11 + observers);
        let host = |id: i32| Host {
            directory_id: Uuid([id as u8; 16]),
            disk: MemDisk::manual(),
            process: None,
            incarnation: 0,
            counted_unflushed: false,
            starting: false,
        };
        Cluster {
            now: Instant::default(),
            sequence: 0,
            queue: BTreeMap::new(),
            hosts: ids.map(|id| (id, host(id))).collect(),
            voters: VoterSet::from_static(&Arc::from("CONTROLLER"), &nodes),
            chance: Rng::seed_from_u64(seed),
            chaos: Chaos::default(),
            cut: BTreeSet::new(),
            calls: BTreeMap::new(),
            next_conn: 0,
            next_name: 0,
            append_every: None,
            history: History::default(),
            adjust: |_| {},
            dynamic: false,
            answers: Vec::new(),
        }
    }

    /// As `new`, but the first voters stand in the snapshot with which their directories are formatted.
    pub(super) fn dynamic(seed: u64, voters: i32, observers: i32) -> Cluster {
        Cluster::growing(seed, voters, 0, observers)
    }

    /// As `dynamic`, with more controllers, behind the voters, that do not vote.
    pub(super) fn growing(seed: u64, voters: i32, more: i32, observers: i32) -> Cluster {
        let mut cluster = Cluster::new(seed, voters + more, observers);
        cluster.voters = VoterSet::new(cluster.voters.nodes()[..voters as usize].to_vec());
        let keyed = cluster.voters.nodes().iter().map(|node| VoterNode {
            key: ReplicaKey::new(node.key.id, Uuid([node.key.id as u8; 16])),
            supported_kraft_versions: (0, 1),
            ..node.clone()
        });
        cluster.voters = VoterSet::new(keyed.collect());
        cluster.dynamic = true;
        for id in cluster.hosts.keys().copied().collect::<Vec<_>>() {
            cluster.format(id);
        }
        cluster
    }

    fn format(&mut self, id: i32) {
        let host = self.hosts.get_mut(&id).unwrap();
        {
            let options = format::FormatOptions {
                cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_string(),
                node_id: id,
                log_dirs: alloc::vec![("data".to_string(), host.directory_id)],
                metadata_dir: "data".to_string(),
                voters: self
                    .voters
                    .node(id)
                    .map(|_| self.voters.clone())
                    .filter(|v| v.is_voter(ReplicaKey::new(id, host.directory_id))),
                records: format::default_bootstrap_records(),
                now_ms: WALL_MS,
            };
            format::format(&mut host.disk, &StdCodecs, &options).unwrap();
            host.disk.complete_all();
        }
    }

    /// Where a host listens.
    fn endpoint(id: i32) -> Endpoint {
        Endpoint::new(format!("c{id}").as_str(), 9093)
    }

    fn config(&self, id: i32) -> RaftConfig {
        let mut config = RaftConfig {
            node_id: id,
            directory_id: self.hosts[&id].directory_id,
            cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_string(),
            can_become_voter: id < 11,
            listener_name: Arc::from("CONTROLLER"),
            listeners: alloc::vec![(Arc::from("CONTROLLER"), Cluster::endpoint(id))],
            auto_join: false,
            voters: if self.dynamic { VoterSet::default() } else { self.voters.clone() },
            bootstrap_servers: self.voters.ids().filter_map(|id| self.voters.endpoint(id).cloned()).collect(),
            dir: "data".to_string(),
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            retention_bytes: 100 << 20,
            retention_ms: 604_800_000,
            max_bytes_between_snapshots: 20 << 20,
            max_snapshot_interval: Some(Nanos::from_secs(3_600)),
            election_timeout: Nanos::from_millis(1_000),
            election_backoff_max: Nanos::from_millis(1_000),
            fetch_timeout: Nanos::from_millis(2_000),
            request_timeout: Nanos::from_millis(2_000),
            retry_backoff: Nanos::from_millis(20),
            append_linger: Nanos::from_millis(25),
            fetch_max_bytes: 1 << 20,
            fetch_snapshot_max_bytes: 1 << 20,
            mutants: Mutants::NONE,
        };
        (self.adjust)(&mut config);
        config
    }

    fn wall(&self) -> Now {
        Now { mono: self.now, wall_ms: WALL_MS + (self.now.0 / 1_000_000) as i64 }
    }

    fn schedule(&mut self, after: Nanos, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), happening);
    }

    fn draw(&mut self, (least, more): (u64, u64)) -> u64 {
        least + if more == 0 { 0 } else { self.chance.next_u64() % more }
    }

    // --- verbs

    pub(super) fn start(&mut self, id: i32) {
        let (config, now) = (self.config(id), self.wall());
        let seed = self.chance.next_u64();
        let host = self.hosts.get_mut(&id).unwrap();
        assert!(host.process.is_none(), "{id} runs already");
        host.incarnation += 1;
        host.starting = false;
        host.disk.mkdir("data").unwrap();
        let mut rng = Rng::seed_from_u64(seed);
        let raft = Raft::open(config, now, &mut host.disk, &StdCodecs, &mut rng);
        let raft = raft.unwrap_or_else(|error| panic!("{id} does not open: {error}"));
        let process = Process {
            rng,
            timer: None,
            state: Vec::new(),
            applied: 0,
            applied_epoch: 0,
            high_watermark: 0,
            leader: (None, 0),
            log: marks_of(&raft, &mut host.disk),
            raft,
        };
        process.raft.check_invariants();
        host.process = Some(process);
        self.after(id, Vec::new());
    }

    pub(super) fn start_all(&mut self) {
        for id in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.start(id);
        }
    }

    /// kill -9: what was written stays in the page cache.
    pub(super) fn kill(&mut self, id: i32) {
        let host = self.hosts.get_mut(&id).unwrap();
        host.process = None;
        host.disk.crash();
    }

    /// The power fails. Where that could lose what counts as committed (the leader counts before it flushes), and
    /// `mercy` is asked for, the process dies alone.
    pub(super) fn power_off(&mut self, id: i32, unsynced: Unsynced, mercy: bool) {
        let host = self.hosts.get_mut(&id).unwrap();
        if mercy && host.counted_unflushed {
            return self.kill(id);
        }
        host.process = None;
        host.disk.power_loss(unsynced);
        host.counted_unflushed = false;
    }

    pub(super) fn wipe(&mut self, id: i32) {
        self.hosts.get_mut(&id).unwrap().disk = MemDisk::manual();
    }

    /// A new disk, formatted, with a directory id of its own.
    pub(super) fn replace_disk(&mut self, id: i32) {
        self.wipe(id);
        let host = self.hosts.get_mut(&id).unwrap();
        host.directory_id.0[0] ^= 0x80;
        self.format(id);
    }

    /// An operator asks a node that believes it leads for a change of the voters.
    pub(super) fn operate(&mut self, id: i32, request: Request) {
        let token = self.token(ApiKey::AddRaftVoter);
        let call = RaftCall { peer: OPERATOR, call: 0, api: Api::AddVoter };
        self.calls.insert(token.conn.0, (OPERATOR, 0, call, false));
        self.with(id, |process, io| process.raft.take(io, Input::Request(token, request)));
    }

    pub(super) fn key(&self, id: i32) -> ReplicaKey {
        ReplicaKey::new(id, self.hosts[&id].directory_id)
    }

    pub(super) fn adding(&self, id: i32) -> Request {
        Request::AddVoter(AddVoter {
            cluster_id: None,
            voter: Some(self.key(id)),
            listeners: alloc::vec![(Arc::from("CONTROLLER"), Cluster::endpoint(id))],
            ack_when_committed: true,
        })
    }

    pub(super) fn removing(&self, key: ReplicaKey) -> Request {
        Request::RemoveVoter(RemoveVoter { cluster_id: None, voter: Some(key) })
    }

    fn token(&mut self, key: ApiKey) -> RequestToken {
        self.next_conn += 1;
        RequestToken {
            conn: ConnId(self.next_conn),
            listener: Listener::Controller,
            key,
            version: 0,
            correlation_id: 0,
            envelope: None,
        }
    }

    /// Cuts a host off from all others, both ways.
    pub(super) fn isolate(&mut self, id: i32) {
        for other in self.hosts.keys().copied().filter(|other| *other != id) {
            self.cut.insert((id, other));
            self.cut.insert((other, id));
        }
    }

    pub(super) fn start_later(&mut self, id: i32, after: Nanos) {
        let host = self.hosts.get_mut(&id).unwrap();
        if host.process.is_none() && !host.starting {
            host.starting = true;
            self.schedule(after, Happening::Start { host: id });
        }
    }

    pub(super) fn shut_down(&mut self, id: i32) {
        self.with(id, |process, io| {
            process.raft.shutdown =
                Some(Shutdown { deadline: io.now.mono.plus_millis(5_000), complete: false });
            process.raft.take_timer(io);
        });
    }

    /// The process as it runs, with what it did carried out afterwards.
    pub(super) fn with<T>(&mut self, id: i32, act: impl FnOnce(&mut Process, &mut Io<'_>) -> T) -> T {
        let now = self.wall();
        let host = self.hosts.get_mut(&id).unwrap();
        let process = host.process.as_mut().unwrap_or_else(|| panic!("{id} does not run"));
        let mut out = Outputs::new(0);
        let mut rng = process.rng.clone();
        let mut io = Io { now, disk: &mut host.disk, codecs: &StdCodecs, out: &mut out, rng: &mut rng };
        let result = act(process, &mut io);
        process.rng = rng;
        self.after(id, out.items);
        result
    }

    /// Appends a record at a node that believes it leads; the offset it will have.
    pub(super) fn append(&mut self, id: i32) -> Result<AppendedAt, AppendError> {
        self.next_name += 1;
        let name = format!("topic-{}", self.next_name);
        let topic_id = Uuid((self.next_name as u128).to_be_bytes());
        let record = MetadataRecord::Topic(TopicRecord { name, topic_id });
        self.with(id, |process, io| {
            let at = process.raft.accumulate(io, &[record]);
            process.raft.update_deadline(io.now.mono);
            at
        })
    }

    // --- the run

    pub(super) fn run_for(&mut self, span: Nanos) {
        let end = self.now + span;
        while let Some((&(at, sequence), _)) = self.queue.first_key_value() {
            if at > end {
                break;
            }
            let happening = self.queue.remove(&(at, sequence)).unwrap();
            self.now = at;
            self.happen(happening);
        }
        self.now = end;
    }

    /// Runs until it is so; panics after `within`.
    pub(super) fn run_until(&mut self, what: &str, within: Nanos, so: impl Fn(&Cluster) -> bool) {
        let end = self.now + within;
        while !so(self) {
            let next = self.queue.first_key_value().map(|(&(at, _), _)| at);
            let next = next
                .filter(|at| *at <= end)
                .unwrap_or_else(|| panic!("waits for {what}: {}", self.picture()));
            self.run_for(next.since(self.now));
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Request { from, incarnation, to, call, request } => {
                self.deliver_request(from, incarnation, to, call, request);
            }
            Happening::Answer { to, incarnation, call, response } => {
                if self.runs(to, incarnation) {
                    self.with(to, |process, io| {
                        if let Some(Response::Vote(at, _) | Response::Fetch(at, _)) = &response
                            && let Some((leader, at)) = at.leader.map(|id| (id, Cluster::endpoint(id)))
                        {
                            process.raft.learn_endpoint(leader, &at.host, at.port);
                        }
                        process.raft.take(io, Input::Answer(call, response));
                    });
                }
            }
            Happening::Synced { host, incarnation, ticket } => {
                if !self.runs(host, incarnation) {
                    return;
                }
                let disk = &mut self.hosts.get_mut(&host).unwrap().disk;
                disk.complete(ticket);
                for (ticket, result) in disk.take_synced() {
                    self.with(host, |process, io| process.raft.take_synced(io, ticket, result));
                }
            }
            Happening::Timer { host, incarnation } => {
                let now = self.now;
                if !self.runs(host, incarnation) {
                    return;
                }
                let process = self.hosts.get_mut(&host).unwrap().process.as_mut().unwrap();
                if process.timer == Some(now) {
                    process.timer = None;
                    self.with(host, |process, io| process.raft.take_timer(io));
                    let deadline = self.raft(host).deadline();
                    assert!(deadline.is_none_or(|at| at > now), "the timer of {host} does not move on");
                }
            }
            Happening::Start { host } => {
                if self.hosts[&host].process.is_none() {
                    self.start(host);
                }
            }
            Happening::Append { host } => {
                if let Some(every) = self.append_every
                    && self.hosts[&host]
                        .process
                        .as_ref()
                        .is_some_and(|process| process.leader.0 == Some(host))
                    && self.append(host).is_ok()
                {
                    let after = Nanos::from_millis(self.draw(every));
                    self.schedule(after, Happening::Append { host });
                }
            }
        }
    }

    fn deliver_request(&mut self, from: i32, incarnation: u32, to: i32, call: RaftCall, request: Request) {
        if self.hosts[&to].process.is_none() {
            // Nobody listens there.
            return self.answer(from, incarnation, to, call, None);
        }
        if matches!(request, Request::ApiVersions) {
            let versions = Versions { error: ErrorCode::NONE, kraft: Some((0, 1)) };
            return self.answer(from, incarnation, to, call, Some(Response::Versions(versions)));
        }
        let binding = matches!(&request, Request::Vote(vote) if !vote.pre_vote);
        let key = match request {
            Request::Vote(_) => ApiKey::Vote,
            Request::BeginQuorumEpoch(_) => ApiKey::BeginQuorumEpoch,
            Request::EndQuorumEpoch(_) => ApiKey::EndQuorumEpoch,
            Request::FetchSnapshot(_) => ApiKey::FetchSnapshot,
            _ => ApiKey::Fetch,
        };
        let token = self.token(key);
        self.calls.insert(token.conn.0, (from, incarnation, call, binding));
        let request =
            if self.chaos.through_wire { wire_form::request(&request, &self.voters) } else { request };
        let leader = match &request {
            Request::BeginQuorumEpoch(begin) => Some((begin.leader, Cluster::endpoint(begin.leader))),
            _ => None,
        };
        self.with(to, |process, io| {
            if let Some((leader, at)) = leader {
                process.raft.learn_endpoint(leader, &at.host, at.port);
            }
            process.raft.take(io, Input::Request(token, request));
        });
    }

    fn answer(&mut self, to: i32, incarnation: u32, from: i32, call: RaftCall, response: Option<Response>) {
        let late = Nanos::from_micros(self.draw(self.chaos.latency_us));
        let lost = self.is_lost(from, to);
        let (late, response) = if lost { (Nanos::from_secs(2), None) } else { (late, response) };
        self.schedule(late, Happening::Answer { to, incarnation, call, response });
    }

    fn is_lost(&mut self, from: i32, to: i32) -> bool {
        self.history.messages += 1;
        self.cut.contains(&(from, to)) || self.chance.next_u32() % 1_000 < self.chaos.lost
    }

    fn runs(&self, id: i32, incarnation: u32) -> bool {
        let host = &self.hosts[&id];
        host.incarnation == incarnation && host.process.is_some()
    }

    /// Carries out what a replica did, and looks at it.
    fn after(&mut self, id: i32, items: Vec<Output>) {
        let incarnation = self.hosts[&id].incarnation;
        for item in items {
            if let Output::Event(event) = item {
                self.observe(id, event);
            }
        }
        let process = self.hosts.get_mut(&id).unwrap().process.as_mut().unwrap();
        let signals = process.raft.take_signals();
        let effects =
            if process.raft.is_blocked() { Vec::new() } else { core::mem::take(&mut process.raft.outbox) };
        for signal in signals {
            self.signal(id, signal);
        }
        for effect in effects {
            self.carry_out(id, incarnation, effect);
        }
        self.sync_disk(id, incarnation);
        self.look_at(id);
        let now = self.now;
        let process = self.hosts.get_mut(&id).unwrap().process.as_mut().unwrap();
        let deadline = process.raft.deadline();
        if deadline != process.timer {
            process.timer = deadline.map(|at| at.max(now));
            if let Some(at) = process.timer {
                self.schedule(at.since(now), Happening::Timer { host: id, incarnation });
            }
        }
    }

    fn carry_out(&mut self, id: i32, incarnation: u32, effect: Effect) {
        match effect {
            Effect::Send(to, call, request) => {
                let host = if to > FIRST_BOOTSTRAP_PEER { to } else { FIRST_BOOTSTRAP_PEER - to + 1 };
                assert!(to != id, "{id} asks itself"); // it may, by a bootstrap server of unknown id
                let late = Nanos::from_micros(self.draw(self.chaos.latency_us));
                if self.is_lost(id, host) {
                    let answer = Happening::Answer { to: id, incarnation, call, response: None };
                    self.schedule(Nanos::from_secs(2), answer);
                } else {
                    self.schedule(
                        late,
                        Happening::Request { from: id, incarnation, to: host, call, request },
                    );
                }
            }
            Effect::Reply(token, response) => {
                let (to, incarnation, call, binding) =
                    self.calls.remove(&token.conn.0).expect("answered once");
                if to == OPERATOR {
                    return self.answers.push(response);
                }
                if let Response::Vote(standing, true) = &response
                    && binding
                {
                    let before =
                        self.history.votes.insert((standing.epoch, id), to).filter(|before| *before != to);
                    assert!(
                        before.is_none(),
                        "{id} votes for {before:?} and {to} in epoch {}",
                        standing.epoch
                    );
                }
                let response = if self.chaos.through_wire {
                    wire_form::response(&response, &self.voters)
                } else {
                    response
                };
                self.answer(to, incarnation, id, call, Some(response));
            }
        }
    }

    fn sync_disk(&mut self, id: i32, incarnation: u32) {
        for ticket in self.hosts[&id].disk.pending() {
            let known = self.queue.values().any(|happening| {
                matches!(happening, Happening::Synced { host, incarnation: i, ticket: t }
                    if *host == id && *i == incarnation && *t == ticket)
            });
            if !known {
                let slow = self.chaos.slow_disk == Some(id);
                let us = if slow { 10_000_000 } else { self.draw(self.chaos.sync_us) };
                self.schedule(Nanos::from_micros(us), Happening::Synced { host: id, incarnation, ticket });
            }
        }
    }

    // --- what must hold

    fn observe(&mut self, id: i32, event: Event) {
        match &event {
            Event::ElectionWon { epoch, start_offset, .. } => {
                let before = self.history.committed.values().rev().find(|(_, of, _)| of < epoch);
                assert!(
                    before.is_none_or(|(last, ..)| last < start_offset),
                    "LeaderCompleteness: {id} leads epoch {epoch} from {start_offset} and lacks {before:?}"
                );
                let other = self.history.winners.insert(*epoch, id);
                assert!(other.is_none(), "ElectionSafety: {other:?} and {id} lead epoch {epoch}");
            }
            Event::MetadataAppended { batches } => {
                for batch in batches {
                    let known =
                        self.history.batches.entry((batch.base_offset, batch.epoch)).or_insert(*batch);
                    assert!(*known == *batch, "MetadataLogMatching: {known:?} and, at {id}, {batch:?}");
                    let log = &mut self.hosts.get_mut(&id).unwrap().process.as_mut().unwrap().log;
                    let end = log.last().map_or(0, |last| last.last_offset + 1);
                    assert!(batch.base_offset == end || log.is_empty(), "{id} appends {batch:?} at {end}");
                    log.push(*batch);
                }
            }
            Event::MetadataTruncated { to, .. } => {
                self.history.truncations += 1;
                let log = &mut self.hosts.get_mut(&id).unwrap().process.as_mut().unwrap().log;
                log.retain(|batch| batch.last_offset < *to);
            }
            Event::SnapshotWritten { .. } => self.history.snapshots_written += 1,
            Event::SnapshotLoaded { end_offset, .. } => {
                self.history.snapshots_loaded += 1;
                let log = &mut self.hosts.get_mut(&id).unwrap().process.as_mut().unwrap().log;
                log.retain(|batch| batch.base_offset >= *end_offset);
            }
            _ => {}
        }
        if self.history.keep_events {
            self.history.events.push((self.now.0 / 1_000_000, id, event));
        }
    }

    fn signal(&mut self, id: i32, signal: Signal) {
        let process = self.hosts.get_mut(&id).unwrap().process.as_mut().unwrap();
        match signal {
            Signal::Committed { base_offset, last_offset, epoch, records, .. } => {
                assert_eq!(base_offset, process.applied, "{id} has a gap");
                assert!(epoch >= process.applied_epoch, "epochs of committed batches ascend");
                process.applied = last_offset + 1;
                process.applied_epoch = epoch;
                for (i, record) in records.iter().enumerate() {
                    process.state.push((base_offset + i as i64, record.clone()));
                }
                let batch = (last_offset, epoch, records);
                let known = self.history.committed.entry(base_offset).or_insert_with(|| batch.clone());
                assert!(*known == batch, "CommittedMetadataNeverLost: {known:?} and, at {id}, {batch:?}");
            }
            Signal::LoadSnapshot { end_offset, epoch, records, .. } => {
                assert!(end_offset >= process.applied, "{id} goes back from {}", process.applied);
                let before = self.history.committed.range(..end_offset);
                let known: Vec<_> = before.flat_map(|(_, (_, _, records))| records.iter().cloned()).collect();
                assert!(records == known, "the snapshot at {end_offset} is not what was committed");
                process.applied = end_offset;
                process.applied_epoch = epoch;
                process.state = records.into_iter().map(|record| (-1, record)).collect();
            }
            Signal::LeaderChanged { leader, epoch } => {
                assert!(epoch >= process.leader.1, "{id} is told of an older epoch");
                process.leader = (leader, epoch);
                if leader == Some(id) {
                    assert!(process.raft.is_leader(), "{id} is told that it leads");
                    if self.append_every.is_some() {
                        self.schedule(Nanos::ZERO, Happening::Append { host: id });
                    }
                }
            }
            Signal::Fatal { why } => panic!("{id} stops: {why}\n{}", self.picture()),
        }
    }

    fn look_at(&mut self, id: i32) {
        let node = id;
        let now = self.wall();
        let host = self.hosts.get_mut(&id).unwrap();
        let process = host.process.as_mut().unwrap();
        let raft = &process.raft;
        if let Some(high_watermark) = raft.high_watermark() {
            assert!(high_watermark >= process.high_watermark, "the high watermark of {id} goes back");
            process.high_watermark = high_watermark;
        }
        if raft.is_leader() {
            host.counted_unflushed |= !raft.log.is_flushed();
        }
        if raft.log.is_flushed() {
            host.counted_unflushed = false;
        }
        if raft.snapshot_needed(now) && !raft.is_blocked() {
            let id = OffsetAndEpoch::new(process.applied, process.applied_epoch);
            let records: Vec<_> = process.state.iter().map(|(_, record)| record.clone()).collect();
            let mut out = Outputs::new(0);
            let mut io =
                Io { now, disk: &mut host.disk, codecs: &StdCodecs, out: &mut out, rng: &mut process.rng };
            let begun = process.raft.begin_writing_snapshot(&mut io, id, &records);
            assert!(!matches!(begun, Err(SnapshotError::Disk(_))));
            let incarnation = host.incarnation;
            self.sync_disk(node, incarnation);
        }
    }

    // --- looking

    pub(super) fn raft(&self, id: i32) -> &Raft {
        &self.process(id).raft
    }

    pub(super) fn process(&self, id: i32) -> &Process {
        self.hosts[&id].process.as_ref().unwrap_or_else(|| panic!("{id} does not run"))
    }

    pub(super) fn running(&self) -> impl Iterator<Item = (i32, &Process)> {
        self.hosts.iter().filter_map(|(id, host)| host.process.as_ref().map(|process| (*id, process)))
    }

    /// The leader of the highest epoch that knows it leads.
    pub(super) fn leader(&self) -> Option<i32> {
        let leaders =
            self.running().filter(|(id, process)| process.leader.0 == Some(*id) && process.raft.is_leader());
        leaders.max_by_key(|(_, process)| process.raft.epoch()).map(|(id, _)| id)
    }

    /// Whether all that run agree on the leader, and all have applied what it has.
    pub(super) fn has_converged(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let end = self.raft(leader).log_end_offset();
        let epoch = self.raft(leader).epoch();
        self.running().all(|(_, process)| process.applied == end && process.leader == (Some(leader), epoch))
    }

    pub(super) fn picture(&self) -> String {
        let mut text = format!("at {} ms", self.now.0 / 1_000_000);
        for (id, host) in &self.hosts {
            match &host.process {
                Some(process) => {
                    let raft = &process.raft;
                    text += &format!(
                        "\n  {id}: {:?} epoch {} leader {:?} log {}..{} hw {:?} applied {} blocked {} deadline {:?}",
                        raft.role(),
                        raft.epoch(),
                        raft.leader_and_epoch().0,
                        raft.log.start_offset(),
                        raft.log_end_offset(),
                        raft.high_watermark(),
                        process.applied,
                        raft.is_blocked(),
                        raft.deadline().map(|at| at.0 / 1_000_000),
                    );
                }
                None => text += &format!("\n  {id}: down"),
            }
        }
        text
    }

    /// A request from nobody in particular, answered at once if the replica does so.
    pub(super) fn ask(&mut self, id: i32, request: Request) -> Option<Response> {
        let token = self.token(ApiKey::Fetch);
        self.with(id, |process, io| {
            process.raft.take(io, Input::Request(token, request));
            let mine = |effect: &Effect| matches!(effect, Effect::Reply(t, _) if *t == token);
            let at = process.raft.outbox.iter().position(mine)?;
            match process.raft.outbox.remove(at) {
                Effect::Reply(_, response) => Some(response),
                Effect::Send(..) => None,
            }
        })
    }
}

/// The batches that a log holds when it is opened.
fn marks_of(raft: &Raft, disk: &mut MemDisk) -> Vec<BatchMark> {
    let mut marks = Vec::new();
    let mut offset = raft.log.start_offset();
    while offset < raft.log_end_offset() {
        let piece = raft.log.read(disk, offset, raft.log_end_offset(), 1 << 20).unwrap();
        for batch in wire::batch::Batches::new(&piece) {
            let header = batch.unwrap().header;
            marks.push(BatchMark::from(&header));
            offset = header.next_offset();
        }
    }
    marks
}

//! Groups of many members that come, go and die by chance, against naive coordinators of both protocols.
//!
//! Whatever happens: nobody owns a partition that another member owns in the same generation, and once nothing happens
//! any more, every partition belongs to exactly one member.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;

use wire::Uuid;
use wire::drive::{ConnId, Instant, Now};
use wire::frame::RequestHeader;
use wire::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use wire::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use wire::messages::consumer_group_heartbeat_response::{
    Assignment as Assigned, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use wire::messages::fetch_response::FetchResponse;
use wire::messages::list_offsets_request::ListOffsetsRequest;
use wire::messages::list_offsets_response::*;
use wire::messages::metadata_response::*;

use super::*;
use crate::Rng;
use crate::backoff::below;
use crate::config::ConsumerConfig;
use crate::consumer::{Consumer, Subscription};
use crate::io::{Input, Output, Outputs};
use crate::testing::TOPIC_ID;

const LATENCY: Nanos = Nanos::from_millis(2);
/// `fetch.max.wait.ms`: nothing is ever there.
const EMPTY_FETCH: Nanos = Nanos::from_millis(500);
const SESSION: Nanos = Nanos::from_millis(6_000);
const REBALANCE: Nanos = Nanos::from_millis(10_000);
const FIRST_DELAY: Nanos = Nanos::from_millis(3_000);

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct To {
    process: usize,
    conn: ConnId,
    version: i16,
    correlation: i32,
}

struct Process {
    consumer: Consumer,
    out: Outputs,
    closing: bool,
    /// What it owns, as its events said.
    owned: BTreeSet<i32>,
    generation: i32,
}

/// What a coordinator of the classic protocol knows of a member.
#[derive(Default)]
struct Member {
    metadata: Vec<u8>,
    protocol: String,
    joined: Option<To>,
    synced: Option<To>,
    assignment: Vec<u8>,
    session: Instant0,
}

/// An instant that has a default.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Instant0(u64);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Empty,
    Preparing,
    Completing,
    Stable,
}

#[derive(Default)]
struct Classic {
    members: BTreeMap<String, Member>,
    pending: BTreeSet<String>,
    phase: Phase,
    generation: i32,
    leader: String,
    until: Instant0,
    may_complete_at: Instant0,
}

/// What a coordinator of KIP-848 knows of a member.
#[derive(Default)]
struct ModernMember {
    epoch: i32,
    /// What it has, or may have until it says otherwise.
    owned: BTreeSet<i32>,
    target: BTreeSet<i32>,
    told: Option<BTreeSet<i32>>,
    session: Instant0,
}

#[derive(Default)]
struct Modern {
    members: BTreeMap<String, ModernMember>,
    epoch: i32,
}

struct World {
    now: Instant,
    processes: Vec<Option<Process>>,
    due: BTreeMap<(Instant, u64), (usize, Input)>,
    next: u64,
    /// When the last answer on a connection arrives.
    answered: BTreeMap<(usize, ConnId), Instant>,
    partitions: i32,
    classic: Classic,
    modern: Modern,
    config: Vec<(&'static str, &'static str)>,
    /// Who owned what in which generation.
    owners: BTreeMap<(i32, i32), usize>,
    joins: usize,
}

impl World {
    fn new(config: Vec<(&'static str, &'static str)>, partitions: i32) -> World {
        World {
            now: Instant(0),
            processes: Vec::new(),
            due: BTreeMap::new(),
            next: 0,
            answered: BTreeMap::new(),
            partitions,
            classic: Classic::default(),
            modern: Modern::default(),
            config,
            owners: BTreeMap::new(),
            joins: 0,
        }
    }

    fn spawn(&mut self, seed: u64) {
        let mut all = vec![
            ("group.id", "billing"),
            ("metadata.max.age.ms", "2000"),
            ("auto.commit.interval.ms", "1000"),
        ];
        all.extend(&self.config);
        let config = ConsumerConfig::parse(&settings(&all)).unwrap();
        let mut consumer = Consumer::new(config, "billing", bootstrap(), rng(seed));
        consumer.subscribe(Subscription::Topics(vec![TOPIC.into()])).unwrap();
        let process = Process {
            consumer,
            out: Outputs::new(0),
            closing: false,
            owned: BTreeSet::new(),
            generation: -1,
        };
        self.processes.push(Some(process));
        self.input(self.processes.len() - 1, Input::Start);
    }

    fn alive(&self) -> Vec<usize> {
        let alive = |&at: &usize| self.processes[at].as_ref().is_some_and(|process| !process.closing);
        (0..self.processes.len()).filter(alive).collect()
    }

    fn run(&mut self, until: Instant) {
        loop {
            let event = self.due.first_key_value().map(|(&(at, _), _)| at);
            let timers = self.processes.iter().enumerate().filter_map(|(at, process)| {
                Some((process.as_ref()?.consumer.next_deadline()?.max(self.now), at))
            });
            let timer = timers.min();
            let own = self.next_tick().map(|at| at.max(self.now));
            let next = [event, timer.map(|(at, _)| at), own].into_iter().flatten().min();
            let Some(next) = next.filter(|&at| at <= until) else { break };
            self.now = next;
            if own == Some(next) {
                self.tick();
            } else if event == Some(next) {
                let (_, (process, input)) = self.due.pop_first().unwrap();
                self.input(process, input);
            } else {
                self.input(timer.unwrap().1, Input::Timer);
            }
        }
        self.now = until;
    }

    fn input(&mut self, at: usize, input: Input) {
        let Some(process) = &mut self.processes[at] else { return };
        let now = Now { mono: self.now, wall_ms: 0 };
        process.consumer.handle(now, &input, &mut process.out);
        while process.consumer.has_records() {
            process.consumer.poll(&codecs::StdCodecs, &mut process.out, &mut |_, _| {}).unwrap();
        }
        process.consumer.drive(now, &mut process.out);
        let outputs = core::mem::take(&mut process.out.items);
        if process.closing && process.consumer.is_closed() {
            self.processes[at] = None;
        }
        for output in outputs {
            match output {
                Output::Connect { conn, .. } => self.later(LATENCY, at, Input::Connected { conn }),
                Output::Send { conn, frame } => self.request(at, conn, &frame),
                Output::Event(event) => self.event(at, &event),
                _ => {}
            }
        }
    }

    fn later(&mut self, after: Nanos, process: usize, input: Input) {
        self.next += 1;
        let mut at = self.now + after;
        if let Input::Frame { conn, .. } = &input {
            // A broker answers in the order in which it was asked.
            let last = self.answered.entry((process, *conn)).or_insert(at);
            at = at.max(*last);
            *last = at;
        }
        self.due.insert((at, self.next), (process, input));
    }

    fn answer<'a, M: Message<'a>>(&mut self, to: To, after: Nanos, key: ApiKey, response: &M) {
        let frame = encode_response(key, to.version, to.correlation, response).unwrap();
        let frame = frame.slice(4, frame.len() - 4);
        self.later(after, to.process, Input::Frame { conn: to.conn, frame });
    }

    fn event(&mut self, at: usize, event: &ClientEvent) {
        // Who is closing owns nothing any more, whatever it still says.
        let Some(process) = self.processes[at].as_mut().filter(|process| !process.closing) else { return };
        let numbers =
            |partitions: &[TopicPartition]| partitions.iter().map(|p| p.partition).collect::<BTreeSet<_>>();
        match event {
            ClientEvent::GroupJoined { generation, .. } => {
                process.generation = *generation;
                self.joins += 1;
            }
            ClientEvent::PartitionsAssigned { owned, .. } => {
                process.owned = numbers(owned);
                let generation = process.generation;
                for &partition in &process.owned.clone() {
                    let owner = *self.owners.entry((generation, partition)).or_insert(at);
                    assert_eq!(owner, at, "{partition} has two owners in {generation}");
                }
            }
            ClientEvent::PartitionsRevoked { partitions, .. }
            | ClientEvent::PartitionsLost { partitions, .. } => {
                let given_up = numbers(partitions);
                assert!(given_up.is_subset(&process.owned), "what is given up was owned");
                process.owned = process.owned.difference(&given_up).copied().collect();
            }
            ClientEvent::ConsumerFailed { error, .. } => panic!("{error}"),
            _ => {}
        }
    }

    /// Once nothing happens any more.
    fn check_settled(&self, name: &str) {
        let mut all: Vec<i32> = Vec::new();
        for at in self.alive() {
            let process = self.processes[at].as_ref().unwrap();
            all.extend(&process.owned);
            let assigned: BTreeSet<i32> = process.consumer.assignment().map(|p| p.partition).collect();
            assert_eq!(assigned, process.owned, "{name}: events say what is assigned");
        }
        all.sort_unstable();
        let everything: Vec<i32> = (0..self.partitions).collect();
        assert_eq!(all, if self.alive().is_empty() { Vec::new() } else { everything }, "{name}");
    }

    // --- the broker

    fn request(&mut self, process: usize, conn: ConnId, frame: &Rope) {
        let frame = frame.slice(4, frame.len() - 4);
        let mut r = Reader::new(&frame);
        let header = RequestHeader::decode(&mut r).unwrap();
        let (key, version) = (header.key().unwrap(), header.api_version);
        let to = To { process, conn, version, correlation: header.correlation_id };
        match key {
            ApiKey::ApiVersions => {
                let range = |info: &wire::ApiInfo| {
                    let range = info.broker_versions()?;
                    Some(ApiVersion {
                        api_key: info.key as i16,
                        min_version: range.min,
                        max_version: range.max,
                    })
                };
                let api_keys = wire::api::APIS.iter().filter_map(range).collect();
                self.answer(to, LATENCY, key, &ApiVersionsResponse { api_keys, ..Default::default() });
            }
            ApiKey::Metadata => self.answer(to, LATENCY, key, &self.metadata()),
            ApiKey::FindCoordinator => {
                let told =
                    Coordinator { node_id: 1, host: "broker-1".into(), port: 9092, ..Default::default() };
                let response = FindCoordinatorResponse { coordinators: vec![told], ..Default::default() };
                self.answer(to, LATENCY, key, &response);
            }
            ApiKey::Fetch => self.answer(to, EMPTY_FETCH, key, &FetchResponse::default()),
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(&mut r, version).unwrap();
                let partition = |p: &wire::messages::list_offsets_request::ListOffsetsPartition| {
                    ListOffsetsPartitionResponse {
                        partition_index: p.partition_index,
                        offset: 0,
                        ..Default::default()
                    }
                };
                let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
                    name: topic.name.clone(),
                    partitions: topic.partitions.iter().map(partition).collect(),
                });
                let response = ListOffsetsResponse { topics: topics.collect(), ..Default::default() };
                self.answer(to, LATENCY, key, &response);
            }
            ApiKey::OffsetFetch => {
                let frame = fetch(&mut Script::default(), ErrorCode::NONE, version, to.correlation, &mut r);
                let frame = frame.unwrap();
                let frame = frame.slice(4, frame.len() - 4);
                self.later(LATENCY, process, Input::Frame { conn, frame });
            }
            ApiKey::OffsetCommit => self.commit(to, &mut r),
            ApiKey::JoinGroup => self.join(to, &JoinGroupRequest::decode(&mut r, version).unwrap()),
            ApiKey::SyncGroup => self.sync(to, &SyncGroupRequest::decode(&mut r, version).unwrap()),
            ApiKey::Heartbeat => {
                let request = HeartbeatRequest::decode(&mut r, version).unwrap();
                let error = self.heard(&request.member_id, request.generation_id, true);
                self.answer(
                    to,
                    LATENCY,
                    key,
                    &HeartbeatResponse { error_code: error.0, ..Default::default() },
                );
            }
            ApiKey::LeaveGroup => {
                let request = LeaveGroupRequest::decode(&mut r, version).unwrap();
                let member = request.members[0].member_id.to_string();
                self.answer(to, LATENCY, key, &LeaveGroupResponse::default());
                self.remove(&member);
            }
            ApiKey::ConsumerGroupHeartbeat => {
                let request = ConsumerGroupHeartbeatRequest::decode(&mut r, version).unwrap();
                let response = self.consumer_heartbeat(&request);
                self.answer(to, LATENCY, key, &response);
            }
            other => panic!("{other}"),
        }
    }

    fn metadata(&self) -> MetadataResponse<'static> {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            ..MetadataResponsePartition::default()
        };
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: "broker-1".into(),
                port: 9092,
                rack: None,
            }],
            topics: vec![MetadataResponseTopic {
                name: Some(Cow::Borrowed(TOPIC)),
                topic_id: TOPIC_ID,
                partitions: (0..self.partitions).map(partition).collect(),
                ..MetadataResponseTopic::default()
            }],
            ..MetadataResponse::default()
        }
    }

    fn commit(&mut self, to: To, r: &mut Reader<'_>) {
        let request = OffsetCommitRequest::decode(r, to.version).unwrap();
        let (member, generation) = (request.member_id.to_string(), request.generation_id_or_member_epoch);
        let error = match self.modern.members.get(&member) {
            Some(known) if known.epoch == generation => ErrorCode::NONE,
            Some(_) => ErrorCode::STALE_MEMBER_EPOCH,
            None if self.classic.phase == Phase::Completing => ErrorCode::REBALANCE_IN_PROGRESS,
            None => self.heard(&member, generation, false),
        };
        let partition = |p: &wire::messages::offset_commit_request::OffsetCommitRequestPartition<'_>| {
            OffsetCommitResponsePartition { partition_index: p.partition_index, error_code: error.0 }
        };
        let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(partition).collect(),
        });
        let response = OffsetCommitResponse { topics: topics.collect(), ..Default::default() };
        self.answer(to, LATENCY, ApiKey::OffsetCommit, &response);
    }

    // --- classic

    fn at(&self, after: Nanos) -> Instant0 {
        Instant0((self.now + after).0)
    }

    fn heard(&mut self, member: &str, generation: i32, tells_rebalance: bool) -> ErrorCode {
        let session = self.at(SESSION);
        let Some(known) = self.classic.members.get_mut(member) else { return ErrorCode::UNKNOWN_MEMBER_ID };
        if generation != self.classic.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        known.session = session;
        match self.classic.phase {
            Phase::Preparing if tells_rebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            _ => ErrorCode::NONE,
        }
    }

    fn refuse_join(&mut self, to: To, error: ErrorCode, member: &str) {
        let response = JoinGroupResponse {
            error_code: error.0,
            generation_id: -1,
            member_id: Cow::Borrowed(member),
            ..Default::default()
        };
        self.answer(to, LATENCY, ApiKey::JoinGroup, &response);
    }

    fn join(&mut self, to: To, request: &JoinGroupRequest<'_>) {
        let id = request.member_id.to_string();
        if id.is_empty() {
            self.next += 1;
            let id = format!("m{:04}", self.next);
            self.classic.pending.insert(id.clone());
            return self.refuse_join(to, ErrorCode::MEMBER_ID_REQUIRED, &id);
        }
        if !self.classic.pending.remove(&id) && !self.classic.members.contains_key(&id) {
            return self.refuse_join(to, ErrorCode::UNKNOWN_MEMBER_ID, &id);
        }
        let session = self.at(SESSION);
        let member = self.classic.members.entry(id).or_default();
        member.metadata = request.protocols[0].metadata.to_vec();
        member.protocol = request.protocols[0].name.to_string();
        (member.joined, member.session) = (Some(to), session);
        self.rebalance();
    }

    fn rebalance(&mut self) {
        for to in
            self.classic.members.values_mut().filter_map(|member| member.synced.take()).collect::<Vec<_>>()
        {
            let response =
                SyncGroupResponse { error_code: ErrorCode::REBALANCE_IN_PROGRESS.0, ..Default::default() };
            self.answer(to, LATENCY, ApiKey::SyncGroup, &response);
        }
        if self.classic.phase != Phase::Preparing {
            let is_first = self.classic.phase == Phase::Empty;
            self.classic.may_complete_at = if is_first { self.at(FIRST_DELAY) } else { self.at(Nanos::ZERO) };
            self.classic.until = self.at(REBALANCE);
            self.classic.phase = Phase::Preparing;
        }
        self.maybe_complete();
    }

    fn maybe_complete(&mut self) {
        let now = self.at(Nanos::ZERO);
        let classic = &mut self.classic;
        if classic.phase != Phase::Preparing || now < classic.may_complete_at {
            return;
        }
        if now >= classic.until {
            classic.members.retain(|_, member| member.joined.is_some());
        }
        if !classic.members.values().all(|member| member.joined.is_some()) {
            return;
        }
        classic.generation += 1;
        if classic.members.is_empty() {
            classic.phase = Phase::Empty;
            return;
        }
        classic.phase = Phase::Completing;
        classic.until = Instant0((self.now + REBALANCE).0);
        if !classic.members.contains_key(&classic.leader) {
            classic.leader = classic.members.keys().next().unwrap().clone();
        }
        let (generation, leader) = (classic.generation, classic.leader.clone());
        let describe = |(id, member): (&String, &Member)| (id.clone(), member.metadata.clone());
        let all: Vec<(String, Vec<u8>)> = classic.members.iter().map(describe).collect();
        let joined: Vec<(String, String, To)> = classic
            .members
            .iter_mut()
            .filter_map(|(id, member)| Some((id.clone(), member.protocol.clone(), member.joined.take()?)))
            .collect();
        for (id, protocol, to) in joined {
            let member = |(id, metadata): &(String, Vec<u8>)| JoinGroupResponseMember {
                member_id: id.clone().into(),
                group_instance_id: None,
                metadata: metadata.clone().into(),
            };
            let members = if id == leader { all.iter().map(member).collect() } else { Vec::new() };
            let response = JoinGroupResponse {
                generation_id: generation,
                protocol_type: Some("consumer".into()),
                protocol_name: Some(protocol.into()),
                leader: leader.clone().into(),
                member_id: id.into(),
                members,
                ..Default::default()
            };
            self.answer(to, LATENCY, ApiKey::JoinGroup, &response);
        }
    }

    fn sync(&mut self, to: To, request: &SyncGroupRequest<'_>) {
        let id = request.member_id.to_string();
        let error = self.heard(&id, request.generation_id, true);
        if !error.is_none() {
            let response = SyncGroupResponse { error_code: error.0, ..Default::default() };
            return self.answer(to, LATENCY, ApiKey::SyncGroup, &response);
        }
        self.classic.members.get_mut(&id).unwrap().synced = Some(to);
        if id == self.classic.leader && self.classic.phase == Phase::Completing {
            for given in &request.assignments {
                if let Some(member) = self.classic.members.get_mut(given.member_id.as_ref()) {
                    member.assignment = given.assignment.to_vec();
                }
            }
            self.classic.phase = Phase::Stable;
        }
        if self.classic.phase != Phase::Stable {
            return;
        }
        let synced: Vec<(To, Vec<u8>)> = self
            .classic
            .members
            .values_mut()
            .filter_map(|member| Some((member.synced.take()?, member.assignment.clone())))
            .collect();
        for (to, assignment) in synced {
            let response = SyncGroupResponse { assignment: assignment.into(), ..Default::default() };
            self.answer(to, LATENCY, ApiKey::SyncGroup, &response);
        }
    }

    fn remove(&mut self, member: &str) {
        self.classic.pending.remove(member);
        if self.classic.members.remove(member).is_some() {
            self.rebalance();
        }
    }

    // --- KIP-848

    fn consumer_heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> ConsumerGroupHeartbeatResponse<'static> {
        let id = request.member_id.to_string();
        let session = self.at(SESSION);
        let mut response = ConsumerGroupHeartbeatResponse {
            member_id: Some(id.clone().into()),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 2000,
            ..Default::default()
        };
        if request.member_epoch < 0 {
            self.modern.members.remove(&id);
            self.retarget();
            return response;
        }
        if request.member_epoch == 0 {
            self.modern.members.insert(id.clone(), ModernMember::default());
            self.retarget();
        }
        let group_epoch = self.modern.epoch;
        let by_others: BTreeSet<i32> = {
            let others = self.modern.members.iter().filter(|(other, _)| **other != id);
            others.flat_map(|(_, other)| other.owned.iter().copied()).collect()
        };
        let Some(member) = self.modern.members.get_mut(&id) else {
            response.error_code = ErrorCode::UNKNOWN_MEMBER_ID.0;
            return response;
        };
        if request.member_epoch != member.epoch && request.member_epoch != 0 {
            response.error_code = ErrorCode::FENCED_MEMBER_EPOCH.0;
            return response;
        }
        member.session = session;
        if let Some(owned) = &request.topic_partitions {
            member.owned = owned.iter().flat_map(|topic| topic.partitions.iter().copied()).collect();
            // What it has been told and has not acknowledged may be its own any moment.
            if let Some(told) = &member.told {
                member.owned.extend(told.difference(&member.owned.clone()));
            }
        }
        let given = if member.owned.is_subset(&member.target) {
            member.epoch = group_epoch;
            member.target.difference(&by_others).copied().collect()
        } else {
            member.owned.intersection(&member.target).copied().collect::<BTreeSet<i32>>()
        };
        let acknowledged = request.topic_partitions.as_ref();
        let acknowledged: Option<BTreeSet<i32>> = acknowledged
            .map(|topics| topics.iter().flat_map(|topic| topic.partitions.iter().copied()).collect());
        if member.told.as_ref() != Some(&given) || request.member_epoch == 0 {
            member.told = Some(given.clone());
            member.owned.extend(&given);
            let topic = TopicPartitions { topic_id: TOPIC_ID, partitions: given.into_iter().collect() };
            response.assignment = Some(Assigned { topic_partitions: vec![topic] });
        } else if acknowledged.as_ref() == Some(&given) {
            member.owned = given;
        }
        response.member_epoch = member.epoch;
        assert_ne!(TOPIC_ID, Uuid::ZERO);
        response
    }

    /// Everybody in turn, and a new epoch.
    fn retarget(&mut self) {
        self.modern.epoch += 1;
        let count = self.modern.members.len();
        let partitions = self.partitions;
        for (at, member) in self.modern.members.values_mut().enumerate() {
            member.target = (0..partitions).filter(|p| *p as usize % count == at).collect();
        }
    }

    // --- time

    fn next_tick(&self) -> Option<Instant> {
        let sessions = self.classic.members.values().map(|member| member.session.0);
        let modern = self.modern.members.values().map(|member| member.session.0);
        let phase = match self.classic.phase {
            Phase::Preparing if self.classic.may_complete_at.0 > self.now.0 => {
                Some(self.classic.may_complete_at.0)
            }
            Phase::Preparing => Some(self.classic.until.0),
            _ => None,
        };
        sessions.chain(modern).chain(phase).min().map(Instant)
    }

    fn tick(&mut self) {
        let now = self.at(Nanos::ZERO);
        let dead = |(id, member): (&String, &Member)| {
            (member.session <= now && member.joined.is_none()).then(|| id.clone())
        };
        for id in self.classic.members.iter().filter_map(dead).collect::<Vec<_>>() {
            self.remove(&id);
        }
        // Who waits in JoinGroup has no session.
        let session = self.at(SESSION);
        for member in self.classic.members.values_mut().filter(|member| member.joined.is_some()) {
            member.session = session.max(member.session);
        }
        let before = self.modern.members.len();
        self.modern.members.retain(|_, member| member.session > now);
        if self.modern.members.len() != before {
            self.retarget();
        }
        self.maybe_complete();
    }
}

fn play(seed: u64, config: &[(&'static str, &'static str)]) -> usize {
    let mut chance = rng(seed);
    let mut world = World::new(config.to_vec(), 1 + below(&mut chance, 8) as i32);
    let name = format!("{seed} {config:?}");
    for step in 0..25 {
        let alive = world.alive();
        let pick = |chance: &mut Rng| alive[below(chance, alive.len() as u64) as usize];
        match below(&mut chance, 6) {
            _ if alive.is_empty() => world.spawn(seed * 100 + step),
            0 | 1 if alive.len() < 5 => world.spawn(seed * 100 + step),
            2 => world.processes[pick(&mut chance)] = None,
            3 => {
                let at = pick(&mut chance);
                let process = world.processes[at].as_mut().unwrap();
                let now = Now { mono: world.now, wall_ms: 0 };
                process.consumer.begin_close(now, &mut process.out);
                process.closing = true;
                process.owned.clear();
                process.out.items.retain(|output| !matches!(output, Output::Event(_)));
                world.input(at, Input::Timer);
            }
            4 if world.partitions < 12 => {
                world.partitions += 1;
                if !world.modern.members.is_empty() {
                    world.retarget();
                }
            }
            _ => {}
        }
        let wait = Nanos::from_millis(below(&mut chance, if step % 4 == 0 { 20_000 } else { 3_000 }));
        world.run(world.now + wait);
    }
    world.run(world.now + Nanos::from_millis(60_000));
    world.check_settled(&name);
    let joins = world.joins;
    world.run(world.now + Nanos::from_millis(60_000));
    world.check_settled(&name);
    assert_eq!(world.joins, joins, "{name}: a settled group is left alone");
    joins
}

#[test]
fn members_come_go_and_die() {
    const RANGE: &[(&str, &str)] = &[];
    const STICKY: &[(&str, &str)] =
        &[("partition.assignment.strategy", "org.apache.kafka.clients.consumer.StickyAssignor")];
    const COOPERATIVE: &[(&str, &str)] =
        &[("partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor")];
    const MODERN: &[(&str, &str)] = &[("group.protocol", "consumer")];
    let mut joins = 0;
    for seed in 0..40 {
        for config in [RANGE, STICKY, COOPERATIVE, MODERN] {
            let timing: &[(&str, &str)] = match config == MODERN {
                true => &[],
                false => &[("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "2000")],
            };
            let all: Vec<(&'static str, &'static str)> = config.iter().chain(timing).copied().collect();
            joins += play(seed, &all);
        }
    }
    assert!(joins > 3000, "{joins}: something happened");
}

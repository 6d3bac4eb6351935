//! A scripted cluster for tests: frames in, frames out, virtual time. One topic, `t`; brokers `broker-1:9092` ….
//!
//! It keeps real logs of the batches that it accepts and answers as Kafka does, unless the test says otherwise: a
//! broker may be down or silent, and a rule may refuse, lose or close on chosen requests.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use codecs::StdCodecs;
use rand_core::SeedableRng as _;
use wire::batch::{Batch, BatchBuilder, BatchOptions, HeaderIter};
use wire::drive::{ConnError, ConnId, Endpoint, Instant, Nanos, Now};
use wire::error::ErrorCode;
use wire::frame::{RequestHeader, encode_response, encode_response_at};
use wire::messages::api_versions_response::{ApiVersion, ApiVersionsResponse, FinalizedFeatureKey};
use wire::messages::fetch_request::FetchRequest;
use wire::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use wire::messages::list_offsets_request::ListOffsetsRequest;
use wire::messages::list_offsets_response::*;
use wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use wire::messages::metadata_response::*;
use wire::messages::offset_for_leader_epoch_request::OffsetForLeaderEpochRequest;
use wire::messages::offset_for_leader_epoch_response::*;
use wire::messages::produce_request::ProduceRequest;
use wire::messages::produce_response::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use wire::messages::{InitProducerIdRequest, InitProducerIdResponse};
use wire::{ApiKey, Codecs, Message, Reader, Rope, Uuid};

use crate::Rng;
use crate::backoff::below;
use crate::event::{ClientEvent, Fate, Made};
use crate::io::{Input, Output, Outputs, Process};

pub const TOPIC: &str = "t";
pub const TOPIC_ID: Uuid = Uuid([7; 16]);
const LATENCY: Nanos = Nanos::from_millis(1);
const WALL_AT_START: i64 = 1_767_225_600_000;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fall {
    /// It is done and answered.
    Answer,
    /// It is not done; the answer is this error.
    Refuse(ErrorCode),
    /// It is done, and the answer is this error.
    DoAndSay(ErrorCode),
    /// It is done, and the connection breaks.
    DoAndBreak,
    /// The connection breaks before it is done.
    Break,
}

/// A request as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub at: Instant,
    pub node: i32,
    pub key: ApiKey,
    pub version: i16,
}

pub trait Machine {
    fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs);
    fn deadline(&self) -> Option<Instant>;
}

impl Machine for Process {
    fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        Process::handle(self, now, input, codecs, out);
    }
    fn deadline(&self) -> Option<Instant> {
        Process::deadline(self)
    }
}

#[derive(Clone, Debug)]
pub struct Partition {
    pub leader: i32,
    pub epoch: i32,
    /// Batches with their offsets and leader epochs.
    pub log: Vec<Rope>,
    pub start: i64,
    /// Where the epochs that were led begin.
    pub epochs: Vec<(i32, i64)>,
}

impl Partition {
    pub fn end(&self) -> i64 {
        self.log.last().map_or(self.start, |batch| Batch::parse(batch).unwrap().header.next_offset())
    }

    /// The values, in order.
    pub fn values(&self) -> Vec<String> {
        let mut values = Vec::new();
        for batch in &self.log {
            for record in Batch::parse(batch).unwrap().records(&StdCodecs, 1 << 24).unwrap().iter() {
                let value = record.unwrap().value.unwrap_or_default();
                values.push(String::from_utf8_lossy(value).trim_end().to_string());
            }
        }
        values
    }

    pub fn append(&mut self, records: &Rope) -> i64 {
        let base = self.end();
        assert_eq!(HeaderIter::new(records).count(), 1, "one batch for each partition");
        Batch::parse(records).unwrap().check_crc(&StdCodecs).unwrap();
        if self.epochs.last().is_none_or(|&(epoch, _)| epoch < self.epoch) {
            self.epochs.push((self.epoch, base));
        }
        let mut bytes = records.to_bytes().to_vec();
        let head: &mut [u8; 16] = (&mut bytes[..16]).try_into().unwrap();
        let length = i32::from_be_bytes(head[8..12].try_into().unwrap());
        head[..8].copy_from_slice(&base.to_be_bytes());
        head[8..12].copy_from_slice(&length.to_be_bytes());
        head[12..].copy_from_slice(&self.epoch.to_be_bytes());
        self.log.push(Rope::from(bytes::Bytes::from(bytes)));
        base
    }

    /// What a leader does with a batch of an idempotent producer: appends it, knows its offset already, or refuses it.
    /// It knows the last five batches of a producer that are in the log.
    pub fn check_sequence(&self, records: &Rope) -> Result<Option<i64>, ErrorCode> {
        let new = Batch::parse(records).unwrap().header;
        let headers = self.log.iter().rev().map(|batch| Batch::parse(batch).unwrap().header);
        let known: Vec<_> = headers.filter(|known| known.producer_id == new.producer_id).take(5).collect();
        let Some(last) = known.first().filter(|_| new.has_producer_id()) else { return Ok(None) };
        let epoch = last.producer_epoch;
        let same = |known: &&wire::batch::BatchHeader| {
            known.producer_epoch == new.producer_epoch
                && new.producer_epoch == epoch
                && (known.base_sequence, known.last_sequence()) == (new.base_sequence, new.last_sequence())
        };
        if let Some(known) = known.iter().find(same) {
            return Ok(Some(known.base_offset));
        }
        let expected = match new.producer_epoch {
            older if older < epoch => return Err(ErrorCode::INVALID_PRODUCER_EPOCH),
            newer if newer > epoch => 0,
            _ => wire::batch::increment_sequence(last.last_sequence(), 1),
        };
        if new.base_sequence == expected { Ok(None) } else { Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER) }
    }

    /// Another broker leads, in a new epoch.
    pub fn elect(&mut self, leader: i32) {
        self.leader = leader;
        self.epoch += 1;
    }

    /// Cuts whole batches from `offset` on.
    pub fn truncate(&mut self, offset: i64) {
        self.log.retain(|batch| Batch::parse(batch).unwrap().header.next_offset() <= offset);
        self.epochs.retain(|&(_, start)| start < offset);
    }
}

enum Due {
    ToBroker { conn: ConnId, frame: Rope },
    ToClient { input: Input },
    Fetch { conn: ConnId, node: i32, version: i16, correlation: i32, wanted: Vec<(i32, i64)>, session: i32 },
}

/// Answers requests of an API in the cluster's stead: version, correlation id and body in, a whole frame out, or
/// silence.
pub type Handler = Box<dyn FnMut(i16, i32, &mut Reader<'_>) -> Option<Rope>>;

/// Decides about a request.
pub type Rule = Box<dyn FnMut(&Seen) -> Fall>;

/// The cluster, the time, and what the client did.
pub struct Fake {
    pub now: Instant,
    pub partitions: Vec<Partition>,
    pub topic_exists: bool,
    pub down: Vec<i32>,
    /// They accept nothing and answer nothing.
    pub silent: Vec<i32>,
    pub brokers: i32,
    pub sessions: bool,
    /// The replica that leaders tell consumers to read from.
    pub closest: Option<i32>,
    pub versions: BTreeMap<ApiKey, (i16, i16)>,
    /// The finalized features that brokers tell of.
    pub finalized: Vec<(&'static str, i16)>,
    pub rule: Rule,
    pub handlers: BTreeMap<ApiKey, Handler>,
    /// Damages every third answer.
    pub mangle: Option<Rng>,
    pub next_producer_id: i64,
    pub first_producer_epoch: i16,
    pub seen: Vec<Seen>,
    pub events: Vec<(Instant, ClientEvent)>,
    pub exit: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// A digest of all that the client put out.
    pub trace: Vec<u8>,
    conns: BTreeMap<ConnId, i32>,
    due: BTreeMap<(Instant, u64), Due>,
    next: u64,
    fetch_sessions: BTreeMap<i32, BTreeMap<i32, i64>>,
    /// What came on connections whose Fetch waits: a broker answers in order.
    held: BTreeMap<ConnId, Vec<Rope>>,
    out: Outputs,
}

pub fn rng(seed: u64) -> Rng {
    Rng::seed_from_u64(seed)
}

pub fn bootstrap() -> Vec<Endpoint> {
    vec![Endpoint::new("broker-1", 9092)]
}

pub fn ms(ms: u64) -> Instant {
    Instant(0).plus_millis(ms)
}

impl Fake {
    /// Brokers 1, 2, …, and partition `p` led by broker `p % brokers + 1`.
    pub fn new(brokers: i32, partitions: i32) -> Fake {
        let partition = |p: i32| Partition {
            leader: p % brokers + 1,
            epoch: 0,
            log: Vec::new(),
            start: 0,
            epochs: Vec::new(),
        };
        Fake {
            now: Instant(0),
            partitions: (0..partitions).map(partition).collect(),
            topic_exists: true,
            down: Vec::new(),
            silent: Vec::new(),
            brokers,
            sessions: true,
            closest: None,
            versions: BTreeMap::new(),
            finalized: Vec::new(),
            rule: Box::new(|_| Fall::Answer),
            handlers: BTreeMap::new(),
            mangle: None,
            next_producer_id: 1000,
            first_producer_epoch: 0,
            seen: Vec::new(),
            events: Vec::new(),
            exit: None,
            stdout: String::new(),
            stderr: String::new(),
            trace: Vec::new(),
            conns: BTreeMap::new(),
            due: BTreeMap::new(),
            next: 0,
            fetch_sessions: BTreeMap::new(),
            held: BTreeMap::new(),
            out: Outputs::new(0),
        }
    }

    /// Fills a partition with values as one batch, in its present epoch.
    pub fn produce(&mut self, partition: usize, values: &[&str]) {
        let mut builder = BatchBuilder::new();
        for value in values {
            builder.append(WALL_AT_START, None, Some(value.as_bytes()), &[]);
        }
        let batch = builder.finish(&StdCodecs, &BatchOptions::default()).unwrap();
        self.partitions[partition].append(&Rope::from(batch));
    }

    pub fn start(&mut self, machine: &mut dyn Machine) {
        self.input(machine, Input::Start);
    }

    pub fn stop(&mut self, machine: &mut dyn Machine) {
        self.input(machine, Input::Stop);
    }

    /// Lets time pass until `until`.
    pub fn run(&mut self, machine: &mut dyn Machine, until: Instant) {
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 1_000_000, "livelock at {:?}: {:?}", self.now, self.seen.last());
            let event = self.due.first_key_value().map(|(&(at, _), _)| at);
            let timer = machine.deadline().map(|at| at.max(self.now));
            match (event, timer) {
                (Some(at), timer) if at <= until && timer.is_none_or(|timer| at <= timer) => {
                    self.now = at;
                    let (_, due) = self.due.pop_first().unwrap();
                    self.deliver(machine, due);
                }
                (_, Some(at)) if at <= until => {
                    self.now = at;
                    self.input(machine, Input::Timer);
                }
                _ => break,
            }
        }
        self.now = until;
    }

    /// The process of a broker dies: its connections are reset.
    pub fn kill(&mut self, node: i32) {
        self.down.push(node);
        let dead: Vec<ConnId> =
            self.conns.iter().filter(|&(_, &to)| to == node).map(|(&conn, _)| conn).collect();
        for conn in dead {
            self.break_off(conn);
        }
    }

    pub fn count(&self, key: ApiKey) -> usize {
        self.seen.iter().filter(|seen| seen.key == key).count()
    }

    /// What was acknowledged: number, offset and partition; `-1` for an unknown offset.
    pub fn acked(&self) -> Vec<(u64, i64, i32)> {
        let mut acked = Vec::new();
        for (_, event) in &self.events {
            if let ClientEvent::BatchAcked { partition, base_offset, records } = event {
                for (i, made) in records.iter().enumerate() {
                    let offset = if *base_offset < 0 { -1 } else { base_offset + i as i64 };
                    acked.push((made.number, offset, partition.partition));
                }
            }
        }
        acked
    }

    pub fn failed(&self) -> Vec<(u64, Fate, &'static str, String)> {
        let mut failed = Vec::new();
        for (_, event) in &self.events {
            if let ClientEvent::BatchFailed { error, message, fate, records, .. } = event {
                let tell = |made: &Made| (made.number, *fate, *error, message.clone());
                failed.extend(records.iter().map(tell));
            }
        }
        failed
    }

    /// Offset and message number of what was polled of a partition.
    pub fn polled(&self, partition: i32) -> Vec<(i64, u32)> {
        let mut polled = Vec::new();
        for (_, event) in &self.events {
            if let ClientEvent::Polled(event) = event
                && event.partition.partition == partition
            {
                polled.extend(event.records.iter().map(|record| (record.offset, record.message.number)));
            }
        }
        polled
    }

    pub fn input(&mut self, machine: &mut dyn Machine, input: Input) {
        let wall_ms = WALL_AT_START + self.now.since(Instant(0)).as_millis() as i64;
        machine.handle(Now { mono: self.now, wall_ms }, input, &StdCodecs, &mut self.out);
        for output in core::mem::take(&mut self.out.items) {
            self.trace.extend_from_slice(format!("{:?} {output:?}\n", self.now).as_bytes());
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect { conn, to } => {
                let node = to.host.strip_prefix("broker-").and_then(|id| id.parse().ok());
                let Some(node) = node.filter(|node| (1..=self.brokers).contains(node)) else {
                    let input = Input::ConnectFailed { conn, why: ConnError::UnknownHost };
                    return self.later(LATENCY, Due::ToClient { input });
                };
                if self.silent.contains(&node) {
                    return;
                }
                let input = if self.down.contains(&node) {
                    Input::ConnectFailed { conn, why: ConnError::Refused }
                } else {
                    self.conns.insert(conn, node);
                    Input::Connected { conn }
                };
                self.later(LATENCY, Due::ToClient { input });
            }
            Output::Send { conn, frame } => self.later(LATENCY, Due::ToBroker { conn, frame }),
            Output::Close { conn } => drop(self.conns.remove(&conn)),
            Output::Event(event) => self.events.push((self.now, event)),
            Output::Stdout(text) => self.stdout.push_str(&text),
            Output::Stderr(text) => self.stderr.push_str(&text),
            Output::Exit { code } => self.exit = Some(code),
        }
    }

    fn later(&mut self, after: Nanos, due: Due) {
        self.next += 1;
        self.due.insert((self.now + after, self.next), due);
    }

    fn break_off(&mut self, conn: ConnId) {
        self.held.remove(&conn);
        if self.conns.remove(&conn).is_some() {
            self.later(LATENCY, Due::ToClient { input: Input::Closed { conn, why: ConnError::Reset } });
        }
    }

    fn deliver(&mut self, machine: &mut dyn Machine, due: Due) {
        match due {
            Due::ToClient { mut input } => {
                if let (Some(rng), Input::Frame { frame, .. }) = (&mut self.mangle, &mut input) {
                    mangle(frame, rng);
                }
                let dead = match &input {
                    Input::Frame { conn, .. } => !self.conns.contains_key(conn),
                    _ => false,
                };
                if !dead {
                    self.input(machine, input);
                }
            }
            Due::ToBroker { conn, frame } => {
                let Some(&node) = self.conns.get(&conn) else { return };
                if let Some(held) = self.held.get_mut(&conn) {
                    held.push(frame);
                } else if !self.silent.contains(&node) {
                    self.request(conn, node, &frame);
                }
            }
            Due::Fetch { conn, node, version, correlation, wanted, session } => {
                let response = self.fetch_response(node, version, &wanted, session);
                self.answer(conn, ApiKey::Fetch, version, correlation, &response);
                for frame in self.held.remove(&conn).unwrap_or_default() {
                    self.deliver(machine, Due::ToBroker { conn, frame });
                }
            }
        }
    }

    fn request(&mut self, conn: ConnId, node: i32, frame: &Rope) {
        let frame = frame.slice(4, frame.len() - 4);
        let mut r = Reader::new(&frame);
        let header = RequestHeader::decode(&mut r).unwrap();
        let (key, version) = (header.key().unwrap(), header.api_version);
        let seen = Seen { at: self.now, node, key, version };
        self.seen.push(seen);
        let fall = (self.rule)(&seen);
        if fall == Fall::Break {
            return self.break_off(conn);
        }
        let correlation = header.correlation_id;
        if let Some(handler) = self.handlers.get_mut(&key) {
            if let Some(frame) = handler(version, correlation, &mut r) {
                let frame = frame.slice(4, frame.len() - 4);
                self.later(LATENCY, Due::ToClient { input: Input::Frame { conn, frame } });
            }
            return;
        }
        match key {
            ApiKey::ApiVersions => self.api_versions(conn, version, correlation),
            ApiKey::Metadata => {
                let request = MetadataRequest::decode(&mut r, version).unwrap();
                let response = self.metadata(&request, version);
                self.answer_unless(fall, conn, key, version, correlation, &response);
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut r, version).unwrap();
                r.finish().unwrap();
                let response = self.produced(node, &request, version, fall);
                if request.acks != 0 {
                    self.answer_unless(fall, conn, key, version, correlation, &response);
                }
            }
            ApiKey::InitProducerId => {
                let request = InitProducerIdRequest::decode(&mut r, version).unwrap();
                assert_eq!(request.transactional_id, None);
                let response = self.producer_id(fall);
                self.answer_unless(fall, conn, key, version, correlation, &response);
            }
            ApiKey::Fetch => {
                let request = FetchRequest::decode(&mut r, version).unwrap();
                self.fetch(conn, node, &request, version, correlation, fall);
            }
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(&mut r, version).unwrap();
                let response = self.list_offsets(node, &request, fall);
                self.answer_unless(fall, conn, key, version, correlation, &response);
            }
            ApiKey::OffsetForLeaderEpoch => {
                let request = OffsetForLeaderEpochRequest::decode(&mut r, version).unwrap();
                let response = self.epoch_ends(node, &request);
                self.answer_unless(fall, conn, key, version, correlation, &response);
            }
            other => panic!("the scripted broker does not know {other}"),
        }
        if fall == Fall::DoAndBreak {
            self.break_off(conn);
        }
    }

    fn answer_unless<'a, M: Message<'a>>(
        &mut self,
        fall: Fall,
        conn: ConnId,
        key: ApiKey,
        version: i16,
        correlation: i32,
        response: &M,
    ) {
        if fall != Fall::DoAndBreak {
            self.answer(conn, key, version, correlation, response);
        }
    }

    pub fn answer<'a, M: Message<'a>>(
        &mut self,
        conn: ConnId,
        key: ApiKey,
        version: i16,
        correlation: i32,
        response: &M,
    ) {
        let frame = encode_response(key, version, correlation, response).unwrap();
        let frame = frame.slice(4, frame.len() - 4);
        self.later(LATENCY, Due::ToClient { input: Input::Frame { conn, frame } });
    }

    fn api_versions(&mut self, conn: ConnId, version: i16, correlation: i32) {
        let range = |info: &wire::ApiInfo| {
            let range = info.broker_versions()?;
            let (min, max) = self.versions.get(&info.key).copied().unwrap_or((range.min, range.max));
            Some(ApiVersion { api_key: info.key as i16, min_version: min, max_version: max })
        };
        let finalized = |&(name, level): &(&'static str, i16)| FinalizedFeatureKey {
            name: Cow::Borrowed(name),
            max_version_level: level,
            min_version_level: level,
        };
        let mut response = ApiVersionsResponse {
            api_keys: wire::api::APIS.iter().filter_map(range).collect(),
            finalized_features: self.finalized.iter().map(finalized).collect(),
            ..ApiVersionsResponse::default()
        };
        let latest = self.versions.get(&ApiKey::ApiVersions).map_or(4, |&(_, max)| max);
        let body_version = if version > latest {
            response.error_code = ErrorCode::UNSUPPORTED_VERSION.0;
            0
        } else {
            version
        };
        let frame =
            encode_response_at(ApiKey::ApiVersions, version, body_version, correlation, &response).unwrap();
        let frame = frame.slice(4, frame.len() - 4);
        self.later(LATENCY, Due::ToClient { input: Input::Frame { conn, frame } });
    }

    fn metadata(&self, request: &MetadataRequest<'_>, version: i16) -> MetadataResponse<'static> {
        let live = (1..=self.brokers).filter(|node| !self.down.contains(node));
        let brokers = live.map(|node| MetadataResponseBroker {
            node_id: node,
            host: Cow::Owned(format!("broker-{node}")),
            port: 9092,
            rack: None,
        });
        let topic = |name: &str| {
            let exists = self.topic_exists && name == TOPIC;
            let error = if exists { ErrorCode::NONE } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
            let partition = |(i, p): (usize, &Partition)| MetadataResponsePartition {
                error_code: 0,
                partition_index: i as i32,
                leader_id: p.leader,
                leader_epoch: p.epoch,
                replica_nodes: (1..=self.brokers).collect(),
                isr_nodes: vec![p.leader],
                offline_replicas: Vec::new(),
            };
            MetadataResponseTopic {
                error_code: error.0,
                name: Some(Cow::Owned(name.to_string())),
                topic_id: if exists && version >= 10 { TOPIC_ID } else { Uuid::ZERO },
                partitions: self.partitions.iter().enumerate().filter(|_| exists).map(partition).collect(),
                ..MetadataResponseTopic::default()
            }
        };
        let all = [MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(Cow::Borrowed(TOPIC)) }];
        let asked = request.topics.as_deref().unwrap_or(if self.topic_exists { &all } else { &[] }).iter();
        MetadataResponse {
            brokers: brokers.collect(),
            cluster_id: Some(Cow::Borrowed("test")),
            controller_id: 1,
            topics: asked
                .map(|asked| match asked.name.as_deref() {
                    Some(name) => topic(name),
                    None if asked.topic_id == TOPIC_ID => topic(TOPIC),
                    None => MetadataResponseTopic {
                        error_code: ErrorCode::UNKNOWN_TOPIC_ID.0,
                        topic_id: asked.topic_id,
                        ..MetadataResponseTopic::default()
                    },
                })
                .collect(),
            ..MetadataResponse::default()
        }
    }

    fn producer_id(&mut self, fall: Fall) -> InitProducerIdResponse {
        if let Fall::Refuse(error) = fall {
            let error_code = error.0;
            return InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() };
        }
        self.next_producer_id += 1;
        InitProducerIdResponse {
            producer_id: self.next_producer_id - 1,
            producer_epoch: self.first_producer_epoch,
            ..Default::default()
        }
    }

    fn produced(
        &mut self,
        node: i32,
        request: &ProduceRequest<'_>,
        version: i16,
        fall: Fall,
    ) -> ProduceResponse<'static> {
        let mut responses = Vec::new();
        for topic in &request.topic_data {
            let mut partition_responses = Vec::new();
            for data in &topic.partition_data {
                let partition = &mut self.partitions[data.index as usize];
                let mut response = PartitionProduceResponse {
                    index: data.index,
                    base_offset: -1,
                    ..PartitionProduceResponse::default()
                };
                let refused = match fall {
                    Fall::Refuse(error) => error,
                    _ if partition.leader != node => ErrorCode::NOT_LEADER_OR_FOLLOWER,
                    _ => ErrorCode::NONE,
                };
                response.error_code = refused.0;
                if refused == ErrorCode::NONE {
                    let records = data.records.as_ref().unwrap();
                    match partition.check_sequence(records) {
                        Ok(known) => {
                            response.base_offset = known.unwrap_or_else(|| partition.append(records));
                        }
                        Err(error) => response.error_code = error.0,
                    }
                    if let Fall::DoAndSay(error) = fall {
                        response.error_code = error.0;
                        response.base_offset = -1;
                    }
                }
                if refused == ErrorCode::NOT_LEADER_OR_FOLLOWER && version >= 10 && partition.leader > 0 {
                    response.current_leader.leader_id = partition.leader;
                    response.current_leader.leader_epoch = partition.epoch;
                }
                partition_responses.push(response);
            }
            responses.push(TopicProduceResponse {
                name: Cow::Owned(topic.name.to_string()),
                topic_id: topic.topic_id,
                partition_responses,
            });
        }
        ProduceResponse { responses, ..ProduceResponse::default() }
    }

    fn fetch(
        &mut self,
        conn: ConnId,
        node: i32,
        request: &FetchRequest<'_>,
        version: i16,
        correlation: i32,
        fall: Fall,
    ) {
        let mut session = request.session_id;
        if request.session_epoch == 0 {
            self.fetch_sessions.remove(&session);
            session = if self.sessions { 100 + self.next as i32 } else { 0 };
            self.fetch_sessions.insert(session, BTreeMap::new());
        }
        if request.session_epoch < 0 {
            self.fetch_sessions.remove(&session);
            return self.answer(conn, ApiKey::Fetch, version, correlation, &FetchResponse::default());
        }
        let Some(known) = self.fetch_sessions.get_mut(&session).filter(|_| fall == Fall::Answer) else {
            let error = match fall {
                Fall::Refuse(error) => error,
                _ => ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            };
            let response = FetchResponse { error_code: error.0, ..FetchResponse::default() };
            return self.answer(conn, ApiKey::Fetch, version, correlation, &response);
        };
        for partition in request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions) {
            known.remove(partition);
        }
        for partition in request.topics.iter().flat_map(|topic| &topic.partitions) {
            known.insert(partition.partition, partition.fetch_offset);
        }
        let wanted: Vec<(i32, i64)> = known.iter().map(|(&partition, &offset)| (partition, offset)).collect();
        let response = self.fetch_response(node, version, &wanted, session);
        if response.responses.is_empty() {
            let wait = Nanos::from_millis(request.max_wait_ms as u64);
            self.held.insert(conn, Vec::new());
            self.later(wait, Due::Fetch { conn, node, version, correlation, wanted, session });
        } else {
            self.answer(conn, ApiKey::Fetch, version, correlation, &response);
        }
    }

    fn fetch_response(
        &self,
        node: i32,
        version: i16,
        wanted: &[(i32, i64)],
        session_id: i32,
    ) -> FetchResponse<'static> {
        let mut partitions = Vec::new();
        for &(index, offset) in wanted {
            let partition = &self.partitions[index as usize];
            let mut data = PartitionData {
                partition_index: index,
                high_watermark: partition.end(),
                last_stable_offset: partition.end(),
                log_start_offset: partition.start,
                preferred_read_replica: -1,
                ..PartitionData::default()
            };
            if partition.leader == node && self.closest.is_some_and(|closest| closest != node) {
                data.preferred_read_replica = self.closest.expect("just seen");
            } else if partition.leader != node && self.closest != Some(node) {
                data.error_code = ErrorCode::NOT_LEADER_OR_FOLLOWER.0;
            } else if offset > partition.end() || offset < partition.start {
                data.error_code = ErrorCode::OFFSET_OUT_OF_RANGE.0;
            } else {
                let mut records = Rope::new();
                for batch in &partition.log {
                    if Batch::parse(batch).unwrap().header.next_offset() > offset {
                        records.append(batch.clone());
                    }
                }
                if records.is_empty() {
                    continue;
                }
                data.records = Some(records);
            }
            partitions.push(data);
        }
        let topic = FetchableTopicResponse {
            topic: if version <= 12 { Cow::Borrowed(TOPIC) } else { Cow::Borrowed("") },
            topic_id: if version > 12 { TOPIC_ID } else { Uuid::ZERO },
            partitions,
        };
        let responses = if topic.partitions.is_empty() { Vec::new() } else { vec![topic] };
        FetchResponse { session_id, responses, ..FetchResponse::default() }
    }

    fn list_offsets(
        &self,
        node: i32,
        request: &ListOffsetsRequest<'_>,
        fall: Fall,
    ) -> ListOffsetsResponse<'static> {
        let answer = |asked: &wire::messages::list_offsets_request::ListOffsetsPartition| {
            let partition = &self.partitions[asked.partition_index as usize];
            let error = match fall {
                Fall::Refuse(error) => error,
                _ if partition.leader != node => ErrorCode::NOT_LEADER_OR_FOLLOWER,
                _ => ErrorCode::NONE,
            };
            ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                error_code: error.0,
                timestamp: -1,
                offset: if asked.timestamp == -2 { partition.start } else { partition.end() },
                leader_epoch: partition.epoch,
            }
        };
        let topic = |topic: &wire::messages::list_offsets_request::ListOffsetsTopic<'_>| {
            let partitions = topic.partitions.iter().map(answer).collect();
            ListOffsetsTopicResponse { name: Cow::Owned(topic.name.to_string()), partitions }
        };
        ListOffsetsResponse { topics: request.topics.iter().map(topic).collect(), ..Default::default() }
    }

    fn epoch_ends(
        &self,
        node: i32,
        request: &OffsetForLeaderEpochRequest<'_>,
    ) -> OffsetForLeaderEpochResponse<'static> {
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for asked in &topic.partitions {
                let partition = &self.partitions[asked.partition as usize];
                let error = if partition.leader == node { 0 } else { ErrorCode::NOT_LEADER_OR_FOLLOWER.0 };
                let epoch = partition.epochs.iter().rev().find(|&&(epoch, _)| epoch <= asked.leader_epoch);
                let next = partition.epochs.iter().find(|&&(epoch, _)| epoch > asked.leader_epoch);
                partitions.push(EpochEndOffset {
                    error_code: error,
                    partition: asked.partition,
                    leader_epoch: epoch.map_or(-1, |&(epoch, _)| epoch),
                    end_offset: match (epoch, next) {
                        (None, _) => -1,
                        (Some(_), Some(&(_, start))) => start,
                        (Some(_), None) => partition.end(),
                    },
                });
            }
            topics
                .push(OffsetForLeaderTopicResult { topic: Cow::Owned(topic.topic.to_string()), partitions });
        }
        OffsetForLeaderEpochResponse { topics, ..Default::default() }
    }
}

/// Flips bits of every third frame, or cuts it off.
fn mangle(frame: &mut Rope, rng: &mut Rng) {
    let mut bytes = frame.to_bytes().to_vec();
    // The correlation id stays, so that what comes after it is looked at.
    if below(rng, 3) > 0 || bytes.len() <= 4 {
        return;
    }
    let at = 4 + below(rng, bytes.len() as u64 - 4) as usize;
    match below(rng, 4) {
        0 => bytes.truncate(at),
        1 => bytes[at] = 0xff,
        _ => bytes[at] ^= 1 << below(rng, 8),
    }
    *frame = Rope::from(bytes::Bytes::from(bytes));
}

/// Settings from pairs.
pub fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// A topic's name as specs want it.
pub fn topic() -> Arc<str> {
    TOPIC.into()
}

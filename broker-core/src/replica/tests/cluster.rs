//! A few replica managers with their connections and disks, in virtual time. There is no controller: the test scripts
//! the metadata, and the cluster answers AlterPartition as a controller would.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use codecs::StdCodecs;
use rand_core::SeedableRng;
use wire::batch::{BatchBuilder, BatchOptions, Batches};
use wire::drive::{ConnError, ConnId, Endpoint, Instant, Now};
use wire::frame::{RequestHeader, decode_response, encode_request, encode_response};
use wire::messages::alter_partition_response::{PartitionData, TopicData};
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::{
    AlterPartitionRequest, AlterPartitionResponse, AssignReplicasToDirsRequest, AssignReplicasToDirsResponse,
    DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    ProduceResponse,
};
use wire::records::{
    ConfigRecord, MetadataRecord, PartitionChangeRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord,
};
use wire::{ApiKey, ErrorCode, Message, Reader, Request, Rope, Uuid};

use super::super::{ReplicaManager, ReplicaRole, ReplicaView};
use crate::config::NodeConfig;
use crate::ctx::{Ctx, Rng};
use crate::event::Event;
use crate::io::{Listener, Output, Outputs};
use crate::log::LogDir;
use crate::metadata::{ImageDelta, MetadataImage, TopicIdPartition};
use crate::net::{Arrived, Call, CallOutcome, Net, Peer, RequestToken};
use crate::testing::{MemDisk, Unsynced};

pub(super) const TOPIC: &str = "purchases";
pub(super) const TOPIC_ID: Uuid = Uuid([7; 16]);
const CONTROLLER: i32 = 100;
const LATENCY_NS: u64 = 1_000_000;
const T0: i64 = 1_700_000_000_000;

/// Who is at an end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Actor {
    Node(i32),
    Controller,
    Client,
}

#[derive(Clone, Debug)]
enum What {
    Accepted,
    Connected,
    Frame(Rope),
    Closed,
    Metadata,
}

/// What the controller does with AlterPartition requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    /// Applies them and tells everybody.
    Decides,
    /// Answers with this for every partition, and changes nothing.
    Refuses(ErrorCode),
    /// Never answers.
    Silent,
}

#[derive(Clone)]
pub(super) struct Broker {
    pub disk: MemDisk,
    pub manager: ReplicaManager,
    net: Net,
    out: Outputs,
    rng: Rng,
    config: NodeConfig,
    image: MetadataImage,
    applied: usize,
    pub up: bool,
    pub stopped: bool,
}

/// A request that a test made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    conn: ConnId,
    version: i16,
    at: Instant,
}

/// Broker, partition, and the proposed ISR with broker epochs.
type Proposal = (i32, i32, Vec<(i32, i64)>);

#[derive(Clone)]
pub(super) struct Cluster {
    pub now: Instant,
    brokers: BTreeMap<i32, Broker>,
    queue: BTreeMap<(Instant, u64), (Actor, ConnId, What)>,
    seq: u64,
    /// The other end of each connection.
    ends: BTreeMap<(Actor, ConnId), (Actor, ConnId)>,
    /// Pairs between which frames are lost, in that direction.
    cuts: BTreeSet<(Actor, Actor)>,
    next_client: u64,
    replies: BTreeMap<ConnId, (Instant, Option<Rope>)>,
    pub records: Vec<MetadataRecord>,
    image: MetadataImage,
    /// Brokers that hear nothing of the metadata.
    pub deaf: BTreeSet<i32>,
    pub controller: Controller,
    /// Every AlterPartition request that arrived: broker, partition, proposed ISR with broker epochs.
    pub proposals: Vec<Proposal>,
    /// Every assignment of a replica to a log directory that arrived: broker, partition, directory.
    pub assignments: Vec<(i32, i32, Uuid)>,
    pub events: Vec<(Instant, i32, Event)>,
    overrides: BTreeMap<String, String>,
    /// Frames that were delivered to brokers.
    pub frames: u64,
}

impl Cluster {
    /// Brokers 1 to `n`, running, with no topic.
    pub(super) fn new(n: i32) -> Cluster {
        Cluster::configured(n, &[])
    }

    /// The same, with settings for `server.properties`.
    pub(super) fn configured(n: i32, settings: &[(&str, &str)]) -> Cluster {
        let overrides = settings.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut cluster = Cluster {
            now: Instant(1_000_000_000),
            brokers: BTreeMap::new(),
            queue: BTreeMap::new(),
            seq: 0,
            ends: BTreeMap::new(),
            cuts: BTreeSet::new(),
            next_client: 0,
            replies: BTreeMap::new(),
            records: Vec::new(),
            image: MetadataImage::default(),
            deaf: BTreeSet::new(),
            controller: Controller::Decides,
            proposals: Vec::new(),
            assignments: Vec::new(),
            events: Vec::new(),
            overrides,
            frames: 0,
        };
        for id in 1..=n {
            let mut disk = MemDisk::new();
            use crate::disk::Disk as _;
            for (at, dir) in cluster.config(id).log_dirs.iter().enumerate() {
                disk.mkdir(dir).unwrap();
                if at > 0 {
                    // Only further directories have ids here, as if the first were from before they had.
                    let mut dir = LogDir::open(dir, &mut disk).unwrap();
                    dir.write_meta(&mut disk, "cluster", id, Uuid([200 + at as u8; 16]));
                }
            }
            disk.take_synced();
            cluster.register(id);
            cluster.boot(id, disk);
        }
        cluster.run_ms(10);
        cluster
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, wall_ms: T0 + (self.now.0 / 1_000_000) as i64 }
    }

    // --- metadata

    fn register(&mut self, id: i32) {
        let epoch = self.records.len() as i64;
        self.register_in(id, epoch, None);
    }

    /// Broker and rack.
    pub(super) fn set_rack(&mut self, id: i32, rack: &'static str) {
        let epoch = self.image.broker(id).expect("it is registered").epoch;
        self.register_in(id, epoch, Some(rack));
    }

    fn register_in(&mut self, id: i32, epoch: i64, rack: Option<&'static str>) {
        self.publish(MetadataRecord::RegisterBroker(RegisterBrokerRecord {
            broker_id: id,
            broker_epoch: epoch,
            fenced: false,
            rack: rack.map(Into::into),
            end_points: vec![wire::records::register_broker_record::BrokerEndpoint {
                name: "PLAINTEXT".into(),
                host: format!("broker-{id}"),
                port: 9092,
                security_protocol: 0,
            }],
            ..RegisterBrokerRecord::default()
        }));
    }

    /// Commits a record; brokers hear of it a little later.
    pub(super) fn publish(&mut self, record: MetadataRecord) {
        let mut delta = ImageDelta::default();
        self.image.apply(&record, self.records.len() as i64, &mut delta).expect("a record that fits");
        self.records.push(record);
        let ids: Vec<i32> = self.brokers.keys().copied().collect();
        for id in ids {
            self.schedule(Actor::Node(id), ConnId(0), What::Metadata);
        }
    }

    /// Makes the topic with one partition.
    pub(super) fn create_topic(&mut self, replicas: &[i32], min_isr: i32) {
        self.publish(MetadataRecord::Topic(TopicRecord { name: TOPIC.into(), topic_id: TOPIC_ID }));
        self.set_topic_config("min.insync.replicas", &min_isr.to_string());
        self.add_partition(0, replicas);
        self.run_ms(50);
    }

    pub(super) fn add_partition(&mut self, partition: i32, replicas: &[i32]) {
        self.publish(MetadataRecord::Partition(PartitionRecord {
            partition_id: partition,
            topic_id: TOPIC_ID,
            replicas: replicas.to_vec(),
            isr: replicas.to_vec(),
            leader: replicas[0],
            leader_epoch: 0,
            partition_epoch: 0,
            directories: vec![Uuid::ZERO; replicas.len()],
            ..PartitionRecord::default()
        }));
    }

    pub(super) fn set_topic_config(&mut self, name: &str, value: &str) {
        self.publish(MetadataRecord::Config(ConfigRecord {
            resource_type: 2,
            resource_name: TOPIC.into(),
            name: name.to_owned(),
            value: Some(value.to_owned()),
        }));
    }

    /// Another leader, in a new epoch, with this ISR.
    pub(super) fn elect(&mut self, leader: i32, isr: &[i32]) {
        self.publish(MetadataRecord::PartitionChange(PartitionChangeRecord {
            partition_id: 0,
            topic_id: TOPIC_ID,
            leader,
            isr: Some(isr.to_vec()),
            ..PartitionChangeRecord::default()
        }));
    }

    /// Another ISR, in the same epoch.
    pub(super) fn set_isr(&mut self, isr: &[i32]) {
        self.publish(MetadataRecord::PartitionChange(PartitionChangeRecord {
            partition_id: 0,
            topic_id: TOPIC_ID,
            isr: Some(isr.to_vec()),
            ..PartitionChangeRecord::default()
        }));
    }

    pub(super) fn fence(&mut self, id: i32) {
        let epoch = self.image.broker(id).unwrap().epoch;
        self.publish(MetadataRecord::FenceBroker(wire::records::FenceBrokerRecord { id, epoch }));
    }

    pub(super) fn unfence(&mut self, id: i32) {
        let epoch = self.image.broker(id).unwrap().epoch;
        self.publish(MetadataRecord::UnfenceBroker(wire::records::UnfenceBrokerRecord { id, epoch }));
    }

    fn catch_up(&mut self, id: i32) {
        if self.deaf.contains(&id) {
            return;
        }
        let broker = self.brokers.get_mut(&id).unwrap();
        if !broker.up {
            return;
        }
        let mut delta = ImageDelta::default();
        while broker.applied < self.records.len() {
            let at = broker.applied;
            broker.image.apply(&self.records[at], at as i64, &mut delta).unwrap();
            broker.applied += 1;
        }
        if !delta.is_empty() {
            self.with(id, |manager, ctx, image| manager.on_metadata(ctx, image, &delta));
        }
    }

    // --- brokers

    fn config(&self, id: i32) -> NodeConfig {
        let mut given = BTreeMap::from([
            ("node.id".to_string(), id.to_string()),
            ("process.roles".to_string(), "broker".to_string()),
            ("controller.quorum.voters".to_string(), format!("{CONTROLLER}@controller:9093")),
            ("controller.listener.names".to_string(), "CONTROLLER".to_string()),
            (
                "listener.security.protocol.map".to_string(),
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_string(),
            ),
            ("listeners".to_string(), format!("PLAINTEXT://broker-{id}:9092")),
            ("log.dirs".to_string(), "data".to_string()),
        ]);
        given.extend(self.overrides.clone());
        NodeConfig::parse(&given).expect("a configuration")
    }

    fn boot(&mut self, id: i32, mut disk: MemDisk) {
        let config = self.config(id);
        let mut out = Outputs::new(0);
        let dirs: Vec<LogDir> =
            config.log_dirs.iter().filter_map(|path| LogDir::open(path, &mut disk).ok()).collect();
        let mut manager = ReplicaManager::open(&config, dirs, self.clock(), &mut disk, &StdCodecs, &mut out);
        manager.set_broker_epoch(self.image.broker(id).unwrap().epoch);
        let mut net = Net::new(&config);
        net.set_active_controller(Some(CONTROLLER));
        for other in self.image.brokers.keys() {
            net.set_endpoint(Peer::Broker(*other), Endpoint::new(format!("broker-{other}"), 9092));
        }
        let rng = Rng::seed_from_u64(id as u64);
        let broker = Broker {
            disk,
            manager,
            net,
            out,
            rng,
            config,
            image: MetadataImage::default(),
            applied: 0,
            up: true,
            stopped: false,
        };
        self.brokers.insert(id, broker);
        for other in self.brokers.values_mut() {
            other.net.set_endpoint(Peer::Broker(id), Endpoint::new(format!("broker-{id}"), 9092));
        }
        self.catch_up(id);
        self.with(id, |manager, ctx, _| manager.metadata_caught_up(ctx));
    }

    pub(super) fn broker(&self, id: i32) -> &Broker {
        &self.brokers[&id]
    }

    pub(super) fn disk_mut(&mut self, id: i32) -> &mut MemDisk {
        &mut self.brokers.get_mut(&id).unwrap().disk
    }

    /// kill -9: the page cache stays, connections break.
    pub(super) fn kill(&mut self, id: i32) {
        let broker = self.brokers.get_mut(&id).unwrap();
        broker.up = false;
        broker.disk.crash();
        self.break_connections(id);
    }

    /// The host loses its power.
    pub(super) fn power_off(&mut self, id: i32, unsynced: Unsynced) {
        let broker = self.brokers.get_mut(&id).unwrap();
        broker.up = false;
        broker.disk.power_loss(unsynced);
        self.break_connections(id);
    }

    fn break_connections(&mut self, id: i32) {
        let mine: Vec<_> = self.ends.keys().filter(|(actor, _)| *actor == Actor::Node(id)).copied().collect();
        for end in mine {
            let (actor, conn) = self.ends.remove(&end).unwrap();
            self.ends.remove(&(actor, conn));
            self.schedule(actor, conn, What::Closed);
        }
        self.queue.retain(|_, (actor, _, _)| *actor != Actor::Node(id));
    }

    /// A new incarnation, registered anew.
    pub(super) fn start(&mut self, id: i32) {
        assert!(!self.brokers[&id].up);
        let disk = self.brokers[&id].disk.clone();
        self.register(id);
        self.boot(id, disk);
    }

    /// An orderly stop: waits until everything is durable.
    pub(super) fn stop(&mut self, id: i32) {
        self.with(id, |manager, ctx, _| manager.shutdown(ctx));
        self.run_ms(5);
        assert!(self.brokers[&id].manager.is_shut_down());
        self.kill(id);
    }

    /// Frames from one broker to another are lost.
    pub(super) fn cut(&mut self, from: i32, to: i32) {
        self.cuts.insert((Actor::Node(from), Actor::Node(to)));
    }

    pub(super) fn cut_both(&mut self, a: i32, b: i32) {
        self.cut(a, b);
        self.cut(b, a);
    }

    pub(super) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// The replica of the topic's first partition on a broker.
    pub(super) fn replica(&self, id: i32) -> ReplicaView<'_> {
        let mut all = self.brokers[&id].manager.partitions();
        all.find(|r| &**r.topic == TOPIC && r.partition == 0).expect("a replica")
    }

    pub(super) fn end(&self, id: i32) -> i64 {
        self.replica(id).log.unwrap().log_end_offset()
    }

    pub(super) fn high_watermark(&self, id: i32) -> i64 {
        self.replica(id).high_watermark
    }

    /// `offset:value@epoch` for every record of a broker's log.
    pub(super) fn log(&self, id: i32) -> Vec<String> {
        let mut disk = self.brokers[&id].disk.clone();
        let log = self.replica(id).log.unwrap().clone();
        let mut found = Vec::new();
        let mut offset = log.log_start_offset();
        while offset < log.log_end_offset() {
            let data = log.read(&mut disk, offset, i64::MAX, 1 << 20, true).unwrap();
            for batch in Batches::new(&data.records) {
                let batch = batch.unwrap();
                for record in batch.records(&StdCodecs, 1 << 20).unwrap().iter() {
                    let record = record.unwrap();
                    let value = core::str::from_utf8(record.value.unwrap()).unwrap().to_owned();
                    found.push(format!("{}:{value}@{}", record.offset, batch.header.partition_leader_epoch));
                }
                offset = batch.header.next_offset();
            }
        }
        found
    }

    /// What the leader of the first partition believes of its ISR.
    pub(super) fn leader_isr(&self, id: i32) -> Vec<i32> {
        let replica = self.replica(id);
        assert_eq!(replica.role, ReplicaRole::Leader);
        replica.isr.to_vec()
    }

    /// The events of a broker that `pick` picks.
    pub(super) fn events_of<T>(&self, id: i32, pick: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.events.iter().filter(|(_, node, _)| *node == id).filter_map(|(_, _, e)| pick(e)).collect()
    }

    // --- clients

    /// Sends a request to a broker, on a connection of its own.
    pub(super) fn ask<'r, R: Request<'r>>(&mut self, id: i32, version: i16, request: &R) -> Asked {
        let conn = self.connect(id);
        self.ask_on(conn, version, request)
    }

    /// A client's connection to a broker.
    pub(super) fn connect(&mut self, id: i32) -> ConnId {
        self.next_client += 1;
        let conn = ConnId(self.next_client);
        let theirs = self.brokers.get_mut(&id).unwrap().out.next_conn();
        self.ends.insert((Actor::Client, conn), (Actor::Node(id), theirs));
        self.ends.insert((Actor::Node(id), theirs), (Actor::Client, conn));
        self.schedule(Actor::Node(id), theirs, What::Accepted);
        conn
    }

    /// Sends a request on a connection that stands.
    pub(super) fn ask_on<'r, R: Request<'r>>(&mut self, conn: ConnId, version: i16, request: &R) -> Asked {
        self.replies.remove(&conn);
        let frame = encode_request(version, 1, Some("test"), request).unwrap();
        if let Some(&(actor, theirs)) = self.ends.get(&(Actor::Client, conn)) {
            self.schedule(actor, theirs, What::Frame(frame.slice(4, frame.len() - 4)));
        }
        Asked { conn, version, at: self.now }
    }

    /// What came back, if something did: the body of the response.
    pub(super) fn reply(&self, asked: Asked) -> Option<Rope> {
        self.replies.get(&asked.conn).and_then(|(_, frame)| frame.clone())
    }

    /// How long the answer took, in milliseconds.
    pub(super) fn took_ms(&self, asked: Asked) -> u64 {
        self.replies[&asked.conn].0.since(asked.at).as_millis()
    }

    pub(super) fn was_closed(&self, asked: Asked) -> bool {
        matches!(self.replies.get(&asked.conn), Some((_, None)))
    }

    /// Sends values to the first partition.
    pub(super) fn produce(&mut self, id: i32, acks: i16, values: &[&str]) -> Asked {
        self.produce_within(id, acks, 30_000, values)
    }

    pub(super) fn produce_within(&mut self, id: i32, acks: i16, timeout_ms: i32, values: &[&str]) -> Asked {
        let request = produce_request(acks, timeout_ms, 0, batch(values));
        self.ask(id, 12, &request)
    }

    /// What became of a produce request: the error and the base offset, if it was answered.
    pub(super) fn produced(&self, asked: Asked) -> Option<(ErrorCode, i64)> {
        let frame = self.reply(asked)?;
        let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, asked.version).unwrap();
        let response: ProduceResponse<'_> = response;
        let part = &response.responses[0].partition_responses[0];
        Some((ErrorCode(part.error_code), part.base_offset))
    }

    /// Produces and waits until it is acknowledged.
    pub(super) fn produce_all(&mut self, id: i32, values: &[&str]) -> i64 {
        let asked = self.produce(id, -1, values);
        self.run_ms(600);
        let (error, offset) = self.produced(asked).expect("it is acknowledged");
        assert_eq!(error, ErrorCode::NONE);
        offset
    }

    // --- time

    /// Lets time pass.
    pub(super) fn run_ms(&mut self, ms: u64) {
        let until = self.now.plus_millis(ms);
        for _ in 0..2_000_000 {
            let timer = self.brokers.iter().filter(|(_, b)| b.up);
            let timer = timer.filter_map(|(id, b)| {
                let deadline = [b.manager.deadline(), b.net.deadline()].into_iter().flatten().min();
                Some((deadline?, *id))
            });
            let timer = timer.min();
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            match (event, timer) {
                (Some(at), timer) if at <= until && timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = self.now.max(at);
                    let (_, (actor, conn, what)) = self.queue.pop_first().unwrap();
                    self.happen(actor, conn, what);
                }
                (_, Some((due, id))) if due <= until => {
                    self.now = self.now.max(due);
                    self.timer(id);
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("time does not pass");
    }

    fn schedule(&mut self, actor: Actor, conn: ConnId, what: What) {
        self.seq += 1;
        self.queue.insert((Instant(self.now.0 + LATENCY_NS), self.seq), (actor, conn, what));
    }

    fn happen(&mut self, actor: Actor, conn: ConnId, what: What) {
        match actor {
            Actor::Client => match what {
                What::Frame(frame) => {
                    self.replies.insert(conn, (self.now, Some(frame.slice(4, frame.len() - 4))));
                }
                What::Closed => {
                    self.replies.insert(conn, (self.now, None));
                }
                _ => {}
            },
            Actor::Controller => {
                if let What::Frame(frame) = what {
                    self.controller_frame(conn, &frame.slice(4, frame.len() - 4));
                }
            }
            Actor::Node(id) => {
                if !self.brokers[&id].up {
                    return;
                }
                self.node_input(id, conn, what);
            }
        }
    }

    fn node_input(&mut self, id: i32, conn: ConnId, what: What) {
        let now = self.clock();
        let broker = self.brokers.get_mut(&id).unwrap();
        match what {
            What::Metadata => return self.catch_up(id),
            What::Accepted => broker.net.accepted(now, conn, Listener::Broker, "10.0.0.9".into()),
            What::Connected => broker.net.connected(now, &mut broker.out, conn),
            What::Closed => broker.net.closed(now, conn, ConnError::Reset),
            What::Frame(frame) => {
                self.frames += 1;
                let arrived = broker.net.frame(now, &mut broker.out, conn, frame);
                self.arrived(id, arrived);
            }
        }
        self.settle(id);
    }

    fn arrived(&mut self, id: i32, arrived: Arrived) {
        match arrived {
            Arrived::Request { conn, frame, .. } => self.request(id, conn, &frame),
            Arrived::Answer(call, outcome) => self.outcome(id, call, outcome),
            Arrived::Nothing => {}
        }
    }

    fn request(&mut self, id: i32, conn: ConnId, frame: &Rope) {
        let mut r = Reader::new(frame);
        let header = RequestHeader::decode(&mut r).unwrap();
        let key = header.key().unwrap();
        let version = header.api_version;
        let token = RequestToken {
            conn,
            listener: Listener::Broker,
            key,
            version,
            correlation_id: header.correlation_id,
            envelope: None,
        };
        self.with(id, |manager, ctx, image| match key {
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut r, version).unwrap();
                manager.handle_produce(ctx, image, token, &request);
            }
            ApiKey::Fetch => {
                let request = FetchRequest::decode(&mut r, version).unwrap();
                manager.handle_fetch(ctx, image, token, &request);
            }
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(&mut r, version).unwrap();
                manager.handle_list_offsets(ctx, image, token, &request);
            }
            ApiKey::OffsetForLeaderEpoch => {
                let request = OffsetForLeaderEpochRequest::decode(&mut r, version).unwrap();
                manager.handle_offset_for_leader_epoch(ctx, image, token, &request);
            }
            ApiKey::DeleteRecords => {
                let request = DeleteRecordsRequest::decode(&mut r, version).unwrap();
                manager.handle_delete_records(ctx, image, token, &request);
            }
            other => panic!("a request of {other}"),
        });
    }

    fn outcome(&mut self, id: i32, call: Call, outcome: CallOutcome) {
        self.with(id, |manager, ctx, image| match call {
            Call::Fetcher(call) => manager.handle_fetch_outcome(ctx, image, call, outcome),
            Call::AlterPartition(call) => manager.handle_alter_partition_outcome(ctx, image, call, outcome),
            other => panic!("an outcome of {other:?}"),
        });
    }

    fn timer(&mut self, id: i32) {
        let now = self.clock();
        let broker = self.brokers.get_mut(&id).unwrap();
        if broker.net.deadline().is_some_and(|at| at <= now.mono) {
            broker.net.on_timer(now, &mut broker.out);
        }
        if broker.manager.deadline().is_some_and(|at| at <= now.mono) {
            self.with(id, |manager, ctx, image| manager.on_timer(ctx, image));
        }
        self.settle(id);
    }

    /// Calls into a broker's replica manager.
    pub(super) fn with<T>(
        &mut self,
        id: i32,
        act: impl FnOnce(&mut ReplicaManager, &mut Ctx<'_>, &MetadataImage) -> T,
    ) -> T {
        let now = self.clock();
        let broker = self.brokers.get_mut(&id).unwrap();
        let mut ctx = Ctx {
            now,
            disk: &mut broker.disk,
            codecs: &StdCodecs,
            out: &mut broker.out,
            net: &mut broker.net,
            rng: &mut broker.rng,
            config: &broker.config,
        };
        let result = act(&mut broker.manager, &mut ctx, &broker.image);
        broker.manager.check_invariants();
        self.settle(id);
        result
    }

    /// Hands on what a call left behind: finished syncs, failed calls, queued requests, outputs.
    fn settle(&mut self, id: i32) {
        loop {
            let broker = self.brokers.get_mut(&id).unwrap();
            if let Some((call, outcome)) = broker.net.next_outcome() {
                self.outcome(id, call, outcome);
                continue;
            }
            if let Some((conn, _, frame)) = broker.net.next_request(&mut broker.out) {
                self.request(id, conn, &frame);
                continue;
            }
            let synced = broker.disk.take_synced();
            if !synced.is_empty() {
                for (ticket, result) in synced {
                    self.with(id, |manager, ctx, image| manager.synced(ctx, image, ticket, result));
                }
                continue;
            }
            break;
        }
        let items = core::mem::take(&mut self.brokers.get_mut(&id).unwrap().out.items);
        for item in items {
            self.output(id, item);
        }
    }

    fn output(&mut self, id: i32, item: Output) {
        let me = Actor::Node(id);
        match item {
            Output::Connect { conn, to } => {
                let (actor, theirs) = match to.host.strip_prefix("broker-") {
                    Some(other) => {
                        let other: i32 = other.parse().unwrap();
                        if !self.brokers[&other].up {
                            return self.schedule(me, conn, What::Closed);
                        }
                        (Actor::Node(other), self.brokers.get_mut(&other).unwrap().out.next_conn())
                    }
                    None => {
                        self.next_client += 1;
                        (Actor::Controller, ConnId(self.next_client))
                    }
                };
                self.ends.insert((me, conn), (actor, theirs));
                self.ends.insert((actor, theirs), (me, conn));
                if actor != Actor::Controller {
                    self.schedule(actor, theirs, What::Accepted);
                }
                self.schedule(me, conn, What::Connected);
            }
            Output::Send { conn, frame } => {
                let Some(&(actor, theirs)) = self.ends.get(&(me, conn)) else { return };
                if self.cuts.contains(&(me, actor)) {
                    return;
                }
                let frame = match actor {
                    Actor::Node(_) => frame.slice(4, frame.len() - 4),
                    _ => frame,
                };
                self.schedule(actor, theirs, What::Frame(frame));
            }
            Output::Close { conn, .. } => {
                if let Some((actor, theirs)) = self.ends.remove(&(me, conn)) {
                    self.ends.remove(&(actor, theirs));
                    self.schedule(actor, theirs, What::Closed);
                }
            }
            Output::Event(event) => self.events.push((self.now, id, event)),
            Output::Halt { .. } | Output::Stopped => {
                self.brokers.get_mut(&id).unwrap().stopped = true;
            }
            Output::Pause { .. } | Output::Resume { .. } => {}
        }
    }

    // --- the controller

    /// From the broker to the controller nothing passes, or everything again.
    pub(super) fn cut_controller(&mut self, id: i32, cut: bool) {
        let pair = (Actor::Node(id), Actor::Controller);
        if cut {
            self.cuts.insert(pair)
        } else {
            self.cuts.remove(&pair)
        };
    }

    fn controller_frame(&mut self, conn: ConnId, frame: &Rope) {
        let mut r = Reader::new(frame);
        let header = RequestHeader::decode(&mut r).unwrap();
        if header.key() == Some(ApiKey::AssignReplicasToDirs) {
            return self.assign(conn, &header, &mut r);
        }
        assert_eq!(header.key(), Some(ApiKey::AlterPartition));
        let request = AlterPartitionRequest::decode(&mut r, header.api_version).unwrap();
        let mut response = AlterPartitionResponse::default();
        for topic in &request.topics {
            let mut answer = TopicData { topic_id: topic.topic_id, ..TopicData::default() };
            for p in &topic.partitions {
                let isr: Vec<(i32, i64)> =
                    p.new_isr_with_epochs.iter().map(|b| (b.broker_id, b.broker_epoch)).collect();
                self.proposals.push((request.broker_id, p.partition_index, isr.clone()));
                let id = TopicIdPartition { topic_id: topic.topic_id, partition: p.partition_index };
                answer.partitions.push(self.decide(id, p.leader_epoch, p.partition_epoch, &isr));
            }
            response.topics.push(answer);
        }
        if self.controller == Controller::Silent {
            return;
        }
        let frame =
            encode_response(ApiKey::AlterPartition, header.api_version, header.correlation_id, &response);
        if let Some(&(actor, theirs)) = self.ends.get(&(Actor::Controller, conn)) {
            let frame = frame.unwrap();
            self.schedule(actor, theirs, What::Frame(frame.slice(4, frame.len() - 4)));
        }
    }

    fn assign(&mut self, conn: ConnId, header: &RequestHeader<'_>, r: &mut Reader<'_>) {
        use wire::messages::assign_replicas_to_dirs_response as answer;
        let request = AssignReplicasToDirsRequest::decode(r, header.api_version).unwrap();
        let mut response = AssignReplicasToDirsResponse::default();
        for d in &request.directories {
            let topics = d.topics.iter().map(|t| {
                let partitions = t.partitions.iter().map(|p| {
                    self.assignments.push((request.broker_id, p.partition_index, d.id));
                    answer::PartitionData { partition_index: p.partition_index, error_code: 0 }
                });
                answer::TopicData { topic_id: t.topic_id, partitions: partitions.collect() }
            });
            response.directories.push(answer::DirectoryData { id: d.id, topics: topics.collect() });
        }
        let key = ApiKey::AssignReplicasToDirs;
        let frame = encode_response(key, header.api_version, header.correlation_id, &response).unwrap();
        if let Some(&(actor, theirs)) = self.ends.get(&(Actor::Controller, conn)) {
            self.schedule(actor, theirs, What::Frame(frame.slice(4, frame.len() - 4)));
        }
    }

    fn decide(
        &mut self,
        id: TopicIdPartition,
        leader_epoch: i32,
        partition_epoch: i32,
        isr: &[(i32, i64)],
    ) -> PartitionData {
        let now = self.image.partition(id).unwrap().clone();
        let refused = |error: ErrorCode| PartitionData {
            partition_index: id.partition,
            error_code: error.0,
            ..PartitionData::default()
        };
        let stale = |(b, epoch): &(i32, i64)| {
            let broker = self.image.broker(*b).unwrap();
            broker.fenced || (*epoch != -1 && *epoch != broker.epoch)
        };
        match self.controller {
            Controller::Refuses(error) => return refused(error),
            Controller::Silent => return refused(ErrorCode::NONE),
            Controller::Decides if leader_epoch < now.leader_epoch => {
                return refused(ErrorCode::FENCED_LEADER_EPOCH);
            }
            Controller::Decides if partition_epoch < now.partition_epoch => {
                return refused(ErrorCode::INVALID_UPDATE_VERSION);
            }
            Controller::Decides if isr.iter().any(stale) => return refused(ErrorCode::INELIGIBLE_REPLICA),
            Controller::Decides => {}
        }
        self.publish(MetadataRecord::PartitionChange(PartitionChangeRecord {
            partition_id: id.partition,
            topic_id: id.topic_id,
            isr: Some(isr.iter().map(|(b, _)| *b).collect()),
            ..PartitionChangeRecord::default()
        }));
        let after = self.image.partition(id).unwrap();
        PartitionData {
            partition_index: id.partition,
            leader_id: after.leader,
            leader_epoch: after.leader_epoch,
            isr: after.isr.to_vec(),
            partition_epoch: after.partition_epoch,
            ..PartitionData::default()
        }
    }
}

/// A client's batch of values.
pub(super) fn batch(values: &[&str]) -> Rope {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.append(T0, None, Some(value.as_bytes()), &[]);
    }
    Rope::from(builder.finish(&StdCodecs, &BatchOptions::default()).unwrap())
}

/// A client's batch of one record with a key.
pub(super) fn keyed(key: &str) -> Rope {
    let mut builder = BatchBuilder::new();
    builder.append(T0, Some(key.as_bytes()), Some(b"value"), &[]);
    Rope::from(builder.finish(&StdCodecs, &BatchOptions::default()).unwrap())
}

/// A produce request (version 12 and below) for one partition of the topic.
pub(super) fn produce_request(
    acks: i16,
    timeout_ms: i32,
    partition: i32,
    records: Rope,
) -> ProduceRequest<'static> {
    ProduceRequest {
        acks,
        timeout_ms,
        topic_data: vec![TopicProduceData {
            name: TOPIC.into(),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(records) }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

//! A controller with a metadata log that is committed by hand, and brokers that are only requests.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use rand_core::SeedableRng as _;
use wire::codec::{Message, Reader, Request, Writer};
use wire::drive::{ConnId, Now};
use wire::messages::*;
use wire::records::MetadataRecord;
use wire::{ErrorCode, Rope, Uuid};

use super::super::*;
use crate::ctx::Rng;
use crate::io::{Listener, Output, Outputs};
use crate::metadata::{ImageDelta, PartitionRegistration, TopicIdPartition};
use crate::net::Net;
use crate::testing::MemDisk;

/// A metadata log that never fails, unless it is told that it does not lead.
pub struct FakeLog {
    pub records: Vec<MetadataRecord>,
    pub first_offset: i64,
    pub leads: bool,
}

impl FakeLog {
    pub fn next_offset_for_test(&self) -> i64 {
        MetadataLog::next_offset(self)
    }
}

impl MetadataLog for FakeLog {
    fn next_offset(&self) -> i64 {
        self.first_offset + self.records.len() as i64
    }

    fn append(&mut self, _: &mut Ctx<'_>, records: &[MetadataRecord]) -> Result<AppendedAt, AppendError> {
        if !self.leads {
            return Err(AppendError::NotLeader);
        }
        let base_offset = self.next_offset();
        self.records.extend_from_slice(records);
        Ok(AppendedAt { base_offset, last_offset: self.next_offset() - 1 })
    }
}

/// An answer that may not have come yet.
pub struct Asked {
    conn: ConnId,
    version: i16,
}

pub struct Cluster {
    pub controller: Controller,
    pub log: FakeLog,
    pub config: NodeConfig,
    pub net: Net,
    pub out: Outputs,
    pub now: Now,
    rng: Rng,
    disk: MemDisk,
    /// What everybody else sees: the committed records.
    pub committed: MetadataImage,
    pub events: Vec<Event>,
    answers: BTreeMap<ConnId, Rope>,
    pub broker_epochs: BTreeMap<i32, i64>,
    incarnations: u8,
}

pub const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

impl Cluster {
    /// A new cluster whose controller has just become active.
    pub fn new(settings: &[(&str, &str)]) -> Cluster {
        let mut given: BTreeMap<String, String> = [
            ("process.roles", "controller"),
            ("node.id", "101"),
            ("listeners", "CONTROLLER://controller-101:9093"),
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.voters", "101@controller-101:9093"),
            ("log.dirs", "/data"),
        ]
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .into();
        given.extend(settings.iter().map(|(k, v)| (k.to_string(), v.to_string())));
        let config = NodeConfig::parse(&given).unwrap();
        let mut cluster = Cluster {
            controller: Controller::new(&config, Arc::from(CLUSTER_ID), Vec::new()),
            log: FakeLog { records: Vec::new(), first_offset: 1, leads: true },
            net: Net::new(&config),
            config,
            out: Outputs::new(0),
            now: Now { mono: Instant(0).plus_millis(1000), wall_ms: 1_700_000_000_000 },
            rng: Rng::seed_from_u64(7),
            disk: MemDisk::new(),
            committed: MetadataImage::default(),
            events: Vec::new(),
            answers: BTreeMap::new(),
            broker_epochs: BTreeMap::new(),
            incarnations: 0,
        };
        cluster.activate(1);
        cluster.commit();
        cluster
    }

    /// With brokers 1 to `n`, all of them unfenced.
    pub fn with_brokers(n: i32, settings: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::new(settings);
        for id in 1..=n {
            cluster.start(id);
        }
        cluster
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Controller, &mut Ctx<'_>, &mut FakeLog) -> T) -> T {
        let mut ctx = Ctx {
            now: self.now,
            disk: &mut self.disk,
            codecs: &codecs::StdCodecs,
            out: &mut self.out,
            net: &mut self.net,
            rng: &mut self.rng,
            config: &self.config,
        };
        let result = act(&mut self.controller, &mut ctx, &mut self.log);
        self.controller.check_invariants();
        for output in core::mem::take(&mut self.out.items) {
            match output {
                Output::Event(event) => self.events.push(event),
                Output::Send { conn, frame } => {
                    let payload = frame.slice(4, frame.len() - 4);
                    assert!(self.answers.insert(conn, payload).is_none(), "answered twice");
                }
                other => panic!("{other:?}"),
            }
        }
        result
    }

    pub fn activate(&mut self, epoch: i32) {
        let image = self.committed.clone();
        self.with(|controller, ctx, log| controller.activate(ctx, log, &image, epoch));
    }

    pub fn resign(&mut self) {
        self.with(|controller, ctx, _| controller.resign(ctx));
    }

    /// Commits all that was appended. The image that everybody sees then is that of the controller.
    pub fn commit(&mut self) {
        let mut delta = ImageDelta::default();
        for offset in self.committed.offset.max(self.log.first_offset - 1) + 1..self.log.next_offset() {
            let record = &self.log.records[(offset - self.log.first_offset) as usize];
            self.committed.apply(record, offset, &mut delta).unwrap();
        }
        let up_to = self.log.next_offset() - 1;
        self.with(|controller, ctx, _| controller.committed(ctx, up_to));
        if let Some(image) = self.controller.image() {
            assert_eq!(*image, self.committed, "what is committed is what the controller thought");
        }
    }

    /// Lets time pass, with all timers, and commits what they write.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.mono.plus_millis(ms);
        while let Some(due) = self.controller.deadline().filter(|due| *due <= end) {
            self.now.mono = self.now.mono.max(due);
            self.with(|controller, ctx, log| controller.on_timer(ctx, log));
            self.commit();
        }
        self.now.mono = end;
    }

    /// Lets time pass while these brokers send their heartbeats.
    pub fn pass_with_heartbeats(&mut self, ms: u64, brokers: &[i32]) {
        for _ in 0..ms / 500 {
            self.pass(500);
            for &id in brokers {
                self.beat(id, |_| {});
            }
        }
    }

    /// Sends a request; its answer may come later.
    pub fn send<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> Asked {
        let token = self.token(R::KEY, version);
        self.send_as(token, request)
    }

    /// Sends a request with a token of its own.
    pub fn send_as<'a, R: Request<'a>>(&mut self, token: RequestToken, request: &R) -> Asked {
        let mut w = Writer::with_capacity(64);
        request.encode(&mut w, token.version).unwrap();
        let bytes = w.into_bytes().unwrap();
        let handled = self.with(|controller, ctx, log| {
            controller.handle_request(ctx, log, token, &mut Reader::from_slice(&bytes))
        });
        handled.unwrap();
        Asked { conn: token.conn, version: token.version }
    }

    /// Sends bytes as a request.
    pub fn handle_bytes(&mut self, key: ApiKey, version: i16, bytes: &[u8]) -> Result<(), DecodeError> {
        let token = self.token(key, version);
        self.with(|controller, ctx, log| {
            controller.handle_request(ctx, log, token, &mut Reader::from_slice(bytes))
        })
    }

    pub fn activate_again(&mut self) {
        if !self.controller.is_active() {
            self.activate(9);
        }
    }

    /// The token of a request on a connection of its own.
    pub fn token(&mut self, key: ApiKey, version: i16) -> RequestToken {
        let conn = self.out.next_conn();
        self.net.accepted(self.now, conn, Listener::Controller, "10.0.0.1".to_string());
        let arrived = self.net.frame(self.now, &mut self.out, conn, Rope::new());
        drop(arrived);
        RequestToken { conn, listener: Listener::Controller, key, version, correlation_id: 1, envelope: None }
    }

    pub fn is_answered(&self, asked: &Asked) -> bool {
        self.answers.contains_key(&asked.conn)
    }

    /// The answer to a request, which must have come.
    pub fn answer<R>(&mut self, asked: &Asked) -> R
    where
        R: for<'r> Message<'r>,
    {
        let frame = self.answers.remove(&asked.conn).expect("it was answered");
        let mut reader = body(&frame);
        let answer = R::decode(&mut reader, asked.version).unwrap();
        reader.finish().unwrap();
        answer
    }

    /// What somebody sees in the answer to a request, which must have come.
    pub fn answer_to<R, T>(&mut self, asked: &Asked, look: impl for<'r> FnOnce(&R::Response<'r>) -> T) -> T
    where
        R: Request<'static>,
    {
        let frame = self.answers.remove(&asked.conn).expect("it was answered");
        let mut reader = body(&frame);
        let answer = R::Response::decode(&mut reader, asked.version).unwrap();
        reader.finish().unwrap();
        look(&answer)
    }

    // --- brokers

    pub fn registration(&mut self, id: i32, previous_epoch: i64) -> BrokerRegistrationRequest<'static> {
        self.incarnations += 1;
        let feature = |&(name, range): &(&'static str, crate::metadata::FeatureRange)| {
            broker_registration_request::Feature {
                name: name.into(),
                min_supported_version: range.min,
                max_supported_version: range.max,
            }
        };
        BrokerRegistrationRequest {
            broker_id: id,
            cluster_id: CLUSTER_ID.into(),
            incarnation_id: Uuid([self.incarnations; 16]),
            listeners: vec![broker_registration_request::Listener {
                name: "PLAINTEXT".into(),
                host: alloc::format!("broker-{id}").into(),
                port: 9092,
                security_protocol: 0,
            }],
            features: crate::metadata::feature::SUPPORTED.iter().map(feature).collect(),
            log_dirs: vec![directory(id)],
            previous_broker_epoch: previous_epoch,
            ..Default::default()
        }
    }

    /// Registers a broker anew; its previous process ended cleanly in `previous_epoch`, if that is its last one.
    pub fn register(&mut self, id: i32, previous_epoch: i64) -> Result<i64, ErrorCode> {
        let request = self.registration(id, previous_epoch);
        let asked = self.send(&request, 4);
        self.commit();
        let answer: BrokerRegistrationResponse = self.answer(&asked);
        if answer.error_code != 0 {
            return Err(ErrorCode(answer.error_code));
        }
        self.broker_epochs.insert(id, answer.broker_epoch);
        Ok(answer.broker_epoch)
    }

    /// Registers a broker and unfences it.
    pub fn start(&mut self, id: i32) {
        self.register(id, -1).unwrap();
        let answer = self.beat(id, |_| {});
        assert!(!answer.is_fenced, "broker {id} is unfenced");
    }

    /// One heartbeat of a broker that has replayed all that is committed.
    pub fn beat(
        &mut self,
        id: i32,
        set: impl FnOnce(&mut BrokerHeartbeatRequest),
    ) -> BrokerHeartbeatResponse {
        let mut request = BrokerHeartbeatRequest {
            broker_id: id,
            broker_epoch: self.broker_epochs[&id],
            current_metadata_offset: self.committed.offset,
            ..Default::default()
        };
        set(&mut request);
        let asked = self.send(&request, 2);
        self.commit();
        self.answer(&asked)
    }

    /// SIGTERM: heartbeats until the broker may go.
    pub fn stop(&mut self, id: i32, others: &[i32]) {
        for _ in 0..4 {
            if self.beat(id, |r| r.want_shut_down = true).should_shut_down {
                return;
            }
            for &other in others {
                self.beat(other, |_| {});
            }
        }
        panic!("broker {id} is not let go");
    }

    /// kill -9: nothing is heard of it any more, and its session ends.
    pub fn kill(&mut self, id: i32) {
        let others: Vec<i32> =
            self.committed.brokers.values().filter(|b| !b.fenced && b.id != id).map(|b| b.id).collect();
        self.pass_with_heartbeats(10_500, &others);
        assert!(self.committed.broker(id).is_none_or(|b| b.fenced), "broker {id} is fenced");
    }

    // --- topics

    pub fn creatable(name: &str, assignments: &[&[i32]]) -> create_topics_request::CreatableTopic<'static> {
        let assignments = assignments.iter().enumerate().map(|(i, brokers)| {
            create_topics_request::CreatableReplicaAssignment {
                partition_index: i as i32,
                broker_ids: brokers.to_vec(),
            }
        });
        create_topics_request::CreatableTopic {
            name: name.to_string().into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: assignments.collect(),
            configs: Vec::new(),
        }
    }

    pub fn create(
        &mut self,
        topics: Vec<create_topics_request::CreatableTopic<'_>>,
    ) -> Vec<(ErrorCode, String)> {
        let request = CreateTopicsRequest { topics, timeout_ms: 30_000, validate_only: false };
        let asked = self.send(&request, 7);
        self.commit();
        self.answer_to::<CreateTopicsRequest<'_>, _>(&asked, |r| {
            let results = r.topics.iter();
            results
                .map(|t| (ErrorCode(t.error_code), t.error_message.as_deref().unwrap_or("").to_string()))
                .collect()
        })
    }

    /// Makes a topic with these replicas, and settings `a=b c=d`.
    pub fn topic(&mut self, name: &str, assignments: &[&[i32]], settings: &str) {
        let mut topic = Cluster::creatable(name, assignments);
        let setting = |word: &str| {
            let (name, value) = word.split_once('=').unwrap();
            let (name, value) = (name.to_string().into(), Some(value.to_string().into()));
            create_topics_request::CreatableTopicConfig { name, value }
        };
        topic.configs = settings.split_whitespace().map(setting).collect();
        let results = self.create(vec![topic]);
        assert_eq!(results, [(ErrorCode::NONE, String::new())]);
    }

    pub fn partition(&self, name: &str, number: i32) -> &PartitionRegistration {
        let topic_id = self.committed.topics.id_of(name).unwrap();
        self.committed.partition(TopicIdPartition { topic_id, partition: number }).unwrap()
    }

    /// `leader 1 epoch 0 isr 1,2,3 elr  last `, as committed.
    pub fn show(&self, name: &str, number: i32) -> String {
        let p = self.partition(name, number);
        let list = |ids: &[i32]| ids.iter().map(|r| r.to_string()).collect::<Vec<_>>().join(",");
        let (isr, elr, last) = (list(&p.isr), list(&p.elr), list(&p.last_known_elr));
        alloc::format!("leader {} epoch {} isr [{isr}] elr [{elr}] last [{last}]", p.leader, p.leader_epoch)
    }

    /// Asks for an ISR as the leader of a partition would.
    pub fn alter_isr(
        &mut self,
        name: &str,
        number: i32,
        isr: &[i32],
    ) -> alter_partition_response::PartitionData {
        let p = self.partition(name, number).clone();
        let topic_id = self.committed.topics.id_of(name).unwrap();
        let member = |&broker_id: &i32| alter_partition_request::BrokerState {
            broker_id,
            broker_epoch: self.broker_epochs[&broker_id],
        };
        let partition = alter_partition_request::PartitionData {
            partition_index: number,
            leader_epoch: p.leader_epoch,
            partition_epoch: p.partition_epoch,
            new_isr_with_epochs: isr.iter().map(member).collect(),
            ..Default::default()
        };
        let request = AlterPartitionRequest {
            broker_id: p.leader,
            broker_epoch: self.broker_epochs[&p.leader],
            topics: vec![alter_partition_request::TopicData { topic_id, partitions: vec![partition] }],
        };
        let asked = self.send(&request, 3);
        self.commit();
        let answer: AlterPartitionResponse = self.answer(&asked);
        assert_eq!(answer.error_code, 0);
        answer.topics[0].partitions[0].clone()
    }

    /// Asks for other replicas, or to take that back.
    pub fn reassign(&mut self, name: &str, number: i32, replicas: Option<&[i32]>) -> Result<(), ErrorCode> {
        let partition = alter_partition_reassignments_request::ReassignablePartition {
            partition_index: number,
            replicas: replicas.map(<[i32]>::to_vec),
        };
        let topic = alter_partition_reassignments_request::ReassignableTopic {
            name: name.to_string().into(),
            partitions: vec![partition],
        };
        let request = AlterPartitionReassignmentsRequest {
            allow_replication_factor_change: true,
            topics: vec![topic],
            ..Default::default()
        };
        let asked = self.send(&request, 1);
        self.commit();
        let code = self.answer_to::<AlterPartitionReassignmentsRequest<'_>, _>(&asked, |r| {
            ErrorCode(r.responses[0].partitions[0].error_code)
        });
        if code.is_none() { Ok(()) } else { Err(code) }
    }

    /// Partitions that are being reassigned, with their replicas.
    pub fn ongoing(&mut self) -> Vec<(i32, Vec<i32>)> {
        let asked = self.send(&ListPartitionReassignmentsRequest { topics: None, ..Default::default() }, 0);
        self.answer_to::<ListPartitionReassignmentsRequest<'_>, _>(&asked, |r| {
            let partitions = r.topics.iter().flat_map(|t| &t.partitions);
            partitions.map(|p| (p.partition_index, p.replicas.clone())).collect()
        })
    }

    /// The changes of partitions since an offset.
    pub fn changes_since(&self, offset: i64) -> Vec<MetadataRecord> {
        let records = &self.log.records[(offset - self.log.first_offset) as usize..];
        records.iter().filter(|r| r.name() == "PartitionChangeRecord").cloned().collect()
    }

    /// The kinds of the records since an offset, without the heartbeat of the log.
    pub fn kinds_since(&self, offset: i64) -> Vec<&'static str> {
        let records = &self.log.records[(offset - self.log.first_offset) as usize..];
        records.iter().map(MetadataRecord::name).filter(|name| *name != "NoOpRecord").collect()
    }
}

/// What follows the header. All APIs are asked in flexible versions here.
fn body(frame: &Rope) -> Reader<'_> {
    let mut reader = Reader::new(frame);
    assert_eq!(reader.i32().unwrap(), 1, "the correlation id");
    reader.skip_tags().unwrap();
    reader
}

/// The log directory of a broker.
pub fn directory(broker: i32) -> Uuid {
    Uuid([100 + broker as u8; 16])
}

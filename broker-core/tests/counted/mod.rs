//! Two brokers at one moment, and what they allocate for a request: for the benchmark and the test of that.
//!
//! The lab of the node's own tests brings a cluster up. Then the leader and the follower are taken out of it, as values,
//! and are handed frames one by one. Only what `Node::handle` allocates counts, with every event told, as in the
//! simulated world; the bytes of frames are made outside.

#[allow(dead_code, reason = "the node's tests use all of it")]
#[path = "../../src/node/tests/lab.rs"]
mod lab;

use std::collections::{BTreeMap, VecDeque};

use allocation_counter::measure;
use broker_core::io::{Input, Listener, Output, Outputs};
use broker_core::node::Node;
use broker_core::testing::MemDisk;
use codecs::StdCodecs;
use lab::Lab;
use wire::batch::{Batch, BatchBuilder, BatchOptions};
use wire::drive::{ConnId, Now};
use wire::frame::{ResponseHeader, encode_request};
use wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use wire::messages::*;
use wire::{Compression, Message, Reader, Request, Rope, Uuid};

/// As many partitions as a request names at most.
pub const PARTITIONS: i32 = 1_000;
/// Each request is made so often: the median leaves out what grows by doubling.
const TIMES: usize = 5;
const PRODUCER: i64 = 7;
const TIMESTAMP: i64 = 1_795_209_600_000;
const TRANSACTIONAL_ID: &str = "shop";

/// How a batch is made and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// In words.
    pub name: &'static str,
    /// The topic; `pressed` has a compression of its own.
    pub topic: &'static str,
    /// The producer's compression.
    pub compression: Compression,
    /// Whether each record has two headers.
    pub headers: bool,
}

const fn kind(name: &'static str, topic: &'static str, compression: Compression, headers: bool) -> Kind {
    Kind { name, topic, compression, headers }
}

/// The ways in which a batch takes another path.
pub const KINDS: [Kind; 7] = [
    kind("uncompressed", "plain", Compression::None, false),
    kind("with headers", "plain", Compression::None, true),
    kind("gzip", "plain", Compression::Gzip, false),
    kind("snappy", "plain", Compression::Snappy, false),
    kind("lz4", "plain", Compression::Lz4, false),
    kind("zstd", "plain", Compression::Zstd, false),
    kind("with headers, compressed by the broker", "pressed", Compression::None, true),
];

/// Allocations of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How many.
    pub count: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What a batch costs on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The leader takes the Produce request, and hands the batch to the follower's Fetch that waits.
    pub produce: Spent,
    /// The follower takes the answer, appends, and fetches again.
    pub follower: Spent,
    /// The leader takes that Fetch: the batch is committed, the producer answered, and the follower told.
    pub commit: Spent,
    /// The leader answers a consumer's Fetch.
    pub consume: Spent,
}

/// What requests about offsets cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffsetsWay {
    /// The leader takes the request, and hands the batch to the follower.
    pub request: Spent,
    /// The leader hears that the follower has it, and answers.
    pub commit: Spent,
}

/// A cluster in which everything is ready.
pub struct Cluster {
    lab: Lab,
    producer: (i64, i16),
}

struct Broker {
    node: Node,
    disk: MemDisk,
    out: Outputs,
}

/// The leader of a partition and its follower, out of the lab.
struct Pair {
    now: Now,
    /// The leader, then the follower.
    brokers: [Broker; 2],
    /// The connections between them: each end, and the other.
    links: BTreeMap<(usize, ConnId), (usize, ConnId)>,
    client: ConnId,
    sequence: i32,
    end: i64,
}

impl Cluster {
    /// Two brokers, a controller, the topics, and a transaction that is open.
    pub fn new() -> Cluster {
        let mut lab = Lab::new(2, 1, &[]);
        lab.start_all();
        lab.run_until(20_000, "every node serves", Lab::all_running);
        let mut client = lab.dial("broker-1", Listener::Broker);
        let topics = [
            ("plain", 1, None),
            ("pressed", 1, Some("lz4")),
            ("wide", PARTITIONS, None),
            ("__consumer_offsets", 1, None),
            ("__transaction_state", 1, None),
        ];
        for (name, num_partitions, compression) in topics {
            let config = |value: &'static str| CreatableTopicConfig {
                name: "compression.type".into(),
                value: Some(value.into()),
            };
            let topic = CreatableTopic {
                name: name.into(),
                num_partitions,
                replication_factor: if num_partitions == 1 { 2 } else { 1 },
                configs: compression.map(config).into_iter().collect(),
                ..Default::default()
            };
            let request =
                CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
            assert_eq!(lab.ask(&mut client, 7, &request, |r| r.topics[0].error_code), 0, "{name}");
        }
        lab.run(2_000);
        let mut cluster = Cluster { lab, producer: (-1, -1) };
        cluster.begin_transaction();
        cluster
    }

    fn leader(&self, topic: &str) -> &'static str {
        let image = self.lab.node("broker-1").image();
        let leader = image.topics.topic_named(topic).expect("it was made").partitions[&0].leader;
        if leader == 1 { "broker-1" } else { "broker-2" }
    }

    fn id_of(&self, topic: &str) -> Uuid {
        self.lab.node("broker-1").image().topics.topic_named(topic).expect("it was made").id
    }

    /// A producer id, and a first commit in a transaction, which its coordinator has to be asked about.
    fn begin_transaction(&mut self) {
        let coordinator = self.leader("__transaction_state");
        let request = InitProducerIdRequest {
            transactional_id: Some(TRANSACTIONAL_ID.into()),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        self.producer = self.patiently(coordinator, 5, &request, |r: InitProducerIdResponse| {
            (r.error_code == 0).then_some((r.producer_id, r.producer_epoch))
        });
        let (request, group) = (self.txn_offset_commit(1), self.leader("__consumer_offsets"));
        self.patiently(group, 5, &request, |r: TxnOffsetCommitResponse<'_>| {
            (r.topics[0].partitions[0].error_code == 0).then_some(())
        });
    }

    /// Asks until there is an answer.
    fn patiently<'a, R: Request<'a>, T>(
        &mut self,
        to: &str,
        version: i16,
        request: &R,
        look: impl Fn(R::Response<'_>) -> Option<T>,
    ) -> T {
        for _ in 0..100 {
            let mut client = self.lab.dial(to, Listener::Broker);
            if let Some(found) = self.lab.ask(&mut client, version, request, &look) {
                return found;
            }
            self.lab.run(100);
        }
        panic!("{} is not answered", R::NAME);
    }

    // --- what is counted

    /// A batch of so many records, from the producer to the follower and to a consumer.
    pub fn batch(&mut self, kind: &Kind, records: i32) -> Way {
        let topic = self.id_of(kind.topic);
        let mut pair = self.pair(kind.topic, |pair| pair.produce(topic, kind, 1));
        median(|_| {
            let mut way = pair.produce(topic, kind, records)?;
            way.consume = pair.consume(topic, records);
            Some(way)
        })
    }

    /// An OffsetCommit of so many partitions, each with this beside its offset.
    pub fn offset_commit(&mut self, partitions: i32, metadata: &'static str) -> OffsetsWay {
        let mut request = self.offset_commit_request(partitions);
        for partition in &mut request.topics[0].partitions {
            partition.committed_metadata = Some(metadata.into());
        }
        let accepted = |r: OffsetCommitResponse<'_>| {
            r.topics[0].partitions.iter().filter(|p| p.error_code == 0).count() as i32
        };
        let mut pair = self.pair("__consumer_offsets", |pair| {
            pair.ask(10, &request, accepted).filter(|(_, n)| *n == partitions)
        });
        median(|i| {
            for partition in &mut request.topics[0].partitions {
                partition.committed_offset = i as i64;
            }
            let (way, count) = pair.ask(10, &request, accepted)?;
            assert_eq!(count, partitions);
            Some(way)
        })
    }

    /// A TxnOffsetCommit of so many partitions, in a transaction that is open.
    pub fn txn_commit(&mut self, partitions: i32) -> OffsetsWay {
        let request = self.txn_offset_commit(partitions);
        let accepted = |r: TxnOffsetCommitResponse<'_>| {
            r.topics[0].partitions.iter().filter(|p| p.error_code == 0).count() as i32
        };
        let mut pair = self.pair("__consumer_offsets", |pair| {
            pair.ask(5, &request, accepted).filter(|(_, n)| *n == partitions)
        });
        median(|_| pair.ask(5, &request, accepted).map(|(way, _)| way))
    }

    /// An OffsetFetch of so many partitions that have offsets.
    pub fn offset_fetch(&mut self, partitions: i32) -> OffsetsWay {
        let commit = self.offset_commit_request(partitions);
        let request = OffsetFetchRequest {
            groups: vec![offset_fetch_request::OffsetFetchRequestGroup {
                group_id: "billing".into(),
                member_epoch: -1,
                topics: Some(vec![offset_fetch_request::OffsetFetchRequestTopics {
                    topic_id: self.id_of("wide"),
                    partition_indexes: (0..partitions).collect(),
                    ..Default::default()
                }]),
                ..Default::default()
            }],
            require_stable: true,
            ..Default::default()
        };
        let found = |r: OffsetFetchResponse<'_>| {
            r.groups[0].topics[0].partitions.iter().filter(|p| p.committed_offset == 5).count() as i32
        };
        let mut pair =
            self.pair("__consumer_offsets", |pair| pair.ask(10, &commit, |_: OffsetCommitResponse<'_>| ()));
        median(|_| {
            let (way, count) = pair.ask(10, &request, found)?;
            assert_eq!(count, partitions);
            Some(way)
        })
    }

    fn offset_commit_request(&self, partitions: i32) -> OffsetCommitRequest<'static> {
        let partition = |partition_index| offset_commit_request::OffsetCommitRequestPartition {
            partition_index,
            committed_offset: 5,
            committed_metadata: Some("".into()),
            ..Default::default()
        };
        OffsetCommitRequest {
            group_id: "billing".into(),
            topics: vec![offset_commit_request::OffsetCommitRequestTopic {
                topic_id: self.id_of("wide"),
                partitions: (0..partitions).map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn txn_offset_commit(&self, partitions: i32) -> TxnOffsetCommitRequest<'static> {
        let partition = |partition_index| txn_offset_commit_request::TxnOffsetCommitRequestPartition {
            partition_index,
            committed_offset: 5,
            committed_metadata: Some("".into()),
            ..Default::default()
        };
        TxnOffsetCommitRequest {
            transactional_id: TRANSACTIONAL_ID.into(),
            group_id: "billing-in-transactions".into(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            topics: vec![txn_offset_commit_request::TxnOffsetCommitRequestTopic {
                name: "wide".into(),
                partitions: (0..partitions).map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    /// The pair of a topic, at a moment at which the follower's Fetch waits at the leader: then a first request is
    /// answered without time going on.
    fn pair<T>(&mut self, topic: &str, first: impl Fn(&mut Pair) -> Option<T>) -> Pair {
        let leader = self.leader(topic);
        let client = self.lab.dial(leader, Listener::Broker).at_node();
        for _ in 0..2_000 {
            let mut pair = self.taken_out(leader, client);
            if first(&mut pair).is_some() {
                return pair;
            }
            self.lab.run(1);
        }
        panic!("the follower of {topic} never waits");
    }

    /// Leader and follower as they are now.
    fn taken_out(&mut self, leader: &'static str, client: ConnId) -> Pair {
        let names = if leader == "broker-1" { ["broker-1", "broker-2"] } else { ["broker-2", "broker-1"] };
        let who = |name: &str| names.iter().position(|n| *n == name);
        let links = (self.lab.links.iter())
            .filter_map(|(here, there)| Some(((who(&here.0)?, here.1), (who(&there.0)?, there.1))))
            .collect();
        let brokers = names.map(|name| {
            let mut out = Outputs::new(1 << 40);
            out.events_wanted = true;
            Broker { node: self.lab.node(name).clone(), disk: self.lab.disk(name).clone(), out }
        });
        Pair { now: self.lab.time(), brokers, links, client, sequence: 0, end: 0 }
    }
}

impl Pair {
    /// Produces a batch that is answered once both have it.
    fn produce(&mut self, topic: Uuid, kind: &Kind, records: i32) -> Option<Way> {
        let batch = batch(kind, records, self.sequence);
        self.sequence += records;
        let partition = produce_request::PartitionProduceData { index: 0, records: Some(batch) };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![produce_request::TopicProduceData {
                topic_id: topic,
                partition_data: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let look = |r: ProduceResponse<'_>| {
            let part = &r.responses[0].partition_responses[0];
            assert_eq!(part.error_code, 0, "{kind:?}");
            part.base_offset
        };
        let (steps, base) = self.exchange(13, &request, look)?;
        self.end = base + i64::from(records);
        Some(Way { produce: steps.request, follower: steps.follower, commit: steps.after, ..Way::default() })
    }

    /// Fetches the last so many records, which are one batch.
    fn consume(&mut self, topic: Uuid, records: i32) -> Spent {
        let partition = fetch_request::FetchPartition {
            partition: 0,
            fetch_offset: self.end - i64::from(records),
            partition_max_bytes: 2 << 20,
            ..Default::default()
        };
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 50 << 20,
            session_epoch: -1,
            topics: vec![fetch_request::FetchTopic {
                topic_id: topic,
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let look = |r: FetchResponse<'_>| {
            let fetched = r.responses[0].partitions[0].records.clone().expect("there is a batch");
            Batch::parse(&fetched).expect("a whole batch").header.record_count
        };
        let (steps, count) = self.exchange(17, &request, look).expect("it does not wait");
        assert_eq!(count, records);
        steps.request
    }

    /// Asks the leader about offsets.
    fn ask<'a, R: Request<'a>, T>(
        &mut self,
        version: i16,
        request: &R,
        look: impl Fn(R::Response<'_>) -> T,
    ) -> Option<(OffsetsWay, T)> {
        let (steps, found) = self.exchange(version, request, look)?;
        Some((OffsetsWay { request: steps.request, commit: steps.after }, found))
    }

    /// Sends a request, and carries frames between the two until both are silent. Nothing if that gave no answer.
    fn exchange<'a, R: Request<'a>, T>(
        &mut self,
        version: i16,
        request: &R,
        look: impl Fn(R::Response<'_>) -> T,
    ) -> Option<(Steps, T)> {
        let frame = encode_request(version, 1, Some("test"), request).expect("it can be said");
        let mut steps = Steps::default();
        let mut answer = None;
        let mut queue = VecDeque::from([(0, self.client, frame)]);
        let mut first = true;
        while let Some((who, conn, frame)) = queue.pop_front() {
            let spent = self.give(who, Input::Frame { conn, frame: frame.slice(4, frame.len() - 4) });
            let step = match who {
                _ if core::mem::take(&mut first) => &mut steps.request,
                0 => &mut steps.after,
                _ => &mut steps.follower,
            };
            step.add(spent);
            for output in self.brokers[who].out.items.drain(..) {
                let Output::Send { conn, frame } = output else { continue };
                if who == 0 && conn == self.client {
                    answer = Some(frame);
                } else if let Some((to, conn)) = self.links.get(&(who, conn)) {
                    queue.push_back((*to, *conn, frame));
                }
            }
        }
        let answer = answer?;
        let answer = answer.slice(4, answer.len() - 4);
        let mut reader = Reader::new(&answer);
        ResponseHeader::decode(&mut reader, R::KEY, version).expect("a header");
        Some((steps, look(R::Response::decode(&mut reader, version).expect("an answer"))))
    }

    /// What a broker allocates for an input, and for what it synced by it.
    fn give(&mut self, who: usize, input: Input) -> Spent {
        let Pair { now, brokers, .. } = self;
        let Broker { node, disk, out } = &mut brokers[who];
        let mut spent = Spent::default();
        spent.add(counted(|| node.handle(*now, input, disk, out)));
        for (ticket, result) in disk.take_synced() {
            spent.add(counted(|| node.handle(*now, Input::Synced { ticket, result }, disk, out)));
        }
        spent
    }
}

/// What the frames of an exchange cost.
#[derive(Clone, Copy, Default)]
struct Steps {
    request: Spent,
    follower: Spent,
    after: Spent,
}

impl Spent {
    fn add(&mut self, other: Spent) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// What `work` allocates.
fn counted(work: impl FnOnce()) -> Spent {
    let info = measure(work);
    Spent { count: info.count_total, bytes: info.bytes_total }
}

/// Field by field the median of some runs.
fn median<W: Fields>(mut run: impl FnMut(usize) -> Option<W>) -> W {
    let mut runs: Vec<W> = (0..TIMES).map(|i| run(i).expect("both were ready")).collect();
    let mut all = W::default();
    for field in 0..W::COUNT {
        runs.sort_by_key(|way| way.clone().field(field).count);
        *all.field(field) = *runs[TIMES / 2].field(field);
    }
    all
}

trait Fields: Clone + Default {
    const COUNT: usize;
    fn field(&mut self, index: usize) -> &mut Spent;
}

impl Fields for Way {
    const COUNT: usize = 4;
    fn field(&mut self, index: usize) -> &mut Spent {
        [&mut self.produce, &mut self.follower, &mut self.commit, &mut self.consume][index]
    }
}

impl Fields for OffsetsWay {
    const COUNT: usize = 2;
    fn field(&mut self, index: usize) -> &mut Spent {
        [&mut self.request, &mut self.commit][index]
    }
}

/// A batch of an idempotent producer.
fn batch(kind: &Kind, records: i32, base_sequence: i32) -> Rope {
    let headers: [(&str, Option<&[u8]>); 2] = [("trace", Some(b"4711")), ("empty", None)];
    let headers = if kind.headers { &headers[..] } else { &[] };
    let mut builder = BatchBuilder::new();
    for n in 0..records {
        let (key, value) = (format!("key-{n}"), format!("the value of record {n:020}"));
        builder.append(TIMESTAMP, Some(key.as_bytes()), Some(value.as_bytes()), headers);
    }
    let options = BatchOptions {
        compression: kind.compression,
        producer_id: PRODUCER,
        producer_epoch: 0,
        base_sequence,
        ..Default::default()
    };
    Rope::from(builder.finish(&StdCodecs, &options).expect("it fits"))
}

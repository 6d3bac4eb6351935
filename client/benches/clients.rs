//! What the clients of the reference failover cost: a producer of 1,000 messages a second of 100 bytes and a consumer
//! of what it makes, for 60 virtual seconds, against a broker that does next to nothing. Printed beside the time that
//! building and reading the same batches takes by itself, as a ratio measured in the same run.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use client::io::{Input, Output, Outputs, Process};
use client::mutant::Mutants;
use client::workload::{
    Assignment, Commit, ConsumerClient, ConsumerSpec, From, Names, ProducerClient, ProducerSpec, Rate,
};
use codecs::StdCodecs;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;
use wire::batch::{Batch, BatchBuilder, BatchOptions};
use wire::drive::{ConnId, Endpoint, Instant, Nanos, Now};
use wire::frame::{RequestHeader, encode_response};
use wire::messages::InitProducerIdResponse;
use wire::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use wire::messages::fetch_request::FetchRequest;
use wire::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use wire::messages::list_offsets_request::ListOffsetsRequest;
use wire::messages::list_offsets_response::*;
use wire::messages::metadata_response::*;
use wire::messages::produce_request::ProduceRequest;
use wire::messages::produce_response::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use wire::{ApiKey, Message, Reader, Rope, Uuid};

const SECONDS: u64 = 60;
const RATE: u64 = 1000;
const PARTITIONS: i32 = 6;
const TOPIC_ID: Uuid = Uuid([7; 16]);
const ROUND_TRIP: Nanos = Nanos::from_micros(800);

/// A broker that acknowledges everything and serves what the test puts into `data`.
struct Broker {
    offsets: Vec<i64>,
    data: Vec<(i64, Rope)>,
    answers: VecDeque<(Instant, Input)>,
    /// A fetch that waits: its connection, version and correlation id.
    parked: Option<(ConnId, i16, i32)>,
    time: Duration,
}

impl Broker {
    fn new() -> Broker {
        Broker {
            offsets: vec![0; PARTITIONS as usize],
            data: Vec::new(),
            answers: VecDeque::new(),
            parked: None,
            time: Duration::ZERO,
        }
    }

    fn answer<'a, M: Message<'a>>(
        &mut self,
        at: Instant,
        conn: ConnId,
        key: ApiKey,
        version: i16,
        id: i32,
        m: &M,
    ) {
        let frame = encode_response(key, version, id, m).unwrap();
        let frame = frame.slice(4, frame.len() - 4);
        self.answers.push_back((at + ROUND_TRIP, Input::Frame { conn, frame }));
    }

    fn take(&mut self, now: Instant, output: Output) {
        let began = Clock::now();
        match output {
            Output::Connect { conn, .. } => {
                self.answers.push_back((now + ROUND_TRIP, Input::Connected { conn }))
            }
            Output::Send { conn, frame } => self.request(now, conn, &frame.slice(4, frame.len() - 4)),
            _ => {}
        }
        self.time += began.elapsed();
    }

    fn request(&mut self, now: Instant, conn: ConnId, frame: &Rope) {
        let mut r = Reader::new(frame);
        let header = RequestHeader::decode(&mut r).unwrap();
        let (key, version, id) = (header.key().unwrap(), header.api_version, header.correlation_id);
        match key {
            ApiKey::ApiVersions => {
                let range = |info: &wire::ApiInfo| {
                    info.broker_versions().map(|range| ApiVersion {
                        api_key: info.key as i16,
                        min_version: range.min,
                        max_version: range.max,
                    })
                };
                let api_keys = wire::api::APIS.iter().filter_map(range).collect();
                let response = ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() };
                self.answer(now, conn, key, version, id, &response);
            }
            ApiKey::Metadata => self.answer(now, conn, key, version, id, &metadata()),
            ApiKey::InitProducerId => {
                let response = InitProducerIdResponse { producer_id: 0, ..Default::default() };
                self.answer(now, conn, key, version, id, &response);
            }
            ApiKey::Produce => self.produce(now, conn, version, id, &mut r),
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(&mut r, version).unwrap();
                let partition = |p: &wire::messages::list_offsets_request::ListOffsetsPartition| {
                    let partition_index = p.partition_index;
                    ListOffsetsPartitionResponse { partition_index, offset: 0, ..Default::default() }
                };
                let topics = request.topics.iter().map(|t| ListOffsetsTopicResponse {
                    name: t.name.clone(),
                    partitions: t.partitions.iter().map(partition).collect(),
                });
                let response = ListOffsetsResponse { topics: topics.collect(), ..Default::default() };
                self.answer(now, conn, key, version, id, &response);
            }
            ApiKey::Fetch => {
                FetchRequest::decode(&mut r, version).unwrap();
                self.parked = Some((conn, version, id));
                self.serve(now);
            }
            other => panic!("{other}"),
        }
    }

    fn produce(&mut self, now: Instant, conn: ConnId, version: i16, id: i32, r: &mut Reader<'_>) {
        let request = ProduceRequest::decode(r, version).unwrap();
        let topic = &request.topic_data[0];
        let mut partition_responses = Vec::new();
        for data in &topic.partition_data {
            let records = data.records.as_ref().unwrap();
            let count = Batch::parse(records).unwrap().header.record_count as i64;
            let offset = &mut self.offsets[data.index as usize];
            partition_responses.push(PartitionProduceResponse {
                index: data.index,
                base_offset: *offset,
                ..PartitionProduceResponse::default()
            });
            *offset += count;
        }
        let topic =
            TopicProduceResponse { name: topic.name.clone(), topic_id: topic.topic_id, partition_responses };
        let response = ProduceResponse { responses: vec![topic], ..ProduceResponse::default() };
        self.answer(now, conn, ApiKey::Produce, version, id, &response);
    }

    /// Answers a waiting fetch of partition 0 as soon as there is something.
    fn serve(&mut self, now: Instant) {
        if self.data.is_empty() || self.parked.is_none() {
            return;
        }
        let (conn, version, id) = self.parked.take().unwrap();
        let mut records = Rope::new();
        for (_, batch) in self.data.drain(..) {
            records.append(batch);
        }
        let data = PartitionData {
            partition_index: 0,
            high_watermark: i64::MAX,
            preferred_read_replica: -1,
            records: Some(records),
            ..PartitionData::default()
        };
        let topic =
            FetchableTopicResponse { topic: Cow::Borrowed(""), topic_id: TOPIC_ID, partitions: vec![data] };
        let response = FetchResponse { session_id: 9, responses: vec![topic], ..FetchResponse::default() };
        self.answer(now, conn, ApiKey::Fetch, version, id, &response);
    }
}

fn metadata() -> MetadataResponse<'static> {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        ..MetadataResponsePartition::default()
    };
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: Cow::Borrowed("broker-1"),
            port: 9092,
            rack: None,
        }],
        topics: vec![MetadataResponseTopic {
            name: Some(Cow::Borrowed("t")),
            topic_id: TOPIC_ID,
            partitions: (0..PARTITIONS).map(partition).collect(),
            ..MetadataResponseTopic::default()
        }],
        ..MetadataResponse::default()
    }
}

/// Runs a process for the whole time; what it took, and how many inputs.
fn run(
    mut process: Process,
    broker: &mut Broker,
    mut feed: impl FnMut(Instant, &mut Broker),
) -> (Duration, u64) {
    let mut out = Outputs::new(0);
    let mut now = Instant(0);
    let mut inputs = 0;
    let mut next = Some(Input::Start);
    let mut fed = Instant(0);
    let (end, feed_every) = (Instant(SECONDS * 1_000_000_000), Nanos::from_millis(10));
    let mut spent = Duration::ZERO;
    while now < end {
        if let Some(input) = next.take() {
            inputs += 1;
            let began = Clock::now();
            process.handle(
                Now { mono: now, wall_ms: (now.0 / 1_000_000) as i64 },
                input,
                &StdCodecs,
                &mut out,
            );
            spent += began.elapsed();
        }
        for output in out.items.drain(..) {
            broker.take(now, output);
        }
        let answer = broker.answers.front().map(|(at, _)| *at).unwrap_or(end);
        let timer = process.deadline().unwrap_or(end);
        if fed + feed_every <= answer.min(timer) {
            fed += feed_every;
            now = now.max(fed);
            feed(now, broker);
            continue;
        }
        (now, next) = if answer <= timer {
            (now.max(answer), broker.answers.pop_front().map(|(_, input)| input))
        } else {
            (now.max(timer), Some(Input::Timer))
        };
    }
    (spent, inputs)
}

fn producer(keys: u32) -> Process {
    let spec = ProducerSpec {
        name: "shop".into(),
        bootstrap: vec![Endpoint::new("broker-1", 9092)],
        topic: "t".into(),
        rate: Rate { messages: RATE, per: Nanos::from_secs(1) },
        count: None,
        keys,
        size: 100,
        partition: None,
        first_message: 0,
        config: Default::default(),
        mutants: Mutants::NONE,
    };
    Process::Producer(Box::new(ProducerClient::new(spec, ChaCha8Rng::seed_from_u64(1)).unwrap()))
}

fn consumer() -> Process {
    let spec = ConsumerSpec {
        name: "billing".into(),
        bootstrap: vec![Endpoint::new("broker-1", 9092)],
        assignment: Assignment::Topics(vec!["t".into()]),
        from: From::Beginning,
        processing: Nanos::ZERO,
        commit: Commit::None,
        names: Names::new(vec![Arc::from("shop")]),
        config: Default::default(),
        mutants: Mutants::NONE,
    };
    Process::Consumer(Box::new(ConsumerClient::new(spec, ChaCha8Rng::seed_from_u64(1)).unwrap()))
}

fn batch(first: i64, count: i64) -> Rope {
    let mut builder = BatchBuilder::new();
    for number in first..first + count {
        let value = format!("{:<100}", format!("shop-{number}"));
        builder.append(0, None, Some(value.as_bytes()), &[]);
    }
    let options = BatchOptions { base_offset: first, leader_epoch: 0, ..BatchOptions::default() };
    Rope::from(builder.finish(&StdCodecs, &options).unwrap())
}

/// Building the same batches without a client.
fn bare_batches() -> Duration {
    let value = [b' '; 100];
    let began = Clock::now();
    for _ in 0..SECONDS * RATE / 10 {
        let mut builder = BatchBuilder::with_capacity(1400);
        for _ in 0..10 {
            builder.append(0, None, Some(&value), &[]);
        }
        std::hint::black_box(builder.finish(&StdCodecs, &BatchOptions::default()).unwrap());
    }
    began.elapsed()
}

fn main() {
    let messages = (SECONDS * RATE) as u32;
    let bare = bare_batches();
    println!("bare batches of 10: {bare:?}, {:?} a message", bare / messages);
    for (name, keys) in [("producer without keys", 0), ("producer with 1000 keys", 1000)] {
        let mut broker = Broker::new();
        let (spent, inputs) = run(producer(keys), &mut broker, |_, _| {});
        let acked: i64 = broker.offsets.iter().sum();
        println!(
            "{name}: {spent:?} for {acked} messages in {inputs} inputs, {:?} a message, {:.1} × the bare batches",
            spent / messages,
            spent.as_secs_f64() / bare.as_secs_f64()
        );
    }
    let mut broker = Broker::new();
    let mut next = 0;
    let (spent, inputs) = run(consumer(), &mut broker, |now, broker| {
        broker.data.push((next, batch(next, 10)));
        next += 10;
        broker.serve(now);
    });
    println!("consumer: {spent:?} for {next} messages in {inputs} inputs, {:?} a message", spent / messages);
}

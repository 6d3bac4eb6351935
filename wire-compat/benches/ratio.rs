//! Speed against kafka-protocol 0.18 in the same run, as ratios: `cargo bench` in this directory.
//!
//! The budget is 1.0 for the messages, 10 ns for a batch's header and 1 µs for 100 records. A line with `!` is over it.

use std::hint::black_box;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use codecs::StdCodecs;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};
use kafka_protocol::records::RecordBatchDecoder;
use wire::batch::{Batch, BatchBuilder, BatchHeader, BatchOptions, RecordIter};
use wire::messages::*;
use wire::{Message, Reader, Rope, Uuid, Writer};

/// Nanoseconds for one call: the least of several rounds, which other work on the machine disturbs least.
fn time(mut call: impl FnMut()) -> f64 {
    let round = |call: &mut dyn FnMut(), n: u32| {
        let start = Instant::now();
        (0..n).for_each(|_| call());
        start.elapsed().as_nanos() as f64 / n as f64
    };
    let once = round(&mut call, 100).max(1.0);
    let n = ((2_000_000.0 / once) as u32).clamp(20, 200_000);
    (0..25).map(|_| round(&mut call, n)).fold(f64::INFINITY, f64::min)
}

fn compare(what: &str, ours: f64, theirs: f64) {
    let ratio = ours / theirs;
    let mark = if ratio > 1.0 { "!" } else { " " };
    println!("{mark} {what:<40} {ours:>9.1} ns  {theirs:>9.1} ns  {ratio:>5.2}");
}

fn budget(what: &str, ours: f64, most: f64) {
    let mark = if ours > most { "!" } else { " " };
    println!("{mark} {what:<40} {ours:>9.1} ns  budget {most:>6.0} ns");
}

fn encoded<'a>(message: &impl Message<'a>, version: i16) -> Rope {
    let mut w = Writer::new();
    message.encode(&mut w, version).expect("it can be encoded");
    w.finish().expect("it can be encoded")
}

/// Both ways, against theirs.
macro_rules! both {
    ($name:ident, $version:expr, $message:expr) => {{
        let message = $message;
        let rope = encoded(&message, $version);
        let bytes = rope.to_bytes();
        let one_piece = Rope::from(bytes.clone());
        let other = theirs::$name::decode(&mut bytes.clone(), $version).expect("they can decode it");
        let label = format!("{} v{}, {} bytes", stringify!($name), $version, bytes.len());
        compare(
            &format!("{label}, encode"),
            time(|| {
                let mut w = Writer::with_capacity(240);
                message.encode(&mut w, $version).expect("it can be encoded");
                black_box(w.finish().expect("it can be encoded"));
            }),
            time(|| {
                let mut out = BytesMut::with_capacity(240);
                other.encode(&mut out, $version).expect("it can be encoded");
                black_box(out.freeze());
            }),
        );
        compare(
            &format!("{label}, decode"),
            time(|| {
                let mut r = Reader::new(black_box(&one_piece));
                black_box($name::decode(&mut r, $version).expect("it can be decoded"));
            }),
            time(|| {
                let mut input = black_box(&bytes).clone();
                black_box(theirs::$name::decode(&mut input, $version).expect("it can be decoded"));
            }),
        );
    }};
}

fn batch(records: usize, value: usize) -> Bytes {
    let value = vec![7; value];
    let mut builder = BatchBuilder::with_capacity(1024);
    for i in 0..records {
        builder.append(1_700_000_000_000 + i as i64, Some(&(i as u32).to_be_bytes()), Some(&value), &[]);
    }
    builder.finish(&StdCodecs, &BatchOptions::default()).expect("a batch")
}

fn id(n: u8) -> Uuid {
    Uuid([n, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
}

fn produce(records: Bytes) -> ProduceRequest<'static> {
    use produce_request::*;
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            topic_id: id(1),
            partition_data: vec![PartitionProduceData { index: 3, records: Some(records.into()) }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetch(partitions: i32) -> FetchRequest<'static> {
    use fetch_request::*;
    let partition = |i| FetchPartition {
        partition: i,
        current_leader_epoch: 5,
        fetch_offset: 1_000 + i as i64,
        last_fetched_epoch: 5,
        log_start_offset: 0,
        partition_max_bytes: 1 << 20,
        replica_directory_id: id(9),
        ..Default::default()
    };
    FetchRequest {
        replica_state: ReplicaState { replica_id: 2, replica_epoch: 77 },
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 10 << 20,
        topics: vec![FetchTopic {
            topic_id: id(1),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetched(partitions: i32, records: &Bytes) -> FetchResponse<'static> {
    use fetch_response::*;
    let partition = |i| PartitionData {
        partition_index: i,
        high_watermark: 12_345,
        last_stable_offset: 12_345,
        log_start_offset: 0,
        aborted_transactions: None,
        records: Some(records.clone().into()),
        ..Default::default()
    };
    FetchResponse {
        session_id: 7,
        responses: vec![FetchableTopicResponse {
            topic_id: id(1),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn metadata(topics: usize) -> MetadataResponse<'static> {
    use metadata_response::*;
    let partition = |i| MetadataResponsePartition {
        partition_index: i,
        leader_id: 1 + i % 3,
        leader_epoch: 4,
        replica_nodes: vec![1, 2, 3],
        isr_nodes: vec![1, 2, 3],
        ..Default::default()
    };
    let broker = |i| MetadataResponseBroker {
        node_id: i,
        host: format!("broker-{i}").into(),
        port: 9092,
        ..Default::default()
    };
    MetadataResponse {
        brokers: (1..=3).map(broker).collect(),
        cluster_id: Some("vq4XAys8R_-R3ouk3RglnA".into()),
        controller_id: 1,
        topics: (0..topics)
            .map(|i| MetadataResponseTopic {
                name: Some(format!("topic-{i}").into()),
                topic_id: id(i as u8),
                partitions: (0..3).map(partition).collect(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn main() {
    println!("  {:<40} {:>12}  {:>12}  ratio", "", "ours", "theirs");
    let small = batch(1, 100);
    let large = batch(16, 1_000);
    let hundred = batch(100, 100);
    both!(
        ProduceRequest,
        12,
        ProduceRequest {
            topic_data: vec![produce_request::TopicProduceData {
                name: "purchases".into(),
                topic_id: Uuid::ZERO,
                ..produce(small.clone()).topic_data.remove(0)
            }],
            ..produce(small.clone())
        }
    );
    both!(ProduceRequest, 13, produce(small));
    both!(ProduceRequest, 13, produce(large.clone()));
    both!(FetchRequest, 17, fetch(10));
    both!(FetchRequest, 17, fetch(1));
    both!(FetchResponse, 17, fetched(1, &large));
    both!(FetchResponse, 17, fetched(10, &large));
    both!(FetchResponse, 17, fetched(10, &Bytes::new()));
    both!(MetadataResponse, 13, metadata(100));
    both!(HeartbeatResponse, 4, HeartbeatResponse::default());

    let rope = Rope::from(hundred.clone());
    let parsed = Batch::parse(&rope).expect("a batch");
    let records = parsed.records(&StdCodecs, 1 << 20).expect("records");
    budget("batch header, parse", time(|| drop(black_box(BatchHeader::parse(black_box(&hundred))))), 10.0);
    let walk = || {
        let mut sum = 0;
        for record in RecordIter::new(&parsed.header, black_box(records.bytes())) {
            let record = record.expect("a record");
            sum += record.offset + record.value.map_or(0, |v| v.len() as i64);
        }
        black_box(sum);
    };
    budget("100 records, iterate", time(walk), 1_000.0);
    compare(
        "100 records, read",
        time(|| {
            let batch = Batch::parse(black_box(&rope)).expect("a batch");
            batch.check_crc(&StdCodecs).expect("the CRC");
            let records = batch.records(&StdCodecs, 1 << 20).expect("records");
            black_box(records.iter().map(|r| r.expect("a record").offset).sum::<i64>());
        }),
        time(|| {
            let set = RecordBatchDecoder::decode(&mut black_box(&hundred).clone()).expect("a batch");
            black_box(set.records.iter().map(|r| r.offset).sum::<i64>());
        }),
    );
    budget("100 records of 100 bytes, build", time(|| drop(black_box(batch(100, 100)))), 5_000.0);
}

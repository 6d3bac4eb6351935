//! Requests about transactions as Kafka's clients and brokers sent them: our answers are Kafka's, byte for byte, but for
//! the times in them.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use wire::frame::ResponseHeader;
use wire::messages::*;
use wire::{ApiKey, Message, Reader, Rope};

use super::lab::Lab;
use crate::io::Listener;

/// The recorded pairs of an API, in their order: request and response.
pub(super) fn recorded(api: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines = include_str!("../../../../wire/tests/data/frames.jsonl").lines();
    let field = |line: &str, name: &str| {
        let begin = format!("\"{name}\": \"");
        let from = line.find(&begin).unwrap_or_else(|| panic!("{line} has {name}")) + begin.len();
        String::from(line[from..].split('"').next().unwrap())
    };
    let hex = |text: String| {
        let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
        text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    };
    let of_api = lines.filter(|line| !line.is_empty() && field(line, "api") == api);
    of_api.map(|line| (hex(field(line, "request")), hex(field(line, "response")))).collect()
}

/// Sends a recorded request to a broker; its answer.
pub(super) fn replay(lab: &mut Lab, broker: i32, request: &[u8]) -> Vec<u8> {
    let client = lab.dial(&format!("broker-{broker}"), Listener::Broker);
    lab.send_raw(&client, Rope::from(Bytes::copy_from_slice(request)));
    lab.answer(&client, 30_000).expect("an answer").to_bytes().to_vec()
}

pub(super) fn leader(lab: &Lab, topic: &str, partition: i32) -> i32 {
    lab.node("broker-1").image().topics.topic_named(topic).unwrap().partitions[&partition].leader
}

/// InitProducerId until there is an id.
fn init(lab: &mut Lab, broker: i32, id: Option<&'static str>) -> (i64, i16) {
    for _ in 0..50 {
        let mut client = lab.dial(&format!("broker-{broker}"), Listener::Broker);
        let request = InitProducerIdRequest {
            transactional_id: id.map(Into::into),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let look = |r: InitProducerIdResponse| (r.error_code, r.producer_id, r.producer_epoch);
        match lab.ask(&mut client, 5, &request, look) {
            (0, producer_id, epoch) => return (producer_id, epoch),
            _ => lab.run(100),
        }
    }
    panic!("no producer id")
}

/// Three brokers with `tx` as in the session that was recorded, and the id `shop-tx` with producer 2000.
fn session() -> (Lab, i32) {
    let mut lab = Lab::new(3, 1, &[]);
    lab.start_all();
    lab.run_until(20_000, "every node serves", Lab::all_running);
    let mut client = lab.dial("broker-1", Listener::Broker);
    for (name, partitions) in [("__transaction_state", 1), ("tx", 2)] {
        let topic = create_topics_request::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 3,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
        assert_eq!(lab.ask(&mut client, 7, &request, |r| r.topics[0].error_code), 0);
    }
    lab.run(2_000);
    let coordinator = leader(&lab, "__transaction_state", 0);
    for broker in (1..=3).filter(|broker| *broker != coordinator) {
        init(&mut lab, broker, None);
    }
    assert_eq!(init(&mut lab, coordinator, Some("shop-tx")), (2000, 0));
    (lab, coordinator)
}

#[test]
fn the_recorded_requests_are_answered_as_kafka_did() {
    let (mut lab, coordinator) = session();
    let (add, added) = recorded("AddPartitionsToTxn").remove(0);
    let (end, ended) = recorded("EndTxn").remove(0);
    let (mark, marked) = recorded("WriteTxnMarkers").remove(0);
    let lists = recorded("ListTransactions");
    assert_eq!(replay(&mut lab, coordinator, &add), added);
    assert_eq!(replay(&mut lab, coordinator, &lists[1].0), lists[1].1, "ongoing");
    assert_eq!(replay(&mut lab, coordinator, &end), ended);
    lab.run(500);
    let of_data = leader(&lab, "tx", 0);
    assert_eq!(replay(&mut lab, of_data, &mark), marked, "a marker that comes again");
    assert_eq!(replay(&mut lab, coordinator, &lists[2].0), lists[2].1, "committed");
    let describe = recorded("DescribeTransactions");
    let nope = &describe[0];
    assert_eq!(replay(&mut lab, coordinator, &nope.0), nope.1);
    // Five transactions more, to the epoch of the recording.
    for epoch in 1..6u8 {
        for (frame, name) in [(&add, "add"), (&end, "end")] {
            let mut frame = frame.clone();
            // The producer's epoch stands behind its id, 2000.
            let id = 2000i64.to_be_bytes();
            let at = frame.windows(8).position(|w| w == id).unwrap() + 9;
            frame[at] = epoch;
            let answer = replay(&mut lab, coordinator, &frame);
            assert!(answer.len() == if name == "add" { added.len() } else { ended.len() });
        }
        lab.run(500);
    }
    described(&mut lab, coordinator, &describe[1]);
    producers(&mut lab, of_data);
}

fn body<'r, M: Message<'r>>(frame: &'r Rope, key: ApiKey, version: i16) -> M {
    let mut reader = Reader::new(frame);
    ResponseHeader::decode(&mut reader, key, version).unwrap();
    M::decode(&mut reader, version).unwrap()
}

fn described(lab: &mut Lab, coordinator: i32, (request, theirs): &(Vec<u8>, Vec<u8>)) {
    let ours = Rope::from(Bytes::from(replay(lab, coordinator, request)));
    let theirs = Rope::from(Bytes::copy_from_slice(theirs));
    let mut ours: DescribeTransactionsResponse<'_> = body(&ours, ApiKey::DescribeTransactions, 0);
    let theirs: DescribeTransactionsResponse<'_> = body(&theirs, ApiKey::DescribeTransactions, 0);
    assert!(ours.transaction_states[0].transaction_start_time_ms > 0);
    ours.transaction_states[0].transaction_start_time_ms =
        theirs.transaction_states[0].transaction_start_time_ms;
    assert_eq!(ours, theirs);
}

fn producers(lab: &mut Lab, leader: i32) {
    let (request, theirs) = recorded("DescribeProducers").remove(0);
    let ours = Rope::from(Bytes::from(replay(lab, leader, &request)));
    let theirs = Rope::from(Bytes::from(theirs));
    let mut ours: DescribeProducersResponse<'_> = body(&ours, ApiKey::DescribeProducers, 0);
    let theirs: DescribeProducersResponse<'_> = body(&theirs, ApiKey::DescribeProducers, 0);
    let time = theirs.topics[0].partitions[0].active_producers[0].last_timestamp;
    ours.topics[0].partitions[0].active_producers[0].last_timestamp = time;
    assert_eq!(ours, theirs);
}

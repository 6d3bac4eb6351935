//! Producer ids and what leaders do with them (KIP-98).

use alloc::vec;
use alloc::vec::Vec;

use wire::batch::{BatchBuilder, BatchOptions};
use wire::error::ErrorCode;
use wire::frame::ResponseHeader;
use wire::messages::create_topics_request::CreatableTopic;
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::*;
use wire::{ApiKey, Message, Reader, Rope, Uuid};

use super::lab::{Client, Lab};
use crate::io::Listener;

fn started(brokers: i32, extra: &[(&str, &str)]) -> Lab {
    let mut lab = Lab::new(brokers, 1, extra);
    lab.start_all();
    lab.run_until(20_000, "every node serves", Lab::all_running);
    lab
}

fn client(lab: &mut Lab, broker: i32) -> Client {
    lab.dial(&alloc::format!("broker-{broker}"), Listener::Broker)
}

/// One InitProducerId: the error, the id and the epoch.
fn init(lab: &mut Lab, client: &mut Client, transactional_id: Option<&'static str>) -> (ErrorCode, i64, i16) {
    let request = InitProducerIdRequest {
        transactional_id: transactional_id.map(Into::into),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    lab.ask(client, 5, &request, |r| (ErrorCode(r.error_code), r.producer_id, r.producer_epoch))
}

/// As a client asks: again while the broker waits for its block.
fn producer_id(lab: &mut Lab, client: &mut Client) -> i64 {
    for _ in 0..50 {
        match init(lab, client, None) {
            (ErrorCode::NONE, id, 0) => return id,
            (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, -1, -1) => lab.run(100),
            other => panic!("{other:?}"),
        }
    }
    panic!("no producer id in five seconds")
}

#[test]
fn brokers_give_ids_from_blocks_of_a_thousand_and_never_one_twice() {
    let mut lab = started(2, &[]);
    let (mut one, mut two) = (client(&mut lab, 1), client(&mut lab, 2));
    assert_eq!(init(&mut lab, &mut one, None).0, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert_eq!(producer_id(&mut lab, &mut one), 0);
    assert_eq!(producer_id(&mut lab, &mut two), 1000);
    assert_eq!(producer_id(&mut lab, &mut one), 1);
    // The next block is there before the first is used up: nobody waits.
    let ids: Vec<(ErrorCode, i64, i16)> = (2..1002).map(|_| init(&mut lab, &mut one, None)).collect();
    assert!(ids.iter().all(|(error, _, epoch)| *error == ErrorCode::NONE && *epoch == 0));
    let ids: Vec<i64> = ids.iter().map(|(_, id, _)| *id).collect();
    assert_eq!(ids, (2..1000).chain([2000, 2001]).collect::<Vec<_>>());
    // What is left of a block is lost with the process.
    lab.kill("broker-1");
    lab.run(10_000);
    lab.start("broker-1");
    lab.run_until(20_000, "it serves again", Lab::all_running);
    let mut one = client(&mut lab, 1);
    assert_eq!(producer_id(&mut lab, &mut one), 3000);
    assert_eq!(producer_id(&mut lab, &mut two), 1001);
}

#[test]
fn a_new_controller_goes_on_behind_the_blocks_of_the_old_one() {
    let mut lab = Lab::new(1, 3, &[]);
    lab.start_all();
    lab.run_until(20_000, "every node serves", Lab::all_running);
    let mut one = client(&mut lab, 1);
    assert_eq!(producer_id(&mut lab, &mut one), 0);
    for n in 1..899 {
        assert_eq!(init(&mut lab, &mut one, None), (ErrorCode::NONE, n, 0));
    }
    let active = lab.active_controller().unwrap();
    lab.kill(&active);
    // The request for the next block finds the new active controller by itself.
    for n in 899..1000 {
        assert_eq!(init(&mut lab, &mut one, None), (ErrorCode::NONE, n, 0));
    }
    lab.run(10_000);
    assert_eq!(init(&mut lab, &mut one, None), (ErrorCode::NONE, 1000, 0));
}

#[test]
fn what_is_no_request_for_an_id_without_transactions_is_refused() {
    let mut lab = started(1, &[]);
    let mut one = client(&mut lab, 1);
    assert_eq!(init(&mut lab, &mut one, Some("")), (ErrorCode::INVALID_REQUEST, -1, -1));
    assert_eq!(init(&mut lab, &mut one, Some("tx")), (ErrorCode::NOT_COORDINATOR, -1, -1));
    let half =
        InitProducerIdRequest { transactional_id: None, producer_id: 7, ..InitProducerIdRequest::default() };
    let error = lab.ask(&mut one, 4, &half, |r| r.error_code);
    assert_eq!(error, ErrorCode::INVALID_REQUEST.0);
    let too_long = InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: 900_001,
        ..InitProducerIdRequest::default()
    };
    let error = lab.ask(&mut one, 0, &too_long, |r| r.error_code);
    assert_eq!(error, ErrorCode::INVALID_TRANSACTION_TIMEOUT.0);
}

/// A Produce request, acks=all, with a batch of two records of a producer of this id.
fn two_records(topic: Uuid, producer: i64, base_sequence: i32) -> ProduceRequest<'static> {
    let mut builder = BatchBuilder::with_capacity(512);
    for value in ["a", "b"] {
        builder.append(1_795_209_600_000, None, Some(value.as_bytes()), &[]);
    }
    let options =
        BatchOptions { producer_id: producer, producer_epoch: 0, base_sequence, ..BatchOptions::default() };
    let records = Some(Rope::from(builder.finish(&codecs::StdCodecs, &options).unwrap()));
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: "".into(),
            topic_id: topic,
            partition_data: vec![PartitionProduceData { index: 0, records }],
        }],
        transactional_id: None,
    }
}

fn outcome(response: &ProduceResponse<'_>) -> (ErrorCode, i64) {
    let p = &response.responses[0].partition_responses[0];
    (ErrorCode(p.error_code), p.base_offset)
}

/// Sends a batch of two records and waits for the answer: the error and the base offset.
fn produce(
    lab: &mut Lab,
    client: &mut Client,
    topic: Uuid,
    producer: i64,
    base_sequence: i32,
) -> (ErrorCode, i64) {
    lab.ask(client, 13, &two_records(topic, producer, base_sequence), |r| outcome(&r))
}

/// A topic with one partition, which broker 1 leads.
fn topic(lab: &mut Lab, client: &mut Client, replicas: Vec<i32>) -> Uuid {
    let assignments =
        vec![create_topics_request::CreatableReplicaAssignment { partition_index: 0, broker_ids: replicas }];
    let topic = CreatableTopic {
        name: "purchases".into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
    let (error, id) = lab.ask(client, 7, &request, |r| (r.topics[0].error_code, r.topics[0].topic_id));
    assert_eq!(error, 0);
    lab.run(500);
    id
}

#[test]
fn a_batch_that_is_sent_twice_is_appended_once_also_to_the_next_leader() {
    let mut lab = started(2, &[]);
    let (mut one, mut two) = (client(&mut lab, 1), client(&mut lab, 2));
    let id = topic(&mut lab, &mut one, vec![1, 2]);
    let producer = producer_id(&mut lab, &mut one);
    assert_eq!(produce(&mut lab, &mut one, id, producer, 0), (ErrorCode::NONE, 0));
    assert_eq!(produce(&mut lab, &mut one, id, producer, 2), (ErrorCode::NONE, 2));
    assert_eq!(produce(&mut lab, &mut one, id, producer, 0), (ErrorCode::NONE, 0));
    assert_eq!(produce(&mut lab, &mut one, id, producer, 8), (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1));
    lab.kill("broker-1");
    lab.run(12_000);
    // What the follower copied told it of the producer.
    assert_eq!(produce(&mut lab, &mut two, id, producer, 2), (ErrorCode::NONE, 2));
    assert_eq!(produce(&mut lab, &mut two, id, producer, 4), (ErrorCode::NONE, 4));
    lab.check_invariants();
}

#[test]
fn a_batch_that_comes_again_while_it_waits_is_answered_with_the_first() {
    let mut lab = started(2, &[]);
    let mut clients = [1, 1, 1].map(|broker| client(&mut lab, broker));
    let id = topic(&mut lab, &mut clients[0], vec![1, 2]);
    assert_eq!(produce(&mut lab, &mut clients[0], id, 7, 0), (ErrorCode::NONE, 0));
    lab.cut("broker-2");
    // The last one comes when a later batch waits already.
    for (client, base_sequence) in clients.iter_mut().zip([2, 4, 2]) {
        lab.send(client, 13, &two_records(id, 7, base_sequence));
        lab.run(20);
    }
    for (client, base_offset) in clients.iter().zip([2, 4, 2]) {
        // The controller fences the follower after its session; then the leader goes on alone.
        let frame = lab.answer(client, 20_000).expect("an answer");
        let mut reader = Reader::new(&frame);
        ResponseHeader::decode(&mut reader, ApiKey::Produce, 13).unwrap();
        let response = ProduceResponse::decode(&mut reader, 13).unwrap();
        assert_eq!(outcome(&response), (ErrorCode::NONE, base_offset));
    }
    lab.check_invariants();
}

#[test]
fn a_silent_producer_is_forgotten_after_its_time() {
    let extra =
        [("producer.id.expiration.ms", "20000"), ("producer.id.expiration.check.interval.ms", "5000")];
    for (silence, wanted) in [(5_000, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), (40_000, ErrorCode::NONE)] {
        let mut lab = started(1, &extra);
        let mut one = client(&mut lab, 1);
        let id = topic(&mut lab, &mut one, vec![1]);
        assert_eq!(produce(&mut lab, &mut one, id, 7, 0), (ErrorCode::NONE, 0));
        lab.run(silence);
        // Of whom nothing is known, any sequence is taken (KIP-360).
        assert_eq!(produce(&mut lab, &mut one, id, 7, 40).0, wanted, "after {silence} ms");
    }
}

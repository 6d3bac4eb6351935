//! Clients with quotas: what they are told, and how fast they are in the long run although they do not care.

use alloc::vec;
use alloc::vec::Vec;

use wire::batch::{BatchBuilder, BatchOptions};
use wire::error::ErrorCode;
use wire::frame::encode_request;
use wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use wire::messages::create_topics_request::CreatableTopic;
use wire::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::*;
use wire::{Rope, Uuid};

use super::lab::{Client, Lab};
use crate::event::Event;
use crate::io::Listener;

const QUOTA: f64 = 1024.0;

/// A broker with the topic `t`, and a quota for the lab's client.
fn limited(key: &'static str, value: f64) -> (Lab, Client, Uuid) {
    let mut lab = Lab::new(1, 1, &[]);
    lab.start_all();
    lab.run_until(20_000, "every node serves", Lab::all_running);
    let mut client = lab.dial("broker-1", Listener::Broker);
    assert_eq!(create_topic(&mut lab, &mut client, "t", 1), (0, 0));
    alter(&mut lab, &mut client, key, Some(value));
    let id = lab.node("broker-1").image().topics.id_of("t").unwrap();
    (lab, client, id)
}

fn alter(lab: &mut Lab, client: &mut Client, key: &'static str, value: Option<f64>) {
    let part = EntityData { entity_type: "client-id".into(), entity_name: Some("test".into()) };
    let op = OpData { key: key.into(), value: value.unwrap_or(0.0), remove: value.is_none() };
    let entries = vec![EntryData { entity: vec![part], ops: vec![op] }];
    let request = AlterClientQuotasRequest { entries, validate_only: false };
    assert_eq!(lab.ask(client, 1, &request, |r| r.entries[0].error_code), 0);
    lab.run(1_000);
}

/// Error and milliseconds to wait.
fn create_topic(lab: &mut Lab, client: &mut Client, name: &'static str, partitions: i32) -> (i16, i32) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
    let told = lab.ask(client, 7, &request, |r| (r.topics[0].error_code, r.throttle_time_ms));
    lab.run(100);
    told
}

fn produce_request(topic_id: Uuid, bytes: usize, acks: i16) -> ProduceRequest<'static> {
    let mut builder = BatchBuilder::with_capacity(bytes + 100);
    builder.append(1_795_209_600_000, None, Some(&vec![b'x'; bytes]), &[]);
    let records = Rope::from(builder.finish(&codecs::StdCodecs, &BatchOptions::default()).unwrap());
    let partition_data = vec![PartitionProduceData { index: 0, records: Some(records) }];
    let topic_data = vec![TopicProduceData { name: "".into(), topic_id, partition_data }];
    ProduceRequest { transactional_id: None, acks, timeout_ms: 30_000, topic_data }
}

/// Milliseconds to wait.
fn produce(lab: &mut Lab, client: &mut Client, topic: Uuid, bytes: usize) -> i32 {
    let request = produce_request(topic, bytes, 1);
    lab.ask(client, 13, &request, |r| {
        assert_eq!(r.responses[0].partition_responses[0].error_code, 0);
        r.throttle_time_ms
    })
}

/// Session, milliseconds to wait and bytes.
fn fetch(
    lab: &mut Lab,
    client: &mut Client,
    topic_id: Uuid,
    offset: Option<i64>,
    session: (i32, i32),
) -> (i32, i32, usize) {
    let wanted = |fetch_offset| FetchPartition {
        partition: 0,
        fetch_offset,
        current_leader_epoch: -1,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic = |offset| FetchTopic { topic: "".into(), topic_id, partitions: vec![wanted(offset)] };
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_id: session.0,
        session_epoch: session.1,
        topics: offset.map(topic).into_iter().collect(),
        ..FetchRequest::default()
    };
    lab.ask(client, 17, &request, |r| {
        assert_eq!(r.error_code, 0);
        let given = r.responses.iter().flat_map(|t| &t.partitions);
        (r.session_id, r.throttle_time_ms, given.map(|p| p.records.as_ref().map_or(0, Rope::len)).sum())
    })
}

#[test]
fn a_producer_is_as_fast_as_its_quota_in_the_long_run() {
    let (mut lab, mut client, topic) = limited("producer_byte_rate", QUOTA);
    let bytes = encode_request(13, 0, Some("test"), &produce_request(topic, 1_000, 1)).unwrap().len() - 4;
    let mut at = vec![lab.ms()];
    let mut waits = Vec::new();
    for _ in 0..500 {
        waits.push(produce(&mut lab, &mut client, topic, 1_000));
        at.push(lab.ms());
    }
    // Ten seconds' worth go through at once; the request that goes over it is told what its excess is worth.
    let free = waits.iter().take_while(|wait| **wait == 0).count();
    assert_eq!(free, (10.0 * QUOTA) as usize / bytes);
    let excess = ((free + 1) * bytes) as f64 - 10.0 * QUOTA;
    let expected = (excess / QUOTA * 1000.0) as i32;
    assert!((expected - 50..=expected).contains(&waits[free]), "{} instead of {expected}", waits[free]);
    // From then on each request waits in the broker until its predecessor's time is over. Samples that begin and expire
    // let the rate swing around the quota by some per cent for minutes, in Kafka as well.
    let took = (at[500] - at[100]) as f64 / 1000.0;
    let rate = (400 * bytes) as f64 / took;
    assert!((QUOTA * 0.95..=QUOTA * 1.05).contains(&rate), "{rate} bytes a second");

    let first: Vec<_> = (lab.events.iter())
        .filter(|(_, node, e)| node == "broker-1" && matches!(e, Event::ClientThrottled { .. }))
        .collect();
    assert_eq!(first.len(), 1, "it is told once");
    alter(&mut lab, &mut client, "producer_byte_rate", None);
    assert_eq!(produce(&mut lab, &mut client, topic, 100_000), 0);
}

#[test]
fn a_producer_without_answers_is_held_up_all_the_same() {
    let (mut lab, mut client, topic) = limited("producer_byte_rate", QUOTA);
    let began = lab.ms();
    for _ in 0..3 {
        lab.send(&mut client, 13, &produce_request(topic, 10_000, 0));
    }
    // The third is looked at when the second's time is over.
    let end = |lab: &Lab| {
        let mut replicas = lab.node("broker-1").replicas().unwrap().partitions();
        replicas.next().unwrap().log.unwrap().log_end_offset()
    };
    lab.run(5_000);
    assert_eq!(end(&lab), 2);
    lab.run_until(10_000, "the third is appended", |lab| end(lab) == 3);
    assert!((9_000..11_000).contains(&(lab.ms() - began)), "after {} ms", lab.ms() - began);
}

#[test]
fn a_quota_outlives_the_broker_and_holds_for_whom_it_names() {
    let (mut lab, _, topic) = limited("producer_byte_rate", QUOTA);
    lab.kill("broker-1");
    lab.start("broker-1");
    lab.run_until(20_000, "broker-1 serves", Lab::all_running);
    let mut client = lab.dial("broker-1", Listener::Broker);
    assert!(produce(&mut lab, &mut client, topic, 20_000) > 5_000);
    // No client id, and so none that has a quota.
    let request = produce_request(topic, 20_000, 1);
    let other = lab.dial("broker-1", Listener::Broker);
    let frame = encode_request(13, 7, None, &request).unwrap();
    lab.send_raw(&other, frame.slice(4, frame.len() - 4));
    let answer = lab.answer(&other, 100).expect("it is answered");
    let (_, answer) = wire::frame::decode_response::<ProduceRequest<'_>>(&answer, 13).unwrap();
    assert_eq!(answer.throttle_time_ms, 0);
}

#[test]
fn a_throttled_fetch_is_empty_and_what_it_wanted_comes_later() {
    let (mut lab, mut client, topic) = limited("consumer_byte_rate", QUOTA);
    for _ in 0..30 {
        produce(&mut lab, &mut client, topic, 1_000);
    }
    let (session, wait, bytes) = fetch(&mut lab, &mut client, topic, Some(0), (0, 0));
    assert!(session > 0 && wait == 0);
    // As much as ten seconds are worth, in whole batches.
    assert!((9_000..=10_240).contains(&bytes), "{bytes}");
    let (same, wait, nothing) = fetch(&mut lab, &mut client, topic, Some(9), (session, 1));
    assert_eq!((same, nothing), (session, 0));
    assert!(wait > 5_000, "{wait}");
    let told = lab.ms();
    // The session remembers what was wanted, although the answer said nothing of it.
    let (same, next_wait, bytes) = fetch(&mut lab, &mut client, topic, None, (session, 2));
    assert!(lab.ms() - told >= wait as u64 - 1, "the broker listens again after {} ms", lab.ms() - told);
    assert_eq!(same, session);
    assert!(bytes > 0 || next_wait > 0);
    let mut epoch = 3;
    let mut bytes = bytes;
    while bytes == 0 {
        assert!(epoch < 10, "no data ever");
        bytes = fetch(&mut lab, &mut client, topic, None, (session, epoch)).2;
        epoch += 1;
    }
    // A request that would begin a session begins none while it is throttled.
    let (none, wait, bytes) = fetch(&mut lab, &mut client, topic, Some(0), (session, 0));
    assert_eq!((none, bytes), (0, 0));
    assert!(wait > 0);
    lab.check_invariants();
}

#[test]
fn the_controllers_quota_comes_through_the_broker() {
    let (mut lab, mut client, _) = limited("controller_mutation_rate", 1.0);
    assert_eq!(create_topic(&mut lab, &mut client, "a", 15), (0, 0));
    let (error, wait) = create_topic(&mut lab, &mut client, "b", 1);
    assert_eq!(error, ErrorCode::THROTTLING_QUOTA_EXCEEDED.0);
    assert!((3_000..4_000).contains(&wait), "{wait}");
    let told = lab.ms();
    let request = DescribeClusterRequest { endpoint_type: 1, ..DescribeClusterRequest::default() };
    lab.ask(&mut client, 2, &request, |r| assert_eq!(r.error_code, 0));
    assert!(lab.ms() - told >= wait as u64 - 150, "the broker listens again after {} ms", lab.ms() - told);
    assert_eq!(create_topic(&mut lab, &mut client, "b", 1), (0, 0));
    let quota = |e: &Event| matches!(e, Event::ClientThrottled { quota: "controller_mutation_rate", .. });
    assert_eq!(lab.first(0, quota).map(|(_, node)| node), Some("controller-101"));
}

//! What a class sees of a cluster: it starts, serves, loses a node, gets it back, and stops.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use wire::batch::{BatchBuilder, BatchOptions};
use wire::error::ErrorCode;
use wire::messages::create_topics_request::CreatableTopic;
use wire::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::*;
use wire::{Rope, Uuid};

use super::lab::{Client, Lab};
use crate::event::{Event, FenceReason};
use crate::io::Listener;
use crate::node::NodeState;

/// Starts everything and waits until it serves.
fn started(mut lab: Lab) -> Lab {
    lab.start_all();
    lab.run_until(20_000, "every node serves", Lab::all_running);
    lab
}

fn client(lab: &mut Lab, broker: i32) -> Client {
    lab.dial(&format!("broker-{broker}"), Listener::Broker)
}

fn create_topic(lab: &mut Lab, client: &mut Client, name: &str, partitions: i32, replicas: i16) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
    let error = lab
        .ask(client, 7, &request, |r| (r.topics[0].error_code, format!("{:?}", r.topics[0].error_message)));
    assert_eq!(error.0, 0, "{}", error.1);
}

/// Leader, leader epoch, ISR of a partition as a broker tells it; absent while the broker does not know the topic.
fn partition(
    lab: &mut Lab,
    client: &mut Client,
    topic: &'static str,
    index: usize,
) -> Option<(i32, i32, Vec<i32>)> {
    let name = metadata_request::MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(topic.into()) };
    let request = MetadataRequest { topics: Some(vec![name]), ..MetadataRequest::default() };
    lab.ask(client, 13, &request, |r| {
        let p = r.topics[0].partitions.get(index)?;
        Some((p.leader_id, p.leader_epoch, p.isr_nodes.clone()))
    })
}

/// Waits until a broker tells that a partition is as wanted.
fn wait_for(
    lab: &mut Lab,
    client: &mut Client,
    limit: u64,
    topic: &'static str,
    index: usize,
    wanted: impl Fn(&(i32, i32, Vec<i32>)) -> bool,
) -> (i32, i32, Vec<i32>) {
    let until = lab.ms() + limit;
    loop {
        let told = partition(lab, client, topic, index);
        match told {
            Some(p) if wanted(&p) => return p,
            told => assert!(
                lab.ms() < until,
                "{topic}-{index} is still {told:?} after {limit} ms: {:#?}",
                tail(lab)
            ),
        }
        lab.run(20);
    }
}

fn tail(lab: &Lab) -> Vec<String> {
    lab.events.iter().rev().take(25).rev().map(|(ms, node, e)| format!("{ms} {node} {e:?}")).collect()
}

fn batch(values: &[&str]) -> Rope {
    let mut builder = BatchBuilder::with_capacity(512);
    for value in values {
        builder.append(1_795_209_600_000, Some(b"k"), Some(value.as_bytes()), &[]);
    }
    Rope::from(builder.finish(&codecs::StdCodecs, &BatchOptions::default()).unwrap())
}

/// Produces to a partition; the error and the base offset.
fn produce(
    lab: &mut Lab,
    client: &mut Client,
    topic: Uuid,
    index: i32,
    acks: i16,
    values: &[&str],
) -> (i16, i64) {
    let data = PartitionProduceData { index, records: Some(batch(values)) };
    let request = ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { name: "".into(), topic_id: topic, partition_data: vec![data] }],
    };
    lab.ask(client, 13, &request, |r| {
        let p = &r.responses[0].partition_responses[0];
        (p.error_code, p.base_offset)
    })
}

/// Fetches from a partition: error, high watermark, and the number of bytes.
fn fetch(lab: &mut Lab, client: &mut Client, topic: Uuid, index: i32, offset: i64) -> (i16, i64, usize) {
    let wanted = FetchPartition {
        partition: index,
        fetch_offset: offset,
        current_leader_epoch: -1,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: "".into(), topic_id: topic, partitions: vec![wanted] }],
        ..FetchRequest::default()
    };
    lab.ask(client, 17, &request, |r| {
        let p = &r.responses[0].partitions[0];
        (p.error_code, p.high_watermark, p.records.as_ref().map_or(0, Rope::len))
    })
}

fn topic_id(lab: &Lab, name: &str) -> Uuid {
    lab.node("broker-1").image().topics.id_of(name).unwrap()
}

#[test]
fn a_cluster_starts_serves_and_describes_itself() {
    let mut lab = started(Lab::new(3, 1, &[]));
    assert!(lab.ms() < 5_000, "it took {} ms", lab.ms());
    let mut c = client(&mut lab, 1);
    create_topic(&mut lab, &mut c, "purchases", 3, 3);
    let (leader, epoch, isr) = wait_for(&mut lab, &mut c, 1_000, "purchases", 0, |p| p.2.len() == 3);
    assert_eq!((epoch, isr[0]), (0, leader));
    let id = topic_id(&lab, "purchases");
    let mut leading = client(&mut lab, leader);
    assert_eq!(produce(&mut lab, &mut leading, id, 0, -1, &["a", "b"]), (0, 0));
    assert_eq!(produce(&mut lab, &mut leading, id, 0, 1, &["c"]), (0, 2));
    lab.run(1_200);
    let (error, high_watermark, bytes) = fetch(&mut lab, &mut leading, id, 0, 0);
    assert_eq!((error, high_watermark), (0, 3));
    assert!(bytes > 100);
    let other = 1 + leader % 3;
    let mut following = client(&mut lab, other);
    let (error, _) = produce(&mut lab, &mut following, id, 0, -1, &["d"]);
    assert_eq!(error, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);

    let request = DescribeClusterRequest { endpoint_type: 1, ..DescribeClusterRequest::default() };
    let brokers = lab.ask(&mut c, 2, &request, |r| r.brokers.iter().map(|b| b.broker_id).collect::<Vec<_>>());
    assert_eq!(brokers, [1, 2, 3]);
    // Passed on to the controller.
    let partition = describe_quorum_request::PartitionData { partition_index: 0 };
    let topic = describe_quorum_request::TopicData {
        topic_name: "__cluster_metadata".into(),
        partitions: vec![partition],
    };
    let request = DescribeQuorumRequest { topics: vec![topic] };
    let quorum = lab.ask(&mut c, 2, &request, |r| {
        let p = &r.topics[0].partitions[0];
        (r.error_code, p.leader_id, p.current_voters.len(), p.observers.len())
    });
    assert_eq!(quorum, (0, 101, 1, 3));
    lab.check_invariants();
}

#[test]
fn a_topic_that_is_there_is_refused_in_the_controllers_words() {
    let mut lab = started(Lab::new(1, 1, &[]));
    let mut c = client(&mut lab, 1);
    create_topic(&mut lab, &mut c, "orders", 1, 1);
    let topic = CreatableTopic {
        name: "orders".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
    let told = lab.ask(&mut c, 7, &request, |r| {
        (r.topics[0].error_code, r.topics[0].error_message.as_deref().map(String::from))
    });
    assert_eq!(told, (ErrorCode::TOPIC_ALREADY_EXISTS.0, Some("Topic 'orders' already exists.".into())));
}

#[test]
fn a_killed_broker_is_fenced_after_its_session_and_returns() {
    let mut lab = started(Lab::new(3, 1, &[]));
    let mut c = client(&mut lab, 2);
    create_topic(&mut lab, &mut c, "purchases", 3, 3);
    let led_by_1 = (0..3)
        .find(|i| wait_for(&mut lab, &mut c, 1_000, "purchases", *i, |p| p.2.len() == 3).0 == 1)
        .expect("broker 1 leads one of three");
    let id = topic_id(&lab, "purchases");
    let mut one = client(&mut lab, 1);
    for i in 0..5 {
        assert_eq!(produce(&mut lab, &mut one, id, led_by_1 as i32, -1, &["x"]), (0, i));
    }
    lab.run(3_000);
    let killed = lab.ms();
    lab.kill("broker-1");
    let (leader, epoch, isr) = wait_for(&mut lab, &mut c, 12_000, "purchases", led_by_1, |p| p.0 != 1);
    let took = lab.ms() - killed;
    assert!((7_000..=10_500).contains(&took), "it took {took} ms");
    assert_eq!((epoch, isr.contains(&1), isr.len()), (1, false, 2));
    let fenced =
        |e: &Event| matches!(e, Event::BrokerFenced { broker: 1, reason: FenceReason::SessionExpired });
    assert_eq!(lab.first(killed, fenced).unwrap().1, "controller-101");
    let mut leading = client(&mut lab, leader);
    assert_eq!(produce(&mut lab, &mut leading, id, led_by_1 as i32, -1, &["y"]), (0, 5));

    lab.start("broker-1");
    let back = wait_for(&mut lab, &mut c, 20_000, "purchases", led_by_1, |p| p.2.len() == 3);
    assert_eq!((back.0, back.1), (leader, 1), "leadership does not move back by itself");
    assert!(lab.all_running());
    lab.run(3_000);
    let logs: Vec<i64> = (1..=3)
        .map(|b| {
            let node = lab.node(&format!("broker-{b}"));
            let mut replicas = node.replicas().unwrap().partitions();
            let view = replicas.find(|v| v.partition == led_by_1 as i32).unwrap();
            assert_eq!(view.high_watermark, 6, "broker {b}");
            view.log.unwrap().log_end_offset()
        })
        .collect();
    assert_eq!(logs, [6, 6, 6]);
    lab.check_invariants();
}

#[test]
fn a_broker_that_is_stopped_hands_over_first() {
    let mut lab = started(Lab::new(3, 1, &[]));
    let mut c = client(&mut lab, 2);
    create_topic(&mut lab, &mut c, "purchases", 3, 3);
    lab.run(1_000);
    let led_by_1 = (0..3)
        .find(|i| wait_for(&mut lab, &mut c, 1_000, "purchases", *i, |p| p.2.len() == 3).0 == 1)
        .expect("broker 1 leads one of three");
    let asked = lab.ms();
    lab.stop("broker-1");
    wait_for(&mut lab, &mut c, 1_000, "purchases", led_by_1, |p| p.0 != 1);
    lab.run_until(5_000, "broker-1 stops", |lab| lab.stopped.iter().any(|n| n == "broker-1"));
    assert!(lab.ms() - asked < 5_000);
    let granted = |e: &Event| matches!(e, Event::ControlledShutdownCompleted { granted: true });
    assert!(lab.first(asked, granted).is_some());
    assert!(lab.disk("broker-1").files().iter().any(|f| f.ends_with(".kafka_cleanshutdown")));
    assert_eq!(lab.halts, []);

    lab.start("broker-1");
    lab.run_until(20_000, "broker-1 serves again", Lab::all_running);
    wait_for(&mut lab, &mut c, 10_000, "purchases", led_by_1, |p| p.2.len() == 3);
    let clean = |e: &Event| matches!(e, Event::BrokerRegistered { broker: 1, clean: true, .. });
    assert!(lab.first(asked, clean).is_some(), "{:#?}", tail(&lab));
    lab.check_invariants();
}

#[test]
fn a_lone_broker_leaves_a_partition_without_a_leader_and_takes_it_back() {
    let mut lab = started(Lab::new(1, 1, &[]));
    let mut c = client(&mut lab, 1);
    create_topic(&mut lab, &mut c, "orders", 1, 1);
    wait_for(&mut lab, &mut c, 1_000, "orders", 0, |p| p.0 == 1);
    lab.stop("broker-1");
    lab.run_until(10_000, "it stops", |lab| !lab.stopped.is_empty());
    lab.run(1_000);
    let image = lab.node("controller-101").image();
    let topic = image.topics.topic_named("orders").unwrap();
    let p = &topic.partitions[&0];
    assert_eq!(
        (p.leader, p.elr.as_slice(), p.last_known_elr.as_slice()),
        (-1, &[1][..], &[1][..]),
        "{p:?} {:#?}",
        tail(&lab)
    );
    lab.start("broker-1");
    lab.run_until(20_000, "it serves again", Lab::all_running);
    let mut c = client(&mut lab, 1);
    wait_for(&mut lab, &mut c, 1_000, "orders", 0, |p| p.0 == 1 && p.2 == [1]);
}

#[test]
fn another_controller_takes_over_and_nobody_is_fenced() {
    let mut lab = started(Lab::new(3, 3, &[]));
    let mut c = client(&mut lab, 1);
    create_topic(&mut lab, &mut c, "a", 1, 3);
    let first = lab.active_controller().unwrap();
    let killed = lab.ms();
    lab.kill(&first);
    lab.run_until(10_000, "another controller is active", |lab| lab.active_controller().is_some());
    create_topic(&mut lab, &mut c, "b", 2, 3);
    lab.run(15_000);
    assert_eq!(lab.first(killed, |e| matches!(e, Event::BrokerFenced { .. })), None);
    lab.start(&first);
    lab.run_until(10_000, "it returns", Lab::all_running);
    // Two of three lost: nothing can be decided, but what there is goes on.
    let two: Vec<String> = ["controller-101", "controller-102"].iter().map(|n| String::from(*n)).collect();
    two.iter().for_each(|n| lab.kill(n));
    lab.run(8_000);
    assert_eq!(lab.active_controller(), None);
    let id = topic_id(&lab, "a");
    let leader = lab.node("broker-1").image().topics.topic_named("a").unwrap().partitions[&0].leader;
    let mut leading = client(&mut lab, leader);
    assert_eq!(produce(&mut lab, &mut leading, id, 0, -1, &["still"]).0, 0);
    two.iter().for_each(|n| lab.start(n));
    lab.run_until(20_000, "a controller is active again", |lab| lab.active_controller().is_some());
    create_topic(&mut lab, &mut c, "c", 1, 3);
    lab.run(12_000);
    assert_eq!(lab.first(killed, |e| matches!(e, Event::BrokerFenced { .. })), None);
    assert_eq!(lab.halts, []);
    lab.check_invariants();
}

#[test]
fn a_controller_that_is_stopped_hands_the_quorum_over() {
    let mut lab = started(Lab::new(1, 3, &[]));
    let first = lab.active_controller().unwrap();
    lab.stop(&first);
    lab.run_until(6_000, "it stops", |lab| !lab.stopped.is_empty());
    lab.run_until(3_000, "another is active", |lab| lab.active_controller().is_some());
    assert_ne!(lab.active_controller().unwrap(), first);
    lab.start(&first);
    lab.run_until(10_000, "it returns", Lab::all_running);
}

#[test]
fn nodes_of_both_roles_make_a_cluster() {
    let mut lab = started(Lab::combined(3, &[]));
    let mut c = client(&mut lab, 1);
    create_topic(&mut lab, &mut c, "purchases", 3, 3);
    wait_for(&mut lab, &mut c, 1_000, "purchases", 0, |p| p.2.len() == 3);
    lab.run(2_000);
    let active = lab.active_controller().unwrap();
    lab.kill(&active);
    let survivor = if active == "broker-1" { 2 } else { 1 };
    let dead: i32 = active.trim_start_matches("broker-").parse().unwrap();
    let mut c = client(&mut lab, survivor);
    for i in 0..3 {
        wait_for(&mut lab, &mut c, 15_000, "purchases", i, |p| p.0 != dead && !p.2.contains(&dead));
    }
    lab.start(&active);
    wait_for(&mut lab, &mut c, 20_000, "purchases", 0, |p| p.2.len() == 3);
    lab.stop("broker-3");
    lab.run_until(10_000, "broker-3 stops", |lab| lab.stopped.iter().any(|n| n == "broker-3"));
    assert_eq!(lab.halts, []);
    lab.check_invariants();
}

#[test]
fn a_broker_that_is_cut_off_is_fenced_and_comes_back_by_itself() {
    let mut lab = started(Lab::new(3, 1, &[]));
    let mut c = client(&mut lab, 2);
    create_topic(&mut lab, &mut c, "purchases", 1, 3);
    wait_for(&mut lab, &mut c, 1_000, "purchases", 0, |p| p.2.len() == 3);
    lab.cut("broker-1");
    wait_for(&mut lab, &mut c, 13_000, "purchases", 0, |p| !p.2.contains(&1) && p.0 != 1);
    lab.heal("broker-1");
    wait_for(&mut lab, &mut c, 45_000, "purchases", 0, |p| p.2.len() == 3);
    assert_eq!(lab.node("broker-1").state(), NodeState::Running);
    assert_eq!(lab.halts, []);
}

#[test]
fn a_broker_that_finds_no_controller_gives_up_after_a_minute() {
    let mut lab = Lab::new(1, 1, &[]);
    lab.start("broker-1");
    lab.run(59_000);
    assert_eq!(lab.halts, []);
    lab.run(2_000);
    let why = "Shutting down because we were unable to register with the controller quorum.";
    assert_eq!(lab.halts, [("broker-1".into(), why.into())]);
}

#[test]
fn the_same_run_twice_puts_out_the_same_bytes() {
    let run = || {
        let mut lab = started(Lab::new(3, 3, &[]));
        let mut c = client(&mut lab, 1);
        create_topic(&mut lab, &mut c, "purchases", 3, 3);
        let id = topic_id(&lab, "purchases");
        let (leader, ..) = wait_for(&mut lab, &mut c, 1_000, "purchases", 0, |p| p.2.len() == 3);
        let mut leading = client(&mut lab, leader);
        for _ in 0..20 {
            produce(&mut lab, &mut leading, id, 0, -1, &["x", "y"]);
        }
        lab.kill("broker-3");
        lab.run(12_000);
        lab.start("broker-3");
        lab.run(8_000);
        (lab.digest, lab.frames, lab.events.len())
    };
    let first = run();
    assert!(first.1 > 1_000);
    assert_eq!(first, run());
}

#[test]
fn a_clone_goes_on_as_its_original_does() {
    let mut lab = started(Lab::new(1, 1, &[]));
    lab.run(2_500);
    let original = lab.node("broker-1");
    let copy = original.clone();
    assert_eq!(copy.deadline(), original.deadline());
    assert_eq!(copy.image(), original.image());
    assert_eq!(copy.state(), NodeState::Running);
}

#[test]
fn a_broker_that_restarts_within_its_session_waits_for_the_old_one_to_end() {
    let mut lab = started(Lab::new(3, 1, &[]));
    let mut c = client(&mut lab, 2);
    create_topic(&mut lab, &mut c, "purchases", 1, 3);
    wait_for(&mut lab, &mut c, 1_000, "purchases", 0, |p| p.2.len() == 3);
    let killed = lab.ms();
    lab.kill("broker-1");
    lab.run(500);
    lab.start("broker-1");
    lab.run(5_000);
    assert_eq!(lab.node("broker-1").state(), NodeState::Starting);
    lab.run_until(15_000, "it serves", Lab::all_running);
    let registered = |e: &Event| matches!(e, Event::BrokerRegistered { broker: 1, clean: false, .. });
    let (at, _) = lab.first(killed, registered).expect("it registers anew");
    // The session ends after 9 s; attempts double their distance from 100 ms on, so the next one is some seconds later.
    assert!((7_000..=15_000).contains(&(at - killed)), "{}", at - killed);
    wait_for(&mut lab, &mut c, 5_000, "purchases", 0, |p| p.2.len() == 3);
}

#[test]
fn a_request_on_its_way_survives_the_controller_that_should_have_answered() {
    let mut lab = started(Lab::new(1, 3, &[]));
    let mut c = client(&mut lab, 1);
    let active = lab.active_controller().unwrap();
    // Silent, not gone: the request hangs on the connection to it.
    lab.cut(&active);
    let topic = CreatableTopic {
        name: "late".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, validate_only: false };
    let asked = lab.ms();
    let error = lab.ask(&mut c, 7, &request, |r| r.topics[0].error_code);
    assert_eq!(error, 0);
    assert!(lab.ms() - asked > 2_000, "another controller had to be elected first");
    lab.heal(&active);
    lab.run(10_000);
    assert_eq!(lab.halts, []);
    lab.check_invariants();
}

#[test]
fn a_request_that_no_controller_answers_times_out_after_a_minute() {
    let mut lab = started(Lab::new(1, 1, &[]));
    let mut c = client(&mut lab, 1);
    lab.kill("controller-101");
    let topic = CreatableTopic {
        name: "never".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
    let id = lab.send(&mut c, 7, &request);
    assert_eq!(id, 0);
    assert!(lab.answer(&c, 59_000).is_none());
    let answer = lab.answer(&c, 2_000).expect("the broker gives up");
    let mut reader = wire::Reader::new(&answer);
    wire::frame::ResponseHeader::decode(&mut reader, wire::ApiKey::CreateTopics, 7).unwrap();
    let response = <CreateTopicsResponse<'_> as wire::Message<'_>>::decode(&mut reader, 7).unwrap();
    assert_eq!(response.topics[0].error_code, ErrorCode::REQUEST_TIMED_OUT.0);
}

#[test]
fn a_broker_whose_only_disk_is_full_halts_and_others_lead() {
    let mut lab = started(Lab::new(3, 1, &[]));
    let mut c = client(&mut lab, 2);
    create_topic(&mut lab, &mut c, "purchases", 3, 3);
    let led_by_1 = (0..3)
        .find(|i| wait_for(&mut lab, &mut c, 1_000, "purchases", *i, |p| p.2.len() == 3).0 == 1)
        .expect("broker 1 leads one of three");
    let id = topic_id(&lab, "purchases");
    let mut one = client(&mut lab, 1);
    lab.disk("broker-1").set_capacity(Some(1));
    let data = PartitionProduceData { index: led_by_1 as i32, records: Some(batch(&["x"])) };
    let topic = TopicProduceData { name: "".into(), topic_id: id, partition_data: vec![data] };
    let request =
        ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 1_000, topic_data: vec![topic] };
    lab.send(&mut one, 13, &request);
    lab.run_until(5_000, "broker-1 halts", |lab| !lab.halts.is_empty());
    assert_eq!(lab.halts[0].0, "broker-1");
    wait_for(&mut lab, &mut c, 15_000, "purchases", led_by_1, |p| p.0 != 1);
}

#[test]
fn snapshots_keep_the_metadata_log_short_and_bring_a_late_node_up_to_date() {
    let settings = [
        ("metadata.log.max.record.bytes.between.snapshots", "3000"),
        ("metadata.max.retention.bytes", "2000"),
        ("metadata.log.segment.bytes", "1048576"),
        ("internal.metadata.log.segment.bytes", "2048"),
    ];
    let mut lab = Lab::new(2, 1, &settings);
    lab.start("controller-101");
    lab.start("broker-1");
    lab.run_until(20_000, "they serve", Lab::all_running);
    let mut c = client(&mut lab, 1);
    for i in 0..40 {
        create_topic(&mut lab, &mut c, &format!("topic-{i}"), 2, 1);
    }
    lab.run(200_000);
    let wrote = |e: &Event| matches!(e, Event::SnapshotWritten { .. });
    assert!(lab.first(0, wrote).is_some(), "{:#?}", tail(&lab));
    assert!(lab.node("controller-101").raft().log().log_start_offset() > 0, "old segments are gone");
    let late = lab.ms();
    lab.start("broker-2");
    lab.run_until(20_000, "broker-2 serves", Lab::all_running);
    let loaded = |e: &Event| matches!(e, Event::SnapshotLoaded { .. });
    assert_eq!(lab.first(late, loaded).map(|(_, node)| node), Some("broker-2"));
    lab.run(2_000);
    let (a, b) = (lab.node("broker-1").image(), lab.node("broker-2").image());
    assert_eq!(a.topics, b.topics);
    assert_eq!(a.topics.len(), 40);
    lab.check_invariants();
}

#[test]
fn power_lost_everywhere_loses_nothing_of_what_was_agreed() {
    let mut lab = started(Lab::new(3, 3, &[]));
    let mut c = client(&mut lab, 1);
    create_topic(&mut lab, &mut c, "purchases", 3, 3);
    lab.run(3_000);
    let names: Vec<String> = (1..=3)
        .map(|i| format!("broker-{i}"))
        .chain((101..=103).map(|i| format!("controller-{i}")))
        .collect();
    names.iter().for_each(|n| lab.power_off(n));
    lab.run(1_000);
    names.iter().for_each(|n| lab.start(n));
    lab.run_until(60_000, "all serve again", Lab::all_running);
    let mut c = client(&mut lab, 2);
    for i in 0..3 {
        wait_for(&mut lab, &mut c, 40_000, "purchases", i, |p| p.0 > 0 && p.2.len() == 3);
    }
    assert_eq!(lab.halts, []);
    lab.check_invariants();
}

/// Sets one setting of a resource; the error and its text.
fn alter_config(
    lab: &mut Lab,
    c: &mut Client,
    kind: i8,
    resource: &'static str,
    name: &'static str,
    value: &'static str,
) -> (i16, String) {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config = AlterableConfig { name: name.into(), config_operation: 0, value: Some(value.into()) };
    let resource =
        AlterConfigsResource { resource_type: kind, resource_name: resource.into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    lab.ask(c, 1, &request, |r| {
        let told = &r.responses[0];
        (told.error_code, told.error_message.as_deref().unwrap_or_default().into())
    })
}

#[test]
fn settings_are_changed_through_the_controller_and_described_by_brokers() {
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    let mut lab = started(Lab::new(1, 1, &[]));
    let mut c = client(&mut lab, 1);
    create_topic(&mut lab, &mut c, "orders", 1, 1);
    assert_eq!(alter_config(&mut lab, &mut c, TOPIC, "orders", "retention.ms", "60000").0, 0);
    let refused = |lab: &mut Lab, c: &mut Client, kind, resource, name, value| {
        let (error, text) = alter_config(lab, c, kind, resource, name, value);
        (ErrorCode(error).name(), text)
    };
    assert_eq!(
        refused(&mut lab, &mut c, TOPIC, "orders", "nope", "2"),
        ("INVALID_CONFIG", "Unknown topic config name: nope".into())
    );
    assert_eq!(
        refused(&mut lab, &mut c, TOPIC, "orders", "min.insync.replicas", "zero"),
        (
            "INVALID_CONFIG",
            "Invalid value zero for configuration min.insync.replicas: Not a number of type INT".into()
        )
    );
    assert_eq!(
        refused(&mut lab, &mut c, BROKER, "1", "broker.id", "7"),
        ("INVALID_REQUEST", "Cannot update these configs dynamically: [broker.id]".into())
    );
    lab.run(1_000);
    let resource = describe_configs_request::DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: "orders".into(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: false,
    };
    let overridden = lab.ask(&mut c, 4, &request, |r| {
        let all = &r.results[0].configs;
        assert_eq!(all.len(), 33);
        let set = all.iter().filter(|c| c.config_source != 5);
        set.map(|c| (String::from(&*c.name), c.value.as_deref().map(String::from), c.config_source))
            .collect::<Vec<_>>()
    });
    // The cluster-wide min.insync.replicas comes from formatting, as in Kafka.
    let text = |s: &str| Some(String::from(s));
    assert_eq!(
        overridden,
        [("min.insync.replicas".into(), text("1"), 3), ("retention.ms".into(), text("60000"), 1)]
    );
}

#[test]
fn a_topic_that_a_client_asks_for_is_made_where_that_is_allowed() {
    let mut lab = started(Lab::new(1, 1, &[("auto.create.topics.enable", "true"), ("num.partitions", "3")]));
    let mut c = client(&mut lab, 1);
    let name = metadata_request::MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some("fresh".into()) };
    let request = MetadataRequest {
        topics: Some(vec![name]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    let error = lab.ask(&mut c, 13, &request, |r| r.topics[0].error_code);
    assert_eq!(error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
    lab.run(1_000);
    let told = lab.ask(&mut c, 13, &request, |r| (r.topics[0].error_code, r.topics[0].partitions.len()));
    assert_eq!(told, (0, 3));
}

#[test]
fn a_quorum_whose_voters_are_in_the_log_is_found_through_its_bootstrap_servers() {
    let mut lab = started(Lab::dynamic(2, 3));
    let mut c = client(&mut lab, 1);
    create_topic(&mut lab, &mut c, "purchases", 2, 2);
    let active = lab.active_controller().unwrap();
    assert_eq!(lab.node(&active).raft().kraft_version(), 1);
    lab.kill(&active);
    lab.run_until(10_000, "another controller is active", |lab| lab.active_controller().is_some());
    create_topic(&mut lab, &mut c, "orders", 1, 2);
    lab.start(&active);
    lab.run_until(10_000, "it returns", Lab::all_running);
    assert_eq!(lab.halts, []);
    lab.check_invariants();
}

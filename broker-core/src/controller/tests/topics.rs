//! Topics are made, deleted and grow; elections. The texts are those that Apache Kafka 4.3.1 printed.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use wire::messages::create_topics_request::CreatableTopicConfig;
use wire::messages::*;
use wire::{ErrorCode, Uuid};

use super::super::validate_topic_name;
use super::harness::Cluster;
use crate::event::Event;

fn sized<'a>(
    name: &'a str,
    partitions: i32,
    replication_factor: i16,
) -> create_topics_request::CreatableTopic<'a> {
    create_topics_request::CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor,
        ..Default::default()
    }
}

fn fails(cluster: &mut Cluster, topic: create_topics_request::CreatableTopic<'_>) -> (ErrorCode, String) {
    let before = cluster.log.records.len();
    let result = cluster.create(vec![topic]).remove(0);
    assert_eq!(cluster.log.records.len(), before, "nothing is written");
    result
}

#[test]
fn a_topic_is_written_as_kafka_writes_it() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    let from = cluster.log.next_offset_for_test();
    cluster.topic("purchases", &[&[1, 2, 3], &[2, 3, 1]], "min.insync.replicas=2");
    assert_eq!(
        cluster.kinds_since(from),
        ["TopicRecord", "ConfigRecord", "ClearElrRecord", "PartitionRecord", "PartitionRecord"]
    );
    let p = cluster.partition("purchases", 1);
    assert_eq!((&p.replicas[..], &p.isr[..], p.leader), (&[2, 3, 1][..], &[2, 3, 1][..], 2));
    assert_eq!((p.leader_epoch, p.partition_epoch), (0, 0));
    assert_eq!(p.directories[0], super::harness::directory(2));
}

#[test]
fn replicas_are_placed_and_fenced_brokers_are_not_in_the_isr() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.kill(3);
    assert_eq!(cluster.create(vec![sized("t", 6, 3)]), [(ErrorCode::NONE, String::new())]);
    for number in 0..6 {
        let p = cluster.partition("t", number);
        assert_eq!((p.replicas.len(), p.replicas[2], p.isr.len()), (3, 3, 2));
        assert_eq!(p.leader, p.replicas[0]);
    }
}

#[test]
fn the_answer_tells_what_was_made() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    let mut topic = sized("t", -1, -1);
    let value = Some("60000".into());
    topic.configs.push(CreatableTopicConfig { name: "retention.ms".into(), value });
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 0, validate_only: true };
    let asked = cluster.send(&request, 7);
    cluster.answer_to::<CreateTopicsRequest<'_>, _>(&asked, |r| {
        let t = &r.topics[0];
        assert_eq!((t.num_partitions, t.replication_factor, t.error_code), (1, 1, 0));
        let configs = t.configs.as_ref().unwrap();
        let of = |name: &str| configs.iter().find(|c| c.name == name).unwrap();
        assert_eq!(
            (of("retention.ms").value.as_deref(), of("retention.ms").config_source),
            (Some("60000"), 1)
        );
        assert_eq!(
            (of("min.insync.replicas").value.as_deref(), of("min.insync.replicas").config_source),
            (Some("1"), 3)
        );
        assert!(configs.iter().map(|c| &c.name).is_sorted());
    });
    assert!(cluster.committed.topics.is_empty(), "it was only validated");
}

#[test]
fn topics_that_are_refused() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.topic("a.b", &[&[1]], "");
    let invalid = ErrorCode::INVALID_TOPIC_EXCEPTION;
    let cases: &[(create_topics_request::CreatableTopic<'_>, ErrorCode, &str)] = &[
        (sized("a.b", 1, 1), ErrorCode::TOPIC_ALREADY_EXISTS, "Topic 'a.b' already exists."),
        (sized("a_b", 1, 1), invalid, "Topic 'a_b' collides with existing topic: a.b"),
        (
            sized("bad name!", 1, 1),
            invalid,
            "Topic name is invalid: 'bad name!' contains one or more characters other than ASCII alphanumerics, '.', \
             '_' and '-'",
        ),
        (sized("__cluster_metadata", 1, 1), ErrorCode::TOPIC_AUTHORIZATION_FAILED, ""),
        (
            sized("x", 1, 4),
            ErrorCode::INVALID_REPLICATION_FACTOR,
            "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be reached \
             because only 3 broker(s) are registered or some brokers have all their log directories cordoned.",
        ),
        (
            sized("x", 1, 0),
            ErrorCode::INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            sized("x", 0, 1),
            ErrorCode::INVALID_PARTITIONS,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (
            Cluster::creatable("x", &[&[1, 2], &[3]]),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes a partition with 1 replica(s), but this is not consistent with \
             previous partitions, which have 2 replica(s).",
        ),
        (
            Cluster::creatable("x", &[&[1, 9]]),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes broker 9, but no such broker is registered.",
        ),
        (
            Cluster::creatable("x", &[&[1, 1]]),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (
            Cluster::creatable("x", &[&[]]),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes an empty replica list.",
        ),
    ];
    for (topic, code, text) in cases {
        assert_eq!(fails(&mut cluster, topic.clone()), (*code, text.to_string()));
    }
    let with = |name: &'static str, value: Option<&'static str>| {
        let mut topic = sized("x", 1, 1);
        topic.configs.push(CreatableTopicConfig { name: name.into(), value: value.map(Into::into) });
        topic
    };
    let config = ErrorCode::INVALID_CONFIG;
    assert_eq!(
        fails(&mut cluster, with("nope", Some("1"))),
        (config, "Unknown topic config name: nope".into())
    );
    let null = fails(&mut cluster, with("retention.ms", None));
    assert_eq!(null, (config, "Null value not supported for topic configs: retention.ms".into()));
    let (code, _) = fails(&mut cluster, with("min.insync.replicas", Some("zero")));
    assert_eq!(code, config);

    let mut both = Cluster::creatable("x", &[&[1]]);
    both.replication_factor = 1;
    let text = "A manual partition assignment was specified, but replication factor was not set to -1.";
    assert_eq!(fails(&mut cluster, both), (ErrorCode::INVALID_REQUEST, text.into()));

    let twice = cluster.create(vec![sized("x", 1, 1), sized("x", 2, 1), sized("y", 1, 1)]);
    assert_eq!(twice[0], (ErrorCode::NONE, String::new()));
    assert_eq!(twice[1], (ErrorCode::INVALID_REQUEST, "Duplicate topic name.".into()));
    assert_eq!(cluster.committed.topics.len(), 2);
}

#[test]
fn names() {
    let why = |name: &str| validate_topic_name(name).unwrap_err().message.unwrap();
    assert_eq!(why(""), "Topic name is invalid: the empty string is not allowed");
    assert_eq!(why(".."), "Topic name is invalid: '..' is not allowed");
    let long = "x".repeat(250);
    let text = alloc::format!(
        "Topic name is invalid: the length of '{long}' is longer than the max allowed length 249"
    );
    assert_eq!(why(&long), text);
    assert_eq!(validate_topic_name(&long[1..]), Ok(()));
}

#[test]
fn nobody_alive_no_topic() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    cluster.kill(1);
    let text = "Unable to replicate the partition 1 time(s): All brokers are currently fenced.";
    assert_eq!(fails(&mut cluster, sized("x", 1, 1)), (ErrorCode::INVALID_REPLICATION_FACTOR, text.into()));
    let text = "All brokers specified in the manual partition assignment for partition 0 are fenced or in controlled \
                shutdown.";
    let manual = fails(&mut cluster, Cluster::creatable("x", &[&[1]]));
    assert_eq!(manual, (ErrorCode::INVALID_REPLICA_ASSIGNMENT, text.into()));
}

fn delete(cluster: &mut Cluster, states: &[(Option<&str>, Uuid)]) -> Vec<(ErrorCode, String)> {
    let state = |&(name, topic_id): &(Option<&str>, Uuid)| delete_topics_request::DeleteTopicState {
        name: name.map(|n| n.to_string().into()),
        topic_id,
    };
    let request = DeleteTopicsRequest { topics: states.iter().map(state).collect(), ..Default::default() };
    let asked = cluster.send(&request, 6);
    cluster.commit();
    cluster.answer_to::<DeleteTopicsRequest<'_>, _>(&asked, |r| {
        let result = |t: &delete_topics_response::DeletableTopicResult<'_>| {
            (ErrorCode(t.error_code), t.error_message.as_deref().unwrap_or("").to_string())
        };
        r.responses.iter().map(result).collect()
    })
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let mut cluster = Cluster::with_brokers(2, &[]);
    for name in ["a", "b", "c.d"] {
        cluster.topic(name, &[&[1, 2]], "retention.ms=5");
    }
    let id = |cluster: &Cluster, name: &str| cluster.committed.topics.id_of(name).unwrap();
    let b = id(&cluster, "b");
    assert_eq!(delete(&mut cluster, &[(Some("a"), Uuid::ZERO), (None, b)]).len(), 2);
    assert_eq!(cluster.committed.topics.len(), 1);
    assert!(cluster.events.contains(&Event::TopicDeleted { topic: "b".into(), topic_id: b }));

    let unknown = "This server does not host this topic-partition.".to_string();
    let gone = delete(&mut cluster, &[(Some("a"), Uuid::ZERO)]);
    assert_eq!(gone, [(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, unknown)]);
    let gone = delete(&mut cluster, &[(None, b)]);
    assert_eq!(gone, [(ErrorCode::UNKNOWN_TOPIC_ID, "This server does not host this topic ID.".into())]);
    let invalid = |text: &str| [(ErrorCode::INVALID_REQUEST, text.to_string())];
    let neither = delete(&mut cluster, &[(None, Uuid::ZERO)]);
    assert_eq!(neither, invalid("Neither topic name nor id were specified."));
    let both = delete(&mut cluster, &[(Some("c.d"), b)]);
    assert_eq!(both, invalid("You may not specify both topic name and topic id."));
    let twice = delete(&mut cluster, &[(Some("c.d"), Uuid::ZERO), (Some("c.d"), Uuid::ZERO)]);
    assert_eq!(twice, invalid("Duplicate topic name."));
    let same = id(&cluster, "c.d");
    let same = delete(&mut cluster, &[(None, same), (Some("c.d"), Uuid::ZERO)]);
    assert_eq!(same[0].0, ErrorCode::NONE);
    assert_eq!(same[1].1, "The provided topic name maps to an ID that was already supplied.");
    // A name that collided with it is free now.
    cluster.topic("c_d", &[&[1]], "");
    assert!(cluster.committed.configs.topic_value("c_d", "retention.ms").is_none());
}

fn grow(
    cluster: &mut Cluster,
    name: &str,
    count: i32,
    assignments: Option<Vec<Vec<i32>>>,
) -> (ErrorCode, String) {
    let assigned = |broker_ids| create_partitions_request::CreatePartitionsAssignment { broker_ids };
    let topic = create_partitions_request::CreatePartitionsTopic {
        name: name.to_string().into(),
        count,
        assignments: assignments.map(|a| a.into_iter().map(assigned).collect()),
    };
    let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
    let asked = cluster.send(&request, 3);
    cluster.commit();
    cluster.answer_to::<CreatePartitionsRequest<'_>, _>(&asked, |r| {
        let result = &r.results[0];
        (ErrorCode(result.error_code), result.error_message.as_deref().unwrap_or("").to_string())
    })
}

#[test]
fn a_topic_grows() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.topic("orders", &[&[1, 2], &[2, 3]], "");
    assert_eq!(grow(&mut cluster, "orders", 4, None).0, ErrorCode::NONE);
    assert_eq!(cluster.partition("orders", 3).replicas.len(), 2);
    let manual = grow(&mut cluster, "orders", 5, Some(vec![vec![3, 1]]));
    assert_eq!((manual.0, &cluster.partition("orders", 4).replicas[..]), (ErrorCode::NONE, &[3, 1][..]));
    let partitions = ErrorCode::INVALID_PARTITIONS;
    let text = "The topic orders currently has 5 partition(s); 3 would not be an increase.";
    assert_eq!(grow(&mut cluster, "orders", 3, None), (partitions, text.into()));
    assert_eq!(
        grow(&mut cluster, "orders", 5, None),
        (partitions, "Topic already has 5 partition(s).".into())
    );
    assert_eq!(grow(&mut cluster, "nope", 5, None), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, String::new()));
    let text = "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.";
    let few = grow(&mut cluster, "orders", 7, Some(vec![vec![1, 2]]));
    assert_eq!(few, (ErrorCode::INVALID_REPLICA_ASSIGNMENT, text.into()));
}

fn elect(cluster: &mut Cluster, election_type: i8, partitions: Option<&[i32]>) -> Vec<(i32, ErrorCode)> {
    let of_topic =
        |p: &[i32]| elect_leaders_request::TopicPartitions { topic: "t".into(), partitions: p.to_vec() };
    let request = ElectLeadersRequest {
        election_type,
        topic_partitions: partitions.map(|p| vec![of_topic(p)]),
        ..Default::default()
    };
    let asked = cluster.send(&request, 2);
    cluster.commit();
    cluster.answer_to::<ElectLeadersRequest<'_>, _>(&asked, |r| {
        let results = r.replica_election_results.iter().flat_map(|t| &t.partition_result);
        results.map(|p| (p.partition_id, ErrorCode(p.error_code))).collect()
    })
}

#[test]
fn preferred_leaders_come_back_when_asked_or_after_five_minutes() {
    for by_request in [true, false] {
        let mut cluster = Cluster::with_brokers(2, &[]);
        cluster.topic("t", &[&[1, 2], &[2, 1]], "");
        cluster.stop(1, &[2]);
        assert_eq!(elect(&mut cluster, 0, Some(&[0])), [(0, ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE)]);
        cluster.start(1);
        cluster.alter_isr("t", 0, &[2, 1]);
        cluster.alter_isr("t", 1, &[2, 1]);
        assert_eq!(cluster.partition("t", 0).leader, 2, "leadership does not move by itself");
        if by_request {
            assert_eq!(elect(&mut cluster, 0, None), [(0, ErrorCode::NONE)]);
            assert_eq!(
                elect(&mut cluster, 0, Some(&[0, 1, 5])),
                [
                    (0, ErrorCode::ELECTION_NOT_NEEDED),
                    (1, ErrorCode::ELECTION_NOT_NEEDED),
                    (5, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                ]
            );
        } else {
            cluster.pass_with_heartbeats(301_000, &[1, 2]);
        }
        assert_eq!(cluster.show("t", 0), "leader 1 epoch 2 isr [2,1] elr [] last []");
    }
}

#[test]
fn unclean_elections_by_request_by_config_and_by_timer() {
    let leaderless = |settings: &str| {
        let mut cluster = Cluster::with_brokers(2, &[]);
        cluster.topic("t", &[&[1, 2]], settings);
        cluster.kill(2);
        cluster.kill(1);
        cluster
    };
    // By request, whatever the configuration says.
    let mut cluster = leaderless("");
    assert_eq!(elect(&mut cluster, 1, Some(&[0])), [(0, ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE)]);
    cluster.start(2);
    assert_eq!(cluster.partition("t", 0).leader, -1);
    assert_eq!(elect(&mut cluster, 1, Some(&[0])), [(0, ErrorCode::NONE)]);
    assert_eq!(cluster.show("t", 0), "leader 2 epoch 2 isr [2] elr [] last []");
    assert_eq!(elect(&mut cluster, 1, Some(&[0])), [(0, ErrorCode::ELECTION_NOT_NEEDED)]);
    assert_eq!(elect(&mut cluster, 7, Some(&[0])), []);

    // By configuration: when the stale replica's broker is unfenced.
    let mut cluster = leaderless("unclean.leader.election.enable=true");
    cluster.start(2);
    assert_eq!(cluster.show("t", 0), "leader 2 epoch 2 isr [2] elr [] last []");

    // Switched on later: within five minutes.
    let mut cluster = leaderless("");
    cluster.start(2);
    cluster.set("t", "unclean.leader.election.enable", "true");
    assert_eq!(cluster.partition("t", 0).leader, -1, "not at once");
    cluster.pass_with_heartbeats(301_000, &[2]);
    assert_eq!(cluster.show("t", 0), "leader 2 epoch 2 isr [2] elr [] last []");
}

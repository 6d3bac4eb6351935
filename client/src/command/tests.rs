//! The tools against a scripted cluster: what they print, word for word as Apache Kafka 4.3.1 printed it.
//!
//! `⇥` stands for a TAB in expected texts. Time stamps of log lines are those of the scripted cluster's clock.

mod consumers;
mod e2e_latency;
mod perf;
mod transactions;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use wire::error::ErrorCode;
use wire::frame::encode_response;
use wire::messages::create_topics_response::{CreatableTopicResult, CreateTopicsResponse};
use wire::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};
use wire::messages::describe_configs_response::*;
use wire::messages::describe_quorum_response::{
    DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use wire::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use wire::messages::describe_topic_partitions_response::*;
use wire::messages::elect_leaders_response::{ElectLeadersResponse, PartitionResult, ReplicaElectionResult};
use wire::messages::incremental_alter_configs_response::*;
use wire::messages::list_partition_reassignments_response::*;
use wire::messages::metadata_response::{MetadataResponse, MetadataResponseBroker, MetadataResponseTopic};
use wire::{ApiKey, Message, Uuid};

use super::{CommandProcess, CommandSpec};
use crate::io::{Input, Process};
use crate::testing::{Fake, Fall, TOPIC, ms, rng};

// --- the harness

fn command(line: &str, files: &[(&str, &str)]) -> Process {
    // Words in double quotes may have spaces.
    let mut words = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        match i % 2 {
            0 => words.extend(part.split_whitespace().map(String::from)),
            _ => words.push(part.into()),
        }
    }
    let files = files.iter().map(|(name, text)| (name.to_string(), Bytes::from(text.to_string())));
    let spec = CommandSpec { words, files: files.collect(), config: BTreeMap::new() };
    Process::Command(Box::new(CommandProcess::new(spec, rng(7))))
}

/// Runs a command to its end: output, errors, exit status.
fn run(fake: &mut Fake, line: &str) -> (String, String, i32) {
    run_with(fake, line, &[], None)
}

fn run_with(
    fake: &mut Fake,
    line: &str,
    files: &[(&str, &str)],
    stdin: Option<&str>,
) -> (String, String, i32) {
    let line = line.replace(" B", " --bootstrap-server broker-1:9092");
    let mut process = command(&line, files);
    (fake.exit, fake.stdout, fake.stderr) = (None, String::new(), String::new());
    fake.start(&mut process);
    if let Some(text) = stdin {
        // In pieces, as a pipe gives them.
        for piece in text.as_bytes().chunks(7) {
            fake.input(&mut process, Input::Stdin { bytes: Bytes::copy_from_slice(piece) });
        }
        fake.input(&mut process, Input::StdinClosed);
    }
    let begin = fake.now;
    for second in 1..200 {
        if let Some(exit) = fake.exit {
            return (fake.stdout.replace('\t', "⇥"), fake.stderr.replace('\t', "⇥"), exit);
        }
        fake.run(&mut process, begin.plus_millis(second * 1000));
    }
    panic!("{line} does not end: {} {}", fake.stdout, fake.stderr);
}

fn answer<M: Message<'static> + 'static>(fake: &mut Fake, key: ApiKey, response: M) {
    let handler = move |version: i16, correlation: i32, _: &mut wire::Reader<'_>| {
        Some(encode_response(key, version, correlation, &response).unwrap())
    };
    fake.handlers.insert(key, Box::new(handler));
}

/// A cluster whose topics are those of a description.
fn described(text: &str) -> Fake {
    let mut fake = Fake::new(3, 1);
    let mut topics: Vec<DescribeTopicPartitionsResponseTopic<'static>> = Vec::new();
    let mut configs: Vec<DescribeConfigsResult<'static>> = Vec::new();
    for line in text.lines() {
        let fields: BTreeMap<&str, &str> = line
            .split('⇥')
            .filter(|field| !field.is_empty())
            .map(|field| field.split_once(": ").unwrap())
            .collect();
        let ids = |name: &str| -> Vec<i32> {
            fields[name].split(',').filter(|id| !id.is_empty()).map(|id| id.parse().unwrap()).collect()
        };
        if let Some(number) = fields.get("Partition") {
            topics.last_mut().unwrap().partitions.push(DescribeTopicPartitionsResponsePartition {
                partition_index: number.parse().unwrap(),
                leader_id: fields["Leader"].parse().unwrap_or(-1),
                replica_nodes: ids("Replicas"),
                isr_nodes: ids("Isr"),
                eligible_leader_replicas: Some(ids("Elr")),
                last_known_elr: Some(ids("LastKnownElr")),
                ..DescribeTopicPartitionsResponsePartition::default()
            });
        } else {
            topics.push(DescribeTopicPartitionsResponseTopic {
                name: Some(Cow::Owned(fields["Topic"].to_string())),
                topic_id: Uuid::parse(fields["TopicId"]).unwrap(),
                ..DescribeTopicPartitionsResponseTopic::default()
            });
            configs.push(topic_configs(fields["Topic"], fields["Configs"]));
        }
    }
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let listed = topics.iter().map(|topic| MetadataResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        is_internal: topic.name.as_deref().is_some_and(|name| name.starts_with("__")),
        ..MetadataResponseTopic::default()
    });
    let listed = listed.collect();
    answer(&mut fake, ApiKey::Metadata, metadata(listed));
    let handler = move |version: i16, correlation: i32, r: &mut wire::Reader<'_>| {
        let request = DescribeTopicPartitionsRequest::decode(r, version).unwrap();
        let asked = |topic: &&DescribeTopicPartitionsResponseTopic<'static>| {
            request.topics.iter().any(|asked| Some(&asked.name) == topic.name.as_ref())
        };
        let topics = topics.iter().filter(asked).cloned().collect();
        let response = DescribeTopicPartitionsResponse { topics, ..Default::default() };
        Some(encode_response(ApiKey::DescribeTopicPartitions, version, correlation, &response).unwrap())
    };
    fake.handlers.insert(ApiKey::DescribeTopicPartitions, Box::new(handler));
    answer(
        &mut fake,
        ApiKey::DescribeConfigs,
        DescribeConfigsResponse { results: configs, ..Default::default() },
    );
    answer(&mut fake, ApiKey::DescribeCluster, cluster());
    answer(&mut fake, ApiKey::ListPartitionReassignments, ListPartitionReassignmentsResponse::default());
    fake
}

fn metadata(topics: Vec<MetadataResponseTopic<'static>>) -> MetadataResponse<'static> {
    let broker = |node_id: i32| MetadataResponseBroker {
        node_id,
        host: Cow::Owned(format!("broker-{node_id}")),
        port: 9092,
        rack: None,
    };
    MetadataResponse {
        brokers: (1..=3).map(broker).collect(),
        cluster_id: Some(Cow::Borrowed("AAAAAAAAAAAAAAAAAAAAAA")),
        controller_id: 1,
        topics,
        ..MetadataResponse::default()
    }
}

fn cluster() -> DescribeClusterResponse<'static> {
    let broker = |broker_id: i32| DescribeClusterBroker {
        broker_id,
        host: Cow::Borrowed("localhost"),
        port: 19091 + broker_id,
        ..DescribeClusterBroker::default()
    };
    DescribeClusterResponse {
        cluster_id: Cow::Borrowed("AAAAAAAAAAAAAAAAAAAAAA"),
        brokers: (1..=3).map(broker).collect(),
        ..DescribeClusterResponse::default()
    }
}

const TOPIC_CONFIGS: &str = "cleanup.policy compression.gzip.level compression.lz4.level compression.type \
    compression.zstd.level delete.retention.ms file.delete.delay.ms flush.messages flush.ms \
    follower.replication.throttled.replicas index.interval.bytes leader.replication.throttled.replicas \
    local.retention.bytes local.retention.ms max.compaction.lag.ms max.message.bytes \
    message.timestamp.after.max.ms message.timestamp.before.max.ms message.timestamp.type \
    min.cleanable.dirty.ratio min.compaction.lag.ms min.insync.replicas preallocate remote.log.copy.disable \
    remote.log.delete.on.disable remote.storage.enable retention.bytes retention.ms segment.bytes \
    segment.index.bytes segment.jitter.ms segment.ms unclean.leader.election.enable";

fn topic_configs(topic: &str, set: &str) -> DescribeConfigsResult<'static> {
    let set: BTreeMap<&str, &str> = set.split(',').map(|pair| pair.split_once('=').unwrap()).collect();
    let config = |name: &str| DescribeConfigsResourceResult {
        name: Cow::Owned(name.to_string()),
        value: Some(Cow::Owned(set.get(name).unwrap_or(&"default").to_string())),
        config_source: if set.contains_key(name) { 1 } else { 5 },
        ..DescribeConfigsResourceResult::default()
    };
    DescribeConfigsResult {
        resource_type: 2,
        resource_name: Cow::Owned(topic.to_string()),
        configs: TOPIC_CONFIGS.split_whitespace().map(config).collect(),
        ..DescribeConfigsResult::default()
    }
}

// --- kafka-topics

const FOUR_TOPICS: &str = "\
Topic: orders⇥TopicId: Y-zRuohvTGaURLT-jvhfjg⇥PartitionCount: 2⇥ReplicationFactor: 2⇥Configs: min.insync.replicas=2,retention.ms=60000
⇥Topic: orders⇥Partition: 0⇥Leader: 3⇥Replicas: 3,1⇥Isr: 3,1⇥Elr: ⇥LastKnownElr: 
⇥Topic: orders⇥Partition: 1⇥Leader: 1⇥Replicas: 1,2⇥Isr: 1,2⇥Elr: ⇥LastKnownElr: 
Topic: a.b⇥TopicId: ApAD9dyiSX-n3ifJxniOJQ⇥PartitionCount: 1⇥ReplicationFactor: 1⇥Configs: min.insync.replicas=1
⇥Topic: a.b⇥Partition: 0⇥Leader: 2⇥Replicas: 2⇥Isr: 2⇥Elr: ⇥LastKnownElr: 
Topic: purchases⇥TopicId: pqdGH_wdTnGSEwQL2R0JxQ⇥PartitionCount: 1⇥ReplicationFactor: 3⇥Configs: min.insync.replicas=1
⇥Topic: purchases⇥Partition: 0⇥Leader: 2⇥Replicas: 2,3,1⇥Isr: 2,3,1⇥Elr: ⇥LastKnownElr: 
Topic: ra⇥TopicId: vq4XAys8R_-R3ouk3RglnA⇥PartitionCount: 1⇥ReplicationFactor: 2⇥Configs: min.insync.replicas=1
⇥Topic: ra⇥Partition: 0⇥Leader: 1⇥Replicas: 1,2⇥Isr: 1,2⇥Elr: ⇥LastKnownElr: 
";

const TWO_DOWN: &str = "\
Topic: purchases⇥TopicId: A4KVwXePTNqMm_FxtPoFyw⇥PartitionCount: 2⇥ReplicationFactor: 3⇥Configs: min.insync.replicas=2
⇥Topic: purchases⇥Partition: 0⇥Leader: 3⇥Replicas: 1,2,3⇥Isr: 3⇥Elr: 2⇥LastKnownElr: 
⇥Topic: purchases⇥Partition: 1⇥Leader: 3⇥Replicas: 2,3,1⇥Isr: 3,2⇥Elr: ⇥LastKnownElr: 
Topic: p2⇥TopicId: KdbeQWvzRX27hYbs7tCafw⇥PartitionCount: 2⇥ReplicationFactor: 2⇥Configs: min.insync.replicas=1
⇥Topic: p2⇥Partition: 0⇥Leader: none⇥Replicas: 1,2⇥Isr: ⇥Elr: 2⇥LastKnownElr: 2
⇥Topic: p2⇥Partition: 1⇥Leader: 3⇥Replicas: 2,3⇥Isr: 2,3⇥Elr: ⇥LastKnownElr: 
Topic: __consumer_offsets⇥TopicId: Dh9vWZ6tSFOLVnjYXqH5fA⇥PartitionCount: 1⇥ReplicationFactor: 3⇥Configs: compression.type=producer,min.insync.replicas=1,cleanup.policy=compact,segment.bytes=104857600
⇥Topic: __consumer_offsets⇥Partition: 0⇥Leader: 3⇥Replicas: 1,2,3⇥Isr: 3⇥Elr: ⇥LastKnownElr: 
";

/// The lines of a description that begin so.
fn lines(text: &str, wanted: &[&str]) -> String {
    let lines = text.lines().filter(|line| wanted.iter().any(|wanted| line.contains(wanted)));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn topics_are_described_as_captured() {
    for text in [FOUR_TOPICS, TWO_DOWN] {
        let (stdout, stderr, exit) = run(&mut described(text), "kafka-topics B --describe");
        assert_eq!((stdout.as_str(), stderr.as_str(), exit), (text, "", 0));
    }
}

#[test]
fn descriptions_are_filtered() {
    let cases: [(&str, &[&str]); 6] = [
        ("--unavailable-partitions", &["p2⇥Partition: 0"]),
        ("--under-min-isr-partitions", &["purchases⇥Partition: 0", "p2⇥Partition: 0"]),
        ("--at-min-isr-partitions", &["purchases⇥Partition: 1", "__consumer_offsets⇥Partition: 0"]),
        (
            "--under-replicated-partitions",
            &["purchases⇥Partition", "p2⇥Partition: 0", "__consumer_offsets⇥Partition"],
        ),
        ("--topics-with-overrides", &["TopicId"]),
        ("--exclude-internal", &["purchases⇥", "p2⇥"]),
    ];
    for (option, wanted) in cases {
        let mut fake = described(TWO_DOWN);
        let (stdout, _, exit) = run(&mut fake, &format!("kafka-topics B --describe {option}"));
        assert_eq!((stdout, exit), (lines(TWO_DOWN, wanted), 0), "{option}");
    }
}

#[test]
fn topics_are_found_by_expression_and_id() {
    let mut fake = described(FOUR_TOPICS);
    assert_eq!(run(&mut fake, "kafka-topics B --list").0, "a.b\norders\npurchases\nra\n");
    assert_eq!(run(&mut fake, "kafka-topics B --list --topic \"or.*,ra\"").0, "orders\nra\n");
    let id = "kafka-topics B --describe --topic-id";
    let (stdout, stderr, exit) = run(&mut fake, &format!("{id} AAAAAAAAAAAAAAAAAAAAAQ"));
    assert_eq!(
        stdout,
        "Error while executing topic command : TopicId 'AAAAAAAAAAAAAAAAAAAAAQ' does not exist as expected\n"
    );
    assert!(stderr.contains("IllegalArgumentException") && exit == 1, "{stderr}");
}

#[test]
fn reassignments_are_told() {
    let text = lines(TWO_DOWN, &["Topic: p2⇥"]);
    let mut fake = described(&text);
    let partitions = vec![OngoingPartitionReassignment {
        partition_index: 1,
        replicas: vec![2, 3],
        adding_replicas: vec![3],
        removing_replicas: vec![],
    }];
    let topics = vec![OngoingTopicReassignment { name: Cow::Borrowed("p2"), partitions }];
    let response = ListPartitionReassignmentsResponse { topics, ..Default::default() };
    answer(&mut fake, ApiKey::ListPartitionReassignments, response);
    let (stdout, _, _) = run(&mut fake, "kafka-topics B --describe --topic p2");
    let expected = text.replace("Isr: 2,3⇥Elr", "Isr: 2,3⇥Adding Replicas: 3⇥Removing Replicas: ⇥Elr");
    assert_eq!(stdout, expected);
}

/// What every failure of an action prints.
fn failure(class: &str, text: &str, time: &str) -> (String, String, i32) {
    let stdout = format!("Error while executing topic command : {text}\n");
    let trace = format!("{class}: {text}\n (org.apache.kafka.tools.TopicCommand)\n");
    (stdout, format!("[{time}] ERROR {trace}"), 1)
}

#[test]
fn failures_of_topics_are_told_as_captured() {
    let start = "2026-01-01 00:00:00,0";
    let mut fake = described(FOUR_TOPICS);
    let text = "Topic 'nope' does not exist as expected";
    for action in ["--describe", "--delete", "--alter --partitions 3"] {
        fake.now = ms(0);
        let (stdout, stderr, exit) = run(&mut fake, &format!("kafka-topics B {action} --topic nope"));
        let time = stderr[1..24].to_string();
        assert!(time.starts_with(start), "{time}");
        let expected = failure("java.lang.IllegalArgumentException", text, &time);
        assert_eq!((stdout, stderr, exit), expected);
        let if_exists = format!("kafka-topics B {action} --if-exists --topic nope");
        assert_eq!(run(&mut fake, &if_exists), (String::new(), String::new(), 0), "{action}");
    }
    fake.now = ms(0);
    let told = run(&mut fake, "kafka-topics B --create --topic x --partitions 0");
    let text = "The partitions must be greater than 0";
    let expected = failure("java.lang.IllegalArgumentException", text, "2026-01-01 00:00:00,000");
    assert_eq!(told, expected);
}

fn created(
    name: &'static str,
    error: ErrorCode,
    text: Option<&'static str>,
) -> CreateTopicsResponse<'static> {
    let result = CreatableTopicResult {
        name: Cow::Borrowed(name),
        error_code: error.0,
        error_message: text.map(Cow::Borrowed),
        ..CreatableTopicResult::default()
    };
    CreateTopicsResponse { topics: vec![result], ..CreateTopicsResponse::default() }
}

#[test]
fn topics_are_created_as_captured() {
    let warning = "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could \
                   collide. To avoid issues it is best to use either, but not both.\n";
    let mut fake = described(FOUR_TOPICS);
    answer(&mut fake, ApiKey::CreateTopics, created("a.c", ErrorCode::NONE, None));
    let told = run(&mut fake, "kafka-topics B --create --topic a.c --partitions 3 --config retention.ms=1");
    assert_eq!(told, (format!("{warning}Created topic a.c.\n"), String::new(), 0));

    let text = "Topic 'a_b' collides with existing topic: a.b";
    answer(&mut fake, ApiKey::CreateTopics, created("a_b", ErrorCode::INVALID_TOPIC_EXCEPTION, Some(text)));
    let (stdout, stderr, exit) = run(&mut fake, "kafka-topics B --create --topic a_b");
    let class = "org.apache.kafka.common.errors.InvalidTopicException";
    let (expected, trace, code) = failure(class, text, &stderr[1..24]);
    assert_eq!((stdout, stderr.as_str(), exit), (format!("{warning}{expected}"), trace.as_str(), code));

    let exists = created("orders", ErrorCode::TOPIC_ALREADY_EXISTS, Some("Topic 'orders' already exists."));
    answer(&mut fake, ApiKey::CreateTopics, exists);
    let if_not = run(&mut fake, "kafka-topics B --create --if-not-exists --topic orders");
    assert_eq!(if_not, (String::new(), String::new(), 0));
    assert_eq!(run(&mut fake, "kafka-topics B --create --topic orders").2, 1);
}

#[test]
fn command_lines_that_are_wrong_are_told_as_captured() {
    let action = "Command must include exactly one action: --list, --describe, --create, --alter or --delete";
    let cases = [
        ("kafka-topics B", action),
        ("kafka-topics B --create --list", action),
        ("kafka-topics B --create", "Missing required argument \"[topic]\""),
        (
            "kafka-topics B --list --partitions 3",
            "Option \"[partitions]\" can't be used with option \"[list]\"",
        ),
        (
            "kafka-topics B --alter --topic t --replication-factor 3 --partitions 2",
            "Option \"[replication-factor]\" can't be used with option \"[alter]\"",
        ),
        (
            "kafka-topics B --create --topic t --replica-assignment 1 --partitions 2",
            "Option \"[replica-assignment]\" can't be used with option \"[partitions]\"",
        ),
        (
            "kafka-console-consumer B",
            "Exactly one of the following arguments is required: [topic], [include]",
        ),
        (
            "kafka-console-consumer B --topic t --offset 3",
            "The partition is required when offset is specified.",
        ),
        ("kafka-console-producer B", "Missing required argument \"[topic]\""),
        ("kafka-get-offsets --topic t", "Missing required argument \"[bootstrap-server]\""),
        (
            "kafka-configs B --entity-type topics",
            "Command must include exactly one action: --describe, --alter",
        ),
    ];
    for (line, reason) in cases {
        let (stdout, stderr, exit) = run(&mut Fake::new(1, 1), line);
        assert_eq!((stdout.as_str(), stderr.lines().next(), exit), ("", Some(reason), 1), "{line}");
        assert!(stderr.lines().nth(1).is_some_and(|l| l.starts_with("Option ")), "{stderr}");
    }
    let (_, stderr, exit) = run(&mut Fake::new(1, 1), "kafka-topics B --lst");
    let text = "lst is not a recognized option";
    assert_eq!((stderr, exit), (format!("{text}\njoptsimple.UnrecognizedOptionException: {text}\n\n"), 1));
    let (_, stderr, exit) = run(&mut Fake::new(1, 1), "kafka-topics --list");
    assert!(stderr.starts_with("--bootstrap-server must be specified\n") && exit == 1, "{stderr}");
    let (_, stderr, exit) = run(&mut Fake::new(1, 1), "kafka-tpics --list");
    assert_eq!((stderr.as_str(), exit), ("kafka-tpics: command not found\n", 127));
}

#[test]
fn a_cluster_that_cannot_be_reached_times_out_as_captured() {
    let mut fake = Fake::new(1, 1);
    fake.down.push(1);
    let line = "kafka-topics B --list --command-config fast.properties";
    let files = [("fast.properties", "default.api.timeout.ms=4000\nrequest.timeout.ms=2000\nno.such=1\n")];
    let (stdout, stderr, exit) = run_with(&mut fake, line, &files, None);
    let text = "Timed out waiting for a node assignment. Call: listTopics";
    let class = "org.apache.kafka.common.errors.TimeoutException";
    assert_eq!((stdout, stderr, exit), failure(class, text, "2026-01-01 00:00:04,000"));
    let (stdout, _, _) = run(&mut fake, "kafka-topics --list --bootstrap-server nowhere:9092");
    assert_eq!(stdout, format!("Error while executing topic command : {text}\n"));
}

#[test]
fn topics_are_not_described_without_their_reassignments() {
    let mut fake = described(FOUR_TOPICS);
    let response = ListPartitionReassignmentsResponse {
        error_code: ErrorCode::INVALID_REQUEST.0,
        error_message: Some(Cow::Borrowed("No.")),
        ..ListPartitionReassignmentsResponse::default()
    };
    answer(&mut fake, ApiKey::ListPartitionReassignments, response);
    let (stdout, stderr, exit) = run(&mut fake, "kafka-topics B --describe --topic purchases");
    let cause = "org.apache.kafka.common.errors.InvalidRequestException: No.";
    let execution = format!("java.util.concurrent.ExecutionException: {cause}");
    assert_eq!((stdout, exit), (format!("Error while executing topic command : {execution}\n"), 1));
    let trace = format!(
        "ERROR java.lang.RuntimeException: {execution}\nCaused by: {execution}\nCaused by: {cause}\n \
         (org.apache.kafka.tools.TopicCommand)\n"
    );
    assert!(stderr.ends_with(&trace), "{stderr}");
}

// --- the other tools that only ask

#[test]
fn elections_are_told_as_captured() {
    let result = |topic: &'static str, partition_id: i32, error: ErrorCode| ReplicaElectionResult {
        topic: Cow::Borrowed(topic),
        partition_result: vec![PartitionResult { partition_id, error_code: error.0, error_message: None }],
    };
    let answers = |results: Vec<ReplicaElectionResult<'static>>| {
        let mut fake = described(FOUR_TOPICS);
        let response = ElectLeadersResponse { replica_election_results: results, ..Default::default() };
        answer(&mut fake, ApiKey::ElectLeaders, response);
        fake
    };
    let none = ErrorCode::NONE;
    let all = "kafka-leader-election B --election-type preferred --all-topic-partitions";
    let one = "kafka-leader-election B --election-type unclean --topic p2 --partition 0";

    let mut fake = answers(vec![
        result("purchases", 0, none),
        result("p2", 0, none),
        result("p2", 1, ErrorCode::ELECTION_NOT_NEEDED),
    ]);
    let text = "Successfully completed leader election (PREFERRED) for partitions p2-0, purchases-0\n\
                Valid replica already elected for partitions p2-1\n";
    assert_eq!(run(&mut fake, all), (text.to_string(), String::new(), 0));

    let mut fake = answers(vec![result("p2", 0, ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE)]);
    let thrown = "org.apache.kafka.common.errors.EligibleLeadersNotAvailableException: Eligible topic partition leaders \
                  are not available.";
    let stdout = format!("Error completing leader election (UNCLEAN) for partition: p2-0: {thrown}\n");
    let failed = "1 replica(s) could not be elected";
    let stderr = format!(
        "{failed}\norg.apache.kafka.tools.AdminCommandFailedException: {failed}\n⇥Suppressed: {thrown}\n\n"
    );
    assert_eq!(run(&mut fake, one), (stdout, stderr, 1));
}

#[test]
fn elections_of_a_file_and_what_is_wrong_with_it() {
    let line = "kafka-leader-election B --election-type PREFERRED --path-to-json-file p.json";
    let file = "{\"partitions\": [{\"topic\": \"p2\", \"partition\": 1}]}";
    let mut fake = described(FOUR_TOPICS);
    answer(&mut fake, ApiKey::ElectLeaders, ElectLeadersResponse::default());
    assert_eq!(run_with(&mut fake, line, &[("p.json", file)], None).2, 0);
    let twice =
        "{\"partitions\": [{\"topic\": \"a\", \"partition\": 0}, {\"topic\": \"a\", \"partition\": 0}]}";
    let cases = [
        ("", "Replica election data is empty"),
        ("{}", "Replica election data is missing \"partitions\" field"),
        (twice, "Replica election data contains duplicate partitions: [a-0]"),
    ];
    for (text, told) in cases {
        let (_, stderr, exit) = run_with(&mut fake, line, &[("p.json", text)], None);
        assert_eq!((stderr.lines().next(), exit), (Some(told), 1));
    }
    let cases = [
        ("", "Missing required option(s): election-type"),
        (
            "--election-type unclean",
            "One and only one of the following options is required: topic, all-topic-partitions, path-to-json-file",
        ),
        ("--election-type unclean --topic t", "Missing required option(s): partition"),
        ("--election-type odd --all-topic-partitions", "Cannot parse argument 'odd' of option election-type"),
    ];
    for (options, told) in cases {
        let (_, stderr, exit) = run(&mut fake, &format!("kafka-leader-election B {options}"));
        assert_eq!((stderr.lines().next(), exit), (Some(told), 1));
    }
}

fn quorum() -> Fake {
    let mut fake = described(FOUR_TOPICS);
    let replica = |replica_id: i32, directory: &str, log_end_offset: i64, at: i64| ReplicaState {
        replica_id,
        replica_directory_id: Uuid::parse(directory).unwrap(),
        log_end_offset,
        last_fetch_timestamp: at,
        last_caught_up_timestamp: at,
    };
    let zero = "AAAAAAAAAAAAAAAAAAAAAA";
    let partition = PartitionData {
        leader_id: 102,
        leader_epoch: 2,
        high_watermark: 913,
        current_voters: vec![
            replica(101, zero, 914, 1_767_225_599_433),
            replica(102, zero, 914, 1_767_225_599_830),
            replica(103, zero, -1, -1),
        ],
        observers: vec![replica(3, "zXo8rMIjUl7YBHseBBg94g", 914, 1_767_225_599_434)],
        ..PartitionData::default()
    };
    let node = |node_id: i32| Node {
        node_id,
        listeners: vec![Listener {
            name: Cow::Borrowed("CONTROLLER"),
            host: Cow::Borrowed("localhost"),
            port: 19091 + node_id as u16 - 100,
        }],
    };
    let topics =
        vec![TopicData { topic_name: Cow::Borrowed("__cluster_metadata"), partitions: vec![partition] }];
    let response =
        DescribeQuorumResponse { topics, nodes: (101..=103).map(node).collect(), ..Default::default() };
    answer(&mut fake, ApiKey::DescribeQuorum, response);
    fake
}

#[test]
fn the_quorum_is_described_as_captured() {
    let status = "\
ClusterId:              AAAAAAAAAAAAAAAAAAAAAA
LeaderId:               102
LeaderEpoch:            2
HighWatermark:          913
MaxFollowerLag:         915
MaxFollowerLagTimeMs:   -1
CurrentVoters:          [{\"id\": 101, \"endpoints\": [\"CONTROLLER://localhost:19092\"]}, {\"id\": 102, \"endpoints\": [\"CONTROLLER://localhost:19093\"]}, {\"id\": 103, \"endpoints\": [\"CONTROLLER://localhost:19094\"]}]
CurrentObservers:       [{\"id\": 3, \"directoryId\": \"zXo8rMIjUl7YBHseBBg94g\"}]
";
    let replication = "\
NodeId⇥DirectoryId           ⇥LogEndOffset⇥Lag⇥LastFetchTimestamp⇥LastCaughtUpTimestamp⇥Status  ⇥
102   ⇥AAAAAAAAAAAAAAAAAAAAAA⇥914         ⇥0  ⇥1767225599830     ⇥1767225599830        ⇥Leader  ⇥
101   ⇥AAAAAAAAAAAAAAAAAAAAAA⇥914         ⇥0  ⇥1767225599433     ⇥1767225599433        ⇥Follower⇥
103   ⇥AAAAAAAAAAAAAAAAAAAAAA⇥-1          ⇥915⇥-1                ⇥-1                   ⇥Follower⇥
3     ⇥zXo8rMIjUl7YBHseBBg94g⇥914         ⇥0  ⇥1767225599434     ⇥1767225599434        ⇥Observer⇥
";
    let tool = "kafka-metadata-quorum B describe";
    assert_eq!(run(&mut quorum(), &format!("{tool} --status")), (status.to_string(), String::new(), 0));
    let told = run(&mut quorum(), &format!("{tool} --replication"));
    assert_eq!(told, (replication.to_string(), String::new(), 0));
    let (stdout, _, _) = run(&mut quorum(), &format!("{tool} --replication --human-readable"));
    let line = stdout.lines().nth(1).unwrap();
    assert!(line.contains(" ms ago        ⇥18") && line.contains(" ms ago           ⇥Leader"), "{line}");
    let cases = [
        (
            "--status --replication",
            "Only one of --status or --replication should be specified with describe sub-command\n",
        ),
        ("", "One of --status or --replication must be specified with describe sub-command\n"),
        (
            "--status --human-readable",
            "The option --human-readable is only supported along with --replication\n",
        ),
    ];
    for (options, text) in cases {
        let told = run(&mut quorum(), &format!("{tool} {options}"));
        assert_eq!(told, (String::new(), text.to_string(), 1));
    }
}

#[test]
fn arguments_that_argparse_refuses_are_told_as_captured() {
    let usage = "\
usage: kafka-metadata-quorum (--bootstrap-server BOOTSTRAP_SERVER |
                             --bootstrap-controller BOOTSTRAP_CONTROLLER)
                             describe [-h] [--status] [--replication]
                             [--human-readable]
kafka-metadata-quorum: error: unrecognized arguments: '--command-config'
";
    let line = "kafka-metadata-quorum B describe --status --command-config fast.properties";
    assert_eq!(run(&mut quorum(), line), (String::new(), usage.to_string(), 1));
    let cases = [
        ("kafka-cluster", "too few arguments"),
        (
            "kafka-cluster cluster-id",
            "one of the arguments --bootstrap-server/-b -- bootstrap-controller/-C is required",
        ),
        (
            "kafka-cluster nope",
            "invalid choice: 'nope' (choose from 'cluster-id', 'unregister', 'list-endpoints')",
        ),
        ("kafka-cluster cluster-id -b", "argument --bootstrap-server/-b: expected one argument"),
        (
            "kafka-cluster cluster-id --boot x",
            "ambiguous option: --boot could match --bootstrap- controller, --bootstrap-server",
        ),
        (
            "kafka-cluster cluster-id --bootstrap-server a --bootstrap-controller b",
            "argument --bootstrap-controller/-C: not allowed with argument --bootstrap-server/-b",
        ),
        (
            "kafka-cluster unregister -b broker-1:9092 --id x",
            "argument --id/-i: could not convert 'x' to Integer (For input string: \"x\")",
        ),
    ];
    for (line, text) in cases {
        let (_, stderr, exit) = run(&mut Fake::new(1, 1), line);
        let told = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.ends_with(&format!("kafka-cluster: error: {text}")) && exit == 1, "{stderr}");
    }
}

#[test]
fn the_cluster_is_told_as_captured() {
    let mut fake = described(FOUR_TOPICS);
    let told = run(&mut fake, "kafka-cluster cluster-id B");
    assert_eq!(told, ("Cluster ID: AAAAAAAAAAAAAAAAAAAAAA\n".to_string(), String::new(), 0));
    let endpoints = "\
ID         HOST      PORT       RACK       STATE      ENDPOINT_TYPE  
1          localhost 19092      null       unfenced   broker         
2          localhost 19093      null       unfenced   broker         
3          localhost 19094      null       unfenced   broker         
";
    let told = run(&mut fake, "kafka-cluster list-endpoints B");
    assert_eq!(told, (endpoints.to_string(), String::new(), 0));
}

#[test]
fn offsets_are_told_as_captured() {
    let mut fake = Fake::new(3, 11);
    fake.produce(0, &["a", "b"]);
    fake.produce(10, &["c"]);
    fake.versions.insert(ApiKey::DescribeTopicPartitions, (5, 5));
    let (stdout, _, exit) = run(&mut fake, "kafka-get-offsets B --topic t --partitions 0,2,10");
    assert_eq!((stdout.as_str(), exit), ("t:0:2\nt:10:1\nt:2:0\n", 0));
    let (stdout, _, _) = run(&mut fake, "kafka-get-offsets B --topic-partitions t:0-2 --time earliest");
    assert_eq!(stdout, "t:0:0\nt:1:0\n");
    let cases = [
        ("--topic nope", "Could not match any topic-partitions with the specified filters"),
        (
            "--partitions x",
            "--partitions expects a comma separated list of numeric partition ids, but received: x",
        ),
        ("--topic t --topic-partitions t", "--topic-partitions cannot be used with --topic or --partitions"),
    ];
    for (options, text) in cases {
        let (_, stderr, exit) = run(&mut fake, &format!("kafka-get-offsets B {options}"));
        assert_eq!((stderr, exit), (format!("Error occurred: {text}\n"), 1));
    }
}

fn with_configs(kind: i8, name: &'static str, configs: &[(&'static str, &'static str, i8)]) -> Fake {
    let mut fake = described(FOUR_TOPICS);
    let config = |&(name, value, source): &(&'static str, &'static str, i8)| {
        let synonym = |source| DescribeConfigsSynonym {
            name: Cow::Borrowed(name),
            value: Some(Cow::Borrowed(if source == 5 { "1" } else { value })),
            source,
        };
        DescribeConfigsResourceResult {
            name: Cow::Borrowed(name),
            value: Some(Cow::Borrowed(value)),
            config_source: source,
            synonyms: if source == 5 { vec![synonym(5)] } else { vec![synonym(source), synonym(5)] },
            ..DescribeConfigsResourceResult::default()
        }
    };
    let result = DescribeConfigsResult {
        resource_type: kind,
        resource_name: Cow::Borrowed(name),
        configs: configs.iter().map(config).collect(),
        ..DescribeConfigsResult::default()
    };
    answer(
        &mut fake,
        ApiKey::DescribeConfigs,
        DescribeConfigsResponse { results: vec![result], ..Default::default() },
    );
    fake
}

fn altered(fake: &mut Fake, kind: i8, name: &'static str, error: ErrorCode, text: Option<&'static str>) {
    let response = AlterConfigsResourceResponse {
        error_code: error.0,
        error_message: text.map(Cow::Borrowed),
        resource_type: kind,
        resource_name: Cow::Borrowed(name),
    };
    let response = IncrementalAlterConfigsResponse { responses: vec![response], ..Default::default() };
    answer(fake, ApiKey::IncrementalAlterConfigs, response);
}

#[test]
fn settings_are_described_and_altered_as_captured() {
    let orders =
        [("min.insync.replicas", "2", 1), ("cleanup.policy", "compact,delete", 1), ("segment.ms", "1", 5)];
    let mut fake = with_configs(2, "orders", &orders);
    let cleanup = "  cleanup.policy=compact,delete sensitive=false \
                   synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete, DEFAULT_CONFIG:cleanup.policy=1}\n";
    let min = "  min.insync.replicas=2 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:min.insync.replicas=2, \
               DEFAULT_CONFIG:min.insync.replicas=1}\n";
    let segment = "  segment.ms=1 sensitive=false synonyms={DEFAULT_CONFIG:segment.ms=1}\n";
    let describe = "kafka-configs B --describe --entity-type topics --entity-name orders";
    let expected = format!("Dynamic configs for topic orders are:\n{cleanup}{min}");
    assert_eq!(run(&mut fake, describe), (expected, String::new(), 0));
    let expected = format!("All configs for topic orders are:\n{cleanup}{min}{segment}");
    assert_eq!(run(&mut fake, &format!("{describe} --all")).0, expected);

    altered(&mut fake, 2, "orders", ErrorCode::NONE, None);
    let alter = "kafka-configs B --alter --topic orders";
    let told = run(
        &mut fake,
        &format!("{alter} --add-config unclean.leader.election.enable=true,cleanup.policy=[compact,delete]"),
    );
    assert_eq!(told, ("Completed updating config for topic orders.\n".to_string(), String::new(), 0));
    // What is not set may be deleted.
    let told = run(&mut fake, &format!("{alter} --delete-config segment.ms"));
    assert_eq!(told.0, "Completed updating config for topic orders.\n");

    let text = "Unknown topic config name: nope";
    altered(&mut fake, 2, "orders", ErrorCode::INVALID_CONFIG, Some(text));
    let (_, stderr, exit) = run(&mut fake, &format!("{alter} --add-config nope=2"));
    let cause = format!("org.apache.kafka.common.errors.InvalidConfigurationException: {text}");
    let expected = format!(
        "Error while executing config command with args '--bootstrap-server broker-1:9092 --alter --topic orders \
         --add-config nope=2'\njava.util.concurrent.ExecutionException: {cause}\nCaused by: {cause}\n"
    );
    assert_eq!((stderr, exit), (expected, 1));
}

#[test]
fn settings_of_brokers_and_their_defaults() {
    let mut fake = with_configs(4, "", &[("min.insync.replicas", "1", 3), ("a", "1", 5)]);
    let (stdout, _, _) = run(&mut fake, "kafka-configs B --describe --entity-type brokers --entity-default");
    assert!(
        stdout.starts_with("Default configs for brokers in the cluster are:\n  min.insync.replicas=1 "),
        "{stdout}"
    );
    assert_eq!(stdout.lines().count(), 2);
    altered(&mut fake, 4, "", ErrorCode::NONE, None);
    let told = run(&mut fake, "kafka-configs B --alter --broker-defaults --add-config log.cleaner.threads=2");
    assert_eq!(told.0, "Completed updating default config for brokers in the cluster.\n");
    let cases = [
        ("--describe", "At least one entity type must be specified"),
        (
            "--describe --entity-type brokers --entity-name x",
            "The entity name for brokers must be a valid integer broker id, but it is: x",
        ),
        (
            "--alter --topic t",
            "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter",
        ),
        (
            "--alter --entity-type topics --add-config a=1",
            "An entity name must be specified with --alter of topics",
        ),
    ];
    for (options, text) in cases {
        let told = run(&mut fake, &format!("kafka-configs B {options}"));
        assert_eq!(told, (String::new(), format!("{text}\n"), 1));
    }
}

// --- the consoles

#[test]
fn lines_become_records() {
    let mut fake = Fake::new(1, 1);
    let line = "kafka-console-producer B --topic t --reader-property parse.key=true --reader-property key.separator=:";
    let told = run_with(&mut fake, line, &[], Some("alice:book\nbob:pen\r\ncarol:ink"));
    assert_eq!(told, (String::new(), String::new(), 0));
    assert_eq!(fake.partitions[0].values(), ["book", "pen", "ink"]);
    let old = "kafka-console-producer B --topic t --property parse.key=true --sync";
    let warning = "Warning: --property is deprecated and will be removed in a future version. Use --reader-property instead.\n";
    assert_eq!(run_with(&mut fake, old, &[], Some("k\tv\n")), (warning.to_string(), String::new(), 0));
    assert_eq!(fake.partitions[0].values().len(), 4);
}

#[test]
fn lines_that_cannot_be_read_or_sent_are_told_as_captured() {
    let mut fake = Fake::new(1, 1);
    let keyed = "kafka-console-producer B --topic t --reader-property parse.key=true --reader-property key.separator=:";
    let (_, stderr, exit) = run_with(&mut fake, keyed, &[], Some("a:b\nnokey\nc:d\n"));
    let text = "org.apache.kafka.common.KafkaException: No key separator found on line number 2: 'nokey'\n";
    assert_eq!((stderr.as_str(), exit), (text, 1));
    assert_eq!(fake.partitions[0].values(), ["b"], "what was read before is sent");

    let short =
        "--command-property delivery.timeout.ms=4000 --command-property request.timeout.ms=2000 --timeout 0";
    for (sync, code) in [("", 0), ("--sync", 1)] {
        let mut fake = Fake::new(1, 1);
        fake.rule = Box::new(|seen| match seen.key {
            ApiKey::Produce => Fall::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
            _ => Fall::Answer,
        });
        let line = format!("kafka-console-producer B --topic t {short} {sync}");
        let (_, stderr, exit) = run_with(&mut fake, &line, &[], Some("m1\nm2\n"));
        let thrown = "org.apache.kafka.common.errors.NotEnoughReplicasException: Messages are rejected since there are \
                      fewer in-sync replicas than required.\n";
        assert_eq!(exit, code);
        if sync.is_empty() {
            let logged = "ERROR Error when sending message to topic t with key: null, value: 2 bytes with error: \
                          (org.apache.kafka.clients.producer.internals.ErrorLoggingCallback)\n";
            assert_eq!(stderr.matches(&format!("{logged}{thrown}")).count(), 2, "{stderr}");
        } else {
            let expected = format!("java.util.concurrent.ExecutionException: {thrown}Caused by: {thrown}");
            assert_eq!(stderr, expected);
        }
    }
}

#[test]
fn answers_that_are_damaged_end_commands_and_break_nothing() {
    for seed in 0..60 {
        let lines = [
            "kafka-get-offsets B --topic t",
            "kafka-console-consumer B --topic t --from-beginning --max-messages 1 --timeout-ms 5000",
        ];
        for line in lines {
            let mut fake = Fake::new(2, 2);
            consumers::coordinate(&mut fake);
            fake.produce(0, &["a"]);
            fake.versions.insert(ApiKey::DescribeTopicPartitions, (5, 5));
            fake.mangle = Some(rng(seed));
            run(&mut fake, line);
        }
    }
}

#[test]
fn files_are_dumped() {
    let (stdout, stderr, exit) = run_with(
        &mut Fake::new(1, 1),
        "kafka-dump-log --files 00000000000000000000.log",
        &[("00000000000000000000.log", "")],
        None,
    );
    let text = "Dumping 00000000000000000000.log\nLog starting offset: 0\n";
    assert_eq!((stdout.as_str(), stderr.as_str(), exit), (text, "", 0));
}

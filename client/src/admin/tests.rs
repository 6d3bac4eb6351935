//! Calls of an admin client against a scripted cluster.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use wire::drive::{Instant, Now};
use wire::error::ErrorCode;
use wire::frame::encode_response;
use wire::messages::create_topics_request::CreateTopicsRequest;
use wire::messages::create_topics_response::{CreatableTopicResult, CreateTopicsResponse};
use wire::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use wire::messages::describe_topic_partitions_response::*;
use wire::{ApiKey, Codecs, Message};

use super::{Admin, AdminResult, CallId, NewTopic, TopicOptions};
use crate::config::{AdminConfig, Isolation};
use crate::error::ClientError;
use crate::event::TopicPartition;
use crate::io::{Input, Outputs};
use crate::testing::{Fake, Fall, Machine, TOPIC, bootstrap, ms, rng, settings};

type Begin = Box<dyn FnOnce(&mut Admin, Now) -> CallId>;

/// An application that makes one call at its start.
struct Caller {
    admin: Admin,
    call: Option<Begin>,
    results: Vec<(Instant, AdminResult)>,
}

impl Machine for Caller {
    fn handle(&mut self, now: Now, input: Input, _: &dyn Codecs, out: &mut Outputs) {
        if let Some(call) = self.call.take() {
            call(&mut self.admin, now);
        }
        self.admin.handle(now, &input, out);
        self.admin.drive(now, out);
        while let Some((_, result)) = self.admin.take_result() {
            self.results.push((now.mono, result));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.admin.next_deadline()
    }
}

fn caller(config: &[(&str, &str)], call: impl FnOnce(&mut Admin, Now) -> CallId + 'static) -> Caller {
    let config = AdminConfig::parse(&settings(config)).unwrap();
    let admin = Admin::new(config, "adminclient-1", bootstrap(), rng(1));
    Caller { admin, call: Some(Box::new(call)), results: Vec::new() }
}

/// Runs until the call is done, and gives its result.
fn run(fake: &mut Fake, mut caller: Caller) -> (Instant, AdminResult) {
    fake.start(&mut caller);
    for second in 1..200 {
        fake.run(&mut caller, ms(second * 1000));
        if let Some(result) = caller.results.pop() {
            assert!(caller.results.is_empty() && caller.admin.is_idle());
            return result;
        }
    }
    panic!("the call has no result");
}

fn error_of(result: AdminResult) -> ClientError {
    match result {
        AdminResult::Topics(Err(error)) | AdminResult::Partitions(Err(error)) => error,
        AdminResult::Created(each) => each.into_values().next().unwrap().unwrap_err(),
        AdminResult::Offsets(each) => each.into_values().next().unwrap().unwrap_err(),
        other => panic!("{other:?}"),
    }
}

fn one_topic() -> Vec<NewTopic> {
    vec![NewTopic { name: "late".into(), partitions: Some(1), ..NewTopic::default() }]
}

#[test]
fn lists_topics() {
    let (_, result) = run(&mut Fake::new(3, 2), caller(&[], |admin, now| admin.list_topics(now, false)));
    let AdminResult::Topics(Ok(topics)) = result else { panic!("{result:?}") };
    assert_eq!(topics.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), [TOPIC]);
}

#[test]
fn nobody_there_times_out_waiting_for_a_node() {
    let mut fake = Fake::new(1, 1);
    fake.down.push(1);
    let config = [("default.api.timeout.ms", "5000"), ("request.timeout.ms", "2000")];
    let (at, result) = run(&mut fake, caller(&config, |admin, now| admin.list_topics(now, false)));
    let error = error_of(result);
    assert_eq!(error.class, "org.apache.kafka.common.errors.TimeoutException");
    assert_eq!(error.message, "Timed out waiting for a node assignment. Call: listTopics");
    assert_eq!(at, ms(5000));
}

#[test]
fn an_unanswered_call_names_itself_and_what_it_waited_for() {
    let mut fake = Fake::new(1, 1);
    fake.handlers.insert(ApiKey::CreateTopics, Box::new(|_, _, _| None));
    let config = [("default.api.timeout.ms", "4000"), ("request.timeout.ms", "4000")];
    let (at, result) = run(
        &mut fake,
        caller(&config, |admin, now| admin.create_topics(now, one_topic(), false, TopicOptions::default())),
    );
    let error = error_of(result);
    assert_eq!(at, ms(4000));
    let wall = 1_767_225_604_000_i64;
    let text = &error.message;
    let begins = alloc::format!("Call(callName=createTopics, deadlineMs={wall}, tries=1, nextAllowedTryMs=");
    assert!(text.starts_with(&begins), "{text}");
    assert!(text.ends_with(&alloc::format!(") timed out at {wall} after 1 attempt(s)")), "{text}");
    let cause = error.cause.unwrap();
    assert_eq!(cause.class, "org.apache.kafka.common.errors.DisconnectException");
    assert!(
        cause.message.starts_with("Cancelled createTopics request with correlation id "),
        "{}",
        cause.message
    );
    assert!(cause.message.ends_with(" due to node 1 being disconnected"), "{}", cause.message);
}

/// As Apache Kafka 4.3.1's does when the quorum is lost: ListPartitionReassignments was sent once, with a timeout of
/// 30 s, and told of after 60 s.
#[test]
fn a_request_is_given_up_when_the_client_wakes_up_and_nothing_wakes_it_before_the_call_is_late() {
    let create =
        |admin: &mut Admin, now: Now| admin.create_topics(now, one_topic(), false, TopicOptions::default());
    let mut fake = Fake::new(1, 1);
    fake.handlers.insert(ApiKey::CreateTopics, Box::new(|_, _, _| None));
    let (at, result) = run(&mut fake, caller(&[], create));
    assert_eq!((at, fake.count(ApiKey::CreateTopics)), (ms(60_000), 1));
    let error = error_of(result);
    assert!(error.message.ends_with(" after 1 attempt(s)"), "{}", error.message);

    // Its metadata is fetched again after 40 s.
    let mut fake = Fake::new(1, 1);
    fake.handlers.insert(ApiKey::CreateTopics, Box::new(|_, _, _| None));
    let (at, _) = run(&mut fake, caller(&[("metadata.max.age.ms", "40000")], create));
    assert_eq!((at, fake.count(ApiKey::CreateTopics)), (ms(60_000), 2));
    let second = fake.seen.iter().filter(|seen| seen.key == ApiKey::CreateTopics).nth(1).unwrap();
    assert!(second.at >= ms(40_000) && second.at < ms(41_000), "{:?}", second.at);
}

#[test]
fn a_call_is_tried_again_until_its_time_is_over_also_when_the_broker_goes_away() {
    let mut fake = Fake::new(1, 1);
    fake.rule = Box::new(|seen| if seen.key == ApiKey::CreateTopics { Fall::Break } else { Fall::Answer });
    fake.handlers.insert(ApiKey::CreateTopics, Box::new(|_, _, _| None));
    let mut caller =
        caller(&[], |admin, now| admin.create_topics(now, one_topic(), false, TopicOptions::default()));
    fake.start(&mut caller);
    fake.run(&mut caller, ms(10_000));
    fake.kill(1);
    fake.run(&mut caller, ms(70_000));
    assert!(fake.count(ApiKey::CreateTopics) > 8, "{}", fake.count(ApiKey::CreateTopics));
    let (at, result) = caller.results.pop().unwrap();
    assert_eq!(at, ms(60_000));
    assert_eq!(error_of(result).class_simple(), "TimeoutException");
}

#[test]
fn a_broken_connection_is_tried_again() {
    let mut fake = Fake::new(1, 1);
    let mut metadata = 0;
    fake.rule = Box::new(move |seen| {
        metadata += usize::from(seen.key == ApiKey::Metadata);
        // The first is the client's own, the second the call.
        if seen.key == ApiKey::Metadata && metadata == 2 { Fall::Break } else { Fall::Answer }
    });
    let (_, result) = run(&mut fake, caller(&[], |admin, now| admin.list_topics(now, false)));
    assert!(matches!(result, AdminResult::Topics(Ok(_))), "{result:?}");
}

fn create_topics_answer(
    version: i16,
    correlation: i32,
    error: ErrorCode,
    text: Option<&'static str>,
) -> wire::Rope {
    let topic = CreatableTopicResult {
        name: Cow::Borrowed("late"),
        error_code: error.0,
        error_message: text.map(Cow::Borrowed),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopicResult::default()
    };
    let response = CreateTopicsResponse { topics: vec![topic], ..CreateTopicsResponse::default() };
    encode_response(ApiKey::CreateTopics, version, correlation, &response).unwrap()
}

#[test]
fn errors_are_the_brokers_words_and_not_controller_is_tried_again() {
    let mut fake = Fake::new(1, 1);
    let mut asked = 0;
    let handler = move |version, correlation, r: &mut wire::Reader<'_>| {
        CreateTopicsRequest::decode(r, version).unwrap();
        asked += 1;
        let (error, text) = match asked {
            1 => (ErrorCode::NOT_CONTROLLER, None),
            _ => (ErrorCode::TOPIC_ALREADY_EXISTS, Some("Topic 'late' already exists.")),
        };
        Some(create_topics_answer(version, correlation, error, text))
    };
    fake.handlers.insert(ApiKey::CreateTopics, Box::new(handler));
    let (_, result) = run(
        &mut fake,
        caller(&[], |admin, now| admin.create_topics(now, one_topic(), false, TopicOptions::default())),
    );
    let error = error_of(result);
    assert_eq!(error.class, "org.apache.kafka.common.errors.TopicExistsException");
    assert_eq!(error.message, "Topic 'late' already exists.");
    assert_eq!(fake.count(ApiKey::CreateTopics), 2);
}

/// Answers that a quota refuses so many times, each time for a second.
fn throttled(times: usize) -> crate::testing::Handler {
    let mut asked = 0;
    Box::new(move |version, correlation, r: &mut wire::Reader<'_>| {
        CreateTopicsRequest::decode(r, version).unwrap();
        asked += 1;
        if asked > times {
            return Some(create_topics_answer(version, correlation, ErrorCode::NONE, None));
        }
        let topic = CreatableTopicResult {
            name: Cow::Borrowed("late"),
            error_code: ErrorCode::THROTTLING_QUOTA_EXCEEDED.0,
            ..CreatableTopicResult::default()
        };
        let response = CreateTopicsResponse { topics: vec![topic], throttle_time_ms: 1000 };
        Some(encode_response(ApiKey::CreateTopics, version, correlation, &response).unwrap())
    })
}

#[test]
fn what_a_quota_refuses_is_asked_for_again_when_the_broker_wants_it() {
    let mut fake = Fake::new(1, 1);
    fake.handlers.insert(ApiKey::CreateTopics, throttled(2));
    let call =
        caller(&[], |admin, now| admin.create_topics(now, one_topic(), false, TopicOptions::default()));
    let (_, result) = run(&mut fake, call);
    let AdminResult::Created(created) = result else { panic!("{result:?}") };
    assert!(created["late"].is_ok());
    let asked = fake.seen.iter().filter(|seen| seen.key == ApiKey::CreateTopics).map(|seen| seen.at);
    let asked: Vec<_> = asked.collect();
    let waits: Vec<u64> = asked.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect();
    assert!(waits.len() == 2 && waits.iter().all(|wait| (1000..1010).contains(wait)), "{waits:?}");
}

#[test]
fn a_quota_that_refuses_until_the_time_is_over_is_why_the_call_failed() {
    let mut fake = Fake::new(1, 1);
    fake.handlers.insert(ApiKey::CreateTopics, throttled(usize::MAX));
    let config = [("default.api.timeout.ms", "4500"), ("request.timeout.ms", "2000")];
    let call =
        caller(&config, |admin, now| admin.create_topics(now, one_topic(), false, TopicOptions::default()));
    let (at, result) = run(&mut fake, call);
    let error = error_of(result);
    assert_eq!(error.class_simple(), "ThrottlingQuotaExceededException");
    assert_eq!(error.message, "The throttling quota has been exceeded.");
    assert_eq!((at, fake.count(ApiKey::CreateTopics)), (ms(4500), 5));
}

#[test]
fn who_does_not_want_to_wait_for_a_quota_is_told_at_once() {
    let mut fake = Fake::new(1, 1);
    fake.handlers.insert(ApiKey::CreateTopics, throttled(usize::MAX));
    let call = caller(&[], |admin, now| {
        let options = TopicOptions { retry_on_quota_violation: false };
        admin.create_topics(now, one_topic(), false, options)
    });
    let (_, result) = run(&mut fake, call);
    assert_eq!(error_of(result).code, ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    assert_eq!(fake.count(ApiKey::CreateTopics), 1);
}

#[test]
fn descriptions_come_page_by_page() {
    let mut fake = Fake::new(1, 1);
    let handler = |version, correlation, r: &mut wire::Reader<'_>| {
        let request = DescribeTopicPartitionsRequest::decode(r, version).unwrap();
        let partition = |partition_index| DescribeTopicPartitionsResponsePartition {
            partition_index,
            leader_id: 1,
            eligible_leader_replicas: Some(vec![2]),
            ..DescribeTopicPartitionsResponsePartition::default()
        };
        let topic = |name: &'static str, partitions: Vec<i32>| DescribeTopicPartitionsResponseTopic {
            name: Some(Cow::Borrowed(name)),
            partitions: partitions.into_iter().map(partition).collect(),
            ..DescribeTopicPartitionsResponseTopic::default()
        };
        let (topics, next_cursor) = match request.cursor {
            None => {
                let cursor = Cursor { topic_name: Cow::Borrowed("b"), partition_index: 1 };
                (vec![topic("a", vec![0]), topic("b", vec![0])], Some(cursor))
            }
            Some(cursor) => {
                assert_eq!((&*cursor.topic_name, cursor.partition_index), ("b", 1));
                let mut unknown = topic("c", vec![]);
                unknown.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
                (vec![topic("b", vec![1]), unknown], None)
            }
        };
        let response = DescribeTopicPartitionsResponse {
            topics,
            next_cursor,
            ..DescribeTopicPartitionsResponse::default()
        };
        Some(encode_response(ApiKey::DescribeTopicPartitions, version, correlation, &response).unwrap())
    };
    fake.handlers.insert(ApiKey::DescribeTopicPartitions, Box::new(handler));
    let names: Vec<_> = ["c", "a", "b"].map(ToString::to_string).to_vec();
    let (_, result) = run(&mut fake, caller(&[], move |admin, now| admin.describe_topics(now, &names)));
    let AdminResult::TopicDescriptions(each) = result else { panic!("{result:?}") };
    let numbers =
        |name: &str| each[name].as_ref().unwrap().partitions.iter().map(|p| p.partition).collect::<Vec<_>>();
    assert_eq!((numbers("a"), numbers("b")), (vec![0], vec![0, 1]));
    assert_eq!(each["a"].as_ref().unwrap().partitions[0].elr, Some(vec![2]));
    let error = each["c"].as_ref().unwrap_err();
    assert_eq!(error.class_simple(), "UnknownTopicOrPartitionException");
}

#[test]
fn brokers_that_cannot_page_are_asked_through_metadata() {
    let mut fake = Fake::new(1, 2);
    fake.versions.insert(ApiKey::DescribeTopicPartitions, (5, 5));
    let names = vec![TOPIC.to_string()];
    let (_, result) = run(&mut fake, caller(&[], move |admin, now| admin.describe_topics(now, &names)));
    let AdminResult::TopicDescriptions(each) = result else { panic!("{result:?}") };
    let topic = each[TOPIC].as_ref().unwrap();
    assert_eq!((topic.partitions.len(), &topic.partitions[0].elr), (2, &None));
}

#[test]
fn offsets_are_asked_of_each_leader_and_again_when_it_has_moved() {
    let mut fake = Fake::new(3, 3);
    fake.produce(0, &["a", "b"]);
    fake.produce(2, &["c"]);
    let mut asked = 0;
    fake.rule = Box::new(move |seen| {
        asked += usize::from(seen.key == ApiKey::ListOffsets);
        match seen.key {
            ApiKey::ListOffsets if asked == 1 => Fall::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            _ => Fall::Answer,
        }
    });
    let partitions: BTreeMap<_, _> = (0..3).map(|p| (TopicPartition::new(TOPIC, p), -1)).collect();
    let call = move |admin: &mut Admin, now| admin.list_offsets(now, partitions, Isolation::ReadUncommitted);
    let (_, result) = run(&mut fake, caller(&[], call));
    let AdminResult::Offsets(each) = result else { panic!("{result:?}") };
    let offsets: Vec<i64> = each.values().map(|result| result.as_ref().unwrap().offset).collect();
    assert_eq!(offsets, [2, 0, 1]);
    assert_eq!(fake.count(ApiKey::ListOffsets), 4);
}

#[test]
fn offsets_without_a_leader_time_out() {
    let mut fake = Fake::new(1, 1);
    fake.partitions[0].leader = -1;
    let partitions = BTreeMap::from([(TopicPartition::new(TOPIC, 0), -1)]);
    let call = move |admin: &mut Admin, now| admin.list_offsets(now, partitions, Isolation::ReadUncommitted);
    let (at, result) = run(&mut fake, caller(&[], call));
    let error = error_of(result);
    assert!(at >= ms(60_000) && at <= ms(61_000), "{at:?}");
    assert_eq!(error.class_simple(), "TimeoutException");
}

#[test]
fn answers_that_are_damaged_break_nothing() {
    for seed in 0..300 {
        let mut fake = Fake::new(2, 2);
        fake.mangle = Some(rng(seed));
        let partitions =
            BTreeMap::from([(TopicPartition::new(TOPIC, 0), -1), (TopicPartition::new(TOPIC, 1), -2)]);
        let call =
            move |admin: &mut Admin, now| admin.list_offsets(now, partitions, Isolation::ReadUncommitted);
        run(&mut fake, caller(&[], call));
    }
}

#[test]
fn apis_that_the_broker_lacks_are_named() {
    let mut fake = Fake::new(1, 1);
    fake.versions.insert(ApiKey::CreateTopics, (90, 91));
    let (_, result) = run(
        &mut fake,
        caller(&[], |admin, now| admin.create_topics(now, one_topic(), false, TopicOptions::default())),
    );
    let error = error_of(result);
    assert_eq!(error.class_simple(), "UnsupportedVersionException");
    assert_eq!(error.message, "The node does not support CREATE_TOPICS with version in range [90,91].");
}

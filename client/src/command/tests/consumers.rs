//! Tools that are members of a group, which has no other member.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use wire::frame::encode_response;
use wire::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use wire::messages::heartbeat_response::HeartbeatResponse;
use wire::messages::join_group_request::JoinGroupRequest;
use wire::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use wire::messages::leave_group_request::LeaveGroupRequest;
use wire::messages::leave_group_response::LeaveGroupResponse;
use wire::messages::offset_fetch_request::OffsetFetchRequest;
use wire::messages::offset_fetch_response::*;
use wire::messages::sync_group_request::SyncGroupRequest;
use wire::messages::sync_group_response::SyncGroupResponse;
use wire::{ApiKey, Message, Reader};

use super::{answer, command, run};
use crate::testing::{Fake, TOPIC, ms};

/// What a handler gets, and answers with `M`.
fn respond<M: Message<'static>>(
    fake: &mut Fake,
    key: ApiKey,
    response: impl Fn(&mut Reader<'_>, i16) -> M + 'static,
) {
    let handler = move |version: i16, correlation: i32, request: &mut Reader<'_>| {
        Some(encode_response(key, version, correlation, &response(request, version)).unwrap())
    };
    fake.handlers.insert(key, Box::new(handler));
}

/// The first broker coordinates a group: the client that joins leads it, and nothing was committed.
pub fn coordinate(fake: &mut Fake) {
    let coordinator =
        Coordinator { node_id: 1, host: Cow::Borrowed("broker-1"), port: 9092, ..Coordinator::default() };
    let response = FindCoordinatorResponse { coordinators: vec![coordinator], ..Default::default() };
    answer(fake, ApiKey::FindCoordinator, response);
    answer(fake, ApiKey::Heartbeat, HeartbeatResponse::default());
    answer(fake, ApiKey::LeaveGroup, LeaveGroupResponse::default());
    respond(fake, ApiKey::JoinGroup, |request, version| {
        let request = JoinGroupRequest::decode(request, version).unwrap();
        let protocol = request.protocols.first().cloned().unwrap_or_default();
        JoinGroupResponse {
            generation_id: 1,
            protocol_type: Some(Cow::Borrowed("consumer")),
            protocol_name: Some(Cow::Owned(protocol.name.to_string())),
            leader: Cow::Borrowed("member"),
            member_id: Cow::Borrowed("member"),
            members: vec![JoinGroupResponseMember {
                member_id: Cow::Borrowed("member"),
                metadata: Cow::Owned(protocol.metadata.to_vec()),
                ..JoinGroupResponseMember::default()
            }],
            ..JoinGroupResponse::default()
        }
    });
    respond(fake, ApiKey::SyncGroup, |request, version| {
        let request = SyncGroupRequest::decode(request, version).unwrap();
        let first = request.assignments.first();
        let assignment = Cow::Owned(first.map_or_else(Vec::new, |first| first.assignment.to_vec()));
        SyncGroupResponse { assignment, ..SyncGroupResponse::default() }
    });
    respond(fake, ApiKey::OffsetFetch, |request, version| {
        let request = OffsetFetchRequest::decode(request, version).unwrap();
        let none = |&partition_index: &i32| OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: -1,
            ..OffsetFetchResponsePartitions::default()
        };
        let group = request.groups.first().cloned().unwrap_or_default();
        let topics = group.topics.iter().flatten().map(|topic| OffsetFetchResponseTopics {
            name: Cow::Owned(topic.name.to_string()),
            topic_id: topic.topic_id,
            partitions: topic.partition_indexes.iter().map(none).collect(),
        });
        let answered = OffsetFetchResponseGroup {
            group_id: Cow::Owned(group.group_id.to_string()),
            topics: topics.collect(),
            ..OffsetFetchResponseGroup::default()
        };
        OffsetFetchResponse { groups: vec![answered], ..OffsetFetchResponse::default() }
    });
}

#[test]
fn records_become_lines() {
    let mut fake = Fake::new(2, 3);
    coordinate(&mut fake);
    fake.produce(0, &["book", "pen"]);
    fake.produce(2, &["ink"]);
    let all = format!("kafka-console-consumer B --topic {TOPIC} --from-beginning --max-messages 3");
    let (stdout, stderr, exit) = run(&mut fake, &all);
    let mut sorted: Vec<&str> = stdout.lines().collect();
    sorted.sort_unstable();
    assert_eq!(
        (sorted, stderr.as_str(), exit),
        (vec!["book", "ink", "pen"], "Processed a total of 3 messages\n", 0)
    );

    let columns = "--formatter-property print.partition=true --formatter-property print.offset=true --formatter-property key.separator=-";
    let one =
        format!("kafka-console-consumer B --topic t --partition 0 --offset 1 --timeout-ms 3000 {columns}");
    let (stdout, stderr, exit) = run(&mut fake, &one);
    assert_eq!((stdout.as_str(), exit), ("Partition:0-Offset:1-pen\n", 0));
    let expected = "ERROR Error processing message, terminating consumer process:  \
                    (org.apache.kafka.tools.consumer.ConsoleConsumer)\n\
                    org.apache.kafka.common.errors.TimeoutException\nProcessed a total of 1 messages\n";
    assert!(stderr.ends_with(expected), "{stderr}");

    let (_, stderr, exit) = run(&mut fake, "kafka-console-consumer B --topic t --partition 0 --group g");
    let refused = "Options group and partition cannot be specified together.\n";
    assert!(stderr.starts_with(refused) && exit == 1, "{stderr}");
}

#[test]
fn a_consumer_that_is_stopped_says_how_much_it_read() {
    let mut fake = Fake::new(1, 1);
    coordinate(&mut fake);
    fake.produce(0, &["a"]);
    let mut process =
        command("kafka-console-consumer --bootstrap-server broker-1:9092 --topic t --from-beginning", &[]);
    fake.start(&mut process);
    fake.run(&mut process, ms(5_000));
    assert_eq!((fake.stdout.as_str(), fake.exit), ("a\n", None));
    fake.stop(&mut process);
    fake.run(&mut process, ms(6_000));
    assert_eq!((fake.stderr.as_str(), fake.exit), ("Processed a total of 1 messages\n", Some(143)));
}

#[test]
fn a_command_that_is_cloned_in_the_middle_ends_alike() {
    let mut fake = Fake::new(1, 1);
    coordinate(&mut fake);
    fake.produce(0, &["a"]);
    let mut process = command(
        "kafka-console-consumer --bootstrap-server broker-1:9092 --topic t --from-beginning --max-messages 1",
        &[],
    );
    fake.start(&mut process);
    fake.run(&mut process, ms(2));
    let mut copy = process.clone();
    fake.run(&mut copy, ms(5_000));
    assert_eq!((fake.stdout.as_str(), fake.exit), ("a\n", Some(0)));
}

#[test]
fn a_console_consumer_makes_a_group_for_itself_and_commits_nothing() {
    let mut fake = Fake::new(1, 1);
    coordinate(&mut fake);
    let joined = Rc::new(RefCell::new(Vec::new()));
    let groups = joined.clone();
    respond(&mut fake, ApiKey::LeaveGroup, move |request, version| {
        let request = LeaveGroupRequest::decode(request, version).unwrap();
        groups.borrow_mut().push(request.group_id.to_string());
        LeaveGroupResponse::default()
    });
    fake.produce(0, &["a"]);
    let line = "kafka-console-consumer B --topic t --from-beginning --timeout-ms 12000";
    // A consumer that commits does so every five seconds: the scripted broker knows no OffsetCommit.
    let (stdout, _, exit) = run(&mut fake, line);
    assert_eq!((stdout.as_str(), exit), ("a\n", 0));
    let left = joined.borrow().clone();
    let number = |group: &String| group.strip_prefix("console-consumer-").and_then(|n| n.parse().ok());
    let numbers: Vec<Option<u32>> = left.iter().map(number).collect();
    assert!(matches!(numbers[..], [Some(0..=99_999)]), "{left:?}");

    let mut fake = Fake::new(1, 1);
    fake.produce(0, &["a"]);
    let (stdout, _, _) =
        run(&mut fake, "kafka-console-consumer B --topic t --partition 0 --offset earliest --max-messages 1");
    assert_eq!((stdout.as_str(), fake.count(ApiKey::FindCoordinator)), ("a\n", 0));
}

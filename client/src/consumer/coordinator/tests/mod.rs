//! Stories of a member and a scripted coordinator that knows one member, and others by name only.

mod modern;
mod verifiable;
mod world;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use wire::drive::Nanos;
use wire::error::ErrorCode;
use wire::frame::encode_response;
use wire::framing::{decode_versioned, encode_versioned};
use wire::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use wire::messages::heartbeat_request::HeartbeatRequest;
use wire::messages::heartbeat_response::HeartbeatResponse;
use wire::messages::join_group_request::JoinGroupRequest;
use wire::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use wire::messages::leave_group_request::LeaveGroupRequest;
use wire::messages::leave_group_response::LeaveGroupResponse;
use wire::messages::offset_commit_request::OffsetCommitRequest;
use wire::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use wire::messages::offset_fetch_request::OffsetFetchRequest;
use wire::messages::offset_fetch_response::*;
use wire::messages::sync_group_request::SyncGroupRequest;
use wire::messages::sync_group_response::SyncGroupResponse;
use wire::records::protocol::consumer_protocol_assignment;
use wire::records::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use wire::{ApiKey, Message, Reader, Rope};

use crate::event::{ClientEvent, TopicPartition};
use crate::io::Process;
use crate::mutant::Mutants;
use crate::testing::{Fake, TOPIC, bootstrap, ms, rng, settings};
use crate::workload::{Assignment, Commit, ConsumerClient, ConsumerSpec, From, Names};

/// Generation, member, and offsets by partition.
type Told = (i32, String, Vec<(i32, i64)>);

/// What the coordinator knows and has heard.
#[derive(Default)]
struct Script {
    /// What it answers to the next requests of an API.
    errors: BTreeMap<ApiKey, VecDeque<ErrorCode>>,
    /// It does not answer these.
    silent: Vec<ApiKey>,
    generation: i32,
    joins: Vec<(String, ConsumerProtocolSubscription, String)>,
    syncs: Vec<ConsumerProtocolAssignment>,
    /// What a follower is given; otherwise the member leads.
    given: Option<Vec<i32>>,
    committed: BTreeMap<i32, i64>,
    commits: Vec<Told>,
    heartbeats: usize,
    left: Vec<String>,
    node: i32,
}

impl Script {
    fn error(&mut self, key: ApiKey) -> ErrorCode {
        self.errors.get_mut(&key).and_then(VecDeque::pop_front).unwrap_or(ErrorCode::NONE)
    }

    fn refuse(&mut self, key: ApiKey, errors: &[ErrorCode]) {
        self.errors.entry(key).or_default().extend(errors);
    }
}

type Shared = Rc<RefCell<Script>>;

fn answer<'a, M: Message<'a>>(key: ApiKey, version: i16, correlation: i32, response: &M) -> Option<Rope> {
    Some(encode_response(key, version, correlation, response).unwrap())
}

fn on(
    fake: &mut Fake,
    script: &Shared,
    key: ApiKey,
    mut act: impl FnMut(&mut Script, ErrorCode, i16, i32, &mut Reader<'_>) -> Option<Rope> + 'static,
) {
    let script = script.clone();
    let handler = move |version: i16, correlation: i32, r: &mut Reader<'_>| {
        let mut script = script.borrow_mut();
        if script.silent.contains(&key) {
            return None;
        }
        let error = script.error(key);
        act(&mut script, error, version, correlation, r)
    };
    fake.handlers.insert(key, Box::new(handler));
}

fn cluster(partitions: i32) -> (Fake, Shared) {
    let mut fake = Fake::new(2, partitions);
    let script: Shared = Rc::default();
    script.borrow_mut().node = 2;
    on(&mut fake, &script, ApiKey::FindCoordinator, |script, error, version, correlation, _| {
        let told = Coordinator {
            key: "billing".into(),
            node_id: if error.is_none() { script.node } else { -1 },
            host: format!("broker-{}", script.node).into(),
            port: 9092,
            error_code: error.0,
            error_message: None,
        };
        let response = FindCoordinatorResponse { coordinators: vec![told], ..Default::default() };
        answer(ApiKey::FindCoordinator, version, correlation, &response)
    });
    on(&mut fake, &script, ApiKey::JoinGroup, join);
    on(&mut fake, &script, ApiKey::SyncGroup, sync);
    on(&mut fake, &script, ApiKey::Heartbeat, |script, error, version, correlation, r| {
        let request = HeartbeatRequest::decode(r, version).unwrap();
        assert_eq!(&*request.group_id, "billing");
        script.heartbeats += 1;
        let response = HeartbeatResponse { error_code: error.0, ..Default::default() };
        answer(ApiKey::Heartbeat, version, correlation, &response)
    });
    on(&mut fake, &script, ApiKey::LeaveGroup, |script, _, version, correlation, r| {
        let request = LeaveGroupRequest::decode(r, version).unwrap();
        let reason = request.members[0].reason.as_deref().unwrap_or("").to_string();
        script.left.push(reason);
        answer(ApiKey::LeaveGroup, version, correlation, &LeaveGroupResponse::default())
    });
    on(&mut fake, &script, ApiKey::OffsetCommit, commit);
    on(&mut fake, &script, ApiKey::OffsetFetch, fetch);
    (fake, script)
}

fn join(
    script: &mut Script,
    error: ErrorCode,
    version: i16,
    correlation: i32,
    r: &mut Reader<'_>,
) -> Option<Rope> {
    let request = JoinGroupRequest::decode(r, version).unwrap();
    let metadata = request.protocols[0].metadata.to_vec();
    let (subscription, _) = decode_versioned(&metadata).unwrap();
    let member = request.member_id.to_string();
    script.joins.push((member.clone(), subscription, request.reason.as_deref().unwrap_or("").to_string()));
    let error = if error.is_none() && member.is_empty() { ErrorCode::MEMBER_ID_REQUIRED } else { error };
    let mut response = JoinGroupResponse {
        error_code: error.0,
        generation_id: -1,
        member_id: if member.is_empty() { "billing-1".into() } else { request.member_id.clone() },
        ..Default::default()
    };
    if error.is_none() {
        script.generation += 1;
        response.generation_id = script.generation;
        response.protocol_type = Some("consumer".into());
        response.protocol_name = Some(request.protocols[0].name.clone());
        response.leader = if script.given.is_some() { "other".into() } else { response.member_id.clone() };
        if script.given.is_none() {
            let (member_id, metadata) = (response.member_id.clone(), metadata.into());
            response.members = vec![JoinGroupResponseMember { member_id, metadata, ..Default::default() }];
        }
    }
    answer(ApiKey::JoinGroup, version, correlation, &response)
}

fn sync(
    script: &mut Script,
    error: ErrorCode,
    version: i16,
    correlation: i32,
    r: &mut Reader<'_>,
) -> Option<Rope> {
    let request = SyncGroupRequest::decode(r, version).unwrap();
    let assignment = match (&script.given, request.assignments.first()) {
        (Some(given), _) => {
            let topic = consumer_protocol_assignment::TopicPartition {
                topic: TOPIC.into(),
                partitions: given.clone(),
            };
            let given = ConsumerProtocolAssignment { assigned_partitions: vec![topic], user_data: None };
            encode_versioned(&given, 3).unwrap()
        }
        (None, Some(own)) => own.assignment.to_vec(),
        (None, None) => Vec::new(),
    };
    if !assignment.is_empty() {
        script.syncs.push(decode_versioned(&assignment).unwrap().0);
    }
    let response = SyncGroupResponse {
        error_code: error.0,
        protocol_type: request.protocol_type.clone(),
        protocol_name: request.protocol_name.clone(),
        assignment: assignment.into(),
        ..Default::default()
    };
    answer(ApiKey::SyncGroup, version, correlation, &response)
}

fn commit(
    script: &mut Script,
    error: ErrorCode,
    version: i16,
    correlation: i32,
    r: &mut Reader<'_>,
) -> Option<Rope> {
    let request = OffsetCommitRequest::decode(r, version).unwrap();
    let mut topics = Vec::new();
    for topic in &request.topics {
        let offsets: Vec<(i32, i64)> =
            topic.partitions.iter().map(|p| (p.partition_index, p.committed_offset)).collect();
        if error.is_none() {
            script.committed.extend(offsets.iter().copied());
        }
        script.commits.push((request.generation_id_or_member_epoch, request.member_id.to_string(), offsets));
        let partition = |p: &wire::messages::offset_commit_request::OffsetCommitRequestPartition<'_>| {
            OffsetCommitResponsePartition { partition_index: p.partition_index, error_code: error.0 }
        };
        topics.push(OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(partition).collect(),
        });
    }
    answer(ApiKey::OffsetCommit, version, correlation, &OffsetCommitResponse { topics, ..Default::default() })
}

fn fetch(
    script: &mut Script,
    error: ErrorCode,
    version: i16,
    correlation: i32,
    r: &mut Reader<'_>,
) -> Option<Rope> {
    let request = OffsetFetchRequest::decode(r, version).unwrap();
    assert!(request.require_stable);
    let group = &request.groups[0];
    let partition = |&partition: &i32| OffsetFetchResponsePartitions {
        partition_index: partition,
        committed_offset: script.committed.get(&partition).copied().unwrap_or(-1),
        committed_leader_epoch: -1,
        metadata: Some("".into()),
        error_code: error.0,
    };
    let topics = group.topics.iter().flatten().map(|topic| OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(partition).collect(),
    });
    let group = OffsetFetchResponseGroup {
        group_id: group.group_id.clone(),
        topics: topics.collect(),
        error_code: 0,
    };
    let response = OffsetFetchResponse { groups: vec![group], ..Default::default() };
    answer(ApiKey::OffsetFetch, version, correlation, &response)
}

fn spec(commit: Commit, config: &[(&str, &str)]) -> ConsumerSpec {
    let mut config = settings(config);
    config.entry("auto.offset.reset".into()).or_insert("earliest".into());
    ConsumerSpec {
        name: "billing".into(),
        bootstrap: bootstrap(),
        assignment: Assignment::Group { topics: vec![TOPIC.into()], group: "billing".into() },
        from: From::Reset,
        processing: Nanos::ZERO,
        commit,
        names: Names::new(vec!["shop".into()]),
        config,
        mutants: Mutants::NONE,
    }
}

fn process(spec: ConsumerSpec) -> Process {
    Process::Consumer(Box::new(ConsumerClient::new(spec, rng(1)).unwrap()))
}

/// What happened to the assignment, in short.
fn story(fake: &Fake) -> Vec<String> {
    let numbers = |partitions: &[TopicPartition]| {
        let numbers: Vec<String> = partitions.iter().map(|p| p.partition.to_string()).collect();
        numbers.join(",")
    };
    let tell = |event: &ClientEvent| match event {
        ClientEvent::GroupJoined { member, generation, .. } => Some(format!("{member} joined {generation}")),
        ClientEvent::PartitionsAssigned { partitions, owned, .. } => {
            Some(format!("+{} ={}", numbers(partitions), numbers(owned)))
        }
        ClientEvent::PartitionsRevoked { partitions, .. } => Some(format!("-{}", numbers(partitions))),
        ClientEvent::PartitionsLost { partitions, .. } => Some(format!("lost {}", numbers(partitions))),
        ClientEvent::CommitFailed { error, .. } => Some(format!("commit failed {error}")),
        ClientEvent::ConsumerFailed { error, .. } => Some(format!("failed {error}")),
        _ => None,
    };
    fake.events.iter().filter_map(|(_, event)| tell(event)).collect()
}

#[test]
fn joins_reads_commits_by_itself_and_leaves() {
    let (mut fake, script) = cluster(3);
    for partition in 0..3 {
        fake.produce(partition, &["shop-0", "shop-1"]);
    }
    let mut billing = process(spec(Commit::Auto, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(4_000));
    assert_eq!(story(&fake), ["billing-1 joined 1", "+0,1,2 =0,1,2"]);
    assert_eq!(fake.polled(1), vec![(0, 0), (1, 1)]);
    assert_eq!(script.borrow().commits.len(), 0, "auto.commit.interval.ms is not over");
    fake.run(&mut billing, ms(8_000));
    assert_eq!(script.borrow().commits.len(), 1);
    assert_eq!(script.borrow().committed, BTreeMap::from([(0, 2), (1, 2), (2, 2)]));
    assert_eq!(script.borrow().heartbeats, 2, "every three seconds");
    fake.produce(0, &["shop-2"]);
    fake.run(&mut billing, ms(9_000));
    fake.stop(&mut billing);
    fake.run(&mut billing, ms(10_000));
    assert_eq!(fake.exit, Some(0));
    let script = script.borrow();
    assert_eq!(script.committed[&0], 3, "closing commits");
    assert_eq!(script.left, ["the consumer is being closed"]);
    assert_eq!(story(&fake)[2..], ["-0,1,2"]);
    assert_eq!(script.joins.len(), 2, "with no member id, then with the one that it was given");
    // FindCoordinator, JoinGroup and so on go where they should.
    assert!(fake.seen.iter().filter(|seen| seen.key == ApiKey::JoinGroup).all(|seen| seen.node == 2));
}

#[test]
fn goes_on_where_the_group_has_committed() {
    let (mut fake, script) = cluster(1);
    fake.produce(0, &["shop-0", "shop-1", "shop-2"]);
    script.borrow_mut().committed.insert(0, 2);
    let mut billing = process(spec(Commit::Auto, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(2_000));
    assert_eq!(fake.polled(0), vec![(2, 2)]);
}

#[test]
fn unstable_offsets_and_loading_coordinators_are_waited_for() {
    let (mut fake, script) = cluster(1);
    fake.produce(0, &["shop-0", "shop-1"]);
    {
        let mut script = script.borrow_mut();
        script.refuse(ApiKey::FindCoordinator, &[ErrorCode::COORDINATOR_NOT_AVAILABLE; 2]);
        script.refuse(
            ApiKey::JoinGroup,
            &[ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, ErrorCode::NOT_COORDINATOR],
        );
        script.refuse(ApiKey::SyncGroup, &[ErrorCode::REBALANCE_IN_PROGRESS]);
        script.refuse(ApiKey::OffsetFetch, &[ErrorCode::UNSTABLE_OFFSET_COMMIT; 3]);
    }
    let mut billing = process(spec(Commit::Auto, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(4_000));
    assert_eq!(story(&fake), ["billing-1 joined 2", "+0 =0"]);
    assert_eq!(fake.polled(0), vec![(0, 0), (1, 1)]);
    assert_eq!(fake.count(ApiKey::OffsetFetch), 4);
    assert_eq!(
        script.borrow().joins.last().unwrap().2,
        "rebalance failed due to RebalanceInProgressException"
    );
}

#[test]
fn a_rebalance_commits_revokes_and_takes_over() {
    let (mut fake, script) = cluster(3);
    for partition in 0..3 {
        fake.produce(partition, &["shop-0", "shop-1"]);
    }
    let mut billing = process(spec(Commit::Auto, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(2_000));
    script.borrow_mut().given = Some(vec![1]);
    script.borrow_mut().refuse(ApiKey::Heartbeat, &[ErrorCode::REBALANCE_IN_PROGRESS]);
    fake.run(&mut billing, ms(6_000));
    assert_eq!(story(&fake)[2..], ["-0,1,2", "billing-1 joined 2", "+1 =1"]);
    let script = script.borrow();
    assert_eq!(script.commits[0].0, 1, "before the partitions are gone, as the old generation");
    assert_eq!(script.committed, BTreeMap::from([(0, 2), (1, 2), (2, 2)]));
    let (_, subscription, reason) = script.joins.last().unwrap();
    assert_eq!((subscription.generation_id, reason.as_str()), (1, "group is already rebalancing"));
    assert!(subscription.owned_partitions.is_empty(), "an eager member owns nothing when it joins");
    // What it had read is not read again.
    assert_eq!(fake.polled(1), vec![(0, 0), (1, 1)]);
}

#[test]
fn a_cooperative_member_keeps_what_it_may() {
    let (mut fake, script) = cluster(3);
    let strategy = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    let mut billing = process(spec(Commit::Auto, &[("partition.assignment.strategy", strategy)]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(2_000));
    script.borrow_mut().given = Some(vec![0, 1]);
    script.borrow_mut().refuse(ApiKey::Heartbeat, &[ErrorCode::REBALANCE_IN_PROGRESS]);
    fake.run(&mut billing, ms(6_000));
    let expected = ["billing-1 joined 2", "-2", "+ =0,1", "billing-1 joined 3", "+ =0,1"];
    assert_eq!(story(&fake)[2..], expected);
    let script = script.borrow();
    let owned = |join: usize| script.joins[join].1.owned_partitions.first().map(|o| o.partitions.clone());
    assert_eq!((owned(2), owned(3)), (Some(vec![0, 1, 2]), Some(vec![0, 1])));
    assert!(script.joins[3].2.starts_with("need to revoke partitions [t-2] and re-join"));
}

#[test]
fn a_member_that_nobody_knows_any_more_has_lost_everything() {
    for (error, rejoins_as) in
        [(ErrorCode::UNKNOWN_MEMBER_ID, ""), (ErrorCode::ILLEGAL_GENERATION, "billing-1")]
    {
        let (mut fake, script) = cluster(2);
        let mut billing = process(spec(Commit::Auto, &[]));
        fake.start(&mut billing);
        fake.run(&mut billing, ms(2_000));
        script.borrow_mut().refuse(ApiKey::Heartbeat, &[error]);
        fake.run(&mut billing, ms(6_000));
        let lost = "commit failed UNKNOWN_MEMBER_ID";
        let story = story(&fake);
        let expected = [lost, "lost 0,1", "billing-1 joined 2", "+0,1 =0,1"];
        // What was never read is not committed.
        assert_eq!(story[story.len() - 3..], expected[1..], "{error:?}: {story:?}");
        assert_eq!(script.borrow().joins[2].0, rejoins_as, "{error:?}");
    }
}

#[test]
fn an_application_that_stays_away_leaves_the_group() {
    let (mut fake, script) = cluster(1);
    fake.produce(0, &["shop-0", "shop-1"]);
    let mut slow = spec(Commit::After, &[("max.poll.interval.ms", "8000")]);
    slow.processing = Nanos::from_millis(6_000);
    let mut billing = process(slow);
    fake.start(&mut billing);
    fake.run(&mut billing, ms(11_000));
    assert_eq!(script.borrow().left, ["consumer poll timeout has expired."]);
    assert_eq!(fake.exit, None);
    fake.run(&mut billing, ms(20_000));
    // The commit comes too late, and the application does not handle the exception.
    assert_eq!(story(&fake)[2..], ["commit failed UNKNOWN_MEMBER_ID", "failed UNKNOWN_MEMBER_ID"]);
    assert_eq!(fake.exit, Some(1));
}

#[test]
fn commits_come_before_or_after_processing() {
    for (commit, at) in [(Commit::Before, 0), (Commit::After, 900), (Commit::None, i64::MAX)] {
        let (mut fake, script) = cluster(1);
        fake.produce(0, &["shop-0", "shop-1", "shop-2"]);
        let mut slow = spec(commit, &[]);
        slow.processing = Nanos::from_millis(300);
        let mut billing = process(slow);
        fake.start(&mut billing);
        fake.run(&mut billing, ms(10_000));
        let polled = fake.events.iter().find_map(|(_, event)| match event {
            ClientEvent::Polled(polled) => Some(polled.processing_from),
            _ => None,
        });
        let committed = fake.events.iter().find_map(|(at, event)| match event {
            ClientEvent::OffsetsCommitted { offsets, .. } => Some((*at, offsets[0].1)),
            _ => None,
        });
        match committed {
            None => assert_eq!(commit, Commit::None),
            Some((committed, offset)) => {
                let after = (committed.0 as i64 - polled.unwrap().0 as i64) / 1_000_000;
                assert_eq!(offset, 3);
                assert!((at..at + 5).contains(&after), "{commit:?}: {after}");
                assert_eq!(script.borrow().commits.len(), 1);
            }
        }
    }
}

#[test]
fn a_synchronous_commit_is_tried_again_and_a_fatal_one_thrown() {
    let (mut fake, script) = cluster(1);
    fake.produce(0, &["shop-0"]);
    script.borrow_mut().refuse(
        ApiKey::OffsetCommit,
        &[ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, ErrorCode::NOT_COORDINATOR, ErrorCode::REQUEST_TIMED_OUT],
    );
    let mut billing = process(spec(Commit::After, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(5_000));
    assert_eq!(script.borrow().commits.len(), 4);
    assert_eq!(script.borrow().committed[&0], 1);
    assert_eq!(fake.exit, None);
    script.borrow_mut().refuse(ApiKey::OffsetCommit, &[ErrorCode::ILLEGAL_GENERATION]);
    fake.produce(0, &["shop-1"]);
    fake.run(&mut billing, ms(6_000));
    assert_eq!(story(&fake)[2..], ["commit failed ILLEGAL_GENERATION", "failed ILLEGAL_GENERATION"]);
}

#[test]
fn a_coordinator_that_dies_is_looked_for_again() {
    let (mut fake, script) = cluster(2);
    // No partition is led by broker 2, so that only the group notices.
    fake.partitions.iter_mut().for_each(|partition| partition.leader = 1);
    fake.produce(0, &["shop-0"]);
    let mut billing = process(spec(Commit::Auto, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(2_000));
    fake.kill(2);
    script.borrow_mut().node = 1;
    fake.run(&mut billing, ms(12_000));
    assert_eq!(story(&fake), ["billing-1 joined 1", "+0,1 =0,1"], "the member stays a member");
    assert_eq!(script.borrow().committed[&0], 1);
    assert!(fake.seen.iter().any(|seen| seen.key == ApiKey::Heartbeat && seen.node == 1));
    let lookups = fake.count(ApiKey::FindCoordinator);
    assert!(lookups < 10, "{lookups}");
}

#[test]
fn new_partitions_make_the_leader_rejoin() {
    let (mut fake, script) = cluster(1);
    let mut billing = process(spec(Commit::Auto, &[("metadata.max.age.ms", "1000")]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(2_000));
    let second = fake.partitions[0].clone();
    fake.partitions.push(second);
    fake.run(&mut billing, ms(5_000));
    assert_eq!(story(&fake)[2..], ["-0", "billing-1 joined 2", "+0,1 =0,1"]);
    assert_eq!(script.borrow().joins.last().unwrap().2, "cached metadata has changed");
}

#[test]
fn a_static_member_does_not_leave_and_is_fenced_for_good() {
    let (mut fake, script) = cluster(1);
    let config = [("group.instance.id", "one")];
    let mut billing = process(spec(Commit::Auto, &config));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(2_000));
    fake.stop(&mut billing);
    fake.run(&mut billing, ms(3_000));
    assert_eq!((fake.exit, script.borrow().left.len()), (Some(0), 0));

    let (mut fake, script) = cluster(1);
    let mut billing = process(spec(Commit::Auto, &config));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(2_000));
    script.borrow_mut().refuse(ApiKey::Heartbeat, &[ErrorCode::FENCED_INSTANCE_ID]);
    fake.run(&mut billing, ms(6_000));
    assert_eq!(fake.exit, Some(1));
    assert_eq!(story(&fake).last().unwrap(), "failed FENCED_INSTANCE_ID");
}

/// The coordinator is away for ten intervals of automatic commits: it hears of the last one.
#[test]
fn automatic_commits_do_not_queue() {
    let (mut fake, script) = cluster(1);
    fake.produce(0, &["shop-0", "shop-1"]);
    let config = [("auto.commit.interval.ms", "500"), ("session.timeout.ms", "30000")];
    let mut billing = process(spec(Commit::Auto, &config));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(4_000));
    let before = script.borrow().commits.len();
    fake.kill(2);
    fake.run(&mut billing, ms(9_000));
    assert_eq!(script.borrow().commits.len(), before);
    script.borrow_mut().node = 1;
    fake.run(&mut billing, ms(10_400));
    let after = script.borrow().commits.len() - before;
    assert!((1..=4).contains(&after), "{after} commits in 1.4 s");
}

#[test]
fn without_a_subscription_commits_are_nobodys() {
    let (mut fake, script) = cluster(1);
    fake.produce(0, &["shop-0", "shop-1"]);
    script.borrow_mut().committed.insert(0, 1);
    let mut own = spec(Commit::After, &[("group.id", "billing")]);
    own.assignment = Assignment::Partitions(vec![TopicPartition::new(TOPIC, 0)]);
    let mut billing = process(own);
    fake.start(&mut billing);
    fake.run(&mut billing, ms(2_000));
    assert_eq!(fake.polled(0), vec![(1, 1)]);
    assert_eq!(script.borrow().commits, vec![(-1, String::new(), vec![(0, 2)])]);
    assert_eq!(fake.count(ApiKey::JoinGroup), 0);
}

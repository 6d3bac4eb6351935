//! Groups of the consumer protocol on a node: stories, Kafka's recorded frames, and members that come, go and die by
//! chance while topics change.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use wire::framing::encode_versioned;
use wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use wire::messages::*;
use wire::records::ConsumerProtocolSubscription;
use wire::{ErrorCode, Uuid};

use super::lab::{Client, Lab};
use crate::event::Event;
use crate::io::Listener;

type Owned = BTreeMap<Uuid, BTreeSet<i32>>;

struct World {
    lab: Lab,
    client: Client,
}

/// What a heartbeat was told: epoch, and an assignment if there is one.
type Told = Result<(i32, Option<Owned>), (ErrorCode, String)>;

impl World {
    fn new(extra: &[(&str, &str)], topics: &[(&str, i32)]) -> World {
        let mut lab = Lab::combined(1, extra);
        lab.start_all();
        lab.run_until(20_000, "the node serves", Lab::all_running);
        let client = lab.dial("broker-1", Listener::Broker);
        let mut world = World { lab, client };
        world.create("__consumer_offsets", 1);
        for (name, partitions) in topics {
            world.create(name, *partitions);
        }
        world.lab.run(500);
        world
    }

    fn create(&mut self, name: &str, partitions: i32) {
        let topic = create_topics_request::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
        assert_eq!(self.lab.ask(&mut self.client, 7, &request, |r| r.topics[0].error_code), 0, "{name}");
        self.lab.run(50);
    }

    fn grow(&mut self, name: &str, count: i32) {
        let topic =
            create_partitions_request::CreatePartitionsTopic { name: name.into(), count, assignments: None };
        let request =
            CreatePartitionsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        assert_eq!(self.lab.ask(&mut self.client, 3, &request, |r| r.results[0].error_code), 0);
        self.lab.run(50);
    }

    fn delete(&mut self, name: &str) {
        let topic = delete_topics_request::DeleteTopicState { name: Some(name.into()), topic_id: Uuid::ZERO };
        let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        assert_eq!(self.lab.ask(&mut self.client, 6, &request, |r| r.responses[0].error_code), 0);
        self.lab.run(50);
    }

    fn id(&self, topic: &str) -> Uuid {
        self.lab.node("broker-1").image().topics.id_of(topic).unwrap()
    }

    fn beat(&mut self, request: &ConsumerGroupHeartbeatRequest<'_>) -> Told {
        self.lab.ask(&mut self.client, 1, request, |r| {
            if r.error_code != 0 {
                let message = r.error_message.map(|m| m.to_string()).unwrap_or_default();
                return Err((ErrorCode(r.error_code), message));
            }
            let owned = |a: consumer_group_heartbeat_response::Assignment| {
                let all = a.topic_partitions.into_iter();
                all.map(|t| (t.topic_id, t.partitions.into_iter().collect())).collect()
            };
            Ok((r.member_epoch, r.assignment.map(owned)))
        })
    }

    fn view(&self, group: &str) -> crate::coordinator::group::GroupView {
        let node = self.lab.node("broker-1");
        node.groups().unwrap().group(node.image(), group).unwrap().1
    }

    fn describe(&mut self, group: &str) -> (String, i32, i32, usize) {
        let request = ConsumerGroupDescribeRequest { group_ids: vec![group.into()], ..Default::default() };
        self.lab.ask(&mut self.client, 1, &request, |r| {
            let g = &r.groups[0];
            (g.group_state.to_string(), g.group_epoch, g.assignment_epoch, g.members.len())
        })
    }
}

/// A consumer, as far as its group can see it.
#[derive(Clone, Debug)]
struct Consumer {
    group: &'static str,
    id: String,
    instance: Option<&'static str>,
    topics: Vec<String>,
    regex: Option<String>,
    epoch: i32,
    owned: Owned,
    /// An answer was lost: the next heartbeat says everything again, and is told everything.
    lost: bool,
}

impl Consumer {
    fn new(group: &'static str, id: &str, topics: &[&str]) -> Consumer {
        Consumer {
            group,
            id: id.to_string(),
            instance: None,
            topics: topics.iter().map(ToString::to_string).collect(),
            regex: None,
            epoch: 0,
            owned: Owned::new(),
            lost: false,
        }
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest<'_> {
        let joins = self.epoch == 0;
        let full = joins || self.lost;
        let partitions = |owned: &Owned| {
            let of = |(topic_id, p): (&Uuid, &BTreeSet<i32>)| TopicPartitions {
                topic_id: *topic_id,
                partitions: p.iter().copied().collect(),
            };
            owned.iter().map(of).collect()
        };
        ConsumerGroupHeartbeatRequest {
            group_id: self.group.into(),
            member_id: (&*self.id).into(),
            member_epoch: self.epoch,
            instance_id: self.instance.map(Into::into),
            rebalance_timeout_ms: if full { 60_000 } else { -1 },
            subscribed_topic_names: full.then(|| self.topics.iter().map(|t| (&**t).into()).collect()),
            subscribed_topic_regex: self.regex.as_deref().filter(|_| full).map(Into::into),
            topic_partitions: Some(if joins { Vec::new() } else { partitions(&self.owned) }),
            ..Default::default()
        }
    }

    /// One heartbeat; who is fenced drops what it has and joins again.
    fn beat(&mut self, world: &mut World) -> Result<(), ErrorCode> {
        match world.beat(&self.request()) {
            Ok((epoch, assignment)) => {
                (self.epoch, self.lost) = (epoch, false);
                if let Some(owned) = assignment {
                    self.owned = owned;
                }
                Ok(())
            }
            Err((error, _)) => {
                if matches!(error, ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID) {
                    (self.epoch, self.owned) = (0, Owned::new());
                }
                Err(error)
            }
        }
    }

    fn leave(&mut self, world: &mut World, epoch: i32) {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.into(),
            member_id: (&*self.id).into(),
            member_epoch: epoch,
            instance_id: self.instance.map(Into::into),
            ..Default::default()
        };
        assert_eq!(world.beat(&request).map(|(epoch, _)| epoch), Ok(epoch));
        self.owned.clear();
    }
}

fn sizes(members: &[&Consumer]) -> Vec<usize> {
    members.iter().map(|m| m.owned.values().map(BTreeSet::len).sum()).collect()
}

/// No partition is with two members.
fn nobody_shares<'m>(members: impl Iterator<Item = &'m Consumer>) -> usize {
    let mut seen = BTreeSet::new();
    for member in members {
        for (topic, partitions) in &member.owned {
            for p in partitions {
                assert!(
                    seen.insert((*topic, *p)),
                    "partition {p} of {topic} is with {} and another",
                    member.id
                );
            }
        }
    }
    seen.len()
}

fn settle(world: &mut World, members: &mut [&mut Consumer]) {
    for _ in 0..12 {
        world.lab.run(1_000);
        for member in members.iter_mut() {
            let _ = member.beat(world);
        }
        nobody_shares(members.iter().map(|m| &**m));
    }
}

#[test]
fn two_members_share_and_the_one_that_dies_leaves_its_share_to_the_other() {
    let mut world = World::new(&[], &[("purchases", 3)]);
    let mut a = Consumer::new("g", "a", &["purchases"]);
    let mut b = Consumer::new("g", "b", &["purchases"]);
    a.beat(&mut world).unwrap();
    assert_eq!((a.epoch, sizes(&[&a])), (2, vec![3]), "the first epoch is 2, and it has all at once");
    world.lab.run(2_000);
    b.beat(&mut world).unwrap();
    assert_eq!((b.epoch, sizes(&[&b])), (3, vec![0]), "what is to be its own is not given up yet");
    assert_eq!(world.describe("g"), ("Reconciling".to_string(), 3, 3, 2));
    a.beat(&mut world).unwrap();
    assert_eq!((a.epoch, sizes(&[&a])), (2, vec![2]), "it is to give one up, in its old epoch");
    b.beat(&mut world).unwrap();
    assert_eq!(sizes(&[&b]), [0], "not before the other said that it has not got it any more");
    a.beat(&mut world).unwrap();
    b.beat(&mut world).unwrap();
    assert_eq!((a.epoch, b.epoch, sizes(&[&a, &b])), (3, 3, vec![2, 1]));
    assert_eq!(world.describe("g"), ("Stable".to_string(), 3, 3, 2));
    for _ in 0..10 {
        world.lab.run(5_000);
        b.beat(&mut world).unwrap();
    }
    assert_eq!(sizes(&[&b]), [3], "the other was silent for 45 s");
    let left = |e: &Event| matches!(e, Event::GroupMemberLeft { member, why, .. } if **member == *"a" && **why == *"session expired");
    assert!(world.lab.first(0, left).is_some());
    assert_eq!(a.beat(&mut world), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    b.leave(&mut world, -1);
    world.lab.run(100);
    assert_eq!(world.view("g").state, "Empty");
    let request = DeleteGroupsRequest { groups_names: vec!["g".into()] };
    assert_eq!(world.lab.ask(&mut world.client, 2, &request, |r| r.results[0].error_code), 0);
    assert_eq!(world.view("g").state, "Dead");
}

#[test]
fn who_asks_wrongly_is_told_so_in_kafkas_words() {
    let mut world = World::new(&[("group.consumer.max.size", "1")], &[("purchases", 3)]);
    let mut a = Consumer::new("g", "a", &["purchases"]);
    a.beat(&mut world).unwrap();
    let join = Consumer::new("g", "b", &["purchases"]);
    let base = || ConsumerGroupHeartbeatRequest { member_epoch: a.epoch, ..a.request() };
    let newer = "The consumer group member has a greater member epoch (9) than the one known by the group coordinator \
                 (2). The member must abandon all its partitions and rejoin.";
    let older = "The consumer group member has a smaller member epoch (1) than the one known by the group coordinator \
                 (2). The member must abandon all its partitions and rejoin.";
    let assignor = "ServerAssignor sticky is not supported. Supported assignors: uniform, range.";
    let full = "The consumer group has reached its maximum capacity of 1 members.";
    let invalid = ErrorCode::INVALID_REQUEST;
    for (request, error, message) in [
        (ConsumerGroupHeartbeatRequest { member_epoch: 9, ..base() }, ErrorCode::FENCED_MEMBER_EPOCH, newer),
        (ConsumerGroupHeartbeatRequest { member_epoch: 1, ..base() }, ErrorCode::FENCED_MEMBER_EPOCH, older),
        (ConsumerGroupHeartbeatRequest { member_epoch: -3, ..base() }, invalid, "MemberEpoch is invalid."),
        (ConsumerGroupHeartbeatRequest { group_id: "".into(), ..base() }, invalid, "GroupId can't be empty."),
        (
            ConsumerGroupHeartbeatRequest { member_id: "".into(), ..base() },
            invalid,
            "MemberId can't be empty.",
        ),
        (
            ConsumerGroupHeartbeatRequest { member_id: "nobody".into(), ..base() },
            ErrorCode::GROUP_MAX_SIZE_REACHED,
            full,
        ),
        (
            ConsumerGroupHeartbeatRequest { server_assignor: Some("sticky".into()), ..base() },
            ErrorCode::UNSUPPORTED_ASSIGNOR,
            assignor,
        ),
        (
            ConsumerGroupHeartbeatRequest { group_id: "other".into(), ..base() },
            ErrorCode::GROUP_ID_NOT_FOUND,
            "Consumer group other not found.",
        ),
        (join.request(), ErrorCode::GROUP_MAX_SIZE_REACHED, full),
        (
            ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..join.request() },
            invalid,
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        (
            ConsumerGroupHeartbeatRequest { instance_id: Some("i".into()), ..base() },
            ErrorCode::UNKNOWN_MEMBER_ID,
            "Instance id i is unknown.",
        ),
    ] {
        assert_eq!(world.beat(&request), Err((error, message.to_string())));
    }
    let bad = ConsumerGroupHeartbeatRequest { subscribed_topic_regex: Some("(a".into()), ..base() };
    let (error, message) = world.beat(&bad).unwrap_err();
    assert_eq!(error, ErrorCode::INVALID_REGULAR_EXPRESSION);
    assert!(
        message.starts_with("SubscribedTopicRegex `(a` is not a valid regular expression: "),
        "{message}"
    );
    assert_eq!(a.beat(&mut world), Ok(()), "nothing of this did the member any harm");
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut world = World::new(&[], &[("purchases", 4)]);
    let mut a = Consumer { instance: Some("shelf-1"), ..Consumer::new("g", "a", &["purchases"]) };
    let mut b = Consumer { instance: Some("shelf-2"), ..Consumer::new("g", "b", &["purchases"]) };
    let _ = (a.beat(&mut world), b.beat(&mut world));
    settle(&mut world, &mut [&mut a, &mut b]);
    assert_eq!(sizes(&[&a, &b]), [2, 2]);
    let (had, epoch) = (a.owned.clone(), world.view("g").generation);
    let mut late = Consumer { instance: Some("shelf-1"), ..Consumer::new("g", "c", &["purchases"]) };
    let (error, message) = world.beat(&late.request()).unwrap_err();
    let words = "Static member c with instance id shelf-1 cannot join the group because the instance id is owned by a \
                 member.";
    assert_eq!((error, &*message), (ErrorCode::UNRELEASED_INSTANCE_ID, words));
    a.leave(&mut world, -2);
    late.beat(&mut world).unwrap();
    assert_eq!((late.owned.clone(), world.view("g").generation), (had, epoch), "and there was no rebalance");
    let (error, _) = world.beat(&a.request()).unwrap_err();
    assert_eq!(error, ErrorCode::FENCED_INSTANCE_ID);
    settle(&mut world, &mut [&mut late, &mut b]);
    assert_eq!(nobody_shares([&late, &b].into_iter()), 4);
}

#[test]
fn topics_that_grow_or_match_a_regular_expression_begin_a_new_epoch() {
    let mut world = World::new(&[], &[("orders-eu", 2), ("other", 2)]);
    let regex = Some("orders-.*".to_string());
    let mut a = Consumer { regex, ..Consumer::new("g", "a", &[]) };
    a.beat(&mut world).unwrap();
    settle(&mut world, &mut [&mut a]);
    assert_eq!(a.owned, [(world.id("orders-eu"), [0, 1].into())].into());
    let epoch = a.epoch;
    world.create("orders-us", 1);
    settle(&mut world, &mut [&mut a]);
    assert!(a.owned.contains_key(&world.id("orders-us")) && a.epoch == epoch + 1);
    world.grow("orders-us", 3);
    settle(&mut world, &mut [&mut a]);
    assert_eq!((sizes(&[&a]), a.epoch), (vec![5], epoch + 2));
    world.delete("orders-eu");
    settle(&mut world, &mut [&mut a]);
    assert_eq!(a.owned, [(world.id("orders-us"), [0, 1, 2].into())].into());
}

#[test]
fn offsets_are_committed_in_the_epoch_that_the_member_is_in() {
    let mut world = World::new(&[], &[("purchases", 3)]);
    let mut a = Consumer::new("g", "a", &["purchases"]);
    a.beat(&mut world).unwrap();
    let commit = |world: &mut World, member: &str, epoch: i32, partition: i32| {
        let partition = offset_commit_request::OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: 7,
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: "g".into(),
            member_id: member.to_string().into(),
            generation_id_or_member_epoch: epoch,
            topics: vec![offset_commit_request::OffsetCommitRequestTopic {
                name: "purchases".into(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        world.lab.ask(&mut world.client, 9, &request, |r| ErrorCode(r.topics[0].partitions[0].error_code))
    };
    assert_eq!(commit(&mut world, "a", 2, 0), ErrorCode::NONE);
    assert_eq!(commit(&mut world, "a", 3, 0), ErrorCode::STALE_MEMBER_EPOCH, "a later epoch");
    assert_eq!(commit(&mut world, "nobody", 2, 0), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(commit(&mut world, "", -1, 0), ErrorCode::UNKNOWN_MEMBER_ID, "while there are members");
    // The coordinator moves the member on, and its answer is lost: what it has had since then it may commit.
    world.grow("purchases", 4);
    world.lab.run(2_000);
    world.beat(&a.request()).unwrap();
    assert_eq!(commit(&mut world, "a", 2, 0), ErrorCode::NONE);
    assert_eq!(commit(&mut world, "a", 2, 3), ErrorCode::STALE_MEMBER_EPOCH, "it got this one later");
    let fetch = |world: &mut World, epoch: i32| {
        let group = offset_fetch_request::OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_id: Some("a".into()),
            member_epoch: epoch,
            topics: None,
        };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        world.lab.ask(&mut world.client, 9, &request, |r| {
            (ErrorCode(r.groups[0].error_code), r.groups[0].topics.len())
        })
    };
    assert_eq!(fetch(&mut world, 3), (ErrorCode::NONE, 1));
    assert_eq!(fetch(&mut world, 2).0, ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(world.view("g").committed.len(), 1);
}

// --- members of the classic protocol

/// A consumer that speaks the classic protocol.
struct Old {
    id: String,
    instance: Option<&'static str>,
    generation: i32,
    owned: Owned,
}

impl Old {
    fn subscription(&self, world: &World) -> Vec<u8> {
        let name = |id: &Uuid| {
            let image = world.lab.node("broker-1").image();
            image.topics.topic(*id).map(|topic| topic.name.to_string())
        };
        let of = |(id, partitions): (&Uuid, &BTreeSet<i32>)| {
            Some(wire::records::protocol::consumer_protocol_subscription::TopicPartition {
                topic: name(id)?,
                partitions: partitions.iter().copied().collect(),
            })
        };
        let subscription = ConsumerProtocolSubscription {
            topics: vec!["purchases".into()],
            owned_partitions: self.owned.iter().filter_map(of).collect(),
            ..Default::default()
        };
        encode_versioned(&subscription, 1).unwrap()
    }

    fn join(&mut self, world: &mut World) -> ErrorCode {
        for _ in 0..3 {
            let metadata = self.subscription(world);
            let protocol = join_group_request::JoinGroupRequestProtocol {
                name: "cooperative-sticky".into(),
                metadata: (&*metadata).into(),
            };
            let request = JoinGroupRequest {
                group_id: "g".into(),
                member_id: (&*self.id).into(),
                group_instance_id: self.instance.map(Into::into),
                protocol_type: "consumer".into(),
                protocols: vec![protocol],
                session_timeout_ms: 45_000,
                rebalance_timeout_ms: 60_000,
                ..Default::default()
            };
            let look = |r: JoinGroupResponse<'_>| {
                let leads = r.leader == r.member_id && !r.member_id.is_empty();
                (ErrorCode(r.error_code), r.generation_id, r.member_id.to_string(), leads)
            };
            let (error, generation, id, leads) = world.lab.ask(&mut world.client, 9, &request, look);
            self.id = id;
            if error == ErrorCode::MEMBER_ID_REQUIRED {
                continue;
            }
            if error.is_none() {
                self.generation = generation;
                return self.sync(world, leads);
            }
            return error;
        }
        ErrorCode::MEMBER_ID_REQUIRED
    }

    /// Who leads a classic generation gives itself everything.
    fn sync(&mut self, world: &mut World, leads: bool) -> ErrorCode {
        use wire::records::ConsumerProtocolAssignment;
        let all = ConsumerProtocolAssignment {
            assigned_partitions: vec![
                wire::records::protocol::consumer_protocol_assignment::TopicPartition {
                    topic: "purchases".into(),
                    partitions: (0..4).collect(),
                },
            ],
            user_data: None,
        };
        let all = encode_versioned(&all, 1).unwrap();
        let mine = sync_group_request::SyncGroupRequestAssignment {
            member_id: (&*self.id).into(),
            assignment: (&*all).into(),
        };
        let request = SyncGroupRequest {
            group_id: "g".into(),
            generation_id: self.generation,
            member_id: (&*self.id).into(),
            group_instance_id: self.instance.map(Into::into),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("cooperative-sticky".into()),
            assignments: if leads { vec![mine] } else { Vec::new() },
        };
        let topics = world.lab.node("broker-1").image().topics.clone();
        let look = |r: SyncGroupResponse<'_>| {
            if r.error_code != 0 {
                return Err(ErrorCode(r.error_code));
            }
            let decoded =
                wire::framing::decode_versioned_or_later::<ConsumerProtocolAssignment>(&r.assignment);
            let all = decoded.unwrap().0.assigned_partitions.into_iter();
            Ok(all.map(|t| (topics.id_of(&t.topic).unwrap(), t.partitions.into_iter().collect())).collect())
        };
        match world.lab.ask(&mut world.client, 5, &request, look) {
            Ok(owned) => {
                self.owned = owned;
                ErrorCode::NONE
            }
            Err(error) => error,
        }
    }

    fn beat(&mut self, world: &mut World) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: self.generation,
            member_id: (&*self.id).into(),
            group_instance_id: self.instance.map(Into::into),
        };
        match world.lab.ask(&mut world.client, 4, &request, |r| ErrorCode(r.error_code)) {
            ErrorCode::REBALANCE_IN_PROGRESS => self.join(world),
            error => error,
        }
    }
}

#[test]
fn a_classic_group_becomes_one_of_the_new_protocol_and_goes_back() {
    let mut world = World::new(&[("group.initial.rebalance.delay.ms", "0")], &[("purchases", 4)]);
    let mut old = Old { id: String::new(), instance: None, generation: -1, owned: Owned::new() };
    assert_eq!(old.join(&mut world), ErrorCode::NONE);
    assert_eq!((old.generation, old.owned.values().map(BTreeSet::len).sum::<usize>()), (1, 4));
    assert_eq!(world.view("g").state, "Stable");
    let mut new = Consumer::new("g", "new", &["purchases"]);
    new.beat(&mut world).unwrap();
    let (state, _, _, members) = world.describe("g");
    assert_eq!((&*state, members), ("Reconciling", 2), "it is a group of the consumer protocol now");
    for _ in 0..6 {
        world.lab.run(1_500);
        old.beat(&mut world);
        let _ = new.beat(&mut world);
        let both = old.owned.iter().flat_map(|(t, p)| p.iter().map(|p| (*t, *p)));
        let shared = both.filter(|(t, p)| new.owned.get(t).is_some_and(|has| has.contains(p))).count();
        assert_eq!(shared, 0);
    }
    assert_eq!((old.owned.values().map(BTreeSet::len).sum::<usize>(), sizes(&[&new])), (2, vec![2]));
    assert_eq!(world.describe("g").0, "Stable");
    assert_eq!(old.beat(&mut world), ErrorCode::NONE);
    // The last one of the consumer protocol leaves.
    new.leave(&mut world, -1);
    world.lab.run(100);
    let (state, epoch, ..) = world.describe("g");
    assert_eq!((&*state, epoch), ("", 0), "not a consumer group");
    for _ in 0..4 {
        world.lab.run(1_000);
        old.beat(&mut world);
    }
    assert_eq!(world.view("g").state, "Stable");
    assert_eq!(old.owned.values().map(BTreeSet::len).sum::<usize>(), 4, "all are its own again");
}

#[test]
fn a_static_member_that_goes_back_to_the_classic_protocol_takes_the_group_with_it() {
    let mut world = World::new(&[("group.initial.rebalance.delay.ms", "0")], &[("purchases", 4)]);
    let mut old = Old { id: String::new(), instance: None, generation: -1, owned: Owned::new() };
    assert_eq!(old.join(&mut world), ErrorCode::NONE);
    let mut new = Consumer { instance: Some("i"), ..Consumer::new("g", "new", &["purchases"]) };
    for _ in 0..6 {
        let _ = new.beat(&mut world);
        world.lab.run(1_500);
        old.beat(&mut world);
    }
    let epoch = world.view("g").generation;
    let mut back = Old { id: String::new(), instance: Some("i"), generation: -1, owned: Owned::new() };
    assert_eq!(back.join(&mut world), ErrorCode::NONE);
    let view = world.view("g");
    assert_eq!((view.state, view.generation, view.members.len()), ("Stable", epoch, 2), "and no rebalance");
    assert_eq!(back.owned, new.owned, "what it had is its own");
    assert_eq!((old.beat(&mut world), back.beat(&mut world)), (ErrorCode::NONE, ErrorCode::NONE));
    assert_eq!(world.describe("g").0, "", "a classic group");
}

#[test]
fn without_the_policy_there_is_no_way_from_one_kind_to_the_other() {
    let settings =
        [("group.initial.rebalance.delay.ms", "0"), ("group.consumer.migration.policy", "disabled")];
    let mut world = World::new(&settings, &[("purchases", 4)]);
    let mut old = Old { id: String::new(), instance: None, generation: -1, owned: Owned::new() };
    assert_eq!(old.join(&mut world), ErrorCode::NONE);
    let refused = world.beat(&Consumer::new("g", "new", &["purchases"]).request()).unwrap_err();
    assert_eq!(refused, (ErrorCode::GROUP_ID_NOT_FOUND, "Group g is not a consumer group.".to_string()));
    assert_eq!(old.beat(&mut world), ErrorCode::NONE);
}

#[test]
fn who_does_not_give_partitions_up_in_time_is_fenced() {
    let mut world = World::new(&[], &[("purchases", 4)]);
    let mut a = Consumer::new("g", "a", &["purchases"]);
    let mut b = Consumer::new("g", "b", &["purchases"]);
    a.beat(&mut world).unwrap();
    world.lab.run(2_000);
    b.beat(&mut world).unwrap();
    let clings = a.request();
    let mut fenced_after = None;
    for second in 0..70 {
        world.lab.run(1_000);
        b.beat(&mut world).unwrap();
        match world.beat(&clings) {
            Ok((epoch, _)) => assert_eq!((epoch, sizes(&[&b])), (2, vec![0])),
            Err((error, _)) => {
                assert_eq!(error, ErrorCode::UNKNOWN_MEMBER_ID);
                fenced_after = Some(second);
                break;
            }
        }
    }
    assert!(matches!(fenced_after, Some(58..=62)), "the rebalance timeout is 60 s: {fenced_after:?}");
    settle(&mut world, &mut [&mut b]);
    assert_eq!(sizes(&[&b]), [4]);
}

// --- a new coordinator

#[test]
fn a_restarted_coordinator_knows_all_that_it_told() {
    let mut world = World::new(&[], &[("purchases", 5)]);
    let mut a = Consumer::new("g", "a", &["purchases"]);
    let mut b = Consumer { regex: Some("purch.*".into()), ..Consumer::new("g", "b", &[]) };
    let _ = (a.beat(&mut world), b.beat(&mut world));
    settle(&mut world, &mut [&mut a, &mut b]);
    let before = world.view("g");
    world.lab.kill("broker-1");
    world.lab.start("broker-1");
    world.lab.run_until(30_000, "the node serves", Lab::all_running);
    world.client = world.lab.dial("broker-1", Listener::Broker);
    world.lab.run(2_000);
    assert_eq!(world.view("g"), before);
    let owned = (a.owned.clone(), b.owned.clone());
    settle(&mut world, &mut [&mut a, &mut b]);
    assert_eq!((a.owned, b.owned), owned, "nobody noticed");
}

// --- what Kafka wrote and said

/// The recorded pairs of an API, in their order: request and response.
fn recorded(api: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
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

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|w| w == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// The topic's id and the client's address are the recording's; all else is as Kafka said it, byte for byte.
#[test]
fn the_recorded_requests_are_answered_as_kafka_did() {
    let mut world = World::new(&[], &[("purchases", 1)]);
    let theirs = 0x4b14_356d_5478_47b2_b920_30e7_9664_7135_u128.to_be_bytes();
    let ours = world.id("purchases").0;
    let ask = |world: &mut World, (request, response): &(Vec<u8>, Vec<u8>)| {
        let client = world.lab.dial("broker-1", Listener::Broker);
        let request = replaced(request, &theirs, &ours);
        world.lab.send_raw(&client, wire::Rope::from(bytes::Bytes::from(request)));
        let answer = world.lab.answer(&client, 30_000).expect("an answer").to_bytes().to_vec();
        let answer = replaced(&answer, &ours, &theirs);
        let host = [&[10u8][..], b"/10.0.0.7"].concat();
        assert_eq!(replaced(&answer, &host, b"\x0b/127.0.0.1"), *response);
    };
    let beats = recorded("ConsumerGroupHeartbeat");
    let describes = recorded("ConsumerGroupDescribe");
    ask(&mut world, &beats[2]);
    ask(&mut world, &beats[1]);
    ask(&mut world, &beats[0]);
    ask(&mut world, &describes[4]);
    ask(&mut world, &describes[0]);
}

/// The kinds of the records of a join, and how long their keys and values are, are those of Kafka's log.
#[test]
fn a_join_writes_what_kafka_writes() {
    let mut world = World::new(&[], &[("purchases", 1)]);
    // The client of the recording; its address is one byte longer.
    let (request, _) = recorded("ConsumerGroupHeartbeat").remove(2);
    let client = world.lab.dial("broker-1", Listener::Broker);
    world.lab.send_raw(&client, wire::Rope::from(bytes::Bytes::from(request)));
    world.lab.answer(&client, 30_000).expect("an answer");
    let request = FetchRequest {
        replica_id: -1,
        max_bytes: i32::MAX,
        session_epoch: -1,
        topics: vec![fetch_request::FetchTopic {
            topic: "__consumer_offsets".into(),
            partitions: vec![fetch_request::FetchPartition {
                current_leader_epoch: -1,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let written = world.lab.ask(&mut world.client, 11, &request, |r| {
        let mut all = Vec::new();
        let records = r.responses[0].partitions[0].records.clone().unwrap();
        for batch in wire::batch::Batches::new(&records).map_while(Result::ok) {
            for record in &batch.records(&codecs::StdCodecs, 1 << 20).unwrap() {
                let record = record.unwrap();
                let (key, value) = (record.key.unwrap(), record.value.unwrap());
                all.push((i16::from_be_bytes([key[0], key[1]]), key.len(), value.len()));
            }
        }
        all
    });
    assert_eq!(written, [(5, 35, 53 - 1), (3, 11, 17), (7, 35, 26), (6, 11, 17), (8, 35, 43)]);
}

// --- by chance

/// Members that come, go and die, answers that are lost, topics that are made, grow and are deleted: no partition is
/// ever with two who live, and when it is quiet all of them are with somebody.
fn explore(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let assignor = if seed.is_multiple_of(2) { "uniform,range" } else { "range,uniform" };
    let settings = [("group.consumer.assignors", assignor)];
    let mut world = World::new(&settings, &[("t-0", 3), ("t-1", 5)]);
    let mut counts: BTreeMap<String, i32> = [("t-0".into(), 3), ("t-1".into(), 5)].into();
    let mut members: Vec<Consumer> = Vec::new();
    let mut born = 0;
    for _ in 0..60 {
        let pick = |rng: &mut ChaCha8Rng, below: usize| rng.next_u32() as usize % below.max(1);
        match pick(&mut rng, 16) {
            0..3 if members.len() < 6 => {
                born += 1;
                let topics: Vec<&str> =
                    ["t-0", "t-1", "t-2"].into_iter().filter(|_| pick(&mut rng, 3) > 0).collect();
                let mut new = Consumer::new("g", &format!("m{born}"), &topics);
                if topics.is_empty() || pick(&mut rng, 5) == 0 {
                    new.regex = Some("t-.*".into());
                }
                members.push(new);
            }
            3 if !members.is_empty() => {
                let n = pick(&mut rng, members.len());
                let mut gone = members.remove(n);
                if gone.epoch > 0 {
                    gone.leave(&mut world, -1);
                }
            }
            // It dies; its partitions are nobody's until its session ends.
            4 if !members.is_empty() => drop(members.remove(pick(&mut rng, members.len()))),
            5 => {
                let name = format!("t-{}", pick(&mut rng, 3));
                match counts.get_mut(&name) {
                    Some(count) => {
                        *count += 1;
                        world.grow(&name, *count);
                    }
                    None => {
                        world.create(&name, 2);
                        counts.insert(name, 2);
                    }
                }
            }
            6 if counts.len() > 1 => {
                let name = counts.keys().nth(pick(&mut rng, counts.len())).cloned().unwrap();
                world.delete(&name);
                counts.remove(&name);
            }
            // An answer is lost.
            7 if !members.is_empty() => {
                let n = pick(&mut rng, members.len());
                let _ = world.beat(&members[n].request());
                members[n].lost = true;
            }
            8 => world.lab.run(3_000),
            _ if !members.is_empty() => {
                let n = pick(&mut rng, members.len());
                let _ = members[n].beat(&mut world);
            }
            _ => {}
        }
        world.lab.run(200);
        let id = |name: &str| world.lab.node("broker-1").image().topics.id_of(name);
        let there: BTreeSet<Uuid> = counts.keys().filter_map(|name| id(name)).collect();
        for member in &mut members {
            // What is deleted is nobody's.
            member.owned.retain(|topic, _| there.contains(topic));
        }
        nobody_shares(members.iter());
    }
    members.push(Consumer::new("g", "last", &["t-0", "t-1", "t-2"]));
    for _ in 0..30 {
        world.lab.run(4_000);
        for member in &mut members {
            let _ = member.beat(&mut world);
        }
        nobody_shares(members.iter());
    }
    let total: i32 = counts.values().sum();
    assert_eq!(
        nobody_shares(members.iter()) as i32,
        total,
        "seed {seed}: {members:#?} {:?}",
        world.view("g")
    );
    assert_eq!(world.view("g").state, "Stable", "seed {seed}");
    let told = world.lab.events.iter().rev().find_map(|(_, _, event)| match event {
        Event::GroupAssigned { members, .. } => Some(members.clone()),
        _ => None,
    });
    let told: usize = told.unwrap().iter().map(|m| m.partitions.len()).sum();
    assert_eq!(told as i32, total, "what was told is what is");
}

#[test]
fn whoever_comes_and_goes_no_partition_is_shared_and_none_is_left() {
    for seed in 0..24 {
        explore(seed);
    }
}

#[test]
fn two_hundred_members_share_a_thousand_partitions() {
    let mut world = World::new(&[], &[("wide", 1_000)]);
    let mut members: Vec<Consumer> =
        (0..200).map(|n| Consumer::new("g", &format!("m{n:03}"), &["wide"])).collect();
    for member in &mut members {
        let _ = member.beat(&mut world);
    }
    for _ in 0..4 {
        world.lab.run(1_500);
        for member in &mut members {
            let _ = member.beat(&mut world);
        }
        nobody_shares(members.iter());
    }
    assert!(members.iter().all(|m| m.owned.values().map(BTreeSet::len).sum::<usize>() == 5));
    let name: Arc<str> = Arc::from("g");
    assert_eq!(world.describe(&name), ("Stable".to_string(), 201, 201, 200));
}

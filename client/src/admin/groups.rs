//! Consumer groups: listGroups, describeConsumerGroups, their offsets, and their deletion.
//!
//! What concerns one group goes to its coordinator, who is looked up first and again when it is another one by now.
//! A group of unknown protocol is described as a consumer group first, and as a classic one if it is none
//! (`DescribeConsumerGroupsHandler.java`).

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::{Endpoint, Now};
use wire::error::ErrorCode;
use wire::framing::decode_versioned_or_later;
use wire::messages::consumer_group_describe_request::ConsumerGroupDescribeRequest;
use wire::messages::consumer_group_describe_response::Assignment;
use wire::messages::delete_groups_request::DeleteGroupsRequest;
use wire::messages::describe_cluster_request::DescribeClusterRequest;
use wire::messages::describe_groups_request::DescribeGroupsRequest;
use wire::messages::find_coordinator_request::FindCoordinatorRequest;
use wire::messages::list_groups_request::ListGroupsRequest;
use wire::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use wire::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestGroup};
use wire::records::ConsumerProtocolAssignment;

use super::{
    Admin, AdminResult, Answer, CallId, CommittedOffset, Each, GroupDescription, GroupListing, Link,
    MemberDescription, NextRequest, NodeInfo, Op, Route, Step, outcome,
};
use crate::error::ClientError;
use crate::event::TopicPartition;

const GROUP: i8 = 0;
/// The last versions that name topics and not their ids.
const LAST_WITH_NAMES: i16 = 9;

impl Admin {
    /// The groups of all brokers, by name; only those of these states and types, if any are given.
    pub fn list_groups(&mut self, now: Now, states: &[String], types: &[String]) -> CallId {
        let op = FindBrokers { states: states.to_vec(), types: types.to_vec() };
        self.begin(now, "findAllBrokers", Route::Any, Box::new(op))
    }

    /// Groups with their members.
    pub fn describe_groups(&mut self, now: Now, groups: &[String]) -> CallId {
        self.of_groups(now, groups, &Wanted::Description, AdminResult::GroupDescriptions(BTreeMap::new()))
    }

    /// The committed offsets of a group.
    pub fn list_group_offsets(&mut self, now: Now, group: &str) -> CallId {
        self.of_groups(now, &[group.into()], &Wanted::Offsets, AdminResult::GroupOffsets(BTreeMap::new()))
    }

    /// Commits offsets for a group without members.
    pub fn alter_group_offsets(
        &mut self,
        now: Now,
        group: &str,
        offsets: BTreeMap<TopicPartition, i64>,
    ) -> CallId {
        let none = AdminResult::Partitions(Ok(BTreeMap::new()));
        if offsets.is_empty() {
            return self.begin_done(none);
        }
        self.of_groups(now, &[group.into()], &Wanted::Commit(offsets), none)
    }

    /// Deletes committed offsets of a group.
    pub fn delete_group_offsets(&mut self, now: Now, group: &str, partitions: &[TopicPartition]) -> CallId {
        let none = AdminResult::Partitions(Ok(BTreeMap::new()));
        self.of_groups(now, &[group.into()], &Wanted::OffsetDeletion(partitions.to_vec()), none)
    }

    /// Deletes groups without members.
    pub fn delete_groups(&mut self, now: Now, groups: &[String]) -> CallId {
        self.of_groups(now, groups, &Wanted::Deletion, AdminResult::Done(BTreeMap::new()))
    }

    fn of_groups(&mut self, now: Now, groups: &[String], wanted: &Wanted, none: AdminResult) -> CallId {
        if groups.is_empty() {
            return self.begin_done(none);
        }
        let lookup = |group: &String| wanted.lookup(group.clone());
        self.begin_all(now, groups.iter().map(lookup).collect())
    }
}

// --- listing

/// Which brokers are there?
#[derive(Clone)]
struct FindBrokers {
    states: Vec<String>,
    types: Vec<String>,
}

impl Op for FindBrokers {
    fn key(&self) -> ApiKey {
        ApiKey::DescribeCluster
    }

    fn send(&self, link: Link<'_>) {
        link.send(&DescribeClusterRequest { endpoint_type: 1, ..DescribeClusterRequest::default() });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DescribeClusterRequest>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let list = |id: i32| NextRequest {
            name: "listGroups".into(),
            route: Route::Node(id),
            op: Box::new(ListGroups { states: self.states.clone(), types: self.types.clone() }),
        };
        let known = Some(AdminResult::Groups(Ok(Vec::new())));
        let next = response.brokers.iter().map(|broker| list(broker.broker_id)).collect();
        Step::Next { known, next, after_error: false }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Groups(Err(error))
    }
}

#[derive(Clone)]
struct ListGroups {
    states: Vec<String>,
    types: Vec<String>,
}

impl Op for ListGroups {
    fn key(&self) -> ApiKey {
        ApiKey::ListGroups
    }

    fn send(&self, link: Link<'_>) {
        let filter = |texts: &[String]| {
            texts.iter().map(|text| Cow::Owned(text.clone())).collect::<Vec<Cow<'_, str>>>()
        };
        link.send(&ListGroupsRequest {
            states_filter: filter(&self.states),
            types_filter: filter(&self.types),
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<ListGroupsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let listing = |group: &wire::messages::list_groups_response::ListedGroup<'_>| GroupListing {
            id: group.group_id.to_string(),
            protocol: group.protocol_type.to_string(),
            state: group.group_state.to_string(),
            kind: group.group_type.to_string(),
        };
        match outcome(response.error_code, None, || response.groups.iter().map(listing).collect()) {
            Ok(groups) => Step::Done(AdminResult::Groups(Ok(groups))),
            Err(error) => Step::Failed(error),
        }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Groups(Err(error))
    }
}

// --- one group

/// What is to be done with a group.
#[derive(Clone)]
enum Wanted {
    Description,
    Offsets,
    Commit(BTreeMap<TopicPartition, i64>),
    OffsetDeletion(Vec<TopicPartition>),
    Deletion,
}

impl Wanted {
    fn name(&self) -> &'static str {
        match self {
            Wanted::Description => "describeConsumerGroups",
            Wanted::Offsets => "listConsumerGroupOffsets",
            Wanted::Commit(_) => "alterConsumerGroupOffsets",
            Wanted::OffsetDeletion(_) => "deleteConsumerGroupOffsets",
            Wanted::Deletion => "deleteConsumerGroups",
        }
    }

    fn lookup(&self, group: String) -> NextRequest {
        let op = Box::new(FindCoordinator { group, wanted: self.clone() });
        NextRequest { name: "findCoordinator".into(), route: Route::Any, op }
    }

    fn fulfil(&self, group: String, coordinator: NodeInfo) -> NextRequest {
        let route = Route::Node(coordinator.id);
        let op: Box<dyn Op> = match self {
            Wanted::Description => Box::new(Describe { group, coordinator, classic: false }),
            wanted => Box::new(Act { group, wanted: wanted.clone() }),
        };
        NextRequest { name: self.name().into(), route, op }
    }

    fn failed(&self, group: &str, error: ClientError) -> AdminResult {
        match self {
            Wanted::Description => {
                AdminResult::GroupDescriptions(BTreeMap::from([(group.into(), Err(error))]))
            }
            Wanted::Offsets => AdminResult::GroupOffsets(BTreeMap::from([(group.into(), Err(error))])),
            Wanted::Commit(_) | Wanted::OffsetDeletion(_) => AdminResult::Partitions(Err(error)),
            Wanted::Deletion => AdminResult::Done(BTreeMap::from([(group.into(), Err(error))])),
        }
    }

    /// An error of a group as a whole (`CoordinatorStrategy.java` and the handlers).
    fn error(&self, group: &str, code: i16, message: Option<&str>) -> Step {
        match ErrorCode(code) {
            // It is another one by now, or there will be one.
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                Step::Next { known: None, next: vec![self.lookup(group.into())], after_error: true }
            }
            code => Step::Failed(ClientError::from_code(code, message)),
        }
    }
}

/// Who coordinates this group?
#[derive(Clone)]
struct FindCoordinator {
    group: String,
    wanted: Wanted,
}

impl Op for FindCoordinator {
    fn key(&self) -> ApiKey {
        ApiKey::FindCoordinator
    }

    fn send(&self, link: Link<'_>) {
        let key = Cow::Owned(self.group.clone());
        link.send(&FindCoordinatorRequest {
            key_type: GROUP,
            coordinator_keys: vec![key],
            ..FindCoordinatorRequest::default()
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<FindCoordinatorRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let Some(found) = response.coordinators.iter().find(|c| c.key == self.group) else {
            return Step::Failed(ClientError::from_code(ErrorCode::COORDINATOR_NOT_AVAILABLE, None));
        };
        if found.error_code != 0 {
            let message = found.error_message.as_deref().filter(|text| !text.is_empty());
            return Step::Failed(ClientError::from_code(ErrorCode(found.error_code), message));
        }
        let coordinator = NodeInfo {
            id: found.node_id,
            endpoint: Endpoint::new(found.host.as_ref(), found.port as u16),
            rack: None,
            fenced: false,
        };
        let next = vec![self.wanted.fulfil(self.group.clone(), coordinator)];
        Step::Next { known: None, next, after_error: false }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        self.wanted.failed(&self.group, error)
    }
}

#[derive(Clone)]
struct Describe {
    group: String,
    coordinator: NodeInfo,
    /// It is no consumer group, or the broker knows none.
    classic: bool,
}

impl Describe {
    fn as_classic(&self) -> NextRequest {
        NextRequest {
            name: Wanted::Description.name().into(),
            route: Route::Node(self.coordinator.id),
            op: Box::new(Describe { classic: true, ..self.clone() }),
        }
    }

    fn done(&self, description: GroupDescription) -> Step {
        Step::Done(AdminResult::GroupDescriptions(BTreeMap::from([(self.group.clone(), Ok(description))])))
    }

    fn consumer(&self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<ConsumerGroupDescribeRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let Some(group) = response.groups.iter().find(|group| group.group_id == self.group) else {
            return Step::Failed(ClientError::kafka("The coordinator answered another group"));
        };
        match ErrorCode(group.error_code) {
            ErrorCode::NONE => {}
            ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::UNSUPPORTED_VERSION => {
                return Step::Next { known: None, next: vec![self.as_classic()], after_error: false };
            }
            code => return Wanted::Description.error(&self.group, code.0, group.error_message.as_deref()),
        }
        let member = |m: &wire::messages::consumer_group_describe_response::Member<'_>| MemberDescription {
            id: m.member_id.to_string(),
            instance: m.instance_id.as_deref().map(str::to_string),
            client_id: m.client_id.to_string(),
            host: m.client_host.to_string(),
            epoch: Some(m.member_epoch),
            assignment: partitions_of(&m.assignment),
            target: Some(partitions_of(&m.target_assignment)),
        };
        self.done(GroupDescription {
            consumer: true,
            state: group.group_state.to_string(),
            assignor: group.assignor_name.to_string(),
            coordinator: self.coordinator.clone(),
            epoch: Some(group.group_epoch),
            target_epoch: Some(group.assignment_epoch),
            members: group.members.iter().map(member).collect(),
        })
    }

    fn classic(&self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DescribeGroupsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let Some(group) = response.groups.iter().find(|group| group.group_id == self.group) else {
            return Step::Failed(ClientError::kafka("The coordinator answered another group"));
        };
        if group.error_code != 0 {
            let message = group.error_message.as_deref().filter(|text| !text.is_empty());
            return Wanted::Description.error(&self.group, group.error_code, message);
        }
        let member =
            |m: &wire::messages::describe_groups_response::DescribedGroupMember<'_>| MemberDescription {
                id: m.member_id.to_string(),
                instance: m.group_instance_id.as_deref().map(str::to_string),
                client_id: m.client_id.to_string(),
                host: m.client_host.to_string(),
                epoch: None,
                assignment: assignment_of(&m.member_assignment),
                target: None,
            };
        self.done(GroupDescription {
            consumer: false,
            state: group.group_state.to_string(),
            assignor: group.protocol_data.to_string(),
            coordinator: self.coordinator.clone(),
            epoch: None,
            target_epoch: None,
            members: group.members.iter().map(member).collect(),
        })
    }
}

impl Op for Describe {
    fn key(&self) -> ApiKey {
        if self.classic { ApiKey::DescribeGroups } else { ApiKey::ConsumerGroupDescribe }
    }

    fn send(&self, link: Link<'_>) {
        let ids = vec![Cow::Owned(self.group.clone())];
        if self.classic {
            link.send(&DescribeGroupsRequest { groups: ids, ..DescribeGroupsRequest::default() });
        } else {
            link.send(&ConsumerGroupDescribeRequest {
                group_ids: ids,
                ..ConsumerGroupDescribeRequest::default()
            });
        }
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        if self.classic { self.classic(answer) } else { self.consumer(answer) }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        Wanted::Description.failed(&self.group, error)
    }

    fn unsupported(&mut self) -> Option<NextRequest> {
        (!self.classic).then(|| self.as_classic())
    }
}

/// What a member of a consumer group has.
fn partitions_of(assignment: &Assignment<'_>) -> Vec<TopicPartition> {
    let of_topic = |topic: &wire::messages::consumer_group_describe_response::TopicPartitions<'_>| {
        topic.partitions.iter().map(|p| TopicPartition::new(&*topic.topic_name, *p)).collect::<Vec<_>>()
    };
    assignment.topic_partitions.iter().flat_map(of_topic).collect()
}

/// What a member of a classic group was given, as far as it can be read.
fn assignment_of(bytes: &[u8]) -> Vec<TopicPartition> {
    let Ok((told, _)) = decode_versioned_or_later::<ConsumerProtocolAssignment>(bytes) else {
        return Vec::new();
    };
    let all = told.assigned_partitions.iter();
    all.flat_map(|topic| topic.partitions.iter().map(|p| TopicPartition::new(&*topic.topic, *p))).collect()
}

/// What is done with one group, but for describing it.
#[derive(Clone)]
struct Act {
    group: String,
    wanted: Wanted,
}

impl Op for Act {
    fn key(&self) -> ApiKey {
        match self.wanted {
            Wanted::Description => ApiKey::DescribeGroups,
            Wanted::Offsets => ApiKey::OffsetFetch,
            Wanted::Commit(_) => ApiKey::OffsetCommit,
            Wanted::OffsetDeletion(_) => ApiKey::OffsetDelete,
            Wanted::Deletion => ApiKey::DeleteGroups,
        }
    }

    fn latest(&self) -> i16 {
        match self.wanted {
            Wanted::Offsets | Wanted::Commit(_) => LAST_WITH_NAMES,
            _ => i16::MAX,
        }
    }

    fn send(&self, link: Link<'_>) {
        let group = Cow::Owned(self.group.clone());
        match &self.wanted {
            Wanted::Description => unreachable!("groups are described by an operation of its own"),
            Wanted::Offsets => link.send(&OffsetFetchRequest {
                groups: vec![OffsetFetchRequestGroup {
                    group_id: group,
                    member_epoch: -1,
                    topics: None,
                    ..OffsetFetchRequestGroup::default()
                }],
                ..OffsetFetchRequest::default()
            }),
            Wanted::Commit(offsets) => link.send(&commit_request(group, offsets)),
            Wanted::OffsetDeletion(partitions) => {
                let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
                for p in partitions {
                    let partition = OffsetDeleteRequestPartition { partition_index: p.partition };
                    topics.entry(&p.topic).or_default().push(partition);
                }
                let topic = |(name, partitions): (&str, Vec<OffsetDeleteRequestPartition>)| {
                    OffsetDeleteRequestTopic { name: Cow::Owned(name.into()), partitions }
                };
                let topics = topics.into_iter().map(topic).collect();
                link.send(&OffsetDeleteRequest { group_id: group, topics });
            }
            Wanted::Deletion => link.send(&DeleteGroupsRequest { groups_names: vec![group] }),
        }
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let step = match self.wanted {
            Wanted::Description => unreachable!("groups are described by an operation of its own"),
            Wanted::Offsets => self.offsets(answer),
            Wanted::Commit(_) => self.committed(answer),
            Wanted::OffsetDeletion(_) => self.offsets_deleted(answer),
            Wanted::Deletion => self.deleted(answer),
        };
        step.unwrap_or_else(|step| step)
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        self.wanted.failed(&self.group, error)
    }
}

fn commit_request<'r>(
    group: Cow<'r, str>,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> OffsetCommitRequest<'r> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition<'r>>> = BTreeMap::new();
    for (p, offset) in offsets {
        topics.entry(&p.topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: p.partition,
            committed_offset: *offset,
            committed_leader_epoch: -1,
            committed_metadata: Some(Cow::Borrowed("")),
        });
    }
    let topic =
        |(name, partitions): (&str, Vec<OffsetCommitRequestPartition<'r>>)| OffsetCommitRequestTopic {
            name: Cow::Owned(name.into()),
            partitions,
            ..OffsetCommitRequestTopic::default()
        };
    OffsetCommitRequest {
        group_id: group,
        generation_id_or_member_epoch: -1,
        topics: topics.into_iter().map(topic).collect(),
        ..OffsetCommitRequest::default()
    }
}

impl Act {
    fn offsets(&self, answer: &Answer<'_>) -> Result<Step, Step> {
        let response = answer.decode::<OffsetFetchRequest<'_>>()?;
        let Some(group) = response.groups.iter().find(|group| group.group_id == self.group) else {
            return Err(Step::Failed(ClientError::kafka("The coordinator answered another group")));
        };
        if group.error_code != 0 {
            return Err(self.wanted.error(&self.group, group.error_code, None));
        }
        let mut offsets = BTreeMap::new();
        for topic in &group.topics {
            for p in topic.partitions.iter().filter(|p| p.error_code == 0 && p.committed_offset >= 0) {
                let told = CommittedOffset {
                    offset: p.committed_offset,
                    leader_epoch: Some(p.committed_leader_epoch).filter(|epoch| *epoch >= 0),
                };
                offsets.insert(TopicPartition::new(&*topic.name, p.partition_index), told);
            }
        }
        Ok(Step::Done(AdminResult::GroupOffsets(BTreeMap::from([(self.group.clone(), Ok(offsets))]))))
    }

    fn committed(&self, answer: &Answer<'_>) -> Result<Step, Step> {
        let response = answer.decode::<OffsetCommitRequest<'_>>()?;
        let mut each: Each<TopicPartition, ()> = BTreeMap::new();
        for topic in &response.topics {
            for p in &topic.partitions {
                let again = [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE];
                if again.contains(&ErrorCode(p.error_code)) {
                    return Err(self.wanted.error(&self.group, p.error_code, None));
                }
                if ErrorCode(p.error_code).retriable() {
                    return Err(Step::Failed(ClientError::from_code(ErrorCode(p.error_code), None)));
                }
                let at = TopicPartition::new(&*topic.name, p.partition_index);
                each.insert(at, outcome(p.error_code, None, || ()));
            }
        }
        Ok(Step::Done(AdminResult::Partitions(Ok(each))))
    }

    fn offsets_deleted(&self, answer: &Answer<'_>) -> Result<Step, Step> {
        let response = answer.decode::<OffsetDeleteRequest<'_>>()?;
        if response.error_code != 0 {
            return Err(self.wanted.error(&self.group, response.error_code, None));
        }
        let mut each: Each<TopicPartition, ()> = BTreeMap::new();
        for topic in &response.topics {
            for p in &topic.partitions {
                let at = TopicPartition::new(&*topic.name, p.partition_index);
                each.insert(at, outcome(p.error_code, None, || ()));
            }
        }
        Ok(Step::Done(AdminResult::Partitions(Ok(each))))
    }

    fn deleted(&self, answer: &Answer<'_>) -> Result<Step, Step> {
        let response = answer.decode::<DeleteGroupsRequest<'_>>()?;
        let Some(group) = response.results.iter().find(|group| group.group_id == self.group) else {
            return Err(Step::Failed(ClientError::kafka("The coordinator answered another group")));
        };
        if group.error_code != 0 {
            let message = group.error_message.as_deref().filter(|text| !text.is_empty());
            return Err(self.wanted.error(&self.group, group.error_code, message));
        }
        Ok(Step::Done(AdminResult::Done(BTreeMap::from([(self.group.clone(), Ok(()))]))))
    }
}

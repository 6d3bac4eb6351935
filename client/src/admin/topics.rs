//! Topics: list, describe, create, delete, add partitions.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::Now;
use wire::error::ErrorCode;
use wire::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use wire::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use wire::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use wire::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponsePartition;
use wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};

use super::{
    Admin, AdminResult, Answer, CallId, CreatedTopic, Each, Link, NewPartitions, NewTopic, NextRequest, Op,
    PartitionDescription, Route, Step, TopicDescription, TopicListing, TopicOptions, all_failed, outcome,
};
use crate::error::ClientError;

/// Partitions of one page of DescribeTopicPartitions, unless a caller wants another number.
pub const PAGE: i32 = 2000;

impl Admin {
    /// All topics, by name; internal ones too if asked for.
    pub fn list_topics(&mut self, now: Now, internal: bool) -> CallId {
        self.begin(now, "listTopics", Route::Any, Box::new(ListTopics { internal }))
    }

    /// Topics and their partitions, by name.
    pub fn describe_topics(&mut self, now: Now, names: &[String]) -> CallId {
        self.describe_topics_by_pages(now, names, PAGE)
    }

    /// The same with at most so many partitions in one answer.
    pub fn describe_topics_by_pages(&mut self, now: Now, names: &[String], limit: i32) -> CallId {
        if names.is_empty() {
            return self.begin_done(AdminResult::TopicDescriptions(BTreeMap::new()));
        }
        let mut left = names.to_vec();
        left.sort();
        left.dedup();
        let op = DescribeTopicPartitions { left, limit, page: None, partial: None };
        self.begin(now, "describeTopicPartitions", Route::Any, Box::new(op))
    }

    /// Makes topics, or checks only whether they could be made.
    pub fn create_topics(
        &mut self,
        now: Now,
        topics: Vec<NewTopic>,
        validate_only: bool,
        options: TopicOptions,
    ) -> CallId {
        if topics.is_empty() {
            return self.begin_done(AdminResult::Created(BTreeMap::new()));
        }
        let op = CreateTopics { topics, validate_only, quota: QuotaRetry::new(options) };
        self.begin(now, CreateTopics::NAME, Route::Controller, Box::new(op))
    }

    /// Deletes topics.
    pub fn delete_topics(&mut self, now: Now, names: &[String], options: TopicOptions) -> CallId {
        if names.is_empty() {
            return self.begin_done(AdminResult::Done(BTreeMap::new()));
        }
        let op = DeleteTopics { names: names.to_vec(), quota: QuotaRetry::new(options) };
        self.begin(now, DeleteTopics::NAME, Route::Controller, Box::new(op))
    }

    /// Adds partitions to topics.
    pub fn create_partitions(
        &mut self,
        now: Now,
        topics: BTreeMap<String, NewPartitions>,
        options: TopicOptions,
    ) -> CallId {
        if topics.is_empty() {
            return self.begin_done(AdminResult::Done(BTreeMap::new()));
        }
        let op = CreatePartitions { topics, quota: QuotaRetry::new(options) };
        self.begin(now, CreatePartitions::NAME, Route::Controller, Box::new(op))
    }
}

/// What a call makes of THROTTLING_QUOTA_EXCEEDED.
#[derive(Clone)]
struct QuotaRetry {
    enabled: bool,
    /// Why what is left was refused before.
    exceeded: Option<ClientError>,
}

impl QuotaRetry {
    fn new(options: TopicOptions) -> QuotaRetry {
        QuotaRetry { enabled: options.retry_on_quota_violation, exceeded: None }
    }

    /// Takes those out of the results that shall be asked for again, and says why they were refused.
    fn take<V>(&self, results: &mut Each<String, V>) -> Option<(Vec<String>, QuotaRetry)> {
        let exceeded = |result: &Result<V, ClientError>| {
            result.as_ref().err().filter(|e| e.code == ErrorCode::THROTTLING_QUOTA_EXCEEDED).cloned()
        };
        let why = results.values().find_map(exceeded).filter(|_| self.enabled)?;
        let again: Vec<String> =
            results.iter().filter(|(_, r)| exceeded(r).is_some()).map(|(name, _)| name.clone()).collect();
        again.iter().for_each(|name| _ = results.remove(name));
        Some((again, QuotaRetry { enabled: true, exceeded: Some(why) }))
    }

    /// The error of a call of which something is left. When its time is over because of the quota, that is the reason
    /// (`maybeCompleteQuotaExceededException`).
    fn error(&self, error: ClientError) -> ClientError {
        match &self.exceeded {
            Some(exceeded) if error.class == ErrorCode::REQUEST_TIMED_OUT.exception() => exceeded.clone(),
            _ => error,
        }
    }
}

/// A request for what a quota refused, beside what is known of the rest. The connection waits for as long as the broker
/// wants.
fn again<V>(
    name: &str,
    op: Box<dyn Op>,
    known: Each<String, V>,
    result: fn(Each<String, V>) -> AdminResult,
) -> Step {
    let next = NextRequest { name: name.into(), route: Route::Controller, op };
    let known = (!known.is_empty()).then(|| result(known));
    Step::Next { known, next: vec![next], after_error: false }
}

#[derive(Clone)]
struct ListTopics {
    internal: bool,
}

impl Op for ListTopics {
    fn key(&self) -> ApiKey {
        ApiKey::Metadata
    }

    fn send(&self, link: Link<'_>) {
        link.send(&MetadataRequest {
            topics: None,
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<MetadataRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let mut topics: Vec<TopicListing> = response
            .topics
            .iter()
            .filter(|topic| self.internal || !topic.is_internal)
            .map(|topic| TopicListing {
                name: topic.name.as_deref().unwrap_or_default().to_string(),
                id: topic.topic_id,
                internal: topic.is_internal,
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Step::Done(AdminResult::Topics(Ok(topics)))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Topics(Err(error))
    }
}

/// The topics that are not described yet, a page at a time.
#[derive(Clone)]
struct DescribeTopicPartitions {
    left: Vec<String>,
    limit: i32,
    page: Option<(String, i32)>,
    /// A topic of which an earlier page had the first partitions.
    partial: Option<TopicDescription>,
}

impl Op for DescribeTopicPartitions {
    fn key(&self) -> ApiKey {
        ApiKey::DescribeTopicPartitions
    }

    fn send(&self, link: Link<'_>) {
        let cursor = self.page.as_ref().map(|(topic, partition)| Cursor {
            topic_name: Cow::Borrowed(topic.as_str()),
            partition_index: *partition,
        });
        let topics = self.left.iter().map(|name| TopicRequest { name: Cow::Borrowed(name.as_str()) });
        link.send(&DescribeTopicPartitionsRequest {
            topics: topics.collect(),
            response_partition_limit: self.limit,
            cursor,
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DescribeTopicPartitionsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let mut described: Each<String, TopicDescription> = BTreeMap::new();
        for topic in &response.topics {
            let name = topic.name.as_deref().unwrap_or_default().to_string();
            if topic.error_code != 0 {
                described.insert(name, Err(ClientError::from_code(ErrorCode(topic.error_code), None)));
                continue;
            }
            let earlier = self.partial.take_if(|earlier| earlier.name == name);
            let mut description = earlier.unwrap_or_else(|| TopicDescription {
                name: name.clone(),
                id: topic.topic_id,
                internal: topic.is_internal,
                partitions: Vec::new(),
            });
            description.partitions.extend(topic.partitions.iter().map(described_partition));
            described.insert(name, Ok(description));
        }
        let Some(cursor) = response.next_cursor else {
            // A topic of which the broker says nothing is none that it knows.
            for name in core::mem::take(&mut self.left) {
                described.entry(name).or_insert_with(|| Err(unknown_topic()));
            }
            return Step::Done(AdminResult::TopicDescriptions(described));
        };
        let cut = cursor.topic_name.to_string();
        let partial = described.remove(&cut).and_then(Result::ok);
        let left: Vec<String> = self.left.drain(..).filter(|name| !described.contains_key(name)).collect();
        let page = Some((cut, cursor.partition_index));
        let next = DescribeTopicPartitions { left, limit: self.limit, page, partial };
        let next =
            NextRequest { name: "describeTopicPartitions".into(), route: Route::Any, op: Box::new(next) };
        let known = Some(AdminResult::TopicDescriptions(described));
        Step::Next { known, next: vec![next], after_error: false }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::TopicDescriptions(all_failed(self.left.iter().cloned(), &error))
    }

    /// Brokers before 3.7 tell the same but for the eligible leader replicas through Metadata.
    fn unsupported(&mut self) -> Option<NextRequest> {
        let op = DescribeTopicsByMetadata { names: core::mem::take(&mut self.left) };
        Some(NextRequest { name: "describeTopics".into(), route: Route::Any, op: Box::new(op) })
    }
}

fn described_partition(told: &DescribeTopicPartitionsResponsePartition) -> PartitionDescription {
    PartitionDescription {
        partition: told.partition_index,
        leader: (told.leader_id >= 0).then_some(told.leader_id),
        leader_epoch: told.leader_epoch,
        replicas: told.replica_nodes.clone(),
        isr: told.isr_nodes.clone(),
        elr: Some(told.eligible_leader_replicas.clone().unwrap_or_default()),
        last_known_elr: Some(told.last_known_elr.clone().unwrap_or_default()),
        offline: told.offline_replicas.clone(),
    }
}

fn unknown_topic() -> ClientError {
    ClientError::from_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None)
}

#[derive(Clone)]
struct DescribeTopicsByMetadata {
    names: Vec<String>,
}

impl Op for DescribeTopicsByMetadata {
    fn key(&self) -> ApiKey {
        ApiKey::Metadata
    }

    fn send(&self, link: Link<'_>) {
        let topic = |name: &String| MetadataRequestTopic {
            name: Some(Cow::Owned(name.clone())),
            ..MetadataRequestTopic::default()
        };
        link.send(&MetadataRequest {
            topics: Some(self.names.iter().map(topic).collect()),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<MetadataRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let mut described: Each<String, TopicDescription> = BTreeMap::new();
        for topic in &response.topics {
            let name = topic.name.as_deref().unwrap_or_default().to_string();
            let partition =
                |p: &wire::messages::metadata_response::MetadataResponsePartition| PartitionDescription {
                    partition: p.partition_index,
                    leader: (p.leader_id >= 0).then_some(p.leader_id),
                    leader_epoch: p.leader_epoch,
                    replicas: p.replica_nodes.clone(),
                    isr: p.isr_nodes.clone(),
                    elr: None,
                    last_known_elr: None,
                    offline: p.offline_replicas.clone(),
                };
            let description = outcome(topic.error_code, None, || {
                let mut partitions: Vec<_> = topic.partitions.iter().map(partition).collect();
                partitions.sort_by_key(|p| p.partition);
                TopicDescription {
                    name: name.clone(),
                    id: topic.topic_id,
                    internal: topic.is_internal,
                    partitions,
                }
            });
            described.insert(name, description);
        }
        for name in &self.names {
            described.entry(name.clone()).or_insert_with(|| {
                let text = format!("Topic {name} not found.");
                Err(ClientError::from_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(&text)))
            });
        }
        Step::Done(AdminResult::TopicDescriptions(described))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::TopicDescriptions(all_failed(self.names.iter().cloned(), &error))
    }
}

#[derive(Clone)]
struct CreateTopics {
    topics: Vec<NewTopic>,
    validate_only: bool,
    quota: QuotaRetry,
}

impl CreateTopics {
    const NAME: &str = "createTopics";
}

impl Op for CreateTopics {
    fn key(&self) -> ApiKey {
        ApiKey::CreateTopics
    }

    fn send(&self, link: Link<'_>) {
        let creatable = |topic: &NewTopic| {
            let assigned = !topic.assignment.is_empty();
            let assignment = |(i, brokers): (usize, &Vec<i32>)| CreatableReplicaAssignment {
                partition_index: i as i32,
                broker_ids: brokers.clone(),
            };
            let config = |(name, value): (&String, &String)| CreatableTopicConfig {
                name: Cow::Owned(name.clone()),
                value: Some(Cow::Owned(value.clone())),
            };
            CreatableTopic {
                name: Cow::Owned(topic.name.clone()),
                num_partitions: topic.partitions.filter(|_| !assigned).unwrap_or(-1),
                replication_factor: topic.replication_factor.filter(|_| !assigned).unwrap_or(-1),
                assignments: topic.assignment.iter().enumerate().map(assignment).collect(),
                configs: topic.configs.iter().map(config).collect(),
            }
        };
        let request = CreateTopicsRequest {
            topics: self.topics.iter().map(creatable).collect(),
            timeout_ms: link.timeout_ms(),
            validate_only: self.validate_only,
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<CreateTopicsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.topics.iter().any(|topic| ErrorCode(topic.error_code) == ErrorCode::NOT_CONTROLLER) {
            return Step::Failed(ClientError::from_code(ErrorCode::NOT_CONTROLLER, None));
        }
        let mut created: Each<String, CreatedTopic> = BTreeMap::new();
        for topic in &response.topics {
            let result = outcome(topic.error_code, topic.error_message.as_deref(), || CreatedTopic {
                id: topic.topic_id,
                partitions: topic.num_partitions,
                replication_factor: topic.replication_factor,
            });
            created.insert(topic.name.to_string(), result);
        }
        let asked = self.topics.iter().map(|topic| &topic.name);
        let mut created = unmentioned(created, asked, "topic");
        let Some((names, quota)) = self.quota.take(&mut created) else {
            return Step::Done(AdminResult::Created(created));
        };
        let topics = self.topics.drain(..).filter(|topic| names.contains(&topic.name)).collect();
        let op = Box::new(CreateTopics { topics, validate_only: self.validate_only, quota });
        again(CreateTopics::NAME, op, created, AdminResult::Created)
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        let error = self.quota.error(error);
        AdminResult::Created(all_failed(self.topics.iter().map(|topic| topic.name.clone()), &error))
    }
}

#[derive(Clone)]
struct DeleteTopics {
    names: Vec<String>,
    quota: QuotaRetry,
}

impl DeleteTopics {
    const NAME: &str = "deleteTopics";
}

impl Op for DeleteTopics {
    fn key(&self) -> ApiKey {
        ApiKey::DeleteTopics
    }

    fn send(&self, link: Link<'_>) {
        let mut request =
            DeleteTopicsRequest { timeout_ms: link.timeout_ms(), ..DeleteTopicsRequest::default() };
        let names = self.names.iter().map(|name| Cow::Borrowed(name.as_str()));
        if link.version >= 6 {
            request.topics = names
                .map(|name| DeleteTopicState { name: Some(name), ..DeleteTopicState::default() })
                .collect();
        } else {
            request.topic_names = names.collect();
        }
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DeleteTopicsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.responses.iter().any(|topic| ErrorCode(topic.error_code) == ErrorCode::NOT_CONTROLLER) {
            return Step::Failed(ClientError::from_code(ErrorCode::NOT_CONTROLLER, None));
        }
        let mut deleted: Each<String, ()> = BTreeMap::new();
        for topic in &response.responses {
            let result = outcome(topic.error_code, topic.error_message.as_deref(), || ());
            deleted.insert(topic.name.as_deref().unwrap_or_default().to_string(), result);
        }
        let mut deleted = unmentioned(deleted, &self.names, "topic");
        let Some((names, quota)) = self.quota.take(&mut deleted) else {
            return Step::Done(AdminResult::Done(deleted));
        };
        again(DeleteTopics::NAME, Box::new(DeleteTopics { names, quota }), deleted, AdminResult::Done)
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        let error = self.quota.error(error);
        AdminResult::Done(all_failed(self.names.iter().cloned(), &error))
    }
}

#[derive(Clone)]
struct CreatePartitions {
    topics: BTreeMap<String, NewPartitions>,
    quota: QuotaRetry,
}

impl CreatePartitions {
    const NAME: &str = "createPartitions";
}

impl Op for CreatePartitions {
    fn key(&self) -> ApiKey {
        ApiKey::CreatePartitions
    }

    fn send(&self, link: Link<'_>) {
        let assignment = |brokers: &Vec<i32>| CreatePartitionsAssignment { broker_ids: brokers.clone() };
        let topic = |(name, new): (&String, &NewPartitions)| CreatePartitionsTopic {
            name: Cow::Owned(name.clone()),
            count: new.count,
            assignments: new.assignment.as_ref().map(|all| all.iter().map(assignment).collect()),
        };
        let request = CreatePartitionsRequest {
            topics: self.topics.iter().map(topic).collect(),
            timeout_ms: link.timeout_ms(),
            validate_only: false,
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<CreatePartitionsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.results.iter().any(|topic| ErrorCode(topic.error_code) == ErrorCode::NOT_CONTROLLER) {
            return Step::Failed(ClientError::from_code(ErrorCode::NOT_CONTROLLER, None));
        }
        let mut done: Each<String, ()> = BTreeMap::new();
        for topic in &response.results {
            let result = outcome(topic.error_code, topic.error_message.as_deref(), || ());
            done.insert(topic.name.to_string(), result);
        }
        let mut done = unmentioned(done, self.topics.keys(), "topic");
        let Some((names, quota)) = self.quota.take(&mut done) else {
            return Step::Done(AdminResult::Done(done));
        };
        let mut topics = core::mem::take(&mut self.topics);
        topics.retain(|name, _| names.contains(name));
        again(CreatePartitions::NAME, Box::new(CreatePartitions { topics, quota }), done, AdminResult::Done)
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        let error = self.quota.error(error);
        AdminResult::Done(all_failed(self.topics.keys().cloned(), &error))
    }
}

/// What the broker does not speak of has failed, too.
fn unmentioned<'a, V>(
    mut results: Each<String, V>,
    asked: impl IntoIterator<Item = &'a String>,
    what: &str,
) -> Each<String, V> {
    for name in asked {
        results.entry(name.clone()).or_insert_with(|| {
            let text = format!("The controller response did not contain a result for {what} {name}");
            let code = ErrorCode::UNKNOWN_SERVER_ERROR;
            Err(ClientError::from_code(code, Some(&text)))
        });
    }
    results
}

//! Partitions and their replicas: electLeaders, alterPartitionReassignments, listPartitionReassignments.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::Now;
use wire::error::ErrorCode;
use wire::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use wire::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use wire::messages::list_partition_reassignments_request::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};

use super::{
    Admin, AdminResult, Answer, CallId, Each, ElectionType, Link, Op, Reassignment, Route, Step, outcome,
};
use crate::error::ClientError;
use crate::event::TopicPartition;

impl Admin {
    /// Elects leaders of these partitions, or of all.
    pub fn elect_leaders(
        &mut self,
        now: Now,
        kind: ElectionType,
        partitions: Option<Vec<TopicPartition>>,
    ) -> CallId {
        self.begin(now, "electLeaders", Route::Controller, Box::new(ElectLeaders { kind, partitions }))
    }

    /// Gives partitions other replicas, as many as before unless `other_factor`; `None` cancels what is going on.
    pub fn alter_partition_reassignments(
        &mut self,
        now: Now,
        partitions: BTreeMap<TopicPartition, Option<Vec<i32>>>,
        other_factor: bool,
    ) -> CallId {
        if partitions.is_empty() {
            return self.begin_done(AdminResult::Partitions(Ok(BTreeMap::new())));
        }
        self.begin(
            now,
            "alterPartitionReassignments",
            Route::Controller,
            Box::new(AlterReassignments { partitions, other_factor }),
        )
    }

    /// The reassignments of these partitions, or of all, that are going on.
    pub fn list_partition_reassignments(
        &mut self,
        now: Now,
        partitions: Option<Vec<TopicPartition>>,
    ) -> CallId {
        self.begin(
            now,
            "listPartitionReassignments",
            Route::Controller,
            Box::new(ListReassignments { partitions }),
        )
    }
}

/// Partitions by topic, in their order.
fn by_topic<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Vec<(&'a str, Vec<i32>)> {
    let mut topics: Vec<(&str, Vec<i32>)> = Vec::new();
    for partition in partitions {
        match topics.iter_mut().find(|(topic, _)| *topic == &*partition.topic) {
            Some((_, numbers)) => numbers.push(partition.partition),
            None => topics.push((&partition.topic, alloc::vec![partition.partition])),
        }
    }
    topics
}

#[derive(Clone)]
struct ElectLeaders {
    kind: ElectionType,
    partitions: Option<Vec<TopicPartition>>,
}

impl Op for ElectLeaders {
    fn key(&self) -> ApiKey {
        ApiKey::ElectLeaders
    }

    fn send(&self, link: Link<'_>) {
        let topic = |(topic, partitions)| TopicPartitions { topic: Cow::Borrowed(topic), partitions };
        let request = ElectLeadersRequest {
            election_type: if link.version >= 1 { self.kind as i8 } else { 0 },
            topic_partitions: self
                .partitions
                .as_ref()
                .map(|all| by_topic(all).into_iter().map(topic).collect()),
            timeout_ms: link.timeout_ms(),
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<ElectLeadersRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.error_code != 0 {
            return Step::Failed(ClientError::from_code(ErrorCode(response.error_code), None));
        }
        let mut results: Each<TopicPartition, ()> = BTreeMap::new();
        for topic in &response.replica_election_results {
            for told in &topic.partition_result {
                if ErrorCode(told.error_code) == ErrorCode::NOT_CONTROLLER {
                    return Step::Failed(ClientError::from_code(ErrorCode::NOT_CONTROLLER, None));
                }
                let partition = TopicPartition::new(topic.topic.as_ref(), told.partition_id);
                results.insert(partition, outcome(told.error_code, told.error_message.as_deref(), || ()));
            }
        }
        Step::Done(AdminResult::Partitions(Ok(results)))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Partitions(Err(error))
    }
}

#[derive(Clone)]
struct AlterReassignments {
    partitions: BTreeMap<TopicPartition, Option<Vec<i32>>>,
    other_factor: bool,
}

impl Op for AlterReassignments {
    fn key(&self) -> ApiKey {
        ApiKey::AlterPartitionReassignments
    }

    fn send(&self, link: Link<'_>) {
        let mut topics: Vec<ReassignableTopic<'_>> = Vec::new();
        for (partition, replicas) in &self.partitions {
            let wanted =
                ReassignablePartition { partition_index: partition.partition, replicas: replicas.clone() };
            match topics.last_mut().filter(|topic| topic.name == *partition.topic) {
                Some(topic) => topic.partitions.push(wanted),
                None => topics.push(ReassignableTopic {
                    name: Cow::Borrowed(&*partition.topic),
                    partitions: alloc::vec![wanted],
                }),
            }
        }
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: link.timeout_ms(),
            // Versions before 1 cannot say it.
            allow_replication_factor_change: self.other_factor || link.version < 1,
            topics,
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<AlterPartitionReassignmentsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.error_code != 0 {
            let code = ErrorCode(response.error_code);
            return Step::Failed(ClientError::from_code(code, response.error_message.as_deref()));
        }
        let mut results: Each<TopicPartition, ()> = BTreeMap::new();
        for topic in &response.responses {
            for told in &topic.partitions {
                let partition = TopicPartition::new(topic.name.as_ref(), told.partition_index);
                results.insert(partition, outcome(told.error_code, told.error_message.as_deref(), || ()));
            }
        }
        Step::Done(AdminResult::Partitions(Ok(results)))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Partitions(Err(error))
    }
}

#[derive(Clone)]
struct ListReassignments {
    partitions: Option<Vec<TopicPartition>>,
}

impl Op for ListReassignments {
    fn key(&self) -> ApiKey {
        ApiKey::ListPartitionReassignments
    }

    fn send(&self, link: Link<'_>) {
        let topic = |(name, partition_indexes): (&str, Vec<i32>)| ListPartitionReassignmentsTopics {
            name: Cow::Owned(name.to_string()),
            partition_indexes,
        };
        let request = ListPartitionReassignmentsRequest {
            timeout_ms: link.timeout_ms(),
            topics: self.partitions.as_ref().map(|all| by_topic(all).into_iter().map(topic).collect()),
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<ListPartitionReassignmentsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.error_code != 0 {
            let code = ErrorCode(response.error_code);
            return Step::Failed(ClientError::from_code(code, response.error_message.as_deref()));
        }
        let mut ongoing = BTreeMap::new();
        for topic in &response.topics {
            for told in &topic.partitions {
                let reassignment = Reassignment {
                    replicas: told.replicas.clone(),
                    adding: told.adding_replicas.clone(),
                    removing: told.removing_replicas.clone(),
                };
                ongoing.insert(TopicPartition::new(topic.name.as_ref(), told.partition_index), reassignment);
            }
        }
        Step::Done(AdminResult::Reassignments(Ok(ongoing)))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Reassignments(Err(error))
    }
}

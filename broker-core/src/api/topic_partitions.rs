//! DescribeTopicPartitions (KIP-966): topics in pages, sorted by name, with their eligible leader replicas.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use wire::error::ErrorCode;
use wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use wire::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::metadata::offline_replicas;
use super::{TOPIC_OPERATIONS, View, is_internal, is_valid_topic};
use crate::metadata::{PartitionRegistration, TopicImage};

/// Answers a request.
pub fn answer<'a>(
    view: View<'a>,
    request: &'a DescribeTopicPartitionsRequest<'a>,
) -> DescribeTopicPartitionsResponse<'a> {
    let from = request.cursor.as_ref().map_or("", |c| &*c.topic_name);
    let first_partition = request.cursor.as_ref().map_or(0, |c| c.partition_index);
    let all = request.topics.is_empty();
    let names: BTreeSet<&str> =
        request.topics.iter().map(|t| &*t.name).filter(|name| *name >= from).collect();
    let without_cursor_topic = !all && request.cursor.is_some() && !names.contains(from);
    if without_cursor_topic || first_partition < 0 {
        return refused(request);
    }
    let limit = request.response_partition_limit.min(view.config.replica.max_request_partitions).max(1);
    let mut page = Page {
        view,
        from,
        first_partition: first_partition as usize,
        left: limit as usize,
        response: DescribeTopicPartitionsResponse::default(),
    };
    if all {
        for topic in view.image.topics.iter_by_name_from(from) {
            if !page.add(&topic.name, Some(topic)) {
                break;
            }
        }
    } else {
        for name in names {
            if !page.add(name, view.image.topics.topic_named(name).map(|t| &**t)) {
                break;
            }
        }
    }
    page.response
}

/// The whole request is INVALID_REQUEST: each topic says so.
fn refused<'a>(request: &'a DescribeTopicPartitionsRequest<'a>) -> DescribeTopicPartitionsResponse<'a> {
    let topic = |name: &'a str| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::INVALID_REQUEST.0,
        name: Some(Cow::Borrowed(name)),
        ..DescribeTopicPartitionsResponseTopic::default()
    };
    DescribeTopicPartitionsResponse {
        topics: request.topics.iter().map(|t| topic(&t.name)).collect(),
        ..DescribeTopicPartitionsResponse::default()
    }
}

struct Page<'a> {
    view: View<'a>,
    from: &'a str,
    first_partition: usize,
    /// So many partitions may still be told.
    left: usize,
    response: DescribeTopicPartitionsResponse<'a>,
}

impl<'a> Page<'a> {
    /// Adds a topic, or as much of it as there is room for. False when the page is full.
    fn add(&mut self, name: &'a str, topic: Option<&'a TopicImage>) -> bool {
        if self.left == 0 {
            self.response.next_cursor = Some(Cursor { topic_name: name.into(), partition_index: 0 });
            return false;
        }
        let Some(topic) = topic else {
            self.response.topics.push(unknown(name));
            return true;
        };
        let start = if name == self.from { self.first_partition } else { 0 };
        let there = topic.partitions.len();
        let end = there.min(start.saturating_add(self.left));
        let told: Vec<_> = topic
            .partitions
            .iter()
            .skip(start)
            .take(end.saturating_sub(start))
            .map(|(&index, p)| partition(self.view, index, p))
            .collect();
        self.left -= told.len();
        self.response.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::NONE.0,
            name: Some(name.into()),
            topic_id: topic.id,
            is_internal: is_internal(name),
            partitions: told,
            topic_authorized_operations: TOPIC_OPERATIONS,
        });
        if end < there {
            self.response.next_cursor = Some(Cursor { topic_name: name.into(), partition_index: end as i32 });
            return false;
        }
        true
    }
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic<'_> {
    let error = match is_valid_topic(name) {
        true => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        false => ErrorCode::INVALID_TOPIC_EXCEPTION,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: error.0,
        name: Some(name.into()),
        is_internal: is_internal(name),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn partition(
    view: View<'_>,
    index: i32,
    partition: &PartitionRegistration,
) -> DescribeTopicPartitionsResponsePartition {
    let leader = view.image.broker(partition.leader);
    let reachable = leader.is_some_and(|b| b.listener(view.broker_listener()).is_some());
    DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode::NONE.0,
        partition_index: index,
        leader_id: if reachable { partition.leader } else { -1 },
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.to_vec(),
        isr_nodes: partition.isr.to_vec(),
        eligible_leader_replicas: Some(partition.elr.to_vec()),
        last_known_elr: Some(partition.last_known_elr.to_vec()),
        offline_replicas: offline_replicas(view, partition),
    }
}

//! Who leads partitions, asked before what only their leaders can answer (`PartitionLeaderStrategy.java`).

use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;

use wire::ErrorCode;
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::{MetadataRequest, MetadataResponse};

use super::Link;
use crate::event::TopicPartition;

/// Asks for the leaders of partitions, which come in order.
pub(super) fn ask<'a>(partitions: impl Iterator<Item = &'a TopicPartition>, link: Link<'_>) {
    let mut topics: Vec<&str> = partitions.map(|partition| &*partition.topic).collect();
    topics.dedup();
    let topic = |name: &str| MetadataRequestTopic {
        name: Some(Cow::Owned(name.to_string())),
        ..MetadataRequestTopic::default()
    };
    link.send(&MetadataRequest {
        topics: Some(topics.into_iter().map(topic).collect()),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    });
}

/// The leader of a partition, or why none is told: its topic's error, UNKNOWN_TOPIC_OR_PARTITION for what is not named,
/// LEADER_NOT_AVAILABLE for what has none.
pub(super) fn leader_of(
    response: &MetadataResponse<'_>,
    partition: &TopicPartition,
) -> Result<i32, ErrorCode> {
    let topic = response.topics.iter().find(|topic| topic.name.as_deref() == Some(&*partition.topic));
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if topic.error_code != ErrorCode::NONE.0 {
        return Err(ErrorCode(topic.error_code));
    }
    let told = topic.partitions.iter().find(|told| told.partition_index == partition.partition);
    let told = told.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if told.error_code != ErrorCode::NONE.0 || told.leader_id < 0 {
        return Err(ErrorCode::LEADER_NOT_AVAILABLE);
    }
    Ok(told.leader_id)
}

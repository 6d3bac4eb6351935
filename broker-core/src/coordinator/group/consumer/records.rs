//! The records of groups of the consumer protocol, in the formats and the order in which Kafka 4.3 writes them.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::records::group::consumer_group_current_member_assignment_value::TopicPartitions;
use wire::records::group::consumer_group_member_metadata_value::{ClassicMemberMetadata, ClassicProtocol};
use wire::records::group::consumer_group_target_assignment_member_value::TopicPartition;
use wire::records::*;

use super::assignor::Partitions;
use super::reconcile::Owned;
use super::state::{ConsumerGroup, Member, Resolved};
use crate::coordinator::runtime::Records;

fn text(text: &Arc<str>) -> String {
    String::from(&**text)
}

fn push(records: &mut Records, key: &GroupKey, value: Option<&GroupValue>) {
    let key = key.encode().expect("what came in a request fits into a record");
    let value = value.map(|value| value.encode(0).expect("what came in a request fits into a record"));
    records.push(&key, value.as_deref());
}

fn member_key(group: &str, member: &str) -> GroupKey {
    let (group_id, member_id) = (String::from(group), String::from(member));
    GroupKey::ConsumerGroupMemberMetadata(ConsumerGroupMemberMetadataKey { group_id, member_id })
}

fn target_key(group: &str, member: &str) -> GroupKey {
    let (group_id, member_id) = (String::from(group), String::from(member));
    GroupKey::ConsumerGroupTargetAssignmentMember(ConsumerGroupTargetAssignmentMemberKey {
        group_id,
        member_id,
    })
}

fn current_key(group: &str, member: &str) -> GroupKey {
    let (group_id, member_id) = (String::from(group), String::from(member));
    let key = ConsumerGroupCurrentMemberAssignmentKey { group_id, member_id };
    GroupKey::ConsumerGroupCurrentMemberAssignment(key)
}

fn epoch_key(group: &str) -> GroupKey {
    GroupKey::ConsumerGroupMetadata(ConsumerGroupMetadataKey { group_id: String::from(group) })
}

fn target_epoch_key(group: &str) -> GroupKey {
    let key = ConsumerGroupTargetAssignmentMetadataKey { group_id: String::from(group) };
    GroupKey::ConsumerGroupTargetAssignmentMetadata(key)
}

fn regex_key(group: &str, regex: &str) -> GroupKey {
    let key = ConsumerGroupRegularExpressionKey {
        group_id: String::from(group),
        regular_expression: String::from(regex),
    };
    GroupKey::ConsumerGroupRegularExpression(key)
}

/// What a member said of itself.
pub fn push_member(records: &mut Records, group: &str, member: &Member) {
    let value = ConsumerGroupMemberMetadataValue {
        instance_id: member.instance.as_ref().map(text),
        rack_id: member.rack.as_ref().map(text),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        subscribed_topic_names: member.topics.iter().map(text).collect(),
        subscribed_topic_regex: Some(text(&member.regex)),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: member.assignor.as_ref().map(text),
        classic_member_metadata: member.classic.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: (classic.protocols.iter())
                .map(|(name, metadata)| ClassicProtocol { name: text(name), metadata: metadata.to_vec() })
                .collect(),
        }),
    };
    let value = GroupValue::ConsumerGroupMemberMetadata(value);
    push(records, &member_key(group, &member.id), Some(&value));
}

/// The group epoch.
pub fn push_epoch(records: &mut Records, group: &str, epoch: i32, metadata_hash: i64) {
    let value = GroupValue::ConsumerGroupMetadata(ConsumerGroupMetadataValue { epoch, metadata_hash });
    push(records, &epoch_key(group), Some(&value));
}

/// What a member is to have.
pub fn push_target(records: &mut Records, group: &str, member: &str, target: &Partitions) {
    let of_topic = |(topic_id, partitions): (&wire::Uuid, &BTreeSet<i32>)| TopicPartition {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
    };
    let topic_partitions = target.iter().map(of_topic).collect();
    let value = ConsumerGroupTargetAssignmentMemberValue { topic_partitions };
    let value = GroupValue::ConsumerGroupTargetAssignmentMember(value);
    push(records, &target_key(group, member), Some(&value));
}

/// The group epoch of the target assignment.
pub fn push_target_epoch(
    records: &mut Records,
    group: &str,
    assignment_epoch: i32,
    assignment_timestamp: i64,
) {
    let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch, assignment_timestamp };
    let value = GroupValue::ConsumerGroupTargetAssignmentMetadata(value);
    push(records, &target_epoch_key(group), Some(&value));
}

/// What a member has.
pub fn push_current(records: &mut Records, group: &str, member: &Member) {
    let all = |owned: &Owned| -> Vec<TopicPartitions> {
        (owned.iter())
            .map(|(topic_id, partitions)| TopicPartitions {
                topic_id: *topic_id,
                partitions: partitions.keys().copied().collect(),
                assignment_epochs: Some(partitions.values().copied().collect()),
            })
            .collect()
    };
    let value = ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: member.epoch,
        previous_member_epoch: member.previous_epoch,
        state: member.state.id(),
        assigned_partitions: all(&member.assigned),
        partitions_pending_revocation: all(&member.revoking),
    };
    let value = GroupValue::ConsumerGroupCurrentMemberAssignment(value);
    push(records, &current_key(group, &member.id), Some(&value));
}

/// The topics of a regular expression.
pub fn push_regex(records: &mut Records, group: &str, regex: &str, resolved: &Resolved, now_ms: i64) {
    let value = ConsumerGroupRegularExpressionValue {
        topics: resolved.topics.iter().map(text).collect(),
        version: resolved.version,
        timestamp: now_ms,
    };
    let value = GroupValue::ConsumerGroupRegularExpression(value);
    push(records, &regex_key(group, regex), Some(&value));
}

/// A regular expression that nobody has any more.
pub fn push_regex_gone(records: &mut Records, group: &str, regex: &str) {
    push(records, &regex_key(group, regex), None);
}

/// A member that is gone.
pub fn push_member_gone(records: &mut Records, group: &str, member: &str) {
    push(records, &current_key(group, member), None);
    push(records, &target_key(group, member), None);
    push(records, &member_key(group, member), None);
}

/// A group that is gone, with all that belongs to it.
pub fn push_group_gone(records: &mut Records, group: &ConsumerGroup) {
    let id = &group.id;
    for member in group.members.keys() {
        push(records, &current_key(id, member), None);
    }
    for member in group.targets.keys() {
        push(records, &target_key(id, member), None);
    }
    push(records, &target_epoch_key(id), None);
    for member in group.members.keys() {
        push(records, &member_key(id, member), None);
    }
    for regex in group.regexes.keys() {
        push(records, &regex_key(id, regex), None);
    }
    push(records, &epoch_key(id), None);
}

/// A whole group, as if it had always been one of the consumer protocol.
pub fn push_group(records: &mut Records, group: &ConsumerGroup) {
    for member in group.members.values() {
        push_member(records, &group.id, member);
    }
    push_epoch(records, &group.id, group.epoch, group.metadata_hash);
    for (member, target) in &group.targets {
        push_target(records, &group.id, member, target);
    }
    push_target_epoch(records, &group.id, group.target_epoch, group.target_ms);
    for member in group.members.values() {
        push_current(records, &group.id, member);
    }
}

/// A classic group that is gone.
pub fn push_classic_gone(records: &mut Records, group: &str) {
    let key = GroupKey::GroupMetadata(GroupMetadataKey { group: String::from(group) });
    push(records, &key, None);
}

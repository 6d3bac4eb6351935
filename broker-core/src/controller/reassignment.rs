//! Moving partitions to other brokers: AlterPartitionReassignments (45), ListPartitionReassignments (46), KIP-455.
//!
//! A reassignment goes through these stages:
//!
//! 1. a record adds the new replicas after the target's order and names what is added and what will go;
//! 2. the new replicas catch up and the leader takes them into the ISR;
//! 3. the AlterPartition that makes the ISR complete also takes the old replicas away (see
//!    [`PartitionChange`](super::partition_change::PartitionChange)).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::Uuid;
use wire::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use wire::messages::*;
use wire::records::MetadataRecord;

use super::Outcome;
use super::answer::{Answer, code_and_text, owned};
use super::error::ApiError;
use super::partition_change::Election;
use super::state::{Env, State};
use crate::config::NodeConfig;
use crate::event::ChangeReason;
use crate::metadata::{PartitionRegistration, Replicas, TopicIdPartition, TopicImage};

impl State {
    /// AlterPartitionReassignments (45).
    pub fn alter_partition_reassignments(
        &mut self,
        env: &Env<'_>,
        request: &AlterPartitionReassignmentsRequest<'_>,
    ) -> Outcome {
        let mut records = Vec::new();
        let mut responses = Vec::new();
        for topic in &request.topics {
            let answer = |asked: &alter_partition_reassignments_request::ReassignablePartition| {
                let allow = request.allow_replication_factor_change;
                let outcome = self.reassign(env.config, &topic.name, asked, allow, &mut records);
                let (error_code, error_message) = code_and_text(&outcome);
                let partition_index = asked.partition_index;
                alter_partition_reassignments_response::ReassignablePartitionResponse {
                    partition_index,
                    error_code,
                    error_message,
                }
            };
            let partitions = topic.partitions.iter().map(answer).collect();
            let name = owned(&topic.name);
            responses
                .push(alter_partition_reassignments_response::ReassignableTopicResponse { name, partitions });
        }
        let response = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: request.allow_replication_factor_change,
            error_message: None,
            responses,
            ..Default::default()
        };
        let answer = Answer::AlterPartitionReassignments(response);
        Outcome { reason: ChangeReason::Reassignment, ..Outcome::of(records, answer) }
    }

    fn reassign(
        &self,
        config: &NodeConfig,
        name: &str,
        asked: &alter_partition_reassignments_request::ReassignablePartition,
        allow_replication_factor_change: bool,
        records: &mut Vec<MetadataRecord>,
    ) -> Result<(), ApiError> {
        let unknown = |text| ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, text);
        let topic = self.image.topics.topic_named(name);
        let topic = topic.ok_or_else(|| unknown(format!("Unable to find a topic named {name}.")))?;
        let number = asked.partition_index;
        let partition = topic.partitions.get(&number);
        let partition =
            partition.ok_or_else(|| unknown(format!("Unable to find partition {name}:{number}.")))?;
        let record = match &asked.replicas {
            None => self.cancel_reassignment(config, topic, number, partition)?,
            Some(target) => {
                self.validate_assignment(target, None)?;
                let present = partition.replicas.len() - partition.removing_replicas.len();
                if !allow_replication_factor_change && target.len() != present {
                    let text =
                        format!("The replication factor is changed from {present} to {}", target.len());
                    return Err(ApiError::new(ErrorCode::INVALID_REPLICATION_FACTOR, text));
                }
                self.begin_reassignment(config, topic, number, partition, target)
            }
        };
        records.extend(record);
        Ok(())
    }

    fn begin_reassignment(
        &self,
        config: &NodeConfig,
        topic: &TopicImage,
        number: i32,
        partition: &PartitionRegistration,
        target: &[i32],
    ) -> Option<MetadataRecord> {
        let difference = |a: &[i32], b: &[i32]| -> Replicas {
            let mut difference: Replicas = a.iter().copied().filter(|r| !b.contains(r)).collect();
            difference.sort_unstable();
            difference
        };
        let removing = difference(&partition.replicas, target);
        let id = TopicIdPartition { topic_id: topic.id, partition: number };
        let may_lead = |r: i32| self.may_lead(partition, r);
        let default_directory = |r: i32| self.default_directory(r);
        let mut change = self.change_of(config, &topic.name, partition, id, &may_lead, &default_directory);
        change.replicas = target.iter().chain(&removing).copied().collect();
        let adding = difference(target, &partition.replicas);
        if !removing.is_empty() {
            change.removing = removing;
        }
        if !adding.is_empty() {
            change.adding = adding;
        }
        change.build().map(MetadataRecord::from)
    }

    /// Goes back to the replicas of before. If only replicas that would be given up are in sync, that loses records.
    fn cancel_reassignment(
        &self,
        config: &NodeConfig,
        topic: &TopicImage,
        number: i32,
        partition: &PartitionRegistration,
    ) -> Result<Option<MetadataRecord>, ApiError> {
        if !partition.is_reassigning() {
            return Err(ApiError::bare(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS));
        }
        let unclean_allowed = self.unclean_election_enabled(config, &topic.name);
        let kept = |replicas: &Replicas| -> Replicas {
            replicas.iter().copied().filter(|r| !partition.adding_replicas.contains(r)).collect()
        };
        let (replicas, mut isr) = (kept(&partition.replicas), kept(&partition.isr));
        let invalid = |text| Err(ApiError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text));
        if isr.is_empty() {
            let Some(&first) = replicas.first() else {
                return invalid("Invalid replica assignment: addingReplicas contains all replicas.".into());
            };
            if !unclean_allowed {
                return invalid(format!(
                    "Unable to revert partition assignment for {}:{number} because it would require an unclean \
                     leader election.",
                    topic.name
                ));
            }
            isr.push(first);
        }
        let id = TopicIdPartition { topic_id: topic.id, partition: number };
        let may_lead = |r: i32| self.may_lead(partition, r);
        let default_directory = |r: i32| self.default_directory(r);
        let mut change = self.change_of(config, &topic.name, partition, id, &may_lead, &default_directory);
        if unclean_allowed {
            change.election = Election::Unclean;
        }
        change.isr = isr;
        change.replicas = replicas;
        change.removing.clear();
        change.adding.clear();
        Ok(change.build().map(MetadataRecord::from))
    }

    /// ListPartitionReassignments (46).
    pub fn list_partition_reassignments(&self, request: &ListPartitionReassignmentsRequest<'_>) -> Outcome {
        let mut ongoing: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for id in self.index.reassigning() {
            ongoing.entry(id.topic_id).or_default().push(id.partition);
        }
        if let Some(topics) = &request.topics {
            let asked = |t: &list_partition_reassignments_request::ListPartitionReassignmentsTopics<'_>| {
                Some((self.image.topics.id_of(&t.name)?, t.partition_indexes.clone()))
            };
            ongoing = topics.iter().filter_map(asked).collect();
        }
        let topic_of = |(id, numbers): (Uuid, Vec<i32>)| {
            let topic = self.image.topics.topic(id)?;
            let moving = |number: i32| {
                let p = topic.partitions.get(&number).filter(|p| p.is_reassigning())?;
                Some(OngoingPartitionReassignment {
                    partition_index: number,
                    replicas: p.replicas.to_vec(),
                    adding_replicas: p.adding_replicas.to_vec(),
                    removing_replicas: p.removing_replicas.to_vec(),
                })
            };
            let partitions: Vec<_> = numbers.into_iter().filter_map(moving).collect();
            let name = owned(&topic.name);
            (!partitions.is_empty()).then_some(OngoingTopicReassignment { name, partitions })
        };
        let topics = ongoing.into_iter().filter_map(topic_of).collect();
        let response =
            ListPartitionReassignmentsResponse { error_message: None, topics, ..Default::default() };
        Outcome::of(Vec::new(), Answer::ListPartitionReassignments(response))
    }
}

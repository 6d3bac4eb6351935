//! Topics and partitions: made, deleted, added to.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::Uuid;
use wire::messages::create_partitions_request::CreatePartitionsTopic;
use wire::messages::create_topics_request::CreatableTopic;
use wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use wire::messages::delete_topics_response::DeletableTopicResult;
use wire::messages::*;
use wire::records::{MetadataRecord, RemoveTopicRecord, TopicRecord};

use super::Outcome;
use super::answer::{Answer, code_and_text, owned, text};
use super::configs::ConfigOp;
use super::error::ApiError;
use super::placement::place;
use super::replication::active_of;
use super::state::{Env, State, has_collision_chars, unify_collision_chars};
use crate::config::{Dynamic, NodeConfig, Overrides};
use crate::event::ChangeReason;
use crate::metadata::{ConfigKey, PartitionRegistration, Replicas, TopicIdPartition};

const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";
const MAX_NAME_LENGTH: usize = 249;

type Created = (CreatableTopicResult<'static>, Vec<MetadataRecord>);

impl State {
    /// CreateTopics (19).
    pub fn create_topics(&mut self, env: &mut Env<'_>, request: &CreateTopicsRequest<'_>) -> Outcome {
        let names: Vec<&str> = request.topics.iter().map(|t| &*t.name).collect();
        let duplicates = duplicates(&names);
        let (mut records, mut results) = (Vec::new(), Vec::new());
        for topic in request.topics.iter().filter(|t| !duplicates.contains(&*t.name)) {
            let created = if topic.name == CLUSTER_METADATA_TOPIC {
                Err(ApiError::bare(ErrorCode::TOPIC_AUTHORIZATION_FAILED))
            } else {
                self.create_topic(env, topic)
            };
            results.push(match created {
                Ok((result, more)) => {
                    records.extend(more);
                    result
                }
                Err(error) => failed(&topic.name, &error),
            });
        }
        let twice = ApiError::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name.");
        results.extend(duplicates.iter().map(|name| failed(name, &twice)));
        if request.validate_only {
            records.clear();
        }
        let response = CreateTopicsResponse { topics: results, ..Default::default() };
        Outcome { reason: ChangeReason::Created, ..Outcome::of(records, Answer::CreateTopics(response)) }
    }

    fn create_topic(&mut self, env: &mut Env<'_>, topic: &CreatableTopic<'_>) -> Result<Created, ApiError> {
        let name = &*topic.name;
        if self.image.topics.id_of(name).is_some() {
            let text = format!("Topic '{name}' already exists.");
            return Err(ApiError::new(ErrorCode::TOPIC_ALREADY_EXISTS, text));
        }
        validate_topic_name(name)?;
        if has_collision_chars(name)
            && let Some(other) = self.collisions.get(&unify_collision_chars(name)).and_then(BTreeSet::first)
        {
            let text = format!("Topic '{name}' collides with existing topic: {other}");
            return Err(ApiError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, text));
        }
        let configs = creation_configs(topic)?;
        let ops: Vec<_> = configs.iter().map(|(&name, &value)| (name, ConfigOp::Set, Some(value))).collect();
        let mut config_records = self.alter_resource(env.config, &ConfigKey::topic(name), &ops, true)?;
        self.add_clear_elr_records(&mut config_records);

        let partitions = self.new_partitions(env, topic)?;
        env.change_partitions(partitions.len())?;
        let topic_id = env.uuid();
        let mut records: Vec<MetadataRecord> = Vec::new();
        records.push(TopicRecord { name: name.to_string(), topic_id }.into());
        records.extend(config_records);
        let result = CreatableTopicResult {
            name: owned(name),
            topic_id,
            error_code: ErrorCode::NONE.0,
            error_message: None,
            topic_config_error_code: ErrorCode::NONE.0,
            num_partitions: partitions.len() as i32,
            replication_factor: partitions[0].replicas.len() as i16,
            configs: Some(self.effective_configs(env.config, &configs)),
        };
        records.extend(partitions.iter().enumerate().map(|(i, partition)| {
            partition.to_record(TopicIdPartition { topic_id, partition: i as i32 }).into()
        }));
        Ok((result, records))
    }

    /// The partitions of a new topic: as the request assigns them, or as they are placed.
    fn new_partitions(
        &self,
        env: &mut Env<'_>,
        topic: &CreatableTopic<'_>,
    ) -> Result<Vec<PartitionRegistration>, ApiError> {
        if !topic.assignments.is_empty() {
            return self.assigned_partitions(topic);
        }
        let config = &env.config.controller;
        let replication_factor = match topic.replication_factor {
            -1 => config.default_replication_factor,
            rf if rf <= 0 => {
                let text = "Replication factor must be larger than 0, or -1 to use the default value.";
                return Err(ApiError::new(ErrorCode::INVALID_REPLICATION_FACTOR, text));
            }
            rf => rf,
        };
        let partitions = match topic.num_partitions {
            -1 => config.num_partitions,
            n if n <= 0 => {
                let text = "Number of partitions was set to an invalid non-positive value.";
                return Err(ApiError::new(ErrorCode::INVALID_PARTITIONS, text));
            }
            n => n,
        };
        self.place_partitions(env, partitions, replication_factor)
            .map_err(|why| cannot_replicate(replication_factor, &why))
    }

    /// Places partitions. The error is what follows `Unable to replicate the partition N time(s): `.
    fn place_partitions(
        &self,
        env: &mut Env<'_>,
        partitions: i32,
        replication_factor: i16,
    ) -> Result<Vec<PartitionRegistration>, String> {
        // One request must not fill the memory: Kafka refuses more records than this in one operation.
        const MAX_RECORDS_PER_USER_OP: i32 = 10_000;
        if partitions > MAX_RECORDS_PER_USER_OP {
            return Err(format!("at most {MAX_RECORDS_PER_USER_OP} partitions can be made at once."));
        }
        let brokers = self.usable_brokers();
        let mut draw = |bound| env.draw(bound);
        let placed = place(partitions as usize, i32::from(replication_factor), &brokers, &mut draw);
        let placed = placed.map_err(|e| e.to_string())?;
        let register = |replicas: Replicas| {
            self.registration(replicas)
                .ok_or_else(|| "All brokers are currently fenced or in controlled shutdown.".to_string())
        };
        placed.into_iter().map(register).collect()
    }

    /// A new partition with these replicas, if one of them can lead it.
    fn registration(&self, replicas: Replicas) -> Option<PartitionRegistration> {
        let isr = active_of(self, &replicas);
        let directories = replicas.iter().map(|&r| self.default_directory(r)).collect();
        (!isr.is_empty()).then(|| PartitionRegistration::created(replicas, directories, isr))
    }

    fn assigned_partitions(
        &self,
        topic: &CreatableTopic<'_>,
    ) -> Result<Vec<PartitionRegistration>, ApiError> {
        let request = |text: &str| Err(ApiError::new(ErrorCode::INVALID_REQUEST, text));
        if topic.replication_factor != -1 {
            return request(
                "A manual partition assignment was specified, but replication factor was not set to -1.",
            );
        }
        if topic.num_partitions != -1 {
            return request(
                "A manual partition assignment was specified, but numPartitions was not set to -1.",
            );
        }
        let assignment = |text: String| ApiError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text);
        let mut partitions: BTreeMap<i32, PartitionRegistration> = BTreeMap::new();
        let mut replication_factor = None;
        for assigned in &topic.assignments {
            let number = assigned.partition_index;
            if partitions.contains_key(&number) {
                let text = format!("Found multiple manual partition assignments for partition {number}");
                return Err(assignment(text));
            }
            self.validate_assignment(&assigned.broker_ids, replication_factor)?;
            replication_factor = Some(assigned.broker_ids.len());
            partitions.insert(number, self.manual_registration(number, &assigned.broker_ids)?);
        }
        if !partitions.keys().copied().eq(0..partitions.len() as i32) {
            return Err(assignment(
                "partitions should be a consecutive 0-based integer sequence".to_string(),
            ));
        }
        Ok(partitions.into_values().collect())
    }

    fn manual_registration(&self, number: i32, brokers: &[i32]) -> Result<PartitionRegistration, ApiError> {
        self.registration(Replicas::from_slice(brokers)).ok_or_else(|| {
            let text = format!(
                "All brokers specified in the manual partition assignment for partition {number} are fenced or in \
                 controlled shutdown."
            );
            ApiError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text)
        })
    }

    /// Checks an assignment that a user made: registered brokers, each once, as many as the other partitions have.
    pub(super) fn validate_assignment(
        &self,
        brokers: &[i32],
        replication_factor: Option<usize>,
    ) -> Result<(), ApiError> {
        let invalid = |text: String| Err(ApiError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text));
        if brokers.is_empty() {
            return invalid("The manual partition assignment includes an empty replica list.".to_string());
        }
        let mut sorted = brokers.to_vec();
        sorted.sort_unstable();
        let mut previous = None;
        for broker in sorted {
            if self.image.broker(broker).is_none() {
                return invalid(format!(
                    "The manual partition assignment includes broker {broker}, but no such broker is registered."
                ));
            }
            if previous == Some(broker) {
                return invalid(format!(
                    "The manual partition assignment includes the broker {broker} more than once."
                ));
            }
            previous = Some(broker);
        }
        match replication_factor.filter(|&rf| rf != brokers.len()) {
            Some(rf) => invalid(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this is not consistent \
                 with previous partitions, which have {rf} replica(s).",
                brokers.len()
            )),
            None => Ok(()),
        }
    }

    /// The settings of a new topic as they will be in force, for the answer.
    fn effective_configs(
        &self,
        config: &NodeConfig,
        configs: &BTreeMap<&str, &str>,
    ) -> Vec<CreatableTopicConfigs<'static>> {
        let overrides: Overrides =
            configs.iter().map(|(&name, &value)| (name.into(), value.into())).collect();
        let dynamic =
            Dynamic { topic: Some(&overrides), ..Dynamic::of_broker(&self.image.configs, self.node_id) };
        let described = config.describe_topic(dynamic);
        let described = described.into_iter().map(|d| CreatableTopicConfigs {
            name: Cow::Borrowed(d.name),
            value: d.value.filter(|_| !d.sensitive).map(Cow::Owned),
            read_only: d.read_only,
            config_source: d.source as i8,
            is_sensitive: d.sensitive,
        });
        described.collect()
    }

    /// DeleteTopics (20).
    pub fn delete_topics(
        &mut self,
        env: &mut Env<'_>,
        request: &DeleteTopicsRequest<'_>,
        version: i16,
    ) -> Outcome {
        let by_name = request.topic_names.iter().map(|name| (Some(&**name), Uuid::ZERO));
        let by_either = request.topics.iter().map(|t| (t.name.as_deref(), t.topic_id));
        let asked: Vec<(Option<&str>, Uuid)> = by_name.chain(by_either).collect();
        let mut responses: Vec<DeletableTopicResult<'static>> = Vec::new();
        let mut records: Vec<MetadataRecord> = Vec::new();
        let mut deleted = BTreeSet::new();
        for &(name, topic_id) in &asked {
            let times = asked.iter().filter(|&&other| other == (name, topic_id)).count();
            let found = match self.topic_to_delete(env, name, topic_id, times > 1, version) {
                Ok(id) if !deleted.insert(id) => Err(ApiError::new(
                    ErrorCode::INVALID_REQUEST,
                    "The provided topic name maps to an ID that was already supplied.",
                )),
                other => other,
            };
            let topic = found.as_ref().ok().and_then(|&id| self.image.topics.topic(id));
            let partitions = topic.map_or(0, |topic| topic.partitions.len());
            let outcome = found.and_then(|id| env.change_partitions(partitions).map(|()| id));
            let (error_code, error_message) =
                code_and_text(&outcome.as_ref().map(|_| ()).map_err(Clone::clone));
            let name = topic.map(|t| &*t.name).or(name).map(owned);
            let topic_id = topic.map_or(topic_id, |t| t.id);
            let response = DeletableTopicResult { name, topic_id, error_code, error_message };
            if !responses.contains(&response) {
                responses.push(response);
            }
            if let Ok(topic_id) = outcome {
                records.push(RemoveTopicRecord { topic_id }.into());
            }
        }
        let response = DeleteTopicsResponse { responses, ..Default::default() };
        Outcome::of(records, Answer::DeleteTopics(response))
    }

    fn topic_to_delete(
        &self,
        env: &Env<'_>,
        name: Option<&str>,
        topic_id: Uuid,
        twice: bool,
        version: i16,
    ) -> Result<Uuid, ApiError> {
        let invalid = |text: &str| Err(ApiError::new(ErrorCode::INVALID_REQUEST, text));
        if !env.config.controller.delete_topic_enable {
            return Err(if version < 3 {
                ApiError::new(ErrorCode::INVALID_REQUEST, "Topic deletion is disabled.")
            } else {
                ApiError::bare(ErrorCode::TOPIC_DELETION_DISABLED)
            });
        }
        match (name, topic_id.is_zero()) {
            (None, true) => invalid("Neither topic name nor id were specified."),
            (Some(_), false) => invalid("You may not specify both topic name and topic id."),
            (None, false) if twice => invalid("Duplicate topic id."),
            (Some(_), true) if twice => invalid("Duplicate topic name."),
            (None, false) => match self.image.topics.topic(topic_id) {
                Some(_) => Ok(topic_id),
                None => Err(ApiError::standard(ErrorCode::UNKNOWN_TOPIC_ID)),
            },
            (Some(name), true) => {
                let known = self.image.topics.id_of(name);
                known.ok_or_else(|| ApiError::standard(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))
            }
        }
    }

    /// CreatePartitions (37).
    pub fn create_partitions(&mut self, env: &mut Env<'_>, request: &CreatePartitionsRequest<'_>) -> Outcome {
        let names: Vec<&str> = request.topics.iter().map(|t| &*t.name).collect();
        let duplicates = duplicates(&names);
        let mut records = Vec::new();
        let mut results = Vec::new();
        let mut answer = |name: &str, outcome: &Result<(), ApiError>| {
            let (error_code, error_message) = code_and_text(outcome);
            let name = owned(name);
            results.push(create_partitions_response::CreatePartitionsTopicResult {
                name,
                error_code,
                error_message,
            });
        };
        for name in &duplicates {
            answer(name, &Err(ApiError::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name.")));
        }
        for topic in request.topics.iter().filter(|t| !duplicates.contains(&*t.name)) {
            let outcome = self.added_partitions(env, topic).map(|more| records.extend(more));
            answer(&topic.name, &outcome);
        }
        if request.validate_only {
            records.clear();
        }
        let response = CreatePartitionsResponse { results, ..Default::default() };
        Outcome { reason: ChangeReason::Created, ..Outcome::of(records, Answer::CreatePartitions(response)) }
    }

    fn added_partitions(
        &self,
        env: &mut Env<'_>,
        request: &CreatePartitionsTopic<'_>,
    ) -> Result<Vec<MetadataRecord>, ApiError> {
        let topic = self.image.topics.topic_named(&request.name);
        let topic = topic.ok_or_else(|| ApiError::bare(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
        let present = topic.partitions.len() as i32;
        if request.count == present {
            let text = format!("Topic already has {present} partition(s).");
            return Err(ApiError::new(ErrorCode::INVALID_PARTITIONS, text));
        }
        if request.count < present {
            let text = format!(
                "The topic {} currently has {present} partition(s); {} would not be an increase.",
                request.name, request.count
            );
            return Err(ApiError::new(ErrorCode::INVALID_PARTITIONS, text));
        }
        let additional = request.count - present;
        let first = topic.partitions.first_key_value().map(|(_, p)| p.replicas.len());
        let replication_factor = first.ok_or_else(|| ApiError::bare(ErrorCode::UNKNOWN_SERVER_ERROR))?;
        if let Some(assignments) = &request.assignments
            && assignments.len() != additional as usize
        {
            let text = format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(ApiError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text));
        }
        env.change_partitions(additional as usize)?;
        let partitions = match &request.assignments {
            Some(assignments) => {
                let register =
                    |(i, assigned): (usize, &create_partitions_request::CreatePartitionsAssignment)| {
                        self.validate_assignment(&assigned.broker_ids, Some(replication_factor))?;
                        self.manual_registration(present + i as i32, &assigned.broker_ids)
                    };
                assignments.iter().enumerate().map(register).collect::<Result<Vec<_>, _>>()?
            }
            None => {
                let placed = self.place_partitions(env, additional, replication_factor as i16);
                placed.map_err(|why| match why.starts_with("All brokers are currently fenced or") {
                    true => cannot_replicate(replication_factor as i16, &why),
                    false => ApiError::new(ErrorCode::INVALID_REPLICATION_FACTOR, why),
                })?
            }
        };
        let record = |(partition, registration): (i32, PartitionRegistration)| {
            registration.to_record(TopicIdPartition { topic_id: topic.id, partition }).into()
        };
        Ok((present..).zip(partitions).map(record).collect())
    }
}

fn cannot_replicate(replication_factor: i16, why: &str) -> ApiError {
    let text = format!("Unable to replicate the partition {replication_factor} time(s): {why}");
    ApiError::new(ErrorCode::INVALID_REPLICATION_FACTOR, text)
}

fn failed(name: &str, error: &ApiError) -> CreatableTopicResult<'static> {
    CreatableTopicResult {
        name: owned(name),
        error_code: error.code.0,
        error_message: text(&error.message),
        ..Default::default()
    }
}

/// Names that come more than once.
fn duplicates<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.iter().copied().filter(|name| !seen.insert(*name)).collect()
}

fn creation_configs<'a>(topic: &'a CreatableTopic<'_>) -> Result<BTreeMap<&'a str, &'a str>, ApiError> {
    let absent: Vec<&str> = topic.configs.iter().filter(|c| c.value.is_none()).map(|c| &*c.name).collect();
    if !absent.is_empty() {
        let text = format!("Null value not supported for topic configs: {}", absent.join(","));
        return Err(ApiError::new(ErrorCode::INVALID_CONFIG, text));
    }
    Ok(topic.configs.iter().filter_map(|c| Some((&*c.name, c.value.as_deref()?))).collect())
}

/// Checks a topic's name, in Kafka's words (`Topic.validate`).
pub fn validate_topic_name(name: &str) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let why = if name.is_empty() {
        "the empty string is not allowed".to_string()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.chars().count() > MAX_NAME_LENGTH {
        format!("the length of '{name}' is longer than the max allowed length {MAX_NAME_LENGTH}")
    } else if !name.chars().all(allowed) {
        format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    Err(ApiError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, format!("Topic name is invalid: {why}")))
}

//! Dynamic configurations: IncrementalAlterConfigs and AlterConfigs. `ConfigurationControlManager`.
//!
//! With eligible leader replicas the cluster-wide `min.insync.replicas` can be changed, but not removed, and a single
//! broker cannot have one of its own: whether a replica is eligible must not depend on whom one asks (KIP-966). For the
//! same reason a change of it anywhere forgets the ELRs that were found under the old value.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::messages::*;
use wire::records::{ClearElrRecord, ConfigRecord, MetadataRecord};

use super::Outcome;
use super::answer::{Answer, code_and_text, owned};
use super::error::ApiError;
use super::state::{Env, State};
use super::topics::validate_topic_name;
use crate::config::{Kind, NodeConfig, node_key, topic_key, validate_broker_override, validate_topic};
use crate::event::ChangeReason;
use crate::metadata::{ConfigKey, ResourceType};

const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// What to do with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    /// Set it.
    Set,
    /// Remove it: the next layer's value holds again.
    Delete,
    /// Add elements to a list.
    Append,
    /// Take elements out of a list.
    Subtract,
}

impl ConfigOp {
    fn from_id(id: i8) -> Option<ConfigOp> {
        [ConfigOp::Set, ConfigOp::Delete, ConfigOp::Append, ConfigOp::Subtract]
            .get(usize::try_from(id).ok()?)
            .copied()
    }

    fn name(self) -> &'static str {
        match self {
            ConfigOp::Set => "SET",
            ConfigOp::Delete => "DELETE",
            ConfigOp::Append => "APPEND",
            ConfigOp::Subtract => "SUBTRACT",
        }
    }
}

/// A setting, what to do with it, and the operand.
type Op<'a> = (&'a str, ConfigOp, Option<&'a str>);

impl State {
    /// IncrementalAlterConfigs (44).
    pub fn incremental_alter_configs(
        &mut self,
        env: &Env<'_>,
        request: &IncrementalAlterConfigsRequest<'_>,
    ) -> Outcome {
        let keys: Vec<(i8, &str)> =
            request.resources.iter().map(|r| (r.resource_type, &*r.resource_name)).collect();
        let duplicates = duplicates(&keys);
        let mut records = Vec::new();
        let mut responses = Vec::new();
        let mut answered = BTreeSet::new();
        for resource in &request.resources {
            let id = (resource.resource_type, &*resource.resource_name);
            if !answered.insert(id) {
                continue;
            }
            let altered = resource_key(id, &duplicates).and_then(|key| {
                let ops = resource.configs.iter().map(|c| match ConfigOp::from_id(c.config_operation) {
                    Some(op) => Ok((&*c.name, op, c.value.as_deref())),
                    None => Err(unknown_op(c.config_operation)),
                });
                self.alter_resource(env.config, &key, &ops.collect::<Result<Vec<_>, _>>()?, false)
            });
            let (error_code, error_message) = code_and_text(&altered.map(|more| records.extend(more)));
            responses.push(incremental_alter_configs_response::AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: id.0,
                resource_name: owned(id.1),
            });
        }
        self.add_clear_elr_records(&mut records);
        if request.validate_only {
            records.clear();
        }
        let response = IncrementalAlterConfigsResponse { responses, ..Default::default() };
        let answer = Answer::IncrementalAlterConfigs(response);
        Outcome { reason: ChangeReason::ConfigChange, ..Outcome::of(records, answer) }
    }

    /// AlterConfigs (33): what it does not name is removed.
    pub fn alter_configs(&mut self, env: &Env<'_>, request: &AlterConfigsRequest<'_>) -> Outcome {
        let keys: Vec<(i8, &str)> =
            request.resources.iter().map(|r| (r.resource_type, &*r.resource_name)).collect();
        let duplicates = duplicates(&keys);
        let mut records = Vec::new();
        let mut responses = Vec::new();
        let mut answered = BTreeSet::new();
        for resource in &request.resources {
            let id = (resource.resource_type, &*resource.resource_name);
            if !answered.insert(id) {
                continue;
            }
            let altered = resource_key(id, &duplicates).and_then(|key| {
                let kept: BTreeSet<&str> = resource.configs.iter().map(|c| &*c.name).collect();
                let set = resource.configs.iter().map(|c| (&*c.name, ConfigOp::Set, c.value.as_deref()));
                let present = self.image.configs.settings(key.resource_type, &key.name);
                let gone = present.filter(|(name, _)| !kept.contains(&***name));
                let gone = gone.map(|(name, _)| (&**name, ConfigOp::Delete, None));
                let ops: Vec<Op<'_>> = set.chain(gone).collect();
                self.alter_resource(env.config, &key, &ops, false)
            });
            let (error_code, error_message) = code_and_text(&altered.map(|more| records.extend(more)));
            responses.push(alter_configs_response::AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: id.0,
                resource_name: owned(id.1),
            });
        }
        self.add_clear_elr_records(&mut records);
        if request.validate_only {
            records.clear();
        }
        let answer = Answer::AlterConfigs(AlterConfigsResponse { responses, ..Default::default() });
        Outcome { reason: ChangeReason::ConfigChange, ..Outcome::of(records, answer) }
    }

    /// The records that change one resource; one bad setting refuses all of them.
    pub fn alter_resource(
        &self,
        config: &NodeConfig,
        key: &ConfigKey,
        ops: &[Op<'_>],
        newly_created: bool,
    ) -> Result<Vec<MetadataRecord>, ApiError> {
        let mut records = Vec::new();
        let mut after: BTreeMap<&str, Arc<str>> = self
            .image
            .configs
            .settings(key.resource_type, &key.name)
            .map(|(name, value)| (&**name, value.clone()))
            .collect();
        for &(name, op, operand) in ops {
            let current = after.get(name).cloned();
            let new = match op {
                ConfigOp::Set => operand.map(Arc::from),
                ConfigOp::Delete => None,
                ConfigOp::Append | ConfigOp::Subtract => Some(self.change_list(
                    config,
                    key,
                    name,
                    op,
                    current.as_deref(),
                    operand.unwrap_or(""),
                )?),
            };
            self.check_min_isr(key, name, new.as_deref())?;
            match &new {
                Some(value) => after.insert(name, value.clone()),
                None => after.remove(name),
            };
            // A broker reads its settings again (a key store, say) also when the value is the same.
            if new != current || key.resource_type == ResourceType::Broker {
                let record = ConfigRecord {
                    resource_type: key.resource_type.id(),
                    resource_name: key.name.to_string(),
                    name: name.to_string(),
                    value: new.as_deref().map(ToString::to_string),
                };
                records.push(record.into());
            }
        }
        self.validate_resource(key, &after, ops)?;
        if !newly_created {
            self.check_resource_exists(key)?;
        }
        Ok(records)
    }

    fn change_list(
        &self,
        config: &NodeConfig,
        key: &ConfigKey,
        name: &str,
        op: ConfigOp,
        current: Option<&str>,
        operand: &str,
    ) -> Result<Arc<str>, ApiError> {
        let known = match key.resource_type {
            ResourceType::Topic => topic_key(name),
            _ => node_key(name),
        };
        let Some(known) = known.filter(|k| k.kind == Kind::List) else {
            let text = format!("Can't {} to key {name} because its type is not LIST.", op.name());
            return Err(ApiError::new(ErrorCode::INVALID_CONFIG, text));
        };
        // An absent list begins as its default: the server's own setting if it was given, for a topic's.
        let given = known.server_synonym.and_then(|s| config.given.get(s)).map(String::as_str);
        let start = current.or(given).or(known.default).unwrap_or("");
        let mut elements: Vec<&str> = start.split(',').filter(|e| !e.is_empty()).collect();
        for element in operand.split(',') {
            let at = elements.iter().position(|e| *e == element);
            match (op, at) {
                (ConfigOp::Append, None) => elements.push(element),
                (ConfigOp::Subtract, Some(at)) => drop(elements.remove(at)),
                _ => {}
            }
        }
        Ok(Arc::from(elements.join(",")))
    }

    fn check_min_isr(&self, key: &ConfigKey, name: &str, new: Option<&str>) -> Result<(), ApiError> {
        let concerned = name == MIN_INSYNC_REPLICAS && key.resource_type == ResourceType::Broker;
        if !concerned || !self.image.features.elr_enabled() {
            return Ok(());
        }
        if !key.name.is_empty() {
            let text = "Broker-level min.insync.replicas cannot be altered while ELR is enabled.";
            return Err(ApiError::new(ErrorCode::INVALID_CONFIG, text));
        }
        if new.is_none() {
            let text = "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.";
            return Err(ApiError::new(ErrorCode::INVALID_CONFIG, text));
        }
        Ok(())
    }

    /// Checks the name of a resource and all its settings as they would be.
    fn validate_resource(
        &self,
        key: &ConfigKey,
        after: &BTreeMap<&str, Arc<str>>,
        ops: &[Op<'_>],
    ) -> Result<(), ApiError> {
        let request = |text: &str| Err(ApiError::new(ErrorCode::INVALID_REQUEST, text));
        match key.resource_type {
            ResourceType::Topic if key.name.is_empty() => request("Default topic resources are not allowed."),
            ResourceType::Topic => {
                validate_topic_name(&key.name)?;
                // What nobody knows is said first, as Kafka checks the names before the values.
                let known_first = |&(name, _): &(&&str, _)| topic_key(name).is_some();
                let mut all: Vec<_> = after.iter().collect();
                all.sort_by_key(known_first);
                for (name, value) in all {
                    validate_topic(name, value)
                        .map_err(|why| ApiError::new(ErrorCode::INVALID_CONFIG, why))?;
                }
                Ok(())
            }
            ResourceType::Broker => {
                if !key.name.is_empty() {
                    match key.name.parse::<i32>() {
                        Err(_) => return request("Unable to parse broker name as a base 10 number."),
                        Ok(id) if id < 0 => return request("Invalid negative broker ID."),
                        Ok(_) => {}
                    }
                }
                for &(name, op, value) in ops {
                    let value = value.filter(|_| op == ConfigOp::Set);
                    let checked = validate_broker_override(name, value, !key.name.is_empty());
                    checked.map_err(|why| ApiError::new(ErrorCode::INVALID_REQUEST, why))?;
                }
                Ok(())
            }
            ResourceType::ClientMetrics | ResourceType::Group if key.name.is_empty() => {
                request(match key.resource_type {
                    ResourceType::Group => "Default group resources are not allowed.",
                    _ => "Subscription name can't be empty",
                })
            }
            ResourceType::ClientMetrics | ResourceType::Group => Ok(()),
            ResourceType::BrokerLogger => request("Unknown resource type BROKER_LOGGER"),
        }
    }

    fn check_resource_exists(&self, key: &ConfigKey) -> Result<(), ApiError> {
        match key.resource_type {
            ResourceType::Broker if !key.name.is_empty() => {
                let id: i32 = key.name.parse().expect("the name was checked");
                if self.image.broker(id).is_some() || self.image.controllers.contains_key(&id) {
                    return Ok(());
                }
                let text = format!("No node with id {id} found.");
                Err(ApiError::new(ErrorCode::BROKER_ID_NOT_REGISTERED, text))
            }
            ResourceType::Topic if self.image.topics.id_of(&key.name).is_none() => {
                let text = format!("The topic '{}' does not exist.", key.name);
                Err(ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, text))
            }
            _ => Ok(()),
        }
    }

    /// Adds a `ClearElrRecord` for each change of `min.insync.replicas` among the records.
    pub fn add_clear_elr_records(&self, records: &mut Vec<MetadataRecord>) {
        if !self.image.features.elr_enabled() {
            return;
        }
        let clear = |record: &MetadataRecord| match record {
            MetadataRecord::Config(config) if config.name == MIN_INSYNC_REPLICAS => {
                let of_topic = config.resource_type == ResourceType::Topic.id();
                let topic_name = if of_topic { config.resource_name.clone() } else { String::new() };
                Some(MetadataRecord::from(ClearElrRecord { topic_name }))
            }
            _ => None,
        };
        let more: Vec<MetadataRecord> = records.iter().filter_map(clear).collect();
        records.extend(more);
    }

    /// What must be written before eligible leader replicas are switched on: a cluster-wide `min.insync.replicas`,
    /// and none of single brokers.
    pub fn elr_safety_records(&self, config: &NodeConfig) -> Vec<MetadataRecord> {
        let configs = &self.image.configs;
        let record = |resource: &str, value: Option<String>| {
            MetadataRecord::from(ConfigRecord {
                resource_type: ResourceType::Broker.id(),
                resource_name: resource.to_string(),
                name: MIN_INSYNC_REPLICAS.to_string(),
                value,
            })
        };
        let mut records = Vec::new();
        if configs.value(ResourceType::Broker, "", MIN_INSYNC_REPLICAS).is_none() {
            let given = config.node_value(crate::config::Dynamic::default(), MIN_INSYNC_REPLICAS);
            records.push(record("", Some(given.unwrap_or("1").to_string())));
        }
        let brokers = configs.resources().filter(|(t, name)| *t == ResourceType::Broker && !name.is_empty());
        let set = brokers.filter(|(t, name)| configs.value(*t, name, MIN_INSYNC_REPLICAS).is_some());
        records.extend(set.map(|(_, name)| record(name, None)));
        records
    }
}

fn duplicates<'a>(keys: &[(i8, &'a str)]) -> BTreeSet<(i8, &'a str)> {
    let mut seen = BTreeSet::new();
    keys.iter().copied().filter(|key| !seen.insert(*key)).collect()
}

fn resource_key(id: (i8, &str), duplicates: &BTreeSet<(i8, &str)>) -> Result<ConfigKey, ApiError> {
    let Some(resource_type) = ResourceType::from_id(id.0) else {
        let text = format!("Unknown resource type {}.", id.0);
        return Err(ApiError::new(ErrorCode::UNSUPPORTED_VERSION, text));
    };
    if duplicates.contains(&id) {
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, "Duplicate resource."));
    }
    Ok(ConfigKey { resource_type, name: Arc::from(id.1) })
}

fn unknown_op(id: i8) -> ApiError {
    ApiError::new(ErrorCode::INVALID_REQUEST, format!("Unknown operation type {id}."))
}

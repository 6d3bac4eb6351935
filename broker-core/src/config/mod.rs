//! The configuration of a node and of its topics: names, units, defaults, bounds and sentences of Apache Kafka 4.3.
//!
//! [`NodeConfig::parse`] turns the text of `server.properties` into types that cannot be wrong; what Kafka would refuse
//! is refused in its words, and an unknown setting, which Kafka only warns of, is refused with the nearest known one.
//! What can change while a node runs (KIP-226: topic, broker and cluster-wide overrides) is not in [`NodeConfig`] but is
//! resolved over it by [`Dynamic`].

mod def;
mod dynamic;
mod listeners;
mod node_keys;
mod topic_keys;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::drive::{Endpoint, Nanos};

pub use def::{Check, ConfigKey, InvalidValue, Kind, Update, Value};
pub use dynamic::{
    ConfigSource, Described, Dynamic, Overrides, Synonym, validate_broker_override, validate_topic,
};
pub use listeners::{ListenerSpec, Voter};
pub use node_keys::{BROKER_QUOTA_KEYS, NODE_KEYS};
pub use topic_keys::TOPIC_KEYS;

use crate::mutant::Mutants;
use crate::quota::rate::Samples;

/// A setting of a node, by name.
pub fn node_key(name: &str) -> Option<&'static ConfigKey> {
    NODE_KEYS.binary_search_by(|k| k.name.cmp(name)).ok().map(|i| &NODE_KEYS[i])
}

/// What can be overridden of a broker, by name: its settings, and the quotas that are no settings.
pub fn broker_key(name: &str) -> Option<&'static ConfigKey> {
    node_key(name).or_else(|| BROKER_QUOTA_KEYS.iter().find(|k| k.name == name))
}

/// A setting of a topic, by name.
pub fn topic_key(name: &str) -> Option<&'static ConfigKey> {
    TOPIC_KEYS.binary_search_by(|k| k.name.cmp(name)).ok().map(|i| &TOPIC_KEYS[i])
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nobody knows the setting.
    #[error("unknown configuration {name}{}", match .nearest { Some(n) => format!(" (did you mean {n}?)"), None => String::new() })]
    Unknown {
        /// The name given.
        name: String,
        /// The known name nearest to it.
        nearest: Option<&'static str>,
    },
    /// A value that its setting does not take.
    #[error(transparent)]
    Value(#[from] InvalidValue),
    /// A setting that has no default.
    #[error("Missing required configuration \"{0}\" which has no default value.")]
    Missing(&'static str),
    /// Settings that do not go together, in Kafka's words.
    #[error("{0}")]
    Conflict(String),
}

/// `process.roles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Roles {
    /// Stores partitions and serves clients.
    pub broker: bool,
    /// Votes in the quorum, and may be the active controller.
    pub controller: bool,
}

/// The settings of the quorum (`QuorumConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumConfig {
    /// `controller.quorum.voters`; empty if the voters are in the log (KIP-853).
    pub voters: Vec<Voter>,
    /// `controller.quorum.bootstrap.servers`.
    pub bootstrap_servers: Vec<Endpoint>,
    /// `controller.quorum.auto.join.enable`.
    pub auto_join: bool,
    /// `controller.quorum.election.timeout.ms`.
    pub election_timeout: Nanos,
    /// `controller.quorum.election.backoff.max.ms`.
    pub election_backoff_max: Nanos,
    /// `controller.quorum.fetch.timeout.ms`.
    pub fetch_timeout: Nanos,
    /// `controller.quorum.request.timeout.ms`.
    pub request_timeout: Nanos,
    /// `controller.quorum.retry.backoff.ms`.
    pub retry_backoff: Nanos,
    /// `controller.quorum.append.linger.ms`.
    pub append_linger: Nanos,
    /// `controller.quorum.fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// `controller.quorum.fetch.snapshot.max.bytes`.
    pub fetch_snapshot_max_bytes: i32,
}

/// The settings of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataLogConfig {
    /// `metadata.log.dir`, or the first of `log.dirs`.
    pub dir: String,
    /// `metadata.log.segment.bytes`.
    pub segment_bytes: i64,
    /// `metadata.log.segment.ms`.
    pub segment_ms: i64,
    /// `metadata.max.retention.bytes`.
    pub retention_bytes: i64,
    /// `metadata.max.retention.ms`.
    pub retention_ms: i64,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub max_bytes_between_snapshots: i64,
    /// `metadata.log.max.snapshot.interval.ms`; absent when 0: no snapshots by time.
    pub max_snapshot_interval: Option<Nanos>,
    /// `metadata.max.idle.interval.ms`; absent when 0: no NoOpRecords.
    pub max_idle_interval: Option<Nanos>,
}

/// The settings of the active controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// `broker.session.timeout.ms`.
    pub session_timeout: Nanos,
    /// `auto.leader.rebalance.enable`.
    pub auto_leader_rebalance: bool,
    /// `leader.imbalance.check.interval.seconds`.
    pub leader_imbalance_check_interval: Nanos,
    /// `unclean.leader.election.interval.ms`.
    pub unclean_leader_election_interval: Nanos,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
}

/// The settings of a broker's life in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleConfig {
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval: Nanos,
    /// `initial.broker.registration.timeout.ms`.
    pub registration_timeout: Nanos,
    /// `controlled.shutdown.enable`.
    pub controlled_shutdown_enable: bool,
    /// `controller.socket.timeout.ms`.
    pub controller_socket_timeout: Nanos,
    /// `request.timeout.ms`.
    pub request_timeout: Nanos,
    /// `auto.create.topics.enable`.
    pub auto_create_topics_enable: bool,
    /// `log.dir.failure.timeout.ms`.
    pub log_dir_failure_timeout: Nanos,
}

/// The settings of the transaction coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionsConfig {
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub abort_interval: Nanos,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiry_interval: Nanos,
    /// `transactional.id.expiration.ms`.
    pub id_expiration_ms: i64,
}

/// The settings of replication and of the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// `replica.lag.time.max.ms`.
    pub lag_time_max: Nanos,
    /// `replica.fetch.wait.max.ms`.
    pub fetch_wait_max_ms: i32,
    /// `replica.fetch.min.bytes`.
    pub fetch_min_bytes: i32,
    /// `replica.fetch.max.bytes`: of one partition.
    pub fetch_max_bytes: i32,
    /// `replica.fetch.response.max.bytes`.
    pub fetch_response_max_bytes: i32,
    /// `replica.fetch.backoff.ms`.
    pub fetch_backoff: Nanos,
    /// `replica.socket.timeout.ms`.
    pub socket_timeout: Nanos,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermark_checkpoint_interval: Nanos,
    /// `num.replica.fetchers`.
    pub num_fetchers: i32,
    /// `fetch.max.bytes`: of one response to a client.
    pub client_fetch_max_bytes: i32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_slots: i32,
    /// `replica.selector.class` names the rack-aware selector (KIP-392).
    pub rack_aware_selector: bool,
    /// `max.request.partition.size.limit`: partitions in one DescribeTopicPartitions answer.
    pub max_request_partitions: i32,
    /// `log.flush.scheduler.interval.ms`.
    pub flush_scheduler_interval_ms: i64,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub recovery_point_checkpoint_interval: Nanos,
    /// `log.flush.start.offset.checkpoint.interval.ms`.
    pub log_start_checkpoint_interval: Nanos,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Nanos,
    /// `log.initial.task.delay.ms`.
    pub initial_task_delay: Nanos,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_expiration_check_interval: Nanos,
    /// `replication.quota.window.num` and `replication.quota.window.size.seconds`.
    pub quota_window: Samples,
}

/// The static configuration of a node, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `node.id`.
    pub node_id: i32,
    /// `process.roles`.
    pub roles: Roles,
    /// `broker.rack`.
    pub rack: Option<Arc<str>>,
    /// `listeners`.
    pub listeners: Vec<ListenerSpec>,
    /// `advertised.listeners`, or `listeners`: those of the roles that this node has.
    pub advertised: Vec<ListenerSpec>,
    /// `log.dirs`: paths on the node's disk, without a leading slash.
    pub log_dirs: Vec<String>,
    /// The quorum.
    pub quorum: QuorumConfig,
    /// The metadata log.
    pub metadata: MetadataLogConfig,
    /// The active controller.
    pub controller: ControllerConfig,
    /// Registration, heartbeats, shutdown, forwarding.
    pub lifecycle: LifecycleConfig,
    /// Replication and the data plane.
    pub replica: ReplicaConfig,
    /// `socket.request.max.bytes`.
    pub socket_request_max_bytes: i32,
    /// `connections.max.idle.ms`; absent when negative: connections may idle for ever.
    pub connections_max_idle: Option<Nanos>,
    /// `socket.connection.setup.timeout.ms`.
    pub connection_setup_timeout: Nanos,
    /// `socket.connection.setup.timeout.max.ms`.
    pub connection_setup_timeout_max: Nanos,
    /// `transaction.max.timeout.ms`.
    pub max_transaction_timeout_ms: i32,
    /// The transaction coordinator.
    pub transactions: TransactionsConfig,
    /// `unstable.api.versions.enable`.
    pub unstable_api_versions: bool,
    /// Bugs that are switched on: no setting, but set by whoever makes the node. None unless set.
    pub mutants: Mutants,
    /// What was given, as it was given.
    pub given: BTreeMap<String, String>,
}

impl NodeConfig {
    /// Parses and checks what `server.properties` holds.
    pub fn parse(given: &BTreeMap<String, String>) -> Result<NodeConfig, ConfigError> {
        for (name, value) in given {
            let Some(key) = node_key(name) else {
                return Err(ConfigError::Unknown { name: name.clone(), nearest: nearest_node_key(name) });
            };
            key.parse(value)?;
        }
        let raw = Raw { given };
        let roles = Roles {
            broker: raw.list("process.roles").iter().any(|r| r == "broker"),
            controller: raw.list("process.roles").iter().any(|r| r == "controller"),
        };
        if !roles.broker && !roles.controller {
            return Err(ConfigError::Missing("process.roles"));
        }
        let node_id = raw.opt_number("node.id").or_else(|| raw.opt_number("broker.id").filter(|id| *id >= 0));
        let node_id = node_id.ok_or(ConfigError::Missing("node.id"))? as i32;
        let controller_names = raw.list("controller.listener.names");
        let listeners = listeners::parse(&raw.text("listeners"), "listeners", &controller_names)?;
        let advertised = match raw.opt_text("advertised.listeners") {
            Some(text) => listeners::advertise(&listeners, &text, &controller_names)?,
            None => listeners.clone(),
        };
        let log_dirs = match raw.opt_text("log.dirs") {
            Some(dirs) => dirs.split(',').map(path).collect(),
            None => alloc::vec![path(&raw.text("log.dir"))],
        };
        // Each of the two names stands for the other (`KafkaConfig.populateSynonyms`).
        let mut given = given.clone();
        for name in ["node.id", "broker.id"] {
            given.entry(name.into()).or_insert_with(|| node_id.to_string());
        }
        let config = NodeConfig {
            node_id,
            roles,
            rack: raw.opt_text("broker.rack").map(Arc::from),
            quorum: raw.quorum()?,
            metadata: raw.metadata(&log_dirs),
            controller: raw.controller(),
            lifecycle: raw.lifecycle(),
            replica: raw.replica(),
            socket_request_max_bytes: raw.int("socket.request.max.bytes"),
            connections_max_idle: Some(raw.number("connections.max.idle.ms"))
                .filter(|ms| *ms >= 0)
                .map(|ms| Nanos::from_millis(ms as u64)),
            connection_setup_timeout: raw.millis("socket.connection.setup.timeout.ms"),
            connection_setup_timeout_max: raw.millis("socket.connection.setup.timeout.max.ms"),
            max_transaction_timeout_ms: raw.int("transaction.max.timeout.ms"),
            transactions: TransactionsConfig {
                abort_interval: raw.millis("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
                expiry_interval: raw.millis("transaction.remove.expired.transaction.cleanup.interval.ms"),
                id_expiration_ms: raw.number("transactional.id.expiration.ms"),
            },
            unstable_api_versions: raw.flag("unstable.api.versions.enable"),
            mutants: Mutants::NONE,
            listeners,
            advertised,
            log_dirs,
            given,
        };
        config.check(&controller_names)?;
        Ok(config)
    }

    /// The listener on which clients and other brokers come in.
    pub fn broker_listener(&self) -> Option<&ListenerSpec> {
        let wanted = self.given.get("inter.broker.listener.name");
        let mut brokers = self.advertised.iter().filter(|l| !l.controller);
        match wanted {
            Some(name) => brokers.find(|l| l.name == name.trim()),
            None => brokers.next(),
        }
    }

    /// The listener of the controller role.
    pub fn controller_listener(&self) -> Option<&ListenerSpec> {
        self.advertised.iter().find(|l| l.controller)
    }

    /// What Kafka checks once every value is parsed (`KafkaConfig.validateValues`).
    fn check(&self, controller_names: &[String]) -> Result<(), ConfigError> {
        let conflict = |text: String| Err(ConfigError::Conflict(text));
        let voters = &self.quorum.voters;
        let shown = || voters.iter().map(Voter::to_string).collect::<Vec<_>>().join(",");
        if voters.is_empty() && self.quorum.bootstrap_servers.is_empty() {
            return conflict(
                "If using process.roles, either controller.quorum.bootstrap.servers must contain the set of bootstrap \
                 controllers or controller.quorum.voters must contain a parseable set of controllers."
                    .into(),
            );
        }
        let votes = voters.iter().any(|v| v.id == self.node_id);
        if self.roles.controller && !voters.is_empty() && !votes {
            return conflict(format!(
                "If process.roles contains the 'controller' role, the node id {} must be included in the set of voters \
                 controller.quorum.voters={}",
                self.node_id,
                shown()
            ));
        }
        if !self.roles.controller && votes {
            return conflict(format!(
                "If process.roles contains just the 'broker' role, the node id {} must not be included in the set of \
                 voters controller.quorum.voters={}",
                self.node_id,
                shown()
            ));
        }
        if controller_names.is_empty() {
            return conflict("controller.listener.names must contain at least one value".into());
        }
        if self.roles.controller && !self.listeners.iter().any(|l| l.controller) {
            return conflict(
                "controller.listener.names must contain at least one value appearing in the 'listeners' configuration \
                 when running the KRaft controller role"
                    .into(),
            );
        }
        if self.roles.broker && self.broker_listener().is_none() {
            return conflict("There must be at least one broker listener in advertised.listeners.".into());
        }
        if !self.roles.broker && self.listeners.iter().any(|l| !l.controller) {
            return conflict(
                "controller.listener.names must only contain values appearing in the 'listeners' configuration when \
                 running the KRaft controller role"
                    .into(),
            );
        }
        let replica = &self.replica;
        if Nanos::from_millis(replica.fetch_wait_max_ms.max(0) as u64) > replica.lag_time_max {
            return conflict(
                "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent \
                 frequent changes in ISR"
                    .into(),
            );
        }
        Ok(())
    }
}

fn nearest_node_key(name: &str) -> Option<&'static str> {
    wire::nearest::nearest(name, NODE_KEYS.iter().filter(|k| !k.hidden).map(|k| k.name))
}

/// A path on a node's disk: relative to the host's root.
fn path(text: &str) -> String {
    text.trim().trim_matches('/').to_string()
}

/// Reads values that were checked before.
struct Raw<'a> {
    given: &'a BTreeMap<String, String>,
}

impl Raw<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        let key = node_key(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let text = self.given.get(name).map(String::as_str).or(key.default)?;
        Some(key.parse(text).expect("given values were checked, defaults are by a test"))
    }

    fn opt_number(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::Number(n) => Some(n),
            other => panic!("{name} is {other:?}, not a number"),
        }
    }

    fn number(&self, name: &str) -> i64 {
        self.opt_number(name).unwrap_or_else(|| panic!("{name} has no default"))
    }

    fn int(&self, name: &str) -> i32 {
        self.number(name) as i32
    }

    fn millis(&self, name: &str) -> Nanos {
        let ms = self.number(name).max(0) as u64;
        Nanos(ms.saturating_mul(1_000_000))
    }

    fn flag(&self, name: &str) -> bool {
        self.value(name) == Some(Value::Bool(true))
    }

    fn opt_text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            Value::List(list) => Some(list.join(",")),
            other => panic!("{name} is {other:?}, not a text"),
        }
    }

    fn text(&self, name: &str) -> String {
        self.opt_text(name).unwrap_or_default()
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(list)) => list.into_iter().filter(|e| !e.is_empty()).collect(),
            _ => Vec::new(),
        }
    }

    fn quorum(&self) -> Result<QuorumConfig, ConfigError> {
        Ok(QuorumConfig {
            voters: listeners::parse_voters(&self.list("controller.quorum.voters"))?,
            bootstrap_servers: listeners::parse_servers(&self.list("controller.quorum.bootstrap.servers"))?,
            auto_join: self.flag("controller.quorum.auto.join.enable"),
            election_timeout: self.millis("controller.quorum.election.timeout.ms"),
            election_backoff_max: self.millis("controller.quorum.election.backoff.max.ms"),
            fetch_timeout: self.millis("controller.quorum.fetch.timeout.ms"),
            request_timeout: self.millis("controller.quorum.request.timeout.ms"),
            retry_backoff: self.millis("controller.quorum.retry.backoff.ms"),
            append_linger: self.millis("controller.quorum.append.linger.ms"),
            fetch_max_bytes: self.int("controller.quorum.fetch.max.bytes"),
            fetch_snapshot_max_bytes: self.int("controller.quorum.fetch.snapshot.max.bytes"),
        })
    }

    fn metadata(&self, log_dirs: &[String]) -> MetadataLogConfig {
        let unless_zero = |name: &str| Some(self.millis(name)).filter(|n| *n > Nanos::ZERO);
        MetadataLogConfig {
            dir: self.opt_text("metadata.log.dir").map(|d| path(&d)).unwrap_or_else(|| log_dirs[0].clone()),
            segment_bytes: self
                .opt_number("internal.metadata.log.segment.bytes")
                .unwrap_or_else(|| self.number("metadata.log.segment.bytes")),
            segment_ms: self.number("metadata.log.segment.ms"),
            retention_bytes: self.number("metadata.max.retention.bytes"),
            retention_ms: self.number("metadata.max.retention.ms"),
            max_bytes_between_snapshots: self.number("metadata.log.max.record.bytes.between.snapshots"),
            max_snapshot_interval: unless_zero("metadata.log.max.snapshot.interval.ms"),
            max_idle_interval: unless_zero("metadata.max.idle.interval.ms"),
        }
    }

    fn controller(&self) -> ControllerConfig {
        let seconds = self.number("leader.imbalance.check.interval.seconds").max(0) as u64;
        ControllerConfig {
            session_timeout: self.millis("broker.session.timeout.ms"),
            auto_leader_rebalance: self.flag("auto.leader.rebalance.enable"),
            leader_imbalance_check_interval: Nanos::from_secs(seconds),
            unclean_leader_election_interval: self.millis("unclean.leader.election.interval.ms"),
            num_partitions: self.int("num.partitions"),
            default_replication_factor: self.number("default.replication.factor") as i16,
            delete_topic_enable: self.flag("delete.topic.enable"),
        }
    }

    fn lifecycle(&self) -> LifecycleConfig {
        LifecycleConfig {
            heartbeat_interval: self.millis("broker.heartbeat.interval.ms"),
            registration_timeout: self.millis("initial.broker.registration.timeout.ms"),
            controlled_shutdown_enable: self.flag("controlled.shutdown.enable"),
            controller_socket_timeout: self.millis("controller.socket.timeout.ms"),
            request_timeout: self.millis("request.timeout.ms"),
            auto_create_topics_enable: self.flag("auto.create.topics.enable"),
            log_dir_failure_timeout: self.millis("log.dir.failure.timeout.ms"),
        }
    }

    fn replica(&self) -> ReplicaConfig {
        let selector = self.text("replica.selector.class");
        ReplicaConfig {
            lag_time_max: self.millis("replica.lag.time.max.ms"),
            fetch_wait_max_ms: self.int("replica.fetch.wait.max.ms"),
            fetch_min_bytes: self.int("replica.fetch.min.bytes"),
            fetch_max_bytes: self.int("replica.fetch.max.bytes"),
            fetch_response_max_bytes: self.int("replica.fetch.response.max.bytes"),
            fetch_backoff: self.millis("replica.fetch.backoff.ms"),
            socket_timeout: self.millis("replica.socket.timeout.ms"),
            high_watermark_checkpoint_interval: self.millis("replica.high.watermark.checkpoint.interval.ms"),
            num_fetchers: self.int("num.replica.fetchers"),
            client_fetch_max_bytes: self.int("fetch.max.bytes"),
            fetch_session_slots: self.int("max.incremental.fetch.session.cache.slots"),
            rack_aware_selector: selector.ends_with("RackAwareReplicaSelector"),
            max_request_partitions: self.int("max.request.partition.size.limit"),
            flush_scheduler_interval_ms: self.number("log.flush.scheduler.interval.ms"),
            recovery_point_checkpoint_interval: self.millis("log.flush.offset.checkpoint.interval.ms"),
            log_start_checkpoint_interval: self.millis("log.flush.start.offset.checkpoint.interval.ms"),
            retention_check_interval: self.millis("log.retention.check.interval.ms"),
            initial_task_delay: self.millis("log.initial.task.delay.ms"),
            producer_expiration_check_interval: self.millis("producer.id.expiration.check.interval.ms"),
            quota_window: Samples {
                num: self.int("replication.quota.window.num") as u32,
                seconds: self.int("replication.quota.window.size.seconds") as u32,
            },
        }
    }
}

#[cfg(test)]
mod tests;

//! The settings as the clients use them.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Compression;
use wire::drive::Nanos;

use super::{ClientKind, ConfigError, Settings, check, setting};
use crate::backoff::Backoff;
use crate::consumer::assignor::Assignor;
use crate::metadata::MetadataSettings;
use crate::mutant::Mutants;
use crate::net::NetSettings;

/// Text settings of one client, each checked, with their defaults.
struct Values<'a> {
    kind: ClientKind,
    given: &'a Settings,
}

impl<'a> Values<'a> {
    fn new(kind: ClientKind, given: &'a Settings) -> Result<Values<'a>, ConfigError> {
        for (name, value) in given {
            check(kind, name, value)?;
        }
        Ok(Values { kind, given })
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        let setting = setting(self.kind, name).expect("the table has every setting that is used");
        self.given.get(name).map(String::as_str).or(setting.default)
    }

    fn long(&self, name: &str) -> i64 {
        self.text(name)
            .and_then(|text| text.trim().parse().ok())
            .expect("checked, and every number has a default")
    }

    fn millis(&self, name: &str) -> Nanos {
        // Kafka's "never" is 2^63-1 ms.
        let ms = self.long(name).max(0) as u64;
        Nanos(ms.saturating_mul(1_000_000))
    }

    fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    fn backoff(&self, initial: &str, max: &str) -> Backoff {
        Backoff { initial: self.millis(initial), max: self.millis(max) }
    }
}

/// What all clients have.
#[derive(Clone, Debug)]
pub struct CommonConfig {
    /// `client.id`, if given.
    pub client_id: Option<Arc<str>>,
    /// `request.timeout.ms`.
    pub request_timeout: Nanos,
    /// `retry.backoff.ms`, `retry.backoff.max.ms`.
    pub retry_backoff: Backoff,
    /// `reconnect.backoff.ms`, `reconnect.backoff.max.ms`.
    pub reconnect_backoff: Backoff,
    /// `socket.connection.setup.timeout.ms`, `socket.connection.setup.timeout.max.ms`.
    pub setup_timeout: Backoff,
    /// `connections.max.idle.ms`.
    pub max_idle: Nanos,
    /// `metadata.max.age.ms`.
    pub metadata_max_age: Nanos,
    /// `metadata.recovery.strategy` is `rebootstrap`.
    pub rebootstrap: bool,
    /// `metadata.recovery.rebootstrap.trigger.ms`.
    pub rebootstrap_after: Nanos,
    /// Bugs that are switched on: no setting. None unless set.
    pub mutants: Mutants,
}

impl CommonConfig {
    fn read(values: &Values<'_>) -> CommonConfig {
        let max_idle = match values.long("connections.max.idle.ms") {
            negative if negative < 0 => Nanos(u64::MAX),
            _ => values.millis("connections.max.idle.ms"),
        };
        CommonConfig {
            client_id: values.text("client.id").filter(|id| !id.is_empty()).map(Arc::from),
            request_timeout: values.millis("request.timeout.ms"),
            retry_backoff: values.backoff("retry.backoff.ms", "retry.backoff.max.ms"),
            reconnect_backoff: values.backoff("reconnect.backoff.ms", "reconnect.backoff.max.ms"),
            setup_timeout: values
                .backoff("socket.connection.setup.timeout.ms", "socket.connection.setup.timeout.max.ms"),
            max_idle,
            metadata_max_age: values.millis("metadata.max.age.ms"),
            rebootstrap: !values
                .text("metadata.recovery.strategy")
                .is_some_and(|s| s.eq_ignore_ascii_case("none")),
            rebootstrap_after: values.millis("metadata.recovery.rebootstrap.trigger.ms"),
            mutants: Mutants::NONE,
        }
    }

    /// What [`crate::net`] needs to know.
    pub fn net(&self, default_client_id: &str, max_in_flight: usize) -> NetSettings {
        NetSettings {
            client_id: self.client_id.clone().unwrap_or_else(|| default_client_id.into()),
            request_timeout: self.request_timeout,
            reconnect_backoff: self.reconnect_backoff,
            setup_timeout: self.setup_timeout,
            max_idle: self.max_idle,
            max_in_flight,
            rebootstrap: self.rebootstrap,
        }
    }

    /// What [`crate::metadata`] needs to know.
    pub fn metadata(&self, allow_auto_create: bool) -> MetadataSettings {
        MetadataSettings {
            max_age: self.metadata_max_age,
            retry_backoff: self.retry_backoff,
            rebootstrap_after: self.rebootstrap_after,
            allow_auto_create,
        }
    }
}

/// What a producer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// `0`: nothing.
    None,
    /// `1`: the leader's append.
    Leader,
    /// `all`, `-1`: the in-sync replicas.
    All,
}

impl Acks {
    /// As in Produce requests.
    pub fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// A producer's settings.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// What all clients have.
    pub common: CommonConfig,
    /// `acks`.
    pub acks: Acks,
    /// `batch.size`, in bytes.
    pub batch_size: usize,
    /// `buffer.memory`, in bytes.
    pub buffer_memory: u64,
    /// `compression.type`.
    pub compression: Compression,
    /// The level of the codec, if it has one.
    pub compression_level: Option<i32>,
    /// `delivery.timeout.ms`.
    pub delivery_timeout: Nanos,
    /// `enable.idempotence`, as far as the other settings allow it.
    pub idempotence: bool,
    /// `linger.ms`.
    pub linger: Nanos,
    /// `max.block.ms`.
    pub max_block: Nanos,
    /// `max.in.flight.requests.per.connection`.
    pub max_in_flight: usize,
    /// `max.request.size`, in bytes.
    pub max_request_size: usize,
    /// `partitioner.adaptive.partitioning.enable`.
    pub adaptive_partitioning: bool,
    /// `partitioner.availability.timeout.ms`; zero: never.
    pub availability_timeout: Nanos,
    /// `partitioner.ignore.keys`.
    pub ignore_keys: bool,
    /// `retries`.
    pub retries: u32,
    /// `transactional.id`.
    pub transactional_id: Option<String>,
    /// `transaction.timeout.ms`.
    pub transaction_timeout: Nanos,
}

impl ProducerConfig {
    /// From text.
    pub fn parse(given: &Settings) -> Result<ProducerConfig, ConfigError> {
        let values = Values::new(ClientKind::Producer, given)?;
        let acks = match values.text("acks") {
            Some("0") => Acks::None,
            Some("1") => Acks::Leader,
            _ => Acks::All,
        };
        let compression = values
            .text("compression.type")
            .and_then(Compression::from_name)
            .expect("checked, with a default");
        let level = match compression {
            Compression::Gzip => {
                Some(values.long("compression.gzip.level") as i32).filter(|&level| level >= 0)
            }
            Compression::Lz4 => Some(values.long("compression.lz4.level") as i32),
            Compression::Zstd => Some(values.long("compression.zstd.level") as i32),
            Compression::None | Compression::Snappy => None,
        };
        let mut config = ProducerConfig {
            common: CommonConfig::read(&values),
            acks,
            batch_size: values.long("batch.size") as usize,
            buffer_memory: values.long("buffer.memory") as u64,
            compression,
            // Kafka's default levels are the codecs' own.
            compression_level: level.filter(|_| given.contains_key(&level_name(compression))),
            delivery_timeout: values.millis("delivery.timeout.ms"),
            idempotence: false,
            linger: values.millis("linger.ms"),
            max_block: values.millis("max.block.ms"),
            max_in_flight: values.long("max.in.flight.requests.per.connection") as usize,
            max_request_size: values.long("max.request.size") as usize,
            adaptive_partitioning: values.flag("partitioner.adaptive.partitioning.enable"),
            availability_timeout: values.millis("partitioner.availability.timeout.ms"),
            ignore_keys: values.flag("partitioner.ignore.keys"),
            retries: values.long("retries") as u32,
            transactional_id: values.text("transactional.id").map(Into::into),
            transaction_timeout: values.millis("transaction.timeout.ms"),
        };
        config.settle_delivery_timeout(given)?;
        config.settle_idempotence(&values, given)?;
        if config.transactional_id.is_some() && !config.idempotence {
            return Err(ConfigError::Contradiction(
                "Cannot set a transactional.id without also enabling idempotence.",
            ));
        }
        Ok(config)
    }

    fn settle_delivery_timeout(&mut self, given: &Settings) -> Result<(), ConfigError> {
        let least = Nanos(self.linger.0.saturating_add(self.common.request_timeout.0));
        if self.delivery_timeout < least {
            if given.contains_key("delivery.timeout.ms") {
                return Err(ConfigError::Contradiction(
                    "delivery.timeout.ms should be equal to or larger than linger.ms + request.timeout.ms",
                ));
            }
            self.delivery_timeout = least;
        }
        Ok(())
    }

    /// Idempotence is on unless other settings rule it out; who asks for both is refused.
    fn settle_idempotence(&mut self, values: &Values<'_>, given: &Settings) -> Result<(), ConfigError> {
        let conflict = if self.retries == 0 {
            Some("Must set retries to non-zero when using the idempotent producer.")
        } else if self.acks != Acks::All {
            Some(
                "Must set acks to all in order to use the idempotent producer. Otherwise we cannot guarantee \
                 idempotence.",
            )
        } else if self.max_in_flight > 5 {
            Some(
                "Must set max.in.flight.requests.per.connection to at most 5 when using the idempotent producer.",
            )
        } else {
            None
        };
        let wanted = values.flag("enable.idempotence");
        match conflict {
            Some(why) if wanted && given.contains_key("enable.idempotence") => {
                Err(ConfigError::Contradiction(why))
            }
            Some(_) => Ok(()),
            None => {
                self.idempotence = wanted;
                Ok(())
            }
        }
    }
}

fn level_name(compression: Compression) -> String {
    alloc::format!("compression.{}.level", compression.name())
}

/// `isolation.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset, without what was aborted.
    ReadCommitted,
}

impl Isolation {
    /// As in Fetch and ListOffsets requests.
    pub fn code(self) -> i8 {
        match self {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        }
    }
}

/// `auto.offset.reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// `latest`.
    Latest,
    /// `earliest`.
    Earliest,
    /// `none`: an exception.
    None,
    /// `by_duration:P…`: records of so many milliseconds ago.
    ByDuration {
        /// Milliseconds.
        ms: i64,
    },
}

impl OffsetReset {
    /// From text.
    pub fn parse(text: &str) -> Option<OffsetReset> {
        match text.to_ascii_lowercase().as_str() {
            "latest" => Some(OffsetReset::Latest),
            "earliest" => Some(OffsetReset::Earliest),
            "none" => Some(OffsetReset::None),
            lower => {
                let ms = iso_duration_ms(&lower.strip_prefix("by_duration:")?.to_ascii_uppercase())?;
                Some(OffsetReset::ByDuration { ms })
            }
        }
    }
}

/// Milliseconds of a duration such as `P1DT2H3M4.5S`, which must not be negative.
fn iso_duration_ms(text: &str) -> Option<i64> {
    let text = text.strip_prefix('P')?;
    let (days, time) = match text.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (text, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    if !days.is_empty() {
        total = days.strip_suffix('D')?.parse::<i64>().ok().filter(|&d| d >= 0)?.checked_mul(86_400_000)?;
    }
    let mut rest = time;
    for (unit, ms) in [('H', 3_600_000), ('M', 60_000)] {
        if let Some((number, after)) = rest.split_once(unit) {
            total = total.checked_add(number.parse::<i64>().ok().filter(|&n| n >= 0)?.checked_mul(ms)?)?;
            rest = after;
        }
    }
    if !rest.is_empty() {
        let seconds = rest.strip_suffix('S')?;
        let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
        let mut digits = fraction.to_string();
        digits.push_str("000");
        let ms = digits.get(..3)?.parse::<i64>().ok()?;
        let whole = whole.parse::<i64>().ok().filter(|&s| s >= 0)?;
        total = total.checked_add(whole.checked_mul(1000)?)?.checked_add(ms)?;
    }
    Some(total)
}

/// `group.protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// JoinGroup and SyncGroup.
    Classic,
    /// KIP-848.
    Consumer,
}

/// A consumer's settings.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// What all clients have.
    pub common: CommonConfig,
    /// `allow.auto.create.topics`.
    pub allow_auto_create: bool,
    /// `auto.offset.reset`.
    pub reset: OffsetReset,
    /// `check.crcs`.
    pub check_crcs: bool,
    /// `client.rack`.
    pub rack: Option<Arc<str>>,
    /// `default.api.timeout.ms`.
    pub api_timeout: Nanos,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// `fetch.max.wait.ms`.
    pub fetch_max_wait_ms: i32,
    /// `fetch.min.bytes`.
    pub fetch_min_bytes: i32,
    /// `isolation.level`.
    pub isolation: Isolation,
    /// `max.partition.fetch.bytes`.
    pub max_partition_bytes: i32,
    /// `max.poll.records`.
    pub max_poll_records: usize,
    /// `max.poll.interval.ms`.
    pub max_poll_interval: Nanos,
    /// `group.id`.
    pub group: Option<Arc<str>>,
    /// `group.instance.id`.
    pub group_instance: Option<Arc<str>>,
    /// `group.remote.assignor`.
    pub remote_assignor: Option<Arc<str>>,
    /// `partition.assignment.strategy`.
    pub assignors: Vec<Assignor>,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval: Nanos,
    /// `session.timeout.ms`.
    pub session_timeout: Nanos,
    /// `exclude.internal.topics`.
    pub exclude_internal: bool,
    /// `group.protocol`.
    pub group_protocol: GroupProtocol,
    /// `enable.auto.commit`.
    pub auto_commit: bool,
    /// `auto.commit.interval.ms`.
    pub auto_commit_interval: Nanos,
}

impl ConsumerConfig {
    /// From text.
    pub fn parse(given: &Settings) -> Result<ConsumerConfig, ConfigError> {
        let values = Values::new(ClientKind::Consumer, given)?;
        let protocol = match values.text("group.protocol") {
            Some(text) if text.eq_ignore_ascii_case("consumer") => GroupProtocol::Consumer,
            _ => GroupProtocol::Classic,
        };
        let isolation = match values.text("isolation.level") {
            Some("read_committed") => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        };
        ConsumerConfig::check_protocol(protocol, given)?;
        let group: Option<Arc<str>> = values.text("group.id").map(Arc::from);
        if group.is_none() && given.contains_key("enable.auto.commit") && values.flag("enable.auto.commit") {
            return Err(ConfigError::Contradiction(
                "enable.auto.commit cannot be set to true when default group id (null) is used.",
            ));
        }
        let heartbeat_interval = values.millis("heartbeat.interval.ms");
        let session_timeout = values.millis("session.timeout.ms");
        if protocol == GroupProtocol::Classic && heartbeat_interval >= session_timeout {
            return Err(ConfigError::Contradiction("Heartbeat must be set lower than the session timeout"));
        }
        let set = |name: &str| values.text(name).filter(|text| !text.is_empty()).map(Arc::from);
        Ok(ConsumerConfig {
            common: CommonConfig::read(&values),
            group_instance: set("group.instance.id"),
            remote_assignor: set("group.remote.assignor"),
            assignors: ConsumerConfig::assignors(&values)?,
            heartbeat_interval,
            session_timeout,
            exclude_internal: values.flag("exclude.internal.topics"),
            allow_auto_create: values.flag("allow.auto.create.topics"),
            reset: values
                .text("auto.offset.reset")
                .and_then(OffsetReset::parse)
                .expect("checked, with a default"),
            check_crcs: values.flag("check.crcs"),
            rack: values.text("client.rack").filter(|rack| !rack.is_empty()).map(Arc::from),
            api_timeout: values.millis("default.api.timeout.ms"),
            fetch_max_bytes: values.long("fetch.max.bytes") as i32,
            fetch_max_wait_ms: values.long("fetch.max.wait.ms") as i32,
            fetch_min_bytes: values.long("fetch.min.bytes") as i32,
            isolation,
            max_partition_bytes: values.long("max.partition.fetch.bytes") as i32,
            max_poll_records: values.long("max.poll.records") as usize,
            max_poll_interval: values.millis("max.poll.interval.ms"),
            auto_commit: group.is_some() && values.flag("enable.auto.commit"),
            group,
            group_protocol: protocol,
            auto_commit_interval: values.millis("auto.commit.interval.ms"),
        })
    }

    /// Settings that mean nothing to a protocol of groups are refused (KIP-848).
    fn check_protocol(protocol: GroupProtocol, given: &Settings) -> Result<(), ConfigError> {
        let (unsupported, protocol): (&[&str], _) = match protocol {
            GroupProtocol::Classic => (&["group.remote.assignor"], "CLASSIC"),
            GroupProtocol::Consumer => (
                &["partition.assignment.strategy", "heartbeat.interval.ms", "session.timeout.ms"],
                "CONSUMER",
            ),
        };
        let is_set = |name: &&&str| given.get(**name).is_some_and(|value| !value.trim().is_empty());
        let names: Vec<&str> = unsupported.iter().filter(is_set).copied().collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(ConfigError::NotWithProtocol { names: names.join(", "), protocol })
    }

    fn assignors(values: &Values<'_>) -> Result<Vec<Assignor>, ConfigError> {
        const NAME: &str = "partition.assignment.strategy";
        let mut assignors = Vec::new();
        for class in
            values.text(NAME).unwrap_or("").split(',').map(str::trim).filter(|class| !class.is_empty())
        {
            let why = || alloc::format!("Class {class} could not be found.");
            let invalid = || ConfigError::Invalid { name: NAME.into(), value: class.into(), why: why() };
            let assignor = Assignor::of_class(class).ok_or_else(invalid)?;
            if !assignors.contains(&assignor) {
                assignors.push(assignor);
            }
        }
        Ok(assignors)
    }
}

/// An admin client's settings.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// What all clients have.
    pub common: CommonConfig,
    /// `default.api.timeout.ms`.
    pub api_timeout: Nanos,
    /// `retries`.
    pub retries: u32,
}

impl AdminConfig {
    /// From text.
    pub fn parse(given: &Settings) -> Result<AdminConfig, ConfigError> {
        let values = Values::new(ClientKind::Admin, given)?;
        let mut config = AdminConfig {
            common: CommonConfig::read(&values),
            api_timeout: values.millis("default.api.timeout.ms"),
            retries: values.long("retries") as u32,
        };
        if config.api_timeout < config.common.request_timeout {
            if given.contains_key("default.api.timeout.ms") && given.contains_key("request.timeout.ms") {
                return Err(ConfigError::Contradiction(
                    "The specified value of default.api.timeout.ms must be no smaller than the value of \
                     request.timeout.ms.",
                ));
            }
            // What was not asked for gives way.
            if given.contains_key("default.api.timeout.ms") {
                config.common.request_timeout = config.api_timeout;
            } else {
                config.api_timeout = config.common.request_timeout;
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn durations_of_by_duration() {
        let cases = [
            ("by_duration:PT1H", Some(3_600_000)),
            ("by_duration:P1DT2H3M4.5S", Some(93_784_500)),
            ("by_duration:P2D", Some(172_800_000)),
            ("by_duration:PT", None),
            ("by_duration:P", None),
            ("by_duration:PT-1H", None),
            ("by_duration:1h", None),
        ];
        for (text, ms) in cases {
            assert_eq!(OffsetReset::parse(text), ms.map(|ms| OffsetReset::ByDuration { ms }), "{text}");
        }
    }

    #[test]
    fn delivery_timeout_must_cover_linger_and_request_timeout() {
        let given = settings(&[("delivery.timeout.ms", "1000"), ("linger.ms", "0")]);
        assert!(matches!(ProducerConfig::parse(&given), Err(ConfigError::Contradiction(_))));
        let given = settings(&[("request.timeout.ms", "200000")]);
        let config = ProducerConfig::parse(&given).unwrap();
        assert_eq!(config.delivery_timeout, Nanos::from_millis(200_005));
    }

    #[test]
    fn idempotence_gives_way_unless_it_was_asked_for() {
        assert!(ProducerConfig::parse(&settings(&[])).unwrap().idempotence);
        assert!(!ProducerConfig::parse(&settings(&[("acks", "1")])).unwrap().idempotence);
        let both = settings(&[("acks", "1"), ("enable.idempotence", "true")]);
        assert!(matches!(ProducerConfig::parse(&both), Err(ConfigError::Contradiction(_))));
    }
}

//! Every setting of the three clients, as Kafka 4.3 has it.

use alloc::format;
use alloc::string::ToString;

use super::{ClientKind, ConfigError};

/// What a value must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// An INT of at least this.
    Int(i64),
    /// A LONG of at least this.
    Long(i64),
    /// BOOLEAN.
    Bool,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// One of these, whatever the case.
    AnyCase(&'static [&'static str]),
    /// A text.
    Text,
    /// `auto.offset.reset`.
    Reset,
    /// Accepted, and means nothing here.
    NoEffect,
    /// Known to Kafka; only the default is accepted.
    Unsupported,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its default; absent where Kafka has none, or null.
    pub default: Option<&'static str>,
    kinds: u8,
    pub(super) kind: Kind,
}

const P: u8 = 1;
const C: u8 = 2;
const A: u8 = 4;
const ALL: u8 = P | C | A;

impl Setting {
    /// Whether this kind of client has it.
    pub fn belongs_to(&self, kind: ClientKind) -> bool {
        let bit = match kind {
            ClientKind::Producer => P,
            ClientKind::Consumer => C,
            ClientKind::Admin => A,
        };
        self.kinds & bit != 0
    }

    /// Whether the value is one that Kafka accepts.
    pub fn check(&self, value: &str) -> Result<(), ConfigError> {
        let why = match self.kind {
            Kind::Int(min) => number::<i32>(value, "INT", min),
            Kind::Long(min) => number::<i64>(value, "LONG", min),
            Kind::Bool if !["true", "false"].iter().any(|b| value.eq_ignore_ascii_case(b)) => {
                Some("Expected value to be either true or false".to_string())
            }
            Kind::OneOf(words) if !words.contains(&value) => Some(one_of("String must be one of", words)),
            Kind::AnyCase(words) if !words.iter().any(|w| value.eq_ignore_ascii_case(w)) => {
                Some(one_of("String must be one of (case insensitive)", words))
            }
            Kind::Reset if super::OffsetReset::parse(value).is_none() => Some(
                "Invalid value `".to_string()
                    + value
                    + "` for configuration auto.offset.reset. The value must be either 'earliest', 'latest', 'none' \
                       or of the format 'by_duration:<PnDTnHnMn.nS.>'.",
            ),
            Kind::Unsupported if self.default != Some(value) => {
                return Err(ConfigError::Unsupported { name: self.name });
            }
            _ => None,
        };
        match why {
            None => Ok(()),
            Some(why) => {
                Err(ConfigError::Invalid { name: self.name.to_string(), value: value.to_string(), why })
            }
        }
    }
}

fn number<T: TryFrom<i64>>(value: &str, name: &str, min: i64) -> Option<alloc::string::String> {
    match value.trim().parse::<i64>().ok().filter(|&n| T::try_from(n).is_ok()) {
        None => Some(format!("Not a number of type {name}")),
        Some(n) if n < min => Some(format!("Value must be at least {min}")),
        Some(_) => None,
    }
}

fn one_of(text: &str, words: &[&str]) -> alloc::string::String {
    format!("{text}: {}", words.join(", "))
}

const fn s(name: &'static str, kinds: u8, default: &'static str, kind: Kind) -> Setting {
    Setting { name, default: Some(default), kinds, kind }
}

const fn none(name: &'static str, kinds: u8, kind: Kind) -> Setting {
    Setting { name, default: None, kinds, kind }
}

use Kind::{AnyCase, Bool, Int, Long, NoEffect, OneOf, Reset, Text, Unsupported};

/// All settings of all clients.
pub const SETTINGS: &[Setting] = &[
    // --- all clients
    none("bootstrap.servers", ALL, Text),
    s("client.dns.lookup", ALL, "use_all_dns_ips", NoEffect),
    s("client.id", ALL, "", Text),
    s("client.rack", C, "", Text),
    s("connections.max.idle.ms", P | C, "540000", Long(i64::MIN)),
    s("connections.max.idle.ms", A, "300000", Long(i64::MIN)),
    s("default.api.timeout.ms", C | A, "60000", Int(0)),
    s("enable.metrics.push", ALL, "true", NoEffect),
    s("metadata.max.age.ms", ALL, "300000", Long(0)),
    s("metadata.recovery.strategy", ALL, "rebootstrap", AnyCase(&["rebootstrap", "none"])),
    s("metadata.recovery.rebootstrap.trigger.ms", ALL, "300000", Long(0)),
    s("metric.reporters", ALL, "org.apache.kafka.common.metrics.JmxReporter", NoEffect),
    s("metrics.num.samples", ALL, "2", NoEffect),
    s("metrics.recording.level", ALL, "INFO", NoEffect),
    s("metrics.sample.window.ms", ALL, "30000", NoEffect),
    s("receive.buffer.bytes", ALL, "65536", NoEffect),
    s("reconnect.backoff.ms", ALL, "50", Long(0)),
    s("reconnect.backoff.max.ms", ALL, "1000", Long(0)),
    s("request.timeout.ms", ALL, "30000", Int(0)),
    s("retry.backoff.ms", ALL, "100", Long(0)),
    s("retry.backoff.max.ms", ALL, "1000", Long(0)),
    s("security.protocol", ALL, "PLAINTEXT", Unsupported),
    none("security.providers", ALL, NoEffect),
    s("send.buffer.bytes", ALL, "131072", NoEffect),
    s("socket.connection.setup.timeout.ms", ALL, "10000", Long(0)),
    s("socket.connection.setup.timeout.max.ms", ALL, "30000", Long(0)),
    none("sasl.jaas.config", ALL, Unsupported),
    s("sasl.mechanism", ALL, "GSSAPI", Unsupported),
    none("ssl.keystore.location", ALL, Unsupported),
    none("ssl.truststore.location", ALL, Unsupported),
    // --- producer
    s("acks", P, "all", OneOf(&["all", "-1", "0", "1"])),
    s("batch.size", P, "16384", Int(0)),
    s("buffer.memory", P, "33554432", Long(0)),
    s("compression.type", P, "none", OneOf(&["none", "gzip", "snappy", "lz4", "zstd"])),
    s("compression.gzip.level", P, "-1", Int(-1)),
    s("compression.lz4.level", P, "9", Int(1)),
    s("compression.zstd.level", P, "3", Int(-131072)),
    s("delivery.timeout.ms", P, "120000", Int(0)),
    s("enable.idempotence", P, "true", Bool),
    s("interceptor.classes", P | C, "", NoEffect),
    none("key.serializer", P, NoEffect),
    none("value.serializer", P, NoEffect),
    s("linger.ms", P, "5", Long(0)),
    s("max.block.ms", P, "60000", Long(0)),
    s("max.in.flight.requests.per.connection", P, "5", Int(1)),
    s("max.request.size", P, "1048576", Int(0)),
    s("metadata.max.idle.ms", P, "300000", Long(5000)),
    s("partitioner.adaptive.partitioning.enable", P, "true", Bool),
    s("partitioner.availability.timeout.ms", P, "0", Long(0)),
    none("partitioner.class", P, Unsupported),
    s("partitioner.ignore.keys", P, "false", Bool),
    s("retries", P, "2147483647", Int(0)),
    s("transaction.timeout.ms", P, "60000", Int(i64::MIN)),
    s("transaction.two.phase.commit.enable", P, "false", Unsupported),
    none("transactional.id", P, Text),
    // --- consumer
    s("allow.auto.create.topics", C, "true", Bool),
    s("auto.commit.interval.ms", C, "5000", Int(0)),
    s("auto.offset.reset", C, "latest", Reset),
    s("check.crcs", C, "true", Bool),
    s("enable.auto.commit", C, "true", Bool),
    s("exclude.internal.topics", C, "true", Bool),
    s("fetch.max.bytes", C, "52428800", Int(0)),
    s("fetch.max.wait.ms", C, "500", Int(0)),
    s("fetch.min.bytes", C, "1", Int(0)),
    none("group.id", C, Text),
    none("group.instance.id", C, Text),
    s("group.protocol", C, "classic", AnyCase(&["CLASSIC", "CONSUMER"])),
    none("group.remote.assignor", C, Text),
    s("heartbeat.interval.ms", C, "3000", Int(i64::MIN)),
    s("isolation.level", C, "read_uncommitted", OneOf(&["read_committed", "read_uncommitted"])),
    none("key.deserializer", C, NoEffect),
    none("value.deserializer", C, NoEffect),
    s("max.partition.fetch.bytes", C, "1048576", Int(0)),
    s("max.poll.interval.ms", C, "300000", Int(1)),
    s("max.poll.records", C, "500", Int(1)),
    s(
        "partition.assignment.strategy",
        C,
        "org.apache.kafka.clients.consumer.RangeAssignor,org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
        Text,
    ),
    s("session.timeout.ms", C, "45000", Int(i64::MIN)),
    // --- admin
    none("bootstrap.controllers", A, Text),
    s("retries", A, "2147483647", Int(0)),
];

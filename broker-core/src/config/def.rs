//! What a setting is: its type, default and bounds, and how a text becomes a value.
//!
//! Follows `org.apache.kafka.common.config.ConfigDef`; the sentences of refusals are Kafka's, since its tools print them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::quota::replication::is_valid_list;

/// The type of a setting, as DescribeConfigs (version 3 and later) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum Kind {
    /// `true` or `false`.
    Bool = 1,
    /// Text.
    Str = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// A decimal fraction.
    Double = 6,
    /// Comma-separated texts.
    List = 7,
    /// The name of a Java class.
    Class = 8,
    /// A secret: its value is never told.
    Password = 9,
}

/// What a value must satisfy beyond its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    Any,
    /// A number not below this.
    AtLeast(i64),
    /// A number within these bounds, both included.
    Between(i64, i64),
    /// One of these words; of a list, each of its elements.
    OneOf(&'static [&'static str]),
    /// gzip's levels: 1 to 9, and -1 for the default.
    GzipLevel,
    /// `*`, or replicas as partition and broker: `0:1,0:2`.
    ThrottledReplicas,
}

/// Whether a setting of a node may change while it runs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Only with a restart.
    ReadOnly,
    /// For one broker.
    PerBroker,
    /// For one broker or for the whole cluster.
    ClusterWide,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct ConfigKey {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its default as text; absent if it has none.
    pub default: Option<&'static str>,
    /// What its values must satisfy.
    pub check: Check,
    /// Whether it may change at run time.
    pub update: Update,
    /// Internal: accepted, but not described.
    pub hidden: bool,
    /// For a topic's setting: the node's setting that gives its default.
    pub server_synonym: Option<&'static str>,
}

pub(super) const fn key(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    check: Check,
    update: Update,
) -> ConfigKey {
    ConfigKey { name, kind, default, check, update, hidden: false, server_synonym: None }
}

pub(super) const fn hidden(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    check: Check,
    update: Update,
) -> ConfigKey {
    ConfigKey { name, kind, default, check, update, hidden: true, server_synonym: None }
}

/// A text that is no value of its setting. Shown as Kafka's `ConfigException` is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid value {value} for configuration {name}{}{why}", if .why.is_empty() { "" } else { ": " })]
pub struct InvalidValue {
    /// The setting.
    pub name: String,
    /// What was given.
    pub value: String,
    /// In Kafka's words.
    pub why: String,
}

/// A parsed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of the integer kinds.
    Number(i64),
    /// Of [`Kind::Double`], in millionths, saturating.
    Millionths(i64),
    /// Of the textual kinds.
    Text(String),
    /// Of [`Kind::List`].
    List(Vec<String>),
}

impl ConfigKey {
    /// Whether its value must not be told.
    pub fn sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Parses and checks a value.
    pub fn parse(&self, text: &str) -> Result<Value, InvalidValue> {
        let value = parse_kind(self.kind, text).map_err(|why| self.invalid(text, why))?;
        self.check(&value).map_err(|(shown, why)| self.invalid(&shown, why))?;
        Ok(value)
    }

    /// The text of a value as Kafka prints it after parsing: trimmed, lists without blanks.
    pub fn canonical(&self, text: &str) -> String {
        match parse_kind(self.kind, text) {
            Ok(Value::Bool(b)) => b.to_string(),
            Ok(Value::Number(n)) => n.to_string(),
            Ok(Value::List(list)) => list.join(","),
            _ => text.trim().to_string(),
        }
    }

    fn invalid(&self, value: &str, why: impl Into<String>) -> InvalidValue {
        InvalidValue { name: self.name.to_string(), value: value.to_string(), why: why.into() }
    }

    fn check(&self, value: &Value) -> Result<(), (String, String)> {
        let (low, high) = match self.check {
            Check::Any => return Ok(()),
            Check::OneOf(words) => return one_of(words, value),
            Check::ThrottledReplicas => return self.throttled_replicas(value),
            Check::AtLeast(low) => (low, i64::MAX),
            Check::Between(low, high) => (low, high),
            Check::GzipLevel => match value {
                Value::Number(-1 | 1..=9) => return Ok(()),
                other => return Err((shown(other), "Value must be between 1 and 9 or equal to -1".into())),
            },
        };
        let (number, unit) = match value {
            Value::Number(n) => (*n, 1),
            Value::Millionths(n) => (*n, 1_000_000),
            _ => return Ok(()),
        };
        if number < low.saturating_mul(unit) {
            return Err((shown(value), format!("Value must be at least {low}")));
        }
        if number > high.saturating_mul(unit) {
            return Err((shown(value), format!("Value must be no more than {high}")));
        }
        Ok(())
    }

    fn throttled_replicas(&self, value: &Value) -> Result<(), (String, String)> {
        match value {
            Value::List(list) if !is_valid_list(list.iter().map(String::as_str)) => Err((
                format!("[{}]", list.join(", ")),
                format!(
                    "{} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                    self.name
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn one_of(words: &[&str], value: &Value) -> Result<(), (String, String)> {
    let refused = match value {
        Value::Text(text) if !words.contains(&text.as_str()) => text.clone(),
        Value::List(list) => match list.iter().find(|e| !words.contains(&e.as_str())) {
            Some(element) => element.clone(),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    Err((refused, format!("String must be one of: {}", words.join(", "))))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::Millionths(n) => {
            let sign = if *n < 0 { "-" } else { "" };
            let fraction = format!("{:06}", n.unsigned_abs() % 1_000_000);
            let fraction = fraction.trim_end_matches('0');
            format!(
                "{sign}{}.{}",
                n.unsigned_abs() / 1_000_000,
                if fraction.is_empty() { "0" } else { fraction }
            )
        }
        Value::Text(text) => text.clone(),
        Value::List(list) => list.join(","),
    }
}

fn parse_kind(kind: Kind, text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    Ok(match kind {
        Kind::Bool if trimmed.eq_ignore_ascii_case("true") => Value::Bool(true),
        Kind::Bool if trimmed.eq_ignore_ascii_case("false") => Value::Bool(false),
        Kind::Bool => return Err("Expected value to be either true or false".into()),
        Kind::Int => Value::Number(trimmed.parse::<i32>().map_err(|_| "Not a number of type INT")?.into()),
        Kind::Short => {
            Value::Number(trimmed.parse::<i16>().map_err(|_| "Not a number of type SHORT")?.into())
        }
        Kind::Long => Value::Number(trimmed.parse::<i64>().map_err(|_| "Not a number of type LONG")?),
        Kind::Double => Value::Millionths(millionths(trimmed).ok_or("Not a number of type DOUBLE")?),
        Kind::List if trimmed.is_empty() => Value::List(Vec::new()),
        Kind::List => Value::List(trimmed.split(',').map(|e| e.trim().to_string()).collect()),
        Kind::Str | Kind::Class | Kind::Password => Value::Text(trimmed.to_string()),
    })
}

/// A decimal fraction, with an optional exponent, in millionths; what does not fit saturates.
fn millionths(text: &str) -> Option<i64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = whole.bytes().chain(fraction.bytes());
    if whole.len() + fraction.len() == 0 || !all.clone().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The decimal point stands `6 + exponent` digits behind the whole part once scaled to millionths.
    let keep = whole.len() as i64 + 6 + i64::from(exponent);
    let mut value: i64 = 0;
    let mut taken = 0;
    for digit in all {
        if taken >= keep {
            break;
        }
        value = value.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
        taken += 1;
    }
    for _ in 0..(keep - taken).clamp(0, 19) {
        value = value.saturating_mul(10);
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_worded_as_kafkas() {
        let int = key("min.insync.replicas", Kind::Int, None, Check::AtLeast(1), Update::ReadOnly);
        let text = |k: &ConfigKey, v: &str| k.parse(v).unwrap_err().to_string();
        assert_eq!(
            text(&int, "zero"),
            "Invalid value zero for configuration min.insync.replicas: Not a number of type INT"
        );
        assert_eq!(
            text(&int, "0"),
            "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1"
        );
        let list =
            key("cleanup.policy", Kind::List, None, Check::OneOf(&["compact", "delete"]), Update::ReadOnly);
        assert_eq!(
            text(&list, "delete, melt"),
            "Invalid value melt for configuration cleanup.policy: String must be one of: compact, delete"
        );
        assert_eq!(list.canonical(" compact , delete"), "compact,delete");
        let flag = key("preallocate", Kind::Bool, None, Check::Any, Update::ReadOnly);
        assert_eq!(
            text(&flag, "yes"),
            "Invalid value yes for configuration preallocate: Expected value to be either true or false"
        );
        let ratio = key("r", Kind::Double, None, Check::Between(0, 1), Update::ReadOnly);
        assert_eq!(
            text(&ratio, "1.5"),
            "Invalid value 1.5 for configuration r: Value must be no more than 1"
        );
        assert_eq!(ratio.parse("0.5"), Ok(Value::Millionths(500_000)));
        assert!(ratio.parse("").is_err());
    }

    #[test]
    fn fractions_are_read_without_floats() {
        for (text, want) in [
            ("0.5", Some(500_000)),
            ("1", Some(1_000_000)),
            ("-0.25", Some(-250_000)),
            ("1.7976931348623157E308", Some(i64::MAX)),
            ("5E-1", Some(500_000)),
            ("0.0000001", Some(0)),
            ("x", None),
            (".", None),
            ("1E", None),
        ] {
            assert_eq!(millionths(text), want, "{text}");
        }
    }
}

//! The settings of Kafka's clients: names, defaults, checks (`ProducerConfig`, `ConsumerConfig`, `AdminClientConfig`
//! of 4.3).
//!
//! A client's settings come as text by name. What Kafka does not know is refused with the nearest name that it does;
//! values are checked as Kafka's `ConfigDef` checks them, in its words. Settings that only concern what a state
//! machine has not (socket buffers, metrics, serializers) are accepted and mean nothing.

mod table;
mod typed;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

pub use table::{SETTINGS, Setting};
pub use typed::{
    Acks, AdminConfig, CommonConfig, ConsumerConfig, GroupProtocol, Isolation, OffsetReset, ProducerConfig,
};

/// Settings by name, as text.
pub type Settings = BTreeMap<String, String>;

/// Whose settings they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientKind {
    /// `ProducerConfig`.
    Producer,
    /// `ConsumerConfig`.
    Consumer,
    /// `AdminClientConfig`.
    Admin,
}

/// Why settings were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No client of this kind has a setting of that name.
    #[error("unknown setting {name}{}", hint(nearest))]
    Unknown {
        /// The name.
        name: String,
        /// The nearest name that is known, if any is near.
        nearest: Option<&'static str>,
    },
    /// Kafka knows the setting, these clients do not act on it.
    #[error("the setting {name} is not supported")]
    Unsupported {
        /// The name.
        name: &'static str,
    },
    /// Kafka's ConfigDef refuses the value.
    #[error("Invalid value {value} for configuration {name}: {why}")]
    Invalid {
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// In Kafka's words.
        why: String,
    },
    /// Settings that the protocol of the group rules out.
    #[error("{names} cannot be set when group.protocol={protocol}")]
    NotWithProtocol {
        /// The settings.
        names: String,
        /// The protocol.
        protocol: &'static str,
    },
    /// Settings contradict one another.
    #[error("{0}")]
    Contradiction(&'static str),
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map_or(String::new(), |name| alloc::format!("; did you mean {name}?"))
}

/// The setting of that name, if this kind of client has it.
pub fn setting(kind: ClientKind, name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name && setting.belongs_to(kind))
}

/// The names of a kind of client's settings.
pub fn names(kind: ClientKind) -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter(move |setting| setting.belongs_to(kind)).map(|setting| setting.name)
}

/// Checks one setting by itself.
pub fn check(kind: ClientKind, name: &str, value: &str) -> Result<(), ConfigError> {
    let Some(setting) = setting(kind, name) else {
        return Err(ConfigError::Unknown {
            name: name.to_string(),
            nearest: wire::nearest::nearest(name, names(kind)),
        });
    };
    setting.check(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn unknown_settings_are_refused_with_the_nearest() {
        let error = check(ClientKind::Producer, "linger.m", "5").unwrap_err();
        assert_eq!(error.to_string(), "unknown setting linger.m; did you mean linger.ms?");
        let error = check(ClientKind::Consumer, "acks", "all").unwrap_err();
        assert!(matches!(error, ConfigError::Unknown { nearest: None, .. }), "{error}");
    }

    #[test]
    fn values_are_refused_in_kafkas_words() {
        let cases = [
            ("linger.ms", "soon", "Not a number of type LONG"),
            ("batch.size", "-1", "Value must be at least 0"),
            ("acks", "2", "String must be one of: all, -1, 0, 1"),
            ("enable.idempotence", "yes", "Expected value to be either true or false"),
        ];
        for (name, value, why) in cases {
            let error = check(ClientKind::Producer, name, value).unwrap_err();
            assert_eq!(
                error.to_string(),
                alloc::format!("Invalid value {value} for configuration {name}: {why}")
            );
        }
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for setting in SETTINGS {
            if let Some(default) = setting.default {
                assert_eq!(setting.check(default).err(), None, "{}", setting.name);
            }
        }
    }

    #[test]
    fn names_are_unique_for_each_kind() {
        for kind in [ClientKind::Producer, ClientKind::Consumer, ClientKind::Admin] {
            let mut all: alloc::vec::Vec<_> = names(kind).collect();
            all.sort_unstable();
            assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{kind:?}");
        }
    }
}

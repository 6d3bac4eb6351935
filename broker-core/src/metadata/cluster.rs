//! Registrations of brokers and controllers.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::Uuid;
use wire::records::{RegisterBrokerRecord, RegisterControllerRecord};
use wire::records::{register_broker_record as broker, register_controller_record as controller};

use super::partition::directory;

/// Where a node listens, as it registered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerEndpoint {
    /// The listener's name: `PLAINTEXT`, `CONTROLLER`.
    pub name: Arc<str>,
    /// The advertised host.
    pub host: Arc<str>,
    /// The advertised port.
    pub port: u16,
    /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// The levels of a feature that a node supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureRange {
    /// The lowest level.
    pub min: i16,
    /// The highest level.
    pub max: i16,
}

impl FeatureRange {
    /// Whether a level lies in the range.
    pub fn contains(self, level: i16) -> bool {
        (self.min..=self.max).contains(&level)
    }
}

/// A broker as the controller registered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// Its id.
    pub id: i32,
    /// Its epoch: given at registration, an offset of the metadata log.
    pub epoch: i64,
    /// Drawn anew by each process.
    pub incarnation_id: Uuid,
    /// Where it listens, in the order of the registration.
    pub listeners: Vec<ListenerEndpoint>,
    /// The features that it supports.
    pub features: BTreeMap<Arc<str>, FeatureRange>,
    /// Its rack.
    pub rack: Option<Arc<str>>,
    /// Whether it is fenced: it leads nothing and is in no ISR.
    pub fenced: bool,
    /// Whether it shuts down in an orderly way.
    pub in_controlled_shutdown: bool,
    /// Its online log directories, sorted.
    pub directories: Vec<Uuid>,
    /// Log directories in which no new replica shall be put; absent from brokers that cannot say it (KIP-1066).
    pub cordoned_directories: Option<Vec<Uuid>>,
    /// The offset of the record that registered it: it is caught up once it has replayed up to here.
    pub registration_offset: i64,
}

impl BrokerRegistration {
    /// The registration that a record at `offset` states.
    pub fn from_record(record: &RegisterBrokerRecord, offset: i64) -> BrokerRegistration {
        let listeners = record.end_points.iter().map(|e| ListenerEndpoint {
            name: Arc::from(&*e.name),
            host: Arc::from(&*e.host),
            port: e.port,
            security_protocol: e.security_protocol,
        });
        let features = record.features.iter().map(|f| {
            let range = FeatureRange { min: f.min_supported_version, max: f.max_supported_version };
            (Arc::from(&*f.name), range)
        });
        let mut directories = record.log_dirs.clone();
        directories.sort_unstable();
        BrokerRegistration {
            id: record.broker_id,
            epoch: record.broker_epoch,
            incarnation_id: record.incarnation_id,
            listeners: listeners.collect(),
            features: features.collect(),
            rack: record.rack.as_deref().map(Arc::from),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            directories,
            cordoned_directories: record.cordoned_log_dirs.clone(),
            registration_offset: offset,
        }
    }

    /// The record that states this registration.
    pub fn to_record(&self) -> RegisterBrokerRecord {
        let end_points = self.listeners.iter().map(|l| broker::BrokerEndpoint {
            name: (*l.name).into(),
            host: (*l.host).into(),
            port: l.port,
            security_protocol: l.security_protocol,
        });
        let features = self.features.iter().map(|(name, range)| broker::BrokerFeature {
            name: (**name).into(),
            min_supported_version: range.min,
            max_supported_version: range.max,
        });
        RegisterBrokerRecord {
            broker_id: self.id,
            is_migrating_zk_broker: false,
            incarnation_id: self.incarnation_id,
            broker_epoch: self.epoch,
            end_points: end_points.collect(),
            features: features.collect(),
            rack: self.rack.as_deref().map(Into::into),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            log_dirs: self.directories.clone(),
            cordoned_log_dirs: self.cordoned_directories.clone(),
        }
    }

    /// Whether the broker may lead and be in ISRs: neither fenced nor shutting down.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Whether a replica in this log directory can be served.
    pub fn has_online_directory(&self, id: Uuid) -> bool {
        directory::is_online(id, &self.directories)
    }

    /// The listener with this name.
    pub fn listener(&self, name: &str) -> Option<&ListenerEndpoint> {
        self.listeners.iter().find(|l| &*l.name == name)
    }
}

/// A controller as it registered itself with the active one (KIP-919).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerRegistration {
    /// Its id.
    pub id: i32,
    /// Drawn anew by each process.
    pub incarnation_id: Uuid,
    /// Where it listens.
    pub listeners: Vec<ListenerEndpoint>,
    /// The features that it supports, in the order of the registration.
    pub features: Vec<(Arc<str>, FeatureRange)>,
}

impl ControllerRegistration {
    /// The registration that a record states.
    pub fn from_record(record: &RegisterControllerRecord) -> ControllerRegistration {
        let listeners = record.end_points.iter().map(|e| ListenerEndpoint {
            name: Arc::from(&*e.name),
            host: Arc::from(&*e.host),
            port: e.port,
            security_protocol: e.security_protocol,
        });
        let features = record.features.iter().map(|f| {
            let range = FeatureRange { min: f.min_supported_version, max: f.max_supported_version };
            (Arc::from(&*f.name), range)
        });
        ControllerRegistration {
            id: record.controller_id,
            incarnation_id: record.incarnation_id,
            listeners: listeners.collect(),
            features: features.collect(),
        }
    }

    /// The record that states this registration.
    pub fn to_record(&self) -> RegisterControllerRecord {
        let end_points = self.listeners.iter().map(|l| controller::ControllerEndpoint {
            name: (*l.name).into(),
            host: (*l.host).into(),
            port: l.port,
            security_protocol: l.security_protocol,
        });
        let features = self.features.iter().map(|(name, range)| controller::ControllerFeature {
            name: (**name).into(),
            min_supported_version: range.min,
            max_supported_version: range.max,
        });
        RegisterControllerRecord {
            controller_id: self.id,
            incarnation_id: self.incarnation_id,
            zk_migration_ready: false,
            end_points: end_points.collect(),
            features: features.collect(),
        }
    }
}

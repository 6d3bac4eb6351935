//! Brokers and controllers: registration, heartbeats, fencing, controlled shutdown, producer ids.
//! `ClusterControlManager`, and what of `ReplicationControlManager` happens to a broker as a whole.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::Uuid;
use wire::messages::*;
use wire::records::{
    BrokerRegistrationChangeRecord, MetadataRecord, ProducerIdsRecord, RegisterBrokerRecord,
    RegisterControllerRecord, UnregisterBrokerRecord, register_broker_record, register_controller_record,
};

use super::Outcome;
use super::answer::{Answer, text};
use super::error::ApiError;
use super::heartbeat::{BrokerControlState, Heartbeat};
use super::replication::Affected;
use super::state::{Env, State};
use crate::event::{ChangeReason, FenceReason};
use crate::metadata::{FeatureRange, directory, feature};
use crate::mutant::Mutant;

/// How many producer ids a broker gets at a time.
pub const PRODUCER_ID_BLOCK_SIZE: i32 = 1000;

/// A registration that was accepted.
struct Registered {
    records: Vec<MetadataRecord>,
    broker_epoch: i64,
    clean_shutdown: bool,
}

impl State {
    /// BrokerRegistration (62).
    pub fn register_broker(
        &mut self,
        env: &mut Env<'_>,
        request: &BrokerRegistrationRequest<'_>,
        version: i16,
    ) -> Outcome {
        match self.try_register_broker(env, request, version) {
            Ok(Registered { records, broker_epoch, clean_shutdown }) => {
                let response = BrokerRegistrationResponse { broker_epoch, ..Default::default() };
                let reason = ChangeReason::BrokerRegistered;
                Outcome {
                    reason,
                    clean_shutdown,
                    ..Outcome::of(records, Answer::BrokerRegistration(response))
                }
            }
            Err(error) => {
                let blank = Answer::BrokerRegistration(BrokerRegistrationResponse::default());
                Outcome::of(Vec::new(), blank.failed(&error))
            }
        }
    }

    fn try_register_broker(
        &mut self,
        env: &mut Env<'_>,
        request: &BrokerRegistrationRequest<'_>,
        version: i16,
    ) -> Result<Registered, ApiError> {
        let id = request.broker_id;
        if *request.cluster_id != *self.cluster_id {
            let text =
                format!("Expected cluster ID {}, but got cluster ID {}", self.cluster_id, request.cluster_id);
            return Err(ApiError::new(ErrorCode::INCONSISTENT_CLUSTER_ID, text));
        }
        let existing = self.image.broker(id);
        let amends = existing.is_some_and(|b| b.incarnation_id == request.incarnation_id);
        if let Some(existing) = existing.filter(|b| !amends && b.is_active()) {
            // The session of the process before lives on until it times out. A broker that comes back sooner tries
            // again until then. One that said goodbye, or is fenced already, can come back at once.
            if self.heartbeats.has_valid_session(id, existing.epoch, env.now.mono) {
                let text = "Another broker is registered with that broker id. If the broker was recently restarted \
                            this should self-resolve once the heartbeat manager expires the broker's session.";
                return Err(ApiError::new(ErrorCode::DUPLICATE_BROKER_REGISTRATION, text));
            }
        }
        if request.is_migrating_zk_broker {
            let text = "Controller does not support registering ZK brokers.";
            return Err(ApiError::new(ErrorCode::BROKER_ID_NOT_REGISTERED, text));
        }
        self.check_directories(id, &request.log_dirs)?;
        let mut record = RegisterBrokerRecord {
            broker_id: id,
            incarnation_id: request.incarnation_id,
            broker_epoch: env.next_offset,
            end_points: request.listeners.iter().map(end_point).collect(),
            features: self.check_features(request)?,
            rack: request.rack.as_deref().map(ToString::to_string),
            log_dirs: request.log_dirs.clone(),
            ..RegisterBrokerRecord::default()
        };

        let mut records = Vec::new();
        let existing_epoch = existing.map(|b| b.epoch);
        let mut clean_shutdown = true;
        if amends {
            let existing = existing.expect("an amendment amends something");
            record.fenced = existing.fenced;
            record.in_controlled_shutdown = existing.in_controlled_shutdown;
            record.broker_epoch = existing.epoch;
            record.cordoned_log_dirs.clone_from(&existing.cordoned_directories);
        } else {
            // A broker that cannot say in which epoch it stopped cleanly did not stop cleanly.
            let clean = version >= 3 && existing_epoch == Some(request.previous_broker_epoch)
                || self.mutants.has(Mutant::UncleanShutdownKeepsIsr);
            self.shut_down_records(env, id, clean, &mut records);
            clean_shutdown = clean || existing_epoch.is_none();
            if let Some(epoch) = existing_epoch {
                self.heartbeats.remove_session(id, epoch);
            }
        }
        let broker_epoch = record.broker_epoch;
        records.push(record.into());
        Ok(Registered { records, broker_epoch, clean_shutdown })
    }

    fn check_directories(&self, broker: i32, log_dirs: &[Uuid]) -> Result<(), ApiError> {
        let invalid = |text: &str| Err(ApiError::new(ErrorCode::INVALID_REGISTRATION, text));
        if log_dirs.is_empty() {
            return invalid("No directories specified in request");
        }
        if log_dirs.iter().any(|&d| directory::is_reserved(d)) {
            return invalid("Reserved directory ID in request");
        }
        if log_dirs.iter().collect::<BTreeSet<_>>().len() != log_dirs.len() {
            return invalid("Duplicate directory ID in request");
        }
        for other in self.image.brokers.values().filter(|b| b.id != broker) {
            if let Some(taken) = log_dirs.iter().find(|d| other.directories.binary_search(d).is_ok()) {
                return invalid(&format!("Broker {} is already registered with directory {taken}", other.id));
            }
        }
        Ok(())
    }

    /// The features of a broker that registers: it must support every finalized level.
    fn check_features(
        &self,
        request: &BrokerRegistrationRequest<'_>,
    ) -> Result<Vec<register_broker_record::BrokerFeature>, ApiError> {
        let finalized = &self.image.features;
        let check = |name: &str, range: FeatureRange, level: i16| {
            if range.contains(level) {
                return Ok(());
            }
            let text = format!(
                "Unable to register because the broker does not support finalized version {level} of {name}. The \
                 broker wants a version between {} and {}, inclusive.",
                range.min, range.max
            );
            Err(ApiError::new(ErrorCode::UNSUPPORTED_VERSION, text))
        };
        let mut features = Vec::new();
        for f in &request.features {
            let range = FeatureRange { min: f.min_supported_version, max: f.max_supported_version };
            // The quorum keeps the level of kraft.version itself, and this quorum does not raise it.
            let level = if f.name == feature::KRAFT_VERSION { 0 } else { finalized.level(&f.name) };
            check(&f.name, range, level)?;
            features.push(register_broker_record::BrokerFeature {
                name: f.name.to_string(),
                min_supported_version: range.min,
                max_supported_version: range.max,
            });
        }
        let states = |name: &str| request.features.iter().any(|f| f.name == name);
        if !states(feature::METADATA_VERSION) {
            let oldest =
                FeatureRange { min: feature::METADATA_VERSION_MIN, max: feature::METADATA_VERSION_MIN };
            check(feature::METADATA_VERSION, oldest, finalized.metadata_version())?;
        }
        for (name, level) in finalized.others().filter(|(name, _)| !states(name)) {
            check(name, FeatureRange { min: 0, max: 0 }, level)?;
        }
        Ok(features)
    }

    /// What becomes of the partitions of a broker whose process ended, when its successor registers.
    fn shut_down_records(&self, env: &Env<'_>, broker: i32, clean: bool, records: &mut Vec<MetadataRecord>) {
        let in_isr = self.index.with_in_isr(broker);
        if self.image.features.elr_enabled() && !clean {
            let affected = Affected { unclean_shutdown: Some(broker), ..Affected::default() };
            self.leader_and_isr_updates(env.config, affected, &in_isr, records);
            self.leader_and_isr_updates(env.config, affected, &self.index.with_in_elr(broker), records);
        } else {
            let affected = Affected { removed: Some(broker), ..Affected::default() };
            self.leader_and_isr_updates(env.config, affected, &in_isr, records);
        }
    }

    /// BrokerHeartbeat (63).
    pub fn heartbeat(&mut self, env: &mut Env<'_>, request: &BrokerHeartbeatRequest) -> Outcome {
        match self.try_heartbeat(env, request) {
            Ok(outcome) => outcome,
            Err(error) => {
                let blank = Answer::BrokerHeartbeat(BrokerHeartbeatResponse::default());
                Outcome::of(Vec::new(), blank.failed(&error))
            }
        }
    }

    fn try_heartbeat(
        &mut self,
        env: &mut Env<'_>,
        request: &BrokerHeartbeatRequest,
    ) -> Result<Outcome, ApiError> {
        let (id, epoch) = (request.broker_id, request.broker_epoch);
        let Some(registered) = self.image.broker(id) else {
            let text = format!("Receive a heartbeat from broker {id} before registration");
            return Err(ApiError::new(ErrorCode::STALE_BROKER_EPOCH, text));
        };
        let registration_offset = registered.registration_offset;
        self.check_broker_epoch(id, epoch)?;
        self.heartbeats.touch_session(id, epoch, env.now.mono);

        let heartbeat = Heartbeat {
            metadata_offset: request.current_metadata_offset,
            want_fence: request.want_fence,
            want_shut_down: request.want_shut_down,
        };
        let leads = self.index.has_leaderships(id);
        let (current, next) = self.heartbeats.next_state(id, heartbeat, registration_offset, leads);
        let mut records = Vec::new();
        let mut reason = ChangeReason::BrokerFenced;
        if current != next {
            match next {
                BrokerControlState::Fenced | BrokerControlState::ShutdownNow => {
                    self.fence_records(env, id, &mut records);
                }
                BrokerControlState::Unfenced => {
                    reason = ChangeReason::BrokerUnfenced;
                    self.unfence_records(env, id, &mut records);
                }
                BrokerControlState::ControlledShutdown => {
                    reason = ChangeReason::ControlledShutdown;
                    self.controlled_shutdown_records(env, id, &mut records);
                }
            }
        }
        let fenced = matches!(next, BrokerControlState::Fenced | BrokerControlState::ShutdownNow);
        self.heartbeats.touch(id, fenced, request.current_metadata_offset);
        if self.directory_records(env, request, &mut records) {
            reason = ChangeReason::LogDirFailure;
        }
        let response = BrokerHeartbeatResponse {
            is_caught_up: request.current_metadata_offset >= registration_offset,
            is_fenced: fenced,
            should_shut_down: next == BrokerControlState::ShutdownNow,
            ..Default::default()
        };
        let fence = if next == BrokerControlState::ShutdownNow {
            FenceReason::ShutDown
        } else {
            FenceReason::Requested
        };
        Ok(Outcome {
            reason,
            fence,
            controlled_shutdown: (next == BrokerControlState::ControlledShutdown).then_some(id),
            ..Outcome::of(records, Answer::BrokerHeartbeat(response))
        })
    }

    /// Takes a broker out of every ISR, elects, then fences it.
    pub(super) fn fence_records(&self, env: &Env<'_>, broker: i32, records: &mut Vec<MetadataRecord>) {
        let registration = self.image.broker(broker).expect("only registered brokers are fenced");
        let affected = Affected { removed: Some(broker), ..Affected::default() };
        self.leader_and_isr_updates(env.config, affected, &self.index.with_in_isr(broker), records);
        records.push(registration_change(broker, registration.epoch, |r| r.fenced = 1));
    }

    /// Unfences a broker, then elects for the partitions that nobody leads.
    fn unfence_records(&self, env: &Env<'_>, broker: i32, records: &mut Vec<MetadataRecord>) {
        let registration = self.image.broker(broker).expect("only registered brokers are unfenced");
        records.push(registration_change(broker, registration.epoch, |r| r.fenced = -1));
        let affected = Affected { added: Some(broker), ..Affected::default() };
        self.leader_and_isr_updates(env.config, affected, &self.index.leaderless(), records);
    }

    fn controlled_shutdown_records(&self, env: &Env<'_>, broker: i32, records: &mut Vec<MetadataRecord>) {
        let registration = self.image.broker(broker).expect("only registered brokers shut down");
        if !registration.in_controlled_shutdown {
            records.push(registration_change(broker, registration.epoch, |r| r.in_controlled_shutdown = 1));
        }
        let affected = Affected { removed: Some(broker), ..Affected::default() };
        self.leader_and_isr_updates(env.config, affected, &self.index.with_in_isr(broker), records);
    }

    /// What a heartbeat says of log directories: those that failed, and those that take no new replicas. Whether one
    /// failed that was online.
    fn directory_records(
        &self,
        env: &Env<'_>,
        request: &BrokerHeartbeatRequest,
        records: &mut Vec<MetadataRecord>,
    ) -> bool {
        let broker = self.image.broker(request.broker_id).expect("its heartbeat was accepted");
        let is_offline = |d: &&Uuid| request.offline_log_dirs.contains(d);
        let failed: Vec<Uuid> = broker.directories.iter().filter(is_offline).copied().collect();
        if !failed.is_empty() {
            let affected = Affected { removed: Some(broker.id), ..Affected::default() };
            for &directory in &failed {
                let hit = self.index.in_directory(directory);
                self.leader_and_isr_updates(env.config, affected, &hit, records);
            }
            let online: Vec<Uuid> = broker.directories.iter().filter(|d| !is_offline(d)).copied().collect();
            records.push(registration_change(broker.id, broker.epoch, |r| r.log_dirs = online));
        }
        if let Some(cordoned) = &request.cordoned_log_dirs {
            let mut cordoned = cordoned.clone();
            cordoned.sort_unstable();
            if broker.cordoned_directories.as_ref() != Some(&cordoned) {
                records.push(registration_change(broker.id, broker.epoch, |r| {
                    r.cordoned_log_dirs = Some(cordoned)
                }));
            }
        }
        !failed.is_empty()
    }

    /// Fences one broker whose session has expired. `None` if there is none; the broker may be fenced already, or gone.
    pub fn fence_one_stale_broker(&mut self, env: &Env<'_>) -> Option<Outcome> {
        let (id, epoch) = self.heartbeats.remove_one_expired(env.now.mono)?;
        let mut records = Vec::new();
        if self.image.broker(id).is_some_and(|b| b.epoch == epoch) {
            self.fence_records(env, id, &mut records);
            self.heartbeats.fence(id);
        }
        let outcome = Outcome::of(records, Answer::None);
        Some(Outcome { reason: ChangeReason::BrokerFenced, fence: FenceReason::SessionExpired, ..outcome })
    }

    /// UnregisterBroker (64).
    pub fn unregister_broker(&mut self, env: &Env<'_>, request: &UnregisterBrokerRequest) -> Outcome {
        let id = request.broker_id;
        let Some(registration) = self.image.broker(id) else {
            let error = format!("Broker ID {id} is not currently registered");
            let error = ApiError::new(ErrorCode::BROKER_ID_NOT_REGISTERED, error);
            let response = UnregisterBrokerResponse { error_message: None, ..Default::default() };
            return Outcome::of(Vec::new(), Answer::UnregisterBroker(response).failed(&error));
        };
        let mut records = Vec::new();
        let affected = Affected { removed: Some(id), ..Affected::default() };
        self.leader_and_isr_updates(env.config, affected, &self.index.with_in_isr(id), &mut records);
        self.leader_and_isr_updates(env.config, affected, &self.index.with_in_elr(id), &mut records);
        records.push(UnregisterBrokerRecord { broker_id: id, broker_epoch: registration.epoch }.into());
        let response = UnregisterBrokerResponse { error_message: None, ..Default::default() };
        Outcome {
            reason: ChangeReason::BrokerFenced,
            ..Outcome::of(records, Answer::UnregisterBroker(response))
        }
    }

    /// ControllerRegistration (70).
    pub fn register_controller(&mut self, request: &ControllerRegistrationRequest<'_>) -> Outcome {
        let end_points = request.listeners.iter().map(|l| register_controller_record::ControllerEndpoint {
            name: l.name.to_string(),
            host: l.host.to_string(),
            port: l.port,
            security_protocol: l.security_protocol,
        });
        let features = request.features.iter().map(|f| register_controller_record::ControllerFeature {
            name: f.name.to_string(),
            min_supported_version: f.min_supported_version,
            max_supported_version: f.max_supported_version,
        });
        let record = RegisterControllerRecord {
            controller_id: request.controller_id,
            incarnation_id: request.incarnation_id,
            zk_migration_ready: false,
            end_points: end_points.collect(),
            features: features.collect(),
        };
        let response = ControllerRegistrationResponse { error_message: text(&None), ..Default::default() };
        Outcome::of(alloc::vec![record.into()], Answer::ControllerRegistration(response))
    }

    /// AllocateProducerIds (67).
    pub fn allocate_producer_ids(&mut self, request: &AllocateProducerIdsRequest) -> Outcome {
        let (broker_id, broker_epoch) = (request.broker_id, request.broker_epoch);
        let blank = Answer::AllocateProducerIds(AllocateProducerIdsResponse::default());
        if let Err(error) = self.check_broker_epoch(broker_id, broker_epoch) {
            return Outcome::of(Vec::new(), blank.failed(&error));
        }
        let start = self.image.producer_ids.next_producer_id;
        let Some(next_producer_id) = start.checked_add(i64::from(PRODUCER_ID_BLOCK_SIZE)) else {
            return Outcome::of(Vec::new(), blank.failed(&ApiError::bare(ErrorCode::UNKNOWN_SERVER_ERROR)));
        };
        let record = ProducerIdsRecord { broker_id, broker_epoch, next_producer_id };
        let response = AllocateProducerIdsResponse {
            producer_id_start: start,
            producer_id_len: PRODUCER_ID_BLOCK_SIZE,
            ..Default::default()
        };
        Outcome::of(alloc::vec![record.into()], Answer::AllocateProducerIds(response))
    }
}

fn end_point(listener: &broker_registration_request::Listener<'_>) -> register_broker_record::BrokerEndpoint {
    register_broker_record::BrokerEndpoint {
        name: listener.name.to_string(),
        host: listener.host.to_string(),
        port: listener.port,
        security_protocol: listener.security_protocol,
    }
}

fn registration_change(
    broker_id: i32,
    broker_epoch: i64,
    set: impl FnOnce(&mut BrokerRegistrationChangeRecord),
) -> MetadataRecord {
    let mut record = BrokerRegistrationChangeRecord { broker_id, broker_epoch, ..Default::default() };
    set(&mut record);
    record.into()
}

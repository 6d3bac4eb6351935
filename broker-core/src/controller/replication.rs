//! Leaders and ISRs: what follows when brokers come and go, AlterPartition, elections by request and by timer, log
//! directories. `ReplicationControlManager`.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::Uuid;
use wire::messages::*;
use wire::records::MetadataRecord;

use super::Outcome;
use super::answer::{Answer, code_and_text, owned};
use super::error::ApiError;
use super::partition_change::Election;
use super::state::{Env, State};
use crate::config::NodeConfig;
use crate::event::ChangeReason;
use crate::metadata::{
    LeaderRecoveryState, NO_LEADER_CHANGE, PartitionRegistration, Replicas, TopicIdPartition, TopicImage,
};
use crate::mutant::Mutant;

/// The most elections that a timer makes in one go.
const MAX_ELECTIONS_PER_IMBALANCE: usize = 1_000;

/// The broker to which something happened. While records for it are made, the image still shows it as it was.
#[derive(Clone, Copy, Default)]
pub(super) struct Affected {
    /// It leaves the ISR and may not lead, though it is unfenced yet.
    pub removed: Option<i32>,
    /// It may lead, though it is fenced yet.
    pub added: Option<i32>,
    /// It leaves the ISR and the ELR and may not lead: it may have lost what it had.
    pub unclean_shutdown: Option<i32>,
}

impl State {
    /// The records that follow for some partitions from what happened to a broker.
    pub fn leader_and_isr_updates(
        &self,
        config: &NodeConfig,
        affected: Affected,
        partitions: &[TopicIdPartition],
        records: &mut Vec<MetadataRecord>,
    ) {
        let gone = |r: i32| affected.removed == Some(r) || affected.unclean_shutdown == Some(r);
        let is_active = |r: i32| !gone(r) && (affected.added == Some(r) || self.image.is_active(r));
        for &id in partitions {
            let topic = self.image.topics.topic(id.topic_id).expect("the index knows only topics that exist");
            let partition = self.image.partition(id).expect("the index knows only partitions that exist");
            let may_lead = |r: i32| is_active(r) && self.has_online_replica(partition, r);
            let default_directory = |r: i32| self.default_directory(r);
            let mut change =
                self.change_of(config, &topic.name, partition, id, &may_lead, &default_directory);
            let unclean = self.mutants.has(Mutant::UncleanAlthoughDisabled);
            if unclean || self.unclean_election_enabled(config, &topic.name) {
                change.election = Election::Unclean;
            }
            change.unclean_shutdown = affected.unclean_shutdown;
            change.isr.retain(|r| !gone(*r));
            records.extend(change.build().map(MetadataRecord::from));
        }
    }

    /// AlterPartition (56): a leader asks for another ISR.
    pub fn alter_partition(
        &mut self,
        env: &Env<'_>,
        request: &AlterPartitionRequest,
        version: i16,
    ) -> Outcome {
        let mut response = AlterPartitionResponse::default();
        if let Err(error) = self.check_broker_epoch(request.broker_id, request.broker_epoch) {
            return Outcome::of(Vec::new(), Answer::AlterPartition(response).failed(&error));
        }
        let mut records = Vec::new();
        for asked in &request.topics {
            let topic = self.image.topics.topic(asked.topic_id);
            let answer = |asked: &alter_partition_request::PartitionData| match topic {
                Some(topic) => {
                    self.alter_one(env.config, topic, request.broker_id, asked, version, &mut records)
                }
                None => refused(asked.partition_index, ErrorCode::UNKNOWN_TOPIC_ID),
            };
            let partitions = asked.partitions.iter().map(answer).collect();
            response
                .topics
                .push(alter_partition_response::TopicData { topic_id: asked.topic_id, partitions });
        }
        Outcome {
            reason: ChangeReason::AlterPartition,
            ..Outcome::of(records, Answer::AlterPartition(response))
        }
    }

    fn alter_one(
        &self,
        config: &NodeConfig,
        topic: &TopicImage,
        sender: i32,
        asked: &alter_partition_request::PartitionData,
        version: i16,
        records: &mut Vec<MetadataRecord>,
    ) -> alter_partition_response::PartitionData {
        let number = asked.partition_index;
        // Version 2 names the members alone; an epoch of -1 says that it is not known.
        let new_isr: Vec<(i32, i64)> = if version < 3 {
            asked.new_isr.iter().map(|&id| (id, -1)).collect()
        } else {
            asked.new_isr_with_epochs.iter().map(|b| (b.broker_id, b.broker_epoch)).collect()
        };
        let Some(partition) = topic.partitions.get(&number) else {
            return refused(number, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let recovery_state = match self.validate_alter_partition(partition, sender, asked, &new_isr) {
            Ok(recovery_state) => recovery_state,
            Err(code) => return refused(number, code),
        };
        let id = TopicIdPartition { topic_id: topic.id, partition: number };
        let may_lead = |r: i32| self.may_lead(partition, r);
        let default_directory = |r: i32| self.default_directory(r);
        let mut change = self.change_of(config, &topic.name, partition, id, &may_lead, &default_directory);
        if self.unclean_election_enabled(config, &topic.name) {
            change.election = Election::Unclean;
        }
        change.isr = new_isr.iter().map(|&(id, _)| id).collect();
        change.leader_recovery_state = recovery_state;
        let Some(record) = change.build() else { return altered(number, partition) };
        let after = partition.merge(&record).expect("a record made for the partition fits it");
        let leader = record.leader;
        records.push(record.into());
        // A leader cannot depose itself, except when its request ends a reassignment that takes it away. Then it is
        // told so, and the change stands all the same.
        if leader != NO_LEADER_CHANGE && leader != sender {
            return refused(number, ErrorCode::NEW_LEADER_ELECTED);
        }
        altered(number, &after)
    }

    /// Checks what a leader asks for, in Kafka's order: the first objection is the answer.
    fn validate_alter_partition(
        &self,
        partition: &PartitionRegistration,
        sender: i32,
        asked: &alter_partition_request::PartitionData,
        new_isr: &[(i32, i64)],
    ) -> Result<LeaderRecoveryState, ErrorCode> {
        // A leader that knows more than this controller shows that there is a newer controller.
        if asked.leader_epoch > partition.leader_epoch || asked.partition_epoch > partition.partition_epoch {
            return Err(ErrorCode::NOT_CONTROLLER);
        }
        if asked.leader_epoch < partition.leader_epoch {
            return Err(ErrorCode::FENCED_LEADER_EPOCH);
        }
        if sender != partition.leader {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if asked.partition_epoch < partition.partition_epoch {
            return Err(ErrorCode::INVALID_UPDATE_VERSION);
        }
        let members: BTreeSet<i32> = new_isr.iter().map(|&(id, _)| id).collect();
        let is_replica = |id: &i32| partition.replicas.contains(id);
        if members.is_empty() || members.len() != new_isr.len() || !members.iter().all(is_replica) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if !members.contains(&partition.leader) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let Some(state) = LeaderRecoveryState::from_value(asked.leader_recovery_state) else {
            return Err(ErrorCode::INVALID_REQUEST);
        };
        if state == LeaderRecoveryState::Recovering
            && (members.len() > 1 || partition.leader_recovery_state == LeaderRecoveryState::Recovered)
        {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let any_goes = self.mutants.has(Mutant::StaleReplicaJoins);
        if !any_goes && new_isr.iter().any(|&(id, epoch)| !self.is_eligible_for_isr(id, epoch)) {
            return Err(ErrorCode::INELIGIBLE_REPLICA);
        }
        Ok(state)
    }

    /// Whether a broker may join an ISR (KIP-841), in this epoch of it (KIP-903).
    ///
    /// Why the epoch: broker 2 fetches, catches up, is killed, loses its disk and registers anew; only now the leader's
    /// request arrives that takes the old 2 into the ISR. Without the epoch, the empty 2 would be in it.
    fn is_eligible_for_isr(&self, broker: i32, epoch: i64) -> bool {
        let eligible =
            |b: &crate::metadata::BrokerRegistration| b.is_active() && (epoch == -1 || epoch == b.epoch);
        self.image.broker(broker).is_some_and(eligible)
    }

    /// ElectLeaders (43).
    pub fn elect_leaders(&mut self, env: &Env<'_>, request: &ElectLeadersRequest<'_>) -> Outcome {
        let election = match request.election_type {
            0 => Election::Preferred,
            1 => Election::Unclean,
            other => {
                let error = format!("Unknown election type {other}");
                let error = ApiError::new(ErrorCode::INVALID_REQUEST, error);
                let blank = Answer::ElectLeaders(ElectLeadersResponse::default());
                return Outcome::of(Vec::new(), blank.failed(&error));
            }
        };
        let mut records = Vec::new();
        let mut results: Vec<elect_leaders_response::ReplicaElectionResult<'static>> = Vec::new();
        let result = |partition_id: i32, outcome: &Result<(), ApiError>| {
            let (error_code, error_message) = code_and_text(outcome);
            elect_leaders_response::PartitionResult { partition_id, error_code, error_message }
        };
        match &request.topic_partitions {
            // Of all partitions, those that need no election are not even mentioned.
            None => {
                for topic in self.image.topics.iter_by_name() {
                    let elect = |&number| {
                        let outcome =
                            self.elect_leader(env.config, &topic.name, number, election, &mut records);
                        let needed =
                            outcome.as_ref().err().map(|e| e.code) != Some(ErrorCode::ELECTION_NOT_NEEDED);
                        needed.then(|| result(number, &outcome))
                    };
                    let partition_result = topic.partitions.keys().filter_map(elect).collect();
                    let topic = owned(&topic.name);
                    results.push(elect_leaders_response::ReplicaElectionResult { topic, partition_result });
                }
            }
            Some(topics) => {
                for asked in topics {
                    let elect = |&number| {
                        let outcome =
                            self.elect_leader(env.config, &asked.topic, number, election, &mut records);
                        result(number, &outcome)
                    };
                    let partition_result = asked.partitions.iter().map(elect).collect();
                    let topic = owned(&asked.topic);
                    results.push(elect_leaders_response::ReplicaElectionResult { topic, partition_result });
                }
            }
        }
        let response = ElectLeadersResponse { replica_election_results: results, ..Default::default() };
        Outcome { reason: reason_of(election), ..Outcome::of(records, Answer::ElectLeaders(response)) }
    }

    fn elect_leader(
        &self,
        config: &NodeConfig,
        topic_name: &str,
        number: i32,
        election: Election,
        records: &mut Vec<MetadataRecord>,
    ) -> Result<(), ApiError> {
        let unknown = |text| ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, text);
        let topic = self.image.topics.topic_named(topic_name);
        let topic = topic.ok_or_else(|| unknown(format!("No such topic as {topic_name}")))?;
        let partition = topic.partitions.get(&number);
        let partition =
            partition.ok_or_else(|| unknown(format!("No such partition as {topic_name}-{number}")))?;
        let needed = match election {
            Election::Preferred => !partition.has_preferred_leader(),
            Election::Online | Election::Unclean => !partition.has_leader(),
        };
        if !needed {
            return Err(ApiError::standard(ErrorCode::ELECTION_NOT_NEEDED));
        }
        let id = TopicIdPartition { topic_id: topic.id, partition: number };
        let may_lead = |r: i32| self.may_lead(partition, r);
        let default_directory = |r: i32| self.default_directory(r);
        let mut change = self.change_of(config, topic_name, partition, id, &may_lead, &default_directory);
        change.election = election;
        match change.build() {
            Some(record) => {
                records.push(record.into());
                Ok(())
            }
            None if election == Election::Preferred => {
                Err(ApiError::standard(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE))
            }
            None => Err(ApiError::standard(ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE)),
        }
    }

    /// Gives leadership back to preferred replicas: every `leader.imbalance.check.interval.seconds`. Whether there may
    /// be more to do at once.
    pub fn balance_leaders(&self, env: &Env<'_>) -> (Outcome, bool) {
        let mut records = Vec::new();
        for id in self.index.imbalanced() {
            if records.len() >= MAX_ELECTIONS_PER_IMBALANCE {
                break;
            }
            let topic = self.image.topics.topic(id.topic_id).expect("the index knows only topics that exist");
            let partition = self.image.partition(id).expect("the index knows only partitions that exist");
            let may_lead = |r: i32| self.may_lead(partition, r);
            let default_directory = |r: i32| self.default_directory(r);
            let mut change =
                self.change_of(env.config, &topic.name, partition, id, &may_lead, &default_directory);
            change.election = Election::Preferred;
            records.extend(change.build().map(MetadataRecord::from));
        }
        let more = records.len() >= MAX_ELECTIONS_PER_IMBALANCE;
        let reason = ChangeReason::PreferredElection;
        (Outcome { reason, ..Outcome::of(records, Answer::None) }, more)
    }

    /// Elects for partitions without a leader whose topics prefer an unclean leader to none: every
    /// `unclean.leader.election.interval.ms`. Whether there may be more to do at once.
    pub fn elect_unclean_leaders(&self, env: &Env<'_>) -> (Outcome, bool) {
        let mut records = Vec::new();
        for id in self.index.leaderless() {
            if records.len() >= MAX_ELECTIONS_PER_IMBALANCE {
                break;
            }
            let topic = self.image.topics.topic(id.topic_id).expect("the index knows only topics that exist");
            if self.unclean_election_enabled(env.config, &topic.name) {
                // Nobody asked, so nobody is told that nobody could be elected.
                let elected =
                    self.elect_leader(env.config, &topic.name, id.partition, Election::Unclean, &mut records);
                drop(elected);
            }
        }
        let more = records.len() >= MAX_ELECTIONS_PER_IMBALANCE;
        let reason = ChangeReason::UncleanElection;
        (Outcome { reason, ..Outcome::of(records, Answer::None) }, more)
    }

    /// AssignReplicasToDirs (73): a broker says in which log directories its replicas are (KIP-858).
    pub fn assign_replicas_to_dirs(
        &mut self,
        env: &Env<'_>,
        request: &AssignReplicasToDirsRequest,
    ) -> Outcome {
        let mut response = AssignReplicasToDirsResponse::default();
        let broker = match self.check_broker_epoch(request.broker_id, request.broker_epoch) {
            Ok(broker) => broker,
            Err(error) => {
                return Outcome::of(Vec::new(), Answer::AssignReplicasToDirs(response).failed(&error));
            }
        };
        let mut records = Vec::new();
        let mut went_offline = BTreeSet::new();
        for asked in &request.directories {
            let offline = !broker.has_online_directory(asked.id);
            let mut topics = Vec::new();
            for topic in &asked.topics {
                let answer = |partition: &assign_replicas_to_dirs_request::PartitionData| {
                    let id =
                        TopicIdPartition { topic_id: topic.topic_id, partition: partition.partition_index };
                    let outcome = self.assign_replica(env.config, id, broker.id, asked.id, &mut records);
                    if offline && outcome.is_none() {
                        went_offline.insert(id);
                    }
                    assign_replicas_to_dirs_response::PartitionData {
                        partition_index: id.partition,
                        error_code: outcome.unwrap_or(ErrorCode::NONE).0,
                    }
                };
                let partitions = topic.partitions.iter().map(answer).collect();
                topics.push(assign_replicas_to_dirs_response::TopicData {
                    topic_id: topic.topic_id,
                    partitions,
                });
            }
            response
                .directories
                .push(assign_replicas_to_dirs_response::DirectoryData { id: asked.id, topics });
        }
        let went_offline: Vec<_> = went_offline.into_iter().collect();
        let affected = Affected { removed: Some(broker.id), ..Affected::default() };
        self.leader_and_isr_updates(env.config, affected, &went_offline, &mut records);
        let answer = Answer::AssignReplicasToDirs(response);
        let failed = !went_offline.is_empty();
        let reason = if failed { ChangeReason::LogDirFailure } else { ChangeReason::DirectoryAssigned };
        Outcome { reason, ..Outcome::of(records, answer) }
    }

    fn assign_replica(
        &self,
        config: &NodeConfig,
        id: TopicIdPartition,
        broker: i32,
        directory: Uuid,
        records: &mut Vec<MetadataRecord>,
    ) -> Option<ErrorCode> {
        let Some(topic) = self.image.topics.topic(id.topic_id) else {
            return Some(ErrorCode::UNKNOWN_TOPIC_ID);
        };
        let Some(partition) = topic.partitions.get(&id.partition) else {
            return Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        if !partition.replicas.contains(&broker) {
            return Some(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        let may_lead = |r: i32| self.may_lead(partition, r);
        let default_directory = |r: i32| self.default_directory(r);
        let mut change = self.change_of(config, &topic.name, partition, id, &may_lead, &default_directory);
        change.directory = Some((broker, directory));
        records.extend(change.build().map(MetadataRecord::from));
        None
    }
}

/// What events give as the reason of a change that an election made.
fn reason_of(election: Election) -> ChangeReason {
    match election {
        Election::Preferred => ChangeReason::PreferredElection,
        Election::Online | Election::Unclean => ChangeReason::UncleanElection,
    }
}

fn refused(partition_index: i32, code: ErrorCode) -> alter_partition_response::PartitionData {
    alter_partition_response::PartitionData { partition_index, error_code: code.0, ..Default::default() }
}

fn altered(
    partition_index: i32,
    partition: &PartitionRegistration,
) -> alter_partition_response::PartitionData {
    alter_partition_response::PartitionData {
        partition_index,
        error_code: ErrorCode::NONE.0,
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        isr: partition.isr.to_vec(),
        leader_recovery_state: partition.leader_recovery_state.value(),
        partition_epoch: partition.partition_epoch,
    }
}

/// The active ones among replicas, in their order: the ISR of a new partition.
pub(super) fn active_of(state: &State, replicas: &[i32]) -> Replicas {
    replicas.iter().copied().filter(|&r| state.image.is_active(r)).collect()
}

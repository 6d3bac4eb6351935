//! Transactions as an operator sees them: listTransactions, describeTransactions, describeProducers, abortTransaction,
//! forceTerminateTransaction.
//!
//! Lists are put together from all brokers. What concerns a transactional id goes to its coordinator, what concerns a
//! partition to its leader (or to the broker that was named); both are looked up again when they have moved.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::Now;
use wire::error::ErrorCode;
use wire::messages::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use wire::messages::describe_transactions_request::DescribeTransactionsRequest;
use wire::messages::find_coordinator_request::FindCoordinatorRequest;
use wire::messages::init_producer_id_request::InitProducerIdRequest;
use wire::messages::list_transactions_request::ListTransactionsRequest;
use wire::messages::metadata_request::MetadataRequest;
use wire::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};

use super::leaders;
use super::{Admin, AdminResult, Answer, CallId, Each, Link, NextRequest, Op, Route, Step, all_failed};
use crate::error::ClientError;
use crate::event::TopicPartition;

/// `FindCoordinatorRequest.CoordinatorType.TRANSACTION`.
const TRANSACTION: i8 = 1;

/// Which transactions `listTransactions` tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionFilter {
    /// Those of these producers; of all if there are none.
    pub producer_ids: Vec<i64>,
    /// Those that have been running for longer, in milliseconds; all if it is negative.
    pub longer_than_ms: i64,
    /// Those whose id this regular expression describes.
    pub pattern: Option<String>,
}

impl Default for TransactionFilter {
    fn default() -> TransactionFilter {
        TransactionFilter { producer_ids: Vec::new(), longer_than_ms: -1, pattern: None }
    }
}

/// A transactional id of `listTransactions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionListing {
    /// The transactional id.
    pub id: String,
    /// Its producer.
    pub producer_id: i64,
    /// The state, as the broker calls it.
    pub state: String,
}

/// A transactional id of `describeTransactions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDescription {
    /// Its coordinator.
    pub coordinator: i32,
    /// The state, as the broker calls it.
    pub state: String,
    /// Its producer.
    pub producer_id: i64,
    /// That producer's epoch.
    pub producer_epoch: i16,
    /// After how long the coordinator aborts its transactions.
    pub timeout_ms: i32,
    /// When its last transaction began, by the coordinator's clock.
    pub started_ms: Option<i64>,
    /// The partitions that have no marker yet.
    pub partitions: Vec<TopicPartition>,
}

/// A producer of `describeProducers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i32,
    /// The last sequence number of its records; -1 if there is none.
    pub last_sequence: i32,
    /// The timestamp of its last batch.
    pub last_timestamp: i64,
    /// The epoch of the coordinator that wrote its last marker.
    pub coordinator_epoch: Option<i32>,
    /// Where its open transaction begins.
    pub transaction_start: Option<i64>,
}

/// Which transaction `abortTransaction` ends on a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbortSpec {
    /// The partition.
    pub partition: TopicPartition,
    /// The producer.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// In the name of which coordinator epoch.
    pub coordinator_epoch: i32,
}

impl core::fmt::Display for AbortSpec {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "AbortTransactionSpec(topicPartition={}, producerId={}, producerEpoch={}, coordinatorEpoch={})",
            self.partition, self.producer_id, self.producer_epoch, self.coordinator_epoch
        )
    }
}

impl Admin {
    /// The transactional ids that coordinators know, by coordinator.
    pub fn list_transactions(&mut self, now: Now, filter: TransactionFilter) -> CallId {
        self.begin(now, "listTransactions(api=METADATA)", Route::Any, Box::new(FindBrokers { filter }))
    }

    /// Where transactions stand, by transactional id.
    pub fn describe_transactions(&mut self, now: Now, ids: &[String]) -> CallId {
        self.of_ids(now, ids, ByCoordinator::Describe)
    }

    /// Fences the producer of a transactional id off, which ends its transaction.
    pub fn force_terminate_transaction(&mut self, now: Now, id: &str) -> CallId {
        self.of_ids(now, &[id.into()], ByCoordinator::Fence)
    }

    fn of_ids(&mut self, now: Now, ids: &[String], wanted: ByCoordinator) -> CallId {
        if ids.is_empty() {
            return self.begin_done(wanted.nothing());
        }
        self.begin_all(now, ids.iter().map(|id| wanted.lookup(id.clone())).collect())
    }

    /// The producers that a replica of each partition knows: its leader, or the broker that is named.
    pub fn describe_producers(
        &mut self,
        now: Now,
        partitions: Vec<TopicPartition>,
        broker: Option<i32>,
    ) -> CallId {
        if partitions.is_empty() {
            return self.begin_done(AdminResult::Producers(BTreeMap::new()));
        }
        let wanted = ByLeader::Producers { broker };
        let first = match broker {
            Some(broker) => wanted.fulfil(broker, partitions),
            None => wanted.lookup(partitions),
        };
        self.begin_all(now, vec![first])
    }

    /// Writes the marker of an abort into a partition whose transaction hangs.
    pub fn abort_transaction(&mut self, now: Now, spec: AbortSpec) -> CallId {
        let partitions = vec![spec.partition.clone()];
        self.begin_all(now, vec![ByLeader::Abort(spec).lookup(partitions)])
    }
}

// --- listing

/// Which brokers are there?
#[derive(Clone)]
struct FindBrokers {
    filter: TransactionFilter,
}

impl Op for FindBrokers {
    fn key(&self) -> ApiKey {
        ApiKey::Metadata
    }

    fn send(&self, link: Link<'_>) {
        link.send(&MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<MetadataRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.brokers.is_empty() {
            return Step::Failed(ClientError::from_code(ErrorCode::BROKER_NOT_AVAILABLE, None));
        }
        let list = |broker: i32| NextRequest {
            name: "listTransactions(api=LIST_TRANSACTIONS)".into(),
            route: Route::Node(broker),
            op: Box::new(ListTransactions { broker, filter: self.filter.clone() }),
        };
        let next = response.brokers.iter().map(|broker| list(broker.node_id)).collect();
        Step::Next { known: None, next, after_error: false }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Transactions(Err(error))
    }
}

#[derive(Clone)]
struct ListTransactions {
    broker: i32,
    filter: TransactionFilter,
}

impl Op for ListTransactions {
    fn key(&self) -> ApiKey {
        ApiKey::ListTransactions
    }

    fn send(&self, link: Link<'_>) {
        let (with_duration, with_pattern) = (link.version >= 1, link.version >= 2);
        link.send(&ListTransactionsRequest {
            state_filters: Vec::new(),
            producer_id_filters: self.filter.producer_ids.clone(),
            duration_filter: if with_duration { self.filter.longer_than_ms } else { -1 },
            transactional_id_pattern: self
                .filter
                .pattern
                .as_deref()
                .filter(|_| with_pattern)
                .map(Cow::Borrowed),
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<ListTransactionsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        match ErrorCode(response.error_code) {
            ErrorCode::NONE => {}
            code @ (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS | ErrorCode::COORDINATOR_NOT_AVAILABLE) => {
                return Step::Failed(ClientError::from_code(code, None));
            }
            code => {
                let text = format!(
                    "ListTransactions request sent to broker {} failed with an unexpected exception",
                    self.broker
                );
                return Step::Failed(ClientError::from_code(code, Some(&text)));
            }
        }
        let listing = |told: &wire::messages::list_transactions_response::TransactionState<'_>| {
            let (id, state) = (told.transactional_id.to_string(), told.transaction_state.to_string());
            TransactionListing { id, producer_id: told.producer_id, state }
        };
        let listings = response.transaction_states.iter().map(listing).collect();
        Step::Done(AdminResult::Transactions(Ok(BTreeMap::from([(self.broker, listings)]))))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Transactions(Err(error))
    }
}

// --- one transactional id

/// What is wanted of the coordinator of a transactional id.
#[derive(Clone, Copy)]
enum ByCoordinator {
    Describe,
    Fence,
}

impl ByCoordinator {
    fn name(self, api: &str) -> String {
        let call = match self {
            ByCoordinator::Describe => "describeTransactions",
            ByCoordinator::Fence => "fenceProducer",
        };
        format!("{call}(api={api})")
    }

    fn nothing(self) -> AdminResult {
        match self {
            ByCoordinator::Describe => AdminResult::TransactionDescriptions(BTreeMap::new()),
            ByCoordinator::Fence => AdminResult::Done(BTreeMap::new()),
        }
    }

    fn lookup(self, id: String) -> NextRequest {
        let op = Box::new(FindCoordinator { id, wanted: self });
        NextRequest { name: self.name("FIND_COORDINATOR"), route: Route::Any, op }
    }

    fn fulfil(self, id: String, coordinator: i32) -> NextRequest {
        let (name, op): (String, Box<dyn Op>) = match self {
            ByCoordinator::Describe => {
                (self.name("DESCRIBE_TRANSACTIONS"), Box::new(Describe { id, coordinator }))
            }
            ByCoordinator::Fence => (self.name("INIT_PRODUCER_ID"), Box::new(Fence { id })),
        };
        NextRequest { name, route: Route::Node(coordinator), op }
    }

    fn failed(self, id: &str, error: ClientError) -> AdminResult {
        match self {
            ByCoordinator::Describe => {
                AdminResult::TransactionDescriptions(BTreeMap::from([(id.into(), Err(error))]))
            }
            ByCoordinator::Fence => AdminResult::Done(BTreeMap::from([(id.into(), Err(error))])),
        }
    }

    /// What an error of the coordinator means; `request` is how Java's exception calls what it answers.
    fn error(self, id: &str, code: ErrorCode, request: &str) -> Step {
        let why = match code {
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                return Step::Next { known: None, next: vec![self.lookup(id.into())], after_error: true };
            }
            code if code.retriable() => return Step::Failed(ClientError::from_code(code, None)),
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
                "due to authorization failure"
            }
            ErrorCode::TRANSACTIONAL_ID_NOT_FOUND => "because the ID could not be found",
            _ => "due to unexpected error",
        };
        let text = format!("{request} request for transactionalId `{id}` failed {why}");
        Step::Failed(ClientError::from_code(code, Some(&text)))
    }
}

/// Who coordinates this transactional id?
#[derive(Clone)]
struct FindCoordinator {
    id: String,
    wanted: ByCoordinator,
}

impl Op for FindCoordinator {
    fn key(&self) -> ApiKey {
        ApiKey::FindCoordinator
    }

    fn send(&self, link: Link<'_>) {
        link.send(&FindCoordinatorRequest {
            key_type: TRANSACTION,
            coordinator_keys: vec![Cow::Owned(self.id.clone())],
            ..FindCoordinatorRequest::default()
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<FindCoordinatorRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let Some(found) = response.coordinators.iter().find(|found| found.key == self.id) else {
            return Step::Failed(ClientError::from_code(ErrorCode::COORDINATOR_NOT_AVAILABLE, None));
        };
        if found.error_code != 0 {
            let message = found.error_message.as_deref().filter(|text| !text.is_empty());
            return Step::Failed(ClientError::from_code(ErrorCode(found.error_code), message));
        }
        let next = vec![self.wanted.fulfil(self.id.clone(), found.node_id)];
        Step::Next { known: None, next, after_error: false }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        self.wanted.failed(&self.id, error)
    }
}

#[derive(Clone)]
struct Describe {
    id: String,
    coordinator: i32,
}

impl Op for Describe {
    fn key(&self) -> ApiKey {
        ApiKey::DescribeTransactions
    }

    fn send(&self, link: Link<'_>) {
        let transactional_ids = vec![Cow::Borrowed(&*self.id)];
        link.send(&DescribeTransactionsRequest { transactional_ids });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DescribeTransactionsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let Some(told) = response.transaction_states.iter().find(|told| told.transactional_id == self.id)
        else {
            return Step::Failed(ClientError::kafka("The coordinator answered another transactional id"));
        };
        if told.error_code != 0 {
            let code = ErrorCode(told.error_code);
            return ByCoordinator::Describe.error(&self.id, code, "DescribeTransactions");
        }
        let partitions = told.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|&number| TopicPartition::new(topic.topic.as_ref(), number))
        });
        let description = TransactionDescription {
            coordinator: self.coordinator,
            state: told.transaction_state.to_string(),
            producer_id: told.producer_id,
            producer_epoch: told.producer_epoch,
            timeout_ms: told.transaction_timeout_ms,
            started_ms: (told.transaction_start_time_ms >= 0).then_some(told.transaction_start_time_ms),
            partitions: partitions.collect(),
        };
        let each = BTreeMap::from([(self.id.clone(), Ok(description))]);
        Step::Done(AdminResult::TransactionDescriptions(each))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        ByCoordinator::Describe.failed(&self.id, error)
    }
}

/// A new producer of the id: whoever has it now is fenced off.
#[derive(Clone)]
struct Fence {
    id: String,
}

impl Op for Fence {
    fn key(&self) -> ApiKey {
        ApiKey::InitProducerId
    }

    fn send(&self, link: Link<'_>) {
        let transaction_timeout_ms = link.timeout_ms();
        link.send(&InitProducerIdRequest {
            transactional_id: Some(Cow::Borrowed(&*self.id)),
            transaction_timeout_ms,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<InitProducerIdRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        match ErrorCode(response.error_code) {
            ErrorCode::NONE => Step::Done(AdminResult::Done(BTreeMap::from([(self.id.clone(), Ok(()))]))),
            code => ByCoordinator::Fence.error(&self.id, code, "InitProducerId"),
        }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        ByCoordinator::Fence.failed(&self.id, error)
    }
}

// --- partitions

/// What is wanted of a partition's leader.
#[derive(Clone)]
enum ByLeader {
    Producers { broker: Option<i32> },
    Abort(AbortSpec),
}

impl ByLeader {
    fn name(&self, api: &str) -> String {
        match self {
            ByLeader::Producers { .. } => format!("describeProducers(api={api})"),
            ByLeader::Abort(_) => format!("abortTransaction(api={api})"),
        }
    }

    fn lookup(&self, partitions: Vec<TopicPartition>) -> NextRequest {
        let op = Box::new(FindLeaders { wanted: self.clone(), partitions });
        NextRequest { name: self.name("METADATA"), route: Route::Any, op }
    }

    fn fulfil(&self, node: i32, partitions: Vec<TopicPartition>) -> NextRequest {
        let (name, op): (String, Box<dyn Op>) = match self {
            ByLeader::Producers { broker } => {
                (self.name("DESCRIBE_PRODUCERS"), Box::new(Producers { broker: *broker, partitions }))
            }
            ByLeader::Abort(spec) => (self.name("WRITE_TXN_MARKERS"), Box::new(Abort { spec: spec.clone() })),
        };
        NextRequest { name, route: Route::Node(node), op }
    }

    fn all_failed(&self, partitions: &[TopicPartition], error: &ClientError) -> AdminResult {
        let partitions = partitions.iter().cloned();
        match self {
            ByLeader::Producers { .. } => AdminResult::Producers(all_failed(partitions, error)),
            ByLeader::Abort(_) => AdminResult::Partitions(Ok(all_failed(partitions, error))),
        }
    }
}

/// Who leads these partitions?
#[derive(Clone)]
struct FindLeaders {
    wanted: ByLeader,
    partitions: Vec<TopicPartition>,
}

impl Op for FindLeaders {
    fn key(&self) -> ApiKey {
        ApiKey::Metadata
    }

    fn send(&self, link: Link<'_>) {
        leaders::ask(self.partitions.iter(), link);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<MetadataRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let mut by_leader: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for partition in &self.partitions {
            match leaders::leader_of(&response, partition) {
                Ok(leader) => by_leader.entry(leader).or_default().push(partition.clone()),
                // What is not there may be on its way; all are looked up together again.
                Err(code) => return Step::Failed(ClientError::from_code(code, None)),
            }
        }
        let next = by_leader.into_iter().map(|(leader, of_it)| self.wanted.fulfil(leader, of_it)).collect();
        Step::Next { known: None, next, after_error: false }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        self.wanted.all_failed(&self.partitions, &error)
    }
}

#[derive(Clone)]
struct Producers {
    broker: Option<i32>,
    partitions: Vec<TopicPartition>,
}

impl Producers {
    /// What an answer for a partition says; nothing if it has to be asked again.
    fn told(
        &self,
        partition: &TopicPartition,
        told: &wire::messages::describe_producers_response::PartitionResponse<'_>,
    ) -> Option<Result<Vec<ProducerInfo>, ClientError>> {
        let why = match (ErrorCode(told.error_code), self.broker) {
            (ErrorCode::NONE, _) => return Some(Ok(told.active_producers.iter().map(producer).collect())),
            (ErrorCode::NOT_LEADER_OR_FOLLOWER, Some(broker)) => format!(" on brokerId {broker}"),
            (ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, _) => return None,
            (ErrorCode::TOPIC_AUTHORIZATION_FAILED, _) => {
                format!(" due to authorization failure on topic `{}`", partition.topic)
            }
            _ => " due to unexpected error".into(),
        };
        let text = format!("Failed to describe active producers for partition {partition}{why}");
        Some(Err(ClientError::from_code(ErrorCode(told.error_code), Some(&text))))
    }
}

impl Op for Producers {
    fn key(&self) -> ApiKey {
        ApiKey::DescribeProducers
    }

    fn send(&self, link: Link<'_>) {
        let mut topics: Vec<TopicRequest<'_>> = Vec::new();
        for partition in &self.partitions {
            match topics.iter_mut().find(|topic| topic.name == *partition.topic) {
                Some(topic) => topic.partition_indexes.push(partition.partition),
                None => topics.push(TopicRequest {
                    name: Cow::Borrowed(&*partition.topic),
                    partition_indexes: vec![partition.partition],
                }),
            }
        }
        link.send(&DescribeProducersRequest { topics });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DescribeProducersRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let mut known: Each<TopicPartition, Vec<ProducerInfo>> = BTreeMap::new();
        for topic in &response.topics {
            for told in &topic.partitions {
                let partition = TopicPartition::new(topic.name.as_ref(), told.partition_index);
                if self.partitions.contains(&partition)
                    && let Some(result) = self.told(&partition, told)
                {
                    known.insert(partition, result);
                }
            }
        }
        self.partitions.retain(|partition| !known.contains_key(partition));
        let known = AdminResult::Producers(known);
        if self.partitions.is_empty() {
            return Step::Done(known);
        }
        let (wanted, left) = (ByLeader::Producers { broker: self.broker }, self.partitions.clone());
        let next = match self.broker {
            Some(broker) => wanted.fulfil(broker, left),
            None => wanted.lookup(left),
        };
        Step::Next { known: Some(known), next: vec![next], after_error: true }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Producers(all_failed(self.partitions.iter().cloned(), &error))
    }
}

fn producer(told: &wire::messages::describe_producers_response::ProducerState) -> ProducerInfo {
    ProducerInfo {
        id: told.producer_id,
        epoch: told.producer_epoch,
        last_sequence: told.last_sequence,
        last_timestamp: told.last_timestamp,
        coordinator_epoch: (told.coordinator_epoch >= 0).then_some(told.coordinator_epoch),
        transaction_start: (told.current_txn_start_offset >= 0).then_some(told.current_txn_start_offset),
    }
}

#[derive(Clone)]
struct Abort {
    spec: AbortSpec,
}

impl Op for Abort {
    fn key(&self) -> ApiKey {
        ApiKey::WriteTxnMarkers
    }

    fn send(&self, link: Link<'_>) {
        let spec = &self.spec;
        let topic = WritableTxnMarkerTopic {
            name: Cow::Borrowed(&*spec.partition.topic),
            partition_indexes: vec![spec.partition.partition],
        };
        let marker = WritableTxnMarker {
            producer_id: spec.producer_id,
            producer_epoch: spec.producer_epoch,
            transaction_result: false,
            topics: vec![topic],
            coordinator_epoch: spec.coordinator_epoch,
            ..WritableTxnMarker::default()
        };
        link.send(&WriteTxnMarkersRequest { markers: vec![marker] });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<WriteTxnMarkersRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let spec = &self.spec;
        let told = response.markers.iter().flat_map(|marker| &marker.topics).find_map(|topic| {
            let own = topic.name == *spec.partition.topic;
            topic.partitions.iter().find(|p| own && p.partition_index == spec.partition.partition)
        });
        let Some(told) = told else {
            let text = format!("WriteTxnMarkers response does not contain the partition {}", spec.partition);
            return Step::Failed(ClientError::kafka(text));
        };
        let code = ErrorCode(told.error_code);
        let why = match code {
            ErrorCode::NONE => {
                let done = BTreeMap::from([(spec.partition.clone(), Ok(()))]);
                return Step::Done(AdminResult::Partitions(Ok(done)));
            }
            ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::REPLICA_NOT_AVAILABLE
            | ErrorCode::BROKER_NOT_AVAILABLE
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                let next = vec![ByLeader::Abort(spec.clone()).lookup(vec![spec.partition.clone()])];
                return Step::Next { known: None, next, after_error: true };
            }
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED => "due to cluster authorization error".into(),
            ErrorCode::INVALID_PRODUCER_EPOCH => "due an invalid producer epoch".into(),
            ErrorCode::TRANSACTION_COORDINATOR_FENCED => format!(
                "since the provided coordinator epoch {} has been fenced by the active coordinator",
                spec.coordinator_epoch
            ),
            code => format!("due to unexpected error: {}", code.message()),
        };
        let text = format!("WriteTxnMarkers request with {spec} failed {why}");
        Step::Failed(ClientError::from_code(code, Some(&text)))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Partitions(Ok(all_failed([self.spec.partition.clone()], &error)))
    }
}

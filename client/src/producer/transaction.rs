//! Transactions (KIP-98, KIP-447, KIP-890): the part of `TransactionManager.java` that is about them.
//!
//! A transactional producer has an id that outlives it: InitProducerId at the id's coordinator ends what an earlier
//! producer left open and fences it off. From then on records and consumed offsets go into transactions that the
//! coordinator commits or aborts as a whole. With `transaction.version` 2 partitions join a transaction when they are
//! written to, and every end of a transaction raises the epoch, so that nothing of it can come late. In clusters of an
//! older version they join by request: `joining`.
//!
//! The owner asks for one thing at a time ([`Producer::init_transactions`], [`Producer::send_offsets`],
//! [`Producer::end_transaction`]), as an application's thread blocks, and is told by
//! [`Producer::take_transaction_result`] how it ended. After an error that [`Producer::must_abort`] tells of, the
//! transaction can only be aborted; after one that [`Producer::error`] tells of, only another producer helps.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use wire::drive::{Instant, Nanos};
use wire::error::ErrorCode;
use wire::messages::api_versions_response::ApiVersionsResponse;
use wire::messages::find_coordinator_request::FindCoordinatorRequest;
use wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use wire::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest,
};
use wire::{ApiKey, Message, Reader};

use super::joining::Joins;
use super::sequences::Identity;
use super::{Producer, SenderCall};
use crate::consumer::{GroupMetadata, OffsetAndMetadata};
use crate::error::ClientError;
use crate::event::{ClientEvent, TopicPartition};
use crate::io::Outputs;
use crate::net::{Done, Outcome, SendOptions, sooner};

/// `FindCoordinatorRequest.CoordinatorType`.
const GROUP: i8 = 0;
pub(super) const TRANSACTION: i8 = 1;
/// The last version that names topics and not their ids.
const LAST_WITH_NAMES: i16 = 5;
/// The last versions of TxnOffsetCommit and EndTxn that belong to the older flow.
const LAST_BEFORE_VERSION_2: i16 = 4;
/// The level of the feature `transaction.version` from which partitions join by being written to.
const VERSION_2: i16 = 2;

/// Where a transactional producer stands (`TransactionManager.State`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransactionState {
    /// It has no producer id yet.
    #[default]
    Uninitialized,
    /// It asks for one.
    Initializing,
    /// No transaction is open.
    Ready,
    /// One is.
    InTransaction,
    /// It is being committed.
    Committing,
    /// It is being aborted.
    Aborting,
    /// It can only be aborted.
    AbortableError,
    /// Nothing can be done any more.
    FatalError,
}

/// What the application waits for.
#[derive(Clone, Debug)]
enum Operation {
    Init,
    Offsets { group: GroupMetadata, offsets: Vec<(TopicPartition, OffsetAndMetadata)> },
    End { commit: bool },
}

impl Operation {
    /// Java's name of it in time-outs.
    fn name(&self) -> String {
        match self {
            Operation::Init => "InitProducerId".into(),
            Operation::Offsets { .. } => "AddOffsetsToTxn".into(),
            Operation::End { commit } => format!("EndTxn({commit})"),
        }
    }
}

/// A coordinator, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
struct Coordinator {
    node: Option<i32>,
}

/// The transactions of a producer.
#[derive(Clone, Debug)]
pub(super) struct Transactions {
    id: Arc<str>,
    timeout: Nanos,
    pub(super) state: TransactionState,
    operation: Option<(Operation, Instant)>,
    result: Option<Result<(), ClientError>>,
    /// The coordinator may know of the transaction: something was written or committed in it.
    started: bool,
    /// Why it must be aborted, or why nothing can be done.
    error: Option<ClientError>,
    of_id: Coordinator,
    of_group: Coordinator,
    /// A request about transactions is in flight: there is one at a time.
    pub(super) asked: bool,
    pub(super) retry_at: Option<Instant>,
    pub(super) failures: u32,
    /// The older flow, where it has to be.
    pub(super) joins: Option<Joins>,
}

/// A request about transactions that is in flight.
#[derive(Clone, Copy, Debug)]
pub(super) enum TransactionCall {
    Find { key_type: i8 },
    Init,
    Offsets,
    End,
    AddPartitions,
    AddOffsets,
}

impl Transactions {
    pub fn new(id: &str, timeout: Nanos) -> Transactions {
        Transactions {
            id: id.into(),
            timeout,
            state: TransactionState::Uninitialized,
            operation: None,
            result: None,
            started: false,
            error: None,
            of_id: Coordinator::default(),
            of_group: Coordinator::default(),
            asked: false,
            retry_at: None,
            failures: 0,
            joins: None,
        }
    }

    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub fn deadline(&self) -> Option<Instant> {
        let limit = self.operation.as_ref().map(|(_, limit)| *limit);
        let open = matches!(
            self.state,
            TransactionState::InTransaction | TransactionState::Committing | TransactionState::Aborting
        );
        let joins = open && self.joins.as_ref().is_some_and(Joins::has_work);
        sooner(limit, self.retry_at.filter(|_| joins || self.operation.is_some()))
    }

    /// What `send` throws now, if records cannot be sent.
    pub fn refusal(&self) -> Option<ClientError> {
        match self.state {
            TransactionState::InTransaction => None,
            TransactionState::AbortableError | TransactionState::FatalError => Some(self.in_error()),
            state => Some(ClientError::illegal_state(format!(
                "Cannot add partition to transaction while in state  {}",
                name_of(state)
            ))),
        }
    }

    fn in_error(&self) -> ClientError {
        let text = "Cannot execute transactional method because we are in an error state";
        let error = ClientError::kafka(text);
        match &self.error {
            Some(cause) => error.caused_by(cause.clone()),
            None => error,
        }
    }

    /// The group whose offsets are being sent.
    pub fn group(&self) -> Option<Arc<str>> {
        match &self.operation {
            Some((Operation::Offsets { group, .. }, _)) => Some(group.group.clone()),
            _ => None,
        }
    }

    /// A record goes into the transaction.
    pub fn written(&mut self) {
        self.started = true;
    }

    /// A batch failed for good: the transaction cannot be committed.
    pub fn batch_failed(&mut self, error: &ClientError) {
        let fatal = matches!(
            error.code,
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED
                | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                | ErrorCode::PRODUCER_FENCED
                | ErrorCode::UNSUPPORTED_VERSION
                | ErrorCode::INVALID_PRODUCER_ID_MAPPING
        );
        if fatal {
            return self.fail(error.clone());
        }
        // Which numbers the leader wants next is not known: those of the next transaction begin anew.
        if let Some(joins) = &mut self.joins {
            joins.bump = true;
        }
        if self.state != TransactionState::Aborting {
            self.abortable(error.clone());
        }
    }

    fn fail(&mut self, error: ClientError) {
        self.state = TransactionState::FatalError;
        self.error = Some(error);
        if self.operation.take().is_some() {
            self.result = self.error.clone().map(Err);
        }
    }

    /// The transaction can only be aborted. If that is what was asked for, it has failed, and may be asked for again.
    fn abortable(&mut self, error: ClientError) {
        match self.state {
            TransactionState::FatalError => return,
            // There is nothing to abort, and without a producer id nothing can be done either.
            TransactionState::Uninitialized | TransactionState::Initializing => return self.fail(error),
            _ => {}
        }
        if self.state != TransactionState::Aborting {
            self.state = TransactionState::AbortableError;
        }
        if self.operation.take().is_some() {
            self.result = Some(Err(error.clone()));
        }
        self.error = Some(error);
    }

    /// What Java throws when the application asks for something else after a call that timed out.
    fn pending(&self, asked: &Operation) -> Option<ClientError> {
        let before = match (self.state, asked) {
            (TransactionState::Initializing, Operation::Init)
            | (TransactionState::Committing, Operation::End { commit: true })
            | (TransactionState::Aborting, Operation::End { commit: false }) => return None,
            (TransactionState::Initializing, _) => "initTransactions",
            (TransactionState::Committing, _) => "commitTransaction",
            (TransactionState::Aborting, _) => "abortTransaction",
            _ => return None,
        };
        let now = match asked {
            Operation::Init => "initTransactions",
            Operation::Offsets { .. } => "sendOffsetsToTransaction",
            Operation::End { commit: true } => "commitTransaction",
            Operation::End { commit: false } => "abortTransaction",
        };
        Some(ClientError::illegal_state(format!(
            "Cannot attempt operation `{now}` because the previous call to `{before}` timed out and must be retried"
        )))
    }

    fn done(&mut self) {
        if self.operation.take().is_some() {
            self.result = Some(Ok(()));
        }
        self.failures = 0;
        self.retry_at = None;
    }
}

fn name_of(state: TransactionState) -> &'static str {
    match state {
        TransactionState::Uninitialized => "UNINITIALIZED",
        TransactionState::Initializing => "INITIALIZING",
        TransactionState::Ready => "READY",
        TransactionState::InTransaction => "IN_TRANSACTION",
        TransactionState::Committing => "COMMITTING_TRANSACTION",
        TransactionState::Aborting => "ABORTING_TRANSACTION",
        TransactionState::AbortableError => "ABORTABLE_ERROR",
        TransactionState::FatalError => "FATAL_ERROR",
    }
}

/// What the application may ask for.
impl Producer {
    /// The coordinator of the transactional id, as far as it is known.
    pub(super) fn coordinator_known(&self) -> Option<i32> {
        self.transactions.as_ref().and_then(|t| t.of_id.node)
    }

    /// Where the transactional producer stands; `None` without a `transactional.id`.
    pub fn transaction_state(&self) -> Option<TransactionState> {
        self.transactions.as_ref().map(|t| t.state)
    }

    /// Whether the transaction can only be aborted.
    pub fn must_abort(&self) -> bool {
        self.transaction_state() == Some(TransactionState::AbortableError)
    }

    /// What has gone wrong, if only an abort or another producer helps.
    pub fn transaction_error(&self) -> Option<&ClientError> {
        self.transactions.as_ref().and_then(|t| t.error.as_ref())
    }

    /// How what was asked for last has ended, once it has.
    pub fn take_transaction_result(&mut self) -> Option<Result<(), ClientError>> {
        self.transactions.as_mut()?.result.take()
    }

    /// Whether [`Producer::take_transaction_result`] has something to tell.
    pub fn has_transaction_result(&self) -> bool {
        self.transactions.as_ref().is_some_and(|t| t.result.is_some())
    }

    /// `initTransactions`: ends what an earlier producer of this id left open, and fences it off.
    pub fn init_transactions(&mut self, now: Instant) {
        self.ask(now, Operation::Init, TransactionState::Initializing);
    }

    /// `beginTransaction`.
    pub fn begin_transaction(&mut self) -> Result<(), ClientError> {
        let transactions = self.transactions.as_mut().expect("a producer with a transactional.id");
        match transactions.state {
            TransactionState::Ready => {
                transactions.state = TransactionState::InTransaction;
                transactions.started = false;
                self.begin_joining();
                Ok(())
            }
            TransactionState::AbortableError | TransactionState::FatalError => Err(transactions.in_error()),
            state => Err(ClientError::illegal_state(format!(
                "TransactionalId {}: Invalid transition attempted from state {} to state IN_TRANSACTION",
                transactions.id,
                name_of(state)
            ))),
        }
    }

    /// `sendOffsetsToTransaction`: offsets that a consumer has read are committed with the transaction.
    pub fn send_offsets(
        &mut self,
        now: Instant,
        group: GroupMetadata,
        offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
    ) {
        self.ask(now, Operation::Offsets { group, offsets }, TransactionState::InTransaction);
    }

    /// `commitTransaction` or `abortTransaction`.
    pub fn end_transaction(&mut self, now: Instant, commit: bool) {
        let state = if commit { TransactionState::Committing } else { TransactionState::Aborting };
        self.ask(now, Operation::End { commit }, state);
    }

    fn ask(&mut self, now: Instant, operation: Operation, state: TransactionState) {
        let limit = now + self.config.max_block;
        let transactions = self.transactions.as_mut().expect("a producer with a transactional.id");
        let aborts = matches!(operation, Operation::End { commit: false });
        let refused = match transactions.state {
            TransactionState::FatalError => true,
            TransactionState::AbortableError => !aborts,
            _ => false,
        };
        if refused {
            transactions.result = Some(Err(transactions.in_error()));
            return;
        }
        if let Some(error) = transactions.pending(&operation) {
            transactions.result = Some(Err(error));
            return;
        }
        transactions.state = state;
        if aborts {
            transactions.error = None;
        }
        transactions.result = None;
        transactions.failures = 0;
        transactions.retry_at = None;
        transactions.operation = Some((operation, limit));
        if matches!(state, TransactionState::Committing | TransactionState::Aborting) {
            self.accumulator.set_hurry(true);
        }
    }
}

/// Requests and answers.
impl Producer {
    /// Sends what the operation under way needs next.
    pub(super) fn drive_transactions(&mut self, now: Instant, out: &mut Outputs) {
        if self.drive_joins(now, out) {
            return self.expire_operation(now);
        }
        self.expire_operation(now);
        let Some(transactions) = &mut self.transactions else { return };
        let Some((operation, _)) = transactions.operation.clone() else { return };
        let waits = transactions.retry_at.is_some_and(|at| at > now);
        if transactions.asked || waits {
            return;
        }
        transactions.retry_at = None;
        match operation {
            Operation::Init => self.send_init(now, out),
            Operation::Offsets { group, offsets } => self.drive_offsets(now, &group, &offsets, out),
            Operation::End { commit } => self.drive_end(now, commit, out),
        }
    }

    /// The application waits no longer than `max.block.ms`.
    fn expire_operation(&mut self, now: Instant) {
        let Some(transactions) = &mut self.transactions else { return };
        if let Some((operation, _)) = transactions.operation.as_ref().filter(|(_, limit)| *limit <= now) {
            let ms = self.config.max_block.as_millis();
            let text = format!("Timeout expired after {ms}ms while awaiting {}", operation.name());
            transactions.operation = None;
            transactions.result = Some(Err(ClientError::timeout(text)));
        }
    }

    fn drive_end(&mut self, now: Instant, commit: bool, out: &mut Outputs) {
        if !commit {
            let why = "Failing batch since transaction was aborted";
            let error = ClientError {
                class: "org.apache.kafka.common.errors.TransactionAbortedException",
                ..ClientError::kafka(why)
            };
            while let Some((slot, batch)) = self.accumulator.take_unsent() {
                self.forget_batch(slot, &batch, &error, out);
            }
        }
        if self.accumulator.incomplete() > 0 {
            return;
        }
        let transactions = self.transactions.as_mut().expect("the caller has seen it");
        if transactions.started {
            return self.send_end(now, commit, out);
        }
        if transactions.joins.as_ref().is_some_and(|joins| joins.bump) {
            return self.send_init(now, out);
        }
        // Nobody but this producer knows of it.
        transactions.state = TransactionState::Ready;
        transactions.done();
        self.accumulator.set_hurry(self.closing);
    }

    /// The coordinator, if a request can be sent to it now. Otherwise it is looked for, or connected to.
    pub(super) fn coordinator(
        &mut self,
        now: Instant,
        key_type: i8,
        key: &str,
        out: &mut Outputs,
    ) -> Option<i32> {
        let transactions = self.transactions.as_mut().expect("the caller has seen it");
        let known = if key_type == GROUP { &mut transactions.of_group } else { &mut transactions.of_id };
        if let Some(node) = known.node {
            if self.net.ready(now, node, out).is_ok() {
                return Some(node);
            }
            if !self.net.is_unavailable(now, node) {
                return None;
            }
            known.node = None;
        }
        let node = self.net.least_loaded(now, out)?;
        let Some(version) = self.net.version(node, ApiKey::FindCoordinator, i16::MAX) else {
            let error = ClientError::unsupported_version("The node does not support FIND_COORDINATOR");
            self.fail_transactions(error);
            return None;
        };
        let request = match version >= 4 {
            true => {
                FindCoordinatorRequest { key_type, coordinator_keys: vec![key.into()], ..Default::default() }
            }
            false => FindCoordinatorRequest { key_type, key: key.into(), ..Default::default() },
        };
        self.send_call(now, node, version, &request, TransactionCall::Find { key_type }, out);
        None
    }

    pub(super) fn send_call<'r, R: wire::Request<'r>>(
        &mut self,
        now: Instant,
        node: i32,
        version: i16,
        request: &R,
        call: TransactionCall,
        out: &mut Outputs,
    ) {
        self.transactions.as_mut().expect("the caller has seen it").asked = true;
        self.net.send(now, node, request, SendOptions::at(version), SenderCall::Transaction(call), out);
    }

    fn send_init(&mut self, now: Instant, out: &mut Outputs) {
        let id = self.transactional_id();
        let Some(node) = self.coordinator(now, TRANSACTION, &id, out) else { return };
        let Some(version) = self.net.version(node, ApiKey::InitProducerId, i16::MAX) else {
            let text = "The node does not support INIT_PRODUCER_ID";
            return self.fail_transactions(ClientError::unsupported_version(text));
        };
        let by_request = self.level_of_transactions(node) < VERSION_2;
        let transactions = self.transactions.as_mut().expect("the caller has seen it");
        let bump = transactions.joins.as_ref().is_some_and(|joins| joins.bump);
        let timeout = transactions.timeout;
        transactions.joins = by_request.then(|| Joins::new(bump));
        // With its own id and epoch a producer raises its epoch; without, it fences off whoever has the id.
        let none = Identity { id: -1, epoch: -1 };
        let own = self.idempotence.identity().filter(|_| bump).unwrap_or(none);
        let request = InitProducerIdRequest {
            transactional_id: Some(Cow::Owned(id.to_string())),
            transaction_timeout_ms: timeout.as_millis().min(i32::MAX as u64) as i32,
            producer_id: own.id,
            producer_epoch: own.epoch,
            ..InitProducerIdRequest::default()
        };
        self.send_call(now, node, version, &request, TransactionCall::Init, out);
    }

    /// The finalized level of `transaction.version`, as a broker told it.
    pub(super) fn level_of_transactions(&self, node: i32) -> i16 {
        let Some(frame) = self.net.api_versions_of(node) else { return 0 };
        let mut reader = Reader::new(frame);
        let level = || -> Option<i16> {
            wire::frame::ResponseHeader::decode(&mut reader, ApiKey::ApiVersions, 3).ok()?;
            let told = ApiVersionsResponse::decode(&mut reader, 3).ok()?;
            let feature = told.finalized_features.iter().find(|f| f.name == "transaction.version")?;
            Some(feature.max_version_level)
        }();
        level.unwrap_or(0)
    }

    pub(super) fn send_txn_offsets(
        &mut self,
        now: Instant,
        group: &GroupMetadata,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
        out: &mut Outputs,
    ) {
        let Some(node) = self.coordinator(now, GROUP, &group.group, out) else { return };
        let latest = if self.joins_by_request() { LAST_BEFORE_VERSION_2 } else { LAST_WITH_NAMES };
        let Some(version) = self.net.version(node, ApiKey::TxnOffsetCommit, latest) else {
            let text = "The node does not support TXN_OFFSET_COMMIT";
            return self.fail_transactions(ClientError::unsupported_version(text));
        };
        let Some(identity) = self.idempotence.identity() else { return };
        let mut topics: BTreeMap<&str, Vec<TxnOffsetCommitRequestPartition<'_>>> = BTreeMap::new();
        for (at, offset) in offsets {
            topics.entry(&at.topic).or_default().push(TxnOffsetCommitRequestPartition {
                partition_index: at.partition,
                committed_offset: offset.offset,
                committed_leader_epoch: offset.leader_epoch.unwrap_or(-1),
                committed_metadata: Some(Cow::Borrowed(&offset.metadata)),
            });
        }
        let topic = |(name, partitions)| TxnOffsetCommitRequestTopic {
            name: Cow::Borrowed(name),
            partitions,
            ..TxnOffsetCommitRequestTopic::default()
        };
        let id = self.transactional_id();
        let request = TxnOffsetCommitRequest {
            transactional_id: Cow::Borrowed(&*id),
            group_id: Cow::Borrowed(&*group.group),
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            generation_id_or_member_epoch: group.generation,
            member_id: Cow::Borrowed(&*group.member),
            group_instance_id: group.instance.as_deref().map(Cow::Borrowed),
            topics: topics.into_iter().map(topic).collect(),
        };
        self.send_call(now, node, version, &request, TransactionCall::Offsets, out);
        // The group's partition joins the transaction with it, whatever becomes of the answer.
        self.transactions.as_mut().expect("the caller has seen it").written();
    }

    fn send_end(&mut self, now: Instant, commit: bool, out: &mut Outputs) {
        let latest = if self.joins_by_request() { LAST_BEFORE_VERSION_2 } else { i16::MAX };
        let id = self.transactional_id();
        let Some(node) = self.coordinator(now, TRANSACTION, &id, out) else { return };
        let Some(version) = self.net.version(node, ApiKey::EndTxn, latest) else {
            let text = "The node does not support END_TXN";
            return self.fail_transactions(ClientError::unsupported_version(text));
        };
        let Some(identity) = self.idempotence.identity() else { return };
        let request = EndTxnRequest {
            transactional_id: Cow::Borrowed(&*id),
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            committed: commit,
        };
        self.send_call(now, node, version, &request, TransactionCall::End, out);
    }

    pub(super) fn transactional_id(&self) -> Arc<str> {
        self.transactions.as_ref().map(|t| t.id.clone()).expect("the caller has seen it")
    }

    pub(super) fn fail_transactions(&mut self, error: ClientError) {
        if let Some(transactions) = &mut self.transactions {
            transactions.fail(error.clone());
        }
        self.idempotence.fail(error);
    }

    // --- answers

    pub(super) fn transaction_done(
        &mut self,
        now: Instant,
        call: TransactionCall,
        done: &Done<SenderCall>,
        out: &mut Outputs,
    ) {
        let Some(transactions) = &mut self.transactions else { return };
        transactions.asked = false;
        let Outcome::Answered(frame) = &done.outcome else {
            self.lose_coordinator(call);
            return self.ask_again(now, call, ErrorCode::NETWORK_EXCEPTION, out);
        };
        let taken = match call {
            TransactionCall::Find { key_type } => done
                .decode::<FindCoordinatorRequest<'_>>(frame)
                .map(|r| match r.coordinators.first() {
                    Some(told) => (told.node_id, told.error_code),
                    None => (r.node_id, r.error_code),
                })
                .map(|(node, code)| self.coordinator_told(now, key_type, node, ErrorCode(code), out)),
            TransactionCall::Init => done.decode::<InitProducerIdRequest<'_>>(frame).map(|r| {
                let identity = Identity { id: r.producer_id, epoch: r.producer_epoch };
                self.init_answered(now, ErrorCode(r.error_code), identity, out);
            }),
            TransactionCall::Offsets => done.decode::<TxnOffsetCommitRequest<'_>>(frame).map(|r| {
                let codes = r.topics.iter().flat_map(|t| &t.partitions).map(|p| ErrorCode(p.error_code));
                let worst = codes.filter(|code| code.is_error()).max_by_key(|code| !code.retriable());
                self.offsets_answered(now, worst.unwrap_or(ErrorCode::NONE), out);
            }),
            TransactionCall::AddPartitions => done.decode::<AddPartitionsToTxnRequest<'_>>(frame).map(|r| {
                let topics = r.results_by_topic_v3_and_below.iter();
                let codes =
                    topics.flat_map(|t| &t.results_by_partition).map(|p| ErrorCode(p.partition_error_code));
                let codes = codes.chain([ErrorCode(r.error_code)]).filter(|code| code.is_error());
                self.partitions_answered(now, codes.collect(), out);
            }),
            TransactionCall::AddOffsets => done
                .decode::<AddOffsetsToTxnRequest<'_>>(frame)
                .map(|r| self.group_answered(now, ErrorCode(r.error_code), out)),
            TransactionCall::End => done.decode::<EndTxnRequest<'_>>(frame).map(|r| {
                let identity = Identity { id: r.producer_id, epoch: r.producer_epoch };
                self.end_answered(now, ErrorCode(r.error_code), identity, out);
            }),
        };
        if let Err(error) = taken {
            self.net.undecodable_answer(now, done.node, done.key, &error, out);
            self.ask_again(now, call, ErrorCode::NETWORK_EXCEPTION, out);
        }
    }

    pub(super) fn lose_coordinator(&mut self, call: TransactionCall) {
        let Some(transactions) = &mut self.transactions else { return };
        match call {
            TransactionCall::Offsets => transactions.of_group.node = None,
            TransactionCall::Init
            | TransactionCall::End
            | TransactionCall::AddPartitions
            | TransactionCall::AddOffsets => transactions.of_id.node = None,
            TransactionCall::Find { .. } => {}
        }
    }

    /// The same again, after a backoff.
    pub(super) fn ask_again(
        &mut self,
        now: Instant,
        call: TransactionCall,
        error: ErrorCode,
        out: &mut Outputs,
    ) {
        let Some(transactions) = &mut self.transactions else { return };
        let backoff = self.config.common.retry_backoff.after(transactions.failures, &mut self.rng);
        transactions.failures = transactions.failures.saturating_add(1);
        transactions.retry_at = Some(now + backoff);
        let api = match call {
            TransactionCall::Find { .. } => ApiKey::FindCoordinator,
            TransactionCall::Init => ApiKey::InitProducerId,
            TransactionCall::Offsets => ApiKey::TxnOffsetCommit,
            TransactionCall::End => ApiKey::EndTxn,
            TransactionCall::AddPartitions => ApiKey::AddPartitionsToTxn,
            TransactionCall::AddOffsets => ApiKey::AddOffsetsToTxn,
        };
        out.event(|| ClientEvent::RequestFailed { api: api.name(), error: error.name() });
    }

    fn coordinator_told(
        &mut self,
        now: Instant,
        key_type: i8,
        node: i32,
        error: ErrorCode,
        out: &mut Outputs,
    ) {
        let Some(transactions) = &mut self.transactions else { return };
        match error {
            ErrorCode::NONE => {
                let known =
                    if key_type == GROUP { &mut transactions.of_group } else { &mut transactions.of_id };
                known.node = Some(node);
                transactions.failures = 0;
                if self.net.metadata.broker(node).is_none() {
                    self.net.metadata.request_update();
                }
            }
            error if error.retriable() => {
                self.ask_again(now, TransactionCall::Find { key_type }, error, out);
            }
            ErrorCode::GROUP_AUTHORIZATION_FAILED => {
                transactions.abortable(ClientError::from_code(error, None));
            }
            ErrorCode::TRANSACTION_ABORTABLE => {
                transactions.abortable(ClientError::from_code(error, None));
            }
            error => self.fail_transactions(ClientError::from_code(error, None)),
        }
    }

    fn init_answered(&mut self, now: Instant, error: ErrorCode, identity: Identity, out: &mut Outputs) {
        let Some(transactions) = &mut self.transactions else { return };
        match error {
            ErrorCode::NONE => {
                transactions.state = TransactionState::Ready;
                transactions.done();
                if let Some(joins) = &mut transactions.joins {
                    joins.bump = false;
                }
                self.accumulator.set_hurry(self.closing);
                self.take_identity(Some(identity), out);
            }
            error if self.tries_again(now, TransactionCall::Init, error, out) => {}
            ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => self.fenced(),
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
                self.fail_transactions(ClientError::from_code(error, None));
            }
            error => {
                let text = format!("Unexpected error in InitProducerIdResponse; {}", error.message());
                self.fail_transactions(ClientError::kafka(text));
            }
        }
    }

    fn offsets_answered(&mut self, now: Instant, error: ErrorCode, out: &mut Outputs) {
        let Some(transactions) = &mut self.transactions else { return };
        match error {
            ErrorCode::NONE => transactions.done(),
            error if self.tries_again(now, TransactionCall::Offsets, error, out) => {}
            ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => self.fenced(),
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                let text = format!(
                    "Transaction offset Commit failed due to consumer group metadata mismatch: {}",
                    error.message()
                );
                self.abortable(ClientError {
                    code: error,
                    class: "org.apache.kafka.clients.consumer.CommitFailedException",
                    message: text,
                    cause: None,
                });
            }
            ErrorCode::GROUP_AUTHORIZATION_FAILED
            | ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::STALE_MEMBER_EPOCH
            | ErrorCode::TRANSACTION_ABORTABLE => self.abortable(ClientError::from_code(error, None)),
            error => {
                let text = format!("Unexpected error in TxnOffsetCommitResponse: {}", error.message());
                let cause = ClientError::from_code(error, None);
                self.fail_transactions(ClientError::kafka(text).caused_by(cause));
            }
        }
    }

    fn end_answered(&mut self, now: Instant, error: ErrorCode, identity: Identity, out: &mut Outputs) {
        let Some(transactions) = &mut self.transactions else { return };
        match error {
            // The application waits until the epoch is another one.
            ErrorCode::NONE if transactions.joins.as_ref().is_some_and(|joins| joins.bump) => {
                transactions.started = false;
                transactions.failures = 0;
            }
            ErrorCode::NONE => {
                transactions.state = TransactionState::Ready;
                transactions.started = false;
                transactions.done();
                self.accumulator.set_hurry(self.closing);
                if identity.id >= 0 && identity.epoch >= 0 {
                    self.take_identity(Some(identity), out);
                }
            }
            error if self.tries_again(now, TransactionCall::End, error, out) => {}
            ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => self.fenced(),
            ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
            | ErrorCode::TRANSACTION_ABORTABLE => self.abortable(ClientError::from_code(error, None)),
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED | ErrorCode::INVALID_TXN_STATE => {
                self.fail_transactions(ClientError::from_code(error, None));
            }
            error => {
                let text = format!("Unhandled error in EndTxnResponse: {}", error.message());
                self.fail_transactions(ClientError::kafka(text));
            }
        }
    }

    /// Errors that go away, perhaps with another coordinator.
    pub(super) fn tries_again(
        &mut self,
        now: Instant,
        call: TransactionCall,
        error: ErrorCode,
        out: &mut Outputs,
    ) -> bool {
        let moved = matches!(error, ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE);
        if moved {
            self.lose_coordinator(call);
        }
        let again = moved || error.retriable();
        if again {
            self.ask_again(now, call, error, out);
        }
        again
    }

    pub(super) fn fenced(&mut self) {
        self.fail_transactions(ClientError::from_code(ErrorCode::PRODUCER_FENCED, None));
    }

    pub(super) fn abortable(&mut self, error: ClientError) {
        if let Some(transactions) = &mut self.transactions {
            transactions.abortable(error);
        }
    }
}

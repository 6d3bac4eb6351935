//! How partitions and groups join transactions where `transaction.version` is 0 or 1: by AddPartitionsToTxn and
//! AddOffsetsToTxn at the coordinator, before anything is sent to them (KIP-98).
//!
//! The epoch stays the same from transaction to transaction. Only after a batch was given up, when nobody knows which
//! numbers its partition wants next, the producer raises its epoch with another InitProducerId once the transaction has
//! been aborted (KIP-360).

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::{Instant, Nanos};
use wire::error::ErrorCode;
use wire::messages::AddOffsetsToTxnRequest;
use wire::messages::add_partitions_to_txn_request::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};

use super::Producer;
use super::accumulator::SlotIndex;
use super::transaction::{TRANSACTION, TransactionCall, TransactionState};
use crate::consumer::{GroupMetadata, OffsetAndMetadata};
use crate::error::ClientError;
use crate::event::TopicPartition;
use crate::io::Outputs;
use crate::metadata::TopicIndex;

/// The latest version of AddPartitionsToTxn that is for clients.
const LAST_FOR_CLIENTS: i16 = 3;
/// How soon the first partitions of a transaction are tried again while the markers of the one before are written
/// (`ADD_PARTITIONS_RETRY_BACKOFF_MS`).
const SOON: Nanos = Nanos::from_millis(20);
/// `FEATURE transaction.version` at which nothing has to join by request any more.
const VERSION_2: i16 = 2;

/// What has joined the transaction, and what is to join.
#[derive(Clone, Debug, Default)]
pub(super) struct Joins {
    /// Partitions that were written to.
    wanted: BTreeSet<SlotIndex>,
    /// Partitions that the coordinator was asked to add, and has perhaps added.
    asked: Vec<SlotIndex>,
    /// Whether any partition has joined.
    any: bool,
    /// The group that has joined.
    group: Option<Arc<str>>,
    /// Another epoch is to be had before the next transaction.
    pub bump: bool,
}

impl Joins {
    /// Nothing has joined; another epoch is perhaps to be had.
    pub fn new(bump: bool) -> Joins {
        Joins { bump, ..Joins::default() }
    }

    /// Whether the coordinator has to be asked to add partitions.
    pub fn has_work(&self) -> bool {
        !self.wanted.is_empty() || !self.asked.is_empty()
    }
}

impl Producer {
    /// Whether the cluster is of the older flow.
    pub(super) fn joins_by_request(&self) -> bool {
        self.transactions.as_ref().is_some_and(|transactions| transactions.joins.is_some())
    }

    /// A transaction begins: nothing has joined it.
    pub(super) fn begin_joining(&mut self) {
        let level = match self.joins_by_request() {
            true => self.coordinator_known().map_or(0, |node| self.level_of_transactions(node)),
            false => VERSION_2,
        };
        let transactions = self.transactions.as_mut().expect("a transaction begins");
        transactions.joins = (level < VERSION_2).then(Joins::default);
        self.accumulator.set_joined((level < VERSION_2).then(BTreeSet::new));
    }

    /// A record goes to a partition in the transaction.
    pub(super) fn record_joins(&mut self, topic: TopicIndex, partition: i32) {
        let Some(transactions) = &mut self.transactions else { return };
        let Some(joins) = &mut transactions.joins else { return transactions.written() };
        let at = self.accumulator.find(topic, partition).expect("a record was appended to it");
        if self.accumulator.must_join(at) && !joins.asked.contains(&at) {
            joins.wanted.insert(at);
        }
    }

    /// Asks the coordinator to add the partitions that wait for it. Whether other requests have to wait for them.
    pub(super) fn drive_joins(&mut self, now: Instant, out: &mut Outputs) -> bool {
        let Some(transactions) = &mut self.transactions else { return false };
        let state = transactions.state;
        let Some(joins) = &mut transactions.joins else { return false };
        match state {
            TransactionState::InTransaction | TransactionState::Committing => {}
            // What the coordinator was not asked for is not sent either.
            TransactionState::Aborting => joins.wanted.clear(),
            _ => return false,
        }
        if !joins.has_work() {
            return false;
        }
        if transactions.asked || transactions.retry_at.is_some_and(|at| at > now) {
            return true;
        }
        transactions.retry_at = None;
        self.send_partitions(now, out);
        true
    }

    fn send_partitions(&mut self, now: Instant, out: &mut Outputs) {
        let id = self.transactional_id();
        let Some(node) = self.coordinator(now, TRANSACTION, &id, out) else { return };
        let Some(version) = self.net.version(node, ApiKey::AddPartitionsToTxn, LAST_FOR_CLIENTS) else {
            let text = "The node does not support ADD_PARTITIONS_TO_TXN";
            return self.fail_transactions(ClientError::unsupported_version(text));
        };
        let Some(identity) = self.idempotence.identity() else { return };
        let Some(joins) = self.transactions.as_mut().and_then(|t| t.joins.as_mut()) else { return };
        joins.asked.extend(core::mem::take(&mut joins.wanted));
        let mut topics: Vec<AddPartitionsToTxnTopic<'static>> = Vec::new();
        for &at in &joins.asked {
            let partition = &self.accumulator.slot(at).partition;
            match topics.iter_mut().find(|topic| topic.name == *partition.topic) {
                Some(topic) => topic.partitions.push(partition.partition),
                None => topics.push(AddPartitionsToTxnTopic {
                    name: Cow::Owned(String::from(&*partition.topic)),
                    partitions: vec![partition.partition],
                }),
            }
        }
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: Cow::Borrowed(&*id),
            v3_and_below_producer_id: identity.id,
            v3_and_below_producer_epoch: identity.epoch,
            v3_and_below_topics: topics,
            ..AddPartitionsToTxnRequest::default()
        };
        self.send_call(now, node, version, &request, TransactionCall::AddPartitions, out);
    }

    /// AddPartitionsToTxn was answered, with these errors.
    pub(super) fn partitions_answered(&mut self, now: Instant, errors: Vec<ErrorCode>, out: &mut Outputs) {
        const CALL: TransactionCall = TransactionCall::AddPartitions;
        let Some(transactions) = &mut self.transactions else { return };
        let Some(joins) = &mut transactions.joins else { return };
        // What went wrong itself comes before what was not tried for its sake.
        let first = errors.iter().find(|code| **code != ErrorCode::OPERATION_NOT_ATTEMPTED);
        match first.or(errors.first()).copied().unwrap_or(ErrorCode::NONE) {
            ErrorCode::NONE => {
                let joined = core::mem::take(&mut joins.asked);
                joins.any = true;
                transactions.failures = 0;
                transactions.written();
                self.accumulator.join(&joined);
            }
            ErrorCode::CONCURRENT_TRANSACTIONS if !joins.any => {
                self.ask_again(now, CALL, ErrorCode::CONCURRENT_TRANSACTIONS, out);
                if let Some(transactions) = &mut self.transactions {
                    transactions.retry_at = Some(now + SOON);
                }
            }
            error if self.tries_again(now, CALL, error, out) => {}
            ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => self.fenced(),
            error @ (ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED | ErrorCode::INVALID_TXN_STATE) => {
                self.fail_transactions(ClientError::from_code(error, None));
            }
            error => {
                if let Some(joins) = self.transactions.as_mut().and_then(|t| t.joins.as_mut()) {
                    joins.asked.clear();
                }
                let error = match error {
                    ErrorCode::TOPIC_AUTHORIZATION_FAILED
                    | ErrorCode::UNKNOWN_PRODUCER_ID
                    | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                    | ErrorCode::TRANSACTION_ABORTABLE => ClientError::from_code(error, None),
                    error => ClientError::kafka(format!(
                        "Could not add partitions to transaction due to errors: {}",
                        error.message()
                    )),
                };
                self.abortable(error);
            }
        }
    }

    /// Sends the offsets, once their group has joined if it has to.
    pub(super) fn drive_offsets(
        &mut self,
        now: Instant,
        group: &GroupMetadata,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
        out: &mut Outputs,
    ) {
        let joins = self.transactions.as_ref().and_then(|transactions| transactions.joins.as_ref());
        if joins.is_none_or(|joins| joins.group.as_ref() == Some(&group.group)) {
            return self.send_txn_offsets(now, group, offsets, out);
        }
        let id = self.transactional_id();
        let Some(node) = self.coordinator(now, TRANSACTION, &id, out) else { return };
        let Some(version) = self.net.version(node, ApiKey::AddOffsetsToTxn, i16::MAX) else {
            let text = "The node does not support ADD_OFFSETS_TO_TXN";
            return self.fail_transactions(ClientError::unsupported_version(text));
        };
        let Some(identity) = self.idempotence.identity() else { return };
        let request = AddOffsetsToTxnRequest {
            transactional_id: Cow::Borrowed(&*id),
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            group_id: Cow::Borrowed(&*group.group),
        };
        self.send_call(now, node, version, &request, TransactionCall::AddOffsets, out);
    }

    /// AddOffsetsToTxn was answered.
    pub(super) fn group_answered(&mut self, now: Instant, error: ErrorCode, out: &mut Outputs) {
        match error {
            ErrorCode::NONE => {
                let Some(transactions) = &mut self.transactions else { return };
                transactions.failures = 0;
                transactions.written();
                let group = transactions.group();
                if let Some(joins) = &mut transactions.joins {
                    joins.group = group;
                }
            }
            error if self.tries_again(now, TransactionCall::AddOffsets, error, out) => {}
            ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => self.fenced(),
            ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
            | ErrorCode::GROUP_AUTHORIZATION_FAILED
            | ErrorCode::TRANSACTION_ABORTABLE => self.abortable(ClientError::from_code(error, None)),
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
                self.fail_transactions(ClientError::from_code(error, None));
            }
            error => {
                let text = format!("Unexpected error in AddOffsetsToTxnResponse: {}", error.message());
                self.fail_transactions(ClientError::kafka(text));
            }
        }
    }
}

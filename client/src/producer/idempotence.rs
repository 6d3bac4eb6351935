//! What makes a producer idempotent (KIP-98, KIP-360): its id and epoch, and what answers mean for sequence numbers.
//! The part of `TransactionManager.java` that needs no transactions.
//!
//! Nothing is sent before some broker has given the producer an id. From then on every batch is numbered, and a leader
//! appends each number once and in order. Where the numbers of a partition cannot go on, because records are gone that
//! the leader had, or because a batch was given up, the producer raises its epoch by itself and numbers what is in
//! flight to that partition from 0; it takes another id only when its epochs are used up.
//!
//! Java's producer can be led to send a batch twice under two numbers; this one is stricter where that costs little:
//!
//! - The first batch to a partition under an epoch goes alone. A leader without a state of the producer takes any number:
//!   if it refuses the first batch and takes the second, the first cannot follow.
//! - From the oldest batch without an answer on, no more are sent than a leader remembers, whatever the leader.
//! - So a number that is out of order tells, of the oldest batch, that neither it nor what follows is in the log.
//! - A batch that was given up is never skipped at once, but when the batches behind it have told what the leader wants.

use alloc::collections::BTreeSet;

use wire::ApiKey;
use wire::drive::Instant;
use wire::error::ErrorCode;
use wire::messages::InitProducerIdRequest;

use super::accumulator::SlotIndex;
use super::batch::ProducerBatch;
use super::sender::Answer;
use super::sequences::Identity;
use super::{Producer, SenderCall};
use crate::error::ClientError;
use crate::event::ClientEvent;
use crate::io::Outputs;
use crate::net::{Done, Outcome, SendOptions};

/// A producer's id, and what is to be done about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Idempotence {
    /// Whether the producer is idempotent at all.
    enabled: bool,
    identity: Option<Identity>,
    /// InitProducerId is in flight.
    asked: bool,
    /// When to ask again after it failed.
    retry_at: Option<Instant>,
    /// The partitions whose numbers begin anew, in another epoch.
    renumber: BTreeSet<SlotIndex>,
    /// Why nothing can be sent any more.
    fatal: Option<ClientError>,
}

impl Idempotence {
    pub fn new(enabled: bool) -> Idempotence {
        Idempotence { enabled, ..Idempotence::default() }
    }

    /// The id and epoch, if there are any.
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Nothing can be sent any more.
    pub fn fail(&mut self, error: ClientError) {
        self.fatal.get_or_insert(error);
    }

    /// When to ask for an id again.
    pub fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// What `send` throws, if the producer has failed for good.
    pub fn error(&self) -> Option<ClientError> {
        let fatal = self.fatal.clone()?;
        let text = "Cannot execute transactional method because we are in an error state";
        Some(ClientError::kafka(text).caused_by(fatal))
    }
}

impl Producer {
    /// Does what the answers and expiries since the last call ask for, and gets an id if there is none. Whether
    /// anything can be sent at all.
    pub(super) fn settle_identity(&mut self, now: Instant, out: &mut Outputs) -> bool {
        if !self.idempotence.enabled {
            return true;
        }
        while let Some((slot, gap)) = self.accumulator.next_resolved() {
            if gap {
                self.begins_anew(slot);
            }
        }
        if let Some(error) = self.idempotence.fatal.clone() {
            while let Some((slot, batch)) = self.accumulator.take_any() {
                self.forget_batch(slot, &batch, &error, out);
            }
            return false;
        }
        if let Some(identity) = self.idempotence.identity.filter(|_| !self.idempotence.renumber.is_empty()) {
            let next = identity.epoch.checked_add(1).map(|epoch| Identity { epoch, ..identity });
            self.take_identity(next, out);
        }
        if self.idempotence.identity.is_none() && self.transactions.is_none() {
            self.ask_for_identity(now, out);
        }
        self.idempotence.fatal.is_none() || self.settle_identity(now, out)
    }

    /// Whether [`Producer::settle_identity`] has something to do besides waiting.
    pub(super) fn must_settle(&self) -> bool {
        let idempotence = &self.idempotence;
        idempotence.enabled
            && (self.accumulator.has_resolved()
                || idempotence.fatal.is_some() && self.accumulator.incomplete() > 0
                || idempotence.identity.is_some() && !idempotence.renumber.is_empty())
    }

    /// Numbers under another id or epoch from now on: at once where numbers begin anew, elsewhere once nothing is in
    /// flight any more. None: another id is to come.
    pub(super) fn take_identity(&mut self, identity: Option<Identity>, out: &mut Outputs) {
        self.idempotence.identity = identity;
        self.accumulator.set_identity(identity);
        let Some(Identity { id, epoch }) = identity else { return };
        for slot in core::mem::take(&mut self.idempotence.renumber) {
            self.accumulator.renumber(slot, Identity { id, epoch });
        }
        out.event(|| ClientEvent::ProducerIdentity { producer_id: id, producer_epoch: epoch });
    }

    fn ask_for_identity(&mut self, now: Instant, out: &mut Outputs) {
        let waits = self.idempotence.retry_at.is_some_and(|at| at > now);
        if self.idempotence.asked || waits {
            return;
        }
        self.idempotence.retry_at = None;
        let Some(node) = self.net.least_loaded(now, out) else { return };
        let Some(version) = self.net.version(node, ApiKey::InitProducerId, i16::MAX) else {
            let text = "The node does not support INIT_PRODUCER_ID";
            self.idempotence.fatal = Some(ClientError::unsupported_version(text));
            return;
        };
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        self.idempotence.asked = true;
        self.net.send(now, node, &request, SendOptions::at(version), SenderCall::InitProducerId, out);
    }

    /// InitProducerId was answered, or not.
    pub(super) fn identity_done(&mut self, now: Instant, done: &Done<SenderCall>, out: &mut Outputs) {
        self.idempotence.asked = false;
        let answer = match &done.outcome {
            Outcome::Answered(frame) => done.decode::<InitProducerIdRequest<'_>>(frame),
            Outcome::Sent | Outcome::TimedOut | Outcome::Disconnected => {
                return self.ask_for_identity_later(now, ErrorCode::NETWORK_EXCEPTION, out);
            }
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.net.undecodable_answer(now, done.node, ApiKey::InitProducerId, &error, out);
                return self.ask_for_identity_later(now, ErrorCode::NETWORK_EXCEPTION, out);
            }
        };
        let error = ErrorCode(answer.error_code);
        match error {
            ErrorCode::NONE if answer.producer_id >= 0 && answer.producer_epoch >= 0 => {
                let identity = Identity { id: answer.producer_id, epoch: answer.producer_epoch };
                self.take_identity(Some(identity), out);
            }
            error if error.retriable() => self.ask_for_identity_later(now, error, out),
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
                self.idempotence.fatal = Some(ClientError::from_code(error, None));
            }
            error => {
                let text = alloc::format!("Unexpected error in InitProducerIdResponse; {}", error.message());
                self.idempotence.fatal = Some(ClientError::kafka(text));
            }
        }
    }

    fn ask_for_identity_later(&mut self, now: Instant, error: ErrorCode, out: &mut Outputs) {
        self.idempotence.retry_at = Some(now + self.config.common.retry_backoff.initial);
        out.event(|| ClientEvent::RequestFailed { api: ApiKey::InitProducerId.name(), error: error.name() });
    }

    // --- what answers mean

    /// Whether an error is one that goes away when the batch is sent again, under another number if need be.
    pub(super) fn may_go_away(
        &mut self,
        slot: SlotIndex,
        batch: &ProducerBatch,
        answer: &Answer<'_>,
    ) -> bool {
        if !batch.has_sequence() {
            return answer.error.retriable();
        }
        let gap = match answer.error {
            ErrorCode::UNKNOWN_PRODUCER_ID => !batch.was_renumbered() && answer.log_start_offset >= 0,
            // What came before it is gone from the leader's log, or was given up and never got there.
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => {
                !batch.was_renumbered() && self.accumulator.is_oldest(slot, batch)
            }
            // The number that was refused is not the one that it has now.
            ErrorCode::INVALID_PRODUCER_EPOCH if batch.was_renumbered() => false,
            error => return error.retriable(),
        };
        if gap {
            self.begins_anew(slot);
        }
        // In a transaction nothing is numbered anew: it is aborted.
        !gap || self.transactions.is_none()
    }

    /// The numbers of a partition cannot go on.
    fn begins_anew(&mut self, slot: SlotIndex) {
        match &mut self.transactions {
            None => drop(self.idempotence.renumber.insert(slot)),
            Some(transactions) => {
                let text = "The client hasn't received acknowledgment for some previously sent messages and can no \
                            longer retry them. It is safe to abort the transaction and continue.";
                transactions.batch_failed(&ClientError::kafka(text));
            }
        }
    }

    /// A batch fails with an error that a broker gave: some leave nothing to go on with.
    pub(super) fn note_failure(&mut self, batch: &ProducerBatch, error: &ClientError) {
        let fatal = matches!(
            error.code,
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED
                | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                | ErrorCode::PRODUCER_FENCED
                | ErrorCode::UNSUPPORTED_VERSION
                | ErrorCode::INVALID_PRODUCER_ID_MAPPING
        );
        let fatal = match &mut self.transactions {
            None => fatal,
            Some(transactions) => {
                transactions.batch_failed(error);
                fatal
            }
        };
        if fatal && batch.has_sequence() {
            self.idempotence.fatal.get_or_insert_with(|| error.clone());
        }
    }
}

//! Produce requests: sending what is due, and what their answers mean (`Sender.java`).

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::drive::{Endpoint, Instant};
use wire::error::ErrorCode;
use wire::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use wire::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use wire::{ApiKey, Codecs};

use super::accumulator::{Drained, SlotIndex};
use super::batch::ProducerBatch;
use super::{ProduceCall, Producer, SendResult, SenderCall};
use crate::config::Acks;
use crate::error::ClientError;
use crate::event::{ClientEvent, Fate};
use crate::io::Outputs;
use crate::metadata::Broker;
use crate::net::{Done, Outcome, SendOptions};

/// The latest version that names topics.
const LAST_WITH_NAMES: i16 = 12;

/// The latest version of the older flow of transactions.
const LAST_BEFORE_VERSION_2: i16 = 11;

/// An answer for one batch.
pub(super) struct Answer<'a> {
    pub error: ErrorCode,
    message: Option<&'a str>,
    base_offset: i64,
    /// -1 if the leader did not tell.
    pub log_start_offset: i64,
    leader: Option<(i32, i32)>,
}

impl Answer<'_> {
    fn lost(error: ErrorCode, message: &str) -> Answer<'_> {
        Answer { error, message: Some(message), base_offset: -1, log_start_offset: -1, leader: None }
    }
}

impl Producer {
    pub(super) fn run_sender(&mut self, now: Instant, codecs: &dyn Codecs, out: &mut Outputs) {
        self.net.sync_nodes();
        self.accumulator.sync_leaders(&self.net.metadata);
        if self.accumulator.has_leaderless() {
            self.net.metadata.request_update();
        }
        while self.settle_identity(now, out) {
            self.send_what_is_due(now, codecs, out);
            while let Some((slot, batch)) = self.accumulator.expire(now) {
                self.expired(now, slot, batch, out);
            }
            if !self.must_settle() {
                break;
            }
        }
        self.drive_transactions(now, out);
        self.net.maybe_update_metadata(now, out);
    }

    fn send_what_is_due(&mut self, now: Instant, codecs: &dyn Codecs, out: &mut Outputs) {
        loop {
            let mut sent = false;
            for node in self.accumulator.due_nodes(now) {
                if self.net.ready(now, node, out).is_ok() {
                    self.send_to(now, node, codecs, out);
                    sent = true;
                }
            }
            if !sent {
                break;
            }
        }
    }

    fn send_to(&mut self, now: Instant, node: i32, codecs: &dyn Codecs, out: &mut Outputs) {
        let drained = match self.accumulator.drain(now, node, codecs) {
            Ok(drained) => drained,
            // Only a codec that this build lacks gets here, and the owner has checked that it is there.
            Err(error) => panic!("a batch cannot be closed: {error}"),
        };
        if drained.is_empty() {
            return;
        }
        let Some(version) = self.produce_version(node, &drained) else {
            let text = format!("The node {node} does not support PRODUCE");
            for part in drained {
                let answer = Answer::lost(ErrorCode::UNSUPPORTED_VERSION, &text);
                self.batch_answered(now, part.slot, part.id, &answer, codecs, out);
            }
            return;
        };
        let call: ProduceCall = drained.iter().map(|part| (part.slot, part.id)).collect();
        for &(slot, id) in &call {
            let batch = self.accumulator.in_flight(slot, id).expect("just drained");
            out.event(|| ClientEvent::BatchSent {
                partition: self.accumulator.slot(slot).partition.clone(),
                node,
                attempt: batch.attempts + 1,
                records: batch.made(),
            });
        }
        let request = ProduceRequest {
            transactional_id: self.transactions.as_ref().map(|t| Cow::Owned(t.id().to_string())),
            acks: self.config.acks.code(),
            timeout_ms: self.net.request_timeout().as_millis().min(i32::MAX as u64) as i32,
            topic_data: self.topic_data(drained, version),
        };
        let options = SendOptions { version, timeout: None, answered: self.config.acks != Acks::None };
        self.net.send(now, node, &request, options, SenderCall::Produce(call), out);
        while self.config.acks == Acks::None {
            let Some(done) = self.net.next_done() else { break };
            self.request_done(now, done, codecs, out);
        }
    }

    /// The latest version, unless some topic's id is not known.
    fn produce_version(&self, node: i32, drained: &[Drained]) -> Option<i16> {
        let has_id =
            |part: &Drained| !self.net.metadata.topic(self.accumulator.slot(part.slot).topic).id.is_zero();
        let latest = match drained.iter().all(has_id) {
            // From the next version on, writing to a partition makes it join the transaction.
            _ if self.joins_by_request() => LAST_BEFORE_VERSION_2,
            true => i16::MAX,
            false => LAST_WITH_NAMES,
        };
        self.net.version(node, ApiKey::Produce, latest)
    }

    fn topic_data(&self, drained: Vec<Drained>, version: i16) -> Vec<TopicProduceData<'static>> {
        let mut topics: Vec<TopicProduceData<'static>> = Vec::with_capacity(1);
        let mut indices = Vec::with_capacity(1);
        for part in drained {
            let slot = self.accumulator.slot(part.slot);
            let data = PartitionProduceData { index: slot.partition.partition, records: Some(part.records) };
            match indices.iter().position(|&topic| topic == slot.topic) {
                Some(at) => topics[at].partition_data.push(data),
                None => {
                    let topic = self.net.metadata.topic(slot.topic);
                    let named = version <= LAST_WITH_NAMES;
                    indices.push(slot.topic);
                    topics.push(TopicProduceData {
                        name: if named { Cow::Owned(topic.name.to_string()) } else { Cow::Borrowed("") },
                        topic_id: if named { wire::Uuid::ZERO } else { topic.id },
                        partition_data: alloc::vec![data],
                    });
                }
            }
        }
        topics
    }

    // --- answers

    pub(super) fn request_done(
        &mut self,
        now: Instant,
        mut done: Done<SenderCall>,
        codecs: &dyn Codecs,
        out: &mut Outputs,
    ) {
        match core::mem::replace(&mut done.call, SenderCall::InitProducerId) {
            SenderCall::Produce(call) => self.produce_done(now, call, &done, codecs, out),
            SenderCall::InitProducerId => self.identity_done(now, &done, out),
            SenderCall::Transaction(call) => self.transaction_done(now, call, &done, out),
        }
    }

    fn produce_done(
        &mut self,
        now: Instant,
        call: ProduceCall,
        done: &Done<SenderCall>,
        codecs: &dyn Codecs,
        out: &mut Outputs,
    ) {
        let node = done.node;
        let lost = match &done.outcome {
            Outcome::Answered(frame) => match done.decode::<ProduceRequest<'_>>(frame) {
                Ok(response) => return self.answered(now, call, &response, codecs, out),
                Err(error) => {
                    self.net.undecodable_answer(now, node, ApiKey::Produce, &error, out);
                    let text = format!("Disconnected from node {node}");
                    (ErrorCode::NETWORK_EXCEPTION, text)
                }
            },
            Outcome::Sent => (ErrorCode::NONE, String::new()),
            Outcome::TimedOut => {
                (ErrorCode::REQUEST_TIMED_OUT, format!("Disconnected from node {node} due to timeout"))
            }
            Outcome::Disconnected => (ErrorCode::NETWORK_EXCEPTION, format!("Disconnected from node {node}")),
        };
        for (slot, id) in call {
            self.batch_answered(now, slot, id, &Answer::lost(lost.0, &lost.1), codecs, out);
        }
    }

    fn answered(
        &mut self,
        now: Instant,
        mut call: ProduceCall,
        response: &ProduceResponse<'_>,
        codecs: &dyn Codecs,
        out: &mut Outputs,
    ) {
        for endpoint in &response.node_endpoints {
            if self.net.metadata.broker(endpoint.node_id).is_none() {
                self.net.metadata.broker_told(Broker {
                    id: endpoint.node_id,
                    endpoint: Endpoint::new(endpoint.host.as_ref(), endpoint.port as u16),
                    rack: endpoint.rack.as_deref().map(Into::into),
                });
            }
        }
        for topic in &response.responses {
            let index = match topic.topic_id.is_zero() {
                true => self.net.metadata.topic_named(&topic.name),
                false => self.net.metadata.topic_with_id(topic.topic_id),
            };
            let Some(index) = index else { continue };
            for partition in &topic.partition_responses {
                let slot = self.accumulator.find(index, partition.index);
                let Some(at) = call.iter().position(|&(asked, _)| Some(asked) == slot) else { continue };
                let (slot, id) = call.remove(at);
                self.batch_answered(now, slot, id, &answer(partition), codecs, out);
            }
        }
        for (slot, id) in call {
            // The broker did not speak of it: as unknown as if the answer were lost.
            let answer =
                Answer::lost(ErrorCode::NETWORK_EXCEPTION, "The response does not name the partition");
            self.batch_answered(now, slot, id, &answer, codecs, out);
        }
    }

    fn batch_answered(
        &mut self,
        now: Instant,
        slot: SlotIndex,
        id: u64,
        answer: &Answer<'_>,
        codecs: &dyn Codecs,
        out: &mut Outputs,
    ) {
        // A batch whose delivery time-out passed meanwhile has its outcome already.
        let Some(mut batch) = self.accumulator.land(slot, id) else { return };
        if answer.error == ErrorCode::NONE {
            return self.acked(slot, &batch, answer.base_offset, out);
        }
        if answer.error == ErrorCode::DUPLICATE_SEQUENCE_NUMBER && batch.has_sequence() {
            // It is in the log, and the leader does not remember where.
            return self.acked(slot, &batch, -1, out);
        }
        batch.maybe_appended |= may_be_appended(answer.error, self.config.acks);
        if answer.error == ErrorCode::MESSAGE_TOO_LARGE && batch.count() > 1 {
            if self.accumulator.split(slot, batch, &self.net.metadata, codecs).is_err() {
                unreachable!("a producer reads the batches that it made");
            }
            return;
        }
        self.refresh_metadata(slot, answer);
        let retries = batch.attempts < self.config.retries
            && !self.accumulator.is_expired(now, &batch)
            && self.may_go_away(slot, &batch, answer);
        if !retries {
            let error = failure(answer);
            self.note_failure(&batch, &error);
            return self.give_up(slot, &batch, &error, out);
        }
        out.event(|| ClientEvent::BatchRetried {
            partition: self.accumulator.slot(slot).partition.clone(),
            error: answer.error.name(),
            records: batch.made(),
        });
        self.accumulator.requeue(now, slot, batch, &self.net.metadata, &mut self.rng);
    }

    /// Errors that say that the metadata is stale; some name the new leader (KIP-951).
    fn refresh_metadata(&mut self, slot: SlotIndex, answer: &Answer<'_>) {
        if !answer.error.refreshes_metadata() {
            return;
        }
        let slot = self.accumulator.slot(slot);
        if let Some((leader, epoch)) = answer.leader {
            self.net.metadata.leader_told(slot.topic, slot.partition.partition, leader, epoch);
            self.net.sync_nodes();
        }
        self.net.metadata.request_update();
    }

    fn acked(&mut self, slot: SlotIndex, batch: &ProducerBatch, base_offset: i64, out: &mut Outputs) {
        self.accumulator.acked(slot, batch);
        self.accumulator.forget(batch);
        let partition = &self.accumulator.slot(slot).partition;
        let records = batch.made();
        out.event(|| ClientEvent::BatchAcked {
            partition: partition.clone(),
            base_offset,
            records: records.clone(),
        });
        if let Some(results) = &mut self.results {
            let (topic, partition) = (partition.topic.clone(), Some(partition.partition));
            results.push(SendResult { topic, partition, records, result: Ok(base_offset) });
        }
    }

    fn expired(&mut self, now: Instant, slot: SlotIndex, batch: ProducerBatch, out: &mut Outputs) {
        let text = format!(
            "Expiring {} record(s) for {}:{} ms has passed since batch creation. The request has not been sent, or no \
             server response has been received yet.",
            batch.count(),
            self.accumulator.slot(slot).partition,
            now.since(batch.created).as_millis()
        );
        let error = ClientError::timeout(text);
        if let Some(transactions) = &mut self.transactions {
            transactions.batch_failed(&error);
        }
        self.give_up(slot, &batch, &error, out);
    }

    fn give_up(&mut self, slot: SlotIndex, batch: &ProducerBatch, error: &ClientError, out: &mut Outputs) {
        self.accumulator.given_up(slot, batch);
        self.forget_batch(slot, batch, error, out);
    }

    /// Tells what became of a batch that was given up.
    pub(super) fn forget_batch(
        &mut self,
        slot: SlotIndex,
        batch: &ProducerBatch,
        error: &ClientError,
        out: &mut Outputs,
    ) {
        self.accumulator.forget(batch);
        let fate = if batch.maybe_appended { Fate::Indefinite } else { Fate::Failed };
        let partition = self.accumulator.slot(slot).partition.clone();
        self.failed(partition.topic, Some(partition.partition), batch.made(), error, fate, out);
    }
}

/// With which exception a batch fails.
fn failure(answer: &Answer<'_>) -> ClientError {
    let message = match answer.error {
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            Some("The producer is not authorized to do idempotent sends")
        }
        _ => answer.message,
    };
    ClientError::from_code(answer.error, message)
}

fn answer<'a>(partition: &'a PartitionProduceResponse<'_>) -> Answer<'a> {
    let leader = &partition.current_leader;
    // The first record error says more than the code: which record, and why.
    let record_error =
        partition.record_errors.iter().find_map(|error| error.batch_index_error_message.as_deref());
    Answer {
        error: ErrorCode(partition.error_code),
        message: record_error.or(partition.error_message.as_deref()),
        base_offset: partition.base_offset,
        log_start_offset: partition.log_start_offset,
        leader: (leader.leader_id >= 0 && leader.leader_epoch >= 0)
            .then_some((leader.leader_id, leader.leader_epoch)),
    }
}

/// Whether an attempt that ended so may have left its records in a log.
///
/// What a leader refuses before it appends is definite. With acks=all a leader also answers some errors after the
/// append: its leadership ended, or the in-sync replicas were too slow or too few.
fn may_be_appended(error: ErrorCode, acks: Acks) -> bool {
    match error {
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NETWORK_EXCEPTION
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::UNKNOWN_SERVER_ERROR => true,
        // Leadership, or the topic itself, may have gone while the request waited for the in-sync replicas.
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::REPLICA_NOT_AVAILABLE => acks == Acks::All,
        ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::MESSAGE_TOO_LARGE
        | ErrorCode::RECORD_LIST_TOO_LARGE
        | ErrorCode::INVALID_REQUIRED_ACKS
        | ErrorCode::INVALID_TIMESTAMP
        | ErrorCode::INVALID_RECORD
        | ErrorCode::CORRUPT_MESSAGE
        | ErrorCode::INVALID_TOPIC_EXCEPTION
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::UNSUPPORTED_VERSION
        | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
        | ErrorCode::POLICY_VIOLATION
        | ErrorCode::INVALID_REQUEST
        | ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        | ErrorCode::INVALID_PRODUCER_EPOCH
        | ErrorCode::UNKNOWN_PRODUCER_ID => false,
        // What is not known to be refused before the append may have come after it.
        _ => true,
    }
}

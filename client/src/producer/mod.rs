//! Kafka's producer (`KafkaProducer.java`, `Sender.java`).
//!
//! Records are gathered into batches by partition, sent to the partitions' leaders with several requests in flight
//! for each, tried again with backoff until `delivery.timeout.ms`, and split when a broker finds them too large.
//! An owner calls [`Producer::handle`] with every input, hands over what it has with [`Producer::send`], and then
//! calls [`Producer::drive`]. Every record gets exactly one outcome, as an event.
//!
//! Unless its settings rule it out, a producer is idempotent: every batch gets into the log once, and those of a partition
//! in their order, over all retries. See `idempotence`. With a `transactional.id` it sends in transactions: `transaction`.
//!
//! An outcome is *failed* only if no attempt can have left the records in a log: every attempt was refused before
//! the append, or there was none. A lost connection, a time-out, or an error that a leader gives after its append
//! make it *indefinite*.

mod accumulator;
mod batch;
mod idempotence;
mod joining;
pub mod partitioner;
mod sender;
mod sequences;
#[cfg(test)]
mod tests;
mod transaction;

use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use smallvec::SmallVec;
use wire::Codecs;
use wire::batch::BatchBuilder;
use wire::drive::{Endpoint, Instant, Now};
use wire::error::ErrorCode;

use crate::Rng;
use crate::backoff::fork;
use crate::config::ProducerConfig;
use crate::error::ClientError;
use crate::event::{ClientEvent, Fate, Made};
use crate::io::{Input, Outputs};
use crate::metadata::TopicIndex;
use crate::net::{NetworkClient, sooner};
use accumulator::{Accumulator, SlotIndex};
use idempotence::Idempotence;
pub use transaction::TransactionState;
use transaction::{TransactionCall, Transactions};

/// A record to send.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// The partition, if it is not left to the partitioner.
    pub partition: Option<i32>,
    /// Milliseconds of the wall clock.
    pub timestamp: i64,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; null makes a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// What the caller knows it by.
    pub made: Made,
}

impl NewRecord<'_> {
    /// The most bytes that a batch of it alone takes.
    fn size_upper_bound(&self) -> usize {
        BatchBuilder::size_upper_bound(self.key, self.value, self.headers)
    }
}

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// As Java's `send` would block: hand the same record over again after the next input.
    #[error("the producer waits for metadata or memory")]
    Blocked,
    /// The record has failed, and its outcome was told.
    #[error(transparent)]
    Refused(ClientError),
}

/// What became of records, for owners that want to know more than the events tell.
#[derive(Clone, Debug)]
pub struct SendResult {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, if one was chosen.
    pub partition: Option<i32>,
    /// The records.
    pub records: Arc<[Made]>,
    /// The offset of the first, or why they failed.
    pub result: Result<i64, (ClientError, Fate)>,
}

/// A Produce request that is in flight: its batches.
type ProduceCall = SmallVec<[(SlotIndex, u64); 4]>;

/// A request that is in flight.
#[derive(Clone, Debug)]
enum SenderCall {
    Produce(ProduceCall),
    InitProducerId,
    Transaction(TransactionCall),
}

/// A producer.
#[derive(Clone)]
pub struct Producer {
    config: ProducerConfig,
    net: NetworkClient<SenderCall>,
    accumulator: Accumulator,
    idempotence: Idempotence,
    transactions: Option<Transactions>,
    /// The partitioner's and the retries' own stream.
    rng: Rng,
    blocked_since: Option<Instant>,
    closing: bool,
    results: Option<Vec<SendResult>>,
}

impl Producer {
    /// A producer that knows its bootstrap servers.
    pub fn new(config: ProducerConfig, client_id: &str, bootstrap: Vec<Endpoint>, mut rng: Rng) -> Producer {
        let own = fork(&mut rng);
        let net = NetworkClient::new(
            bootstrap,
            config.common.net(client_id, config.max_in_flight),
            config.common.metadata(true),
            rng,
        );
        let accumulator = Accumulator::new(&config);
        let idempotence = Idempotence::new(config.idempotence);
        let transactions =
            config.transactional_id.as_deref().map(|id| Transactions::new(id, config.transaction_timeout));
        Producer {
            config,
            net,
            accumulator,
            idempotence,
            transactions,
            rng: own,
            blocked_since: None,
            closing: false,
            results: None,
        }
    }

    /// From now on, outcomes are kept for [`Producer::take_results`].
    pub fn keep_results(&mut self) {
        self.results.get_or_insert_default();
    }

    /// The outcomes since the last call, in order.
    pub fn take_results(&mut self) -> Vec<SendResult> {
        self.results.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// The settings.
    pub fn config(&self) -> &ProducerConfig {
        &self.config
    }

    /// A topic to send to; its metadata is asked for from now on.
    pub fn topic(&mut self, name: &str) -> TopicIndex {
        self.net.metadata.add_topic(name)
    }

    /// Takes an input and what ended by it.
    pub fn handle(&mut self, now: Now, input: &Input, codecs: &dyn Codecs, out: &mut Outputs) {
        self.net.handle(now.mono, input, out);
        while let Some(done) = self.net.next_done() {
            self.request_done(now.mono, done, codecs, out);
        }
    }

    /// Sends what is due. To be called after every input, once its records were handed over.
    pub fn drive(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) {
        self.run_sender(now.mono, codecs, out);
        self.accumulator.check_invariants();
    }

    /// When the producer wants [`Input::Timer`].
    pub fn next_deadline(&self) -> Option<Instant> {
        let blocked = self.blocked_since.map(|since| since + self.config.max_block);
        let transactions = self.transactions.as_ref().and_then(Transactions::deadline);
        let sends = sooner(self.idempotence.deadline(), self.accumulator.deadline());
        let sends = sooner(transactions, sends);
        sooner(blocked, sooner(sends, self.net.next_deadline()))
    }

    /// The batches that have no outcome yet.
    pub fn incomplete(&self) -> usize {
        self.accumulator.incomplete()
    }

    /// Stops lingering until everything handed over has an outcome; see [`Producer::incomplete`].
    pub fn flush(&mut self) {
        self.accumulator.set_hurry(true);
    }

    /// Lingers again.
    pub fn flushed(&mut self) {
        self.accumulator.set_hurry(self.closing);
    }

    /// Takes no further record, and sends what there is: done when [`Producer::incomplete`] is 0.
    pub fn begin_close(&mut self) {
        self.closing = true;
        self.blocked_since = None;
        self.accumulator.set_hurry(true);
    }

    /// Closes the connections. Nothing comes of this producer any more.
    pub fn finish_close(&mut self, out: &mut Outputs) {
        self.net.close(out);
    }

    /// Hands a record over.
    pub fn send(
        &mut self,
        now: Now,
        topic: TopicIndex,
        record: &NewRecord<'_>,
        out: &mut Outputs,
    ) -> Result<i32, SendError> {
        let refusal = self.transactions.as_ref().and_then(Transactions::refusal);
        if let Some(error) = refusal.or_else(|| self.idempotence.error()) {
            self.blocked_since = None;
            return Err(self.refuse(topic, record, error, out));
        }
        let known = self.net.metadata.topic(topic);
        let error = known.error;
        if matches!(error, ErrorCode::INVALID_TOPIC_EXCEPTION | ErrorCode::TOPIC_AUTHORIZATION_FAILED) {
            let name = &known.name;
            let text = match error {
                ErrorCode::INVALID_TOPIC_EXCEPTION => format!("Invalid topics: [{name}]"),
                _ => format!("Not authorized to access topics: [{name}]"),
            };
            return Err(self.refuse(topic, record, ClientError::from_code(error, Some(&text)), out));
        }
        let count = known.partitions.len() as i32;
        if record.partition.is_some_and(|partition| partition < 0) {
            let text = format!(
                "Invalid partition: {}. Partition number should always be non-negative or null.",
                record.partition.unwrap_or_default()
            );
            return Err(self.refuse(topic, record, ClientError::illegal_argument(text), out));
        }
        if count == 0 || record.partition.is_some_and(|partition| partition >= count) {
            return Err(self.block(now.mono, topic, record, None, out));
        }
        let size = record.size_upper_bound();
        if size > self.config.max_request_size || size as u64 > self.config.buffer_memory {
            return Err(self.refuse(topic, record, self.too_large(size), out));
        }
        let metadata = &self.net.metadata;
        match self.accumulator.append(now.mono, topic, metadata, record, &mut self.rng) {
            Ok(partition) => {
                self.record_joins(topic, partition);
                if self.blocked_since.take().is_some() {
                    self.accumulator.set_hurry(self.closing);
                }
                Ok(partition)
            }
            Err(exhausted) => {
                // While somebody waits for memory, nothing lingers.
                self.accumulator.set_hurry(true);
                Err(self.block(now.mono, topic, record, Some(exhausted), out))
            }
        }
    }

    /// A record that [`SendError::Blocked`] kept out is not handed over again, since the producer closes.
    pub fn abandon(&mut self, topic: TopicIndex, made: Made, out: &mut Outputs) {
        let name = self.net.metadata.topic(topic).name.clone();
        let error = ClientError::kafka("Producer closed while send in progress");
        self.failed(name, None, vec![made].into(), &error, Fate::Failed, out);
    }

    /// Whether a record that was not taken because of a lack of metadata or memory may be handed over again now.
    pub fn is_blocked(&self) -> bool {
        self.blocked_since.is_some()
    }

    /// `send` blocks, or has blocked for too long.
    fn block(
        &mut self,
        now: Instant,
        topic: TopicIndex,
        record: &NewRecord<'_>,
        exhausted: Option<accumulator::Exhausted>,
        out: &mut Outputs,
    ) -> SendError {
        let since = *self.blocked_since.get_or_insert(now);
        if exhausted.is_none() {
            self.net.metadata.request_update();
        }
        if since + self.config.max_block > now {
            return SendError::Blocked;
        }
        self.blocked_since = None;
        let ms = self.config.max_block.as_millis();
        let known = self.net.metadata.topic(topic);
        let text = match (exhausted, record.partition) {
            (Some(exhausted), _) => format!(
                "Failed to allocate {} bytes within the configured max blocking time {ms} ms. Total memory: {} bytes. \
                 Available memory: {} bytes. Poolable size: {} bytes",
                exhausted.wanted, self.config.buffer_memory, exhausted.available, self.config.batch_size
            ),
            (None, Some(partition)) if !known.partitions.is_empty() => format!(
                "Partition {partition} of topic {} with partition count {} is not present in metadata after {ms} ms.",
                known.name,
                known.partitions.len()
            ),
            (None, _) => format!("Topic {} not present in metadata after {ms} ms.", known.name),
        };
        self.refuse(topic, record, ClientError::timeout(text), out)
    }

    fn too_large(&self, size: usize) -> ClientError {
        let (limit, name) = if size > self.config.max_request_size {
            (self.config.max_request_size as u64, "max.request.size")
        } else {
            (self.config.buffer_memory, "buffer.memory")
        };
        let text = if name == "max.request.size" {
            format!(
                "The message is {size} bytes when serialized which is larger than {limit}, which is the value of the \
                 {name} configuration."
            )
        } else {
            format!(
                "The message is {size} bytes when serialized which is larger than the total memory buffer you have \
                 configured with the {name} configuration."
            )
        };
        ClientError::from_code(ErrorCode::MESSAGE_TOO_LARGE, Some(&text))
    }

    /// A record fails before it is in a batch.
    fn refuse(
        &mut self,
        topic: TopicIndex,
        record: &NewRecord<'_>,
        error: ClientError,
        out: &mut Outputs,
    ) -> SendError {
        let name = self.net.metadata.topic(topic).name.clone();
        self.failed(name, record.partition, vec![record.made].into(), &error, Fate::Failed, out);
        SendError::Refused(error)
    }

    fn failed(
        &mut self,
        topic: Arc<str>,
        partition: Option<i32>,
        records: Arc<[Made]>,
        error: &ClientError,
        fate: Fate,
        out: &mut Outputs,
    ) {
        out.event(|| ClientEvent::BatchFailed {
            topic: topic.clone(),
            partition,
            error: error.code.name(),
            message: error.message.clone(),
            fate,
            records: records.clone(),
        });
        if let Some(results) = &mut self.results {
            results.push(SendResult { topic, partition, records, result: Err((error.clone(), fate)) });
        }
    }
}

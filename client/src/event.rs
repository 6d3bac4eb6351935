//! Everything that matters in a client, as one closed enum.
//!
//! Checkers, statistics and reports read these. They are compact: one event per batch or per poll and partition,
//! never one per record. Together they tell for each message who made it, where it was sent, what the producer was
//! told about it and who read it at which offset.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
pub use wire::TopicPartition;
use wire::drive::{Instant, Nanos};

/// A message that was handed to a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Made {
    /// `N` of `NAME-N`; for other producers, the caller's number.
    pub number: u64,
    /// When it was handed over: latencies count from here.
    pub at: Instant,
}

/// A message as a consumer recognises it by its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The index of the client's name in the [`crate::workload::Names`] that the consumer was given, or
    /// [`MessageId::FOREIGN`].
    pub client: u32,
    /// `N` of `NAME-N`; for a foreign value, its index in [`Polled::foreign`].
    pub number: u32,
}

impl MessageId {
    /// The value is not of the form `NAME-N` with a known name.
    pub const FOREIGN: u32 = u32::MAX;
}

/// A record as a poll returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolledRecord {
    /// Its offset.
    pub offset: i64,
    /// Which message it is.
    pub message: MessageId,
}

/// What one poll returned of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polled {
    /// The partition.
    pub partition: TopicPartition,
    /// Counts the polls of this process that returned anything, from 1; equal for the partitions of one poll.
    pub poll: u64,
    /// In offset order.
    pub records: Vec<PolledRecord>,
    /// The values that are no message of a scenario.
    pub foreign: Vec<Bytes>,
    /// When the processing of the first of `records` begins.
    pub processing_from: Instant,
    /// The processing time of each: record `i` is done at `processing_from + (i + 1) * per_record`.
    pub per_record: Nanos,
}

/// What a producer knows about messages that it gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// Certainly not appended, and they never will be.
    Failed,
    /// Perhaps appended: an answer is missing, or said that the records were written and not replicated.
    Indefinite,
}

/// Why a consumer's position was set by its client and not by records that it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResetReason {
    /// The position at the start: `from`, or `auto.offset.reset` for a partition without one.
    Start,
    /// The offset that the group has committed.
    Committed,
    /// The leader answered OFFSET_OUT_OF_RANGE, and `auto.offset.reset` applied.
    OutOfRange,
    /// The log was truncated below the position (KIP-320).
    Truncation,
}

/// How a transaction ended, as far as its producer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionEnd {
    /// The coordinator acknowledged the commit.
    Committed,
    /// The coordinator acknowledged the abort, or the producer knows that it must have been aborted.
    Aborted,
    /// A commit was asked for, and no answer came: it may have been committed.
    Indefinite,
}

/// A domain fact. The driver knows which process it came from and when.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantNames)]
pub enum ClientEvent {
    // --- producers
    /// Messages `first`, `first + 1`, … were handed to the producer.
    MessagesMade {
        /// Their topic.
        topic: Arc<str>,
        /// The number of the first.
        first: u64,
        /// How many.
        count: u32,
    },
    /// A batch left for a leader.
    BatchSent {
        /// The partition.
        partition: TopicPartition,
        /// The broker.
        node: i32,
        /// From 1.
        attempt: u32,
        /// The messages, in the order of their records.
        records: Arc<[Made]>,
    },
    /// An attempt was refused or lost, and will be made again.
    BatchRetried {
        /// The partition.
        partition: TopicPartition,
        /// Kafka's name of the error.
        error: &'static str,
        /// The messages.
        records: Arc<[Made]>,
    },
    /// A batch was acknowledged: message `i` of it lies at `base_offset + i`.
    BatchAcked {
        /// The partition.
        partition: TopicPartition,
        /// The offset of the first record; -1 if the leader did not tell (acks=0).
        base_offset: i64,
        /// The messages.
        records: Arc<[Made]>,
    },
    /// An idempotent producer got its id, or raised its epoch since the sequence numbers of a partition could not go on.
    ProducerIdentity {
        /// The producer id.
        producer_id: i64,
        /// The producer epoch.
        producer_epoch: i16,
    },
    /// Messages were given up.
    BatchFailed {
        /// The topic.
        topic: Arc<str>,
        /// The partition, if one was chosen.
        partition: Option<i32>,
        /// Kafka's name of the error.
        error: &'static str,
        /// The exception's message.
        message: String,
        /// Whether they may have been appended all the same.
        fate: Fate,
        /// The messages.
        records: Arc<[Made]>,
    },

    // --- consumers
    /// A poll returned records.
    Polled(Polled),
    /// A consumer's position was set.
    PositionReset {
        /// The partition.
        partition: TopicPartition,
        /// Before, if there was one.
        from: Option<i64>,
        /// Now.
        to: i64,
        /// Why.
        reason: ResetReason,
    },
    /// A consumer failed with an exception that its application does not handle.
    ConsumerFailed {
        /// Kafka's name of the error.
        error: &'static str,
        /// The exception's message.
        message: String,
    },
    /// A reader learned where a partition ends.
    EndOffset {
        /// The partition.
        partition: TopicPartition,
        /// The offset up to which it reads.
        end: i64,
    },
    /// A reader has everything of a partition.
    EndReached {
        /// The partition.
        partition: TopicPartition,
        /// Its position.
        position: i64,
    },

    // --- groups
    /// A consumer is a member of its group's generation.
    GroupJoined {
        /// The group.
        group: Arc<str>,
        /// The member id.
        member: Arc<str>,
        /// The generation (classic) or member epoch (KIP-848).
        generation: i32,
    },
    /// `onPartitionsAssigned`: these partitions were added to what the consumer owns.
    PartitionsAssigned {
        /// The group.
        group: Arc<str>,
        /// Those that were added.
        partitions: Vec<TopicPartition>,
        /// All that it owns now.
        owned: Vec<TopicPartition>,
    },
    /// `onPartitionsRevoked`: the consumer gives these up in order, and may commit before.
    PartitionsRevoked {
        /// The group.
        group: Arc<str>,
        /// Those that it gave up.
        partitions: Vec<TopicPartition>,
    },
    /// `onPartitionsLost`: these belong to others already.
    PartitionsLost {
        /// The group.
        group: Arc<str>,
        /// Those that it lost.
        partitions: Vec<TopicPartition>,
    },
    /// The coordinator acknowledged committed offsets.
    OffsetsCommitted {
        /// The group.
        group: Arc<str>,
        /// The offsets, each the next to be read.
        offsets: Vec<(TopicPartition, i64)>,
    },
    /// A commit was refused or lost, and will not be made again.
    CommitFailed {
        /// The group.
        group: Arc<str>,
        /// Kafka's name of the error.
        error: &'static str,
        /// What should have been committed.
        offsets: Vec<(TopicPartition, i64)>,
    },

    // --- transactions
    /// A transaction began.
    TransactionBegan {
        /// The transactional id.
        transactional_id: Arc<str>,
        /// Counts this client's transactions, from 0, over its restarts.
        number: u64,
    },
    /// A transaction ended, as far as its producer knows.
    TransactionEnded {
        /// The transactional id.
        transactional_id: Arc<str>,
        /// Which.
        number: u64,
        /// How.
        end: TransactionEnd,
        /// The messages of it: numbers of `NAME-N`.
        messages: Vec<u64>,
        /// The offsets committed with it: what was consumed.
        offsets: Vec<(TopicPartition, i64)>,
    },
    /// A producer failed with an exception after which only a new one helps, for example PRODUCER_FENCED.
    ProducerFailed {
        /// Kafka's name of the error.
        error: &'static str,
        /// The exception's message.
        message: String,
    },

    // --- all
    /// A broker refused a request of this client, or the client gave one up: the last one is `last_error`.
    RequestFailed {
        /// The request, for example `Fetch`.
        api: &'static str,
        /// Kafka's name of the error.
        error: &'static str,
    },
    /// Anything that Kafka's client logs as a warning or an error and that no other event says.
    Warning {
        /// In words.
        text: String,
    },
    /// The client closed in an orderly way.
    ClientClosed,
}

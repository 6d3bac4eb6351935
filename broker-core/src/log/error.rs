//! What can go wrong with a log: one enum per operation.

use alloc::string::String;
use alloc::vec::Vec;

use wire::error::ErrorCode;

use crate::disk::DiskError;

/// Why opening, cutting or closing a log failed. The log directory goes offline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    Disk {
        /// The file or directory.
        path: String,
        /// The reason.
        error: DiskError,
    },
    /// A file is there and is not what it should be.
    #[error("{path}: {why}")]
    Malformed {
        /// The file.
        path: String,
        /// In words.
        why: String,
    },
}

/// Which record of a request was refused, and why: `RecordErrors` of a produce response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's index in its batch.
    pub batch_index: i32,
    /// In Kafka's words.
    pub message: String,
}

/// Why records were not appended. Nothing was written, unless it is [`AppendError::Disk`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// INVALID_RECORD.
    #[error("{message}")]
    InvalidRecord {
        /// In Kafka's words.
        message: String,
        /// The records at fault, when it is about single ones.
        record_errors: Vec<RecordError>,
    },
    /// INVALID_TIMESTAMP: a record is too old or too far in the future.
    #[error("{message}")]
    InvalidTimestamp {
        /// In Kafka's words.
        message: String,
        /// The records at fault.
        record_errors: Vec<RecordError>,
    },
    /// CORRUPT_MESSAGE: the CRC or the framing is wrong.
    #[error("{message}")]
    Corrupt {
        /// In Kafka's words.
        message: String,
    },
    /// UNSUPPORTED_COMPRESSION_TYPE: this build lacks the codec.
    #[error("{message}")]
    UnsupportedCompression {
        /// In words.
        message: String,
    },
    /// MESSAGE_TOO_LARGE: a batch exceeds `max.message.bytes`.
    #[error(
        "The record batch size in the append to {log} is {size} bytes which exceeds the maximum configured value of {limit}."
    )]
    MessageTooLarge {
        /// The partition.
        log: String,
        /// The batch's size.
        size: usize,
        /// `max.message.bytes`.
        limit: usize,
    },
    /// RECORD_LIST_TOO_LARGE: more than a segment can hold.
    #[error(
        "The record batch size in the append to {log} is {size} bytes which exceeds the maximum configured segment size of {limit}."
    )]
    RecordListTooLarge {
        /// The partition.
        log: String,
        /// The size of all batches.
        size: usize,
        /// `segment.bytes`.
        limit: usize,
    },
    /// OUT_OF_ORDER_SEQUENCE_NUMBER: a producer's batch does not continue its last one.
    #[error("{message}")]
    OutOfOrderSequence {
        /// In Kafka's words.
        message: String,
    },
    /// INVALID_PRODUCER_EPOCH: a producer of the same id with a later epoch has taken over.
    #[error("{message}")]
    InvalidProducerEpoch {
        /// In Kafka's words.
        message: String,
    },
    /// INVALID_TXN_STATE: a batch belongs to no transaction that the coordinator knows, or to none while one is open.
    #[error("{message}")]
    InvalidTxnState {
        /// In Kafka's words.
        message: String,
    },
    /// TRANSACTION_COORDINATOR_FENCED: a marker of a coordinator whose partition has another leader since.
    #[error("{message}")]
    CoordinatorFenced {
        /// In Kafka's words.
        message: String,
    },
    /// A follower was given what does not continue its log.
    #[error("offsets in the append to {log} begin at {first_offset}, the log end offset is {log_end_offset}")]
    UnexpectedOffset {
        /// The partition.
        log: String,
        /// The first offset given.
        first_offset: i64,
        /// The log end offset.
        log_end_offset: i64,
    },
    /// KAFKA_STORAGE_ERROR: the disk failed; the log directory goes offline.
    #[error("{0}")]
    Disk(DiskError),
}

impl AppendError {
    /// The answer to a producer. A follower's [`AppendError::UnexpectedOffset`] never leaves the node.
    pub fn code(&self) -> ErrorCode {
        match self {
            AppendError::InvalidRecord { .. } => ErrorCode::INVALID_RECORD,
            AppendError::InvalidTimestamp { .. } => ErrorCode::INVALID_TIMESTAMP,
            AppendError::Corrupt { .. } => ErrorCode::CORRUPT_MESSAGE,
            AppendError::UnsupportedCompression { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            AppendError::MessageTooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            AppendError::RecordListTooLarge { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
            AppendError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            AppendError::InvalidProducerEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
            AppendError::InvalidTxnState { .. } => ErrorCode::INVALID_TXN_STATE,
            AppendError::CoordinatorFenced { .. } => ErrorCode::TRANSACTION_COORDINATOR_FENCED,
            AppendError::UnexpectedOffset { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
            AppendError::Disk(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }

    /// The records at fault, for the `RecordErrors` of the answer.
    pub fn record_errors(&self) -> &[RecordError] {
        match self {
            AppendError::InvalidRecord { record_errors, .. }
            | AppendError::InvalidTimestamp { record_errors, .. } => record_errors,
            _ => &[],
        }
    }
}

/// Why nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// OFFSET_OUT_OF_RANGE.
    #[error("offset {offset} is outside of the log from {log_start_offset} to {log_end_offset}")]
    OffsetOutOfRange {
        /// The offset that was asked for.
        offset: i64,
        /// Where the log starts.
        log_start_offset: i64,
        /// Where it ends.
        log_end_offset: i64,
    },
    /// KAFKA_STORAGE_ERROR: the disk failed; the log directory goes offline.
    #[error("{0}")]
    Disk(DiskError),
    /// CORRUPT_MESSAGE: what lies in the file is no batch.
    #[error("no valid record batch at position {position} of segment {segment_base}")]
    Corrupt {
        /// The segment's base offset.
        segment_base: i64,
        /// Where.
        position: u32,
    },
}

impl ReadError {
    /// The answer to a fetch.
    pub fn code(&self) -> ErrorCode {
        match self {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            ReadError::Disk(_) => ErrorCode::KAFKA_STORAGE_ERROR,
            ReadError::Corrupt { .. } => ErrorCode::CORRUPT_MESSAGE,
        }
    }
}

//! Record batches, format 2 (KIP-98; `DefaultRecordBatch.java`, `DefaultRecord.java`).
//!
//! A batch is a header of 61 bytes and its records, which may be compressed as one blob. [`BatchHeader`] parses and
//! keeps every field; [`Batches`] walks the batches of a rope without copying; [`RecordIter`] yields borrowed
//! records; [`BatchBuilder`] makes batches. The base offset and the leader epoch lie before the CRC's range, so that
//! a leader can stamp a client's batch by changing its first 16 bytes: see [`stamp`]. Formats 0 and 1 are recognised
//! and refused.

mod batches;
mod builder;
mod control;
mod header;
mod record;
mod varint;

pub use batches::{Batch, Batches, HeaderIter};
pub use builder::{BatchBuilder, BatchOptions};
pub use control::{ControlRecord, ControlRecordType, control_batch, end_txn_marker_batch};
pub use header::{
    Attributes, BatchHeader, TimestampType, patch_first_16, restamp_log_append_time, restamp_producer, stamp,
};
pub use record::{Header, Headers, Record, RecordIter, Records};

use crate::codec::{DecodeError, EncodeError};
use crate::codecs::CodecError;

/// The size of a batch's header.
pub const HEADER_LEN: usize = 61;
/// The size of the base offset and the length, which the length does not count.
pub const LOG_OVERHEAD: usize = 12;
/// Where the CRC's range begins.
pub const CRC_FROM: usize = 21;
/// The only format that is written.
pub const MAGIC: i8 = 2;
/// No producer id.
pub const NO_PRODUCER_ID: i64 = -1;
/// No producer epoch.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// No sequence number.
pub const NO_SEQUENCE: i32 = -1;
/// No leader epoch: what clients write.
pub const NO_LEADER_EPOCH: i32 = -1;
/// No timestamp.
pub const NO_TIMESTAMP: i64 = -1;

/// What is wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch needs {wanted} bytes and {left} are left")]
    Truncated {
        /// The bytes needed.
        wanted: usize,
        /// The bytes left.
        left: usize,
    },
    /// Format 0 or 1, from before Kafka 0.11: no longer written or read by Kafka 4 clients.
    #[error("message format v{0} is not supported")]
    OldMagic(i8),
    /// A format that does not exist.
    #[error("unknown magic byte {0}")]
    UnknownMagic(i8),
    /// The length is less than that of a header.
    #[error("the batch length {0} is too small")]
    TooSmall(i32),
    /// The CRC does not match: the batch is damaged.
    #[error("the CRC is {stored:08x} and should be {computed:08x}")]
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes have.
        computed: u32,
    },
    /// A compression that Kafka does not know.
    #[error("unknown compression {0}")]
    Compression(u8),
    /// The records could not be decompressed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A record contradicts itself or the batch.
    #[error("a record is malformed: {0}")]
    Record(&'static str),
    /// A control record could not be decoded.
    #[error(transparent)]
    Control(#[from] DecodeError),
    /// A control record could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The sequence number `by` after `sequence`: after 2^31-1 comes 0.
pub fn increment_sequence(sequence: i32, by: i32) -> i32 {
    ((sequence as i64 + by as i64) & i32::MAX as i64) as i32
}

/// The sequence number `by` before `sequence`: before 0 comes 2^31-1.
pub fn decrement_sequence(sequence: i32, by: i32) -> i32 {
    ((sequence as i64 - by as i64) & i32::MAX as i64) as i32
}

//! Kafka's wire and record formats: every request, response and record, record batches, headers, error codes.
//!
//! This crate is the ground of Highwater: it depends on nothing of the project and knows no clock, socket, file or
//! thread (`no_std` + `alloc`). Decoding borrows from the frame and never reserves more than the frame justifies.
#![no_std]
extern crate alloc;

pub mod api;
pub mod batch;
pub mod codec;
pub mod codecs;
pub mod drive;
pub mod error;
pub mod frame;
pub mod framing;
pub mod messages;
pub mod mutants;
pub mod nearest;
pub mod records;
pub mod rope;
pub mod schema;
pub mod topic_partition;
pub mod uuid;

pub use api::{ApiInfo, ApiKey, VersionRange};
pub use codec::{DecodeError, DecodeReason, EncodeError, Message, Reader, Record, Request, Writer};
pub use codecs::{CodecError, Codecs, Compression};
pub use error::ErrorCode;
pub use rope::Rope;
pub use topic_partition::TopicPartition;
pub use uuid::Uuid;

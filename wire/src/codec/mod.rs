//! The encoding below the messages: Kafka's primitive types, strings, arrays and tagged fields.
//!
//! [`Reader`] decodes from a rope and borrows what lies inside one piece; [`Writer`] encodes in one pass and shares
//! large records as pieces of their own. Both take whether the version is flexible (KIP-482: compact lengths and
//! tagged fields) as an argument. A reader never panics and never reserves more memory than the bytes that are
//! left can justify; the generated messages in [`crate::messages`] and [`crate::records`] are built on them.

mod error;
mod reader;
mod writer;

pub use error::{DecodeDetail, DecodeError, DecodeReason, EncodeError};
pub use reader::Reader;
pub use writer::Writer;

use crate::api::ApiKey;

/// A message whose encoding depends on a version.
pub trait Message<'a>: Sized {
    /// Kafka's name, such as `FetchRequest`.
    const NAME: &'static str;
    /// The oldest version.
    const MIN_VERSION: i16;
    /// The latest version.
    const MAX_VERSION: i16;
    /// The first flexible version; `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Decodes the message at `version`. What follows it stays in the reader: see [`Reader::finish`].
    fn decode(r: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError>;

    /// Appends the message at `version`. After an error, what the writer holds is worthless.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A request.
pub trait Request<'a>: Message<'a> {
    /// Its API.
    const KEY: ApiKey;
    /// What answers it.
    type Response<'r>: Message<'r>;
}

/// A record of the metadata log or of a coordinator, or another part of a log: it owns its data.
pub trait Record: Sized {
    /// Kafka's name, such as `PartitionRecord`.
    const NAME: &'static str;
    /// The number by which its family knows it; -1 if it belongs to none.
    const KEY: i16;
    /// The oldest version.
    const MIN_VERSION: i16;
    /// The latest version.
    const MAX_VERSION: i16;
    /// The first flexible version; `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Decodes the record at `version`. What follows it stays in the reader: see [`Reader::finish`].
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError>;

    /// Appends the record at `version`. After an error, what the writer holds is worthless.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

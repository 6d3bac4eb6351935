//! Why bytes could not be decoded, or a message not encoded.

use alloc::boxed::Box;
use core::fmt;
use core::ops::Deref;

/// Why bytes could not be decoded: what was being decoded, where, and why it failed.
///
/// Boxed, so that the results of the small reads stay in registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(Box<DecodeDetail>);

/// The content of a [`DecodeError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeDetail {
    /// The message that was being decoded.
    pub what: &'static str,
    /// The position in the input, in bytes from its beginning.
    pub at: usize,
    /// What is wrong there.
    pub why: DecodeReason,
}

/// What was wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeReason {
    /// The input ends too early.
    #[error("{wanted} bytes are needed and {left} are left")]
    Truncated {
        /// The bytes needed.
        wanted: usize,
        /// The bytes left.
        left: usize,
    },
    /// The version is none of the message's.
    #[error("version {0} is not supported")]
    Version(i16),
    /// No API or record has this key.
    #[error("key {0} is unknown")]
    Key(i16),
    /// A variable-length integer has too many bytes.
    #[error("a variable-length integer is too long")]
    Varint,
    /// Null where a value is required.
    #[error("a value is required and null was found")]
    Null,
    /// An array that the remaining bytes cannot hold.
    #[error("an array announces {announced} elements, more than the {left} bytes left can hold")]
    TooMany {
        /// The announced number of elements.
        announced: usize,
        /// The bytes left.
        left: usize,
    },
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// A tagged field is longer or shorter than its announced size.
    #[error("a tagged field should end at byte {end}")]
    TagSize {
        /// Where its announced size ends.
        end: usize,
    },
    /// Bytes are left after the message.
    #[error("{0} bytes are left after the end")]
    Trailing(usize),
    /// A value that the format does not know.
    #[error("the value {0} is not allowed here")]
    Value(i64),
}

impl DecodeError {
    /// An error at `at` in `what`.
    #[cold]
    #[inline(never)]
    pub fn new(what: &'static str, at: usize, why: DecodeReason) -> DecodeError {
        DecodeError(Box::new(DecodeDetail { what, at, why }))
    }
}

impl Deref for DecodeError {
    type Target = DecodeDetail;
    fn deref(&self) -> &DecodeDetail {
        &self.0
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.what, self.at, self.why)
    }
}

impl core::error::Error for DecodeError {}

/// Why a message could not be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The version is none of the message's.
    #[error("{message} has no version {version}")]
    Version {
        /// The message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A field is set that the version lacks, and that must not be dropped.
    #[error("{field} is set and version {version} does not have it")]
    Field {
        /// The structure and the field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A field is null that must not be null at this version.
    #[error("{field} is null, which version {version} does not allow")]
    Null {
        /// The structure and the field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A string, array or frame is longer than its length field can say.
    #[error("{len} is more than the length field can say")]
    TooLong {
        /// The length.
        len: usize,
    },
}

//! An error code with its text, as responses carry them.

use alloc::string::{String, ToString};
use wire::ErrorCode;

/// Why the controller refuses something: Kafka's code and, where it has one of its own, Kafka's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The code.
    pub code: ErrorCode,
    /// The text. Absent where Kafka leaves it out and clients show the code's own.
    pub message: Option<String>,
}

impl ApiError {
    /// An error with a text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: Some(message.into()) }
    }

    /// An error without a text.
    pub fn bare(code: ErrorCode) -> ApiError {
        ApiError { code, message: None }
    }

    /// An error with the code's own text.
    pub fn standard(code: ErrorCode) -> ApiError {
        ApiError::new(code, code.message().to_string())
    }
}

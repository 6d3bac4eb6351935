//! What a caller of a client is told when something fails: Kafka's exception, its error code and its text.

use alloc::boxed::Box;
use alloc::string::{String, ToString};

use wire::error::ErrorCode;

/// An exception of a Java client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    /// The error code to which Kafka maps the exception.
    pub code: ErrorCode,
    /// The full name of the exception's class.
    pub class: &'static str,
    /// Its message.
    pub message: String,
    /// The exception that caused it.
    pub cause: Option<Box<ClientError>>,
}

impl ClientError {
    /// The exception of an error code, with the text that the response gave, or else Kafka's own.
    pub fn from_code(code: ErrorCode, message: Option<&str>) -> ClientError {
        let message = message.filter(|text| !text.is_empty()).unwrap_or_else(|| code.message());
        ClientError { code, class: code.exception(), message: message.to_string(), cause: None }
    }

    /// `org.apache.kafka.common.errors.TimeoutException`.
    pub fn timeout(message: impl Into<String>) -> ClientError {
        let code = ErrorCode::REQUEST_TIMED_OUT;
        ClientError { code, class: code.exception(), message: message.into(), cause: None }
    }

    /// `org.apache.kafka.common.errors.DisconnectException`.
    pub fn disconnected(message: impl Into<String>) -> ClientError {
        ClientError {
            code: ErrorCode::NETWORK_EXCEPTION,
            class: "org.apache.kafka.common.errors.DisconnectException",
            message: message.into(),
            cause: None,
        }
    }

    /// `org.apache.kafka.common.errors.UnsupportedVersionException`.
    pub fn unsupported_version(message: impl Into<String>) -> ClientError {
        let code = ErrorCode::UNSUPPORTED_VERSION;
        ClientError { code, class: code.exception(), message: message.into(), cause: None }
    }

    /// `org.apache.kafka.common.KafkaException`, which has no code of its own.
    pub fn kafka(message: impl Into<String>) -> ClientError {
        ClientError {
            code: ErrorCode::UNKNOWN_SERVER_ERROR,
            class: "org.apache.kafka.common.KafkaException",
            message: message.into(),
            cause: None,
        }
    }

    /// `java.lang.IllegalStateException`: not now.
    pub fn illegal_state(message: impl Into<String>) -> ClientError {
        ClientError { class: "java.lang.IllegalStateException", ..ClientError::kafka(message) }
    }

    /// `java.lang.IllegalArgumentException`: the caller asked for what cannot be.
    pub fn illegal_argument(message: impl Into<String>) -> ClientError {
        ClientError {
            code: ErrorCode::INVALID_REQUEST,
            class: "java.lang.IllegalArgumentException",
            message: message.into(),
            cause: None,
        }
    }

    /// The same, caused by another.
    pub fn caused_by(mut self, cause: ClientError) -> ClientError {
        self.cause = Some(Box::new(cause));
        self
    }

    /// The class without its package.
    pub fn class_simple(&self) -> &'static str {
        self.class.rsplit('.').next().unwrap_or(self.class)
    }
}

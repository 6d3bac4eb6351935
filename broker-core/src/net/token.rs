//! Requests that wait for their answers.

use wire::ApiKey;
use wire::drive::ConnId;

use crate::io::Listener;

/// A request that waits for its answer. Answering it lets the next request of its connection be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestToken {
    /// Where it came from.
    pub conn: ConnId,
    /// Which listener that is.
    pub listener: Listener,
    /// Its API.
    pub key: ApiKey,
    /// Its version, hence that of the answer.
    pub version: i16,
    /// What the answer must repeat.
    pub correlation_id: i32,
    /// Set if a broker passed it on in an Envelope: the answer goes back in one.
    pub envelope: Option<EnvelopeToken>,
}

/// The Envelope in which a request came (KIP-590).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeToken {
    /// The version of the Envelope request.
    pub version: i16,
    /// What the Envelope response must repeat.
    pub correlation_id: i32,
}

//! Requests that a broker passes on to the active controller in an Envelope (KIP-590).

use crate::net::RequestToken;

/// What is kept of a forwarded request until its answer comes.
#[derive(Clone, Debug)]
pub struct ForwardCall {
    /// The client's request.
    pub token: RequestToken,
}

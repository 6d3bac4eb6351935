//! Requests of the node to its peers: to whom, on which connection, for which mechanism, and what becomes of them.

use wire::Rope;
use wire::drive::ConnError;

pub use crate::lifecycle::LifecycleCall;
pub use crate::raft::RaftCall;

pub use crate::replica::{AlterPartitionCall, FetchCall, VerifyCall};

pub use crate::api::forward::ForwardCall;

pub use crate::coordinator::transaction::TransactionCall;

/// Another node. The net knows its endpoint: of voters from the configuration, of brokers from the metadata image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// A broker, at its inter-broker listener.
    Broker(i32),
    /// A controller, at its controller listener.
    Controller(i32),
}

/// Requests of different classes to one peer travel on connections of their own, as Kafka's do, so that none of them
/// waits behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnClass {
    /// The quorum (`KafkaNetworkChannel`).
    Raft,
    /// A replica fetcher (`BrokerBlockingSender`).
    Fetcher,
    /// AlterPartition (`AlterPartitionManager`).
    AlterPartition,
    /// Registration and heartbeats (`BrokerLifecycleManager`).
    Lifecycle,
    /// Clients' requests on their way to the active controller (`ForwardingManager`), and requests for producer ids.
    Forwarding,
    /// Verification of transactions with their coordinators (`AddPartitionsToTxnManager`).
    Verification,
    /// Markers of transactions that end (`TransactionMarkerChannelManager`).
    Markers,
}

/// Whose request it is, with what its owner keeps of it.
#[derive(Clone, Debug)]
pub enum Call {
    /// The quorum's.
    Raft(RaftCall),
    /// A replica fetcher's.
    Fetcher(FetchCall),
    /// The AlterPartition manager's.
    AlterPartition(AlterPartitionCall),
    /// The broker's or controller's registration and heartbeats.
    Lifecycle(LifecycleCall),
    /// A client's, passed on to the active controller.
    Forward(ForwardCall),
    /// The broker's, for a block of producer ids.
    AllocateProducerIds,
    /// A partition leader's, who verifies a transaction with its coordinator.
    Verify(VerifyCall),
    /// A transaction coordinator's, who ends transactions in partitions.
    Transaction(TransactionCall),
}

impl Call {
    /// The class of connection it travels on.
    pub fn class(&self) -> ConnClass {
        match self {
            Call::Raft(_) => ConnClass::Raft,
            Call::Fetcher(_) => ConnClass::Fetcher,
            Call::AlterPartition(_) => ConnClass::AlterPartition,
            Call::Lifecycle(_) => ConnClass::Lifecycle,
            Call::Forward(_) | Call::AllocateProducerIds => ConnClass::Forwarding,
            Call::Verify(_) => ConnClass::Verification,
            Call::Transaction(_) => ConnClass::Markers,
        }
    }
}

/// What became of a request. Its owner hears it exactly once, unless the node stops first.
#[derive(Clone, Debug)]
pub enum CallOutcome {
    /// It was answered: decode `body` at `version`.
    Answered {
        /// The response after its header.
        body: Rope,
        /// The version of the request, hence of the response.
        version: i16,
    },
    /// No answer came within its time. Its connection was closed.
    TimedOut,
    /// The connection could not be made, or broke, before the answer came. The request may have been handled.
    Disconnected(ConnError),
}

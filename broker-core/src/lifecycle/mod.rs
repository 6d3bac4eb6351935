//! A broker's and a controller's life in its cluster: registration, heartbeats, unfencing, controlled shutdown.
//!
//! [`BrokerLifecycle`] follows `BrokerLifecycleManager`, [`ControllerRegistrar`] follows `ControllerRegistrationManager`
//! (KIP-631, KIP-919). Both talk to the active controller over a connection of their own, also when the controller is
//! in the same node.

mod backoff;
mod broker;
mod controller;
mod to_controller;

pub use broker::{BrokerLifecycle, BrokerState, Identity, Progress};
pub use controller::ControllerRegistrar;
pub(crate) use to_controller::{Attempt, Next};

/// What the lifecycle keeps of a request to the active controller until its answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleCall {
    /// BrokerRegistration.
    Register,
    /// BrokerHeartbeat.
    Heartbeat,
    /// ControllerRegistration.
    RegisterController,
}

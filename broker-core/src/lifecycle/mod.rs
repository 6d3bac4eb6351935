//! A broker's and a controller's life in its cluster.

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

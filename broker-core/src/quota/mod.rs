//! Quotas: what is measured of clients and of replication, and held to a bound.
//!
//! [`rate`] is Kafka's way to measure a rate over the samples of the last seconds, and to say for how long somebody who
//! went over a bound has to wait. [`limits`] says which quota is in force for a client, and [`clients`] measures what
//! clients produce, fetch and change, as `ClientQuotaManager` and `ControllerMutationQuotaManager` do.
//!
//! `request_percentage` limits the share of a broker's threads that a client's requests take. A node has no clock: an
//! input is handled at one instant, and what that costs the host is the driver's. So this quota is kept and told, and
//! never violated. Nor is `connection_creation_rate`, which limits addresses.

pub mod clients;
pub mod limits;
pub mod rate;
pub mod replication;

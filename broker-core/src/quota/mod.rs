//! What is measured, and held to a quota.
//!
//! [`rate`] is Kafka's way to measure a rate over the samples of the last seconds, and to say for how long somebody who
//! went over a bound has to wait.

pub mod rate;
pub mod replication;

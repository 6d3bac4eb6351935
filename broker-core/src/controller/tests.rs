//! Stories of a whole controller, told through its requests; the log commits when the story says so.

mod alter_partition;
mod brokers;
mod configs;
mod golden;
mod harness;
mod leadership;
mod quotas;
mod random;
mod topics;

//! One Kafka node as a state machine: log, replication, quorum, controller.
#![no_std]
extern crate alloc;

//! One Kafka node as a state machine: log, replication, KRaft quorum, controller.
//!
//! The core cannot reach the world: it is `no_std`, owns no clock, thread, socket, file or randomness. A driver hands
//! it inputs with the time at which they happen and carries out its outputs in order (see [`io`]); files are behind
//! [`disk::Disk`]. The same code runs in the simulator and behind real sockets.
#![no_std]
extern crate alloc;

pub mod api;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod ctx;
pub mod disk;
pub mod event;
pub mod io;
pub mod lifecycle;
pub mod log;
pub mod metadata;
pub mod mutant;
pub mod net;
pub mod node;
pub mod producer_ids;
pub mod quota;
pub mod raft;
pub mod replica;

/// What tests of this and other crates need: not part of a node.
#[cfg(any(test, feature = "testing"))]
pub mod testing {
    pub use crate::disk::mem::{Fault, MemDisk, Op, Unsynced};
}

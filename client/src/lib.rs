//! Kafka's producer, consumer, admin client and command-line tools as state machines.
//!
//! They know no clock, socket or thread: a driver hands them inputs with their time and carries out the outputs
//! (see [`io`]). In the simulated world the frames that leave here are the frames that a Java client would send, in
//! the order and with the time-outs, backoffs and defaults of Kafka 4.3.
#![no_std]
extern crate alloc;

pub mod admin;
pub mod backoff;
pub mod command;
pub mod config;
pub mod consumer;
pub mod error;
pub mod event;
pub mod io;
pub mod metadata;
pub mod mutant;
pub mod net;
pub mod producer;
#[cfg(test)]
mod testing;
pub mod workload;

pub use event::{ClientEvent, Fate, Made, MessageId, Polled, PolledRecord, ResetReason, TopicPartition};
pub use io::{Input, Output, Outputs, Process};

/// The only randomness of a client: handed to it, one for each process and incarnation.
pub type Rng = rand_chacha::ChaCha8Rng;

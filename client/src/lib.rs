//! Kafka's producer, consumer, admin client and command-line tools as state machines.
#![no_std]
extern crate alloc;

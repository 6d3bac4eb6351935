//! The clients of a scenario: a producer that sends at a regular rate, a consumer, a program that copies
//! in transactions, and a reader that reads to the end.
//!
//! A message of client `NAME` has the value `NAME-0`, `NAME-1`, …, padded with spaces to the wanted size, and the key
//! `k0`, `k1`, … in turn. Message `i` is due at start + i / rate, so two runs make the same messages at the same
//! times. A process that is started again goes on with the number that it is given.

mod admin;
mod consumer;
mod polled;
mod producer;
mod reader;
mod transactional;

use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::drive::Nanos;

use crate::event::TopicPartition;
use crate::metadata::Metadata;

pub use admin::{AdminClient, AdminSpec};
pub use consumer::{Assignment, Commit, ConsumerClient, ConsumerSpec, From};
pub use polled::message_of;
pub use producer::{ProducerClient, ProducerSpec};
pub use reader::{ReaderClient, ReaderSpec};
pub use transactional::{TransactionalClient, TransactionalSpec};

/// So many messages in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Messages.
    pub messages: u64,
    /// Time, not zero.
    pub per: Nanos,
}

/// The names of a scenario's producers, in an order that the driver chooses: [`crate::MessageId::client`] is an index
/// into it.
#[derive(Clone, Debug, Default)]
pub struct Names(pub Arc<[Arc<str>]>);

impl Names {
    /// From a list.
    pub fn new(names: Vec<Arc<str>>) -> Names {
        Names(names.into())
    }
}

/// The partitions of a topic that are known.
fn partitions_of(metadata: &Metadata, topic: &Arc<str>) -> Vec<TopicPartition> {
    let count = metadata.topic_named(topic).map_or(0, |index| metadata.topic(index).partitions.len());
    (0..count as i32).map(|partition| TopicPartition { topic: topic.clone(), partition }).collect()
}

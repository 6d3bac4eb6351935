//! A scenario's consumer.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Endpoint, Instant, Nanos, Now};

use super::Names;
use crate::Rng;
use crate::event::TopicPartition;
use crate::io::{Input, Outputs};

/// What a consumer reads.
#[derive(Clone, Debug)]
pub enum Assignment {
    /// These partitions, without a group.
    Partitions(Vec<TopicPartition>),
    /// All partitions of these topics, without a group.
    Topics(Vec<Arc<str>>),
}

/// Where a consumer begins.
#[derive(Clone, Debug)]
pub enum From {
    /// Where `auto.offset.reset` says.
    Reset,
    /// The log start offset.
    Beginning,
    /// The end: the high watermark, or the last stable offset.
    End,
    /// These offsets; partitions that are not named begin where `auto.offset.reset` says.
    Offsets(BTreeMap<TopicPartition, i64>),
}

/// What a scenario says about a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    /// The client's name, also its `client.id`.
    pub name: Arc<str>,
    /// Where to begin.
    pub bootstrap: Vec<Endpoint>,
    /// What to read.
    pub assignment: Assignment,
    /// Where to begin.
    pub from: From,
    /// The time that the application takes for each record.
    pub processing: Nanos,
    /// The producers whose messages it may meet.
    pub names: Names,
    /// Kafka's settings, by name.
    pub config: BTreeMap<String, String>,
}

/// A scenario's consumer.
#[derive(Clone)]
pub struct ConsumerClient {}

impl ConsumerClient {
    /// A consumer that waits for [`Input::Start`].
    pub fn new(_spec: ConsumerSpec, _rng: Rng) -> Result<ConsumerClient, String> {
        todo!()
    }

    /// Takes one input.
    pub fn handle(&mut self, _now: Now, _input: Input, _codecs: &dyn Codecs, _out: &mut Outputs) {
        todo!()
    }

    /// When it wants [`Input::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        todo!()
    }
}

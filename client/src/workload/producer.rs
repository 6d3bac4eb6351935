//! A scenario's producer.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Endpoint, Instant, Now};

use super::Rate;
use crate::Rng;
use crate::io::{Input, Outputs};

/// What a scenario says about a producer.
#[derive(Clone, Debug)]
pub struct ProducerSpec {
    /// The client's name, also its `client.id`: values are `NAME-0`, `NAME-1`, ….
    pub name: Arc<str>,
    /// Where to begin.
    pub bootstrap: Vec<Endpoint>,
    /// The topic.
    pub topic: Arc<str>,
    /// How fast.
    pub rate: Rate,
    /// How many messages; then it flushes and idles.
    pub count: Option<u64>,
    /// How many distinct keys, 0 for none.
    pub keys: u32,
    /// The size of a value, in bytes; longer if the text is.
    pub size: usize,
    /// The partition, if not chosen by the partitioner.
    pub partition: Option<i32>,
    /// The number of the first message: after a restart, one above the last that was made.
    pub first_message: u64,
    /// Kafka's settings, by name.
    pub config: BTreeMap<String, String>,
}

/// A scenario's producer.
#[derive(Clone)]
pub struct ProducerClient {}

impl ProducerClient {
    /// A producer that waits for [`Input::Start`].
    pub fn new(_spec: ProducerSpec, _rng: Rng) -> Result<ProducerClient, String> {
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

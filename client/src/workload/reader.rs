//! A reader in assign mode that reads topics from their start to what their end was, and exits.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Endpoint, Instant, Now};

use super::Names;
use crate::Rng;
use crate::io::{Input, Outputs};

/// What a reader reads.
#[derive(Clone, Debug)]
pub struct ReaderSpec {
    /// The client's name, also its `client.id`.
    pub name: Arc<str>,
    /// Where to begin.
    pub bootstrap: Vec<Endpoint>,
    /// The topics, all partitions of which are read.
    pub topics: Vec<Arc<str>>,
    /// The producers whose messages it may meet.
    pub names: Names,
    /// Kafka's consumer settings, by name; `isolation.level` is read_committed unless given.
    pub config: BTreeMap<String, String>,
}

/// A reader; exits with 0 when it has everything.
#[derive(Clone)]
pub struct ReaderClient {}

impl ReaderClient {
    /// A reader that waits for [`Input::Start`].
    pub fn new(_spec: ReaderSpec, _rng: Rng) -> Result<ReaderClient, String> {
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

//! What a mechanism of the node may use while it handles an input.
//!
//! A [`Ctx`] is built by the node for each call of `handle` and passed down by `&mut`; nothing keeps it. It holds the
//! only ways out of the core: files, codecs, outputs, connections, and the node's own stream of chance.

use wire::Codecs;
use wire::drive::Now;

use crate::config::NodeConfig;
use crate::disk::Disk;
use crate::event::Event;
use crate::io::Outputs;
use crate::net::Net;

/// The stream of chance of one incarnation of a node.
pub type Rng = rand_chacha::ChaCha8Rng;

/// What a mechanism of the node may use while it handles an input.
pub struct Ctx<'a> {
    /// The time of the input.
    pub now: Now,
    /// The node's files.
    pub disk: &'a mut dyn Disk,
    /// CRC-32C and compression.
    pub codecs: &'a dyn Codecs,
    /// What the driver shall do, in order.
    pub out: &'a mut Outputs,
    /// The connections.
    pub net: &'a mut Net,
    /// The stream of chance of this incarnation.
    pub rng: &'a mut Rng,
    /// The static configuration.
    pub config: &'a NodeConfig,
}

impl Ctx<'_> {
    /// Reports a fact, if anybody listens.
    #[inline]
    pub fn event(&mut self, make: impl FnOnce() -> Event) {
        self.out.event(make);
    }
}

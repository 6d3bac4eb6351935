//! Requests that wait: produce for the high watermark, DeleteRecords for the low watermark, fetches for data.
//!
//! Kafka's purgatories watch each operation under every one of its partitions and check all of them whenever one moves.
//! Here a partition keeps the operations that wait for it, produce in the order of the offsets that they wait for, so
//! that an advance touches exactly those which it completes.

use alloc::collections::{BTreeSet, VecDeque};
use wire::drive::Instant;

use super::delete_records::DelayedDelete;
use super::produce::{DelayedProduce, HeldProduce};
use super::session::SetIx;
use super::slab::Slab;
use super::verify::Verifying;

/// Whose time may be up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiting {
    /// The request that waits in this fetch set.
    Fetch(SetIx),
    /// A produce request.
    Produce(u32),
    /// A DeleteRecords request.
    DeleteRecords(u32),
    /// A transaction's verification that is asked for again.
    Verify(u32),
}

/// Requests that wait, and the order in which their times are up.
#[derive(Clone, Debug, Default)]
pub(super) struct Purgatory {
    pub produces: Slab<DelayedProduce>,
    pub deletes: Slab<DelayedDelete>,
    /// What waits for the verification of its transaction.
    pub verifying: Slab<Verifying>,
    pub timeouts: BTreeSet<(Instant, Waiting)>,
    /// Produce requests that came before a new leader's epoch was durable, in their order.
    pub held: VecDeque<HeldProduce>,
}

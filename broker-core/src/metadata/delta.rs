//! What records changed in an image.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use wire::Uuid;

use super::configs::ConfigKey;
use super::partition::TopicIdPartition;
use super::topics::TopicImage;

/// What changed while records were applied. It says where to look, not what is there: look into the image for that.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ImageDelta {
    /// Everything may have changed: a snapshot was loaded, or a transaction was aborted. The rest is then incomplete.
    pub everything: bool,
    /// Topics that were made.
    pub topics_created: BTreeSet<Uuid>,
    /// Topics that were deleted, as they were.
    pub topics_deleted: BTreeMap<Uuid, Arc<TopicImage>>,
    /// Partitions that were made or changed. Those of deleted topics are not among them.
    pub partitions: BTreeSet<TopicIdPartition>,
    /// Brokers that were registered, changed or unregistered.
    pub brokers: BTreeSet<i32>,
    /// Controllers that were registered or unregistered.
    pub controllers: BTreeSet<i32>,
    /// Resources whose settings changed.
    pub configs: BTreeSet<ConfigKey>,
    /// Whether a finalized feature changed.
    pub features: bool,
    /// Whether quotas of clients changed.
    pub client_quotas: bool,
    /// Whether ACLs, SCRAM credentials or delegation tokens changed.
    pub security: bool,
    /// Whether a block of producer ids was given out.
    pub producer_ids: bool,
}

impl ImageDelta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == ImageDelta::default()
    }

    /// Forgets all changes: to use the delta again.
    pub fn clear(&mut self) {
        *self = ImageDelta::default();
    }
}

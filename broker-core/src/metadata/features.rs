//! The finalized levels of features, `metadata.version` among them.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// Features by name, and what a node of this version (4.3-IV0) supports of them.
pub mod feature {
    use super::super::cluster::FeatureRange;

    /// Which records and requests the cluster may use.
    pub const METADATA_VERSION: &str = "metadata.version";
    /// Eligible leader replicas (KIP-966).
    pub const ELIGIBLE_LEADER_REPLICAS: &str = "eligible.leader.replicas.version";
    /// Dynamic quorums (KIP-853). Its level is in the quorum's own records, never among the finalized features.
    pub const KRAFT_VERSION: &str = "kraft.version";

    const fn range(min: i16, max: i16) -> FeatureRange {
        FeatureRange { min, max }
    }

    /// What this node supports, in Kafka's order of a controller's registration.
    pub const SUPPORTED: [(&str, FeatureRange); 7] = [
        ("group.version", range(0, 1)),
        (KRAFT_VERSION, range(0, 1)),
        (METADATA_VERSION, range(METADATA_VERSION_MIN, METADATA_VERSION_LATEST)),
        ("share.version", range(0, 1)),
        ("streams.version", range(0, 1)),
        ("transaction.version", range(0, 2)),
        (ELIGIBLE_LEADER_REPLICAS, range(0, 1)),
    ];

    /// 3.3-IV3, the oldest that 4.x reads.
    pub const METADATA_VERSION_MIN: i16 = 7;
    /// 4.3-IV0.
    pub const METADATA_VERSION_LATEST: i16 = 30;

    /// The range in which this node supports a feature.
    pub fn supported(name: &str) -> Option<FeatureRange> {
        SUPPORTED.iter().find(|(n, _)| *n == name).map(|&(_, range)| range)
    }
}

/// The finalized features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeaturesImage {
    metadata_version: i16,
    levels: BTreeMap<Arc<str>, i16>,
}

impl Default for FeaturesImage {
    /// What a log without any feature record means.
    fn default() -> FeaturesImage {
        FeaturesImage { metadata_version: feature::METADATA_VERSION_MIN, levels: BTreeMap::new() }
    }
}

impl FeaturesImage {
    /// The level of `metadata.version`.
    pub fn metadata_version(&self) -> i16 {
        self.metadata_version
    }

    /// The finalized level of a feature, 0 when it is off.
    pub fn level(&self, name: &str) -> i16 {
        match name {
            feature::METADATA_VERSION => self.metadata_version,
            _ => self.levels.get(name).copied().unwrap_or(0),
        }
    }

    /// Whether eligible leader replicas are kept (KIP-966).
    pub fn elr_enabled(&self) -> bool {
        self.level(feature::ELIGIBLE_LEADER_REPLICAS) >= 1
    }

    /// All finalized features but `metadata.version`, by name.
    pub fn others(&self) -> impl Iterator<Item = (&Arc<str>, i16)> {
        self.levels.iter().map(|(name, &level)| (name, level))
    }

    pub(super) fn set(&mut self, name: &str, level: i16) {
        match name {
            feature::METADATA_VERSION => self.metadata_version = level,
            _ if level == 0 => {
                self.levels.remove(name);
            }
            _ => {
                self.levels.insert(Arc::from(name), level);
            }
        }
    }
}

//! The records with which the metadata log of a new cluster begins.

use alloc::string::ToString;
use alloc::vec::Vec;
use wire::records::{
    AbortTransactionRecord, BeginTransactionRecord, ConfigRecord, EndTransactionRecord, FeatureLevelRecord,
    MetadataRecord,
};

use crate::metadata::{MetadataImage, ResourceType, feature};

/// What `bootstrap.checkpoint` holds: the finalized features, and the cluster-wide `min.insync.replicas`, which a
/// cluster with eligible leader replicas must have (KIP-966).
pub fn records(min_insync_replicas: i32) -> Vec<MetadataRecord> {
    let level = |&(name, feature_level): &(&str, i16)| {
        FeatureLevelRecord { name: name.to_string(), feature_level }.into()
    };
    let mut records: Vec<MetadataRecord> = feature::BOOTSTRAP.iter().map(level).collect();
    let min_isr = ConfigRecord {
        resource_type: ResourceType::Broker.id(),
        resource_name: "".to_string(),
        name: "min.insync.replicas".to_string(),
        value: Some(min_insync_replicas.to_string()),
    };
    records.push(min_isr.into());
    records
}

/// What a controller writes first when it becomes active: the bootstrap records if the log is empty, in a transaction;
/// and the end of a transaction in which another controller died.
pub fn activation_records(image: &MetadataImage, min_insync_replicas: i32) -> Vec<MetadataRecord> {
    let mut out = Vec::new();
    if image.in_transaction() {
        out.push(AbortTransactionRecord { reason: Some("Controller failover".to_string()) }.into());
    }
    // A cluster without features is one whose bootstrap transaction never ended.
    if image.is_empty()
        || (image.in_transaction() && image.controllers.is_empty() && image.brokers.is_empty())
    {
        out.push(BeginTransactionRecord { name: Some("Bootstrap records".to_string()) }.into());
        out.extend(records(min_insync_replicas));
        out.push(EndTransactionRecord::default().into());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::ImageDelta;

    #[test]
    fn a_new_log_begins_as_kafkas_does() {
        let kinds: Vec<&str> =
            activation_records(&MetadataImage::default(), 1).iter().map(|r| r.name()).collect();
        assert_eq!(kinds.first(), Some(&"BeginTransactionRecord"));
        assert_eq!(kinds.last(), Some(&"EndTransactionRecord"));
        assert_eq!(kinds.len(), 9);
    }

    #[test]
    fn an_interrupted_bootstrap_is_aborted_and_begun_again() {
        let (mut image, mut delta) = (MetadataImage::default(), ImageDelta::default());
        let whole = activation_records(&image, 2);
        for (offset, record) in whole.iter().take(4).enumerate() {
            image.apply(record, 1 + offset as i64, &mut delta).unwrap();
        }
        let again = activation_records(&image, 2);
        assert_eq!(again[0].name(), "AbortTransactionRecord");
        assert_eq!(again[1..], whole);
        for (offset, record) in again.iter().enumerate() {
            image.apply(record, 5 + offset as i64, &mut delta).unwrap();
        }
        assert!(image.features.elr_enabled() && !image.in_transaction());
        assert_eq!(activation_records(&image, 2), []);
    }
}

//! What a controller writes first when it becomes active.

use alloc::string::ToString;
use alloc::vec::Vec;
use wire::records::{AbortTransactionRecord, MetadataRecord};

use crate::metadata::MetadataImage;
use crate::raft::format;

/// The end of a transaction in which another controller died, and the bootstrap records if the log says nothing yet.
/// `bootstrap` are those of `bootstrap.checkpoint`; a node that has none begins a cluster of this release.
pub fn activation_records(
    image: &MetadataImage,
    bootstrap: &[MetadataRecord],
    min_insync_replicas: &str,
) -> Vec<MetadataRecord> {
    let mut out = Vec::new();
    if image.in_transaction() {
        out.push(AbortTransactionRecord { reason: Some("Controller failover".to_string()) }.into());
    }
    // The only transaction that finds neither broker nor controller is the bootstrap itself.
    let interrupted = image.in_transaction() && image.controllers.is_empty() && image.brokers.is_empty();
    if image.is_empty() || interrupted {
        out.extend(match bootstrap {
            [] => format::activation_records(&format::default_bootstrap_records(), min_insync_replicas),
            records => format::activation_records(records, min_insync_replicas),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::ImageDelta;

    #[test]
    fn a_new_log_begins_as_kafkas_does() {
        let records = activation_records(&MetadataImage::default(), &[], "1");
        let kinds: Vec<&str> = records.iter().map(|r| r.name()).collect();
        assert_eq!(kinds.first(), Some(&"BeginTransactionRecord"));
        assert_eq!(kinds.last(), Some(&"EndTransactionRecord"));
        assert_eq!(kinds.len(), 9);
    }

    #[test]
    fn an_interrupted_bootstrap_is_aborted_and_begun_again() {
        let (mut image, mut delta) = (MetadataImage::default(), ImageDelta::default());
        let whole = activation_records(&image, &[], "2");
        for (offset, record) in whole.iter().take(4).enumerate() {
            image.apply(record, 1 + offset as i64, &mut delta).unwrap();
        }
        let again = activation_records(&image, &[], "2");
        assert_eq!(again[0].name(), "AbortTransactionRecord");
        assert_eq!(again[1..], whole);
        for (offset, record) in again.iter().enumerate() {
            image.apply(record, 5 + offset as i64, &mut delta).unwrap();
        }
        assert!(image.features.elr_enabled() && !image.in_transaction());
        assert_eq!(activation_records(&image, &[], "2"), []);
    }
}

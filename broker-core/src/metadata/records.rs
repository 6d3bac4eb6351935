//! In which version a record is written.

use wire::records::MetadataRecord;

/// The version in which a record is written under a level of `metadata.version`.
///
/// Most records have one version. A `BrokerRegistrationChangeRecord` is written in the oldest version that can say
/// what it says, as Kafka's controller does, so that the log reads the same.
pub fn record_version(record: &MetadataRecord, metadata_version: i16) -> i16 {
    /// Levels of `metadata.version` from which on a record has a newer version.
    const IV_3_7_IV2: i16 = 17;
    const IV_4_0_IV1: i16 = 23;
    const IV_4_3_IV0: i16 = 30;
    match record {
        MetadataRecord::Partition(_) | MetadataRecord::PartitionChange(_) => match metadata_version {
            IV_4_0_IV1.. => 2,
            IV_3_7_IV2.. => 1,
            _ => 0,
        },
        MetadataRecord::RegisterBroker(_) => match metadata_version {
            IV_4_3_IV0.. => 4,
            IV_3_7_IV2.. => 3,
            8.. => 2,
            _ => 1,
        },
        MetadataRecord::BrokerRegistrationChange(change) => {
            if change.cordoned_log_dirs.is_some() {
                3
            } else if !change.log_dirs.is_empty() {
                2
            } else if change.in_controlled_shutdown != 0 {
                1
            } else {
                0
            }
        }
        _ => 0,
    }
}

//! What a node's log directories hold before it starts for the first time (`kafka-storage format`, `Formatter`).
//!
//! Each log directory gets `meta.properties` and `bootstrap.checkpoint`, which holds the feature levels that the first
//! active controller writes into the metadata log. A dynamic quorum (KIP-853) also gets the snapshot with offset 0 and
//! epoch 0 of the metadata log, which names the first voters.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use wire::records::{
    BeginTransactionRecord, ConfigRecord, EndTransactionRecord, FeatureLevelRecord, MetadataRecord,
};
use wire::{Codecs, Uuid};

use super::log::PARTITION_DIR;
use super::snapshot::{SnapshotName, build, load};
use super::state::OffsetAndEpoch;
use super::voters::VoterSet;
use crate::disk::{Disk, DiskError, Ticket};

/// The name of the file with the bootstrap records.
pub const BOOTSTRAP_FILE: &str = "bootstrap.checkpoint";

/// The feature levels with which a cluster of this release begins (4.3-IV0), by name.
const FEATURE_LEVELS: [(&str, i16); 6] = [
    ("metadata.version", 30),
    ("eligible.leader.replicas.version", 1),
    ("group.version", 1),
    ("share.version", 1),
    ("streams.version", 1),
    ("transaction.version", 2),
];

/// The type of a broker's configuration in a ConfigRecord; without a name it is the cluster's default.
const BROKER_RESOURCE: i8 = 4;

/// Who a node is, and what its directories are.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// The cluster's id.
    pub cluster_id: String,
    /// `node.id`.
    pub node_id: i32,
    /// The log directories, each with its id.
    pub log_dirs: Vec<(String, Uuid)>,
    /// Which of them holds the metadata log.
    pub metadata_dir: String,
    /// The first voters of a dynamic quorum (kraft.version 1); absent with `controller.quorum.voters`.
    pub voters: Option<VoterSet>,
    /// The bootstrap records: [`default_bootstrap_records`], unless features are set otherwise.
    pub records: Vec<MetadataRecord>,
    /// The wall clock.
    pub now_ms: i64,
}

/// The bootstrap records of a new cluster: its feature levels.
pub fn default_bootstrap_records() -> Vec<MetadataRecord> {
    FEATURE_LEVELS
        .iter()
        .map(|(name, feature_level)| {
            MetadataRecord::FeatureLevel(FeatureLevelRecord {
                name: (*name).to_string(),
                feature_level: *feature_level,
            })
        })
        .collect()
}

/// What the first active controller of a cluster writes, as one append: the bootstrap records in a metadata
/// transaction. With eligible leader replicas the cluster's `min.insync.replicas` becomes a dynamic default.
pub fn activation_records(bootstrap: &[MetadataRecord], min_insync_replicas: &str) -> Vec<MetadataRecord> {
    let elr = bootstrap.iter().any(|record| {
        matches!(record, MetadataRecord::FeatureLevel(it)
            if it.name == "eligible.leader.replicas.version" && it.feature_level > 0)
    });
    let begin = BeginTransactionRecord { name: Some("Bootstrap records".to_string()) };
    let mut records = vec![MetadataRecord::BeginTransaction(begin)];
    records.extend_from_slice(bootstrap);
    if elr {
        records.push(MetadataRecord::Config(ConfigRecord {
            resource_type: BROKER_RESOURCE,
            resource_name: String::new(),
            name: "min.insync.replicas".to_string(),
            value: Some(min_insync_replicas.to_string()),
        }));
    }
    records.push(MetadataRecord::EndTransaction(EndTransactionRecord::default()));
    records
}

/// Writes what a new node's directories hold. It is durable when all tickets have come back.
pub fn format(
    disk: &mut dyn Disk,
    codecs: &dyn Codecs,
    options: &FormatOptions,
) -> Result<Vec<Ticket>, DiskError> {
    let mut tickets = Vec::new();
    for (dir, directory_id) in &options.log_dirs {
        disk.mkdir(dir)?;
        let meta = format!(
            "#\n#{}\nnode.id={}\ndirectory.id={directory_id}\nversion=1\ncluster.id={}\n",
            java_date(options.now_ms),
            options.node_id,
            options.cluster_id
        );
        tickets.push(disk.replace(&format!("{dir}/meta.properties"), meta.into_bytes().into()));
        let bootstrap = concat(build(codecs, 0, options.now_ms, 0, None, &options.records));
        tickets.push(disk.replace(&format!("{dir}/{BOOTSTRAP_FILE}"), bootstrap));
    }
    if let Some(voters) = &options.voters {
        let dir = format!("{}/{PARTITION_DIR}", options.metadata_dir);
        disk.mkdir(&dir)?;
        let snapshot = concat(build(codecs, 0, options.now_ms, 0, Some((1, voters)), &[]));
        let name = SnapshotName::whole(OffsetAndEpoch::new(0, 0));
        tickets.push(disk.replace(&name.path(&dir), snapshot));
        tickets.push(disk.sync_dir(&options.metadata_dir));
    }
    Ok(tickets)
}

/// The bootstrap records of a formatted directory; none if the file is not there.
pub fn read_bootstrap(
    disk: &mut dyn Disk,
    codecs: &dyn Codecs,
    metadata_dir: &str,
) -> Result<Vec<MetadataRecord>, String> {
    let path = format!("{metadata_dir}/{BOOTSTRAP_FILE}");
    if !disk.exists(&path) {
        return Ok(Vec::new());
    }
    load(disk, codecs, &path).map(|loaded| loaded.records).map_err(|why| format!("{path}: {why}"))
}

fn concat(batches: Vec<Bytes>) -> Bytes {
    batches.concat().into()
}

/// A time as Java's properties files carry it in their comment: `Fri Nov 20 21:24:05 UTC 2026`.
fn java_date(ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = ms.div_euclid(1_000);
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    format!(
        "{} {} {day_of_month:02} {:02}:{:02}:{:02} UTC {year}",
        DAYS[day.rem_euclid(7) as usize],
        MONTHS[month as usize],
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_javas() {
        for (ms, text) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (1_795_209_845_999, "Fri Nov 20 21:24:05 UTC 2026"),
            (951_825_599_000, "Tue Feb 29 11:59:59 UTC 2000"),
            (-1, "Wed Dec 31 23:59:59 UTC 1969"),
        ] {
            assert_eq!(java_date(ms), text);
        }
    }
}

//! A log directory: what lies in it, and the files that speak of all its logs.
//!
//! [`LogDir::open`] is where a start begins, as in Kafka's `LogManager`: it reads the checkpoints and takes the mark of
//! a clean shutdown away, so that a crash while loading is not mistaken for one. A checkpoint that is missing or
//! damaged counts as empty: then more is recovered than had to be.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use wire::Uuid;

use super::segment::at;
use super::{LoadState, LogError, checkpoint, remove_if_exists};
use crate::disk::{Disk, DiskError, Ticket};
use crate::mutant::{Mutant, Mutants};

/// What a directory of a log directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionDirKind {
    /// `TOPIC-PARTITION`.
    Current,
    /// `TOPIC-PARTITION.UUID-delete`: to be removed after `file.delete.delay.ms`.
    Deleted,
    /// `TOPIC-PARTITION.UUID-future`: being filled from another log directory.
    Future,
    /// `TOPIC-PARTITION.UUID-stray`: no longer of this broker.
    Stray,
}

/// One partition's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDir {
    /// Its path: `data/purchases-0`.
    pub path: String,
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The topic's id from `partition.metadata`, if that is there.
    pub topic_id: Option<Uuid>,
    /// What it is.
    pub kind: PartitionDirKind,
}

/// A log directory as it was found, and the writer of its checkpoints.
#[derive(Clone, Debug)]
pub struct LogDir {
    /// Its path.
    pub path: String,
    /// From `meta.properties`; empty if that is not there.
    pub meta: BTreeMap<String, String>,
    /// Whether the mark of a clean shutdown was there. [`LogDir::open`] removes it.
    pub clean: bool,
    /// The broker epoch in that mark.
    pub clean_broker_epoch: Option<i64>,
    /// The sync that makes the removal of that mark durable. Until it has come back, a power loss may bring the mark
    /// back, and with it trust in what was never synced.
    pub mark_removed: Option<Ticket>,
    recovery_points: checkpoint::Offsets,
    high_watermarks: checkpoint::Offsets,
    log_starts: checkpoint::Offsets,
    cleaner_offsets: checkpoint::Offsets,
}

/// The topic and partition in a directory's name.
fn parse_name(name: &str) -> Option<(&str, i32, PartitionDirKind)> {
    let suffixes = [
        ("-delete", PartitionDirKind::Deleted),
        ("-future", PartitionDirKind::Future),
        ("-stray", PartitionDirKind::Stray),
    ];
    for (suffix, kind) in suffixes {
        // TOPIC-PARTITION.UUID-SUFFIX; topic names may contain dots themselves.
        if let Some((rest, unique)) = name.strip_suffix(suffix).and_then(|rest| rest.rsplit_once('.'))
            && unique.len() == 32
        {
            let (topic, partition) = parse_current(rest)?;
            return Some((topic, partition, kind));
        }
    }
    let (topic, partition) = parse_current(name)?;
    Some((topic, partition, PartitionDirKind::Current))
}

fn parse_current(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let partition: i32 = partition.parse().ok()?;
    (!topic.is_empty() && partition >= 0).then_some((topic, partition))
}

/// `purchases-0` → `purchases-0.UUID-delete`, cut in front so that file systems take it.
pub(super) fn delete_name(name: &str, unique: Uuid) -> String {
    let hex: String = unique.0.iter().map(|byte| alloc::format!("{byte:02x}")).collect();
    let suffix = alloc::format!(".{hex}-delete");
    let (topic, partition) = name.rsplit_once('-').unwrap_or((name, "0"));
    let room = 255 - suffix.len() - partition.len() - 1;
    alloc::format!("{}-{partition}{suffix}", &topic[..topic.len().min(room)])
}

impl LogDir {
    /// Reads a log directory, making it when it is missing, and takes its mark of a clean shutdown away.
    pub fn open(path: &str, disk: &mut dyn Disk) -> Result<LogDir, LogError> {
        LogDir::open_with(path, disk, Mutants::NONE)
    }

    /// [`LogDir::open`] in a node with bugs.
    pub fn open_with(path: &str, disk: &mut dyn Disk, mutants: Mutants) -> Result<LogDir, LogError> {
        disk.mkdir(path).map_err(at(path))?;
        let file = |name: &str| alloc::format!("{path}/{name}");
        let mark = read_optional(disk, &file(checkpoint::CLEAN_SHUTDOWN))?;
        if !mutants.has(Mutant::CleanMarkKept) {
            remove_if_exists(disk, &file(checkpoint::CLEAN_SHUTDOWN))?;
        }
        let meta_path = file(checkpoint::META_PROPERTIES);
        let meta = match read_optional(disk, &meta_path)? {
            Some(bytes) => checkpoint::parse_properties(&bytes)
                .map_err(|why| LogError::Malformed { path: meta_path, why: why.to_string() })?,
            None => BTreeMap::new(),
        };
        let mut offsets = |name: &str| -> Result<checkpoint::Offsets, LogError> {
            let bytes = read_optional(disk, &file(name))?.unwrap_or_default();
            Ok(checkpoint::parse_offsets(&bytes).unwrap_or_default())
        };
        let recovery_points = offsets(checkpoint::RECOVERY_POINTS)?;
        let high_watermarks = offsets(checkpoint::HIGH_WATERMARKS)?;
        let log_starts = offsets(checkpoint::LOG_STARTS)?;
        let cleaner_offsets = offsets(checkpoint::CLEANER_OFFSETS)?;
        Ok(LogDir {
            recovery_points,
            high_watermarks,
            log_starts,
            cleaner_offsets,
            path: path.to_string(),
            meta,
            clean: mark.is_some(),
            mark_removed: mark.is_some().then(|| disk.sync_dir(path)),
            clean_broker_epoch: mark.and_then(|bytes| checkpoint::parse_clean_shutdown(&bytes)),
        })
    }

    /// The partitions in it, sorted by name; `__cluster_metadata-0` is not among them.
    pub fn partitions(&self, disk: &mut dyn Disk) -> Result<Vec<PartitionDir>, LogError> {
        let mut found = Vec::new();
        for name in disk.list(&self.path).map_err(at(&self.path))? {
            let Some((topic, partition, kind)) = parse_name(&name) else { continue };
            let path = alloc::format!("{}/{name}", self.path);
            // A file may bear such a name too.
            if topic == "__cluster_metadata" || disk.list(&path).is_err() {
                continue;
            }
            let metadata = read_optional(disk, &alloc::format!("{path}/{}", checkpoint::PARTITION_METADATA))?;
            let topic_id = metadata.and_then(|bytes| checkpoint::parse_partition_metadata(&bytes).ok());
            found.push(PartitionDir { topic: topic.to_string(), path, partition, topic_id, kind });
        }
        Ok(found)
    }

    /// What the checkpoints say of a partition.
    pub fn load_state(&self, topic: &str, partition: i32) -> LoadState {
        let key = (topic.to_string(), partition);
        let from = |offsets: &checkpoint::Offsets| offsets.get(&key).copied().unwrap_or(0).max(0);
        LoadState {
            clean: self.clean,
            recovery_point: from(&self.recovery_points),
            log_start_offset: from(&self.log_starts),
            high_watermark: from(&self.high_watermarks),
        }
    }

    /// The first offset of a partition that no cleaning has seen, from `cleaner-offset-checkpoint`.
    pub fn cleaner_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        self.cleaner_offsets.get(&(topic.to_string(), partition)).copied()
    }

    /// The cluster's id in `meta.properties`.
    pub fn cluster_id(&self) -> Option<&str> {
        self.meta.get("cluster.id").map(String::as_str)
    }

    /// The node's id in `meta.properties`.
    pub fn node_id(&self) -> Option<i32> {
        self.meta.get("node.id")?.parse().ok()
    }

    /// The directory's id in `meta.properties`.
    pub fn directory_id(&self) -> Option<Uuid> {
        Uuid::parse(self.meta.get("directory.id")?)
    }

    /// Writes `meta.properties`, as `kafka-storage format` does.
    pub fn write_meta(
        &mut self,
        disk: &mut dyn Disk,
        cluster_id: &str,
        node_id: i32,
        directory_id: Uuid,
    ) -> Ticket {
        let text = checkpoint::meta_properties_text(cluster_id, node_id, directory_id);
        self.meta = checkpoint::parse_properties(text.as_bytes()).expect("own text");
        self.write(disk, checkpoint::META_PROPERTIES, text)
    }

    /// Writes `recovery-point-offset-checkpoint` for all logs of this directory: topic, partition, recovery point.
    pub fn write_recovery_points<'a>(
        &self,
        disk: &mut dyn Disk,
        entries: impl Iterator<Item = (&'a str, i32, i64)>,
    ) -> Ticket {
        self.write(disk, checkpoint::RECOVERY_POINTS, checkpoint::offsets_text(entries))
    }

    /// Writes `replication-offset-checkpoint` for all logs of this directory: topic, partition, high watermark.
    pub fn write_high_watermarks<'a>(
        &self,
        disk: &mut dyn Disk,
        entries: impl Iterator<Item = (&'a str, i32, i64)>,
    ) -> Ticket {
        self.write(disk, checkpoint::HIGH_WATERMARKS, checkpoint::offsets_text(entries))
    }

    /// Writes `log-start-offset-checkpoint`: only logs that start above [`Log::first_segment_base`] belong into it.
    ///
    /// [`Log::first_segment_base`]: super::Log::first_segment_base
    pub fn write_log_starts<'a>(
        &self,
        disk: &mut dyn Disk,
        entries: impl Iterator<Item = (&'a str, i32, i64)>,
    ) -> Ticket {
        self.write(disk, checkpoint::LOG_STARTS, checkpoint::offsets_text(entries))
    }

    /// Writes `cleaner-offset-checkpoint` for all logs of this directory that were ever cleaned.
    pub fn write_cleaner_offsets<'a>(
        &self,
        disk: &mut dyn Disk,
        entries: impl Iterator<Item = (&'a str, i32, i64)>,
    ) -> Ticket {
        self.write(disk, checkpoint::CLEANER_OFFSETS, checkpoint::offsets_text(entries))
    }

    /// Marks the directory clean: only after every log in it was closed and its tickets have come back, and the
    /// checkpoints too.
    pub fn mark_clean(&self, disk: &mut dyn Disk, broker_epoch: i64) -> Ticket {
        self.write(disk, checkpoint::CLEAN_SHUTDOWN, checkpoint::clean_shutdown_text(broker_epoch))
    }

    /// Writes a partition's `partition.metadata`, before its first append.
    pub fn write_partition_metadata(disk: &mut dyn Disk, partition_dir: &str, topic_id: Uuid) -> Ticket {
        let path = alloc::format!("{partition_dir}/{}", checkpoint::PARTITION_METADATA);
        disk.replace(&path, Bytes::from(checkpoint::partition_metadata_text(topic_id).into_bytes()))
    }

    fn write(&self, disk: &mut dyn Disk, name: &str, text: String) -> Ticket {
        disk.replace(&alloc::format!("{}/{name}", self.path), Bytes::from(text.into_bytes()))
    }
}

fn read_optional(disk: &mut dyn Disk, path: &str) -> Result<Option<Bytes>, LogError> {
    match disk.read_file(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(DiskError::NotFound) => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemDisk, Unsynced};

    #[test]
    fn names_of_directories() {
        let unique = Uuid([0xab; 16]);
        let deleted = delete_name("a.b-c-7", unique);
        assert_eq!(deleted, alloc::format!("a.b-c-7.{}-delete", "ab".repeat(16)));
        assert_eq!(parse_name(&deleted), Some(("a.b-c", 7, PartitionDirKind::Deleted)));
        let long = delete_name(&alloc::format!("{}-12", "t".repeat(249)), unique);
        assert_eq!(long.len(), 255);
        assert_eq!(parse_name(&long).unwrap().1, 12);
        assert_eq!(parse_name("purchases-0"), Some(("purchases", 0, PartitionDirKind::Current)));
        for other in ["meta.properties", "-0", "x", "x-"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn the_mark_is_taken_and_the_checkpoints_come_back() {
        let mut disk = MemDisk::new();
        let mut dir = LogDir::open("data", &mut disk).unwrap();
        assert!(!dir.clean && dir.meta.is_empty());
        dir.write_meta(&mut disk, "cluster", 3, Uuid([7; 16]));
        dir.write_recovery_points(&mut disk, [("t", 0, 5), ("t", 1, 6)].into_iter());
        dir.write_high_watermarks(&mut disk, [("t", 1, 4)].into_iter());
        dir.write_log_starts(&mut disk, [("t", 1, 2)].into_iter());
        disk.put("data/cleaner-offset-checkpoint", "0\n0\n");
        disk.mkdir("data/t-1").unwrap();
        LogDir::write_partition_metadata(&mut disk, "data/t-1", Uuid([9; 16]));
        disk.mkdir("data/__cluster_metadata-0").unwrap();
        dir.mark_clean(&mut disk, 42);
        disk.power_loss(Unsynced::Lost);

        let dir = LogDir::open("data", &mut disk).unwrap();
        assert!(dir.clean);
        assert_eq!(dir.clean_broker_epoch, Some(42));
        assert_eq!((dir.cluster_id(), dir.node_id()), (Some("cluster"), Some(3)));
        assert_eq!(dir.directory_id(), Some(Uuid([7; 16])));
        let state = dir.load_state("t", 1);
        assert_eq!(
            state,
            LoadState { clean: true, recovery_point: 6, log_start_offset: 2, high_watermark: 4 }
        );
        let found = dir.partitions(&mut disk).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.as_str(), found[0].topic_id), ("data/t-1", Some(Uuid([9; 16]))));
        assert!(!LogDir::open("data", &mut disk).unwrap().clean, "the mark holds for one start");
    }
}

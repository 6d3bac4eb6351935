//! A log directory: what lies in it, and the files that speak of all its logs.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use wire::Uuid;

use super::{LoadState, LogError};
use crate::disk::{Disk, Ticket};

/// What a directory of a log directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// From `meta.properties`.
    pub meta: BTreeMap<String, String>,
    /// Whether the mark of a clean shutdown was there. [`LogDir::open`] removes it.
    pub clean: bool,
    /// The broker epoch in that mark.
    pub clean_broker_epoch: Option<i64>,
    recovery_points: BTreeMap<(String, i32), i64>,
    high_watermarks: BTreeMap<(String, i32), i64>,
    log_starts: BTreeMap<(String, i32), i64>,
}

#[allow(missing_docs, unused_variables)]
impl LogDir {
    /// Reads a log directory, making it when it is missing, and takes its mark of a clean shutdown away.
    pub fn open(path: &str, disk: &mut dyn Disk) -> Result<LogDir, LogError> {
        todo!()
    }
    /// The partitions in it, sorted by name; `__cluster_metadata-0` is not among them.
    pub fn partitions(&self, disk: &mut dyn Disk) -> Result<Vec<PartitionDir>, LogError> {
        todo!()
    }
    /// What the checkpoints say of a partition.
    pub fn load_state(&self, topic: &str, partition: i32) -> LoadState {
        todo!()
    }
    /// `meta.properties`: its cluster id, node id and directory id.
    pub fn cluster_id(&self) -> Option<&str> {
        todo!()
    }
    pub fn node_id(&self) -> Option<i32> {
        todo!()
    }
    pub fn directory_id(&self) -> Option<Uuid> {
        todo!()
    }
    /// Writes `meta.properties`, as `kafka-storage format` does.
    pub fn write_meta(
        &mut self,
        disk: &mut dyn Disk,
        cluster_id: &str,
        node_id: i32,
        directory_id: Uuid,
    ) -> Ticket {
        todo!()
    }
    pub fn write_recovery_points<'a>(
        &self,
        disk: &mut dyn Disk,
        entries: &mut dyn Iterator<Item = (&'a str, i32, i64)>,
    ) -> Ticket {
        todo!()
    }
    pub fn write_high_watermarks<'a>(
        &self,
        disk: &mut dyn Disk,
        entries: &mut dyn Iterator<Item = (&'a str, i32, i64)>,
    ) -> Ticket {
        todo!()
    }
    pub fn write_log_starts<'a>(
        &self,
        disk: &mut dyn Disk,
        entries: &mut dyn Iterator<Item = (&'a str, i32, i64)>,
    ) -> Ticket {
        todo!()
    }
    /// Marks the directory clean: only after every log in it was closed and its tickets have come back.
    pub fn mark_clean(&self, disk: &mut dyn Disk, broker_epoch: i64) -> Ticket {
        todo!()
    }
    /// Writes a partition's `partition.metadata` before its first append.
    pub fn write_partition_metadata(disk: &mut dyn Disk, partition_dir: &str, topic_id: Uuid) -> Ticket {
        todo!()
    }
    fn bytes(text: String) -> Bytes {
        Bytes::from(text.into_bytes())
    }
}

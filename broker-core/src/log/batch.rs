//! What the log keeps of a batch.

use smallvec::SmallVec;
use wire::batch::BatchHeader;

use super::producer::ProducerBatch;
use crate::event::BatchMark;

/// What the log keeps of a batch that it appends or has just appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchMeta {
    pub base_offset: i64,
    pub last_offset: i64,
    pub size: u32,
    pub leader_epoch: i32,
    pub max_timestamp: i64,
    pub crc: u32,
    pub producer: Option<ProducerBatch>,
}

impl From<&BatchHeader> for BatchMeta {
    fn from(header: &BatchHeader) -> BatchMeta {
        BatchMeta {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            size: header.size_in_bytes() as u32,
            leader_epoch: header.partition_leader_epoch,
            max_timestamp: header.max_timestamp,
            crc: header.crc,
            producer: ProducerBatch::of(header),
        }
    }
}

impl BatchMeta {
    pub fn mark(&self) -> BatchMark {
        BatchMark {
            base_offset: self.base_offset,
            last_offset: self.last_offset,
            epoch: self.leader_epoch,
            size: self.size,
            crc: self.crc,
            producer_id: self.producer.map_or(-1, |p| p.id),
            producer_epoch: self.producer.map_or(-1, |p| p.epoch),
            sequence: self.producer.map_or(-1, |p| p.first_sequence),
        }
    }
}

pub(super) type BatchMetas = SmallVec<[BatchMeta; 2]>;

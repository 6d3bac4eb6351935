//! Logs of this broker in which a coordinator keeps its state: appended to by the node itself, and read back.
//!
//! What `CoordinatorPartitionWriter` and the loaders of Kafka's coordinators do with a partition.

use smallvec::SmallVec;
use wire::{ErrorCode, Rope};

use super::ReplicaManager;
use super::partition::PartitionIx;
use super::produce::{Part, Touched};
use super::session::{TopicKey, TopicRef};
use crate::ctx::Ctx;
use crate::log::{AppendTerms, Origin, Verification};
use crate::metadata::MetadataImage;

/// A partition of a coordinator's topic.
#[derive(Clone, Copy, Debug)]
pub struct StatePartition<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: i32,
}

impl ReplicaManager {
    /// The leader epoch in which this broker leads the partition, once it may append to it.
    pub fn leads_state(&self, of: StatePartition<'_>) -> Option<i32> {
        let partition = self.table.get(self.state(of)?);
        (partition.is_leader() && partition.log.is_some() && partition.may_append())
            .then_some(partition.leader_epoch)
    }

    /// Appends a coordinator's batch, which counts once the high watermark has reached the offset returned.
    pub fn append_state(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        of: StatePartition<'_>,
        leader_epoch: i32,
        batch: &Rope,
    ) -> Result<i64, ErrorCode> {
        let ix = self.state(of).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        let partition = self.table.get(ix);
        if partition.leader_epoch != leader_epoch || !partition.may_append() {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        let mut touched: SmallVec<[Touched; 4]> = SmallVec::new();
        let mut part = Part::refused(TopicKey::Id(partition.topic_id), of.partition, ErrorCode::NONE);
        let terms_of_log = |leader_epoch| AppendTerms {
            leader_epoch,
            origin: Origin::Coordinator,
            verification: Verification::Off,
            transaction_version: 0,
        };
        let appended = self.append_to(ctx, -1, ix, batch, terms_of_log, &mut part, &mut touched);
        for touched in touched {
            if touched.high_watermark_moved {
                self.complete_produces(ctx, image, touched.at);
            }
        }
        self.finish(ctx, image);
        appended.map(|()| part.required_offset)
    }

    /// Whether what lies below `required_offset` is committed, as far as it is known; an error if it will not be told.
    pub fn state_committed(
        &self,
        of: StatePartition<'_>,
        leader_epoch: i32,
        required_offset: i64,
    ) -> Option<Result<(), ErrorCode>> {
        let Some(ix) = self.state(of) else { return Some(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)) };
        let partition = self.table.get(ix);
        let view = partition.view(&self.brokers, self.settings.lag_time_max);
        let Some(view) = view.filter(|_| partition.leader_epoch == leader_epoch) else {
            return Some(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER));
        };
        if partition.log().high_watermark() < required_offset {
            return None;
        }
        let enough = view.effective_min_isr() <= view.isr.maximal_len();
        Some(if enough { Ok(()) } else { Err(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND) })
    }

    /// The batches of the partition from `offset` on, of one segment; empty at the log's end. `None` starts at the
    /// log's start.
    pub fn read_state(
        &mut self,
        ctx: &mut Ctx<'_>,
        of: StatePartition<'_>,
        offset: Option<i64>,
    ) -> Result<Rope, ErrorCode> {
        const AT_ONCE: usize = 5 << 20;
        let ix = self.state(of).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        let log = self.table.get(ix).log.as_ref().ok_or(ErrorCode::KAFKA_STORAGE_ERROR)?;
        let offset = offset.unwrap_or(log.log_start_offset());
        match log.read(ctx.disk, offset, i64::MAX, AT_ONCE, true) {
            Ok(data) => Ok(data.records),
            Err(error) => Err(self.read_failed(ctx, ix, error)),
        }
    }

    fn state(&self, of: StatePartition<'_>) -> Option<PartitionIx> {
        self.table.find(TopicRef::Name(of.topic), of.partition)
    }
}

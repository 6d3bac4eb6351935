//! Logs of this broker in which a coordinator keeps its state: appended to by the node itself, and read back.
//!
//! What `CoordinatorPartitionWriter` and the loaders of Kafka's coordinators do with a partition. Coordinators also hear
//! which of these partitions the broker leads, and how far they are committed; other topics pay nothing for it: a replica
//! knows from its creation whether it belongs to a coordinator's topic.

use alloc::sync::Arc;
use alloc::vec::Vec;

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

/// What happened to a partition of a coordinator's topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSignal {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// What.
    pub what: StateChange,
}

/// What happened to a partition of a coordinator's topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// This broker leads it in a new epoch, and may append.
    Led {
        /// The leader epoch.
        epoch: i32,
    },
    /// This broker does not lead it any more.
    Lost,
    /// Its high watermark moved on.
    Committed {
        /// The high watermark.
        high_watermark: i64,
    },
}

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateLog {
    /// The first offset.
    pub log_start_offset: i64,
    /// The offset of the next record.
    pub log_end_offset: i64,
    /// The high watermark.
    pub high_watermark: i64,
}

impl ReplicaManager {
    // --- news, for the coordinators

    /// What happened to the coordinators' partitions since the last call, in order.
    pub fn take_state_signals(&mut self) -> Vec<StateSignal> {
        core::mem::take(&mut self.state_signals)
    }

    /// Whether there is anything for [`ReplicaManager::take_state_signals`].
    #[inline]
    pub fn has_state_signals(&self) -> bool {
        !self.state_signals.is_empty()
    }

    fn signal_state(&mut self, ix: PartitionIx, what: StateChange) {
        let part = self.table.get(ix);
        let signal = StateSignal { topic: part.topic.clone(), partition: part.index, what };
        self.state_signals.push(signal);
    }

    /// A coordinator's partition is led in a new epoch: it is told once appends are possible.
    pub(super) fn state_led(&mut self, ix: PartitionIx) {
        let part = self.table.get(ix);
        if !part.internal {
            return;
        }
        let epoch = part.leader_epoch;
        if part.may_append() {
            self.signal_state(ix, StateChange::Led { epoch });
        } else {
            self.state_waiting.push(ix);
        }
    }

    /// Something became durable: partitions that waited for it may be told of.
    pub(super) fn state_durable(&mut self) {
        for ix in core::mem::take(&mut self.state_waiting) {
            if self.table.try_get(ix).is_some_and(|part| part.is_leader() && part.log.is_some()) {
                self.state_led(ix);
            }
        }
    }

    /// This broker does not lead any more, or has lost the log.
    pub(super) fn state_lost(&mut self, ix: PartitionIx) {
        if self.table.get(ix).internal {
            self.state_waiting.retain(|waiting| *waiting != ix);
            self.signal_state(ix, StateChange::Lost);
        }
    }

    /// The high watermark of a leader moved on.
    pub(super) fn state_moved(&mut self, ix: PartitionIx) {
        let part = self.table.get(ix);
        if part.internal && part.is_leader() {
            let high_watermark = part.log().high_watermark();
            self.signal_state(ix, StateChange::Committed { high_watermark });
        }
    }

    // --- appending and reading

    /// The leader epoch in which this broker leads the partition, once it may append to it.
    pub fn leads_state(&self, of: StatePartition<'_>) -> Option<i32> {
        let partition = self.table.get(self.state(of)?);
        (partition.is_leader() && partition.log.is_some() && partition.may_append())
            .then_some(partition.leader_epoch)
    }

    /// Appends a coordinator's batch; in a transaction, if it is verified. It counts once the high watermark has reached the offset returned.
    pub fn append_state(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        of: StatePartition<'_>,
        leader_epoch: i32,
        batch: &Rope,
        verification: Verification,
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
            verification,
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

    /// Where the log of a partition that this broker leads in `epoch` stands.
    pub fn state_log(&self, of: StatePartition<'_>, epoch: i32) -> Option<StateLog> {
        let partition = self.table.get(self.state(of)?);
        let log =
            partition.log.as_ref().filter(|_| partition.is_leader() && partition.leader_epoch == epoch)?;
        Some(StateLog {
            log_start_offset: log.log_start_offset(),
            log_end_offset: log.log_end_offset(),
            high_watermark: log.high_watermark(),
        })
    }

    fn state(&self, of: StatePartition<'_>) -> Option<PartitionIx> {
        self.table.find(TopicRef::Name(of.topic), of.partition)
    }
}

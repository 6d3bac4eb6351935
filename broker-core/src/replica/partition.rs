//! One replica of this broker: its log, its role, and who waits for it.
//!
//! State and the transitions that need nothing but the log and the disk. What else follows from a change (answers that
//! may leave now, fetchers that start or stop) is the replica manager's business. Follows Kafka's `Partition`.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use smallvec::SmallVec;
use wire::drive::{Instant, Nanos};
use wire::{ErrorCode, Uuid};

use super::isr::{Brokers, Follower, IsrState, LeaderView, PendingIsr};
use super::session::SetIx;
use crate::disk::Disk;
use crate::event::TopicPartition;
use crate::log::Log;
use crate::metadata::{PartitionRegistration, Replicas};
use crate::mutant::Mutant;
use crate::quota::replication::Throttled;

/// A position in the replica manager's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PartitionIx(pub u32);

/// What only the leader of a partition knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Leading {
    /// The log end offset at which the leader epoch began.
    pub epoch_start_offset: i64,
    /// The other replicas, in assignment order.
    pub followers: Vec<Follower>,
    pub isr: IsrState,
    /// Counts the ISR changes that were proposed, so that the answer to an old one is recognised.
    pub proposal: u64,
}

impl Leading {
    pub(super) fn follower(&self, id: i32) -> Option<&Follower> {
        self.followers.iter().find(|f| f.id == id)
    }

    pub(super) fn follower_mut(&mut self, id: i32) -> Option<&mut Follower> {
        self.followers.iter_mut().find(|f| f.id == id)
    }
}

/// An acks=all request waits for a high watermark.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProduceWaiter {
    pub required_offset: i64,
    pub op: u32,
}

/// What becoming leader changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MadeLeader {
    /// A new leader epoch began.
    pub new_epoch: bool,
    /// The ISR that this leader had before, if it already led.
    pub isr_before: Option<Vec<i32>>,
}

/// One replica of this broker.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub index: i32,
    /// Which log directory it lies in.
    pub dir: usize,
    /// Absent while its log directory is offline.
    pub log: Option<Log>,
    /// Set while this broker leads.
    pub leading: Option<Leading>,
    /// -1 while there is none.
    pub leader: i32,
    /// -1 before the first registration.
    pub leader_epoch: i32,
    pub partition_epoch: i32,
    pub replicas: Replicas,
    pub min_insync_replicas: i32,
    /// As what the topic's lists throttle this replica.
    pub throttled: Throttled,
    /// Whether it belongs to a coordinator's topic.
    pub internal: bool,
    /// Its `partition.metadata` is not yet durable.
    pub creating: bool,
    /// An append that `flush.messages` asks to flush is not yet durable up to here: until it is, nothing is acknowledged
    /// and the high watermark stands still.
    pub flush_barrier: Option<i64>,
    /// Fetch sets that want to hear of changes, with the entry that is this partition's.
    pub watchers: SmallVec<[(SetIx, u32); 4]>,
    /// In the order of their offsets.
    pub produce_waiters: VecDeque<ProduceWaiter>,
    /// Requests without acks=all that wait for a flush, in the order of their offsets.
    pub flush_waiters: VecDeque<ProduceWaiter>,
    /// DeleteRecords requests that wait for its low watermark.
    pub delete_waiters: Vec<u32>,
    /// When the log's own timer is due, as registered with the replica manager.
    pub log_timer: Option<Instant>,
}

impl Partition {
    pub(super) fn new(topic: Arc<str>, topic_id: Uuid, index: i32, dir: usize, log: Log) -> Partition {
        Partition {
            internal: super::produce::is_internal(&topic),
            topic,
            topic_id,
            index,
            dir,
            log: Some(log),
            leading: None,
            leader: -1,
            leader_epoch: -1,
            partition_epoch: -1,
            replicas: Replicas::new(),
            min_insync_replicas: 1,
            throttled: Throttled::default(),
            creating: false,
            flush_barrier: None,
            watchers: SmallVec::new(),
            produce_waiters: VecDeque::new(),
            flush_waiters: VecDeque::new(),
            delete_waiters: Vec::new(),
            log_timer: None,
        }
    }

    pub(super) fn name(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.index }
    }

    pub(super) fn is_leader(&self) -> bool {
        self.leading.is_some()
    }

    /// The log of a replica that is online.
    pub(super) fn log(&self) -> &Log {
        self.log.as_ref().expect("the replica is online")
    }

    pub(super) fn log_mut(&mut self) -> &mut Log {
        self.log.as_mut().expect("the replica is online")
    }

    /// Whether records may be appended: what must be durable before the first append in this epoch is.
    pub(super) fn may_append(&self) -> bool {
        !self.creating && self.log.as_ref().is_none_or(Log::epochs_durable)
    }

    /// Whether the epoch that a peer believes in is this replica's; -1 says nothing.
    pub(super) fn check_epoch(&self, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        if self.log.as_ref().is_some_and(|log| log.config().mutants.has(Mutant::StaleFetchAccepted)) {
            return Ok(());
        }
        match current_leader_epoch {
            -1 => Ok(()),
            epoch if epoch < self.leader_epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
            epoch if epoch > self.leader_epoch => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
            _ => Ok(()),
        }
    }

    /// The log, if the peer's epoch is right and this replica leads or need not.
    pub(super) fn local_log(&self, current_leader_epoch: i32, leader_only: bool) -> Result<&Log, ErrorCode> {
        let log = self.log.as_ref().ok_or(ErrorCode::KAFKA_STORAGE_ERROR)?;
        self.check_epoch(current_leader_epoch)?;
        if leader_only && self.leading.is_none() {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        Ok(log)
    }

    /// The leader's view, for the rules of [`super::isr`].
    pub(super) fn view<'a>(&'a self, brokers: &'a Brokers, max_lag: Nanos) -> Option<LeaderView<'a>> {
        let (leading, log) = (self.leading.as_ref()?, self.log.as_ref()?);
        Some(LeaderView {
            log_end_offset: log.log_end_offset(),
            followers: &leading.followers,
            isr: &leading.isr,
            min_insync_replicas: self.min_insync_replicas,
            max_lag,
            brokers,
            mutants: log.config().mutants,
        })
    }

    /// Moves the leader's high watermark as far as it may go. Where it was and is, if it moved.
    pub(super) fn advance_high_watermark(
        &mut self,
        now: Instant,
        brokers: &Brokers,
        max_lag: Nanos,
    ) -> Option<(i64, i64)> {
        if self.flush_barrier.is_some() {
            return None;
        }
        let to = self.view(brokers, max_lag)?.high_watermark(now)?;
        let log = self.log_mut();
        let from = log.high_watermark();
        (to > from && log.update_high_watermark(to)).then(|| (from, log.high_watermark()))
    }

    /// The smallest log start offset among this leader and the followers that are alive.
    pub(super) fn low_watermark(&self, brokers: &Brokers) -> Option<i64> {
        let (leading, log) = (self.leading.as_ref()?, self.log.as_ref()?);
        let alive = leading.followers.iter().filter(|f| brokers.is_alive(f.id)).map(|f| f.log_start_offset);
        Some(alive.fold(log.log_start_offset(), i64::min))
    }

    /// Becomes, or stays, the leader. `None` if what is known here is newer.
    pub(super) fn make_leader(
        &mut self,
        now: Instant,
        node: i32,
        registration: &PartitionRegistration,
        disk: &mut dyn Disk,
    ) -> Option<MadeLeader> {
        if registration.partition_epoch < self.partition_epoch {
            return None;
        }
        let before = self.leading.take();
        let new_leader = before.is_none();
        let isr_before = before.as_ref().map(|l| l.isr.committed.to_vec());
        let mut leading = before.unwrap_or_default();
        let known = core::mem::take(&mut leading.followers);
        leading.followers = (registration.replicas.iter().filter(|id| **id != node))
            .map(|id| known.iter().find(|f| f.id == *id).cloned().unwrap_or_else(|| Follower::new(*id)))
            .collect();
        let new_epoch = registration.leader_epoch > self.leader_epoch;
        // The metadata may tell late what the answer to AlterPartition has told: a change that was proposed since is still
        // under way, and who is about to join counts. (Kafka forgets it, and may commit without him.)
        let is_news = new_leader || new_epoch || registration.partition_epoch > self.partition_epoch;
        if is_news || leading.isr.pending.is_none() {
            leading.isr = IsrState::committed(&registration.isr);
        }

        if new_epoch {
            let log = self.log.as_mut().expect("the replica is online");
            let start = log.log_end_offset();
            // Also when nothing will be written in this epoch: a follower with records of an epoch in between must be
            // told where the epoch before it ended, not "unknown" (KIP-279).
            log.assign_epoch(disk, registration.leader_epoch, start);
            for follower in &mut leading.followers {
                let in_isr = registration.isr.contains(&follower.id);
                follower.reset(now, start, new_leader, in_isr);
            }
            leading.epoch_start_offset = start;
            self.leader_epoch = registration.leader_epoch;
        }
        self.leading = Some(leading);
        self.replicas = registration.replicas.clone();
        self.partition_epoch = registration.partition_epoch;
        self.leader = node;
        Some(MadeLeader { new_epoch, isr_before })
    }

    /// Becomes, or stays, a follower (also of nobody). Whether a new leader epoch began; `None` if what is known here
    /// is newer.
    pub(super) fn make_follower(&mut self, registration: &PartitionRegistration) -> Option<bool> {
        if registration.partition_epoch < self.partition_epoch {
            return None;
        }
        let new_epoch = registration.leader_epoch > self.leader_epoch;
        self.leading = None;
        self.leader = registration.leader;
        self.leader_epoch = registration.leader_epoch;
        self.partition_epoch = registration.partition_epoch;
        self.replicas = registration.replicas.clone();
        Some(new_epoch)
    }

    /// Proposes a change of the ISR; its number. The change is in force for the high watermark at once when it makes
    /// the ISR larger, and only when it is committed when it makes it smaller.
    pub(super) fn propose(&mut self, change: PendingIsr) -> u64 {
        let leading = self.leading.as_mut().expect("only a leader proposes");
        assert!(
            leading.isr.pending.is_none(),
            "one change of the ISR of {}-{} at a time",
            self.topic,
            self.index
        );
        leading.isr.pending = Some(change);
        leading.proposal += 1;
        leading.proposal
    }

    pub(super) fn unwatch(&mut self, set: SetIx, entry: u32) {
        let at = self.watchers.iter().position(|w| *w == (set, entry));
        self.watchers.swap_remove(at.expect("the set watches the partition"));
    }

    /// What must hold whenever the manager has finished with an input.
    pub(super) fn check_invariants(&self, node: i32) {
        let Some(log) = &self.log else { return };
        let (start, hw, end) = (log.log_start_offset(), log.high_watermark(), log.log_end_offset());
        assert!(start <= hw && hw <= end, "{}-{}: start {start}, hw {hw}, end {end}", self.topic, self.index);
        if let Some(leading) = &self.leading {
            assert_eq!(self.leader, node, "a leader names itself");
            assert!(leading.followers.iter().all(|f| f.id != node), "a leader is not its own follower");
            assert!(leading.epoch_start_offset <= end, "an epoch starts within the log");
        } else {
            assert!(self.produce_waiters.is_empty(), "only a leader acknowledges");
        }
    }
}

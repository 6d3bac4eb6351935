//! The data plane of a broker: the replicas of its partitions, as leader and as follower.
//!
//! [`ReplicaManager`] owns every partition's log, its role, the requests that wait for it, and the fetchers. It
//! promises what Kafka's `ReplicaManager`, `Partition`, `ReplicaFetcherThread` and the handlers of `KafkaApis` promise:
//!
//! - What a consumer reads and an acks=all producer is told lies below the high watermark, which every member of the
//!   maximal ISR has reached and which stands still below `min.insync.replicas` (KAFKA-15583).
//! - A follower's log is a prefix of its leader's up to the follower's end, because each fetch proves it with leader
//!   epochs (KIP-101, KIP-279, KIP-320, KIP-595).
//! - The ISR changes only through the controller (KIP-497), with broker epochs (KIP-903).
//!
//! Each mechanism has a file: the rules in [`isr`], sessions in `session`, serving in `fetch`, `produce`, `offsets`,
//! `delete_records`, `log_dirs` and `producers`, transactions in `verify` and `markers`, following in `fetcher`, ISR changes in `alter`, the metadata in `changes`, files in
//! `storage`, compaction in `cleaning`, throttles (KIP-73) in `throttle`, and which directory they lie in in `assignments`. No work on the path of a message is proportional to the number of partitions.

mod alter;
mod assignments;
mod changes;
mod cleaning;
mod delete_records;
mod fetch;
mod fetcher;
mod hash;
mod hints;
pub mod isr;
mod log_dirs;
mod markers;
mod offsets;
mod partition;
mod produce;
mod producers;
mod purgatory;
mod session;
mod slab;
mod state_log;
mod storage;
mod table;
#[cfg(test)]
mod tests;
mod throttle;
mod verify;

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::drive::{Instant, Nanos, Now};
use wire::{Codecs, ErrorCode, Uuid};

pub use alter::AlterPartitionCall;
pub use fetcher::FetchCall;
pub use markers::OffsetsMarker;
pub use state_log::{StateChange, StateLog, StatePartition, StateSignal};
pub use verify::{OffsetsVerified, VerifyCall};

use alter::AlterPartitions;
use assignments::Assignments;
use changes::{not_hosted, topic_of};
use cleaning::LogCleaner;
use fetch::Read;
use fetcher::Fetchers;
use isr::{Brokers, Follower};
use partition::PartitionIx;
use purgatory::{Purgatory, Waiting};
use session::{FetchSets, SetIx};
use storage::Storage;
use table::Table;

use crate::config::{NodeConfig, ReplicaConfig};
use crate::ctx::Ctx;
use crate::disk::Disk;
use crate::event::Event;
use crate::io::Outputs;
use crate::log::{Log, LogDir};
use crate::metadata::MetadataImage;
use crate::quota::replication::ReplicationQuotas;

/// What a replica is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaRole {
    /// It leads.
    Leader,
    /// It follows, or would if there were a leader.
    Follower,
    /// Its log directory is offline.
    Offline,
}

/// One replica, for checkers and reports.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaView<'a> {
    /// The topic's name.
    pub topic: &'a Arc<str>,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// What it is.
    pub role: ReplicaRole,
    /// The leader that it knows, -1 for none.
    pub leader: i32,
    /// The leader epoch that it knows.
    pub leader_epoch: i32,
    /// The partition epoch that it knows.
    pub partition_epoch: i32,
    /// Its log, unless it is offline.
    pub log: Option<&'a Log>,
    /// The committed ISR, if it leads.
    pub isr: &'a [i32],
    /// The ISR with the change of it that is under way, if it leads.
    pub isr_state: Option<&'a isr::IsrState>,
    /// `min.insync.replicas`, but no more than there are replicas; 0 unless it leads.
    pub effective_min_isr: usize,
    /// What it knows of the others, if it leads.
    pub followers: &'a [Follower],
    /// Its high watermark; -1 while it is offline.
    pub high_watermark: i64,
    /// Where the leader epoch began, if it leads.
    pub epoch_start_offset: Option<i64>,
}

/// When what happens regularly happens next.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    shrink: Instant,
    high_watermarks: Instant,
    recovery_points: Instant,
    log_starts: Instant,
    retention: Instant,
    flush: Instant,
    producers: Instant,
}

impl Schedule {
    fn new(now: Instant, config: &ReplicaConfig) -> Schedule {
        let delayed = now + config.initial_task_delay;
        Schedule {
            shrink: now + half(config.lag_time_max),
            high_watermarks: now + config.high_watermark_checkpoint_interval,
            recovery_points: delayed,
            log_starts: delayed,
            retention: delayed,
            flush: delayed + millis(config.flush_scheduler_interval_ms),
            producers: now + config.producer_expiration_check_interval,
        }
    }

    fn next(&self) -> Instant {
        let Schedule { shrink, high_watermarks, recovery_points, log_starts, retention, flush, producers } =
            *self;
        let checkpoints = high_watermarks.min(recovery_points).min(log_starts);
        checkpoints.min(shrink).min(retention).min(flush).min(producers)
    }
}

/// A span of so many milliseconds; centuries stand for ever.
fn millis(ms: i64) -> Nanos {
    Nanos(u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000))
}

fn half(span: Nanos) -> Nanos {
    Nanos(span.0 / 2)
}

/// Moves a regular date on; it never lies in the past, however long the process was paused.
fn due(date: &mut Instant, now: Instant, every: Nanos) -> bool {
    if *date > now {
        return false;
    }
    *date = now + Nanos(every.0.max(1));
    true
}

/// The replicas of a broker.
#[derive(Clone, Debug)]
pub struct ReplicaManager {
    node_id: i32,
    broker_epoch: i64,
    settings: ReplicaConfig,
    brokers: Brokers,
    table: Table,
    storage: Storage,
    sets: FetchSets,
    /// Fetch sets whose waiting request can be answered.
    ready: VecDeque<SetIx>,
    purgatory: Purgatory,
    quotas: ReplicationQuotas,
    fetchers: Fetchers,
    alter: AlterPartitions,
    assignments: Assignments,
    log_timers: BTreeSet<(Instant, PartitionIx)>,
    schedule: Schedule,
    cleaner: LogCleaner,
    /// Replicas that went offline; what waits for them is answered at the end of the call.
    offline: Vec<PartitionIx>,
    in_controlled_shutdown: bool,
    stopping: bool,
    /// What the coordinators have not heard yet.
    state_signals: Vec<StateSignal>,
    /// Coordinators' partitions that this broker leads in an epoch that is not yet durable.
    state_waiting: Vec<PartitionIx>,
    scratch_dirty: Vec<u32>,
    scratch_reads: Vec<Read>,
    /// Markers that were appended to partitions of groups' offsets, until the group coordinator takes them.
    offsets_markers: Vec<OffsetsMarker>,
    /// Transactions of groups' offsets whose verification ended, until the group coordinator takes them.
    offsets_verified: Vec<OffsetsVerified>,
}

impl ReplicaManager {
    /// Loads all logs of the log directories that could be opened (`dirs`); the others of `log.dirs` are offline.
    pub fn open(
        config: &NodeConfig,
        dirs: Vec<LogDir>,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        out: &mut Outputs,
    ) -> ReplicaManager {
        let mut manager = ReplicaManager {
            node_id: config.node_id,
            broker_epoch: -1,
            settings: config.replica.clone(),
            brokers: Brokers::default(),
            table: Table::default(),
            storage: Storage::default(),
            sets: FetchSets::new(config.replica.fetch_session_slots.max(0) as usize),
            ready: VecDeque::new(),
            purgatory: Purgatory::default(),
            quotas: ReplicationQuotas::new(config.replica.quota_window),
            fetchers: Fetchers::default(),
            alter: AlterPartitions::default(),
            assignments: Assignments::default(),
            log_timers: BTreeSet::new(),
            schedule: Schedule::new(now.mono, &config.replica),
            cleaner: LogCleaner::new(now.mono, config),
            offline: Vec::new(),
            in_controlled_shutdown: false,
            stopping: false,
            state_signals: Vec::new(),
            state_waiting: Vec::new(),
            scratch_dirty: Vec::new(),
            scratch_reads: Vec::new(),
            offsets_markers: Vec::new(),
            offsets_verified: Vec::new(),
        };
        manager.load(config, dirs, now, disk, codecs, out);
        manager
    }

    /// The controller registered this broker: the epoch that its fetches, its ISR changes and its clean-shutdown mark
    /// carry from now on.
    pub fn set_broker_epoch(&mut self, epoch: i64) {
        self.broker_epoch = epoch;
    }

    /// When [`ReplicaManager::on_timer`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        if self.stopping {
            return None;
        }
        let others = [
            self.purgatory.timeouts.first().map(|(at, _)| *at),
            self.log_timers.first().map(|(at, _)| *at),
            self.fetchers.deadline(),
            self.alter.retry_at,
            self.assignments.send_at,
            self.storage.deadline(),
            self.cleaner.next,
        ];
        Some(others.into_iter().flatten().fold(self.schedule.next(), Instant::min))
    }

    /// The deadline is here.
    pub fn on_timer(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage) {
        if self.stopping {
            return;
        }
        let now = ctx.now.mono;
        while let Some(&(at, waiting)) = self.purgatory.timeouts.first()
            && at <= now
        {
            match waiting {
                Waiting::Fetch(set) => self.complete_fetch(ctx, image, set),
                Waiting::Produce(op) => {
                    self.purgatory.timeouts.pop_first();
                    self.produce_timed_out(ctx, image, op);
                }
                Waiting::DeleteRecords(op) => {
                    self.purgatory.timeouts.pop_first();
                    self.delete_timed_out(ctx, op);
                }
                Waiting::Verify(op) => {
                    self.purgatory.timeouts.pop_first();
                    self.verify_again(ctx, image, op);
                }
            }
        }
        self.log_timers_due(ctx);
        self.resume_delayed(now);
        if self.alter.retry_at.is_some_and(|at| at <= now) {
            self.alter.retry_at = None;
        }
        self.remove_dead(ctx);
        self.regular_work(ctx, image);
        self.clean(ctx, image);
        self.finish(ctx, image);
    }

    fn regular_work(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage) {
        let now = ctx.now.mono;
        if due(&mut self.schedule.shrink, now, half(self.settings.lag_time_max)) {
            self.shrink_isrs(ctx);
        }
        if due(&mut self.schedule.high_watermarks, now, self.settings.high_watermark_checkpoint_interval) {
            self.checkpoint_high_watermarks(ctx);
        }
        if due(&mut self.schedule.recovery_points, now, self.settings.recovery_point_checkpoint_interval) {
            (0..self.dir_count()).for_each(|dir| self.checkpoint_recovery_points(ctx, dir));
        }
        if due(&mut self.schedule.log_starts, now, self.settings.log_start_checkpoint_interval) {
            (0..self.dir_count()).for_each(|dir| self.checkpoint_log_starts(ctx, dir));
        }
        if due(&mut self.schedule.retention, now, self.settings.retention_check_interval) {
            self.retain(ctx);
        }
        if due(&mut self.schedule.flush, now, millis(self.settings.flush_scheduler_interval_ms)) {
            self.flush_by_time(ctx);
        }
        if due(&mut self.schedule.producers, now, self.settings.producer_expiration_check_interval) {
            self.expire_producers(ctx, image);
        }
    }

    /// What every input ends with: answers that became possible leave, then what this broker asks of others.
    fn finish(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage) {
        while let Some(ix) = self.offline.pop() {
            self.state_lost(ix);
            self.fail_produces(ctx, image, ix, ErrorCode::KAFKA_STORAGE_ERROR);
            self.fail_deletes(ctx, ix, ErrorCode::KAFKA_STORAGE_ERROR);
            self.notify_changed(ix, true);
        }
        self.complete_ready(ctx, image);
        if !self.stopping {
            self.send_alter_partitions(ctx);
            self.send_assignments(ctx, image);
            self.send_fetches(ctx);
        }
    }

    // --- the high watermark

    /// Moves a leader's high watermark as far as it may go and tells whoever reads up to it.
    fn move_high_watermark(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx) -> bool {
        let partition = self.table.get_mut(ix);
        let moved = partition.advance_high_watermark(ctx.now.mono, &self.brokers, self.settings.lag_time_max);
        let Some((from, to)) = moved else { return false };
        let partition = self.table.get(ix);
        ctx.out.event(|| Event::HighWatermarkAdvanced {
            partition: partition.name(),
            from,
            to,
            as_leader: true,
        });
        self.notify_high_watermark(ctx, ix);
        self.state_moved(ix);
        true
    }

    /// The same, and acknowledges what is committed by it.
    fn advance_high_watermark(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, ix: PartitionIx) {
        if self.move_high_watermark(ctx, ix) {
            self.complete_produces(ctx, image, ix);
        }
    }

    // --- looking inside

    /// All replicas, for checkers and reports.
    pub fn partitions(&self) -> impl Iterator<Item = ReplicaView<'_>> {
        self.table.iter().map(|(_, p)| self.look_at(p))
    }

    /// This broker's replica of one partition.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<ReplicaView<'_>> {
        let ix = self.table.find(session::TopicRef::Name(topic), partition)?;
        Some(self.look_at(self.table.get(ix)))
    }

    fn look_at<'a>(&'a self, p: &'a partition::Partition) -> ReplicaView<'a> {
        let leading = p.leading.as_ref();
        let view = p.view(&self.brokers, self.settings.lag_time_max);
        ReplicaView {
            topic: &p.topic,
            topic_id: p.topic_id,
            partition: p.index,
            role: match (&p.log, leading) {
                (None, _) => ReplicaRole::Offline,
                (Some(_), Some(_)) => ReplicaRole::Leader,
                (Some(_), None) => ReplicaRole::Follower,
            },
            leader: p.leader,
            leader_epoch: p.leader_epoch,
            partition_epoch: p.partition_epoch,
            log: p.log.as_ref(),
            isr: leading.map_or(&[], |l| &l.isr.committed),
            isr_state: leading.map(|l| &l.isr),
            effective_min_isr: view.map_or(0, |view| view.effective_min_isr()),
            followers: leading.map_or(&[], |l| &l.followers),
            high_watermark: p.log.as_ref().map_or(-1, Log::high_watermark),
            epoch_start_offset: leading.map(|l| l.epoch_start_offset),
        }
    }

    /// Incremental fetch sessions in the cache.
    pub fn fetch_sessions(&self) -> usize {
        self.sets.sessions()
    }

    /// What must hold between inputs, over everything: for the end of a run, after a restart, and now and then.
    pub fn check_invariants(&self) {
        assert!(self.ready.is_empty() && self.offline.is_empty(), "nothing is left over from an input");
        for (ix, partition) in self.table.iter() {
            partition.check_invariants(self.node_id);
            for (set, entry) in &partition.watchers {
                assert_eq!(self.sets.get(*set).entry(*entry).at, Some(ix), "a watcher knows whom it watches");
            }
        }
    }
}

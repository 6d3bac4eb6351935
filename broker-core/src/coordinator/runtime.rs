//! What the group and the transaction coordinator have in common: state that lies in the partitions of a topic.
//!
//! Follows Kafka's `CoordinatorRuntime`. While this broker leads a partition of the coordinator's topic it has a
//! [`Shard`] of it: read from the log when leadership begins, dropped when it ends. A request computes records from the
//! shard's state without changing it; the records are appended as one batch, replayed at once if the append succeeds,
//! and answered when the high watermark has passed them. So a refused append leaves no trace, and what a client was
//! told survives a failover.
//!
//! Writes of a shard are carried out in the order in which they were made, right behind the call that made them:
//! `group.coordinator.append.linger.ms` gathers nothing here, since time costs nothing.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::batch::{BatchBuilder, BatchOptions, Batches, ControlRecordType};
use wire::drive::{Instant, Nanos};
use wire::{Codecs, Compression, ErrorCode, Message, Rope};

use crate::ctx::Ctx;
use crate::event::{Event, TopicPartition};
use crate::log::Verification;
use crate::metadata::MetadataImage;
use crate::mutant::Mutant;
use crate::net::RequestToken;
use crate::replica::{ReplicaManager, StateChange, StatePartition, StateSignal};

/// No record of a coordinator is decompressed to more.
const DECOMPRESSED_LIMIT: usize = 100 << 20;

/// Where a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchInfo {
    /// The producer id of a transactional batch; else -1.
    pub producer_id: i64,
    /// The producer epoch; else -1.
    pub producer_epoch: i16,
    /// Whether it belongs to a transaction, whose end comes as [`Shard::end_transaction`].
    pub transactional: bool,
    /// The offset of the record.
    pub offset: i64,
    /// The timestamp of the record, in milliseconds of wall clock.
    pub timestamp: i64,
}

/// What lies in one partition of a coordinator's topic, as state.
///
/// State that lies in the log changes in [`Shard::replay`] and [`Shard::end_transaction`] only. What does not lie
/// there (members who wait, timers) a shard may change whenever it is called.
pub trait Shard: Clone + core::fmt::Debug {
    /// What waits for a write, with all that is needed to go on.
    type Later: Clone + core::fmt::Debug;

    /// An empty shard.
    fn new(ctx: &Ctx<'_>, partition: i32) -> Self;

    /// A record of the partition: found while loading, or appended just now, and in that case not yet committed. What
    /// is not understood is skipped.
    fn replay(&mut self, batch: &BatchInfo, key: &[u8], value: Option<&[u8]>);

    /// A marker of the partition, at `offset`: the transaction of this producer has ended.
    fn end_transaction(&mut self, producer_id: i64, producer_epoch: i16, commit: bool, offset: i64);

    /// All below this offset is committed: what lies there is what others may be told of.
    fn committed(&mut self, high_watermark: i64) {
        let _ = high_watermark;
    }

    /// All of the partition was replayed: timers begin.
    fn loaded(&mut self, cx: &mut ShardCx<'_, '_, Self::Later>);

    /// A write is committed; or it was refused, and nothing of it was replayed; or, with REQUEST_TIMED_OUT or
    /// NOT_COORDINATOR, it was appended and its fate is open.
    fn completed(
        &mut self,
        cx: &mut ShardCx<'_, '_, Self::Later>,
        later: Self::Later,
        result: Result<(), ErrorCode>,
    );

    /// When [`Shard::on_timer`] has something to do.
    fn deadline(&self) -> Option<Instant>;

    /// The deadline is here.
    fn on_timer(&mut self, cx: &mut ShardCx<'_, '_, Self::Later>);

    /// The metadata changed: topics, configurations.
    fn on_metadata(&mut self, cx: &mut ShardCx<'_, '_, Self::Later>, delta: &crate::metadata::ImageDelta);

    /// Leadership went elsewhere: whoever waits for anything but a write is told so. Nothing may be written.
    fn unload(&mut self, cx: &mut ShardCx<'_, '_, Self::Later>);
}

/// Records of one write: one batch.
#[derive(Clone, Debug)]
pub struct Records {
    batch: BatchBuilder,
    now_ms: i64,
}

impl Records {
    /// No records, to be stamped with the time of `ctx`.
    pub fn new(ctx: &Ctx<'_>) -> Records {
        Records { batch: BatchBuilder::new(), now_ms: ctx.now.wall_ms }
    }

    /// Adds a record; without a value it is a tombstone.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.batch.append(self.now_ms, Some(key), value, &[]);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.batch.count() as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
}

/// The transaction of a producer, as far as a partition's log needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The producer's id.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// Whether its coordinator knows that the partition takes part.
    pub verification: Verification,
}

/// A write that a shard asked for.
#[derive(Debug)]
pub(super) enum Write<L> {
    Records { records: Records, transaction: Option<Transaction>, later: L },
    AfterAll { later: L },
}

/// What a shard may use while it handles something.
pub struct ShardCx<'c, 'n, L> {
    /// Time, disk, outputs, connections, chance, configuration.
    pub ctx: &'c mut Ctx<'n>,
    /// The metadata.
    pub image: &'c MetadataImage,
    /// The shard's partition.
    pub partition: i32,
    /// The leader epoch of the partition: the coordinator's epoch.
    pub epoch: i32,
    writes: &'c mut Vec<Write<L>>,
}

impl<'c, 'n, L> ShardCx<'c, 'n, L> {
    /// For answers where no shard is.
    pub(super) fn outside(parts: &'c mut Parts<'_, 'n>, writes: &'c mut Vec<Write<L>>) -> ShardCx<'c, 'n, L> {
        ShardCx { ctx: &mut *parts.ctx, image: parts.image, partition: -1, epoch: -1, writes }
    }

    /// Empty records, to be given to [`ShardCx::write`].
    pub fn records(&self) -> Records {
        Records::new(self.ctx)
    }

    /// Appends records as one batch. They are replayed at once, `later` comes back when they are committed. No records
    /// are nothing to write: `later` comes back when all that was written before is committed.
    pub fn write(&mut self, records: Records, later: L) {
        if records.is_empty() {
            return self.after_commit(later);
        }
        self.writes.push(Write::Records { records, transaction: None, later });
    }

    /// The same in the transaction of a producer.
    pub fn write_in_transaction(&mut self, transaction: Transaction, records: Records, later: L) {
        self.writes.push(Write::Records { records, transaction: Some(transaction), later });
    }

    /// Goes on when all that was written so far is committed: for answers that must tell only of what will last.
    pub fn after_commit(&mut self, later: L) {
        self.writes.push(Write::AfterAll { later });
    }

    /// Answers a request.
    pub fn respond<'r, M: Message<'r>>(&mut self, token: RequestToken, response: &M) {
        self.ctx.net.respond(self.ctx.out, token, response);
    }

    /// Reports a fact, if anybody listens.
    pub fn event(&mut self, make: impl FnOnce() -> Event) {
        self.ctx.event(make);
    }

    /// The monotonic time.
    pub fn now(&self) -> Instant {
        self.ctx.now.mono
    }

    /// The wall clock, in milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.ctx.now.wall_ms
    }
}

/// A write that is not yet committed.
#[derive(Clone, Debug)]
struct Pending<L> {
    required_offset: i64,
    deadline: Instant,
    /// Nobody waits for a transaction's marker itself.
    later: Option<L>,
}

#[derive(Clone, Debug)]
struct Slot<S: Shard> {
    epoch: i32,
    shard: S,
    /// In the order of their offsets.
    pending: VecDeque<Pending<S::Later>>,
}

/// What a coordinator needs of its broker for one call.
pub struct Parts<'c, 'n> {
    /// Time, disk, outputs, connections, chance, configuration.
    pub ctx: &'c mut Ctx<'n>,
    /// The metadata.
    pub image: &'c MetadataImage,
    /// The replicas, of which some are the coordinators'.
    pub replicas: &'c mut ReplicaManager,
}

/// The shards of one coordinator on this broker.
#[derive(Clone, Debug)]
pub struct Runtime<S: Shard> {
    topic: Arc<str>,
    write_timeout: Nanos,
    compression: Compression,
    shards: BTreeMap<i32, Slot<S>>,
    /// Not later than the soonest deadline of all shards.
    deadline: Option<Instant>,
}

impl<S: Shard> Runtime<S> {
    /// A runtime without shards.
    pub fn new(topic: &str, write_timeout: Nanos, compression: Compression) -> Runtime<S> {
        Runtime {
            topic: Arc::from(topic),
            write_timeout,
            compression,
            shards: BTreeMap::new(),
            deadline: None,
        }
    }

    /// The topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition that a group or transactional id belongs to; COORDINATOR_NOT_AVAILABLE before there is a topic.
    pub fn partition_of(&self, image: &MetadataImage, id: &str) -> Result<i32, ErrorCode> {
        super::coordinator_partition(image, &self.topic, id).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    }

    /// The partitions of which there are shards.
    pub fn active(&self) -> impl Iterator<Item = i32> + '_ {
        self.shards.keys().copied()
    }

    /// The shard of a partition, for looking.
    pub fn shard(&self, partition: i32) -> Option<&S> {
        self.shards.get(&partition).map(|slot| &slot.shard)
    }

    /// All shards, for looking.
    pub fn shards(&self) -> impl Iterator<Item = (i32, &S)> {
        self.shards.iter().map(|(partition, slot)| (*partition, &slot.shard))
    }

    /// Whether a partition has writes that are not committed.
    pub fn has_pending(&self, partition: i32) -> bool {
        self.shards.get(&partition).is_some_and(|slot| !slot.pending.is_empty())
    }

    /// The leader epoch in which this broker coordinates a partition.
    pub fn epoch(&self, partition: i32) -> Option<i32> {
        self.shards.get(&partition).map(|slot| slot.epoch)
    }

    /// Calls the shard that an id belongs to.
    pub fn with_id<R>(
        &mut self,
        parts: &mut Parts<'_, '_>,
        id: &str,
        call: impl FnOnce(&mut S, &mut ShardCx<'_, '_, S::Later>) -> R,
    ) -> Result<R, ErrorCode> {
        let partition = self.partition_of(parts.image, id)?;
        self.with(parts, partition, call)
    }

    /// Calls the shard of a partition, and carries out what it wants written. NOT_COORDINATOR if there is none.
    pub fn with<R>(
        &mut self,
        parts: &mut Parts<'_, '_>,
        partition: i32,
        call: impl FnOnce(&mut S, &mut ShardCx<'_, '_, S::Later>) -> R,
    ) -> Result<R, ErrorCode> {
        let Some(slot) = self.shards.get_mut(&partition) else { return Err(ErrorCode::NOT_COORDINATOR) };
        let mut writes = Vec::new();
        let mut cx = ShardCx {
            ctx: &mut *parts.ctx,
            image: parts.image,
            partition,
            epoch: slot.epoch,
            writes: &mut writes,
        };
        let result = call(&mut slot.shard, &mut cx);
        self.carry_out(parts, partition, writes);
        self.arm(partition);
        Ok(result)
    }

    /// Carries out writes, and whatever follows from those that end at once.
    fn carry_out(&mut self, parts: &mut Parts<'_, '_>, partition: i32, writes: Vec<Write<S::Later>>) {
        let mut queue: VecDeque<Write<S::Later>> = writes.into();
        while let Some(write) = queue.pop_front() {
            let Some(slot) = self.shards.get_mut(&partition) else { return };
            let of = StatePartition { topic: &self.topic, partition };
            let (result, later) = match write {
                Write::Records { records, transaction, later } => {
                    let count = records.len() as i64;
                    let options = BatchOptions {
                        compression: self.compression,
                        producer_id: transaction.map_or(-1, |t| t.producer_id),
                        producer_epoch: transaction.map_or(-1, |t| t.producer_epoch),
                        // Kafka's coordinators number their records too.
                        base_sequence: 0,
                        transactional: transaction.is_some(),
                        ..BatchOptions::default()
                    };
                    let result = match records.batch.finish(parts.ctx.codecs, &options) {
                        Ok(bytes) => {
                            let bytes = Rope::from(bytes);
                            let Parts { ctx, image, replicas } = &mut *parts;
                            let verification = transaction.map_or(Verification::Off, |t| t.verification);
                            let appended =
                                replicas.append_state(ctx, image, of, slot.epoch, &bytes, verification);
                            appended.inspect(|end| {
                                replay(&mut slot.shard, ctx.codecs, &bytes, Some(end - count));
                            })
                        }
                        Err(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
                    };
                    (result, later)
                }
                Write::AfterAll { later } => match slot.pending.back() {
                    None => {
                        self.complete(parts, partition, later, Ok(()), &mut queue);
                        continue;
                    }
                    Some(last) => {
                        let (required_offset, deadline) = (last.required_offset, last.deadline);
                        slot.pending.push_back(Pending { required_offset, deadline, later: Some(later) });
                        continue;
                    }
                },
            };
            match result {
                // What it was told before stays in order: nobody overtakes.
                Ok(end)
                    if slot.pending.is_empty() && is_committed(parts.replicas, of, slot.epoch, end)
                        || parts.ctx.config.mutants.has(Mutant::CommitAckedUnreplicated) =>
                {
                    slot.shard.committed(end);
                    self.complete(parts, partition, later, Ok(()), &mut queue);
                }
                Ok(required_offset) => {
                    let deadline = parts.ctx.now.mono + self.write_timeout;
                    slot.pending.push_back(Pending { required_offset, deadline, later: Some(later) });
                }
                Err(error) => self.complete(parts, partition, later, Err(error), &mut queue),
            }
        }
    }

    /// Tells a shard how a write ended; what it wants written then comes behind the rest.
    fn complete(
        &mut self,
        parts: &mut Parts<'_, '_>,
        partition: i32,
        later: S::Later,
        result: Result<(), ErrorCode>,
        queue: &mut VecDeque<Write<S::Later>>,
    ) {
        let Some(slot) = self.shards.get_mut(&partition) else { return };
        let mut writes = Vec::new();
        let mut cx = ShardCx {
            ctx: &mut *parts.ctx,
            image: parts.image,
            partition,
            epoch: slot.epoch,
            writes: &mut writes,
        };
        slot.shard.completed(&mut cx, later, result);
        queue.extend(writes);
    }

    /// A partition of the topic changed.
    pub fn on_signal(&mut self, parts: &mut Parts<'_, '_>, signal: &StateSignal) {
        debug_assert_eq!(signal.topic, self.topic);
        match signal.what {
            StateChange::Led { epoch } => {
                self.unload(parts, signal.partition);
                self.load(parts, signal.partition, epoch);
            }
            StateChange::Lost => self.unload(parts, signal.partition),
            StateChange::Committed { high_watermark } => {
                self.committed(parts, signal.partition, high_watermark);
            }
        }
    }

    /// Reads a partition from its start to its end.
    fn load(&mut self, parts: &mut Parts<'_, '_>, partition: i32, epoch: i32) {
        let of = StatePartition { topic: &self.topic, partition };
        let Some(log) = parts.replicas.state_log(of, epoch) else { return };
        let mut shard = S::new(parts.ctx, partition);
        let mut offset = log.log_start_offset;
        while offset < log.log_end_offset {
            let Ok(bytes) = parts.replicas.read_state(parts.ctx, of, Some(offset)) else { return };
            let next = replay(&mut shard, parts.ctx.codecs, &bytes, None);
            let Some(next) = next.filter(|next| *next > offset) else { break };
            offset = next;
        }
        shard.committed(log.high_watermark);
        self.shards.insert(partition, Slot { epoch, shard, pending: VecDeque::new() });
        parts.ctx.event(|| Event::CoordinatorLoaded {
            partition: TopicPartition { topic: self.topic.clone(), partition },
            epoch,
        });
        let _ = self.with(parts, partition, |shard, cx| shard.loaded(cx));
    }

    /// Drops a shard; whoever waits is told NOT_COORDINATOR.
    fn unload(&mut self, parts: &mut Parts<'_, '_>, partition: i32) {
        let Some(mut slot) = self.shards.remove(&partition) else { return };
        let mut writes = Vec::new();
        let mut cx = ShardCx {
            ctx: &mut *parts.ctx,
            image: parts.image,
            partition,
            epoch: slot.epoch,
            writes: &mut writes,
        };
        for later in slot.pending.drain(..).filter_map(|pending| pending.later) {
            slot.shard.completed(&mut cx, later, Err(ErrorCode::NOT_COORDINATOR));
        }
        slot.shard.unload(&mut cx);
        parts.ctx.event(|| Event::CoordinatorUnloaded {
            partition: TopicPartition { topic: self.topic.clone(), partition },
        });
    }

    fn committed(&mut self, parts: &mut Parts<'_, '_>, partition: i32, high_watermark: i64) {
        let mut queue = VecDeque::new();
        if let Some(slot) = self.shards.get_mut(&partition) {
            slot.shard.committed(high_watermark);
        }
        while let Some(slot) = self.shards.get_mut(&partition)
            && slot.pending.front().is_some_and(|first| first.required_offset <= high_watermark)
        {
            let first = slot.pending.pop_front().expect("it was just seen");
            let Some(later) = first.later else { continue };
            self.complete(parts, partition, later, Ok(()), &mut queue);
        }
        self.carry_out(parts, partition, queue.into());
        self.arm(partition);
    }

    /// A marker was appended to a partition by this broker as its leader: a write as any other, for whose commit others
    /// may have to wait.
    pub fn marker_appended(
        &mut self,
        now: Instant,
        partition: i32,
        producer: (i64, i16),
        commit: bool,
        offset: i64,
    ) {
        if let Some(slot) = self.shards.get_mut(&partition) {
            slot.shard.end_transaction(producer.0, producer.1, commit, offset);
            let deadline = now + self.write_timeout;
            slot.pending.push_back(Pending { required_offset: offset + 1, deadline, later: None });
        }
        self.arm(partition);
    }

    /// The metadata changed.
    pub fn on_metadata(&mut self, parts: &mut Parts<'_, '_>, delta: &crate::metadata::ImageDelta) {
        for partition in self.shards.keys().copied().collect::<Vec<_>>() {
            let _ = self.with(parts, partition, |shard, cx| shard.on_metadata(cx, delta));
        }
    }

    /// When [`Runtime::on_timer`] has something to do, or a little before.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn arm(&mut self, partition: i32) {
        if let Some(due) = self.shards.get(&partition).and_then(Slot::due) {
            self.deadline = Some(self.deadline.map_or(due, |known| known.min(due)));
        }
    }

    /// The deadline is here.
    pub fn on_timer(&mut self, parts: &mut Parts<'_, '_>) {
        let now = parts.ctx.now.mono;
        if self.deadline.is_none_or(|at| at > now) {
            return;
        }
        let due: Vec<i32> = (self.shards.iter())
            .filter(|(_, s)| s.due().is_some_and(|at| at <= now))
            .map(|(p, _)| *p)
            .collect();
        for partition in due {
            self.time_out(parts, partition);
            let _ = self.with(parts, partition, |shard, cx| {
                if shard.deadline().is_some_and(|at| at <= now) {
                    shard.on_timer(cx);
                }
            });
        }
        self.deadline = self.shards.values().filter_map(Slot::due).min();
    }

    /// Writes that nobody committed in time.
    fn time_out(&mut self, parts: &mut Parts<'_, '_>, partition: i32) {
        let mut queue = VecDeque::new();
        let now = parts.ctx.now.mono;
        while let Some(slot) = self.shards.get_mut(&partition)
            && slot.pending.front().is_some_and(|first| first.deadline <= now)
        {
            let first = slot.pending.pop_front().expect("it was just seen");
            let Some(later) = first.later else { continue };
            self.complete(parts, partition, later, Err(ErrorCode::REQUEST_TIMED_OUT), &mut queue);
        }
        self.carry_out(parts, partition, queue.into());
    }
}

impl<S: Shard> Slot<S> {
    fn due(&self) -> Option<Instant> {
        let pending = self.pending.front().map(|first| first.deadline);
        match (pending, self.shard.deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

fn is_committed(replicas: &ReplicaManager, of: StatePartition<'_>, epoch: i32, offset: i64) -> bool {
    replicas.state_log(of, epoch).is_some_and(|log| log.high_watermark >= offset)
}

/// Replays batches; `base` is where a batch that was just built lies. The offset behind the last one, if there is any.
pub(super) fn replay<S: Shard>(
    shard: &mut S,
    codecs: &dyn Codecs,
    bytes: &Rope,
    base: Option<i64>,
) -> Option<i64> {
    let mut next = None;
    for batch in Batches::new(bytes) {
        let Ok(batch) = batch else { break };
        let header = batch.header;
        let base_offset = base.unwrap_or(header.base_offset);
        next = Some(base_offset + i64::from(header.last_offset_delta) + 1);
        let Ok(records) = batch.records(codecs, DECOMPRESSED_LIMIT) else { continue };
        for record in &records {
            let Ok(record) = record else { break };
            let key = record.key.unwrap_or_default();
            if header.is_control() {
                let commit = match ControlRecordType::parse_key(key) {
                    Ok(ControlRecordType::Commit) => true,
                    Ok(ControlRecordType::Abort) => false,
                    _ => continue,
                };
                let offset = base_offset + (record.offset - header.base_offset);
                shard.end_transaction(header.producer_id, header.producer_epoch, commit, offset);
                continue;
            }
            let info = BatchInfo {
                producer_id: header.producer_id,
                producer_epoch: header.producer_epoch,
                transactional: header.is_transactional(),
                offset: base_offset + (record.offset - header.base_offset),
                timestamp: record.timestamp,
            };
            shard.replay(&info, key, record.value);
        }
    }
    next
}

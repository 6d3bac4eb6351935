//! Batches that wait, are sent, or come back (`RecordAccumulator.java`).
//!
//! Each partition that was ever produced to has a slot: a queue of batches, and those of it that are in flight. What
//! is due is kept in order of time, what a broker can be sent is kept by broker, and what expires is kept in order
//! of creation, so that neither a message nor a wake-up costs more with more partitions.
//!
//! With idempotence, the batches of a partition that were ever sent keep their order: those that come back stand in
//! their queue before those that were never sent, by sequence number, and none is sent again while an earlier one is
//! in flight.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use wire::batch::BatchError;
use wire::drive::{Instant, Nanos};
use wire::{Codecs, Rope};

use super::NewRecord;
use super::batch::{Codec, ProducerBatch, Ratio};
use super::partitioner::{Load, Sticky, partition_for_key};
use super::sequences::{Identity, Sequences};
use crate::Rng;
use crate::backoff::Backoff;
use crate::config::ProducerConfig;
use crate::event::TopicPartition;
use crate::metadata::{Metadata, TopicIndex};
use crate::mutant::{Mutant, Mutants};

/// So many batches of a producer a leader remembers. Were more sent from one on that has no answer (it hangs on a leader
/// that went silent, and the next leader takes what follows), it might come again when it is forgotten.
const REMEMBERED: u64 = 5;

/// A partition that was produced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotIndex(u32);

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub topic: TopicIndex,
    pub partition: TopicPartition,
    queue: VecDeque<ProducerBatch>,
    in_flight: Vec<ProducerBatch>,
    sequences: Sequences,
    /// With one request in flight, a partition's next batch waits for the one before it.
    muted: bool,
    /// The leader while there is a queue.
    node: Option<i32>,
    leader_epoch: i32,
    /// Its entry in `ready_at`.
    ready_at: Option<Instant>,
    /// How large its last batch became, in bytes and records: the next one reserves as much.
    last_size: usize,
    last_count: usize,
}

#[derive(Clone, Debug, Default)]
struct Topic {
    slots: Vec<Option<SlotIndex>>,
    sticky: Sticky,
    ratio: Option<Ratio>,
}

#[derive(Clone, Debug, Default)]
struct NodeQueue {
    /// The slots that it leads and that have a queue.
    slots: BTreeSet<SlotIndex>,
    /// Where to begin to drain, so that no partition starves.
    from: Option<SlotIndex>,
    /// Since when something is due that it has not taken.
    due_since: Option<Instant>,
}

/// There is no memory for another batch: wait until one is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted {
    pub wanted: usize,
    pub available: u64,
}

/// A batch on its way.
#[derive(Clone, Debug)]
pub(super) struct Drained {
    pub slot: SlotIndex,
    pub id: u64,
    pub records: Rope,
}

#[derive(Clone, Debug)]
pub(super) struct Accumulator {
    batch_size: usize,
    linger: Nanos,
    buffer_memory: u64,
    delivery_timeout: Nanos,
    max_request_size: usize,
    retry_backoff: Backoff,
    adaptive: bool,
    ignore_keys: bool,
    availability_timeout: Nanos,
    /// One request in flight at most: batches of a partition must not overtake one another.
    keeps_order: bool,
    /// Batches are numbered, under `identity` once it is known.
    idempotent: bool,
    identity: Option<Identity>,
    /// If partitions join transactions by request: those that have joined. Nothing is sent to others.
    joined: Option<BTreeSet<SlotIndex>>,
    /// The slots that gave batches up whose fate is unknown.
    unresolved: BTreeSet<SlotIndex>,
    codec: Codec,
    topics: Vec<Topic>,
    slots: Vec<Slot>,
    nodes: BTreeMap<i32, NodeQueue>,
    leaderless: BTreeSet<SlotIndex>,
    ready_at: BTreeSet<(Instant, SlotIndex)>,
    due_nodes: BTreeSet<i32>,
    /// Every batch in order of creation; those that are done are removed once they are first.
    expiry: VecDeque<(Instant, SlotIndex, u64)>,
    next_id: u64,
    memory_used: u64,
    incomplete: usize,
    /// Send everything without lingering: a flush, a close, or a caller that waits for memory.
    hurry: bool,
    metadata_version: u64,
    mutants: Mutants,
}

impl Accumulator {
    pub fn new(config: &ProducerConfig) -> Accumulator {
        Accumulator {
            batch_size: config.batch_size,
            linger: config.linger,
            buffer_memory: config.buffer_memory,
            delivery_timeout: config.delivery_timeout,
            max_request_size: config.max_request_size,
            retry_backoff: config.common.retry_backoff,
            adaptive: config.adaptive_partitioning,
            ignore_keys: config.ignore_keys,
            availability_timeout: config.availability_timeout,
            keeps_order: config.max_in_flight == 1,
            idempotent: config.idempotence,
            identity: None,
            joined: None,
            unresolved: BTreeSet::new(),
            codec: Codec {
                compression: config.compression,
                level: config.compression_level,
                transactional: config.transactional_id.is_some(),
            },
            topics: Vec::new(),
            slots: Vec::new(),
            nodes: BTreeMap::new(),
            leaderless: BTreeSet::new(),
            ready_at: BTreeSet::new(),
            due_nodes: BTreeSet::new(),
            expiry: VecDeque::new(),
            next_id: 0,
            memory_used: 0,
            incomplete: 0,
            hurry: false,
            metadata_version: 0,
            mutants: config.common.mutants,
        }
    }

    pub fn slot(&self, slot: SlotIndex) -> &Slot {
        &self.slots[slot.0 as usize]
    }

    /// The batches that have no outcome yet.
    pub fn incomplete(&self) -> usize {
        self.incomplete
    }

    /// Whether some batch waits for a leader that is not known.
    pub fn has_leaderless(&self) -> bool {
        !self.leaderless.is_empty()
    }

    // --- appending

    /// Adds a record of a topic whose partitions are known. The partition that it went to.
    pub fn append(
        &mut self,
        now: Instant,
        topic: TopicIndex,
        metadata: &Metadata,
        record: &NewRecord<'_>,
        rng: &mut Rng,
    ) -> Result<i32, Exhausted> {
        let partitions = metadata.topic(topic).partitions.len();
        let (partition, sticks) = match (record.partition, record.key) {
            (Some(partition), _) => (partition, false),
            (None, Some(key)) if !self.ignore_keys => (partition_for_key(key, partitions), false),
            _ => (self.sticky_partition(now, topic, metadata, rng), true),
        };
        let at = self.slot_of(topic, partition, metadata);
        let appended = self.append_to(now, at, metadata, record)?;
        if sticks {
            self.stick(now, topic, at, appended, metadata, rng);
        }
        Ok(partition)
    }

    fn append_to(
        &mut self,
        now: Instant,
        at: SlotIndex,
        metadata: &Metadata,
        record: &NewRecord<'_>,
    ) -> Result<usize, Exhausted> {
        let (codec, ratio) = (self.codec, self.ratio(self.slot(at).topic));
        let slot = &mut self.slots[at.0 as usize];
        if let Some(last) = slot.queue.back_mut() {
            let appended = last.try_append(codec, ratio, record);
            if let Some(appended) = appended {
                if last.is_full(codec, ratio) {
                    self.reschedule(at);
                }
                return Ok(appended);
            }
        }
        let limit = self.batch_size.max(record.size_upper_bound());
        let available = self.buffer_memory - self.memory_used;
        if limit as u64 > available {
            self.reschedule(at);
            return Err(Exhausted { wanted: limit, available });
        }
        let slot = self.slot(at);
        let capacity = (slot.last_size + 64).clamp(record.size_upper_bound(), limit);
        let mut batch = ProducerBatch::new(self.next_id, now, limit, capacity, slot.last_count + 1);
        let appended = batch.try_append(codec, ratio, record).expect("an empty batch takes a record");
        self.next_id += 1;
        self.memory_used += limit as u64;
        self.incomplete += 1;
        self.expiry.push_back((now, at, batch.id));
        self.slots[at.0 as usize].queue.push_back(batch);
        self.place(at, metadata);
        Ok(appended)
    }

    fn sticky_partition(
        &mut self,
        now: Instant,
        topic: TopicIndex,
        metadata: &Metadata,
        rng: &mut Rng,
    ) -> i32 {
        self.topic(topic);
        let mut sticky = self.topics[topic.0 as usize].sticky;
        let mut partition = sticky.current(self.adaptive, || self.loads(now, topic, metadata), rng);
        // A switch that was put off because a batch was open is made up for.
        let at = self.topics[topic.0 as usize].slots.get(partition as usize).copied().flatten();
        let all_full = at.is_none_or(|at| self.all_full(at));
        let loads = || self.loads(now, topic, metadata);
        if all_full && sticky.produced(0, self.batch_size, true, self.adaptive, loads, rng) {
            partition = sticky.current(self.adaptive, || self.loads(now, topic, metadata), rng);
        }
        self.topics[topic.0 as usize].sticky = sticky;
        partition
    }

    fn stick(
        &mut self,
        now: Instant,
        topic: TopicIndex,
        at: SlotIndex,
        appended: usize,
        metadata: &Metadata,
        rng: &mut Rng,
    ) {
        let mut sticky = self.topics[topic.0 as usize].sticky;
        let all_full = self.all_full(at);
        let loads = || self.loads(now, topic, metadata);
        sticky.produced(appended, self.batch_size, all_full, self.adaptive, loads, rng);
        self.topics[topic.0 as usize].sticky = sticky;
    }

    fn all_full(&self, at: SlotIndex) -> bool {
        let slot = self.slot(at);
        slot.queue.back().is_none_or(|last| last.is_full(self.codec, self.ratio(slot.topic)))
    }

    fn loads(&self, now: Instant, topic: TopicIndex, metadata: &Metadata) -> Vec<Load> {
        let slots = &self.topics[topic.0 as usize].slots;
        let partitions = &metadata.topic(topic).partitions;
        // Queues are compared once every partition has one, as in Kafka.
        let all_known = slots.len() >= partitions.len() && slots.iter().all(Option::is_some);
        let load = |(i, partition): (usize, &crate::metadata::Partition)| {
            let slot = slots.get(i).copied().flatten().filter(|_| all_known);
            let since =
                partition.leader.and_then(|leader| self.nodes.get(&leader)).and_then(|node| node.due_since);
            Load {
                partition: i as i32,
                has_leader: partition.leader.is_some(),
                queue: slot.map_or(0, |at| self.slot(at).queue.len() as u32),
                stuck: all_known
                    && self.availability_timeout > Nanos::ZERO
                    && since.is_some_and(|since| now.since(since) > self.availability_timeout),
            }
        };
        partitions.iter().enumerate().map(load).collect()
    }

    fn topic(&mut self, topic: TopicIndex) -> &mut Topic {
        let at = topic.0 as usize;
        if self.topics.len() <= at {
            self.topics.resize_with(at + 1, Topic::default);
        }
        &mut self.topics[at]
    }

    fn ratio(&self, topic: TopicIndex) -> Ratio {
        self.topics.get(topic.0 as usize).and_then(|topic| topic.ratio).unwrap_or(Ratio::START)
    }

    fn slot_of(&mut self, topic: TopicIndex, partition: i32, metadata: &Metadata) -> SlotIndex {
        let next = SlotIndex(self.slots.len() as u32);
        let at = usize::try_from(partition).expect("the caller has checked the partition");
        let slots = &mut self.topic(topic).slots;
        if slots.len() <= at {
            slots.resize(at + 1, None);
        }
        if let Some(slot) = slots[at] {
            return slot;
        }
        slots[at] = Some(next);
        self.slots.push(Slot {
            topic,
            partition: TopicPartition { topic: metadata.topic(topic).name.clone(), partition },
            queue: VecDeque::new(),
            in_flight: Vec::new(),
            sequences: Sequences::default(),
            muted: false,
            node: None,
            leader_epoch: -1,
            ready_at: None,
            last_size: 0,
            last_count: 0,
        });
        next
    }

    /// The slot of a partition that was produced to.
    pub fn find(&self, topic: TopicIndex, partition: i32) -> Option<SlotIndex> {
        self.topics.get(topic.0 as usize)?.slots.get(usize::try_from(partition).ok()?).copied().flatten()
    }

    // --- where and when

    /// Puts a slot where its leader and its queue say.
    fn place(&mut self, at: SlotIndex, metadata: &Metadata) {
        let slot = &mut self.slots[at.0 as usize];
        let known = metadata.partition(slot.topic, slot.partition.partition);
        let leader = known.and_then(|partition| partition.leader).filter(|_| !slot.queue.is_empty());
        slot.leader_epoch = known.map_or(-1, |partition| partition.leader_epoch);
        let before = core::mem::replace(&mut slot.node, leader);
        let queued = !slot.queue.is_empty();
        if before != leader {
            if let Some(node) = before.and_then(|node| self.nodes.get_mut(&node)) {
                node.slots.remove(&at);
            }
            if let Some(node) = leader {
                self.nodes.entry(node).or_default().slots.insert(at);
            }
        }
        if queued && leader.is_none() {
            self.leaderless.insert(at);
        } else {
            self.leaderless.remove(&at);
        }
        self.reschedule(at);
    }

    /// Takes leaders over that changed.
    pub fn sync_leaders(&mut self, metadata: &Metadata) {
        if self.metadata_version == metadata.version() {
            return;
        }
        self.metadata_version = metadata.version();
        let mut queued: Vec<SlotIndex> = self.leaderless.iter().copied().collect();
        queued.extend(self.nodes.values().flat_map(|node| node.slots.iter().copied()));
        for at in queued {
            self.place(at, metadata);
        }
    }

    /// When the slot makes its broker due; `Instant(0)` for now.
    fn readiness(&self, at: SlotIndex) -> Option<Instant> {
        let slot = self.slot(at);
        let first = slot.queue.front().filter(|_| !slot.muted && slot.node.is_some())?;
        if self.is_held_back(at, first) {
            return None;
        }
        let full = slot.queue.len() > 1 || first.is_full(self.codec, self.ratio(slot.topic));
        let sendable = if full || self.hurry { Instant(0) } else { first.last_attempt + self.linger };
        Some(sendable.max(slot.backs_off_until(first)))
    }

    /// Whether a slot's first batch must not be sent yet, for the sake of the sequence numbers or of the transaction.
    fn is_held_back(&self, at: SlotIndex, first: &ProducerBatch) -> bool {
        if !self.idempotent {
            return false;
        }
        if self.joined.as_ref().is_some_and(|joined| !joined.contains(&at)) {
            return true;
        }
        let slot = self.slot(at);
        let Some(identity) = self.identity else { return true };
        let sequences = &slot.sequences;
        if first.has_sequence() {
            // It comes back, and goes when nothing before it is in flight.
            let age = sequences.age(first);
            return slot.in_flight.iter().any(|batch| sequences.age(batch) > age);
        }
        let Some(oldest) = slot.in_flight.iter().max_by_key(|batch| sequences.age(batch)) else {
            return sequences.unresolved;
        };
        // Under a new epoch it would begin at 0, and overtake what is in flight under the old one.
        let epoch_ends = sequences.identity != Some(identity);
        let too_far = sequences.batches_since(oldest) >= REMEMBERED;
        epoch_ends || too_far || sequences.none_acked() || sequences.unresolved
    }

    fn reschedule(&mut self, at: SlotIndex) {
        let ready_at = self.readiness(at);
        let slot = &mut self.slots[at.0 as usize];
        if slot.ready_at == ready_at {
            return;
        }
        if let Some(before) = slot.ready_at.take() {
            self.ready_at.remove(&(before, at));
        }
        if let Some(ready_at) = ready_at {
            slot.ready_at = Some(ready_at);
            self.ready_at.insert((ready_at, at));
        }
    }

    fn reschedule_all(&mut self) {
        let queued: Vec<SlotIndex> =
            self.nodes.values().flat_map(|node| node.slots.iter().copied()).collect();
        for at in queued {
            self.reschedule(at);
        }
    }

    /// From now on, or until it is told otherwise, nothing lingers.
    pub fn set_hurry(&mut self, hurry: bool) {
        if self.hurry != hurry {
            self.hurry = hurry;
            self.reschedule_all();
        }
    }

    /// The brokers for which something is due.
    pub fn due_nodes(&mut self, now: Instant) -> Vec<i32> {
        while let Some(&(ready_at, at)) = self.ready_at.first() {
            if ready_at > now {
                break;
            }
            self.ready_at.remove(&(ready_at, at));
            let slot = &mut self.slots[at.0 as usize];
            slot.ready_at = None;
            let node = slot.node.expect("only what has a leader is ready");
            self.due_nodes.insert(node);
            self.nodes.entry(node).or_default().due_since.get_or_insert(now);
        }
        // What was due for a broker may have gone to another since.
        let nodes = &self.nodes;
        self.due_nodes.retain(|node| nodes.get(node).is_some_and(|queue| !queue.slots.is_empty()));
        self.due_nodes.iter().copied().collect()
    }

    /// When something will be due, or expires.
    pub fn deadline(&self) -> Option<Instant> {
        let ready = self.ready_at.first().map(|&(at, _)| at);
        let expires = self.expiry.front().map(|&(created, _, _)| created + self.delivery_timeout);
        crate::net::sooner(ready, expires)
    }

    // --- draining

    /// Takes the first batch of each partition that the broker leads, lingering or not, up to one request. They are
    /// in flight from now on.
    pub fn drain(
        &mut self,
        now: Instant,
        node: i32,
        codecs: &dyn Codecs,
    ) -> Result<Vec<Drained>, BatchError> {
        self.due_nodes.remove(&node);
        let Some(queue) = self.nodes.get_mut(&node) else { return Ok(Vec::new()) };
        queue.due_since = None;
        let from = queue.from.unwrap_or(SlotIndex(0));
        let mut order: Vec<SlotIndex> = queue.slots.range(from..).copied().collect();
        order.extend(queue.slots.range(..from).copied());
        let mut drained = Vec::new();
        let mut size = 0;
        for &at in &order {
            let ratio = self.ratio(self.slot(at).topic);
            let slot = self.slot(at);
            let Some(first) = slot.queue.front().filter(|_| !slot.muted) else { continue };
            if slot.backs_off_until(first) > now || self.is_held_back(at, first) {
                continue;
            }
            if size + first.size(self.codec, ratio) > self.max_request_size && !drained.is_empty() {
                self.nodes.get_mut(&node).expect("just seen").from = Some(at);
                break;
            }
            let slot = &mut self.slots[at.0 as usize];
            let mut batch = slot.queue.pop_front().expect("just seen");
            let newly = batch.attempts == 0;
            let anew = self.mutants.has(Mutant::NewSequenceOnRetry);
            if let Some(identity) = self.identity.filter(|_| !batch.has_sequence() || anew) {
                slot.number(&mut batch, identity);
            }
            let records = batch.close(self.codec, codecs)?;
            size += records.len();
            batch.last_attempt = now;
            batch.leader_epoch = slot.leader_epoch;
            (slot.last_size, slot.last_count) = (records.len(), batch.count());
            slot.muted = self.keeps_order;
            let (plain, compressed) = batch.plain_and_compressed();
            drained.push(Drained { slot: at, id: batch.id, records });
            let topic = slot.topic;
            slot.in_flight.push(batch);
            if newly && self.codec.compression != wire::Compression::None {
                let ratio = self.topic(topic).ratio.get_or_insert(Ratio::START);
                ratio.observe(compressed, plain);
            }
        }
        for at in order {
            self.settle(at);
        }
        Ok(drained)
    }

    /// After a slot's queue got shorter.
    fn settle(&mut self, at: SlotIndex) {
        let slot = &mut self.slots[at.0 as usize];
        if slot.queue.is_empty() {
            if let Some(node) = slot.node.take() {
                self.nodes.get_mut(&node).expect("a slot's node has a queue").slots.remove(&at);
            }
            self.leaderless.remove(&at);
        }
        self.reschedule(at);
    }

    // --- outcomes

    /// A batch that is in flight.
    pub fn in_flight(&self, at: SlotIndex, id: u64) -> Option<&ProducerBatch> {
        self.slot(at).in_flight.iter().find(|batch| batch.id == id)
    }

    /// Takes a batch out of flight, with its answer or without. `None`: it expired before.
    pub fn land(&mut self, at: SlotIndex, id: u64) -> Option<ProducerBatch> {
        let slot = &mut self.slots[at.0 as usize];
        slot.muted = false;
        let found = slot.in_flight.iter().position(|batch| batch.id == id);
        let batch = found.map(|found| slot.in_flight.remove(found));
        self.reschedule(at);
        batch
    }

    /// Puts a batch that landed into its queue again: first, or behind what was sent before it.
    pub fn requeue(
        &mut self,
        now: Instant,
        at: SlotIndex,
        mut batch: ProducerBatch,
        metadata: &Metadata,
        rng: &mut Rng,
    ) {
        batch.retry_at = now + self.retry_backoff.after(batch.attempts, rng);
        batch.attempts = batch.attempts.saturating_add(1);
        batch.last_attempt = now;
        self.slots[at.0 as usize].put_back(batch);
        self.place(at, metadata);
    }

    /// Puts a batch that landed and was too large for the broker back in smaller ones.
    pub fn split(
        &mut self,
        at: SlotIndex,
        batch: ProducerBatch,
        metadata: &Metadata,
        codecs: &dyn Codecs,
    ) -> Result<(), BatchError> {
        let (plain, compressed) = batch.plain_and_compressed();
        let topic = self.slot(at).topic;
        self.topic(topic).ratio.get_or_insert(Ratio::START).reset(Ratio::of(compressed, plain));
        let parts = batch.split(&mut self.next_id, self.batch_size, self.codec, codecs)?;
        self.incomplete += parts.len();
        for part in parts.into_iter().rev() {
            self.memory_used += part.memory as u64;
            // Created with the batch that they come from, they expire with it: before what was created later.
            let position = self.expiry.partition_point(|&(created, _, _)| created <= part.created);
            self.expiry.insert(position, (part.created, at, part.id));
            self.slots[at.0 as usize].put_back(part);
        }
        self.forget(&batch);
        self.place(at, metadata);
        Ok(())
    }

    /// A batch that landed or expired has its outcome: its memory is free again.
    pub fn forget(&mut self, batch: &ProducerBatch) {
        self.memory_used -= batch.memory as u64;
        self.incomplete -= 1;
        while let Some(&(_, at, id)) = self.expiry.front() {
            if self.is_incomplete(at, id) {
                break;
            }
            self.expiry.pop_front();
        }
    }

    fn is_incomplete(&self, at: SlotIndex, id: u64) -> bool {
        let slot = self.slot(at);
        slot.queue.iter().chain(&slot.in_flight).any(|batch| batch.id == id)
    }

    /// Takes a batch whose delivery time-out has passed, waiting or in flight.
    pub fn expire(&mut self, now: Instant) -> Option<(SlotIndex, ProducerBatch)> {
        loop {
            let &(created, at, id) = self.expiry.front()?;
            if created + self.delivery_timeout > now {
                return None;
            }
            self.expiry.pop_front();
            let slot = &mut self.slots[at.0 as usize];
            if let Some(found) = slot.queue.iter().position(|batch| batch.id == id) {
                let batch = slot.queue.remove(found).expect("just found");
                self.settle(at);
                return Some((at, batch));
            }
            if let Some(found) = slot.in_flight.iter().position(|batch| batch.id == id) {
                let mut batch = slot.in_flight.remove(found);
                // Its answer may still come, or never.
                batch.maybe_appended = true;
                self.reschedule(at);
                return Some((at, batch));
            }
        }
    }

    /// Whether the delivery time-out of a batch has passed.
    pub fn is_expired(&self, now: Instant, batch: &ProducerBatch) -> bool {
        batch.created + self.delivery_timeout <= now
    }

    // --- sequence numbers

    /// The id and epoch under which batches are numbered from now on; none: nothing is sent.
    pub fn set_identity(&mut self, identity: Option<Identity>) {
        if self.identity != identity {
            self.identity = identity;
            self.reschedule_all();
        }
    }

    /// The partitions that have joined the transaction, if they have to: nothing is sent to others.
    pub fn set_joined(&mut self, joined: Option<BTreeSet<SlotIndex>>) {
        if self.joined != joined {
            self.joined = joined;
            self.reschedule_all();
        }
    }

    /// More partitions have joined.
    pub fn join(&mut self, slots: &[SlotIndex]) {
        if let Some(joined) = &mut self.joined {
            joined.extend(slots);
        }
        for &at in slots {
            self.reschedule(at);
        }
    }

    /// Whether records for a partition have to wait until it has joined.
    pub fn must_join(&self, at: SlotIndex) -> bool {
        self.joined.as_ref().is_some_and(|joined| !joined.contains(&at))
    }

    /// Whether no batch of a partition was numbered before this one, which landed, and has no outcome yet.
    pub fn is_oldest(&self, at: SlotIndex, batch: &ProducerBatch) -> bool {
        let Slot { in_flight, queue, sequences, .. } = self.slot(at);
        let age = sequences.age(batch);
        let numbered = queue.iter().take_while(|other| other.has_sequence());
        !in_flight.iter().chain(numbered).any(|other| sequences.age(other) > age)
    }

    /// A batch that landed is in the log.
    pub fn acked(&mut self, at: SlotIndex, batch: &ProducerBatch) {
        if batch.has_sequence() {
            self.slots[at.0 as usize].sequences.acked(batch);
        }
    }

    /// A batch that was sent is given up: nothing new is sent to its partition before it is clear which sequence number
    /// the leader wants next.
    pub fn given_up(&mut self, at: SlotIndex, batch: &ProducerBatch) {
        if batch.has_sequence() {
            self.slots[at.0 as usize].sequences.unresolved = true;
            self.unresolved.insert(at);
            self.reschedule(at);
        }
    }

    /// Takes a partition of which a batch was given up and nothing is in flight any more, with whether there is a gap
    /// in its sequence numbers.
    pub fn next_resolved(&mut self) -> Option<(SlotIndex, bool)> {
        let at = *self.unresolved.iter().find(|&&at| !self.slot(at).has_numbered())?;
        self.unresolved.remove(&at);
        let sequences = &mut self.slots[at.0 as usize].sequences;
        sequences.unresolved = false;
        let gap = !sequences.all_acked();
        self.reschedule(at);
        Some((at, gap))
    }

    /// Whether [`Accumulator::next_resolved`] has something.
    pub fn has_resolved(&self) -> bool {
        self.unresolved.iter().any(|&at| !self.slot(at).has_numbered())
    }

    /// Numbers what is in flight and what came back anew, from 0.
    pub fn renumber(&mut self, at: SlotIndex, identity: Identity) {
        let slot = &mut self.slots[at.0 as usize];
        let Slot { in_flight, queue, sequences, .. } = slot;
        let numbered = queue.iter_mut().filter(|batch| batch.has_sequence());
        let mut batches: Vec<&mut ProducerBatch> = in_flight.iter_mut().chain(numbered).collect();
        batches.sort_by_key(|batch| core::cmp::Reverse(sequences.age(batch)));
        sequences.begin(identity);
        for batch in batches {
            sequences.number(batch);
        }
        self.unresolved.remove(&at);
        self.reschedule(at);
    }

    /// Takes any batch that has no outcome yet, those of one partition in their order.
    pub fn take_any(&mut self) -> Option<(SlotIndex, ProducerBatch)> {
        let at = self.slots.iter().position(|slot| !(slot.queue.is_empty() && slot.in_flight.is_empty()))?;
        let slot = &mut self.slots[at];
        let at = SlotIndex(at as u32);
        if slot.in_flight.is_empty() {
            let batch = slot.queue.pop_front().expect("just seen");
            self.settle(at);
            return Some((at, batch));
        }
        let mut batch = slot.in_flight.remove(0);
        batch.maybe_appended = true;
        self.reschedule(at);
        Some((at, batch))
    }

    /// Takes a batch that was never sent.
    pub fn take_unsent(&mut self) -> Option<(SlotIndex, ProducerBatch)> {
        let unsent = |slot: &Slot| slot.queue.iter().position(|batch| !batch.has_sequence());
        let (at, found) = self.slots.iter().enumerate().find_map(|(at, slot)| Some((at, unsent(slot)?)))?;
        let batch = self.slots[at].queue.remove(found).expect("just found");
        let at = SlotIndex(at as u32);
        self.settle(at);
        Some((at, batch))
    }

    /// What must hold between inputs.
    pub fn check_invariants(&self) {
        assert!(self.memory_used <= self.buffer_memory || self.incomplete > 0);
        assert!(self.incomplete > 0 || self.memory_used == 0, "memory is freed with the last batch");
        for &(ready_at, at) in &self.ready_at {
            assert_eq!(self.slot(at).ready_at, Some(ready_at));
        }
    }
}

impl Slot {
    /// Numbers a batch that is sent for the first time.
    fn number(&mut self, batch: &mut ProducerBatch, identity: Identity) {
        if self.sequences.identity != Some(identity) {
            assert!(self.in_flight.is_empty(), "a new epoch begins when nothing of the old one is in flight");
            self.sequences.begin(identity);
        }
        self.sequences.number(batch);
    }

    /// Whether some batch that was sent has no outcome yet.
    fn has_numbered(&self) -> bool {
        !self.in_flight.is_empty() || self.queue.front().is_some_and(ProducerBatch::has_sequence)
    }

    /// Puts a batch before those that were never sent, and behind those that were sent before it.
    fn put_back(&mut self, batch: ProducerBatch) {
        let sequences = &self.sequences;
        let earlier = |other: &&ProducerBatch| {
            batch.has_sequence() && other.has_sequence() && sequences.age(other) > sequences.age(&batch)
        };
        let position = self.queue.iter().take_while(earlier).count();
        self.queue.insert(position, batch);
    }

    /// A batch that is tried again waits for its backoff, unless the leader has changed meanwhile (KIP-951).
    fn backs_off_until(&self, first: &ProducerBatch) -> Instant {
        if first.attempts > 0 && self.leader_epoch <= first.leader_epoch {
            first.retry_at
        } else {
            Instant(0)
        }
    }
}

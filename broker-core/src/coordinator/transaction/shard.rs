//! One partition of `__transaction_state` that this broker leads: its transactional ids and what is under way for them.
//!
//! A change is appended first and takes effect when it is committed; whoever asked for it is answered then. A decision
//! to commit or abort is answered as soon as it is committed, and its markers follow. What was decided but not complete
//! when the partition was loaded is completed by this coordinator. Follows Kafka's `TransactionCoordinator` and
//! `TransactionStateManager`.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use wire::batch::{BatchBuilder, BatchOptions, Batches};
use wire::drive::{Instant, Nanos};
use wire::records::{TransactionLogKey, TransactionLogValue};
use wire::{ErrorCode, Rope};

use super::Added;
use super::TransactionCall;
use super::decide::{EndRequest, Entry, Init};
use super::markers::{Markers, Written};
use super::state::{Claim, Partition, Transaction, TransactionState};
use crate::coordinator::TRANSACTION_TOPIC;
use crate::ctx::Ctx;
use crate::event::{Event, TopicPartition};
use crate::log::Verification;
use crate::metadata::MetadataImage;
use crate::mutant::Mutant;
use crate::net::{CallOutcome, RequestToken};
use crate::producer_ids::ProducerIds;
use crate::replica::{ReplicaManager, StatePartition};

/// A batch of the log is never decompressed to more than this.
const DECOMPRESSED_LIMIT: usize = 100 << 20;
/// How long to wait before what completes a transaction is written again.
const RETRY_BACKOFF: Nanos = Nanos::from_millis(100);

/// What a shard may use.
pub(super) struct Cx<'c, 'a> {
    pub ctx: &'c mut Ctx<'a>,
    pub image: &'c MetadataImage,
    pub replicas: &'c mut ReplicaManager,
    /// Results for requests that concern several shards.
    pub added: &'c mut Vec<Added>,
}

impl Cx<'_, '_> {
    /// The version of transactions that the cluster follows.
    fn server_version(&self) -> i16 {
        self.image.features.level("transaction.version")
    }
}

/// Where producer ids come from.
pub(super) struct Ids<'i> {
    pub ids: &'i mut ProducerIds,
    pub broker_epoch: i64,
}

/// Who hears of partitions that were added.
#[derive(Clone, Copy, Debug)]
pub(super) enum AddAnswer {
    /// AddOffsetsToTxn.
    Offsets(RequestToken),
    /// A transaction of AddPartitionsToTxn: which request, which of its transactions.
    Partitions { request: u64, at: usize },
}

/// Who hears of a decision.
#[derive(Clone, Copy, Debug)]
enum EndAnswer {
    Producer(RequestToken),
    /// InitProducerId, whose producer comes again.
    Init(RequestToken),
    /// The transaction's time was over.
    Nobody,
}

/// What follows from a write.
#[derive(Clone, Debug)]
enum Later {
    Init { token: RequestToken, id: Arc<str>, next: Transaction },
    Add { answer: AddAnswer, id: Arc<str>, next: Transaction },
    End { answer: EndAnswer, id: Arc<str>, next: Transaction },
    Complete { id: Arc<str>, next: Transaction },
    Expire { ids: Vec<Arc<str>> },
}

#[derive(Clone, Debug)]
struct Write {
    required_offset: i64,
    deadline: Instant,
    later: Later,
}

/// The ids of one partition.
#[derive(Clone, Debug)]
pub struct TransactionShard {
    pub(super) partition: i32,
    /// The leader epoch: markers of coordinators before this one are refused.
    pub(super) epoch: i32,
    pub(super) entries: BTreeMap<Arc<str>, Entry>,
    writes: VecDeque<Write>,
    markers: Markers,
    /// Complete transactions that could not be written, and when to try again.
    incomplete: Vec<(Arc<str>, Transaction)>,
    retry_at: Option<Instant>,
    abort_check: Instant,
    expiry_check: Instant,
    /// How many transactions are open.
    open: usize,
}

impl TransactionShard {
    /// Reads the partition. What was decided is completed.
    pub(super) fn load(
        cx: &mut Cx<'_, '_>,
        partition: i32,
        epoch: i32,
    ) -> Result<TransactionShard, ErrorCode> {
        let now = cx.ctx.now.mono;
        let mut shard = TransactionShard {
            partition,
            epoch,
            entries: BTreeMap::new(),
            writes: VecDeque::new(),
            markers: Markers::default(),
            incomplete: Vec::new(),
            retry_at: None,
            abort_check: now + cx.ctx.config.transactions.abort_interval,
            expiry_check: now + cx.ctx.config.transactions.expiry_interval,
            open: 0,
        };
        shard.read(cx)?;
        let open = |entry: &&Entry| entry.now.state == TransactionState::Ongoing;
        shard.open = shard.entries.values().filter(open).count();
        let name = TopicPartition { topic: Arc::from(TRANSACTION_TOPIC), partition };
        cx.ctx.event(|| Event::CoordinatorLoaded { partition: name, epoch });
        let decided = shard.entries.iter().filter(|(_, entry)| entry.now.state.is_prepared());
        let decided: Vec<Arc<str>> = decided.map(|(id, _)| id.clone()).collect();
        for id in decided {
            shard.finish(cx, &id);
            shard.complete_if_written(cx, &id);
        }
        shard.markers.send(cx.ctx, partition, epoch);
        Ok(shard)
    }

    fn log(&self) -> StatePartition<'static> {
        StatePartition { topic: TRANSACTION_TOPIC, partition: self.partition }
    }

    fn read(&mut self, cx: &mut Cx<'_, '_>) -> Result<(), ErrorCode> {
        let mut offset = None;
        loop {
            let records = cx.replicas.read_state(cx.ctx, self.log(), offset)?;
            let mut end = offset;
            for batch in Batches::new(&records).map_while(Result::ok) {
                end = Some(batch.header.next_offset());
                if batch.header.is_control() {
                    continue;
                }
                let Ok(records) = batch.records(cx.ctx.codecs, DECOMPRESSED_LIMIT) else { continue };
                for record in records.iter().map_while(Result::ok) {
                    self.replay(record.key, record.value);
                }
            }
            if end == offset {
                return Ok(());
            }
            offset = end;
        }
    }

    /// Takes in a record that was loaded; what is not understood is skipped.
    fn replay(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let Some(Ok(key)) = key.map(TransactionLogKey::decode_key) else { return };
        match value.map(TransactionLogValue::decode_value) {
            None => {
                self.entries.remove(&*key.transactional_id);
            }
            Some(Ok(value)) => {
                if let Some(transaction) = Transaction::from_value(&value) {
                    self.entries.insert(Arc::from(key.transactional_id), Entry::new(transaction, false));
                }
            }
            Some(Err(_)) => {}
        }
    }

    // --- requests

    pub(super) fn init(
        &mut self,
        cx: &mut Cx<'_, '_>,
        ids: &mut Ids<'_>,
        token: RequestToken,
        id: &str,
        timeout_ms: i32,
        claim: Option<Claim>,
    ) {
        let now_ms = cx.ctx.now.wall_ms;
        let id: Arc<str> = match self.entries.get_key_value(id) {
            Some((known, _)) => known.clone(),
            None => {
                let producer_id = match ids.ids.generate(cx.ctx, ids.broker_epoch) {
                    Ok(producer_id) => producer_id,
                    Err(error) => return super::answer_init(cx.ctx, token, Err(error)),
                };
                let id: Arc<str> = Arc::from(id);
                let transaction = Transaction::new(producer_id, timeout_ms, now_ms);
                self.entries.insert(id.clone(), Entry::new(transaction, true));
                id
            }
        };
        let entry = &self.entries[&id];
        let ctx = &mut *cx.ctx;
        let mut next_id = || ids.ids.generate(ctx, ids.broker_epoch);
        match entry.init(timeout_ms, claim, now_ms, &mut next_id) {
            Err(error) => super::answer_init(cx.ctx, token, Err(error)),
            Ok(Init::Become(next)) => {
                self.change(cx, &id.clone(), &next.clone(), Later::Init { token, id, next });
            }
            Ok(Init::Abort) => self.abort(cx, &id, EndAnswer::Init(token)),
        }
    }

    pub(super) fn add_partitions(
        &mut self,
        cx: &mut Cx<'_, '_>,
        id: &str,
        claim: Claim,
        partitions: &[Partition],
        client_version: i16,
        answer: AddAnswer,
    ) {
        let now_ms = cx.ctx.now.wall_ms;
        let Some((id, entry)) = self.entries.get_key_value(id) else {
            return answer_added(cx, answer, ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        };
        let claim = entry.believed(claim, cx.ctx.config.mutants);
        match entry.add_partitions(claim, partitions, client_version, now_ms) {
            Err(error) => answer_added(cx, answer, error),
            Ok(None) => answer_added(cx, answer, ErrorCode::NONE),
            Ok(Some(next)) => {
                let id = id.clone();
                self.change(cx, &id.clone(), &next.clone(), Later::Add { answer, id, next });
            }
        }
    }

    pub(super) fn verify(&self, id: &str, claim: Claim, partition: &Partition) -> Result<(), ErrorCode> {
        let entry = self.entries.get(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        entry.verify(claim, partition)
    }

    pub(super) fn end(
        &mut self,
        cx: &mut Cx<'_, '_>,
        ids: &mut Ids<'_>,
        token: RequestToken,
        id: &str,
        request: EndRequest,
    ) {
        use super::decide::End;
        let now_ms = cx.ctx.now.wall_ms;
        let Some((id, entry)) = self.entries.get_key_value(id) else {
            return super::answer_end(cx.ctx, token, Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING));
        };
        let ctx = &mut *cx.ctx;
        let request = entry.believed_end(request, ctx.config.mutants);
        let mut next_id = || ids.ids.generate(ctx, ids.broker_epoch);
        match entry.end(request, now_ms, &mut next_id) {
            Err(error) => super::answer_end(cx.ctx, token, Err(error)),
            Ok(End::Again(claim)) => super::answer_end(cx.ctx, token, Ok(claim)),
            Ok(End::Decide(next)) => {
                let id = id.clone();
                let answer = EndAnswer::Producer(token);
                self.change(cx, &id.clone(), &next.clone(), Later::End { answer, id, next });
            }
        }
    }

    /// Aborts the open transaction of an id against its producer.
    fn abort(&mut self, cx: &mut Cx<'_, '_>, id: &Arc<str>, answer: EndAnswer) {
        let version = cx.server_version();
        let entry = self.entries.get_mut(id).expect("it is there");
        let next = entry.abort(version, cx.ctx.now.wall_ms);
        self.change(cx, id, &next.clone(), Later::End { answer, id: id.clone(), next });
    }

    // --- writing

    /// Writes a change of an id; until it is committed nothing else of it may change.
    fn change(&mut self, cx: &mut Cx<'_, '_>, id: &Arc<str>, next: &Transaction, later: Later) {
        let entry = self.entries.get_mut(id).expect("only what is there changes");
        entry.pending = Some(next.state);
        let timeout = Nanos::from_millis(next.timeout_ms.max(0) as u64);
        let mut value = next.to_value();
        // Records of version 0 have no place for what came with version 1.
        let version = i16::from(cx.server_version() >= 1);
        if version == 0 {
            (value.previous_producer_id, value.next_producer_id) = (-1, -1);
            value.client_transaction_version = 0;
        }
        let value = value.encode_value(version).expect("a transaction fits into its record");
        self.write(cx, &[(id, Some(&value))], timeout, later);
    }

    fn write(
        &mut self,
        cx: &mut Cx<'_, '_>,
        records: &[(&Arc<str>, Option<&[u8]>)],
        timeout: Nanos,
        later: Later,
    ) {
        let mut builder = BatchBuilder::with_capacity(256);
        for (id, value) in records {
            let key = TransactionLogKey { transactional_id: id.to_string() };
            let key = key.encode_key().expect("an id came in a request");
            builder.append(cx.ctx.now.wall_ms, Some(&key), *value, &[]);
        }
        let batch: Bytes =
            builder.finish(cx.ctx.codecs, &BatchOptions::default()).expect("records without compression");
        let Cx { ctx, image, replicas, .. } = cx;
        let (batch, off) = (Rope::from(batch), Verification::Off);
        let appended = replicas.append_state(ctx, image, self.log(), self.epoch, &batch, off);
        match appended {
            Ok(required_offset) => {
                let deadline = cx.ctx.now.mono + timeout;
                self.writes.push_back(Write { required_offset, deadline, later });
            }
            Err(error) => self.written(cx, later, Err(for_client(error))),
        }
    }

    /// Whether anything waits for a commit.
    pub(super) fn waits(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Carries on what was committed since the last look.
    pub(super) fn advance(&mut self, cx: &mut Cx<'_, '_>) -> bool {
        let mut moved = false;
        while let Some(first) = self.writes.front() {
            let required = first.required_offset;
            let Some(result) = cx.replicas.state_committed(self.log(), self.epoch, required) else { break };
            let write = self.writes.pop_front().expect("it is there");
            self.written(cx, write.later, result.map_err(for_client));
            moved = true;
        }
        self.markers.send(cx.ctx, self.partition, self.epoch);
        moved
    }

    /// A change is committed, or is not and counts for nothing.
    fn written(&mut self, cx: &mut Cx<'_, '_>, later: Later, result: Result<(), ErrorCode>) {
        match later {
            Later::Init { token, id, next } => {
                let claim = Claim { producer_id: next.producer_id, epoch: next.producer_epoch };
                let result = self.changed(cx, &id, next, result);
                super::answer_init(cx.ctx, token, result.map(|()| claim));
            }
            Later::Add { answer, id, next } => {
                let result = self.changed(cx, &id, next, result);
                answer_added(cx, answer, result.err().unwrap_or(ErrorCode::NONE));
            }
            Later::End { answer, id, next } => {
                let result = self.changed(cx, &id, next, result);
                if result.is_err() && !matches!(answer, EndAnswer::Producer(_)) {
                    self.entries.get_mut(&id).expect("it is there").failed_fence = true;
                }
                let claim = result.map(|()| self.finish(cx, &id));
                match answer {
                    EndAnswer::Producer(token) => super::answer_end(cx.ctx, token, claim),
                    EndAnswer::Init(token) => {
                        let error = claim.err().unwrap_or(ErrorCode::CONCURRENT_TRANSACTIONS);
                        super::answer_init(cx.ctx, token, Err(error));
                    }
                    EndAnswer::Nobody => {}
                }
                self.complete_if_written(cx, &id);
            }
            Later::Complete { id, next } => match result {
                Err(ErrorCode::COORDINATOR_NOT_AVAILABLE) => {
                    self.incomplete.push((id, next));
                    self.retry_at = Some(cx.ctx.now.mono + RETRY_BACKOFF);
                }
                result => {
                    let _ = self.changed(cx, &id, next, result);
                }
            },
            Later::Expire { ids } => {
                for id in ids {
                    match result {
                        Ok(()) => {
                            self.entries.remove(&id);
                        }
                        Err(_) => self.entries.get_mut(&id).expect("it is there").pending = None,
                    }
                }
            }
        }
    }

    fn changed(
        &mut self,
        cx: &mut Cx<'_, '_>,
        id: &Arc<str>,
        next: Transaction,
        result: Result<(), ErrorCode>,
    ) -> Result<(), ErrorCode> {
        let entry = self.entries.get_mut(id).expect("what is being changed stays");
        entry.pending = None;
        result?;
        let from = (!entry.is_new).then(|| entry.now.state.name());
        cx.ctx.event(|| Event::TransactionStateChanged {
            transactional_id: id.clone(),
            producer_id: next.producer_id,
            producer_epoch: next.producer_epoch,
            from,
            to: next.state.name(),
        });
        let open = |transaction: &Transaction| usize::from(transaction.state == TransactionState::Ongoing);
        self.open = self.open + open(&next) - open(&entry.now);
        entry.now = next;
        entry.is_new = false;
        Ok(())
    }

    // --- completing

    /// Begins to write the markers of a decision that is committed. What its producer goes on with.
    fn finish(&mut self, cx: &mut Cx<'_, '_>, id: &Arc<str>) -> Claim {
        let entry = self.entries.get_mut(id).expect("it is there");
        entry.failed_fence = false;
        let complete = entry.now.completed(cx.ctx.now.wall_ms);
        entry.pending = Some(complete.state);
        if cx.ctx.config.mutants.has(Mutant::MarkerLeftOut) && entry.now.partitions.len() > 1 {
            entry.now.partitions.pop_last();
        }
        let decided = entry.now.clone();
        let gone = self.markers.add(cx.image, id, &decided, cx.ctx.now.mono);
        for written in gone {
            self.entries.get_mut(id).expect("it is there").now.partitions.remove(&written.partition);
        }
        Claim { producer_id: complete.producer_id, epoch: complete.producer_epoch }
    }

    /// Writes that a transaction is complete, if no marker of it is missing.
    fn complete_if_written(&mut self, cx: &mut Cx<'_, '_>, id: &Arc<str>) {
        let Some(entry) = self.entries.get(id) else { return };
        let completing =
            matches!(entry.pending, Some(TransactionState::CompleteCommit | TransactionState::CompleteAbort));
        if !completing || !entry.now.state.is_prepared() || !entry.now.partitions.is_empty() {
            return;
        }
        if self.writes.iter().any(|w| matches!(&w.later, Later::Complete { id: other, .. } if other == id)) {
            return;
        }
        let next = entry.now.completed(cx.ctx.now.wall_ms);
        self.change(cx, id, &next.clone(), Later::Complete { id: id.clone(), next });
    }

    fn markers_written(&mut self, cx: &mut Cx<'_, '_>, written: Vec<Written>) {
        for Written { id, partition, error } in written {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            if error.is_error() {
                // A later epoch has taken over: whoever did that completes the transaction.
                self.markers.forget(&id);
                continue;
            }
            if entry.now.state.is_prepared() {
                entry.now.partitions.remove(&partition);
            }
            self.complete_if_written(cx, &id);
        }
    }

    /// A leader answered to markers, or did not.
    pub(super) fn handle_outcome(
        &mut self,
        cx: &mut Cx<'_, '_>,
        call: TransactionCall,
        outcome: CallOutcome,
    ) {
        let written = self.markers.answered(call.leader, outcome, cx.ctx.now.mono);
        self.markers_written(cx, written);
        self.markers.send(cx.ctx, self.partition, self.epoch);
    }

    // --- time

    pub(super) fn deadline(&self) -> Option<Instant> {
        let times = [
            self.writes.iter().map(|w| w.deadline).min(),
            self.markers.retry_at,
            self.retry_at,
            (self.open > 0).then_some(self.abort_check),
            (!self.entries.is_empty()).then_some(self.expiry_check),
        ];
        times.into_iter().flatten().min()
    }

    pub(super) fn on_timer(&mut self, cx: &mut Cx<'_, '_>) {
        let now = cx.ctx.now.mono;
        let (overdue, left) =
            core::mem::take(&mut self.writes).into_iter().partition(|write: &Write| write.deadline <= now);
        self.writes = left;
        let overdue: VecDeque<Write> = overdue;
        for write in overdue {
            self.written(cx, write.later, Err(for_client(ErrorCode::REQUEST_TIMED_OUT)));
        }
        let written = self.markers.on_timer(cx.image, now);
        self.markers_written(cx, written);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            for (id, next) in core::mem::take(&mut self.incomplete) {
                self.change(cx, &id.clone(), &next.clone(), Later::Complete { id, next });
            }
        }
        if catch_up(&mut self.abort_check, now, cx.ctx.config.transactions.abort_interval) {
            self.abort_timed_out(cx);
        }
        if catch_up(&mut self.expiry_check, now, cx.ctx.config.transactions.expiry_interval) {
            self.expire(cx);
        }
        self.markers.send(cx.ctx, self.partition, self.epoch);
    }

    fn abort_timed_out(&mut self, cx: &mut Cx<'_, '_>) {
        let now_ms = cx.ctx.now.wall_ms;
        let late = self.entries.iter().filter(|(_, entry)| entry.has_timed_out(now_ms));
        let late: Vec<Arc<str>> = late.map(|(id, _)| id.clone()).collect();
        for id in late {
            self.abort(cx, &id, EndAnswer::Nobody);
        }
    }

    fn expire(&mut self, cx: &mut Cx<'_, '_>) {
        let now_ms = cx.ctx.now.wall_ms;
        let expiration_ms = cx.ctx.config.transactions.id_expiration_ms;
        let expired = self.entries.iter().filter(|(_, entry)| entry.has_expired(now_ms, expiration_ms));
        let ids: Vec<Arc<str>> = expired.map(|(id, _)| id.clone()).collect();
        // As many at once as fit into a small batch.
        for ids in ids.chunks(64) {
            for id in ids {
                self.entries.get_mut(id).expect("it is there").pending = Some(TransactionState::Dead);
            }
            let records: Vec<(&Arc<str>, Option<&[u8]>)> = ids.iter().map(|id| (id, None)).collect();
            let timeout = cx.ctx.config.lifecycle.request_timeout;
            self.write(cx, &records, timeout, Later::Expire { ids: ids.to_vec() });
        }
    }

    /// Another broker coordinates these ids from now on: who waits must look for it.
    pub(super) fn unload(mut self, cx: &mut Cx<'_, '_>) {
        for write in core::mem::take(&mut self.writes) {
            let error = ErrorCode::NOT_COORDINATOR;
            match write.later {
                Later::Init { token, .. } => super::answer_init(cx.ctx, token, Err(error)),
                Later::Add { answer, .. } => answer_added(cx, answer, error),
                Later::End { answer: EndAnswer::Producer(token), .. } => {
                    super::answer_end(cx.ctx, token, Err(error));
                }
                Later::End { answer: EndAnswer::Init(token), .. } => {
                    super::answer_init(cx.ctx, token, Err(error));
                }
                Later::End { answer: EndAnswer::Nobody, .. }
                | Later::Complete { .. }
                | Later::Expire { .. } => {}
            }
        }
        let partition = TopicPartition { topic: Arc::from(TRANSACTION_TOPIC), partition: self.partition };
        cx.ctx.event(|| Event::CoordinatorUnloaded { partition });
    }

    /// Panics when something is left over that nobody would come back to.
    pub(super) fn check_invariants(&self) {
        for (id, entry) in &self.entries {
            if entry.now.state.is_prepared() {
                assert!(entry.pending.is_some(), "{id} was decided and is being completed");
            }
        }
    }
}

/// Moves a regular date on; whether it was due.
fn catch_up(date: &mut Instant, now: Instant, every: Nanos) -> bool {
    if *date > now {
        return false;
    }
    *date = now + every;
    true
}

fn answer_added(cx: &mut Cx<'_, '_>, answer: AddAnswer, error: ErrorCode) {
    match answer {
        AddAnswer::Offsets(token) => super::answer_offsets(cx.ctx, token, error),
        AddAnswer::Partitions { request, at } => cx.added.push(Added { request, at, error }),
    }
}

/// What a failed append is to a client of the coordinator.
fn for_client(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::REQUEST_TIMED_OUT => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => ErrorCode::NOT_COORDINATOR,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => ErrorCode::UNKNOWN_SERVER_ERROR,
        other => other,
    }
}

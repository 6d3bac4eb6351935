//! The transaction coordinator (KIP-98, KIP-890): who may use a transactional id, which partitions its transaction has,
//! and whether it is committed or aborted.
//!
//! [`TransactionCoordinator`] has a shard for each partition of `__transaction_state` that this broker leads. It promises
//! that a transaction which is decided is completed in every partition, by this broker or by the next leader; that no
//! transaction stays open for longer than its producer's `transaction.timeout.ms` and one look of the coordinator; and
//! that of two producers with one transactional id the earlier can do nothing more once the later has begun.
//!
//! `state` says how an id may change, `decide` what a request does to it, `shard` writes and answers, `markers` ends
//! transactions in their partitions, `describe` shows them.

mod decide;
mod describe;
mod markers;
mod shard;
mod state;
#[cfg(test)]
mod tests;

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::drive::Instant;
use wire::error::ErrorCode;
use wire::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use wire::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse,
};

use super::{GROUP_TOPIC, TRANSACTION_TOPIC, coordinator_partition};
use crate::ctx::Ctx;
use crate::metadata::MetadataImage;
use crate::net::{CallOutcome, RequestToken};
use crate::producer_ids::{self, ProducerIds};
use crate::replica::{ReplicaManager, StatePartition};
use decide::EndRequest;
use shard::{AddAnswer, Cx, Ids, TransactionShard};
use state::{Claim, EPOCH_BUMP_VERSION, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Partition};

pub use state::TransactionState;

const NO_CLAIM: Claim = Claim { producer_id: NO_PRODUCER_ID, epoch: NO_PRODUCER_EPOCH };

/// A WriteTxnMarkers request of a coordinator under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionCall {
    /// The coordinator's partition.
    partition: i32,
    /// Its epoch.
    coordinator_epoch: i32,
    /// To whom.
    leader: i32,
}

/// One transaction of an AddPartitionsToTxn request is done.
#[derive(Clone, Copy, Debug)]
struct Added {
    request: u64,
    at: usize,
    error: ErrorCode,
}

/// An AddPartitionsToTxn request, some of whose transactions are being written.
#[derive(Clone, Debug)]
struct AddRequest {
    token: RequestToken,
    /// By transactional id, what of it takes part, with its result.
    transactions: Vec<(String, Vec<(Partition, ErrorCode)>)>,
    left: usize,
}

/// The coordinator of the transactional ids whose partitions this broker leads.
#[derive(Clone, Debug, Default)]
pub struct TransactionCoordinator {
    shards: BTreeMap<i32, TransactionShard>,
    /// Led by this broker and not read yet.
    loading: BTreeSet<i32>,
    /// Shards with something that waits for its commit.
    waiting: BTreeSet<i32>,
    requests: BTreeMap<u64, AddRequest>,
    last_request: u64,
    due: Option<Instant>,
    stopped: bool,
}

impl TransactionCoordinator {
    // --- leadership

    /// The metadata moved on: partitions come and go. What comes is read by the next [`TransactionCoordinator::advance`].
    pub fn on_metadata(&mut self, ctx: &mut Ctx<'_>, replicas: &mut ReplicaManager, image: &MetadataImage) {
        let led: BTreeMap<i32, i32> = match image.topics.topic_named(TRANSACTION_TOPIC) {
            None => BTreeMap::new(),
            Some(topic) => (topic.partitions.iter())
                .filter(|(_, registration)| registration.leader == ctx.config.node_id)
                .map(|(partition, registration)| (*partition, registration.leader_epoch))
                .collect(),
        };
        let stale = |shard: &&TransactionShard| led.get(&shard.partition) != Some(&shard.epoch);
        let stale: Vec<i32> = self.shards.values().filter(stale).map(|shard| shard.partition).collect();
        for partition in stale {
            self.unload(ctx, replicas, image, partition);
        }
        self.loading = led.into_keys().filter(|partition| !self.shards.contains_key(partition)).collect();
    }

    fn unload(
        &mut self,
        ctx: &mut Ctx<'_>,
        replicas: &mut ReplicaManager,
        image: &MetadataImage,
        partition: i32,
    ) {
        let Some(shard) = self.shards.remove(&partition) else { return };
        self.waiting.remove(&partition);
        let mut added = Vec::new();
        shard.unload(&mut Cx { ctx, image, replicas, added: &mut added });
        self.settle(ctx, added);
    }

    /// Reads partitions that may be written now, and carries on what is committed. Whether anything happened.
    pub fn advance(
        &mut self,
        ctx: &mut Ctx<'_>,
        replicas: &mut ReplicaManager,
        image: &MetadataImage,
    ) -> bool {
        if self.loading.is_empty() && self.waiting.is_empty() || self.stopped {
            return false;
        }
        let mut added = Vec::new();
        let mut moved = false;
        for partition in self.loading.clone() {
            let of = StatePartition { topic: TRANSACTION_TOPIC, partition };
            let Some(epoch) = replicas.leads_state(of) else { continue };
            let mut cx = Cx { ctx, image, replicas, added: &mut added };
            self.loading.remove(&partition);
            if let Ok(shard) = TransactionShard::load(&mut cx, partition, epoch) {
                self.shards.insert(partition, shard);
                self.waiting.insert(partition);
                moved = true;
            }
        }
        for partition in self.waiting.clone() {
            let shard = self.shards.get_mut(&partition).expect("it waits");
            moved |= shard.advance(&mut Cx { ctx, image, replicas, added: &mut added });
            if !shard.waits() {
                self.waiting.remove(&partition);
            }
        }
        if moved {
            self.settle(ctx, added);
        }
        moved
    }

    /// Nothing is written any more.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// What every call ends with: answers that are whole leave, and the next date is found.
    fn settle(&mut self, ctx: &mut Ctx<'_>, added: Vec<Added>) {
        for Added { request, at, error } in added {
            let Some(open) = self.requests.get_mut(&request) else { continue };
            for (_, result) in &mut open.transactions[at].1 {
                *result = error;
            }
            open.left -= 1;
            if open.left == 0 {
                let open = self.requests.remove(&request).expect("it is there");
                answer_add(ctx, &open);
            }
        }
        for (partition, shard) in &self.shards {
            if shard.waits() {
                self.waiting.insert(*partition);
            }
        }
        self.due = self.shards.values().filter_map(TransactionShard::deadline).min();
    }

    /// The shard of a transactional id.
    fn shard_of(&mut self, image: &MetadataImage, id: &str) -> Result<&mut TransactionShard, ErrorCode> {
        let partition =
            coordinator_partition(image, TRANSACTION_TOPIC, id).ok_or(ErrorCode::NOT_COORDINATOR)?;
        if self.loading.contains(&partition) {
            return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        }
        self.shards.get_mut(&partition).ok_or(ErrorCode::NOT_COORDINATOR)
    }

    // --- requests

    /// InitProducerId (22), of producers with and without a transactional id.
    #[allow(clippy::too_many_arguments, reason = "what answers it is owned by the node")]
    pub fn handle_init_producer_id(
        &mut self,
        ctx: &mut Ctx<'_>,
        replicas: &mut ReplicaManager,
        image: &MetadataImage,
        ids: &mut ProducerIds,
        broker_epoch: i64,
        token: RequestToken,
        request: &InitProducerIdRequest<'_>,
    ) {
        if let Err(error) = producer_ids::check(ctx, request) {
            return answer_init(ctx, token, Err(error));
        }
        let Some(id) = request.transactional_id.as_deref() else {
            return ids.handle_init_producer_id(ctx, broker_epoch, token);
        };
        let claim = Claim { producer_id: request.producer_id, epoch: request.producer_epoch };
        let claim = Some(claim).filter(|claim| *claim != NO_CLAIM);
        let timeout_ms = request.transaction_timeout_ms;
        let mut added = Vec::new();
        match self.shard_of(image, id) {
            Err(error) => return answer_init(ctx, token, Err(error)),
            Ok(shard) => {
                let mut cx = Cx { ctx, image, replicas, added: &mut added };
                shard.init(&mut cx, &mut Ids { ids, broker_epoch }, token, id, timeout_ms, claim);
            }
        }
        self.settle(ctx, added);
    }

    /// EndTxn (26).
    #[allow(clippy::too_many_arguments, reason = "what answers it is owned by the node")]
    pub fn handle_end_txn(
        &mut self,
        ctx: &mut Ctx<'_>,
        replicas: &mut ReplicaManager,
        image: &MetadataImage,
        ids: &mut ProducerIds,
        broker_epoch: i64,
        token: RequestToken,
        request: &EndTxnRequest<'_>,
    ) {
        let id = &*request.transactional_id;
        if id.is_empty() {
            return answer_end(ctx, token, Err(ErrorCode::INVALID_REQUEST));
        }
        let end = EndRequest {
            claim: Claim { producer_id: request.producer_id, epoch: request.producer_epoch },
            commit: request.committed,
            client_version: if token.version > 4 { EPOCH_BUMP_VERSION } else { 0 },
        };
        let mut added = Vec::new();
        match self.shard_of(image, id) {
            Err(error) => return answer_end(ctx, token, Err(error)),
            Ok(shard) => {
                let mut cx = Cx { ctx, image, replicas, added: &mut added };
                shard.end(&mut cx, &mut Ids { ids, broker_epoch }, token, id, end);
            }
        }
        self.settle(ctx, added);
    }

    /// AddOffsetsToTxn (25): the partition of a group's offsets takes part.
    pub fn handle_add_offsets(
        &mut self,
        ctx: &mut Ctx<'_>,
        replicas: &mut ReplicaManager,
        image: &MetadataImage,
        token: RequestToken,
        request: &AddOffsetsToTxnRequest<'_>,
    ) {
        let id = &*request.transactional_id;
        if id.is_empty() {
            return answer_offsets(ctx, token, ErrorCode::INVALID_REQUEST);
        }
        let Some(partition) = coordinator_partition(image, GROUP_TOPIC, &request.group_id) else {
            return answer_offsets(ctx, token, ErrorCode::COORDINATOR_NOT_AVAILABLE);
        };
        let claim = Claim { producer_id: request.producer_id, epoch: request.producer_epoch };
        let partitions = [(Arc::from(GROUP_TOPIC), partition)];
        let mut added = Vec::new();
        match self.shard_of(image, id) {
            Err(error) => return answer_offsets(ctx, token, error),
            Ok(shard) => {
                let mut cx = Cx { ctx, image, replicas, added: &mut added };
                shard.add_partitions(&mut cx, id, claim, &partitions, 0, AddAnswer::Offsets(token));
            }
        }
        self.settle(ctx, added);
    }

    /// AddPartitionsToTxn (24): of a client one transaction; of a broker several, to be verified or added to.
    pub fn handle_add_partitions(
        &mut self,
        ctx: &mut Ctx<'_>,
        replicas: &mut ReplicaManager,
        image: &MetadataImage,
        token: RequestToken,
        request: &AddPartitionsToTxnRequest<'_>,
    ) {
        let of_client = [AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id.clone(),
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: if token.version < 4 { request.v3_and_below_topics.clone() } else { Vec::new() },
        }];
        let transactions = if token.version < 4 { &of_client[..] } else { &request.transactions[..] };
        self.last_request += 1;
        let number = self.last_request;
        let parts =
            transactions.iter().map(|t| (t.transactional_id.to_string(), partitions_of(image, &t.topics)));
        let open = AddRequest { token, transactions: parts.collect(), left: transactions.len() };
        if transactions.is_empty() {
            return answer_add(ctx, &open);
        }
        self.requests.insert(number, open);
        let mut added = Vec::new();
        for (at, transaction) in transactions.iter().enumerate() {
            let mut cx = Cx { ctx, image, replicas, added: &mut added };
            self.add_one(&mut cx, number, at, token.version, transaction);
        }
        self.settle(ctx, added);
    }

    fn add_one(
        &mut self,
        cx: &mut Cx<'_, '_>,
        request: u64,
        at: usize,
        version: i16,
        transaction: &AddPartitionsToTxnTransaction<'_>,
    ) {
        let id = &*transaction.transactional_id;
        let claim = Claim { producer_id: transaction.producer_id, epoch: transaction.producer_epoch };
        let wanted = self.requests[&request].transactions[at].1.clone();
        let done = |cx: &mut Cx<'_, '_>, error| cx.added.push(Added { request, at, error });
        if wanted.iter().any(|(_, error)| error.is_error()) {
            return self.refuse_unknown(cx, request, at);
        }
        if id.is_empty() {
            return done(cx, ErrorCode::INVALID_REQUEST);
        }
        let partitions: Vec<Partition> = wanted.into_iter().map(|(partition, _)| partition).collect();
        let shard = match self.shard_of(cx.image, id) {
            Err(error) => return done(cx, error),
            Ok(shard) => shard,
        };
        if !transaction.verify_only {
            let answer = AddAnswer::Partitions { request, at };
            let client_version = if version > 3 { EPOCH_BUMP_VERSION } else { 0 };
            return shard.add_partitions(cx, id, claim, &partitions, client_version, answer);
        }
        let verdicts: Vec<ErrorCode> = (partitions.iter())
            .map(|partition| shard.verify(id, claim, partition).err().unwrap_or(ErrorCode::NONE))
            .collect();
        self.decided_at_once(cx.ctx, request, at, verdicts);
    }

    /// One partition that does not exist refuses the others with it.
    fn refuse_unknown(&mut self, cx: &mut Cx<'_, '_>, request: u64, at: usize) {
        let parts = &self.requests[&request].transactions[at].1;
        let verdict = |(_, error): &(Partition, ErrorCode)| match *error {
            ErrorCode::NONE => ErrorCode::OPERATION_NOT_ATTEMPTED,
            error => error,
        };
        let verdicts = parts.iter().map(verdict).collect();
        self.decided_at_once(cx.ctx, request, at, verdicts);
    }

    fn decided_at_once(&mut self, ctx: &mut Ctx<'_>, request: u64, at: usize, verdicts: Vec<ErrorCode>) {
        let open = self.requests.get_mut(&request).expect("it is being handled");
        for ((_, result), verdict) in open.transactions[at].1.iter_mut().zip(verdicts) {
            *result = verdict;
        }
        open.left -= 1;
        if open.left == 0 {
            let open = self.requests.remove(&request).expect("it is there");
            answer_add(ctx, &open);
        }
    }

    // --- what comes back, and time

    /// A leader answered to markers, or did not.
    pub fn handle_outcome(
        &mut self,
        ctx: &mut Ctx<'_>,
        replicas: &mut ReplicaManager,
        image: &MetadataImage,
        call: TransactionCall,
        outcome: CallOutcome,
    ) {
        let Some(shard) = self.shards.get_mut(&call.partition) else { return };
        if shard.epoch != call.coordinator_epoch || self.stopped {
            return;
        }
        let mut added = Vec::new();
        shard.handle_outcome(&mut Cx { ctx, image, replicas, added: &mut added }, call, outcome);
        self.settle(ctx, added);
    }

    /// When [`TransactionCoordinator::on_timer`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.filter(|_| !self.stopped)
    }

    /// Looks after what timed out, expired, or is to be sent again.
    pub fn on_timer(&mut self, ctx: &mut Ctx<'_>, replicas: &mut ReplicaManager, image: &MetadataImage) {
        let mut added = Vec::new();
        for shard in self.shards.values_mut() {
            if shard.deadline().is_some_and(|at| at <= ctx.now.mono) {
                shard.on_timer(&mut Cx { ctx, image, replicas, added: &mut added });
            }
        }
        self.settle(ctx, added);
    }

    // --- looking inside

    /// Every transactional id that this broker coordinates, with its state, for checkers and reports.
    pub fn transactions(&self) -> impl Iterator<Item = (&Arc<str>, TransactionState)> {
        self.shards.values().flat_map(|shard| shard.entries.iter().map(|(id, entry)| (id, entry.now.state)))
    }

    /// Whether this broker has read a partition of the transactions' log, and coordinates what lies there.
    pub fn coordinates(&self, partition: i32) -> bool {
        self.shards.contains_key(&partition)
    }

    /// The producers whose transactions this broker coordinates and has not completed, for checkers.
    pub fn unfinished(&self) -> impl Iterator<Item = i64> + '_ {
        use TransactionState::{CompleteAbort, CompleteCommit, Dead, Empty};
        let entries = self.shards.values().flat_map(|shard| shard.entries.values());
        let open = entries.filter(|e| !matches!(e.now.state, Empty | CompleteCommit | CompleteAbort | Dead));
        open.flat_map(|e| [e.now.producer_id, e.now.previous_producer_id])
    }

    /// What must hold between inputs.
    pub fn check_invariants(&self) {
        for shard in self.shards.values() {
            shard.check_invariants();
        }
    }
}

fn partitions_of(
    image: &MetadataImage,
    topics: &[AddPartitionsToTxnTopic<'_>],
) -> Vec<(Partition, ErrorCode)> {
    let mut partitions = Vec::new();
    for topic in topics {
        let known = image.topics.topic_named(&topic.name);
        let name: Arc<str> = known.map_or_else(|| Arc::from(&*topic.name), |known| known.name.clone());
        for partition in &topic.partitions {
            let exists = known.is_some_and(|known| known.partitions.contains_key(partition));
            let error = if exists { ErrorCode::NONE } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
            partitions.push(((name.clone(), *partition), error));
        }
    }
    partitions
}

// --- answers

/// Old clients know no PRODUCER_FENCED.
fn fenced_for(version: i16, since: i16, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::PRODUCER_FENCED if version < since => ErrorCode::INVALID_PRODUCER_EPOCH,
        error => error,
    }
}

fn answer_init(ctx: &mut Ctx<'_>, token: RequestToken, result: Result<Claim, ErrorCode>) {
    let error = result.err().map_or(ErrorCode::NONE, |error| fenced_for(token.version, 4, error));
    let claim = result.unwrap_or(NO_CLAIM);
    let response = InitProducerIdResponse {
        error_code: error.0,
        producer_id: claim.producer_id,
        producer_epoch: claim.epoch,
        ..InitProducerIdResponse::default()
    };
    ctx.net.respond(ctx.out, token, &response);
}

fn answer_end(ctx: &mut Ctx<'_>, token: RequestToken, result: Result<Claim, ErrorCode>) {
    let error = result.err().map_or(ErrorCode::NONE, |error| fenced_for(token.version, 2, error));
    let mut response = EndTxnResponse { error_code: error.0, ..EndTxnResponse::default() };
    if token.version >= 5 {
        let claim = result.unwrap_or(NO_CLAIM);
        (response.producer_id, response.producer_epoch) = (claim.producer_id, claim.epoch);
    }
    ctx.net.respond(ctx.out, token, &response);
}

fn answer_offsets(ctx: &mut Ctx<'_>, token: RequestToken, error: ErrorCode) {
    let error_code = fenced_for(token.version, 2, error).0;
    ctx.net.respond(ctx.out, token, &AddOffsetsToTxnResponse { throttle_time_ms: 0, error_code });
}

fn answer_add(ctx: &mut Ctx<'_>, request: &AddRequest) {
    let version = request.token.version;
    let topics_of = |parts: &'_ [(Partition, ErrorCode)]| {
        let mut topics: Vec<AddPartitionsToTxnTopicResult<'static>> = Vec::new();
        for ((topic, partition), error) in parts {
            let result = AddPartitionsToTxnPartitionResult {
                partition_index: *partition,
                partition_error_code: fenced_for(version, 2, *error).0,
            };
            match topics.iter_mut().find(|known| *known.name == **topic) {
                Some(known) => known.results_by_partition.push(result),
                None => topics.push(AddPartitionsToTxnTopicResult {
                    name: Cow::Owned(topic.to_string()),
                    results_by_partition: alloc::vec![result],
                }),
            }
        }
        topics
    };
    let mut response = AddPartitionsToTxnResponse::default();
    for (id, parts) in &request.transactions {
        if version < 4 {
            response.results_by_topic_v3_and_below = topics_of(parts);
        } else {
            response.results_by_transaction.push(AddPartitionsToTxnResult {
                transactional_id: Cow::Borrowed(id),
                topic_results: topics_of(parts),
            });
        }
    }
    ctx.net.respond(ctx.out, request.token, &response);
}

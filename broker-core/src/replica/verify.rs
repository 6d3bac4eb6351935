//! Transactions are verified with their coordinator before the first batch of one is appended (KIP-890).
//!
//! Without this a batch that was long on its way could be appended after its transaction had ended: a transaction that
//! nobody would ever end, with the last stable offset stuck at its beginning. For producers of transactions of version 2
//! (Produce 12) the leader adds the partition to the transaction on the way; for older ones it asks whether their
//! AddPartitionsToTxn came before. What has come back good is worth something only as long as the log's [`Guard`] holds.
//!
//! Follows Kafka's `ReplicaManager.handleProduceAppend` and `AddPartitionsToTxnManager`. Kafka collects what is to be
//! verified while a request to the coordinator is under way; here each has a request of its own.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use smallvec::SmallVec;
use wire::batch::{BatchHeader, HEADER_LEN};
use wire::drive::{Instant, Nanos};
use wire::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use wire::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use wire::{ErrorCode, Message as _, Reader, Rope};

use super::ReplicaManager;
use super::partition::PartitionIx;
use super::produce::{Incoming, Kept, Part, Terms, Verdict, keep, kept, key_of};
use super::purgatory::Waiting;
use super::session::TopicRef;
use crate::config::Dynamic;
use crate::coordinator::{GROUP_TOPIC, TRANSACTION_TOPIC, coordinator_partition};
use crate::ctx::Ctx;
use crate::log::{Guard, Verification};
use crate::metadata::MetadataImage;
use crate::mutant::Mutant;
use crate::net::{Call, CallOutcome, Peer};

/// The version of AddPartitionsToTxn that brokers speak with each other.
const VERSION: i16 = 5;
/// `add.partitions.to.txn.retry.backoff.ms`: a transaction before this one is about to end.
const RETRY_BACKOFF: Nanos = Nanos::from_millis(20);
/// `add.partitions.to.txn.retry.backoff.max.ms`: after that the producer hears of it.
const RETRY_FOR: Nanos = Nanos::from_millis(100);

/// A verification under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyCall(u32);

/// Why a batch is not appended, for its producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub error: ErrorCode,
    pub message: Option<String>,
}

/// What the version of a request says of its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supports {
    /// It knows no TRANSACTION_ABORTABLE.
    OldErrors,
    /// It knows it.
    Abortable,
    /// Transactions of version 2: its leader adds the partition.
    AddPartition,
}

/// The transaction whose partitions are verified.
#[derive(Clone, Debug)]
struct Transaction {
    id: String,
    producer_id: i64,
    producer_epoch: i16,
    supports: Supports,
}

/// One partition to be verified.
#[derive(Clone, Debug)]
struct Unverified {
    /// Its place in the request.
    part: usize,
    topic: String,
    index: i32,
    sequence: i32,
    guard: Guard,
}

/// What waits for the verification of its transaction.
#[derive(Clone, Debug)]
pub(super) struct Verifying {
    transaction: Transaction,
    partitions: Vec<Unverified>,
    since: Instant,
    waits: Waits,
}

impl Verifying {
    /// A transaction before this one is about to end, and the broker itself asks again when it may have ended. For
    /// offsets it does not: their producer hears of it, and asks again.
    fn worth_another_try(&self, now: Instant) -> bool {
        self.transaction.supports == Supports::AddPartition
            && matches!(self.waits, Waits::Produce { .. })
            && now.since(self.since) < RETRY_FOR
    }
}

#[derive(Clone, Debug)]
enum Waits {
    Produce {
        terms: Terms,
        parts: Kept,
        verdicts: Vec<Verdict>,
    },
    /// The group coordinator, with its own number for it.
    Offsets(u64),
}

/// The transaction of a group's offsets is verified, or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetsVerified {
    /// The number that the group coordinator gave it.
    pub number: u64,
    /// With what its offsets may be appended; or the answer to its producer.
    pub result: Result<Verification, ErrorCode>,
}

impl ReplicaManager {
    /// Produces once every batch's transaction is verified or open.
    pub(super) fn verify_produce(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        terms: Terms,
        incoming: &[Incoming<'_>],
        transactional_id: &str,
    ) {
        if !self.verification_enabled(ctx, image) {
            return self.produce(ctx, image, terms, incoming, &[]);
        }
        let supports = match terms.token.version {
            12.. => Supports::AddPartition,
            11 => Supports::Abortable,
            _ => Supports::OldErrors,
        };
        let mut producer = None;
        let mut partitions = Vec::new();
        for (part, one) in incoming.iter().enumerate() {
            let Some(header) = one.records.and_then(header_of) else { continue };
            if !header.has_producer_id() || !header.is_transactional() {
                continue;
            }
            let its = (header.producer_id, header.producer_epoch);
            if *producer.get_or_insert(its) != its {
                return self.refuse_mixed(ctx, image, &terms, incoming);
            }
            let Some(ix) = self.table.find(one.topic, one.index) else { continue };
            let bump = supports == Supports::AddPartition;
            partitions.extend(self.start_verification(ctx, ix, part, its, header.base_sequence, bump));
        }
        if ctx.config.mutants.has(Mutant::PartitionNotAdded) {
            return self.produce(ctx, image, terms, incoming, &[]);
        }
        let verdicts = vec![Ok(Verification::Required); incoming.len()];
        let (Some((producer_id, producer_epoch)), false) = (producer, partitions.is_empty()) else {
            return self.produce(ctx, image, terms, incoming, &verdicts);
        };
        let transaction =
            Transaction { id: transactional_id.to_string(), producer_id, producer_epoch, supports };
        let waits = Waits::Produce { terms, parts: keep(image, incoming), verdicts };
        let verifying = Verifying { transaction, partitions, since: ctx.now.mono, waits };
        let op = self.purgatory.verifying.insert(verifying);
        self.ask_coordinator(ctx, image, op);
    }

    /// Verifies the transaction of offsets that a group's producer commits to a partition of `__consumer_offsets` that
    /// this broker leads. `Some` is the answer at once; otherwise it comes by
    /// [`ReplicaManager::take_offsets_verified`] with the same number. `adds` says that the partition is to be added
    /// to the transaction (TxnOffsetCommit 5).
    #[allow(clippy::too_many_arguments, reason = "a transaction, a partition and a number")]
    pub fn verify_offsets(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        partition: i32,
        transactional_id: &str,
        (producer_id, producer_epoch): (i64, i16),
        version: i16,
        number: u64,
    ) -> Option<Result<Verification, ErrorCode>> {
        if !self.verification_enabled(ctx, image) {
            return Some(Ok(Verification::Off));
        }
        let supports = match version {
            5.. => Supports::AddPartition,
            4 => Supports::Abortable,
            _ => Supports::OldErrors,
        };
        let Some(ix) = self.table.find(TopicRef::Name(GROUP_TOPIC), partition) else {
            return Some(Err(ErrorCode::NOT_COORDINATOR));
        };
        if !self.table.get(ix).is_leader() || self.table.get(ix).log.is_none() {
            return Some(Err(ErrorCode::NOT_COORDINATOR));
        }
        let bump = supports == Supports::AddPartition;
        let its = (producer_id, producer_epoch);
        let Some(unverified) = self.start_verification(ctx, ix, 0, its, -1, bump) else {
            return Some(Ok(Verification::Required));
        };
        let transaction =
            Transaction { id: transactional_id.to_string(), producer_id, producer_epoch, supports };
        let partitions = vec![unverified];
        let waits = Waits::Offsets(number);
        let verifying = Verifying { transaction, partitions, since: ctx.now.mono, waits };
        let op = self.purgatory.verifying.insert(verifying);
        self.ask_coordinator(ctx, image, op);
        None
    }

    /// What became of the transactions of offsets since the last call.
    pub fn take_offsets_verified(&mut self) -> Vec<OffsetsVerified> {
        core::mem::take(&mut self.offsets_verified)
    }

    fn verification_enabled(&self, ctx: &Ctx<'_>, image: &MetadataImage) -> bool {
        let dynamic = Dynamic::of_broker(&image.configs, self.node_id);
        ctx.config.node_flag(dynamic, "transaction.partition.verification.enable")
    }

    fn start_verification(
        &mut self,
        ctx: &Ctx<'_>,
        ix: PartitionIx,
        part: usize,
        (producer_id, producer_epoch): (i64, i16),
        sequence: i32,
        bump: bool,
    ) -> Option<Unverified> {
        let partition = self.table.get_mut(ix);
        if !partition.is_leader() {
            return None;
        }
        let (topic, index) = (partition.topic.to_string(), partition.index);
        let log = partition.log.as_mut()?;
        let guard = log.start_verification(ctx.now.wall_ms, producer_id, producer_epoch, sequence, bump)?;
        Some(Unverified { part, topic, index, sequence, guard })
    }

    fn refuse_mixed(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        terms: &Terms,
        incoming: &[Incoming<'_>],
    ) {
        let error = ErrorCode::INVALID_PRODUCER_ID_MAPPING;
        let refused = incoming.iter().map(|i| Part::refused(key_of(image, i.topic), i.index, error));
        let parts = refused.collect();
        self.answer_produce(ctx, image, terms, parts);
    }

    fn ask_coordinator(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, op: u32) {
        let verifying = self.purgatory.verifying.get_mut(op).expect("it was just put there");
        let transaction = &verifying.transaction;
        let coordinator =
            coordinator_partition(image, TRANSACTION_TOPIC, &transaction.id).and_then(|partition| {
                let leader = image.topics.topic_named(TRANSACTION_TOPIC)?.partitions.get(&partition)?.leader;
                image.broker(leader).filter(|broker| !broker.fenced).map(|_| leader)
            });
        let Some(coordinator) = coordinator else {
            return self.verified(ctx, image, op, &|_, _| ErrorCode::COORDINATOR_NOT_AVAILABLE);
        };
        let mut topics: Vec<AddPartitionsToTxnTopic<'_>> = Vec::new();
        for one in &verifying.partitions {
            match topics.iter_mut().find(|topic| *topic.name == *one.topic) {
                Some(topic) => topic.partitions.push(one.index),
                None => topics.push(AddPartitionsToTxnTopic {
                    name: Cow::Borrowed(&one.topic),
                    partitions: vec![one.index],
                }),
            }
        }
        let request = AddPartitionsToTxnRequest {
            transactions: vec![AddPartitionsToTxnTransaction {
                transactional_id: Cow::Borrowed(&transaction.id),
                producer_id: transaction.producer_id,
                producer_epoch: transaction.producer_epoch,
                verify_only: transaction.supports != Supports::AddPartition,
                topics,
            }],
            ..AddPartitionsToTxnRequest::default()
        };
        let timeout = ctx.config.lifecycle.request_timeout;
        let call = Call::Verify(VerifyCall(op));
        ctx.net.call(ctx.now, ctx.out, Peer::Broker(coordinator), &request, VERSION, timeout, call);
    }

    /// The coordinator answered, or did not.
    pub fn handle_verify_outcome(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        VerifyCall(op): VerifyCall,
        outcome: CallOutcome,
    ) {
        let CallOutcome::Answered { body, version } = outcome else {
            self.verified(ctx, image, op, &|_, _| ErrorCode::NETWORK_EXCEPTION);
            return self.finish(ctx, image);
        };
        match AddPartitionsToTxnResponse::decode(&mut Reader::new(&body), version) {
            Err(_) => self.verified(ctx, image, op, &|_, _| ErrorCode::NETWORK_EXCEPTION),
            Ok(response) if response.error_code != ErrorCode::NONE.0 => {
                self.verified(ctx, image, op, &|_, _| ErrorCode(response.error_code));
            }
            Ok(response) => {
                let found = |topic: &str, index: i32| {
                    let results = response.results_by_transaction.iter().flat_map(|r| &r.topic_results);
                    let mut partitions =
                        results.filter(|r| *r.name == *topic).flat_map(|r| &r.results_by_partition);
                    let partition = partitions.find(|p| p.partition_index == index);
                    partition.map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |p| ErrorCode(p.partition_error_code))
                };
                self.verified(ctx, image, op, &found);
            }
        }
        self.finish(ctx, image);
    }

    /// Goes on with what waited, or asks once more.
    fn verified(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        op: u32,
        result_of: &dyn Fn(&str, i32) -> ErrorCode,
    ) {
        let verifying = self.purgatory.verifying.get_mut(op).expect("it has one outcome");
        let supports = verifying.transaction.supports;
        let results: SmallVec<[ErrorCode; 4]> = (verifying.partitions.iter())
            .map(|one| for_producer(supports, result_of(&one.topic, one.index)))
            .collect();
        if results.contains(&ErrorCode::CONCURRENT_TRANSACTIONS) && verifying.worth_another_try(ctx.now.mono)
        {
            self.purgatory.timeouts.insert((ctx.now.mono + RETRY_BACKOFF, Waiting::Verify(op)));
            return;
        }
        let verifying = self.purgatory.verifying.remove(op).expect("it is there");
        let outcomes = verifying.partitions.iter().zip(results);
        match verifying.waits {
            Waits::Produce { terms, parts, mut verdicts } => {
                for (one, error) in outcomes {
                    verdicts[one.part] = verdict(supports, one.guard, error);
                }
                self.produce(ctx, image, terms, &kept(&parts), &verdicts);
            }
            Waits::Offsets(number) => {
                for (one, error) in outcomes {
                    let result = verdict(supports, one.guard, error).map_err(|refusal| refusal.error);
                    self.offsets_verified.push(OffsetsVerified { number, result });
                }
            }
        }
    }

    /// The pause before a verification is asked for again is over. A marker of the transaction before may have come in
    /// it: what is verified now has guards of its own.
    pub(super) fn verify_again(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, op: u32) {
        let mut verifying = self.purgatory.verifying.remove(op).expect("its time-out is taken once");
        let Transaction { producer_id, producer_epoch, supports, .. } = verifying.transaction;
        let (its, bump) = ((producer_id, producer_epoch), supports == Supports::AddPartition);
        let renewed = core::mem::take(&mut verifying.partitions).into_iter().filter_map(|one| {
            let ix = self.table.find(TopicRef::Name(&one.topic), one.index)?;
            self.start_verification(ctx, ix, one.part, its, one.sequence, bump)
        });
        verifying.partitions = renewed.collect();
        let none_left = verifying.partitions.is_empty();
        let op = self.purgatory.verifying.insert(verifying);
        if none_left {
            return self.verified(ctx, image, op, &|_, _| ErrorCode::NONE);
        }
        self.ask_coordinator(ctx, image, op);
    }
}

fn header_of(records: &Rope) -> Option<BatchHeader> {
    let mut head = [0; HEADER_LEN];
    if records.len() < HEADER_LEN {
        return None;
    }
    records.copy_to(0, &mut head);
    BatchHeader::parse(&head).ok()
}

/// What the coordinator's answer is to a producer.
fn for_producer(supports: Supports, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::TRANSACTION_ABORTABLE if supports == Supports::OldErrors => ErrorCode::INVALID_TXN_STATE,
        error => error,
    }
}

/// Errors that older producers would not retry in the right way become one that they do: NOT_ENOUGH_REPLICAS makes
/// nobody look for the leader again.
fn verdict(supports: Supports, guard: Guard, error: ErrorCode) -> Verdict {
    let message = match error {
        ErrorCode::NONE => return Ok(Verification::Verified(guard)),
        ErrorCode::INVALID_TXN_STATE => "Partition was not added to the transaction".to_string(),
        ErrorCode::CONCURRENT_TRANSACTIONS if supports == Supports::AddPartition => unable(error),
        ErrorCode::NETWORK_EXCEPTION
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::NOT_COORDINATOR
        | ErrorCode::CONCURRENT_TRANSACTIONS => {
            return Err(Refusal { error: ErrorCode::NOT_ENOUGH_REPLICAS, message: Some(unable(error)) });
        }
        _ => return Err(Refusal { error, message: None }),
    };
    Err(Refusal { error, message: Some(message) })
}

fn unable(error: ErrorCode) -> String {
    alloc::format!(
        "Unable to verify the partition has been added to the transaction. Underlying error: {}",
        error.name()
    )
}

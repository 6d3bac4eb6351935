//! Produce: the checks before an append, the append, and the wait for the high watermark with acks=all.
//!
//! The order of the checks and the errors are those of Kafka's `KafkaApis.handleProduceRequest`,
//! `ProduceRequest.validateRecords` and `ReplicaManager.appendToLocalLog`.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use smallvec::SmallVec;
use wire::drive::Instant;
use wire::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use wire::messages::{ProduceRequest, ProduceResponse};
use wire::{Compression, ErrorCode, Rope};

use super::ReplicaManager;
use super::hints::LeaderHint;
use super::partition::{PartitionIx, ProduceWaiter};
use super::purgatory::Waiting;
use super::session::{TopicKey, TopicRef};
use super::verify::Refusal;
use crate::ctx::Ctx;
use crate::event::{Event, TopicPartition};
use crate::log::{AppendError, AppendInfo, AppendTerms, Origin, RecordError, Verification};
use crate::metadata::MetadataImage;
use crate::mutant::Mutant;
use crate::net::RequestToken;

/// Topics that only coordinators write to.
const INTERNAL_TOPICS: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

pub(super) fn is_internal(topic: &str) -> bool {
    INTERNAL_TOPICS.contains(&topic)
}

/// One partition of a produce request.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub topic: TopicRef<'a>,
    pub index: i32,
    pub records: Option<&'a Rope>,
}

/// The same, kept while the request waits.
pub(super) type Kept = Vec<(TopicKey, i32, Option<Rope>)>;

pub(super) fn keep(image: &MetadataImage, incoming: &[Incoming<'_>]) -> Kept {
    incoming.iter().map(|i| (key_of(image, i.topic), i.index, i.records.cloned())).collect()
}

pub(super) fn kept(parts: &Kept) -> SmallVec<[Incoming<'_>; 4]> {
    (parts.iter())
        .map(|(topic, index, records)| Incoming {
            topic: topic.as_ref(),
            index: *index,
            records: records.as_ref(),
        })
        .collect()
}

/// What verification says of one partition of a request.
pub(super) type Verdict = Result<Verification, Refusal>;

/// What is the same for all partitions of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub token: RequestToken,
    pub acks: i16,
    pub deadline: Instant,
    pub answer: Answer,
}

/// As what a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Produce,
    /// WriteTxnMarkers: what is appended are markers.
    Markers,
}

/// What is answered for one partition.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub topic: TopicKey,
    pub index: i32,
    pub error: ErrorCode,
    /// Of a marker, its position in the request and its producer's id.
    pub marker: Option<(u32, i64)>,
    base_offset: i64,
    log_append_time: i64,
    log_start_offset: i64,
    record_errors: Vec<RecordError>,
    message: Option<String>,
    /// Where it was appended.
    pub at: Option<PartitionIx>,
    pub required_offset: i64,
    pending: bool,
}

impl Part {
    pub(super) fn refused(topic: TopicKey, index: i32, error: ErrorCode) -> Part {
        Part {
            topic,
            index,
            error,
            marker: None,
            base_offset: -1,
            log_append_time: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            message: None,
            at: None,
            required_offset: -1,
            pending: false,
        }
    }
}

pub(super) type Parts = SmallVec<[Part; 1]>;

/// An acks=all request that waits for the high watermark.
#[derive(Clone, Debug)]
pub(super) struct DelayedProduce {
    terms: Terms,
    parts: Parts,
    pending: u32,
}

/// A produce request that came while a new leader's epoch was not yet durable.
#[derive(Clone, Debug)]
pub(super) struct HeldProduce {
    terms: Terms,
    parts: Kept,
    /// Of a transaction.
    transactional_id: Option<String>,
}

/// An append whose consequences for others come after this request's own answer.
#[derive(Clone, Copy)]
pub(super) struct Touched {
    pub at: PartitionIx,
    pub high_watermark_moved: bool,
}

impl ReplicaManager {
    /// Appends records and answers as `acks` asks: at once, when they are committed, or not at all.
    pub fn handle_produce(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        token: RequestToken,
        request: &ProduceRequest<'_>,
    ) {
        let mut incoming: SmallVec<[Incoming<'_>; 4]> = SmallVec::new();
        let mut transactional = false;
        for topic in &request.topic_data {
            let name =
                if token.version >= 13 { TopicRef::Id(topic.topic_id) } else { TopicRef::Name(&topic.name) };
            for p in &topic.partition_data {
                transactional |= p.records.as_ref().is_some_and(is_transactional);
                incoming.push(Incoming { topic: name, index: p.index, records: p.records.as_ref() });
            }
        }
        let deadline = ctx.now.mono.plus_millis(request.timeout_ms.max(0) as u64);
        let terms = Terms { token, acks: request.acks, deadline, answer: Answer::Produce };
        if transactional && request.transactional_id.is_none() {
            let error = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
            let refused = incoming.iter().map(|i| Part::refused(key_of(image, i.topic), i.index, error));
            let parts = refused.collect();
            return self.answer_produce(ctx, image, &terms, parts);
        }
        let transactional_id = request.transactional_id.as_deref().filter(|_| transactional);
        if self.must_hold(&incoming) {
            let parts = keep(image, &incoming);
            let transactional_id = transactional_id.map(ToString::to_string);
            self.purgatory.held.push_back(HeldProduce { terms, parts, transactional_id });
            return;
        }
        match transactional_id {
            None => self.produce(ctx, image, terms, &incoming, &[]),
            Some(id) => self.verify_produce(ctx, image, terms, &incoming, id),
        }
        self.finish(ctx, image);
    }

    /// Whether a partition's new leader epoch is not yet durable: nothing may be appended before it is.
    fn must_hold(&self, incoming: &[Incoming<'_>]) -> bool {
        incoming.iter().any(|i| {
            self.table.find(i.topic, i.index).is_some_and(|ix| {
                let p = self.table.get(ix);
                p.is_leader() && !p.may_append()
            })
        })
    }

    /// Something became durable: requests that were held for it go on, in their order.
    pub(super) fn release_held(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage) {
        for _ in 0..self.purgatory.held.len() {
            let Some(held) = self.purgatory.held.pop_front() else { return };
            let incoming = kept(&held.parts);
            if self.must_hold(&incoming) {
                drop(incoming);
                self.purgatory.held.push_back(held);
                continue;
            }
            match &held.transactional_id {
                None => self.produce(ctx, image, held.terms, &incoming, &[]),
                Some(id) => self.verify_produce(ctx, image, held.terms, &incoming, id),
            }
        }
    }

    /// Appends and answers. `verdicts` are of the same partitions; nothing is said of what is in no transaction.
    pub(super) fn produce(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        terms: Terms,
        incoming: &[Incoming<'_>],
        verdicts: &[Verdict],
    ) {
        let mut touched: SmallVec<[Touched; 4]> = SmallVec::new();
        let mut parts = Parts::new();
        for (i, one) in incoming.iter().enumerate() {
            parts.push(self.produce_one(ctx, image, &terms, one, verdicts.get(i), &mut touched));
        }
        self.appended_all(ctx, image, terms, parts, touched);
    }

    /// What follows from the appends of a request: its answer, now or later, then what others waited for.
    pub(super) fn appended_all(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        terms: Terms,
        parts: Parts,
        touched: SmallVec<[Touched; 4]>,
    ) {
        let appended = parts.iter().any(|p| p.error.is_none());
        let flushing = || touched.iter().any(|t| self.table.get(t.at).flush_barrier.is_some());
        if appended && (terms.acks == -1 || flushing()) {
            self.await_commit(ctx, image, terms, parts);
        } else {
            self.answer_produce(ctx, image, &terms, parts);
        }
        for touched in touched {
            if touched.high_watermark_moved {
                self.complete_produces(ctx, image, touched.at);
            }
        }
        self.complete_ready(ctx, image);
    }

    fn produce_one(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        terms: &Terms,
        one: &Incoming<'_>,
        verdict: Option<&Verdict>,
        touched: &mut SmallVec<[Touched; 4]>,
    ) -> Part {
        let ix = self.table.find(one.topic, one.index);
        let topic = match (one.topic, ix) {
            (TopicRef::Id(id), _) => TopicKey::Id(id),
            (TopicRef::Name(_), Some(ix)) => TopicKey::Name(self.table.get(ix).topic.clone()),
            (name, None) => key_of(image, name),
        };
        let mut part = Part::refused(topic, one.index, ErrorCode::NONE);
        let appended = match verdict {
            Some(Err(refusal)) => {
                part.message.clone_from(&refusal.message);
                Err(refusal.error)
            }
            Some(Ok(verification)) => {
                self.append_one(ctx, image, terms, one, ix, *verification, &mut part, touched)
            }
            None => self.append_one(ctx, image, terms, one, ix, Verification::Off, &mut part, touched),
        };
        if let Err(error) = appended {
            part.error = error;
            let name = || TopicPartition { topic: self.topic_name(image, one.topic), partition: one.index };
            ctx.out.event(|| Event::ProduceRefused { partition: name(), error: error.name().into() });
        }
        part
    }

    #[allow(clippy::too_many_arguments, reason = "one partition's part of a request; all of it is needed")]
    fn append_one(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        terms: &Terms,
        one: &Incoming<'_>,
        ix: Option<PartitionIx>,
        verification: Verification,
        part: &mut Part,
        touched: &mut SmallVec<[Touched; 4]>,
    ) -> Result<(), ErrorCode> {
        let located = ix.ok_or_else(|| super::not_hosted(image, one.topic, one.index));
        // What the metadata does not know is refused first, what is merely elsewhere only after the records' form.
        if let Err(error @ (ErrorCode::UNKNOWN_TOPIC_ID | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)) = located {
            return Err(error);
        }
        let records = validate_form(terms.token.version, one.records)?;
        if !matches!(terms.acks, -1..=1) {
            return Err(ErrorCode::INVALID_REQUIRED_ACKS);
        }
        if is_internal(&self.topic_name(image, one.topic)) {
            return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        let ix = located?;
        let terms_of_log = |leader_epoch| AppendTerms {
            leader_epoch,
            origin: Origin::Client,
            verification,
            transaction_version: 0,
        };
        self.append_to(ctx, terms.acks, ix, records, terms_of_log, part, touched)
    }

    /// Appends to a partition that is hosted here, if it leads and may acknowledge.
    #[allow(clippy::too_many_arguments, reason = "one partition's part of a request; all of it is needed")]
    pub(super) fn append_to(
        &mut self,
        ctx: &mut Ctx<'_>,
        acks: i16,
        ix: PartitionIx,
        records: &Rope,
        terms_of_log: impl FnOnce(i32) -> AppendTerms,
        part: &mut Part,
        touched: &mut SmallVec<[Touched; 4]>,
    ) -> Result<(), ErrorCode> {
        let partition = self.table.get(ix);
        if partition.log.is_none() {
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
        let view = partition.view(&self.brokers, self.settings.lag_time_max);
        let view = view.ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        if acks == -1 && view.is_under_min_isr() {
            part.log_start_offset = partition.log().log_start_offset();
            return Err(ErrorCode::NOT_ENOUGH_REPLICAS);
        }
        let terms_of_log = terms_of_log(partition.leader_epoch);
        let log = self.table.get_mut(ix).log_mut();
        match log.append_on_terms(ctx.now, ctx.disk, ctx.codecs, records, &terms_of_log) {
            Ok(info) => {
                // A retry of what lies in the log already appends nothing; it waits for the commit all the same.
                if info.bytes > 0 {
                    self.appended(ctx, ix, &info, touched);
                }
                part.base_offset = info.base_offset;
                part.log_append_time = info.log_append_time;
                part.log_start_offset = info.log_start_offset;
                part.required_offset = info.last_offset + 1;
                part.at = Some(ix);
                Ok(())
            }
            Err(error) => Err(self.append_refused(ctx, ix, error, part)),
        }
    }

    /// A leader's log has grown: its high watermark may move, followers may fetch.
    fn appended(
        &mut self,
        ctx: &mut Ctx<'_>,
        ix: PartitionIx,
        info: &AppendInfo,
        touched: &mut SmallVec<[Touched; 4]>,
    ) {
        let partition = self.table.get(ix);
        ctx.out.event(|| Event::RecordsAppended {
            partition: partition.name(),
            base_offset: info.base_offset,
            log_end_offset: info.last_offset + 1,
            epoch: partition.leader_epoch,
            as_leader: true,
            batches: info.marks.clone(),
        });
        self.notify_appended(ctx.now.mono, ix, info.bytes, info.rolled);
        self.after_log_change(ix);
        let high_watermark_moved = self.move_high_watermark(ctx, ix);
        self.table.get(ix).check_invariants(self.node_id);
        touched.push(Touched { at: ix, high_watermark_moved });
    }

    fn append_refused(
        &mut self,
        ctx: &mut Ctx<'_>,
        ix: PartitionIx,
        error: AppendError,
        part: &mut Part,
    ) -> ErrorCode {
        let log_start = self.table.get(ix).log().log_start_offset();
        match error {
            AppendError::InvalidRecord { message, record_errors } => {
                part.log_start_offset = log_start;
                part.message = (!record_errors.is_empty()).then_some(message);
                part.record_errors = record_errors;
                ErrorCode::INVALID_RECORD
            }
            AppendError::InvalidTimestamp { message, record_errors } => {
                part.log_start_offset = log_start;
                part.message = (!record_errors.is_empty()).then_some(message);
                part.record_errors = record_errors;
                ErrorCode::INVALID_TIMESTAMP
            }
            AppendError::UnsupportedCompression { .. } => {
                part.log_start_offset = log_start;
                ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
            }
            AppendError::Corrupt { .. } => ErrorCode::CORRUPT_MESSAGE,
            AppendError::MessageTooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            AppendError::RecordListTooLarge { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
            AppendError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            AppendError::InvalidProducerEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
            AppendError::InvalidTxnState { .. } => ErrorCode::INVALID_TXN_STATE,
            AppendError::CoordinatorFenced { .. } => ErrorCode::TRANSACTION_COORDINATOR_FENCED,
            AppendError::UnexpectedOffset { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
            AppendError::Disk(error) => {
                let dir = self.table.get(ix).dir;
                self.log_dir_failed(ctx, dir, &alloc::format!("{error}"));
                ErrorCode::KAFKA_STORAGE_ERROR
            }
        }
    }

    // --- acks=all

    /// Answers if everything is committed already, otherwise waits.
    fn await_commit(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, terms: Terms, mut parts: Parts) {
        let mut pending = 0;
        for part in &mut parts {
            let (Some(ix), true) = (part.at, part.error.is_none()) else { continue };
            part.pending = if terms.acks == -1 {
                !self.committed(ix, part) && !ctx.config.mutants.has(Mutant::AckBeforeReplication)
            } else {
                self.table.get(ix).flush_barrier.is_some_and(|barrier| barrier >= part.required_offset)
            };
            pending += u32::from(part.pending);
        }
        if pending == 0 {
            return self.answer_produce(ctx, image, &terms, parts);
        }
        // Kafka's broker flushes while it handles the request: only the wait for others has a limit.
        let terms = if terms.acks == -1 { terms } else { Terms { deadline: Instant(u64::MAX), ..terms } };
        let op = self.purgatory.produces.insert(DelayedProduce { terms, parts, pending });
        self.purgatory.timeouts.insert((terms.deadline, Waiting::Produce(op)));
        let delayed = self.purgatory.produces.get_mut(op).expect("it was just put there");
        for part in delayed.parts.iter().filter(|p| p.pending) {
            let ix = part.at.expect("only what was appended is pending");
            let partition = self.table.get_mut(ix);
            let waiters = match terms.acks {
                -1 => &mut partition.produce_waiters,
                _ => &mut partition.flush_waiters,
            };
            // A batch of an idempotent producer that came again waits where it lies: others may wait behind it already.
            let behind = |w: &&ProduceWaiter| w.required_offset > part.required_offset;
            let behind = waiters.iter().rev().take_while(behind).count();
            let waiter = ProduceWaiter { required_offset: part.required_offset, op };
            waiters.insert(waiters.len() - behind, waiter);
        }
    }

    /// Whether an append is committed; with too few in-sync replicas it is, but not safely enough.
    fn committed(&self, ix: PartitionIx, part: &mut Part) -> bool {
        let partition = self.table.get(ix);
        let Some(view) = partition.view(&self.brokers, self.settings.lag_time_max) else {
            // The log directory failed under a later part of the same request.
            part.error = ErrorCode::KAFKA_STORAGE_ERROR;
            return true;
        };
        if partition.log().high_watermark() < part.required_offset {
            return false;
        }
        if view.effective_min_isr() > view.isr.maximal_len() {
            part.error = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND;
        }
        true
    }

    /// The high watermark moved: acknowledges what lies below it.
    pub(super) fn complete_produces(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, ix: PartitionIx) {
        let partition = self.table.get(ix);
        let Some(view) = partition.view(&self.brokers, self.settings.lag_time_max) else { return };
        let error = if view.effective_min_isr() > view.isr.maximal_len() {
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        } else {
            ErrorCode::NONE
        };
        let high_watermark = partition.log().high_watermark();
        loop {
            let waiters = &mut self.table.get_mut(ix).produce_waiters;
            match waiters.front() {
                Some(first) if first.required_offset <= high_watermark => {
                    let op = waiters.pop_front().expect("it is there").op;
                    self.part_done(ctx, image, op, ix, error);
                }
                _ => return,
            }
        }
    }

    /// What was appended is durable: requests that waited for that alone are answered.
    pub(super) fn complete_flushed(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, ix: PartitionIx) {
        for waiter in core::mem::take(&mut self.table.get_mut(ix).flush_waiters) {
            self.part_done(ctx, image, waiter.op, ix, ErrorCode::NONE);
        }
    }

    /// The partition cannot commit what waits any more: leadership, log directory or the partition itself is gone.
    pub(super) fn fail_produces(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        ix: PartitionIx,
        error: ErrorCode,
    ) {
        let partition = self.table.get_mut(ix);
        let committing = core::mem::take(&mut partition.produce_waiters);
        let flushing = core::mem::take(&mut partition.flush_waiters);
        for waiter in committing.into_iter().chain(flushing) {
            self.part_done(ctx, image, waiter.op, ix, error);
        }
    }

    /// One wait of a request for one partition ended. A request may wait twice for the same partition.
    fn part_done(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        op: u32,
        ix: PartitionIx,
        error: ErrorCode,
    ) {
        let delayed = self.purgatory.produces.get_mut(op).expect("waiters go with their request");
        let part = delayed.parts.iter_mut().find(|p| p.pending && p.at == Some(ix));
        let part = part.expect("a waiter stands for a pending part");
        part.pending = false;
        part.error = error;
        delayed.pending -= 1;
        if delayed.pending == 0 {
            let delayed = self.purgatory.produces.remove(op).expect("it is there");
            let was_there = self.purgatory.timeouts.remove(&(delayed.terms.deadline, Waiting::Produce(op)));
            assert!(was_there, "a waiting request has a time-out");
            self.answer_produce(ctx, image, &delayed.terms, delayed.parts);
        }
    }

    /// The time of a waiting request is up: what is not committed yet may still be.
    pub(super) fn produce_timed_out(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, op: u32) {
        let mut delayed = self.purgatory.produces.remove(op).expect("its time-out was there");
        for part in delayed.parts.iter_mut().filter(|p| p.pending) {
            part.error = ErrorCode::REQUEST_TIMED_OUT;
            let ix = part.at.expect("only what was appended is pending");
            self.table.get_mut(ix).produce_waiters.retain(|w| w.op != op);
        }
        self.answer_produce(ctx, image, &delayed.terms, delayed.parts);
    }

    // --- answering

    pub(super) fn answer_produce(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        terms: &Terms,
        parts: Parts,
    ) {
        if terms.answer == Answer::Markers {
            return self.answer_markers(ctx, terms, &parts);
        }
        let throttle_time_ms = ctx.net.throttle_produce(ctx.now.mono, ctx.out, terms.token);
        if terms.acks == 0 {
            // Nobody waits for an answer; a closed connection makes the producer look for the leader again.
            match parts.iter().find(|p| p.error.is_error()) {
                Some(part) => {
                    let why = alloc::format!(
                        "error during produce request with correlation id {} with ack=0: {}",
                        terms.token.correlation_id,
                        part.error.name()
                    );
                    ctx.net.close(ctx.out, terms.token.conn, why);
                }
                None => ctx.net.respond_nothing(ctx.out, terms.token),
            }
            return;
        }
        let mut response = ProduceResponse { throttle_time_ms, ..ProduceResponse::default() };
        let mut hints: Vec<LeaderHint<'_>> = Vec::new();
        for part in &parts {
            let mut answer = PartitionProduceResponse {
                index: part.index,
                error_code: part.error.0,
                base_offset: part.base_offset,
                log_append_time_ms: part.log_append_time,
                log_start_offset: part.log_start_offset,
                error_message: part.message.as_deref().map(Cow::Borrowed),
                ..PartitionProduceResponse::default()
            };
            answer.record_errors.extend(part.record_errors.iter().map(|e| BatchIndexAndErrorMessage {
                batch_index: e.batch_index,
                batch_index_error_message: Some(Cow::Borrowed(&e.message)),
            }));
            if terms.token.version >= 10 && part.error == ErrorCode::NOT_LEADER_OR_FOLLOWER {
                let hint = self.leader_hint(image, part.topic.as_ref(), part.index);
                answer.current_leader =
                    LeaderIdAndEpoch { leader_id: hint.leader, leader_epoch: hint.leader_epoch };
                LeaderHint::add(&mut hints, hint);
            }
            push_part(&mut response.responses, &part.topic, answer);
        }
        for hint in &hints {
            let Some(node) = &hint.node else { continue };
            response.node_endpoints.push(NodeEndpoint {
                node_id: hint.leader,
                host: Cow::Borrowed(node.host),
                port: i32::from(node.port),
                rack: node.rack.map(Cow::Borrowed),
            });
        }
        ctx.net.respond(ctx.out, terms.token, &response);
    }

    /// The name by which people know a topic.
    pub(super) fn topic_name(&self, image: &MetadataImage, topic: TopicRef<'_>) -> Arc<str> {
        match super::topic_of(image, topic) {
            Some(topic) => topic.name.clone(),
            None => match topic {
                TopicRef::Name(name) => Arc::from(name),
                TopicRef::Id(id) => Arc::from(id.to_text()),
            },
        }
    }
}

pub(super) fn key_of(image: &MetadataImage, topic: TopicRef<'_>) -> TopicKey {
    match topic {
        TopicRef::Id(id) => TopicKey::Id(id),
        TopicRef::Name(name) => {
            TopicKey::Name(image.topics.topic_named(name).map_or_else(|| Arc::from(name), |t| t.name.clone()))
        }
    }
}

fn push_part<'s>(
    topics: &mut Vec<TopicProduceResponse<'s>>,
    topic: &'s TopicKey,
    part: PartitionProduceResponse<'s>,
) {
    let same = |t: &TopicProduceResponse<'_>| match topic {
        TopicKey::Id(id) => t.topic_id == *id,
        TopicKey::Name(name) => *t.name == **name,
    };
    let at = match topics.iter().rposition(same) {
        Some(at) => at,
        None => {
            let mut new = TopicProduceResponse::default();
            match topic {
                TopicKey::Id(id) => new.topic_id = *id,
                TopicKey::Name(name) => new.name = Cow::Borrowed(name),
            }
            topics.push(new);
            topics.len() - 1
        }
    };
    topics[at].partition_responses.push(part);
}

/// The fields of a batch's head that decide whether it is looked at further.
struct BatchHead {
    size: usize,
    magic: u8,
    attributes: u8,
}

/// The batch at `at`, if a whole one is there.
fn batch_at(records: &Rope, at: usize) -> Result<Option<BatchHead>, ErrorCode> {
    const MIN_RECORD_SIZE: i32 = 14;
    let left = records.len() - at;
    if left < 12 {
        return Ok(None);
    }
    let mut length = [0; 4];
    records.copy_to(at + 8, &mut length);
    let length = i32::from_be_bytes(length);
    if length < MIN_RECORD_SIZE {
        return Err(ErrorCode::CORRUPT_MESSAGE);
    }
    let size = 12 + length as usize;
    if left < size || left < 23 {
        return Ok(None);
    }
    let mut head = [0; 7];
    records.copy_to(at + 16, &mut head);
    if head[0] > 2 {
        return Err(ErrorCode::CORRUPT_MESSAGE);
    }
    Ok(Some(BatchHead { size, magic: head[0], attributes: head[6] }))
}

/// Exactly one batch of the current format, in a codec that the version may carry.
fn validate_form(version: i16, records: Option<&Rope>) -> Result<&Rope, ErrorCode> {
    let records = records.ok_or(ErrorCode::INVALID_RECORD)?;
    let first = batch_at(records, 0)?.ok_or(ErrorCode::INVALID_RECORD)?;
    if first.magic != 2 {
        return Err(ErrorCode::INVALID_RECORD);
    }
    if version < 7 && first.attributes & 7 == Compression::Zstd as u8 {
        return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    }
    match batch_at(records, first.size)? {
        Some(_) => Err(ErrorCode::INVALID_RECORD),
        None => Ok(records),
    }
}

fn is_transactional(records: &Rope) -> bool {
    matches!(batch_at(records, 0), Ok(Some(head)) if head.magic == 2 && head.attributes & 0x10 != 0)
}

//! DeleteRecords: the leader's log start goes up at once, the answer waits until that of every live replica has
//! (KIP-107).

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::drive::Instant;
use wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::ReplicaManager;
use super::partition::PartitionIx;
use super::produce::is_internal;
use super::purgatory::Waiting;
use super::session::TopicRef;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::metadata::MetadataImage;
use crate::net::RequestToken;

/// "Up to the high watermark", as an offset.
const HIGH_WATERMARK: i64 = -1;

/// What is answered for one partition.
#[derive(Clone, Debug)]
struct Part {
    topic: Arc<str>,
    index: i32,
    error: ErrorCode,
    low_watermark: i64,
    at: Option<PartitionIx>,
    required_offset: i64,
    pending: bool,
}

/// A DeleteRecords request that waits for low watermarks.
#[derive(Clone, Debug)]
pub(super) struct DelayedDelete {
    token: RequestToken,
    deadline: Instant,
    parts: Vec<Part>,
}

impl ReplicaManager {
    /// Deletes records below offsets.
    pub fn handle_delete_records(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        token: RequestToken,
        request: &DeleteRecordsRequest<'_>,
    ) {
        let mut parts = Vec::new();
        for topic in &request.topics {
            let name = self.topic_name(image, TopicRef::Name(&topic.name));
            for p in &topic.partitions {
                let mut part = Part {
                    topic: name.clone(),
                    index: p.partition_index,
                    error: ErrorCode::NONE,
                    low_watermark: -1,
                    at: None,
                    required_offset: -1,
                    pending: false,
                };
                if let Err(error) = self.delete_on_leader(ctx, image, p.offset, &mut part) {
                    part.error = error;
                }
                parts.push(part);
            }
        }
        let deadline = ctx.now.mono.plus_millis(request.timeout_ms.max(0) as u64);
        let delayed = DelayedDelete { token, deadline, parts };
        if !delayed.parts.iter().any(|p| p.pending) {
            answer(ctx, &delayed);
        } else {
            let waits: Vec<PartitionIx> =
                delayed.parts.iter().filter(|p| p.pending).filter_map(|p| p.at).collect();
            let op = self.purgatory.deletes.insert(delayed);
            self.purgatory.timeouts.insert((deadline, Waiting::DeleteRecords(op)));
            for ix in waits {
                self.table.get_mut(ix).delete_waiters.push(op);
            }
        }
        self.finish(ctx, image);
    }

    fn delete_on_leader(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        offset: i64,
        part: &mut Part,
    ) -> Result<(), ErrorCode> {
        let name = TopicRef::Name(&part.topic);
        let located =
            self.table.find(name, part.index).ok_or_else(|| super::not_hosted(image, name, part.index));
        if let Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) = located {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        if is_internal(&part.topic) {
            return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        let ix = located?;
        let log = self.table.get(ix).local_log(-1, true)?;
        if !log.config().delete {
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        let high_watermark = log.high_watermark();
        let offset = if offset == HIGH_WATERMARK { high_watermark } else { offset };
        if offset < 0 || offset > high_watermark {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        self.raise_log_start(ctx, ix, offset);
        part.low_watermark = self.table.get(ix).low_watermark(&self.brokers).expect("it leads");
        part.required_offset = offset;
        part.at = Some(ix);
        part.pending = part.low_watermark < offset;
        Ok(())
    }

    /// Raises a replica's log start offset, if it is below.
    pub(super) fn raise_log_start(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx, offset: i64) {
        let log = self.table.get_mut(ix).log_mut();
        let from = log.log_start_offset();
        if log.increment_log_start_offset(ctx.disk, offset) {
            let partition = self.table.get(ix);
            let to = partition.log().log_start_offset();
            ctx.out.event(|| Event::LogStartOffsetAdvanced { partition: partition.name(), from, to });
            self.notify_changed(ix, false);
            self.after_log_change(ix);
        }
    }

    /// A replica's log start moved, or a broker came or went: requests that waited for it may be done.
    pub(super) fn check_low_watermark(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx) {
        let partition = self.table.get(ix);
        if partition.delete_waiters.is_empty() {
            return;
        }
        let Some(low_watermark) = partition.low_watermark(&self.brokers) else { return };
        for op in partition.delete_waiters.clone() {
            let delayed = self.purgatory.deletes.get_mut(op).expect("waiters go with their request");
            for part in delayed.parts.iter_mut().filter(|p| p.pending && p.at == Some(ix)) {
                if low_watermark >= part.required_offset {
                    (part.pending, part.low_watermark) = (false, low_watermark);
                }
            }
            self.delete_progressed(ctx, ix, op);
        }
    }

    /// The partition cannot tell any more when it is done.
    pub(super) fn fail_deletes(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx, error: ErrorCode) {
        for op in self.table.get(ix).delete_waiters.clone() {
            let delayed = self.purgatory.deletes.get_mut(op).expect("waiters go with their request");
            for part in delayed.parts.iter_mut().filter(|p| p.pending && p.at == Some(ix)) {
                (part.pending, part.low_watermark, part.error) = (false, -1, error);
            }
            self.delete_progressed(ctx, ix, op);
        }
    }

    fn delete_progressed(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx, op: u32) {
        let delayed = self.purgatory.deletes.get_mut(op).expect("waiters go with their request");
        if !delayed.parts.iter().any(|p| p.pending && p.at == Some(ix)) {
            self.table.get_mut(ix).delete_waiters.retain(|w| *w != op);
        }
        if !delayed.parts.iter().any(|p| p.pending) {
            let delayed = self.purgatory.deletes.remove(op).expect("it is there");
            self.purgatory.timeouts.remove(&(delayed.deadline, Waiting::DeleteRecords(op)));
            answer(ctx, &delayed);
        }
    }

    /// The time of a waiting request is up.
    pub(super) fn delete_timed_out(&mut self, ctx: &mut Ctx<'_>, op: u32) {
        let mut delayed = self.purgatory.deletes.remove(op).expect("its time-out was there");
        for part in delayed.parts.iter_mut().filter(|p| p.pending) {
            part.error = ErrorCode::REQUEST_TIMED_OUT;
            let ix = part.at.expect("only what was located is pending");
            self.table.get_mut(ix).delete_waiters.retain(|w| *w != op);
        }
        answer(ctx, &delayed);
    }
}

fn answer(ctx: &mut Ctx<'_>, delayed: &DelayedDelete) {
    let mut response = DeleteRecordsResponse::default();
    for part in &delayed.parts {
        if response.topics.last().is_none_or(|t: &DeleteRecordsTopicResult<'_>| *t.name != *part.topic) {
            response
                .topics
                .push(DeleteRecordsTopicResult { name: Cow::Borrowed(&part.topic), ..Default::default() });
        }
        response.topics.last_mut().expect("one was pushed").partitions.push(DeleteRecordsPartitionResult {
            partition_index: part.index,
            low_watermark: part.low_watermark,
            error_code: part.error.0,
        });
    }
    ctx.net.respond(ctx.out, delayed.token, &response);
}

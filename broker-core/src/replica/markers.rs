//! WriteTxnMarkers: a transaction coordinator ends transactions in the partitions that this broker leads.
//!
//! Each marker is appended as a control batch and answered once every in-sync replica has it. A marker of a coordinator
//! or producer that was overtaken is refused; one that comes again is appended again, and changes nothing. Follows
//! Kafka's `KafkaApis.handleWriteTxnMarkersRequest`.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use smallvec::SmallVec;
use wire::batch::{BatchOptions, end_txn_marker_batch};
use wire::messages::write_txn_markers_request::WritableTxnMarker;
use wire::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use wire::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use wire::{ErrorCode, Rope};

use super::ReplicaManager;
use super::produce::{Answer, Part, Parts, Terms, Touched};
use super::session::{TopicKey, TopicRef};
use crate::coordinator::GROUP_TOPIC;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::log::{AppendTerms, Origin, Verification};
use crate::metadata::MetadataImage;
use crate::net::RequestToken;

/// A marker that was appended to a partition of `__consumer_offsets`: the offsets of its transaction are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetsMarker {
    /// The partition.
    pub partition: i32,
    /// The marker's offset.
    pub offset: i64,
    /// Whose transaction ended.
    pub producer_id: i64,
    /// With which epoch.
    pub producer_epoch: i16,
    /// Whether it is committed (else aborted).
    pub commit: bool,
}

impl ReplicaManager {
    /// Appends markers and answers when all of them are committed.
    pub fn handle_write_txn_markers(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        token: RequestToken,
        request: &WriteTxnMarkersRequest<'_>,
    ) {
        let deadline = ctx.now.mono + ctx.config.lifecycle.request_timeout;
        let terms = Terms { token, acks: -1, deadline, answer: Answer::Markers };
        let mut touched: SmallVec<[Touched; 4]> = SmallVec::new();
        let mut parts = Parts::new();
        for (at, marker) in request.markers.iter().enumerate() {
            for topic in &marker.topics {
                for &index in &topic.partition_indexes {
                    let topic = super::produce::key_of(image, TopicRef::Name(&topic.name));
                    let mut part = Part::refused(topic, index, ErrorCode::NONE);
                    part.marker = Some((at as u32, marker.producer_id));
                    if let Err(error) = self.append_marker(ctx, marker, &mut part, &mut touched) {
                        part.error = error;
                    }
                    parts.push(part);
                }
            }
        }
        self.appended_all(ctx, image, terms, parts, touched);
        self.finish(ctx, image);
    }

    fn append_marker(
        &mut self,
        ctx: &mut Ctx<'_>,
        marker: &WritableTxnMarker<'_>,
        part: &mut Part,
        touched: &mut SmallVec<[Touched; 4]>,
    ) -> Result<(), ErrorCode> {
        let ix = self.table.find(part.topic.as_ref(), part.index);
        let ix = ix.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        if !self.table.get(ix).may_append() {
            // The new leader's epoch is not durable yet: the coordinator comes again.
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        let commit = marker.transaction_result;
        let options = BatchOptions {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            ..BatchOptions::default()
        };
        let epoch = marker.coordinator_epoch;
        let batch = end_txn_marker_batch(ctx.codecs, &options, ctx.now.wall_ms, commit, epoch);
        let batch = Rope::from(batch.expect("a marker has no limits"));
        let terms_of_log = |leader_epoch| AppendTerms {
            leader_epoch,
            origin: Origin::Coordinator,
            verification: Verification::Off,
            transaction_version: marker.transaction_version,
        };
        self.append_to(ctx, -1, ix, &batch, terms_of_log, part, touched)?;
        let partition = self.table.get(ix);
        let offset = part.required_offset - 1;
        ctx.out.event(|| Event::TransactionMarkerAppended {
            partition: partition.name(),
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            commit,
            offset,
        });
        if &*partition.topic == GROUP_TOPIC {
            self.offsets_markers.push(OffsetsMarker {
                partition: part.index,
                offset,
                producer_id: marker.producer_id,
                producer_epoch: marker.producer_epoch,
                commit,
            });
        }
        Ok(())
    }

    /// Markers of transactions of offsets that were appended since the last call, in their order.
    pub fn take_offsets_markers(&mut self) -> Vec<OffsetsMarker> {
        core::mem::take(&mut self.offsets_markers)
    }

    /// Answers in the order of the request.
    pub(super) fn answer_markers(&mut self, ctx: &mut Ctx<'_>, terms: &Terms, parts: &Parts) {
        let mut response = WriteTxnMarkersResponse::default();
        let mut last = None;
        for part in parts {
            if part.marker != last {
                last = part.marker;
                let (_, producer_id) = part.marker.expect("only markers are answered so");
                let topics = Vec::new();
                response.markers.push(WritableTxnMarkerResult { producer_id, topics });
            }
            let TopicKey::Name(topic) = &part.topic else { unreachable!("markers name topics") };
            let topics = &mut response.markers.last_mut().expect("one was pushed").topics;
            if topics.last().is_none_or(|last| *last.name != **topic) {
                topics.push(WritableTxnMarkerTopicResult {
                    name: Cow::Borrowed(topic),
                    ..WritableTxnMarkerTopicResult::default()
                });
            }
            let partitions = &mut topics.last_mut().expect("one was pushed").partitions;
            partitions.push(WritableTxnMarkerPartitionResult {
                partition_index: part.index,
                error_code: part.error.0,
            });
        }
        ctx.net.respond(ctx.out, terms.token, &response);
    }
}

//! ListOffsets and OffsetForLeaderEpoch: where a log starts and ends, by time and by leader epoch.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use wire::ErrorCode;
use wire::messages::list_offsets_request::ListOffsetsPartition;
use wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use wire::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::ReplicaManager;
use super::session::TopicRef;
use crate::ctx::Ctx;
use crate::log::{ReadError, TimestampOffset};
use crate::metadata::MetadataImage;
use crate::mutant::Mutant;
use crate::net::RequestToken;

/// The end of what may be read.
pub const LATEST_TIMESTAMP: i64 = -1;
/// The log start offset.
pub const EARLIEST_TIMESTAMP: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL_TIMESTAMP: i64 = -4;
const LATEST_TIERED_TIMESTAMP: i64 = -5;
const EARLIEST_PENDING_UPLOAD_TIMESTAMP: i64 = -6;

const CONSUMER_REPLICA_ID: i32 = -1;
const DEBUGGING_REPLICA_ID: i32 = -2;

/// Whether a version knows a timestamp with a meaning of its own.
fn is_supported(timestamp: i64, version: i16) -> bool {
    match timestamp {
        0.. => true,
        LATEST_TIMESTAMP | EARLIEST_TIMESTAMP => version >= 1,
        MAX_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL_TIMESTAMP => version >= 8,
        LATEST_TIERED_TIMESTAMP => version >= 9,
        EARLIEST_PENDING_UPLOAD_TIMESTAMP => version >= 11,
        _ => false,
    }
}

/// Who asks, and how.
#[derive(Clone, Copy)]
struct Asker {
    version: i16,
    replica_id: i32,
    read_committed: bool,
}

impl ReplicaManager {
    /// Answers where partitions start, end, or hold a time.
    pub fn handle_list_offsets(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        token: RequestToken,
        request: &ListOffsetsRequest<'_>,
    ) {
        let asker = Asker {
            version: token.version,
            replica_id: request.replica_id,
            read_committed: request.isolation_level == 1,
        };
        let mut times_named: BTreeMap<(&str, i32), u32> = BTreeMap::new();
        for topic in &request.topics {
            for p in &topic.partitions {
                *times_named.entry((&topic.name, p.partition_index)).or_default() += 1;
            }
        }
        let mut response = ListOffsetsResponse::default();
        for topic in &request.topics {
            let mut answer =
                ListOffsetsTopicResponse { name: Cow::Borrowed(&topic.name), ..Default::default() };
            for p in &topic.partitions {
                let found = if times_named[&(&*topic.name, p.partition_index)] > 1 {
                    Err(ErrorCode::INVALID_REQUEST)
                } else {
                    self.list_offset(ctx, image, asker, &topic.name, p)
                };
                let mut one =
                    ListOffsetsPartitionResponse { partition_index: p.partition_index, ..Default::default() };
                match found {
                    Ok(Some(found)) => {
                        (one.timestamp, one.offset) = (found.timestamp, found.offset);
                        if asker.version >= 4 {
                            one.leader_epoch = found.leader_epoch;
                        }
                    }
                    Ok(None) => {}
                    Err(error) => one.error_code = error.0,
                }
                answer.partitions.push(one);
            }
            response.topics.push(answer);
        }
        ctx.net.respond(ctx.out, token, &response);
        self.finish(ctx, image);
    }

    fn list_offset(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        asker: Asker,
        topic: &str,
        asked: &ListOffsetsPartition,
    ) -> Result<Option<TimestampOffset>, ErrorCode> {
        if !is_supported(asked.timestamp, asker.version) {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        let name = TopicRef::Name(topic);
        let ix = self.table.find(name, asked.partition_index);
        let ix = ix.ok_or_else(|| super::not_hosted(image, name, asked.partition_index))?;
        let partition = self.table.get(ix);
        let leader_only = asker.replica_id != DEBUGGING_REPLICA_ID;
        let log = partition.local_log(asked.current_leader_epoch, leader_only)?;
        let is_client = asker.replica_id == CONSUMER_REPLICA_ID;
        let fetchable_end = match (is_client, asker.read_committed) {
            (false, _) => log.log_end_offset(),
            (true, false) => log.high_watermark(),
            (true, true) => log.last_stable_offset(),
        };
        // A new leader's high watermark may be behind the true one until its followers have fetched: it must not answer
        // with an end that consumers have already seen exceeded (KIP-207).
        let lags = is_client
            && partition.leading.as_ref().is_some_and(|l| l.epoch_start_offset > log.high_watermark())
            && !ctx.config.mutants.has(Mutant::EndOffsetBelowEpochStart);
        let not_available = || {
            Err(if asker.version >= 5 {
                ErrorCode::OFFSET_NOT_AVAILABLE
            } else {
                ErrorCode::LEADER_NOT_AVAILABLE
            })
        };
        let start = log.log_start_offset();
        let untimed = |offset, leader_epoch| TimestampOffset { timestamp: -1, offset, leader_epoch };
        let looked_up = match asked.timestamp {
            LATEST_TIMESTAMP if lags => return not_available(),
            LATEST_TIMESTAMP => return Ok(Some(untimed(fetchable_end, partition.leader_epoch))),
            EARLIEST_TIMESTAMP | EARLIEST_LOCAL_TIMESTAMP => {
                let first = log.epochs().first().filter(|e| e.start_offset <= start);
                return Ok(Some(untimed(start, first.map_or(-1, |e| e.epoch))));
            }
            // Nothing is tiered.
            LATEST_TIERED_TIMESTAMP | EARLIEST_PENDING_UPLOAD_TIMESTAMP => return Ok(None),
            MAX_TIMESTAMP => log.offset_of_max_timestamp(ctx.disk, ctx.codecs),
            timestamp => log.offset_for_timestamp(ctx.disk, ctx.codecs, timestamp, log.log_end_offset()),
        };
        let found = match looked_up {
            Ok(found) => found.filter(|found| found.offset < fetchable_end),
            Err(ReadError::Disk(error)) => {
                let dir = partition.dir;
                self.log_dir_failed(ctx, dir, &alloc::format!("{error}"));
                return Err(ErrorCode::KAFKA_STORAGE_ERROR);
            }
            Err(_) => return Err(ErrorCode::CORRUPT_MESSAGE),
        };
        if found.is_none() && lags { not_available() } else { Ok(found) }
    }

    /// Answers where leader epochs end (KIP-101, KIP-320).
    pub fn handle_offset_for_leader_epoch(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        token: RequestToken,
        request: &OffsetForLeaderEpochRequest<'_>,
    ) {
        let mut response = OffsetForLeaderEpochResponse::default();
        for topic in &request.topics {
            let mut answer =
                OffsetForLeaderTopicResult { topic: Cow::Borrowed(&topic.topic), ..Default::default() };
            for p in &topic.partitions {
                let name = TopicRef::Name(&topic.topic);
                let end = match self.table.find(name, p.partition) {
                    None => Err(super::not_hosted(image, name, p.partition)),
                    Some(ix) => self.table.get(ix).local_log(p.current_leader_epoch, true),
                };
                let mut one = EpochEndOffset { partition: p.partition, ..EpochEndOffset::default() };
                match end.map(|log| log.end_offset_for_epoch(p.leader_epoch)) {
                    Ok(end) => (one.leader_epoch, one.end_offset) = (end.epoch, end.offset),
                    Err(error) => one.error_code = error.0,
                }
                answer.partitions.push(one);
            }
            response.topics.push(answer);
        }
        ctx.net.respond(ctx.out, token, &response);
    }
}

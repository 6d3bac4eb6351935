//! Serving Fetch: reading, the follower's progress that a fetch reports, and the requests that wait for data.
//!
//! Follows Kafka's `KafkaApis.handleFetchRequest`, `ReplicaManager.readFromLog` and `DelayedFetch`. A response carries
//! the high watermark from before the fetch itself was taken into account, so a follower learns of an advance one
//! fetch later. A waiting request of a follower is completed by appends, one of a consumer by advances of the high
//! watermark; a change of leadership, an error or the end of its time completes both.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::drive::Instant;
use wire::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use wire::messages::{FetchRequest, FetchResponse};
use wire::{Compression, ErrorCode, Rope};

use super::ReplicaManager;
use super::hints::LeaderHint;
use super::partition::PartitionIx;
use super::purgatory::Waiting;
use super::session::{
    Begun, Entry, FollowerId, INVALID_SESSION_ID, SessionRequest, SetIx, TopicKey, TopicRef, Wanted,
};
use super::throttle::size_of;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::log::{EpochEnd, ReadError, TargetCompression};
use crate::metadata::MetadataImage;
use crate::mutant::Mutant;
use crate::net::RequestToken;

/// How far a fetcher may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Isolation {
    /// A follower: everything.
    LogEnd,
    /// A consumer: what is committed.
    #[default]
    HighWatermark,
    /// A consumer of committed transactions.
    LastStableOffset,
}

/// What becomes of the set of a request once it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchKind {
    Sessionless,
    Full,
    Incremental,
}

/// A Fetch request, without its partitions.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchOp {
    pub token: RequestToken,
    pub kind: FetchKind,
    pub isolation: Isolation,
    /// Only the leader may answer it.
    pub leader_only: bool,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub deadline: Instant,
}

/// What reading one partition gave.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub entry: u32,
    pub error: ErrorCode,
    /// The metadata does not know the partition: such errors do not hurry an answer.
    pub unknown: bool,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub diverging: Option<EpochEnd>,
    pub preferred_read_replica: i32,
    pub records: Rope,
    /// What a reader of committed transactions must know of the records.
    pub aborted: Vec<AbortedTransaction>,
    /// There is more in a later segment than this read could give.
    pub behind_a_segment: bool,
    /// So many bytes were read and are not given, because the follower is throttled.
    pub withheld: usize,
}

/// Why a partition could not be read.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    error: ErrorCode,
    unknown: bool,
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Refusal {
        Refusal { error, unknown: false }
    }
}

impl Read {
    fn refused(entry: u32, refusal: impl Into<Refusal>) -> Read {
        let Refusal { error, unknown } = refusal.into();
        Read {
            entry,
            error,
            unknown,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging: None,
            preferred_read_replica: -1,
            records: Rope::new(),
            aborted: Vec::new(),
            behind_a_segment: false,
            withheld: 0,
        }
    }

    /// Gives nothing of what was read.
    fn withhold(&mut self) {
        self.withheld = core::mem::take(&mut self.records).len();
        self.behind_a_segment = false;
    }

    /// Whether an incremental response must list the partition.
    pub(super) fn must_respond(&self, entry: &Entry) -> bool {
        !self.records.is_empty()
            || self.high_watermark != entry.told_high_watermark
            || self.log_start_offset != entry.told_log_start
            || self.preferred_read_replica >= 0
            || self.error.is_error()
            || self.diverging.is_some()
    }
}

impl ReplicaManager {
    /// Answers a Fetch of data, now or when there is enough of it.
    pub fn handle_fetch(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        token: RequestToken,
        request: &FetchRequest<'_>,
    ) {
        let follower = follower_of(request, token.version);
        let session = SessionRequest {
            session_id: request.session_id,
            session_epoch: request.session_epoch,
            uses_topic_ids: token.version >= 13,
            follower,
        };
        // A request that begins anew closes the session that it names.
        if session.is_full()
            && let Some(old) = self.sets.session(request.session_id)
        {
            self.end_set(ctx, image, old);
        }
        let (at, mut kind) = match self.sets.begin(ctx.now.mono, &session) {
            Begun::Sessionless(at) => (at, FetchKind::Sessionless),
            Begun::Full(at) => (at, FetchKind::Full),
            Begun::Incremental(at) => (at, FetchKind::Incremental),
            Begun::Refused(error) => return refuse(ctx, token, error, INVALID_SESSION_ID),
        };
        if let Some(overtaken) = self.unpark(at) {
            // The session has gone on without the request that waits: its answer would be out of order.
            let id = self.sets.get(at).session_id;
            refuse(ctx, overtaken.token, ErrorCode::INVALID_FETCH_SESSION_EPOCH, id);
        }
        let isolation = isolation_of(request, follower);
        self.take_wishes(ctx, image, at, request, follower, isolation);
        self.take_rack(at, request, token.version);
        if kind == FetchKind::Incremental && self.sets.get(at).is_empty() {
            self.sets.uncache(at);
            kind = FetchKind::Sessionless;
        }
        let mut max_bytes = request.max_bytes.min(self.settings.client_fetch_max_bytes);
        if follower.is_none() {
            max_bytes = max_bytes.min(ctx.net.most_to_fetch(ctx.now.mono, token));
        }
        let op = FetchOp {
            token,
            kind,
            isolation,
            leader_only: follower.is_some()
                || (request_is_consumer(request, token.version) && token.version < 11),
            min_bytes: request.min_bytes.min(max_bytes),
            max_bytes,
            deadline: ctx.now.mono.plus_millis(request.max_wait_ms.max(0) as u64),
        };
        self.serve(ctx, image, at, op, request.max_wait_ms);
        self.finish(ctx, image);
    }

    fn serve(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, at: SetIx, op: FetchOp, max_wait_ms: i32) {
        let reads = self.read_set(ctx, image, at, &op, false);
        let (mut bytes, mut unknown, mut hurry, mut behind) = (0, 0, false, false);
        for read in &reads {
            bytes += read.records.len();
            unknown += usize::from(read.unknown);
            behind |= read.behind_a_segment;
            hurry |= (read.error.is_error() && !read.unknown)
                || read.diverging.is_some()
                || read.preferred_read_replica >= 0;
        }
        let nothing_known = unknown == self.sets.get(at).len();
        let answer = max_wait_ms <= 0
            || nothing_known
            || hurry
            || bytes as i64 >= i64::from(op.min_bytes)
            || (behind && bytes > 0);
        // What this fetch has set free leaves before its own answer.
        self.complete_ready(ctx, image);
        if answer {
            self.answer_fetch(ctx, image, at, op, reads);
        } else {
            self.park(at, op, &reads);
            self.recycle(reads);
        }
    }

    /// Enters what the request says of its partitions into the set.
    fn take_wishes(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        at: SetIx,
        request: &FetchRequest<'_>,
        follower: Option<FollowerId>,
        isolation: Isolation,
    ) {
        let set = self.sets.get_mut(at);
        if set.follower != follower || set.isolation != isolation {
            (set.follower, set.isolation) = (follower, isolation);
            set.mark_all();
        }
        set.last_fetch_at = ctx.now.mono;
        let by_id = set.uses_topic_ids;
        for topic in &request.topics {
            let key = if by_id { TopicRef::Id(topic.topic_id) } else { TopicRef::Name(&topic.topic) };
            for p in &topic.partitions {
                let wanted = Wanted {
                    partition: p.partition,
                    current_leader_epoch: p.current_leader_epoch,
                    fetch_offset: p.fetch_offset,
                    last_fetched_epoch: p.last_fetched_epoch,
                    log_start_offset: p.log_start_offset,
                    max_bytes: p.partition_max_bytes,
                };
                set.want(key, wanted, || match key {
                    TopicRef::Id(id) => TopicKey::Id(id),
                    TopicRef::Name(name) => TopicKey::Name(match image.topics.topic_named(name) {
                        Some(topic) => topic.name.clone(),
                        None => Arc::from(name),
                    }),
                });
            }
        }
        for topic in &request.forgotten_topics_data {
            let key = if by_id { TopicRef::Id(topic.topic_id) } else { TopicRef::Name(&topic.topic) };
            for &partition in &topic.partitions {
                self.forget_entry(at, key, partition);
            }
        }
    }

    /// Where the consumer stands, when that decides from whom it reads.
    fn take_rack(&mut self, at: SetIx, request: &FetchRequest<'_>, version: i16) {
        let set = self.sets.get_mut(at);
        if !self.settings.rack_aware_selector || set.follower.is_some() || version < 11 {
            return;
        }
        let rack = Some(&*request.rack_id).filter(|rack| !rack.is_empty());
        if set.rack.as_deref() != rack {
            set.rack = rack.map(Arc::from);
        }
    }

    fn forget_entry(&mut self, at: SetIx, topic: TopicRef<'_>, partition: i32) {
        let set = self.sets.get(at);
        let Some(entry) = set.find(topic, partition) else { return };
        if let Some(ix) = set.entry(entry).at {
            self.settle_follower(at, entry);
            self.table.get_mut(ix).unwatch(at, entry);
        }
        self.sets.get_mut(at).forget(topic, partition);
    }

    /// Reads the dirty partitions of a set, in the session's order. A fetch that just came also reports the follower's
    /// progress; one that has waited did so when it came.
    fn read_set(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        at: SetIx,
        op: &FetchOp,
        from_purgatory: bool,
    ) -> Vec<Read> {
        let mut dirty = core::mem::take(&mut self.scratch_dirty);
        let mut reads = core::mem::take(&mut self.scratch_reads);
        self.sets.get_mut(at).dirty_in_order(&mut dirty);
        let (mut limit, mut min_one) = (op.max_bytes, true);
        for &entry in &dirty {
            let read = match self.read_entry(ctx, image, at, entry, op, limit, min_one, from_purgatory) {
                Ok(read) => read,
                Err(refusal) => Read::refused(entry, refusal),
            };
            if !read.records.is_empty() {
                // The first partition with data gives at least one batch, whatever the limits; the others obey them.
                min_one = false;
                limit = limit.saturating_sub(read.records.len() as i32).max(0);
            }
            reads.push(read);
        }
        dirty.clear();
        self.scratch_dirty = dirty;
        reads
    }

    #[allow(clippy::too_many_arguments, reason = "one partition's part of a request; all of it is needed")]
    fn read_entry(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        at: SetIx,
        entry: u32,
        op: &FetchOp,
        limit: i32,
        min_one: bool,
        from_purgatory: bool,
    ) -> Result<Read, Refusal> {
        let ix = self.locate_entry(image, at, entry)?;
        let set = self.sets.get(at);
        let (wanted, follower) = (set.entry(entry).wanted, set.follower);
        let partition = self.table.get(ix);
        let log = partition.local_log(wanted.current_leader_epoch, op.leader_only)?;
        if let Some(follower) = follower
            && partition.leading.as_ref().is_none_or(|l| l.follower(follower.id).is_none())
        {
            // Its assignment may not have reached this broker yet: let it try again.
            let told_epoch = wanted.current_leader_epoch >= 0;
            return Err(Refusal::from(if told_epoch {
                ErrorCode::UNKNOWN_LEADER_EPOCH
            } else {
                ErrorCode::NOT_LEADER_OR_FOLLOWER
            }));
        }
        if let Some(replica) = self.preferred_read_replica(image, at, ix, &wanted) {
            let log = self.table.get(ix).log();
            return Ok(Read {
                high_watermark: log.high_watermark(),
                last_stable_offset: log.last_stable_offset(),
                log_start_offset: log.log_start_offset(),
                preferred_read_replica: replica,
                ..Read::refused(entry, ErrorCode::NONE)
            });
        }
        let (high_watermark, log_end_offset) = (log.high_watermark(), log.log_end_offset());
        let mut read = Read {
            high_watermark,
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: log.log_start_offset(),
            ..Read::refused(entry, ErrorCode::NONE)
        };
        if wanted.last_fetched_epoch >= 0 {
            read.diverging = divergence(log, &wanted)?;
            if read.diverging.is_some() {
                // The follower does not have what it asks to continue: it must not count as progress (KAFKA-13141).
                if let Some(follower) = follower
                    && ctx.config.mutants.has(Mutant::DivergingFetchCounts)
                {
                    self.follower_fetched(ctx, image, ix, follower, &wanted, log_end_offset)?;
                }
                return Ok(read);
            }
        }
        let up_to = match op.isolation {
            Isolation::LogEnd => log_end_offset,
            _ if ctx.config.mutants.has(Mutant::FetchAboveHighWatermark) => log_end_offset,
            Isolation::HighWatermark => high_watermark,
            _ if ctx.config.mutants.has(Mutant::ReadCommittedToHighWatermark) => high_watermark,
            Isolation::LastStableOffset => read.last_stable_offset,
        };
        if wanted.fetch_offset != up_to || wanted.fetch_offset < read.log_start_offset {
            let bytes = wanted.max_bytes.min(limit).max(0) as usize;
            match log.read(ctx.disk, wanted.fetch_offset, up_to, bytes, min_one) {
                Ok(data) => {
                    read.behind_a_segment =
                        wanted.fetch_offset < up_to && data.start.segment_base < log.active_segment_base();
                    read.records = data.records;
                    if op.isolation == Isolation::LastStableOffset && !read.records.is_empty() {
                        read.aborted = aborted_transactions(log, wanted.fetch_offset, &read.records);
                    }
                }
                Err(error) => return Err(self.read_failed(ctx, ix, error).into()),
            }
        }
        if let Some(follower) = follower
            && !from_purgatory
        {
            self.follower_fetched(ctx, image, ix, follower, &wanted, log_end_offset)?;
        }
        if let Some(follower) = follower
            && !read.records.is_empty()
            && self.leader_throttles(ix, follower.id, ctx.now.mono)
        {
            read.withhold();
        }
        Ok(read)
    }

    /// Where an entry's partition is; the sets of sessions remember it and are told of its changes.
    fn locate_entry(&mut self, image: &MetadataImage, at: SetIx, entry: u32) -> Result<PartitionIx, Refusal> {
        let set = self.sets.get(at);
        let watching = set.watching;
        let e = set.entry(entry);
        if let Some(ix) = e.at {
            return Ok(ix);
        }
        match self.table.find(e.topic.as_ref(), e.wanted.partition) {
            Some(ix) => {
                if watching {
                    self.watch(at, entry, ix);
                }
                Ok(ix)
            }
            None => {
                let error = super::not_hosted(image, e.topic.as_ref(), e.wanted.partition);
                let unknown = error != ErrorCode::NOT_LEADER_OR_FOLLOWER;
                Err(Refusal { error, unknown })
            }
        }
    }

    fn watch(&mut self, at: SetIx, entry: u32, ix: PartitionIx) {
        self.sets.get_mut(at).entry_mut(entry).at = Some(ix);
        self.table.get_mut(ix).watchers.push((at, entry));
    }

    /// Lets partitions tell the set of changes from now on.
    fn watch_all(&mut self, at: SetIx) {
        if core::mem::replace(&mut self.sets.get_mut(at).watching, true) {
            return;
        }
        for entry in 0..self.sets.get(at).slots() {
            let Some(e) = self.sets.get(at).live_entry(entry) else { continue };
            if let Some(ix) = self.table.find(e.topic.as_ref(), e.wanted.partition) {
                self.watch(at, entry, ix);
            }
        }
    }

    /// Which replica a consumer should rather read from than from this leader (KIP-392): with the rack-aware selector,
    /// of the in-sync replicas of its rack that have the offset the one with most (`RackAwareReplicaSelector`).
    fn preferred_read_replica(
        &self,
        image: &MetadataImage,
        at: SetIx,
        ix: PartitionIx,
        wanted: &Wanted,
    ) -> Option<i32> {
        let rack = self.sets.get(at).rack.as_deref()?;
        let leading = self.table.get(ix).leading.as_ref()?;
        let stands_there =
            |id: i32| image.broker(id).is_some_and(|b| !b.fenced && b.rack.as_deref() == Some(rack));
        if stands_there(self.node_id) {
            return None;
        }
        let has_it =
            |f: &super::isr::Follower| (f.log_start_offset..=f.log_end_offset).contains(&wanted.fetch_offset);
        let near = leading.followers.iter().filter(|f| leading.isr.committed.contains(&f.id));
        let near = near.filter(|f| f.log_start_offset >= 0 && has_it(f) && stands_there(f.id));
        near.max_by_key(|f| (f.log_end_offset, f.last_caught_up_at, f.id)).map(|f| f.id)
    }

    pub(super) fn read_failed(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx, error: ReadError) -> ErrorCode {
        match error {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            ReadError::Corrupt { .. } => ErrorCode::CORRUPT_MESSAGE,
            ReadError::Disk(error) => {
                let dir = self.table.get(ix).dir;
                self.log_dir_failed(ctx, dir, &alloc::format!("{error}"));
                ErrorCode::KAFKA_STORAGE_ERROR
            }
        }
    }

    // --- waiting

    fn park(&mut self, at: SetIx, op: FetchOp, reads: &[Read]) {
        self.watch_all(at);
        let set = self.sets.get_mut(at);
        set.accumulated = 0;
        for read in reads {
            let entry = set.entry_mut(read.entry);
            (entry.available, entry.withheld) = (read.records.len(), read.withheld);
            set.accumulated += read.records.len();
        }
        assert!(set.parked.is_none(), "one request of a session at a time");
        set.parked = Some(op);
        self.purgatory.timeouts.insert((op.deadline, Waiting::Fetch(at)));
    }

    /// Takes the request that waits, if one does.
    fn unpark(&mut self, at: SetIx) -> Option<FetchOp> {
        let op = self.sets.get_mut(at).parked.take()?;
        let was_there = self.purgatory.timeouts.remove(&(op.deadline, Waiting::Fetch(at)));
        assert!(was_there, "a waiting request has a time-out");
        Some(op)
    }

    /// Answers a request that waited, with whatever there is.
    pub(super) fn complete_fetch(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, at: SetIx) {
        let Some(op) = self.unpark(at) else { return };
        let reads = self.read_set(ctx, image, at, &op, true);
        self.answer_fetch(ctx, image, at, op, reads);
    }

    /// Answers every waiting request that something new was found for.
    pub(super) fn complete_ready(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage) {
        while let Some(at) = self.ready.pop_front() {
            self.sets.get_mut(at).ready = false;
            self.complete_fetch(ctx, image, at);
        }
    }

    /// Ends a set: what waits is answered, and nobody watches for it any more.
    pub(super) fn end_set(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, at: SetIx) {
        self.sets.uncache(at);
        match self.unpark(at) {
            Some(op) => {
                let reads = self.read_set(ctx, image, at, &op, true);
                // A set without a session goes with its answer.
                self.answer_fetch(ctx, image, at, op, reads);
            }
            None => self.drop_set(at),
        }
    }

    pub(super) fn drop_set(&mut self, at: SetIx) {
        for entry in 0..self.sets.get(at).slots() {
            let Some(ix) = self.sets.get(at).live_entry(entry).and_then(|e| e.at) else { continue };
            self.settle_follower(at, entry);
            self.table.get_mut(ix).unwatch(at, entry);
        }
        let set = self.sets.remove(at);
        assert!(set.parked.is_none(), "a request that waits is answered before its set goes");
        if set.ready {
            self.ready.retain(|ready| *ready != at);
        }
    }

    fn recycle(&mut self, mut reads: Vec<Read>) {
        reads.clear();
        self.scratch_reads = reads;
    }

    // --- answering

    fn answer_fetch(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        at: SetIx,
        op: FetchOp,
        mut reads: Vec<Read>,
    ) {
        for read in &mut reads {
            self.adapt_to_version(at, read, op.token.version);
        }
        if let Some(ms) = self.throttle_client(ctx, image, at, op, &reads) {
            self.answer_throttled(ctx, at, op, ms);
            return self.recycle(reads);
        }
        let session_id = match op.kind {
            FetchKind::Sessionless => INVALID_SESSION_ID,
            FetchKind::Full => self.try_session(ctx, image, at),
            FetchKind::Incremental => {
                let set = self.sets.get(at);
                reads.retain(|read| read.must_respond(set.entry(read.entry)));
                set.session_id
            }
        };
        for read in &reads {
            let gave = !read.records.is_empty() || read.error.is_error() || read.diverging.is_some();
            self.sets.get_mut(at).entry_mut(read.entry).gave = gave;
        }
        let throttled_bytes = self.send_response(ctx, image, at, op, session_id, &mut reads);
        if let Some(bytes) = throttled_bytes {
            self.quotas.leader.record(bytes, ctx.now.mono);
        }
        if self.sets.get(at).session_id == INVALID_SESSION_ID {
            self.drop_set(at);
        } else {
            self.told(at, op.kind, &reads);
        }
        self.recycle(reads);
    }

    /// Makes a session of a full request, if the cache has room; its id.
    fn try_session(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, at: SetIx) -> i32 {
        if self.sets.get(at).is_empty() {
            return INVALID_SESSION_ID;
        }
        let (cached, evicted) = self.sets.try_cache(at, ctx.now.mono, ctx.rng);
        if let Some(evicted) = evicted {
            self.end_set(ctx, image, evicted);
        }
        if cached {
            self.watch_all(at);
        }
        self.sets.get(at).session_id
    }

    /// The peer knows now what the response said; entries with nothing more to tell become clean.
    fn told(&mut self, at: SetIx, kind: FetchKind, reads: &[Read]) {
        let set = self.sets.get_mut(at);
        set.reset_available();
        for read in reads {
            let entry = set.entry_mut(read.entry);
            // After an error the partition is told again as soon as the error is gone.
            entry.told_high_watermark = if read.error.is_error() { -1 } else { read.high_watermark };
            entry.told_log_start = read.log_start_offset;
            if kind == FetchKind::Incremental
                && entry.gave
                && read.error.is_none()
                && read.diverging.is_none()
            {
                set.move_to_end(read.entry);
            }
        }
        let (table, follower, isolation) = (&self.table, set.follower, set.isolation);
        set.clean(|_, entry| {
            let gave = core::mem::take(&mut entry.gave);
            let Some(ix) = entry.at else { return true };
            let partition = table.get(ix);
            let Some(log) = &partition.log else { return true };
            let settled_follower = follower.is_none_or(|f| {
                let leading = partition.leading.as_ref();
                leading.is_some_and(|l| l.isr.committed.contains(&f.id) && l.follower(f.id).is_some())
            });
            let up_to = match isolation {
                Isolation::LogEnd => log.log_end_offset(),
                Isolation::HighWatermark => log.high_watermark(),
                Isolation::LastStableOffset => log.last_stable_offset(),
            };
            let epoch_holds = partition.check_epoch(entry.wanted.current_leader_epoch).is_ok();
            let quiet = !gave
                && settled_follower
                && epoch_holds
                && entry.wanted.fetch_offset >= up_to
                && entry.told_high_watermark == log.high_watermark()
                && entry.told_log_start == log.log_start_offset();
            !quiet
        });
    }

    /// What old versions cannot express.
    fn adapt_to_version(&self, at: SetIx, read: &mut Read, version: i16) {
        if version < 10
            && let Some(ix) = self.sets.get(at).entry(read.entry).at.or_else(|| {
                let e = self.sets.get(at).entry(read.entry);
                self.table.find(e.topic.as_ref(), e.wanted.partition)
            })
            && let Some(log) = &self.table.get(ix).log
            && matches!(log.config().compression, TargetCompression::Fixed { codec: Compression::Zstd, .. })
        {
            *read = Read::refused(read.entry, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
        }
        if version <= 5 && read.error == ErrorCode::KAFKA_STORAGE_ERROR {
            read.error = ErrorCode::NOT_LEADER_OR_FOLLOWER;
        }
    }

    /// Sends a response. If it counts for the leader's quota, what it comes to with nothing in it but what is throttled.
    fn send_response(
        &self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        at: SetIx,
        op: FetchOp,
        session_id: i32,
        reads: &mut [Read],
    ) -> Option<usize> {
        let mut throttled =
            (self.sets.get(at).follower.is_some() && self.quotas.leader.is_used()).then(Vec::new);
        let mut hints: Vec<LeaderHint<'_>> = Vec::new();
        let responses = self.topic_responses(image, at, op, reads, &mut hints, throttled.as_mut());
        let mut response = FetchResponse { session_id, responses, ..FetchResponse::default() };
        for hint in &hints {
            let Some(node) = &hint.node else { continue };
            response.node_endpoints.push(NodeEndpoint {
                node_id: hint.leader,
                host: Cow::Borrowed(node.host),
                port: i32::from(node.port),
                rack: node.rack.map(Cow::Borrowed),
            });
        }
        ctx.net.respond(ctx.out, op.token, &response);
        throttled.map(|responses| size_of(op.token.version, responses))
    }

    /// What a response says of partitions. It takes the records out of `reads`, and puts what is listed as throttled into
    /// `throttled` as well.
    pub(super) fn topic_responses<'s>(
        &'s self,
        image: &'s MetadataImage,
        at: SetIx,
        op: FetchOp,
        reads: &mut [Read],
        hints: &mut Vec<LeaderHint<'s>>,
        mut throttled: Option<&mut Vec<FetchableTopicResponse<'s>>>,
    ) -> Vec<FetchableTopicResponse<'s>> {
        let set = self.sets.get(at);
        let mut responses = Vec::new();
        for unknown in [false, true] {
            for read in reads.iter_mut().filter(|r| r.unknown == unknown) {
                let entry = set.entry(read.entry);
                let mut data = partition_data(entry, op.isolation, read);
                if op.token.version >= 16
                    && matches!(
                        read.error,
                        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH
                    )
                {
                    let hint = self.leader_hint(image, entry.topic.as_ref(), entry.wanted.partition);
                    data.current_leader =
                        LeaderIdAndEpoch { leader_id: hint.leader, leader_epoch: hint.leader_epoch };
                    LeaderHint::add(hints, hint);
                }
                if let Some(throttled) = &mut throttled
                    && self.is_listed(entry)
                {
                    push_partition(throttled, &entry.topic, data.clone());
                }
                push_partition(&mut responses, &entry.topic, data);
            }
        }
        responses
    }

    // --- followers

    /// A follower's fetch tells how far it is: it may join the ISR, and the high watermark may move.
    fn follower_fetched(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        ix: PartitionIx,
        follower: FollowerId,
        wanted: &Wanted,
        leader_log_end_offset: i64,
    ) -> Result<(), ErrorCode> {
        let stale = self.brokers.is_stale(follower.id, follower.broker_epoch);
        if stale && !ctx.config.mutants.has(Mutant::StaleReplicaJoins) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        let partition = self.table.get_mut(ix);
        let leading = partition.leading.as_mut().expect("checked before the read");
        let state = leading.follower_mut(follower.id).expect("checked before the read");
        let moved = state.log_end_offset != wanted.fetch_offset;
        let log_start_moved = state.log_start_offset != wanted.log_start_offset;
        state.fetched(
            wanted.fetch_offset,
            wanted.log_start_offset,
            ctx.now.mono,
            leader_log_end_offset,
            follower.broker_epoch,
        );
        if leading.isr.pending.is_none() && !leading.isr.committed.contains(&follower.id) {
            self.maybe_expand_isr(ctx, ix, follower.id);
        }
        if moved {
            self.advance_high_watermark(ctx, image, ix);
        }
        if log_start_moved {
            self.check_low_watermark(ctx, ix);
        }
        Ok(())
    }

    /// Records the fetches of a follower since this entry was last looked at: each found nothing new.
    ///
    /// While an entry is clean the follower's position, the leader's log end and the ISR stand still, so that all its
    /// fetches amount to the latest one.
    fn settle_follower(&mut self, at: SetIx, entry: u32) {
        let set = self.sets.get(at);
        let (Some(follower), e) = (set.follower, set.entry(entry)) else { return };
        let Some(ix) = e.at else { return };
        if set.is_dirty(entry) || self.brokers.is_stale(follower.id, follower.broker_epoch) {
            return;
        }
        let (fetch_offset, log_start, fetched_at) =
            (e.wanted.fetch_offset, e.wanted.log_start_offset, set.last_fetch_at);
        let partition = self.table.get_mut(ix);
        let Some(state) = partition.leading.as_mut().and_then(|l| l.follower_mut(follower.id)) else {
            return;
        };
        state.fetched(fetch_offset, log_start, fetched_at, fetch_offset, follower.broker_epoch);
    }

    // --- what partitions tell

    /// The log of a leader grows by `bytes`; called before its log end offset is used for anything else.
    pub(super) fn notify_appended(&mut self, now: Instant, ix: PartitionIx, bytes: usize, rolled: bool) {
        let listed = self.table.get(ix).throttled.leader;
        for i in 0..self.table.get(ix).watchers.len() {
            let (at, entry) = self.table.get(ix).watchers[i];
            if self.sets.get(at).isolation != Isolation::LogEnd {
                continue;
            }
            self.settle_follower(at, entry);
            let set = self.sets.get_mut(at);
            set.mark(entry);
            let Some(op) = &set.parked else { continue };
            let (min_bytes, limit) = (op.min_bytes, op.max_bytes);
            let bytes = match listed {
                true => self.let_through(now, ix, at, entry, bytes),
                false => Some(bytes),
            };
            let Some(bytes) = bytes else { continue };
            let set = self.sets.get_mut(at);
            let e = set.entry_mut(entry);
            let was_behind = rolled && e.available > 0;
            let more = bytes.min((e.wanted.max_bytes.max(0) as usize).saturating_sub(e.available)).max(1);
            e.available += more;
            set.accumulated += more;
            if was_behind || set.accumulated as i64 >= i64::from(min_bytes.min(limit)) {
                self.wake(at);
            }
        }
    }

    /// The high watermark moved: consumers may read on, and followers must be told with their next fetch.
    pub(super) fn notify_high_watermark(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx) {
        for i in 0..self.table.get(ix).watchers.len() {
            let (at, entry) = self.table.get(ix).watchers[i];
            self.settle_follower(at, entry);
            let set = self.sets.get_mut(at);
            set.mark(entry);
            let Some(op) = &set.parked else { continue };
            if op.isolation == Isolation::LogEnd {
                continue;
            }
            let (min_bytes, isolation) = (op.min_bytes, op.isolation);
            let before = set.entry(entry).available;
            let wanted = set.entry(entry).wanted;
            let log = self.table.get(ix).log();
            let up_to = match isolation {
                Isolation::LastStableOffset => log.last_stable_offset(),
                _ => log.high_watermark(),
            };
            if wanted.fetch_offset >= up_to {
                continue;
            }
            let now_available = if min_bytes <= 1 {
                1
            } else {
                let limit = wanted.max_bytes.max(0) as usize;
                log.read(ctx.disk, wanted.fetch_offset, up_to, limit, true)
                    .map_or(usize::MAX / 2, |d| d.records.len())
            };
            let set = self.sets.get_mut(at);
            set.entry_mut(entry).available = now_available;
            set.accumulated = set.accumulated.saturating_sub(before).saturating_add(now_available);
            if set.accumulated as u64 >= min_bytes.max(0) as u64 {
                self.wake(at);
            }
        }
    }

    /// Something else changed: leadership, an epoch, the log start, a truncation. With `wake` waiting requests are
    /// answered, since what they were promised no longer holds.
    pub(super) fn notify_changed(&mut self, ix: PartitionIx, wake: bool) {
        for i in 0..self.table.get(ix).watchers.len() {
            let (at, entry) = self.table.get(ix).watchers[i];
            self.settle_follower(at, entry);
            self.sets.get_mut(at).mark(entry);
            if wake {
                self.wake(at);
            }
        }
    }

    /// The partition leaves this broker: its watchers must look it up again.
    pub(super) fn detach_watchers(&mut self, ix: PartitionIx) {
        self.notify_changed(ix, true);
        for (at, entry) in core::mem::take(&mut self.table.get_mut(ix).watchers) {
            self.sets.get_mut(at).entry_mut(entry).at = None;
        }
    }

    fn wake(&mut self, at: SetIx) {
        let set = self.sets.get_mut(at);
        if set.parked.is_some() && !core::mem::replace(&mut set.ready, true) {
            self.ready.push_back(at);
        }
    }

    /// An event for what a peer was refused.
    pub(super) fn fetch_failed(&self, ctx: &mut Ctx<'_>, ix: PartitionIx, error: ErrorCode) {
        let partition = self.table.get(ix);
        ctx.out.event(|| Event::FetchFailed { partition: partition.name(), error: error.name().into() });
    }
}

fn follower_of(request: &FetchRequest<'_>, version: i16) -> Option<FollowerId> {
    let (id, broker_epoch) = if version >= 15 {
        (request.replica_state.replica_id, request.replica_state.replica_epoch)
    } else {
        (request.replica_id, -1)
    };
    (id >= 0).then_some(FollowerId { id, broker_epoch })
}

fn request_is_consumer(request: &FetchRequest<'_>, version: i16) -> bool {
    let id = if version >= 15 { request.replica_state.replica_id } else { request.replica_id };
    id == -1
}

fn isolation_of(request: &FetchRequest<'_>, follower: Option<FollowerId>) -> Isolation {
    match (follower, request.isolation_level) {
        (Some(_), _) => Isolation::LogEnd,
        (None, 1) => Isolation::LastStableOffset,
        (None, _) => Isolation::HighWatermark,
    }
}

/// Where the peer's log parts from this one, if it does (KIP-595).
fn divergence(log: &crate::log::Log, wanted: &Wanted) -> Result<Option<EpochEnd>, ErrorCode> {
    let end = log.end_offset_for_epoch(wanted.last_fetched_epoch);
    if end.epoch < 0 || end.offset < 0 || wanted.fetch_offset < log.log_start_offset() {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let without_epoch = log.config().mutants.has(Mutant::EpochEndWithoutEpoch);
    let diverges =
        !without_epoch && end.epoch < wanted.last_fetched_epoch || end.offset < wanted.fetch_offset;
    Ok(diverges.then_some(end))
}

/// The aborted transactions of which a record may be among those that were read.
fn aborted_transactions(log: &crate::log::Log, from: i64, records: &Rope) -> Vec<AbortedTransaction> {
    if !log.has_aborted_transactions(from) {
        return Vec::new();
    }
    let last = wire::batch::HeaderIter::new(records).map_while(Result::ok).last();
    let up_to = last.map_or(from, |(_, header)| header.next_offset());
    let aborted = log.aborted_transactions(from, up_to);
    let told = |txn: wire::records::AbortedTxn| AbortedTransaction {
        producer_id: txn.producer_id,
        first_offset: txn.first_offset,
    };
    aborted.into_iter().map(told).collect()
}

fn refuse(ctx: &mut Ctx<'_>, token: RequestToken, error: ErrorCode, session_id: i32) {
    let response = FetchResponse { error_code: error.0, session_id, ..FetchResponse::default() };
    ctx.net.respond(ctx.out, token, &response);
}

fn partition_data(entry: &Entry, isolation: Isolation, read: &mut Read) -> PartitionData {
    let diverging = read.diverging.map_or_else(EpochEndOffset::default, |end| EpochEndOffset {
        epoch: end.epoch,
        end_offset: end.offset,
    });
    let readable = read.error.is_none() && read.diverging.is_none() && read.preferred_read_replica < 0;
    PartitionData {
        partition_index: entry.wanted.partition,
        error_code: read.error.0,
        high_watermark: read.high_watermark,
        last_stable_offset: read.last_stable_offset,
        log_start_offset: read.log_start_offset,
        diverging_epoch: diverging,
        aborted_transactions: (isolation == Isolation::LastStableOffset && readable)
            .then(|| core::mem::take(&mut read.aborted)),
        preferred_read_replica: read.preferred_read_replica,
        records: Some(core::mem::take(&mut read.records)),
        ..PartitionData::default()
    }
}

fn push_partition<'s>(
    topics: &mut Vec<FetchableTopicResponse<'s>>,
    topic: &'s TopicKey,
    data: PartitionData,
) {
    let same = topics.last().is_some_and(|last| match topic {
        TopicKey::Id(id) => last.topic_id == *id,
        TopicKey::Name(name) => *last.topic == **name,
    });
    if !same {
        let mut new = FetchableTopicResponse::default();
        match topic {
            TopicKey::Id(id) => new.topic_id = *id,
            TopicKey::Name(name) => new.topic = Cow::Borrowed(name),
        }
        topics.push(new);
    }
    topics.last_mut().expect("one was pushed").partitions.push(data);
}

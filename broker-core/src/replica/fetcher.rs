//! Following leaders: one fetcher for each broker that leads partitions which this one follows.
//!
//! Follows Kafka's `AbstractFetcherThread`, `ReplicaFetcherThread`, `RemoteLeaderEndPoint` and `FetchSessionHandler`:
//! one Fetch at a time, in a fetch session (KIP-227), with leader epochs (KIP-320) and truncation on the diverging
//! epoch that a response carries (KIP-595). A partition that fails for a while waits `replica.fetch.backoff.ms`; one
//! that cannot go on before its leadership changes is left alone until then. One that is throttled and not in sync is
//! left out of the requests while the follower's quota is exceeded (KIP-73).
//!
//! A round costs what changed: only partitions whose position moved are named in a request, and only those with news
//! are named in its answer.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use wire::drive::Instant;
use wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use wire::messages::fetch_response::PartitionData;
use wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::messages::{FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse};
use wire::{ErrorCode, Message, Reader, Rope, Uuid};

use super::ReplicaManager;
use super::hash::LookupMap;
use super::offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use super::partition::PartitionIx;
use super::session::{FINAL_EPOCH, INVALID_SESSION_ID, next_epoch};
use super::slab::Slab;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::log::{AppendError, AppendInfo, EpochEnd, Log};
use crate::metadata::{MetadataImage, TopicIdPartition};
use crate::mutant::Mutant;
use crate::net::{Call, CallOutcome, ConnClass, Peer};

/// What brokers of metadata.version 4.3 send to each other.
const FETCH_VERSION: i16 = 18;
const LIST_OFFSETS_VERSION: i16 = 11;

/// What is kept of a fetcher's request until its answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchCall {
    leader: i32,
    /// Tells the answers of a fetcher that was stopped from those of its successor.
    fetcher: u64,
    what: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Records,
    /// Where the leader's log ends, because this replica's position is outside of it.
    LatestOffset {
        partition: TopicIdPartition,
        leader_epoch: i32,
    },
    /// Where it starts.
    EarliestOffset {
        partition: TopicIdPartition,
        leader_epoch: i32,
    },
}

/// What a fetch met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The position lies outside of the leader's log.
    OutOfRange,
    /// It may go better next time.
    Retry,
    /// It would fail again, until the leadership changes.
    Failed,
}

/// Whether a partition takes part in the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fetching,
    /// After an error, until then.
    Delayed(Instant),
    /// Its position is out of range; the leader is asked for a better one.
    Resetting,
    /// Until the quota allows.
    Throttled,
}

/// One partition that a fetcher follows.
#[derive(Clone, Debug)]
struct Followed {
    at: PartitionIx,
    id: TopicIdPartition,
    leader_epoch: i32,
    fetch_offset: i64,
    last_fetched_epoch: Option<i32>,
    /// How far it was behind the leader's high watermark when it last appended something; absent before the first
    /// answer.
    lag: Option<i64>,
    state: State,
    /// Position and epoch that the leader was last told: an answer counts only while they hold.
    requested: Option<(i64, i32)>,
    /// To be named in the next request.
    changed: bool,
    /// The fetcher stands still until what was appended is flushed.
    flushing: bool,
}

impl Followed {
    /// In sync as a follower sees it.
    fn is_in_sync(&self) -> bool {
        self.lag == Some(0)
    }
}

/// The follower of one leader.
#[derive(Clone, Debug)]
pub(super) struct Fetcher {
    number: u64,
    session_id: i32,
    session_epoch: i32,
    followed: Slab<Followed>,
    index: LookupMap<TopicIdPartition, u32>,
    len: usize,
    changed: Vec<u32>,
    /// What the leader's session holds.
    in_session: BTreeSet<TopicIdPartition>,
    /// In the session, and perhaps no longer to be there.
    leaving: Vec<TopicIdPartition>,
    delayed: BTreeSet<(Instant, u32)>,
    /// Partitions that the topic's list throttles, and perhaps some that it throttled.
    listed: BTreeSet<u32>,
    /// When to look again whether the quota allows something, while nothing else is fetched.
    look_again: Option<Instant>,
    in_flight: bool,
    /// ListOffsets requests and flushes under way; Kafka's fetcher does nothing else meanwhile.
    busy: u32,
}

impl Fetcher {
    fn new(number: u64) -> Fetcher {
        Fetcher {
            number,
            session_id: INVALID_SESSION_ID,
            session_epoch: 0,
            followed: Slab::default(),
            index: LookupMap::default(),
            len: 0,
            changed: Vec::new(),
            in_session: BTreeSet::new(),
            leaving: Vec::new(),
            delayed: BTreeSet::new(),
            listed: BTreeSet::new(),
            look_again: None,
            in_flight: false,
            busy: 0,
        }
    }

    fn get(&mut self, slot: u32) -> &mut Followed {
        self.followed.get_mut(slot).expect("a followed partition")
    }

    fn find(&mut self, id: TopicIdPartition) -> Option<u32> {
        self.index.get(&id).copied()
    }

    fn mark(&mut self, slot: u32) {
        if !core::mem::replace(&mut self.get(slot).changed, true) {
            self.changed.push(slot);
        }
    }

    fn add(&mut self, followed: Followed) {
        let id = followed.id;
        self.remove(id);
        let slot = self.followed.insert(followed);
        self.index.insert(id, slot);
        self.len += 1;
        self.mark(slot);
    }

    /// Stops following a partition; the leader's session hears of it with the next request.
    fn remove(&mut self, id: TopicIdPartition) {
        let Some(slot) = self.index.remove(&id) else { return };
        let gone = self.followed.remove(slot).expect("indexed partitions are followed");
        self.len -= 1;
        if gone.changed {
            self.changed.retain(|c| *c != slot);
        }
        if gone.flushing {
            self.busy -= 1;
        }
        if let State::Delayed(until) = gone.state {
            self.delayed.remove(&(until, slot));
        }
        self.listed.remove(&slot);
        self.leave_session(id);
    }

    fn leave_session(&mut self, id: TopicIdPartition) {
        if self.in_session.contains(&id) {
            self.leaving.push(id);
        }
    }

    /// Takes a partition out of the requests for a while.
    fn delay(&mut self, slot: u32, until: Instant) {
        let followed = self.get(slot);
        if let State::Delayed(_) = followed.state {
            return;
        }
        followed.state = State::Delayed(until);
        followed.requested = None;
        let id = followed.id;
        self.delayed.insert((until, slot));
        self.leave_session(id);
    }

    fn delay_all(&mut self, until: Instant) {
        let fetching: Vec<u32> =
            self.followed.iter().filter(|(_, f)| f.state == State::Fetching).map(|(slot, _)| slot).collect();
        fetching.into_iter().for_each(|slot| self.delay(slot, until));
    }

    /// Takes a partition out of the requests until the quota allows.
    fn hold_back(&mut self, slot: u32) {
        let followed = self.get(slot);
        (followed.state, followed.requested) = (State::Throttled, None);
        let id = followed.id;
        self.leave_session(id);
    }

    /// Back into the requests.
    fn resume(&mut self, slot: u32) {
        self.get(slot).state = State::Fetching;
        self.mark(slot);
    }

    /// Forgets the session; the next request names everything. If the leader may still have the session, its id goes
    /// along, which closes it.
    fn begin_anew(&mut self, leader_may_have_it: bool) {
        if !leader_may_have_it {
            self.session_id = INVALID_SESSION_ID;
        }
        self.session_epoch = 0;
        self.in_session.clear();
        self.leaving.clear();
        let fetching: Vec<u32> =
            self.followed.iter().filter(|(_, f)| f.state == State::Fetching).map(|(slot, _)| slot).collect();
        fetching.into_iter().for_each(|slot| self.mark(slot));
    }

    /// What the answer says of the session: whether its partitions may be looked at.
    fn session_answered(&mut self, response: &FetchResponse<'_>) -> bool {
        if response.error_code != 0 {
            let unknown = response.error_code == ErrorCode::FETCH_SESSION_ID_NOT_FOUND.0;
            self.begin_anew(!unknown);
            return false;
        }
        let named = || {
            response.responses.iter().flat_map(|t| {
                t.partitions
                    .iter()
                    .map(|p| TopicIdPartition { topic_id: t.topic_id, partition: p.partition_index })
            })
        };
        let full = self.session_epoch == 0;
        let expected = named().all(|id| self.in_session.contains(&id))
            && (!full || named().count() == self.in_session.len());
        if !expected {
            self.begin_anew(!full);
            return false;
        }
        if response.session_id == INVALID_SESSION_ID {
            self.begin_anew(false);
        } else {
            self.session_id = response.session_id;
            self.session_epoch = next_epoch(self.session_epoch);
            assert_ne!(self.session_epoch, FINAL_EPOCH);
        }
        true
    }
}

/// All fetchers, by leader.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetchers {
    by_leader: BTreeMap<i32, Fetcher>,
    /// Which fetcher a partition is in.
    leader_of: BTreeMap<PartitionIx, i32>,
    made: u64,
    /// Leaders whose fetcher may have something to send.
    to_send: Vec<i32>,
}

impl Fetchers {
    /// When a delayed or throttled partition may try again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let of_fetcher = |f: &Fetcher| f.delayed.first().map(|(at, _)| *at).into_iter().chain(f.look_again);
        self.by_leader.values().flat_map(of_fetcher).min()
    }

    fn wants_to_send(&mut self, leader: i32) {
        if !self.to_send.contains(&leader) {
            self.to_send.push(leader);
        }
    }

    fn of_call(&mut self, call: &FetchCall) -> Option<&mut Fetcher> {
        self.by_leader.get_mut(&call.leader).filter(|f| f.number == call.fetcher)
    }
}

/// By which the leader tells whether its log and this one part.
fn last_fetched_epoch(log: &Log) -> Option<i32> {
    let by_epoch = !log.config().mutants.has(Mutant::TruncateToHighWatermark);
    log.latest_epoch().filter(|_| by_epoch)
}

impl ReplicaManager {
    /// Stops following a partition's leader.
    pub(super) fn stop_fetching(&mut self, ix: PartitionIx) {
        let Some(leader) = self.fetchers.leader_of.remove(&ix) else { return };
        let partition = self.table.get(ix);
        let id = TopicIdPartition { topic_id: partition.topic_id, partition: partition.index };
        self.fetchers.by_leader.get_mut(&leader).expect("a followed partition has its fetcher").remove(id);
        self.fetchers.wants_to_send(leader);
    }

    /// Begins to follow the partition's leader, from where the own log ends.
    ///
    /// A log without any leader epoch cannot be compared with the leader's: what lies above its high watermark is cut.
    pub(super) fn start_fetching(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx) {
        let partition = self.table.get(ix);
        let log = partition.log();
        if last_fetched_epoch(log).is_none() && log.high_watermark() < log.log_end_offset() {
            let to = log.high_watermark();
            if self.truncate(ctx, ix, to).is_err() {
                return;
            }
        }
        let partition = self.table.get(ix);
        let log = partition.log();
        let followed = Followed {
            at: ix,
            id: TopicIdPartition { topic_id: partition.topic_id, partition: partition.index },
            leader_epoch: partition.leader_epoch,
            fetch_offset: log.log_end_offset(),
            last_fetched_epoch: last_fetched_epoch(log),
            lag: None,
            state: State::Fetching,
            requested: None,
            changed: false,
            flushing: false,
        };
        let leader = partition.leader;
        self.fetchers.made += 1;
        let number = self.fetchers.made;
        self.fetchers.by_leader.entry(leader).or_insert_with(|| Fetcher::new(number)).add(followed);
        self.fetchers.leader_of.insert(ix, leader);
        self.watch_throttle(ix);
        self.fetchers.wants_to_send(leader);
    }

    /// Lets the fetcher ask for the quota before it fetches a partition that the topic's list throttles. Those that it
    /// does not throttle any more leave by themselves.
    pub(super) fn watch_throttle(&mut self, ix: PartitionIx) {
        let partition = self.table.get(ix);
        if !partition.throttled.follower {
            return;
        }
        let Some(leader) = self.fetchers.leader_of.get(&ix) else { return };
        let id = TopicIdPartition { topic_id: partition.topic_id, partition: partition.index };
        let fetcher = self.fetchers.by_leader.get_mut(leader).expect("a followed partition has its fetcher");
        let slot = fetcher.find(id).expect("a followed partition is in its fetcher");
        fetcher.listed.insert(slot);
    }

    /// What a follower appended is durable: its fetcher may go on.
    pub(super) fn follower_flushed(&mut self, ix: PartitionIx) {
        let Some(&leader) = self.fetchers.leader_of.get(&ix) else { return };
        let partition = self.table.get(ix);
        let id = TopicIdPartition { topic_id: partition.topic_id, partition: partition.index };
        let fetcher = self.fetchers.by_leader.get_mut(&leader).expect("a followed partition has its fetcher");
        let slot = fetcher.find(id).expect("a followed partition is in its fetcher");
        if core::mem::replace(&mut fetcher.get(slot).flushing, false) {
            fetcher.busy -= 1;
            self.fetchers.wants_to_send(leader);
        }
    }

    /// Stops all fetchers: this broker shuts down.
    pub(super) fn stop_fetchers(&mut self, ctx: &mut Ctx<'_>) {
        self.fetchers.leader_of.clear();
        self.fetchers.to_send.clear();
        for (leader, _) in core::mem::take(&mut self.fetchers.by_leader) {
            ctx.net.disconnect(ctx.now, ctx.out, Peer::Broker(leader), ConnClass::Fetcher);
        }
    }

    /// Lets every fetcher that may have something to ask for ask for it; those without partitions end.
    pub(super) fn send_fetches(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(leader) = self.fetchers.to_send.pop() {
            let Some(fetcher) = self.fetchers.by_leader.get(&leader) else { continue };
            if fetcher.len == 0 {
                self.fetchers.by_leader.remove(&leader);
                ctx.net.disconnect(ctx.now, ctx.out, Peer::Broker(leader), ConnClass::Fetcher);
            } else {
                self.send_fetch(ctx, leader);
            }
        }
    }

    /// Takes the throttled partitions that are not in sync out of the requests, or back, as the quota is.
    fn throttle(&mut self, now: Instant, leader: i32) {
        let fetcher = self.fetchers.by_leader.get_mut(&leader).expect("the caller found it");
        let exceeded = self.quotas.follower.exceeded(now);
        for slot in fetcher.listed.iter().copied().collect::<Vec<_>>() {
            let followed = fetcher.get(slot);
            let listed = self.table.get(followed.at).throttled.follower;
            let held_back = listed && exceeded && !followed.is_in_sync();
            match followed.state {
                State::Fetching if held_back => fetcher.hold_back(slot),
                State::Throttled if !held_back => fetcher.resume(slot),
                _ => {}
            }
            if !listed {
                fetcher.listed.remove(&slot);
            }
        }
    }

    fn send_fetch(&mut self, ctx: &mut Ctx<'_>, leader: i32) {
        let fetcher = self.fetchers.by_leader.get_mut(&leader).expect("the caller found it");
        if fetcher.in_flight || fetcher.busy > 0 {
            return;
        }
        if !fetcher.listed.is_empty() {
            self.throttle(ctx.now.mono, leader);
        }
        let fetcher = self.fetchers.by_leader.get_mut(&leader).expect("it is there");
        let full = fetcher.session_epoch == 0;
        let mut request = FetchRequest {
            replica_state: ReplicaState { replica_id: self.node_id, replica_epoch: self.broker_epoch },
            max_wait_ms: self.settings.fetch_wait_max_ms,
            min_bytes: self.settings.fetch_min_bytes,
            max_bytes: self.settings.fetch_response_max_bytes,
            session_id: fetcher.session_id,
            session_epoch: fetcher.session_epoch,
            ..FetchRequest::default()
        };
        for slot in core::mem::take(&mut fetcher.changed) {
            let followed = fetcher.followed.get_mut(slot).expect("changed partitions are followed");
            followed.changed = false;
            if followed.state != State::Fetching {
                continue;
            }
            let Some(log) = self.table.get(followed.at).log.as_ref() else { continue };
            followed.requested = Some((followed.fetch_offset, followed.leader_epoch));
            fetcher.in_session.insert(followed.id);
            let wanted = FetchPartition {
                partition: followed.id.partition,
                current_leader_epoch: followed.leader_epoch,
                fetch_offset: followed.fetch_offset,
                last_fetched_epoch: followed.last_fetched_epoch.unwrap_or(-1),
                log_start_offset: log.log_start_offset(),
                partition_max_bytes: self.settings.fetch_max_bytes,
                ..FetchPartition::default()
            };
            push_topic(&mut request.topics, followed.id.topic_id, wanted);
        }
        for id in core::mem::take(&mut fetcher.leaving) {
            let slot = fetcher.index.get(&id).copied();
            let stays = slot.is_some_and(|slot| fetcher.get(slot).state == State::Fetching);
            if !stays && fetcher.in_session.remove(&id) && !full {
                push_forgotten(&mut request.forgotten_topics_data, id);
            }
        }
        fetcher.look_again = None;
        if fetcher.in_session.is_empty() && request.forgotten_topics_data.is_empty() {
            // Nothing else will tell when the quota allows something again.
            let throttled = |f: &Followed| f.state == State::Throttled;
            let waits = !fetcher.listed.is_empty() && fetcher.followed.iter().any(|(_, f)| throttled(f));
            fetcher.look_again = waits.then(|| ctx.now.mono + self.settings.fetch_backoff);
            return;
        }
        fetcher.in_flight = true;
        let call = Call::Fetcher(FetchCall { leader, fetcher: fetcher.number, what: Asked::Records });
        let timeout = self.settings.socket_timeout;
        ctx.net.call(ctx.now, ctx.out, Peer::Broker(leader), &request, FETCH_VERSION, timeout, call);
    }

    /// A fetcher's request was answered, or failed.
    pub fn handle_fetch_outcome(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        call: FetchCall,
        outcome: CallOutcome,
    ) {
        if self.fetchers.of_call(&call).is_some() {
            match call.what {
                Asked::Records => self.records_arrived(ctx, image, &call, outcome),
                Asked::LatestOffset { .. } | Asked::EarliestOffset { .. } => {
                    self.offset_arrived(ctx, &call, outcome);
                }
            }
            self.fetchers.wants_to_send(call.leader);
        }
        self.finish(ctx, image);
    }

    fn records_arrived(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        call: &FetchCall,
        outcome: CallOutcome,
    ) {
        let retry_at = ctx.now.mono + self.settings.fetch_backoff;
        let fetcher = self.fetchers.of_call(call).expect("the caller found it");
        assert!(core::mem::replace(&mut fetcher.in_flight, false), "one fetch of a fetcher at a time");
        let CallOutcome::Answered { body, version } = outcome else {
            fetcher.begin_anew(true);
            fetcher.delay_all(retry_at);
            return;
        };
        let mut reader = Reader::new(&body);
        let Ok(response) = FetchResponse::decode(&mut reader, version) else {
            fetcher.begin_anew(true);
            fetcher.delay_all(retry_at);
            return;
        };
        if !fetcher.session_answered(&response) {
            if response.error_code == ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR.0 {
                fetcher.delay_all(retry_at);
            }
            return;
        }
        for topic in &response.responses {
            for data in &topic.partitions {
                let id = TopicIdPartition { topic_id: topic.topic_id, partition: data.partition_index };
                self.partition_arrived(ctx, image, call, id, data);
            }
        }
    }

    fn partition_arrived(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        call: &FetchCall,
        id: TopicIdPartition,
        data: &PartitionData,
    ) {
        // A log directory that failed meanwhile may have ended the fetcher or what it followed.
        let Some(fetcher) = self.fetchers.of_call(call) else { return };
        let Some(slot) = fetcher.find(id) else { return };
        let followed = fetcher.get(slot);
        if followed.state != State::Fetching
            || followed.requested != Some((followed.fetch_offset, followed.leader_epoch))
        {
            return;
        }
        let (ix, epoch) = (followed.at, followed.leader_epoch);
        let result = match ErrorCode(data.error_code) {
            ErrorCode::NONE if data.diverging_epoch.epoch >= 0 => {
                let end =
                    EpochEnd { epoch: data.diverging_epoch.epoch, offset: data.diverging_epoch.end_offset };
                self.truncate_to_leader(ctx, ix, end)
            }
            ErrorCode::NONE => self.append_fetched(ctx, image, call, slot, data),
            error => {
                self.fetch_failed(ctx, ix, error);
                Err(match error {
                    ErrorCode::OFFSET_OUT_OF_RANGE => Trouble::OutOfRange,
                    // The leader is ahead of this broker's metadata, which will tell the new epoch.
                    ErrorCode::FENCED_LEADER_EPOCH => Trouble::Failed,
                    _ => Trouble::Retry,
                })
            }
        };
        let Some(fetcher) = self.fetchers.of_call(call) else { return };
        match result {
            Ok(()) => self.position_moved(call, slot),
            Err(Trouble::OutOfRange) => {
                fetcher.get(slot).state = State::Resetting;
                fetcher.busy += 1;
                let what = Asked::LatestOffset { partition: id, leader_epoch: epoch };
                self.ask_offset(ctx, FetchCall { what, ..*call });
            }
            Err(Trouble::Failed) => self.stop_fetching(ix),
            Err(Trouble::Retry) => fetcher.delay(slot, ctx.now.mono + self.settings.fetch_backoff),
        }
    }

    /// Takes the log's new end as the position.
    fn position_moved(&mut self, call: &FetchCall, slot: u32) {
        let Some(fetcher) = self.fetchers.of_call(call) else { return };
        let followed = fetcher.get(slot);
        let partition = self.table.get(followed.at);
        if partition.flush_barrier.is_some() && !core::mem::replace(&mut followed.flushing, true) {
            // The leader counts what is fetched next as proof of what came before it.
            fetcher.busy += 1;
        }
        let followed = fetcher.get(slot);
        let log = partition.log();
        let position = (log.log_end_offset(), last_fetched_epoch(log));
        if position != (followed.fetch_offset, followed.last_fetched_epoch) {
            (followed.fetch_offset, followed.last_fetched_epoch) = position;
            fetcher.mark(slot);
        }
    }

    /// Appends what the leader sent, then takes over its high watermark and log start offset.
    fn append_fetched(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        call: &FetchCall,
        slot: u32,
        data: &PartitionData,
    ) -> Result<(), Trouble> {
        let fetcher = self.fetchers.of_call(call).expect("the caller found it");
        let followed = fetcher.get(slot);
        let (ix, epoch) = (followed.at, followed.leader_epoch);
        let log = self.table.get(ix).log();
        assert_eq!(followed.fetch_offset, log.log_end_offset(), "the position is the log's end");
        let first_answer = followed.lag.is_none();
        let records = data.records.as_ref().filter(|r| !r.is_empty());
        if let Some(records) = records {
            let info = self.append_as_follower(ctx, ix, records, epoch)?;
            if self.table.get(ix).throttled.follower {
                self.quotas.follower.record(records.len(), ctx.now.mono);
            }
            let partition = self.table.get(ix);
            ctx.out.event(|| Event::RecordsAppended {
                partition: partition.name(),
                base_offset: info.base_offset,
                log_end_offset: info.last_offset + 1,
                epoch: partition.log().latest_epoch().unwrap_or(-1),
                as_leader: false,
                batches: info.marks.clone(),
            });
            self.after_log_change(ix);
        }
        let log = self.table.get_mut(ix).log_mut();
        if (first_answer || records.is_some())
            && let Some(fetcher) = self.fetchers.of_call(call)
        {
            fetcher.get(slot).lag = Some((data.high_watermark - log.log_end_offset()).max(0));
        }
        let from = log.high_watermark();
        if log.update_high_watermark(data.high_watermark) {
            let partition = self.table.get(ix);
            let to = partition.log().high_watermark();
            ctx.out.event(|| Event::HighWatermarkAdvanced {
                partition: partition.name(),
                from,
                to,
                as_leader: false,
            });
            self.notify_high_watermark(ctx, ix);
        }
        let log = self.table.get(ix).log();
        if data.log_start_offset > log.log_start_offset() && data.log_start_offset <= log.high_watermark() {
            self.raise_log_start(ctx, ix, data.log_start_offset);
            // The leader learns it from the next request: a DeleteRecords may wait for it.
            if let Some(fetcher) = self.fetchers.of_call(call) {
                fetcher.mark(slot);
            }
        }
        self.table.get(ix).check_invariants(self.node_id);
        self.complete_ready(ctx, image);
        Ok(())
    }

    fn append_as_follower(
        &mut self,
        ctx: &mut Ctx<'_>,
        ix: PartitionIx,
        records: &Rope,
        epoch: i32,
    ) -> Result<AppendInfo, Trouble> {
        let log = self.table.get_mut(ix).log_mut();
        let mut result = log.append_as_follower(ctx.now, ctx.disk, ctx.codecs, records, epoch);
        if let Err(AppendError::UnexpectedOffset { first_offset, .. }) = result
            && log.log_end_offset() == log.log_start_offset()
            && first_offset < log.log_end_offset()
        {
            // The leader's log start lies within a batch: an empty log begins with the whole of it.
            result = match log.truncate_fully_and_start_at(ctx.now, ctx.disk, first_offset) {
                Ok(()) => log.append_as_follower(ctx.now, ctx.disk, ctx.codecs, records, epoch),
                Err(error) => {
                    self.log_failed(ctx, ix, &error);
                    return Err(Trouble::Failed);
                }
            };
        }
        result.map_err(|error| match error {
            AppendError::Disk(error) => {
                let dir = self.table.get(ix).dir;
                self.log_dir_failed(ctx, dir, &alloc::format!("{error}"));
                Trouble::Failed
            }
            AppendError::Corrupt { .. }
            | AppendError::InvalidRecord { .. }
            | AppendError::InvalidTimestamp { .. }
            | AppendError::UnsupportedCompression { .. } => {
                // It may be whole the next time.
                self.fetch_failed(ctx, ix, ErrorCode::CORRUPT_MESSAGE);
                Trouble::Retry
            }
            AppendError::MessageTooLarge { .. }
            | AppendError::RecordListTooLarge { .. }
            | AppendError::OutOfOrderSequence { .. }
            | AppendError::InvalidProducerEpoch { .. }
            | AppendError::InvalidTxnState { .. }
            | AppendError::CoordinatorFenced { .. }
            | AppendError::UnexpectedOffset { .. } => {
                let partition = self.table.get(ix);
                let (name, end) = (partition.name(), partition.log().log_end_offset());
                ctx.event(|| Event::Warning {
                    text: alloc::format!(
                        "Unexpected error while processing data for partition {name} at offset {end}: {error}"
                    ),
                });
                self.fetch_failed(ctx, ix, ErrorCode::UNKNOWN_SERVER_ERROR);
                Trouble::Failed
            }
        })
    }

    // --- truncation

    fn truncate_to_leader(
        &mut self,
        ctx: &mut Ctx<'_>,
        ix: PartitionIx,
        leader: EpochEnd,
    ) -> Result<(), Trouble> {
        let to = truncation_offset(self.table.get(ix).log(), leader);
        self.truncate(ctx, ix, to)
    }

    /// Cuts a follower's log.
    fn truncate(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx, to: i64) -> Result<(), Trouble> {
        let log = self.table.get_mut(ix).log_mut();
        let high_watermark = log.high_watermark();
        let cut = match log.truncate_to(ctx.now, ctx.disk, ctx.codecs, to) {
            Ok(cut) => cut,
            Err(error) => {
                self.log_failed(ctx, ix, &error);
                return Err(Trouble::Failed);
            }
        };
        if cut.from != cut.to {
            let partition = self.table.get(ix);
            ctx.out.event(|| Event::LogTruncated {
                partition: partition.name(),
                from: cut.from,
                to: cut.to,
                high_watermark,
            });
            self.log_truncated(ctx, ix);
        }
        Ok(())
    }

    /// Drops all of a follower's log: the leader has nothing that continues it.
    fn start_over(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx, at: i64) -> Result<(), Trouble> {
        let log = self.table.get_mut(ix).log_mut();
        let (start, from, high_watermark) =
            (log.log_start_offset(), log.log_end_offset(), log.high_watermark());
        if let Err(error) = log.truncate_fully_and_start_at(ctx.now, ctx.disk, at) {
            self.log_failed(ctx, ix, &error);
            return Err(Trouble::Failed);
        }
        let partition = self.table.get(ix);
        ctx.out.event(|| Event::LogTruncated { partition: partition.name(), from, to: at, high_watermark });
        ctx.out.event(|| Event::LogStartOffsetAdvanced { partition: partition.name(), from: start, to: at });
        self.log_truncated(ctx, ix);
        Ok(())
    }

    fn log_truncated(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx) {
        self.after_log_change(ix);
        let dir = self.table.get(ix).dir;
        self.checkpoint_recovery_points(ctx, dir);
        self.notify_changed(ix, true);
    }

    // --- out of range

    fn ask_offset(&mut self, ctx: &mut Ctx<'_>, call: FetchCall) {
        let (partition, leader_epoch, timestamp) = match call.what {
            Asked::LatestOffset { partition, leader_epoch } => (partition, leader_epoch, LATEST_TIMESTAMP),
            Asked::EarliestOffset { partition, leader_epoch } => {
                (partition, leader_epoch, EARLIEST_TIMESTAMP)
            }
            Asked::Records => unreachable!("records are asked for with Fetch"),
        };
        let fetcher = self.fetchers.of_call(&call).expect("the caller found it");
        let slot = fetcher.find(partition).expect("the caller found it");
        let name = self.table.get(fetcher.get(slot).at).topic.clone();
        let request = ListOffsetsRequest {
            replica_id: self.node_id,
            topics: alloc::vec![ListOffsetsTopic {
                name: (&*name).into(),
                partitions: alloc::vec![ListOffsetsPartition {
                    partition_index: partition.partition,
                    current_leader_epoch: leader_epoch,
                    timestamp,
                }],
            }],
            ..ListOffsetsRequest::default()
        };
        let (to, timeout) = (Peer::Broker(call.leader), self.settings.socket_timeout);
        ctx.net.call(ctx.now, ctx.out, to, &request, LIST_OFFSETS_VERSION, timeout, Call::Fetcher(call));
    }

    fn offset_arrived(&mut self, ctx: &mut Ctx<'_>, call: &FetchCall, outcome: CallOutcome) {
        let (Asked::LatestOffset { partition: id, leader_epoch }
        | Asked::EarliestOffset { partition: id, leader_epoch }) = call.what
        else {
            unreachable!("the caller looked")
        };
        let retry_at = ctx.now.mono + self.settings.fetch_backoff;
        let fetcher = self.fetchers.of_call(call).expect("the caller found it");
        fetcher.busy -= 1;
        // Its leadership may have changed meanwhile, which began it anew.
        let Some(slot) = fetcher.find(id) else { return };
        if fetcher.get(slot).state != State::Resetting || fetcher.get(slot).leader_epoch != leader_epoch {
            return;
        }
        let ix = fetcher.get(slot).at;
        let leaders = match offset_of(outcome) {
            Ok(offset) => offset,
            Err(error) => {
                self.fetch_failed(ctx, ix, error);
                if error == ErrorCode::FENCED_LEADER_EPOCH {
                    self.stop_fetching(ix);
                } else {
                    self.fetchers.of_call(call).expect("it is there").delay(slot, retry_at);
                }
                return;
            }
        };
        let own_end = self.table.get(ix).log().log_end_offset();
        let result = match call.what {
            Asked::LatestOffset { .. } if leaders < own_end => self.truncate(ctx, ix, leaders),
            Asked::LatestOffset { .. } => {
                let fetcher = self.fetchers.of_call(call).expect("it is there");
                fetcher.busy += 1;
                let what = Asked::EarliestOffset { partition: id, leader_epoch };
                return self.ask_offset(ctx, FetchCall { what, ..*call });
            }
            _ if leaders > own_end => self.start_over(ctx, ix, leaders),
            _ => Ok(()),
        };
        if result.is_err() {
            return;
        }
        let Some(fetcher) = self.fetchers.of_call(call) else { return };
        // Cut to the leader's end it is in sync; otherwise the next answer will tell.
        fetcher.get(slot).lag = matches!(call.what, Asked::LatestOffset { .. }).then_some(0);
        fetcher.resume(slot);
        self.position_moved(call, slot);
    }

    /// Delayed partitions whose time has come take part again.
    pub(super) fn resume_delayed(&mut self, now: Instant) {
        let Fetchers { by_leader, to_send, .. } = &mut self.fetchers;
        for (leader, fetcher) in by_leader {
            let mut any = false;
            while let Some(&(at, slot)) = fetcher.delayed.first()
                && at <= now
            {
                fetcher.delayed.pop_first();
                fetcher.resume(slot);
                any = true;
            }
            if fetcher.look_again.is_some_and(|at| at <= now) {
                fetcher.look_again = None;
                any = true;
            }
            if any && !to_send.contains(leader) {
                to_send.push(*leader);
            }
        }
    }
}

/// Where to cut a log whose leader says that the largest epoch not above the follower's latest ends at `leader`
/// (KIP-279). If the follower does not know that epoch, the cut is only the next step: the next fetch asks with the
/// epoch below it.
fn truncation_offset(log: &Log, leader: EpochEnd) -> i64 {
    let end = log.log_end_offset();
    let own = log.end_offset_for_epoch(leader.epoch);
    if own.epoch < 0 || own.offset < 0 {
        leader.offset.min(end)
    } else if own.epoch != leader.epoch {
        own.offset.min(end)
    } else {
        own.offset.min(leader.offset).min(end)
    }
}

fn offset_of(outcome: CallOutcome) -> Result<i64, ErrorCode> {
    let CallOutcome::Answered { body, version } = outcome else { return Err(ErrorCode::NETWORK_EXCEPTION) };
    let mut reader = Reader::new(&body);
    let response =
        ListOffsetsResponse::decode(&mut reader, version).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
    let one = response.topics.iter().flat_map(|t| &t.partitions).next();
    let one = one.ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
    match ErrorCode(one.error_code) {
        ErrorCode::NONE => Ok(one.offset),
        error => Err(error),
    }
}

fn push_topic(topics: &mut Vec<FetchTopic<'_>>, topic_id: Uuid, wanted: FetchPartition) {
    match topics.last_mut().filter(|t| t.topic_id == topic_id) {
        Some(topic) => topic.partitions.push(wanted),
        None => {
            topics.push(FetchTopic { topic_id, partitions: alloc::vec![wanted], ..FetchTopic::default() })
        }
    }
}

fn push_forgotten(topics: &mut Vec<ForgottenTopic<'_>>, id: TopicIdPartition) {
    match topics.last_mut().filter(|t| t.topic_id == id.topic_id) {
        Some(topic) => topic.partitions.push(id.partition),
        None => topics.push(ForgottenTopic {
            topic_id: id.topic_id,
            partitions: alloc::vec![id.partition],
            ..ForgottenTopic::default()
        }),
    }
}

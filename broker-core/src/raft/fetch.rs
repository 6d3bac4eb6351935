//! Replication: the leader's answers to Fetch, and the follower's fetching (KIP-595, KIP-1166).
//!
//! A fetch names the end of the replica's log. The leader answers with what follows; with the point from which the
//! two logs diverge; or with the snapshot that the replica needs first. If there is nothing to say the fetch waits
//! for the next append, for a new high watermark, or for its time to pass. A voter's fetch says that all before its
//! offset is flushed: it is the acknowledgement from which the leader computes the high watermark.

use alloc::format;
use alloc::string::ToString;
use wire::Rope;
use wire::batch::Batches;
use wire::drive::Instant;
use wire::error::ErrorCode;

use super::log::{MAX_BATCH_BYTES, Validity};
use super::records::{Content, read_batches, read_control_records};
use super::rpc::{
    Fetch, FetchSnapshot, Fetched, QuorumDescription, ReplicaDescription, Request, Response, Standing,
};
use super::snapshot::{self, SnapshotName};
use super::state::{OffsetAndEpoch, Role};
use super::{Effect, Io, Raft, Signal};
use crate::event::{BatchMark, BatchMarks, Event};
use crate::log::AppendError;
use crate::mutant::Mutant;
use crate::net::RequestToken;

/// How long a replica lets the leader keep its fetch.
const MAX_FETCH_WAIT_MS: i32 = 500;

/// A fetch that waits at the leader.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParkedFetch {
    token: RequestToken,
    fetch: Fetch,
    pub(super) deadline: Instant,
}

/// The leader's side.
impl Raft {
    /// Answers a fetch, or keeps it until there is something to say.
    pub(super) fn answer_fetch(
        &mut self,
        io: &mut Io<'_>,
        token: RequestToken,
        fetch: Fetch,
    ) -> Option<Response> {
        let possible = fetch.max_wait_ms >= 0
            && fetch.from.offset >= 0
            && fetch.from.epoch >= 0
            && fetch.from.epoch <= fetch.epoch;
        if !possible {
            return Some(self.nothing_fetched(ErrorCode::INVALID_REQUEST));
        }
        let (standing, fetched) = self.try_fetch(io, &fetch);
        let at_once = standing.error.is_error()
            || !fetched.records.is_empty()
            || fetch.max_wait_ms == 0
            || fetched.diverging.is_some()
            || fetched.snapshot.is_some()
            || fetch.high_watermark < fetched.high_watermark.unwrap_or(-1);
        if at_once {
            return Some(Response::Fetch(standing, fetched));
        }
        let deadline = io.now.mono.plus_millis(fetch.max_wait_ms as u64);
        self.parked.push(ParkedFetch { token, fetch, deadline });
        None
    }

    fn try_fetch(&mut self, io: &mut Io<'_>, fetch: &Fetch) -> (Standing, Fetched) {
        let mut fetched = self.empty_fetched();
        if let Some(error) = self.refuse_leader_only(fetch.epoch) {
            return (self.standing(error), fetched);
        }
        if fetch.replica.id == self.config.node_id {
            return (self.standing(ErrorCode::UNKNOWN_SERVER_ERROR), fetched);
        }
        let latest = self.log.latest_snapshot().filter(|id| id.offset > 0);
        let validity = match latest {
            // An empty log is filled faster from a snapshot than record by record.
            Some(latest) if fetch.from.offset == 0 => Validity::Snapshot(latest),
            _ => self.log.validate(fetch.from),
        };
        match validity {
            Validity::Valid => {
                let (end, max_bytes) = (self.log.end_offset(), fetch.max_bytes.max(0) as usize);
                if fetch.from.offset < end {
                    match self.log.read(io.disk, fetch.from.offset, end, max_bytes) {
                        Ok(records) => fetched.records = records,
                        Err(error) => {
                            self.warn(io, || format!("the metadata log: {error}"));
                            return (self.standing(ErrorCode::UNKNOWN_SERVER_ERROR), fetched);
                        }
                    }
                }
                self.replica_fetched(io, fetch);
            }
            Validity::Diverging(point) => fetched.diverging = Some(point),
            Validity::Snapshot(id) => fetched.snapshot = Some(id),
        }
        fetched.high_watermark = self.quorum.high_watermark;
        (self.standing(ErrorCode::NONE), fetched)
    }

    fn replica_fetched(&mut self, io: &mut Io<'_>, fetch: &Fetch) {
        if fetch.replica.id < 0 {
            return; // not a replica
        }
        let high_watermark = self.quorum.high_watermark;
        let Role::Leader(leader) = &mut self.quorum.role else { panic!("only a leader answers fetches") };
        let moved = leader.fetched(fetch.replica, fetch.from.offset, high_watermark, io.now);
        if let Some(high_watermark) = moved {
            self.advance_high_watermark(io, high_watermark);
        }
    }

    /// Why a request that only the leader of its epoch can answer is refused.
    pub(super) fn refuse_leader_only(&self, epoch: i32) -> Option<ErrorCode> {
        let mine = self.quorum.epoch();
        if epoch < mine {
            Some(ErrorCode::FENCED_LEADER_EPOCH)
        } else if epoch > mine {
            Some(ErrorCode::UNKNOWN_LEADER_EPOCH)
        } else if !self.quorum.is_leader() {
            // Observers ask anybody to learn who was elected.
            Some(ErrorCode::NOT_LEADER_OR_FOLLOWER)
        } else if self.shutdown.is_some() {
            Some(ErrorCode::BROKER_NOT_AVAILABLE)
        } else {
            None
        }
    }

    /// Answers the fetches that wait for what has come: records, or a high watermark.
    pub(super) fn complete_parked(&mut self, io: &mut Io<'_>) {
        if self.parked.is_empty() || !self.quorum.is_leader() {
            return;
        }
        let mut i = 0;
        while i < self.parked.len() {
            let parked = &self.parked[i];
            let high_watermark = self.quorum.high_watermark.unwrap_or(-1);
            let ready = parked.fetch.from.offset < self.log.end_offset()
                || parked.fetch.high_watermark < high_watermark;
            if !ready {
                i += 1;
                continue;
            }
            let ParkedFetch { token, fetch, .. } = self.parked.remove(i);
            let (standing, fetched) = self.try_fetch(io, &fetch);
            self.outbox.push(Effect::Reply(token, Response::Fetch(standing, fetched)));
            // The fetch may have moved the high watermark for those before it; nothing else of them changed.
            if self.quorum.high_watermark.unwrap_or(-1) != high_watermark {
                i = 0;
            }
        }
    }

    /// Answers the fetches that waited long enough: there was nothing new.
    pub(super) fn expire_parked(&mut self, io: &mut Io<'_>) {
        let now = io.now.mono;
        let mut i = 0;
        while i < self.parked.len() {
            if self.parked[i].deadline > now {
                i += 1;
                continue;
            }
            let ParkedFetch { token, .. } = self.parked.remove(i);
            let mut fetched = self.empty_fetched();
            fetched.high_watermark = self.quorum.high_watermark;
            let response = Response::Fetch(self.standing(ErrorCode::NONE), fetched);
            self.outbox.push(Effect::Reply(token, response));
        }
    }

    /// This replica leads no more: those that wait shall ask the next leader.
    pub(super) fn send_parked_away(&mut self) {
        for parked in core::mem::take(&mut self.parked) {
            let response = self.nothing_fetched(ErrorCode::NOT_LEADER_OR_FOLLOWER);
            self.outbox.push(Effect::Reply(parked.token, response));
        }
    }

    fn nothing_fetched(&self, error: ErrorCode) -> Response {
        Response::Fetch(self.standing(error), self.empty_fetched())
    }

    fn empty_fetched(&self) -> Fetched {
        Fetched {
            high_watermark: None,
            log_start_offset: self.log.start_offset(),
            diverging: None,
            snapshot: None,
            records: Rope::new(),
        }
    }

    pub(super) fn answer_describe_quorum(&mut self, io: &mut Io<'_>) -> Response {
        let (local, epoch, high_watermark) =
            (self.quorum.local, self.quorum.epoch(), self.quorum.high_watermark);
        let Role::Leader(leader) = &mut self.quorum.role else {
            return Response::DescribeQuorum(ErrorCode::NOT_LEADER_OR_FOLLOWER, None);
        };
        let describe = |progress: &super::ReplicaProgress| {
            let leads = progress.key.id == local.id;
            ReplicaDescription {
                key: progress.key,
                log_end_offset: progress.end_offset.unwrap_or(-1),
                last_fetch_ms: if leads { io.now.wall_ms } else { progress.last_fetch_ms },
                last_caught_up_ms: if leads { io.now.wall_ms } else { progress.last_caught_up_ms },
            }
        };
        let description = QuorumDescription {
            leader: local.id,
            epoch,
            high_watermark,
            voters: leader.voters().iter().map(describe).collect(),
            observers: leader.observers(io.now.mono).map(describe).collect(),
        };
        Response::DescribeQuorum(ErrorCode::NONE, Some(description))
    }
}

/// The follower's side.
impl Raft {
    pub(super) fn poll_follower(&mut self, io: &mut Io<'_>) -> bool {
        let Role::Follower { leader, fetch_deadline, .. } = &self.quorum.role else {
            return false;
        };
        if self.shutdown.is_some() {
            return false;
        }
        if io.now.mono >= *fetch_deadline {
            self.give_leader_up(io);
            return true;
        }
        let leader = *leader;
        if self.maybe_ask_for_change(io) {
            return false;
        }
        let Role::Follower { fetching_snapshot, .. } = &self.quorum.role else { return false };
        if self.requests.has_in_flight() {
            return false;
        }
        if self.requests.is_backing_off(leader, io.now.mono) {
            // The leader does not answer: perhaps somebody else knows another.
            self.fetch_from_anybody(io);
            return false;
        }
        let request = match fetching_snapshot {
            Some(fetching) if fetching.is_sealing() => return false,
            Some(fetching) => Request::FetchSnapshot(FetchSnapshot {
                replica: self.quorum.local,
                epoch: self.quorum.epoch(),
                snapshot: fetching.id,
                position: fetching.size as i64,
                max_bytes: self.config.fetch_snapshot_max_bytes,
            }),
            None => match self.next_fetch() {
                Some(fetch) => Request::Fetch(fetch),
                None => return false,
            },
        };
        self.send(io, leader, request);
        false
    }

    /// Asks any voter for records: if it does not lead it says who does.
    pub(super) fn fetch_from_anybody(&mut self, io: &mut Io<'_>) {
        let Some(fetch) = self.next_fetch() else { return };
        let known = self.quorum.voters.last();
        let others: smallvec::SmallVec<[i32; 8]> = match self.bootstrap.as_slice() {
            [] => known.ids().filter(|id| *id != self.config.node_id).collect(),
            bootstrap => bootstrap.iter().copied().collect(),
        };
        if let Some(peer) = self.requests.find_ready(&others, io.now.mono, io.rng) {
            self.send(io, peer, Request::Fetch(fetch));
        }
    }

    /// The next fetch; none while what was appended is not flushed, since a voter's fetch says that it is.
    fn next_fetch(&self) -> Option<Fetch> {
        let waits = !self.config.mutants.has(Mutant::VoterFetchesUnflushed);
        if waits && self.must_flush() && !self.log.is_flushed() {
            return None;
        }
        Some(Fetch {
            replica: self.quorum.local,
            epoch: self.quorum.epoch(),
            from: self.log.end(),
            high_watermark: self.quorum.high_watermark.unwrap_or(-1),
            max_bytes: self.config.fetch_max_bytes,
            max_wait_ms: MAX_FETCH_WAIT_MS,
        })
    }

    fn must_flush(&self) -> bool {
        self.config.can_become_voter || self.quorum.is_voter()
    }

    pub(super) fn fetch_answered(&mut self, io: &mut Io<'_>, standing: Standing, fetched: Fetched) -> bool {
        if let Some(useful) = self.learn_fetched(io, standing) {
            return useful;
        }
        if !matches!(self.quorum.role, Role::Follower { .. }) || standing.error.is_error() {
            return false;
        }
        let useful = if let Some(point) = fetched.diverging {
            self.cut_log(io, point)
        } else if let Some(id) = fetched.snapshot {
            self.begin_fetching_snapshot(io, id)
        } else {
            self.append_fetched(io, &fetched)
        };
        if useful && !self.failed {
            self.leader_answered(io);
        }
        useful
    }

    /// The leader answered as it should: this replica follows it for another while.
    pub(super) fn leader_answered(&mut self, io: &Io<'_>) {
        let timeout = self.config.fetch_timeout;
        if let Role::Follower { fetch_deadline, has_fetched, .. } = &mut self.quorum.role {
            *fetch_deadline = io.now.mono + timeout;
            *has_fetched = true;
        }
    }

    /// The logs diverge: cuts what the leader has not. What is committed is never cut.
    fn cut_log(&mut self, io: &mut Io<'_>, point: OffsetAndEpoch) -> bool {
        if point.epoch < 0 || point.offset < 0 {
            self.warn(io, || format!("the leader sent the diverging point {point:?}"));
            return false;
        }
        let to = self.log.truncation_offset(point);
        let committed = self.quorum.high_watermark.unwrap_or(0).max(self.log.high_watermark());
        if point.offset < committed || to < committed {
            self.fail(format!(
                "The leader requested truncation to offset {}, which is below the current high watermark {committed}",
                point.offset.min(to)
            ));
            return false;
        }
        let from = self.log.end_offset();
        if let Err(error) = self.log.truncate_to(io.now, io.disk, io.codecs, to) {
            self.fail(error.to_string());
            return false;
        }
        self.quorum.voters.truncate_new(to);
        self.tell_of_voters(io);
        if self.must_flush() {
            self.log.flush(io.now, io.disk);
        }
        io.out.event(|| Event::MetadataTruncated { from, to });
        true
    }

    fn append_fetched(&mut self, io: &mut Io<'_>, fetched: &Fetched) -> bool {
        if !fetched.records.is_empty() {
            let epoch = self.quorum.epoch();
            let appended = self.log.append_as_follower(io.now, io.disk, io.codecs, &fetched.records, epoch);
            match appended {
                Ok(info) => self.appended_fetched(io, &fetched.records, info.base_offset),
                Err(AppendError::Disk(error)) => {
                    self.fail(format!("the metadata log: {error}"));
                    return false;
                }
                Err(error) => {
                    // Damaged on the way, or by the leader: fetched again after a pause.
                    self.warn(io, || format!("records of the metadata log were not appended: {error}"));
                    return false;
                }
            }
        }
        let Some(leaders) = fetched.high_watermark else { return true };
        let high_watermark = leaders.min(self.log.end_offset());
        let before = self.quorum.high_watermark;
        if let Some(before) = before.filter(|before| high_watermark < *before) {
            self.fail(format!("Non-monotonic update of high watermark from {before} to {high_watermark}"));
            return false;
        }
        if before != Some(high_watermark) {
            self.advance_high_watermark(io, high_watermark);
        }
        true
    }

    fn appended_fetched(&mut self, io: &mut Io<'_>, records: &Rope, base_offset: i64) {
        let end = self.log.end_offset();
        let voters = &mut self.quorum.voters;
        let read = read_control_records(records, io.codecs, |offset, record| {
            if offset >= base_offset && offset < end {
                voters.learn(offset, &record);
            }
        });
        if let Err(error) = read {
            self.warn(io, || format!("a control record of the metadata log: {error}"));
        }
        self.tell_of_voters(io);
        tell_of_append(io, records, base_offset);
        if self.must_flush() {
            self.log.flush(io.now, io.disk);
        }
    }
}

/// What is committed.
impl Raft {
    pub(super) fn advance_high_watermark(&mut self, io: &mut Io<'_>, high_watermark: i64) {
        let before = self.quorum.high_watermark;
        assert!(
            before.is_none_or(|before| before <= high_watermark),
            "the high watermark goes back from {before:?} to {high_watermark}"
        );
        assert!(high_watermark <= self.log.end_offset(), "committed beyond the log end");
        self.quorum.high_watermark = Some(high_watermark);
        self.log.update_high_watermark(high_watermark.max(self.log.high_watermark()));
        io.out.event(|| Event::MetadataCommitted { high_watermark });
        if self.quorum.is_leader() {
            self.voters_committed();
        }
        self.signal_committed(io, high_watermark);
        self.fire_leader_change();
    }

    /// Signals all that is committed and was not signalled yet: from a snapshot, if the log begins later.
    fn signal_committed(&mut self, io: &mut Io<'_>, high_watermark: i64) {
        let behind = self.next_committed.is_none_or(|next| next < self.log.start_offset());
        if behind && self.next_committed.is_none_or(|next| next < high_watermark) {
            match self.log.latest_snapshot() {
                Some(id) if id.offset <= high_watermark => self.signal_snapshot(io, id),
                Some(_) | None if self.log.start_offset() == 0 => self.next_committed = Some(0),
                _ => return, // the high watermark is not known as far as the snapshot reaches
            }
        }
        while let Some(next) = self.next_committed.filter(|next| *next < high_watermark && !self.failed) {
            if !self.signal_own(next, high_watermark) {
                self.signal_from_log(io, next, high_watermark);
            }
        }
    }

    /// Signals a batch of this leader whose records are still at hand.
    fn signal_own(&mut self, next: i64, high_watermark: i64) -> bool {
        while self.uncommitted.front().is_some_and(|batch| batch.base_offset < next) {
            self.uncommitted.pop_front();
        }
        let own = |b: &super::CompletedBatch| b.base_offset == next && b.last_offset < high_watermark;
        if !self.uncommitted.front().is_some_and(own) {
            return false;
        }
        let batch = self.uncommitted.pop_front().expect("looked at just now");
        self.bytes_since_snapshot += batch.bytes.len() as u64;
        self.last_committed_timestamp = batch.append_time;
        self.next_committed = Some(batch.last_offset + 1);
        self.signals.push(Signal::Committed {
            base_offset: batch.base_offset,
            last_offset: batch.last_offset,
            epoch: self.quorum.epoch(),
            append_time: batch.append_time,
            records: batch.records,
        });
        true
    }

    fn signal_from_log(&mut self, io: &mut Io<'_>, from: i64, high_watermark: i64) {
        let piece = match self.log.read(io.disk, from, high_watermark, MAX_BATCH_BYTES) {
            Ok(piece) => piece,
            Err(error) => return self.fail(format!("the metadata log: {error}")),
        };
        let mut next = from;
        let mut timestamp = self.last_committed_timestamp;
        let signals = &mut self.signals;
        let read = read_batches(&piece, io.codecs, |batch| {
            let header = batch.header;
            let (base_offset, last_offset) = (header.base_offset, header.last_offset());
            if last_offset < next || last_offset >= high_watermark {
                return Ok(()); // the log cuts at batches: neither happens
            }
            next = last_offset + 1;
            timestamp = header.max_timestamp;
            let records = match batch.content {
                Content::Data(records) => records,
                Content::Control(_) => alloc::vec::Vec::new(),
            };
            signals.push(Signal::Committed {
                base_offset,
                last_offset,
                epoch: header.partition_leader_epoch,
                append_time: header.max_timestamp,
                records,
            });
            Ok(())
        });
        if let Err(error) = read {
            return self.fail(format!("a committed record of the metadata log cannot be read: {error}"));
        }
        if next == from {
            return self.fail(format!("no batch at offset {from} of the metadata log"));
        }
        self.bytes_since_snapshot += piece.len() as u64;
        self.last_committed_timestamp = timestamp;
        self.next_committed = Some(next);
    }

    fn signal_snapshot(&mut self, io: &mut Io<'_>, id: OffsetAndEpoch) {
        let path = SnapshotName::whole(id).path(self.log.dir());
        match snapshot::load(io.disk, io.codecs, &path) {
            Ok(loaded) => {
                self.next_committed = Some(id.offset);
                self.last_committed_timestamp = loaded.last_timestamp;
                self.snapshot_counters_reset(io.now.mono);
                io.out.event(|| Event::SnapshotLoaded { end_offset: id.offset, epoch: id.epoch });
                self.signals.push(Signal::LoadSnapshot {
                    end_offset: id.offset,
                    epoch: id.epoch,
                    last_timestamp: loaded.last_timestamp,
                    records: loaded.records,
                });
            }
            Err(why) => self.fail(format!("{path}: {why}")),
        }
    }
}

/// Reports what was appended from `base_offset` on.
pub(super) fn tell_of_append(io: &mut Io<'_>, records: &Rope, base_offset: i64) {
    io.out.event(|| {
        let headers = Batches::new(records).filter_map(Result::ok).map(|batch| batch.header);
        let marks =
            headers.filter(|header| header.base_offset >= base_offset).map(|header| BatchMark::from(&header));
        Event::MetadataAppended { batches: marks.collect::<BatchMarks>() }
    });
}

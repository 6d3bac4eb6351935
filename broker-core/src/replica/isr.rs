//! What a leader knows of its followers, and the two rules that follow from it: who is in sync, and how far the high
//! watermark may go.
//!
//! Pure functions over small values, so that every rule can be read and tested without a log or a network. They follow
//! Kafka's `Replica` and `Partition` (KIP-497 for the maximal ISR, KIP-903 for broker epochs, KAFKA-15583 for the high
//! watermark that stands still below `min.insync.replicas`).

use alloc::vec::Vec;
use smallvec::SmallVec;
use wire::drive::{Instant, Nanos};

use crate::mutant::{Mutant, Mutants};

/// Broker ids in ascending order; few, so they lie in place.
pub type BrokerIds = SmallVec<[i32; 6]>;

/// The offset of a follower that has not fetched in this leadership.
pub const UNKNOWN_OFFSET: i64 = -1;

/// What a leader knows of one follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    /// The follower's broker id.
    pub id: i32,
    /// The offset of its last fetch, hence the end of its log; [`UNKNOWN_OFFSET`] before the first fetch.
    pub log_end_offset: i64,
    /// The first offset of its log; [`UNKNOWN_OFFSET`] before the first fetch.
    pub log_start_offset: i64,
    /// The leader's log end offset at the last fetch.
    pub last_fetch_leader_log_end_offset: i64,
    /// When it last fetched.
    pub last_fetch_at: Option<Instant>,
    /// The latest moment at which it is known to have had all that the leader had.
    pub last_caught_up_at: Option<Instant>,
    /// The broker epoch of its last fetch (-1: it did not say), absent before the first one.
    pub broker_epoch: Option<i64>,
}

impl Follower {
    /// A follower of which nothing is known.
    pub fn new(id: i32) -> Follower {
        Follower {
            id,
            log_end_offset: UNKNOWN_OFFSET,
            log_start_offset: UNKNOWN_OFFSET,
            last_fetch_leader_log_end_offset: 0,
            last_fetch_at: None,
            last_caught_up_at: None,
            broker_epoch: None,
        }
    }

    /// A new leader epoch begins: a leader that is new forgets the follower's position, one that is elected again keeps it.
    pub fn reset(&mut self, now: Instant, leader_log_end_offset: i64, new_leader: bool, in_isr: bool) {
        // Who is in the ISR gets the full lag time to fetch; who is not must not hold the high watermark back.
        let since = in_isr.then_some(now);
        if new_leader {
            *self = Follower {
                last_fetch_leader_log_end_offset: UNKNOWN_OFFSET,
                last_caught_up_at: since,
                ..Follower::new(self.id)
            };
        } else {
            self.last_fetch_leader_log_end_offset = leader_log_end_offset;
            self.last_fetch_at = since;
            self.last_caught_up_at = since;
        }
    }

    /// It fetched from `offset` at `at`, when the leader's log ended at `leader_log_end_offset`.
    ///
    /// A follower that always trails a busy leader by one round trip counts as caught up: what it asks for now is
    /// what the leader had at its previous fetch, so it was caught up then.
    pub fn fetched(
        &mut self,
        offset: i64,
        log_start_offset: i64,
        at: Instant,
        leader_log_end_offset: i64,
        broker_epoch: i64,
    ) {
        if offset >= leader_log_end_offset {
            self.last_caught_up_at = self.last_caught_up_at.max(Some(at));
        } else if offset >= self.last_fetch_leader_log_end_offset {
            self.last_caught_up_at = self.last_caught_up_at.max(self.last_fetch_at);
        }
        self.log_start_offset = log_start_offset;
        self.log_end_offset = offset;
        self.last_fetch_leader_log_end_offset =
            leader_log_end_offset.max(self.last_fetch_leader_log_end_offset);
        self.last_fetch_at = Some(at);
        self.broker_epoch = Some(broker_epoch);
    }

    /// Whether it has everything, or had everything at some moment within `max_lag`.
    pub fn is_caught_up(&self, leader_log_end_offset: i64, now: Instant, max_lag: Nanos) -> bool {
        self.log_end_offset == leader_log_end_offset
            || self.last_caught_up_at.is_some_and(|at| now.since(at) <= max_lag)
    }
}

/// A change of the ISR that the controller was asked for and has not yet answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingIsr {
    /// A follower shall join.
    Expand(i32),
    /// These followers shall leave.
    Shrink(BrokerIds),
}

/// The committed ISR and at most one change of it under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IsrState {
    /// As committed by the controller, in the controller's order.
    pub committed: BrokerIds,
    /// The change that was proposed.
    pub pending: Option<PendingIsr>,
}

impl IsrState {
    /// A committed ISR.
    pub fn committed(isr: &[i32]) -> IsrState {
        IsrState { committed: isr.iter().copied().collect(), pending: None }
    }

    /// Whether the follower must have a record before it counts as committed: the larger of the committed and the
    /// proposed ISR, since the leader cannot know which of the two is in force.
    pub fn maximal_contains(&self, id: i32) -> bool {
        self.committed.contains(&id)
            || matches!(self.pending, Some(PendingIsr::Expand(joining)) if joining == id)
    }

    /// The number of members of the maximal ISR.
    pub fn maximal_len(&self) -> usize {
        self.committed.len() + usize::from(matches!(self.pending, Some(PendingIsr::Expand(_))))
    }

    /// The members that a proposal would leave, ascending.
    pub fn proposed(&self) -> BrokerIds {
        let mut ids = self.committed.clone();
        match &self.pending {
            Some(PendingIsr::Expand(joining)) => ids.push(*joining),
            Some(PendingIsr::Shrink(leaving)) => ids.retain(|id| !leaving.contains(id)),
            None => {}
        }
        ids.sort_unstable();
        ids
    }
}

/// What the metadata says of a broker, as far as the ISR is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerStanding {
    /// Its id.
    pub id: i32,
    /// Its epoch: the offset of its registration.
    pub epoch: i64,
    /// Whether the controller has fenced it.
    pub fenced: bool,
    /// Whether it is about to go.
    pub in_controlled_shutdown: bool,
}

/// The brokers of the cluster, ascending by id.
#[derive(Clone, Debug, Default)]
pub struct Brokers(pub Vec<BrokerStanding>);

impl Brokers {
    fn find(&self, id: i32) -> Option<&BrokerStanding> {
        self.0.binary_search_by_key(&id, |b| b.id).ok().map(|at| &self.0[at])
    }

    /// The epoch of a broker that is registered and not fenced.
    pub fn alive_epoch(&self, id: i32) -> Option<i64> {
        self.find(id).filter(|b| !b.fenced).map(|b| b.epoch)
    }

    /// Whether a broker is registered and not fenced.
    pub fn is_alive(&self, id: i32) -> bool {
        self.alive_epoch(id).is_some()
    }

    /// Whether the follower may join the ISR: alive, not about to go, and the very incarnation that fetched.
    pub fn isr_eligible(&self, follower: &Follower) -> bool {
        let Some(broker) = self.find(follower.id) else { return false };
        !broker.fenced
            && !broker.in_controlled_shutdown
            && follower.broker_epoch.is_some_and(|fetched| fetched == -1 || fetched == broker.epoch)
    }

    /// Whether a fetch comes from an incarnation that the metadata has already replaced.
    pub fn is_stale(&self, id: i32, broker_epoch: i64) -> bool {
        broker_epoch != -1 && self.alive_epoch(id).is_some_and(|alive| alive > broker_epoch)
    }
}

/// A leader's view of one partition: everything that its two rules look at.
#[derive(Clone, Copy, Debug)]
pub struct LeaderView<'a> {
    /// The end of the leader's log.
    pub log_end_offset: i64,
    /// The other replicas.
    pub followers: &'a [Follower],
    /// The ISR.
    pub isr: &'a IsrState,
    /// `min.insync.replicas` of the topic, as configured.
    pub min_insync_replicas: i32,
    /// `replica.lag.time.max.ms`.
    pub max_lag: Nanos,
    /// The cluster.
    pub brokers: &'a Brokers,
    /// Bugs that are switched on.
    pub mutants: Mutants,
}

impl LeaderView<'_> {
    /// `min.insync.replicas`, but no more than there are replicas: a higher setting is no bar.
    pub fn effective_min_isr(&self) -> usize {
        (self.min_insync_replicas.max(0) as usize).min(self.followers.len() + 1)
    }

    /// Whether the committed ISR is too small for acks=all.
    pub fn is_under_min_isr(&self) -> bool {
        self.isr.committed.len() < self.effective_min_isr() && !self.mutants.has(Mutant::MinIsrIgnored)
    }

    /// How far the high watermark may go, if it may move at all.
    ///
    /// The smallest log end offset among the leader, the maximal ISR, and the followers that are caught up and could
    /// join: without the last, a lone leader's high watermark would run away from a follower that is about to return.
    /// Below `min.insync.replicas` nothing is committed.
    pub fn high_watermark(&self, now: Instant) -> Option<i64> {
        if self.is_under_min_isr() {
            return None;
        }
        if self.mutants.has(Mutant::HighWatermarkIsLogEnd) {
            return Some(self.log_end_offset);
        }
        if self.mutants.has(Mutant::HighWatermarkByMajority) {
            return Some(self.of_majority());
        }
        let mut lowest = self.log_end_offset;
        for follower in self.followers {
            if follower.log_end_offset < lowest
                && (self.must_have(follower.id)
                    || (follower.is_caught_up(self.log_end_offset, now, self.max_lag)
                        && self.brokers.isr_eligible(follower)))
            {
                lowest = follower.log_end_offset;
            }
        }
        Some(lowest)
    }

    /// Whether a follower must have a record before it counts as committed.
    fn must_have(&self, id: i32) -> bool {
        if self.mutants.has(Mutant::ShrinkBeforeCommitted) {
            return self.isr.proposed().contains(&id);
        }
        self.isr.maximal_contains(id)
    }

    /// What more than half of all replicas have, in sync or not.
    fn of_majority(&self) -> i64 {
        let ends = self.followers.iter().map(|f| f.log_end_offset.max(0));
        let mut ends: SmallVec<[i64; 6]> = ends.chain([self.log_end_offset]).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends[ends.len() / 2]
    }

    /// Members of the ISR that no longer keep up; none while a change is under way.
    pub fn out_of_sync(&self, leader: i32, now: Instant) -> BrokerIds {
        if self.isr.pending.is_some() {
            return BrokerIds::new();
        }
        let kept_up = |id: &i32| {
            *id == leader
                || self
                    .followers
                    .iter()
                    .find(|f| f.id == *id)
                    .is_some_and(|f| f.is_caught_up(self.log_end_offset, now, self.max_lag))
        };
        self.isr.committed.iter().copied().filter(|id| !kept_up(id)).collect()
    }

    /// Whether a follower may be proposed for the ISR: it has reached the high watermark and this leader's own epoch.
    ///
    /// The second condition is what keeps committed records safe: a new leader's high watermark may be behind the true
    /// one, and a follower between the two would be electable without records that were acknowledged.
    pub fn may_join(&self, follower: &Follower, high_watermark: i64, epoch_start_offset: i64) -> bool {
        self.isr.pending.is_none()
            && !self.isr.committed.contains(&follower.id)
            && follower.log_end_offset >= high_watermark
            && (follower.log_end_offset >= epoch_start_offset
                || self.mutants.has(Mutant::JoinsBelowEpochStart))
            && (self.brokers.isr_eligible(follower) || self.mutants.has(Mutant::StaleReplicaJoins))
    }
}

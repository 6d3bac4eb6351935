//! Where a consumer is in each of its partitions (`SubscriptionState.java`, KIP-320).
//!
//! A position is an offset, the epoch of the last record before it, and the leader for which it is known to be
//! valid. A new leader epoch makes it questionable: before it is fetched from again, the new leader is asked where
//! that epoch ends, since its log may have been truncated below the position.

use alloc::format;
use alloc::string::String;

use wire::drive::Instant;

use crate::config::OffsetReset;
use crate::event::{ResetReason, TopicPartition};
use crate::metadata::{Broker, Partition};
use crate::mutant::{Mutant, Mutants};

/// A leader and its epoch, as the metadata had them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct LeaderAndEpoch {
    pub leader: Option<i32>,
    pub epoch: i32,
}

impl LeaderAndEpoch {
    pub fn of(partition: Option<&Partition>) -> LeaderAndEpoch {
        match partition {
            Some(partition) => LeaderAndEpoch { leader: partition.leader, epoch: partition.leader_epoch },
            None => LeaderAndEpoch { leader: None, epoch: -1 },
        }
    }
}

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The offset of the next record.
    pub offset: i64,
    /// The leader epoch of the last record before it, if one was read.
    pub epoch: Option<i32>,
    /// For whom it is valid.
    pub current: LeaderAndEpoch,
}

impl Position {
    /// As Java prints a FetchPosition.
    pub fn to_text(self, broker: Option<&Broker>) -> String {
        let epoch = self.epoch.map_or("Optional.empty".into(), |epoch| format!("Optional[{epoch}]"));
        let leader = broker.map_or("Optional.empty".into(), |broker| {
            let rack = broker.rack.as_deref().unwrap_or("null");
            format!("Optional[{} (id: {} rack: {rack} isFenced: false)]", broker.endpoint, broker.id)
        });
        format!(
            "FetchPosition{{offset={}, offsetEpoch={epoch}, currentLeader=LeaderAndEpoch{{leader={leader}, epoch={}}}}}",
            self.offset, self.current.epoch
        )
    }
}

/// What must happen before records can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchState {
    /// It has no position and nobody has said where to begin.
    Initializing,
    /// An offset is looked up by timestamp, or by what stands for one (-1: end, -2: start).
    AwaitReset { to: ResetTo, reason: ResetReason },
    /// The leader is asked where the position's epoch ends.
    AwaitValidation,
    /// Records can be fetched.
    Fetching,
}

/// Where a reset goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResetTo {
    Earliest,
    Latest,
    /// The first record of at most so many milliseconds ago, or the end.
    Ago {
        ms: i64,
    },
}

impl ResetTo {
    /// As `auto.offset.reset` says; `None` for `none`.
    pub fn of(reset: OffsetReset) -> Option<ResetTo> {
        match reset {
            OffsetReset::Earliest => Some(ResetTo::Earliest),
            OffsetReset::Latest => Some(ResetTo::Latest),
            OffsetReset::ByDuration { ms } => Some(ResetTo::Ago { ms }),
            OffsetReset::None => None,
        }
    }

    /// As ListOffsets wants it.
    pub fn timestamp(self, wall_ms: i64) -> i64 {
        match self {
            ResetTo::Earliest => -2,
            ResetTo::Latest => -1,
            ResetTo::Ago { ms } => (wall_ms - ms).max(0),
        }
    }
}

/// A partition of the assignment.
#[derive(Clone, Debug)]
pub(super) struct PartitionState {
    pub partition: TopicPartition,
    pub state: FetchState,
    pub position: Option<Position>,
    /// A lookup of its offset is under way.
    pub asked: bool,
    /// Until when nothing is asked of its leader.
    pub retry_at: Instant,
    pub failures: u32,
    pub high_watermark: Option<i64>,
    pub last_stable_offset: Option<i64>,
    pub log_start_offset: Option<i64>,
    /// The follower to fetch from instead of the leader (KIP-392), and until when.
    pub preferred: Option<(i32, Instant)>,
    /// The broker from whose session it is fetched.
    pub node: Option<i32>,
    pub paused: bool,
    /// A rebalance is about to take it away: its position is being committed.
    pub pending_revocation: bool,
}

impl PartitionState {
    pub fn new(partition: TopicPartition) -> PartitionState {
        PartitionState {
            partition,
            state: FetchState::Initializing,
            position: None,
            asked: false,
            retry_at: Instant(0),
            failures: 0,
            high_watermark: None,
            last_stable_offset: None,
            log_start_offset: None,
            preferred: None,
            node: None,
            paused: false,
            pending_revocation: false,
        }
    }

    /// Whether records may be fetched and handed out.
    pub fn is_fetchable(&self) -> bool {
        !self.paused && !self.pending_revocation && self.state == FetchState::Fetching
    }

    /// The offset is to be looked up.
    pub fn reset(&mut self, to: ResetTo, reason: ResetReason) {
        self.state = FetchState::AwaitReset { to, reason };
        self.asked = false;
        self.retry_at = Instant(0);
    }

    /// Goes on at `position`, whose validity is known or cannot be asked for.
    pub fn seek(&mut self, position: Position) {
        self.position = Some(position);
        self.state = FetchState::Fetching;
        self.asked = false;
        self.failures = 0;
        self.retry_at = Instant(0);
    }

    /// The metadata may name another leader, or another epoch: the position must then be validated.
    pub fn leader_is(&mut self, current: LeaderAndEpoch, mutants: Mutants) {
        let Some(position) = self.position else { return };
        if matches!(self.state, FetchState::AwaitReset { .. } | FetchState::Initializing)
            || current.leader.is_none()
            || position.current == current
        {
            return;
        }
        self.position = Some(Position { current, ..position });
        self.preferred = None;
        self.asked = false;
        self.retry_at = Instant(0);
        let can_ask =
            position.epoch.is_some() && current.epoch >= 0 && !mutants.has(Mutant::PositionNotValidated);
        self.state = if can_ask { FetchState::AwaitValidation } else { FetchState::Fetching };
    }
}

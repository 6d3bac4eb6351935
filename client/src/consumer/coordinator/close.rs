//! Closing: a last commit, leaving the group, and no more than that.

use alloc::vec::Vec;

use wire::drive::{Instant, Nanos, Now};

use super::super::Consumer;
use super::Membership;
use super::classic::Generation;
use super::commit::Purpose;
use crate::io::Outputs;

/// `KafkaConsumer.DEFAULT_CLOSE_TIMEOUT_MS`.
pub(super) const TIMEOUT: Nanos = Nanos::from_millis(30_000);

/// How far closing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum Closing {
    No,
    /// Offsets are being committed.
    Committing {
        until: Instant,
    },
    /// The member leaves as soon as it can, and then waits for what is in flight.
    Leaving {
        until: Instant,
    },
    Left,
}

impl Consumer {
    pub(in crate::consumer) fn begin_close_group(&mut self, now: Now, out: &mut Outputs) {
        let until = now.mono + TIMEOUT;
        self.group_mut().closing = Closing::Committing { until };
        let offsets = if self.config.auto_commit { self.all_consumed() } else { Vec::new() };
        self.begin_commit(now.mono, Purpose::Close, offsets, out);
        self.drive_close(now, out);
    }

    pub(super) fn committed_before_close(&mut self) {
        let group = self.group_mut();
        if let Closing::Committing { until } = group.closing {
            group.closing = Closing::Leaving { until };
        }
    }

    pub(super) fn drive_close(&mut self, now: Now, out: &mut Outputs) {
        let group = self.group_mut();
        let (Closing::Committing { until } | Closing::Leaving { until }) = group.closing else { return };
        if until <= now.mono {
            group.commits.waiting.clear();
            group.closing = Closing::Leaving { until };
        }
        group.wake_at(until);
        // Commits that the application began come first.
        let is_committing = group.commits.in_flight > 0 || !group.commits.waiting.is_empty();
        if matches!(group.closing, Closing::Committing { .. }) || is_committing && until > now.mono {
            return;
        }
        group.closing = Closing::Left;
        match &group.membership {
            Membership::None => {}
            Membership::Classic(classic) => {
                let is_lost = classic.generation.id == Generation::NO_ID
                    || classic.generation.member.is_empty()
                    || classic.is_rebalancing();
                let owned = self.owned();
                self.give_up(owned, is_lost, out);
                self.leave_group(now.mono, "the consumer is being closed", out);
            }
            Membership::Modern(_) => self.leave_modern(now.mono, out),
        }
    }
}

//! What replication throttles (KIP-73) withhold from followers as their leader.
//!
//! Follows Kafka's `ReplicaManager.shouldLeaderThrottle` and `BrokerConfigHandler`. A follower that is not in the ISR
//! gets nothing of a throttled partition while the leader's quota is exceeded, and what waits for it does not answer a
//! request that waits; it asks again when the time of that request is over. What a follower does is in `fetcher`.

use wire::drive::Instant;

use super::ReplicaManager;
use super::partition::PartitionIx;
use super::session::Entry;
use crate::config::Dynamic;
use crate::quota::replication::{FOLLOWER_RATE, LEADER_RATE};

impl ReplicaManager {
    /// Takes the rates that are in force.
    pub(super) fn set_quotas(&mut self, dynamic: Dynamic<'_>) {
        // The largest rate is what Kafka takes for none.
        let rate = |name: &str| dynamic.broker_quota(name).filter(|rate| *rate < i64::MAX as u64);
        self.quotas.leader.set_rate(rate(LEADER_RATE));
        self.quotas.follower.set_rate(rate(FOLLOWER_RATE));
    }

    /// Whether a follower must get nothing of a partition now.
    pub(super) fn leader_throttles(&mut self, ix: PartitionIx, follower: i32, now: Instant) -> bool {
        let partition = self.table.get(ix);
        partition.throttled.leader
            && partition.leading.as_ref().is_some_and(|l| !l.isr.committed.contains(&follower))
            && self.quotas.leader.exceeded(now)
    }

    /// Whether a topic's list throttles this broker as the leader of what a fetcher wants.
    pub(super) fn is_listed(&self, entry: &Entry) -> bool {
        let at = entry.at.or_else(|| self.table.find(entry.topic.as_ref(), entry.wanted.partition));
        at.is_some_and(|ix| self.table.get(ix).throttled.leader)
    }
}

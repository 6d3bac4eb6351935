//! What quotas withhold: replication throttles (KIP-73) from followers as their leader, and a client's quota from a
//! client.
//!
//! A client that goes over its quota gets nothing with this answer, which tells it how long to wait, and it is as if it
//! had not asked (`KafkaApis.handleFetchRequest`, `FetchContext.getThrottledResponse`).
//!
//! Of followers it follows Kafka's `ReplicaManager.shouldLeaderThrottle` and `BrokerConfigHandler`. A follower that is
//! not in the ISR gets nothing of a throttled partition while the leader's quota is exceeded, and what waits for it does
//! not answer a request that waits; it asks again when the time of that request is over. What a follower does is in
//! `fetcher`.

use alloc::vec::Vec;

use wire::drive::Instant;
use wire::messages::FetchResponse;
use wire::messages::fetch_response::FetchableTopicResponse;
use wire::{Message, Writer};

use super::ReplicaManager;
use super::fetch::{FetchKind, FetchOp, Read};
use super::partition::PartitionIx;
use super::session::{Entry, INVALID_SESSION_ID, SetIx};
use crate::config::Dynamic;
use crate::ctx::Ctx;
use crate::metadata::MetadataImage;
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

    /// How much more there is for a follower's waiting request when a listed partition was appended to: nothing while the
    /// follower is throttled, and once it is not, what was withheld from it as well.
    pub(super) fn let_through(
        &mut self,
        now: Instant,
        ix: PartitionIx,
        at: SetIx,
        entry: u32,
        bytes: usize,
    ) -> Option<usize> {
        let Some(follower) = self.sets.get(at).follower else { return Some(bytes) };
        let throttled = self.leader_throttles(ix, follower.id, now);
        let withheld = &mut self.sets.get_mut(at).entry_mut(entry).withheld;
        let all = withheld.saturating_add(bytes);
        *withheld = if throttled { all } else { 0 };
        (!throttled).then_some(all)
    }

    /// Whether a topic's list throttles this broker as the leader of what a fetcher wants.
    pub(super) fn is_listed(&self, entry: &Entry) -> bool {
        let at = entry.at.or_else(|| self.table.find(entry.topic.as_ref(), entry.wanted.partition));
        at.is_some_and(|ix| self.table.get(ix).throttled.leader)
    }

    /// For how many milliseconds a client has to wait because what was read for it goes over its quota.
    #[inline]
    pub(super) fn throttle_client(
        &self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        at: SetIx,
        op: FetchOp,
        reads: &[Read],
    ) -> Option<i32> {
        if !ctx.net.measures_clients() || self.sets.get(at).follower.is_some() {
            return None;
        }
        let bytes = self.response_bytes(image, at, op, reads);
        ctx.net.throttle_fetch(ctx.now.mono, ctx.out, op.token, bytes)
    }

    /// How many bytes the response would have (`FetchContext.getResponseSize`).
    fn response_bytes(&self, image: &MetadataImage, at: SetIx, op: FetchOp, reads: &[Read]) -> usize {
        let set = self.sets.get(at);
        let all = op.kind != FetchKind::Incremental;
        let told = reads.iter().filter(|read| all || read.must_respond(set.entry(read.entry)));
        let mut told: Vec<Read> = told.cloned().collect();
        size_of(op.token.version, self.topic_responses(image, at, op, &mut told, &mut Vec::new(), None))
    }

    /// Answers a client with nothing but the time that it has to wait, and makes no session. What it wanted is still
    /// there.
    pub(super) fn answer_throttled(
        &mut self,
        ctx: &mut Ctx<'_>,
        at: SetIx,
        op: FetchOp,
        throttle_time_ms: i32,
    ) {
        let set = self.sets.get_mut(at);
        let session_id = match op.kind {
            FetchKind::Incremental => set.session_id,
            FetchKind::Sessionless | FetchKind::Full => INVALID_SESSION_ID,
        };
        let response = FetchResponse { session_id, throttle_time_ms, ..FetchResponse::default() };
        ctx.net.respond(ctx.out, op.token, &response);
        set.reset_available();
        if set.session_id == INVALID_SESSION_ID {
            self.drop_set(at);
        }
    }
}

/// The size of a response as Kafka's `FetchResponse.sizeOf` counts it.
pub(super) fn size_of(version: i16, responses: Vec<FetchableTopicResponse<'_>>) -> usize {
    let response = FetchResponse { responses, ..FetchResponse::default() };
    let mut w = Writer::new();
    match response.encode(&mut w, version) {
        Ok(()) => 4 + w.len(),
        Err(error) => panic!("a part of a response that was sent: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Rope;
    use wire::messages::fetch_response::PartitionData;

    #[test]
    fn a_response_counts_with_its_size_and_its_head() {
        // Kafka 4.3.1: FetchResponse.sizeOf(17, …) of nothing, and of one partition with 1,000 bytes.
        assert_eq!(size_of(17, Vec::new()), 16);
        let records = Some(Rope::from(bytes::Bytes::from(alloc::vec![0; 1_000])));
        let partitions = alloc::vec![PartitionData { records, ..PartitionData::default() }];
        let topic = FetchableTopicResponse { partitions, ..FetchableTopicResponse::default() };
        assert_eq!(size_of(17, alloc::vec![topic]), 1_072);
    }
}

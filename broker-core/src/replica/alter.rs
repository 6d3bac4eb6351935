//! Changes of the ISR: proposed by the leader, decided by the controller (KIP-497, KIP-841, KIP-903).
//!
//! One AlterPartition request of a broker is under way at a time; proposals that come meanwhile travel together in the
//! next. It is repeated until it is answered, or until the metadata overtakes it. Follows Kafka's
//! `AlterPartitionManager` and `Partition.submitAlterPartition`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use wire::drive::{Instant, Nanos};
use wire::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use wire::messages::alter_partition_response::PartitionData as Decision;
use wire::messages::{AlterPartitionRequest, AlterPartitionResponse};
use wire::{ErrorCode, Message, Reader, Uuid};

use super::ReplicaManager;
use super::isr::{BrokerIds, IsrState, PendingIsr};
use super::partition::PartitionIx;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::metadata::MetadataImage;
use crate::net::{Call, CallOutcome};

/// With broker epochs (KIP-903).
const ALTER_PARTITION_VERSION: i16 = 3;
/// How long to wait after a failure of the whole request.
const RETRY_BACKOFF: Nanos = Nanos::from_millis(50);

/// What is kept of a request to the controller until its answer comes: the replica manager knows the rest, since only
/// one of a kind is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterPartitionCall {
    /// AlterPartition.
    AlterPartition,
    /// AssignReplicasToDirs.
    AssignReplicasToDirs,
}

/// A proposal that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    topic_id: Uuid,
    index: i32,
    at: PartitionIx,
    proposal: u64,
}

/// Proposals that wait, and those under way.
#[derive(Clone, Debug, Default)]
pub(super) struct AlterPartitions {
    unsent: BTreeMap<PartitionIx, u64>,
    in_flight: Option<Vec<Sent>>,
    pub retry_at: Option<Instant>,
}

impl ReplicaManager {
    /// A follower has caught up: proposes it for the ISR, if it may join.
    pub(super) fn maybe_expand_isr(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx, id: i32) {
        let partition = self.table.get(ix);
        let Some(view) = partition.view(&self.brokers, self.settings.lag_time_max) else { return };
        let leading = partition.leading.as_ref().expect("it leads");
        let Some(follower) = leading.follower(id) else { return };
        if view.may_join(follower, partition.log().high_watermark(), leading.epoch_start_offset) {
            self.propose_isr(ctx, ix, PendingIsr::Expand(id));
        }
    }

    /// Proposes that members of ISRs which do not keep up leave them. Every half `replica.lag.time.max.ms`.
    pub(super) fn shrink_isrs(&mut self, ctx: &mut Ctx<'_>) {
        for ix in self.table.all() {
            let partition = self.table.get(ix);
            let Some(view) = partition.view(&self.brokers, self.settings.lag_time_max) else { continue };
            let leaving = view.out_of_sync(self.node_id, ctx.now.mono);
            if !leaving.is_empty() {
                self.propose_isr(ctx, ix, PendingIsr::Shrink(leaving));
            }
        }
    }

    fn propose_isr(&mut self, _ctx: &mut Ctx<'_>, ix: PartitionIx, change: PendingIsr) {
        let proposal = self.table.get_mut(ix).propose(change);
        self.alter.unsent.insert(ix, proposal);
    }

    /// Sends what is proposed, unless a request is under way or a failed one waits for its repetition.
    pub(super) fn send_alter_partitions(&mut self, ctx: &mut Ctx<'_>) {
        if self.alter.unsent.is_empty() || self.alter.in_flight.is_some() || self.alter.retry_at.is_some() {
            return;
        }
        let Some(controller) = ctx.net.active_controller() else {
            self.alter.retry_at = Some(ctx.now.mono + RETRY_BACKOFF);
            return;
        };
        let mut request = AlterPartitionRequest {
            broker_id: self.node_id,
            broker_epoch: self.broker_epoch,
            ..AlterPartitionRequest::default()
        };
        let mut sent = Vec::new();
        for (ix, proposal) in core::mem::take(&mut self.alter.unsent) {
            let Some(partition) = self.table.try_get(ix) else { continue };
            let Some(leading) = &partition.leading else { continue };
            if leading.proposal != proposal || leading.isr.pending.is_none() {
                continue;
            }
            sent.push(Sent { topic_id: partition.topic_id, index: partition.index, at: ix, proposal });
            let with_epoch = |id: i32| BrokerState {
                broker_id: id,
                // A member that has not fetched from this leader yet has no epoch to tell: if it dies, the controller
                // takes it out of the ISR and this request is refused for its partition epoch.
                broker_epoch: match id == self.node_id {
                    true => self.broker_epoch,
                    false => leading.follower(id).and_then(|f| f.broker_epoch).unwrap_or(-1),
                },
            };
            let data = PartitionData {
                partition_index: partition.index,
                leader_epoch: partition.leader_epoch,
                new_isr_with_epochs: leading.isr.proposed().into_iter().map(with_epoch).collect(),
                // An unclean leader needs no further recovery: it says so with its first change.
                leader_recovery_state: 0,
                partition_epoch: partition.partition_epoch,
                ..PartitionData::default()
            };
            match request.topics.iter_mut().find(|t| t.topic_id == partition.topic_id) {
                Some(topic) => topic.partitions.push(data),
                None => request
                    .topics
                    .push(TopicData { topic_id: partition.topic_id, partitions: alloc::vec![data] }),
            }
        }
        if sent.is_empty() {
            return;
        }
        self.alter.in_flight = Some(sent);
        let timeout = ctx.config.lifecycle.controller_socket_timeout;
        let call = Call::AlterPartition(AlterPartitionCall::AlterPartition);
        ctx.net.call(ctx.now, ctx.out, controller, &request, ALTER_PARTITION_VERSION, timeout, call);
    }

    /// The answer to a request to the controller came, or it failed.
    pub fn handle_alter_partition_outcome(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        call: AlterPartitionCall,
        outcome: CallOutcome,
    ) {
        match call {
            AlterPartitionCall::AlterPartition => self.alter_partition_answered(ctx, image, outcome),
            AlterPartitionCall::AssignReplicasToDirs => self.assignments_answered(ctx, outcome),
        }
        self.finish(ctx, image);
    }

    fn alter_partition_answered(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, outcome: CallOutcome) {
        let sent = self.alter.in_flight.take().expect("an outcome belongs to the request under way");
        let response = match &outcome {
            CallOutcome::Answered { body, version } => {
                let bytes = body.clone();
                decode(&bytes, *version)
            }
            CallOutcome::TimedOut | CallOutcome::Disconnected(_) => None,
        };
        match response {
            Some(response) => {
                for sent in sent {
                    let decision = (response.topics.iter().filter(|t| t.topic_id == sent.topic_id))
                        .flat_map(|t| &t.partitions)
                        .find(|p| p.partition_index == sent.index);
                    match decision {
                        Some(decision) => self.decided(ctx, image, sent, decision),
                        None => self.propose_again(sent),
                    }
                }
            }
            None => {
                self.alter.retry_at = Some(ctx.now.mono + RETRY_BACKOFF);
                sent.into_iter().for_each(|sent| self.propose_again(sent));
            }
        }
    }

    fn propose_again(&mut self, sent: Sent) {
        self.alter.unsent.entry(sent.at).or_insert(sent.proposal);
    }

    /// The controller's word on one proposal.
    fn decided(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, sent: Sent, decision: &Decision) {
        let Some(partition) = self.table.try_get_mut(sent.at) else { return };
        let same = partition.topic_id == sent.topic_id && partition.index == sent.index;
        let Some(leading) = partition.leading.as_mut().filter(|l| same && l.proposal == sent.proposal) else {
            return;
        };
        if leading.isr.pending.is_none() {
            // The metadata was here first.
            return;
        }
        match ErrorCode(decision.error_code) {
            ErrorCode::NONE => {
                if decision.leader_epoch != partition.leader_epoch
                    || decision.partition_epoch < partition.partition_epoch
                {
                    return;
                }
                let before = core::mem::replace(&mut leading.isr, IsrState::committed(&decision.isr));
                partition.partition_epoch = decision.partition_epoch;
                self.isr_committed(ctx, image, sent.at, &before.committed);
            }
            // The controller says that its epochs are ours and that it did nothing: the committed ISR holds.
            ErrorCode::OPERATION_NOT_ATTEMPTED | ErrorCode::INELIGIBLE_REPLICA => leading.isr.pending = None,
            // What the controller knows is newer than what this broker does: the metadata will tell. Until then the
            // proposal may have been applied.
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::INVALID_UPDATE_VERSION
            | ErrorCode::INVALID_REQUEST
            | ErrorCode::NEW_LEADER_ELECTED => {}
            _ => self.propose_again(sent),
        }
    }

    /// The leader has another committed ISR: its high watermark may move, followers outside of it are watched again.
    pub(super) fn isr_committed(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        ix: PartitionIx,
        before: &[i32],
    ) {
        let partition = self.table.get(ix);
        let after = &partition.leading.as_ref().expect("it leads").isr.committed;
        let sorted = |ids: &[i32]| {
            let mut ids = BrokerIds::from_slice(ids);
            ids.sort_unstable();
            ids
        };
        if sorted(before) != sorted(after) {
            let (name, from, to) = (|| partition.name(), || before.to_vec(), || after.to_vec());
            ctx.out.event(|| match before.iter().all(|id| after.contains(id)) {
                true => Event::IsrExpanded { partition: name(), from: from(), to: to() },
                false => Event::IsrShrunk { partition: name(), from: from(), to: to() },
            });
            self.notify_changed(ix, false);
        }
        self.advance_high_watermark(ctx, image, ix);
    }
}

/// The response, unless the whole request failed and has to be repeated.
fn decode(body: &wire::Rope, version: i16) -> Option<AlterPartitionResponse> {
    let mut reader = Reader::new(body);
    let response = AlterPartitionResponse::decode(&mut reader, version).ok()?;
    if response.error_code != 0 {
        return None;
    }
    // Another controller is active: it must hear all of it.
    let moved = response.topics.iter().flat_map(|t| &t.partitions);
    let moved = moved.into_iter().any(|p| ErrorCode(p.error_code) == ErrorCode::NOT_CONTROLLER);
    (!moved).then_some(response)
}

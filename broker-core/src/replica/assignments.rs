//! Which log directory each replica lies in, told to the controller (KIP-858), so that it knows what is lost when a
//! directory fails. Follows Kafka's `AssignmentsManager`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use wire::drive::{Instant, Nanos};
use wire::messages::assign_replicas_to_dirs_request::{DirectoryData, PartitionData, TopicData};
use wire::messages::{AssignReplicasToDirsRequest, AssignReplicasToDirsResponse};
use wire::{ErrorCode, Message, Reader, Uuid};

use super::ReplicaManager;
use super::alter::AlterPartitionCall;
use super::partition::PartitionIx;
use crate::ctx::Ctx;
use crate::metadata::{MetadataImage, PartitionRegistration, TopicIdPartition};
use crate::net::{Call, CallOutcome};

const VERSION: i16 = 0;
/// Assignments of one request.
const MAX_ASSIGNMENTS: usize = 2_250;
/// How long assignments are collected, and how long the first repetition waits; it doubles up to the second.
const DISPATCH: Nanos = Nanos::from_millis(500);
const MAX_BACKOFF: Nanos = Nanos::from_secs(10);

/// Assignments that the controller has not yet confirmed.
#[derive(Clone, Debug, Default)]
pub(super) struct Assignments {
    pending: BTreeMap<TopicIdPartition, Uuid>,
    in_flight: Option<Vec<(TopicIdPartition, Uuid)>>,
    failures: u32,
    pub send_at: Option<Instant>,
}

impl ReplicaManager {
    /// Compares where a replica lies with what the metadata says.
    pub(super) fn check_assignment(
        &mut self,
        ctx: &Ctx<'_>,
        ix: PartitionIx,
        registration: &PartitionRegistration,
    ) {
        let partition = self.table.get(ix);
        let id = TopicIdPartition { topic_id: partition.topic_id, partition: partition.index };
        let actual = self.directory_id(partition.dir);
        if actual.is_zero() || registration.directory_of(self.node_id) == Some(actual) {
            self.assignments.pending.remove(&id);
            return;
        }
        self.assignments.pending.insert(id, actual);
        if self.assignments.in_flight.is_none() && self.assignments.send_at.is_none() {
            self.assignments.send_at = Some(ctx.now.mono + DISPATCH);
        }
    }

    /// Sends what is pending, once its time has come.
    pub(super) fn send_assignments(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage) {
        if self.assignments.send_at.is_none_or(|at| at > ctx.now.mono) {
            return;
        }
        self.assignments.send_at = None;
        // A replica that left meanwhile has nothing to tell.
        let still =
            |id: &TopicIdPartition| image.partition(*id).is_some_and(|r| r.replicas.contains(&self.node_id));
        self.assignments.pending.retain(|id, _| still(id));
        if self.assignments.pending.is_empty() {
            return;
        }
        let Some(controller) = ctx.net.active_controller() else { return self.assignments_failed(ctx) };
        let sent: Vec<(TopicIdPartition, Uuid)> =
            self.assignments.pending.iter().take(MAX_ASSIGNMENTS).map(|(id, dir)| (*id, *dir)).collect();
        let mut request = AssignReplicasToDirsRequest {
            broker_id: self.node_id,
            broker_epoch: self.broker_epoch,
            ..AssignReplicasToDirsRequest::default()
        };
        for (id, dir) in &sent {
            let at = match request.directories.iter().position(|d| d.id == *dir) {
                Some(at) => at,
                None => {
                    request.directories.push(DirectoryData { id: *dir, topics: Vec::new() });
                    request.directories.len() - 1
                }
            };
            let topics = &mut request.directories[at].topics;
            if topics.last().is_none_or(|t| t.topic_id != id.topic_id) {
                topics.push(TopicData { topic_id: id.topic_id, partitions: Vec::new() });
            }
            let topic = topics.last_mut().expect("one was pushed");
            topic.partitions.push(PartitionData { partition_index: id.partition });
        }
        self.assignments.in_flight = Some(sent);
        let timeout = ctx.config.lifecycle.controller_socket_timeout;
        let call = Call::AlterPartition(AlterPartitionCall::AssignReplicasToDirs);
        ctx.net.call(ctx.now, ctx.out, controller, &request, VERSION, timeout, call);
    }

    fn assignments_failed(&mut self, ctx: &Ctx<'_>) {
        let backoff = DISPATCH.0 << self.assignments.failures.min(5);
        self.assignments.failures += 1;
        self.assignments.send_at = Some(ctx.now.mono + Nanos(backoff.min(MAX_BACKOFF.0)));
    }

    /// The controller answered, or did not.
    pub(super) fn assignments_answered(&mut self, ctx: &mut Ctx<'_>, outcome: CallOutcome) {
        let sent = self.assignments.in_flight.take().expect("an outcome belongs to the request under way");
        let Some(response) = decode(outcome) else { return self.assignments_failed(ctx) };
        self.assignments.failures = 0;
        for (id, dir) in sent {
            let answer = (response.directories.iter().filter(|d| d.id == dir))
                .flat_map(|d| d.topics.iter().filter(|t| t.topic_id == id.topic_id))
                .flat_map(|t| t.partitions.iter().filter(|p| p.partition_index == id.partition))
                .next();
            let done = answer.is_some_and(|p| {
                // A replica that the controller does not know, or no longer, is not asked for again.
                matches!(
                    ErrorCode(p.error_code),
                    ErrorCode::NONE
                        | ErrorCode::UNKNOWN_TOPIC_ID
                        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                        | ErrorCode::NOT_LEADER_OR_FOLLOWER
                )
            });
            if done && self.assignments.pending.get(&id) == Some(&dir) {
                self.assignments.pending.remove(&id);
            }
        }
        if !self.assignments.pending.is_empty() {
            self.assignments.send_at = Some(ctx.now.mono + DISPATCH);
        }
    }
}

fn decode(outcome: CallOutcome) -> Option<AssignReplicasToDirsResponse> {
    let CallOutcome::Answered { body, version } = outcome else { return None };
    let mut reader = Reader::new(&body);
    let response = AssignReplicasToDirsResponse::decode(&mut reader, version).ok()?;
    (response.error_code == 0).then_some(response)
}

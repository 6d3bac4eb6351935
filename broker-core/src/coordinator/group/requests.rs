//! Requests to the group coordinator: which shard each is for, and its answer. Those that concern offsets are in
//! [`super::offset_requests`].
//!
//! Follows Kafka's `KafkaApis` and `GroupCoordinatorService`. What concerns groups of several partitions
//! (DescribeGroups, ListGroups, DeleteGroups) is put together here.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::messages::delete_groups_response::DeletableGroupResult;
use wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use wire::messages::list_groups_response::ListedGroup;
use wire::messages::*;
use wire::{ApiKey, ErrorCode};

use super::classic::State;
use super::consumer;
use super::membership::{Sender, respond_join_error, respond_sync};
use super::{Ended, GroupCoordinator, GroupShard, Later};
use crate::coordinator::runtime::{Parts, ShardCx};
use crate::metadata::MetadataImage;
use crate::net::RequestToken;

/// `authorized_operations` when nobody asked for them.
const NO_OPERATIONS: i32 = i32::MIN;

/// A DeleteGroups some of whose groups are being deleted.
#[derive(Clone, Debug)]
pub(super) struct Deletion {
    token: RequestToken,
    results: Vec<(Arc<str>, Option<ErrorCode>)>,
}

impl GroupCoordinator {
    /// Whether an API is one of groups.
    pub fn serves(key: ApiKey) -> bool {
        use ApiKey::*;
        let offsets = matches!(key, OffsetCommit | OffsetFetch | OffsetDelete | TxnOffsetCommit);
        let members = matches!(key, JoinGroup | SyncGroup | Heartbeat | LeaveGroup);
        let modern = matches!(key, ConsumerGroupHeartbeat | ConsumerGroupDescribe);
        offsets || members || modern || matches!(key, DescribeGroups | ListGroups | DeleteGroups)
    }

    /// The partition of a group that this broker coordinates.
    pub(super) fn partition_led(&self, image: &MetadataImage, group: &str) -> Result<i32, ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        let partition = self.runtime.partition_of(image, group)?;
        self.runtime.epoch(partition).map(|_| partition).ok_or(ErrorCode::NOT_COORDINATOR)
    }

    /// The shard of a group, for looking.
    pub(super) fn shard_of(&self, image: &MetadataImage, group: &str) -> Result<&GroupShard, ErrorCode> {
        let partition = self.partition_led(image, group)?;
        self.runtime.shard(partition).ok_or(ErrorCode::NOT_COORDINATOR)
    }

    // --- groups

    /// DeleteGroups (42).
    pub fn handle_delete_groups(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &DeleteGroupsRequest<'_>,
    ) {
        let number = self.next_request;
        self.next_request += 1;
        let mut deletion = Deletion { token, results: Vec::new() };
        for group in &request.groups_names {
            let name: Arc<str> = Arc::from(&**group);
            let result = match &**group {
                "" => Err(ErrorCode::INVALID_GROUP_ID),
                id => (self.shard_of(parts.image, id)).and_then(|shard| shard.check_delete(id)),
            };
            deletion.results.push((name, result.err()));
        }
        let accepted: Vec<Arc<str>> =
            deletion.results.iter().filter(|(_, e)| e.is_none()).map(|(g, _)| g.clone()).collect();
        self.deletions.insert(number, deletion);
        for group in accepted {
            let later = Later::GroupDeleted { request: number, group: group.clone() };
            let _ = self.runtime.with_id(parts, &group, |shard, cx| shard.delete_group(cx, &group, later));
        }
        for partition in self.runtime.active().collect::<Vec<_>>() {
            self.take_ended(parts, partition);
        }
        self.answer_deletions(parts);
    }

    /// What of DeleteGroups has ended in a partition.
    pub(super) fn take_ended(&mut self, parts: &mut Parts<'_, '_>, partition: i32) {
        if self.deletions.is_empty() {
            return;
        }
        let ended = self.runtime.with(parts, partition, |shard, _| core::mem::take(&mut shard.ended));
        for Ended { request, group, error } in ended.unwrap_or_default() {
            if let Some(deletion) = self.deletions.get_mut(&request) {
                let open =
                    deletion.results.iter_mut().find(|(name, result)| *name == group && result.is_none());
                if let Some((_, result)) = open {
                    *result = Some(error);
                }
            }
        }
        self.answer_deletions(parts);
    }

    fn answer_deletions(&mut self, parts: &mut Parts<'_, '_>) {
        let done = |deletion: &Deletion| deletion.results.iter().all(|(_, result)| result.is_some());
        let numbers: Vec<u64> = self.deletions.iter().filter(|(_, d)| done(d)).map(|(n, _)| *n).collect();
        for number in numbers {
            let deletion = self.deletions.remove(&number).expect("it was just seen");
            let results = (deletion.results.iter())
                .map(|(group, error)| DeletableGroupResult {
                    group_id: Cow::Borrowed(&**group),
                    error_code: error.unwrap_or(ErrorCode::NONE).0,
                    ..DeletableGroupResult::default()
                })
                .collect();
            let response = DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() };
            parts.ctx.net.respond(parts.ctx.out, deletion.token, &response);
        }
    }

    /// ListGroups (16).
    pub fn handle_list_groups(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &ListGroupsRequest<'_>,
    ) {
        let wanted = |filter: &[Cow<'_, str>], is: &str| {
            filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(is))
        };
        let mut groups: Vec<ListedGroup<'_>> = Vec::new();
        for (_, shard) in self.runtime.shards() {
            for group in shard.classic.iter() {
                if wanted(&request.states_filter, group.state.name())
                    && wanted(&request.types_filter, "classic")
                {
                    groups.push(ListedGroup {
                        group_id: Cow::Borrowed(&*group.id),
                        protocol_type: Cow::Borrowed(group.protocol_type.as_deref().unwrap_or("")),
                        group_state: Cow::Borrowed(group.state.name()),
                        group_type: Cow::Borrowed("classic"),
                    });
                }
            }
            for group in shard.consumer.iter() {
                let state = group.state();
                if wanted(&request.states_filter, state) && wanted(&request.types_filter, "consumer") {
                    groups.push(ListedGroup {
                        group_id: Cow::Borrowed(&*group.id),
                        protocol_type: Cow::Borrowed("consumer"),
                        group_state: Cow::Borrowed(state),
                        group_type: Cow::Borrowed("consumer"),
                    });
                }
            }
        }
        let response = ListGroupsResponse { groups, ..ListGroupsResponse::default() };
        parts.ctx.net.respond(parts.ctx.out, token, &response);
    }

    /// DescribeGroups (15).
    pub fn handle_describe_groups(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &DescribeGroupsRequest<'_>,
    ) {
        let groups = request.groups.iter().map(|g| self.describe(parts.image, token.version, g)).collect();
        let response = DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() };
        parts.ctx.net.respond(parts.ctx.out, token, &response);
    }

    fn describe<'s>(&'s self, image: &MetadataImage, version: i16, id: &'s str) -> DescribedGroup<'s> {
        let mut answer = DescribedGroup {
            group_id: Cow::Borrowed(id),
            authorized_operations: NO_OPERATIONS,
            error_message: (version >= 6).then_some(Cow::Borrowed("")),
            ..DescribedGroup::default()
        };
        let (group, modern) = match self.shard_of(image, id) {
            Err(error) => {
                answer.error_code = error.0;
                return answer;
            }
            Ok(shard) => (shard.classic.get(id), shard.consumer.get(id).is_some()),
        };
        let Some(group) = group.filter(|_| !modern) else {
            answer.group_state = Cow::Borrowed(State::Dead.name());
            if version >= 6 {
                let what = if modern { "is not a classic group." } else { "not found." };
                answer.error_code = ErrorCode::GROUP_ID_NOT_FOUND.0;
                answer.error_message = Some(Cow::Owned(format!("Group {id} {what}")));
            }
            return answer;
        };
        answer.error_message = None;
        answer.group_state = Cow::Borrowed(group.state.name());
        answer.protocol_type = Cow::Borrowed(group.protocol_type.as_deref().unwrap_or(""));
        let stable = group.state == State::Stable;
        let protocol = group.protocol.as_deref().filter(|_| stable).unwrap_or("");
        answer.protocol_data = Cow::Borrowed(protocol);
        answer.members = (group.members.values())
            .map(|m| DescribedGroupMember {
                member_id: Cow::Borrowed(&*m.id),
                group_instance_id: m.instance.as_deref().map(Cow::Borrowed),
                client_id: Cow::Borrowed(&*m.client_id),
                client_host: Cow::Borrowed(&*m.client_host),
                member_metadata: Cow::Owned(if stable { m.metadata(protocol).to_vec() } else { Vec::new() }),
                member_assignment: Cow::Owned(if stable { m.assignment.to_vec() } else { Vec::new() }),
            })
            .collect();
        answer
    }

    // --- the consumer protocol

    /// ConsumerGroupHeartbeat (68).
    pub fn handle_consumer_group_heartbeat(
        &mut self,
        parts: &mut Parts<'_, '_>,
        sender: Sender<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) {
        let result = match consumer::is_enabled(parts.ctx.config, parts.image) {
            false => Err(ErrorCode::UNSUPPORTED_VERSION),
            true if request.group_id.is_empty() => Err(ErrorCode::INVALID_REQUEST),
            true => self.partition_led(parts.image, &request.group_id),
        };
        let result = result.and_then(|partition| {
            (self.runtime).with(parts, partition, |shard, cx| shard.consumer_heartbeat(cx, sender, request))
        });
        if let Err(error) = result {
            let message = "GroupId can't be empty.";
            let response = ConsumerGroupHeartbeatResponse {
                error_code: error.0,
                error_message: (error == ErrorCode::INVALID_REQUEST).then_some(Cow::Borrowed(message)),
                ..ConsumerGroupHeartbeatResponse::default()
            };
            parts.ctx.net.respond(parts.ctx.out, sender.token, &response);
        }
    }

    /// ConsumerGroupDescribe (69).
    pub fn handle_consumer_group_describe(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &ConsumerGroupDescribeRequest<'_>,
    ) {
        use wire::messages::consumer_group_describe_response::DescribedGroup;
        let enabled = consumer::is_enabled(parts.ctx.config, parts.image);
        let refused = |id: &str, error: ErrorCode, message: Option<String>| DescribedGroup {
            error_code: error.0,
            error_message: message.map(Cow::Owned),
            group_id: Cow::Owned(id.to_string()),
            authorized_operations: NO_OPERATIONS,
            ..DescribedGroup::default()
        };
        let one = |id: &Cow<'_, str>| {
            if !enabled {
                return refused(id, ErrorCode::UNSUPPORTED_VERSION, None);
            }
            let shard = match self.shard_of(parts.image, id) {
                Ok(shard) => shard,
                Err(error) => return refused(id, error, None),
            };
            if let Some(group) = shard.consumer.get(id) {
                let mut described = consumer::describe(parts.ctx.config, parts.image, group);
                described.authorized_operations = NO_OPERATIONS;
                return described;
            }
            let what =
                if shard.classic.get(id).is_some() { "is not a consumer group." } else { "not found." };
            refused(id, ErrorCode::GROUP_ID_NOT_FOUND, Some(format!("Group {id} {what}")))
        };
        let groups = request.group_ids.iter().map(one).collect();
        let response = ConsumerGroupDescribeResponse { groups, ..ConsumerGroupDescribeResponse::default() };
        parts.ctx.net.respond(parts.ctx.out, token, &response);
    }

    // --- membership

    /// JoinGroup (11).
    pub fn handle_join_group(
        &mut self,
        parts: &mut Parts<'_, '_>,
        sender: Sender<'_>,
        request: &JoinGroupRequest<'_>,
    ) {
        let result = match &*request.group_id {
            "" => Err(ErrorCode::INVALID_GROUP_ID),
            group => self.runtime.with_id(parts, group, |shard, cx| {
                if shard.join_is_classic(cx, sender, request) {
                    shard.classic.join(cx, sender, request);
                }
            }),
        };
        if let Err(error) = result {
            let mut writes = Vec::new();
            let mut cx = ShardCx::outside(parts, &mut writes);
            respond_join_error(&mut cx, sender.token, &request.member_id, error);
        }
    }

    /// SyncGroup (14).
    pub fn handle_sync_group(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &SyncGroupRequest<'_>,
    ) {
        let result = match &*request.group_id {
            "" => Err(ErrorCode::INVALID_GROUP_ID),
            // Since version 5 the protocol must be named.
            _ if token.version >= 5
                && (request.protocol_type.is_none() || request.protocol_name.is_none()) =>
            {
                Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
            }
            group => self.runtime.with_id(parts, group, |shard, cx| {
                if shard.sync_is_classic(cx, token, request) {
                    shard.classic.sync(cx, token, request);
                }
            }),
        };
        if let Err(error) = result {
            let mut writes = Vec::new();
            let mut cx = ShardCx::outside(parts, &mut writes);
            respond_sync(&mut cx, token, None, Err(error));
        }
    }

    /// Heartbeat (12).
    pub fn handle_heartbeat(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &HeartbeatRequest<'_>,
    ) {
        let result = match &*request.group_id {
            "" => Err(ErrorCode::INVALID_GROUP_ID),
            group => self.runtime.with_id(parts, group, |shard, cx| {
                let answer = shard.consumer_classic_heartbeat(cx, request);
                answer.unwrap_or_else(|| shard.classic.heartbeat(cx, request))
            }),
        };
        let error_code = match result {
            Ok(error) => error.0,
            // While a coordinator loads, its members need not worry.
            Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => ErrorCode::NONE.0,
            Err(error) => error.0,
        };
        let response = HeartbeatResponse { error_code, ..HeartbeatResponse::default() };
        parts.ctx.net.respond(parts.ctx.out, token, &response);
    }

    /// LeaveGroup (13).
    pub fn handle_leave_group(
        &mut self,
        parts: &mut Parts<'_, '_>,
        token: RequestToken,
        request: &LeaveGroupRequest<'_>,
    ) {
        let result = match &*request.group_id {
            "" => Err(ErrorCode::INVALID_GROUP_ID),
            group => self.runtime.with_id(parts, group, |shard, cx| {
                if shard.leave_is_classic(cx, token, request) {
                    shard.classic.leave(cx, token, request);
                }
            }),
        };
        if let Err(error) = result {
            let response = LeaveGroupResponse { error_code: error.0, ..LeaveGroupResponse::default() };
            parts.ctx.net.respond(parts.ctx.out, token, &response);
        }
    }
}

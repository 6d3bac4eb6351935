//! From a request to the part that answers it.

use alloc::string::String;

use rand_core::Rng as _;
use wire::drive::ConnId;
use wire::error::ErrorCode;
use wire::frame::RequestHeader;
use wire::messages::*;
use wire::{ApiKey, DecodeError, Message, Reader, Rope};

use super::Core;
use crate::api::incoming::{self, Incoming};
use crate::api::{View, cluster, configs, metadata, quotas, topic_partitions, versions};
use crate::controller::Controller;
use crate::coordinator::group::membership::Sender;
use crate::coordinator::{GroupCoordinator, Parts, find};
use crate::ctx::Ctx;
use crate::io::Listener;
use crate::net::RequestToken;

/// Decodes a whole request: nothing may follow it.
fn decode<'a, M: Message<'a>>(reader: &mut Reader<'a>, version: i16) -> Result<M, DecodeError> {
    let message = M::decode(reader, version)?;
    reader.finish()?;
    Ok(message)
}

/// What the group coordinator answers.
fn group_request(
    groups: &mut GroupCoordinator,
    parts: &mut Parts<'_, '_>,
    token: RequestToken,
    r: &mut Reader<'_>,
    frame: &Rope,
) -> Result<(), DecodeError> {
    let v = token.version;
    match token.key {
        ApiKey::OffsetCommit => groups.handle_offset_commit(parts, token, &decode(r, v)?),
        ApiKey::OffsetFetch => groups.handle_offset_fetch(parts, token, &decode(r, v)?),
        ApiKey::OffsetDelete => groups.handle_offset_delete(parts, token, &decode(r, v)?),
        ApiKey::TxnOffsetCommit => groups.handle_txn_offset_commit(parts, token, &decode(r, v)?),
        ApiKey::JoinGroup => {
            let header = RequestHeader::decode(&mut Reader::new(frame))?;
            let host = String::from(parts.ctx.net.peer_address(token.conn).unwrap_or_default());
            let sender = Sender { token, client_id: header.client_id.as_deref().unwrap_or(""), host: &host };
            groups.handle_join_group(parts, sender, &decode(r, v)?);
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let header = RequestHeader::decode(&mut Reader::new(frame))?;
            let host = String::from(parts.ctx.net.peer_address(token.conn).unwrap_or_default());
            let sender = Sender { token, client_id: header.client_id.as_deref().unwrap_or(""), host: &host };
            groups.handle_consumer_group_heartbeat(parts, sender, &decode(r, v)?);
        }
        ApiKey::ConsumerGroupDescribe => groups.handle_consumer_group_describe(parts, token, &decode(r, v)?),
        ApiKey::SyncGroup => groups.handle_sync_group(parts, token, &decode(r, v)?),
        ApiKey::Heartbeat => groups.handle_heartbeat(parts, token, &decode(r, v)?),
        ApiKey::LeaveGroup => groups.handle_leave_group(parts, token, &decode(r, v)?),
        ApiKey::DescribeGroups => groups.handle_describe_groups(parts, token, &decode(r, v)?),
        ApiKey::ListGroups => groups.handle_list_groups(parts, token, &decode(r, v)?),
        ApiKey::DeleteGroups => groups.handle_delete_groups(parts, token, &decode(r, v)?),
        key => unreachable!("{key} is not the group coordinator's"),
    }
    Ok(())
}

/// Keeps whose request it is while quotas are measured. The reader stands at its header.
#[inline]
fn note_client(ctx: &mut Ctx<'_>, conn: ConnId, mut reader: Reader<'_>, bytes: usize) {
    if ctx.net.measures_clients()
        && let Ok(header) = RequestHeader::decode(&mut reader)
    {
        ctx.net.note_client(conn, header.client_id.as_deref().unwrap_or(""), bytes);
    }
}

impl Core {
    /// Handles a request. One that cannot be read closes its connection.
    pub(super) fn request(&mut self, ctx: &mut Ctx<'_>, conn: ConnId, listener: Listener, frame: Rope) {
        if !self.accepts(listener) {
            // The node is leaving: nobody is answered any more, and the connection goes with the process.
            return;
        }
        let incoming = match incoming::read(conn, listener, &frame) {
            Ok(incoming) => incoming,
            Err(why) => return ctx.net.close(ctx.out, conn, why),
        };
        let token = incoming.token;
        note_client(ctx, conn, Reader::new(&frame), frame.len());
        if let Err(e) = self.route(ctx, &incoming, &frame) {
            let why = alloc::format!(
                "Error getting request for apiKey: {}, apiVersion: {}: {e}",
                token.key,
                token.version
            );
            ctx.net.close(ctx.out, conn, why);
        }
    }

    fn route(&mut self, ctx: &mut Ctx<'_>, incoming: &Incoming, frame: &Rope) -> Result<(), DecodeError> {
        let token = incoming.token;
        if incoming.unsupported_version {
            let response = versions::unsupported(token.listener);
            ctx.net.respond_at(ctx.out, token, 0, &response);
            return Ok(());
        }
        let mut reader = Reader::new(frame);
        reader.skip(incoming.body_at)?;
        match token.listener {
            Listener::Broker => self.broker_request(ctx, token, &mut reader, frame),
            Listener::Controller => self.controller_request(ctx, token, &mut reader),
        }
    }

    fn broker_request(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        r: &mut Reader<'_>,
        frame: &Rope,
    ) -> Result<(), DecodeError> {
        let v = token.version;
        let image = &self.image;
        let broker = self.broker.as_mut().expect("only a broker has a broker's listener");
        let replicas = &mut broker.replicas;
        match token.key {
            ApiKey::Produce => {
                replicas.handle_produce(ctx, image, token, &decode::<ProduceRequest<'_>>(r, v)?)
            }
            ApiKey::Fetch => replicas.handle_fetch(ctx, image, token, &decode::<FetchRequest<'_>>(r, v)?),
            ApiKey::ListOffsets => {
                replicas.handle_list_offsets(ctx, image, token, &decode::<ListOffsetsRequest<'_>>(r, v)?);
            }
            ApiKey::OffsetForLeaderEpoch => {
                let request = decode::<OffsetForLeaderEpochRequest<'_>>(r, v)?;
                replicas.handle_offset_for_leader_epoch(ctx, image, token, &request);
            }
            ApiKey::DeleteRecords => {
                replicas.handle_delete_records(ctx, image, token, &decode::<DeleteRecordsRequest<'_>>(r, v)?);
            }
            ApiKey::WriteTxnMarkers => {
                let request = decode::<WriteTxnMarkersRequest<'_>>(r, v)?;
                replicas.handle_write_txn_markers(ctx, image, token, &request);
            }
            ApiKey::DescribeProducers => {
                let request = decode::<DescribeProducersRequest<'_>>(r, v)?;
                replicas.handle_describe_producers(ctx, image, token, &request);
            }
            ApiKey::DescribeLogDirs => {
                replicas.handle_describe_log_dirs(ctx, token, &decode::<DescribeLogDirsRequest<'_>>(r, v)?);
            }
            ApiKey::InitProducerId => {
                let request = decode::<InitProducerIdRequest<'_>>(r, v)?;
                let epoch = broker.lifecycle.epoch();
                let (ids, transactions) = (&mut broker.producer_ids, &mut broker.transactions);
                transactions.handle_init_producer_id(ctx, replicas, image, ids, epoch, token, &request);
            }
            ApiKey::AddPartitionsToTxn => {
                let request = decode::<AddPartitionsToTxnRequest<'_>>(r, v)?;
                broker.transactions.handle_add_partitions(ctx, replicas, image, token, &request);
            }
            ApiKey::AddOffsetsToTxn => {
                let request = decode::<AddOffsetsToTxnRequest<'_>>(r, v)?;
                broker.transactions.handle_add_offsets(ctx, replicas, image, token, &request);
            }
            ApiKey::EndTxn => {
                let request = decode::<EndTxnRequest<'_>>(r, v)?;
                let epoch = broker.lifecycle.epoch();
                let (ids, transactions) = (&mut broker.producer_ids, &mut broker.transactions);
                transactions.handle_end_txn(ctx, replicas, image, ids, epoch, token, &request);
            }
            ApiKey::ListTransactions => {
                let request = decode::<ListTransactionsRequest<'_>>(r, v)?;
                broker.transactions.handle_list_transactions(ctx, token, &request);
            }
            ApiKey::DescribeTransactions => {
                let request = decode::<DescribeTransactionsRequest<'_>>(r, v)?;
                broker.transactions.handle_describe_transactions(ctx, image, token, &request);
            }
            ApiKey::FindCoordinator => {
                let request = decode::<FindCoordinatorRequest<'_>>(r, v)?;
                find::handle(ctx, image, &mut broker.forwarder, token, &request);
            }
            key if GroupCoordinator::serves(key) => {
                let mut parts = Parts { ctx, image, replicas };
                group_request(&mut broker.groups, &mut parts, token, r, frame)?;
            }
            key if key.info().forwardable => {
                // What cannot be read must not reach the controller.
                AnyRequest::decode(key, v, r)?;
                r.finish()?;
                broker.forwarder.forward(ctx, token, frame);
            }
            _ => self.answer_from_image(ctx, token, r)?,
        }
        Ok(())
    }

    fn controller_request(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        r: &mut Reader<'_>,
    ) -> Result<(), DecodeError> {
        let v = token.version;
        match token.key {
            ApiKey::Fetch => self.raft.handle_fetch(ctx, token, &decode::<FetchRequest<'_>>(r, v)?),
            ApiKey::Vote => self.raft.handle_vote(ctx, token, &decode::<VoteRequest<'_>>(r, v)?),
            ApiKey::BeginQuorumEpoch => {
                let request = decode::<BeginQuorumEpochRequest<'_>>(r, v)?;
                self.raft.handle_begin_quorum_epoch(ctx, token, &request);
            }
            ApiKey::EndQuorumEpoch => {
                let request = decode::<EndQuorumEpochRequest<'_>>(r, v)?;
                self.raft.handle_end_quorum_epoch(ctx, token, &request);
            }
            ApiKey::FetchSnapshot => {
                self.raft.handle_fetch_snapshot(ctx, token, &decode::<FetchSnapshotRequest<'_>>(r, v)?);
            }
            ApiKey::DescribeQuorum => {
                self.raft.handle_describe_quorum(ctx, token, &decode::<DescribeQuorumRequest<'_>>(r, v)?);
            }
            ApiKey::AddRaftVoter => {
                self.raft.handle_add_voter(ctx, token, &decode::<AddRaftVoterRequest<'_>>(r, v)?);
            }
            ApiKey::RemoveRaftVoter => {
                self.raft.handle_remove_voter(ctx, token, &decode::<RemoveRaftVoterRequest<'_>>(r, v)?);
            }
            ApiKey::UpdateRaftVoter => {
                self.raft.handle_update_voter(ctx, token, &decode::<UpdateRaftVoterRequest<'_>>(r, v)?);
            }
            ApiKey::Envelope => self.envelope(ctx, token, &decode::<EnvelopeRequest<'_>>(r, v)?)?,
            key if Controller::serves(key) => {
                let role = self.controller.as_mut().expect("only a controller has a controller's listener");
                role.controller.handle_request(ctx, &mut self.raft, token, r)?;
            }
            _ => self.answer_from_image(ctx, token, r)?,
        }
        Ok(())
    }

    /// A broker passes on what a client asked of it.
    fn envelope(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        request: &EnvelopeRequest<'_>,
    ) -> Result<(), DecodeError> {
        let Ok(inner) = incoming::read_enveloped(token, &request.request_data) else {
            let refused = EnvelopeResponse { error_code: ErrorCode::INVALID_REQUEST.0, ..Default::default() };
            ctx.net.respond(ctx.out, token, &refused);
            return Ok(());
        };
        note_client(ctx, token.conn, Reader::from_slice(&request.request_data), request.request_data.len());
        let mut reader = Reader::from_slice(&request.request_data);
        reader.skip(inner.body_at)?;
        self.controller_request(ctx, inner.token, &mut reader)
    }

    /// Both listeners: what the metadata image answers alone.
    fn answer_from_image(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        r: &mut Reader<'_>,
    ) -> Result<(), DecodeError> {
        let v = token.version;
        let view = View {
            image: &self.image,
            config: ctx.config,
            cluster_id: &self.cluster_id,
            kraft_version: self.raft.kraft_version(),
        };
        match token.key {
            ApiKey::ApiVersions => {
                let request = decode::<ApiVersionsRequest<'_>>(r, v)?;
                let response = versions::answer(view, token.listener, v, &request);
                ctx.net.respond(ctx.out, token, &response);
            }
            ApiKey::Metadata => {
                let request = decode::<MetadataRequest<'_>>(r, v)?;
                let answer = metadata::answer(view, v, &request, ctx.rng.next_u32());
                ctx.net.respond(ctx.out, token, &answer.response);
                if ctx.config.lifecycle.auto_create_topics_enable
                    && let Some(broker) = &mut self.broker
                {
                    broker.forwarder.create_topics(ctx, &answer.missing);
                }
            }
            ApiKey::DescribeTopicPartitions => {
                let request = decode::<DescribeTopicPartitionsRequest<'_>>(r, v)?;
                let response = topic_partitions::answer(view, &request);
                ctx.net.respond(ctx.out, token, &response);
            }
            ApiKey::DescribeCluster => {
                let request = decode::<DescribeClusterRequest>(r, v)?;
                let (leader, _) = self.raft.leader_and_epoch();
                let chance = ctx.rng.next_u32();
                let response = cluster::answer(view, token.listener, v, &request, leader, chance);
                ctx.net.respond(ctx.out, token, &response);
            }
            ApiKey::DescribeConfigs => {
                let request = decode::<DescribeConfigsRequest<'_>>(r, v)?;
                let response = configs::answer(view, &request);
                ctx.net.respond(ctx.out, token, &response);
            }
            ApiKey::DescribeClientQuotas => {
                let request = decode::<DescribeClientQuotasRequest<'_>>(r, v)?;
                let response = quotas::answer(view, &request);
                ctx.net.respond(ctx.out, token, &response);
            }
            ApiKey::ListConfigResources => {
                let request = decode::<ListConfigResourcesRequest>(r, v)?;
                let response = configs::list(view, v, &request);
                ctx.net.respond(ctx.out, token, &response);
            }
            key => unreachable!("{key} is served by nobody: the list of served APIs and the dispatch differ"),
        }
        Ok(())
    }
}

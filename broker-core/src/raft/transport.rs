//! The quorum's messages on the node's connections: answers go out, requests go out, answers come in.

use alloc::borrow::Cow;

use wire::drive::Nanos;
use wire::error::ErrorCode;
use wire::messages as m;
use wire::{ApiKey, Message, Reader, Rope};

use super::change_rpc::{self, read_api_versions_response, read_update_voter_response};
use super::rpc::{self, Request, Response, Writing};
use super::{Api, RaftCall};
use crate::ctx::Ctx;
use crate::net::{Call, Peer, RequestToken};

/// Answers a request of a peer, in the version in which it was asked.
pub(super) fn reply(ctx: &mut Ctx<'_>, token: RequestToken, response: &Response, w: &Writing<'_>) {
    let v = token.version;
    match response {
        Response::Refused(error) => reply_refused(ctx, token, *error),
        Response::Vote(at, granted) => ctx.net.respond(ctx.out, token, &w.vote_response(v, *at, *granted)),
        Response::BeginQuorumEpoch(at) => {
            ctx.net.respond(ctx.out, token, &w.begin_quorum_epoch_response(v, *at));
        }
        Response::EndQuorumEpoch(at) => ctx.net.respond(ctx.out, token, &w.end_quorum_epoch_response(v, *at)),
        Response::Fetch(at, fetched) => ctx.net.respond(ctx.out, token, &w.fetch_response(v, *at, fetched)),
        Response::FetchSnapshot(at, chunk) => {
            ctx.net.respond(ctx.out, token, &w.fetch_snapshot_response(v, *at, chunk));
        }
        Response::DescribeQuorum(error, described) => {
            ctx.net.respond(ctx.out, token, &w.describe_quorum_response(v, *error, described.as_ref()));
        }
        Response::AddVoter(error, text) => {
            let error_message = text.as_deref().map(Cow::Borrowed);
            let response =
                m::AddRaftVoterResponse { error_code: error.0, error_message, ..Default::default() };
            ctx.net.respond(ctx.out, token, &response);
        }
        Response::RemoveVoter(error, text) => {
            let error_message = text.as_deref().map(Cow::Borrowed);
            let response =
                m::RemoveRaftVoterResponse { error_code: error.0, error_message, ..Default::default() };
            ctx.net.respond(ctx.out, token, &response);
        }
        Response::UpdateVoter(at) => ctx.net.respond(ctx.out, token, &w.update_voter_response(*at)),
        Response::Versions(_) => panic!("the quorum is not asked for versions"),
    }
}

/// Answers a request that was refused as a whole: with nothing but the error.
fn reply_refused(ctx: &mut Ctx<'_>, token: RequestToken, error: ErrorCode) {
    let error_code = error.0;
    match token.key {
        ApiKey::Vote => {
            ctx.net.respond(ctx.out, token, &m::VoteResponse { error_code, ..Default::default() })
        }
        ApiKey::BeginQuorumEpoch => {
            ctx.net.respond(
                ctx.out,
                token,
                &m::BeginQuorumEpochResponse { error_code, ..Default::default() },
            );
        }
        ApiKey::EndQuorumEpoch => {
            ctx.net.respond(ctx.out, token, &m::EndQuorumEpochResponse { error_code, ..Default::default() });
        }
        ApiKey::Fetch => {
            ctx.net.respond(ctx.out, token, &m::FetchResponse { error_code, ..Default::default() })
        }
        ApiKey::FetchSnapshot => {
            ctx.net.respond(ctx.out, token, &m::FetchSnapshotResponse { error_code, ..Default::default() });
        }
        key => panic!("{key:?} is no request of the quorum"),
    }
}

/// Sends a request to a peer; the net brings its outcome back.
pub(super) fn send(
    ctx: &mut Ctx<'_>,
    peer: i32,
    call: RaftCall,
    request: &Request,
    w: &Writing<'_>,
    timeout: Nanos,
) {
    let (now, to, owner) = (ctx.now, Peer::Controller(peer), Call::Raft(call));
    match request {
        Request::Vote(it) => ctx.net.call(now, ctx.out, to, &w.vote(it), 2, timeout, owner),
        Request::BeginQuorumEpoch(it) => {
            ctx.net.call(now, ctx.out, to, &w.begin_quorum_epoch(it), 1, timeout, owner);
        }
        Request::EndQuorumEpoch(it) => {
            ctx.net.call(now, ctx.out, to, &w.end_quorum_epoch(it), 1, timeout, owner)
        }
        Request::Fetch(it) => ctx.net.call(now, ctx.out, to, &w.fetch(it), 18, timeout, owner),
        Request::FetchSnapshot(it) => {
            ctx.net.call(now, ctx.out, to, &w.fetch_snapshot(it), 1, timeout, owner)
        }
        Request::DescribeQuorum => panic!("a replica describes the quorum only when asked"),
        Request::AddVoter(it) => {
            let ms = timeout.as_millis().min(i32::MAX as u64) as i32;
            ctx.net.call(now, ctx.out, to, &w.add_voter(it, ms), 1, timeout, owner);
        }
        Request::RemoveVoter(it) => {
            ctx.net.call(now, ctx.out, to, &w.remove_voter(it), 0, timeout, owner);
        }
        Request::UpdateVoter(it) => {
            ctx.net.call(now, ctx.out, to, &w.update_voter(it), 0, timeout, owner);
        }
        // Up to version 3 a node does not tell of features that begin at 0, as kraft.version does.
        Request::ApiVersions => {
            ctx.net.call(now, ctx.out, to, &change_rpc::api_versions(), 4, timeout, owner);
        }
    }
}

/// The answer in a response's body; none if it cannot be read. `learn` hears where nodes are.
pub(super) fn decode_answer(
    api: Api,
    body: &Rope,
    version: i16,
    learn: &mut dyn FnMut(i32, &str, u16),
) -> Option<Response> {
    fn decode<'a, M: Message<'a>>(body: &'a Rope, version: i16) -> Option<M> {
        let mut reader = Reader::new(body);
        let message = M::decode(&mut reader, version).ok()?;
        reader.finish().ok()?;
        Some(message)
    }
    Some(match api {
        Api::Vote => {
            let it: m::VoteResponse<'_> = decode(body, version)?;
            it.node_endpoints.iter().for_each(|at| learn(at.node_id, &at.host, at.port));
            rpc::read_vote_response(&it)
        }
        Api::BeginQuorumEpoch => {
            let it: m::BeginQuorumEpochResponse<'_> = decode(body, version)?;
            it.node_endpoints.iter().for_each(|at| learn(at.node_id, &at.host, at.port));
            rpc::read_begin_quorum_epoch_response(&it)
        }
        Api::EndQuorumEpoch => {
            let it: m::EndQuorumEpochResponse<'_> = decode(body, version)?;
            it.node_endpoints.iter().for_each(|at| learn(at.node_id, &at.host, at.port));
            rpc::read_end_quorum_epoch_response(&it)
        }
        Api::Fetch => {
            let it: m::FetchResponse<'_> = decode(body, version)?;
            let port = |port: i32| u16::try_from(port).unwrap_or(0);
            it.node_endpoints.iter().for_each(|at| learn(at.node_id, &at.host, port(at.port)));
            rpc::read_fetch_response(it)
        }
        Api::FetchSnapshot => {
            let it: m::FetchSnapshotResponse<'_> = decode(body, version)?;
            it.node_endpoints.iter().for_each(|at| learn(at.node_id, &at.host, at.port));
            rpc::read_fetch_snapshot_response(it)
        }
        Api::ApiVersions => {
            let it: m::ApiVersionsResponse<'_> = decode(body, version)?;
            read_api_versions_response(&it)
        }
        Api::AddVoter => {
            let it: m::AddRaftVoterResponse<'_> = decode(body, version)?;
            Response::AddVoter(ErrorCode(it.error_code), None)
        }
        Api::RemoveVoter => {
            let it: m::RemoveRaftVoterResponse<'_> = decode(body, version)?;
            Response::RemoveVoter(ErrorCode(it.error_code), None)
        }
        Api::UpdateVoter => {
            let it: m::UpdateRaftVoterResponse<'_> = decode(body, version)?;
            let at = &it.current_leader;
            if !at.host.is_empty() {
                learn(at.leader_id, &at.host, u16::try_from(at.port).unwrap_or(0));
            }
            read_update_voter_response(&it)
        }
    })
}

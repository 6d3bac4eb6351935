//! The answer to a request that failed as a whole before anything of it was done (`AbstractRequest.getErrorResponse`):
//! each API says it in its own way.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use wire::error::ErrorCode;
use wire::frame::RequestHeader;
use wire::messages::{self as m, AnyRequest};
use wire::{ApiKey, Reader, Uuid};

use crate::ctx::Ctx;
use crate::net::RequestToken;

/// Answers a forwardable request (`data`: header and body) with an error. What cannot be read closes the connection.
pub fn refuse(ctx: &mut Ctx<'_>, token: RequestToken, data: &[u8], error: ErrorCode) {
    let mut reader = Reader::from_slice(data);
    let request = RequestHeader::decode(&mut reader)
        .and_then(|_| AnyRequest::decode(token.key, token.version, &mut reader));
    match request {
        Ok(request) => answer(ctx, token, &request, error),
        Err(e) => ctx.net.close(ctx.out, token.conn, alloc::format!("{e}")),
    }
}

fn answer(ctx: &mut Ctx<'_>, token: RequestToken, request: &AnyRequest<'_>, error: ErrorCode) {
    let code = error.0;
    let message = || Some(Cow::Borrowed(error.message()));
    let (net, out) = (&mut *ctx.net, &mut *ctx.out);
    match request {
        AnyRequest::CreateTopics(r) => {
            let topic = |t: &m::create_topics_request::CreatableTopic<'_>| {
                m::create_topics_response::CreatableTopicResult {
                    name: Cow::Owned(t.name.clone().into_owned()),
                    error_code: code,
                    error_message: message(),
                    ..Default::default()
                }
            };
            let topics: Vec<_> = r.topics.iter().map(topic).collect();
            net.respond(out, token, &m::CreateTopicsResponse { topics, ..Default::default() });
        }
        AnyRequest::DeleteTopics(r) => {
            let by_name = r.topic_names.iter().map(|name| (Some(name.clone().into_owned()), Uuid::ZERO));
            let by_either = r.topics.iter().map(|t| (t.name.clone().map(Cow::into_owned), t.topic_id));
            let topic = |(name, topic_id): (Option<alloc::string::String>, Uuid)| {
                m::delete_topics_response::DeletableTopicResult {
                    name: name.map(Cow::Owned),
                    topic_id,
                    error_code: code,
                    error_message: message(),
                }
            };
            let responses: Vec<_> = by_name.chain(by_either).map(topic).collect();
            net.respond(out, token, &m::DeleteTopicsResponse { responses, ..Default::default() });
        }
        AnyRequest::CreatePartitions(r) => {
            let topic = |t: &m::create_partitions_request::CreatePartitionsTopic<'_>| {
                m::create_partitions_response::CreatePartitionsTopicResult {
                    name: Cow::Owned(t.name.clone().into_owned()),
                    error_code: code,
                    error_message: message(),
                }
            };
            let results: Vec<_> = r.topics.iter().map(topic).collect();
            net.respond(out, token, &m::CreatePartitionsResponse { results, ..Default::default() });
        }
        AnyRequest::AlterConfigs(r) => {
            let resource = |r: &m::alter_configs_request::AlterConfigsResource<'_>| {
                m::alter_configs_response::AlterConfigsResourceResponse {
                    error_code: code,
                    error_message: message(),
                    resource_type: r.resource_type,
                    resource_name: Cow::Owned(r.resource_name.clone().into_owned()),
                }
            };
            let responses: Vec<_> = r.resources.iter().map(resource).collect();
            net.respond(out, token, &m::AlterConfigsResponse { responses, ..Default::default() });
        }
        AnyRequest::IncrementalAlterConfigs(r) => {
            let resource = |r: &m::incremental_alter_configs_request::AlterConfigsResource<'_>| {
                m::incremental_alter_configs_response::AlterConfigsResourceResponse {
                    error_code: code,
                    error_message: message(),
                    resource_type: r.resource_type,
                    resource_name: Cow::Owned(r.resource_name.clone().into_owned()),
                }
            };
            let responses: Vec<_> = r.resources.iter().map(resource).collect();
            net.respond(out, token, &m::IncrementalAlterConfigsResponse { responses, ..Default::default() });
        }
        _ => answer_as_a_whole(ctx, token, error),
    }
}

/// The answer of those APIs that have an error of their own at the top.
fn answer_as_a_whole(ctx: &mut Ctx<'_>, token: RequestToken, error: ErrorCode) {
    let code = error.0;
    let message = || Some(Cow::Borrowed(error.message()));
    let (net, out) = (&mut *ctx.net, &mut *ctx.out);
    match token.key {
        ApiKey::ElectLeaders => {
            net.respond(out, token, &m::ElectLeadersResponse { error_code: code, ..Default::default() });
        }
        ApiKey::AlterPartitionReassignments => {
            let response = m::AlterPartitionReassignmentsResponse {
                error_code: code,
                error_message: message(),
                ..Default::default()
            };
            net.respond(out, token, &response);
        }
        ApiKey::ListPartitionReassignments => {
            let response = m::ListPartitionReassignmentsResponse {
                error_code: code,
                error_message: message(),
                ..Default::default()
            };
            net.respond(out, token, &response);
        }
        ApiKey::DescribeQuorum => {
            let error_message = message().filter(|_| token.version >= 2);
            let response =
                m::DescribeQuorumResponse { error_code: code, error_message, ..Default::default() };
            net.respond(out, token, &response);
        }
        ApiKey::AddRaftVoter => {
            let response =
                m::AddRaftVoterResponse { error_code: code, error_message: message(), ..Default::default() };
            net.respond(out, token, &response);
        }
        ApiKey::RemoveRaftVoter => {
            let response = m::RemoveRaftVoterResponse {
                error_code: code,
                error_message: message(),
                ..Default::default()
            };
            net.respond(out, token, &response);
        }
        ApiKey::UpdateFeatures => {
            let response = m::UpdateFeaturesResponse {
                error_code: code,
                error_message: message(),
                ..Default::default()
            };
            net.respond(out, token, &response);
        }
        ApiKey::UnregisterBroker => {
            let response = m::UnregisterBrokerResponse {
                error_code: code,
                error_message: message(),
                ..Default::default()
            };
            net.respond(out, token, &response);
        }
        _ => ctx.net.close(ctx.out, token.conn, alloc::format!("{} failed: {}", token.key, error.name())),
    }
}

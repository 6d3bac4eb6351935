//! Answers that wait until their records are committed.

use alloc::borrow::Cow;
use alloc::string::String;
use wire::ErrorCode;
use wire::messages::*;

use super::error::ApiError;
use crate::io::Outputs;
use crate::net::{Net, RequestToken};

/// An answer of the controller.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nobody asked: a timer did it.
    None,
    /// To BrokerRegistration.
    BrokerRegistration(BrokerRegistrationResponse),
    /// To BrokerHeartbeat.
    BrokerHeartbeat(BrokerHeartbeatResponse),
    /// To ControllerRegistration.
    ControllerRegistration(ControllerRegistrationResponse<'static>),
    /// To UnregisterBroker.
    UnregisterBroker(UnregisterBrokerResponse<'static>),
    /// To AllocateProducerIds.
    AllocateProducerIds(AllocateProducerIdsResponse),
    /// To AlterPartition.
    AlterPartition(AlterPartitionResponse),
    /// To AssignReplicasToDirs.
    AssignReplicasToDirs(AssignReplicasToDirsResponse),
    /// To CreateTopics.
    CreateTopics(CreateTopicsResponse<'static>),
    /// To DeleteTopics.
    DeleteTopics(DeleteTopicsResponse<'static>),
    /// To CreatePartitions.
    CreatePartitions(CreatePartitionsResponse<'static>),
    /// To ElectLeaders.
    ElectLeaders(ElectLeadersResponse<'static>),
    /// To IncrementalAlterConfigs.
    IncrementalAlterConfigs(IncrementalAlterConfigsResponse<'static>),
    /// To AlterConfigs.
    AlterConfigs(AlterConfigsResponse<'static>),
    /// To AlterPartitionReassignments.
    AlterPartitionReassignments(AlterPartitionReassignmentsResponse<'static>),
    /// To ListPartitionReassignments.
    ListPartitionReassignments(ListPartitionReassignmentsResponse<'static>),
    /// To AlterClientQuotas.
    AlterClientQuotas(AlterClientQuotasResponse<'static>),
    /// To UpdateFeatures.
    UpdateFeatures(UpdateFeaturesResponse<'static>),
}

impl Answer {
    /// Sends it.
    pub fn send(&self, net: &mut Net, out: &mut Outputs, token: RequestToken) {
        match self {
            Answer::None => unreachable!("an answer that nobody asked for has no token"),
            Answer::BrokerRegistration(r) => net.respond(out, token, r),
            Answer::BrokerHeartbeat(r) => net.respond(out, token, r),
            Answer::ControllerRegistration(r) => net.respond(out, token, r),
            Answer::UnregisterBroker(r) => net.respond(out, token, r),
            Answer::AllocateProducerIds(r) => net.respond(out, token, r),
            Answer::AlterPartition(r) => net.respond(out, token, r),
            Answer::AssignReplicasToDirs(r) => net.respond(out, token, r),
            Answer::CreateTopics(r) => net.respond(out, token, r),
            Answer::DeleteTopics(r) => net.respond(out, token, r),
            Answer::CreatePartitions(r) => net.respond(out, token, r),
            Answer::ElectLeaders(r) => net.respond(out, token, r),
            Answer::IncrementalAlterConfigs(r) => net.respond(out, token, r),
            Answer::AlterConfigs(r) => net.respond(out, token, r),
            Answer::AlterPartitionReassignments(r) => net.respond(out, token, r),
            Answer::ListPartitionReassignments(r) => net.respond(out, token, r),
            Answer::AlterClientQuotas(r) => net.respond(out, token, r),
            Answer::UpdateFeatures(r) => net.respond(out, token, r),
        }
    }

    /// How long its client has to wait, in milliseconds, where a quota of the controller may want that.
    pub fn set_throttle_time(&mut self, ms: i32) {
        match self {
            Answer::CreateTopics(r) => r.throttle_time_ms = ms,
            Answer::DeleteTopics(r) => r.throttle_time_ms = ms,
            Answer::CreatePartitions(r) => r.throttle_time_ms = ms,
            _ => unreachable!("only changes of partitions have a quota"),
        }
    }

    /// The same answer, but everything in it failed: what the request would be told by `Request.getErrorResponse`.
    pub fn failed(mut self, error: &ApiError) -> Answer {
        let code = error.code.0;
        match &mut self {
            Answer::None => {}
            Answer::BrokerRegistration(r) => {
                *r = BrokerRegistrationResponse { error_code: code, ..Default::default() }
            }
            Answer::BrokerHeartbeat(r) => {
                *r = BrokerHeartbeatResponse { error_code: code, ..Default::default() }
            }
            Answer::ControllerRegistration(r) => {
                (r.error_code, r.error_message) = (code, text(&error.message));
            }
            Answer::UnregisterBroker(r) => (r.error_code, r.error_message) = (code, text(&error.message)),
            Answer::AllocateProducerIds(r) => {
                *r = AllocateProducerIdsResponse { error_code: code, ..Default::default() };
            }
            Answer::AlterPartition(r) => {
                *r = AlterPartitionResponse { error_code: code, ..Default::default() };
            }
            Answer::AssignReplicasToDirs(r) => {
                *r = AssignReplicasToDirsResponse { error_code: code, ..Default::default() };
            }
            Answer::CreateTopics(r) => {
                for topic in &mut r.topics {
                    *topic = create_topics_response::CreatableTopicResult {
                        name: core::mem::take(&mut topic.name),
                        error_code: code,
                        error_message: text(&error.message),
                        ..Default::default()
                    };
                }
            }
            Answer::DeleteTopics(r) => {
                for topic in &mut r.responses {
                    (topic.error_code, topic.error_message) = (code, text(&error.message));
                }
            }
            Answer::CreatePartitions(r) => {
                for topic in &mut r.results {
                    (topic.error_code, topic.error_message) = (code, text(&error.message));
                }
            }
            Answer::ElectLeaders(r) => {
                *r = ElectLeadersResponse { error_code: code, ..Default::default() };
            }
            Answer::IncrementalAlterConfigs(r) => {
                for resource in &mut r.responses {
                    (resource.error_code, resource.error_message) = (code, text(&error.message));
                }
            }
            Answer::AlterConfigs(r) => {
                for resource in &mut r.responses {
                    (resource.error_code, resource.error_message) = (code, text(&error.message));
                }
            }
            Answer::AlterPartitionReassignments(r) => {
                (r.error_code, r.error_message) = (code, text(&error.message));
                r.responses.clear();
            }
            Answer::ListPartitionReassignments(r) => {
                (r.error_code, r.error_message) = (code, text(&error.message));
                r.topics.clear();
            }
            Answer::AlterClientQuotas(r) => {
                for entry in &mut r.entries {
                    (entry.error_code, entry.error_message) = (code, text(&error.message));
                }
            }
            Answer::UpdateFeatures(r) => {
                (r.error_code, r.error_message) = (code, text(&error.message));
                r.results.clear();
            }
        }
        self
    }
}

/// A text of an error as messages carry it.
pub(super) fn text(message: &Option<String>) -> Option<Cow<'static, str>> {
    message.clone().map(Cow::Owned)
}

/// A name from a request that outlives it.
pub(super) fn owned(name: &str) -> Cow<'static, str> {
    Cow::Owned(name.into())
}

/// The code and the text of a result.
pub(super) fn code_and_text(result: &Result<(), ApiError>) -> (i16, Option<Cow<'static, str>>) {
    match result {
        Ok(()) => (ErrorCode::NONE.0, None),
        Err(error) => (error.code.0, text(&error.message)),
    }
}

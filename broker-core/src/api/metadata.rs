//! Metadata (3): where the brokers are and which of them lead what.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use wire::Uuid;
use wire::error::ErrorCode;
use wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use wire::messages::{MetadataRequest, MetadataResponse};

use super::{CLUSTER_OPERATIONS, NO_OPERATIONS, TOPIC_OPERATIONS, View, is_internal, is_valid_topic};
use crate::metadata::{BrokerRegistration, PartitionRegistration, TopicImage};

/// The answer, and the topics that were asked for by name, may be made automatically, and are not there.
pub struct Answer<'a> {
    /// The response.
    pub response: MetadataResponse<'a>,
    /// Names without a topic, valid ones, if the client allows their automatic creation.
    pub missing: Vec<Cow<'a, str>>,
}

/// Answers a request; `chance` chooses the broker that is told as the controller.
pub fn answer<'a>(view: View<'a>, version: i16, request: &'a MetadataRequest<'a>, chance: u32) -> Answer<'a> {
    let mut answer = Answer {
        response: MetadataResponse {
            cluster_id: Some(view.cluster_id.into()),
            controller_id: view.some_alive_broker(chance),
            brokers: brokers(view),
            ..MetadataResponse::default()
        },
        missing: Vec::new(),
    };
    if let Some(invalid) = refused(version, request) {
        answer.response.topics = invalid;
        return answer;
    }
    // Version 0 has no null: there an empty list asks for all.
    let wanted = request.topics.as_deref().filter(|t| version > 0 || !t.is_empty());
    answer.response.topics = match wanted {
        None => view.image.topics.iter_by_name().map(|t| topic(view, version, t)).collect(),
        Some(topics) => {
            let ids: BTreeSet<Uuid> = topics.iter().map(|t| t.topic_id).filter(|id| !id.is_zero()).collect();
            if ids.is_empty() {
                named(view, version, request, &mut answer.missing)
            } else {
                ids.into_iter().map(|id| with_id(view, version, id)).collect()
            }
        }
    };
    if request.include_topic_authorized_operations && version >= 8 {
        for topic in &mut answer.response.topics {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    if request.include_cluster_authorized_operations && (8..=10).contains(&version) {
        answer.response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    answer
}

/// Before version 12 topics are asked for by name only; a request that does otherwise is refused as a whole.
fn refused<'a>(version: i16, request: &MetadataRequest<'a>) -> Option<Vec<MetadataResponseTopic<'a>>> {
    let topics = request.topics.as_deref().filter(|_| version < 12)?;
    let wrong = |t: &wire::messages::metadata_request::MetadataRequestTopic<'_>| {
        t.name.is_none() || !t.topic_id.is_zero()
    };
    topics.iter().any(wrong).then(|| {
        let error = |t: &wire::messages::metadata_request::MetadataRequestTopic<'a>| MetadataResponseTopic {
            error_code: ErrorCode::INVALID_REQUEST.0,
            name: Some(t.name.clone().unwrap_or_default()),
            topic_id: t.topic_id,
            ..MetadataResponseTopic::default()
        };
        topics.iter().map(error).collect()
    })
}

fn named<'a>(
    view: View<'a>,
    version: i16,
    request: &'a MetadataRequest<'a>,
    missing: &mut Vec<Cow<'a, str>>,
) -> Vec<MetadataResponseTopic<'a>> {
    let topics = request.topics.as_deref().unwrap_or_default();
    let names: BTreeSet<&str> = topics.iter().filter_map(|t| t.name.as_deref()).collect();
    let (there, absent): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| view.image.topics.topic_named(name).is_some());
    let mut answer: Vec<MetadataResponseTopic<'a>> = there
        .into_iter()
        .filter_map(|name| view.image.topics.topic_named(name))
        .map(|t| topic(view, version, t))
        .collect();
    for name in absent {
        let valid = is_valid_topic(name);
        let error =
            if valid { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION } else { ErrorCode::INVALID_TOPIC_EXCEPTION };
        if valid && request.allow_auto_topic_creation {
            missing.push(Cow::Borrowed(name));
        }
        answer.push(MetadataResponseTopic {
            error_code: error.0,
            name: Some(Cow::Borrowed(name)),
            is_internal: is_internal(name),
            ..MetadataResponseTopic::default()
        });
    }
    answer
}

fn with_id(view: View<'_>, version: i16, id: Uuid) -> MetadataResponseTopic<'_> {
    match view.image.topics.topic(id) {
        Some(found) => topic(view, version, found),
        None => MetadataResponseTopic {
            error_code: ErrorCode::UNKNOWN_TOPIC_ID.0,
            name: None,
            topic_id: id,
            ..MetadataResponseTopic::default()
        },
    }
}

fn brokers(view: View<'_>) -> Vec<MetadataResponseBroker<'_>> {
    let name = view.broker_listener();
    let alive = view.image.brokers.values().filter(|b| !b.fenced);
    alive
        .filter_map(|broker| {
            let endpoint = broker.listener(name)?;
            Some(MetadataResponseBroker {
                node_id: broker.id,
                host: (&*endpoint.host).into(),
                port: i32::from(endpoint.port),
                rack: broker.rack.as_deref().map(Cow::Borrowed),
            })
        })
        .collect()
}

fn topic<'a>(view: View<'a>, version: i16, topic: &'a TopicImage) -> MetadataResponseTopic<'a> {
    MetadataResponseTopic {
        error_code: ErrorCode::NONE.0,
        name: Some((&*topic.name).into()),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: topic.partitions.iter().map(|(&i, p)| partition(view, version, i, p)).collect(),
        topic_authorized_operations: NO_OPERATIONS,
    }
}

fn partition(
    view: View<'_>,
    version: i16,
    index: i32,
    partition: &PartitionRegistration,
) -> MetadataResponsePartition {
    let name = view.broker_listener();
    let alive = |id: i32| view.image.broker(id).is_some_and(|b| !b.fenced && b.listener(name).is_some());
    // Version 0 leaves unavailable replicas out, and says so.
    let tell = |ids: &[i32]| ids.iter().copied().filter(|&id| version > 0 || alive(id)).collect::<Vec<_>>();
    let (replicas, isr) = (tell(&partition.replicas), tell(&partition.isr));
    let leader = view.image.broker(partition.leader);
    let error = match leader {
        None => ErrorCode::LEADER_NOT_AVAILABLE,
        Some(leader) if leader.listener(name).is_none() && version >= 6 => ErrorCode::LISTENER_NOT_FOUND,
        Some(leader) if leader.listener(name).is_none() => ErrorCode::LEADER_NOT_AVAILABLE,
        Some(_) if replicas.len() < partition.replicas.len() || isr.len() < partition.isr.len() => {
            ErrorCode::REPLICA_NOT_AVAILABLE
        }
        Some(_) => ErrorCode::NONE,
    };
    let reachable = leader.is_some_and(|l| l.listener(name).is_some());
    MetadataResponsePartition {
        error_code: error.0,
        partition_index: index,
        leader_id: if reachable { partition.leader } else { -1 },
        leader_epoch: partition.leader_epoch,
        replica_nodes: replicas,
        isr_nodes: isr,
        offline_replicas: offline_replicas(view, partition),
    }
}

/// The replicas whose broker is gone, fenced, without the listener, or whose log directory failed.
pub(super) fn offline_replicas(view: View<'_>, partition: &PartitionRegistration) -> Vec<i32> {
    let name = view.broker_listener();
    let online = |id: i32, broker: &BrokerRegistration| {
        !broker.fenced
            && broker.listener(name).is_some()
            && partition.directory_of(id).is_none_or(|d| broker.has_online_directory(d))
    };
    let offline = |id: &i32| !view.image.broker(*id).is_some_and(|b| online(*id, b));
    partition.replicas.iter().copied().filter(offline).collect()
}

//! FindCoordinator (10): which broker coordinates a group or a transactional id; and the topics of the coordinators,
//! which the first who asks has made.
//!
//! Follows Kafka's `KafkaApis.handleFindCoordinatorRequest` and `AutoTopicCreationManager`.

use alloc::borrow::Cow;

use wire::ErrorCode;
use wire::messages::find_coordinator_response::Coordinator;
use wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::{GROUP_TOPIC, TRANSACTION_TOPIC, coordinator_partition};
use crate::api::forward::{Forwarder, InternalTopic};
use crate::config::NodeConfig;
use crate::ctx::Ctx;
use crate::metadata::{BrokerRegistration, MetadataImage, NO_LEADER};
use crate::net::RequestToken;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Answers where coordinators are.
pub fn handle(
    ctx: &mut Ctx<'_>,
    image: &MetadataImage,
    forwarder: &mut Forwarder,
    token: RequestToken,
    request: &FindCoordinatorRequest<'_>,
) {
    let single = [request.key.clone()];
    let keys = if token.version < 4 { &single[..] } else { &request.coordinator_keys[..] };
    let mut missing = false;
    let coordinators: alloc::vec::Vec<Coordinator<'_>> = keys
        .iter()
        .map(|key| match find(ctx.config, image, request.key_type, key, &mut missing) {
            Ok((node_id, host, port)) => Coordinator {
                key: key.clone(),
                node_id,
                host: Cow::Borrowed(host),
                port: i32::from(port),
                error_message: Some(Cow::Borrowed(if token.version < 4 { "NONE" } else { "" })),
                ..Coordinator::default()
            },
            Err(error) => Coordinator {
                key: key.clone(),
                node_id: -1,
                port: -1,
                error_code: error.0,
                error_message: Some(Cow::Borrowed(if token.version < 4 { error.message() } else { "" })),
                ..Coordinator::default()
            },
        })
        .collect();
    let response = if token.version < 4 {
        let one = coordinators.into_iter().next().expect("one key was asked for");
        FindCoordinatorResponse {
            error_code: one.error_code,
            error_message: one.error_message,
            node_id: one.node_id,
            host: one.host,
            port: one.port,
            ..FindCoordinatorResponse::default()
        }
    } else {
        FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() }
    };
    ctx.net.respond(ctx.out, token, &response);
    if missing && let Some(topic) = topic_of(request.key_type) {
        forwarder.create_internal_topic(ctx, image, topic);
    }
}

fn find<'i>(
    config: &NodeConfig,
    image: &'i MetadataImage,
    key_type: i8,
    key: &str,
    missing: &mut bool,
) -> Result<(i32, &'i str, u16), ErrorCode> {
    let topic = match key_type {
        GROUP => GROUP_TOPIC,
        TRANSACTION => TRANSACTION_TOPIC,
        // Share groups are not run (2), and nothing else has a coordinator.
        _ => return Err(ErrorCode::INVALID_REQUEST),
    };
    let unavailable = || ErrorCode::COORDINATOR_NOT_AVAILABLE;
    let Some(found) = image.topics.topic_named(topic) else {
        *missing = true;
        return Err(unavailable());
    };
    let partition = coordinator_partition(image, topic, key).ok_or_else(unavailable)?;
    let registration = found.partitions.get(&partition).ok_or_else(unavailable)?;
    if registration.leader == NO_LEADER {
        return Err(unavailable());
    }
    let broker: &BrokerRegistration = image.broker(registration.leader).ok_or_else(unavailable)?;
    if broker.fenced {
        return Err(unavailable());
    }
    let name = config.broker_listener().map_or("PLAINTEXT", |l| l.name.as_str());
    let listener = broker.listener(name).ok_or_else(unavailable)?;
    Ok((broker.id, &listener.host, listener.port))
}

fn topic_of(key_type: i8) -> Option<InternalTopic> {
    match key_type {
        GROUP => Some(InternalTopic::Offsets),
        TRANSACTION => Some(InternalTopic::Transactions),
        _ => None,
    }
}

//! DescribeCluster (KIP-700, KIP-919): the brokers, or the controllers, and who of them is the controller.

use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

use wire::error::ErrorCode;
use wire::messages::describe_cluster_response::DescribeClusterBroker;
use wire::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::{CLUSTER_OPERATIONS, NO_OPERATIONS, View};
use crate::io::Listener;

/// The kinds of endpoints, as requests and responses number them.
fn endpoint_type(listener: Listener) -> (i8, &'static str) {
    match listener {
        Listener::Broker => (1, "BROKER"),
        Listener::Controller => (2, "CONTROLLER"),
    }
}

/// Answers a request that came in on `listener`. `controller` is the quorum's leader; `chance` chooses the broker that a
/// broker tells instead.
pub fn answer<'a>(
    view: View<'a>,
    listener: Listener,
    version: i16,
    request: &DescribeClusterRequest,
    controller: Option<i32>,
    chance: u32,
) -> DescribeClusterResponse<'a> {
    let (own, own_name) = endpoint_type(listener);
    let refuse = |error: ErrorCode, why: Cow<'static, str>| DescribeClusterResponse {
        error_code: if version == 0 { ErrorCode::INVALID_REQUEST } else { error }.0,
        error_message: Some(why),
        ..DescribeClusterResponse::default()
    };
    let wanted = [Listener::Broker, Listener::Controller]
        .into_iter()
        .map(endpoint_type)
        .find(|(id, _)| *id == request.endpoint_type);
    let Some((_, wanted_name)) = wanted else {
        let why = format!("Unsupported endpoint type {}", request.endpoint_type);
        return refuse(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, why.into());
    };
    if request.endpoint_type != own {
        let why = format!(
            "The request was sent to an endpoint of type {own_name}, but we wanted an endpoint of type {wanted_name}"
        );
        return refuse(ErrorCode::MISMATCHED_ENDPOINT_TYPE, why.into());
    }
    let nodes = match listener {
        Listener::Broker => brokers(view, request.include_fenced_brokers),
        Listener::Controller => controllers(view),
    };
    let controller = match listener {
        Listener::Broker => view.some_alive_broker(chance),
        Listener::Controller => controller.unwrap_or(-1),
    };
    // Who the controller is may be known before its registration is: it is not told then.
    let known = nodes.iter().any(|n| n.broker_id == controller);
    DescribeClusterResponse {
        endpoint_type: own,
        cluster_id: view.cluster_id.into(),
        controller_id: if known { controller } else { -1 },
        brokers: nodes,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => NO_OPERATIONS,
        },
        ..DescribeClusterResponse::default()
    }
}

fn brokers(view: View<'_>, fenced_too: bool) -> Vec<DescribeClusterBroker<'_>> {
    let name = view.broker_listener();
    let wanted = view.image.brokers.values().filter(|b| fenced_too || !b.fenced);
    wanted
        .filter_map(|broker| {
            let endpoint = broker.listener(name)?;
            Some(DescribeClusterBroker {
                broker_id: broker.id,
                host: (&*endpoint.host).into(),
                port: i32::from(endpoint.port),
                rack: broker.rack.as_deref().map(Cow::Borrowed),
                is_fenced: broker.fenced,
            })
        })
        .collect()
}

fn controllers(view: View<'_>) -> Vec<DescribeClusterBroker<'_>> {
    let name = view.config.controller_listener().map_or("CONTROLLER", |l| l.name.as_str());
    let all = view.image.controllers.values();
    all.filter_map(|controller| {
        let endpoint = controller.listeners.iter().find(|l| &*l.name == name)?;
        Some(DescribeClusterBroker {
            broker_id: controller.id,
            host: (&*endpoint.host).into(),
            port: i32::from(endpoint.port),
            rack: None,
            is_fenced: false,
        })
    })
    .collect()
}

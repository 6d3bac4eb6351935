//! DescribeConfigs (KIP-133, KIP-226, KIP-569) and ListConfigResources (KIP-1142).

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::error::ErrorCode;
use wire::messages::describe_configs_request::DescribeConfigsResource;
use wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use wire::messages::list_config_resources_response::ConfigResource;
use wire::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use super::{View, is_valid_topic};
use crate::config::{Described, Dynamic};
use crate::metadata::ResourceType;

/// Answers a DescribeConfigs request.
pub fn answer<'a>(view: View<'a>, request: &'a DescribeConfigsRequest<'a>) -> DescribeConfigsResponse<'a> {
    let results = request.resources.iter().map(|resource| match describe(view, resource) {
        Ok(described) => DescribeConfigsResult {
            error_code: ErrorCode::NONE.0,
            error_message: Some("".into()),
            resource_type: resource.resource_type,
            resource_name: Cow::Borrowed(&resource.resource_name),
            configs: told(request, resource, described),
        },
        Err((error, why)) => DescribeConfigsResult {
            error_code: error.0,
            error_message: Some(why.into()),
            resource_type: resource.resource_type,
            resource_name: Cow::Borrowed(&resource.resource_name),
            configs: Vec::new(),
        },
    });
    DescribeConfigsResponse { throttle_time_ms: 0, results: results.collect() }
}

fn describe(
    view: View<'_>,
    resource: &DescribeConfigsResource<'_>,
) -> Result<Vec<Described>, (ErrorCode, String)> {
    let invalid = |why: String| Err((ErrorCode::INVALID_REQUEST, why));
    let name = &*resource.resource_name;
    let id = view.config.node_id;
    let configs = &view.image.configs;
    match ResourceType::from_id(resource.resource_type) {
        Some(ResourceType::Topic) if !is_valid_topic(name) => {
            Err((ErrorCode::INVALID_TOPIC_EXCEPTION, invalid_topic(name)))
        }
        Some(ResourceType::Topic) if view.image.topics.topic_named(name).is_none() => {
            Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, String::new()))
        }
        Some(ResourceType::Topic) => Ok(view.config.describe_topic(Dynamic::of_topic(configs, id, name))),
        Some(ResourceType::Broker) if name.is_empty() => {
            Ok(match configs.overrides(ResourceType::Broker, "") {
                Some(cluster) => view.config.describe_cluster_default(cluster),
                None => Vec::new(),
            })
        }
        Some(ResourceType::Broker) => match name.parse::<i32>() {
            Ok(asked) if asked == id => Ok(view.config.describe_node(Dynamic::of_broker(configs, id))),
            Ok(_) => {
                invalid(format!("Unexpected broker id, expected {id} or empty string, but received {name}"))
            }
            Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
        },
        _ => invalid(format!("Unsupported resource type: {}", resource.resource_type)),
    }
}

/// Why a topic's name is invalid (`Topic.validate`).
pub(crate) fn invalid_topic(name: &str) -> String {
    match name {
        "" => "Topic name is invalid: the empty string is not allowed".into(),
        "." | ".." => "Topic name is invalid: '.' or '..' is not allowed".into(),
        _ if name.len() > 249 => {
            format!("Topic name is invalid: the length of '{name}' is longer than the max allowed length 249")
        }
        _ => format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' \
             and '-'"
        ),
    }
}

fn told<'a>(
    request: &DescribeConfigsRequest<'_>,
    resource: &DescribeConfigsResource<'_>,
    described: Vec<Described>,
) -> Vec<DescribeConfigsResourceResult<'a>> {
    let keys = resource.configuration_keys.as_deref().filter(|keys| !keys.is_empty());
    let wanted = described.into_iter().filter(|d| keys.is_none_or(|keys| keys.iter().any(|k| *k == d.name)));
    wanted
        .map(|d| DescribeConfigsResourceResult {
            name: d.name.into(),
            value: d.value.map(Cow::Owned),
            read_only: d.read_only,
            config_source: d.source as i8,
            is_sensitive: d.sensitive,
            config_type: d.kind as i8,
            documentation: None,
            synonyms: match request.include_synonyms {
                false => Vec::new(),
                true => d
                    .synonyms
                    .into_iter()
                    .map(|s| DescribeConfigsSynonym {
                        name: s.name.into(),
                        value: s.value.map(Cow::Owned),
                        source: s.source as i8,
                    })
                    .collect(),
            },
        })
        .collect()
}

/// Answers a ListConfigResources request; version 0 knows client metrics only.
pub fn list<'a>(
    view: View<'a>,
    version: i16,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse<'a> {
    let all = [
        ResourceType::Topic,
        ResourceType::Broker,
        ResourceType::BrokerLogger,
        ResourceType::ClientMetrics,
        ResourceType::Group,
    ];
    let wanted: Vec<ResourceType> = match request.resource_types.as_slice() {
        _ if version == 0 => alloc::vec![ResourceType::ClientMetrics],
        [] => all.to_vec(),
        some => match some.iter().map(|id| ResourceType::from_id(*id)).collect::<Option<Vec<_>>>() {
            Some(known) => known,
            None => {
                return ListConfigResourcesResponse {
                    error_code: ErrorCode::UNSUPPORTED_VERSION.0,
                    ..ListConfigResourcesResponse::default()
                };
            }
        },
    };
    let mut found: Vec<ConfigResource<'a>> = Vec::new();
    for kind in wanted {
        let resource = |name: Cow<'a, str>| ConfigResource { resource_name: name, resource_type: kind.id() };
        match kind {
            ResourceType::Topic => {
                found.extend(view.image.topics.iter_by_name().map(|t| resource((&*t.name).into())));
            }
            ResourceType::Broker | ResourceType::BrokerLogger => {
                found.extend(view.image.brokers.keys().map(|id| resource(id.to_string().into())));
            }
            _ => {
                let named = view.image.configs.resources().filter(|(of, _)| *of == kind);
                found.extend(named.map(|(_, name)| resource((&**name).into())));
            }
        }
    }
    ListConfigResourcesResponse { config_resources: found, ..ListConfigResourcesResponse::default() }
}

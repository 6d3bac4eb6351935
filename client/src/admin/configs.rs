//! Settings: describeConfigs, incrementalAlterConfigs. Those of a broker are asked of that broker.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::Now;
use wire::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use super::{
    Admin, AdminResult, AlterConfig, Answer, CallId, ConfigEntry, ConfigResource, Each, Link, NextRequest,
    Op, Route, Step, all_failed, outcome,
};
use crate::error::ClientError;

/// The kinds of resources that live on one broker.
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

fn route_of(resource: &ConfigResource) -> Route {
    let id = resource.name.parse().ok().filter(|_| matches!(resource.kind, BROKER | BROKER_LOGGER));
    id.map_or(Route::Any, Route::Node)
}

/// Resources by whom they are asked of, in their order.
fn by_route<T>(
    all: impl IntoIterator<Item = T>,
    resource: impl Fn(&T) -> &ConfigResource,
) -> Vec<(Route, Vec<T>)> {
    let mut routes: Vec<(Route, Vec<T>)> = Vec::new();
    for item in all {
        let route = route_of(resource(&item));
        match routes.iter_mut().find(|(known, _)| *known == route) {
            Some((_, items)) => items.push(item),
            None => routes.push((route, alloc::vec![item])),
        }
    }
    routes
}

impl Admin {
    /// The settings of resources.
    pub fn describe_configs(
        &mut self,
        now: Now,
        resources: &[ConfigResource],
        synonyms: bool,
        documentation: bool,
    ) -> CallId {
        let request = |(route, resources): (Route, Vec<ConfigResource>)| NextRequest {
            name: "describeConfigs".into(),
            route,
            op: Box::new(DescribeConfigs { resources, synonyms, documentation }),
        };
        let routes = by_route(resources.iter().cloned(), |resource| resource);
        if routes.is_empty() {
            return self.begin_done(AdminResult::Configs(BTreeMap::new()));
        }
        self.begin_all(now, routes.into_iter().map(request).collect())
    }

    /// Changes settings of resources.
    pub fn incremental_alter_configs(
        &mut self,
        now: Now,
        resources: BTreeMap<ConfigResource, Vec<AlterConfig>>,
        validate_only: bool,
    ) -> CallId {
        let request = |(route, resources): (Route, Vec<(ConfigResource, Vec<AlterConfig>)>)| NextRequest {
            name: "incrementalAlterConfigs".into(),
            route,
            op: Box::new(AlterConfigs { resources, validate_only }),
        };
        let routes = by_route(resources, |(resource, _)| resource);
        if routes.is_empty() {
            return self.begin_done(AdminResult::ConfigsAltered(BTreeMap::new()));
        }
        self.begin_all(now, routes.into_iter().map(request).collect())
    }
}

#[derive(Clone)]
struct DescribeConfigs {
    resources: Vec<ConfigResource>,
    synonyms: bool,
    documentation: bool,
}

impl Op for DescribeConfigs {
    fn key(&self) -> ApiKey {
        ApiKey::DescribeConfigs
    }

    fn send(&self, link: Link<'_>) {
        let resource = |resource: &ConfigResource| DescribeConfigsResource {
            resource_type: resource.kind,
            resource_name: Cow::Owned(resource.name.clone()),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: self.resources.iter().map(resource).collect(),
            include_synonyms: self.synonyms,
            include_documentation: self.documentation && link.version >= 3,
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DescribeConfigsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let mut described: Each<ConfigResource, Vec<ConfigEntry>> = BTreeMap::new();
        for told in &response.results {
            let resource = ConfigResource { kind: told.resource_type, name: told.resource_name.to_string() };
            let owned = |value: &Option<Cow<'_, str>>| value.as_deref().map(str::to_string);
            let entry =
                |config: &wire::messages::describe_configs_response::DescribeConfigsResourceResult<'_>| {
                    let synonyms = config.synonyms.iter();
                    ConfigEntry {
                        name: config.name.to_string(),
                        value: owned(&config.value),
                        read_only: config.read_only,
                        sensitive: config.is_sensitive,
                        source: config.config_source,
                        kind: config.config_type,
                        synonyms: synonyms.map(|s| (s.name.to_string(), owned(&s.value), s.source)).collect(),
                        documentation: owned(&config.documentation),
                    }
                };
            let result = outcome(told.error_code, told.error_message.as_deref(), || {
                told.configs.iter().map(entry).collect()
            });
            described.insert(resource, result);
        }
        for resource in &self.resources {
            described.entry(resource.clone()).or_insert_with(|| Err(no_answer(resource)));
        }
        Step::Done(AdminResult::Configs(described))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Configs(all_failed(self.resources.iter().cloned(), &error))
    }
}

#[derive(Clone)]
struct AlterConfigs {
    resources: Vec<(ConfigResource, Vec<AlterConfig>)>,
    validate_only: bool,
}

impl Op for AlterConfigs {
    fn key(&self) -> ApiKey {
        ApiKey::IncrementalAlterConfigs
    }

    fn send(&self, link: Link<'_>) {
        let config = |alter: &AlterConfig| AlterableConfig {
            name: Cow::Owned(alter.name.clone()),
            config_operation: alter.op as i8,
            value: alter.value.clone().map(Cow::Owned),
        };
        let resource = |(resource, alters): &(ConfigResource, Vec<AlterConfig>)| AlterConfigsResource {
            resource_type: resource.kind,
            resource_name: Cow::Owned(resource.name.clone()),
            configs: alters.iter().map(config).collect(),
        };
        let request = IncrementalAlterConfigsRequest {
            resources: self.resources.iter().map(resource).collect(),
            validate_only: self.validate_only,
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<IncrementalAlterConfigsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let mut altered: Each<ConfigResource, ()> = BTreeMap::new();
        for told in &response.responses {
            let resource = ConfigResource { kind: told.resource_type, name: told.resource_name.to_string() };
            altered.insert(resource, outcome(told.error_code, told.error_message.as_deref(), || ()));
        }
        for (resource, _) in &self.resources {
            altered.entry(resource.clone()).or_insert_with(|| Err(no_answer(resource)));
        }
        Step::Done(AdminResult::ConfigsAltered(altered))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::ConfigsAltered(all_failed(self.resources.iter().map(|(r, _)| r.clone()), &error))
    }
}

fn no_answer(resource: &ConfigResource) -> ClientError {
    let text =
        alloc::format!("The broker response did not contain a result for config resource {}", resource.name);
    ClientError::from_code(wire::error::ErrorCode::UNKNOWN_SERVER_ERROR, Some(&text))
}

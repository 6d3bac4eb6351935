//! Quotas of clients, users and addresses: describeClientQuotas, alterClientQuotas; and listConfigResources, which
//! names what else has settings.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::Now;
use wire::error::ErrorCode;
use wire::messages::alter_client_quotas_request::{AlterClientQuotasRequest, EntityData, EntryData, OpData};
use wire::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use wire::messages::list_config_resources_request::ListConfigResourcesRequest;

use super::{
    Admin, AdminResult, Answer, CallId, ConfigResource, Link, Op, QuotaEntity, QuotaMatch, Route, Step,
    outcome,
};
use crate::error::ClientError;

impl Admin {
    /// The quotas of the entities whose parts are as asked for; `strict` leaves out those with further parts.
    pub fn describe_client_quotas(
        &mut self,
        now: Now,
        components: BTreeMap<String, QuotaMatch>,
        strict: bool,
    ) -> CallId {
        let op = Box::new(DescribeQuotas { components, strict });
        self.begin(now, "describeClientQuotas", Route::Any, op)
    }

    /// Sets quotas of an entity, or takes them away; values are the bits of doubles.
    pub fn alter_client_quotas(
        &mut self,
        now: Now,
        entity: QuotaEntity,
        quotas: BTreeMap<String, Option<u64>>,
    ) -> CallId {
        self.begin(now, "alterClientQuotas", Route::Any, Box::new(AlterQuotas { entity, quotas }))
    }

    /// The resources of some kinds, of all if none is given, that have settings.
    pub fn list_config_resources(&mut self, now: Now, kinds: &[i8]) -> CallId {
        let op = Box::new(ListResources { kinds: kinds.to_vec() });
        self.begin(now, "listConfigResources", Route::Any, op)
    }
}

#[derive(Clone)]
struct DescribeQuotas {
    components: BTreeMap<String, QuotaMatch>,
    strict: bool,
}

impl Op for DescribeQuotas {
    fn key(&self) -> ApiKey {
        ApiKey::DescribeClientQuotas
    }

    fn send(&self, link: Link<'_>) {
        let component = |(kind, wanted): (&String, &QuotaMatch)| {
            let (match_type, name) = match wanted {
                QuotaMatch::Name(name) => (0, Some(Cow::Owned(name.clone()))),
                QuotaMatch::Default => (1, None),
                QuotaMatch::Any => (2, None),
            };
            ComponentData { entity_type: Cow::Owned(kind.clone()), match_type, match_: name }
        };
        link.send(&DescribeClientQuotasRequest {
            components: self.components.iter().map(component).collect(),
            strict: self.strict,
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DescribeClientQuotasRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.error_code != 0 {
            let code = ErrorCode(response.error_code);
            return Step::Failed(ClientError::from_code(code, response.error_message.as_deref()));
        }
        let quotas = response.entries.iter().flatten().map(|entry| {
            let part = |part: &wire::messages::describe_client_quotas_response::EntityData<'_>| {
                (part.entity_type.to_string(), part.entity_name.as_deref().map(str::to_string))
            };
            let values = entry.values.iter().map(|value| (value.key.to_string(), value.value.to_bits()));
            (entry.entity.iter().map(part).collect(), values.collect())
        });
        Step::Done(AdminResult::Quotas(Ok(quotas.collect())))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Quotas(Err(error))
    }
}

#[derive(Clone)]
struct AlterQuotas {
    entity: QuotaEntity,
    quotas: BTreeMap<String, Option<u64>>,
}

impl Op for AlterQuotas {
    fn key(&self) -> ApiKey {
        ApiKey::AlterClientQuotas
    }

    fn send(&self, link: Link<'_>) {
        let part = |(kind, name): (&String, &Option<String>)| EntityData {
            entity_type: Cow::Owned(kind.clone()),
            entity_name: name.clone().map(Cow::Owned),
        };
        let op = |(key, value): (&String, &Option<u64>)| OpData {
            key: Cow::Owned(key.clone()),
            value: f64::from_bits(value.unwrap_or_default()),
            remove: value.is_none(),
        };
        let entry = EntryData {
            entity: self.entity.iter().map(part).collect(),
            ops: self.quotas.iter().map(op).collect(),
        };
        link.send(&AlterClientQuotasRequest { entries: alloc::vec![entry], validate_only: false });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<AlterClientQuotasRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let told = response
            .entries
            .iter()
            .map(|entry| outcome(entry.error_code, entry.error_message.as_deref(), || ()));
        match told.collect::<Result<Vec<()>, ClientError>>() {
            Ok(_) => Step::Done(AdminResult::Unregistered(Ok(()))),
            Err(error) => Step::Failed(error),
        }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Unregistered(Err(error))
    }
}

#[derive(Clone)]
struct ListResources {
    kinds: Vec<i8>,
}

impl Op for ListResources {
    fn key(&self) -> ApiKey {
        ApiKey::ListConfigResources
    }

    fn send(&self, link: Link<'_>) {
        let resource_types = if link.version >= 1 { self.kinds.clone() } else { Vec::new() };
        link.send(&ListConfigResourcesRequest { resource_types });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<ListConfigResourcesRequest>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.error_code != 0 {
            return Step::Failed(ClientError::from_code(ErrorCode(response.error_code), None));
        }
        let resources = response.config_resources.iter().map(|resource| ConfigResource {
            kind: resource.resource_type,
            name: resource.resource_name.to_string(),
        });
        Step::Done(AdminResult::ConfigResources(Ok(resources.collect())))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::ConfigResources(Err(error))
    }
}

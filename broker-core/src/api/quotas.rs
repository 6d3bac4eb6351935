//! DescribeClientQuotas (KIP-546), from the metadata image alone: `ClientQuotasImage.describe`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use wire::ErrorCode;
use wire::messages::describe_client_quotas_request::ComponentData;
use wire::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use wire::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};

use super::View;
use crate::metadata::QuotaEntity;

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

/// What an entity must have of one type.
struct Filter<'r> {
    kind: &'r str,
    /// Absent for any; `None` for the default.
    name: Option<Option<&'r str>>,
}

/// Answers a DescribeClientQuotas request.
pub fn answer<'a>(
    view: View<'a>,
    request: &'a DescribeClientQuotasRequest<'a>,
) -> DescribeClientQuotasResponse<'a> {
    let filters = match filters(&request.components) {
        Ok(filters) => filters,
        Err((error, why)) => {
            return DescribeClientQuotasResponse {
                error_code: error.0,
                error_message: Some(why.into()),
                entries: None,
                ..Default::default()
            };
        }
    };
    let fits = |entity: &QuotaEntity| {
        let has = |filter: &Filter<'_>| {
            let part = entity.iter().find(|(kind, _)| **kind == *filter.kind);
            part.is_some_and(|(_, name)| filter.name.is_none_or(|wanted| name.as_deref() == wanted))
        };
        filters.iter().all(has) && !(request.strict && entity.len() != filters.len())
    };
    let entry = |(entity, quotas): (&'a QuotaEntity, &'a alloc::collections::BTreeMap<_, u64>)| EntryData {
        entity: (entity.iter())
            .map(|(kind, name)| EntityData {
                entity_type: (&**kind).into(),
                entity_name: name.as_deref().map(Into::into),
            })
            .collect(),
        values: (quotas.iter())
            .map(|(key, bits): (&'a alloc::sync::Arc<str>, _)| ValueData {
                key: (&**key).into(),
                value: f64::from_bits(*bits),
            })
            .collect(),
    };
    let found = view.image.client_quotas.entities.iter().filter(|(entity, _)| fits(entity));
    DescribeClientQuotasResponse {
        error_message: None,
        entries: Some(found.map(entry).collect()),
        ..Default::default()
    }
}

fn filters<'r>(components: &'r [ComponentData<'r>]) -> Result<Vec<Filter<'r>>, (ErrorCode, String)> {
    let invalid = |why: String| Err((ErrorCode::INVALID_REQUEST, why));
    let mut filters: Vec<Filter<'r>> = Vec::new();
    for component in components {
        let kind = &*component.entity_type;
        if kind.is_empty() {
            return invalid("Invalid empty entity type.".into());
        }
        if filters.iter().any(|f| f.kind == kind) {
            return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
        }
        if !matches!(kind, "user" | "client-id" | "ip") {
            let why = format!("Custom entity type '{kind}' not supported");
            return Err((ErrorCode::UNSUPPORTED_VERSION, why));
        }
        let name = match (component.match_type, component.match_.as_deref()) {
            (EXACT, Some(name)) => Some(Some(name)),
            (EXACT, None) => {
                return invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.".into());
            }
            (DEFAULT, None) => Some(None),
            (DEFAULT, Some(_)) => {
                return invalid(
                    "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.".into(),
                );
            }
            (SPECIFIED, None) => None,
            (SPECIFIED, Some(_)) => {
                return invalid(
                    "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.".into(),
                );
            }
            (other, _) => return invalid(format!("Unknown match type {other}")),
        };
        filters.push(Filter { kind, name });
    }
    if filters.len() > 1 && filters.iter().any(|f| f.kind == "ip") {
        return invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or \
             clientId filter component."
                .into(),
        );
    }
    Ok(filters)
}

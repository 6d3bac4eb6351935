//! AlterClientQuotas (49, KIP-546). `ClientQuotaControlManager`.
//!
//! Quotas are kept and told; what holds clients to them is in [`crate::quota`].

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use wire::messages::*;
use wire::records::client_quota_record;
use wire::records::{ClientQuotaRecord, MetadataRecord};

use super::Outcome;
use super::answer::{Answer, code_and_text, owned};
use super::error::ApiError;
use super::state::State;
use crate::metadata::QuotaEntity;

/// The values that a quota takes.
#[derive(Clone, Copy)]
enum Takes {
    Double,
    Long,
    Int,
}

fn invalid(text: impl Into<alloc::string::String>) -> ApiError {
    ApiError::new(ErrorCode::INVALID_REQUEST, text)
}

impl State {
    /// AlterClientQuotas (49): each entity by itself.
    pub fn alter_client_quotas(&mut self, request: &AlterClientQuotasRequest<'_>) -> Outcome {
        let mut records: Vec<MetadataRecord> = Vec::new();
        let mut response = AlterClientQuotasResponse::default();
        for entry in &request.entries {
            let before = records.len();
            let result = self.alter_quotas_of(entry, &mut records);
            if result.is_err() {
                records.truncate(before);
            }
            let (error_code, error_message) = code_and_text(&result);
            let mut told = blank_entry(entry);
            (told.error_code, told.error_message) = (error_code, error_message);
            response.entries.push(told);
        }
        if request.validate_only {
            records.clear();
        }
        Outcome::of(records, Answer::AlterClientQuotas(response))
    }

    fn alter_quotas_of(
        &self,
        entry: &EntryData<'_>,
        records: &mut Vec<MetadataRecord>,
    ) -> Result<(), ApiError> {
        let (entity, keys) = entity_of(&entry.entity)?;
        let none = BTreeMap::new();
        let now = self.image.client_quotas.entities.get(&entity).unwrap_or(&none);
        for op in &entry.ops {
            let takes = keys.iter().find(|(key, _)| *key == op.key);
            let Some((_, takes)) = takes else {
                return Err(invalid(format!("Invalid configuration key {}", op.key)));
            };
            if op.remove {
                if now.contains_key(&*op.key) {
                    records.push(record(&entity, op).into());
                }
                continue;
            }
            check_value(op, *takes)?;
            if now.get(&*op.key) != Some(&op.value.to_bits()) {
                records.push(record(&entity, op).into());
            }
        }
        Ok(())
    }
}

/// An answer's entry that says nothing yet.
pub(super) fn blank_entry(entry: &EntryData<'_>) -> alter_client_quotas_response::EntryData<'static> {
    let part = |part: &EntityData<'_>| alter_client_quotas_response::EntityData {
        entity_type: owned(&part.entity_type),
        entity_name: part.entity_name.as_deref().map(owned),
    };
    alter_client_quotas_response::EntryData {
        entity: entry.entity.iter().map(part).collect(),
        ..Default::default()
    }
}

/// Quotas and what they take.
type Keys = &'static [(&'static str, Takes)];

/// The entity, and the quotas that it may have.
fn entity_of(parts: &[EntityData<'_>]) -> Result<(QuotaEntity, Keys), ApiError> {
    const CLIENT: Keys = &[
        ("producer_byte_rate", Takes::Long),
        ("consumer_byte_rate", Takes::Long),
        ("request_percentage", Takes::Double),
        ("controller_mutation_rate", Takes::Double),
    ];
    const IP: Keys = &[("connection_creation_rate", Takes::Int)];
    if parts.is_empty() {
        return Err(invalid("Invalid empty client quota entity"));
    }
    let mut entity = QuotaEntity::new();
    for part in parts {
        let kind = &*part.entity_type;
        if !matches!(kind, "user" | "client-id" | "ip") {
            return Err(invalid(format!("Unhandled client quota entity type: {kind}")));
        }
        if part.entity_name.as_deref() == Some("") {
            return Err(invalid(format!("Empty {kind} not supported")));
        }
        if entity.iter().any(|(other, _)| **other == *kind) {
            return Err(invalid(format!("Duplicate entity type: {kind}")));
        }
        entity.push((Arc::from(kind), part.entity_name.as_deref().map(Arc::from)));
    }
    entity.sort();
    let is_ip = entity.iter().any(|(kind, _)| &**kind == "ip");
    if is_ip && entity.len() > 1 {
        return Err(invalid(
            "Invalid quota entity combination, IP entity should not be combined with User or ClientId",
        ));
    }
    Ok((entity, if is_ip { IP } else { CLIENT }))
}

fn check_value(op: &OpData<'_>, takes: Takes) -> Result<(), ApiError> {
    let (key, value) = (&op.key, op.value);
    if value.is_nan() || value <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    let (whole, bound, what) = match takes {
        Takes::Double => return Ok(()),
        Takes::Long => (value as i64 as f64, i64::MAX as f64, "a Long"),
        Takes::Int => (f64::from(value as i32), f64::from(i32::MAX), "an Integer"),
    };
    if value > bound {
        return Err(invalid(format!("Proposed value for {key} is too large for {what}.")));
    }
    if whole != value {
        return Err(invalid(format!("{key} cannot be a fractional value.")));
    }
    Ok(())
}

fn record(entity: &QuotaEntity, op: &OpData<'_>) -> ClientQuotaRecord {
    let part = |(kind, name): &(Arc<str>, Option<Arc<str>>)| client_quota_record::EntityData {
        entity_type: kind.to_string(),
        entity_name: name.as_deref().map(ToString::to_string),
    };
    ClientQuotaRecord {
        entity: entity.iter().map(part).collect(),
        key: op.key.to_string(),
        value: if op.remove { 0.0 } else { op.value },
        remove: op.remove,
    }
}

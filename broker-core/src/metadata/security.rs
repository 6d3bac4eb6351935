//! Quotas of clients, ACLs, SCRAM credentials and delegation tokens: kept record by record.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::Uuid;
use wire::records::client_quota_record::EntityData;
use wire::records::{
    AccessControlEntryRecord, ClientQuotaRecord, DelegationTokenRecord, RemoveUserScramCredentialRecord,
    UserScramCredentialRecord,
};

/// Whom a quota limits: pairs of type (`user`, `client-id`, `ip`) and name, `None` for the default; sorted by type.
pub type QuotaEntity = Vec<(Arc<str>, Option<Arc<str>>)>;

/// Quotas of clients (KIP-546): for each entity the quotas by key. Values are the bits of an IEEE 754 double, since
/// the image does not calculate with them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClientQuotasImage {
    /// The quotas.
    pub entities: BTreeMap<QuotaEntity, BTreeMap<Arc<str>, u64>>,
}

impl ClientQuotasImage {
    pub(super) fn apply(&mut self, record: &ClientQuotaRecord) {
        let entity = record.entity.iter();
        let entity = entity.map(|e| (Arc::from(&*e.entity_type), e.entity_name.as_deref().map(Arc::from)));
        let mut entity: QuotaEntity = entity.collect();
        entity.sort();
        if record.remove {
            if let Some(quotas) = self.entities.get_mut(&entity) {
                quotas.remove(&*record.key);
                if quotas.is_empty() {
                    self.entities.remove(&entity);
                }
            }
        } else {
            let quotas = self.entities.entry(entity).or_default();
            quotas.insert(Arc::from(&*record.key), record.value.to_bits());
        }
    }

    pub(super) fn to_records(&self) -> impl Iterator<Item = ClientQuotaRecord> {
        self.entities.iter().flat_map(|(entity, quotas)| {
            quotas.iter().map(|(key, &value)| ClientQuotaRecord {
                entity: entity
                    .iter()
                    .map(|(entity_type, name)| EntityData {
                        entity_type: (**entity_type).into(),
                        entity_name: name.as_deref().map(Into::into),
                    })
                    .collect(),
                key: (**key).into(),
                value: f64::from_bits(value),
                remove: false,
            })
        })
    }
}

/// ACLs, SCRAM credentials and delegation tokens, as their records state them.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SecurityImage {
    /// ACLs by id.
    pub acls: BTreeMap<Uuid, AccessControlEntryRecord>,
    /// SCRAM credentials by mechanism and user.
    pub scram: BTreeMap<(i8, Arc<str>), UserScramCredentialRecord>,
    /// Delegation tokens by token id.
    pub delegation_tokens: BTreeMap<Arc<str>, DelegationTokenRecord>,
}

impl SecurityImage {
    pub(super) fn set_scram(&mut self, record: &UserScramCredentialRecord) {
        self.scram.insert((record.mechanism, Arc::from(&*record.name)), record.clone());
    }

    pub(super) fn remove_scram(&mut self, record: &RemoveUserScramCredentialRecord) {
        self.scram.remove(&(record.mechanism, Arc::from(&*record.name)));
    }
}

//! UpdateFeatures (57). `FeatureControlManager`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::messages::*;
use wire::records::{FeatureLevelRecord, MetadataRecord};

use super::Outcome;
use super::answer::{Answer, owned};
use super::error::ApiError;
use super::state::{Env, State};
use crate::metadata::{FeatureRange, feature};

/// Which way a feature may go (`FeatureUpdate.UpgradeType`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum UpgradeType {
    Upgrade,
    SafeDowngrade,
    UnsafeDowngrade,
}

impl State {
    /// UpdateFeatures (57): all of the updates are made, or none.
    pub fn update_features(
        &mut self,
        env: &Env<'_>,
        request: &UpdateFeaturesRequest<'_>,
        version: i16,
    ) -> Outcome {
        let mut response = UpdateFeaturesResponse { error_message: None, ..Default::default() };
        let mut records: Vec<MetadataRecord> = Vec::new();
        for update in &request.feature_updates {
            if let Err(error) = self.update_feature(update, version, &mut records) {
                let text = error.message.unwrap_or_default();
                let text = format!(
                    "The update failed for all features since the following feature had an error: {text}"
                );
                let error = ApiError::new(error.code, text);
                return Outcome::of(Vec::new(), Answer::UpdateFeatures(response).failed(&error));
            }
        }
        let mut levels = request.feature_updates.iter().map(|u| (&*u.feature, u.max_version_level));
        if levels.any(|(name, level)| name == feature::ELIGIBLE_LEADER_REPLICAS && level > 0) {
            let mut safety = self.elr_safety_records(env.config);
            safety.append(&mut records);
            records = safety;
        }
        if request.validate_only {
            records.clear();
        }
        if version < 2 {
            let result = |u: &update_features_request::FeatureUpdateKey<'_>| {
                update_features_response::UpdatableFeatureResult {
                    feature: owned(&u.feature),
                    error_code: ErrorCode::NONE.0,
                    error_message: None,
                }
            };
            response.results = request.feature_updates.iter().map(result).collect();
        }
        Outcome::of(records, Answer::UpdateFeatures(response))
    }

    fn update_feature(
        &self,
        update: &update_features_request::FeatureUpdateKey<'_>,
        version: i16,
        records: &mut Vec<MetadataRecord>,
    ) -> Result<(), ApiError> {
        let (name, level) = (&*update.feature, update.max_version_level);
        let invalid = |why: &str| {
            let text = format!("Invalid update version {level} for feature {name}. {why}");
            Err(ApiError::new(ErrorCode::INVALID_UPDATE_VERSION, text))
        };
        let upgrade_type = match (version, update.allow_downgrade, update.upgrade_type) {
            (0, false, _) | (1.., _, 1) => UpgradeType::Upgrade,
            (0, true, _) | (1.., _, 2) => UpgradeType::SafeDowngrade,
            (1.., _, 3) => UpgradeType::UnsafeDowngrade,
            _ => return invalid("The controller does not support the given upgrade type."),
        };
        if level < 0 {
            return invalid("A feature version cannot be less than 0.");
        }
        if let Some(why) = self.reason_not_supported(name, level) {
            return invalid(&why);
        }
        let current = self.image.features.level(name);
        if level < current && upgrade_type == UpgradeType::Upgrade {
            return invalid(
                "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                 unsafe downgrade.",
            );
        }
        if level > current && upgrade_type != UpgradeType::Upgrade {
            return invalid("Can't downgrade to a newer version.");
        }
        if name == feature::METADATA_VERSION && level < current {
            return invalid(match upgrade_type {
                UpgradeType::UnsafeDowngrade => "Unsafe metadata downgrade is not supported in this version.",
                _ => {
                    "Refusing to perform the requested downgrade because it might delete metadata information."
                }
            });
        }
        records.push(FeatureLevelRecord { name: name.to_string(), feature_level: level }.into());
        Ok(())
    }

    /// Why a level cannot be finalized: some node does not support it.
    fn reason_not_supported(&self, name: &str, level: i16) -> Option<String> {
        let disabled = FeatureRange { min: 0, max: 0 };
        let reason = |what: String, range: FeatureRange| match range.contains(level) {
            true => None,
            false if range.max == 0 => Some(format!("{what} does not support this feature.")),
            false if range.min == range.max => Some(format!("{what} only supports versions {}", range.min)),
            false => Some(format!("{what} only supports versions {}-{}", range.min, range.max)),
        };
        let local = feature::supported(name).unwrap_or(disabled);
        reason(format!("Local controller {}", self.node_id), local)
            .or_else(|| {
                let range =
                    |b: &crate::metadata::BrokerRegistration| *b.features.get(name).unwrap_or(&disabled);
                self.image.brokers.values().find_map(|b| reason(format!("Broker {}", b.id), range(b)))
            })
            .or_else(|| {
                let others = self.image.controllers.values().filter(|c| c.id != self.node_id);
                let range = |c: &crate::metadata::ControllerRegistration| {
                    c.features.iter().find(|(n, _)| **n == *name).map_or(disabled, |&(_, range)| range)
                };
                others.map(|c| reason(format!("Controller {}", c.id), range(c))).find_map(|r| r)
            })
    }
}

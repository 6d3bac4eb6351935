//! ApiVersions (KIP-35, KIP-511, KIP-584).

use alloc::vec::Vec;

use wire::error::ErrorCode;
use wire::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use wire::{ApiKey, VersionRange};

use super::View;
use super::incoming::{advertised, apis};
use crate::io::Listener;
use crate::metadata::feature;

/// The answer to a request of a version that is served.
pub fn answer<'a>(
    view: View<'a>,
    listener: Listener,
    version: i16,
    request: &ApiVersionsRequest<'_>,
) -> ApiVersionsResponse<'a> {
    if version >= 3
        && !(is_valid(&request.client_software_name) && is_valid(&request.client_software_version))
    {
        return ApiVersionsResponse {
            error_code: ErrorCode::INVALID_REQUEST.0,
            ..ApiVersionsResponse::default()
        };
    }
    let range = |key: ApiKey| advertised(key, listener).map(|range| api(key, range));
    let features = &view.image.features;
    let finalized = |name: &'a str, level: i16| FinalizedFeatureKey {
        name: name.into(),
        max_version_level: level,
        min_version_level: level,
    };
    let mut finalized_features: Vec<_> =
        features.others().map(|(name, level)| finalized(name, level)).collect();
    if view.kraft_version > 0 {
        finalized_features.push(finalized(feature::KRAFT_VERSION, view.kraft_version));
    }
    finalized_features.push(finalized(feature::METADATA_VERSION, features.metadata_version()));
    ApiVersionsResponse {
        api_keys: apis(listener).iter().copied().filter_map(range).collect(),
        // Up to version 3 a minimum of 0 must not be told: clients take it for a mistake (KAFKA-17011).
        supported_features: feature::SUPPORTED
            .iter()
            .filter(|(_, range)| version >= 4 || range.min > 0)
            .map(|(name, range)| SupportedFeatureKey {
                name: (*name).into(),
                min_version: range.min,
                max_version: range.max,
            })
            .collect(),
        finalized_features_epoch: view.image.offset,
        finalized_features,
        ..ApiVersionsResponse::default()
    }
}

/// The answer, in version 0, to a request of a version that nobody serves: it says which versions of ApiVersions are.
pub fn unsupported(listener: Listener) -> ApiVersionsResponse<'static> {
    let own = advertised(ApiKey::ApiVersions, listener).expect("every listener serves ApiVersions");
    ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION.0,
        api_keys: alloc::vec![api(ApiKey::ApiVersions, own)],
        ..ApiVersionsResponse::default()
    }
}

fn api(key: ApiKey, range: VersionRange) -> ApiVersion {
    ApiVersion { api_key: key as i16, min_version: range.min, max_version: range.max }
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_valid(software: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = software.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}

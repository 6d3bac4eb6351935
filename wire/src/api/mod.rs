//! The APIs: their keys, the versions known of each, and the versions of their headers.
//!
//! The versions that are advertised are those of Kafka 4.3 (`ApiKeys.java`, `ApiVersionsResponse.java`).

mod table;

pub use table::{APIS, ApiKey};

use crate::codec::DecodeReason;

/// Versions from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest.
    pub min: i16,
    /// The latest.
    pub max: i16,
}

impl VersionRange {
    /// Whether a version is one of these.
    pub fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// The versions in both ranges, if there are any.
    pub fn intersect(self, other: VersionRange) -> Option<VersionRange> {
        let both = VersionRange { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }
}

/// What is known of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiInfo {
    /// Its key.
    pub key: ApiKey,
    /// Kafka's name, such as `Fetch`.
    pub name: &'static str,
    /// The versions that this crate encodes and decodes.
    pub versions: VersionRange,
    /// The versions that Kafka 4.3 knows, including an unstable one.
    pub kafka: Option<VersionRange>,
    /// The first flexible version; `i16::MAX` if there is none.
    pub flexible_from: i16,
    /// Whether a broker serves it.
    pub on_broker: bool,
    /// Whether a controller serves it.
    pub on_controller: bool,
    /// Whether a broker passes it on to the active controller, in an Envelope.
    pub forwardable: bool,
    /// Whether the latest version in `kafka` is unstable and hence not advertised.
    pub latest_unstable: bool,
}

impl ApiInfo {
    /// The stable versions of Kafka 4.3.
    pub fn stable(&self) -> Option<VersionRange> {
        let VersionRange { min, max } = self.kafka?;
        let max = if self.latest_unstable { max - 1 } else { max };
        (min <= max).then_some(VersionRange { min, max })
    }

    /// The versions that a broker advertises.
    ///
    /// Produce is advertised from version 0 although 0 to 2 are refused: older librdkafka would otherwise not
    /// compress (KAFKA-18659).
    pub fn broker_versions(&self) -> Option<VersionRange> {
        let stable = self.stable().filter(|_| self.on_broker)?;
        Some(if self.key == ApiKey::Produce { VersionRange { min: 0, ..stable } } else { stable })
    }

    /// The versions that a controller advertises.
    pub fn controller_versions(&self) -> Option<VersionRange> {
        self.stable().filter(|_| self.on_controller)
    }
}

impl ApiKey {
    /// What is known of it.
    pub fn info(self) -> &'static ApiInfo {
        &APIS[self.index()]
    }

    /// Kafka's name, such as `Fetch`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Whether a version of it is flexible.
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.info().flexible_from
    }

    /// The version of the header of a request: 2 if the request is flexible, 1 otherwise.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header of a response: 1 if the response is flexible, 0 otherwise.
    ///
    /// That of ApiVersions is always 0, since a client must be able to read it before it knows any version.
    pub fn response_header_version(self, version: i16) -> i16 {
        if self != ApiKey::ApiVersions && self.is_flexible(version) { 1 } else { 0 }
    }
}

impl TryFrom<i16> for ApiKey {
    type Error = DecodeReason;

    fn try_from(key: i16) -> Result<ApiKey, DecodeReason> {
        ApiKey::from_i16(key).ok_or(DecodeReason::Key(key))
    }
}

impl core::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_keys() {
        for (i, info) in APIS.iter().enumerate() {
            assert_eq!(info.key.index(), i);
            assert_eq!(ApiKey::try_from(info.key as i16), Ok(info.key));
            if let Some(kafka) = info.kafka {
                assert_eq!(info.versions.intersect(kafka), Some(kafka), "{}", info.name);
            }
        }
        for key in [-1, 4, 5, 6, 7, 95] {
            assert_eq!(ApiKey::try_from(key), Err(DecodeReason::Key(key)));
        }
    }

    #[test]
    fn headers_follow_flexibility() {
        assert_eq!(ApiKey::Fetch.request_header_version(11), 1);
        assert_eq!(ApiKey::Fetch.request_header_version(12), 2);
        assert_eq!(ApiKey::Fetch.response_header_version(12), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    }

    #[test]
    fn unstable_versions_are_not_advertised() {
        let range = |min, max| Some(VersionRange { min, max });
        assert_eq!(ApiKey::InitProducerId.info().broker_versions(), range(0, 5));
        assert_eq!(ApiKey::Produce.info().broker_versions(), range(0, 13));
        assert_eq!(ApiKey::Produce.info().controller_versions(), None);
        assert_eq!(ApiKey::Vote.info().broker_versions(), None);
        assert_eq!(ApiKey::UnregisterController.info().controller_versions(), None);
    }
}

//! How long a broker wants to be left alone (KIP-219; `AbstractResponse.throttleTimeMs` and `shouldClientThrottle`).
//!
//! A client that went over a quota is answered at once, and told for how long to send nothing more to that broker. Old
//! versions of responses tell it too, but there the broker has waited itself.

use wire::drive::Nanos;
use wire::frame::ResponseHeader;
use wire::messages::api_versions_response::ApiVersionsResponse;
use wire::messages::produce_response::ProduceResponse;
use wire::{ApiKey, Message, Reader, Rope};

/// The version from which on the client waits; absent if it does not wait for an API's sake.
fn waits_since(key: ApiKey) -> Option<i16> {
    Some(match key {
        ApiKey::AlterPartitionReassignments
        | ApiKey::DescribeTopicPartitions
        | ApiKey::ElectLeaders
        | ApiKey::IncrementalAlterConfigs
        | ApiKey::ListPartitionReassignments
        | ApiKey::OffsetDelete
        | ApiKey::UnregisterBroker => 0,
        ApiKey::AddOffsetsToTxn
        | ApiKey::AddPartitionsToTxn
        | ApiKey::AlterConfigs
        | ApiKey::CreatePartitions
        | ApiKey::DeleteGroups
        | ApiKey::DeleteRecords
        | ApiKey::DescribeLogDirs
        | ApiKey::EndTxn
        | ApiKey::InitProducerId
        | ApiKey::TxnOffsetCommit => 1,
        ApiKey::ApiVersions
        | ApiKey::DeleteTopics
        | ApiKey::DescribeConfigs
        | ApiKey::DescribeGroups
        | ApiKey::FindCoordinator
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::ListGroups
        | ApiKey::SyncGroup => 2,
        ApiKey::CreateTopics | ApiKey::JoinGroup | ApiKey::ListOffsets => 3,
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 4,
        ApiKey::Metadata | ApiKey::Produce => 6,
        ApiKey::Fetch => 8,
        _ => return None,
    })
}

/// The time to wait that a response tells, if its client heeds it. What cannot be read tells none: who reads the
/// response finds that out.
pub(super) fn throttle_time(frame: &Rope, key: ApiKey, version: i16) -> Option<Nanos> {
    if version < waits_since(key)? {
        return None;
    }
    let mut reader = Reader::new(frame);
    ResponseHeader::decode(&mut reader, key, version).ok()?;
    let ms = match key {
        ApiKey::Produce if ends_without_throttle(frame) => return None,
        ApiKey::Produce => ProduceResponse::decode(&mut reader, version).ok()?.throttle_time_ms,
        ApiKey::ApiVersions => ApiVersionsResponse::decode(&mut reader, version).ok()?.throttle_time_ms,
        // After the error code. All others begin with it.
        ApiKey::OffsetDelete => {
            reader.skip(2).ok()?;
            reader.i32().ok()?
        }
        _ => reader.i32().ok()?,
    };
    let ms = u64::try_from(ms).ok()?;
    (ms > 0).then(|| Nanos::from_millis(ms))
}

/// A Produce response has the time to wait behind everything but tagged fields. Nearly all tell none and have no tagged
/// field, which shows without reading them through.
fn ends_without_throttle(frame: &Rope) -> bool {
    let mut end = [1; 5];
    if frame.len() >= end.len() {
        frame.copy_to(frame.len() - end.len(), &mut end);
    }
    end == [0; 5]
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use wire::frame::encode_response;
    use wire::messages::produce_response::NodeEndpoint;
    use wire::messages::{FetchResponse, OffsetDeleteResponse};
    use wire::schema::Schema;

    fn told<'a, M: Message<'a>>(key: ApiKey, version: i16, response: &M) -> Option<Nanos> {
        let frame = encode_response(key, version, 7, response).unwrap();
        throttle_time(&frame.slice(4, frame.len() - 4), key, version)
    }

    #[test]
    fn the_time_to_wait_stands_where_it_is_read() {
        for key in (0..128).filter_map(ApiKey::from_i16) {
            let Some(since) = waits_since(key) else { continue };
            let fields = Schema::response(key).fields.iter();
            let mut fields =
                fields.filter(|f| f.versions.contains(since.max(f.versions.min)) && f.tag.is_none());
            let at = fields.position(|field| field.name == "ThrottleTimeMs").unwrap_or(usize::MAX);
            match key {
                ApiKey::Produce | ApiKey::ApiVersions => assert!(at > 0 && at < usize::MAX, "{key}"),
                ApiKey::OffsetDelete => assert_eq!(at, 1, "{key}"),
                _ => assert_eq!(at, 0, "{key}"),
            }
        }
    }

    #[test]
    fn a_time_to_wait_is_found() {
        let second = Some(Nanos::from_secs(1));
        let fetch = FetchResponse { throttle_time_ms: 1000, ..FetchResponse::default() };
        assert_eq!(told(ApiKey::Fetch, 17, &fetch), second);
        assert_eq!(told(ApiKey::Fetch, 7, &fetch), None, "such a broker waited itself");
        assert_eq!(told(ApiKey::Fetch, 17, &FetchResponse::default()), None);
        let delete = OffsetDeleteResponse { throttle_time_ms: 1000, ..OffsetDeleteResponse::default() };
        assert_eq!(told(ApiKey::OffsetDelete, 0, &delete), second);
        let versions = ApiVersionsResponse { throttle_time_ms: 1000, ..ApiVersionsResponse::default() };
        assert_eq!(told(ApiKey::ApiVersions, 4, &versions), second);
    }

    #[test]
    fn that_of_a_produce_response_is_found_behind_its_partitions() {
        let endpoint = NodeEndpoint { node_id: 1, host: "b".into(), port: 9092, ..NodeEndpoint::default() };
        for (ms, endpoints) in
            [(0, vec![]), (1000, vec![]), (0, vec![endpoint.clone()]), (1000, vec![endpoint])]
        {
            let response = ProduceResponse {
                throttle_time_ms: ms,
                node_endpoints: endpoints,
                ..ProduceResponse::default()
            };
            let expected = (ms > 0).then(|| Nanos::from_secs(1));
            assert_eq!(told(ApiKey::Produce, 13, &response), expected);
            if response.node_endpoints.is_empty() {
                assert_eq!(told(ApiKey::Produce, 8, &response), expected);
            }
            assert_eq!(
                told(ApiKey::Produce, 5, &ProduceResponse { node_endpoints: vec![], ..response }),
                None
            );
        }
    }

    #[test]
    fn what_cannot_be_read_tells_none() {
        let frame = Rope::from(bytes::Bytes::from_static(&[0, 0, 0, 7, 0, 9, 9]));
        assert_eq!(throttle_time(&frame, ApiKey::Fetch, 17), None);
        assert_eq!(throttle_time(&frame, ApiKey::Produce, 13), None);
        assert_eq!(throttle_time(&Rope::new(), ApiKey::Produce, 13), None);
    }
}

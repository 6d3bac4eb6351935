//! What is shared and what is copied, what cannot be encoded, and the headers of frames.

use bytes::Bytes;
use wire::frame::*;
use wire::framing::{decode_versioned, decode_versioned_or_later, encode_versioned};
use wire::messages::*;
use wire::records::{ConsumerProtocolSubscription, MetadataRecord, PartitionChangeRecord, TopicRecord};
use wire::{ApiKey, DecodeReason, EncodeError, Message, Reader, Rope, Uuid, Writer};

fn encode<'a>(message: &impl Message<'a>, version: i16) -> Result<Rope, EncodeError> {
    let mut w = Writer::new();
    message.encode(&mut w, version)?;
    w.finish()
}

fn produce(records: Rope) -> ProduceRequest<'static> {
    use produce_request::*;
    ProduceRequest {
        acks: -1,
        topic_data: vec![TopicProduceData {
            name: "t".into(),
            partition_data: vec![PartitionProduceData { index: 0, records: Some(records) }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn without_size(frame: &Rope) -> Rope {
    frame.slice(4, frame.len() - 4)
}

/// From a client's frame to a follower's, the bytes of large records stay where they are.
#[test]
fn large_records_are_shared() {
    let records = Bytes::from(vec![7; 1_000]);
    let frame = encode_request(12, 5, Some("me"), &produce(records.clone().into())).unwrap();
    assert_eq!(frame.pieces().len(), 3);
    assert_eq!(frame.pieces()[1].as_ptr(), records.as_ptr());

    let body = without_size(&frame);
    let mut r = Reader::new(&body);
    RequestHeader::decode(&mut r).unwrap();
    let request = ProduceRequest::decode(&mut r, 12).unwrap();
    let got = request.topic_data[0].partition_data[0].records.as_ref().unwrap();
    assert_eq!(got.pieces().len(), 1);
    assert_eq!(got.pieces()[0].as_ptr(), records.as_ptr());
    assert!(matches!(request.topic_data[0].name, std::borrow::Cow::Borrowed("t")));
}

#[test]
fn small_records_are_copied_into_one_piece() {
    let frame = encode_request(12, 5, None, &produce(Bytes::from(vec![7; 100]).into())).unwrap();
    assert_eq!(frame.pieces().len(), 1);
}

#[test]
fn what_a_version_lacks_is_an_error() {
    let mut request = FetchRequest::default();
    request.replica_state.replica_id = 1;
    let field = "FetchRequest.ReplicaState";
    assert_eq!(encode(&request, 14), Err(EncodeError::Field { field, version: 14 }));
    assert!(encode(&request, 15).is_ok());

    // What may be dropped is dropped.
    let request = FetchRequest { rack_id: "a".into(), ..Default::default() };
    assert!(encode(&request, 10).is_ok());
    assert_ne!(encode(&request, 11), encode(&FetchRequest::default(), 11));

    let everything = MetadataRequest { topics: None, ..Default::default() };
    let field = "MetadataRequest.Topics";
    assert_eq!(encode(&everything, 0), Err(EncodeError::Null { field, version: 0 }));
    assert!(encode(&everything, 1).is_ok());

    let message = "FetchRequest";
    assert_eq!(encode(&FetchRequest::default(), 3), Err(EncodeError::Version { message, version: 3 }));
    let long = HeartbeatRequest { group_id: "x".repeat(32_768).into(), ..Default::default() };
    for version in [0, 4] {
        assert_eq!(encode(&long, version), Err(EncodeError::TooLong { len: 32_768 }));
    }
}

/// A tagged field of more than 127 bytes has a size of two bytes, which is inserted; one within another, too.
#[test]
fn long_tagged_fields_come_back() {
    use produce_response::*;
    let node = |i| NodeEndpoint { node_id: i, host: "h".repeat(i as usize).into(), port: 9092, rack: None };
    for nodes in [0, 1, 10, 100, 200] {
        let response =
            ProduceResponse { node_endpoints: (0..nodes).map(node).collect(), ..Default::default() };
        let bytes = encode(&response, 13).unwrap();
        let mut r = Reader::new(&bytes);
        assert_eq!(ProduceResponse::decode(&mut r, 13), Ok(response));
        r.finish().unwrap();
    }
}

/// A reader skips tags that it does not know, as KIP-482 wants, but not a tag whose size is wrong.
#[test]
fn unknown_tags_are_skipped_and_wrong_sizes_refused() {
    let good = Rope::from(Bytes::from_static(&[0, 0, 0, 1, 0, 2, 1, 77, 2, 8, 8]));
    let mut r = Reader::new(&good);
    let response = HeartbeatResponse::decode(&mut r, 4).unwrap();
    assert_eq!((response.throttle_time_ms, response.error_code), (1, 2));
    r.finish().unwrap();

    let mut bytes = encode(&FetchRequest { cluster_id: Some("abc".into()), ..Default::default() }, 15)
        .unwrap()
        .to_bytes()
        .to_vec();
    let at = bytes.len() - 5;
    assert_eq!(bytes[at - 1..], [0, 4, 4, b'a', b'b', b'c'][..]);
    bytes[at] = 5;
    bytes.push(0);
    let rope = Rope::from(Bytes::from(bytes));
    let error = FetchRequest::decode(&mut Reader::new(&rope), 15).unwrap_err();
    assert!(matches!(error.why, DecodeReason::TagSize { .. }), "{error}");
}

#[test]
fn errors_say_what_where_and_why() {
    let rope = Rope::from(Bytes::from_static(&[0, 3, b'a', 0xff, b'c', 0, 0, 0, 0, 0, 0]));
    let error = HeartbeatRequest::decode(&mut Reader::new(&rope), 0).unwrap_err();
    assert_eq!(error.to_string(), "HeartbeatRequest at byte 5: a string is not UTF-8");
    let error = HeartbeatRequest::decode(&mut Reader::from_slice(&[0, 5, b'a']), 0).unwrap_err();
    assert_eq!(error.to_string(), "HeartbeatRequest at byte 2: 5 bytes are needed and 1 are left");
    let error = HeartbeatRequest::decode(&mut Reader::from_slice(&[0xff, 0xff]), 0).unwrap_err();
    assert_eq!(error.why, DecodeReason::Null);
}

#[test]
fn headers_come_back() {
    for (version, client_id) in [(0, Some("client")), (4, Some("client")), (4, None)] {
        let frame = encode_request(version, -7, client_id, &HeartbeatRequest::default()).unwrap();
        let body = without_size(&frame);
        let mut r = Reader::new(&body);
        let header = RequestHeader::decode(&mut r).unwrap();
        assert_eq!((header.key(), header.api_version), (Some(ApiKey::Heartbeat), version));
        assert_eq!((header.correlation_id, header.client_id.as_deref()), (-7, client_id));
        HeartbeatRequest::decode(&mut r, version).unwrap();
        r.finish().unwrap();

        let response = HeartbeatResponse { error_code: 25, ..Default::default() };
        let frame = encode_response(ApiKey::Heartbeat, version, 9, &response).unwrap();
        let (header, got) = decode_response::<HeartbeatRequest<'_>>(&without_size(&frame), version).unwrap();
        assert_eq!((header.correlation_id, got), (9, response));
    }
    // An unknown API still has a readable header.
    let unknown = Rope::from(Bytes::from_static(&[0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff]));
    let header = RequestHeader::decode(&mut Reader::new(&unknown)).unwrap();
    assert_eq!((header.key(), header.api_key), (None, 0x7f00));
}

/// A client that asks for a version of ApiVersions that nobody has gets version 0, behind a header that it can read.
#[test]
fn an_unsupported_api_versions_request_is_answered_at_version_0() {
    let response = ApiVersionsResponse { error_code: 35, ..Default::default() };
    let frame = encode_response_at(ApiKey::ApiVersions, 99, 0, 3, &response).unwrap();
    assert_eq!(frame.to_bytes()[..], [0, 0, 0, 10, 0, 0, 0, 3, 0, 35, 0, 0, 0, 0]);
}

#[test]
fn metadata_records_have_kafkas_framing() {
    let record = MetadataRecord::from(TopicRecord { name: "t".into(), topic_id: Uuid([1; 16]) });
    let value = record.encode_value();
    assert_eq!(value[..5], [1, 2, 0, 2, b't']);
    assert_eq!(MetadataRecord::decode_value(&value), Ok(record));
    // Unchanged fields take no bytes.
    let change = PartitionChangeRecord { partition_id: 1, leader: 3, ..Default::default() };
    let value = MetadataRecord::from(change.clone()).encode_value();
    assert_eq!(value.len(), 3 + 4 + 16 + 1 + 2 + 4);
    assert_eq!(MetadataRecord::decode_value(&value), Ok(change.into()));
    for (bytes, why) in [
        (&[2, 2, 0][..], DecodeReason::Value(2)),
        (&[1, 6, 0], DecodeReason::Key(6)),
        (&[1, 2, 9], DecodeReason::Version(9)),
        (&[1, 24, 0, 0, 0], DecodeReason::Trailing(1)),
    ] {
        assert_eq!(MetadataRecord::decode_value(bytes).unwrap_err().why, why);
    }
}

#[test]
fn later_subscriptions_are_read_as_the_latest_known() {
    let subscription = ConsumerProtocolSubscription { topics: vec!["a".into()], ..Default::default() };
    let mut bytes = encode_versioned(&subscription, 3).unwrap();
    assert_eq!(decode_versioned(&bytes), Ok((subscription.clone(), 3)));
    bytes[1] = 9;
    bytes.push(42);
    assert_eq!(decode_versioned_or_later(&bytes), Ok((subscription, 9)));
    assert!(decode_versioned::<ConsumerProtocolSubscription>(&bytes).is_err());
}

//! Against kacrab-protocol, which is generated from the schemas of Apache Kafka 4.3.0.
//!
//! Every request and response that both know, at every version of 4.3: what one encodes the other decodes and encodes
//! to the same bytes, and both see the same numbers under the same names.

#[path = "../../wire/tests/common/random.rs"]
mod random;

use bytes::{Bytes, BytesMut};
use random::Rng;
use wire::messages::{AnyRequest, AnyResponse};
use wire::schema::{Kind, Schema};
use wire::{ApiKey, Reader, Rope, Writer};

/// Decodes with the other implementation: what it saw, and what it encodes.
fn theirs(schema: &Schema, bytes: &Bytes, version: i16) -> Option<(String, Bytes)> {
    use kacrab_protocol::generated::*;

    let mut input = bytes.clone();
    let mut out = BytesMut::new();
    macro_rules! by_name {
        ($($request:ident $response:ident)*) => {
            match schema.name {
                $(
                    name if Some(name) == stringify!($request).strip_suffix("Data") => {
                        let message = $request::read(&mut input, version).expect(schema.name);
                        message.write(&mut out, version).expect(schema.name);
                        format!("{message:?}")
                    }
                    name if Some(name) == stringify!($response).strip_suffix("Data") => {
                        let message = $response::read(&mut input, version).expect(schema.name);
                        message.write(&mut out, version).expect(schema.name);
                        format!("{message:?}")
                    }
                )*
                _ => return None,
            }
        };
    }
    let seen = by_name! {
        ProduceRequestData ProduceResponseData
        FetchRequestData FetchResponseData
        ListOffsetsRequestData ListOffsetsResponseData
        MetadataRequestData MetadataResponseData
        OffsetCommitRequestData OffsetCommitResponseData
        OffsetFetchRequestData OffsetFetchResponseData
        FindCoordinatorRequestData FindCoordinatorResponseData
        JoinGroupRequestData JoinGroupResponseData
        HeartbeatRequestData HeartbeatResponseData
        LeaveGroupRequestData LeaveGroupResponseData
        SyncGroupRequestData SyncGroupResponseData
        DescribeGroupsRequestData DescribeGroupsResponseData
        ListGroupsRequestData ListGroupsResponseData
        SaslHandshakeRequestData SaslHandshakeResponseData
        ApiVersionsRequestData ApiVersionsResponseData
        CreateTopicsRequestData CreateTopicsResponseData
        DeleteTopicsRequestData DeleteTopicsResponseData
        DeleteRecordsRequestData DeleteRecordsResponseData
        InitProducerIdRequestData InitProducerIdResponseData
        OffsetForLeaderEpochRequestData OffsetForLeaderEpochResponseData
        AddPartitionsToTxnRequestData AddPartitionsToTxnResponseData
        AddOffsetsToTxnRequestData AddOffsetsToTxnResponseData
        EndTxnRequestData EndTxnResponseData
        WriteTxnMarkersRequestData WriteTxnMarkersResponseData
        TxnOffsetCommitRequestData TxnOffsetCommitResponseData
        DescribeAclsRequestData DescribeAclsResponseData
        CreateAclsRequestData CreateAclsResponseData
        DeleteAclsRequestData DeleteAclsResponseData
        DescribeConfigsRequestData DescribeConfigsResponseData
        AlterConfigsRequestData AlterConfigsResponseData
        AlterReplicaLogDirsRequestData AlterReplicaLogDirsResponseData
        DescribeLogDirsRequestData DescribeLogDirsResponseData
        SaslAuthenticateRequestData SaslAuthenticateResponseData
        CreatePartitionsRequestData CreatePartitionsResponseData
        CreateDelegationTokenRequestData CreateDelegationTokenResponseData
        RenewDelegationTokenRequestData RenewDelegationTokenResponseData
        ExpireDelegationTokenRequestData ExpireDelegationTokenResponseData
        DescribeDelegationTokenRequestData DescribeDelegationTokenResponseData
        DeleteGroupsRequestData DeleteGroupsResponseData
        ElectLeadersRequestData ElectLeadersResponseData
        IncrementalAlterConfigsRequestData IncrementalAlterConfigsResponseData
        AlterPartitionReassignmentsRequestData AlterPartitionReassignmentsResponseData
        ListPartitionReassignmentsRequestData ListPartitionReassignmentsResponseData
        OffsetDeleteRequestData OffsetDeleteResponseData
        DescribeClientQuotasRequestData DescribeClientQuotasResponseData
        AlterClientQuotasRequestData AlterClientQuotasResponseData
        DescribeUserScramCredentialsRequestData DescribeUserScramCredentialsResponseData
        AlterUserScramCredentialsRequestData AlterUserScramCredentialsResponseData
        VoteRequestData VoteResponseData
        BeginQuorumEpochRequestData BeginQuorumEpochResponseData
        EndQuorumEpochRequestData EndQuorumEpochResponseData
        DescribeQuorumRequestData DescribeQuorumResponseData
        AlterPartitionRequestData AlterPartitionResponseData
        UpdateFeaturesRequestData UpdateFeaturesResponseData
        EnvelopeRequestData EnvelopeResponseData
        FetchSnapshotRequestData FetchSnapshotResponseData
        DescribeClusterRequestData DescribeClusterResponseData
        DescribeProducersRequestData DescribeProducersResponseData
        BrokerRegistrationRequestData BrokerRegistrationResponseData
        BrokerHeartbeatRequestData BrokerHeartbeatResponseData
        UnregisterBrokerRequestData UnregisterBrokerResponseData
        DescribeTransactionsRequestData DescribeTransactionsResponseData
        ListTransactionsRequestData ListTransactionsResponseData
        AllocateProducerIdsRequestData AllocateProducerIdsResponseData
        ConsumerGroupHeartbeatRequestData ConsumerGroupHeartbeatResponseData
        ConsumerGroupDescribeRequestData ConsumerGroupDescribeResponseData
        ControllerRegistrationRequestData ControllerRegistrationResponseData
        GetTelemetrySubscriptionsRequestData GetTelemetrySubscriptionsResponseData
        PushTelemetryRequestData PushTelemetryResponseData
        AssignReplicasToDirsRequestData AssignReplicasToDirsResponseData
        ListConfigResourcesRequestData ListConfigResourcesResponseData
        DescribeTopicPartitionsRequestData DescribeTopicPartitionsResponseData
        ShareGroupHeartbeatRequestData ShareGroupHeartbeatResponseData
        ShareGroupDescribeRequestData ShareGroupDescribeResponseData
        ShareFetchRequestData ShareFetchResponseData
        ShareAcknowledgeRequestData ShareAcknowledgeResponseData
        AddRaftVoterRequestData AddRaftVoterResponseData
        RemoveRaftVoterRequestData RemoveRaftVoterResponseData
        UpdateRaftVoterRequestData UpdateRaftVoterResponseData
        InitializeShareGroupStateRequestData InitializeShareGroupStateResponseData
        ReadShareGroupStateRequestData ReadShareGroupStateResponseData
        WriteShareGroupStateRequestData WriteShareGroupStateResponseData
        DeleteShareGroupStateRequestData DeleteShareGroupStateResponseData
        ReadShareGroupStateSummaryRequestData ReadShareGroupStateSummaryResponseData
        StreamsGroupHeartbeatRequestData StreamsGroupHeartbeatResponseData
        StreamsGroupDescribeRequestData StreamsGroupDescribeResponseData
        DescribeShareGroupOffsetsRequestData DescribeShareGroupOffsetsResponseData
        AlterShareGroupOffsetsRequestData AlterShareGroupOffsetsResponseData
        DeleteShareGroupOffsetsRequestData DeleteShareGroupOffsetsResponseData
    };
    assert!(input.is_empty(), "{} v{version}: {} bytes are left", schema.name, input.len());
    Some((seen, out.freeze()))
}

fn ours(schema: &Schema, bytes: &Rope, version: i16) -> (String, Bytes) {
    let key = ApiKey::try_from(schema.key).expect("an API");
    let mut r = Reader::new(bytes);
    let mut w = Writer::new();
    let seen = if schema.kind == Kind::Request {
        let message = AnyRequest::decode(key, version, &mut r).expect(schema.name);
        message.encode(&mut w, version).expect(schema.name);
        format!("{message:?}")
    } else {
        let message = AnyResponse::decode(key, version, &mut r).expect(schema.name);
        message.encode(&mut w, version).expect(schema.name);
        format!("{message:?}")
    };
    r.finish().expect(schema.name);
    (seen, w.finish().expect(schema.name).to_bytes())
}

/// The numbers and truth values in a debug text, each with the name of its field, in the order of the text.
fn numbers(text: &str) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    // Text inside quotes could look like anything.
    let mut in_quotes = false;
    let mut start = 0;
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' if in_quotes => i += 1,
            b'"' => in_quotes = !in_quotes,
            b':' if !in_quotes && bytes.get(i + 1) == Some(&b' ') => {
                let is_name = |c: char| c.is_alphanumeric() || c == '_';
                let name = text[start..i].rsplit(|c| !is_name(c)).next().unwrap_or("");
                let value = &text[i + 2..];
                let end = value.find(|c: char| c != '-' && c != '.' && !is_name(c)).unwrap_or(value.len());
                let value = &value[..end];
                let number = value.parse::<f64>().is_ok();
                // The length of a rope is no field of Kafka's.
                if (number || value == "true" || value == "false") && name != "len" {
                    found.push((name.replace('_', "").to_lowercase(), value));
                }
                start = i + 2;
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// Fields that came, or changed their names, after 4.3: at its versions they have their defaults. The last is of a
/// version that nobody speaks any more.
const NEWER: &[(&str, &str)] = &[
    ("ApiVersionsRequest", "nodeid"),
    ("TxnOffsetCommitRequest", "generationid"),
    ("TxnOffsetCommitRequest", "generationidormemberepoch"),
    ("StreamsGroupHeartbeatResponse", "acceptablerecoverylag"),
    ("StreamsGroupHeartbeatResponse", "acceptablerecoverylaglegacy"),
    ("StreamsGroupHeartbeatResponse", "topologydescriptionrequired"),
    ("StreamsGroupDescribeRequest", "includetopologydescription"),
    ("StreamsGroupDescribeResponse", "topologydescriptionstatus"),
    ("ShareFetchRequest", "partitionmaxbytes"),
];

#[test]
fn both_see_and_say_the_same() {
    let mut compared = 0;
    for info in wire::api::APIS.iter() {
        let Some(versions) = info.kafka else { continue };
        for schema in [Schema::request(info.key), Schema::response(info.key)] {
            for version in versions.min..=versions.max {
                for seed in 0..30 {
                    let bytes = Bytes::from(random::message(schema, version, &mut Rng::new(seed)));
                    let (seen, again) = ours(schema, &bytes.clone().into(), version);
                    let Some((they_saw, they_say)) = theirs(schema, &bytes, version) else {
                        panic!("{} is not compared", schema.name)
                    };
                    assert_eq!(again, bytes, "{} v{version} seed {seed}: ours", schema.name);
                    assert_eq!(they_say, bytes, "{} v{version} seed {seed}: theirs", schema.name);
                    let (mut a, mut b) = (numbers(&seen), numbers(&they_saw));
                    a.retain(|(name, _)| !NEWER.contains(&(schema.name, name.as_str())));
                    b.retain(|(name, _)| !NEWER.contains(&(schema.name, name.as_str())));
                    assert_eq!(a, b, "{} v{version} seed {seed}", schema.name);
                    compared += a.len();
                }
            }
        }
    }
    assert!(compared > 10_000, "only {compared} numbers were compared");
}

//! Bytes from the network never panic a node, and the node still serves.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use rand_core::{Rng as _, SeedableRng};
use wire::frame::encode_request;
use wire::messages::*;
use wire::{ApiKey, Rope};

use super::lab::Lab;
use crate::ctx::Rng;
use crate::event::Event;
use crate::io::{Input, Listener};

/// Real requests of every API that a listener serves, in every version, with their default contents.
fn honest(listener: Listener) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for &key in crate::api::incoming::apis(listener) {
        let range = key.info().stable().unwrap();
        for version in range.min..=range.max {
            frames.extend(frame(key, version));
        }
    }
    frames
}

fn frame(key: ApiKey, version: i16) -> Option<Vec<u8>> {
    macro_rules! encoded {
        ($($api:ident => $request:expr),* $(,)?) => {
            match key {
                $(ApiKey::$api => encode_request(version, 7, Some("hostile"), &$request).ok(),)*
                _ => None,
            }
        };
    }
    let topic = || produce_request::TopicProduceData {
        name: "purchases".into(),
        partition_data: vec![produce_request::PartitionProduceData {
            index: 0,
            records: Some(Rope::from(Bytes::from_static(&[0; 80]))),
        }],
        ..Default::default()
    };
    let wanted = || fetch_request::FetchTopic {
        topic: "purchases".into(),
        partitions: vec![Default::default()],
        ..Default::default()
    };
    let frame = encoded! {
        Produce => ProduceRequest { acks: 1, topic_data: vec![topic()], ..Default::default() },
        Fetch => FetchRequest { topics: vec![wanted()], ..Default::default() },
        ListOffsets => ListOffsetsRequest::default(),
        Metadata => MetadataRequest::default(),
        ApiVersions => ApiVersionsRequest {
            client_software_name: "x".into(),
            client_software_version: "1".into(),
            ..Default::default()
        },
        CreateTopics => CreateTopicsRequest::default(),
        DeleteTopics => DeleteTopicsRequest::default(),
        DeleteRecords => DeleteRecordsRequest::default(),
        InitProducerId => InitProducerIdRequest::default(),
        OffsetForLeaderEpoch => OffsetForLeaderEpochRequest::default(),
        WriteTxnMarkers => WriteTxnMarkersRequest {
            markers: vec![write_txn_markers_request::WritableTxnMarker {
                topics: vec![write_txn_markers_request::WritableTxnMarkerTopic {
                    name: "purchases".into(),
                    partition_indexes: vec![0, 7],
                }],
                ..Default::default()
            }],
        },
        DescribeProducers => DescribeProducersRequest::default(),
        FindCoordinator => FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() },
        OffsetCommit => OffsetCommitRequest { group_id: "g".into(), ..Default::default() },
        OffsetFetch => OffsetFetchRequest {
            groups: vec![offset_fetch_request::OffsetFetchRequestGroup {
                group_id: "g".into(),
                ..Default::default()
            }],
            ..Default::default()
        },
        OffsetDelete => OffsetDeleteRequest { group_id: "g".into(), ..Default::default() },
        TxnOffsetCommit => TxnOffsetCommitRequest { group_id: "g".into(), ..Default::default() },
        JoinGroup => JoinGroupRequest {
            group_id: "g".into(),
            protocol_type: "consumer".into(),
            protocols: vec![join_group_request::JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: vec![0, 1, 2].into(),
            }],
            ..Default::default()
        },
        SyncGroup => SyncGroupRequest { group_id: "g".into(), ..Default::default() },
        Heartbeat => HeartbeatRequest { group_id: "g".into(), ..Default::default() },
        LeaveGroup => LeaveGroupRequest { group_id: "g".into(), ..Default::default() },
        DescribeGroups => DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() },
        ListGroups => ListGroupsRequest::default(),
        DeleteGroups => DeleteGroupsRequest { groups_names: vec!["g".into()] },
        ConsumerGroupHeartbeat => ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: "m".into(),
            rebalance_timeout_ms: 1_000,
            subscribed_topic_names: Some(vec!["purchases".into()]),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        },
        ConsumerGroupDescribe => ConsumerGroupDescribeRequest { group_ids: vec!["g".into()], ..Default::default() },
        AddPartitionsToTxn => AddPartitionsToTxnRequest::default(),
        AddOffsetsToTxn => AddOffsetsToTxnRequest::default(),
        EndTxn => EndTxnRequest::default(),
        ListTransactions => ListTransactionsRequest::default(),
        DescribeTransactions => DescribeTransactionsRequest::default(),
        DescribeConfigs => DescribeConfigsRequest::default(),
        AlterConfigs => AlterConfigsRequest::default(),
        DescribeLogDirs => DescribeLogDirsRequest::default(),
        CreatePartitions => CreatePartitionsRequest::default(),
        ElectLeaders => ElectLeadersRequest::default(),
        IncrementalAlterConfigs => IncrementalAlterConfigsRequest::default(),
        AlterPartitionReassignments => AlterPartitionReassignmentsRequest::default(),
        ListPartitionReassignments => ListPartitionReassignmentsRequest::default(),
        DescribeClientQuotas => DescribeClientQuotasRequest::default(),
        AlterClientQuotas => AlterClientQuotasRequest::default(),
        DescribeQuorum => DescribeQuorumRequest::default(),
        UpdateFeatures => UpdateFeaturesRequest::default(),
        DescribeCluster => DescribeClusterRequest::default(),
        UnregisterBroker => UnregisterBrokerRequest { broker_id: 77 },
        ListConfigResources => ListConfigResourcesRequest::default(),
        DescribeTopicPartitions => DescribeTopicPartitionsRequest::default(),
        AddRaftVoter => AddRaftVoterRequest::default(),
        RemoveRaftVoter => RemoveRaftVoterRequest::default(),
        UpdateRaftVoter => UpdateRaftVoterRequest::default(),
        Vote => VoteRequest::default(),
        BeginQuorumEpoch => BeginQuorumEpochRequest::default(),
        EndQuorumEpoch => EndQuorumEpochRequest::default(),
        AlterPartition => AlterPartitionRequest::default(),
        Envelope => EnvelopeRequest::default(),
        FetchSnapshot => FetchSnapshotRequest::default(),
        BrokerRegistration => BrokerRegistrationRequest::default(),
        BrokerHeartbeat => BrokerHeartbeatRequest::default(),
        AllocateProducerIds => AllocateProducerIdsRequest::default(),
        ControllerRegistration => ControllerRegistrationRequest::default(),
        AssignReplicasToDirs => AssignReplicasToDirsRequest::default(),
    }?;
    Some(frame.to_bytes()[4..].to_vec())
}

#[test]
fn every_api_that_is_served_has_an_honest_frame() {
    for listener in [Listener::Broker, Listener::Controller] {
        for &key in crate::api::incoming::apis(listener) {
            let max = key.info().stable().unwrap().max;
            assert!(frame(key, max).is_some(), "{key}");
        }
    }
}

#[test]
fn every_honest_request_is_answered() {
    let mut lab = Lab::new(1, 1, &[]);
    lab.start_all();
    lab.run_until(20_000, "both serve", Lab::all_running);
    for (name, listener) in [("broker-1", Listener::Broker), ("controller-101", Listener::Controller)] {
        for bytes in honest(listener) {
            let key = i16::from_be_bytes([bytes[0], bytes[1]]);
            let version = i16::from_be_bytes([bytes[2], bytes[3]]);
            let client = lab.dial(name, listener);
            lab.send_raw(&client, Rope::from(Bytes::from(bytes)));
            let answered = lab.answer(&client, 40_000).is_some();
            assert!(
                answered,
                "{:?} v{version} has no answer: {:?}",
                ApiKey::from_i16(key),
                lab.events.last()
            );
        }
    }
}

/// One of: noise; a real frame cut off; a real frame with bits turned; a real frame with bytes put in.
fn mischief(rng: &mut Rng, honest: &[Vec<u8>]) -> Vec<u8> {
    let below = |rng: &mut Rng, n: usize| rng.next_u32() as usize % n.max(1);
    let mut bytes = honest[below(rng, honest.len())].clone();
    match below(rng, 4) {
        0 => {
            let len = below(rng, 200);
            bytes = vec![0; len];
            rng.fill_bytes(&mut bytes);
        }
        1 => bytes.truncate(below(rng, bytes.len())),
        2 => {
            for _ in 0..=below(rng, 6) {
                let at = below(rng, bytes.len());
                bytes[at] ^= 1 << below(rng, 8);
            }
        }
        _ => {
            let at = below(rng, bytes.len());
            let extra = rng.next_u64().to_be_bytes();
            bytes.splice(at..at, extra);
        }
    }
    bytes
}

#[test]
fn a_hundred_thousand_bad_frames_do_no_harm() {
    let mut lab = Lab::new(1, 1, &[]);
    lab.start_all();
    lab.run_until(20_000, "both serve", Lab::all_running);
    let mut rng = Rng::from_seed([9; 32]);
    for (name, listener) in [("broker-1", Listener::Broker), ("controller-101", Listener::Controller)] {
        let honest = honest(listener);
        let mut client = lab.dial(name, listener);
        for i in 0..50_000 {
            if lab.is_closed(&client) || u32::is_multiple_of(i, 50) {
                client = lab.dial(name, listener);
            }
            lab.send_raw(&client, Rope::from(Bytes::from(mischief(&mut rng, &honest))));
            lab.run(u64::from(i.is_multiple_of(3)));
        }
        lab.run(1_000);
        assert!(lab.is_up(name), "{:?}", lab.halts);
        // It still serves.
        let mut client = lab.dial(name, listener);
        let request = DescribeClusterRequest {
            endpoint_type: if listener == Listener::Broker { 1 } else { 2 },
            ..DescribeClusterRequest::default()
        };
        let told = lab.ask(&mut client, 2, &request, |r| r.error_code);
        assert_eq!(told, 0, "{name}");
        let refused = |e: &Event| matches!(e, Event::ConnectionRefused { .. });
        assert!(lab.events.iter().filter(|(_, n, e)| n == name && refused(e)).count() > 1_000);
        lab.events.clear();
    }
    lab.check_invariants();
}

#[test]
fn an_oversized_frame_is_refused_before_it_is_read() {
    let mut lab = Lab::new(1, 1, &[("socket.request.max.bytes", "1000")]);
    lab.start_all();
    lab.run_until(20_000, "both serve", Lab::all_running);
    assert_eq!(lab.node("broker-1").frame_limit(Listener::Broker), 1000);
    for (announced, why) in
        [(1001, "Invalid receive (size = 1001 larger than 1000)"), (-5, "Invalid receive (size = -5)")]
    {
        let client = lab.dial("broker-1", Listener::Broker);
        lab.give("broker-1", Input::Oversized { conn: client.at_node(), announced });
        lab.run(10);
        assert!(lab.is_closed(&client));
        let (_, _, event) = lab.events.iter().rev().find(|e| e.1 == "broker-1").unwrap();
        let want = Event::ConnectionRefused { peer: "10.0.0.7".to_string(), why: why.into() };
        assert_eq!(format!("{event:?}"), format!("{want:?}"));
    }
}

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::error::ErrorCode;
use wire::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::*;
use wire::records::register_broker_record::BrokerEndpoint;
use wire::records::{MetadataRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord};
use wire::{ApiKey, Uuid};

use super::*;
use crate::io::Listener;
use crate::metadata::ImageDelta;

fn id(n: u8) -> Uuid {
    Uuid([n; 16])
}

fn config() -> NodeConfig {
    let given: BTreeMap<String, String> = [
        ("process.roles", "broker"),
        ("node.id", "1"),
        ("listeners", "PLAINTEXT://broker-1:9092"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "101@controller-101:9093"),
        ("max.request.partition.size.limit", "3"),
    ]
    .iter()
    .map(|(k, v)| (k.to_string(), v.to_string()))
    .collect();
    NodeConfig::parse(&given).unwrap()
}

fn broker(id: i32, fenced: bool) -> MetadataRecord {
    let end_point = BrokerEndpoint {
        name: "PLAINTEXT".into(),
        host: alloc::format!("broker-{id}"),
        port: 9092,
        security_protocol: 0,
    };
    RegisterBrokerRecord {
        broker_id: id,
        broker_epoch: i64::from(id),
        end_points: alloc::vec![end_point],
        fenced,
        ..RegisterBrokerRecord::default()
    }
    .into()
}

fn partition(topic: Uuid, partition_id: i32, leader: i32) -> MetadataRecord {
    PartitionRecord {
        partition_id,
        topic_id: topic,
        replicas: alloc::vec![1, 2, 3],
        isr: alloc::vec![1, 3],
        leader,
        leader_epoch: 4,
        eligible_leader_replicas: Some(alloc::vec![2]),
        ..PartitionRecord::default()
    }
    .into()
}

/// Brokers 1 and 3 live, 2 is fenced; `a` has two partitions, one of them without a leader, `b` three, `c` one.
fn image() -> MetadataImage {
    let mut records = alloc::vec![broker(1, false), broker(2, true), broker(3, false)];
    for (name, n, leaders) in [("c", 3, &[1][..]), ("a", 1, &[1, -1][..]), ("b", 2, &[3, 3, 1][..])] {
        records.push(TopicRecord { name: name.into(), topic_id: id(n) }.into());
        records.extend(leaders.iter().enumerate().map(|(i, l)| partition(id(n), i as i32, *l)));
    }
    let (mut image, mut delta) = (MetadataImage::default(), ImageDelta::default());
    for (offset, record) in records.iter().enumerate() {
        image.apply(record, offset as i64, &mut delta).unwrap();
    }
    image
}

fn ask(names: &[&'static str]) -> MetadataRequest<'static> {
    let topic = |n: &&'static str| MetadataRequestTopic { name: Some((*n).into()), topic_id: Uuid::ZERO };
    MetadataRequest { topics: Some(names.iter().map(topic).collect()), ..MetadataRequest::default() }
}

#[test]
fn metadata_tells_who_leads_and_who_is_away() {
    let (image, config) = (image(), config());
    let view = View { image: &image, config: &config, cluster_id: "cluster", kraft_version: 0 };
    let all = MetadataRequest { topics: None, ..Default::default() };
    let response = metadata::answer(view, 13, &all, 1).response;
    let brokers: Vec<_> = response.brokers.iter().map(|b| (b.node_id, &*b.host, b.port)).collect();
    assert_eq!(brokers, [(1, "broker-1", 9092), (3, "broker-3", 9092)]);
    assert_eq!(response.controller_id, 3, "the second of two living brokers");
    let names: Vec<_> = response.topics.iter().map(|t| t.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let a = &response.topics[0].partitions;
    let told: Vec<_> = a.iter().map(|p| (p.error_code, p.leader_id, p.leader_epoch)).collect();
    assert_eq!(told, [(0, 1, 4), (ErrorCode::LEADER_NOT_AVAILABLE.0, -1, 4)]);
    assert_eq!(a[0].replica_nodes, [1, 2, 3]);
    assert_eq!(a[0].isr_nodes, [1, 3]);
    assert_eq!(a[0].offline_replicas, [2]);
}

#[test]
fn metadata_version_0_leaves_absent_replicas_out() {
    let (image, config) = (image(), config());
    let view = View { image: &image, config: &config, cluster_id: "cluster", kraft_version: 0 };
    let all = ask(&[]);
    let response = metadata::answer(view, 0, &all, 0).response;
    assert_eq!(response.topics.len(), 3, "an empty list asks for all");
    let c = &response.topics[2].partitions[0];
    assert_eq!((c.error_code, &c.replica_nodes[..]), (ErrorCode::REPLICA_NOT_AVAILABLE.0, &[1, 3][..]));
    assert_eq!(metadata::answer(view, 1, &all, 0).response.topics.len(), 0);
}

#[test]
fn metadata_of_what_is_not_there() {
    let (image, config) = (image(), config());
    let view = View { image: &image, config: &config, cluster_id: "cluster", kraft_version: 0 };
    let errors = |version: i16, request: &MetadataRequest<'_>| -> Vec<i16> {
        metadata::answer(view, version, request, 0).response.topics.iter().map(|t| t.error_code).collect()
    };
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
    let request = ask(&["zebra", "b", "no good"]);
    assert_eq!(errors(13, &request), [0, ErrorCode::INVALID_TOPIC_EXCEPTION.0, unknown]);
    let missing = metadata::answer(view, 13, &request, 0).missing;
    assert_eq!(missing, ["zebra"], "a name that no topic may have is not made");
    let mut by_id = ask(&["x"]);
    by_id.topics.as_mut().unwrap()[0] = MetadataRequestTopic { topic_id: id(9), name: None };
    assert_eq!(errors(13, &by_id), [ErrorCode::UNKNOWN_TOPIC_ID.0]);
    assert_eq!(errors(11, &by_id), [ErrorCode::INVALID_REQUEST.0]);
}

/// The pages of a description: topics with how many partitions each, until there is no cursor.
fn pages(limit: i32, topics: &[&'static str]) -> Vec<String> {
    let (image, config) = (image(), config());
    let view = View { image: &image, config: &config, cluster_id: "cluster", kraft_version: 0 };
    let mut cursor: Option<Cursor<'static>> = None;
    let mut pages = Vec::new();
    loop {
        let request = DescribeTopicPartitionsRequest {
            topics: topics.iter().map(|t| TopicRequest { name: (*t).into() }).collect(),
            response_partition_limit: limit,
            cursor: cursor.take(),
        };
        let response = topic_partitions::answer(view, &request);
        let of = |t: &describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic<'_>| {
            alloc::format!("{}:{}", t.name.as_deref().unwrap(), t.partitions.len())
        };
        pages.push(response.topics.iter().map(of).collect::<Vec<_>>().join(" "));
        match response.next_cursor {
            Some(c) => {
                cursor = Some(Cursor {
                    topic_name: c.topic_name.into_owned().into(),
                    partition_index: c.partition_index,
                });
            }
            None => return pages,
        }
    }
}

#[test]
fn descriptions_come_in_pages_sorted_by_name() {
    assert_eq!(pages(2, &[]), ["a:2", "b:2", "b:1 c:1"]);
    assert_eq!(pages(1, &["c", "a"]), ["a:1", "a:1", "c:1"]);
    // The broker's own limit is 3.
    assert_eq!(pages(2000, &[]), ["a:2 b:1", "b:2 c:1"]);
    assert_eq!(pages(2000, &["b", "nope"]), ["b:3", "nope:0"]);
}

#[test]
fn a_cursor_must_point_into_the_list() {
    let (image, config) = (image(), config());
    let view = View { image: &image, config: &config, cluster_id: "cluster", kraft_version: 0 };
    for (topic, partition_index) in [("b", 0), ("a", -1)] {
        let request = DescribeTopicPartitionsRequest {
            topics: alloc::vec![TopicRequest { name: "a".into() }],
            response_partition_limit: 10,
            cursor: Some(Cursor { topic_name: topic.into(), partition_index }),
        };
        let response = topic_partitions::answer(view, &request);
        assert_eq!(response.topics[0].error_code, ErrorCode::INVALID_REQUEST.0);
    }
}

#[test]
fn versions_are_those_of_what_is_served() {
    let (image, config) = (image(), config());
    let view = View { image: &image, config: &config, cluster_id: "cluster", kraft_version: 0 };
    let request = ApiVersionsRequest {
        client_software_name: "apache-kafka-java".into(),
        client_software_version: "4.3.1".into(),
        ..ApiVersionsRequest::default()
    };
    let response = versions::answer(view, Listener::Broker, 4, &request);
    assert_eq!(response.api_keys.len(), incoming::BROKER_APIS.len());
    let range = |key: ApiKey| {
        response.api_keys.iter().find(|a| a.api_key == key as i16).map(|a| (a.min_version, a.max_version))
    };
    assert_eq!(range(ApiKey::Produce), Some((0, 13)), "from 0, for librdkafka's sake");
    assert_eq!(range(ApiKey::Fetch), Some((4, 18)));
    assert_eq!(range(ApiKey::Vote), None);
    assert_eq!(range(ApiKey::GetTelemetrySubscriptions), None);
    assert!(response.api_keys.is_sorted_by_key(|a| a.api_key));
    assert!(response.supported_features.iter().any(|f| f.min_version == 0));
    let older = versions::answer(view, Listener::Broker, 3, &request);
    assert!(older.supported_features.iter().all(|f| f.min_version > 0));
    let nameless = ApiVersionsRequest { client_software_name: "".into(), ..request };
    let refused = versions::answer(view, Listener::Broker, 3, &nameless);
    assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST.0);
    assert_eq!(versions::answer(view, Listener::Broker, 2, &nameless).error_code, 0);
    assert_eq!(versions::unsupported(Listener::Broker).api_keys.len(), 1);
}

#[test]
fn cluster_descriptions_are_of_the_endpoint_asked() {
    let (image, config) = (image(), config());
    let view = View { image: &image, config: &config, cluster_id: "cluster", kraft_version: 0 };
    let describe = |endpoint_type, include_fenced_brokers| {
        let request = DescribeClusterRequest { endpoint_type, include_fenced_brokers, ..Default::default() };
        let response = cluster::answer(view, Listener::Broker, 2, &request, Some(101), 0);
        let told: Vec<_> = response.brokers.iter().map(|b| (b.broker_id, b.is_fenced)).collect();
        (response.error_code, response.controller_id, told)
    };
    assert_eq!(describe(1, false), (0, 1, alloc::vec![(1, false), (3, false)]));
    assert_eq!(describe(1, true).2, [(1, false), (2, true), (3, false)]);
    assert_eq!(describe(2, false).0, ErrorCode::MISMATCHED_ENDPOINT_TYPE.0);
    assert_eq!(describe(7, false).0, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE.0);
}

#[test]
fn what_no_listener_serves_closes_the_connection() {
    use wire::drive::ConnId;
    let frame = |bytes: &[u8]| wire::Rope::from(bytes::Bytes::copy_from_slice(bytes));
    let read = |listener, bytes: &[u8]| incoming::read(ConnId(1), listener, &frame(bytes));
    let header = |key: i16, version: i16| {
        [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 9], &[0xff, 0xff], &[0]].concat()
    };
    assert_eq!(read(Listener::Broker, &header(3, 13)).unwrap().token.correlation_id, 9);
    for (listener, key, version) in [
        (Listener::Broker, 3, 14),
        (Listener::Broker, 0, 2),
        (Listener::Broker, 52, 2),
        (Listener::Controller, 0, 13),
        (Listener::Broker, 999, 0),
        (Listener::Broker, 71, 0),
    ] {
        assert!(read(listener, &header(key, version)).is_err(), "{key} v{version}");
    }
    assert!(read(Listener::Broker, &header(18, 99)).unwrap().unsupported_version);
    assert!(read(Listener::Broker, &[0, 3]).is_err());
}

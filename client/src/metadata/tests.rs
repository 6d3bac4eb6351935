use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use wire::Uuid;
use wire::drive::{Endpoint, Instant, Nanos};
use wire::error::ErrorCode;
use wire::messages::metadata_response::*;

use super::{Metadata, MetadataSettings};
use crate::backoff::Backoff;
use crate::testing::{ms, rng};

fn metadata() -> Metadata {
    let settings = MetadataSettings {
        max_age: Nanos::from_secs(300),
        retry_backoff: Backoff::from_millis(100, 1000),
        rebootstrap_after: Nanos::from_secs(300),
        allow_auto_create: true,
    };
    Metadata::new(vec![Endpoint::new("a", 1), Endpoint::new("b", 2)], settings)
}

/// Brokers, and the leader and epoch of each partition of topic `t`.
fn answer(brokers: &[i32], id: u8, partitions: &[(i32, i32)]) -> MetadataResponse<'static> {
    let broker =
        |&node_id: &i32| MetadataResponseBroker { node_id, host: Cow::Borrowed("h"), port: 9092, rack: None };
    let partition = |(i, &(leader_id, leader_epoch)): (usize, &(i32, i32))| MetadataResponsePartition {
        partition_index: i as i32,
        leader_id,
        leader_epoch,
        ..MetadataResponsePartition::default()
    };
    MetadataResponse {
        brokers: brokers.iter().map(broker).collect(),
        topics: vec![MetadataResponseTopic {
            name: Some(Cow::Borrowed("t")),
            topic_id: Uuid([id; 16]),
            partitions: partitions.iter().enumerate().map(partition).collect(),
            ..MetadataResponseTopic::default()
        }],
        ..MetadataResponse::default()
    }
}

fn tell(metadata: &mut Metadata, at: Instant, answer: &MetadataResponse<'_>) {
    metadata.sent();
    metadata.answered(at, answer, &mut rng(1));
}

#[test]
fn leaders_of_older_epochs_are_ignored_unless_the_topic_is_another() {
    let mut metadata = metadata();
    let topic = metadata.add_topic("t");
    tell(&mut metadata, ms(0), &answer(&[1, 2, 3], 1, &[(1, 5)]));
    assert_eq!(metadata.leader(topic, 0), Some(1));
    tell(&mut metadata, ms(0), &answer(&[1, 2, 3], 1, &[(2, 4)]));
    assert_eq!(metadata.leader(topic, 0), Some(1), "stale");
    tell(&mut metadata, ms(0), &answer(&[1, 2, 3], 1, &[(2, 6)]));
    assert_eq!(metadata.leader(topic, 0), Some(2));
    tell(&mut metadata, ms(0), &answer(&[1, 2, 3], 9, &[(3, 0)]));
    assert_eq!(metadata.leader(topic, 0), Some(3), "made again");
    assert!(!metadata.leader_told(topic, 0, 1, 0), "an epoch that is not newer");
    assert!(metadata.leader_told(topic, 0, 1, 1));
    assert_eq!(metadata.leader(topic, 0), Some(1));
    assert!(!metadata.leader_told(topic, 0, 7, 2), "a broker that nobody knows");
}

#[test]
fn a_leader_without_a_broker_is_none() {
    let mut metadata = metadata();
    let topic = metadata.add_topic("t");
    tell(&mut metadata, ms(0), &answer(&[2, 3], 1, &[(1, 5), (2, 0)]));
    assert_eq!((metadata.leader(topic, 0), metadata.leader(topic, 1)), (None, Some(2)));
}

#[test]
fn refreshes_by_age_and_on_request_with_a_backoff_that_grows_without_progress() {
    let mut metadata = metadata();
    metadata.add_topic("t");
    assert_eq!(metadata.next_update(), Some(Instant(0)));
    metadata.sent();
    assert_eq!(metadata.next_update(), None, "one at a time");
    metadata.answered(ms(1000), &answer(&[1], 1, &[(1, 0)]), &mut rng(1));
    assert_eq!(metadata.next_update(), Some(ms(301_000)));
    let mut waits = Vec::new();
    let mut now = ms(2000);
    for _ in 0..5 {
        metadata.request_update();
        let due = metadata.next_update().unwrap().max(now);
        waits.push(due.since(now).as_millis());
        now = due;
        tell(&mut metadata, now, &answer(&[1], 1, &[(1, 0)]));
    }
    let terms = [0, 100, 200, 400, 800];
    for (waited, term) in waits.iter().zip(terms) {
        assert!((term * 8 / 10..=term * 12 / 10).contains(waited), "{waits:?}");
    }
}

#[test]
fn a_new_topic_is_asked_for_at_once() {
    let mut metadata = metadata();
    metadata.add_topic("t");
    tell(&mut metadata, ms(1000), &answer(&[1], 1, &[(1, 0)]));
    metadata.add_topic("u");
    assert_eq!(metadata.next_update(), Some(Instant(0)));
    let request = metadata.request(13);
    let names: Vec<_> = request.topics.unwrap().into_iter().map(|topic| topic.name.unwrap()).collect();
    assert_eq!(names, ["t", "u"]);
    // One that is added while a request is under way is not in it.
    metadata.sent();
    metadata.add_topic("v");
    metadata.answered(ms(1001), &answer(&[1], 1, &[(1, 0)]), &mut rng(1));
    assert_eq!(metadata.next_update(), Some(Instant(0)));
}

#[test]
fn an_unknown_topic_has_no_leaders_and_is_asked_for_again() {
    let mut metadata = metadata();
    let topic = metadata.add_topic("t");
    tell(&mut metadata, ms(0), &answer(&[1], 1, &[(1, 3)]));
    let mut gone = answer(&[1], 0, &[]);
    gone.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
    tell(&mut metadata, ms(1000), &gone);
    assert_eq!(metadata.leader(topic, 0), None);
    let again = metadata.next_update().unwrap();
    assert!(again > ms(1000) && again <= ms(1200), "{again:?}");
}

#[test]
fn hostile_partition_numbers_are_not_believed() {
    let mut metadata = metadata();
    let topic = metadata.add_topic("t");
    let mut hostile = answer(&[1], 1, &[(1, 0), (1, 0)]);
    hostile.topics[0].partitions[0].partition_index = i32::MAX;
    hostile.topics[0].partitions[1].partition_index = -4;
    tell(&mut metadata, ms(0), &hostile);
    assert!(metadata.topic(topic).partitions.is_empty());
}

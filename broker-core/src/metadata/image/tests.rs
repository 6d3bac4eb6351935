use super::*;
use alloc::vec;
use wire::records::{
    AbortTransactionRecord, BeginTransactionRecord, ClearElrRecord, ConfigRecord, EndTransactionRecord,
    NoOpRecord, RegisterBrokerRecord, RemoveTopicRecord,
};

const TOPIC: Uuid = Uuid([7; 16]);
const DIR: Uuid = Uuid([200; 16]);

fn broker(id: i32) -> MetadataRecord {
    RegisterBrokerRecord {
        broker_id: id,
        broker_epoch: 10 + i64::from(id),
        incarnation_id: Uuid([id as u8; 16]),
        rack: Some("r1".into()),
        log_dirs: vec![Uuid([220; 16]), DIR],
        cordoned_log_dirs: Some(vec![]),
        ..RegisterBrokerRecord::default()
    }
    .into()
}

fn topic(name: &str, topic_id: Uuid) -> MetadataRecord {
    TopicRecord { name: name.into(), topic_id }.into()
}

fn partition(partition_id: i32, elr: &[i32]) -> MetadataRecord {
    PartitionRecord {
        partition_id,
        topic_id: TOPIC,
        replicas: vec![1, 2, 3],
        isr: vec![1],
        leader: 1,
        leader_epoch: 3,
        partition_epoch: 8,
        directories: vec![DIR; 3],
        eligible_leader_replicas: (!elr.is_empty()).then(|| elr.to_vec()),
        ..PartitionRecord::default()
    }
    .into()
}

fn config(resource_type: i8, resource: &str, name: &str, value: Option<&str>) -> MetadataRecord {
    ConfigRecord {
        resource_type,
        resource_name: resource.into(),
        name: name.into(),
        value: value.map(Into::into),
    }
    .into()
}

fn image(records: &[MetadataRecord]) -> (MetadataImage, ImageDelta) {
    let (mut image, mut delta) = (MetadataImage::default(), ImageDelta::default());
    for (offset, record) in records.iter().enumerate() {
        image.apply(record, offset as i64, &mut delta).unwrap();
    }
    (image, delta)
}

fn small_cluster() -> Vec<MetadataRecord> {
    vec![
        FeatureLevelRecord { name: "metadata.version".into(), feature_level: 30 }.into(),
        FeatureLevelRecord { name: "group.version".into(), feature_level: 1 }.into(),
        broker(1),
        broker(2),
        topic("purchases", TOPIC),
        config(2, "purchases", "min.insync.replicas", Some("2")),
        config(4, "", "min.insync.replicas", Some("1")),
        partition(0, &[]),
        partition(1, &[2]),
        ProducerIdsRecord { broker_id: 1, broker_epoch: 11, next_producer_id: 1000 }.into(),
    ]
}

#[test]
fn a_snapshot_gives_the_same_image() {
    let (before, _) = image(&small_cluster());
    let records = before.to_records();
    let mut after = MetadataImage::from_snapshot(&records, before.offset + 1).unwrap();
    // A snapshot cannot say at which offset a broker was registered.
    for (id, broker) in &mut after.brokers {
        broker.registration_offset = before.brokers[id].registration_offset;
    }
    assert_eq!(after, before);
    assert_eq!(after.to_records(), records);

    let kinds: Vec<&str> = records.iter().map(MetadataRecord::name).collect();
    let expected = "FeatureLevelRecord FeatureLevelRecord RegisterBrokerRecord RegisterBrokerRecord TopicRecord \
                    PartitionRecord PartitionRecord ConfigRecord ConfigRecord ProducerIdsRecord";
    assert_eq!(kinds.join(" "), expected);
}

#[test]
fn the_delta_says_where_to_look() {
    let (mut image, mut delta) = image(&small_cluster());
    assert_eq!(delta.partitions.len(), 2);
    delta.clear();

    let id = TopicIdPartition { topic_id: TOPIC, partition: 1 };
    let change = PartitionChangeRecord {
        topic_id: TOPIC,
        partition_id: 1,
        leader: 2,
        ..PartitionChangeRecord::default()
    };
    image.apply(&change.into(), 20, &mut delta).unwrap();
    assert_eq!(delta.partitions.iter().collect::<Vec<_>>(), [&id]);
    assert!(delta.brokers.is_empty() && delta.configs.is_empty() && !delta.everything);

    delta.clear();
    image.apply(&NoOpRecord::default().into(), 21, &mut delta).unwrap();
    assert!(delta.is_empty());
    assert_eq!(image.offset, 21);

    image.apply(&RemoveTopicRecord { topic_id: TOPIC }.into(), 22, &mut delta).unwrap();
    assert_eq!(&*delta.topics_deleted[&TOPIC].name, "purchases");
    assert_eq!(image.topics.topic_named("purchases"), None);
    assert_eq!(image.configs.topic_value("purchases", "min.insync.replicas"), None);
    assert!(image.configs.value(ResourceType::Broker, "", "min.insync.replicas").is_some());
}

#[test]
fn a_topic_that_comes_and_goes_leaves_no_trace_in_the_delta() {
    let records = [topic("t", TOPIC), partition(0, &[]), RemoveTopicRecord { topic_id: TOPIC }.into()];
    let (_, delta) = image(&records);
    assert!(
        delta.topics_created.is_empty() && delta.topics_deleted.is_empty() && delta.partitions.is_empty()
    );
}

#[test]
fn a_clone_shares_topics_until_they_change() {
    let (mut image, mut delta) = image(&small_cluster());
    let before = image.clone();
    let change = PartitionChangeRecord { topic_id: TOPIC, leader: 2, ..PartitionChangeRecord::default() };
    let change = PartitionChangeRecord { partition_id: 0, ..change };
    image.apply(&change.into(), 20, &mut delta).unwrap();
    let id = TopicIdPartition { topic_id: TOPIC, partition: 0 };
    assert_eq!(before.partition(id).unwrap().leader, 1);
    assert_eq!(image.partition(id).unwrap().leader, 2);
}

#[test]
fn clear_elr_raises_the_partition_epoch_where_there_is_one() {
    let (mut image, mut delta) = image(&small_cluster());
    delta.clear();
    image.apply(&ClearElrRecord { topic_name: "".into() }.into(), 20, &mut delta).unwrap();
    let of = |partition| image.partition(TopicIdPartition { topic_id: TOPIC, partition }).unwrap().clone();
    assert_eq!((of(0).partition_epoch, of(1).partition_epoch), (8, 9));
    assert!(of(1).elr.is_empty());
    assert_eq!(delta.partitions.len(), 1);

    let unknown = image.apply(&ClearElrRecord { topic_name: "nope".into() }.into(), 21, &mut delta);
    assert_eq!(unknown, Err(ImageError::UnknownTopicName { offset: 21, name: "nope".into() }));
}

#[test]
fn an_aborted_transaction_never_was() {
    let (mut image, mut delta) = image(&small_cluster());
    let before = image.clone();
    image.apply(&BeginTransactionRecord::default().into(), 20, &mut delta).unwrap();
    image.apply(&topic("lost", Uuid([9; 16])), 21, &mut delta).unwrap();
    assert!(image.in_transaction() && image.topics.topic_named("lost").is_some());
    image.apply(&AbortTransactionRecord::default().into(), 22, &mut delta).unwrap();
    assert!(delta.everything);
    assert_eq!(image, MetadataImage { offset: 22, ..before });

    image.apply(&BeginTransactionRecord::default().into(), 23, &mut delta).unwrap();
    image.apply(&topic("kept", Uuid([9; 16])), 24, &mut delta).unwrap();
    image.apply(&EndTransactionRecord::default().into(), 25, &mut delta).unwrap();
    assert!(!image.in_transaction() && image.topics.topic_named("kept").is_some());
}

#[test]
fn brokers_change_only_in_the_epoch_that_is_registered() {
    let (mut image, mut delta) = image(&small_cluster());
    let mut change = BrokerRegistrationChangeRecord {
        broker_id: 1,
        broker_epoch: 11,
        fenced: -1,
        ..BrokerRegistrationChangeRecord::default()
    };
    image.apply(&change.clone().into(), 20, &mut delta).unwrap();
    assert!(image.is_active(1) && !image.is_active(2));
    change.broker_epoch = 10;
    let stale = image.apply(&change.into(), 21, &mut delta);
    assert_eq!(stale, Err(ImageError::UnknownBroker { offset: 21, broker: 1, epoch: 10 }));
}

#[test]
fn versions_follow_metadata_version_and_content() {
    use super::super::record_version;
    assert_eq!(record_version(&partition(0, &[]), 30), 2);
    assert_eq!(record_version(&broker(1), 30), 4);
    let change = BrokerRegistrationChangeRecord { fenced: 1, ..BrokerRegistrationChangeRecord::default() };
    assert_eq!(record_version(&change.clone().into(), 30), 0);
    let change = BrokerRegistrationChangeRecord { in_controlled_shutdown: 1, fenced: 0, ..change };
    assert_eq!(record_version(&change.clone().into(), 30), 1);
    let change = BrokerRegistrationChangeRecord { cordoned_log_dirs: Some(vec![]), ..change };
    assert_eq!(record_version(&change.into(), 30), 3);
}

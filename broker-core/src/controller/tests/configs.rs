//! Dynamic configurations and features.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use wire::messages::*;

use super::harness::Cluster;
use crate::event::Event;
use crate::metadata::ResourceType;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Change<'a> = (i8, &'a str, &'a str, i8, Option<&'a str>);

fn resource<'a>(
    &(resource_type, resource, name, config_operation, value): &Change<'a>,
) -> AlterConfigsResource<'a> {
    let config = AlterableConfig { name: name.into(), config_operation, value: value.map(Into::into) };
    AlterConfigsResource { resource_type, resource_name: resource.into(), configs: vec![config] }
}

fn alter(cluster: &mut Cluster, changes: &[Change<'_>]) -> Vec<(ErrorCode, String)> {
    let resources = changes.iter().map(resource).collect();
    let asked = cluster.send(&IncrementalAlterConfigsRequest { resources, validate_only: false }, 1);
    cluster.commit();
    cluster.answer_to::<IncrementalAlterConfigsRequest<'_>, _>(&asked, |r| {
        let results = r.responses.iter();
        results
            .map(|t| (ErrorCode(t.error_code), t.error_message.as_deref().unwrap_or("").to_string()))
            .collect()
    })
}

fn one(cluster: &mut Cluster, change: Change<'_>) -> (ErrorCode, String) {
    alter(cluster, &[change]).remove(0)
}

impl Cluster {
    /// Sets one setting of a topic.
    pub fn set(&mut self, topic: &str, name: &str, value: &str) {
        assert_eq!(one(self, (2, topic, name, SET, Some(value))), (ErrorCode::NONE, String::new()));
    }
}

#[test]
fn settings_of_topics_brokers_and_the_cluster() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    cluster.topic("orders", &[&[1]], "");
    cluster.events.clear();
    cluster.set("orders", "retention.ms", "60000");
    let value = |cluster: &Cluster, t, r: &str, n: &str| {
        cluster.committed.configs.value(t, r, n).map(|v| v.to_string())
    };
    assert_eq!(value(&cluster, ResourceType::Topic, "orders", "retention.ms").as_deref(), Some("60000"));
    let event = Event::ConfigChanged {
        resource: "topic orders".into(),
        name: "retention.ms".into(),
        value: Some("60000".into()),
    };
    assert_eq!(cluster.events, [event]);

    // What is the same is not written again, except for brokers, which read their files again.
    let before = cluster.log.records.len();
    cluster.set("orders", "retention.ms", "60000");
    assert_eq!(cluster.log.records.len(), before);
    for _ in 0..2 {
        one(&mut cluster, (4, "1", "log.cleaner.threads", SET, Some("2")));
    }
    assert_eq!(cluster.log.records.len(), before + 2);
    assert_eq!(one(&mut cluster, (4, "", "log.retention.ms", SET, Some("5"))).0, ErrorCode::NONE);
    assert_eq!(value(&cluster, ResourceType::Broker, "", "log.retention.ms").as_deref(), Some("5"));

    one(&mut cluster, (2, "orders", "retention.ms", DELETE, None));
    assert_eq!(value(&cluster, ResourceType::Topic, "orders", "retention.ms"), None);
}

#[test]
fn lists_grow_and_shrink() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    cluster.topic("t", &[&[1]], "");
    let value =
        |cluster: &Cluster| cluster.committed.configs.topic_value("t", "cleanup.policy").unwrap().to_string();
    one(&mut cluster, (2, "t", "cleanup.policy", APPEND, Some("compact")));
    assert_eq!(value(&cluster), "delete,compact");
    one(&mut cluster, (2, "t", "cleanup.policy", SUBTRACT, Some("delete")));
    assert_eq!(value(&cluster), "compact");
    let text = "Can't APPEND to key retention.ms because its type is not LIST.";
    let refused = one(&mut cluster, (2, "t", "retention.ms", APPEND, Some("1")));
    assert_eq!(refused, (ErrorCode::INVALID_CONFIG, text.into()));
}

#[test]
fn settings_that_are_refused() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    cluster.topic("orders", &[&[1]], "");
    let config = ErrorCode::INVALID_CONFIG;
    let request = ErrorCode::INVALID_REQUEST;
    let cases: &[(Change<'_>, ErrorCode, &str)] = &[
        ((2, "orders", "nope", SET, Some("2")), config, "Unknown topic config name: nope"),
        (
            (2, "orders", "min.insync.replicas", SET, Some("zero")),
            config,
            "Invalid value zero for configuration min.insync.replicas: Not a number of type INT",
        ),
        (
            (2, "orders", "follower.replication.throttled.replicas", SET, Some("0:1,1")),
            config,
            "Invalid value [0:1, 1] for configuration follower.replication.throttled.replicas: \
             follower.replication.throttled.replicas must be the literal '*' or a list of replicas in the following \
             format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        ),
        (
            (4, "1", "follower.replication.throttled.rate", SET, Some("-1")),
            request,
            "Invalid value -1 for configuration follower.replication.throttled.rate: Value must be at least 0",
        ),
        (
            (2, "absent", "retention.ms", SET, Some("2")),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "The topic 'absent' does not exist.",
        ),
        ((2, "", "retention.ms", SET, Some("2")), request, "Default topic resources are not allowed."),
        (
            (4, "1", "broker.id", SET, Some("7")),
            request,
            "Cannot update these configs dynamically: [broker.id]",
        ),
        (
            (4, "9", "log.cleaner.threads", SET, Some("2")),
            ErrorCode::BROKER_ID_NOT_REGISTERED,
            "No node with id 9 found.",
        ),
        (
            (4, "one", "log.cleaner.threads", SET, Some("2")),
            request,
            "Unable to parse broker name as a base 10 number.",
        ),
        ((3, "x", "y", SET, Some("2")), ErrorCode::UNSUPPORTED_VERSION, "Unknown resource type 3."),
        (
            (4, "", "min.insync.replicas", DELETE, None),
            config,
            "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
        ),
        (
            (4, "1", "min.insync.replicas", SET, Some("2")),
            config,
            "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
        ),
    ];
    let before = cluster.log.records.len();
    for (change, code, text) in cases {
        assert_eq!(one(&mut cluster, *change), (*code, text.to_string()));
    }
    let set = (2, "orders", "retention.ms", SET, Some("2"));
    let twice = alter(&mut cluster, &[set, set]);
    assert_eq!(twice, [(request, "Duplicate resource.".to_string())]);
    assert_eq!(cluster.log.records.len(), before, "nothing is written");
}

#[test]
fn a_changed_min_insync_replicas_forgets_the_elr() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.topic("t", &[&[1, 2, 3]], "min.insync.replicas=2");
    cluster.topic("other", &[&[1, 2, 3]], "min.insync.replicas=3");
    cluster.alter_isr("t", 0, &[1]);
    cluster.alter_isr("other", 0, &[1]);
    let epoch = cluster.partition("t", 0).partition_epoch;
    cluster.set("t", "min.insync.replicas", "1");
    assert_eq!(cluster.show("t", 0), "leader 1 epoch 0 isr [1] elr [] last []");
    assert_eq!(cluster.partition("t", 0).partition_epoch, epoch + 1);
    assert_eq!(cluster.show("other", 0), "leader 1 epoch 0 isr [1] elr [2,3] last []");
    // The cluster-wide one concerns all topics.
    assert_eq!(one(&mut cluster, (4, "", "min.insync.replicas", SET, Some("2"))).0, ErrorCode::NONE);
    assert_eq!(cluster.show("other", 0), "leader 1 epoch 0 isr [1] elr [] last []");
}

#[test]
fn alter_configs_removes_what_it_does_not_name() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    cluster.topic("t", &[&[1]], "retention.ms=5 segment.ms=7");
    let config =
        alter_configs_request::AlterableConfig { name: "segment.ms".into(), value: Some("9".into()) };
    let resource = alter_configs_request::AlterConfigsResource {
        resource_type: 2,
        resource_name: "t".into(),
        configs: vec![config],
    };
    let asked = cluster.send(&AlterConfigsRequest { resources: vec![resource], validate_only: false }, 2);
    cluster.commit();
    assert_eq!(cluster.answer_to::<AlterConfigsRequest<'_>, _>(&asked, |r| r.responses[0].error_code), 0);
    let all: Vec<_> = cluster.committed.configs.settings(ResourceType::Topic, "t").collect();
    assert_eq!(all.len(), 1);
    assert_eq!(&**all[0].1, "9");
}

#[test]
fn features_are_updated_if_everybody_supports_them() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    let mut update = |feature: &str, level: i16, upgrade_type: i8| {
        let update = update_features_request::FeatureUpdateKey {
            feature: feature.to_string().into(),
            max_version_level: level,
            upgrade_type,
            ..Default::default()
        };
        let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
        let asked = cluster.send(&request, 2);
        cluster.commit();
        let answer = cluster.answer_to::<UpdateFeaturesRequest<'_>, _>(&asked, |r| {
            (ErrorCode(r.error_code), r.error_message.as_deref().unwrap_or("").to_string())
        });
        (answer, cluster.committed.features.level(feature))
    };
    let ok = (ErrorCode::NONE, String::new());
    assert_eq!(update("group.version", 0, 2), (ok.clone(), 0));
    assert_eq!(update("group.version", 1, 1), (ok, 1));
    let prefix = "The update failed for all features since the following feature had an error: ";
    let failed = |text: &str| (ErrorCode::INVALID_UPDATE_VERSION, alloc::format!("{prefix}{text}"));
    let text =
        "Invalid update version 9 for feature group.version. Local controller 101 only supports versions 0-1";
    assert_eq!(update("group.version", 9, 1), (failed(text), 1));
    let text =
        "Invalid update version 1 for feature foo. Local controller 101 does not support this feature.";
    assert_eq!(update("foo", 1, 1), (failed(text), 0));
    let text = "Invalid update version 0 for feature group.version. Can't downgrade the version of this feature \
                without setting the upgrade type to either safe or unsafe downgrade.";
    assert_eq!(update("group.version", 0, 1), (failed(text), 1));
}

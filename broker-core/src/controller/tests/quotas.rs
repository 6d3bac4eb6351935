//! AlterClientQuotas: what is refused, and which records are written; and controller_mutation_rate, which the controller
//! holds its clients to.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use wire::messages::*;
use wire::{ApiKey, ErrorCode};

use super::harness::Cluster;

type Parts<'a> = &'a [(&'a str, Option<&'a str>)];
/// A quota and its value; `None` takes it away.
type Change<'a> = (&'a str, Option<f64>);

fn alter(cluster: &mut Cluster, parts: Parts<'_>, changes: &[Change<'_>]) -> (ErrorCode, String) {
    let entity = parts
        .iter()
        .map(|(kind, name)| EntityData { entity_type: (*kind).into(), entity_name: name.map(Into::into) });
    let ops = changes.iter().map(|(key, value)| OpData {
        key: (*key).into(),
        value: value.unwrap_or(0.0),
        remove: value.is_none(),
    });
    let entries = alloc::vec![EntryData { entity: entity.collect(), ops: ops.collect() }];
    let asked = cluster.send(&AlterClientQuotasRequest { entries, validate_only: false }, 1);
    cluster.commit();
    cluster.answer_to::<AlterClientQuotasRequest<'_>, _>(&asked, |r| {
        let told = &r.entries[0];
        assert_eq!(told.entity.len(), parts.len());
        (ErrorCode(told.error_code), told.error_message.as_deref().unwrap_or("").to_string())
    })
}

fn quotas(cluster: &Cluster) -> Vec<(String, f64)> {
    let entities = cluster.committed.client_quotas.entities.values();
    let all = entities.flat_map(|quotas| quotas.iter());
    all.map(|(key, bits)| (key.to_string(), f64::from_bits(*bits))).collect()
}

#[test]
fn quotas_are_set_changed_and_taken_away() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    let billing: Parts<'_> = &[("client-id", Some("billing"))];
    let ok = (ErrorCode::NONE, String::new());
    assert_eq!(alter(&mut cluster, billing, &[("producer_byte_rate", Some(1024.0))]), ok);
    assert_eq!(quotas(&cluster), [("producer_byte_rate".into(), 1024.0)]);
    let before = cluster.log.records.len();
    assert_eq!(alter(&mut cluster, billing, &[("producer_byte_rate", Some(1024.0))]), ok);
    assert_eq!(alter(&mut cluster, billing, &[("consumer_byte_rate", None)]), ok);
    assert_eq!(cluster.log.records.len(), before, "nothing changed");
    let changes = [("producer_byte_rate", None), ("request_percentage", Some(12.5))];
    assert_eq!(alter(&mut cluster, billing, &changes), ok);
    assert_eq!(quotas(&cluster), [("request_percentage".into(), 12.5)]);
    assert_eq!(alter(&mut cluster, &[("user", None)], &[("request_percentage", Some(1.0))]), ok);
    assert_eq!(quotas(&cluster).len(), 2);
}

#[test]
fn quotas_that_are_refused() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    let before = cluster.log.records.len();
    let cases: &[(Parts<'_>, Change<'_>, &str)] = &[
        (&[], ("producer_byte_rate", Some(1.0)), "Invalid empty client quota entity"),
        (
            &[("shop", Some("x"))],
            ("producer_byte_rate", Some(1.0)),
            "Unhandled client quota entity type: shop",
        ),
        (&[("user", Some(""))], ("producer_byte_rate", Some(1.0)), "Empty user not supported"),
        (&[("user", None)], ("nope", Some(1.0)), "Invalid configuration key nope"),
        (&[("ip", None)], ("producer_byte_rate", Some(1.0)), "Invalid configuration key producer_byte_rate"),
        (
            &[("user", None)],
            ("producer_byte_rate", Some(0.0)),
            "Quota producer_byte_rate must be greater than 0",
        ),
        (
            &[("user", None)],
            ("producer_byte_rate", Some(f64::NAN)),
            "Quota producer_byte_rate must be greater than 0",
        ),
        (
            &[("user", None)],
            ("producer_byte_rate", Some(1.5)),
            "producer_byte_rate cannot be a fractional value.",
        ),
    ];
    for (parts, change, text) in cases {
        let refused = alter(&mut cluster, parts, &[("request_percentage", Some(1.0)), *change]);
        if parts.first().is_some_and(|(kind, _)| *kind == "ip") {
            assert_eq!(refused.1, "Invalid configuration key request_percentage");
        } else {
            assert_eq!(refused, (ErrorCode::INVALID_REQUEST, text.to_string()));
        }
    }
    assert_eq!(cluster.log.records.len(), before, "all of an entity's changes or none");
}

/// Makes a topic of so many partitions; the error, and the milliseconds that the client has to wait.
fn create(cluster: &mut Cluster, name: &str, partitions: i32, version: i16) -> (ErrorCode, i32) {
    let topic = create_topics_request::CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let request =
        CreateTopicsRequest { topics: alloc::vec![topic], timeout_ms: 30_000, validate_only: false };
    let token = cluster.token(ApiKey::CreateTopics, version);
    cluster.net.note_client(token.conn, "billing", 0);
    let asked = cluster.send_as(token, &request);
    cluster.commit();
    cluster.answer_to::<CreateTopicsRequest<'_>, _>(&asked, |r| {
        (ErrorCode(r.topics[0].error_code), r.throttle_time_ms)
    })
}

/// The client may make or delete a partition each second.
fn limited() -> Cluster {
    let mut cluster = Cluster::with_brokers(1, &[]);
    let billing: Parts<'_> = &[("client-id", Some("billing"))];
    alter(&mut cluster, billing, &[("controller_mutation_rate", Some(1.0))]);
    cluster.net.set_client_quotas(&cluster.committed.client_quotas);
    cluster
}

#[test]
fn an_exhausted_quota_refuses_partitions_until_it_has_filled_up() {
    let mut cluster = limited();
    assert_eq!(
        create(&mut cluster, "a", 12, 7),
        (ErrorCode::NONE, 0),
        "eleven seconds' worth, and overdrawn"
    );
    let before = cluster.log.records.len();
    assert_eq!(create(&mut cluster, "b", 1, 7), (ErrorCode::THROTTLING_QUOTA_EXCEEDED, 1_000));
    let delete = DeleteTopicsRequest {
        topics: alloc::vec![delete_topics_request::DeleteTopicState {
            name: Some("a".into()),
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let token = cluster.token(ApiKey::DeleteTopics, 6);
    cluster.net.note_client(token.conn, "billing", 0);
    let asked = cluster.send_as(token, &delete);
    cluster.commit();
    cluster.answer_to::<DeleteTopicsRequest<'_>, _>(&asked, |r| {
        let told = &r.responses[0];
        assert_eq!(ErrorCode(told.error_code), ErrorCode::THROTTLING_QUOTA_EXCEEDED);
        assert_eq!(told.error_message, None, "clients show the code's own text");
        assert!(told.name.as_deref() == Some("a") && !told.topic_id.is_zero());
    });
    let topic =
        create_partitions_request::CreatePartitionsTopic { name: "a".into(), count: 13, assignments: None };
    let more = CreatePartitionsRequest { topics: alloc::vec![topic], ..Default::default() };
    let token = cluster.token(ApiKey::CreatePartitions, 3);
    cluster.net.note_client(token.conn, "billing", 0);
    let asked = cluster.send_as(token, &more);
    cluster.commit();
    cluster.answer_to::<CreatePartitionsRequest<'_>, _>(&asked, |r| {
        assert_eq!(ErrorCode(r.results[0].error_code), ErrorCode::THROTTLING_QUOTA_EXCEEDED);
        assert_eq!(r.throttle_time_ms, 1_000);
    });
    assert_eq!(cluster.log.records.len(), before, "nothing was done");
    cluster.now.mono = cluster.now.mono.plus_millis(1_000);
    assert_eq!(create(&mut cluster, "b", 1, 7), (ErrorCode::NONE, 0));
}

#[test]
fn clients_of_old_versions_are_served_and_made_to_wait() {
    let mut cluster = limited();
    assert_eq!(create(&mut cluster, "a", 20, 5), (ErrorCode::NONE, 9_000));
    assert_eq!(create(&mut cluster, "b", 1, 5), (ErrorCode::NONE, 10_000));
}

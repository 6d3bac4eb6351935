//! AlterClientQuotas: what is refused, and which records are written.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use wire::messages::*;

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

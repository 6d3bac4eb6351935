//! The metadata log that Apache Kafka 4.3.1 wrote through a session of failovers: every fencing, unfencing and
//! controlled shutdown in it is decided again here, on the state that Kafka had, and must come to the same records.

#[allow(clippy::duplicate_mod, reason = "other tests of this crate read the archive too")]
#[path = "../../../../testdata/golden.rs"]
mod archive;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use rand_core::SeedableRng as _;
use wire::Rope;
use wire::batch::Batches;
use wire::codec::Reader;
use wire::drive::Now;
use wire::messages::BrokerHeartbeatRequest;
use wire::records::{BrokerRegistrationChangeRecord, MetadataRecord};

use super::super::state::{Env, State};
use super::harness::Cluster;
use crate::ctx::Rng;
use crate::metadata::{MetadataImage, record_version};
use crate::quota::clients::MutationQuota;

const LOG: &str = "failover/controller-101/__cluster_metadata-0/00000000000000000000.log";

/// The batches of metadata records, each with the offset of its first, and the version in which each record stands.
fn batches() -> Vec<(i64, Vec<(i16, MetadataRecord)>)> {
    let log = Rope::from(bytes::Bytes::from(archive::file(LOG)));
    let mut all = Vec::new();
    for batch in Batches::new(&log) {
        let batch = batch.unwrap();
        if batch.header.is_control() {
            continue;
        }
        let decode = |value: &[u8]| {
            let mut r = Reader::from_slice(value);
            assert_eq!(r.uvarint().unwrap(), 1, "the frame version");
            let (key, version) = (r.uvarint().unwrap() as i16, r.uvarint().unwrap() as i16);
            (version, MetadataRecord::decode_fields(key, &mut r, version).unwrap())
        };
        let records = batch.records(&codecs::StdCodecs, 1 << 20).unwrap();
        let records = records.iter().map(|r| decode(r.unwrap().value.unwrap())).collect();
        all.push((batch.header.base_offset, records));
    }
    all
}

fn sorted(records: impl Iterator<Item = MetadataRecord>) -> Vec<String> {
    let mut records: Vec<String> = records.map(|r| alloc::format!("{r:?}")).collect();
    records.sort();
    records
}

#[test]
fn every_record_is_written_in_kafkas_version() {
    for (offset, batch) in batches() {
        for (version, record) in batch {
            assert_eq!(record_version(&record, 30), version, "{} at {offset}", record.name());
        }
    }
}

#[test]
fn kafkas_decisions_are_ours() {
    let cluster = Cluster::new(&[]);
    let config = &cluster.config;
    let now = Now::default();
    let mut rng = Rng::seed_from_u64(1);
    let mut state = State::new(101, Arc::from("x"), MetadataImage::default(), config, now.mono);
    let mut decided: BTreeMap<&str, usize> = BTreeMap::new();
    for (base_offset, batch) in batches() {
        let batch: Vec<MetadataRecord> = batch.into_iter().map(|(_, record)| record).collect();
        let changes = || {
            batch.iter().filter_map(|r| match r {
                MetadataRecord::BrokerRegistrationChange(c) => Some(c),
                _ => None,
            })
        };
        // A batch may hold more than one operation: only those are compared that are alone in theirs.
        if let (Some(change), None) = (changes().next(), changes().nth(1)) {
            let mutations = MutationQuota::UNBOUNDED;
            let mut env = Env { now, config, rng: &mut rng, next_offset: base_offset, mutations };
            if let Some((what, ours)) = decide(&mut state, &mut env, change) {
                let kafkas = sorted(batch.iter().filter(|r| r.name() != "NoOpRecord").cloned());
                assert_eq!(
                    sorted(ours.into_iter()),
                    kafkas,
                    "{what} of broker {} at {base_offset}",
                    change.broker_id
                );
                *decided.entry(what).or_default() += 1;
            }
        }
        for (offset, record) in (base_offset..).zip(&batch) {
            state.apply(record, offset, &mut |_| {});
        }
        state.check_invariants();
    }
    let decided: Vec<String> = decided.iter().map(|(what, n)| alloc::format!("{what} {n}")).collect();
    assert_eq!(decided.join(", "), "controlled shutdown 2, fencing 6, unfencing 7");
    assert_eq!(state.image.topics.topic_named("purchases").unwrap().partitions.len(), 3);
}

/// What we would have written where Kafka wrote this change.
fn decide(
    state: &mut State,
    env: &mut Env<'_>,
    change: &BrokerRegistrationChangeRecord,
) -> Option<(&'static str, Vec<MetadataRecord>)> {
    let request = BrokerHeartbeatRequest {
        broker_id: change.broker_id,
        broker_epoch: change.broker_epoch,
        current_metadata_offset: i64::MAX,
        ..Default::default()
    };
    match (change.fenced, change.in_controlled_shutdown) {
        (1, 0) => {
            let mut records = Vec::new();
            state.fence_records(env, change.broker_id, &mut records);
            Some(("fencing", records))
        }
        (-1, 0) => Some(("unfencing", state.heartbeat(env, &request).records)),
        (0, 1) => {
            let request = BrokerHeartbeatRequest { want_shut_down: true, ..request };
            Some(("controlled shutdown", state.heartbeat(env, &request).records))
        }
        _ => None,
    }
}

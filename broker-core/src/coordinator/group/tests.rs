//! What Apache Kafka 4.3.1 left in a partition of `__consumer_offsets`, taken over by this coordinator.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use codecs::StdCodecs;
use wire::Rope;

use wire::records::OffsetCommitValue;

use super::offsets::{OffsetKey, Offsets};
use super::{GroupShard, classic::State};
use crate::coordinator::runtime::{BatchInfo, replay};
use crate::event::TopicPartition;

#[allow(clippy::duplicate_mod, reason = "other tests of this crate read the archive too")]
#[path = "../../../../testdata/golden.rs"]
mod golden;

/// The groups of a session with a Java consumer of each protocol, a perf test, librdkafka and the admin tools: those that
/// were deleted are gone, those that are empty have their generation and their offsets.
#[test]
fn the_groups_of_kafka_are_there() {
    let log = golden::file("coordinators/broker-2/__consumer_offsets-0/00000000000000000000.log");
    let mut shard = GroupShard::empty();
    assert_eq!(replay(&mut shard, &StdCodecs, &Rope::from(Bytes::from(log)), None), Some(31));
    shard.offsets.committed(31);
    let classic: Vec<(&str, State, i32)> =
        shard.classic.iter().map(|group| (&*group.id, group.state, group.generation)).collect();
    assert_eq!(classic, [("kg", State::Empty, 2), ("perf-consumer-26498", State::Empty, 2)]);
    assert!(shard.consumer.get("live848").is_some(), "a group of KIP-848 without members");
    let at = TopicPartition { topic: "purchases".into(), partition: 0 };
    let offsets = |group| shard.offsets.all_stable(group);
    assert_eq!(offsets("perf-consumer-26498"), BTreeMap::from([(at.clone(), 15_419)]));
    assert_eq!(offsets("live848"), BTreeMap::from([(at, 8)]));
    assert_eq!(offsets("live"), BTreeMap::new(), "its offsets were deleted with it");
}

/// The two kinds of keys that mean an offset say it in the same words; a group's own key is none of them.
#[test]
fn keys_of_offsets_are_read_whatever_their_kind() {
    let bytes = |kind: u8| [&[0, kind][..], b"\0\x01g\0\x01t\0\0\0\x07"].concat();
    let key = OffsetKey { group: "g".into(), topic: "t".into(), partition: 7 };
    for kind in [0, 1] {
        assert_eq!(OffsetKey::read(&bytes(kind)), Some(Ok(key.clone())));
    }
    assert_eq!(OffsetKey::read(&bytes(2)), None);
    assert_eq!(OffsetKey::read(b"\0"), None);
    assert!(matches!(OffsetKey::read(&bytes(1)[..5]), Some(Err(_))));
}

/// The offset of a transaction has its place once the marker is appended, and others are told of it once that is committed.
#[test]
fn between_marker_and_commit_an_offset_is_on_its_way() {
    let mut offsets = Offsets::default();
    let key = OffsetKey { group: "g".into(), topic: "t".into(), partition: 0 };
    let put = |offsets: &mut Offsets, at: i64, offset: i64, transactional: bool| {
        let (producer_id, producer_epoch) = if transactional { (9, 1) } else { (-1, -1) };
        let batch = BatchInfo { producer_id, producer_epoch, transactional, offset: at, timestamp: 0 };
        offsets.replay(&batch, &key, Some(&OffsetCommitValue { offset, ..OffsetCommitValue::default() }));
    };
    let told = |offsets: &Offsets| {
        let offset = |found: Option<&super::offsets::Committed>| found.map(|found| found.offset);
        let (stable, newest) = (offsets.stable("g", "t", 0), offsets.newest("g", "t", 0));
        let (unstable, coming) = (offsets.is_unstable("g", "t", 0), offsets.is_on_its_way("g", "t", 0));
        (offset(stable), offset(newest), unstable, coming)
    };
    put(&mut offsets, 0, 4, false);
    assert_eq!(told(&offsets), (None, Some(4), false, true));
    offsets.committed(1);
    assert_eq!(told(&offsets), (Some(4), Some(4), false, false));
    put(&mut offsets, 1, 7, true);
    offsets.committed(2);
    assert_eq!(told(&offsets), (Some(4), Some(4), true, false));
    offsets.end_transaction(9, true, 2);
    assert_eq!(told(&offsets), (Some(4), Some(7), false, true));
    offsets.committed(3);
    assert_eq!(told(&offsets), (Some(7), Some(7), false, false));
}

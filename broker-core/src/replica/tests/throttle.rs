//! Replication throttles (KIP-73): how long replicas take that are not in sync, and that the others do not wait.

use alloc::format;
use alloc::string::ToString;
use wire::records::{ConfigRecord, MetadataRecord, PartitionChangeRecord};

use wire::{ErrorCode, Uuid};

use super::cluster::{Cluster, TOPIC_ID};

const LEADER: &str = "leader.replication.throttled";
const FOLLOWER: &str = "follower.replication.throttled";

/// 500 KB on brokers 1 and 2 in batches of 10 KB. A fetch takes one of them at a time.
fn with_data() -> Cluster {
    let mut c = Cluster::configured(3, &[("replica.fetch.max.bytes", "16384")]);
    c.create_topic(&[1, 2], 1);
    let value = "x".repeat(10_000);
    for _ in 0..50 {
        c.produce(1, 1, &[&value]);
        c.run_ms(10);
    }
    assert_eq!(c.end(2), 50);
    c
}

fn set_rate(c: &mut Cluster, broker: &str, side: &str, rate: Option<u64>) {
    c.publish(MetadataRecord::Config(ConfigRecord {
        resource_type: 4,
        resource_name: broker.into(),
        name: format!("{side}.rate"),
        value: rate.map(|rate| rate.to_string()),
    }));
}

/// As `kafka-reassign-partitions --throttle` does it.
fn throttle(c: &mut Cluster, sides: &[&str], rate: u64) {
    for side in sides {
        set_rate(c, "", side, Some(rate));
        let replicas = if *side == LEADER { "0:1,0:2" } else { "0:3" };
        c.set_topic_config(&format!("{side}.replicas"), replicas);
    }
}

/// Broker 3 becomes a replica.
fn add_replica(c: &mut Cluster) {
    c.publish(MetadataRecord::PartitionChange(PartitionChangeRecord {
        partition_id: 0,
        topic_id: TOPIC_ID,
        replicas: Some([1, 2, 3].into()),
        adding_replicas: Some([3].into()),
        directories: Some([Uuid::ZERO; 3].into()),
        ..PartitionChangeRecord::default()
    }));
    c.run_ms(10);
}

/// After how many tenths of a second broker 3 is in sync, within a minute.
fn in_sync_after(c: &mut Cluster) -> Option<u64> {
    (0..600).find(|_| {
        c.run_ms(100);
        c.leader_isr(1).contains(&3)
    })
}

#[test]
fn a_throttled_replica_is_copied_at_the_rate() {
    // Apache Kafka 4.3.1 took 11.3 s with both, and 0.9 s with none.
    for (sides, rate, from, to) in [
        (&[][..], 0, 0, 10),
        (&[LEADER, FOLLOWER], 50_000, 90, 115),
        (&[LEADER], 50_000, 90, 115),
        (&[FOLLOWER], 50_000, 90, 115),
        (&[LEADER, FOLLOWER], 100_000, 42, 65),
        (&[LEADER, FOLLOWER], 10_000_000, 0, 10),
    ] {
        let mut c = with_data();
        throttle(&mut c, sides, rate);
        add_replica(&mut c);
        let took = in_sync_after(&mut c).expect("in a minute");
        assert!((from..=to).contains(&took), "{sides:?} at {rate} B/s: {took} tenths of a second");
        assert_eq!(c.log(3), c.log(1));
    }
}

#[test]
fn only_replicas_in_the_lists_are_throttled() {
    for (leaders, followers) in [("0:2,1:1", "0:1,1:3"), ("", "")] {
        let mut c = with_data();
        throttle(&mut c, &[LEADER, FOLLOWER], 1);
        c.set_topic_config(&format!("{LEADER}.replicas"), leaders);
        c.set_topic_config(&format!("{FOLLOWER}.replicas"), followers);
        add_replica(&mut c);
        assert!(in_sync_after(&mut c).is_some_and(|took| took < 10), "{leaders} {followers}");
    }
}

#[test]
fn the_rate_of_a_broker_goes_before_that_of_all() {
    let mut c = with_data();
    throttle(&mut c, &[LEADER, FOLLOWER], 1);
    for side in [LEADER, FOLLOWER] {
        for broker in ["1", "2", "3"] {
            set_rate(&mut c, broker, side, Some(10_000_000));
        }
    }
    add_replica(&mut c);
    assert!(in_sync_after(&mut c).is_some_and(|took| took < 10));
}

#[test]
fn replicas_that_are_in_sync_are_never_throttled() {
    let mut c = with_data();
    throttle(&mut c, &[LEADER, FOLLOWER], 1);
    for side in [LEADER, FOLLOWER] {
        c.set_topic_config(&format!("{side}.replicas"), "*");
    }
    for _ in 0..50 {
        let asked = c.produce(1, -1, &["x"]);
        c.run_ms(20);
        assert_eq!(c.produced(asked).map(|(error, _)| error), Some(ErrorCode::NONE));
        assert!(c.took_ms(asked) < 10);
    }
    assert_eq!(c.leader_isr(1), [1, 2]);
}

#[test]
fn a_throttled_fetcher_neither_spins_nor_stalls() {
    for side in [LEADER, FOLLOWER] {
        let mut c = with_data();
        throttle(&mut c, &[side], 1);
        add_replica(&mut c);
        c.run_ms(1_000);
        let (before, end) = (c.frames, c.end(3));
        assert!(end < 50);
        let appends = 500;
        for _ in 0..appends {
            c.produce(1, 1, &["more"]);
            c.run_ms(10);
        }
        // Each append: its request, broker 2's fetch, the answer. Broker 3 asks twice a second at most.
        let of_throttled = (c.frames - before).saturating_sub(appends * 3);
        assert!(of_throttled < 40, "{side}: {of_throttled} frames in five seconds");
        assert_eq!(c.end(3), end, "{side}: it takes nothing");

        set_rate(&mut c, "", side, None);
        assert!(in_sync_after(&mut c).is_some_and(|took| took < 30), "{side}: it goes on without a rate");
    }
}

#[test]
fn a_throttle_ends_with_its_lists() {
    let mut c = with_data();
    throttle(&mut c, &[LEADER, FOLLOWER], 1);
    add_replica(&mut c);
    assert_eq!(in_sync_after(&mut c), None);
    for side in [LEADER, FOLLOWER] {
        c.set_topic_config(&format!("{side}.replicas"), "");
    }
    assert!(in_sync_after(&mut c).is_some_and(|took| took < 30));
    assert_eq!(c.log(3), c.log(1));
}

#[test]
fn throttled_replicas_follow_new_leaders_and_restart() {
    let mut c = with_data();
    throttle(&mut c, &[LEADER, FOLLOWER], 50_000);
    add_replica(&mut c);
    c.run_ms(3_000);
    let end = c.end(3);
    assert!((5..=25).contains(&end), "{end}");
    c.elect(2, &[1, 2]);
    c.run_ms(3_000);
    let after_election = c.end(3);
    assert!((end + 5..=48).contains(&after_election), "{after_election}");
    c.kill(3);
    c.run_ms(500);
    c.start(3);
    c.run_ms(400);
    assert!((after_election..50).contains(&c.end(3)), "{}", c.end(3));
    c.run_ms(8_000);
    assert_eq!(c.log(3), c.log(2));
    assert!(c.leader_isr(2).contains(&3));
}

/// What replicas in sync copy counts too: a throttled one that joins gets what they leave.
#[test]
fn all_that_is_throttled_shares_the_rate() {
    let mut c = with_data();
    throttle(&mut c, &[LEADER, FOLLOWER], 50_000);
    let value = "y".repeat(10_000);
    add_replica(&mut c);
    for _ in 0..100 {
        // 100 KB a second to broker 2, which is in sync.
        c.produce(1, 1, &[&value]);
        c.run_ms(100);
    }
    assert!(c.end(3) < 20, "{}", c.end(3));
    assert_eq!(c.end(2), c.end(1));
    assert!(c.leader_isr(1).contains(&2));
    assert!(in_sync_after(&mut c).is_some());
}

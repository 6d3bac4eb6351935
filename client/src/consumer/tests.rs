//! Stories of a consumer and a scripted cluster.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::Nanos;
use wire::error::ErrorCode;

use crate::event::{ClientEvent, MessageId, ResetReason, TopicPartition};
use crate::io::Process;
use crate::mutant::Mutants;
use crate::testing::{Fake, Fall, TOPIC, bootstrap, ms, rng, settings};
use crate::workload::{
    Assignment, Commit, ConsumerClient, ConsumerSpec, From, Names, ReaderClient, ReaderSpec,
};

fn spec(from: From, config: &[(&str, &str)]) -> ConsumerSpec {
    ConsumerSpec {
        name: "billing".into(),
        bootstrap: bootstrap(),
        assignment: Assignment::Topics(vec![TOPIC.into()]),
        from,
        processing: Nanos::ZERO,
        commit: Commit::Auto,
        names: Names::new(vec!["shop".into()]),
        config: settings(config),
        mutants: Mutants::NONE,
    }
}

fn process(spec: ConsumerSpec) -> Process {
    Process::Consumer(Box::new(ConsumerClient::new(spec, rng(1)).unwrap()))
}

fn resets(fake: &Fake) -> Vec<(Option<i64>, i64, ResetReason)> {
    let reset = |event: &ClientEvent| match event {
        ClientEvent::PositionReset { from, to, reason, .. } => Some((*from, *to, *reason)),
        _ => None,
    };
    fake.events.iter().filter_map(|(_, event)| reset(event)).collect()
}

fn failure(fake: &Fake) -> Option<(&'static str, alloc::string::String)> {
    fake.events.iter().find_map(|(_, event)| match event {
        ClientEvent::ConsumerFailed { error, message } => Some((*error, message.clone())),
        _ => None,
    })
}

#[test]
fn reads_everything_in_order_from_all_leaders() {
    for sessions in [true, false] {
        let mut fake = Fake::new(3, 3);
        fake.sessions = sessions;
        for partition in 0..3 {
            fake.produce(partition, &["shop-0", "shop-1"]);
        }
        let mut billing = process(spec(From::Beginning, &[]));
        fake.start(&mut billing);
        fake.run(&mut billing, ms(500));
        fake.produce(1, &["shop-2", "shop-3"]);
        fake.run(&mut billing, ms(2000));
        assert_eq!(fake.polled(0), vec![(0, 0), (1, 1)], "sessions: {sessions}");
        assert_eq!(fake.polled(1), vec![(0, 0), (1, 1), (2, 2), (3, 3)]);
        assert_eq!(fake.polled(2), vec![(0, 0), (1, 1)]);
        // Long polls, not a storm.
        assert!(fake.count(ApiKey::Fetch) < 40, "{}", fake.count(ApiKey::Fetch));
    }
}

#[test]
fn begins_where_it_is_told() {
    let at = |offset: i64| From::Offsets(BTreeMap::from([(TopicPartition::new(TOPIC, 0), offset)]));
    let earliest: &[(&str, &str)] = &[("auto.offset.reset", "earliest")];
    type Case<'a> = (From, &'a [(&'a str, &'a str)], Vec<i64>);
    let cases: Vec<Case<'_>> = vec![
        (From::Beginning, &[], vec![0, 1, 2, 3]),
        (From::End, earliest, vec![3]),
        (From::Reset, &[], vec![3]),
        (From::Reset, earliest, vec![0, 1, 2, 3]),
        // The batch begins at 0: what lies below the position is dropped.
        (at(1), &[], vec![1, 2, 3]),
        (at(3), &[], vec![3]),
    ];
    for (from, config, offsets) in cases {
        let mut fake = Fake::new(1, 1);
        fake.produce(0, &["shop-0", "shop-1", "shop-2"]);
        let told = alloc::format!("{from:?} {config:?}");
        let mut billing = process(spec(from, config));
        fake.start(&mut billing);
        fake.run(&mut billing, ms(1000));
        fake.produce(0, &["shop-3"]);
        fake.run(&mut billing, ms(3000));
        assert_eq!(fake.polled(0).iter().map(|polled| polled.0).collect::<Vec<_>>(), offsets, "{told}");
    }
}

#[test]
fn foreign_values_come_as_they_are() {
    let mut fake = Fake::new(1, 1);
    fake.produce(0, &["shop-0", "hello", "shop-1"]);
    let mut billing = process(spec(From::Beginning, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(500));
    let polled = fake.events.iter().find_map(|(_, event)| match event {
        ClientEvent::Polled(polled) => Some(polled.clone()),
        _ => None,
    });
    let polled = polled.unwrap();
    assert_eq!(polled.records[1].message, MessageId { client: MessageId::FOREIGN, number: 0 });
    assert_eq!(&polled.foreign[0][..], b"hello");
}

#[test]
fn a_position_out_of_range_is_reset_or_raised() {
    let from = || From::Offsets(BTreeMap::from([(TopicPartition::new(TOPIC, 0), 99)]));
    for (policy, want) in [("earliest", 0), ("latest", 2)] {
        let mut fake = Fake::new(1, 1);
        fake.produce(0, &["shop-0", "shop-1"]);
        let mut billing = process(spec(from(), &[("auto.offset.reset", policy)]));
        fake.start(&mut billing);
        fake.run(&mut billing, ms(500));
        assert_eq!(resets(&fake), vec![(Some(99), want, ResetReason::OutOfRange)], "{policy}");
    }
    let mut fake = Fake::new(1, 1);
    let mut billing = process(spec(from(), &[("auto.offset.reset", "none")]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(500));
    let (error, text) = failure(&fake).unwrap();
    assert_eq!(error, "OFFSET_OUT_OF_RANGE");
    assert_eq!(
        text,
        "Fetch position FetchPosition{offset=99, offsetEpoch=Optional.empty, currentLeader=LeaderAndEpoch{leader=\
         Optional[broker-1:9092 (id: 1 rack: null isFenced: false)], epoch=0}} is out of range for partition t-0"
    );
    assert_eq!(fake.exit, Some(1));
}

#[test]
fn no_position_and_no_policy_is_an_exception() {
    let mut fake = Fake::new(1, 1);
    let mut billing = process(spec(From::Reset, &[("auto.offset.reset", "none")]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(500));
    let text = "Undefined offset with no reset policy for partitions: [t-0]";
    assert_eq!(failure(&fake).unwrap().1, text);
}

/// A consumer has read to 4 in epoch 0; the next leader's log ends there at 2, and has other records since.
fn truncated(policy: &str) -> Fake {
    let mut fake = Fake::new(2, 1);
    fake.produce(0, &["shop-0", "shop-1"]);
    fake.produce(0, &["shop-2", "shop-3"]);
    let mut billing = process(spec(From::Beginning, &[("auto.offset.reset", policy)]));
    if policy == "none" {
        billing = process(spec(From::Beginning, &[("auto.offset.reset", policy)]));
    }
    fake.start(&mut billing);
    fake.run(&mut billing, ms(500));
    assert_eq!(fake.polled(0).len(), 4);
    fake.partitions[0].truncate(2);
    fake.partitions[0].elect(2);
    fake.produce(0, &["shop-7", "shop-8", "shop-9"]);
    fake.run(&mut billing, ms(3000));
    fake
}

#[test]
fn a_truncation_is_detected_by_the_leader_epoch() {
    let fake = truncated("latest");
    assert_eq!(fake.count(ApiKey::OffsetForLeaderEpoch), 1);
    assert!(resets(&fake).contains(&(Some(4), 2, ResetReason::Truncation)), "{:?}", resets(&fake));
    assert_eq!(fake.polled(0)[4..], [(2, 7), (3, 8), (4, 9)]);

    let fake = truncated("none");
    assert_eq!(
        failure(&fake).unwrap().1,
        "Truncated partitions detected with divergent offsets {t-0=OffsetAndMetadata{offset=2, leaderEpoch=0, \
         metadata=''}}"
    );
}

#[test]
fn a_new_leader_whose_log_agrees_is_read_on_from() {
    let mut fake = Fake::new(2, 1);
    fake.produce(0, &["shop-0", "shop-1"]);
    let mut billing = process(spec(From::Beginning, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(500));
    fake.partitions[0].elect(2);
    fake.produce(0, &["shop-2"]);
    fake.run(&mut billing, ms(3000));
    assert_eq!(fake.polled(0), vec![(0, 0), (1, 1), (2, 2)]);
    assert_eq!(fake.count(ApiKey::OffsetForLeaderEpoch), 1);
    let asked_old = fake.seen.iter().filter(|seen| seen.node == 1 && seen.key == ApiKey::Fetch).count();
    assert!(asked_old < 12, "{asked_old} fetches from the old leader");
}

#[test]
fn waits_for_a_leader_and_for_a_topic() {
    let mut fake = Fake::new(2, 1);
    fake.topic_exists = false;
    let mut billing = process(spec(From::Beginning, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(3000));
    fake.topic_exists = true;
    fake.partitions[0].leader = -1;
    fake.produce(0, &["shop-0"]);
    fake.run(&mut billing, ms(6000));
    assert!(fake.polled(0).is_empty());
    fake.partitions[0].elect(2);
    fake.run(&mut billing, ms(9000));
    assert_eq!(fake.polled(0), vec![(0, 0)]);
}

#[test]
fn goes_on_after_a_kill() {
    let mut fake = Fake::new(3, 1);
    fake.produce(0, &["shop-0"]);
    let mut billing = process(spec(From::Beginning, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(1000));
    fake.kill(1);
    fake.run(&mut billing, ms(5000));
    fake.partitions[0].elect(3);
    fake.produce(0, &["shop-1"]);
    fake.run(&mut billing, ms(10_000));
    assert_eq!(fake.polled(0), vec![(0, 0), (1, 1)]);
}

#[test]
fn reads_from_the_replica_that_the_leader_names_for_as_long_as_metadata_is_believed() {
    let asked = |fake: &Fake, node: i32| {
        fake.seen.iter().filter(|seen| seen.node == node && seen.key == ApiKey::Fetch).count()
    };
    let mut fake = Fake::new(2, 1);
    fake.closest = Some(2);
    fake.produce(0, &["shop-0"]);
    let mut billing = process(spec(From::Beginning, &[("metadata.max.age.ms", "10000")]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(9_000));
    assert_eq!(fake.polled(0), vec![(0, 0)]);
    assert_eq!(asked(&fake, 1), 1, "the leader is asked once");
    fake.run(&mut billing, ms(19_000));
    assert_eq!(asked(&fake, 1), 2, "and again when the answer is old");
    fake.kill(2);
    fake.closest = None;
    fake.produce(0, &["shop-1"]);
    fake.run(&mut billing, ms(30_000));
    assert_eq!(fake.polled(0), vec![(0, 0), (1, 1)]);
}

#[test]
fn a_silent_leader_costs_a_request_timeout() {
    let mut fake = Fake::new(2, 1);
    fake.produce(0, &["shop-0"]);
    let mut billing = process(spec(From::Beginning, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(1000));
    fake.silent.push(1);
    fake.run(&mut billing, ms(2000));
    fake.partitions[0].elect(2);
    fake.produce(0, &["shop-1"]);
    fake.run(&mut billing, ms(28_000));
    assert_eq!(fake.polled(0).len(), 1, "nothing tells the consumer");
    fake.run(&mut billing, ms(35_000));
    assert_eq!(fake.polled(0).len(), 2);
}

#[test]
fn polls_at_most_max_poll_records_and_processes_them_one_by_one() {
    let mut fake = Fake::new(1, 1);
    let values: Vec<_> = (0..12).map(|n| alloc::format!("shop-{n}")).collect();
    let values: Vec<_> = values.iter().map(alloc::string::String::as_str).collect();
    fake.produce(0, &values);
    let spec = ConsumerSpec {
        processing: Nanos::from_millis(100),
        ..spec(From::Beginning, &[("max.poll.records", "5")])
    };
    let mut billing = process(spec);
    fake.start(&mut billing);
    fake.run(&mut billing, ms(5000));
    let polls: Vec<(usize, u64)> = fake
        .events
        .iter()
        .filter_map(|(at, event)| match event {
            ClientEvent::Polled(polled) => {
                assert_eq!(polled.processing_from, *at);
                Some((polled.records.len(), at.0 / 1_000_000))
            }
            _ => None,
        })
        .collect();
    assert_eq!(polls.iter().map(|poll| poll.0).collect::<Vec<_>>(), [5, 5, 2]);
    assert_eq!((polls[1].1 - polls[0].1, polls[2].1 - polls[1].1), (500, 500));
    assert_eq!(fake.polled(0).len(), 12);
}

#[test]
fn a_damaged_batch_is_an_exception() {
    let mut fake = Fake::new(1, 1);
    fake.produce(0, &["shop-0"]);
    let mut bytes = fake.partitions[0].log[0].to_bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    fake.partitions[0].log[0] = wire::Rope::from(bytes::Bytes::from(bytes));
    let mut billing = process(spec(From::Beginning, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(1000));
    let (_, text) = failure(&fake).unwrap();
    assert!(text.starts_with("Record batch for partition t-0 at offset 0 is invalid, cause:"), "{text}");
}

#[test]
fn a_session_that_the_broker_forgot_is_made_anew() {
    let mut fake = Fake::new(1, 1);
    fake.produce(0, &["shop-0"]);
    let mut next = 0;
    fake.rule = Box::new(move |seen| {
        next += usize::from(seen.key == ApiKey::Fetch);
        if seen.key == ApiKey::Fetch && next == 2 {
            Fall::Refuse(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)
        } else {
            Fall::Answer
        }
    });
    let mut billing = process(spec(From::Beginning, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(300));
    fake.produce(0, &["shop-1"]);
    fake.run(&mut billing, ms(2000));
    assert_eq!(fake.polled(0), vec![(0, 0), (1, 1)]);
}

#[test]
fn answers_that_are_damaged_break_nothing() {
    for seed in 0..300 {
        let mut fake = Fake::new(2, 2);
        fake.produce(0, &["shop-0", "shop-1"]);
        fake.produce(1, &["shop-2"]);
        fake.mangle = Some(rng(seed));
        let mut billing = process(spec(From::Beginning, &[]));
        fake.start(&mut billing);
        fake.run(&mut billing, ms(2000));
        fake.partitions[0].elect(2);
        fake.run(&mut billing, ms(5000));
    }
}

#[test]
fn stop_closes_sessions_and_exits() {
    let mut fake = Fake::new(1, 1);
    fake.produce(0, &["shop-0"]);
    let mut billing = process(spec(From::Beginning, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(300));
    fake.stop(&mut billing);
    fake.run(&mut billing, ms(1000));
    assert_eq!(fake.exit, Some(0));
    assert!(matches!(fake.events.last(), Some((_, ClientEvent::ClientClosed))));
}

/// A leader that is new does not tell an end (KIP-207), and gives what it can.
#[test]
fn a_reader_reads_on_after_it_was_not_told_where_a_partition_ends() {
    let mut fake = Fake::new(1, 1);
    fake.produce(0, &["shop-0", "shop-1"]);
    let mut asked = 0;
    fake.rule = Box::new(move |seen| {
        asked += u32::from(seen.key == ApiKey::ListOffsets);
        let is_end = seen.key == ApiKey::ListOffsets && asked == 2;
        if is_end { Fall::Refuse(ErrorCode::OFFSET_NOT_AVAILABLE) } else { Fall::Answer }
    });
    let mut reader = reader(vec![TOPIC.into()]);
    fake.start(&mut reader);
    fake.run(&mut reader, ms(60));
    assert_eq!(fake.polled(0).len(), 2);
    fake.produce(0, &["shop-2"]);
    fake.run(&mut reader, ms(5000));
    assert_eq!(fake.exit, Some(0));
    assert_eq!(fake.polled(0).len(), 3);
}

fn reader(topics: Vec<alloc::sync::Arc<str>>) -> Process {
    let spec = ReaderSpec {
        name: "reader".into(),
        bootstrap: bootstrap(),
        topics,
        names: Names::new(vec!["shop".into()]),
        config: settings(&[]),
    };
    Process::Reader(Box::new(ReaderClient::new(spec, rng(1)).unwrap()))
}

#[test]
fn a_reader_reads_all_there_is_and_exits() {
    let mut fake = Fake::new(3, 3);
    fake.produce(0, &["shop-0", "shop-1"]);
    fake.produce(2, &["shop-2"]);
    let mut reader = reader(vec![TOPIC.into(), "nothing".into()]);
    fake.start(&mut reader);
    fake.run(&mut reader, ms(5000));
    assert_eq!(fake.exit, Some(0));
    assert_eq!((fake.polled(0).len(), fake.polled(1).len(), fake.polled(2).len()), (2, 0, 1));
}

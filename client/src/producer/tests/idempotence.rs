//! An idempotent producer: everything once and in its order, whatever becomes of the requests.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::Nanos;
use wire::error::ErrorCode;

use super::{falls, numbers, process, spec};
use crate::backoff::below;
use crate::event::{ClientEvent, Fate};
use crate::io::Process;
use crate::testing::{Fake, Fall, Seen, ms, rng, settings};
use crate::workload::{ProducerSpec, Rate};

/// A producer of `count` messages at 1,000/s, each in a batch of its own: several requests are in flight at a time.
fn many(count: u64, config: &[(&str, &str)]) -> Process {
    let mut all = vec![("batch.size", "1"), ("linger.ms", "0")];
    all.extend_from_slice(config);
    let rate = Rate { messages: 1000, per: Nanos::from_secs(1) };
    process(ProducerSpec { rate, count: Some(count), config: settings(&all), ..spec(&[]) })
}

/// The ids and epochs that the producer had.
fn identities(fake: &Fake) -> Vec<(i64, i16)> {
    let identity = |event: &ClientEvent| match event {
        ClientEvent::ProducerIdentity { producer_id, producer_epoch } => {
            Some((*producer_id, *producer_epoch))
        }
        _ => None,
    };
    fake.events.iter().filter_map(|(_, event)| identity(event)).collect()
}

/// Everything was acknowledged, and lies once and in its order where it was said to lie.
fn assert_all_once(fake: &Fake, count: u64) {
    assert_eq!(numbers(&fake.partitions[0].values()), (0..count).collect::<Vec<_>>());
    assert_eq!(fake.failed(), vec![]);
    let mut acked = fake.acked();
    acked.sort_unstable();
    assert_eq!(acked, (0..count).map(|n| (n, n as i64, 0)).collect::<Vec<_>>());
}

#[test]
fn an_answer_that_is_lost_makes_no_duplicate() {
    let mut fake = Fake::new(1, 1);
    fake.rule = falls(&[Fall::DoAndBreak, Fall::Answer, Fall::DoAndBreak, Fall::DoAndBreak]);
    let mut shop = process(ProducerSpec { count: Some(20), ..spec(&[]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(5000));
    assert_all_once(&fake, 20);
    assert_eq!(identities(&fake), [(1000, 0)]);
}

#[test]
fn nothing_is_sent_before_there_is_an_id() {
    let mut fake = Fake::new(1, 1);
    let mut asked = 0;
    fake.rule = Box::new(move |seen: &Seen| {
        asked += u32::from(seen.key == ApiKey::InitProducerId);
        match seen.key {
            ApiKey::InitProducerId if asked == 1 => Fall::Refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            ApiKey::InitProducerId if asked == 2 => Fall::Break,
            _ => Fall::Answer,
        }
    });
    let mut shop = process(spec(&[]));
    fake.start(&mut shop);
    fake.run(&mut shop, ms(2000));
    let at = |key| fake.seen.iter().filter(|seen| seen.key == key).map(|seen| seen.at).collect::<Vec<_>>();
    let (init, produce) = (at(ApiKey::InitProducerId), at(ApiKey::Produce));
    assert_eq!(init.len(), 3);
    assert!(init[1].since(init[0]) >= Nanos::from_millis(100), "retry.backoff.ms");
    assert!(produce[0] > init[2]);
    assert_all_once(&fake, 10);
}

#[test]
fn a_refused_batch_stops_those_behind_it_and_all_keep_their_order() {
    let mut fake = Fake::new(1, 1);
    const REFUSE: Fall = Fall::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS);
    fake.rule = falls(&[Fall::Answer, Fall::Answer, REFUSE, Fall::Answer, Fall::Answer, REFUSE, REFUSE]);
    let mut shop = many(50, &[]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(5000));
    assert_all_once(&fake, 50);
    assert_eq!(identities(&fake), [(1000, 0)], "numbers behind a gap come again, without a new epoch");
    let refused = |(_, event): &&(_, ClientEvent)| {
        matches!(event, ClientEvent::BatchRetried { error: "OUT_OF_ORDER_SEQUENCE_NUMBER", .. })
    };
    assert!(fake.events.iter().filter(refused).count() > 0, "some were in flight behind it");
}

#[test]
fn the_first_batch_to_a_leader_that_does_not_know_the_producer_goes_alone() {
    let mut fake = Fake::new(1, 1);
    fake.rule = falls(&[Fall::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS)]);
    let mut shop = many(50, &[]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(5000));
    assert_all_once(&fake, 50);
}

#[test]
fn a_log_that_got_shorter_makes_the_producer_raise_its_epoch_and_number_anew() {
    let mut fake = Fake::new(2, 1);
    let mut shop = many(300, &[]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(250));
    // An unclean election.
    let kept = fake.partitions[0].end() - 20;
    assert!(kept > 50);
    fake.partitions[0].truncate(kept);
    fake.partitions[0].elect(2);
    fake.run(&mut shop, ms(5000));
    assert_eq!(identities(&fake), [(1000, 0), (1000, 1)]);
    assert_eq!(fake.failed(), vec![]);
    assert_eq!(fake.acked().len(), 300);
    let values = numbers(&fake.partitions[0].values());
    let lost: Vec<u64> = (0..300).filter(|n| !values.contains(n)).collect();
    assert_eq!(lost, (kept as u64..kept as u64 + 20).collect::<Vec<_>>());
    assert!(values.is_sorted_by(|a, b| a < b), "none twice, none overtaken: {values:?}");
}

#[test]
fn epochs_that_are_used_up_are_followed_by_another_id() {
    let mut fake = Fake::new(2, 1);
    fake.first_producer_epoch = i16::MAX;
    let mut shop = many(300, &[]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(250));
    fake.first_producer_epoch = 0;
    let kept = fake.partitions[0].end() - 20;
    fake.partitions[0].truncate(kept);
    fake.partitions[0].elect(2);
    fake.run(&mut shop, ms(5000));
    assert_eq!(identities(&fake), [(1000, i16::MAX), (1001, 0)]);
    assert_eq!(fake.acked().len(), 300);
    let values = numbers(&fake.partitions[0].values());
    assert!(values.len() == 280 && values.is_sorted_by(|a, b| a < b), "{values:?}");
}

#[test]
fn what_was_given_up_leaves_a_gap_that_a_new_epoch_closes() {
    // Batch 2 is refused for good; those behind it are out of order under their old numbers.
    let mut fake = Fake::new(1, 1);
    fake.rule = falls(&[Fall::Answer, Fall::Answer, Fall::Refuse(ErrorCode::INVALID_RECORD)]);
    let mut shop = many(50, &[]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(5000));
    let failed: Vec<_> = fake.failed().into_iter().map(|(n, fate, error, _)| (n, fate, error)).collect();
    assert_eq!(failed, [(2, Fate::Failed, "INVALID_RECORD")]);
    let wanted: Vec<u64> = (0..50).filter(|n| *n != 2).collect();
    assert_eq!(numbers(&fake.partitions[0].values()), wanted);
    assert_eq!(identities(&fake), [(1000, 0), (1000, 1)]);
}

#[test]
fn what_was_given_up_without_a_successor_is_followed_by_a_new_epoch() {
    // Nobody tells whether the first batch is in the log. It is.
    let mut fake = Fake::new(1, 1);
    const TOO_FEW: Fall = Fall::DoAndSay(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND);
    fake.rule = falls(&[TOO_FEW, TOO_FEW]);
    let mut shop = many(50, &[("retries", "1")]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(5000));
    assert_eq!(identities(&fake), [(1000, 0), (1000, 1)]);
    assert_eq!(numbers(&fake.partitions[0].values()), (0..50).collect::<Vec<_>>());
    let failed: Vec<_> = fake.failed().into_iter().map(|(n, fate, ..)| (n, fate)).collect();
    assert_eq!(failed, [(0, Fate::Indefinite)]);
}

#[test]
fn what_was_given_up_and_is_in_the_log_needs_no_new_epoch() {
    // It expires without an answer, but the batch behind it is taken: there is no gap.
    let mut fake = Fake::new(1, 1);
    fake.rule = falls(&[
        Fall::Answer,
        Fall::DoAndSay(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
        Fall::Answer,
        Fall::Answer,
    ]);
    let mut shop = many(50, &[("retries", "1")]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(5000));
    assert_eq!(identities(&fake), [(1000, 0)]);
    assert_eq!(numbers(&fake.partitions[0].values()), (0..50).collect::<Vec<_>>());
    assert_eq!(fake.acked().len() + fake.failed().len(), 50);
}

#[test]
fn a_duplicate_that_the_leader_forgot_counts_as_acknowledged_without_an_offset() {
    let mut fake = Fake::new(1, 1);
    fake.rule = falls(&[Fall::DoAndSay(ErrorCode::DUPLICATE_SEQUENCE_NUMBER)]);
    let mut shop = process(ProducerSpec { count: Some(2), ..spec(&[]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(2000));
    assert_eq!(fake.acked(), [(0, -1, 0), (1, -1, 0)]);
}

#[test]
fn a_leader_that_knows_nothing_of_the_producer_any_more_gets_a_new_epoch() {
    let mut fake = Fake::new(1, 1);
    fake.rule = falls(&[Fall::Answer, Fall::Refuse(ErrorCode::UNKNOWN_PRODUCER_ID)]);
    let mut shop = process(ProducerSpec { count: Some(5), ..spec(&[]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(2000));
    // Without a log start offset in the answer it is only tried again.
    assert_eq!(identities(&fake), [(1000, 0)]);
    assert_all_once(&fake, 5);
}

#[test]
fn who_may_not_be_idempotent_fails_for_good() {
    for key in [ApiKey::InitProducerId, ApiKey::Produce] {
        let mut fake = Fake::new(1, 1);
        fake.rule = Box::new(move |seen: &Seen| match seen.key {
            refused if refused == key => Fall::Refuse(ErrorCode::CLUSTER_AUTHORIZATION_FAILED),
            _ => Fall::Answer,
        });
        let mut shop = process(spec(&[]));
        fake.start(&mut shop);
        fake.run(&mut shop, ms(3000));
        let failed = fake.failed();
        assert_eq!(failed.iter().map(|failed| failed.0).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        let (_, fate, error, text) = &failed[9];
        assert_eq!((*fate, *error), (Fate::Failed, "UNKNOWN_SERVER_ERROR"));
        assert_eq!(text, "Cannot execute transactional method because we are in an error state");
        assert_eq!(fake.partitions[0].end(), 0);
        fake.stop(&mut shop);
        assert_eq!(fake.exit, Some(0));
    }
}

#[test]
fn a_broker_without_producer_ids_is_too_old() {
    let mut fake = Fake::new(1, 1);
    fake.versions.insert(ApiKey::InitProducerId, (90, 91));
    let mut shop = process(spec(&[]));
    fake.start(&mut shop);
    fake.run(&mut shop, ms(1000));
    assert_eq!(fake.failed().len(), 10);
    assert_eq!(fake.count(ApiKey::Produce), 0);
}

#[test]
fn acks_1_does_without() {
    let mut fake = Fake::new(1, 1);
    let mut shop = process(spec(&[("acks", "1")]));
    fake.start(&mut shop);
    fake.run(&mut shop, ms(1000));
    assert_eq!(fake.count(ApiKey::InitProducerId), 0);
    assert_eq!(fake.acked().len(), 10);
}

/// Anything that can become of a request, now and then.
fn trouble(seed: u64) -> Box<dyn FnMut(&Seen) -> Fall> {
    let mut rng = rng(seed);
    Box::new(move |seen: &Seen| {
        if seen.key != ApiKey::Produce || below(&mut rng, 12) > 0 {
            return Fall::Answer;
        }
        match below(&mut rng, 5) {
            0 => Fall::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
            1 => Fall::Refuse(ErrorCode::INVALID_RECORD),
            2 => Fall::DoAndSay(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
            3 => Fall::DoAndBreak,
            _ => Fall::Break,
        }
    })
}

#[test]
fn under_any_trouble_everything_is_there_at_most_once_and_in_its_order() {
    const COUNT: usize = 600;
    for seed in 0..60 {
        let mut fake = Fake::new(3, 2);
        let mut rng = rng(1000 + seed);
        fake.rule = trouble(seed);
        let config = [
            ("batch.size", "1"),
            ("linger.ms", "0"),
            ("delivery.timeout.ms", "4000"),
            ("request.timeout.ms", "1000"),
            ("retry.backoff.ms", "20"),
        ];
        let rate = Rate { messages: 200, per: Nanos::from_secs(1) };
        let count = Some(COUNT as u64);
        let mut shop = process(ProducerSpec { rate, count, keys: 8, partition: None, ..spec(&config) });
        fake.start(&mut shop);
        for turn in 1..12 {
            fake.run(&mut shop, ms(turn * 300));
            let (partition, broker) = (below(&mut rng, 2) as usize, 1 + below(&mut rng, 3) as i32);
            match below(&mut rng, 4) {
                0 => fake.partitions[partition].elect(broker),
                1 => fake.silent = vec![broker],
                _ => fake.silent.clear(),
            }
        }
        fake.silent.clear();
        fake.rule = Box::new(|_| Fall::Answer);
        fake.run(&mut shop, ms(60_000));
        let (acked, failed) = (fake.acked(), fake.failed());
        assert_eq!(acked.len() + failed.len(), COUNT, "seed {seed}");
        assert!(acked.len() > COUNT / 10, "seed {seed}: {}", acked.len());
        let logs: [Vec<u64>; 2] = [0, 1].map(|p: usize| numbers(&fake.partitions[p].values()));
        for values in &logs {
            assert!(values.is_sorted_by(|a, b| a < b), "seed {seed}: twice, or overtaken: {values:?}");
        }
        for (number, offset, partition) in acked {
            assert!(offset < 0 || logs[partition as usize][offset as usize] == number, "seed {seed}");
        }
        for (number, fate, error, _) in failed {
            let there = logs.iter().any(|values| values.binary_search(&number).is_ok());
            assert!(!there || fate == Fate::Indefinite, "seed {seed}: {number} failed with {error}");
            // The epochs of a partition follow one another: none is fenced by its own successor.
            assert_ne!(error, "INVALID_PRODUCER_EPOCH", "seed {seed}: {number}");
        }
    }
}

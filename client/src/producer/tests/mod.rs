//! Stories of a producer and a scripted cluster.

mod idempotence;
mod transactions;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::Nanos;
use wire::error::ErrorCode;

use crate::event::{ClientEvent, Fate};
use crate::io::Process;
use crate::mutant::Mutants;
use crate::testing::{Fake, Fall, Seen, bootstrap, ms, rng, settings, topic};
use crate::workload::{ProducerClient, ProducerSpec, Rate};

fn spec(config: &[(&str, &str)]) -> ProducerSpec {
    ProducerSpec {
        name: "shop".into(),
        bootstrap: bootstrap(),
        topic: topic(),
        rate: Rate { messages: 100, per: Nanos::from_secs(1) },
        count: Some(10),
        keys: 0,
        size: 20,
        partition: Some(0),
        first_message: 0,
        config: settings(config),
        mutants: Mutants::NONE,
    }
}

fn process(spec: ProducerSpec) -> Process {
    Process::Producer(Box::new(ProducerClient::new(spec, rng(1)).unwrap()))
}

/// What the first so many Produce requests meet; the rest is answered.
fn falls(falls: &'static [Fall]) -> Box<dyn FnMut(&Seen) -> Fall> {
    let mut next = 0;
    Box::new(move |seen| {
        if seen.key != ApiKey::Produce {
            return Fall::Answer;
        }
        next += 1;
        falls.get(next - 1).copied().unwrap_or(Fall::Answer)
    })
}

fn numbers(values: &[alloc::string::String]) -> Vec<u64> {
    values.iter().map(|value| value.strip_prefix("shop-").unwrap().parse().unwrap()).collect()
}

#[test]
fn every_message_is_acknowledged_with_its_offset() {
    let mut fake = Fake::new(3, 1);
    let mut shop = process(spec(&[]));
    fake.start(&mut shop);
    fake.run(&mut shop, ms(1000));
    let want: Vec<_> = (0..10).map(|n| (n, n as i64, 0)).collect();
    assert_eq!(fake.acked(), want);
    assert_eq!(numbers(&fake.partitions[0].values()), (0..10).collect::<Vec<_>>());
    fake.stop(&mut shop);
    assert_eq!(fake.exit, Some(0));
}

#[test]
fn a_batch_lingers_for_five_milliseconds_and_takes_what_comes_meanwhile() {
    let mut fake = Fake::new(1, 1);
    let rate = Rate { messages: 1000, per: Nanos::from_secs(1) };
    let mut shop = process(ProducerSpec { rate, count: Some(1000), ..spec(&[]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(2000));
    assert_eq!(fake.acked().len(), 1000);
    let batches = fake.count(ApiKey::Produce);
    assert!((95..=210).contains(&batches), "{batches} batches for a second of 1,000 messages");
}

#[test]
fn a_message_waits_for_its_topic_and_fails_after_max_block() {
    let mut fake = Fake::new(1, 1);
    fake.topic_exists = false;
    let mut shop = process(spec(&[("max.block.ms", "2000")]));
    fake.start(&mut shop);
    fake.run(&mut shop, ms(1900));
    assert!(fake.failed().is_empty());
    fake.run(&mut shop, ms(3000));
    let text = "Topic t not present in metadata after 2000 ms.";
    assert_eq!(fake.failed(), vec![(0, Fate::Failed, "REQUEST_TIMED_OUT", text.into())]);
    // The application is blocked meanwhile: what was due is made up for once the topic is there.
    fake.topic_exists = true;
    fake.run(&mut shop, ms(6000));
    assert_eq!(fake.acked().iter().map(|acked| acked.0).collect::<Vec<_>>(), (1..10).collect::<Vec<_>>());
}

#[test]
fn refused_batches_are_sent_again_with_backoff_and_in_the_end_acknowledged_once() {
    let mut fake = Fake::new(1, 1);
    fake.rule = falls(&[
        Fall::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
        Fall::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
        Fall::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
    ]);
    let mut shop = process(ProducerSpec { count: Some(1), ..spec(&[]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(5000));
    assert_eq!(fake.acked(), vec![(0, 0, 0)]);
    let sent: Vec<u64> = fake
        .seen
        .iter()
        .filter(|seen| seen.key == ApiKey::Produce)
        .map(|seen| seen.at.0 / 1_000_000)
        .collect();
    assert_eq!(sent.len(), 4);
    for (i, term) in [100, 200, 400].into_iter().enumerate() {
        let waited = sent[i + 1] - sent[i];
        assert!((term * 8 / 10..=term * 12 / 10 + 3).contains(&waited), "{waited} ms after attempt {i}");
    }
    let attempts: Vec<u32> = fake
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            ClientEvent::BatchSent { attempt, .. } => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, vec![1, 2, 3, 4]);
}

#[test]
fn a_lost_answer_and_a_retry_make_a_duplicate_without_idempotence() {
    let mut fake = Fake::new(1, 1);
    fake.rule = falls(&[Fall::DoAndBreak]);
    let config = [("enable.idempotence", "false")];
    let mut shop = process(ProducerSpec { count: Some(1), ..spec(&config) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(5000));
    assert_eq!(numbers(&fake.partitions[0].values()), vec![0, 0]);
    assert_eq!(fake.acked(), vec![(0, 1, 0)]);
}

#[test]
fn the_fate_of_what_is_given_up_depends_on_what_the_attempts_met() {
    use ErrorCode as E;
    let cases: &[(&[Fall], &str, Fate, &str)] = &[
        (&[Fall::Refuse(E::INVALID_RECORD)], "all", Fate::Failed, "INVALID_RECORD"),
        (&[Fall::Refuse(E::NOT_ENOUGH_REPLICAS); 9], "all", Fate::Failed, "REQUEST_TIMED_OUT"),
        (
            &[Fall::DoAndSay(E::NOT_ENOUGH_REPLICAS_AFTER_APPEND); 9],
            "all",
            Fate::Indefinite,
            "REQUEST_TIMED_OUT",
        ),
        (
            &[Fall::DoAndSay(E::NOT_ENOUGH_REPLICAS_AFTER_APPEND), Fall::Refuse(E::INVALID_RECORD)],
            "all",
            Fate::Indefinite,
            "INVALID_RECORD",
        ),
        (&[Fall::Break, Fall::Refuse(E::INVALID_RECORD)], "all", Fate::Indefinite, "INVALID_RECORD"),
        (
            &[Fall::Refuse(E::NOT_LEADER_OR_FOLLOWER), Fall::Refuse(E::INVALID_RECORD)],
            "1",
            Fate::Failed,
            "INVALID_RECORD",
        ),
        (
            &[Fall::Refuse(E::NOT_LEADER_OR_FOLLOWER), Fall::Refuse(E::INVALID_RECORD)],
            "all",
            Fate::Indefinite,
            "INVALID_RECORD",
        ),
    ];
    for &(script, acks, fate, error) in cases {
        let mut fake = Fake::new(1, 1);
        fake.rule = falls(script);
        let config = [("delivery.timeout.ms", "1500"), ("request.timeout.ms", "1000"), ("acks", acks)];
        let mut shop = process(ProducerSpec { count: Some(1), ..spec(&config) });
        fake.start(&mut shop);
        fake.run(&mut shop, ms(5000));
        let failed: Vec<_> = fake.failed().into_iter().map(|(n, fate, error, _)| (n, fate, error)).collect();
        assert_eq!(failed, vec![(0, fate, error)], "{script:?} with acks={acks}");
        assert!(fake.acked().is_empty());
    }
}

#[test]
fn what_never_left_expires_as_failed_and_what_was_sent_as_indefinite() {
    // The only broker dies before the producer could reach it.
    let mut fake = Fake::new(1, 1);
    let mut shop = process(spec(&[("delivery.timeout.ms", "4000"), ("request.timeout.ms", "1000")]));
    fake.start(&mut shop);
    fake.run(&mut shop, ms(35));
    fake.silent.push(1);
    fake.run(&mut shop, ms(20_000));
    let failed = fake.failed();
    let told: Vec<(u64, Fate)> = failed.iter().map(|&(n, fate, ..)| (n, fate)).collect();
    let acked = fake.acked().len() as u64;
    assert!(acked > 0 && acked < 10, "{acked}");
    assert_eq!(told.iter().map(|&(n, _)| n).collect::<Vec<_>>(), (acked..10).collect::<Vec<_>>());
    assert!(told.iter().any(|&(_, fate)| fate == Fate::Indefinite), "in flight when the broker fell silent");
    assert!(told.iter().any(|&(_, fate)| fate == Fate::Failed), "never sent");
    for (_, _, error, text) in failed {
        assert_eq!(error, "REQUEST_TIMED_OUT");
        assert!(text.contains("record(s) for t-0:40"), "{text}");
        assert!(text.ends_with(
            " ms has passed since batch creation. The request has not been sent, or no server response has been \
             received yet."
        ));
    }
}

#[test]
fn follows_the_leader_by_the_hint_of_the_answer_without_waiting() {
    let mut fake = Fake::new(3, 1);
    let mut shop = process(ProducerSpec { count: Some(100), ..spec(&[]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(500));
    fake.partitions[0].elect(2);
    let before = fake.now;
    fake.run(&mut shop, ms(560));
    let to_new =
        fake.seen.iter().find(|seen| seen.at > before && seen.node == 2 && seen.key == ApiKey::Produce);
    assert!(to_new.is_some(), "the new leader is sent to within 60 ms");
    fake.run(&mut shop, ms(3000));
    assert_eq!(fake.acked().len(), 100);
    let mut values = numbers(&fake.partitions[0].values());
    values.sort_unstable();
    assert_eq!(values, (0..100).collect::<Vec<_>>(), "none lost, none twice");
}

#[test]
fn moves_on_after_a_kill_once_the_metadata_names_another_leader() {
    let mut fake = Fake::new(3, 1);
    let mut shop = process(ProducerSpec { count: Some(1000), ..spec(&[]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(2003));
    fake.kill(1);
    fake.run(&mut shop, ms(8000));
    let before = fake.acked().len();
    assert!(before >= 199, "{before}");
    fake.partitions[0].elect(3);
    fake.run(&mut shop, ms(20_000));
    assert_eq!(fake.acked().len(), 1000);
    assert!(fake.failed().is_empty());
}

#[test]
fn one_request_in_flight_keeps_the_order_over_retries() {
    let mut fake = Fake::new(1, 1);
    fake.rule = falls(&[
        Fall::Answer,
        Fall::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
        Fall::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
    ]);
    let config = [("max.in.flight.requests.per.connection", "1")];
    let mut shop = process(ProducerSpec { count: Some(100), ..spec(&config) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(5000));
    assert_eq!(numbers(&fake.partitions[0].values()), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_batch_that_is_too_large_for_the_broker_is_split() {
    let mut fake = Fake::new(1, 1);
    fake.rule = falls(&[Fall::Refuse(ErrorCode::MESSAGE_TOO_LARGE)]);
    let rate = Rate { messages: 100_000, per: Nanos::from_secs(1) };
    let config = [("batch.size", "800"), ("compression.type", "gzip"), ("linger.ms", "100")];
    let mut shop = process(ProducerSpec { rate, count: Some(40), size: 100, ..spec(&config) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(5000));
    assert_eq!(fake.acked().len(), 40);
    let mut values = numbers(&fake.partitions[0].values());
    values.sort_unstable();
    assert_eq!(values, (0..40).collect::<Vec<_>>());
    assert!(fake.failed().is_empty());
}

#[test]
fn every_codec_arrives_whole() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let mut fake = Fake::new(1, 1);
        let mut shop = process(ProducerSpec { count: Some(50), ..spec(&[("compression.type", codec)]) });
        fake.start(&mut shop);
        fake.run(&mut shop, ms(2000));
        assert_eq!(numbers(&fake.partitions[0].values()), (0..50).collect::<Vec<_>>(), "{codec}");
    }
}

#[test]
fn acks_0_counts_as_acknowledged_without_an_offset() {
    let mut fake = Fake::new(1, 1);
    let mut shop = process(spec(&[("acks", "0")]));
    fake.start(&mut shop);
    fake.run(&mut shop, ms(1000));
    assert_eq!(fake.acked().len(), 10);
    assert!(fake.acked().iter().all(|&(_, offset, _)| offset == -1));
    assert_eq!(fake.partitions[0].end(), 10);
}

#[test]
fn keys_go_where_murmur2_says() {
    let mut fake = Fake::new(3, 3);
    let mut shop = process(ProducerSpec { keys: 4, count: Some(40), partition: None, ..spec(&[]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(2000));
    for (p, partition) in fake.partitions.iter().enumerate() {
        for number in numbers(&partition.values()) {
            let key = alloc::format!("k{}", number % 4);
            assert_eq!(super::partitioner::partition_for_key(key.as_bytes(), 3), p as i32);
        }
    }
    assert_eq!(fake.acked().len(), 40);
}

#[test]
fn keyless_messages_stick_to_a_partition_for_a_batch() {
    let mut fake = Fake::new(3, 3);
    let mut shop = process(ProducerSpec { partition: None, size: 80, count: Some(600), ..spec(&[]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(10_000));
    let mut acked = fake.acked();
    acked.sort_unstable();
    // 61 bytes of header for each one-record batch, as Kafka counts them: about 110 messages in a row.
    let mut runs = vec![1];
    for pair in acked.windows(2) {
        match pair[0].2 == pair[1].2 {
            true => *runs.last_mut().unwrap() += 1,
            false => runs.push(1),
        }
    }
    assert!(runs.iter().all(|&run| run >= 90), "{runs:?}");
    assert!(runs.len() > 1, "{runs:?}");
}

#[test]
fn a_full_buffer_blocks_and_then_refuses() {
    let mut fake = Fake::new(1, 1);
    let config = [
        ("buffer.memory", "16384"),
        ("batch.size", "8192"),
        ("max.block.ms", "3000"),
        ("delivery.timeout.ms", "60000"),
    ];
    let rate = Rate { messages: 1000, per: Nanos::from_secs(1) };
    let mut shop = process(ProducerSpec { rate, size: 1000, count: None, ..spec(&config) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(200));
    fake.silent.push(1);
    fake.run(&mut shop, ms(4000));
    let failed = fake.failed();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!((failed[0].1, failed[0].2), (Fate::Failed, "REQUEST_TIMED_OUT"));
    assert!(
        failed[0]
            .3
            .starts_with("Failed to allocate 8192 bytes within the configured max blocking time 3000 ms."),
        "{}",
        failed[0].3
    );
}

#[test]
fn a_record_that_is_too_large_is_refused_at_once() {
    let mut fake = Fake::new(1, 1);
    let mut shop =
        process(ProducerSpec { size: 2000, count: Some(1), ..spec(&[("max.request.size", "1000")]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(100));
    let failed = fake.failed();
    assert_eq!((failed[0].1, failed[0].2), (Fate::Failed, "MESSAGE_TOO_LARGE"));
    assert!(
        failed[0].3.ends_with(
            "bytes when serialized which is larger than 1000, which is the value of the max.request.size configuration."
        ),
        "{}",
        failed[0].3
    );
}

#[test]
fn stop_sends_what_lingers_and_then_exits() {
    let mut fake = Fake::new(1, 1);
    let mut shop = process(ProducerSpec { count: None, ..spec(&[("linger.ms", "10000")]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(500));
    assert_eq!(fake.acked().len(), 0);
    fake.stop(&mut shop);
    assert_eq!(fake.exit, None);
    fake.run(&mut shop, ms(600));
    assert_eq!(fake.exit, Some(0));
    assert_eq!(fake.acked().len(), 51);
}

#[test]
fn a_restarted_producer_goes_on_with_its_numbers() {
    let mut fake = Fake::new(1, 1);
    let mut shop = process(ProducerSpec { count: Some(30), first_message: 20, ..spec(&[]) });
    fake.start(&mut shop);
    fake.run(&mut shop, ms(1000));
    assert_eq!(numbers(&fake.partitions[0].values()), (20..30).collect::<Vec<_>>());
}

#[test]
fn answers_that_are_damaged_break_nothing() {
    for seed in 0..200 {
        let mut fake = Fake::new(2, 2);
        fake.mangle = Some(rng(seed));
        let mut shop = process(ProducerSpec { partition: None, count: Some(200), ..spec(&[]) });
        fake.start(&mut shop);
        fake.run(&mut shop, ms(3000));
        // Once the answers are whole again, everything gets its outcome.
        fake.mangle = None;
        fake.run(&mut shop, ms(200_000));
        let told = |fake: &Fake| fake.acked().len() + fake.failed().len();
        if told(&fake) < 200 {
            // A damaged answer may have said to leave the broker alone, at most for 25 days.
            fake.run(&mut shop, ms(26 * 24 * 3_600_000));
        }
        assert_eq!(told(&fake), 200, "seed {seed}");
    }
}

#[test]
fn the_same_seed_puts_out_the_same_and_another_does_not() {
    let run = |seed: u64| {
        let mut fake = Fake::new(3, 3);
        let spec = ProducerSpec { partition: None, count: Some(500), ..spec(&[("batch.size", "300")]) };
        let mut shop = Process::Producer(Box::new(ProducerClient::new(spec, rng(seed)).unwrap()));
        fake.start(&mut shop);
        fake.run(&mut shop, ms(2000));
        fake.kill(2);
        fake.run(&mut shop, ms(3000));
        fake.partitions[1].elect(3);
        // A clone goes on as the original does.
        let mut clone = shop.clone();
        drop(core::mem::replace(&mut shop, clone.clone()));
        fake.run(&mut clone, ms(10_000));
        fake.trace
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

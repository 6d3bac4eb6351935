//! Connections: handshake, time-outs, backoff.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use wire::drive::{Instant, Nanos};
use wire::frame::encode_response;
use wire::messages::produce_request::ProduceRequest;
use wire::messages::produce_response::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use wire::{ApiKey, Message};

use crate::event::ClientEvent;
use crate::io::Process;
use crate::mutant::Mutants;
use crate::testing::{Fake, TOPIC_ID, bootstrap, ms, rng, settings, topic};
use crate::workload::{ProducerClient, ProducerSpec, Rate};

fn producer(config: &[(&str, &str)]) -> Process {
    let spec = ProducerSpec {
        name: "shop".into(),
        bootstrap: bootstrap(),
        topic: topic(),
        rate: Rate { messages: 10, per: Nanos::from_secs(1) },
        count: None,
        keys: 0,
        size: 20,
        partition: Some(0),
        first_message: 0,
        config: settings(config),
        mutants: Mutants::NONE,
    };
    Process::Producer(Box::new(ProducerClient::new(spec, rng(1)).unwrap()))
}

fn warnings(fake: &Fake, text: &str) -> Vec<Instant> {
    let is =
        |event: &ClientEvent| matches!(event, ClientEvent::Warning { text: told } if told.contains(text));
    fake.events.iter().filter(|(_, event)| is(event)).map(|&(at, _)| at).collect()
}

#[test]
fn begins_with_api_versions_and_takes_the_latest_common_version() {
    let mut fake = Fake::new(1, 1);
    fake.versions.insert(ApiKey::Metadata, (0, 9));
    fake.versions.insert(ApiKey::Produce, (0, 11));
    let mut shop = producer(&[("enable.idempotence", "false")]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(1000));
    let first: Vec<_> = fake.seen.iter().take(2).map(|seen| (seen.key, seen.version)).collect();
    assert_eq!(first, [(ApiKey::ApiVersions, 4), (ApiKey::Metadata, 9)]);
    let produce = fake.seen.iter().find(|seen| seen.key == ApiKey::Produce).unwrap();
    assert_eq!(produce.version, 11);
    assert!(!fake.acked().is_empty());
}

#[test]
fn falls_back_to_the_version_of_api_versions_that_the_broker_has() {
    let mut fake = Fake::new(1, 1);
    fake.versions.insert(ApiKey::ApiVersions, (0, 2));
    let mut shop = producer(&[]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(1000));
    let asked: Vec<_> = fake.seen.iter().take(3).map(|seen| (seen.key, seen.version)).collect();
    assert_eq!(asked[..2], [(ApiKey::ApiVersions, 4), (ApiKey::ApiVersions, 2)]);
    assert!(!fake.acked().is_empty());
}

#[test]
fn a_broker_that_refuses_is_left_alone_for_longer_and_longer() {
    let mut fake = Fake::new(1, 1);
    fake.down.push(1);
    let mut shop = producer(&[("enable.idempotence", "false")]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(20_000));
    let at = warnings(&fake, "could not be established");
    // The reconnect backoff and that of the metadata, which is what the connection is wanted for.
    let waits: Vec<u64> = at.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect();
    for (waited, term) in waits.iter().zip([100, 200, 400, 800, 1000, 1000]) {
        let bounds = term * 8 / 10..=(term * 12 / 10).min(1000) + 2;
        assert!(bounds.contains(waited), "{waits:?}");
    }
    fake.down.clear();
    fake.run(&mut shop, ms(25_000));
    assert!(fake.acked().len() > 200, "all is made up for");
}

#[test]
fn a_connection_that_hangs_is_given_up() {
    let mut fake = Fake::new(1, 1);
    fake.silent.push(1);
    let mut shop = producer(&[]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(60_000));
    let at = warnings(&fake, "due to socket connection setup timeout");
    assert!(at[0] >= ms(8000) && at[0] <= ms(12_000), "{at:?}");
    let second = at[1].since(at[0]).as_millis();
    assert!((16_000..25_100).contains(&second), "{at:?}");
}

#[test]
fn a_request_that_is_not_answered_closes_the_connection() {
    let mut fake = Fake::new(1, 1);
    let mut shop = producer(&[("request.timeout.ms", "3000")]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(1000));
    fake.silent.push(1);
    fake.run(&mut shop, ms(4500));
    let at = warnings(&fake, "Disconnecting from node 1 due to request timeout.");
    assert!(at.len() == 1 && at[0] >= ms(4000) && at[0] <= ms(4200), "{at:?}");
}

#[test]
fn keeps_no_more_in_flight_than_allowed() {
    let mut fake = Fake::new(1, 1);
    let mut shop = producer(&[("max.in.flight.requests.per.connection", "3"), ("linger.ms", "0")]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(950));
    fake.silent.push(1);
    let before = fake.events.len();
    fake.run(&mut shop, ms(9000));
    let sent =
        fake.events[before..].iter().filter(|(_, event)| matches!(event, ClientEvent::BatchSent { .. }));
    assert_eq!(sent.count(), 3);
}

#[test]
fn a_client_whose_brokers_are_all_gone_begins_again_at_its_bootstrap_servers() {
    let mut fake = Fake::new(2, 1);
    let mut shop = producer(&[("metadata.recovery.rebootstrap.trigger.ms", "2000")]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(1000));
    fake.kill(1);
    fake.kill(2);
    fake.run(&mut shop, ms(5000));
    assert!(!warnings(&fake, "Rebootstrapping").is_empty());
    fake.down.clear();
    let before = fake.acked().len();
    fake.run(&mut shop, ms(9000));
    assert!(fake.acked().len() > before + 20);
}

#[test]
fn a_broker_that_says_so_is_left_alone() {
    let mut fake = Fake::new(1, 1);
    let mut answered = 0;
    let handler = move |version, correlation, r: &mut wire::Reader<'_>| {
        ProduceRequest::decode(r, version).unwrap();
        answered += 1;
        let part = PartitionProduceResponse { base_offset: answered, ..PartitionProduceResponse::default() };
        let topic = TopicProduceResponse {
            topic_id: TOPIC_ID,
            partition_responses: vec![part],
            ..TopicProduceResponse::default()
        };
        // The third answer tells of three seconds.
        let throttle_time_ms = if answered == 3 { 3000 } else { 0 };
        let response =
            ProduceResponse { responses: vec![topic], throttle_time_ms, ..ProduceResponse::default() };
        Some(encode_response(ApiKey::Produce, version, correlation, &response).unwrap())
    };
    fake.handlers.insert(ApiKey::Produce, Box::new(handler));
    let mut shop = producer(&[("enable.idempotence", "false"), ("metadata.max.age.ms", "1000")]);
    fake.start(&mut shop);
    fake.run(&mut shop, ms(6000));
    let at: Vec<Instant> =
        fake.seen.iter().filter(|seen| seen.key == ApiKey::Produce).map(|seen| seen.at).collect();
    let waited = at[3].since(at[2]).as_millis();
    assert!((3000..3010).contains(&waited), "{waited} ms");
    let between = |seen: &&crate::testing::Seen| seen.at > at[2] && seen.at < at[3];
    assert_eq!(fake.seen.iter().find(between), None, "nor is anything else asked of it");
    assert!(at.len() > 15, "then it goes on as before");
}

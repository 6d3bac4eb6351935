//! Transactions over nodes that work together: stories of one producer, and seeds in which anything dies at any moment.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use alloc::{format, string};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use wire::batch::{BatchBuilder, BatchOptions, Batches};
use wire::error::ErrorCode;
use wire::frame::ResponseHeader;
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::*;
use wire::{Message, Reader, Request, Rope};

use super::lab::Lab;
use crate::coordinator::coordinator_partition;
use crate::coordinator::transaction::TransactionState;
use crate::event::Event;
use crate::io::Listener;

const STATE: &str = "__transaction_state";
const DATA: &str = "purchases";

/// A cluster with the coordinator's topic and one for data, both of three replicas.
fn cluster(brokers: i32, state_partitions: i32, data_partitions: i32) -> Lab {
    let mut lab = Lab::new(brokers, 1, &[]);
    lab.start_all();
    lab.run_until(20_000, "every node serves", Lab::all_running);
    for (name, partitions) in [(STATE, state_partitions), (DATA, data_partitions)] {
        let topic = create_topics_request::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: brokers.min(3) as i16,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
        let error = ask(&mut lab, 1, 7, &request, |r| r.topics[0].error_code);
        assert_eq!(error, Some(0), "{name}");
    }
    lab.run(2_000);
    lab
}

/// One request over a connection of its own; nothing when the broker is down or dies before it answers.
fn ask<'a, R: Request<'a>, T>(
    lab: &mut Lab,
    broker: i32,
    version: i16,
    request: &R,
    look: impl FnOnce(R::Response<'_>) -> T,
) -> Option<T> {
    let name = format!("broker-{broker}");
    let listens = lab.is_up(&name) && lab.node(&name).listeners().next().is_some();
    if !listens {
        lab.run(100);
        return None;
    }
    let mut client = lab.dial(&name, Listener::Broker);
    lab.send(&mut client, version, request);
    let frame = lab.answer(&client, 40_000)?;
    let mut reader = Reader::new(&frame);
    ResponseHeader::decode(&mut reader, R::KEY, version).unwrap();
    Some(look(R::Response::decode(&mut reader, version).unwrap()))
}

/// Who leads a partition, as any broker that is up sees it.
fn leader(lab: &Lab, topic: &str, partition: i32) -> i32 {
    let up = (1..=3).map(|id| format!("broker-{id}")).filter(|name| lab.is_up(name));
    let mut leaders = up.filter_map(|name| {
        let image = lab.node(&name).image();
        Some(image.topics.topic_named(topic)?.partitions.get(&partition)?.leader)
    });
    leaders.rfind(|leader| *leader > 0).unwrap_or(1)
}

fn coordinator(lab: &Lab, id: &str) -> i32 {
    let up = (1..=3).map(|n| format!("broker-{n}")).find(|name| lab.is_up(name)).unwrap();
    let partition = coordinator_partition(lab.node(&up).image(), STATE, id).unwrap();
    leader(lab, STATE, partition)
}

/// A producer of transactions of version 2, which tries again as clients do.
#[derive(Clone, Debug)]
struct Producer {
    id: &'static str,
    timeout_ms: i32,
    producer_id: i64,
    epoch: i16,
    sequences: BTreeMap<i32, i32>,
    /// Of Produce: 12 for transactions of version 2, less for older ones.
    version: i16,
}

impl Producer {
    fn new(id: &'static str) -> Producer {
        let sequences = BTreeMap::new();
        Producer { id, timeout_ms: 20_000, producer_id: -1, epoch: -1, sequences, version: 12 }
    }

    fn init_once(&self, lab: &mut Lab) -> Result<(i64, i16), ErrorCode> {
        let request = InitProducerIdRequest {
            transactional_id: Some(self.id.into()),
            transaction_timeout_ms: self.timeout_ms,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let to = coordinator(lab, self.id);
        let look = |r: InitProducerIdResponse| match ErrorCode(r.error_code) {
            ErrorCode::NONE => Ok((r.producer_id, r.producer_epoch)),
            error => Err(error),
        };
        ask(lab, to, 5, &request, look).unwrap_or(Err(ErrorCode::NETWORK_EXCEPTION))
    }

    /// InitProducerId until it is answered.
    fn init(&mut self, lab: &mut Lab) {
        for _ in 0..600 {
            match self.init_once(lab) {
                Ok((producer_id, epoch)) => {
                    (self.producer_id, self.epoch) = (producer_id, epoch);
                    self.sequences.clear();
                    return;
                }
                Err(
                    ErrorCode::CONCURRENT_TRANSACTIONS
                    | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
                    | ErrorCode::COORDINATOR_NOT_AVAILABLE
                    | ErrorCode::NOT_COORDINATOR
                    | ErrorCode::NETWORK_EXCEPTION,
                ) => lab.run(100),
                Err(error) => panic!("{}: {}", self.id, error.name()),
            }
        }
        panic!("{} has no producer id after a minute", self.id);
    }

    fn produce_once(&self, lab: &mut Lab, partition: i32, value: &str) -> Result<i64, ErrorCode> {
        let mut builder = BatchBuilder::new();
        builder.append(1_795_209_600_000, None, Some(value.as_bytes()), &[]);
        let options = BatchOptions {
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            base_sequence: self.sequences.get(&partition).copied().unwrap_or(0),
            transactional: true,
            ..Default::default()
        };
        let records = Some(Rope::from(builder.finish(&codecs::StdCodecs, &options).unwrap()));
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: DATA.into(),
                partition_data: vec![PartitionProduceData { index: partition, records }],
                ..Default::default()
            }],
            transactional_id: Some(self.id.into()),
        };
        let to = leader(lab, DATA, partition);
        let look = |r: ProduceResponse<'_>| {
            let part = &r.responses[0].partition_responses[0];
            match ErrorCode(part.error_code) {
                ErrorCode::NONE => Ok(part.base_offset),
                error => Err(error),
            }
        };
        ask(lab, to, self.version, &request, look).unwrap_or(Err(ErrorCode::NETWORK_EXCEPTION))
    }

    /// Until it is appended, or only another epoch helps.
    fn produce(&mut self, lab: &mut Lab, partition: i32, value: &str) -> Result<i64, ErrorCode> {
        for _ in 0..600 {
            match self.produce_once(lab, partition, value) {
                Ok(offset) => {
                    *self.sequences.entry(partition).or_default() += 1;
                    return Ok(offset);
                }
                Err(
                    ErrorCode::NOT_LEADER_OR_FOLLOWER
                    | ErrorCode::NOT_ENOUGH_REPLICAS
                    | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
                    | ErrorCode::REQUEST_TIMED_OUT
                    | ErrorCode::CONCURRENT_TRANSACTIONS
                    | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                    | ErrorCode::NETWORK_EXCEPTION,
                ) => lab.run(50),
                Err(error) => return Err(error),
            }
        }
        Err(ErrorCode::REQUEST_TIMED_OUT)
    }

    fn add_partitions(&self, lab: &mut Lab, partitions: &[i32]) {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.into(),
            v3_and_below_producer_id: self.producer_id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![add_partitions_to_txn_request::AddPartitionsToTxnTopic {
                name: DATA.into(),
                partitions: partitions.to_vec(),
            }],
            ..Default::default()
        };
        let to = coordinator(lab, self.id);
        let added = ask(lab, to, 3, &request, |r| {
            let results = &r.results_by_topic_v3_and_below[0].results_by_partition;
            results.iter().all(|result| result.partition_error_code == 0)
        });
        assert_eq!(added, Some(true));
    }

    fn end_once(&self, lab: &mut Lab, commit: bool) -> Result<(i64, i16), ErrorCode> {
        let request = EndTxnRequest {
            transactional_id: self.id.into(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            committed: commit,
        };
        let to = coordinator(lab, self.id);
        let bumps = self.version >= 12;
        let look = |r: EndTxnResponse| match ErrorCode(r.error_code) {
            ErrorCode::NONE if bumps => Ok((r.producer_id, r.producer_epoch)),
            ErrorCode::NONE => Ok((self.producer_id, self.epoch)),
            error => Err(error),
        };
        ask(lab, to, if bumps { 5 } else { 4 }, &request, look).unwrap_or(Err(ErrorCode::NETWORK_EXCEPTION))
    }

    fn end(&mut self, lab: &mut Lab, commit: bool) -> Result<(), ErrorCode> {
        for _ in 0..600 {
            match self.end_once(lab, commit) {
                Ok((producer_id, epoch)) => {
                    if epoch != self.epoch {
                        self.sequences.clear();
                    }
                    (self.producer_id, self.epoch) = (producer_id, epoch);
                    return Ok(());
                }
                Err(
                    ErrorCode::CONCURRENT_TRANSACTIONS
                    | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
                    | ErrorCode::COORDINATOR_NOT_AVAILABLE
                    | ErrorCode::NOT_COORDINATOR
                    | ErrorCode::NETWORK_EXCEPTION,
                ) => lab.run(50),
                Err(error) => return Err(error),
            }
        }
        Err(ErrorCode::REQUEST_TIMED_OUT)
    }
}

/// What a consumer reads from a partition, by its isolation.
fn read(lab: &mut Lab, partition: i32, committed_only: bool) -> Vec<String> {
    let mut values = Vec::new();
    let mut offset = 0;
    loop {
        let request = FetchRequest {
            replica_id: -1,
            max_bytes: i32::MAX,
            isolation_level: i8::from(committed_only),
            session_epoch: -1,
            topics: vec![fetch_request::FetchTopic {
                topic: DATA.into(),
                partitions: vec![fetch_request::FetchPartition {
                    partition,
                    current_leader_epoch: -1,
                    fetch_offset: offset,
                    partition_max_bytes: 400,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let to = leader(lab, DATA, partition);
        let next = ask(lab, to, 11, &request, |r| {
            let part = &r.responses[0].partitions[0];
            assert_eq!(ErrorCode(part.error_code), ErrorCode::NONE);
            let mut aborted: Vec<(i64, i64)> =
                part.aborted_transactions.iter().flatten().map(|t| (t.first_offset, t.producer_id)).collect();
            aborted.sort_unstable();
            take(part.records.as_ref().unwrap(), aborted, offset, &mut values)
        });
        let next = next.expect("the leader lives");
        if next == offset {
            return values;
        }
        offset = next;
    }
}

/// A consumer's way to leave out what was aborted (`CompletedFetch`). The offset to go on from.
fn take(records: &Rope, mut aborted: Vec<(i64, i64)>, mut offset: i64, values: &mut Vec<String>) -> i64 {
    let mut inside: BTreeSet<i64> = BTreeSet::new();
    for batch in Batches::new(records).map_while(Result::ok) {
        let header = batch.header;
        while aborted.first().is_some_and(|(first, _)| *first <= header.last_offset()) {
            inside.insert(aborted.remove(0).1);
        }
        offset = header.next_offset();
        if header.is_control() {
            // The marker of an aborted transaction ends what is left out.
            inside.remove(&header.producer_id);
            continue;
        }
        if header.is_transactional() && inside.contains(&header.producer_id) {
            continue;
        }
        let records = batch.records(&codecs::StdCodecs, 1 << 20).unwrap();
        for record in &records {
            values.push(string::String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    offset
}

fn states(lab: &Lab, id: &str) -> Vec<(&'static str, i16)> {
    let of = |event: &Event| match event {
        Event::TransactionStateChanged { transactional_id, to, producer_epoch, .. }
            if **transactional_id == *id =>
        {
            Some((*to, *producer_epoch))
        }
        _ => None,
    };
    lab.events.iter().filter_map(|(_, _, event)| of(event)).collect()
}

fn state(lab: &Lab, id: &str) -> Option<TransactionState> {
    let coordinator = format!("broker-{}", coordinator(lab, id));
    let transactions = lab.node(&coordinator).transactions()?.transactions();
    transactions.filter(|(known, _)| ***known == *id).map(|(_, state)| state).next()
}

#[test]
fn a_transaction_goes_kafkas_way_through_its_states_and_is_seen_when_it_is_committed() {
    let mut lab = cluster(3, 3, 2);
    let mut producer = Producer::new("shop-tx");
    producer.init(&mut lab);
    assert_eq!((producer.producer_id % 1000, producer.epoch), (0, 0));
    producer.produce(&mut lab, 0, "a").unwrap();
    producer.produce(&mut lab, 1, "b").unwrap();
    lab.run(100);
    assert_eq!(read(&mut lab, 0, true), [""; 0]);
    assert_eq!(read(&mut lab, 0, false), ["a"]);
    producer.end(&mut lab, true).unwrap();
    assert_eq!(producer.epoch, 1, "every end raises the epoch");
    lab.run(500);
    assert_eq!((read(&mut lab, 0, true), read(&mut lab, 1, true)), (vec!["a".into()], vec!["b".into()]));
    producer.produce(&mut lab, 0, "c").unwrap();
    producer.end(&mut lab, false).unwrap();
    lab.run(500);
    assert_eq!(read(&mut lab, 0, true), ["a"]);
    assert_eq!(read(&mut lab, 0, false), ["a", "c"]);
    let seen: Vec<_> = states(&lab, "shop-tx");
    let want = [
        ("Empty", 0),
        ("Ongoing", 0),
        ("Ongoing", 0),
        ("PrepareCommit", 1),
        ("CompleteCommit", 1),
        ("Ongoing", 1),
        ("PrepareAbort", 2),
        ("CompleteAbort", 2),
    ];
    assert_eq!(seen, want);
    lab.check_invariants();
}

#[test]
fn an_end_that_comes_again_is_recognised_by_its_epoch() {
    let mut lab = cluster(3, 1, 1);
    let mut producer = Producer::new("shop-tx");
    producer.init(&mut lab);
    producer.produce(&mut lab, 0, "a").unwrap();
    let before = producer.clone();
    producer.end(&mut lab, true).unwrap();
    lab.run(500);
    assert_eq!(before.end_once(&mut lab, true), Ok((producer.producer_id, 1)), "its answer was lost");
    assert_eq!(before.end_once(&mut lab, false), Err(ErrorCode::INVALID_TXN_STATE));
    assert_eq!(producer.end_once(&mut lab, true), Err(ErrorCode::INVALID_TXN_STATE), "nothing was begun");
    assert_eq!(producer.end_once(&mut lab, false), Ok((producer.producer_id, 2)), "an empty abort");
    lab.run(500);
    assert_eq!(before.produce_once(&mut lab, 0, "late"), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    let unknown = Producer { producer_id: 77, ..producer.clone() };
    assert_eq!(unknown.end_once(&mut lab, false), Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING));
}

#[test]
fn the_second_producer_of_an_id_fences_the_first_and_aborts_what_it_left() {
    let mut lab = cluster(3, 1, 1);
    let mut first = Producer::new("shop-tx");
    first.init(&mut lab);
    first.produce(&mut lab, 0, "torn").unwrap();
    let mut second = Producer::new("shop-tx");
    assert_eq!(second.init_once(&mut lab), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
    second.init(&mut lab);
    assert!(second.epoch > first.epoch);
    assert_eq!(first.produce_once(&mut lab, 0, "zombie"), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    assert_eq!(first.end_once(&mut lab, true), Err(ErrorCode::PRODUCER_FENCED));
    second.produce(&mut lab, 0, "whole").unwrap();
    second.end(&mut lab, true).unwrap();
    lab.run(500);
    assert_eq!(read(&mut lab, 0, true), ["whole"]);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut lab = cluster(3, 1, 1);
    let mut producer = Producer::new("shop-tx");
    producer.timeout_ms = 5_000;
    producer.init(&mut lab);
    producer.produce(&mut lab, 0, "slow").unwrap();
    lab.run(4_000);
    assert_eq!(state(&lab, "shop-tx"), Some(TransactionState::Ongoing));
    // The coordinator looks every ten seconds.
    lab.run(12_000);
    assert_eq!(state(&lab, "shop-tx"), Some(TransactionState::CompleteAbort));
    assert_eq!(producer.end_once(&mut lab, true), Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(producer.produce_once(&mut lab, 0, "late"), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    assert_eq!(read(&mut lab, 0, true), [""; 0]);
}

#[test]
fn a_new_coordinator_completes_what_was_decided() {
    let mut lab = cluster(3, 1, 2);
    let mut producer = Producer::new("shop-tx");
    producer.init(&mut lab);
    producer.produce(&mut lab, 0, "a").unwrap();
    producer.produce(&mut lab, 1, "b").unwrap();
    let coordinator_before = coordinator(&lab, "shop-tx");
    let request = EndTxnRequest {
        transactional_id: producer.id.into(),
        producer_id: producer.producer_id,
        producer_epoch: producer.epoch,
        committed: true,
    };
    let name = format!("broker-{coordinator_before}");
    let mut client = lab.dial(&name, Listener::Broker);
    lab.send(&mut client, 5, &request);
    let decided = |lab: &Lab| states(lab, "shop-tx").last().is_some_and(|(to, _)| *to == "PrepareCommit");
    lab.run_until(5_000, "the decision is committed", decided);
    lab.kill(&name);
    lab.run(15_000);
    assert_ne!(coordinator(&lab, "shop-tx"), coordinator_before);
    assert_eq!(state(&lab, "shop-tx"), Some(TransactionState::CompleteCommit));
    assert_eq!((read(&mut lab, 0, true), read(&mut lab, 1, true)), (vec!["a".into()], vec!["b".into()]));
    producer.end(&mut lab, true).unwrap();
    assert_eq!(producer.epoch, 1, "the decision was taken once");
}

/// A producer of before KIP-890's second part adds partitions itself, and keeps its epoch.
#[test]
fn an_older_producer_adds_partitions_itself_and_is_verified() {
    let mut lab = cluster(3, 1, 2);
    let mut producer = Producer::new("shop-tx");
    producer.version = 11;
    producer.init(&mut lab);
    for (version, code) in [(11, ErrorCode::TRANSACTION_ABORTABLE), (10, ErrorCode::INVALID_TXN_STATE)] {
        producer.version = version;
        let unknown = producer.produce_once(&mut lab, 0, "not added");
        assert_eq!(unknown, Err(code), "Produce {version} before AddPartitionsToTxn");
    }
    for commit in [true, false] {
        producer.add_partitions(&mut lab, &[0, 1]);
        producer.produce(&mut lab, 0, &format!("first {commit}")).unwrap();
        producer.produce(&mut lab, 1, &format!("second {commit}")).unwrap();
        producer.end(&mut lab, commit).unwrap();
        lab.run(500);
        assert_eq!(producer.epoch, 0, "the epoch stays");
    }
    assert_eq!(
        (read(&mut lab, 0, true), read(&mut lab, 1, true)),
        (vec!["first true".into()], vec!["second true".into()])
    );
    let late = producer.produce_once(&mut lab, 0, "late");
    assert_eq!(late, Err(ErrorCode::INVALID_TXN_STATE), "it would hang for ever");
    assert_eq!(states(&lab, "shop-tx").last(), Some(&("CompleteAbort", 0)));
}

/// What is known of one transaction: its two values, whether its commit was asked for, and what was answered.
struct Outcome {
    value: String,
    commit: bool,
    answered: Option<bool>,
}

/// Crashes of brokers at random instants, of which one coordinates and all lead: afterwards no transaction hangs, each
/// is seen in both partitions or in none, those that were acknowledged are seen, and the last stable offset is the end.
fn explore(seed: u64) {
    let mut lab = cluster(3, 2, 2);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut chance = move |of: u32| rng.next_u32() % of;
    let mut producer = Producer::new(["shop-tx", "till-tx", "stock-tx"][(seed % 3) as usize]);
    producer.init(&mut lab);
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut down: Option<(String, u64)> = None;
    for n in 0..12 {
        if let Some((name, since)) = &down
            && lab.ms() > since + 12_000
        {
            revive(&mut lab, name);
            down = None;
        }
        let value = format!("{n}");
        let commit = chance(4) > 0;
        let mut answered = None;
        if down.is_none() && chance(2) == 0 {
            let name = format!("broker-{}", 1 + chance(3));
            // Within what a transaction takes here, a little more than twenty milliseconds.
            lab.doom(&name, u64::from(chance(30_000)));
            down = Some((name, lab.ms()));
        }
        let mut done = producer.produce(&mut lab, 0, &value).map(|_| ());
        if done.is_ok() {
            done = producer.produce(&mut lab, 1, &value).map(|_| ());
        }
        if done.is_ok() {
            done = producer.end(&mut lab, commit);
            answered = Some(done.is_ok());
        }
        outcomes.push(Outcome { value, commit, answered });
        if done.is_err() {
            producer.init(&mut lab);
        }
    }
    if let Some((name, _)) = down {
        revive(&mut lab, &name);
    }
    lab.run(60_000);
    lab.check_invariants();
    nothing_hangs(&lab, seed);
    let seen: Vec<BTreeSet<String>> =
        (0..2).map(|partition| read(&mut lab, partition, true).into_iter().collect()).collect();
    for Outcome { value, commit, answered } in outcomes {
        let (first, second) = (seen[0].contains(&value), seen[1].contains(&value));
        assert_eq!(first, second, "seed {seed}: transaction {value} is torn");
        match (commit, answered) {
            (true, Some(true)) => assert!(first, "seed {seed}: {value} was committed"),
            (false, _) | (true, None) => assert!(!first, "seed {seed}: {value} was not committed"),
            (true, Some(false)) => {}
        }
    }
}

/// Starts who died; one whose time had not come is spared.
fn revive(lab: &mut Lab, name: &str) {
    lab.spare();
    if !lab.is_up(name) {
        lab.start(name);
    }
}

fn nothing_hangs(lab: &Lab, seed: u64) {
    for broker in 1..=3 {
        let replicas = lab.node(&format!("broker-{broker}")).replicas().unwrap();
        for view in replicas.partitions().filter(|view| &**view.topic == DATA) {
            let (log, name) = (view.log.unwrap(), format!("{}-{}", view.topic, view.partition));
            let open: Vec<(i64, i64)> = log.open_transactions().collect();
            assert_eq!(open, [], "seed {seed}: {name} of broker {broker} has an open transaction");
            assert_eq!(log.last_stable_offset(), log.log_end_offset(), "seed {seed}: {name} of {broker}");
        }
    }
}

#[test]
fn whoever_dies_no_transaction_hangs_or_is_torn() {
    for seed in 0..40 {
        explore(seed);
    }
}

//! What a scenario's producer and consumer allocate over their life, against the scripted cluster of the crate's tests:
//! for the benchmark and the test of that. Only what `Process::handle` allocates counts, with every event told.

#[allow(dead_code, reason = "the crate's tests use all of it")]
#[path = "../../src/testing.rs"]
mod testing;

use allocation_counter::measure;
use client::io::{Input, Outputs, Process};
use client::mutant::Mutants;
use client::workload::{
    Assignment, Commit, ConsumerClient, ConsumerSpec, From, Names, ProducerClient, ProducerSpec, Rate,
};
use client::{ClientEvent, TopicPartition};
use testing::{Fake, Machine, bootstrap, ms, rng, settings, topic};
use wire::drive::{Instant, Nanos, Now};
use wire::{ApiKey, Codecs};

/// A process whose allocations are counted.
struct Counted {
    process: Process,
    allocations: u64,
}

impl Machine for Counted {
    fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        let work = || self.process.handle(now, input, codecs, out);
        self.allocations += measure(work).count_total;
    }

    fn deadline(&self) -> Option<Instant> {
        self.process.deadline()
    }
}

/// What a client allocated, and in how many batches or polls its records came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// From its start to the end of its work, handshake and metadata included.
    pub allocations: u64,
    /// Batches that were acknowledged, or polls.
    pub parts: u64,
}

fn live(fake: &mut Fake, process: Process, is_part: fn(&ClientEvent) -> bool) -> Life {
    let mut counted = Counted { process, allocations: 0 };
    fake.start(&mut counted);
    fake.run(&mut counted, ms(3_000));
    let parts = fake.events.iter().filter(|(_, event)| is_part(event)).count() as u64;
    Life { allocations: counted.allocations, parts }
}

/// A producer of so many records, which are all due at once.
pub fn produce(records: u64, batch_size: &str) -> Life {
    let spec = ProducerSpec {
        name: "shop".into(),
        bootstrap: bootstrap(),
        topic: topic(),
        rate: Rate { messages: 1_000_000_000, per: Nanos::from_secs(1) },
        count: Some(records),
        keys: 10,
        size: 20,
        partition: Some(0),
        first_message: 0,
        config: settings(&[("batch.size", batch_size)]),
        mutants: Mutants::NONE,
    };
    let mut fake = Fake::new(1, 1);
    let process = Process::Producer(Box::new(ProducerClient::new(spec, rng(1)).expect("it is right")));
    let life = live(&mut fake, process, |event| matches!(event, ClientEvent::BatchAcked { .. }));
    assert_eq!(fake.acked().len() as u64, records);
    assert!(fake.count(ApiKey::Produce) as u64 <= life.parts);
    life
}

/// A consumer of so many records, which are one batch.
pub fn consume(records: u64, max_poll_records: &str) -> Life {
    let partition = TopicPartition { topic: topic(), partition: 0 };
    let spec = ConsumerSpec {
        name: "billing".into(),
        bootstrap: bootstrap(),
        assignment: Assignment::Partitions(vec![partition]),
        from: From::Beginning,
        processing: Nanos::ZERO,
        commit: Commit::None,
        names: Names::new(vec!["shop".into()]),
        config: settings(&[("max.poll.records", max_poll_records)]),
        mutants: Mutants::NONE,
    };
    let mut fake = Fake::new(1, 1);
    let values: Vec<String> = (0..records).map(|n| format!("shop-{n}")).collect();
    fake.produce(0, &values.iter().map(String::as_str).collect::<Vec<_>>());
    let process = Process::Consumer(Box::new(ConsumerClient::new(spec, rng(1)).expect("it is right")));
    let life = live(&mut fake, process, |event| matches!(event, ClientEvent::Polled(_)));
    assert_eq!(fake.polled(0).len() as u64, records);
    life
}

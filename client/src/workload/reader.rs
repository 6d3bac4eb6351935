//! A reader in assign mode that reads topics from their start to what their end was, and exits.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Endpoint, Instant, Nanos, Now};
use wire::error::ErrorCode;

use super::Names;
use super::polled::Collector;
use crate::Rng;
use crate::config::{ConfigError, ConsumerConfig, Settings};
use crate::consumer::{Consumer, StartAt};
use crate::event::{ClientEvent, TopicPartition};
use crate::io::{Input, Output, Outputs};

/// What a reader reads.
#[derive(Clone, Debug)]
pub struct ReaderSpec {
    /// The client's name, also its `client.id`.
    pub name: Arc<str>,
    /// Where to begin.
    pub bootstrap: Vec<Endpoint>,
    /// The topics, all partitions of which are read.
    pub topics: Vec<Arc<str>>,
    /// The producers whose messages it may meet.
    pub names: Names,
    /// Kafka's consumer settings, by name; `isolation.level` is read_committed unless given.
    pub config: Settings,
}

/// A reader; exits with 0 when it has everything, with 1 when its consumer fails.
#[derive(Clone)]
pub struct ReaderClient {
    spec: ReaderSpec,
    consumer: Consumer,
    collector: Collector,
    /// The topics whose partitions are not known yet.
    unknown: Vec<Arc<str>>,
    /// The partitions that are not read to their end yet, and their end once it is known.
    left: BTreeMap<TopicPartition, Option<i64>>,
    started: bool,
    exited: bool,
    deadline: Option<Instant>,
}

impl ReaderClient {
    /// A reader that waits for [`Input::Start`].
    pub fn new(spec: ReaderSpec, rng: Rng) -> Result<ReaderClient, ConfigError> {
        let mut settings = spec.config.clone();
        settings.entry("isolation.level".into()).or_insert_with(|| "read_committed".into());
        let config = ConsumerConfig::parse(&settings)?;
        let consumer = Consumer::new(config, &spec.name, spec.bootstrap.clone(), rng);
        Ok(ReaderClient {
            collector: Collector::new(spec.names.clone()),
            unknown: spec.topics.clone(),
            spec,
            consumer,
            left: BTreeMap::new(),
            started: false,
            exited: false,
            deadline: None,
        })
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        if self.exited {
            return;
        }
        match input {
            Input::Start => {
                self.started = true;
                for topic in &self.spec.topics {
                    self.consumer.add_topic(topic);
                }
            }
            Input::Stop => return self.exit(0, out),
            _ => {}
        }
        self.consumer.handle(now, &input, out);
        self.assign_known();
        for (partition, end) in self.consumer.take_end_offsets() {
            if let Some(known) = self.left.get_mut(&partition) {
                *known = Some(end);
                out.event(|| ClientEvent::EndOffset { partition, end });
            }
        }
        while self.read(now, codecs, out) {
            self.consumer.drive(now, out);
            if !self.consumer.has_records() {
                self.find_ended(out);
                break;
            }
        }
        self.deadline = if self.exited { None } else { self.consumer.next_deadline() };
    }

    /// When it wants [`Input::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The partitions that it has not read to their end, and what their end is, if it is known: what it waits for.
    pub fn left(&self) -> impl Iterator<Item = (&TopicPartition, Option<i64>)> {
        self.left.iter().map(|(partition, end)| (partition, *end))
    }

    fn assign_known(&mut self) {
        let metadata = self.consumer.metadata();
        let is_known = |topic: &Arc<str>| {
            let index = metadata.topic_named(topic);
            index.is_some_and(|index| !metadata.topic(index).partitions.is_empty())
        };
        let (known, unknown) = core::mem::take(&mut self.unknown).into_iter().partition(is_known);
        self.unknown = unknown;
        let known: Vec<Arc<str>> = known;
        for topic in &known {
            for partition in super::partitions_of(self.consumer.metadata(), topic) {
                self.consumer.assign(&partition, StartAt::Beginning);
                self.left.insert(partition, None);
            }
        }
        if !known.is_empty() {
            self.consumer.ask_end_offsets();
        }
    }

    /// Whether it goes on.
    fn read(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) -> bool {
        while self.consumer.has_records() {
            let collector = &mut self.collector;
            let polled = self.consumer.poll(codecs, out, &mut |partition, record| {
                collector.take(partition, record);
            });
            match polled {
                Ok(0) => {}
                Ok(_) => drop(self.collector.tell(now.mono, Nanos::ZERO, out)),
                Err(error) => {
                    let (error, message) = (error.code.name(), error.message);
                    out.event(|| ClientEvent::ConsumerFailed { error, message });
                    self.exit(1, out);
                    return false;
                }
            }
        }
        true
    }

    fn find_ended(&mut self, out: &mut Outputs) {
        let consumer = &self.consumer;
        self.left.retain(|partition, end| {
            let (Some(end), Some(position)) = (*end, consumer.position(partition)) else { return true };
            if position >= end {
                let partition = partition.clone();
                out.event(|| ClientEvent::EndReached { partition, position });
            }
            position < end
        });
        // A topic that does not exist has nothing to read.
        let metadata = consumer.metadata();
        self.unknown.retain(|topic| {
            let index = metadata.topic_named(topic);
            index.is_none_or(|index| metadata.topic(index).error != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        });
        if self.started && self.left.is_empty() && self.unknown.is_empty() {
            self.exit(0, out);
        }
    }

    fn exit(&mut self, code: i32, out: &mut Outputs) {
        self.consumer.finish_close(out);
        if code == 0 {
            out.event(|| ClientEvent::ClientClosed);
        }
        out.items.push(Output::Exit { code });
        self.exited = true;
        self.deadline = None;
    }
}

//! A scenario's producer.

use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Endpoint, Instant, Nanos, Now};

use super::Rate;
use super::polled::{push_decimal, write_value};
use crate::Rng;
use crate::config::{ConfigError, ProducerConfig, Settings};
use crate::event::{ClientEvent, Made};
use crate::io::{Input, Output, Outputs};
use crate::metadata::TopicIndex;
use crate::mutant::Mutants;
use crate::net::sooner;
use crate::producer::{NewRecord, Producer, SendError};

/// Messages that become due within one of these are made together, at its end: an application's thread that sleeps
/// and then catches up. Slower producers make each message when it is due.
const TICK: Nanos = Nanos::from_millis(5);

/// What a scenario says about a producer.
#[derive(Clone, Debug)]
pub struct ProducerSpec {
    /// The client's name, also its `client.id`: values are `NAME-0`, `NAME-1`, ….
    pub name: Arc<str>,
    /// Where to begin.
    pub bootstrap: Vec<Endpoint>,
    /// The topic.
    pub topic: Arc<str>,
    /// How fast.
    pub rate: Rate,
    /// How many messages over all incarnations; then it flushes and idles.
    pub count: Option<u64>,
    /// How many distinct keys, 0 for none.
    pub keys: u32,
    /// The size of a value, in bytes; longer if the text is.
    pub size: usize,
    /// The partition, if not chosen by the partitioner.
    pub partition: Option<i32>,
    /// The number of the first message: after a restart, one above the last that was made.
    pub first_message: u64,
    /// Kafka's settings, by name.
    pub config: Settings,
    /// Bugs that are switched on.
    pub mutants: Mutants,
}

/// A scenario's producer.
#[derive(Clone)]
pub struct ProducerClient {
    spec: ProducerSpec,
    producer: Producer,
    topic: Option<TopicIndex>,
    start: Instant,
    /// Messages made in this incarnation; one that the producer has not taken yet counts.
    made: u64,
    /// When the message that the producer has not taken yet was made: `send` blocks.
    blocked_since: Option<Instant>,
    stopping: bool,
    exited: bool,
    deadline: Option<Instant>,
    value: Vec<u8>,
    key: Vec<u8>,
}

impl ProducerClient {
    /// A producer that waits for [`Input::Start`].
    pub fn new(spec: ProducerSpec, rng: Rng) -> Result<ProducerClient, ConfigError> {
        assert!(spec.rate.per > Nanos::ZERO, "a rate is per some time");
        let mut config = ProducerConfig::parse(&spec.config)?;
        config.common.mutants = spec.mutants;
        let producer = Producer::new(config, &spec.name, spec.bootstrap.clone(), rng);
        Ok(ProducerClient {
            spec,
            producer,
            topic: None,
            start: Instant(0),
            made: 0,
            blocked_since: None,
            stopping: false,
            exited: false,
            deadline: None,
            value: Vec::new(),
            key: Vec::new(),
        })
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        if self.exited {
            return;
        }
        match input {
            Input::Start => {
                self.start = now.mono;
                self.topic = Some(self.producer.topic(&self.spec.topic));
            }
            Input::Stop => self.stop(),
            _ => {}
        }
        self.producer.handle(now, &input, codecs, out);
        self.make_due(now, out);
        self.producer.drive(now, codecs, out);
        if self.stopping && self.producer.incomplete() == 0 {
            self.producer.finish_close(out);
            out.event(|| ClientEvent::ClientClosed);
            out.items.push(Output::Exit { code: 0 });
            self.exited = true;
        }
        self.deadline = self.next_deadline();
    }

    /// When it wants [`Input::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The number of the next message that it will make: what a process that takes its place begins with.
    pub fn next_message(&self) -> u64 {
        self.spec.first_message + self.made
    }

    /// `flush` and `close`: what was handed over is sent, a `send` that blocks gives up.
    fn stop(&mut self) {
        self.stopping = true;
        self.producer.begin_close();
    }

    fn make_due(&mut self, now: Now, out: &mut Outputs) {
        let Some(topic) = self.topic else { return };
        let (first, mut count) = (self.next_message(), 0);
        if let Some(since) = self.blocked_since.take() {
            if self.stopping {
                self.producer.abandon(topic, Made { number: first - 1, at: since }, out);
            } else {
                self.send(now, topic, first - 1, since, out);
            }
        }
        while !self.stopping
            && self.blocked_since.is_none()
            && self.next_due().is_some_and(|due| due <= now.mono)
        {
            let number = self.next_message();
            self.made += 1;
            count += 1;
            self.send(now, topic, number, now.mono, out);
        }
        if count > 0 {
            out.event(|| ClientEvent::MessagesMade { topic: self.spec.topic.clone(), first, count });
        }
        let all_made = self.next_due().is_none() && self.blocked_since.is_none();
        if all_made {
            self.producer.flush();
        }
    }

    fn send(&mut self, now: Now, topic: TopicIndex, number: u64, at: Instant, out: &mut Outputs) {
        write_value(&mut self.value, &self.spec.name, number, self.spec.size);
        self.key.clear();
        if self.spec.keys > 0 {
            self.key.push(b'k');
            push_decimal(&mut self.key, number % self.spec.keys as u64);
        }
        let record = NewRecord {
            partition: self.spec.partition,
            timestamp: now.wall_ms,
            key: (self.spec.keys > 0).then_some(&self.key),
            value: Some(&self.value),
            headers: &[],
            made: Made { number, at },
        };
        if let Err(SendError::Blocked) = self.producer.send(now, topic, &record, out) {
            self.blocked_since = Some(at);
        }
    }

    /// When the next message is due; `None` when all are made.
    fn next_due(&self) -> Option<Instant> {
        let left = self.spec.count.is_none_or(|count| self.next_message() < count);
        if !left || self.spec.rate.messages == 0 {
            return None;
        }
        let Rate { messages, per } = self.spec.rate;
        // The product leaves 64 bits only after billions of messages, and dividing more than that takes long.
        let after = match self.made.checked_mul(per.0) {
            Some(product) => product / messages,
            None => {
                let after = u128::from(self.made) * u128::from(per.0) / u128::from(messages);
                u64::try_from(after).unwrap_or(u64::MAX)
            }
        };
        Some(self.start + Nanos(after))
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.exited {
            return None;
        }
        let makes = self.topic.is_some() && !self.stopping && self.blocked_since.is_none();
        let due = self.next_due().filter(|_| makes).map(|due| self.tick_of(due));
        sooner(due, self.producer.next_deadline())
    }

    /// When a message is made that is due then.
    fn tick_of(&self, due: Instant) -> Instant {
        let interval = self.spec.rate.per.0 / self.spec.rate.messages.max(1);
        if interval >= TICK.0 {
            return due;
        }
        let ticks = due.since(self.start).0.div_ceil(TICK.0);
        self.start + Nanos(ticks.saturating_mul(TICK.0))
    }
}

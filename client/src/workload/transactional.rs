//! A scenario's program that consumes, transforms and produces in transactions (KIP-447).
//!
//! It reads a topic as a member of a group, read_committed, and writes what it read to another topic: so many records,
//! with the offsets behind them, in each transaction. Whatever dies, each record is in the other topic exactly once for
//! who reads committed transactions. After an error that a transaction does not survive it aborts and does the same
//! records again, without those of partitions that the group has given to somebody else meanwhile; after one that its
//! producer does not survive it ends.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use wire::Codecs;
use wire::drive::{Endpoint, Instant, Nanos, Now};

use super::Names;
use super::polled::message_of;
use crate::Rng;
use crate::backoff::fork;
use crate::config::{ClientKind, ConfigError, ConsumerConfig, ProducerConfig, Settings, setting};
use crate::consumer::{Consumer, OffsetAndMetadata, Subscription};
use crate::error::ClientError;
use crate::event::{ClientEvent, Made, MessageId, Polled, PolledRecord, TopicPartition, TransactionEnd};
use crate::io::{Input, Output, Outputs};
use crate::metadata::TopicIndex;
use crate::mutant::Mutants;
use crate::net::sooner;
use crate::producer::{NewRecord, Producer, SendError};

/// How long a poll waits for more records (`poll(Duration.ofMillis(200))`).
const POLL: Nanos = Nanos::from_millis(200);

/// What a scenario says about such a program.
#[derive(Clone, Debug)]
pub struct TransactionalSpec {
    /// The client's name, also its `client.id`, and its `transactional.id` unless its settings give another.
    pub name: Arc<str>,
    /// Where to begin.
    pub bootstrap: Vec<Endpoint>,
    /// Reads this topic.
    pub from: Arc<str>,
    /// Writes this topic.
    pub to: Arc<str>,
    /// As a member of this group.
    pub group: Arc<str>,
    /// The most records of a transaction, at least 1.
    pub transaction_size: u32,
    /// Every so-manieth transaction is aborted; 0: none.
    pub abort_every: u32,
    /// The time that the application takes for each record.
    pub processing: Nanos,
    /// The number of the first record that it writes, and of its first transaction: where an earlier process ended.
    pub first: (u64, u64),
    /// The producers whose messages it may meet.
    pub names: Names,
    /// Kafka's settings, by name: each goes to the side that knows it.
    pub config: Settings,
    /// Bugs that are switched on.
    pub mutants: Mutants,
}

/// A record that was read.
#[derive(Clone, Debug)]
struct Source {
    partition: TopicPartition,
    offset: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    message: MessageId,
}

/// What the application's thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// `initTransactions`.
    Initializing,
    /// `poll`, until then if there is something already.
    Polling { until: Option<Instant> },
    /// Works on a record of the batch, until then.
    Working { record: usize, until: Instant },
    /// `flush`, before an abort on purpose.
    Flushing,
    /// `sendOffsetsToTransaction`.
    SendingOffsets,
    /// `commitTransaction`.
    Committing,
    /// `abortTransaction`.
    Aborting,
    /// `close`.
    Closing,
}

/// A program that consumes, transforms and produces.
#[derive(Clone)]
pub struct TransactionalClient {
    spec: TransactionalSpec,
    id: Arc<str>,
    producer: Producer,
    consumer: Consumer,
    to: Option<TopicIndex>,
    doing: Doing,
    /// What was read and is in no transaction yet.
    buffer: VecDeque<Source>,
    /// What is in the transaction.
    batch: Vec<Source>,
    /// What the group took away since the transaction began.
    taken: BTreeSet<TopicPartition>,
    /// The number of the first record of the transaction, and how many were handed over.
    first: u64,
    sent: u64,
    /// The number of the transaction.
    transaction: u64,
    polls: u64,
    stop_asked: bool,
    exit: Option<i32>,
    deadline: Option<Instant>,
}

/// The settings that a client knows.
fn known(kind: ClientKind, given: &Settings) -> Settings {
    given
        .iter()
        .filter(|(name, _)| setting(kind, name).is_some())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

impl TransactionalClient {
    /// A program that waits for [`Input::Start`].
    pub fn new(spec: TransactionalSpec, mut rng: Rng) -> Result<TransactionalClient, ConfigError> {
        let mut settings = known(ClientKind::Producer, &spec.config);
        let id = settings.entry("transactional.id".into()).or_insert_with(|| spec.name.to_string()).clone();
        let mut producer_config = ProducerConfig::parse(&settings)?;
        producer_config.common.mutants = spec.mutants;
        let mut settings = known(ClientKind::Consumer, &spec.config);
        for (name, value) in [
            ("group.id", spec.group.to_string()),
            ("enable.auto.commit", "false".into()),
            ("isolation.level", "read_committed".into()),
            ("max.poll.records", spec.transaction_size.max(1).to_string()),
        ] {
            settings.insert(name.into(), value);
        }
        let mut consumer_config = ConsumerConfig::parse(&settings)?;
        consumer_config.common.mutants = spec.mutants;
        let own = fork(&mut rng);
        let consumer = Consumer::new(consumer_config, &spec.name, spec.bootstrap.clone(), own);
        let producer = Producer::new(producer_config, &spec.name, spec.bootstrap.clone(), rng);
        Ok(TransactionalClient {
            id: id.as_str().into(),
            producer,
            consumer,
            to: None,
            doing: Doing::Initializing,
            buffer: VecDeque::new(),
            batch: Vec::new(),
            taken: BTreeSet::new(),
            first: spec.first.0,
            sent: 0,
            transaction: spec.first.1,
            polls: 0,
            stop_asked: false,
            exit: None,
            deadline: None,
            spec,
        })
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        if self.exit.is_some() {
            return;
        }
        match input {
            Input::Start => {
                self.to = Some(self.producer.topic(&self.spec.to));
                self.producer.init_transactions(now.mono);
            }
            Input::Stop => self.stop_asked = true,
            _ => {}
        }
        self.producer.handle(now, &input, codecs, out);
        self.consumer.handle(now, &input, out);
        while self.exit.is_none() {
            let moved = self.work(now, codecs, out);
            self.producer.drive(now, codecs, out);
            if self.doing != Doing::Initializing {
                self.consumer.drive(now, out);
            }
            self.forget_given_up();
            if !moved && !self.can_go_on() {
                break;
            }
        }
        self.deadline = match (self.exit, self.doing) {
            (Some(_), _) => None,
            (None, doing) => {
                let own = match doing {
                    Doing::Polling { until } => until,
                    Doing::Working { until, .. } => Some(until).filter(|until| *until > now.mono),
                    _ => None,
                };
                // There is no consumer before its producer has an id.
                let initializing = doing == Doing::Initializing;
                let reads = self.consumer.next_deadline().filter(|_| !initializing);
                sooner(own, sooner(self.producer.next_deadline(), reads))
            }
        };
    }

    /// When it wants [`Input::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether driving the clients has brought what the application waits for.
    fn can_go_on(&self) -> bool {
        match self.doing {
            Doing::Polling { .. } => self.consumer.has_records(),
            Doing::Flushing => self.producer.incomplete() == 0,
            Doing::Closing => false,
            Doing::Working { .. } => self.producer.must_abort(),
            _ => self.producer.has_transaction_result(),
        }
    }

    /// One step of the application's thread; whether it came further.
    fn work(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) -> bool {
        match self.doing {
            Doing::Initializing => match self.producer.take_transaction_result() {
                None if self.stop_asked => self.close(now, out),
                None => false,
                Some(Ok(())) => self.subscribe(out),
                Some(Err(error)) => self.fail(&error, None, out),
            },
            Doing::Polling { until } => self.poll(now, until, codecs, out),
            Doing::Working { record, until } if self.producer.must_abort() => {
                let _ = (record, until);
                self.abort(now)
            }
            Doing::Working { until, .. } if until > now.mono => false,
            Doing::Working { record, until } => self.transform(now, record, until, out),
            Doing::Flushing if self.producer.must_abort() || self.producer.incomplete() == 0 => {
                self.abort(now)
            }
            Doing::Flushing => false,
            Doing::SendingOffsets => match self.producer.take_transaction_result() {
                None => false,
                Some(Ok(())) => {
                    self.producer.end_transaction(now.mono, true);
                    self.doing = Doing::Committing;
                    true
                }
                Some(Err(error)) => self.abort_or_fail(now, &error, TransactionEnd::Aborted, out),
            },
            Doing::Committing => match self.producer.take_transaction_result() {
                None => false,
                Some(Ok(())) => {
                    self.tell_end(TransactionEnd::Committed, out);
                    self.batch.clear();
                    self.doing = Doing::Polling { until: None };
                    true
                }
                Some(Err(error)) => self.abort_or_fail(now, &error, TransactionEnd::Indefinite, out),
            },
            Doing::Aborting => match self.producer.take_transaction_result() {
                None => false,
                Some(Ok(())) => {
                    self.tell_end(TransactionEnd::Aborted, out);
                    let taken = &self.taken;
                    let own = self.batch.drain(..).filter(|source| !taken.contains(&source.partition));
                    for source in own.rev() {
                        self.buffer.push_front(source);
                    }
                    self.doing = Doing::Polling { until: None };
                    true
                }
                Some(Err(error)) => self.fail(&error, Some(TransactionEnd::Aborted), out),
            },
            Doing::Closing => {
                if self.producer.incomplete() == 0 && self.consumer.is_closed() {
                    self.finish(0, out);
                }
                false
            }
        }
    }

    fn subscribe(&mut self, out: &mut Outputs) -> bool {
        let topics = Subscription::Topics([self.spec.from.clone()].into());
        self.consumer.keep_given_up();
        match self.consumer.subscribe(topics) {
            Ok(()) => {
                self.doing = Doing::Polling { until: None };
                true
            }
            Err(error) => self.fail(&error, None, out),
        }
    }

    // --- reading

    fn poll(&mut self, now: Now, until: Option<Instant>, codecs: &dyn Codecs, out: &mut Outputs) -> bool {
        if self.stop_asked {
            return self.close(now, out);
        }
        let size = self.spec.transaction_size.max(1) as usize;
        if self.buffer.len() >= size {
            return self.begin(now, out);
        }
        self.consumer.begin_poll(now, out);
        let before = self.buffer.len();
        let (names, buffer) = (&self.spec.names, &mut self.buffer);
        let mut likely = 0;
        let polled = self.consumer.poll(codecs, out, &mut |partition, record| {
            let value = record.value.unwrap_or_default();
            let foreign = MessageId { client: MessageId::FOREIGN, number: 0 };
            let message = message_of(names, value, likely).unwrap_or(foreign);
            if message.client != MessageId::FOREIGN {
                likely = message.client;
            }
            buffer.push_back(Source {
                partition: partition.clone(),
                offset: record.offset,
                key: record.key.map(Bytes::copy_from_slice),
                value: record.value.map(Bytes::copy_from_slice),
                message,
            });
        });
        if let Err(error) = polled {
            return self.fail(&error, None, out);
        }
        match (self.buffer.is_empty(), self.buffer.len() > before, until) {
            (true, ..) => false,
            (false, true, _) if self.buffer.len() < size => {
                self.doing = Doing::Polling { until: Some(now.mono + POLL) };
                false
            }
            (false, false, Some(until)) if until > now.mono => false,
            (false, false, None) => {
                self.doing = Doing::Polling { until: Some(now.mono + POLL) };
                false
            }
            _ => self.begin(now, out),
        }
    }

    /// What the group took away is somebody else's work now.
    fn forget_given_up(&mut self) {
        let given_up = self.consumer.take_given_up();
        if !given_up.is_empty() {
            self.buffer.retain(|source| !given_up.contains(&source.partition));
            if !self.batch.is_empty() {
                self.taken.extend(given_up);
            }
            if self.buffer.is_empty() && matches!(self.doing, Doing::Polling { .. }) {
                // There is nothing left for which it would wait for more.
                self.doing = Doing::Polling { until: None };
            }
        }
    }

    // --- a transaction

    fn begin(&mut self, now: Now, out: &mut Outputs) -> bool {
        self.consumer.end_poll(now);
        if let Err(error) = self.producer.begin_transaction() {
            return self.fail(&error, None, out);
        }
        let size = (self.spec.transaction_size.max(1) as usize).min(self.buffer.len());
        self.batch = self.buffer.drain(..size).collect();
        self.taken.clear();
        self.first += self.sent;
        self.sent = 0;
        let (transactional_id, number) = (self.id.clone(), self.transaction);
        out.event(|| ClientEvent::TransactionBegan { transactional_id, number });
        self.doing = Doing::Working { record: 0, until: now.mono + self.spec.processing };
        true
    }

    /// Hands over the record that is done, and those that are done at once.
    fn transform(&mut self, now: Now, from: usize, until: Instant, out: &mut Outputs) -> bool {
        let began = Instant(until.0.saturating_sub(self.spec.processing.0));
        let (mut record, mut due) = (from, until);
        while record < self.batch.len() && due <= now.mono {
            match self.send(now, record, out) {
                Ok(_) => {}
                Err(SendError::Blocked) => break,
                Err(SendError::Refused(error)) => {
                    self.tell_processed(from..record, began, out);
                    return self.abort_or_fail(now, &error, TransactionEnd::Aborted, out);
                }
            }
            self.sent += 1;
            record += 1;
            due += self.spec.processing;
        }
        self.tell_processed(from..record, began, out);
        if record < self.batch.len() {
            self.doing = Doing::Working { record, until: due };
            return record > from;
        }
        if self.aborts_on_purpose() || self.batch.iter().any(|s| self.taken.contains(&s.partition)) {
            self.producer.flush();
            self.doing = Doing::Flushing;
            return true;
        }
        let mut offsets: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for source in &self.batch {
            offsets.insert(source.partition.clone(), source.offset + 1);
        }
        let committed = |(at, offset)| {
            (at, OffsetAndMetadata { offset, leader_epoch: None, metadata: Default::default() })
        };
        let group = self.consumer.group_metadata().expect("it is a member of a group");
        self.producer.send_offsets(now.mono, group, offsets.into_iter().map(committed).collect());
        self.doing = Doing::SendingOffsets;
        true
    }

    fn aborts_on_purpose(&self) -> bool {
        let every = u64::from(self.spec.abort_every);
        every > 0 && (self.transaction + 1).is_multiple_of(every)
    }

    fn send(&mut self, now: Now, record: usize, out: &mut Outputs) -> Result<i32, SendError> {
        let source = &self.batch[record];
        let new = NewRecord {
            partition: None,
            timestamp: now.wall_ms,
            key: source.key.as_deref(),
            value: source.value.as_deref(),
            headers: &[],
            made: Made { number: self.first + self.sent, at: now.mono },
        };
        let to = self.to.expect("it has started");
        self.producer.send(now, to, &new, out)
    }

    /// Records of the batch were read and are processed by now.
    fn tell_processed(&mut self, records: core::ops::Range<usize>, mut began: Instant, out: &mut Outputs) {
        if records.is_empty() {
            return;
        }
        self.polls += 1;
        let (first, count) = (self.first + self.sent - records.len() as u64, records.len() as u32);
        out.event(|| ClientEvent::MessagesMade { topic: self.spec.to.clone(), first, count });
        for run in self.batch[records].chunk_by(|a, b| a.partition == b.partition) {
            let (poll, processing_from, per_record) = (self.polls, began, self.spec.processing);
            out.event(|| {
                let records =
                    run.iter().map(|s| PolledRecord { offset: s.offset, message: s.message }).collect();
                let (partition, foreign) = (run[0].partition.clone(), Vec::new());
                ClientEvent::Polled(Polled { partition, poll, records, foreign, processing_from, per_record })
            });
            began += Nanos(per_record.0.saturating_mul(run.len() as u64));
        }
    }

    fn abort(&mut self, now: Now) -> bool {
        self.producer.flushed();
        self.producer.end_transaction(now.mono, false);
        self.doing = Doing::Aborting;
        true
    }

    /// After an error: the transaction is aborted if that helps.
    fn abort_or_fail(
        &mut self,
        now: Now,
        error: &ClientError,
        end: TransactionEnd,
        out: &mut Outputs,
    ) -> bool {
        match self.producer.must_abort() {
            true => self.abort(now),
            false => self.fail(error, Some(end), out),
        }
    }

    fn tell_end(&mut self, end: TransactionEnd, out: &mut Outputs) {
        let (transactional_id, number) = (self.id.clone(), self.transaction);
        self.transaction += 1;
        out.event(|| ClientEvent::TransactionEnded {
            transactional_id,
            number,
            end,
            messages: (self.first..self.first + self.sent).collect(),
            offsets: self.batch.iter().map(|s| (s.partition.clone(), s.offset + 1)).collect(),
        });
    }

    // --- the end

    fn close(&mut self, now: Now, out: &mut Outputs) -> bool {
        self.producer.begin_close();
        self.consumer.begin_close(now, out);
        self.doing = Doing::Closing;
        true
    }

    /// An exception that only another process can help.
    fn fail(&mut self, error: &ClientError, end: Option<TransactionEnd>, out: &mut Outputs) -> bool {
        if let Some(end) = end {
            self.tell_end(end, out);
        }
        out.event(|| ClientEvent::ProducerFailed {
            error: error.code.name(),
            message: error.message.clone(),
        });
        self.finish(1, out);
        false
    }

    fn finish(&mut self, code: i32, out: &mut Outputs) {
        self.producer.finish_close(out);
        self.consumer.finish_close(out);
        if code == 0 {
            out.event(|| ClientEvent::ClientClosed);
        }
        out.items.push(Output::Exit { code });
        self.exit = Some(code);
    }
}

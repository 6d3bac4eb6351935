//! A scenario's consumer.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Endpoint, Instant, Nanos, Now};

use super::Names;
use super::polled::Collector;
use crate::Rng;
use crate::config::{ConfigError, ConsumerConfig, Settings};
use crate::consumer::{Consumer, StartAt};
use crate::error::ClientError;
use crate::event::{ClientEvent, TopicPartition};
use crate::io::{Input, Output, Outputs};
use crate::net::sooner;

/// What a consumer reads.
#[derive(Clone, Debug)]
pub enum Assignment {
    /// These partitions, without a group.
    Partitions(Vec<TopicPartition>),
    /// All partitions of these topics, without a group.
    Topics(Vec<Arc<str>>),
    /// What the group gives this member of these topics.
    Group {
        /// The topics.
        topics: Vec<Arc<str>>,
        /// The group, `group.id`.
        group: Arc<str>,
    },
}

/// Where a consumer begins.
#[derive(Clone, Debug)]
pub enum From {
    /// Where `auto.offset.reset` says.
    Reset,
    /// The log start offset.
    Beginning,
    /// The end: the high watermark, or the last stable offset.
    End,
    /// These offsets; partitions that are not named begin where `auto.offset.reset` says.
    Offsets(BTreeMap<TopicPartition, i64>),
}

/// When a consumer commits the offsets of what it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// `enable.auto.commit`: every `auto.commit.interval.ms`, in `poll`.
    Auto,
    /// `commitSync` after each poll, before its records are processed: at most once.
    Before,
    /// `commitSync` once all records of a poll are processed: at least once.
    After,
    /// Never.
    None,
}

/// What a scenario says about a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    /// The client's name, also its `client.id`.
    pub name: Arc<str>,
    /// Where to begin.
    pub bootstrap: Vec<Endpoint>,
    /// What to read.
    pub assignment: Assignment,
    /// Where to begin.
    pub from: From,
    /// The time that the application takes for each record.
    pub processing: Nanos,
    /// When offsets are committed. Nothing is without a `group.id`.
    pub commit: Commit,
    /// The producers whose messages it may meet.
    pub names: Names,
    /// Kafka's settings, by name.
    pub config: Settings,
}

/// A scenario's consumer: polls, processes what it got, and polls again.
#[derive(Clone)]
pub struct ConsumerClient {
    spec: ConsumerSpec,
    consumer: Consumer,
    collector: Collector,
    metadata_version: u64,
    started: bool,
    /// Until when the application processes what its last poll returned.
    busy_until: Option<Instant>,
    stop_asked: bool,
    closing: bool,
    exit: Option<i32>,
    deadline: Option<Instant>,
}

impl ConsumerClient {
    /// A consumer that waits for [`Input::Start`].
    pub fn new(spec: ConsumerSpec, rng: Rng) -> Result<ConsumerClient, ConfigError> {
        let config = ConsumerConfig::parse(&spec.config)?;
        let consumer = Consumer::new(config, &spec.name, spec.bootstrap.clone(), rng);
        Ok(ConsumerClient {
            collector: Collector::new(spec.names.clone()),
            spec,
            consumer,
            metadata_version: 0,
            started: false,
            busy_until: None,
            stop_asked: false,
            closing: false,
            exit: None,
            deadline: None,
        })
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        if self.exit.is_some() {
            return;
        }
        match input {
            Input::Start => self.start(),
            Input::Stop => self.stop_asked = true,
            _ => {}
        }
        self.consumer.handle(now, &input, out);
        loop {
            if self.started && !self.closing {
                self.assign_topics();
                self.work(now, codecs, out);
            }
            if self.exit.is_some() {
                break;
            }
            self.consumer.drive(now, out);
            // Driving the consumer may have ended in an exception, which the next poll throws.
            if self.closing || self.busy_until.is_some() || !self.consumer.has_records() {
                break;
            }
        }
        if self.closing && self.consumer.is_closed() {
            self.finish(0, out);
        }
        self.deadline = match self.exit {
            Some(_) => None,
            None => sooner(self.busy_until, self.consumer.next_deadline()),
        };
    }

    /// When it wants [`Input::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The consumer, for who looks at positions.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    fn start(&mut self) {
        self.started = true;
        match self.spec.assignment.clone() {
            Assignment::Partitions(partitions) => {
                for partition in &partitions {
                    self.consumer.assign(partition, self.spec.from.of(partition));
                }
            }
            Assignment::Topics(topics) => {
                for topic in &topics {
                    self.consumer.add_topic(topic);
                }
            }
            Assignment::Group { .. } => todo!(),
        }
    }

    /// Assigns partitions as they become known.
    fn assign_topics(&mut self) {
        let version = self.consumer.metadata().version();
        let Assignment::Topics(topics) = &self.spec.assignment else { return };
        if core::mem::replace(&mut self.metadata_version, version) == version {
            return;
        }
        for topic in topics {
            for partition in super::partitions_of(self.consumer.metadata(), topic) {
                self.consumer.assign(&partition, self.spec.from.of(&partition));
            }
        }
    }

    /// The application's loop: poll, process, poll.
    fn work(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) {
        loop {
            if self.busy_until.is_some_and(|until| until > now.mono) {
                return;
            }
            self.busy_until = None;
            if self.stop_asked {
                self.closing = true;
                return self.consumer.begin_close(now, out);
            }
            if !self.consumer.has_records() {
                return;
            }
            let collector = &mut self.collector;
            let polled = self.consumer.poll(codecs, out, &mut |partition, record| {
                collector.take(partition, record);
            });
            match polled {
                Ok(0) => {}
                Ok(_) => {
                    let until = self.collector.tell(now.mono, self.spec.processing, out);
                    self.busy_until = Some(until).filter(|&until| until > now.mono);
                }
                Err(error) => return self.fail(&error, out),
            }
        }
    }

    /// An exception that the application does not handle ends it.
    fn fail(&mut self, error: &ClientError, out: &mut Outputs) {
        out.event(|| ClientEvent::ConsumerFailed {
            error: error.code.name(),
            message: error.message.clone(),
        });
        self.finish(1, out);
    }

    fn finish(&mut self, code: i32, out: &mut Outputs) {
        self.consumer.finish_close(out);
        if code == 0 {
            out.event(|| ClientEvent::ClientClosed);
        }
        out.items.push(Output::Exit { code });
        self.exit = Some(code);
    }
}

impl From {
    fn of(&self, partition: &TopicPartition) -> StartAt {
        match self {
            From::Reset => StartAt::Reset,
            From::Beginning => StartAt::Beginning,
            From::End => StartAt::End,
            From::Offsets(offsets) => {
                offsets.get(partition).map_or(StartAt::Reset, |&offset| StartAt::Offset(offset))
            }
        }
    }
}

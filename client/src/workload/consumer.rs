//! A scenario's consumer.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Endpoint, Instant, Nanos, Now};

use super::Names;
use super::polled::Collector;
use crate::Rng;
use crate::config::{ConfigError, ConsumerConfig, Settings};
use crate::consumer::{Consumer, StartAt, Subscription};
use crate::error::ClientError;
use crate::event::{ClientEvent, TopicPartition};
use crate::io::{Input, Output, Outputs};
use crate::mutant::Mutants;
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
    /// Bugs that are switched on.
    pub mutants: Mutants,
}

/// What the application's thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// `poll`.
    Polling,
    /// `commitSync`, before it processes what the last poll returned.
    CommittingBefore,
    /// Processing what its last poll returned, until then.
    Processing(Instant),
    /// `commitSync`, after it processed that.
    CommittingAfter,
}

/// A scenario's consumer: polls, processes what it got, and polls again.
#[derive(Clone)]
pub struct ConsumerClient {
    spec: ConsumerSpec,
    consumer: Consumer,
    collector: Collector,
    metadata_version: u64,
    started: bool,
    /// What the application does between two polls.
    doing: Doing,
    stop_asked: bool,
    closing: bool,
    exit: Option<i32>,
    deadline: Option<Instant>,
}

impl ConsumerClient {
    /// A consumer that waits for [`Input::Start`].
    pub fn new(spec: ConsumerSpec, rng: Rng) -> Result<ConsumerClient, ConfigError> {
        let mut settings = spec.config.clone();
        if let Assignment::Group { group, .. } = &spec.assignment {
            settings.insert("group.id".into(), group.to_string());
        }
        if spec.commit != Commit::Auto {
            settings.insert("enable.auto.commit".into(), "false".into());
        }
        let mut config = ConsumerConfig::parse(&settings)?;
        config.common.mutants = spec.mutants;
        let consumer = Consumer::new(config, &spec.name, spec.bootstrap.clone(), rng);
        Ok(ConsumerClient {
            collector: Collector::new(spec.names.clone()),
            spec,
            consumer,
            metadata_version: 0,
            started: false,
            doing: Doing::Polling,
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
            Input::Start => self.start(out),
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
            let goes_on = match self.doing {
                Doing::Polling => self.consumer.has_records(),
                Doing::CommittingBefore | Doing::CommittingAfter => self.consumer.has_commit_result(),
                Doing::Processing(_) => false,
            };
            if self.closing || !goes_on {
                break;
            }
        }
        if self.closing && self.consumer.is_closed() {
            self.finish(0, out);
        }
        self.deadline = match self.exit {
            Some(_) => None,
            None => sooner(self.doing.until(), self.consumer.next_deadline()),
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

    fn start(&mut self, out: &mut Outputs) {
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
            Assignment::Group { topics, .. } => {
                if let Err(error) = self.consumer.subscribe(Subscription::Topics(topics)) {
                    self.fail(&error, out);
                }
            }
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

    /// The application's loop: poll, perhaps commit, process, perhaps commit, poll.
    fn work(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) {
        loop {
            match self.doing {
                Doing::Polling => {
                    if !self.poll(now, codecs, out) {
                        return;
                    }
                }
                Doing::Processing(until) if until > now.mono => return,
                Doing::Processing(_) => {
                    self.doing = Doing::Polling;
                    self.commit_if(Commit::After, Doing::CommittingAfter, now, out);
                }
                Doing::CommittingBefore | Doing::CommittingAfter => {
                    match self.consumer.take_commit_result() {
                        None => return,
                        Some(Err(error)) => return self.fail(&error, out),
                        Some(Ok(())) if self.doing == Doing::CommittingBefore => self.process(now, out),
                        Some(Ok(())) => self.doing = Doing::Polling,
                    }
                }
            }
        }
    }

    /// Whether there is more to do.
    fn poll(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) -> bool {
        if self.stop_asked {
            self.closing = true;
            self.consumer.begin_close(now, out);
            return false;
        }
        self.consumer.begin_poll(now, out);
        if !self.consumer.has_records() {
            return false;
        }
        let collector = &mut self.collector;
        let polled = self.consumer.poll(codecs, out, &mut |partition, record| {
            collector.take(partition, record);
        });
        match polled {
            Ok(0) => {}
            Ok(_) => {
                self.consumer.end_poll(now);
                if !self.commit_if(Commit::Before, Doing::CommittingBefore, now, out) {
                    self.process(now, out);
                }
            }
            Err(error) => {
                self.fail(&error, out);
                return false;
            }
        }
        true
    }

    /// Commits, if it is the time at which the application does.
    fn commit_if(&mut self, when: Commit, doing: Doing, now: Now, out: &mut Outputs) -> bool {
        let commits = self.spec.commit == when && self.consumer.config().group.is_some();
        if commits {
            self.doing = doing;
            self.consumer.commit_sync(now, None, out);
        }
        commits
    }

    fn process(&mut self, now: Now, out: &mut Outputs) {
        let until = self.collector.tell(now.mono, self.spec.processing, out);
        self.doing = Doing::Processing(until);
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

impl Doing {
    fn until(self) -> Option<Instant> {
        match self {
            Doing::Processing(until) => Some(until),
            _ => None,
        }
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

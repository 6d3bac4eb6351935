//! `kafka-verifiable-consumer` (`VerifiableConsumer.java`): a member of a group that tells what it is given, what it
//! reads and what it commits, each as a line of JSON.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Instant, Now};
use wire::error::ErrorCode;

use super::CommandSpec;
use super::arguments::{Arguments, Parser, Unread, arg, switch};
use super::java::{DEFAULT_ROOM, hash_of_partition, hash_order};
use super::load::{ONLY, Wrong, arguments_of_tool, misused, not_a_number, quoted, tell};
use super::running;
use super::session::{Console, Exception, Terminal, bootstrap_servers, failed_construct, known_settings};
use crate::Rng;
use crate::backoff::fork;
use crate::config::{ClientKind, ConsumerConfig, Settings};
use crate::consumer::{Consumer, OffsetAndMetadata, Subscription};
use crate::error::ClientError;
use crate::event::{ClientEvent, TopicPartition};
use crate::io::{Input, Output, Outputs};

const PROGRAM: &str = "verifiable-consumer";

const LOGGER: &str = "org.apache.kafka.tools.VerifiableConsumer";

const PARSERS: &[Parser] = &[Parser {
    name: ONLY,
    args: &[
        arg("--bootstrap-server", None),
        arg("--topic", None),
        arg("--group-protocol", None),
        arg("--group-remote-assignor", None),
        arg("--group-id", None),
        arg("--group-instance-id", None),
        arg("--max-messages", None),
        arg("--session-timeout", None),
        switch("--verbose"),
        switch("--enable-autocommit"),
        arg("--reset-policy", None),
        arg("--assignment-strategy", None),
        arg("--consumer.config", None),
        arg("--command-config", None),
    ],
    one_of: &["--bootstrap-server"],
    usage: "verifiable-consumer [-h] --topic TOPIC [--group-protocol GROUP-PROTOCOL]
                           [--group-remote-assignor GROUP-REMOTE-ASSIGNOR]
                           --group-id GROUP-ID
                           [--group-instance-id GROUP-INSTANCE-ID]
                           [--max-messages MAX-MESSAGES]
                           [--session-timeout TIMEOUT-MS] [--verbose]
                           [--enable-autocommit] [--reset-policy RESET-POLICY]
                           [--assignment-strategy ASSIGNMENT-STRATEGY]
                           [--consumer.config CONFIG-FILE]
                           [--command-config CONFIG-FILE]
                           --bootstrap-server HOST1:PORT1[,HOST2:PORT2[...]]",
}];

/// What was read of a partition by one poll: offset, key and value of each record.
type Read = Vec<(i64, Option<String>, Option<String>)>;

/// The tool at work.
#[derive(Clone)]
pub(super) struct VerifiableConsumer {
    consumer: Consumer,
    /// -1: no limit.
    max_messages: i64,
    verbose: bool,
    consumed: i64,
    /// The offsets of the `commitSync` that is under way.
    committing: Option<Vec<(TopicPartition, i64)>>,
    stop_asked: bool,
    /// It closes, to exit with this.
    closing: Option<i32>,
    /// The outputs that were looked through for rebalances.
    told: usize,
}

impl running::Work for VerifiableConsumer {
    fn begin(
        spec: &CommandSpec,
        terminal: &mut Terminal<'_>,
        rng: &mut Rng,
    ) -> Result<VerifiableConsumer, i32> {
        VerifiableConsumer::set_up(spec, terminal, rng).map_err(|wrong| wrong.tell(terminal))
    }

    fn deadline(&self) -> Option<Instant> {
        self.consumer.next_deadline()
    }

    fn handle(&mut self, now: Now, input: &Input, codecs: &dyn Codecs, out: &mut Outputs) {
        // The consumer tells of rebalances by events, whether the driver wants them or not.
        let wanted = core::mem::replace(&mut out.events_wanted, true);
        let before = out.items.len();
        self.told = before;
        self.consumer.handle(now, input, out);
        self.stop_asked |= matches!(input, Input::Stop);
        loop {
            while self.closing.is_none() && self.step(now, codecs, out) {}
            self.consumer.drive(now, out);
            self.tell_rebalances(now, out);
            let goes_on = match self.committing {
                Some(_) => self.consumer.has_commit_result(),
                None => self.consumer.has_records(),
            };
            if self.closing.is_some() || !goes_on {
                break;
            }
        }
        out.events_wanted = wanted;
        if !wanted {
            let mut at = 0;
            out.items.retain(|item| {
                at += 1;
                at <= before || !matches!(item, Output::Event(_))
            });
        }
    }

    fn ended(&self) -> Option<i32> {
        self.closing.filter(|_| self.consumer.is_closed())
    }

    fn end(&mut self, now: Now, _: i32, out: &mut Outputs) {
        tell(now, "shutdown_complete", "", out);
        self.consumer.finish_close(out);
    }
}

impl VerifiableConsumer {
    fn set_up(
        spec: &CommandSpec,
        terminal: &mut Terminal<'_>,
        rng: &mut Rng,
    ) -> Result<VerifiableConsumer, Wrong> {
        if spec.words.len() <= 1 {
            return Err(Wrong::Usage(format!("usage: {}\n", PARSERS[0].usage)));
        }
        let arguments = arguments_of_tool(PROGRAM, PARSERS, &["--topic", "--group-id"], spec)?;
        let max_messages = integer(&arguments, "--max-messages")?.unwrap_or(-1);
        let mut settings = settings_of(spec, &arguments, terminal)?;
        known_settings(ClientKind::Consumer, &mut settings, &spec.config);
        let config = ConsumerConfig::parse(&settings).map_err(Exception::from)?;
        let endpoints = bootstrap_servers(arguments.value("--bootstrap-server").unwrap_or_default())
            .map_err(|cause| failed_construct("Failed to construct kafka consumer", cause))?;
        let mut consumer = Consumer::new(config, "verifiable-consumer", endpoints, fork(rng));
        tell(terminal.now, "startup_complete", "", terminal.out);
        let topic = arguments.value("--topic").unwrap_or_default();
        consumer.subscribe(Subscription::Topics(vec![topic.into()])).map_err(Exception::from)?;
        Ok(VerifiableConsumer {
            consumer,
            max_messages: i64::from(max_messages),
            verbose: arguments.has("--verbose"),
            consumed: 0,
            committing: None,
            stop_asked: false,
            closing: None,
            told: 0,
        })
    }

    /// Whether there is more to do.
    fn step(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) -> bool {
        if let Some(offsets) = self.committing.take() {
            let Some(result) = self.consumer.take_commit_result() else {
                self.committing = Some(offsets);
                return false;
            };
            return match result {
                Err(error) if error.code == ErrorCode::FENCED_INSTANCE_ID => self.fail(now, error, out),
                result => {
                    tell_commit(now, offsets, result.err(), out);
                    true
                }
            };
        }
        if self.stop_asked {
            return self.close(super::TERMINATED, now, out);
        }
        if self.is_finished() {
            return self.close(0, now, out);
        }
        self.consumer.begin_poll(now, out);
        self.tell_rebalances(now, out);
        self.consumer.has_records() && self.poll(now, codecs, out)
    }

    fn poll(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) -> bool {
        let positions = self.positions();
        let mut read: BTreeMap<TopicPartition, Read> = BTreeMap::new();
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let polled = self.consumer.poll(codecs, out, &mut |partition, record| {
            let record = (record.offset, text(record.key), text(record.value));
            match read.get_mut(partition) {
                Some(records) => records.push(record),
                None => drop(read.insert(partition.clone(), vec![record])),
            }
        });
        match polled {
            Err(error) => return self.fail(now, error, out),
            // A poll that only went past the end of a transaction returns, too.
            Ok(0) if positions == self.positions() => return true,
            Ok(_) => self.consumer.end_poll(now),
        }
        let offsets = self.received(now, read, out);
        if !self.consumer.config().auto_commit {
            let commit = offsets.iter().map(|(partition, offset)| {
                let offset =
                    OffsetAndMetadata { offset: *offset, leader_epoch: None, metadata: String::new() };
                (partition.clone(), offset)
            });
            let commit = commit.collect();
            self.committing = Some(offsets);
            self.consumer.commit_sync(now, Some(commit), out);
        }
        true
    }

    fn positions(&self) -> Vec<Option<i64>> {
        self.consumer.assignment().map(|partition| self.consumer.position(partition)).collect()
    }

    fn is_finished(&self) -> bool {
        self.max_messages >= 0 && self.consumed >= self.max_messages
    }

    /// Tells what was read, as far as the limit goes, and gives the offsets to commit.
    fn received(
        &mut self,
        now: Now,
        read: BTreeMap<TopicPartition, Read>,
        out: &mut Outputs,
    ) -> Vec<(TopicPartition, i64)> {
        let count: usize = read.values().map(Vec::len).sum();
        let (mut offsets, mut summaries) = (Vec::new(), Vec::new());
        for (partition, mut records) in hash_order(DEFAULT_ROOM, read, |(key, _)| hash_of_partition(key)) {
            if self.max_messages >= 0 {
                records.truncate((self.max_messages - self.consumed) as usize);
            }
            let (Some((min, ..)), Some((max, ..))) = (records.first(), records.last()) else { continue };
            summaries.push(format!(
                "{{{},\"count\":{},\"minOffset\":{min},\"maxOffset\":{max}}}",
                fields(&partition),
                records.len()
            ));
            if self.verbose {
                records.iter().for_each(|record| tell_record(now, &partition, record, out));
            }
            self.consumed += records.len() as i64;
            offsets.push((partition, max + 1));
            if self.is_finished() {
                break;
            }
        }
        let summaries = format!("\"count\":{count},\"partitions\":[{}]", summaries.join(","));
        tell(now, "records_consumed", &summaries, out);
        hash_order(DEFAULT_ROOM, offsets, |(partition, _)| hash_of_partition(partition))
    }

    /// Tells of the rebalances among the outputs since the last look.
    fn tell_rebalances(&mut self, now: Now, out: &mut Outputs) {
        let mut lines = Vec::new();
        for item in out.items.get(self.told..).unwrap_or_default() {
            let (name, partitions) = match item {
                Output::Event(ClientEvent::PartitionsAssigned { partitions, .. }) => {
                    ("partitions_assigned", partitions)
                }
                Output::Event(
                    ClientEvent::PartitionsRevoked { partitions, .. }
                    | ClientEvent::PartitionsLost { partitions, .. },
                ) => ("partitions_revoked", partitions),
                _ => continue,
            };
            let mut partitions: Vec<&TopicPartition> = partitions.iter().collect();
            partitions.sort_unstable();
            let partitions: Vec<String> =
                partitions.into_iter().map(|partition| format!("{{{}}}", fields(partition))).collect();
            lines.push((name, format!("\"partitions\":[{}]", partitions.join(","))));
        }
        lines.into_iter().for_each(|(name, line)| tell(now, name, &line, out));
        self.told = out.items.len();
    }

    /// What is thrown is logged, and ends the loop.
    fn fail(&mut self, now: Now, error: ClientError, out: &mut Outputs) -> bool {
        let text = "Error during processing, terminating consumer process: ";
        Terminal { now, out }.log_error(text, LOGGER, Some(&error.into()));
        self.close(0, now, out)
    }

    fn close(&mut self, code: i32, now: Now, out: &mut Outputs) -> bool {
        // Java's process ends by the signal, if there was one.
        self.closing = Some(if self.stop_asked { super::TERMINATED } else { code });
        self.consumer.begin_close(now, out);
        false
    }
}

fn integer(arguments: &Arguments, name: &str) -> Result<Option<i32>, Unread> {
    let wrong = |text: &str| {
        let text = not_a_number(name, text, "Integer");
        misused(PROGRAM, PARSERS, &text)
    };
    arguments.value(name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

fn settings_of(
    spec: &CommandSpec,
    arguments: &Arguments,
    terminal: &mut Terminal<'_>,
) -> Result<Settings, Wrong> {
    let (new, old) = (arguments.value("--command-config"), arguments.value("--consumer.config"));
    if new.is_some() && old.is_some() {
        let text = "Options --consumer.config and --command-config are mutually exclusive.";
        return Err(misused(PROGRAM, PARSERS, text).into());
    }
    if old.is_some() {
        terminal.line(
            "Option --consumer.config has been deprecated and will be removed in a future version. Use \
             --command-config instead.",
        );
    }
    let unread = |error: Exception| misused(PROGRAM, PARSERS, error.message_text());
    let mut settings = spec.settings(new.or(old)).map_err(unread)?;
    let mut set = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            settings.insert(name.into(), value.into());
        }
    };
    let protocol = arguments.value("--group-protocol").unwrap_or("classic");
    set("group.protocol", Some(protocol));
    if protocol.eq_ignore_ascii_case("consumer") {
        set("group.remote.assignor", arguments.value("--group-remote-assignor"));
    } else {
        let range = "org.apache.kafka.clients.consumer.RangeAssignor";
        let strategy = arguments.value("--assignment-strategy").unwrap_or(range);
        set("partition.assignment.strategy", Some(strategy));
    }
    let timeout = integer(arguments, "--session-timeout")?.map(|ms| ms.to_string());
    set("session.timeout.ms", timeout.as_deref());
    set("group.id", arguments.value("--group-id"));
    set("group.instance.id", arguments.value("--group-instance-id"));
    let auto_commit = if arguments.has("--enable-autocommit") { "true" } else { "false" };
    set("enable.auto.commit", Some(auto_commit));
    set("auto.offset.reset", Some(arguments.value("--reset-policy").unwrap_or("earliest")));
    Ok(settings)
}

fn fields(partition: &TopicPartition) -> String {
    format!("\"topic\":{},\"partition\":{}", quoted(&partition.topic), partition.partition)
}

fn tell_record(
    now: Now,
    partition: &TopicPartition,
    (offset, key, value): &(i64, Option<String>, Option<String>),
    out: &mut Outputs,
) {
    let text = |text: &Option<String>| text.as_deref().map_or("null".into(), quoted);
    let (key, value, place) = (text(key), text(value), fields(partition));
    let line = format!("\"key\":{key},\"value\":{value},{place},\"offset\":{offset}");
    tell(now, "record_data", &line, out);
}

fn tell_commit(now: Now, offsets: Vec<(TopicPartition, i64)>, error: Option<ClientError>, out: &mut Outputs) {
    let offsets: Vec<String> = offsets
        .iter()
        .map(|(partition, offset)| format!("{{{},\"offset\":{offset}}}", fields(partition)))
        .collect();
    let success = error.is_none();
    let error = error.map(|error| format!("\"error\":{},", quoted(Exception::from(error).message_text())));
    let (offsets, error) = (offsets.join(","), error.unwrap_or_default());
    let line = format!("\"offsets\":[{offsets}],{error}\"success\":{success}");
    tell(now, "offsets_committed", &line, out);
}

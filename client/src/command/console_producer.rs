//! `kafka-console-producer` (`ConsoleProducer.java`): each line of standard input is a record.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Instant, Now};

use super::CommandSpec;
use super::get_offsets::check_bootstrap;
use super::line_reader::{LineReader, LineRecord};
use super::options::{Help, Options};
use super::running::{self, not_begun};
use super::session::{
    Console, Exception, Ran, Terminal, bootstrap_servers, failed_construct, known_settings,
};
use crate::Rng;
use crate::backoff::fork;
use crate::config::{ClientKind, ProducerConfig, Settings};
use crate::error::ClientError;
use crate::event::Made;
use crate::io::{Input, Outputs};
use crate::metadata::TopicIndex;
use crate::producer::{NewRecord, Producer, SendError};

const ABOUT: &str = "This tool helps to read data from standard input and publish it to Kafka.";

const LINE_READER: &str = "org.apache.kafka.tools.LineMessageReader";

const OPTIONS: Help = Help(include_str!("help/kafka-console-producer.txt"));

/// Settings of the producer with the option that gives each, and the tool's default.
const MERGED: [(&str, &str, &str); 11] = [
    ("linger.ms", "timeout", "1000"),
    ("acks", "request-required-acks", "-1"),
    ("request.timeout.ms", "request-timeout-ms", "1500"),
    ("retries", "message-send-max-retries", "3"),
    ("retry.backoff.ms", "retry-backoff-ms", "100"),
    ("send.buffer.bytes", "socket-buffer-size", "102400"),
    ("buffer.memory", "max-memory-bytes", "33554432"),
    ("batch.size", "batch-size", "16384"),
    ("batch.size", "max-partition-memory-bytes", "16384"),
    ("metadata.max.age.ms", "metadata-expiry-ms", "300000"),
    ("max.block.ms", "max-block-ms", "60000"),
];

/// Options that cannot go together, of which the second is the older.
const RENAMED: [(&str, &str); 3] = [
    ("command-property", "producer-property"),
    ("command-config", "producer.config"),
    ("reader-property", "property"),
];

/// The tool at work.
#[derive(Clone)]
pub(super) struct ConsoleProducer {
    producer: Producer,
    topic: String,
    index: Option<TopicIndex>,
    reader: LineReader,
    sync: bool,
    /// Bytes behind the last whole line.
    partial: Vec<u8>,
    lines: VecDeque<Vec<u8>>,
    ended: bool,
    /// The record that `send` blocks on.
    blocked: Option<(LineRecord, Made)>,
    /// Records that have no outcome yet, by number: the sizes of key and value.
    sent: BTreeMap<u64, (Option<usize>, Option<usize>)>,
    next: u64,
    /// It closes, to exit with this.
    closing: Option<i32>,
}

/// What `main` says of an exception: `printStackTrace`, or only the message if the options are wrong.
fn tell(exception: &Exception, terminal: &mut Terminal<'_>) {
    if exception.class.starts_with("joptsimple.") {
        terminal.complain(exception.message_text());
    } else {
        terminal.print_both(String::new(), exception.stack_trace());
    }
}

/// `key=value` arguments.
pub(super) fn key_values<'a>(arguments: impl Iterator<Item = &'a str>) -> Settings {
    let pairs = arguments.map(|argument| argument.split_once('=').unwrap_or((argument, "")));
    pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

impl running::Work for ConsoleProducer {
    fn begin(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Result<ConsoleProducer, i32> {
        let begun = ConsoleProducer::set_up(spec, terminal, rng);
        begun.map_err(|stop| not_begun(stop, |exception| tell(exception, terminal)))
    }

    fn deadline(&self) -> Option<Instant> {
        self.producer.next_deadline()
    }

    fn handle(&mut self, now: Now, input: &Input, codecs: &dyn Codecs, out: &mut Outputs) {
        self.producer.handle(now, input, codecs, out);
        match input {
            Input::Stdin { bytes } => self.take_input(bytes),
            Input::StdinClosed => {
                self.ended = true;
                if !self.partial.is_empty() {
                    let line = core::mem::take(&mut self.partial);
                    self.lines.push_back(line);
                }
            }
            Input::Stop => self.close(super::TERMINATED, out),
            _ => {}
        }
        self.tell_results(now, out);
        // What becomes known by sending may be an outcome that the next record waits for.
        loop {
            self.send_lines(now, out);
            let before = self.sent.len();
            self.tell_results(now, out);
            if self.sent.len() == before {
                break;
            }
        }
        self.producer.drive(now, codecs, out);
        self.tell_results(now, out);
    }

    fn ended(&self) -> Option<i32> {
        self.closing.filter(|_| self.producer.incomplete() == 0)
    }

    fn end(&mut self, _: Now, _: i32, out: &mut Outputs) {
        self.producer.finish_close(out);
    }
}

impl ConsoleProducer {
    fn set_up(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Ran<ConsoleProducer> {
        let words = spec.words.get(1..).unwrap_or_default();
        let options = match Options::parse(OPTIONS, words) {
            Ok(options) => options,
            Err(error) => return Err(terminal.usage(OPTIONS, error.message_text())),
        };
        terminal.help_or_version(&options, OPTIONS, ABOUT)?;
        terminal.check(OPTIONS, options.missing(&["topic"]))?;
        let bootstrap = options.required("bootstrap-server")?.to_string();
        terminal.check(OPTIONS, check_bootstrap(&bootstrap))?;
        for (new, old) in RENAMED {
            if options.has(new) && options.has(old) {
                let text = format!("Options --{new} and --{old} cannot be specified together.");
                return Err(terminal.usage(OPTIONS, &text));
            }
        }
        warn(&options, terminal);
        let class = options.value("line-reader")?.unwrap_or(LINE_READER);
        if class != LINE_READER {
            return Err(Exception::new("java.lang.ClassNotFoundException", class).into());
        }
        let mut properties = spec.settings(options.value("reader-config")?)?;
        properties.extend(key_values(options.values("property").chain(options.values("reader-property"))));
        let reader = LineReader::new(&properties)?;
        let mut settings = producer_settings(spec, &options)?;
        known_settings(ClientKind::Producer, &mut settings, &spec.config);
        let config = ProducerConfig::parse(&settings).map_err(Exception::from)?;
        let endpoints = bootstrap_servers(&bootstrap)
            .map_err(|cause| failed_construct("Failed to construct kafka producer", cause))?;
        let mut producer = Producer::new(config, "console-producer", endpoints, fork(rng));
        producer.keep_results();
        Ok(ConsoleProducer {
            producer,
            topic: options.required("topic")?.to_string(),
            index: None,
            reader,
            sync: options.has("sync"),
            partial: Vec::new(),
            lines: VecDeque::new(),
            ended: false,
            blocked: None,
            sent: BTreeMap::new(),
            next: 0,
            closing: None,
        })
    }

    fn take_input(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => {
                    let mut line = core::mem::take(&mut self.partial);
                    line.pop_if(|last| *last == b'\r');
                    self.lines.push_back(line);
                }
                byte => self.partial.push(byte),
            }
        }
    }

    fn close(&mut self, code: i32, out: &mut Outputs) {
        self.closing = Some(code);
        self.lines.clear();
        if let (Some((_, made)), Some(topic)) = (self.blocked.take(), self.index) {
            self.producer.abandon(topic, made, out);
        }
        self.producer.begin_close();
    }

    fn send_lines(&mut self, now: Now, out: &mut Outputs) {
        while self.closing.is_none() {
            if self.sync && !self.sent.is_empty() && self.blocked.is_none() {
                return;
            }
            let (record, made) = match self.blocked.take() {
                Some(blocked) => blocked,
                None => match self.next_record(now, out) {
                    Some(next) => next,
                    None => return,
                },
            };
            let index = *self.index.get_or_insert_with(|| self.producer.topic(&self.topic));
            let headers: Vec<(&str, Option<&[u8]>)> =
                record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            let new = NewRecord {
                partition: None,
                timestamp: now.wall_ms,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
                made,
            };
            match self.producer.send(now, index, &new, out) {
                Ok(_) | Err(SendError::Refused(_)) => {}
                Err(SendError::Blocked) => {
                    self.blocked = Some((record, made));
                    return;
                }
            }
        }
    }

    /// The next line as a record; at the end of input, or at a line that cannot be read, the producer closes.
    fn next_record(&mut self, now: Now, out: &mut Outputs) -> Option<(LineRecord, Made)> {
        let Some(line) = self.lines.pop_front() else {
            if self.ended && (!self.sync || self.sent.is_empty()) {
                self.close(0, out);
            }
            return None;
        };
        match self.reader.read(&String::from_utf8_lossy(&line)) {
            Ok(record) => {
                let made = Made { number: self.next, at: now.mono };
                self.next += 1;
                let sizes = (record.key.as_ref().map(Vec::len), record.value.as_ref().map(Vec::len));
                self.sent.insert(made.number, sizes);
                Some((record, made))
            }
            Err(exception) => {
                Terminal { now, out }.print_both(String::new(), exception.stack_trace());
                self.close(1, out);
                None
            }
        }
    }

    /// `ErrorLoggingCallback`, or with `--sync` the exception of `get`.
    fn tell_results(&mut self, now: Now, out: &mut Outputs) {
        for result in self.producer.take_results() {
            for made in result.records.iter() {
                let sizes = self.sent.remove(&made.number).expect("every record has one outcome");
                if let Err((error, _)) = &result.result {
                    self.tell_failure(now, sizes, error, out);
                }
            }
        }
    }

    fn tell_failure(
        &mut self,
        now: Now,
        (key, value): (Option<usize>, Option<usize>),
        error: &ClientError,
        out: &mut Outputs,
    ) {
        let mut terminal = Terminal { now, out };
        if self.sync {
            let thrown = Exception::execution(error.clone());
            terminal.print_both(String::new(), thrown.stack_trace());
            return self.close(1, out);
        }
        let size = |size: Option<usize>| size.map_or("null".to_string(), |size| format!("{size} bytes"));
        let text = format!(
            "Error when sending message to topic {} with key: {}, value: {} with error:",
            self.topic,
            size(key),
            size(value)
        );
        let logger = "org.apache.kafka.clients.producer.internals.ErrorLoggingCallback";
        terminal.log_error(&text, logger, Some(&error.clone().into()));
    }
}

fn warn(options: &Options, terminal: &mut Terminal<'_>) {
    for (new, old) in RENAMED {
        if options.has(old) {
            terminal.line(format!(
                "Warning: --{old} is deprecated and will be removed in a future version. Use --{new} instead."
            ));
        }
    }
    if options.has("max-partition-memory-bytes") {
        terminal.line(
            "Warning: --max-partition-memory-bytes is deprecated and will be removed in Apache Kafka 5.0. Use \
             --batch-size instead.",
        );
    }
}

fn producer_settings(spec: &CommandSpec, options: &Options) -> Result<Settings, Exception> {
    let file = options.value("producer.config")?.or(options.value("command-config")?);
    let mut settings = spec.settings(file)?;
    settings
        .extend(key_values(options.values("producer-property").chain(options.values("command-property"))));
    let compression = match options.has("compression-codec") {
        true => options.value("compression-codec")?.filter(|codec| !codec.is_empty()).unwrap_or("gzip"),
        false => "none",
    };
    settings.insert("compression.type".into(), compression.into());
    for (name, option, default) in MERGED {
        if options.has(option) {
            settings.insert(name.into(), options.required(option)?.into());
        } else if !settings.contains_key(name) && !spec.config.contains_key(name) {
            settings.insert(name.into(), default.into());
        }
    }
    Ok(settings)
}

//! `kafka-verifiable-producer` (`VerifiableProducer.java`): makes records and tells what became of each as a line of
//! JSON. And what the tools of its manner have in common.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Endpoint, Instant, Nanos, Now};

use super::CommandSpec;
use super::arguments::{self, Arguments, Parser, Unread, arg};
use super::running;
use super::session::{Console, Exception, Terminal, bootstrap_servers, failed_construct, known_settings};
use crate::Rng;
use crate::backoff::fork;
use crate::config::{ClientKind, ProducerConfig, Settings};
use crate::event::Made;
use crate::io::{Input, Outputs};
use crate::metadata::TopicIndex;
use crate::net::sooner;
use crate::producer::{NewRecord, Producer, SendError, SendResult};

/// How many records are made without letting time pass.
const BURST: u64 = 500;

const TOOL: Parser = Parser { name: "", args: &[], one_of: &[], usage: "" };
/// The only command, which no command line names.
pub(super) const ONLY: &str = "only";

const PROGRAM: &str = "verifiable-producer";

const VERIFIABLE: &[Parser] = &[Parser {
    name: ONLY,
    args: &[
        arg("--topic", None),
        arg("--bootstrap-server", None),
        arg("--max-messages", None),
        arg("--throughput", None),
        arg("--acks", None),
        arg("--producer.config", None),
        arg("--message-create-time", None),
        arg("--value-prefix", None),
        arg("--repeating-keys", None),
        arg("--command-config", None),
    ],
    one_of: &["--bootstrap-server"],
    usage: "verifiable-producer [-h] --topic TOPIC [--max-messages MAX-MESSAGES]
                           [--throughput THROUGHPUT] [--acks ACKS]
                           [--producer.config CONFIG-FILE]
                           [--message-create-time CREATE-TIME]
                           [--value-prefix VALUE-PREFIX]
                           [--repeating-keys REPEATING-KEYS]
                           [--command-config CONFIG-FILE]
                           (--bootstrap-server HOST1:PORT1[,HOST2:PORT2[...]])",
}];

/// Why the tool does not begin.
pub(super) enum Wrong {
    /// There was not a single word: the help is told, and all is well.
    Usage(String),
    Arguments(Unread),
    Thrown(Exception),
}

impl Wrong {
    /// Says so, and gives the exit status.
    pub fn tell(self, terminal: &mut Terminal<'_>) -> i32 {
        match self {
            Wrong::Usage(text) => {
                terminal.print(text);
                0
            }
            // To argparse4j that is an exception, and these tools exit alike for all of them.
            Wrong::Arguments(Unread::Help(text)) => {
                terminal.print(text);
                1
            }
            Wrong::Arguments(Unread::Error { text, .. }) => {
                terminal.print_both(String::new(), text);
                1
            }
            Wrong::Thrown(exception) => {
                let text = format!("Exception in thread \"main\" {}", exception.stack_trace());
                terminal.print_both(String::new(), text);
                1
            }
        }
    }
}

impl From<Unread> for Wrong {
    fn from(unread: Unread) -> Wrong {
        Wrong::Arguments(unread)
    }
}

impl From<Exception> for Wrong {
    fn from(exception: Exception) -> Wrong {
        Wrong::Thrown(exception)
    }
}

/// What argparse4j says of a value that is no number of this class.
pub(super) fn not_a_number(name: &str, text: &str, class: &str) -> String {
    format!("argument {name}: could not convert '{text}' to {class} (For input string: \"{text}\")")
}

fn unread(text: &str) -> Unread {
    misused(PROGRAM, VERIFIABLE, text)
}

/// What argparse4j says of a command line that makes no sense.
pub(super) fn misused(program: &str, parsers: &[Parser], text: &str) -> Unread {
    arguments::misused(program, parsers[0].usage, text)
}

/// The arguments of a tool that has no commands.
pub(super) fn arguments_of_tool(
    program: &str,
    parsers: &'static [Parser],
    required: &[&str],
    spec: &CommandSpec,
) -> Result<Arguments, Unread> {
    let mut words = alloc::vec![ONLY.to_string()];
    let mut properties: Option<String> = None;
    // An option for properties takes all words up to the next option.
    for word in spec.words.iter().skip(1) {
        if word.starts_with("--") {
            let many = ["--producer-props", "--command-property"].contains(&word.as_str());
            properties = many.then(|| word.clone());
            if many {
                continue;
            }
        }
        // `--throughput -1`: a negative number is no option.
        if word.starts_with('-') && word.parse::<f64>().is_ok_and(f64::is_finite) {
            if let Some(option) = words.last_mut() {
                option.push_str(&format!("={word}"));
            }
            continue;
        }
        match &properties {
            Some(option) => words.push(format!("{option}={word}")),
            None => words.push(word.clone()),
        }
    }
    let arguments = Arguments::parse(program, &TOOL, parsers, &words)?;
    match required.iter().find(|name| !arguments.has(name)) {
        Some(name) => Err(misused(program, parsers, &format!("argument {name} is required"))),
        None => Ok(arguments),
    }
}

fn settings_of(spec: &CommandSpec, arguments: &Arguments) -> Result<(Settings, Vec<Endpoint>), Wrong> {
    let (new, old) = (arguments.value("--command-config"), arguments.value("--producer.config"));
    if new.is_some() && old.is_some() {
        let text = "Options --producer.config and --command-config are mutually exclusive.";
        return Err(unread(text).into());
    }
    let mut settings = Settings::new();
    settings.insert("acks".into(), arguments.value("--acks").unwrap_or("-1").into());
    settings.insert("retries".into(), "0".into());
    settings.extend(spec.settings(new.or(old))?);
    known_settings(ClientKind::Producer, &mut settings, &spec.config);
    let endpoints = bootstrap_servers(arguments.value("--bootstrap-server").unwrap_or_default())
        .map_err(|cause| failed_construct("Failed to construct kafka producer", cause))?;
    Ok((settings, endpoints))
}

/// A line of JSON, with the time and a name before its fields.
pub(super) fn tell(now: Now, name: &str, fields: &str, out: &mut Outputs) {
    let separator = if fields.is_empty() { "" } else { "," };
    let line = format!("{{\"timestamp\":{},\"name\":\"{name}\"{separator}{fields}}}", now.wall_ms);
    Terminal { now, out }.line(line);
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04X}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[derive(Clone)]
pub(super) struct Load {
    producer: Producer,
    topic: TopicIndex,
    name: String,
    count: Option<u64>,
    /// Records per second, unless there is no limit.
    throughput: Option<u64>,
    target: i64,
    prefix: Option<i64>,
    /// So many keys take turns; 0: none.
    keys: u64,
    /// The timestamp of the next record, if it is not the clock's.
    created: Option<i64>,
    start: Now,
    made: u64,
    /// The record that `send` blocks on.
    blocked: Option<Made>,
    acked: u64,
    /// When to make more records.
    more_at: Option<Instant>,
    closing: Option<i32>,
}

impl running::Work for Load {
    fn begin(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Result<Load, i32> {
        let load = Load::set_up(spec, terminal.now, rng).map_err(|wrong| wrong.tell(terminal))?;
        tell(terminal.now, "startup_complete", "", terminal.out);
        Ok(load)
    }

    fn deadline(&self) -> Option<Instant> {
        sooner(self.more_at, self.producer.next_deadline())
    }

    fn handle(&mut self, now: Now, input: &Input, codecs: &dyn Codecs, out: &mut Outputs) {
        self.producer.handle(now, input, codecs, out);
        self.tell_results(now, out);
        if matches!(input, Input::Stop) {
            self.close(super::TERMINATED, out);
        }
        self.make(now, out);
        self.producer.drive(now, codecs, out);
        self.tell_results(now, out);
    }

    fn ended(&self) -> Option<i32> {
        self.closing.filter(|_| self.producer.incomplete() == 0)
    }

    /// Everything has an outcome.
    fn end(&mut self, now: Now, _: i32, out: &mut Outputs) {
        tell(now, "shutdown_complete", "", out);
        let elapsed = (now.wall_ms - self.start.wall_ms).max(1);
        let average = 1000.0 * (self.acked as f64 / elapsed as f64);
        let fields = format!(
            "\"sent\":{},\"acked\":{},\"target_throughput\":{},\"avg_throughput\":{average:?}",
            self.made, self.acked, self.target
        );
        tell(now, "tool_data", &fields, out);
        self.producer.finish_close(out);
    }
}

impl Load {
    fn set_up(spec: &CommandSpec, now: Now, rng: &mut Rng) -> Result<Load, Wrong> {
        if spec.words.len() <= 1 {
            return Err(Wrong::Usage(format!("usage: {}\n", VERIFIABLE[0].usage)));
        }
        let arguments = arguments_of_tool(PROGRAM, VERIFIABLE, &["--topic"], spec)?;
        let number = |name: &str, default: i64| match arguments.value(name) {
            None => Ok(default),
            Some(text) => text.parse::<i64>().map_err(|_| unread(&not_a_number(name, text, "Integer"))),
        };
        let count = number("--max-messages", -1)?;
        let throughput = number("--throughput", -1)?;
        let prefix = arguments.value("--value-prefix").map(|_| number("--value-prefix", 0)).transpose()?;
        let (settings, endpoints) = settings_of(spec, &arguments)?;
        let config = ProducerConfig::parse(&settings).map_err(Exception::from)?;
        let mut producer = Producer::new(config, "producer-1", endpoints, fork(rng));
        producer.keep_results();
        Ok(Load {
            topic: producer.topic(arguments.value("--topic").unwrap_or_default()),
            name: arguments.value("--topic").unwrap_or_default().to_string(),
            producer,
            count: u64::try_from(count).ok(),
            throughput: u64::try_from(throughput).ok().filter(|rate| *rate > 0),
            target: throughput,
            prefix,
            keys: number("--repeating-keys", 0)?.max(0) as u64,
            created: Some(number("--message-create-time", -1)?).filter(|ms| *ms >= 0),
            start: now,
            made: 0,
            blocked: None,
            acked: 0,
            more_at: None,
            closing: None,
        })
    }

    fn close(&mut self, code: i32, out: &mut Outputs) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(code);
        self.more_at = None;
        if let Some(made) = self.blocked.take() {
            self.producer.abandon(self.topic, made, out);
        }
        self.producer.begin_close();
    }

    /// Makes the records that are due; closes after the last.
    fn make(&mut self, now: Now, out: &mut Outputs) {
        self.more_at = None;
        for _ in 0..BURST {
            if self.closing.is_some() {
                return;
            }
            let made = match self.blocked.take() {
                Some(made) => made,
                None if self.count.is_some_and(|count| self.made >= count) => return self.close(0, out),
                None => {
                    let after = self
                        .throughput
                        .map_or(0, |rate| (u128::from(self.made) * 1_000_000_000 / u128::from(rate)) as u64);
                    let due = self.start.mono + Nanos(after);
                    if due > now.mono {
                        self.more_at = Some(due);
                        return;
                    }
                    self.made += 1;
                    Made { number: self.made - 1, at: now.mono }
                }
            };
            if let Err(SendError::Blocked) = self.send(now, made, out) {
                self.blocked = Some(made);
                return;
            }
        }
        self.more_at = Some(now.mono + Nanos::from_millis(1));
    }

    fn send(&mut self, now: Now, made: Made, out: &mut Outputs) -> Result<i32, SendError> {
        let (key, value) = (self.key(made.number), self.value(made.number));
        let timestamp = self.created.unwrap_or(now.wall_ms);
        let key = key.as_deref().map(str::as_bytes);
        let record =
            NewRecord { partition: None, timestamp, key, value: Some(value.as_bytes()), headers: &[], made };
        let sent = self.producer.send(now, self.topic, &record, out);
        if let (Some(created), Ok(_)) = (&mut self.created, &sent) {
            *created += now.wall_ms - self.start.wall_ms;
        }
        sent
    }

    fn key(&self, number: u64) -> Option<String> {
        (self.keys > 0).then(|| (number % self.keys).to_string())
    }

    fn value(&self, number: u64) -> String {
        self.prefix.map_or_else(|| number.to_string(), |prefix| format!("{prefix}.{number}"))
    }

    fn tell_results(&mut self, now: Now, out: &mut Outputs) {
        for result in self.producer.take_results() {
            self.tell_records(now, &result, out);
        }
    }

    fn tell_records(&mut self, now: Now, result: &SendResult, out: &mut Outputs) {
        for (i, made) in result.records.iter().enumerate() {
            let key = self.key(made.number).map_or_else(|| "null".to_string(), |key| quoted(&key));
            let value = quoted(&self.value(made.number));
            let topic = quoted(&self.name);
            match &result.result {
                Ok(base) => {
                    self.acked += 1;
                    let offset = if *base < 0 { -1 } else { base + i as i64 };
                    let fields = format!(
                        "\"key\":{key},\"value\":{value},\"offset\":{offset},\"topic\":{topic},\"partition\":{}",
                        result.partition.unwrap_or(-1)
                    );
                    tell(now, "producer_send_success", &fields, out);
                }
                Err((error, _)) => {
                    let class = quoted(&format!("class {}", error.class));
                    let message = quoted(&error.message);
                    let fields = format!(
                        "\"topic\":{topic},\"key\":{key},\"value\":{value},\"exception\":{class},\"message\":{message}"
                    );
                    tell(now, "producer_send_error", &fields, out);
                }
            }
        }
    }
}

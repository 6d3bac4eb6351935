//! The tools that make records themselves: `kafka-verifiable-producer` (`VerifiableProducer.java`), which tells what
//! became of each as a line of JSON, and `kafka-producer-perf-test` (`ProducerPerformance.java`), which measures.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Endpoint, Instant, Nanos, Now};

use super::CommandSpec;
use super::arguments::{self, Arguments, Parser, Unread, arg};
use super::console_producer::key_values;
use super::session::{Console, Exception, Terminal, bootstrap_servers, failed_construct, known_settings};
use crate::Rng;
use crate::backoff::{below, fork};
use crate::config::{ClientKind, ProducerConfig, Settings};
use crate::event::Made;
use crate::io::{Input, Output, Outputs};
use crate::metadata::TopicIndex;
use crate::net::sooner;
use crate::producer::{NewRecord, Producer, SendError, SendResult};

/// How many records are made without letting time pass.
const BURST: u64 = 500;
/// `MAX_SAMPLES` of latencies.
const MAX_SAMPLES: u64 = 500_000;

const TOOL: Parser = Parser { name: "", args: &[], one_of: &[], usage: "" };
/// The only command, which no command line names.
pub(super) const ONLY: &str = "only";

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

const PERFORMANCE: &[Parser] = &[Parser {
    name: ONLY,
    args: &[
        arg("--topic", None),
        arg("--bootstrap-server", None),
        arg("--num-records", None),
        arg("--record-size", None),
        arg("--throughput", None),
        arg("--producer-props", None),
        arg("--command-property", None),
        arg("--producer.config", None),
        arg("--command-config", None),
        arg("--reporting-interval", None),
    ],
    one_of: &["--record-size"],
    usage: "producer-performance [-h] [--bootstrap-server BOOTSTRAP-SERVERS] --topic TOPIC
                            --num-records NUM-RECORDS --throughput THROUGHPUT
                            [--producer-props PROP-NAME=PROP-VALUE [PROP-NAME=PROP-VALUE ...]]
                            [--command-property PROP-NAME=PROP-VALUE [PROP-NAME=PROP-VALUE ...]]
                            [--producer.config CONFIG-FILE]
                            [--command-config CONFIG-FILE]
                            [--reporting-interval INTERVAL-MS]
                            --record-size RECORD-SIZE",
}];

/// Which of the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Verifiable,
    Performance,
}

impl Kind {
    fn parser(self) -> (&'static str, &'static [Parser]) {
        match self {
            Kind::Verifiable => ("verifiable-producer", VERIFIABLE),
            Kind::Performance => ("producer-performance", PERFORMANCE),
        }
    }

    fn required(self) -> &'static [&'static str] {
        match self {
            Kind::Verifiable => &["--topic"],
            Kind::Performance => &["--topic", "--num-records", "--throughput"],
        }
    }
}

/// The tool as a process.
#[derive(Clone)]
pub(super) struct Load {
    kind: Kind,
    rng: Rng,
    work: Option<Box<Work>>,
    exit: Option<i32>,
}

impl Load {
    pub fn new(kind: Kind, rng: Rng) -> Load {
        Load { kind, rng, work: None, exit: None }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.work.as_ref().filter(|_| self.exit.is_none()).and_then(|work| work.deadline())
    }

    pub fn handle(
        &mut self,
        spec: &CommandSpec,
        now: Now,
        input: Input,
        codecs: &dyn Codecs,
        out: &mut Outputs,
    ) {
        if self.exit.is_some() {
            return;
        }
        if matches!(input, Input::Start) {
            match self.set_up(spec, now) {
                Ok(work) => self.work = Some(Box::new(work)),
                Err(wrong) => {
                    let code = wrong.tell(&mut Terminal { now, out });
                    return self.finish(code, out);
                }
            }
            if self.kind == Kind::Verifiable {
                tell(now, "startup_complete", "", out);
            }
        }
        let Some(work) = &mut self.work else { return self.finish(super::TERMINATED, out) };
        work.handle(now, input, codecs, out);
        if let Some(code) = work.closing.filter(|_| work.producer.incomplete() == 0) {
            work.end(now, out);
            work.producer.finish_close(out);
            self.finish(code, out);
        }
    }

    fn finish(&mut self, code: i32, out: &mut Outputs) {
        self.exit = Some(code);
        out.items.push(Output::Exit { code });
    }

    fn set_up(&mut self, spec: &CommandSpec, now: Now) -> Result<Work, Wrong> {
        let kind = self.kind;
        let arguments = arguments_of(kind, spec)?;
        let unread = |text: String| unread(kind, &text);
        let number = |name: &str, default: i64| match arguments.value(name) {
            None => Ok(default),
            Some(text) => text.parse::<i64>().map_err(|_| {
                unread(format!(
                    "argument {name}: could not convert '{text}' to Integer (For input string: \"{text}\")"
                ))
            }),
        };
        let count = number(if kind == Kind::Verifiable { "--max-messages" } else { "--num-records" }, -1)?;
        let size = number("--record-size", 0)?;
        if kind == Kind::Performance && size <= 0 {
            let text = "--record-size should be greater than zero.".to_string();
            return Err(Exception::illegal_argument(text).into());
        }
        let throughput = number("--throughput", -1)?;
        let prefix = arguments.value("--value-prefix").map(|_| number("--value-prefix", 0)).transpose()?;
        let (settings, endpoints) = settings_of(kind, spec, &arguments)?;
        let config = ProducerConfig::parse(&settings).map_err(Exception::from)?;
        let name = if kind == Kind::Verifiable { "producer-1" } else { "perf-producer-client" };
        let mut producer = Producer::new(config, name, endpoints, fork(&mut self.rng));
        producer.keep_results();
        let mut payload = Vec::new();
        payload.resize_with(size as usize, || b'A' + below(&mut self.rng, 26) as u8);
        Ok(Work {
            kind,
            topic: producer.topic(arguments.value("--topic").unwrap_or_default()),
            name: arguments.value("--topic").unwrap_or_default().to_string(),
            producer,
            count: u64::try_from(count).ok(),
            throughput: u64::try_from(throughput).ok().filter(|rate| *rate > 0),
            target: throughput,
            prefix,
            keys: number("--repeating-keys", 0)?.max(0) as u64,
            created: Some(number("--message-create-time", -1)?).filter(|ms| *ms >= 0),
            payload,
            start: now,
            made: 0,
            blocked: None,
            acked: 0,
            more_at: None,
            closing: None,
            latencies: BTreeMap::new(),
            total: Figures::new(now.mono),
            window: Figures::new(now.mono),
            interval: Nanos::from_millis(number("--reporting-interval", 5000)?.max(1) as u64),
        })
    }
}

/// Why the tool does not begin.
pub(super) enum Wrong {
    Arguments(Unread),
    Thrown(Exception),
}

impl Wrong {
    /// Says so, and gives the exit status.
    pub fn tell(self, terminal: &mut Terminal<'_>) -> i32 {
        match self {
            Wrong::Arguments(Unread::Help(text)) => {
                terminal.print(text);
                0
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

fn unread(kind: Kind, text: &str) -> Unread {
    let (program, parsers) = kind.parser();
    misused(program, parsers, text)
}

/// What argparse4j says of a command line that makes no sense.
pub(super) fn misused(program: &str, parsers: &[Parser], text: &str) -> Unread {
    arguments::misused(program, parsers[0].usage, text)
}

fn arguments_of(kind: Kind, spec: &CommandSpec) -> Result<Arguments, Unread> {
    let (program, parsers) = kind.parser();
    arguments_of_tool(program, parsers, kind.required(), spec)
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
        if word.starts_with('-') && word.parse::<i64>().is_ok() {
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

fn settings_of(
    kind: Kind,
    spec: &CommandSpec,
    arguments: &Arguments,
) -> Result<(Settings, Vec<Endpoint>), Wrong> {
    let (new, old) = (arguments.value("--command-config"), arguments.value("--producer.config"));
    if new.is_some() && old.is_some() {
        let text = "Options --producer.config and --command-config are mutually exclusive.";
        return Err(unread(kind, text).into());
    }
    let file = spec.settings(new.or(old))?;
    let mut settings = Settings::new();
    if kind == Kind::Verifiable {
        settings.insert("acks".into(), arguments.value("--acks").unwrap_or("-1").into());
        settings.insert("retries".into(), "0".into());
    }
    settings.extend(file);
    let given = arguments.values("--producer-props").chain(arguments.values("--command-property"));
    settings.extend(key_values(given));
    let own = arguments.value("--bootstrap-server").map(str::to_string);
    let Some(bootstrap) = own.or_else(|| settings.get("bootstrap.servers").cloned()) else {
        let text = "At least one of --bootstrap-server, --command-property, --producer-props, --producer.config or \
                    --command-config must be specified.";
        return Err(unread(kind, text).into());
    };
    known_settings(ClientKind::Producer, &mut settings, &spec.config);
    let endpoints = bootstrap_servers(&bootstrap)
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

/// What is measured over some time.
#[derive(Clone, Copy, Debug)]
struct Figures {
    since: Instant,
    count: u64,
    bytes: u64,
    total_ms: u64,
    max_ms: u64,
}

impl Figures {
    fn new(since: Instant) -> Figures {
        Figures { since, count: 0, bytes: 0, total_ms: 0, max_ms: 0 }
    }

    fn observe(&mut self, ms: u64, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
        self.total_ms += ms;
        self.max_ms = self.max_ms.max(ms);
    }

    /// Records and MB per second, and the average latency.
    fn rates(&self, now: Instant) -> (f64, f64, f64) {
        let seconds = now.since(self.since).as_millis().max(1) as f64 / 1000.0;
        let average = self.total_ms as f64 / self.count.max(1) as f64;
        (self.count as f64 / seconds, self.bytes as f64 / seconds / (1024.0 * 1024.0), average)
    }
}

#[derive(Clone)]
struct Work {
    kind: Kind,
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
    payload: Vec<u8>,
    start: Now,
    made: u64,
    /// The record that `send` blocks on.
    blocked: Option<Made>,
    acked: u64,
    /// When to make more records.
    more_at: Option<Instant>,
    closing: Option<i32>,
    /// How often each latency was met, in milliseconds.
    latencies: BTreeMap<u64, u64>,
    total: Figures,
    window: Figures,
    interval: Nanos,
}

impl Work {
    fn deadline(&self) -> Option<Instant> {
        sooner(self.more_at, self.producer.next_deadline())
    }

    fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        self.producer.handle(now, &input, codecs, out);
        self.tell_results(now, out);
        if matches!(input, Input::Stop) {
            self.close(super::TERMINATED, out);
        }
        self.make(now, out);
        self.producer.drive(now, codecs, out);
        self.tell_results(now, out);
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
        let value = match self.kind {
            Kind::Verifiable => value.as_bytes(),
            Kind::Performance => &self.payload,
        };
        let key = key.as_deref().map(str::as_bytes);
        let record = NewRecord { partition: None, timestamp, key, value: Some(value), headers: &[], made };
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
            match self.kind {
                Kind::Verifiable => self.tell_records(now, &result, out),
                Kind::Performance => self.measure(now, &result, out),
            }
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

    fn measure(&mut self, now: Now, result: &SendResult, out: &mut Outputs) {
        for made in result.records.iter() {
            if let Err((error, _)) = &result.result {
                let trace = Exception::from(error.clone()).stack_trace();
                Terminal { now, out }.print_both(String::new(), trace);
                continue;
            }
            let (ms, bytes) = (now.mono.since(made.at).as_millis(), self.payload.len() as u64);
            self.total.observe(ms, bytes);
            self.window.observe(ms, bytes);
            let sampling = self.count.map_or(1, |count| (count / count.clamp(1, MAX_SAMPLES)).max(1));
            if (self.total.count - 1).is_multiple_of(sampling) {
                *self.latencies.entry(ms).or_default() += 1;
            }
            if now.mono.since(self.window.since) >= self.interval {
                let (records, megabytes, average) = self.window.rates(now.mono);
                let (count, max) = (self.window.count, self.window.max_ms as f64);
                Terminal { now, out }.line(format!(
                    "{count} records sent, {records:.1} records/sec ({megabytes:.2} MB/sec), {average:.1} ms avg \
                     latency, {max:.1} ms max latency."
                ));
                self.window = Figures::new(now.mono);
            }
        }
    }

    /// The latency that so many of 1,000 samples do not exceed.
    fn percentile(&self, permille: u64) -> u64 {
        let samples: u64 = self.latencies.values().sum();
        let mut left = samples * permille / 1000;
        for (&ms, &count) in &self.latencies {
            if left < count {
                return ms;
            }
            left -= count;
        }
        self.latencies.last_key_value().map_or(0, |(&ms, _)| ms)
    }

    /// Everything has an outcome.
    fn end(&mut self, now: Now, out: &mut Outputs) {
        if self.kind == Kind::Verifiable {
            tell(now, "shutdown_complete", "", out);
            let elapsed = (now.wall_ms - self.start.wall_ms).max(1);
            let average = 1000.0 * (self.acked as f64 / elapsed as f64);
            let fields = format!(
                "\"sent\":{},\"acked\":{},\"target_throughput\":{},\"avg_throughput\":{average:?}",
                self.made, self.acked, self.target
            );
            return tell(now, "tool_data", &fields, out);
        }
        let (records, megabytes, average) = self.total.rates(now.mono);
        let (count, max) = (self.total.count, self.total.max_ms as f64);
        let percentiles = [500, 950, 990, 999].map(|permille| self.percentile(permille));
        let [half, p95, p99, p999] = percentiles;
        Terminal { now, out }.line(format!(
            "{count} records sent, {records:.6} records/sec ({megabytes:.2} MB/sec), {average:.2} ms avg latency, \
             {max:.2} ms max latency, {half} ms 50th, {p95} ms 95th, {p99} ms 99th, {p999} ms 99.9th."
        ));
    }
}

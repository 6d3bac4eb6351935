//! `kafka-e2e-latency` (`EndToEndLatency.java`, KIP-1172): sends one record at a time, reads it back, and tells how long
//! that takes.
//!
//! Time is the world's: in a simulated cluster a latency is what its links and disks take, to the nanosecond.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Endpoint, Instant, Nanos, Now};

use super::CommandSpec;
use super::java::Random;
use super::options::{Help, Options};
use super::running::{self, not_begun};
use super::session::{
    Console, Exception, Ran, Stop, Terminal, bootstrap_servers, failed_construct, known_settings, result_of,
};
use crate::Rng;
use crate::admin::{Admin, NewTopic, TopicOptions};
use crate::backoff::fork;
use crate::config::{AdminConfig, ClientKind, ConsumerConfig, ProducerConfig, Settings};
use crate::consumer::{Consumer, StartAt};
use crate::event::{Made, TopicPartition};
use crate::io::{Input, Outputs};
use crate::metadata::TopicIndex;
use crate::net::sooner;
use crate::producer::{NewRecord, Producer};

const ABOUT: &str =
    "This tool measures end-to-end latency in Kafka by sending messages and timing their reception.";

/// `POLL_TIMEOUT_MS`.
const POLL_TIMEOUT: Nanos = Nanos::from_millis(60_000);

const OPTIONS: Help = Help(include_str!("help/kafka-e2e-latency.txt"));

const REQUIRED: [&str; 5] = ["bootstrap-server", "topic", "num-records", "producer-acks", "record-size"];

/// What the command line asks for.
#[derive(Clone)]
struct Plan {
    bootstrap: Vec<Endpoint>,
    topic: String,
    records: usize,
    acks: String,
    value_size: usize,
    key_size: usize,
    headers: usize,
    header_key_size: usize,
    /// `None`: null.
    header_size: Option<usize>,
    settings: Settings,
}

/// Where the tool is.
#[derive(Clone)]
enum Doing {
    /// `listTopics`.
    Listing,
    /// `createTopics`, because there is no such topic.
    Creating,
    /// `partitionsFor`, and then the position of each.
    Positions,
    /// `send(…).get()`.
    Sending { sent: Sent },
    /// `poll`.
    Polling { sent: Sent, until: Instant },
    /// `commitSync`, after which it ends, perhaps with an exception.
    Committing { failure: Option<Exception> },
    /// `close` of both clients.
    Closing { code: i32 },
}

/// A record on its way.
#[derive(Clone)]
struct Sent {
    begin: Instant,
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    /// The producer has taken it.
    taken: bool,
}

/// A record that was read.
struct Read {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The tool at work.
#[derive(Clone)]
pub(super) struct EndToEndLatency {
    plan: Plan,
    doing: Doing,
    /// It ends with this, and waits for nothing.
    gave_up: Option<i32>,
    admin: Admin,
    consumer: Consumer,
    producer: Producer,
    topic: TopicIndex,
    random: Random,
    latencies: Vec<u64>,
    /// The sum in nanoseconds.
    total: u64,
}

impl running::Work for EndToEndLatency {
    fn begin(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Result<EndToEndLatency, i32> {
        let begun = plan(spec, terminal)
            .and_then(|plan| EndToEndLatency::set_up(plan, spec, terminal.now, terminal.out, rng));
        begun.map_err(|stop| not_begun(stop, |exception| terminal.print_exception(exception)))
    }

    fn deadline(&self) -> Option<Instant> {
        let admin = match &self.doing {
            Doing::Listing | Doing::Creating => self.admin.next_deadline(),
            _ => None,
        };
        let until = match &self.doing {
            Doing::Polling { until, .. } => Some(*until),
            _ => None,
        };
        let consumer = self.consumer_runs().then(|| self.consumer.next_deadline()).flatten();
        sooner(sooner(admin, until), sooner(consumer, self.producer.next_deadline()))
    }

    fn handle(&mut self, now: Now, input: &Input, codecs: &dyn Codecs, out: &mut Outputs) {
        if matches!(input, Input::Start) {
            return;
        }
        match self.take(now, input, codecs, out) {
            Ok(()) | Err(Stop::Wait) => {}
            Err(Stop::Exit(code)) => self.gave_up = Some(code),
            Err(Stop::Thrown(exception)) => {
                Terminal { now, out }.print_exception(&exception);
                self.gave_up = Some(1);
            }
        }
    }

    /// Both clients are closed, or it does not wait for that.
    fn ended(&self) -> Option<i32> {
        match self.doing {
            _ if self.gave_up.is_some() => self.gave_up,
            Doing::Closing { code } if self.producer.incomplete() == 0 && self.consumer.is_closed() => {
                Some(code)
            }
            _ => None,
        }
    }

    fn end(&mut self, _: Now, _: i32, out: &mut Outputs) {
        self.admin.close(out);
        self.producer.finish_close(out);
        self.consumer.finish_close(out);
    }
}

impl EndToEndLatency {
    fn set_up(
        plan: Plan,
        spec: &CommandSpec,
        now: Now,
        out: &mut Outputs,
        rng: &mut Rng,
    ) -> Ran<EndToEndLatency> {
        let settings = |kind, own: &[(&str, String)]| {
            let mut settings = plan.settings.clone();
            settings.extend(own.iter().map(|(name, value)| (name.to_string(), value.clone())));
            known_settings(kind, &mut settings, &spec.config);
            settings
        };
        let own = [
            ("group.id", format!("test-group-{}", now.wall_ms)),
            ("enable.auto.commit", "false".into()),
            ("auto.offset.reset", "latest".into()),
            ("fetch.max.wait.ms", "0".into()),
        ];
        let consumer = ConsumerConfig::parse(&settings(ClientKind::Consumer, &own))
            .map_err(|error| failed_construct("Failed to construct kafka consumer", error.into()))?;
        let own =
            [("linger.ms", "0".into()), ("max.block.ms", i64::MAX.to_string()), ("acks", plan.acks.clone())];
        let producer = ProducerConfig::parse(&settings(ClientKind::Producer, &own))
            .map_err(|error| failed_construct("Failed to construct kafka producer", error.into()))?;
        let admin = AdminConfig::parse(&settings(ClientKind::Admin, &[])).map_err(Exception::from)?;
        let servers = || plan.bootstrap.clone();
        let group = own_client_id("consumer-test-group", now.wall_ms);
        let mut producer = Producer::new(producer, "producer-1", servers(), fork(rng));
        producer.keep_results();
        let topic = producer.topic(&plan.topic);
        let mut work = EndToEndLatency {
            gave_up: None,
            doing: Doing::Listing,
            admin: Admin::new(admin, "adminclient-1", servers(), fork(rng)),
            consumer: Consumer::new(consumer, &group, servers(), fork(rng)),
            producer,
            topic,
            random: Random::new(0),
            latencies: Vec::with_capacity(plan.records.min(1 << 20)),
            total: 0,
            plan,
        };
        work.admin.list_topics(now, true);
        work.admin.drive(now, out);
        Ok(work)
    }

    /// A consumer does what it does while its application is in a call of it.
    fn consumer_runs(&self) -> bool {
        !matches!(self.doing, Doing::Listing | Doing::Creating | Doing::Sending { .. })
    }

    fn take(&mut self, now: Now, input: &Input, codecs: &dyn Codecs, out: &mut Outputs) -> Ran {
        if matches!(input, Input::Stop) {
            return Err(Stop::Exit(super::TERMINATED));
        }
        self.admin.handle(now, input, out);
        self.consumer.handle(now, input, out);
        self.producer.handle(now, input, codecs, out);
        loop {
            let mut went_on = false;
            while self.step(now, codecs, out)? {
                went_on = true;
            }
            self.admin.drive(now, out);
            self.producer.drive(now, codecs, out);
            if self.consumer_runs() {
                self.consumer.drive(now, out);
            }
            // Driving a client may have ended what is waited for.
            if !went_on && !self.is_due() {
                return Ok(());
            }
        }
    }

    /// Whether a step would go on, which driving the clients may bring about.
    fn is_due(&self) -> bool {
        match &self.doing {
            Doing::Polling { .. } => self.consumer.has_records(),
            Doing::Committing { .. } => self.consumer.has_commit_result(),
            _ => false,
        }
    }

    /// Goes one step further, if what is waited for has come.
    fn step(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) -> Ran<bool> {
        match self.doing.clone() {
            Doing::Listing | Doing::Creating => self.take_topics(now, out),
            Doing::Positions => Ok(self.find_positions(now)),
            Doing::Sending { sent } => self.send(now, sent, out),
            Doing::Polling { sent, until } => self.poll(now, &sent, until, codecs, out),
            Doing::Committing { failure } => self.take_commit(now, failure, out),
            Doing::Closing { .. } => Ok(false),
        }
    }

    fn take_topics(&mut self, now: Now, out: &mut Outputs) -> Ran<bool> {
        let Some((_, result)) = self.admin.take_result() else { return Ok(false) };
        let topic = self.plan.topic.clone();
        if matches!(self.doing, Doing::Creating) {
            let mut created = result_of!(result, Created);
            if let Some(Err(error)) = created.remove(&topic) {
                Terminal { now, out }.line(format!("Creation of topic {topic} failed"));
                return Err(Exception::runtime(Exception::execution(error)).into());
            }
        } else {
            let topics = result_of!(result, Topics).map_err(listing_failed)?;
            if !topics.iter().any(|listed| listed.name == topic) {
                Terminal { now, out }.line(format!(
                    "Topic \"{topic}\" does not exist. Will create topic with 1 partition(s) and replication factor = 1"
                ));
                let new = NewTopic {
                    name: topic,
                    partitions: Some(1),
                    replication_factor: Some(1),
                    ..NewTopic::default()
                };
                self.admin.create_topics(now, vec![new], false, TopicOptions::default());
                self.doing = Doing::Creating;
                return Ok(true);
            }
        }
        self.consumer.add_topic(&topic);
        self.doing = Doing::Positions;
        Ok(true)
    }

    /// Reads all partitions from their ends on.
    fn find_positions(&mut self, now: Now) -> bool {
        let metadata = self.consumer.metadata();
        let Some(index) = metadata.topic_named(&self.plan.topic) else { return false };
        let count = metadata.topic(index).partitions.len() as i32;
        for partition in 0..count {
            self.consumer.assign(&TopicPartition::new(&*self.plan.topic, partition), StartAt::End);
        }
        let known = |partition: &TopicPartition| self.consumer.position(partition).is_some();
        if count == 0 || !self.consumer.assignment().all(known) {
            return false;
        }
        self.next_record(now);
        true
    }

    fn next_record(&mut self, now: Now) {
        let (random, plan) = (&mut self.random, &self.plan);
        let key = random_bytes(random, plan.key_size);
        let value = random_bytes(random, plan.value_size);
        let mut headers = Vec::with_capacity(plan.headers);
        for _ in 0..plan.headers {
            let key = random_bytes(random, plan.header_key_size);
            let value = plan.header_size.map(|size| random_bytes(random, size));
            headers.push((String::from_utf8_lossy(&key).into_owned(), value));
        }
        let sent = Sent { begin: now.mono, key, value, headers, taken: false };
        self.doing = Doing::Sending { sent };
    }

    fn send(&mut self, now: Now, mut sent: Sent, out: &mut Outputs) -> Ran<bool> {
        if !sent.taken {
            let headers: Vec<(&str, Option<&[u8]>)> =
                sent.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            let record = NewRecord {
                partition: None,
                timestamp: now.wall_ms,
                key: Some(&sent.key),
                value: Some(&sent.value),
                headers: &headers,
                made: Made { number: self.latencies.len() as u64, at: now.mono },
            };
            // A record that is refused has a result, too; one that blocks is handed over again.
            sent.taken = !matches!(
                self.producer.send(now, self.topic, &record, out),
                Err(crate::producer::SendError::Blocked)
            );
            let taken = sent.taken;
            self.doing = Doing::Sending { sent };
            return Ok(taken);
        }
        let Some(result) = self.producer.take_results().pop() else { return Ok(false) };
        result.result.map_err(|(error, _)| Exception::execution(error))?;
        self.doing = Doing::Polling { sent, until: now.mono + POLL_TIMEOUT };
        Ok(true)
    }

    fn poll(
        &mut self,
        now: Now,
        sent: &Sent,
        until: Instant,
        codecs: &dyn Codecs,
        out: &mut Outputs,
    ) -> Ran<bool> {
        let mut read = Vec::new();
        if self.consumer.has_records() {
            self.consumer.begin_poll(now, out);
            let polled = self.consumer.poll(codecs, out, &mut |_, record| {
                let header = |header: wire::batch::Header<'_>| {
                    (header.key.to_string(), header.value.map(<[u8]>::to_vec))
                };
                read.push(Read {
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: record.headers.map(header).collect(),
                });
            });
            self.consumer.end_poll(now);
            polled.map_err(Exception::from)?;
        }
        if read.is_empty() && now.mono < until {
            return Ok(false);
        }
        let elapsed = now.mono.since(sent.begin).0;
        if let Err(text) = validate(sent, &read) {
            let failure = Exception::new("java.lang.RuntimeException", text);
            self.commit(now, Some(failure), out);
            return Ok(true);
        }
        let milliseconds = elapsed as f64 / 1000.0 / 1000.0;
        if self.latencies.len().is_multiple_of(1000) {
            Terminal { now, out }.line(format!("{}\t{milliseconds:?}", self.latencies.len()));
        }
        self.total += elapsed;
        self.latencies.push(elapsed / 1_000_000);
        if self.latencies.len() < self.plan.records {
            self.next_record(now);
        } else {
            self.report(now, out);
            self.commit(now, None, out);
        }
        Ok(true)
    }

    fn report(&mut self, now: Now, out: &mut Outputs) {
        let count = self.latencies.len();
        let mut terminal = Terminal { now, out };
        let average = self.total as f64 / count as f64 / 1000.0 / 1000.0;
        terminal.line(format!("Avg latency: {average:.4} ms"));
        self.latencies.sort_unstable();
        let [p50, p99, p999] = [500, 990, 999].map(|permille| self.latencies[count * permille / 1000]);
        terminal.line(format!("Percentiles: 50th = {p50}, 99th = {p99}, 99.9th = {p999}"));
    }

    fn commit(&mut self, now: Now, failure: Option<Exception>, out: &mut Outputs) {
        self.consumer.commit_sync(now, None, out);
        self.doing = Doing::Committing { failure };
    }

    fn take_commit(&mut self, now: Now, failure: Option<Exception>, out: &mut Outputs) -> Ran<bool> {
        let Some(result) = self.consumer.take_commit_result() else { return Ok(false) };
        result.map_err(Exception::from)?;
        let code = match failure {
            Some(failure) => return Err(failure.into()),
            None => 0,
        };
        self.producer.begin_close();
        self.consumer.begin_close(now, out);
        self.doing = Doing::Closing { code };
        Ok(true)
    }
}

/// A consumer without a `client.id` names itself by its group.
fn own_client_id(prefix: &str, wall_ms: i64) -> String {
    format!("{prefix}-{wall_ms}-1")
}

/// The consumer that Kafka's tool asks says it in other words than an admin client.
fn listing_failed(error: crate::error::ClientError) -> Exception {
    let class = "org.apache.kafka.common.errors.TimeoutException";
    match error.class {
        timeout if timeout == class => Exception::new(class, "Timeout expired while fetching topic metadata"),
        _ => error.into(),
    }
}

/// One letter, so many times.
fn random_bytes(random: &mut Random, length: usize) -> Vec<u8> {
    vec![b'A' + random.below(26) as u8; length]
}

/// What is wrong with what was read.
fn validate(sent: &Sent, read: &[Read]) -> Result<(), String> {
    let Some(first) = read.first() else {
        let ms = POLL_TIMEOUT.as_millis();
        return Err(format!("poll() timed out before finding a result (timeout:[{ms}ms])"));
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let value = first.value.as_deref().unwrap_or_default();
    if value != sent.value {
        return Err(format!(
            "The message value read [{}] did not match the message value sent [{}]",
            text(value),
            text(&sent.value)
        ));
    }
    let Some(key) = &first.key else { return Err("Expected message key but received null".into()) };
    if *key != sent.key {
        return Err(format!(
            "The message key read [{}] did not match the message key sent [{}]",
            text(key),
            text(&sent.key)
        ));
    }
    validate_headers(&sent.headers, &first.headers)?;
    match read.len() {
        1 => Ok(()),
        count => Err(format!("Only one result was expected during this test. We found [{count}]")),
    }
}

fn validate_headers(
    sent: &[(String, Option<Vec<u8>>)],
    read: &[(String, Option<Vec<u8>>)],
) -> Result<(), String> {
    if sent.is_empty() {
        return Ok(());
    }
    if read.is_empty() {
        return Err("Expected message headers but received none".into());
    }
    let told = |(key, value): &(String, Option<Vec<u8>>)| {
        let value = value.as_ref().map_or_else(|| "null".to_string(), |bytes| format!("{bytes:?}"));
        format!("{key}:{value}")
    };
    if let Some((sent, read)) = sent.iter().zip(read).find(|(sent, read)| sent != read) {
        return Err(format!(
            "The message header read [{}] did not match the message header sent [{}]",
            told(read),
            told(sent)
        ));
    }
    if sent.len() != read.len() {
        return Err("Header count mismatch between sent and received messages".into());
    }
    Ok(())
}

// --- options

fn plan(spec: &CommandSpec, terminal: &mut Terminal<'_>) -> Ran<Plan> {
    let words = named(spec.words.get(1..).unwrap_or_default(), terminal)?;
    let options = match Options::parse(OPTIONS, &words) {
        Ok(options) => options,
        Err(error) => return Err(terminal.usage(OPTIONS, error.message_text())),
    };
    terminal.help_or_version(&options, OPTIONS, ABOUT)?;
    terminal.check(OPTIONS, options.missing(&REQUIRED))?;
    let acks = options.required("producer-acks")?.to_string();
    if !["1", "all"].contains(&acks.as_str()) {
        let text = "Invalid value for --producer-acks. Latency testing requires synchronous acknowledgement. Please \
                    use '1' or 'all'.";
        return Err(terminal.usage(OPTIONS, text));
    }
    let mut number = |name: &'static str, least: i64, what: &str| -> Ran<i64> {
        let number = options.number::<i32>(name)?.map_or(0, i64::from);
        match number < least {
            true => Err(terminal.usage(OPTIONS, &format!("Value for --{name} must be a {what}."))),
            false => Ok(number),
        }
    };
    let records = number("num-records", 1, "positive integer")?;
    let value_size = number("record-size", 0, "non-negative integer")?;
    let key_size = number("record-key-size", 0, "non-negative integer")?;
    let header_key_size = number("record-header-key-size", 0, "non-negative integer")?;
    let header_size = number("record-header-size", -1, "non-negative integer or -1 for null header value")?;
    let headers = number("num-headers", 0, "non-negative integer")?;
    let settings = spec.settings(options.value("command-config")?)?;
    let bootstrap = bootstrap_servers(options.required("bootstrap-server")?)
        .map_err(|cause| failed_construct("Failed to construct kafka consumer", cause))?;
    Ok(Plan {
        bootstrap,
        topic: options.required("topic")?.to_string(),
        records: records as usize,
        acks,
        value_size: value_size as usize,
        key_size: key_size as usize,
        headers: headers as usize,
        header_key_size: header_key_size as usize,
        header_size: usize::try_from(header_size).ok(),
        settings,
    })
}

/// Turns arguments without names, the way before 4.2, into those with names.
fn named(words: &[String], terminal: &mut Terminal<'_>) -> Ran<Vec<String>> {
    let is_named = |word: &String| word.strip_prefix("--").is_some_and(|name| REQUIRED.contains(&name));
    if words.is_empty() || words.iter().any(is_named) {
        return Ok(words.to_vec());
    }
    if words.len() != 5 && words.len() != 6 {
        terminal.complain(format!(
            "Invalid number of arguments. Expected 5 or 6 positional arguments, but got {}. Usage: bootstrap-server \
             topic num-records producer-acks record-size [optional] command-config",
            words.len()
        ));
        return Err(Stop::Exit(1));
    }
    terminal.line(
        "WARNING: Positional argument usage is deprecated and will be removed in Apache Kafka 5.0. Please use named \
         arguments instead: --bootstrap-server, --topic, --num-records, --producer-acks, --record-size, \
         --command-config",
    );
    let names = REQUIRED.iter().chain(&["command-config"]);
    Ok(names.zip(words).flat_map(|(name, word)| [format!("--{name}"), word.clone()]).collect())
}

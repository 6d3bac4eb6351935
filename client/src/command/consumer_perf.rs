//! `kafka-consumer-perf-test` (`ConsumerPerformance.java`): reads so many records as a member of a group, and measures.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};

use wire::Codecs;
use wire::drive::{Instant, Nanos, Now};

use super::CommandSpec;
use super::console_producer::key_values;
use super::java::log_time;
use super::options::{Help, Options};
use super::session::{Console, Exception, Ran, Stop, Terminal, bootstrap_servers, known_settings};
use crate::Rng;
use crate::backoff::{below, fork};
use crate::config::{ClientKind, ConsumerConfig};
use crate::consumer::{Consumer, Subscription};
use crate::io::{Input, Output, Outputs};
use crate::net::sooner;

const ABOUT: &str = "This tool is used to verify the consumer performance.";

const OPTIONS: Help = Help(include_str!("help/kafka-consumer-perf-test.txt"));

/// The tool as a process.
#[derive(Clone)]
pub(super) struct ConsumerPerf {
    rng: Rng,
    work: Option<Box<Work>>,
    exit: Option<i32>,
}

#[derive(Clone)]
struct Work {
    consumer: Consumer,
    wanted: u64,
    timeout: Nanos,
    header: bool,
    start: Now,
    /// When partitions were assigned first.
    joined: Option<Now>,
    last_record: Instant,
    records: u64,
    bytes: u64,
    /// When it has read all, or was told to stop.
    ended: Option<i32>,
}

impl ConsumerPerf {
    pub fn new(rng: Rng) -> ConsumerPerf {
        ConsumerPerf { rng, work: None, exit: None }
    }

    pub fn deadline(&self) -> Option<Instant> {
        let work = self.work.as_ref().filter(|_| self.exit.is_none())?;
        let limit = work.ended.is_none().then(|| work.last_record + work.timeout);
        sooner(limit, work.consumer.next_deadline())
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
            let mut terminal = Terminal { now, out };
            match Work::set_up(spec, &mut terminal, &mut self.rng) {
                Ok(work) => self.work = Some(Box::new(work)),
                Err(stop) => {
                    let code = match stop {
                        Stop::Exit(code) => code,
                        Stop::Thrown(exception) => {
                            terminal.print_exception(&exception);
                            1
                        }
                        Stop::Wait => unreachable!("nothing is waited for"),
                    };
                    return self.finish(code, out);
                }
            }
        }
        let Some(work) = &mut self.work else { return self.finish(super::TERMINATED, out) };
        work.handle(now, input, codecs, out);
        if let Some(code) = work.ended.filter(|_| work.consumer.is_closed()) {
            work.consumer.finish_close(out);
            self.finish(code, out);
        }
    }

    fn finish(&mut self, code: i32, out: &mut Outputs) {
        self.exit = Some(code);
        out.items.push(Output::Exit { code });
    }
}

impl Work {
    fn set_up(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Ran<Work> {
        let words = spec.words.get(1..).unwrap_or_default();
        let options = match Options::parse(OPTIONS, words) {
            Ok(options) => options,
            Err(error) => return Err(terminal.usage(OPTIONS, error.message_text())),
        };
        terminal.help_or_version(&options, OPTIONS, ABOUT)?;
        terminal.check(OPTIONS, options.missing(&["bootstrap-server"]))?;
        let wanted = options.number::<u64>("num-records")?.or(options.number::<u64>("messages")?);
        let Some(wanted) = wanted else {
            return Err(terminal.usage(
                OPTIONS,
                "Exactly one of the following arguments is required: --num-records, --messages",
            ));
        };
        if !options.has("topic") {
            return Err(terminal
                .usage(OPTIONS, "Exactly one of the following arguments is required: --topic, --include"));
        }
        let mut settings =
            spec.settings(options.value("consumer.config")?.or(options.value("command-config")?))?;
        settings.extend(key_values(options.values("command-property")));
        let group = match options.value("group")? {
            Some(group) => group.to_string(),
            None => format!("perf-consumer-{}", below(rng, 100_000)),
        };
        let reset = if options.has("from-latest") { "latest" } else { "earliest" };
        let size = options.value("fetch-size")?.unwrap_or("1048576").to_string();
        let own = [
            ("group.id", group),
            ("auto.offset.reset", reset.into()),
            ("max.partition.fetch.bytes", size),
            ("check.crcs", "false".into()),
        ];
        settings.extend(own.map(|(name, value)| (name.to_string(), value)));
        known_settings(ClientKind::Consumer, &mut settings, &spec.config);
        let config = ConsumerConfig::parse(&settings).map_err(Exception::from)?;
        let endpoints = bootstrap_servers(options.required("bootstrap-server")?)?;
        let mut consumer = Consumer::new(config, "perf-consumer-client", endpoints, fork(rng));
        consumer.subscribe(Subscription::Topics([options.required("topic")?.into()].into()))?;
        let now = terminal.now;
        Ok(Work {
            consumer,
            wanted,
            timeout: Nanos::from_millis(options.number("timeout")?.unwrap_or(10_000)),
            header: !options.has("hide-header"),
            start: now,
            joined: None,
            last_record: now.mono,
            records: 0,
            bytes: 0,
            ended: None,
        })
    }

    fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        self.consumer.handle(now, &input, out);
        if matches!(input, Input::Stop) {
            self.close(now, super::TERMINATED, out);
        }
        loop {
            if self.ended.is_none() {
                self.poll(now, codecs, out);
            }
            self.consumer.drive(now, out);
            if self.ended.is_some() || !self.consumer.has_records() {
                return;
            }
        }
    }

    fn poll(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) {
        if self.joined.is_none() && self.consumer.assignment().next().is_some() {
            self.joined = Some(now);
        }
        // It is in `poll` for good: what is returned is counted at once.
        self.consumer.begin_poll(now, out);
        let (mut records, mut bytes) = (0, 0);
        let polled = self.consumer.poll(codecs, out, &mut |_, record| {
            records += 1;
            bytes += (record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)) as u64;
        });
        if let Err(error) = polled {
            Terminal { now, out }.print_exception(&error.into());
            return self.close(now, 1, out);
        }
        if records > 0 {
            self.last_record = now.mono;
            self.records += records;
            self.bytes += bytes;
        }
        let late = now.mono.since(self.last_record) >= self.timeout;
        if late {
            let text = format!(
                "WARNING: Exiting before consuming the expected number of records: timeout ({} ms) exceeded. You can \
                 use the --timeout option to increase the timeout.",
                self.timeout.as_millis()
            );
            Terminal { now, out }.line(text);
        }
        if late || self.records >= self.wanted {
            self.report(now, out);
            self.close(now, 0, out);
        }
    }

    fn close(&mut self, now: Now, code: i32, out: &mut Outputs) {
        if self.ended.is_none() {
            self.ended = Some(code);
            self.consumer.begin_close(now, out);
        }
    }

    fn report(&self, now: Now, out: &mut Outputs) {
        let mut terminal = Terminal { now, out };
        if self.header {
            terminal.line(
                "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, \
                 fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec",
            );
        }
        let joined_ms = self.joined.unwrap_or(now).wall_ms - self.start.wall_ms;
        let elapsed_ms = now.wall_ms - self.start.wall_ms;
        let fetch_ms = (elapsed_ms - joined_ms).max(1);
        let megabytes = self.bytes as f64 / (1024.0 * 1024.0);
        let per_second = |amount: f64, ms: i64| amount * 1000.0 / ms.max(1) as f64;
        let records = self.records as f64;
        terminal.line(format!(
            "{}, {}, {megabytes:.4}, {:.4}, {}, {:.4}, {joined_ms}, {fetch_ms}, {:.4}, {:.4}",
            date(self.start.wall_ms),
            date(now.wall_ms),
            per_second(megabytes, elapsed_ms),
            self.records,
            per_second(records, elapsed_ms),
            per_second(megabytes, fetch_ms),
            per_second(records, fetch_ms)
        ));
    }
}

/// `yyyy-MM-dd HH:mm:ss:SSS`.
fn date(wall_ms: i64) -> String {
    log_time(wall_ms).replace(',', ":")
}

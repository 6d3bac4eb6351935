//! `kafka-producer-perf-test` (`ProducerPerformance.java`): sends so many records, perhaps in transactions, and measures
//! how fast they are acknowledged.

mod options;
mod payload;
mod stats;

use alloc::format;
use alloc::string::String;

use wire::Codecs;
use wire::drive::{Instant, Nanos, Now};

use super::CommandSpec;
use super::metrics::Meter;
use super::running;
use super::session::{Console, Exception, Terminal, failed_construct};
use crate::Rng;
use crate::backoff::fork;
use crate::config::ProducerConfig;
use crate::event::Made;
use crate::io::{Input, Outputs};
use crate::metadata::TopicIndex;
use crate::net::sooner;
use crate::producer::{NewRecord, Producer, SendError};
use options::{Plan, Wrong};
use payload::Payloads;
use stats::Stats;

const CLIENT_ID: &str = "perf-producer-client";

const METRICS: &str = "producer-metrics";
const SENT: &str = "record-send";
const FAILED: &str = "record-error";

/// How many records are made without letting time pass.
const BURST: u64 = 500;

/// What the tool's only thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// It waits for a producer id.
    Initializing,
    Making,
    /// It waits for the end of a transaction.
    Committing,
    Closing {
        code: i32,
    },
}

#[derive(Clone)]
pub(super) struct ProducerPerf {
    producer: Producer,
    topic: TopicIndex,
    plan: Plan,
    payloads: Payloads,
    doing: Doing,
    start: Now,
    made: u64,
    /// The record that `send` blocks on, and the wall clock when it was made.
    blocked: Option<(Made, i64)>,
    /// The wall clock at the beginning of the transaction that is open.
    transaction: Option<i64>,
    /// When to make more records.
    more_at: Option<Instant>,
    stats: Stats,
    /// Of the records after the warm-up.
    steady: Option<Stats>,
    /// If metrics are to be printed.
    meter: Option<Meter>,
}

impl running::Work for ProducerPerf {
    fn begin(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Result<ProducerPerf, i32> {
        ProducerPerf::set_up(spec, terminal.now, rng, terminal.out).map_err(|wrong| wrong.tell(terminal))
    }

    fn deadline(&self) -> Option<Instant> {
        sooner(self.more_at, self.producer.next_deadline())
    }

    fn handle(&mut self, now: Now, input: &Input, codecs: &dyn Codecs, out: &mut Outputs) {
        let before = out.items.len();
        if let Some(meter) = &mut self.meter {
            meter.input(now, input);
        }
        self.producer.handle(now, input, codecs, out);
        self.measure(now, out);
        if matches!(input, Input::Stop) {
            self.close(super::TERMINATED, out);
        }
        loop {
            self.work(now, out);
            self.producer.drive(now, codecs, out);
            self.measure(now, out);
            if !self.producer.has_transaction_result() || matches!(self.doing, Doing::Closing { .. }) {
                break;
            }
        }
        if let Some(meter) = &mut self.meter {
            meter.outputs(now, &out.items[before..]);
        }
    }

    fn ended(&self) -> Option<i32> {
        match self.doing {
            Doing::Closing { code } if self.producer.incomplete() == 0 => Some(code),
            _ => None,
        }
    }

    /// Everything has an outcome.
    fn end(&mut self, now: Now, code: i32, out: &mut Outputs) {
        if code == 0 {
            self.stats.print_total(now.mono, &mut Terminal { now, out });
            if let Some(steady) = &self.steady {
                steady.print_total(now.mono, &mut Terminal { now, out });
            }
            if let Some(meter) = &self.meter {
                meter.print(now, &mut Terminal { now, out });
            }
        }
        self.producer.finish_close(out);
    }
}

impl ProducerPerf {
    fn set_up(spec: &CommandSpec, now: Now, rng: &mut Rng, out: &mut Outputs) -> Result<ProducerPerf, Wrong> {
        let (plan, settings, endpoints, payloads) = options::read(spec, rng, &mut Terminal { now, out })?;
        let client_id = settings.get("client.id").map_or(CLIENT_ID, String::as_str);
        let meter = || Meter::new(METRICS, client_id, &[(METRICS, SENT), (METRICS, FAILED)], now);
        let meter = plan.print_metrics.then(meter);
        let config = ProducerConfig::parse(&settings).map_err(Exception::from)?;
        let endpoints =
            endpoints.map_err(|cause| failed_construct("Failed to construct kafka producer", cause))?;
        let mut producer = Producer::new(config, CLIENT_ID, endpoints, fork(rng));
        producer.keep_results();
        let doing = match plan.transaction_ms {
            None => Doing::Making,
            Some(_) => {
                producer.init_transactions(now.mono);
                Doing::Initializing
            }
        };
        let work = ProducerPerf {
            topic: producer.topic(&plan.topic),
            producer,
            payloads,
            doing,
            start: now,
            made: 0,
            blocked: None,
            transaction: None,
            more_at: None,
            stats: Stats::new(now.mono, plan.count, plan.interval),
            steady: None,
            meter,
            plan,
        };
        if work.doing == Doing::Making {
            work.announce(now, out);
        }
        Ok(work)
    }

    fn announce(&self, now: Now, out: &mut Outputs) {
        if self.plan.warmup > 0 {
            Terminal { now, out }.line(format!(
                "Warmup first {} records. Steady state results will print after the complete test summary.",
                self.plan.warmup
            ));
        }
    }

    fn close(&mut self, code: i32, out: &mut Outputs) {
        if matches!(self.doing, Doing::Closing { .. }) {
            return;
        }
        self.doing = Doing::Closing { code };
        self.more_at = None;
        if let Some((made, _)) = self.blocked.take() {
            self.producer.abandon(self.topic, made, out);
        }
        self.producer.begin_close();
    }

    /// An exception ends the tool's thread; nobody closes the producer.
    fn throw(&mut self, now: Now, thrown: &Exception, out: &mut Outputs) {
        let text = format!("Exception in thread \"main\" {}", thrown.stack_trace());
        Terminal { now, out }.print_both(String::new(), text);
        self.close(1, out);
    }

    fn work(&mut self, now: Now, out: &mut Outputs) {
        self.more_at = None;
        match self.doing {
            Doing::Initializing => match self.producer.take_transaction_result() {
                None => return,
                Some(Err(error)) => return self.throw(now, &error.into(), out),
                Some(Ok(())) => {
                    self.doing = Doing::Making;
                    self.start = now;
                    self.stats = Stats::new(now.mono, self.plan.count, self.plan.interval);
                    self.announce(now, out);
                }
            },
            Doing::Committing => match self.producer.take_transaction_result() {
                None => return,
                Some(Err(error)) => return self.throw(now, &error.into(), out),
                Some(Ok(())) => self.doing = Doing::Making,
            },
            Doing::Making => {}
            Doing::Closing { .. } => return,
        }
        self.make(now, out);
    }

    /// Makes the records that are due; closes after the last.
    fn make(&mut self, now: Now, out: &mut Outputs) {
        for _ in 0..BURST {
            let (made, made_ms) = match self.blocked.take() {
                Some(made) => made,
                None if self.made >= self.plan.count => {
                    match self.transaction.take() {
                        Some(_) => self.commit(now),
                        None => self.close(0, out),
                    }
                    return;
                }
                None => match self.due(now) {
                    Some(due) if due <= now.mono => match self.next_record(now) {
                        Ok(made) => made,
                        Err(thrown) => return self.throw(now, &thrown, out),
                    },
                    due => {
                        self.more_at = due;
                        return;
                    }
                },
            };
            match self.send(now, made, out) {
                Err(SendError::Blocked) => {
                    self.blocked = Some((made, made_ms));
                    return;
                }
                // Its outcome was told, and ends no transaction.
                Err(SendError::Refused(error)) if self.producer.transaction_error().is_some() => {
                    return self.throw(now, &error.into(), out);
                }
                Err(SendError::Refused(_)) | Ok(_) => {}
            }
            let late = |begun: i64| self.plan.transaction_ms.is_some_and(|ms| ms <= made_ms - begun);
            if self.transaction.is_some_and(late) {
                self.transaction = None;
                return self.commit(now);
            }
        }
        self.more_at = Some(now.mono + Nanos::from_millis(1));
    }

    /// When the next record is due; never, if the tool is to send nothing more.
    fn due(&self, now: Now) -> Option<Instant> {
        let rate = self.plan.throughput;
        if rate < 0.0 {
            return Some(now.mono);
        }
        // Java's throttle waits for ever once a millisecond has passed.
        if rate == 0.0 {
            return (self.made < 2 || now.wall_ms <= self.start.wall_ms).then_some(now.mono);
        }
        let after = self.made as f64 * 1e9 / rate;
        Some(self.start.mono + Nanos(after as u64))
    }

    /// Numbers a record, and begins the transaction that it is the first of.
    fn next_record(&mut self, now: Now) -> Result<(Made, i64), Exception> {
        if self.plan.transaction_ms.is_some() && self.transaction.is_none() {
            self.producer.begin_transaction()?;
            self.transaction = Some(now.wall_ms);
        }
        if self.plan.warmup > 0 && self.made == self.plan.warmup {
            let count = self.plan.count - self.plan.warmup;
            self.steady = Some(Stats::steady(now.mono, count, self.plan.interval));
            self.stats.suppress_windows();
        }
        self.payloads.next(self.made);
        self.made += 1;
        Ok((Made { number: self.made - 1, at: now.mono }, now.wall_ms))
    }

    fn send(&mut self, now: Now, made: Made, out: &mut Outputs) -> Result<i32, SendError> {
        let value = Some(self.payloads.current());
        let record =
            NewRecord { partition: None, timestamp: now.wall_ms, key: None, value, headers: &[], made };
        self.producer.send(now, self.topic, &record, out)
    }

    fn commit(&mut self, now: Now) {
        self.producer.end_transaction(now.mono, true);
        self.doing = Doing::Committing;
    }

    fn measure(&mut self, now: Now, out: &mut Outputs) {
        for result in self.producer.take_results() {
            for made in result.records.iter() {
                let mut terminal = Terminal { now, out };
                if let Some(meter) = &mut self.meter {
                    meter.count(now, METRICS, if result.result.is_ok() { SENT } else { FAILED }, 1);
                }
                if let Err((error, _)) = &result.result {
                    let trace = Exception::from(error.clone()).stack_trace();
                    terminal.print_both(String::new(), trace);
                    continue;
                }
                let (ms, bytes) = (now.mono.since(made.at).as_millis(), self.payloads.size_of(made.number));
                self.stats.record(now.mono, ms, bytes, &mut terminal);
                if let Some(steady) = self.steady.as_mut().filter(|_| made.number >= self.plan.warmup) {
                    steady.record(now.mono, ms, bytes, &mut terminal);
                }
            }
        }
    }
}

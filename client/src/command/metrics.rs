//! `--print-metrics` of the tools that measure: what can be seen at the edge of their client, under the names and with
//! the rates of Kafka's metrics (`SampledStat`, `Rate`), printed as `ToolsUtils.printMetrics` prints them.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::drive::Now;

use super::session::Console;
use crate::io::{Input, Output};

/// `metrics.sample.window.ms` and `metrics.num.samples`, which the tools leave alone.
const WINDOW_MS: i64 = 30_000;
const SAMPLES: usize = 2;

#[derive(Clone, Copy, Debug)]
struct Sample {
    start_ms: i64,
    last_ms: i64,
    sum: f64,
    max: f64,
    count: u64,
}

/// A value over the last one or two windows.
#[derive(Clone, Debug, Default)]
struct Sampled {
    samples: VecDeque<Sample>,
    total: f64,
}

impl Sampled {
    fn record(&mut self, now_ms: i64, value: f64) {
        self.total += value;
        if self.samples.back().is_none_or(|sample| now_ms - sample.start_ms >= WINDOW_MS) {
            if self.samples.len() == SAMPLES {
                self.samples.pop_front();
            }
            let fresh = Sample { start_ms: now_ms, last_ms: now_ms, sum: 0.0, max: value, count: 0 };
            self.samples.push_back(fresh);
        }
        let sample = self.samples.back_mut().expect("just made, if there was none");
        sample.last_ms = now_ms;
        sample.sum += value;
        sample.max = sample.max.max(value);
        sample.count += 1;
    }

    fn recent(&self, now_ms: i64) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| now_ms - sample.last_ms < WINDOW_MS * SAMPLES as i64)
    }

    /// Per second. A window that is not over counts as if one full window had gone before it.
    fn rate(&self, now_ms: i64) -> f64 {
        let sum: f64 = self.recent(now_ms).map(|sample| sample.sum).sum();
        let mut elapsed = self.recent(now_ms).next().map_or(0, |oldest| now_ms - oldest.start_ms);
        let missing = SAMPLES as i64 - 1 - elapsed / WINDOW_MS;
        elapsed += missing.max(0) * WINDOW_MS;
        sum * 1000.0 / elapsed as f64
    }

    fn average(&self, now_ms: i64) -> f64 {
        let count: u64 = self.recent(now_ms).map(|sample| sample.count).sum();
        self.recent(now_ms).map(|sample| sample.sum).sum::<f64>() / count as f64
    }

    fn max(&self, now_ms: i64) -> f64 {
        self.recent(now_ms).map(|sample| sample.max).fold(f64::NAN, f64::max)
    }
}

/// What is counted: the metric's name without `-rate` and `-total`.
const IO: [&str; 7] = [
    "connection-close",
    "connection-creation",
    "incoming-byte",
    "network-io",
    "outgoing-byte",
    "request",
    "response",
];

/// Watches a client.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    /// `producer-metrics` or `consumer-metrics`.
    group: &'static str,
    client_id: String,
    started_ms: i64,
    connections: u64,
    request_size: Sampled,
    /// By group and name.
    counted: BTreeMap<(&'static str, &'static str), Sampled>,
}

impl Meter {
    /// A client of that kind, and what its owner counts besides: groups and names.
    pub fn new(
        group: &'static str,
        client_id: &str,
        own: &[(&'static str, &'static str)],
        now: Now,
    ) -> Meter {
        let names = IO.iter().map(|&name| (group, name)).chain(own.iter().copied());
        Meter {
            group,
            client_id: client_id.to_string(),
            started_ms: now.wall_ms,
            connections: 0,
            request_size: Sampled::default(),
            counted: names.map(|key| (key, Sampled::default())).collect(),
        }
    }

    /// Counts something of the owner's.
    pub fn count(&mut self, now: Now, group: &'static str, name: &'static str, amount: u64) {
        self.counted.entry((group, name)).or_default().record(now.wall_ms, amount as f64);
    }

    fn io(&mut self, now: Now, name: &'static str, amount: u64) {
        self.count(now, self.group, name, amount);
    }

    fn closed(&mut self, now: Now) {
        self.connections = self.connections.saturating_sub(1);
        self.io(now, "connection-close", 1);
    }

    /// What the client takes in.
    pub fn input(&mut self, now: Now, input: &Input) {
        match input {
            Input::Connected { .. } => {
                self.connections += 1;
                self.io(now, "connection-creation", 1);
            }
            Input::ConnectFailed { .. } => self.io(now, "connection-close", 1),
            Input::Closed { .. } => self.closed(now),
            Input::Frame { frame, .. } => {
                self.io(now, "response", 1);
                self.io(now, "network-io", 1);
                // With its size.
                self.io(now, "incoming-byte", frame.len() as u64 + 4);
            }
            Input::Start | Input::Stop | Input::Timer | Input::Stdin { .. } | Input::StdinClosed => {}
        }
    }

    /// What the client put out.
    pub fn outputs(&mut self, now: Now, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Send { frame, .. } => {
                    self.io(now, "request", 1);
                    self.io(now, "network-io", 1);
                    self.io(now, "outgoing-byte", frame.len() as u64);
                    self.request_size.record(now.wall_ms, frame.len() as f64);
                }
                Output::Close { .. } => self.closed(now),
                _ => {}
            }
        }
    }

    /// The table.
    pub fn print(&self, now: Now, console: &mut impl Console) {
        let at = now.wall_ms;
        let tags = format!("{{client-id={}}}", self.client_id);
        let number = |value: f64| if value.is_nan() { "NaN".to_string() } else { format!("{value:.3}") };
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        let mut put = |group: &str, name: &str, value: String| {
            all.insert(format!("{group}:{name}:{tags}"), value);
        };
        put("app-info", "version", super::VERSION.into());
        put("app-info", "start-time-ms", self.started_ms.to_string());
        put(self.group, "connection-count", number(self.connections as f64));
        put(self.group, "request-size-avg", number(self.request_size.average(at)));
        put(self.group, "request-size-max", number(self.request_size.max(at)));
        for ((group, name), sampled) in &self.counted {
            put(group, &format!("{name}-rate"), number(sampled.rate(at)));
            put(group, &format!("{name}-total"), number(sampled.total));
        }
        let count = all.len() + 1;
        all.insert(format!("kafka-metrics-count:count:{tags}"), number(count as f64));
        let width = all.keys().map(|name| name.chars().count()).max().unwrap_or(0);
        let mut lines: Vec<String> = alloc::vec![format!("\n{:width$}   Value", "Metric Name")];
        lines.extend(all.iter().map(|(name, value)| format!("{name:width$} : {value}")));
        lines.into_iter().for_each(|line| console.line(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_kafka() {
        let mut sampled = Sampled::default();
        assert_eq!((sampled.rate(5), sampled.total), (0.0, 0.0));
        assert!(sampled.average(5).is_nan() && sampled.max(5).is_nan());
        // One event at the very end, as a connection that was closed: 1 / 30 s.
        sampled.record(1_000, 1.0);
        assert_eq!(format!("{:.3}", sampled.rate(1_000)), "0.033");
        sampled.record(11_000, 3.0);
        assert_eq!(format!("{:.3}", sampled.rate(11_000)), "0.100");
        assert_eq!((sampled.average(11_000), sampled.max(11_000)), (2.0, 3.0));
        // The third window takes the place of the first.
        sampled.record(31_000, 5.0);
        sampled.record(61_000, 7.0);
        assert_eq!((sampled.total, sampled.max(90_999)), (16.0, 7.0));
        assert_eq!(format!("{:.3}", sampled.rate(90_999)), "0.200");
        assert_eq!(format!("{:.3}", sampled.rate(91_000)), "0.233", "what is two windows old does not count");
        assert_eq!(sampled.rate(200_000), 0.0);
    }
}

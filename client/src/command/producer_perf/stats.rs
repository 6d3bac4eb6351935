//! Figures over a run and over the time since the last report (`ProducerPerformance.Stats`).

use alloc::collections::BTreeMap;
use alloc::format;

use wire::drive::{Instant, Nanos};

use crate::command::session::Console;

/// `MAX_SAMPLES` of latencies.
const MAX_SAMPLES: u64 = 500_000;

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

    /// Records and MB per second, and the average latency, which is none if there was no record.
    fn rates(&self, now: Instant) -> (f64, f64, f64) {
        let seconds = now.since(self.since).as_millis().max(1) as f64 / 1000.0;
        let average = self.total_ms as f64 / self.count as f64;
        (self.count as f64 / seconds, self.bytes as f64 / seconds / (1024.0 * 1024.0), average)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Stats {
    total: Figures,
    window: Figures,
    interval: Nanos,
    sampling: u64,
    /// How often each latency was met, in milliseconds.
    latencies: BTreeMap<u64, u64>,
    steady: bool,
    suppressed: bool,
}

impl Stats {
    /// Of so many records, with a report after every interval.
    pub fn new(now: Instant, count: u64, interval: Nanos) -> Stats {
        Stats {
            total: Figures::new(now),
            window: Figures::new(now),
            interval,
            sampling: (count / count.clamp(1, MAX_SAMPLES)).max(1),
            latencies: BTreeMap::new(),
            steady: false,
            suppressed: false,
        }
    }

    /// The same for what comes after the warm-up.
    pub fn steady(now: Instant, count: u64, interval: Nanos) -> Stats {
        Stats { steady: true, ..Stats::new(now, count, interval) }
    }

    /// Others report from now on.
    pub fn suppress_windows(&mut self) {
        self.suppressed = true;
    }

    /// A record was acknowledged.
    pub fn record(&mut self, now: Instant, ms: u64, bytes: u64, console: &mut impl Console) {
        if self.total.count.is_multiple_of(self.sampling) {
            *self.latencies.entry(ms).or_default() += 1;
        }
        self.total.observe(ms, bytes);
        self.window.observe(ms, bytes);
        if now.since(self.window.since) < self.interval {
            return;
        }
        if self.steady && self.total.count == self.window.count {
            console.line("In steady state.");
        }
        if !self.suppressed {
            let (records, megabytes, average) = self.window.rates(now);
            let (count, max) = (self.window.count, self.window.max_ms as f64);
            console.line(format!(
                "{count} records sent, {records:.1} records/sec ({megabytes:.2} MB/sec), {average:.1} ms avg latency, \
                 {max:.1} ms max latency."
            ));
        }
        self.window = Figures::new(now);
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

    /// The last line.
    pub fn print_total(&self, now: Instant, console: &mut impl Console) {
        let (records, megabytes, average) = self.total.rates(now);
        let (count, max) = (self.total.count, self.total.max_ms as f64);
        let [half, p95, p99, p999] = [500, 950, 990, 999].map(|permille| self.percentile(permille));
        let state = if self.steady { " steady state" } else { "" };
        console.line(format!(
            "{count}{state} records sent, {records:.6} records/sec ({megabytes:.2} MB/sec), {average:.2} ms avg \
             latency, {max:.2} ms max latency, {half} ms 50th, {p95} ms 95th, {p99} ms 99th, {p999} ms 99.9th."
        ));
    }
}

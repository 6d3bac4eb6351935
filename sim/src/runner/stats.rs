//! What a client did so far: counts, latencies, rates over windows.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

/// Latencies are kept from a microsecond to an hour of virtual time, to three digits.
const HIGHEST_US: u64 = 3_600_000_000;

/// Counts and latencies of one client of the scenario, all its instances and restarts together.
#[derive(Clone, Debug)]
pub struct ClientStats {
    /// Messages made.
    pub sent: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Given up, certainly not in a log.
    pub failed: u64,
    /// Given up, perhaps in a log.
    pub indefinite: u64,
    /// Records received.
    pub received: u64,
    /// Records whose processing is done.
    pub processed: u64,
    /// Transactions that were committed.
    pub committed: u64,
    /// Transactions that were aborted.
    pub aborted: u64,
    /// Acknowledged and gone: known after the final read.
    pub lost: u64,
    /// Copies beyond the first: known after the final read.
    pub duplicated: u64,
    /// Kafka's name of the last refused attempt.
    pub last_error: Option<&'static str>,
    acks: Series,
    reads: Series,
    latencies: Latencies,
}

impl Default for ClientStats {
    fn default() -> ClientStats {
        ClientStats {
            sent: 0,
            acked: 0,
            failed: 0,
            indefinite: 0,
            received: 0,
            processed: 0,
            committed: 0,
            aborted: 0,
            lost: 0,
            duplicated: 0,
            last_error: None,
            acks: Series::default(),
            reads: Series::default(),
            latencies: Latencies::new(),
        }
    }
}

impl ClientStats {
    /// `count` records were acknowledged at `at` (nanoseconds).
    pub fn ack(&mut self, at: u64, count: u64) {
        self.acked += count;
        self.acks.add(at, count);
    }

    /// The latency of one acknowledged message, in nanoseconds.
    pub fn latency(&mut self, at: u64, ns: u64) {
        self.latencies.add(at, ns);
    }

    /// `count` records were received at `at` (nanoseconds).
    pub fn read(&mut self, at: u64, count: u64) {
        self.received += count;
        self.reads.add(at, count);
    }

    /// Acknowledgements in the window that ends at `now`, per second.
    pub fn acked_rate(&self, now: u64, over: u64) -> f64 {
        self.acks.rate(now, over)
    }

    /// Records received in the window that ends at `now`, per second.
    pub fn received_rate(&self, now: u64, over: u64) -> f64 {
        self.reads.rate(now, over)
    }

    /// A latency quantile in milliseconds (1.0 is the highest), over the whole run, or over a window that ends at `now`.
    pub fn quantile_ms(&self, quantile: f64, window: Option<(u64, u64)>) -> Option<f64> {
        self.latencies.quantile_ms(quantile, window)
    }
}

/// How many events of a kind happened, by time, in steps of ten milliseconds.
#[derive(Clone, Debug, Default)]
struct Series {
    /// The number of the step, and how many happened in it, in order. Steps in which nothing happened are left out.
    steps: VecDeque<(u32, u32)>,
}

const STEP: u64 = 10_000_000;
/// Windows longer than an hour are not asked for: a run's limit is an hour unless the scenario says otherwise.
const KEEP: u32 = (3_600_000_000_000 / STEP) as u32;

impl Series {
    fn add(&mut self, at: u64, count: u64) {
        let step = step_of(at);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match self.steps.back_mut() {
            Some((last, n)) if *last == step => *n = n.saturating_add(count),
            _ => self.steps.push_back((step, count)),
        }
        while self.steps.front().is_some_and(|(first, _)| step - first > KEEP) {
            self.steps.pop_front();
        }
    }

    fn rate(&self, now: u64, over: u64) -> f64 {
        let from = now.saturating_sub(over);
        let first = self.steps.partition_point(|(step, _)| u64::from(*step) * STEP < from);
        let count: u64 = self.steps.range(first..).map(|(_, n)| u64::from(*n)).sum();
        count as f64 * 1e9 / over.max(1) as f64
    }
}

/// Steps are counted for more than a year of virtual time.
fn step_of(at: u64) -> u32 {
    u32::try_from(at / STEP).unwrap_or(u32::MAX)
}

/// Latencies of the whole run, and of each second for windows.
#[derive(Clone, Debug)]
struct Latencies {
    whole: Histogram<u64>,
    /// Raw (time, microseconds) of the last minutes, an hour at most: few scenarios ask for windows, and those are short.
    recent: VecDeque<(u64, u32)>,
}

const KEEP_RAW: usize = 1 << 16;

impl Latencies {
    fn new() -> Latencies {
        let whole = Histogram::new_with_bounds(1, HIGHEST_US, 3).expect("bounds are in order");
        Latencies { whole, recent: VecDeque::new() }
    }

    fn add(&mut self, at: u64, ns: u64) {
        let us = (ns / 1_000).clamp(1, HIGHEST_US);
        self.whole.saturating_record(us);
        let old = at.saturating_sub(u64::from(KEEP) * STEP);
        while self.recent.front().is_some_and(|(first, _)| *first < old || self.recent.len() == KEEP_RAW) {
            self.recent.pop_front();
        }
        self.recent.push_back((at, us.min(u64::from(u32::MAX)) as u32));
    }

    fn quantile_ms(&self, quantile: f64, window: Option<(u64, u64)>) -> Option<f64> {
        match window {
            None if self.whole.is_empty() => None,
            None if quantile >= 1.0 => Some(self.whole.max() as f64 / 1e3),
            None => Some(self.whole.value_at_quantile(quantile) as f64 / 1e3),
            Some((now, over)) => {
                let from = now.saturating_sub(over);
                let mut all: Vec<u32> =
                    self.recent.iter().rev().take_while(|(at, _)| *at >= from).map(|(_, us)| *us).collect();
                all.sort_unstable();
                let index = ((all.len() as f64 * quantile).ceil() as usize).clamp(1, all.len().max(1)) - 1;
                all.get(index).map(|us| f64::from(*us) / 1e3)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn rates_look_back_over_their_window() {
        let mut stats = ClientStats::default();
        for ms in 0..10_000u64 {
            stats.ack(ms * 1_000_000, 1);
        }
        assert_eq!(stats.acked, 10_000);
        assert_eq!(stats.acked_rate(10 * S, 5 * S), 1_000.0);
        assert_eq!(stats.acked_rate(15 * S, 5 * S), 0.0);
        assert_eq!(stats.acked_rate(12 * S + S / 2, 5 * S), 500.0);
    }

    #[test]
    fn quantiles_of_the_run_and_of_a_window() {
        let mut stats = ClientStats::default();
        assert_eq!(stats.quantile_ms(0.5, None), None);
        for n in 1..=100u64 {
            stats.latency(n * S, n * 1_000_000);
        }
        assert!((stats.quantile_ms(0.5, None).unwrap() - 50.0).abs() < 0.1);
        assert!((stats.quantile_ms(1.0, None).unwrap() - 100.0).abs() < 0.1);
        assert_eq!(stats.quantile_ms(0.5, Some((100 * S, 9 * S))), Some(95.0));
        assert_eq!(stats.quantile_ms(0.5, Some((500 * S, 9 * S))), None);
    }
}

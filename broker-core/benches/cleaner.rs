//! What compaction costs: logs of growing size, cleaned until nothing is dirty. Time must grow with the size and not
//! faster, no step may take longer than 50 ms, and a smaller dedupe buffer costs passes and no memory.
//!
//! `cargo bench -p highwater-broker-core --bench cleaner`; sizes in MiB may follow `--`. Time is processor time, the best
//! of three; memory is what the process takes beyond the log itself, which `many` keeps whole, at its peak.

use std::time::Duration;

use broker_core::disk::Disk;
use broker_core::log::{
    AppendTerms, CleaningStep, CleaningTerms, LoadState, Log, LogConfig, Origin, Verification,
};
use broker_core::testing::MemDisk;
use codecs::StdCodecs;
use rustix::time::{ClockId, clock_gettime};
use wire::Rope;
use wire::batch::{BatchBuilder, BatchOptions};
use wire::drive::{Instant, Now};

const NOW: Now = Now { mono: Instant(0), wall_ms: 1_700_000_000_000 };
const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_millis(50);
/// Kafka's `log.cleaner.dedupe.buffer.size`.
const BUFFER: u64 = 128 * MIB;
const TIMES: usize = 3;

/// What lies in a log.
#[derive(Clone, Copy, Debug)]
enum Records {
    /// 1,000 bytes under a key of about 15,000: nearly all goes. The log refers to the same bytes again and again, as
    /// replicas refer to shared chunks.
    Few,
    /// 80 bytes under a key of their own: all stays.
    Many,
}

/// Makes the batches of a log.
struct Source {
    records: Records,
    made: Vec<Rope>,
    next: u64,
}

impl Source {
    fn new(records: Records) -> Source {
        let mut source = Source { records, made: Vec::new(), next: 1 };
        if let Records::Few = records {
            source.made = (0..1_024).map(|_| source.batch(16, 1_000)).collect();
        }
        source
    }

    fn batch(&mut self, records: usize, value: usize) -> Rope {
        let (mut builder, value) = (BatchBuilder::new(), vec![7; value]);
        for _ in 0..records {
            let drawn =
                self.next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = match self.records {
                Records::Few => format!("key-{}", (drawn >> 33) % 100_000),
                Records::Many => format!("key-{drawn:016x}"),
            };
            self.next = drawn;
            builder.append(NOW.wall_ms, Some(key.as_bytes()), Some(&value), &[]);
        }
        Rope::from(builder.finish(&StdCodecs, &BatchOptions::default()).expect("it fits"))
    }

    fn take(&mut self, at: usize) -> Rope {
        match self.records {
            Records::Few => self.made[at % self.made.len()].clone(),
            Records::Many => self.batch(200, 80),
        }
    }
}

fn filled(bytes: u64, source: &mut Source, disk: &mut MemDisk) -> Log {
    let config = LogConfig { compact: true, delete: false, segment_bytes: 16 << 20, ..LogConfig::default() };
    disk.mkdir("data").expect("a directory");
    let (mut log, _) =
        Log::open("data/t-0", config, LoadState::NEW, NOW, disk, &StdCodecs).expect("a new log");
    let terms = AppendTerms {
        leader_epoch: 0,
        origin: Origin::Coordinator,
        verification: Verification::Off,
        transaction_version: 0,
    };
    let mut at = 0;
    while log.size_bytes() < bytes {
        log.append_on_terms(NOW, disk, &StdCodecs, &source.take(at), &terms).expect("room");
        at += 1;
    }
    let end = log.log_end_offset();
    log.update_high_watermark(end);
    log
}

/// What cleaning took.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    passes: usize,
    time: Duration,
    /// The longest step.
    longest: Duration,
    /// The peak of memory, less what the log took before.
    memory: u64,
}

/// Cleans until nothing is dirty.
fn clean(log: &mut Log, disk: &mut MemDisk, terms: CleaningTerms) -> Taken {
    let before = forget_peak();
    let mut taken = Taken::default();
    let begun = processor_time();
    while let Some(dirt) = log.dirtiness(NOW.wall_ms, disk).expect("no error") {
        taken.passes += 1;
        let mut step_begun = processor_time();
        log.begin_cleaning(NOW.wall_ms, &dirt, terms);
        loop {
            let step = log.clean_step(NOW, disk, &StdCodecs).expect("no error");
            let now = processor_time();
            taken.longest = taken.longest.max(now - step_begun);
            match step {
                CleaningStep::Worked(_) => {}
                CleaningStep::Waiting => {
                    for (ticket, result) in disk.take_synced() {
                        log.synced(ticket, result);
                    }
                }
                CleaningStep::Done(_) => {
                    // What was replaced goes after file.delete.delay.ms.
                    let later = Now { mono: Instant(61_000_000_000), ..NOW };
                    log.on_timer(later, disk).expect("no error");
                    disk.collect();
                    break;
                }
                CleaningStep::Ended => unreachable!("nothing ends it"),
            }
            step_begun = processor_time();
        }
    }
    taken.time = processor_time() - begun;
    taken.memory = status("VmHWM:").saturating_sub(before);
    taken
}

/// How long this process has computed: other work on the machine does not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A line of what the system says of this process, in KiB; 0 where it says nothing.
fn status(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(line));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The peak of memory is what there is now, in KiB.
fn forget_peak() -> u64 {
    // Where the system does not know this, the peak is that of all runs so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    status("VmRSS:")
}

/// The best of some runs, each over a log of its own.
fn measure(records: Records, mib: u64, dedupe_bytes: u64) -> Taken {
    let mut best = Taken { time: Duration::MAX, longest: Duration::MAX, ..Taken::default() };
    for _ in 0..TIMES {
        let mut disk = MemDisk::new();
        let mut log = filled(mib * MIB, &mut Source::new(records), &mut disk);
        let terms = CleaningTerms { step_bytes: 512 << 10, dedupe_bytes, fill: 900_000 };
        let taken = clean(&mut log, &mut disk, terms);
        best.passes = taken.passes;
        best.memory = best.memory.max(taken.memory);
        best.time = best.time.min(taken.time);
        best.longest = best.longest.min(taken.longest);
    }
    best
}

fn main() {
    let given: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if given.is_empty() { vec![64, 256, 1_024] } else { given };
    println!(
        "{:<6} {:>6} {:>10} {:>7} {:>9} {:>8} {:>11} {:>10}",
        "keys", "MiB", "buffer KiB", "passes", "ms", "ns/KiB", "longest ms", "memory MiB"
    );
    for (records, buffer) in [(Records::Few, BUFFER), (Records::Few, MIB / 4), (Records::Many, BUFFER)] {
        for mib in &sizes {
            let taken = measure(records, *mib, buffer);
            let per_kib = taken.time.as_nanos() / u128::from(mib * 1_024);
            let verdict = if taken.longest < LIMIT { "" } else { "  over the limit" };
            println!(
                "{:<6} {mib:>6} {:>10} {:>7} {:>9} {per_kib:>8} {:>11.2} {:>10.1}{verdict}",
                format!("{records:?}").to_lowercase(),
                buffer / 1_024,
                taken.passes,
                taken.time.as_millis(),
                taken.longest.as_secs_f64() * 1e3,
                taken.memory as f64 / 1_024.0,
            );
        }
    }
}

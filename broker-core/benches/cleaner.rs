//! What compaction costs: logs of growing size, cleaned in one pass. Time must grow with the size and not faster, the
//! longest step must not grow at all, and a smaller dedupe buffer costs passes and no memory.
//!
//! `cargo bench -p highwater-broker-core --bench cleaner`; sizes in MiB may follow `--`.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real time is what a benchmark measures"
)]

use std::time::{Duration, Instant as RealTime};

use broker_core::disk::Disk;
use broker_core::log::{
    AppendTerms, CleaningStep, CleaningTerms, LoadState, Log, LogConfig, Origin, Verification,
};
use broker_core::testing::MemDisk;
use codecs::StdCodecs;
use wire::Rope;
use wire::batch::{BatchBuilder, BatchOptions};
use wire::drive::{Instant, Now};

const NOW: Now = Now { mono: Instant(0), wall_ms: 1_700_000_000_000 };
const MIB: u64 = 1 << 20;
const KEYS: u64 = 100_000;
/// Batches that differ; the log refers to their bytes again and again, as replicas refer to shared chunks.
const DIFFERENT: usize = 1_024;

fn batches() -> Vec<Rope> {
    let mut state = 1u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut made = Vec::new();
    for _ in 0..DIFFERENT {
        let mut builder = BatchBuilder::new();
        for _ in 0..16 {
            let key = format!("key-{}", draw() % KEYS);
            builder.append(NOW.wall_ms, Some(key.as_bytes()), Some(&[7; 1_000]), &[]);
        }
        made.push(Rope::from(builder.finish(&StdCodecs, &BatchOptions::default()).expect("it fits")));
    }
    made
}

fn filled(bytes: u64, batches: &[Rope], disk: &mut MemDisk) -> Log {
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
        at += 1;
        log.append_on_terms(NOW, disk, &StdCodecs, &batches[at % batches.len()], &terms).expect("room");
    }
    let end = log.log_end_offset();
    log.update_high_watermark(end);
    log
}

/// Cleans until nothing is dirty: passes, time, the longest step.
fn clean(log: &mut Log, disk: &mut MemDisk, terms: CleaningTerms) -> (usize, Duration, Duration) {
    let (mut passes, mut longest) = (0, Duration::ZERO);
    let begun = RealTime::now();
    while let Some(dirt) = log.dirtiness(NOW.wall_ms, disk).expect("no error") {
        log.begin_cleaning(NOW.wall_ms, &dirt, terms);
        passes += 1;
        loop {
            let step_begun = RealTime::now();
            let step = log.clean_step(NOW, disk, &StdCodecs).expect("no error");
            longest = longest.max(step_begun.elapsed());
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
                    break;
                }
                CleaningStep::Ended => unreachable!("nothing ends it"),
            }
        }
    }
    (passes, begun.elapsed(), longest)
}

/// The most memory that this process ever had, in MiB; 0 where the system does not tell.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn main() {
    let given: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if given.is_empty() { vec![64, 256, 1_024] } else { given };
    let batches = batches();
    println!(
        "{:>6} {:>10} {:>7} {:>9} {:>8} {:>10} {:>9}",
        "MiB", "map bytes", "passes", "ms", "ns/KiB", "longest ms", "peak MiB"
    );
    for mib in sizes {
        for dedupe_bytes in [115 * MIB, MIB / 4] {
            let mut disk = MemDisk::new();
            let mut log = filled(mib * MIB, &batches, &mut disk);
            let terms = CleaningTerms { step_bytes: 512 << 10, dedupe_bytes };
            let (passes, taken, longest) = clean(&mut log, &mut disk, terms);
            let per_kib = taken.as_nanos() / u128::from(mib * 1_024);
            println!(
                "{mib:>6} {dedupe_bytes:>10} {passes:>7} {:>9} {per_kib:>8} {:>10.2} {:>9}",
                taken.as_millis(),
                longest.as_secs_f64() * 1e3,
                peak_mib()
            );
        }
    }
}

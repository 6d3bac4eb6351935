//! What a log costs: appending as leader and follower, reading at the tail and far behind it, recovery.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a benchmark reads the real clock")]

use std::hint::black_box;
use std::time::Instant;

use broker_core::log::{LoadState, Log, LogConfig, Origin};
use broker_core::testing::MemDisk;
use bytes::Bytes;
use codecs::StdCodecs;
use wire::Rope;
use wire::batch::{BatchBuilder, BatchOptions, Batches};
use wire::drive::Now;

const APPENDS: u32 = 100_000;

fn batch(records: usize, value: usize) -> Rope {
    let mut builder = BatchBuilder::new();
    for _ in 0..records {
        builder.append(1_000, Some(b"key"), Some(&vec![7; value]), &[]);
    }
    Rope::from(builder.finish(&StdCodecs, &BatchOptions::default()).expect("nothing is compressed"))
}

fn open(dir: &str, clean: bool, disk: &mut MemDisk) -> Log {
    let state = LoadState { clean, ..LoadState::NEW };
    Log::open(dir, LogConfig::default(), state, now(), disk, &StdCodecs).expect("a disk without faults").0
}

fn now() -> Now {
    Now { wall_ms: 1_000, ..Now::default() }
}

/// Prints the time of one of so many.
fn report(what: &str, count: u32, start: Instant) {
    println!("{what:<44} {:>8} ns", start.elapsed().as_nanos() / u128::from(count));
}

fn main() {
    let mut disk = MemDisk::new();
    let mut log = open("data/leader-0", true, &mut disk);
    for (what, records, value) in
        [("append, 1 record of 100 B", 1, 100), ("append, 100 records of 100 B", 100, 100)]
    {
        let batch = batch(records, value);
        let start = Instant::now();
        for _ in 0..APPENDS / records as u32 {
            let info = log.append_as_leader(now(), &mut disk, &StdCodecs, &batch, 0, Origin::Client);
            black_box(info.expect("a valid batch"));
        }
        report(what, APPENDS / records as u32, start);
    }

    let end = log.log_end_offset();
    let start = Instant::now();
    for _ in 0..APPENDS {
        black_box(log.read(&mut disk, end - 100, end, 1 << 20, true).expect("within the log"));
    }
    report("read the last batch", APPENDS, start);
    let start = Instant::now();
    for i in 0..APPENDS {
        black_box(log.read(&mut disk, i64::from(i) * 7_919 % 100_000, end, 1, true).expect("within the log"));
    }
    report("read one batch far behind", APPENDS, start);

    let fetched = log.read(&mut disk, 0, end, 64 << 10, true).expect("within the log").records.to_bytes();
    let batches = Batches::new(&Rope::from(fetched.clone())).count() as u32;
    let start = Instant::now();
    for i in 0..100 {
        let mut follower = open(&format!("data/follower-{i}"), true, &mut disk);
        let records = Rope::from(Bytes::clone(&fetched));
        black_box(
            follower.append_as_follower(now(), &mut disk, &StdCodecs, &records, 0).expect("valid batches"),
        );
    }
    report("append as follower, a batch of a 64 KiB fetch", 100 * batches, start);

    let bytes = log.size_bytes();
    drop(log);
    disk.crash();
    let start = Instant::now();
    black_box(open("data/leader-0", false, &mut disk));
    report("recover, a KiB", (bytes / 1024) as u32, start);
    let start = Instant::now();
    for _ in 0..100 {
        black_box(open("data/leader-0", true, &mut disk));
    }
    report("open after a clean stop", 100, start);
}

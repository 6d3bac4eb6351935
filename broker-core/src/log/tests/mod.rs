//! Tests of the log as a whole, over a disk in memory.

mod append;
mod cleaner;
mod cut;
mod flush;
mod producers;
mod recovery;
mod transactions;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use codecs::StdCodecs;
use wire::batch::{BatchBuilder, BatchOptions, Batches};
use wire::drive::{Instant, Now};
use wire::{Codecs, Compression, Rope};

use super::*;
use crate::testing::MemDisk;

const DIR: &str = "data/t-0";
const T0: i64 = 1_700_000_000_000;

/// A time: seconds since the test began, on both clocks.
fn at_s(seconds: u64) -> Now {
    Now { mono: Instant(seconds * 1_000_000_000), wall_ms: T0 + seconds as i64 * 1_000 }
}

/// A client's batch: so many records with values of so many bytes.
fn batch(count: i64, value: usize, timestamp: i64) -> Rope {
    batch_of(count, value, timestamp, &BatchOptions::default())
}

fn batch_of(count: i64, value: usize, timestamp: i64, options: &BatchOptions) -> Rope {
    let mut builder = BatchBuilder::new();
    for i in 0..count {
        let value: Vec<u8> = (0..value).map(|j| (i as usize * 31 + j) as u8).collect();
        builder.append(timestamp + i, Some(b"k"), Some(&value), &[]);
    }
    Rope::from(builder.finish(&StdCodecs, options).unwrap())
}

fn compressed(compression: Compression) -> BatchOptions {
    BatchOptions { compression, ..BatchOptions::default() }
}

/// Offset and position.
type OffsetEntries = Vec<(i64, u32)>;
/// Timestamp and offset.
type TimeEntries = Vec<(i64, i64)>;

/// A log on a disk of its own.
#[derive(Clone)]
struct Bench {
    disk: MemDisk,
    log: Log,
}

impl Bench {
    fn new(config: LogConfig) -> Bench {
        let mut disk = MemDisk::new();
        disk.mkdir("data").unwrap();
        Bench::open(disk, config, LoadState::NEW).0
    }

    fn open(mut disk: MemDisk, config: LogConfig, state: LoadState) -> (Bench, Recovered) {
        let (log, recovered) = Log::open(DIR, config, state, at_s(0), &mut disk, &StdCodecs).unwrap();
        (Bench { disk, log }, recovered)
    }

    /// After the process died: what `clean` says is believed.
    fn reopen(mut self, clean: bool) -> (Bench, Recovered) {
        self.disk.crash();
        let state = LoadState {
            clean,
            recovery_point: self.log.recovery_point(),
            log_start_offset: self.log.log_start_offset(),
            high_watermark: self.log.high_watermark(),
        };
        Bench::open(self.disk, self.log.config().clone(), state)
    }

    fn append(&mut self, second: u64, records: &Rope, epoch: i32) -> Result<AppendInfo, AppendError> {
        self.log.append_as_leader(at_s(second), &mut self.disk, &StdCodecs, records, epoch, Origin::Client)
    }

    fn follow(&mut self, records: &Rope, epoch: i32) -> Result<AppendInfo, AppendError> {
        self.log.append_as_follower(at_s(1), &mut self.disk, &StdCodecs, records, epoch)
    }

    fn read(&mut self, offset: i64) -> Rope {
        self.log.read(&mut self.disk, offset, i64::MAX, usize::MAX, true).unwrap().records
    }

    /// Everything from the log start on, segment by segment.
    fn read_all(&mut self) -> Vec<Bytes> {
        let mut found = Vec::new();
        let mut offset = self.log.log_start_offset();
        loop {
            let records = self.read(offset);
            let mut batches = Batches::new(&records);
            for batch in &mut batches {
                let batch = batch.unwrap();
                batch.check_crc(&StdCodecs).unwrap();
                offset = batch.header.next_offset();
                found.push(batch.bytes.to_bytes());
            }
            assert_eq!(batches.trailing(), 0, "whole batches only");
            if records.is_empty() {
                return found;
            }
        }
    }

    /// The entries of a segment's offset index and of its time index.
    fn indexes(&mut self, base: i64) -> (OffsetEntries, TimeEntries) {
        let index = self.disk.read_file(&segment::path(DIR, base, "index")).unwrap();
        let times = self.disk.read_file(&segment::path(DIR, base, "timeindex")).unwrap();
        let i32_at = |b: &[u8], at: usize| i32::from_be_bytes(b[at..at + 4].try_into().unwrap());
        let offsets = index.chunks(8).map(|e| (base + i64::from(i32_at(e, 0)), i32_at(e, 4) as u32));
        let times = times
            .chunks(12)
            .map(|e| (i64::from_be_bytes(e[..8].try_into().unwrap()), base + i64::from(i32_at(e, 8))));
        (offsets.collect(), times.collect())
    }

    /// Names in the log's directory.
    fn names(&mut self) -> Vec<String> {
        self.disk.list(DIR).unwrap()
    }
}

/// `T0`, seconds later.
fn t(seconds: i64) -> i64 {
    T0 + seconds * 1_000
}

/// Small segments and indexes.
fn small(segment_bytes: u32) -> LogConfig {
    LogConfig { segment_bytes, index_interval_bytes: 200, ..LogConfig::default() }
}

fn crc_of(batch: &Bytes) -> u32 {
    StdCodecs.crc32c(0, &batch[21..])
}

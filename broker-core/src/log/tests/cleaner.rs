//! Compaction: Kafka's rules one by one, and all together against a naive model with crashes at any instant.

use alloc::collections::{BTreeMap, BTreeSet};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use wire::batch::{BatchHeader, end_txn_marker_batch};

use super::*;
use crate::testing::Unsynced;

const TERMS: CleaningTerms = CleaningTerms { step_bytes: 300, dedupe_bytes: 1 << 20, fill: 1_000_000 };
const DAY: u64 = 86_400;

fn compacted(segment_bytes: u32) -> LogConfig {
    LogConfig { compact: true, delete: false, ..small(segment_bytes) }
}

/// A key, and a value or none.
type KeyValue<'a> = (&'a str, Option<&'a str>);

fn keyed(records: &[KeyValue<'_>], options: &BatchOptions) -> Rope {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        builder.append(t(0), Some(key.as_bytes()), value.map(str::as_bytes), &[("h", Some(b"v"))]);
    }
    Rope::from(builder.finish(&StdCodecs, options).unwrap())
}

fn of_producer(id: i64, sequence: i32, transactional: bool) -> BatchOptions {
    BatchOptions {
        producer_id: id,
        producer_epoch: 0,
        base_sequence: sequence,
        transactional,
        ..BatchOptions::default()
    }
}

fn marker(id: i64, commit: bool) -> Rope {
    let options = BatchOptions { producer_id: id, producer_epoch: 0, ..BatchOptions::default() };
    Rope::from(end_txn_marker_batch(&StdCodecs, &options, t(0), commit, 0).unwrap())
}

impl Bench {
    fn put(&mut self, records: &[KeyValue<'_>]) {
        self.append(0, &keyed(records, &BatchOptions::default()), 0).unwrap();
    }

    fn append_any(&mut self, records: &Rope) {
        let terms = AppendTerms {
            leader_epoch: 0,
            origin: Origin::Coordinator,
            verification: Verification::Off,
            transaction_version: 0,
        };
        self.log.append_on_terms(at_s(0), &mut self.disk, &StdCodecs, records, &terms).unwrap();
    }

    fn seal(&mut self) {
        let end = self.log.log_end_offset();
        self.log.roll(at_s(0), &mut self.disk, &StdCodecs, end).unwrap();
        self.log.update_high_watermark(end);
    }

    /// A whole pass; the clock stands at so many seconds.
    fn clean(&mut self, second: u64, terms: CleaningTerms) -> Cleaned {
        let now = at_s(second);
        let dirt = self.log.dirtiness(now.wall_ms, &mut self.disk).unwrap().expect("something is dirty");
        self.log.begin_cleaning(now.wall_ms, &dirt, terms);
        loop {
            match self.log.clean_step(now, &mut self.disk, &StdCodecs).unwrap() {
                CleaningStep::Worked(_) => {}
                CleaningStep::Waiting => self.sync(),
                CleaningStep::Done(cleaned) => return cleaned,
                CleaningStep::Ended => panic!("nothing ends it"),
            }
        }
    }

    fn sync(&mut self) {
        for (ticket, result) in self.disk.take_synced() {
            self.log.synced(ticket, result);
        }
    }

    /// Headers of all batches.
    fn headers(&mut self) -> Vec<BatchHeader> {
        self.read_all().iter().map(|bytes| BatchHeader::parse(bytes).unwrap()).collect()
    }

    /// Offset, key and value of each record that is no marker.
    fn records(&mut self) -> Vec<(i64, String, Option<String>)> {
        let mut found = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        for bytes in self.read_all() {
            let rope = Rope::from(bytes);
            let batch = Batches::new(&rope).next().unwrap().unwrap();
            if batch.header.is_control() {
                continue;
            }
            for record in &batch.records(&StdCodecs, 1 << 20).unwrap() {
                let record = record.unwrap();
                assert_eq!((record.timestamp, record.headers.len()), (t(0), 1));
                found.push((record.offset, text(record.key.unwrap()), record.value.map(text)));
            }
        }
        found
    }

    fn offsets(&mut self) -> Vec<i64> {
        self.records().into_iter().map(|(offset, ..)| offset).collect()
    }
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset() {
    let mut bench = Bench::new(compacted(1 << 20));
    bench.put(&[("a", Some("1")), ("b", Some("1"))]);
    bench.put(&[("a", Some("2")), ("c", Some("1")), ("a", Some("3"))]);
    bench.seal();
    bench.put(&[("b", Some("2"))]);
    bench.seal();
    bench.put(&[("c", Some("2"))]);
    let cleaned = bench.clean(0, TERMS);
    assert_eq!(cleaned.first_dirty, 6, "the active segment is not cleaned");
    assert!(cleaned.bytes_after < cleaned.bytes_before);
    assert_eq!(bench.offsets(), [3, 4, 5, 6]);
    assert_eq!(bench.log.segment_count(), 2, "two segments became one");
    assert_eq!(bench.log.cleaned_to(), Some(6));
    assert!(bench.log.dirtiness(t(0), &mut bench.disk).unwrap().is_none());
    // A fetch from what is gone gets what comes next.
    let found = bench.read(1);
    assert_eq!(Batches::new(&found).next().unwrap().unwrap().header.base_offset, 2);
    let names = bench.names();
    assert!(names.iter().any(|n| n.ends_with("5.log.deleted")), "{names:?}");
    assert!(!names.iter().any(|n| n.ends_with(".cleaned") || n.ends_with(".swap")), "{names:?}");
    let due = bench.log.deadline().unwrap();
    bench.log.on_timer(Now { mono: due, wall_ms: t(60) }, &mut bench.disk).unwrap();
    assert!(!bench.names().iter().any(|n| n.ends_with(".deleted")));
}

#[test]
fn what_may_be_cleaned_and_when() {
    let base = compacted(1 << 20);
    let ratio = |min_cleanable_ratio| LogConfig { min_cleanable_ratio, ..base.clone() };
    let lag = |min_compaction_lag_ms| LogConfig { min_compaction_lag_ms, ..base.clone() };
    let max_lag = |max_compaction_lag_ms| LogConfig { max_compaction_lag_ms, ..ratio(999_999) };
    // Two segments of one size, the first was cleaned; and the active one. Records are of second 0.
    for (what, config, second, high_watermark, want) in [
        ("half of it is not more than half", ratio(500_000), 60, 2, Some((2, false))),
        ("half of it is more than a third", ratio(333_333), 60, 2, Some((2, true))),
        ("nothing above the high watermark", ratio(0), 60, 1, None),
        ("too young", lag(60_001), 60, 2, None),
        ("old enough", lag(60_000), 60, 2, Some((2, false))),
        ("overdue", max_lag(59_000), 60, 2, Some((2, true))),
        ("not yet overdue", max_lag(60_000), 60, 2, Some((2, false))),
    ] {
        let mut bench = Bench::new(config);
        bench.put(&[("a", Some("1"))]);
        bench.seal();
        bench.put(&[("b", Some("1"))]);
        bench.seal();
        bench.log.update_high_watermark(high_watermark);
        bench.log.set_cleaned_to(Some(1));
        let dirt = bench.log.dirtiness(at_s(second).wall_ms, &mut bench.disk).unwrap();
        assert_eq!(dirt.map(|dirt| (dirt.end, dirt.due)), want, "{what}");
    }
}

#[test]
fn a_tombstone_stays_until_the_horizon_that_the_first_pass_sets() {
    let mut bench = Bench::new(compacted(1 << 20));
    bench.put(&[("a", Some("1")), ("b", Some("1"))]);
    bench.put(&[("a", None)]);
    bench.seal();
    bench.clean(10, TERMS);
    assert_eq!(bench.records(), [(1, "b".into(), Some("1".into())), (2, "a".into(), None)]);
    let horizon = t(10 + DAY as i64);
    assert_eq!(bench.headers()[1].delete_horizon(), Some(horizon));
    assert_eq!(bench.headers()[1].max_timestamp, t(0), "the record's own timestamp is still there");
    for (second, left) in [(9 + DAY, vec![1, 2, 3]), (10 + DAY, vec![1, 3, 4])] {
        bench.put(&[("c", Some("1"))]);
        bench.seal();
        bench.clean(second, TERMS);
        let mut offsets = bench.offsets();
        // Only the last of c is left.
        offsets.retain(|offset| left.contains(offset));
        assert_eq!(offsets.contains(&2), left.contains(&2), "{second}");
    }
}

#[test]
fn aborted_data_goes_at_once_and_markers_after_their_horizon() {
    let mut bench = Bench::new(compacted(1 << 20));
    bench.append_any(&keyed(&[("a", Some("old"))], &of_producer(8, 0, false)));
    bench.append_any(&keyed(&[("a", Some("aborted"))], &of_producer(7, 0, true)));
    bench.append_any(&marker(7, false));
    bench.append_any(&keyed(&[("b", Some("kept"))], &of_producer(7, 1, true)));
    bench.append_any(&marker(7, true));
    bench.append_any(&keyed(&[("z", Some("1"))], &of_producer(9, 0, false)));
    bench.seal();
    bench.clean(10, TERMS);
    assert_eq!(bench.offsets(), [0, 3, 5], "an aborted record replaces nothing");
    let controls = |bench: &mut Bench| -> Vec<(i64, bool)> {
        let headers = bench.headers().into_iter().filter(BatchHeader::is_control);
        headers.map(|h| (h.base_offset, h.delete_horizon().is_some())).collect()
    };
    assert_eq!(controls(&mut bench), [(2, false), (4, false)], "there was data of them");
    assert_eq!(bench.log.aborted_transactions(0, 9).len(), 1, "for whoever reads on from before");
    let next = |bench: &mut Bench, second| {
        bench.put(&[("z", Some("2"))]);
        bench.seal();
        bench.clean(second, TERMS);
        controls(bench)
    };
    assert_eq!(next(&mut bench, 20), [(2, true), (4, false)], "the commit has data");
    assert!(bench.log.aborted_transactions(0, 9).is_empty());
    assert_eq!(next(&mut bench, 21), [(2, true), (4, false)]);
    assert_eq!(next(&mut bench, 20 + DAY), [(4, false)]);
}

#[test]
fn the_last_batch_of_a_producer_stays_for_its_sequence_numbers() {
    let mut bench = Bench::new(compacted(1 << 20));
    bench.append_any(&keyed(&[("a", Some("1"))], &of_producer(7, 0, false)));
    bench.append_any(&keyed(&[("a", Some("2"))], &of_producer(7, 1, false)));
    bench.append_any(&keyed(&[("a", Some("3"))], &of_producer(8, 0, false)));
    bench.seal();
    bench.clean(0, TERMS);
    let left: Vec<_> =
        bench.headers().iter().map(|h| (h.base_offset, h.record_count, h.last_sequence())).collect();
    assert_eq!(left, [(1, 0, 1), (2, 1, 0)], "empty, with its sequence number");
    for snapshot in bench.names().into_iter().filter(|n| n.ends_with(".snapshot")) {
        bench.disk.remove(&alloc::format!("{DIR}/{snapshot}")).unwrap();
    }
    let known = bench.log.producers.ids();
    let (bench, _) = bench.reopen(false);
    assert_eq!(bench.log.producers.ids(), known);
}

#[test]
fn what_the_map_has_no_room_for_is_left_to_the_next_pass() {
    let mut bench = Bench::new(compacted(1 << 20));
    for i in 0..20 {
        bench.put(&[(&alloc::format!("k{}", i % 10), Some("v"))]);
    }
    bench.seal();
    let terms = CleaningTerms { dedupe_bytes: 4 * 24, ..TERMS };
    let mut passes = 0;
    let mut before = -1;
    while bench.log.dirtiness(t(0), &mut bench.disk).unwrap().is_some() {
        let first_dirty = bench.clean(0, terms).first_dirty;
        assert!(first_dirty > before, "each pass gets further");
        (before, passes) = (first_dirty, passes + 1);
    }
    assert_eq!((passes, before), (5, 20));
    assert_eq!(bench.offsets(), (10..20).collect::<Vec<_>>());
}

#[test]
fn compressed_batches_stay_compressed_and_damage_ends_a_pass() {
    let mut bench = Bench::new(compacted(1 << 20));
    let value = "v".repeat(300);
    for _ in 0..2 {
        let records = [("a", Some(&*value)), ("b", Some(&*value))];
        bench.append_any(&keyed(&records, &compressed(Compression::Lz4)));
    }
    bench.put(&[("b", None)]);
    bench.seal();
    bench.clean(0, TERMS);
    assert_eq!(bench.offsets(), [2, 4]);
    assert_eq!(bench.headers()[0].compression(), Ok(Compression::Lz4));
    bench.put(&[("a", Some("1")), ("c", Some("1"))]);
    bench.put(&[("a", Some("2"))]);
    bench.seal();
    let log = segment::path(DIR, 5, "log");
    bench.disk.corrupt(&log, 63, 1);
    let (mut bench, _) = bench.reopen(true);
    bench.log.set_cleaned_to(Some(5));
    let dirt = bench.log.dirtiness(t(0), &mut bench.disk).unwrap().unwrap();
    bench.log.begin_cleaning(t(0), &dirt, TERMS);
    let before = bench.log.size_bytes();
    let failed = loop {
        match bench.log.clean_step(at_s(0), &mut bench.disk, &StdCodecs) {
            Ok(CleaningStep::Waiting) => bench.sync(),
            Ok(CleaningStep::Worked(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(failed, Err(LogError::Malformed { .. })), "{failed:?}");
    assert_eq!((bench.log.size_bytes(), bench.log.is_cleaning()), (before, false));
    assert!(!bench.names().iter().any(|n| n.ends_with(".cleaned")));
}

/// What was written, entry by entry.
#[derive(Clone, Default)]
struct Model {
    /// Offset, key, value, and the producer of the transaction that is not yet ended.
    entries: Vec<(i64, String, Option<String>, Option<i64>)>,
    aborted: BTreeSet<i64>,
    open: BTreeMap<i64, i32>,
}

impl Model {
    /// The last value of each key, of what was committed.
    fn view(&self) -> BTreeMap<String, String> {
        let mut view = BTreeMap::new();
        for (offset, key, value, open) in &self.entries {
            if self.aborted.contains(offset) || open.is_some() {
                continue;
            }
            match value {
                Some(value) => view.insert(key.clone(), value.clone()),
                None => view.remove(key),
            };
        }
        view
    }
}

struct Run {
    seed: u64,
    rng: ChaCha8Rng,
    bench: Bench,
    model: Model,
    second: u64,
    sequences: BTreeMap<i64, i32>,
}

impl Run {
    fn chance(&mut self, of: u32) -> u32 {
        self.rng.next_u32() % of
    }

    fn write(&mut self) {
        let count = 1 + self.chance(3);
        let producer = i64::from(self.chance(4)) + 1;
        let transactional = producer <= 2;
        let mut records = Vec::new();
        for _ in 0..count {
            let key = alloc::format!("key-{}", self.chance(8));
            let value = (self.chance(4) > 0).then(|| alloc::format!("{}", self.rng.next_u32()));
            records.push((key, value));
        }
        let base = self.bench.log.log_end_offset();
        let sequence = self.sequences.entry(producer).or_default();
        let options = of_producer(producer, *sequence, transactional);
        *sequence += count as i32;
        let borrowed: Vec<KeyValue<'_>> = records.iter().map(|(k, v)| (&**k, v.as_deref())).collect();
        self.bench.append_any(&keyed(&borrowed, &options));
        for (i, (key, value)) in records.into_iter().enumerate() {
            let open = transactional.then_some(producer);
            self.model.entries.push((base + i as i64, key, value, open));
        }
        if transactional {
            self.model.open.insert(producer, 0);
        }
    }

    fn end_transactions(&mut self) {
        for (producer, _) in core::mem::take(&mut self.model.open) {
            let commit = self.chance(2) == 0;
            self.bench.append_any(&marker(producer, commit));
            for (offset, _, _, open) in &mut self.model.entries {
                if *open == Some(producer) {
                    *open = None;
                    if !commit {
                        self.model.aborted.insert(*offset);
                    }
                }
            }
        }
    }

    /// A pass that is let through, or ended by a crash of the process or a loss of power.
    fn clean(&mut self) {
        self.bench.log.update_high_watermark(i64::MAX);
        self.bench.log.flush(at_s(self.second), &mut self.bench.disk);
        self.bench.disk.complete_all();
        self.bench.sync();
        self.bench.disk.complete_all();
        self.bench.sync();
        let now = at_s(self.second);
        let Some(dirt) = self.bench.log.dirtiness(now.wall_ms, &mut self.bench.disk).unwrap() else { return };
        let dedupe_bytes = if self.chance(2) == 0 { 24 * 5 } else { 1 << 20 };
        let terms = CleaningTerms { step_bytes: 200, dedupe_bytes, ..TERMS };
        self.bench.log.begin_cleaning(now.wall_ms, &dirt, terms);
        let dies_after = self.chance(120);
        for step in 0.. {
            if step == dies_after {
                return self.die();
            }
            match self.bench.log.clean_step(now, &mut self.bench.disk, &StdCodecs).unwrap() {
                CleaningStep::Worked(_) => {}
                CleaningStep::Waiting => match self.bench.disk.pending().first().copied() {
                    Some(ticket) => {
                        self.bench.disk.complete(ticket);
                        self.bench.sync();
                    }
                    None => panic!("it waits for nothing"),
                },
                CleaningStep::Done(_) => break,
                CleaningStep::Ended => panic!("nothing ends it"),
            }
        }
        self.no_key_twice();
    }

    fn no_key_twice(&mut self) {
        let to = self.bench.log.cleaned_to().unwrap();
        let mut seen = BTreeSet::new();
        for (offset, key, _) in self.bench.records().into_iter().filter(|(offset, ..)| *offset < to) {
            assert!(seen.insert(key.clone()), "seed {}: {key} again at {offset} below {to}", self.seed);
            assert!(!self.model.aborted.contains(&offset), "seed {}: aborted {offset}", self.seed);
        }
    }

    fn die(&mut self) {
        let how = self.chance(4);
        let (log, mut disk) = (self.bench.log.clone(), self.bench.disk.clone());
        match how {
            0 => disk.crash(),
            1 => disk.power_loss(Unsynced::Lost),
            2 => disk.power_loss(Unsynced::Kept),
            _ => disk.power_loss(Unsynced::Part(500)),
        }
        let state = LoadState {
            clean: false,
            recovery_point: if self.chance(2) == 0 { log.recovery_point() } else { 0 },
            log_start_offset: 0,
            high_watermark: log.log_end_offset(),
        };
        // As on a start: the topic's settings are not known yet.
        let (mut bench, _) = Bench::open(disk, small(600), state);
        bench.log.set_config(log.config().clone());
        bench.log.set_cleaned_to(log.cleaned_to().filter(|_| self.chance(2) == 0));
        assert_eq!(bench.log.log_end_offset(), log.log_end_offset(), "seed {} how {how}", self.seed);
        assert_eq!(bench.log.producers.ids(), log.producers.ids(), "seed {} how {how}", self.seed);
        self.bench = bench;
        self.bench.disk.set_manual(true);
    }

    fn check(&mut self) {
        let written: BTreeMap<i64, _> = self.model.entries.iter().map(|(o, k, v, _)| (*o, (k, v))).collect();
        let mut view = BTreeMap::new();
        for (offset, key, value) in self.bench.records() {
            assert_eq!(written.get(&offset), Some(&(&key, &value)), "seed {} at {offset}", self.seed);
            let hidden = self.model.aborted.contains(&offset)
                || self.model.entries.iter().any(|(o, _, _, open)| *o == offset && open.is_some());
            match value.filter(|_| !hidden) {
                Some(value) => view.insert(key, value),
                None if hidden => None,
                None => view.remove(&key),
            };
        }
        assert_eq!(view, self.model.view(), "seed {}", self.seed);
        self.bench.log.check_invariants();
    }
}

#[test]
fn a_cleaned_log_says_what_a_naive_model_says() {
    for seed in 0..80 {
        let config = LogConfig { delete_retention_ms: 50_000, ..compacted(600) };
        let mut bench = Bench::new(config);
        bench.disk.set_manual(true);
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let model = Model::default();
        let mut run = Run { seed, rng, bench, model, second: 100, sequences: BTreeMap::new() };
        for _ in 0..60 {
            match run.chance(10) {
                0..=5 => run.write(),
                6 => run.end_transactions(),
                7..=8 => run.clean(),
                _ => run.second += 30,
            }
            run.check();
        }
    }
}

//! Opening after clean and unclean stops, Kafka's own directories, and power losses at any point.

#[allow(clippy::duplicate_mod, reason = "other tests of this crate read the archive too")]
#[path = "../../../../testdata/golden.rs"]
mod golden;

use super::*;

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use proptest::prelude::*;

use crate::testing::Unsynced;

fn log_path(base: i64) -> String {
    segment::path(DIR, base, "log")
}

/// Three batches, as they lie on the disk, and where each ends.
fn three() -> (Bench, Vec<usize>) {
    let mut bench = Bench::new(LogConfig::default());
    let mut ends = vec![0];
    for i in 0..3 {
        bench.append(0, &batch(2, 40, t(i)), i as i32).unwrap();
        ends.push(bench.log.size_bytes() as usize);
    }
    (bench, ends)
}

/// Replaces the content of a file and opens the log after an unclean stop, with nothing known to be durable.
fn reopen_with(bench: &Bench, content: &[u8]) -> (Bench, Recovered) {
    let mut disk = bench.disk.clone();
    disk.crash();
    disk.put(&log_path(0), content.to_vec());
    Bench::open(disk, LogConfig::default(), LoadState { clean: false, ..LoadState::NEW })
}

#[test]
fn a_batch_torn_at_any_byte_is_cut() {
    let (mut bench, ends) = three();
    let stored = bench.read_all();
    let content = bench.disk.read_file(&log_path(0)).unwrap();
    for len in 0..=content.len() {
        let (mut again, recovered) = reopen_with(&bench, &content[..len]);
        let whole = ends.iter().filter(|&&end| end <= len).count() - 1;
        assert_eq!(again.read_all(), stored[..whole], "torn at {len}");
        assert_eq!(again.log.log_end_offset(), 2 * whole as i64);
        assert_eq!(recovered.bytes_cut as usize, len - ends[whole]);
        assert_eq!(again.log.epochs().len(), whole, "epochs behind the end are forgotten");
        again.append(5, &batch(1, 5, t(5)), 7).unwrap();
        assert_eq!(again.read_all().len(), whole + 1);
    }
}

#[test]
fn zeros_and_garbage_at_the_end_are_cut() {
    let (mut bench, ends) = three();
    let stored = bench.read_all();
    let content = bench.disk.read_file(&log_path(0)).unwrap();
    for (fill, count) in [(0, 1), (0, 60), (0, 61), (0, 5_000), (0xff, 100), (2, 200)] {
        let mut longer = content.to_vec();
        longer.resize(content.len() + count, fill);
        let (mut again, recovered) = reopen_with(&bench, &longer);
        assert_eq!(recovered.bytes_cut as usize, count, "{count} times {fill}");
        assert_eq!(again.read_all(), stored);
        // Sectors of a torn write come back as zeros in the middle.
        let mut torn = content.to_vec();
        torn[ends[2] + 20..].fill(fill);
        assert_eq!(reopen_with(&bench, &torn).0.read_all(), stored[..2]);
    }
    // So does the first sector, if it alone was never written: that is no log of before Kafka 0.11.
    let mut hole = content.to_vec();
    hole[..ends[1]].fill(0);
    let (mut again, recovered) = reopen_with(&bench, &hole);
    assert_eq!((again.read_all().len(), recovered.bytes_cut as usize), (0, content.len()));
}

#[test]
fn a_flipped_bit_cuts_from_its_batch_on() {
    let (mut bench, ends) = three();
    let stored = bench.read_all();
    let content = bench.disk.read_file(&log_path(0)).unwrap();
    for at in 0..content.len() {
        for bit in [0, 6, 7] {
            let mut flipped = content.to_vec();
            flipped[at] ^= 1 << bit;
            let (mut again, _) = reopen_with(&bench, &flipped);
            let i = ends.iter().filter(|&&end| end <= at).count() - 1;
            let within = at - ends[i];
            // Base offset and leader epoch lie outside of the CRC: a change may look like another valid batch.
            if within < 8 || (12..16).contains(&within) {
                again.read_all();
            } else {
                assert_eq!(again.read_all(), stored[..i], "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn below_the_recovery_point_nothing_is_read_again() {
    let config = small(600);
    let mut bench = Bench::new(config.clone());
    for i in 0..12 {
        bench.append(0, &batch(2, 60, t(i)), 0).unwrap();
    }
    let bases: Vec<i64> = bench.log.segments.iter().map(|s| s.base).collect();
    assert!(bases.len() >= 4, "{bases:?}");
    bench.disk.crash();
    bench.disk.corrupt(&log_path(0), 80, 1);
    let open = |disk: &MemDisk, clean, recovery_point| {
        Bench::open(disk.clone(), config.clone(), LoadState { clean, recovery_point, ..LoadState::NEW })
    };
    // Damage below the recovery point stays, as in Kafka: it was synced, the medium spoilt it.
    let (again, recovered) = open(&bench.disk, false, bases[1]);
    assert_eq!((again.log.log_end_offset(), recovered.bytes_cut), (24, 0));
    assert_eq!(recovered.segments_recovered, bases.len() - 1);
    assert_eq!(again.log.recovery_point(), bases[1]);
    // In the segment of the recovery point it cuts, and what comes later goes.
    let (again, recovered) = open(&bench.disk, false, 1);
    assert_eq!(again.log.log_end_offset(), 0);
    assert_eq!(recovered.segments_removed, bases.len() - 1);
    assert_eq!(again.log.segment_count(), 1);
    // After a clean stop nothing is looked at, and everything counts as durable.
    let (again, recovered) = open(&bench.disk, true, 1);
    assert_eq!((again.log.log_end_offset(), recovered.segments_recovered), (24, 0));
    assert_eq!(again.log.recovery_point(), 24);
}

#[test]
fn indexes_are_rebuilt_as_they_were() {
    let config = LogConfig { segment_bytes: 5_000, index_interval_bytes: 300, ..LogConfig::default() };
    let mut bench = Bench::new(config.clone());
    for i in 0..60 {
        bench.append(0, &batch(2, 60, t((i * 7) % 40)), 0).unwrap();
    }
    bench.log.close(at_s(0), &mut bench.disk, &StdCodecs).unwrap();
    let bases: Vec<i64> = bench.log.segments.iter().map(|s| s.base).collect();
    let before: Vec<_> = bases.iter().map(|&base| bench.indexes(base)).collect();
    assert!(before.iter().all(|(offsets, times)| offsets.len() > 3 && !times.is_empty()));
    let stored = bench.read_all();
    for (why, clean, spoil) in [
        ("unclean", false, &(|_: &mut MemDisk, _: &str, _: &str| ()) as &dyn Fn(&mut MemDisk, &str, &str)),
        ("no index", true, &|disk, index, _| disk.remove(index).unwrap()),
        ("no time index", true, &|disk, _, times| disk.remove(times).unwrap()),
        ("neither", true, &|disk, index, times| {
            disk.remove(index).unwrap();
            disk.remove(times).unwrap();
        }),
        ("preallocated", false, &|disk, index, times| {
            disk.put(index, vec![0; 8_000]);
            disk.put(times, vec![0; 12_000]);
        }),
    ] {
        let mut disk = bench.disk.clone();
        disk.crash();
        for &base in &bases {
            spoil(&mut disk, &segment::path(DIR, base, "index"), &segment::path(DIR, base, "timeindex"));
        }
        let (mut again, _) = Bench::open(disk, config.clone(), LoadState { clean, ..LoadState::NEW });
        let after: Vec<_> = bases.iter().map(|&base| again.indexes(base)).collect();
        assert_eq!(after, before, "{why}");
        assert_eq!(again.read_all(), stored, "{why}");
    }
}

#[test]
fn damaged_files_after_a_clean_stop_are_no_reason_to_panic() {
    let (mut bench, ends) = three();
    let stored = bench.read_all();
    let content = bench.disk.read_file(&log_path(0)).unwrap();
    let index = segment::path(DIR, 0, "index");
    let times = segment::path(DIR, 0, "timeindex");
    for (why, path, bytes, whole) in [
        ("a torn batch", log_path(0), content[..ends[2] + 70].to_vec(), 2),
        ("zeros behind", log_path(0), [&content[..], &[0; 99]].concat(), 3),
        ("index beyond the end", index.clone(), vec![0, 0, 0, 1, 0x7f, 0, 0, 0], 3),
        ("index offset beyond the end", index.clone(), vec![0, 1, 0, 1, 0, 0, 0, 0], 3),
        ("index between batches", index.clone(), vec![0, 0, 0, 2, 0, 0, 0, 9], 3),
        ("negative", index.clone(), vec![0xff; 8], 3),
        ("odd size", index, vec![0; 13], 3),
        ("time index beyond the end", times.clone(), vec![0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 9], 3),
        ("negative time index", times, vec![0xff; 12], 3),
    ] {
        let mut disk = bench.disk.clone();
        disk.crash();
        disk.put(&path, bytes);
        let (mut again, _) = Bench::open(disk, LogConfig::default(), LoadState::NEW);
        assert_eq!(again.read_all(), stored[..whole], "{why}");
        assert_eq!(again.log.log_end_offset(), 2 * whole as i64, "{why}");
        for i in 0..200 {
            again.append(0, &batch(1, 40, t(i)), 3).unwrap();
        }
        assert_eq!(again.read_all().len(), whole + 200, "{why}");
    }
}

#[test]
fn leftovers_of_deletions_and_cleanings() {
    let size = batch(2, 60, t(0)).len() as u32;
    let config = LogConfig { segment_bytes: 2 * size, ..LogConfig::default() };
    let mut bench = Bench::new(config.clone());
    for i in 0..8 {
        bench.append(0, &batch(2, 60, t(i)), 0).unwrap();
    }
    bench.log.close(at_s(0), &mut bench.disk, &StdCodecs).unwrap();
    let stored = bench.read_all();
    bench.disk.crash();
    // Segments begin at 0, 4, 8 and 12. A cleaning had joined the first two into one that lacks the second batch.
    let joined = [&stored[0][..], &stored[2][..], &stored[3][..]].concat();
    let put = |disk: &mut MemDisk, names: &[(&str, &[u8])]| {
        for (name, content) in names {
            disk.put(&alloc::format!("{DIR}/{name}"), content.to_vec());
        }
    };
    let swap = "00000000000000000000.log.swap";
    let cleaned = "00000000000000000000.log.cleaned";
    for (why, names, batches) in [
        (
            "deleted",
            vec![
                ("00000000000000000000.log.deleted", &b"x"[..]),
                ("00000000000000000008.index.deleted", b""),
            ],
            8,
        ),
        ("cleaned", vec![(cleaned, &joined[..]), ("00000000000000000000.index.cleaned", b"")], 8),
        ("swap", vec![(swap, &joined[..]), ("00000000000000000000.index.swap", b"")], 7),
        ("swap of a split that was not complete", vec![(swap, &joined[..]), (cleaned, &joined[..])], 8),
        (
            "orphaned index",
            vec![("00000000000000000099.index", &b""[..]), ("00000000000000000099.txnindex", b"")],
            8,
        ),
        (
            "what belongs to others",
            vec![
                ("00000000000000000004.txnindex", &b"t"[..]),
                ("00000000000000000004-0000000001.checkpoint", b"c"),
                ("00000000000000000004-0000000000.checkpoint.deleted", b"d"),
                ("quorum-state", b"{}"),
            ],
            8,
        ),
    ] {
        let mut disk = bench.disk.clone();
        put(&mut disk, &names);
        let (mut again, _) = Bench::open(disk, config.clone(), LoadState::NEW);
        assert_eq!(again.read_all().len(), batches, "{why}");
        assert_eq!(again.log.log_end_offset(), 16, "{why}");
        let left: Vec<String> = again.names();
        let kept = names.iter().filter(|(name, _)| left.iter().any(|n| n == name)).count();
        assert_eq!(kept, if why.starts_with("what") { names.len() } else { 0 }, "{why}: {left:?}");
    }
}

#[test]
fn a_log_that_ends_before_its_start_begins_anew_there() {
    let (bench, _) = three();
    let mut disk = bench.disk.clone();
    disk.crash();
    let state = LoadState { log_start_offset: 50, high_watermark: 60, ..LoadState::NEW };
    let (mut again, _) = Bench::open(disk, LogConfig::default(), state);
    assert_eq!(
        (again.log.log_start_offset(), again.log.log_end_offset(), again.log.high_watermark()),
        (50, 50, 50)
    );
    assert!(again.log.epochs().is_empty() && again.read_all().is_empty());
    let state = LoadState { log_start_offset: 3, high_watermark: 5, ..LoadState::NEW };
    let mut disk = bench.disk.clone();
    disk.crash();
    let (again, _) = Bench::open(disk, LogConfig::default(), state);
    assert_eq!(
        (again.log.log_start_offset(), again.log.log_end_offset(), again.log.high_watermark()),
        (3, 6, 5)
    );
    assert_eq!(again.log.epochs()[0], epoch_cache::EpochEntry { epoch: 1, start_offset: 3 });
}

#[test]
fn old_formats_are_refused_and_nothing_is_cut() {
    let (bench, _) = three();
    let mut disk = bench.disk.clone();
    disk.crash();
    disk.corrupt(&log_path(0), 16, 3);
    let state = LoadState { clean: false, ..LoadState::NEW };
    let before = disk.read_file(&log_path(0)).unwrap();
    let error = Log::open(DIR, LogConfig::default(), state, at_s(0), &mut disk, &StdCodecs).unwrap_err();
    assert!(error.to_string().contains("v1"), "{error}");
    assert_eq!(disk.read_file(&log_path(0)).unwrap(), before);
}

/// Kafka's log directory on a disk of ours.
fn kafkas(dir: &str) -> (MemDisk, BTreeMap<String, Vec<u8>>) {
    let mut disk = MemDisk::new();
    let mut files = BTreeMap::new();
    for (path, content) in golden::files() {
        if let Some(name) = path.strip_prefix(dir) {
            disk.put(&alloc::format!("data{name}"), content.clone());
            files.insert(name[1..].to_string(), content);
        }
    }
    assert!(!files.is_empty(), "{dir} is in the archive");
    (disk, files)
}

#[test]
fn kafkas_directories_open_and_read() {
    let (mut disk, files) = kafkas("failover/broker-1");
    let dir = LogDir::open("data", &mut disk).unwrap();
    assert!(dir.clean);
    assert_eq!((dir.clean_broker_epoch, dir.node_id()), (Some(714), Some(1)));
    let partitions = dir.partitions(&mut disk).unwrap();
    let names: Vec<&str> = partitions.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for partition in &partitions {
        assert!(partition.topic_id.is_some());
        let state = dir.load_state(&partition.topic, partition.partition);
        let (log, recovered) =
            Log::open(&partition.path, LogConfig::default(), state, at_s(0), &mut disk, &StdCodecs).unwrap();
        assert_eq!(recovered, Recovered::default(), "{}", partition.path);
        assert_eq!(log.log_end_offset(), state.recovery_point, "{}", partition.path);
        assert_eq!(log.high_watermark(), state.high_watermark.max(log.log_start_offset()));
        let mut bench = Bench { disk: disk.clone(), log };
        let batches = bench.read_all();
        let content = &files[&alloc::format!("{}/{:020}.log", &partition.path["data/".len()..], 0)];
        let all = batches.concat();
        assert_eq!(&content[content.len() - all.len()..], all, "{}", partition.path);
    }
    let purchases = partitions.iter().find(|p| p.topic == "purchases" && p.partition == 0).unwrap();
    let state = dir.load_state("purchases", 0);
    let (log, _) =
        Log::open(&purchases.path, LogConfig::default(), state, at_s(0), &mut disk, &StdCodecs).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.latest_epoch()), (3, 672, Some(5)));
    assert_eq!(log.end_offset_for_epoch(2), EpochEnd { epoch: 2, offset: 224 });
    for name in ["00000000000000000224.snapshot", "00000000000000000672.snapshot"] {
        assert!(disk.exists(&alloc::format!("data/purchases-0/{name}")), "Kafka's producer state is kept");
    }
}

#[test]
fn recovery_builds_the_indexes_that_kafka_built() {
    // This broker's logs were written in one go: no restart has shifted the index interval.
    for (dir, partition) in [
        ("failover/broker-3", "purchases-1"),
        ("failover/broker-3", "purchases-0"),
        ("failover/broker-3", "purchases-2"),
        ("failover/broker-3", "__consumer_offsets-11"),
        ("failover/controller-101", "__cluster_metadata-0"),
    ] {
        let (mut disk, files) = kafkas(dir);
        let path = alloc::format!("data/{partition}");
        for ext in ["index", "timeindex"] {
            disk.remove(&segment::path(&path, 0, ext)).unwrap();
        }
        let state = LoadState { clean: false, ..LoadState::NEW };
        Log::open(&path, LogConfig::default(), state, at_s(0), &mut disk, &StdCodecs).unwrap();
        let kafkas = &files[&alloc::format!("{partition}/00000000000000000000.index")];
        let ours = disk.read_file(&segment::path(&path, 0, "index")).unwrap();
        assert_eq!(&ours[..], kafkas, "{dir}/{partition}");
        let kafkas = &files[&alloc::format!("{partition}/00000000000000000000.timeindex")];
        let ours = disk.read_file(&segment::path(&path, 0, "timeindex")).unwrap();
        assert_eq!(&ours[..], kafkas, "{dir}/{partition}");
    }
}

#[test]
fn appending_what_kafka_appended_gives_kafkas_files() {
    let (mut disk, files) = kafkas("failover/broker-3");
    let content = files["purchases-1/00000000000000000000.log"].clone();
    disk.mkdir("data/copy-0").unwrap();
    let (mut log, _) =
        Log::open("data/copy-0", LogConfig::default(), LoadState::NEW, at_s(0), &mut disk, &StdCodecs)
            .unwrap();
    let all = Rope::from(Bytes::from(content.clone()));
    // In fetches of several batches: index entries go by batch, not by append.
    let mut from = 0;
    while from < all.len() {
        let fetched = all.slice(from, (all.len() - from).min(3_000));
        from += log.append_as_follower(at_s(1), &mut disk, &StdCodecs, &fetched, 99).unwrap().bytes;
    }
    log.close(at_s(1), &mut disk, &StdCodecs).unwrap();
    for (name, ours) in [
        ("purchases-1/00000000000000000000.log", "00000000000000000000.log"),
        ("purchases-1/00000000000000000000.index", "00000000000000000000.index"),
        ("purchases-1/00000000000000000000.timeindex", "00000000000000000000.timeindex"),
        ("purchases-1/leader-epoch-checkpoint", "leader-epoch-checkpoint"),
    ] {
        let ours = disk.read_file(&alloc::format!("data/copy-0/{ours}")).unwrap();
        assert_eq!(&ours[..], files[name], "{name}");
    }
}

/// What a log may be asked for between two power losses.
#[derive(Clone, Debug)]
enum Step {
    Append {
        count: i64,
        value: usize,
    },
    NextEpoch,
    Flush,
    /// So many of the syncs under way complete, from the oldest or from the newest.
    Complete {
        count: usize,
        newest: bool,
    },
    Truncate {
        back: i64,
    },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1i64..4, 0usize..200).prop_map(|(count, value)| Step::Append { count, value }),
        1 => Just(Step::NextEpoch),
        2 => Just(Step::Flush),
        3 => (1usize..4, any::<bool>()).prop_map(|(count, newest)| Step::Complete { count, newest }),
        1 => (0i64..6).prop_map(|back| Step::Truncate { back }),
        1 => Just(Step::Crash),
    ]
}

fn unsynced() -> impl Strategy<Value = Unsynced> {
    prop_oneof![Just(Unsynced::Lost), Just(Unsynced::Kept), (0u32..1_000).prop_map(Unsynced::Part),]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whenever the power fails: what is found is what was appended, batch for batch, up to some point at or behind
    /// the recovery point, each batch in its epoch.
    #[test]
    fn after_a_power_loss_the_log_is_a_prefix_with_all_that_was_durable(
        steps in proptest::collection::vec(step(), 1..60),
        unsynced in unsynced(),
        checkpointed in any::<bool>(),
    ) {
        let config = LogConfig { segment_bytes: 1_500, index_interval_bytes: 200, ..LogConfig::default() };
        let mut bench = Bench::new(config.clone());
        bench.disk.set_manual(true);
        let mut epoch = 0;
        for step in steps {
            match step {
                Step::Append { count, value } => {
                    bench.append(0, &batch(count, value, t(0)), epoch).unwrap();
                }
                Step::NextEpoch => {
                    epoch += 1;
                    let end = bench.log.log_end_offset();
                    bench.log.assign_epoch(&mut bench.disk, epoch, end);
                }
                Step::Flush => bench.log.flush(at_s(0), &mut bench.disk),
                Step::Complete { count, newest } => {
                    for _ in 0..count {
                        let pending = bench.disk.pending();
                        let next = if newest { pending.last() } else { pending.first() };
                        if let Some(&ticket) = next {
                            bench.disk.complete(ticket);
                        }
                    }
                    for (ticket, result) in bench.disk.take_synced() {
                        bench.log.synced(ticket, result);
                    }
                }
                Step::Truncate { back } => {
                    let stored = bench.read_all();
                    let keep = stored.len().saturating_sub(back as usize);
                    let to: i64 = stored[..keep]
                        .last()
                        .map_or(0, |b| wire::batch::BatchHeader::parse(b).unwrap().next_offset());
                    bench.log.truncate_to(at_s(0), &mut bench.disk, &StdCodecs, to).unwrap();
                    epoch += 1;
                }
                Step::Crash => {
                    let stored = bench.read_all();
                    bench = bench.reopen(false).0;
                    prop_assert_eq!(bench.read_all(), stored, "a crash of the process alone loses nothing");
                }
            }
        }
        let stored = bench.read_all();
        let durable = bench.log.recovery_point();
        bench.disk.power_loss(unsynced);
        // The checkpoint of the recovery point may be an older one.
        let recovery_point = if checkpointed { durable } else { 0 };
        let state = LoadState { clean: false, recovery_point, ..LoadState::NEW };
        let (mut again, _) = Bench::open(bench.disk, config, state);
        let found = again.read_all();
        prop_assert!(again.log.log_end_offset() >= durable);
        // What a truncation cut may lie on the medium still, behind what was durable then; before that all is equal.
        let same = stored.iter().zip(&found).take_while(|(a, b)| a == b).count();
        let same_end = stored[..same].last().map_or(0, |b| wire::batch::BatchHeader::parse(b).unwrap().next_offset());
        prop_assert!(same_end >= durable, "equal up to {}, durable up to {}", same_end, durable);
        for bytes in &found {
            let header = wire::batch::BatchHeader::parse(bytes).unwrap();
            prop_assert_eq!(again.log.epoch_of(header.base_offset), Some(header.partition_leader_epoch));
        }
    }
}

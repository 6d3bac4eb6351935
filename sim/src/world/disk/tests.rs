//! A disk as a process uses it, with crashes and power losses.

use broker_core::disk::{Disk, DiskError, FileId};
use proptest::prelude::*;
use wire::Rope;

use super::super::agenda::Agenda;
use super::super::digest::Digest;
use super::*;

/// A disk, and what its operations touch.
#[derive(Clone)]
struct Bench {
    disk: SimDisk,
    chunks: ChunkStore,
    agenda: Agenda,
    digest: Digest,
    now: SimTime,
}

impl Bench {
    fn new(seed: u64) -> Bench {
        Bench::with(seed, DiskSpec::default())
    }

    fn with(seed: u64, spec: DiskSpec) -> Bench {
        let disk = SimDisk::new(seed, "h", spec);
        let (agenda, digest) = (Agenda::default(), Digest::default());
        Bench { disk, chunks: ChunkStore::default(), agenda, digest, now: SimTime::ZERO }
    }

    fn port(&mut self) -> DiskPort<'_> {
        DiskPort {
            disk: &mut self.disk,
            chunks: &mut self.chunks,
            agenda: &mut self.agenda,
            digest: &mut self.digest,
            now: self.now,
            host: 0,
            proc: 0,
            incarnation: 1,
            cost: Nanos::ZERO,
        }
    }

    /// Lets all syncs under way end.
    fn sync_ends(&mut self) -> Vec<Result<(), DiskError>> {
        let mut results = Vec::new();
        while let Some(key) = self.agenda.pop() {
            self.now = self.now.max(key.at());
            if let Some(synced) = self.disk.sync_done(&mut self.chunks, self.now, key.b) {
                results.push(synced.result);
            }
        }
        results
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Nanos::from_secs(seconds);
    }

    fn power_loss(&mut self, unsynced: Unsynced) {
        self.disk.power_loss(&mut self.chunks, self.now, unsynced);
        self.agenda = Agenda::default();
    }

    fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.disk.content(&self.chunks, path)
    }

    fn write(&mut self, path: &str, text: &[u8]) -> FileId {
        let mut port = self.port();
        let file = port.open(path, true).unwrap();
        port.append(file, &[Bytes::copy_from_slice(text)]).unwrap();
        file
    }

    /// `d/a` with synced content and a synced name.
    fn synced(seed: u64, text: &[u8]) -> (Bench, FileId) {
        let mut bench = Bench::new(seed);
        bench.port().mkdir("d").unwrap();
        let file = bench.write("d/a", text);
        bench.port().sync(file);
        bench.port().sync_dir("d");
        assert_eq!(bench.sync_ends(), [Ok(()), Ok(())]);
        (bench, file)
    }
}

#[test]
fn files_are_appended_read_cut_and_listed() {
    let mut bench = Bench::new(1);
    bench.port().mkdir("data/t-0").unwrap();
    let file = bench.write("data/t-0/b", b"hello ");
    let mut port = bench.port();
    port.append(file, &[Bytes::from_static(b"wor"), Bytes::from_static(b"ld")]).unwrap();
    assert_eq!(port.len(file), Ok(11));
    let mut rope = Rope::new();
    port.read(file, 3, 6, &mut rope).unwrap();
    assert_eq!(rope.to_bytes(), "lo wor");
    assert_eq!(port.read(file, 3, 9, &mut rope), Err(DiskError::Eof));
    assert_eq!(port.read(file, u64::MAX, 1, &mut rope), Err(DiskError::Eof));
    port.truncate(file, 4).unwrap();
    port.append(file, &[Bytes::from_static(b"!")]).unwrap();
    let mut out = [0; 5];
    port.read_at(file, 0, &mut out).unwrap();
    assert_eq!(&out, b"hell!");
    assert_eq!(port.open("data/t-0/c", false), Err(DiskError::NotFound));
    assert_eq!(port.open("data/t-0", false), Err(DiskError::Exists));
    assert_eq!(port.mkdir("data/t-0/b"), Err(DiskError::Exists));
    port.open("data/t-0/a", true).unwrap();
    assert_eq!(port.list("data/t-0").unwrap(), ["a", "b"]);
    port.rename("data/t-0/b", "data/t-0/a").unwrap();
    assert_eq!(port.list("data/t-0").unwrap(), ["a"]);
    port.rename("data/t-0", "data/t-0.deleted").unwrap();
    assert_eq!(port.read_file("data/t-0.deleted/a").unwrap(), "hell!");
    port.append(file, &[Bytes::from_static(b"?")]).unwrap();
    port.remove("data/t-0.deleted").unwrap();
    assert!(!port.exists("data/t-0.deleted"));
    assert_eq!(port.len(file), Ok(6), "an open file stays");
    port.close(file);
    assert_eq!(bench.disk.files(), [""; 0]);
}

#[test]
#[should_panic(expected = "is not open")]
fn a_closed_file_is_not_used() {
    let mut bench = Bench::new(1);
    let file = bench.write("a", b"x");
    bench.port().close(file);
    bench.write("b", b"y");
    let _ = bench.port().len(file);
}

#[test]
fn followers_share_the_leaders_chunks() {
    let mut leader = Bench::new(1);
    let mut follower = SimDisk::new(1, "f", DiskSpec::default());
    let file = leader.write("log", b"");
    let mut theirs = None;
    for i in 0..1_000u32 {
        let batch = Bytes::from(vec![i as u8; 900]);
        leader.port().append(file, &[Bytes::from_static(b"head"), batch]).unwrap();
        let mut fetched = Rope::new();
        leader.port().read(file, u64::from(i) * 904, 904, &mut fetched).unwrap();
        std::mem::swap(&mut leader.disk, &mut follower);
        let mut port = leader.port();
        let file = *theirs.get_or_insert_with(|| port.open("log", true).unwrap());
        port.append(file, fetched.pieces()).unwrap();
        std::mem::swap(&mut leader.disk, &mut follower);
    }
    assert_eq!(leader.content("log"), follower.content(&leader.chunks, "log"));
    let produced = 904_000;
    assert!(leader.chunks.bytes_held() < produced + 2_000, "{}", leader.chunks.bytes_held());
    // A flipped bit is the leader's alone.
    leader.disk.flip_bit(&mut leader.chunks, "log", 500_000, 3, Rot::Both).unwrap();
    let (ours, theirs) = (leader.content("log").unwrap(), follower.content(&leader.chunks, "log").unwrap());
    let differ: Vec<usize> = (0..produced).filter(|&i| ours[i] != theirs[i]).collect();
    assert_eq!((differ, ours[500_000] ^ theirs[500_000]), (vec![500_000], 8));
}

#[test]
fn a_crash_keeps_the_page_cache_and_a_sync_under_way_ends() {
    let (mut bench, file) = Bench::synced(1, b"one");
    bench.port().append(file, &[Bytes::from_static(b"two")]).unwrap();
    bench.port().sync(file);
    bench.disk.process_gone(&mut bench.chunks);
    assert_eq!(bench.content("d/a").unwrap(), b"onetwo");
    assert_eq!(bench.sync_ends(), [Ok(())]);
    bench.power_loss(Unsynced::Lost);
    assert_eq!(bench.content("d/a").unwrap(), b"onetwo");
}

#[test]
fn names_need_their_directory_synced() {
    let mut bench = Bench::new(1);
    bench.port().mkdir("d/e").unwrap();
    let a = bench.write("d/e/a", b"a");
    bench.port().sync(a);
    bench.sync_ends();
    let mut nameless = bench.clone();
    nameless.power_loss(Unsynced::Lost);
    assert_eq!(nameless.disk.files(), [""; 0]);
    bench.port().sync_dir("d/e");
    bench.sync_ends();
    bench.write("d/e/b", b"b");
    bench.port().rename("d/e/a", "d/e/c").unwrap();
    bench.port().remove("d/e/c").unwrap();
    bench.power_loss(Unsynced::Lost);
    assert_eq!(bench.disk.files(), ["d/e/a"]);
    assert_eq!(bench.content("d/e/a").unwrap(), b"a");
}

#[test]
fn replace_is_all_or_nothing() {
    let (mut bench, _) = Bench::synced(1, b"old");
    bench.port().replace("d/a", Bytes::from_static(b"new"));
    assert_eq!(bench.content("d/a").unwrap(), b"new");
    let mut by_chance = [0; 2];
    for seed in 0..40 {
        let mut other = bench.clone();
        other.disk.power_chance = derive(seed, "test");
        other.power_loss(Unsynced::ByChance);
        let new = other.content("d/a").unwrap() == b"new";
        assert!(new || other.content("d/a").unwrap() == b"old");
        by_chance[usize::from(new)] += 1;
    }
    assert!(by_chance[0] > 5 && by_chance[1] > 5, "{by_chance:?}");
    assert_eq!(bench.sync_ends(), [Ok(())]);
    bench.power_loss(Unsynced::Lost);
    assert_eq!(bench.content("d/a").unwrap(), b"new");
    bench.port().replace("nowhere/a", Bytes::new());
    assert_eq!(bench.sync_ends(), [Err(DiskError::NotFound)]);
}

#[test]
fn the_kernel_writes_back_after_5_to_35_seconds() {
    let (mut bench, file) = Bench::synced(1, b"one");
    bench.port().append(file, &[Bytes::from_static(b"two")]).unwrap();
    bench.write("d/b", b"b");
    bench.pass(4);
    let mut early = bench.clone();
    early.power_loss(Unsynced::Lost);
    assert_eq!((early.content("d/a").unwrap(), early.disk.files().len()), (b"one".to_vec(), 1));
    bench.pass(31);
    bench.port().append(file, &[Bytes::from_static(b"three")]).unwrap();
    bench.power_loss(Unsynced::Lost);
    assert_eq!(bench.content("d/a").unwrap(), b"onetwo", "what came later is dirty anew");
    assert_eq!(bench.content("d/b").unwrap(), b"b");
    assert_eq!(bench.disk.used(), 7);
}

#[test]
fn a_truncation_may_be_undone_by_a_power_loss() {
    let (mut bench, file) = Bench::synced(1, b"0123456789");
    bench.port().truncate(file, 4).unwrap();
    bench.port().append(file, &[Bytes::from_static(b"new")]).unwrap();
    let mut lost = bench.clone();
    lost.power_loss(Unsynced::Lost);
    assert_eq!(lost.content("d/a").unwrap(), b"0123456789");
    let mut kept = bench.clone();
    kept.power_loss(Unsynced::Kept);
    assert_eq!(kept.content("d/a").unwrap(), b"0123new");
    bench.port().sync(file);
    bench.sync_ends();
    bench.power_loss(Unsynced::Lost);
    assert_eq!(bench.content("d/a").unwrap(), b"0123new");
}

/// Adds a fault that begins `after`.
fn breaks_later(bench: &mut Bench, kind: FaultKind, under: &[&str], after: After) -> u32 {
    let under = under.iter().map(|u| (*u).to_owned()).collect();
    bench.disk.add_fault(&mut bench.agenda, bench.now, 0, DiskFault { kind, under, after })
}

fn breaks(bench: &mut Bench, kind: FaultKind, under: &[&str]) {
    breaks_later(bench, kind, under, After::Now);
}

#[test]
fn faults_strike_where_they_lie_and_end() {
    let (mut bench, file) = Bench::synced(1, b"x");
    breaks(&mut bench, FaultKind::Full, &["d/a"]);
    assert_eq!(bench.port().append(file, &[Bytes::from_static(b"z")]), Err(DiskError::Full));
    bench.write("d/ab", b"not below d/a");
    bench.port().truncate(file, 1).expect("what gives space back is let through");
    bench.disk.end_faults(&[]);
    assert_eq!(bench.port().append(file, &[Bytes::from_static(b"z")]), Ok(()));
    breaks(&mut bench, FaultKind::ReadError, &[]);
    assert_eq!(bench.port().read_at(file, 0, &mut [0]), Err(DiskError::Io));
    bench.disk.end_faults(&[]);
    breaks(&mut bench, FaultKind::SyncError, &["d"]);
    bench.port().sync(file);
    assert_eq!(bench.sync_ends(), [Err(DiskError::Io)]);
    bench.disk.end_faults(&[]);
    breaks(&mut bench, FaultKind::Offline, &["e", "d"]);
    assert_eq!(bench.port().list("d"), Err(DiskError::Io));
    assert!(!bench.port().exists("d/a"));
    bench.disk.end_faults(&["d".to_owned()]);
    assert_eq!(bench.port().list("d"), Err(DiskError::Io), "it lies elsewhere, too");
    bench.disk.end_faults(&["d".to_owned(), "e".to_owned()]);
    let stall = Between::exactly(Nanos::from_millis(3));
    breaks(&mut bench, FaultKind::Slow(stall), &[]);
    let mut port = bench.port();
    port.append(file, &[Bytes::from_static(b"z")]).unwrap();
    assert_eq!(port.cost, Nanos::from_millis(3));
    port.sync(file);
    assert_eq!(port.cost, Nanos::from_millis(3), "a process does not wait for a sync");
    let begun = bench.now;
    assert_eq!(bench.sync_ends(), [Ok(())]);
    assert!(bench.now.since(begun) > Nanos::from_millis(3));
    bench.power_loss(Unsynced::Lost);
    assert_eq!(bench.content("d/a").unwrap(), b"xzz");
}

#[test]
fn a_fault_begins_after_bytes_or_after_a_time() {
    let (mut bench, file) = Bench::synced(1, b"x");
    let id = breaks_later(&mut bench, FaultKind::WriteError, &["d"], After::Bytes(10));
    let mut port = bench.port();
    port.append(file, &[Bytes::from_static(b"12345")]).unwrap();
    port.append(file, &[Bytes::from_static(b"6789")]).unwrap();
    assert_eq!(port.append(file, &[Bytes::from_static(b"ten")]), Err(DiskError::Io));
    let key = bench.agenda.pop().expect("the world hears of it");
    assert_eq!((key.a, key.b), (0, id));
    bench.disk.end_faults(&[]);

    let id = breaks_later(&mut bench, FaultKind::WriteError, &[], After::Time(Nanos::from_secs(3)));
    let append = |bench: &mut Bench| bench.port().append(file, &[Bytes::from_static(b"x")]);
    assert_eq!(append(&mut bench), Ok(()));
    let key = bench.agenda.pop().expect("it lies ahead");
    assert_eq!(key.at(), bench.now + Nanos::from_secs(3));
    assert!(bench.disk.fault_begins(id).is_some());
    assert_eq!(append(&mut bench), Err(DiskError::Io));
}

#[test]
fn a_sync_that_lies_keeps_nothing_and_neither_does_the_kernel() {
    let (mut bench, file) = Bench::synced(1, b"x");
    breaks(&mut bench, FaultKind::LyingSync, &["d"]);
    bench.port().append(file, &[Bytes::from_static(b"y")]).unwrap();
    bench.port().sync(file);
    bench.port().replace("d/b", Bytes::from_static(b"new"));
    assert_eq!(bench.sync_ends(), [Ok(()), Ok(())]);
    bench.pass(100);
    assert!(bench.port().exists("d/b"));
    let mut lost = bench.clone();
    lost.power_loss(Unsynced::Lost);
    assert_eq!((lost.content("d/a").unwrap(), lost.content("d/b")), (b"x".to_vec(), None));
    // Honest again, the disk gets it with the next write-back.
    bench.disk.end_faults(&[]);
    bench.pass(10);
    assert!(bench.port().exists("d/b"));
    bench.power_loss(Unsynced::Lost);
    assert_eq!(bench.content("d/a").unwrap(), b"xy");
    assert_eq!(bench.content("d/b").unwrap(), b"new");
}

#[test]
fn a_bit_flips_on_the_medium_or_in_the_page_cache() {
    let flip = |rot| {
        let (mut bench, file) = Bench::synced(1, b"abc");
        bench.port().append(file, &[Bytes::from_static(b"def")]).unwrap();
        bench.disk.flip_bit(&mut bench.chunks, "d/a", 1, 0, rot).unwrap();
        let seen = bench.content("d/a").unwrap();
        bench.power_loss(Unsynced::Kept);
        (seen, bench.content("d/a").unwrap())
    };
    assert_eq!(flip(Rot::Both), (b"accdef".to_vec(), b"accdef".to_vec()));
    assert_eq!(flip(Rot::Medium), (b"abcdef".to_vec(), b"accdef".to_vec()));
    assert_eq!(flip(Rot::Cache), (b"accdef".to_vec(), b"abcdef".to_vec()));
}

#[test]
fn the_place_of_a_bit_is_drawn_among_all_bytes_that_are_there() {
    let (mut bench, _) = Bench::synced(1, &[0; 900]);
    bench.write("d/b", &[0; 100]);
    let mut in_b = 0;
    for _ in 0..1_000 {
        let (path, offset, bit) = bench.disk.draw_bit(&["d".to_owned()], Rot::Cache).unwrap();
        assert!(bit < 8 && offset < if path == "d/a" { 900 } else { 100 });
        in_b += u32::from(path == "d/b");
        let (path, ..) = bench.disk.draw_bit(&[], Rot::Medium).unwrap();
        assert_eq!(path, "d/a", "the other never reached the medium");
    }
    assert!((60..140).contains(&in_b), "{in_b}");
    assert_eq!(bench.disk.draw_bit(&["d/b".to_owned()], Rot::Medium), None);
    assert_eq!(bench.disk.dirs_named("d"), ["d"]);
}

#[test]
fn a_fault_leaves_the_draws_of_all_others_as_they_were() {
    let run = |slow: bool| {
        let (mut bench, file) = Bench::synced(1, b"x");
        if slow {
            let stall = Between { low: Nanos::ZERO, high: Nanos::from_secs(9) };
            breaks(&mut bench, FaultKind::Slow(stall), &[]);
        }
        for _ in 0..5 {
            bench.port().append(file, &[Bytes::from_static(b"y")]).unwrap();
            bench.port().sync(file);
            bench.sync_ends();
        }
        let next = |chance: &mut Chance| chance.below(1 << 40);
        let SimDisk { sync_chance, writeback_chance, power_chance, flip_chance, .. } = &mut bench.disk;
        [sync_chance, writeback_chance, power_chance, flip_chance].map(next)
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_disk_is_restored_from_what_one_held() {
    let (mut bench, file) = Bench::synced(1, b"old");
    let image = bench.disk.image(&bench.chunks);
    bench.port().append(file, &[Bytes::from_static(b"er")]).unwrap();
    bench.write("d/new", b"new");
    bench.disk.process_gone(&mut bench.chunks);
    bench.disk.restore(&mut bench.chunks, &image).unwrap();
    assert_eq!((bench.disk.files(), bench.disk.used()), (vec!["d/a".to_owned()], 3));
    bench.power_loss(Unsynced::Lost);
    assert_eq!(bench.content("d/a").unwrap(), b"old", "it is durable");
}

#[test]
fn a_disk_has_an_end() {
    let mut bench = Bench::with(1, DiskSpec { capacity: Some(10), ..DiskSpec::default() });
    let file = bench.write("a", b"123456");
    assert_eq!(bench.port().append(file, &[Bytes::from_static(b"12345")]), Err(DiskError::Full));
    bench.port().truncate(file, 5).unwrap();
    assert_eq!(bench.port().append(file, &[Bytes::from_static(b"12345")]), Ok(()));
    bench.port().replace("b", Bytes::from_static(b"1"));
    assert_eq!(bench.sync_ends(), [Err(DiskError::Full)]);
}

#[test]
fn a_wiped_disk_is_empty_and_gives_its_memory_back() {
    let (mut bench, _) = Bench::synced(1, &[7; 100_000]);
    bench.disk.process_gone(&mut bench.chunks);
    bench.disk.wipe(&mut bench.chunks);
    assert_eq!((bench.disk.files().len(), bench.disk.used(), bench.chunks.bytes_held()), (0, 0, 0));
    bench.write("a", b"new");
    assert_eq!(bench.content("a").unwrap(), b"new");
}

#[test]
fn a_disk_is_kept_as_real_files() {
    let dir = std::env::temp_dir().join("highwater-keep-disk-test");
    let (bench, _) = Bench::synced(1, b"content");
    bench.disk.keep(&bench.chunks, &dir).unwrap();
    assert_eq!(std::fs::read(dir.join("d/a")).unwrap(), b"content");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// One operation of the property below.
#[derive(Clone, Debug)]
enum Op {
    Append(usize, u16),
    Truncate(usize, u16),
    Sync(usize),
    SyncEnds,
    Pass(u8),
    Replace(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0..3usize, 1..3_000u16).prop_map(|(f, n)| Op::Append(f, n)),
        1 => (0..3usize, any::<u16>()).prop_map(|(f, n)| Op::Truncate(f, n)),
        2 => (0..3usize).prop_map(Op::Sync),
        2 => Just(Op::SyncEnds),
        1 => (0..9u8).prop_map(Op::Pass),
        1 => (0..3usize).prop_map(Op::Replace),
    ];
    prop::collection::vec(op, 1..60)
}

/// What is known of one file: its content, and how much of its beginning is durable for certain.
#[derive(Clone, Default)]
struct Known {
    content: Vec<u8>,
    durable: usize,
    /// Of each sync under way.
    covers: Vec<usize>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What was synced survives; what was not may be any part of it, torn at sectors; and nothing else appears.
    #[test]
    fn synced_data_survives_any_power_loss(ops in ops(), seed in any::<u64>()) {
        let mut bench = Bench::new(seed);
        bench.port().mkdir("d").unwrap();
        let mut known: Vec<Known> = vec![Known::default(); 3];
        let files: Vec<FileId> = (0..3).map(|f| bench.write(&format!("d/{f}"), b"")).collect();
        bench.port().sync_dir("d");
        bench.sync_ends();
        let mut next = 0u8;
        for op in ops {
            match op {
                Op::Append(f, n) => {
                    next = next % 250 + 1;
                    let bytes = vec![next; usize::from(n)];
                    bench.port().append(files[f], &[Bytes::from(bytes.clone())]).unwrap();
                    known[f].content.extend(bytes);
                }
                Op::Truncate(f, n) => {
                    // Only what is not durable: the rest is another test's.
                    let at = known[f].durable.max(known[f].content.len().saturating_sub(usize::from(n)));
                    bench.port().truncate(files[f], at as u64).unwrap();
                    known[f].content.truncate(at);
                    known[f].covers.iter_mut().for_each(|c| *c = (*c).min(at));
                }
                Op::Sync(f) => {
                    bench.port().sync(files[f]);
                    let len = known[f].content.len();
                    known[f].covers.push(len);
                }
                Op::SyncEnds => {
                    bench.sync_ends();
                    for file in &mut known {
                        file.durable = file.covers.drain(..).fold(file.durable, usize::max);
                    }
                }
                Op::Pass(seconds) => bench.pass(u64::from(seconds)),
                Op::Replace(f) => {
                    bench.port().replace(&format!("d/r{f}"), Bytes::from(vec![next; 700]));
                }
            }
            for (f, file) in known.iter().enumerate() {
                prop_assert_eq!(&bench.content(&format!("d/{f}")).unwrap(), &file.content);
            }
        }
        for (unsynced, exactly) in [(Unsynced::Lost, false), (Unsynced::ByChance, false), (Unsynced::Kept, true)] {
            let mut after = bench.clone();
            after.power_loss(unsynced);
            for (f, file) in known.iter().enumerate() {
                let left = after.content(&format!("d/{f}")).unwrap();
                // The kernel may have written back more than was synced, even what was cut off since.
                let durable = file.durable.min(file.content.len());
                prop_assert!(left.len() >= durable, "{} of {}", left.len(), durable);
                prop_assert_eq!(&left[..durable], &file.content[..durable]);
                if exactly {
                    prop_assert_eq!(&left, &file.content);
                }
                if unsynced == Unsynced::ByChance && !known_cut(&bench, f) {
                    prop_assert!(left.len() <= file.content.len());
                    let sectors = left.chunks(512).zip(file.content.chunks(512));
                    for (sector, (ours, before)) in sectors.enumerate() {
                        let same = ours == &before[..ours.len()];
                        let start = durable.saturating_sub(sector * 512).min(ours.len());
                        prop_assert!(same || ours[start..].contains(&0), "sector {sector}");
                    }
                }
            }
            let used: usize = after.disk.files().iter().map(|f| after.content(f).unwrap().len()).sum();
            prop_assert_eq!(after.disk.used(), used as u64);
            let held: usize = after.chunks.bytes_held();
            prop_assert!(held >= used || held >= 65_536);
        }
    }
}

/// Whether the medium may still have bytes that were cut off.
fn known_cut(bench: &Bench, f: usize) -> bool {
    let inode = bench.disk.lookup(&format!("d/{f}")).unwrap();
    match &bench.disk.inodes[inode as usize].body {
        Body::File(file) => file.has_undead_tail(),
        _ => unreachable!(),
    }
}

//! The tool's text against what Kafka's own tool printed.

#[path = "../../../../testdata/golden.rs"]
mod golden;

use super::*;

use codecs::StdCodecs;

/// Runs the tool on files that lie under `root` of the archive, as if it were the working directory.
fn run(root: &str, arguments: &[&str]) -> Dumped {
    let files = golden::files();
    let options = DumpOptions::parse(arguments.iter().copied()).unwrap();
    dump(&options, &StdCodecs, &mut |path| {
        let full = format!("{root}/{path}");
        files.iter().find(|(name, _)| *name == full).map(|(_, content)| Bytes::from(content.clone()))
    })
}

#[track_caller]
fn same(ours: &str, kafkas: &[u8]) {
    let kafkas = core::str::from_utf8(kafkas).unwrap();
    for (i, (our, kafka)) in ours.lines().zip(kafkas.lines()).enumerate() {
        assert_eq!(our, kafka, "line {}", i + 1);
    }
    assert!(ours == kafkas, "{} lines of ours, {} of Kafka's", ours.lines().count(), kafkas.lines().count());
}

#[test]
fn every_dump_is_kafkas_byte_for_byte() {
    let log = |dir: &str| format!("{dir}/00000000000000000000.log");
    for (root, dir, decoder, dump) in [
        ("failover/broker-1", "p2-0", None, "broker-1.p2-0.txt"),
        ("failover/broker-1", "purchases-0", None, "broker-1.purchases-0.txt"),
        ("failover/broker-1", "purchases-1", None, "broker-1.purchases-1.txt"),
        (
            "failover/controller-101",
            "__cluster_metadata-0",
            Some("--cluster-metadata-decoder"),
            "controller-101.metadata.txt",
        ),
        (
            "coordinators/broker-2",
            "__consumer_offsets-0",
            Some("--offsets-decoder"),
            "coordinators.consumer_offsets-0.txt",
        ),
        (
            "coordinators/broker-2",
            "__transaction_state-0",
            Some("--transaction-log-decoder"),
            "coordinators.transaction_state-0.txt",
        ),
    ] {
        let file = log(dir);
        let mut arguments = alloc::vec!["--files", &file];
        arguments.extend(decoder);
        let ours = run(root, &arguments);
        assert_eq!((ours.exit, ours.stderr.as_str()), (0, ""), "{dump}");
        same(&ours.stdout, &golden::file(&format!("dumps/{dump}")));
    }
}

#[test]
fn kafkas_indexes_fit_its_logs() {
    for dir in ["purchases-0", "purchases-1", "__consumer_offsets-11", "__cluster_metadata-0"] {
        let base = format!("{dir}/00000000000000000000");
        let files = format!("{base}.index,{base}.timeindex");
        let ours = run("failover/broker-1", &["--files", &files]);
        assert_eq!((ours.exit, ours.stderr.as_str()), (0, ""), "{dir}");
        let index = golden::file(&format!("failover/broker-1/{base}.index"));
        let times = golden::file(&format!("failover/broker-1/{base}.timeindex"));
        assert_eq!(ours.stdout.lines().count(), 2 + index.len() / 8 + times.len() / 12);
        let ours = run("failover/broker-1", &["--files", &files, "--index-sanity-check"]);
        assert_eq!(ours.stdout.matches("passed sanity check.").count(), 2, "{}", ours.stdout);
        let ours = run("failover/broker-1", &["--files", &files, "--verify-index-only"]);
        assert_eq!(ours.stdout.lines().count(), 2);
    }
    let empty = run("failover/broker-1", &["--files", "p2-0/00000000000000000000.index"]);
    assert!(empty.stdout.ends_with("00000000000000000000.index is empty.\n"), "{}", empty.stdout);
}

#[test]
fn snapshots() {
    let ours = run("failover/broker-1", &["--files", "purchases-0/00000000000000000672.snapshot"]);
    assert_eq!(
        ours.stdout,
        "Dumping purchases-0/00000000000000000672.snapshot\n\
         producerId: 3 producerEpoch: 0 coordinatorEpoch: -1 currentTxnFirstOffset: OptionalLong.empty \
         lastTimestamp: 1795210032509 firstSequence: 0 lastSequence: 0 lastOffset: 671 offsetDelta: 0 \
         timestamp: 1795210032509\n"
    );
    let ours = run("failover/broker-1", &["--files", "bootstrap.checkpoint", "--cluster-metadata-decoder"]);
    assert!(
        ours.stdout.starts_with("Dumping bootstrap.checkpoint\nKRaft bootstrap snapshot\n"),
        "{}",
        ours.stdout
    );
    assert!(ours.stdout.contains("SnapshotHeader {\"version\":0,"), "{}", ours.stdout);
    assert!(ours.stdout.contains("\"type\":\"FEATURE_LEVEL_RECORD\""), "{}", ours.stdout);
    assert!(ours.stdout.contains("SnapshotFooter {\"version\":0}"), "{}", ours.stdout);
}

/// One damaged file beside good ones.
fn with(name: &str, change: impl Fn(&mut Vec<u8>), arguments: &[&str]) -> Dumped {
    let options = DumpOptions::parse(arguments.iter().copied()).unwrap();
    dump(&options, &StdCodecs, &mut |path| {
        let ext = path.rsplit('.').next().unwrap();
        let mut content = golden::file(&format!("failover/broker-3/purchases-1/00000000000000000000.{ext}"));
        if ext == name {
            change(&mut content);
        }
        Some(Bytes::from(content))
    })
}

#[test]
fn damage_is_told() {
    let ours = with("log", |log| log.truncate(log.len() - 5), &["--files", "00000000000000000000.log"]);
    assert!(ours.stdout.ends_with("Found 69 invalid bytes at the end of 00000000000000000000.log\n"));
    let ours =
        with("log", |log| log[70] ^= 1, &["--files", "00000000000000000000.log", "--max-bytes", "200"]);
    assert!(ours.stdout.lines().nth(2).unwrap().ends_with("isvalid: false"), "{}", ours.stdout);
    let ours = with("log", |log| log[161..].fill(0), &["--files", "00000000000000000000.log"]);
    assert_eq!(ours.exit, 1);
    assert!(ours.stderr.contains("CorruptRecordException: Found record size 0"), "{}", ours.stderr);
    let ours = with("index", |index| index[3] = 9, &["--files", "00000000000000000000.index"]);
    assert_eq!(ours.stderr, "Mismatches in :00000000000000000000.index\n  Index offset: 9, log offset: 67\n");
    let ours = with("timeindex", |times| times[7] ^= 1, &["--files", "00000000000000000000.timeindex"]);
    assert!(ours.stderr.starts_with("Found timestamp mismatch in :00000000000000000000.timeindex\n"));
    let ours = with("timeindex", |times| times[11] = 70, &["--files", "00000000000000000000.timeindex"]);
    assert!(
        ours.stderr.contains("Indexed offset: 70, found log offset: 70")
            || ours.stderr.contains("Index timestamp")
    );
    let gap = |log: &mut Vec<u8>| drop(log.drain(161..233));
    let ours = with("log", gap, &["--files", "00000000000000000000.log", "--deep-iteration"]);
    assert_eq!(ours.stderr, "Non-consecutive offsets in 00000000000000000000.log\n  9 is followed by 11\n");
    let ours = run("failover/broker-1", &["--files", "x/00000000000000000000.log,notes.txt"]);
    assert_eq!(ours.exit, 1);
    let ours = run("failover/broker-1", &["--files", "notes.txt"]);
    assert_eq!((ours.exit, ours.stderr.as_str()), (0, "Ignoring unknown file notes.txt\n"));
}

#[test]
fn keys_and_values_of_producers() {
    let file = "purchases-1/00000000000000000000.log";
    let ours = run("failover/broker-1", &["--files", file, "--print-data-log", "--max-bytes=300"]);
    let line = ours.stdout.lines().nth(3).unwrap();
    assert!(
        line.starts_with("| offset: 0 CreateTime: ")
            && line.contains(" headerKeys: []")
            && line.contains(" payload: "),
        "{line}"
    );
    let ours = run(
        "failover/broker-1",
        &["--files", file, "--print-data-log", "--skip-record-metadata", "--max-bytes=300"],
    );
    assert!(ours.stdout.lines().nth(3).unwrap().starts_with(" payload: "), "{}", ours.stdout);
    for (arguments, error) in [
        (&["--print-data-log"][..], OptionsError::NoFiles),
        (&["--files"], OptionsError::NoValue("--files".into())),
        (&["--file", "x"], OptionsError::Unknown("--file".into())),
        (
            &["--files", "x", "--key-decoder-class", "com.example.Avro"],
            OptionsError::UnknownDecoder("com.example.Avro".into()),
        ),
        (
            &["--max-bytes", "many"],
            OptionsError::BadValue { option: "--max-bytes".into(), value: "many".into() },
        ),
    ] {
        assert_eq!(DumpOptions::parse(arguments.iter().copied()), Err(error));
    }
}

//! What simulated nodes leave on their disks is whole: `run --keep-disks`, then the dump tool over every segment, index
//! and snapshot of every node.
#![cfg(madsim)]

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use client::command::dump_log::{DumpOptions, Dumped, dump};
use codecs::StdCodecs;

/// All files below a directory, sorted.
fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![below.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("it is a directory") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn dumped(file: &Path, more: &[&str]) -> Dumped {
    let path = file.to_str().expect("a path of the test's own");
    let options = DumpOptions::parse(["--files", path].iter().chain(more).copied()).expect("right options");
    let dumped = dump(&options, &StdCodecs, &mut |path| std::fs::read(path).ok().map(Bytes::from));
    assert_eq!((dumped.exit, dumped.stderr.as_str()), (0, ""), "{path}");
    dumped
}

/// Every batch of a segment is valid, and nothing lies behind the last; how many there are.
fn segment(file: &Path) -> usize {
    let metadata = file.parent().is_some_and(|dir| dir.ends_with("__cluster_metadata-0"));
    let decoder: &[&str] = if metadata { &["--cluster-metadata-decoder"] } else { &[] };
    let text = dumped(file, &[&["--deep-iteration"], decoder].concat()).stdout;
    let batches: Vec<&str> = text.lines().filter(|line| line.starts_with("baseOffset: ")).collect();
    for batch in &batches {
        assert!(batch.ends_with(" isvalid: true"), "{}: {batch}", file.display());
    }
    assert!(!text.contains("invalid bytes"), "{}: {text}", file.display());
    assert!(!text.contains("skipping"), "{}: a record cannot be decoded: {text}", file.display());
    batches.len()
}

/// What an index says is so in its segment; how many bytes it has.
fn index(file: &Path) -> usize {
    let entries = dumped(file, &[]).stdout;
    let sane = dumped(file, &["--index-sanity-check"]).stdout;
    let len = std::fs::metadata(file).expect("it is there").len() as usize;
    if len > 0 {
        assert!(sane.ends_with("passed sanity check.\n"), "{sane}");
        assert!(entries.lines().count() > 1, "{entries}");
    }
    len
}

#[test]
fn every_segment_and_index_of_every_node_is_whole() {
    let disks = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keep-disks");
    let _ = std::fs::remove_dir_all(&disks);
    let output = Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(["run", "kill-broker-1", "--seed", "7", "--keep-disks"])
        .arg(&disks)
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let nodes = std::fs::read_dir(&disks).expect("disks were kept").count();
    assert_eq!(nodes, 4, "three brokers and a controller");
    for node in ["broker-1", "broker-2", "broker-3", "controller-101"] {
        let (mut batches, mut logs, mut indexed) = (0, 0, 0);
        for file in files(&disks.join(node)) {
            match file.extension().and_then(|e| e.to_str()) {
                Some("log") => {
                    logs += 1;
                    batches += segment(&file);
                }
                Some("index" | "timeindex") => indexed += index(&file),
                Some("snapshot") => drop(dumped(&file, &[])),
                Some("checkpoint") if file.parent().is_some_and(|d| d.ends_with("__cluster_metadata-0")) => {
                    drop(dumped(&file, &["--cluster-metadata-decoder"]));
                }
                _ => {}
            }
        }
        let partitions = if node.starts_with("broker") { 4 } else { 1 };
        assert!(logs >= partitions, "{node}: {logs} segments");
        assert!(batches > 50 && indexed > 0, "{node}: {batches} batches, {indexed} bytes of indexes");
    }
}

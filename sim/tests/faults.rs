//! What the simulator once found, kept from coming back: each row of `scenarios/faults/README.md` is a scenario, the seed
//! that showed the bug, and its story.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use reports::Verdict;
use sim::runner::{self, RunOptions};
use sim::scenario;

struct Fault {
    file: String,
    seed: u64,
    story: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/faults")
}

/// The rows of the table: a file, a seed, where it was mended, what went wrong.
fn told() -> Vec<Fault> {
    let text = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [file, seed, _, story] = cells[..] else { panic!("not four cells: {line}") };
        let seed = seed.parse().unwrap_or_else(|_| panic!("no seed: {line}"));
        Fault { file: file.trim_matches('`').to_owned(), seed, story: story.to_owned() }
    })
    .collect()
}

#[test]
fn what_was_found_stays_mended() {
    for fault in told() {
        let scenario = scenario::load(&folder().join(&fault.file)).unwrap().variant(None).unwrap();
        let options =
            RunOptions { seed: fault.seed, keep_disks: None, trace: false, reproduce: String::new() };
        let report =
            runner::run(&scenario, &options).unwrap_or_else(|e| panic!("{}: {e}", fault.story)).report;
        assert_eq!(
            report.verdict,
            Verdict::Pass,
            "{}, seed {}: {}\n{:?}",
            fault.file,
            fault.seed,
            fault.story,
            report.why
        );
    }
}

#[test]
fn every_file_has_its_story() {
    let told: BTreeSet<String> = told().into_iter().map(|fault| fault.file).collect();
    let files =
        std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.filter(|name| name.ends_with(".json")).collect();
    assert_eq!(told, files);
}

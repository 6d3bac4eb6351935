//! The meta-test: one seed is one run. It comes first in CI.
//!
//! Two processes, with and without `RUST_LOG`, other runs beside them: the same digest and the same trace, byte for
//! byte. When they differ, the first line that differs is named. That this would be noticed is shown by a build that
//! is nondeterministic on purpose: `cargo test -p highwater-sim --features nondeterministic --test meta`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

#[cfg(not(feature = "nondeterministic"))]
const SCENARIOS: [&str; 12] = [
    "kill-broker-1",
    "stop-broker-1",
    "unclean-election",
    "quorum-of-three",
    "consumer-group-of-two",
    "coordinator-fails-over",
    "transaction-torn",
    "retention-by-age",
    "compacted-topic",
    "reassign-under-load",
    "chaos-small",
    "everything",
];

struct Run {
    child: Child,
    trace: PathBuf,
}

fn start(scenario: &str, seed: u64, tag: &str, env: &[(&str, &str)]) -> Run {
    let trace = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("meta-{scenario}-{seed}-{tag}.trace"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.args(["run", scenario, "--seed", &seed.to_string(), "--json", "--trace"]).arg(&trace);
    command.env_remove("RUST_LOG").envs(env.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Run { child: command.spawn().expect("the binary starts"), trace }
}

/// The digest and the trace of a run.
fn end(run: Run) -> (String, String) {
    let output = run.child.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("JSON is text");
    let document: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let trace = std::fs::read_to_string(&run.trace).expect("the trace was written");
    let _ = std::fs::remove_file(&run.trace);
    (document["digest"].as_str().expect("a digest").to_owned(), trace)
}

/// Names the first event in which two runs differ.
fn first_difference(a: &str, b: &str) -> Option<String> {
    let (mut a, mut b) = (a.lines(), b.lines());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return None,
            (x, y) if x != y => {
                return Some(format!(
                    "one run has\n  {}\nthe other\n  {}",
                    x.unwrap_or("nothing"),
                    y.unwrap_or("nothing")
                ));
            }
            _ => {}
        }
    }
}

#[test]
#[cfg(not(feature = "nondeterministic"))]
fn one_seed_is_one_run() {
    for scenario in SCENARIOS {
        // Started together: runs beside each other must not matter.
        let runs = [
            start(scenario, 7, "plain", &[]),
            start(scenario, 7, "log", &[("RUST_LOG", "trace")]),
            start(scenario, 8, "other", &[]),
        ];
        let [plain, log, other] = runs.map(end);
        if let Some(difference) = first_difference(&plain.1, &log.1) {
            panic!("{scenario}, seed 7, is not deterministic: {difference}");
        }
        assert!(plain.1.lines().count() > 1_000, "{scenario}: the trace has every item");
        assert_eq!(plain.0, log.0, "{scenario}");
        assert_ne!(plain.0, other.0, "{scenario}: another seed is another run");
    }
}

/// A build that draws from the operating system on purpose (`--features nondeterministic`): the meta-test sees it.
#[test]
#[cfg(feature = "nondeterministic")]
fn a_nondeterministic_build_is_found() {
    let runs = [start("stop-broker-1", 7, "a", &[]), start("stop-broker-1", 7, "b", &[])].map(end);
    let difference = first_difference(&runs[0].1, &runs[1].1).expect("the two runs differ");
    println!("the first difference: {difference}");
    assert!(difference.starts_with("one run has\n  #"), "{difference}");
    assert_ne!(runs[0].0, runs[1].0);
}

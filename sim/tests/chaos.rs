//! The verb `chaos` from the outside: what it keeps, what it records, what it leaves.

use std::path::{Path, PathBuf};

use reports::RunReport;
use serde_json::{Value, json};
use sim::runner::{self, RunOptions, chaos};
use sim::scenario;

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

fn json(path: &str) -> Value {
    let text = std::fs::read_to_string(scenarios().join(path)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn run(scenario: &Value, seed: u64) -> RunReport {
    let sheet =
        scenario::parse(Path::new("chaos.json"), scenario.to_string()).unwrap_or_else(|e| panic!("{e}"));
    let scenario = sheet.variant(None).unwrap();
    let options = RunOptions { seed, keep_disks: None, trace: false, reproduce: String::new() };
    runner::run(&scenario, &options).unwrap().report
}

/// What chaos did, as fixed steps in its place, is the same run.
#[test]
fn a_fixed_schedule_is_the_same_run() {
    let chaotic = json("chaos/chaos-small.json");
    for seed in [1, 2, 3] {
        let drawn = run(&chaotic, seed);
        assert!(!drawn.schedule.is_empty(), "seed {seed}: something happens");
        let fixed = chaos::fixed(&chaotic, &drawn.schedule).unwrap();
        let again = run(&fixed, seed);
        assert_eq!((drawn.digest, drawn.verdict), (again.digest, again.verdict), "seed {seed}");
        assert!(again.schedule.is_empty());
    }
}

#[test]
fn a_chaos_that_is_repeated_has_no_fixed_steps() {
    let mut scenario = json("chaos/chaos-small.json");
    let steps = scenario["steps"].clone();
    scenario["steps"] = json!([{ "repeat": { "times": 2, "steps": steps } }]);
    assert!(chaos::fixed(&scenario, &[]).unwrap_err().contains("repeats chaos"));
}

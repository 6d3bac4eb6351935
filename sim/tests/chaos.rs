//! The verb `chaos` from the outside: what it keeps, what it records, what it leaves.

use std::path::{Path, PathBuf};

use reports::{RunReport, Verdict};
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

/// Whatever happens, what is kept is not broken for an instant, nothing promised is broken, and all comes to rest.
#[test]
fn what_is_kept_is_never_broken() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 1..=8 {
        let report = run(&json("chaos/chaos-small.json"), seed);
        assert_eq!(report.verdict, Verdict::Pass, "seed {seed}: {:?}", report.why);
        assert_eq!(report.warnings, Vec::<String>::new(), "seed {seed}");
        for scheduled in &report.schedule {
            kinds.extend(scheduled.step.as_object().unwrap().keys().cloned());
        }
    }
    assert!(kinds.len() > 6, "{kinds:?}");
}

/// Each kind that `keep` can cover does what its name says, and nothing promised is broken. Its words are those of a
/// file: what the schedule has.
#[test]
fn each_kind_does_what_its_name_says() {
    let kinds: [(&str, &[&str]); 7] = [
        ("crash_loop", &["kill", "start"]),
        ("wipe", &["wipe", "start"]),
        ("stale_disk", &["snapshot", "kill", "restore", "start"]),
        ("client_stop", &["stop", "start"]),
        ("voters", &["remove-controller", "add-controller"]),
        ("hostile", &["start", "kill"]),
        ("disk", &["disk", "\"dir\""]),
    ];
    for (kind, words) in kinds {
        let mut scenario = json("chaos/chaos-small.json");
        scenario["clients"]["mallory"] = json!({ "hostile": { "rate": "20/s", "start": "later" } });
        scenario["cluster"]["config"] = json!({
            "controller.quorum.bootstrap.servers": "controller-101:9093",
            "controller.quorum.auto.join.enable": true,
            "log.dirs": "/disks/a,/disks/b",
        });
        scenario["steps"][1]["chaos"]["for"] = json!("20s");
        scenario["steps"][1]["chaos"]["faults"] = json!({ kind: 1 });
        let mut found = String::new();
        for seed in 1..=3 {
            let report = run(&scenario, seed);
            assert_eq!(report.verdict, Verdict::Pass, "{kind}, seed {seed}: {:?}", report.why);
            assert_eq!(report.warnings, Vec::<String>::new(), "{kind}, seed {seed}");
            report.schedule.iter().for_each(|s| found.push_str(&s.step.to_string()));
        }
        for word in words {
            assert!(found.contains(word), "{kind} without {word}: {found}");
        }
    }
}

/// What nothing covers is drawn only if it is named, and then excuses what follows from it.
#[test]
fn what_nothing_covers_has_to_be_named() {
    let drawn = |scenario: &Value| {
        let sheet = scenario::parse(Path::new("chaos.json"), scenario.to_string()).unwrap();
        let steps = sheet.variant(None).unwrap().steps;
        let scenario::Verb::Chaos(chaos) = &steps[1].verb else { panic!("{:?}", steps[1]) };
        chaos.faults.iter().map(|(kind, weight)| (kind.word(), *weight)).collect::<Vec<_>>()
    };
    let mut scenario = json("chaos/chaos-small.json");
    let by_default = drawn(&scenario);
    let uncovered: Vec<_> =
        scenario::ChaosKind::ALL.into_iter().filter(|kind| !kind.can_be_covered()).collect();
    assert_eq!(by_default.len() + uncovered.len(), scenario::ChaosKind::ALL.len());
    for kind in &uncovered {
        assert!(!by_default.iter().any(|(word, _)| *word == kind.word()), "{}", kind.word());
        scenario["steps"][1]["chaos"]["faults"] = json!({ kind.word(): 2 });
        assert_eq!(drawn(&scenario), [(kind.word(), 2)]);
    }
    for (kind, words) in [("lost_sync", ["lying_sync", "power_off"]), ("bit_flip", ["bit_flip", "node"])] {
        scenario["steps"][1]["chaos"]["faults"] = json!({ kind: 1 });
        let report = run(&scenario, 1);
        let schedule: String = report.schedule.iter().map(|s| s.step.to_string()).collect();
        assert!(words.iter().all(|word| schedule.contains(word)), "{kind}: {schedule}");
        let promised: Vec<_> = report.violations.iter().filter(|v| v.promised).collect();
        assert!(promised.is_empty(), "{kind}: {promised:?}");
    }
}

/// Each seed draws its own cluster, and fixing what it drew is the same run.
#[test]
fn a_swarm_draws_clusters() {
    let mut scenario = json("chaos/chaos-small.json");
    scenario["steps"] = json!([{ "wait": "2s" }]);
    scenario["cluster"]["config"] = json!({});
    scenario["swarm"] = json!({
        "/cluster/brokers": "3..5",
        "/cluster/config/replica.lag.time.max.ms": [5000, 30000],
    });
    let mut seen = std::collections::BTreeSet::new();
    for seed in 1..=8 {
        let drawn = run(&scenario, seed);
        assert_eq!(drawn.verdict.word(), "pass", "seed {seed}: {:?}", drawn.why);
        seen.insert((drawn.options["drawn /cluster/brokers"].clone(), drawn.options["brokers"].clone()));
        if seed < 3 {
            let again = run(&chaos::settled(&scenario, &drawn), seed);
            assert_eq!(drawn.digest, again.digest, "seed {seed}");
        }
    }
    assert!(seen.contains(&("4".to_owned(), "1,2,3,4".to_owned())), "{seen:?}");
    assert!(seen.len() == 3, "{seen:?}");
}

#[test]
fn a_chaos_that_is_repeated_has_no_fixed_steps() {
    let mut scenario = json("chaos/chaos-small.json");
    let steps = scenario["steps"].clone();
    scenario["steps"] = json!([{ "repeat": { "times": 2, "steps": steps } }]);
    assert!(chaos::fixed(&scenario, &[]).unwrap_err().contains("repeats chaos"));
}

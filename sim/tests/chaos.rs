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

/// What a run found, as far as it does not depend on how it was told.
fn found(report: &RunReport) -> Vec<(String, bool, Option<String>)> {
    report.violations.iter().map(|v| (v.name.clone(), v.promised, v.reason.clone())).collect()
}

/// What chaos did, as fixed steps in the place of chaos, is the same run: every frame of it, how it ends, what is found and
/// what of it had been promised.
fn fixed_is_the_same(chaotic: &Value, seed: u64) -> RunReport {
    let drawn = run(chaotic, seed);
    assert!(!drawn.schedule.is_empty(), "seed {seed}: something happens");
    let fixed = chaos::fixed(&chaos::settled(chaotic, &drawn), &drawn.schedule).unwrap();
    let again = run(&fixed, seed);
    assert_eq!(
        (&drawn.digest, drawn.verdict),
        (&again.digest, again.verdict),
        "seed {seed}: {:?}",
        again.why
    );
    assert_eq!(found(&drawn), found(&again), "seed {seed}");
    assert!(again.schedule.is_empty());
    drawn
}

#[test]
fn a_fixed_schedule_is_the_same_run() {
    let small = json("chaos/chaos-small.json");
    (1..=10).for_each(|seed| drop(fixed_is_the_same(&small, seed)));
    fixed_is_the_same(&json("chaos/everything.json"), 6);
}

/// A violation stays one although chaos has taken the power from one broker after the other: it chose them so that
/// enough others had what each lost, and as fixed steps they say so.
#[test]
fn what_is_found_under_chaos_is_found_with_fixed_steps() {
    let mut chaotic = json("chaos/chaos-small.json");
    chaotic["cluster"]["mutants"] = json!(["high-watermark-is-log-end"]);
    // What goes wrong does so when the losses are over: one of more brokers than are promised to lose nothing.
    chaotic["clients"] =
        json!({ "shop": { "producer": { "topic": "purchases", "rate": "50/s", "start": "later" } } });
    let chaos = &mut chaotic["steps"][1]["chaos"];
    (chaos["for"], chaos["swarm"], chaos["faults"]) =
        (json!("20s"), json!(false), json!({ "power_off": 1, "wipe": 1 }));
    chaotic["steps"].as_array_mut().unwrap().extend([json!({ "start": "shop" }), json!({ "wait": "2s" })]);
    for seed in 1..=2 {
        let report = fixed_is_the_same(&chaotic, seed);
        assert_eq!(report.verdict, Verdict::Violation, "seed {seed}");
        let covered = report.schedule.iter().filter(|s| s.step["covered"] == true).count();
        assert!(covered > 2, "seed {seed}: {covered}");
        // Without the word the same losses excuse it.
        let mut schedule = report.schedule;
        schedule.iter_mut().for_each(|s| drop(s.step.as_object_mut().unwrap().remove("covered")));
        let excused = run(&chaos::fixed(&chaotic, &schedule).unwrap(), seed);
        assert_eq!((&excused.digest, excused.verdict), (&report.digest, Verdict::Pass), "seed {seed}");
    }
}

/// Whether enough others hold what is lost is judged when it is lost, whatever the file says.
#[test]
fn a_loss_is_covered_only_by_others_who_have_it() {
    let excused = |steps: Value| {
        let mut scenario = json!({
            "title": "Losses, and then a bug",
            "cluster": { "brokers": 3, "controllers": 1, "mutants": ["high-watermark-is-log-end"] },
            "topics": [{ "name": "t", "replication_factor": 3, "config": { "min.insync.replicas": 2 } }],
            "clients": { "shop": { "producer": { "topic": "t", "rate": "50/s", "start": "later" } } },
            "steps": steps,
        });
        scenario["steps"].as_array_mut().unwrap().extend([
            json!({ "expect": { "partition": "t-0", "isr_size": 3 }, "within": "60s" }),
            json!({ "start": "shop" }),
            json!({ "wait": "5s" }),
            json!({ "stop": "shop" }),
        ]);
        let report = run(&scenario, 1);
        assert!(!report.violations.is_empty(), "{:?}", report.why);
        report.violations.iter().all(|v| !v.promised)
    };
    let off = |who: Value, covered: bool| json!({ "power_off": who, "covered": covered });
    let back = json!({ "expect": { "partition": "t-0", "isr_size": 3 }, "within": "60s" });
    let one_by_one = |covered| {
        let (start_1, start_2) = (json!({ "start": "broker-1" }), json!({ "start": "broker-2" }));
        let away = json!({ "wait": "10s" });
        json!([
            off(json!("broker-1"), covered),
            away,
            start_1,
            back,
            off(json!("broker-2"), covered),
            away,
            start_2,
            back,
        ])
    };
    assert!(!excused(one_by_one(true)), "enough others had it each time");
    assert!(excused(one_by_one(false)), "nobody says so");
    let together = json!([off(json!(["broker-1", "broker-2"]), true), { "start": ["broker-1", "broker-2"] }]);
    assert!(excused(together), "one has it, and two are needed");
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

/// The story of what is found is told of the cluster that the seed drew, by the times of the run.
#[test]
fn what_a_swarm_shows_is_explained_by_its_own_times() {
    let mut scenario = json("chaos/chaos-small.json");
    scenario["cluster"]["mutants"] = json!(["high-watermark-is-log-end"]);
    scenario["swarm"] = json!({ "/cluster/brokers": [5], "/cluster/controllers": [5] });
    let sheet = scenario::parse(Path::new("chaos.json"), scenario.to_string()).unwrap();
    let scenario = sheet.variant(None).unwrap();
    let options = RunOptions { seed: 1, keep_disks: None, trace: false, reproduce: String::new() };
    let runner::Outcome { mut report, findings, .. } = runner::run(&scenario, &options).unwrap();
    sim::explain::explain(&scenario, &options, &findings, &mut report, false).unwrap();
    let violation = &report.violations[0];
    let rows = &violation.story.as_ref().unwrap().rows;
    assert_eq!(rows.last().unwrap().at_seconds, violation.at_seconds);
    // The file has three of each.
    assert!(rows.iter().any(|row| row.who.ends_with(['4', '5'])), "{rows:?}");
}

#[test]
fn a_chaos_that_is_repeated_has_no_fixed_steps() {
    let mut scenario = json("chaos/chaos-small.json");
    let steps = scenario["steps"].clone();
    scenario["steps"] = json!([{ "repeat": { "times": 2, "steps": steps } }]);
    assert!(chaos::fixed(&scenario, &[]).unwrap_err().contains("repeats chaos"));
}

//! Replication throttles through the front door: `kafka-reassign-partitions --throttle`, then `--verify`.

use std::path::Path;

use reports::Verdict;
use serde_json::{Value, json};
use sim::runner::{self, RunOptions};
use sim::scenario;

/// 500 KB move from broker-1 to broker-3, as a scenario file.
fn scenario(throttle: &str, of_throttle: &[&str]) -> Value {
    let tool =
        "kafka-reassign-partitions --bootstrap-server broker-1:9092 --reassignment-json-file move.json";
    let topic = json!({ "topic": "purchases", "partition": 0, "replicas": [3, 2] });
    let files = json!({ "move.json": { "version": 1, "partitions": [topic] } });
    let prints = [of_throttle, &["Successfully started partition reassignment for purchases-0"]].concat();
    let describe = "kafka-configs --bootstrap-server broker-1:9092 --describe --all --entity-type";
    json!({
        "title": "A throttled move",
        "cluster": { "brokers": 3, "controllers": 1, "config": { "replica.fetch.max.bytes": 16384 } },
        "topics": [{ "name": "purchases", "assignment": [[1, 2]] }],
        "clients": {
            "shop": { "producer": { "topic": "purchases", "rate": "100/s", "count": 500, "size": 1000 } }
        },
        "steps": [
            { "wait": "7s" },
            { "command": format!("{tool} --execute {throttle}"), "files": files, "prints": prints },
            { "expect": { "partition": "purchases-0", "leader": 3, "isr": [2, 3] }, "within": "60s" },
            { "command": format!("{tool} --verify"), "files": files, "prints": [
                "Reassignment of partition purchases-0 is completed.",
                "Clearing broker-level throttles on brokers 1,2,3",
                "Clearing topic-level throttles on topic purchases"
            ] },
            { "command": format!("{describe} brokers --entity-name 3"), "lacks": ["throttled.rate"] },
            { "command": format!("{describe} topics --entity-name purchases"), "prints": [
                "follower.replication.throttled.replicas= ", "leader.replication.throttled.replicas= "
            ] },
            { "expect": { "partition": "purchases-0", "same_log": true }, "within": "5s" }
        ],
        "finally": { "violations": [] }
    })
}

/// How many virtual seconds the copy takes.
fn move_takes(sheet: &Value, seed: u64) -> f64 {
    let sheet = scenario::parse(Path::new("throttled-move.json"), sheet.to_string())
        .unwrap_or_else(|e| panic!("{e}"));
    let options = RunOptions { seed, keep_disks: None, trace: false, reproduce: String::new() };
    let report = runner::run(&sheet.variant(None).unwrap(), &options).unwrap().report;
    let page = reports::terminal::render(&report);
    assert_eq!(report.verdict, Verdict::Pass, "seed {seed}:\n{page}");
    report.steps[2].at_seconds - report.steps[1].at_seconds
}

#[test]
fn half_a_megabyte_at_50_kilobytes_a_second_takes_ten_seconds() {
    for seed in 1..=3 {
        let warning = "Warning: You must run --verify periodically, until the reassignment completes, to ensure the \
                       throttle is removed.";
        let limit = "The inter-broker throttle limit was set to 50000 B/s";
        let throttled = move_takes(&scenario("--throttle 50000", &[warning, limit]), seed);
        assert!((9.0..=12.5).contains(&throttled), "seed {seed}: {throttled} s");
        let unthrottled = move_takes(&scenario("", &[]), seed);
        assert!(unthrottled < 1.0, "seed {seed}: {unthrottled} s");
    }
}

//! Quotas of clients through the front door: `kafka-configs` sets them, and a producer and a consumer take as long as they
//! say.
#![cfg(madsim)]

use std::path::Path;

use reports::{RunReport, Verdict};
use serde_json::{Value, json};
use sim::runner::{self, RunOptions};
use sim::scenario;

/// Bytes a second.
const QUOTA: f64 = 10_240.0;
/// Messages, and about as many bytes for each on their way.
const COUNT: u32 = 600;
const SIZE: u32 = 1_000;

fn run(clients: &Value, steps: &Value) -> RunReport {
    let sheet = json!({
        "title": "A client with a quota",
        "cluster": { "brokers": 1, "controllers": 1 },
        "topics": [{ "name": "t", "partitions": 1, "replication_factor": 1 }],
        "clients": clients,
        "steps": steps,
        "finally": { "violations": [] },
    });
    let sheet = scenario::parse(Path::new("quota.json"), sheet.to_string()).unwrap_or_else(|e| panic!("{e}"));
    let options = RunOptions { seed: 1, keep_disks: None, trace: false, reproduce: String::new() };
    let report =
        runner::run(&sheet.variant(None).expect("the sheet as it stands"), &options).expect("it runs").report;
    assert_eq!(report.verdict, Verdict::Pass, "{}", reports::terminal::render(&report));
    let told = report.timeline.iter().filter(|entry| entry.text.contains("_byte_rate, throttled for "));
    assert_eq!(told.count(), 1, "the timeline tells of it once");
    report
}

fn quota_of(key: &str, client: &str) -> Value {
    let line = format!(
        "kafka-configs --bootstrap-server broker-1:9092 --alter --add-config {key}={QUOTA} --entity-type clients \
         --entity-name {client}"
    );
    json!({ "command": line, "prints": [format!("Completed updating config for client {client}.")] })
}

/// From the end of one step to the end of another, in virtual seconds.
fn between(report: &RunReport, from: usize, to: usize) -> f64 {
    report.steps[to].at_seconds - report.steps[from].at_seconds
}

/// What a whole window is worth may go through at once; else it is the quota, give or take what a sample is. Kafka 4.3.1
/// takes 63 s for what the producer does here.
fn as_the_quota_says(seconds: f64) {
    let all = f64::from(COUNT * SIZE) / QUOTA;
    assert!((all - 11.0..=all * 1.1).contains(&seconds), "{seconds} s, with a quota worth {all} s");
}

#[test]
fn a_producer_takes_as_long_as_its_quota_says() {
    let producer = |start: &str| {
        json!({ "producer": {
            "topic": "t", "rate": "100/s", "count": COUNT, "size": SIZE, "start": start,
            "config": { "batch.size": 4096 },
        } })
    };
    let clients = json!({ "shop": producer("later"), "free": producer("later") });
    let steps = json!([
        quota_of("producer_byte_rate", "shop"),
        { "wait": "1s" },
        { "start": "free" },
        { "expect": { "client": "free", "acked": COUNT }, "within": "10s" },
        { "start": "shop" },
        { "expect": { "client": "shop", "acked": COUNT }, "within": "100s" },
        { "expect": { "node": "broker-1", "event": "ClientThrottled" } },
    ]);
    let report = run(&clients, &steps);
    assert!(between(&report, 2, 3) < 7.0, "who has no quota is as fast as it wants");
    as_the_quota_says(between(&report, 4, 5));
}

#[test]
fn a_consumer_takes_as_long_as_its_quota_says() {
    let clients = json!({
        "shop": { "producer": { "topic": "t", "rate": "200/s", "count": COUNT, "size": SIZE } },
        "billing": { "consumer": {
            "partitions": ["t-0"], "from": "beginning", "start": "later",
            "config": { "max.partition.fetch.bytes": 4096 },
        } },
    });
    let steps = json!([
        quota_of("consumer_byte_rate", "billing"),
        { "expect": { "client": "shop", "acked": COUNT }, "within": "10s" },
        { "start": "billing" },
        { "expect": { "client": "billing", "received": COUNT }, "within": "100s" },
    ]);
    let report = run(&clients, &steps);
    as_the_quota_says(between(&report, 2, 3));
}

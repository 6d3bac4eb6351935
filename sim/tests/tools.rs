//! Tools that go on until they are stopped, and tools that are members of a group, through the front door: against a
//! cluster of three with a topic that somebody has produced to, whole and broken.
#![cfg(madsim)]

use std::path::Path;

use reports::CommandOutput;
use serde_json::{Value, json};
use sim::runner::{self, RunOptions};
use sim::scenario;

const BROKERS: &str = "broker-1:9092,broker-2:9092,broker-3:9092";

/// The output of the last command of these steps, once the producer has sent so much. A tool that goes on is stopped
/// when its time is over, and the sheet ends there.
fn last_output(producer: Value, steps: &[Value]) -> CommandOutput {
    let sheet = json!({
        "title": "Tools",
        "about": "What do the tools say of a cluster?",
        "cluster": { "brokers": 3, "controllers": 1, "config": { "replica.lag.time.max.ms": 5000 } },
        "topics": [{ "name": "purchases", "assignment": [[1, 2, 3], [2, 1, 3], [1, 2, 3]] }],
        "clients": { "shop": { "producer": producer } },
        "steps": steps,
    });
    let sheet = scenario::parse(Path::new("tools.json"), sheet.to_string()).unwrap_or_else(|e| panic!("{e}"));
    let scenario = sheet.variant(None).unwrap_or_else(|e| panic!("{e}"));
    let options = RunOptions { seed: 3, keep_disks: None, trace: false, reproduce: String::new() };
    let report = runner::run(&scenario, &options).unwrap().report;
    let page = reports::terminal::render(&report);
    let output = report.steps.into_iter().filter_map(|step| step.output).next_back();
    output.unwrap_or_else(|| panic!("no command was run:\n{page}"))
}

/// Three hundred messages, and no more.
fn three_hundred() -> Value {
    json!({ "topic": "purchases", "rate": "100/s", "count": 300 })
}

fn verify(seconds: u32) -> Value {
    let command = format!(
        "kafka-replica-verification --broker-list {BROKERS} --topics-include purchases --time -2 --report-interval-ms 2000"
    );
    json!({ "command": command, "timeout": format!("{seconds}s") })
}

/// What the tool said after each interval, without the time: the lag and the offset.
fn reports_of(output: &CommandOutput) -> Vec<(i64, i64)> {
    let mut lines = output.stdout.lines();
    let first = lines.next().unwrap_or_default();
    assert!(first.ends_with(": verification process is started"), "{}\n{}", output.stdout, output.stderr);
    let report = |line: &str| {
        let (_, rest) = line.split_once(": max lag is ").unwrap_or_else(|| panic!("{line}"));
        let (lag, rest) = rest.split_once(" for partition purchases-").unwrap();
        let (_, rest) = rest.split_once(" at offset ").unwrap();
        let offset = rest.strip_suffix(" among 3 partitions").unwrap();
        (lag.parse().unwrap(), offset.parse().unwrap())
    };
    lines.map(report).collect()
}

#[test]
fn replicas_that_agree_have_no_lag() {
    let output = last_output(three_hundred(), &[json!({ "wait": "8s" }), verify(15)]);
    let reports = reports_of(&output);
    assert!(reports.len() >= 5, "{}", output.stdout);
    assert!(reports.iter().all(|(lag, _)| *lag == 0), "{}", output.stdout);
    assert_eq!(output.exit, Some(143), "it goes on until it is stopped");
}

/// Its connections are refused at once, and after its session no metadata names it; the others are compared every round,
/// and what it lacks is verified by nobody.
#[test]
fn a_dead_broker_holds_up_no_verification() {
    let dead = json!({ "kill": "broker-3" });
    let output = last_output(three_hundred(), &[json!({ "wait": "8s" }), dead, verify(20)]);
    let reports = reports_of(&output);
    assert!(reports.len() >= 5, "{}", output.stdout);
    // All that was ever written to the partition with the most of it, from its beginning.
    assert!(reports.iter().all(|(lag, offset)| *lag >= 100 && *offset == 0), "{}", output.stdout);
}

/// broker-3 lives and answers, and hears nothing from its leaders: what they go on with is in two replicas.
#[test]
fn a_replica_that_lags_is_told_by_how_much() {
    let producer = json!({ "topic": "purchases", "rate": "100/s", "count": 1500 });
    let cut = json!({ "cut": { "between": [["broker-3"], ["broker-1", "broker-2"]] } });
    let steps = [json!({ "wait": "3s" }), cut.clone(), json!({ "wait": "25s" }), verify(15)];
    let output = last_output(producer.clone(), &steps);
    let behind = reports_of(&output);
    assert!(behind.len() >= 5, "{}", output.stdout);
    let &(lag, offset) = behind.last().unwrap();
    assert!(lag > 0 && behind.iter().all(|report| *report == (lag, offset)), "{}", output.stdout);
    assert!(
        !output.stdout.contains("doesn't match") && !output.stdout.contains("unmatched"),
        "{}",
        output.stdout
    );

    let heal = [json!({ "heal": "all" }), json!({ "wait": "40s" }), verify(9)];
    let steps: Vec<Value> = steps[..3].iter().cloned().chain(heal).collect();
    let healed = reports_of(&last_output(producer, &steps));
    assert!(healed.len() >= 3 && healed.iter().all(|(lag, _)| *lag == 0), "{healed:?}");
}

// --- kafka-verifiable-consumer

fn consume(extra: &str) -> Value {
    let command = format!(
        "kafka-verifiable-consumer --bootstrap-server {BROKERS} --topic purchases --group-id vg --max-messages 300 \
         --reset-policy earliest {extra}"
    );
    json!({ "command": command, "timeout": "100s" })
}

/// The lines of JSON of one name.
fn told<'a>(lines: &'a [Value], name: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["name"] == name).collect()
}

/// Checks that it told of 300 records once each, committed them, and left; gives all lines.
fn consumed_all(output: &CommandOutput) -> Vec<Value> {
    assert_eq!(output.exit, Some(0), "{}\n{}", output.stdout, output.stderr);
    let lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["name"], "startup_complete");
    assert_eq!(lines.last().unwrap()["name"], "shutdown_complete");
    let mut next = [0; 3];
    for part in
        told(&lines, "records_consumed").iter().flat_map(|line| line["partitions"].as_array().unwrap())
    {
        let number = |name: &str| part[name].as_i64().unwrap();
        let at = &mut next[number("partition") as usize];
        assert_eq!((number("minOffset"), number("maxOffset") + 1), (*at, *at + number("count")), "{part}");
        *at = number("maxOffset") + 1;
    }
    assert_eq!(next.iter().sum::<i64>(), 300, "{}", output.stdout);
    let commits = told(&lines, "offsets_committed");
    assert!(!commits.is_empty() && commits.iter().all(|line| line["success"] == true), "{}", output.stdout);
    lines
}

#[test]
fn a_verifiable_consumer_reads_commits_and_leaves() {
    for protocol in ["", "--group-protocol consumer"] {
        let output = last_output(three_hundred(), &[json!({ "wait": "8s" }), consume(protocol)]);
        let lines = consumed_all(&output);
        let assigned = told(&lines, "partitions_assigned");
        let all: usize = assigned.iter().map(|line| line["partitions"].as_array().unwrap().len()).sum();
        assert_eq!(all, 3, "{}", output.stdout);
        let groups = format!("kafka-consumer-groups --bootstrap-server {BROKERS} --describe --group vg");
        let steps = [json!({ "wait": "8s" }), consume(protocol), json!({ "command": groups })];
        let described = last_output(three_hundred(), &steps);
        let lag_of = |line: &str| line.split_whitespace().nth(5).map(str::to_owned);
        let lags: Vec<_> =
            described.stdout.lines().filter(|line| line.starts_with("vg ")).map(lag_of).collect();
        assert_eq!(lags, vec![Some("0".to_owned()); 3], "{}", described.stdout);
    }
}

/// Two partitions have no leader when the tool begins, and then another one.
#[test]
fn a_verifiable_consumer_reads_all_although_a_broker_dies() {
    let dead = json!({ "kill": "broker-1" });
    let output = last_output(three_hundred(), &[json!({ "wait": "8s" }), dead, consume("")]);
    consumed_all(&output);
}

// --- others

/// 1,000 records in transactions of 200 ms, and all of them are committed.
#[test]
fn a_producer_test_in_transactions_commits_all() {
    let perf = format!(
        "kafka-producer-perf-test --topic purchases --num-records 1000 --throughput 500 --record-size 10 \
         --transactional-id tx --transaction-duration-ms 200 --bootstrap-server {BROKERS}"
    );
    let steps = [json!({ "wait": "8s" }), json!({ "command": perf, "prints": ["1000 records sent, "] })];
    let listed = json!({ "command": format!("kafka-transactions --bootstrap-server {BROKERS} list") });
    let steps: Vec<Value> = steps.into_iter().chain([listed]).collect();
    let output = last_output(three_hundred(), &steps);
    let states: Vec<&str> = output.stdout.lines().skip(1).collect();
    assert!(states.len() == 1 && states[0].starts_with("tx"), "{}", output.stdout);
    assert!(states[0].contains("CompleteCommit"), "{}", output.stdout);
    let read = format!(
        "kafka-console-consumer --bootstrap-server {BROKERS} --topic purchases --from-beginning --isolation-level \
         read_committed --max-messages 1300"
    );
    let steps: Vec<Value> = steps.into_iter().chain([json!({ "command": read })]).collect();
    let output = last_output(three_hundred(), &steps);
    assert_eq!((output.stdout.lines().count(), output.exit), (1300, Some(0)), "{}", output.stderr);
}

#[test]
fn a_console_consumer_is_in_a_group_of_its_own_while_it_reads() {
    let reads = |name: &str, more: &str| {
        let read = format!("kafka-console-consumer --bootstrap-server {BROKERS} --topic purchases {more}");
        json!({ "command": read, "background": name })
    };
    let groups = json!({ "command": format!("kafka-consumer-groups --bootstrap-server {BROKERS} --list") });
    let steps = [
        reads("one", "--from-beginning"),
        reads("two", ""),
        reads("three", "--partition 0"),
        json!({ "wait": "12s" }),
        groups,
    ];
    let output = last_output(three_hundred(), &steps);
    let number = |line: &str| line.strip_prefix("console-consumer-").and_then(|n| n.parse::<u32>().ok());
    let numbers: Vec<Option<u32>> = output.stdout.lines().map(number).collect();
    assert!(numbers.iter().all(|number| number.is_some_and(|n| n < 100_000)), "{}", output.stdout);
    assert_eq!(numbers.len(), 2, "who reads one partition has no group");
}

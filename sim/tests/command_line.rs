//! The command line through the front door: output, exit codes, records.

use std::path::Path;
use std::process::{Command, Output};

fn highwater(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .expect("the binary starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn alone_it_prints_a_guide_with_the_first_command() {
    let output = highwater(&[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("highwater run kill-broker-1"));
    assert!(stdout(&output).lines().all(|l| l.chars().count() <= 80));
}

#[test]
fn the_first_lab_tells_its_story_in_80_columns() {
    let output = highwater(&["run", "kill-broker-1", "--seed", "7"]);
    let page = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{page}");
    for line in page.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for told in [
        "kill broker-1",
        "broker-1 fenced",
        "leader 1 -> 2 in epoch 1",
        "ISR 1,2,3 -> 2,3",
        "ISR 2,3 -> 1,2,3",
        "No checker found anything.",
    ] {
        assert!(page.contains(told), "{told} is not in\n{page}");
    }
    assert_eq!(page.lines().last(), Some("highwater run kill-broker-1 --seed 7"));
    assert!(!page.contains('\u{1b}'), "no colours but on a terminal");
}

#[test]
fn json_is_one_document_with_the_words_of_the_format() {
    let output = highwater(&["run", "stop-broker-1", "--seed", "7", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["scenario"], "stop-broker-1");
    assert_eq!(document["verdict"], "pass");
    assert_eq!(document["seed"], 7);
    assert!(document["digest"].as_str().unwrap().starts_with("b3"));
    assert_eq!(document["steps"][0]["verb"], "wait");
    assert_eq!(document["steps"][0]["held"], true);
    assert!(document["clients"]["shop"]["acked"].as_u64().unwrap() > 1_000);
    assert!(document["clients"]["shop"]["latency_ms"]["p99"].as_f64().unwrap() > 0.0);
}

#[test]
fn broken_scenarios_exit_with_2_and_say_where() {
    let broken = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken/unknown-verb.json");
    let output = highwater(&["run", broken.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean \"kill\"?"), "{}", stderr(&output));
    assert!(stderr(&output).contains("unknown-verb.json:8:7"), "{}", stderr(&output));
    let output = highwater(&["run", "kill-broker-9"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean \"kill-broker-1\"?"), "{}", stderr(&output));
    assert_eq!(highwater(&["run"]).status.code(), Some(2));
    assert_eq!(highwater(&["sweep", "kill-broker-1", "--seeds", "5..1"]).status.code(), Some(2));
}

#[test]
fn an_expectation_that_does_not_hold_exits_with_1_and_the_rest_is_not_run() {
    let output =
        highwater(&["run", "stop-broker-1", "--seed", "7", "--json", "--set", "/steps/1/expect/isr_size=2"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(document["verdict"], "expectation");
    assert_eq!(document["steps"][1]["held"], false);
    assert_eq!(document["steps"][2]["held"], serde_json::Value::Null);
}

#[test]
fn what_finally_does_not_allow_exits_with_3() {
    let output =
        highwater(&["run", "acks-1-loses", "--seed", "7", "--json", "--set", "/finally/violations=[]"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(document["verdict"], "violation");
    assert_eq!(document["violations"][0]["promised"], false);
}

#[test]
fn a_record_replays_and_an_altered_one_is_refused() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("replayed.record");
    let path = file.to_str().unwrap();
    assert_eq!(highwater(&["run", "stop-broker-1", "--seed", "7", "--record", path]).status.code(), Some(0));
    let replayed = highwater(&["replay", path]);
    assert_eq!(replayed.status.code(), Some(0));
    assert!(stderr(&replayed).contains("the same digest as the record"));
    let text = std::fs::read_to_string(&file).unwrap();
    // A byte of the scenario's text, and a digest that another build might have had.
    std::fs::write(&file, text.replacen("Stop broker-1", "Stop broker-2", 1)).unwrap();
    let damaged = highwater(&["replay", path]);
    assert_eq!(damaged.status.code(), Some(2));
    assert!(stderr(&damaged).contains("line 2 is damaged"), "{}", stderr(&damaged));
}

#[test]
fn a_sweep_counts_every_variant() {
    let output = highwater(&["sweep", "acks-1-loses", "--seeds", "1..3", "--jobs", "2", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{document}");
    assert_eq!(document["done"], 6);
    let again = highwater(&["sweep", "acks-1-loses", "--seeds", "1..3", "--jobs", "1", "--json"]);
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(document["digest"], again["digest"], "as many jobs as there are, the runs are the same");
}

#[test]
fn the_schema_and_the_list_of_scenarios() {
    let schema: serde_json::Value = serde_json::from_slice(&highwater(&["schema"]).stdout).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let list = stdout(&highwater(&["scenarios"]));
    assert!(list.contains("kill-broker-1"));
    assert!(list.lines().all(|l| l.chars().count() <= 80), "{list}");
}

//! `highwater shrink` through the front door.
#![cfg(madsim)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn highwater(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .expect("the binary starts")
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn temp(name: &str) -> String {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).to_str().unwrap().to_owned()
}

/// A write is lost because only its leader had it; everything else has no part in that.
const LOSES: &str = r#"{
  "title": "A write is lost among much that happens",
  "cluster": { "brokers": 3, "controllers": 1, "config": { "num.recovery.threads.per.data.dir": 1 } },
  "topics": [
    { "name": "purchases", "assignment": [[1, 2, 3]], "config": { "retention.ms": 3600000 } },
    { "name": "other", "partitions": 2, "replication_factor": 2 }
  ],
  "clients": {
    "shop": { "producer": { "topic": "purchases", "rate": "20/s", "keys": 5, "config": { "acks": "1", "enable.idempotence": false } } },
    "idle": { "producer": { "topic": "other", "rate": "1/s" } }
  },
  "steps": [
    { "wait": "500ms..900ms" },
    { "repeat": { "each": ["broker-2", "broker-3"], "as": "node", "steps": [{ "pause": "node" }, { "wait": "100ms" }, { "resume": "node" }] } },
    { "cut": { "between": [["broker-1"], ["broker-2", "broker-3"]] }, "note": "From here on the leader is alone." },
    { "expect": { "client": "shop", "acked": { "at_least": 40 } }, "within": "10s" },
    { "kill": "broker-1" },
    { "heal": "all" },
    { "expect": { "partition": "purchases-0", "leader": 2 }, "within": "20s" },
    { "wait": "1s" },
    { "start": "broker-1" },
    { "wait": "1s" }
  ],
  "finally": { "violations": [] },
  "variants": { "safe": { "set": { "/clients/shop/producer/config": { "acks": "all" }, "/steps/3": { "wait": "1s" } } } }
}"#;

#[test]
fn a_record_becomes_a_few_fixed_steps_that_show_the_same() {
    let (scenario, record, out) = (temp("loses.json"), temp("loses.rec"), temp("shrunk.json"));
    std::fs::write(&scenario, LOSES).unwrap();
    let run = highwater(&["run", &scenario, "--seed", "5", "--record", &record, "--json"]);
    assert_eq!(run.status.code(), Some(3), "{}", stderr(&run));
    let shrunk = highwater(&[
        "shrink",
        &record,
        "--violation",
        "lost-write",
        "--out",
        &out,
        "--budget",
        "60s",
        "--json",
    ]);
    assert_eq!(shrunk.status.code(), Some(0), "{}", stderr(&shrunk));
    let told = document(&shrunk);
    let (before, after) = (&told["before"], &told["after"]);
    assert!(after["steps"].as_u64().unwrap() <= 5, "{told}");
    assert!(after["steps"].as_u64() < before["steps"].as_u64(), "{told}");
    assert!(after["virtual_seconds"].as_f64() < before["virtual_seconds"].as_f64(), "{told}");
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(!text.contains("idle") && !text.contains(".."), "{text}");
    let again = document(&highwater(&["run", &out, "--seed", "5", "--json"]));
    assert_eq!(again["verdict"], "violation", "{text}");
    let names: Vec<&str> =
        again["violations"].as_array().unwrap().iter().filter_map(|v| v["name"].as_str()).collect();
    assert!(names.contains(&"lost-write"), "{names:?}\n{text}");
}

#[test]
fn what_cannot_be_shrunk_is_refused_with_a_remedy() {
    let scenario = temp("refused.json");
    std::fs::write(&scenario, LOSES).unwrap();
    let refused = |args: &[&str], why: &str| {
        let output = highwater(&[&["shrink"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let told = stderr(&output);
        assert!(told.contains(why) && told.contains("help: "), "{args:?}: {told}");
    };
    refused(&[&scenario], "a run of it has a seed");
    refused(&[&scenario, "--seed", "5", "--variant", "safe"], "there is nothing to shrink");
    refused(
        &[&scenario, "--seed", "5", "--violation", "G1a"],
        "the run does not show G1a; its checkers found",
    );
    refused(&["no-such.rec"], "no-such.rec");
    let cut = temp("cut-in-half.rec");
    let record = temp("whole.rec");
    highwater(&["run", &scenario, "--seed", "5", "--record", &record]);
    let bytes = std::fs::read(&record).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    refused(&[&cut], "cut-in-half.rec: ");
    refused(&[&record, "--seed", "5"], "is a record: seed, variant, --set and --mutant stand in it");
}

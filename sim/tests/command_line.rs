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

fn temp(name: &str) -> String {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).to_str().unwrap().to_owned()
}

/// A scenario that runs in no time: a broker that is killed.
fn small(name: &str, steps: &str) -> String {
    let text = format!(
        r#"{{ "title": "{name}", "cluster": {{ "brokers": 2, "controllers": 1 }},
  "topics": [{{ "name": "t", "assignment": [[1, 2]], "config": {{ "retention.ms": 500 }} }}],
  "steps": [ {steps} ],
  "sometimes": ["IsrShrunk", "LogCleaned"],
  "variants": {{ "two": {{ "set": {{ "/topics/0/config/min.insync.replicas": 2 }} }} }} }}"#
    );
    let path = temp(&format!("{name}.json"));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn lines_of_parts_merge_to_the_digest_of_the_whole() {
    let scenario = small("merged", r#"{ "kill": "broker-2" }, { "wait": "12s" }"#);
    let matrix = ["--matrix", "/topics/0/config/retention.ms=1000,2000"];
    let sweep = |more: &[&str]| {
        highwater(&[&["sweep", &scenario, "--seeds", "1..5"], matrix.as_slice(), more].concat())
    };
    let whole = sweep(&["--jobs", "2", "--json"]);
    let whole: serde_json::Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!((&whole["done"], &whole["planned"]), (&20.into(), &20.into()), "{whole}");
    assert_eq!(whole["runs"].as_array().unwrap().len(), 20);
    assert_eq!(whole["coverage"]["sometimes_missed"], serde_json::json!(["LogCleaned"]));
    assert!(whole["coverage"]["states"].as_u64().unwrap() >= 3);
    let files = [temp("part-1.jsonl"), temp("part-2.jsonl"), temp("part-3.jsonl")];
    for (i, file) in files.iter().enumerate() {
        let output = sweep(&["--shard", &format!("{}/3", i + 1), "--jsonl", file]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).lines().all(|l| l.chars().count() <= 80), "{}", stdout(&output));
    }
    let lines = stdout(&sweep(&["--jobs", "1", "--jsonl", "-"]));
    let seeds: Vec<u64> = lines
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["seed"].as_u64().unwrap())
        .collect();
    assert_eq!(seeds, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5]);

    let [a, b, c] = files.each_ref().map(String::as_str);
    // A part that was run twice counts once.
    let merged = sweep(&["--json", "--merge", c, a, b, a]);
    assert_eq!(merged.status.code(), Some(0), "{}", stderr(&merged));
    let merged: serde_json::Value = serde_json::from_slice(&merged.stdout).unwrap();
    for key in ["digest", "done", "coverage", "verdicts", "cases", "virtual_seconds"] {
        assert_eq!(merged[key], whole[key], "{key}");
    }
    let missing = sweep(&["--merge", a, b]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("4 of 20 runs stand in none of the files, first of seed 3"));
    let text = std::fs::read_to_string(c).unwrap();
    std::fs::write(c, &text[..text.len() - 7]).unwrap();
    let cut = sweep(&["--merge", a, b, c]);
    assert_eq!(cut.status.code(), Some(2));
    assert!(
        stderr(&cut).contains("part-3.jsonl:4: the line has no end: the file is cut off"),
        "{}",
        stderr(&cut)
    );
    // The same run with two digests.
    let digest = serde_json::from_str::<serde_json::Value>(text.lines().next().unwrap()).unwrap();
    let digest = digest["digest"].as_str().unwrap().to_owned();
    std::fs::write(c, text.clone() + &text.replace(&digest, &digest.replace("b3", "b4"))).unwrap();
    assert_eq!(sweep(&["--merge", a, b, c]).status.code(), Some(5));
}

#[test]
fn a_sweep_stops_at_the_first_run_that_does_not_pass() {
    let sweep = |jobs| {
        let set = "/finally/violations=[\"lost-write\"]";
        highwater(&[
            "sweep",
            "stop-broker-1",
            "--seeds",
            "3..9",
            "--until-violation",
            "--jobs",
            jobs,
            "--set",
            set,
            "--github",
        ])
    };
    let (one, two) = (sweep("1"), sweep("2"));
    assert_eq!(one.status.code(), Some(3), "{}", stderr(&one));
    let page = stdout(&one);
    assert!(page.contains("highwater run stop-broker-1 --seed 3 --set"), "{page}");
    assert!(page.contains("1 of 7 runs"), "{page}");
    let digest = |page: &str| page.lines().find(|l| l.starts_with("digest")).unwrap().to_owned();
    assert_eq!(digest(&page), digest(&stdout(&two)), "however many run at once, the first is the first");
    assert!(page.contains("::error file=scenarios/labs/stop-broker-1.json,line="), "{page}");
}

#[test]
fn an_interrupted_sweep_prints_what_it_has() {
    let scenario = small("interrupted", r#"{ "wait": "10s" }"#);
    let file = temp("interrupted.jsonl");
    // Lines of an earlier test would be taken for those of this one.
    let _ = std::fs::remove_file(&file);
    let child = Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(["sweep", &scenario, "--seeds", "1..1000000", "--jsonl", &file, "--jobs", "1"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while std::fs::read_to_string(&file).unwrap_or_default().lines().count() < 3 {
        std::thread::yield_now();
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(stdout(&output).contains("of 2000000 runs"), "{}", stdout(&output));
    assert!(stdout(&output).contains("interrupted: the digest is that of the runs that were made"));
}

#[test]
fn a_budget_ends_a_sweep() {
    let scenario = small("budget", r#"{ "wait": "10s" }"#);
    let output = highwater(&[
        "sweep",
        &scenario,
        "--seeds",
        "1..1000000",
        "--budget",
        "300ms",
        "--jobs",
        "2",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["ended"], "budget");
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(document["done"], runs.len());
    assert_eq!(runs.last().unwrap()["seed"].as_u64().unwrap(), runs.len().div_ceil(2) as u64);
}

#[test]
fn ci_systems_are_told_of_a_run() {
    let (junit, sarif) = (temp("run.xml"), temp("run.sarif"));
    let output = highwater(&[
        "run",
        "stop-broker-1",
        "--seed",
        "7",
        "--set",
        "/steps/1/expect/isr_size=2",
        "--junit",
        &junit,
        "--sarif",
        &sarif,
        "--github",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok(), "nothing but one document");
    let annotations = stderr(&output);
    assert!(annotations.starts_with("::error file=scenarios/labs/stop-broker-1.json,line="), "{annotations}");
    let junit = std::fs::read_to_string(junit).unwrap();
    assert!(
        junit.contains("failures=\"1\"") && junit.contains("<failure message=\"step 1 does not hold"),
        "{junit}"
    );
    let sarif: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(sarif).unwrap()).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "expectation");
    let nowhere = highwater(&["run", "stop-broker-1", "--seed", "7", "--junit", "/no/such/dir/a.xml"]);
    assert_eq!(nowhere.status.code(), Some(2));
}

#[test]
fn a_wrong_matrix_or_event_is_refused_with_a_remedy() {
    let refused = |args: &[&str]| {
        let output = highwater(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        stderr(&output)
    };
    let sweep = ["sweep", "stop-broker-1", "--seeds", "1..2"];
    assert!(refused(&[&sweep[..], &["--matrix", "x=1"]].concat()).contains("such as /topics/0/config"));
    assert!(refused(&[&sweep[..], &["--matrix", "/no/such=1,2"]].concat()).contains("leads nowhere"));
    assert!(refused(&[&sweep[..], &["--matrix", "/limit=1h,1h"]].concat()).contains("the same case twice"));
    assert!(
        refused(&[&sweep[..], &["--set", "/sometimes=[\"LogTruncatd\"]"]].concat()).contains("LogTruncated")
    );
    assert!(refused(&[&sweep[..], &["--jsonl", "/no/such/dir/x"]].concat()).contains("help"));
}

#[test]
fn a_record_that_is_cut_off_is_refused() {
    let path = temp("cut.record");
    let output = highwater(&["run", "stop-broker-1", "--seed", "7", "--record", &path]);
    assert_eq!(output.status.code(), Some(0));
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 1, bytes.len() / 2, bytes.len() - 80, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let output = highwater(&["replay", &path]);
        assert_eq!(output.status.code(), Some(2), "{length}");
        let told = stderr(&output);
        assert!(told.contains("cut.record: ") && told.contains("help: "), "{length}: {told}");
    }
}

#[test]
fn the_schema_and_the_list_of_scenarios() {
    let schema: serde_json::Value = serde_json::from_slice(&highwater(&["schema"]).stdout).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let list = stdout(&highwater(&["scenarios"]));
    assert!(list.contains("kill-broker-1"));
    assert!(list.lines().all(|l| l.chars().count() <= 80), "{list}");
}

/// The finding of a lab, as JSON, with its remedy tried; and the page, none of whose lines is too wide.
fn explained(lab: &str, name: &str) -> serde_json::Value {
    let output = highwater(&["run", lab, "--seed", "7", "--verify-remedy", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = document["violations"].as_array().unwrap().iter().find(|v| v["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{lab} has no {name}: {document}")).clone();
    let text = found["explanation"].as_str().unwrap();
    assert!(text.matches(". ").count() < 5, "at most five sentences: {text}");
    assert_eq!(found["remedy"]["helps"], true, "{lab}: {found}");
    let offset = found["events"].as_array().unwrap().last().unwrap()["offsets"].as_str().unwrap();
    assert!(text.contains(&format!("at offset {offset}")), "{text}");
    found
}

#[test]
fn a_loss_under_acks_1_is_explained_and_its_remedy_helps() {
    let found = explained("acks-1-loses", "lost-write");
    let text = found["explanation"].as_str().unwrap();
    for told in
        ["was appended by broker-1", "nobody had copied it", "(acks=1)", "broker-1 was killed", "was elected"]
    {
        assert!(text.contains(told), "{told} is not in: {text}");
    }
    assert_eq!(found["remedy"]["settings"][0], "shop: acks=all, enable.idempotence=true");
}

#[test]
fn an_unclean_election_is_explained_and_its_remedy_helps() {
    let found = explained("unclean-election", "lost-write");
    let text = found["explanation"].as_str().unwrap();
    for told in ["broker-1 was killed", "broker-2 was elected", "an unclean election: it was not in the ISR"]
    {
        assert!(text.contains(told), "{told} is not in: {text}");
    }
    let setting = "topic purchases: unclean.leader.election.enable=false";
    assert_eq!(found["remedy"]["settings"][0], setting);
}

#[test]
fn a_power_loss_is_explained_and_its_remedy_helps() {
    let found = explained("power-loss", "lost-write");
    let text = found["explanation"].as_str().unwrap();
    for told in ["broker-2 and broker-3 copied it", "lost power", "found its log ending at"] {
        assert!(text.contains(told), "{told} is not in: {text}");
    }
    assert_eq!(found["remedy"]["settings"][0], "topic purchases: flush.messages=1");
}

//! The catalogue of anomalies: each row of `scenarios/anomalies/README.md` has a scenario that shows it and a twin in
//! which it is absent, or a reason why not; twins differ in what prevents the anomaly and in nothing else. That both
//! end as they promise, over many seeds, is what `.ci/run` sweeps.
#![cfg(madsim)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sim::scenario;

/// How many rows the catalogue has.
const ROWS: usize = 50;

/// What a twin may have otherwise besides settings, mutants and controllers, as JSON pointers.
const OTHERWISE: [(&str, &str); 8] = [
    ("A08", "/steps/0/command"),
    ("A16", "/steps/6"),
    ("A21", "/steps/0/command"),
    ("A26", "/clients/billing/consumer/commit"),
    ("A41", "/topics/0/assignment"),
    ("A44", "/topics/0/assignment"),
    ("A48", "/steps/1/files"),
    ("A37", "/steps/3/disk/node"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/anomalies")
}

fn ids() -> impl Iterator<Item = String> {
    (1..=ROWS).map(|row| format!("A{row:02}"))
}

/// The files of the folder, without `.json`.
fn files() -> BTreeSet<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// The rows of the tables in README.md, by their first cell.
fn told() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    let rows = text.lines().filter(|line| line.starts_with("| A")).map(cells);
    rows.map(|cells| (cells[0].clone(), cells)).collect()
}

fn read(name: &str) -> Value {
    let path = folder().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn every_row_is_shown_with_its_twin_or_has_a_reason() {
    let (files, told) = (files(), told());
    for id in ids() {
        let row = told.get(&id).unwrap_or_else(|| panic!("README.md does not tell of {id}"));
        let shown = files.contains(&id);
        assert_eq!(shown, files.contains(&format!("{id}-repaired")), "{id}: one of two files is missing");
        // A row that is shown has six cells, one that is not has its reason.
        assert_eq!(row.len(), if shown { 6 } else { 2 }, "{id} in README.md: {row:?}");
        if shown {
            let found = wanted_violations(&read(&id));
            let wanted = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            assert_eq!(row[4], wanted, "{id}: the violations in README.md");
        }
    }
    let known: BTreeSet<String> = ids().flat_map(|id| [id.clone(), format!("{id}-repaired")]).collect();
    assert_eq!(files.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// What the end of a sheet wants found.
fn wanted_violations(sheet: &Value) -> Vec<String> {
    let names = sheet["finally"]["violations"].as_array().expect("exactly these: a list of names");
    names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// Takes away what a twin has its own words for: texts, expectations, what commands print, the end.
fn bare(mut sheet: Value) -> Value {
    fn bare_steps(steps: &mut Value) {
        for step in steps.as_array_mut().into_iter().flatten() {
            let step = step.as_object_mut().expect("a step is an object");
            if step.contains_key("expect") {
                step.clear();
                step.insert("expect".to_owned(), Value::Null);
            }
            for words in ["note", "section", "prints", "prints_error", "lacks", "exit"] {
                step.remove(words);
            }
            if let Some(repeat) = step.get_mut("repeat") {
                bare_steps(&mut repeat["steps"]);
            }
        }
    }
    for text in ["title", "about", "from", "finally"] {
        sheet.as_object_mut().expect("a scenario is an object").remove(text);
    }
    bare_steps(&mut sheet["steps"]);
    sheet
}

/// Where two values differ, as JSON pointers.
fn differences(at: &str, a: &Value, b: &Value, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                differences(&format!("{at}/{key}"), &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{at}/{i}"), a, b, found);
            }
        }
        (a, b) if a != b => found.push(at.to_owned()),
        _ => {}
    }
}

#[test]
fn twins_differ_in_what_prevents_the_anomaly_and_in_nothing_else() {
    for id in files().iter().filter(|name| !name.ends_with("-repaired")) {
        let otherwise: Vec<&str> =
            OTHERWISE.iter().filter(|(of, _)| of == id).map(|(_, pointer)| *pointer).collect();
        let (mut shows, twin) = (bare(read(id)), bare(read(&format!("{id}-repaired"))));
        // A step that the twin does not have.
        for pointer in &otherwise {
            let step = pointer.strip_prefix("/steps/").and_then(|step| step.parse::<usize>().ok());
            if let Some(step) = step.filter(|_| {
                twin["steps"].as_array().unwrap().len() < shows["steps"].as_array().unwrap().len()
            }) {
                shows["steps"].as_array_mut().unwrap().remove(step);
            }
        }
        let mut found = Vec::new();
        differences("", &shows, &twin, &mut found);
        found.retain(|at| {
            let setting = at.contains("/config/") || at.ends_with("/config");
            let version = at.starts_with("/cluster/mutants") || at == "/cluster/controllers";
            !(setting || version || otherwise.iter().any(|pointer| at.starts_with(pointer)))
        });
        assert_eq!(found, Vec::<String>::new(), "{id} and its twin differ in more than what prevents it");
    }
}

/// An anomaly may take a loss that its twin has as well: what prevents the one does not prevent the other. What twins
/// find of it; that of A04 goes back to where the logs part, as it should.
const STILL_LOST: [(&str, &[&str]); 2] = [
    ("A02", &["inconsistent-offsets", "lost-write"]),
    ("A04", &["ConsistentRead", "inconsistent-offsets", "lost-write", "nonmonotonic-poll"]),
];

#[test]
fn a_twin_finds_nothing_or_only_the_loss_before() {
    for id in files().iter().filter(|name| !name.ends_with("-repaired")) {
        let lost = STILL_LOST.iter().find(|(of, _)| of == id).map_or(&[][..], |(_, found)| *found);
        assert_eq!(wanted_violations(&read(&format!("{id}-repaired"))), lost, "{id}-repaired: exactly this");
    }
}

/// A run in release takes a tenth of a second, in debug several: `.ci/run` sweeps these files, and this reads them.
#[test]
fn every_file_can_be_run() {
    for name in files() {
        let sheet = scenario::load(&folder().join(format!("{name}.json"))).unwrap_or_else(|e| panic!("{e}"));
        assert!(sheet.variants.is_empty(), "{name}: a twin is a file of its own");
        sheet.variant(None).unwrap_or_else(|e| panic!("{e}"));
    }
}

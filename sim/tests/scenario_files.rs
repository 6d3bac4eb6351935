//! Scenario files from the outside: what comes with the project loads, what is broken is refused with its message.

use std::path::{Path, PathBuf};

use sim::scenario::{self, ClientKind, LoadError, Subject, Verb};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_first_lab_reads_as_it_is_written() {
    let sheet = scenario::load(&root().join("scenarios/labs/kill-broker-1.json")).unwrap();
    let scenario = sheet.variant(None).unwrap();
    assert_eq!(scenario.cluster.brokers(), [1, 2, 3]);
    assert_eq!(scenario.cluster.controllers(), [101]);
    assert_eq!(scenario.topics[0].assignment.as_ref().unwrap()[2], [3, 1, 2]);
    let ClientKind::Producer { rate, keys, size, .. } = &scenario.clients[0].kind else {
        panic!("shop is a producer")
    };
    assert_eq!((*rate, *keys, *size), (100.0, 20, 100));
    let kill = scenario.steps.iter().find(|s| s.verb.word() == "kill").unwrap();
    assert!(kill.note.as_ref().unwrap().starts_with("Like pulling the process"));
    let Verb::Expect(expect) = &scenario.steps[5].verb else { panic!("step 5 expects") };
    assert_eq!(expect.on, Subject::Partition("purchases".into(), 0));
    assert_eq!(expect.fields.len(), 3);
    assert_eq!(scenario.warnings, Vec::<String>::new());
}

#[test]
fn every_scenario_of_the_project_loads_with_all_its_variants() {
    let mut seen = 0;
    for folder in ["labs", "bench", "chaos", "faults", "anomalies"] {
        let Ok(files) = std::fs::read_dir(root().join("scenarios").join(folder)) else { continue };
        for file in files {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "json") {
                if let Err(e) = scenario::load(&path) {
                    panic!("{e}");
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no scenario found");
}

/// Each broken file in `tests/broken` has its message beside it. `UPDATE_EXPECTED=1 cargo test` writes the messages.
#[test]
fn broken_files_are_refused_with_their_messages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    files.push(folder.join("a-file-that-does-not-exist.json"));
    files.sort();
    assert!(files.len() >= 12);
    for path in files {
        let shown = Path::new("tests/broken").join(path.file_name().unwrap());
        let result = match std::fs::read_to_string(&path) {
            Ok(text) => scenario::parse(&shown, text),
            Err(_) => scenario::load(&shown),
        };
        let message = match result {
            Err(e @ (LoadError::Refused { .. } | LoadError::Unreadable { .. })) => format!("{e}\n"),
            Ok(_) => panic!("{} was accepted", shown.display()),
        };
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected, &message).unwrap();
        }
        assert_eq!(message, std::fs::read_to_string(&expected).unwrap_or_default(), "{}", shown.display());
    }
}

#[test]
fn the_schema_knows_every_verb_and_is_the_one_in_the_tree() {
    let schema = scenario::format::schema();
    let steps = &schema["definitions"]["a step"]["properties"];
    for verb in scenario::format::VERBS {
        assert!(steps.get(verb).is_some(), "{verb}");
    }
    let path = root().join("scenarios/scenario.schema.json");
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        text,
        std::fs::read_to_string(&path).unwrap_or_default(),
        "run `highwater schema > scenarios/scenario.schema.json`"
    );
}

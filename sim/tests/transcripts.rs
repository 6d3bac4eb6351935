//! Sessions with Apache Kafka 4.3.1, as its own tools printed them, played again as `command` steps: every line of
//! output and every exit status is compared.
//!
//! `transcripts/session-N.txt` has the commands with what Kafka printed (`⇥` a TAB, `2> ` standard error, `exit N`, `…`
//! anything; log4j's times and stack frames were left out when it was written down), and between them what else
//! happens: `%` the head of the scenario, `!` a step, `=` the command line as it is run here, `<` a line of standard
//! input, `@` a file. What is by chance or by the clock is masked by the rules of `transcripts/rules.rs`; what differs
//! nevertheless is listed in `transcripts/different.txt` with the reason, and nothing else may.
//!
//! `TRANSCRIPTS=1` prints every difference.
#![cfg(madsim)]

#[path = "transcripts/rules.rs"]
mod rules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sim::runner::{self, RunOptions};
use sim::scenario::{self, Verb};

/// A command of a session.
#[derive(Debug, Default)]
struct Command {
    /// As it stands in the transcript.
    line: String,
    /// As it is run here.
    run: String,
    stdin: Vec<String>,
    files: BTreeMap<String, String>,
    stdout: Vec<String>,
    stderr: Vec<String>,
    exit: i32,
}

enum Item {
    Step(Value),
    Command(Command),
}

struct Session {
    head: Value,
    items: Vec<Item>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn text_of(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn session(name: &str) -> Session {
    let mut head = String::new();
    let mut items = Vec::new();
    for line in text_of(&format!("{name}.txt")).lines() {
        if let Some(text) = line.strip_prefix("% ").or_else(|| line.strip_prefix('%')) {
            head.push_str(text);
        } else if let Some(step) = line.strip_prefix("! ") {
            items.push(Item::Step(
                serde_json::from_str(&here(step)).unwrap_or_else(|e| panic!("{line}: {e}")),
            ));
        } else if let Some(command) = line.strip_prefix("$ ") {
            let (line, run) = (command.to_owned(), here(command));
            items.push(Item::Command(Command { line, run, ..Command::default() }));
        } else if !line.starts_with("# ")
            && let Some(Item::Command(command)) = items.last_mut()
        {
            command.read(line);
        }
    }
    Session { head: serde_json::from_str(&head).expect("the head of the session"), items }
}

/// The servers have other names here.
fn here(line: &str) -> String {
    let all = "broker-1:9092,broker-2:9092,broker-3:9092";
    let line = line.replace("--bootstrap-server B", &format!("--bootstrap-server {all}"));
    (1..=3).fold(line, |line, id| {
        line.replace(&format!("localhost:1909{}", id + 1), &format!("broker-{id}:9092"))
    })
}

impl Command {
    fn read(&mut self, line: &str) {
        let printed = |text: &str| text.replace('⇥', "\t");
        if let Some(run) = line.strip_prefix("= ") {
            self.run = here(run);
        } else if let Some(text) = line.strip_prefix("< ") {
            self.stdin.push(text.to_owned());
        } else if let Some((path, text)) = line.strip_prefix("@ ").and_then(|rest| rest.split_once(' ')) {
            self.files.insert(path.to_owned(), text.replace("\\n", "\n"));
        } else if let Some(text) = line.strip_prefix("2> ") {
            self.stderr.push(printed(text));
        } else if let Some(code) = line.strip_prefix("exit ") {
            self.exit = code.parse().expect("an exit status");
        } else {
            self.stdout.push(printed(line));
        }
    }

    fn step(&self) -> Value {
        let mut step = json!({ "command": self.run, "exit": self.exit, "timeout": "200s" });
        if !self.stdin.is_empty() {
            step["stdin"] = json!(self.stdin);
        }
        if !self.files.is_empty() {
            step["files"] = json!(self.files);
        }
        step
    }

    /// What was printed differently, as text for people.
    fn differs(&self, stdout: &str, stderr: &str, exit: Option<i32>) -> Option<String> {
        let ours = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let told: Vec<String> = [
            rules::compare(&self.line, "stdout", &self.stdout, &ours(stdout)),
            rules::compare(&self.line, "stderr", &self.stderr, &ours(stderr)),
            (exit != Some(self.exit)).then(|| format!("exit {exit:?}, expected {}", self.exit)),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!told.is_empty()).then(|| told.join("\n"))
    }
}

/// Plays a session; what differs, by the number of the command, and how many commands there are.
///
/// A command that exits otherwise ends a run, so its status is taken over and the session is played again.
fn play(name: &str) -> (BTreeMap<usize, String>, usize) {
    let session = session(name);
    let mut sheet = session.head.clone();
    sheet["steps"] = session
        .items
        .iter()
        .map(|item| match item {
            Item::Step(step) => step.clone(),
            Item::Command(command) => command.step(),
        })
        .collect();
    let sheet =
        scenario::parse(Path::new("session.json"), sheet.to_string()).unwrap_or_else(|e| panic!("{e}"));
    let mut scenario = sheet.variant(None).unwrap_or_else(|e| panic!("{e}"));
    let options = RunOptions { seed: 1, keep_disks: None, trace: false, reproduce: String::new() };
    let report = loop {
        let report = runner::run(&scenario, &options).unwrap().report;
        let Some(failed) = report.steps.iter().find(|step| step.held == Some(false)) else { break report };
        let exit = failed.output.as_ref().and_then(|output| output.exit);
        let step =
            scenario.steps.iter_mut().find(|step| step.index == failed.index).expect("a step of the file");
        match (&mut step.verb, exit) {
            (Verb::Command(command), Some(exit)) if command.exit != exit => command.exit = exit,
            _ => panic!("{name}, step {}: {}: {}", failed.index, failed.text, failed.detail),
        }
    };
    let mut different = BTreeMap::new();
    let mut number = 0;
    for (index, item) in session.items.iter().enumerate() {
        let Item::Command(command) = item else { continue };
        number += 1;
        let output =
            report.steps.iter().find(|step| step.index == index).and_then(|step| step.output.as_ref());
        let differs = match output {
            None => Some("it was not run".to_owned()),
            Some(output) => command.differs(&output.stdout, &output.stderr, output.exit),
        };
        if let Some(text) = differs {
            different.insert(number, format!("$ {}\n{text}", command.line));
        }
    }
    (different, number)
}

/// By session, the commands that may differ, with the reason.
fn known() -> BTreeMap<String, BTreeMap<usize, String>> {
    let mut known: BTreeMap<String, BTreeMap<usize, String>> = BTreeMap::new();
    for line in text_of("different.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let (session, number) = (words.next().unwrap(), words.next().unwrap().parse().expect("a number"));
        known
            .entry(session.to_owned())
            .or_default()
            .insert(number, words.next().expect("a reason").to_owned());
    }
    known
}

/// How many commands are equal, of how many.
fn check(name: &str) -> (usize, usize) {
    let (different, commands) = play(name);
    let equal = commands - different.len();
    if std::env::var_os("TRANSCRIPTS").is_some() {
        for (number, text) in &different {
            println!("--- {name} {number}: {text}");
        }
        println!("{name}: {equal} of {commands} commands are equal");
    }
    let known = known().remove(name).unwrap_or_default();
    for (number, text) in &different {
        assert!(known.contains_key(number), "{name}, command {number} differs from Kafka's:\n{text}");
    }
    for (number, reason) in known.iter().filter(|(_, reason)| !reason.starts_with("Perhaps")) {
        assert!(different.contains_key(number), "{name}, command {number} is equal, but listed: {reason}");
    }
    (equal, commands)
}

#[test]
fn the_tools_print_what_kafkas_tools_printed() {
    let (mut equal, mut commands) = (0, 0);
    for name in ["session-1", "session-2", "session-3"] {
        let (e, c) = check(name);
        equal += e;
        commands += c;
    }
    assert!(equal * 100 >= commands * 95, "only {equal} of {commands} commands are equal");
}

//! `highwater check`: the anomalies of Jepsen's Kafka workload in a history from elsewhere.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::refuse;
use crate::checkers::jepsen::{self, Case, Found, History, Options, SubVia, Verdict};
use crate::scenario::nearest::nearest;

/// Something was found that is not allowed.
const FOUND: u8 = 3;
/// So many cases of an anomaly are shown unless all are asked for.
const SHOWN: usize = 3;
/// So many characters of an operation are shown.
const WIDE: usize = 160;

/// Options of `highwater check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// A history in EDN, as `highwater run --edn` and Jepsen write it
    pub file: PathBuf,
    /// How all consumers came to their partitions; each as it asked for them itself unless given
    #[arg(long, value_enum)]
    pub sub_via: Option<Via>,
    /// Whether offsets also order writes; once without and once with them unless given
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub ww_deps: Option<bool>,
    /// Allow an anomaly besides what Kafka always allows
    #[arg(long, value_name = "NAME")]
    pub allow: Vec<String>,
    /// Allow nothing
    #[arg(long)]
    pub strict: bool,
    /// Show every case of each anomaly, and all of what is allowed
    #[arg(long)]
    pub all: bool,
    /// Print one JSON document and nothing else
    #[arg(long)]
    pub json: bool,
}

/// How consumers come to their partitions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Via {
    /// They take them
    Assign,
    /// A group hands them out
    Subscribe,
}

/// Checks a history.
pub fn check(args: &CheckArgs) -> u8 {
    let options = match options(args) {
        Ok(options) => options,
        Err(why) => return refuse(&why),
    };
    let path = args.file.display().to_string();
    let text = match read(&args.file) {
        Ok(text) => text,
        Err(why) => return refuse(&why),
    };
    let history = match History::parse(&text) {
        Ok(history) => history,
        Err(problem) => {
            let color = std::io::stderr().is_terminal();
            return refuse(&problem.render(&path, &text, color));
        }
    };
    if history.ops.is_empty() {
        return refuse(&format!(
            "error: {path}: no client's operation stands here\n  = help: such as {{:process 0, :type :invoke, :f :poll, :value [[:poll]]}}"
        ));
    }
    let verdict = jepsen::judge(&history, &options);
    let page = Page { path: &path, text: &text, history: &history, lines: Lines::of(&text) };
    if args.json {
        let document = serde_json::to_string(&page.json(&verdict)).expect("plain JSON");
        super::print(&(document + "\n"));
    } else {
        super::print(&page.tell(&verdict, args.all));
    }
    match (verdict.is_valid(), verdict.unknown.first()) {
        (false, _) => FOUND,
        (true, None) => 0,
        (true, Some(first)) => refuse(&page.unknown(*first)),
    }
}

fn options(args: &CheckArgs) -> Result<Options, String> {
    for name in &args.allow {
        let known = || jepsen::NAMES.iter().map(|(name, _)| *name);
        if !known().any(|known| known == name) {
            let help = match nearest(name, known()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("one of {}", known().collect::<Vec<_>>().join(", ")),
            };
            return Err(format!("error: --allow {name}: there is no such anomaly\n  = help: {help}"));
        }
    }
    Ok(Options {
        sub_via: args.sub_via.map(|via| match via {
            Via::Assign => SubVia::Assign,
            Via::Subscribe => SubVia::Subscribe,
        }),
        ww_deps: args.ww_deps,
        allow: args.allow.iter().cloned().collect(),
        strict: args.strict,
    })
}

fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| format!("error: {shown} cannot be read: {e}"))?;
    String::from_utf8(bytes).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        format!("error: {shown}:{line}:{column}: found bytes that are no UTF-8, expected EDN, which is text")
    })
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Lines(std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect())
    }

    /// From 1.
    fn number(&self, at: usize) -> usize {
        self.0.partition_point(|begin| *begin <= at)
    }
}

/// What is told of a history.
struct Page<'a> {
    path: &'a str,
    text: &'a str,
    history: &'a History,
    lines: Lines,
}

impl Page<'_> {
    fn tell(&self, verdict: &Verdict, all: bool) -> String {
        let mut page = format!("{}: {}\n", self.path, self.summary());
        let (allowed, bad): (Vec<&Found>, Vec<&Found>) =
            verdict.found.iter().partition(|f| f.allowed.is_some());
        let shown = if all { usize::MAX } else { SHOWN };
        for found in &bad {
            page.push_str(&self.found(found, shown));
        }
        if !allowed.is_empty() {
            page.push_str("\nFound and allowed:\n");
        }
        for found in allowed {
            let why = found.allowed.unwrap_or_default();
            page.push_str(&format!("  {} ({}): {why}\n", found.name, found.cases.len()));
            if all {
                found.cases.iter().for_each(|case| page.push_str(&self.case(case)));
            }
        }
        page.push_str(&match bad.as_slice() {
            [] => "\nNo anomaly was found that is not allowed.\n".to_owned(),
            bad => {
                let names: Vec<&str> = bad.iter().map(|found| found.name).collect();
                format!("\nNot allowed: {}\n", names.join(", "))
            }
        });
        page
    }

    fn summary(&self) -> String {
        let operations = self.history.ops.iter().filter(|op| op.kind == jepsen::Kind::Invoke).count();
        let mut processes: Vec<i64> = self.history.ops.iter().map(|op| op.process).collect();
        processes.sort_unstable();
        processes.dedup();
        let mut text = format!("{} of {}", count(operations, "operation"), count(processes.len(), "process"));
        if self.history.unclosed > 0 {
            text.push_str(&format!("; {} open at the end, taken for :info", self.history.unclosed));
        }
        let names = self.key_names();
        if !names.is_empty() {
            text.push_str(&format!("\n{}", names.join("\n")));
        }
        text
    }

    /// What the comments at the head say of the keys.
    fn key_names(&self) -> Vec<&str> {
        const MOST: usize = 16;
        let comments = self.text.lines().map_while(|line| line.trim_start().strip_prefix(';'));
        comments.map(str::trim).filter(|line| line.starts_with("key ")).take(MOST).collect()
    }

    fn found(&self, found: &Found, shown: usize) -> String {
        let what = jepsen::NAMES.iter().find(|(name, _)| *name == found.name).map_or("", |(_, what)| what);
        let mut text = format!("\n{} ({}): {what}\n", found.name, found.cases.len());
        found.cases.iter().take(shown).for_each(|case| text.push_str(&self.case(case)));
        if found.cases.len() > shown {
            text.push_str(&format!("  … and {} more; --all shows them\n", found.cases.len() - shown));
        }
        text
    }

    fn case(&self, case: &Case) -> String {
        let wrap = textwrap::Options::new(80).initial_indent("  ").subsequent_indent("  ");
        let mut text = textwrap::fill(&case.text, wrap) + "\n";
        for at in &case.ops {
            let op = &self.history.ops[*at];
            text.push_str(&format!("    line {}: {}\n", self.lines.number(op.span.start), self.source(*at)));
        }
        text
    }

    /// An operation as it stands in the file, on one line.
    fn source(&self, at: usize) -> String {
        let source = &self.text[self.history.ops[at].span.clone()];
        let mut line = String::new();
        for word in source.split_whitespace() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.extend(word.chars().take(WIDE + 1));
            if line.chars().count() > WIDE {
                line = line.chars().take(WIDE).collect();
                line.push('…');
                break;
            }
        }
        line
    }

    fn unknown(&self, (at, key, value): (usize, i64, i64)) -> String {
        let line = self.lines.number(self.history.ops[at].span.start);
        format!(
            "error: {}:{line}: the value {value} of key {key} is polled here, and no operation sends it: the history cannot be judged as a whole\n  = help: each value that is polled was sent by a :send or :txn of the same history",
            self.path
        )
    }

    fn json(&self, verdict: &Verdict) -> Value {
        let case = |case: &Case| {
            let ops: Vec<Value> = case
                .ops
                .iter()
                .map(|at| {
                    let op = &self.history.ops[*at];
                    json!({"line": self.lines.number(op.span.start), "process": op.process})
                })
                .collect();
            json!({"explanation": case.text, "operations": ops})
        };
        let found: Vec<Value> = verdict
            .found
            .iter()
            .map(|found| {
                let cases: Vec<Value> = found.cases.iter().map(case).collect();
                json!({"name": found.name, "allowed": found.allowed, "count": cases.len(), "cases": cases})
            })
            .collect();
        let unknown: Vec<Value> = verdict
            .unknown
            .iter()
            .map(|(at, key, value)| {
                let line = self.lines.number(self.history.ops[*at].span.start);
                json!({"line": line, "key": key, "value": value})
            })
            .collect();
        let valid = match (verdict.is_valid(), unknown.is_empty()) {
            (false, _) => json!(false),
            (true, true) => json!(true),
            (true, false) => json!("unknown"),
        };
        json!({"file": self.path, "valid": valid, "found": found, "never_sent": unknown})
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = match what {
        "process" => "processes",
        _ => "operations",
    };
    format!("{number} {}", if number == 1 { what } else { plural })
}

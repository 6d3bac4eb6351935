//! The `expect` step: a subject and what its fields must be.

use std::collections::BTreeMap;
use std::ops::Range;

use super::build::{Names, duration_of, partition_of, who};
use super::format::{SUBJECTS, expectation_fields};
use super::nearest::suggestion;
use super::tree::{Entry, Kind, Problem, Tree};
use super::units;
use super::{Expect, Subject, Want, Who};
use crate::checkers;

/// Refuses a name that no checker gives, neither in a run nor of a history.
pub(super) fn checker_name(name: &str, span: &Range<usize>) -> Result<(), Problem> {
    let mut known: Vec<&str> = checkers::NAMES.to_vec();
    known.extend(
        checkers::jepsen::NAMES.iter().map(|(name, _)| *name).filter(|n| !checkers::NAMES.contains(n)),
    );
    if known.contains(&name) {
        return Ok(());
    }
    let problem = Problem::new(span.clone(), format!("there is no checker \"{name}\""));
    Err(problem.help(suggestion(name, &known).unwrap_or_else(|| known.join(", "))))
}

/// Reads an expectation.
pub(super) fn expect(
    tree: &Tree,
    within: Option<&Tree>,
    holds_for: Option<&Tree>,
    names: &mut Names<'_>,
) -> Result<Expect, Problem> {
    let subject = subject_of(tree)?;
    let known = expectation_fields(&subject.key);
    let on = read_subject(subject, names)?;
    let mut fields = Vec::new();
    for entry in tree.entries().iter().filter(|e| e.key != subject.key) {
        if !known.contains(&entry.key.as_str()) {
            let problem = Problem::new(
                entry.key_span.clone(),
                format!("\"{}\" says nothing of a {}", entry.key, subject.key),
            );
            return Err(match suggestion(&entry.key, known) {
                Some(help) => problem.help(help),
                None => problem,
            });
        }
        let want = want(&entry.key, &subject.key, &entry.value, names)?;
        if let (Want::Rate { .. }, None) = (&want, within) {
            return Err(Problem::new(entry.key_span.clone(), format!("{} needs \"within\" beside expect", entry.key))
                .help("its window begins no earlier than the last step that changed something, so there is nothing to measure at once"));
        }
        fields.push((entry.key.clone(), want));
    }
    if fields.is_empty() && !matches!(on, Subject::Violation(_)) {
        return Err(Problem::new(
            tree.span.clone(),
            format!("an expectation on a {} without a field", subject.key),
        )
        .help(format!("fields: {}", known.join(", "))));
    }
    Ok(Expect { on, fields, within: within.map(duration_of), holds_for: holds_for.map(duration_of) })
}

/// The entry that says what an expectation is about. `partition` is a field when `node` is the subject.
fn subject_of(tree: &Tree) -> Result<&Entry, Problem> {
    if let Some(node) = tree.entries().iter().find(|e| e.key == "node") {
        return Ok(node);
    }
    let mut found = tree.entries().iter().filter(|e| SUBJECTS.contains(&e.key.as_str()));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(one), Some(two)) => Err(Problem::new(
            two.key_span.clone(),
            format!("an expectation on both a {} and a {}, expected one subject", one.key, two.key),
        )
        .help("two expectations without a wait between them hold at the same instant")),
        (None, _) => {
            Err(Problem::new(tree.span.start..tree.span.start + 1, "an expectation without a subject")
                .help(format!("subjects: {}", SUBJECTS.join(", "))))
        }
    }
}

fn read_subject(entry: &Entry, names: &mut Names<'_>) -> Result<Subject, Problem> {
    let text = entry.value.text();
    Ok(match entry.key.as_str() {
        "partition" => {
            let (topic, partition) = partition_of(text.expect("checked"), &entry.value.span)?;
            names.topic_used(&topic);
            Subject::Partition(topic, partition)
        }
        "topic" => {
            let topic = text.expect("checked").to_owned();
            names.topic_used(&topic);
            Subject::Topic(topic)
        }
        "client" => {
            let name = text.expect("checked").to_owned();
            let known: Vec<&str> =
                names.clients.iter().chain(&names.background).map(String::as_str).collect();
            if !known.contains(&name.as_str()) {
                let problem =
                    Problem::new(entry.value.span.clone(), format!("there is no client \"{name}\""));
                return Err(match suggestion(&name, &known) {
                    Some(help) => problem.help(help),
                    None => problem,
                });
            }
            Subject::Client(name)
        }
        "group" => Subject::Group(text.expect("checked").to_owned()),
        "quorum" => {
            if entry.value.boolean() != Some(true) {
                return Err(Problem::new(entry.value.span.clone(), "found false, expected \"quorum\": true"));
            }
            Subject::Quorum
        }
        "node" => Subject::Node(who(&entry.value, names)?),
        _ => {
            let name = word(&entry.value)?;
            let bare = if let Want::Not(inner) = &name { inner } else { &name };
            if let Want::Word(w) = bare {
                checker_name(w, &entry.value.span)?;
            }
            Subject::Violation(name)
        }
    })
}

/// What a field must be: by the field's kind.
fn want(field: &str, subject: &str, tree: &Tree, names: &mut Names<'_>) -> Result<Want, Problem> {
    if let Some(inner) = negated(tree) {
        return Ok(Want::Not(Box::new(want(field, subject, inner, names)?)));
    }
    match field {
        "leader" if subject != "quorum" => leader(tree, names),
        "isr" | "elr" | "voters" => set(tree, names),
        "replicas" => Ok(Want::Ordered(ids(tree, names)?)),
        "same_log" => tree.boolean().map(Want::Truth).ok_or_else(|| wrong(tree, "true or false")),
        "state" if subject == "node" => {
            let known = ["starting", "running", "fenced", "stopping", "paused", "down", "halted"];
            let found = tree.text().ok_or_else(|| wrong(tree, "a state"))?;
            if !known.contains(&found) {
                return Err(Problem::new(tree.span.clone(), format!("\"{found}\" is not a state of a node"))
                    .help(suggestion(found, &known).expect("few states")));
            }
            word(tree)
        }
        "state" if subject == "group" => group_state(tree),
        "assigned" => assigned(tree),
        "committed" if subject == "group" => committed(tree),
        "state" | "last_error" | "event" => word(tree),
        "partition" => {
            partition_of(tree.text().ok_or_else(|| wrong(tree, "a partition"))?, &tree.span)?;
            word(tree)
        }
        "acked_rate" | "received_rate" => rate(tree),
        "latency" => latencies(tree),
        "leader" => id(tree, names).map(Want::Id),
        _ => number(tree),
    }
}

/// The states of groups of both protocols.
const GROUP_STATES: [&str; 7] =
    ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Assigning", "Reconciling", "Dead"];

fn group_state(tree: &Tree) -> Result<Want, Problem> {
    let found = tree.text().ok_or_else(|| wrong(tree, "a state"))?;
    if !GROUP_STATES.contains(&found) {
        let problem = Problem::new(tree.span.clone(), format!("\"{found}\" is not a state of a group"));
        return Err(problem.help(suggestion(found, &GROUP_STATES).unwrap_or_else(|| GROUP_STATES.join(", "))));
    }
    word(tree)
}

/// Lists of partitions by the names of processes.
fn assigned(tree: &Tree) -> Result<Want, Problem> {
    let mut lists = BTreeMap::new();
    for entry in tree.entries() {
        let mut partitions = Vec::new();
        for item in entry.value.one_or_many() {
            let text = item.text().ok_or_else(|| wrong(item, "a partition"))?;
            partition_of(text, &item.span)?;
            partitions.push(text.to_owned());
        }
        partitions.sort();
        lists.insert(entry.key.clone(), partitions);
    }
    Ok(Want::Lists(lists))
}

/// Offsets by partition, or their sum.
fn committed(tree: &Tree) -> Result<Want, Problem> {
    let by_partition = tree.entries().iter().any(|e| !["at_least", "at_most"].contains(&e.key.as_str()));
    if !by_partition {
        return number(tree);
    }
    let mut each = BTreeMap::new();
    for entry in tree.entries() {
        partition_of(&entry.key, &entry.key_span)?;
        let want = match negated(&entry.value) {
            Some(inner) => Want::Not(Box::new(number(inner)?)),
            None => number(&entry.value)?,
        };
        each.insert(entry.key.clone(), want);
    }
    Ok(Want::Each(each, None))
}

fn wrong(tree: &Tree, expected: &str) -> Problem {
    Problem::new(tree.span.clone(), format!("found {}, expected {expected}", tree.what()))
}

/// `{ "not": … }`, alone.
fn negated(tree: &Tree) -> Option<&Tree> {
    match tree.entries() {
        [only] if only.key == "not" => Some(&only.value),
        _ => None,
    }
}

fn word(tree: &Tree) -> Result<Want, Problem> {
    if let Some(inner) = negated(tree) {
        return Ok(Want::Not(Box::new(word(inner)?)));
    }
    tree.text().map(|t| Want::Word(t.to_owned())).ok_or_else(|| wrong(tree, "a word"))
}

fn id(tree: &Tree, names: &mut Names<'_>) -> Result<Who, Problem> {
    match &tree.kind {
        Kind::Number(_) => match tree.integer() {
            Some(-1) => Ok(Who::Name("none".to_owned())),
            Some(n) => {
                let known: Vec<&str> =
                    names.nodes.iter().filter_map(|n| n.rsplit_once('-')).map(|(_, id)| id).collect();
                if known.contains(&n.to_string().as_str()) {
                    Ok(Who::Name(n.to_string()))
                } else {
                    Err(Problem::new(tree.span.clone(), format!("there is no node with the id {n}"))
                        .help(format!("ids: {}", known.join(", "))))
                }
            }
            None => Err(wrong(tree, "a broker id")),
        },
        Kind::Text(t) if t == "none" => Ok(Who::Name(t.clone())),
        Kind::Text(_) | Kind::Map(_) => who(tree, names),
        _ => Err(wrong(tree, "a broker id, a name kept with \"as\", or a reference")),
    }
}

fn ids(tree: &Tree, names: &mut Names<'_>) -> Result<Vec<Who>, Problem> {
    match &tree.kind {
        Kind::List(items) => items.iter().map(|i| id(i, names)).collect(),
        _ => Err(wrong(tree, "a list of broker ids")),
    }
}

fn leader(tree: &Tree, names: &mut Names<'_>) -> Result<Want, Problem> {
    match &tree.kind {
        Kind::List(_) => Ok(Want::AnyOf(ids(tree, names)?)),
        _ => id(tree, names).map(Want::Id),
    }
}

fn set(tree: &Tree, names: &mut Names<'_>) -> Result<Want, Problem> {
    match &tree.kind {
        Kind::Map(_) => {
            let mut part = |key: &str| tree.field(key).map_or(Ok(Vec::new()), |t| ids(t, names));
            Ok(Want::HasLacks(part("has")?, part("lacks")?))
        }
        _ => Ok(Want::Set(ids(tree, names)?)),
    }
}

/// A plain number, a duration in milliseconds, a rate per second.
fn quantity(tree: &Tree) -> Result<f64, Problem> {
    match &tree.kind {
        Kind::Number(n) => n.parse().map_err(|_| wrong(tree, "a number")),
        Kind::Text(t) => units::rate(t)
            .or_else(|| units::duration(t).map(|d| d.0 as f64 / 1e6))
            .ok_or_else(|| wrong(tree, "a number, a rate such as \"90/s\", or a duration such as \"5s\"")),
        _ => Err(wrong(tree, "a number")),
    }
}

fn bounds(tree: &Tree) -> Result<(Option<f64>, Option<f64>), Problem> {
    let bound = |key: &str| tree.field(key).map(quantity).transpose();
    let (low, high) = (bound("at_least")?, bound("at_most")?);
    if low.is_none() && high.is_none() {
        return Err(Problem::new(tree.span.clone(), "expected at_least, at_most or both"));
    }
    Ok((low, high))
}

fn number(tree: &Tree) -> Result<Want, Problem> {
    match &tree.kind {
        Kind::Map(_) => {
            let (low, high) = bounds(tree)?;
            Ok(Want::Between(low, high))
        }
        _ => quantity(tree).map(Want::Number),
    }
}

fn rate(tree: &Tree) -> Result<Want, Problem> {
    if let Some(inner) = tree.field("not") {
        return Err(wrong(inner, "at_least or at_most"));
    }
    let (at_least, at_most) = bounds(tree)?;
    Ok(Want::Rate { at_least, at_most, over: duration_of(tree.field("over").expect("checked")) })
}

fn latencies(tree: &Tree) -> Result<Want, Problem> {
    let mut each = BTreeMap::new();
    for entry in tree.entries().iter().filter(|e| e.key != "over") {
        let want = match negated(&entry.value) {
            Some(inner) => Want::Not(Box::new(number(inner)?)),
            None => number(&entry.value)?,
        };
        each.insert(entry.key.clone(), want);
    }
    if each.is_empty() {
        return Err(Problem::new(tree.span.clone(), "expected at least one of p50, p99, max"));
    }
    Ok(Want::Each(each, tree.field("over").map(duration_of)))
}

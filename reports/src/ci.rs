//! What a CI system is told of a run or a sweep: cases that passed or failed, each failure with its place in the
//! scenario's file. [`crate::junit`], [`crate::github`] and [`crate::sarif`] write it down.

use crate::{RunReport, StepReport, Verdict, ViolationReport};

/// A scenario, as a suite of tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Suite {
    /// The scenario.
    pub name: String,
    /// Its file, as CI systems find it: relative to where they work.
    pub file: String,
    /// Real time.
    pub seconds: f64,
    /// In order.
    pub cases: Vec<Case>,
}

/// Something that was to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Its name, unlike any other's of the suite.
    pub name: String,
    /// Real or virtual time that it took.
    pub seconds: f64,
    /// Its line in the file.
    pub line: usize,
    /// Whether it held.
    pub outcome: Outcome,
}

/// Whether a case held.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It did.
    Passed,
    /// It was not tried, and why.
    Skipped(String),
    /// It did not.
    Failed(Vec<Failure>),
}

/// Why a case did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was broken: a checker's name, or a verdict.
    pub rule: String,
    /// Whether the program failed, and not what it runs.
    pub error: bool,
    /// The line in the file to look at.
    pub line: usize,
    /// One line.
    pub message: String,
    /// More lines.
    pub detail: String,
    /// The command that shows it again.
    pub reproduce: String,
}

impl Failure {
    /// The detail with the command that shows it again.
    pub fn text(&self) -> String {
        let again = if self.reproduce.is_empty() { "" } else { "Reproduce with: " };
        format!("{}\n{again}{}", self.detail.trim_end(), self.reproduce).trim().to_owned()
    }
}

/// The line of the file that a failed run is shown at: that of the step that did not hold, or of the last one begun
/// before the first thing was found.
pub fn place(report: &RunReport) -> usize {
    let failed = report.steps.iter().find(|s| s.held == Some(false));
    let found = report.violations.iter().find(|v| v.promised).or(report.violations.first());
    let line = match (failed, found) {
        (Some(step), _) => step.line,
        (None, Some(found)) => line_at(report, found.at_seconds),
        (None, None) => report.steps.iter().rfind(|s| s.held.is_some()).map_or(1, |s| s.line),
    };
    line.max(1)
}

fn line_at(report: &RunReport, seconds: f64) -> usize {
    let begun = report.steps.iter().rfind(|s| s.held.is_some() && s.at_seconds <= seconds);
    begun.map_or(1, |step| step.line.max(1))
}

/// A run: a case for each step that checks something, one for what the checkers found, one for how it ended.
pub fn of_run(report: &RunReport, file: String) -> Suite {
    let mut name = report.scenario.clone();
    if let Some(variant) = &report.variant {
        name.push_str(&format!(" ({variant})"));
    }
    let mut cases: Vec<Case> =
        report.steps.iter().enumerate().filter_map(|(at, s)| step(report, at, s)).collect();
    cases.push(checkers(report));
    if report.verdict != Verdict::Violation && !cases.iter().any(|c| matches!(c.outcome, Outcome::Failed(_)))
    {
        cases.push(end(report));
    }
    Suite { name, file, seconds: report.wall_seconds, cases }
}

fn step(report: &RunReport, at: usize, step: &StepReport) -> Option<Case> {
    let checks = matches!(step.verb.as_str(), "expect" | "command");
    if !checks && step.held != Some(false) {
        return None;
    }
    let text = if step.text.is_empty() { &step.verb } else { &step.text };
    let outcome = match step.held {
        Some(true) => Outcome::Passed,
        None => Outcome::Skipped("a step before it did not hold".to_owned()),
        Some(false) => Outcome::Failed(vec![Failure {
            rule: "expectation".to_owned(),
            error: false,
            line: step.line.max(1),
            message: format!("step {} does not hold: {text}", step.index),
            detail: step.detail.clone(),
            reproduce: report.reproduce.clone(),
        }]),
    };
    // The place in the report tells repeated steps apart.
    Some(Case {
        name: format!("step {} #{at}: {text}", step.index),
        seconds: 0.0,
        line: step.line.max(1),
        outcome,
    })
}

fn checkers(report: &RunReport) -> Case {
    let failed = report.verdict == Verdict::Violation;
    let outcome = if failed {
        let mut failures: Vec<Failure> = report.violations.iter().map(|v| violation(report, v)).collect();
        if failures.is_empty() {
            // What `finally` wants found was not.
            failures.push(whole(report));
        }
        Outcome::Failed(failures)
    } else {
        Outcome::Passed
    };
    Case { name: "checkers".to_owned(), seconds: report.wall_seconds, line: 1, outcome }
}

fn violation(report: &RunReport, found: &ViolationReport) -> Failure {
    let promised = match (&found.reason, found.promised) {
        (_, true) => " although the configuration promised otherwise".to_owned(),
        (Some(reason), _) => format!(" ({reason})"),
        (None, _) => String::new(),
    };
    Failure {
        rule: found.name.clone(),
        error: false,
        line: line_at(report, found.at_seconds),
        message: format!("{} on {}{promised}", found.name, found.subject),
        detail: found.explanation.clone(),
        reproduce: report.reproduce.clone(),
    }
}

fn end(report: &RunReport) -> Case {
    let outcome = match report.verdict {
        Verdict::Pass => Outcome::Passed,
        _ => Outcome::Failed(vec![whole(report)]),
    };
    Case { name: "the end".to_owned(), seconds: 0.0, line: 1, outcome }
}

fn whole(report: &RunReport) -> Failure {
    let why = report.why.clone().unwrap_or_default();
    Failure {
        rule: report.verdict.word().to_owned(),
        error: matches!(report.verdict, Verdict::Crash | Verdict::Nondeterministic),
        line: place(report),
        message: format!("{}: {}", report.verdict.word(), why.lines().next().unwrap_or_default()),
        detail: why,
        reproduce: report.reproduce.clone(),
    }
}

#[cfg(test)]
pub(crate) fn example() -> Suite {
    let failure = Failure {
        rule: "lost-write".to_owned(),
        error: false,
        line: 12,
        message: "lost-write on purchases-0".to_owned(),
        detail: "shop-7 <&> was acknowledged.\nNobody found it: 100 %.".to_owned(),
        reproduce: "highwater run a.json --seed 7".to_owned(),
    };
    let case = |name: &str, outcome| Case { name: name.to_owned(), seconds: 0.25, line: 3, outcome };
    let cases = vec![
        case("step 1: expect", Outcome::Passed),
        case("checkers", Outcome::Failed(vec![failure.clone(), Failure { error: true, ..failure }])),
        case("step 2: expect", Outcome::Skipped("a step before it did not hold".to_owned())),
    ];
    Suite { name: "a".to_owned(), file: "scenarios/a.json".to_owned(), seconds: 0.5, cases }
}

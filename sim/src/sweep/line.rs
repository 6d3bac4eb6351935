//! What is kept of one run of a sweep: a line of JSON that other programs read, and that parts are merged from.

use std::collections::BTreeSet;

use reports::coverage::Sketch;
use reports::{RunReport, Verdict};
use serde_json::{Value, json};

use super::plan::Plan;

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The case's place in the plan.
    pub case: usize,
    /// The seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, in words; empty if it passed.
    pub why: String,
    /// `b3…`; empty if the run has none.
    pub digest: String,
    /// Virtual time.
    pub virtual_seconds: f64,
    /// Frames delivered.
    pub frames: u64,
    /// What the checkers found.
    pub violations: Vec<Found>,
    /// Names of the domain events.
    pub events: BTreeSet<String>,
    /// The states that the cluster was in.
    pub states: Sketch,
    /// The line of the scenario's file that a failure is shown at.
    pub place: usize,
}

/// Something that a checker found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The checker.
    pub name: String,
    /// Whether the configuration ruled it out.
    pub promised: bool,
    /// A partition, a client, the quorum.
    pub subject: String,
    /// When, in virtual seconds.
    pub at_seconds: f64,
    /// How many.
    pub count: u64,
}

/// Why a run did not pass, in words.
pub fn why(report: &RunReport) -> String {
    let failed_step = report.steps.iter().find(|s| s.held == Some(false));
    match (&report.why, failed_step, report.violations.iter().find(|v| v.promised)) {
        (Some(why), _, _) => why.clone(),
        (None, Some(step), _) => format!("step {} ({}): {}", step.index, step.verb, step.detail),
        (None, None, Some(v)) => format!("{} on {}: {}", v.name, v.subject, v.explanation),
        (None, None, None) => String::new(),
    }
}

impl Line {
    /// Of a run with a report.
    pub fn of(case: usize, report: &RunReport) -> Line {
        let violations = report.violations.iter().map(|v| Found {
            name: v.name.clone(),
            promised: v.promised,
            subject: v.subject.clone(),
            at_seconds: v.at_seconds,
            count: v.count,
        });
        Line {
            case,
            seed: report.seed,
            verdict: report.verdict,
            why: if report.verdict == Verdict::Pass { String::new() } else { why(report) },
            digest: report.digest.clone(),
            virtual_seconds: report.virtual_seconds,
            frames: report.frames,
            violations: violations.collect(),
            events: report.coverage.events.iter().map(|name| (*name).to_owned()).collect(),
            states: report.coverage.states.clone(),
            place: reports::ci::place(report),
        }
    }

    /// Of a run without one.
    pub fn failed(case: usize, seed: u64, verdict: Verdict, why: String) -> Line {
        Line {
            case,
            seed,
            verdict,
            why,
            digest: String::new(),
            virtual_seconds: 0.0,
            frames: 0,
            violations: Vec::new(),
            events: BTreeSet::new(),
            states: Sketch::default(),
            place: 1,
        }
    }

    /// The JSON object. It holds nothing that differs between two machines.
    pub fn to_json(&self, plan: &Plan) -> Value {
        let case = &plan.cases[self.case];
        let reproduce = (self.verdict != Verdict::Pass).then(|| plan.reproduce(self.seed, self.case));
        json!({
            "variant": case.variant,
            "matrix": case.matrix,
            "seed": self.seed,
            "verdict": self.verdict.word(),
            "why": self.why,
            "digest": self.digest,
            "virtual_seconds": round(self.virtual_seconds),
            "frames": self.frames,
            "violations": self.violations.iter().map(Found::to_json).collect::<Vec<_>>(),
            "events": self.events,
            "states": self.states.count(),
            "sketch": self.states.to_text(),
            "line": self.place,
            "reproduce": reproduce,
        })
    }

    /// Reads what [`Line::to_json`] wrote. An error says what is missing or does not belong to the plan.
    pub fn parse(text: &str, plan: &Plan) -> Result<Line, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| format!("not a line of JSON: {e}"))?;
        let lacks = |what: &str| format!("the line of a run lacks \"{what}\"");
        let number = |key: &str| value[key].as_u64().ok_or_else(|| lacks(key));
        let words = |key: &str| value[key].as_str().map(str::to_owned).ok_or_else(|| lacks(key));
        let list = |key: &str| value[key].as_array().ok_or_else(|| lacks(key));
        let matrix = value["matrix"].as_object().ok_or_else(|| lacks("matrix"))?;
        let (variant, seed) = (value["variant"].as_str(), number("seed")?);
        let of_plan = plan.cases.iter().position(|c| c.variant.as_deref() == variant && c.matrix == *matrix);
        let case = of_plan.filter(|_| (plan.seeds.0..=plan.seeds.1).contains(&seed)).ok_or_else(|| {
            let variant = variant.unwrap_or("none");
            format!(
                "seed {seed} with variant {variant} and matrix {} is no run of this sweep",
                value["matrix"]
            )
        })?;
        let verdict = words("verdict")?;
        let events: Option<BTreeSet<String>> =
            list("events")?.iter().map(|e| e.as_str().map(str::to_owned)).collect();
        Ok(Line {
            case,
            seed,
            verdict: Verdict::ALL
                .into_iter()
                .find(|v| v.word() == verdict)
                .ok_or_else(|| lacks("verdict"))?,
            why: words("why")?,
            digest: words("digest")?,
            virtual_seconds: value["virtual_seconds"].as_f64().ok_or_else(|| lacks("virtual_seconds"))?,
            frames: number("frames")?,
            violations: list("violations")?
                .iter()
                .map(Found::parse)
                .collect::<Option<_>>()
                .ok_or_else(|| lacks("violations"))?,
            events: events.ok_or_else(|| lacks("events"))?,
            states: Sketch::parse(&words("sketch")?).ok_or_else(|| lacks("sketch"))?,
            place: number("line")? as usize,
        })
    }
}

impl Found {
    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "promised": self.promised,
            "subject": self.subject,
            "at_seconds": round(self.at_seconds),
            "count": self.count,
        })
    }

    fn parse(value: &Value) -> Option<Found> {
        Some(Found {
            name: value["name"].as_str()?.to_owned(),
            promised: value["promised"].as_bool()?,
            subject: value["subject"].as_str()?.to_owned(),
            at_seconds: value["at_seconds"].as_f64()?,
            count: value["count"].as_u64()?,
        })
    }
}

/// To the millisecond.
pub fn round(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

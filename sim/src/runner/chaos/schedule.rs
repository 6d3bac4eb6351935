//! What chaos did, as steps of a scenario file, and a scenario with these steps in its place.

use reports::{RunReport, ScheduledStep};
use serde_json::{Value, json};
use wire::drive::Nanos;

use crate::scenario::units;

/// A step that chaos drew and played.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    /// The place of the `chaos` step in the file's list.
    pub chaos: usize,
    /// Since chaos began.
    pub at: Nanos,
    /// The step as a scenario file has it.
    pub step: Value,
}

impl Scheduled {
    /// For a report.
    pub fn report(&self) -> ScheduledStep {
        ScheduledStep { chaos: self.chaos, at_seconds: self.at.0 as f64 / 1e9, step: self.step.clone() }
    }
}

/// The JSON of a scenario file with each `chaos` replaced by what it did in one run, at the same instants: a run with the
/// same seed is the same run. A chaos inside a `repeat` cannot be replaced.
pub fn fixed(scenario: &Value, schedule: &[ScheduledStep]) -> Result<Value, String> {
    let mut fixed = scenario.clone();
    let steps = scenario["steps"].as_array().ok_or("a scenario without steps")?;
    let mut all = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let Some(chaos) = step.get("chaos") else {
            if step["repeat"].to_string().contains("\"chaos\":") {
                return Err(format!("step {index} repeats chaos, which no fixed steps can stand for"));
            }
            all.push(step.clone());
            continue;
        };
        let span = chaos["for"].as_str().and_then(units::duration).ok_or("chaos without its time")?;
        let mut now = 0;
        let mut wait = |until: u64, all: &mut Vec<Value>| {
            if until > now {
                all.push(json!({ "wait": format!("{}ns", until - now) }));
                now = until;
            }
        };
        for scheduled in schedule.iter().filter(|s| s.chaos == index) {
            wait((scheduled.at_seconds * 1e9).round() as u64, &mut all);
            all.push(scheduled.step.clone());
        }
        wait(span.0, &mut all);
    }
    if all.len() == steps.len() && all == *steps {
        return Ok(fixed);
    }
    fixed["steps"] = Value::Array(all);
    if !fixed["finally"].is_object() {
        fixed["finally"] = json!({});
    }
    fixed["finally"]["restore"] = json!(true);
    Ok(fixed)
}

/// The JSON of a scenario file with what its `swarm` drew in one run in place of the `swarm`.
pub fn settled(scenario: &Value, report: &RunReport) -> Value {
    let mut settled = scenario.clone();
    for (option, value) in &report.options {
        let Some((parent, key)) = option.strip_prefix("drawn ").and_then(|at| at.rsplit_once('/')) else {
            continue;
        };
        let value: Value = serde_json::from_str(value).unwrap_or(Value::Null);
        let key = key.replace("~1", "/").replace("~0", "~");
        match settled.pointer_mut(parent) {
            Some(Value::Object(object)) => {
                object.insert(key, value);
            }
            Some(Value::Array(list)) => {
                if let Some(at) = key.parse::<usize>().ok().and_then(|n| list.get_mut(n)) {
                    *at = value;
                }
            }
            _ => {}
        }
    }
    if let Some(object) = settled.as_object_mut() {
        object.remove("swarm");
    }
    settled
}

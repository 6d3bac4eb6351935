//! A scenario as a story: fixed steps, each with the time before it, and the rest of the sheet.
//!
//! Repetitions are written out, what took time is known from a run, expectations are left out (the time that they took
//! is kept). So a step can be taken away and all others still happen when they happened.

use reports::StepReport;
use serde_json::{Value, json};

/// A step and when it happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Nanoseconds since the step before it ended.
    pub gap: u64,
    /// Nanoseconds that it took.
    pub took: u64,
    /// As a file has it.
    pub step: Value,
}

/// The steps, and what else is in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// The file; its steps are not looked at.
    pub sheet: Value,
    /// In order.
    pub events: Vec<Event>,
    /// Nanoseconds after the last step.
    pub rest: u64,
}

impl Story {
    /// Of a file and a run of it. `keep_expectations`: they are what goes wrong.
    pub fn of(sheet: &Value, played: &[StepReport], keep_expectations: bool) -> Story {
        let mut steps = Vec::new();
        flatten(sheet["steps"].as_array().map_or(&[][..], Vec::as_slice), &[], &mut steps);
        let (mut events, mut gap, mut before) = (Vec::new(), 0, 0);
        for (step, report) in steps.into_iter().zip(played.iter().take_while(|s| s.held.is_some())) {
            let ended = (report.at_seconds * 1e9).round().max(0.0) as u64;
            let took = ended.saturating_sub(before);
            before = before.max(ended);
            let observes = step.get("expect").is_some() && !(keep_expectations && report.held == Some(false));
            let waits = step.get("wait").is_some() && step.get("stop").is_none();
            if observes || waits {
                gap += took;
                continue;
            }
            events.push(Event { gap, took, step: bare(step) });
            gap = 0;
        }
        Story { sheet: sheet.clone(), events, rest: gap }
    }

    /// The file.
    pub fn document(&self) -> Value {
        let mut steps = Vec::new();
        let wait = |ns: u64, steps: &mut Vec<Value>| {
            if ns > 0 {
                steps.push(json!({ "wait": span(ns) }));
            }
        };
        for event in &self.events {
            wait(event.gap, &mut steps);
            steps.push(event.step.clone());
        }
        wait(self.rest, &mut steps);
        let mut document = self.sheet.clone();
        document["steps"] = Value::Array(steps);
        document
    }

    /// How many steps the file has, waits among them.
    pub fn steps(&self) -> usize {
        let waits = self.events.iter().filter(|e| e.gap > 0).count() + usize::from(self.rest > 0);
        self.events.len() + waits
    }

    /// Without some events. `keep_time`: all others happen when they did.
    pub fn without(&self, range: std::ops::Range<usize>, keep_time: bool) -> Story {
        let mut story = self.clone();
        let time: u64 = story.events.drain(range.clone()).map(|e| e.gap + e.took).sum();
        if keep_time {
            *story.gap_mut(range.start) += time;
        }
        story
    }

    /// The time before an event; behind the last, the rest.
    pub fn gap_mut(&mut self, at: usize) -> &mut u64 {
        match self.events.get_mut(at) {
            Some(event) => &mut event.gap,
            None => &mut self.rest,
        }
    }

    /// The same, to read.
    pub fn gap(&self, at: usize) -> u64 {
        self.events.get(at).map_or(self.rest, |event| event.gap)
    }
}

/// A duration as a file has it, exact, in the largest unit that keeps it short.
pub fn span(ns: u64) -> String {
    let units = [(60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let (size, unit) = units.into_iter().find(|(size, _)| ns.is_multiple_of(*size)).unwrap_or((1, "ns"));
    format!("{}{unit}", ns / size)
}

/// Repetitions written out. What a repetition calls `as` is put in place of its name.
fn flatten(steps: &[Value], names: &[(String, Value)], all: &mut Vec<Value>) {
    for step in steps {
        let Some(repeat) = step.get("repeat") else {
            let mut step = step.clone();
            names.iter().for_each(|(name, who)| put(&mut step, name, who));
            all.push(step);
            continue;
        };
        let inner = repeat["steps"].as_array().map_or(&[][..], Vec::as_slice);
        match repeat["each"].as_array() {
            None => (0..repeat["times"].as_u64().unwrap_or(0)).for_each(|_| flatten(inner, names, all)),
            Some(each) => {
                for who in each {
                    let mut who = who.clone();
                    names.iter().for_each(|(name, bound)| put(&mut who, name, bound));
                    let name = repeat["as"].as_str().unwrap_or_default().to_owned();
                    flatten(inner, &[names, &[(name, who)]].concat(), all);
                }
            }
        }
    }
}

fn put(value: &mut Value, name: &str, who: &Value) {
    match value {
        Value::String(text) if text == name => *value = who.clone(),
        Value::Array(list) => list.iter_mut().for_each(|v| put(v, name, who)),
        Value::Object(map) => map.values_mut().for_each(|v| put(v, name, who)),
        _ => {}
    }
}

/// Without what is only told to people.
fn bare(mut step: Value) -> Value {
    if let Some(map) = step.as_object_mut() {
        for key in ["note", "section", "label", "only", "not_in"] {
            map.shift_remove(key);
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(at: &[f64]) -> Vec<StepReport> {
        let report = |at: &f64| StepReport { at_seconds: *at, held: Some(true), ..StepReport::default() };
        at.iter().map(report).collect()
    }

    #[test]
    fn a_file_becomes_a_story_and_a_file_again() {
        let sheet = json!({ "steps": [
            { "wait": "1s..5s" },
            { "kill": "broker-1", "note": "!" },
            { "expect": { "topic": "t", "isr_size": 2 }, "within": "20s" },
            { "repeat": { "each": ["broker-2", "broker-3"], "as": "node", "steps": [{ "stop": "node" }, { "wait": "1s" }] } },
        ] });
        let mut story = Story::of(&sheet, &played(&[2.5, 2.5, 9.0, 9.25, 10.25, 10.5, 11.5]), false);
        let steps = json!([
            { "wait": "2500ms" }, { "kill": "broker-1" },
            { "wait": "6500ms" }, { "stop": "broker-2" },
            { "wait": "1s" }, { "stop": "broker-3" },
            { "wait": "1s" },
        ]);
        assert_eq!(story.document()["steps"], steps);
        assert_eq!(story.steps(), 7);
        // What the stop took is time as well.
        assert_eq!(story.without(1..2, true).gap(1), 6_500_000_000 + 250_000_000 + 1_000_000_000);
        assert_eq!(story.without(0..2, false).gap(0), 1_000_000_000);
        *story.gap_mut(3) = 0;
        assert_eq!(story.steps(), 6);
    }

    #[test]
    fn spans_are_exact() {
        for (ns, text) in [(1, "1ns"), (1_500, "1500ns"), (2_000_000, "2ms"), (90_000_000_000, "90s")] {
            assert_eq!(span(ns), text);
            assert_eq!(crate::scenario::units::duration(text).unwrap().0, ns);
        }
    }
}

//! Tries smaller and smaller stories.

use std::collections::BTreeSet;

use rayon::prelude::*;
use reports::RunReport;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::goal::Goal;
use super::parts;
use super::story::Story;
use crate::runner::{self, RunOptions};
use crate::scenario::{self, Duration};
use crate::sweep::pool::interrupted;

/// How much may be spent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Real time.
    pub seconds: f64,
    /// Candidates at once; 0: as many as there are cores.
    pub jobs: usize,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Candidates that were run.
    pub attempts: u64,
    /// Steps of the best so far, waits among them.
    pub steps: usize,
    /// Its nodes.
    pub nodes: usize,
    /// Its clients.
    pub clients: usize,
    /// Its length.
    pub virtual_seconds: f64,
    /// What is tried.
    pub doing: &'static str,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The file.
    pub document: Value,
    /// Its run.
    pub report: RunReport,
    /// Where it began: the fixed schedule before anything was taken away.
    pub before: Progress,
    /// Where it ended.
    pub after: Progress,
    /// Whether nothing smaller was found, rather than the time being up.
    pub finished: bool,
}

/// Runs a file; says why, if it cannot be run.
pub fn attempt(document: &Value, seed: u64, limit: Option<Duration>) -> Result<RunReport, String> {
    let sheet =
        scenario::parse("shrunk.json".as_ref(), document.to_string()).map_err(|why| why.to_string())?;
    let mut scenario = sheet.variant(None).map_err(|why| why.to_string())?;
    if let Some(limit) = limit {
        scenario.limit = scenario.limit.min(limit);
    }
    let options = RunOptions { seed, keep_disks: None, trace: false, reproduce: String::new() };
    runner::run(&scenario, &options).map(|outcome| outcome.report).map_err(|why| format!("error: {why}"))
}

/// Shrinks a file whose run shows `goal`. `None` if it does not once its steps are fixed.
pub fn shrink(
    document: &Value,
    report: RunReport,
    seed: u64,
    goal: &Goal,
    limits: Limits,
    tell: &mut dyn FnMut(&Progress),
) -> Option<Shrunk> {
    let limit = Duration(((report.virtual_seconds * 1.5 + 120.0) * 1e9) as u64);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(limits.jobs).build().ok()?;
    let first = first_story(document, &report, seed, goal, limit)?;
    let taken = runner::stopwatch();
    let mut reducer = Reducer {
        goal,
        seed,
        limit,
        pool,
        out_of_time: Box::new(move || taken() > limits.seconds || interrupted()),
        tried: BTreeSet::new(),
        attempts: 0,
        best: first.0,
        report: first.1,
        doing: "",
        tell,
    };
    let before = reducer.progress();
    let finished = reducer.reduce();
    let after = reducer.progress();
    Some(Shrunk { document: reducer.best.document(), report: reducer.report, before, after, finished })
}

/// The file with fixed steps: exact waits in place of ranges and expectations; failing that, with the expectation that
/// went wrong; failing that, as it stands.
fn first_story(
    document: &Value,
    report: &RunReport,
    seed: u64,
    goal: &Goal,
    limit: Duration,
) -> Option<(Story, RunReport)> {
    for keep in [false, true] {
        let story = Story::of(document, &report.steps, keep);
        let report = attempt(&story.document(), seed, Some(limit)).ok();
        if let Some(report) = report.filter(|r| goal.shown_by(r)) {
            return Some((story, report));
        }
    }
    None
}

struct Reducer<'a> {
    goal: &'a Goal,
    seed: u64,
    limit: Duration,
    pool: rayon::ThreadPool,
    out_of_time: Box<dyn Fn() -> bool>,
    /// Hashes of the files that were run.
    tried: BTreeSet<u64>,
    attempts: u64,
    best: Story,
    report: RunReport,
    doing: &'static str,
    tell: &'a mut dyn FnMut(&Progress),
}

impl Reducer<'_> {
    fn progress(&self) -> Progress {
        let sheet = &self.best.sheet;
        let count = |value: &Value| match value {
            Value::Number(n) => n.as_u64().unwrap_or(0) as usize,
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        };
        let controllers = sheet["cluster"].get("controllers").map_or(1, count);
        Progress {
            attempts: self.attempts,
            steps: self.best.steps(),
            nodes: count(&sheet["cluster"]["brokers"]) + controllers,
            clients: count(&sheet["clients"]),
            virtual_seconds: self.report.virtual_seconds,
            doing: self.doing,
        }
    }

    /// Until nothing can be taken away any more (true), or the time is up.
    fn reduce(&mut self) -> bool {
        self.cut_off_after();
        loop {
            let before = self.best.clone();
            self.doing = "steps";
            self.events(true);
            self.events(false);
            self.pairs();
            self.doing = "waits";
            self.no_waits();
            self.doing = "nodes, topics, clients";
            self.parts();
            self.doing = "durations";
            self.durations();
            self.join();
            if (self.out_of_time)() {
                return false;
            }
            if self.best == before {
                return true;
            }
        }
    }

    /// Takes the first of the candidates that reaches the goal; says which one it was.
    fn first(&mut self, candidates: Vec<Story>) -> Option<usize> {
        let jobs = self.pool.current_num_threads();
        let mut fresh = Vec::new();
        for (at, story) in candidates.into_iter().enumerate() {
            let document = story.document();
            if self.tried.insert(xxh3_64(document.to_string().as_bytes())) {
                fresh.push((at, story, document));
            }
        }
        let mut fresh = fresh.into_iter();
        loop {
            let some: Vec<_> = fresh.by_ref().take(jobs).collect();
            if some.is_empty() || (self.out_of_time)() {
                return None;
            }
            let (seed, limit, goal) = (self.seed, self.limit, self.goal);
            let run =
                |document: &Value| attempt(document, seed, Some(limit)).ok().filter(|r| goal.shown_by(r));
            let reports: Vec<Option<RunReport>> =
                self.pool.install(|| some.par_iter().map(|(_, _, document)| run(document)).collect());
            self.attempts += some.len() as u64;
            let reached = some.into_iter().zip(reports).find_map(|((at, story, _), r)| Some((at, story, r?)));
            if let Some((at, story, report)) = reached {
                (self.best, self.report) = (story, report);
                let progress = self.progress();
                (self.tell)(&progress);
                return Some(at);
            }
            let progress = self.progress();
            (self.tell)(&progress);
        }
    }

    /// What happened after it went wrong had no part in it.
    fn cut_off_after(&mut self) {
        let Some((name, _)) = &self.goal.violation else { return };
        let Some(found) = self.report.violations.iter().find(|v| v.name == *name) else { return };
        let (mut now, until) = (0, (found.at_seconds * 1e9) as u64);
        let after = self.best.events.iter().position(|event| {
            now += event.gap;
            let later = now > until;
            now += event.took;
            later
        });
        if let Some(at) = after {
            let mut story = self.best.clone();
            story.events.truncate(at);
            story.rest = 0;
            let with_time = {
                let mut s = story.clone();
                s.rest = self.best.gap(at);
                s
            };
            self.first(vec![story, with_time]);
        }
    }

    /// Halves, quarters, … single events, the last first.
    fn events(&mut self, keep_time: bool) {
        let mut size = self.best.events.len().div_ceil(2).max(1);
        loop {
            let len = self.best.events.len();
            let starts = (0..len).step_by(size).rev();
            let without = |start: usize| self.best.without(start..(start + size).min(len), keep_time);
            let candidates: Vec<Story> = starts.map(without).collect();
            let more = self.first(candidates).is_some();
            if (self.out_of_time)() || !more && size == 1 {
                return;
            }
            if !more {
                size = size.div_ceil(2);
            }
            size = size.min(self.best.events.len().max(1));
        }
    }

    /// Two events that only go together: a kill and the start after it.
    fn pairs(&mut self) {
        loop {
            let mut candidates = Vec::new();
            for first in 0..self.best.events.len() {
                let names = names(&self.best.events[first].step);
                let later = (first + 1..self.best.events.len())
                    .filter(|at| !names_disjoint(&names, &self.best.events[*at].step));
                for second in later.take(3) {
                    let story = self.best.without(second..second + 1, true);
                    candidates.push(story.without(first..first + 1, true));
                }
            }
            if self.first(candidates).is_none() {
                return;
            }
        }
    }

    /// Steps at the same instant are fewer lines, and a shorter story.
    fn no_waits(&mut self) {
        let with = |story: &Story, at: usize| {
            let mut story = story.clone();
            *story.gap_mut(at) = 0;
            story
        };
        let mut none = self.best.clone();
        (0..=none.events.len()).for_each(|at| *none.gap_mut(at) = 0);
        self.first(vec![none]);
        let mut at = self.best.events.len() + 1;
        while at > 0 {
            at -= 1;
            if self.best.gap(at) > 0 {
                self.first(vec![with(&self.best, at)]);
            }
        }
    }

    /// Everything else, as long as anything can be taken away.
    fn parts(&mut self) {
        loop {
            let (mut at, mut any) = (0, false);
            loop {
                let sheets = parts::candidates(&self.best.sheet);
                if at >= sheets.len() {
                    break;
                }
                let with = |sheet: Value| Story { sheet, ..self.best.clone() };
                match self.first(sheets.into_iter().skip(at).map(with).collect()) {
                    // What came before was tried with the larger sheet, and is again in the next round.
                    Some(taken) => (at, any) = (at + taken, true),
                    None => break,
                }
            }
            if !any || (self.out_of_time)() {
                return;
            }
        }
    }

    /// The shortest round time before each event with which it still goes wrong.
    fn durations(&mut self) {
        for at in (0..=self.best.events.len()).rev() {
            let now = self.best.gap(at);
            let round = (6..12).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
            let mut times: Vec<u64> = round.filter(|time| *time < now).collect();
            // If none of them does: the same, to a second, a tenth of it, …
            for unit in [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 1_000] {
                times.extend([now / unit * unit, now.div_ceil(unit) * unit].into_iter().filter(|t| *t > 0));
            }
            let simpler = |time: &u64| *time < now || digits(*time) < digits(now);
            let with = |time: u64| {
                let mut story = self.best.clone();
                *story.gap_mut(at) = time;
                story
            };
            let candidates: Vec<Story> = times.into_iter().filter(simpler).map(with).collect();
            self.first(candidates);
        }
    }

    /// Two steps that do the same to two nodes are one.
    fn join(&mut self) {
        let mut at = 1;
        while at < self.best.events.len() {
            let joined = joined(&self.best.events[at - 1].step, &self.best.events[at].step);
            let candidate = joined.map(|step| {
                let mut story = self.best.clone();
                story.events.remove(at);
                story.events[at - 1].step = step;
                story
            });
            if self.first(candidate.into_iter().collect()).is_none() {
                at += 1;
            }
        }
    }
}

/// How many digits a duration is written with.
fn digits(ns: u64) -> usize {
    super::story::span(ns).chars().filter(char::is_ascii_digit).count()
}

/// All texts of a step: who it is about, among others.
fn names(step: &Value) -> BTreeSet<String> {
    fn collect(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => drop(names.insert(text.clone())),
            Value::Array(list) => list.iter().for_each(|v| collect(v, names)),
            Value::Object(map) => map.values().for_each(|v| collect(v, names)),
            _ => {}
        }
    }
    let mut all = BTreeSet::new();
    collect(step, &mut all);
    all
}

fn names_disjoint(known: &BTreeSet<String>, step: &Value) -> bool {
    names(step).is_disjoint(known)
}

/// One step for two with the same verb on nodes, if nothing else is different.
fn joined(first: &Value, second: &Value) -> Option<Value> {
    const VERBS: [&str; 6] = ["kill", "start", "stop", "pause", "resume", "power_off"];
    let (a, b) = (first.as_object()?, second.as_object()?);
    let verb = VERBS.into_iter().find(|verb| a.contains_key(*verb) && b.contains_key(*verb))?;
    let others = |map: &serde_json::Map<String, Value>| {
        map.iter().filter(|(key, _)| *key != verb).map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
    };
    if others(a) != others(b) || a.contains_key("as") {
        return None;
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let mut step = a.clone();
    step[verb] = Value::Array([list(&a[verb]), list(&b[verb])].concat());
    Some(Value::Object(step))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_that_join() {
        assert_eq!(
            joined(&json!({ "kill": "a" }), &json!({ "kill": ["b", "c"] })),
            Some(json!({ "kill": ["a", "b", "c"] }))
        );
        assert_eq!(joined(&json!({ "kill": "a" }), &json!({ "stop": "b" })), None);
        assert_eq!(joined(&json!({ "stop": "a", "wait": false }), &json!({ "stop": "b" })), None);
    }

    #[test]
    fn a_step_is_about_whom_it_names() {
        let names = names(&json!({ "cut": { "between": [["broker-1"], "rest"] } }));
        assert!(!names_disjoint(&names, &json!({ "start": "broker-1" })));
        assert!(names_disjoint(&names, &json!({ "start": "broker-2" })));
    }
}

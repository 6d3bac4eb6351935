//! Looking for a mutant: general scenarios, seed after seed, until the checker named for it fires.
//!
//! The exploration is blind: no step of it was made for a mutant, and it knows nothing of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use reports::{RunReport, Verdict};

use super::catalogue::{CATALOGUE, Entry, UNPROVEN};
use super::{Mutant, addition};
use crate::runner::{self, RunOptions};
use crate::scenario::{self, Scenario};

/// The scenarios that explore, in the order in which they are tried.
pub const SCENARIOS: [&str; 8] =
    ["replication", "transactions", "chaos", "quorum", "groups", "unclean", "late", "elections"];

/// Those in which nothing is excused: no disk loses anything, and unclean elections are allowed on one topic only.
const STRICT: [&str; 2] = ["replication", "transactions"];

/// The topic on which those let records be lost: acks=1 and unclean elections.
const SCRAP: &str = "scrap-";

/// What is looked for, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    /// The mutant; none: nothing may be found.
    pub mutant: Option<Mutant>,
    /// Seconds of real time.
    pub budget_seconds: f64,
    /// Runs at once.
    pub jobs: usize,
}

/// Where a checker fired first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The checker.
    pub checker: String,
    /// The scenario's name.
    pub scenario: &'static str,
    /// The seed.
    pub seed: u64,
}

/// What a hunt gave.
#[derive(Clone, Debug)]
pub struct Result {
    /// The mutant.
    pub mutant: Option<Mutant>,
    /// Where one of the checkers named for it fired.
    pub caught: Option<Caught>,
    /// How many runs it took.
    pub runs: u64,
    /// How many seconds of real time.
    pub seconds: f64,
    /// All that was found meanwhile: names, with the number of runs and the first run.
    pub found: BTreeMap<String, (u64, &'static str, u64)>,
}

impl Result {
    /// One line about it.
    pub fn line(&self) -> String {
        let name = self.mutant.map_or("(none)", Mutant::name);
        let caught = match &self.caught {
            Some(c) => format!("{} in {} seed {}", c.checker, c.scenario, c.seed),
            None => "NOT CAUGHT".to_owned(),
        };
        let found: Vec<String> = self
            .found
            .iter()
            .map(|(name, (runs, at, seed))| format!("{name} {runs}x ({at} {seed})"))
            .collect();
        format!("{name}: {caught}; {} runs, {:.1} s; {}", self.runs, self.seconds, found.join(", "))
    }
}

/// The file of an exploring scenario.
pub fn path(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    root.join(format!("scenarios/explore/{name}.json"))
}

/// An exploring scenario, with a mutant.
pub fn scenario(name: &str, mutant: Option<Mutant>) -> Scenario {
    let sheet = scenario::load(&path(name)).expect("a scenario of the project loads");
    let names: Vec<String> = mutant.iter().map(|m| m.name().to_owned()).collect();
    let changes: Vec<String> = addition(&[], &names).into_iter().collect();
    sheet.with_overrides(None, &changes).expect("a mutant that is known")
}

/// What was found in one run that nothing excuses: names of checkers, or of another end that is not good.
pub fn findings(scenario: &Scenario, seed: u64) -> Vec<String> {
    let options = RunOptions { seed, keep_disks: None, trace: false, reproduce: String::new() };
    match runner::run(scenario, &options) {
        Ok(outcome) => names(&outcome.report, STRICT.contains(&scenario.name.as_str())),
        Err(why) => vec![format!("error: {why}")],
    }
}

fn names(report: &RunReport, strict: bool) -> Vec<String> {
    // Strict: an election that must not have been excuses nothing, since it was made impossible.
    let counts = report.violations.iter().filter(|v| v.promised || strict && !v.subject.starts_with(SCRAP));
    let mut names: Vec<String> = counts.map(|v| v.name.clone()).collect();
    match report.verdict {
        Verdict::Crash => names.push("assertion".to_owned()),
        Verdict::Liveness => names.push("liveness".to_owned()),
        Verdict::Expectation => names.push(format!("step: {}", report.why.as_deref().unwrap_or(""))),
        Verdict::Pass | Verdict::Violation | Verdict::Nondeterministic => {}
    }
    names.sort();
    names.dedup();
    names
}

/// The entry of a mutant.
pub fn entry(mutant: Mutant) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|e| e.mutant == mutant.name())
}

/// Sweeps the scenarios in turn until a checker that is named for the mutant fires, or time is up.
pub fn explore(hunt: &Hunt) -> Result {
    let entry = hunt.mutant.and_then(entry);
    let scenarios: Vec<(&'static str, Scenario)> =
        SCENARIOS.iter().map(|name| (*name, scenario(name, hunt.mutant))).collect();
    let taken = runner::stopwatch();
    // The number of the first run in which it was caught: those before it are still awaited, so that the answer does not
    // depend on who was faster.
    let (next, runs, first) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let all = Mutex::new((BTreeMap::new(), BTreeMap::new()));
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::SeqCst);
            if n > first.load(Ordering::SeqCst) || taken() >= hunt.budget_seconds {
                return;
            }
            let (name, scenario) = &scenarios[(n % scenarios.len() as u64) as usize];
            let seed = n / scenarios.len() as u64 + 1;
            let found = findings(scenario, seed);
            runs.fetch_add(1, Ordering::SeqCst);
            let mut all = all.lock().expect("nobody panics with it");
            for checker in found {
                all.1.entry(checker.clone()).or_insert((0, *name, seed)).0 += 1;
                if entry.is_some_and(|e| e.checkers.contains(&checker.as_str())) {
                    first.fetch_min(n, Ordering::SeqCst);
                    all.0.entry(n).or_insert(Caught { checker, scenario: name, seed });
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..hunt.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let (mut caught, found): (BTreeMap<u64, Caught>, _) = all.into_inner().expect("nobody panicked with it");
    let caught = caught.pop_first().map(|(_, caught)| caught);
    Result { mutant: hunt.mutant, caught, runs: runs.into_inner(), seconds: taken(), found }
}

/// Runs the scenarios (all of them, if none is named) with the seeds from 1 to `seeds` and without a mutant. What was
/// found, which is nothing if all is well.
pub fn silence(names: &[&str], seeds: u64, jobs: usize) -> Vec<String> {
    let wanted = SCENARIOS.into_iter().filter(|name| names.is_empty() || names.contains(name));
    let scenarios: Vec<(&'static str, Scenario)> = wanted.map(|name| (name, scenario(name, None))).collect();
    let (next, loud) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::SeqCst);
            let (seed, at) = (n / scenarios.len() as u64 + 1, n % scenarios.len() as u64);
            if seed > seeds {
                return;
            }
            let (name, scenario) = &scenarios[at as usize];
            let found = findings(scenario, seed);
            if !found.is_empty() {
                loud.lock().expect("nobody panics with it").insert((at, seed), (*name, found));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(work);
        }
    });
    let loud = loud.into_inner().expect("nobody panicked with it");
    loud.into_iter().map(|((_, seed), (name, found))| format!("{name} seed {seed}: {found:?}")).collect()
}

/// Why exploration need not find a mutant, if it need not.
pub fn unproven(mutant: Mutant) -> Option<&'static str> {
    UNPROVEN.iter().find(|(name, _)| *name == mutant.name()).map(|(_, why)| *why)
}

/// `mutants.md`.
pub fn document(results: &[Result]) -> String {
    let mut text = String::from(HEAD);
    for result in results {
        let Some(mutant) = result.mutant.filter(|mutant| unproven(*mutant).is_none()) else { continue };
        let (checker, run) = match &result.caught {
            Some(c) => (format!("`{}`", c.checker), format!("{} {}", c.scenario, c.seed)),
            None => ("not caught".to_owned(), "-".to_owned()),
        };
        text.push_str(&format!(
            "| `{}` | {} | {} | {checker} | {run} | {} | {:.1} |\n",
            mutant.name(),
            mutant.story(),
            mutant.origin(),
            result.runs,
            result.seconds
        ));
    }
    text.push_str(UNPROVEN_HEAD);
    for mutant in Mutant::all() {
        let Some(why) = unproven(mutant) else { continue };
        text.push_str(&format!(
            "| `{}` | {} | {} | {why} |\n",
            mutant.name(),
            mutant.story(),
            mutant.origin()
        ));
    }
    text
}

const UNPROVEN_HEAD: &str = "
These can be switched on as well, and no checker is held to finding them:

| mutant | what it does | from | why not |
| --- | --- | --- | --- |
";

const HEAD: &str = "\
# Mutants

A checker that has never fired proves nothing. Each of these bugs can be switched on (`cluster.mutants` in a scenario,
`--mutant NAME` of `highwater run` and `sweep`), and is found by blind exploration: the scenarios in `scenarios/explore`
know nothing of mutants, and are swept from seed 1 on, in turn, until the checker that is named for the mutant fires.
Without a mutant nothing fires. Written by `cargo run --release -p highwater-sim --example mutants -- --write`; runs and
seconds are those of two cores that were not alone.

| mutant | what it does | from | found by | first in | runs | seconds |
| --- | --- | --- | --- | --- | --- | --- |
";

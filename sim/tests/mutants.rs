//! Every mutant of the catalogue is caught by the checker that is named for it, and without a mutant there is silence.
//!
//! Each is caught here in one run that blind exploration has found (`sim/src/mutants/catalogue.rs`), so that the test is
//! quick. The exploration itself, from seed 1 on and at most a minute for each, is the example `mutants`:
//! `cargo run --release -p highwater-sim --example mutants -- --budget 60`.
#![cfg(all(madsim, feature = "mutants"))]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use sim::mutants::Mutant;
use sim::mutants::catalogue::{CATALOGUE, UNPROVEN};
use sim::mutants::hunt;
use sim::scenario::Scenario;

/// Does things on all cores; what they say, in order.
fn all<T: Send + Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(0);
    let done = Mutex::new(BTreeMap::new());
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let at = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next - 1
                    };
                    let Some(thing) = things.get(at) else { return };
                    let result = work(thing);
                    done.lock().unwrap().insert(at, result);
                }
            });
        }
    });
    done.into_inner().unwrap().into_values().collect()
}

#[test]
fn mutants_are_each_caught_by_the_checker_named_for_it() {
    let missed: Vec<String> = all(CATALOGUE, |entry| {
        let mutant = Mutant::find(entry.mutant).expect("a mutant of the catalogue exists");
        let (name, seed) = entry.run;
        let found = hunt::findings(&hunt::scenario(name, Some(mutant)), seed);
        let caught = found.iter().any(|f| entry.checkers.contains(&f.as_str()));
        (!caught).then(|| {
            format!("{mutant} in {name} seed {seed}: expected one of {:?}, found {found:?}", entry.checkers)
        })
    })
    .into_iter()
    .flatten()
    .collect();
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
}

#[test]
fn mutants_off_there_is_silence() {
    let scenarios: BTreeMap<&str, Scenario> =
        hunt::SCENARIOS.iter().map(|name| (*name, hunt::scenario(name, None))).collect();
    // The very runs in which mutants are caught.
    let runs: BTreeSet<(&str, u64)> = CATALOGUE.iter().map(|entry| entry.run).collect();
    let runs: Vec<(&str, u64)> = runs.into_iter().collect();
    let loud: Vec<String> = all(&runs, |(name, seed)| {
        let found = hunt::findings(&scenarios[name], *seed);
        (!found.is_empty()).then(|| format!("{name} seed {seed}: {found:?}"))
    })
    .into_iter()
    .flatten()
    .collect();
    assert!(loud.is_empty(), "found without a mutant:\n{}", loud.join("\n"));
}

#[test]
fn mutants_are_each_in_one_list_and_thirty_are_proven() {
    let proven = CATALOGUE.iter().map(|entry| entry.mutant);
    let mut listed: Vec<&str> = proven.chain(UNPROVEN.iter().map(|(name, _)| *name)).collect();
    listed.sort_unstable();
    let mut all: Vec<&str> = Mutant::all().map(Mutant::name).collect();
    all.sort_unstable();
    assert_eq!(listed, all);
    assert!(CATALOGUE.len() >= 30);
}

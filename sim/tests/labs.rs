//! The labs through the library: every one ends as it promises, over a few seeds; `highwater sweep` runs a thousand.

use std::path::Path;
use std::sync::Arc;

use reports::Verdict;
use sim::runner::play::{Player, Stop};
use sim::runner::{self, RunOptions, build};
use sim::scenario::{self, Scenario};
use sim::world;

fn sheet(name: &str) -> scenario::Sheet {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scenarios/labs/{name}.json"));
    scenario::load(&path).unwrap_or_else(|e| panic!("{e}"))
}

fn options(seed: u64) -> RunOptions {
    RunOptions { seed, keep_disks: None, trace: false, reproduce: String::new() }
}

fn passes(scenario: &Scenario, seed: u64) {
    let report = runner::run(scenario, &options(seed)).unwrap().report;
    let variant = scenario.variant.as_deref().unwrap_or("as it stands");
    let page = reports::terminal::render(&report);
    assert_eq!(report.verdict, Verdict::Pass, "{} ({variant}), seed {seed}:\n{page}", scenario.name);
}

/// The scenarios of a folder, all their variants.
fn all_of(folder: &str) -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let sheet = scenario::load(&path).unwrap_or_else(|e| panic!("{e}"));
        let variants: Vec<Option<&str>> =
            std::iter::once(None).chain(sheet.variants.iter().map(|v| Some(v.as_str()))).collect();
        all.extend(variants.into_iter().map(|variant| sheet.variant(variant).unwrap()));
    }
    all
}

#[test]
fn every_lab_and_variant_ends_as_it_promises() {
    let labs = all_of("labs");
    assert!(labs.len() >= 24, "only {} labs", labs.len());
    for scenario in labs {
        for seed in [1, 2] {
            passes(&scenario, seed);
        }
    }
}

/// The file by which the scenario format is explained.
#[test]
fn the_example_of_the_format_ends_as_it_promises() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/example.json");
    let sheet = scenario::load(&path).unwrap_or_else(|e| panic!("{e}"));
    for seed in 1..=3 {
        passes(&sheet.variant(None).unwrap(), seed);
    }
}

#[test]
fn whoever_dies_at_whatever_instant() {
    for scenario in all_of("kills") {
        for seed in 1..=3 {
            passes(&scenario, seed);
        }
    }
}

/// Virtual seconds from a step to the first timeline entry that contains a text.
fn seconds_from(report: &reports::RunReport, step: &str, text: &str) -> f64 {
    let at = |t: &str| {
        report.timeline.iter().find(|e| e.text.contains(t)).unwrap_or_else(|| panic!("no {t}")).at_seconds
    };
    at(text) - at(step)
}

#[test]
fn a_kill_takes_nine_seconds_and_a_stop_less_than_one() {
    for seed in 1..=3 {
        let killed =
            runner::run(&sheet("kill-broker-1").variant(None).unwrap(), &options(seed)).unwrap().report;
        let failover = seconds_from(&killed, "kill broker-1", "purchases-0: leader 1 -> 2");
        assert!((8.5..=10.5).contains(&failover), "seed {seed}: {failover} s");
        let stopped =
            runner::run(&sheet("stop-broker-1").variant(None).unwrap(), &options(seed)).unwrap().report;
        let handover = seconds_from(&stopped, "stop broker-1", "purchases-0: leader 1 -> 2");
        assert!(handover < 1.0, "seed {seed}: {handover} s");
    }
}

/// Plays a scenario up to a step, clones world and player there, and plays both on.
fn digests_of_a_clone(scenario: &Scenario, seed: u64, at: usize) -> (String, String) {
    let scenario = Arc::new(scenario.clone());
    let player = Player::new(scenario.clone(), seed);
    let world = build::world(&scenario, seed).unwrap();
    let (world, player) = world::run(world, async move |stage| {
        let mut player = player;
        player.begin(stage).await?;
        while player.played() < at && player.step(stage).await? {}
        Ok::<Player, Stop>(player)
    })
    .unwrap();
    let player = player.unwrap();
    let rest = |world: world::World, player: Player| {
        let (world, ended) = world::run(world, async move |stage| {
            let mut player = player;
            while player.step(stage).await? {}
            player.finish(stage).await
        })
        .unwrap();
        ended.unwrap();
        world.digest().end
    };
    (rest(world.clone(), player.clone()), rest(world, player))
}

#[test]
fn a_world_that_was_cloned_at_any_step_ends_with_the_same_digest() {
    let scenario = sheet("kill-broker-1").variant(None).unwrap();
    let never_cloned = runner::run(&scenario, &options(7)).unwrap().trail.end;
    let steps = Player::new(Arc::new(scenario.clone()), 7).len();
    assert!(steps >= 10);
    for at in 0..10 {
        let (clone, original) = digests_of_a_clone(&scenario, 7, at);
        assert_eq!(clone, never_cloned, "cloned before step {at}");
        assert_eq!(original, never_cloned, "run on after being cloned before step {at}");
    }
}

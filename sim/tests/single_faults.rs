//! Every single fault through the front door: each scenario in `scenarios/single-faults` and each of its variants ends as
//! it promises, and what cannot be is refused in words.

use std::path::Path;
use std::sync::Arc;

use reports::{RunReport, Verdict};
use sim::runner::hostile::frames::ATTACKS;
use sim::runner::hostile::{Counts, Hostile};
use sim::runner::play::{Player, Stop};
use sim::runner::{self, RunOptions, build};
use sim::{scenario, world};

fn run(scenario: &scenario::Scenario, seed: u64) -> RunReport {
    let options = RunOptions { seed, keep_disks: None, trace: false, reproduce: String::new() };
    runner::run(scenario, &options).unwrap().report
}

/// The sheet of one kind of fault, with all its variants.
fn ends_as_it_promises(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scenarios/single-faults/{name}.json"));
    let sheet = scenario::load(&path).unwrap_or_else(|e| panic!("{e}"));
    for variant in std::iter::once(None).chain(sheet.variants.iter().map(|v| Some(v.as_str()))) {
        let report = run(&sheet.variant(variant).unwrap(), 1);
        let page = reports::terminal::render(&report);
        assert_eq!(report.verdict, Verdict::Pass, "{name} ({}):\n{page}", variant.unwrap_or("as it stands"));
    }
}

#[test]
fn every_scenario_of_the_folder_is_played_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/single-faults");
    let here = include_str!("single_faults.rs");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(here.contains(&format!("(\"{name}\")")), "{name} is played by no test");
    }
}

#[test]
fn a_log_directory_fails_and_the_broker_lives_on() {
    ends_as_it_promises("disk-write-error");
}

#[test]
fn a_node_halts_without_its_metadata_log_or_its_last_directory() {
    ends_as_it_promises("disk-metadata-dir");
}

#[test]
fn a_disk_that_stalls_costs_the_leadership() {
    ends_as_it_promises("disk-slow");
}

#[test]
fn flipped_bits_are_found_by_whoever_reads_them() {
    ends_as_it_promises("disk-bit-flip");
}

#[test]
fn a_sync_that_lies_loses_what_was_acknowledged() {
    ends_as_it_promises("disk-lying-sync");
}

#[test]
fn a_stale_disk_is_caught_up_and_that_of_another_refused() {
    ends_as_it_promises("disk-stale");
}

#[test]
fn the_network_does_what_networks_do() {
    ends_as_it_promises("links");
}

#[test]
fn processes_crash_in_loops_freeze_and_lose_their_disks() {
    ends_as_it_promises("processes");
}

#[test]
fn time_outs_do_not_read_wall_clocks() {
    ends_as_it_promises("clocks");
}

#[test]
fn a_hostile_client_stops_nobody() {
    ends_as_it_promises("hostile-client");
}

#[test]
fn a_hostile_client_does_all_that_it_can() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/single-faults/hostile-client.json");
    let scenario = Arc::new(scenario::load(&path).unwrap().variant(None).unwrap());
    let mut player = Player::new(scenario.clone(), 3);
    let world = build::world(&scenario, 3).unwrap();
    let (_, counts) = world::run(world, async move |stage| {
        player.begin(stage).await?;
        while player.played() < 3 && player.step(stage).await? {}
        let mallory = stage.world().proc("mallory").expect("it was started");
        let machine = stage.world().machine::<Hostile>(mallory).expect("it runs");
        Ok::<Counts, Stop>(machine.counts.clone())
    })
    .unwrap();
    let counts = counts.unwrap();
    assert_eq!(counts.sent.len(), ATTACKS.len(), "{counts:?}");
    assert!(counts.answered > 100 && counts.closed > 100, "{counts:?}");
}

/// Plays one step on a small cluster: how it ended, in words.
fn step(step: &str) -> String {
    let text = format!(
        r#"{{
  "title": "One step",
  "cluster": {{ "brokers": 3, "config": {{ "log.dirs": "/disks/a,/disks/b" }} }},
  "topics": [ {{ "name": "orders", "assignment": [[1, 2]] }} ],
  "steps": [ {{ "wait": "1s" }}, {step} ]
}}"#
    );
    let sheet = scenario::parse(Path::new("step.json"), text).unwrap_or_else(|e| panic!("{e}"));
    let report = run(&sheet.variant(None).unwrap(), 1);
    report.why.unwrap_or_default()
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    for (played, says) in [
        (
            r#"{ "disk": { "node": "broker-3", "fault": "bit_flip", "partition": "orders-0" } }"#,
            "orders-0 does not lie on broker-3 now; it lies on broker-1, broker-2",
        ),
        (
            r#"{ "disk": { "node": "broker-1", "fault": "full", "partition": "orders-7" } }"#,
            "orders-7 does not lie on broker-1: no node has files of it",
        ),
        (
            r#"{ "disk": { "node": { "leader_of": "orders-0" }, "fault": "offline", "dir": "/disks/c" } }"#,
            "broker-1 has no log directory \"/disks/c\"; its log directories are /disks/a, /disks/b",
        ),
        (
            r#"{ "restore": { "node": "broker-1", "from": "broker-2" } }"#,
            "restore: broker-1 is running: only a node that is down can get another disk",
        ),
    ] {
        let why = step(played);
        assert!(why.contains(says), "{played}: {why}");
    }
    assert_eq!(
        step(r#"{ "disk": { "node": "broker-2", "fault": "slow", "stall": "1ms", "dir": "disks/b" } }"#),
        ""
    );
}

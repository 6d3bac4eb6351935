//! Runs a scenario: its steps, its expectations, its end.
//!
//! [`run`] is a function of the scenario and the seed: it builds the world, lets the [`play::Player`] tell the story
//! inside madsim, and folds what was seen into a report.

pub mod build;
pub mod chaos;
mod command;
pub mod coverage;
pub mod evaluate;
mod export;
mod faults;
mod finish;
pub mod groups;
pub mod hostile;
pub mod liveness;
pub mod narrator;
pub mod observer;
pub mod play;
mod setup;
pub mod stats;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use reports::{ClientReport, GroupReport, PartitionReport, RunReport, Verdict, ViolationReport};

use crate::explain::record::Recording;
use crate::scenario::{ClientKind, Scenario};
use crate::world::{self, DigestTrail, SimTime, World};
use evaluate::View;
use observer::Finding;
use play::{Player, Stop};

/// What a run is asked for besides its scenario.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The seed.
    pub seed: u64,
    /// Where the nodes' disks are written at the end.
    pub keep_disks: Option<PathBuf>,
    /// Whether every item of the digest is kept.
    pub trace: bool,
    /// The line that reproduces the run.
    pub reproduce: String,
}

/// What a run gives.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What is told of it.
    pub report: RunReport,
    /// Its digest on the way.
    pub trail: DigestTrail,
    /// A line for each item of the digest, if that was asked for.
    pub trace: Vec<String>,
    /// The clients' history as EDN, if that was asked for.
    pub edn: Option<String>,
    /// What the checkers found, as they told it.
    pub findings: Vec<Finding>,
}

/// A run that was repeated with its recordings.
#[derive(Clone, Debug)]
pub struct Again {
    /// They.
    pub recordings: Vec<Recording>,
    /// Where 0.0 s is.
    pub origin: SimTime,
}

/// Why a run has no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The world cannot be built, or files cannot be written.
    #[error("{0}")]
    Refused(String),
    /// The harness itself stopped on an assertion.
    #[error(transparent)]
    Crash(world::Crash),
}

/// Runs a scenario once.
pub fn run(scenario: &Scenario, options: &RunOptions) -> Result<Outcome, RunError> {
    let scenario = &drawn(scenario, options)?;
    run_player(scenario, options, Player::new(Arc::new(scenario.clone()), options.seed))
}

/// The same, and keeps the clients' history.
pub fn run_with_history(scenario: &Scenario, options: &RunOptions) -> Result<Outcome, RunError> {
    let scenario = &drawn(scenario, options)?;
    let mut player = Player::new(Arc::new(scenario.clone()), options.seed);
    player.observer.keep_history(export::Export::new(scenario, options.seed));
    run_player(scenario, options, player)
}

fn run_player(scenario: &Scenario, options: &RunOptions, player: Player) -> Result<Outcome, RunError> {
    let taken = stopwatch();
    let mut world = build::world(scenario, options.seed).map_err(RunError::Refused)?;
    if options.trace {
        world.start_trace();
    }
    let told = world::run(world, async move |stage| {
        let mut player = player;
        let ended = tell(&mut player, stage).await;
        (player, ended)
    });
    let (mut world, (mut player, ended)) = told.map_err(RunError::Crash)?;
    if let Some(dir) = &options.keep_disks {
        keep_disks(&world, scenario, dir).map_err(RunError::Refused)?;
    }
    let trail = world.digest();
    let trace = if options.trace { world.take_trace() } else { Vec::new() };
    let name = |proc: u32| {
        world.procs().nth(proc as usize).map_or_else(|| "world".to_owned(), |p| world.name(p).to_string())
    };
    let trace = trace.iter().map(|item| item.line(&name(item.proc))).collect();
    let report = report(scenario, options, &world, &player, ended, &trail, taken());
    let findings = player.observer.findings.clone();
    Ok(Outcome { report, trail, trace, edn: player.observer.take_history(), findings })
}

/// A run without any checker: what a benchmark compares with.
pub fn run_unchecked(scenario: &Scenario, options: &RunOptions) -> Result<Outcome, RunError> {
    let scenario = &drawn(scenario, options)?;
    let mut player = Player::new(Arc::new(scenario.clone()), options.seed);
    player.observer.check_nothing();
    run_player(scenario, options, player)
}

/// The same run, event by event, with recordings of what concerns findings.
pub fn again(
    scenario: &Scenario,
    options: &RunOptions,
    recordings: Vec<Recording>,
) -> Result<Again, RunError> {
    let scenario = &drawn(scenario, options)?;
    let world = build::world(scenario, options.seed).map_err(RunError::Refused)?;
    let mut player = Player::new(Arc::new(scenario.clone()), options.seed);
    player.observer.keep_recordings(recordings);
    let told = world::run(world, async move |stage| {
        let mut player = player;
        // How it ends is known: as it did before.
        let _ = tell(&mut player, stage).await;
        player
    });
    let (_, mut player) = told.map_err(RunError::Crash)?;
    Ok(Again { recordings: player.observer.take_recordings(), origin: player.observer.origin })
}

/// What the same seed finds on another scenario. Steps that do not hold there are passed over; `None`: it did not come
/// to its end.
pub fn found_with(scenario: &Scenario, options: &RunOptions) -> Result<Option<Vec<Finding>>, RunError> {
    let scenario = &drawn(scenario, options)?;
    let world = build::world(scenario, options.seed).map_err(RunError::Refused)?;
    let player = Player::new(Arc::new(scenario.clone()), options.seed);
    let told = world::run(world, async move |stage| {
        let mut player = player;
        let ended = tell_on(&mut player, stage).await;
        (player, ended)
    });
    let (_, (player, ended)) = told.map_err(RunError::Crash)?;
    Ok(ended.is_ok().then_some(player.observer.findings))
}

/// The whole story, whatever its steps expect.
async fn tell_on(player: &mut Player, stage: &mut world::Stage) -> Result<(), Stop> {
    player.begin(stage).await?;
    loop {
        match player.step(stage).await {
            Ok(true) | Err(Stop::Expectation(_)) => {}
            Ok(false) => break,
            Err(other) => return Err(other),
        }
    }
    match player.finish(stage).await {
        Err(Stop::Expectation(_)) => Ok(()),
        ended => ended,
    }
}

/// The scenario that the seed of a run draws: itself, if it has nothing to draw or was drawn before.
pub fn drawn(scenario: &Scenario, options: &RunOptions) -> Result<Scenario, RunError> {
    let drawn = scenario.drawn(options.seed);
    drawn.map_err(|problem| RunError::Refused(format!("with seed {}: {problem}", options.seed)))
}

/// Says how many seconds of real time have passed since it was made.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "how long something took in real time is told, and decides nothing"
)]
pub fn stopwatch() -> impl Fn() -> f64 {
    let started = std::time::Instant::now();
    move || started.elapsed().as_secs_f64()
}

/// The whole story: start-up, steps, end.
pub async fn tell(player: &mut Player, stage: &mut world::Stage) -> Result<(), Stop> {
    player.begin(stage).await?;
    while player.step(stage).await? {}
    player.finish(stage).await
}

fn keep_disks(world: &World, scenario: &Scenario, dir: &std::path::Path) -> Result<(), String> {
    for node in &scenario.cluster.nodes {
        if let Some(host) = world.host(&node.name) {
            world.keep_disk(host, &dir.join(&node.name)).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
    }
    Ok(())
}

/// Every option that is not at its default: what is printed before a run.
pub fn effective_options(scenario: &Scenario) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let ids = |ids: Vec<i32>| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    options.insert("brokers".to_owned(), ids(scenario.cluster.brokers()));
    options.insert("controllers".to_owned(), ids(scenario.cluster.controllers()));
    for (place, value) in &scenario.drawn {
        options.insert(format!("drawn {place}"), value.clone());
    }
    for (key, value) in &scenario.cluster.config {
        options.insert(format!("cluster.{key}"), value.clone());
    }
    for mutant in &scenario.cluster.mutants {
        options.insert(format!("mutant {mutant}"), "on".to_owned());
    }
    for node in &scenario.cluster.nodes {
        for (key, value) in &node.config {
            options.insert(format!("{}.{key}", node.name), value.clone());
        }
    }
    for topic in &scenario.topics {
        for (key, value) in &topic.config {
            options.insert(format!("topic {}.{key}", topic.name), value.clone());
        }
    }
    for client in &scenario.clients {
        for (key, value) in &client.config {
            options.insert(format!("{}.{key}", client.name), value.clone());
        }
    }
    options
}

fn report(
    scenario: &Scenario,
    options: &RunOptions,
    world: &World,
    player: &Player,
    ended: Result<(), Stop>,
    trail: &DigestTrail,
    wall_seconds: f64,
) -> RunReport {
    let (verdict, why) = match ended {
        Err(Stop::Expectation(why)) => (Verdict::Expectation, Some(why)),
        Err(Stop::Liveness(why)) => {
            (Verdict::Liveness, Some(liveness::because(&why, &liveness::pending(player, world))))
        }
        Err(Stop::Crash(why)) => (Verdict::Crash, Some(why)),
        Ok(()) => match player.not_allowed() {
            Some(why) => (Verdict::Violation, Some(why)),
            None => (Verdict::Pass, None),
        },
    };
    let counts = world.counts();
    let mut steps = player.reports.clone();
    steps.extend(player.not_run());
    RunReport {
        scenario: scenario.name.clone(),
        variant: scenario.variant.clone(),
        title: scenario.title.clone(),
        about: scenario.about.clone(),
        seed: options.seed,
        digest: trail.end.clone(),
        verdict,
        why,
        virtual_seconds: player.observer.seconds(world.now()).max(0.0),
        wall_seconds,
        events: counts.events,
        frames: counts.frames,
        frame_bytes: counts.frame_bytes,
        steps,
        violations: violations(player),
        clients: clients(scenario, player),
        groups: groups(scenario, world, player),
        options: effective_options(scenario),
        timeline: player.observer.timeline.clone(),
        partitions: partitions(world, player),
        coverage: player.observer.coverage.report(&scenario.sometimes),
        warnings: scenario.warnings.iter().chain(&player.not_kept).cloned().collect(),
        reproduce: options.reproduce.clone(),
        schedule: player.schedule.iter().map(chaos::Scheduled::report).collect(),
    }
}

fn violations(player: &Player) -> Vec<ViolationReport> {
    let findings = player.observer.findings.iter();
    findings
        .map(|f| ViolationReport {
            name: f.name.to_owned(),
            promised: f.excuse.is_none(),
            reason: f.excuse.map(str::to_owned),
            at_seconds: player.observer.seconds(f.at),
            subject: f.subject.to_string(),
            explanation: f.text.clone(),
            count: f.count,
            story: None,
        })
        .collect()
}

fn clients(scenario: &Scenario, player: &Player) -> BTreeMap<String, ClientReport> {
    let mut clients = BTreeMap::new();
    for client in &scenario.clients {
        if matches!(client.kind, ClientKind::Admin { .. } | ClientKind::Hostile { .. }) {
            continue;
        }
        let Some(stats) = player.observer.stats(&client.name) else { continue };
        let quantile = |q| stats.quantile_ms(q, None);
        let report = ClientReport {
            sent: stats.sent,
            acked: stats.acked,
            failed: stats.failed,
            indefinite: stats.indefinite,
            lost: stats.lost,
            duplicated: stats.duplicated,
            received: stats.received,
            processed: stats.processed,
            committed: stats.committed,
            aborted: stats.aborted,
            last_error: stats.last_error.map(str::to_owned),
            latency_ms: quantile(0.5)
                .zip(quantile(0.99))
                .zip(quantile(1.0))
                .map(|((p50, p99), max)| [p50, p99, max]),
        };
        clients.insert(client.name.clone(), report);
    }
    clients
}

/// The groups of the scenario's clients, as their coordinators know them at the end.
fn groups(scenario: &Scenario, world: &World, player: &Player) -> BTreeMap<String, GroupReport> {
    let look = view::Look { player, world };
    let mut groups = BTreeMap::new();
    for client in &scenario.clients {
        let group = match &client.kind {
            ClientKind::Consumer { group: Some(group), .. } | ClientKind::Transactional { group, .. } => {
                group
            }
            _ => continue,
        };
        let Ok(found) = evaluate::View::group(&look, group) else { continue };
        let report = GroupReport {
            state: found.state,
            members: found.members as u64,
            rebalances: u64::try_from(found.rebalances).unwrap_or(0),
            committed: found.committed,
            lag: found.lag,
            processed: found.processed,
            reprocessed: found.reprocessed,
            missed: found.missed,
        };
        groups.insert(group.clone(), report);
    }
    groups
}

fn partitions(world: &World, player: &Player) -> Vec<PartitionReport> {
    let look = view::Look { player, world };
    let all = player.observer.partitions.iter().filter(|((topic, _), _)| !topic.starts_with("__"));
    all.map(|((topic, partition), state)| {
        let log = look.leader_log(topic, *partition);
        PartitionReport {
            partition: format!("{topic}-{partition}"),
            leader: (state.leader >= 0).then_some(state.leader),
            leader_epoch: state.leader_epoch,
            replicas: state.replicas.clone(),
            isr: state.isr.clone(),
            elr: state.elr.clone(),
            log_end: log.map(|(end, _)| end),
            high_watermark: log.map(|(_, high)| high),
        }
    })
    .collect()
}

//! The verb `chaos`: what it takes, and reading it. What it does is in `runner::chaos`.

use std::collections::BTreeSet;

use super::build::{Names, duration_of};
use super::tree::{Problem, Tree};
use super::units::{self, Duration, DurationRange};
use super::{Scenario, Step};

/// A kind of fault that chaos draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChaosKind {
    /// kill -9 of a node, which is started again after a while.
    Kill,
    /// kill -9 or a power loss of a node again and again, each soon after its start.
    CrashLoop,
    /// A controlled shutdown of a node, which is started again.
    Stop,
    /// A power loss of a node's host, which is started again.
    PowerOff,
    /// A node loses its disk, and starts with an empty one.
    Wipe,
    /// A broker starts with an old copy of its disk, or with another's.
    StaleDisk,
    /// SIGSTOP and SIGCONT, of a node or a client.
    Pause,
    /// A cut between hosts, and its end; a jam, connections that break, names that nobody resolves.
    Cut,
    /// Slow, lossy or narrow links, and their end.
    Link,
    /// Something wrong with a node's disk, a log directory or a partition's files, and its end.
    Disk,
    /// A node's or a client's wall clock steps or drifts, and is set right.
    Clock,
    /// kill -9 of a client, which is started again.
    ClientKill,
    /// A client closes, and is started again.
    ClientStop,
    /// A hostile client of the scenario that has not been started comes for a while.
    Hostile,
    /// What operators do: reassignments, settings, topics that come, grow and go, elections, rolling restarts.
    Admin,
    /// A controller is taken out of the quorum and put back, where voters can be changed.
    Voters,
    /// A bit flips on a node's disk. Nothing covers it: only if it is named.
    BitFlip,
    /// A power loss after syncs that lied. Nothing covers it: only if it is named.
    LostSync,
    /// Unclean elections. Nothing covers them: only if they are named.
    UncleanElection,
}

impl ChaosKind {
    /// All kinds, in the order of the manual.
    pub const ALL: [ChaosKind; 19] = [
        ChaosKind::Kill,
        ChaosKind::CrashLoop,
        ChaosKind::Stop,
        ChaosKind::PowerOff,
        ChaosKind::Wipe,
        ChaosKind::StaleDisk,
        ChaosKind::Pause,
        ChaosKind::Cut,
        ChaosKind::Link,
        ChaosKind::Disk,
        ChaosKind::Clock,
        ChaosKind::ClientKill,
        ChaosKind::ClientStop,
        ChaosKind::Hostile,
        ChaosKind::Admin,
        ChaosKind::Voters,
        ChaosKind::BitFlip,
        ChaosKind::LostSync,
        ChaosKind::UncleanElection,
    ];

    /// The word in the file.
    pub fn word(self) -> &'static str {
        match self {
            ChaosKind::Kill => "kill",
            ChaosKind::CrashLoop => "crash_loop",
            ChaosKind::Stop => "stop",
            ChaosKind::PowerOff => "power_off",
            ChaosKind::Wipe => "wipe",
            ChaosKind::StaleDisk => "stale_disk",
            ChaosKind::Pause => "pause",
            ChaosKind::Cut => "cut",
            ChaosKind::Link => "link",
            ChaosKind::Disk => "disk",
            ChaosKind::Clock => "clock",
            ChaosKind::ClientKill => "client_kill",
            ChaosKind::ClientStop => "client_stop",
            ChaosKind::Hostile => "hostile",
            ChaosKind::Admin => "admin",
            ChaosKind::Voters => "voters",
            ChaosKind::BitFlip => "bit_flip",
            ChaosKind::LostSync => "lost_sync",
            ChaosKind::UncleanElection => "unclean_election",
        }
    }

    /// Whether `keep` can cover it: then what was promised holds whatever it does. Others are drawn only if the scenario
    /// gives them a weight.
    pub fn can_be_covered(self) -> bool {
        !matches!(self, ChaosKind::BitFlip | ChaosKind::LostSync | ChaosKind::UncleanElection)
    }
}

/// What chaos never breaks, not for an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Keep {
    /// A majority of the voters runs, is connected, and has what is committed.
    pub quorum: bool,
    /// `min.insync.replicas` of every partition are in sync and unharmed.
    pub min_isr: bool,
    /// So many brokers run.
    pub brokers: usize,
}

/// Random faults from the seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Chaos {
    /// How long.
    pub span: Duration,
    /// The pause between two faults.
    pub every: DurationRange,
    /// Weights of the kinds, in the order of the manual; those of weight 0 are left out.
    pub faults: Vec<(ChaosKind, u32)>,
    /// What is never broken.
    pub keep: Keep,
    /// Each seed draws its own subset of the kinds, its own weights and its own rate.
    pub swarm: bool,
}

/// Reads the verb `chaos`.
pub(super) fn chaos(tree: &Tree) -> Result<Chaos, Problem> {
    let every = tree.field("every").map_or_else(
        || units::duration_range("2s..10s").expect("a range"),
        |t| t.text().and_then(units::duration_range).expect("a checked range"),
    );
    if every.high.0 == 0 {
        let at = tree.field("every").map_or(tree.span.clone(), |t| t.span.clone());
        return Err(Problem::new(
            at,
            "faults without a pause between them, expected one such as \"2s..10s\"",
        ));
    }
    let weight = |kind: ChaosKind| match tree.field("faults") {
        None => u32::from(kind.can_be_covered()),
        Some(faults) => faults.field(kind.word()).and_then(Tree::integer).unwrap_or(0) as u32,
    };
    let faults: Vec<(ChaosKind, u32)> = ChaosKind::ALL
        .into_iter()
        .map(|kind| (kind, weight(kind)))
        .filter(|(_, weight)| *weight > 0)
        .collect();
    if faults.is_empty() {
        let at = tree.field("faults").map_or(tree.span.clone(), |t| t.span.clone());
        return Err(Problem::new(
            at,
            "chaos without any kind of fault, expected at least one weight above 0",
        )
        .help("without faults all kinds that keep can cover have the weight 1"));
    }
    let keep = tree.field("keep");
    let truth = |key: &str| keep.and_then(|k| k.field(key)).and_then(Tree::boolean).unwrap_or(false);
    Ok(Chaos {
        span: duration_of(tree.field("for").expect("checked")),
        every,
        faults,
        keep: Keep {
            quorum: truth("quorum"),
            min_isr: truth("min_isr"),
            brokers: keep.and_then(|k| k.field("brokers")).and_then(Tree::integer).unwrap_or(0) as usize,
        },
        swarm: tree.field("swarm").and_then(Tree::boolean).unwrap_or(true),
    })
}

/// A step of a file from its JSON, for a scenario that was read already: how drawn faults become steps. `snapshots` were
/// taken before it.
pub fn step_of(
    scenario: &Scenario,
    index: usize,
    json: &serde_json::Value,
    snapshots: &BTreeSet<String>,
) -> Result<Step, Problem> {
    let text = json.to_string();
    let tree = super::tree::parse(&text)?;
    super::format::STEP_SHAPE.check(&tree)?;
    let clients = &scenario.clients;
    let mut names = Names {
        nodes: scenario.cluster.nodes.iter().map(|n| n.name.clone()).collect(),
        clients: clients.iter().flat_map(|c| std::iter::once(c.name.clone()).chain(c.processes())).collect(),
        topics: scenario.topics.iter().map(|t| t.name.clone()).collect(),
        kept: Default::default(),
        background: Default::default(),
        snapshots: snapshots.clone(),
        log_dirs: scenario
            .cluster
            .nodes
            .iter()
            .map(|n| (n.name.clone(), scenario.cluster.log_dirs(n)))
            .collect(),
        text: &text,
        variants: &[],
        warnings: Vec::new(),
    };
    super::build::step(index, &tree, &mut names, None)
}

//! What faults are like: for each kind the candidates for one moment, in the order in which they are tried.
//!
//! A candidate is made of steps of a scenario file, as JSON: what chaos does is what a file could say. All draws are
//! made whether a candidate is possible or not, so that the state of the cluster decides what happens and never what is
//! drawn.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wire::drive::Nanos;

use super::super::play::Player;
use super::keep::{self, Harm, pair};
use super::plan::{Plan, Slot};
use super::{admin, keys};
use crate::scenario::{ChaosKind, ClientKind};
use crate::world::chance::Chance;
use crate::world::{Between, ProcState, World};

/// How a fault ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    /// These processes are killed if they live.
    pub down: Vec<String>,
    /// These steps.
    pub steps: Vec<Value>,
    /// These processes run again.
    pub recover: Vec<String>,
}

/// A fault that could come now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// How it begins.
    pub begin: Vec<Value>,
    /// How it ends.
    pub end: End,
    /// What it does to what is kept.
    pub harm: Harm,
    /// How long.
    pub lasts: Nanos,
    /// What it occupies: nothing else is done to it meanwhile.
    pub keys: Vec<String>,
    /// Brokers that are stopped and started in turn from now on.
    pub rolling: Vec<String>,
    /// What follows, so long after it began, as soon as it may.
    pub later: Vec<(Nanos, Candidate)>,
}

/// What candidates are drawn from.
pub struct Draw<'a> {
    /// What is played.
    pub player: &'a Player,
    /// The world as it is.
    pub world: &'a World,
    /// What was drawn in advance.
    pub plan: &'a Plan,
    /// The moment.
    pub slot: &'a Slot,
    /// What is left of chaos: nothing lasts longer.
    pub left: Nanos,
}

/// From an instant to longer than every time-out that the cluster has by default.
fn span(chance: &mut Chance) -> Nanos {
    let ms = |low, high| Between { low: Nanos::from_millis(low), high: Nanos::from_millis(high) };
    let range = match chance.below(4) {
        0 => ms(20, 500),
        1 => ms(500, 3_000),
        2 => ms(3_000, 10_000),
        _ => ms(10_000, 25_000),
    };
    chance.between(range)
}

fn pick<T: Clone>(chance: &mut Chance, of: &[T]) -> T {
    of[chance.below(of.len() as u64) as usize].clone()
}

fn power_off(name: &str, unsynced: &str) -> Value {
    json!({ "power_off": name, "unsynced": unsynced })
}

fn duration(nanos: Nanos) -> String {
    format!("{}ms", nanos.as_millis())
}

impl Draw<'_> {
    /// The candidates of this moment, the first to be tried first.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut chance = self.plan.chance(self.slot);
        let lasts = Nanos(span(&mut chance).0.min(self.left.0));
        match self.slot.kind {
            ChaosKind::Kill => self.processes(self.nodes(), lasts, |name| json!({ "kill": name })),
            ChaosKind::CrashLoop => self.crash_loops(&mut chance),
            ChaosKind::Stop => {
                self.processes(self.nodes(), lasts, |name| json!({ "stop": name, "wait": false }))
            }
            ChaosKind::PowerOff => {
                let unsynced = pick(&mut chance, &["by chance", "by chance", "lost", "kept"]);
                self.processes(self.truthful(), lasts, |name| power_off(name, unsynced))
            }
            ChaosKind::Wipe => self.wipes(&mut chance, lasts),
            ChaosKind::StaleDisk => self.stale_disks(&mut chance, lasts),
            ChaosKind::Pause => self.pauses(lasts),
            ChaosKind::ClientKill => self.processes(self.clients(), lasts, |name| json!({ "kill": name })),
            ChaosKind::Cut => self.cuts(&mut chance, lasts),
            ChaosKind::Link => self.links(&mut chance, lasts),
            ChaosKind::Disk => self.disks(&mut chance, lasts),
            ChaosKind::Clock => self.clocks(&mut chance, lasts),
            ChaosKind::ClientStop => {
                self.processes(self.clients(), lasts, |name| json!({ "stop": name, "wait": false }))
            }
            ChaosKind::Hostile => self.hostile(lasts),
            ChaosKind::Admin => admin::candidates(self, &mut chance),
            ChaosKind::Voters => admin::voters(self, lasts),
            ChaosKind::BitFlip => self.bit_flips(),
            ChaosKind::LostSync => self.lost_syncs(lasts),
            ChaosKind::UncleanElection => vec![admin::unclean_election(self)],
        }
    }

    /// The names of all nodes.
    pub fn nodes(&self) -> Vec<String> {
        self.player.scenario.cluster.nodes.iter().map(|n| n.name.clone()).collect()
    }

    /// The processes of all clients that were started.
    fn clients(&self) -> Vec<String> {
        let clients = self.player.scenario.clients.iter();
        let works = clients.filter(|c| !matches!(c.kind, ClientKind::Admin { .. }));
        works.flat_map(|c| c.processes()).filter(|name| self.world.proc(name).is_some()).collect()
    }

    /// Whether a process runs.
    pub fn runs(&self, name: &str) -> bool {
        self.world.proc(name).is_some_and(|p| self.world.state(p) == ProcState::Running)
    }

    /// The id of a node.
    pub fn id(&self, name: &str) -> Option<i32> {
        self.player.scenario.cluster.nodes.iter().find(|n| n.name == *name).map(|n| n.id)
    }

    /// Something that ends a process, or stops it for a while.
    fn processes(&self, targets: Vec<String>, lasts: Nanos, step: impl Fn(&str) -> Value) -> Vec<Candidate> {
        let targets = self.plan.order(self.slot, &targets).into_iter().filter(|name| self.runs(name));
        let candidate = |name: String| Candidate {
            begin: vec![step(&name)],
            end: End { recover: vec![name.clone()], ..End::default() },
            harm: Harm { down: self.id(&name).into_iter().collect(), lasts: lasts.0, ..Harm::default() },
            lasts,
            keys: vec![keys::process(&name)],
            ..Candidate::default()
        };
        targets.map(candidate).collect()
    }

    /// Nodes whose disks never lied: with others a power loss takes what nobody promised to keep.
    fn truthful(&self) -> Vec<String> {
        let lied = |name: &String| self.world.host(name).is_some_and(|host| self.world.has_lied(host));
        self.nodes().into_iter().filter(|name| !lied(name)).collect()
    }

    /// Brokers that have no part in the quorum.
    fn mere_brokers(&self) -> Vec<String> {
        let nodes = self.player.scenario.cluster.nodes.iter();
        nodes.filter(|n| n.broker && !n.controller).map(|n| n.name.clone()).collect()
    }

    /// A node that dies again soon after each start, perhaps while it still starts.
    fn crash_loops(&self, chance: &mut Chance) -> Vec<Candidate> {
        let ms = |low, high| Between { low: Nanos::from_millis(low), high: Nanos::from_millis(high) };
        let (times, power) = (2 + chance.below(4), chance.below(2) == 0);
        let down = chance.between(ms(10, 1_000));
        let ups: Vec<Nanos> = (0..times).map(|_| chance.between(ms(50, 4_000))).collect();
        let targets = if power { self.truthful() } else { self.nodes() };
        let step = |name: &str| if power { power_off(name, "by chance") } else { json!({ "kill": name }) };
        let mut all = self.processes(targets, down, step);
        for candidate in &mut all {
            let once = candidate.clone();
            let mut at = 0;
            for up in &ups {
                at += down.0 + up.0;
                candidate.later.push((Nanos(at), once.clone()));
            }
        }
        all
    }

    /// An empty disk. Of a controller only where voters are known by their disks and come back by themselves: one that
    /// forgets its vote and its log breaks what Raft rests on.
    fn wipes(&self, chance: &mut Chance, lasts: Nanos) -> Vec<Candidate> {
        let power = chance.below(2) == 0;
        let dynamic =
            keep::furthest_raft(self.player, self.world).is_some_and(|raft| raft.kraft_version() > 0);
        let setting = self.player.scenario.cluster.config.get("controller.quorum.auto.join.enable");
        let rejoins = dynamic && setting.is_some_and(|value| value == "true");
        let targets = if rejoins { self.nodes() } else { self.mere_brokers() };
        let step = |name: &str| if power { power_off(name, "by chance") } else { json!({ "kill": name }) };
        let mut all = self.processes(targets, lasts, step);
        for candidate in &mut all {
            let name = candidate.end.recover[0].clone();
            candidate.begin.push(json!({ "wipe": name }));
        }
        all
    }

    /// A broker's disk as it was a while ago, or that of another, which is refused. As it was while the broker ran: one
    /// that was shut down cleanly would pass for whole (a controller's would bring back its votes).
    fn stale_disks(&self, chance: &mut Chance, lasts: Nanos) -> Vec<Candidate> {
        let others = chance.below(4) == 0;
        let age = chance.between(Between { low: Nanos::from_millis(100), high: Nanos::from_secs(15) });
        let brokers = self.mere_brokers();
        let mut all = self.processes(brokers.clone(), lasts, |name| json!({ "kill": name }));
        for candidate in &mut all {
            let name = candidate.end.recover[0].clone();
            let kept = format!("chaos-{}-{}", self.player.chaoses, self.slot.number);
            let keeps = json!({ "snapshot": { "node": name, "name": kept } });
            let back = json!({ "restore": { "node": name, "snapshot": kept } });
            if !others {
                candidate.begin.push(back);
                let strikes = std::mem::take(candidate);
                *candidate =
                    Candidate { begin: vec![keeps], later: vec![(age, strikes)], ..Candidate::default() };
                continue;
            }
            let Some(whose) = brokers.iter().find(|other| **other != name) else { continue };
            candidate.begin.insert(0, keeps);
            candidate.begin.push(json!({ "restore": { "node": name, "from": whose } }));
            candidate.begin.push(json!({ "start": name }));
            candidate.end.down = vec![name];
            candidate.end.steps = vec![back];
        }
        all
    }

    /// A hostile client that waits to be started.
    fn hostile(&self, lasts: Nanos) -> Vec<Candidate> {
        let clients = self.player.scenario.clients.iter();
        let hostile = clients.filter(|c| matches!(c.kind, ClientKind::Hostile { .. }));
        let names: Vec<String> = hostile.flat_map(|c| c.processes()).collect();
        let waits =
            |name: &String| self.world.proc(name).is_none_or(|p| self.world.state(p) == ProcState::Down);
        let waiting = self.plan.order(self.slot, &names).into_iter().filter(waits);
        let candidate = |name: String| Candidate {
            begin: vec![json!({ "start": name })],
            keys: vec![keys::process(&name)],
            end: End { down: vec![name], ..End::default() },
            lasts,
            ..Candidate::default()
        };
        waiting.map(candidate).collect()
    }

    fn bit_flips(&self) -> Vec<Candidate> {
        let flip = |name: String| Candidate {
            begin: vec![json!({ "disk": { "node": name, "fault": "bit_flip" } })],
            ..Candidate::default()
        };
        self.plan.order(self.slot, &self.nodes()).into_iter().map(flip).collect()
    }

    /// Syncs lie for a while, and then the power is lost.
    fn lost_syncs(&self, lasts: Nanos) -> Vec<Candidate> {
        let lie = |name: &str| json!({ "disk": { "node": name, "fault": "lying_sync" } });
        let mut all = self.processes(self.nodes(), lasts, lie);
        for candidate in &mut all {
            let name = candidate.end.recover[0].clone();
            candidate.keys.push(keys::disk(&name));
            candidate.end.steps =
                vec![power_off(&name, "lost"), json!({ "disk": { "node": name, "fault": "none" } })];
        }
        all
    }

    /// Nodes, or clients. Whoever leads and sleeps must not wake before it is fenced and find that everybody lags.
    fn pauses(&self, lasts: Nanos) -> Vec<Candidate> {
        let mut targets = self.nodes();
        targets.extend(self.clients());
        let patience = keep::patience(self.player);
        let wakes_too_late = patience < keep::fenced_after(self.player);
        let mut all = self.processes(targets, lasts, |name| json!({ "pause": name }));
        for candidate in all.iter_mut().filter(|c| wakes_too_late && !c.harm.down.is_empty()) {
            candidate.lasts = Nanos(candidate.lasts.0.min(patience));
        }
        all
    }

    /// Whom a set keeps from whom, as far as they are nodes.
    fn apart(&self, a: &[String], b: &[String]) -> BTreeSet<keep::Pair> {
        let ids = |names: &[String]| names.iter().filter_map(|n| self.id(n)).collect::<Vec<_>>();
        let (a, b) = (ids(a), ids(b));
        a.iter().flat_map(|x| b.iter().map(move |y| pair(*x, *y))).filter(|(x, y)| x != y).collect()
    }

    /// Two sets of hosts for each shape that a cut can have, in the order in which they are tried.
    fn sides(&self, chance: &mut Chance) -> Vec<(Vec<String>, Vec<String>)> {
        let shape = chance.below(6);
        let half = chance.below(u64::MAX);
        let nodes = self.plan.order(self.slot, &self.nodes());
        let clients = self.plan.order(self.slot, &self.clients());
        let others = |name: &String| nodes.iter().filter(|n| *n != name).cloned().collect::<Vec<_>>();
        let controllers: Vec<String> = {
            let all = self.player.scenario.cluster.nodes.iter().filter(|n| n.controller);
            all.map(|n| n.name.clone()).collect()
        };
        let mut sides = Vec::new();
        match shape {
            // One from all other nodes; its clients still reach it.
            0 | 1 => sides.extend(nodes.iter().map(|n| (vec![n.clone()], others(n)))),
            // Two from each other.
            2 => {
                for (at, a) in nodes.iter().enumerate() {
                    sides.extend(nodes[at + 1..].iter().map(|b| (vec![a.clone()], vec![b.clone()])));
                }
            }
            // A broker from the controllers.
            3 => {
                let brokers = nodes.iter().filter(|n| !controllers.contains(n));
                sides.extend(brokers.map(|n| (vec![n.clone()], controllers.clone())));
            }
            // A client from a broker, or from all.
            4 => {
                let brokers: Vec<String> =
                    nodes.iter().filter(|n| !controllers.contains(n)).cloned().collect();
                let from = if half.is_multiple_of(2) { &brokers[..brokers.len().min(1)] } else { &brokers };
                sides.extend(clients.iter().map(|c| (vec![c.clone()], from.to_vec())));
            }
            // Any set from the rest.
            _ => {
                let in_half = |at: usize| half >> (at % 64) & 1 == 1;
                let part = |yes: bool| {
                    let of = nodes.iter().enumerate().filter(|(at, _)| in_half(*at) == yes);
                    of.map(|(_, n)| n.clone()).collect::<Vec<_>>()
                };
                sides.push((part(true), part(false)));
                sides.extend(nodes.iter().map(|n| (vec![n.clone()], others(n))));
            }
        }
        sides.retain(|(a, b)| !a.is_empty() && !b.is_empty());
        sides
    }

    /// Cuts and jams, names that cannot be resolved, connections that break.
    fn cuts(&self, chance: &mut Chance, lasts: Nanos) -> Vec<Candidate> {
        let direction = pick(chance, &["both", "both", "forth", "back"]);
        let (how, reset) = (chance.below(8), chance.below(4) == 0);
        let sides = self.sides(chance);
        let candidate = |(a, b): (Vec<String>, Vec<String>)| {
            let both = json!([a, b]);
            let (begin, end) = match how {
                0 => (json!({ "reset": { "between": both } }), None),
                1 => (
                    json!({ "names": { "fault": "unknown", "at": a, "of": b } }),
                    Some(json!({ "names": { "fault": "none", "at": a, "of": b } })),
                ),
                how => (
                    json!({ "cut": { "between": both, "direction": direction, "reset": reset, "jam": how == 2 } }),
                    Some(json!({ "heal": { "between": both, "direction": direction } })),
                ),
            };
            let lasts = if end.is_some() { lasts } else { Nanos::ZERO };
            Candidate {
                begin: vec![begin],
                keys: if end.is_some() { keys::links(&a, &b) } else { Vec::new() },
                end: End { steps: end.into_iter().collect(), ..End::default() },
                harm: Harm {
                    apart: if how == 0 { BTreeSet::new() } else { self.apart(&a, &b) },
                    lasts: lasts.0,
                    ..Harm::default()
                },
                lasts,
                ..Candidate::default()
            }
        };
        sides.into_iter().map(candidate).collect()
    }

    /// Slow, lossy, narrow links. What is mild does nobody harm; what is not counts as a cut that lasts a bit longer,
    /// since what is on its way still has to arrive.
    fn links(&self, chance: &mut Chance, lasts: Nanos) -> Vec<Candidate> {
        let mild = chance.below(2) == 0;
        let (low, high) = if mild { (1, 100) } else { (50, 1_500) };
        let latency =
            chance.between(Between { low: Nanos::from_millis(low), high: Nanos::from_millis(high) });
        let jitter = chance.below(3);
        let loss = (chance.below(if mild { 20 } else { 100 }) as f64) / 1000.0;
        let bandwidth = pick(chance, &[256, 1024, 4096]);
        let narrow = !mild && chance.below(3) == 0;
        let (tail, slow_start) = (chance.below(3) == 0, chance.below(3) == 0);
        let direction = pick(chance, &["both", "both", "forth", "back"]);
        let low = duration(Nanos(latency.0 / [1, 2, 20][jitter as usize]));
        let latency = format!("{low}..{}", duration(latency));
        let candidate = |(a, b): (Vec<String>, Vec<String>)| {
            let mut link =
                json!({ "from": a, "to": b, "direction": direction, "latency": latency, "loss": loss });
            if narrow {
                link["bandwidth"] = json!(format!("{bandwidth}KiB/s"));
            }
            if tail {
                link["tail"] =
                    json!({ "share": 0.02, "latency": if mild { "20ms..150ms" } else { "200ms..2s" } });
            }
            if slow_start {
                link["connect"] = json!(if mild { "10ms..100ms" } else { "100ms..2s" });
            }
            let apart = if mild { BTreeSet::new() } else { self.apart(&a, &b) };
            Candidate {
                begin: vec![json!({ "link": link })],
                end: End {
                    steps: vec![
                        json!({ "link": { "from": a, "to": b, "direction": direction, "default": true } }),
                    ],
                    ..End::default()
                },
                harm: Harm { apart, lasts: lasts.0 + 3_000_000_000, ..Harm::default() },
                lasts,
                keys: keys::links(&a, &b),
                ..Candidate::default()
            }
        };
        self.sides(chance).into_iter().map(candidate).collect()
    }

    /// A disk that is full, slow, or fails; all of it, one of several log directories, or the files of a partition. A node
    /// whose only log directory fails stops itself; one that has lost a directory gets it back with a new process.
    fn disks(&self, chance: &mut Chance, lasts: Nanos) -> Vec<Candidate> {
        let faults =
            ["full", "slow", "slow", "read_error", "write_error", "sync_error", "lying_sync", "offline"];
        let first = chance.below(u64::MAX) as usize % faults.len();
        let stall = pick(chance, &["5ms..50ms", "100ms..1s", "2s..6s"]);
        let (part, which) = (chance.below(4), chance.below(u64::MAX) as usize);
        let mut all = Vec::new();
        for fault in faults[first..].iter().chain(&faults[..first]) {
            let begin = |name: &str| {
                let mut disk = json!({ "node": name, "fault": fault });
                if *fault == "slow" {
                    disk["stall"] = json!(stall);
                }
                match part {
                    0 => self.one_dir(name, which).into_iter().for_each(|dir| disk["dir"] = json!(dir)),
                    1 => {
                        self.one_partition(name, which).into_iter().for_each(|p| disk["partition"] = json!(p))
                    }
                    _ => {}
                }
                json!({ "disk": disk })
            };
            let mut these = self.processes(self.nodes(), lasts, begin);
            for candidate in &mut these {
                let [name] = candidate.end.recover.as_slice() else { continue };
                let name = name.clone();
                candidate.keys.push(keys::disk(&name));
                candidate.end.steps = vec![json!({ "disk": { "node": name, "fault": "none" } })];
                if matches!(*fault, "slow" | "lying_sync") {
                    let rest: Vec<String> = self.nodes().into_iter().filter(|n| *n != name).collect();
                    candidate.harm.apart = self.apart(std::slice::from_ref(&name), &rest);
                } else if self.log_dirs(&name).len() > 1 {
                    candidate.end.down = vec![name];
                }
            }
            all.extend(these);
        }
        all
    }

    fn log_dirs(&self, name: &str) -> Vec<String> {
        let cluster = &self.player.scenario.cluster;
        cluster.nodes.iter().find(|n| n.name == name).map(|n| cluster.log_dirs(n)).unwrap_or_default()
    }

    /// One of a node's log directories, if it has several.
    fn one_dir(&self, name: &str, which: usize) -> Option<String> {
        let mut dirs = self.log_dirs(name);
        (dirs.len() > 1).then(|| dirs.swap_remove(which % dirs.len()))
    }

    /// One of the clients' partitions that lie on a node.
    fn one_partition(&self, name: &str, which: usize) -> Option<String> {
        let host = self.world.host(name)?;
        let topics = self.player.scenario.topics.iter();
        let all = topics.flat_map(|t| (0..t.partitions).map(|p| format!("{}-{p}", t.name)));
        let mut here: Vec<String> =
            all.filter(|partition| !self.world.disk(host).dirs_named(partition).is_empty()).collect();
        (!here.is_empty()).then(|| here.swap_remove(which % here.len()))
    }

    fn clocks(&self, chance: &mut Chance, lasts: Nanos) -> Vec<Candidate> {
        let size = pick(chance, &["50ms", "1s", "1m", "30m", "1h"]);
        let back = chance.below(2) == 0;
        let ppm = chance.below(2_001) as i64 - 1_000;
        let drifts = chance.below(3) == 0;
        let candidate = |name: String| {
            let (there, again) = match (drifts, back) {
                (true, _) => (
                    json!({ "clock": { "node": name, "drift_ppm": ppm } }),
                    json!({ "clock": { "node": name, "default": true } }),
                ),
                (false, back) => {
                    let step = format!("{}{size}", if back { "-" } else { "" });
                    (
                        json!({ "clock": { "node": name, "step": step } }),
                        json!({ "clock": { "node": name, "default": true } }),
                    )
                }
            };
            Candidate {
                begin: vec![there],
                end: End { steps: vec![again], ..End::default() },
                harm: Harm::default(),
                lasts,
                keys: vec![keys::clock(&name)],
                ..Candidate::default()
            }
        };
        let mut targets = self.nodes();
        targets.extend(self.clients());
        self.plan.order(self.slot, &targets).into_iter().map(candidate).collect()
    }
}

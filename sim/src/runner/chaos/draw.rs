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
use crate::scenario::{ChaosKind, ClientKind, Keep};
use crate::world::chance::Chance;
use crate::world::{Between, ProcState, World};

/// How a fault ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    /// These steps.
    pub steps: Vec<Value>,
    /// These processes run again.
    pub recover: Vec<String>,
}

/// A fault that could come now.
#[derive(Clone, Debug, PartialEq)]
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
    /// What is kept.
    pub keep: &'a Keep,
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
            ChaosKind::Stop => {
                self.processes(self.nodes(), lasts, |name| json!({ "stop": name, "wait": false }))
            }
            ChaosKind::PowerOff => {
                let unsynced = pick(&mut chance, &["by chance", "by chance", "lost", "kept"]);
                let step = |name: &str| json!({ "power_off": name, "unsynced": unsynced });
                self.processes(self.nodes(), lasts, step)
            }
            ChaosKind::Pause => self.pauses(lasts),
            ChaosKind::ClientKill => self.processes(self.clients(), lasts, |name| json!({ "kill": name })),
            ChaosKind::Cut => self.cuts(&mut chance, lasts),
            ChaosKind::Link => self.links(&mut chance, lasts),
            ChaosKind::Disk => self.disks(&mut chance, lasts),
            ChaosKind::Clock => self.clocks(&mut chance, lasts),
            ChaosKind::Admin => admin::candidates(self, &mut chance),
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

    fn runs(&self, name: &str) -> bool {
        self.world.proc(name).is_some_and(|p| self.world.state(p) == ProcState::Running)
    }

    fn id(&self, name: &str) -> Option<i32> {
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
            rolling: Vec::new(),
        };
        targets.map(candidate).collect()
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
                rolling: Vec::new(),
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
                rolling: Vec::new(),
            }
        };
        self.sides(chance).into_iter().map(candidate).collect()
    }

    /// A disk that is full, slow, or fails. A node whose only log directory fails stops itself.
    fn disks(&self, chance: &mut Chance, lasts: Nanos) -> Vec<Candidate> {
        let mut faults = vec!["full", "slow", "slow", "read_error", "write_error", "sync_error", "offline"];
        if !self.keep.min_isr && !self.keep.quorum {
            faults.push("bit_flip");
        }
        let first = chance.below(u64::MAX) as usize % faults.len();
        let stall = pick(chance, &["5ms..50ms", "100ms..1s", "2s..6s"]);
        let mut all = Vec::new();
        for fault in faults[first..].iter().chain(&faults[..first]) {
            let begin = |name: &str| {
                let mut disk = json!({ "node": name, "fault": fault });
                if *fault == "slow" {
                    disk["stall"] = json!(stall);
                }
                json!({ "disk": disk })
            };
            let mut these = self.processes(self.nodes(), lasts, begin);
            for candidate in &mut these {
                let [name] = candidate.end.recover.as_slice() else { continue };
                let name = name.clone();
                candidate.keys.push(keys::disk(&name));
                candidate.end.steps = vec![json!({ "disk": { "node": name, "fault": "none" } })];
                if *fault == "slow" {
                    let rest: Vec<String> = self.nodes().into_iter().filter(|n| *n != name).collect();
                    candidate.harm.apart = self.apart(&[name], &rest);
                }
            }
            all.extend(these);
        }
        all
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
                rolling: Vec::new(),
            }
        };
        self.plan.order(self.slot, &self.nodes()).into_iter().map(candidate).collect()
    }
}

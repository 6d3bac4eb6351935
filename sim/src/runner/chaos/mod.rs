//! The verb `chaos`: random faults from the seed, for a while.
//!
//! - [`plan`] says when which kind of fault is due, drawn before anything happens; [`draw`] what the fault is like and
//!   whom it could befall; [`keep`] whether it may, in the present state. The first candidate that may come is played;
//!   if none may, the moment passes.
//! - Each fault lasts for a drawn time; then chaos ends it: it starts, resumes, heals what it broke. When its own time is
//!   over, it ends all that is left.
//! - What it does are steps as a file has them, played by the [`Player`] like any other, told in the timeline and kept in
//!   the [`schedule`]: a scenario with these steps in place of `chaos` is the same run.

mod admin;
pub mod draw;
pub mod keep;
pub mod plan;
pub mod schedule;

use std::collections::{BTreeMap, BTreeSet};

use reports::Tone;
use serde_json::{Value, json};
use wire::drive::Nanos;

use super::play::{Player, Stop};
use crate::scenario::chaos::step_of;
use crate::scenario::{Chaos, Step, Verb};
use crate::world::{ProcState, SimTime, Stage, World};
use draw::{Candidate, Draw, End};
use keep::{Harm, Scene};
use plan::{Plan, Slot};
pub use schedule::{Scheduled, fixed, settled};

/// How long a broker that is restarted in its turn stays away, and how often it is asked whether it may go.
const TURN: Nanos = Nanos::from_secs(1);

/// What a fault occupies.
mod keys {
    pub const ROLLING: &str = "rolling";
    pub const VOTERS: &str = "voters";

    pub fn process(name: &str) -> String {
        format!("process {name}")
    }

    pub fn disk(name: &str) -> String {
        format!("disk {name}")
    }

    pub fn clock(name: &str) -> String {
        format!("clock {name}")
    }

    pub fn links(a: &[String], b: &[String]) -> Vec<String> {
        let pair =
            |x: &String, y: &String| if x < y { format!("link {x} {y}") } else { format!("link {y} {x}") };
        a.iter().flat_map(|x| b.iter().map(move |y| pair(x, y))).collect()
    }
}

/// A fault that lasts.
#[derive(Clone, Debug)]
struct Active {
    until: SimTime,
    end: End,
    harm: Harm,
    keys: Vec<String>,
}

/// One chaos while it goes on.
struct Show<'a> {
    chaos: &'a Chaos,
    /// Its step.
    step: &'a Step,
    began: SimTime,
    until: SimTime,
    plan: Plan,
    next: usize,
    active: Vec<Active>,
    /// What follows on a fault, and when it is tried.
    later: Vec<(SimTime, Candidate)>,
    /// Brokers that are to be restarted, one after the other, and when the next is asked.
    rolling: Vec<String>,
    turn: SimTime,
    /// Nodes that ran when it began.
    ran: Vec<String>,
    watch: Watch,
    /// Names under which disks were kept.
    snapshots: BTreeSet<String>,
}

/// Plays a `chaos` step.
pub async fn play(player: &mut Player, stage: &mut Stage, step: &Step, chaos: &Chaos) -> Result<(), Stop> {
    player.tell_step(stage, step, format!("chaos for {}", chaos.span));
    let now = stage.world().now();
    let runs =
        |name: &String| stage.world().proc(name).is_some_and(|p| stage.world().state(p) != ProcState::Down);
    let nodes = player.scenario.cluster.nodes.iter().map(|n| n.name.clone());
    let mut show = Show {
        chaos,
        step,
        began: now,
        until: now + Nanos(chaos.span.0),
        plan: Plan::new(player.seed, player.chaoses, chaos),
        next: 0,
        active: Vec::new(),
        later: Vec::new(),
        rolling: Vec::new(),
        turn: now,
        ran: nodes.filter(runs).collect(),
        watch: Watch::new(player, stage.world(), chaos.keep.min_isr),
        snapshots: BTreeSet::new(),
    };
    player.in_chaos = true;
    player.observer.promise.covered(chaos.keep.min_isr && chaos.keep.quorum);
    let played = show.go_on(player, stage).await;
    player.observer.promise.covered(false);
    player.in_chaos = false;
    player.chaoses += 1;
    player.not_kept.append(&mut show.watch.broken);
    played
}

impl Show<'_> {
    async fn go_on(&mut self, player: &mut Player, stage: &mut Stage) -> Result<(), Stop> {
        loop {
            let at = self.next_at();
            self.pass(player, stage, at)?;
            let due: Vec<Active> = self.active.extract_if(.., |fault| fault.until <= at).collect();
            for fault in due {
                self.end(player, stage, fault).await?;
            }
            if at >= self.until {
                return self.end_all(player, stage).await;
            }
            if let Some(slot) = self.plan.slots.get(self.next).copied().filter(|s| self.began + s.at <= at) {
                self.next += 1;
                self.strike(player, stage, &slot).await?;
            }
            for (_, candidate) in self.later.extract_if(.., |(when, _)| *when <= at).collect::<Vec<_>>() {
                self.follow(player, stage, candidate).await?;
            }
            if !self.rolling.is_empty() && self.turn <= at {
                self.roll(player, stage).await?;
            }
        }
    }

    /// When something is due next.
    fn next_at(&self) -> SimTime {
        let slot = self.plan.slots.get(self.next).map(|slot| self.began + slot.at);
        let turn = (!self.rolling.is_empty()).then_some(self.turn);
        let ends = self.active.iter().map(|fault| fault.until);
        let later = self.later.iter().map(|(when, _)| *when);
        ends.chain(slot).chain(later).chain(turn).chain([self.until]).min().expect("there is an end")
    }

    /// Lets time pass, and looks whether what is kept is.
    fn pass(&mut self, player: &mut Player, stage: &mut Stage, at: SimTime) -> Result<(), Stop> {
        let span = at.since(stage.world().now());
        let watch = &mut self.watch;
        player.until(stage, span.0, |player, world| {
            watch.look(player, world);
            false
        })?;
        for text in watch.news() {
            player.observer.tell(stage.world().now(), "chaos", text, Tone::Bad);
        }
        Ok(())
    }

    /// The cluster as it is, with what is on its way to be so.
    fn scene(&self, player: &Player, world: &World) -> Scene {
        let mut apart: BTreeMap<keep::Pair, u64> = BTreeMap::new();
        for fault in &self.active {
            for two in &fault.harm.apart {
                let left = apart.entry(*two).or_insert(0);
                *left = (*left).max(fault.until.since(world.now()).0);
            }
        }
        let mut scene = keep::look(player, world, &apart);
        for id in self.active.iter().flat_map(|fault| &fault.harm.down) {
            scene.brokers.entry(*id).and_modify(|well| *well = false);
            scene.voters.entry(*id).and_modify(|well| *well = false);
        }
        scene
    }

    fn is_free(&self, keys: &[String]) -> bool {
        !self.active.iter().any(|fault| fault.keys.iter().any(|key| keys.contains(key)))
    }

    /// A fault is due: the first candidate that may come does.
    async fn strike(&mut self, player: &mut Player, stage: &mut Stage, slot: &Slot) -> Result<(), Stop> {
        let left = self.until.since(stage.world().now());
        let world = stage.world();
        let draw = Draw { player, world, plan: &self.plan, slot, left };
        let candidates = draw.candidates();
        let scene = self.scene(player, world);
        let chosen = candidates.into_iter().find(|candidate| self.may_come(candidate, world, &scene));
        match chosen {
            Some(candidate) if !candidate.rolling.is_empty() => {
                let now = stage.world().now();
                player.observer.tell(now, "chaos", "a rolling restart begins".to_owned(), Tone::Step);
                if self.rolling.is_empty() {
                    (self.rolling, self.turn) = (candidate.rolling, now);
                }
                Ok(())
            }
            Some(candidate) => self.begin(player, stage, candidate).await,
            None => Ok(()),
        }
    }

    /// Whether nothing stands in the way of a fault, and nothing that is kept would break.
    fn may_come(&self, candidate: &Candidate, world: &World, scene: &Scene) -> bool {
        // A disk that has lied loses with its power what nobody promised to keep.
        let lied = |step: &Value| {
            let host = step["power_off"].as_str().and_then(|name| world.host(name));
            host.is_some_and(|host| world.has_lied(host))
        };
        self.is_free(&candidate.keys)
            && !candidate.begin.iter().any(lied)
            && scene.broken_by(&self.chaos.keep, &candidate.harm).is_none()
    }

    /// What follows on a fault is tried once a second until it may come, or chaos is over.
    async fn follow(
        &mut self,
        player: &mut Player,
        stage: &mut Stage,
        mut candidate: Candidate,
    ) -> Result<(), Stop> {
        let world = stage.world();
        let lives = |name: &String| {
            let state = world.proc(name).map(|proc| world.state(proc));
            state.is_some_and(|state| !matches!(state, ProcState::Down | ProcState::Halted))
        };
        let scene = self.scene(player, world);
        if !candidate.end.recover.iter().all(lives) || !self.may_come(&candidate, world, &scene) {
            self.later.push((world.now() + TURN, candidate));
            return Ok(());
        }
        candidate.lasts = Nanos(candidate.lasts.0.min(self.until.since(world.now()).0));
        self.begin(player, stage, candidate).await
    }

    async fn begin(
        &mut self,
        player: &mut Player,
        stage: &mut Stage,
        candidate: Candidate,
    ) -> Result<(), Stop> {
        for json in candidate.begin {
            self.act(player, stage, json).await?;
        }
        let now = stage.world().now();
        self.later.extend(candidate.later.into_iter().map(|(after, next)| (now + after, next)));
        if !candidate.keys.is_empty() {
            self.active.push(Active {
                until: stage.world().now() + candidate.lasts,
                end: candidate.end,
                harm: candidate.harm,
                keys: candidate.keys,
            });
        }
        Ok(())
    }

    /// The next broker of a rolling restart, once it may go.
    async fn roll(&mut self, player: &mut Player, stage: &mut Stage) -> Result<(), Stop> {
        let now = stage.world().now();
        self.turn = now + TURN;
        let name = self.rolling[0].clone();
        let def = player.scenario.cluster.nodes.iter().find(|n| n.name == name).expect("a broker");
        let harm = Harm { down: BTreeSet::from([def.id]), lasts: TURN.0, ..Harm::default() };
        let keys = vec![keys::process(&name), keys::ROLLING.to_owned()];
        let runs = stage.world().proc(&name).is_some_and(|p| stage.world().state(p) == ProcState::Running);
        let scene = self.scene(player, stage.world());
        let broken = scene.broken_by(&self.chaos.keep, &harm);
        if !self.is_free(&keys) || !runs || broken.is_some() {
            return Ok(());
        }
        self.rolling.remove(0);
        let candidate = Candidate {
            begin: vec![json!({ "stop": name, "wait": false })],
            end: End { recover: vec![name], ..End::default() },
            harm,
            lasts: TURN,
            keys,
            ..Candidate::default()
        };
        self.begin(player, stage, candidate).await
    }

    async fn act(&mut self, player: &mut Player, stage: &mut Stage, mut json: Value) -> Result<(), Stop> {
        // As a fixed step it is no excuse either.
        let loses = ["power_off", "wipe", "restore"].into_iter().any(|verb| json.get(verb).is_some());
        if loses && self.chaos.keep.min_isr && self.chaos.keep.quorum {
            json["covered"] = json!(true);
        }
        let step = step_of(&player.scenario, self.step.index, &json, &self.snapshots);
        let step = step.unwrap_or_else(|e| panic!("{json}: {e}"));
        if let Verb::Snapshot(snapshot) = &step.verb {
            self.snapshots.insert(snapshot.name.clone());
        }
        let at = stage.world().now().since(self.began);
        player.schedule.push(Scheduled { chaos: self.step.index, at, step: json });
        player.act(stage, &step).await
    }

    /// A fault is over.
    async fn end(&mut self, player: &mut Player, stage: &mut Stage, fault: Active) -> Result<(), Stop> {
        for name in fault.end.down {
            let lives = |p| !matches!(stage.world().state(p), ProcState::Down | ProcState::Halted);
            if stage.world().proc(&name).is_some_and(lives) {
                self.act(player, stage, json!({ "kill": name })).await?;
            }
        }
        for json in fault.end.steps {
            self.act(player, stage, json).await?;
        }
        for name in fault.end.recover {
            self.recover(player, stage, &name).await?;
        }
        Ok(())
    }

    /// A process runs again. One that was asked to stop and has not yet is killed, as those do who run it.
    async fn recover(&mut self, player: &mut Player, stage: &mut Stage, name: &str) -> Result<(), Stop> {
        let Some(proc) = stage.world().proc(name) else { return Ok(()) };
        match stage.world().state(proc) {
            ProcState::Running | ProcState::Starting => Ok(()),
            ProcState::Paused => self.act(player, stage, json!({ "resume": name })).await,
            ProcState::Down | ProcState::Halted => self.act(player, stage, json!({ "start": name })).await,
            ProcState::Stopping => {
                self.act(player, stage, json!({ "kill": name })).await?;
                self.act(player, stage, json!({ "start": name })).await
            }
        }
    }

    async fn end_all(&mut self, player: &mut Player, stage: &mut Stage) -> Result<(), Stop> {
        self.later.clear();
        for fault in std::mem::take(&mut self.active) {
            self.end(player, stage, fault).await?;
        }
        // Who stopped itself for want of a disk or a quorum is started as well.
        for name in std::mem::take(&mut self.ran) {
            self.recover(player, stage, &name).await?;
        }
        player.observer.tell(stage.world().now(), "chaos", "chaos is over".to_owned(), Tone::Step);
        Ok(())
    }
}

/// Looks whether `min.insync.replicas` is kept, whenever a partition changes.
struct Watch {
    on: bool,
    seen: u64,
    /// Partitions that had enough in sync.
    whole: BTreeSet<(String, i32)>,
    broken: Vec<String>,
    told: usize,
}

impl Watch {
    fn new(player: &Player, world: &World, on: bool) -> Watch {
        let mut watch = Watch { on, seen: u64::MAX, whole: BTreeSet::new(), broken: Vec::new(), told: 0 };
        watch.look(player, world);
        watch
    }

    fn look(&mut self, player: &Player, world: &World) {
        if !self.on || self.seen == player.observer.partition_changes {
            return;
        }
        self.seen = player.observer.partition_changes;
        let image = keep::newest_image(player, world);
        for (at, state) in &player.observer.partitions {
            let min = keep::min_isr(player, image, &at.0, state.replicas.len());
            if state.isr.len() >= min {
                if !self.whole.contains(at) {
                    self.whole.insert(at.clone());
                }
            } else if self.whole.remove(at) {
                let seconds = player.observer.seconds(world.now());
                self.broken.push(format!(
                    "min_isr was to be kept, and at {seconds:.3} s the ISR of {}-{} was {:?}, {min} needed",
                    at.0, at.1, state.isr
                ));
            }
        }
    }

    /// What was found since the last call.
    fn news(&mut self) -> Vec<String> {
        let news = self.broken[self.told..].to_vec();
        self.told = self.broken.len();
        news
    }
}

/// Whether a scenario has chaos in one of its steps.
pub fn any(steps: &[Step]) -> bool {
    steps.iter().any(|step| match &step.verb {
        Verb::Chaos(_) => true,
        Verb::Repeat(repeat) => any(&repeat.steps),
        _ => false,
    })
}

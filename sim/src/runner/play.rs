//! Plays a scenario: start-up, steps, expectations. The player is a value beside the world: both can be cloned between
//! two steps, and the copy plays on to the same end.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker_core::coordinator::{GROUP_TOPIC, TRANSACTION_TOPIC, partition_for};
use reports::{StepReport, Tone};

use super::build;
use super::chaos::Scheduled;
use super::evaluate;
use super::observer::Observer;
use super::setup::TopicMaker;
use super::view::Look;
use crate::scenario::{Client, Duration, Expect, Scenario, Step, Verb, Want, Who};
use crate::world::chance::{Chance, derive};
use crate::world::{
    self, Between, Make, ProcId, ProcSpec, ProcState, SimTime, Stage, VerbError, WorkCost, World, WorldError,
};

/// How long a cluster may take until all brokers are unfenced and all declared topics have their full ISR.
const START_LIMIT: u64 = 60_000_000_000;
/// What depends on time alone is looked at again after this much of it.
const GLANCE: u64 = 10_000_000;

/// Why a run ended before its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// A step did not hold.
    Expectation(String),
    /// The cluster did not get there in time.
    Liveness(String),
    /// A node stopped on an assertion.
    Crash(String),
}

impl From<WorldError> for Stop {
    fn from(error: WorldError) -> Stop {
        match error {
            WorldError::Livelock { .. } => Stop::Liveness(error.to_string()),
            WorldError::Assertion { .. } => Stop::Crash(error.to_string()),
        }
    }
}

/// A step with the names that a repetition bound.
#[derive(Clone, Debug)]
struct Planned {
    step: Step,
    bindings: Vec<(String, Who)>,
}

/// Plays one scenario.
#[derive(Clone)]
pub struct Player {
    /// What is played.
    pub scenario: Arc<Scenario>,
    /// What is known so far.
    pub observer: Observer,
    /// The steps that were played.
    pub reports: Vec<StepReport>,
    plan: Arc<Vec<Planned>>,
    next: usize,
    /// Names kept with `as`, by what they stand for.
    kept: BTreeMap<String, Vec<String>>,
    /// The last step that changed something.
    changed_at: SimTime,
    chance: Chance,
    commands: u32,
    /// What chaos did.
    pub schedule: Vec<Scheduled>,
    /// What chaos broke that it was to keep: there is nothing, or chaos or the core is wrong.
    pub not_kept: Vec<String>,
    /// How many times chaos came.
    pub(super) chaoses: u32,
    /// Whether it is chaos that plays a step.
    pub(super) in_chaos: bool,
    pub(super) seed: u64,
    /// How far a wall clock was wrong at most, in nanoseconds.
    pub(super) leapt: u64,
}

impl Player {
    /// A player at the beginning.
    pub fn new(scenario: Arc<Scenario>, seed: u64) -> Player {
        let mut plan = Vec::new();
        flatten(&scenario.steps, &[], &mut plan);
        Player {
            observer: Observer::new(&scenario),
            scenario,
            reports: Vec::new(),
            plan: Arc::new(plan),
            next: 0,
            kept: BTreeMap::new(),
            changed_at: SimTime::ZERO,
            chance: derive(seed, "steps"),
            commands: 0,
            schedule: Vec::new(),
            not_kept: Vec::new(),
            chaoses: 0,
            in_chaos: false,
            seed,
            leapt: 0,
        }
    }

    /// How many steps there are, repetitions counted out.
    pub fn len(&self) -> usize {
        self.plan.len()
    }

    /// Whether there is no step at all.
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty()
    }

    /// How many steps were played.
    pub fn played(&self) -> usize {
        self.next
    }

    // --- before step 0

    /// What the cluster promises depends on its features as well.
    pub fn note_features(&mut self, world: &World) {
        let nodes = self.scenario.cluster.nodes.iter();
        let images = nodes.filter_map(|n| Some(world.node(world.proc(&n.name)?)?.image()));
        if let Some(newest) = images.max_by_key(|image| image.offset) {
            self.observer.features(newest);
        }
    }

    /// Starts the nodes, makes the topics, waits for their full ISR, starts the clients.
    pub async fn begin(&mut self, stage: &mut Stage) -> Result<(), Stop> {
        for node in &self.scenario.clone().cluster.nodes {
            let proc = stage.world().proc(&node.name).expect("a node of this scenario");
            self.observer.node(proc, &node.name, node.id);
            self.verb(stage.start(proc).await, "start")?;
        }
        let limit = stage.world().now() + wire::drive::Nanos(START_LIMIT);
        let up = self.advance(stage, limit, |player, world| player.all_brokers_serve(world))?;
        if !up {
            return Err(Stop::Liveness("not all brokers were unfenced within 60 s of the start".to_owned()));
        }
        self.make_topics(stage, limit).await?;
        let origin = stage.world().now();
        self.observer.begin(origin);
        self.note_features(stage.world());
        self.changed_at = origin;
        let summary = self.summary();
        self.observer.tell(origin, "cluster", summary, Tone::Plain);
        for client in &self.scenario.clone().clients {
            for process in client.processes() {
                self.add_client(stage, client, &process);
                if !client.later {
                    let proc = stage.world().proc(&process).expect("it was just added");
                    self.verb(stage.start(proc).await, "start")?;
                }
            }
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let cluster = &self.scenario.cluster;
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut text = format!(
            "{}, {}",
            count(cluster.brokers().len(), "broker"),
            count(cluster.controllers().len(), "controller")
        );
        for topic in &self.scenario.topics {
            text.push_str(&format!(
                "; {}: {}, replication factor {}",
                topic.name,
                count(topic.partitions as usize, "partition"),
                topic.replication_factor
            ));
        }
        text
    }

    fn all_brokers_serve(&self, world: &world::World) -> bool {
        self.scenario.cluster.nodes.iter().filter(|n| n.broker).all(|n| {
            let node = world.proc(&n.name).and_then(|p| world.node(p));
            node.is_some_and(|n| n.state() == broker_core::node::NodeState::Running)
        })
    }

    async fn make_topics(&mut self, stage: &mut Stage, limit: SimTime) -> Result<(), Stop> {
        if self.scenario.topics.is_empty() {
            return Ok(());
        }
        let to = build::bootstrap(&self.scenario).swap_remove(0);
        let maker = TopicMaker::new(self.scenario.topics.clone(), to);
        let spec = ProcSpec {
            name: "topic-maker".to_owned(),
            host: build::LAB.to_owned(),
            start: Between::exactly(wire::drive::Nanos::ZERO),
            cost: WorkCost::NONE,
            make: Make::Machine(Arc::new(move |_| Box::new(maker.clone()))),
        };
        let proc = stage.world_mut().add_proc(spec);
        self.verb(stage.start(proc).await, "start")?;
        self.advance(stage, limit, |_, world| {
            world.machine::<TopicMaker>(proc).is_some_and(|m| m.done.is_some())
        })?;
        let done = stage.world().machine::<TopicMaker>(proc).and_then(|m| m.done.clone());
        match done {
            Some(Ok(())) => {}
            Some(Err(why)) => return Err(Stop::Liveness(why)),
            None => {
                return Err(Stop::Liveness(
                    "the declared topics were not made within 60 s of the start".to_owned(),
                ));
            }
        }
        self.verb(stage.kill(proc).await, "kill")?;
        let full = self.advance(stage, limit, |player, _| {
            player.scenario.topics.iter().all(|t| {
                (0..t.partitions).all(|p| {
                    let state = player.observer.partitions.get(&(t.name.clone(), p));
                    state.is_some_and(|s| s.isr.len() == s.replicas.len() && s.leader >= 0)
                })
            })
        })?;
        if full {
            Ok(())
        } else {
            Err(Stop::Liveness(
                "the declared topics did not have their full ISR within 60 s of the start".to_owned(),
            ))
        }
    }

    fn add_client(&mut self, stage: &mut Stage, client: &Client, process: &str) -> ProcId {
        let first = (self.observer.made(process), self.observer.transactions(process));
        let make = build::client_make(&self.scenario, client, process, first);
        let world = stage.world_mut();
        let proc = match world.proc(process) {
            // Another incarnation goes on with the next message.
            Some(proc) => {
                world.set_make(proc, make);
                proc
            }
            None => {
                world.add_host(process);
                world.add_proc(ProcSpec::of_client(process, process, make))
            }
        };
        self.observer.client(proc, process, client);
        proc
    }

    // --- time

    /// Lets things happen until `until`, or until `enough` says so; whether it did. What happened is observed.
    fn advance(
        &mut self,
        stage: &mut Stage,
        until: SimTime,
        mut enough: impl FnMut(&Player, &world::World) -> bool,
    ) -> Result<bool, Stop> {
        self.observer.observe(stage.world_mut());
        if enough(self, stage.world()) {
            return Ok(true);
        }
        let mut glance = stage.world().now().0 / GLANCE;
        while stage.world().next_at().is_some_and(|next| next <= until) {
            stage.step()?;
            let happened = self.observer.observe(stage.world_mut());
            let bin = stage.world().now().0 / GLANCE;
            if (happened || bin != glance) && enough(self, stage.world()) {
                return Ok(true);
            }
            glance = bin;
            self.within_limit(stage)?;
        }
        stage.run_until(until)?;
        self.observer.observe(stage.world_mut());
        Ok(enough(self, stage.world()))
    }

    fn within_limit(&self, stage: &Stage) -> Result<(), Stop> {
        let limit = self.scenario.limit;
        if stage.world().now().since(self.observer.origin).0 > limit.0 {
            return Err(Stop::Liveness(format!("the run exceeded its limit of {limit} virtual time")));
        }
        Ok(())
    }

    /// Lets so much time pass.
    pub fn pass(&mut self, stage: &mut Stage, span: u64) -> Result<(), Stop> {
        let until = stage.world().now() + wire::drive::Nanos(span);
        self.advance(stage, until, |_, _| false).map(|_| ())
    }

    /// Lets things happen for at most `span`, until something holds; whether it did.
    pub fn until(
        &mut self,
        stage: &mut Stage,
        span: u64,
        enough: impl FnMut(&Player, &world::World) -> bool,
    ) -> Result<bool, Stop> {
        let until = stage.world().now() + wire::drive::Nanos(span);
        self.advance(stage, until, enough)
    }

    pub(super) fn verb(&self, done: Result<(), VerbError>, word: &str) -> Result<(), Stop> {
        done.map_err(|e| Stop::Expectation(format!("{word}: {e}")))
    }

    // --- steps

    /// Plays the next step; `false` when there is none left. A step that does not hold ends the run.
    pub async fn step(&mut self, stage: &mut Stage) -> Result<bool, Stop> {
        let Some(planned) = self.plan.get(self.next).cloned() else { return Ok(false) };
        self.next += 1;
        for (name, who) in &planned.bindings {
            let names = self.names_of(stage.world(), who).map_err(Stop::Expectation)?;
            self.kept.insert(name.clone(), names);
        }
        let step = planned.step;
        let at = stage.world().now();
        if let Some(section) = &step.section {
            self.observer.tell(at, "", section.clone(), Tone::Section);
        }
        if !matches!(step.verb, Verb::Wait(_) | Verb::Expect(_) | Verb::Command(_)) {
            self.changed_at = at;
        }
        if !matches!(step.verb, Verb::Expect(_)) {
            self.observer.node_events.clear();
        }
        if !matches!(step.verb, Verb::Wait(_) | Verb::Expect(_) | Verb::Command(_)) {
            self.observer.forget_warnings();
        }
        let mut report = StepReport {
            index: step.index,
            verb: step.verb.word().to_owned(),
            line: step.line,
            note: step.note.clone(),
            section: step.section.clone(),
            ..StepReport::default()
        };
        let played = self.play(stage, &step, &mut report).await;
        report.at_seconds = self.observer.seconds(stage.world().now());
        report.held = Some(played.is_ok());
        if let Err(Stop::Expectation(why)) = &played {
            report.detail.clone_from(why);
        }
        if matches!(step.verb, Verb::Chaos(_)) {
            self.changed_at = stage.world().now();
        }
        let index = step.index;
        self.reports.push(report);
        played.map(|()| true).map_err(|stop| match stop {
            Stop::Expectation(why) => {
                let at = stage.world().now();
                self.observer.tell(at, &format!("step {index}"), format!("did not hold: {why}"), Tone::Bad);
                Stop::Expectation(why)
            }
            other => other,
        })
    }

    /// The steps that were not reached, for the report.
    pub fn not_run(&self) -> Vec<StepReport> {
        let rest = self.plan[self.next..].iter();
        rest.map(|p| StepReport {
            index: p.step.index,
            verb: p.step.verb.word().to_owned(),
            line: p.step.line,
            ..StepReport::default()
        })
        .collect()
    }

    pub(super) fn tell_step(&mut self, stage: &Stage, step: &Step, text: String) {
        let at = stage.world().now();
        let who = if self.in_chaos { "chaos".to_owned() } else { format!("step {}", step.index) };
        self.observer.tell(at, &who, text, Tone::Step);
        if let Some(note) = &step.note {
            self.observer.tell(at, "", note.clone(), Tone::Note);
        }
    }

    async fn play(&mut self, stage: &mut Stage, step: &Step, report: &mut StepReport) -> Result<(), Stop> {
        match &step.verb {
            Verb::Wait(range) => {
                let span = self.chance.between(build::between(*range));
                self.tell_step(stage, step, format!("wait {}", Duration(span.0)));
                self.pass(stage, span.0)
            }
            Verb::Expect(expect) => self.expect(stage, step, expect, report),
            Verb::Command(command) => {
                self.tell_step(stage, step, command.line.clone());
                self.commands += 1;
                let number = self.commands;
                super::command::play(self, stage, command, number, report).await
            }
            Verb::Chaos(chaos) => super::chaos::play(self, stage, step, chaos).await,
            Verb::Repeat(_) => unreachable!("repetitions are flattened"),
            _ => self.change(stage, step, report).await,
        }
    }

    /// Plays one step that chaos drew: it takes no time.
    pub(super) async fn act(&mut self, stage: &mut Stage, step: &Step) -> Result<(), Stop> {
        let mut report = StepReport::default();
        match &step.verb {
            Verb::Command(command) => {
                self.tell_step(stage, step, command.line.clone());
                super::command::play(self, stage, command, 0, &mut report).await
            }
            _ => self.change(stage, step, &mut report).await,
        }
    }

    async fn change(&mut self, stage: &mut Stage, step: &Step, report: &mut StepReport) -> Result<(), Stop> {
        match &step.verb {
            Verb::Kill(whom) => {
                for name in self.resolve_step(stage, step, "kill", whom, report)? {
                    let proc = proc_of(stage, &name)?;
                    self.verb(stage.kill(proc).await, "kill")?;
                }
            }
            Verb::Stop(whom, wait) => self.stop(stage, step, whom, *wait, report).await?,
            Verb::PowerOff(whom, unsynced) => {
                let names = self.resolve_step(stage, step, "power off", whom, report)?;
                self.cover(stage, step, &names);
                for name in names {
                    let host = stage.world().host_of(proc_of(stage, &name)?);
                    self.verb(stage.power_off(host, *unsynced).await, "power_off")?;
                }
            }
            Verb::Pause(whom) => {
                for name in self.resolve_step(stage, step, "pause", whom, report)? {
                    let proc = proc_of(stage, &name)?;
                    self.verb(stage.pause(proc).await, "pause")?;
                }
            }
            Verb::Resume(whom) => {
                for name in self.resolve_step(stage, step, "resume", whom, report)? {
                    let proc = proc_of(stage, &name)?;
                    self.verb(stage.resume(proc).await, "resume")?;
                }
            }
            Verb::Start(whom) => {
                for name in self.resolve_step(stage, step, "start", whom, report)? {
                    self.start(stage, &name).await?;
                }
            }
            Verb::Snapshot(_) | Verb::Restore(_) => self.other_disk(stage, step, report)?,
            Verb::Wipe(who) => {
                let names = self.resolve_step(stage, step, "wipe", std::slice::from_ref(who), report)?;
                self.cover(stage, step, &names);
                for name in names {
                    let proc = proc_of(stage, &name)?;
                    let wiped = stage.world_mut().wipe(proc);
                    self.verb(wiped, "wipe")?;
                }
            }
            _ => self.weather(stage, step, report)?,
        }
        self.observer.observe(stage.world_mut());
        if step.covered && !self.in_chaos {
            self.observer.promise.covered(false);
        }
        Ok(())
    }

    /// What a `covered` step takes from these nodes excuses nothing if enough others have it now. Chaos has judged that of
    /// its own steps.
    pub(super) fn cover(&mut self, stage: &Stage, step: &Step, names: &[String]) {
        if step.covered && !self.in_chaos {
            let nodes = self.scenario.cluster.nodes.iter();
            let ids = nodes.filter(|n| names.contains(&n.name)).map(|n| n.id).collect();
            let covered = super::chaos::keep::covers(self, stage.world(), &ids);
            self.observer.promise.covered(covered);
        }
    }

    /// Who a step is about, told and kept.
    pub(super) fn resolve_step(
        &mut self,
        stage: &Stage,
        step: &Step,
        word: &str,
        whom: &[Who],
        report: &mut StepReport,
    ) -> Result<Vec<String>, Stop> {
        let mut names = Vec::new();
        for who in whom {
            names.extend(self.names_of(stage.world(), who).map_err(Stop::Expectation)?);
        }
        let shown = names.join(", ");
        let plain = whom.iter().all(|w| matches!(w, Who::Name(n) if names.contains(n)));
        let text = if plain {
            format!("{word} {shown}")
        } else {
            let asked: Vec<String> = whom.iter().map(Who::to_string).collect();
            format!("{word} {} = {shown}", asked.join(", "))
        };
        report.detail.clone_from(&shown);
        self.tell_step(stage, step, text);
        if let Some(name) = &step.keep_as {
            self.kept.insert(name.clone(), names.clone());
        }
        Ok(names)
    }

    async fn stop(
        &mut self,
        stage: &mut Stage,
        step: &Step,
        whom: &[Who],
        wait: bool,
        report: &mut StepReport,
    ) -> Result<(), Stop> {
        let names = self.resolve_step(stage, step, "stop", whom, report)?;
        let mut procs = Vec::new();
        for name in &names {
            let proc = proc_of(stage, name)?;
            self.verb(stage.stop(proc).await, "stop")?;
            procs.push(proc);
        }
        if !wait {
            return Ok(());
        }
        // A controlled shutdown gives up after five minutes, a producer's close after its delivery time-out.
        let gone = |_: &Player, world: &world::World| {
            procs.iter().all(|p| matches!(world.state(*p), ProcState::Down | ProcState::Halted))
        };
        if self.until(stage, 600_000_000_000, gone)? {
            Ok(())
        } else {
            Err(Stop::Liveness(format!("{} did not stop within 10 minutes", names.join(", "))))
        }
    }

    async fn start(&mut self, stage: &mut Stage, name: &str) -> Result<(), Stop> {
        let scenario = self.scenario.clone();
        if let Some(client) = scenario.clients.iter().find(|c| c.processes().iter().any(|p| p == name)) {
            let runs = stage
                .world()
                .proc(name)
                .is_some_and(|p| !matches!(stage.world().state(p), ProcState::Down | ProcState::Halted));
            if !runs {
                self.add_client(stage, client, name);
            }
        }
        let proc = proc_of(stage, name)?;
        self.verb(stage.start(proc).await, "start")
    }

    // --- expectations

    fn expect(
        &mut self,
        stage: &mut Stage,
        step: &Step,
        expect: &Expect,
        report: &mut StepReport,
    ) -> Result<(), Stop> {
        self.tell_step(stage, step, expectation_text(expect));
        // What a reference stands for is settled when the step begins.
        let expect = self.settled(stage.world(), expect).map_err(Stop::Expectation)?;
        let last = std::cell::RefCell::new(Ok(String::new()));
        let holds = |player: &Player, world: &world::World| {
            let found = evaluate::holds(&expect, &Look { player, world });
            let ok = found.is_ok();
            *last.borrow_mut() = found;
            ok
        };
        let held = match expect.within {
            Some(within) => self.until(stage, within.0, holds)?,
            // Everything due at this instant comes first.
            None => {
                let now = stage.world().now();
                self.advance(stage, now, |_, _| false)?;
                holds(self, stage.world())
            }
        };
        let held = match (held, expect.holds_for) {
            (true, Some(span)) => !self.until(stage, span.0, |player, world| !holds(player, world))?,
            (held, _) => held,
        };
        let found = last.into_inner();
        report.detail = match &found {
            Ok(text) | Err(text) => text.clone(),
        };
        if held {
            return Ok(());
        }
        let within = expect.within.map_or(String::new(), |w| format!(" within {w}"));
        let text = found.err().unwrap_or_default();
        Err(Stop::Expectation(format!(
            "expected {}{within}; found {text}",
            expectation_text(&expect).trim_start_matches("expect ")
        )))
    }

    /// The same expectation with every reference replaced by what it stands for now.
    fn settled(&self, world: &world::World, expect: &Expect) -> Result<Expect, String> {
        let settle = |who: &Who| -> Result<Vec<Who>, String> {
            match who {
                Who::Name(n) if !self.kept.contains_key(n) => Ok(vec![who.clone()]),
                who => Ok(self.names_of(world, who)?.into_iter().map(Who::Name).collect()),
            }
        };
        fn want(w: &Want, settle: &dyn Fn(&Who) -> Result<Vec<Who>, String>) -> Result<Want, String> {
            let all = |list: &[Who]| -> Result<Vec<Who>, String> {
                let lists: Result<Vec<_>, String> = list.iter().map(settle).collect();
                Ok(lists?.into_iter().flatten().collect())
            };
            Ok(match w {
                Want::Id(who) => match settle(who)?.as_slice() {
                    [one] => Want::Id(one.clone()),
                    many => Want::AnyOf(many.to_vec()),
                },
                Want::AnyOf(list) => Want::AnyOf(all(list)?),
                Want::Set(list) => Want::Set(all(list)?),
                Want::Ordered(list) => Want::Ordered(all(list)?),
                Want::HasLacks(has, lacks) => Want::HasLacks(all(has)?, all(lacks)?),
                Want::Not(inner) => Want::Not(Box::new(want(inner, settle)?)),
                other => other.clone(),
            })
        }
        let mut settled = expect.clone();
        if let crate::scenario::Subject::Node(who) = &expect.on
            && let [one] = settle(who)?.as_slice()
        {
            settled.on = crate::scenario::Subject::Node(one.clone());
        }
        for (_, w) in &mut settled.fields {
            *w = want(w, &settle)?;
        }
        Ok(settled)
    }

    // --- who is who

    /// The names of the processes that somebody stands for.
    pub fn names_of(&self, world: &world::World, who: &Who) -> Result<Vec<String>, String> {
        let nodes = &self.scenario.cluster.nodes;
        let name_of = |id: i32, broker: bool| {
            let node = nodes.iter().find(|n| n.id == id && (n.broker || !broker));
            node.map(|n| n.name.clone()).ok_or_else(|| format!("there is no node with the id {id}"))
        };
        match who {
            Who::Name(n) if n == "brokers" => {
                Ok(nodes.iter().filter(|n| n.broker).map(|n| n.name.clone()).collect())
            }
            Who::Name(n) if n == "controllers" => {
                Ok(nodes.iter().filter(|n| n.controller).map(|n| n.name.clone()).collect())
            }
            Who::Name(n) => {
                if let Some(names) = self.kept.get(n) {
                    return Ok(names.clone());
                }
                if let Some(client) = self.scenario.clients.iter().find(|c| c.name == *n) {
                    return Ok(client.processes());
                }
                if let Ok(id) = n.parse::<i32>() {
                    return Ok(vec![name_of(id, false)?]);
                }
                Ok(vec![n.clone()])
            }
            Who::LeaderOf(topic, partition) => {
                let state = self.partition(topic, *partition)?;
                if state.leader < 0 {
                    return Err(format!("{topic}-{partition} has no leader"));
                }
                Ok(vec![name_of(state.leader, true)?])
            }
            Who::FollowerOf(topic, partition) => {
                let state = self.partition(topic, *partition)?;
                let follower = state.replicas.iter().find(|r| **r != state.leader);
                let follower = follower.ok_or_else(|| format!("{topic}-{partition} has no follower"))?;
                Ok(vec![name_of(*follower, true)?])
            }
            Who::CoordinatorOf(id) => {
                let topic = if self.is_transactional_id(id) { TRANSACTION_TOPIC } else { GROUP_TOPIC };
                let partitions = self.observer.partitions.keys().filter(|(t, _)| t == topic).count();
                if partitions == 0 {
                    return Err(format!("{id} has no coordinator: there is no {topic} yet"));
                }
                let state = self.partition(topic, partition_for(id, partitions as i32))?;
                if state.leader < 0 {
                    return Err(format!("{id} has no coordinator: its partition of {topic} has no leader"));
                }
                Ok(vec![name_of(state.leader, true)?])
            }
            Who::ActiveController => {
                let active = nodes.iter().filter(|n| n.controller).find(|n| {
                    let node = world.proc(&n.name).and_then(|p| world.node(p));
                    node.and_then(|n| n.controller()).is_some_and(|c| c.is_active())
                });
                active.map(|n| vec![n.name.clone()]).ok_or_else(|| "there is no active controller".to_owned())
            }
        }
    }

    /// Whether a transactional client has this id, and no client a group of this name.
    fn is_transactional_id(&self, id: &str) -> bool {
        let clients = &self.scenario.clients;
        let is_group = !self.scenario.topics_of_group(id).is_empty();
        let has =
            |c: &Client| c.processes().iter().any(|p| build::transactional_id(c, p).is_some_and(|t| t == id));
        !is_group && clients.iter().any(has)
    }

    fn partition(&self, topic: &str, partition: i32) -> Result<&broker_core::event::PartitionState, String> {
        self.observer
            .partitions
            .get(&(topic.to_owned(), partition))
            .ok_or_else(|| format!("there is no partition {topic}-{partition}"))
    }

    /// When the last step began that changed something.
    pub fn changed_at(&self) -> SimTime {
        self.changed_at
    }
}

pub(super) fn proc_of(stage: &Stage, name: &str) -> Result<ProcId, Stop> {
    stage.world().proc(name).ok_or_else(|| Stop::Expectation(format!("{name} has not started yet")))
}

fn flatten(steps: &[Step], bindings: &[(String, Who)], plan: &mut Vec<Planned>) {
    for step in steps {
        match &step.verb {
            Verb::Repeat(repeat) if repeat.each.is_empty() => {
                for _ in 0..repeat.times {
                    flatten(&repeat.steps, bindings, plan);
                }
            }
            Verb::Repeat(repeat) => {
                for who in &repeat.each {
                    let mut bound = bindings.to_vec();
                    bound.push((repeat.name.clone().unwrap_or_default(), who.clone()));
                    flatten(&repeat.steps, &bound, plan);
                }
            }
            _ => plan.push(Planned { step: step.clone(), bindings: bindings.to_vec() }),
        }
    }
}

/// An expectation in words.
fn expectation_text(expect: &Expect) -> String {
    use crate::scenario::Subject;
    let on = match &expect.on {
        Subject::Partition(t, p) => format!("{t}-{p}"),
        Subject::Topic(t) => t.clone(),
        Subject::Client(c) => c.clone(),
        Subject::Group(g) => format!("group {g}"),
        Subject::Quorum => "the quorum".to_owned(),
        Subject::Node(who) => who.to_string(),
        Subject::Violation(want) => format!("violation {}", want_text(want)),
    };
    let fields: Vec<String> = expect
        .fields
        .iter()
        .map(|(name, want)| format!("{} {}", field_text(name), want_text(want)))
        .collect();
    let held = expect.holds_for.map_or(String::new(), |d| format!(", for {d}"));
    format!("expect {on}: {}{held}", fields.join(", ")).replace(": ,", ",").trim_end_matches(": ").to_owned()
}

/// A field as Kafka's engineers write it.
fn field_text(name: &str) -> String {
    match name {
        "isr" | "elr" => name.to_uppercase(),
        "isr_size" => "ISR size".to_owned(),
        other => other.replace('_', " "),
    }
}

fn want_text(want: &Want) -> String {
    let names = |all: &[Who]| all.iter().map(Who::to_string).collect::<Vec<_>>().join(", ");
    match want {
        Want::Number(n) => format!("{n}"),
        Want::Between(low, high) | Want::Rate { at_least: low, at_most: high, .. } => match (low, high) {
            (Some(low), Some(high)) => format!("{low} to {high}"),
            (Some(low), None) => format!("at least {low}"),
            (None, Some(high)) => format!("at most {high}"),
            (None, None) => "any".to_owned(),
        },
        Want::Word(w) => w.clone(),
        Want::Truth(t) => t.to_string(),
        Want::Id(who) => who.to_string(),
        Want::AnyOf(all) => format!("one of {}", names(all)),
        Want::Set(all) | Want::Ordered(all) => format!("[{}]", names(all)),
        Want::HasLacks(has, lacks) => format!("with [{}], without [{}]", names(has), names(lacks)),
        Want::Each(each, _) => {
            each.iter().map(|(k, w)| format!("{k} {}", want_text(w))).collect::<Vec<_>>().join(", ")
        }
        Want::Lists(lists) => format!("{lists:?}"),
        Want::Not(inner) => format!("not {}", want_text(inner)),
    }
}

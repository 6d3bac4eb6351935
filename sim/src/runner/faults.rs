//! Faults: what a step does to links, names, disks and clocks. `chaos` plays the same verbs.

use super::build;
use super::play::{Player, Stop, proc_of};
use crate::scenario::{
    Clock, Cut, Direction, DiskFault, Heal, Link, NamesFault, Restore, Snapshot, Source, Step, Verb, Who,
    same_dir,
};
use crate::world::{self, FaultKind, Stage, VerbError, World};
use reports::StepReport;

impl Player {
    /// Network, disks and clocks.
    pub(super) fn weather(
        &mut self,
        stage: &mut Stage,
        step: &Step,
        report: &mut StepReport,
    ) -> Result<(), Stop> {
        match &step.verb {
            Verb::Cut(cut) => {
                let (a, b) = self.sides(stage, &cut.a, &cut.b)?;
                let word = if cut.jam { "jam" } else { "cut" };
                self.tell_step(stage, step, format!("{word} {}", sides_text(cut)));
                let world = stage.world_mut();
                if !cut.jam {
                    world.cut(&a, &b, cut.direction, cut.reset);
                } else {
                    world.jam(&a, &b, cut.direction);
                    if cut.reset {
                        world.break_connections(&a, &b);
                    }
                }
            }
            Verb::Reset(cut) => {
                let (a, b) = self.sides(stage, &cut.a, &cut.b)?;
                self.tell_step(stage, step, format!("reset the connections {}", sides_text(cut)));
                stage.world_mut().break_connections(&a, &b);
            }
            Verb::Heal(Heal::All) => {
                self.tell_step(stage, step, "heal all cuts".to_owned());
                stage.world_mut().heal_cuts();
            }
            Verb::Heal(Heal::Everything) => {
                self.tell_step(stage, step, "heal all network, disk and clock faults".to_owned());
                stage.world_mut().heal_everything();
            }
            Verb::Heal(Heal::Between(cut)) => {
                let (a, b) = self.sides(stage, &cut.a, &cut.b)?;
                self.tell_step(stage, step, format!("heal {}", sides_text(cut)));
                stage.world_mut().heal(&a, &b, cut.direction);
            }
            Verb::Link(link) => self.link(stage, step, link)?,
            Verb::Names(fault) => self.names_fault(stage, step, fault)?,
            Verb::Disk(fault) => self.disk(stage, step, fault, report)?,
            Verb::Clock(clock) => self.clock(stage, step, clock, report)?,
            other => unreachable!("{} is played elsewhere", other.word()),
        }
        Ok(())
    }

    fn link(&mut self, stage: &mut Stage, step: &Step, link: &Link) -> Result<(), Stop> {
        let (a, b) = self.sides(stage, &link.from, &link.to)?;
        let spec = link.settings.as_ref().map(|s| {
            build::link_spec(s, build::link_spec(&self.scenario.cluster.network, world::LinkSpec::default()))
        });
        let what = link.settings.as_ref().map_or("as at the start".to_owned(), |s| {
            let mut parts = Vec::new();
            if let Some(l) = s.latency {
                parts.push(format!("latency {l}"));
            }
            if let Some((share, latency)) = s.tail {
                parts.push(format!("latency {latency} for {:.1} %", share * 100.0));
            }
            if let Some(b) = s.bandwidth {
                parts.push(format!("{} KiB/s", b / 1024));
            }
            if let Some(l) = s.loss {
                parts.push(format!("{:.1} % loss", l * 100.0));
            }
            if let Some(connect) = s.connect {
                parts.push(format!("connections take {connect} longer"));
            }
            parts.join(", ")
        });
        self.tell_step(stage, step, format!("link {} to {}: {what}", list(&link.from), list(&link.to)));
        stage.world_mut().set_link(&a, &b, link.direction, spec);
        Ok(())
    }

    fn names_fault(&mut self, stage: &mut Stage, step: &Step, fault: &NamesFault) -> Result<(), Stop> {
        let everybody = [Who::Name("rest".to_owned())];
        let or_everybody = |all: &[Who]| if all.is_empty() { everybody.to_vec() } else { all.to_vec() };
        // Each side by itself: who asks may be asked for.
        let (at, _) = self.sides(stage, &or_everybody(&fault.at), &[])?;
        let (of, _) = self.sides(stage, &or_everybody(&fault.of), &[])?;
        let shown = |all: &[Who], otherwise: &str| {
            if all.is_empty() { otherwise.to_owned() } else { list(all) }
        };
        let text = format!(
            "{} {} the names of {}",
            shown(&fault.at, "everybody"),
            if fault.resolved { "can resolve" } else { "cannot resolve" },
            shown(&fault.of, "everybody")
        );
        self.tell_step(stage, step, text);
        stage.world_mut().set_resolved(&at, &of, fault.resolved);
        Ok(())
    }

    fn disk(
        &mut self,
        stage: &mut Stage,
        step: &Step,
        fault: &DiskFault,
        report: &mut StepReport,
    ) -> Result<(), Stop> {
        let node = std::slice::from_ref(&fault.node);
        let word = format!("disk {} of", fault.word());
        for name in self.resolve_step(stage, step, &word, node, report)? {
            let host = stage.world().host_of(proc_of(stage, &name)?);
            let under = self.places(stage.world(), &name, host, fault).map_err(Stop::Expectation)?;
            let Some(kind) = fault.fault else {
                stage.world_mut().heal_disk(host, &under);
                continue;
            };
            let fault = world::DiskFault { kind, under, after: fault.after };
            if !matches!(kind, FaultKind::BitFlip(..)) {
                let at = stage.world().now();
                self.observer.tell(at, &name, format!("its disk: {fault}"), reports::Tone::Bad);
            }
            stage.world_mut().disk_fault(host, fault);
        }
        Ok(())
    }

    /// The paths on which a disk fault lies; none: everything. A fault that cannot be is told in words.
    fn places(&self, world: &World, name: &str, host: u32, fault: &DiskFault) -> Result<Vec<String>, String> {
        let node = self.scenario.cluster.nodes.iter().find(|n| n.name == name);
        let node = node.ok_or_else(|| format!("{name} is no node: it has no disk"))?;
        let dirs = self.scenario.cluster.log_dirs(node);
        if let Some(dir) = fault.dir.as_ref().filter(|dir| !dirs.iter().any(|d| same_dir(d, dir))) {
            return Err(format!(
                "{name} has no log directory \"{dir}\"; its log directories are {}",
                dirs.join(", ")
            ));
        }
        let dir = fault.dir.as_ref().map(|dir| dir.trim_matches('/').to_owned());
        let Some((topic, partition)) = &fault.partition else { return Ok(dir.into_iter().collect()) };
        let partition = format!("{topic}-{partition}");
        let mut found = world.disk(host).dirs_named(&partition);
        if let Some(dir) = &dir {
            found.retain(|path| path.strip_prefix(dir.as_str()).is_some_and(|rest| rest.starts_with('/')));
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let lies_on = |n: &&crate::scenario::NodeDef| {
            world.host(&n.name).is_some_and(|host| !world.disk(host).dirs_named(&partition).is_empty())
        };
        let others: Vec<&str> =
            self.scenario.cluster.nodes.iter().filter(lies_on).map(|n| n.name.as_str()).collect();
        let place = dir.map_or_else(|| name.to_owned(), |dir| format!("{name} in /{dir}"));
        Err(match others.as_slice() {
            [] => format!("{partition} does not lie on {place}: no node has files of it"),
            others => format!("{partition} does not lie on {place} now; it lies on {}", others.join(", ")),
        })
    }

    fn clock(
        &mut self,
        stage: &mut Stage,
        step: &Step,
        clock: &Clock,
        report: &mut StepReport,
    ) -> Result<(), Stop> {
        let whose = std::slice::from_ref(&clock.node);
        for name in self.resolve_step(stage, step, "change the clock of", whose, report)? {
            let host = stage.world().host_of(proc_of(stage, &name)?);
            let world = stage.world_mut();
            if clock.right {
                world.heal_clock(host);
            }
            if let Some(nanos) = clock.step {
                world.step_clock(host, nanos);
            }
            if let Some(ppm) = clock.drift_ppm {
                world.drift_clock(host, ppm);
            }
            let at = world.now();
            let ahead = world.clock_ahead(host);
            self.leapt = self.leapt.max(ahead.unsigned_abs());
            self.observer.tell(at, &name, clock_text(clock, ahead), reports::Tone::Plain);
        }
        Ok(())
    }

    /// Snapshots of disks, and disks with what one held before.
    pub(super) fn other_disk(
        &mut self,
        stage: &mut Stage,
        step: &Step,
        report: &mut StepReport,
    ) -> Result<(), Stop> {
        match &step.verb {
            Verb::Snapshot(Snapshot { node, name }) => {
                let word = format!("keep as \"{name}\" the disk of");
                for node in self.resolve_step(stage, step, &word, std::slice::from_ref(node), report)? {
                    let host = stage.world().host_of(proc_of(stage, &node)?);
                    stage.world_mut().snapshot(host, name);
                }
            }
            Verb::Restore(Restore { node, from }) => {
                let (name, word) = match from {
                    Source::Snapshot(name) => (name.clone(), format!("the disk \"{name}\" for")),
                    Source::Node(whose) => {
                        let names = self.names_of(stage.world(), whose).map_err(Stop::Expectation)?;
                        let [whose] = names.as_slice() else {
                            return Err(Stop::Expectation(
                                "restore: expected the disk of one node".to_owned(),
                            ));
                        };
                        let host = stage.world().host_of(proc_of(stage, whose)?);
                        stage.world_mut().snapshot(host, whose);
                        (whose.clone(), format!("a copy of the disk of {whose} for"))
                    }
                };
                let names = self.resolve_step(stage, step, &word, std::slice::from_ref(node), report)?;
                self.cover(stage, step, &names);
                for node in names {
                    let proc = proc_of(stage, &node)?;
                    let restored: Result<(), VerbError> = stage.world_mut().restore(proc, &name);
                    self.verb(restored, "restore")?;
                }
            }
            other => unreachable!("{} is played elsewhere", other.word()),
        }
        Ok(())
    }

    /// The hosts of both sides; `rest` is everybody who is on neither.
    fn sides(&self, stage: &Stage, a: &[Who], b: &[Who]) -> Result<(Vec<u32>, Vec<u32>), Stop> {
        let world = stage.world();
        let ((mut a, rest_a), (mut b, rest_b)) = (self.side(world, a)?, self.side(world, b)?);
        let others: Vec<u32> = world.hosts().filter(|h| !a.contains(h) && !b.contains(h)).collect();
        if rest_a {
            a.extend(&others);
        }
        if rest_b {
            b.extend(&others);
        }
        Ok((a, b))
    }

    /// The hosts that are named, and whether `rest` is among them.
    fn side(&self, world: &World, all: &[Who]) -> Result<(Vec<u32>, bool), Stop> {
        let (mut hosts, mut rest) = (Vec::new(), false);
        for who in all {
            match who {
                Who::Name(n) if n == "rest" => rest = true,
                Who::Name(n) if n == build::LAB => hosts.extend(world.host(build::LAB)),
                who => {
                    for name in self.names_of(world, who).map_err(Stop::Expectation)? {
                        hosts.push(
                            world
                                .host(&name)
                                .ok_or_else(|| Stop::Expectation(format!("{name} has not started yet")))?,
                        );
                    }
                }
            }
        }
        Ok((hosts, rest))
    }
}

fn list(all: &[Who]) -> String {
    all.iter().map(Who::to_string).collect::<Vec<_>>().join(", ")
}

fn sides_text(cut: &Cut) -> String {
    let between = format!("{} | {}", list(&cut.a), list(&cut.b));
    match cut.direction {
        Direction::Both => between,
        Direction::Forth => format!("{between}, forth only"),
        Direction::Back => format!("{between}, back only"),
    }
}

fn clock_text(clock: &Clock, ahead: i64) -> String {
    let mut parts = Vec::new();
    if let Some(ppm) = clock.drift_ppm {
        parts.push(format!("its wall clock gains {ppm} us a second"));
    }
    let ms = ahead as f64 / 1e6;
    parts.push(match ahead {
        0 => "its wall clock is right now".to_owned(),
        1.. => format!("its wall clock is {ms} ms ahead"),
        _ => format!("its wall clock is {} ms behind", -ms),
    });
    parts.join("; ")
}

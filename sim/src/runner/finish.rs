//! The end of a run: clients stop, consumers catch up, a reader reads everything, the history is judged.

use broker_core::coordinator::TRANSACTION_TOPIC;

use super::build;
use super::evaluate;
use super::play::{Player, Stop};
use super::view::Look;
use crate::checkers::transactions::Hanging;
use crate::scenario::{ClientKind, WantedViolation, WantedViolations};
use crate::world::{self, ProcId, ProcState, Stage};

/// A producer's close waits for its delivery time-out, two minutes unless set.
const CLOSE_LIMIT: u64 = 600_000_000_000;

impl Player {
    /// Everything after the last step.
    pub async fn finish(&mut self, stage: &mut Stage) -> Result<(), Stop> {
        let ended = self.come_to_end(stage).await;
        if matches!(ended, Ok(()) | Err(Stop::Liveness(_))) {
            let hanging = self.hanging(stage.world());
            self.observer.hanging(stage.world().now(), &hanging);
        }
        ended?;
        self.observer.judge(stage.world().now());
        self.final_expectations(stage)
    }

    /// Until everything is read.
    async fn come_to_end(&mut self, stage: &mut Stage) -> Result<(), Stop> {
        self.stop_clients(stage, true).await?;
        if self.scenario.finally.restore || super::chaos::any(&self.scenario.steps) {
            self.restore(stage).await?;
            self.come_to_rest(stage)?;
        } else {
            self.catch_up(stage)?;
        }
        self.stop_clients(stage, false).await?;
        self.read_everything(stage).await?;
        Ok(stage.world_mut().check_nodes()?)
    }

    /// Stops the producers, or everybody else.
    async fn stop_clients(&mut self, stage: &mut Stage, producers: bool) -> Result<(), Stop> {
        let mut procs: Vec<ProcId> = Vec::new();
        for client in &self.scenario.clone().clients {
            let writes =
                matches!(client.kind, ClientKind::Producer { .. } | ClientKind::Transactional { .. });
            for name in client.processes() {
                let Some(proc) = stage.world().proc(&name) else { continue };
                if writes != producers
                    || matches!(stage.world().state(proc), ProcState::Down | ProcState::Halted)
                {
                    continue;
                }
                // A paused process cannot hear SIGTERM: it is let go on first.
                let _ = stage.resume(proc).await;
                stage.stop(proc).await.map_err(|e| Stop::Liveness(e.to_string()))?;
                procs.push(proc);
            }
        }
        let gone = |_: &Player, world: &world::World| {
            procs.iter().all(|p| matches!(world.state(*p), ProcState::Down | ProcState::Halted))
        };
        if self.until(stage, CLOSE_LIMIT, gone)? {
            Ok(())
        } else {
            Err(Stop::Liveness("a client did not close within 10 minutes".to_owned()))
        }
    }

    /// Starts what is down, heals what is broken.
    async fn restore(&mut self, stage: &mut Stage) -> Result<(), Stop> {
        stage.world_mut().heal_everything();
        for node in &self.scenario.clone().cluster.nodes {
            let proc = stage.world().proc(&node.name).expect("a node of this scenario");
            match stage.world().state(proc) {
                ProcState::Down | ProcState::Halted => {
                    stage.start(proc).await.map_err(|e| Stop::Liveness(e.to_string()))?
                }
                _ => {
                    let _ = stage.resume(proc).await;
                    // A log directory that was given up comes back with a new process only.
                    if stage.world().node(proc).is_some_and(|node| node.has_offline_log_dir()) {
                        let again = async {
                            stage.kill(proc).await?;
                            stage.start(proc).await
                        };
                        again.await.map_err(|e| Stop::Liveness(e.to_string()))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Consumers go on until they have everything that their leaders have committed.
    fn catch_up(&mut self, stage: &mut Stage) -> Result<(), Stop> {
        let within = self.scenario.finally.within.0;
        let caught_up = |player: &Player, world: &world::World| {
            super::liveness::is_all_read(player, world) && !player.has_open_transactions(world)
        };
        self.until(stage, within, caught_up)?;
        Ok(())
    }

    /// Whether a transaction is open in a topic of a transactional client: what a dead program left is aborted in time.
    fn has_open_transactions(&self, world: &world::World) -> bool {
        let look = Look { player: self, world };
        let topics = self.scenario.clients.iter().filter_map(|client| match &client.kind {
            ClientKind::Transactional { to, .. } => Some(to),
            _ => None,
        });
        topics.into_iter().any(|topic| {
            let partitions = evaluate::View::partitions(&look, topic);
            partitions.into_iter().any(|p| look.open_transactions(topic, p).is_some_and(|open| open))
        })
    }

    async fn read_everything(&mut self, stage: &mut Stage) -> Result<(), Stop> {
        let mut topics: Vec<String> = Vec::new();
        for client in &self.scenario.clients {
            match &client.kind {
                ClientKind::Producer { topic, .. } | ClientKind::Transactional { to: topic, .. } => {
                    topics.push(topic.clone())
                }
                _ => {}
            }
        }
        topics.retain(|t| self.observer.partitions.keys().any(|(known, _)| known == t));
        topics.sort();
        topics.dedup();
        if topics.is_empty() {
            return Ok(());
        }
        let spec = build::reader(&self.scenario, &topics);
        let proc = stage.world_mut().add_proc(spec);
        self.observer.reader(proc);
        stage.start(proc).await.map_err(|e| Stop::Liveness(e.to_string()))?;
        let within = self.scenario.finally.within.0;
        let done = |player: &Player, world: &world::World| {
            world.state(proc) == ProcState::Down || player.unread(world, &topics).is_empty()
        };
        let read = self.until(stage, within, done)?;
        self.cut_short(stage.world());
        let unread = self.unread(stage.world(), &topics);
        if stage.world().state(proc) != ProcState::Down {
            stage.kill(proc).await.map_err(|e| Stop::Liveness(e.to_string()))?;
        }
        if !read && !unread.is_empty() {
            let how_far = |(topic, partition): &(String, i32)| {
                let look = Look { player: self, world: stage.world() };
                let high = evaluate::View::leader_log(&look, topic, *partition).map_or(-1, |(_, high)| high);
                let read = self.observer.finally_read_to(topic, *partition).unwrap_or(0);
                format!("{topic}-{partition} (at {read}, the high watermark is {high})")
            };
            let text = format!(
                "{} could not be read to the end within {}",
                unread.iter().map(how_far).collect::<Vec<_>>().join(", "),
                self.scenario.finally.within
            );
            return Err(Stop::Liveness(text));
        }
        Ok(())
    }

    /// What is open in the logs of leaders, and what coordinators will end. Where a coordinator is missing, nobody knows.
    fn hanging(&self, world: &world::World) -> Hanging {
        let mut hanging = Hanging::default();
        let topic = TRANSACTION_TOPIC;
        let count = self.observer.partitions.keys().filter(|(known, _)| known == topic).count() as i32;
        let brokers = self.scenario.cluster.nodes.iter().filter_map(|def| world.node(world.proc(&def.name)?));
        let coordinators: Vec<_> = brokers.filter_map(|node| node.transactions()).collect();
        if (0..count).any(|partition| !coordinators.iter().any(|c| c.coordinates(partition))) {
            return hanging;
        }
        coordinators.iter().flat_map(|c| c.unfinished()).for_each(|producer| hanging.unfinished(producer));
        let look = Look { player: self, world };
        for (topic, partition) in
            self.observer.partitions.keys().filter(|(topic, _)| !topic.starts_with("__"))
        {
            for (since, producer) in look.open_since(topic, *partition) {
                hanging.open((topic.clone(), *partition), producer, since);
            }
        }
        hanging
    }

    /// Where a transaction is still open, the reader could not see what lies behind its begin.
    fn cut_short(&mut self, world: &world::World) {
        let look = Look { player: self, world };
        let is_short = |(topic, partition): &&(String, i32)| {
            let high = evaluate::View::leader_log(&look, topic, *partition).map(|(_, high)| high);
            let open = look.open_transactions(topic, *partition).unwrap_or(false);
            let read = self.observer.finally_read_to(topic, *partition);
            open && high.zip(read).is_some_and(|(high, read)| read < high)
        };
        let short: Vec<(String, i32)> = self.observer.partitions.keys().filter(is_short).cloned().collect();
        for (topic, partition) in short {
            self.observer.finally_cut_short(&topic, partition);
        }
    }

    /// Partitions that have a running leader and were not read to their end. What nobody leads cannot be read.
    fn unread(&self, world: &world::World, topics: &[String]) -> Vec<(String, i32)> {
        let look = Look { player: self, world };
        let partitions = self.observer.partitions.keys().filter(|(t, _)| topics.contains(t));
        let reachable = partitions.filter(|(t, p)| evaluate::View::leader_log(&look, t, *p).is_some());
        reachable.filter(|(t, p)| !self.observer.finally_complete(t, *p)).cloned().collect()
    }

    fn final_expectations(&mut self, stage: &mut Stage) -> Result<(), Stop> {
        for expect in &self.scenario.clone().finally.expect {
            let found = evaluate::holds(expect, &Look { player: self, world: stage.world() });
            if let Err(found) = found {
                return Err(Stop::Expectation(format!("finally: found {found}")));
            }
        }
        Ok(())
    }

    /// What `finally.violations` does not allow; `None` if it allows what was found.
    pub fn not_allowed(&self) -> Option<String> {
        let findings = &self.observer.findings;
        let matches = |wanted: &WantedViolation, finding: &super::observer::Finding| {
            let topic = match &finding.subject {
                crate::checkers::Subject::Partition(topic, _) => Some(topic),
                crate::checkers::Subject::Quorum | crate::checkers::Subject::Node(_) => None,
            };
            wanted.name == finding.name && (wanted.topic.is_none() || wanted.topic.as_ref() == topic)
        };
        let missing = |wanted: &[WantedViolation]| {
            wanted
                .iter()
                .find(|w| !findings.iter().any(|f| matches(w, f)))
                .map(|w| format!("{} was expected and not found", w.name))
        };
        match &self.scenario.finally.violations {
            None => findings
                .iter()
                .find(|f| f.excuse.is_none())
                .map(|f| format!("{} on {} was promised not to happen", f.name, f.subject)),
            Some(WantedViolations::Exactly(wanted)) => {
                let extra = findings.iter().find(|f| !wanted.iter().any(|w| matches(w, f)));
                extra
                    .map(|f| format!("{} on {} is not among those that finally allows", f.name, f.subject))
                    .or_else(|| missing(wanted))
            }
            Some(WantedViolations::HasLacks(has, lacks)) => {
                let bad = findings.iter().find(|f| lacks.iter().any(|w| matches(w, f)));
                bad.map(|f| format!("{} on {} is among those that finally rules out", f.name, f.subject))
                    .or_else(|| missing(has))
            }
        }
    }
}

//! What expectations may look at, taken from the observer and from the nodes themselves.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::coordinator::group::GroupView;
use broker_core::event::{PartitionState, TopicPartition};
use broker_core::replica::ReplicaView;

use super::evaluate::{GroupState, QuorumView, View};
use super::play::Player;
use super::stats::ClientStats;
use crate::scenario::{NodeDef, Who};
use crate::world::{ProcState, World};

/// A look at a run between two steps of the world.
pub struct Look<'a> {
    /// What is known.
    pub player: &'a Player,
    /// The world as it is.
    pub world: &'a World,
}

impl Look<'_> {
    /// The replica of a partition on a broker that runs.
    fn replica(&self, broker: i32, topic: &str, partition: i32) -> Option<(u32, ReplicaView<'_>)> {
        let def = self.player.scenario.cluster.nodes.iter().find(|n| n.id == broker && n.broker)?;
        let proc = self.world.proc(&def.name)?;
        let replicas = self.world.node(proc)?.replicas()?;
        let replica = replicas.partitions().find(|r| **r.topic == *topic && r.partition == partition)?;
        Some((self.world.host_of(proc), replica))
    }

    /// The end of a replica's log, if its broker runs.
    pub fn log_end(&self, broker: i32, topic: &str, partition: i32) -> Option<i64> {
        Some(self.replica(broker, topic, partition)?.1.log?.log_end_offset())
    }

    /// The state of a group, if its coordinator runs.
    pub fn group_state(&self, group: &str) -> Option<String> {
        self.coordinated(group).map(|known| known.state.to_owned())
    }

    /// Where a consumer's process reads next; 0 before it has begun.
    pub fn position(&self, process: &str, topic: &str, partition: i32) -> i64 {
        let client = self.world.proc(process).and_then(|proc| self.world.client(proc));
        let Some(client::Process::Consumer(consumer)) = client else { return 0 };
        consumer.consumer().position(&client::TopicPartition::new(topic, partition)).unwrap_or(0)
    }

    /// Whether a transaction is open in a partition; `None` if it has no running leader.
    pub fn open_transactions(&self, topic: &str, partition: i32) -> Option<bool> {
        let leader = self.player.observer.partitions.get(&(topic.to_owned(), partition))?.leader;
        let (_, replica) = self.replica(leader, topic, partition)?;
        Some(replica.log?.last_stable_offset() < replica.high_watermark)
    }

    /// The transactions that are open in a partition's log: first offset and producer. None without a running leader.
    pub fn open_since(&self, topic: &str, partition: i32) -> Vec<(i64, i64)> {
        let state = self.player.observer.partitions.get(&(topic.to_owned(), partition));
        let log = state.and_then(|state| self.replica(state.leader, topic, partition)?.1.log);
        log.map_or_else(Vec::new, |log| log.open_transactions().collect())
    }

    /// All record bytes of a replica, segment by segment.
    fn log_bytes(&self, broker: i32, topic: &str, partition: i32) -> Option<Vec<u8>> {
        let (host, replica) = self.replica(broker, topic, partition)?;
        let dir = format!("{}/", replica.log?.dir());
        let mut bytes = Vec::new();
        for path in self.world.files(host).iter().filter(|p| p.starts_with(&dir) && p.ends_with(".log")) {
            bytes.extend(self.world.file(host, path)?);
        }
        Some(bytes)
    }
}

impl View for Look<'_> {
    fn now(&self) -> u64 {
        self.world.now().0
    }

    fn changed_at(&self) -> u64 {
        self.player.changed_at().0
    }

    fn partitions(&self, topic: &str) -> Vec<i32> {
        self.player.observer.partitions.keys().filter(|(t, _)| t == topic).map(|(_, p)| *p).collect()
    }

    fn partition(&self, topic: &str, partition: i32) -> Option<PartitionState> {
        self.player.observer.partitions.get(&(topic.to_owned(), partition)).cloned()
    }

    fn leader_log(&self, topic: &str, partition: i32) -> Option<(i64, i64)> {
        let leader = self.player.observer.partitions.get(&(topic.to_owned(), partition))?.leader;
        let (_, replica) = self.replica(leader, topic, partition)?;
        Some((replica.log?.log_end_offset(), replica.high_watermark))
    }

    fn same_log(&self, topic: &str, partition: i32) -> Option<bool> {
        let state = self.player.observer.partitions.get(&(topic.to_owned(), partition))?;
        let mut all = state.isr.iter().map(|broker| self.log_bytes(*broker, topic, partition));
        let first = all.next()??;
        for other in all {
            if other? != first {
                return Some(false);
            }
        }
        Some(true)
    }

    fn client(&self, name: &str) -> Option<&ClientStats> {
        self.player.observer.stats(name)
    }

    fn node_state(&self, name: &str) -> String {
        let Some(proc) = self.world.proc(name) else { return "down".to_owned() };
        match self.world.state(proc) {
            ProcState::Running => match self.world.node(proc) {
                // Whether a broker is fenced is the controller's word, not its own.
                Some(node) => match node.state() {
                    broker_core::node::NodeState::Starting => "starting",
                    broker_core::node::NodeState::Stopping => "stopping",
                    _ if self.fenced(name) => "fenced",
                    _ => "running",
                }
                .to_owned(),
                None => "running".to_owned(),
            },
            other => other.to_string(),
        }
    }

    fn node_events(&self, name: &str) -> Vec<(String, Option<String>)> {
        let events = self.player.observer.node_events.get(name);
        events.map_or_else(Vec::new, |all| all.iter().map(|(e, p)| ((*e).to_owned(), p.clone())).collect())
    }

    fn group(&self, name: &str) -> Result<GroupState, String> {
        let known = self.coordinated(name).ok_or_else(|| format!("group {name}: no coordinator runs now"))?;
        let mut group = GroupState {
            state: known.state.to_owned(),
            members: known.members.len(),
            rebalances: known.generation,
            ..GroupState::default()
        };
        for member in &known.members {
            let partitions = group.assigned.entry(member.client_id.to_string()).or_default();
            partitions.extend(member.partitions.iter().map(ToString::to_string));
            partitions.sort();
        }
        group.committed = known.committed.iter().map(|(at, offset)| (at.to_string(), *offset)).collect();
        group.lag = self.lag(name, &known.committed);
        if let Some(done) = self.player.observer.processing.of_group(name) {
            (group.processed, group.reprocessed) = (done.records, done.again);
            let missed = |(at, offset): (&TopicPartition, &i64)| {
                done.missed(self.player.observer.place(&at.topic, at.partition), *offset)
            };
            group.missed = known.committed.iter().map(missed).sum();
        }
        Ok(group)
    }

    fn quorum(&self) -> QuorumView {
        let mut view = QuorumView::default();
        let controllers = self.player.scenario.cluster.nodes.iter().filter(|n| n.controller);
        let rafts: Vec<_> = controllers
            .clone()
            .filter_map(|n| {
                let node = self.world.node(self.world.proc(&n.name)?)?;
                Some((n.id, node.raft()))
            })
            .collect();
        view.epoch = rafts.iter().map(|(_, r)| r.epoch()).max().unwrap_or(0);
        let leader = rafts.iter().find(|(_, r)| r.is_leader() && r.epoch() == view.epoch);
        // Without a leader whoever has come furthest knows best; without anybody, the scenario.
        let furthest = leader.or(rafts.iter().max_by_key(|(_, r)| (r.epoch(), r.log_end_offset())));
        view.voters = match furthest {
            Some((_, raft)) => raft.voters().ids().collect(),
            None => controllers.filter(|n| n.voter).map(|n| n.id).collect(),
        };
        if let Some((id, raft)) = leader {
            view.leader = Some(*id);
            let voters = rafts.iter().filter(|(id, _)| view.voters.contains(id));
            let slowest = voters.map(|(_, r)| r.log_end_offset()).min().unwrap_or(0);
            view.lag = Some(raft.log_end_offset() - slowest);
        }
        view
    }

    fn violations(&self) -> BTreeSet<String> {
        self.player.observer.found_names()
    }

    fn resolve(&self, who: &Who) -> Result<Vec<i32>, String> {
        if let Who::Name(n) = who {
            if n == "none" {
                return Ok(vec![-1]);
            }
            if let Ok(id) = n.parse() {
                return Ok(vec![id]);
            }
        }
        let names = self.player.names_of(self.world, who)?;
        let nodes = &self.player.scenario.cluster.nodes;
        names
            .iter()
            .map(|name| {
                nodes
                    .iter()
                    .find(|n| n.name == *name)
                    .map(|n| n.id)
                    .ok_or_else(|| format!("{name} is not a node"))
            })
            .collect()
    }

    fn resolve_names(&self, who: &Who) -> Result<Vec<String>, String> {
        self.player.names_of(self.world, who)
    }
}

impl Look<'_> {
    /// A group as the broker knows it that coordinates it in the highest epoch.
    fn coordinated(&self, group: &str) -> Option<GroupView> {
        let nodes = self.player.scenario.cluster.nodes.iter().filter(|n| n.broker);
        let of_node = |def: &NodeDef| {
            let node = self.world.node(self.world.proc(&def.name)?)?;
            node.groups()?.group(node.image(), group)
        };
        nodes.filter_map(of_node).max_by_key(|(epoch, _)| *epoch).map(|(_, view)| view)
    }

    /// What a group has not read of its clients' topics and of those that it has offsets of.
    fn lag(&self, group: &str, committed: &BTreeMap<TopicPartition, i64>) -> Option<i64> {
        let mut topics = self.player.scenario.topics_of_group(group);
        topics.extend(committed.keys().map(|at| at.topic.to_string()));
        let mut lag = 0;
        for topic in topics {
            for partition in self.partitions(&topic) {
                let leader = self.partition(&topic, partition)?.leader;
                let (_, replica) = self.replica(leader, &topic, partition)?;
                let at = TopicPartition { topic: topic.as_str().into(), partition };
                let from = committed.get(&at).copied().unwrap_or(replica.log?.log_start_offset());
                lag += (replica.high_watermark - from).max(0);
            }
        }
        Some(lag)
    }

    /// Whether a broker is fenced as far as the controllers (or, without any, the brokers) know.
    fn fenced(&self, name: &str) -> bool {
        let nodes = &self.player.scenario.cluster.nodes;
        let Some(def) = nodes.iter().find(|n| n.name == name && n.broker) else { return false };
        let images =
            nodes.iter().filter_map(|n| self.world.node(self.world.proc(&n.name)?)).map(|n| n.image());
        let newest = images.max_by_key(|i| i.offset);
        newest.and_then(|i| i.broker(def.id)).is_some_and(|b| b.fenced)
    }
}

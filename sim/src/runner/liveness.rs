//! Whether the cluster has come to rest, and what it waits for if it has not, in words.
//!
//! At rest every node runs, the quorum has a leader, every partition has a leader and its full ISR, groups are stable,
//! transactions have ended, and consumers have read everything. [`pending`] says what is missing; the text of every run
//! that ends as liveness ends with it.

use std::collections::BTreeSet;

use broker_core::event::PartitionState;

use super::evaluate::View;
use super::play::{Player, Stop};
use super::view::Look;
use crate::scenario::{Client, ClientKind};
use crate::world::{ProcState, SimTime, Stage, World};

/// So many reasons are told.
const TOLD: usize = 6;
/// A cluster that was not at rest is looked at again after this much time, in nanoseconds.
const LOOK_AGAIN: u64 = 100_000_000;

/// What the cluster waits for; empty if it is at rest.
pub fn pending(player: &Player, world: &World) -> Vec<String> {
    reasons(&Look { player, world }, usize::MAX)
}

/// Why a run ends as liveness, with what the cluster waits for.
pub fn because(why: &str, pending: &[String]) -> String {
    if pending.is_empty() {
        return why.to_owned();
    }
    let more = pending.len().saturating_sub(TOLD);
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{why}: {}{rest}", pending[..pending.len() - more].join("; "))
}

impl Player {
    /// Lets time pass until the cluster is at rest. Kafka times transactions by the wall clock of their coordinator: one
    /// that began under a clock that was ahead has its time-out only when the right clock gets there.
    pub(super) fn come_to_rest(&mut self, stage: &mut Stage) -> Result<(), Stop> {
        let within = self.scenario.finally.within;
        if self.rests_within(stage, within.0)? {
            return Ok(());
        }
        let mut open = Vec::new();
        transactions(&Look { player: self, world: stage.world() }, 1, &mut open);
        if !open.is_empty() && self.leapt > 0 && self.rests_within(stage, self.leapt)? {
            return Ok(());
        }
        Err(Stop::Liveness(format!(
            "everything was healed, and within {within} the cluster did not come to rest"
        )))
    }
}

impl Player {
    fn rests_within(&mut self, stage: &mut Stage, span: u64) -> Result<bool, Stop> {
        let mut next = SimTime::ZERO;
        let rests = self.until(stage, span, |player, world| {
            if world.now() < next {
                return false;
            }
            next = SimTime(world.now().0 + LOOK_AGAIN);
            reasons(&Look { player, world }, 1).is_empty()
        })?;
        // Between two looks it may have come to rest.
        Ok(rests || reasons(&Look { player: self, world: stage.world() }, 1).is_empty())
    }
}

/// At most so many of the things that the cluster waits for.
fn reasons(look: &Look<'_>, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    let parts: [fn(&Look<'_>, usize, &mut Vec<String>); 6] =
        [nodes, quorum, partitions, transactions, groups, unread];
    for part in parts {
        part(look, limit, &mut found);
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    found
}

fn nodes(look: &Look<'_>, limit: usize, found: &mut Vec<String>) {
    for node in &look.player.scenario.cluster.nodes {
        let state = look.node_state(&node.name);
        if state != "running" {
            found.push(format!("{} is {state}", node.name));
        }
        if found.len() >= limit {
            return;
        }
    }
}

fn quorum(look: &Look<'_>, _: usize, found: &mut Vec<String>) {
    let view = look.quorum();
    if view.leader.is_none() {
        let controllers = look.player.scenario.cluster.nodes.iter().filter(|n| n.controller);
        let states: Vec<String> =
            controllers.map(|n| format!("{} is {}", n.name, look.node_state(&n.name))).collect();
        found.push(format!("the quorum has no leader in epoch {}: {}", view.epoch, states.join(", ")));
    }
}

/// A broker as the text of a partition names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: String,
    state: String,
    /// The end of its replica's log, if that can be seen.
    end: Option<i64>,
}

impl Member {
    fn is_away(&self) -> bool {
        self.state != "running"
    }
}

fn member(look: &Look<'_>, id: i32, topic: &str, partition: i32) -> Member {
    let def = look.player.scenario.cluster.nodes.iter().find(|n| n.id == id && n.broker);
    let name = def.map_or_else(|| format!("broker {id}"), |n| n.name.clone());
    Member { state: look.node_state(&name), end: look.log_end(id, topic, partition), name }
}

/// The topics of clients first: theirs is the better story.
fn partitions(look: &Look<'_>, limit: usize, found: &mut Vec<String>) {
    for internal in [false, true] {
        let all = look.player.observer.partitions.iter();
        for ((topic, number), state) in all.filter(|((topic, _), _)| topic.starts_with("__") == internal) {
            if state.leader >= 0 && state.isr.len() == state.replicas.len() {
                continue;
            }
            let high = look.leader_log(topic, *number).map(|(_, high)| high);
            let who = |id: i32| member(look, id, topic, *number);
            found.push(partition(&format!("{topic}-{number}"), state, high, &who));
            if found.len() >= limit {
                return;
            }
        }
    }
}

/// What a partition waits for that has no leader, or not all replicas in sync.
fn partition(name: &str, state: &PartitionState, high: Option<i64>, who: &dyn Fn(i32) -> Member) -> String {
    if state.leader < 0 {
        return no_leader(name, state, who);
    }
    let out = state.replicas.iter().filter(|r| !state.isr.contains(r)).map(|r| who(*r));
    let behind = |m: Member| match (m.end, high) {
        _ if m.is_away() => format!("{}, which is {}", m.name, m.state),
        (Some(end), Some(high)) if end < high => format!("{}, which is at {end} of {high}", m.name),
        (Some(_), Some(_)) => format!("{}, which has everything and is not in the ISR yet", m.name),
        (None, _) => format!("{}, which has no log of it", m.name),
        (Some(end), None) => format!("{}, which is at {end}, while its leader cannot be asked", m.name),
    };
    format!("{name} waits for {}", out.map(behind).collect::<Vec<_>>().join(", and for "))
}

fn no_leader(name: &str, state: &PartitionState, who: &dyn Fn(i32) -> Member) -> String {
    let (set, ids) = match (&state.isr, &state.elr) {
        (isr, _) if !isr.is_empty() => ("ISR", isr),
        (_, elr) if !elr.is_empty() => ("ELR", elr),
        _ => {
            let last = state
                .last_known_elr
                .iter()
                .map(|id| who(*id))
                .map(|m| format!("{}, which led it last and is {}", m.name, m.state));
            let last = last.collect::<Vec<_>>().join(", ");
            let last = if last.is_empty() { "a replica".to_owned() } else { last };
            return format!(
                "{name} has neither ISR nor ELR: it waits for {last}, or for an unclean election"
            );
        }
    };
    let members: Vec<Member> = ids.iter().map(|id| who(*id)).collect();
    match members.as_slice() {
        [only] => {
            format!("{name} waits for {}, the only member of its {set}, which is {}", only.name, only.state)
        }
        many => {
            let all: Vec<String> = many.iter().map(|m| format!("{}, which is {}", m.name, m.state)).collect();
            format!("{name} waits for a member of its {set}: {}", all.join(", or "))
        }
    }
}

fn transactions(look: &Look<'_>, limit: usize, found: &mut Vec<String>) {
    let all = look.player.observer.partitions.keys();
    for (topic, partition) in all.filter(|(topic, _)| !topic.starts_with("__")) {
        for (since, producer) in look.open_since(topic, *partition) {
            found.push(format!(
                "{topic}-{partition} waits for the end of the transaction that producer id {producer} began at offset {since}"
            ));
        }
        if found.len() >= limit {
            return;
        }
    }
}

/// The processes of a consumer that run.
fn running<'a>(look: &'a Look<'_>, client: &Client) -> impl Iterator<Item = String> + use<'a> {
    let runs =
        |name: &String| look.world.proc(name).is_some_and(|p| look.world.state(p) == ProcState::Running);
    client.processes().into_iter().filter(runs)
}

/// The groups that running consumers are in.
fn groups(look: &Look<'_>, limit: usize, found: &mut Vec<String>) {
    let mut known = BTreeSet::new();
    for client in &look.player.scenario.clients {
        let ClientKind::Consumer { group: Some(group), .. } = &client.kind else { continue };
        if running(look, client).next().is_none() || !known.insert(group) || found.len() >= limit {
            continue;
        }
        match look.group_state(group) {
            Some(state) if state == "Stable" => {}
            Some(state) => found.push(format!("group {group} is {state}, not Stable")),
            None => found.push(format!("group {group} has no coordinator that runs")),
        }
    }
}

/// What running consumers have not read.
fn unread(look: &Look<'_>, limit: usize, found: &mut Vec<String>) {
    let mut lag = |who: &str, topic: &str, partition: i32, at: i64, by: &str| {
        let high = look.leader_log(topic, partition).map_or(0, |(_, high)| high);
        if at < high {
            found.push(format!("{who} has read {topic}-{partition} up to {at} of {high}{by}"));
        }
        found.len() >= limit
    };
    let mut known = BTreeSet::new();
    for client in &look.player.scenario.clients {
        let ClientKind::Consumer { partitions, group, .. } = &client.kind else { continue };
        for name in running(look, client) {
            for (topic, partition) in partitions {
                if lag(&name, topic, *partition, look.position(&name, topic, *partition), "") {
                    return;
                }
            }
        }
        let Some(group) = group.as_deref().filter(|group| known.insert(group.to_string())) else { continue };
        let members = members(look, group);
        if members.is_empty() {
            continue;
        }
        for topic in look.player.scenario.topics_of_group(group) {
            for partition in look.partitions(&topic) {
                let owner = members.iter().find(|name| look.player.observer.owns(name, &topic, partition));
                let at = owner.map_or(0, |name| look.position(name, &topic, partition));
                let by =
                    owner.map_or(", which no member has".to_owned(), |name| format!(", which {name} has"));
                if lag(&format!("group {group}"), &topic, partition, at, &by) {
                    return;
                }
            }
        }
    }
}

/// The running members of a group of consumers.
fn members(look: &Look<'_>, group: &str) -> Vec<String> {
    let clients = look.player.scenario.clients.iter();
    let is_in = |c: &&Client| matches!(&c.kind, ClientKind::Consumer { group: Some(of), .. } if of == group);
    clients.filter(is_in).flat_map(|client| running(look, client)).collect()
}

/// Whether running consumers have read everything that their leaders have committed.
pub(super) fn is_all_read(player: &Player, world: &World) -> bool {
    let mut found = Vec::new();
    unread(&Look { player, world }, 1, &mut found);
    found.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(leader: i32, isr: &[i32], elr: &[i32]) -> PartitionState {
        PartitionState {
            leader,
            leader_epoch: 3,
            partition_epoch: 5,
            replicas: vec![1, 2, 3],
            isr: isr.to_vec(),
            elr: elr.to_vec(),
            last_known_elr: Vec::new(),
        }
    }

    /// Broker 1 runs and has 90 records, broker 2 is down, broker 3 is paused.
    fn who(id: i32) -> Member {
        let state = ["running", "down", "paused"][id as usize - 1].to_owned();
        Member { name: format!("broker-{id}"), state, end: (id == 1).then_some(90) }
    }

    #[test]
    fn what_a_partition_waits_for() {
        let mut last = state(-1, &[], &[]);
        last.last_known_elr = vec![2];
        for (state, high, want) in [
            (
                state(-1, &[], &[2]),
                None,
                "purchases-0 waits for broker-2, the only member of its ELR, which is down",
            ),
            (
                state(-1, &[3], &[2]),
                None,
                "purchases-0 waits for broker-3, the only member of its ISR, which is paused",
            ),
            (
                state(-1, &[], &[2, 3]),
                None,
                "purchases-0 waits for a member of its ELR: broker-2, which is down, or broker-3, which is paused",
            ),
            (
                last,
                None,
                "purchases-0 has neither ISR nor ELR: it waits for broker-2, which led it last and is down, or for an unclean election",
            ),
            (state(1, &[1, 3], &[]), Some(100), "purchases-0 waits for broker-2, which is down"),
            (
                state(3, &[3], &[]),
                Some(100),
                "purchases-0 waits for broker-1, which is at 90 of 100, and for broker-2, which is down",
            ),
            (
                state(3, &[2, 3], &[]),
                Some(90),
                "purchases-0 waits for broker-1, which has everything and is not in the ISR yet",
            ),
            (
                state(3, &[2, 3], &[]),
                None,
                "purchases-0 waits for broker-1, which is at 90, while its leader cannot be asked",
            ),
        ] {
            assert_eq!(partition("purchases-0", &state, high, &who), want);
        }
    }

    #[test]
    fn a_few_reasons_are_told() {
        let reasons: Vec<String> = (0..9).map(|n| format!("reason {n}")).collect();
        assert_eq!(because("it did not end", &[]), "it did not end");
        assert_eq!(because("it did not end", &reasons[..2]), "it did not end: reason 0; reason 1");
        assert!(because("it did not end", &reasons).ends_with("reason 5; and 3 more"));
    }
}

//! What a run reached: the kinds of its domain events, and the states that its cluster was in.
//!
//! A state is what an engineer would draw on a board: who leads each partition, how many are in sync and eligible, who
//! leads the quorum, who is fenced or down, how far each group and each transaction is. Epochs and offsets are not part
//! of it, or no state would ever come again. Each thing has a hash; the state's is the exclusive or of them all, so
//! that a change costs the same however large the cluster is.

use std::collections::BTreeMap;

use broker_core::event::Event;
use client::ClientEvent;
use reports::coverage;
use strum::VariantNames;
use xxhash_rust::xxh3::xxh3_64;

use crate::world::ProcEvent;

/// Slots of the names that came last.
const RECENT: usize = 64;

/// Folds events into a [`coverage::Coverage`].
#[derive(Clone, Debug)]
pub struct Coverage {
    reached: coverage::Coverage,
    /// Addresses of names that are in the set already: most events are of few kinds.
    recent: [usize; RECENT],
    things: BTreeMap<u64, u64>,
    state: u64,
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage {
            reached: coverage::Coverage::default(),
            recent: [0; RECENT],
            things: BTreeMap::new(),
            state: 0,
        }
    }
}

/// All names that can be reached, sorted.
pub fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<&'static str> = [Event::VARIANTS, ClientEvent::VARIANTS].concat();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

impl Coverage {
    /// What was reached, and which of a scenario's `sometimes` was not.
    pub fn report(&self, sometimes: &[String]) -> coverage::Coverage {
        let missed = sometimes.iter().filter(|name| !self.reached.events.contains(name.as_str()));
        coverage::Coverage { sometimes_missed: missed.cloned().collect(), ..self.reached.clone() }
    }

    fn kind(&mut self, name: &'static str) {
        let address = name.as_ptr() as usize;
        let slot = &mut self.recent[(address >> 2) % RECENT];
        if *slot != address {
            *slot = address;
            self.reached.events.insert(name);
        }
    }

    /// Something has another value now.
    fn thing(&mut self, key: u64, value: u64) {
        let new = xxh3_64(&[key.to_le_bytes(), value.to_le_bytes()].concat());
        let old = self.things.insert(key, new).unwrap_or(0);
        if old != new {
            self.state ^= old ^ new;
            self.reached.states.add(xxh3_64(&self.state.to_le_bytes()));
        }
    }

    /// A node told something.
    pub fn node(&mut self, id: i32, event: &Event) {
        self.kind(event.into());
        let of = |what: &str, id: i32| xxh3_64(format!("{what} {id}").as_bytes());
        let named = |what: &str, name: &str| xxh3_64(format!("{what} {name}").as_bytes());
        match event {
            Event::PartitionChanged { partition, after, .. } if !partition.topic.starts_with("__") => {
                let key =
                    xxh3_64(format!("partition {}-{}", partition.topic, partition.partition).as_bytes());
                let leader = u64::from(after.leader.cast_unsigned());
                let sizes = [after.isr.len(), after.elr.len(), after.replicas.len()];
                self.thing(key, sizes.iter().fold(leader, |value, n| value << 8 | *n as u64));
            }
            Event::RaftRoleChanged { role, leader, .. } => {
                let leader = leader.map_or(0, |id| u64::from(id.cast_unsigned()) + 1);
                self.thing(of("raft", id), leader << 8 | *role as u64);
            }
            Event::BrokerFenced { broker, .. } => self.thing(of("fenced", *broker), 1),
            Event::BrokerUnfenced { broker } => self.thing(of("fenced", *broker), 0),
            Event::LogDirOffline { dir, .. } => self.thing(named("directory", dir) ^ of("of", id), 1),
            Event::GroupStateChanged { group, to, .. } => {
                self.thing(named("group", group), xxh3_64(to.as_bytes()))
            }
            Event::GroupAssigned { group, members, .. } => {
                self.thing(named("members", group), members.len() as u64);
            }
            Event::TransactionStateChanged { transactional_id, to, .. } => {
                self.thing(named("transaction", transactional_id), xxh3_64(to.as_bytes()));
            }
            _ => {}
        }
    }

    /// A client told something.
    pub fn client(&mut self, event: &ClientEvent) {
        self.kind(event.into());
    }

    /// A process came or went.
    pub fn process(&mut self, name: &str, event: &ProcEvent) {
        let up = u64::from(matches!(event, ProcEvent::Started { .. }));
        self.thing(xxh3_64(format!("process {name}").as_bytes()), up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fenced(broker: i32) -> Event {
        Event::BrokerFenced { broker, reason: broker_core::event::FenceReason::SessionExpired }
    }

    #[test]
    fn a_state_that_comes_again_counts_once() {
        let mut coverage = Coverage::default();
        for _ in 0..5 {
            coverage.node(101, &fenced(1));
            coverage.node(101, &fenced(2));
            coverage.node(101, &Event::BrokerUnfenced { broker: 2 });
            coverage.node(101, &Event::BrokerUnfenced { broker: 1 });
        }
        let wanted = ["BrokerFenced".to_owned(), "LogTruncated".to_owned()];
        let report = coverage.report(&wanted);
        assert_eq!(report.events.into_iter().collect::<Vec<_>>(), ["BrokerFenced", "BrokerUnfenced"]);
        assert_eq!(report.sometimes_missed, ["LogTruncated"]);
        // 1; 1 and 2; 1 with 2 served again; both served again; and 1 again with 2 served before.
        assert!((4..=5).contains(&report.states.count()), "{:?}", report.states);
    }

    #[test]
    fn names_are_those_of_the_events() {
        assert!(kinds().contains(&"LogTruncated") && kinds().contains(&"GroupJoined"));
        let name: &'static str = (&fenced(1)).into();
        assert_eq!(name, "BrokerFenced");
    }
}

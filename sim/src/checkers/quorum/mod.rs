//! Invariants of the metadata quorum: elections, and the log that all nodes share. Each has a file of its own.
//!
//! [`Quorum`] hears the nodes' events and asks those invariants that an event could break.

pub(super) mod committed_metadata_never_lost;
pub(super) mod election_safety;
pub mod flushed_before_counted;
pub(super) mod metadata_log_matching;
pub(super) mod one_vote_per_epoch;
pub(super) mod own_epoch_first;
pub(super) mod pre_vote_before_vote;

use broker_core::event::{Event, RaftRole};

use super::{Breach, Subject};
use committed_metadata_never_lost::Committed;
use election_safety::Leaders;
use flushed_before_counted::{Appended, Voter};
use metadata_log_matching::Batches;
use one_vote_per_epoch::Votes;
use own_epoch_first::Reigns;
use pre_vote_before_vote::PreVotes;

/// The invariants of the quorum.
#[derive(Clone, Debug, Default)]
pub struct Quorum {
    leaders: Leaders,
    votes: Votes,
    pre_votes: PreVotes,
    reigns: Reigns,
    batches: Batches,
    committed: Committed,
    appended: Appended,
    breaches: Vec<Breach>,
}

impl Quorum {
    /// Hears what a node said.
    pub fn hear(&mut self, node: i32, event: &Event) {
        match event {
            Event::MetadataAppended { batches } => {
                for mark in batches {
                    self.appended.appended(node, mark.base_offset, mark.last_offset + 1);
                    let broken = self.batches.appended(node, mark);
                    self.broken(metadata_log_matching::NAME, broken);
                }
            }
            Event::MetadataTruncated { to, .. } => {
                let broken = self.committed.truncated(node, *to);
                self.broken(committed_metadata_never_lost::NAME, broken);
            }
            Event::ElectionWon { epoch, start_offset, .. } => {
                let two = self.leaders.leads(node, *epoch);
                self.broken(election_safety::NAME, two);
                let lost = self.committed.won(node, *epoch, *start_offset);
                self.broken(committed_metadata_never_lost::NAME, lost);
                self.reigns.won(node, *epoch, *start_offset);
            }
            Event::RaftRoleChanged { role, epoch, leader } => {
                if *role != RaftRole::Leader {
                    self.reigns.ended(node);
                }
                let broken = leader.and_then(|leader| self.leaders.leads(leader, *epoch));
                self.broken(election_safety::NAME, broken);
            }
            Event::VoteGranted { epoch, candidate, pre_vote: false } => {
                let broken = self.votes.granted(node, *epoch, *candidate);
                self.broken(one_vote_per_epoch::NAME, broken);
                let unasked = self.pre_votes.vote(node, *epoch, *candidate);
                self.broken(pre_vote_before_vote::NAME, unasked);
            }
            Event::VoteGranted { epoch, candidate, pre_vote: true } => {
                self.pre_votes.pre_vote(*epoch, *candidate)
            }
            Event::MetadataCommitted { high_watermark } => {
                let early = self.reigns.committed(node, *high_watermark);
                self.broken(own_epoch_first::NAME, early);
                let leads = self.leaders.newest();
                self.committed.advanced(node, *high_watermark, leads);
            }
            _ => {}
        }
    }

    /// The leader committed: what is durable of the voters' logs, `changing` if voters come and go.
    pub fn leader_committed(&mut self, node: i32, high_watermark: i64, voters: &[Voter], changing: bool) {
        let early = self.appended.committed(node, high_watermark, voters, changing);
        self.broken(flushed_before_counted::NAME, early);
    }

    /// A node has a new process.
    pub fn process_started(&mut self, node: i32) {
        self.appended.started(node);
    }

    /// What a node had flushed may be gone.
    pub fn disk_lost(&mut self, node: i32) {
        self.appended.disk_lost(node);
    }

    /// A node's disk is an empty one: what it had voted and committed is not there any more.
    pub fn wiped(&mut self, node: i32) {
        self.appended.disk_lost(node);
        self.votes.forget(node);
        self.committed.forget(node);
    }

    /// Whether `take` has anything to give.
    pub fn is_broken(&self) -> bool {
        !self.breaches.is_empty()
    }

    /// What was broken since the last call.
    pub fn take(&mut self) -> Vec<Breach> {
        std::mem::take(&mut self.breaches)
    }

    fn broken(&mut self, name: &'static str, text: Option<String>) {
        self.breaches.extend(text.map(|text| Breach { name, subject: Subject::Quorum, text }));
    }
}

/// Events made by hand, for the tests of the invariants.
#[cfg(test)]
mod story {
    use super::*;
    use broker_core::event::BatchMark;

    pub fn won(epoch: i32, start_offset: i64) -> Event {
        Event::ElectionWon { epoch, granting: vec![], start_offset }
    }

    pub fn append(base: i64, epoch: i32, crc: u32) -> Event {
        let (producer_id, producer_epoch, sequence) = (-1, -1, -1);
        let (base_offset, last_offset, size) = (base, base, 80);
        let mark =
            BatchMark { base_offset, last_offset, epoch, size, crc, producer_id, producer_epoch, sequence };
        Event::MetadataAppended { batches: [mark].into_iter().collect() }
    }

    pub fn committed(high_watermark: i64) -> Event {
        Event::MetadataCommitted { high_watermark }
    }

    pub fn broken(events: &[(i32, Event)]) -> Vec<&'static str> {
        let mut quorum = Quorum::default();
        for (node, event) in events {
            quorum.hear(*node, event);
        }
        quorum.take().iter().map(|b| b.name).collect()
    }
}

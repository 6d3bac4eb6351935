//! What has to be written when something about a partition changes: a pure function from the registration, what shall
//! become of it, and who may lead, to one change record.
//!
//! The order matters, and is that of Kafka's `PartitionChangeBuilder`:
//!
//! 1. end a reassignment that can be ended;
//! 2. work out the eligible leader replicas (KIP-966), before the election that may choose from them;
//! 3. elect;
//! 4. raise the leader epoch when replicas were taken away, so that they hear of it;
//! 5. write what differs from the registration, and nothing else.
//!
//! Why a last ISR member goes into the ELR: broker 1 is the last of the ISR and dies. The ISR becomes empty, nobody
//! leads, and 1 stands in the ELR: it has everything below the high watermark, so it may lead once it is back. Had its
//! disk lost something (an unclean shutdown), its registration takes it out of the ELR, and then only the last known
//! leader may lead, which counts as an unclean election.

use crate::mutant::{Mutant, Mutants};
use alloc::vec::Vec;
use wire::Uuid;
use wire::records::PartitionChangeRecord;

use crate::metadata::{
    Directories, LeaderRecoveryState, NO_LEADER, NO_LEADER_CHANGE, PartitionRegistration, Replicas,
    TopicIdPartition,
};

/// How to choose a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// The preferred replica, if it may; else as [`Election::Online`].
    Preferred,
    /// The present leader, if it may; else the first replica that may.
    Online,
    /// As [`Election::Online`], and if none may, the first replica that is alive, with whatever it has.
    Unclean,
}

/// A change of one partition. Begin with [`PartitionChange::of`], set what shall differ, and [`build`] it.
///
/// [`build`]: PartitionChange::build
pub struct PartitionChange<'a> {
    /// The partition as it is.
    pub partition: &'a PartitionRegistration,
    /// Which one it is.
    pub id: TopicIdPartition,
    /// Whether a replica may lead: registered, unfenced, not shutting down, its log directory online.
    pub is_acceptable_leader: &'a dyn Fn(i32) -> bool,
    /// Where a replica that is new on a broker goes.
    pub default_directory: &'a dyn Fn(i32) -> Uuid,
    /// The effective `min.insync.replicas`.
    pub min_isr: usize,
    /// Whether eligible leader replicas are kept.
    pub elr_enabled: bool,
    /// Bugs that are switched on.
    pub mutants: Mutants,
    /// How to choose a leader.
    pub election: Election,
    /// The ISR that shall be.
    pub isr: Replicas,
    /// The replicas that shall be.
    pub replicas: Replicas,
    /// The replicas that a reassignment shall take away.
    pub removing: Replicas,
    /// The replicas that a reassignment shall add.
    pub adding: Replicas,
    /// A broker that came back after an unclean shutdown: it may have lost what it had.
    pub unclean_shutdown: Option<i32>,
    /// The recovery state that shall be.
    pub leader_recovery_state: LeaderRecoveryState,
    /// A broker whose replica is in this directory now.
    pub directory: Option<(i32, Uuid)>,
}

/// Who shall lead, and whether that may lose records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Elected {
    leader: i32,
    unclean: bool,
}

impl<'a> PartitionChange<'a> {
    /// A change that changes nothing by itself, except that a leader is elected if one is needed and can be.
    pub fn of(
        partition: &'a PartitionRegistration,
        id: TopicIdPartition,
        is_acceptable_leader: &'a dyn Fn(i32) -> bool,
        default_directory: &'a dyn Fn(i32) -> Uuid,
    ) -> PartitionChange<'a> {
        PartitionChange {
            partition,
            id,
            is_acceptable_leader,
            default_directory,
            min_isr: 1,
            elr_enabled: false,
            mutants: Mutants::NONE,
            election: Election::Online,
            isr: partition.isr.clone(),
            replicas: partition.replicas.clone(),
            removing: partition.removing_replicas.clone(),
            adding: partition.adding_replicas.clone(),
            unclean_shutdown: None,
            leader_recovery_state: partition.leader_recovery_state,
            directory: None,
        }
    }

    /// The record, or `None` if nothing changes.
    pub fn build(mut self) -> Option<PartitionChangeRecord> {
        let mut record = PartitionChangeRecord {
            topic_id: self.id.topic_id,
            partition_id: self.id.partition,
            ..PartitionChangeRecord::default()
        };
        debug_assert_eq!((record.leader, record.leader_recovery_state), (NO_LEADER_CHANGE, -1));

        self.complete_reassignment();
        let mut elr = self.target_elr();
        self.elect(&mut elr, &mut record);
        if record.leader == NO_LEADER_CHANGE && !contains_all(&self.replicas, &self.partition.replicas) {
            record.leader = self.partition.leader;
        }
        self.write_elr(elr, &mut record);
        self.write_isr(&mut record);
        self.write_last_known_leader(&mut record);
        self.write_assignment(&mut record);
        if self.leader_recovery_state != self.partition.leader_recovery_state {
            record.leader_recovery_state = self.leader_recovery_state.value();
        }
        (!says_nothing(&record)).then_some(record)
    }

    /// Ends a reassignment once the ISR has every replica that it adds; when it takes away more than it adds, also
    /// every replica that stays.
    fn complete_reassignment(&mut self) {
        if self.removing.is_empty() && self.adding.is_empty() {
            return;
        }
        let isr = without(&self.isr, &self.removing);
        let replicas = without(&self.replicas, &self.removing);
        let complete = !isr.is_empty()
            && !replicas.is_empty()
            && contains_all(&isr, &self.adding)
            && (self.removing.len() <= self.adding.len() || contains_all(&isr, &replicas));
        if complete {
            self.isr = isr;
            self.replicas = replicas;
            self.removing.clear();
            self.adding.clear();
        }
    }

    /// The eligible leader replicas that follow from the target ISR: none when the ISR is large enough, else whoever
    /// was in the ISR or in the ELR and is not in the target ISR, unless its shutdown was unclean.
    fn target_elr(&self) -> Replicas {
        if !self.elr_enabled {
            return self.partition.elr.clone();
        }
        if self.isr.len() >= self.min_isr {
            return Replicas::new();
        }
        let candidates = self.partition.elr.iter().chain(&self.partition.isr).copied();
        let stays = |r: &i32| !self.isr.contains(r) && self.unclean_shutdown != Some(*r);
        let mut elr: Replicas = candidates.filter(stays).collect();
        elr.sort_unstable();
        elr.dedup();
        elr
    }

    fn elect(&mut self, elr: &mut Replicas, record: &mut PartitionChangeRecord) {
        let Elected { leader, unclean } = match self.election {
            Election::Preferred => self.elect_preferred(elr),
            Election::Online | Election::Unclean => self.elect_any(elr),
        };
        if leader == self.partition.leader {
            return;
        }
        if elr.contains(&leader) || self.mutants.has(Mutant::LeaderNotFromIsr) && leader != NO_LEADER {
            self.isr = Replicas::from_slice(&[leader]);
            elr.retain(|r| *r != leader);
        }
        record.leader = leader;
        if unclean {
            record.isr = Some(alloc::vec![leader]);
            if self.partition.leader_recovery_state != LeaderRecoveryState::Recovering {
                record.leader_recovery_state = LeaderRecoveryState::Recovering.value();
            }
        }
    }

    fn elect_preferred(&self, elr: &[i32]) -> Elected {
        let may_lead = |r: i32| self.may_lead(r, elr);
        let clean = |leader| Elected { leader, unclean: false };
        let preferred = self.replicas.first().copied().filter(|&r| may_lead(r));
        let current = Some(self.partition.leader).filter(|&r| may_lead(r));
        let online = || self.replicas.iter().skip(1).copied().find(|&r| may_lead(r));
        match preferred.or(current).or_else(online) {
            Some(leader) => clean(leader),
            None => self.last_known_leader(elr).unwrap_or(clean(NO_LEADER)),
        }
    }

    fn elect_any(&self, elr: &[i32]) -> Elected {
        let clean = |leader| Elected { leader, unclean: false };
        if self.may_lead(self.partition.leader, elr) {
            return clean(self.partition.leader);
        }
        if let Some(leader) = self.replicas.iter().copied().find(|&r| self.may_lead(r, elr)) {
            return clean(leader);
        }
        if let Some(elected) = self.last_known_leader(elr) {
            return elected;
        }
        if self.election == Election::Unclean {
            let alive = self.replicas.iter().copied().find(|&r| (self.is_acceptable_leader)(r));
            if let Some(leader) = alive {
                return Elected { leader, unclean: true };
            }
        }
        clean(NO_LEADER)
    }

    /// The last known leader, once nobody is in the ISR or the ELR any more: it is the best that there is.
    fn last_known_leader(&self, elr: &[i32]) -> Option<Elected> {
        if !self.elr_enabled || !self.isr.is_empty() || !elr.is_empty() {
            return None;
        }
        match self.partition.last_known_elr[..] {
            [leader] if (self.is_acceptable_leader)(leader) => Some(Elected { leader, unclean: true }),
            _ => None,
        }
    }

    fn may_lead(&self, replica: i32, elr: &[i32]) -> bool {
        let complete = self.isr.contains(&replica)
            || (self.isr.is_empty() && elr.contains(&replica))
            || self.mutants.has(Mutant::LeaderNotFromIsr);
        complete && (self.is_acceptable_leader)(replica)
    }

    fn write_elr(&self, mut elr: Replicas, record: &mut PartitionChangeRecord) {
        // An unclean election has named the ISR: what was eligible before is not any more.
        if record.isr.is_some() || !self.elr_enabled {
            elr.clear();
        }
        if elr != self.partition.elr {
            record.eligible_leader_replicas = Some(elr.to_vec());
        }
    }

    fn write_isr(&self, record: &mut PartitionChangeRecord) {
        let may_be_empty = self.elr_enabled;
        if record.isr.is_none() && (may_be_empty || !self.isr.is_empty()) && self.isr != self.partition.isr {
            record.isr = Some(self.isr.to_vec());
        }
    }

    /// Remembers the last leader when the partition loses its last ISR member, forgets it when somebody leads.
    fn write_last_known_leader(&self, record: &mut PartitionChangeRecord) {
        if !self.elr_enabled {
            return;
        }
        let partition = self.partition;
        let will_have_leader = match record.leader {
            NO_LEADER_CHANGE => partition.leader != NO_LEADER,
            leader => leader >= 0,
        };
        let isr_empties = record.isr.as_ref().is_some_and(Vec::is_empty);
        if isr_empties && partition.last_known_elr[..] != [partition.leader] {
            record.last_known_elr = Some(alloc::vec![partition.leader]);
        } else if will_have_leader && !partition.last_known_elr.is_empty() {
            record.last_known_elr = Some(Vec::new());
        }
    }

    fn write_assignment(&self, record: &mut PartitionChangeRecord) {
        let partition = self.partition;
        let directories: Directories = self.replicas.iter().map(|&r| self.directory_of(r)).collect();
        if directories != partition.directories {
            record.directories = Some(directories.to_vec());
        }
        if self.replicas != partition.replicas {
            record.replicas = Some(self.replicas.to_vec());
        }
        if self.removing != partition.removing_replicas {
            record.removing_replicas = Some(self.removing.to_vec());
        }
        if self.adding != partition.adding_replicas {
            record.adding_replicas = Some(self.adding.to_vec());
        }
    }

    fn directory_of(&self, replica: i32) -> Uuid {
        match self.directory {
            Some((broker, directory)) if broker == replica => directory,
            _ => self.partition.directory_of(replica).unwrap_or_else(|| (self.default_directory)(replica)),
        }
    }
}

fn says_nothing(record: &PartitionChangeRecord) -> bool {
    record.isr.is_none()
        && record.eligible_leader_replicas.is_none()
        && record.last_known_elr.is_none()
        && record.leader == NO_LEADER_CHANGE
        && record.replicas.is_none()
        && record.removing_replicas.is_none()
        && record.adding_replicas.is_none()
        && record.leader_recovery_state == LeaderRecoveryState::NO_CHANGE
        && record.directories.is_none()
}

fn contains_all(all: &[i32], some: &[i32]) -> bool {
    some.iter().all(|r| all.contains(r))
}

fn without(replicas: &[i32], gone: &[i32]) -> Replicas {
    replicas.iter().copied().filter(|r| !gone.contains(r)).collect()
}

#[cfg(test)]
mod tests;

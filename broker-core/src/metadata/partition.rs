//! The controller's registration of one partition: replicas, leader, in-sync and eligible replicas, epochs.

use alloc::vec::Vec;
use smallvec::SmallVec;
use wire::Uuid;
use wire::records::{PartitionChangeRecord, PartitionRecord};

use crate::event::PartitionState;

/// The leader of a partition that has none.
pub const NO_LEADER: i32 = -1;
/// In a `PartitionChangeRecord`: the leader stays, and so does the leader epoch.
pub const NO_LEADER_CHANGE: i32 = -2;

/// Broker ids, in an order that means something (that of the assignment, or that in which the leader named them).
pub type Replicas = SmallVec<[i32; 4]>;
/// Log directory ids, one for each replica.
pub type Directories = SmallVec<[Uuid; 3]>;

/// Directory ids with a meaning of their own (KIP-858), and what they say of a replica.
pub mod directory {
    use wire::Uuid;

    /// The broker has not yet said in which directory the replica is.
    pub const UNASSIGNED: Uuid = Uuid::ZERO;
    /// The replica's directory is offline, and its broker forgot which one it was.
    pub const LOST: Uuid = with_low_byte(1);
    /// The partition was made before directories had ids.
    pub const MIGRATING: Uuid = with_low_byte(2);

    const fn with_low_byte(low: u8) -> Uuid {
        let mut bytes = [0; 16];
        bytes[15] = low;
        Uuid(bytes)
    }

    /// Whether Kafka keeps the id for itself: the first hundred are, and no real directory may have one of them.
    pub fn is_reserved(id: Uuid) -> bool {
        id.0[..15].iter().all(|&b| b == 0) && id.0[15] < 100
    }

    /// Whether a replica in `id` can be served by a broker whose online directories are `online` (sorted).
    pub fn is_online(id: Uuid, online: &[Uuid]) -> bool {
        if id == UNASSIGNED || id == MIGRATING {
            return true;
        }
        if id == LOST {
            return false;
        }
        online.is_empty() || online.binary_search(&id).is_ok()
    }
}

/// A partition, by the id of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIdPartition {
    /// The topic.
    pub topic_id: Uuid,
    /// The partition's number.
    pub partition: i32,
}

/// Whether a leader that was elected uncleanly has finished its recovery (KIP-704).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LeaderRecoveryState {
    /// The leader was elected from the ISR, or has recovered since.
    #[default]
    Recovered,
    /// The leader was elected uncleanly and has not yet said that it recovered. The ISR is the leader alone.
    Recovering,
}

impl LeaderRecoveryState {
    /// In a change record: the state stays.
    pub const NO_CHANGE: i8 = -1;

    /// The state with this number, if there is one.
    pub fn from_value(value: i8) -> Option<LeaderRecoveryState> {
        match value {
            0 => Some(LeaderRecoveryState::Recovered),
            1 => Some(LeaderRecoveryState::Recovering),
            _ => None,
        }
    }

    /// The state's number on the wire.
    pub fn value(self) -> i8 {
        match self {
            LeaderRecoveryState::Recovered => 0,
            LeaderRecoveryState::Recovering => 1,
        }
    }
}

/// What the controller knows of a partition.
///
/// Invariants: the leader is in the `isr`; `isr` and `elr` have nothing in common; `directories` is as long as
/// `replicas`; both epochs only grow, and the leader epoch never grows without the partition epoch. `elr` may name a
/// replica that a reassignment has taken away: it is eligible no more, since only replicas are elected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRegistration {
    /// All replicas, in the order of the assignment: the first is the preferred leader.
    pub replicas: Replicas,
    /// The log directory of each replica.
    pub directories: Directories,
    /// The replicas that are in sync.
    pub isr: Replicas,
    /// Replicas that a reassignment takes away.
    pub removing_replicas: Replicas,
    /// Replicas that a reassignment adds.
    pub adding_replicas: Replicas,
    /// Eligible leader replicas: they have everything below the high watermark (KIP-966).
    pub elr: Replicas,
    /// The last known eligible leader replicas; in 4.x the last leader alone.
    pub last_known_elr: Replicas,
    /// The leader, or [`NO_LEADER`].
    pub leader: i32,
    /// Whether the leader has recovered from an unclean election.
    pub leader_recovery_state: LeaderRecoveryState,
    /// Raised with every election.
    pub leader_epoch: i32,
    /// Raised with every change.
    pub partition_epoch: i32,
}

impl PartitionRegistration {
    /// A new partition: led by the first member of its ISR, all epochs 0.
    pub fn created(replicas: Replicas, directories: Directories, isr: Replicas) -> PartitionRegistration {
        assert!(!isr.is_empty(), "a partition is not made without a leader");
        assert_eq!(replicas.len(), directories.len(), "one directory for each replica");
        PartitionRegistration {
            leader: isr[0],
            replicas,
            directories,
            isr,
            removing_replicas: Replicas::new(),
            adding_replicas: Replicas::new(),
            elr: Replicas::new(),
            last_known_elr: Replicas::new(),
            leader_recovery_state: LeaderRecoveryState::Recovered,
            leader_epoch: 0,
            partition_epoch: 0,
        }
    }

    /// The registration that a record states in full. `None` if the record contradicts itself.
    pub fn from_record(record: &PartitionRecord) -> Option<PartitionRegistration> {
        Some(PartitionRegistration {
            replicas: Replicas::from_slice(&record.replicas),
            directories: checked_directories(&record.directories, record.replicas.len())?,
            isr: Replicas::from_slice(&record.isr),
            removing_replicas: Replicas::from_slice(&record.removing_replicas),
            adding_replicas: Replicas::from_slice(&record.adding_replicas),
            elr: optional(&record.eligible_leader_replicas),
            last_known_elr: optional(&record.last_known_elr),
            leader: record.leader,
            leader_recovery_state: LeaderRecoveryState::from_value(record.leader_recovery_state)?,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
        })
    }

    /// The record that states this registration in full. Empty ELR fields are left out, as Kafka leaves them out.
    pub fn to_record(&self, id: TopicIdPartition) -> PartitionRecord {
        PartitionRecord {
            partition_id: id.partition,
            topic_id: id.topic_id,
            replicas: self.replicas.to_vec(),
            isr: self.isr.to_vec(),
            removing_replicas: self.removing_replicas.to_vec(),
            adding_replicas: self.adding_replicas.to_vec(),
            leader: self.leader,
            leader_recovery_state: self.leader_recovery_state.value(),
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            directories: self.directories.to_vec(),
            eligible_leader_replicas: (!self.elr.is_empty()).then(|| self.elr.to_vec()),
            last_known_elr: (!self.last_known_elr.is_empty()).then(|| self.last_known_elr.to_vec()),
        }
    }

    /// The registration after a change. `None` if the record contradicts itself or this registration.
    ///
    /// Every change raises the partition epoch. One that names a leader raises the leader epoch too, also when it
    /// names the leader that already leads: that is how a reassignment forces a new epoch.
    pub fn merge(&self, change: &PartitionChangeRecord) -> Option<PartitionRegistration> {
        let replicas = changed(&change.replicas, &self.replicas);
        let directories = match &change.directories {
            Some(new) => checked_directories(new, replicas.len())?,
            None if self.directories.len() == replicas.len() => self.directories.clone(),
            None => return None,
        };
        let (leader, leader_epoch) = match change.leader {
            NO_LEADER_CHANGE => (self.leader, self.leader_epoch),
            leader => (leader, self.leader_epoch + 1),
        };
        let leader_recovery_state = match change.leader_recovery_state {
            LeaderRecoveryState::NO_CHANGE => self.leader_recovery_state,
            value => LeaderRecoveryState::from_value(value)?,
        };
        Some(PartitionRegistration {
            directories,
            isr: changed(&change.isr, &self.isr),
            removing_replicas: changed(&change.removing_replicas, &self.removing_replicas),
            adding_replicas: changed(&change.adding_replicas, &self.adding_replicas),
            elr: changed(&change.eligible_leader_replicas, &self.elr),
            last_known_elr: changed(&change.last_known_elr, &self.last_known_elr),
            replicas,
            leader,
            leader_recovery_state,
            leader_epoch,
            partition_epoch: self.partition_epoch + 1,
        })
    }

    /// Forgets the eligible leader replicas, as a `ClearElrRecord` asks. Whether there was anything to forget.
    pub fn clear_elr(&mut self) -> bool {
        if self.elr.is_empty() && self.last_known_elr.is_empty() {
            return false;
        }
        self.elr.clear();
        self.last_known_elr.clear();
        self.partition_epoch += 1;
        true
    }

    /// Whether the partition has a leader.
    pub fn has_leader(&self) -> bool {
        self.leader != NO_LEADER
    }

    /// The replica that should lead when all is well.
    pub fn preferred_leader(&self) -> i32 {
        self.replicas.first().copied().unwrap_or(NO_LEADER)
    }

    /// Whether the preferred replica leads.
    pub fn has_preferred_leader(&self) -> bool {
        self.leader == self.preferred_leader()
    }

    /// Whether a reassignment is under way.
    pub fn is_reassigning(&self) -> bool {
        !self.removing_replicas.is_empty() || !self.adding_replicas.is_empty()
    }

    /// The log directory of a replica.
    pub fn directory_of(&self, broker: i32) -> Option<Uuid> {
        let at = self.replicas.iter().position(|&r| r == broker)?;
        self.directories.get(at).copied()
    }

    /// What events say of the partition.
    pub fn state(&self) -> PartitionState {
        PartitionState {
            leader: self.leader,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            replicas: self.replicas.to_vec(),
            isr: self.isr.to_vec(),
            elr: self.elr.to_vec(),
            last_known_elr: self.last_known_elr.to_vec(),
        }
    }
}

fn changed(new: &Option<Vec<i32>>, old: &Replicas) -> Replicas {
    new.as_ref().map_or_else(|| old.clone(), |new| Replicas::from_slice(new))
}

fn optional(ids: &Option<Vec<i32>>) -> Replicas {
    ids.as_ref().map(|ids| Replicas::from_slice(ids)).unwrap_or_default()
}

/// The directories of `replicas` replicas: partitions made before directories had ids say none at all.
fn checked_directories(ids: &[Uuid], replicas: usize) -> Option<Directories> {
    if ids.is_empty() {
        return Some(core::iter::repeat_n(directory::MIGRATING, replicas).collect());
    }
    (ids.len() == replicas).then(|| Directories::from_slice(ids))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn ids(ids: &[i32]) -> Replicas {
        Replicas::from_slice(ids)
    }

    fn registration() -> PartitionRegistration {
        let dirs = (0..3).map(|i| Uuid([i + 200; 16])).collect();
        PartitionRegistration::created(ids(&[1, 2, 3]), dirs, ids(&[1, 2, 3]))
    }

    #[test]
    fn a_change_raises_the_epochs() {
        let before = registration();
        let mut change = PartitionChangeRecord { isr: Some(vec![1, 2]), ..PartitionChangeRecord::default() };
        let after = before.merge(&change).unwrap();
        assert_eq!((after.leader, after.leader_epoch, after.partition_epoch), (1, 0, 1));
        assert_eq!(after.isr.as_slice(), [1, 2]);

        // Naming the same leader raises the leader epoch.
        change.leader = 1;
        let again = after.merge(&change).unwrap();
        assert_eq!((again.leader, again.leader_epoch, again.partition_epoch), (1, 1, 2));
    }

    #[test]
    fn a_full_record_states_everything() {
        let mut before = registration();
        let id = TopicIdPartition { topic_id: Uuid([9; 16]), partition: 4 };
        assert_eq!(before.to_record(id).eligible_leader_replicas, None);
        before.elr = ids(&[2]);
        before.last_known_elr = ids(&[3]);
        before.leader_recovery_state = LeaderRecoveryState::Recovering;
        assert_eq!(PartitionRegistration::from_record(&before.to_record(id)), Some(before));
    }

    #[test]
    fn contradictions_are_refused() {
        let mut record = registration().to_record(TopicIdPartition { topic_id: Uuid::ZERO, partition: 0 });
        record.directories.pop();
        assert_eq!(PartitionRegistration::from_record(&record), None);
        let change = PartitionChangeRecord { leader_recovery_state: 7, ..PartitionChangeRecord::default() };
        assert_eq!(registration().merge(&change), None);
        let shorter =
            PartitionChangeRecord { replicas: Some(vec![1, 2]), ..PartitionChangeRecord::default() };
        assert_eq!(registration().merge(&shorter), None);
    }

    #[test]
    fn directories_decide_whether_a_replica_is_online() {
        let (a, b) = (Uuid([150; 16]), Uuid([160; 16]));
        assert!(directory::is_online(a, &[a]) && !directory::is_online(b, &[a]));
        assert!(directory::is_online(directory::UNASSIGNED, &[a]));
        assert!(!directory::is_online(directory::LOST, &[a]));
        assert!(directory::is_online(b, &[]), "a broker that never said its directories");
        assert!(directory::is_reserved(directory::MIGRATING) && !directory::is_reserved(a));
    }
}

//! Who votes: replica keys, the voter set, and its history along the metadata log (KIP-853).
//!
//! With kraft.version 0 the set comes from `controller.quorum.voters` and directory ids play no part. With
//! kraft.version 1 it comes from `VotersRecord`s, which take effect when they are appended, not when they are
//! committed; so the set is kept by offset, and truncation of the log brings an older one back.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use wire::Uuid;
use wire::batch::ControlRecord;
use wire::drive::Endpoint;

use super::records::voter_set;

/// A replica of the metadata log: a node and the directory that holds the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    /// The node.
    pub id: i32,
    /// Its metadata log directory; [`Uuid::ZERO`] when unknown.
    pub directory_id: Uuid,
}

impl ReplicaKey {
    /// A key from its parts.
    pub fn new(id: i32, directory_id: Uuid) -> ReplicaKey {
        ReplicaKey { id, directory_id }
    }

    /// Whether `other` is this replica; a key without a directory id means any directory of the node.
    pub fn matches(&self, other: ReplicaKey) -> bool {
        self.id == other.id && (self.directory_id.is_zero() || self.directory_id == other.directory_id)
    }
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.directory_id.is_zero() {
            write!(f, "{}", self.id)
        } else {
            write!(f, "{}-{}", self.id, self.directory_id)
        }
    }
}

/// One voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterNode {
    /// Node and directory.
    pub key: ReplicaKey,
    /// Listener names and where they are.
    pub listeners: Vec<(Arc<str>, Endpoint)>,
    /// The kraft.version levels that it supports, from and to.
    pub supported_kraft_versions: (i16, i16),
}

/// The voters, ordered by id.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VoterSet {
    nodes: Vec<VoterNode>,
}

impl VoterSet {
    /// The set of these voters. Of two with one id the first stays.
    pub fn new(mut nodes: Vec<VoterNode>) -> VoterSet {
        nodes.sort_by_key(|node| node.key.id);
        nodes.dedup_by_key(|node| node.key.id);
        VoterSet { nodes }
    }

    /// The voters of `controller.quorum.voters`: directory ids unknown, one listener named `listener`.
    pub fn from_static(listener: &Arc<str>, voters: &[(i32, Endpoint)]) -> VoterSet {
        VoterSet::new(
            voters
                .iter()
                .map(|(id, endpoint)| VoterNode {
                    key: ReplicaKey::new(*id, Uuid::ZERO),
                    listeners: alloc::vec![(listener.clone(), endpoint.clone())],
                    supported_kraft_versions: (0, 0),
                })
                .collect(),
        )
    }

    /// The voters, ordered by id.
    pub fn nodes(&self) -> &[VoterNode] {
        &self.nodes
    }

    /// Their ids, ascending.
    pub fn ids(&self) -> impl Iterator<Item = i32> + '_ {
        self.nodes.iter().map(|node| node.key.id)
    }

    /// The voter with this id.
    pub fn node(&self, id: i32) -> Option<&VoterNode> {
        self.nodes.iter().find(|node| node.key.id == id)
    }

    /// Whether this very replica votes.
    pub fn is_voter(&self, key: ReplicaKey) -> bool {
        self.node(key.id).is_some_and(|node| node.key.matches(key))
    }

    /// Whether this replica is the only voter.
    pub fn is_only_voter(&self, key: ReplicaKey) -> bool {
        self.nodes.len() == 1 && self.is_voter(key)
    }

    /// Where a voter listens for the quorum.
    pub fn endpoint(&self, id: i32) -> Option<&Endpoint> {
        self.node(id).and_then(|node| node.listeners.first()).map(|(_, endpoint)| endpoint)
    }

    /// The set with this voter: as it is, if it was in it before.
    pub fn with(&self, node: VoterNode) -> VoterSet {
        let others = self.nodes.iter().filter(|other| other.key.id != node.key.id).cloned();
        VoterSet::new(others.chain([node.clone()]).collect())
    }

    /// The set without this very replica; none if it is not in it, or alone.
    pub fn without(&self, key: ReplicaKey) -> Option<VoterSet> {
        let found = self.nodes.len() > 1 && self.nodes.iter().any(|node| node.key == key);
        let others = || self.nodes.iter().filter(|node| node.key != key).cloned().collect();
        found.then(|| VoterSet { nodes: others() })
    }

    /// Whether this very replica votes and is in the set with other listeners or other versions than these.
    pub fn knows_otherwise(
        &self,
        key: ReplicaKey,
        listeners: &[(Arc<str>, Endpoint)],
        kraft_versions: (i16, i16),
    ) -> bool {
        let same = |node: &VoterNode| {
            node.key == key
                && node.supported_kraft_versions == kraft_versions
                && node.listeners.len() == listeners.len()
                && listeners.iter().all(|listener| node.listeners.contains(listener))
        };
        self.node(key.id).is_some_and(|node| node.key.matches(key) && !same(node))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nobody votes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// Voter sets and kraft.version by the offset at which they took effect.
#[derive(Clone, Debug)]
pub struct VoterHistory {
    fixed: VoterSet,
    sets: Vec<(i64, VoterSet)>,
    versions: Vec<(i64, i16)>,
}

impl VoterHistory {
    /// A history that begins with the configured voters at kraft.version 0.
    pub fn new(fixed: VoterSet) -> VoterHistory {
        VoterHistory { fixed, sets: Vec::new(), versions: Vec::new() }
    }

    /// The set in effect at the log end.
    pub fn last(&self) -> &VoterSet {
        self.sets.last().map_or(&self.fixed, |(_, set)| set)
    }

    /// The offset of the record of the set in effect: -1 in a bootstrap snapshot, absent for configured voters.
    pub fn last_offset(&self) -> Option<i64> {
        self.sets.last().map(|(offset, _)| *offset)
    }

    /// The set in effect after the record at `offset`; absent for configured voters.
    pub fn set_at(&self, offset: i64) -> Option<&VoterSet> {
        self.sets.iter().rev().find(|(at, _)| *at <= offset).map(|(_, set)| set)
    }

    /// kraft.version at the log end.
    pub fn kraft_version(&self) -> i16 {
        self.versions.last().map_or(0, |(_, version)| *version)
    }

    /// kraft.version after the record at `offset`.
    pub fn kraft_version_at(&self, offset: i64) -> i16 {
        self.versions.iter().rev().find(|(at, _)| *at <= offset).map_or(0, |(_, version)| *version)
    }

    /// A `VotersRecord` stands at `offset`.
    pub fn add_set(&mut self, offset: i64, set: VoterSet) {
        self.sets.retain(|(at, _)| *at < offset);
        self.sets.push((offset, set));
    }

    /// A `KRaftVersionRecord` stands at `offset`.
    pub fn add_version(&mut self, offset: i64, version: i16) {
        self.versions.retain(|(at, _)| *at < offset);
        self.versions.push((offset, version));
    }

    /// A control record stands at `offset`: takes it if it speaks of voters.
    pub(super) fn learn(&mut self, offset: i64, record: &ControlRecord) {
        match record {
            ControlRecord::KRaftVersion(it) => self.add_version(offset, it.kraft_version),
            ControlRecord::KRaftVoters(it) => self.add_set(offset, voter_set(it)),
            _ => {}
        }
    }

    /// The log was cut to end at `end_offset`.
    pub fn truncate_new(&mut self, end_offset: i64) {
        self.sets.retain(|(at, _)| *at < end_offset);
        self.versions.retain(|(at, _)| *at < end_offset);
    }

    /// The log begins at `start_offset` now: of what is older only the last is needed.
    pub fn truncate_old(&mut self, start_offset: i64) {
        drop_all_but_last_below(&mut self.sets, start_offset);
        drop_all_but_last_below(&mut self.versions, start_offset);
    }

    /// Everything is gone: the log starts anew from a snapshot.
    pub fn clear(&mut self) {
        self.sets.clear();
        self.versions.clear();
    }
}

fn drop_all_but_last_below<T>(entries: &mut Vec<(i64, T)>, start_offset: i64) {
    let older = entries.iter().take_while(|(at, _)| *at < start_offset).count();
    entries.drain(..older.saturating_sub(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[i32]) -> VoterSet {
        let voters: Vec<_> = ids.iter().map(|&id| (id, Endpoint::new("c", 9093))).collect();
        VoterSet::from_static(&Arc::from("CONTROLLER"), &voters)
    }

    #[test]
    fn a_key_without_directory_means_any_directory() {
        let voter = set(&[3, 1, 2]);
        assert_eq!(voter.ids().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(voter.is_voter(ReplicaKey::new(2, Uuid([7; 16]))));
        assert!(!voter.is_voter(ReplicaKey::new(4, Uuid::ZERO)));
        let mut node = voter.node(2).unwrap().clone();
        node.key.directory_id = Uuid([9; 16]);
        let strict = VoterSet::new(alloc::vec![node]);
        assert!(!strict.is_voter(ReplicaKey::new(2, Uuid([7; 16]))));
        assert!(strict.is_only_voter(ReplicaKey::new(2, Uuid([9; 16]))));
    }

    #[test]
    fn truncation_brings_an_older_set_back() {
        let mut history = VoterHistory::new(set(&[1]));
        assert_eq!((history.last().len(), history.kraft_version(), history.last_offset()), (1, 0, None));
        history.add_version(-1, 1);
        history.add_set(-1, set(&[1, 2]));
        history.add_set(10, set(&[1, 2, 3]));
        history.add_set(20, set(&[1, 2, 3, 4]));
        assert_eq!(history.last().len(), 4);
        assert_eq!(history.set_at(15).unwrap().len(), 3);
        history.truncate_new(20);
        assert_eq!((history.last().len(), history.last_offset()), (3, Some(10)));
        history.truncate_old(15);
        assert_eq!((history.last().len(), history.kraft_version()), (3, 1));
        assert_eq!(history.set_at(5), None, "older sets are forgotten below the snapshot");
    }
}

//! The state of a group of the consumer protocol: what lies in the log, and what can be asked of it.
//!
//! Follows Kafka's `ConsumerGroup`, `ConsumerGroupMember` and the replay methods of `GroupMetadataManager`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use wire::drive::Instant;
use wire::records::group::consumer_group_current_member_assignment_value as current;
use wire::records::{
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue,
    ConsumerGroupTargetAssignmentMemberValue,
};
use wire::{ErrorCode, Uuid};

use super::assignor::Partitions;
use super::reconcile::Owned;
use crate::metadata::MetadataImage;

/// The epoch of a static member that left for a while.
pub const LEFT_FOR_A_WHILE: i32 = -2;
/// The epoch of a member that leaves.
pub const LEAVING: i32 = -1;

/// Names of topics.
pub type Names = Arc<BTreeSet<Arc<str>>>;

/// How far a member is on its way to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It has what it is to have.
    Stable,
    /// It has to give something up first.
    Unrevoked,
    /// Others have not given up yet what it is to have.
    Unreleased,
}

impl MemberState {
    /// As records have it.
    pub fn id(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::Unrevoked => 1,
            MemberState::Unreleased => 2,
        }
    }

    fn of(id: i8) -> MemberState {
        match id {
            1 => MemberState::Unrevoked,
            2 => MemberState::Unreleased,
            _ => MemberState::Stable,
        }
    }
}

/// What is known of a member that speaks the classic protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicPart {
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// The assignors that it knows, with its subscription in the form of each.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: Arc<str>,
    /// Its `group.instance.id`.
    pub instance: Option<Arc<str>>,
    /// Its `client.rack`.
    pub rack: Option<Arc<str>>,
    /// Its `client.id`.
    pub client_id: Arc<str>,
    /// Its address, with a slash before it as Java writes it.
    pub client_host: Arc<str>,
    /// The topics that it names.
    pub topics: Names,
    /// The regular expression of more topics; empty if there is none.
    pub regex: Arc<str>,
    /// How long it may take to give partitions up, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it wants.
    pub assignor: Option<Arc<str>>,
    /// Set if it speaks the classic protocol.
    pub classic: Option<ClassicPart>,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch before: its answer may have been lost.
    pub previous_epoch: i32,
    /// How far it is.
    pub state: MemberState,
    /// What it has.
    pub assigned: Owned,
    /// What it has and is to give up.
    pub revoking: Owned,
}

impl Member {
    /// A member of which nothing is known.
    pub fn new(id: Arc<str>) -> Member {
        Member {
            id,
            instance: None,
            rack: None,
            client_id: Arc::from(""),
            client_host: Arc::from(""),
            topics: Names::default(),
            regex: Arc::from(""),
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
        }
    }

    /// Whether it has all that it is to have in this epoch.
    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    /// Whether what is written down of it beside its assignment is the same.
    pub fn same_metadata(&self, other: &Member) -> bool {
        self.instance == other.instance
            && self.rack == other.rack
            && self.client_id == other.client_id
            && self.client_host == other.client_host
            && self.topics == other.topics
            && self.regex == other.regex
            && self.rebalance_timeout_ms == other.rebalance_timeout_ms
            && self.assignor == other.assignor
            && self.classic == other.classic
    }

    /// Whether its assignment is the same, with all that belongs to it.
    pub fn same_assignment(&self, other: &Member) -> bool {
        self.epoch == other.epoch
            && self.previous_epoch == other.previous_epoch
            && self.state == other.state
            && self.assigned == other.assigned
            && self.revoking == other.revoking
    }

    /// Whether its epoch allows what it asks for; with `0` it joins (again).
    pub fn check_epoch(&self, epoch: i32, reported: Option<&Partitions>) -> Result<(), Refusal> {
        let fenced = |how: &str| {
            let known = self.epoch;
            Refusal::new(
                ErrorCode::FENCED_MEMBER_EPOCH,
                alloc::format!(
                    "The consumer group member has a {how} member epoch ({epoch}) than the one known by the group \
                     coordinator ({known}). The member must abandon all its partitions and rejoin."
                ),
            )
        };
        if epoch > self.epoch {
            return Err(fenced("greater"));
        }
        if epoch == 0 || epoch == self.epoch {
            return Ok(());
        }
        // The answer with the new epoch may have been lost.
        let has_no_more = |reported: &Partitions| {
            (reported.iter()).all(|(topic, partitions)| {
                let assigned = self.assigned.get(topic);
                partitions.iter().all(|p| assigned.is_some_and(|assigned| assigned.contains_key(p)))
            })
        };
        if epoch == self.previous_epoch && reported.is_some_and(has_no_more) {
            return Ok(());
        }
        Err(fenced("smaller"))
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's error.
    pub error: ErrorCode,
    /// Kafka's words.
    pub message: alloc::string::String,
}

impl Refusal {
    /// A refusal with words of its own.
    pub fn new(error: ErrorCode, message: impl Into<alloc::string::String>) -> Refusal {
        Refusal { error, message: message.into() }
    }
}

/// The topics that a regular expression names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Their names.
    pub topics: Names,
    /// The offset of the metadata that was looked at.
    pub version: i64,
}

/// What does not lie in the log: timers, and what was told of the group.
#[derive(Clone, Debug, Default)]
pub struct Soft {
    /// When members are removed unless they are heard of.
    pub sessions: BTreeMap<Arc<str>, Instant>,
    /// When members are removed unless they have given up what they are to give up in this epoch.
    pub revocations: BTreeMap<Arc<str>, (i32, Instant)>,
    /// When members that speak the classic protocol are removed unless they join, or ask for their assignment.
    pub joins: BTreeMap<Arc<str>, Instant>,
    /// The same for SyncGroup.
    pub syncs: BTreeMap<Arc<str>, Instant>,
    /// When the target assignment, which is older than the group, may be computed.
    pub assign_at: Option<Instant>,
    /// Topics may have changed since the metadata hash was computed.
    pub stale: bool,
    /// Not later than the soonest of these.
    pub due: Option<Instant>,
    /// The state that was told last.
    pub told_state: Option<&'static str>,
    /// The version of assignments that was told last.
    pub told_version: u64,
}

impl Soft {
    /// When something is to be done next, exactly.
    pub fn next_due(&self) -> Option<Instant> {
        let timers =
            [&self.sessions, &self.joins, &self.syncs].into_iter().flat_map(BTreeMap::values).copied();
        timers.chain(self.revocations.values().map(|(_, at)| *at)).chain(self.assign_at).min()
    }

    /// Something is to be done then.
    pub fn arm(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// A member is not waited for any more.
    pub fn forget(&mut self, member: &str) {
        self.sessions.remove(member);
        self.revocations.remove(member);
        self.joins.remove(member);
        self.syncs.remove(member);
    }
}

/// A group of the consumer protocol.
#[derive(Clone, Debug)]
pub struct ConsumerGroup {
    /// Its id.
    pub id: Arc<str>,
    /// The group epoch: a new one whenever the target has to be computed anew.
    pub epoch: i32,
    /// Of the topics that members subscribed to.
    pub metadata_hash: i64,
    /// By id.
    pub members: BTreeMap<Arc<str>, Member>,
    /// Members with a `group.instance.id`: their present member id.
    pub statics: BTreeMap<Arc<str>, Arc<str>>,
    /// The group epoch of the target assignment.
    pub target_epoch: i32,
    /// When it was computed, in milliseconds of wall clock; 0 if never.
    pub target_ms: i64,
    /// What each member is to have.
    pub targets: BTreeMap<Arc<str>, Arc<Partitions>>,
    /// Who has each partition, be it that the member is to give it up.
    pub owners: BTreeMap<(Uuid, i32), Arc<str>>,
    /// The regular expressions of members.
    pub regexes: BTreeMap<Arc<str>, Resolved>,
    /// Counts the changes of what members have.
    pub version: u64,
    /// Timers and the like.
    pub soft: Soft,
}

impl ConsumerGroup {
    /// A group without members.
    pub fn new(id: Arc<str>) -> ConsumerGroup {
        ConsumerGroup {
            id,
            epoch: 0,
            metadata_hash: 0,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            target_epoch: 0,
            target_ms: 0,
            targets: BTreeMap::new(),
            owners: BTreeMap::new(),
            regexes: BTreeMap::new(),
            version: 0,
            soft: Soft::default(),
        }
    }

    // --- looking

    /// Kafka's name of its state.
    pub fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.members.values().all(|m| m.is_reconciled_to(self.target_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// The epoch that follows. Kafka begins with 2: the first epoch of a member must differ from those of a group that
    /// was never assigned.
    pub fn next_epoch(&self) -> i32 {
        self.epoch.max(1) + 1
    }

    /// The member that a request names, as one who is known.
    pub fn member(&self, id: &str) -> Result<&Member, Refusal> {
        self.members.get(id).ok_or_else(|| {
            let message = alloc::format!("Member {id} is not a member of group {}.", self.id);
            Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, message)
        })
    }

    /// The member with a `group.instance.id`.
    pub fn static_member(&self, instance: &str) -> Option<&Member> {
        self.members.get(self.statics.get(instance)?)
    }

    /// The static member that a request names; refused unless it is the present one.
    pub fn present_static(&self, id: &str, instance: &str) -> Result<&Member, Refusal> {
        let member = self.static_member(instance).ok_or_else(|| {
            let message = alloc::format!("Instance id {instance} is unknown.");
            Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, message)
        })?;
        if *member.id != *id {
            let message = alloc::format!(
                "Static member {id} with instance id {instance} was fenced by member {}.",
                member.id
            );
            return Err(Refusal::new(ErrorCode::FENCED_INSTANCE_ID, message));
        }
        Ok(member)
    }

    /// What a member is to have.
    pub fn target(&self, member: &str) -> Arc<Partitions> {
        self.targets.get(member).cloned().unwrap_or_default()
    }

    /// The names of topics that a member subscribed to, those of its regular expression with them.
    pub fn topics_of(&self, member: &Member) -> Names {
        match self.regexes.get(&member.regex).filter(|_| !member.regex.is_empty()) {
            None => member.topics.clone(),
            Some(resolved) if member.topics.is_empty() => resolved.topics.clone(),
            Some(resolved) => Arc::new(member.topics.union(&resolved.topics).cloned().collect()),
        }
    }

    /// Whether a topic is one that members subscribed to.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            let resolved = self.regexes.get(&member.regex).filter(|_| !member.regex.is_empty());
            member.topics.contains(topic) || resolved.is_some_and(|r| r.topics.contains(topic))
        })
    }

    /// Whether all members but these speak the classic protocol, and there are any.
    pub fn only_classic_without(&self, leaving: &[Arc<str>]) -> bool {
        let mut others = self.members.values().filter(|m| !leaving.contains(&m.id)).peekable();
        others.peek().is_some() && others.all(|m| m.classic.is_some())
    }

    // --- replay

    /// Replays what is known of a member; `None` is its tombstone.
    pub fn replay_member(&mut self, id: &str, value: Option<&ConsumerGroupMemberMetadataValue>) {
        let Some(value) = value else {
            if let Some(gone) = self.members.remove(id) {
                self.release(&gone);
                self.version += 1;
                if let Some(instance) = &gone.instance
                    && self.statics.get(instance).is_some_and(|known| **known == *id)
                {
                    self.statics.remove(instance);
                }
            }
            return;
        };
        let text = |text: &alloc::string::String| Arc::<str>::from(text.as_str());
        let topics: BTreeSet<Arc<str>> = value.subscribed_topic_names.iter().map(text).collect();
        let topics = self.shared_names(topics);
        let member = self.member_mut(id);
        member.instance = value.instance_id.as_ref().map(text);
        member.rack = value.rack_id.as_ref().map(text);
        member.client_id = text(&value.client_id);
        member.client_host = text(&value.client_host);
        member.topics = topics;
        member.regex = value.subscribed_topic_regex.as_ref().map(text).unwrap_or_default();
        member.rebalance_timeout_ms = value.rebalance_timeout_ms;
        member.assignor = value.server_assignor.as_ref().map(text);
        member.classic = value.classic_member_metadata.as_ref().map(|classic| ClassicPart {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: (classic.supported_protocols.iter())
                .map(|p| (text(&p.name), Bytes::copy_from_slice(&p.metadata)))
                .collect(),
        });
        let (instance, id) = (member.instance.clone(), member.id.clone());
        if let Some(instance) = instance {
            self.statics.insert(instance, id);
        }
    }

    /// Members that subscribed to the same topics share one set.
    fn shared_names(&self, names: BTreeSet<Arc<str>>) -> Names {
        let shared = self.members.values().map(|m| &m.topics).find(|topics| ***topics == names);
        shared.cloned().unwrap_or_else(|| Arc::new(names))
    }

    fn member_mut(&mut self, id: &str) -> &mut Member {
        if !self.members.contains_key(id) {
            let id: Arc<str> = Arc::from(id);
            self.members.insert(id.clone(), Member::new(id));
        }
        self.members.get_mut(id).expect("it was just made")
    }

    /// Replays what a member is to have.
    pub fn replay_target(&mut self, id: &str, value: Option<&ConsumerGroupTargetAssignmentMemberValue>) {
        let Some(value) = value else {
            self.targets.remove(id);
            return;
        };
        let of_topic =
            |t: &wire::records::group::consumer_group_target_assignment_member_value::TopicPartition| {
                (t.topic_id, t.partitions.iter().copied().collect::<BTreeSet<i32>>())
            };
        let target = value.topic_partitions.iter().map(of_topic).collect();
        let id = self.members.get_key_value(id).map_or_else(|| Arc::from(id), |(id, _)| id.clone());
        self.targets.insert(id, Arc::new(target));
    }

    /// Replays what a member has. A tombstone takes it back to where it began.
    pub fn replay_current(&mut self, id: &str, value: Option<&ConsumerGroupCurrentMemberAssignmentValue>) {
        if value.is_none() && !self.members.contains_key(id) {
            return;
        }
        let before = self.member_mut(id).clone();
        self.release(&before);
        let member = self.members.get_mut(id).expect("it was just there");
        match value {
            None => {
                (member.epoch, member.previous_epoch, member.state) = (LEAVING, LEAVING, MemberState::Stable);
                (member.assigned, member.revoking) = (Owned::new(), Owned::new());
            }
            Some(value) => {
                member.epoch = value.member_epoch;
                member.previous_epoch = value.previous_member_epoch;
                member.state = MemberState::of(value.state);
                member.assigned = owned(&value.assigned_partitions, value.member_epoch);
                member.revoking = owned(&value.partitions_pending_revocation, value.member_epoch);
            }
        }
        if member.assigned != before.assigned || member.revoking != before.revoking {
            self.version += 1;
        }
        let id = member.id.clone();
        for (topic, partitions) in member.assigned.iter().chain(&member.revoking) {
            self.owners.extend(partitions.keys().map(|p| ((*topic, *p), id.clone())));
        }
    }

    fn release(&mut self, member: &Member) {
        for (topic, partitions) in member.assigned.iter().chain(&member.revoking) {
            for partition in partitions.keys() {
                if self.owners.get(&(*topic, *partition)).is_some_and(|owner| *owner == member.id) {
                    self.owners.remove(&(*topic, *partition));
                }
            }
        }
    }
}

fn owned(value: &[current::TopicPartitions], epoch: i32) -> Owned {
    let mut all = Owned::new();
    for topic in value {
        let epochs = topic.assignment_epochs.as_deref().unwrap_or_default();
        let of_topic = all.entry(topic.topic_id).or_default();
        for (n, partition) in topic.partitions.iter().enumerate() {
            of_topic.insert(*partition, epochs.get(n).copied().unwrap_or(epoch));
        }
    }
    all
}

/// The ids of those topics that exist.
pub fn topic_ids(image: &MetadataImage, names: &BTreeSet<Arc<str>>) -> BTreeSet<Uuid> {
    names.iter().filter_map(|name| image.topics.id_of(name)).collect()
}

/// A number that changes when one of these topics does: it is made or deleted, grows, or moves to other racks. 0 if
/// there is none of them.
pub fn metadata_hash(image: &MetadataImage, names: &BTreeSet<Arc<str>>) -> i64 {
    let mut hash = Fnv::new();
    let mut any = false;
    for topic in names.iter().filter_map(|name| image.topics.topic_named(name)) {
        any = true;
        hash.add(&topic.id.0);
        hash.add(topic.name.as_bytes());
        hash.add(&(topic.partitions.len() as u32).to_be_bytes());
        for (partition, registration) in &topic.partitions {
            hash.add(&partition.to_be_bytes());
            let rack = |replica: &i32| image.broker(*replica).and_then(|broker| broker.rack.as_deref());
            let racks: BTreeSet<&str> = registration.replicas.iter().filter_map(rack).collect();
            for rack in racks {
                hash.add(rack.as_bytes());
                hash.add(&[0]);
            }
        }
    }
    if any { hash.0 as i64 } else { 0 }
}

/// FNV-1a of 64 bits.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

//! The state of a classic group: members, generations, and the two phases of a rebalance.
//!
//! Follows Kafka's `ClassicGroup`. This file has the state and the questions that can be asked of it; what a request
//! or a timer does to it is in `membership`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use wire::ErrorCode;
use wire::drive::{Instant, Nanos};
use wire::framing::decode_versioned_or_later;
use wire::records::ConsumerProtocolSubscription;

use crate::net::RequestToken;

/// The state of a classic group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Members are asked to join.
    PreparingRebalance,
    /// All have joined; the leader's assignment is awaited.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
    /// Gone.
    Dead,
}

impl State {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// A member of a classic group.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its id.
    pub id: Arc<str>,
    /// Its `group.instance.id`.
    pub instance: Option<Arc<str>>,
    /// Its `client.id`.
    pub client_id: Arc<str>,
    /// Its address, with a slash before it as Java writes it.
    pub client_host: Arc<str>,
    /// How long it may take to join again, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// The assignors that it knows, the best first, with what it tells their leader.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// What the leader gave it.
    pub assignment: Bytes,
    /// Its JoinGroup that waits.
    pub joining: Option<RequestToken>,
    /// Its SyncGroup that waits.
    pub syncing: Option<RequestToken>,
    /// It has not seen the end of a rebalance yet.
    pub is_new: bool,
    /// When it is removed unless it is heard of.
    pub session_until: Instant,
}

impl Member {
    /// What it tells the leader under an assignor.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| **name == *protocol)
            .map_or_else(Bytes::new, |(_, m)| m.clone())
    }

    /// Whether it would join with exactly these protocols.
    pub fn matches(&self, protocols: &[(Arc<str>, Bytes)]) -> bool {
        self.protocols == protocols
    }

    /// Whether the coordinator waits for it, and not the other way round.
    pub fn is_parked(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }
}

/// How the first rebalance of a group waits for more members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialDelay {
    /// What is left of the time that it may be made longer.
    pub remaining: Nanos,
    /// Somebody came since it was made longer last.
    pub new_member: bool,
}

/// A classic group.
#[derive(Clone, Debug)]
pub struct Classic {
    /// Its id.
    pub id: Arc<str>,
    /// Its state.
    pub state: State,
    /// Since when, in milliseconds of wall clock.
    pub since_ms: i64,
    /// Counts its rebalances.
    pub generation: i32,
    /// `consumer`, `connect`, …
    pub protocol_type: Option<Arc<str>>,
    /// The assignor of this generation.
    pub protocol: Option<Arc<str>>,
    /// The member who assigns.
    pub leader: Option<Arc<str>>,
    /// By id.
    pub members: BTreeMap<Arc<str>, Member>,
    /// Members with a `group.instance.id`: their present member id.
    pub statics: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids that were given away and not used yet, with their ends.
    pub pending_joins: BTreeMap<Arc<str>, Instant>,
    /// Members that have not asked for their assignment yet.
    pub pending_syncs: BTreeSet<Arc<str>>,
    /// When the phase of the rebalance ends.
    pub phase_until: Option<Instant>,
    /// Set while the first rebalance waits for more members.
    pub initial: Option<InitialDelay>,
    /// Not later than the soonest thing to do.
    pub due: Option<Instant>,
    /// The order in which members came: the first who joined leads.
    pub arrivals: Vec<Arc<str>>,
}

impl Classic {
    /// A group without members.
    pub fn new(id: Arc<str>, now_ms: i64) -> Classic {
        Classic {
            id,
            state: State::Empty,
            since_ms: now_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            phase_until: None,
            initial: None,
            due: None,
            arrivals: Vec::new(),
        }
    }

    /// Whether a rebalance may begin.
    pub fn can_rebalance(&self) -> bool {
        matches!(self.state, State::Empty | State::CompletingRebalance | State::Stable)
    }

    /// Whether nobody is missing in the first phase.
    pub fn all_joined(&self) -> bool {
        self.pending_joins.is_empty() && self.members.values().all(|m| m.joining.is_some())
    }

    /// The longest time that a member may take to join again.
    pub fn rebalance_timeout(&self) -> Nanos {
        let ms = self.members.values().map(|m| m.rebalance_timeout_ms.max(0)).max().unwrap_or(0);
        Nanos::from_millis(ms as u64)
    }

    /// Whether somebody with these protocols may be a member.
    pub fn supports(&self, protocol_type: &str, protocols: &[(Arc<str>, Bytes)]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| self.all_support(name, None))
    }

    /// Whether all members, but for one, know an assignor.
    pub fn all_support(&self, protocol: &str, except: Option<&str>) -> bool {
        (self.members.values())
            .filter(|m| Some(&*m.id) != except)
            .all(|m| m.protocols.iter().any(|(name, _)| **name == *protocol))
    }

    /// The assignor that most members like best, of those that all know.
    pub fn select_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote =
                member.protocols.iter().map(|(name, _)| name).find(|name| self.all_support(name, None));
            *votes.entry(vote?).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, n)| *n == most).map(|(name, _)| name.clone())
    }

    /// The topics to which members have subscribed; `None` if that cannot be known.
    pub fn subscribed_topics(&self) -> Option<BTreeSet<Arc<str>>> {
        if self.protocol_type.as_deref() != Some("consumer") {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let subscription =
                decode_versioned_or_later::<ConsumerProtocolSubscription>(&member.metadata(protocol)).ok()?.0;
            topics.extend(subscription.topics.iter().map(|topic| Arc::from(&**topic)));
        }
        Some(topics)
    }

    /// Whether a topic is one that members have subscribed to.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed_topics().is_some_and(|topics| topics.contains(topic))
    }

    /// Whether a request comes from a member, and from its present incarnation.
    pub fn check_member(&self, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            return match self.statics.get(instance) {
                None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(known) if **known != *member => Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => Ok(()),
            };
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    /// Whether offsets may be committed by whoever asks so.
    pub fn check_commit(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        transactional: bool,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        // Who does not take part in the group's management may commit while nobody does.
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation >= 0 || !member.is_empty() || instance.is_some() {
            self.check_member(member, instance)?;
            if generation != self.generation {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        } else if !transactional && self.state != State::Empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        // Without a transaction nobody in the second phase knows what is theirs.
        if !transactional && self.state == State::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// Adds a member; the first one decides what kind of group it is.
    pub fn add(&mut self, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(Arc::from(protocol_type));
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.pending_joins.remove(&member.id);
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), member.id.clone());
        }
        self.arrivals.push(member.id.clone());
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out; another one leads if it did.
    pub fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.pending_syncs.remove(id);
        self.arrivals.retain(|arrived| **arrived != *id);
        if let Some(instance) = &member.instance
            && self.statics.get(instance).is_some_and(|known| **known == *id)
        {
            self.statics.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.arrivals.first().cloned();
        }
        Some(member)
    }

    /// Lets somebody who has joined lead if the leader has not. Whether somebody leads.
    pub fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &Arc<str>| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        match self.arrivals.iter().find(|id| joined(id)).cloned() {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Keeps in mind that something is to be done then.
    pub fn arm(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// What is to be done next, exactly.
    pub fn next_due(&self) -> Option<Instant> {
        let sessions = self.members.values().filter(|m| !m.is_parked() || m.is_new).map(|m| m.session_until);
        sessions.chain(self.pending_joins.values().copied()).chain(self.phase_until).min()
    }
}

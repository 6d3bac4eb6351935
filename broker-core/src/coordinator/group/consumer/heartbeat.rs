//! ConsumerGroupHeartbeat: joining, staying, leaving; and the end of members that are not heard of.
//!
//! A heartbeat takes up to five decisions, each of which is a record or none: what the member says of itself, which
//! topics its regular expression names, whether a new group epoch begins, what everybody is to have in it, and the
//! member's own step towards that.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rand_core::Rng as _;
use regex::bytes::{Regex, RegexBuilder};
use wire::drive::{Instant, Nanos};
use wire::messages::consumer_group_heartbeat_request as asked;
use wire::messages::consumer_group_heartbeat_response as told;
use wire::messages::*;
use wire::{ErrorCode, Uuid};

use super::super::membership::Sender;
use super::super::rebalance::error_of_append;
use super::super::{GroupShard, classic};
use super::assignor::{Assignor, GroupSpec, MemberSpec, Partitions};
use super::compat;
use super::reconcile::Goal;
use super::records::*;
use super::state::*;
use super::{Cx, Pending, assignors, group_setting, preferred, session_timeout};
use crate::coordinator::runtime::Records;
use crate::mutant::Mutant;
use crate::net::RequestToken;

/// A regular expression may not compile to more.
const REGEX_LIMIT: usize = 1 << 20;

/// What is answered when a write is committed.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Nobody asked.
    Nobody,
    /// A ConsumerGroupHeartbeat.
    Heartbeat {
        /// The request.
        token: RequestToken,
        /// The member's id.
        member: Arc<str>,
        /// Its epoch now.
        epoch: i32,
        /// How often it is to ask, in milliseconds.
        interval_ms: i32,
        /// What it has, if that is told.
        assignment: Option<Partitions>,
    },
    /// A JoinGroup.
    Join(compat::Joined),
    /// A SyncGroup.
    Sync(compat::Synced),
    /// A LeaveGroup.
    Leave(compat::Left),
    /// The group is one of the classic protocol now; perhaps by a JoinGroup.
    Downgraded(Option<compat::Joined>),
}

impl Answer {
    pub(super) fn give(
        self,
        shard: &mut GroupShard,
        cx: &mut Cx<'_, '_>,
        group: &Arc<str>,
        result: Result<(), ErrorCode>,
    ) {
        let result = result.map_err(error_of_append);
        match self {
            Answer::Nobody => {}
            Answer::Heartbeat { token, member, epoch, interval_ms, assignment } => {
                let mut response = ConsumerGroupHeartbeatResponse::default();
                match result {
                    Err(error) => response.error_code = error.0,
                    Ok(()) => {
                        response.member_id = Some(Cow::Borrowed(&*member));
                        response.member_epoch = epoch;
                        response.heartbeat_interval_ms = interval_ms;
                        response.assignment = assignment.map(|partitions| told_assignment(&partitions));
                    }
                }
                cx.respond(token, &response);
            }
            Answer::Join(joined) => joined.give(shard, cx, group, result),
            Answer::Sync(synced) => synced.give(shard, cx, group, result),
            Answer::Leave(left) => left.give(cx, result),
            Answer::Downgraded(joined) => shard.downgraded(cx, group, joined, result),
        }
    }
}

fn told_assignment(partitions: &Partitions) -> told::Assignment {
    let of_topic = |(topic_id, partitions): (&Uuid, &BTreeSet<i32>)| told::TopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
    };
    told::Assignment { topic_partitions: partitions.iter().map(of_topic).collect() }
}

/// Answers a heartbeat that is refused.
pub fn refuse(cx: &mut Cx<'_, '_>, token: RequestToken, refusal: &Refusal) {
    let response = ConsumerGroupHeartbeatResponse {
        error_code: refusal.error.0,
        error_message: Some(Cow::Borrowed(&*refusal.message)),
        ..ConsumerGroupHeartbeatResponse::default()
    };
    cx.respond(token, &response);
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(ErrorCode::INVALID_REQUEST, message)
}

/// What is wrong with a request, whatever the group is.
fn validate(
    cx: &Cx<'_, '_>,
    version: i16,
    request: &ConsumerGroupHeartbeatRequest<'_>,
) -> Result<(), Refusal> {
    let empty = |text: &Option<Cow<'_, str>>| text.as_ref().is_some_and(|text| text.trim().is_empty());
    // Since version 1 members draw their ids themselves.
    let needs_id = version >= 1 || request.member_epoch != 0;
    if needs_id && request.member_id.trim().is_empty() {
        return Err(invalid("MemberId can't be empty."));
    }
    if request.group_id.trim().is_empty() {
        return Err(invalid("GroupId can't be empty."));
    }
    if empty(&request.instance_id) {
        return Err(invalid("InstanceId can't be empty."));
    }
    if empty(&request.rack_id) {
        return Err(invalid("RackId can't be empty."));
    }
    match request.member_epoch {
        0 => validate_join(request)?,
        LEFT_FOR_A_WHILE if request.instance_id.is_none() => {
            return Err(invalid("InstanceId can't be null."));
        }
        LEFT_FOR_A_WHILE | LEAVING | 1.. => {}
        _ => return Err(invalid("MemberEpoch is invalid.")),
    }
    if let Some(name) = &request.server_assignor {
        let known = assignors(cx.ctx.config);
        if !known.iter().any(|assignor| *assignor.name() == **name) {
            let known: Vec<&str> = known.iter().map(|assignor| assignor.name()).collect();
            let known = known.join(", ");
            let message = format!("ServerAssignor {name} is not supported. Supported assignors: {known}.");
            return Err(Refusal::new(ErrorCode::UNSUPPORTED_ASSIGNOR, message));
        }
    }
    Ok(())
}

fn validate_join(request: &ConsumerGroupHeartbeatRequest<'_>) -> Result<(), Refusal> {
    if request.rebalance_timeout_ms == -1 {
        return Err(invalid("RebalanceTimeoutMs must be provided in first request."));
    }
    if request.topic_partitions.as_ref().is_none_or(|partitions| !partitions.is_empty()) {
        return Err(invalid("TopicPartitions must be empty when (re-)joining."));
    }
    if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
        return Err(invalid(
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ));
    }
    Ok(())
}

/// Compiles a regular expression as RE2 reads it; names of topics are matched as a whole.
fn compile(pattern: &str) -> Result<Regex, Refusal> {
    let compiled = RegexBuilder::new(pattern).unicode(false).size_limit(REGEX_LIMIT).build();
    let whole = compiled.and_then(|_| {
        RegexBuilder::new(&format!("^(?:{pattern})$")).unicode(false).size_limit(REGEX_LIMIT).build()
    });
    whole.map_err(|error| {
        let message = format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {error}.");
        Refusal::new(ErrorCode::INVALID_REGULAR_EXPRESSION, message)
    })
}

/// A member as it was, and as it is to be, and what goes with that.
pub(super) struct Change<'a> {
    /// The group as it is.
    pub group: &'a ConsumerGroup,
    /// The member as it is known; `None` if it is new.
    pub before: Option<&'a Member>,
    /// The id that a static member had before.
    pub replaces: Option<&'a Arc<str>>,
    /// The member with what the request says.
    pub member: Member,
    /// What the member says that it has.
    pub reported: Option<&'a Partitions>,
}

/// What became of a [`Change`].
pub(super) struct Outcome {
    pub member: Member,
    /// When the target assignment can be computed, if it must wait.
    pub assign_at: Option<Instant>,
}

impl Change<'_> {
    /// All that follows from the change, as records.
    pub(super) fn carry_out(mut self, cx: &Cx<'_, '_>, records: &mut Records) -> Result<Outcome, Refusal> {
        let group = self.group;
        let id = &*group.id;
        if self.before.is_none_or(|before| !before.same_metadata(&self.member)) {
            push_member(records, id, &self.member);
        }
        let resubscribed =
            |before: &Member| before.topics != self.member.topics || before.regex != self.member.regex;
        let mut bump = self.before.is_none_or(resubscribed);
        // The group as it will be, as far as what follows needs it.
        let mut draft = Draft { regexes: Cow::Borrowed(&group.regexes), group, change: &self };
        bump |= draft.resolve(cx, records)?;
        let (mut epoch, mut target_epoch) = (group.epoch, group.target_epoch);
        if bump || group.soft.stale {
            let hash = metadata_hash(cx.image, &draft.all_names());
            if bump || hash != group.metadata_hash {
                epoch = group.next_epoch();
                push_epoch(records, id, epoch, hash);
            }
        }
        let subscribed = topic_ids(cx.image, &draft.names_of(&self.member));
        let mut target = group.target(self.replaces.unwrap_or(&self.member.id));
        let mut assign_at = None;
        if epoch > target_epoch {
            match may_assign(cx, group) {
                Err(at) => assign_at = Some(at),
                Ok(()) => {
                    let mut targets = draft.compute_targets(cx, epoch, records);
                    target = Arc::new(targets.remove(&self.member.id).unwrap_or_default());
                    target_epoch = epoch;
                }
            }
        }
        let me = [Some(&self.member.id), self.replaces];
        let before_revoked = cx.ctx.config.mutants.has(Mutant::GivenBeforeRevoked);
        let is_free = |topic: Uuid, partition: i32| {
            let free = |owner| me.contains(&Some(owner));
            group.owners.get(&(topic, partition)).is_none_or(free) || before_revoked
        };
        let goal = Goal {
            epoch: target_epoch,
            target: &target,
            subscribed: &subscribed,
            reported: self.reported,
            is_free: &is_free,
        };
        let moved = self.member.reconciled(&goal);
        if self.before.is_none() || !moved.same_assignment(&self.member) {
            push_current(records, id, &moved);
        }
        self.member = moved;
        Ok(Outcome { member: self.member, assign_at })
    }
}

/// Whether the target may be computed now, or when.
fn may_assign(cx: &Cx<'_, '_>, group: &ConsumerGroup) -> Result<(), Instant> {
    let interval = group_setting(cx.ctx.config, cx.image, &group.id, "consumer.assignment.interval.ms");
    let left_ms = group.target_ms.saturating_add(interval.max(0)).saturating_sub(cx.now_ms());
    if group.target_ms == 0 || left_ms <= 0 || left_ms > interval {
        return Ok(());
    }
    Err(cx.now() + Nanos::from_millis(left_ms as u64))
}

/// A group with a change that is not written yet.
struct Draft<'a> {
    group: &'a ConsumerGroup,
    change: &'a Change<'a>,
    regexes: Cow<'a, BTreeMap<Arc<str>, Resolved>>,
}

impl Draft<'_> {
    /// The members as they will be.
    fn members(&self) -> impl Iterator<Item = &Member> {
        let changed = &self.change.member;
        let replaced = self.change.replaces;
        let others = self.group.members.values();
        let others = others.filter(move |m| m.id != changed.id && Some(&m.id) != replaced);
        others.chain([changed])
    }

    fn names_of(&self, member: &Member) -> Names {
        names_of(&self.regexes, member)
    }

    /// The topics that anybody subscribed to.
    fn all_names(&self) -> BTreeSet<Arc<str>> {
        all_names(&self.regexes, self.members())
    }

    /// Looks which topics the regular expressions name, if one is new or topics have changed. Whether that is a reason
    /// for a new epoch.
    fn resolve(&mut self, cx: &Cx<'_, '_>, records: &mut Records) -> Result<bool, Refusal> {
        let pattern = &self.change.member.regex;
        let is_new = !pattern.is_empty() && !self.regexes.contains_key(pattern);
        let unused: Vec<Arc<str>> = (self.regexes.keys())
            .filter(|known| !self.members().any(|member| member.regex == **known))
            .cloned()
            .collect();
        if !is_new && unused.is_empty() && (!self.group.soft.stale || self.regexes.is_empty()) {
            return Ok(false);
        }
        let wanted: BTreeSet<Arc<str>> =
            self.members().map(|member| member.regex.clone()).filter(|pattern| !pattern.is_empty()).collect();
        let mut changed = false;
        let mut regexes = self.regexes.clone().into_owned();
        for pattern in wanted {
            let compiled = compile(&pattern)?;
            let topics: BTreeSet<Arc<str>> = (cx.image.topics.iter_by_name())
                .filter(|topic| compiled.is_match(topic.name.as_bytes()))
                .map(|topic| topic.name.clone())
                .collect();
            if regexes.get(&pattern).is_none_or(|known| *known.topics != topics) {
                let resolved = Resolved { topics: Arc::new(topics), version: cx.image.offset };
                push_regex(records, &self.group.id, &pattern, &resolved, cx.now_ms());
                regexes.insert(pattern, resolved);
                changed = true;
            }
        }
        for pattern in unused {
            push_regex_gone(records, &self.group.id, &pattern);
            regexes.remove(&pattern);
        }
        self.regexes = Cow::Owned(regexes);
        Ok(changed)
    }

    fn compute_targets(
        &self,
        cx: &Cx<'_, '_>,
        epoch: i32,
        records: &mut Records,
    ) -> BTreeMap<Arc<str>, Partitions> {
        let target_of = |member: &Member| match self.change.replaces {
            Some(old) if member.id == self.change.member.id => self.group.target(old),
            _ => self.group.target(&member.id),
        };
        let assignor = preferred(cx.ctx.config, self.members());
        compute_targets(cx, self.group, (assignor, epoch), &self.regexes, self.members(), target_of, records)
    }
}

fn names_of(regexes: &BTreeMap<Arc<str>, Resolved>, member: &Member) -> Names {
    match regexes.get(&member.regex).filter(|_| !member.regex.is_empty()) {
        None => member.topics.clone(),
        Some(resolved) if member.topics.is_empty() => resolved.topics.clone(),
        Some(resolved) => Arc::new(member.topics.union(&resolved.topics).cloned().collect()),
    }
}

fn all_names<'m>(
    regexes: &BTreeMap<Arc<str>, Resolved>,
    members: impl Iterator<Item = &'m Member>,
) -> BTreeSet<Arc<str>> {
    let mut all = BTreeSet::new();
    let mut last: Option<Names> = None;
    for member in members {
        let names = names_of(regexes, member);
        // Most members share one set.
        if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &names)) {
            all.extend(names.iter().cloned());
        }
        last = Some(names);
    }
    all
}

/// Lets the assignor decide, and writes what is different from before.
fn compute_targets<'m>(
    cx: &Cx<'_, '_>,
    group: &ConsumerGroup,
    (assignor, epoch): (Assignor, i32),
    regexes: &BTreeMap<Arc<str>, Resolved>,
    members: impl Iterator<Item = &'m Member>,
    target_of: impl Fn(&Member) -> Arc<Partitions>,
    records: &mut Records,
) -> BTreeMap<Arc<str>, Partitions> {
    let mut partitions: BTreeMap<Uuid, i32> = BTreeMap::new();
    let mut by_names: Vec<(Names, Arc<BTreeSet<Uuid>>)> = Vec::new();
    let mut specs = BTreeMap::new();
    for member in members {
        let names = names_of(regexes, member);
        let known = by_names.iter().find(|(known, _)| Arc::ptr_eq(known, &names) || *known == names);
        let topics = match known {
            Some((_, topics)) => topics.clone(),
            None => {
                let topics = Arc::new(topic_ids(cx.image, &names));
                for id in topics.iter() {
                    let count = cx.image.topics.topic(*id).map_or(0, |topic| topic.partitions.len() as i32);
                    partitions.insert(*id, count);
                }
                by_names.push((names, topics.clone()));
                topics
            }
        };
        specs.insert(member.id.clone(), MemberSpec { topics, target: target_of(member) });
    }
    let targets = assignor.assign(&GroupSpec { members: specs, partitions: &partitions });
    for (member, target) in &targets {
        if group.targets.get(member).is_none_or(|known| **known != *target) {
            push_target(records, &group.id, member, target);
        }
    }
    push_target_epoch(records, &group.id, epoch, cx.now_ms());
    targets
}

/// A heartbeat, taken over from the frame.
struct Beat<'a> {
    sender: Sender<'a>,
    request: &'a ConsumerGroupHeartbeatRequest<'a>,
    member: Arc<str>,
    reported: Option<Partitions>,
}

impl GroupShard {
    /// ConsumerGroupHeartbeat (68).
    pub(in super::super) fn consumer_heartbeat(
        &mut self,
        cx: &mut Cx<'_, '_>,
        sender: Sender<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) {
        let result = validate(cx, sender.token.version, request).and_then(|()| match request.member_epoch {
            LEAVING | LEFT_FOR_A_WHILE => self.consumer_leave(cx, sender.token, request),
            _ => self.consumer_beat(cx, sender, request),
        });
        if let Err(refusal) = result {
            refuse(cx, sender.token, &refusal);
        }
    }

    fn consumer_beat(
        &mut self,
        cx: &mut Cx<'_, '_>,
        sender: Sender<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Result<(), Refusal> {
        let joins = request.member_epoch == 0;
        let member: Arc<str> = match request.member_id.is_empty() {
            false => Arc::from(&*request.member_id),
            true => {
                let mut bytes = [0; 16];
                cx.ctx.rng.fill_bytes(&mut bytes);
                Arc::from(format!("{}", Uuid::from_random(bytes)))
            }
        };
        let beat =
            Beat { sender, request, member, reported: request.topic_partitions.as_deref().map(partitions) };
        let mut records = cx.records();
        let (upgraded, upgrade) = self.consumer_or_upgraded(cx, &request.group_id, joins, &mut records)?;
        let known = self.consumer.get(&request.group_id);
        let group = upgraded.as_ref().or(known).expect("there is one or the other");
        check_size(cx, group, &beat.member)?;
        let outcome = beat.decide(cx, group, &mut records)?;
        let fresh = !group.members.contains_key(&beat.member);
        let replaced = request.instance_id.as_deref().and_then(|i| group.statics.get(i)).cloned();
        let had = known.and_then(|group| group.members.get(&beat.member)).map(|m| m.assigned.clone());
        if upgrade {
            self.classic.answer_all(cx, &request.group_id, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let id = group.id.clone();
        let mut left = Vec::new();
        if let Some(old) = replaced.filter(|old| *old != beat.member) {
            left.push((old, "another one with its instance id took its place"));
        }
        self.heard_of_consumer(cx, &id, &outcome, None, left.first().map(|(old, _)| old));
        let assigned: Partitions =
            outcome.member.assigned.iter().map(|(t, p)| (*t, p.keys().copied().collect())).collect();
        let full = joins
            || request.rebalance_timeout_ms != -1
                && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
                && request.topic_partitions.is_some();
        let changed = had.as_ref() != Some(&outcome.member.assigned);
        let interval = group_setting(cx.ctx.config, cx.image, &id, "consumer.heartbeat.interval.ms");
        let answer = Answer::Heartbeat {
            token: sender.token,
            member: beat.member.clone(),
            epoch: outcome.member.epoch,
            interval_ms: interval as i32,
            assignment: (full || changed).then_some(assigned),
        };
        let joined = if fresh { alloc::vec![beat.member] } else { Vec::new() };
        self.write_consumer(cx, records, Pending { group: id, answer, joined, left });
        Ok(())
    }

    /// The timers of a member that was heard of. `session` is that of a classic member.
    pub(super) fn heard_of_consumer(
        &mut self,
        cx: &Cx<'_, '_>,
        id: &Arc<str>,
        outcome: &Outcome,
        session: Option<Nanos>,
        replaced: Option<&Arc<str>>,
    ) {
        let now = cx.now();
        let until = now + session.unwrap_or_else(|| session_timeout(cx.ctx.config, cx.image, id));
        let member = &outcome.member;
        let group = self.consumer.get_or_create(id);
        if let Some(old) = replaced {
            group.soft.forget(old);
        }
        let mut soonest = until;
        group.soft.stale = false;
        group.soft.sessions.insert(member.id.clone(), until);
        if member.state == MemberState::Unrevoked && member.classic.is_none() {
            let at = now + Nanos::from_millis(member.rebalance_timeout_ms.max(0) as u64);
            let known = group.soft.revocations.get(&member.id).filter(|(epoch, _)| *epoch == member.epoch);
            if known.is_none() {
                group.soft.revocations.insert(member.id.clone(), (member.epoch, at));
                soonest = soonest.min(at);
            }
        } else {
            group.soft.revocations.remove(&member.id);
        }
        if let Some(at) = outcome.assign_at {
            group.soft.assign_at = Some(at);
            soonest = soonest.min(at);
        }
        self.consumer.arm(id, soonest);
    }

    /// The time is there to compute a target that had to wait.
    pub(super) fn assign_late(&mut self, cx: &mut Cx<'_, '_>, id: &Arc<str>) {
        let Some(group) = self.consumer.get(id) else { return };
        if group.epoch <= group.target_epoch || group.members.is_empty() {
            return;
        }
        let mut records = cx.records();
        let assignor = preferred(cx.ctx.config, group.members.values());
        let target_of = |member: &Member| group.target(&member.id);
        let what = (assignor, group.epoch);
        compute_targets(cx, group, what, &group.regexes, group.members.values(), target_of, &mut records);
        let pending =
            Pending { group: id.clone(), answer: Answer::Nobody, joined: Vec::new(), left: Vec::new() };
        self.write_consumer(cx, records, pending);
    }

    // --- leaving

    fn consumer_leave(
        &mut self,
        cx: &mut Cx<'_, '_>,
        token: RequestToken,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Result<(), Refusal> {
        let group = self.consumer_group(&request.group_id)?;
        let member = match request.instance_id.as_deref() {
            None => group.member(&request.member_id)?,
            Some(instance) => group.present_static(&request.member_id, instance)?,
        };
        let (id, member_id) = (group.id.clone(), member.id.clone());
        let answer = Answer::Heartbeat {
            token,
            member: member_id.clone(),
            epoch: request.member_epoch,
            interval_ms: 0,
            assignment: None,
        };
        if request.member_epoch != LEFT_FOR_A_WHILE {
            self.fence(cx, &id, alloc::vec![(member_id, "the member left")], answer);
            return Ok(());
        }
        let mut away = member.clone();
        away.epoch = LEFT_FOR_A_WHILE;
        away.revoking.clear();
        let mut records = cx.records();
        push_current(&mut records, &id, &away);
        self.write_consumer(cx, records, Pending { group: id, answer, joined: Vec::new(), left: Vec::new() });
        Ok(())
    }

    /// Takes members out of a group; those who stay share out anew with their next heartbeats.
    pub(super) fn fence(
        &mut self,
        cx: &mut Cx<'_, '_>,
        id: &Arc<str>,
        gone: Vec<(Arc<str>, &'static str)>,
        answer: Answer,
    ) {
        let Some(group) = self.consumer.groups.get_mut(id) else { return };
        for (member, _) in &gone {
            group.soft.forget(member);
        }
        let group = &self.consumer.groups[id];
        let leaving: Vec<Arc<str>> = gone.iter().map(|(member, _)| member.clone()).collect();
        let mut records = cx.records();
        if self.may_downgrade(cx, group, &leaving) {
            compat::push_downgrade(cx, group, &leaving, None, &mut records);
            // The one who left gets its answer too.
            let pending = Pending { group: id.clone(), answer, joined: Vec::new(), left: gone };
            self.write_consumer(cx, records, pending);
            let answer = Answer::Downgraded(None);
            let pending = Pending { group: id.clone(), answer, joined: Vec::new(), left: Vec::new() };
            let none = cx.records();
            return self.write_consumer(cx, none, pending);
        }
        for member in &leaving {
            push_member_gone(&mut records, id, member);
        }
        let others = || group.members.values().filter(|m| !leaving.contains(&m.id));
        let hash = metadata_hash(cx.image, &all_names(&group.regexes, others()));
        for pattern in group.regexes.keys().filter(|pattern| !others().any(|m| m.regex == **pattern)) {
            push_regex_gone(&mut records, id, pattern);
        }
        push_epoch(&mut records, id, group.next_epoch(), hash);
        self.write_consumer(
            cx,
            records,
            Pending { group: id.clone(), answer, joined: Vec::new(), left: gone },
        );
    }

    pub(super) fn consumer_group(&self, id: &str) -> Result<&ConsumerGroup, Refusal> {
        let unknown = |message: String| Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message);
        match self.consumer.get(id) {
            Some(group) => Ok(group),
            None if self.classic.get(id).is_some() => {
                Err(unknown(format!("Group {id} is not a consumer group.")))
            }
            None => Err(unknown(format!("Group {id} not found."))),
        }
    }

    /// The group; if there is none, or another kind of group that may become one, a new one, with what has to be
    /// written for that. The flag says that classic members wait for an answer.
    fn consumer_or_upgraded(
        &self,
        cx: &Cx<'_, '_>,
        id: &str,
        joins: bool,
        records: &mut Records,
    ) -> Result<(Option<ConsumerGroup>, bool), Refusal> {
        if self.consumer.get(id).is_some() {
            return Ok((None, false));
        }
        if !joins {
            let message = format!("Consumer group {id} not found.");
            let other_kind = self.classic.get(id).is_some();
            return Err(match other_kind {
                true => self.consumer_group(id).expect_err("it is of another kind"),
                false => Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message),
            });
        }
        let Some(classic) = self.classic.get(id) else {
            return Ok((Some(ConsumerGroup::new(Arc::from(id))), false));
        };
        if classic.state == classic::State::Empty && classic.members.is_empty() {
            push_classic_gone(records, id);
            return Ok((Some(ConsumerGroup::new(Arc::from(id))), true));
        }
        let group = compat::upgraded(cx, classic)?;
        push_classic_gone(records, id);
        push_group(records, &group);
        Ok((Some(group), true))
    }
}

pub(super) fn check_size(cx: &Cx<'_, '_>, group: &ConsumerGroup, member: &str) -> Result<(), Refusal> {
    let limit = cx.ctx.config.static_number("group.consumer.max.size");
    if group.members.len() as i64 >= limit && !group.members.contains_key(member) {
        let message = format!("The consumer group has reached its maximum capacity of {limit} members.");
        return Err(Refusal::new(ErrorCode::GROUP_MAX_SIZE_REACHED, message));
    }
    Ok(())
}

fn partitions(asked: &[asked::TopicPartitions]) -> Partitions {
    let mut all = Partitions::new();
    for topic in asked {
        all.entry(topic.topic_id).or_default().extend(&topic.partitions);
    }
    all
}

/// A static member takes the place of the one before it: what that had is the new one's.
pub(super) fn push_replacement(records: &mut Records, group: &ConsumerGroup, old: &Member, new: &Member) {
    let id = &*group.id;
    push_member_gone(records, id, &old.id);
    push_member(records, id, new);
    push_target(records, id, &new.id, &group.target(&old.id));
    push_current(records, id, new);
}

impl Beat<'_> {
    /// What follows from the heartbeat.
    fn decide(
        &self,
        cx: &Cx<'_, '_>,
        group: &ConsumerGroup,
        records: &mut Records,
    ) -> Result<Outcome, Refusal> {
        let epoch = self.request.member_epoch;
        let joins = epoch == 0;
        let reported = self.reported.as_ref();
        let mut replacement: Option<Member> = None;
        let mut replaces: Option<Arc<str>> = None;
        let known = match self.request.instance_id.as_deref() {
            None if joins => group.members.get(&self.member),
            None => Some(group.member(&self.member)?),
            Some(instance) if joins => match group.static_member(instance) {
                None => group.members.get(&self.member),
                Some(old) => {
                    if old.classic.is_none() && old.epoch != LEFT_FOR_A_WHILE && old.id != self.member {
                        return Err(unreleased(&self.member, instance, &old.id));
                    }
                    let mut new = old.clone();
                    new.id = self.member.clone();
                    (new.epoch, new.previous_epoch) = (0, 0);
                    if old.id != new.id || old.epoch == LEFT_FOR_A_WHILE {
                        push_replacement(records, group, old, &new);
                        replaces = Some(old.id.clone());
                        replacement = Some(new);
                    }
                    Some(old)
                }
            },
            Some(instance) => Some(group.present_static(&self.member, instance)?),
        };
        let before = replacement.as_ref().or(known);
        if let Some(before) = before {
            before.check_epoch(epoch, reported)?;
        }
        let member = self.updated(before);
        if !member.regex.is_empty() && before.is_none_or(|before| before.regex != member.regex) {
            compile(&member.regex)?;
        }
        let change = Change { group, before, replaces: replaces.as_ref(), member, reported };
        change.carry_out(cx, records)
    }

    /// The member with what the request says of it.
    fn updated(&self, before: Option<&Member>) -> Member {
        let request = self.request;
        let mut member = before.cloned().unwrap_or_else(|| Member::new(self.member.clone()));
        let text = |text: &Option<Cow<'_, str>>, field: &mut Option<Arc<str>>| {
            if let Some(text) = text
                && field.as_deref() != Some(&**text)
            {
                *field = Some(Arc::from(&**text));
            }
        };
        text(&request.instance_id, &mut member.instance);
        text(&request.rack_id, &mut member.rack);
        text(&request.server_assignor, &mut member.assignor);
        if request.rebalance_timeout_ms != -1 {
            member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        if let Some(names) = &request.subscribed_topic_names {
            let names: BTreeSet<Arc<str>> = names.iter().map(|name| Arc::from(&**name)).collect();
            if *member.topics != names {
                member.topics = Arc::new(names);
            }
        }
        if let Some(regex) = &request.subscribed_topic_regex
            && *member.regex != **regex
        {
            member.regex = Arc::from(&**regex);
        }
        if *member.client_id != *self.sender.client_id {
            member.client_id = Arc::from(self.sender.client_id);
        }
        if member.client_host.strip_prefix('/') != Some(self.sender.host) {
            member.client_host = Arc::from(format!("/{}", self.sender.host));
        }
        member.classic = None;
        member
    }
}

fn unreleased(member: &str, instance: &str, owner: &str) -> Refusal {
    let message = format!(
        "Static member {member} with instance id {instance} cannot join the group because the instance id is owned \
         by {owner} member."
    );
    Refusal::new(ErrorCode::UNRELEASED_INSTANCE_ID, message)
}

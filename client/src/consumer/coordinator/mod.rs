//! A consumer and its group's coordinator (`AbstractCoordinator.java`, `ConsumerCoordinator.java`).
//!
//! The coordinator is looked for when it is needed, and again whenever it turns out to be another broker. Requests to
//! it have a connection of their own. Members of a group rejoin, and offsets are committed by themselves, only while
//! the application is in `poll`; heartbeats go on all the time, and a member whose application stays away for
//! `max.poll.interval.ms` leaves by itself.
//!
//! [`classic`] is the protocol of JoinGroup and SyncGroup, [`modern`] that of KIP-848. Commits ([`commit`]) and
//! committed offsets ([`committed`]) are the same for both, and for consumers with a `group.id` and partitions of
//! their own.

pub(super) mod classic;
mod close;
pub(super) mod commit;
pub(super) mod committed;
mod finder;
mod join;
pub(super) mod modern;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::drive::{Instant, Now};
use wire::error::ErrorCode;

use super::group::{GroupMetadata, Subscription};
use super::{Consumer, Key};
use crate::error::ClientError;
use crate::event::{ClientEvent, TopicPartition};
use crate::io::Outputs;
use crate::net::sooner;
use classic::Classic;
use close::Closing;
use commit::Commits;
use committed::Questions;
use finder::Finder;
use modern::Modern;

/// What a consumer has to do with its group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub id: Arc<str>,
    pub instance: Option<Arc<str>>,
    pub finder: Finder,
    pub subscription: Option<Subscription>,
    /// The topics that the subscription means.
    pub topics: Arc<BTreeSet<Arc<str>>>,
    pub membership: Membership,
    /// Who the member is, as its last rebalance said.
    pub metadata: GroupMetadata,
    /// What was given up, if somebody wants to know.
    pub given_up: Option<Vec<TopicPartition>>,
    /// The application is in `poll`.
    pub in_poll: bool,
    /// When the application must have polled again; absent while it is in `poll`.
    pub poll_until: Option<Instant>,
    pub commits: Commits,
    pub questions: Questions,
    pub auto_commit_at: Instant,
    pub closing: Closing,
    /// The version of the metadata that the subscription has been compared with.
    pub metadata_seen: u64,
    pub deadline: Option<Instant>,
}

/// How the consumer belongs to its group.
#[derive(Clone, Debug)]
pub(super) enum Membership {
    /// It has partitions of its own, and only commits.
    None,
    Classic(Classic),
    Modern(Modern),
}

impl Group {
    pub fn new(id: Arc<str>, instance: Option<Arc<str>>) -> Group {
        let member = "".into();
        Group {
            metadata: GroupMetadata { group: id.clone(), generation: -1, member, instance: instance.clone() },
            id,
            instance,
            finder: Finder::default(),
            subscription: None,
            topics: Arc::default(),
            membership: Membership::None,
            given_up: None,
            in_poll: true,
            poll_until: None,
            commits: Commits::default(),
            questions: Questions::default(),
            auto_commit_at: Instant(0),
            closing: Closing::No,
            metadata_seen: 0,
            deadline: None,
        }
    }

    /// Wants to be driven at that time.
    pub fn wake_at(&mut self, at: Instant) {
        self.deadline = sooner(self.deadline, Some(at));
    }

    /// Nothing is left to be said before the connections may be closed.
    pub fn has_left(&self) -> bool {
        self.closing == Closing::Left
    }

    pub fn classic(&mut self) -> &mut Classic {
        match &mut self.membership {
            Membership::Classic(classic) => classic,
            other => unreachable!("a request of the classic protocol, and {other:?}"),
        }
    }

    pub fn modern(&mut self) -> &mut Modern {
        match &mut self.membership {
            Membership::Modern(modern) => modern,
            other => unreachable!("a request of the consumer protocol, and {other:?}"),
        }
    }
}

impl Consumer {
    pub(super) fn group_mut(&mut self) -> &mut Group {
        self.group.as_mut().expect("only a consumer with a group.id gets here")
    }

    /// Does what concerns the group. Called after every input.
    pub(super) fn drive_group(&mut self, now: Now, out: &mut Outputs) {
        let Some(group) = &mut self.group else { return };
        group.deadline = None;
        if group.closing != Closing::No {
            self.drive_close(now, out);
        } else {
            if group.in_poll && !group.commits.is_sync_pending() {
                self.poll_group(now, out);
            }
            self.keep_alive(now.mono, out);
        }
        self.send_commits(now.mono, out);
        self.send_questions(now.mono, out);
    }

    /// What `ConsumerCoordinator.poll` does.
    fn poll_group(&mut self, now: Now, out: &mut Outputs) {
        self.refresh_subscription();
        let group = self.group_mut();
        if group.commits.fenced {
            let instance = group.instance.as_deref().unwrap_or("unset_instance_id");
            let text = format!(
                "Get fenced exception for group.instance.id {instance}, current member.id is {}",
                group.metadata.member
            );
            return self.fail(ClientError::from_code(ErrorCode::FENCED_INSTANCE_ID, Some(&text)));
        }
        let goes_on = match group.membership {
            Membership::None => true,
            Membership::Classic(_) => self.poll_classic(now, out),
            Membership::Modern(_) => self.poll_modern(now, out),
        };
        if goes_on {
            self.maybe_auto_commit(now.mono, out);
        }
    }

    fn keep_alive(&mut self, now: Instant, out: &mut Outputs) {
        match self.group_mut().membership {
            Membership::None => {}
            Membership::Classic(_) => {
                self.drive_leading(now, out);
                self.heartbeat(now, out);
            }
            Membership::Modern(_) => self.drive_modern(now, out),
        }
    }

    /// Finds the topics of a pattern anew when the metadata changed.
    fn refresh_subscription(&mut self) {
        let version = self.net.metadata.version();
        let pattern = self.pattern.as_ref();
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        if core::mem::replace(&mut group.metadata_seen, version) == version {
            return;
        }
        if let Some(pattern) = pattern {
            let there = self.net.metadata.topics().iter().filter(|topic| topic.error == ErrorCode::NONE);
            let there = there.filter(|topic| topic.answered && !topic.partitions.is_empty());
            // An internal topic would not be in the cache if it were not wanted.
            let matching = there.filter(|topic| pattern.matches(&topic.name, false));
            let topics: BTreeSet<Arc<str>> = matching.map(|topic| topic.name.clone()).collect();
            if topics != *group.topics {
                group.topics = Arc::new(topics);
            }
        }
        if let Membership::Classic(classic) = &mut group.membership
            && classic.assignment_snapshot.is_some()
        {
            classic.snapshot = Some(Arc::new(snapshot(
                &classic.group_topics,
                &self.net.metadata,
                self.config.rack.is_some(),
            )));
        }
    }

    // --- the assignment

    pub(super) fn owned(&self) -> Vec<TopicPartition> {
        let mut owned: Vec<TopicPartition> =
            self.partitions.values().map(|state| state.partition.clone()).collect();
        owned.sort_unstable();
        owned
    }

    /// Gives partitions up, as `onPartitionsRevoked` or as `onPartitionsLost`.
    pub(super) fn give_up(&mut self, partitions: Vec<TopicPartition>, lost: bool, out: &mut Outputs) {
        if partitions.is_empty() {
            return;
        }
        partitions.iter().for_each(|partition| self.unassign(partition));
        if let Some(given_up) = &mut self.group_mut().given_up {
            given_up.extend(partitions.iter().cloned());
        }
        let group = self.group_mut().id.clone();
        out.event(|| match lost {
            true => ClientEvent::PartitionsLost { group, partitions },
            false => ClientEvent::PartitionsRevoked { group, partitions },
        });
    }

    /// Whether the application wants to know what is given up, as with a `ConsumerRebalanceListener`.
    fn has_listener(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.given_up.is_some())
    }

    /// From now on, what is given up is kept for [`Consumer::take_given_up`].
    pub fn keep_given_up(&mut self) {
        if let Some(group) = &mut self.group {
            group.given_up.get_or_insert_default();
        }
    }

    /// The partitions that were given up since the last call, whether they have come back or not: what was read of them
    /// and not committed will be read again.
    pub fn take_given_up(&mut self) -> Vec<TopicPartition> {
        let kept = self.group.as_mut().and_then(|group| group.given_up.as_mut());
        kept.map(core::mem::take).unwrap_or_default()
    }

    /// Takes partitions that the group gives this member; they begin where the group has committed.
    pub(super) fn take_over(&mut self, added: Vec<TopicPartition>, out: &mut Outputs) {
        added.iter().for_each(|partition| self.assign(partition, super::StartAt::Reset));
        let (group, owned) = (self.group_mut().id.clone(), self.owned());
        out.event(|| ClientEvent::PartitionsAssigned { group, partitions: added, owned });
    }

    /// What is being given up is neither fetched nor returned any more.
    pub(super) fn mark_pending_revocation(&mut self, keys: impl Iterator<Item = Key>) {
        for key in keys {
            if let Some(state) = self.partitions.get_mut(&key) {
                state.pending_revocation = true;
                self.changed(key);
            }
        }
    }

    pub(super) fn tell_joined(&mut self, out: &mut Outputs) {
        let metadata = &self.group_mut().metadata;
        let (group, member, generation) =
            (metadata.group.clone(), metadata.member.clone(), metadata.generation);
        out.event(|| ClientEvent::GroupJoined { group, member, generation });
    }
}

/// What the assignment of a leader rests on: the racks of the partitions of each topic, if it looks at racks.
pub(super) type Snapshot = BTreeMap<Arc<str>, Vec<BTreeSet<Arc<str>>>>;

fn snapshot(topics: &BTreeSet<Arc<str>>, metadata: &crate::metadata::Metadata, with_racks: bool) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for name in topics {
        let Some(index) = metadata.topic_named(name) else { continue };
        let topic = metadata.topic(index);
        if topic.error != ErrorCode::NONE || topic.partitions.is_empty() {
            continue;
        }
        let racks = |partition: &crate::metadata::Partition| match with_racks {
            true => racks_of(metadata, partition).collect(),
            false => BTreeSet::new(),
        };
        snapshot.insert(name.clone(), topic.partitions.iter().map(racks).collect());
    }
    snapshot
}

pub(super) fn racks_of<'a>(
    metadata: &'a crate::metadata::Metadata,
    partition: &'a crate::metadata::Partition,
) -> impl Iterator<Item = Arc<str>> + 'a {
    partition.replicas.iter().filter_map(|&id| metadata.broker(id)?.rack.clone())
}

/// As Java prints a list of partitions.
pub(super) fn list(partitions: &[TopicPartition]) -> String {
    let names: Vec<String> = partitions.iter().map(|partition| format!("{partition}")).collect();
    format!("[{}]", names.join(", "))
}

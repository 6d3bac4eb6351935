//! What an application may ask of a consumer that belongs to a group: subscriptions, commits, committed offsets.
//!
//! Nothing here waits. What Java's blocking methods return comes later, once, from the `take_` method beside the one
//! that asked. While [`Consumer::commit_sync`] is under way the application is not in `poll`, as in Java.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::drive::Now;
use wire::error::ErrorCode;

use super::Consumer;
use super::coordinator::Membership;
use super::coordinator::classic::Classic;
use super::coordinator::commit::Purpose;
use super::coordinator::modern::Modern;
use super::position::FetchState;
use crate::config::GroupProtocol;
use crate::error::ClientError;
use crate::event::TopicPartition;
use crate::io::Outputs;
use crate::metadata::TopicPattern;

/// What a member of a group wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// These topics.
    Topics(Vec<Arc<str>>),
    /// The topics whose names match this expression, as this client sees them.
    Pattern(String),
    /// The topics whose names match this RE2/J expression, as the broker sees them (`SubscriptionPattern`, KIP-848
    /// only).
    BrokerPattern(String),
}

/// A committed offset (`OffsetAndMetadata.java`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The next offset to be read.
    pub offset: i64,
    /// The leader epoch of the last record that was read.
    pub leader_epoch: Option<i32>,
    /// What the application wrote beside it.
    pub metadata: String,
}

/// Who a member is, for commits in a transaction (`ConsumerGroupMetadata.java`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `group.id`.
    pub group: Arc<str>,
    /// The generation or member epoch; -1 while it is no member.
    pub generation: i32,
    /// The member id; empty while it has none.
    pub member: Arc<str>,
    /// `group.instance.id`.
    pub instance: Option<Arc<str>>,
}

impl OffsetAndMetadata {
    /// As Java prints it.
    pub(super) fn to_text(&self) -> String {
        let epoch = self.leader_epoch.map_or("null".into(), |epoch| format!("{epoch}"));
        format!(
            "OffsetAndMetadata{{offset={}, leaderEpoch={epoch}, metadata='{}'}}",
            self.offset, self.metadata
        )
    }
}

impl Consumer {
    /// Becomes a member of the group `group.id`, or changes what the member wants to read.
    pub fn subscribe(&mut self, subscription: Subscription) -> Result<(), ClientError> {
        let Some(group) = &mut self.group else {
            let mut error = ClientError::from_code(
                ErrorCode::INVALID_GROUP_ID,
                Some(
                    "To use the group management or offset commit APIs, you must provide a valid group.id in the \
                     consumer configuration.",
                ),
            );
            error.class = "org.apache.kafka.common.errors.InvalidGroupIdException";
            return Err(error);
        };
        self.pattern = None;
        match &subscription {
            Subscription::Topics(topics) => {
                group.topics = Arc::new(topics.iter().cloned().collect());
                for topic in topics {
                    self.net.metadata.add_topic(topic);
                }
            }
            Subscription::Pattern(expression) => {
                let pattern = TopicPattern::new(expression, self.config.exclude_internal);
                let invalid = || ClientError::illegal_argument(format!("Invalid pattern {expression}"));
                self.pattern = Some(pattern.ok_or_else(invalid)?);
                group.topics = Arc::default();
                group.metadata_seen = 0;
            }
            Subscription::BrokerPattern(_) => {
                if self.config.group_protocol == GroupProtocol::Classic {
                    return Err(ClientError::illegal_argument(
                        "Subscribe to RE2/J pattern is not supported when using the CLASSIC protocol defined in config \
                         group.protocol",
                    ));
                }
                group.topics = Arc::default();
            }
        }
        self.net.metadata.set_pattern(self.pattern.clone());
        group.subscription = Some(subscription);
        if let Membership::None = group.membership {
            group.membership = match self.config.group_protocol {
                GroupProtocol::Classic => {
                    let cooperative = self.config.assignors.iter().all(|assignor| assignor.is_cooperative());
                    Membership::Classic(Classic::new(cooperative))
                }
                GroupProtocol::Consumer => Membership::Modern(Modern::new(&mut self.rng)),
            };
        }
        if let Membership::Modern(modern) = &mut group.membership {
            modern.subscription_changed();
        }
        Ok(())
    }

    /// Whether the consumer is, or wants to be, a member of its group.
    pub fn is_subscribed(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.subscription.is_some())
    }

    /// The application calls `poll`, or is in it: rebalances and automatic commits happen now, and what was returned
    /// before counts as processed. To be called before [`Consumer::poll`] by who called [`Consumer::end_poll`].
    pub fn begin_poll(&mut self, now: Now, out: &mut Outputs) {
        let Some(group) = &mut self.group else { return };
        if !group.in_poll {
            group.in_poll = true;
            group.poll_until = None;
            self.drive_group(now, out);
        }
    }

    /// The application is busy with what `poll` returned: only heartbeats go on, until `max.poll.interval.ms`.
    pub fn end_poll(&mut self, now: Now) {
        let interval = self.config.max_poll_interval;
        if let Some(group) = &mut self.group
            && group.in_poll
        {
            group.in_poll = false;
            group.poll_until = Some(now.mono + interval);
            group.wake_at(now.mono + interval);
        }
    }

    /// Commits offsets, the positions of all partitions unless given, and tries again until `default.api.timeout.ms`.
    pub fn commit_sync(
        &mut self,
        now: Now,
        offsets: Option<Vec<(TopicPartition, OffsetAndMetadata)>>,
        out: &mut Outputs,
    ) {
        self.commit(now, Purpose::Sync, offsets, out);
    }

    /// How the last [`Consumer::commit_sync`] ended, once it has.
    pub fn take_commit_result(&mut self) -> Option<Result<(), ClientError>> {
        self.group.as_mut()?.commits.result.take()
    }

    /// Whether [`Consumer::take_commit_result`] has something to tell.
    pub fn has_commit_result(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.commits.result.is_some())
    }

    /// Commits offsets, the positions of all partitions unless given, once. How it ended is told by events.
    pub fn commit_async(
        &mut self,
        now: Now,
        offsets: Option<Vec<(TopicPartition, OffsetAndMetadata)>>,
        out: &mut Outputs,
    ) {
        self.commit(now, Purpose::Async, offsets, out);
    }

    fn commit(
        &mut self,
        now: Now,
        purpose: Purpose,
        offsets: Option<Vec<(TopicPartition, OffsetAndMetadata)>>,
        out: &mut Outputs,
    ) {
        assert!(self.group.is_some(), "a consumer without a group.id cannot commit");
        let offsets = offsets.unwrap_or_else(|| self.all_consumed());
        self.begin_commit(now.mono, purpose, offsets, out);
    }

    /// Asks the coordinator for committed offsets.
    pub fn ask_committed(&mut self, partitions: &[TopicPartition]) {
        assert!(self.group.is_some(), "a consumer without a group.id has no committed offsets");
        self.want_committed(partitions);
    }

    /// The committed offsets that were asked for, once all are known: `None` beside a partition without.
    pub fn take_committed(&mut self) -> Option<Vec<(TopicPartition, Option<OffsetAndMetadata>)>> {
        self.group.as_mut()?.questions.found.take()
    }

    /// The positions of all partitions that have one, as they would be committed now (`allConsumed`).
    pub fn all_consumed(&self) -> Vec<(TopicPartition, OffsetAndMetadata)> {
        let mut consumed = Vec::with_capacity(self.partitions.len());
        for state in self.partitions.values().filter(|state| state.state == FetchState::Fetching) {
            if let Some(position) = state.position {
                let (offset, leader_epoch) = (position.offset, position.epoch);
                let offset = OffsetAndMetadata { offset, leader_epoch, metadata: String::new() };
                consumed.push((state.partition.clone(), offset));
            }
        }
        consumed
    }

    /// Who the member is now; `None` without a `group.id`.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        self.group.as_ref().map(|group| group.metadata.clone())
    }
}

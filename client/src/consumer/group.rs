//! What an application may ask of a consumer that belongs to a group: subscriptions, commits, committed offsets.
//!
//! Nothing here waits. What Java's blocking methods return comes later, once, from the `take_` method beside the one
//! that asked. While [`Consumer::commit_sync`] is under way the application is not in `poll`, as in Java.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::drive::Now;

use super::Consumer;
use crate::error::ClientError;
use crate::event::TopicPartition;
use crate::io::Outputs;

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

impl Consumer {
    /// Becomes a member of the group `group.id`, or changes what the member wants to read.
    pub fn subscribe(&mut self, subscription: Subscription) -> Result<(), ClientError> {
        let _ = subscription;
        todo!()
    }

    /// Whether the consumer is, or wants to be, a member of its group.
    pub fn is_subscribed(&self) -> bool {
        false
    }

    /// The application calls `poll`, or is in it: rebalances and automatic commits happen now, and what was returned
    /// before counts as processed. To be called before [`Consumer::poll`] by who called [`Consumer::end_poll`].
    pub fn begin_poll(&mut self, now: Now, out: &mut Outputs) {
        let _ = (now, out);
    }

    /// The application is busy with what `poll` returned: only heartbeats go on, until `max.poll.interval.ms`.
    pub fn end_poll(&mut self, now: Now) {
        let _ = now;
    }

    /// Commits offsets, the positions of all partitions unless given, and tries again until `default.api.timeout.ms`.
    pub fn commit_sync(
        &mut self,
        now: Now,
        offsets: Option<Vec<(TopicPartition, OffsetAndMetadata)>>,
        out: &mut Outputs,
    ) {
        let _ = (now, offsets, out);
        todo!()
    }

    /// How the last [`Consumer::commit_sync`] ended, once it has.
    pub fn take_commit_result(&mut self) -> Option<Result<(), ClientError>> {
        todo!()
    }

    /// Commits offsets, the positions of all partitions unless given, once. How it ended is told by events.
    pub fn commit_async(
        &mut self,
        now: Now,
        offsets: Option<Vec<(TopicPartition, OffsetAndMetadata)>>,
        out: &mut Outputs,
    ) {
        let _ = (now, offsets, out);
        todo!()
    }

    /// Asks the coordinator for committed offsets.
    pub fn ask_committed(&mut self, partitions: &[TopicPartition]) {
        let _ = partitions;
        todo!()
    }

    /// The committed offsets that were asked for, once all are known: `None` beside a partition without.
    pub fn take_committed(&mut self) -> Option<Vec<(TopicPartition, Option<OffsetAndMetadata>)>> {
        todo!()
    }

    /// The positions of all partitions that have one, as they would be committed now (`allConsumed`).
    pub fn all_consumed(&self) -> Vec<(TopicPartition, OffsetAndMetadata)> {
        todo!()
    }

    /// Who the member is now; `None` without a `group.id`.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        todo!()
    }
}

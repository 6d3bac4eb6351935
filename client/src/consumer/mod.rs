//! Kafka's consumer (`ClassicKafkaConsumer.java`, `AbstractFetch.java`, `OffsetFetcher.java`).
//!
//! Partitions are assigned by hand ([`Consumer::assign`]) or by a group ([`Consumer::subscribe`]). Each partition finds
//! its position (given, committed, looked up, or reset by `auto.offset.reset`), is
//! validated when its leader epoch changes (KIP-320), and is fetched in a session with its leader's broker, one
//! request at a time, while what came before is consumed. A broker with records that nobody has polled yet is not
//! asked for more.
//!
//! An owner calls [`Consumer::handle`] with every input, [`Consumer::poll`] when its application is free, and then
//! [`Consumer::drive`]. An exception that Java's `poll` would throw ends in [`Consumer::poll`]'s error, once.

pub mod assignor;
mod coordinator;
mod fetched;
mod fetcher;
mod group;
mod offsets;
mod position;
mod session;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Codecs;
use wire::batch::Record;
use wire::drive::{Endpoint, Instant, Now};

use crate::Rng;
use crate::backoff::fork;
use crate::config::{ConsumerConfig, Isolation};
use crate::error::ClientError;
use crate::event::{ClientEvent, ResetReason, TopicPartition};
use crate::io::{Input, Outputs};
use crate::metadata::{Metadata, TopicIndex, TopicPattern};
use crate::net::{NetworkClient, sooner};
use coordinator::Group;
use coordinator::classic::Generation;
use coordinator::commit::Commit;
use coordinator::committed::Asked;
use coordinator::modern::Beat;
use fetched::Fetched;
use position::{FetchState, LeaderAndEpoch, PartitionState, Position, ResetTo};
use session::FetchSession;

pub use group::{GroupMetadata, OffsetAndMetadata, Subscription};

/// A partition in the consumer's own numbers.
type Key = (TopicIndex, i32);

/// Where to begin to read a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// Where `auto.offset.reset` says.
    Reset,
    /// The log start offset.
    Beginning,
    /// The end.
    End,
    /// This offset.
    Offset(i64),
}

/// A request of the consumer that is in flight.
#[derive(Clone, Debug)]
enum Call {
    /// Fetch, with the position from which each partition that it named is read.
    Fetch,
    /// ListOffsets to find positions.
    Reset(Vec<(Key, ResetTo)>),
    /// OffsetForLeaderEpoch to validate these positions.
    Validate(Vec<(Key, Position)>),
    /// ListOffsets for [`Consumer::ask_end_offsets`].
    EndOffsets(Vec<Key>),
    /// The last Fetch of a session.
    CloseSession,
    FindCoordinator,
    /// JoinGroup, and as whom it was sent; so the next two.
    Join(Generation),
    Sync(Generation),
    Heartbeat(Generation),
    Leave,
    Commit(Box<Commit>),
    /// OffsetFetch.
    Committed(Asked),
    /// ConsumerGroupHeartbeat.
    ConsumerHeartbeat(Beat),
}

/// What is fetched from one broker.
#[derive(Clone, Debug, Default)]
struct Source {
    session: FetchSession,
    /// A Fetch is in flight.
    pending: bool,
    /// Fetched partitions of it that wait to be polled.
    buffered: usize,
}

/// A consumer.
#[derive(Clone)]
pub struct Consumer {
    config: ConsumerConfig,
    net: NetworkClient<Call>,
    rng: Rng,
    partitions: BTreeMap<Key, PartitionState>,
    /// The partitions that cannot be fetched from yet.
    unsettled: BTreeSet<Key>,
    /// The partitions that are not fetched for a while after an error.
    resting: BTreeSet<Key>,
    sources: BTreeMap<i32, Source>,
    /// In the order in which it came, with its broker.
    buffer: VecDeque<(i32, Fetched)>,
    /// End offsets that were asked for, and found.
    ends_wanted: BTreeSet<Key>,
    /// When those are asked again that got no answer.
    ends_retry_at: Instant,
    ends_found: Vec<(TopicPartition, i64)>,
    error: Option<ClientError>,
    metadata_version: u64,
    /// When the first choice of a replica that is not the leader ends (KIP-392).
    preferred_until: Option<Instant>,
    lookup_at: Option<Instant>,
    closing: bool,
    /// With a `group.id`.
    group: Option<Box<Group>>,
    /// Which topics a subscription by pattern wants.
    pattern: Option<TopicPattern>,
}

impl Consumer {
    /// The requests that one connection takes at a time.
    const MAX_IN_FLIGHT: usize = 100;

    /// A consumer that knows its bootstrap servers.
    pub fn new(config: ConsumerConfig, client_id: &str, bootstrap: Vec<Endpoint>, mut rng: Rng) -> Consumer {
        let own = fork(&mut rng);
        let net = NetworkClient::new(
            bootstrap,
            config.common.net(client_id, Consumer::MAX_IN_FLIGHT),
            config.common.metadata(config.allow_auto_create),
            rng,
        );
        let group = config.group.clone().map(|id| Box::new(Group::new(id, config.group_instance.clone())));
        Consumer {
            config,
            group,
            pattern: None,
            net,
            rng: own,
            partitions: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            resting: BTreeSet::new(),
            sources: BTreeMap::new(),
            buffer: VecDeque::new(),
            ends_wanted: BTreeSet::new(),
            ends_retry_at: Instant(0),
            ends_found: Vec::new(),
            error: None,
            metadata_version: 0,
            preferred_until: None,
            lookup_at: None,
            closing: false,
        }
    }

    /// The settings.
    pub fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// What is known of the cluster.
    pub fn metadata(&self) -> &Metadata {
        &self.net.metadata
    }

    /// Asks for a topic's metadata from now on.
    pub fn add_topic(&mut self, name: &str) -> TopicIndex {
        self.net.metadata.add_topic(name)
    }

    // --- the assignment

    /// Adds a partition, if it is not assigned yet.
    pub fn assign(&mut self, partition: &TopicPartition, start: StartAt) {
        let key = (self.net.metadata.add_topic(&partition.topic), partition.partition);
        if self.partitions.contains_key(&key) {
            return;
        }
        let current = LeaderAndEpoch::of(self.net.metadata.partition(key.0, key.1));
        let mut state = PartitionState::new(partition.clone());
        match start {
            StartAt::Reset => {}
            StartAt::Beginning => state.reset(ResetTo::Earliest, ResetReason::Start),
            StartAt::End => state.reset(ResetTo::Latest, ResetReason::Start),
            StartAt::Offset(offset) => state.seek(Position { offset, epoch: None, current }),
        }
        self.partitions.insert(key, state);
        self.changed(key);
    }

    /// Removes a partition; what was fetched of it is dropped.
    pub fn unassign(&mut self, partition: &TopicPartition) {
        let Some(key) = self.key_of(partition) else { return };
        let Some(state) = self.partitions.remove(&key) else { return };
        self.unsettled.remove(&key);
        self.resting.remove(&key);
        self.ends_wanted.remove(&key);
        if let Some(source) = state.node.and_then(|node| self.sources.get_mut(&node)) {
            source.session.touch(key);
        }
    }

    /// The assigned partitions.
    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.values().map(|state| &state.partition)
    }

    /// The offset of the next record of a partition, once it is known.
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        let state = self.partitions.get(&self.key_of(partition)?)?;
        match state.state {
            FetchState::AwaitReset { .. } | FetchState::Initializing => None,
            FetchState::AwaitValidation | FetchState::Fetching => {
                state.position.map(|position| position.offset)
            }
        }
    }

    /// Goes on elsewhere.
    pub fn seek(&mut self, partition: &TopicPartition, offset: i64) {
        let Some(key) = self.key_of(partition) else { return };
        let current = LeaderAndEpoch::of(self.net.metadata.partition(key.0, key.1));
        if let Some(state) = self.partitions.get_mut(&key) {
            state.seek(Position { offset, epoch: None, current });
            self.changed(key);
        }
    }

    /// Stops to fetch and return records of a partition.
    pub fn pause(&mut self, partition: &TopicPartition, paused: bool) {
        let Some(key) = self.key_of(partition) else { return };
        if let Some(state) = self.partitions.get_mut(&key) {
            state.paused = paused;
            self.changed(key);
        }
    }

    /// Asks where the assigned partitions end: the high watermark, or the last stable offset.
    pub fn ask_end_offsets(&mut self) {
        self.ends_wanted = self.partitions.keys().copied().collect();
    }

    /// The end offsets that were found since the last call.
    pub fn take_end_offsets(&mut self) -> Vec<(TopicPartition, i64)> {
        core::mem::take(&mut self.ends_found)
    }

    /// The end of a partition as its last answer told it: the high watermark, or the last stable offset.
    pub fn known_end(&self, partition: &TopicPartition) -> Option<i64> {
        let state = self.partitions.get(&self.key_of(partition)?)?;
        match self.config.isolation {
            Isolation::ReadUncommitted => state.high_watermark,
            Isolation::ReadCommitted => state.last_stable_offset,
        }
    }

    fn key_of(&self, partition: &TopicPartition) -> Option<Key> {
        Some((self.net.metadata.topic_named(&partition.topic)?, partition.partition))
    }

    // --- the loop

    /// Takes an input and what ended by it.
    pub fn handle(&mut self, now: Now, input: &Input, out: &mut Outputs) {
        self.net.handle(now.mono, input, out);
        while let Some(done) = self.net.next_done() {
            self.call_done(now, done, out);
        }
    }

    /// Looks up positions, validates them and fetches. To be called after every input and every poll.
    pub fn drive(&mut self, now: Now, out: &mut Outputs) {
        self.net.sync_nodes();
        self.sync_leaders();
        if self.group.is_some() {
            self.drive_group(now, out);
        }
        if !self.closing {
            self.settle_positions(now, out);
            self.send_fetches(now.mono, out);
        }
        self.net.maybe_update_metadata(now.mono, out);
        self.check_invariants();
    }

    /// When the consumer wants [`Input::Timer`].
    pub fn next_deadline(&self) -> Option<Instant> {
        let group = self.group.as_ref().and_then(|group| group.deadline);
        sooner(group, sooner(self.lookup_at, self.net.next_deadline()))
    }

    /// Whether a poll would return something.
    pub fn has_records(&self) -> bool {
        self.error.is_some() || !self.buffer.is_empty()
    }

    /// Hands at most `max.poll.records` records to `sink`, partition by partition, and says how many.
    pub fn poll(
        &mut self,
        codecs: &dyn Codecs,
        out: &mut Outputs,
        sink: &mut dyn FnMut(&TopicPartition, &Record<'_>),
    ) -> Result<usize, ClientError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut taken = 0;
        while taken < self.config.max_poll_records {
            let Some((node, mut fetched)) = self.buffer.pop_front() else { break };
            let key = fetched.key;
            let position = self.partitions.get(&key).filter(|state| state.is_fetchable());
            let position = position.and_then(|state| state.position);
            // Records that are not next in line belong to a request from before a seek or a reset.
            let in_line = position.is_some_and(|position| position.offset == fetched.next_offset);
            if !in_line {
                self.consumed(node, key);
                continue;
            }
            let state = self.partitions.get_mut(&key).expect("just seen");
            let limit = self.config.max_poll_records - taken;
            let result = fetched.take(&state.partition, limit, self.config.check_crcs, codecs, sink);
            let position = state.position.as_mut().expect("just seen");
            if fetched.next_offset > position.offset {
                position.offset = fetched.next_offset;
                position.epoch = fetched.last_epoch.or(position.epoch);
            }
            match result {
                Ok(count) => {
                    taken += count;
                    if fetched.is_consumed() {
                        self.consumed(node, key);
                    } else {
                        self.buffer.push_front((node, fetched));
                    }
                }
                Err(error) => {
                    self.consumed(node, key);
                    out.event(|| ClientEvent::RequestFailed { api: "Fetch", error: error.code.name() });
                    if taken == 0 {
                        return Err(error);
                    }
                    self.error = Some(error);
                    break;
                }
            }
        }
        Ok(taken)
    }

    /// A fetched partition is used up: its broker may be asked for more.
    fn consumed(&mut self, node: i32, key: Key) {
        let source = self.sources.get_mut(&node).expect("what is buffered has a source");
        source.buffered -= 1;
        source.session.touch(key);
    }

    /// Commits if it does so by itself, leaves the group and closes fetch sessions; [`Consumer::is_closed`] tells when
    /// all is said.
    pub fn begin_close(&mut self, now: Now, out: &mut Outputs) {
        self.closing = true;
        self.lookup_at = None;
        if self.group.is_some() {
            self.begin_close_group(now, out);
        }
        self.close_sessions(now.mono, out);
    }

    /// Whether nothing is in flight any more.
    pub fn is_closed(&self) -> bool {
        let has_left = self.group.as_ref().is_none_or(|group| group.has_left());
        self.closing && has_left && self.net.in_flight_total() == 0
    }

    /// Closes the connections.
    pub fn finish_close(&mut self, out: &mut Outputs) {
        self.net.close(out);
    }

    // --- inside

    /// A partition's state or position changed: it may have to be settled, or fetched elsewhere or otherwise.
    fn changed(&mut self, key: Key) {
        let Some(state) = self.partitions.get_mut(&key) else { return };
        if state.state == FetchState::Fetching {
            self.unsettled.remove(&key);
        } else {
            self.unsettled.insert(key);
        }
        let leader = state.position.and_then(|position| position.current.leader);
        let node = state.preferred.map(|(node, _)| node).or(leader);
        if let Some(before) = state.node.filter(|_| state.node != node) {
            self.sources.entry(before).or_default().session.touch(key);
        }
        state.node = node;
        match node {
            Some(node) => self.sources.entry(node).or_default().session.touch(key),
            // Nobody to fetch from: settling it waits for a leader.
            None => drop(self.unsettled.insert(key)),
        }
    }

    fn sync_leaders(&mut self) {
        if self.metadata_version == self.net.metadata.version() {
            return;
        }
        self.metadata_version = self.net.metadata.version();
        let mutants = self.config.common.mutants;
        let keys: Vec<Key> = self.partitions.keys().copied().collect();
        for key in keys {
            let current = LeaderAndEpoch::of(self.net.metadata.partition(key.0, key.1));
            let state = self.partitions.get_mut(&key).expect("just listed");
            let before = (state.state, state.position, state.preferred);
            state.leader_is(current, mutants);
            if before != (state.state, state.position, state.preferred) {
                self.changed(key);
            }
        }
    }

    /// Java's `poll` would throw this.
    fn fail(&mut self, error: ClientError) {
        self.error.get_or_insert(error);
    }

    /// Keeps a partition from being asked about for a while.
    fn back_off(&mut self, now: Instant, key: Key) {
        if let Some(state) = self.partitions.get_mut(&key) {
            state.asked = false;
            state.retry_at = now + self.config.common.retry_backoff.after(state.failures, &mut self.rng);
            state.failures = state.failures.saturating_add(1);
        }
    }

    fn position_text(&self, position: Position) -> alloc::string::String {
        position.to_text(position.current.leader.and_then(|id| self.net.metadata.broker(id)))
    }

    fn out_of_range(&self, partition: &TopicPartition, position: Position) -> ClientError {
        let text = format!(
            "Fetch position {} is out of range for partition {partition}",
            self.position_text(position)
        );
        ClientError::from_code(wire::error::ErrorCode::OFFSET_OUT_OF_RANGE, Some(&text))
    }

    fn topic_name(&self, key: Key) -> Arc<str> {
        self.net.metadata.topic(key.0).name.clone()
    }

    fn check_invariants(&self) {
        let buffered: usize = self.sources.values().map(|source| source.buffered).sum();
        assert_eq!(buffered, self.buffer.len(), "every fetched partition is counted with its broker");
    }
}

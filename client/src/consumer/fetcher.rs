//! Fetch requests and their answers (`AbstractFetch.java`, `FetchCollector.java`).

use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;

use wire::drive::{Endpoint, Instant, Now};
use wire::error::ErrorCode;
use wire::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use wire::messages::fetch_response::{FetchResponse, NodeEndpoint, PartitionData};
use wire::{ApiKey, Uuid};

use super::fetched::Fetched;
use super::position::ResetTo;
use super::session::{NextFetch, Wanted};
use super::{Call, Consumer, Key};
use crate::config::Isolation;
use crate::error::ClientError;
use crate::event::{ClientEvent, ResetReason};
use crate::io::Outputs;
use crate::metadata::Broker;
use crate::mutant::Mutant;
use crate::net::{Done, NotReady, Outcome, SendOptions};

/// The latest version that names topics.
const LAST_WITH_NAMES: i16 = 12;

impl Consumer {
    pub(super) fn send_fetches(&mut self, now: Instant, out: &mut Outputs) {
        if self.preferred_until.is_some_and(|at| at <= now) {
            self.leave_preferred(|_, until| until <= now);
        }
        let nodes: Vec<i32> = self
            .sources
            .iter()
            .filter(|(_, source)| !source.pending && source.buffered == 0 && !source.session.is_empty())
            .map(|(&node, _)| node)
            .collect();
        for node in nodes {
            match self.net.ready(now, node, out) {
                Ok(()) => {}
                Err(NotReady::Waits) => continue,
                // The leader is gone, and nobody has said yet who comes after it.
                Err(NotReady::Unknown) => {
                    self.leave_preferred(|preferred, _| preferred == node);
                    self.net.metadata.request_update();
                    continue;
                }
            }
            let (partitions, metadata) = (&self.partitions, &self.net.metadata);
            let wanted = |key: Key| {
                let state = partitions.get(&key)?;
                let fetched_here = state.node == Some(node) && state.is_fetchable() && state.retry_at <= now;
                let position = state.position.filter(|_| fetched_here)?;
                let topic_id = metadata.topic(key.0).id;
                Some(Wanted { topic_id, offset: position.offset, leader_epoch: position.current.epoch })
            };
            let source = self.sources.get_mut(&node).expect("just listed");
            if let Some(next) = source.session.build(wanted) {
                source.pending = true;
                self.send_fetch(now, node, &next, Call::Fetch, out);
            }
        }
    }

    fn send_fetch(&mut self, now: Instant, node: i32, next: &NextFetch, call: Call, out: &mut Outputs) {
        let has_ids = next.send.iter().all(|(_, wanted)| !wanted.topic_id.is_zero())
            && next.forget.iter().all(|(_, id)| !id.is_zero());
        let latest = if has_ids { i16::MAX } else { LAST_WITH_NAMES };
        let Some(version) = self.net.version(node, ApiKey::Fetch, latest) else {
            self.fail(ClientError::unsupported_version("The node does not support FETCH"));
            return;
        };
        let named = version <= LAST_WITH_NAMES;
        let request = FetchRequest {
            max_wait_ms: self.config.fetch_max_wait_ms,
            min_bytes: self.config.fetch_min_bytes,
            max_bytes: self.config.fetch_max_bytes,
            isolation_level: self.config.isolation.code(),
            session_id: next.session_id,
            session_epoch: next.epoch,
            topics: self.fetch_topics(next, named),
            forgotten_topics_data: self.forgotten_topics(next, named),
            rack_id: Cow::Owned(self.config.rack.as_deref().unwrap_or("").to_string()),
            ..FetchRequest::default()
        };
        self.net.send(now, node, &request, SendOptions::at(version), call, out);
    }

    fn fetch_topics(&self, next: &NextFetch, named: bool) -> Vec<FetchTopic<'static>> {
        let mut topics: Vec<FetchTopic<'static>> = Vec::new();
        let mut last: Option<(crate::metadata::TopicIndex, Uuid)> = None;
        // Keys ascend by topic, so that each topic comes once.
        for &(key, wanted) in &next.send {
            if last != Some((key.0, wanted.topic_id)) {
                last = Some((key.0, wanted.topic_id));
                topics.push(FetchTopic {
                    topic: self.name_if(named, key),
                    topic_id: if named { Uuid::ZERO } else { wanted.topic_id },
                    partitions: Vec::new(),
                });
            }
            topics.last_mut().expect("just pushed").partitions.push(FetchPartition {
                partition: key.1,
                current_leader_epoch: wanted.leader_epoch,
                fetch_offset: wanted.offset,
                partition_max_bytes: self.config.max_partition_bytes,
                ..FetchPartition::default()
            });
        }
        topics
    }

    fn forgotten_topics(&self, next: &NextFetch, named: bool) -> Vec<ForgottenTopic<'static>> {
        let forgotten = |&(key, topic_id): &(Key, Uuid)| ForgottenTopic {
            topic: self.name_if(named, key),
            topic_id: if named { Uuid::ZERO } else { topic_id },
            partitions: alloc::vec![key.1],
        };
        next.forget.iter().map(forgotten).collect()
    }

    fn name_if(&self, named: bool, key: Key) -> Cow<'static, str> {
        if named { Cow::Owned(self.topic_name(key).to_string()) } else { Cow::Borrowed("") }
    }

    pub(super) fn close_sessions(&mut self, now: Instant, out: &mut Outputs) {
        let nodes: Vec<i32> = self.sources.keys().copied().collect();
        for node in nodes {
            let source = self.sources.get_mut(&node).expect("just listed");
            let Some((session_id, epoch)) = source.session.close().filter(|_| self.net.is_ready(node)) else {
                continue;
            };
            let last = NextFetch { session_id, epoch, ..NextFetch::default() };
            self.send_fetch(now, node, &last, Call::CloseSession, out);
        }
    }

    pub(super) fn call_done(&mut self, now: Now, done: Done<Call>, out: &mut Outputs) {
        match &done.call {
            Call::Fetch => self.fetch_done(now, &done, out),
            Call::Reset(asked) => self.reset_done(now, asked, &done, out),
            Call::Validate(asked) => self.validate_done(now, asked, &done, out),
            Call::EndOffsets(asked) => self.end_offsets_done(now, asked, &done, out),
            Call::CloseSession => {}
            Call::FindCoordinator => self.coordinator_found(now.mono, &done, out),
            Call::Join(sent) => self.join_done(now.mono, sent, &done, out),
            Call::Sync(sent) => self.sync_done(now.mono, sent, &done, out),
            Call::Heartbeat(sent) => self.heartbeat_done(now.mono, sent, &done, out),
            Call::Leave => self.left(now.mono, &done, out),
            Call::Commit(commit) => self.commit_done(now.mono, commit, &done, out),
            Call::Committed(asked) => self.committed_done(now.mono, asked, &done, out),
            Call::ConsumerHeartbeat(beat) => self.consumer_heartbeat_done(now.mono, *beat, &done, out),
        }
    }

    fn fetch_done(&mut self, now: Now, done: &Done<Call>, out: &mut Outputs) {
        let source = self.sources.get_mut(&done.node).expect("who was asked is a source");
        source.pending = false;
        let Outcome::Answered(frame) = &done.outcome else {
            source.session.begin_again();
            out.event(|| ClientEvent::RequestFailed { api: "Fetch", error: lost(&done.outcome).name() });
            self.leave_preferred(|preferred, _| preferred == done.node);
            return;
        };
        match done.decode::<FetchRequest<'_>>(frame) {
            Ok(response) => self.fetch_answered(now, done.node, response, out),
            Err(error) => {
                source.session.begin_again();
                self.net.undecodable_answer(now.mono, done.node, ApiKey::Fetch, &error, out);
            }
        }
    }

    fn fetch_answered(&mut self, now: Now, node: i32, response: FetchResponse<'_>, out: &mut Outputs) {
        let source = self.sources.get_mut(&node).expect("who was asked is a source");
        let error = ErrorCode(response.error_code);
        if !source.session.answered(error, response.session_id) {
            out.event(|| ClientEvent::RequestFailed { api: "Fetch", error: error.name() });
            if matches!(error, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR | ErrorCode::UNKNOWN_TOPIC_ID) {
                self.net.metadata.request_update();
            }
            return;
        }
        self.take_endpoints(&response.node_endpoints);
        for topic in response.responses {
            let index = match topic.topic_id.is_zero() {
                true => self.net.metadata.topic_named(&topic.topic),
                false => self.net.metadata.topic_with_id(topic.topic_id),
            };
            let Some(index) = index else { continue };
            for data in topic.partitions {
                let key = (index, data.partition_index);
                if ErrorCode(data.error_code) == ErrorCode::NONE {
                    self.partition_fetched(now.mono, node, key, data);
                } else {
                    self.partition_failed(now.mono, node, key, &data, out);
                }
            }
        }
    }

    fn take_endpoints(&mut self, endpoints: &[NodeEndpoint<'_>]) {
        for endpoint in endpoints {
            if self.net.metadata.broker(endpoint.node_id).is_none() {
                self.net.metadata.broker_told(Broker {
                    id: endpoint.node_id,
                    endpoint: Endpoint::new(endpoint.host.as_ref(), endpoint.port as u16),
                    rack: endpoint.rack.as_deref().map(Into::into),
                });
            }
        }
    }

    fn partition_fetched(&mut self, now: Instant, node: i32, key: Key, data: PartitionData) {
        let preferred_until = now + self.config.common.metadata_max_age;
        let Some(state) = self.partitions.get_mut(&key).filter(|state| state.is_fetchable()) else { return };
        state.failures = 0;
        if data.high_watermark >= 0 {
            state.high_watermark = Some(data.high_watermark);
        }
        if data.last_stable_offset >= 0 {
            state.last_stable_offset = Some(data.last_stable_offset);
        }
        if data.log_start_offset >= 0 {
            state.log_start_offset = Some(data.log_start_offset);
        }
        if data.preferred_read_replica >= 0 {
            state.preferred = Some((data.preferred_read_replica, preferred_until));
            let first = self.preferred_until.unwrap_or(preferred_until);
            self.preferred_until = Some(first.min(preferred_until));
            return self.changed(key);
        }
        let offset = state.position.expect("a fetchable partition has a position").offset;
        let Some(records) = data.records.filter(|records| !records.is_empty()) else { return };
        let source = self.sources.get_mut(&node).expect("who was asked is a source");
        // After a seek, what was asked for before it is not wanted any more.
        let asked = source.session.asked(key).map(|wanted| wanted.offset);
        if state.node != Some(node) || asked != Some(offset) {
            return;
        }
        source.buffered += 1;
        let aborted = match self.config.isolation {
            Isolation::ReadUncommitted => None,
            _ if self.config.common.mutants.has(Mutant::AbortedNotFiltered) => Some(Vec::new()),
            Isolation::ReadCommitted => Some(data.aborted_transactions.unwrap_or_default()),
        };
        self.buffer.push_back((node, Fetched::new(key, offset, records, aborted)));
    }

    fn partition_failed(
        &mut self,
        now: Instant,
        node: i32,
        key: Key,
        data: &PartitionData,
        out: &mut Outputs,
    ) {
        let error = ErrorCode(data.error_code);
        out.event(|| ClientEvent::RequestFailed { api: "Fetch", error: error.name() });
        let Some(state) = self.partitions.get_mut(&key).filter(|state| state.is_fetchable()) else { return };
        let partition = state.partition.clone();
        match error {
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                let position = state.position.expect("a fetchable partition has a position");
                let asked = self.sources.get(&node).and_then(|source| source.session.asked(key));
                if asked.is_none_or(|asked| asked.offset != position.offset) {
                    // A seek has come in between.
                } else if state.preferred.take().is_some_and(|(follower, _)| follower == node) {
                    // The follower may merely lag: the leader is asked before anything is reset (KIP-392).
                } else if let Some(to) = ResetTo::of(self.config.reset) {
                    state.reset(to, ResetReason::OutOfRange);
                } else {
                    let error = self.out_of_range(&partition, position);
                    return self.fail(error);
                }
            }
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
                let text = alloc::format!("Not authorized to access topics: [{}]", partition.topic);
                return self.fail(ClientError::from_code(error, Some(&text)));
            }
            ErrorCode::CORRUPT_MESSAGE => {
                let offset = state.position.map_or(-1, |position| position.offset);
                let text = alloc::format!(
                    "Encountered corrupt message when fetching offset {offset} for topic-partition {partition}"
                );
                return self.fail(ClientError::kafka(text));
            }
            ErrorCode::UNKNOWN_LEADER_EPOCH | ErrorCode::UNKNOWN_SERVER_ERROR => self.retry_fetch(now, key),
            _ => {
                state.preferred = None;
                let leader = &data.current_leader;
                let (id, epoch) = (leader.leader_id, leader.leader_epoch);
                let told = id >= 0 && self.net.metadata.leader_told(key.0, key.1, id, epoch);
                if !told {
                    self.retry_fetch(now, key);
                }
                self.net.metadata.request_update();
            }
        }
        self.changed(key);
    }

    /// The partition is fetched again after a backoff, or from another leader. Until then it is not in the session,
    /// so that the broker may keep the rest waiting for records.
    /// Goes back to the leader, which may choose anew, where the chosen replica and the end of its time are such.
    fn leave_preferred(&mut self, ends: impl Fn(i32, Instant) -> bool) {
        if self.preferred_until.is_none() {
            return;
        }
        let chosen = self.partitions.iter().filter_map(|(key, state)| Some((*key, state.preferred?)));
        let (over, stay): (Vec<_>, Vec<_>) = chosen.partition(|(_, (node, until))| ends(*node, *until));
        self.preferred_until = stay.into_iter().map(|(_, (_, until))| until).min();
        for (key, _) in over {
            self.partitions.get_mut(&key).expect("just listed").preferred = None;
            self.changed(key);
        }
    }

    fn retry_fetch(&mut self, now: Instant, key: Key) {
        self.back_off(now, key);
        self.resting.insert(key);
    }
}

pub(super) fn lost(outcome: &Outcome) -> ErrorCode {
    match outcome {
        Outcome::TimedOut => ErrorCode::REQUEST_TIMED_OUT,
        _ => ErrorCode::NETWORK_EXCEPTION,
    }
}

//! Finding and validating positions: ListOffsets and OffsetForLeaderEpoch (`OffsetFetcher.java`).

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::{Instant, Now};
use wire::error::ErrorCode;
use wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use wire::messages::list_offsets_response::ListOffsetsPartitionResponse;
use wire::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use wire::messages::offset_for_leader_epoch_response::EpochEndOffset;

use super::fetcher::lost;
use super::position::{FetchState, LeaderAndEpoch, Position, ResetTo};
use super::{Call, Consumer, Key};
use crate::error::ClientError;
use crate::event::{ClientEvent, ResetReason};
use crate::io::Outputs;
use crate::metadata::TopicIndex;
use crate::net::{Done, Outcome, SendOptions, sooner};

/// The first version of OffsetForLeaderEpoch that consumers may use.
const FIRST_EPOCH_VERSION: i16 = 3;

impl Consumer {
    /// Does what it can for the partitions that cannot be fetched from.
    pub(super) fn settle_positions(&mut self, now: Now, out: &mut Outputs) {
        self.lookup_at = None;
        let mutants = self.config.common.mutants;
        self.wake_resting(now.mono);
        let mut resets: BTreeMap<i32, Vec<(Key, ResetTo)>> = BTreeMap::new();
        let mut validations: BTreeMap<i32, Vec<(Key, Position)>> = BTreeMap::new();
        let mut undefined = Vec::new();
        let unsettled: Vec<Key> = self.unsettled.iter().copied().collect();
        for key in unsettled {
            let current = LeaderAndEpoch::of(self.net.metadata.partition(key.0, key.1));
            let state = self.partitions.get_mut(&key).expect("unsettled partitions are assigned");
            if state.state == FetchState::Initializing {
                if self.group.is_some() {
                    // The group's coordinator is asked first.
                    continue;
                }
                match ResetTo::of(self.config.reset) {
                    Some(to) => state.reset(to, ResetReason::Start),
                    None => {
                        undefined.push(format!("{}", state.partition));
                        continue;
                    }
                }
            }
            let Some(leader) = current.leader else {
                self.net.metadata.request_update();
                continue;
            };
            state.leader_is(current, mutants);
            if state.state == FetchState::Fetching {
                self.changed(key);
                continue;
            }
            if state.asked {
                continue;
            }
            if state.retry_at > now.mono {
                self.lookup_at = sooner(self.lookup_at, Some(state.retry_at));
                continue;
            }
            match (state.state, state.position) {
                (FetchState::AwaitReset { to, .. }, _) => resets.entry(leader).or_default().push((key, to)),
                (FetchState::AwaitValidation, Some(position)) => {
                    validations.entry(leader).or_default().push((key, position));
                }
                (state, position) => unreachable!("unsettled in {state:?} at {position:?}"),
            }
        }
        if !undefined.is_empty() {
            self.no_offset(&undefined);
        }
        for (leader, asked) in resets {
            self.send_resets(now, leader, asked, out);
        }
        for (leader, asked) in validations {
            self.send_validations(now.mono, leader, asked, out);
        }
        self.send_end_offset_questions(now, out);
    }

    /// Partitions that rested after an error take part in fetches again.
    fn wake_resting(&mut self, now: Instant) {
        let resting: Vec<Key> = self.resting.iter().copied().collect();
        for key in resting {
            match self.partitions.get(&key).map(|state| state.retry_at) {
                Some(at) if at > now => self.lookup_at = sooner(self.lookup_at, Some(at)),
                _ => {
                    self.resting.remove(&key);
                    self.changed(key);
                }
            }
        }
    }

    pub(super) fn no_offset(&mut self, partitions: &[String]) {
        let text =
            format!("Undefined offset with no reset policy for partitions: [{}]", partitions.join(", "));
        let mut error = ClientError::kafka(text);
        error.class = "org.apache.kafka.clients.consumer.NoOffsetForPartitionException";
        self.fail(error);
    }

    // --- ListOffsets

    fn send_resets(&mut self, now: Now, node: i32, asked: Vec<(Key, ResetTo)>, out: &mut Outputs) {
        if self.net.ready(now.mono, node, out).is_err() {
            return;
        }
        let partitions: Vec<(Key, i64)> =
            asked.iter().map(|&(key, to)| (key, to.timestamp(now.wall_ms))).collect();
        for (key, _) in &partitions {
            self.partitions.get_mut(key).expect("just settled").asked = true;
        }
        self.send_list_offsets(now.mono, node, &partitions, Call::Reset(asked), out);
    }

    fn send_list_offsets(
        &mut self,
        now: Instant,
        node: i32,
        partitions: &[(Key, i64)],
        call: Call,
        out: &mut Outputs,
    ) {
        let Some(version) = self.net.version(node, ApiKey::ListOffsets, i16::MAX) else {
            return self.fail(ClientError::unsupported_version("The node does not support LIST_OFFSETS"));
        };
        let mut topics: Vec<(TopicIndex, Vec<ListOffsetsPartition>)> = Vec::new();
        for &((topic, partition), timestamp) in partitions {
            let epoch = self.net.metadata.partition(topic, partition).map_or(-1, |known| known.leader_epoch);
            let asked =
                ListOffsetsPartition { partition_index: partition, current_leader_epoch: epoch, timestamp };
            match topics.last_mut().filter(|(last, _)| *last == topic) {
                Some((_, partitions)) => partitions.push(asked),
                None => topics.push((topic, alloc::vec![asked])),
            }
        }
        let name = |topic: TopicIndex| Cow::Owned(String::from(&*self.net.metadata.topic(topic).name));
        let topics = topics
            .into_iter()
            .map(|(topic, partitions)| ListOffsetsTopic { name: name(topic), partitions })
            .collect();
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: self.config.isolation.code(),
            topics,
            timeout_ms: self.net.request_timeout().as_millis().min(i32::MAX as u64) as i32,
        };
        self.net.send(now, node, &request, SendOptions::at(version), call, out);
    }

    pub(super) fn reset_done(
        &mut self,
        now: Now,
        asked: &[(Key, ResetTo)],
        done: &Done<Call>,
        out: &mut Outputs,
    ) {
        let keys: Vec<Key> = asked.iter().map(|&(key, _)| key).collect();
        let answers = self.list_offsets_answers(now.mono, &keys, done, out);
        for (&(key, to), answer) in asked.iter().zip(answers) {
            match answer {
                Some(answer) => self.reset_answered(key, to, &answer, out),
                None if self.awaits_reset(key, to) => self.back_off(now.mono, key),
                // A seek, or another reset, has come in between.
                None => {}
            }
        }
    }

    fn awaits_reset(&self, key: Key, to: ResetTo) -> bool {
        let state = self.partitions.get(&key).map(|state| state.state);
        matches!(state, Some(FetchState::AwaitReset { to: still, .. }) if still == to)
    }

    /// The answers for the partitions that were asked about; `None` for what has to be asked again.
    fn list_offsets_answers(
        &mut self,
        now: Instant,
        keys: &[Key],
        done: &Done<Call>,
        out: &mut Outputs,
    ) -> Vec<Option<ListOffsetsPartitionResponse>> {
        let mut answers = alloc::vec![None; keys.len()];
        let Outcome::Answered(frame) = &done.outcome else {
            out.event(|| ClientEvent::RequestFailed {
                api: "ListOffsets",
                error: lost(&done.outcome).name(),
            });
            return answers;
        };
        let response = match done.decode::<ListOffsetsRequest<'_>>(frame) {
            Ok(response) => response,
            Err(error) => {
                self.net.undecodable_answer(now, done.node, ApiKey::ListOffsets, &error, out);
                return answers;
            }
        };
        for topic in response.topics {
            let Some(index) = self.net.metadata.topic_named(&topic.name) else { continue };
            for partition in topic.partitions {
                let key = (index, partition.partition_index);
                let Some(at) = keys.iter().position(|&asked| asked == key) else { continue };
                let error = ErrorCode(partition.error_code);
                if error == ErrorCode::NONE {
                    answers[at] = Some(partition);
                    continue;
                }
                out.event(|| ClientEvent::RequestFailed { api: "ListOffsets", error: error.name() });
                if error == ErrorCode::TOPIC_AUTHORIZATION_FAILED {
                    let text = format!("Not authorized to access topics: [{}]", topic.name);
                    self.fail(ClientError::from_code(error, Some(&text)));
                }
                self.net.metadata.request_update();
            }
        }
        answers
    }

    fn reset_answered(
        &mut self,
        key: Key,
        to: ResetTo,
        answer: &ListOffsetsPartitionResponse,
        out: &mut Outputs,
    ) {
        let current = LeaderAndEpoch::of(self.net.metadata.partition(key.0, key.1));
        let Some(state) = self.partitions.get_mut(&key) else { return };
        // A seek, or another reset, has come in between.
        let FetchState::AwaitReset { to: still, reason } = state.state else { return };
        if still != to {
            return;
        }
        if answer.offset < 0 {
            // Nothing is as young as that: there is nothing to read but what is still to come.
            state.reset(ResetTo::Latest, reason);
            return;
        }
        let from = state.position.map(|position| position.offset);
        // Without an epoch of its own the position needs no validation: the leader has just given it.
        state.seek(Position { offset: answer.offset, epoch: None, current });
        let partition = state.partition.clone();
        out.event(|| ClientEvent::PositionReset { partition, from, to: answer.offset, reason });
        if answer.leader_epoch > current.epoch {
            self.net.metadata.request_update();
        }
        self.changed(key);
    }

    fn send_end_offset_questions(&mut self, now: Now, out: &mut Outputs) {
        if self.ends_wanted.is_empty() {
            return;
        }
        if self.ends_retry_at > now.mono {
            self.lookup_at = sooner(self.lookup_at, Some(self.ends_retry_at));
            return;
        }
        let mut by_leader: BTreeMap<i32, Vec<Key>> = BTreeMap::new();
        for &key in self.ends_wanted.iter().filter(|key| self.partitions.contains_key(key)) {
            match self.net.metadata.leader(key.0, key.1) {
                Some(leader) => by_leader.entry(leader).or_default().push(key),
                None => self.net.metadata.request_update(),
            }
        }
        for (leader, keys) in by_leader {
            if self.net.ready(now.mono, leader, out).is_ok() {
                for key in &keys {
                    self.ends_wanted.remove(key);
                }
                let partitions: Vec<(Key, i64)> = keys.iter().map(|&key| (key, -1)).collect();
                self.send_list_offsets(now.mono, leader, &partitions, Call::EndOffsets(keys), out);
            }
        }
    }

    pub(super) fn end_offsets_done(&mut self, now: Now, asked: &[Key], done: &Done<Call>, out: &mut Outputs) {
        let answers = self.list_offsets_answers(now.mono, asked, done, out);
        for (&key, answer) in asked.iter().zip(answers) {
            let Some(state) = self.partitions.get(&key) else { continue };
            match answer {
                Some(answer) => self.ends_found.push((state.partition.clone(), answer.offset)),
                None => {
                    // Fetching goes on meanwhile: only this question waits.
                    self.ends_wanted.insert(key);
                    self.ends_retry_at = now.mono + self.config.common.retry_backoff.initial;
                }
            }
        }
    }

    // --- OffsetForLeaderEpoch

    fn send_validations(&mut self, now: Instant, node: i32, asked: Vec<(Key, Position)>, out: &mut Outputs) {
        if self.net.ready(now, node, out).is_err() {
            return;
        }
        let version = self.net.version(node, ApiKey::OffsetForLeaderEpoch, i16::MAX);
        let Some(version) = version.filter(|&version| version >= FIRST_EPOCH_VERSION) else {
            // Brokers before 2.3 cannot be asked by consumers: the position is taken as it is.
            for (key, _) in asked {
                self.validated(key);
            }
            return;
        };
        let mut topics: Vec<(TopicIndex, Vec<OffsetForLeaderPartition>)> = Vec::new();
        for &(key, position) in &asked {
            self.partitions.get_mut(&key).expect("just settled").asked = true;
            let partition = OffsetForLeaderPartition {
                partition: key.1,
                current_leader_epoch: position.current.epoch,
                leader_epoch: position.epoch.unwrap_or(-1),
            };
            match topics.last_mut().filter(|(last, _)| *last == key.0) {
                Some((_, partitions)) => partitions.push(partition),
                None => topics.push((key.0, alloc::vec![partition])),
            }
        }
        let name = |topic: TopicIndex| Cow::Owned(String::from(&*self.net.metadata.topic(topic).name));
        let topics = topics
            .into_iter()
            .map(|(topic, partitions)| OffsetForLeaderTopic { topic: name(topic), partitions })
            .collect();
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics };
        self.net.send(now, node, &request, SendOptions::at(version), Call::Validate(asked), out);
    }

    pub(super) fn validate_done(
        &mut self,
        now: Now,
        asked: &[(Key, Position)],
        done: &Done<Call>,
        out: &mut Outputs,
    ) {
        let mut left: Vec<(Key, Position)> = asked.to_vec();
        match &done.outcome {
            Outcome::Answered(frame) => match done.decode::<OffsetForLeaderEpochRequest<'_>>(frame) {
                Ok(response) => {
                    for topic in &response.topics {
                        let Some(index) = self.net.metadata.topic_named(&topic.topic) else { continue };
                        for answer in &topic.partitions {
                            let key = (index, answer.partition);
                            if let Some(at) = left.iter().position(|&(asked, _)| asked == key) {
                                let (key, position) = left.remove(at);
                                self.validate_answered(now.mono, key, position, answer, out);
                            }
                        }
                    }
                }
                Err(error) => {
                    self.net.undecodable_answer(now.mono, done.node, done.key, &error, out);
                }
            },
            outcome => {
                let error = lost(outcome).name();
                out.event(|| ClientEvent::RequestFailed { api: "OffsetForLeaderEpoch", error });
            }
        }
        for (key, position) in left {
            if self.awaits_validation(key, position) {
                self.back_off(now.mono, key);
            }
        }
    }

    /// Whether a partition still waits for the answer about `position`. It does not if a seek, a reset or another leader
    /// has come in between: then it may be fetched from already, and nothing of this question may hold that up.
    fn awaits_validation(&self, key: Key, position: Position) -> bool {
        self.partitions.get(&key).is_some_and(|state| {
            state.state == FetchState::AwaitValidation && state.position == Some(position)
        })
    }

    fn validate_answered(
        &mut self,
        now: Instant,
        key: Key,
        asked: Position,
        answer: &EpochEndOffset,
        out: &mut Outputs,
    ) {
        if !self.awaits_validation(key, asked) {
            return;
        }
        let error = ErrorCode(answer.error_code);
        if error != ErrorCode::NONE {
            out.event(|| ClientEvent::RequestFailed { api: "OffsetForLeaderEpoch", error: error.name() });
            self.net.metadata.request_update();
            return self.back_off(now, key);
        }
        if answer.end_offset < 0 || answer.leader_epoch < 0 {
            // The leader knows no epoch as old as that: whatever was read may be gone.
            return self.truncated(key, asked, None, out);
        }
        if answer.end_offset < asked.offset {
            return self.truncated(key, asked, Some((answer.end_offset, answer.leader_epoch)), out);
        }
        self.validated(key);
    }

    fn validated(&mut self, key: Key) {
        let state = self.partitions.get_mut(&key).expect("the caller has looked it up");
        let position = state.position.expect("what is validated has a position");
        state.seek(position);
        self.changed(key);
    }

    /// The log was truncated below the position: go to where it diverges, or fail (KIP-320).
    fn truncated(&mut self, key: Key, asked: Position, diverging: Option<(i64, i32)>, out: &mut Outputs) {
        let policy = ResetTo::of(self.config.reset);
        let state = self.partitions.get_mut(&key).expect("the caller has looked it up");
        let partition = state.partition.clone();
        match (policy, diverging) {
            (Some(_), Some((offset, epoch))) => {
                state.seek(Position { offset, epoch: Some(epoch), current: asked.current });
                let (from, reason) = (Some(asked.offset), ResetReason::Truncation);
                out.event(|| ClientEvent::PositionReset { partition, from, to: offset, reason });
            }
            (Some(to), None) => state.reset(to, ResetReason::Truncation),
            (None, _) => {
                let divergent = diverging.map_or(String::new(), |(offset, epoch)| {
                    format!(
                        "{partition}=OffsetAndMetadata{{offset={offset}, leaderEpoch={epoch}, metadata=''}}"
                    )
                });
                let mut error = ClientError::kafka(format!(
                    "Truncated partitions detected with divergent offsets {{{divergent}}}"
                ));
                error.class = "org.apache.kafka.clients.consumer.LogTruncationException";
                error.code = ErrorCode::OFFSET_OUT_OF_RANGE;
                self.fail(error);
            }
        }
        self.changed(key);
    }
}

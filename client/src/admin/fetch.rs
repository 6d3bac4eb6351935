//! Fetch as `kafka-replica-verification` does it: from any replica, of which only the batches' headers are looked at.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::Uuid;
use wire::batch::HeaderIter;
use wire::drive::Now;
use wire::error::ErrorCode;
use wire::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic, ReplicaState};

use super::{Admin, AdminResult, Answer, CallId, Link, Op, Route, Step};
use crate::error::ClientError;
use crate::event::TopicPartition;

/// `FetchRequest.DEBUGGING_CONSUMER_ID`: a reader that any replica answers.
const DEBUGGING_CONSUMER: i32 = -2;

/// What to fetch from a replica.
#[derive(Clone, Debug)]
pub struct ReplicaFetch {
    /// The offset from which each partition is fetched.
    pub partitions: BTreeMap<TopicPartition, i64>,
    /// The ids of their topics.
    pub topic_ids: BTreeMap<alloc::string::String, Uuid>,
    /// The bytes of one partition.
    pub max_bytes: i32,
    /// How long the broker may wait for records.
    pub max_wait_ms: i32,
}

/// A batch as a replica has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSeen {
    /// Its last offset.
    pub last_offset: i64,
    /// Its checksum.
    pub crc: u32,
}

/// A partition as a replica has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSeen {
    /// The high watermark that it knows.
    pub high_watermark: i64,
    /// The batches that it gave.
    pub batches: Vec<BatchSeen>,
}

impl Admin {
    /// Fetches from a broker, be it a leader or a follower. A partition that it refuses has no batches.
    ///
    /// There is one attempt, which fails when the broker cannot be reached, or after `request.timeout.ms`.
    pub fn fetch_replica(&mut self, now: Now, broker: i32, fetch: ReplicaFetch) -> CallId {
        let timeout = self.config.common.request_timeout;
        self.begin_within(now, timeout, "fetch", Route::Node(broker), Box::new(FetchReplica { fetch }))
    }
}

#[derive(Clone)]
struct FetchReplica {
    fetch: ReplicaFetch,
}

impl Op for FetchReplica {
    fn key(&self) -> ApiKey {
        ApiKey::Fetch
    }

    fn once(&self) -> bool {
        true
    }

    fn send(&self, link: Link<'_>) {
        let by_id = link.version > 12;
        let mut topics: Vec<FetchTopic<'_>> = Vec::new();
        let mut last: Option<&str> = None;
        for (partition, &fetch_offset) in &self.fetch.partitions {
            let wanted = FetchPartition {
                partition: partition.partition,
                fetch_offset,
                log_start_offset: 0,
                partition_max_bytes: self.fetch.max_bytes,
                ..FetchPartition::default()
            };
            if last.replace(&partition.topic) == Some(&partition.topic) {
                topics.last_mut().expect("the last topic's").partitions.push(wanted);
                continue;
            }
            let id = self.fetch.topic_ids.get(&*partition.topic).copied().unwrap_or(Uuid::ZERO);
            topics.push(FetchTopic {
                topic: Cow::Borrowed(if by_id { "" } else { &partition.topic }),
                topic_id: if by_id { id } else { Uuid::ZERO },
                partitions: vec![wanted],
            });
        }
        let state = ReplicaState { replica_id: DEBUGGING_CONSUMER, ..ReplicaState::default() };
        let in_state = link.version >= 15;
        let request = FetchRequest {
            replica_id: if in_state { -1 } else { DEBUGGING_CONSUMER },
            replica_state: if in_state { state } else { ReplicaState::default() },
            max_wait_ms: self.fetch.max_wait_ms,
            min_bytes: 1,
            topics,
            ..FetchRequest::default()
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<FetchRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        if response.error_code != 0 {
            return Step::Failed(ClientError::from_code(ErrorCode(response.error_code), None));
        }
        let mut seen = BTreeMap::new();
        for topic in &response.responses {
            let named = self.fetch.topic_ids.iter().find(|(_, id)| **id == topic.topic_id);
            let name =
                if topic.topic.is_empty() { named.map(|(name, _)| &**name) } else { Some(&*topic.topic) };
            let Some(name) = name else { continue };
            for data in &topic.partitions {
                let headers = data.records.iter().flat_map(HeaderIter::new);
                // A batch that cannot be read ends what is compared.
                let headers = headers.map_while(|header| header.ok().map(|(_, header)| header));
                let batches =
                    headers.map(|header| BatchSeen { last_offset: header.last_offset(), crc: header.crc });
                let replica = ReplicaSeen { high_watermark: data.high_watermark, batches: batches.collect() };
                seen.insert(TopicPartition::new(name, data.partition_index), replica);
            }
        }
        Step::Done(AdminResult::Replicas(Ok(seen)))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Replicas(Err(error))
    }
}

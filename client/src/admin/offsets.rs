//! What only leaders know: listOffsets, deleteRecords (`PartitionLeaderStrategy.java`).
//!
//! First the leaders are looked up through Metadata, then each is asked for its partitions. Partitions whose leader
//! has moved meanwhile are looked up again.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::Now;
use wire::error::ErrorCode;
use wire::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use wire::messages::metadata_request::MetadataRequest;

use super::leaders;
use super::{
    Admin, AdminResult, Answer, CallId, Each, Link, NextRequest, OffsetInfo, Op, Route, Step, all_failed,
};
use crate::config::Isolation;
use crate::error::ClientError;
use crate::event::TopicPartition;

/// What is wanted of leaders: the offsets at timestamps (-1 end, -2 start, -3 max timestamp …), or the deletion of
/// what lies before offsets (-1: before the high watermark).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Offsets { isolation: Isolation },
    Deletion,
}

impl Wanted {
    fn name(self, api: &str) -> String {
        let call = match self {
            Wanted::Offsets { .. } => "listOffsets",
            Wanted::Deletion => "deleteRecords",
        };
        alloc::format!("{call}(api={api})")
    }

    fn all_failed(self, partitions: &BTreeMap<TopicPartition, i64>, error: &ClientError) -> AdminResult {
        let partitions = partitions.keys().cloned();
        match self {
            Wanted::Offsets { .. } => AdminResult::Offsets(all_failed(partitions, error)),
            Wanted::Deletion => AdminResult::LowWatermarks(all_failed(partitions, error)),
        }
    }

    fn lookup(self, partitions: BTreeMap<TopicPartition, i64>) -> NextRequest {
        let op = Box::new(Lookup { wanted: self, partitions });
        NextRequest { name: self.name("METADATA"), route: Route::Any, op }
    }
}

impl Admin {
    /// The offsets of partitions at timestamps: -1 the end, -2 the start, -3 the highest timestamp, or milliseconds.
    pub fn list_offsets(
        &mut self,
        now: Now,
        partitions: BTreeMap<TopicPartition, i64>,
        isolation: Isolation,
    ) -> CallId {
        if partitions.is_empty() {
            return self.begin_done(AdminResult::Offsets(BTreeMap::new()));
        }
        let first = Wanted::Offsets { isolation }.lookup(partitions);
        self.begin_all(now, alloc::vec![first])
    }

    /// Deletes what lies before offsets; -1 stands for the high watermark.
    pub fn delete_records(&mut self, now: Now, partitions: BTreeMap<TopicPartition, i64>) -> CallId {
        if partitions.is_empty() {
            return self.begin_done(AdminResult::LowWatermarks(BTreeMap::new()));
        }
        let first = Wanted::Deletion.lookup(partitions);
        self.begin_all(now, alloc::vec![first])
    }
}

/// Who leads these partitions?
#[derive(Clone)]
struct Lookup {
    wanted: Wanted,
    partitions: BTreeMap<TopicPartition, i64>,
}

impl Op for Lookup {
    fn key(&self) -> ApiKey {
        ApiKey::Metadata
    }

    fn send(&self, link: Link<'_>) {
        leaders::ask(self.partitions.keys(), link);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<MetadataRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let mut by_leader: BTreeMap<i32, BTreeMap<TopicPartition, i64>> = BTreeMap::new();
        let mut failed: BTreeMap<TopicPartition, ClientError> = BTreeMap::new();
        let mut retry: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for (partition, &at) in &self.partitions {
            match leaders::leader_of(&response, partition) {
                Ok(leader) => drop(by_leader.entry(leader).or_default().insert(partition.clone(), at)),
                Err(code @ (ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::INVALID_TOPIC_EXCEPTION)) => {
                    failed.insert(partition.clone(), ClientError::from_code(code, None));
                }
                // No leader yet, a new topic that this broker has not heard of, a partition that is being added:
                // each may be otherwise in a moment.
                Err(_) => drop(retry.insert(partition.clone(), at)),
            }
        }
        let mut next: Vec<NextRequest> =
            by_leader.into_iter().map(|(leader, partitions)| self.fulfil(leader, partitions)).collect();
        let waits = !retry.is_empty();
        if waits {
            if next.is_empty() && failed.is_empty() {
                let codes = response.topics.iter().map(|topic| ErrorCode(topic.error_code));
                let code = codes.into_iter().find(|code| code.is_error());
                let code = code.unwrap_or(ErrorCode::LEADER_NOT_AVAILABLE);
                return Step::Failed(ClientError::from_code(code, None));
            }
            next.push(self.wanted.lookup(retry));
        }
        let known = (!failed.is_empty()).then(|| self.failures(failed));
        if next.is_empty() {
            return Step::Done(known.expect("every partition is somewhere"));
        }
        // Leaders that are known wait with the others.
        Step::Next { known, next, after_error: waits }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        self.wanted.all_failed(&self.partitions, &error)
    }
}

impl Lookup {
    fn fulfil(&self, leader: i32, partitions: BTreeMap<TopicPartition, i64>) -> NextRequest {
        let (name, op): (String, Box<dyn Op>) = match self.wanted {
            Wanted::Offsets { isolation } => {
                (self.wanted.name("LIST_OFFSETS"), Box::new(ListOffsets { isolation, partitions }))
            }
            Wanted::Deletion => (self.wanted.name("DELETE_RECORDS"), Box::new(DeleteRecords { partitions })),
        };
        NextRequest { name, route: Route::Node(leader), op }
    }

    fn failures(&self, failed: BTreeMap<TopicPartition, ClientError>) -> AdminResult {
        match self.wanted {
            Wanted::Offsets { .. } => {
                AdminResult::Offsets(failed.into_iter().map(|(p, e)| (p, Err(e))).collect())
            }
            Wanted::Deletion => {
                AdminResult::LowWatermarks(failed.into_iter().map(|(p, e)| (p, Err(e))).collect())
            }
        }
    }
}

/// The leader may have moved, or not know of it yet: look it up again.
fn is_stale(error: ErrorCode) -> bool {
    error.refreshes_metadata()
        || matches!(error, ErrorCode::OFFSET_NOT_AVAILABLE | ErrorCode::UNKNOWN_LEADER_EPOCH)
}

#[derive(Clone)]
struct ListOffsets {
    isolation: Isolation,
    partitions: BTreeMap<TopicPartition, i64>,
}

impl Op for ListOffsets {
    fn key(&self) -> ApiKey {
        ApiKey::ListOffsets
    }

    fn send(&self, link: Link<'_>) {
        let mut topics: Vec<ListOffsetsTopic<'_>> = Vec::new();
        for (partition, &timestamp) in &self.partitions {
            let asked = ListOffsetsPartition {
                partition_index: partition.partition,
                current_leader_epoch: -1,
                timestamp,
            };
            match topics.last_mut().filter(|topic| topic.name == *partition.topic) {
                Some(topic) => topic.partitions.push(asked),
                None => topics.push(ListOffsetsTopic {
                    name: Cow::Borrowed(&*partition.topic),
                    partitions: alloc::vec![asked],
                }),
            }
        }
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: self.isolation.code(),
            topics,
            timeout_ms: if link.version >= 10 { link.timeout_ms() } else { 0 },
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<ListOffsetsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let mut found: Each<TopicPartition, OffsetInfo> = BTreeMap::new();
        for topic in &response.topics {
            for told in &topic.partitions {
                let partition = TopicPartition::new(topic.name.as_ref(), told.partition_index);
                let error = ErrorCode(told.error_code);
                if is_stale(error) || !self.partitions.contains_key(&partition) {
                    continue;
                }
                let info = OffsetInfo {
                    offset: told.offset,
                    timestamp: told.timestamp,
                    leader_epoch: (told.leader_epoch >= 0).then_some(told.leader_epoch),
                };
                found.insert(partition, super::outcome(told.error_code, None, || info));
            }
        }
        self.partitions.retain(|partition, _| !found.contains_key(partition));
        again(Wanted::Offsets { isolation: self.isolation }, &self.partitions, AdminResult::Offsets(found))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Offsets(all_failed(self.partitions.keys().cloned(), &error))
    }
}

#[derive(Clone)]
struct DeleteRecords {
    partitions: BTreeMap<TopicPartition, i64>,
}

impl Op for DeleteRecords {
    fn key(&self) -> ApiKey {
        ApiKey::DeleteRecords
    }

    fn send(&self, link: Link<'_>) {
        let mut topics: Vec<DeleteRecordsTopic<'_>> = Vec::new();
        for (partition, &offset) in &self.partitions {
            let asked = DeleteRecordsPartition { partition_index: partition.partition, offset };
            match topics.last_mut().filter(|topic| topic.name == *partition.topic) {
                Some(topic) => topic.partitions.push(asked),
                None => topics.push(DeleteRecordsTopic {
                    name: Cow::Borrowed(&*partition.topic),
                    partitions: alloc::vec![asked],
                }),
            }
        }
        let request = DeleteRecordsRequest { topics, timeout_ms: link.timeout_ms() };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        let response = match answer.decode::<DeleteRecordsRequest<'_>>() {
            Ok(response) => response,
            Err(step) => return step,
        };
        let mut deleted: Each<TopicPartition, i64> = BTreeMap::new();
        for topic in &response.topics {
            for told in &topic.partitions {
                let partition = TopicPartition::new(topic.name.as_ref(), told.partition_index);
                if is_stale(ErrorCode(told.error_code)) || !self.partitions.contains_key(&partition) {
                    continue;
                }
                deleted.insert(partition, super::outcome(told.error_code, None, || told.low_watermark));
            }
        }
        self.partitions.retain(|partition, _| !deleted.contains_key(partition));
        again(Wanted::Deletion, &self.partitions, AdminResult::LowWatermarks(deleted))
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::LowWatermarks(all_failed(self.partitions.keys().cloned(), &error))
    }
}

/// What is left is looked up again.
fn again(wanted: Wanted, left: &BTreeMap<TopicPartition, i64>, known: AdminResult) -> Step {
    if left.is_empty() {
        return Step::Done(known);
    }
    Step::Next { known: Some(known), next: alloc::vec![wanted.lookup(left.clone())], after_error: true }
}

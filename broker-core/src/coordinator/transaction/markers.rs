//! Markers on their way: what ends a transaction in the partitions that take part in it.
//!
//! Each coordinator's partition has a queue for each leader and one request to it under way. A marker whose partition
//! has no leader, or another one by now, is asked for again until it is written or the partition is gone. Follows
//! Kafka's `TransactionMarkerChannelManager`.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::drive::{Instant, Nanos};
use wire::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use wire::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use wire::{ErrorCode, Message as _, Reader};

use super::TransactionCall;
use super::state::{Partition, Transaction, TransactionState};
use crate::ctx::Ctx;
use crate::metadata::MetadataImage;
use crate::net::{Call, CallOutcome, Peer};

/// The version of WriteTxnMarkers that brokers speak with each other.
const VERSION: i16 = 2;
/// How long a marker that was refused waits.
const RETRY_BACKOFF: Nanos = Nanos::from_millis(50);

/// A marker for one partition.
#[derive(Clone, Debug)]
struct Marker {
    id: Arc<str>,
    producer_id: i64,
    producer_epoch: i16,
    commit: bool,
    transaction_version: i8,
    partition: Partition,
}

/// What became of a marker.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub id: Arc<str>,
    pub partition: Partition,
    /// [`ErrorCode::NONE`] also if the partition is gone; otherwise the transaction is no business of ours any more.
    pub error: ErrorCode,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    waiting: VecDeque<Marker>,
    under_way: Vec<Marker>,
}

/// The markers of one coordinator's partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Markers {
    by_leader: BTreeMap<i32, Queue>,
    /// That have no leader, or were refused; sent again at `retry_at`.
    again: Vec<Marker>,
    pub retry_at: Option<Instant>,
}

impl Markers {
    /// Adds the markers of a transaction that was decided.
    pub fn add(
        &mut self,
        image: &MetadataImage,
        id: &Arc<str>,
        decided: &Transaction,
        now: Instant,
    ) -> Vec<Written> {
        let markers = decided.partitions.iter().map(|partition| Marker {
            id: id.clone(),
            producer_id: decided.producer_id,
            producer_epoch: decided.producer_epoch,
            commit: decided.state == TransactionState::PrepareCommit,
            transaction_version: decided.client_version as i8,
            partition: partition.clone(),
        });
        let markers: Vec<Marker> = markers.collect();
        self.route(image, markers, now)
    }

    /// Puts markers into the queues of the leaders; those whose partition is gone are as good as written.
    fn route(&mut self, image: &MetadataImage, markers: Vec<Marker>, now: Instant) -> Vec<Written> {
        let mut gone = Vec::new();
        for marker in markers {
            let (topic, partition) = &marker.partition;
            let registration = image.topics.topic_named(topic).and_then(|t| t.partitions.get(partition));
            match registration.map(|r| r.leader) {
                None => {
                    gone.push(Written { id: marker.id, partition: marker.partition, error: ErrorCode::NONE })
                }
                Some(leader) if image.broker(leader).is_some_and(|broker| !broker.fenced) => {
                    self.by_leader.entry(leader).or_default().waiting.push_back(marker);
                }
                Some(_) => self.later(marker, now),
            }
        }
        gone
    }

    fn later(&mut self, marker: Marker, now: Instant) {
        self.again.push(marker);
        self.retry_at = Some(self.retry_at.unwrap_or(now + RETRY_BACKOFF));
    }

    /// The pause of refused markers may be over.
    pub fn on_timer(&mut self, image: &MetadataImage, now: Instant) -> Vec<Written> {
        if self.retry_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.retry_at = None;
        let again = core::mem::take(&mut self.again);
        self.route(image, again, now)
    }

    /// Sends what waits to leaders that have no request of this partition under way.
    pub fn send(&mut self, ctx: &mut Ctx<'_>, partition: i32, coordinator_epoch: i32) {
        for (&leader, queue) in &mut self.by_leader {
            if !queue.under_way.is_empty() || queue.waiting.is_empty() {
                continue;
            }
            queue.under_way = queue.waiting.drain(..).collect();
            let request = request_of(&queue.under_way, coordinator_epoch);
            let timeout = ctx.config.lifecycle.request_timeout;
            let call = Call::Transaction(TransactionCall { partition, coordinator_epoch, leader });
            ctx.net.call(ctx.now, ctx.out, Peer::Broker(leader), &request, VERSION, timeout, call);
        }
    }

    /// A leader answered, or did not. The markers that need not be sent again.
    pub fn answered(&mut self, leader: i32, outcome: CallOutcome, now: Instant) -> Vec<Written> {
        let Some(queue) = self.by_leader.get_mut(&leader) else { return Vec::new() };
        let sent = core::mem::take(&mut queue.under_way);
        if queue.waiting.is_empty() {
            self.by_leader.remove(&leader);
        }
        let response = match &outcome {
            CallOutcome::Answered { body, version } => {
                WriteTxnMarkersResponse::decode(&mut Reader::new(body), *version).ok()
            }
            CallOutcome::TimedOut | CallOutcome::Disconnected(_) => None,
        };
        let mut done = Vec::new();
        for marker in sent {
            let error = match &response {
                None => ErrorCode::NETWORK_EXCEPTION,
                Some(response) => error_of(response, &marker),
            };
            match error {
                // These end the sending: the transaction is another's business, or the marker is as good as written.
                ErrorCode::NONE
                | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
                | ErrorCode::UNSUPPORTED_VERSION => {
                    done.push(Written { id: marker.id, partition: marker.partition, error: ErrorCode::NONE })
                }
                ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::TRANSACTION_COORDINATOR_FENCED => {
                    done.push(Written { id: marker.id, partition: marker.partition, error });
                }
                _ => self.later(marker, now),
            }
        }
        done
    }

    /// The transaction's markers are not sent any more.
    pub fn forget(&mut self, id: &str) {
        for queue in self.by_leader.values_mut() {
            queue.waiting.retain(|marker| *marker.id != *id);
        }
        self.again.retain(|marker| *marker.id != *id);
    }
}

/// One marker for each transaction, with its partitions by topic.
fn request_of(markers: &[Marker], coordinator_epoch: i32) -> WriteTxnMarkersRequest<'_> {
    let mut request = WriteTxnMarkersRequest::default();
    let mut last: Option<&Marker> = None;
    for marker in markers {
        let same = |last: &Marker| {
            last.id == marker.id
                && last.producer_id == marker.producer_id
                && last.producer_epoch == marker.producer_epoch
        };
        if !last.is_some_and(same) {
            request.markers.push(WritableTxnMarker {
                producer_id: marker.producer_id,
                producer_epoch: marker.producer_epoch,
                transaction_result: marker.commit,
                topics: Vec::new(),
                coordinator_epoch,
                transaction_version: marker.transaction_version,
            });
        }
        last = Some(marker);
        let topics = &mut request.markers.last_mut().expect("one was pushed").topics;
        let (topic, partition) = &marker.partition;
        if topics.last().is_none_or(|last| *last.name != **topic) {
            topics.push(WritableTxnMarkerTopic { name: Cow::Borrowed(topic), partition_indexes: Vec::new() });
        }
        topics.last_mut().expect("one was pushed").partition_indexes.push(*partition);
    }
    request
}

fn error_of(response: &WriteTxnMarkersResponse<'_>, marker: &Marker) -> ErrorCode {
    let (topic, partition) = &marker.partition;
    let results = response.markers.iter().filter(|result| result.producer_id == marker.producer_id);
    let mut found = results
        .flat_map(|result| &result.topics)
        .filter(|result| *result.name == **topic)
        .flat_map(|result| &result.partitions)
        .filter(|result| result.partition_index == *partition);
    found.next().map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |result| ErrorCode(result.error_code))
}

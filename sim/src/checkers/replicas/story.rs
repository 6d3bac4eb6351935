//! Events of a partition made by hand, for the tests of its invariants.

use super::*;

/// The partition that all stories are about.
pub fn tp() -> TopicPartition {
    TopicPartition { topic: Arc::from("t"), partition: 0 }
}

fn appended(mark: BatchMark, as_leader: bool) -> Event {
    Event::RecordsAppended {
        partition: tp(),
        base_offset: mark.base_offset,
        log_end_offset: mark.last_offset + 1,
        epoch: mark.epoch,
        as_leader,
        batches: [mark].into_iter().collect(),
    }
}

fn mark(base_offset: i64, last_offset: i64, epoch: i32, crc: u32) -> BatchMark {
    let (producer_id, producer_epoch, sequence) = (-1, -1, -1);
    BatchMark { base_offset, last_offset, epoch, size: 100, crc, producer_id, producer_epoch, sequence }
}

/// A batch of nobody in particular is appended.
pub fn append(base: i64, last: i64, epoch: i32, crc: u32) -> Event {
    appended(mark(base, last, epoch, crc), true)
}

/// A leader of epoch 0 appends a producer's batch.
pub fn produce(base: i64, last: i64, producer_id: i64, producer_epoch: i16, sequence: i32) -> Event {
    let crc = (base * 100 + i64::from(sequence)) as u32;
    appended(BatchMark { producer_id, producer_epoch, sequence, ..mark(base, last, 0, crc) }, true)
}

/// The same as a follower.
pub fn as_follower(event: Event) -> Event {
    match event {
        Event::RecordsAppended { partition, base_offset, log_end_offset, epoch, batches, .. } => {
            let as_leader = false;
            Event::RecordsAppended { partition, base_offset, log_end_offset, epoch, as_leader, batches }
        }
        other => other,
    }
}

/// It becomes leader.
pub fn lead(epoch: i32, start_offset: i64, high_watermark: i64) -> Event {
    Event::BecameLeader { partition: tp(), epoch, start_offset, high_watermark }
}

/// A leader's high watermark moves.
pub fn watermark(to: i64) -> Event {
    Event::HighWatermarkAdvanced { partition: tp(), from: 0, to, as_leader: true }
}

/// A follower's high watermark moves.
pub fn follower_watermark(to: i64) -> Event {
    Event::HighWatermarkAdvanced { partition: tp(), from: 0, to, as_leader: false }
}

/// The controller commits a state.
pub fn state(leader: i32, leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> Event {
    with_elr(leader, leader_epoch, partition_epoch, isr, &[])
}

/// The controller commits a state with eligible leader replicas.
pub fn with_elr(leader: i32, leader_epoch: i32, partition_epoch: i32, isr: &[i32], elr: &[i32]) -> Event {
    let after = PartitionState {
        leader,
        leader_epoch,
        partition_epoch,
        replicas: vec![1, 2],
        isr: isr.to_vec(),
        elr: elr.to_vec(),
        last_known_elr: vec![],
    };
    Event::PartitionChanged { partition: tp(), before: None, after, reason: ChangeReason::BrokerFenced }
}

/// A log is cut.
pub fn truncate(from: i64, to: i64) -> Event {
    Event::LogTruncated { partition: tp(), from, to, high_watermark: 0 }
}

/// The head of a log is deleted.
pub fn log_start(from: i64, to: i64) -> Event {
    Event::LogStartOffsetAdvanced { partition: tp(), from, to }
}

/// A log is opened.
pub fn opened(log_end: i64, epochs: &[(i32, i64)]) -> Event {
    opened_from(0, log_end, epochs)
}

/// A log is opened that begins somewhere.
pub fn opened_from(log_start_offset: i64, log_end_offset: i64, epochs: &[(i32, i64)]) -> Event {
    let (topic_id, epochs) = (None, epochs.to_vec());
    Event::LogOpened { partition: tp(), topic_id, log_start_offset, log_end_offset, epochs }
}

/// A log is durable below an offset.
pub fn synced_to(up_to: i64) -> Event {
    Event::LogFlushed { partition: tp(), up_to }
}

/// A broker listens.
pub fn started() -> Event {
    Event::Started { clean: false }
}

/// The controller registers a broker.
pub fn broker_registered(broker: i32) -> Event {
    Event::BrokerRegistered { broker, broker_epoch: 9, clean: false }
}

/// broker-1 leads in epoch 0; both have ten records, all committed.
pub fn replicated() -> Vec<(i32, Event)> {
    vec![
        (1, state(1, 0, 0, &[1, 2])),
        (1, lead(0, 0, 0)),
        (1, append(0, 9, 0, 7)),
        (2, as_follower(append(0, 9, 0, 7))),
        (1, watermark(10)),
    ]
}

/// What follows [`replicated`] where broker-1's log was compacted (or was not), and broker-2 begins anew: it gets nothing
/// of epoch 0 any more, and of epoch 1 a batch that ends at `last`.
pub fn compacted(cleaned: bool, last: i64) -> Vec<(i32, Event)> {
    let (first_dirty, bytes_before, bytes_after) = (20, 200, 50);
    let cleaned =
        cleaned.then(|| Event::LogCleaned { partition: tp(), first_dirty, bytes_before, bytes_after });
    let mut story = vec![
        (1, state(1, 1, 1, &[1])),
        (1, lead(1, 10, 10)),
        (1, append(10, 19, 1, 8)),
        (1, append(20, 29, 2, 8)),
        (1, watermark(30)),
    ];
    story.extend(cleaned.map(|event| (1, event)));
    story.push((2, truncate(10, 0)));
    story.push((2, appended(BatchMark { size: 60, ..mark(10, last, 1, 3) }, false)));
    story.push((2, append(20, 29, 2, 8)));
    story.push((1, state(2, 3, 2, &[2])));
    story.push((2, lead(3, 30, 30)));
    story
}

/// Hears a story.
pub fn told(events: &[(i32, Event)]) -> Replicas {
    let mut replicas = Replicas::default();
    for (node, event) in events {
        replicas.hear(*node, event);
    }
    replicas
}

/// The names of what was broken.
pub fn names(replicas: &mut Replicas) -> Vec<&'static str> {
    replicas.take().iter().map(|breach| breach.name).collect()
}

/// The names of what a story breaks that follows [`replicated`].
pub fn after(more: Vec<(i32, Event)>) -> Vec<&'static str> {
    names(&mut told(&replicated().into_iter().chain(more).collect::<Vec<_>>()))
}

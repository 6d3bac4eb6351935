//! What clients see: Produce, Fetch with and without sessions, ListOffsets, epochs, DeleteRecords.

use alloc::vec;
use alloc::vec::Vec;
use wire::frame::decode_response;
use wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use wire::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use wire::messages::{
    DeleteRecordsRequest, FetchRequest, FetchResponse, ListOffsetsRequest, OffsetForLeaderEpochRequest,
    ProduceRequest,
};
use wire::{ErrorCode, Rope, Uuid};

use super::cluster::{Asked, Cluster, TOPIC, TOPIC_ID, batch, produce_request};
use crate::event::Event;

pub(super) fn delete_records(partition: i32, offset: i64) -> DeleteRecordsRequest<'static> {
    DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: TOPIC.into(),
            partitions: vec![DeleteRecordsPartition { partition_index: partition, offset }],
        }],
        timeout_ms: 10_000,
    }
}

fn fetch(session: (i32, i32), offsets: &[(i32, i64)]) -> FetchRequest<'static> {
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        session_id: session.0,
        session_epoch: session.1,
        topics: match offsets {
            [] => vec![],
            offsets => vec![FetchTopic {
                topic_id: TOPIC_ID,
                partitions: offsets
                    .iter()
                    .map(|&(partition, fetch_offset)| FetchPartition {
                        partition,
                        fetch_offset,
                        partition_max_bytes: 1 << 20,
                        ..FetchPartition::default()
                    })
                    .collect(),
                ..FetchTopic::default()
            }],
        },
        ..FetchRequest::default()
    }
}

/// Session id and error, and of each partition listed: number, error, high watermark, bytes.
type Fetched = (i32, ErrorCode, Vec<(i32, ErrorCode, i64, usize)>);

fn fetched(c: &Cluster, asked: Asked) -> Option<Fetched> {
    let frame = c.reply(asked)?;
    let (_, response) = decode_response::<FetchRequest<'_>>(&frame, 17).unwrap();
    let response: FetchResponse<'_> = response;
    let parts = response.responses.iter().flat_map(|t| &t.partitions).map(|p| {
        let bytes = p.records.as_ref().map_or(0, Rope::len);
        (p.partition_index, ErrorCode(p.error_code), p.high_watermark, bytes)
    });
    Some((response.session_id, ErrorCode(response.error_code), parts.collect()))
}

#[test]
fn a_session_tells_only_what_is_new() {
    let mut c = Cluster::new(1);
    c.create_topic(&[1], 1);
    c.add_partition(1, &[1]);
    c.run_ms(20);
    c.produce_all(1, &["a"]);
    let conn = c.connect(1);
    // A full request names everything and is told everything.
    let asked = c.ask_on(conn, 17, &fetch((0, 0), &[(0, 0), (1, 0)]));
    c.run_ms(10);
    let (session, error, parts) = fetched(&c, asked).unwrap();
    assert_eq!(error, ErrorCode::NONE);
    assert_ne!(session, 0);
    assert!(matches!(parts[..], [(0, ErrorCode::NONE, 1, 1..), (1, ErrorCode::NONE, 0, 0)]), "{parts:?}");
    // The position moved on; nothing is new until something is produced.
    let asked = c.ask_on(conn, 17, &fetch((session, 1), &[(0, 1)]));
    c.run_ms(400);
    assert_eq!(fetched(&c, asked), None, "it waits");
    c.run_ms(200);
    assert_eq!(fetched(&c, asked).unwrap(), (session, ErrorCode::NONE, vec![]));
    assert_eq!(c.took_ms(asked), 502);
    // A request that names nothing asks for everything in the session.
    let asked = c.ask_on(conn, 17, &fetch((session, 2), &[]));
    c.run_ms(100);
    let other = produce_request(-1, 1_000, 1, batch(&["b"]));
    c.ask(1, 12, &other);
    c.run_ms(10);
    let (_, _, parts) = fetched(&c, asked).unwrap();
    assert!(matches!(parts[..], [(1, ErrorCode::NONE, 1, 1..)]), "{parts:?}");
    // The peer did not take it in: it is told again.
    let asked = c.ask_on(conn, 17, &fetch((session, 3), &[]));
    c.run_ms(10);
    assert!(matches!(fetched(&c, asked).unwrap().2[..], [(1, ErrorCode::NONE, 1, 1..)]));
    // The wrong epoch, and a session that is not there.
    let asked = c.ask_on(conn, 17, &fetch((session, 3), &[]));
    c.run_ms(10);
    assert_eq!(fetched(&c, asked).unwrap().1, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    let asked = c.ask_on(conn, 17, &fetch((session ^ 1, 4), &[]));
    c.run_ms(10);
    assert_eq!(fetched(&c, asked).unwrap().1, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(c.broker(1).manager.fetch_sessions(), 1);
    // The end of the session.
    let asked = c.ask_on(conn, 17, &fetch((session, -1), &[(0, 0)]));
    c.run_ms(10);
    assert_eq!(fetched(&c, asked).unwrap().0, 0);
    assert_eq!(c.broker(1).manager.fetch_sessions(), 0);
}

#[test]
fn a_request_waits_for_min_bytes_and_gets_what_is_there_when_its_time_is_up() {
    let mut c = Cluster::new(1);
    c.create_topic(&[1], 1);
    let size = batch(&["a"]).len() as i32;
    let asked = c.ask(1, 17, &FetchRequest { min_bytes: 2 * size, ..fetch((0, -1), &[(0, 0)]) });
    c.run_ms(10);
    c.produce(1, 1, &["a"]);
    c.run_ms(10);
    assert_eq!(fetched(&c, asked), None);
    c.produce(1, 1, &["b"]);
    c.run_ms(10);
    assert_eq!(fetched(&c, asked).unwrap().2, [(0, ErrorCode::NONE, 2, 2 * size as usize)]);
    let asked = c.ask(1, 17, &FetchRequest { min_bytes: 3 * size, ..fetch((0, -1), &[(0, 0)]) });
    c.run_ms(600);
    assert_eq!(fetched(&c, asked).unwrap().2, [(0, ErrorCode::NONE, 2, 2 * size as usize)]);
    assert_eq!(c.took_ms(asked), 502);
}

#[test]
fn at_least_one_batch_comes_whatever_the_limits() {
    let mut c = Cluster::new(1);
    c.create_topic(&[1], 1);
    c.add_partition(1, &[1]);
    c.run_ms(20);
    for partition in [0, 1] {
        for _ in 0..2 {
            let request = produce_request(1, 1_000, partition, batch(&["a long enough value"]));
            c.ask(1, 12, &request);
            c.run_ms(5);
        }
    }
    let size = batch(&["a long enough value"]).len();
    let mut request = fetch((0, -1), &[(0, 0), (1, 0)]);
    request.max_bytes = 10;
    let asked = c.ask(1, 17, &request);
    c.run_ms(10);
    assert_eq!(fetched(&c, asked).unwrap().2, [(0, ErrorCode::NONE, 2, size), (1, ErrorCode::NONE, 2, 0)]);
    // In a session, a partition that gave data is served after the others.
    let conn = c.connect(1);
    request.session_epoch = 0;
    let asked = c.ask_on(conn, 17, &request);
    c.run_ms(10);
    let (session, _, parts) = fetched(&c, asked).unwrap();
    assert_eq!(parts[0].3, size);
    let turns: Vec<i32> = (1..=3)
        .map(|epoch| {
            let asked = c.ask_on(conn, 17, &FetchRequest { max_bytes: 10, ..fetch((session, epoch), &[]) });
            c.run_ms(10);
            fetched(&c, asked).unwrap().2.iter().find(|p| p.3 > 0).unwrap().0
        })
        .collect();
    assert_eq!(turns, [0, 1, 0]);
}

#[test]
fn consumers_see_what_is_committed() {
    let mut c = Cluster::configured(2, &[("replica.lag.time.max.ms", "60000")]);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a"]);
    c.cut_both(1, 2);
    c.produce(1, 1, &["b"]);
    c.run_ms(20);
    let size = batch(&["a"]).len();
    let asked = c.ask(1, 17, &fetch((0, -1), &[(0, 0)]));
    c.run_ms(10);
    assert_eq!(fetched(&c, asked).unwrap().2, [(0, ErrorCode::NONE, 1, size)]);
    // Between high watermark and log end there is nothing, and no error; beyond it there is one.
    let inside = c.ask(1, 17, &FetchRequest { max_wait_ms: 0, ..fetch((0, -1), &[(0, 2)]) });
    let beyond = c.ask(1, 17, &fetch((0, -1), &[(0, 3)]));
    c.run_ms(10);
    assert_eq!(fetched(&c, inside).unwrap().2, [(0, ErrorCode::NONE, 1, 0)]);
    assert_eq!(fetched(&c, beyond).unwrap().2, [(0, ErrorCode::OFFSET_OUT_OF_RANGE, -1, 0)]);
    // A follower serves up to its own high watermark (KIP-392); an old version is sent to the leader.
    let follower = c.ask(2, 17, &FetchRequest { max_wait_ms: 0, ..fetch((0, -1), &[(0, 0)]) });
    c.run_ms(10);
    assert_eq!(fetched(&c, follower).unwrap().2[0].1, ErrorCode::NONE);
    // Commits wake a consumer that waits.
    let asked = c.ask(1, 17, &FetchRequest { max_wait_ms: 60_000, ..fetch((0, -1), &[(0, 1)]) });
    c.run_ms(100);
    assert_eq!(fetched(&c, asked), None);
    c.heal();
    c.run_ms(32_000);
    assert_eq!(fetched(&c, asked).unwrap().2, [(0, ErrorCode::NONE, 2, size)]);
}

#[test]
fn epochs_fence_both_sides() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    c.elect(2, &[1, 2]);
    c.run_ms(50);
    for (broker, epoch, expected) in [
        (2, 0, ErrorCode::FENCED_LEADER_EPOCH),
        (2, 1, ErrorCode::NONE),
        (2, 2, ErrorCode::UNKNOWN_LEADER_EPOCH),
        (2, -1, ErrorCode::NONE),
    ] {
        let mut request = fetch((0, -1), &[(0, 0)]);
        request.max_wait_ms = 0;
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let asked = c.ask(broker, 17, &request);
        c.run_ms(10);
        assert_eq!(fetched(&c, asked).unwrap().2[0].1, expected, "epoch {epoch}");
    }
    // The refusal names the leader (KIP-951).
    let mut request = fetch((0, -1), &[(0, 0)]);
    request.topics[0].partitions[0].current_leader_epoch = 0;
    let asked = c.ask(2, 17, &request);
    c.run_ms(10);
    let frame = c.reply(asked).unwrap();
    let (_, response) = decode_response::<FetchRequest<'_>>(&frame, 17).unwrap();
    assert_eq!(response.responses[0].partitions[0].current_leader.leader_id, 2);
    assert_eq!(response.responses[0].partitions[0].current_leader.leader_epoch, 1);
    assert_eq!(&*response.node_endpoints[0].host, "broker-2");
}

#[test]
fn a_waiting_consumer_hears_of_a_new_leader() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    let mut request = FetchRequest { max_wait_ms: 30_000, ..fetch((0, -1), &[(0, 0)]) };
    request.topics[0].partitions[0].current_leader_epoch = 0;
    let asked = c.ask(1, 17, &request);
    c.run_ms(100);
    assert_eq!(fetched(&c, asked), None);
    c.elect(2, &[1, 2]);
    c.run_ms(20);
    assert_eq!(fetched(&c, asked).unwrap().2[0].1, ErrorCode::FENCED_LEADER_EPOCH);
}

#[test]
fn unknown_topics_and_partitions() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1], 1);
    let mut unknown_id = fetch((0, -1), &[(0, 0)]);
    unknown_id.topics[0].topic_id = Uuid([9; 16]);
    for (broker, request, expected) in [
        (1, unknown_id, ErrorCode::UNKNOWN_TOPIC_ID),
        (1, fetch((0, -1), &[(7, 0)]), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (2, fetch((0, -1), &[(0, 0)]), ErrorCode::NOT_LEADER_OR_FOLLOWER),
    ] {
        let asked = c.ask(broker, 17, &request);
        c.run_ms(10);
        assert_eq!(fetched(&c, asked).unwrap().2[0].1, expected);
    }
    let request = produce_request(1, 1_000, 3, batch(&["a"]));
    let asked = c.ask(1, 12, &request);
    let elsewhere = c.produce(2, -1, &["a"]);
    c.run_ms(10);
    assert_eq!(c.produced(asked), Some((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1)));
    assert_eq!(c.produced(elsewhere), Some((ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)));
}

#[test]
fn produce_refuses_in_kafkas_words() {
    let mut c = Cluster::new(1);
    c.create_topic(&[1], 1);
    let two = {
        let mut rope = batch(&["a"]);
        rope.append(batch(&["b"]));
        rope
    };
    let mut old_magic = batch(&["a"]).to_bytes().to_vec();
    old_magic[16] = 1;
    let mut broken = batch(&["a"]).to_bytes().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let cases: Vec<(i16, Option<Rope>, ErrorCode)> = vec![
        (1, None, ErrorCode::INVALID_RECORD),
        (1, Some(Rope::new()), ErrorCode::INVALID_RECORD),
        (1, Some(two), ErrorCode::INVALID_RECORD),
        (1, Some(Rope::from(bytes::Bytes::from(old_magic))), ErrorCode::INVALID_RECORD),
        (1, Some(Rope::from(bytes::Bytes::from(broken))), ErrorCode::CORRUPT_MESSAGE),
        (2, Some(batch(&["a"])), ErrorCode::INVALID_REQUIRED_ACKS),
        (1, Some(batch(&["a"])), ErrorCode::NONE),
    ];
    for (acks, records, expected) in cases {
        let mut request = produce_request(acks, 1_000, 0, Rope::new());
        request.topic_data[0].partition_data[0].records = records;
        let asked = c.ask(1, 12, &request);
        c.run_ms(10);
        assert_eq!(c.produced(asked).unwrap().0, expected);
    }
    assert_eq!(c.end(1), 1);
    let refused = c.events_of(1, |e| match e {
        Event::ProduceRefused { error, .. } => Some(error.clone()),
        _ => None,
    });
    assert_eq!(refused.len(), 6);
}

#[test]
fn acks_0_has_no_answer_and_closes_on_errors() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1], 1);
    let good = c.produce(1, 0, &["a"]);
    let bad = c.produce(2, 0, &["a"]);
    c.run_ms(50);
    assert_eq!(c.reply(good), None);
    assert!(!c.was_closed(good) && c.was_closed(bad));
    assert_eq!(c.end(1), 1);
}

#[test]
fn produce_by_topic_id() {
    let mut c = Cluster::new(1);
    c.create_topic(&[1], 1);
    let mut request = produce_request(-1, 1_000, 0, batch(&["a"]));
    request.topic_data[0].name = "".into();
    for (id, expected) in [(TOPIC_ID, ErrorCode::NONE), (Uuid([3; 16]), ErrorCode::UNKNOWN_TOPIC_ID)] {
        request.topic_data[0].topic_id = id;
        let asked = c.ask(1, 13, &request);
        c.run_ms(10);
        let frame = c.reply(asked).unwrap();
        let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, 13).unwrap();
        assert_eq!(response.responses[0].topic_id, id);
        assert_eq!(response.responses[0].partition_responses[0].error_code, expected.0);
    }
}

fn list_offset(c: &mut Cluster, broker: i32, version: i16, timestamp: i64) -> (ErrorCode, i64) {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: TOPIC.into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: 0,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let asked = c.ask(broker, version, &request);
    c.run_ms(10);
    let frame = c.reply(asked).unwrap();
    let (_, response) = decode_response::<ListOffsetsRequest<'_>>(&frame, version).unwrap();
    let one = &response.topics[0].partitions[0];
    (ErrorCode(one.error_code), one.offset)
}

#[test]
fn list_offsets_answers_start_end_and_times() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a", "b", "c"]);
    let now = 1_700_000_000_000;
    for (version, timestamp, expected) in [
        (7, -1, (ErrorCode::NONE, 3)),
        (7, -2, (ErrorCode::NONE, 0)),
        (7, -3, (ErrorCode::NONE, 0)),
        (6, -3, (ErrorCode::UNSUPPORTED_VERSION, -1)),
        (7, now, (ErrorCode::NONE, 0)),
        (7, now + 1, (ErrorCode::NONE, -1)),
        (9, -5, (ErrorCode::NONE, -1)),
    ] {
        assert_eq!(list_offset(&mut c, 1, version, timestamp), expected, "v{version} {timestamp}");
    }
    assert_eq!(list_offset(&mut c, 2, 7, -1), (ErrorCode::NOT_LEADER_OR_FOLLOWER, -1));
}

#[test]
fn a_new_leader_does_not_tell_an_end_that_lies_behind_its_epoch() {
    let mut c = Cluster::configured(2, &[("replica.lag.time.max.ms", "60000")]);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a"]);
    let asked = c.produce(1, -1, &["b"]);
    c.run_ms(8);
    assert!(c.produced(asked).is_some());
    assert!(c.high_watermark(2) < 2);
    c.kill(1);
    c.elect(2, &[1, 2]);
    c.run_ms(20);
    assert_eq!(list_offset(&mut c, 2, 5, -1).0, ErrorCode::OFFSET_NOT_AVAILABLE);
    assert_eq!(list_offset(&mut c, 2, 4, -1).0, ErrorCode::LEADER_NOT_AVAILABLE);
    assert_eq!(list_offset(&mut c, 2, 5, -2), (ErrorCode::NONE, 0));
    c.set_isr(&[2]);
    c.run_ms(20);
    assert_eq!(list_offset(&mut c, 2, 5, -1), (ErrorCode::NONE, 2));
}

#[test]
fn epochs_end_where_the_next_begins() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a", "b"]);
    c.elect(2, &[1, 2]);
    c.run_ms(1_500);
    c.produce_all(2, &["c"]);
    for (broker, epoch, expected) in
        [(2, 0, (0, 0, 2)), (2, 1, (0, 1, 3)), (2, 5, (0, -1, -1)), (1, 0, (6, -1, -1))]
    {
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic: TOPIC.into(),
                partitions: vec![OffsetForLeaderPartition {
                    partition: 0,
                    current_leader_epoch: -1,
                    leader_epoch: epoch,
                }],
            }],
        };
        let asked = c.ask(broker, 4, &request);
        c.run_ms(10);
        let frame = c.reply(asked).unwrap();
        let (_, response) = decode_response::<OffsetForLeaderEpochRequest<'_>>(&frame, 4).unwrap();
        let one = &response.topics[0].partitions[0];
        assert_eq!((one.error_code, one.leader_epoch, one.end_offset), expected);
    }
}

#[test]
fn delete_records_waits_for_the_followers() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a"]);
    c.produce_all(1, &["b"]);
    let deleted = |c: &Cluster, asked| {
        let frame = c.reply(asked)?;
        let (_, response) = decode_response::<DeleteRecordsRequest<'_>>(&frame, 2).unwrap();
        let one = &response.topics[0].partitions[0];
        Some((ErrorCode(one.error_code), one.low_watermark))
    };
    let asked = c.ask(1, 2, &delete_records(0, 1));
    c.run_ms(3);
    assert_eq!(deleted(&c, asked), None, "the follower still starts at 0");
    c.run_ms(1_200);
    assert_eq!(deleted(&c, asked), Some((ErrorCode::NONE, 1)));
    assert_eq!(c.replica(2).log.unwrap().log_start_offset(), 1);
    let beyond = c.ask(1, 2, &delete_records(0, 3));
    let negative = c.ask(1, 2, &delete_records(0, -2));
    let elsewhere = c.ask(2, 2, &delete_records(0, 1));
    c.run_ms(10);
    assert_eq!(deleted(&c, beyond), Some((ErrorCode::OFFSET_OUT_OF_RANGE, -1)));
    assert_eq!(deleted(&c, negative), Some((ErrorCode::OFFSET_OUT_OF_RANGE, -1)));
    assert_eq!(deleted(&c, elsewhere), Some((ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)));
    // A dead follower is waited for until the time is up, a fenced one is not.
    c.kill(2);
    let asked = c.ask(1, 2, &delete_records(0, -1));
    c.run_ms(100);
    assert_eq!(deleted(&c, asked), None);
    c.fence(2);
    c.run_ms(10);
    assert_eq!(deleted(&c, asked), Some((ErrorCode::NONE, 2)));
}

#[test]
fn a_consumer_is_sent_to_the_in_sync_replica_of_its_rack() {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let preferred = |c: &mut Cluster, rack: &'static str, offset: i64| {
        let request = FetchRequest { max_wait_ms: 0, rack_id: rack.into(), ..fetch((0, -1), &[(0, offset)]) };
        let asked = c.ask(1, 17, &request);
        c.run_ms(20);
        let frame = c.reply(asked).unwrap();
        let (_, response) = decode_response::<FetchRequest<'_>>(&frame, 17).unwrap();
        let data = &response.responses[0].partitions[0];
        assert_eq!(data.records.as_ref().is_none_or(Rope::is_empty), data.preferred_read_replica >= 0);
        data.preferred_read_replica
    };
    for (settings, want) in [(&[("replica.selector.class", selector)][..], 2), (&[], -1)] {
        let mut c = Cluster::configured(3, settings);
        for (id, rack) in [(1, "a"), (2, "b"), (3, "c")] {
            c.set_rack(id, rack);
        }
        c.create_topic(&[1, 2, 3], 1);
        c.produce_all(1, &["x", "y"]);
        c.run_ms(600);
        assert_eq!(preferred(&mut c, "b", 1), want, "the replica there");
        assert_eq!(preferred(&mut c, "a", 1), -1, "the leader itself");
        assert_eq!(preferred(&mut c, "d", 1), -1, "nobody is there");
        assert_eq!(preferred(&mut c, "", 1), -1, "it did not say where it is");
        // A follower gives what it knows to be committed.
        let asked = c.ask(2, 17, &FetchRequest { max_wait_ms: 0, ..fetch((0, -1), &[(0, 1)]) });
        c.run_ms(20);
        let (_, _, partitions) = fetched(&c, asked).unwrap();
        assert_eq!((partitions[0].1, partitions[0].2), (ErrorCode::NONE, 2));
        c.kill(3);
        c.produce(1, 1, &["z"]);
        c.run_ms(50_000);
        assert_eq!(c.leader_isr(1), [1, 2]);
        assert_eq!(preferred(&mut c, "c", 1), -1, "it is not in sync");
    }
}

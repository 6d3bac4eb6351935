//! Producer state: what a log answers to retries, and that it is a function of the log.

use super::*;
use wire::ErrorCode;

/// A batch of `count` records of producer 7.
fn of_producer(epoch: i16, sequence: i32, count: usize) -> Rope {
    let mut builder = BatchBuilder::new();
    for i in 0..count {
        builder.append(t(1), None, Some(alloc::format!("{epoch}/{}", sequence + i as i32).as_bytes()), &[]);
    }
    let options = BatchOptions {
        producer_id: 7,
        producer_epoch: epoch,
        base_sequence: sequence,
        ..BatchOptions::default()
    };
    Rope::from(builder.finish(&StdCodecs, &options).unwrap())
}

fn code(result: Result<AppendInfo, AppendError>) -> ErrorCode {
    result.unwrap_err().code()
}

#[test]
fn a_retry_is_answered_with_its_first_offset_and_not_appended() {
    let mut bench = Bench::new(LogConfig::default());
    bench.append(1, &of_producer(0, 0, 3), 0).unwrap();
    let first = bench.append(1, &of_producer(0, 3, 2), 0).unwrap();
    let again = bench.append(2, &of_producer(0, 3, 2), 0).unwrap();
    assert_eq!((again.base_offset, again.last_offset), (first.base_offset, first.last_offset));
    assert!(again.marks.is_empty());
    assert_eq!(bench.log.log_end_offset(), 5);
    assert_eq!(code(bench.append(2, &of_producer(0, 6, 1), 0)), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    bench.append(2, &of_producer(1, 0, 1), 0).unwrap();
    assert_eq!(code(bench.append(2, &of_producer(0, 5, 1), 0)), ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(bench.log.log_end_offset(), 6);
}

#[test]
fn followers_learn_what_the_leader_appended() {
    let mut leader = Bench::new(LogConfig::default());
    let mut follower = Bench::new(LogConfig::default());
    for sequence in 0..4 {
        leader.append(1, &of_producer(0, sequence, 1), 0).unwrap();
    }
    let records = leader.read(0);
    follower.follow(&records, 0).unwrap();
    assert_eq!(follower.append(2, &of_producer(0, 3, 1), 1).unwrap().base_offset, 3);
    assert_eq!(follower.append(2, &of_producer(0, 4, 1), 1).unwrap().base_offset, 4);
}

/// After any sequence of appends, rolls, truncations and restarts the state is that of the batches in the log.
#[test]
fn the_state_follows_the_log_through_restarts_and_truncations() {
    for (clean, cut) in [(true, 20), (false, 20), (true, 13), (false, 13), (true, 0), (false, 7)] {
        let mut bench = Bench::new(small(500));
        for sequence in 0..20 {
            bench.append(1, &of_producer(0, sequence, 1), 0).unwrap();
        }
        bench.log.truncate_to(at_s(2), &mut bench.disk, &StdCodecs, cut).unwrap();
        let last = cut as i32 - 1;
        let want = if cut == 0 { vec![] } else { vec![(7, 0, last)] };
        assert_eq!(bench.log.producers.ids(), want, "cut at {cut}");
        if clean {
            bench.log.close(at_s(3), &mut bench.disk, &StdCodecs).unwrap();
        }
        let (mut bench, _) = bench.reopen(clean);
        assert_eq!(bench.log.producers.ids(), want, "cut at {cut}, clean {clean}");
        if cut > 0 {
            let again = bench.append(4, &of_producer(0, last, 1), 0).unwrap();
            assert_eq!(again.base_offset, i64::from(last), "cut at {cut}, clean {clean}");
        }
        assert_eq!(bench.append(4, &of_producer(0, last + 1, 1), 0).unwrap().base_offset, cut);
    }
}

#[test]
fn a_damaged_snapshot_is_replaced_by_the_log() {
    let mut bench = Bench::new(small(500));
    for sequence in 0..20 {
        bench.append(1, &of_producer(0, sequence, 1), 0).unwrap();
    }
    bench.log.close(at_s(3), &mut bench.disk, &StdCodecs).unwrap();
    let snapshots: Vec<String> = bench.names().into_iter().filter(|n| n.ends_with(".snapshot")).collect();
    assert!(snapshots.len() > 2, "{snapshots:?}");
    bench
        .disk
        .replace(&alloc::format!("{DIR}/{}", snapshots.last().unwrap()), Bytes::from_static(b"damaged"));
    let (bench, _) = bench.reopen(true);
    assert_eq!(bench.log.producers.ids(), [(7, 0, 19)]);
}

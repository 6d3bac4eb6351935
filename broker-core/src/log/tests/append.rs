//! Appending, rolling, indexes, reading.

use super::*;

use proptest::prelude::*;
use wire::batch::BatchHeader;
use wire::error::ErrorCode;

#[test]
fn a_leader_stamps_sixteen_bytes_and_shares_the_rest() {
    let mut bench = Bench::new(LogConfig::default());
    let first = batch(3, 10, t(0));
    let second = batch(2, 10, t(1));
    assert_eq!(bench.append(1, &first, 4).unwrap().base_offset, 0);
    let info = bench.append(1, &second, 4).unwrap();
    assert_eq!((info.base_offset, info.last_offset, info.max_timestamp), (3, 4, t(1) + 1));
    assert_eq!((info.log_append_time, info.rolled), (-1, false));
    assert_eq!(info.marks[0].epoch, 4);

    let data = bench.log.read(&mut bench.disk, 3, i64::MAX, 1 << 20, true).unwrap();
    assert_eq!(data.start.position as usize, first.len());
    let bytes = data.records.to_bytes();
    assert_eq!(&bytes[16..], &second.to_bytes()[16..]);
    let header = BatchHeader::parse(&bytes).unwrap();
    assert_eq!((header.base_offset, header.partition_leader_epoch), (3, 4));
    assert_eq!(info.marks[0].crc, header.crc);
    // The very bytes of the frame lie in the log.
    let shared = data.records.pieces().last().unwrap();
    assert_eq!(shared.as_ptr(), second.pieces()[0][16..].as_ptr());
}

#[test]
fn log_append_time_and_a_wrong_max_timestamp_are_stamped_with_a_new_crc() {
    let config = LogConfig { timestamp_type: TimestampType::LogAppendTime, ..LogConfig::default() };
    let mut bench = Bench::new(config);
    let info = bench.append(7, &batch(2, 10, t(0)), 0).unwrap();
    assert_eq!((info.log_append_time, info.max_timestamp), (t(7), t(7)));
    let stored = bench.read_all();
    let header = BatchHeader::parse(&stored[0]).unwrap();
    assert_eq!((header.max_timestamp, header.attributes.0 & 8, header.crc), (t(7), 8, crc_of(&stored[0])));

    let mut bench = Bench::new(LogConfig::default());
    let mut wrong = batch(2, 10, t(0)).to_bytes().to_vec();
    wrong[35..43].copy_from_slice(&t(99).to_be_bytes());
    let crc = crc_of(&Bytes::from(wrong.clone()));
    wrong[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(bench.append(0, &Rope::from(Bytes::from(wrong)), 0).unwrap().max_timestamp, t(0) + 1);
    assert_eq!(BatchHeader::parse(&bench.read_all()[0]).unwrap().max_timestamp, t(0) + 1);
}

/// What a client's batch must look like before one thing in it is spoilt.
fn spoilt(change: impl Fn(&mut Vec<u8>), fix_crc: bool) -> Rope {
    let mut bytes = batch(2, 10, t(0)).to_bytes().to_vec();
    change(&mut bytes);
    if fix_crc {
        let crc = StdCodecs.crc32c(0, &bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    Rope::from(Bytes::from(bytes))
}

#[test]
fn what_is_refused_and_with_which_code() {
    let config = LogConfig { max_message_bytes: 1_000, segment_bytes: 2_000, ..LogConfig::default() };
    let compact = LogConfig { compact: true, ..LogConfig::default() };
    let bounded = LogConfig { timestamp_before_max_ms: 5_000, ..LogConfig::default() };
    let mut two = batch(1, 10, t(0));
    two.append(batch(1, 10, t(0)));
    let mut keyless = BatchBuilder::new();
    keyless.append(t(0), Some(b"k"), Some(b"v"), &[]);
    keyless.append(t(0), None, Some(b"v"), &[]);
    let keyless = Rope::from(keyless.finish(&StdCodecs, &BatchOptions::default()).unwrap());
    let control = BatchOptions { control: true, ..BatchOptions::default() };
    let pid = BatchOptions { producer_id: 5, producer_epoch: 0, ..BatchOptions::default() };
    let append_time = BatchOptions { log_append_time: Some(-1), ..BatchOptions::default() };
    use ErrorCode as E;
    for (why, config, records, code) in [
        ("CRC", &config, spoilt(|b| b[70] ^= 1, false), E::CORRUPT_MESSAGE),
        ("length", &config, spoilt(|b| b[11] = 5, false), E::CORRUPT_MESSAGE),
        ("magic 3", &config, spoilt(|b| b[16] = 3, false), E::CORRUPT_MESSAGE),
        ("magic 1", &config, spoilt(|b| b[16] = 1, false), E::INVALID_RECORD),
        ("magic 0", &config, spoilt(|b| b[16] = 0, false), E::INVALID_RECORD),
        ("base offset", &config, spoilt(|b| b[7] = 1, false), E::INVALID_RECORD),
        ("count", &config, spoilt(|b| b[60] = 3, true), E::INVALID_RECORD),
        ("last offset delta", &config, spoilt(|b| b[26] = 7, true), E::INVALID_RECORD),
        ("negative delta", &config, spoilt(|b| b[23] = 0x80, true), E::INVALID_RECORD),
        ("both say one", &config, spoilt(|b| (b[26], b[60]) = (0, 1), true), E::INVALID_RECORD),
        ("both say three", &config, spoilt(|b| (b[26], b[60]) = (2, 3), true), E::INVALID_RECORD),
        ("codec 5", &config, spoilt(|b| b[22] = 5, true), E::CORRUPT_MESSAGE),
        ("says gzip", &config, spoilt(|b| b[22] = 1, true), E::CORRUPT_MESSAGE),
        ("empty", &config, Rope::new(), E::INVALID_RECORD),
        ("half a batch", &config, batch(1, 10, t(0)).slice(0, 40), E::INVALID_RECORD),
        ("two batches", &config, two, E::INVALID_RECORD),
        ("control", &config, batch_of(1, 5, t(0), &control), E::INVALID_RECORD),
        ("no sequence", &config, batch_of(1, 5, t(0), &pid), E::INVALID_RECORD),
        ("large", &config, batch(1, 1_000, t(0)), E::MESSAGE_TOO_LARGE),
        ("keyless", &compact, keyless, E::INVALID_RECORD),
        ("future", &LogConfig::default(), batch(1, 5, t(3_700)), E::INVALID_TIMESTAMP),
        ("past", &bounded, batch(1, 5, t(-6)), E::INVALID_TIMESTAMP),
        ("append time", &LogConfig::default(), batch_of(1, 5, t(0), &append_time), E::INVALID_TIMESTAMP),
    ] {
        let mut bench = Bench::new(config.clone());
        let error = bench.append(0, &records, 0).unwrap_err();
        assert_eq!(error.code(), code, "{why}: {error}");
        assert_eq!(bench.log.log_end_offset(), 0, "{why}");
        assert_eq!(bench.log.size_bytes(), 0, "{why}");
        assert!(bench.log.epochs().is_empty(), "{why}: a refused batch begins no epoch");
        if why == "keyless" {
            assert_eq!(error.record_errors().len(), 1);
            assert_eq!(error.record_errors()[0].batch_index, 1);
        }
    }
    let limits = LogConfig { segment_bytes: 500, ..LogConfig::default() };
    let error = Bench::new(limits).append(0, &batch(1, 600, t(0)), 0).unwrap_err();
    assert_eq!(error.code(), E::RECORD_LIST_TOO_LARGE);
}

#[test]
fn compressed_batches_are_looked_into_and_kept_or_made_anew() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let records = batch_of(10, 50, t(0), &compressed(codec));
        let mut bench = Bench::new(LogConfig::default());
        assert_eq!(bench.append(0, &records, 0).unwrap().last_offset, 9);
        assert_eq!(bench.read_all()[0][16..], records.to_bytes()[16..], "{}", codec.name());

        let target = TargetCompression::Fixed { codec: Compression::None, level: None };
        let mut bench = Bench::new(LogConfig { compression: target, ..LogConfig::default() });
        bench.append(0, &batch(5, 5, t(0)), 0).unwrap();
        bench.append(0, &records, 3).unwrap();
        let plain = batch_of(
            10,
            50,
            t(0),
            &BatchOptions { base_offset: 5, leader_epoch: 3, ..BatchOptions::default() },
        );
        assert_eq!(bench.read_all()[1], plain.to_bytes(), "{}", codec.name());

        let target = TargetCompression::Fixed { codec, level: None };
        let mut bench = Bench::new(LogConfig { compression: target, ..LogConfig::default() });
        bench.append(0, &batch(10, 50, t(0)), 0).unwrap();
        let stored = BatchHeader::parse(&bench.read_all()[0]).unwrap();
        assert_eq!((stored.compression().unwrap(), stored.record_count), (codec, 10));
    }
}

#[test]
fn wrong_inner_offsets_of_a_compressed_batch_are_repaired() {
    let mut builder = BatchBuilder::new();
    builder.append_at(3, t(0), None, Some(b"a"), &[("h", Some(b"x"))]);
    builder.append_at(4, t(0), None, Some(b"b"), &[]);
    let options = BatchOptions { last_offset_delta: Some(1), ..compressed(Compression::Lz4) };
    let records = Rope::from(builder.finish(&StdCodecs, &options).unwrap());
    let mut bench = Bench::new(LogConfig::default());
    assert_eq!(bench.append(0, &records, 0).unwrap().last_offset, 1);
    let stored = Batches::new(&bench.read(0)).next().unwrap().unwrap();
    let records = stored.records(&StdCodecs, 1_000).unwrap();
    let offsets: Vec<i64> = records.iter().map(|r| r.unwrap().offset).collect();
    assert_eq!(offsets, [0, 1]);
}

#[test]
fn a_follower_takes_offsets_as_they_are() {
    let mut leader = Bench::new(LogConfig::default());
    for (epoch, second) in [(0, 0), (0, 1), (2, 2), (3, 3)] {
        leader.append(second, &batch(2, 20, t(second as i64)), epoch).unwrap();
    }
    let all = leader.read(0);
    let mut follower = Bench::new(LogConfig::default());
    // The request was sent in epoch 2; what came of epoch 3 is left for the next one.
    let info = follower.follow(&all, 2).unwrap();
    assert_eq!((info.base_offset, info.last_offset, info.marks.len()), (0, 5, 3));
    assert_eq!(follower.follow(&all.slice(0, 60), 3).unwrap().last_offset, 5, "no whole batch: nothing");
    assert!(matches!(follower.follow(&all, 3), Err(AppendError::UnexpectedOffset { first_offset: 0, .. })));
    let rest = leader.read(6);
    follower.follow(&rest, 3).unwrap();
    assert_eq!(follower.read_all(), leader.read_all());
    assert_eq!(follower.log.epochs(), leader.log.epochs());
    let mut damaged = leader.read(0).to_bytes().to_vec();
    damaged[80] ^= 4;
    let mut other = Bench::new(LogConfig::default());
    let error = other.follow(&Rope::from(Bytes::from(damaged)), 3).unwrap_err();
    assert_eq!((error.code(), other.log.log_end_offset()), (ErrorCode::CORRUPT_MESSAGE, 0));
}

#[test]
fn the_quorum_leader_brings_its_epoch() {
    let mut bench = Bench::new(LogConfig::default());
    let options = BatchOptions { leader_epoch: 4, control: true, ..BatchOptions::default() };
    let own = batch_of(2, 10, t(0), &options);
    let mut append = |epoch| {
        bench.log.append_as_leader(at_s(0), &mut bench.disk, &StdCodecs, &own, epoch, Origin::RaftLeader)
    };
    assert_eq!(append(5).unwrap_err().code(), ErrorCode::INVALID_RECORD);
    assert_eq!(append(4).unwrap().last_offset, 1);
}

#[test]
fn roll_rules() {
    let size = batch(1, 100, t(0)).len() as u32;
    let by_size = LogConfig { segment_bytes: 2 * size, ..LogConfig::default() };
    let by_age = LogConfig { segment_ms: 10_000, ..LogConfig::default() };
    let jitter = LogConfig { segment_ms: 10_000, segment_jitter_ms: 4_000, ..LogConfig::default() };
    let by_index = LogConfig { segment_index_bytes: 24, index_interval_bytes: 1, ..LogConfig::default() };
    // Each append is (wall clock in s, timestamp in s); -1 for none.
    for (why, config, appends, bases) in [
        ("size", &by_size, vec![(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)], vec![0, 2, 4]),
        (
            "age of the first batch by record time",
            &by_age,
            vec![(0, 0), (0, 10), (0, 11), (0, 12)],
            vec![0, 2],
        ),
        ("the wall clock does not count then", &by_age, vec![(0, 0), (50, 1), (90, 2)], vec![0]),
        ("jitter", &jitter, vec![(0, 0), (0, 6), (0, 7)], vec![0, 2]),
        (
            "time index full: one entry is kept for the roll",
            &by_index,
            vec![(0, 0), (0, 1), (0, 2)],
            vec![0, 2],
        ),
    ] {
        let mut bench = Bench::new(config.clone());
        for (i, &(second, timestamp)) in appends.iter().enumerate() {
            let info = bench.append(second, &batch(1, 100, t(timestamp)), 0).unwrap();
            assert_eq!(info.rolled, i > 0 && bases.contains(&(i as i64)), "{why}: append {i}");
        }
        let found: Vec<i64> = bench.log.segments.iter().map(|s| s.base).collect();
        assert_eq!(found, bases, "{why}");
        assert_eq!(bench.read_all().len(), appends.len(), "{why}");
    }
    // Without timestamps a segment's age counts from when it was made.
    let mut bench = Bench::new(by_age);
    for second in [0, 10, 11] {
        let mut builder = BatchBuilder::new();
        builder.append(-1, None, Some(b"x"), &[]);
        let records = Rope::from(builder.finish(&StdCodecs, &BatchOptions::default()).unwrap());
        bench.append(second, &records, 0).unwrap();
    }
    assert_eq!(bench.log.segment_count(), 2);
}

#[test]
fn offsets_beyond_what_an_index_can_hold_roll() {
    let mut bench = Bench::new(LogConfig::default());
    let far = i64::from(i32::MAX) + 1;
    for (base, segments) in [(0, 1), (far - 1, 1), (far, 2)] {
        let options = BatchOptions { base_offset: base, leader_epoch: 0, ..BatchOptions::default() };
        bench.follow(&batch_of(1, 5, t(0), &options), 0).unwrap();
        assert_eq!(bench.log.segment_count(), segments, "offset {base}");
    }
    assert_eq!(bench.log.active_segment_base(), far);
    let start = bench.log.read(&mut bench.disk, 5, i64::MAX, 1 << 20, true).unwrap().start;
    assert_ne!(start.position, 0, "a gap: the batch behind it is the answer");
}

#[test]
fn index_entries_are_added_when_kafka_adds_them() {
    let mut bench = Bench::new(small(1 << 20));
    let size = batch(1, 30, t(0)).len() as u32;
    for i in 0..9 {
        bench.append(0, &batch(1, 30, t(0) + [0, 5, 3, 9, 1, 1, 20, 20, 21][i]), 0).unwrap();
    }
    // An entry goes before the batch that finds more than 200 bytes behind the last entry.
    let every = 200 / size + 1;
    let (offsets, times) = bench.indexes(0);
    let want: Vec<_> =
        (1..).map(|i| i * every).take_while(|&i| i < 9).map(|i| (i64::from(i), i * size)).collect();
    assert!(want.len() >= 2);
    assert_eq!(offsets, want);
    // The time index holds the largest timestamp so far, and only when it has grown.
    assert_eq!(times, [(t(0) + 9, 3), (t(0) + 20, 6)]);
    bench.log.close(at_s(1), &mut bench.disk, &StdCodecs).unwrap();
    assert_eq!(bench.indexes(0).1, [(t(0) + 9, 3), (t(0) + 20, 6), (t(0) + 21, 8)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any read gives exactly the batches that a plain list gives, at the tail and far behind it.
    #[test]
    fn reads_agree_with_a_list(
        appends in proptest::collection::vec((1i64..4, 0usize..120), 1..200),
        reads in proptest::collection::vec((0i64..400, 0i64..420, 0usize..3_000, any::<bool>()), 40),
        reopen in any::<bool>(),
    ) {
        let mut bench = Bench::new(small(5_000));
        let mut list = Vec::new();
        let mut next = 0;
        for (count, value) in appends {
            bench.append(0, &batch(count, value, t(0)), 0).unwrap();
            list.push((next, next + count - 1, bench.log.active_segment_base()));
            next += count;
        }
        if reopen {
            bench.log.close(at_s(0), &mut bench.disk, &StdCodecs).unwrap();
            bench = bench.reopen(true).0;
            prop_assert_eq!(bench.log.log_end_offset(), next);
        }
        let stored = bench.read_all();
        prop_assert_eq!(stored.len(), list.len());
        for (offset, up_to, max_bytes, min_one) in reads {
            let result = bench.log.read(&mut bench.disk, offset, up_to, max_bytes, min_one);
            if offset > next {
                let refused = matches!(result, Err(ReadError::OffsetOutOfRange { .. }));
                prop_assert!(refused);
                continue;
            }
            let first = list.iter().position(|b| b.1 >= offset).unwrap_or(list.len());
            let mut want = Vec::new();
            for (batch, bytes) in list.iter().zip(&stored).skip(first) {
                let fits = want.len() + bytes.len() <= max_bytes || want.is_empty() && min_one;
                if batch.2 != list[first].2 || batch.1 >= up_to || !fits {
                    break;
                }
                want.extend_from_slice(bytes);
            }
            prop_assert_eq!(&result.unwrap().records.to_bytes()[..], &want[..]);
        }
    }
}

#[test]
fn records_by_timestamp() {
    let mut bench = Bench::new(small(700));
    // Offsets 0, 2, 4 …: pairs of records a millisecond apart; time goes back once.
    for seconds in [1, 2, 3, 9, 4, 5, 6, 12, 7, 8] {
        bench.append(0, &batch(2, 60, t(seconds)), 5).unwrap();
    }
    assert!(bench.log.segment_count() > 2);
    let mut find = |timestamp: i64, up_to: i64| {
        bench
            .log
            .offset_for_timestamp(&mut bench.disk, &StdCodecs, timestamp, up_to)
            .unwrap()
            .map(|f| f.offset)
    };
    for (timestamp, want) in [
        (0, Some(0)),
        (t(1), Some(0)),
        (t(1) + 1, Some(1)),
        (t(1) + 2, Some(2)),
        (t(4), Some(6)),
        (t(9) + 1, Some(7)),
        (t(10), Some(14)),
        (t(12) + 1, Some(15)),
        (t(13), None),
    ] {
        assert_eq!(find(timestamp, i64::MAX), want, "{timestamp}");
    }
    assert_eq!(find(t(10), 14), None, "beyond what the reader may see");
    let newest = bench.log.offset_of_max_timestamp(&mut bench.disk, &StdCodecs).unwrap().unwrap();
    assert_eq!((newest.offset, newest.timestamp, newest.leader_epoch), (15, t(12) + 1, 5));
    bench.log.update_high_watermark(20);
    bench.log.increment_log_start_offset(&mut bench.disk, 3);
    let first = bench.log.offset_for_timestamp(&mut bench.disk, &StdCodecs, 0, i64::MAX).unwrap().unwrap();
    assert_eq!(first.offset, 3, "not before the log start");
    let empty = Bench::new(LogConfig::default());
    assert_eq!(empty.log.clone().offset_of_max_timestamp(&mut empty.disk.clone(), &StdCodecs), Ok(None));
}

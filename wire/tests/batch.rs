//! Record batches: known bytes, logs that Apache Kafka 4.3.1 wrote, and hostile bytes.

use bytes::Bytes;
use codecs::StdCodecs;
use wire::batch::*;
use wire::records::{
    EndTxnMarker, GroupKey, GroupValue, MetadataRecord, TransactionLogKey, TransactionLogValue,
};
use wire::{CodecError, Codecs, Compression, Rope};

const T0: i64 = 1_700_000_000_000;

fn hex(text: &str) -> Rope {
    let bytes: Bytes =
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect();
    bytes.into()
}

/// From kcat 1.7.1: one record.
const CAPTURED: &str = "00000000000000000000003f0000000002f62bb9e0000000000000000001a1f881ae10000001a1f881ae10ffffffffffff\
                        ffffffffffffffff000000011a000000046b310a68656c6c6f00";
/// From kcat 1.7.1: one record of an idempotent producer.
const IDEMPOTENT: &str = "00000000000000000000003f0000000002adfa1158000000000000000001a1f881b620000001a1f881b62000000000000003e8\
                          000000000000000000011a000000046b310a68656c6c6f00";
const TWO_RECORDS: &str = "00000000000000070000004300000003027f6ce7c80000000000010000018bcfe568000000018bcfe5680500000000000003e8\
                           0000000000000000000212000000046b310261000e000a0201026200";
const COMMIT: &str = "000000000000000900000042000000030286e979710030000000000000018bcfe568000000018bcfe56800000000000000\
                      03e80000ffffffff000000012000000008000000010c00000000000200";
const ABORT: &str = "000000000000000900000042000000030272d7af390030000000000000018bcfe568000000018bcfe56800000000000000\
                     03e80000ffffffff000000012000000008000000000c00000000000200";

#[test]
fn known_batches_are_read() {
    for text in [CAPTURED, IDEMPOTENT, TWO_RECORDS, COMMIT, ABORT] {
        let bytes = hex(text);
        let batch = Batch::parse(&bytes).unwrap();
        batch.check_crc(&StdCodecs).unwrap();
        assert_eq!(batch.header.size_in_bytes(), bytes.len());
        assert_eq!(batch.header.to_bytes()[..], bytes.to_bytes()[..HEADER_LEN]);
    }
    let batch = Batch::parse(&hex(TWO_RECORDS)).unwrap();
    let header = batch.header;
    assert_eq!((header.base_offset, header.last_offset(), header.next_offset()), (7, 8, 9));
    assert_eq!((header.producer_id, header.base_sequence, header.last_sequence()), (1000, 0, 1));
    let records = batch.records(&StdCodecs, 1 << 20).unwrap();
    let got: Vec<_> =
        records.iter().map(Result::unwrap).map(|r| (r.offset, r.timestamp, r.key, r.value)).collect();
    assert_eq!(got, [(7, T0, Some(&b"k1"[..]), Some(&b"a"[..])), (8, T0 + 5, None, Some(b"b"))]);
}

#[test]
fn known_batches_are_written() {
    let mut one = BatchBuilder::new();
    one.append(0x01a1_f881_ae10, Some(b"k1"), Some(b"hello"), &[]);
    // librdkafka writes 0 as the leader epoch.
    let options = BatchOptions { leader_epoch: 0, ..BatchOptions::default() };
    assert_eq!(Rope::from(one.finish(&StdCodecs, &options).unwrap()), hex(CAPTURED));

    let mut two = BatchBuilder::with_capacity(200);
    let producer = BatchOptions {
        base_offset: 7,
        leader_epoch: 3,
        producer_id: 1000,
        producer_epoch: 0,
        base_sequence: 0,
        ..BatchOptions::default()
    };
    let first = two.size_of(T0, Some(b"k1"), Some(b"a"), &[]);
    two.append(T0, Some(b"k1"), Some(b"a"), &[]);
    assert_eq!(two.len(), HEADER_LEN + first);
    let second = two.size_of(T0 + 5, None, Some(b"b"), &[]);
    two.append(T0 + 5, None, Some(b"b"), &[]);
    assert_eq!(two.len(), HEADER_LEN + first + second);
    assert_eq!(Rope::from(two.finish(&StdCodecs, &producer).unwrap()), hex(TWO_RECORDS));

    let marker = BatchOptions { base_offset: 9, base_sequence: NO_SEQUENCE, ..producer };
    for (commit, text) in [(true, COMMIT), (false, ABORT)] {
        let batch = end_txn_marker_batch(&StdCodecs, &marker, T0, commit, 2).unwrap();
        assert_eq!(Rope::from(batch), hex(text));
        let records = Batch::parse(&hex(text)).unwrap().records(&StdCodecs, 100).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let marker = EndTxnMarker { coordinator_epoch: 2 };
        let want = if commit { ControlRecord::Commit(marker) } else { ControlRecord::Abort(marker) };
        assert_eq!(ControlRecord::of(&record).unwrap(), want);
    }
}

#[test]
fn a_leader_stamps_without_touching_the_crc() {
    let batch = hex(CAPTURED);
    let stamped = stamp(&batch, 42, 7);
    let header = Batch::parse(&stamped).unwrap().header;
    assert_eq!((header.base_offset, header.partition_leader_epoch), (42, 7));
    header.check_crc(&stamped, &StdCodecs).unwrap();
    // The records are the very bytes that came in.
    assert_eq!(stamped.pieces()[1].as_ptr(), batch.pieces()[0][16..].as_ptr());
}

#[test]
fn a_producers_stamp_changes_without_its_records() {
    let batch = hex(TWO_RECORDS);
    let stamped = restamp_producer(&batch, 4_000, 3, 17, &StdCodecs).unwrap();
    let parsed = Batch::parse(&stamped).unwrap();
    parsed.check_crc(&StdCodecs).unwrap();
    let header = parsed.header;
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (4_000, 3, 17));
    assert_eq!(header.last_sequence(), 18);
    assert_eq!(stamped.pieces()[1], batch.pieces()[0].slice(61..));
}

#[test]
fn log_append_time_overrides_the_records() {
    let stamped = restamp_log_append_time(&hex(TWO_RECORDS), 100, 9, T0 + 1_000, &StdCodecs).unwrap();
    let batch = Batch::parse(&stamped).unwrap();
    batch.check_crc(&StdCodecs).unwrap();
    assert_eq!(batch.header.timestamp_type(), TimestampType::LogAppendTime);
    let records = batch.records(&StdCodecs, 1 << 20).unwrap();
    let got: Vec<_> = records.iter().map(|r| r.map(|r| (r.offset, r.timestamp)).unwrap()).collect();
    assert_eq!(got, [(100, T0 + 1_000), (101, T0 + 1_000)]);
}

fn batch_of(count: usize, options: &BatchOptions) -> Bytes {
    let mut builder = BatchBuilder::new();
    for i in 0..count {
        let value = format!("value {i}");
        let headers: &[(&str, Option<&[u8]>)] =
            if i % 3 == 0 { &[("a", Some(b"1")), ("a", None), ("b", Some(b""))] } else { &[] };
        let value = (i % 5 != 0).then_some(value.as_bytes());
        builder.append(T0 + i as i64 * 7 - 50, Some(&i.to_be_bytes()), value, headers);
    }
    builder.finish(&StdCodecs, options).unwrap()
}

#[test]
fn every_compression_round_trips() {
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for compression in codecs {
        let bytes = batch_of(500, &BatchOptions { compression, base_offset: 10, ..BatchOptions::default() });
        let batch = Batch::parse(&bytes.into()).unwrap();
        batch.check_crc(&StdCodecs).unwrap();
        assert_eq!(batch.header.compression(), Ok(compression));
        let records = batch.records(&StdCodecs, 1 << 20).unwrap();
        let mut count = 0;
        for (i, record) in records.iter().enumerate() {
            let record = record.unwrap();
            assert_eq!((record.offset, record.timestamp), (10 + i as i64, T0 + i as i64 * 7 - 50));
            assert_eq!(record.value.is_none(), i % 5 == 0);
            let headers: Vec<_> = record.headers.map(|h| (h.key.into_owned(), h.value)).collect();
            if i % 3 == 0 {
                let want = [("a", Some(&b"1"[..])), ("a", None), ("b", Some(b""))];
                assert_eq!(headers, want.map(|(k, v)| (k.to_owned(), v)));
            } else {
                assert!(headers.is_empty());
            }
            count += 1;
        }
        assert_eq!(count, 500);
        if compression != Compression::None {
            let error = batch.records(&StdCodecs, 1_000).unwrap_err();
            assert_eq!(error, BatchError::Codec(CodecError::TooLarge { limit: 1_000 }));
        }
    }
}

#[test]
fn sequences_wrap() {
    let options = BatchOptions { base_sequence: i32::MAX - 1, producer_id: 1, ..BatchOptions::default() };
    let batch = Batch::parse(&batch_of(4, &options).into()).unwrap();
    let records = batch.records(&StdCodecs, 1 << 20).unwrap();
    let got: Vec<_> = records.iter().map(|r| r.unwrap().sequence).collect();
    assert_eq!(got, [i32::MAX - 1, i32::MAX, 0, 1]);
    assert_eq!(batch.header.last_sequence(), 1);
    assert_eq!(decrement_sequence(1, 3), i32::MAX - 1);
}

#[test]
fn a_rope_of_batches_is_walked() {
    let one = batch_of(3, &BatchOptions::default());
    let two = batch_of(2, &BatchOptions { base_offset: 3, ..BatchOptions::default() });
    let all: Vec<u8> = [&one[..], &two[..], &two[..40]].concat();
    for size in [1, 7, 61, 100, 10_000] {
        let mut rope = Rope::new();
        all.chunks(size).for_each(|piece| rope.push(Bytes::copy_from_slice(piece)));
        let mut batches = Batches::new(&rope);
        let got: Vec<_> = batches.by_ref().map(|b| b.unwrap()).collect();
        assert_eq!(batches.trailing(), 40);
        assert_eq!(got.len(), 2);
        assert_eq!((got[0].bytes.to_bytes(), got[1].bytes.to_bytes()), (one.clone(), two.clone()));
        for batch in &got {
            batch.check_crc(&StdCodecs).unwrap();
        }
        let headers: Vec<_> =
            HeaderIter::new(&rope).map(Result::unwrap).map(|(at, h)| (at, h.base_offset)).collect();
        assert_eq!(headers, [(0, 0), (one.len(), 3)]);
    }
    assert!(Batches::new(&Rope::new()).next().is_none());
}

#[test]
fn old_formats_are_refused_by_name() {
    let mut bytes = hex(CAPTURED).to_bytes().to_vec();
    for (magic, error) in
        [(0, BatchError::OldMagic(0)), (1, BatchError::OldMagic(1)), (3, BatchError::UnknownMagic(3))]
    {
        bytes[16] = magic;
        assert_eq!(BatchHeader::parse(&bytes), Err(error.clone()));
        // A message of format 0 or 1 may be shorter than a header of format 2.
        assert_eq!(BatchHeader::parse(&bytes[..34]), Err(error.clone()));
        let rope = Rope::from(Bytes::copy_from_slice(&bytes));
        let mut batches = Batches::new(&rope);
        assert_eq!(batches.next().unwrap().unwrap_err(), error);
        assert!(batches.next().is_none());
    }
    bytes[16] = 2;
    bytes[8..12].copy_from_slice(&48i32.to_be_bytes());
    assert_eq!(BatchHeader::parse(&bytes), Err(BatchError::TooSmall(48)));
}

/// Every bit counts: a changed one is found by the CRC, unless it lies before its range.
#[test]
fn changed_bits_are_found() {
    let good = hex(TWO_RECORDS).to_bytes().to_vec();
    for at in 17..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let bad = Rope::from(Bytes::from(bad));
        assert!(
            matches!(Batch::parse(&bad).unwrap().check_crc(&StdCodecs), Err(BatchError::Crc { .. })),
            "byte {at}"
        );
    }
}

/// Hostile records with a right CRC: errors, no panic, and an end.
#[test]
fn hostile_records_are_errors() {
    let good = batch_of(5, &BatchOptions { base_offset: i64::MAX - 2, ..BatchOptions::default() }).to_vec();
    let header = BatchHeader::parse(&good).unwrap();
    let records = &good[HEADER_LEN..];
    let mut failed = 0;
    for at in 0..records.len() {
        for poison in
            [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 10], &[0x01], &[0xfe, 0xff, 0xff, 0xff, 0x0f]]
        {
            let mut bad = records.to_vec();
            bad.splice(at..(at + poison.len()).min(records.len()), poison.iter().copied());
            let all: Vec<_> = RecordIter::new(&header, &bad).collect();
            assert!(all.len() <= 6);
            failed += all.iter().filter(|r| r.is_err()).count();
            for record in all.into_iter().flatten() {
                assert_eq!(record.headers.count(), record.headers.len());
            }
        }
    }
    assert!(failed > records.len(), "the poison shows");
    for (count, want) in
        [(4, "bytes are left after the last one"), (6, "it ends too early"), (-1, "their number is negative")]
    {
        let header = BatchHeader { record_count: count, ..header };
        let mut iter = RecordIter::new(&header, records);
        let error = iter.by_ref().find_map(Result::err);
        assert_eq!(error, Some(BatchError::Record(want)), "{count}");
        assert!(iter.next().is_none());
    }
}

fn log(bytes: &'static [u8]) -> Vec<Batch> {
    let rope = Rope::from(Bytes::from_static(bytes));
    let mut batches = Batches::new(&rope);
    let all: Vec<Batch> = batches.by_ref().map(Result::unwrap).collect();
    assert_eq!(batches.trailing(), 0);
    for batch in &all {
        batch.check_crc(&StdCodecs).unwrap();
    }
    all
}

/// Each record with its batch, after its offsets and the batch's were found to agree.
fn each_record(batches: &[Batch], mut look: impl FnMut(&Batch, &Record<'_>)) -> usize {
    let mut count = 0;
    for batch in batches {
        let records = batch.records(&StdCodecs, 1 << 24).unwrap();
        let mut last = batch.header.base_offset - 1;
        for record in &records {
            let record = record.unwrap();
            assert!(record.offset > last && record.offset <= batch.header.last_offset());
            last = record.offset;
            look(batch, &record);
            count += 1;
        }
    }
    count
}

/// The log again, batch by batch, from its records: the builder writes what Kafka wrote.
fn rebuild(batch: &Batch) -> Bytes {
    let header = batch.header;
    let records = batch.records(&StdCodecs, 1 << 24).unwrap();
    let mut builder = BatchBuilder::new();
    for record in &records {
        let record = record.unwrap();
        let headers: Vec<_> = record.headers.map(|h| (h.key.into_owned(), h.value)).collect();
        let headers: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        let delta = (record.offset - header.base_offset) as i32;
        builder.append_at(delta, record.timestamp, record.key, record.value, &headers);
    }
    let options = BatchOptions {
        base_offset: header.base_offset,
        leader_epoch: header.partition_leader_epoch,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        transactional: header.is_transactional(),
        control: header.is_control(),
        last_offset_delta: Some(header.last_offset_delta),
        ..BatchOptions::default()
    };
    builder.finish(&StdCodecs, &options).unwrap()
}

#[test]
fn kafkas_logs_are_read_and_rebuilt() {
    let logs: [(&[u8], usize); 6] = [
        (include_bytes!("data/kafka-4.3.1/purchases-2.log"), 100),
        (include_bytes!("data/kafka-4.3.1/cluster_metadata.log"), 300),
        (include_bytes!("data/kafka-4.3.1/consumer_offsets-0.log"), 20),
        (include_bytes!("data/kafka-4.3.1/consumer_offsets-2.log"), 10),
        (include_bytes!("data/kafka-4.3.1/transaction_state-0.log"), 15),
        (include_bytes!("data/kafka-4.3.1/bootstrap.checkpoint"), 3),
    ];
    for (bytes, least) in logs {
        let batches = log(bytes);
        let count = each_record(&batches, |_, _| {});
        assert!(count >= least, "{count} records, not {least}");
        for batch in &batches {
            assert_eq!(batch.header.compression(), Ok(Compression::None));
            assert_eq!(rebuild(batch), batch.bytes.to_bytes(), "at offset {}", batch.header.base_offset);
        }
    }
}

#[test]
fn kafkas_metadata_records_come_back() {
    let mut kinds = std::collections::BTreeSet::new();
    let mut control = 0;
    for bytes in [
        &include_bytes!("data/kafka-4.3.1/cluster_metadata.log")[..],
        include_bytes!("data/kafka-4.3.1/bootstrap.checkpoint"),
    ] {
        each_record(&log(bytes), |batch, record| {
            let value = record.value.unwrap();
            if batch.header.is_control() {
                let decoded = ControlRecord::of(record).unwrap();
                assert!(!matches!(decoded, ControlRecord::Unknown(_)));
                assert_eq!(decoded.encode_value().unwrap(), value);
                assert_eq!(decoded.kind().key(), record.key.unwrap());
                control += 1;
                return;
            }
            let (decoded, version) = MetadataRecord::decode_versioned(value).unwrap();
            kinds.insert(decoded.name());
            assert_eq!(decoded.encode_value_at(version).unwrap(), value, "{decoded:?}");
            assert_eq!(version, decoded.version_to_write(), "{decoded:?}");
            assert_eq!(decoded.encode_value(), value);
        });
    }
    assert!(kinds.len() >= 10, "{kinds:?}");
    assert!(control > 0);
}

#[test]
fn kafkas_coordinator_records_come_back() {
    let mut kinds = std::collections::BTreeSet::new();
    for bytes in [
        &include_bytes!("data/kafka-4.3.1/consumer_offsets-0.log")[..],
        include_bytes!("data/kafka-4.3.1/consumer_offsets-2.log"),
    ] {
        each_record(&log(bytes), |batch, record| {
            if batch.header.is_control() {
                return;
            }
            let key = GroupKey::decode(record.key.unwrap()).unwrap();
            kinds.insert(key.name());
            assert_eq!(key.encode().unwrap(), record.key.unwrap());
            if let Some(value) = record.value {
                let version = i16::from_be_bytes([value[0], value[1]]);
                let decoded = GroupValue::decode(key.key(), value).unwrap();
                assert_eq!(decoded.encode(version).unwrap(), value, "{decoded:?}");
            }
        });
    }
    assert!(kinds.len() >= 5, "{kinds:?}");
    let mut values = 0;
    each_record(&log(include_bytes!("data/kafka-4.3.1/transaction_state-0.log")), |_, record| {
        let key = TransactionLogKey::decode_key(record.key.unwrap()).unwrap();
        assert_eq!(key.encode_key().unwrap(), record.key.unwrap());
        if let Some(value) = record.value {
            let version = i16::from_be_bytes([value[0], value[1]]);
            let decoded = TransactionLogValue::decode_value(value).unwrap();
            assert_eq!(decoded.encode_value(version).unwrap(), value, "{decoded:?}");
            values += 1;
        }
    });
    assert!(values > 5);
}

#[test]
fn the_port_is_an_object() {
    let codecs: &dyn Codecs = &StdCodecs;
    assert_eq!(codecs.crc32c(0, b"123456789"), 0xe306_9283);
}

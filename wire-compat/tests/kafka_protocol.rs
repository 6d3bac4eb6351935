//! Against kafka-protocol 0.18, the usual choice.
//!
//! Every request and response that both know, at every version that both know: what one encodes the other decodes
//! and encodes to the same bytes. And record batches: what one builds the other reads.

#[path = "../../wire/tests/common/random.rs"]
mod random;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use random::Rng;
use wire::messages::{AnyRequest, AnyResponse};
use wire::schema::{Kind, Schema};
use wire::{ApiKey, Reader, Rope, Writer};

/// What it encodes; none if it does not know the version after all.
fn theirs_again(schema: &Schema, version: i16, bytes: &Bytes) -> Option<Bytes> {
    let key = theirs::ApiKey::try_from(schema.key).expect("a key");
    let mut input = bytes.clone();
    let mut out = BytesMut::new();
    let result = if schema.kind == Kind::Request {
        theirs::RequestKind::decode(key, &mut input, version).and_then(|m| m.encode(&mut out, version))
    } else {
        theirs::ResponseKind::decode(key, &mut input, version).and_then(|m| m.encode(&mut out, version))
    };
    match result {
        Ok(()) => {}
        Err(e) if format!("{e:#}").contains("version not supported") => return None,
        Err(e) => panic!("{} v{version}: {e:#}", schema.name),
    }
    assert!(input.is_empty(), "{} v{version}: bytes are left", schema.name);
    Some(out.freeze())
}

fn ours_again(schema: &Schema, version: i16, bytes: &Rope) -> Bytes {
    let key = ApiKey::try_from(schema.key).expect("an API");
    let mut r = Reader::new(bytes);
    let mut w = Writer::new();
    if schema.kind == Kind::Request {
        AnyRequest::decode(key, version, &mut r)
            .expect(schema.name)
            .encode(&mut w, version)
            .expect(schema.name);
    } else {
        AnyResponse::decode(key, version, &mut r)
            .expect(schema.name)
            .encode(&mut w, version)
            .expect(schema.name);
    }
    r.finish().expect(schema.name);
    w.finish().expect(schema.name).to_bytes()
}

#[test]
fn both_say_the_same() {
    let mut compared = 0;
    let mut unknown = std::collections::BTreeSet::new();
    for info in wire::api::APIS.iter() {
        let Ok(key) = theirs::ApiKey::try_from(info.key as i16) else { continue };
        let known = key.valid_versions();
        for schema in [Schema::request(info.key), Schema::response(info.key)] {
            for version in info.versions.min.max(known.min)..=info.versions.max.min(known.max) {
                for seed in 0..20 {
                    let bytes = Bytes::from(random::message(schema, version, &mut Rng::new(seed)));
                    assert_eq!(ours_again(schema, version, &bytes.clone().into()), bytes, "{}", schema.name);
                    match theirs_again(schema, version, &bytes) {
                        Some(again) => assert_eq!(again, bytes, "{} v{version} seed {seed}", schema.name),
                        None => drop(unknown.insert((schema.name, version))),
                    }
                    compared += 1;
                }
            }
        }
    }
    // What its table of versions promises and its messages lack.
    let lacking = [("InitProducerIdRequest", 6), ("OffsetCommitRequest", 10), ("OffsetFetchRequest", 10)];
    assert_eq!(unknown.into_iter().collect::<Vec<_>>(), lacking);
    assert!(compared > 5_000, "only {compared} messages were compared");
}

/// What they build we read, and what we build they read.
#[test]
fn batches_are_understood() {
    use codecs::StdCodecs;
    use kafka_protocol::records::{
        Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };
    use wire::batch::{Batch, BatchBuilder, BatchOptions};

    let value = |i: i64| (i % 4 != 0).then(|| Bytes::from(format!("value {i}")));
    let record = |i: i64| Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 5,
        producer_id: 1000,
        producer_epoch: 3,
        timestamp_type: TimestampType::Creation,
        offset: 40 + i,
        sequence: 7 + i as i32,
        timestamp: 1_700_000_000_000 + i * 300 - 1_000,
        key: (i % 3 != 0).then(|| Bytes::from(i.to_be_bytes().to_vec())),
        value: value(i),
        headers: (0..i % 3).map(|h| (format!("h{h}").into(), value(h))).collect(),
    };
    let records: Vec<Record> = (0..50).map(record).collect();
    let mut built = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut built, &records, &options).expect("they can encode it");
    let built = built.freeze();

    let batch = Batch::parse(&built.clone().into()).expect("we can read it");
    batch.check_crc(&StdCodecs).expect("the CRC is right");
    let ours = batch.records(&StdCodecs, 1 << 20).expect("we can read it");
    let mut builder = BatchBuilder::new();
    let mut count = 0;
    for (ours, theirs) in ours.iter().zip(&records) {
        let ours = ours.expect("a record");
        assert_eq!(
            (ours.offset, ours.timestamp, ours.sequence),
            (theirs.offset, theirs.timestamp, theirs.sequence)
        );
        assert_eq!((ours.key, ours.value), (theirs.key.as_deref(), theirs.value.as_deref()));
        let headers: Vec<_> = ours.headers.map(|h| (h.key.into_owned(), h.value)).collect();
        let theirs_headers: Vec<_> =
            theirs.headers.iter().map(|(k, v)| (k.to_string(), v.as_deref())).collect();
        assert_eq!(headers, theirs_headers);
        let headers: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        builder.append(ours.timestamp, ours.key, ours.value, &headers);
        count += 1;
    }
    assert_eq!(count, records.len());

    let options = BatchOptions {
        base_offset: 40,
        leader_epoch: 5,
        producer_id: 1000,
        producer_epoch: 3,
        base_sequence: 7,
        transactional: true,
        ..BatchOptions::default()
    };
    let again = builder.finish(&StdCodecs, &options).expect("a batch");
    assert_eq!(again, built);
    let set = RecordBatchDecoder::decode(&mut again.clone()).expect("they can read it");
    assert_eq!(set.records, records);
}

//! Messages as Apache Kafka wrote them, as the schema tables describe them, and as an enemy would write them.

mod common;

use bytes::Bytes;
use common::random::{self, Rng};
use common::recode;
use wire::api::APIS;
use wire::frame::{RequestHeader, ResponseHeader, encode_any_response};
use wire::messages::{AnyRequest, AnyResponse};
use wire::schema::SCHEMAS;
use wire::{ApiKey, DecodeReason, Reader, Rope, Writer};

fn hex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

struct Frame {
    key: ApiKey,
    version: i16,
    broker: bool,
    request: Rope,
    response: Option<Rope>,
}

fn captured() -> Vec<Frame> {
    let lines = include_str!("data/frames.jsonl").lines();
    lines
        .map(|line| {
            let frame: serde_json::Value = serde_json::from_str(line).expect("JSON");
            Frame {
                key: ApiKey::try_from(frame["key"].as_i64().expect("a key") as i16).expect("an API"),
                version: frame["version"].as_i64().expect("a version") as i16,
                broker: frame["listener"] == "broker",
                request: hex(frame["request"].as_str().expect("bytes")).into(),
                response: frame["response"].as_str().map(|bytes| hex(bytes).into()),
            }
        })
        .collect()
}

#[test]
fn captured_requests_come_back_byte_for_byte() {
    for frame in captured() {
        let mut r = Reader::new(&frame.request);
        let header = RequestHeader::decode(&mut r).unwrap();
        assert_eq!((header.key(), header.api_version), (Some(frame.key), frame.version));
        let body_at = r.position();
        let request = AnyRequest::decode(frame.key, frame.version, &mut r).unwrap();
        r.finish().unwrap();
        assert_eq!(request.key(), frame.key);
        let mut w = Writer::new();
        request.encode(&mut w, frame.version).unwrap();
        let body = frame.request.slice(body_at, frame.request.len() - body_at);
        assert_eq!(w.finish().unwrap(), body, "{} v{}", frame.key, frame.version);
    }
}

#[test]
fn captured_responses_come_back_byte_for_byte() {
    let mut seen = 0;
    for frame in captured() {
        let Some(bytes) = &frame.response else { continue };
        let mut r = Reader::new(bytes);
        let header = ResponseHeader::decode(&mut r, frame.key, frame.version).unwrap();
        let response = AnyResponse::decode(frame.key, frame.version, &mut r).unwrap();
        r.finish().unwrap();
        let again = encode_any_response(frame.version, header.correlation_id, &response).unwrap();
        assert_eq!(again.slice(4, again.len() - 4), *bytes, "{} v{}", frame.key, frame.version);
        let mut size = [0; 4];
        again.copy_to(0, &mut size);
        assert_eq!(u32::from_be_bytes(size) as usize, bytes.len());
        seen += 1;
    }
    assert!(seen > 150, "only {seen} responses were captured");
}

/// What Kafka 4.3.1 advertises is what the table says, but for the telemetry of clients, which it leaves out too.
#[test]
fn advertised_versions_are_kafkas() {
    let mut seen = [false; 2];
    for frame in captured().iter().filter(|f| f.key == ApiKey::ApiVersions && f.version == 4) {
        let bytes = frame.response.as_ref().expect("a response");
        let mut r = Reader::new(bytes);
        ResponseHeader::decode(&mut r, frame.key, frame.version).unwrap();
        let AnyResponse::ApiVersions(response) =
            AnyResponse::decode(frame.key, frame.version, &mut r).unwrap()
        else {
            panic!("another response")
        };
        let kafka: Vec<_> =
            response.api_keys.iter().map(|a| (a.api_key, a.min_version, a.max_version)).collect();
        let ours: Vec<_> = APIS
            .iter()
            .filter(|a| !matches!(a.key, ApiKey::GetTelemetrySubscriptions | ApiKey::PushTelemetry))
            .filter_map(|a| {
                let versions = if frame.broker { a.broker_versions() } else { a.controller_versions() }?;
                Some((a.key as i16, versions.min, versions.max))
            })
            .collect();
        let mut kafka = kafka;
        kafka.sort();
        assert_eq!(kafka, ours, "broker: {}", frame.broker);
        seen[frame.broker as usize] = true;
    }
    assert_eq!(seen, [true; 2]);
}

/// Every message and record, at every version: what the tables describe is what is decoded and encoded.
#[test]
fn generated_messages_come_back_byte_for_byte() {
    for schema in SCHEMAS {
        for version in schema.versions.min..=schema.versions.max {
            for seed in 0..40 {
                let bytes = Rope::from(Bytes::from(random::message(schema, version, &mut Rng::new(seed))));
                match recode(schema, version, &bytes) {
                    Ok(again) => assert_eq!(again, bytes, "{} v{version} seed {seed}", schema.name),
                    Err(e) => panic!("{} v{version} seed {seed}: {e:?}", schema.name),
                }
            }
        }
    }
}

/// However a frame is cut into pieces, it says the same.
#[test]
fn pieces_do_not_matter() {
    let mut rng = Rng::new(7);
    for schema in SCHEMAS {
        for version in schema.versions.min..=schema.versions.max {
            let bytes = Bytes::from(random::message(schema, version, &mut rng));
            let mut rope = Rope::new();
            let mut at = 0;
            while at < bytes.len() {
                let len = (1 + rng.below(9) as usize).min(bytes.len() - at);
                rope.push(bytes.slice(at..at + len));
                at += len;
            }
            let again = recode(schema, version, &rope).unwrap_or_else(|e| panic!("{}: {e:?}", schema.name));
            assert_eq!(again.to_bytes(), bytes, "{} v{version}", schema.name);
        }
    }
}

/// Cut anywhere, a message is an error; followed by anything, too.
#[test]
fn cut_and_trailing_bytes_are_refused() {
    let mut rng = Rng::new(11);
    for schema in SCHEMAS {
        let version = schema.versions.max;
        let bytes = Bytes::from(random::message(schema, version, &mut rng));
        let step = bytes.len() / 50 + 1;
        for len in (0..bytes.len()).step_by(step) {
            assert!(
                recode(schema, version, &bytes.slice(..len).into()).is_err(),
                "{} cut at {len}",
                schema.name
            );
        }
        let longer: Bytes = bytes.iter().copied().chain([0]).collect();
        assert!(recode(schema, version, &longer.into()).is_err(), "{}", schema.name);
    }
}

/// Hostile bytes: nothing panics, and memory stays in proportion to the frame.
#[test]
fn hostile_bytes_reserve_little() {
    let mut rng = Rng::new(13);
    let hostile: [&[u8]; 5] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x80, 0x80, 0x80, 0x80, 0x08],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x7f, 0xff],
    ];
    for schema in SCHEMAS {
        for version in [schema.versions.min, schema.versions.max] {
            let good = random::message(schema, version, &mut rng);
            for _ in 0..30 {
                let mut bad = good.clone();
                let at = rng.below(bad.len() as u64 + 1) as usize;
                let poison = hostile[rng.below(5) as usize];
                bad.splice(at..(at + poison.len()).min(bad.len()), poison.iter().copied());
                let bad = Rope::from(Bytes::from(bad));
                let used = allocation_counter::measure(|| drop(recode(schema, version, &bad)));
                let bound = 100 * bad.len() as u64 + 4096;
                assert!(used.bytes_max < bound, "{} v{version}: {} bytes", schema.name, used.bytes_max);
            }
        }
    }
}

#[test]
fn four_bytes_reserve_nothing() {
    for schema in SCHEMAS {
        for bytes in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xfe, 0xff, 0xff, 0xff, 0x0f], &[0x7f; 96]] {
            for version in schema.versions.min..=schema.versions.max {
                let rope = Rope::from(Bytes::from_static(bytes));
                let used = allocation_counter::measure(|| drop(recode(schema, version, &rope)));
                assert!(used.bytes_max < 16 * 1024, "{} v{version}: {} bytes", schema.name, used.bytes_max);
            }
        }
    }
}

#[test]
fn versions_out_of_range_are_refused() {
    for info in APIS {
        for version in [info.versions.min - 1, info.versions.max + 1] {
            let error = AnyRequest::decode(info.key, version, &mut Reader::from_slice(&[0; 64])).unwrap_err();
            assert_eq!(error.why, DecodeReason::Version(version));
            assert_eq!(error.what, format!("{}Request", info.name));
        }
    }
}

//! Any request or response: decoding never panics, what is decoded can be encoded, and what is encoded comes back as
//! the same bytes.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wire::api::APIS;
use wire::messages::{AnyRequest, AnyResponse};
use wire::{ApiKey, Reader, Rope, Writer};

fuzz_target!(|data: &[u8]| {
    let [which, version, cut, body @ ..] = data else { return };
    let info = &APIS[(*which as usize >> 1) % APIS.len()];
    let span = info.versions.max - info.versions.min + 1;
    let version = info.versions.min + *version as i16 % span;
    // In two pieces, so that values lie across their border.
    let (head, tail) = body.split_at((*cut as usize).min(body.len()));
    let mut frame = Rope::from(Bytes::copy_from_slice(head));
    frame.push(Bytes::copy_from_slice(tail));
    let Some(once) = recode(*which & 1 == 0, info.key, version, &frame) else { return };
    let twice = recode(*which & 1 == 0, info.key, version, &once).expect("what was encoded can be decoded");
    assert_eq!(once, twice);
});

/// Decodes and encodes; none if it cannot be decoded. Bytes may be left after it.
fn recode(request: bool, key: ApiKey, version: i16, frame: &Rope) -> Option<Rope> {
    let mut r = Reader::new(frame);
    let mut w = Writer::new();
    let encoded = if request {
        AnyRequest::decode(key, version, &mut r).ok()?.encode(&mut w, version)
    } else {
        AnyResponse::decode(key, version, &mut r).ok()?.encode(&mut w, version)
    };
    encoded.expect("what was decoded can be encoded");
    Some(w.finish().expect("what was decoded can be encoded"))
}

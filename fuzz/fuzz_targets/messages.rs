//! Any request or response: decoding never panics, what is decoded can be encoded, and what is encoded is decoded to
//! the same message.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wire::api::APIS;
use wire::messages::{AnyRequest, AnyResponse};
use wire::{Reader, Rope, Writer};

fuzz_target!(|data: &[u8]| {
    let [which, version, cut, body @ ..] = data else { return };
    let info = &APIS[(*which as usize >> 1) % APIS.len()];
    let span = info.versions.max - info.versions.min + 1;
    let version = info.versions.min + *version as i16 % span;
    // In two pieces, so that values lie across their border.
    let (head, tail) = body.split_at((*cut as usize).min(body.len()));
    let mut frame = Rope::from(Bytes::copy_from_slice(head));
    frame.push(Bytes::copy_from_slice(tail));
    let mut r = Reader::new(&frame);
    let mut w = Writer::new();
    if which & 1 == 0 {
        let Ok(message) = AnyRequest::decode(info.key, version, &mut r) else { return };
        message.encode(&mut w, version).expect("what was decoded can be encoded");
        let again = w.finish().expect("what was decoded can be encoded");
        let mut r = Reader::new(&again);
        let decoded = AnyRequest::decode(info.key, version, &mut r).expect("what was encoded can be decoded");
        r.finish().expect("nothing is left");
        assert_eq!(format!("{decoded:?}").len(), format!("{message:?}").len());
    } else {
        let Ok(message) = AnyResponse::decode(info.key, version, &mut r) else { return };
        message.encode(&mut w, version).expect("what was decoded can be encoded");
        let again = w.finish().expect("what was decoded can be encoded");
        let mut r = Reader::new(&again);
        AnyResponse::decode(info.key, version, &mut r).expect("what was encoded can be decoded");
        r.finish().expect("nothing is left");
    }
});

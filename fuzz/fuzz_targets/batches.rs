//! Any record batches: walking them never panics, ends, and stays within the bound of decompression.
#![no_main]

use bytes::Bytes;
use codecs::StdCodecs;
use libfuzzer_sys::fuzz_target;
use wire::Rope;
use wire::batch::{Batches, ControlRecord, RecordIter};

const LIMIT: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((cut, body)) = data.split_first() else { return };
    let (head, tail) = body.split_at((*cut as usize).min(body.len()));
    let mut rope = Rope::from(Bytes::copy_from_slice(head));
    rope.push(Bytes::copy_from_slice(tail));
    let mut batches = Batches::new(&rope);
    for batch in batches.by_ref() {
        let Ok(batch) = batch else { break };
        let _ = batch.check_crc(&StdCodecs);
        assert_eq!(batch.header.to_bytes()[..], batch.bytes.to_bytes()[..61]);
        let Ok(records) = batch.records(&StdCodecs, LIMIT) else { continue };
        assert!(records.bytes().len() <= LIMIT.max(batch.bytes.len()));
        for record in RecordIter::new(&batch.header, records.bytes()).flatten() {
            assert_eq!(record.headers.count(), record.headers.len());
            if batch.header.is_control() {
                let _ = ControlRecord::of(&record);
            }
        }
    }
    assert!(batches.trailing() <= rope.len());
});

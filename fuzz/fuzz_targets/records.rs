//! Any record of the metadata log or of a coordinator: decoding never panics, and what is decoded can be encoded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::batch::ControlRecord;
use wire::records::{GroupKey, GroupValue, MetadataRecord, TransactionLogKey, TransactionLogValue};

fuzz_target!(|data: &[u8]| {
    let [which, body @ ..] = data else { return };
    match which % 6 {
        0 => {
            if let Ok((record, version)) = MetadataRecord::decode_versioned(body) {
                let value = record.encode_value_at(version).expect("what was decoded can be encoded");
                // The bytes are compared, not the records: a quota that is not a number is not equal to itself.
                let (again, same) =
                    MetadataRecord::decode_versioned(&value).expect("what was encoded can be decoded");
                assert_eq!((again.encode_value_at(version).expect("as before"), same), (value, version));
            }
        }
        1 => {
            if let Ok(key) = GroupKey::decode(body) {
                assert_eq!(
                    GroupKey::decode(&key.encode().expect("what was decoded can be encoded")),
                    Ok(key)
                );
            }
        }
        2 => {
            let Some((kind, value)) = body.split_first() else { return };
            let _ = GroupValue::decode(*kind as i16, value);
        }
        3 => drop(TransactionLogKey::decode_key(body)),
        4 => drop(TransactionLogValue::decode_value(body)),
        _ => {
            let Some((key, value)) = body.split_first_chunk::<4>() else { return };
            if let Ok(record) = ControlRecord::decode(key, value) {
                let _ = record.encode_value();
            }
        }
    }
});

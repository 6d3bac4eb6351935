//! What the tests share.

pub mod random;

use wire::messages::{AnyRequest, AnyResponse};
use wire::records::*;
use wire::schema::{Kind, Schema};
use wire::{ApiKey, DecodeError, EncodeError, Reader, Record, Rope, Writer};

/// Why a message did not come back.
#[derive(Debug)]
#[allow(dead_code, reason = "for the text of a failure")]
pub enum Failed {
    Decode(DecodeError),
    Encode(EncodeError),
}

impl From<DecodeError> for Failed {
    fn from(e: DecodeError) -> Failed {
        Failed::Decode(e)
    }
}

impl From<EncodeError> for Failed {
    fn from(e: EncodeError) -> Failed {
        Failed::Encode(e)
    }
}

/// Decodes a message of any schema and encodes it again.
pub fn recode(schema: &Schema, version: i16, bytes: &Rope) -> Result<Rope, Failed> {
    let mut r = Reader::new(bytes);
    let mut w = Writer::new();
    match schema.kind {
        Kind::Request => {
            AnyRequest::decode(api(schema), version, &mut r)?.encode(&mut w, version)?;
        }
        Kind::Response => {
            AnyResponse::decode(api(schema), version, &mut r)?.encode(&mut w, version)?;
        }
        Kind::Metadata => {
            MetadataRecord::decode_fields(schema.key, &mut r, version)?.encode_fields(&mut w, version)?;
        }
        Kind::Group if schema.name.ends_with("Key") => {
            GroupKey::decode_fields(schema.key, &mut r, version)?.encode_fields(&mut w, version)?;
        }
        Kind::Group => {
            GroupValue::decode_fields(schema.key, &mut r, version)?.encode_fields(&mut w, version)?;
        }
        Kind::Transaction | Kind::Control | Kind::Protocol | Kind::Storage => {
            other(schema.name, version, &mut r, &mut w)?;
        }
    }
    r.finish()?;
    Ok(w.finish()?)
}

fn api(schema: &Schema) -> ApiKey {
    ApiKey::try_from(schema.key).expect("a schema of an API")
}

fn other(name: &str, version: i16, r: &mut Reader<'_>, w: &mut Writer) -> Result<(), Failed> {
    macro_rules! by_name {
        ($($record:ident)*) => {
            match name {
                $(stringify!($record) => $record::decode(r, version)?.encode(w, version)?,)*
                _ => panic!("{name} is missing here"),
            }
        };
    }
    by_name! {
        TransactionLogKey TransactionLogValue
        AbortedTxn ControlRecordTypeSchema EndTxnMarker KRaftVersionRecord LeaderChangeMessage SnapshotFooterRecord
        SnapshotHeaderRecord VotersRecord
        ConsumerProtocolAssignment ConsumerProtocolSubscription DefaultPrincipalData
        RemoteLogSegmentMetadataRecord RemoteLogSegmentMetadataUpdateRecord RemotePartitionDeleteMetadataRecord
        RemoteLogSegmentMetadataSnapshotRecord ProducerSnapshot
    }
    Ok(())
}

//! How records lie in keys and values of their logs.
//!
//! Metadata records (`AbstractApiMessageSerde.java`): frame version 1, key and version as unsigned varints, then the
//! fields. Coordinators' records (`CoordinatorRecordSerde.java`): the number of the kind, or the version of the
//! value, as an int16, then the fields. So are the subscriptions and assignments of the classic consumer protocol.

use alloc::vec::Vec;

use crate::codec::{DecodeError, DecodeReason, EncodeError, Reader, Record, Writer};
use crate::records::{GroupKey, GroupValue, MetadataRecord, TransactionLogKey, TransactionLogValue};

/// The version of the frame around a metadata record.
const FRAME_VERSION: u32 = 1;

impl MetadataRecord {
    /// Decodes the value of a record of the metadata log.
    pub fn decode_value(value: &[u8]) -> Result<MetadataRecord, DecodeError> {
        Ok(MetadataRecord::decode_versioned(value)?.0)
    }

    /// Decodes the value of a record of the metadata log, and tells its version.
    pub fn decode_versioned(value: &[u8]) -> Result<(MetadataRecord, i16), DecodeError> {
        let mut r = Reader::from_slice(value);
        r.begin("MetadataRecord");
        let frame = r.uvarint()?;
        if frame != FRAME_VERSION {
            return Err(r.error(DecodeReason::Value(frame.into())));
        }
        let key = small(&mut r)?;
        let version = small(&mut r)?;
        let record = MetadataRecord::decode_fields(key, &mut r, version)?;
        r.finish()?;
        Ok((record, version))
    }

    /// The version that Kafka 4.3 writes at metadata.version 4.3-IV0: the latest, but of a change of a broker's
    /// registration the oldest that has what changed (`ReplicationControlManager.java`).
    pub fn version_to_write(&self) -> i16 {
        match self {
            MetadataRecord::BrokerRegistrationChange(change) if change.cordoned_log_dirs.is_some() => 3,
            MetadataRecord::BrokerRegistrationChange(change) if !change.log_dirs.is_empty() => 2,
            MetadataRecord::BrokerRegistrationChange(change) if change.in_controlled_shutdown != 0 => 1,
            MetadataRecord::BrokerRegistrationChange(_) => 0,
            other => other.max_version(),
        }
    }

    /// The value of a record of the metadata log, at the version that Kafka 4.3 writes.
    ///
    /// Panics if a string in it is longer than the format allows, 32,767 bytes: what comes from outside is decoded or
    /// validated before it becomes a record.
    pub fn encode_value(&self) -> Vec<u8> {
        self.encode_value_at(self.version_to_write()).expect("the version has every field that is set")
    }

    /// The value of a record of the metadata log, at `version`.
    pub fn encode_value_at(&self, version: i16) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::with_capacity(64);
        self.write_value(&mut w, version)?;
        w.into_bytes()
    }

    /// Appends the value of a record of the metadata log.
    pub fn write_value(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.uvarint(FRAME_VERSION);
        w.uvarint(self.key() as u32);
        w.uvarint(version as u32);
        self.encode_fields(w, version)
    }
}

/// A key or version that was written as an unsigned varint.
fn small(r: &mut Reader<'_>) -> Result<i16, DecodeError> {
    let value = r.uvarint()?;
    i16::try_from(value).map_err(|_| r.error(DecodeReason::Value(value.into())))
}

/// Keys have one version, 0: a kind whose key changes becomes another kind.
const KEY_VERSION: i16 = 0;

impl GroupKey {
    /// Decodes the key of a record of `__consumer_offsets`.
    pub fn decode(key: &[u8]) -> Result<GroupKey, DecodeError> {
        let mut r = Reader::from_slice(key);
        r.begin("GroupKey");
        let kind = r.i16()?;
        let key = GroupKey::decode_fields(kind, &mut r, KEY_VERSION)?;
        r.finish()?;
        Ok(key)
    }

    /// The key of a record of `__consumer_offsets`.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::with_capacity(64);
        w.i16(self.key());
        self.encode_fields(&mut w, KEY_VERSION)?;
        w.into_bytes()
    }
}

impl GroupValue {
    /// Decodes the value of a record of `__consumer_offsets` whose key is of the kind `kind`.
    pub fn decode(kind: i16, value: &[u8]) -> Result<GroupValue, DecodeError> {
        let mut r = Reader::from_slice(value);
        r.begin("GroupValue");
        let version = r.i16()?;
        let value = GroupValue::decode_fields(kind, &mut r, version)?;
        r.finish()?;
        Ok(value)
    }

    /// The value of a record of `__consumer_offsets`, at `version`.
    pub fn encode(&self, version: i16) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::with_capacity(128);
        w.i16(version);
        self.encode_fields(&mut w, version)?;
        w.into_bytes()
    }
}

/// Decodes an int16 version and the record that follows it, with nothing after it: the values of a coordinator's
/// records, the entries of a transaction index, the snapshots of producers' states.
pub fn decode_versioned<T: Record>(bytes: &[u8]) -> Result<(T, i16), DecodeError> {
    let mut r = Reader::from_slice(bytes);
    r.begin(T::NAME);
    let version = r.i16()?;
    let record = T::decode(&mut r, version)?;
    r.finish()?;
    Ok((record, version))
}

/// Decodes an int16 version and the record that follows it as consumers do with each other's subscriptions and
/// assignments (`ConsumerProtocol.java`): a later version than the latest known is read as that one, and what follows
/// is left.
pub fn decode_versioned_or_later<T: Record>(bytes: &[u8]) -> Result<(T, i16), DecodeError> {
    let mut r = Reader::from_slice(bytes);
    r.begin(T::NAME);
    let version = r.i16()?;
    let record = T::decode(&mut r, version.min(T::MAX_VERSION))?;
    Ok((record, version))
}

/// An int16 version and the record at that version.
pub fn encode_versioned<T: Record>(record: &T, version: i16) -> Result<Vec<u8>, EncodeError> {
    let mut w = Writer::with_capacity(64);
    w.i16(version);
    record.encode(&mut w, version)?;
    w.into_bytes()
}

impl TransactionLogKey {
    /// Decodes the key of a record of `__transaction_state`.
    pub fn decode_key(key: &[u8]) -> Result<TransactionLogKey, DecodeError> {
        Ok(decode_versioned(key)?.0)
    }

    /// The key of a record of `__transaction_state`.
    pub fn encode_key(&self) -> Result<Vec<u8>, EncodeError> {
        encode_versioned(self, KEY_VERSION)
    }
}

impl TransactionLogValue {
    /// Decodes the value of a record of `__transaction_state`.
    pub fn decode_value(value: &[u8]) -> Result<TransactionLogValue, DecodeError> {
        Ok(decode_versioned(value)?.0)
    }

    /// The value of a record of `__transaction_state`, at `version`.
    pub fn encode_value(&self, version: i16) -> Result<Vec<u8>, EncodeError> {
        encode_versioned(self, version)
    }
}

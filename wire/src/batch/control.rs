//! Control records: the end of a transaction, and what the quorum writes into the metadata log.
//!
//! Follows `ControlRecordType.java`, `EndTransactionMarker.java` and `ControlRecordUtils.java`.

use alloc::vec::Vec;

use bytes::Bytes;

use super::builder::{BatchBuilder, BatchOptions};
use super::{BatchError, Record};
use crate::codec::{DecodeReason, Reader, Record as _, Writer};
use crate::codecs::Codecs;
use crate::records::{
    EndTxnMarker, KRaftVersionRecord, LeaderChangeMessage, SnapshotFooterRecord, SnapshotHeaderRecord,
    VotersRecord,
};

/// The kind of a control record: the number in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecordType {
    /// A transaction was aborted.
    Abort,
    /// A transaction was committed.
    Commit,
    /// A leader of the quorum was elected.
    LeaderChange,
    /// The beginning of a snapshot.
    SnapshotHeader,
    /// The end of a snapshot.
    SnapshotFooter,
    /// The version of KRaft.
    KRaftVersion,
    /// The voters of the quorum.
    KRaftVoters,
    /// One that this version does not know; to be skipped.
    Unknown(i16),
}

impl ControlRecordType {
    /// The kind with this number.
    pub fn from_id(id: i16) -> ControlRecordType {
        match id {
            0 => ControlRecordType::Abort,
            1 => ControlRecordType::Commit,
            2 => ControlRecordType::LeaderChange,
            3 => ControlRecordType::SnapshotHeader,
            4 => ControlRecordType::SnapshotFooter,
            5 => ControlRecordType::KRaftVersion,
            6 => ControlRecordType::KRaftVoters,
            other => ControlRecordType::Unknown(other),
        }
    }

    /// Its number.
    pub fn id(self) -> i16 {
        match self {
            ControlRecordType::Abort => 0,
            ControlRecordType::Commit => 1,
            ControlRecordType::LeaderChange => 2,
            ControlRecordType::SnapshotHeader => 3,
            ControlRecordType::SnapshotFooter => 4,
            ControlRecordType::KRaftVersion => 5,
            ControlRecordType::KRaftVoters => 6,
            ControlRecordType::Unknown(id) => id,
        }
    }

    /// Parses the key of a control record: its version, which only grows at the end, and its kind.
    pub fn parse_key(key: &[u8]) -> Result<ControlRecordType, BatchError> {
        let mut r = Reader::from_slice(key);
        r.begin("control record key");
        let version = r.i16()?;
        if version < 0 {
            return Err(r.error(DecodeReason::Version(version)).into());
        }
        Ok(ControlRecordType::from_id(r.i16()?))
    }

    /// The key of a control record.
    pub fn key(self) -> [u8; 4] {
        let [high, low] = self.id().to_be_bytes();
        [0, 0, high, low]
    }
}

/// A control record.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlRecord {
    /// A transaction was aborted.
    Abort(EndTxnMarker),
    /// A transaction was committed.
    Commit(EndTxnMarker),
    /// A leader of the quorum was elected.
    LeaderChange(LeaderChangeMessage),
    /// The beginning of a snapshot.
    SnapshotHeader(SnapshotHeaderRecord),
    /// The end of a snapshot.
    SnapshotFooter(SnapshotFooterRecord),
    /// The version of KRaft.
    KRaftVersion(KRaftVersionRecord),
    /// The voters of the quorum.
    KRaftVoters(VotersRecord),
    /// One that this version does not know; to be skipped.
    Unknown(i16),
}

impl ControlRecord {
    /// Its kind.
    pub fn kind(&self) -> ControlRecordType {
        match self {
            ControlRecord::Abort(_) => ControlRecordType::Abort,
            ControlRecord::Commit(_) => ControlRecordType::Commit,
            ControlRecord::LeaderChange(_) => ControlRecordType::LeaderChange,
            ControlRecord::SnapshotHeader(_) => ControlRecordType::SnapshotHeader,
            ControlRecord::SnapshotFooter(_) => ControlRecordType::SnapshotFooter,
            ControlRecord::KRaftVersion(_) => ControlRecordType::KRaftVersion,
            ControlRecord::KRaftVoters(_) => ControlRecordType::KRaftVoters,
            ControlRecord::Unknown(id) => ControlRecordType::Unknown(*id),
        }
    }

    /// Decodes a record of a control batch.
    pub fn of(record: &Record<'_>) -> Result<ControlRecord, BatchError> {
        let (Some(key), Some(value)) = (record.key, record.value) else {
            return Err(BatchError::Record("a control record lacks its key or value"));
        };
        ControlRecord::decode(key, value)
    }

    /// Decodes a control record. Every value begins with its version; later versions only add to the end, so that
    /// the latest known one is read and the rest is left.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<ControlRecord, BatchError> {
        Ok(match ControlRecordType::parse_key(key)? {
            ControlRecordType::Abort => ControlRecord::Abort(after_version(value)?),
            ControlRecordType::Commit => ControlRecord::Commit(after_version(value)?),
            ControlRecordType::LeaderChange => ControlRecord::LeaderChange(with_version(value)?),
            ControlRecordType::SnapshotHeader => ControlRecord::SnapshotHeader(with_version(value)?),
            ControlRecordType::SnapshotFooter => ControlRecord::SnapshotFooter(with_version(value)?),
            ControlRecordType::KRaftVersion => ControlRecord::KRaftVersion(with_version(value)?),
            ControlRecordType::KRaftVoters => ControlRecord::KRaftVoters(with_version(value)?),
            ControlRecordType::Unknown(id) => ControlRecord::Unknown(id),
        })
    }

    /// The value. That of an unknown kind is empty.
    pub fn encode_value(&self) -> Result<Vec<u8>, BatchError> {
        let mut w = Writer::with_capacity(64);
        match self {
            ControlRecord::Abort(it) | ControlRecord::Commit(it) => {
                w.i16(EndTxnMarker::MAX_VERSION);
                it.encode(&mut w, EndTxnMarker::MAX_VERSION)?;
            }
            ControlRecord::LeaderChange(it) => it.encode(&mut w, it.version)?,
            ControlRecord::SnapshotHeader(it) => it.encode(&mut w, it.version)?,
            ControlRecord::SnapshotFooter(it) => it.encode(&mut w, it.version)?,
            ControlRecord::KRaftVersion(it) => it.encode(&mut w, it.version)?,
            ControlRecord::KRaftVoters(it) => it.encode(&mut w, it.version)?,
            ControlRecord::Unknown(_) => {}
        }
        Ok(w.into_bytes()?)
    }
}

fn version_of<T: crate::codec::Record>(r: &mut Reader<'_>) -> Result<i16, BatchError> {
    r.begin(T::NAME);
    let version = r.i16()?;
    if version < T::MIN_VERSION {
        return Err(r.error(DecodeReason::Version(version)).into());
    }
    Ok(version.min(T::MAX_VERSION))
}

/// A version, and the record after it.
fn after_version<T: crate::codec::Record>(value: &[u8]) -> Result<T, BatchError> {
    let mut r = Reader::from_slice(value);
    let version = version_of::<T>(&mut r)?;
    Ok(T::decode(&mut r, version)?)
}

/// A record whose first field is its version.
fn with_version<T: crate::codec::Record>(value: &[u8]) -> Result<T, BatchError> {
    let mut r = Reader::from_slice(value);
    let version = version_of::<T>(&mut r.clone())?;
    Ok(T::decode(&mut r, version)?)
}

/// A batch of control records, uncompressed and without a producer, as the quorum writes them.
pub fn control_batch(
    codecs: &dyn Codecs,
    base_offset: i64,
    leader_epoch: i32,
    timestamp: i64,
    records: &[ControlRecord],
) -> Result<Bytes, BatchError> {
    let mut builder = BatchBuilder::with_capacity(256);
    for record in records {
        builder.append(timestamp, Some(&record.kind().key()), Some(&record.encode_value()?), &[]);
    }
    builder
        .finish(codecs, &BatchOptions { base_offset, leader_epoch, control: true, ..BatchOptions::default() })
}

/// The marker that ends a producer's transaction in a partition.
pub fn end_txn_marker_batch(
    codecs: &dyn Codecs,
    options: &BatchOptions,
    timestamp: i64,
    commit: bool,
    coordinator_epoch: i32,
) -> Result<Bytes, BatchError> {
    let marker = EndTxnMarker { coordinator_epoch };
    let record = if commit { ControlRecord::Commit(marker) } else { ControlRecord::Abort(marker) };
    let mut builder = BatchBuilder::with_capacity(96);
    builder.append(timestamp, Some(&record.kind().key()), Some(&record.encode_value()?), &[]);
    builder.finish(codecs, &BatchOptions { transactional: true, control: true, ..*options })
}

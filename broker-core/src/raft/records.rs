//! The batches of the metadata log and its snapshots: metadata records, and the control records of the quorum.
//!
//! A metadata record's value is framed by the version of the frame, its kind and its version, all unsigned varints
//! (`AbstractApiMessageSerde`). Nothing in a log or a snapshot is trusted: what cannot be read is an error.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::batch::{Batch, BatchError, BatchHeader, Batches, ControlRecord};
use wire::drive::Endpoint;
use wire::records::{KRaftVersionRecord, LeaderChangeMessage, MetadataRecord, VotersRecord};
use wire::records::{leader_change_message, voters_record};
use wire::{Codecs, DecodeError, Reader, Rope, Uuid, Writer};

use super::voters::{ReplicaKey, VoterNode, VoterSet};
use crate::metadata::record_version;

const FRAME_VERSION: u32 = 1;

/// A batch is not larger than this when it is decompressed.
const DECOMPRESSED_LIMIT: usize = 64 << 20;

/// Why what stands in a log or snapshot cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// A batch or a record in it is damaged.
    #[error("{0}")]
    Batch(#[from] BatchError),
    /// A record's value is not what its kind and version say.
    #[error("{0}")]
    Value(#[from] DecodeError),
    /// A record's frame has another version.
    #[error("unknown metadata record frame version {0}")]
    Frame(u32),
    /// A record of a data batch has no value.
    #[error("a metadata record at offset {0} has no value")]
    Null(i64),
}

/// The framed value of a record, in the version that a level of `metadata.version` asks for.
pub(super) fn encode_record(record: &MetadataRecord, metadata_version: i16) -> Vec<u8> {
    let version = record_version(record, metadata_version);
    let mut w = Writer::with_capacity(64);
    w.uvarint(FRAME_VERSION);
    w.uvarint(record.key() as u32);
    w.uvarint(version as u32);
    record.encode_fields(&mut w, version).expect("a record has a version that can say what it says");
    w.into_bytes().expect("checked just now")
}

fn decode_record(offset: i64, value: Option<&[u8]>) -> Result<MetadataRecord, RecordsError> {
    let mut r = Reader::from_slice(value.ok_or(RecordsError::Null(offset))?);
    let frame = r.uvarint()?;
    if frame != FRAME_VERSION {
        return Err(RecordsError::Frame(frame));
    }
    let bounded = |number: u32| i16::try_from(number).unwrap_or(-1);
    let key = bounded(r.uvarint()?);
    let version = bounded(r.uvarint()?);
    let record = MetadataRecord::decode_fields(key, &mut r, version)?;
    r.finish()?;
    Ok(record)
}

/// A batch, read.
#[derive(Clone, Debug)]
pub(super) struct MetadataBatch {
    pub(super) header: BatchHeader,
    pub(super) content: Content,
}

/// What a batch holds.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Data(Vec<MetadataRecord>),
    Control(Vec<ControlRecord>),
}

/// Reads the whole batches of a piece of the log or of a snapshot, in order.
pub(super) fn read_batches(
    records: &Rope,
    codecs: &dyn Codecs,
    mut each: impl FnMut(MetadataBatch) -> Result<(), RecordsError>,
) -> Result<(), RecordsError> {
    for batch in Batches::new(records) {
        each(read_batch(&batch?, codecs)?)?;
    }
    Ok(())
}

/// Reads the control batches only, with the offset of each record: data is passed over by its headers.
pub(super) fn read_control_records(
    records: &Rope,
    codecs: &dyn Codecs,
    mut each: impl FnMut(i64, ControlRecord),
) -> Result<(), RecordsError> {
    for batch in Batches::new(records) {
        let batch = batch?;
        if !batch.header.is_control() {
            continue;
        }
        for record in &batch.records(codecs, DECOMPRESSED_LIMIT)? {
            let record = record?;
            each(record.offset, ControlRecord::of(&record)?);
        }
    }
    Ok(())
}

fn read_batch(batch: &Batch, codecs: &dyn Codecs) -> Result<MetadataBatch, RecordsError> {
    let records = batch.records(codecs, DECOMPRESSED_LIMIT)?;
    let content = if batch.header.is_control() {
        let control = records.iter().map(|record| ControlRecord::of(&record?)).collect::<Result<_, _>>();
        Content::Control(control?)
    } else {
        let mut data = Vec::with_capacity(batch.header.record_count.clamp(0, 4_096) as usize);
        for record in &records {
            let record = record?;
            data.push(decode_record(record.offset, record.value)?);
        }
        Content::Data(data)
    };
    Ok(MetadataBatch { header: batch.header, content })
}

/// The control record with which an epoch begins.
pub(super) fn leader_change(leader: i32, voters: &VoterSet, granting: &[i32]) -> ControlRecord {
    let voter = |id| leader_change_message::Voter { voter_id: id, voter_directory_id: Uuid::ZERO };
    ControlRecord::LeaderChange(LeaderChangeMessage {
        version: 0,
        leader_id: leader,
        voters: voters.ids().map(voter).collect(),
        granting_voters: granting.iter().copied().map(voter).collect(),
    })
}

/// The control record that sets kraft.version.
pub(super) fn kraft_version(version: i16) -> ControlRecord {
    ControlRecord::KRaftVersion(KRaftVersionRecord { version: 0, kraft_version: version })
}

/// The control record that sets the voters.
pub(super) fn voters_record(voters: &VoterSet) -> ControlRecord {
    let voter = |node: &VoterNode| voters_record::Voter {
        voter_id: node.key.id,
        voter_directory_id: node.key.directory_id,
        endpoints: node.listeners.iter().map(endpoint).collect(),
        kraft_version_feature: voters_record::KRaftVersionFeature {
            min_supported_version: node.supported_kraft_versions.0,
            max_supported_version: node.supported_kraft_versions.1,
        },
    };
    ControlRecord::KRaftVoters(VotersRecord {
        version: 0,
        voters: voters.nodes().iter().map(voter).collect(),
    })
}

fn endpoint((name, at): &(Arc<str>, Endpoint)) -> voters_record::Endpoint {
    voters_record::Endpoint { name: name.to_string(), host: at.host.to_string(), port: at.port }
}

/// The voters that a control record names.
pub(super) fn voter_set(record: &VotersRecord) -> VoterSet {
    let node = |voter: &voters_record::Voter| VoterNode {
        key: ReplicaKey::new(voter.voter_id, voter.voter_directory_id),
        listeners: voter
            .endpoints
            .iter()
            .map(|e| (Arc::from(e.name.as_str()), Endpoint::new(e.host.as_str(), e.port)))
            .collect(),
        supported_kraft_versions: (
            voter.kraft_version_feature.min_supported_version,
            voter.kraft_version_feature.max_supported_version,
        ),
    };
    VoterSet::new(record.voters.iter().map(node).collect())
}

//! What a replica reads of its disk before it begins: the election state, and the voters in the log and its snapshot.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use wire::Codecs;
use wire::drive::Endpoint;

use super::log::MetadataLog;
use super::quorum_state_file::{ElectionState, FILE_NAME, QuorumStateError};
use super::voters::VoterHistory;
use super::{OpenError, RaftConfig, records, snapshot};
use crate::disk::{Disk, DiskError};

/// The first of the numbers under which bootstrap servers are asked; -1 means no node everywhere.
pub(super) const FIRST_BOOTSTRAP_PEER: i32 = -2;

/// Whom to ask for the leader.
pub(super) fn bootstrap_peers(config: &RaftConfig) -> Vec<i32> {
    if !config.voters.is_empty() {
        return config.voters.ids().filter(|id| *id != config.node_id).collect();
    }
    let own = |at: &Endpoint| config.listeners.iter().any(|(_, own)| own == at);
    let servers = config.bootstrap_servers.iter().enumerate().filter(|(_, at)| !own(at));
    servers.map(|(i, _)| FIRST_BOOTSTRAP_PEER - i as i32).collect()
}

/// Reads the file `quorum-state`; none on a new disk.
pub(super) fn read_election_state(
    dir: &str,
    disk: &mut dyn Disk,
) -> Result<Option<ElectionState>, OpenError> {
    let path = format!("{dir}/{FILE_NAME}");
    match disk.read_file(&path) {
        Ok(bytes) => {
            let text = core::str::from_utf8(&bytes).map_err(|_| QuorumStateError("not UTF-8".to_string()))?;
            Ok(Some(ElectionState::parse(text)?))
        }
        Err(DiskError::NotFound) => Ok(None),
        Err(error) => Err(OpenError::Disk { path, error }),
    }
}

/// Reads the voters and kraft.version from the latest snapshot and the log behind it.
pub(super) fn read_voters(
    log: &MetadataLog,
    voters: &mut VoterHistory,
    disk: &mut dyn Disk,
    codecs: &dyn Codecs,
) -> Result<(), OpenError> {
    let records_error = |error: records::RecordsError| OpenError::Records(error.to_string());
    if let Some(id) = log.latest_snapshot() {
        let path = snapshot::SnapshotName::whole(id).path(log.dir());
        let bytes = snapshot::read_file(disk, &path).map_err(|error| OpenError::Disk { path, error })?;
        let at = if id.offset == 0 { -1 } else { id.offset - 1 };
        records::read_control_records(&bytes, codecs, |_, record| voters.learn(at, &record))
            .map_err(records_error)?;
    }
    let mut offset = log.start_offset();
    while offset < log.end_offset() {
        let piece = log.read(disk, offset, log.end_offset(), 1 << 20);
        let piece = piece.map_err(|error| OpenError::Records(error.to_string()))?;
        records::read_control_records(&piece, codecs, |at, record| voters.learn(at, &record))
            .map_err(records_error)?;
        let last = wire::batch::Batches::new(&piece).filter_map(Result::ok).last();
        let Some(last) = last else {
            return Err(OpenError::Records(format!("no batch at offset {offset}")));
        };
        offset = last.header.next_offset();
    }
    Ok(())
}

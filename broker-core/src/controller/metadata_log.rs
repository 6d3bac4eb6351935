//! What the controller needs of the quorum: to append to the metadata log.

use wire::records::MetadataRecord;

use crate::ctx::Ctx;
use crate::raft::{AppendError, AppendedAt, Raft};

/// The metadata log of the quorum's leader.
pub trait MetadataLog {
    /// The offset that the next appended record will have: it is the epoch of a broker that registers.
    fn next_offset(&self) -> i64;

    /// Appends records, which stay together: either all of them become part of the log, or none.
    fn append(&mut self, ctx: &mut Ctx<'_>, records: &[MetadataRecord]) -> Result<AppendedAt, AppendError>;
}

impl MetadataLog for Raft {
    fn next_offset(&self) -> i64 {
        self.next_append_offset()
    }

    fn append(&mut self, ctx: &mut Ctx<'_>, records: &[MetadataRecord]) -> Result<AppendedAt, AppendError> {
        Raft::append(self, ctx, records)
    }
}

//! What the controller needs of the quorum: to append to the metadata log.

use wire::records::MetadataRecord;

use crate::ctx::Ctx;

/// Where appended records stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedAt {
    /// The offset of the first.
    pub base_offset: i64,
    /// The offset of the last.
    pub last_offset: i64,
}

/// This node does not lead the quorum any more. It will hear of that; until then nothing can be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node does not lead the quorum")]
pub struct NotLeader;

/// The metadata log of the quorum's leader.
pub trait MetadataLog {
    /// The offset that the next appended record will have: it is the epoch of a broker that registers.
    fn next_offset(&self) -> i64;

    /// Appends records, which stay together: either all of them become part of the log, or none.
    fn append(&mut self, ctx: &mut Ctx<'_>, records: &[MetadataRecord]) -> Result<AppendedAt, NotLeader>;
}

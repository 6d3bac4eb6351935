//! Leader epochs and where each began (KIP-101, KIP-279): Kafka's `LeaderEpochFileCache`.

/// An epoch and the offset of the first record that may bear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochEntry {
    /// The leader epoch.
    pub epoch: i32,
    /// Where it began.
    pub start_offset: i64,
}

//! Mutants of a node: bugs that Kafka had, and slips that anybody could make, each behind a switch at the very place
//! where it was.
//!
//! They prove that checkers fire: each is found by blind exploration (`mutants.md` says by which checker). A node has
//! the set in [`NodeConfig::mutants`](crate::config::NodeConfig::mutants) and whoever needs it in its own settings; a
//! build without the feature `mutants` has none of this code.

wire::mutants! {
    /// A bug that can be switched on.
    pub enum Mutant;
    /// The bugs that are switched on in a node.
    pub struct Mutants;

    /// A follower cuts its log at its own high watermark, which lags one fetch behind, and not where its epochs part from
    /// the leader's: acknowledged records go when both replicas restart, and logs diverge.
    TruncateToHighWatermark = "truncate-to-high-watermark", "KIP-101, Kafka up to 0.10.2";
    /// The high watermark of a leader is its own log end: consumers read what no follower has.
    HighWatermarkIsLogEnd = "high-watermark-is-log-end", "a slip";
    /// Acks=all is answered as soon as the leader has appended.
    AckBeforeReplication = "ack-before-replication", "a slip";
}

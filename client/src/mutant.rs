//! Mutants of clients: bugs behind switches, so that checkers can be seen to find them.
//!
//! A client of a scenario has the set in its [`CommonConfig`](crate::config::CommonConfig); a build without the feature
//! `mutants` has none of this code. The final reader of a run has none either: the checkers take its word.

wire::mutants! {
    /// A bug that can be switched on.
    pub enum Mutant;
    /// The bugs that are switched on in a client.
    pub struct Mutants;

    /// A batch that is sent again bears a new sequence number: the leader does not know it again.
    NewSequenceOnRetry = "new-sequence-on-retry", "a slip";
    /// A consumer of committed transactions hands out those that it was told were aborted.
    AbortedNotFiltered = "aborted-not-filtered", "a slip";
    /// A consumer goes on at its offset when another leader's epoch begins, and does not ask whether that leader has what it
    /// has read.
    PositionNotValidated = "position-not-validated", "KIP-320, Kafka up to 2.0";
    /// The leader of a group gives one partition to two members.
    PartitionGivenTwice = "partition-given-twice", "a slip";
}

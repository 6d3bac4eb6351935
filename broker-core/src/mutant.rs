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

    // --- replication

    /// A follower cuts its log at its own high watermark, which lags one fetch behind, and not where its epochs part from
    /// the leader's: acknowledged records go when both replicas restart, and logs diverge.
    TruncateToHighWatermark = "truncate-to-high-watermark", "KIP-101, Kafka up to 0.10.2";
    /// The answer to a follower says where an epoch ends and not which one: after two elections in short order, a follower
    /// with records of an epoch that the leader never had keeps them.
    EpochEndWithoutEpoch = "epoch-end-without-epoch", "KIP-279, Kafka 0.11 to 1.1";
    /// Nobody compares the leader epoch that a request bears: a fetch that was long on its way counts for a leadership in
    /// which its sender has another log.
    StaleFetchAccepted = "stale-fetch-accepted", "KIP-320, Kafka up to 2.0";
    /// A follower whose log parts from the leader's is told so, and its position counts all the same: the high watermark
    /// passes what it does not have.
    DivergingFetchCounts = "diverging-fetch-counts", "KAFKA-13141, Kafka 2.7.0, 2.7.1 and 2.8.0";
    /// A follower joins the ISR at the leader's high watermark, which lags in a new leadership: it lacks records that were
    /// committed before.
    JoinsBelowEpochStart = "joins-below-epoch-start", "KAFKA-7128, Kafka up to 2.0.0";
    /// Whoever leaves the ISR does not hold the high watermark back from the moment on at which the leader asks for it: the
    /// controller may still elect him.
    ShrinkBeforeCommitted = "shrink-before-committed", "KIP-497 (the maximal ISR), a slip";
    /// A broker that is fenced, on its way out, or another incarnation than the one that fetched, joins the ISR.
    StaleReplicaJoins = "stale-replica-joins", "KIP-841 and KIP-903, Kafka up to 3.4";
    /// The high watermark of a leader is its own log end: consumers read what no follower has.
    HighWatermarkIsLogEnd = "high-watermark-is-log-end", "a slip";
    /// The high watermark is what more than half of the replicas have, as in Raft: a replica outside of the ISR counts, and
    /// one inside does not.
    HighWatermarkByMajority = "high-watermark-by-majority", "a slip";
    /// Acks=all is answered as soon as the leader has appended.
    AckBeforeReplication = "ack-before-replication", "a slip";
    /// Acks=all is answered, and the high watermark moves, with fewer members in the ISR than `min.insync.replicas`.
    MinIsrIgnored = "min-isr-ignored", "KAFKA-15583, Kafka up to 3.6, as far as the high watermark is concerned";
    /// Consumers read up to the log end.
    FetchAboveHighWatermark = "fetch-above-high-watermark", "a slip";

    /// A new leader tells where its log ends for consumers before its high watermark has reached the start of its epoch:
    /// the end goes back.
    EndOffsetBelowEpochStart = "end-offset-below-epoch-start", "KIP-207, Kafka up to 2.1";

    // --- elections of leaders

    /// Any replica that is alive is elected, cleanly as it is told, whether or not it is in the ISR.
    LeaderNotFromIsr = "leader-not-from-isr", "a slip";
    /// A leader is elected uncleanly although the topic does not allow it.
    UncleanAlthoughDisabled = "unclean-although-disabled", "KIP-106, what every topic did by default up to 0.10.2";
    /// A broker that comes back from an unclean shutdown stays in ISR and ELR: it may have lost what it had.
    UncleanShutdownKeepsIsr = "unclean-shutdown-keeps-isr", "KIP-966, Kafka up to 3.9";

    // --- logs

    /// Recovery leaves the last batch of a segment out.
    RecoveryDropsLastBatch = "recovery-drops-last-batch", "a slip";
    /// The cleaner drops the last value of a key.
    CompactionDropsLastValue = "compaction-drops-last-value", "a slip";
    /// What is known of producers is not there any more after a restart: a batch that comes again is appended again.
    ProducerStateLost = "producer-state-lost", "KAFKA-5793 and KIP-360, in another form";
    /// Only the last batch of a producer is recognised when it comes again.
    DuplicateWindowOfOne = "duplicate-window-of-one", "KAFKA-5494, as idempotence was before it had five";
    /// A batch is appended whatever sequence number it bears.
    SequenceNotChecked = "sequence-not-checked", "a slip";

    /// The mark of a clean shutdown outlives the start: whatever ends the process then is taken for a clean shutdown, and
    /// nothing is recovered.
    CleanMarkKept = "clean-mark-kept", "KAFKA-10471, Kafka up to 2.7, where it outlived the loading of logs";

    // --- transactions

    /// Neither the coordinator nor a log looks at the epoch of a producer: one that was fenced goes on.
    ZombieNotFenced = "zombie-not-fenced", "a slip against KIP-98";
    /// The first batch of a transaction is appended without its partition being in the transaction: nobody ends it there.
    PartitionNotAdded = "partition-not-added", "KAFKA-14402 and KIP-890, Kafka up to 3.5, in another form";
    /// One partition of several gets no marker.
    MarkerLeftOut = "marker-left-out", "a slip";
    /// A marker is taken whose epoch is that of the next transaction: a late one ends what it does not belong to.
    LateMarkerAccepted = "late-marker-accepted", "KAFKA-19367 and KIP-1228, Kafka 4.0 and 4.1";
    /// The end of a transaction that comes late, with the epoch of the transaction before, ends the one that is open.
    LateEndAccepted = "late-end-accepted", "KIP-890, Kafka up to 3.9, where both had one epoch";
    /// The last stable offset lies one behind the first record of an open transaction.
    LastStableOffsetOffByOne = "last-stable-offset-off-by-one", "a slip";
    /// Readers of committed transactions get everything up to the high watermark.
    ReadCommittedToHighWatermark = "read-committed-to-high-watermark", "a slip";
    /// Aborted transactions are not told to readers of committed ones.
    AbortedTransactionNotIndexed = "aborted-transaction-not-indexed", "a slip";
    /// The offsets of a transaction do not take their place when its marker comes.
    TransactionOffsetsDropped = "transaction-offsets-dropped", "KAFKA-17507, Kafka up to 3.9.0";

    // --- groups

    /// A commit of offsets is answered once it is appended.
    CommitAckedUnreplicated = "commit-acked-unreplicated", "a slip";
    /// Whoever is not in the group any more, or of an earlier generation, may commit.
    ZombieCommitAccepted = "zombie-commit-accepted", "a slip";
    /// What groups have committed for a topic outlives it, and is theirs in the next topic of that name.
    OffsetsOutliveTopic = "offsets-outlive-topic", "a slip; the trouble with names of KAFKA-12257 and KIP-516";
    /// A partition is handed out before its owner has given it up (consumer protocol).
    GivenBeforeRevoked = "given-before-revoked", "a slip against KIP-848";

    // --- the quorum

    /// The epoch is persisted, and the vote is in memory alone.
    VoteNotPersisted = "vote-not-persisted", "a slip";
    /// A voter votes again in an epoch in which it has voted.
    TwoVotes = "two-votes", "a slip";
    /// A candidate whose log is shorter than the voter's gets the vote.
    VoteForShorterLog = "vote-for-shorter-log", "a slip";
    /// A voter that hears nothing of its leader is a candidate at once, and does not ask before whether it could win.
    PreVoteLeftOut = "pre-vote-left-out", "KIP-996, Kafka up to 3.9";
    /// Metadata is committed by one voter fewer than a majority has.
    MetadataCommittedByMinority = "metadata-committed-by-minority", "a slip";
    /// Metadata of an earlier epoch is committed by its replicas alone (Raft, figure 8).
    MetadataCommittedOfEarlierEpoch = "metadata-committed-of-earlier-epoch", "a slip";
    /// A voter fetches on before it has flushed what it fetched, which tells the leader that it has.
    VoterFetchesUnflushed = "voter-fetches-unflushed", "a slip";
}

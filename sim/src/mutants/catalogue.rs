//! Which checker must find which mutant, and a run in which it does; and which mutants no checker must find.

/// What is promised of a mutant.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The mutant's name.
    pub mutant: &'static str,
    /// One of these checkers finds it.
    pub checkers: &'static [&'static str],
    /// A scenario of `scenarios/explore` and a seed with which one does.
    pub run: (&'static str, u64),
}

/// The mutants that exploration finds, each with the first run in which it does.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        mutant: "truncate-to-high-watermark",
        checkers: &["LeaderCandidateCompleteness", "LeaderCompleteness", "LogMatching"],
        run: ("replication", 1),
    },
    Entry {
        mutant: "epoch-end-without-epoch",
        checkers: &["LogMatching", "MonotonicEpoch"],
        run: ("unclean", 19),
    },
    Entry {
        mutant: "diverging-fetch-counts",
        checkers: &["LeaderCandidateCompleteness", "StrongIsr", "LeaderCompleteness"],
        run: ("transactions", 8),
    },
    Entry {
        mutant: "joins-below-epoch-start",
        checkers: &["LeaderCandidateCompleteness", "LeaderCompleteness"],
        run: ("replication", 5),
    },
    Entry {
        mutant: "shrink-before-committed",
        checkers: &["StrongIsr", "LeaderCandidateCompleteness"],
        run: ("replication", 1),
    },
    Entry {
        mutant: "stale-replica-joins",
        checkers: &["EligibleIsr", "LeaderCandidateCompleteness"],
        run: ("transactions", 2),
    },
    Entry { mutant: "high-watermark-is-log-end", checkers: &["StrongIsr"], run: ("replication", 1) },
    Entry { mutant: "high-watermark-by-majority", checkers: &["StrongIsr"], run: ("replication", 1) },
    Entry { mutant: "ack-before-replication", checkers: &["lost-write"], run: ("transactions", 1) },
    Entry { mutant: "min-isr-ignored", checkers: &["LeaderCandidateCompleteness"], run: ("replication", 1) },
    Entry {
        mutant: "fetch-above-high-watermark",
        checkers: &["ConsistentRead", "nonmonotonic-poll", "inconsistent-offsets"],
        run: ("groups", 3),
    },
    Entry {
        mutant: "leader-not-from-isr",
        checkers: &["ReplicationQuorumSuperset", "ConsistentRead", "LeaderInIsr"],
        run: ("replication", 1),
    },
    Entry {
        mutant: "unclean-although-disabled",
        checkers: &["ConsistentRead", "lost-write", "inconsistent-offsets", "LeaderCompleteness"],
        run: ("replication", 1),
    },
    Entry {
        mutant: "unclean-shutdown-keeps-isr",
        checkers: &["UncleanShutdownLeavesIsr"],
        run: ("replication", 1),
    },
    Entry { mutant: "clean-mark-kept", checkers: &["CleanMarkHoldsOnce"], run: ("unclean", 7) },
    Entry {
        mutant: "recovery-drops-last-batch",
        checkers: &["RecoveryKeepsPromised"],
        run: ("replication", 1),
    },
    Entry { mutant: "compaction-drops-last-value", checkers: &["lost-write"], run: ("chaos", 1) },
    Entry {
        mutant: "producer-state-lost",
        checkers: &["duplicate", "ContiguousSequences"],
        run: ("replication", 2),
    },
    Entry {
        mutant: "duplicate-window-of-one",
        checkers: &["duplicate", "ContiguousSequences"],
        run: ("late", 8),
    },
    Entry {
        mutant: "sequence-not-checked",
        checkers: &["ContiguousSequences", "duplicate", "nonmonotonic-send"],
        run: ("replication", 9),
    },
    Entry { mutant: "zombie-not-fenced", checkers: &["NoZombieWrites"], run: ("late", 1) },
    Entry { mutant: "partition-not-added", checkers: &["HangingTransaction"], run: ("transactions", 1) },
    Entry { mutant: "marker-left-out", checkers: &["HangingTransaction"], run: ("transactions", 1) },
    Entry { mutant: "late-marker-accepted", checkers: &["G1a", "lost-write"], run: ("late", 15) },
    Entry { mutant: "late-end-accepted", checkers: &["G1a"], run: ("late", 11) },
    Entry {
        mutant: "last-stable-offset-off-by-one",
        checkers: &["precommitted-read"],
        run: ("transactions", 1),
    },
    Entry {
        mutant: "read-committed-to-high-watermark",
        checkers: &["precommitted-read"],
        run: ("transactions", 1),
    },
    Entry { mutant: "aborted-transaction-not-indexed", checkers: &["G1a"], run: ("transactions", 1) },
    Entry { mutant: "transaction-offsets-dropped", checkers: &["ExactlyOnce"], run: ("transactions", 1) },
    Entry {
        mutant: "commit-acked-unreplicated",
        checkers: &["CommittedOffsetMonotonic"],
        run: ("groups", 26),
    },
    Entry { mutant: "zombie-commit-accepted", checkers: &["CommittedOffsetMonotonic"], run: ("groups", 8) },
    Entry {
        mutant: "given-before-revoked",
        checkers: &["SingleOwnerPerGeneration"],
        run: ("replication", 1),
    },
    Entry { mutant: "vote-not-persisted", checkers: &["OneVotePerEpoch"], run: ("elections", 3) },
    Entry { mutant: "two-votes", checkers: &["OneVotePerEpoch"], run: ("elections", 1) },
    Entry {
        mutant: "vote-for-shorter-log",
        checkers: &["CommittedMetadataNeverLost"],
        run: ("elections", 1),
    },
    Entry { mutant: "pre-vote-left-out", checkers: &["PreVoteBeforeVote"], run: ("chaos", 1) },
    Entry {
        mutant: "metadata-committed-by-minority",
        checkers: &["CommittedMetadataNeverLost"],
        run: ("elections", 1),
    },
    Entry { mutant: "metadata-committed-of-earlier-epoch", checkers: &["OwnEpochFirst"], run: ("chaos", 1) },
    Entry { mutant: "voter-fetches-unflushed", checkers: &["FlushedBeforeCounted"], run: ("chaos", 1) },
    Entry { mutant: "new-sequence-on-retry", checkers: &["duplicate"], run: ("late", 1) },
    Entry { mutant: "aborted-not-filtered", checkers: &["G1a"], run: ("transactions", 1) },
    Entry {
        mutant: "partition-given-twice",
        checkers: &["SingleOwnerPerGeneration"],
        run: ("replication", 1),
    },
];

/// The mutants that no checker is held to finding, and why.
pub const UNPROVEN: &[(&str, &str)] = &[
    (
        "end-offset-below-epoch-start",
        "Who compares the ends that two leaders told sees it, and no client of a scenario does. `scenarios/anomalies` is the place for it (A32).",
    ),
    (
        "offsets-outlive-topic",
        "Kafka promises nothing: brokers delete the offsets of a topic that is gone as well as they can. `scenarios/anomalies` is the place for it (A40).",
    ),
    (
        "position-not-validated",
        "What a consumer misses after an unclean election nobody had promised. `scenarios/anomalies` is the place for it (A04).",
    ),
    (
        "stale-fetch-accepted",
        "A fetch also names the epoch of its last record (KIP-595), which the leader compares with its log: that alone keeps replicas right, and what a consumer misses after an unclean election nobody had promised. `scenarios/anomalies` is the place for it (A04).",
    ),
];

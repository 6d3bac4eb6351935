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
        run: ("chaos", 1),
    },
    Entry {
        mutant: "epoch-end-without-epoch",
        checkers: &["LogMatching", "MonotonicEpoch"],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "stale-fetch-accepted",
        checkers: &[
            "LeaderCandidateCompleteness",
            "StrongIsr",
            "LogMatching",
            "LeaderCompleteness",
            "MonotonicEpoch",
        ],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "diverging-fetch-counts",
        checkers: &["LeaderCandidateCompleteness", "StrongIsr", "LeaderCompleteness"],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "joins-below-epoch-start",
        checkers: &["LeaderCandidateCompleteness", "LeaderCompleteness"],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "shrink-before-committed",
        checkers: &["StrongIsr", "LeaderCandidateCompleteness"],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "stale-replica-joins",
        checkers: &["EligibleIsr", "LeaderCandidateCompleteness"],
        run: ("chaos", 1),
    },
    Entry { mutant: "high-watermark-is-log-end", checkers: &["StrongIsr"], run: ("chaos", 1) },
    Entry { mutant: "high-watermark-by-majority", checkers: &["StrongIsr"], run: ("chaos", 1) },
    Entry { mutant: "ack-before-replication", checkers: &["lost-write"], run: ("chaos", 1) },
    Entry { mutant: "min-isr-ignored", checkers: &["LeaderCandidateCompleteness"], run: ("chaos", 1) },
    Entry {
        mutant: "fetch-above-high-watermark",
        checkers: &["ConsistentRead", "nonmonotonic-poll", "inconsistent-offsets"],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "leader-not-from-isr",
        checkers: &["ReplicationQuorumSuperset", "ConsistentRead", "LeaderInIsr"],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "unclean-although-disabled",
        checkers: &["ConsistentRead", "lost-write", "inconsistent-offsets", "LeaderCompleteness"],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "unclean-shutdown-keeps-isr",
        checkers: &["LeaderCandidateCompleteness"],
        run: ("chaos", 1),
    },
    Entry { mutant: "recovery-drops-last-batch", checkers: &["RecoveryKeepsPromised"], run: ("chaos", 1) },
    Entry { mutant: "compaction-drops-last-value", checkers: &["lost-write"], run: ("chaos", 1) },
    Entry {
        mutant: "producer-state-lost",
        checkers: &["duplicate", "ContiguousSequences"],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "duplicate-window-of-one",
        checkers: &["duplicate", "ContiguousSequences"],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "sequence-not-checked",
        checkers: &["ContiguousSequences", "duplicate", "nonmonotonic-send"],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "clean-mark-kept",
        checkers: &[
            "RecoveryKeepsPromised",
            "SyncedSurvivesPowerLoss",
            "LeaderCandidateCompleteness",
            "ContiguousSequences",
            "LogMatching",
        ],
        run: ("chaos", 1),
    },
    Entry { mutant: "zombie-not-fenced", checkers: &["NoZombieWrites"], run: ("chaos", 1) },
    Entry { mutant: "partition-not-added", checkers: &["HangingTransaction"], run: ("chaos", 1) },
    Entry { mutant: "marker-left-out", checkers: &["HangingTransaction"], run: ("chaos", 1) },
    Entry {
        mutant: "late-marker-accepted",
        checkers: &["torn-transaction", "G1a", "precommitted-read", "lost-write"],
        run: ("chaos", 1),
    },
    Entry {
        mutant: "late-end-accepted",
        checkers: &["torn-transaction", "G1a", "precommitted-read", "lost-write"],
        run: ("chaos", 1),
    },
    Entry { mutant: "last-stable-offset-off-by-one", checkers: &["precommitted-read"], run: ("chaos", 1) },
    Entry { mutant: "read-committed-to-high-watermark", checkers: &["precommitted-read"], run: ("chaos", 1) },
    Entry { mutant: "aborted-transaction-not-indexed", checkers: &["G1a"], run: ("chaos", 1) },
    Entry { mutant: "transaction-offsets-dropped", checkers: &["ExactlyOnce"], run: ("chaos", 1) },
    Entry { mutant: "commit-acked-unreplicated", checkers: &["CommittedOffsetMonotonic"], run: ("chaos", 1) },
    Entry { mutant: "zombie-commit-accepted", checkers: &["CommittedOffsetMonotonic"], run: ("chaos", 1) },
    Entry { mutant: "given-before-revoked", checkers: &["SingleOwnerPerGeneration"], run: ("chaos", 1) },
    Entry { mutant: "vote-not-persisted", checkers: &["OneVotePerEpoch"], run: ("chaos", 1) },
    Entry { mutant: "two-votes", checkers: &["OneVotePerEpoch"], run: ("chaos", 1) },
    Entry { mutant: "vote-for-shorter-log", checkers: &["CommittedMetadataNeverLost"], run: ("chaos", 1) },
    Entry { mutant: "pre-vote-left-out", checkers: &["PreVoteBeforeVote"], run: ("chaos", 1) },
    Entry {
        mutant: "metadata-committed-by-minority",
        checkers: &["CommittedMetadataNeverLost"],
        run: ("chaos", 1),
    },
    Entry { mutant: "metadata-committed-of-earlier-epoch", checkers: &["OwnEpochFirst"], run: ("chaos", 1) },
    Entry { mutant: "new-sequence-on-retry", checkers: &["duplicate"], run: ("chaos", 1) },
    Entry { mutant: "aborted-not-filtered", checkers: &["G1a"], run: ("chaos", 1) },
    Entry { mutant: "partition-given-twice", checkers: &["SingleOwnerPerGeneration"], run: ("chaos", 1) },
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
        "voter-fetches-unflushed",
        "It takes the power of a voter and a new leader at once, after which Kafka promises nothing: a leader itself counts what it has not flushed.",
    ),
];

//! Which checker must find which mutant, and a run in which it does.

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

/// The mutants that exploration was seen to find. Those that are not here yet are still to be looked for.
pub const CATALOGUE: &[Entry] = &[
    Entry { mutant: "high-watermark-is-log-end", checkers: &["StrongIsr"], run: ("replication", 1) },
    Entry {
        mutant: "truncate-to-high-watermark",
        checkers: &["LeaderCandidateCompleteness", "LeaderCompleteness", "LogMatching"],
        run: ("replication", 1),
    },
];

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

/// All mutants.
pub const CATALOGUE: &[Entry] = &[];

//! Checkers: what must hold of replicas and controllers after every step, and of the clients' history at the end.
//!
//! A checker reports what it finds. Whether the configuration promised otherwise is judged elsewhere
//! ([`promise`]), in one place for all of them.

pub mod groups;
pub mod history;
pub mod jepsen;
pub mod positions;
pub mod promise;
pub mod quorum;
pub mod replicas;
pub mod storage;
pub mod transactions;

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A partition.
    Partition(String, i32),
    /// The metadata quorum.
    Quorum,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Partition(topic, partition) => write!(f, "{topic}-{partition}"),
            Subject::Quorum => f.write_str("the metadata quorum"),
        }
    }
}

/// Something that a checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The checker's name.
    pub name: &'static str,
    /// What it is about.
    pub subject: Subject,
    /// What was seen: message, offset, epoch, nodes, in at most five sentences.
    pub text: String,
}

//! Checkers: what must hold of replicas and controllers after every step, and of the clients' history at the end.
//!
//! A checker reports what it finds. Whether the configuration promised otherwise is judged elsewhere
//! ([`promise`]), in one place for all of them.

pub mod exactly_once;
pub mod groups;
pub mod history;
pub mod incarnations;
pub mod jepsen;
pub mod positions;
pub mod promise;
pub mod quorum;
pub mod replicas;
pub mod storage;
pub mod transactions;

/// Each name under which something can be found: those that a scenario may name among its violations.
pub const NAMES: &[&str] = &[
    replicas::log_matching::NAME,
    replicas::leader_completeness::NAME,
    replicas::no_committed_record_lost::NAME,
    replicas::strong_isr::NAME,
    replicas::leader_in_isr::NAME,
    replicas::eligible_isr::NAME,
    replicas::unclean_shutdown_leaves_isr::NAME,
    replicas::leader_candidate_completeness::NAME,
    replicas::replication_quorum_superset::NAME,
    replicas::valid_high_watermark::NAME,
    replicas::consistent_read::NAME,
    replicas::single_leader_per_epoch::NAME,
    replicas::monotonic_epoch::NAME,
    replicas::contiguous_sequences::NAME,
    replicas::contiguous_sequences::ZOMBIES,
    storage::synced::NAME,
    storage::recovery::NAME,
    storage::clean_mark::NAME,
    quorum::election_safety::NAME,
    quorum::one_vote_per_epoch::NAME,
    quorum::own_epoch_first::NAME,
    quorum::pre_vote_before_vote::NAME,
    quorum::metadata_log_matching::NAME,
    quorum::flushed_before_counted::NAME,
    quorum::committed_metadata_never_lost::NAME,
    groups::SINGLE_OWNER,
    groups::OFFSET_MONOTONIC,
    exactly_once::NAME,
    transactions::HANGING,
    transactions::ABORTED_READ,
    transactions::PRECOMMITTED_READ,
    transactions::TORN,
    history::INCONSISTENT_OFFSETS,
    history::DUPLICATE,
    history::LOST_WRITE,
    history::UNSEEN,
    positions::POLL_SKIP,
    positions::NONMONOTONIC_POLL,
    positions::INT_POLL_SKIP,
    positions::INT_NONMONOTONIC_POLL,
    positions::NONMONOTONIC_SEND,
];

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A partition.
    Partition(String, i32),
    /// The metadata quorum.
    Quorum,
    /// A broker.
    Node(i32),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Partition(topic, partition) => write!(f, "{topic}-{partition}"),
            Subject::Quorum => f.write_str("the metadata quorum"),
            Subject::Node(id) => write!(f, "broker-{id}"),
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

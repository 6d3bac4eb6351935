//! What the coordinator knows of one transactional id, and how it may change: pure functions over values.
//!
//! A change is prepared as a whole new value, written to `__transaction_state`, and takes effect when it is committed;
//! until then nothing else may change. Follows Kafka's `TransactionMetadata`, KIP-98, KIP-360, KIP-588 and KIP-890.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::records::TransactionLogValue;
use wire::records::transaction::transaction_log_value::PartitionsSchema;

pub(super) const NO_PRODUCER_ID: i64 = -1;
pub(super) const NO_PRODUCER_EPOCH: i16 = -1;
/// The version of transactions in which every end raises the producer's epoch.
pub(super) const EPOCH_BUMP_VERSION: i16 = 2;

/// Where a transactional id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransactionState {
    /// It has a producer and no transaction yet.
    Empty,
    /// A transaction has partitions.
    Ongoing,
    /// The transaction is committed: markers are being written.
    PrepareCommit,
    /// The transaction is aborted: markers are being written.
    PrepareAbort,
    /// All markers of the commit are written.
    CompleteCommit,
    /// All markers of the abort are written.
    CompleteAbort,
    /// It expires. Never written.
    Dead,
    /// The epoch is raised so that the producer can do nothing more before its transaction is aborted. Never written.
    PrepareEpochFence,
}

use TransactionState::{
    CompleteAbort, CompleteCommit, Dead, Empty, Ongoing, PrepareAbort, PrepareCommit, PrepareEpochFence,
};

impl TransactionState {
    /// All of them, by number.
    pub const ALL: [TransactionState; 8] =
        [Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort, Dead, PrepareEpochFence];

    /// Its number in records.
    pub fn id(self) -> i8 {
        self as i8
    }

    /// By its number.
    pub fn from_id(id: i8) -> Option<TransactionState> {
        Self::ALL.into_iter().find(|state| state.id() == id)
    }

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Empty => "Empty",
            Ongoing => "Ongoing",
            PrepareCommit => "PrepareCommit",
            PrepareAbort => "PrepareAbort",
            CompleteCommit => "CompleteCommit",
            CompleteAbort => "CompleteAbort",
            Dead => "Dead",
            PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<TransactionState> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    pub(super) fn is_prepared(self) -> bool {
        matches!(self, PrepareCommit | PrepareAbort)
    }

    /// Whether an id in this state may expire.
    pub(super) fn may_expire(self) -> bool {
        matches!(self, Empty | CompleteCommit | CompleteAbort)
    }

    /// From where it may be reached.
    pub(super) fn may_follow(self, from: TransactionState) -> bool {
        match self {
            Empty => matches!(from, Empty | CompleteCommit | CompleteAbort),
            Ongoing => matches!(from, Ongoing | Empty | CompleteCommit | CompleteAbort),
            PrepareCommit => from == Ongoing,
            PrepareAbort => {
                matches!(from, Ongoing | PrepareEpochFence | Empty | CompleteCommit | CompleteAbort)
            }
            CompleteCommit => from == PrepareCommit,
            CompleteAbort => from == PrepareAbort,
            Dead => matches!(from, Empty | CompleteCommit | CompleteAbort),
            PrepareEpochFence => from == Ongoing,
        }
    }
}

/// A partition of a transaction.
pub(super) type Partition = (Arc<str>, i32);

/// What is known of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub state: TransactionState,
    pub producer_id: i64,
    /// The producer's id before the last change, so that a retry over a change of ids is recognised.
    pub previous_producer_id: i64,
    /// The id that takes over when the transaction is complete, if its epochs are used up.
    pub next_producer_id: i64,
    pub producer_epoch: i16,
    pub last_producer_epoch: i16,
    pub timeout_ms: i32,
    pub partitions: BTreeSet<Partition>,
    pub start_ms: i64,
    pub update_ms: i64,
    /// The version of transactions that the client followed with the last change.
    pub client_version: i16,
}

/// An id and epoch that a producer claims to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub producer_id: i64,
    pub epoch: i16,
}

/// The last epoch is kept for fencing.
pub(super) fn is_exhausted(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}

impl Transaction {
    /// Of an id that nobody has used yet. Its first epoch comes with the first change.
    pub fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Transaction {
        Transaction {
            state: Empty,
            producer_id,
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            last_producer_epoch: NO_PRODUCER_EPOCH,
            timeout_ms,
            partitions: BTreeSet::new(),
            start_ms: -1,
            update_ms: now_ms,
            client_version: 0,
        }
    }

    pub fn bumps_epochs(&self) -> bool {
        self.client_version >= EPOCH_BUMP_VERSION
    }

    /// This, changed to `state`. What was the producer's id becomes the previous one.
    fn changed(&self, state: TransactionState) -> Transaction {
        assert!(state.may_follow(self.state), "{} after {}", state.name(), self.state.name());
        Transaction { state, previous_producer_id: self.producer_id, ..self.clone() }
    }

    /// The producer gets its next epoch, or the one that it got with the answer that was lost.
    pub fn with_next_epoch(
        &self,
        timeout_ms: i32,
        claim: Option<Claim>,
        now_ms: i64,
    ) -> Result<Transaction, ErrorCode> {
        assert!(!is_exhausted(self.producer_epoch), "an id with epochs left");
        let bumped = self.producer_epoch + 1;
        let (producer_epoch, last_producer_epoch) = match claim {
            None => (bumped, NO_PRODUCER_EPOCH),
            Some(claim) if self.producer_epoch == NO_PRODUCER_EPOCH || claim.epoch == self.producer_epoch => {
                (bumped, self.producer_epoch)
            }
            Some(claim) if claim.epoch == self.last_producer_epoch => {
                (self.producer_epoch, self.last_producer_epoch)
            }
            Some(_) => return Err(ErrorCode::PRODUCER_FENCED),
        };
        let begun = self.begun_anew(timeout_ms, now_ms);
        Ok(Transaction { producer_epoch, last_producer_epoch, ..begun })
    }

    /// The producer gets another id, since all epochs of this one are used up.
    pub fn with_producer_id(
        &self,
        producer_id: i64,
        timeout_ms: i32,
        claimed: bool,
        now_ms: i64,
    ) -> Transaction {
        let last_producer_epoch = if claimed { self.producer_epoch } else { NO_PRODUCER_EPOCH };
        let begun = self.begun_anew(timeout_ms, now_ms);
        Transaction { producer_id, producer_epoch: 0, last_producer_epoch, ..begun }
    }

    fn begun_anew(&self, timeout_ms: i32, now_ms: i64) -> Transaction {
        Transaction {
            timeout_ms,
            partitions: BTreeSet::new(),
            start_ms: -1,
            update_ms: now_ms,
            ..self.changed(Empty)
        }
    }

    /// More partitions take part.
    pub fn with_partitions(
        &self,
        added: impl IntoIterator<Item = Partition>,
        client_version: i16,
        now_ms: i64,
    ) -> Transaction {
        let mut changed = self.changed(Ongoing);
        if self.state != Ongoing {
            changed.start_ms = now_ms;
        }
        changed.partitions.extend(added);
        Transaction { update_ms: now_ms, client_version, ..changed }
    }

    /// The decision. With `nothing_added` a producer of transactions of version 2 aborts one that it has not begun.
    pub fn decided(
        &self,
        commit: bool,
        client_version: i16,
        next_producer_id: i64,
        nothing_added: bool,
        now_ms: i64,
    ) -> Transaction {
        let mut changed = self.changed(if commit { PrepareCommit } else { PrepareAbort });
        if client_version >= EPOCH_BUMP_VERSION {
            changed.producer_epoch = self.producer_epoch.saturating_add(1);
            changed.last_producer_epoch = self.producer_epoch;
        }
        if nothing_added {
            changed.start_ms = now_ms;
        }
        Transaction { next_producer_id, client_version, update_ms: now_ms, ..changed }
    }

    /// All markers are written.
    pub fn completed(&self, now_ms: i64) -> Transaction {
        let mut changed =
            self.changed(if self.state == PrepareCommit { CompleteCommit } else { CompleteAbort });
        if self.bumps_epochs() && self.next_producer_id != NO_PRODUCER_ID {
            (changed.producer_id, changed.producer_epoch) = (self.next_producer_id, 0);
        }
        Transaction {
            next_producer_id: NO_PRODUCER_ID,
            partitions: BTreeSet::new(),
            update_ms: now_ms,
            ..changed
        }
    }

    /// As a record of `__transaction_state`.
    pub fn to_value(&self) -> TransactionLogValue {
        let mut topics: Vec<PartitionsSchema> = Vec::new();
        for (topic, partition) in &self.partitions {
            match topics.last_mut().filter(|last| *last.topic == **topic) {
                Some(last) => last.partition_ids.push(*partition),
                None => topics.push(PartitionsSchema {
                    topic: topic.to_string(),
                    partition_ids: alloc::vec![*partition],
                }),
            }
        }
        TransactionLogValue {
            producer_id: self.producer_id,
            previous_producer_id: self.previous_producer_id,
            next_producer_id: self.next_producer_id,
            producer_epoch: self.producer_epoch,
            next_producer_epoch: NO_PRODUCER_EPOCH,
            transaction_timeout_ms: self.timeout_ms,
            transaction_status: self.state.id(),
            transaction_partitions: (self.state != Empty).then_some(topics),
            transaction_last_update_timestamp_ms: self.update_ms,
            transaction_start_timestamp_ms: self.start_ms,
            client_transaction_version: self.client_version,
        }
    }

    /// From a record; `None` if it is of a state that nobody writes.
    pub fn from_value(value: &TransactionLogValue) -> Option<Transaction> {
        let state = TransactionState::from_id(value.transaction_status)
            .filter(|state| !matches!(state, Dead | PrepareEpochFence))?;
        let mut partitions = BTreeSet::new();
        for topic in value.transaction_partitions.iter().flatten() {
            let name: Arc<str> = Arc::from(&*topic.topic);
            partitions.extend(topic.partition_ids.iter().map(|p| (name.clone(), *p)));
        }
        Some(Transaction {
            state,
            producer_id: value.producer_id,
            previous_producer_id: value.previous_producer_id,
            next_producer_id: value.next_producer_id,
            producer_epoch: value.producer_epoch,
            last_producer_epoch: NO_PRODUCER_EPOCH,
            timeout_ms: value.transaction_timeout_ms,
            partitions,
            start_ms: value.transaction_start_timestamp_ms,
            update_ms: value.transaction_last_update_timestamp_ms,
            client_version: value.client_transaction_version,
        })
    }
}

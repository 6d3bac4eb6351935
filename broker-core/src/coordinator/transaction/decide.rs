//! What a request, a time-out or a restart does to a transactional id: decisions, without any effect.
//!
//! Each is a function of what is known and of what is asked, with Kafka's errors (`TransactionCoordinator.scala`). The
//! order of the checks matters: a producer whose change is still being written must come again before anything about
//! its id or epoch is said, since both may be about to change.

use crate::mutant::{Mutant, Mutants};
use wire::ErrorCode;

use super::state::{
    Claim, EPOCH_BUMP_VERSION, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Partition, Transaction, TransactionState,
    is_exhausted,
};

/// A transactional id of a coordinator.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What is committed.
    pub now: Transaction,
    /// To where a change is being written.
    pub pending: Option<TransactionState>,
    /// The epoch was raised to fence the producer, which then could not be written: it is not raised again.
    pub failed_fence: bool,
    /// Nothing of it has been written yet.
    pub is_new: bool,
}

/// What InitProducerId leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Init {
    /// The id changes to this.
    Become(Transaction),
    /// Its transaction is aborted first; the producer comes again.
    Abort,
}

/// What EndTxn leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was done before: the answer again.
    Again(Claim),
    /// The decision, to be written.
    Decide(Transaction),
}

/// An EndTxn request.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndRequest {
    pub claim: Claim,
    pub commit: bool,
    /// The version of transactions that its client follows.
    pub client_version: i16,
}

/// Gives a producer id that nobody has.
pub(super) type NextId<'a> = &'a mut dyn FnMut() -> Result<i64, ErrorCode>;

impl Entry {
    pub fn new(now: Transaction, is_new: bool) -> Entry {
        Entry { now, pending: None, failed_fence: false, is_new }
    }

    pub fn init(
        &self,
        timeout_ms: i32,
        claim: Option<Claim>,
        now_ms: i64,
        next_id: NextId<'_>,
    ) -> Result<Init, ErrorCode> {
        let now = &self.now;
        if self.pending.is_some() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        let is_its = |claim: Claim| {
            now.producer_epoch == NO_PRODUCER_EPOCH
                || claim.producer_id == now.producer_id
                || claim.producer_id == now.previous_producer_id && is_exhausted(claim.epoch)
        };
        if !claim.is_none_or(is_its) {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match now.state {
            TransactionState::PrepareAbort | TransactionState::PrepareCommit => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            TransactionState::Ongoing => Ok(Init::Abort),
            _ if is_exhausted(now.producer_epoch)
                && claim.is_none_or(|claim| claim.epoch == now.producer_epoch) =>
            {
                let id = next_id()?;
                Ok(Init::Become(now.with_producer_id(id, timeout_ms, claim.is_some(), now_ms)))
            }
            _ if is_exhausted(now.producer_epoch) => Err(ErrorCode::PRODUCER_FENCED),
            _ => now.with_next_epoch(timeout_ms, claim, now_ms).map(Init::Become),
        }
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn: `None` if nothing changes.
    pub fn add_partitions(
        &self,
        claim: Claim,
        partitions: &[Partition],
        client_version: i16,
        now_ms: i64,
    ) -> Result<Option<Transaction>, ErrorCode> {
        if self.pending.is_some() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        self.check_claim(claim)?;
        let now = &self.now;
        if now.state.is_prepared() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        let all_known = partitions.iter().all(|p| now.partitions.contains(p));
        if now.state == TransactionState::Ongoing && all_known {
            return Ok(None);
        }
        Ok(Some(now.with_partitions(partitions.iter().cloned(), client_version, now_ms)))
    }

    /// Whether partitions take part in the transaction, for each.
    pub fn verify(&self, claim: Claim, partition: &Partition) -> Result<(), ErrorCode> {
        self.check_claim(claim)?;
        if self.now.state.is_prepared() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        let takes_part = self.now.partitions.contains(partition);
        if takes_part { Ok(()) } else { Err(ErrorCode::TRANSACTION_ABORTABLE) }
    }

    /// As whom a producer is taken: as whom it says that it is, and no other.
    pub fn believed(&self, claim: Claim, mutants: Mutants) -> Claim {
        match mutants.has(Mutant::ZombieNotFenced) {
            true => Claim { epoch: self.now.producer_epoch, ..claim },
            false => claim,
        }
    }

    /// As which transaction's end a request is taken: as that of the epoch that it bears.
    pub fn believed_end(&self, request: EndRequest, mutants: Mutants) -> EndRequest {
        let (now, claim) = (&self.now, request.claim);
        let late =
            now.state == TransactionState::Ongoing && now.producer_epoch == claim.epoch.saturating_add(1);
        match late && mutants.has(Mutant::LateEndAccepted) {
            true => EndRequest { claim: Claim { epoch: now.producer_epoch, ..claim }, ..request },
            false => request,
        }
    }

    fn check_claim(&self, claim: Claim) -> Result<(), ErrorCode> {
        if self.now.producer_id != claim.producer_id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if self.now.producer_epoch != claim.epoch {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        Ok(())
    }

    pub fn end(&self, request: EndRequest, now_ms: i64, next_id: NextId<'_>) -> Result<End, ErrorCode> {
        match request.client_version {
            EPOCH_BUMP_VERSION.. => self.end_with_bump(request, now_ms, next_id),
            _ => self.end_without_bump(request, now_ms),
        }
    }

    /// Transactions of version 2: the epoch tells a request that comes again from the next transaction's.
    fn end_with_bump(&self, request: EndRequest, now_ms: i64, next_id: NextId<'_>) -> Result<End, ErrorCode> {
        use TransactionState::{CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit};
        let (now, EndRequest { claim, commit, .. }) = (&self.now, request);
        if self.pending.is_some() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        let overflowed = now.bumps_epochs()
            && now.previous_producer_id == claim.producer_id
            && claim.epoch == i16::MAX - 1
            && now.producer_epoch == 0;
        let bumped = now.bumps_epochs() && i32::from(now.producer_epoch) == i32::from(claim.epoch) + 1;
        if now.producer_id != claim.producer_id && !overflowed {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        let same = claim.epoch == now.producer_epoch;
        let valid = match now.state {
            _ if !now.bumps_epochs() => same,
            PrepareCommit | PrepareAbort => bumped,
            CompleteCommit | CompleteAbort => bumped || overflowed || same,
            _ => same,
        };
        if !valid {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        let again = bumped || overflowed;
        let nothing_added = match (now.state, commit) {
            (Ongoing, _) => false,
            (CompleteCommit, true) | (CompleteAbort, false) if again => {
                return Ok(End::Again(Claim { producer_id: now.producer_id, epoch: now.producer_epoch }));
            }
            // What it aborts had no partition yet.
            (CompleteCommit | CompleteAbort, false) if !again => true,
            (Empty, false) => true,
            (PrepareCommit, true) | (PrepareAbort, false) => return Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            _ => return Err(ErrorCode::INVALID_TXN_STATE),
        };
        let next = if is_exhausted(now.producer_epoch) { next_id()? } else { NO_PRODUCER_ID };
        Ok(End::Decide(now.decided(commit, request.client_version, next, nothing_added, now_ms)))
    }

    fn end_without_bump(&self, request: EndRequest, now_ms: i64) -> Result<End, ErrorCode> {
        use TransactionState::{CompleteAbort, CompleteCommit, Ongoing, PrepareAbort, PrepareCommit};
        self.check_claim(request.claim)?;
        if self.pending.is_some() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        match (self.now.state, request.commit) {
            (Ongoing, commit) => Ok(End::Decide(self.now.decided(
                commit,
                request.client_version,
                NO_PRODUCER_ID,
                false,
                now_ms,
            ))),
            (CompleteCommit, true) | (CompleteAbort, false) => Ok(End::Again(request.claim)),
            (PrepareCommit, true) | (PrepareAbort, false) => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// The coordinator itself aborts the open transaction. From this moment on the producer is fenced, whether or not
    /// the decision can be written.
    pub fn abort(&mut self, server_version: i16, now_ms: i64) -> Transaction {
        assert!(self.now.state == TransactionState::Ongoing && self.pending.is_none());
        if !self.failed_fence {
            self.now.producer_epoch = self.now.producer_epoch.saturating_add(1);
        }
        self.now.last_producer_epoch = NO_PRODUCER_EPOCH;
        self.now.decided(false, server_version, NO_PRODUCER_ID, false, now_ms)
    }

    /// Whether the open transaction has taken longer than its producer allowed.
    pub fn has_timed_out(&self, now_ms: i64) -> bool {
        self.pending.is_none()
            && self.now.state == TransactionState::Ongoing
            && self.now.start_ms.saturating_add(i64::from(self.now.timeout_ms)) < now_ms
    }

    /// Whether nobody has used the id for so long.
    pub fn has_expired(&self, now_ms: i64, expiration_ms: i64) -> bool {
        self.pending.is_none()
            && self.now.state.may_expire()
            && self.now.update_ms <= now_ms.saturating_sub(expiration_ms)
    }
}

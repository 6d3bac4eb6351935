//! Kafka's rules as tables, and Kafka's own records written again.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use codecs::StdCodecs;
use wire::ErrorCode;
use wire::Rope;
use wire::batch::Batches;
use wire::records::{TransactionLogKey, TransactionLogValue};

use super::TransactionState::{self, *};
use super::decide::{End, EndRequest, Entry, Init};
use super::state::{Claim, Partition, Transaction};

#[expect(clippy::duplicate_mod, reason = "tests of two modules read the same directories")]
#[path = "../../../../testdata/golden.rs"]
mod golden;

const ID: i64 = 2000;

fn claim(epoch: i16) -> Claim {
    Claim { producer_id: ID, epoch }
}

fn part(n: i32) -> Partition {
    (Arc::from("tx"), n)
}

/// An id in a state, with epoch 5 and what goes with that.
fn entry(state: TransactionState, client_version: i16) -> Entry {
    let mut transaction = Transaction::new(ID, 60_000, 1_000);
    transaction.state = state;
    transaction.producer_epoch = 5;
    transaction.last_producer_epoch = 4;
    transaction.client_version = client_version;
    if matches!(state, Ongoing | PrepareCommit | PrepareAbort) {
        transaction.partitions.insert(part(0));
        transaction.start_ms = 1_000;
    }
    Entry::new(transaction, false)
}

fn no_id() -> Result<i64, ErrorCode> {
    panic!("no other producer id is needed")
}

#[test]
fn who_asks_for_a_producer_id() {
    let next = |epoch, last| Ok(Some((ID, epoch, last)));
    let fenced = Err(ErrorCode::PRODUCER_FENCED);
    let busy = Err(ErrorCode::CONCURRENT_TRANSACTIONS);
    for (what, state, claimed, want) in [
        ("a new producer", Empty, None, next(6, -1)),
        ("after a commit", CompleteCommit, None, next(6, -1)),
        ("after an abort", CompleteAbort, None, next(6, -1)),
        ("in a transaction", Ongoing, None, Ok(None)),
        ("while it is committed", PrepareCommit, None, busy),
        ("while it is aborted", PrepareAbort, None, busy),
        ("one that goes on after an error", Empty, Some(claim(5)), next(6, 5)),
        ("its answer was lost", Empty, Some(claim(4)), next(5, 4)),
        ("one that was fenced", Empty, Some(claim(3)), fenced),
        ("another's id", Empty, Some(Claim { producer_id: 1, epoch: 5 }), fenced),
        ("another's id in a transaction", Ongoing, Some(Claim { producer_id: 1, epoch: 5 }), fenced),
    ] {
        let got = entry(state, 2).init(60_000, claimed, 2_000, &mut no_id).map(|init| match init {
            Init::Abort => None,
            Init::Become(t) => Some((t.producer_id, t.producer_epoch, t.last_producer_epoch)),
        });
        assert_eq!(got, want, "{what}");
    }
    let mut used_up = entry(CompleteCommit, 2);
    used_up.now.producer_epoch = i16::MAX - 1;
    for (claimed, last) in [(None, -1), (Some(claim(i16::MAX - 1)), i16::MAX - 1)] {
        let Ok(Init::Become(next)) = used_up.init(60_000, claimed, 2_000, &mut || Ok(3000)) else { panic!() };
        assert_eq!((next.producer_id, next.producer_epoch, next.last_producer_epoch), (3000, 0, last));
        assert_eq!(next.previous_producer_id, ID);
        // The producer that did not hear of it comes again with what it has.
        let moved = Entry::new(next, false);
        let again = moved.init(60_000, Some(claim(i16::MAX - 1)), 2_000, &mut no_id);
        let want = if last < 0 { Err(ErrorCode::PRODUCER_FENCED) } else { Ok((3000, 0)) };
        let again = again.map(|init| match init {
            Init::Become(t) => (t.producer_id, t.producer_epoch),
            Init::Abort => panic!(),
        });
        assert_eq!(again, want);
    }
    let mut pending = entry(Empty, 2);
    pending.pending = Some(Empty);
    let wrong = Some(Claim { producer_id: 1, epoch: 0 });
    assert_eq!(pending.init(60_000, wrong, 2_000, &mut no_id), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
}

#[test]
fn who_adds_partitions() {
    let mapping = Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    let busy = Err(ErrorCode::CONCURRENT_TRANSACTIONS);
    let fenced = Err(ErrorCode::PRODUCER_FENCED);
    let other = Claim { producer_id: 1, epoch: 5 };
    for (what, state, claimed, partition, want) in [
        ("the first", Empty, claim(5), 0, Ok(Some(1))),
        ("the first after a commit", CompleteCommit, claim(5), 0, Ok(Some(1))),
        ("one more", Ongoing, claim(5), 1, Ok(Some(2))),
        ("the same", Ongoing, claim(5), 0, Ok(None)),
        ("too late to commit", PrepareCommit, claim(5), 0, busy),
        ("too late to abort", PrepareAbort, claim(5), 0, busy),
        ("an old epoch", Ongoing, claim(4), 0, fenced),
        ("a later epoch", Ongoing, claim(6), 0, fenced),
        ("another id", Ongoing, other, 0, mapping),
    ] {
        let got = entry(state, 2).add_partitions(claimed, &[part(partition)], 2, 2_000);
        assert_eq!(got.map(|next| next.map(|next| next.partitions.len())), want, "{what}");
    }
    let started = entry(CompleteAbort, 2).add_partitions(claim(5), &[part(0)], 2, 2_000).unwrap().unwrap();
    assert_eq!((started.start_ms, started.update_ms, started.state), (2_000, 2_000, Ongoing));
    let added = entry(Ongoing, 2).add_partitions(claim(5), &[part(1)], 2, 2_000).unwrap().unwrap();
    assert_eq!((added.start_ms, added.update_ms), (1_000, 2_000), "it began before");

    let abortable = Err(ErrorCode::TRANSACTION_ABORTABLE);
    for (what, state, claimed, partition, want) in [
        ("a member", Ongoing, claim(5), 0, Ok(())),
        ("no member", Ongoing, claim(5), 1, abortable),
        ("none at all", Empty, claim(5), 0, abortable),
        ("decided", PrepareCommit, claim(5), 0, Err(ErrorCode::CONCURRENT_TRANSACTIONS)),
        ("an old epoch", Ongoing, claim(4), 0, Err(ErrorCode::PRODUCER_FENCED)),
        ("another id", Ongoing, other, 0, Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING)),
    ] {
        assert_eq!(entry(state, 2).verify(claimed, &part(partition)), want, "verify {what}");
    }
}

#[test]
fn who_ends_a_transaction() {
    let decide = |state, epoch| Ok(Some((state, epoch)));
    let again = Ok(None);
    let busy = Err(ErrorCode::CONCURRENT_TRANSACTIONS);
    let fenced = Err(ErrorCode::PRODUCER_FENCED);
    let invalid = Err(ErrorCode::INVALID_TXN_STATE);
    // Version of transactions, state, the producer's epoch, commit.
    for (version, state, epoch, commit, want) in [
        (2, Ongoing, 5, true, decide(PrepareCommit, 6)),
        (2, Ongoing, 5, false, decide(PrepareAbort, 6)),
        (2, Ongoing, 4, true, fenced),
        (2, PrepareCommit, 4, true, busy),
        (2, PrepareCommit, 4, false, invalid),
        (2, PrepareCommit, 5, true, fenced),
        (2, PrepareAbort, 4, false, busy),
        (2, CompleteCommit, 4, true, again),
        (2, CompleteCommit, 4, false, invalid),
        (2, CompleteCommit, 5, true, invalid),
        (2, CompleteCommit, 5, false, decide(PrepareAbort, 6)),
        (2, CompleteCommit, 3, true, fenced),
        (2, CompleteAbort, 4, false, again),
        (2, CompleteAbort, 4, true, invalid),
        (2, CompleteAbort, 5, false, decide(PrepareAbort, 6)),
        (2, Empty, 5, false, decide(PrepareAbort, 6)),
        (2, Empty, 5, true, invalid),
        (0, Ongoing, 5, true, decide(PrepareCommit, 5)),
        (0, Ongoing, 5, false, decide(PrepareAbort, 5)),
        (0, Ongoing, 4, true, fenced),
        (0, Ongoing, 6, true, fenced),
        (0, PrepareCommit, 5, true, busy),
        (0, PrepareCommit, 5, false, invalid),
        (0, CompleteCommit, 5, true, again),
        (0, CompleteCommit, 5, false, invalid),
        (0, CompleteAbort, 5, false, again),
        (0, Empty, 5, true, invalid),
        (0, Empty, 5, false, invalid),
    ] {
        let request = EndRequest { claim: claim(epoch), commit, client_version: version };
        let got = entry(state, version).end(request, 2_000, &mut no_id).map(|end| match end {
            End::Again(_) => None,
            End::Decide(next) => Some((next.state, next.producer_epoch)),
        });
        assert_eq!(got, want, "TV{version} {} epoch {epoch} commit {commit}", state.name());
    }
    let other = EndRequest { claim: Claim { producer_id: 1, epoch: 5 }, commit: true, client_version: 2 };
    let got = entry(Ongoing, 2).end(other, 2_000, &mut no_id);
    assert_eq!(got, Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING));
}

#[test]
fn the_last_epoch_is_followed_by_another_id() {
    let mut last = entry(Ongoing, 2);
    last.now.producer_epoch = i16::MAX - 1;
    let request = EndRequest { claim: claim(i16::MAX - 1), commit: true, client_version: 2 };
    let Ok(End::Decide(decided)) = last.end(request, 2_000, &mut || Ok(3000)) else { panic!() };
    assert_eq!((decided.producer_id, decided.producer_epoch, decided.next_producer_id), (ID, i16::MAX, 3000));
    let complete = decided.completed(3_000);
    assert_eq!((complete.producer_id, complete.producer_epoch), (3000, 0));
    assert_eq!((complete.previous_producer_id, complete.last_producer_epoch), (ID, i16::MAX - 1));
    // Its answer was lost.
    let again = Entry::new(complete, false).end(request, 4_000, &mut no_id);
    assert_eq!(again, Ok(End::Again(Claim { producer_id: 3000, epoch: 0 })));
    // The coordinator can abort even then.
    let mut fenced = entry(Ongoing, 2);
    fenced.now.producer_epoch = i16::MAX - 1;
    assert_eq!(fenced.abort(2, 2_000).producer_epoch, i16::MAX);
}

#[test]
fn a_failed_fence_is_not_repeated_with_another_epoch() {
    let mut open = entry(Ongoing, 0);
    assert_eq!(open.abort(0, 2_000).producer_epoch, 6);
    open.failed_fence = true;
    assert_eq!(open.abort(0, 3_000).producer_epoch, 6);
    assert_eq!(open.now.producer_epoch, 6, "the producer is fenced all the same");
}

#[test]
fn time_is_up_only_for_what_is_open_and_ids_expire_only_when_idle() {
    for state in TransactionState::ALL {
        let mut entry = entry(state, 2);
        entry.now.start_ms = 1_000;
        assert!(!entry.has_timed_out(61_000), "{}", state.name());
        assert_eq!(entry.has_timed_out(61_001), state == Ongoing, "{}", state.name());
        let idle = matches!(state, Empty | CompleteCommit | CompleteAbort);
        assert_eq!(entry.has_expired(101_000, 100_000), idle, "{}", state.name());
        assert!(!entry.has_expired(100_999, 100_000), "{}", state.name());
        entry.pending = Some(Dead);
        assert!(!entry.has_timed_out(i64::MAX) && !entry.has_expired(i64::MAX, 0));
    }
}

/// The records of `__transaction_state-0` that Kafka wrote: key and value.
fn kafkas_records() -> Vec<(Vec<u8>, Vec<u8>)> {
    let log = golden::file("coordinators/broker-2/__transaction_state-0/00000000000000000000.log");
    let log = Rope::from(bytes::Bytes::from(log));
    let mut records = Vec::new();
    for batch in Batches::new(&log) {
        let batch = batch.unwrap().records(&StdCodecs, 1 << 20).unwrap();
        for record in &batch {
            let record = record.unwrap();
            records.push((record.key.unwrap().to_vec(), record.value.unwrap().to_vec()));
        }
    }
    records
}

/// Each record follows from the one before it by what a producer of 4.3 asked: ours is the same, byte for byte, but for
/// the order of a set.
#[test]
fn the_records_are_kafkas() {
    let records = kafkas_records();
    assert!(records.len() > 12, "{}", records.len());
    let mut before: Option<Transaction> = None;
    for (key, bytes) in records {
        let key_of = TransactionLogKey::decode_key(&key).unwrap();
        assert_eq!(key_of.transactional_id, "shop-tx");
        assert_eq!(key_of.encode_key().unwrap(), key);
        let mut value = TransactionLogValue::decode_value(&bytes).unwrap();
        assert_eq!(value.encode_value(1).unwrap(), bytes);
        // Kafka's sets have the order of their hashes.
        value.transaction_partitions.iter_mut().flatten().for_each(|topic| topic.partition_ids.sort());
        let bytes = value.encode_value(1).unwrap();
        let theirs = Transaction::from_value(&value).unwrap();
        let ms = value.transaction_last_update_timestamp_ms;
        let ours = match before {
            None => Transaction::new(ID, 60_000, ms).with_next_epoch(60_000, None, ms).unwrap(),
            Some(before) => {
                let claim = Claim { producer_id: before.producer_id, epoch: before.producer_epoch };
                let entry = Entry::new(before, false);
                let partitions: Vec<Partition> = theirs.partitions.iter().cloned().collect();
                match theirs.state {
                    Ongoing => entry.add_partitions(claim, &partitions, 2, ms).unwrap().unwrap(),
                    PrepareCommit | PrepareAbort => {
                        let commit = theirs.state == PrepareCommit;
                        let request = EndRequest { claim, commit, client_version: 2 };
                        match entry.end(request, ms, &mut no_id).unwrap() {
                            End::Decide(next) => next,
                            End::Again(_) => panic!("decided twice"),
                        }
                    }
                    CompleteCommit | CompleteAbort => entry.now.completed(ms),
                    state => panic!("{}", state.name()),
                }
            }
        };
        assert_eq!(ours.to_value().encode_value(1).unwrap(), bytes, "{value:?}");
        before = Some(ours);
    }
    let last = before.unwrap();
    assert_eq!((last.state, last.producer_epoch), (CompleteCommit, 6));
    assert_eq!(vec![last.producer_id, last.previous_producer_id], [2000, 2000]);
}

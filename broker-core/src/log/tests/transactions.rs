//! Transactions in a log: what readers of committed ones see, the transaction index, and both against a naive model.

use alloc::collections::BTreeMap;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use wire::ErrorCode;
use wire::batch::end_txn_marker_batch;

use super::*;

const EPOCH: i32 = 0;

/// A batch of one transactional record.
fn data(id: i64, epoch: i16, sequence: i32) -> Rope {
    let options = BatchOptions {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: sequence,
        transactional: true,
        ..BatchOptions::default()
    };
    batch_of(1, 10, t(0), &options)
}

fn marker(id: i64, epoch: i16, commit: bool, coordinator_epoch: i32) -> Rope {
    let options = BatchOptions { producer_id: id, producer_epoch: epoch, ..BatchOptions::default() };
    Rope::from(end_txn_marker_batch(&StdCodecs, &options, t(0), commit, coordinator_epoch).unwrap())
}

impl Bench {
    fn append_with(&mut self, records: &Rope, verification: Verification) -> Result<AppendInfo, AppendError> {
        let terms =
            AppendTerms { leader_epoch: EPOCH, origin: Origin::Client, verification, transaction_version: 0 };
        self.log.append_on_terms(at_s(1), &mut self.disk, &StdCodecs, records, &terms)
    }

    fn mark(&mut self, records: &Rope, transaction_version: i8) -> Result<i64, ErrorCode> {
        let terms = AppendTerms {
            leader_epoch: EPOCH,
            origin: Origin::Coordinator,
            verification: Verification::Required,
            transaction_version,
        };
        let done = self.log.append_on_terms(at_s(1), &mut self.disk, &StdCodecs, records, &terms);
        done.map(|info| info.base_offset).map_err(|error| error.code())
    }

    fn commit_all(&mut self) {
        let end = self.log.log_end_offset();
        self.log.update_high_watermark(end);
    }

    /// Producer id, first offset, marker, last stable offset.
    fn aborted(&self) -> Vec<(i64, i64, i64, i64)> {
        let found = self.log.aborted_transactions(self.log.log_start_offset(), i64::MAX);
        let told = found.iter();
        told.map(|t| (t.producer_id, t.first_offset, t.last_offset, t.last_stable_offset)).collect()
    }
}

#[test]
fn the_last_stable_offset_waits_for_the_first_open_transaction_and_its_markers_replication() {
    let mut bench = Bench::new(LogConfig::default());
    bench.append(1, &batch(1, 10, t(0)), EPOCH).unwrap();
    bench.append(1, &data(7, 0, 0), EPOCH).unwrap();
    bench.append(1, &data(8, 0, 0), EPOCH).unwrap();
    assert_eq!(bench.log.last_stable_offset(), 0, "the high watermark");
    bench.commit_all();
    assert_eq!(bench.log.last_stable_offset(), 1);
    bench.mark(&marker(7, 0, true, 0), 0).unwrap();
    assert_eq!(bench.log.last_stable_offset(), 1, "the marker is not replicated");
    bench.commit_all();
    assert_eq!(bench.log.last_stable_offset(), 2, "producer 8 is open");
    bench.mark(&marker(8, 0, false, 0), 0).unwrap();
    bench.commit_all();
    assert_eq!((bench.log.last_stable_offset(), bench.log.log_end_offset()), (5, 5));
    assert_eq!(bench.aborted(), [(8, 2, 4, 5)]);
    assert!(bench.log.aborted_transactions(0, 2).is_empty(), "it begins behind what is read");
}

#[test]
fn an_aborted_transaction_is_kafkas_entry_in_the_index_of_its_markers_segment() {
    let mut bench = Bench::new(small(300));
    for i in 0..2 {
        bench.append(1, &data(7, 0, i), EPOCH).unwrap();
        bench.append(1, &data(8, 0, i), EPOCH).unwrap();
    }
    bench.mark(&marker(7, 0, false, 3), 0).unwrap();
    let base = bench.log.active_segment_base();
    assert!(base > 0, "the transaction spans two segments");
    let bytes = bench.disk.read_file(&segment::path(DIR, base, "txnindex")).unwrap();
    let want: Vec<u8> = [7i64, 0, 4, 1].iter().flat_map(|n| n.to_be_bytes()).collect();
    assert_eq!(bytes, [&[0, 0], &want[..]].concat());
    assert!(bench.names().iter().filter(|n| n.ends_with(".txnindex")).count() == 1, "made when needed");
}

#[test]
fn markers_of_overtaken_coordinators_and_producers_are_refused() {
    let stale = Err(ErrorCode::INVALID_PRODUCER_EPOCH);
    let fenced = Err(ErrorCode::TRANSACTION_COORDINATOR_FENCED);
    for (what, open, version, epoch, coordinator, want) in [
        ("TV1: the same epoch", true, 1, 4, 5, Ok(3)),
        ("TV1: a bumped epoch", true, 1, 5, 5, Ok(3)),
        ("TV1: an old epoch", true, 1, 3, 5, stale),
        ("TV1: an old coordinator", true, 1, 4, 4, fenced),
        ("TV2: a bumped epoch", true, 2, 5, 5, Ok(3)),
        ("TV2: a late marker with the epoch of the open transaction", true, 2, 4, 5, stale),
        ("TV2: the same marker again", false, 2, 4, 5, Ok(2)),
        ("TV2: an older one", false, 2, 3, 5, stale),
        ("TV2: a coordinator of before", true, 2, 5, 4, fenced),
    ] {
        let mut bench = Bench::new(LogConfig::default());
        bench.append(1, &data(7, 3, 0), EPOCH).unwrap();
        bench.mark(&marker(7, 4, true, 5), 2).unwrap();
        if open {
            bench.append(1, &data(7, 4, 0), EPOCH).unwrap();
        }
        assert_eq!(bench.mark(&marker(7, epoch, false, coordinator), version), want, "{what}");
    }
}

#[test]
fn a_guard_is_good_for_the_first_append_after_its_verification() {
    let mut bench = Bench::new(LogConfig::default());
    let code = |result: Result<AppendInfo, AppendError>| result.unwrap_err().code();
    let unverified = bench.append_with(&data(7, 0, 0), Verification::Required);
    assert_eq!(code(unverified), ErrorCode::INVALID_TXN_STATE);
    let guard = bench.log.start_verification(T0, 7, 0, 0, true).unwrap();
    assert_eq!(bench.log.start_verification(T0, 7, 0, 0, true), Some(guard), "one at a time");
    bench.append_with(&data(7, 0, 0), Verification::Verified(guard)).unwrap();
    assert_eq!(bench.log.start_verification(T0, 7, 0, 1, true), None, "it is open");
    bench.append_with(&data(7, 0, 1), Verification::Required).unwrap();
    // The transaction is aborted while a later batch is on its way: its verification of before is worth nothing.
    bench.mark(&marker(7, 1, false, 0), 2).unwrap();
    let late = bench.append_with(&data(7, 0, 2), Verification::Verified(guard));
    assert_eq!(code(late), ErrorCode::INVALID_PRODUCER_EPOCH);
    let late = bench.append_with(&data(7, 1, 0), Verification::Verified(guard));
    assert_eq!(code(late), ErrorCode::INVALID_TXN_STATE);
    let second = bench.log.start_verification(T0, 7, 1, 3, true).unwrap();
    let gap = bench.append_with(&data(7, 1, 3), Verification::Verified(second));
    assert_eq!(code(gap), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, "TV2 begins at 0");
}

#[test]
fn a_guard_of_the_next_transaction_outlives_the_marker_of_the_one_before() {
    // TV2: the marker bears the epoch with which the next transaction begins, and may come after its verification began.
    for (what, supports_epoch_bump, epoch, holds) in [
        ("TV2: the next transaction", true, 1, true),
        ("TV2: the one that is ended", true, 0, false),
        ("TV1: the epoch stays the same", false, 1, false),
    ] {
        let mut bench = Bench::new(LogConfig::default());
        bench.append(1, &data(7, 0, 0), EPOCH).unwrap();
        let guard = bench.log.start_verification(T0, 7, epoch, 0, supports_epoch_bump);
        bench.mark(&marker(7, 1, true, 0), 2).unwrap();
        let after =
            guard.is_some_and(|g| bench.append_with(&data(7, 1, 0), Verification::Verified(g)).is_ok());
        assert_eq!(after, holds, "{what}");
    }
}

#[test]
fn a_batch_outside_of_the_open_transaction_is_refused() {
    let mut bench = Bench::new(LogConfig::default());
    bench.append(1, &data(7, 0, 0), EPOCH).unwrap();
    let options = BatchOptions { producer_id: 7, producer_epoch: 0, base_sequence: 1, ..Default::default() };
    let plain = bench.append(1, &batch_of(1, 10, t(0), &options), EPOCH);
    assert_eq!(plain.unwrap_err().code(), ErrorCode::INVALID_TXN_STATE);
}

// --- a naive model

/// What happened to one offset.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    Data { id: i64, epoch: i16, sequence: i32 },
    Marker { id: i64, epoch: i16, commit: bool },
}

/// The log as a list; everything else is found by going through it.
#[derive(Clone, Debug, Default)]
struct Model {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    /// Epoch and last sequence by producer.
    producers: BTreeMap<i64, (i16, i32)>,
    open: BTreeMap<i64, i64>,
    aborted: Vec<(i64, i64, i64)>,
    last_stable_offset: i64,
}

impl Model {
    fn told(&self, high_watermark: i64) -> Told {
        let mut told = Told { last_stable_offset: high_watermark, ..Told::default() };
        let mut undecided = high_watermark;
        for (offset, entry) in self.entries.iter().enumerate() {
            let offset = offset as i64;
            match *entry {
                Entry::Data { id, epoch, sequence } => {
                    told.producers.insert(id, (epoch, sequence));
                    told.open.entry(id).or_insert(offset);
                }
                Entry::Marker { id, epoch, commit } => {
                    let producer = told.producers.entry(id).or_insert((epoch, -1));
                    if producer.0 != epoch {
                        *producer = (epoch, -1);
                    }
                    if let Some(first) = told.open.remove(&id) {
                        if !commit {
                            told.aborted.push((id, first, offset));
                        }
                        if offset >= high_watermark {
                            undecided = undecided.min(first);
                        }
                    }
                }
            }
        }
        let open = told.open.values().copied().min().unwrap_or(high_watermark);
        told.last_stable_offset = high_watermark.min(open).min(undecided);
        told
    }
}

fn told(log: &Log) -> Told {
    let producers = log.active_producers().map(|p| (p.producer_id, (p.producer_epoch, p.last_sequence)));
    let aborted = log.aborted_transactions(log.log_start_offset(), i64::MAX);
    Told {
        producers: producers.collect(),
        open: log.open_transactions().map(|(first, id)| (id, first)).collect(),
        aborted: aborted.iter().map(|t| (t.producer_id, t.first_offset, t.last_offset)).collect(),
        last_stable_offset: log.last_stable_offset(),
    }
}

/// A leader, a follower that copies it, and the model of both; leadership may go over.
struct Pair {
    leader: Bench,
    follower: Bench,
    model: Model,
    rng: ChaCha8Rng,
}

impl Pair {
    fn chance(&mut self, of: u32) -> u32 {
        self.rng.next_u32() % of
    }

    fn replicate(&mut self) {
        while self.follower.log.log_end_offset() < self.leader.log.log_end_offset() {
            let records = self.leader.read(self.follower.log.log_end_offset());
            self.follower.follow(&records, EPOCH).unwrap();
        }
        self.leader.commit_all();
        self.follower.commit_all();
    }

    fn produce(&mut self) {
        let id = 7 + i64::from(self.chance(3));
        let before = self.model.told(0);
        let (is_known, open) = (before.producers.contains_key(&id), before.open.contains_key(&id));
        let known = before.producers.get(&id).copied().unwrap_or((0, -1));
        let (epoch, sequence, accepted) = match self.chance(8) {
            0 if is_known && !open => (known.0 + 1, 0, true),
            1 if is_known => (known.0, known.1 + 2, false),
            2 if is_known => (known.0 - 1, known.1 + 1, false),
            _ => (known.0, known.1 + 1, true),
        };
        let end = self.leader.log.log_end_offset();
        let done = self.leader.append(1, &data(id, epoch, sequence), EPOCH);
        if accepted {
            assert_eq!(done.unwrap().base_offset, end, "{id} {epoch} {sequence} after {known:?}");
            self.model.entries.push(Entry::Data { id, epoch, sequence });
            let again = self.leader.append(1, &data(id, epoch, sequence), EPOCH);
            assert_eq!(again.unwrap().base_offset, end, "a retry is answered with its first offset");
        } else {
            assert!(done.is_err(), "{id} {epoch} {sequence} after {known:?}");
        }
    }

    fn end(&mut self) {
        let id = 7 + i64::from(self.chance(3));
        let (epoch, _) = self.model.told(0).producers.get(&id).copied().unwrap_or((0, -1));
        let commit = self.chance(2) == 0;
        let epoch = epoch + self.chance(2) as i16;
        self.leader.mark(&marker(id, epoch, commit, 0), 0).unwrap();
        self.model.entries.push(Entry::Marker { id, epoch, commit });
    }

    /// The leader dies; the follower leads with what it has, and the other one cuts what that does not have.
    fn fail_over(&mut self) {
        let to = self.follower.log.log_end_offset();
        self.model.entries.truncate(to as usize);
        core::mem::swap(&mut self.leader, &mut self.follower);
        let Bench { disk, log } = &mut self.follower;
        log.truncate_to(at_s(2), disk, &StdCodecs, to).unwrap();
    }

    fn restart(&mut self) {
        let clean = self.chance(2) == 0;
        let mut bench = self.leader.clone();
        if clean {
            bench.log.close(at_s(3), &mut bench.disk, &StdCodecs).unwrap();
        }
        self.leader = bench.reopen(clean).0;
    }

    fn check(&self, seed: u64) {
        let hw = self.leader.log.high_watermark();
        assert_eq!(told(&self.leader.log), self.model.told(hw), "seed {seed}: {:?}", self.model.entries);
        let mut prefix = self.model.clone();
        prefix.entries.truncate(self.follower.log.log_end_offset() as usize);
        let hw = self.follower.log.high_watermark();
        assert_eq!(told(&self.follower.log), prefix.told(hw), "seed {seed}, follower");
    }
}

/// Any interleaving of retries, gaps, transactions, replication, leader changes, snapshots (rolls), restarts after which
/// indexes are rebuilt, and truncations.
#[test]
fn the_state_of_transactions_is_that_of_a_naive_model() {
    for seed in 0..60 {
        let config = small(400);
        let mut pair = Pair {
            leader: Bench::new(config.clone()),
            follower: Bench::new(config),
            model: Model::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        };
        for _ in 0..80 {
            match pair.chance(20) {
                0..=9 => pair.produce(),
                10..=13 => pair.end(),
                14..=16 => pair.replicate(),
                17 => pair.fail_over(),
                18 => pair.restart(),
                _ => {
                    let Bench { disk, log } = &mut pair.leader;
                    let hw = log.high_watermark();
                    log.truncate_to(at_s(2), disk, &StdCodecs, hw).unwrap();
                    let to = hw.min(pair.follower.log.log_end_offset());
                    assert_eq!(to, hw, "what is committed is on both");
                    let Bench { disk, log } = &mut pair.follower;
                    log.truncate_to(at_s(2), disk, &StdCodecs, hw).unwrap();
                    pair.model.entries.truncate(hw as usize);
                }
            }
            pair.check(seed);
        }
    }
}

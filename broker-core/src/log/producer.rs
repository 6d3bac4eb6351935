//! What a partition knows of its producers: Kafka's `ProducerStateManager`.
//!
//! For each producer id its epoch, the sequence ranges of its last five batches, and where they lie. A batch that comes
//! again is answered with its first offset and not appended; a gap in the sequence is refused (KIP-98, KIP-360). The
//! state is a function of the log: after a restart or a truncation it is read from the nearest snapshot and the batches
//! behind it. A snapshot keeps only the last batch of each producer, so older duplicates are unknown after a restart.
//!
//! Beside it stand the transactions: which are open and where they begin, and which are ended by a marker that is not
//! yet replicated. The smallest of their first offsets bounds what readers of committed transactions may see. The first
//! batch of a transaction must have been verified with the transaction coordinator (KIP-890): a [`Guard`] stands for
//! one such verification, and is worth nothing once anything of that producer was appended.

use crate::mutant::{Mutant, Mutants};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use bytes::{BufMut, Bytes, BytesMut};
use wire::batch::{BatchHeader, ControlRecord, RecordIter, increment_sequence};
use wire::{Codecs, Rope};

/// So many batches of a producer are remembered: the most that a client may have in flight.
const REMEMBERED: usize = 5;
const NO_SEQUENCE: i32 = -1;
const NO_EPOCH: i16 = -1;
const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_HEAD: usize = 10;
const SNAPSHOT_ENTRY: usize = 46;

/// What a batch of a producer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProducerBatch {
    pub id: i64,
    pub epoch: i16,
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub timestamp: i64,
    pub transactional: bool,
    pub control: bool,
    /// What a control batch says; absent where compaction has emptied it.
    pub marker: Option<Marker>,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub commit: bool,
    pub coordinator_epoch: i32,
}

impl Marker {
    /// Of a control batch, whose records are never compressed.
    fn read(header: &BatchHeader, batch: &Rope) -> Option<Marker> {
        let at = wire::batch::HEADER_LEN;
        let records = batch.slice(at, batch.len() - at).to_bytes();
        let record = RecordIter::new(header, &records).next()?.ok()?;
        let (commit, marker) = match ControlRecord::of(&record).ok()? {
            ControlRecord::Commit(marker) => (true, marker),
            ControlRecord::Abort(marker) => (false, marker),
            _ => return None,
        };
        Some(Marker { commit, coordinator_epoch: marker.coordinator_epoch })
    }
}

impl ProducerBatch {
    /// Of a whole batch that carries a producer id.
    pub fn read(header: &BatchHeader, batch: &Rope) -> Option<ProducerBatch> {
        let mut producer = ProducerBatch::of(header)?;
        if producer.control {
            producer.marker = Marker::read(header, batch);
        }
        Some(producer)
    }

    /// Of a batch that carries a producer id, without what a marker says.
    pub fn of(header: &BatchHeader) -> Option<ProducerBatch> {
        header.has_producer_id().then(|| ProducerBatch {
            id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            timestamp: header.max_timestamp,
            transactional: header.is_transactional(),
            control: header.is_control(),
            marker: None,
        })
    }
}

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Appended {
    first_sequence: i32,
    last_sequence: i32,
    first_offset: i64,
    last_offset: i64,
    timestamp: i64,
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    coordinator_epoch: i32,
    batches: VecDeque<Appended>,
    last_timestamp: i64,
    transaction_first_offset: Option<i64>,
}

/// A batch that lies in the log already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub first_offset: i64,
    pub last_offset: i64,
    pub timestamp: i64,
}

/// Why a producer's batch or marker is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A producer with a later epoch has taken over.
    StaleEpoch { known: i16 },
    /// The sequence does not continue.
    OutOfOrder { last: i32 },
    /// The first batch of a new epoch does not begin at 0.
    NewEpochNotAtZero { known: i16 },
    /// The first sequence of a producer of which nothing is known must be 0 with transactions of version 2.
    UnknownNotAtZero,
    /// A batch with a smaller sequence was seen first, and is not yet appended.
    Overtaken { lowest: i32 },
    /// It belongs to no transaction that the coordinator is known to know of.
    Unverified,
    /// It belongs to no transaction while one of its producer is open.
    NotTransactional,
    /// A later coordinator has taken over.
    StaleCoordinator { known: i32 },
}

/// Stands for one verification of a producer's transaction with its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guard(u64);

/// What an append knows of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verification {
    /// `transaction.partition.verification.enable` is off.
    #[default]
    Off,
    /// Only a transaction that is open in this partition may be continued.
    Required,
    /// The coordinator has answered for this guard.
    Verified(Guard),
}

/// A producer whose transaction is being verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unverified {
    guard: Guard,
    lowest_sequence: i32,
    epoch: i16,
    since_ms: i64,
    supports_epoch_bump: bool,
}

/// A transaction that a marker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompletedTxn {
    pub producer_id: i64,
    pub first_offset: i64,
    /// The marker's offset.
    pub last_offset: i64,
    pub commit: bool,
    /// The last stable offset once it is ended and replicated, as the transaction index has it.
    pub last_stable_offset: i64,
}

/// A producer, as DescribeProducers shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The last sequence, -1 for none.
    pub last_sequence: i32,
    /// The timestamp of its last batch or marker.
    pub last_timestamp: i64,
    /// The coordinator's epoch in its last marker, -1 for none.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins.
    pub transaction_first_offset: Option<i64>,
}

/// The producers of one log.
#[derive(Clone, Debug)]
pub(super) struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// The state covers everything below.
    pub covered: i64,
    /// The offset of the latest snapshot.
    pub last_snapshot: Option<i64>,
    /// Open transactions: first offset, producer id.
    ongoing: BTreeMap<i64, i64>,
    /// Ended transactions whose marker is not below the high watermark: first offset, the marker's offset.
    unreplicated: BTreeMap<i64, i64>,
    /// The smallest first offset of both; `i64::MAX` when there is none.
    first_unstable: i64,
    unverified: BTreeMap<i64, Unverified>,
    next_guard: u64,
    /// Bugs that are switched on.
    mutants: Mutants,
}

impl Default for Producers {
    fn default() -> Producers {
        Producers {
            by_id: BTreeMap::new(),
            covered: 0,
            last_snapshot: None,
            ongoing: BTreeMap::new(),
            unreplicated: BTreeMap::new(),
            first_unstable: i64::MAX,
            unverified: BTreeMap::new(),
            next_guard: 0,
            mutants: Mutants::NONE,
        }
    }
}

impl Producers {
    /// No producer yet.
    pub fn new(mutants: Mutants) -> Producers {
        Producers { mutants, ..Producers::default() }
    }

    /// Whether a client's batch is new (`None`), was appended before, or must be refused.
    pub fn check(
        &self,
        batch: &ProducerBatch,
        verification: Verification,
    ) -> Result<Option<Duplicate>, Refused> {
        let known = self.by_id.get(&batch.id);
        if let Some(same) = known.filter(|known| known.epoch == batch.epoch).and_then(|known| {
            let same = |b: &&Appended| {
                b.first_sequence == batch.first_sequence && b.last_sequence == batch.last_sequence
            };
            let window = if self.mutants.has(Mutant::DuplicateWindowOfOne) { 1 } else { REMEMBERED };
            known.batches.iter().rev().take(window).find(same)
        }) {
            return Ok(Some(Duplicate {
                first_offset: same.first_offset,
                last_offset: same.last_offset,
                timestamp: same.timestamp,
            }));
        }
        self.check_transaction(batch, verification)?;
        self.check_epoch(batch)?;
        self.check_sequence(batch, known)?;
        match known {
            Some(known) if known.transaction_first_offset.is_some() && !batch.transactional => {
                Err(Refused::NotTransactional)
            }
            _ => Ok(None),
        }
    }

    /// The same for a batch of a coordinator of this node, which has no sequence: offsets in a transaction, a marker.
    pub fn check_of_coordinator(
        &self,
        batch: &ProducerBatch,
        verification: Verification,
        transaction_version: i8,
    ) -> Result<(), Refused> {
        if batch.control {
            return self.check_marker(batch, transaction_version);
        }
        self.check_transaction(batch, verification)?;
        self.check_epoch(batch)?;
        if self.open_transaction(batch.id).is_some() && !batch.transactional {
            return Err(Refused::NotTransactional);
        }
        Ok(())
    }

    /// A batch continues a transaction that is open here, or its transaction was verified since.
    fn check_transaction(&self, batch: &ProducerBatch, verification: Verification) -> Result<(), Refused> {
        if !batch.transactional || self.has_ongoing(batch.id, batch.epoch) {
            return Ok(());
        }
        let verified = match verification {
            Verification::Off => true,
            Verification::Required => false,
            // One that has been used up, or was never asked for, is another.
            Verification::Verified(guard) => self.unverified.get(&batch.id).is_some_and(|u| u.guard == guard),
        };
        if verified {
            return Ok(());
        }
        self.check_epoch(batch)?;
        Err(Refused::Unverified)
    }

    fn check_epoch(&self, batch: &ProducerBatch) -> Result<(), Refused> {
        if self.mutants.has(Mutant::ZombieNotFenced) {
            return Ok(());
        }
        match self.by_id.get(&batch.id) {
            Some(known) if batch.epoch < known.epoch => Err(Refused::StaleEpoch { known: known.epoch }),
            _ => Ok(()),
        }
    }

    fn check_sequence(&self, batch: &ProducerBatch, known: Option<&Producer>) -> Result<(), Refused> {
        if self.mutants.has(Mutant::SequenceNotChecked) {
            return Ok(());
        }
        let first = batch.first_sequence;
        if let Some(unverified) = self.unverified.get(&batch.id) {
            let nothing_known = known.is_none_or(|known| known.batches.is_empty());
            if unverified.supports_epoch_bump && first != 0 && nothing_known {
                return Err(Refused::UnknownNotAtZero);
            }
            if first > unverified.lowest_sequence {
                return Err(Refused::Overtaken { lowest: unverified.lowest_sequence });
            }
        }
        let Some(known) = known else { return Ok(()) };
        if batch.epoch != known.epoch {
            let fresh = first == 0 || known.epoch == NO_EPOCH;
            return if fresh { Ok(()) } else { Err(Refused::NewEpochNotAtZero { known: known.epoch }) };
        }
        let last = known.batches.back().map_or(NO_SEQUENCE, |b| b.last_sequence);
        let follows = first == increment_sequence(last, 1) || last == NO_SEQUENCE && first == 0;
        if follows { Ok(()) } else { Err(Refused::OutOfOrder { last }) }
    }

    /// A coordinator of transactions of version 2 raises the epoch before it writes the marker: one that is not above
    /// what is known is late, unless it comes again after its transaction has ended (KIP-1228, KAFKA-19999).
    fn check_marker(&self, batch: &ProducerBatch, transaction_version: i8) -> Result<(), Refused> {
        let Some(known) = self.by_id.get(&batch.id) else { return Ok(()) };
        let again = batch.epoch == known.epoch && known.transaction_first_offset.is_none();
        let late = match transaction_version {
            2.. if !self.mutants.has(Mutant::LateMarkerAccepted) => batch.epoch <= known.epoch && !again,
            _ => batch.epoch < known.epoch,
        };
        if late {
            return Err(Refused::StaleEpoch { known: known.epoch });
        }
        match batch.marker {
            Some(marker) if marker.coordinator_epoch < known.coordinator_epoch => {
                Err(Refused::StaleCoordinator { known: known.coordinator_epoch })
            }
            _ => Ok(()),
        }
    }

    /// Learns a batch that was appended, by whomever. The transaction that it ended.
    pub fn appended(
        &mut self,
        batch: &ProducerBatch,
        first_offset: i64,
        last_offset: i64,
    ) -> Option<CompletedTxn> {
        if batch.control && batch.marker.is_none() {
            // All of its transaction is compacted away.
            return None;
        }
        if batch.transactional && !self.unverified.is_empty() {
            self.end_verification(batch);
        }
        let producer = self.by_id.entry(batch.id).or_insert_with(|| Producer {
            epoch: batch.epoch,
            coordinator_epoch: -1,
            batches: VecDeque::new(),
            last_timestamp: batch.timestamp,
            transaction_first_offset: None,
        });
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = batch.timestamp;
        if let Some(marker) = batch.marker {
            // A marker ends the transaction; it has no sequence of its own.
            producer.coordinator_epoch = marker.coordinator_epoch;
            let first_offset = producer.transaction_first_offset.take()?;
            return Some(self.complete(batch.id, first_offset, last_offset, marker.commit));
        }
        if batch.transactional && producer.transaction_first_offset.is_none() {
            producer.transaction_first_offset = Some(first_offset);
            self.ongoing.insert(first_offset, batch.id);
            self.first_unstable = self.first_unstable.min(first_offset);
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Appended {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            first_offset,
            last_offset,
            timestamp: batch.timestamp,
        });
        None
    }

    fn complete(
        &mut self,
        producer_id: i64,
        first_offset: i64,
        last_offset: i64,
        commit: bool,
    ) -> CompletedTxn {
        let was_open = self.ongoing.remove(&first_offset);
        assert_eq!(was_open, Some(producer_id), "a transaction that ends was open");
        self.unreplicated.insert(first_offset, last_offset);
        let next_open = self.ongoing.keys().next().copied();
        let last_stable_offset = next_open.unwrap_or(last_offset + 1);
        CompletedTxn { producer_id, first_offset, last_offset, commit, last_stable_offset }
    }

    // --- transactions

    /// The first offset that belongs to a transaction that is open, or whose end is not replicated.
    #[inline]
    pub fn first_unstable_offset(&self) -> Option<i64> {
        (self.first_unstable != i64::MAX).then_some(self.first_unstable)
    }

    /// Markers below this offset are replicated.
    #[inline]
    pub fn replicated_up_to(&mut self, offset: i64) {
        if !self.unreplicated.is_empty() {
            self.unreplicated.retain(|_, marker| *marker >= offset);
            self.find_first_unstable();
        }
    }

    fn find_first_unstable(&mut self) {
        let first = |transactions: &BTreeMap<i64, i64>| transactions.keys().next().copied();
        let (ongoing, unreplicated) = (first(&self.ongoing), first(&self.unreplicated));
        self.first_unstable = ongoing.into_iter().chain(unreplicated).min().unwrap_or(i64::MAX);
    }

    /// Where the open transactions begin, ascending, with their producers' ids.
    pub fn open_transactions(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.ongoing.iter().map(|(first, id)| (*first, *id))
    }

    fn open_transaction(&self, id: i64) -> Option<i64> {
        self.by_id.get(&id)?.transaction_first_offset
    }

    fn has_ongoing(&self, id: i64, epoch: i16) -> bool {
        self.by_id.get(&id).is_some_and(|p| p.transaction_first_offset.is_some() && p.epoch == epoch)
    }

    /// Begins to verify a producer's transaction; `None` if it is open here already.
    pub fn start_verification(
        &mut self,
        now_ms: i64,
        id: i64,
        epoch: i16,
        sequence: i32,
        supports_epoch_bump: bool,
    ) -> Option<Guard> {
        if self.has_ongoing(id, epoch) {
            return None;
        }
        let next = &mut self.next_guard;
        let entry = self.unverified.entry(id).or_insert_with(|| {
            *next += 1;
            let guard = Guard(*next);
            Unverified { guard, lowest_sequence: sequence, epoch, since_ms: now_ms, supports_epoch_bump }
        });
        if epoch > entry.epoch {
            (entry.epoch, entry.lowest_sequence) = (epoch, sequence);
        } else if epoch == entry.epoch {
            entry.lowest_sequence = entry.lowest_sequence.min(sequence);
        }
        entry.supports_epoch_bump = supports_epoch_bump;
        Some(entry.guard)
    }

    /// What was verified is used up, or too late once a marker is here. A marker of transactions of version 2 bears the
    /// epoch that the producer has after it: if that is the one being verified, it is the next transaction's, which
    /// the marker does not concern (`UnifiedLog.updateProducers`).
    fn end_verification(&mut self, batch: &ProducerBatch) {
        let next_has_begun =
            |u: &Unverified| u.supports_epoch_bump && batch.control && u.epoch == batch.epoch;
        if !self.unverified.get(&batch.id).is_some_and(next_has_begun) {
            self.unverified.remove(&batch.id);
        }
    }

    /// What the cleaner must leave of each producer: its epoch, and where its last batch ends.
    pub fn last_records(&self) -> BTreeMap<i64, (i16, Option<i64>)> {
        let last = |p: &Producer| (p.epoch, p.batches.back().map(|b| b.last_offset));
        self.by_id.iter().map(|(id, p)| (*id, last(p))).collect()
    }

    /// All producers, by id.
    pub fn active(&self) -> impl Iterator<Item = ActiveProducer> + '_ {
        self.by_id.iter().map(|(id, p)| ActiveProducer {
            producer_id: *id,
            producer_epoch: p.epoch,
            last_sequence: p.batches.back().map_or(NO_SEQUENCE, |b| b.last_sequence),
            last_timestamp: p.last_timestamp,
            coordinator_epoch: p.coordinator_epoch,
            transaction_first_offset: p.transaction_first_offset,
        })
    }

    /// Panics when what is known of transactions contradicts itself.
    pub fn check_invariants(&self) {
        if self.first_unstable == i64::MAX {
            assert!(self.ongoing.is_empty() && self.unreplicated.is_empty(), "nothing is unstable");
        }
        for (first, id) in &self.ongoing {
            assert_eq!(self.open_transaction(*id), Some(*first), "an open transaction is its producer's");
            assert!(*first < self.covered && self.first_unstable <= *first);
        }
    }

    /// Another state of the same log, read from its files: verifications go on.
    pub fn take_over(&mut self, other: Producers) {
        let (unverified, next_guard) = (core::mem::take(&mut self.unverified), self.next_guard);
        *self = Producers { unverified, next_guard, mutants: self.mutants, ..other };
    }

    /// Forgets producers that were silent for so long (`producer.id.expiration.ms`), unless a transaction is open.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.by_id.retain(|_, p| {
            p.transaction_first_offset.is_some() || now_ms.saturating_sub(p.last_timestamp) < expiration_ms
        });
        self.unverified.retain(|_, u| now_ms.saturating_sub(u.since_ms) < expiration_ms);
    }

    /// Forgets everything, as before the offset `start`.
    pub fn clear(&mut self, start: i64) {
        self.by_id.clear();
        self.ongoing.clear();
        self.unreplicated.clear();
        self.first_unstable = i64::MAX;
        self.covered = start;
        self.last_snapshot = None;
    }

    /// The bytes of a `.snapshot` file.
    pub fn snapshot(&self, codecs: &dyn Codecs) -> Bytes {
        let mut entries = BytesMut::with_capacity(SNAPSHOT_ENTRY * self.by_id.len() + 4);
        entries.put_i32(self.by_id.len() as i32);
        for (id, producer) in &self.by_id {
            let last = producer.batches.back();
            entries.put_i64(*id);
            entries.put_i16(producer.epoch);
            entries.put_i32(last.map_or(NO_SEQUENCE, |b| b.last_sequence));
            entries.put_i64(last.map_or(-1, |b| b.last_offset));
            entries.put_i32(last.map_or(0, |b| (b.last_offset - b.first_offset) as i32));
            entries.put_i64(producer.last_timestamp);
            entries.put_i32(producer.coordinator_epoch);
            entries.put_i64(producer.transaction_first_offset.unwrap_or(-1));
        }
        let mut all = BytesMut::with_capacity(6 + entries.len());
        all.put_i16(SNAPSHOT_VERSION);
        all.put_u32(codecs.crc32c(0, &entries));
        all.extend_from_slice(&entries);
        all.freeze()
    }

    /// Reads a `.snapshot` file that covers everything below `covered`; `None` if it is damaged.
    pub fn restore(bytes: &[u8], covered: i64, codecs: &dyn Codecs) -> Option<Producers> {
        let (head, entries) = bytes.split_at_checked(SNAPSHOT_HEAD)?;
        let number = |at: usize, len: usize, from: &[u8]| {
            from[at..at + len].iter().fold(0u64, |n, b| n << 8 | u64::from(*b))
        };
        let count = number(6, 4, head) as usize;
        if number(0, 2, head) != SNAPSHOT_VERSION as u64
            || number(2, 4, head) != u64::from(codecs.crc32c(0, &bytes[6..]))
            || entries.len() != count.checked_mul(SNAPSHOT_ENTRY)?
        {
            return None;
        }
        let mut producers = Producers { covered, last_snapshot: Some(covered), ..Producers::default() };
        for entry in entries.chunks_exact(SNAPSHOT_ENTRY) {
            let (last_sequence, last_offset) = (number(10, 4, entry) as i32, number(14, 8, entry) as i64);
            let (delta, timestamp) = (number(22, 4, entry) as i32, number(26, 8, entry) as i64);
            let transaction = number(38, 8, entry) as i64;
            let batches = (last_offset >= 0 && last_sequence >= 0).then(|| Appended {
                first_sequence: wire::batch::decrement_sequence(last_sequence, delta),
                last_sequence,
                first_offset: last_offset - i64::from(delta),
                last_offset,
                timestamp,
            });
            let id = number(0, 8, entry) as i64;
            if transaction >= 0
                && (transaction >= covered || producers.ongoing.insert(transaction, id).is_some())
            {
                return None;
            }
            producers.by_id.insert(
                id,
                Producer {
                    epoch: number(8, 2, entry) as i16,
                    coordinator_epoch: number(34, 4, entry) as i32,
                    batches: batches.into_iter().collect(),
                    last_timestamp: timestamp,
                    transaction_first_offset: (transaction >= 0).then_some(transaction),
                },
            );
        }
        producers.find_first_unstable();
        Some(producers)
    }

    /// The ids that are known, with the last sequence of each.
    #[cfg(test)]
    pub fn ids(&self) -> Vec<(i64, i16, i32)> {
        let last = |p: &Producer| p.batches.back().map_or(NO_SEQUENCE, |b| b.last_sequence);
        self.by_id.iter().map(|(id, p)| (*id, p.epoch, last(p))).collect()
    }
}

/// The offset in a snapshot file's name.
pub(super) fn snapshot_offset(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".snapshot")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// The offsets of the snapshots among a directory's names, latest first.
pub(super) fn snapshot_offsets(names: &[alloc::string::String]) -> Vec<i64> {
    let mut offsets: Vec<i64> = names.iter().filter_map(|name| snapshot_offset(name)).collect();
    offsets.sort_unstable_by(|a, b| b.cmp(a));
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::StdCodecs;

    fn batch(epoch: i16, first: i32, last: i32) -> ProducerBatch {
        ProducerBatch {
            id: 7,
            epoch,
            first_sequence: first,
            last_sequence: last,
            timestamp: 1000,
            transactional: false,
            control: false,
            marker: None,
        }
    }

    fn marker(epoch: i16, commit: bool, coordinator_epoch: i32) -> ProducerBatch {
        let marker = Some(Marker { commit, coordinator_epoch });
        ProducerBatch { control: true, transactional: true, marker, ..batch(epoch, -1, -1) }
    }

    /// Appends batches of one record each, sequence = offset.
    fn after(epoch: i16, sequences: core::ops::RangeInclusive<i32>) -> Producers {
        let mut producers = Producers::default();
        for s in sequences {
            producers.appended(&batch(epoch, s, s), i64::from(s), i64::from(s));
        }
        producers
    }

    #[test]
    fn kafkas_rules_for_sequences() {
        let known = after(3, 0..=9);
        let duplicate = |n: i64| Ok(Some(Duplicate { first_offset: n, last_offset: n, timestamp: 1000 }));
        for (what, epoch, first, want) in [
            ("the next", 3, 10, Ok(None)),
            ("the last again", 3, 9, duplicate(9)),
            ("the fifth last again", 3, 5, duplicate(5)),
            ("older than five", 3, 4, Err(Refused::OutOfOrder { last: 9 })),
            ("a gap", 3, 11, Err(Refused::OutOfOrder { last: 9 })),
            ("a new epoch at 0", 4, 0, Ok(None)),
            ("a new epoch elsewhere", 4, 1, Err(Refused::NewEpochNotAtZero { known: 3 })),
            ("an old epoch", 2, 10, Err(Refused::StaleEpoch { known: 3 })),
            ("an old epoch with a known sequence", 2, 9, Err(Refused::StaleEpoch { known: 3 })),
        ] {
            assert_eq!(known.check(&batch(epoch, first, first), Verification::Off), want, "{what}");
        }
        assert_eq!(
            Producers::default().check(&batch(3, 42, 42), Verification::Off),
            Ok(None),
            "no state accepts any (KIP-360)"
        );
        let mut wrapped = Producers::default();
        wrapped.appended(&batch(0, i32::MAX - 1, i32::MAX), 0, 1);
        assert_eq!(wrapped.check(&batch(0, 0, 4), Verification::Off), Ok(None), "sequences wrap to 0");
    }

    #[test]
    fn producers_expire_but_not_inside_a_transaction() {
        let mut producers = after(0, 0..=3);
        producers.appended(&ProducerBatch { id: 8, transactional: true, ..batch(0, 0, 0) }, 4, 4);
        producers.expire(1000 + 86_400_000, 86_400_000);
        assert_eq!(producers.ids(), [(8, 0, 0)]);
        producers.appended(&ProducerBatch { id: 8, ..marker(0, true, 0) }, 5, 5);
        producers.expire(1000 + 86_400_000, 86_400_000);
        assert_eq!(producers.ids(), []);
    }

    #[test]
    fn snapshots_are_kafkas_bytes() {
        let mut producers = Producers::default();
        let last = ProducerBatch { id: 1000, timestamp: 1_700_000_000_005, ..batch(0, 0, 1) };
        producers.appended(&last, 7, 8);
        let bytes = producers.snapshot(&StdCodecs);
        let hex: alloc::string::String = bytes.iter().map(|b| alloc::format!("{b:02x}")).collect();
        let golden = "000155d5deb10000000100000000000003e80000000000010000000000000008000000010000018bcfe56805ffffffffffffffffffffffff";
        assert_eq!(hex, golden);
        let restored = Producers::restore(&bytes, 9, &StdCodecs).unwrap();
        assert_eq!(restored.by_id, producers.by_id);
        for i in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[i] ^= 4;
            assert!(Producers::restore(&damaged, 9, &StdCodecs).is_none(), "byte {i}");
            assert!(Producers::restore(&bytes[..i], 9, &StdCodecs).is_none(), "cut at {i}");
        }
    }
}

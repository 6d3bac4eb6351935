//! Transactions as their clients see them: all of one is there, or nothing.
//!
//! A program tells when a transaction began, at which offsets its records were acknowledged, and how it ended. Nobody who
//! reads committed transactions may see a record of one that was aborted ([`Finding::AbortedRead`]: Jepsen's `G1a`). At
//! the end, who reads everything that is committed finds all records of a transaction whose commit was acknowledged, and
//! of one whose end nobody heard all or none.
//!
//! A commit is visible before its producer hears of it. So a read is judged by the markers that brokers have appended
//! ([`Transactions::marker`]): one that commits lies behind the record, or it was read too early
//! ([`Finding::PrecommittedRead`]). Where a producer's id is not known, it is judged when the transaction's end is.
//!
//! [`Hanging`] looks at the brokers at the end: a transaction that is open in a log is one that a coordinator knows, and
//! will end.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{FinalRead, History, PartitionIndex};

/// A record of an aborted transaction was read.
pub const ABORTED_READ: &str = "G1a";
/// A record was read before its transaction was decided.
pub const PRECOMMITTED_READ: &str = "precommitted-read";
/// A transaction is there in part.
pub const TORN: &str = "torn-transaction";
/// A transaction that no coordinator will end.
pub const HANGING: &str = "HangingTransaction";

/// Who reads a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Somebody with isolation.level=read_committed.
    Committed,
    /// Somebody who wants to see everything, with isolation.level=read_uncommitted.
    Uncommitted,
    /// The reader of everything that is committed, at the end of the run.
    Final,
}

/// How a transaction ended, as far as its program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has not ended, or nobody lived to hear how.
    Open,
    /// The commit was acknowledged.
    Committed,
    /// It was aborted.
    Aborted,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A record of an aborted transaction was read.
    AbortedRead {
        /// Where.
        at: PartitionIndex,
        /// Its offset.
        offset: i64,
        /// Whose transaction, and which.
        transaction: (String, u64),
        /// Who read it wanted to see everything.
        uncommitted: bool,
    },
    /// A record was read before its transaction was decided.
    PrecommittedRead {
        /// Where.
        at: PartitionIndex,
        /// Its offset.
        offset: i64,
        /// Whose transaction, and which.
        transaction: (String, u64),
        /// Who read it wanted to see everything.
        uncommitted: bool,
    },
    /// A record of a committed transaction is not there.
    Lost {
        /// Where.
        at: PartitionIndex,
        /// Its offset.
        offset: i64,
        /// Whose transaction, and which.
        transaction: (String, u64),
    },
    /// A transaction is there in part.
    Torn {
        /// Where a record is missing.
        at: PartitionIndex,
        /// Its offset.
        offset: i64,
        /// Whose transaction, and which.
        transaction: (String, u64),
    },
}

#[derive(Clone, Debug)]
struct Transaction {
    whose: String,
    number: u64,
    fate: Fate,
    /// Its producer's id, once a coordinator has told it.
    producer: Option<i64>,
    /// Its records, and whether each was read by who reads committed transactions: ever, and at the end.
    records: BTreeMap<(PartitionIndex, i64), Read>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Read {
    ever: bool,
    finally: bool,
    /// That it was read was told as a finding.
    told: bool,
    /// It was read by who wants to see everything, and that was told as a finding.
    seen: bool,
    seen_told: bool,
}

/// The transactions of a run.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    /// The topics into which programs write in transactions.
    topics: BTreeSet<String>,
    /// By number, without those of which nothing is left.
    all: BTreeMap<usize, Transaction>,
    next: usize,
    /// The one that each program is in, by the program's place.
    current: BTreeMap<usize, usize>,
    /// By where a record lies.
    of_record: BTreeMap<(PartitionIndex, i64), usize>,
    /// By transactional id: its producer's id.
    producers: BTreeMap<String, i64>,
    /// By partition and producer: the offsets of its markers, rising, and whether each commits.
    markers: BTreeMap<(PartitionIndex, i64), Vec<(i64, bool)>>,
    findings: Vec<Finding>,
}

impl Transactions {
    /// Of programs that write into these topics.
    pub fn of(topics: impl IntoIterator<Item = String>) -> Transactions {
        Transactions { topics: topics.into_iter().collect(), ..Transactions::default() }
    }

    /// Whether a program writes into a topic in transactions.
    pub fn writes_to(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// A program began a transaction.
    pub fn began(&mut self, program: usize, whose: &str, number: u64) {
        self.current.insert(program, self.next);
        let (whose, fate, records) = (whose.to_owned(), Fate::Open, BTreeMap::new());
        self.all.insert(self.next, Transaction { whose, number, fate, producer: None, records });
        self.next += 1;
    }

    /// A coordinator told the producer's id of a transactional id.
    pub fn producer(&mut self, transactional_id: &str, producer: i64) {
        if self.producers.get(transactional_id) != Some(&producer) {
            self.producers.insert(transactional_id.to_owned(), producer);
        }
    }

    /// A leader appended the marker that ends a producer's transaction in a partition.
    pub fn marker(&mut self, at: PartitionIndex, producer: i64, offset: i64, commits: bool) {
        let markers = self.markers.entry((at, producer)).or_default();
        // One that no follower had got is written again by the next leader, perhaps somewhere else.
        markers.truncate(markers.partition_point(|(known, _)| *known < offset));
        markers.push((offset, commits));
    }

    /// So many records of the program's transaction were acknowledged from `base` on.
    pub fn written(&mut self, program: usize, at: PartitionIndex, base: i64, count: usize) {
        let Some(&transaction) = self.current.get(&program) else { return };
        let known = self.all.get_mut(&transaction).expect("a current one is kept");
        known.producer = self.producers.get(&known.whose).copied();
        for offset in (base..).take(if base < 0 { 0 } else { count }) {
            self.of_record.insert((at, offset), transaction);
            known.records.entry((at, offset)).or_default();
        }
    }

    /// The program heard how its transaction ended, or will not hear it any more.
    pub fn ended(&mut self, program: usize, fate: Fate) {
        let Some(index) = self.current.remove(&program) else { return };
        let ended = self.all.get_mut(&index).expect("a current one is kept");
        ended.fate = fate;
        if fate == Fate::Aborted {
            let read = ended.records.iter().find(|(_, read)| read.ever && !read.told);
            let seen = ended.records.iter().find(|(_, read)| read.seen && !read.seen_told);
            for (read, uncommitted) in [(read, false), (seen, true)] {
                let Some((&(at, offset), _)) = read else { continue };
                let transaction = (ended.whose.clone(), ended.number);
                self.findings.push(Finding::AbortedRead { at, offset, transaction, uncommitted });
            }
        }
        self.forget_if_empty(index);
    }

    /// Everything below `offset` was deleted on purpose: nobody misses it, and nobody reads it any more.
    pub fn log_start(&mut self, at: PartitionIndex, offset: i64) {
        let below = self.of_record.range((at, i64::MIN)..(at, offset));
        let below: Vec<_> = below.map(|(key, index)| (*key, *index)).collect();
        for (key, index) in below {
            self.of_record.remove(&key);
            if let Some(transaction) = self.all.get_mut(&index) {
                transaction.records.remove(&key);
            }
            self.forget_if_empty(index);
        }
        for (_, markers) in self.markers.range_mut((at, i64::MIN)..=(at, i64::MAX)) {
            markers.drain(..markers.partition_point(|(known, _)| *known < offset));
        }
    }

    /// A topic was deleted: nobody misses its records, and another one of its name begins at offset 0.
    pub fn topic_deleted(&mut self, topic: &str, history: &History) {
        let mut places: BTreeSet<PartitionIndex> = self.of_record.keys().map(|(at, _)| *at).collect();
        places.extend(self.markers.keys().map(|(at, _)| *at));
        for at in places.into_iter().filter(|at| history.name(*at).0 == topic) {
            self.log_start(at, i64::MAX);
        }
    }

    /// A transaction that has ended and of which nothing is left: memory does not grow with what was deleted.
    fn forget_if_empty(&mut self, index: usize) {
        let ended = !self.current.values().any(|current| *current == index);
        if ended && self.all.get(&index).is_some_and(|t| t.records.is_empty()) {
            self.all.remove(&index);
        }
    }

    /// Somebody read a record.
    pub fn read(&mut self, at: PartitionIndex, offset: i64, reader: Reader) {
        let Some(&index) = self.of_record.get(&(at, offset)) else { return };
        let marker = self.marker_behind(index, at, offset);
        let fate = self.all[&index].fate;
        let aborted = fate == Fate::Aborted || marker == Some(Some(false));
        let early = fate == Fate::Open && marker == Some(None);
        let transaction = self.all.get_mut(&index).expect("it has a record");
        let read = transaction.records.get_mut(&(at, offset)).expect("it is one of its records");
        let uncommitted = reader == Reader::Uncommitted;
        let (read_by, told) = match reader {
            Reader::Uncommitted => (&mut read.seen, &mut read.seen_told),
            Reader::Committed | Reader::Final => (&mut read.ever, &mut read.told),
        };
        *read_by = true;
        read.finally |= reader == Reader::Final;
        if *told || !(aborted || early) {
            return;
        }
        *told = true;
        let transaction = self.name(index);
        self.findings.push(match aborted {
            true => Finding::AbortedRead { at, offset, transaction, uncommitted },
            false => Finding::PrecommittedRead { at, offset, transaction, uncommitted },
        });
    }

    /// Whether the marker behind a record commits, if there is one; `None` if nobody knows whose marker to look for.
    fn marker_behind(&self, index: usize, at: PartitionIndex, offset: i64) -> Option<Option<bool>> {
        let producer = self.all[&index].producer?;
        let markers = self.markers.get(&(at, producer)).map_or(&[][..], Vec::as_slice);
        Some(markers.get(markers.partition_point(|(known, _)| *known <= offset)).map(|(_, commits)| *commits))
    }

    /// Whether the record at an offset is committed, as far as is known; `None` if it is no transaction's that is known.
    pub fn is_committed(&self, at: PartitionIndex, offset: i64) -> Option<bool> {
        let &index = self.of_record.get(&(at, offset))?;
        let by_marker = self.marker_behind(index, at, offset).flatten();
        Some(by_marker.unwrap_or(self.all[&index].fate == Fate::Committed))
    }

    fn name(&self, index: usize) -> (String, u64) {
        (self.all[&index].whose.clone(), self.all[&index].number)
    }

    /// Judges what the final read has found; `read` says how far it came in a partition.
    pub fn judge(&mut self, read: impl Fn(PartitionIndex) -> FinalRead) {
        for transaction in self.all.values() {
            let judged = |at: PartitionIndex, offset: i64| {
                let upto = read(at);
                offset >= upto.start && (upto.complete || offset < upto.end)
            };
            let missing =
                transaction.records.iter().find(|((at, offset), r)| !r.finally && judged(*at, *offset));
            let Some((&(at, offset), _)) = missing else { continue };
            let seen = transaction.records.values().any(|r| r.finally);
            let name = (transaction.whose.clone(), transaction.number);
            match transaction.fate {
                Fate::Committed => self.findings.push(Finding::Lost { at, offset, transaction: name }),
                Fate::Open if seen => self.findings.push(Finding::Torn { at, offset, transaction: name }),
                Fate::Open | Fate::Aborted => {}
            }
        }
    }

    /// What was found since the last call.
    pub fn take(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }
}

/// What is open in logs, and what coordinators know: a transaction that no coordinator will end hangs for ever, and with
/// it everybody who reads committed transactions.
#[derive(Clone, Debug, Default)]
pub struct Hanging {
    open: Vec<((String, i32), i64, i64)>,
    unfinished: BTreeSet<i64>,
}

impl Hanging {
    /// A partition's leader has a transaction of a producer open, since an offset.
    pub fn open(&mut self, partition: (String, i32), producer: i64, since: i64) {
        self.open.push((partition, producer, since));
    }

    /// A coordinator has not yet completed a transaction of a producer.
    pub fn unfinished(&mut self, producer: i64) {
        self.unfinished.insert(producer);
    }

    /// Where something hangs: partition, producer, first offset.
    pub fn found(&self) -> impl Iterator<Item = &((String, i32), i64, i64)> {
        self.open.iter().filter(|(_, producer, _)| !self.unfinished.contains(producer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::history::History;

    const WHOLE: FinalRead = FinalRead { start: 0, end: 100, complete: true };

    /// Two partitions, and a program that wrote two records to each in its first transaction.
    fn written() -> (Transactions, [PartitionIndex; 2]) {
        let mut history = History::default();
        let places = [history.partition("t", 0), history.partition("t", 1)];
        let mut transactions = Transactions::default();
        transactions.began(0, "copier", 0);
        for at in places {
            transactions.written(0, at, 10, 2);
        }
        (transactions, places)
    }

    #[test]
    fn what_is_committed_is_there() {
        let (mut transactions, places) = written();
        transactions.ended(0, Fate::Committed);
        for at in places {
            transactions.read(at, 10, Reader::Final);
            transactions.read(at, 11, Reader::Final);
        }
        transactions.judge(|_| WHOLE);
        assert_eq!(transactions.take(), []);
    }

    #[test]
    fn what_was_deleted_is_forgotten_and_not_missed() {
        let (mut transactions, places) = written();
        transactions.log_start(places[0], 12);
        assert_eq!(transactions.all.len(), 1, "it has not ended");
        transactions.ended(0, Fate::Committed);
        transactions.log_start(places[1], 11);
        transactions.judge(|at| FinalRead { start: if at == places[1] { 11 } else { 12 }, ..WHOLE });
        let transaction = ("copier".to_owned(), 0);
        assert_eq!(transactions.take(), [Finding::Lost { at: places[1], offset: 11, transaction }]);
        transactions.log_start(places[1], 12);
        assert!(transactions.all.is_empty() && transactions.of_record.is_empty());
    }

    #[test]
    fn what_is_committed_and_not_there_is_lost() {
        let (mut transactions, places) = written();
        transactions.ended(0, Fate::Committed);
        transactions.read(places[0], 10, Reader::Final);
        transactions.judge(|_| WHOLE);
        let transaction = ("copier".to_owned(), 0);
        assert_eq!(transactions.take(), [Finding::Lost { at: places[0], offset: 11, transaction }]);
    }

    #[test]
    fn what_could_not_be_read_is_not_judged() {
        let (mut transactions, places) = written();
        transactions.ended(0, Fate::Committed);
        transactions.judge(|at| match at == places[0] {
            true => FinalRead { start: 12, end: 20, complete: true },
            false => FinalRead { start: 0, end: 10, complete: false },
        });
        assert_eq!(transactions.take(), []);
    }

    #[test]
    fn an_aborted_record_that_is_read_is_told_whenever_it_is_known() {
        let transaction = ("copier".to_owned(), 0);
        let (mut transactions, places) = written();
        transactions.read(places[1], 11, Reader::Committed);
        assert_eq!(transactions.take(), [], "it may yet be committed");
        transactions.ended(0, Fate::Aborted);
        let found = Finding::AbortedRead { at: places[1], offset: 11, transaction, uncommitted: false };
        assert_eq!(transactions.take(), [found]);
        transactions.read(places[0], 10, Reader::Committed);
        assert_eq!(transactions.take().len(), 1);
    }

    #[test]
    fn who_wants_to_see_everything_is_told_apart() {
        for (fate, found) in [(Fate::Aborted, 1), (Fate::Committed, 0)] {
            let (mut transactions, places) = written();
            transactions.read(places[0], 10, Reader::Uncommitted);
            transactions.ended(0, fate);
            transactions.read(places[0], 11, Reader::Uncommitted);
            let all = transactions.take();
            assert_eq!(all.len(), 2 * found, "{fate:?}: {all:?}");
            assert!(all.iter().all(|f| matches!(f, Finding::AbortedRead { uncommitted: true, .. })));
            transactions.read(places[0], 10, Reader::Committed);
            let all = transactions.take();
            assert_eq!(all.len(), found, "{fate:?}: {all:?}");
            assert!(all.iter().all(|f| matches!(f, Finding::AbortedRead { uncommitted: false, .. })));
        }
    }

    #[test]
    fn of_an_open_end_all_or_nothing_is_there() {
        for (seen, torn) in [(0, false), (3, true), (4, false)] {
            let (mut transactions, places) = written();
            transactions.ended(0, Fate::Open);
            let all = [(places[0], 10), (places[0], 11), (places[1], 10), (places[1], 11)];
            all.iter().take(seen).for_each(|(at, offset)| transactions.read(*at, *offset, Reader::Final));
            transactions.judge(|_| WHOLE);
            assert_eq!(!transactions.take().is_empty(), torn, "{seen} of 4");
        }
    }

    #[test]
    fn a_record_is_read_once_its_marker_commits() {
        let transaction = ("copier".to_owned(), 0);
        let mut history = History::default();
        let at = history.partition("t", 0);
        let told = |marker: Option<bool>| {
            let mut transactions = Transactions::default();
            transactions.began(0, "copier", 0);
            transactions.producer("copier", 4000);
            transactions.written(0, at, 10, 2);
            transactions.marker(at, 4000, 9, true);
            transactions.marker(at, 4001, 12, true);
            if let Some(commits) = marker {
                transactions.marker(at, 4000, 13, commits);
            }
            transactions.read(at, 11, Reader::Committed);
            transactions.read(at, 11, Reader::Final);
            transactions.ended(0, if marker == Some(true) { Fate::Committed } else { Fate::Aborted });
            transactions.take()
        };
        assert_eq!(told(Some(true)), []);
        let (offset, of) = (11, transaction.clone());
        assert_eq!(
            told(None),
            [Finding::PrecommittedRead { at, offset, transaction: of, uncommitted: false }]
        );
        assert_eq!(told(Some(false)), [Finding::AbortedRead { at, offset, transaction, uncommitted: false }]);
    }

    #[test]
    fn a_marker_that_was_cut_off_is_written_again() {
        let at = History::default().partition("t", 0);
        let mut transactions = Transactions::default();
        transactions.began(0, "copier", 0);
        transactions.producer("copier", 7);
        transactions.written(0, at, 3, 1);
        for offset in [5, 9, 4] {
            transactions.marker(at, 7, offset, true);
        }
        assert_eq!(transactions.markers[&(at, 7)], [(4, true)]);
        transactions.read(at, 3, Reader::Committed);
        assert_eq!(transactions.take(), []);
    }

    #[test]
    fn what_no_coordinator_knows_hangs() {
        let mut hanging = Hanging::default();
        hanging.open(("t".to_owned(), 0), 7, 3);
        hanging.open(("t".to_owned(), 1), 8, 5);
        hanging.unfinished(8);
        hanging.unfinished(9);
        let found: Vec<_> = hanging.found().collect();
        assert_eq!(found, [&(("t".to_owned(), 0), 7, 3)]);
    }
}

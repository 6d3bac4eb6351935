//! Compaction of one log: Kafka's `Cleaner`, in steps.
//!
//! A pass first learns the last offset of each key in the dirty part ([`OffsetMap`], bounded; what does not fit is left
//! to the next pass), then copies the segments up to there, group by group, without the records that a later one
//! replaces. Offsets stay. Tombstones and the markers of transactions without data go after `delete.retention.ms`, as of
//! the delete horizon that the first pass that saw them wrote into their batch (KIP-534); aborted transactions go at
//! once. The last batch of each producer stays, empty if need be, since sequence numbers follow from it.
//!
//! A group's new segment is written as `.cleaned` files. Once these are durable they are renamed to `.swap`, and once
//! the names are durable the old files are renamed to `.deleted` and the new ones lose their suffix. A crash at any
//! instant leaves the old segments or the new one: opening the log removes `.cleaned` files and completes swaps.
//!
//! Each call of [`Log::clean_step`] reads or writes a bounded number of bytes. What cuts the log meanwhile ends the
//! pass. In one thing more is kept than Kafka keeps: the last batch of a group stays, empty if need be, so that segments
//! join and recovery can tell a segment that is missing.

mod copy;
mod txns;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use wire::batch::{Batch, Batches};
use wire::drive::Now;
use wire::{Codecs, Rope};

use super::offset_map::OffsetMap;
use super::segment::{Segment, at, path};
use super::{Log, LogError, remove_if_exists};
use crate::disk::{Disk, Ticket};
use crate::mutant::Mutants;
use copy::Copying;
use txns::CleanedTxns;

/// A batch is never decompressed to more than a request may have.
const DECOMPRESSED_LIMIT: usize = 100 << 20;

/// No record is shorter: its length, attributes, deltas, and the lengths of key, value and headers.
const MIN_RECORD: usize = 7;

/// What a pass may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleaningTerms {
    /// Bytes that a step reads: `log.cleaner.io.buffer.size`.
    pub step_bytes: usize,
    /// What the map of keys may take: a thread's share of `log.cleaner.dedupe.buffer.size`.
    pub dedupe_bytes: u64,
    /// How much of it may be filled, in millionths: `log.cleaner.io.buffer.load.factor`.
    pub fill: u64,
}

/// How much of a log there is to clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirtiness {
    /// The first offset that no pass has seen.
    pub first_dirty: i64,
    /// Where the cleanable part ends.
    pub end: i64,
    /// The share of what is dirty, in millionths.
    pub ratio: u64,
    /// Whether `min.cleanable.dirty.ratio` or `max.compaction.lag.ms` ask for a pass.
    pub due: bool,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleaningStep {
    /// It read so many bytes.
    Worked(usize),
    /// The pass goes on once what it wrote is durable.
    Waiting,
    /// The pass is over.
    Done(Cleaned),
    /// There is no pass: something has cut the log.
    Ended,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// The first offset that is dirty from now on.
    pub first_dirty: i64,
    /// The bytes of the segments that were cleaned.
    pub bytes_before: u64,
    /// The bytes that are left of them.
    pub bytes_after: u64,
}

/// A pass that is under way.
#[derive(Clone, Debug)]
pub(super) struct Cleaning {
    step_bytes: usize,
    /// The wall clock as the pass began: Kafka's `currentTime`.
    now_ms: i64,
    first_dirty: i64,
    /// Where the cleanable part ends.
    limit: i64,
    map: OffsetMap,
    /// What lies behind was not learned.
    latest: i64,
    txns: CleanedTxns,
    /// Each producer's epoch and the end of its last batch.
    last_records: BTreeMap<i64, (i16, Option<i64>)>,
    stage: Stage,
    /// Base offsets of segments that become one, for the groups to come.
    groups: VecDeque<Vec<i64>>,
    /// What the stage waits for.
    tickets: Vec<Ticket>,
    bytes_before: u64,
    bytes_after: u64,
    mutants: Mutants,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Learning the keys from here on.
    Mapping {
        base: i64,
        position: u32,
    },
    Copying(Box<Copying>),
    /// `.cleaned` files become durable.
    Syncing(Box<Copying>),
    /// The names `.swap` become durable.
    Swapping(Box<Copying>),
    Idle,
}

impl Cleaning {
    pub fn synced(&mut self, ticket: Ticket) {
        self.tickets.retain(|t| *t != ticket);
    }

    /// Whether batches are the newest of their producer.
    fn holds_last_record(&self, header: &wire::batch::BatchHeader) -> bool {
        match self.last_records.get(&header.producer_id) {
            Some((_, Some(offset))) => header.last_offset() == *offset,
            Some((epoch, None)) => header.is_control() && header.producer_epoch == *epoch,
            None => false,
        }
    }
}

/// Reads whole batches from a position on: as many as fit, one at least.
fn read_batches(
    disk: &mut dyn Disk,
    segment: &Segment,
    dir: &str,
    position: u32,
    limit: usize,
) -> Result<Vec<Batch>, LogError> {
    let log_path = || path(dir, segment.base, "log");
    let corrupt = |why| LogError::Malformed { path: log_path(), why };
    let first = segment.header_at(disk, position).map_err(|error| at(&log_path())(error))?;
    let first = first.map_err(|error| corrupt(alloc::format!("{error} at {position}")))?;
    let len = limit.max(first.size_in_bytes()).min((segment.size - position) as usize);
    let mut rope = Rope::new();
    disk.read(segment.log, u64::from(position), len, &mut rope).map_err(|error| at(&log_path())(error))?;
    let batches: Result<Vec<Batch>, _> = Batches::new(&rope).collect();
    batches.map_err(|error| corrupt(alloc::format!("{error} behind {position}")))
}

impl Log {
    /// The first offset that no pass has seen, as `cleaner-offset-checkpoint` has it; absent before the first pass.
    pub fn cleaned_to(&self) -> Option<i64> {
        self.cleaned_to
    }

    /// What `cleaner-offset-checkpoint` says, once, after the log was opened.
    pub fn set_cleaned_to(&mut self, offset: Option<i64>) {
        self.cleaned_to = offset;
    }

    /// Whether a pass is under way.
    pub fn is_cleaning(&self) -> bool {
        self.cleaning.is_some()
    }

    /// Whether a pass waits for the disk.
    pub fn cleaning_waits(&self) -> bool {
        self.cleaning.as_ref().is_some_and(|cleaning| !cleaning.tickets.is_empty())
    }

    /// How much there is to clean; `None` if there is nothing.
    pub fn dirtiness(&mut self, now_ms: i64, disk: &mut dyn Disk) -> Result<Option<Dirtiness>, LogError> {
        let first_dirty = self.first_dirty();
        let limit = self.first_uncleanable(first_dirty, now_ms);
        let bytes = |segments: &[Segment]| segments.iter().map(|s| u64::from(s.size)).sum::<u64>();
        let (from, to) = (self.segment_of(first_dirty), self.segment_of(limit));
        let end = self.segments[to].base;
        if end <= first_dirty {
            return Ok(None);
        }
        let cleanable = bytes(&self.segments[from..to]);
        let clean = bytes(&self.segments[..self.segments.partition_point(|s| s.base < first_dirty)]);
        if cleanable == 0 {
            return Ok(None);
        }
        let ratio = cleanable.saturating_mul(1_000_000) / (cleanable + clean);
        let overdue = self.overdue(from, now_ms, disk)?;
        let due = overdue || i64::try_from(ratio).is_ok_and(|ratio| ratio > self.config.min_cleanable_ratio);
        Ok(Some(Dirtiness { first_dirty, end, ratio, due }))
    }

    /// A checkpoint that is not of this log counts for nothing.
    fn first_dirty(&self) -> i64 {
        let start = self.log_start_offset;
        self.cleaned_to.filter(|to| (start..=self.next_offset).contains(to)).unwrap_or(start)
    }

    /// Neither the active segment is cleaned, nor what transactions may still change, nor what is too young.
    fn first_uncleanable(&self, first_dirty: i64, now_ms: i64) -> i64 {
        let limit = self.last_stable_offset().min(self.active().base);
        let lag = self.config.min_compaction_lag_ms;
        if lag <= 0 {
            return limit;
        }
        let from = self.segment_of(first_dirty);
        let closed = &self.segments[from..self.segments.len() - 1];
        let young = closed.iter().find(|s| s.retention_timestamp() > now_ms.saturating_sub(lag));
        young.map_or(limit, |segment| limit.min(segment.base))
    }

    /// Whether the oldest of what is dirty is older than `max.compaction.lag.ms`.
    fn overdue(&mut self, from: usize, now_ms: i64, disk: &mut dyn Disk) -> Result<bool, LogError> {
        let until = now_ms.saturating_sub(self.config.max_compaction_lag_ms.max(0));
        if until <= 0 {
            return Ok(false);
        }
        let closed = self.segments.len() - 1;
        for segment in &mut self.segments[from.min(closed)..closed] {
            let first = segment.first_timestamp(disk).map_err(at(&path(&self.dir, segment.base, "log")))?;
            if first.is_some_and(|first| first > 0 && first < until) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Begins a pass over what [`Log::dirtiness`] has told.
    pub fn begin_cleaning(&mut self, now_ms: i64, dirt: &Dirtiness, terms: CleaningTerms) {
        assert!(self.cleaning.is_none(), "{}: one pass at a time", self.dir);
        let base = self.segments[self.segment_of(dirt.first_dirty)].base;
        // There are no more keys than offsets.
        let most = u64::try_from(dirt.end - dirt.first_dirty).unwrap_or(0);
        self.cleaning = Some(Box::new(Cleaning {
            step_bytes: terms.step_bytes.max(1),
            now_ms,
            first_dirty: dirt.first_dirty,
            limit: dirt.end,
            map: OffsetMap::new(terms.dedupe_bytes, terms.fill, most),
            latest: dirt.first_dirty - 1,
            txns: CleanedTxns::new(self.aborted_transactions(dirt.first_dirty, dirt.end)),
            last_records: self.producers.last_records(),
            stage: Stage::Mapping { base, position: 0 },
            groups: VecDeque::new(),
            tickets: Vec::new(),
            bytes_before: 0,
            bytes_after: 0,
            mutants: self.config.mutants,
        }));
    }

    /// The next step of a pass. After an error the pass is over, and the log is as it was.
    pub fn clean_step(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
    ) -> Result<CleaningStep, LogError> {
        let Some(mut cleaning) = self.cleaning.take() else { return Ok(CleaningStep::Ended) };
        if !cleaning.tickets.is_empty() {
            self.cleaning = Some(cleaning);
            return Ok(CleaningStep::Waiting);
        }
        let step = match core::mem::replace(&mut cleaning.stage, Stage::Idle) {
            Stage::Mapping { base, position } => self.map_step(&mut cleaning, base, position, disk, codecs),
            Stage::Copying(copying) => self.copy_step(&mut cleaning, copying, now, disk, codecs),
            Stage::Syncing(copying) => self.name_swap(&mut cleaning, copying, disk),
            Stage::Swapping(copying) => self.swap(&mut cleaning, *copying, now, disk),
            Stage::Idle => unreachable!("a pass has a stage"),
        };
        match step {
            Ok(CleaningStep::Done(cleaned)) => {
                self.cleaned_to = Some(cleaned.first_dirty);
                self.check_invariants();
                Ok(CleaningStep::Done(cleaned))
            }
            Ok(step) => {
                self.cleaning = Some(cleaning);
                Ok(step)
            }
            Err(error) => {
                self.discard(&cleaning.stage, disk)?;
                Err(error)
            }
        }
    }

    /// Learns the keys of the next batches; at the end, what is to be copied.
    fn map_step(
        &mut self,
        cleaning: &mut Cleaning,
        base: i64,
        position: u32,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
    ) -> Result<CleaningStep, LogError> {
        let i = self.segment_of(base);
        let segment = &self.segments[i];
        let mut read = 0;
        if position < segment.size {
            for batch in read_batches(disk, segment, &self.dir, position, cleaning.step_bytes)? {
                if !cleaning.learn(&batch, codecs, || path(&self.dir, base, "log"))? {
                    self.plan(cleaning, disk)?;
                    return Ok(CleaningStep::Worked(read));
                }
                read += batch.bytes.len();
            }
            cleaning.stage = Stage::Mapping { base, position: position + read as u32 };
            return Ok(CleaningStep::Worked(read));
        }
        // What is compacted away may leave a gap before the next segment.
        let next = self.segments[i + 1].base;
        cleaning.latest = cleaning.latest.max(next - 1);
        cleaning.stage = Stage::Mapping { base: next, position: 0 };
        if next >= cleaning.limit {
            self.plan(cleaning, disk)?;
        }
        Ok(CleaningStep::Worked(0))
    }

    /// The keys are known: which segments become which, and the first copy.
    fn plan(&mut self, cleaning: &mut Cleaning, disk: &mut dyn Disk) -> Result<(), LogError> {
        let end = cleaning.latest + 1;
        let count = self.segments.partition_point(|s| s.base < end.min(cleaning.limit));
        let mut size = 0;
        for i in 0..count {
            let segment = &self.segments[i];
            let fits = cleaning.groups.back().is_some_and(|group| {
                let offsets = self.segments[i + 1].base - group[0];
                size + u64::from(segment.size) <= u64::from(self.config.segment_bytes)
                    && offsets <= i64::from(i32::MAX)
            });
            match cleaning.groups.back_mut().filter(|_| fits) {
                Some(group) => group.push(segment.base),
                None => {
                    size = 0;
                    cleaning.groups.push_back(alloc::vec![segment.base]);
                }
            }
            size += u64::from(segment.size);
            cleaning.bytes_before += u64::from(segment.size);
        }
        cleaning.txns =
            CleanedTxns::new(self.aborted_transactions(self.first_segment_base(), cleaning.limit));
        self.begin_group(cleaning, disk)
    }

    /// Ends a pass before its time: what was not yet put in place is removed.
    pub(super) fn end_cleaning(&mut self, disk: &mut dyn Disk) -> Result<(), LogError> {
        match self.cleaning.take() {
            Some(cleaning) => self.discard(&cleaning.stage, disk),
            None => Ok(()),
        }
    }

    /// Removes the files of a group that was not finished.
    fn discard(&mut self, stage: &Stage, disk: &mut dyn Disk) -> Result<(), LogError> {
        let (Stage::Copying(copying) | Stage::Syncing(copying) | Stage::Swapping(copying)) = stage else {
            return Ok(());
        };
        copying.segment.close(disk);
        for suffix in [".cleaned", ".swap"] {
            for ext in Segment::extensions() {
                let name = alloc::format!("{ext}{suffix}");
                remove_if_exists(disk, &path(&self.dir, copying.segment.base, &name))?;
            }
        }
        self.flusher.names_dirty = true;
        Ok(())
    }
}

impl Cleaning {
    /// Learns the keys of a batch. Whether it had room for them: if not, nothing of it counts.
    fn learn(
        &mut self,
        batch: &Batch,
        codecs: &dyn Codecs,
        log_path: impl Fn() -> alloc::string::String,
    ) -> Result<bool, LogError> {
        let header = &batch.header;
        if header.last_offset() < self.first_dirty {
            return Ok(true);
        }
        if header.base_offset >= self.limit {
            return Ok(true);
        }
        if !header.is_control() && !self.txns.data(header) && header.record_count > 0 {
            let full = !self.map.has_room(header.record_count as usize);
            if full && !self.map.is_empty() {
                return Ok(false);
            }
            let corrupt = |why| LogError::Malformed { path: log_path(), why };
            let records = batch.records(codecs, DECOMPRESSED_LIMIT);
            let records = records.map_err(|error| corrupt(alloc::format!("{error}")))?;
            if full {
                // One batch at least is learned, or no pass would ever get further. What it says of itself is bounded by
                // what it can hold.
                self.map
                    .make_room((header.record_count as usize).min(records.bytes().len() / MIN_RECORD + 1));
            }
            for record in &records {
                let record = record.map_err(|error| corrupt(alloc::format!("{error}")))?;
                if let Some(key) = record.key.filter(|_| record.offset >= self.first_dirty) {
                    self.map.put(key, record.offset);
                }
            }
        } else if header.is_control() {
            self.txns.marker(batch, codecs);
        }
        self.latest = header.last_offset();
        Ok(true)
    }
}

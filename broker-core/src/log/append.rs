//! Appending: as a leader, with validation, offsets and stamps; as a follower, as the leader wrote it.

use bytes::Bytes;
use smallvec::SmallVec;
use wire::batch::{BatchError, BatchHeader, Batches};
use wire::drive::Now;
use wire::records::AbortedTxn;
use wire::{Codecs, Rope};

use super::batch::{BatchMeta, BatchMetas};
use super::producer::{CompletedTxn, Duplicate, ProducerBatch, Refused, Verification};
use super::segment::{RollParams, Segment, at};
use super::tail::TailBatch;
use super::validate::Validator;
use super::{AppendError, AppendInfo, Log, LogError, Origin, TimestampType};
use crate::disk::Disk;
use crate::event::BatchMarks;
use crate::mutant::Mutant;

/// On which terms a leader appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendTerms {
    /// The epoch in which it leads.
    pub leader_epoch: i32,
    /// Who appends.
    pub origin: Origin,
    /// What is known of the transaction that the batches belong to.
    pub verification: Verification,
    /// Of markers: the version of transactions that the coordinator follows, which decides what is a late one.
    pub transaction_version: i8,
}

impl Log {
    /// Appends as the partition's leader what needs no verification of its transaction.
    pub fn append_as_leader(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        records: &Rope,
        leader_epoch: i32,
        origin: Origin,
    ) -> Result<AppendInfo, AppendError> {
        let terms =
            AppendTerms { leader_epoch, origin, verification: Verification::Off, transaction_version: 0 };
        self.append_on_terms(now, disk, codecs, records, &terms)
    }

    /// Appends as the partition's leader: validates, assigns offsets, stamps the leader epoch.
    ///
    /// A client's records are exactly one batch of format 2 that begins at offset 0. What is left of a batch that is
    /// not whole is no error, as in Kafka, but with nothing before it there is no batch.
    pub fn append_on_terms(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        records: &Rope,
        terms: &AppendTerms,
    ) -> Result<AppendInfo, AppendError> {
        let AppendTerms { leader_epoch, origin, .. } = *terms;
        let mut pieces: SmallVec<[Bytes; 8]> = SmallVec::new();
        let mut metas = BatchMetas::new();
        let mut next = self.next_offset;
        let validator =
            Validator { log: self, config: &self.config, codecs, now_ms: now.wall_ms, leader_epoch, origin };
        for batch in Batches::new(records) {
            let batch = batch.map_err(|error| self.unreadable(error))?;
            self.check_leader_batch(&batch.header, leader_epoch, origin, !metas.is_empty())?;
            batch.check_crc(codecs).map_err(|_| self.corrupt(&batch.header))?;
            let validated = validator.validate(&batch, next)?;
            let size = validated.bytes.len();
            if size != batch.bytes.len() {
                self.check_size(size)?;
            }
            let producer = ProducerBatch::read(&batch.header, &batch.bytes);
            if let Some(duplicate) = self.check_producer(producer.as_ref(), terms, next)? {
                return Ok(self.appended_before(duplicate));
            }
            let count =
                if origin == Origin::Client { validated.count } else { batch.header.last_offset_delta + 1 };
            metas.push(BatchMeta {
                base_offset: next,
                last_offset: next + i64::from(count) - 1,
                size: size as u32,
                leader_epoch,
                max_timestamp: validated.max_timestamp,
                crc: validated.crc,
                producer,
            });
            pieces.extend(validated.bytes.pieces().iter().cloned());
            next += i64::from(count);
        }
        if metas.is_empty() && origin == Origin::Client {
            return Err(invalid("Record batch has no batches at all".into()));
        }
        let log_append_time = match self.config.timestamp_type {
            TimestampType::LogAppendTime => now.wall_ms,
            TimestampType::CreateTime => -1,
        };
        self.check_fits(&metas)?;
        self.write(now, disk, codecs, &pieces, &metas, log_append_time)
    }

    /// Whether a batch continues what its producer sent before; the earlier append if it is the same batch of a client.
    #[inline]
    fn check_producer(
        &self,
        batch: Option<&ProducerBatch>,
        terms: &AppendTerms,
        offset: i64,
    ) -> Result<Option<Duplicate>, AppendError> {
        let Some(batch) = batch else { return Ok(None) };
        let checked = match terms.origin {
            Origin::Client => self.producers.check(batch, terms.verification),
            Origin::Coordinator => {
                let version = terms.transaction_version;
                self.producers.check_of_coordinator(batch, terms.verification, version).map(|()| None)
            }
            Origin::RaftLeader => Ok(None),
        };
        checked.map_err(|refused| self.refused(refused, batch, terms, offset))
    }

    fn refused(
        &self,
        refused: Refused,
        batch: &ProducerBatch,
        terms: &AppendTerms,
        offset: i64,
    ) -> AppendError {
        let ProducerBatch { id, epoch, first_sequence, .. } = batch;
        let log = self.name();
        let out_of_order = |message| AppendError::OutOfOrderSequence { message };
        match refused {
            Refused::StaleEpoch { known } => {
                let than = if batch.control && terms.transaction_version >= 2 { "<=" } else { "<" };
                let version = terms.transaction_version;
                AppendError::InvalidProducerEpoch {
                    message: alloc::format!(
                        "Epoch of producer {id} at offset {offset} in {log} is {epoch}, which is {than} the last seen epoch {known} (TV{version})"
                    ),
                }
            }
            Refused::OutOfOrder { last } => out_of_order(alloc::format!(
                "Out of order sequence number for producer {id} at offset {offset} in partition {log}: {first_sequence} (incoming seq. number), {last} (current end sequence number)"
            )),
            Refused::NewEpochNotAtZero { known } => out_of_order(alloc::format!(
                "Invalid sequence number for new epoch of producer {id} at offset {offset} in partition {log}: {epoch} (request epoch), {first_sequence} (seq. number), {known} (current producer epoch)"
            )),
            Refused::UnknownNotAtZero => out_of_order(alloc::format!(
                "Invalid sequence number for producer {id} at offset {offset} in partition {log}: {first_sequence} (incoming seq. number). Expected sequence 0 for transactions v2 idempotent producer with no existing state."
            )),
            Refused::Overtaken { lowest } => out_of_order(alloc::format!(
                "Out of order sequence number for producer {id} at offset {offset} in partition {log}: {first_sequence} (incoming seq. number), {lowest} (earliest seen sequence)"
            )),
            Refused::Unverified => AppendError::InvalidTxnState {
                message: "Record was not part of an ongoing transaction".into(),
            },
            Refused::NotTransactional => AppendError::InvalidTxnState {
                message: alloc::format!(
                    "Expected transactional write from producer {id} at offset {offset} in partition {log}"
                ),
            },
            Refused::StaleCoordinator { known } => {
                let epoch = batch.marker.map_or(-1, |marker| marker.coordinator_epoch);
                AppendError::CoordinatorFenced {
                    message: alloc::format!(
                        "Invalid coordinator epoch for producerId {id} at offset {offset} in partition {log}: {epoch} (zombie), {known} (current)"
                    ),
                }
            }
        }
    }

    /// A retry of what lies in the log already is answered as the first attempt was.
    fn appended_before(&self, duplicate: Duplicate) -> AppendInfo {
        let log_append_time = match self.config.timestamp_type {
            TimestampType::LogAppendTime => duplicate.timestamp,
            TimestampType::CreateTime => -1,
        };
        AppendInfo {
            base_offset: duplicate.first_offset,
            last_offset: duplicate.last_offset,
            max_timestamp: duplicate.timestamp,
            log_append_time,
            ..self.nothing_appended()
        }
    }

    fn check_leader_batch(
        &self,
        header: &BatchHeader,
        leader_epoch: i32,
        origin: Origin,
        second: bool,
    ) -> Result<(), AppendError> {
        match origin {
            Origin::Client if header.base_offset != 0 => {
                return Err(invalid(alloc::format!(
                    "The baseOffset of the record batch in the append to {} should be 0, but it is {}",
                    self.name(),
                    header.base_offset
                )));
            }
            Origin::Client if second => {
                return Err(invalid("Compressed outer record has more than one batch".into()));
            }
            Origin::RaftLeader if header.partition_leader_epoch != leader_epoch => {
                return Err(invalid("Append from Raft leader did not set the batch epoch correctly".into()));
            }
            _ => {}
        }
        if header.last_offset_delta < 0 && origin != Origin::Client {
            return Err(invalid(alloc::format!(
                "Batch has an invalid offset range: [{}, {}] in topic partition {}",
                header.base_offset,
                header.last_offset(),
                self.name()
            )));
        }
        self.check_size(header.size_in_bytes())
    }

    /// What a leader appends at once fits into a segment.
    ///
    /// Kafka asks this of what a follower appends, too, which then gives the partition up. It can be too large only where
    /// segments are smaller than a fetch (`internal.segment.bytes`): delete horizons make the markers of a cleaned segment
    /// three bytes longer, and the segment larger than it may be. Here the follower takes it as its leader has it.
    fn check_fits(&self, metas: &[BatchMeta]) -> Result<(), AppendError> {
        let size: usize = metas.iter().map(|b| b.size as usize).sum();
        let limit = self.config.segment_bytes as usize;
        if size > limit {
            return Err(AppendError::RecordListTooLarge { log: self.name().into(), size, limit });
        }
        Ok(())
    }

    fn check_size(&self, size: usize) -> Result<(), AppendError> {
        let limit = self.config.max_message_bytes as usize;
        if size > limit {
            return Err(AppendError::MessageTooLarge { log: self.name().into(), size, limit });
        }
        Ok(())
    }

    /// Appends what a leader sent, offsets as they are. Batches of an epoch above `leader_epoch` are left out, with all
    /// behind them (KAFKA-18723); an incomplete batch at the end is dropped.
    pub fn append_as_follower(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        records: &Rope,
        leader_epoch: i32,
    ) -> Result<AppendInfo, AppendError> {
        let mut metas = BatchMetas::new();
        let mut bytes = 0;
        let mut next = self.next_offset;
        for batch in Batches::new(records) {
            let batch = batch.map_err(|error| self.unreadable(error))?;
            if batch.header.partition_leader_epoch > leader_epoch {
                break;
            }
            batch.check_crc(codecs).map_err(|_| self.corrupt(&batch.header))?;
            let mut meta = BatchMeta::from(&batch.header);
            if batch.header.is_control() {
                meta.producer = ProducerBatch::read(&batch.header, &batch.bytes);
            }
            if meta.base_offset < next
                || batch.header.last_offset_delta < 0
                || meta.last_offset < meta.base_offset
            {
                return Err(AppendError::UnexpectedOffset {
                    log: self.name().into(),
                    first_offset: meta.base_offset,
                    log_end_offset: next,
                });
            }
            next = meta.last_offset + 1;
            bytes += batch.bytes.len();
            metas.push(meta);
        }
        if bytes == records.len() {
            return self.write(now, disk, codecs, records.pieces(), &metas, -1);
        }
        let whole = records.slice(0, bytes);
        self.write(now, disk, codecs, whole.pieces(), &metas, -1)
    }

    fn corrupt(&self, header: &BatchHeader) -> AppendError {
        let message = alloc::format!(
            "Record is corrupt (stored crc = {}) in topic partition {}.",
            header.crc,
            self.name()
        );
        AppendError::Corrupt { message }
    }

    /// The framing is wrong: Kafka calls old formats invalid, the rest corrupt.
    fn unreadable(&self, error: BatchError) -> AppendError {
        let message = alloc::format!("{error} in topic partition {}.", self.name());
        match error {
            BatchError::OldMagic(_) => invalid(message),
            _ => AppendError::Corrupt { message },
        }
    }

    /// Writes batches that were checked: rolls if it must, learns their epochs, and flushes if `flush.messages` says so.
    fn write(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        pieces: &[Bytes],
        metas: &[BatchMeta],
        log_append_time: i64,
    ) -> Result<AppendInfo, AppendError> {
        let (Some(first), Some(last)) = (metas.first(), metas.last()) else {
            return Ok(self.nothing_appended());
        };
        let bytes: usize = metas.iter().map(|b| b.size as usize).sum();
        for meta in metas {
            if meta.leader_epoch >= 0 && self.epochs.latest().is_none_or(|e| e.epoch != meta.leader_epoch) {
                self.assign_epoch(disk, meta.leader_epoch, meta.base_offset);
            }
        }
        let max_timestamp = metas.iter().map(|b| b.max_timestamp).max().expect("there is a first");
        let params = RollParams { now_ms: now.wall_ms, bytes, max_timestamp, last_offset: last.last_offset };
        let rolled = self.maybe_roll(now, disk, codecs, &params, first.base_offset)?;
        let config = &self.config;
        let segment = self.segments.last_mut().expect("never empty");
        let mut position = segment.size;
        segment.append(disk, config, now.wall_ms, pieces, metas).map_err(AppendError::Disk)?;
        for &batch in metas {
            self.tail.push(TailBatch { segment_base: segment.base, position, batch });
            position += batch.size;
        }
        for meta in metas {
            if let Some(producer) = &meta.producer
                && let Some(completed) = self.producers.appended(producer, meta.base_offset, meta.last_offset)
            {
                self.index_aborted(disk, &completed).map_err(AppendError::Disk)?;
            }
        }
        self.producers.covered = last.last_offset + 1;
        let marks = metas.iter().map(BatchMeta::mark).collect();
        self.next_offset = last.last_offset + 1;
        if self.next_offset - self.recovery_point >= self.config.flush_messages {
            self.flush(now, disk);
        }
        self.check_invariants();
        Ok(AppendInfo {
            base_offset: first.base_offset,
            last_offset: last.last_offset,
            max_timestamp,
            log_append_time,
            log_start_offset: self.log_start_offset,
            bytes,
            rolled,
            marks,
        })
    }

    /// A transaction that was aborted goes into the index of the segment that holds its marker.
    pub(super) fn index_aborted(
        &mut self,
        disk: &mut dyn Disk,
        completed: &CompletedTxn,
    ) -> Result<(), crate::disk::DiskError> {
        if completed.commit || self.config.mutants.has(Mutant::AbortedTransactionNotIndexed) {
            return Ok(());
        }
        let CompletedTxn { producer_id, first_offset, last_offset, last_stable_offset, .. } = *completed;
        let txn = AbortedTxn { producer_id, first_offset, last_offset, last_stable_offset };
        let at = self.segment_of(last_offset);
        let segment = &mut self.segments[at];
        segment.txns.append(disk, &self.dir, segment.base, txn)
    }

    fn nothing_appended(&self) -> AppendInfo {
        AppendInfo {
            base_offset: self.next_offset,
            last_offset: self.next_offset - 1,
            max_timestamp: -1,
            log_append_time: -1,
            log_start_offset: self.log_start_offset,
            bytes: 0,
            rolled: false,
            marks: BatchMarks::new(),
        }
    }

    fn maybe_roll(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        params: &RollParams,
        first_offset: i64,
    ) -> Result<bool, AppendError> {
        let config = &self.config;
        let active = self.segments.last_mut().expect("never empty");
        if !active.should_roll(disk, config, params).map_err(AppendError::Disk)? {
            return Ok(false);
        }
        // A leader's compaction leaves gaps in what a follower appends. Segments join all the same, so that recovery can
        // tell a segment that is missing; Kafka begins the segment behind the gap.
        let joins = params.last_offset - self.next_offset <= i64::from(i32::MAX);
        let base = if joins { self.next_offset } else { first_offset };
        self.roll(now, disk, codecs, base).map_err(|error| match error {
            LogError::Disk { error, .. } => AppendError::Disk(error),
            LogError::Malformed { .. } => AppendError::Disk(crate::disk::DiskError::Io),
        })?;
        Ok(true)
    }

    /// Begins a new segment; the old ones are flushed, and the recovery point follows when they are durable.
    pub(super) fn roll(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        base: i64,
    ) -> Result<(), LogError> {
        let base = base.max(self.next_offset);
        if self.active().base == base {
            // Empty, and full by its indexes alone: it begins anew.
            assert_eq!(self.active().size, 0, "{}: a segment that holds records keeps its base", self.dir);
            let path = super::segment::path(&self.dir, base, "index");
            return self.active_mut().clear_indexes(disk).map_err(at(&path));
        }
        let path = super::segment::path(&self.dir, self.active().base, "timeindex");
        self.active_mut().become_inactive(disk).map_err(at(&path))?;
        // What a crash may have left under that name is of no log that was opened.
        for ext in ["log", "index", "timeindex", "txnindex"] {
            super::remove_if_exists(disk, &super::segment::path(&self.dir, base, ext))?;
        }
        self.segments.push(Segment::open(disk, &self.dir, base, now.wall_ms)?);
        self.flusher.names_dirty = true;
        self.producers.covered = self.producers.covered.max(base);
        self.take_producer_snapshot(disk, codecs);
        let old = self.segments.len() - 1;
        self.flush_up_to(now, disk, base.min(self.next_offset), old);
        Ok(())
    }
}

fn invalid(message: alloc::string::String) -> AppendError {
    AppendError::InvalidRecord { message, record_errors: alloc::vec::Vec::new() }
}

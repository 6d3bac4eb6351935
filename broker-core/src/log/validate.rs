//! What a leader checks of a batch before it appends it, and how it stamps it: Kafka's `LogValidator`.
//!
//! The usual batch (one, uncompressed or compressed as it should stay, CreateTime) is read once, without an allocation
//! or a copy: only its first 16 bytes are written anew, the rest is shared. Bytes are made only where Kafka makes them
//! too: another compression, wrong inner offsets, a wrong largest timestamp.

use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use smallvec::SmallVec;
use wire::batch::{
    Batch, BatchBuilder, BatchError, BatchHeader, BatchOptions, CRC_FROM, HEADER_LEN, RecordIter,
    patch_first_16,
};
use wire::{CodecError, Codecs, Compression, Rope};

use super::{AppendError, Log, LogConfig, Origin, RecordError, TargetCompression, TimestampType};

/// A batch is never decompressed to more than a request may have (`socket.request.max.bytes`).
const DECOMPRESSED_LIMIT: usize = 100 << 20;
/// So many records at fault are told.
const ERRORS_TOLD: usize = 3;

/// What the batch is checked against.
pub(super) struct Validator<'a> {
    /// Whose name errors give.
    pub log: &'a Log,
    pub config: &'a LogConfig,
    pub codecs: &'a dyn Codecs,
    pub now_ms: i64,
    pub leader_epoch: i32,
    pub origin: Origin,
}

/// A batch that may be appended.
pub(super) struct Validated {
    pub bytes: Rope,
    pub count: i32,
    pub max_timestamp: i64,
    pub crc: u32,
}

/// What the records of a batch turned out to be.
#[derive(Default)]
struct Seen {
    count: i32,
    max_timestamp: i64,
    /// Inner offsets are 0, 1, 2, …: only then does a compressed batch stay as it is.
    consecutive: bool,
    bad_timestamp: bool,
    errors: Vec<RecordError>,
}

fn invalid(message: String) -> AppendError {
    AppendError::InvalidRecord { message, record_errors: Vec::new() }
}

impl Validator<'_> {
    /// Checks a batch and gives it its offset, leader epoch and timestamps.
    pub fn validate(&self, batch: &Batch, base_offset: i64) -> Result<Validated, AppendError> {
        let header = &batch.header;
        self.check_header(header)?;
        let source = header.compression().map_err(|error| self.corrupt(header, error))?;
        let target = match self.config.compression {
            TargetCompression::Producer => source,
            // Control batches are compressed only if they came so.
            TargetCompression::Fixed { .. } if header.is_control() && source == Compression::None => source,
            TargetCompression::Fixed { codec, .. } => codec,
        };
        let raw = batch.bytes.slice(HEADER_LEN, batch.bytes.len() - HEADER_LEN);
        let records = match source {
            Compression::None => raw.to_bytes(),
            codec => Bytes::from(
                self.codecs
                    .decompress(codec, &raw.to_bytes(), DECOMPRESSED_LIMIT)
                    .map_err(|error| self.undecompressed(error))?,
            ),
        };
        let seen = self.check_records(header, &records)?;
        let compressed = source != Compression::None || target != Compression::None;
        if source != target || compressed && !seen.consecutive {
            return self.rebuild(header, &records, target, base_offset);
        }
        let max_timestamp = self.max_timestamp(&seen);
        let (bytes, crc) = self.stamp(batch, base_offset, max_timestamp);
        Ok(Validated { bytes, count: seen.count, max_timestamp, crc })
    }

    fn max_timestamp(&self, seen: &Seen) -> i64 {
        match self.config.timestamp_type {
            TimestampType::CreateTime => seen.max_timestamp,
            TimestampType::LogAppendTime => self.now_ms,
        }
    }

    fn check_header(&self, header: &BatchHeader) -> Result<(), AppendError> {
        if self.origin != Origin::Client {
            return Ok(());
        }
        let (base, last, count) = (header.base_offset, header.last_offset(), header.record_count);
        if last < base {
            return Err(invalid(alloc::format!(
                "Batch has an invalid offset range: [{base}, {last}] in topic partition {}",
                self.log.name()
            )));
        }
        if count <= 0 {
            return Err(invalid(alloc::format!(
                "Invalid reported count for record batch: {count} in topic partition {}",
                self.log.name()
            )));
        }
        if last - base + 1 != i64::from(count) {
            return Err(invalid(alloc::format!(
                "Inconsistent batch offset range [{base}, {last}] and count of records {count} in topic partition {}",
                self.log.name()
            )));
        }
        if header.is_control() {
            return Err(invalid(alloc::format!(
                "Clients are not allowed to write control records in topic partition {}",
                self.log.name()
            )));
        }
        if header.has_producer_id() && header.base_sequence < 0 {
            return Err(invalid(alloc::format!(
                "Invalid sequence number {} in record batch with producerId {} in topic partition {}",
                header.base_sequence,
                header.producer_id,
                self.log.name()
            )));
        }
        Ok(())
    }

    fn check_records(&self, header: &BatchHeader, records: &[u8]) -> Result<Seen, AppendError> {
        let mut seen = Seen { consecutive: true, max_timestamp: -1, ..Seen::default() };
        let stamped_by_producer = header.timestamp_type() == wire::batch::TimestampType::LogAppendTime;
        for record in RecordIter::new(header, records) {
            let record = record
                .map_err(|error| invalid(alloc::format!("{error} in topic partition {}", self.log.name())))?;
            let index = seen.count;
            if self.config.compact && record.key.is_none() {
                seen.errors.push(RecordError {
                    batch_index: index,
                    message: alloc::format!(
                        "Compacted topic cannot accept message without key in topic partition {}",
                        self.log.name()
                    ),
                });
            } else if self.config.timestamp_type == TimestampType::CreateTime && record.timestamp != -1 {
                self.check_timestamp(&mut seen, index, record.timestamp, record.offset);
            } else if stamped_by_producer {
                seen.bad_timestamp = true;
                let message = "Producer should not set timestamp type to LogAppendTime.".into();
                seen.errors.push(RecordError { batch_index: index, message });
            }
            seen.consecutive &= record.offset.wrapping_sub(header.base_offset) == i64::from(index);
            seen.max_timestamp = seen.max_timestamp.max(record.timestamp);
            seen.count += 1;
        }
        if seen.errors.is_empty() { Ok(seen) } else { Err(refused(seen)) }
    }

    fn check_timestamp(&self, seen: &mut Seen, index: i32, timestamp: i64, offset: i64) {
        let (before, after) = (self.config.timestamp_before_max_ms, self.config.timestamp_after_max_ms);
        // Differences of hostile timestamps wrap; in 128 bits they do not.
        let age = i128::from(self.now_ms) - i128::from(timestamp);
        if age <= i128::from(before) && -age <= i128::from(after) {
            return;
        }
        seen.bad_timestamp = true;
        seen.errors.push(RecordError {
            batch_index: index,
            message: alloc::format!(
                "Timestamp {timestamp} of message with offset {offset} is out of range. The timestamp should be within \
                 [{}, {}]",
                self.now_ms.wrapping_sub(before),
                self.now_ms.wrapping_add(after)
            ),
        });
    }

    fn corrupt(&self, header: &BatchHeader, error: BatchError) -> AppendError {
        let message =
            alloc::format!("{error} (stored crc = {}) in topic partition {}.", header.crc, self.log.name());
        AppendError::Corrupt { message }
    }

    fn undecompressed(&self, error: CodecError) -> AppendError {
        let message = alloc::format!("{error} in topic partition {}.", self.log.name());
        match error {
            CodecError::TooLarge { .. } => invalid(message),
            CodecError::Damaged => AppendError::Corrupt { message },
            CodecError::Absent(_) => AppendError::UnsupportedCompression { message },
        }
    }

    /// The batch with its offset and leader epoch, and with its timestamps where they must change, and its CRC.
    /// Records are shared.
    fn stamp(&self, batch: &Batch, base_offset: i64, max_timestamp: i64) -> (Rope, u32) {
        let log_append_time = self.config.timestamp_type == TimestampType::LogAppendTime;
        if !log_append_time && batch.header.max_timestamp == max_timestamp {
            let mut first = [0; 16];
            batch.bytes.copy_to(0, &mut first);
            let first = patch_first_16(&first, base_offset, self.leader_epoch);
            let mut bytes = Rope::from(Bytes::copy_from_slice(&first));
            bytes.append(batch.bytes.slice(16, batch.bytes.len() - 16));
            return (bytes, batch.header.crc);
        }
        let mut header = batch.header;
        header.base_offset = base_offset;
        header.partition_leader_epoch = self.leader_epoch;
        header.max_timestamp = max_timestamp;
        header.attributes.0 = (header.attributes.0 & !8) | if log_append_time { 8 } else { 0 };
        let records = batch.bytes.slice(HEADER_LEN, batch.bytes.len() - HEADER_LEN);
        let mut crc = self.codecs.crc32c(0, &header.to_bytes()[CRC_FROM..]);
        for piece in records.pieces() {
            crc = self.codecs.crc32c(crc, piece);
        }
        header.crc = crc;
        let mut bytes = Rope::from(Bytes::copy_from_slice(&header.to_bytes()));
        bytes.append(records);
        (bytes, crc)
    }

    /// The batch made anew: compressed otherwise, or with the inner offsets that it should have had.
    fn rebuild(
        &self,
        header: &BatchHeader,
        records: &[u8],
        target: Compression,
        base_offset: i64,
    ) -> Result<Validated, AppendError> {
        let mut builder = BatchBuilder::with_capacity(HEADER_LEN + records.len());
        for record in RecordIter::new(header, records).map_while(Result::ok) {
            let headers: SmallVec<[_; 4]> = record.headers.collect();
            let headers: SmallVec<[_; 4]> = headers.iter().map(|h| (h.key.as_ref(), h.value)).collect();
            builder.append(record.timestamp, record.key, record.value, &headers);
        }
        let count = builder.count();
        let log_append_time =
            (self.config.timestamp_type == TimestampType::LogAppendTime).then_some(self.now_ms);
        let max_timestamp = log_append_time.unwrap_or(builder.max_timestamp());
        let level = match self.config.compression {
            TargetCompression::Fixed { level, .. } => level,
            TargetCompression::Producer => None,
        };
        let options = BatchOptions {
            base_offset,
            leader_epoch: self.leader_epoch,
            compression: target,
            level,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.is_transactional(),
            control: header.is_control(),
            log_append_time,
            ..BatchOptions::default()
        };
        let bytes = builder.finish(self.codecs, &options).map_err(|error| self.corrupt(header, error))?;
        let crc = BatchHeader::parse(&bytes).expect("just built").crc;
        Ok(Validated { bytes: Rope::from(bytes), count, max_timestamp, crc })
    }
}

fn refused(seen: Seen) -> AppendError {
    if seen.bad_timestamp {
        let message = "One or more records have been rejected due to invalid timestamp".into();
        return AppendError::InvalidTimestamp { message, record_errors: seen.errors };
    }
    let told: Vec<String> = seen
        .errors
        .iter()
        .take(ERRORS_TOLD)
        .map(|e| alloc::format!("RecordError(batchIndex={}, message='{}')", e.batch_index, e.message))
        .collect();
    let message = alloc::format!(
        "One or more records have been rejected due to {} record errors in total, and only showing the first three \
         errors at most: [{}]",
        seen.errors.len(),
        told.join(", ")
    );
    AppendError::InvalidRecord { message, record_errors: seen.errors }
}

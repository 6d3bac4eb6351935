//! The header of a batch, and what a leader may change in it.

use bytes::Bytes;

use super::{BatchError, CRC_FROM, HEADER_LEN, LOG_OVERHEAD, MAGIC};
use crate::codecs::{Codecs, Compression};
use crate::rope::Rope;

/// What the timestamps of a batch mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// When the producer made the record.
    #[default]
    CreateTime,
    /// When the leader appended the batch.
    LogAppendTime,
}

impl TimestampType {
    /// Kafka's name, as in `message.timestamp.type`.
    pub fn name(self) -> &'static str {
        match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }
}

/// The attributes of a batch, as they stand in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The attributes with these properties.
    pub fn new(
        compression: Compression,
        timestamp_type: TimestampType,
        transactional: bool,
        control: bool,
        delete_horizon: bool,
    ) -> Attributes {
        let mut bits = compression as i16;
        for (set, bit) in [
            (timestamp_type == TimestampType::LogAppendTime, Attributes::LOG_APPEND_TIME),
            (transactional, Attributes::TRANSACTIONAL),
            (control, Attributes::CONTROL),
            (delete_horizon, Attributes::DELETE_HORIZON),
        ] {
            if set {
                bits |= bit;
            }
        }
        Attributes(bits)
    }

    /// How the records are compressed.
    pub fn compression(self) -> Result<Compression, BatchError> {
        let id = (self.0 & Attributes::COMPRESSION) as u8;
        Compression::from_id(id).ok_or(BatchError::Compression(id))
    }

    /// What the timestamps mean.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Attributes::LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Attributes::TRANSACTIONAL != 0
    }

    /// Whether its records are for Kafka itself.
    pub fn is_control(self) -> bool {
        self.0 & Attributes::CONTROL != 0
    }

    /// Whether compaction has set the time at which tombstones and markers may go.
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Attributes::DELETE_HORIZON != 0
    }
}

/// The header of a batch, every field of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record (of the first that there was, after compaction).
    pub base_offset: i64,
    /// The number of bytes after this field.
    pub batch_length: i32,
    /// The epoch of the leader that appended the batch; -1 from clients. Not in the CRC.
    pub partition_leader_epoch: i32,
    /// The format: 2.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Compression and flags.
    pub attributes: Attributes,
    /// The last offset less the base offset. Compaction keeps it.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to; the delete horizon if the attributes say so.
    pub base_timestamp: i64,
    /// The highest timestamp.
    pub max_timestamp: i64,
    /// The producer id, or -1.
    pub producer_id: i64,
    /// The producer epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// The number of records.
    pub record_count: i32,
}

#[inline]
fn be<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Parses the header at the beginning of `bytes`. It says nothing of the rest of the batch, which may be absent.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(b) = bytes.first_chunk::<HEADER_LEN>() else { return Err(BatchHeader::too_short(bytes)) };
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(be(b, 0)),
            batch_length: i32::from_be_bytes(be(b, 8)),
            partition_leader_epoch: i32::from_be_bytes(be(b, 12)),
            magic: b[16] as i8,
            crc: u32::from_be_bytes(be(b, 17)),
            attributes: Attributes(i16::from_be_bytes(be(b, 21))),
            last_offset_delta: i32::from_be_bytes(be(b, 23)),
            base_timestamp: i64::from_be_bytes(be(b, 27)),
            max_timestamp: i64::from_be_bytes(be(b, 35)),
            producer_id: i64::from_be_bytes(be(b, 43)),
            producer_epoch: i16::from_be_bytes(be(b, 51)),
            base_sequence: i32::from_be_bytes(be(b, 53)),
            record_count: i32::from_be_bytes(be(b, 57)),
        };
        if header.magic != MAGIC {
            return Err(wrong_magic(header.magic));
        }
        if header.batch_length < (HEADER_LEN - LOG_OVERHEAD) as i32 {
            return Err(BatchError::TooSmall(header.batch_length));
        }
        Ok(header)
    }

    /// An old batch may be shorter than a header of format 2: it is named as what it is.
    #[cold]
    fn too_short(bytes: &[u8]) -> BatchError {
        match bytes.get(16) {
            Some(&magic) if magic as i8 != MAGIC => wrong_magic(magic as i8),
            _ => BatchError::Truncated { wanted: HEADER_LEN, left: bytes.len() },
        }
    }

    /// The header as bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out[16] = self.magic as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        out
    }

    /// The offset of the last record. It wraps instead of overflowing: a hostile header is the caller's to refuse.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(self.last_offset_delta as i64)
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// The size of the whole batch.
    pub fn size_in_bytes(&self) -> usize {
        // Parsing has refused what is less than a header.
        self.batch_length as usize + LOG_OVERHEAD
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        self.attributes.compression()
    }

    /// What the timestamps mean.
    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type()
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    /// Whether its records are for Kafka itself.
    pub fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// Whether a producer id stands in it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > super::NO_PRODUCER_ID
    }

    /// The sequence number of the last record, or -1.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == super::NO_SEQUENCE {
            return super::NO_SEQUENCE;
        }
        super::increment_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// When tombstones and markers may go, in milliseconds, once compaction has set it.
    pub fn delete_horizon(&self) -> Option<i64> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// Whether `batch`, which begins with this header, has the CRC that the header says.
    pub fn check_crc(&self, batch: &Rope, codecs: &dyn Codecs) -> Result<(), BatchError> {
        let computed = crc(batch, codecs);
        if computed != self.crc {
            return Err(BatchError::Crc { stored: self.crc, computed });
        }
        Ok(())
    }
}

#[cold]
fn wrong_magic(magic: i8) -> BatchError {
    if magic == 0 || magic == 1 { BatchError::OldMagic(magic) } else { BatchError::UnknownMagic(magic) }
}

/// The CRC-32C of a batch: of everything from the attributes on.
pub(super) fn crc(batch: &Rope, codecs: &dyn Codecs) -> u32 {
    let mut skip = CRC_FROM;
    let mut crc = 0;
    for piece in batch.pieces() {
        let from = skip.min(piece.len());
        skip -= from;
        if from < piece.len() {
            crc = codecs.crc32c(crc, &piece[from..]);
        }
    }
    crc
}

/// The first 16 bytes of a batch with another base offset and leader epoch, which the CRC does not cover.
pub fn patch_first_16(first: &[u8; 16], base_offset: i64, leader_epoch: i32) -> [u8; 16] {
    let mut out = *first;
    out[0..8].copy_from_slice(&base_offset.to_be_bytes());
    out[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    out
}

/// The batch with another base offset and leader epoch. Its records are shared, not copied. Panics if it is shorter
/// than 16 bytes.
pub fn stamp(batch: &Rope, base_offset: i64, leader_epoch: i32) -> Rope {
    let mut first = [0; 16];
    batch.copy_to(0, &mut first);
    let mut out = Rope::from(Bytes::copy_from_slice(&patch_first_16(&first, base_offset, leader_epoch)));
    out.append(batch.slice(16, batch.len() - 16));
    out
}

/// The batch with the time of its append as its timestamp, and its CRC computed again. Its records are shared, not
/// copied. Panics if it is shorter than its header.
pub fn restamp_log_append_time(
    batch: &Rope,
    base_offset: i64,
    leader_epoch: i32,
    append_time: i64,
    codecs: &dyn Codecs,
) -> Result<Rope, BatchError> {
    let mut bytes = [0; HEADER_LEN];
    batch.copy_to(0, &mut bytes);
    let mut header = BatchHeader::parse(&bytes)?;
    header.base_offset = base_offset;
    header.partition_leader_epoch = leader_epoch;
    header.attributes.0 |= Attributes::LOG_APPEND_TIME;
    header.max_timestamp = append_time;
    Ok(with_header(batch, header, codecs))
}

/// The batch with another producer id, epoch and base sequence, and its CRC computed again. Its records are shared, not
/// copied. Panics if it is shorter than its header.
pub fn restamp_producer(
    batch: &Rope,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    codecs: &dyn Codecs,
) -> Result<Rope, BatchError> {
    let mut bytes = [0; HEADER_LEN];
    batch.copy_to(0, &mut bytes);
    let header = BatchHeader { producer_id, producer_epoch, base_sequence, ..BatchHeader::parse(&bytes)? };
    Ok(with_header(batch, header, codecs))
}

/// The batch with another header, but for the CRC, which is computed.
fn with_header(batch: &Rope, mut header: BatchHeader, codecs: &dyn Codecs) -> Rope {
    let records = batch.slice(HEADER_LEN, batch.len() - HEADER_LEN);
    let mut sum = codecs.crc32c(0, &header.to_bytes()[CRC_FROM..]);
    for piece in records.pieces() {
        sum = codecs.crc32c(sum, piece);
    }
    header.crc = sum;
    let mut out = Rope::from(Bytes::copy_from_slice(&header.to_bytes()));
    out.append(records);
    out
}

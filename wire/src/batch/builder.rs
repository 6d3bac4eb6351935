//! Making batches.

use alloc::vec::Vec;

use bytes::Bytes;

use super::header::{Attributes, BatchHeader, TimestampType};
use super::{
    BatchError, CRC_FROM, HEADER_LEN, LOG_OVERHEAD, MAGIC, NO_LEADER_EPOCH, NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, varint,
};
use crate::codecs::{Codecs, Compression};

/// What a batch says of itself beside its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// The offset of the first record; a client's is 0.
    pub base_offset: i64,
    /// The leader epoch; a client's is -1.
    pub leader_epoch: i32,
    /// How to compress the records.
    pub compression: Compression,
    /// The compression level; the codec's own if absent.
    pub level: Option<i32>,
    /// The producer id, or -1.
    pub producer_id: i64,
    /// The producer epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Whether it belongs to a transaction.
    pub transactional: bool,
    /// Whether its records are for Kafka itself.
    pub control: bool,
    /// The time of the append, if that is to be the timestamp of all records.
    pub log_append_time: Option<i64>,
    /// When tombstones and markers may go, if compaction has set it.
    pub delete_horizon: Option<i64>,
    /// The last offset less the base offset, if it is not that of the last record: compaction keeps it.
    pub last_offset_delta: Option<i32>,
}

impl Default for BatchOptions {
    fn default() -> BatchOptions {
        BatchOptions {
            base_offset: 0,
            leader_epoch: NO_LEADER_EPOCH,
            compression: Compression::None,
            level: None,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            transactional: false,
            control: false,
            log_append_time: None,
            delete_horizon: None,
            last_offset_delta: None,
        }
    }
}

/// Makes a batch: records are appended into one buffer, without an allocation for each.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records.
    buf: Vec<u8>,
    base_timestamp: i64,
    max_timestamp: i64,
    last_offset_delta: i32,
    count: i32,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::with_capacity(0)
    }
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> BatchBuilder {
        BatchBuilder::default()
    }

    /// An empty batch with room for `capacity` bytes, header and records.
    pub fn with_capacity(capacity: usize) -> BatchBuilder {
        let mut buf = Vec::with_capacity(capacity.max(HEADER_LEN));
        buf.resize(HEADER_LEN, 0);
        BatchBuilder {
            buf,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            last_offset_delta: -1,
            count: 0,
        }
    }

    /// An empty batch whose timestamps are relative to `base`: compaction needs it when a delete horizon takes the
    /// place of the first timestamp.
    pub fn with_base_timestamp(capacity: usize, base: i64) -> BatchBuilder {
        BatchBuilder { base_timestamp: base, ..BatchBuilder::with_capacity(capacity) }
    }

    /// The size of the batch so far, uncompressed.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// The number of records.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The highest timestamp; -1 if there are no records.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// The size that a record would add, exactly.
    pub fn size_of(
        &self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> usize {
        let timestamp_delta = if self.has_base() { timestamp.wrapping_sub(self.base_timestamp) } else { 0 };
        let body = body_size(timestamp_delta, self.last_offset_delta + 1, key, value, headers);
        varint::size(body as i64) + body
    }

    /// An upper bound of the size of a batch of one such record (`DefaultRecordBatch.estimateBatchSizeUpperBound`).
    pub fn size_upper_bound(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> usize {
        // The length, attributes, timestamp delta and offset delta at their largest.
        HEADER_LEN + 5 + 1 + 10 + 5 + payload_size(key, value, headers)
    }

    /// Appends a record, at the offset after the last one.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        self.append_at(self.last_offset_delta + 1, timestamp, key, value, headers);
    }

    /// Appends a record at the offset `offset_delta` after the base offset. Panics if that is not after the last one.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        assert!(offset_delta > self.last_offset_delta, "offset deltas ascend");
        if !self.has_base() {
            self.base_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let body = body_size(timestamp_delta, offset_delta, key, value, headers);
        let buf = &mut self.buf;
        buf.reserve(body + 5);
        varint::push(buf, body as i64);
        buf.push(0);
        varint::push(buf, timestamp_delta);
        varint::push(buf, offset_delta as i64);
        push_opt(buf, key);
        push_opt(buf, value);
        varint::push(buf, headers.len() as i64);
        for (key, value) in headers {
            push_opt(buf, Some(key.as_bytes()));
            push_opt(buf, *value);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        self.count += 1;
    }

    fn has_base(&self) -> bool {
        self.count > 0 || self.base_timestamp != NO_TIMESTAMP
    }

    /// The batch. Its records are compressed, its header and CRC filled in.
    pub fn finish(mut self, codecs: &dyn Codecs, options: &BatchOptions) -> Result<Bytes, BatchError> {
        if options.compression != Compression::None {
            let records = codecs.compress(options.compression, options.level, &self.buf[HEADER_LEN..])?;
            self.buf.truncate(HEADER_LEN);
            self.buf.extend_from_slice(&records);
        }
        let timestamp_type = match options.log_append_time {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        };
        let attributes = Attributes::new(
            options.compression,
            timestamp_type,
            options.transactional,
            options.control,
            options.delete_horizon.is_some(),
        );
        let mut header = BatchHeader {
            base_offset: options.base_offset,
            batch_length: i32::try_from(self.buf.len() - LOG_OVERHEAD).expect("a batch is far below 2 GiB"),
            partition_leader_epoch: options.leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes,
            last_offset_delta: options.last_offset_delta.unwrap_or(self.last_offset_delta),
            base_timestamp: options.delete_horizon.unwrap_or(self.base_timestamp),
            max_timestamp: options.log_append_time.unwrap_or(self.max_timestamp),
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            record_count: self.count,
        };
        self.buf[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        header.crc = codecs.crc32c(0, &self.buf[CRC_FROM..]);
        self.buf[17..21].copy_from_slice(&header.crc.to_be_bytes());
        Ok(Bytes::from(self.buf))
    }
}

fn push_opt(buf: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::push(buf, bytes.len() as i64);
            buf.extend_from_slice(bytes);
        }
        None => varint::push(buf, -1),
    }
}

fn opt_size(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint::size(bytes.len() as i64) + bytes.len(),
        None => 1,
    }
}

fn payload_size(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> usize {
    let mut size = opt_size(key) + opt_size(value) + varint::size(headers.len() as i64);
    for (key, value) in headers {
        size += opt_size(Some(key.as_bytes())) + opt_size(*value);
    }
    size
}

fn body_size(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&str, Option<&[u8]>)],
) -> usize {
    1 + varint::size(timestamp_delta) + varint::size(offset_delta as i64) + payload_size(key, value, headers)
}

//! The records of a batch, borrowed.

use alloc::borrow::Cow;
use alloc::string::String;

use bytes::Bytes;

use super::header::{BatchHeader, TimestampType};
use super::varint::{Cursor, Flaw};
use super::{BatchError, NO_SEQUENCE, increment_sequence};

/// The records of a batch as bytes, decompressed.
#[derive(Clone, Debug)]
pub struct Records {
    pub(super) header: BatchHeader,
    pub(super) bytes: Bytes,
}

impl Records {
    /// The records, in order.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::new(&self.header, &self.bytes)
    }

    /// The header of their batch.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Their bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;
    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds; that of the batch if the leader stamped it.
    pub timestamp: i64,
    /// What the timestamp means.
    pub timestamp_type: TimestampType,
    /// Its sequence number, or -1.
    pub sequence: i32,
    /// Its size, with the length before it.
    pub size_in_bytes: usize,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; null in a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its key. What is not UTF-8 in it is replaced, as Java does.
    pub key: Cow<'a, str>,
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, in order; a key may occur several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    count: usize,
    /// Checked to hold `count` headers and nothing else.
    bytes: &'a [u8],
}

impl Headers<'_> {
    /// The number of headers left.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.count = self.count.checked_sub(1)?;
        let mut cursor = Cursor { left: self.bytes };
        let key = cursor.bytes_opt().expect("checked").expect("checked");
        let value = cursor.bytes_opt().expect("checked");
        self.bytes = cursor.left;
        Some(Header { key: String::from_utf8_lossy(key), value })
    }
}

/// Nothing is to come, not even an error.
const ENDED: i64 = i64::MIN;

/// Iterates the records of a batch; ends after the first error.
///
/// After the last record nothing may be left: Kafka refuses a batch whose count is too low, too.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    cursor: Cursor<'a>,
    /// The records still to come; [`ENDED`] once all is over.
    left: i64,
    base_offset: i64,
    base_timestamp: i64,
    base_sequence: i32,
    /// What overrides the records' own timestamps.
    append_time: Option<i64>,
}

impl<'a> RecordIter<'a> {
    /// The records in `bytes`, which are those of the batch with this header, decompressed.
    pub fn new(header: &BatchHeader, bytes: &'a [u8]) -> RecordIter<'a> {
        let append_time = match header.timestamp_type() {
            TimestampType::LogAppendTime => Some(header.max_timestamp),
            TimestampType::CreateTime => None,
        };
        RecordIter {
            cursor: Cursor { left: bytes },
            left: header.record_count as i64,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            base_sequence: header.base_sequence,
            append_time,
        }
    }

    #[inline(always)]
    fn read(&mut self) -> Result<Record<'a>, Flaw> {
        let mut cursor = self.cursor;
        let Ok(len) = usize::try_from(cursor.varint()?) else {
            return Err(Flaw::NegativeSize);
        };
        let mut body = Cursor { left: cursor.take(len)? };
        let size_in_bytes = self.cursor.left.len() - cursor.left.len();
        self.cursor = cursor;
        // The attributes of a record: none are defined.
        body.byte()?;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = body.bytes_opt()?;
        let value = body.bytes_opt()?;
        let headers = match body.varint()? {
            0 if body.left.is_empty() => Headers::default(),
            count => headers(body.left, count)?,
        };
        let sequence = match self.base_sequence {
            base if base >= 0 => increment_sequence(base, offset_delta),
            _ => NO_SEQUENCE,
        };
        let timestamp_type = match self.append_time {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        };
        Ok(Record {
            // Wrapping, since a hostile base must not panic; whoever appends checks the offsets.
            offset: self.base_offset.wrapping_add(offset_delta as i64),
            timestamp: self.append_time.unwrap_or_else(|| self.base_timestamp.wrapping_add(timestamp_delta)),
            timestamp_type,
            sequence,
            size_in_bytes,
            key,
            value,
            headers,
        })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Result<Record<'a>, BatchError>> {
        if self.left > 0 {
            self.left -= 1;
            return Some(match self.read() {
                Ok(record) => Ok(record),
                Err(flaw) => {
                    self.left = ENDED;
                    Err(flaw.into())
                }
            });
        }
        let left = core::mem::replace(&mut self.left, ENDED);
        ended(left, self.cursor.left).map(Err)
    }
}

/// What is wrong when no record is to come, once.
#[cold]
fn ended(left: i64, bytes: &[u8]) -> Option<BatchError> {
    match left {
        ENDED => None,
        0 if bytes.is_empty() => None,
        0 => Some(BatchError::Record("bytes are left after the last one")),
        _ => Some(BatchError::Record("their number is negative")),
    }
}

/// Takes what is left of a record as so many headers, and checks them, so that iterating them cannot fail.
#[inline(never)]
fn headers(bytes: &[u8], count: i32) -> Result<Headers<'_>, Flaw> {
    let Ok(count) = usize::try_from(count) else {
        return Err(Flaw::NegativeHeaders);
    };
    let mut body = Cursor { left: bytes };
    for _ in 0..count {
        if body.bytes_opt()?.is_none() {
            return Err(Flaw::NullHeaderKey);
        }
        body.bytes_opt()?;
    }
    if !body.left.is_empty() {
        return Err(Flaw::Size);
    }
    Ok(Headers { count, bytes })
}

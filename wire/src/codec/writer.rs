//! Encoding in one pass.

use alloc::vec::Vec;

use bytes::Bytes;
use smallvec::SmallVec;

use super::error::EncodeError;
use crate::rope::Rope;
use crate::uuid::Uuid;

/// Records of at least so many bytes become pieces of their own; smaller ones are copied, which is cheaper.
const SHARE_FROM: usize = 256;

/// Encodes into one growing buffer; large records are shared, as pieces between its parts.
///
/// The first error is kept and comes out of [`Writer::check`] or [`Writer::finish`], so that encoding is a straight
/// line.
#[derive(Debug, Default)]
pub struct Writer {
    buf: Vec<u8>,
    /// The ropes that go between the bytes of the buffer, each before the byte with that index.
    shared: Vec<(usize, Rope)>,
    shared_len: usize,
    error: Option<EncodeError>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty writer with room for `capacity` bytes.
    #[inline]
    pub fn with_capacity(capacity: usize) -> Writer {
        Writer { buf: Vec::with_capacity(capacity), ..Writer::default() }
    }

    /// An empty writer in the room of a buffer that was used before; [`Writer::into_bytes`] gives it back.
    #[inline]
    pub fn reusing(mut buffer: Vec<u8>) -> Writer {
        buffer.clear();
        Writer { buf: buffer, ..Writer::default() }
    }

    /// The number of bytes written.
    pub fn len(&self) -> usize {
        self.buf.len() + self.shared_len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes an error; the first one stays.
    #[cold]
    #[inline(never)]
    pub fn fail(&mut self, error: EncodeError) {
        if self.error.is_none() {
            self.error = Some(error);
        }
    }

    /// Notes that `field` is set and `version` lacks it.
    #[cold]
    #[inline(never)]
    pub fn fail_field(&mut self, field: &'static str, version: i16) {
        self.fail(EncodeError::Field { field, version });
    }

    /// Notes that `field` is null and `version` does not allow that.
    #[cold]
    #[inline(never)]
    pub fn fail_null(&mut self, field: &'static str, version: i16) {
        self.fail(EncodeError::Null { field, version });
    }

    /// `version` must lie within `min` and `max`.
    #[inline]
    pub fn check_version(
        &mut self,
        message: &'static str,
        version: i16,
        min: i16,
        max: i16,
    ) -> Result<(), EncodeError> {
        if version < min || version > max {
            return Err(EncodeError::Version { message, version });
        }
        Ok(())
    }

    /// The first error, if there was one.
    #[inline]
    pub fn check(&mut self) -> Result<(), EncodeError> {
        match self.error.take() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// What was written.
    #[inline]
    pub fn finish(mut self) -> Result<Rope, EncodeError> {
        self.check()?;
        if self.shared.is_empty() {
            return Ok(Rope::from(Bytes::from(self.buf)));
        }
        Ok(self.finish_shared())
    }

    fn finish_shared(self) -> Rope {
        let all = Bytes::from(self.buf);
        let mut rope = Rope::new();
        let mut from = 0;
        for (at, shared) in self.shared {
            rope.push(all.slice(from..at));
            rope.append(shared);
            from = at;
        }
        rope.push(all.slice(from..));
        rope
    }

    /// What was written, in one piece.
    pub fn into_bytes(mut self) -> Result<Vec<u8>, EncodeError> {
        self.check()?;
        if self.shared.is_empty() {
            return Ok(self.buf);
        }
        Ok(self.finish()?.to_bytes().into())
    }

    /// Room for the frame's size, which [`Writer::finish_frame`] fills in. Comes first.
    pub(crate) fn begin_frame(&mut self) {
        debug_assert!(self.is_empty());
        self.buf.extend_from_slice(&[0; 4]);
    }

    /// What was written, with its size in the four bytes before it.
    pub(crate) fn finish_frame(mut self) -> Result<Rope, EncodeError> {
        let len = self.len() - 4;
        match i32::try_from(len) {
            Ok(size) => self.buf[..4].copy_from_slice(&size.to_be_bytes()),
            Err(_) => self.fail(EncodeError::TooLong { len }),
        }
        self.finish()
    }

    /// Bytes, as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.buf.push(value);
    }

    /// `int8`.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.buf.push(value as u8);
    }

    /// `bool`.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.buf.push(value as u8);
    }

    /// `int16`.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// `uint16`.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    /// `int32`.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// `uint32`.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    /// `int64`.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// `float64`.
    #[inline]
    pub fn f64(&mut self, value: f64) {
        self.raw(&value.to_be_bytes());
    }

    /// `uuid`.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.raw(&value.0);
    }

    /// An unsigned variable-length integer.
    #[inline]
    pub fn uvarint(&mut self, value: u32) {
        if value < 0x80 {
            self.buf.push(value as u8);
        } else {
            self.uvarint_long(value);
        }
    }

    #[inline(never)]
    fn uvarint_long(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.push(value as u8);
    }

    #[inline]
    fn short_len(&mut self, flexible: bool, len: usize) {
        if len > i16::MAX as usize {
            self.fail(EncodeError::TooLong { len });
        } else if flexible {
            self.uvarint(len as u32 + 1);
        } else {
            self.i16(len as i16);
        }
    }

    /// The length of bytes, records or an array.
    #[inline]
    pub fn long_len(&mut self, flexible: bool, len: usize) {
        if len >= i32::MAX as usize {
            self.fail(EncodeError::TooLong { len });
        } else if flexible {
            self.uvarint(len as u32 + 1);
        } else {
            self.i32(len as i32);
        }
    }

    /// The length of null bytes, records or a null array.
    #[inline]
    pub fn long_null(&mut self, flexible: bool) {
        if flexible {
            self.u8(0);
        } else {
            self.i32(-1);
        }
    }

    /// `string`.
    #[inline]
    pub fn string(&mut self, flexible: bool, value: &str) {
        self.short_len(flexible, value.len());
        self.raw(value.as_bytes());
    }

    /// A nullable `string`.
    #[inline]
    pub fn string_opt(&mut self, flexible: bool, value: Option<&str>) {
        match value {
            Some(value) => self.string(flexible, value),
            None if flexible => self.u8(0),
            None => self.i16(-1),
        }
    }

    /// `bytes`.
    #[inline]
    pub fn bytes(&mut self, flexible: bool, value: &[u8]) {
        self.long_len(flexible, value.len());
        self.raw(value);
    }

    /// Nullable `bytes`.
    #[inline]
    pub fn bytes_opt(&mut self, flexible: bool, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bytes(flexible, value),
            None => self.long_null(flexible),
        }
    }

    /// Nullable `records`: large ones are shared.
    #[inline]
    pub fn records_opt(&mut self, flexible: bool, value: Option<&Rope>) {
        match value {
            Some(value) => {
                self.long_len(flexible, value.len());
                self.rope(value);
            }
            None => self.long_null(flexible),
        }
    }

    /// The bytes of a rope: copied if they are few, shared otherwise.
    pub fn rope(&mut self, value: &Rope) {
        if value.len() < SHARE_FROM {
            for piece in value.pieces() {
                self.raw(piece);
            }
        } else {
            self.shared_len += value.len();
            self.shared.push((self.buf.len(), value.clone()));
        }
    }

    /// Begins a tagged field whose size is not known yet; [`Writer::end_tag`] inserts it.
    #[inline]
    pub fn begin_tag(&mut self, tag: u32) -> usize {
        self.uvarint(tag);
        // One byte for the size, which is nearly always enough.
        self.buf.push(0);
        self.buf.len()
    }

    /// Ends the tagged field whose data began at `start`.
    #[inline]
    pub fn end_tag(&mut self, start: usize) {
        let size = self.buf.len() - start;
        if size < 0x80 {
            self.buf[start - 1] = size as u8;
        } else {
            self.insert_size(start, size);
        }
    }

    /// Makes room for a size of more than one byte before `start`. No shared piece lies behind it: tagged fields
    /// hold no records.
    #[cold]
    fn insert_size(&mut self, start: usize, size: usize) {
        debug_assert!(self.shared.last().is_none_or(|(at, _)| *at < start));
        let Ok(mut size) = u32::try_from(size) else {
            self.fail(EncodeError::TooLong { len: size });
            return;
        };
        let mut encoded: SmallVec<[u8; 5]> = SmallVec::new();
        while size >= 0x80 {
            encoded.push(size as u8 | 0x80);
            size >>= 7;
        }
        encoded.push(size as u8);
        self.buf.splice(start - 1..start, encoded);
    }
}

//! Decoding from a rope, with bounds.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::error::{DecodeError, DecodeReason};
use crate::rope::Rope;
use crate::uuid::Uuid;

/// Decodes from a rope, or from a slice. What lies inside one piece is borrowed from it.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    /// What is left of the current piece.
    cur: &'a [u8],
    /// The current piece, to share bytes from; absent when decoding from a slice.
    piece: Option<&'a Bytes>,
    /// The pieces after it.
    next: &'a [Bytes],
    /// The position of the end of the current piece in the input.
    cur_end: usize,
    /// The length of the input.
    len: usize,
    /// What is being decoded.
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads a rope from its beginning.
    pub fn new(rope: &'a Rope) -> Reader<'a> {
        match rope.pieces().split_first() {
            Some((first, next)) => Reader {
                cur: first,
                piece: Some(first),
                next,
                cur_end: first.len(),
                len: rope.len(),
                what: "frame",
            },
            None => Reader::from_slice(&[]),
        }
    }

    /// Reads a slice. Records read from it are copied, since there is nothing to share.
    pub fn from_slice(bytes: &'a [u8]) -> Reader<'a> {
        Reader { cur: bytes, piece: None, next: &[], cur_end: bytes.len(), len: bytes.len(), what: "bytes" }
    }

    /// The position in the input, in bytes.
    #[inline]
    pub fn position(&self) -> usize {
        self.cur_end - self.cur.len()
    }

    /// The number of bytes left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.len - self.position()
    }

    /// Errors from now on say that `what` was being decoded.
    #[inline]
    pub fn begin(&mut self, what: &'static str) {
        self.what = what;
    }

    /// An error at the current position.
    #[cold]
    #[inline(never)]
    pub fn error(&self, why: DecodeReason) -> DecodeError {
        DecodeError::new(self.what, self.position(), why)
    }

    /// Everything must have been read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error(DecodeReason::Trailing(left))),
        }
    }

    /// `version` must lie within `min` and `max`.
    #[inline]
    pub fn check_version(&self, version: i16, min: i16, max: i16) -> Result<(), DecodeError> {
        if version < min || version > max {
            return Err(self.error(DecodeReason::Version(version)));
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn truncated(&self, wanted: usize) -> DecodeError {
        self.error(DecodeReason::Truncated { wanted, left: self.remaining() })
    }

    /// Makes the next piece the current one, once this one is read.
    fn advance(&mut self) {
        debug_assert!(self.cur.is_empty());
        if let Some((first, next)) = self.next.split_first() {
            self.cur = first;
            self.piece = Some(first);
            self.next = next;
            self.cur_end += first.len();
        }
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.cur.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.cur = rest;
                Ok(*head)
            }
            None => self.fixed_across(),
        }
    }

    #[cold]
    #[inline(never)]
    fn fixed_across<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        if self.remaining() < N {
            return Err(self.truncated(N));
        }
        let mut out = [0; N];
        self.copy_across(&mut out);
        Ok(out)
    }

    /// Fills `out`, which is known to be left.
    fn copy_across(&mut self, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            if self.cur.is_empty() {
                self.advance();
            }
            let take = (out.len() - done).min(self.cur.len());
            let (head, rest) = self.cur.split_at(take);
            out[done..done + take].copy_from_slice(head);
            self.cur = rest;
            done += take;
        }
    }

    /// `len` bytes: borrowed if they lie in one piece.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<Cow<'a, [u8]>, DecodeError> {
        match self.cur.split_at_checked(len) {
            Some((head, rest)) => {
                self.cur = rest;
                Ok(Cow::Borrowed(head))
            }
            None => self.take_across(len),
        }
    }

    #[cold]
    #[inline(never)]
    fn take_across(&mut self, len: usize) -> Result<Cow<'a, [u8]>, DecodeError> {
        if self.remaining() < len {
            return Err(self.truncated(len));
        }
        if self.cur.is_empty() {
            self.advance();
            if let Some((head, rest)) = self.cur.split_at_checked(len) {
                self.cur = rest;
                return Ok(Cow::Borrowed(head));
            }
        }
        let mut out = alloc::vec![0; len];
        self.copy_across(&mut out);
        Ok(Cow::Owned(out))
    }

    /// `len` bytes as a rope that shares the input's pieces.
    pub fn take_rope(&mut self, len: usize) -> Result<Rope, DecodeError> {
        if self.remaining() < len {
            return Err(self.truncated(len));
        }
        let mut rope = Rope::new();
        let mut left = len;
        while left > 0 {
            if self.cur.is_empty() {
                self.advance();
            }
            let take = left.min(self.cur.len());
            let (head, rest) = self.cur.split_at(take);
            match self.piece {
                Some(piece) => {
                    let start = piece.len() - self.cur.len();
                    rope.push(piece.slice(start..start + take));
                }
                None => rope.push(Bytes::copy_from_slice(head)),
            }
            self.cur = rest;
            left -= take;
        }
        Ok(rope)
    }

    /// Fills `out`.
    pub fn copy_exact(&mut self, out: &mut [u8]) -> Result<(), DecodeError> {
        if self.remaining() < out.len() {
            return Err(self.truncated(out.len()));
        }
        self.copy_across(out);
        Ok(())
    }

    /// Skips `len` bytes.
    pub fn skip(&mut self, len: usize) -> Result<(), DecodeError> {
        if self.remaining() < len {
            return Err(self.truncated(len));
        }
        let mut left = len;
        while left > 0 {
            if self.cur.is_empty() {
                self.advance();
            }
            let take = left.min(self.cur.len());
            self.cur = &self.cur[take..];
            left -= take;
        }
        Ok(())
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.fixed::<1>()?[0])
    }

    /// `int8`.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(self.fixed::<1>()?[0] as i8)
    }

    /// `bool`: everything but zero is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.fixed::<1>()?[0] != 0)
    }

    /// `int16`.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// `uint16`.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    /// `int32`.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// `uint32`.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    /// `int64`.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// `float64`.
    #[inline]
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.fixed()?))
    }

    /// `uuid`.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.fixed()?))
    }

    /// An unsigned variable-length integer of at most five bytes and 32 bits.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        match self.cur.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.cur = rest;
                Ok(byte as u32)
            }
            _ => self.uvarint_long(),
        }
    }

    #[inline(never)]
    fn uvarint_long(&mut self) -> Result<u32, DecodeError> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= ((byte & 0x7f) as u32) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error(DecodeReason::Varint))
    }

    /// The length of a string, or none if it is null.
    #[inline]
    fn string_len(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if !flexible {
            return Ok(usize::try_from(self.i16()?).ok());
        }
        match (self.uvarint()? as usize).checked_sub(1) {
            // As Kafka has it: a string that comes in can be written again, into whatever holds strings.
            Some(len) if len > i16::MAX as usize => Err(self.error(DecodeReason::Value(len as i64))),
            len => Ok(len),
        }
    }

    /// The length of bytes, records or an array, or none if it is null.
    #[inline]
    fn long_len(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            Ok((self.uvarint()? as usize).checked_sub(1))
        } else {
            Ok(usize::try_from(self.i32()?).ok())
        }
    }

    #[inline]
    fn text(&mut self, len: usize) -> Result<Cow<'a, str>, DecodeError> {
        match self.take(len)? {
            Cow::Borrowed(bytes) => match core::str::from_utf8(bytes) {
                Ok(text) => Ok(Cow::Borrowed(text)),
                Err(_) => Err(self.error(DecodeReason::Utf8)),
            },
            Cow::Owned(bytes) => self.text_owned(bytes),
        }
    }

    #[cold]
    #[inline(never)]
    fn text_owned(&self, bytes: Vec<u8>) -> Result<Cow<'a, str>, DecodeError> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(_) => Err(self.error(DecodeReason::Utf8)),
        }
    }

    /// `string`.
    #[inline]
    pub fn string(&mut self, flexible: bool) -> Result<Cow<'a, str>, DecodeError> {
        match self.string_len(flexible)? {
            Some(len) => self.text(len),
            None => Err(self.error(DecodeReason::Null)),
        }
    }

    /// A nullable `string`.
    #[inline]
    pub fn string_opt(&mut self, flexible: bool) -> Result<Option<Cow<'a, str>>, DecodeError> {
        match self.string_len(flexible)? {
            Some(len) => self.text(len).map(Some),
            None => Ok(None),
        }
    }

    /// `string`, to keep.
    pub fn string_owned(&mut self, flexible: bool) -> Result<String, DecodeError> {
        Ok(self.string(flexible)?.into_owned())
    }

    /// A nullable `string`, to keep.
    pub fn string_owned_opt(&mut self, flexible: bool) -> Result<Option<String>, DecodeError> {
        Ok(self.string_opt(flexible)?.map(Cow::into_owned))
    }

    /// `bytes`.
    #[inline]
    pub fn bytes(&mut self, flexible: bool) -> Result<Cow<'a, [u8]>, DecodeError> {
        match self.long_len(flexible)? {
            Some(len) => self.take(len),
            None => Err(self.error(DecodeReason::Null)),
        }
    }

    /// Nullable `bytes`.
    #[inline]
    pub fn bytes_opt(&mut self, flexible: bool) -> Result<Option<Cow<'a, [u8]>>, DecodeError> {
        match self.long_len(flexible)? {
            Some(len) => self.take(len).map(Some),
            None => Ok(None),
        }
    }

    /// `bytes`, to keep.
    pub fn bytes_owned(&mut self, flexible: bool) -> Result<Vec<u8>, DecodeError> {
        Ok(self.bytes(flexible)?.into_owned())
    }

    /// Nullable `bytes`, to keep.
    pub fn bytes_owned_opt(&mut self, flexible: bool) -> Result<Option<Vec<u8>>, DecodeError> {
        Ok(self.bytes_opt(flexible)?.map(Cow::into_owned))
    }

    /// Nullable `records`: a rope that shares the input's pieces.
    pub fn records_opt(&mut self, flexible: bool) -> Result<Option<Rope>, DecodeError> {
        match self.long_len(flexible)? {
            Some(len) => self.take_rope(len).map(Some),
            None => Ok(None),
        }
    }

    /// The number of elements of an array, of which each takes at least `smallest` bytes; none if it is null.
    ///
    /// A number that the bytes left cannot hold is an error.
    #[inline]
    pub fn array_len(&mut self, flexible: bool, smallest: usize) -> Result<Option<usize>, DecodeError> {
        let Some(announced) = self.long_len(flexible)? else { return Ok(None) };
        if announced.saturating_mul(smallest) > self.remaining() {
            return Err(self.error(DecodeReason::TooMany { announced, left: self.remaining() }));
        }
        Ok(Some(announced))
    }

    /// For how many elements memory may be reserved before they are read: as much as twice the bytes left. Elements
    /// can be far larger in memory than on the wire, so the check of [`Reader::array_len`] alone is not enough.
    #[inline]
    fn reservation<T>(&self) -> usize {
        2 * self.remaining() / size_of::<T>().max(1) + 4
    }

    /// An array, each element of which takes at least `smallest` bytes and is read by `read`.
    #[inline]
    pub fn array<T>(
        &mut self,
        flexible: bool,
        smallest: usize,
        read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        match self.array_opt(flexible, smallest, read)? {
            Some(all) => Ok(all),
            None => Err(self.error(DecodeReason::Null)),
        }
    }

    /// A nullable array, each element of which takes at least `smallest` bytes and is read by `read`.
    #[inline]
    pub fn array_opt<T>(
        &mut self,
        flexible: bool,
        smallest: usize,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(len) = self.array_len(flexible, smallest)? else { return Ok(None) };
        let mut all = Vec::with_capacity(len.min(self.reservation::<T>()));
        for _ in 0..len {
            all.push(read(self)?);
        }
        Ok(Some(all))
    }

    /// The tag of the next tagged field, and the position at which its data must end.
    pub fn tag(&mut self) -> Result<(u32, usize), DecodeError> {
        let tag = self.uvarint()?;
        let size = self.uvarint()? as usize;
        if size > self.remaining() {
            return Err(self.truncated(size));
        }
        Ok((tag, self.position() + size))
    }

    /// Skips the data of a tagged field that the reader does not know, up to its end.
    pub fn skip_to(&mut self, end: usize) -> Result<(), DecodeError> {
        self.skip(end - self.position())
    }

    /// The data of a tagged field must end here.
    #[inline]
    pub fn tag_end(&mut self, end: usize) -> Result<(), DecodeError> {
        if self.position() != end {
            return Err(self.error(DecodeReason::TagSize { end }));
        }
        Ok(())
    }

    /// Skips the tagged fields of a structure that knows none.
    #[inline]
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        match self.uvarint()? {
            0 => Ok(()),
            count => self.skip_some_tags(count),
        }
    }

    #[cold]
    #[inline(never)]
    fn skip_some_tags(&mut self, count: u32) -> Result<(), DecodeError> {
        for _ in 0..count {
            let (_, end) = self.tag()?;
            self.skip_to(end)?;
        }
        Ok(())
    }
}

//! Zigzag variable-length integers.

use alloc::vec::Vec;

use super::BatchError;

/// What is wrong with a record. One byte, so that the results of the small reads stay in registers: reading a record
/// takes a few nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Short,
    Varint,
    NegativeSize,
    Size,
    NegativeHeaders,
    NullHeaderKey,
}

impl From<Flaw> for BatchError {
    #[cold]
    fn from(flaw: Flaw) -> BatchError {
        BatchError::Record(match flaw {
            Flaw::Short => "it ends too early",
            Flaw::Varint => "a variable-length integer is too long",
            Flaw::NegativeSize => "its size is negative",
            Flaw::Size => "its size is larger than its content",
            Flaw::NegativeHeaders => "its number of headers is negative",
            Flaw::NullHeaderKey => "the key of a header is null",
        })
    }
}

/// The bytes of records that are still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) left: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    pub(super) fn byte(&mut self) -> Result<u8, Flaw> {
        match self.left.split_first() {
            Some((&byte, rest)) => {
                self.left = rest;
                Ok(byte)
            }
            None => Err(Flaw::Short),
        }
    }

    #[inline(always)]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Flaw> {
        match self.left.split_at_checked(len) {
            Some((head, rest)) => {
                self.left = rest;
                Ok(head)
            }
            None => Err(Flaw::Short),
        }
    }

    /// A varint of at most 32 bits.
    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<i32, Flaw> {
        // Most have one byte or two.
        let raw = match *self.left {
            [first, ref rest @ ..] if first < 0x80 => {
                self.left = rest;
                first as u32
            }
            [first, second, ref rest @ ..] if second < 0x80 => {
                self.left = rest;
                (first & 0x7f) as u32 | (second as u32) << 7
            }
            _ => {
                let (raw, rest) = long_varint(self.left)?;
                self.left = rest;
                raw
            }
        };
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A varint of at most 64 bits.
    #[inline(always)]
    pub(super) fn varlong(&mut self) -> Result<i64, Flaw> {
        let raw = match *self.left {
            [first, ref rest @ ..] if first < 0x80 => {
                self.left = rest;
                first as u64
            }
            [first, second, ref rest @ ..] if second < 0x80 => {
                self.left = rest;
                (first & 0x7f) as u64 | (second as u64) << 7
            }
            _ => {
                let (raw, rest) = long_varlong(self.left)?;
                self.left = rest;
                raw
            }
        };
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A length and so many bytes; null if the length is negative.
    #[inline(always)]
    pub(super) fn bytes_opt(&mut self) -> Result<Option<&'a [u8]>, Flaw> {
        match usize::try_from(self.varint()?) {
            Ok(len) => Ok(Some(self.take(len)?)),
            Err(_) => Ok(None),
        }
    }
}

// The long ones take and give the bytes by value: were the cursor borrowed here, it could not live in registers.

#[inline(never)]
fn long_varint(bytes: &[u8]) -> Result<(u32, &[u8]), Flaw> {
    let mut raw = 0;
    for (i, &byte) in bytes.iter().take(5).enumerate() {
        if i == 4 && byte > 0x0f {
            return Err(Flaw::Varint);
        }
        raw |= ((byte & 0x7f) as u32) << (7 * i);
        if byte < 0x80 {
            return Ok((raw, &bytes[i + 1..]));
        }
    }
    Err(Flaw::Short)
}

#[inline(never)]
fn long_varlong(bytes: &[u8]) -> Result<(u64, &[u8]), Flaw> {
    let mut raw = 0;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        if i == 9 && byte > 0x01 {
            return Err(Flaw::Varint);
        }
        raw |= ((byte & 0x7f) as u64) << (7 * i);
        if byte < 0x80 {
            return Ok((raw, &bytes[i + 1..]));
        }
    }
    Err(Flaw::Short)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The encoded size of a varint or varlong: both encode a value alike.
pub(super) fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends a varint or varlong.
#[inline]
pub(super) fn push(out: &mut Vec<u8>, value: i64) {
    let mut raw = zigzag(value);
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_trip() {
        let values =
            [0, -1, 1, 63, -64, 64, 8191, -8193, i32::MAX as i64, i32::MIN as i64, i64::MAX, i64::MIN];
        for value in values {
            let mut out = Vec::new();
            push(&mut out, value);
            assert_eq!(out.len(), size(value), "{value}");
            assert_eq!(Cursor { left: &out }.varlong(), Ok(value));
            if let Ok(small) = i32::try_from(value) {
                assert_eq!(Cursor { left: &out }.varint(), Ok(small));
            }
        }
    }

    #[test]
    fn too_long_integers_are_refused() {
        assert_eq!(Cursor { left: &[0xff; 11] }.varlong(), Err(Flaw::Varint));
        assert_eq!(Cursor { left: &[0xff, 0xff, 0xff, 0xff, 0x1f] }.varint(), Err(Flaw::Varint));
        assert_eq!(Cursor { left: &[0xff, 0xff] }.varint(), Err(Flaw::Short));
        assert_eq!(Cursor { left: &[] }.varint(), Err(Flaw::Short));
    }
}

//! The batches of a rope.

use bytes::Bytes;

use super::header::BatchHeader;
use super::record::Records;
use super::{BatchError, HEADER_LEN};
use crate::codec::Reader;
use crate::codecs::{Codecs, Compression};
use crate::rope::Rope;

/// A batch and its bytes.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its header.
    pub header: BatchHeader,
    /// All of its bytes, with the header; they share the pieces of the rope.
    pub bytes: Rope,
}

impl Batch {
    /// The batch at the beginning of a rope.
    pub fn parse(rope: &Rope) -> Result<Batch, BatchError> {
        let mut batches = Batches::new(rope);
        let (wanted, left) = (HEADER_LEN, rope.len());
        let first = batches.next().unwrap_or(Err(BatchError::Truncated { wanted, left }))?;
        Ok(first)
    }

    /// Whether its CRC is right.
    pub fn check_crc(&self, codecs: &dyn Codecs) -> Result<(), BatchError> {
        self.header.check_crc(&self.bytes, codecs)
    }

    /// Its records, decompressed to at most `limit` bytes. Without compression they are shared if they lie in one
    /// piece.
    pub fn records(&self, codecs: &dyn Codecs, limit: usize) -> Result<Records, BatchError> {
        let raw = self.bytes.slice(HEADER_LEN, self.bytes.len() - HEADER_LEN).to_bytes();
        let bytes = match self.header.compression()? {
            Compression::None => raw,
            codec => Bytes::from(codecs.decompress(codec, &raw, limit)?),
        };
        Ok(Records { header: self.header, bytes })
    }
}

/// Iterates the headers of the batches of a rope, with the position of each. See [`Batches`] for how it ends.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    reader: Reader<'a>,
    failed: bool,
}

impl<'a> HeaderIter<'a> {
    /// The batches of `rope`.
    pub fn new(rope: &'a Rope) -> HeaderIter<'a> {
        HeaderIter { reader: Reader::new(rope), failed: false }
    }

    /// The bytes that are left: after the last whole batch, those of a partial one.
    pub fn trailing(&self) -> usize {
        self.reader.remaining()
    }

    /// The next header, if its batch is whole. The reader stays before it.
    fn peek(&mut self) -> Option<Result<BatchHeader, BatchError>> {
        if self.failed || self.reader.remaining() == 0 {
            return None;
        }
        let mut bytes = [0; HEADER_LEN];
        let len = HEADER_LEN.min(self.reader.remaining());
        self.reader.clone().copy_exact(&mut bytes[..len]).expect("so many are left");
        match BatchHeader::parse(&bytes[..len]) {
            Ok(header) if header.size_in_bytes() <= self.reader.remaining() => Some(Ok(header)),
            Ok(_) | Err(BatchError::Truncated { .. }) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

impl Iterator for HeaderIter<'_> {
    type Item = Result<(usize, BatchHeader), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.reader.position();
        let header = match self.peek()? {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        self.reader.skip(header.size_in_bytes()).expect("the batch is whole");
        Some(Ok((at, header)))
    }
}

/// Iterates the batches of a rope; ends after the first error, or before a partial batch.
///
/// A fetch may end in a part of a batch, which is no error: [`Batches::trailing`] says how many bytes it has.
#[derive(Clone, Debug)]
pub struct Batches<'a>(HeaderIter<'a>);

impl<'a> Batches<'a> {
    /// The batches of `rope`.
    pub fn new(rope: &'a Rope) -> Batches<'a> {
        Batches(HeaderIter::new(rope))
    }

    /// The bytes that are left: after the last whole batch, those of a partial one.
    pub fn trailing(&self) -> usize {
        self.0.trailing()
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Result<Batch, BatchError>> {
        let header = match self.0.peek()? {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        let bytes = self.0.reader.take_rope(header.size_in_bytes()).expect("the batch is whole");
        Some(Ok(Batch { header, bytes }))
    }
}

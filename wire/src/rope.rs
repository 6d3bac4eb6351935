//! A rope: bytes in a few shared pieces.
//!
//! Frames and record data travel as ropes, so that a response is a head, references to the record chunks of a log,
//! and a tail, and no record byte is copied between client, wire, log and fetch. The real world hands the pieces to
//! one vectored write.

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

/// Bytes in a few shared pieces. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Rope {
    pieces: SmallVec<[Bytes; 3]>,
    len: usize,
}

impl Rope {
    /// No bytes.
    pub fn new() -> Rope {
        Rope::default()
    }

    /// Appends a piece; an empty one is dropped.
    #[inline]
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push(piece);
        }
    }

    /// Appends the pieces of another rope.
    pub fn append(&mut self, other: Rope) {
        self.len += other.len;
        self.pieces.extend(other.pieces);
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order, none of them empty.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// `len` bytes from `start`, sharing the pieces. Panics when out of bounds, as slices do.
    pub fn slice(&self, start: usize, len: usize) -> Rope {
        assert!(start + len <= self.len, "slice {start}+{len} of a rope of {}", self.len);
        let mut out = Rope::new();
        let (mut skip, mut left) = (start, len);
        for piece in &self.pieces {
            if left == 0 {
                break;
            }
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let take = left.min(piece.len() - skip);
            out.push(piece.slice(skip..skip + take));
            left -= take;
            skip = 0;
        }
        out
    }

    /// Drops the first `len` bytes without touching the reference counts of the rest. Panics when out of bounds.
    pub fn advance(&mut self, mut len: usize) {
        assert!(len <= self.len, "advance {len} in a rope of {}", self.len);
        self.len -= len;
        while len > 0 {
            let first = &mut self.pieces[0];
            if len < first.len() {
                first.advance(len);
                return;
            }
            len -= first.len();
            self.pieces.remove(0);
        }
    }

    /// Copies `out.len()` bytes from `start`. Panics when out of bounds, as slices do.
    pub fn copy_to(&self, start: usize, out: &mut [u8]) {
        assert!(start + out.len() <= self.len, "copy {start}+{} of a rope of {}", out.len(), self.len);
        let (mut skip, mut done) = (start, 0);
        for piece in &self.pieces {
            if done == out.len() {
                break;
            }
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let take = (out.len() - done).min(piece.len() - skip);
            out[done..done + take].copy_from_slice(&piece[skip..skip + take]);
            done += take;
            skip = 0;
        }
    }

    /// All bytes in one piece: without a copy if they already are.
    pub fn to_bytes(&self) -> Bytes {
        match self.pieces.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut all = BytesMut::with_capacity(self.len);
                for piece in many {
                    all.extend_from_slice(piece);
                }
                all.freeze()
            }
        }
    }
}

impl From<Bytes> for Rope {
    #[inline]
    fn from(piece: Bytes) -> Rope {
        let mut rope = Rope::new();
        rope.push(piece);
        rope
    }
}

/// Ropes are equal when their bytes are, however these are cut into pieces.
impl PartialEq for Rope {
    fn eq(&self, other: &Rope) -> bool {
        self.len == other.len && self.to_bytes() == other.to_bytes()
    }
}

impl Eq for Rope {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_across_pieces() {
        let mut rope = Rope::new();
        for piece in ["ab", "", "cde", "f"] {
            rope.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!(rope.len(), 6);
        assert_eq!(rope.pieces().len(), 3);
        for start in 0..=6 {
            for len in 0..=6 - start {
                let want = &b"abcdef"[start..start + len];
                assert_eq!(rope.slice(start, len).to_bytes(), want);
                let mut out = alloc::vec![0; len];
                rope.copy_to(start, &mut out);
                assert_eq!(out, want);
            }
            let mut rest = rope.clone();
            rest.advance(start);
            assert_eq!((rest.len(), &rest.to_bytes()[..]), (6 - start, &b"abcdef"[start..]));
        }
    }
}

//! The bytes of all disks, in chunks that replicas share.
//!
//! A file is a list of extents, each a part of a chunk. Appended bytes are packed into the file's open chunk, a copy that
//! the medium imposes. Bytes that already lie in a chunk (a follower appends what a leader's disk gave to a fetch) become
//! references to it, and references to adjacent bytes merge. So memory stays in proportion to what was produced, not to
//! what was replicated. Reads give out slices of the chunks.
//!
//! An open chunk is a list of pieces; once it is full these are laid together, so that a read of it is one slice. The old
//! pieces stay known for a while, for followers that are about to append slices of them.

use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use wire::Rope;

/// The size of a full chunk, in bytes.
pub const CHUNK: usize = 64 * 1024;

/// Pieces shorter than this are packed without asking whether they lie in a chunk already.
const WORTH_SHARING: usize = 64;

/// For how many chunks that were laid together the old pieces stay known.
const REMEMBERED: usize = 64;

/// A chunk's place in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkId(u32);

/// A part of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which chunk.
    pub chunk: ChunkId,
    /// The first byte.
    pub from: u32,
    /// How many bytes.
    pub len: u32,
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    /// The bytes, each piece with its first byte's place.
    pieces: Vec<(u32, Bytes)>,
    /// Appended since the last piece was made.
    tail: BytesMut,
    tail_from: u32,
    /// How many extents refer to it; one more while a file appends to it.
    refs: u32,
}

impl Chunk {
    fn len(&self) -> usize {
        self.tail_from as usize + self.tail.len()
    }
}

/// Memory in which bytes of a chunk lie. Something that the store holds keeps it from being used again.
#[derive(Clone, Debug)]
struct Region {
    chunk: ChunkId,
    from: u32,
    len: u32,
}

/// All chunks of a world.
#[derive(Clone, Debug, Default)]
pub struct ChunkStore {
    chunks: Vec<Chunk>,
    free: Vec<u32>,
    by_address: BTreeMap<usize, Region>,
    /// Pieces of chunks that were laid together since.
    remembered: VecDeque<(ChunkId, Vec<(u32, Bytes)>)>,
    zeros: Option<ChunkId>,
}

impl ChunkStore {
    /// A new chunk to append to. It stays until [`ChunkStore::close`] and as long as an extent refers to it.
    pub fn open(&mut self) -> ChunkId {
        let chunk = Chunk { refs: 1, ..Chunk::default() };
        match self.free.pop() {
            Some(at) => {
                self.chunks[at as usize] = chunk;
                ChunkId(at)
            }
            None => {
                self.chunks.push(chunk);
                ChunkId(self.chunks.len() as u32 - 1)
            }
        }
    }

    /// How many more bytes fit a chunk.
    pub fn room(&self, chunk: ChunkId) -> usize {
        CHUNK.saturating_sub(self.chunks[chunk.0 as usize].len())
    }

    /// Copies bytes into an open chunk with room for them. The caller counts the reference.
    pub fn pack(&mut self, id: ChunkId, bytes: &[u8]) -> Extent {
        let chunk = &mut self.chunks[id.0 as usize];
        let from = chunk.len();
        assert!(from + bytes.len() <= CHUNK, "no room in the chunk");
        if chunk.tail.capacity() - chunk.tail.len() < bytes.len() {
            self.freeze(id);
            let chunk = &mut self.chunks[id.0 as usize];
            // Small files stay small: the memory set aside doubles with what is there.
            let size = bytes.len().max(from.clamp(256, CHUNK)).min(CHUNK - from);
            chunk.tail = BytesMut::with_capacity(size);
        }
        let chunk = &mut self.chunks[id.0 as usize];
        chunk.tail.extend_from_slice(bytes);
        Extent { chunk: id, from: from as u32, len: bytes.len() as u32 }
    }

    /// Makes a piece of what was appended since the last one.
    fn freeze(&mut self, id: ChunkId) {
        let chunk = &mut self.chunks[id.0 as usize];
        if chunk.tail.is_empty() {
            return;
        }
        let piece = chunk.tail.split().freeze();
        let from = chunk.tail_from;
        chunk.tail_from += piece.len() as u32;
        let region = Region { chunk: id, from, len: piece.len() as u32 };
        match self.by_address.range_mut(..piece.as_ptr() as usize).next_back() {
            // The same memory, filled further.
            Some((at, before))
                if before.chunk == id
                    && at + before.len as usize == piece.as_ptr() as usize
                    && before.from + before.len == from =>
            {
                before.len += region.len;
            }
            _ => {
                self.by_address.insert(piece.as_ptr() as usize, region);
            }
        }
        chunk.pieces.push((from, piece));
    }

    /// Nothing more is appended to a chunk: its pieces are laid together.
    pub fn close(&mut self, id: ChunkId) {
        self.freeze(id);
        let chunk = &mut self.chunks[id.0 as usize];
        chunk.tail = BytesMut::new();
        if chunk.refs > 1 && chunk.pieces.len() > 1 {
            let mut whole = Vec::with_capacity(chunk.len());
            for (_, piece) in &chunk.pieces {
                whole.extend_from_slice(piece);
            }
            let region = Region { chunk: id, from: 0, len: whole.len() as u32 };
            let whole = Bytes::from(whole);
            self.by_address.insert(whole.as_ptr() as usize, region);
            let old = std::mem::replace(&mut chunk.pieces, vec![(0, whole)]);
            self.remembered.push_back((id, old));
            if self.remembered.len() > REMEMBERED {
                let (_, oldest) = self.remembered.pop_front().expect("there are more than none");
                self.forget(&oldest);
            }
        }
        self.release(id);
    }

    /// Takes bytes as a chunk of their own, without a copy. The caller counts the reference.
    pub fn adopt(&mut self, bytes: Bytes) -> Extent {
        let id = self.open();
        let len = bytes.len() as u32;
        let chunk = &mut self.chunks[id.0 as usize];
        chunk.refs = 0;
        chunk.tail_from = len;
        chunk.pieces.push((0, bytes));
        Extent { chunk: id, from: 0, len }
    }

    /// A chunk of zeros, for what a power loss left unwritten. The caller counts the reference.
    pub fn zeros(&mut self, len: u32) -> Extent {
        let id = match self.zeros {
            Some(id) => id,
            None => {
                let id = self.adopt(Bytes::from_static(&[0; CHUNK])).chunk;
                self.retain(id);
                self.zeros = Some(id);
                id
            }
        };
        Extent { chunk: id, from: 0, len }
    }

    /// Where bytes lie, if they already are a part of a chunk.
    pub fn find(&self, bytes: &Bytes) -> Option<Extent> {
        if bytes.len() < WORTH_SHARING {
            return None;
        }
        let address = bytes.as_ptr() as usize;
        let (at, region) = self.by_address.range(..=address).next_back()?;
        if address + bytes.len() > at + region.len as usize {
            return None;
        }
        let from = region.from + (address - at) as u32;
        Some(Extent { chunk: region.chunk, from, len: bytes.len() as u32 })
    }

    /// One more extent refers to a chunk.
    pub fn retain(&mut self, id: ChunkId) {
        self.chunks[id.0 as usize].refs += 1;
    }

    /// One extent fewer refers to a chunk.
    pub fn release(&mut self, id: ChunkId) {
        let chunk = &mut self.chunks[id.0 as usize];
        assert!(chunk.refs > 0, "a chunk is released once for each reference");
        chunk.refs -= 1;
        if chunk.refs > 0 {
            return;
        }
        let chunk = std::mem::take(chunk);
        self.forget(&chunk.pieces);
        if let Some(place) = self.remembered.iter().position(|(of, _)| *of == id) {
            let (_, old) = self.remembered.remove(place).expect("it was found there");
            self.forget(&old);
        }
        self.free.push(id.0);
    }

    fn forget(&mut self, pieces: &[(u32, Bytes)]) {
        for (_, piece) in pieces {
            self.by_address.remove(&(piece.as_ptr() as usize));
        }
    }

    /// Appends the bytes of an extent to `out`, sharing them.
    pub fn read(&mut self, extent: Extent, out: &mut Rope) {
        let chunk = &self.chunks[extent.chunk.0 as usize];
        if extent.from + extent.len > chunk.tail_from {
            self.freeze(extent.chunk);
        }
        let chunk = &self.chunks[extent.chunk.0 as usize];
        let (mut from, end) = (extent.from, extent.from + extent.len);
        let mut at = chunk.pieces.partition_point(|(start, _)| *start <= from) - 1;
        while from < end {
            let (start, piece) = &chunk.pieces[at];
            let until = end.min(start + piece.len() as u32);
            out.push(piece.slice((from - start) as usize..(until - start) as usize));
            from = until;
            at += 1;
        }
    }

    /// Copies the bytes of an extent.
    pub fn copy(&self, extent: Extent, out: &mut [u8]) {
        assert_eq!(out.len(), extent.len as usize);
        let chunk = &self.chunks[extent.chunk.0 as usize];
        let (mut from, end) = (extent.from, extent.from + extent.len);
        let mut done = 0;
        let mut at = chunk.pieces.partition_point(|(start, _)| *start <= from).saturating_sub(1);
        while from < end {
            let (start, bytes) = match chunk.pieces.get(at) {
                Some((start, piece)) if from < chunk.tail_from => (*start, &piece[..]),
                _ => (chunk.tail_from, &chunk.tail[..]),
            };
            let until = end.min(start + bytes.len() as u32);
            let part = &bytes[(from - start) as usize..(until - start) as usize];
            out[done..done + part.len()].copy_from_slice(part);
            done += part.len();
            from = until;
            at += 1;
        }
    }

    /// Bytes held in chunks, for memory accounting.
    pub fn bytes_held(&self) -> usize {
        self.chunks.iter().map(Chunk::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope_of(store: &mut ChunkStore, extent: Extent) -> Rope {
        let mut rope = Rope::new();
        store.read(extent, &mut rope);
        rope
    }

    #[test]
    fn packed_bytes_are_found_again_and_read_without_a_copy() {
        let mut store = ChunkStore::default();
        let id = store.open();
        let mut extents = Vec::new();
        for i in 0..100u8 {
            let extent = store.pack(id, &[i; 300]);
            store.retain(id);
            let read = rope_of(&mut store, extent);
            assert_eq!(read.to_bytes(), vec![i; 300]);
            assert_eq!(store.find(&read.to_bytes()), Some(extent));
            extents.push((extent, read));
        }
        let all = Extent { chunk: id, from: 0, len: 30_000 };
        assert!(rope_of(&mut store, all).pieces().len() > 1);
        store.close(id);
        assert_eq!(rope_of(&mut store, all).pieces().len(), 1);
        for (extent, old_slice) in &extents {
            assert_eq!(store.find(&old_slice.to_bytes()), Some(*extent), "old pieces stay known");
            let new_slice = rope_of(&mut store, *extent);
            assert_eq!(store.find(&new_slice.to_bytes()), Some(*extent));
            assert_eq!(new_slice, *old_slice);
        }
        assert_eq!(store.find(&Bytes::from(vec![0; 300])), None);
        for (extent, _) in extents {
            store.release(extent.chunk);
        }
        assert!(store.by_address.is_empty() && store.remembered.is_empty());
        assert_eq!((store.bytes_held(), store.free.len()), (0, 1));
    }

    #[test]
    fn copies_see_the_unfrozen_tail() {
        let mut store = ChunkStore::default();
        let id = store.open();
        let whole: Vec<u8> = (0..5_000u32).map(|i| (i / 7) as u8).collect();
        for part in whole.chunks(700) {
            store.pack(id, part);
            if part[0] % 2 == 0 {
                rope_of(&mut store, Extent { chunk: id, from: 0, len: 10 });
            }
        }
        for (from, len) in [(0, 5_000), (699, 2), (4_999, 1), (1_234, 3_000)] {
            let mut out = vec![0; len];
            store.copy(Extent { chunk: id, from: from as u32, len: len as u32 }, &mut out);
            assert_eq!(out, whole[from..from + len]);
        }
    }

    #[test]
    fn a_clone_goes_its_own_way() {
        let mut store = ChunkStore::default();
        let id = store.open();
        store.pack(id, &[1; 100]);
        let mut twin = store.clone();
        store.pack(id, &[2; 100]);
        twin.pack(id, &[3; 100]);
        let second = Extent { chunk: id, from: 100, len: 100 };
        assert_eq!(rope_of(&mut store, second).to_bytes(), vec![2; 100]);
        assert_eq!(rope_of(&mut twin, second).to_bytes(), vec![3; 100]);
    }
}

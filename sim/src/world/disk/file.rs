//! The content of one file: what the page cache holds, and what of it is durable.

use bytes::Bytes;
use wire::Rope;

use super::super::chunks::{ChunkId, ChunkStore, Extent};
use super::super::time::SimTime;
use super::fault::Rot;

/// A medium writes sectors of this size whole, or not at all.
pub const SECTOR: u64 = 512;

/// An extent and the place in the file behind it.
#[derive(Clone, Copy, Debug)]
struct Placed {
    end: u64,
    extent: Extent,
}

/// The content of a file: extents of chunks, in order.
#[derive(Clone, Debug, Default)]
struct Content {
    placed: Vec<Placed>,
}

impl Content {
    fn len(&self) -> u64 {
        self.placed.last().map_or(0, |p| p.end)
    }

    fn push(&mut self, chunks: &mut ChunkStore, extent: Extent) {
        let end = self.len() + u64::from(extent.len);
        if let Some(last) = self.placed.last_mut()
            && last.extent.chunk == extent.chunk
            && last.extent.from + last.extent.len == extent.from
        {
            last.extent.len += extent.len;
            last.end = end;
            return;
        }
        chunks.retain(extent.chunk);
        self.placed.push(Placed { end, extent });
    }

    fn truncate(&mut self, chunks: &mut ChunkStore, len: u64) {
        while let Some(last) = self.placed.last_mut() {
            let start = last.end - u64::from(last.extent.len);
            if last.end <= len {
                return;
            }
            if start < len {
                last.extent.len = (len - start) as u32;
                last.end = len;
                return;
            }
            chunks.release(last.extent.chunk);
            self.placed.pop();
        }
    }

    /// The extents of a range that lies within the file.
    #[inline]
    fn each(&self, from: u64, len: u64, mut take: impl FnMut(Extent)) {
        let (mut at, end) = (from, from + len);
        if len == 0 {
            return;
        }
        let mut i = match self.placed.last() {
            // Most reads are of the tail.
            Some(last) if last.end - u64::from(last.extent.len) <= from => self.placed.len() - 1,
            _ => self.placed.partition_point(|p| p.end <= from),
        };
        while at < end {
            let Placed { end: until, extent } = self.placed[i];
            let skip = (at - (until - u64::from(extent.len))) as u32;
            let len = (end.min(until) - at) as u32;
            take(Extent { from: extent.from + skip, len, ..extent });
            at += u64::from(len);
            i += 1;
        }
    }

    fn prefix(&self, chunks: &mut ChunkStore, len: u64) -> Content {
        let mut prefix = Content::default();
        self.each(0, len, |extent| prefix.push(chunks, extent));
        prefix
    }

    fn clear(&mut self, chunks: &mut ChunkStore) {
        for placed in self.placed.drain(..) {
            chunks.release(placed.extent.chunk);
        }
    }
}

/// A sync that is under way.
#[derive(Clone, Copy, Debug)]
struct Flushing {
    ticket: u32,
    /// How much of the present content it covers.
    covers: u64,
    /// Whether the file was cut since: then the medium may still have what was cut off.
    cut_since: bool,
}

/// What a power loss leaves of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// What was durable.
    Durable,
    /// That, all truncations, and so many of the bytes at risk.
    AndMore(u64),
}

/// One file.
#[derive(Clone, Debug, Default)]
pub struct File {
    content: Content,
    /// The durable content: so many bytes of `content`, unless it differs.
    durable: u64,
    /// The durable content, if it is no beginning of `content`: a truncation that is not durable yet.
    differs: Option<Content>,
    open_chunk: Option<ChunkId>,
    flushing: Vec<Flushing>,
    /// When the kernel writes back what is dirty.
    pub writeback_at: Option<SimTime>,
    /// Where the medium differs from the page cache: bits that flipped in one of the two, by their byte's place.
    flips: Vec<(u64, u8)>,
}

impl File {
    /// A file whose whole content is durable as soon as its name is.
    pub fn with(chunks: &mut ChunkStore, content: Bytes) -> File {
        let mut file = File::default();
        if !content.is_empty() {
            let extent = chunks.adopt(content);
            file.content.push(chunks, extent);
        }
        file.durable = file.content.len();
        file
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.content.len()
    }

    /// Whether anything is not durable.
    pub fn is_dirty(&self) -> bool {
        self.durable < self.len() || self.differs.is_some()
    }

    /// Appends bytes: a reference, if they already lie in a chunk; else a copy into the file's own.
    pub fn append(&mut self, chunks: &mut ChunkStore, bytes: &Bytes) {
        if let Some(extent) = chunks.find(bytes) {
            self.content.push(chunks, extent);
            return;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let chunk = *self.open_chunk.get_or_insert_with(|| chunks.open());
            let take = chunks.room(chunk).min(rest.len());
            if take > 0 {
                let extent = chunks.pack(chunk, &rest[..take]);
                self.content.push(chunks, extent);
                rest = &rest[take..];
            }
            if chunks.room(chunk) == 0 {
                chunks.close(chunk);
                self.open_chunk = None;
            }
        }
    }

    /// Cuts the file to `len` bytes; a longer `len` changes nothing.
    pub fn truncate(&mut self, chunks: &mut ChunkStore, len: u64) {
        if len >= self.len() {
            return;
        }
        if len < self.durable && self.differs.is_none() {
            self.differs = Some(self.content.prefix(chunks, self.durable));
        }
        self.durable = self.durable.min(len);
        for flushing in &mut self.flushing {
            flushing.covers = flushing.covers.min(len);
            flushing.cut_since = true;
        }
        self.flips.retain(|(offset, _)| *offset < len);
        self.content.truncate(chunks, len);
    }

    /// Appends a range that lies within the file to `out`, sharing the chunks.
    pub fn read(&self, chunks: &mut ChunkStore, from: u64, len: u64, out: &mut Rope) {
        self.content.each(from, len, |extent| chunks.read(extent, out));
    }

    /// Copies a range that lies within the file.
    pub fn copy(&self, chunks: &ChunkStore, from: u64, out: &mut [u8]) {
        let mut done = 0;
        self.content.each(from, out.len() as u64, |extent| {
            let next = done + extent.len as usize;
            chunks.copy(extent, &mut out[done..next]);
            done = next;
        });
    }

    /// A sync begins: what is written now will be durable when it ends.
    pub fn begin_flush(&mut self, ticket: u32) {
        self.flushing.push(Flushing { ticket, covers: self.len(), cut_since: false });
    }

    /// A sync ends.
    pub fn end_flush(&mut self, chunks: &mut ChunkStore, ticket: u32, done: bool) {
        let Some(place) = self.flushing.iter().position(|f| f.ticket == ticket) else { return };
        let flushing = self.flushing.remove(place);
        if !done {
            return;
        }
        if !flushing.cut_since {
            self.drop_old(chunks);
        }
        self.durable = self.durable.max(flushing.covers);
    }

    /// The kernel wrote back all that was dirty.
    pub fn write_back(&mut self, chunks: &mut ChunkStore) {
        self.writeback_at = None;
        self.drop_old(chunks);
        self.durable = self.len();
    }

    fn drop_old(&mut self, chunks: &mut ChunkStore) {
        if let Some(mut old) = self.differs.take() {
            old.clear(chunks);
        }
    }

    /// Flips the bits of a byte that lies within the file.
    pub fn flip(&mut self, chunks: &mut ChunkStore, offset: u64, mask: u8, rot: Rot) {
        if rot != Rot::Medium {
            let mut byte = [0];
            self.copy(chunks, offset, &mut byte);
            let flipped = Bytes::from(vec![byte[0] ^ mask]);
            self.overwrite(chunks, offset, 1, |chunks| chunks.adopt(flipped.clone()));
        }
        // A page that is dirty is written with what flipped in it.
        let on_medium = offset < self.durable;
        if (rot == Rot::Medium || rot == Rot::Cache) && on_medium {
            self.flips.push((offset, mask));
        }
    }

    /// After a power loss the file is what reached the medium.
    pub fn after_power_loss(&mut self, chunks: &mut ChunkStore, survives: Survives) {
        match (survives, self.differs.take()) {
            (Survives::Durable, Some(old)) => {
                self.content.clear(chunks);
                self.content = old;
            }
            (Survives::Durable, None) => self.content.truncate(chunks, self.durable),
            (Survives::AndMore(more), old) => {
                if let Some(mut old) = old {
                    old.clear(chunks);
                }
                self.content.truncate(chunks, self.durable + more);
            }
        }
        for (offset, mask) in std::mem::take(&mut self.flips) {
            if offset < self.len() {
                self.flip(chunks, offset, mask, Rot::Both);
            }
        }
        self.durable = self.len();
        self.flushing.clear();
        self.writeback_at = None;
    }

    /// How many of its bytes the medium has, too.
    pub fn durable_len(&self) -> u64 {
        self.durable
    }

    /// How many bytes a power loss may take.
    pub fn at_risk(&self) -> u64 {
        self.len() - self.durable
    }

    /// Whether the medium still has bytes that were cut off.
    pub fn has_undead_tail(&self) -> bool {
        self.differs.is_some()
    }

    /// Overwrites a range that lies within the file, in the page cache and on the medium.
    pub fn overwrite(
        &mut self,
        chunks: &mut ChunkStore,
        from: u64,
        len: u64,
        with: impl Fn(&mut ChunkStore) -> Extent,
    ) {
        let mut new = self.content.prefix(chunks, from);
        let mut left = len;
        while left > 0 {
            let mut extent = with(chunks);
            extent.len = (u64::from(extent.len).min(left)) as u32;
            left -= u64::from(extent.len);
            new.push(chunks, extent);
        }
        let rest = self.len() - from - len;
        self.content.each(from + len, rest, |extent| new.push(chunks, extent));
        self.content.clear(chunks);
        self.content = new;
    }

    /// Gives its chunks back.
    pub fn free(mut self, chunks: &mut ChunkStore) {
        self.content.clear(chunks);
        self.drop_old(chunks);
        if let Some(chunk) = self.open_chunk.take() {
            chunks.close(chunk);
        }
    }
}

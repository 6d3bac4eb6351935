//! The last offset of each key in the dirty part of a log: Kafka's `SkimpyOffsetMap`.
//!
//! Keys are kept as hashes of 128 bits, so that an entry has a fixed size however long its key is; two keys of one hash
//! would count as one, as in Kafka. The map never holds more than so many keys: the cleaner stops before it would.

use core::hash::{BuildHasherDefault, Hasher};

/// The hash is part of the key: a part of it is enough.
#[derive(Clone, Copy, Debug, Default)]
struct Low(u64);

impl Hasher for Low {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are words");
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(32) ^ word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The last offset of each key.
#[derive(Clone, Debug, Default)]
pub(super) struct OffsetMap {
    /// Looked up, never iterated.
    offsets: hashbrown::HashMap<(u64, u64), i64, BuildHasherDefault<Low>>,
}

impl OffsetMap {
    /// The bytes of an entry, as Kafka counts them against `log.cleaner.dedupe.buffer.size`.
    pub const ENTRY: u64 = 24;

    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn put(&mut self, key: &[u8], offset: i64) {
        self.offsets.insert(hash(key), offset);
    }

    /// The last offset of a key; -1 for none.
    pub fn last_offset(&self, key: &[u8]) -> i64 {
        self.offsets.get(&hash(key)).copied().unwrap_or(-1)
    }
}

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

fn finish(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

/// MurmurHash3 x64-128 with the seed 0.
fn hash(key: &[u8]) -> (u64, u64) {
    let (mut h1, mut h2) = (0u64, 0u64);
    let k1_of = |word: u64| word.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let k2_of = |word: u64| word.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let mut blocks = key.chunks_exact(16);
    for block in &mut blocks {
        let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        h1 = (h1 ^ k1_of(word(0))).rotate_left(27).wrapping_add(h2);
        h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ k2_of(word(8))).rotate_left(31).wrapping_add(h1);
        h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let mut tail = [0; 16];
    tail[..blocks.remainder().len()].copy_from_slice(blocks.remainder());
    let word = |at: usize| u64::from_le_bytes(tail[at..at + 8].try_into().expect("eight bytes"));
    h2 ^= k2_of(word(8));
    h1 ^= k1_of(word(0));
    h1 ^= key.len() as u64;
    h2 ^= key.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (h1, h2) = (finish(h1), finish(h2));
    h1 = h1.wrapping_add(h2);
    (h1, h2.wrapping_add(h1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_murmur3() {
        assert_eq!(hash(b""), (0, 0));
        assert_eq!(hash(b"hello"), (0xcbd8_a7b3_41bd_9b02, 0x5b1e_906a_48ae_1d19));
        let long = b"The quick brown fox jumps over the lazy dog";
        assert_eq!(hash(long), (0xe34b_bc7b_bc07_1b6c, 0x7a43_3ca9_c49a_9347));
    }

    #[test]
    fn the_last_offset_of_a_key() {
        let mut map = OffsetMap::default();
        map.put(b"a", 1);
        map.put(b"b", 2);
        map.put(b"a", 3);
        assert_eq!((map.last_offset(b"a"), map.last_offset(b"b"), map.last_offset(b"c")), (3, 2, -1));
        assert_eq!(map.len(), 2);
    }
}

//! The last offset of each key in the dirty part of a log: Kafka's `SkimpyOffsetMap`.
//!
//! Keys are kept as hashes of 128 bits, so that an entry has a fixed size however long its key is; two keys of one hash
//! would count as one, as in Kafka. The map has its whole room from the beginning, never more than
//! `log.cleaner.dedupe.buffer.size`, and never grows: growing would take twice the memory for a while, and a step of the
//! cleaner in which everything moves. Where the dirty part is small, so is the room.

use alloc::vec;
use alloc::vec::Vec;

/// The hash of a key, and its last offset plus one; zero where there is no key.
type Slot = [u64; 3];

/// The last offset of each key.
#[derive(Clone, Debug, Default)]
pub(super) struct OffsetMap {
    /// Each key is in the slot that its hash names, or in one of those that follow without a gap.
    slots: Vec<Slot>,
    len: usize,
    max_keys: usize,
}

impl OffsetMap {
    /// The bytes of an entry, as in Kafka.
    pub const ENTRY: u64 = size_of::<Slot>() as u64;

    /// A map in a buffer of so many bytes, of which a share (in millionths) may be filled. There are at most `most`
    /// keys: where that takes less room, it has less.
    pub fn new(buffer: u64, fill: u64, most: u64) -> OffsetMap {
        let in_buffer = usize::try_from(buffer / OffsetMap::ENTRY).unwrap_or(usize::MAX).max(1);
        let max_keys = (in_buffer as u128 * u128::from(fill.min(1_000_000)) / 1_000_000) as usize;
        // Two thirds full at most: probes are short.
        let enough = usize::try_from(most).unwrap_or(usize::MAX).saturating_mul(3) / 2;
        let slots = vec![[0; 3]; in_buffer.min(enough.saturating_add(1))];
        OffsetMap { max_keys: max_keys.clamp(1, slots.len()), slots, len: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is room for so many more keys.
    pub fn has_room(&self, keys: usize) -> bool {
        keys <= self.max_keys - self.len
    }

    /// Makes room in an empty map for so many keys, whatever the buffer is.
    pub fn make_room(&mut self, keys: usize) {
        assert!(self.is_empty(), "nothing moves");
        if self.max_keys < keys {
            *self = OffsetMap { slots: vec![[0; 3]; keys], len: 0, max_keys: keys };
        }
    }

    pub fn put(&mut self, key: &[u8], offset: i64) {
        let (h1, h2) = hash(key);
        let at = self.find(h1, h2).expect("the cleaner stops before the map is full");
        let slot = &mut self.slots[at];
        self.len += usize::from(slot[2] == 0);
        *slot = [h1, h2, (offset + 1) as u64];
    }

    /// The last offset of a key; -1 for none.
    pub fn last_offset(&self, key: &[u8]) -> i64 {
        let (h1, h2) = hash(key);
        self.find(h1, h2).map_or(-1, |at| self.slots[at][2] as i64 - 1)
    }

    /// The slot of a key, or the free one where it would be; none if it is not here and all are taken.
    fn find(&self, h1: u64, h2: u64) -> Option<usize> {
        let count = self.slots.len();
        let first = ((u128::from(h1) * count as u128) >> 64) as usize;
        let free_or_its_own = |at: &usize| {
            let slot = self.slots[*at];
            slot[2] == 0 || (slot[0], slot[1]) == (h1, h2)
        };
        (first..count).chain(0..first).find(free_or_its_own)
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
        let mut map = OffsetMap::new(1 << 20, 900_000, 100);
        map.put(b"a", 1);
        map.put(b"b", 2);
        map.put(b"a", 3);
        assert_eq!((map.last_offset(b"a"), map.last_offset(b"b"), map.last_offset(b"c")), (3, 2, -1));
        assert_eq!(map.len, 2);
    }

    #[test]
    fn it_holds_what_the_buffer_may_hold_and_no_more() {
        // A buffer, how much of it is filled, how many keys there can be: keys that it takes, its bytes.
        let cases = [
            (24_000, 900_000, u64::MAX, 900, 24_000),
            (24_000, 1_000_000, u64::MAX, 1_000, 24_000),
            (24_000, 900_000, 10, 16, 16 * 24),
            (0, 900_000, 10, 1, 24),
            (24_000, 0, 10, 1, 16 * 24),
        ];
        for (buffer, fill, most, keys, bytes) in cases {
            let mut map = OffsetMap::new(buffer, fill, most);
            assert_eq!(map.slots.len() * 24, bytes, "{buffer} {fill} {most}");
            let mut n = 0u64;
            while map.has_room(1) {
                map.put(&n.to_le_bytes(), n as i64);
                n += 1;
            }
            assert_eq!(n, keys, "{buffer} {fill} {most}");
            let found = |k: u64| map.last_offset(&k.to_le_bytes());
            assert!((0..n).all(|k| found(k) == k as i64) && (n..2 * n).all(|k| found(k) == -1));
        }
    }

    #[test]
    fn one_batch_always_has_room() {
        let mut map = OffsetMap::new(48, 900_000, u64::MAX);
        assert!(map.has_room(1) && !map.has_room(2));
        map.make_room(50);
        (0..50u8).for_each(|k| map.put(&[k], i64::from(k)));
        assert!(!map.has_room(1) && (0..50u8).all(|k| map.last_offset(&[k]) == i64::from(k)));
        assert_eq!(map.last_offset(b"none"), -1);
    }
}

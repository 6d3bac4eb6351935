//! The digest of a run: every frame, disk operation, timer and process verb, in order, header and bytes.
//!
//! It is taken at the node boundary with streaming xxh3; the running value is kept every 4,096 frames, so that the first
//! difference between two runs is found by bisection; the end is one blake3 over all of it, shown as `b3…`. How a frame
//! or an append is cut into pieces does not matter.
//!
//! With tracing on, one [`Item`] is kept for each thing digested, so that two traces name the first event that differs.

use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

use super::time::SimTime;

/// After how many sent frames the running value is kept.
pub const FRAMES_A_CHECKPOINT: u64 = 4_096;

/// What was digested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ItemKind {
    FrameSent,
    FrameTaken,
    Connect,
    Accepted,
    Connected,
    ConnectFailed,
    Oversized,
    Sent,
    Close,
    Closed,
    Timer,
    Verb,
    Stdin,
    Stdout,
    Exit,
    DiskOpen,
    DiskClose,
    DiskMkdir,
    DiskList,
    DiskRename,
    DiskRemove,
    DiskLen,
    DiskRead,
    DiskAppend,
    DiskTruncate,
    DiskReplace,
    DiskSync,
    DiskSyncDir,
    DiskSynced,
}

/// One thing that was digested. `a` is its connection, file or ticket, `len` the number of its bytes, `hash` their xxh3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "described as a whole")]
pub struct Item {
    pub number: u64,
    pub at: SimTime,
    pub kind: ItemKind,
    pub proc: u32,
    pub a: u64,
    pub len: u64,
    pub hash: u64,
}

impl Item {
    /// One line, with the process's name.
    pub fn line(&self, name: &str) -> String {
        let Item { number, at, kind, a, len, hash, .. } = self;
        format!("#{number} {}ns {name} {kind:?} {a} ({len} bytes, {hash:016x})", at.0)
    }
}

/// The running value after so many frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Frames sent.
    pub frames: u64,
    /// The time of the frame.
    pub at: SimTime,
    /// The running value.
    pub value: u128,
}

/// What a record keeps of a run's digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestTrail {
    /// The running values, in order.
    pub checkpoints: Vec<Checkpoint>,
    /// The whole run: `b3` and 32 hexadecimal digits.
    pub end: String,
}

/// Where two runs part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parting {
    /// Frames after which both still agreed.
    pub same_until_frame: u64,
    /// The time of that frame.
    pub same_until: SimTime,
    /// Frames of the first running value that differs; absent when they part after the last one that both have.
    pub differs_by_frame: Option<u64>,
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the same until frame {} ({})", self.same_until_frame, self.same_until)?;
        match self.differs_by_frame {
            Some(frame) => write!(f, ", different by frame {frame}"),
            None => f.write_str(", different after it"),
        }
    }
}

impl DigestTrail {
    /// Where two runs part: by bisection, since a running value that differs makes all later ones differ.
    pub fn parting(&self, other: &DigestTrail) -> Option<Parting> {
        if self == other {
            return None;
        }
        let both = self.checkpoints.len().min(other.checkpoints.len());
        let (mut same, mut differs) = (0, both);
        while same < differs {
            let middle = (same + differs) / 2;
            if self.checkpoints[middle] == other.checkpoints[middle] {
                same = middle + 1;
            } else {
                differs = middle;
            }
        }
        let last_same = same.checked_sub(1).map(|i| self.checkpoints[i]);
        Some(Parting {
            same_until_frame: last_same.map_or(0, |c| c.frames),
            same_until: last_same.map_or(SimTime::ZERO, |c| c.at),
            differs_by_frame: self.checkpoints[..both].get(same).map(|c| c.frames),
        })
    }
}

/// The first item in which two traces differ: its place, and the items of both, if they have one there.
pub fn first_difference(a: &[Item], b: &[Item]) -> Option<(usize, Option<Item>, Option<Item>)> {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    if same == a.len() && same == b.len() {
        return None;
    }
    Some((same, a.get(same).copied(), b.get(same).copied()))
}

/// The digest as it runs.
#[derive(Clone)]
pub struct Digest {
    hash: Xxh3,
    /// What comes next: most pieces are small, and cheaper to hash together.
    gathered: Vec<u8>,
    items: u64,
    frames: u64,
    checkpoints: Vec<Checkpoint>,
    trace: Option<Vec<Item>>,
    recent: Option<VecDeque<Item>>,
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({} items, {:032x})", self.items, self.value())
    }
}

impl Default for Digest {
    fn default() -> Digest {
        let gathered = Vec::with_capacity(GATHERED);
        Digest {
            hash: Xxh3::new(),
            gathered,
            items: 0,
            frames: 0,
            checkpoints: Vec::new(),
            trace: None,
            recent: None,
        }
    }
}

/// How many bytes are gathered before they are hashed.
const GATHERED: usize = 4_096;

/// Pieces from this size on are hashed where they lie.
const LARGE: usize = 1_024;

/// How many items are kept for the message that a livelock ends with.
const RECENT: usize = 10;

impl Digest {
    /// Digests something that has no bytes.
    #[inline]
    pub fn item(&mut self, kind: ItemKind, at: SimTime, proc: u32, a: u64, len: u64) {
        self.header(kind, at, proc, a, len);
        if self.listened_to() {
            self.note(kind, at, proc, a, len, &[]);
        }
    }

    /// Digests something with its bytes.
    #[inline]
    pub fn bytes(&mut self, kind: ItemKind, at: SimTime, proc: u32, a: u64, pieces: &[Bytes]) {
        let len = pieces.iter().map(|p| p.len() as u64).sum();
        self.header(kind, at, proc, a, len);
        for piece in pieces {
            self.gather(piece);
        }
        if self.listened_to() {
            self.note(kind, at, proc, a, len, pieces);
        }
        if kind == ItemKind::FrameSent {
            self.frames += 1;
            if self.frames.is_multiple_of(FRAMES_A_CHECKPOINT) {
                let value = self.value();
                self.checkpoints.push(Checkpoint { frames: self.frames, at, value });
            }
        }
    }

    /// Digests something with a text: a path, a verb.
    pub fn text(&mut self, kind: ItemKind, at: SimTime, proc: u32, a: u64, text: &str) {
        self.header(kind, at, proc, a, text.len() as u64);
        self.gather(text.as_bytes());
        if self.listened_to() {
            self.note(kind, at, proc, a, text.len() as u64, &[Bytes::copy_from_slice(text.as_bytes())]);
        }
    }

    #[inline]
    fn header(&mut self, kind: ItemKind, at: SimTime, proc: u32, a: u64, len: u64) {
        self.items += 1;
        let mut header = [0; 32];
        header[..8].copy_from_slice(&((u64::from(proc) << 8) | kind as u64).to_le_bytes());
        header[8..16].copy_from_slice(&at.0.to_le_bytes());
        header[16..24].copy_from_slice(&a.to_le_bytes());
        header[24..].copy_from_slice(&len.to_le_bytes());
        self.gather(&header);
    }

    #[inline]
    fn gather(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() > GATHERED {
            self.hash.update(&self.gathered);
            self.gathered.clear();
        }
        if bytes.len() < LARGE {
            self.gathered.extend_from_slice(bytes);
        } else {
            self.hash.update(&self.gathered);
            self.gathered.clear();
            self.hash.update(bytes);
        }
    }

    /// The running value.
    fn value(&self) -> u128 {
        let mut hash = self.hash.clone();
        hash.update(&self.gathered);
        hash.digest128()
    }

    #[inline]
    fn listened_to(&self) -> bool {
        self.trace.is_some() || self.recent.is_some()
    }

    #[cold]
    fn note(&mut self, kind: ItemKind, at: SimTime, proc: u32, a: u64, len: u64, pieces: &[Bytes]) {
        let mut hash = Xxh3::new();
        for piece in pieces {
            hash.update(piece);
        }
        let item = Item { number: self.items, at, kind, proc, a, len, hash: hash.digest() };
        if let Some(trace) = &mut self.trace {
            trace.push(item);
        }
        if let Some(recent) = &mut self.recent {
            if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back(item);
        }
    }

    /// Keeps one item for each thing digested from now on.
    pub fn start_trace(&mut self) {
        self.trace.get_or_insert_default();
    }

    /// The items kept so far; tracing goes on.
    pub fn take_trace(&mut self) -> Vec<Item> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Keeps the last ten items, or no longer.
    pub(super) fn keep_recent(&mut self, on: bool) {
        self.recent = on.then(VecDeque::new);
    }

    pub(super) fn recent(&self) -> Vec<Item> {
        self.recent.iter().flatten().copied().collect()
    }

    /// How many things were digested.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// The digest if the run ended here, and the running values.
    pub fn trail(&self) -> DigestTrail {
        let mut end = blake3::Hasher::new();
        for checkpoint in &self.checkpoints {
            end.update(&checkpoint.frames.to_le_bytes());
            end.update(&checkpoint.at.0.to_le_bytes());
            end.update(&checkpoint.value.to_le_bytes());
        }
        end.update(&self.items.to_le_bytes());
        end.update(&self.frames.to_le_bytes());
        end.update(&self.value().to_le_bytes());
        let end = end.finalize().to_hex();
        DigestTrail { checkpoints: self.checkpoints.clone(), end: format!("b3{}", &end[..32]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(count: u64, odd_one: Option<u64>) -> Digest {
        let mut digest = Digest::default();
        for i in 0..count {
            let text = if Some(i) == odd_one { "odd" } else { "frame" };
            digest.bytes(ItemKind::FrameSent, SimTime(i), 1, 2, &[Bytes::from(text)]);
        }
        digest
    }

    #[test]
    fn cut_of_the_pieces_does_not_matter() {
        let whole: Vec<u8> = (0..3_000u32).map(|i| i as u8).collect();
        let digest = |cuts: &[usize]| {
            let mut digest = Digest::default();
            let mut pieces = Vec::new();
            let mut from = 0;
            for &cut in cuts.iter().chain([&whole.len()]) {
                pieces.push(Bytes::copy_from_slice(&whole[from..cut]));
                from = cut;
            }
            digest.bytes(ItemKind::FrameSent, SimTime(1), 1, 1, &pieces);
            digest.trail().end
        };
        let want = digest(&[]);
        assert!(want.starts_with("b3") && want.len() == 34);
        for cuts in [&[1][..], &[240, 256, 257], &[1_000, 1_000, 2_999]] {
            assert_eq!(digest(cuts), want);
        }
    }

    #[test]
    fn every_field_counts() {
        let of = |kind, at, proc, a, len| {
            let mut digest = Digest::default();
            digest.item(kind, SimTime(at), proc, a, len);
            digest.trail().end
        };
        let base = of(ItemKind::Timer, 1, 2, 3, 4);
        for other in [
            of(ItemKind::Closed, 1, 2, 3, 4),
            of(ItemKind::Timer, 9, 2, 3, 4),
            of(ItemKind::Timer, 1, 9, 3, 4),
            of(ItemKind::Timer, 1, 2, 9, 4),
            of(ItemKind::Timer, 1, 2, 3, 9),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn parting_is_found() {
        let n = 5 * FRAMES_A_CHECKPOINT;
        let run = frames(n, None).trail();
        assert_eq!(run.checkpoints.len(), 5);
        assert_eq!(run.parting(&frames(n, None).trail()), None);
        for odd in [0, 1, FRAMES_A_CHECKPOINT - 1, FRAMES_A_CHECKPOINT, n - 1] {
            let parting = run.parting(&frames(n, Some(odd)).trail()).unwrap();
            let interval = odd / FRAMES_A_CHECKPOINT;
            assert_eq!(parting.same_until_frame, interval * FRAMES_A_CHECKPOINT);
            assert_eq!(parting.differs_by_frame, Some((interval + 1) * FRAMES_A_CHECKPOINT));
        }
        let shorter = run.parting(&frames(n - 1, None).trail()).unwrap();
        assert_eq!((shorter.same_until_frame, shorter.differs_by_frame), (4 * FRAMES_A_CHECKPOINT, None));
    }

    #[test]
    fn trace_names_the_first_difference() {
        let trace = |odd| {
            let mut digest = Digest::default();
            digest.start_trace();
            for i in 0..10 {
                digest.bytes(ItemKind::FrameSent, SimTime(i), 1, i, &[Bytes::from(vec![u8::from(i == odd)])]);
            }
            digest.take_trace()
        };
        assert_eq!(first_difference(&trace(99), &trace(99)), None);
        let (place, a, b) = first_difference(&trace(99), &trace(7)).unwrap();
        assert_eq!((place, a.unwrap().a, b.unwrap().a), (7, 7, 7));
    }
}

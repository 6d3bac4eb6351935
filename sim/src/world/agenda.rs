//! The one heap of everything that will happen, taken in (time, sequence) order.
//!
//! Keys are small and `Copy`; what they are about lies with its owner (a connection's queue, a process's slot), which
//! also knows when a key has become stale. Equal times are taken in the order in which the keys' sequence numbers were
//! drawn.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::time::SimTime;

/// What a key is about. The meaning of the two words beside it goes with the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The head of a connection's direction arrives: (end that sent it, generation).
    Arrive,
    /// A connection request arrives: (initiating end, generation).
    Syn,
    /// The answer to it arrives: (initiating end, generation).
    SynAck,
    /// The refusal of it arrives: (initiating end, generation).
    SynRefused,
    /// Nobody answered it yet: (initiating end, generation).
    SynRetry,
    /// A stalled direction is tried again: (sending end, generation).
    Retransmit,
    /// Acknowledgements make room in a direction: (sending end, generation).
    Drain,
    /// A reset comes back to a sender whose peer is gone: (sending end, generation).
    ResetBack,
    /// A process is no longer busy: (process, incarnation).
    Wake,
    /// A process's deadline: (process, incarnation).
    Timer,
    /// A process listens: (process, incarnation).
    Boot,
    /// A sync or replace ends: (host, ticket).
    SyncDone,
    /// Something begins to be wrong with a disk: (host, fault).
    FaultBegins,
    /// Whoever drives the world asked to be told: (token, 0).
    Alarm,
}

const KINDS: [Kind; 14] = [
    Kind::Arrive,
    Kind::Syn,
    Kind::SynAck,
    Kind::SynRefused,
    Kind::SynRetry,
    Kind::Retransmit,
    Kind::Drain,
    Kind::ResetBack,
    Kind::Wake,
    Kind::Timer,
    Kind::Boot,
    Kind::SyncDone,
    Kind::FaultBegins,
    Kind::Alarm,
];

const KIND_BITS: u32 = 4;
const _: () = assert!(KINDS.len() <= 1 << KIND_BITS);

/// A sequence number: the order among equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(u64);

/// One thing that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    at: u64,
    seq_and_kind: u64,
    /// First word, see [`Kind`].
    pub a: u32,
    /// Second word, see [`Kind`].
    pub b: u32,
}

impl Key {
    /// When it happens.
    pub fn at(&self) -> SimTime {
        SimTime(self.at)
    }

    /// What it is about.
    pub fn kind(&self) -> Kind {
        KINDS[(self.seq_and_kind & ((1 << KIND_BITS) - 1)) as usize]
    }
}

/// Keys that come before everything in the heap are kept apart, in a short sorted list: most of them are "this process
/// is no longer busy" a few microseconds from now, and never need to sift through the heap.
const NEAR: usize = 12;

/// Everything that will happen.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    /// Sorted, soonest last; none is later than the heap's first.
    near: Vec<Key>,
    heap: BinaryHeap<Reverse<Key>>,
    next_seq: u64,
}

impl Agenda {
    /// Takes the next sequence number, for something whose key is pushed later.
    #[inline]
    pub fn take_seq(&mut self) -> Seq {
        self.next_seq += 1;
        assert!(self.next_seq < 1 << (64 - KIND_BITS), "sequence numbers are used up");
        Seq(self.next_seq)
    }

    /// Adds something that happens at `at`, after everything that was made before it for the same time.
    #[inline]
    pub fn push(&mut self, at: SimTime, kind: Kind, a: u32, b: u32) {
        let seq = self.take_seq();
        self.push_with(at, seq, kind, a, b);
    }

    /// Adds something whose place among equal times was taken earlier.
    #[inline]
    pub fn push_with(&mut self, at: SimTime, seq: Seq, kind: Kind, a: u32, b: u32) {
        let key = Key { at: at.0, seq_and_kind: (seq.0 << KIND_BITS) | kind as u64, a, b };
        if self.heap.peek().is_some_and(|Reverse(first)| *first < key) {
            self.heap.push(Reverse(key));
            return;
        }
        if self.near.len() == NEAR {
            // The latest of the near keys still comes before the heap's first.
            let latest = self.near[0];
            if key > latest {
                self.heap.push(Reverse(key));
                return;
            }
            self.near.remove(0);
            self.heap.push(Reverse(latest));
        }
        let place = self.near.iter().rposition(|near| *near > key).map_or(0, |i| i + 1);
        self.near.insert(place, key);
    }

    /// What happens next.
    #[inline]
    pub fn peek(&self) -> Option<&Key> {
        self.near.last().or_else(|| self.heap.peek().map(|Reverse(key)| key))
    }

    /// Takes what happens next.
    #[inline]
    pub fn pop(&mut self) -> Option<Key> {
        self.near.pop().or_else(|| self.heap.pop().map(|Reverse(key)| key))
    }

    /// How many keys wait, stale ones included.
    pub fn len(&self) -> usize {
        self.near.len() + self.heap.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::chance::derive;

    #[test]
    fn kinds_survive_the_packing() {
        let mut agenda = Agenda::default();
        for (i, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, i);
            agenda.push(SimTime(5), kind, i as u32, 0);
        }
        for kind in KINDS {
            assert_eq!(agenda.pop().unwrap().kind(), kind);
        }
    }

    #[test]
    fn order_is_that_of_time_then_sequence() {
        let mut chance = derive(3, "agenda");
        let mut agenda = Agenda::default();
        let mut model = std::collections::BTreeSet::new();
        let mut now = 0;
        for i in 0..20_000u32 {
            if model.is_empty() || chance.below(100) < 52 {
                let reach = if chance.below(2) == 0 { 4 } else { 1_000 };
                let at = now + chance.below(reach);
                agenda.push(SimTime(at), Kind::Alarm, i, 0);
                model.insert((at, i));
            } else {
                let (at, i) = model.pop_first().unwrap();
                let key = agenda.pop().unwrap();
                assert_eq!((key.at, key.a), (at, i));
                now = at;
            }
            assert_eq!(agenda.len(), model.len());
        }
    }
}

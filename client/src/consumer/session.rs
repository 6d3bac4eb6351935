//! The client's side of a fetch session (KIP-227; `FetchSessionHandler.java`).
//!
//! A session remembers on the broker what is fetched, so that a request names only what changed. The first request
//! of a session names everything; when a request is lost, or the broker forgot the session, a new one begins.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use wire::Uuid;
use wire::error::ErrorCode;

use super::Key;

/// What a request asks of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub topic_id: Uuid,
    pub offset: i64,
    pub leader_epoch: i32,
}

/// The next request of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NextFetch {
    pub session_id: i32,
    pub epoch: i32,
    /// What the request names.
    pub send: Vec<(Key, Wanted)>,
    /// What the broker shall forget.
    pub forget: Vec<(Key, Uuid)>,
}

/// A session with one broker.
#[derive(Clone, Debug, Default)]
pub(super) struct FetchSession {
    id: i32,
    /// Of the next request: 0 begins a session, -1 ends one.
    epoch: i32,
    partitions: BTreeMap<Key, Wanted>,
    /// What may differ from `partitions`.
    changed: BTreeSet<Key>,
}

impl FetchSession {
    const INITIAL: i32 = 0;
    const FINAL: i32 = -1;

    /// The partition must be looked at again before the next request.
    pub fn touch(&mut self, key: Key) {
        self.changed.insert(key);
    }

    /// Whether a request would name anything, or keep the broker waiting for what it already knows.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.changed.is_empty()
    }

    /// The next request. `wanted` tells what is to be fetched of a partition here, if anything.
    /// `None`: there is nothing to fetch.
    pub fn build(&mut self, wanted: impl Fn(Key) -> Option<Wanted>) -> Option<NextFetch> {
        let full = self.epoch == FetchSession::INITIAL;
        let mut next = NextFetch { session_id: self.id, epoch: self.epoch, ..NextFetch::default() };
        for key in core::mem::take(&mut self.changed) {
            match wanted(key) {
                Some(wanted) => {
                    let before = self.partitions.insert(key, wanted);
                    // A topic that was made again is another: the broker must forget the old one.
                    if let Some(before) = before.filter(|before| before.topic_id != wanted.topic_id && !full)
                    {
                        next.forget.push((key, before.topic_id));
                    }
                    if !full && before != Some(wanted) {
                        next.send.push((key, wanted));
                    }
                }
                None => {
                    if let Some(before) = self.partitions.remove(&key).filter(|_| !full) {
                        next.forget.push((key, before.topic_id));
                    }
                }
            }
        }
        if full {
            next.send = self.partitions.iter().map(|(&key, &wanted)| (key, wanted)).collect();
        }
        if self.partitions.is_empty() {
            // The broker still remembers what is not wanted any more: the next request replaces the session.
            self.begin_again();
            return None;
        }
        Some(next)
    }

    /// What the last request asked of a partition.
    pub fn asked(&self, key: Key) -> Option<Wanted> {
        self.partitions.get(&key).copied()
    }

    /// The request that ends the session, if there is one.
    pub fn close(&mut self) -> Option<(i32, i32)> {
        (self.id != 0).then_some((self.id, FetchSession::FINAL))
    }

    /// Takes the head of an answer. Whether its partitions count.
    pub fn answered(&mut self, error: ErrorCode, session_id: i32) -> bool {
        if error != ErrorCode::NONE {
            if error == ErrorCode::FETCH_SESSION_ID_NOT_FOUND {
                self.id = 0;
            }
            self.epoch = FetchSession::INITIAL;
            return false;
        }
        if session_id == 0 {
            // The broker keeps no session: every request names everything.
            self.id = 0;
            self.epoch = FetchSession::INITIAL;
        } else if self.epoch == FetchSession::INITIAL {
            self.id = session_id;
            self.epoch = 1;
        } else {
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        }
        true
    }

    /// A request or its answer was lost: a new session takes the place of this one.
    pub fn begin_again(&mut self) {
        self.epoch = FetchSession::INITIAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::TopicIndex;
    use alloc::vec;

    const A: Key = (TopicIndex(0), 0);
    const B: Key = (TopicIndex(0), 1);

    fn at(offset: i64) -> Option<Wanted> {
        Some(Wanted { topic_id: Uuid::ZERO, offset, leader_epoch: 0 })
    }

    fn keys(next: &NextFetch) -> Vec<Key> {
        next.send.iter().map(|&(key, _)| key).collect()
    }

    #[test]
    fn names_only_what_changed() {
        let mut session = FetchSession::default();
        session.touch(A);
        session.touch(B);
        let next = session.build(|_| at(0)).unwrap();
        assert_eq!((next.session_id, next.epoch, keys(&next)), (0, 0, vec![A, B]));
        assert!(session.answered(ErrorCode::NONE, 77));

        session.touch(B);
        let next = session.build(|key| if key == B { at(5) } else { at(0) }).unwrap();
        assert_eq!((next.session_id, next.epoch, keys(&next)), (77, 1, vec![B]));
        assert!(session.answered(ErrorCode::NONE, 77));

        let next = session.build(|_| at(9)).unwrap();
        assert_eq!((next.epoch, keys(&next)), (2, vec![]), "nothing was touched");
        assert!(session.answered(ErrorCode::NONE, 77));

        session.touch(A);
        let next = session.build(|key| if key == A { None } else { at(5) }).unwrap();
        assert_eq!((next.epoch, next.forget.clone(), keys(&next)), (3, vec![(A, Uuid::ZERO)], vec![]));
    }

    #[test]
    fn begins_again_after_a_loss_with_everything() {
        let mut session = FetchSession::default();
        session.touch(A);
        session.build(|_| at(0)).unwrap();
        session.answered(ErrorCode::NONE, 77);
        session.begin_again();
        let next = session.build(|_| at(0)).unwrap();
        assert_eq!(
            (next.session_id, next.epoch, keys(&next)),
            (77, 0, vec![A]),
            "the old session is replaced"
        );
        assert!(!session.answered(ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0));
        let next = session.build(|_| at(0)).unwrap();
        assert_eq!((next.session_id, next.epoch, keys(&next)), (0, 0, vec![A]));
        assert!(session.answered(ErrorCode::NONE, 0), "the broker keeps no sessions");
        assert_eq!(session.build(|_| at(0)).unwrap().epoch, 0);
    }
}

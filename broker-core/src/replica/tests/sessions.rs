//! The cache of fetch sessions.

use alloc::vec::Vec;
use rand_core::SeedableRng;
use wire::drive::Instant;
use wire::{ErrorCode, Uuid};

use super::super::session::{
    Begun, FetchSets, FollowerId, SessionRequest, SetIx, TopicKey, TopicRef, Wanted, next_epoch,
};
use crate::ctx::Rng;

fn at_s(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000_000)
}

fn request(session: (i32, i32), follower: bool) -> SessionRequest {
    SessionRequest {
        session_id: session.0,
        session_epoch: session.1,
        uses_topic_ids: true,
        follower: follower.then_some(FollowerId { id: 2, broker_epoch: 5 }),
    }
}

struct Bench {
    sets: FetchSets,
    rng: Rng,
}

impl Bench {
    fn new(slots: usize) -> Bench {
        Bench { sets: FetchSets::new(slots), rng: Rng::seed_from_u64(1) }
    }

    /// A full request for so many partitions; its session's id, 0 if there was no room. Evicted sets are removed.
    fn full(&mut self, at: u64, follower: bool, partitions: i32) -> i32 {
        let Begun::Full(set) = self.sets.begin(at_s(at), &request((0, 0), follower)) else { panic!() };
        for partition in 0..partitions {
            want(&mut self.sets, set, partition);
        }
        let (cached, evicted) = self.sets.try_cache(set, at_s(at), &mut self.rng);
        if let Some(evicted) = evicted {
            self.sets.remove(evicted);
        }
        let id = self.sets.get(set).session_id;
        assert_eq!(cached, id != 0);
        if !cached {
            self.sets.remove(set);
        }
        id
    }

    fn has(&self, id: i32) -> bool {
        self.sets.session(id).is_some()
    }
}

fn want(sets: &mut FetchSets, set: SetIx, partition: i32) {
    let id = Uuid([1; 16]);
    let wanted = Wanted {
        partition,
        current_leader_epoch: -1,
        fetch_offset: 0,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: 1,
    };
    sets.get_mut(set).want(TopicRef::Id(id), wanted, || TopicKey::Id(id));
}

#[test]
fn epochs_of_a_session() {
    assert_eq!([next_epoch(0), next_epoch(1), next_epoch(i32::MAX), next_epoch(-1)], [1, 2, 1, -1]);
    let mut b = Bench::new(10);
    let id = b.full(0, false, 2);
    for (session, expected) in [
        ((id, 1), None),
        ((id, 2), None),
        ((id, 2), Some(ErrorCode::INVALID_FETCH_SESSION_EPOCH)),
        ((id ^ 1, 3), Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)),
        ((id, 3), None),
    ] {
        let begun = b.sets.begin(at_s(1), &request(session, false));
        match expected {
            Some(error) => assert_eq!(begun, Begun::Refused(error)),
            None => assert!(matches!(begun, Begun::Incremental(_)), "{session:?}: {begun:?}"),
        }
    }
    let by_name = SessionRequest { uses_topic_ids: false, ..request((id, 4), false) };
    assert_eq!(b.sets.begin(at_s(1), &by_name), Begun::Refused(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR));
}

#[test]
fn eviction_is_kafkas() {
    // No room: young consumers are left alone by consumers, and make way for followers.
    let mut b = Bench::new(2);
    let (first, second) = (b.full(0, false, 3), b.full(1, false, 5));
    assert_eq!(b.full(2, false, 9), 0);
    let follower = b.full(3, true, 1);
    assert!(follower != 0 && !b.has(first) && b.has(second), "the smaller one goes");
    let another = b.full(4, true, 1);
    assert!(another != 0 && !b.has(second));
    assert_eq!(b.full(5, true, 9), 0, "young followers stay");
    // Idle for two minutes: the one that idled longest goes, whoever comes.
    assert_ne!(b.full(124, false, 1), 0);
    assert!(!b.has(follower) && b.has(another));
}

#[test]
fn an_old_session_goes_for_a_larger_one() {
    let mut b = Bench::new(1);
    let old = b.full(0, false, 3);
    // It is in use, and older than two minutes.
    for epoch in 1..=13 {
        assert!(matches!(
            b.sets.begin(at_s(10 * epoch as u64), &request((old, epoch), false)),
            Begun::Incremental(_)
        ));
    }
    assert_eq!(b.full(131, false, 2), 0);
    assert_ne!(b.full(131, false, 4), 0);
    assert!(!b.has(old));
}

#[test]
fn entries_are_found_forgotten_and_kept_in_order() {
    let mut b = Bench::new(1);
    let Begun::Full(set) = b.sets.begin(at_s(0), &request((0, 0), false)) else { panic!() };
    for partition in 0..100 {
        want(&mut b.sets, set, partition);
    }
    let s = b.sets.get_mut(set);
    let topic = TopicRef::Id(Uuid([1; 16]));
    assert!((0..100).all(|p| s.find(topic, p).is_some()));
    for partition in (0..100).step_by(2) {
        assert!(s.forget(topic, partition).is_some());
        assert!(s.forget(topic, partition).is_none());
    }
    assert_eq!(s.len(), 50);
    s.move_to_end(s.find(topic, 1).unwrap());
    let mut dirty = Vec::new();
    s.dirty_in_order(&mut dirty);
    let order: Vec<i32> = dirty.iter().map(|at| s.entry(*at).wanted.partition).collect();
    assert_eq!(order[..3], [3, 5, 7]);
    assert_eq!(order[49], 1);
    s.clean(|_, e| e.wanted.partition > 90);
    dirty.clear();
    s.dirty_in_order(&mut dirty);
    assert_eq!(dirty.len(), 5);
    assert!(!s.mark(dirty[0]) && s.mark(s.find(topic, 3).unwrap()));
}

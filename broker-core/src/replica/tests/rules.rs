//! The rules of the ISR and the high watermark, by tables.

use alloc::string::String;
use alloc::vec::Vec;
use wire::drive::{Instant, Nanos};

use crate::mutant::Mutants;

use super::super::isr::{BrokerStanding, Brokers, Follower, IsrState, LeaderView, PendingIsr};

const LAG: Nanos = Nanos::from_secs(30);

fn at_s(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000_000)
}

/// Followers as `id end caught-up-second`, with `-` for never; brokers 1 to 9 are alive with epoch 7.
fn followers(text: &str) -> Vec<Follower> {
    text.split(',')
        .map(str::trim)
        .filter(|f| !f.is_empty())
        .map(|f| {
            let parts: Vec<&str> = f.split(' ').collect();
            Follower {
                log_end_offset: parts[1].parse().unwrap(),
                last_caught_up_at: parts[2].parse().ok().map(at_s),
                broker_epoch: Some(7),
                ..Follower::new(parts[0].parse().unwrap())
            }
        })
        .collect()
}

/// `1,2` committed; `1,2+3` with 3 about to join; `1,2-2` with 2 about to leave.
fn isr(text: &str) -> IsrState {
    let ids = |t: &str| t.split(',').map(|id| id.parse().unwrap()).collect();
    if let Some((committed, joining)) = text.split_once('+') {
        return IsrState {
            committed: ids(committed),
            pending: Some(PendingIsr::Expand(joining.parse().unwrap())),
        };
    }
    if let Some((committed, leaving)) = text.split_once('-') {
        return IsrState { committed: ids(committed), pending: Some(PendingIsr::Shrink(ids(leaving))) };
    }
    IsrState { committed: ids(text), pending: None }
}

fn brokers() -> Brokers {
    let standing = |id| BrokerStanding { id, epoch: 7, fenced: id == 8, in_controlled_shutdown: id == 9 };
    Brokers((1..=9).map(standing).collect())
}

#[test]
fn high_watermark() {
    // Leader 1, log end 10, now 100 s, lag 30 s: followers, ISR, min.insync.replicas → how far.
    let table: &[(&str, &str, i32, Option<i64>)] = &[
        ("2 10 100, 3 10 100", "1,2,3", 1, Some(10)),
        ("2 4 100, 3 7 100", "1,2,3", 1, Some(4)),
        // Only the ISR counts …
        ("2 4 -, 3 7 100", "1,3", 1, Some(7)),
        // … and who was caught up a moment ago and may return.
        ("2 4 80, 3 7 100", "1,3", 1, Some(4)),
        ("2 4 69, 3 7 100", "1,3", 1, Some(7)),
        ("8 4 80, 3 7 100", "1,3", 1, Some(7)),
        ("9 4 80, 3 7 100", "1,3", 1, Some(7)),
        // The maximal ISR: who joins counts at once, who leaves until it has left.
        ("2 4 -, 3 7 100", "1,3+2", 1, Some(4)),
        ("2 4 -, 3 7 100", "1,2,3-2", 1, Some(4)),
        // Unknown positions hold everything.
        ("2 -1 100, 3 7 100", "1,2,3", 1, Some(-1)),
        // Below the minimum nothing moves; the minimum is at most the number of replicas.
        ("2 10 100, 3 10 100", "1", 2, None),
        ("2 10 100, 3 10 100", "1+2", 2, None),
        ("2 10 100, 3 10 100", "1,2,3-2", 3, Some(10)),
        ("", "1", 2, Some(10)),
        ("2 10 100", "1,2", 5, Some(10)),
    ];
    for (text, state, min, expected) in table {
        let (followers, isr, brokers) = (followers(text), isr(state), brokers());
        let view = LeaderView {
            log_end_offset: 10,
            followers: &followers,
            isr: &isr,
            min_insync_replicas: *min,
            max_lag: LAG,
            brokers: &brokers,
            mutants: Mutants::NONE,
        };
        assert_eq!(view.high_watermark(at_s(100)), *expected, "{text} | {state} | {min}");
    }
}

#[test]
fn who_leaves_and_who_may_join() {
    // Followers, ISR → who is out of sync, who may join (high watermark 5, epoch start 6).
    let table: &[(&str, &str, &[i32], &[i32])] = &[
        ("2 10 -, 3 9 100", "1,2,3", &[], &[]),
        ("2 9 70, 3 9 69", "1,2,3", &[3], &[]),
        ("2 9 -, 3 9 -", "1,2,3", &[2, 3], &[]),
        // Nothing while a change is under way.
        ("2 9 -, 3 9 -", "1,2,3-2", &[], &[]),
        ("2 6 -, 3 5 -", "1", &[], &[2]),
        ("2 6 -, 8 9 -, 9 9 -", "1", &[], &[2]),
        ("2 9 -, 3 9 -", "1+2", &[], &[]),
    ];
    for (text, state, leaving, joining) in table {
        let (followers, isr, brokers) = (followers(text), isr(state), brokers());
        let view = LeaderView {
            log_end_offset: 10,
            followers: &followers,
            isr: &isr,
            min_insync_replicas: 1,
            max_lag: LAG,
            brokers: &brokers,
            mutants: Mutants::NONE,
        };
        assert_eq!(view.out_of_sync(1, at_s(100)).as_slice(), *leaving, "{text} | {state}");
        let may: Vec<i32> = followers.iter().filter(|f| view.may_join(f, 5, 6)).map(|f| f.id).collect();
        assert_eq!(may, *joining, "{text} | {state}");
    }
}

#[test]
fn a_follower_of_another_incarnation_is_not_eligible() {
    let brokers = brokers();
    let mut follower = followers("2 9 -").remove(0);
    for (epoch, eligible) in [(Some(7), true), (Some(-1), true), (Some(6), false), (None, false)] {
        follower.broker_epoch = epoch;
        assert_eq!(brokers.isr_eligible(&follower), eligible, "{epoch:?}");
    }
    assert!(brokers.is_stale(2, 6) && !brokers.is_stale(2, 7) && !brokers.is_stale(2, -1));
}

#[test]
fn caught_up_while_trailing_by_one_fetch() {
    let mut f = Follower::new(2);
    f.reset(at_s(0), 0, true, false);
    assert_eq!(f.last_caught_up_at, None);
    // A busy leader: its log has always grown by the time of the next fetch. Fetch n asks for the end at fetch n - 1.
    f.fetched(5, 0, at_s(1), 10, 7);
    assert_eq!(f.last_caught_up_at, None, "the first fetch since the reset proves nothing");
    f.fetched(10, 0, at_s(2), 20, 7);
    assert_eq!(f.last_caught_up_at, Some(at_s(1)));
    f.fetched(15, 0, at_s(3), 30, 7);
    assert_eq!(f.last_caught_up_at, Some(at_s(1)), "it falls behind");
    f.fetched(30, 0, at_s(4), 30, 7);
    assert_eq!(f.last_caught_up_at, Some(at_s(4)));
    // Elected again: a member of the ISR keeps its position and gets the full time.
    f.reset(at_s(9), 30, false, true);
    assert_eq!((f.log_end_offset, f.last_caught_up_at), (30, Some(at_s(9))));
    f.reset(at_s(10), 30, true, true);
    assert_eq!((f.log_end_offset, f.last_caught_up_at), (-1, Some(at_s(10))));
}

#[test]
fn proposals_are_sorted() {
    for (state, expected) in [("3,1+2", "1,2,3"), ("3,2,1-2", "1,3"), ("2,1", "1,2")] {
        let ids: Vec<String> = isr(state).proposed().iter().map(|id| alloc::format!("{id}")).collect();
        assert_eq!(ids.join(","), expected);
    }
}

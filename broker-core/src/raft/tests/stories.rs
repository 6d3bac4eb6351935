//! Each mechanism of the quorum, told as a story.

use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::Uuid;
use wire::drive::{Endpoint, Nanos};
use wire::error::ErrorCode;

use super::super::rpc::*;
use super::super::*;
use super::cluster::{Chaos, Cluster};
use crate::event::{Event, RaftRole};
use crate::testing::Unsynced;

pub(super) fn secs(secs: u64) -> Nanos {
    Nanos::from_secs(secs)
}

fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

pub(super) fn voters(count: i32) -> VoterSet {
    let nodes: Vec<_> = (1..=count).map(|id| (id, Endpoint::new("c", 9093))).collect();
    VoterSet::from_static(&Arc::from("CONTROLLER"), &nodes)
}

/// A cluster with a leader, and all have applied what there is.
fn settled(seed: u64, voters: i32, observers: i32) -> (Cluster, i32) {
    let mut cluster = Cluster::new(seed, voters, observers);
    cluster.history.keep_events = true;
    cluster.start_all();
    cluster.run_until("the first leader", secs(10), Cluster::has_converged);
    let leader = cluster.leader().unwrap();
    (cluster, leader)
}

fn another(cluster: &Cluster, not: &[i32]) -> i32 {
    cluster.hosts.keys().copied().find(|id| *id < 11 && !not.contains(id)).unwrap()
}

#[test]
fn a_quorum_elects_commits_and_tells_observers() {
    let (mut cluster, leader) = settled(1, 3, 2);
    assert_eq!(cluster.raft(leader).epoch(), 1, "pre-votes keep the first election from costing epochs");
    let at = cluster.append(leader).unwrap();
    assert_eq!(at, AppendedAt { base_offset: 1, last_offset: 1 });
    assert_eq!(cluster.raft(leader).log_end_offset(), 1, "it lingers");
    cluster.run_for(ms(24));
    assert_eq!(cluster.raft(leader).log_end_offset(), 1);
    cluster.run_for(ms(6));
    assert_eq!(cluster.raft(leader).log_end_offset(), 2);
    cluster.run_until("the commit", ms(20), |c| c.running().all(|(_, process)| process.applied == 2));
}

#[test]
fn appends_within_the_linger_time_share_a_batch() {
    let (mut cluster, leader) = settled(2, 1, 1);
    for _ in 0..3 {
        cluster.append(leader).unwrap();
    }
    cluster.run_for(ms(100));
    let (last, _, records) = &cluster.history.committed[&1];
    assert_eq!((*last, records.len()), (3, 3));
    assert_eq!(cluster.process(11).applied, 4);
}

#[test]
fn a_lone_voter_leads_at_once() {
    let mut cluster = Cluster::new(3, 1, 0);
    cluster.start(1);
    cluster.run_for(ms(50));
    assert_eq!((cluster.leader(), cluster.raft(1).epoch()), (Some(1), 1));
    cluster.kill(1);
    cluster.start(1);
    cluster.run_for(ms(50));
    assert_eq!((cluster.leader(), cluster.raft(1).epoch()), (Some(1), 2), "never twice in one epoch");
}

#[test]
fn a_killed_leader_is_replaced_after_the_fetch_timeout() {
    for seed in 0..5 {
        let (mut cluster, leader) = settled(seed, 3, 1);
        cluster.append(leader).unwrap();
        cluster.run_for(ms(200));
        let before = cluster.now;
        cluster.kill(leader);
        cluster.run_until("another leader", secs(10), Cluster::has_converged);
        let took = cluster.now.since(before).as_millis();
        assert!((1_400..6_000).contains(&took), "it took {took} ms");
        assert_eq!(cluster.raft(cluster.leader().unwrap()).epoch(), 2);
        cluster.start(leader);
        cluster.run_until("its return", secs(10), Cluster::has_converged);
        assert_eq!(cluster.raft(leader).epoch(), 2, "its return disturbs nobody");
    }
}

#[test]
fn a_leader_that_shuts_down_hands_over_at_once() {
    let (mut cluster, leader) = settled(4, 3, 1);
    let before = cluster.now;
    cluster.shut_down(leader);
    cluster.run_until("the end of the shutdown", secs(5), |c| c.raft(leader).is_shut_down());
    let took = cluster.now.since(before).as_millis();
    assert!(took < 300, "it took {took} ms");
    cluster.kill(leader);
    cluster.run_until("another leader", secs(3), Cluster::has_converged);
    assert_eq!(cluster.raft(cluster.leader().unwrap()).epoch(), 2);
    let resigned = |(_, id, event): &(u64, i32, Event)| {
        *id == leader && matches!(event, Event::LeaderResigned { epoch: 1, .. })
    };
    assert!(cluster.history.events.iter().any(resigned));
}

#[test]
fn a_leader_without_majority_resigns() {
    let (mut cluster, leader) = settled(5, 3, 0);
    let before = cluster.now;
    cluster.isolate(leader);
    cluster.run_until("its resignation", secs(4), |c| !c.raft(leader).is_leader());
    let took = cluster.now.since(before).as_millis();
    assert!((2_400..=3_000).contains(&took), "check-quorum took {took} ms");
    assert_eq!(cluster.append(leader), Err(AppendError::NotLeader));
    // Alone it raises its epoch once, when it gives the lost one up; pre-votes that nobody grants raise no more.
    cluster.run_for(secs(30));
    assert_eq!(cluster.raft(leader).epoch(), 2);
    cluster.cut.clear();
    cluster.run_until("convergence", secs(10), Cluster::has_converged);
}

#[test]
fn a_follower_that_was_cut_off_does_not_depose_the_leader() {
    let (mut cluster, leader) = settled(6, 3, 0);
    let follower = another(&cluster, &[leader]);
    cluster.isolate(follower);
    cluster.run_for(secs(20));
    assert_eq!(cluster.raft(follower).epoch(), 1, "pre-vote (KIP-996)");
    cluster.cut.clear();
    cluster.run_until("convergence", secs(5), Cluster::has_converged);
    assert_eq!((cluster.leader(), cluster.raft(leader).epoch()), (Some(leader), 1));
}

#[test]
fn nothing_is_committed_without_a_majority() {
    let (mut cluster, leader) = settled(7, 3, 0);
    let others: Vec<i32> = (1..=3).filter(|id| *id != leader).collect();
    others.iter().for_each(|id| cluster.kill(*id));
    cluster.append(leader).unwrap();
    let before = cluster.raft(leader).high_watermark();
    cluster.run_for(secs(2));
    assert_eq!(cluster.raft(leader).high_watermark(), before);
    assert_eq!(cluster.raft(leader).log_end_offset(), 2);
    cluster.run_for(secs(30));
    assert_eq!(cluster.leader(), None);
    cluster.start(others[0]);
    cluster.run_until("a majority", secs(10), Cluster::has_converged);
    assert!(cluster.raft(leader).high_watermark() >= Some(3), "what was appended survived");
}

#[test]
fn an_unreplicated_tail_is_cut_when_its_leader_returns() {
    let (mut cluster, leader) = settled(8, 3, 1);
    cluster.isolate(leader);
    cluster.append(leader).unwrap();
    cluster.run_for(ms(100));
    assert_eq!(cluster.raft(leader).log_end_offset(), 2, "offset 1 is of epoch 1 here");
    cluster.run_until("another leader", secs(10), |c| c.leader().is_some_and(|l| l != leader));
    let second = cluster.leader().unwrap();
    cluster.append(second).unwrap();
    cluster.run_for(ms(500));
    cluster.cut.clear();
    cluster.run_until("convergence", secs(10), Cluster::has_converged);
    assert_eq!(cluster.history.truncations, 1);
    let log = cluster.raft(leader).log();
    assert_eq!(log.epoch_of(1), Some(cluster.raft(second).log().epoch_of(1).unwrap()));
}

#[test]
fn a_leader_that_restarts_is_resigned_in_its_epoch() {
    let (mut cluster, leader) = settled(9, 3, 0);
    cluster.kill(leader);
    cluster.start(leader);
    assert_eq!((cluster.raft(leader).role(), cluster.raft(leader).epoch()), (RaftRole::Resigned, 1));
    let candidate = ReplicaKey::new(another(&cluster, &[leader]), Uuid::ZERO);
    cluster.run_for(ms(5)); // its file is durable
    if cluster.raft(leader).role() == RaftRole::Resigned {
        let vote = Vote {
            voter: None,
            replica: candidate,
            epoch: 1,
            last: OffsetAndEpoch::new(9, 0),
            pre_vote: false,
        };
        let answer = cluster.ask(leader, Request::Vote(vote));
        assert!(matches!(answer, Some(Response::Vote(_, false))), "{answer:?}");
    }
    cluster.run_until("convergence", secs(10), Cluster::has_converged);
    assert!(cluster.raft(leader).epoch() >= 2);
}

#[test]
fn an_epoch_and_a_vote_are_durable_before_they_are_told() {
    let mut cluster = Cluster::new(10, 3, 0);
    cluster.chaos = Chaos { sync_us: (300_000, 0), ..Chaos::default() };
    cluster.start(1);
    cluster.run_for(ms(300)); // what it found is durable now
    let candidate = ReplicaKey::new(2, Uuid::ZERO);
    let vote =
        Vote { voter: None, replica: candidate, epoch: 7, last: OffsetAndEpoch::new(0, 0), pre_vote: false };
    let answer = cluster.ask(1, Request::Vote(vote));
    assert!(cluster.raft(1).is_blocked() && answer.is_some(), "the answer is held back until the sync");
    cluster.power_off(1, Unsynced::Lost, false);
    cluster.start(1);
    assert_eq!((cluster.raft(1).epoch(), cluster.raft(1).voted()), (0, None), "nobody heard of the vote");
    cluster.run_for(ms(300));
    cluster.ask(1, Request::Vote(vote));
    cluster.run_for(ms(300));
    cluster.power_off(1, Unsynced::Lost, false);
    cluster.start(1);
    let raft = cluster.raft(1);
    assert_eq!((raft.epoch(), raft.voted().map(|key| key.id)), (7, Some(2)));
}

#[test]
fn a_voter_fetches_again_only_when_what_it_appended_is_flushed() {
    // Three voters; the follower's disk takes 400 ms for a sync, and one of the two others is down.
    let (mut cluster, leader) = settled(11, 3, 0);
    let follower = another(&cluster, &[leader]);
    let third = another(&cluster, &[leader, follower]);
    cluster.kill(third);
    cluster.chaos.sync_us = (400_000, 0);
    cluster.append(leader).unwrap();
    cluster.run_for(ms(100));
    assert_eq!(cluster.raft(follower).log_end_offset(), 2, "it is in its page cache");
    assert_eq!(cluster.raft(leader).high_watermark(), Some(1), "and so does not count");
    cluster.run_for(ms(400));
    assert_eq!(cluster.raft(leader).high_watermark(), Some(2));
}

#[test]
fn the_leader_counts_what_it_has_not_flushed() {
    // Kafka's quorum does so too. The follower has flushed, the leader has not, and that is a majority of three: if
    // then the leader loses its power, and the follower is away, the other two elect a leader without the record.
    let (mut cluster, leader) = settled(12, 3, 0);
    let follower = another(&cluster, &[leader]);
    let third = another(&cluster, &[leader, follower]);
    cluster.kill(third);
    cluster.run_for(ms(50));
    cluster.chaos.slow_disk = Some(leader);
    cluster.append(leader).unwrap();
    cluster.run_until("the commit", ms(500), |c| c.raft(leader).high_watermark() == Some(2));
    cluster.power_off(leader, Unsynced::Lost, false);
    cluster.chaos.slow_disk = None;
    cluster.start(leader);
    assert_eq!(cluster.raft(leader).log_end_offset(), 1, "what was committed is gone here");
    assert_eq!(cluster.raft(follower).log_end_offset(), 2, "and is left in one place");
}

#[test]
fn a_new_observer_begins_with_a_snapshot() {
    let mut cluster = Cluster::new(13, 3, 2);
    cluster.adjust = |config| {
        config.max_bytes_between_snapshots = 1_000;
        config.fetch_snapshot_max_bytes = 100; // many chunks
    };
    cluster.append_every = Some((20, 20));
    (1..=3).chain([11]).for_each(|id| cluster.start(id));
    cluster.run_for(secs(8));
    assert!(cluster.history.snapshots_written >= 4, "{}", cluster.history.snapshots_written);
    assert_eq!(cluster.history.snapshots_loaded, 0);
    cluster.start(12);
    cluster.run_until("the snapshot", secs(2), |c| c.history.snapshots_loaded == 1);
    cluster.append_every = None;
    cluster.run_until("convergence", secs(5), Cluster::has_converged);
    assert!(cluster.raft(12).log().log_start_offset() > 0);
    // It comes back with what it has, and begins with that snapshot.
    cluster.kill(12);
    cluster.start(12);
    cluster.run_until("convergence", secs(5), Cluster::has_converged);
    assert_eq!(cluster.history.snapshots_loaded, 2);
}

#[test]
fn the_log_is_cleaned_below_the_oldest_snapshot_that_is_kept() {
    let mut cluster = Cluster::new(14, 3, 1);
    cluster.adjust = |config| {
        config.max_bytes_between_snapshots = 4_000;
        config.segment_bytes = 4_000;
        config.retention_bytes = 20_000;
    };
    cluster.append_every = Some((50, 10));
    cluster.start_all();
    cluster.run_for(secs(90));
    for id in [1, 2, 3, 11] {
        let log = cluster.raft(id).log();
        let snapshot = cluster.raft(id).latest_snapshot().unwrap();
        assert!(
            log.log_start_offset() > 0 && log.log_start_offset() <= snapshot.offset,
            "{}",
            cluster.picture()
        );
        assert!(log.size_bytes() < 100_000);
    }
    // A voter that comes back with an old log is given the snapshot.
    let leader = cluster.leader().unwrap();
    let behind = another(&cluster, &[leader]);
    cluster.kill(behind);
    cluster.run_for(secs(150));
    cluster.append_every = None;
    cluster.start(behind);
    cluster.run_until("convergence", secs(10), Cluster::has_converged);
}

#[test]
fn a_snapshot_that_was_cut_short_by_a_crash_is_not_used() {
    let mut cluster = Cluster::new(15, 3, 2);
    cluster.adjust = |config| {
        config.max_bytes_between_snapshots = 1_000;
        config.fetch_snapshot_max_bytes = 100;
    };
    cluster.append_every = Some((20, 0));
    (1..=3).for_each(|id| cluster.start(id));
    cluster.run_for(secs(8));
    cluster.append_every = None;
    for after in 1..40 {
        cluster.start(11);
        cluster.run_for(Nanos::from_micros(after * 700));
        cluster.power_off(11, Unsynced::Lost, false);
    }
    cluster.start(11);
    cluster.run_until("convergence", secs(5), Cluster::has_converged);
}

#[test]
fn describe_quorum_says_who_is_how_far() {
    let (mut cluster, leader) = settled(16, 3, 2);
    let other = another(&cluster, &[leader]);
    let down = another(&cluster, &[leader, other]);
    let answer = cluster.ask(other, Request::DescribeQuorum);
    assert_eq!(answer, Some(Response::DescribeQuorum(ErrorCode::NOT_LEADER_OR_FOLLOWER, None)));
    cluster.kill(down);
    cluster.append(leader).unwrap();
    cluster.run_for(ms(700));
    let Some(Response::DescribeQuorum(ErrorCode::NONE, Some(description))) =
        cluster.ask(leader, Request::DescribeQuorum)
    else {
        panic!("the leader describes the quorum");
    };
    assert_eq!((description.leader, description.epoch, description.high_watermark), (leader, 1, Some(2)));
    let wall = 1_795_000_000_000 + (cluster.now.0 / 1_000_000) as i64;
    for voter in &description.voters {
        assert!(voter.key.directory_id.is_zero(), "with kraft.version 0");
        let behind = voter.key.id == down;
        assert_eq!(voter.log_end_offset, if behind { 1 } else { 2 });
        assert!(wall - voter.last_fetch_ms <= if behind { 1_300 } else { 510 }, "{voter:?} at {wall}");
        assert_eq!(voter.key.id == leader, voter.last_fetch_ms == wall && voter.last_caught_up_ms == wall);
    }
    let observers: Vec<_> = description.observers.iter().map(|o| (o.key.id, o.key.directory_id)).collect();
    assert_eq!(observers, [(11, Uuid([11; 16])), (12, Uuid([12; 16]))]);
}

#[test]
fn impossible_requests_get_kafkas_errors() {
    let (mut cluster, leader) = settled(17, 3, 0);
    let follower = another(&cluster, &[leader]);
    let replica = ReplicaKey::new(follower, Uuid::ZERO);
    let fetch = |epoch, offset, last, wait| {
        let from = OffsetAndEpoch::new(offset, last);
        Request::Fetch(Fetch { replica, epoch, from, high_watermark: 9, max_bytes: 9, max_wait_ms: wait })
    };
    let vote = |epoch, offset, last, pre_vote, voter: i32| {
        let last = OffsetAndEpoch::new(offset, last);
        let voter = Some(ReplicaKey::new(voter, Uuid::ZERO));
        Request::Vote(Vote { voter, replica, epoch, last, pre_vote })
    };
    let begin = |leader, epoch| Request::BeginQuorumEpoch(BeginQuorumEpoch { voter: None, leader, epoch });
    let snapshot = |epoch, offset| {
        let snapshot = OffsetAndEpoch::new(offset, 1);
        Request::FetchSnapshot(FetchSnapshot { replica, epoch, snapshot, position: 0, max_bytes: 9 })
    };
    let cases = [
        (leader, fetch(1, -1, 1, 0), ErrorCode::INVALID_REQUEST),
        (leader, fetch(1, 1, -1, 0), ErrorCode::INVALID_REQUEST),
        (leader, fetch(1, 1, 2, 0), ErrorCode::INVALID_REQUEST),
        (leader, fetch(1, 1, 1, -1), ErrorCode::INVALID_REQUEST),
        (leader, fetch(0, 0, 0, 0), ErrorCode::FENCED_LEADER_EPOCH),
        (leader, fetch(2, 0, 0, 0), ErrorCode::UNKNOWN_LEADER_EPOCH),
        (follower, fetch(1, 0, 0, 0), ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (leader, fetch(1, 1, 1, 0), ErrorCode::NONE),
        (leader, vote(1, 1, 1, false, leader), ErrorCode::INVALID_REQUEST),
        (leader, vote(1, 1, 2, true, leader), ErrorCode::INVALID_REQUEST),
        (leader, vote(1, -1, 0, true, leader), ErrorCode::INVALID_REQUEST),
        (leader, vote(0, 0, 0, true, leader), ErrorCode::FENCED_LEADER_EPOCH),
        (leader, vote(1, 1, 1, true, 3 - leader + 3), ErrorCode::INVALID_VOTER_KEY),
        (leader, vote(1, 1, 1, true, leader), ErrorCode::NONE),
        (leader, begin(follower, 0), ErrorCode::FENCED_LEADER_EPOCH),
        (leader, begin(-1, 1), ErrorCode::INVALID_REQUEST),
        (follower, begin(leader, 1), ErrorCode::NONE),
        (leader, snapshot(0, 1), ErrorCode::FENCED_LEADER_EPOCH),
        (follower, snapshot(1, 1), ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (leader, snapshot(1, 5), ErrorCode::SNAPSHOT_NOT_FOUND),
    ];
    for (to, request, want) in cases {
        let text = alloc::format!("{request:?}");
        let error = match cluster.ask(to, request) {
            Some(Response::Vote(at, _) | Response::BeginQuorumEpoch(at) | Response::EndQuorumEpoch(at)) => {
                at.error
            }
            Some(Response::Fetch(at, _) | Response::FetchSnapshot(at, _)) => at.error,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(error, want, "{text}");
    }
    assert_eq!(cluster.raft(leader).epoch(), 1, "none of them changed anything");
}

#[test]
fn voters_of_a_dynamic_quorum_come_from_the_log() {
    let mut cluster = Cluster::dynamic(21, 3, 1);
    cluster.adjust = |config| config.max_bytes_between_snapshots = 1_500;
    cluster.append_every = Some((20, 20));
    cluster.start_all();
    assert_eq!(cluster.raft(11).voters().len(), 0, "an observer begins with bootstrap servers alone");
    cluster.run_for(secs(8));
    cluster.append_every = None;
    cluster.run_until("convergence", secs(5), Cluster::has_converged);
    for id in [1, 2, 3, 11] {
        assert_eq!((cluster.raft(id).kraft_version(), cluster.raft(id).voters().len()), (1, 3), "{id}");
    }
    let leader = cluster.leader().unwrap();
    let Some(Response::DescribeQuorum(_, Some(description))) = cluster.ask(leader, Request::DescribeQuorum)
    else {
        panic!("the leader describes the quorum");
    };
    assert!(description.voters.iter().all(|voter| voter.key.directory_id == Uuid([voter.key.id as u8; 16])));
    // An observer with an empty disk gets the voters with the snapshot, all others from theirs or from the log.
    assert!(cluster.history.snapshots_written > 0);
    cluster.kill(11);
    cluster.wipe(11);
    cluster.start(11);
    cluster.run_until("the snapshot", secs(5), Cluster::has_converged);
    assert!(cluster.history.snapshots_loaded > 0);
    assert_eq!((cluster.raft(11).kraft_version(), cluster.raft(11).voters().len()), (1, 3));
    // A voter whose directory was replaced is no voter any more: it must not vote a second time.
    let other = another(&cluster, &[leader]);
    cluster.kill(other);
    cluster.wipe(other);
    cluster.adjust = |config| {
        if config.node_id < 11 && config.dir == "data" {
            config.directory_id = Uuid([77; 16]);
        }
    };
    cluster.start(other);
    cluster.run_until("its return as an observer", secs(10), Cluster::has_converged);
    assert_eq!(cluster.raft(leader).epoch(), cluster.raft(other).epoch());
    assert!(!cluster.raft(other).quorum.is_voter());
}

#[test]
fn a_failed_disk_stops_the_node() {
    use crate::disk::DiskError;
    use crate::testing::{Fault, Op};
    let mut cluster = Cluster::new(18, 1, 0);
    cluster.start(1);
    cluster.run_for(ms(50));
    let host = cluster.hosts.get_mut(&1).unwrap();
    host.disk.inject(Fault {
        op: Op::Append,
        path_contains: ".log".into(),
        error: DiskError::Full,
        times: 1,
    });
    cluster.append(1).unwrap();
    let now = cluster.now;
    let signals = cluster.with(1, |process, io| {
        io.now.mono = now.plus_millis(25);
        process.raft.take_timer(io);
        process.raft.take_signals()
    });
    assert!(matches!(signals.as_slice(), [Signal::Fatal { .. }]), "{signals:?}");
    assert_eq!(cluster.raft(1).deadline(), None);
}

#[test]
fn an_idle_quorum_costs_little() {
    let (mut cluster, _) = settled(19, 3, 3);
    let before = cluster.history.messages;
    cluster.run_for(secs(60));
    let messages = cluster.history.messages - before;
    // Five replicas fetch twice a second; a request and an answer each.
    assert!((1_150..1_250).contains(&messages), "{messages} messages");
}

#[test]
fn a_dead_quorum_does_not_spin() {
    let (mut cluster, _) = settled(20, 3, 2);
    cluster.kill(1);
    cluster.kill(2);
    cluster.run_for(secs(20));
    let before = cluster.history.messages;
    cluster.run_for(secs(10));
    let messages = cluster.history.messages - before;
    // Three replicas ask each of their peers once in 20 ms, one after the other.
    assert!(messages < 10_000, "{messages} messages in 10 s");
}

//! Replication and failover: what is kept, what is cut, who is in sync.

use alloc::vec;
use alloc::vec::Vec;
use wire::ErrorCode;

use super::cluster::{Cluster, Controller};
use crate::event::Event;
use crate::testing::Unsynced;

fn strings(values: &[&str]) -> Vec<alloc::string::String> {
    values.iter().map(|v| (*v).into()).collect()
}

#[test]
fn replicas_hold_what_was_acknowledged() {
    let mut c = Cluster::new(3);
    c.create_topic(&[1, 2, 3], 2);
    let asked = c.produce(1, -1, &["a", "b"]);
    c.run_ms(20);
    assert_eq!(c.produced(asked), Some((ErrorCode::NONE, 0)));
    assert!(c.took_ms(asked) < 10, "a follower that waits is answered at once");
    for id in 1..=3 {
        assert_eq!(c.log(id), strings(&["0:a@0", "1:b@0"]));
    }
    // The answer to a fetch carries the high watermark from before it: followers learn of it one fetch later.
    assert_eq!((c.high_watermark(1), c.high_watermark(2)), (2, 0));
    c.run_ms(600);
    assert_eq!((c.high_watermark(2), c.high_watermark(3)), (2, 2));
}

#[test]
fn many_batches_in_both_directions_of_time() {
    let mut c = Cluster::new(3);
    c.create_topic(&[1, 2, 3], 2);
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let asked = c.produce(1, -1, &["x", "y", "z"]);
            c.run_ms(1);
            asked
        })
        .collect();
    c.run_ms(50);
    for (i, asked) in asked.iter().enumerate() {
        assert_eq!(c.produced(*asked), Some((ErrorCode::NONE, 3 * i as i64)));
    }
    assert_eq!(c.log(2), c.log(1));
    assert_eq!(c.log(3), c.log(1));
    assert!(c.proposals.is_empty(), "nobody left the ISR");
}

/// KIP-101, scenario 1 (anomaly A1): a follower that restarts behind the high watermark must not cut what was
/// acknowledged, although its own high watermark does not yet cover it.
#[test]
fn kip_101_a1_a_restarted_follower_keeps_what_was_acknowledged() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["m1"]);
    // (1) m2 is on both and acknowledged; that the high watermark is 2 has not reached broker 2.
    let asked = c.produce(1, -1, &["m2"]);
    while c.produced(asked).is_none() {
        c.run_ms(1);
    }
    assert_eq!((c.high_watermark(1), c.end(2)), (2, 2));
    assert!(c.high_watermark(2) < 2);
    // (2) Broker 2 restarts. (3) Before it fetches, broker 1 dies; broker 2, still in the ISR, is elected.
    c.kill(2);
    c.kill(1);
    c.start(2);
    assert_eq!(c.end(2), 2, "nothing is cut to the high watermark");
    c.elect(2, &[2]);
    c.run_ms(20);
    // (4) Broker 1 returns as follower.
    c.start(1);
    c.run_ms(2_000);
    assert_eq!(c.log(2), strings(&["0:m1@0", "1:m2@0"]));
    assert_eq!(c.log(1), c.log(2));
    let cuts = c.events_of(1, |e| matches!(e, Event::LogTruncated { .. }).then_some(()));
    assert!(cuts.is_empty());
}

/// KIP-101, scenario 2 (anomaly A2): both lose power, the one that lost more leads first; the other one's surplus is
/// cut, although it lies below its high watermark, and the logs do not diverge.
#[test]
fn kip_101_a2_logs_do_not_diverge_after_a_power_loss() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["m1"]);
    c.with(1, |m, ctx, _| m.shutdown(ctx));
    c.with(2, |m, ctx, _| m.shutdown(ctx));
    c.run_ms(10);
    c.kill(1);
    c.kill(2);
    c.start(1);
    c.start(2);
    c.run_ms(2_000);
    c.produce_all(1, &["m2"]);
    assert_eq!(c.high_watermark(1), 2);
    c.run_ms(6_000);
    c.power_off(1, Unsynced::Kept);
    c.power_off(2, Unsynced::Lost);
    c.start(2);
    c.elect(2, &[2]);
    c.run_ms(20);
    assert_eq!(c.log(2), strings(&["0:m1@0"]), "m2 never reached its medium");
    c.produce_all(2, &["m3"]);
    c.start(1);
    assert_eq!(c.log(1), strings(&["0:m1@0", "1:m2@0"]));
    c.run_ms(2_000);
    assert_eq!(c.log(2), strings(&["0:m1@0", "1:m3@1"]));
    assert_eq!(c.log(1), c.log(2));
    let cuts = c.events_of(1, |e| match e {
        Event::LogTruncated { from, to, .. } => Some((*from, *to)),
        _ => None,
    });
    assert_eq!(cuts, [(2, 1)]);
}

/// KIP-279 (anomaly A3): leadership goes from 1 to 2 and back before 1 has fetched, both having written different
/// records at the same offsets. Broker 2 asks for the end of an epoch that broker 1 does not know.
#[test]
fn kip_279_a3_fast_leader_changes_leave_no_mixed_log() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a0", "a1", "a2"]);
    c.cut_both(1, 2);
    c.produce(1, 1, &["a3", "a4", "a5"]);
    c.deaf.insert(1);
    c.elect(2, &[1, 2]);
    c.run_ms(20);
    c.produce(2, 1, &["b3", "b4"]);
    c.run_ms(20);
    // Back to 1, which never saw epoch 1, and writes nothing: its epoch is known all the same.
    c.elect(1, &[1, 2]);
    c.deaf.clear();
    c.heal();
    c.set_isr(&[1, 2]);
    c.run_ms(3_000);
    let expected = strings(&["0:a0@0", "1:a1@0", "2:a2@0", "3:a3@0", "4:a4@0", "5:a5@0"]);
    assert_eq!(c.log(1), expected);
    assert_eq!(c.log(2), expected, "broker 2 cut exactly its own epoch's records");
    let epochs: Vec<(i32, i64)> =
        c.replica(1).log.unwrap().epochs().iter().map(|e| (e.epoch, e.start_offset)).collect();
    assert_eq!(epochs, [(0, 0), (2, 6)], "an epoch without records is registered");
}

#[test]
fn two_leaders_in_turn_write_at_the_same_offsets() {
    let mut c = Cluster::new(3);
    c.create_topic(&[1, 2, 3], 1);
    c.produce_all(1, &["a0"]);
    c.cut_both(1, 2);
    c.cut_both(1, 3);
    // The old leader hears nothing and goes on with acks=1.
    c.deaf.insert(1);
    let lost = c.produce(1, 1, &["x1", "x2"]);
    c.run_ms(20);
    assert_eq!(c.produced(lost), Some((ErrorCode::NONE, 1)), "acks=1 is acknowledged, and will be lost");
    c.elect(2, &[2, 3]);
    c.run_ms(1_100);
    c.produce_all(2, &["y1"]);
    c.heal();
    c.deaf.clear();
    c.elect(2, &[2, 3]);
    c.run_ms(3_000);
    assert_eq!(c.log(2), strings(&["0:a0@0", "1:y1@1"]));
    assert_eq!(c.log(1), c.log(2));
    assert_eq!(c.log(3), c.log(2));
    assert_eq!(c.leader_isr(2), [1, 2, 3], "sorted, once the leader has expanded it");
}

#[test]
fn acks_1_is_lost_with_its_leader() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["kept"]);
    c.cut_both(1, 2);
    let asked = c.produce(1, 1, &["lost"]);
    c.run_ms(20);
    assert_eq!(c.produced(asked), Some((ErrorCode::NONE, 1)));
    c.kill(1);
    c.heal();
    c.elect(2, &[2]);
    c.run_ms(20);
    c.start(1);
    c.run_ms(2_000);
    assert_eq!(c.log(2), strings(&["0:kept@0"]));
    assert_eq!(c.log(1), c.log(2));
}

#[test]
fn an_unclean_leader_cuts_its_successor() {
    let mut c = Cluster::configured(3, &[("replica.lag.time.max.ms", "2000")]);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a"]);
    // Broker 2 falls behind and leaves the ISR; broker 1 commits alone.
    c.cut_both(1, 2);
    c.produce(1, 1, &["b"]);
    c.run_ms(4_000);
    assert_eq!(c.leader_isr(1), [1]);
    c.produce_all(1, &["c"]);
    assert_eq!(c.high_watermark(1), 3);
    c.kill(1);
    c.heal();
    c.elect(2, &[2]);
    c.run_ms(20);
    c.produce_all(2, &["d"]);
    c.start(1);
    c.run_ms(3_000);
    assert_eq!(c.log(2), strings(&["0:a@0", "1:d@1"]));
    assert_eq!(c.log(1), c.log(2));
    let cuts = c.events_of(1, |e| match e {
        Event::LogTruncated { from, to, .. } => Some((*from, *to)),
        _ => None,
    });
    assert_eq!(cuts, [(3, 1)]);
}

#[test]
fn a_slow_follower_leaves_and_returns() {
    let mut c = Cluster::configured(3, &[("replica.lag.time.max.ms", "10000")]);
    c.create_topic(&[1, 2, 3], 1);
    c.produce_all(1, &["a"]);
    c.cut_both(1, 3);
    let asked = c.produce(1, -1, &["b"]);
    c.run_ms(9_000);
    assert_eq!(c.produced(asked), None, "the high watermark waits for the missing member");
    c.run_ms(7_000);
    assert_eq!(c.produced(asked), Some((ErrorCode::NONE, 1)));
    assert!((10_000..=15_500).contains(&c.took_ms(asked)), "{}", c.took_ms(asked));
    assert_eq!(c.leader_isr(1), [1, 2]);
    assert_eq!(c.replica(1).leader_epoch, 0, "the leader epoch stays");
    c.heal();
    c.run_ms(32_000);
    assert_eq!(c.leader_isr(1), [1, 2, 3]);
    assert_eq!(c.log(3), c.log(1));
    let changes = c.events_of(1, |e| match e {
        Event::IsrShrunk { from, to, .. } | Event::IsrExpanded { from, to, .. } => {
            Some((from.clone(), to.clone()))
        }
        _ => None,
    });
    assert_eq!(changes, [(vec![1, 2, 3], vec![1, 2]), (vec![1, 2], vec![1, 2, 3])]);
}

#[test]
fn an_idle_partition_keeps_its_isr() {
    let mut c = Cluster::configured(3, &[("replica.lag.time.max.ms", "2000")]);
    c.create_topic(&[1, 2, 3], 2);
    c.produce_all(1, &["a"]);
    c.run_ms(20_000);
    // After a long silence an append must not find the followers out of date.
    let asked = c.produce(1, -1, &["b"]);
    c.run_ms(20);
    assert_eq!(c.produced(asked), Some((ErrorCode::NONE, 1)));
    c.run_ms(5_000);
    assert!(c.proposals.is_empty(), "{:?}", c.proposals);
}

#[test]
fn a_follower_that_fell_silent_while_idle_is_missed_only_after_the_next_append() {
    let mut c = Cluster::configured(2, &[("replica.lag.time.max.ms", "4000")]);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a"]);
    c.run_ms(5_000);
    c.cut_both(1, 2);
    c.run_ms(1_000);
    let silent_since = c.now;
    c.run_ms(9_000);
    assert_eq!(c.leader_isr(1), [1, 2], "it has all there is");
    c.produce(1, 1, &["b"]);
    c.run_ms(2_100);
    assert_eq!(c.leader_isr(1), [1], "its last fetch was {silent_since:?}, longer ago than the lag allows");
}

#[test]
fn too_few_in_sync_replicas_refuse_acks_all() {
    let mut c = Cluster::configured(3, &[("replica.lag.time.max.ms", "2000")]);
    c.create_topic(&[1, 2, 3], 2);
    c.produce_all(1, &["a"]);
    c.set_isr(&[1]);
    c.cut_both(1, 2);
    c.cut_both(1, 3);
    c.run_ms(100);
    let all = c.produce(1, -1, &["b"]);
    let one = c.produce(1, 1, &["c"]);
    c.run_ms(20);
    assert_eq!(c.produced(all), Some((ErrorCode::NOT_ENOUGH_REPLICAS, -1)));
    assert_eq!(c.produced(one), Some((ErrorCode::NONE, 1)));
    c.run_ms(5_000);
    assert_eq!(c.high_watermark(1), 1, "below min.insync.replicas nothing is committed (KAFKA-15583)");
    c.heal();
    c.run_ms(32_000);
    assert_eq!(c.leader_isr(1), [1, 2, 3]);
    assert_eq!(c.high_watermark(1), 2);
}

#[test]
fn the_isr_shrinks_below_the_minimum_after_the_append() {
    let mut c = Cluster::configured(3, &[("replica.lag.time.max.ms", "2000")]);
    c.create_topic(&[1, 2, 3], 3);
    c.produce_all(1, &["a"]);
    c.cut_both(1, 3);
    let asked = c.produce_within(1, -1, 5_000, &["b"]);
    c.run_ms(6_000);
    // The high watermark does not move below the minimum: the request times out, and what it wrote stays.
    assert_eq!(c.produced(asked), Some((ErrorCode::REQUEST_TIMED_OUT, 1)));
    assert_eq!(c.end(1), 2);
}

#[test]
fn one_replica_accepts_acks_all_whatever_the_minimum() {
    let mut c = Cluster::new(1);
    c.create_topic(&[1], 2);
    let asked = c.produce(1, -1, &["a"]);
    c.run_ms(10);
    assert_eq!(c.produced(asked), Some((ErrorCode::NONE, 0)));
    assert_eq!(c.high_watermark(1), 1);
}

#[test]
fn a_new_leader_waits_for_its_isr_before_it_commits() {
    let mut c = Cluster::new(3);
    c.create_topic(&[1, 2, 3], 1);
    c.produce_all(1, &["a"]);
    c.kill(1);
    c.cut_both(2, 3);
    c.elect(2, &[2, 3]);
    let asked = c.produce_within(2, -1, 60_000, &["b"]);
    c.run_ms(3_000);
    assert_eq!(c.produced(asked), None, "broker 3 has not fetched in the new epoch");
    c.heal();
    c.run_ms(32_000);
    assert_eq!(c.produced(asked), Some((ErrorCode::NONE, 1)));
}

#[test]
fn what_waits_at_a_deposed_leader_is_answered() {
    let mut c = Cluster::new(3);
    c.create_topic(&[1, 2, 3], 2);
    c.produce_all(1, &["a"]);
    c.cut_both(1, 2);
    c.cut_both(1, 3);
    let asked = c.produce(1, -1, &["b"]);
    c.run_ms(100);
    assert_eq!(c.produced(asked), None);
    c.elect(2, &[2, 3]);
    c.run_ms(20);
    assert_eq!(c.produced(asked), Some((ErrorCode::NOT_LEADER_OR_FOLLOWER, 1)));
    let late = c.produce(1, -1, &["c"]);
    c.run_ms(20);
    assert_eq!(c.produced(late), Some((ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)));
}

#[test]
fn a_proposal_is_repeated_until_the_controller_answers() {
    let mut c = Cluster::configured(
        2,
        &[("replica.lag.time.max.ms", "2000"), ("controller.socket.timeout.ms", "1000")],
    );
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a"]);
    c.controller = Controller::Silent;
    c.kill(2);
    c.produce(1, 1, &["b"]);
    c.run_ms(8_000);
    assert!(c.proposals.len() >= 3, "{:?}", c.proposals);
    assert_eq!(c.high_watermark(1), 1, "the maximal ISR still has broker 2");
    c.controller = Controller::Decides;
    c.run_ms(3_000);
    assert_eq!((c.leader_isr(1), c.high_watermark(1)), (vec![1], 2));
}

#[test]
fn a_refused_proposal_falls_back_to_the_committed_isr() {
    let mut c = Cluster::configured(2, &[("replica.lag.time.max.ms", "2000")]);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a"]);
    c.set_isr(&[1]);
    c.controller = Controller::Refuses(ErrorCode::INELIGIBLE_REPLICA);
    c.run_ms(3_000);
    let refused = c.proposals.len();
    assert!(refused >= 2, "each fetch proposes anew: {refused}");
    assert_eq!(c.leader_isr(1), [1]);
    // With a proposal that may have been applied the leader waits for the metadata instead.
    c.controller = Controller::Refuses(ErrorCode::INVALID_UPDATE_VERSION);
    c.run_ms(3_000);
    let waiting = c.proposals.len();
    c.run_ms(3_000);
    assert_eq!(c.proposals.len(), waiting);
    c.controller = Controller::Decides;
    c.set_isr(&[1]);
    c.run_ms(2_000);
    assert_eq!(c.leader_isr(1), [1, 2]);
}

#[test]
fn a_fenced_follower_is_not_proposed() {
    let mut c = Cluster::configured(2, &[("replica.lag.time.max.ms", "2000")]);
    c.create_topic(&[1, 2], 1);
    c.fence(2);
    c.set_isr(&[1]);
    c.run_ms(3_000);
    assert!(c.proposals.is_empty());
    // It does not hold the high watermark back either.
    c.cut_both(1, 2);
    let asked = c.produce(1, -1, &["a"]);
    c.run_ms(20);
    assert_eq!(c.produced(asked), Some((ErrorCode::NONE, 0)));
    c.heal();
    c.unfence(2);
    c.run_ms(32_000);
    assert_eq!(c.leader_isr(1), [1, 2]);
    // The proposal names the incarnations that fetched (KIP-903).
    let (_, _, isr) = c.proposals.last().unwrap();
    assert_eq!(isr.as_slice(), [(1, 0), (2, 1)]);
}

#[test]
fn a_follower_far_behind_starts_over() {
    let mut c = Cluster::configured(2, &[("replica.lag.time.max.ms", "2000")]);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a", "b"]);
    c.kill(2);
    c.run_ms(4_000);
    for i in 0..5 {
        c.produce_all(1, &[["c", "d", "e", "f", "g"][i]]);
    }
    let request = super::clients::delete_records(0, 5);
    c.ask(1, 2, &request);
    c.run_ms(20);
    c.start(2);
    c.run_ms(3_000);
    assert_eq!(c.log(2), c.log(1));
    assert_eq!(c.replica(2).log.unwrap().log_start_offset(), 5);
    assert_eq!(c.leader_isr(1), [1, 2]);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut c = Cluster::configured(3, &[("replica.lag.time.max.ms", "2000")]);
        c.create_topic(&[1, 2, 3], 2);
        c.produce_all(1, &["a"]);
        c.kill(1);
        c.elect(2, &[2, 3]);
        c.run_ms(1_500);
        c.produce_all(2, &["b"]);
        c.start(1);
        c.run_ms(5_000);
        c.events
    };
    assert_eq!(run(), run());
}

/// Cut off from the controller and from its followers, a leader goes on believing that it leads (anomaly A13).
#[test]
fn a_zombie_leader_acknowledges_nothing_with_acks_all() {
    let mut c = Cluster::configured(3, &[("replica.lag.time.max.ms", "3000")]);
    c.create_topic(&[1, 2, 3], 2);
    c.produce_all(1, &["a"]);
    c.cut_controller(1, true);
    c.cut_both(1, 2);
    c.cut_both(1, 3);
    c.deaf.insert(1);
    c.fence(1);
    c.elect(2, &[2, 3]);
    c.run_ms(1_500);
    let zombie = c.produce_within(1, -1, 5_000, &["z"]);
    c.produce_all(2, &["b"]);
    c.run_ms(10_000);
    assert_eq!(c.produced(zombie), Some((ErrorCode::REQUEST_TIMED_OUT, 1)));
    assert_eq!(c.high_watermark(1), 1, "its proposals never arrive, its high watermark stands still");
    c.cut_controller(1, false);
    c.heal();
    c.deaf.clear();
    c.unfence(1);
    c.run_ms(35_000);
    assert_eq!(c.log(1), strings(&["0:a@0", "1:b@1"]));
    assert_eq!(c.leader_isr(2), [1, 2, 3]);
}

//! Flushing: tickets, recovery point, epochs, and what a power loss leaves.

use super::*;

use crate::disk::DiskError;
use crate::testing::{Fault, Op, Unsynced};

/// A log on a disk whose syncs complete by hand.
fn manual(config: LogConfig) -> Bench {
    let mut bench = Bench::new(config);
    // The names of its files are durable; what follows is about their content.
    bench.log.close(at_s(0), &mut bench.disk, &StdCodecs).unwrap();
    bench.give_back();
    bench.log.take_tickets();
    bench.disk.set_manual(true);
    bench
}

impl Bench {
    /// Gives all finished syncs to the log.
    fn give_back(&mut self) -> Vec<Synced> {
        let done = self.disk.take_synced();
        done.into_iter().map(|(ticket, result)| self.log.synced(ticket, result)).collect()
    }
}

#[test]
fn the_recovery_point_follows_the_last_ticket() {
    let mut bench = manual(LogConfig::default());
    bench.append(1, &batch(3, 10, t(0)), 0).unwrap();
    assert!(!bench.log.epochs_durable(), "the first epoch is being written");
    bench.log.flush(at_s(1), &mut bench.disk);
    let tickets = bench.log.take_tickets();
    assert_eq!(tickets.len(), 2, "the epoch checkpoint and the log file; the empty indexes are clean");
    assert!(bench.log.flushing());
    // What is appended while the flush is under way is not part of it.
    bench.append(1, &batch(2, 10, t(0)), 0).unwrap();
    bench.disk.complete(tickets[1]);
    assert_eq!(bench.give_back(), [Synced::Waiting]);
    assert_eq!(bench.log.recovery_point(), 0, "records without their epoch are not durable");
    bench.disk.complete(tickets[0]);
    assert_eq!(bench.give_back(), [Synced::Flushed { recovery_point: 3 }]);
    assert!(bench.log.epochs_durable() && !bench.log.flushing());
    assert_eq!(bench.log.synced(crate::disk::Ticket(999), Ok(())), Synced::NotMine);

    bench.log.flush(at_s(1), &mut bench.disk);
    bench.log.flush(at_s(1), &mut bench.disk);
    assert_eq!(bench.log.take_tickets().len(), 1, "the second flush finds the first under way");
}

#[test]
fn flushes_count_in_their_order() {
    let mut bench = manual(LogConfig::default());
    bench.log.assign_epoch(&mut bench.disk, 0, 0);
    let mut flushes = Vec::new();
    for _ in 0..3 {
        bench.append(1, &batch(1, 10, t(0)), 0).unwrap();
        bench.log.flush(at_s(1), &mut bench.disk);
        flushes.push(bench.log.take_tickets());
    }
    let epoch = flushes[0][0];
    for ticket in [flushes[2][0], flushes[0][1], epoch] {
        bench.disk.complete(ticket);
    }
    let back = bench.give_back();
    assert_eq!(back[..2], [Synced::Waiting, Synced::Waiting]);
    assert_eq!(back[2], Synced::Flushed { recovery_point: 1 }, "the second flush is still under way");
    bench.disk.complete(flushes[1][0]);
    assert_eq!(bench.give_back(), [Synced::Flushed { recovery_point: 3 }]);
}

#[test]
fn a_flush_under_way_says_nothing_of_what_was_cut_since() {
    let mut bench = manual(LogConfig::default());
    bench.append(1, &batch(5, 10, t(0)), 0).unwrap();
    bench.append(1, &batch(5, 10, t(0)), 0).unwrap();
    bench.log.flush(at_s(1), &mut bench.disk);
    bench.log.truncate_to(at_s(1), &mut bench.disk, &StdCodecs, 5).unwrap();
    bench.append(1, &batch(5, 10, t(0)), 1).unwrap();
    bench.disk.complete_all().into_iter().for_each(|(ticket, result)| {
        bench.log.synced(ticket, result);
    });
    assert_eq!(bench.log.recovery_point(), 5);
}

#[test]
fn a_failed_sync_is_told() {
    let mut bench = manual(LogConfig::default());
    let fault = Fault { op: Op::Sync, path_contains: ".log".into(), error: DiskError::Io, times: 1 };
    bench.disk.inject(fault);
    bench.append(1, &batch(1, 10, t(0)), 0).unwrap();
    bench.log.flush(at_s(1), &mut bench.disk);
    let results: Vec<_> = bench
        .disk
        .complete_all()
        .into_iter()
        .map(|(ticket, result)| bench.log.synced(ticket, result))
        .collect();
    assert!(results.contains(&Synced::Failed(DiskError::Io)));
    assert_eq!(bench.log.recovery_point(), 0);
}

#[test]
fn flush_messages_and_flush_ms() {
    let mut bench = manual(LogConfig { flush_messages: 4, flush_ms: 3_000, ..LogConfig::default() });
    bench.append(1, &batch(3, 10, t(0)), 0).unwrap();
    assert_eq!(bench.log.take_tickets().len(), 1, "the epoch only");
    assert!(!bench.log.flush_needed(at_s(2)));
    assert!(bench.log.flush_needed(at_s(3)), "3 s after the last flush");
    bench.append(1, &batch(1, 10, t(0)), 0).unwrap();
    assert!(!bench.log.take_tickets().is_empty(), "the fourth message flushes");
    assert!(!bench.log.flush_needed(at_s(9)), "nothing but what is under way");
    let mut idle = manual(LogConfig { flush_ms: 3_000, ..LogConfig::default() });
    assert!(!idle.log.flush_needed(at_s(99)));
    idle.log.flush(at_s(99), &mut idle.disk);
    assert!(idle.log.take_tickets().is_empty() || idle.log.recovery_point() == 0);
}

#[test]
fn a_roll_flushes_what_it_leaves_behind() {
    let mut bench = manual(small(500));
    while bench.log.segment_count() < 2 {
        bench.append(1, &batch(1, 100, t(0)), 0).unwrap();
    }
    let base = bench.log.active_segment_base();
    assert_eq!(bench.log.recovery_point(), 0);
    for (ticket, result) in bench.disk.complete_all() {
        bench.log.synced(ticket, result);
    }
    assert_eq!(bench.log.recovery_point(), base);
    // The name of the new segment is durable too.
    bench.disk.power_loss(Unsynced::Lost);
    assert!(bench.names().contains(&alloc::format!("{base:020}.log")));
}

#[test]
fn a_closed_log_survives_the_power() {
    let mut bench = manual(small(600));
    for i in 0..20 {
        bench.append(1, &batch(2, 60, t(i)), i as i32 / 7).unwrap();
    }
    let stored = bench.read_all();
    bench.log.close(at_s(1), &mut bench.disk, &StdCodecs).unwrap();
    for (ticket, result) in bench.disk.complete_all() {
        bench.log.synced(ticket, result);
    }
    assert!(!bench.log.flushing());
    assert_eq!(bench.log.recovery_point(), 40);
    bench.disk.power_loss(Unsynced::Lost);
    let epochs = bench.log.epochs().to_vec();
    let (mut again, recovered) = bench.reopen(true);
    assert_eq!(recovered, Recovered::default());
    assert_eq!(again.read_all(), stored);
    assert_eq!(again.log.epochs(), epochs);
}

#[test]
fn an_empty_log_that_was_closed_is_there_after_the_power_loss() {
    let mut bench = Bench::new(LogConfig::default());
    bench.disk.set_manual(true);
    bench.log.close(at_s(0), &mut bench.disk, &StdCodecs).unwrap();
    for (ticket, result) in bench.disk.complete_all() {
        bench.log.synced(ticket, result);
    }
    bench.disk.power_loss(Unsynced::Lost);
    assert_eq!(
        bench.names(),
        ["00000000000000000000.index", "00000000000000000000.log", "00000000000000000000.timeindex"]
    );
}

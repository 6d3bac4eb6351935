//! Files: restarts, checkpoints, the clean-shutdown mark, deletion, stray logs, failures, flushing.

use alloc::string::String;
use alloc::vec::Vec;
use wire::records::{MetadataRecord, RemoveTopicRecord};
use wire::{ErrorCode, Uuid};

use super::super::ReplicaRole;
use super::cluster::{Cluster, TOPIC_ID, keyed, produce_request};
use crate::disk::{Disk as _, DiskError};
use crate::event::Event;
use crate::log::LogDir;
use crate::testing::{Fault, Op, Unsynced};

fn names(c: &mut Cluster, id: i32) -> Vec<String> {
    c.disk_mut(id).list("data").unwrap()
}

#[test]
fn a_clean_shutdown_leaves_everything_behind_it() {
    let mut c = Cluster::new(1);
    c.create_topic(&[1], 1);
    c.produce_all(1, &["a", "b"]);
    let epoch = 0;
    c.stop(1);
    // Even if the power fails right after it.
    c.power_off(1, Unsynced::Lost);
    let mut disk = c.broker(1).disk.clone();
    let dir = LogDir::open("data", &mut disk).unwrap();
    assert_eq!((dir.clean, dir.clean_broker_epoch), (true, Some(epoch)));
    let state = dir.load_state("purchases", 0);
    assert_eq!((state.recovery_point, state.high_watermark), (2, 2));
    c.start(1);
    c.run_ms(10);
    assert_eq!((c.end(1), c.high_watermark(1)), (2, 2));
    assert_eq!(c.replica(1).role, ReplicaRole::Leader);
}

#[test]
fn the_high_watermark_is_written_every_five_seconds() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a"]);
    c.run_ms(5_100);
    c.produce_all(1, &["b"]);
    c.kill(2);
    let mut disk = c.broker(2).disk.clone();
    let dir = LogDir::open("data", &mut disk).unwrap();
    assert_eq!(dir.load_state("purchases", 0).high_watermark, 1);
    assert!(!dir.clean);
}

/// Nobody writes to the directory: the checkpoint of high watermarks that did not change shows that it has failed.
#[test]
fn a_directory_that_is_quiet_is_seen_to_fail() {
    let mut c = Cluster::configured(2, &[("log.dirs", "data,more")]);
    c.create_topic(&[1, 2], 1);
    c.add_partition(1, &[1, 2]);
    c.run_ms(6_000);
    let fault = Fault { op: Op::Sync, path_contains: "more".into(), error: DiskError::Io, times: 1 };
    c.disk_mut(1).inject(fault);
    c.run_ms(5_100);
    let offline = c.broker(1).manager.partitions().filter(|r| r.role == ReplicaRole::Offline).count();
    assert_eq!((offline, c.broker(1).stopped), (1, false), "the other one has not failed");
}

#[test]
fn a_deleted_topic_is_renamed_and_removed_later() {
    let mut c = Cluster::new(1);
    c.create_topic(&[1], 1);
    c.produce_all(1, &["a"]);
    c.publish(MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: TOPIC_ID }));
    c.run_ms(10);
    assert_eq!(c.broker(1).manager.partitions().count(), 0);
    let left = names(&mut c, 1);
    assert!(left.iter().any(|n| n.starts_with("purchases-0.") && n.ends_with("-delete")), "{left:?}");
    assert!(!left.iter().any(|n| n == "purchases-0"));
    c.run_ms(61_000);
    let left = names(&mut c, 1);
    assert!(!left.iter().any(|n| n.starts_with("purchases")), "{left:?}");
}

#[test]
fn a_log_that_is_no_longer_of_this_broker_is_put_aside() {
    let mut c = Cluster::new(1);
    c.create_topic(&[1], 1);
    c.produce_all(1, &["a"]);
    c.kill(1);
    c.publish(MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: TOPIC_ID }));
    c.start(1);
    c.run_ms(70_000);
    let left = names(&mut c, 1);
    assert!(left.iter().any(|n| n.starts_with("purchases-0.") && n.ends_with("-stray")), "{left:?}");
}

#[test]
fn a_failed_write_takes_the_log_directory_offline() {
    let mut c = Cluster::configured(2, &[("log.dirs", "data,more")]);
    c.create_topic(&[1, 2], 1);
    c.add_partition(1, &[1, 2]);
    c.run_ms(1_000);
    let waiting = {
        c.cut_both(1, 2);
        c.produce(1, -1, &["a"])
    };
    c.run_ms(20);
    let dir = String::from(c.replica(1).log.unwrap().dir().split('/').next().unwrap());
    let fault = Fault { op: Op::Append, path_contains: dir.clone(), error: DiskError::Io, times: 1 };
    c.disk_mut(1).inject(fault);
    let asked = c.produce(1, 1, &["b"]);
    c.run_ms(20);
    assert_eq!(c.produced(asked), Some((ErrorCode::KAFKA_STORAGE_ERROR, -1)));
    assert_eq!(c.produced(waiting), Some((ErrorCode::KAFKA_STORAGE_ERROR, 0)));
    assert_eq!(c.replica(1).role, ReplicaRole::Offline);
    let again = c.produce(1, 1, &["c"]);
    c.run_ms(20);
    assert_eq!(c.produced(again), Some((ErrorCode::KAFKA_STORAGE_ERROR, -1)));
    let offline = c.events_of(1, |e| match e {
        Event::LogDirOffline { dir, .. } => Some(dir.clone()),
        _ => None,
    });
    assert_eq!(offline, [dir]);
    assert_eq!(c.with(1, |m, _, _| m.take_failed_dirs()), [Uuid::ZERO]);
    let other = Uuid([201; 16]);
    assert_eq!(c.assignments, [(1, 1, other), (2, 1, other)], "the controller knows what lies where");
    let online = c.broker(1).manager.partitions().filter(|r| r.role != ReplicaRole::Offline).count();
    assert_eq!(online, 1, "the other directory's partition goes on");
}

#[test]
fn a_full_disk_halts_a_broker_with_one_directory() {
    let mut c = Cluster::new(1);
    c.create_topic(&[1], 1);
    c.produce_all(1, &["a"]);
    c.disk_mut(1).set_capacity(Some(1));
    let asked = c.produce(1, -1, &["b"]);
    c.run_ms(20);
    assert_eq!(c.produced(asked), Some((ErrorCode::KAFKA_STORAGE_ERROR, -1)));
    assert!(c.broker(1).stopped);
}

#[test]
fn nothing_is_appended_before_the_epoch_is_durable() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    c.produce_all(1, &["a"]);
    c.disk_mut(2).set_manual(true);
    c.elect(2, &[1, 2]);
    c.run_ms(20);
    let asked = c.produce(2, 1, &["b"]);
    c.run_ms(50);
    assert_eq!((c.produced(asked), c.end(2)), (None, 1));
    c.disk_mut(2).set_manual(false);
    for (ticket, result) in c.disk_mut(2).complete_all() {
        c.with(2, |m, ctx, image| m.synced(ctx, image, ticket, result));
    }
    c.run_ms(20);
    assert_eq!(c.produced(asked), Some((ErrorCode::NONE, 1)));
}

#[test]
fn flush_messages_1_acknowledges_only_what_is_durable() {
    let mut c = Cluster::new(2);
    c.create_topic(&[1, 2], 1);
    c.set_topic_config("flush.messages", "1");
    c.run_ms(20);
    c.produce_all(1, &["a"]);
    for acks in [1, -1] {
        c.disk_mut(1).set_manual(true);
        let before = c.high_watermark(1);
        let asked = c.produce(1, acks, &["b"]);
        c.run_ms(1_000);
        assert_eq!((c.produced(asked), c.high_watermark(1)), (None, before), "acks={acks}");
        c.disk_mut(1).set_manual(false);
        for (ticket, result) in c.disk_mut(1).complete_all() {
            c.with(1, |m, ctx, image| m.synced(ctx, image, ticket, result));
        }
        c.run_ms(600);
        assert_eq!(c.produced(asked).unwrap().0, ErrorCode::NONE);
    }
    // A follower's fetch is proof of what it has: it waits for its own disk.
    c.disk_mut(2).set_manual(true);
    let asked = c.produce(1, -1, &["c"]);
    c.run_ms(1_000);
    assert_eq!(c.produced(asked), None);
    c.disk_mut(2).set_manual(false);
    for (ticket, result) in c.disk_mut(2).complete_all() {
        c.with(2, |m, ctx, image| m.synced(ctx, image, ticket, result));
    }
    c.run_ms(600);
    assert_eq!(c.produced(asked).unwrap().0, ErrorCode::NONE);
    c.power_off(1, Unsynced::Lost);
    c.power_off(2, Unsynced::Lost);
    c.start(1);
    c.start(2);
    assert_eq!((c.end(1), c.end(2)), (4, 4));
}

#[test]
fn compacted_logs_are_cleaned_in_steps_and_the_checkpoint_says_how_far() {
    let mut c = Cluster::configured(2, &[("log.cleaner.backoff.ms", "1000")]);
    c.create_topic(&[1, 2], 1);
    c.set_topic_config("cleanup.policy", "compact");
    c.set_topic_config("internal.segment.bytes", "200");
    c.run_ms(10);
    for i in 0..20 {
        let batch = keyed(&alloc::format!("key-{}", i % 3));
        let asked = c.ask(1, 12, &produce_request(-1, 1_000, 0, batch));
        c.run_ms(20);
        assert_eq!(c.produced(asked).unwrap().0, ErrorCode::NONE);
    }
    c.run_ms(5_000);
    let cleaned = |c: &Cluster, id| {
        c.events_of(id, |event| match event {
            Event::LogCleaned { first_dirty, bytes_before, bytes_after, .. } => {
                Some((*first_dirty, bytes_after < bytes_before))
            }
            _ => None,
        })
    };
    for id in [1, 2] {
        let active = c.replica(id).log.unwrap().active_segment_base();
        assert_eq!(cleaned(&c, id).last(), Some(&(active, true)), "broker {id}");
        c.kill(id);
        let mut disk = c.broker(id).disk.clone();
        assert_eq!(LogDir::open("data", &mut disk).unwrap().cleaner_offset("purchases", 0), Some(active));
        c.start(id);
        c.run_ms(2_000);
        assert_eq!(c.end(id), 20);
    }
}

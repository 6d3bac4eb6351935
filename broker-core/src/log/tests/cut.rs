//! Truncation, log start, retention, deletion.

use super::*;

/// Ten segments of two batches of two records each; leader epochs 0 to 4, four batches each.
fn filled() -> Bench {
    let size = batch(2, 50, t(0)).len() as u32;
    let mut bench =
        Bench::new(LogConfig { segment_bytes: 2 * size, index_interval_bytes: 1, ..LogConfig::default() });
    for i in 0..20 {
        bench.append(i, &batch(2, 50, t(i as i64)), i as i32 / 4).unwrap();
    }
    assert_eq!((bench.log.segment_count(), bench.log.log_end_offset()), (10, 40));
    bench
}

#[test]
fn truncation_at_every_offset_leaves_a_prefix() {
    let mut all = filled();
    let stored = all.read_all();
    for offset in 0..=41 {
        let mut bench = all.clone();
        bench.log.update_high_watermark(20);
        let truncated = bench.log.truncate_to(at_s(99), &mut bench.disk, &StdCodecs, offset).unwrap();
        assert_eq!((truncated.from, truncated.to), (40, offset.min(40)), "to {offset}");
        assert_eq!(truncated.below_high_watermark, offset < 20);
        assert_eq!(bench.log.high_watermark(), offset.min(20));
        assert_eq!(bench.log.log_end_offset(), offset.min(40));
        // A batch that the offset lies within goes whole.
        assert_eq!(bench.read_all(), stored[..(offset.min(40) / 2) as usize], "to {offset}");
        let epochs: Vec<i32> = bench.log.epochs().iter().map(|e| e.epoch).collect();
        let want: Vec<i32> = (0..5).filter(|e| i64::from(*e) * 8 < offset.min(40)).collect();
        assert_eq!(epochs, want);
        let (offsets, times) = bench.indexes(bench.log.active_segment_base());
        assert!(offsets.iter().all(|e| e.0 < offset) && times.iter().all(|e| e.1 < offset));
        // And the log goes on there.
        let at = offset.min(40) / 2 * 2;
        if at == offset.min(40) {
            bench.append(99, &batch(2, 50, t(99)), 9).unwrap();
            assert_eq!(bench.read_all().len() as i64, at / 2 + 1);
            assert_eq!(bench.log.max_timestamp(), t(99) + 1);
        }
    }
}

#[test]
fn truncation_recomputes_the_largest_timestamp() {
    let mut bench = Bench::new(LogConfig::default());
    for seconds in [1, 9, 3, 4] {
        bench.append(0, &batch(1, 10, t(seconds)), 0).unwrap();
    }
    bench.log.truncate_to(at_s(0), &mut bench.disk, &StdCodecs, 3).unwrap();
    assert_eq!(bench.log.max_timestamp(), t(9));
    bench.log.truncate_to(at_s(0), &mut bench.disk, &StdCodecs, 1).unwrap();
    assert_eq!(bench.log.max_timestamp(), t(1));
    bench.log.truncate_to(at_s(0), &mut bench.disk, &StdCodecs, 0).unwrap();
    assert_eq!(bench.log.max_timestamp(), -1);
}

#[test]
fn an_epoch_in_which_nothing_was_written_goes_with_any_truncation() {
    let mut bench = filled();
    bench.log.assign_epoch(&mut bench.disk, 7, 40);
    assert_eq!(bench.log.end_offset_for_epoch(4), EpochEnd { epoch: 4, offset: 40 });
    let truncated = bench.log.truncate_to(at_s(0), &mut bench.disk, &StdCodecs, 40).unwrap();
    assert_eq!(truncated.from, truncated.to);
    assert_eq!(bench.log.latest_epoch(), Some(4));
    assert_eq!(
        checkpoint::parse_epochs(&bench.disk.read_file("data/t-0/leader-epoch-checkpoint").unwrap()).unwrap(),
        bench.log.epochs()
    );
}

#[test]
fn truncation_lowers_the_recovery_point_and_drops_later_snapshots() {
    let mut bench = filled();
    bench.log.flush(at_s(0), &mut bench.disk);
    for (ticket, result) in bench.disk.take_synced() {
        bench.log.synced(ticket, result);
    }
    assert_eq!(bench.log.recovery_point(), 40);
    let before: Vec<_> = bench.names().into_iter().filter(|n| n.ends_with(".snapshot")).collect();
    assert!(before.iter().any(|n| *n > alloc::format!("{:020}", 10)), "{before:?}");
    bench.log.truncate_to(at_s(0), &mut bench.disk, &StdCodecs, 10).unwrap();
    assert_eq!(bench.log.recovery_point(), 10);
    let snapshots: Vec<_> = bench.names().into_iter().filter(|n| n.ends_with(".snapshot")).collect();
    assert!(!snapshots.is_empty() && snapshots.iter().all(|n| before.contains(n)), "{snapshots:?}");
    assert!(snapshots.iter().all(|n| *n <= alloc::format!("{:020}.snapshot", 10)), "{snapshots:?}");
}

#[test]
fn starting_anew_elsewhere() {
    let mut bench = filled();
    bench.log.truncate_fully_and_start_at(at_s(0), &mut bench.disk, 1_000).unwrap();
    assert_eq!(
        (bench.log.log_start_offset(), bench.log.log_end_offset(), bench.log.high_watermark()),
        (1_000, 1_000, 1_000)
    );
    assert!(bench.log.epochs().is_empty());
    assert_eq!(bench.append(0, &batch(1, 10, t(0)), 3).unwrap().base_offset, 1_000);
    // Back to below the first segment: everything goes as well.
    bench.log.truncate_to(at_s(0), &mut bench.disk, &StdCodecs, 5).unwrap();
    assert_eq!((bench.log.log_start_offset(), bench.log.log_end_offset()), (5, 5));
    // The same base again, while the files of the first one wait for their removal.
    bench.log.truncate_fully_and_start_at(at_s(0), &mut bench.disk, 5).unwrap();
    bench.append(0, &batch(1, 10, t(0)), 3).unwrap();
    let stored = bench.read_all();
    assert_eq!(bench.log.deadline(), Some(at_s(60).mono));
    bench.log.on_timer(at_s(59), &mut bench.disk).unwrap();
    assert!(bench.names().iter().any(|n| n.ends_with(".deleted")));
    bench.log.on_timer(at_s(60), &mut bench.disk).unwrap();
    assert!(!bench.names().iter().any(|n| n.ends_with(".deleted")));
    assert_eq!(bench.log.deadline(), None);
    assert_eq!(bench.reopen(true).0.read_all(), stored);
}

#[test]
fn the_log_start_moves_up_to_the_high_watermark() {
    let mut bench = filled();
    bench.log.update_high_watermark(21);
    assert!(bench.log.increment_log_start_offset(&mut bench.disk, 10));
    assert!(!bench.log.increment_log_start_offset(&mut bench.disk, 9));
    assert_eq!(bench.log.epochs()[0], epoch_cache::EpochEntry { epoch: 1, start_offset: 10 });
    assert!(bench.log.increment_log_start_offset(&mut bench.disk, 99));
    assert_eq!(bench.log.log_start_offset(), 21);
    let error = bench.log.read(&mut bench.disk, 20, 99, 99, true).unwrap_err();
    assert!(matches!(error, ReadError::OffsetOutOfRange { log_start_offset: 21, .. }));
    // Whole segments below go, however young they are: that of 20 to 23 stays.
    let deleted = bench.log.delete_old_segments(at_s(20), &mut bench.disk, &StdCodecs).unwrap();
    assert_eq!(deleted[..], [Deleted { count: 5, why: DeleteReason::LogStartOffset(21) }]);
    assert_eq!(bench.log.first_segment_base(), 20);
    let (again, _) = bench.reopen(true);
    assert_eq!(again.log.log_start_offset(), 21);
}

#[test]
fn retention() {
    let size = batch(2, 50, t(0)).len() as i64;
    let forever = |log: &LogConfig| LogConfig { retention_ms: -1, ..log.clone() };
    let base = filled().log.config().clone();
    // Segment i holds timestamps up to (2 i + 1) s and a millisecond.
    for (why, config, now, high_watermark, first) in [
        ("nothing is old", base.clone(), 20, 40, 0),
        ("by time", LogConfig { retention_ms: 10_000, ..base.clone() }, 20, 40, 20),
        ("not above the high watermark", LogConfig { retention_ms: 10_000, ..base.clone() }, 20, 9, 8),
        ("all is old", LogConfig { retention_ms: 10_000, ..base.clone() }, 99, 40, 40),
        ("by size", LogConfig { retention_bytes: 7 * size, ..forever(&base) }, 20, 40, 24),
        ("by size, exactly", LogConfig { retention_bytes: 20 * size, ..forever(&base) }, 20, 40, 0),
        ("compacted only", LogConfig { retention_bytes: 0, delete: false, ..base.clone() }, 99, 40, 0),
    ] {
        let mut bench = filled();
        bench.log.set_config(config);
        bench.log.update_high_watermark(high_watermark);
        bench.log.delete_old_segments(at_s(now), &mut bench.disk, &StdCodecs).unwrap();
        assert_eq!(bench.log.first_segment_base(), first, "{why}");
        assert_eq!(bench.log.log_start_offset(), first, "{why}");
        assert_eq!(bench.read_all().len() as i64, (40 - first) / 2, "{why}");
        bench.append(99, &batch(1, 5, t(99)), 5).unwrap();
    }
}

#[test]
fn a_deleted_log_steps_aside_at_once() {
    let mut bench = filled();
    bench.log.rename_for_delete(&mut bench.disk, wire::Uuid([0x0f; 16])).unwrap();
    assert!(!bench.disk.exists(DIR));
    assert_eq!(bench.log.dir(), alloc::format!("data/t-0.{}-delete", "0f".repeat(16)));
    assert_eq!(bench.read(0).len(), batch(2, 50, t(0)).len() * 2, "a fetch under way still reads");
    let mut new = Bench::open(bench.disk.clone(), LogConfig::default(), LoadState::NEW).0;
    assert_eq!(new.log.log_end_offset(), 0);
    bench.log.delete(&mut new.disk).unwrap();
    assert_eq!(new.disk.list("data").unwrap(), ["t-0"]);
}

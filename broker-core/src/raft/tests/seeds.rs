//! Clusters under faults from seeds: crashes, power losses, cuts, lost messages, slow disks; then they heal, and must
//! converge.

extern crate std;

use rand_core::Rng as _;
use wire::drive::Nanos;

use super::cluster::{Chaos, Cluster};
use super::stories::secs;
use crate::testing::Unsynced;

fn one_of<T: Copy>(cluster: &mut Cluster, choices: &[T]) -> T {
    choices[cluster.chance.next_u32() as usize % choices.len()]
}

/// One fault, or the end of one.
fn disturb(cluster: &mut Cluster) {
    let ids: alloc::vec::Vec<i32> = cluster.hosts.keys().copied().collect();
    let id = match cluster.leader() {
        Some(leader) if cluster.chance.next_u32().is_multiple_of(3) => leader,
        _ => one_of(cluster, &ids),
    };
    let runs = cluster.hosts[&id].process.is_some();
    match cluster.chance.next_u32() % 10 {
        0 | 1 if runs => cluster.kill(id),
        2 | 3 if runs => {
            let part = cluster.chance.next_u32() % 1_000;
            let unsynced = one_of(cluster, &[Unsynced::Lost, Unsynced::Kept, Unsynced::Part(part)]);
            cluster.power_off(id, unsynced, true);
        }
        4 if runs => cluster.shut_down(id),
        5 => cluster.isolate(id),
        6 => {
            let other = one_of(cluster, &ids);
            cluster.cut.insert((id, other));
        }
        7 => cluster.cut.clear(),
        8 if id >= 11 => {
            if runs {
                cluster.kill(id);
            }
            cluster.wipe(id);
        }
        _ => cluster.chaos.lost = one_of(cluster, &[0, 0, 20, 200]),
    }
    for id in ids {
        let later = Nanos::from_millis(u64::from(cluster.chance.next_u32() % 1_500));
        cluster.start_later(id, later);
    }
}

/// Says which seed it was when a run panics.
pub(super) struct Named(pub(super) u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::eprintln!("in the run of seed {}", self.0);
        }
    }
}

fn run(seed: u64) {
    let _named = Named(seed);
    let voters = if seed.is_multiple_of(4) { 5 } else { 3 };
    let mut cluster = Cluster::new(seed, voters, 1 + (seed % 2) as i32);
    let slow = cluster.chance.next_u64() % 3 * 5_000;
    cluster.chaos = Chaos {
        latency_us: (100, 1 + cluster.chance.next_u64() % 30_000),
        lost: 0,
        sync_us: (50, 1_000 + slow),
        slow_disk: None,
        through_wire: seed.is_multiple_of(16),
    };
    if seed.is_multiple_of(3) {
        cluster.adjust = |config| {
            config.max_bytes_between_snapshots = 600;
            config.fetch_snapshot_max_bytes = 250;
        };
    }
    cluster.append_every = Some((20, 100));
    cluster.start_all();
    cluster.run_for(secs(2));
    for _ in 0..8 {
        disturb(&mut cluster);
        let pause = Nanos::from_millis(u64::from(cluster.chance.next_u32() % 1_200));
        cluster.run_for(pause);
    }
    // Heal: all links, all hosts. A node that was shut down is started anew, as an operator would.
    cluster.cut.clear();
    cluster.chaos = Chaos::default();
    for id in cluster.hosts.keys().copied().collect::<alloc::vec::Vec<_>>() {
        if cluster.hosts[&id].process.as_ref().is_some_and(|process| process.raft.shutdown.is_some()) {
            cluster.kill(id);
        }
        cluster.start_later(id, Nanos::ZERO);
    }
    cluster.run_for(secs(1));
    cluster.append_every = None;
    cluster.run_until("convergence after the faults", secs(20), Cluster::has_converged);
    let leader = cluster.leader().unwrap();
    let at = cluster.append(leader).unwrap();
    cluster.run_until("a commit after the faults", secs(5), |c| {
        c.running().all(|(_, process)| process.applied > at.last_offset)
    });
}

/// More with `RAFT_SEEDS=A..B`, given when the tests are built.
#[test]
fn safe_under_faults_and_alive_after_them() {
    let (from, to) = match option_env!("RAFT_SEEDS").and_then(|range| range.split_once("..")) {
        Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
        None => (0, 150),
    };
    for seed in from..to {
        run(seed);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let trace = |seed| {
        let mut cluster = Cluster::new(seed, 3, 1);
        cluster.history.keep_events = true;
        cluster.append_every = Some((20, 100));
        cluster.start_all();
        for _ in 0..10 {
            disturb(&mut cluster);
            cluster.run_for(Nanos::from_millis(300));
        }
        let picture = cluster.picture();
        (cluster.history.messages, cluster.history.events, picture)
    };
    assert!(trace(7) == trace(7));
    assert!(trace(7) != trace(8));
}

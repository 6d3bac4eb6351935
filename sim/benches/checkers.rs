//! What the checkers cost: the reference failover and minutes of chaos with all of them, and with none.
//!
//! Both run in this process, one after the other, so that what else the machine does strikes both alike; time is
//! processor time, the best of several. `cargo bench -p highwater-sim --bench checkers`.

use std::path::Path;
use std::time::Duration;

use sim::runner::{RunOptions, run, run_unchecked};
use sim::scenario::{Scenario, load};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// All checkers together may take so much of a run's time.
const BUDGET: f64 = 0.25;
/// Each seed of chaos has its own cluster and faults: so many are summed.
const CHAOTIC: u64 = 8;

/// What is measured: its name, its scenario, its seeds, and how often each is run.
fn cases() -> Vec<(&'static str, Scenario, Vec<u64>, usize)> {
    let scenario = |path: &str, variant| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(path);
        let sheet = load(&path).expect("a scenario of this repository");
        sheet.variant(variant).expect("one of its variants")
    };
    let failover = "bench/reference-failover.json";
    vec![
        ("failover", scenario(failover, None), vec![7], 12),
        ("failover, keys", scenario(failover, Some("keys")), vec![7], 12),
        ("minutes of chaos", scenario("chaos/everything.json", None), (1..=CHAOTIC).collect(), 4),
    ]
}

/// The least time that a run took with all checkers, and with none.
fn measure(scenario: &Scenario, seed: u64, repeated: usize) -> (Duration, Duration) {
    let timed = |checked: bool| {
        let options = RunOptions { seed, keep_disks: None, trace: false, reproduce: String::new() };
        let run = if checked { run } else { run_unchecked };
        let start = cpu_time::ProcessTime::now();
        let outcome = run(scenario, &options).expect("it runs");
        (start.elapsed(), outcome.trail.end)
    };
    let (mut with, mut without) = (Duration::MAX, Duration::MAX);
    for _ in 0..repeated {
        let ((a, first), (b, second)) = (timed(true), timed(false));
        assert_eq!(first, second, "checkers change nothing");
        (with, without) = (with.min(a), without.min(b));
    }
    (with, without)
}

fn main() {
    println!("{:<22}{:>12}{:>12}{:>10}", "", "checked ms", "without ms", "share");
    let mut held = true;
    for (name, scenario, seeds, repeated) in cases() {
        let (mut with, mut without) = (Duration::ZERO, Duration::ZERO);
        for seed in seeds {
            let (a, b) = measure(&scenario, seed, repeated);
            (with, without) = (with + a, without + b);
        }
        let share = 1.0 - without.as_secs_f64() / with.as_secs_f64();
        held &= share <= BUDGET;
        let ms = |taken: Duration| taken.as_secs_f64() * 1e3;
        println!("{name:<22}{:>12.1}{:>12.1}{:>9.1}%", ms(with), ms(without), share * 100.0);
    }
    assert!(held, "all checkers together take more than {:.0} % of a run", BUDGET * 100.0);
}

//! What the checkers cost: the reference failover with all of them, and with none.
//!
//! Both run in this process, one after the other, so that what else the machine does strikes both alike; time is
//! processor time, the best of several. `cargo bench -p highwater-sim --bench checkers`.

use std::path::Path;
use std::time::Duration;

use sim::runner::{RunOptions, run, run_unchecked};
use sim::scenario::load;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REPEATED: usize = 12;
/// All checkers together may take so much of a run's time.
const BUDGET: f64 = 0.25;

fn main() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/bench/reference-failover.json");
    let sheet = load(&path).expect("a scenario of this repository");
    println!("{:<22}{:>12}{:>12}{:>10}", "", "checked ms", "without ms", "share");
    let mut held = true;
    for variant in [None, Some("keys")] {
        let scenario = sheet.variant(variant).expect("one of its variants");
        let options = RunOptions { seed: 7, keep_disks: None, trace: false, reproduce: String::new() };
        let timed = |checked: bool| {
            let run = if checked { run } else { run_unchecked };
            let start = cpu_time::ProcessTime::now();
            let outcome = run(&scenario, &options).expect("it runs");
            (start.elapsed(), outcome.trail.end)
        };
        let (mut with, mut without) = (Duration::MAX, Duration::MAX);
        for _ in 0..REPEATED {
            let ((a, first), (b, second)) = (timed(true), timed(false));
            assert_eq!(first, second, "checkers change nothing");
            (with, without) = (with.min(a), without.min(b));
        }
        let share = 1.0 - without.as_secs_f64() / with.as_secs_f64();
        held &= share <= BUDGET;
        let ms = |taken: Duration| taken.as_secs_f64() * 1e3;
        let name = variant.map_or("failover".to_owned(), |v| format!("failover, {v}"));
        println!("{name:<22}{:>12.1}{:>12.1}{:>9.1}%", ms(with), ms(without), share * 100.0);
    }
    assert!(held, "all checkers together take more than {:.0} % of a run", BUDGET * 100.0);
}

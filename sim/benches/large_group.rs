//! What a rebalance of a large group costs: 200 members share 1,000 partitions, one dies, and they share them again.
//!
//! A step is one input of one state machine, with all that follows from it there: no coordinator, assignor or member
//! may take longer than 50 ms for one. It is measured in processor time, asked of the kernel itself:
//! inside a run the clocks of the C library are the world's.
//!
//! `cargo bench -p highwater-sim --bench large_group`.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sim::runner::build;
use sim::runner::play::{Player, Stop};
use sim::scenario::load;
use sim::world;
use wire::drive::Nanos;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEED: u64 = 1;
/// A first generation, the death of a member (its session is 45 s), and another generation.
const STEADY: Nanos = Nanos::from_secs(20);
const REBALANCED: Nanos = Nanos::from_secs(60);

/// How long this process has computed.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The longest step until `span` has passed, and how many there were.
fn longest(stage: &mut world::Stage, span: Nanos) -> Result<(Duration, u64), Stop> {
    let until = stage.world().now() + span;
    let (mut longest, mut steps) = (Duration::ZERO, 0);
    while stage.world().next_at().is_some_and(|next| next <= until) {
        let start = processor_time();
        stage.step()?;
        longest = longest.max(processor_time().saturating_sub(start));
        steps += 1;
    }
    Ok((longest, steps))
}

fn measure(variant: Option<&str>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/bench/large-group.json");
    let sheet = load(&path).expect("a scenario of this repository");
    let scenario = Arc::new(sheet.variant(variant).expect("one of its variants"));
    let mut player = Player::new(scenario.clone(), SEED);
    let world = build::world(&scenario, SEED).expect("it can be built");
    let (_, measured) = world::run(world, async move |stage| {
        player.begin(stage).await?;
        let first = longest(stage, STEADY)?;
        let member = stage.world().proc("billing.1").expect("it runs");
        stage.kill(member).await.expect("it runs");
        let second = longest(stage, REBALANCED)?;
        Ok::<_, Stop>((first, second))
    })
    .expect("the world runs");
    let (first, second) = measured.expect("nothing stops it");
    for (what, (longest, steps)) in [("joining", first), ("after a death", second)] {
        let ms = longest.as_secs_f64() * 1e3;
        let name = format!("{} {what}, longest of {steps} steps", variant.unwrap_or("range"));
        let held = if ms <= 50.0 { "held" } else { "NOT HELD" };
        println!("{name:60} {ms:9.2} ms   <= 50   {held}");
    }
}

fn main() {
    for variant in [None, Some("sticky")] {
        measure(variant);
    }
}

//! What a delivered frame costs in the world, all in (link, agenda, madsim, digest), without the work of a node; beside a
//! bare binary heap in the same run, since machines differ.
//!
//! `cargo bench -p highwater-sim --bench world`

use std::any::Any;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::sync::Arc;

use broker_core::disk::Disk;
use broker_core::io::{Input, Listener, Output, Outputs};
use bytes::Bytes;
use sim::world::{Between, Machine, MachineMaker, Make, ProcSpec, SimTime, WorkCost, World, WorldSpec, run};
use wire::Rope;
use wire::drive::{Endpoint, Instant, Nanos, Now};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAIRS: usize = 8;
const IN_FLIGHT: usize = 4;
const FRAMES: u64 = 2_000_000;

/// Answers each frame with one that was made beforehand.
#[derive(Clone)]
struct Player {
    frame: Rope,
    /// Whom to connect to.
    to: Option<Endpoint>,
    begun: bool,
}

impl Machine for Player {
    fn handle(&mut self, _: Now, input: Input, _: &mut dyn Disk, out: &mut Outputs) {
        match input {
            Input::Frame { conn, frame } => {
                black_box(frame.len());
                out.items.push(Output::Send { conn, frame: self.frame.clone() });
            }
            Input::Timer => {
                self.begun = true;
                let conn = out.next_conn();
                let to = self.to.clone().expect("only who connects has a timer");
                out.items.push(Output::Connect { conn, to });
            }
            Input::Connected { conn } => {
                for _ in 0..IN_FLIGHT {
                    out.items.push(Output::Send { conn, frame: self.frame.clone() });
                }
            }
            other => {
                black_box(other);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        (self.to.is_some() && !self.begun).then_some(Instant(1_000_000))
    }

    fn listeners(&self) -> Vec<(u16, Listener)> {
        vec![(9092, Listener::Broker)]
    }

    fn box_clone(&self) -> Box<dyn Machine> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The processor time of the whole process: other work on the machine does not count.
fn nanos(work: impl FnOnce()) -> f64 {
    let start = cpu_time::ProcessTime::now();
    work();
    start.elapsed().as_nanos() as f64
}

/// A frame's way through the world, in nanoseconds.
fn world(payload: usize, cost: WorkCost) -> f64 {
    let mut world = World::new(WorldSpec { seed: 7, ..WorldSpec::default() });
    let mut bytes = (payload as u32).to_be_bytes().to_vec();
    bytes.resize(payload + 4, 7);
    let frame = Rope::from(Bytes::from(bytes));
    let mut procs = Vec::new();
    for pair in 0..PAIRS {
        for side in 0..2 {
            let to = (side == 1).then(|| Endpoint::new(format!("server-{pair}"), 9092));
            let player = Player { frame: frame.clone(), to, begun: false };
            let make: MachineMaker = Arc::new(move |_| player.box_clone());
            let name = format!("{}-{pair}", ["server", "client"][side]);
            procs.push(world.add_proc(ProcSpec {
                host: name.clone(),
                name,
                start: Between::exactly(Nanos::ZERO),
                cost,
                make: Make::Machine(make),
            }));
        }
    }
    let mut frames = 0;
    let taken = nanos(|| {
        let (world, ()) = run(world, async move |stage| {
            for proc in procs {
                stage.start(proc).await.expect("it is down");
            }
            while stage.world().counts().frames < FRAMES {
                stage.step().expect("players play on");
            }
        })
        .expect("the world holds");
        frames = world.counts().frames;
    });
    taken / frames as f64
}

/// A bare binary heap that pops the next event and pushes another, in nanoseconds an event.
fn bare_heap(pending: u64) -> f64 {
    let mut heap: BinaryHeap<Reverse<(SimTime, u64)>> =
        (0..pending).map(|i| Reverse((SimTime(i * 977), i))).collect();
    let mut random = 88_172_645_463_325_252u64;
    let taken = nanos(|| {
        for seq in pending..pending + FRAMES {
            let Reverse((at, what)) = heap.pop().expect("it never empties");
            black_box(what);
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            heap.push(Reverse((SimTime(at.0 + 200_000 + random % 400_000), seq)));
        }
    });
    taken / FRAMES as f64
}

fn main() {
    let pending = (2 * PAIRS * IN_FLIGHT) as u64;
    type Measure = fn(u64) -> f64;
    let cases: [(&str, Measure); 6] = [
        ("bare heap, as many pending", bare_heap),
        ("bare heap, 10,000 pending", |_| bare_heap(10_000)),
        ("frame of 100 B, work costs nothing", |_| world(100, WorkCost::NONE)),
        ("frame of 100 B", |_| world(100, WorkCost::NODE)),
        ("frame of 1 KiB", |_| world(1_024, WorkCost::NODE)),
        ("frame of 16 KiB", |_| world(16_384, WorkCost::NODE)),
    ];
    // `cargo bench … -- "100 B"` measures the cases whose names contain that.
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let mut heap = None;
    for (name, measure) in cases.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let best = (0..3).map(|_| measure(pending)).fold(f64::MAX, f64::min);
        let heap = *heap.get_or_insert(best);
        println!("{name:36} {best:8.1} ns  {:5.1} × the first", best / heap);
        if name == "frame of 100 B" {
            println!("{:36} {}", "  budget: 200 ns", if best <= 200.0 { "held" } else { "NOT HELD" });
        }
    }
}

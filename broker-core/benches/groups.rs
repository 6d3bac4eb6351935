//! What the assignors take for 200 members who share 1,000 partitions: `cargo bench -p highwater-broker-core --bench
//! groups`. No step of a rebalance may take longer than 50 ms.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a benchmark reads the real clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker_core::coordinator::group::consumer::assignor::{Assignor, GroupSpec, MemberSpec, Partitions};
use wire::Uuid;

const LIMIT: Duration = Duration::from_millis(50);

type Targets = BTreeMap<Arc<str>, Partitions>;

fn main() {
    let topics: BTreeMap<Uuid, i32> = (1..=10).map(|n| (Uuid([n; 16]), 100)).collect();
    for assignor in [Assignor::Uniform, Assignor::Range] {
        for alike in [true, false] {
            let words =
                format!("{}, {} topics", assignor.name(), if alike { "the same" } else { "different" });
            let first =
                measure(&words, "from nothing", || assign(assignor, &topics, alike, 0..200, &Targets::new()));
            measure(&words, "one more", || assign(assignor, &topics, alike, 0..201, &first));
            measure(&words, "half of them gone", || assign(assignor, &topics, alike, 100..200, &first));
        }
    }
}

/// The worst of some runs.
fn measure(words: &str, what: &str, run: impl Fn() -> Targets) -> Targets {
    let mut worst = Duration::ZERO;
    for _ in 0..20 {
        let start = Instant::now();
        let targets = run();
        worst = worst.max(start.elapsed());
        let all: usize = targets.values().flat_map(|target| target.values().map(BTreeSet::len)).sum();
        assert_eq!(all, 1_000, "{words}, {what}");
    }
    let verdict = if worst < LIMIT { "" } else { "  over the limit" };
    println!("{words:32} {what:20} {worst:>10.2?}{verdict}");
    run()
}

fn assign(
    assignor: Assignor,
    topics: &BTreeMap<Uuid, i32>,
    alike: bool,
    members: core::ops::Range<usize>,
    before: &Targets,
) -> Targets {
    let all: Arc<BTreeSet<Uuid>> = Arc::new(topics.keys().copied().collect());
    let member = |n: usize| {
        let id: Arc<str> = Arc::from(format!("member-{n:03}"));
        let some = || {
            topics.keys().enumerate().filter(|(t, _)| !(t + n).is_multiple_of(3)).map(|(_, id)| *id).collect()
        };
        let subscribed = if alike { all.clone() } else { Arc::new(some()) };
        let target = Arc::new(before.get(&id).cloned().unwrap_or_default());
        (id, MemberSpec { topics: subscribed, target })
    };
    assignor.assign(&GroupSpec { members: members.map(member).collect(), partitions: topics })
}

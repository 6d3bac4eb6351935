//! What the simulator once found, kept from coming back: each a scenario and the seed that showed it.

use std::path::Path;

use reports::Verdict;
use sim::runner::{self, RunOptions};
use sim::scenario;

struct Fault {
    scenario: &'static str,
    variant: Option<&'static str>,
    seed: u64,
    /// What went wrong, and where it was mended.
    story: &'static str,
}

const FAULTS: [Fault; 8] = [
    Fault {
        scenario: "labs/power-loss",
        variant: Some("flushed"),
        seed: 30,
        story: "a node asked for a connection while it was busy, and accepted another before the request left: \
            the world took the older id for one that was used before (sim/src/world/net.rs)",
    },
    Fault {
        scenario: "labs/power-loss",
        variant: Some("flushed"),
        seed: 4,
        story: "with flush.messages=1 a follower waited for a flush that nobody had begun: that of what it found on \
                its disk after the power loss (broker-core/src/replica/storage.rs)",
    },
    Fault {
        scenario: "labs/quorum-of-three",
        variant: None,
        seed: 1,
        story: "a producer's retry of what was appended already waits for an older offset than requests that came \
                after the first attempt: the purgatory took its waiters for ordered (broker-core/src/replica/produce.rs)",
    },
    Fault {
        scenario: "kills/transactions",
        variant: Some("leader"),
        seed: 398,
        story: "a consumer whose question for a partition's end was refused took the partition out of its fetch \
                session while it waited to ask again, and never put it back (client/src/consumer/offsets.rs)",
    },
    Fault {
        scenario: "kills/transactions",
        variant: Some("leader"),
        seed: 8974,
        story: "the marker of a transaction came while the next one was being verified, and threw its verification \
                away: the offsets of the next were refused as part of no transaction (broker-core/src/log/producer.rs)",
    },
    Fault {
        scenario: "labs/reassign-under-load",
        variant: Some("new-broker-down"),
        seed: 2,
        story: "an admin client that took a dead broker for the controller waited for its connection until the call's \
                time was over (client/src/admin/mod.rs)",
    },
    Fault {
        scenario: "chaos/chaos-small",
        variant: None,
        seed: 4,
        story: "a power loss left zeros at the head of a log, which recovery took for a log of before Kafka 0.11: the \
                broker stopped with each start (broker-core/src/log/loader.rs)",
    },
    Fault {
        scenario: "labs/quorum-grows",
        variant: None,
        seed: 16,
        story: "a batch of voters was committed behind the last append of the active controller, which took that for a \
                bug and stopped (broker-core/src/controller/mod.rs)",
    },
];

#[test]
fn what_was_found_stays_mended() {
    for fault in FAULTS {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scenarios/{}.json", fault.scenario));
        let scenario = scenario::load(&path).unwrap().variant(fault.variant).unwrap();
        let options =
            RunOptions { seed: fault.seed, keep_disks: None, trace: false, reproduce: String::new() };
        let report =
            runner::run(&scenario, &options).unwrap_or_else(|e| panic!("{}: {e}", fault.story)).report;
        assert_eq!(
            report.verdict,
            Verdict::Pass,
            "{}, seed {}: {}\n{:?}",
            fault.scenario,
            fault.seed,
            fault.story,
            report.why
        );
    }
}

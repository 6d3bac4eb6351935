//! One digest is pinned: a run that changes, changes on purpose, and CHANGELOG.md says why under "Determinism".
#![cfg(madsim)]

use std::path::Path;

use sim::runner::{self, RunOptions};
use sim::scenario;

/// Of `highwater run stop-broker-1 --seed 7`.
const PINNED: &str = "b3a3f15b85e39ac65a72da161801c252af";

#[test]
fn the_pinned_digest_is_as_it_was() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let sheet = scenario::load(&root.join("scenarios/labs/stop-broker-1.json")).expect("it loads");
    let scenario = sheet.variant(None).expect("the sheet as it stands");
    let options = RunOptions { seed: 7, keep_disks: None, trace: false, reproduce: String::new() };
    let digest = runner::run(&scenario, &options).expect("it runs").report.digest;
    assert_eq!(
        digest, PINNED,
        "stop-broker-1 with seed 7 runs otherwise than before. If that is meant: pin the new digest here, and say in \
         CHANGELOG.md under \"Determinism\" what moved it"
    );
    let changelog = std::fs::read_to_string(root.join("CHANGELOG.md")).expect("it is there");
    assert!(changelog.contains(PINNED), "CHANGELOG.md names another digest");
}

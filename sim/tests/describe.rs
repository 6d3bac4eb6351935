//! `kafka-topics --describe` in `kill-broker-1`, field by field as Apache Kafka 4.3.1 prints it before the kill, after
//! the failover and after the return. Only the topic's id is masked: assignment, leaders and ISR follow from the lab.
#![cfg(madsim)]

use std::path::Path;

use sim::runner::{self, RunOptions};
use sim::scenario;

const HEADER: &str = "Topic: purchases\tTopicId: ID\tPartitionCount: 3\tReplicationFactor: 3\tConfigs: min.insync.replicas=2\n";

/// The ISR as it was given to the replicas, in their order.
const BEFORE: &str = "\
\tTopic: purchases\tPartition: 0\tLeader: 1\tReplicas: 1,2,3\tIsr: 1,2,3\tElr: \tLastKnownElr: \n\
\tTopic: purchases\tPartition: 1\tLeader: 2\tReplicas: 2,3,1\tIsr: 2,3,1\tElr: \tLastKnownElr: \n\
\tTopic: purchases\tPartition: 2\tLeader: 3\tReplicas: 3,1,2\tIsr: 3,1,2\tElr: \tLastKnownElr: \n";

/// broker-1 is taken out, and the order of the others stays.
const AFTER: &str = "\
\tTopic: purchases\tPartition: 0\tLeader: 2\tReplicas: 1,2,3\tIsr: 2,3\tElr: \tLastKnownElr: \n\
\tTopic: purchases\tPartition: 1\tLeader: 2\tReplicas: 2,3,1\tIsr: 2,3\tElr: \tLastKnownElr: \n\
\tTopic: purchases\tPartition: 2\tLeader: 3\tReplicas: 3,1,2\tIsr: 3,2\tElr: \tLastKnownElr: \n";

/// An ISR that a leader asked for is sorted; leadership does not move back by itself at once.
const RETURNED: &str = "\
\tTopic: purchases\tPartition: 0\tLeader: 2\tReplicas: 1,2,3\tIsr: 1,2,3\tElr: \tLastKnownElr: \n\
\tTopic: purchases\tPartition: 1\tLeader: 2\tReplicas: 2,3,1\tIsr: 1,2,3\tElr: \tLastKnownElr: \n\
\tTopic: purchases\tPartition: 2\tLeader: 3\tReplicas: 3,1,2\tIsr: 1,2,3\tElr: \tLastKnownElr: \n";

/// Takes the topic's id out, if it is one: 22 characters of Kafka's alphabet.
fn masked(text: &str) -> (String, String) {
    let (before, rest) = text.split_once("TopicId: ").unwrap_or_else(|| panic!("no topic id in\n{text}"));
    let (id, after) = rest.split_once('\t').unwrap_or_else(|| panic!("no tab behind the id in\n{text}"));
    let is_id = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    assert!(id.len() == 22 && id.chars().all(is_id), "{id:?} is no topic id");
    (id.to_owned(), format!("{before}TopicId: ID\t{after}"))
}

#[test]
fn the_topic_is_described_as_kafka_describes_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/labs/kill-broker-1.json");
    let scenario = scenario::load(&path).unwrap_or_else(|e| panic!("{e}")).variant(None).unwrap();
    for seed in [1, 7] {
        let options = RunOptions { seed, keep_disks: None, trace: false, reproduce: String::new() };
        let report = runner::run(&scenario, &options).unwrap().report;
        let outputs: Vec<_> = report.steps.iter().filter_map(|step| step.output.as_ref()).collect();
        assert_eq!(outputs.len(), 3, "seed {seed}: three commands");
        let mut ids = Vec::new();
        for (when, output, partitions) in [
            ("before the kill", outputs[0], BEFORE),
            ("after the failover", outputs[1], AFTER),
            ("after the return", outputs[2], RETURNED),
        ] {
            let (id, ours) = masked(&output.stdout);
            let kafkas = format!("{HEADER}{partitions}");
            for (our, kafka) in ours.lines().zip(kafkas.lines()) {
                assert_eq!(our, kafka, "seed {seed}, {when}");
            }
            assert_eq!(ours, kafkas, "seed {seed}, {when}");
            assert_eq!((output.exit, output.stderr.as_str()), (Some(0), ""), "seed {seed}, {when}");
            ids.push(id);
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "seed {seed}: {ids:?}");
    }
}

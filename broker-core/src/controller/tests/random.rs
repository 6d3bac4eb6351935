//! Whatever happens in whatever order: the invariants hold after each call (the harness checks them), what is committed
//! is what the controller thought (so does it), epochs only grow, and a snapshot says the same as the log.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::messages::*;

use super::harness::Cluster;
use crate::metadata::{MetadataImage, NO_LEADER};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % bound
    }
}

const BROKERS: i32 = 4;
const TOPICS: [&str; 3] = ["a", "b", "c"];

fn step(cluster: &mut Cluster, dice: &mut Dice) {
    let broker = 1 + dice.roll(BROKERS as usize) as i32;
    let topic = TOPICS[dice.roll(TOPICS.len())];
    let exists = cluster.committed.topics.id_of(topic).is_some();
    let fenced = cluster.committed.broker(broker).is_none_or(|b| b.fenced);
    match dice.roll(12) {
        0 if !fenced => cluster.kill(broker),
        1 if !fenced => drop(cluster.beat(broker, |r| r.want_shut_down = true)),
        2..=4 if fenced => {
            let previous = cluster.broker_epochs.get(&broker).copied().unwrap_or(-1);
            let clean = dice.roll(2) == 0;
            // While its session lives it is told to wait.
            if cluster.register(broker, if clean { previous } else { -1 }).is_ok() {
                cluster.beat(broker, |_| {});
            }
        }
        5 if !exists => {
            let replicas: Vec<i32> = (0..3).map(|i| 1 + (broker + i) % BROKERS).collect();
            let mut topic = Cluster::creatable(topic, &[&replicas[..], &replicas[..]]);
            let config = create_topics_request::CreatableTopicConfig {
                name: "unclean.leader.election.enable".into(),
                value: Some(if dice.roll(2) == 0 { "true" } else { "false" }.into()),
            };
            topic.configs.push(config);
            let code = cluster.create(vec![topic])[0].0;
            let all_away = code == ErrorCode::INVALID_REPLICA_ASSIGNMENT;
            assert!(code.is_none() || all_away, "{code:?}");
        }
        6..=8 if exists => {
            let number = dice.roll(2) as i32;
            let p = cluster.partition(topic, number).clone();
            let isr: Vec<i32> =
                p.replicas.iter().copied().filter(|&r| r == p.leader || dice.roll(2) == 0).collect();
            if p.leader != NO_LEADER {
                cluster.alter_isr(topic, number, &isr);
            }
        }
        9 if exists => {
            let target: Vec<i32> = (0..2).map(|i| 1 + (broker + i) % BROKERS).collect();
            let cancel = dice.roll(3) == 0;
            let outcome = cluster.reassign(topic, dice.roll(2) as i32, (!cancel).then_some(&target[..]));
            let refusals = [ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, ErrorCode::INVALID_REPLICA_ASSIGNMENT];
            assert!(outcome.map_or_else(|e| refusals.contains(&e), |()| true), "{outcome:?}");
        }
        10 if exists => cluster.set(topic, "min.insync.replicas", ["1", "2", "3"][dice.roll(3)]),
        11 => {
            let election_type = dice.roll(2) as i8;
            let asked = cluster.send(
                &ElectLeadersRequest { election_type, topic_partitions: None, ..Default::default() },
                2,
            );
            cluster.commit();
            cluster.answer_to::<ElectLeadersRequest<'_>, _>(&asked, |r| assert_eq!(r.error_code, 0));
        }
        _ => {
            let alive: Vec<i32> =
                cluster.committed.brokers.values().filter(|b| !b.fenced).map(|b| b.id).collect();
            cluster.pass_with_heartbeats(1_000, &alive);
        }
    }
}

#[test]
fn nothing_breaks_the_invariants() {
    let mut elections = 0;
    for seed in 0..30 {
        let mut dice = Dice(seed);
        let mut cluster = Cluster::with_brokers(BROKERS, &[]);
        let mut epochs: BTreeMap<_, (i32, i32)> = BTreeMap::new();
        for _ in 0..60 {
            step(&mut cluster, &mut dice);
            for topic in cluster.committed.topics.iter() {
                for (&number, p) in &topic.partitions {
                    let before = epochs.insert((topic.id, number), (p.leader_epoch, p.partition_epoch));
                    let before = before.unwrap_or((0, 0));
                    assert!(before.0 <= p.leader_epoch && before.1 <= p.partition_epoch, "seed {seed}");
                    elections += p.leader_epoch - before.0;
                }
            }
        }
        let records = cluster.committed.to_records();
        let again = MetadataImage::from_snapshot(&records, cluster.committed.offset + 1).unwrap();
        assert_eq!(again.to_records(), records, "seed {seed}");
        assert_eq!(again.topics, cluster.committed.topics, "seed {seed}");

        // Another controller takes over from what is committed.
        cluster.resign();
        cluster.activate(2);
        cluster.pass(20_000);
        assert!(cluster.committed.brokers.values().all(|b| b.fenced), "seed {seed}: nobody sends heartbeats");
    }
    assert!(elections > 150, "something happened: {elections}");
}

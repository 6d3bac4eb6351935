//! AlterPartition: what is checked, in which order, and what is answered.

use alloc::vec;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::Uuid;
use wire::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use wire::messages::*;
use wire::records::{MetadataRecord, PartitionChangeRecord};

use super::harness::Cluster;
use crate::metadata::{ImageDelta, TopicIdPartition};

struct Story {
    cluster: Cluster,
    topic_id: Uuid,
}

/// Broker 1 leads `t-0` in leader epoch 1, partition epoch 3; 1, 2, 3 are its replicas, 4 is another broker.
fn story() -> Story {
    let mut cluster = Cluster::with_brokers(4, &[]);
    cluster.topic("t", &[&[1, 2, 3]], "");
    let topic_id = cluster.committed.topics.id_of("t").unwrap();
    assert_eq!(cluster.alter_isr("t", 0, &[1, 2]).error_code, 0);
    cluster.alter_isr("t", 0, &[1, 2, 3]);
    Story { cluster, topic_id }
}

impl Story {
    fn request(&self) -> AlterPartitionRequest {
        let p = self.cluster.partition("t", 0);
        let member = |&broker_id: &i32| BrokerState {
            broker_id,
            broker_epoch: self.cluster.broker_epochs[&broker_id],
        };
        let partition = PartitionData {
            partition_index: 0,
            leader_epoch: p.leader_epoch,
            partition_epoch: p.partition_epoch,
            new_isr_with_epochs: [1, 2].iter().map(member).collect(),
            ..Default::default()
        };
        AlterPartitionRequest {
            broker_id: 1,
            broker_epoch: self.cluster.broker_epochs[&1],
            topics: vec![TopicData { topic_id: self.topic_id, partitions: vec![partition] }],
        }
    }

    /// The error of the whole and of the partition.
    fn ask(
        &mut self,
        version: i16,
        change: impl FnOnce(&mut AlterPartitionRequest),
    ) -> (ErrorCode, ErrorCode) {
        let mut request = self.request();
        change(&mut request);
        let asked = self.cluster.send(&request, version);
        self.cluster.commit();
        let answer: AlterPartitionResponse = self.cluster.answer(&asked);
        let of_partition = answer.topics.first().map_or(0, |t| t.partitions[0].error_code);
        (ErrorCode(answer.error_code), ErrorCode(of_partition))
    }

    fn refuses(&mut self, what: &str, code: ErrorCode, change: impl FnOnce(&mut PartitionData)) {
        let before = self.cluster.partition("t", 0).clone();
        let answer = self.ask(3, |r| change(&mut r.topics[0].partitions[0]));
        assert_eq!(answer, (ErrorCode::NONE, code), "{what}");
        assert_eq!(*self.cluster.partition("t", 0), before, "{what}: nothing changed");
    }
}

#[test]
fn the_first_objection_is_the_answer() {
    let mut s = story();
    let stale = s.ask(3, |r| r.broker_epoch -= 1);
    assert_eq!(stale.0, ErrorCode::STALE_BROKER_EPOCH);
    let unknown = s.ask(3, |r| r.topics[0].topic_id = Uuid([9; 16]));
    assert_eq!(unknown, (ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_ID));
    s.refuses("partition", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |p| p.partition_index = 7);

    // Each of these also has every later fault.
    let later = |p: &mut PartitionData| {
        p.new_isr_with_epochs.clear();
        p.leader_recovery_state = 1;
    };
    s.refuses("leader epoch ahead", ErrorCode::NOT_CONTROLLER, |p| {
        later(p);
        (p.leader_epoch, p.partition_epoch) = (p.leader_epoch + 1, 0);
    });
    s.refuses("partition epoch ahead", ErrorCode::NOT_CONTROLLER, |p| {
        later(p);
        (p.leader_epoch, p.partition_epoch) = (p.leader_epoch - 1, p.partition_epoch + 1);
    });
    s.refuses("leader epoch behind", ErrorCode::FENCED_LEADER_EPOCH, |p| {
        later(p);
        (p.leader_epoch, p.partition_epoch) = (p.leader_epoch - 1, 0);
    });
    let epoch = s.cluster.broker_epochs[&2];
    let not_leader = s.ask(3, |r| {
        (r.broker_id, r.broker_epoch) = (2, epoch);
        r.topics[0].partitions[0].partition_epoch = 0;
    });
    assert_eq!(not_leader.1, ErrorCode::INVALID_REQUEST);
    s.refuses("partition epoch behind", ErrorCode::INVALID_UPDATE_VERSION, |p| {
        later(p);
        p.partition_epoch = 0;
    });
    let member = |broker_id| BrokerState { broker_id, broker_epoch: -1 };
    s.refuses("nobody", ErrorCode::INVALID_REQUEST, |p| p.new_isr_with_epochs.clear());
    s.refuses("twice", ErrorCode::INVALID_REQUEST, |p| p.new_isr_with_epochs.push(member(2)));
    s.refuses("no replica", ErrorCode::INVALID_REQUEST, |p| p.new_isr_with_epochs.push(member(4)));
    s.refuses("not itself", ErrorCode::INVALID_REQUEST, |p| {
        p.new_isr_with_epochs.remove(0);
    });
    s.refuses("recovering with two", ErrorCode::INVALID_REQUEST, |p| p.leader_recovery_state = 1);
    s.refuses("recovered to recovering", ErrorCode::INVALID_REQUEST, |p| {
        p.new_isr_with_epochs.truncate(1);
        p.leader_recovery_state = 1;
    });
    s.refuses("no such state", ErrorCode::INVALID_REQUEST, |p| p.leader_recovery_state = 2);
    s.refuses("another epoch", ErrorCode::INELIGIBLE_REPLICA, |p| p.new_isr_with_epochs[1].broker_epoch -= 1);
    assert_eq!(s.ask(3, |_| {}), (ErrorCode::NONE, ErrorCode::NONE));
}

#[test]
fn members_must_be_unfenced_and_not_shutting_down() {
    let mut s = story();
    s.cluster.alter_isr("t", 0, &[1]);
    s.cluster.beat(2, |r| r.want_fence = true);
    s.refuses("fenced", ErrorCode::INELIGIBLE_REPLICA, |_| {});
    s.cluster.beat(2, |_| {});
    s.cluster.topic("led-by-2", &[&[2, 3]], "");
    s.cluster.beat(2, |r| r.want_shut_down = true);
    assert!(s.cluster.committed.broker(2).unwrap().in_controlled_shutdown);
    s.refuses("shutting down", ErrorCode::INELIGIBLE_REPLICA, |_| {});
    // An epoch that is not known is not compared; that of version 2 never is.
    s.cluster.stop(2, &[1, 3, 4]);
    let epoch = s.cluster.broker_epochs[&2];
    s.cluster.register(2, epoch).unwrap();
    s.cluster.beat(2, |_| {});
    let unknown = s.ask(3, |r| r.topics[0].partitions[0].new_isr_with_epochs[1].broker_epoch = -1);
    assert_eq!(unknown, (ErrorCode::NONE, ErrorCode::NONE));
    let version_2 = s.ask(2, |r| {
        let partition = &mut r.topics[0].partitions[0];
        partition.new_isr_with_epochs.clear();
        partition.new_isr = vec![1, 2];
    });
    assert_eq!(version_2, (ErrorCode::NONE, ErrorCode::NONE));
}

#[test]
fn the_isr_shrinks_into_the_elr_and_grows_out_of_it() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.topic("t", &[&[1, 2, 3]], "min.insync.replicas=2");
    let answer = cluster.alter_isr("t", 0, &[1]);
    assert_eq!(
        (answer.leader_id, answer.leader_epoch, answer.partition_epoch, answer.isr),
        (1, 0, 1, vec![1])
    );
    assert_eq!(cluster.show("t", 0), "leader 1 epoch 0 isr [1] elr [2,3] last []");
    cluster.alter_isr("t", 0, &[1, 3]);
    assert_eq!(cluster.show("t", 0), "leader 1 epoch 0 isr [1,3] elr [] last []");
    // What is there already is answered, and not written again.
    let appended = cluster.log.records.len();
    let again = cluster.alter_isr("t", 0, &[1, 3]);
    assert_eq!((again.error_code, again.partition_epoch, cluster.log.records.len()), (0, 2, appended));
}

#[test]
fn the_end_of_a_reassignment_may_depose_the_leader() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.topic("p2", &[&[1, 2], &[1, 2]], "");
    cluster.reassign("p2", 0, Some(&[3, 1])).unwrap();
    cluster.reassign("p2", 1, Some(&[2, 3])).unwrap();
    let p = cluster.partition("p2", 1);
    assert_eq!(
        (&p.replicas[..], &p.adding_replicas[..], &p.removing_replicas[..]),
        (&[2, 3, 1][..], &[3][..], &[1][..])
    );
    assert_eq!(cluster.ongoing(), [(0, vec![3, 1, 2]), (1, vec![2, 3, 1])]);

    // The leader stays: it is answered as always, in a new leader epoch.
    let stays = cluster.alter_isr("p2", 0, &[1, 2, 3]);
    assert_eq!(
        (ErrorCode(stays.error_code), stays.isr, stays.leader_epoch),
        (ErrorCode::NONE, vec![1, 3], 1)
    );
    // The leader goes: it is told so, and the change stands.
    let goes = cluster.alter_isr("p2", 1, &[1, 2, 3]);
    assert_eq!(ErrorCode(goes.error_code), ErrorCode::NEW_LEADER_ELECTED);
    assert_eq!(cluster.show("p2", 1), "leader 2 epoch 1 isr [2,3] elr [] last []");
    assert_eq!(&cluster.partition("p2", 1).replicas[..], [2, 3]);
    assert_eq!(cluster.ongoing(), []);
}

#[test]
fn a_reassignment_is_taken_back() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.topic("t", &[&[1, 2]], "");
    assert_eq!(cluster.reassign("t", 0, None), Err(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS));
    cluster.reassign("t", 0, Some(&[3, 1])).unwrap();
    cluster.reassign("t", 0, None).unwrap();
    let p = cluster.partition("t", 0);
    assert_eq!((&p.replicas[..], &p.isr[..], p.is_reassigning()), (&[1, 2][..], &[1, 2][..], false));
    assert_eq!(cluster.reassign("t", 0, Some(&[9])), Err(ErrorCode::INVALID_REPLICA_ASSIGNMENT));
    assert_eq!(cluster.reassign("t", 9, Some(&[1])), Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(cluster.reassign("t", 0, Some(&[1, 2, 3])), Ok(()), "more replicas");
}

/// The records of Kafka 4.3.1 in the failover session, for a partition of two replicas and min.insync.replicas 1.
#[test]
fn kafkas_own_records_give_kafkas_own_states() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.topic("p2", &[&[1, 2]], "min.insync.replicas=1");
    let topic_id = cluster.committed.topics.id_of("p2").unwrap();
    let id = TopicIdPartition { topic_id, partition: 0 };
    let change = |set: &dyn Fn(&mut PartitionChangeRecord)| {
        let mut record = PartitionChangeRecord { topic_id, partition_id: 0, ..Default::default() };
        set(&mut record);
        MetadataRecord::from(record)
    };
    let captured: Vec<MetadataRecord> = vec![
        change(&|r| (r.isr, r.leader) = (Some(vec![2]), 2)),
        change(&|r| {
            (r.isr, r.leader) = (Some(vec![]), -1);
            (r.eligible_leader_replicas, r.last_known_elr) = (Some(vec![2]), Some(vec![2]));
        }),
        change(&|r| {
            (r.isr, r.leader) = (Some(vec![2]), 2);
            (r.eligible_leader_replicas, r.last_known_elr) = (Some(vec![]), Some(vec![]));
        }),
    ];
    let mut kafkas = cluster.committed.clone();
    let from = cluster.log.next_offset_for_test();
    cluster.kill(1);
    cluster.stop(2, &[3]);
    let epoch = cluster.broker_epochs[&2];
    cluster.register(2, epoch).unwrap();
    cluster.beat(2, |_| {});
    let ours: Vec<MetadataRecord> = cluster.changes_since(from);
    assert_eq!(ours, captured);
    for record in &captured {
        kafkas.apply(record, 1000, &mut ImageDelta::default()).unwrap();
    }
    assert_eq!(kafkas.partition(id), cluster.committed.partition(id));
}

//! Brokers come and go.

use alloc::vec;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::Uuid;
use wire::messages::*;

use super::harness::{Cluster, directory};
use crate::event::{ChangeReason, Event, FenceReason};

#[test]
fn a_broker_is_unfenced_once_it_has_read_its_registration() {
    let mut cluster = Cluster::new(&[]);
    let from = cluster.log.records.len() as i64 + 1;
    let epoch = cluster.register(1, -1).unwrap();
    assert_eq!(epoch, from, "the epoch is the offset of the registration");
    let behind = cluster.beat(1, |r| r.current_metadata_offset = epoch - 1);
    assert!(!behind.is_caught_up && behind.is_fenced);
    let waiting = cluster.beat(1, |r| r.want_fence = true);
    assert!(waiting.is_caught_up && waiting.is_fenced);
    assert!(!cluster.beat(1, |_| {}).is_fenced);
    assert_eq!(cluster.kinds_since(from), ["RegisterBrokerRecord", "BrokerRegistrationChangeRecord"]);
    assert!(cluster.events.contains(&Event::BrokerUnfenced { broker: 1 }));
}

#[test]
fn registrations_that_are_refused() {
    let mut cluster = Cluster::with_brokers(2, &[]);
    let mut refused = |change: &dyn Fn(&mut BrokerRegistrationRequest<'static>)| {
        let mut request = cluster.registration(3, -1);
        change(&mut request);
        let asked = cluster.send(&request, 4);
        cluster.commit();
        ErrorCode(cluster.answer::<BrokerRegistrationResponse>(&asked).error_code)
    };
    assert_eq!(refused(&|r| r.cluster_id = "other".into()), ErrorCode::INCONSISTENT_CLUSTER_ID);
    assert_eq!(refused(&|r| r.broker_id = 2), ErrorCode::DUPLICATE_BROKER_REGISTRATION);
    assert_eq!(refused(&|r| r.is_migrating_zk_broker = true), ErrorCode::BROKER_ID_NOT_REGISTERED);
    assert_eq!(refused(&|r| r.log_dirs.clear()), ErrorCode::INVALID_REGISTRATION);
    assert_eq!(refused(&|r| r.log_dirs = vec![Uuid::ZERO]), ErrorCode::INVALID_REGISTRATION);
    assert_eq!(refused(&|r| r.log_dirs = vec![directory(3); 2]), ErrorCode::INVALID_REGISTRATION);
    assert_eq!(refused(&|r| r.log_dirs = vec![directory(1)]), ErrorCode::INVALID_REGISTRATION);
    assert_eq!(refused(&|r| r.features.clear()), ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(refused(&|r| r.features[2].max_supported_version = 29), ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(refused(&|_| {}), ErrorCode::NONE);
}

#[test]
fn the_same_process_may_register_again_and_keeps_its_epoch() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    let incarnation = cluster.committed.broker(1).unwrap().incarnation_id;
    let mut request = cluster.registration(1, -1);
    request.incarnation_id = incarnation;
    request.listeners[0].port = 9999;
    let asked = cluster.send(&request, 4);
    cluster.commit();
    let answer: BrokerRegistrationResponse = cluster.answer(&asked);
    assert_eq!(answer.broker_epoch, cluster.broker_epochs[&1]);
    let broker = cluster.committed.broker(1).unwrap();
    assert!(!broker.fenced && broker.listeners[0].port == 9999);
}

#[test]
fn a_killed_leader_is_fenced_after_its_session_and_others_lead() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.topic("purchases", &[&[1, 2, 3], &[2, 3, 1]], "min.insync.replicas=2");
    cluster.events.clear();
    cluster.pass_with_heartbeats(8_500, &[2, 3]);
    assert_eq!(
        cluster.show("purchases", 0),
        "leader 1 epoch 0 isr [1,2,3] elr [] last []",
        "it may be alive"
    );
    cluster.pass_with_heartbeats(2_000, &[2, 3]);
    assert_eq!(cluster.show("purchases", 0), "leader 2 epoch 1 isr [2,3] elr [] last []");
    assert_eq!(cluster.show("purchases", 1), "leader 2 epoch 0 isr [2,3] elr [] last []");
    let reason = FenceReason::SessionExpired;
    assert!(cluster.events.contains(&Event::BrokerFenced { broker: 1, reason }));
    let changed: Vec<_> = cluster
        .events
        .iter()
        .filter(
            |e| matches!(e, Event::PartitionChanged { reason, .. } if *reason == ChangeReason::BrokerFenced),
        )
        .collect();
    assert_eq!(changed.len(), 2);

    // Its process comes back: it is in no ISR until a leader takes it in.
    assert_eq!(cluster.register(1, -1).map(|_| ()), Ok(()));
    assert!(!cluster.beat(1, |_| {}).is_fenced);
    assert_eq!(cluster.show("purchases", 0), "leader 2 epoch 1 isr [2,3] elr [] last []");
    let answer = cluster.alter_isr("purchases", 0, &[2, 3, 1]);
    assert_eq!((answer.error_code, answer.isr), (0, vec![2, 3, 1]));
    assert_eq!(cluster.show("purchases", 0), "leader 2 epoch 1 isr [2,3,1] elr [] last []");
}

#[test]
fn brokers_that_die_together_are_fenced_one_after_the_other() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.topic("t", &[&[1, 2, 3]], "min.insync.replicas=2");
    cluster.pass(11_000);
    // The last two stand in the ELR, the last leader in the last known ELR.
    assert_eq!(cluster.show("t", 0), "leader -1 epoch 3 isr [] elr [2,3] last [3]");
    assert!(cluster.committed.brokers.values().all(|b| b.fenced));

    // They come back after kill -9: nobody is eligible any more, so it is the last known leader that leads.
    for id in [1, 2] {
        cluster.start(id);
        assert_eq!(cluster.partition("t", 0).leader, -1, "broker {id} is not it");
    }
    cluster.start(3);
    assert_eq!(cluster.show("t", 0), "leader 3 epoch 4 isr [3] elr [] last []");
    assert_eq!(cluster.partition("t", 0).leader_recovery_state.value(), 1);
}

#[test]
fn the_last_member_of_the_isr_leads_again_when_it_returns() {
    for clean in [true, false] {
        let mut cluster = Cluster::with_brokers(2, &[]);
        cluster.topic("p2", &[&[2, 1]], "");
        cluster.kill(1);
        assert_eq!(cluster.show("p2", 0), "leader 2 epoch 0 isr [2] elr [] last []");
        let epoch = cluster.broker_epochs[&2];
        if clean {
            cluster.stop(2, &[]);
        } else {
            cluster.kill(2);
        }
        assert_eq!(cluster.show("p2", 0), "leader -1 epoch 1 isr [] elr [2] last [2]");
        // A stale replica is alive, and does not lead.
        cluster.start(1);
        assert_eq!(cluster.show("p2", 0), "leader -1 epoch 1 isr [] elr [2] last [2]");
        cluster.register(2, if clean { epoch } else { -1 }).unwrap();
        let elr = if clean { "[2]" } else { "[]" };
        assert_eq!(cluster.show("p2", 0), alloc::format!("leader -1 epoch 1 isr [] elr {elr} last [2]"));
        assert!(!cluster.beat(2, |_| {}).is_fenced);
        assert_eq!(cluster.show("p2", 0), "leader 2 epoch 2 isr [2] elr [] last []");
        assert_eq!(cluster.partition("p2", 0).leader_recovery_state.value(), i8::from(!clean));
    }
}

#[test]
fn a_controlled_shutdown_hands_over_first() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.topic("t", &[&[1, 2, 3]], "");
    cluster.events.clear();
    let first = cluster.beat(1, |r| r.want_shut_down = true);
    assert!(!first.should_shut_down && !first.is_fenced);
    assert_eq!(cluster.show("t", 0), "leader 2 epoch 1 isr [2,3] elr [] last []");
    assert!(cluster.events.contains(&Event::BrokerInControlledShutdown { broker: 1 }));
    // It waits until 2 and 3 have heard of it.
    assert!(!cluster.beat(1, |r| r.want_shut_down = true).should_shut_down);
    cluster.beat(2, |_| {});
    assert!(!cluster.beat(1, |r| r.want_shut_down = true).should_shut_down);
    cluster.beat(3, |_| {});
    let last = cluster.beat(1, |r| r.want_shut_down = true);
    assert!(last.should_shut_down && last.is_fenced);
    let reason = FenceReason::ShutDown;
    assert!(cluster.events.contains(&Event::BrokerFenced { broker: 1, reason }));

    // It can be back at once, though its session has not run out; and the fencing is told once.
    let epoch = cluster.broker_epochs[&1];
    cluster.register(1, epoch).unwrap();
    assert!(cluster.events.contains(&Event::BrokerRegistered {
        broker: 1,
        broker_epoch: cluster.broker_epochs[&1],
        clean: true
    }));
    assert!(!cluster.beat(1, |_| {}).is_fenced);
    assert!(!cluster.committed.broker(1).unwrap().in_controlled_shutdown);
}

#[test]
fn a_session_that_ends_after_the_goodbye_fences_once_more_as_kafkas_does() {
    let mut cluster = Cluster::with_brokers(2, &[]);
    cluster.stop(1, &[2]);
    let from = cluster.log.records.len() as i64 + 1;
    cluster.events.clear();
    cluster.pass_with_heartbeats(11_000, &[2]);
    assert_eq!(cluster.kinds_since(from), ["BrokerRegistrationChangeRecord"]);
    assert!(!cluster.events.iter().any(|e| matches!(e, Event::BrokerFenced { .. })));
}

#[test]
fn a_new_controller_starts_all_sessions_anew() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.pass(8_000);
    cluster.resign();
    cluster.now.mono = cluster.now.mono.plus_millis(60_000);
    cluster.activate(2);
    cluster.pass(8_000);
    assert!(cluster.committed.brokers.values().all(|b| !b.fenced));
    cluster.pass(3_000);
    assert!(cluster.committed.brokers.values().all(|b| b.fenced));
}

#[test]
fn heartbeats_of_another_epoch_are_refused() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    let answer = cluster.beat(1, |r| r.broker_epoch -= 1);
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::STALE_BROKER_EPOCH);
    let answer = cluster.beat(1, |r| r.broker_id = 9);
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::STALE_BROKER_EPOCH);
}

#[test]
fn a_log_directory_fails() {
    let mut cluster = Cluster::new(&[]);
    let second = Uuid([200; 16]);
    for id in [1, 2] {
        let mut request = cluster.registration(id, -1);
        if id == 1 {
            request.log_dirs.push(second);
        }
        let asked = cluster.send(&request, 4);
        cluster.commit();
        let epoch = cluster.answer::<BrokerRegistrationResponse>(&asked).broker_epoch;
        cluster.broker_epochs.insert(id, epoch);
        cluster.beat(id, |_| {});
    }
    cluster.topic("t", &[&[1, 2], &[1, 2]], "");
    // The broker has two directories, so it chooses, and says so.
    assert_eq!(cluster.partition("t", 0).directories[0], Uuid::ZERO);
    let topic_id = cluster.committed.topics.id_of("t").unwrap();
    let assigned = |id, partition_index| assign_replicas_to_dirs_request::DirectoryData {
        id,
        topics: vec![assign_replicas_to_dirs_request::TopicData {
            topic_id,
            partitions: vec![assign_replicas_to_dirs_request::PartitionData { partition_index }],
        }],
    };
    let request = AssignReplicasToDirsRequest {
        broker_id: 1,
        broker_epoch: cluster.broker_epochs[&1],
        directories: vec![assigned(directory(1), 0), assigned(second, 1)],
    };
    let asked = cluster.send(&request, 0);
    cluster.commit();
    assert_eq!(cluster.answer::<AssignReplicasToDirsResponse>(&asked).directories.len(), 2);
    assert_eq!(cluster.partition("t", 1).directories[0], second);

    cluster.beat(1, |r| r.offline_log_dirs = vec![second]);
    assert_eq!(cluster.partition("t", 0).leader, 1);
    assert_eq!(cluster.show("t", 1), "leader 2 epoch 1 isr [2] elr [] last []");
    assert_eq!(cluster.committed.broker(1).unwrap().directories, [directory(1)]);
}

#[test]
fn an_unregistered_broker_is_gone_from_isr_and_elr() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.topic("t", &[&[1, 2, 3]], "min.insync.replicas=3");
    cluster.kill(3);
    assert_eq!(cluster.show("t", 0), "leader 1 epoch 0 isr [1,2] elr [3] last []");
    let asked = cluster.send(&UnregisterBrokerRequest { broker_id: 3 }, 0);
    cluster.commit();
    assert_eq!(cluster.answer_to::<UnregisterBrokerRequest, _>(&asked, |r| r.error_code), 0);
    assert!(cluster.committed.broker(3).is_none());
    let asked = cluster.send(&UnregisterBrokerRequest { broker_id: 3 }, 0);
    let text = cluster
        .answer_to::<UnregisterBrokerRequest, _>(&asked, |r| r.error_message.as_deref().map(Into::into));
    assert_eq!(text, Some(alloc::string::String::from("Broker ID 3 is not currently registered")));
}

#[test]
fn producer_ids_come_in_blocks() {
    let mut cluster = Cluster::with_brokers(2, &[]);
    let mut ask = |broker_id: i32| {
        let broker_epoch = cluster.broker_epochs[&broker_id];
        let asked = cluster.send(&AllocateProducerIdsRequest { broker_id, broker_epoch }, 0);
        cluster.commit();
        let answer: AllocateProducerIdsResponse = cluster.answer(&asked);
        (answer.producer_id_start, answer.producer_id_len)
    };
    assert_eq!((ask(1), ask(2), ask(1)), ((0, 1000), (1000, 1000), (2000, 1000)));
}

#[test]
fn controllers_register_too() {
    let mut cluster = Cluster::new(&[]);
    let request = ControllerRegistrationRequest { controller_id: 102, ..Default::default() };
    let asked = cluster.send(&request, 0);
    cluster.commit();
    assert_eq!(cluster.answer_to::<ControllerRegistrationRequest<'_>, _>(&asked, |r| r.error_code), 0);
    assert!(cluster.committed.controllers.contains_key(&102));
}

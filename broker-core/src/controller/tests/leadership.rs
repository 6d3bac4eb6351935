//! Activation, resignation, who is told what, and when.

use alloc::string::ToString;
use alloc::vec;
use wire::messages::*;
use wire::{ErrorCode, Uuid};

use super::super::*;
use super::harness::Cluster;
use crate::event::Event;
use crate::net::EnvelopeToken;

#[test]
fn a_new_cluster_begins_with_the_bootstrap_records() {
    let cluster = Cluster::new(&[("min.insync.replicas", "2")]);
    assert_eq!(cluster.events[0], Event::ControllerActivated { epoch: 1 });
    assert_eq!(cluster.committed.features.metadata_version(), 30);
    let min_isr =
        cluster.committed.configs.value(crate::metadata::ResourceType::Broker, "", "min.insync.replicas");
    assert_eq!(min_isr.map(|v| &**v), Some("2"));

    // The next one finds them there.
    let mut cluster = cluster;
    let appended = cluster.log.records.len();
    cluster.resign();
    cluster.activate(2);
    assert_eq!(cluster.log.records.len(), appended);
}

#[test]
fn answers_wait_for_the_commit_and_events_too() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    cluster.events.clear();
    let topics = vec![Cluster::creatable("t", &[&[1]])];
    let create = cluster.send(&CreateTopicsRequest { topics, timeout_ms: 1, validate_only: false }, 7);
    // One that writes nothing has read what is not committed: it waits as well.
    let list = cluster.send(&ListPartitionReassignmentsRequest { topics: None, ..Default::default() }, 0);
    assert!(!cluster.is_answered(&create) && !cluster.is_answered(&list));
    assert_eq!(cluster.events, []);

    cluster.commit();
    assert!(cluster.is_answered(&create) && cluster.is_answered(&list));
    assert!(matches!(&cluster.events[0], Event::TopicCreated { partitions: 1, .. }));
    assert!(matches!(&cluster.events[1], Event::PartitionChanged { before: None, .. }));

    let list = cluster.send(&ListPartitionReassignmentsRequest { topics: None, ..Default::default() }, 0);
    assert!(cluster.is_answered(&list), "nothing to wait for");
}

#[test]
fn whoever_waits_when_the_controller_resigns_is_told_so() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    let topics = vec![Cluster::creatable("t", &[&[1]])];
    let request = CreateTopicsRequest { topics, timeout_ms: 1, validate_only: false };
    let waiting = cluster.send(&request, 7);
    cluster.resign();
    let told = |r: &CreateTopicsResponse<'_>| {
        (r.topics[0].error_code, r.topics[0].error_message.as_ref().unwrap().to_string())
    };
    let error = cluster.answer_to::<CreateTopicsRequest<'_>, _>(&waiting, told);
    assert_eq!(error, (ErrorCode::NOT_CONTROLLER.0, "No controller appears to be active.".to_string()));
    assert_eq!(cluster.events.last(), Some(&Event::ControllerResigned { epoch: 1 }));

    // And whoever asks then.
    cluster.net.set_active_controller(Some(102));
    let later = cluster.send(&request, 7);
    let error = cluster.answer_to::<CreateTopicsRequest<'_>, _>(&later, told);
    assert_eq!(
        error,
        (ErrorCode::NOT_CONTROLLER.0, "The active controller appears to be node 102.".to_string())
    );
}

#[test]
fn every_api_says_that_this_is_not_the_controller() {
    let mut cluster = Cluster::new(&[]);
    cluster.resign();
    let code = ErrorCode::NOT_CONTROLLER.0;
    let asked = cluster.send(&cluster_registration(), 4);
    assert_eq!(cluster.answer::<BrokerRegistrationResponse>(&asked).error_code, code);
    let asked = cluster.send(&BrokerHeartbeatRequest::default(), 2);
    assert_eq!(cluster.answer::<BrokerHeartbeatResponse>(&asked).error_code, code);
    let asked = cluster.send(&AlterPartitionRequest::default(), 3);
    assert_eq!(cluster.answer::<AlterPartitionResponse>(&asked).error_code, code);
    let asked = cluster.send(&AllocateProducerIdsRequest::default(), 0);
    assert_eq!(cluster.answer::<AllocateProducerIdsResponse>(&asked).error_code, code);
    let asked = cluster.send(&AssignReplicasToDirsRequest::default(), 0);
    assert_eq!(cluster.answer::<AssignReplicasToDirsResponse>(&asked).error_code, code);
    let request = ElectLeadersRequest::default();
    let asked = cluster.send(&request, 2);
    assert_eq!(cluster.answer_to::<ElectLeadersRequest<'_>, _>(&asked, |r| r.error_code), code);
    let state = delete_topics_request::DeleteTopicState { name: Some("t".into()), topic_id: Uuid::ZERO };
    let request = DeleteTopicsRequest { topics: vec![state], ..Default::default() };
    let asked = cluster.send(&request, 6);
    assert_eq!(cluster.answer_to::<DeleteTopicsRequest<'_>, _>(&asked, |r| r.responses[0].error_code), code);
}

fn cluster_registration() -> BrokerRegistrationRequest<'static> {
    BrokerRegistrationRequest { broker_id: 1, ..Default::default() }
}

#[test]
fn a_broker_that_passed_a_request_on_is_told_through_the_envelope() {
    let mut cluster = Cluster::new(&[]);
    cluster.resign();
    let mut token = cluster.token(ApiKey::UnregisterBroker, 0);
    token.envelope = Some(EnvelopeToken { version: 0, correlation_id: 1 });
    let asked = cluster.send_as(token, &UnregisterBrokerRequest { broker_id: 1 });
    let code =
        cluster.answer_to::<EnvelopeRequest<'_>, _>(&asked, |r| (r.error_code, r.response_data.is_none()));
    assert_eq!(code, (ErrorCode::NOT_CONTROLLER.0, true));
}

#[test]
fn a_log_that_does_not_lead_ends_the_activity() {
    let mut cluster = Cluster::new(&[]);
    cluster.log.leads = false;
    let request = cluster.registration(1, -1);
    let asked = cluster.send(&request, 4);
    assert_eq!(cluster.answer::<BrokerRegistrationResponse>(&asked).error_code, ErrorCode::NOT_CONTROLLER.0);
    assert!(!cluster.controller.is_active());
    assert_eq!(cluster.controller.deadline(), None);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let mut cluster = Cluster::new(&[]);
    for key in [ApiKey::CreateTopics, ApiKey::BrokerHeartbeat] {
        for active in [true, false] {
            if !active && cluster.controller.is_active() {
                cluster.resign();
            }
            assert!(cluster.handle_bytes(key, 2, &[0xff; 3]).is_err());
        }
        cluster.activate_again();
    }
}

#[test]
fn the_log_moves_on_every_half_second() {
    let mut cluster = Cluster::new(&[]);
    let before = cluster.log.records.len();
    cluster.pass(5_000);
    let written = &cluster.log.records[before..];
    assert_eq!(written.len(), 10);
    assert!(written.iter().all(|r| r.name() == "NoOpRecord"));
}

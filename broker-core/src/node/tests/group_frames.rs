//! Requests about groups as a Java consumer and librdkafka sent them: our answers are Kafka's, byte for byte, but for
//! the member ids, which each coordinator makes up.

use alloc::string::String;
use alloc::vec::Vec;
use wire::messages::*;

use super::lab::Lab;
use super::transaction_frames::{leader, recorded, replay};
use crate::io::Listener;

/// A broker that coordinates everything, with `purchases` as it was.
fn session() -> Lab {
    let mut lab = Lab::new(1, 1, &[]);
    lab.start_all();
    lab.run_until(20_000, "every node serves", Lab::all_running);
    let mut client = lab.dial("broker-1", Listener::Broker);
    for (name, partitions) in [("__consumer_offsets", 1), ("purchases", 3)] {
        let topic = create_topics_request::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request =
            CreateTopicsRequest { topics: [topic].into(), timeout_ms: 30_000, validate_only: false };
        assert_eq!(lab.ask(&mut client, 7, &request, |r| r.topics[0].error_code), 0);
    }
    lab.run(2_000);
    assert_eq!(leader(&lab, "__consumer_offsets", 0), 1);
    lab
}

/// The pair of an API whose request has all of these texts in it.
fn pair(api: &str, texts: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let mut all = recorded(api).into_iter();
    all.find(|(request, _)| texts.iter().all(|text| has(request, text)))
        .unwrap_or_else(|| panic!("{api} {texts:?}"))
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "an id is as long as another");
    let mut bytes = bytes.to_vec();
    let at: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(from.as_bytes())).collect();
    for at in at {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// Replays a member's life: its first join, which gives it an id, and then each recorded request with that id.
fn life(lab: &mut Lab, member: &str, first: &[&str], then: &[(&str, &[&str])]) {
    let (join, joined) = pair("JoinGroup", first);
    let answer = replay(lab, 1, &join);
    let at = joined.windows(member.len()).position(|w| w == member.as_bytes()).expect("the id is told");
    let ours = String::from_utf8(answer[at..at + member.len()].to_vec()).unwrap();
    assert_eq!(replaced(&answer, &ours, member), joined, "the id is asked for");
    for (api, texts) in then {
        let (request, response) = pair(api, texts);
        let answer = replay(lab, 1, &replaced(&request, member, &ours));
        assert_eq!(replaced(&answer, &ours, member), response, "{api} {texts:?}");
    }
}

#[test]
fn a_member_of_librdkafka_is_answered_as_kafka_did() {
    let mut lab = session();
    let member = "rdkafka-f2304487-a4c6-43a2-92d8-6d29437b4f55";
    let then: [(&str, &[&str]); 5] = [
        ("JoinGroup", &[member]),
        ("SyncGroup", &[member]),
        ("OffsetFetch", &["rdkafka", "kg"]),
        ("Heartbeat", &[member]),
        ("LeaveGroup", &[member]),
    ];
    life(&mut lab, member, &["rdkafka", "kg"], &then);
}

#[test]
fn a_member_of_java_is_answered_as_kafka_did() {
    let mut lab = session();
    let member = "perf-consumer-client-8cb7b389-862f-4cb6-85a7-bb216bcf09b4";
    let then: [(&str, &[&str]); 5] = [
        ("JoinGroup", &[member]),
        ("SyncGroup", &[member]),
        ("OffsetFetch", &["perf-consumer-26498"]),
        ("OffsetCommit", &[member]),
        ("LeaveGroup", &[member]),
    ];
    life(&mut lab, member, &["perf-consumer-client", "perf-consumer-26498"], &then);
}

#[test]
fn what_an_admin_client_asks_is_answered_as_kafka_did() {
    let mut lab = session();
    let (commit, committed) = pair("OffsetCommit", &["adminclient-1", "billing"]);
    assert_eq!(replay(&mut lab, 1, &commit), committed, "offsets of a group without members");
    let (fetch, none) = pair("OffsetFetch", &["adminclient-1", "live"]);
    assert_eq!(replay(&mut lab, 1, &fetch), none, "of a group that nobody knows");
    let (fetch, fetched) = pair("OffsetFetch", &["adminclient-1", "billing"]);
    assert_eq!(replay(&mut lab, 1, &fetch).len(), fetched.len(), "what was committed, at another offset");
}

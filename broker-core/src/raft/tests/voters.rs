//! Quorums whose voters change while they run (KIP-853): the stories that the protocol is about, Kafka's answers to
//! what cannot be done, and clusters that grow and shrink under faults from seeds.

extern crate std;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use rand_core::Rng as _;
use wire::Uuid;
use wire::drive::{Endpoint, Nanos};
use wire::error::ErrorCode;

use super::super::change_rpc::{AddVoter, RemoveVoter, UpdateVoter};
use super::super::*;
use super::cluster::{Chaos, Cluster};
use super::seeds::Named;
use super::stories::secs;
use crate::testing::Unsynced;

fn ids(cluster: &Cluster, id: i32) -> Vec<i32> {
    cluster.raft(id).voters().ids().collect()
}

/// A cluster that runs, with a leader that has committed its epoch and observers that have caught up.
fn settled(seed: u64, voters: i32, more: i32) -> (Cluster, i32) {
    let mut cluster = Cluster::growing(seed, voters, more, 1);
    cluster.start_all();
    cluster.run_until("a leader", secs(10), Cluster::has_converged);
    cluster.run_for(secs(2));
    let leader = cluster.leader().unwrap();
    (cluster, leader)
}

/// Asks for a change and waits for the answer.
fn change(cluster: &mut Cluster, leader: i32, request: Request) -> (ErrorCode, Option<String>) {
    let before = cluster.answers.len();
    cluster.operate(leader, request);
    cluster.run_until("the answer", secs(5), |c| c.answers.len() > before);
    match cluster.answers.pop() {
        Some(Response::AddVoter(error, text) | Response::RemoveVoter(error, text)) => (error, text),
        Some(Response::UpdateVoter(standing)) => (standing.error, None),
        other => panic!("{other:?} is no answer to it"),
    }
}

const DONE: (ErrorCode, Option<String>) = (ErrorCode::NONE, None);

#[test]
fn a_quorum_grows_from_one_to_five_and_back() {
    let (mut cluster, _) = settled(1, 1, 4);
    for id in 2..=5 {
        let (leader, request) = (cluster.leader().unwrap(), cluster.adding(id));
        assert_eq!(change(&mut cluster, leader, request), DONE);
        cluster.run_until("all know", secs(5), |c| {
            c.running().all(|(_, p)| p.raft.voters().len() == id as usize)
        });
    }
    assert_eq!(ids(&cluster, 11), [1, 2, 3, 4, 5], "a broker knows them as well");
    // The leader goes, again and again, until one voter is left.
    for left in (1..=4).rev() {
        cluster.run_until("a leader", secs(10), Cluster::has_converged);
        let leader = cluster.leader().unwrap();
        let request = cluster.removing(cluster.key(leader));
        assert_eq!(change(&mut cluster, leader, request), DONE);
        cluster.run_until("another leader", secs(10), |c| c.has_converged() && c.leader() != Some(leader));
        assert_eq!(cluster.raft(cluster.leader().unwrap()).voters().len(), left);
        assert!(!cluster.raft(leader).is_leader() && !ids(&cluster, leader).contains(&leader));
    }
    let last = cluster.leader().unwrap();
    let request = cluster.removing(cluster.key(last));
    let (error, text) = change(&mut cluster, last, request);
    assert_eq!(error, ErrorCode::VOTER_NOT_FOUND);
    assert!(text.unwrap().starts_with("Cannot remove voter ReplicaKey(id="), "the last voter stays");
}

#[test]
fn a_leader_that_is_removed_leads_until_it_is_committed_and_then_resigns() {
    let (mut cluster, leader) = settled(2, 3, 0);
    cluster.history.keep_events = true;
    let others: Vec<i32> = (1..=3).filter(|id| *id != leader).collect();
    others.iter().for_each(|id| cluster.kill(*id));
    let request = cluster.removing(cluster.key(leader));
    cluster.operate(leader, request);
    cluster.run_for(Nanos::from_millis(500));
    assert!(cluster.raft(leader).is_leader() && !ids(&cluster, leader).contains(&leader));
    let at = cluster.append(leader).unwrap();
    cluster.run_for(Nanos::from_millis(100));
    others.iter().for_each(|id| cluster.start(*id));
    cluster.run_until("its last commit", secs(2), |c| {
        c.answers.len() == 1 && c.process(leader).applied > at.last_offset
    });
    assert_eq!(cluster.answers, [Response::RemoveVoter(ErrorCode::NONE, None)]);
    cluster.run_until("another leader", secs(5), |c| c.has_converged() && c.leader() != Some(leader));
    let why = |event: &Event| match event {
        Event::LeaderResigned { why, .. } => Some(why.clone()),
        _ => None,
    };
    let whys: Vec<_> = cluster.history.events.iter().filter_map(|(_, _, event)| why(event)).collect();
    assert_eq!(whys, ["the leader is not in the committed voter set"]);
}

#[test]
fn a_change_that_was_not_committed_is_taken_back_with_the_log() {
    let (mut cluster, leader) = settled(3, 3, 1);
    cluster.isolate(leader);
    let request = cluster.removing(cluster.key(if leader == 1 { 2 } else { 1 }));
    cluster.operate(leader, request);
    cluster.run_for(Nanos::from_millis(100));
    assert_eq!(ids(&cluster, leader).len(), 2, "in effect as soon as it is appended");
    cluster.run_until("another leader", secs(10), |c| {
        !c.answers.is_empty() && c.leader().is_some_and(|id| id != leader)
    });
    assert_eq!(cluster.answers, [Response::RemoveVoter(ErrorCode::REQUEST_TIMED_OUT, None)]);
    let other = cluster.leader().unwrap();
    cluster.append(other).unwrap();
    cluster.cut.clear();
    cluster.run_until("agreement", secs(10), Cluster::has_converged);
    assert_eq!(ids(&cluster, leader), [1, 2, 3]);
    assert!(cluster.history.truncations > 0);
}

#[test]
fn voters_survive_restarts_and_snapshots() {
    let (mut cluster, leader) = settled(4, 3, 1);
    let request = cluster.adding(4);
    assert_eq!(change(&mut cluster, leader, request), DONE);
    cluster.adjust = |config| config.max_bytes_between_snapshots = 300;
    for id in [1, 2, 3, 4, 11] {
        cluster.kill(id);
        cluster.start(id);
    }
    cluster.run_until("a leader", secs(10), Cluster::has_converged);
    for _ in 0..10 {
        let leader = cluster.leader().unwrap();
        cluster.append(leader).unwrap();
        cluster.run_for(Nanos::from_millis(200));
    }
    assert!(cluster.history.snapshots_written > 0);
    // Whoever comes with an empty disk learns the voters from the snapshot.
    cluster.kill(11);
    cluster.replace_disk(11);
    cluster.start(11);
    cluster.run_until("the observer", secs(10), Cluster::has_converged);
    assert!(cluster.history.snapshots_loaded > 0);
    assert_eq!(ids(&cluster, 11), [1, 2, 3, 4]);
    assert_eq!(cluster.raft(11).kraft_version(), 1);
}

#[test]
fn a_voter_on_a_new_disk_does_not_vote_until_it_is_added() {
    let (mut cluster, leader) = settled(5, 3, 0);
    let lost = if leader == 1 { 2 } else { 1 };
    let old = cluster.key(lost);
    cluster.kill(lost);
    cluster.replace_disk(lost);
    cluster.start(lost);
    cluster.run_for(secs(3));
    // It fetches as an observer: with the third voter gone the leader commits nothing.
    let third = 6 - leader - lost;
    cluster.kill(third);
    let at = cluster.append(leader).unwrap();
    cluster.run_for(secs(1));
    assert!(cluster.raft(leader).high_watermark().unwrap() <= at.base_offset, "it counts for nothing");
    cluster.start(third);
    cluster.run_until("a leader", secs(10), Cluster::has_converged);
    let leader = cluster.leader().unwrap();
    let request = cluster.adding(lost);
    let (error, text) = change(&mut cluster, leader, request);
    assert_eq!(error, ErrorCode::DUPLICATE_VOTER);
    assert!(text.unwrap().contains(&format!("id={lost}, directoryId={}", cluster.key(lost).directory_id)));
    let request = cluster.removing(old);
    assert_eq!(change(&mut cluster, leader, request), DONE);
    cluster.run_for(secs(1));
    let request = cluster.adding(lost);
    assert_eq!(change(&mut cluster, leader, request), DONE);
    assert_eq!(cluster.raft(leader).voters().node(lost).unwrap().key, cluster.key(lost));
}

#[test]
fn what_cannot_be_done_is_refused_in_kafkas_words() {
    let (mut cluster, leader) = settled(6, 1, 2);
    let cluster_id = "MkU3OEVBNTcwNTJENDM2Qg";
    let plain = cluster.adding(2);
    let add = |edit: &dyn Fn(&mut AddVoter)| {
        let Request::AddVoter(mut add) = plain.clone() else { unreachable!() };
        edit(&mut add);
        Request::AddVoter(add)
    };
    let other = Some("other".to_string());
    let elsewhere: (Arc<str>, Endpoint) = (Arc::from("OTHER"), Endpoint::new("c2", 9093));
    let mut key = cluster.key(1);
    let duplicate = key;
    key.directory_id = Uuid([9; 16]);
    let keys = format!("[ReplicaKey(id=1, directoryId={})]", duplicate.directory_id);
    let cases = [
        (
            add(&|add| add.cluster_id = other.clone()),
            ErrorCode::INCONSISTENT_CLUSTER_ID,
            format!("The given id \"other\" doesn't match the cluster id \"{cluster_id}\""),
        ),
        (
            add(&|add| add.voter = None),
            ErrorCode::INVALID_REQUEST,
            "Add voter request didn't include a valid voter".to_string(),
        ),
        (
            add(&|add| add.voter = Some(ReplicaKey::new(2, Uuid::ZERO))),
            ErrorCode::INVALID_REQUEST,
            "Add voter request didn't include a valid voter".to_string(),
        ),
        (
            add(&|add| add.listeners = vec![elsewhere.clone()]),
            ErrorCode::INVALID_REQUEST,
            "Add voter request didn't include the endpoint (Endpoints(endpoints={ListenerName(OTHER)=c2/<unresolved>:9093})) \
             for the default listener ListenerName(CONTROLLER)"
                .to_string(),
        ),
        (
            add(&|add| add.voter = Some(duplicate)),
            ErrorCode::DUPLICATE_VOTER,
            format!(
                "The voter id for ReplicaKey(id=1, directoryId={}) is already part of the set of voters {keys}.",
                duplicate.directory_id
            ),
        ),
        (
            Request::RemoveVoter(RemoveVoter { cluster_id: None, voter: None }),
            ErrorCode::INVALID_REQUEST,
            "Remove voter request didn't include a valid voter".to_string(),
        ),
        (
            cluster.removing(key),
            ErrorCode::VOTER_NOT_FOUND,
            format!(
                "Cannot remove voter ReplicaKey(id=1, directoryId={}) from the set of voters {keys}",
                key.directory_id
            ),
        ),
    ];
    for (request, error, text) in cases {
        assert_eq!(change(&mut cluster, leader, request), (error, Some(text)));
    }
    // One that never fetched is not caught up.
    let request = add(&|_| ());
    cluster.kill(2);
    cluster.replace_disk(2);
    cluster.start(2);
    let key = cluster.key(2);
    let request = match request {
        Request::AddVoter(add) => Request::AddVoter(AddVoter { voter: Some(key), ..add }),
        _ => unreachable!(),
    };
    cluster.isolate(2);
    cluster.cut.remove(&(leader, 2));
    let (error, text) = change(&mut cluster, leader, request);
    assert_eq!(error, ErrorCode::REQUEST_TIMED_OUT);
    let behind =
        format!("Aborted add voter operation for ReplicaKey(id=2, directoryId={})", key.directory_id);
    assert!(
        text.is_none_or(|text| text == format!("{behind} since it is lagging behind")),
        "it lags, or its answer is lost on the way"
    );
}

#[test]
fn one_change_at_a_time_and_none_before_the_leader_has_committed() {
    let (mut cluster, leader) = settled(7, 3, 2);
    let (four, five) = (cluster.adding(4), cluster.adding(5));
    cluster.operate(leader, four);
    cluster.operate(leader, five);
    cluster.run_until("both answers", secs(5), |c| c.answers.len() == 2);
    let busy = "Request timed out waiting for leader to handle previous voter change request";
    let want = [
        Response::AddVoter(ErrorCode::REQUEST_TIMED_OUT, Some(busy.to_string())),
        Response::AddVoter(ErrorCode::NONE, None),
    ];
    assert_eq!(cluster.answers, want);
    cluster.answers.clear();
    // A change that timed out is still to be committed: no other before it is.
    (1..=4).filter(|id| *id != leader).for_each(|id| cluster.isolate(id));
    let request = cluster.removing(cluster.key(4));
    cluster.operate(leader, request);
    cluster.run_for(Nanos::from_millis(2_100));
    assert_eq!(cluster.answers, [Response::RemoveVoter(ErrorCode::REQUEST_TIMED_OUT, None)]);
    let request = cluster.adding(5);
    let (error, text) = change(&mut cluster, leader, request);
    let text = text.unwrap();
    assert_eq!(error, ErrorCode::REQUEST_TIMED_OUT);
    assert!(
        text.starts_with(
            "Request timed out waiting for voters to commit the latest voter change at Optional["
        ),
        "{text}"
    );
    // A static quorum changes its voters by its configuration.
    let mut fixed = Cluster::new(8, 3, 1);
    fixed.start_all();
    fixed.run_until("a leader", secs(10), Cluster::has_converged);
    let leader = fixed.leader().unwrap();
    for (request, doing) in [(fixed.adding(11), "adding"), (fixed.removing(fixed.key(1)), "removing")] {
        let text = format!("Cluster doesn't support {doing} voter because the kraft.version feature is 0");
        assert_eq!(change(&mut fixed, leader, request), (ErrorCode::UNSUPPORTED_VERSION, Some(text)));
    }
    let follower = 1 + leader % 3;
    let request = fixed.adding(11);
    assert_eq!(change(&mut fixed, follower, request), (ErrorCode::NOT_LEADER_OR_FOLLOWER, None));
}

#[test]
fn a_voter_that_moved_tells_the_leader() {
    let (mut cluster, leader) = settled(9, 3, 0);
    let moved = 1 + leader % 3;
    cluster.kill(moved);
    cluster.adjust = |config| {
        config.listeners.push((Arc::from("SECOND"), Endpoint::new("second", 1)));
    };
    cluster.start(moved);
    cluster.run_until("it is known", secs(10), |c| {
        c.running().all(|(_, p)| p.raft.voters().node(moved).unwrap().listeners.len() == 2)
    });
    assert_eq!(ids(&cluster, moved), [1, 2, 3]);
    let node = cluster.raft(leader).voters().node(moved).unwrap().clone();
    let epoch = cluster.raft(leader).epoch();
    cluster.run_for(secs(3));
    let update = |edit: &dyn Fn(&mut UpdateVoter)| {
        let mut update = UpdateVoter { cluster_id: None, epoch, node: node.clone() };
        edit(&mut update);
        Request::UpdateVoter(update)
    };
    let cases = [
        (update(&|_| ()), ErrorCode::NONE),
        (update(&|it| it.epoch -= 1), ErrorCode::FENCED_LEADER_EPOCH),
        (update(&|it| it.node.supported_kraft_versions = (0, 0)), ErrorCode::INVALID_REQUEST),
        (update(&|it| it.node.listeners.clear()), ErrorCode::INVALID_REQUEST),
        (update(&|it| it.node.key.directory_id = Uuid([9; 16])), ErrorCode::VOTER_NOT_FOUND),
    ];
    for (request, error) in cases {
        assert_eq!(change(&mut cluster, leader, request), (error, None));
        cluster.run_for(secs(1));
    }
}

#[test]
fn controllers_join_by_themselves_if_they_may() {
    let mut cluster = Cluster::growing(10, 1, 2, 1);
    cluster.adjust = |config| config.auto_join = true;
    cluster.start_all();
    cluster.run_until("three voters", secs(30), |c| c.running().all(|(_, p)| p.raft.voters().len() == 3));
    cluster.run_until("a leader", secs(10), Cluster::has_converged);
    // A voter whose disk is new removes what it was, and joins again.
    let leader = cluster.leader().unwrap();
    let lost = 1 + leader % 3;
    cluster.kill(lost);
    cluster.replace_disk(lost);
    cluster.start(lost);
    let key = cluster.key(lost);
    cluster.run_until("it votes again", secs(30), |c| c.raft(leader).voters().is_voter(key));
    assert_eq!(ids(&cluster, leader), [1, 2, 3]);
}

fn one_of<T: Copy>(cluster: &mut Cluster, choices: &[T]) -> T {
    choices[cluster.chance.next_u32() as usize % choices.len()]
}

/// A fault, its end, or a change of the voters that somebody asks for.
fn disturb(cluster: &mut Cluster, controllers: i32) {
    let all: Vec<i32> = cluster.hosts.keys().copied().collect();
    let id = one_of(cluster, &all);
    let runs = cluster.hosts[&id].process.is_some();
    let leader = cluster.leader();
    match cluster.chance.next_u32() % 12 {
        0 if runs => cluster.kill(id),
        1 if runs => {
            let part = cluster.chance.next_u32() % 1_000;
            let unsynced = one_of(cluster, &[Unsynced::Lost, Unsynced::Kept, Unsynced::Part(part)]);
            cluster.power_off(id, unsynced, true);
        }
        2 if leader.is_some() => cluster.kill(leader.unwrap()),
        3 => cluster.isolate(id),
        4 => {
            let other = one_of(cluster, &all);
            cluster.cut.insert((id, other));
        }
        5 | 6 => cluster.cut.clear(),
        7 => cluster.chaos.lost = one_of(cluster, &[0, 0, 20, 200]),
        _ => {
            // Whoever believes that it leads is asked: sometimes more than one does.
            let leaders: Vec<i32> =
                cluster.running().filter(|(_, p)| p.raft.is_leader()).map(|(id, _)| id).collect();
            for leader in leaders {
                let target = 1 + (cluster.chance.next_u32() % controllers as u32) as i32;
                let voters = cluster.raft(leader).voters();
                let request = match voters.node(target) {
                    Some(node) if voters.len() > 2 => cluster.removing(node.key),
                    Some(_) => continue,
                    None => cluster.adding(target),
                };
                cluster.operate(leader, request);
            }
        }
    }
    for id in all {
        let later = Nanos::from_millis(u64::from(cluster.chance.next_u32() % 1_500));
        cluster.start_later(id, later);
    }
}

/// Runs a seed. Returns how many changes were made.
fn run(seed: u64) -> usize {
    let _named = Named(seed);
    let (voters, more) = [(1, 3), (3, 2), (3, 3), (2, 2)][(seed % 4) as usize];
    let mut cluster = Cluster::growing(seed, voters, more, 1);
    cluster.chaos = Chaos {
        latency_us: (100, 1 + cluster.chance.next_u64() % 20_000),
        lost: 0,
        sync_us: (50, 1_000 + cluster.chance.next_u64() % 3 * 5_000),
        slow_disk: None,
        through_wire: seed.is_multiple_of(16),
    };
    if seed.is_multiple_of(3) {
        cluster.adjust = |config| {
            config.max_bytes_between_snapshots = 600;
            config.fetch_snapshot_max_bytes = 250;
        };
    }
    cluster.append_every = Some((20, 100));
    cluster.start_all();
    cluster.run_for(secs(3));
    for _ in 0..14 {
        disturb(&mut cluster, voters + more);
        let pause = Nanos::from_millis(u64::from(cluster.chance.next_u32() % 1_200));
        cluster.run_for(pause);
    }
    cluster.cut.clear();
    cluster.chaos = Chaos::default();
    for id in cluster.hosts.keys().copied().collect::<Vec<_>>() {
        cluster.start_later(id, Nanos::ZERO);
    }
    cluster.run_for(secs(1));
    cluster.append_every = None;
    cluster.run_until("convergence after the faults", secs(30), Cluster::has_converged);
    let leader = cluster.leader().unwrap();
    let at = cluster.append(leader).unwrap();
    cluster.run_until("a commit after the faults", secs(5), |c| {
        c.running().all(|(_, process)| process.applied > at.last_offset)
    });
    let voters = cluster.raft(leader).voters();
    assert!(
        cluster.running().all(|(_, process)| process.raft.voters() == voters),
        "all know the same voters"
    );
    let done = |response: &&Response| {
        matches!(response, Response::AddVoter(ErrorCode::NONE, _) | Response::RemoveVoter(ErrorCode::NONE, _))
    };
    cluster.answers.iter().filter(done).count()
}

/// More with `RAFT_SEEDS=A..B`, given when the tests are built.
#[test]
fn safe_while_it_grows_and_shrinks_under_faults() {
    let (from, to) = match option_env!("RAFT_SEEDS").and_then(|range| range.split_once("..")) {
        Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
        None => (0, 60),
    };
    let changes: usize = (from..to).map(run).sum();
    assert!(
        changes as u64 > (to - from) / 2,
        "{changes} changes in {} runs: too few to mean anything",
        to - from
    );
}

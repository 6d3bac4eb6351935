//! Cases are drawn as text: the partition as it is, what happens, and the record that has to follow.

use super::*;
use alloc::string::{String, ToString};
use core::fmt::Write as _;

const TOPIC: Uuid = Uuid([7; 16]);

fn ids(text: &str) -> Replicas {
    text.split(',').filter(|s| !s.is_empty()).map(|s| s.parse().unwrap()).collect()
}

fn directory(broker: i32) -> Uuid {
    Uuid([100 + broker as u8; 16])
}

/// `replicas=1,2,3 isr=1 leader=1 …`: what is left out is empty, the leader is the first of the ISR or -1.
fn partition(text: &str) -> PartitionRegistration {
    let mut p = PartitionRegistration::created(ids("1"), Directories::from_slice(&[directory(1)]), ids("1"));
    p.leader_epoch = 4;
    p.partition_epoch = 9;
    for word in text.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        match name {
            "replicas" => {
                p.replicas = ids(value);
                p.directories = p.replicas.iter().map(|&r| directory(r)).collect();
                p.isr = p.replicas.clone();
                p.leader = p.replicas[0];
            }
            "isr" => {
                p.isr = ids(value);
                p.leader = p.isr.first().copied().unwrap_or(NO_LEADER);
            }
            "leader" => p.leader = value.parse().unwrap(),
            "elr" => p.elr = ids(value),
            "last" => p.last_known_elr = ids(value),
            "removing" => p.removing_replicas = ids(value),
            "adding" => p.adding_replicas = ids(value),
            "recovering" => p.leader_recovery_state = LeaderRecoveryState::Recovering,
            _ => panic!("{name}?"),
        }
    }
    p
}

/// Applies `dead=… min=… isr=… unclean_shutdown=… election=… noelr= replicas=… removing=… adding=… recovered=`.
fn built(partition: &PartitionRegistration, what: &str) -> String {
    let id = TopicIdPartition { topic_id: TOPIC, partition: 0 };
    let words = || what.split_whitespace().map(|w| w.split_once('=').unwrap());
    let dead = words().find(|w| w.0 == "dead").map(|w| ids(w.1)).unwrap_or_default();
    let may_lead = |r: i32| !dead.contains(&r);
    let mut change = PartitionChange::of(partition, id, &may_lead, &directory);
    change.elr_enabled = true;
    change.min_isr = 2;
    for (name, value) in words() {
        match name {
            "dead" => change.isr.retain(|r| !dead.contains(r)),
            "min" => change.min_isr = value.parse().unwrap(),
            "isr" => change.isr = ids(value),
            "unclean_shutdown" => {
                change.unclean_shutdown = Some(value.parse().unwrap());
                change.isr.retain(|r| Some(*r) != change.unclean_shutdown);
            }
            "election" => {
                change.election = match value {
                    "preferred" => Election::Preferred,
                    "unclean" => Election::Unclean,
                    _ => Election::Online,
                }
            }
            "noelr" => change.elr_enabled = false,
            "replicas" => change.replicas = ids(value),
            "removing" => change.removing = ids(value),
            "adding" => change.adding = ids(value),
            "recovered" => change.leader_recovery_state = LeaderRecoveryState::Recovered,
            _ => panic!("{name}?"),
        }
    }
    let Some(record) = change.build() else { return "nothing".to_string() };
    // Whatever is written has to fit.
    partition.merge(&record).expect("the record fits the partition");
    show(&record)
}

fn show(record: &PartitionChangeRecord) -> String {
    let mut out = String::new();
    let list = |ids: &[i32]| ids.iter().map(|r| r.to_string()).collect::<Vec<_>>().join(",");
    let mut say = |name: &str, value: &Option<Vec<i32>>| {
        if let Some(value) = value {
            write!(out, "{name}=[{}] ", list(value)).unwrap();
        }
    };
    say("isr", &record.isr);
    say("replicas", &record.replicas);
    say("removing", &record.removing_replicas);
    say("adding", &record.adding_replicas);
    say("elr", &record.eligible_leader_replicas);
    say("last", &record.last_known_elr);
    if record.leader != NO_LEADER_CHANGE {
        write!(out, "leader={} ", record.leader).unwrap();
    }
    if record.leader_recovery_state != LeaderRecoveryState::NO_CHANGE {
        write!(out, "recovery={} ", record.leader_recovery_state).unwrap();
    }
    if record.directories.is_some() {
        out.push_str("directories ");
    }
    out.trim_end().to_string()
}

fn check(cases: &[(&str, &str, &str)]) {
    for (before, what, expected) in cases {
        let partition = partition(before);
        assert_eq!(built(&partition, what), *expected, "{before}: {what}");
    }
}

#[test]
fn a_broker_is_fenced() {
    check(&[
        // The leader: the next in assignment order leads.
        ("replicas=1,2,3", "dead=1", "isr=[2,3] leader=2"),
        ("replicas=3,1,2", "dead=1", "isr=[3,2]"),
        // Below min.insync.replicas whoever left stands in the ELR.
        ("replicas=1,2,3 isr=2,3", "dead=2", "isr=[3] elr=[2] leader=3"),
        // From the ELR another can lead at once.
        ("replicas=1,2,3 isr=3 elr=2", "dead=3", "isr=[2] elr=[3] leader=2"),
        ("replicas=1,2", "dead=2 min=1", "isr=[1]"),
        // A follower that is not in the ISR concerns nobody.
        ("replicas=1,2,3 isr=1,2", "dead=3", "nothing"),
    ]);
}

#[test]
fn the_last_member_of_the_isr_leaves() {
    check(&[
        // Killed or shut down: nobody leads, the ISR is empty, it stands in ELR and last known ELR.
        ("replicas=2,1 isr=2", "dead=2 min=1", "isr=[] elr=[2] last=[2] leader=-1"),
        ("replicas=1,2,3 isr=3 elr=2", "dead=3,2", "isr=[] elr=[2,3] last=[3] leader=-1"),
        // Without ELR it stays in the ISR, and nobody leads.
        ("replicas=2,1 isr=2", "dead=2 min=1 noelr=", "leader=-1"),
    ]);
}

#[test]
fn a_broker_is_unfenced() {
    check(&[
        // From the ELR: it leads, alone in the ISR.
        ("replicas=2,1 isr= elr=2 last=2", "dead= min=1", "isr=[2] elr=[] last=[] leader=2"),
        ("replicas=1,2,3 isr= elr=2,3 last=3", "dead=3,1", "isr=[2] elr=[3] last=[] leader=2"),
        // One that is neither in the ISR nor in the ELR changes nothing.
        ("replicas=1,2,3 isr= elr=3 last=3", "dead=3", "nothing"),
        // Nobody is eligible: the last known leader, as an unclean election.
        ("replicas=1,2,3 isr= elr= last=3", "dead=1,2", "isr=[3] last=[] leader=3 recovery=1"),
        ("replicas=1,2,3 isr= elr= last=3", "dead=3", "nothing"),
        // Without ELR: the last member of the ISR.
        ("replicas=2,1 isr=2 leader=-1", "noelr=", "leader=2"),
    ]);
}

#[test]
fn unclean_elections() {
    check(&[
        ("replicas=1,2,3 isr= elr=1 last=1", "dead=1 election=online", "nothing"),
        (
            "replicas=1,2,3 isr= elr=1 last=1",
            "dead=1 election=unclean",
            "isr=[2] elr=[] last=[] leader=2 recovery=1",
        ),
        // Clean ones come first.
        ("replicas=1,2,3 isr=3", "election=unclean", "nothing"),
        ("replicas=1,2,3 isr= elr=3 last=1", "dead=1 election=unclean", "isr=[3] elr=[] last=[] leader=3"),
        // Recovering already: said only once.
        ("replicas=1,2 isr=1 recovering=", "dead=1 election=unclean min=1 noelr=", "isr=[2] leader=2"),
        ("replicas=1,2 isr=1", "dead=1 election=unclean min=1 noelr=", "isr=[2] leader=2 recovery=1"),
        // Nobody is alive.
        ("replicas=1,2 isr= elr=1 last=1", "dead=1,2 election=unclean", "nothing"),
    ]);
}

#[test]
fn preferred_elections() {
    check(&[
        ("replicas=1,2,3 leader=2", "election=preferred", "leader=1"),
        ("replicas=1,2,3 isr=2,3", "dead=1 election=preferred", "nothing"),
        ("replicas=1,2,3", "election=preferred", "nothing"),
        ("replicas=1,2,3 isr=2,3", "election=preferred", "nothing"),
    ]);
}

#[test]
fn unclean_shutdowns_lose_eligibility() {
    check(&[
        // Fenced, in the ELR, back with an unclean shutdown: not eligible any more. It was the last leader, but it is
        // fenced still, so nobody leads yet.
        ("replicas=2,1 isr= elr=2 last=2", "unclean_shutdown=2 dead=2 min=1", "elr=[]"),
        ("replicas=1,2,3 isr=3 elr=2", "unclean_shutdown=2 dead=2", "elr=[]"),
        // Still in the ISR: it restarted before its session ended.
        ("replicas=1,2,3", "unclean_shutdown=1 dead=1", "isr=[2,3] leader=2"),
        ("replicas=1,2 isr=1 ", "unclean_shutdown=1 dead=1", "isr=[] last=[1] leader=-1"),
    ]);
}

#[test]
fn isr_changes_by_the_leader() {
    check(&[
        ("replicas=1,2,3", "isr=1,3", "isr=[1,3]"),
        ("replicas=1,2,3", "isr=1", "isr=[1] elr=[2,3]"),
        ("replicas=1,2,3 isr=1 elr=2,3", "isr=1,2", "isr=[1,2] elr=[]"),
        ("replicas=1,2,3 isr=1 elr=2,3", "isr=1,2 min=3", "isr=[1,2] elr=[3]"),
        // The leader says that it has recovered.
        ("replicas=1,2 isr=1 recovering=", "isr=1,2 recovered=", "isr=[1,2] recovery=0"),
        ("replicas=1,2,3", "isr=1,2,3", "nothing"),
    ]);
}

#[test]
fn reassignments() {
    check(&[
        // It begins.
        (
            "replicas=1,2 isr=1,2",
            "replicas=3,1,2 removing=2 adding=3",
            "replicas=[3,1,2] removing=[2] adding=[3] directories",
        ),
        // Another order of the same replicas is done at once; the leader stays.
        ("replicas=1,2 isr=1,2", "replicas=2,1", "replicas=[2,1] directories"),
        // The new replica is in sync: done. Leadership stays with 1, the epoch is raised since 2 goes.
        (
            "replicas=3,1,2 isr=1,2 leader=1 removing=2 adding=3",
            "isr=1,2,3",
            "isr=[1,3] replicas=[3,1] removing=[] adding=[] leader=1 directories",
        ),
        // The leader goes: another leads.
        (
            "replicas=2,3,1 isr=1,2 leader=1 removing=1 adding=3",
            "isr=1,2,3",
            "isr=[2,3] replicas=[2,3] removing=[] adding=[] leader=2 directories",
        ),
        // The new replica is dead: it neither fails nor ends.
        ("replicas=3,1,2 isr=1,2 leader=1 removing=2 adding=3", "dead=3", "nothing"),
        // As many added as removed: those that are added have to be in sync, others need not.
        (
            "replicas=3,1,2 isr=2,1 leader=2 removing=2 adding=3",
            "isr=2,3",
            "isr=[3] replicas=[3,1] removing=[] adding=[] elr=[1,2] leader=3 directories",
        ),
        // More removed than added: all that stay have to be in sync.
        ("replicas=4,1,2,3 isr=2 leader=2 removing=2,3 adding=4", "isr=2,4", "isr=[2,4]"),
        // Removing only: at least one that stays.
        ("replicas=1,2 isr=2 leader=2 removing=2", "min=1", "nothing"),
    ]);
}

#[test]
fn without_elr_what_was_eligible_is_forgotten() {
    check(&[("replicas=1,2 isr=1 elr=2", "noelr= min=1", "elr=[]")]);
}

#[test]
fn a_directory_is_assigned() {
    let partition = partition("replicas=1,2");
    let id = TopicIdPartition { topic_id: TOPIC, partition: 0 };
    let all = |_| true;
    let mut change = PartitionChange::of(&partition, id, &all, &directory);
    change.directory = Some((2, Uuid([9; 16])));
    let record = change.build().unwrap();
    assert_eq!(record.directories, Some(alloc::vec![directory(1), Uuid([9; 16])]));
    assert_eq!(record.leader, NO_LEADER_CHANGE);
}

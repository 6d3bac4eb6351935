//! Tables from what Kafka documents and tests, and properties over random groups.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use rand_core::SeedableRng as _;

use super::*;
use crate::Rng;
use crate::backoff::below;

const ALL: [Assignor; 4] =
    [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky];

/// `t0:3 t1:2`, or with racks `t0:ab,bc,ca`: the racks of each partition's replicas, a letter each.
fn topics(text: &str) -> Topics {
    let topic = |word: &str| {
        let (name, partitions) = word.split_once(':').unwrap();
        let racks = |letters: &str| letters.chars().map(|c| c.to_string().into()).collect();
        let partitions = match partitions.parse::<usize>() {
            Ok(count) => vec![Vec::new(); count],
            Err(_) => partitions.split(',').map(racks).collect(),
        };
        (name.into(), partitions)
    };
    text.split_whitespace().map(topic).collect()
}

/// `a:t0,t1 b@rack:t1 c!instance:t0`.
fn members(text: &str) -> Vec<Member> {
    let member = |word: &str| {
        let (head, topics) = word.split_once(':').unwrap();
        let (head, instance) = head.split_once('!').map_or((head, None), |(id, i)| (id, Some(i.into())));
        let (id, rack) = head.split_once('@').map_or((head, None), |(id, rack)| (id, Some(rack.into())));
        let topics = topics.split(',').map(Arc::from).collect();
        Member { id: id.into(), instance, rack, topics, ..Member::default() }
    };
    text.split_whitespace().map(member).collect()
}

/// `a=t0-0,t0-1 b=`, in order.
fn shown(assignment: &Assignment) -> String {
    let one = |(id, partitions): (&Arc<str>, &Vec<TopicPartition>)| {
        let mut partitions = partitions.clone();
        partitions.sort_unstable();
        let names: Vec<String> = partitions.iter().map(|p| format!("{p}")).collect();
        format!("{id}={}", names.join(","))
    };
    assignment.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Members as they join again after they got this in that generation.
fn rejoin(assignor: Assignor, members: &mut [Member], assignment: &Assignment, generation: i32) {
    for member in members {
        let owned = assignment.get(&member.id).cloned().unwrap_or_default();
        let known = assignment.contains_key(&member.id);
        member.generation = known.then_some(generation);
        member.user_data = assignor.user_data(known.then_some((&owned[..], generation)));
        member.owned = if assignor.is_cooperative() { owned } else { Vec::new() };
    }
}

#[test]
fn assigns_as_kafka_documents() {
    use Assignor::*;
    let cases = [
        // The examples of the classes' documentation.
        (Range, "t0:3 t1:3", "C0:t0,t1 C1:t0,t1", "C0=t0-0,t0-1,t1-0,t1-1 C1=t0-2,t1-2"),
        (RoundRobin, "t0:3 t1:3", "C0:t0,t1 C1:t0,t1", "C0=t0-0,t0-2,t1-1 C1=t0-1,t1-0,t1-2"),
        (
            RoundRobin,
            "t0:1 t1:2 t2:3",
            "C0:t0 C1:t0,t1 C2:t0,t1,t2",
            "C0=t0-0 C1=t1-0 C2=t1-1,t2-0,t2-1,t2-2",
        ),
        (Sticky, "t0:1 t1:2 t2:3", "C0:t0 C1:t0,t1 C2:t0,t1,t2", "C0=t0-0 C1=t1-0,t1-1 C2=t2-0,t2-1,t2-2"),
        (
            Sticky,
            "t0:2 t1:2 t2:2 t3:2",
            "C0:t0,t1,t2,t3 C1:t0,t1,t2,t3 C2:t0,t1,t2,t3",
            "C0=t0-0,t1-1,t3-0 C1=t0-1,t2-0,t3-1 C2=t1-0,t2-1",
        ),
        // Static members come first, by instance.
        (Range, "t0:3", "a:t0 b!2:t0 c!1:t0", "a=t0-2 b=t0-1 c=t0-0"),
        (RoundRobin, "t0:3", "a:t0 b!2:t0 c!1:t0", "a=t0-2 b=t0-1 c=t0-0"),
        // More members than partitions, and topics that nobody wants or that are not there.
        (Range, "t0:1 t1:4", "a:t0 b:t0 c:t0,t9", "a=t0-0 b= c="),
        (Sticky, "t0:1 t1:4", "a:t0 b:t0 c:t0", "a=t0-0 b= c="),
        (CooperativeSticky, "", "a:t0", "a="),
    ];
    for (assignor, given, group, expected) in cases {
        let assignment = assignor.assign(&topics(given), &members(group));
        assert_eq!(shown(&assignment), expected, "{assignor:?} {given} / {group}");
    }
}

#[test]
fn range_looks_at_racks_where_that_keeps_the_balance() {
    let cases = [
        // Everybody reads nearby.
        ("t0:a,b,c", "x@c:t0 y@b:t0 z@a:t0", "x=t0-2 y=t0-1 z=t0-0"),
        // A replica in every rack: there is nothing to gain.
        ("t0:abc,abc,abc", "x@c:t0 y@b:t0 z@a:t0", "x=t0-0 y=t0-1 z=t0-2"),
        // Nobody is near.
        ("t0:a,b", "x@c:t0 y@d:t0", "x=t0-0 y=t0-1"),
        // Balance comes first.
        ("t0:a,a,a,b", "x@a:t0 y@b:t0", "x=t0-0,t0-1 y=t0-2,t0-3"),
        // Topics of as many partitions stay together.
        ("t0:a,b t1:a,b", "x@b:t0,t1 y@a:t0,t1", "x=t0-1,t1-1 y=t0-0,t1-0"),
        ("t0:a,b t1:b,a", "x@b:t0,t1 y@a:t0,t1", "x=t0-0,t1-0 y=t0-1,t1-1"),
        // Who has no rack takes anything.
        ("t0:a,b", "x:t0 y@a:t0", "x=t0-0 y=t0-1"),
    ];
    for (given, group, expected) in cases {
        let assignment = Assignor::Range.assign(&topics(given), &members(group));
        assert_eq!(shown(&assignment), expected, "{given} / {group}");
    }
}

#[test]
fn sticky_members_keep_what_they_have() {
    for assignor in [Assignor::Sticky, Assignor::CooperativeSticky] {
        let given = topics("t0:2 t1:2 t2:2 t3:2");
        let mut group = members("C0:t0,t1,t2,t3 C1:t0,t1,t2,t3 C2:t0,t1,t2,t3");
        let first = assignor.assign(&given, &group);
        // C1 is gone: the others keep what they have, and its partitions go round.
        group.remove(1);
        rejoin(assignor, &mut group, &first, 1);
        let second = assignor.assign(&given, &group);
        assert_eq!(shown(&second), "C0=t0-0,t0-1,t1-1,t3-0 C2=t1-0,t2-0,t2-1,t3-1", "{assignor:?}");
        // A third comes: what it gets is first given up by the others, if they cooperate.
        rejoin(assignor, &mut group, &second, 2);
        group.extend(members("C9:t0,t1,t2,t3"));
        let third = assignor.assign(&given, &group);
        let sizes: Vec<usize> = third.values().map(Vec::len).collect();
        match assignor {
            Assignor::Sticky => assert_eq!(sizes, [3, 3, 2]),
            _ => assert_eq!(sizes, [3, 3, 0]),
        }
        rejoin(assignor, &mut group, &third, 3);
        let fourth = assignor.assign(&given, &group);
        let sizes: Vec<usize> = fourth.values().map(Vec::len).collect();
        assert_eq!(sizes, [3, 3, 2], "{assignor:?}");
        for member in ["C0", "C2"] {
            assert!(fourth[member].iter().all(|kept| second[member].contains(kept)), "{assignor:?} {member}");
        }
    }
}

#[test]
fn the_latest_generation_owns_and_disputes_belong_to_nobody() {
    let given = topics("t0:2");
    let own = |id: &str, generation: i32, partitions: &[i32]| {
        let mut member = members(&format!("{id}:t0")).remove(0);
        member.owned = partitions.iter().map(|&p| TopicPartition::new("t0", p)).collect();
        member.generation = Some(generation);
        member
    };
    let assign = |group: &[Member]| shown(&Assignor::CooperativeSticky.assign(&given, group));
    assert_eq!(assign(&[own("a", 1, &[0, 1]), own("b", 2, &[0])]), "a=t0-1 b=t0-0");
    // Both claim it in one generation: it is taken from both before anybody gets it.
    assert_eq!(assign(&[own("a", 2, &[0]), own("b", 2, &[0])]), "a= b=t0-1");
}

#[test]
fn everything_is_assigned_once_and_evenly() {
    let mut rng = Rng::seed_from_u64(7);
    for round in 0..300 {
        let (given, group) = random_group(&mut rng, round % 3 == 0);
        for assignor in ALL {
            let assignment = assignor.assign(&given, &group);
            check_partition(&given, &group, &assignment, &format!("{assignor:?} {round}"));
            let equal = group.iter().all(|member| member.topics == group[0].topics);
            if equal && assignor != Assignor::Range {
                let sizes: Vec<usize> = assignment.values().map(Vec::len).collect();
                let (min, max) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
                assert!(max - min <= 1, "{assignor:?} {round}: {sizes:?}");
            }
        }
    }
}

#[test]
fn sticky_groups_settle_and_move_no_more_than_they_must() {
    let mut rng = Rng::seed_from_u64(8);
    for round in 0..300 {
        let (mut given, mut group) = random_group(&mut rng, round % 4 == 0);
        let equal = round % 2 == 0;
        for assignor in [Assignor::Sticky, Assignor::CooperativeSticky] {
            if equal {
                let topics = group[0].topics.clone();
                group.iter_mut().for_each(|member| member.topics = topics.clone());
            }
            let mut last = settle(assignor, &given, &mut group, 0);
            for step in 0..4 {
                let name = format!("{assignor:?} {round} {step}");
                let before = last.clone();
                change(&mut rng, &mut given, &mut group, equal);
                last = settle(assignor, &given, &mut group, step * 10 + 10);
                check_partition(&given, &group, &last, &name);
                if equal && group.iter().all(|member| member.rack.is_none()) {
                    check_stickiness(&given, &before, &last, &name);
                }
            }
        }
    }
}

/// Rebalances until nothing is waiting to be given up; nobody ever gets what another one has.
fn settle(assignor: Assignor, given: &Topics, group: &mut [Member], generation: i32) -> Assignment {
    let mut assignment = assignor.assign(given, group);
    for round in 1..5 {
        if assignor.is_cooperative() {
            for member in group.iter() {
                for taken in &assignment[&member.id] {
                    let owner = group.iter().find(|other| other.owned.contains(taken));
                    assert!(
                        owner.is_none_or(|owner| owner.id == member.id),
                        "{taken} is taken while it is owned"
                    );
                }
            }
        }
        rejoin(assignor, group, &assignment, generation + round);
        let next = assignor.assign(given, group);
        if shown(&next) == shown(&assignment) {
            return next;
        }
        assignment = next;
    }
    panic!("{assignor:?} does not settle");
}

fn change(rng: &mut Rng, given: &mut Topics, group: &mut Vec<Member>, equal: bool) {
    match below(rng, 3) {
        0 if group.len() > 1 => drop(group.remove(below(rng, group.len() as u64) as usize)),
        1 => {
            let topic = format!("t{}", below(rng, given.len() as u64));
            given.get_mut(topic.as_str()).unwrap().push(Vec::new());
        }
        _ => {
            let topics = if equal { group[0].topics.clone() } else { random_topics(rng, given) };
            let id = format!("n{}", below(rng, 1000)).as_str().into();
            if group.iter().all(|member| member.id != id) {
                group.push(Member { id, topics, ..Member::default() });
            }
        }
    }
}

/// With equal members nobody loses a partition unless it had more than its share.
fn check_stickiness(given: &Topics, before: &Assignment, after: &Assignment, name: &str) {
    let partitions: usize = after.values().map(Vec::len).sum();
    let share = partitions.div_ceil(after.len());
    let floor = partitions / after.len();
    let mut kept_over = 0;
    for (member, had) in before {
        let Some(has) = after.get(member) else { continue };
        let there = |partition: &&TopicPartition| given.contains_key(&partition.topic);
        let had: Vec<&TopicPartition> = had.iter().filter(there).collect();
        let kept = had.iter().filter(|partition| has.contains(partition)).count();
        assert!(kept >= had.len().min(floor), "{name}: {member} had {} and kept {kept}", had.len());
        kept_over += usize::from(kept == share);
    }
    assert!(kept_over <= after.len(), "{name}");
}

fn check_partition(given: &Topics, group: &[Member], assignment: &Assignment, name: &str) {
    assert_eq!(assignment.len(), group.len(), "{name}: everybody is in it");
    let mut all: Vec<&TopicPartition> = assignment.values().flatten().collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "{name}: nothing twice");
    let wanted = |topic: &&Arc<str>| group.iter().any(|member| member.topics.contains(*topic));
    let expected: usize = given.keys().filter(wanted).map(|topic| given[topic].len()).sum();
    assert_eq!(count, expected, "{name}: everything that anybody wants");
    for member in group {
        let subscribed = |p: &TopicPartition| member.topics.contains(&p.topic);
        assert!(assignment[&member.id].iter().all(subscribed), "{name}: {}", member.id);
    }
}

fn random_topics(rng: &mut Rng, given: &Topics) -> Vec<Arc<str>> {
    let mut topics: Vec<Arc<str>> = given.keys().filter(|_| below(rng, 2) == 0).cloned().collect();
    if topics.is_empty() {
        topics.push("t0".into());
    }
    topics
}

fn random_group(rng: &mut Rng, with_racks: bool) -> (Topics, Vec<Member>) {
    let rack = |rng: &mut Rng| Arc::from(["a", "b", "c"][below(rng, 3) as usize]);
    let racks = |rng: &mut Rng| match with_racks {
        true => (0..2).map(|_| rack(rng)).collect(),
        false => Vec::new(),
    };
    let mut given = Topics::new();
    for topic in 0..1 + below(rng, 5) {
        let partitions = (0..1 + below(rng, 9)).map(|_| racks(rng)).collect();
        given.insert(format!("t{topic}").as_str().into(), partitions);
    }
    let equal = below(rng, 2) == 0;
    let mut group = Vec::new();
    for id in 0..1 + below(rng, 8) {
        let topics = if equal { given.keys().cloned().collect() } else { random_topics(rng, &given) };
        let instance = (below(rng, 4) == 0).then(|| format!("i{}", 9 - id).as_str().into());
        let rack = (with_racks && below(rng, 3) > 0).then(|| rack(rng));
        group.push(Member {
            id: format!("m{id}").as_str().into(),
            instance,
            rack,
            topics,
            ..Member::default()
        });
    }
    (given, group)
}

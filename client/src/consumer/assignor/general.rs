//! Sticky assignment when members subscribe to different topics (`GeneralAssignmentBuilder`).
//!
//! What is owned stays, what is free goes to the subscriber with the least, and then partitions move one at a time to
//! members that have at least two less, until no such move is left. A partition that would only swap places with
//! another one of its topic stays where it is.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use super::sticky::{DEFAULT_GENERATION, Place, Problem};

struct Builder<'a> {
    problem: &'a Problem<'a>,
    /// The members that subscribe to each topic.
    consumers: Vec<Vec<usize>>,
    assigned: Vec<Vec<Place>>,
    owner: Vec<Option<usize>>,
    /// The members that take part, by the number of their partitions.
    by_size: BTreeSet<(usize, usize)>,
    takes_part: Vec<bool>,
    /// Who had a partition in an earlier generation than the latest.
    previous: BTreeMap<Place, (usize, i32)>,
    movements: Movements,
}

pub(super) fn assign(problem: &Problem<'_>) -> Vec<Vec<Place>> {
    let topics = problem.first.len() - 1;
    let mut consumers = vec![Vec::new(); topics];
    for (member, subscribed) in problem.subscribed.iter().enumerate() {
        subscribed.iter().for_each(|&topic| consumers[topic].push(member));
    }
    let mut builder = Builder {
        assigned: vec![Vec::new(); problem.members.len()],
        owner: vec![None; problem.topic_of.len()],
        by_size: BTreeSet::new(),
        takes_part: vec![true; problem.members.len()],
        previous: previous_owners(problem),
        movements: Movements::default(),
        consumers,
        problem,
    };
    let revoked = builder.keep_owned();
    // Topics that fewer members can read come first.
    let mut order: Vec<usize> = (0..topics).collect();
    order.sort_by_key(|&topic| builder.consumers[topic].len());
    let all: Vec<Place> = order.iter().flat_map(|&topic| problem.places(topic)).collect();
    let unassigned: Vec<Place> = all.iter().copied().filter(|&p| builder.owner[p].is_none()).collect();
    builder.by_size = builder.assigned.iter().enumerate().map(|(member, own)| (own.len(), member)).collect();
    builder.balance(&all, &unassigned, revoked);
    builder.assigned
}

fn previous_owners(problem: &Problem<'_>) -> BTreeMap<Place, (usize, i32)> {
    let mut previous: BTreeMap<Place, (usize, i32)> = BTreeMap::new();
    for (member, (places, generation)) in problem.claims.iter().enumerate() {
        let generation = match *generation {
            Some(generation) if generation < problem.max_generation => generation,
            None if problem.max_generation > DEFAULT_GENERATION => DEFAULT_GENERATION,
            _ => continue,
        };
        for &place in places {
            if previous.get(&place).is_none_or(|&(_, known)| generation > known) {
                previous.insert(place, (member, generation));
            }
        }
    }
    previous
}

impl Builder<'_> {
    /// Whether somebody loses what it may not read any more, or should not because of its rack.
    fn keep_owned(&mut self) -> bool {
        let mut revoked = false;
        for member in 0..self.assigned.len() {
            for &place in &self.problem.owned[member] {
                let topic = self.problem.topic_of[place];
                let subscribed = self.problem.subscribed[member].contains(&topic);
                if !subscribed || self.problem.racks.mismatch(member, place) {
                    revoked = true;
                } else {
                    self.assigned[member].push(place);
                    self.owner[place] = Some(member);
                }
            }
        }
        revoked
    }

    fn balance(&mut self, all: &[Place], unassigned: &[Place], revoked: bool) {
        let initializing = self.by_size.last().is_none_or(|&(size, _)| size == 0);
        if self.problem.racks.matter() {
            unassigned.iter().for_each(|&place| self.give_to_least(place, true));
        }
        for &place in unassigned {
            if self.owner[place].is_none() {
                self.give_to_least(place, false);
            }
        }
        let can_move = |place: &Place| self.consumers[self.problem.topic_of[*place]].len() >= 2;
        let all: Vec<Place> = all.iter().copied().filter(can_move).collect();
        let unassigned: Vec<Place> = unassigned.iter().copied().filter(can_move).collect();
        for member in 0..self.assigned.len() {
            self.takes_part[member] = self.can_take_part(member);
            if !self.takes_part[member] {
                self.by_size.remove(&(self.assigned[member].len(), member));
            }
        }
        let before = (self.assigned.clone(), self.owner.clone());
        if !revoked {
            self.improve(&unassigned);
        }
        let moved = self.improve(&all);
        if !initializing && moved && self.score(&self.assigned) >= self.score(&before.0) {
            (self.assigned, self.owner) = before;
        }
    }

    fn give_to_least(&mut self, place: Place, in_rack: bool) {
        let topic = self.problem.topic_of[place];
        let fits = |&&(_, member): &&(usize, usize)| {
            self.problem.subscribed[member].contains(&topic)
                && !(in_rack && self.problem.racks.mismatch(member, place))
        };
        let Some(&(size, member)) = self.by_size.iter().find(fits) else { return };
        self.by_size.remove(&(size, member));
        self.assigned[member].push(place);
        self.owner[place] = Some(member);
        self.by_size.insert((size + 1, member));
    }

    fn most_possible(&self, member: usize) -> usize {
        self.problem.subscribed[member].iter().map(|&topic| self.problem.places(topic).len()).sum()
    }

    fn can_take_part(&self, member: usize) -> bool {
        let own = &self.assigned[member];
        own.len() < self.most_possible(member)
            || own.iter().any(|&place| self.consumers[self.problem.topic_of[place]].len() >= 2)
    }

    /// Whether no member could have a partition of another one that has at least two more.
    fn is_balanced(&self) -> bool {
        let (Some(&(least, _)), Some(&(most, _))) = (self.by_size.first(), self.by_size.last()) else {
            return true;
        };
        if least + 1 >= most {
            return true;
        }
        let mut largest = vec![0; self.consumers.len()];
        for &(size, member) in &self.by_size {
            for &place in &self.assigned[member] {
                let largest = &mut largest[self.problem.topic_of[place]];
                *largest = size.max(*largest);
            }
        }
        self.by_size.iter().all(|&(size, member)| {
            size == self.most_possible(member)
                || self.problem.subscribed[member].iter().all(|&topic| size + 1 >= largest[topic])
        })
    }

    fn improve(&mut self, places: &[Place]) -> bool {
        let mut moved = false;
        loop {
            let mut modified = false;
            for &place in places {
                if self.is_balanced() {
                    break;
                }
                modified |= self.improve_place(place);
            }
            moved |= modified;
            if !modified {
                return moved;
            }
        }
    }

    fn improve_place(&mut self, place: Place) -> bool {
        let Some(member) = self.owner[place] else { return false };
        let size = self.assigned[member].len();
        let has_less = |other: usize| self.takes_part[other] && size > self.assigned[other].len() + 1;
        if let Some(&(previous, _)) = self.previous.get(&place).filter(|&&(previous, _)| has_less(previous)) {
            self.reassign(place, previous);
            return true;
        }
        let others = &self.consumers[self.problem.topic_of[place]];
        if !others.iter().any(|&other| has_less(other)) {
            return false;
        }
        let topic = self.problem.topic_of[place];
        let subscribes = |&&(_, other): &&(usize, usize)| self.problem.subscribed[other].contains(&topic);
        let &(_, least) = self.by_size.iter().find(subscribes).expect("one of them has less");
        self.reassign(place, least);
        true
    }

    fn reassign(&mut self, place: Place, to: usize) {
        let from = self.owner[place].expect("what is moved has an owner");
        let topic = self.problem.topic_of[place];
        let place = self.movements.actual(topic, place, from, to);
        let from = self.owner[place].expect("what was moved has an owner");
        self.by_size.remove(&(self.assigned[from].len(), from));
        self.by_size.remove(&(self.assigned[to].len(), to));
        self.movements.moved(topic, place, from, to);
        self.assigned[from].retain(|&own| own != place);
        self.assigned[to].push(place);
        self.owner[place] = Some(to);
        self.by_size.insert((self.assigned[from].len(), from));
        self.by_size.insert((self.assigned[to].len(), to));
    }

    /// The sum of the differences of all pairs: 0 is perfect balance.
    fn score(&self, assigned: &[Vec<Place>]) -> usize {
        let sizes = assigned.iter().zip(&self.takes_part).filter(|&(_, &takes_part)| takes_part);
        let sizes: Vec<usize> = sizes.map(|(own, _)| own.len()).collect();
        let pair = |i: usize, j: usize| sizes[i].abs_diff(sizes[j]);
        (0..sizes.len()).map(|i| (i + 1..sizes.len()).map(|j| pair(i, j)).sum::<usize>()).sum()
    }
}

/// Which partitions have moved from whom to whom.
#[derive(Default)]
struct Movements {
    by_topic: BTreeMap<usize, BTreeMap<(usize, usize), BTreeSet<Place>>>,
    of: BTreeMap<Place, (usize, usize)>,
}

impl Movements {
    fn moved(&mut self, topic: usize, place: Place, from: usize, to: usize) {
        let mut source = from;
        if let Some(pair) = self.of.remove(&place) {
            assert_eq!(pair.1, from, "a partition moves from where it is");
            let pairs = self.by_topic.get_mut(&topic).expect("movements are kept twice");
            let places = pairs.get_mut(&pair).expect("movements are kept twice");
            places.remove(&place);
            if places.is_empty() {
                pairs.remove(&pair);
            }
            if pair.0 == to {
                return;
            }
            source = pair.0;
        }
        self.of.insert(place, (source, to));
        self.by_topic.entry(topic).or_default().entry((source, to)).or_default().insert(place);
    }

    /// The partition to move in this one's stead: one of its topic that has moved the other way goes back.
    fn actual(&self, topic: usize, place: Place, from: usize, to: usize) -> Place {
        let from = self.of.get(&place).map_or(from, |pair| pair.0);
        let back = self.by_topic.get(&topic).and_then(|pairs| pairs.get(&(to, from)));
        back.and_then(|places| places.first().copied()).unwrap_or(place)
    }
}

//! Sticky assignment when all members subscribe to the same topics (`ConstrainedAssignmentBuilder`).
//!
//! Everybody gets the floor of the average, as many as must one more. Members keep what they own up to that; what is
//! free then goes round, first to members in a replica's rack.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use super::sticky::{Place, Problem};

struct Builder<'a> {
    problem: &'a Problem<'a>,
    min: usize,
    max: usize,
    /// So many members get more than `min`.
    over_expected: usize,
    over: usize,
    /// Below `min`.
    under: Vec<usize>,
    /// With exactly `min`, while more members may have more than that.
    exact: VecDeque<usize>,
    assigned: Vec<Vec<Place>>,
    /// Who owned what it could not keep.
    given_up: BTreeMap<Place, usize>,
    moving: Vec<(Place, usize)>,
}

pub(super) fn assign(problem: &Problem<'_>) -> (Vec<Vec<Place>>, Vec<(Place, usize)>) {
    let (partitions, members) = (problem.topic_of.len(), problem.members.len());
    let mut builder = Builder {
        problem,
        min: partitions / members,
        max: partitions.div_ceil(members),
        over_expected: partitions % members,
        over: 0,
        under: Vec::new(),
        exact: VecDeque::new(),
        assigned: vec![Vec::new(); members],
        given_up: BTreeMap::new(),
        moving: Vec::new(),
    };
    builder.keep_owned();
    let mut free = vec![true; partitions];
    builder.assigned.iter().flatten().for_each(|&place| free[place] = false);
    let mut unassigned: Vec<Place> = (0..partitions).filter(|&place| free[place]).collect();
    if !problem.racks.consumers.is_empty() {
        // What few members could read nearby comes first.
        unassigned.sort_by_key(|&place| problem.racks.consumers[place]);
    }
    if problem.racks.matter() {
        let mut turn = 0;
        unassigned.retain(|&place| !builder.assign_in_rack(place, &mut turn));
    }
    builder.go_round(&unassigned);
    for &member in &builder.under {
        assert_eq!(builder.assigned[member].len(), builder.min, "every member gets its share");
    }
    (builder.assigned, builder.moving)
}

impl Builder<'_> {
    fn keep_owned(&mut self) {
        for member in 0..self.assigned.len() {
            let mut owned: Vec<Place> = Vec::new();
            for &place in &self.problem.owned[member] {
                if self.problem.racks.mismatch(member, place) {
                    self.given_up.insert(place, member);
                } else if !self.problem.disputed.contains(&place) {
                    owned.push(place);
                }
            }
            // By number first, so that what is kept is spread over topics.
            owned.sort_by_key(|&place| {
                let topic = self.problem.topic_of[place];
                (place - self.problem.first[topic], topic)
            });
            let keep = if owned.len() < self.min {
                self.under.push(member);
                owned.len()
            } else if owned.len() >= self.max && self.over < self.over_expected {
                self.over += 1;
                if self.over == self.over_expected {
                    self.exact.clear();
                }
                self.max
            } else {
                if self.over < self.over_expected {
                    self.exact.push_back(member);
                }
                self.min
            };
            for &place in &owned[keep..] {
                self.given_up.insert(place, member);
            }
            owned.truncate(keep);
            self.assigned[member] = owned;
        }
    }

    /// Gives the place to a member in the rack of a replica, if one may have more. `turn` goes round those below `min`.
    fn assign_in_rack(&mut self, place: Place, turn: &mut usize) -> bool {
        let racks = &self.problem.racks;
        let (from, count) = (*turn, self.under.len());
        let near = (0..count).map(|i| (from + i) % count).find(|&at| racks.same(self.under[at], place));
        if let Some(at) = near {
            let member = self.under[at];
            let size = self.assigned[member].len() + 1;
            let mut next = at + 1;
            if size >= self.min {
                next = at;
                self.under.remove(at);
                if size < self.max && self.over < self.over_expected {
                    self.exact.push_back(member);
                }
            }
            *turn = next.checked_rem(self.under.len()).unwrap_or(0);
            self.give(place, member);
            return true;
        }
        let Some(at) = (0..self.exact.len()).find(|&at| racks.same(self.exact[at], place)) else {
            return false;
        };
        let member = self.exact[at];
        if self.assigned[member].len() + 1 == self.max {
            self.exact.remove(at);
            self.over += 1;
            if self.over == self.over_expected {
                self.exact.clear();
            }
        }
        self.give(place, member);
        true
    }

    fn go_round(&mut self, unassigned: &[Place]) {
        let mut turn = 0;
        for &place in unassigned {
            let member = if self.under.is_empty() {
                self.exact.pop_front().expect("as many places are left as there are partitions")
            } else {
                turn %= self.under.len();
                turn += 1;
                self.under[turn - 1]
            };
            let size = self.give(place, member);
            if size == self.min {
                turn -= 1;
                self.under.remove(turn);
                self.exact.push_back(member);
            } else if size == self.max {
                self.over += 1;
            }
        }
    }

    fn give(&mut self, place: Place, member: usize) -> usize {
        self.assigned[member].push(place);
        let from_other = self.given_up.get(&place).is_some_and(|&owner| owner != member);
        if from_other || self.problem.disputed.contains(&place) {
            self.moving.push((place, member));
        }
        self.assigned[member].len()
    }
}

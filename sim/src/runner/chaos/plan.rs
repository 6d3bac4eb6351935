//! When chaos strikes, and with which kind of fault: drawn before it begins.
//!
//! - Moments come from a stream of their own. At each moment the kinds stand for election: each draws from its own
//!   stream, and the one with the lowest draw for its weight wins, which gives every kind its share. A kind that is
//!   taken out leaves all draws of the others as they were: they keep the moments that they had, and share those that
//!   become free.
//! - What a fault is like comes from a stream of that kind and moment ([`Plan::chance`]), whom it befalls from one of
//!   that kind, moment and target ([`Plan::order`]): what was drawn before, and for whom, moves nothing.
//! - In a swarm each seed leaves some kinds out, gives the others other weights, and has its own rate: runs in which
//!   little goes wrong, and always the same, find what those do not in which everything does (Groce et al., "Swarm
//!   Testing", ISSTA 2012).

use wire::drive::Nanos;

use super::super::build::between;
use crate::scenario::{Chaos, ChaosKind};
use crate::world::chance::{Chance, derive};

/// A moment at which a fault is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Counted from 0, those that the swarm passes over included.
    pub number: u32,
    /// Since chaos began.
    pub at: Nanos,
    /// What is due.
    pub kind: ChaosKind,
}

/// All that is drawn in advance.
#[derive(Clone, Debug)]
pub struct Plan {
    seed: u64,
    /// Which chaos of the run it is.
    ordinal: u32,
    /// In order of time.
    pub slots: Vec<Slot>,
}

impl Plan {
    /// Draws the plan of the `ordinal`-th chaos of a run.
    pub fn new(seed: u64, ordinal: u32, chaos: &Chaos) -> Plan {
        let mut plan = Plan { seed, ordinal, slots: Vec::new() };
        let mut kinds: Vec<(ChaosKind, u64, Chance)> = Vec::new();
        for (kind, weight) in plan.weights(chaos) {
            kinds.push((kind, weight, plan.stream(&format!("{}/which", kind.word()))));
        }
        // One moment in so many is used.
        let rare = if chaos.swarm { 1 + plan.stream("swarm/rate").below(3) } else { 1 };
        let (mut times, mut used) = (plan.stream("times"), plan.stream("swarm/used"));
        let mut at = Nanos::ZERO;
        for number in 0.. {
            at = Nanos(at.0 + times.between(between(chaos.every)).0.max(1));
            if at.0 >= chaos.span.0 {
                break;
            }
            let kind = elected(&mut kinds);
            // The first is always used: a chaos in which nothing happens shows nothing.
            if used.below(rare) == 0 || number == 0 {
                plan.slots.push(Slot { number, at, kind });
            }
        }
        plan
    }

    /// The kinds with the weights of this seed.
    fn weights(&self, chaos: &Chaos) -> Vec<(ChaosKind, u64)> {
        let given = chaos.faults.iter().map(|(kind, weight)| (*kind, u64::from(*weight)));
        if !chaos.swarm {
            return given.collect();
        }
        let mut drawn: Vec<(u64, ChaosKind, u64)> = Vec::new();
        for (kind, weight) in given {
            let mut chance = self.stream(&format!("{}/swarm", kind.word()));
            let (place, factor) = (chance.below(1 << 32), 1 << chance.below(3));
            drawn.push((place, kind, weight * factor));
        }
        let within: Vec<_> = drawn.iter().filter(|(place, ..)| *place < (1 << 32) / 4 * 3).collect();
        match within.is_empty() {
            false => within.into_iter().map(|(_, kind, weight)| (*kind, *weight)).collect(),
            // Somebody has to.
            true => drawn.iter().min().map(|(_, kind, weight)| (*kind, *weight)).into_iter().collect(),
        }
    }

    fn stream(&self, purpose: &str) -> Chance {
        derive(self.seed, &format!("chaos/{}/{purpose}", self.ordinal))
    }

    /// The stream from which one fault draws what it is like.
    pub fn chance(&self, slot: &Slot) -> Chance {
        self.stream(&format!("{}/{}", slot.kind.word(), slot.number))
    }

    /// Targets in the order in which one fault tries them: a draw for each, so that a target more or less leaves the
    /// order of the others as it was.
    pub fn order<T: Ord + Clone + AsRef<str>>(&self, slot: &Slot, targets: &[T]) -> Vec<T> {
        let place = |target: &T| {
            let purpose = format!("{}/{}/{}", slot.kind.word(), slot.number, target.as_ref());
            self.stream(&purpose).below(u64::MAX)
        };
        let mut all: Vec<(u64, T)> = targets.iter().map(|t| (place(t), t.clone())).collect();
        all.sort();
        all.into_iter().map(|(_, target)| target).collect()
    }
}

/// Who has the lowest draw for its weight. Each draws, whoever wins.
fn elected(kinds: &mut [(ChaosKind, u64, Chance)]) -> ChaosKind {
    let scores = kinds.iter_mut().map(|(kind, weight, chance)| {
        let draw = u128::from(minus_log2(chance.below(u64::MAX)));
        ((draw << 32) / u128::from(*weight), *kind)
    });
    scores.min().expect("chaos has a kind").1
}

/// −log₂ of `n` / 2⁶⁴ with 32 binary places: exponentially distributed if `n` is uniform. In whole numbers, so that it
/// is the same everywhere.
fn minus_log2(n: u64) -> u64 {
    let n = n | 1;
    let zeros = u64::from(n.leading_zeros());
    let (mut x, mut places) = (u128::from(n << zeros), 0);
    for _ in 0..32 {
        // x stands for x / 2⁶³, in 1..2; squaring it doubles its logarithm.
        x = (x * x) >> 63;
        places <<= 1;
        if x >= 1 << 64 {
            places |= 1;
            x >>= 1;
        }
    }
    (64 << 32) - ((63 - zeros) << 32 | places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Duration, DurationRange, Keep};

    fn chaos(faults: &[(ChaosKind, u32)], swarm: bool) -> Chaos {
        Chaos {
            span: Duration(3_600_000_000_000),
            every: DurationRange { low: Duration(2_000_000_000), high: Duration(10_000_000_000) },
            faults: faults.to_vec(),
            keep: Keep::default(),
            swarm,
        }
    }

    #[test]
    fn logarithms() {
        for n in [1, 3, (1 << 20) + 1, (1 << 40) + 1, u64::MAX / 3, u64::MAX] {
            let want = 64.0 - (n as f64).log2();
            let got = minus_log2(n) as f64 / 2f64.powi(32);
            assert!((want - got).abs() < 1e-6, "{n}: {got}, expected {want}");
        }
    }

    #[test]
    fn kinds_have_their_shares() {
        let plan = Plan::new(7, 0, &chaos(&[(ChaosKind::Kill, 3), (ChaosKind::Cut, 1)], false));
        let kills = plan.slots.iter().filter(|s| s.kind == ChaosKind::Kill).count();
        let share = kills as f64 / plan.slots.len() as f64;
        assert!(plan.slots.len() > 500 && (0.7..0.8).contains(&share), "{share} of {}", plan.slots.len());
        assert!(plan.slots.windows(2).all(|w| (2..=10).contains(&((w[1].at.0 - w[0].at.0) / 1_000_000_000))));
    }

    /// Taking one kind out leaves every moment that another had, with all that it draws.
    #[test]
    fn a_kind_less_leaves_the_others_as_they_were() {
        let all: Vec<(ChaosKind, u32)> = ChaosKind::ALL.into_iter().map(|kind| (kind, 2)).collect();
        for swarm in [false, true] {
            for seed in 0..3 {
                let whole = Plan::new(seed, 0, &chaos(&all, swarm));
                for out in ChaosKind::ALL {
                    let rest: Vec<_> = all.iter().copied().filter(|(kind, _)| *kind != out).collect();
                    let less = Plan::new(seed, 0, &chaos(&rest, swarm));
                    for slot in whole.slots.iter().filter(|slot| slot.kind != out).step_by(7) {
                        assert!(less.slots.contains(slot), "without {}: {slot:?}", out.word());
                        let mut draws = [&whole, &less].map(|plan| plan.chance(slot));
                        let draws = draws.each_mut().map(|c| [c.below(1000), c.below(1000)]);
                        assert_eq!(draws[0], draws[1]);
                        let names = ["broker-1", "broker-2", "broker-3", "controller-101"];
                        assert_eq!(whole.order(slot, &names), less.order(slot, &names));
                    }
                }
            }
        }
    }

    #[test]
    fn a_target_less_leaves_the_order_of_the_others() {
        let plan = Plan::new(7, 0, &chaos(&[(ChaosKind::Kill, 1)], false));
        let names = ["broker-1", "broker-2", "broker-3", "broker-4"];
        let mut firsts = std::collections::BTreeSet::new();
        for slot in &plan.slots[..50] {
            let mut all = plan.order(slot, &names);
            firsts.insert(all[0]);
            all.retain(|name| *name != "broker-2");
            assert_eq!(all, plan.order(slot, &["broker-1", "broker-3", "broker-4"]));
        }
        assert_eq!(firsts.len(), 4, "everybody's turn comes");
    }

    #[test]
    fn seeds_of_a_swarm_differ_in_kinds_and_rates() {
        let all: Vec<(ChaosKind, u32)> = ChaosKind::ALL.into_iter().map(|kind| (kind, 1)).collect();
        let (mut subsets, mut rates) = (std::collections::BTreeSet::new(), Vec::new());
        for seed in 0..50 {
            let plan = Plan::new(seed, 0, &chaos(&all, true));
            let kinds: std::collections::BTreeSet<_> = plan.slots.iter().map(|s| s.kind).collect();
            subsets.insert(kinds);
            rates.push(plan.slots.len());
        }
        assert!(subsets.len() > 30, "{}", subsets.len());
        assert!(rates.iter().max() > rates.iter().min().map(|few| few * 2).as_ref(), "{rates:?}");
    }
}

//! Where the replicas of new partitions go: Kafka's `StripedReplicaPlacer`.
//!
//! Racks are taken in turn, brokers within a rack in turn, both from a random start; each further partition begins one
//! rack further on, and one broker further on within each rack. A fenced broker of a rack is taken only when the rack
//! has no unfenced one left, and never as a partition's first replica, since this one shall lead. After as many
//! partitions as there are unfenced brokers everything is shuffled, so that the same stripes do not come again.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::metadata::Replicas;

/// A broker on which replicas can be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableBroker {
    /// Its id.
    pub id: i32,
    /// Its rack.
    pub rack: Option<Arc<str>>,
    /// Whether it is fenced: it can hold replicas, but not lead.
    pub fenced: bool,
}

/// Why replicas cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Nothing to place.
    #[error("Invalid replication factor {0}: the replication factor must be positive.")]
    NotPositive(i32),
    /// More replicas than brokers: register more of them, or ask for fewer replicas.
    #[error(
        "The target replication factor of {replication_factor} cannot be reached because only {registered} broker(s) \
         are registered or some brokers have all their log directories cordoned."
    )]
    TooFewBrokers {
        /// What was asked for.
        replication_factor: i32,
        /// How many brokers there are, fenced ones included.
        registered: usize,
    },
    /// Nobody could lead.
    #[error("All brokers are currently fenced.")]
    AllFenced,
}

/// Draws a number below `bound`.
pub type Draw<'a> = &'a mut dyn FnMut(usize) -> usize;

/// The replicas of `partitions` new partitions.
pub fn place(
    partitions: usize,
    replication_factor: i32,
    brokers: &[UsableBroker],
    draw: Draw<'_>,
) -> Result<Vec<Replicas>, PlacementError> {
    if replication_factor <= 0 {
        return Err(PlacementError::NotPositive(replication_factor));
    }
    let unfenced = brokers.iter().filter(|b| !b.fenced).count();
    if unfenced == 0 {
        return Err(PlacementError::AllFenced);
    }
    if replication_factor as usize > brokers.len() {
        return Err(PlacementError::TooFewBrokers { replication_factor, registered: brokers.len() });
    }
    let mut racks = RackList::new(brokers, unfenced, draw);
    Ok((0..partitions).map(|_| racks.next_partition(replication_factor as usize, draw)).collect())
}

/// Brokers that are taken in turn. A new round begins one further on.
#[derive(Default)]
struct BrokerList {
    brokers: Vec<i32>,
    taken: usize,
    start: usize,
    round: usize,
}

impl BrokerList {
    fn randomize(&mut self, draw: Draw<'_>) {
        if !self.brokers.is_empty() {
            self.brokers.sort_unstable();
            self.start = draw(self.brokers.len());
        }
    }

    fn next(&mut self, round: usize) -> Option<i32> {
        if self.brokers.is_empty() {
            return None;
        }
        if self.round != round {
            self.round = round;
            self.taken = 0;
            self.start = (self.start + 1) % self.brokers.len();
        }
        if self.taken == self.brokers.len() {
            return None;
        }
        let broker = self.brokers[(self.taken + self.start) % self.brokers.len()];
        self.taken += 1;
        Some(broker)
    }
}

#[derive(Default)]
struct Rack {
    unfenced: BrokerList,
    fenced: BrokerList,
}

impl Rack {
    fn next(&mut self, round: usize) -> Option<i32> {
        self.unfenced.next(round).or_else(|| self.fenced.next(round))
    }
}

struct RackList {
    racks: Vec<Rack>,
    unfenced: usize,
    round: usize,
    start: usize,
}

impl RackList {
    fn new(brokers: &[UsableBroker], unfenced: usize, draw: Draw<'_>) -> RackList {
        let mut racks: BTreeMap<Option<&str>, Rack> = BTreeMap::new();
        for broker in brokers {
            let rack = racks.entry(broker.rack.as_deref()).or_default();
            let list = if broker.fenced { &mut rack.fenced } else { &mut rack.unfenced };
            list.brokers.push(broker.id);
        }
        let mut racks: Vec<Rack> = racks.into_values().collect();
        for rack in &mut racks {
            rack.fenced.randomize(draw);
            rack.unfenced.randomize(draw);
        }
        let start = draw(racks.len());
        RackList { racks, unfenced, round: 0, start }
    }

    /// The caller has made sure that there are enough brokers, one of them unfenced.
    fn next_partition(&mut self, replication_factor: usize, draw: Draw<'_>) -> Replicas {
        // With a single unfenced broker there is nothing to shuffle.
        if self.round == self.unfenced && self.unfenced > 1 {
            self.shuffle(draw);
            self.round = 0;
        }
        let racks = self.racks.len();
        self.start %= racks;
        let leader_of = |rack: &mut Rack| rack.unfenced.next(self.round);
        let (first_rack, leader) = (0..racks)
            .map(|i| (self.start + i) % racks)
            .find_map(|i| leader_of(&mut self.racks[i]).map(|leader| (i, leader)))
            .expect("some broker is unfenced");
        let mut replicas = Replicas::new();
        replicas.push(leader);

        let (mut rack, mut leaders_rack) = (self.start, Some(first_rack));
        while replicas.len() < replication_factor {
            let replica = if leaders_rack == Some(rack) {
                // It has given the leader: pass it by, once.
                leaders_rack = None;
                None
            } else {
                self.racks[rack].next(self.round)
            };
            replicas.extend(replica);
            rack = (rack + 1) % racks;
        }
        self.round += 1;
        self.start += 1;
        replicas
    }

    fn shuffle(&mut self, draw: Draw<'_>) {
        shuffle(&mut self.racks, draw);
        for rack in &mut self.racks {
            shuffle(&mut rack.fenced.brokers, draw);
            shuffle(&mut rack.unfenced.brokers, draw);
        }
    }
}

fn shuffle<T>(items: &mut [T], draw: Draw<'_>) {
    for i in (1..items.len()).rev() {
        items.swap(i, draw(i + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;

    fn broker(id: i32, rack: Option<&str>, fenced: bool) -> UsableBroker {
        UsableBroker { id, rack: rack.map(Arc::from), fenced }
    }

    /// Always the lowest: no random start, and a shuffle that moves the first to the end.
    fn zero(_: usize) -> usize {
        0
    }

    fn placed(partitions: usize, rf: i32, brokers: &[UsableBroker]) -> Vec<Vec<i32>> {
        let placed = place(partitions, rf, brokers, &mut zero).unwrap();
        placed.iter().map(|r| r.to_vec()).collect()
    }

    #[test]
    fn one_rack_gives_stripes() {
        let brokers = [broker(1, None, false), broker(2, None, false), broker(3, None, false)];
        assert_eq!(placed(3, 3, &brokers), [[1, 2, 3], [2, 3, 1], [3, 1, 2]]);
        assert_eq!(placed(2, 2, &brokers), [[1, 2], [2, 3]]);
    }

    #[test]
    fn racks_are_taken_in_turn() {
        let brokers: Vec<_> = [("A", 0), ("B", 10), ("C", 20)]
            .iter()
            .flat_map(|&(rack, base)| (0..3).map(move |i| broker(base + i, Some(rack), false)))
            .collect();
        // A0 B0 C0, then one rack and one broker further on.
        assert_eq!(placed(3, 3, &brokers), [[0, 10, 20], [11, 21, 1], [22, 2, 12]]);
    }

    #[test]
    fn a_fenced_broker_comes_last_and_never_leads() {
        let brokers = [broker(1, None, true), broker(2, None, false), broker(3, None, false)];
        for replicas in placed(9, 3, &brokers) {
            assert_eq!(replicas[2], 1);
        }
        let apart = [broker(1, Some("a"), true), broker(2, Some("b"), false)];
        assert_eq!(placed(3, 2, &apart), [[2, 1], [2, 1], [2, 1]]);
    }

    #[test]
    fn every_partition_has_distinct_replicas_whatever_is_drawn() {
        for seed in 0..200usize {
            let mut state = seed;
            let mut draw = |bound: usize| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) % bound
            };
            let n = 1 + seed % 7;
            let racks = [None, Some("a"), Some("b")];
            let brokers: Vec<_> = (0..n)
                .map(|i| broker(i as i32, racks[(i * seed) % 3], i > 0 && (seed >> i) & 1 == 1))
                .collect();
            let rf = 1 + (seed / 7) % n;
            for replicas in place(12, rf as i32, &brokers, &mut draw).unwrap() {
                let distinct: BTreeSet<_> = replicas.iter().collect();
                assert_eq!((distinct.len(), replicas.len()), (rf, rf), "seed {seed}");
                assert!(!brokers[replicas[0] as usize].fenced, "seed {seed}");
            }
        }
    }

    #[test]
    fn errors_are_kafkas() {
        let one = [broker(1, None, false)];
        let fail = |rf, brokers: &[UsableBroker]| place(1, rf, brokers, &mut zero).unwrap_err().to_string();
        assert_eq!(
            fail(3, &one),
            "The target replication factor of 3 cannot be reached because only 1 broker(s) are registered or some brokers \
             have all their log directories cordoned."
        );
        assert_eq!(fail(1, &[broker(1, None, true)]), "All brokers are currently fenced.");
        assert_eq!(fail(1, &[]), "All brokers are currently fenced.");
        assert_eq!(fail(0, &one), "Invalid replication factor 0: the replication factor must be positive.");
    }
}

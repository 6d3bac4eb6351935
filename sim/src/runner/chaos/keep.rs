//! What chaos never breaks, judged before each fault against the present state.
//!
//! A reader of `"keep": { "min_isr": true }` takes it to mean: what was acknowledged under `acks=all` and
//! `min.insync.replicas` is never lost, and no partition ever stops for want of replicas. So a fault may come if,
//! whatever follows from it and from those that last already, `min.insync.replicas` members of every ISR stay unharmed:
//!
//! - A member is *good* if it is in the ISR as committed and as its leader sees it, is not about to be removed by a
//!   reassignment, has everything below the high watermark, runs, is unfenced, and reaches every controller. Whoever was
//!   killed, stopped, paused or without power becomes good again only by coming back into the ISR. This is also what
//!   makes power losses harmless: as many members as are promised have all that was acknowledged, and never lost it.
//! - A leader whose followers it does not hear takes them out of the ISR after `replica.lag.time.max.ms`. A cut or slow
//!   link counts against every leader that there may be, present or future, if it would last so long.
//! - A quorum is kept if a majority of the voters runs, is connected pair by pair, and has what is committed. A voter
//!   that lost its power may have lost what it counted before its flush (as Kafka's leader does), and is good again when
//!   it has caught up.
//!
//! What was broken before chaos came is not its doing: a fault is refused only if it makes something worse.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::event::PartitionState;
use broker_core::metadata::MetadataImage;
use broker_core::node::{Node, NodeState};
use broker_core::raft::{Raft, ReplicaKey};

use super::super::play::Player;
use crate::scenario::Keep;
use crate::world::{ProcState, World};

/// Two nodes, the lower id first.
pub type Pair = (i32, i32);

/// Two ids as a pair.
pub fn pair(a: i32, b: i32) -> Pair {
    (a.min(b), a.max(b))
}

/// What a fault does to whom, as far as what is kept depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Harm {
    /// These do not run.
    pub down: BTreeSet<i32>,
    /// These do not hear each other, or only slowly.
    pub apart: BTreeSet<Pair>,
    /// How long, in nanoseconds.
    pub lasts: u64,
}

/// A partition as far as what is kept depends on it.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    /// `purchases-0`
    pub name: String,
    /// The present leader, -1 for none.
    pub leader: i32,
    /// In sync, unharmed so far, and there to stay.
    pub members: BTreeSet<i32>,
    /// How long each follower has been behind, as the leader sees it, in nanoseconds.
    pub behind: BTreeMap<i32, u64>,
    /// `min.insync.replicas`, but not more than there are replicas.
    pub min: usize,
}

/// The cluster as far as what is kept depends on it.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// By id, whether it runs and is unfenced.
    pub brokers: BTreeMap<i32, bool>,
    /// By id, whether it runs and has what is committed.
    pub voters: BTreeMap<i32, bool>,
    /// All partitions.
    pub partitions: Vec<Replicas>,
    /// Who is apart already, and for how much longer, in nanoseconds.
    pub apart: BTreeMap<Pair, u64>,
    /// Half of `replica.lag.time.max.ms`: what lasts longer may end a follower's place in the ISR. In nanoseconds.
    pub patience: u64,
    /// After this a broker that no controller hears is fenced for certain, in nanoseconds.
    pub fenced_after: u64,
}

impl Scene {
    /// What a fault would break of what is kept; `None` if it may come.
    pub fn broken_by(&self, keep: &Keep, harm: &Harm) -> Option<String> {
        let mut after = self.clone();
        for id in &harm.down {
            after.brokers.entry(*id).and_modify(|well| *well = false);
            after.voters.entry(*id).and_modify(|well| *well = false);
        }
        for two in &harm.apart {
            let lasts = after.apart.entry(*two).or_insert(0);
            *lasts = (*lasts).max(harm.lasts);
        }
        let fewer = |before: usize, now: usize, needed: usize| now < needed && now < before;
        let running = |scene: &Scene| scene.brokers.values().filter(|well| **well).count();
        if fewer(running(self), running(&after), keep.brokers) {
            return Some(format!("{} of {} brokers would run", running(&after), keep.brokers));
        }
        let majority = self.voters.len() / 2 + 1;
        if keep.quorum && fewer(self.connected_voters(), after.connected_voters(), majority) {
            return Some("no majority of the controllers would be left".to_owned());
        }
        if !keep.min_isr {
            return None;
        }
        let broken = self.partitions.iter().find(|p| fewer(self.good(p), after.good(p), p.min));
        broken.map(|p| format!("{}: {} of {} replicas would stay in sync", p.name, after.good(p), p.min))
    }

    /// The largest number of good voters that hear each other pair by pair.
    fn connected_voters(&self) -> usize {
        let well: Vec<i32> = self.voters.iter().filter(|(_, well)| **well).map(|(id, _)| *id).collect();
        // Few enough for all subsets; of more, those that hear everybody.
        if well.len() > 12 {
            let hears_all = |a: &&i32| well.iter().all(|b| !self.apart.contains_key(&pair(**a, *b)));
            return well.iter().filter(hears_all).count();
        }
        let connected = |set: &u32| {
            let members: Vec<i32> = (0..well.len()).filter(|i| set >> i & 1 == 1).map(|i| well[i]).collect();
            members.iter().all(|a| members.iter().all(|b| a == b || !self.apart.contains_key(&pair(*a, *b))))
        };
        (0..1u32 << well.len()).filter(connected).map(|set| set.count_ones() as usize).max().unwrap_or(0)
    }

    /// How many members of an ISR stay in it whatever follows.
    fn good(&self, partition: &Replicas) -> usize {
        let reaches = |id: &i32| self.voters.keys().all(|v| !self.apart.contains_key(&pair(*v, *id)));
        let runs = |id: &i32| self.brokers.get(id).copied().unwrap_or(false);
        let good: BTreeSet<i32> =
            partition.members.iter().copied().filter(|m| runs(m) && reaches(m)).collect();
        // Everybody who may lead now or next, and whom it would take for lagging.
        let leaders = partition.members.iter().filter(|l| runs(l) && self.may_shrink(**l));
        leaders.map(|l| good.len() - self.lost_by(partition, *l, &good)).min().unwrap_or(good.len())
    }

    /// Whether somebody who leads could have the ISR changed: it reaches a controller, or will before it is fenced.
    fn may_shrink(&self, leader: i32) -> bool {
        let lasts = |v: &i32| self.apart.get(&pair(*v, leader)).copied().unwrap_or(0);
        self.voters.keys().any(|v| lasts(v) < self.fenced_after)
    }

    /// How many good members a leader would take out of the ISR.
    fn lost_by(&self, partition: &Replicas, leader: i32, good: &BTreeSet<i32>) -> usize {
        let lost = |member: &&i32| {
            let Some(lasts) = self.apart.get(&pair(leader, **member)) else { return false };
            let known =
                if leader == partition.leader { partition.behind.get(*member).copied() } else { None };
            **member != leader && known.unwrap_or(0).saturating_add(*lasts) >= self.patience
        };
        good.iter().filter(lost).count()
    }
}

// --- looking

/// A setting of all nodes in milliseconds, as nanoseconds.
fn millis(player: &Player, name: &str, default: u64) -> u64 {
    let set = player.scenario.cluster.config.get(name);
    set.and_then(|text| text.parse().ok()).unwrap_or(default) * 1_000_000
}

/// Half of the time after which a leader takes a follower out of the ISR, in nanoseconds.
pub fn patience(player: &Player) -> u64 {
    millis(player, "replica.lag.time.max.ms", 30_000) / 2
}

/// When a broker that no controller hears is fenced for certain, in nanoseconds.
pub fn fenced_after(player: &Player) -> u64 {
    millis(player, "broker.session.timeout.ms", 9_000) / 2 * 3
}

/// The newest image that a running node has.
pub fn newest_image<'a>(player: &Player, world: &'a World) -> Option<&'a MetadataImage> {
    let nodes = player.scenario.cluster.nodes.iter();
    let images = nodes.filter_map(|n| Some(world.node(world.proc(&n.name)?)?.image()));
    images.max_by_key(|image| image.offset)
}

/// The view of the quorum of who has come furthest: voters come and go, and it knows best who they are.
pub fn furthest_raft<'a>(player: &Player, world: &'a World) -> Option<&'a Raft> {
    let nodes = player.scenario.cluster.nodes.iter();
    let rafts = nodes.filter_map(|n| Some(world.node(world.proc(&n.name)?)?.raft()));
    rafts.max_by_key(|raft| (raft.epoch(), raft.log_end_offset()))
}

/// `min.insync.replicas` of a topic, but not more than it has replicas.
pub fn min_isr(player: &Player, image: Option<&MetadataImage>, topic: &str, replicas: usize) -> usize {
    let name = "min.insync.replicas";
    let of_topic = image.and_then(|i| i.configs.topic_value(topic, name)).and_then(|n| n.parse().ok());
    let of_nodes = || player.scenario.cluster.config.get(name).and_then(|n| n.parse().ok());
    of_topic.or_else(of_nodes).unwrap_or(1).min(replicas)
}

/// What the leaders and the others know of a partition.
#[derive(Default)]
struct Known {
    /// Epoch of the highest leader, its high watermark, its ISR.
    led: Option<(i32, i64, BTreeSet<i32>)>,
    behind: BTreeMap<i32, u64>,
    ends: BTreeMap<i32, i64>,
}

/// The cluster as it is. `apart` are the pairs that chaos itself keeps apart, and for how much longer.
pub fn look(player: &Player, world: &World, apart: &BTreeMap<Pair, u64>) -> Scene {
    let nodes = &player.scenario.cluster.nodes;
    let image = newest_image(player, world);
    let mut scene = Scene {
        apart: apart.clone(),
        patience: patience(player),
        fenced_after: fenced_after(player),
        ..Scene::default()
    };
    let mut known: BTreeMap<(&str, i32), Known> = BTreeMap::new();
    let rafts = || nodes.iter().filter_map(|n| Some(world.node(world.proc(&n.name)?)?.raft()));
    let committed = rafts().filter_map(|raft| raft.high_watermark()).max();
    let furthest = furthest_raft(player, world);
    for def in nodes {
        let proc = world.proc(&def.name).expect("a node of this scenario");
        let runs = world.state(proc) == ProcState::Running;
        let node = world.node(proc).filter(|_| runs);
        if def.broker {
            let fenced = image.and_then(|i| i.broker(def.id)).is_none_or(|b| b.fenced);
            let well = node.is_some_and(|n| n.state() == NodeState::Running) && !fenced;
            scene.brokers.insert(def.id, well);
        }
        if furthest.map_or(def.voter, |raft| raft.voters().node(def.id).is_some()) {
            // On another disk it is another one, and has no vote.
            let votes = |n: &Node| {
                let key = ReplicaKey::new(def.id, n.raft().directory_id());
                furthest.is_none_or(|raft| raft.voters().is_voter(key))
            };
            let well = node.is_some_and(|n| votes(n) && n.raft().log_end_offset() >= committed.unwrap_or(0));
            scene.voters.insert(def.id, well);
        }
        let replicas = node.and_then(|n| n.replicas());
        for view in replicas.into_iter().flat_map(|r| r.partitions()) {
            let Some(log) = view.log else { continue };
            let known = known.entry((view.topic, view.partition)).or_default();
            known.ends.insert(def.id, log.log_end_offset());
            if view.leader == def.id
                && known.led.as_ref().is_none_or(|(epoch, ..)| *epoch < view.leader_epoch)
            {
                known.led =
                    Some((view.leader_epoch, view.high_watermark, view.isr.iter().copied().collect()));
                let now = world.now().mono();
                let followers = view.followers.iter();
                known.behind = followers
                    .map(|f| (f.id, f.last_caught_up_at.map_or(0, |at| now.0.saturating_sub(at.0))))
                    .collect();
            }
        }
    }
    cut_already(player, world, &mut scene);
    for ((topic, number), state) in &player.observer.partitions {
        let min = min_isr(player, image, topic, state.replicas.len());
        let mut members: BTreeSet<i32> = state.isr.iter().copied().collect();
        let registered = image.and_then(|i| i.topics.topic_named(topic)?.partitions.get(number));
        if let Some(registered) = registered {
            members.retain(|m| !registered.removing_replicas.contains(m));
        }
        let mut behind = BTreeMap::new();
        if let Some(known) = known.remove(&(topic.as_str(), *number)) {
            if let Some((epoch, high, isr)) = known.led
                && epoch == state.leader_epoch
            {
                members.retain(|m| isr.contains(m) && known.ends.get(m).is_none_or(|end| *end >= high));
            }
            behind = known.behind;
        }
        scene.partitions.push(Replicas {
            name: format!("{topic}-{number}"),
            leader: state.leader,
            members,
            behind,
            min,
        });
    }
    scene
}

/// Whether enough others hold what these nodes have on their disks: of every partition in whose ISR or ELR they are
/// `min.insync.replicas` good members, and a majority of the voters. Who hears whom does not matter for that.
pub fn covers(player: &Player, world: &World, lose: &BTreeSet<i32>) -> bool {
    let scene = look(player, world, &BTreeMap::new());
    let runs = |id: &i32| scene.brokers.get(id).copied().unwrap_or(false);
    let held = |(state, partition): (&PartitionState, &Replicas)| {
        let others = partition.members.iter().filter(|m| !lose.contains(m) && runs(m)).count();
        others >= partition.min || !state.isr.iter().chain(&state.elr).any(|id| lose.contains(id))
    };
    let well = scene.voters.iter().filter(|(id, well)| **well && !lose.contains(id)).count();
    let votes = scene.voters.keys().any(|id| lose.contains(id));
    player.observer.partitions.values().zip(&scene.partitions).all(held)
        && (!votes || well > scene.voters.len() / 2)
}

/// Cuts that somebody else made last for good, as far as chaos knows.
fn cut_already(player: &Player, world: &World, scene: &mut Scene) {
    let nodes = &player.scenario.cluster.nodes;
    for (at, a) in nodes.iter().enumerate() {
        for b in &nodes[at + 1..] {
            let (Some(x), Some(y)) = (world.host(&a.name), world.host(&b.name)) else { continue };
            if world.links().blocked(x, y) || world.links().blocked(y, x) {
                scene.apart.entry(pair(a.id, b.id)).or_insert(u64::MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep { quorum: true, min_isr: true, brokers: 0 };
    const S: u64 = 1_000_000_000;

    /// Three brokers, three controllers, one partition that needs two of its three replicas.
    fn healthy() -> Scene {
        Scene {
            brokers: [1, 2, 3].map(|id| (id, true)).into(),
            voters: [101, 102, 103].map(|id| (id, true)).into(),
            partitions: vec![Replicas {
                name: "purchases-0".into(),
                leader: 1,
                members: [1, 2, 3].into(),
                behind: BTreeMap::new(),
                min: 2,
            }],
            apart: BTreeMap::new(),
            patience: 15 * S,
            fenced_after: 14 * S,
        }
    }

    fn down(ids: &[i32]) -> Harm {
        Harm { down: ids.iter().copied().collect(), ..Harm::default() }
    }

    fn apart(pairs: &[(i32, i32)], seconds: u64) -> Harm {
        Harm {
            apart: pairs.iter().map(|(a, b)| pair(*a, *b)).collect(),
            lasts: seconds * S,
            ..Harm::default()
        }
    }

    #[test]
    fn what_may_come_and_what_may_not() {
        let mut one_down = healthy();
        one_down.brokers.insert(3, false);
        let mut shrunk = healthy();
        shrunk.partitions[0].members.remove(&3);
        let mut voter_behind = healthy();
        voter_behind.voters.insert(101, false);
        let mut slow = healthy();
        slow.apart.insert((1, 2), 5 * S);
        let mut lags = healthy();
        lags.partitions[0].behind.insert(2, 12 * S);
        lags.partitions[0].members.remove(&3);
        let cases: [(&str, &Scene, Harm, bool); 17] = [
            ("one of three", &healthy(), down(&[1]), true),
            ("two of three", &healthy(), down(&[1, 2]), false),
            ("a second one", &one_down, down(&[2]), false),
            ("one who is down already", &one_down, down(&[3]), true),
            ("one of an ISR of two", &shrunk, down(&[1]), false),
            ("who is not in the ISR", &shrunk, down(&[3]), true),
            ("one voter", &healthy(), down(&[102]), true),
            ("a second voter, while the first lacks what is committed", &voter_behind, down(&[102]), false),
            ("a broker from a controller: it will be fenced", &healthy(), apart(&[(1, 101)], 1), true),
            ("two brokers from controllers", &healthy(), apart(&[(1, 101), (2, 102)], 1), false),
            ("a pair for a while", &healthy(), apart(&[(1, 2), (1, 3)], 5), true),
            ("a leader from both followers, too long", &healthy(), apart(&[(1, 2), (1, 3)], 16), false),
            ("a follower that could lead, from the others", &healthy(), apart(&[(3, 2), (3, 1)], 16), false),
            ("a pair, too long: each may lead with the third", &healthy(), apart(&[(1, 2)], 16), true),
            ("the third of a pair that is apart for a while", &slow, down(&[3]), true),
            ("a follower that lags already", &lags, apart(&[(1, 2)], 5), false),
            ("two voters from each other", &healthy(), apart(&[(101, 102)], 60), true),
        ];
        for (name, scene, harm, may) in cases {
            let broken = scene.broken_by(&KEEP, &harm);
            assert_eq!(broken.is_none(), may, "{name}: {broken:?}");
            let nothing_kept = Keep { quorum: false, min_isr: false, brokers: 0 };
            assert_eq!(scene.broken_by(&nothing_kept, &harm), None, "{name}");
        }
    }

    #[test]
    fn a_quorum_is_a_majority_whose_members_hear_each_other() {
        let triangle = apart(&[(101, 102), (102, 103), (101, 103)], 1);
        assert!(healthy().broken_by(&KEEP, &triangle).unwrap().contains("majority"));
        let mut scene = healthy();
        scene.apart.insert((101, 102), S);
        assert_eq!(scene.broken_by(&KEEP, &apart(&[(101, 103)], 1)), None, "102 and 103 are two of three");
        assert!(scene.broken_by(&KEEP, &down(&[103])).is_some());
    }

    #[test]
    fn so_many_brokers() {
        let keep = Keep { quorum: false, min_isr: false, brokers: 2 };
        assert_eq!(healthy().broken_by(&keep, &down(&[1])), None);
        assert!(healthy().broken_by(&keep, &down(&[1, 2])).is_some());
    }
}

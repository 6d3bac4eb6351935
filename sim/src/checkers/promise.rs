//! What a configuration promises: which findings it rules out, and why not where it does not.
//!
//! Derived from `acks`, `enable.idempotence`, `min.insync.replicas` and `flush.messages`, from unclean elections that took
//! place, and from what happened to disks so far. A loss under acks=1 is found, and not promised; the same loss under
//! acks=all is a bug in the core.
//!
//! What Kafka 4.x promises of a committed record (KIP-966): it is there as long as fewer than `min.insync.replicas` of its
//! replicas lose what is on their disks. A broker loses it with its power, unless `flush.messages=1` has made it durable
//! before it was acknowledged; or with its disk: wiped, replaced by an older one, with bits that flipped, or with syncs
//! that lied. A log that was synced survives the loss of power whatever else was set. Bugs that were switched on on
//! purpose (mutants) promise nothing less: that they are found is what they are for.

use std::collections::{BTreeMap, BTreeSet};

/// Why who reads uncommitted records may read what was aborted.
pub const READS_UNCOMMITTED: &str = "isolation.level=read_uncommitted";
/// Why two processes may own one partition.
pub const SHARED_INSTANCE: &str = "two processes with one group.instance.id";
/// Why what is late may end another transaction of the same producer.
pub const ONE_EPOCH: &str = "transaction.version below 2";
/// Why a late batch may open a transaction that nobody ends.
pub const UNVERIFIED: &str = "transaction.partition.verification.enable=false";
/// Why a late copy of a batch may be appended again.
pub const FORGOTTEN: &str = "producer.id.expiration.ms below delivery.timeout.ms";
/// Why a message may be there twice although each producer sent it once.
pub const BY_HAND: &str = "a command sent it as well";
/// Why nothing is promised of a topic's records any more.
pub const DELETED: &str = "the topic was deleted";
/// Why a copy may be there twice.
pub const COPIED_TWICE: &str = "two groups copy it there";
/// Why the loss of one replica may be the loss of all.
pub const WITHOUT_ELR: &str = "a loss on one disk without eligible leader replicas";

/// What happened to the disk of a node that takes something away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    /// Power: what was not flushed may be gone.
    Power,
    /// Power, and its syncs had lied.
    Lied,
    /// It was replaced by an empty one.
    Wiped,
    /// It was replaced by one with what a disk held before.
    Stale,
    /// A bit of a file flipped.
    Flipped,
}

impl Loss {
    fn words(self) -> &'static str {
        match self {
            Loss::Power => "power loss without fsync",
            Loss::Lied => "power loss after syncs that lied",
            Loss::Wiped => "a disk was wiped",
            Loss::Stale => "a disk was replaced by a stale one",
            Loss::Flipped => "a bit flipped on a disk",
        }
    }
}

/// The settings of a topic that decide what is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Durability {
    min_isr: usize,
    flushed: bool,
    unclean: bool,
}

/// What was configured and what happened, as far as promises depend on it.
#[derive(Clone, Debug)]
pub struct Promise {
    /// By topic: the weakest `acks` of its producers (`0`, `1`; absent: `all`).
    weak_acks: BTreeMap<String, &'static str>,
    /// By topic: one of its producers retries without idempotence.
    not_idempotent: BTreeSet<String>,
    /// Topics on which an unclean election took place.
    unclean: BTreeSet<String>,
    /// Topics in which a consumer's position was out of range, so that `auto.offset.reset` applied.
    out_of_range: BTreeSet<String>,
    /// Topics to which commands wrote: what a person sends again is a new message to Kafka.
    by_hand: BTreeSet<String>,
    /// Topics to which programs write in transactions.
    transactional: BTreeSet<String>,
    /// By such a topic and where its messages come from: the first group that copies them.
    copied: BTreeMap<(String, String), String>,
    /// Topics to which two groups copy the same messages.
    copied_twice: BTreeSet<String>,
    /// By topic: the longest `delivery.timeout.ms` of its producers.
    delivery: BTreeMap<String, u64>,
    /// `producer.id.expiration.ms` of the brokers.
    expiration: u64,
    /// The lowest `transaction.version` so far.
    transaction_version: i16,
    /// `transaction.partition.verification.enable` of the brokers.
    verification: bool,
    /// For a while there were no eligible leader replicas (`eligible.leader.replicas.version=0`).
    without_elr: bool,
    /// Topics that were deleted: what clients still tell may be of the one or of the other of that name.
    deleted: BTreeSet<String>,
    /// By topic, where it differs from the brokers'.
    topics: BTreeMap<String, Durability>,
    brokers: Durability,
    /// What happened to the disks of nodes.
    lost: BTreeSet<(i32, Loss)>,
    /// Power losses are chosen so that enough members of every ISR never had one.
    covered: bool,
}

impl Default for Promise {
    fn default() -> Promise {
        Promise {
            weak_acks: BTreeMap::new(),
            not_idempotent: BTreeSet::new(),
            unclean: BTreeSet::new(),
            out_of_range: BTreeSet::new(),
            by_hand: BTreeSet::new(),
            transactional: BTreeSet::new(),
            copied: BTreeMap::new(),
            copied_twice: BTreeSet::new(),
            delivery: BTreeMap::new(),
            expiration: 86_400_000,
            transaction_version: 2,
            verification: true,
            without_elr: false,
            deleted: BTreeSet::new(),
            topics: BTreeMap::new(),
            brokers: Durability { min_isr: 1, flushed: false, unclean: false },
            lost: BTreeSet::new(),
            covered: false,
        }
    }
}

impl Promise {
    /// A producer of `topic` with this `acks` and `enable.idempotence`.
    pub fn producer(&mut self, topic: &str, acks: &str, idempotent: bool) {
        let weak = match acks {
            "0" => Some("acks=0"),
            "1" => Some("acks=1"),
            _ => None,
        };
        if let Some(weak) = weak {
            let known = self.weak_acks.entry(topic.to_owned()).or_insert(weak);
            *known = (*known).min(weak);
        }
        if !idempotent {
            self.not_idempotent.insert(topic.to_owned());
        }
    }

    /// A producer of `topic` sends a batch again for so long, in milliseconds.
    pub fn delivery_timeout(&mut self, topic: &str, millis: u64) {
        let known = self.delivery.entry(topic.to_owned()).or_default();
        *known = (*known).max(millis);
    }

    /// A program of a group copies `from` to `topic` in transactions.
    pub fn transactional(&mut self, topic: &str, from: &str, group: &str) {
        self.transactional.insert(topic.to_owned());
        let key = (topic.to_owned(), from.to_owned());
        let first = self.copied.entry(key).or_insert_with(|| group.to_owned());
        if first != group {
            self.copied_twice.insert(topic.to_owned());
        }
    }

    /// A command wrote to `topic`.
    pub fn written_by_hand(&mut self, topic: &str) {
        if !self.by_hand.contains(topic) {
            self.by_hand.insert(topic.to_owned());
        }
    }

    /// The features that are finalized now.
    pub fn features(&mut self, elr: bool, transaction_version: i16) {
        self.without_elr |= !elr;
        self.transaction_version = self.transaction_version.min(transaction_version);
    }

    /// A setting of all brokers, or of one topic. It counts from now on; of two values the one that promises less does,
    /// since what was written under it may be lost later.
    pub fn setting(&mut self, topic: Option<&str>, name: &str, value: &str, at_start: bool) {
        let brokers = self.brokers;
        let known = match topic {
            None => &mut self.brokers,
            Some(topic) => self.topics.entry(topic.to_owned()).or_insert(brokers),
        };
        match name {
            "min.insync.replicas" => {
                let min_isr = value.parse().unwrap_or(1).max(1);
                known.min_isr = if at_start { min_isr } else { known.min_isr.min(min_isr) };
            }
            "flush.messages" | "log.flush.interval.messages" => {
                known.flushed = value == "1" && (at_start || known.flushed);
            }
            "unclean.leader.election.enable" => known.unclean |= value == "true",
            "producer.id.expiration.ms" => self.expiration = value.parse().unwrap_or(self.expiration),
            "transaction.partition.verification.enable" => self.verification = value == "true",
            _ => {}
        }
    }

    /// A leader of a partition of `topic` was elected uncleanly.
    pub fn unclean_election(&mut self, topic: &str) {
        self.unclean.insert(topic.to_owned());
    }

    /// A consumer of `topic` had a position that its leader did not have, and `auto.offset.reset` gave it another one.
    pub fn out_of_range(&mut self, topic: &str) {
        self.out_of_range.insert(topic.to_owned());
    }

    /// A topic was deleted.
    pub fn topic_deleted(&mut self, topic: &str) {
        self.deleted.insert(topic.to_owned());
    }

    /// The page cache of a node's host is gone; `lied`: its syncs had said that they were done, and were not. Where enough
    /// others of every ISR have what it lost, that excuses nothing.
    pub fn power_lost(&mut self, node: i32, lied: bool) {
        if lied {
            self.lost.insert((node, Loss::Lied));
        } else if !self.covered {
            self.lost.insert((node, Loss::Power));
        }
    }

    /// Whether what fails from now on is chosen so that `min.insync.replicas` and the quorum are kept.
    pub fn covered(&mut self, covered: bool) {
        self.covered = covered;
    }

    /// A node's disk was replaced by an empty one. Where enough others have what it held, that excuses nothing.
    pub fn wiped(&mut self, node: i32) {
        if !self.covered {
            self.lost.insert((node, Loss::Wiped));
        }
    }

    /// A node's disk was replaced by one with what a disk held before; the same holds of it.
    pub fn stale_disk(&mut self, node: i32) {
        if !self.covered {
            self.lost.insert((node, Loss::Stale));
        }
    }

    /// A bit of a node's file is no longer what was written.
    pub fn bit_flipped(&mut self, node: i32) {
        self.lost.insert((node, Loss::Flipped));
    }

    /// Why a finding was not ruled out; `None` if it was.
    pub fn excuse(&self, name: &str, topic: Option<&str>) -> Option<&'static str> {
        let on = |set: &BTreeSet<String>| topic.is_some_and(|t| set.contains(t));
        let unclean = topic.is_some_and(|t| self.unclean.contains(t)).then_some("unclean election");
        // Where nobody allowed an unclean election, it came of what all candidates had lost.
        let lost = self.replicas_lost(topic);
        let allowed = self.durability(topic).unclean;
        let data_loss = || if allowed { unclean.or(lost) } else { lost.or(unclean) };
        let weak_acks = || topic.and_then(|t| self.weak_acks.get(t).copied());
        let deleted = || on(&self.deleted).then_some(DELETED);
        match name {
            "lost-write" if on(&self.transactional) => {
                self.one_epoch().or_else(weak_acks).or_else(data_loss).or_else(deleted)
            }
            "lost-write" | "inconsistent-offsets" => weak_acks().or_else(data_loss).or_else(deleted),
            "G1a" | "precommitted-read" => self.one_epoch().or_else(deleted),
            "torn-transaction" => self.one_epoch().or_else(data_loss).or_else(deleted),
            "HangingTransaction" => self.unverified().or_else(data_loss),
            "poll-skip" | "nonmonotonic-poll" => {
                let out_of_range =
                    on(&self.out_of_range).then_some("auto.offset.reset gave another position");
                out_of_range.or_else(weak_acks).or_else(data_loss).or_else(deleted)
            }
            // What a poll returned came from one log, but for a log that lost its end in between.
            "int-poll-skip" | "int-nonmonotonic-poll" => weak_acks().or_else(data_loss).or_else(deleted),
            "nonmonotonic-send" => {
                let again = on(&self.not_idempotent).then_some("retries without idempotence");
                weak_acks().or_else(data_loss).or(again).or_else(deleted)
            }
            // Unread is not lost: nobody promised that a partition can always be read.
            "unseen" => Some("the partition could not be read to its end"),
            "duplicate" => {
                let again = on(&self.not_idempotent).then_some("retries without idempotence");
                let by_hand = on(&self.by_hand).then_some(BY_HAND);
                let by_hand = by_hand.or(on(&self.copied_twice).then_some(COPIED_TWICE));
                again.or(by_hand).or_else(|| self.forgotten(topic)).or_else(data_loss).or_else(deleted)
            }
            "ContiguousSequences" => self.forgotten(topic).or_else(data_loss),
            // A consumer goes on where it was in the topic before, and commits that.
            "CommittedOffsetMonotonic" => data_loss().or_else(deleted),
            // Who is told that an offset is out of range begins where `auto.offset.reset` says.
            "ExactlyOnce" => {
                let out_of_range =
                    on(&self.out_of_range).then_some("auto.offset.reset gave another position");
                out_of_range.or_else(data_loss).or_else(deleted)
            }
            "LeaderCompleteness"
            | "LeaderCandidateCompleteness"
            | "ConsistentRead"
            | "NoZombieWrites"
            | "SingleOwnerPerGeneration"
            | "NoCommittedRecordLost"
            | "StrongIsr"
            | "ValidHighWatermark" => data_loss(),
            // A leader of the quorum counts its own log before it is flushed: one power loss and one cut may be enough.
            "CommittedMetadataNeverLost" => self.any(|_| true),
            // Votes and epochs are durable before anybody hears of them.
            "ElectionSafety" | "OneVotePerEpoch" | "MetadataLogMatching" => {
                self.any(|loss| loss != Loss::Power)
            }
            "LogMatching" | "MonotonicEpoch" | "RecoveryKeepsPromised" | "SyncedSurvivesPowerLoss" => {
                self.any(|loss| loss != Loss::Power)
            }
            _ => None,
        }
    }

    /// With transactions of version 2 each has an epoch of its own (KIP-890): what is late belongs to none but its own.
    fn one_epoch(&self) -> Option<&'static str> {
        (self.transaction_version < 2).then_some(ONE_EPOCH)
    }

    /// A leader that asks nobody takes a batch of a transaction that has ended (KIP-890).
    fn unverified(&self) -> Option<&'static str> {
        let asks = self.verification || self.transaction_version >= 2;
        (!asks).then_some(UNVERIFIED)
    }

    /// Kafka's documentation of `producer.id.expiration.ms`: the same as `delivery.timeout.ms` or more protects against
    /// duplicates.
    fn forgotten(&self, topic: Option<&str>) -> Option<&'static str> {
        let longest = topic.and_then(|topic| self.delivery.get(topic)).copied().unwrap_or(0);
        (self.expiration < longest).then_some(FORGOTTEN)
    }

    fn durability(&self, topic: Option<&str>) -> Durability {
        topic.and_then(|t| self.topics.get(t)).copied().unwrap_or(self.brokers)
    }

    fn any(&self, counts: impl Fn(Loss) -> bool) -> Option<&'static str> {
        self.lost.iter().map(|(_, loss)| *loss).filter(|loss| counts(*loss)).max().map(Loss::words)
    }

    /// Whether as many brokers lost what was committed as hold it at least.
    fn replicas_lost(&self, topic: Option<&str>) -> Option<&'static str> {
        let Durability { min_isr, flushed, .. } = self.durability(topic);
        let counts = |loss: Loss| loss != Loss::Power || !flushed;
        let nodes: BTreeSet<i32> =
            self.lost.iter().filter(|(_, loss)| counts(*loss)).map(|(node, _)| *node).collect();
        if !nodes.is_empty() && self.without_elr && nodes.len() < min_isr {
            return Some(WITHOUT_ELR);
        }
        if nodes.len() < min_isr { None } else { self.any(counts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_excuses_what() {
        let mut promise = Promise::default();
        promise.producer("strong", "all", true);
        promise.producer("weak", "1", false);
        assert_eq!(promise.excuse("lost-write", Some("strong")), None);
        assert_eq!(promise.excuse("lost-write", Some("weak")), Some("acks=1"));
        assert_eq!(promise.excuse("duplicate", Some("strong")), None);
        assert_eq!(promise.excuse("duplicate", Some("weak")), Some("retries without idempotence"));
        assert_eq!(promise.excuse("LogMatching", Some("weak")), None);
        assert_eq!(promise.excuse("nonmonotonic-send", Some("weak")), Some("acks=1"));
        assert_eq!(promise.excuse("poll-skip", Some("strong")), None);
        promise.out_of_range("strong");
        let reset = Some("auto.offset.reset gave another position");
        assert_eq!(promise.excuse("poll-skip", Some("strong")), reset);
        assert_eq!(promise.excuse("nonmonotonic-poll", Some("strong")), reset);
        assert_eq!(promise.excuse("int-poll-skip", Some("strong")), None);
        promise.topic_deleted("strong");
        assert_eq!(promise.excuse("int-poll-skip", Some("strong")), Some("the topic was deleted"));
        promise.unclean_election("strong");
        assert_eq!(promise.excuse("lost-write", Some("strong")), Some("unclean election"));
        assert_eq!(promise.excuse("ElectionSafety", None), None);
        promise.power_lost(1, false);
        assert_eq!(promise.excuse("LeaderCompleteness", Some("other")), Some("power loss without fsync"));
        for name in ["LogMatching", "SyncedSurvivesPowerLoss", "RecoveryKeepsPromised", "OneVotePerEpoch"] {
            assert_eq!(promise.excuse(name, Some("other")), None, "{name}");
        }
        promise.bit_flipped(2);
        for name in ["LogMatching", "SyncedSurvivesPowerLoss", "RecoveryKeepsPromised", "OneVotePerEpoch"] {
            assert_eq!(promise.excuse(name, Some("other")), Some("a bit flipped on a disk"), "{name}");
        }
    }

    #[test]
    fn fewer_losses_than_min_insync_replicas_excuse_nothing() {
        let mut promise = Promise::default();
        promise.setting(None, "min.insync.replicas", "2", true);
        promise.setting(Some("weak"), "min.insync.replicas", "1", true);
        promise.power_lost(1, false);
        promise.power_lost(1, false);
        assert_eq!(promise.excuse("lost-write", Some("t")), None);
        assert_eq!(promise.excuse("lost-write", Some("weak")), Some("power loss without fsync"));
        promise.covered(true);
        promise.wiped(2);
        promise.stale_disk(3);
        assert_eq!(promise.excuse("lost-write", Some("t")), None, "others have it");
        promise.covered(false);
        promise.wiped(2);
        assert_eq!(promise.excuse("lost-write", Some("t")), Some("a disk was wiped"));
    }

    #[test]
    fn without_eligible_leader_replicas_the_last_one_in_sync_may_lose_everything() {
        let mut promise = Promise::default();
        promise.setting(None, "min.insync.replicas", "2", true);
        promise.features(false, 2);
        assert_eq!(promise.excuse("lost-write", Some("t")), None);
        promise.power_lost(1, false);
        let why = Some("a loss on one disk without eligible leader replicas");
        assert_eq!(promise.excuse("LeaderCandidateCompleteness", Some("t")), why);
        promise.power_lost(2, false);
        assert_eq!(promise.excuse("lost-write", Some("t")), Some("power loss without fsync"));
    }

    #[test]
    fn what_versions_and_timeouts_promise() {
        let mut promise = Promise::default();
        promise.transactional("t", "s", "copiers");
        promise.transactional("t", "r", "others");
        promise.delivery_timeout("t", 120_000);
        for name in ["G1a", "lost-write", "torn-transaction", "HangingTransaction", "duplicate"] {
            assert_eq!(promise.excuse(name, Some("t")), None, "{name}");
        }
        promise.transactional("t", "s", "others");
        assert_eq!(promise.excuse("duplicate", Some("t")), Some("two groups copy it there"));
        promise.copied_twice.clear();
        promise.features(true, 1);
        let one_epoch = Some("transaction.version below 2");
        for name in ["G1a", "lost-write", "torn-transaction"] {
            assert_eq!(promise.excuse(name, Some("t")), one_epoch, "{name}");
        }
        assert_eq!(promise.excuse("lost-write", Some("other")), None);
        assert_eq!(promise.excuse("HangingTransaction", Some("t")), None);
        promise.setting(None, "transaction.partition.verification.enable", "false", true);
        assert!(promise.excuse("HangingTransaction", Some("t")).is_some());
        promise.setting(None, "producer.id.expiration.ms", "5000", true);
        let forgotten = Some("producer.id.expiration.ms below delivery.timeout.ms");
        assert_eq!(promise.excuse("duplicate", Some("t")), forgotten);
        assert_eq!(promise.excuse("ContiguousSequences", Some("t")), forgotten);
        assert_eq!(promise.excuse("duplicate", Some("other")), None);
        promise.written_by_hand("other");
        assert_eq!(promise.excuse("duplicate", Some("other")), Some("a command sent it as well"));
    }

    #[test]
    fn what_is_flushed_is_not_lost_with_the_power_unless_the_disk_lied() {
        let mut promise = Promise::default();
        promise.setting(Some("t"), "flush.messages", "1", true);
        promise.power_lost(1, false);
        assert_eq!(promise.excuse("lost-write", Some("t")), None);
        assert_eq!(promise.excuse("lost-write", Some("other")), Some("power loss without fsync"));
        promise.power_lost(1, true);
        assert_eq!(promise.excuse("lost-write", Some("t")), Some("power loss after syncs that lied"));
        assert_eq!(
            promise.excuse("SyncedSurvivesPowerLoss", Some("t")),
            promise.excuse("lost-write", Some("t"))
        );
    }

    #[test]
    fn an_election_that_nobody_allowed_came_of_what_was_lost() {
        for (allowed, why) in [("true", "unclean election"), ("false", "power loss without fsync")] {
            let mut promise = Promise::default();
            promise.setting(Some("t"), "unclean.leader.election.enable", allowed, true);
            promise.unclean_election("t");
            promise.power_lost(1, false);
            assert_eq!(promise.excuse("lost-write", Some("t")), Some(why));
        }
    }

    #[test]
    fn a_setting_that_was_weaker_for_a_while_was_weak() {
        let mut promise = Promise::default();
        promise.setting(Some("t"), "min.insync.replicas", "2", true);
        promise.setting(Some("t"), "min.insync.replicas", "1", false);
        promise.setting(Some("t"), "min.insync.replicas", "2", false);
        promise.power_lost(1, false);
        assert!(promise.excuse("lost-write", Some("t")).is_some());
    }
}

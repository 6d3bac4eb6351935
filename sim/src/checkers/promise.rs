//! What a configuration promises: which findings it rules out, and why not where it does not.
//!
//! Derived from `acks`, `enable.idempotence`, unclean elections that took place, and the faults injected so far. A
//! loss under acks=1 is found, and not promised; the same loss under acks=all is a bug in the core.

use std::collections::{BTreeMap, BTreeSet};

/// What was configured and what happened, as far as promises depend on it.
#[derive(Clone, Debug, Default)]
pub struct Promise {
    /// By topic: the weakest `acks` of its producers (`0`, `1`; absent: `all`).
    weak_acks: BTreeMap<String, &'static str>,
    /// By topic: one of its producers retries without idempotence.
    not_idempotent: BTreeSet<String>,
    /// Topics on which an unclean election took place.
    unclean: BTreeSet<String>,
    /// Power was lost: what was not flushed may be gone.
    power_lost: bool,
    /// A disk was replaced by an empty one.
    wiped: bool,
    /// A disk was replaced by one with what a disk held before.
    stale_disk: bool,
    /// A bit of a file flipped.
    bit_flipped: bool,
    /// Power losses are chosen so that enough members of every ISR never had one.
    covered: bool,
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

    /// A leader of a partition of `topic` was elected uncleanly.
    pub fn unclean_election(&mut self, topic: &str) {
        self.unclean.insert(topic.to_owned());
    }

    /// The page cache of a host is gone. Where enough others of every ISR have what it lost, that excuses nothing.
    pub fn power_lost(&mut self) {
        self.power_lost |= !self.covered;
    }

    /// Whether what fails from now on is chosen so that `min.insync.replicas` and the quorum are kept.
    pub fn covered(&mut self, covered: bool) {
        self.covered = covered;
    }

    /// A disk was replaced by an empty one.
    pub fn wiped(&mut self) {
        self.wiped = true;
    }

    /// A disk was replaced by one with what a disk held before.
    pub fn stale_disk(&mut self) {
        self.stale_disk = true;
    }

    /// A bit of a file is no longer what was written.
    pub fn bit_flipped(&mut self) {
        self.bit_flipped = true;
    }

    /// Why a finding was not ruled out; `None` if it was.
    pub fn excuse(&self, name: &str, topic: Option<&str>) -> Option<&'static str> {
        let on = |set: &BTreeSet<String>| topic.is_some_and(|t| set.contains(t));
        let data_loss = || {
            if on(&self.unclean) {
                Some("unclean election")
            } else if self.power_lost {
                Some("power loss without fsync")
            } else if self.wiped {
                Some("a disk was wiped")
            } else if self.stale_disk {
                Some("a disk was replaced by a stale one")
            } else if self.bit_flipped {
                Some("a bit flipped on a disk")
            } else {
                None
            }
        };
        match name {
            "lost-write" | "inconsistent-offsets" => {
                topic.and_then(|t| self.weak_acks.get(t).copied()).or_else(data_loss)
            }
            // Unread is not lost: nobody promised that a partition can always be read.
            "unseen" => Some("the partition could not be read to its end"),
            "duplicate" => {
                on(&self.not_idempotent).then_some("retries without idempotence").or_else(data_loss)
            }
            "LeaderCompleteness"
            | "SingleOwnerPerGeneration"
            | "CommittedOffsetMonotonic"
            | "torn-transaction"
            | "HangingTransaction"
            | "NoCommittedRecordLost"
            | "StrongIsr"
            | "CommittedMetadataNeverLost"
            | "ValidHighWatermark" => data_loss(),
            _ => None,
        }
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
        promise.unclean_election("strong");
        assert_eq!(promise.excuse("lost-write", Some("strong")), Some("unclean election"));
        assert_eq!(promise.excuse("ElectionSafety", None), None);
        promise.power_lost();
        assert_eq!(promise.excuse("LeaderCompleteness", Some("other")), Some("power loss without fsync"));
        assert_eq!(promise.excuse("LogMatching", Some("other")), None);
    }
}

//! Replication throttles (KIP-73): how fast replicas may be copied that are not in sync.
//!
//! Follows Kafka's `ReplicationQuotaManager`, `TopicConfigHandler.parseThrottledPartitions` and
//! `ThrottledReplicaListValidator`. A broker has one quota for what it gives as a leader and one for what it takes as a
//! follower, with the rates of `leader.replication.throttled.rate` and `follower.replication.throttled.rate`. Which
//! replicas are throttled, a topic's two lists say. What throttled replicas copy is recorded whether they are in sync or
//! not, so that all of it together keeps to the rate; but only those that are not in sync are made to wait, so that a
//! throttle never takes a replica out of the ISR.

use wire::drive::Instant;

use super::rate::{Bound, Rate, Samples};

/// The topic's setting that lists the replicas which are throttled as leaders.
pub const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
/// The topic's setting that lists the replicas which are throttled as followers.
pub const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";
/// The broker's setting for what it gives as a leader, in bytes a second.
pub const LEADER_RATE: &str = "leader.replication.throttled.rate";
/// The broker's setting for what it takes as a follower, in bytes a second.
pub const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";

/// As what a replica is throttled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttled {
    /// It gives no more than the leader's quota allows.
    pub leader: bool,
    /// It takes no more than the follower's quota allows.
    pub follower: bool,
}

/// One of the two quotas of a broker.
#[derive(Clone, Debug)]
pub struct ReplicationQuota {
    /// Absent while no rate is set.
    bound: Option<Bound>,
    rate: Rate,
    used: bool,
}

impl ReplicationQuota {
    /// Without a rate.
    pub fn new(window: Samples) -> ReplicationQuota {
        ReplicationQuota { bound: None, rate: Rate::simple(window), used: false }
    }

    /// Sets the rate in bytes a second, or takes it away. What was recorded stays.
    pub fn set_rate(&mut self, rate: Option<u64>) {
        self.bound = rate.map(Bound::per_second);
        self.used |= rate.is_some();
    }

    /// A replica is throttled by it.
    pub fn begin_use(&mut self) {
        self.used = true;
    }

    /// Whether there was ever a rate or a replica for it: before that, nothing needs to be recorded.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// Records what was copied, also beyond the rate.
    pub fn record(&mut self, bytes: usize, now: Instant) {
        self.rate.record(i64::try_from(bytes).unwrap_or(i64::MAX), now);
    }

    /// Whether more was copied than the rate allows.
    pub fn exceeded(&mut self, now: Instant) -> bool {
        self.bound.is_some_and(|bound| self.rate.exceeds(bound, now))
    }
}

/// Both quotas of a broker.
#[derive(Clone, Debug)]
pub struct ReplicationQuotas {
    /// For what it gives as a leader.
    pub leader: ReplicationQuota,
    /// For what it takes as a follower.
    pub follower: ReplicationQuota,
}

impl ReplicationQuotas {
    /// Without rates.
    pub fn new(window: Samples) -> ReplicationQuotas {
        ReplicationQuotas { leader: ReplicationQuota::new(window), follower: ReplicationQuota::new(window) }
    }
}

/// Whether a list of throttled replicas is `*`, or all its elements are a partition and a broker, or empty.
pub fn is_valid_list<'e>(elements: impl Iterator<Item = &'e str> + Clone) -> bool {
    let number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let replica = |element: &str| element.split_once(':').is_some_and(|(p, b)| number(p) && number(b));
    elements.clone().all(|e| e.trim().is_empty() || replica(e.trim())) || is_every_replica(elements)
}

/// Whether a list of throttled replicas, as it is stored, names this one. What is no replica is passed over: lists were
/// checked when they were set.
pub fn lists(list: &str, partition: i32, broker: i32) -> bool {
    let this = |element: &str| {
        let Some((p, b)) = element.trim().split_once(':') else { return false };
        p.parse() == Ok(partition) && b.parse() == Ok(broker)
    };
    list.split(',').any(this) || is_every_replica(list.split(','))
}

fn is_every_replica<'e>(elements: impl Iterator<Item = &'e str>) -> bool {
    elements.map(str::trim).filter(|e| !e.is_empty()).eq(["*"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_and_refused_as_kafka_does() {
        // What Apache Kafka 4.3.1 said of each when it was set.
        for (list, valid) in [
            ("*", true),
            ("0:1", true),
            ("0:1,1:2", true),
            (" 0:1 , 1:2 ", true),
            ("0:1,,1:2", true),
            ("", true),
            ("  ", true),
            ("0:1,0:1", true),
            ("0:1,", true),
            (",", true),
            ("*,", true),
            (",*", true),
            ("99999999999:1", true),
            ("*,0:1", false),
            ("*,*", false),
            ("0", false),
            ("0:1:2", false),
            ("a:b", false),
            ("-1:2", false),
            ("0:x,1:2", false),
            ("\u{660}:1", false),
        ] {
            assert_eq!(is_valid_list(list.split(',')), valid, "{list:?}");
        }
    }

    #[test]
    fn a_list_names_replicas() {
        for (list, partition, broker, named) in [
            ("", 0, 1, false),
            ("*", 7, 9, true),
            (" * ", 7, 9, true),
            ("0:1,1:2", 0, 1, true),
            ("0:1,1:2", 1, 2, true),
            ("0:1,1:2", 1, 1, false),
            ("0:1, 1:2", 1, 2, true),
            ("10:1", 0, 1, false),
            ("0:11", 0, 1, false),
            ("99999999999:1,,0:1", 0, 1, true),
            ("99999999999:1", 0, 1, false),
        ] {
            assert_eq!(lists(list, partition, broker), named, "{list:?} of {partition}:{broker}");
        }
    }

    #[test]
    fn a_quota_is_exceeded_only_above_its_rate_and_forgets() {
        let at = |ms| Instant::default().plus_millis(ms);
        let mut quota = ReplicationQuota::new(Samples { num: 11, seconds: 1 });
        quota.record(1_000_000, at(0));
        assert!(!quota.exceeded(at(0)), "no rate is set");
        quota.set_rate(Some(500_000));
        assert!(quota.exceeded(at(0)), "what was copied before counts");
        assert!(quota.exceeded(at(1_999)));
        assert!(!quota.exceeded(at(2_000)), "one million in two seconds is no more than the rate");
        quota.record(1_000_000, at(2_000));
        assert!(quota.exceeded(at(3_999)));
        assert!(!quota.exceeded(at(4_000)));
        quota.set_rate(Some(0));
        assert!(quota.exceeded(at(4_000)));
        assert!(!quota.exceeded(at(20_000)), "all samples are too old");
        quota.set_rate(None);
        quota.record(usize::MAX, at(20_000));
        assert!(!quota.exceeded(at(20_000)));
    }
}

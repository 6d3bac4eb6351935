//! What clients produce, fetch and change, measured and held to their quotas (`ClientQuotaManager`,
//! `ControllerMutationQuotaManager`).
//!
//! Whoever went over a quota is told for how long it has to wait, and its connection is muted for that time (KIP-219).
//! While nobody has a quota nothing is measured.

use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::drive::{Instant, Nanos};

use super::limits::{ANONYMOUS, Limits, Tags};
use super::rate::{Bound, Rate, Samples, TokenBucket};
use crate::config::NodeConfig;
use crate::metadata::ClientQuotasImage;

/// What was not used for so long is forgotten.
const INACTIVE: Nanos = Nanos::from_secs(3_600);
/// How often that is looked for, at most.
const SWEEP: Nanos = Nanos::from_secs(30);

/// A quota that was violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// How long the client has to wait.
    pub throttle: Nanos,
    /// Which quota it is, as `kafka-configs` calls it.
    pub quota: &'static str,
    /// Whether the client did not go over this quota before.
    pub first: bool,
}

impl Violation {
    /// The time to wait as responses tell it.
    pub fn throttle_ms(&self) -> i32 {
        self.throttle.as_millis() as i32
    }
}

/// One measurement, of all who share it.
#[derive(Clone, Debug)]
struct Sensor<M> {
    user: Arc<str>,
    client_id: Arc<str>,
    bound: Option<Bound>,
    measured: M,
    last_used: Instant,
    /// It was told to wait since it has this bound.
    throttled: bool,
}

impl<M> Sensor<M> {
    fn tags(&self) -> Tags<'_> {
        Tags { user: &self.user, client_id: &self.client_id }
    }

    fn violated(&mut self, quota: &'static str, throttle: Nanos) -> Option<Violation> {
        // A violation of less than half a millisecond rounds to nothing.
        if throttle == Nanos::ZERO {
            return None;
        }
        let first = !core::mem::replace(&mut self.throttled, true);
        Some(Violation { throttle, quota, first })
    }
}

/// One kind of quota.
#[derive(Clone, Debug)]
struct Manager<M> {
    key: &'static str,
    samples: Samples,
    limits: Limits,
    /// Sorted.
    sensors: Vec<Sensor<M>>,
    swept_at: Instant,
}

impl<M> Manager<M> {
    fn new(key: &'static str, samples: Samples) -> Manager<M> {
        let limits = Limits::default();
        Manager { key, samples, limits, sensors: Vec::new(), swept_at: Instant::default() }
    }

    /// Takes what the metadata says; what was measured stays.
    fn update(&mut self, image: &ClientQuotasImage) {
        self.limits = Limits::of(image, self.key);
        for sensor in &mut self.sensors {
            let bound = self.limits.limit(sensor.tags());
            sensor.throttled &= sensor.bound == bound;
            sensor.bound = bound;
        }
    }

    fn sensor(&mut self, now: Instant, client_id: &str, new: fn(Samples) -> M) -> &mut Sensor<M> {
        let tags = self.limits.tags(ANONYMOUS, client_id);
        let at = match self.sensors.binary_search_by(|sensor| sensor.tags().cmp(&tags)) {
            Ok(at) => at,
            Err(at) => {
                let at = if self.sweep(now) { self.place_of(tags) } else { at };
                let sensor = Sensor {
                    user: tags.user.into(),
                    client_id: tags.client_id.into(),
                    bound: self.limits.limit(tags),
                    measured: new(self.samples),
                    last_used: now,
                    throttled: false,
                };
                self.sensors.insert(at, sensor);
                at
            }
        };
        let sensor = &mut self.sensors[at];
        sensor.last_used = now;
        sensor
    }

    fn place_of(&self, tags: Tags<'_>) -> usize {
        self.sensors.partition_point(|sensor| sensor.tags() < tags)
    }

    /// Forgets who was not there for an hour, so that client ids that come and go do not fill the memory.
    fn sweep(&mut self, now: Instant) -> bool {
        if now.since(self.swept_at) < SWEEP {
            return false;
        }
        self.swept_at = now;
        self.sensors.retain(|sensor| now.since(sensor.last_used) < INACTIVE);
        true
    }
}

impl Manager<Rate> {
    fn record(&mut self, now: Instant, client_id: &str, amount: i64) -> Option<Violation> {
        let key = self.key;
        let sensor = self.sensor(now, client_id, Rate::new);
        sensor.measured.record(amount, now);
        let throttle = sensor.measured.throttle_time(sensor.bound?, now);
        sensor.violated(key, throttle)
    }
}

/// The quotas of a node's clients.
#[derive(Clone, Debug)]
pub struct ClientQuotas {
    produce: Manager<Rate>,
    fetch: Manager<Rate>,
    mutation: Manager<TokenBucket>,
    enabled: bool,
}

impl ClientQuotas {
    /// Nobody has a quota.
    pub fn new(config: &NodeConfig) -> ClientQuotas {
        let number = |key| u32::try_from(config.static_number(key)).unwrap_or(1).max(1);
        let samples =
            Samples { num: number("quota.window.num"), seconds: number("quota.window.size.seconds") };
        let mutations = Samples {
            num: number("controller.quota.window.num"),
            seconds: number("controller.quota.window.size.seconds"),
        };
        ClientQuotas {
            produce: Manager::new("producer_byte_rate", samples),
            fetch: Manager::new("consumer_byte_rate", samples),
            mutation: Manager::new("controller_mutation_rate", mutations),
            enabled: false,
        }
    }

    /// Whether anybody has a quota that is measured.
    #[inline]
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Takes what the metadata says.
    pub fn update(&mut self, image: &ClientQuotasImage) {
        self.produce.update(image);
        self.fetch.update(image);
        self.mutation.update(image);
        self.enabled = [&self.produce.limits, &self.fetch.limits, &self.mutation.limits]
            .iter()
            .any(|limits| !limits.is_empty());
    }

    /// A client's Produce request of so many bytes is answered.
    pub fn produced(&mut self, now: Instant, client_id: &str, bytes: usize) -> Option<Violation> {
        if self.produce.limits.is_empty() {
            return None;
        }
        self.produce.record(now, client_id, bytes as i64)
    }

    /// A client's Fetch would be answered with so many bytes. If that goes over its quota it is to be answered with
    /// none, and those are not counted.
    pub fn fetched(&mut self, now: Instant, client_id: &str, bytes: usize) -> Option<Violation> {
        if self.fetch.limits.is_empty() {
            return None;
        }
        let violation = self.fetch.record(now, client_id, bytes as i64);
        if violation.is_some() {
            self.fetch.sensor(now, client_id, Rate::new).measured.record(-(bytes as i64), now);
        }
        violation
    }

    /// How many bytes a Fetch may give to a client that has fetched nothing of late; with more it would be throttled
    /// for ever.
    pub fn most_to_fetch(&mut self, now: Instant, client_id: &str) -> Option<u64> {
        if self.fetch.limits.is_empty() {
            return None;
        }
        let Samples { num, seconds } = self.fetch.samples;
        let bound = self.fetch.sensor(now, client_id, Rate::new).bound?;
        Some(bound.times_seconds(u64::from(num - 1) * u64::from(seconds)))
    }

    /// The quota that a client's request to make or delete partitions is held to.
    pub fn mutations(
        &mut self,
        now: Instant,
        client_id: &str,
        key: ApiKey,
        version: i16,
    ) -> MutationQuota<'_> {
        let strict_since = match key {
            ApiKey::CreateTopics => 6,
            ApiKey::DeleteTopics => 5,
            ApiKey::CreatePartitions => 3,
            _ => return MutationQuota::UNBOUNDED,
        };
        if self.mutation.limits.is_empty() {
            return MutationQuota::UNBOUNDED;
        }
        let sensor = self.mutation.sensor(now, client_id, TokenBucket::new);
        MutationQuota { sensor: Some(sensor), strict: version >= strict_since, now, violation: None }
    }
}

/// What `controller_mutation_rate` says to the partitions that one request makes or deletes (KIP-599).
pub struct MutationQuota<'a> {
    sensor: Option<&'a mut Sensor<TokenBucket>>,
    /// Once the quota is exhausted, nothing more is done. Otherwise it is done, and the client told to wait.
    strict: bool,
    now: Instant,
    violation: Option<Violation>,
}

/// THROTTLING_QUOTA_EXCEEDED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaExceeded;

impl MutationQuota<'_> {
    /// No quota.
    pub const UNBOUNDED: MutationQuota<'static> =
        MutationQuota { sensor: None, strict: false, now: Instant(0), violation: None };

    /// So many partitions shall be made or deleted.
    pub fn record(&mut self, partitions: usize) -> Result<(), QuotaExceeded> {
        let Some(sensor) = &mut self.sensor else { return Ok(()) };
        let Some(bound) = sensor.bound else { return Ok(()) };
        let refused = self.strict && sensor.measured.exceeded(bound, self.now);
        if !refused {
            sensor.measured.record(partitions as i64, bound, self.now);
        }
        if refused || !self.strict {
            let throttle = sensor.measured.throttle_time(bound, self.now);
            if let Some(violation) = sensor.violated("controller_mutation_rate", throttle) {
                let first = violation.first || self.violation.is_some_and(|before| before.first);
                self.violation = Some(Violation { first, ..violation });
            }
        }
        if refused { Err(QuotaExceeded) } else { Ok(()) }
    }

    /// The violation that the answer has to tell.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn quotas(set: &[(&str, &str, u32)]) -> ClientQuotas {
        let given = [
            ("process.roles", "controller"),
            ("node.id", "101"),
            ("listeners", "CONTROLLER://controller-101:9093"),
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.voters", "101@controller-101:9093"),
        ];
        let given = given.map(|(k, v)| (k.to_string(), v.to_string())).into();
        let mut quotas = ClientQuotas::new(&NodeConfig::parse(&given).unwrap());
        quotas.update(&image(set));
        quotas
    }

    /// Client ids with a quota.
    fn image(set: &[(&str, &str, u32)]) -> ClientQuotasImage {
        let mut image = ClientQuotasImage::default();
        for &(client_id, key, value) in set {
            let entity = vec![(Arc::from("client-id"), Some(Arc::from(client_id)))];
            let value = f64::from(value).to_bits();
            image.entities.entry(entity).or_default().insert(key.into(), value);
        }
        image
    }

    fn at(ms: u64) -> Instant {
        Instant::default().plus_millis(ms)
    }

    #[test]
    fn a_producer_is_told_to_wait_until_its_rate_is_down() {
        let mut quotas = quotas(&[("p", "producer_byte_rate", 1_000)]);
        assert!(quotas.enabled());
        assert_eq!(quotas.produced(at(0), "p", 10_000), None);
        let violation = quotas.produced(at(0), "p", 2_000).expect("over the quota");
        assert_eq!((violation.throttle_ms(), violation.first), (2_000, true));
        assert_eq!(violation.quota, "producer_byte_rate");
        let again = quotas.produced(at(500), "p", 0).expect("still over the quota");
        assert_eq!((again.throttle_ms(), again.first), (1_500, false));
        assert_eq!(quotas.produced(at(0), "q", 1_000_000), None, "others have no quota");
    }

    #[test]
    fn a_fetch_that_is_throttled_does_not_count() {
        let mut quotas = quotas(&[("c", "consumer_byte_rate", 100)]);
        assert_eq!(quotas.most_to_fetch(at(0), "c"), Some(1_000));
        assert_eq!(quotas.most_to_fetch(at(0), "d"), None);
        assert_eq!(quotas.fetched(at(0), "c", 900), None);
        assert_eq!(quotas.fetched(at(0), "c", 200).map(|v| v.throttle_ms()), Some(1_000));
        assert_eq!(quotas.fetched(at(0), "c", 100), None, "the 200 were taken back");
    }

    #[test]
    fn a_changed_quota_holds_at_once_and_what_was_measured_stays() {
        let mut quotas = quotas(&[("p", "producer_byte_rate", 1_000)]);
        assert_eq!(quotas.produced(at(0), "p", 10_000), None);
        quotas.update(&image(&[("p", "producer_byte_rate", 500)]));
        assert_eq!(quotas.produced(at(0), "p", 0).map(|v| v.throttle_ms()), Some(10_000));
        quotas.update(&image(&[]));
        assert!(!quotas.enabled());
        assert_eq!(quotas.produced(at(0), "p", 1_000_000), None);
    }

    #[test]
    fn a_strict_quota_refuses_once_it_is_exhausted_and_a_permissive_one_never() {
        let create = |quotas: &mut ClientQuotas, ms, version, partitions| {
            let mut quota = quotas.mutations(at(ms), "a", ApiKey::CreateTopics, version);
            let done = quota.record(partitions).is_ok();
            (done, quota.violation().map_or(0, |v| v.throttle_ms()))
        };
        // Eleven seconds' worth of tokens are there.
        let mut strict = quotas(&[("a", "controller_mutation_rate", 2)]);
        assert_eq!(create(&mut strict, 0, 6, 30), (true, 0), "not exhausted when it came");
        assert_eq!(create(&mut strict, 0, 6, 1), (false, 4_000));
        assert_eq!(create(&mut strict, 3_999, 6, 1), (false, 1));
        assert_eq!(create(&mut strict, 4_000, 6, 1), (true, 0));
        let mut permissive = quotas(&[("a", "controller_mutation_rate", 2)]);
        assert_eq!(create(&mut permissive, 0, 5, 30), (true, 4_000));
        assert_eq!(create(&mut permissive, 0, 5, 2), (true, 5_000));
    }

    #[test]
    fn who_was_not_there_for_an_hour_is_forgotten() {
        let mut quotas = quotas(&[("p", "producer_byte_rate", 1_000)]);
        for (i, client_id) in ["a", "b", "p"].into_iter().enumerate() {
            quotas.produced(at(i as u64), client_id, 1);
        }
        assert_eq!(quotas.produce.sensors.len(), 3);
        quotas.produced(at(3_600_001), "c", 1);
        let left: Vec<&str> = quotas.produce.sensors.iter().map(|s| &*s.client_id).collect();
        assert_eq!(left, ["c", "p"]);
    }
}

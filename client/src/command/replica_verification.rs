//! `kafka-replica-verification` (`ReplicaVerificationTool.java`): fetches the same partitions from all of their
//! replicas, round by round, and compares their batches up to the high watermark until it is stopped.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use wire::Codecs;
use wire::Uuid;
use wire::drive::{Instant, Nanos, Now};

use super::CommandSpec;
use super::get_offsets::check_bootstrap;
use super::java::{DEFAULT_ROOM, hash_of_partition, hash_order, log_time};
use super::options::{Help, Options};
use super::running::{self, not_begun};
use super::session::{
    Console, Exception, Ran, Stop, Terminal, bootstrap_servers, failed_construct, got, known_settings,
};
use super::topic_filter::TopicFilter;
use crate::Rng;
use crate::admin::{Admin, AdminResult, BatchSeen, CallId, ReplicaFetch, ReplicaSeen};
use crate::backoff::fork;
use crate::config::{AdminConfig, ClientKind, Isolation, Settings};
use crate::event::TopicPartition;
use crate::io::{Input, Outputs};
use crate::net::sooner;

const ABOUT: &str = "Validate that all replicas for a set of topics have the same data.";

const LOGGER: &str = "org.apache.kafka.tools.ReplicaVerificationTool";

const OPTIONS: Help = Help(include_str!("help/kafka-replica-verification.txt"));

/// After a round in which no broker answered.
const PAUSE: Nanos = Nanos::from_millis(50);

/// The tool at work.
#[derive(Clone)]
pub(super) struct ReplicaVerification {
    admin: Admin,
    ended: Option<i32>,
    include: String,
    fetch_size: i32,
    max_wait_ms: i32,
    time: i64,
    report_interval_ms: i64,
    last_report_ms: i64,
    topic_ids: BTreeMap<String, Uuid>,
    /// The partitions of each broker.
    brokers: BTreeMap<i32, Vec<TopicPartition>>,
    /// Up to where the replicas of each partition are known to agree.
    offsets: BTreeMap<TopicPartition, i64>,
    /// The fetches under way.
    fetching: BTreeMap<CallId, i32>,
    /// When to begin the next round, if not at once.
    again_at: Option<Instant>,
    /// What this round's fetches brought, by broker.
    seen: BTreeMap<TopicPartition, BTreeMap<i32, ReplicaSeen>>,
}

impl running::Work for ReplicaVerification {
    fn begin(
        spec: &CommandSpec,
        terminal: &mut Terminal<'_>,
        rng: &mut Rng,
    ) -> Result<ReplicaVerification, i32> {
        let time = log_time(terminal.now.wall_ms);
        let text = "This tool is deprecated and may be removed in a future major release.";
        terminal.complain(format!("[{time}] WARN {text} ({LOGGER})"));
        let begun = ReplicaVerification::set_up(spec, terminal, rng);
        begun.map_err(|stop| not_begun(stop, |exception| terminal.print_exception(exception)))
    }

    fn handle(&mut self, now: Now, input: &Input, _: &dyn Codecs, out: &mut Outputs) {
        let ran = match input {
            Input::Stop => Err(Stop::Exit(super::TERMINATED)),
            Input::Start => {
                self.drive(now, out);
                Ok(())
            }
            input => self.hear(input, &mut Terminal { now, out }),
        };
        match ran {
            Ok(()) | Err(Stop::Wait) => {}
            Err(Stop::Exit(code)) => self.ended = Some(code),
            Err(Stop::Thrown(exception)) => {
                Terminal { now, out }.print_exception(&exception);
                self.ended = Some(1);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        sooner(self.again_at, self.admin.next_deadline())
    }

    fn ended(&self) -> Option<i32> {
        self.ended
    }

    fn end(&mut self, _: Now, _: i32, out: &mut Outputs) {
        self.admin.close(out);
    }
}

impl ReplicaVerification {
    fn set_up(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Ran<ReplicaVerification> {
        let options = Options::parse(OPTIONS, spec.words.get(1..).unwrap_or_default())?;
        terminal.help_or_version(&options, OPTIONS, ABOUT)?;
        terminal.check(OPTIONS, options.missing(&["broker-list"]))?;
        let bootstrap = options.required("broker-list")?;
        terminal.check(OPTIONS, check_bootstrap(bootstrap))?;
        let mut settings = Settings::new();
        known_settings(ClientKind::Admin, &mut settings, &spec.config);
        let endpoints = bootstrap_servers(bootstrap)
            .map_err(|cause| failed_construct("Failed to create new KafkaAdminClient", cause))?;
        let config = AdminConfig::parse(&settings).map_err(Exception::from)?;
        let mut work = ReplicaVerification {
            ended: None,
            admin: Admin::new(config, "adminclient-1", endpoints, fork(rng)),
            include: options.value("topics-include")?.unwrap_or(".*").to_string(),
            fetch_size: options.number("fetch-size")?.unwrap_or(1_048_576),
            max_wait_ms: options.number("max-wait-ms")?.unwrap_or(1_000),
            time: options.number("time")?.unwrap_or(-1),
            report_interval_ms: options.number("report-interval-ms")?.unwrap_or(30_000),
            last_report_ms: terminal.now.wall_ms,
            topic_ids: BTreeMap::new(),
            brokers: BTreeMap::new(),
            offsets: BTreeMap::new(),
            fetching: BTreeMap::new(),
            again_at: None,
            seen: BTreeMap::new(),
        };
        work.admin.list_topics(terminal.now, true);
        Ok(work)
    }

    fn drive(&mut self, now: Now, out: &mut Outputs) {
        self.admin.drive(now, out);
    }

    fn hear(&mut self, input: &Input, terminal: &mut Terminal<'_>) -> Ran {
        let now = terminal.now;
        self.admin.handle(now, input, terminal.out);
        if self.again_at.is_some_and(|at| at <= now.mono) {
            self.again_at = None;
            self.fetch(now);
        }
        loop {
            while let Some((id, result)) = self.admin.take_result() {
                self.take(id, result, terminal)?;
            }
            self.admin.drive(now, terminal.out);
            // Driving the client may have ended calls whose time is over.
            let Some((id, result)) = self.admin.take_result() else { return Ok(()) };
            self.take(id, result, terminal)?;
        }
    }

    fn take(&mut self, id: CallId, result: AdminResult, terminal: &mut Terminal<'_>) -> Ran {
        let now = terminal.now;
        match result {
            AdminResult::Topics(topics) => {
                let names: Vec<String> = got(topics)?.into_iter().map(|topic| topic.name).collect();
                self.admin.describe_topics(now, &names);
            }
            AdminResult::TopicDescriptions(topics) => {
                let wrong = |_| {
                    let text = format!("{} is an invalid regex", self.include);
                    Exception::new("java.lang.RuntimeException", text)
                };
                let filter = TopicFilter::new(&self.include).map_err(wrong)?;
                for (name, topic) in topics {
                    let topic = got(topic)?;
                    if !filter.allows(&name, false) {
                        continue;
                    }
                    for partition in topic.partitions {
                        let key = TopicPartition::new(&*name, partition.partition);
                        for replica in partition.replicas {
                            self.brokers.entry(replica).or_default().push(key.clone());
                        }
                        self.offsets.insert(key, self.time);
                    }
                    self.topic_ids.insert(name, topic.id);
                }
                if self.topic_ids.is_empty() {
                    let text = "No topics found. [topics-include] if specified, is either filtering out all topics \
                                or there is no topic.";
                    terminal.log_error(text, LOGGER, None);
                    return Err(Stop::Exit(1));
                }
                self.admin.list_offsets(now, self.offsets.clone(), Isolation::ReadUncommitted);
            }
            AdminResult::Offsets(offsets) => {
                for (partition, info) in offsets {
                    let offset = info.map_err(Exception::from)?.offset;
                    if offset < 0 {
                        // There is no record that is as young as that.
                        let class = "java.lang.NullPointerException";
                        return Err(Exception { message: None, ..Exception::new(class, "") }.into());
                    }
                    self.offsets.insert(partition, offset);
                }
                self.begin(terminal);
                self.fetch(now);
            }
            AdminResult::Replicas(replicas) => {
                let broker = self.fetching.remove(&id).expect("every fetch is the tool's");
                // A broker that gave no answer gave no batches.
                for (partition, replica) in replicas.unwrap_or_default() {
                    self.seen.entry(partition).or_default().insert(broker, replica);
                }
                if self.fetching.is_empty() {
                    let nobody = self.seen.is_empty();
                    self.verify(terminal)?;
                    match nobody {
                        // No broker of them is known any more, so nothing else would let time pass.
                        true => self.again_at = Some(now.mono + PAUSE),
                        false => self.fetch(now),
                    }
                }
            }
            other => unreachable!("a call answered with {other:?}"),
        }
        Ok(())
    }

    /// The offsets are found: says so, as the consumer that Kafka's tool asks does, too.
    fn begin(&mut self, terminal: &mut Terminal<'_>) {
        let time = log_time(terminal.now.wall_ms);
        for partition in hash_order(DEFAULT_ROOM, self.offsets.keys(), |key| hash_of_partition(key)) {
            terminal.complain(format!(
                "[{time}] WARN [Consumer clientId=consumer-ReplicaVerification-1, groupId=ReplicaVerification] Not \
                 updating high watermark for partition {partition} as it is no longer assigned \
                 (org.apache.kafka.clients.consumer.internals.OffsetFetcherUtils)"
            ));
        }
        terminal.line(format!("{time}: verification process is started"));
        self.last_report_ms = terminal.now.wall_ms;
    }

    /// Begins a round.
    fn fetch(&mut self, now: Now) {
        self.seen.clear();
        for (&broker, partitions) in &self.brokers {
            let offset = |key: &TopicPartition| (key.clone(), self.offsets[key]);
            let fetch = ReplicaFetch {
                partitions: partitions.iter().map(offset).collect(),
                topic_ids: self.topic_ids.clone(),
                max_bytes: self.fetch_size,
                max_wait_ms: self.max_wait_ms,
            };
            self.fetching.insert(self.admin.fetch_replica(now, broker, fetch), broker);
        }
    }

    /// Compares what the round brought.
    fn verify(&mut self, terminal: &mut Terminal<'_>) -> Ran {
        let time = log_time(terminal.now.wall_ms);
        let mut worst: (i64, Option<TopicPartition>, i64) = (-1, None, -1);
        let partitions: Vec<TopicPartition> = self.offsets.keys().cloned().collect();
        let count = partitions.len();
        for partition in hash_order(DEFAULT_ROOM, partitions, hash_of_partition) {
            let mut replicas = self.seen.remove(&partition).unwrap_or_default();
            for (&broker, its) in &self.brokers {
                if its.contains(&partition) {
                    replicas.entry(broker).or_insert(ReplicaSeen { high_watermark: -1, batches: vec![] });
                }
            }
            let (agreed, complaints, parted) = compare(&replicas);
            let complaints =
                complaints.into_iter().map(|text| format!("{time}: partition {partition}{text}"));
            complaints.for_each(|line| terminal.line(line));
            if parted {
                return Err(Stop::Exit(1));
            }
            let offset = agreed.unwrap_or(self.offsets[&partition]);
            self.offsets.insert(partition.clone(), offset);
            let high_watermark = replicas.values().map(|replica| replica.high_watermark).max().unwrap_or(-1);
            if high_watermark - offset > worst.0 {
                worst = (high_watermark - offset, Some(partition), offset);
            }
        }
        if terminal.now.wall_ms - self.last_report_ms > self.report_interval_ms {
            let (lag, partition, offset) = worst;
            let partition = partition.map_or("null".into(), |partition| partition.to_string());
            terminal.line(format!(
                "{time}: max lag is {lag} for partition {partition} at offset {offset} among {count} partitions"
            ));
            self.last_report_ms = terminal.now.wall_ms;
        }
        Ok(())
    }
}

/// Compares the batches below the high watermark one by one: up to where all have them, what is wrong, and whether
/// offsets differ, which ends it all.
fn compare(replicas: &BTreeMap<i32, ReplicaSeen>) -> (Option<i64>, Vec<String>, bool) {
    let (mut agreed, mut complaints) = (None, Vec::new());
    for i in 0.. {
        let mut first: Option<(i32, BatchSeen)> = None;
        let mut in_all = !replicas.is_empty();
        for (&broker, replica) in replicas {
            let batch = replica.batches.get(i).filter(|batch| batch.last_offset < replica.high_watermark);
            let (Some(batch), Some((other, seen))) = (batch, first) else {
                in_all &= batch.is_some();
                first = first.or(batch.map(|batch| (broker, *batch)));
                continue;
            };
            if seen.last_offset != batch.last_offset {
                complaints.push(format!(
                    ": replica {other}'s offset {} doesn't match replica {broker}'s offset {}",
                    seen.last_offset, batch.last_offset
                ));
                return (agreed, complaints, true);
            }
            if seen.crc != batch.crc {
                complaints.push(format!(
                    " has unmatched checksum at offset {}; replica {other}'s checksum {}; replica {broker}'s checksum {}",
                    batch.last_offset, seen.crc, batch.crc
                ));
            }
        }
        match first {
            Some((_, batch)) if in_all => agreed = Some(batch.last_offset + 1),
            _ => break,
        }
    }
    (agreed, complaints, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(high_watermark: i64, batches: &[(i64, u32)]) -> ReplicaSeen {
        let batch = |&(last_offset, crc): &(i64, u32)| BatchSeen { last_offset, crc };
        ReplicaSeen { high_watermark, batches: batches.iter().map(batch).collect() }
    }

    #[test]
    fn batches_are_compared_up_to_the_high_watermark() {
        let whole = replica(10, &[(4, 1), (9, 2)]);
        let cases = [
            (whole.clone(), Some(10), vec![], false),
            (replica(5, &[(4, 1), (9, 7)]), Some(5), vec![], false),
            (replica(-1, &[]), None, vec![], false),
            (
                replica(10, &[(4, 1), (9, 3)]),
                Some(10),
                vec![" has unmatched checksum at offset 9; replica 1's checksum 2; replica 2's checksum 3"],
                false,
            ),
            (
                replica(10, &[(3, 1)]),
                None,
                vec![": replica 1's offset 4 doesn't match replica 2's offset 3"],
                true,
            ),
        ];
        for (other, agreed, complaints, parted) in cases {
            let told = format!("{other:?}");
            let complaints = complaints.into_iter().map(String::from).collect();
            let replicas = BTreeMap::from([(1, whole.clone()), (2, other)]);
            assert_eq!(compare(&replicas), (agreed, complaints, parted), "{told}");
        }
    }
}

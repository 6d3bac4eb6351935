//! What the clients have processed, record by record of virtual time, and what of it is a group's.
//!
//! A record counts once its processing has ended: record `i` of a poll at `processing_from + (i + 1) · per_record`, if its
//! process lived until then. What a killed consumer had polled and not processed does not count, whatever it had
//! committed: by `processed`, `reprocessed` and `missed` at-most-once and at-least-once can be told apart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use broker_core::coordinator::{GROUP_TOPIC, TRANSACTION_TOPIC, partition_for};
use client::{Polled, TopicPartition};

use crate::checkers::history::PartitionIndex;
use crate::scenario::{ClientKind, Scenario};

/// Records of one poll and one partition that are being processed.
#[derive(Clone, Debug)]
struct Run {
    at: PartitionIndex,
    offsets: Vec<i64>,
    /// How many of them are done.
    done: usize,
    /// When the first was begun, and how long each takes, in nanoseconds.
    from: u64,
    per_record: u64,
}

impl Run {
    /// When the next record is done.
    fn next(&self) -> u64 {
        self.from.saturating_add(self.per_record.saturating_mul(self.done as u64 + 1))
    }
}

/// What one group has processed.
#[derive(Clone, Debug, Default)]
pub struct Processed {
    /// How many records, each time counted.
    pub records: u64,
    /// How many of them were processed before.
    pub again: u64,
    seen: BTreeMap<PartitionIndex, Vec<u64>>,
}

impl Processed {
    fn add(&mut self, at: PartitionIndex, offset: i64) {
        self.records += 1;
        let Ok(offset) = usize::try_from(offset) else { return };
        let bits = self.seen.entry(at).or_default();
        let (word, bit) = (offset / 64, 1u64 << (offset % 64));
        if word >= bits.len() {
            bits.resize(word + 1, 0);
        }
        self.again += u64::from(bits[word] & bit != 0);
        bits[word] |= bit;
    }

    /// How many offsets of a partition below `end` nobody processed.
    pub fn missed(&self, at: Option<PartitionIndex>, end: i64) -> u64 {
        let end = u64::try_from(end).unwrap_or(0);
        let Some(bits) = at.and_then(|at| self.seen.get(&at)) else { return end };
        let (words, rest) = ((end / 64) as usize, end % 64);
        let whole: u64 = bits.iter().take(words).map(|word| u64::from(word.count_ones())).sum();
        let part = bits.get(words).map_or(0, |word| u64::from((word & ((1 << rest) - 1)).count_ones()));
        end - whole - part
    }
}

/// What one process has begun, and for which group.
#[derive(Clone, Debug, Default)]
struct Worker {
    group: Option<String>,
    runs: VecDeque<Run>,
}

/// Who processes what.
#[derive(Clone, Debug, Default)]
pub struct Processing {
    /// By the process's place among the clients.
    workers: BTreeMap<usize, Worker>,
    groups: BTreeMap<String, Processed>,
    /// Nothing is done before.
    due: Option<u64>,
}

impl Processing {
    /// A process works for a group, or for itself.
    pub fn worker(&mut self, place: usize, group: Option<&str>) {
        self.workers.entry(place).or_default().group = group.map(str::to_owned);
    }

    /// What a group has processed.
    pub fn of_group(&self, group: &str) -> Option<&Processed> {
        self.groups.get(group)
    }

    /// A process begins with what it polled.
    pub fn begin(&mut self, place: usize, at: PartitionIndex, polled: &Polled) {
        let run = Run {
            at,
            offsets: polled.records.iter().map(|record| record.offset).collect(),
            done: 0,
            from: polled.processing_from.0,
            per_record: polled.per_record.0,
        };
        self.due = Some(self.due.map_or(run.next(), |due| due.min(run.next())));
        self.workers.entry(place).or_default().runs.push_back(run);
    }

    /// Time is `now`: what is done counts; tells how many records each process has done since.
    pub fn pass_to(&mut self, now: u64, mut done: impl FnMut(usize, u64)) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        for (place, worker) in &mut self.workers {
            let mut processed = match &worker.group {
                Some(name) if !worker.runs.is_empty() => Some(self.groups.entry(name.clone()).or_default()),
                _ => None,
            };
            let mut counted = 0;
            while let Some(run) = worker.runs.front_mut() {
                while run.done < run.offsets.len() && run.next() <= now {
                    if let Some(processed) = &mut processed {
                        processed.add(run.at, run.offsets[run.done]);
                    }
                    run.done += 1;
                    counted += 1;
                }
                if run.done < run.offsets.len() {
                    let next = run.next();
                    self.due = Some(self.due.map_or(next, |due| due.min(next)));
                    break;
                }
                worker.runs.pop_front();
            }
            if counted > 0 {
                done(*place, counted);
            }
        }
    }

    /// A process is gone, and what it had begun with it.
    pub fn gone(&mut self, place: usize) {
        if let Some(worker) = self.workers.get_mut(&place) {
            worker.runs.clear();
        }
    }
}

/// The groups and transactional ids of a scenario, each of which has a coordinator.
#[derive(Clone, Debug, Default)]
pub struct Coordinated {
    groups: BTreeSet<String>,
    transactional_ids: BTreeSet<String>,
}

impl Coordinated {
    /// Of a scenario's clients.
    pub fn of(scenario: &Scenario) -> Coordinated {
        let mut all = Coordinated::default();
        for client in &scenario.clients {
            match &client.kind {
                ClientKind::Consumer { group: Some(group), .. } | ClientKind::Transactional { group, .. } => {
                    all.groups.insert(group.clone());
                }
                _ => {}
            }
            all.transactional_ids.extend(client.config.get("transactional.id").cloned());
        }
        all
    }

    /// What the leader of a partition of a coordinators' topic, which has `count` of them, is the coordinator of.
    pub fn by(&self, partition: &TopicPartition, count: i32) -> Vec<String> {
        let (what, ids) = match &*partition.topic {
            GROUP_TOPIC => ("group", &self.groups),
            TRANSACTION_TOPIC => ("transactional id", &self.transactional_ids),
            _ => return Vec::new(),
        };
        let here = |id: &&String| count > 0 && partition_for(id, count) == partition.partition;
        ids.iter().filter(here).map(|id| format!("is the coordinator of {what} {id}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::history::History;

    fn polled(from_ms: u64, per_record_ms: u64, offsets: std::ops::Range<i64>) -> Polled {
        let message = client::MessageId { client: client::MessageId::FOREIGN, number: 0 };
        Polled {
            partition: client::TopicPartition::new("t", 0),
            poll: 1,
            records: offsets.map(|offset| client::PolledRecord { offset, message }).collect(),
            foreign: Vec::new(),
            processing_from: wire::drive::Instant(from_ms * 1_000_000),
            per_record: wire::drive::Nanos::from_millis(per_record_ms),
        }
    }

    fn count(processing: &mut Processing, ms: u64) -> u64 {
        let mut counted = 0;
        processing.pass_to(ms * 1_000_000, |_, n| counted += n);
        counted
    }

    #[test]
    fn a_record_counts_when_it_is_done_and_its_process_lives() {
        let at = History::default().partition("t", 0);
        let mut processing = Processing::default();
        processing.worker(0, Some("billing"));
        processing.begin(0, at, &polled(1_000, 20, 0..100));
        assert_eq!(count(&mut processing, 1_019), 0);
        assert_eq!(count(&mut processing, 1_020), 1);
        assert_eq!(count(&mut processing, 1_999), 48);
        processing.gone(0);
        assert_eq!(count(&mut processing, 9_000), 0);
        let group = processing.of_group("billing").unwrap();
        assert_eq!((group.records, group.again), (49, 0));
        assert_eq!(group.missed(Some(at), 100), 51);
    }

    #[test]
    fn what_is_processed_again_is_told_apart() {
        let at = History::default().partition("t", 0);
        let mut processing = Processing::default();
        processing.worker(0, Some("billing"));
        processing.worker(1, Some("billing"));
        processing.begin(0, at, &polled(0, 0, 0..70));
        processing.begin(1, at, &polled(0, 0, 64..130));
        assert_eq!(count(&mut processing, 0), 136);
        let group = processing.of_group("billing").unwrap();
        assert_eq!((group.records, group.again), (136, 6));
        assert_eq!(group.missed(Some(at), 130), 0);
        assert_eq!(group.missed(Some(at), 140), 10);
        assert_eq!(group.missed(None, 7), 7);
    }

    #[test]
    fn whose_coordinator_leads_a_partition() {
        let all = Coordinated {
            groups: ["billing".to_owned(), "shipping".to_owned()].into(),
            transactional_ids: ["billing".to_owned()].into(),
        };
        let at = |topic: &str, partition| all.by(&TopicPartition::new(topic, partition), 50);
        let of_billing = partition_for("billing", 50);
        assert_ne!(of_billing, partition_for("shipping", 50));
        assert_eq!(at(GROUP_TOPIC, of_billing), ["is the coordinator of group billing"]);
        assert_eq!(at(TRANSACTION_TOPIC, of_billing), ["is the coordinator of transactional id billing"]);
        assert_eq!(at(TRANSACTION_TOPIC, partition_for("shipping", 50)), [""; 0]);
        assert_eq!(at("purchases", of_billing), [""; 0]);
        assert_eq!(all.by(&TopicPartition::new(GROUP_TOPIC, 0), 0), [""; 0]);
    }
}

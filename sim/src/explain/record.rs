//! What a second run of the same seed keeps: of all that happened, what concerns the findings of the first.
//!
//! A run is deterministic, so nothing has to be kept while it is not known what will be asked: the first run pays
//! nothing, and the second keeps little, since it knows where to look.

use std::sync::Arc;

use broker_core::event::{BatchMark, ChangeReason, Event, PartitionState};
use client::ClientEvent;

use crate::checkers::Subject;
use crate::world::{ProcEvent, SimTime, What};

/// What a recording looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Of which partition, or the quorum.
    pub subject: Subject,
    /// An offset in its log.
    pub offset: Option<i64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// When.
    pub at: SimTime,
    /// A node or a client, by name.
    pub who: Arc<str>,
    /// The node's id.
    pub node: Option<i32>,
    /// What.
    pub what: Told,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A batch with the offset was appended.
    Appended {
        /// As leader, else as follower.
        as_leader: bool,
        /// The batch.
        mark: BatchMark,
    },
    /// A leader's high watermark passed the offset.
    Passed {
        /// Before.
        from: i64,
        /// After.
        to: i64,
    },
    /// A broker leads.
    Leads {
        /// The leader epoch.
        epoch: i32,
        /// Its log end offset.
        start: i64,
    },
    /// A log was cut below the offset.
    Cut {
        /// The log end offset before.
        from: i64,
        /// After.
        to: i64,
    },
    /// A log was opened.
    Opened {
        /// Its log end offset.
        end: i64,
    },
    /// A log start offset passed the offset.
    Deleted {
        /// The log start offset.
        to: i64,
    },
    /// The controller committed a state.
    State {
        /// It.
        after: PartitionState,
        /// Why.
        reason: ChangeReason,
    },
    /// A batch with the offset was acknowledged.
    Acked {
        /// The message at the offset.
        number: u64,
    },
    /// A batch was sent again.
    Retried {
        /// After this error.
        error: &'static str,
        /// Its messages.
        numbers: (u64, u64),
    },
    /// A poll returned the record at the offset.
    Read,
    /// Something happened to a node's process.
    Proc(ProcEvent),
    /// Something happened to a node's disk.
    Disk(String),
    /// A node won an election of the quorum.
    Won {
        /// The epoch.
        epoch: i32,
        /// The end of its log.
        start: i64,
    },
    /// A node gave its vote.
    Voted {
        /// The epoch.
        epoch: i32,
        /// To whom.
        candidate: i32,
    },
    /// A group's coordinator committed its offset of the partition.
    Committed {
        /// The group.
        group: Arc<str>,
        /// The offset.
        offset: i64,
    },
}

/// The recording of what concerns one finding.
#[derive(Clone, Debug)]
pub struct Recording {
    watch: Watch,
    /// In the order in which it happened.
    pub facts: Vec<Fact>,
}

/// More than a story has use for: the first so many are kept.
const KEPT: usize = 10_000;

impl Recording {
    /// An empty one.
    pub fn of(watch: Watch) -> Recording {
        Recording { watch, facts: Vec::new() }
    }

    /// Keeps what is to be kept of what happened.
    pub fn hear(&mut self, at: SimTime, who: &Arc<str>, node: Option<i32>, what: &What) {
        if self.facts.len() >= KEPT {
            return;
        }
        let mut keep = |what| self.facts.push(Fact { at, who: who.clone(), node, what });
        match what {
            What::Node(event) => {
                if let Some(told) = of_node(&self.watch, event) {
                    keep(told);
                }
            }
            What::Client(event) => {
                if let Some(told) = of_client(&self.watch, event) {
                    keep(told);
                }
            }
            What::Proc(event) if node.is_some() => keep(Told::Proc(event.clone())),
            What::Disk(text) | What::BitFlipped(text) if node.is_some() => keep(Told::Disk(text.clone())),
            _ => {}
        }
    }
}

impl Watch {
    fn is(&self, topic: &str, partition: i32) -> bool {
        matches!(&self.subject, Subject::Partition(t, p) if t == topic && *p == partition)
    }

    fn holds(&self, from: i64, to: i64) -> bool {
        self.offset.is_some_and(|offset| (from..to).contains(&offset))
    }
}

fn of_node(watch: &Watch, event: &Event) -> Option<Told> {
    let at = |p: &broker_core::event::TopicPartition| watch.is(&p.topic, p.partition);
    match event {
        Event::RecordsAppended { partition, batches, as_leader, .. } if at(partition) => {
            let mark = *batches.iter().find(|mark| watch.holds(mark.base_offset, mark.last_offset + 1))?;
            Some(Told::Appended { as_leader: *as_leader, mark })
        }
        Event::HighWatermarkAdvanced { partition, from, to, as_leader: true } if at(partition) => {
            watch.holds(*from, *to).then_some(Told::Passed { from: *from, to: *to })
        }
        Event::BecameLeader { partition, epoch, start_offset, .. } if at(partition) => {
            Some(Told::Leads { epoch: *epoch, start: *start_offset })
        }
        Event::LogTruncated { partition, from, to, .. } if at(partition) => {
            watch.holds(*to, *from).then_some(Told::Cut { from: *from, to: *to })
        }
        Event::LogOpened { partition, log_end_offset, .. } if at(partition) => {
            Some(Told::Opened { end: *log_end_offset })
        }
        Event::LogStartOffsetAdvanced { partition, from, to } if at(partition) => {
            watch.holds(*from, *to).then_some(Told::Deleted { to: *to })
        }
        Event::PartitionChanged { partition, after, reason, .. } if at(partition) => {
            Some(Told::State { after: after.clone(), reason: *reason })
        }
        Event::OffsetsCommitted { group, offsets } => {
            let (_, offset) = offsets.iter().find(|(partition, _)| at(partition))?;
            Some(Told::Committed { group: group.clone(), offset: *offset })
        }
        Event::ElectionWon { epoch, start_offset, .. } if watch.subject == Subject::Quorum => {
            Some(Told::Won { epoch: *epoch, start: *start_offset })
        }
        Event::VoteGranted { epoch, candidate, pre_vote: false } if watch.subject == Subject::Quorum => {
            Some(Told::Voted { epoch: *epoch, candidate: *candidate })
        }
        Event::MetadataTruncated { from, to } if watch.subject == Subject::Quorum => {
            Some(Told::Cut { from: *from, to: *to })
        }
        _ => None,
    }
}

fn of_client(watch: &Watch, event: &ClientEvent) -> Option<Told> {
    match event {
        ClientEvent::BatchAcked { partition, base_offset, records }
            if watch.is(&partition.topic, partition.partition)
                && watch.holds(*base_offset, base_offset + records.len() as i64) =>
        {
            let at = (watch.offset? - base_offset) as usize;
            Some(Told::Acked { number: records[at].number })
        }
        ClientEvent::BatchRetried { partition, error, records }
            if watch.is(&partition.topic, partition.partition) =>
        {
            let numbers = (records.first()?.number, records.last()?.number);
            Some(Told::Retried { error, numbers })
        }
        ClientEvent::Polled(polled) if watch.is(&polled.partition.topic, polled.partition.partition) => {
            let (first, last) = (polled.records.first()?.offset, polled.records.last()?.offset);
            watch.holds(first, last + 1).then_some(Told::Read)
        }
        _ => None,
    }
}

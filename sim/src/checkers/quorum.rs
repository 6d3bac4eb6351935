//! Invariants of the metadata quorum: elections, and the log that all nodes share.
//!
//! - `ElectionSafety`: at most one leader in an epoch (Raft, figure 3).
//! - `MetadataLogMatching`: two batches with the same offset and epoch are the same batch, on all nodes.
//! - `CommittedMetadataNeverLost`: a new leader has everything that was committed before it.

use std::collections::BTreeMap;

use broker_core::event::{BatchMark, Event};

use super::{Breach, Subject};

#[derive(Clone, Debug, Default)]
struct Log {
    end: i64,
    epochs: Vec<(i32, i64)>,
}

/// The invariants of the quorum.
#[derive(Clone, Debug, Default)]
pub struct Quorum {
    leaders: BTreeMap<i32, i32>,
    logs: BTreeMap<i32, Log>,
    batches: BTreeMap<(i64, i32), (BatchMark, i32)>,
    committed: i64,
    committed_epoch: i32,
    breaches: Vec<Breach>,
}

/// So many batches below the committed end are remembered: a node that is further behind loads a snapshot.
const REMEMBERED: usize = 1 << 16;

impl Quorum {
    /// Hears what a node said.
    pub fn hear(&mut self, node: i32, event: &Event) {
        match event {
            Event::MetadataAppended { batches } => batches.iter().for_each(|mark| self.appended(node, mark)),
            Event::MetadataTruncated { to, .. } => {
                let log = self.logs.entry(node).or_default();
                log.epochs.retain(|(_, start)| start < to);
                log.end = *to;
            }
            Event::SnapshotLoaded { end_offset, epoch } => {
                self.logs.insert(node, Log { end: *end_offset, epochs: vec![(*epoch, end_offset - 1)] });
            }
            Event::ElectionWon { epoch, start_offset, .. } => self.won(node, *epoch, *start_offset),
            Event::MetadataCommitted { high_watermark } => self.committed(node, *high_watermark),
            _ => {}
        }
    }

    /// What was broken since the last call.
    pub fn take(&mut self) -> Vec<Breach> {
        std::mem::take(&mut self.breaches)
    }

    fn breach(&mut self, name: &'static str, text: String) {
        self.breaches.push(Breach { name, subject: Subject::Quorum, text });
    }

    fn appended(&mut self, node: i32, mark: &BatchMark) {
        let log = self.logs.entry(node).or_default();
        if log.epochs.last().is_none_or(|(epoch, _)| *epoch < mark.epoch) {
            log.epochs.push((mark.epoch, mark.base_offset));
        }
        log.end = mark.last_offset + 1;
        match self.batches.get(&(mark.base_offset, mark.epoch)).copied() {
            Some((known, other)) if known != *mark => self.breach(
                "MetadataLogMatching",
                format!(
                    "Offset {} of epoch {} is one batch on node {other} (last offset {}, CRC {:08x}) and another on node {node} (last offset {}, CRC {:08x}).",
                    mark.base_offset, mark.epoch, known.last_offset, known.crc, mark.last_offset, mark.crc
                ),
            ),
            Some(_) => {}
            None => {
                self.batches.insert((mark.base_offset, mark.epoch), (*mark, node));
                if self.batches.len() > REMEMBERED {
                    self.batches.pop_first();
                }
            }
        }
    }

    fn won(&mut self, node: i32, epoch: i32, start: i64) {
        match self.leaders.insert(epoch, node) {
            Some(other) if other != node => self.breach(
                "ElectionSafety",
                format!("Both node {other} and node {node} won the election of epoch {epoch}."),
            ),
            _ => {}
        }
        if start < self.committed {
            let text = format!(
                "Node {node} won epoch {epoch} with a log that ends at {start}. Metadata below {} was committed before.",
                self.committed
            );
            self.breach("CommittedMetadataNeverLost", text);
            self.committed = start;
        }
    }

    fn committed(&mut self, node: i32, high_watermark: i64) {
        // Only a leader of the newest epoch moves what is committed; others hear of it later.
        let newest = self.leaders.last_key_value();
        if newest.is_some_and(|(epoch, leader)| *leader == node && *epoch >= self.committed_epoch)
            && high_watermark > self.committed
        {
            self.committed = high_watermark;
            self.committed_epoch = *newest.expect("just seen").0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn won(epoch: i32, start_offset: i64) -> Event {
        Event::ElectionWon { epoch, granting: vec![], start_offset }
    }

    fn append(base: i64, epoch: i32, crc: u32) -> Event {
        let mark = BatchMark { base_offset: base, last_offset: base, epoch, size: 80, crc };
        Event::MetadataAppended { batches: [mark].into_iter().collect() }
    }

    fn broken(events: &[(i32, Event)]) -> Vec<&'static str> {
        let mut quorum = Quorum::default();
        for (node, event) in events {
            quorum.hear(*node, event);
        }
        quorum.take().iter().map(|b| b.name).collect()
    }

    #[test]
    fn elections_and_logs_that_agree() {
        let committed = Event::MetadataCommitted { high_watermark: 2 };
        let story = [
            (1, won(1, 0)),
            (1, append(0, 1, 5)),
            (2, append(0, 1, 5)),
            (1, append(1, 1, 6)),
            (2, append(1, 1, 6)),
            (1, committed),
            (2, won(2, 2)),
        ];
        assert_eq!(broken(&story), [""; 0]);
    }

    #[test]
    fn two_winners_of_an_epoch() {
        assert_eq!(broken(&[(1, won(1, 0)), (2, won(1, 0))]), ["ElectionSafety"]);
    }

    #[test]
    fn two_batches_at_one_place() {
        assert_eq!(broken(&[(1, append(0, 1, 5)), (2, append(0, 1, 6))]), ["MetadataLogMatching"]);
    }

    #[test]
    fn a_winner_that_lacks_committed_metadata() {
        let committed = Event::MetadataCommitted { high_watermark: 5 };
        assert_eq!(broken(&[(1, won(1, 0)), (1, committed), (2, won(2, 4))]), ["CommittedMetadataNeverLost"]);
    }
}

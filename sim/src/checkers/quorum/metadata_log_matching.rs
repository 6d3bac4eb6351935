//! `MetadataLogMatching`: two batches of the metadata log with the same offset and epoch are the same batch, on all nodes.
//!
//! Raft's Log Matching; `NoLogDivergence` of Vanlightly/kafka-tlaplus (kraft/kip_996/kraft_kip_996_properties.tla) and
//! `MetadataLogMatchingProperty` of its kraft/kip-966/kip_966_properties.tla.

use std::collections::BTreeMap;

use broker_core::event::BatchMark;

/// The invariant's name.
pub const NAME: &str = "MetadataLogMatching";

/// So many batches are remembered: a node that is further behind loads a snapshot.
const REMEMBERED: usize = 1 << 16;

/// By base offset and epoch: a batch, and the node that had it first.
#[derive(Clone, Debug, Default)]
pub struct Batches(BTreeMap<(i64, i32), (BatchMark, i32)>);

impl Batches {
    /// A node appended a batch.
    pub fn appended(&mut self, node: i32, mark: &BatchMark) -> Option<String> {
        let place = (mark.base_offset, mark.epoch);
        if let Some((known, other)) = self.0.get(&place) {
            return (known != mark).then(|| {
                format!(
                    "Offset {} of epoch {} is one batch on node {other} (last offset {}, CRC {:08x}) and another on node {node} (last offset {}, CRC {:08x}).",
                    mark.base_offset, mark.epoch, known.last_offset, known.crc, mark.last_offset, mark.crc
                )
            });
        }
        self.0.insert(place, (*mark, node));
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    #[test]
    fn fires_on_two_batches_at_one_place() {
        assert_eq!(broken(&[(1, append(0, 1, 5)), (2, append(0, 1, 6))]), ["MetadataLogMatching"]);
    }

    #[test]
    fn is_silent_on_logs_that_agree_or_differ_by_epoch() {
        assert_eq!(
            broken(&[(1, append(0, 1, 5)), (2, append(0, 1, 5)), (2, append(1, 2, 6)), (1, append(1, 1, 7))]),
            [""; 0]
        );
    }
}

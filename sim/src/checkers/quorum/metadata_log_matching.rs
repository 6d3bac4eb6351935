//! `MetadataLogMatching`: two batches of the metadata log with the same offset and epoch are the same batch, on all nodes.
//!
//! Raft's Log Matching; `NoLogDivergence` of Vanlightly/kafka-tlaplus (kraft/kip_996/kraft_kip_996_properties.tla) and
//! `MetadataLogMatchingProperty` of its kraft/kip-966/kip_966_properties.tla.

use broker_core::event::BatchMark;

use crate::checkers::replicas::state;

/// The invariant's name.
pub const NAME: &str = "MetadataLogMatching";

/// So many batches are remembered: a node that is further behind loads a snapshot.
const REMEMBERED: usize = 1 << 16;

/// The batches that any node appended, and the node that had each first.
#[derive(Clone, Debug, Default)]
pub struct Batches(state::Batches);

impl Batches {
    /// A node appended a batch.
    pub fn appended(&mut self, node: i32, mark: &BatchMark) -> Option<String> {
        let Some(known) = self.0.note(mark, node) else {
            self.0.keep(REMEMBERED);
            return None;
        };
        (!known.is(mark)).then(|| {
            format!(
                "Offset {} of epoch {} is one batch on node {} (last offset {}, CRC {:08x}) and another on node {node} (last offset {}, CRC {:08x}).",
                mark.base_offset, mark.epoch, known.node, known.last_offset, known.crc, mark.last_offset, mark.crc
            )
        })
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

//! `CommittedMetadataNeverLost`: a new leader of the quorum has everything that was committed before it, and nobody cuts
//! off what it knows to be committed.
//!
//! `LeaderHasAllAckedValues` and `AckedValueNotLost` of Vanlightly/kafka-tlaplus
//! (kraft/kip_996/kraft_kip_996_properties.tla). KafkaRaftClient takes the second for fatal, too.

use std::collections::BTreeMap;

/// The invariant's name.
pub const NAME: &str = "CommittedMetadataNeverLost";

/// How far the metadata log is committed.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    end: i64,
    epoch: i32,
    /// By node: what it knows of it.
    known: BTreeMap<i32, i64>,
}

impl Committed {
    /// A node won an election with a log that ends at `start`.
    pub fn won(&mut self, node: i32, epoch: i32, start: i64) -> Option<String> {
        if start >= self.end {
            return None;
        }
        let committed = std::mem::replace(&mut self.end, start);
        Some(format!(
            "Node {node} won epoch {epoch} with a log that ends at {start}. Metadata below {committed} was committed before."
        ))
    }

    /// A node's high watermark moved on; `newest` is the newest epoch with its leader.
    pub fn advanced(&mut self, node: i32, high_watermark: i64, newest: Option<(i32, i32)>) {
        self.known.insert(node, high_watermark);
        // Only a leader of the newest epoch moves what is committed; others hear of it later.
        if let Some((epoch, leader)) = newest
            && leader == node
            && epoch >= self.epoch
            && high_watermark > self.end
        {
            (self.end, self.epoch) = (high_watermark, epoch);
        }
    }

    /// A node cut its log.
    pub fn truncated(&mut self, node: i32, to: i64) -> Option<String> {
        let known = self.known.get_mut(&node).filter(|known| to < **known)?;
        let before = std::mem::replace(known, to);
        Some(format!("Node {node} cut its log to {to}. It knew that metadata below {before} is committed."))
    }

    /// A node's disk is an empty one.
    pub fn forget(&mut self, node: i32) {
        self.known.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::*;
    use broker_core::event::Event;

    #[test]
    fn fires_on_a_winner_that_lacks_committed_metadata() {
        assert_eq!(
            broken(&[(1, won(1, 0)), (1, committed(5)), (2, won(2, 4))]),
            ["CommittedMetadataNeverLost"]
        );
    }

    #[test]
    fn fires_on_a_node_that_cuts_what_it_knows_to_be_committed() {
        let cut = |to| Event::MetadataTruncated { from: 9, to };
        assert_eq!(broken(&[(2, committed(5)), (2, cut(4))]), ["CommittedMetadataNeverLost"]);
        assert_eq!(broken(&[(2, committed(5)), (2, cut(5))]), [""; 0]);
    }

    #[test]
    fn is_silent_on_a_winner_that_has_all() {
        let story =
            [(1, won(1, 0)), (1, append(0, 1, 5)), (2, append(0, 1, 5)), (1, committed(1)), (2, won(2, 1))];
        assert_eq!(broken(&story), [""; 0]);
    }
}

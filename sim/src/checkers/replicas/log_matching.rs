//! `LogMatching`: two batches with the same offset and leader epoch are the same batch, on all replicas.
//!
//! `LogMatchingProperty` of Vanlightly/kafka-tlaplus (kraft/kip-966/kip_966_properties.tla) compares what lies below both
//! high watermarks; here as in Raft (figure 3) what lies in the logs at all, since KIP-101 gives each record its epoch.
//! Where a log was compacted, a follower that begins anew gets batches with fewer records: these are not compared.

use broker_core::event::BatchMark;

use super::state::Partition;

/// The invariant's name.
pub const NAME: &str = "LogMatching";

/// A broker appended a batch.
pub fn appended(partition: &mut Partition, node: i32, mark: &BatchMark) -> Option<String> {
    let known = partition.batches.note(mark, node).filter(|known| !known.is(mark))?;
    if mark.base_offset < partition.cleaned && mark.last_offset == known.last_offset {
        return None;
    }
    Some(format!(
        "Offset {} of leader epoch {} is one batch on broker-{} (last offset {}, {} bytes, CRC {:08x}) and another on broker-{node} (last offset {}, {} bytes, CRC {:08x}).",
        mark.base_offset,
        mark.epoch,
        known.node,
        known.last_offset,
        known.size,
        known.crc,
        mark.last_offset,
        mark.size,
        mark.crc
    ))
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    #[test]
    fn fires_on_different_batches_at_one_place() {
        assert_eq!(after(vec![(1, append(10, 12, 0, 8)), (2, append(10, 12, 0, 9))]), ["LogMatching"]);
    }

    #[test]
    fn is_silent_where_an_epoch_tells_them_apart() {
        assert_eq!(
            after(vec![(1, append(10, 12, 0, 8)), (2, lead(1, 10, 10)), (2, append(10, 12, 1, 9))]),
            [""; 0]
        );
    }

    #[test]
    fn a_compacted_log_is_copied_with_fewer_records() {
        let story = |cleaned, last| compacted(cleaned, last);
        assert_eq!(after(story(true, 19)), [""; 0]);
        assert_eq!(after(story(true, 18)), ["LogMatching"]);
        assert!(after(story(false, 19)).contains(&"LogMatching"));
    }
}
